//! What a reader knows of a log that another process writes, and how it comes to know more.
//!
//! MARK and the frames say how far the log is durable, after the sync they speak of, and MARK how far its writer let
//! others read, which with `Durability::Os` is more. The reader reads on in the newest segment it knows, and goes over
//! to the next once that has durably begun: such a segment is part of the log for ever. What was let out to readers
//! proves no such thing, for a power cut may have taken it since; it counts for as far as the records lead.
//!
//! `looked` is the first look, at all of the directory, which is also what is done where there is nothing to go on from.

mod looked;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::task::Waker;

use crate::bugs::Bugs;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, FRAME, FrameHeader, FrameKind, Mark, Seal, frame_size, segment_base};
use crate::mark::{LOOK, Said};
use crate::options::RecoveryMode;
use crate::read::Segments;
use crate::recovery::{find, front, missing, read_marks, survey_beside};
use crate::scan::{Chunk, Place, Window, frame_at};
use crate::segment::Segment;
use crate::storage::{Background, File, Next, Storage, read_full};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock, RwLockReadGuard};
use crate::wakers::Wakers;

pub(crate) use looked::Looked;

/// Looks without anything new after which the directory is listed all the same: a writer that was killed may have begun
/// a segment durably and not have come to say so in MARK.
const IDLE_LOOKS: u32 = 100;

/// Looks that find nothing of what the writer says is durable, in a row, after which the directory is looked at anew: one
/// may fall between two steps of the writer, so many do not.
const STUCK: u32 = 4;

/// The segments known, and how far they may be shown.
pub(crate) struct View {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) log_id: [u8; 16],
    mode: RecoveryMode,
    segments: RwLock<VecDeque<Arc<Segment>>>,
    shown: AtomicU64,
    tip: Mutex<Tip>,
    /// Who waits, by an id, for more than it has seen.
    watchers: Mutex<BTreeMap<u64, (u64, Waker)>>,
    /// Looks on behalf of those who wait, once somebody does.
    poller: Mutex<Option<Box<dyn Background>>>,
}

/// How far the newest segment was read.
#[derive(Debug, Default)]
struct Tip {
    /// Where the next frame is to be.
    offset: u64,
    /// The LSN past the last whole batch.
    end: u64,
    /// The highest claim.
    claim: u64,
    /// Checkpoints found and not shown yet, behind the last one that is.
    checkpoints: VecDeque<u64>,
    /// Looks since anything was new.
    idle: u32,
    /// What MARK let out when all was looked at and less was there: a power cut may have left it so (`Durability::Os`).
    unreached: u64,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("path", &self.storage.path()).field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl View {
    pub(crate) fn new(storage: Arc<dyn Storage>, found: Looked, mode: RecoveryMode) -> Result<View> {
        let (tip, looks) = (Tip::new(&found), found.more_checkpoints);
        let Looked { log_id, segments, shown, .. } = found;
        let view = View {
            storage,
            log_id,
            mode,
            segments: RwLock::new(segments),
            shown: shown.into(),
            tip: Mutex::new(tip),
            watchers: Mutex::default(),
            poller: Mutex::default(),
        };
        if looks {
            view.look()?;
        }
        Ok(view)
    }

    /// The last checkpoint that may be shown; 0 if there is none.
    pub(crate) fn checkpoint(&self) -> u64 {
        let shown = self.shown.load(Ordering::Acquire);
        self.tip.lock().checkpoints.iter().rev().find(|lsn| **lsn < shown).copied().unwrap_or(0)
    }

    /// Looks how far the log is durable now.
    pub(crate) fn look(&self) -> Result<u64> {
        let mut tip = self.tip.lock();
        let marks = match read_marks(&*self.storage) {
            Err(e) if missing(&e) => Vec::new(),
            marks => marks?,
        };
        let ours = marks.iter().filter(|mark| mark.log_id == self.log_id);
        let marked = ours.map(Mark::said).reduce(Said::max);
        // Without a MARK of ours the log may be gone: its files are open here all the same.
        let (is_marked, marked) = (marked.is_some(), marked.unwrap_or_default());
        let goes_on = match self.newest().filter(|newest| newest.base >= marked.front) {
            Some(newest) => (is_marked || self.is_there(&newest)?) && self.go_on(&mut tip, newest, marked)?,
            None => false,
        };
        if !goes_on {
            self.look_anew(&mut tip)?;
            tip.unreached = marked.shown;
            if let Some(newest) = self.newest() {
                self.go_on(&mut tip, newest, marked)?;
            }
        }
        let now = marked.shown.max(tip.claim).min(tip.end);
        let now = self.shown.fetch_max(now, Ordering::AcqRel).max(now);
        while tip.checkpoints.get(1).is_some_and(|next| *next < now) {
            tip.checkpoints.pop_front();
        }
        let mut segments = self.segments.write();
        while segments.len() > 1 && segments.front().is_some_and(|first| first.base < marked.front) {
            segments.pop_front();
        }
        Ok(now)
    }

    /// Reads on in the newest segment that is known, and in those that were begun since. `false` if the directory is to be
    /// looked at anew: what is known to be durable is not there, and was cleaned, or has not come for `STUCK` looks.
    fn go_on(&self, tip: &mut Tip, mut newest: Arc<Segment>, marked: Said) -> Result<bool> {
        loop {
            let moved = tip.read_on(self, &newest)?;
            tip.idle = if moved { 0 } else { tip.idle.saturating_add(1) };
            let lists = tip.idle > 0 && tip.idle.is_multiple_of(IDLE_LOOKS);
            // Of what a power cut took after it was let out MARK says no more until a writer says more.
            let shown = if marked.shown == tip.unreached { 0 } else { marked.shown };
            let durable = tip.claim.max(marked.synced);
            let known = durable.max(shown);
            if known <= tip.end && !lists {
                return Ok(true);
            }
            let Some((next, seal)) = self.successor(&newest, durable, shown, tip.end)? else {
                // It may have been cleaned since MARK was read, and what comes next with it.
                let is_cleaned = known > tip.end && front(&*self.storage, Some(self.log_id))? > newest.base;
                return Ok(known <= tip.end || !is_cleaned && tip.idle < STUCK);
            };
            newest.seal(seal);
            // What was read beyond was cut off.
            tip.checkpoints.retain(|lsn| *lsn < seal.end);
            newest = Arc::new(next);
            self.segments.write().push_back(Arc::clone(&newest));
            tip.offset = u64::from(BLOCK);
        }
    }

    /// Whether the directory still holds this segment, as this log's.
    fn is_there(&self, segment: &Segment) -> Result<bool> {
        match find(&*self.storage, segment.name.clone(), segment.base, false, Bugs::default()) {
            Err(e) if missing(&e) => Ok(false),
            found => Ok(found?.header.is_ok_and(|(header, _)| header.log_id == self.log_id)),
        }
    }

    /// Begins anew with all that lies in the directory: nothing that was known is left, or what is known is not there.
    fn look_anew(&self, tip: &mut Tip) -> Result<()> {
        let found = match Looked::at(&self.storage, self.mode, Bugs::default()) {
            // MARK is made anew where it could not be made whole, before there is a segment.
            Err(e) if *e.kind() == ErrorKind::NotFound && tip.end == 0 && self.storage.list().is_ok() => return Ok(()),
            found => found?,
        };
        if found.log_id != self.log_id {
            let message = "the log is gone, and another is in its place: open that; nothing was changed";
            return Err(Error::new(ErrorKind::NotFound, "look at", message).at(self.storage.path(), None));
        }
        *tip = Tip::new(&found);
        let Looked { segments, shown, .. } = found;
        *self.segments.write() = segments;
        self.shown.fetch_max(shown, Ordering::AcqRel);
        Ok(())
    }

    fn newest(&self) -> Option<Arc<Segment>> {
        self.segments.read().back().cloned()
    }

    /// The segment after `newest`, once it is known to have durably begun, and how that ended; with no more than `shown`
    /// to say so, once everything before it was read. Several may link to `newest`: the highest is the log's, and those
    /// below were cut off before it was begun.
    fn successor(&self, newest: &Segment, durable: u64, shown: u64, read: u64) -> Result<Option<(Segment, Seal)>> {
        let listed = self.storage.list().map_err(|e| Error::io("list", self.storage.path(), e))?;
        let names = listed.into_iter().filter_map(|(name, plain)| name.into_string().ok().filter(|_| plain));
        let mut names: Vec<_> = names.filter_map(|name| Some((segment_base(&name)?, name))).collect();
        names.retain(|(base, _)| *base > newest.base);
        names.sort();
        for (base, name) in names.into_iter().rev() {
            let found = match find(&*self.storage, name, base, false, Bugs::default()) {
                Err(e) if missing(&e) => continue,
                found => found?,
            };
            let (Ok((header, _)), Some((link, _)), Some(place)) =
                (&found.header, &found.link, found.place(Bugs::default()))
            else {
                continue;
            };
            // The seed is made of the log's identity too.
            if (link.prev_base, link.prev_seed) != (newest.base, newest.seed) {
                continue;
            }
            let seal = link.seal();
            let mut begun = Tip { offset: u64::from(BLOCK), ..Tip::default() };
            begun.frames(&*found.file, &place).map_err(|e| self.error(&found.name, e))?;
            let is_let_out = shown > base && seal.end <= read;
            if durable.max(begun.claim) <= base && !is_let_out {
                return Ok(None);
            }
            let capacity = header.capacity;
            return Ok(Some((Segment::unsealed(found, place.seed, capacity), seal)));
        }
        Ok(None)
    }

    fn error(&self, name: &str, e: std::io::Error) -> Error {
        Error::io("read", self.storage.path().join(name), e)
    }

    /// Looks again and again while somebody waits, and wakes who has something to see, an error too.
    fn poll(&self) -> Next {
        if self.watchers.lock().is_empty() {
            return Next::Idle(None);
        }
        // Whoever is woken for an error or a panic meets it by looking.
        let looked = catch_unwind(AssertUnwindSafe(|| self.look()));
        let shown = looked.ok().and_then(Result::ok).unwrap_or(u64::MAX);
        let mut watchers = self.watchers.lock();
        let (due, waiting) = std::mem::take(&mut *watchers).into_iter().partition(|(_, (seen, _))| shown > *seen);
        *watchers = waiting;
        drop(watchers);
        let due: BTreeMap<u64, (u64, Waker)> = due;
        drop(Wakers(due.into_iter().map(|(id, (_, waker))| (id, waker)).collect()));
        Next::Idle(Some(LOOK))
    }

    /// Has somebody look on behalf of those who wait.
    fn start(self: &Arc<Self>) -> Result<()> {
        let mut poller = self.poller.lock();
        if poller.is_none() {
            let weak: Weak<View> = Arc::downgrade(self);
            let step = move || weak.upgrade().map_or(Next::Stop, |view| view.poll());
            let started = self.storage.background("seawall-look", Box::new(step));
            *poller = Some(started.map_err(|e| Error::io("start a thread for", self.storage.path(), e))?);
        }
        if let Some(poller) = &*poller {
            poller.wake();
        }
        Ok(())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(poller) = &*self.poller.lock() {
            poller.wake();
        }
    }
}

impl Tip {
    fn new(found: &Looked) -> Tip {
        let Looked { segments, shown, checkpoint, more_checkpoints, .. } = found;
        let first = u64::from(BLOCK);
        let read = segments.back().map_or(0, |newest| shown.saturating_sub(newest.base));
        let offset = if *more_checkpoints { first } else { read.max(first) };
        let checkpoints = VecDeque::from_iter((*checkpoint > 0).then_some(*checkpoint));
        Tip { offset, end: *shown, checkpoints, ..Tip::default() }
    }

    /// Reads on in the newest segment; tells whether a batch was found.
    fn read_on(&mut self, view: &View, newest: &Segment) -> Result<bool> {
        let place = Place { base: newest.base, seed: newest.seed, limit: newest.capacity };
        self.frames(&*newest.file, &place).map_err(|e| view.error(&newest.name, e))
    }

    fn frames(&mut self, file: &dyn File, place: &Place) -> io::Result<bool> {
        let before = self.end;
        // Most often there is nothing more: that is seen by a frame's header alone.
        let mut head = [0; FRAME as usize];
        let filled = read_full(file, &mut head, self.offset)?;
        let short = u32::try_from(self.offset).unwrap_or(u32::MAX);
        if filled < head.len() || FrameHeader::decode(&head, place.seed, short).is_none() {
            return Ok(false);
        }
        let mut chunk = Chunk::default();
        let mut window = Window::new(file, place.limit, &mut chunk);
        while let Some(header) = frame_at(&mut window, place, self.offset, Bugs::default())? {
            let lsn = place.base + self.offset;
            self.claim = self.claim.max(header.claim(lsn).unwrap_or(0));
            if header.kind == Some(FrameKind::Checkpoint) && self.checkpoints.back().is_none_or(|last| *last < lsn) {
                self.checkpoints.push_back(lsn);
            }
            self.offset += frame_size(u64::from(header.length));
            if !header.more {
                self.end = place.base + self.offset;
            }
        }
        Ok(self.end > before)
    }
}

impl Segments for Arc<View> {
    fn shown(&self) -> u64 {
        self.shown.load(Ordering::Acquire)
    }

    fn segments(&self) -> RwLockReadGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.read()
    }

    fn mapped_below(&self) -> u64 {
        0
    }

    fn path(&self, name: &str) -> PathBuf {
        self.storage.path().join(name)
    }

    fn taken_away(&self, base: u64) -> Result<Option<u64>> {
        let now = survey_beside(&*self.storage)?;
        let gone = base < now.front || now.segments.iter().all(|found| found.base != base);
        Ok(gone.then_some(now.front))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn look(&self) -> Result<u64> {
        View::look(self)
    }

    fn watch(&self, id: u64, seen: u64, waker: &Waker) -> Result<bool> {
        // Whoever looks on behalf of those who wait may have looked before this one did.
        if self.shown() > seen {
            return Ok(false);
        }
        let waker = waker.clone();
        let replaced = self.watchers.lock().insert(id, (seen, waker));
        drop(replaced);
        self.start()?;
        Ok(true)
    }

    fn forget(&self, id: u64) {
        let forgotten = self.watchers.lock().remove(&id);
        drop(forgotten);
    }
}
