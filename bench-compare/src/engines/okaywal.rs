//! okaywal, with a segment that is never checkpointed.
//!
//! `EntryWriter::commit`: "before control returns from committing an entry, the file is `fsync`ed. `fsync` operations
//! are batched" (https://docs.rs/okaywal/0.3.1/okaywal/, "How OkayWAL works"; by `File::sync_data`).
//!
//! A checkpoint gives a segment's records up, and here they are to be read back. So there is none, and the file is as
//! large from the start as a run of some seconds takes: okaywal writes the zeros when it makes the file.

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use okaywal::{Configuration, Entry, EntryId, LogManager, LogVoid, SegmentReader, WriteAheadLog};

use super::{Each, Engine, Peer};
use crate::Result;

pub const PEER: Peer = Peer { name: "okaywal", package: "okaywal", open, read_back };

const FILE: u32 = 512 << 20;

struct Okay(WriteAheadLog);

fn configuration(dir: &Path) -> Configuration {
    Configuration::default_for(dir).preallocate_bytes(FILE).checkpoint_after_bytes(u64::MAX)
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Okay(configuration(dir).open(LogVoid)?)))
}

/// Hands on what recovery shows it.
#[derive(Debug)]
struct Recovered(SyncSender<Vec<u8>>);

impl LogManager for Recovered {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        for chunk in entry.read_all_chunks()?.into_iter().flatten() {
            self.0.send(chunk).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

fn read_back(dir: &Path, each: Each<'_>) -> Result<()> {
    let (sender, receiver) = sync_channel(1024);
    std::thread::scope(|scope| {
        let recovery = scope.spawn(|| configuration(dir).open(Recovered(sender))?.shutdown());
        receiver.iter().for_each(|payload| each(&payload));
        Ok(recovery.join().map_err(|_| "recovery panicked")??)
    })
}

impl Engine for Okay {
    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(payload)?;
        entry.commit()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.shutdown()?)
    }
}
