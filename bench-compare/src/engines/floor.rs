//! By hand: what the machine allows. One file, one `pwrite` and one `fdatasync` for all who came by then.
//!
//! A record is its length, its CRC-32 and its bytes. The blocks are written before, as they are in a log whose files
//! are recycled: between the slices, while no time runs.
#![allow(clippy::disallowed_methods)] // it syncs its own file

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::{Condvar, Mutex};

use super::{Each, Engine, FLOOR, Peer};
use crate::Result;

pub const PEER: Peer = Peer { name: FLOOR, package: "", open, read_back };

/// Bytes that are written before a slice: more than one takes.
const AHEAD: u64 = 128 << 20;

/// Group commit: who finds no leader leads.
struct Floor {
    file: File,
    gate: Mutex<Gate>,
    /// Groups wait apart, by their number's parity: the end of a sync wakes its own group, which is done, and one of
    /// the next, which leads it.
    turns: [Condvar; 2],
}

#[derive(Default)]
struct Gate {
    gathering: Vec<u8>,
    spare: Vec<u8>,
    /// The group that is gathering.
    group: u64,
    /// Groups below are durable.
    durable: u64,
    leading: bool,
    /// A write failed: nothing is promised any more.
    broken: bool,
    /// Where the next group goes.
    at: u64,
    /// Blocks below were written before.
    written: u64,
}

/// Adds a record.
pub fn put(buffer: &mut Vec<u8>, payload: &[u8]) {
    buffer.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    buffer.extend_from_slice(payload);
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let file = File::create_new(dir.join("log"))?;
    File::open(dir)?.sync_all()?;
    Ok(Box::new(Floor { file, gate: Mutex::default(), turns: Default::default() }))
}

/// Up to the first length of zero, which is a block written before, or the end.
pub fn read_back(dir: &Path, each: Each<'_>) -> Result<()> {
    let mut file = BufReader::new(File::open(dir.join("log"))?);
    let (mut len, mut crc, mut payload) = ([0; 4], [0; 4], Vec::new());
    while file.read_exact(&mut len).is_ok() && len != [0; 4] {
        file.read_exact(&mut crc)?;
        payload.resize(u32::from_le_bytes(len) as usize, 0);
        file.read_exact(&mut payload)?;
        if crc32fast::hash(&payload) != u32::from_le_bytes(crc) {
            return Err("the checksum of a record is wrong".into());
        }
        each(&payload);
    }
    Ok(())
}

impl Floor {
    fn turn(&self, group: u64) -> &Condvar {
        let [even, odd] = &self.turns;
        if group.is_multiple_of(2) { even } else { odd }
    }
}

impl Engine for Floor {
    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut gate = self.gate.lock();
        put(&mut gate.gathering, payload);
        let mine = gate.group;
        while gate.durable <= mine {
            if gate.broken {
                return Err("a write failed".into());
            }
            if gate.leading {
                self.turn(mine).wait(&mut gate);
                continue;
            }
            gate.leading = true;
            // Gives way once, so that those come along whom the last sync woke.
            drop(gate);
            std::thread::yield_now();
            gate = self.gate.lock();
            gate.group += 1;
            let empty = std::mem::take(&mut gate.spare);
            let mut full = std::mem::replace(&mut gate.gathering, empty);
            let at = gate.at;
            gate.at += full.len() as u64;
            drop(gate);
            let done = self.file.write_all_at(&full, at).and_then(|()| self.file.sync_data());
            full.clear();
            gate = self.gate.lock();
            gate.spare = full;
            gate.leading = false;
            gate.broken |= done.is_err();
            gate.durable += u64::from(done.is_ok());
            self.turn(mine).notify_all();
            if gate.broken {
                self.turn(mine + 1).notify_all();
            } else {
                self.turn(mine + 1).notify_one();
            }
            done?;
        }
        Ok(())
    }

    fn prepare(&self) -> Result<()> {
        let mut gate = self.gate.lock();
        gate.written = gate.written.max(gate.at);
        if gate.written - gate.at < AHEAD {
            let zeros = vec![0; 1 << 20];
            for _ in 0..2 * AHEAD / zeros.len() as u64 {
                self.file.write_all_at(&zeros, gate.written)?;
                gate.written += zeros.len() as u64;
            }
            self.file.sync_all()?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
