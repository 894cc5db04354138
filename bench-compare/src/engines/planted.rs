//! Engines with a fault, to see that it is found: they are run only where they are named.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use parking_lot::Mutex;

use super::{Each, Engine, Peer, floor};
use crate::Result;

/// Says that a record is durable once the system has it.
pub const UNSYNCED: Peer =
    Peer { name: "planted-unsynced", package: "", open: open_unsynced, read_back: floor::read_back };

/// Loses the first record.
pub const FORGETFUL: Peer =
    Peer { name: "planted-forgetful", package: "", open: floor::PEER.open, read_back: read_all_but_one };

struct Unsynced(Mutex<File>);

fn open_unsynced(dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Unsynced(Mutex::new(File::create_new(dir.join("log"))?))))
}

fn read_all_but_one(dir: &Path, each: Each<'_>) -> Result<()> {
    let mut first = true;
    floor::read_back(dir, &mut |payload| {
        if !std::mem::take(&mut first) {
            each(payload)
        }
    })
}

impl Engine for Unsynced {
    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut record = Vec::with_capacity(payload.len() + 8);
        floor::put(&mut record, payload);
        Ok(self.0.lock().write_all(&record)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
