//! redb: a transaction for each record, under keys that rise.
//!
//! `WriteTransaction::commit` with `Durability::Immediate`: "guaranteed to be persistent as soon as
//! `WriteTransaction::commit` returns" (https://docs.rs/redb/4.6.0/redb/enum.Durability.html; by `File::sync_data`).
//! There is one writer at a time, so threads share no sync.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Each, Engine, Peer};
use crate::Result;

pub const PEER: Peer = Peer { name: "redb", package: "redb", open, read_back };

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");

struct Redb {
    database: Database,
    next: AtomicU64,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let database = Database::create(dir.join("redb"))?;
    Ok(Box::new(Redb { database, next: AtomicU64::new(0) }))
}

fn read_back(dir: &Path, each: Each<'_>) -> Result<()> {
    let database = Database::open(dir.join("redb"))?;
    for record in database.begin_read()?.open_table(RECORDS)?.iter()? {
        each(record?.1.value());
    }
    Ok(())
}

impl Engine for Redb {
    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        transaction.open_table(RECORDS)?.insert(key, payload)?;
        transaction.commit()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
