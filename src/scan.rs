//! Reads frames out of one segment's bytes: one by one, up to the first bad place, and ahead of it.

mod bad;
mod begun;

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, Bytes};

use crate::bugs::{Bug, Bugs};
use crate::format::{BLOCK, Cursor, FRAME, FrameHeader, FrameKind, Left, Seal, frame_size, sum};
use crate::storage::{File, read_full};
pub(crate) use bad::{Bad, bad, damage_at, look_beyond};
pub(crate) use begun::Begun;

/// Bytes read at once where one frame is read after the other.
const CHUNK: usize = 256 << 10;

/// The same where a single frame is wanted, and at most: a record of a usual size comes with its header.
const ONE: std::ops::RangeInclusive<usize> = 512..=64 << 10;

/// What lies where nothing was written.
static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Where frames are read from. `bytes` gives `length` bytes at `offset`, or `None` where there are not so many.
pub(crate) trait Source {
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>>;
}

/// A chunk of a file, or one verified frame if that is larger.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Bytes read at once, if not more are wanted.
    least: usize,
    start: u64,
    bytes: Vec<u8>,
    filled: usize,
}

impl Default for Chunk {
    fn default() -> Chunk {
        Chunk { least: CHUNK, start: 0, bytes: Vec::new(), filled: 0 }
    }
}

impl Chunk {
    /// For a single frame, which may have as many bytes.
    pub(crate) fn one(bytes: usize) -> Chunk {
        Chunk { least: bytes.clamp(*ONE.start(), *ONE.end()), ..Chunk::default() }
    }

    /// Bytes of the file that it holds.
    #[inline]
    pub(crate) fn held(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(..self.filled)?.get(from..)?.get(..length)
    }

    /// Some of its bytes to keep: without a copy, unless they are a small part of it.
    pub(crate) fn keep(self, offset: u64, length: usize) -> Option<Bytes> {
        let held = self.held(offset, length)?;
        if self.bytes.len() / 2 > length {
            return Some(Bytes::copy_from_slice(held));
        }
        let from = usize::try_from(offset - self.start).ok()?;
        let mut bytes = Bytes::from(self.bytes);
        bytes.advance(from);
        bytes.truncate(length);
        Some(bytes)
    }
}

/// The bytes of a file, a chunk at a time.
pub(crate) struct Window<'a> {
    file: &'a dyn File,
    limit: u64,
    chunk: &'a mut Chunk,
}

impl<'a> Window<'a> {
    /// Over the first `limit` bytes of `file`. The chunk holds nothing yet, or bytes of the same file.
    pub(crate) fn new(file: &'a dyn File, limit: u64, chunk: &'a mut Chunk) -> Window<'a> {
        Window { file, limit, chunk }
    }
}

impl Window<'_> {
    /// What the chunk holds from `offset` on, at least `length` bytes.
    #[inline]
    fn rest(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        let end = offset.saturating_add(length as u64);
        if end > self.limit {
            return Ok(None);
        }
        if offset < self.chunk.start || end > self.chunk.start + self.chunk.filled as u64 {
            self.fill(offset, length)?;
        }
        let from = usize::try_from(offset - self.chunk.start).unwrap_or(usize::MAX);
        let rest = self.chunk.bytes.get(from..self.chunk.filled);
        Ok(rest.filter(|rest| rest.len() >= length))
    }

    /// Reads on at `offset`: `length` bytes or more, as far as the file goes.
    #[cold]
    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let left = usize::try_from(self.limit - offset).unwrap_or(usize::MAX);
        let chunk = &mut *self.chunk;
        let want = length.max(chunk.least).min(left);
        if chunk.bytes.len() < want {
            chunk.bytes.resize(want, 0);
        }
        (chunk.start, chunk.filled) = (offset, 0);
        let room = chunk.bytes.get_mut(..want).unwrap_or_default();
        chunk.filled = read_full(self.file, room, offset)?;
        Ok(())
    }
}

impl Source for Window<'_> {
    #[inline]
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        Ok(self.rest(offset, length)?.and_then(|rest| rest.get(..length)))
    }
}

/// What it holds, and nothing that would have to be read.
impl Source for &Chunk {
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        Ok(self.held(offset, length))
    }
}

impl Source for &[u8] {
    #[inline]
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        Ok(usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..length)))
    }
}

/// What frames of a segment are read by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) base: u64,
    pub(crate) seed: u32,
    /// The offset that no frame reaches beyond.
    pub(crate) limit: u64,
}

/// The frame at `offset`, if both of its checks hold. Its length is used only after the first of them does.
/// Handing the header on from a call of its own would be a tenth of a check of 100 bytes; so it is in `Walk::next`.
#[inline(always)]
pub(crate) fn frame_at<S: Source>(
    source: &mut S,
    place: &Place,
    offset: u64,
    bugs: Bugs,
) -> io::Result<Option<FrameHeader>> {
    let Ok(short) = u32::try_from(offset) else { return Ok(None) };
    if offset.saturating_add(u64::from(FRAME)) > place.limit {
        return Ok(None);
    }
    let Some(bytes) = source.bytes(offset, FRAME as usize)? else { return Ok(None) };
    if bugs.has(Bug::LengthBeforeCheck) {
        let header = bytes.first_chunk().and_then(FrameHeader::unchecked);
        std::hint::black_box(vec![1_u8; header.map_or(0, |header| header.length as usize)]);
    }
    let Some(header) = FrameHeader::decode(bytes, place.seed, short) else { return Ok(None) };
    if frame_size(u64::from(header.length)) > place.limit - offset {
        return Ok(None);
    }
    let payload = source.bytes(offset + u64::from(FRAME), header.length as usize)?;
    let holds = |payload| sum(payload) == header.sum || bugs.has(Bug::PayloadUnchecked);
    Ok(payload.is_some_and(holds).then_some(header))
}

/// Whether a frame lies here whose header holds, in full length.
fn spoiled(window: &mut Window<'_>, place: &Place, offset: u64) -> io::Result<bool> {
    let Some(bytes) = window.bytes(offset, FRAME as usize)? else { return Ok(false) };
    let short = u32::try_from(offset).unwrap_or(u32::MAX);
    let Some(header) = FrameHeader::decode(bytes, place.seed, short) else { return Ok(false) };
    if frame_size(u64::from(header.length)) > place.limit - offset {
        return Ok(false);
    }
    Ok(window.bytes(offset + u64::from(FRAME), header.length as usize)?.is_some())
}

/// What a segment holds up to its first bad place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    /// The offset of the first bad place.
    pub(crate) bad: u64,
    /// The offset past the last whole batch; the same if it lies between batches.
    pub(crate) end: u64,
    /// Whether a valid frame of a newer version is there.
    pub(crate) too_new: bool,
    /// Whether a frame is there whose header holds: it was appended, and is torn.
    pub(crate) spoiled: bool,
    /// Valid frames up to the first bad place.
    pub(crate) frames: u64,
    /// The highest claim among them.
    pub(crate) claim: u64,
    /// The highest batch time of whole batches. A link bears the highest before it.
    pub(crate) batch_time: u64,
    /// Of whole batches only: records, the span of their batch times, the last checkpoint, the cursor notes.
    pub(crate) whole: Summary,
}

/// What the records of a segment add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    /// The LSN of the last one; 0 if there is none.
    pub(crate) last_record: u64,
    pub(crate) min_time: u64,
    pub(crate) max_time: u64,
    pub(crate) checkpoint: u64,
    /// Of each cursor the last; 0 where it was removed.
    pub(crate) notes: BTreeMap<String, u64>,
    /// The LSN of the last of them; 0 if there is none.
    pub(crate) last_note: u64,
}

impl Default for Summary {
    fn default() -> Summary {
        let (min_time, notes) = (u64::MAX, BTreeMap::new());
        Summary { records: 0, last_record: 0, min_time, max_time: 0, checkpoint: 0, notes, last_note: 0 }
    }
}

impl Summary {
    /// Adds as many records or checkpoints; `lsn` is the last one's.
    #[inline]
    pub(crate) fn add(&mut self, kind: FrameKind, records: u64, batch_time: u64, lsn: u64) {
        if kind.is_record() {
            self.records += records;
            self.last_record = lsn;
            self.min_time = self.min_time.min(batch_time);
            self.max_time = self.max_time.max(batch_time);
        }
        if kind == FrameKind::Checkpoint {
            self.checkpoint = lsn;
        }
    }

    /// How a segment of these ends at `end`, after segments whose last record is at `before`.
    pub(crate) fn seal(&self, end: u64, before: u64) -> Seal {
        let Summary { records, min_time, max_time, .. } = *self;
        Seal { end, records, last_record: self.last_record.max(before), min_time, max_time }
    }

    /// The same beside a segment's header.
    pub(crate) fn left(&self) -> Left {
        Left { records: self.records, min_time: self.min_time, max_time: self.max_time }
    }

    /// Adds the batch that follows.
    pub(crate) fn merge(&mut self, batch: Summary) {
        self.records += batch.records;
        self.last_record = self.last_record.max(batch.last_record);
        self.min_time = self.min_time.min(batch.min_time);
        self.max_time = self.max_time.max(batch.max_time);
        self.checkpoint = self.checkpoint.max(batch.checkpoint);
        self.notes.extend(batch.notes);
        self.last_note = self.last_note.max(batch.last_note);
    }

    /// Adds a cursor's note, if that is what this is.
    pub(crate) fn note(&mut self, payload: &[u8]) {
        self.notes.extend(Cursor::decode(payload).map(|(cursor, _)| (cursor.name, cursor.lsn)));
    }
}

/// What the last notes of cursors make of them.
pub(crate) fn apply_notes(cursors: &mut Vec<Cursor>, notes: BTreeMap<String, u64>) {
    cursors.retain(|cursor| !notes.contains_key(&cursor.name));
    cursors.extend(notes.into_iter().filter(|(_, lsn)| *lsn > 0).map(|(name, lsn)| Cursor { lsn, name }));
}

/// Reads frame after frame from the first on, up to the first bad place.
pub(crate) fn scan(file: &dyn File, place: &Place, bugs: Bugs) -> io::Result<Scan> {
    let mut chunk = Chunk::default();
    let mut window = Window::new(file, place.limit, &mut chunk);
    let first = u64::from(BLOCK);
    let mut scan = Scan { bad: first, end: first, ..Scan::default() };
    let (mut open, mut batch_time) = (Summary::default(), 0);
    while let Some(header) = frame_at(&mut window, place, scan.bad, bugs)? {
        let Some(kind) = header.kind else {
            scan.too_new = true;
            break;
        };
        let lsn = place.base + scan.bad;
        scan.frames += 1;
        batch_time = batch_time.max(header.batch_time);
        scan.claim = scan.claim.max(header.claim(lsn).unwrap_or(0));
        open.add(kind, 1, header.batch_time, lsn);
        if kind == FrameKind::CursorNote && !bugs.has(Bug::NotesNotRead) {
            let payload = window.bytes(scan.bad + u64::from(FRAME), header.length as usize)?;
            open.note(payload.unwrap_or_default());
            open.last_note = lsn;
        }
        scan.bad += frame_size(u64::from(header.length));
        if !header.more || bugs.has(Bug::BatchCutInside) {
            scan.end = scan.bad;
            scan.batch_time = batch_time;
            scan.whole.merge(std::mem::take(&mut open));
        }
    }
    scan.spoiled = !scan.too_new && spoiled(&mut window, place, scan.bad)?;
    Ok(scan)
}

/// What valid frames lie ahead of a bad place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead {
    /// How many.
    pub(crate) frames: u64,
    /// The highest claim among them.
    pub(crate) claim: u64,
}

/// Tries every place from `from` on. A frame found is stepped over, so that frames in its payload do not count.
pub(crate) fn look_ahead(file: &dyn File, place: &Place, from: u64, bugs: Bugs) -> io::Result<Ahead> {
    let mut chunk = Chunk::default();
    let mut window = Window::new(file, place.limit, &mut chunk);
    let mut ahead = Ahead::default();
    let mut offset = from.max(u64::from(BLOCK)).next_multiple_of(4);
    while let Some((found, header)) = next_frame(&mut window, place, offset, bugs)? {
        ahead.frames += 1;
        ahead.claim = ahead.claim.max(header.claim(place.base + found).unwrap_or(0));
        offset = found + frame_size(u64::from(header.length));
    }
    Ok(ahead)
}

/// Whether a segment holds any frame.
pub(crate) fn holds_frames(file: &dyn File, place: &Place) -> io::Result<bool> {
    let mut chunk = Chunk::default();
    let mut window = Window::new(file, place.limit, &mut chunk);
    next_frame(&mut window, place, u64::from(BLOCK), Bugs::default()).map(|found| found.is_some())
}

/// The first valid frame at or above `offset`, which is a multiple of 4.
pub(crate) fn next_frame(
    window: &mut Window<'_>,
    place: &Place,
    mut offset: u64,
    bugs: Bugs,
) -> io::Result<Option<(u64, FrameHeader)>> {
    while let Some(found) = next_candidate(window, place, offset, bugs)? {
        if let Some(header) = frame_at(window, place, found, bugs)? {
            return Ok(Some((found, header)));
        }
        offset = found + 4;
    }
    Ok(None)
}

/// How many zeros there are at the beginning. Whole blocks are compared at once: the rest of a segment is nothing else, and
/// 64 MiB of them took seconds where this is compiled without optimisation.
fn zeros(bytes: &[u8]) -> usize {
    let mut at = 0;
    for unit in [ZEROS.len(), 64, 1] {
        while bytes.get(at..at + unit) == ZEROS.get(..unit) {
            at += unit;
        }
    }
    at
}

/// The first place from `offset` on where a frame's check holds.
fn next_candidate(window: &mut Window<'_>, place: &Place, mut offset: u64, bugs: Bugs) -> io::Result<Option<u64>> {
    let frame = FRAME as usize;
    while offset.saturating_add(frame as u64) <= place.limit {
        let Some(chunk) = window.rest(offset, frame)? else { return Ok(None) };
        if bugs.has(Bug::LengthBeforeCheck) {
            let header = chunk.first_chunk().and_then(FrameHeader::unchecked);
            std::hint::black_box(vec![1_u8; header.map_or(0, |header| header.length as usize)]);
        }
        let mut tried = 0;
        while let Some(bytes) = chunk.get(tried..tried + frame) {
            // A frame's kind lies in its first 8 bytes and is never 0.
            if bytes.first_chunk() == Some(&[0; 8]) {
                tried += zeros(chunk.get(tried..).unwrap_or_default()) / 4 * 4 - 4;
                continue;
            }
            let short = u32::try_from(offset + tried as u64).unwrap_or(u32::MAX);
            if FrameHeader::decode(bytes, place.seed, short).is_some() {
                return Ok(Some(offset + tried as u64));
            }
            tried += 4;
        }
        offset += tried as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
