//! The log's end in memory: where the next frame goes, and the running summary of the active segment. No I/O;
//! everything here happens under the framing lock.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::bugs::{Bug, Bugs};
use crate::format::{BLOCK, Cursor, FrameHeader, FrameKind, Link, NO_BASE, Seal, frame_size, sum};
use crate::pieces::Pieces;
use crate::scan::Summary;
use crate::segment::Segment;

/// A payload up to this is summed under the lock, where the processor does it beside the copying: taking a lock waits
/// for what was begun before.
const SHORT: usize = 256;

/// The records of one batch, in parts. Sums of more than a few bytes were computed before the lock is taken.
pub(crate) trait Batch {
    /// How many records.
    fn count(&self) -> usize;
    /// Bytes of record `n`.
    fn length(&self, n: usize) -> u64;
    /// Their CRC-32.
    fn sum(&self, n: usize) -> u32;
    /// Copies the bytes of record `n`, which fill `out`.
    fn copy(&self, n: usize, out: &mut [u8]);
}

/// The segment that records go to.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    offset: u64,
    /// The batch time of its first record.
    first_time: Option<u64>,
    whole: Summary,
    /// Whether the maker was woken for it.
    asked: bool,
}

impl Active {
    /// How it would be sealed now, after a segment that ended so.
    fn seal(&self, previous: &Previous) -> Seal {
        self.whole.seal(self.segment.base + self.offset, previous.seal.last_record)
    }
}

/// How the log ended before the next link: the last segment, ours or an earlier life's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Previous {
    pub(crate) base: u64,
    pub(crate) seed: u32,
    pub(crate) seal: Seal,
}

impl Previous {
    /// There is no segment yet.
    pub(crate) fn none() -> Previous {
        let seal = Summary::default().seal(0, 0);
        Previous { base: NO_BASE, seed: 0, seal }
    }
}

/// What framing knows.
#[derive(Debug)]
pub(crate) struct Framing {
    bugs: Bugs,
    active: Option<Active>,
    /// It was begun, and the maker was not woken for that.
    begun: bool,
    previous: Previous,
    pub(crate) pieces: Pieces,
    /// Bytes that one who waits for room in memory is to have of it.
    pub(crate) reserved: u64,
    /// The LSN past the last framed batch.
    pub(crate) end: u64,
    /// The highest batch time so far.
    pub(crate) batch_time: u64,
    /// Records framed in the log before the active segment.
    records_before: u64,
    /// Checkpoints framed: the last synced one, the last acknowledged one and those after it.
    checkpoints: VecDeque<u64>,
    pub(crate) cursors: Vec<Cursor>,
    /// Cursors that were released or removed and had no room for a note.
    pub(crate) owed: BTreeSet<String>,
    /// The LSN past the note of the cursor that was made last.
    pub(crate) cursor_made: u64,
    pub(crate) front: u64,
    /// Records and payload bytes framed in this life.
    pub(crate) appended: (u64, u64),
    pub(crate) closed: bool,
}

/// Where a batch went. With an error in its place still two words, which are handed back in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framed {
    /// Of its last record; 0 is the place of a header.
    pub(crate) lsn: NonZeroU64,
    /// Past it.
    pub(crate) end: u64,
}

impl Framing {
    pub(crate) fn new(recovered: &crate::recovery::Recovered, bugs: Bugs) -> Framing {
        let previous = recovered.segments.last().map_or_else(Previous::none, |last| Previous {
            base: last.found.base,
            seed: last.seed,
            seal: last.seal,
        });
        Framing {
            bugs,
            active: None,
            begun: false,
            previous,
            pieces: Pieces::default(),
            reserved: 0,
            end: recovered.end,
            batch_time: recovered.batch_time,
            records_before: recovered.records,
            checkpoints: if recovered.checkpoint > 0 { [recovered.checkpoint].into() } else { VecDeque::new() },
            cursors: recovered.cursors.clone(),
            owed: BTreeSet::new(),
            cursor_made: 0,
            front: recovered.front,
            appended: (0, 0),
            closed: false,
        }
    }

    /// Whether a batch of `size` bytes under `time` goes into the active segment.
    pub(crate) fn fits(&self, size: u64, time: u64, age: Option<u64>) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let first = active.first_time.unwrap_or(time);
            let old = age.is_some_and(|age| time > first && time - first >= age);
            !old && active.segment.capacity - active.offset >= size
        })
    }

    /// The base of the active segment.
    pub(crate) fn active(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.segment.base)
    }

    /// The base of the active segment, and how it would be sealed now.
    pub(crate) fn unsealed(&self) -> Option<(u64, Seal)> {
        self.active.as_ref().map(|active| (active.segment.base, active.seal(&self.previous)))
    }

    /// Whether the newest segment holds any record, be it an earlier life's.
    pub(crate) fn newest_used(&self) -> bool {
        self.active.as_ref().map_or(self.previous.seal.records, |active| active.whole.records) > 0
    }

    /// Seals the active segment and begins `next` with its link. Gives the sealed one and the end of the link.
    pub(crate) fn rotate(&mut self, next: Arc<Segment>, durable: u64) -> (Option<Arc<Segment>>, u64) {
        let sealed = self.active.take().map(|active| {
            let seal = active.seal(&self.previous);
            active.segment.seal(seal);
            self.records_before += seal.records;
            self.previous = Previous { base: active.segment.base, seed: active.segment.seed, seal };
            active.segment
        });
        let Previous { base, seed, seal } = self.previous;
        let link = Link {
            prev_base: base,
            prev_end: seal.end,
            prev_seed: seed,
            prev_records: seal.records,
            prev_min_time: seal.min_time,
            prev_max_time: seal.max_time,
            front: self.front,
            checkpoint: self.checkpoints.back().copied().unwrap_or(0),
            records_before: self.records_before,
            last_record: seal.last_record,
            cursors: self.cursors.clone(),
        };
        // The link tells of all of them.
        self.owed.clear();
        self.pieces.turn();
        let payload = link.encode();
        let offset = u64::from(BLOCK);
        self.active = Some(Active { segment: next, offset, first_time: None, whole: Summary::default(), asked: false });
        self.begun = true;
        let link = One::new(&payload);
        let framed = self.frame(FrameKind::Link, &link, batch_size(&link), self.batch_time, durable);
        (sealed, framed.map_or(self.end, |framed| framed.end))
    }

    /// Frames a batch of `size` bytes at the end of the active segment, which has room for it.
    #[inline(always)]
    pub(crate) fn frame(
        &mut self,
        kind: FrameKind,
        batch: &impl Batch,
        size: u64,
        time: u64,
        durable: u64,
    ) -> Option<Framed> {
        let durable = if self.bugs.has(Bug::ClaimAheadOfSync) { self.end } else { durable };
        let active = self.active.as_mut()?;
        let (base, seed, mut offset) = (active.segment.base, active.segment.seed, active.offset);
        let size = usize::try_from(size).ok()?;
        let piece = self.pieces.with_room(size, &active.segment, offset)?;
        let mut room = piece.room(size)?;
        let (count, mut lsn, mut bytes) = (batch.count(), 0, 0);
        for n in 0..count {
            let length = batch.length(n);
            let (head, rest) = room.split_first_chunk_mut()?;
            let (payload, rest) = rest.split_at_mut_checked(usize::try_from(length).ok()?)?;
            let (padding, rest) = rest.split_at_mut_checked(payload.len().next_multiple_of(4) - payload.len())?;
            lsn = base + offset;
            let length32 = u32::try_from(length).ok()?;
            batch.copy(n, payload);
            padding.iter_mut().for_each(|byte| *byte = 0);
            let header = FrameHeader::new(kind, n + 1 < count, length32, time, batch.sum(n), lsn, durable);
            *head = header.encode(seed, u32::try_from(offset).ok()?);
            room = rest;
            offset += frame_size(length);
            bytes += length;
        }
        piece.framed(size);
        active.offset = offset;
        self.end = base + offset;
        active.whole.add(kind, count as u64, time, lsn);
        if kind.is_record() {
            active.first_time.get_or_insert(time);
            self.batch_time = self.batch_time.max(time);
            self.appended.0 += count as u64;
            self.appended.1 += bytes;
        }
        if kind == FrameKind::Checkpoint {
            self.checkpoints.push_back(lsn);
        }
        Some(Framed { lsn: NonZeroU64::new(lsn)?, end: self.end })
    }

    /// Whether the maker has something to do: a segment was begun, or the active one is half full. Each is said once.
    #[inline]
    pub(crate) fn maker_is_due(&mut self) -> bool {
        let begun = std::mem::take(&mut self.begun);
        let half_full = self.active.as_mut().is_some_and(|active| {
            let half_full = !active.asked && active.offset >= active.segment.capacity / 2;
            if half_full {
                active.asked = true;
            }
            half_full
        });
        begun || half_full
    }

    /// Forgets checkpoints that nobody can ask for any more. Whoever leads now aimed beyond what is acknowledged.
    pub(crate) fn forget_checkpoints(&mut self, synced: u64, acknowledged: u64) {
        if self.checkpoints.len() > 2 {
            let last = [synced, acknowledged].map(|limit| self.checkpoint_below(limit));
            self.checkpoints.retain(|lsn| *lsn >= acknowledged || last.contains(lsn));
        }
    }

    /// The last checkpoint below `limit`; 0 if there is none.
    pub(crate) fn checkpoint_below(&self, limit: u64) -> u64 {
        self.checkpoints.iter().rev().find(|lsn| **lsn < limit).copied().unwrap_or(0)
    }

    /// Where the cursor of this name stands.
    pub(crate) fn cursor(&self, name: &str) -> Option<u64> {
        self.cursors.iter().find(|cursor| cursor.name == name).map(|cursor| cursor.lsn)
    }

    /// The active segment and where it ends so far.
    pub(crate) fn tip(&self) -> Option<(Arc<Segment>, u64)> {
        self.active.as_ref().map(|active| (Arc::clone(&active.segment), active.offset))
    }
}

/// Bytes that a batch takes.
pub(crate) fn batch_size(batch: &impl Batch) -> u64 {
    (0..batch.count()).map(|n| frame_size(batch.length(n))).sum()
}

/// One record from one slice.
pub(crate) struct One<'a> {
    payload: &'a [u8],
    /// Computed before the lock is taken, unless it is short.
    sum: Option<u32>,
}

impl<'a> One<'a> {
    #[inline]
    pub(crate) fn new(payload: &'a [u8]) -> One<'a> {
        One { payload, sum: (payload.len() > SHORT).then(|| sum(payload)) }
    }
}

impl Batch for One<'_> {
    fn count(&self) -> usize {
        1
    }

    fn length(&self, _: usize) -> u64 {
        self.payload.len() as u64
    }

    #[inline]
    fn sum(&self, _: usize) -> u32 {
        self.sum.unwrap_or_else(|| sum(self.payload))
    }

    #[inline]
    fn copy(&self, _: usize, out: &mut [u8]) {
        out.copy_from_slice(self.payload);
    }
}

/// One record gathered from slices.
pub(crate) struct Parts<'a> {
    parts: &'a [&'a [u8]],
    length: u64,
    sum: u32,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(parts: &'a [&'a [u8]]) -> Parts<'a> {
        let mut hasher = crc32fast::Hasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        Parts { parts, length: parts.iter().map(|part| part.len() as u64).sum(), sum: hasher.finalize() }
    }
}

impl Batch for Parts<'_> {
    fn count(&self) -> usize {
        1
    }

    fn length(&self, _: usize) -> u64 {
        self.length
    }

    fn sum(&self, _: usize) -> u32 {
        self.sum
    }

    fn copy(&self, _: usize, mut out: &mut [u8]) {
        for part in self.parts {
            let Some((to, rest)) = out.split_at_mut_checked(part.len()) else { return };
            to.copy_from_slice(part);
            out = rest;
        }
    }
}

/// Several records, all or none.
pub(crate) struct Many<'a>(Vec<(&'a [u8], u32)>);

impl<'a> Many<'a> {
    pub(crate) fn new<T: AsRef<[u8]>>(records: &'a [T]) -> Many<'a> {
        Many(records.iter().map(AsRef::as_ref).map(|record| (record, sum(record))).collect())
    }
}

impl Batch for Many<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn length(&self, n: usize) -> u64 {
        self.0.get(n).map_or(0, |(record, _)| record.len() as u64)
    }

    fn sum(&self, n: usize) -> u32 {
        self.0.get(n).map_or(0, |(_, sum)| *sum)
    }

    fn copy(&self, n: usize, out: &mut [u8]) {
        out.copy_from_slice(self.0.get(n).map_or(&[], |(record, _)| record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_checkpoints_below_either_point_and_those_after_them_stay() {
        let mut framing = Framing::new(&crate::recovery::Recovered::default(), Bugs::default());
        framing.checkpoints.extend([10, 20, 30, 40, 50, 60]);
        framing.forget_checkpoints(25, 45);
        assert_eq!(framing.checkpoints, [20, 40, 50, 60]);
        framing.forget_checkpoints(25, 61);
        assert_eq!(framing.checkpoints, [20, 60]);
        assert_eq!((framing.checkpoint_below(25), framing.checkpoint_below(61)), (20, 60));
    }
}
