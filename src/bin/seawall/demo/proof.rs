//! What a reader finds in the log, held against what was produced.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use seawall::receiver::{BlockRecord, Entry};
use seawall::{ErrorKind, Lsn, Options};

use super::cluster::{Order, PARTITIONS, order};

/// Everything read so far. Each record was as produced, and in no place twice.
#[derive(Default)]
pub struct Proof {
    read_to: Option<Lsn>,
    // The next offset of each partition: records come without a gap.
    next: BTreeMap<i32, i64>,
}

impl Proof {
    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.next.values().map(|next| next.unsigned_abs()).sum()
    }

    /// Reads what is durable now and was not read yet.
    pub fn read(&mut self, dir: &Path) -> anyhow::Result<()> {
        let log = match Options::new().open_read_only(dir) {
            Err(e) if *e.kind() == ErrorKind::NotFound => return Ok(()),
            log => log?,
        };
        let from = self.read_to.map_or(Bound::Unbounded, Bound::Excluded);
        for record in log.read((from, Bound::Unbounded))? {
            let record = record?;
            if let Entry::Block(block) = Entry::decode(&record.payload)? {
                for message in block.records() {
                    let message = message?;
                    let range = block.ranges().get(message.range).context("a record without a range")?;
                    self.take(range.partition.number, &message)?;
                }
            }
            self.read_to = Some(record.lsn);
        }
        Ok(())
    }

    fn take(&mut self, partition: i32, found: &BlockRecord<'_>) -> anyhow::Result<()> {
        let next = self.next.entry(partition).or_default();
        if found.offset < *next {
            bail!("partition {partition} offset {} is in the log twice", found.offset);
        }
        ensure!(found.offset == *next, "partition {partition} offset {next} is missing from the log");
        let headers = found.headers.iter();
        let header = |(name, value): &(&[u8], Option<&[u8]>)| {
            (String::from_utf8_lossy(name).into_owned(), value.map(<[u8]>::to_vec))
        };
        let found = Order {
            key: found.key.map(<[u8]>::to_vec),
            value: found.value.map(<[u8]>::to_vec),
            headers: headers.map(header).collect(),
        };
        ensure!(found == order(partition, *next), "partition {partition} offset {next} is not as it was produced");
        *next += 1;
        Ok(())
    }

    /// Whether all records are there.
    pub fn check(&self, records: u64) -> anyhow::Result<()> {
        ensure!(self.next.len() == usize::try_from(PARTITIONS)?, "a partition is missing from the log");
        ensure!(self.records() == records, "{} of {records} records are in the log", self.records());
        Ok(())
    }
}
