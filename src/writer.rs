//! From memory to the disk: writing pieces under the output lock, syncing as the leader of a commit. The orders and
//! what a crash leaves in each of them stand in `DESIGN.md`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::bugs::{Bug, Bugs};
use crate::commit::{Commit, InHand, Lead, Led};
use crate::error::{Error, ErrorKind, Result, is_full};
use crate::events;
use crate::framing::Framing;
use crate::maker::Maker;
use crate::mark::{LOOK, MarkFile, Said};
use crate::need::Need;
use crate::options::{Durability, Options};
use crate::segment::{Failed, Segment};
use crate::storage::{Background, Storage, is_broken, write_full};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Latch, Mutex, OnceLock, RwLock};
use crate::syncs::{SLOW, Syncs};

/// Everything that writes.
///
/// The order of its locks; whoever holds one takes only later ones: `cleaning`, `ended`, `turn`, `output`, `framing`,
/// `segments`, the maker's `tidying`, MARK's, the maker's state, the storage's gate. Within the others, which are
/// `Commit::state`, `mark_due`, `stalled_since` and that of `syncs`, none is taken.
pub(crate) struct Writer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) commit: Commit,
    pub(crate) maker: Maker,
    pub(crate) mark: MarkFile,
    /// One thread waits for room in memory, the others for their turn.
    pub(crate) turn: Mutex<()>,
    pub(crate) framing: Latch<Framing>,
    output: Mutex<Output>,
    /// The log's segments by base, the active one last.
    pub(crate) segments: RwLock<VecDeque<Arc<Segment>>>,
    /// The writes met a full disk and wait in memory (copy-on-write file systems only: space is taken ahead).
    pub(crate) stalled: AtomicBool,
    /// Since when, by the storage's clock.
    pub(crate) stalled_since: Mutex<Duration>,
    /// The syncer knows that something is to be synced by the interval.
    pub(crate) armed: AtomicBool,
    /// Somebody who may not wait met the bound on what is in memory: the syncer writes it all.
    pub(crate) crowded: AtomicBool,
    /// When MARK is written again though one round without a sync follows another, by the storage's clock.
    mark_due: Mutex<Duration>,
    /// Segments begun below were told as events.
    pub(crate) begun_told: AtomicU64,
    /// One clean at a time.
    pub(crate) cleaning: Mutex<()>,
    /// The background work is to end.
    pub(crate) stopping: AtomicBool,
    /// Read while files are changed apart from a commit. Once it is `true` the directory may be another writer's, and all was
    /// drained or the log is poisoned.
    pub(crate) ended: RwLock<bool>,
    pub(crate) syncer: OnceLock<Box<dyn Background>>,
    pub(crate) making: OnceLock<Box<dyn Background>>,
    pub(crate) syncs: Syncs,
    pub(crate) written_bytes: AtomicU64,
}

/// What has been written and not synced.
#[derive(Debug, Default)]
struct Output {
    /// Segments written since the last sync, oldest first, and the bytes written into each.
    dirty: Vec<(Arc<Segment>, u64)>,
}

/// From so many bytes a sync on, writing a segment once ahead takes longer than the first write into it does later.
const LARGE: u64 = 1 << 20;

impl Writer {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        options: Options,
        framing: Framing,
        maker: Maker,
        mark: MarkFile,
        segments: VecDeque<Arc<Segment>>,
    ) -> Writer {
        Writer {
            commit: Commit::new(framing.end).without(options.bugs),
            begun_told: AtomicU64::new(framing.end),
            storage,
            options,
            maker,
            mark,
            turn: Mutex::default(),
            framing: Latch::new(framing),
            output: Mutex::default(),
            segments: RwLock::new(segments),
            stalled: AtomicBool::new(false),
            stalled_since: Mutex::default(),
            armed: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            mark_due: Mutex::default(),
            cleaning: Mutex::default(),
            stopping: AtomicBool::new(false),
            ended: RwLock::new(false),
            syncer: OnceLock::new(),
            making: OnceLock::new(),
            syncs: Syncs::default(),
            written_bytes: AtomicU64::new(0),
        }
    }

    fn bugs(&self) -> Bugs {
        self.options.bugs
    }

    /// Makes sure that there is a segment for this need; `ahead` of it: nobody needs it yet.
    pub(crate) fn make_segment(&self, need: Need, ahead: bool) -> Result<()> {
        let made = self.try_make_segment(need, ahead).map_err(|e| e.noting("nothing was appended"));
        match &made {
            Ok(()) => {
                if let Some(since) = self.maker.made() {
                    events::appends_resumed(self.storage.path(), self.storage.now().saturating_sub(since));
                }
            }
            Err(e) if !ahead => {
                if self.maker.refuse(e.clone(), self.storage.now()) {
                    events::appends_refused(self.storage.path(), e);
                }
            }
            Err(_) => {}
        }
        made
    }

    fn try_make_segment(&self, need: Need, ahead: bool) -> Result<()> {
        let _hush = self.commit.hush();
        let ended = self.ended.read();
        if *ended {
            return Err(closed());
        }
        self.sound()?;
        let written = ahead && self.syncs.mean(self.written_bytes.load(Ordering::Relaxed)) < LARGE;
        // Crash: a segment without a MARK beside it would be a log whose MARK was removed.
        let made = self.mark.ensure(&*self.storage);
        let made = made.and_then(|()| self.maker.ensure(&*self.storage, need, written, self.pinned()));
        made.map_err(|failed| self.poison_unsynced(failed))
    }

    /// Whether the last durable checkpoint, or that there is none, keeps the first segment.
    fn pinned(&self) -> bool {
        let checkpoint = self.framing.lock().checkpoint_below(self.commit.synced());
        let segments = self.segments.read();
        let first = segments.front().and_then(|first| first.sealed());
        first.is_none_or(|seal| checkpoint < seal.end)
    }

    /// The error of what failed, and poison where that was the directory's sync: a file that could not be made is no failure
    /// of the log.
    pub(crate) fn poison_unsynced(&self, failed: Failed) -> Error {
        match failed {
            // Refused because another thread could not sync the directory, which it may not have told yet.
            Failed::Refused(e) if e.system().is_some_and(is_broken) => self.fail(&e),
            Failed::Refused(e) => e,
            Failed::Unsynced(e) => self.fail(&e),
        }
    }

    /// Writes the full pieces, or all; `false` when the disk is full. `collected` is told beforehand up to where anything
    /// was framed.
    pub(crate) fn write_out(&self, current_too: bool, collected: impl FnOnce(u64)) -> Result<bool> {
        let _hush = self.commit.hush();
        let mut output = self.output.lock();
        let (mut pieces, target) = {
            let mut framing = self.framing.lock();
            if current_too {
                framing.pieces.turn();
            }
            (std::mem::take(&mut framing.pieces.full), framing.end)
        };
        collected(target);
        // Let go of before the output lock, so that nobody writes after a piece that is lost.
        let _in_hand = InHand::new(&self.commit);
        loop {
            // A failure between two writes leaves the later bytes unwritten, and what follows must not be written.
            self.sound()?;
            let Some(piece) = pieces.pop_front() else { break };
            match write_full(&*piece.segment.file, piece.bytes(), piece.offset) {
                Ok(()) => {
                    let bytes = piece.bytes().len() as u64;
                    self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
                    match output.dirty.last_mut().filter(|(last, _)| last.base == piece.segment.base) {
                        Some((_, written)) => *written += bytes,
                        None => output.dirty.push((Arc::clone(&piece.segment), bytes)),
                    }
                    let spent = self.framing.lock().pieces.written(piece);
                    drop(spent);
                }
                Err(e) if is_full(&e) => {
                    let e = Error::io("write", self.storage.path().join(&piece.segment.name), e);
                    // Nothing that has an LSN is rolled back: the same write is tried again later.
                    pieces.push_front(piece);
                    let mut framing = self.framing.lock();
                    while let Some(piece) = pieces.pop_back() {
                        framing.pieces.full.push_front(piece);
                    }
                    drop(framing);
                    if !self.stalled.load(Ordering::Relaxed) {
                        *self.stalled_since.lock() = self.storage.now();
                        self.stalled.store(true, Ordering::Release);
                        // Whoever met it may not wait for anything: the syncer tries again, at its pace from then on.
                        self.wake_syncer();
                        events::appends_refused(self.storage.path(), &e);
                    }
                    return Ok(self.bugs().has(Bug::FullTakenAsWritten));
                }
                Err(e) => {
                    let path = self.storage.path().join(&piece.segment.name);
                    return Err(self.fail(&Error::io("write", &path, e).at(path, piece.offset)));
                }
            }
        }
        if self.stalled.load(Ordering::Relaxed) {
            self.stalled.store(false, Ordering::Relaxed);
            let since = *self.stalled_since.lock();
            events::appends_resumed(self.storage.path(), self.storage.now().saturating_sub(since));
        }
        Ok(true)
    }

    /// Syncs the segments written since the last sync, oldest first.
    fn sync_dirty(&self) -> Result<()> {
        let Output { mut dirty } = std::mem::take(&mut *self.output.lock());
        if self.bugs().has(Bug::OnlyNewestSynced) {
            dirty.drain(..dirty.len().saturating_sub(1));
        }
        // Crash: oldest first, so that a link is never proven before what it seals.
        for (segment, bytes) in dirty {
            self.sound()?;
            self.syncs.begin(self.storage.now());
            let mut synced = segment.file.sync();
            if self.bugs().has(Bug::RetryFailedSync) && synced.is_err() {
                synced = segment.file.sync();
            }
            synced.map_err(|e| Error::io("sync", self.storage.path().join(&segment.name), e))?;
            let took = self.syncs.end(self.storage.now(), bytes);
            if took >= SLOW {
                events::sync_slow(self.storage.path(), &segment.name, bytes, took);
            }
        }
        Ok(())
    }

    /// Waits until everything below `end` is acknowledged, leading whenever nobody does.
    #[inline]
    pub(crate) fn wait(&self, end: u64) -> Result<()> {
        let sync = self.options.durability == Durability::Disk;
        self.commit.wait(end, |commit| commit.acknowledged() >= end, &Leader { writer: self, sync })
    }

    /// Syncs all that was appended so far, whatever the durability.
    pub(crate) fn sync(&self) -> Result<u64> {
        self.sound()?;
        let end = self.framing.lock().end;
        self.commit.wait(end, |commit| commit.synced() >= end, &Leader { writer: self, sync: true })?;
        Ok(end)
    }

    /// The error that ended all writing, if anything did.
    pub(crate) fn sound(&self) -> Result<()> {
        self.commit.poison().map_or(Ok(()), Err)
    }

    /// Poisons the log.
    pub(crate) fn fail(&self, error: &Error) -> Error {
        self.commit.fail(error)
    }

    /// Trims and clears away what a durable link has made superfluous.
    pub(crate) fn tidy(&self) -> Result<()> {
        self.sound()?;
        let synced = self.commit.synced();
        if self.maker.untidy(synced) {
            self.maker.tidy(&*self.storage, synced).map_err(|e| self.fail(&e))?;
        }
        Ok(())
    }

    /// Syncs all that was appended so far, unless the disk is full: `false`. It does not wait for room.
    pub(crate) fn sync_once(&self) -> Result<bool> {
        self.sound()?;
        let end = self.framing.lock().end;
        let once = Once { leader: Leader { writer: self, sync: true }, full: AtomicBool::new(false) };
        let reached = |commit: &Commit| commit.synced() >= end || once.full.load(Ordering::Relaxed);
        self.commit.wait(end, reached, &once)?;
        Ok(self.commit.synced() >= end)
    }

    /// Commits all, for closing.
    pub(crate) fn drain(&self) -> Result<()> {
        if self.bugs().has(Bug::CloseUnsynced) || self.sync_once()? {
            return Ok(());
        }
        let message = "the disk is full: what was appended last is in memory only and is lost with it";
        Err(Error::new(ErrorKind::DiskFull, "close", message))
    }

    /// Waits until nobody changes files any more, and nobody will. After a failure to drain what is left in memory
    /// must never be written: whoever waits for it is told so.
    pub(crate) fn end(&self, drained: &Result<()>) {
        if let Err(e) = drained {
            self.fail(e);
            drop(self.output.lock());
        }
        *self.ended.write() = true;
    }

    /// With everything synced and nobody else at work: says so, and gives unused space back.
    pub(crate) fn settle(&self) -> Result<()> {
        self.tidy()?;
        let synced = self.commit.synced();
        if self.mark.said().synced < synced {
            self.mark.ensure(&*self.storage).map_err(|failed| self.poison_unsynced(failed))?;
        }
        let tip = self.framing.lock().tip();
        if let Some((segment, end)) = tip.as_ref().filter(|_| self.bugs().has(Bug::TrimBeforeMark)) {
            _ = segment.file.set_len(*end);
        }
        // Crash: a segment shorter than it was made is damage, unless MARK says durably that the log ended there.
        self.write_mark(true)?;
        // In the other slot too, for what rots of a log that is closed takes one. Crash: the first is synced before that is
        // written over.
        self.write_mark(true)?;
        if let Some((segment, end)) = tip {
            self.maker.cut(&segment, end);
        }
        self.maker.shrink_prepared();
        Ok(())
    }

    /// Whether MARK is to be written after a round that synced nothing. `awaited`: another follows at once; then it is at a
    /// pace.
    fn mark_is_due(&self, awaited: bool) -> bool {
        let now = self.storage.now();
        let mut next = self.mark_due.lock();
        let due = !awaited || now >= *next;
        if due {
            *next = now.saturating_add(LOOK);
        }
        due
    }

    /// Says in MARK what is durable.
    pub(crate) fn write_mark(&self, sync: bool) -> Result<()> {
        // A sync of MARK that failed is never tried again on the same pages.
        self.sound()?;
        let said =
            Said { synced: self.commit.synced(), shown: self.commit.acknowledged(), front: self.framing.lock().front };
        self.mark.write(&*self.storage, said, sync).map_err(|e| self.fail(&e))
    }

    /// Says in MARK that everything below `end` was synced. It stays so whatever becomes of MARK, which may be another
    /// writer's once this one has ended.
    fn tell_synced(&self, end: u64) {
        let ended = self.ended.read();
        if !*ended && self.sound().is_ok() {
            let said = Said { synced: end, shown: end, front: 0 };
            _ = self.mark.write(&*self.storage, said, false).map_err(|e| self.fail(&e));
        }
    }
}

/// The error of everything after `close`.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "use the log", "it was closed")
}

/// Leads a commit: writes all, syncs if asked to, and says so in MARK.
pub(crate) struct Leader<'a> {
    pub(crate) writer: &'a Writer,
    pub(crate) sync: bool,
}

impl Lead for Leader<'_> {
    fn round(&self) -> Result<Led> {
        let writer = self.writer;
        let mut target = 0;
        let collected = |end| {
            writer.commit.aim(end);
            target = end;
        };
        if !writer.write_out(true, collected)? {
            return Ok(Led::Full);
        }
        if writer.bugs().has(Bug::MarkAheadOfSync) {
            let said = Said { synced: target, shown: target, front: 0 };
            _ = writer.mark.write(&*writer.storage, said, false);
        }
        if !self.sync {
            return Ok(Led::Written(target));
        }
        if !writer.bugs().has(Bug::AcknowledgeBeforeSync) {
            writer.sync_dirty()?;
            // Crash: MARK speaks of a sync that has returned, before anybody is told: the frames of the next round, which
            // say it too, may never be written.
            writer.tell_synced(target);
        }
        Ok(Led::Synced(target))
    }

    fn moved(&self, awaited: bool) {
        let writer = self.writer;
        writer.framing.lock().forget_checkpoints(writer.commit.synced(), writer.commit.acknowledged());
        let ended = writer.ended.read();
        if !self.sync && !*ended && writer.mark_is_due(awaited) {
            _ = writer.write_mark(false);
        }
        if writer.bugs().has(Bug::AcknowledgeBeforeSync) {
            _ = writer.sync_dirty();
        }
        if awaited && writer.commit.futures_wait() {
            writer.wake_syncer();
        }
    }
}

/// A leader that remembers whether it met a full disk.
struct Once<'a> {
    leader: Leader<'a>,
    full: AtomicBool,
}

impl Lead for Once<'_> {
    fn round(&self) -> Result<Led> {
        let led = self.leader.round();
        self.full.store(matches!(led, Ok(Led::Full)), Ordering::Relaxed);
        led
    }

    fn moved(&self, awaited: bool) {
        self.leader.moved(awaited);
    }
}
