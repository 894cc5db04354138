//! An open log: how it is opened out of what recovery found, what is shared with tickets, readers and background
//! work, and how it is closed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::task::Waker;

use crate::append::ended_early;
use crate::bugs::Bug;
use crate::check::refused;
use crate::commit::InHand;
use crate::error::{Error, ErrorKind, Result};
use crate::events;
use crate::format::{CAPACITY, MARK_LEN};
use crate::framing::Framing;
use crate::maker::{Maker, move_aside};
use crate::mark::MarkFile;
use crate::options::Options;
use crate::pieces::PIECE;
use crate::read::Segments;
use crate::recovery::{Recovered, Recovery, durably, recover};
use crate::segment::{Failed, Segment, is_filled};
use crate::storage::{Gate, Next, Storage, lock_error, not_found};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, RwLockReadGuard};
use crate::writer::{Writer, closed};

/// What tickets, readers and background work share.
pub(crate) struct Log {
    pub(crate) writer: Writer,
    pub(crate) recovery: Recovery,
    pub(crate) log_id: [u8; 16],
    closed: AtomicBool,
    closing: Mutex<Lock>,
}

/// The directory's lock; `None` once it was let go.
type Lock = Option<Box<dyn Send + Sync>>;

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("path", &self.writer.storage.path()).finish_non_exhaustive()
    }
}

impl Log {
    /// See [`Wal::open`](crate::Wal::open).
    pub(crate) fn open(storage: Arc<dyn Storage>, options: Options) -> Result<Arc<Log>> {
        check(&options)?;
        let storage: Arc<dyn Storage> = Arc::new(Gate::new(storage));
        let begun = storage.now();
        if options.create {
            storage.create_dir().map_err(|e| Error::io("create", storage.path(), e))?;
        }
        let lock = storage.lock().map_err(|e| lock_error(&*storage, e))?;
        let look = || {
            let recovered = recover(&*storage, options.recovery_mode, true, u64::MAX, options.bugs);
            let recovered = recovered.map_err(|e| refused(&storage, e).unwrap_or_else(|told| told))?;
            if recovered.log_id.is_none() && !options.create {
                return Err(not_found(&*storage));
            }
            Ok(recovered)
        };
        let mut recovered = durably(&*storage, look, options.bugs)?;
        let log_id = match recovered.log_id {
            Some(id) => id,
            None => new_log_id(&*storage)?,
        };
        let mut recovery = std::mem::take(&mut recovered.report);
        // Nobody has the log yet: what failed is told, and not that it poisoned it.
        let writer = take_over(storage, options, recovered, log_id, &mut recovery.notes).map_err(Error::unpoisoned)?;
        recovery.elapsed = writer.storage.now().saturating_sub(begun);
        let closing = Mutex::new(Some(lock));
        let log = Arc::new(Log { writer, recovery, log_id, closed: AtomicBool::new(false), closing });
        start(&log).inspect_err(|_| log.writer.stop())?;
        events::opened(log.writer.storage.path(), &log.recovery);
        Ok(log)
    }

    /// See [`Wal::close`](crate::Wal::close).
    pub(crate) fn close(&self) -> Result<()> {
        // Taken out: a waker that closes as well, or ends the thread that does, is not to wait for itself.
        let Some(lock) = self.closing.lock().take() else { return Ok(()) };
        let ending = Ending { log: self, _lock: lock };
        let writer = &self.writer;
        // Whoever panics here leaves what is not drained: poisoned before the lock goes, nobody else writes it.
        let _in_hand = InHand::new(&writer.commit);
        writer.note_owed();
        writer.framing.lock().closed = true;
        let drained = writer.drain();
        writer.stop();
        writer.end(&drained);
        let closed = drained.and_then(|()| writer.settle());
        // Crash: the lock goes last, once nothing works on the directory: the next writer finds everything synced.
        drop(ending);
        writer.tell_begun();
        events::closed(writer.storage.path(), &closed);
        closed
    }
}

/// However closing ends, nothing works on the directory once the lock is let go, which is last.
struct Ending<'a> {
    log: &'a Log,
    _lock: Box<dyn Send + Sync>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.log.writer.stop();
        *self.log.writer.ended.write() = true;
        self.log.closed.store(true, Ordering::Release);
        self.log.writer.commit.wake_watchers();
    }
}

impl Segments for Log {
    fn shown(&self) -> u64 {
        self.writer.commit.acknowledged()
    }

    fn segments(&self) -> RwLockReadGuard<'_, VecDeque<Arc<Segment>>> {
        self.writer.segments.read()
    }

    fn mapped_below(&self) -> u64 {
        self.writer.commit.synced()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.writer.storage.path().join(name)
    }

    fn taken_away(&self, _: u64) -> Result<Option<u64>> {
        // Whoever reads holds the segment, and what is held is not recycled.
        Ok(None)
    }

    fn check(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    fn look(&self) -> Result<u64> {
        self.check()?;
        Ok(self.shown())
    }

    fn watch(&self, id: u64, seen: u64, waker: &Waker) -> Result<bool> {
        let watched = self.writer.commit.watch(id, seen, waker)?;
        // Whoever closes wakes those that it finds.
        self.check()?;
        Ok(watched)
    }

    fn forget(&self, id: u64) {
        self.writer.commit.forget(id);
    }
}

fn check(options: &Options) -> Result<()> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Invalid, "open", message));
    let size = options.segment_size;
    if !CAPACITY.contains(&size) || !size.is_multiple_of(4096) {
        return refuse(format!("segment_size is {size}; 16 KiB to 1 GiB are possible, in multiples of 4 KiB"));
    }
    if options.max_buffered_bytes < 2 * PIECE {
        return refuse(format!(
            "max_buffered_bytes is {}, at least {} are needed",
            options.max_buffered_bytes,
            2 * PIECE
        ));
    }
    if let Some(bytes) = options.max_disk_bytes.filter(|bytes| *bytes < 4 * size) {
        return refuse(format!("max_disk_bytes is {bytes}, at least four segments of {size} are needed"));
    }
    Ok(())
}

fn new_log_id(storage: &dyn Storage) -> Result<[u8; 16]> {
    let mut id = [0; 16];
    storage.random(&mut id).map_err(|e| Error::io("draw an id for", storage.path(), e))?;
    Ok(id)
}

/// The writing half, going on from where recovery ended. Clears away what an earlier life left and nobody needs, and notes
/// what stays.
fn take_over(
    storage: Arc<dyn Storage>,
    options: Options,
    recovered: Recovered,
    log_id: [u8; 16],
    notes: &mut Vec<String>,
) -> Result<Writer> {
    let bugs = options.bugs;
    let framing = Framing::new(&recovered, bugs);
    let Options { segment_size, max_disk_bytes, .. } = options;
    let Recovered { mark, foreign_mark, front, segments, end, proven, ceiling, voids, spares, unfinished, .. } =
        recovered;
    let segments: VecDeque<_> = segments.into_iter().map(|sealed| Arc::new(Segment::found(sealed))).collect();
    let lengths = segments.iter().map(|segment| segment.length()).chain(voids.iter().map(|void| void.length));
    let disk_bytes = lengths.sum::<u64>() + MARK_LEN;
    let maker = Maker::new(log_id, segment_size, max_disk_bytes, ceiling, disk_bytes, voids, bugs);
    if !bugs.has(Bug::NewFileReused) {
        notes.extend(unfinished.into_iter().filter_map(|name| clear_unfinished(&maker, &*storage, name)));
    }
    // A MARK beside no segment may never have reached the disk; it is made again before there is one.
    let mark = MarkFile::open(&*storage, log_id, mark, !segments.is_empty(), foreign_mark)?;
    let newest = segments.back().map(|segment| segment.base);
    // Recovery has written all that it serves again: the links are durable, and no later one comes to an end below them.
    let is_linked = !bugs.has(Bug::NoRewrite);
    for segment in segments.iter().filter(|segment| ended_early(segment)) {
        if Some(segment.base) == newest {
            maker.cut_newest_later(Arc::clone(segment));
        } else if is_linked && maker.trim(segment) {
            // Crash: no sooner than the link above it is durable, or the next recovery would miss the bytes. Synced, for a
            // power cut would undo it in each life that only opens.
            segment.file.sync().map_err(|e| Error::io("sync", storage.path().join(&segment.name), e))?;
        }
    }
    let writer = Writer::new(storage, options, framing, maker, mark, segments);
    debug_assert_eq!(writer.commit.synced(), end);
    if bugs.has(Bug::TidyBeforeLink) {
        writer.maker.begin_life(0);
    }
    if let Some(cut) = writer.segments.read().back().filter(|_| bugs.has(Bug::TrimBeforeLink)) {
        writer.maker.trim_later(Arc::clone(cut), 0);
    }
    if let Some(tip) = newest.filter(|_| is_linked) {
        // Crash: no sooner than the newest link is durable, as with those that ended early.
        match writer.maker.clear_below(&*writer.storage, tip) {
            // What cannot be moved stays and is tried again.
            Err(Failed::Refused(_)) | Ok(()) => {}
            Err(failed) => return Err(writer.poison_unsynced(failed)),
        }
    }
    writer.maker.shrink_voids(&*writer.storage);
    notes.extend(vouch(&writer, proven < end && !foreign_mark, if front > 0 { spares } else { Vec::new() })?);
    writer.tidy()?;
    Ok(writer)
}

/// Has MARK say that all below the end is durable, where nothing said it of all (`unproven`), and removes what lies below
/// the front. Another log's MARK stays in its place until it is needed: for these, for a segment, or at close. Tells what
/// stays of them.
fn vouch(writer: &Writer, unproven: bool, spares: Vec<String>) -> Result<Vec<String>> {
    if !unproven && spares.is_empty() {
        return Ok(Vec::new());
    }
    match writer.mark.ensure(&*writer.storage) {
        // A MARK that is missing or another's cannot be made on a full disk: a later open makes it.
        Err(Failed::Refused(e)) if *e.kind() == ErrorKind::DiskFull => Ok(Vec::new()),
        made => {
            made.map_err(|failed| writer.poison_unsynced(failed))?;
            // Crash: recovery has written again and synced what is about to be shown. Unless MARK says so, damage to it
            // would pass for a torn tail. Nothing is removed on the word of what may be in the cache alone: MARK
            // is durable here and so are the chain's links, but the front may be told by the link of a segment that was cut
            // off, beside a MARK that was made just now.
            writer.write_mark(!spares.is_empty())?;
            Ok(writer.maker.remove_spares(&*writer.storage, spares))
        }
    }
}

/// Removes what a maker left unfinished, and moves aside what only has such a name, as a repair does. What cannot be read
/// or renamed stays: a sound segment may be in it. Says so.
fn clear_unfinished(maker: &Maker, storage: &dyn Storage, name: String) -> Option<String> {
    let told = match is_filled(storage, &name) {
        // Never used again: a sync on it may have failed.
        Ok(false) => return maker.remove_left(storage, name),
        // Crash: not synced, for if it comes back it is moved again.
        Ok(true) => move_aside(storage, &name).map(|aside| format!("moved to {aside}")),
        Err(e) => Err(e),
    };
    let told = told.unwrap_or_else(|e| {
        maker.count(storage, &name);
        format!("left alone: {e}")
    });
    Some(format!("{name}: not left by the making of a segment, {told}"))
}

/// Starts the background work. It holds the log weakly, so that dropping the log ends it.
fn start(log: &Arc<Log>) -> Result<()> {
    let storage = &log.writer.storage;
    let failed = |e| Error::io("start a thread for", storage.path(), e);
    let weak: Weak<Log> = Arc::downgrade(log);
    let mut since = None;
    let syncer = move || match weak.upgrade().filter(|log| !log.writer.stopping.load(Ordering::Acquire)) {
        Some(log) => {
            let _in_hand = InHand::new(&log.writer.commit);
            Next::Idle(log.writer.syncer_step(&mut since))
        }
        None => Next::Stop,
    };
    let weak: Weak<Log> = Arc::downgrade(log);
    let making = move || match weak.upgrade().filter(|log| !log.writer.stopping.load(Ordering::Acquire)) {
        Some(log) => {
            let _in_hand = InHand::new(&log.writer.commit);
            log.writer.maker_step();
            Next::Idle(None)
        }
        None => Next::Stop,
    };
    let syncer = storage.background("seawall-sync", Box::new(syncer)).map_err(failed)?;
    _ = log.writer.syncer.set(syncer);
    let making = storage.background("seawall-make", Box::new(making)).map_err(failed)?;
    _ = log.writer.making.set(making);
    Ok(())
}
