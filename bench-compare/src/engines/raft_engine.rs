//! raft-engine: a raft group for each thread, an entry for each record.
//!
//! `Engine::write(batch, true)`: "If `sync` is true, the write will be followed by a call to `fdatasync` on the log
//! file" (https://docs.rs/raft-engine/0.4.2/raft_engine/struct.Engine.html#method.write); one sync for all writers that
//! wait together. Without compression, as in its examples: no other engine here compresses.

use std::path::Path;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, LogBatch, MessageExt, ReadableSize};

use super::{Each, Engine, Peer};
use crate::Result;
use crate::payload::place;

pub const PEER: Peer = Peer { name: "raft-engine", package: "raft-engine", open, read_back };

/// Half as much again is filled with zeros at the start: `Config::prefill_for_recycle`.
const PREFILLED: ReadableSize = ReadableSize::mb(256);

struct Raft(raft_engine::Engine);

/// A group's indexes begin at one and have no gaps: they are a thread's own count.
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        place(&entry.value).1 + 1
    }
}

fn engine(dir: &Path) -> Result<raft_engine::Engine> {
    let dir = dir.to_str().ok_or("raft-engine takes names in UTF-8 only")?.to_owned();
    let config = Config {
        dir,
        batch_compression_threshold: ReadableSize(0),
        prefill_for_recycle: true,
        prefill_limit: Some(PREFILLED),
        ..Config::default()
    };
    Ok(raft_engine::Engine::open(config)?)
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Raft(engine(dir)?)))
}

fn read_back(dir: &Path, each: Each<'_>) -> Result<()> {
    let engine = engine(dir)?;
    for group in engine.raft_groups() {
        let (first, last) = (engine.first_index(group).unwrap_or(1), engine.last_index(group).unwrap_or(0));
        for index in first..=last {
            let entry = engine.get_entry::<Indexed>(group, index)?.ok_or("an entry is missing")?;
            each(&entry.value);
        }
    }
    Ok(())
}

impl Engine for Raft {
    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut entry = BytesValue::new();
        entry.value = payload.to_vec();
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Indexed>(place(payload).0, &[entry])?;
        self.0.write(&mut batch, true)?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
