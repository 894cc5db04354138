//! Reading a log on past its damage.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, FrameHeader, FrameKind, frame_size};
use crate::lsn::{BatchTime, Lsn};
use crate::progress::Progress;
use crate::record::{Kind, Record};
use crate::recovery::words;
use crate::storage::Storage;

use super::Fault;
use super::examine::{Depth, Examined, examine};
use super::plan::Piece;
use super::subject::Subject;
use super::sum::{fault, passed_over};
use super::tally::Tally;
use super::walk::{Hole, Stretch, Walk, walk};

/// What [`Frames`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// A valid record. Whether the whole of its batch is there, [`Frames::is_part`] tells.
    Record(Record),
    /// Something that was durable is not here as it was written.
    Damage(Fault),
    /// A writer cleaned faster than this reads: records from `from` on were cleaned away meanwhile, and reading goes on
    /// in the segment at `first`, or nowhere if that is [`Frames::end`]. Not told where all of them had been read.
    Removed {
        /// Where reading would have gone on.
        from: Lsn,
        /// Where it goes on.
        first: Lsn,
    },
}

/// All valid records of the log in the directory `path`, or of a segment file on its own, in the order of their LSNs,
/// with the damage between them.
///
/// Only what is known to be durable is shown, as by [`ReadOnly`](crate::ReadOnly), but a damaged log opens too. Of a
/// batch that is damaged the other records are shown, and [`Frames::is_part`] tells them. Records that a writer cleans
/// meanwhile are passed over, and this is told.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # let wal = seawall::Wal::open(dir)?;
/// # wal.append(b"order 17")?.wait()?;
/// use seawall::check::Item;
///
/// for item in seawall::check::frames(dir)? {
///     match item? {
///         Item::Record(record) => println!("{}: {:?}", record.lsn, record.payload),
///         Item::Damage(fault) => eprintln!("{fault}"),
///         Item::Removed { from, first } => eprintln!("cleaned meanwhile: LSN {from} to {first}"),
///         _ => {}
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `NotFound` if there is no log; `TooNew`; `Io`.
pub fn frames(path: impl AsRef<Path>) -> Result<Frames> {
    Frames::new(Subject::at(path.as_ref()))
}

/// As [`frames`], of the log in a storage of your own.
///
/// # Errors
/// As [`frames`].
pub fn frames_on(storage: Arc<dyn Storage>) -> Result<Frames> {
    Frames::new(Subject::log(storage))
}

/// The records of a log that may be damaged. From [`frames`]. Ends after the first error. To cancel, drop it.
#[must_use = "an iterator does nothing until it is driven"]
pub struct Frames {
    subject: Subject,
    examined: Examined,
    /// Known and not yet yielded, in order.
    pending: VecDeque<Fault>,
    pieces: VecDeque<Piece>,
    open: Option<(usize, Walk)>,
    /// Whether that segment was not examined before, which tells what a repair passed over in it.
    untold: bool,
    /// Records below are passed over.
    from: Lsn,
    begun: Instant,
    /// Records given.
    records: u64,
    /// Bytes read in the segments before the open one, and where reading is in that.
    passed: u64,
    offset: u64,
    batch: Batch,
    /// Whether the record read last is of a batch that is not whole.
    part: bool,
    /// Read, while the damage before it is yielded.
    held: Option<Record>,
    /// Where reading would have gone on in a segment that was cleaned.
    overtaken: Option<u64>,
    /// The same with where it went on, not yet yielded.
    removed: Option<(Lsn, Lsn)>,
    /// Records in whole batches that are not shown.
    unproven: u64,
    /// Nothing is left to read, but perhaps to yield.
    ended: bool,
    done: bool,
}

/// The batch that the next frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    /// It begins there.
    Next,
    Whole,
    Part,
}

impl Batch {
    /// Whether a frame is of a batch that is not whole. `lost`: its beginning is, for all that is known.
    fn go_on(&mut self, header: &FrameHeader, lost: bool, ends: impl FnOnce() -> io::Result<bool>) -> io::Result<bool> {
        if *self == Batch::Next {
            *self = if !lost && (!header.more || ends()?) { Batch::Whole } else { Batch::Part };
        }
        let part = *self == Batch::Part;
        if !header.more {
            *self = Batch::Next;
        }
        Ok(part)
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("shown", &self.examined.shown).finish_non_exhaustive()
    }
}

impl Frames {
    fn new(subject: Subject) -> Result<Frames> {
        let examined = examine(&subject, Depth::End, 1, &Tally::untold())?;
        let pending = examined.report.faults.iter().cloned().collect();
        let pieces = examined.pieces.iter().copied().collect();
        Ok(Frames {
            subject,
            examined,
            pending,
            pieces,
            open: None,
            untold: false,
            from: Lsn::ZERO,
            begun: Instant::now(),
            records: 0,
            passed: 0,
            offset: 0,
            batch: Batch::Next,
            part: false,
            held: None,
            overtaken: None,
            removed: None,
            unproven: 0,
            ended: false,
            done: false,
        })
    }

    /// Begins at `lsn`: what lies in segments before the one that holds it is not read, and its damage not told. Of a batch
    /// that begins below it the rest is a part.
    pub fn starting_at(mut self, lsn: Lsn) -> Frames {
        let plan = &self.examined.plan;
        let mut passed = None;
        while self.pieces.get(1).is_some_and(|next| plan.base_of(next) <= lsn.0) {
            passed = self.pieces.pop_front();
        }
        // Before the first piece that is left others may be missing that no link names: they are told with it.
        if let (Some(passed), Some(first)) = (passed, self.pieces.front()) {
            let first = plan.base_of(first);
            let end = plan.end_of(&passed).unwrap_or(first);
            self.pending.retain(|fault| fault.lsn.0 > end || fault.lsn.0 >= first);
        }
        self.from = lsn;
        self
    }

    /// How far it is, as bytes of log; its records are those that were given.
    pub fn progress(&self) -> Progress {
        let (mut bytes, mut left) = (self.passed, 0);
        if let Some((index, _)) = &self.open {
            bytes += self.offset;
            left += self.bytes_of(*index).saturating_sub(self.offset);
        }
        for piece in &self.pieces {
            left += if let Piece::Member(index) = piece { self.bytes_of(*index) } else { 0 };
        }
        Progress { bytes, total_bytes: bytes + left, records: self.records, elapsed: self.begun.elapsed() }
    }

    /// Bytes of frames that are shown of a segment.
    fn bytes_of(&self, index: usize) -> u64 {
        let plan = &self.examined.plan;
        let Some(part) = plan.parts.get(index) else { return 0 };
        let end = part.seal.map(|seal| seal.end).or(part.place.as_ref().map(|place| place.limit)).unwrap_or(0);
        end.min(self.examined.shown.saturating_sub(plan.base(index))).saturating_sub(u64::from(BLOCK))
    }

    /// Goes over to the next piece, which may hold nothing to read; `false` if there is none.
    fn enter(&mut self) -> bool {
        let Some(piece) = self.pieces.pop_front() else { return false };
        if let Piece::Member(index) = piece
            && let Some(part) = self.examined.plan.parts.get(index)
            && let Some(place) = &part.place
        {
            self.open = Some((index, Walk::new(place, part.seal.map(|seal| seal.end))));
            self.untold = self.examined.walks.get(index).is_some_and(Option::is_none);
        }
        true
    }

    /// Is done with a segment.
    fn leave(&mut self) {
        self.open = None;
        self.batch = Batch::Next;
        self.passed += std::mem::take(&mut self.offset);
    }

    /// Whether the record that was yielded last is of a batch that is not whole, or not known to be: its beginning, or
    /// what may be the rest of one that began in damage. If a batch is cleaned away while it is read, its beginning was
    /// no part yet, and [`Item::Removed`] comes before its end.
    pub fn is_part(&self) -> bool {
        self.part
    }

    /// Everything below is shown.
    pub fn end(&self) -> Lsn {
        Lsn(self.examined.shown)
    }

    /// Valid records that lie at or above [`end`](Frames::end) and are not shown, for nothing says that they are
    /// durable; after a killed process opening the log makes them so. Counted once the iterator has ended; 0 where a writer
    /// went on with the log meanwhile.
    pub fn unproven(&self) -> u64 {
        self.unproven
    }

    /// What an operator should know, as in a [`Report`](super::Report); also of what was read so far.
    pub fn notes(&self) -> &[String] {
        &self.examined.report.notes
    }

    /// The next record.
    fn step(&mut self) -> Result<Option<Record>> {
        let mut batch = 0;
        loop {
            let Some((index, walk)) = &mut self.open else {
                if self.enter() {
                    continue;
                }
                if !std::mem::replace(&mut self.ended, true) {
                    self.miss_end()?;
                    self.leave_to_writer()?;
                }
                return Ok(None);
            };
            let index = *index;
            let Some(found) = self.examined.plan.survey.segments.get(index) else { return Ok(None) };
            let io = |e| Error::io("read", self.subject.path(&found.name), e);
            match walk.next(&*found.file).map_err(io)? {
                Some(Stretch::Frame(offset, header, lost)) => {
                    let lsn = found.base + offset;
                    if let Some(from) = self.overtaken.take() {
                        let link = self.examined.plan.parts.get(index).and_then(|part| part.link.as_ref());
                        // Its link tells the last record of what was cleaned.
                        if link.is_none_or(|link| link.last_record >= from) {
                            self.removed.get_or_insert((Lsn(from), Lsn::MAX)).1 = Lsn(found.base);
                        }
                    }
                    let size = frame_size(u64::from(header.length));
                    self.offset = offset + size - u64::from(BLOCK);
                    if lsn + size > self.examined.shown {
                        batch += u64::from(header.is_record());
                        if !header.more {
                            self.unproven += std::mem::take(&mut batch);
                        }
                        continue;
                    }
                    self.part = self.batch.go_on(&header, lost, || walk.ends_whole(&*found.file)).map_err(io)?;
                    let kind = match header.kind {
                        Some(FrameKind::Record) => Kind::Record,
                        Some(FrameKind::Checkpoint) => Kind::Checkpoint,
                        Some(FrameKind::Gap) if self.untold && lsn + size > self.from.0 => {
                            self.examined.report.notes.push(passed_over(lsn, size));
                            continue;
                        }
                        _ => continue,
                    };
                    if lsn < self.from.0 {
                        // Of its batch the rest is a part.
                        self.batch = if header.more { Batch::Part } else { Batch::Next };
                        continue;
                    }
                    self.records += 1;
                    let payload = walk.payload(&*found.file, offset, &header).map_err(io)?;
                    let batch_time = BatchTime(header.batch_time);
                    let ends_batch = !header.more;
                    return Ok(Some(Record { lsn: Lsn(lsn), batch_time, kind, ends_batch, payload }));
                }
                // The log ends here: what lies beyond was torn off.
                Some(Stretch::Hole(hole)) if found.base + hole.from >= self.examined.shown => {
                    self.leave();
                    self.pieces.clear();
                }
                Some(Stretch::Hole(hole)) => {
                    self.batch = Batch::Next;
                    if !self.is_known(found.base, &hole) {
                        self.meet_damage(index, hole.from)?;
                    }
                }
                Some(Stretch::TooNew(offset, _)) => {
                    let error = Error::new(ErrorKind::TooNew, "read", "a frame of a newer version; read it with that");
                    return Err(error.at(self.subject.path(&found.name), offset));
                }
                None => self.leave(),
            }
        }
    }

    /// Whether a hole is damage that is to be yielded.
    fn is_known(&self, base: u64, hole: &Hole) -> bool {
        let at = base + hole.from;
        let from = self.pending.partition_point(|fault| fault.lsn.0 < at);
        let mut here = self.pending.range(from..).take_while(|fault| fault.lsn.0 == at);
        here.any(|fault| at + fault.lost_bytes == base + hole.to)
    }

    /// At a hole: finds out whether the segment was cleaned, or what all is damaged in one that was not read before.
    fn meet_damage(&mut self, index: usize, offset: u64) -> Result<()> {
        let plan = &self.examined.plan;
        let (Some(found), Some(part)) = (plan.survey.segments.get(index), plan.parts.get(index)) else { return Ok(()) };
        let Some(place) = &part.place else { return Ok(()) };
        let io = |e| Error::io("read", self.subject.path(&found.name), e);
        let walked = match self.examined.walks.get(index) {
            Some(None) => {
                let walked = walk(&*found.file, place, part.seal.map(|seal| seal.end), |_| true);
                Some(walked.map_err(io)?.attribute(part))
            }
            _ => None,
        };
        if self.subject.front()? > found.base {
            let at = (found.base + offset).max(self.from.0);
            let next = self.pieces.front().map_or(u64::MAX, |piece| plan.base_of(piece));
            self.pending.retain(|fault| fault.lsn.0 < at || fault.lsn.0 >= next);
            self.overtaken.get_or_insert(at);
            self.leave();
            return Ok(());
        }
        let Some(walked) = walked else { return Ok(()) };
        let sealed = part.seal.map(|seal| found.base.saturating_add(seal.end));
        self.pending.extend(walked.holes.iter().map(|hole| fault(found, hole, None, sealed)));
        self.pending.make_contiguous().sort_by_key(|fault| (fault.lsn, fault.offset));
        if let Some(before) = self.examined.walks.get_mut(index) {
            *before = Some(walked);
        }
        Ok(())
    }

    /// What lies beyond the end is nobody's to make durable where a writer does so.
    fn leave_to_writer(&mut self) -> Result<()> {
        let before = self.examined.plan.survey.claim();
        let is_torn = |note: &String| note.starts_with(words::TORN);
        let notes = &mut self.examined.report.notes;
        if (self.unproven > 0 || notes.iter().any(is_torn)) && self.subject.claim()?.is_some_and(|now| now > before) {
            self.unproven = 0;
            notes.retain(|note| !is_torn(note));
        }
        Ok(())
    }

    /// Nothing is left to read: whether a record was cleaned away that would have been shown.
    fn miss_end(&mut self) -> Result<()> {
        let shown = self.examined.shown;
        if let Some(from) = self.overtaken.take().filter(|from| *from < shown) {
            if self.subject.last_cleaned()?.is_none_or(|last| last >= from) {
                self.removed.get_or_insert((Lsn(from), Lsn::MAX)).1 = self.end();
            }
        } else if self.records == 0 && self.from.0 <= shown {
            // All that was there may have been cleaned before it was looked at, and what followed it since.
            let front = self.subject.front()?;
            self.removed = self.removed.or((front > shown).then_some((Lsn(shown), Lsn(front))));
        }
        Ok(())
    }
}

impl Iterator for Frames {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Result<Item>> {
        if self.done {
            return None;
        }
        if self.held.is_none() {
            match self.step() {
                Ok(record) => self.held = record,
                Err(e) => {
                    self.done = true;
                    return Some(Err(e));
                }
            }
        }
        let before = self.held.as_ref().map_or(Lsn::MAX, |record| record.lsn);
        let hole = self.removed.map_or(before, |(from, _)| from);
        let item = match self.pending.front() {
            Some(fault) if fault.lsn <= hole => self.pending.pop_front().map(Item::Damage),
            _ => match self.removed.take() {
                Some((from, first)) => Some(Item::Removed { from, first }),
                None => self.held.take().map(Item::Record),
            },
        };
        self.done = item.is_none();
        item.map(Ok)
    }
}
