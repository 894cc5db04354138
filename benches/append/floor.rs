//! The floors: what a simple program by hand would do, without a format to recover from.
//!
//! A record is its length, its CRC-32 and its bytes: the least that can be read back and checked.

#[path = "../../src/bin/seawall/bench/group.rs"]
mod group;

use std::io;

use parking_lot::Mutex;

use crate::common::disk::Ring;

/// Bytes in front of every record.
pub const HEAD: usize = 8;

fn head(payload: &[u8], crc: u32) -> [u8; HEAD] {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let crc = crc.to_le_bytes();
    [len[0], len[1], len[2], len[3], crc[0], crc[1], crc[2], crc[3]]
}

/// Adds a record.
#[inline]
pub fn put(buffer: &mut Vec<u8>, payload: &[u8], crc: u32) {
    buffer.extend_from_slice(&head(payload, crc));
    buffer.extend_from_slice(payload);
}

/// One thread: copy and checksum into a buffer, one `pwrite` when it is full.
pub struct Buffered {
    /// What it writes into.
    pub ring: Ring,
    buffer: Vec<u8>,
    size: usize,
}

impl Buffered {
    /// With a buffer of `size` bytes; a larger record is let in alone.
    pub fn new(ring: Ring, size: usize) -> Buffered {
        Buffered { ring, buffer: Vec::with_capacity(size), size }
    }

    /// Changes the buffer; what is in it is dropped.
    pub fn resize(&mut self, size: usize) {
        self.buffer = Vec::with_capacity(size);
        self.size = size;
    }

    /// Copies one record, and writes the buffer first if it does not fit.
    #[inline]
    pub fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        if self.buffer.len() + HEAD + payload.len() > self.size {
            self.flush()?;
        }
        put(&mut self.buffer, payload, crc32fast::hash(payload));
        Ok(())
    }

    /// Writes what is in the buffer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.ring.write(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is in the buffer, and syncs.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.ring.sync()
    }
}

/// One thread: one record, one write, one sync. `gathered` writes without copying the payload first.
pub fn append_durably(ring: &mut Ring, buffer: &mut Vec<u8>, payload: &[u8], gathered: bool) -> io::Result<()> {
    let crc = crc32fast::hash(payload);
    if gathered {
        ring.write_gathered(&head(payload, crc), payload)?;
    } else {
        buffer.clear();
        put(buffer, payload, crc);
        ring.write(buffer)?;
    }
    ring.sync()
}

/// Many threads: one write and one sync for all that came by then.
pub struct Group {
    /// Who leads.
    pub commit: group::Group,
    ring: Mutex<Ring>,
}

impl Group {
    /// Writes into `ring`.
    pub fn new(ring: Ring) -> Group {
        Group { commit: group::Group::default(), ring: Mutex::new(ring) }
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.ring.lock().syncs
    }

    /// Returns once the record is durable.
    pub fn append(&self, payload: &[u8]) -> io::Result<()> {
        let crc = crc32fast::hash(payload);
        let write = |bytes: &[u8]| {
            let mut ring = self.ring.lock();
            ring.write(bytes)?;
            ring.sync()
        };
        self.commit.append(|gathering| put(gathering, payload, crc), write)
    }
}
