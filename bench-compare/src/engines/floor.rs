//! By hand: what the machine allows. One file, one `pwrite` and one `fdatasync` for all who came by then.
//!
//! A record is its length, its CRC-32 and its bytes. The blocks are written before, as they are in a log whose files
//! are recycled: between the slices, while no time runs.
#![allow(clippy::disallowed_methods)] // it syncs its own file

#[path = "../../../src/bin/seawall/bench/group.rs"]
mod group;

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;

use super::{Each, Engine, FLOOR, Peer};
use crate::Result;
use group::Group;

pub const PEER: Peer = Peer { name: FLOOR, package: "", open, read_back };

/// Bytes that are written before a slice: more than one takes.
const AHEAD: u64 = 128 << 20;

struct Floor {
    file: File,
    group: Group,
    end: Mutex<End>,
}

#[derive(Default)]
struct End {
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
    // Who the last sync woke comes along.
    let mut group = Group::default();
    group.yields = true;
    Ok(Box::new(Floor { file, group, end: Mutex::default() }))
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

impl Engine for Floor {
    fn append(&self, payload: &[u8]) -> Result<()> {
        let write = |bytes: &[u8]| {
            let mut end = self.end.lock();
            self.file.write_all_at(bytes, end.at)?;
            end.at += bytes.len() as u64;
            self.file.sync_data()
        };
        Ok(self.group.append(|gathering| put(gathering, payload), write)?)
    }

    fn prepare(&self) -> Result<()> {
        let mut end = self.end.lock();
        end.written = end.written.max(end.at);
        if end.written - end.at < AHEAD {
            let zeros = vec![0; 1 << 20];
            for _ in 0..2 * AHEAD / zeros.len() as u64 {
                self.file.write_all_at(&zeros, end.written)?;
                end.written += zeros.len() as u64;
            }
            self.file.sync_all()?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
