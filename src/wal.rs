//! The log itself: opening, appending, waiting, reading, cleaning, closing.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use parking_lot::Mutex;

use crate::bugs::Bug;
use crate::clean::{Cleaned, Limit, clean};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{CAPACITY, FrameKind, MARK_LEN, Mark, sum};
use crate::framing::{Batch, Framing, Many, One, PIECE, Parts};
use crate::lsn::{BatchTime, Lsn};
use crate::maker::Maker;
use crate::mark::MarkFile;
use crate::options::Options;
use crate::read::{Records, Segments, get};
use crate::record::Record;
use crate::recovery::{Recovered, Recovery, recover};
use crate::segment::Segment;
use crate::stats::Stats;
use crate::storage::{Next, Storage};
use crate::writer::{Patience, Writer, closed};

/// A write-ahead log in one directory. One writer per directory; everything is `&self`, `Send` and `Sync`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let wal = seawall::Wal::open(dir)?;
/// let lsn = wal.append(b"order 17")?.wait()?;
/// assert_eq!(&wal.get(lsn)?.payload[..], b"order 17");
/// wal.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it closes it, and swallows what `close` would have said. A child of `fork` must not use it.
#[derive(Debug)]
pub struct Wal {
    log: Arc<Log>,
}

/// What tickets, readers and background work share.
struct Log {
    writer: Writer,
    recovery: Recovery,
    log_id: [u8; 16],
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

impl Wal {
    /// Opens the log in the directory `path` with default [`Options`]: durable on disk, made if there is none.
    ///
    /// Takes as long as reading the newest segment and 8 KiB of each other.
    ///
    /// # Errors
    /// `Locked` if another writer has it; `Damage` if anything known durable is damaged; `TooNew`; `NotStrict`;
    /// `NotFound` if there is no log and creation is off; `Invalid` for options out of range; `Io`, `DiskFull`.
    /// Nothing was changed then.
    pub fn open(path: impl AsRef<Path>) -> Result<Wal> {
        Options::new().open(path)
    }

    pub(crate) fn with(storage: Arc<dyn Storage>, options: Options) -> Result<Wal> {
        check(&options)?;
        if options.create {
            storage.create_dir().map_err(|e| Error::io("create", storage.path(), e))?;
        }
        let lock = storage.lock().map_err(|e| lock_error(&*storage, e))?;
        let mut recovered = recover(&*storage, options.recovery_mode, true, options.bugs)?;
        if recovered.log_id.is_none() && !options.create {
            return Err(not_found(&*storage));
        }
        recovered.make_durable(&*storage, options.bugs)?;
        let log_id = match recovered.log_id {
            Some(id) => id,
            None => new_log_id(&*storage)?,
        };
        let recovery = std::mem::take(&mut recovered.report);
        let writer = writer(storage, options, recovered, log_id)?;
        let closing = Mutex::new(Some(lock));
        let log = Arc::new(Log { writer, recovery, log_id, closed: AtomicBool::new(false), closing });
        start(&log)?;
        Ok(Wal { log })
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.log.recovery
    }

    /// Appends one record under the highest batch time so far.
    ///
    /// Copies the payload and returns; the record is durable once the ticket says so. Waits only while
    /// [`max_buffered_bytes`](Options::max_buffered_bytes) are in memory, or for the next segment.
    ///
    /// # Errors
    /// `DiskFull`, `LogFull`, `TooLarge`: nothing was appended. `Poisoned`, `Closed`.
    #[inline]
    pub fn append(&self, payload: &[u8]) -> Result<Ticket> {
        self.push(FrameKind::Record, &One(payload, sum(payload)), None, Patience::Wait)
    }

    /// Appends one record gathered from slices.
    ///
    /// # Errors
    /// As [`append`](Wal::append).
    pub fn append_parts(&self, parts: &[&[u8]]) -> Result<Ticket> {
        self.push(FrameKind::Record, &Parts::new(parts), None, Patience::Wait)
    }

    /// Appends several records, which survive all or none. The ticket gives the LSN of the last.
    ///
    /// # Errors
    /// As [`append`](Wal::append); `Invalid` for no record at all.
    pub fn append_batch<T: AsRef<[u8]>>(&self, payloads: &[T]) -> Result<Ticket> {
        self.push(FrameKind::Record, &Many::new(payloads), None, Patience::Wait)
    }

    /// Appends a snapshot of the caller's state. The last durable one is given by
    /// [`checkpoint`](Wal::checkpoint), and cleaning never passes it.
    ///
    /// # Errors
    /// As [`append`](Wal::append); a segment is held back for it, so that a full log can still say where it stands.
    pub fn append_checkpoint(&self, snapshot: &[u8]) -> Result<Ticket> {
        self.push(FrameKind::Checkpoint, &One(snapshot, sum(snapshot)), None, Patience::Wait)
    }

    /// Appends one record without ever waiting.
    ///
    /// # Errors
    /// `Backpressure` where [`append`](Wal::append) would wait; otherwise as that.
    pub fn try_append(&self, payload: &[u8]) -> Result<Ticket> {
        self.push(FrameKind::Record, &One(payload, sum(payload)), None, Patience::Never)
    }

    /// The same appends under a batch time.
    pub fn at(&self, batch_time: impl Into<BatchTime>) -> At<'_> {
        At { wal: self, time: batch_time.into() }
    }

    #[inline]
    fn push(&self, kind: FrameKind, batch: &impl Batch, time: Option<u64>, patience: Patience) -> Result<Ticket> {
        if batch.count() == 0 {
            return Err(Error::new(ErrorKind::Invalid, "append", "a batch holds at least one record"));
        }
        let framed = self.log.writer.append(kind, batch, time, patience)?;
        Ok(Ticket { log: Arc::clone(&self.log), lsn: Lsn(framed.lsn), end: framed.end })
    }

    /// Syncs all that was appended so far, whatever the durability, and tells up to where.
    ///
    /// # Errors
    /// `Poisoned` if it failed, or anything did before.
    pub fn sync(&self) -> Result<Lsn> {
        self.log.check()?;
        self.log.writer.sync().map(Lsn)
    }

    /// Begins a new segment, unless the newest holds no record.
    ///
    /// # Errors
    /// As [`append`](Wal::append).
    pub fn rotate(&self) -> Result<()> {
        self.log.writer.rotate_now()
    }

    /// Everything below has the durability that the log was opened with.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.log.writer.commit.acknowledged())
    }

    /// The highest batch time so far.
    pub fn batch_time(&self) -> BatchTime {
        BatchTime(self.log.writer.framing.lock().batch_time)
    }

    /// The log's identity: random, made with the log, equal in all its segments.
    pub fn log_id(&self) -> [u8; 16] {
        self.log.log_id
    }

    /// The record at `lsn`.
    ///
    /// # Errors
    /// `NotDurable` above what readers may see; `Removed` below the front; `NoRecord` if none begins there;
    /// `Damage`, `Io`, `Closed`.
    pub fn get(&self, lsn: Lsn) -> Result<Record> {
        get(&*self.log, lsn)
    }

    /// The records of a range, in order: a snapshot of what is durable now, beside appends and cleaning.
    ///
    /// # Errors
    /// `Removed` if the range begins below the front (`Lsn::ZERO` begins at the front); `Io`, `Closed`.
    pub fn read(&self, range: impl RangeBounds<Lsn>) -> Result<Records<'_>> {
        Records::new(&*self.log, range)
    }

    /// The last durable checkpoint.
    ///
    /// # Errors
    /// As [`get`](Wal::get).
    pub fn checkpoint(&self) -> Result<Option<Record>> {
        let writer = &self.log.writer;
        let lsn = writer.framing.lock().checkpoint_below(writer.commit.acknowledged());
        if lsn == 0 { Ok(None) } else { self.get(Lsn(lsn)).map(Some) }
    }

    /// Removes the sealed segments all of whose records are older than `batch_time`, as a prefix of the log.
    ///
    /// Syncs first. Never removes the newest segment, nor the last durable checkpoint or anything after it.
    ///
    /// # Errors
    /// `Poisoned`, `Closed`. Files that could not be removed are told in the answer, and tried again later.
    pub fn clean_before_batch_time(&self, batch_time: impl Into<BatchTime>) -> Result<Cleaned> {
        self.log.check()?;
        clean(&self.log.writer, Limit::BatchTime(batch_time.into()))
    }

    /// Removes the sealed segments all of whose records lie below `lsn`.
    ///
    /// # Errors
    /// As [`clean_before_batch_time`](Wal::clean_before_batch_time).
    pub fn clean_before_lsn(&self, lsn: Lsn) -> Result<Cleaned> {
        self.log.check()?;
        clean(&self.log.writer, Limit::Lsn(lsn))
    }

    /// Figures of this life of the log.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.log.writer)
    }

    /// Syncs everything, says so in MARK, gives unused space back, and lets the lock go. Later calls on the log
    /// answer `Closed`; closing again does no harm.
    ///
    /// # Errors
    /// `Poisoned` if what was appended could not be made durable, `DiskFull` if it waits for room that never
    /// came. The lock is let go all the same.
    pub fn close(&self) -> Result<()> {
        self.log.close()
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        _ = self.log.close();
    }
}

/// Appends under a batch time. From [`Wal::at`].
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    wal: &'a Wal,
    time: BatchTime,
}

impl At<'_> {
    fn push(&self, kind: FrameKind, batch: &impl Batch, patience: Patience) -> Result<Ticket> {
        self.wal.push(kind, batch, Some(self.time.0), patience)
    }

    /// See [`Wal::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, payload: &[u8]) -> Result<Ticket> {
        self.push(FrameKind::Record, &One(payload, sum(payload)), Patience::Wait)
    }

    /// See [`Wal::append_parts`].
    ///
    /// # Errors
    /// As there.
    pub fn append_parts(&self, parts: &[&[u8]]) -> Result<Ticket> {
        self.push(FrameKind::Record, &Parts::new(parts), Patience::Wait)
    }

    /// See [`Wal::append_batch`].
    ///
    /// # Errors
    /// As there.
    pub fn append_batch<T: AsRef<[u8]>>(&self, payloads: &[T]) -> Result<Ticket> {
        self.push(FrameKind::Record, &Many::new(payloads), Patience::Wait)
    }

    /// See [`Wal::append_checkpoint`].
    ///
    /// # Errors
    /// As there.
    pub fn append_checkpoint(&self, snapshot: &[u8]) -> Result<Ticket> {
        self.push(FrameKind::Checkpoint, &One(snapshot, sum(snapshot)), Patience::Wait)
    }

    /// See [`Wal::try_append`].
    ///
    /// # Errors
    /// As there.
    pub fn try_append(&self, payload: &[u8]) -> Result<Ticket> {
        self.push(FrameKind::Record, &One(payload, sum(payload)), Patience::Never)
    }
}

/// A record on its way to be durable. Wait for it, or await it on any executor.
///
/// Dropping it forgets the wait, never the record.
#[derive(Debug)]
#[must_use = "a record is durable only once its ticket says so: wait for it, await it, or drop it knowingly"]
pub struct Ticket {
    log: Arc<Log>,
    lsn: Lsn,
    end: u64,
}

impl Ticket {
    /// Where the record is (the last of a batch). It may not be durable yet.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether waiting would return at once.
    pub fn is_done(&self) -> bool {
        let commit = &self.log.writer.commit;
        commit.acknowledged() >= self.end || commit.is_poisoned()
    }

    /// Waits until the record is durable; leads a commit when nobody does.
    ///
    /// # Errors
    /// `Poisoned`: whether the record survives is unknown.
    #[inline]
    pub fn wait(self) -> Result<Lsn> {
        self.log.writer.wait(self.end)?;
        Ok(self.lsn)
    }
}

impl Future for Ticket {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lsn>> {
        let writer = &self.log.writer;
        match writer.commit.poll(self.end, cx.waker()) {
            Some(done) => Poll::Ready(done.map(|()| self.lsn)),
            None => {
                writer.wake_syncer();
                Poll::Pending
            }
        }
    }
}

impl Log {
    fn close(&self) -> Result<()> {
        let mut lock = self.closing.lock();
        if lock.is_none() {
            return Ok(());
        }
        let writer = &self.writer;
        writer.framing.lock().closed = true;
        let drained = writer.drain();
        writer.stop();
        let closed = drained.and_then(|()| writer.settle());
        self.closed.store(true, Ordering::Release);
        // Crash: everything is synced by now; the next writer finds it so.
        *lock = None;
        closed
    }
}

impl Segments for Log {
    fn shown(&self) -> u64 {
        self.writer.commit.acknowledged()
    }

    fn first(&self) -> u64 {
        self.writer.segments.read().front().map_or_else(|| self.shown(), |segment| segment.base)
    }

    fn below(&self, lsn: u64) -> Option<Arc<Segment>> {
        let segments = self.writer.segments.read();
        let above = segments.partition_point(|segment| segment.base <= lsn);
        above.checked_sub(1).and_then(|index| segments.get(index)).cloned()
    }

    fn after(&self, base: u64) -> Option<Arc<Segment>> {
        let segments = self.writer.segments.read();
        segments.get(segments.partition_point(|segment| segment.base <= base)).cloned()
    }

    fn maps(&self) -> bool {
        true
    }

    fn path(&self, name: &str) -> PathBuf {
        self.writer.storage.path().join(name)
    }

    fn removed(&self, _: u64) -> Result<bool> {
        // Whoever reads holds the segment, and what is held is not recycled.
        Ok(false)
    }

    fn check(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
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

fn lock_error(storage: &dyn Storage, e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::WouldBlock => {
            let message = format!("{} has another writer; end it, or open the log read-only", storage.path().display());
            Error::new(ErrorKind::Locked, "lock", message)
        }
        std::io::ErrorKind::NotFound => not_found(storage),
        _ => Error::io("lock", storage.path(), e),
    }
}

pub(crate) fn not_found(storage: &dyn Storage) -> Error {
    let message = format!("there is no log in {}", storage.path().display());
    Error::new(ErrorKind::NotFound, "open", message)
}

fn new_log_id(storage: &dyn Storage) -> Result<[u8; 16]> {
    let mut id = [0; 16];
    storage.random(&mut id).map_err(|e| Error::io("draw an id for", storage.path(), e))?;
    Ok(id)
}

/// The writing half, going on from where recovery ended.
fn writer(storage: Arc<dyn Storage>, options: Options, recovered: Recovered, log_id: [u8; 16]) -> Result<Writer> {
    let bugs = options.bugs;
    let framing = Framing::new(&recovered, bugs);
    let lengths = recovered.segments.iter().map(|sealed| sealed.found.length);
    let void_lengths = recovered.voids.iter().map(|void| void.length);
    let disk_bytes = lengths.chain(void_lengths).sum::<u64>() + MARK_LEN;
    let Options { segment_size, max_disk_bytes, .. } = options;
    let Recovered { mark, front, segments, end, ceiling, voids, spares, unfinished, .. } = recovered;
    let maker = Maker::new(log_id, segment_size, max_disk_bytes, ceiling, disk_bytes, voids, bugs);
    // A MARK beside no segment may never have reached the disk; it is made again before there is one.
    let found = mark.is_some() && !segments.is_empty();
    let mark = Mark { log_id, ..mark.unwrap_or_default() };
    let mark = MarkFile::open(&*storage, mark, found)?;
    let segments: VecDeque<_> = segments.into_iter().map(Segment::found).map(Arc::new).collect();
    let writer = Writer::new(storage, options, framing, maker, mark, segments);
    debug_assert_eq!(writer.commit.synced(), end);
    if bugs.has(Bug::TidyBeforeLink) {
        writer.maker.begin_life(0);
    }
    if let Some(cut) = writer.segments.read().back().filter(|_| bugs.has(Bug::TrimBeforeLink)) {
        writer.maker.trim_later(Arc::clone(cut), 0);
    }
    if !spares.is_empty() && front > 0 {
        // Crash: nothing is removed on the word of what may be in the cache alone.
        writer.mark.ensure(&*writer.storage).map_err(|failed| writer.failed(failed))?;
        writer.write_mark(true)?;
        writer.maker.adopt(&*writer.storage, spares);
    }
    for name in unfinished.iter().filter(|_| !bugs.has(Bug::NewFileReused)) {
        // Never used again: a sync on it may have failed. If it stays now, the next open tries again.
        _ = writer.storage.remove(name);
    }
    writer.tidy()?;
    Ok(writer)
}

/// Starts the background work. It holds the log weakly, so that dropping the log ends it.
fn start(log: &Arc<Log>) -> Result<()> {
    let storage = &log.writer.storage;
    let failed = |e| Error::io("start a thread for", storage.path(), e);
    let weak: Weak<Log> = Arc::downgrade(log);
    let mut since = None;
    let syncer = move || match weak.upgrade().filter(|log| !log.writer.stopping.load(Ordering::Acquire)) {
        Some(log) => Next::Idle(log.writer.syncer_step(&mut since)),
        None => Next::Stop,
    };
    let weak: Weak<Log> = Arc::downgrade(log);
    let making = move || match weak.upgrade().filter(|log| !log.writer.stopping.load(Ordering::Acquire)) {
        Some(log) => {
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
