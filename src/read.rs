//! Reading: one record by its LSN, or all of a range. Out of the map of a sealed segment without a copy.

mod damage;
mod get;

use std::collections::VecDeque;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;

use crate::bugs::Bugs;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, FRAME, FrameHeader, FrameKind, Link, frame_size};
use crate::lsn::{BatchTime, Lsn};
use crate::progress::Progress;
use crate::record::{Kind, Record};
use crate::scan::{Chunk, Place, Window, frame_at};
use crate::segment::Segment;
use crate::sync::RwLockReadGuard;
use damage::damaged;
pub(crate) use get::{checkpoint, get};

/// What records are read from: a log that is written, or one that is only read.
pub(crate) trait Segments: Send + Sync {
    /// Everything below may be shown.
    fn shown(&self) -> u64;

    /// The segments that are left, from base to base.
    fn segments(&self) -> RwLockReadGuard<'_, VecDeque<Arc<Segment>>>;

    /// The first LSN that is left.
    fn first(&self) -> u64 {
        // Asked first: a segment may be begun, and more shown, before the look at the segments.
        let shown = self.shown();
        self.segments().front().map_or(shown, |segment| segment.base)
    }

    /// The segment with the highest base at or below `lsn`.
    fn below(&self, lsn: u64) -> Option<Arc<Segment>> {
        let segments = self.segments();
        let above = segments.partition_point(|segment| segment.base <= lsn);
        above.checked_sub(1).and_then(|index| segments.get(index)).cloned()
    }

    /// The segment after the one at `base`.
    fn after(&self, base: u64) -> Option<Arc<Segment>> {
        let segments = self.segments();
        segments.get(segments.partition_point(|segment| segment.base <= base)).cloned()
    }

    /// Segments that end at or below may be mapped: by the process that holds the lock only, and only what is synced,
    /// for the kernel may drop pages whose write-back failed.
    fn mapped_below(&self) -> u64;

    /// Where a file is.
    fn path(&self, name: &str) -> PathBuf;

    /// Whether the segment was taken away under the reader, after its bytes were not what they should be: then the first
    /// LSN that is left now.
    fn taken_away(&self, base: u64) -> Result<Option<u64>>;

    /// An error if nothing may be read any more.
    fn check(&self) -> Result<()>;

    /// Looks what may be shown now.
    fn look(&self) -> Result<u64>;

    /// Has `waker` woken once more than `seen` may be shown; `false` if that is so already. One waker for each `id`.
    fn watch(&self, id: u64, seen: u64, waker: &Waker) -> Result<bool>;

    /// Nobody waits under this id any more.
    fn forget(&self, id: u64);
}

/// One segment while it is read.
#[derive(Debug)]
struct Open {
    segment: Arc<Segment>,
    /// Its frames up to what may be shown.
    place: Place,
    /// The whole segment, where it is sealed and may be mapped.
    mapped: Option<Bytes>,
    chunk: Chunk,
}

impl Open {
    fn new(segments: &(impl Segments + ?Sized), segment: Arc<Segment>, chunk: Chunk) -> Result<Open> {
        let place = segment.place(segments.shown());
        let sealed = segment.sealed().is_some_and(|seal| seal.end <= segments.mapped_below());
        let mapped = if sealed { segment.bytes() } else { Ok(None) };
        let mapped = mapped.map_err(|e| Error::io("map", segments.path(&segment.name), e))?;
        Ok(Open { segment, place, mapped, chunk })
    }

    /// Where its frames end, or what may be shown of them.
    fn end(&self) -> u64 {
        self.place.base + self.place.limit
    }

    /// The frame at `offset`, if it is valid.
    #[inline]
    fn frame(&mut self, offset: u64) -> io::Result<Option<FrameHeader>> {
        match &self.mapped {
            Some(bytes) => frame_at(&mut &bytes[..], &self.place, offset, Bugs::default()),
            None => {
                let mut window = Window::new(&*self.segment.file, self.place.limit, &mut self.chunk);
                frame_at(&mut window, &self.place, offset, Bugs::default())
            }
        }
    }

    /// Where there is no frame that may be shown whole: one that what was told durable ends within, as in one that a repair
    /// wrote, or where MARK tells what no writer says; else the error for damage.
    #[cold]
    fn last(&mut self, segments: &(impl Segments + ?Sized), offset: u64) -> Result<FrameHeader> {
        let place = Place { limit: self.segment.capacity, ..self.place };
        let mut window = Window::new(&*self.segment.file, place.limit, &mut self.chunk);
        let header = frame_at(&mut window, &place, offset, Bugs::default()).map_err(|e| self.error(segments, e))?;
        let theirs = |header: &FrameHeader| matches!(header.kind, Some(FrameKind::Gap | FrameKind::Link));
        let is_newest = self.segment.sealed().is_none();
        header.filter(|header| is_newest || theirs(header)).ok_or_else(|| damaged(segments, self, offset))
    }

    /// The payload of the valid frame that was read last.
    #[inline]
    fn payload(&self, offset: u64, header: &FrameHeader) -> Option<&[u8]> {
        let (from, length) = (offset + u64::from(FRAME), header.length as usize);
        match &self.mapped {
            Some(bytes) => bytes.get(usize::try_from(from).ok()?..)?.get(..length),
            None => self.chunk.held(from, length),
        }
    }

    /// The same to keep: out of the map, or copied.
    #[inline]
    fn share(&self, payload: &[u8]) -> Bytes {
        self.mapped.as_ref().map_or_else(|| Bytes::copy_from_slice(payload), |bytes| bytes.slice_ref(payload))
    }

    #[cold]
    fn error(&self, segments: &(impl Segments + ?Sized), e: io::Error) -> Error {
        Error::io("read", segments.path(&self.segment.name), e)
    }
}

/// A valid frame that is a record.
struct Found {
    lsn: u64,
    offset: u64,
    kind: Kind,
    header: FrameHeader,
}

impl Found {
    /// The record, its payload out of `open` as `keep` has it.
    #[inline]
    fn record<'a, P>(self, open: &'a Open, keep: impl FnOnce(&'a [u8]) -> P) -> Result<Record<P>> {
        let payload = open.payload(self.offset, &self.header).map(keep);
        self.with(payload)
    }

    #[inline]
    fn with<P>(self, payload: Option<P>) -> Result<Record<P>> {
        let payload = payload.ok_or_else(unread)?;
        let Found { lsn, kind, header: FrameHeader { batch_time, more, .. }, .. } = self;
        Ok(Record { lsn: Lsn(lsn), batch_time: BatchTime(batch_time), kind, ends_batch: !more, payload })
    }
}

/// What cannot be: the bytes of a frame whose checks were just computed are not at hand.
#[cold]
fn unread() -> Error {
    Error::new(ErrorKind::Io, "read", "the frame read last is not at hand")
}

/// What a caller calls a frame; `None` for the log's own.
fn kind(header: &FrameHeader) -> Option<Kind> {
    match header.kind {
        Some(FrameKind::Record) => Some(Kind::Record),
        Some(FrameKind::Checkpoint) => Some(Kind::Checkpoint),
        Some(FrameKind::Link | FrameKind::CursorNote | FrameKind::Gap) | None => None,
    }
}

fn removed(lsn: u64, first: u64) -> Error {
    let kind = ErrorKind::Removed { lsn: Lsn(lsn), first: Lsn(first) };
    Error::new(kind, "read", format!("LSN {lsn} was cleaned away, the first left is {first}"))
}

/// The error for a frame that only a newer version can read.
#[cold]
fn too_new(segments: &(impl Segments + ?Sized), open: &Open, offset: u64) -> Error {
    let message = "a frame of a newer version; read the log with that";
    Error::new(ErrorKind::TooNew, "read", message).at(segments.path(&open.segment.name), offset)
}

/// The segments from `first` on that begin below `end`: their bases, and the bytes of their frames up to there.
fn stretches(segments: &dyn Segments, first: Option<Arc<Segment>>, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let all = std::iter::successors(first, |segment| segments.after(segment.base));
    let below = all.take_while(move |segment| segment.base < end);
    below.map(move |segment| (segment.base, segment.place(end).limit.saturating_sub(u64::from(BLOCK))))
}

/// See [`Wal::split`](crate::Wal::split).
pub(crate) fn split(segments: &dyn Segments, parts: usize) -> Vec<Range<Lsn>> {
    let end = segments.shown();
    let first = segments.below(segments.first());
    let all: Vec<_> = stretches(segments, first, end).collect();
    let total: u128 = all.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
    let mut ranges: Vec<Range<Lsn>> = Vec::new();
    let mut before = 0;
    for (base, bytes) in all {
        // The next range begins with the segment in which its share of the bytes does.
        if ranges.len() < parts.max(1) && before * parts as u128 >= total * ranges.len() as u128 {
            if let Some(last) = ranges.last_mut() {
                last.end = Lsn(base);
            }
            // No record lies below, and from `Lsn::ZERO` would be from the front, wherever that is when it is read.
            ranges.push(Lsn(base.max(u64::from(BLOCK)))..Lsn(end));
        }
        before += u128::from(bytes);
    }
    ranges
}

/// The records of a range, in order. A snapshot: records that become durable later are not among them.
///
/// Ends after the first error. Holds one segment at a time, so that cleaning may overtake it; then it yields
/// [`ErrorKind::Removed`], be it that all that was cleaned lay beyond its end. It takes as much memory as 256 KiB or the
/// largest record, however long the range is. To cancel a replay, drop it.
#[must_use = "an iterator does nothing until it is driven"]
pub struct Records<'a> {
    segments: &'a dyn Segments,
    open: Option<Open>,
    /// The offset of the next frame in the open segment.
    offset: u64,
    /// Where reading began in it.
    entered: u64,
    /// Bytes read in the segments before it.
    passed: u64,
    /// Frames read, and those of them that were not given: counting what is given takes longer.
    frames: u64,
    skipped: u64,
    /// Records below are passed over.
    from: u64,
    end: u64,
    /// The same, or where a frame begins that reaches above it and is not given.
    whole: u64,
    begun: Instant,
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("from", &self.from).field("end", &self.end).finish_non_exhaustive()
    }
}

impl<'a> Records<'a> {
    pub(crate) fn new(segments: &'a dyn Segments, range: impl RangeBounds<Lsn>) -> Result<Records<'a>> {
        segments.check()?;
        let first = segments.first();
        let from = match range.start_bound() {
            Bound::Included(lsn) => lsn.0,
            Bound::Excluded(lsn) => lsn.0.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(lsn) => lsn.0.saturating_add(1),
            Bound::Excluded(lsn) => lsn.0,
            Bound::Unbounded => u64::MAX,
        };
        let asked = from;
        let from = from.max(first);
        let end = end.min(segments.shown());
        let mut records = Records {
            segments,
            open: None,
            offset: 0,
            entered: 0,
            passed: 0,
            frames: 0,
            skipped: 0,
            from,
            end,
            whole: end,
            begun: Instant::now(),
        };
        // None is below if the front was cleaned since we asked for it.
        if let Some(segment) = segments.below(from).or_else(|| segments.after(0)) {
            records.enter(segment)?;
        }
        // A segment whose link is not shown yet is the log's first, or a clean would have made it durable.
        let is_begun = records.open.as_ref().is_some_and(|open| open.place.limit > u64::from(BLOCK));
        if asked > 0 && is_begun {
            records.missed(asked)?;
        }
        Ok(records)
    }

    /// Goes to the first frame of a segment, or straight to `from` if a frame begins or the segment ends there.
    fn enter(&mut self, segment: Arc<Segment>) -> Result<()> {
        let mut open = Open::new(self.segments, segment, Chunk::default())?;
        let within = self.from.saturating_sub(open.segment.base);
        let ended = open.segment.sealed().is_some_and(|seal| seal.end <= self.from);
        let begins = within > u64::from(BLOCK) && within.is_multiple_of(4);
        // Nor is a first frame looked for where nothing is to be read.
        let straight =
            ended || self.from >= self.end || begins && open.frame(within).is_ok_and(|frame| frame.is_some());
        self.offset = if straight { within } else { u64::from(BLOCK) };
        self.entered = self.offset;
        self.open = Some(open);
        Ok(())
    }

    /// Goes on to the next segment, if there is one and the range reaches into it.
    #[cold]
    fn leave(&mut self) -> Result<()> {
        let Some(Open { segment, .. }) = self.open.take() else { return Ok(()) };
        self.passed += self.offset - self.entered;
        if segment.base + self.offset >= self.end {
            return Ok(());
        }
        self.segments.check()?;
        let (base, at) = (segment.base, segment.base + self.offset);
        drop(segment);
        let Some(next) = self.segments.after(base) else { return Ok(()) };
        // Of one that is shown up to its link nothing is read.
        let (first, ends) = (self.segments.first(), next.base + u64::from(BLOCK) >= self.end);
        if ends && first <= base {
            return Ok(());
        }
        self.enter(next)?;
        self.missed(at)?;
        if ends {
            self.open = None;
        }
        Ok(())
    }

    /// An error if a record at `lsn` or above was cleaned away before the open segment was entered.
    fn missed(&mut self, lsn: u64) -> Result<()> {
        let above = self.open.as_ref().is_some_and(|open| open.segment.base > lsn);
        // Its link tells the last record of what was cleaned.
        if above && self.link()?.is_none_or(|link| link.last_record >= lsn) {
            return Err(removed(lsn, self.segments.first()));
        }
        Ok(())
    }

    /// Ends with an error.
    #[cold]
    fn fail(&mut self, error: Error) -> Option<Result<Found>> {
        self.open = None;
        Some(Err(error))
    }

    /// What the link of the open segment says.
    fn link(&mut self) -> Result<Option<Link>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let first = u64::from(BLOCK);
        if open.place.limit <= first {
            return Ok(None);
        }
        let header = open.frame(first).map_err(|e| open.error(self.segments, e))?;
        let header = match header {
            Some(header) => header,
            None => open.last(self.segments, first)?,
        };
        Ok(open.payload(first, &header).and_then(Link::decode))
    }

    /// How far it is, as bytes of log; its records are those that were given. Costs nothing while reading; asking
    /// costs a look at each segment that is left. Of an iterator that has ended, all that it read.
    pub fn progress(&self) -> Progress {
        let (mut bytes, mut left) = (self.passed, 0);
        if let Some(open) = &self.open {
            bytes += self.offset - self.entered;
            left = open.end().min(self.end).saturating_sub(open.segment.base + self.offset);
            left += stretches(self.segments, self.segments.after(open.segment.base), self.end)
                .map(|(_, bytes)| bytes)
                .sum::<u64>();
        }
        Progress {
            bytes,
            total_bytes: bytes + left,
            records: self.frames - self.skipped,
            elapsed: self.begun.elapsed(),
        }
    }

    /// Everything below is among them: what was durable when this was made, or the end of the range.
    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.end)
    }

    /// Where to go on once more is durable, of an iterator that has ended.
    pub(crate) fn whole(&self) -> Lsn {
        Lsn(self.whole)
    }

    /// The next record, its payload borrowed until the next call: as [`next`](Iterator::next), without the counting of
    /// a [`Bytes`], which takes longer than checking a record of 100 bytes, and without the copy that a record outside
    /// a map is.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let wal = seawall::Wal::open(dir.path())?;
    /// # wal.append(b"order 17")?.wait()?;
    /// let (mut bytes, mut records) = (0, wal.read(..)?);
    /// while let Some(record) = records.next_borrowed() {
    ///     bytes += record?.payload.len();
    /// }
    /// assert_eq!(bytes, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As the iterator: `Damage`, `Removed`, `TooNew`, `Io`, `Closed`; it ends after the first.
    #[inline]
    pub fn next_borrowed(&mut self) -> Option<Result<Record<&[u8]>>> {
        match self.advance()? {
            Ok(found) => self.open.as_ref().map(|open| found.record(open, |payload| payload)),
            Err(e) => Some(Err(e)),
        }
    }

    /// Goes on to the next record of the range.
    #[inline]
    fn advance(&mut self) -> Option<Result<Found>> {
        loop {
            let open = self.open.as_mut()?;
            let (offset, lsn) = (self.offset, open.segment.base + self.offset);
            if lsn >= self.end.min(open.end()) {
                match self.leave() {
                    Ok(()) => continue,
                    Err(e) => return self.fail(e),
                }
            }
            let header = match open.frame(offset) {
                Ok(Some(header)) => header,
                Ok(None) => match open.last(self.segments, offset) {
                    Ok(header) if kind(&header).is_none() => header,
                    // Its end may not be durable yet.
                    Ok(_) => {
                        (self.open, self.whole) = (None, lsn);
                        return None;
                    }
                    Err(error) => return self.fail(error),
                },
                Err(e) => {
                    let error = open.error(self.segments, e);
                    return self.fail(error);
                }
            };
            self.offset += frame_size(u64::from(header.length));
            self.frames += 1;
            if let Some(kind) = kind(&header).filter(|_| lsn >= self.from) {
                return Some(Ok(Found { lsn, offset, kind, header }));
            }
            if header.kind.is_none() {
                let error = too_new(self.segments, open, offset);
                return self.fail(error);
            }
            self.skipped += 1;
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record>;

    #[inline]
    fn next(&mut self) -> Option<Result<Record>> {
        match self.advance()? {
            Ok(found) => self.open.as_ref().map(|open| found.record(open, |payload| open.share(payload))),
            Err(e) => Some(Err(e)),
        }
    }
}
