//! The format, read and mended by hand from its specification: nothing here is the crate's.

use crc32fast::Hasher;

pub const BLOCK: usize = 4096;
pub const FRAME: usize = 24;

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A valid frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its offset in the file.
    pub at: usize,
    /// Bytes of its payload.
    pub length: usize,
    pub kind: u32,
    pub more: bool,
    pub batch_time: u64,
    /// How far it says that the log was durable.
    pub claim: u64,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Past its padding.
    pub fn end(&self) -> usize {
        self.at + FRAME + self.length.next_multiple_of(4)
    }
}

/// A segment: its header, and its frames up to the first bad place.
#[derive(Clone, Debug)]
pub struct Segment {
    pub base: u64,
    pub seed: u32,
    pub frames: Vec<Frame>,
}

impl Segment {
    pub fn end(&self) -> u64 {
        self.base + self.frames.last().map_or(BLOCK, Frame::end) as u64
    }

    /// The start of the batch that the frame at `at` is in.
    pub fn batch_of(&self, at: usize) -> u64 {
        let mut start = BLOCK;
        for frame in self.frames.iter().take_while(|frame| frame.at < at) {
            if !frame.more {
                start = frame.end();
            }
        }
        self.base + start as u64
    }
}

/// The checksum that the header at the start of `bytes` ought to have.
pub fn header_checksum(bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..72]);
    hasher.finalize()
}

/// Makes the header's checksum right. Gives the new seed.
pub fn mend_header(bytes: &mut [u8]) -> u32 {
    let seed = header_checksum(bytes);
    bytes[12..16].copy_from_slice(&seed.to_le_bytes());
    seed
}

pub fn frame_check(seed: u32, at: usize, header: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(&(at as u32).to_le_bytes());
    hasher.update(&header[4..FRAME]);
    hasher.finalize()
}

/// Makes the first checksum of the frame at `at` right, whatever its length says.
pub fn mend_check(bytes: &mut [u8], seed: u32, at: usize) {
    let check = frame_check(seed, at, &bytes[at..at + FRAME]);
    bytes[at..at + 4].copy_from_slice(&check.to_le_bytes());
}

/// Makes both checksums of the frame at `at` right, as far as it reaches. Gives its end, if it lies in `bytes`.
pub fn mend_frame(bytes: &mut [u8], seed: u32, at: usize) -> Option<usize> {
    let header = bytes.get(at..at + FRAME)?;
    let length = (u32_at(header, 4) & 0x0fff_ffff) as usize;
    let end = at + FRAME + length.next_multiple_of(4);
    if let Some(payload) = bytes.get(at + FRAME..at + FRAME + length) {
        let sum = crc32fast::hash(payload);
        bytes[at + 20..at + 24].copy_from_slice(&sum.to_le_bytes());
    }
    mend_check(bytes, seed, at);
    (end <= bytes.len()).then_some(end)
}

/// The frame at `at`, if it is valid.
pub fn frame(bytes: &[u8], base: u64, seed: u32, at: usize) -> Option<Frame> {
    let header = bytes.get(at..at + FRAME)?;
    let word = u32_at(header, 4);
    let (length, kind) = ((word & 0x0fff_ffff) as usize, word >> 28 & 7);
    let padded = bytes.get(at + FRAME..at + FRAME + length.next_multiple_of(4))?;
    let payload = &padded[..length];
    let checked = kind != 0 && frame_check(seed, at, header) == u32_at(header, 0);
    if !checked || crc32fast::hash(payload) != u32_at(header, 20) {
        return None;
    }
    let behind = u32_at(header, 16);
    let claimed = base.saturating_add(at as u64).checked_sub(u64::from(behind));
    let claim = claimed.filter(|_| behind != u32::MAX).unwrap_or(0);
    Some(Frame {
        at,
        length,
        kind,
        more: word >> 31 == 1,
        batch_time: u64_at(header, 8),
        claim,
        payload: payload.to_vec(),
    })
}

/// Whether the first block is a header of version 1 as it may be.
pub fn is_header(bytes: &[u8]) -> bool {
    let Some(header) = bytes.get(..72) else { return false };
    let (base, capacity) = (u64_at(header, 48), u64_at(header, 56));
    header[..8] == *b"\x89SEAW\r\n\x1a"
        && header[8..12] == [1, 0, 72, 0]
        && header_checksum(header) == u32_at(header, 12)
        // What is incompatible, also for readers, and the algorithm.
        && header[20..32] == [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
        && (16 << 10..=1 << 30).contains(&capacity)
        && capacity % 4096 == 0
        && base % 4096 == 0
        && base.checked_add(capacity).is_some()
}

/// The segment in `bytes`, if its header is sound.
pub fn segment(bytes: &[u8]) -> Option<Segment> {
    if bytes.len() < BLOCK || bytes[..8] != *b"\x89SEAW\r\n\x1a" || header_checksum(bytes) != u32_at(bytes, 12) {
        return None;
    }
    let (base, seed) = (u64_at(bytes, 48), u32_at(bytes, 12));
    let mut segment = Segment { base, seed, frames: Vec::new() };
    let mut at = BLOCK;
    while let Some(frame) = frame(bytes, base, seed, at) {
        at = frame.end();
        segment.frames.push(frame);
    }
    Some(segment)
}

/// Whether a valid first frame of the segment at `base` is a link, and one that a log may have.
pub fn is_link(frame: &Frame, base: u64) -> bool {
    if frame.kind != 3 || frame.more || frame.length < 80 {
        return false;
    }
    let number = |at: usize| u64_at(&frame.payload, at);
    let (prev_base, prev_end, prev_records) = (number(0), number(8), number(24));
    let mut cursors = &frame.payload[80..];
    // Zeros up to its end mean nothing.
    while cursors.iter().any(|byte| *byte != 0) {
        let length = cursors.get(8).map_or(0, |length| usize::from(*length));
        let name = cursors.get(9..9 + length).filter(|_| (1..=200).contains(&length));
        if name.is_none_or(|name| std::str::from_utf8(name).is_err()) {
            return false;
        }
        cursors = &cursors[9 + length..];
    }
    let follows = || {
        let first = prev_base.saturating_add(BLOCK as u64);
        prev_base < base
            && prev_base % BLOCK as u64 == 0
            && prev_end <= base
            && (first..=first.saturating_add(1 << 30)).contains(&prev_end)
            && prev_records <= number(64)
            && number(72) < prev_end
    };
    // No log has cleaned what is to come.
    number(48) <= base && number(64) <= u64::MAX / 2 && (prev_base == u64::MAX || follows())
}

/// What the valid slots of MARK say: `synced`, the highest.
pub fn synced(mark: &[u8]) -> u64 {
    in_mark(mark, 32)
}

/// The same of what readers were shown.
pub fn shown(mark: &[u8]) -> u64 {
    in_mark(mark, 40)
}

/// The same of the front.
pub fn front(mark: &[u8]) -> u64 {
    in_mark(mark, 48)
}

/// Of which logs its slots are.
pub fn logs(mark: &[u8]) -> Vec<Vec<u8>> {
    slots(mark).map(|slot| slot[8..24].to_vec()).collect()
}

fn in_mark(mark: &[u8], field: usize) -> u64 {
    slots(mark).map(|slot| u64_at(slot, field)).max().unwrap_or(0)
}

fn slots(mark: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slots = [0, BLOCK].into_iter().filter_map(|at| mark.get(at..at + 64));
    slots.filter(|slot| slot[..8] == *b"\x89SEAM\r\n\x1a" && crc32fast::hash(&slot[..60]) == u32_at(slot, 60))
}
