//! The log itself: opening, appending, waiting, reading, cleaning, closing.

use std::collections::BTreeMap;
use std::ops::{Range, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use crate::append::Patience;
use crate::clean::{Cleaned, Kept, Limit, clean, kept};
use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind, Result};
use crate::follow::Follower;
use crate::format::FrameKind;
use crate::framing::{Batch, Many, One, Parts};
use crate::health::Health;
use crate::log::Log;
use crate::lsn::{BatchTime, Lsn};
use crate::need::Need;
use crate::options::Options;
use crate::read::{Records, Segments, checkpoint, get, split};
use crate::record::Record;
use crate::recovery::Recovery;
use crate::stats::Stats;
use crate::storage::Storage;
use crate::ticket::Ticket;

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

impl Wal {
    /// Opens the log in the directory `path` with default [`Options`]: durable on disk, made if there is none.
    ///
    /// Takes as long as reading the newest segment, what is not known durable before it, segments prepared by a killed
    /// process, and 8 KiB of each other. Holds a descriptor for each segment until it is
    /// dropped, and so is every [`Cursor`] and owned [`Ticket`] of it.
    ///
    /// # Errors
    /// `Locked` if another writer has it; `Damage` if anything known durable is damaged; `TooNew`; `NotStrict`;
    /// `NotFound` if there is no log and creation is off; `Invalid` for options out of range; `Io`, `DiskFull`.
    /// Nothing was changed then but what nobody needs: files never finished or used, and what was cleaned away.
    pub fn open(path: impl AsRef<Path>) -> Result<Wal> {
        Options::new().open(path)
    }

    pub(crate) fn with(storage: Arc<dyn Storage>, options: Options) -> Result<Wal> {
        Log::open(storage, options).map(|log| Wal { log })
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.log.recovery
    }

    /// Appends one record under the highest batch time so far.
    ///
    /// Copies the payload and returns; the record is durable once the ticket says so. Whoever fills a piece of 256 KiB
    /// writes it, unsynced. Waits otherwise only while [`max_buffered_bytes`](Options::max_buffered_bytes) are in memory,
    /// or for the next segment.
    ///
    /// # Errors
    /// `DiskFull`, `LogFull`, `TooLarge`; `Io` if a segment or MARK is to be made and the system refuses: nothing was
    /// appended. `Poisoned`, `Closed`.
    #[inline]
    pub fn append(&self, payload: &[u8]) -> Result<Ticket<'_>> {
        self.push(FrameKind::Record, &One::new(payload), None, Patience::Wait)
    }

    /// Appends one record gathered from slices.
    ///
    /// # Errors
    /// As [`append`](Wal::append).
    pub fn append_parts(&self, parts: &[&[u8]]) -> Result<Ticket<'_>> {
        self.push(FrameKind::Record, &Parts::new(parts), None, Patience::Wait)
    }

    /// Appends several records, which survive all or none. The ticket gives the LSN of the last.
    ///
    /// # Errors
    /// As [`append`](Wal::append); `Invalid` for no record at all.
    pub fn append_batch<T: AsRef<[u8]>>(&self, payloads: &[T]) -> Result<Ticket<'_>> {
        self.push(FrameKind::Record, &Many::new(payloads), None, Patience::Wait)
    }

    /// Appends a snapshot of the caller's state. The last durable one is given by
    /// [`checkpoint`](Wal::checkpoint), and cleaning never passes it.
    ///
    /// # Errors
    /// As [`append`](Wal::append); a segment is held back for it, so that a full log can still say where it stands. A log at
    /// its bound that took checkpoints and was not cleaned since may have used that up: clean up to the last checkpoint
    /// then. And a life that begins on a disk without a single free block needs one, or more where the file system takes
    /// some for names.
    pub fn append_checkpoint(&self, snapshot: &[u8]) -> Result<Ticket<'_>> {
        self.push(FrameKind::Checkpoint, &One::new(snapshot), None, Patience::Wait)
    }

    /// Appends one record without ever waiting, but for others that append at the same moment: as long as copying takes.
    ///
    /// Where the next segment is missing the background makes it, so that a later call succeeds; if the disk or the
    /// log is too full for that, a later call says so. The first after opening is missing, unless somebody waited for it
    /// ([`prepare`](Wal::prepare)).
    ///
    /// # Errors
    /// `Backpressure` where [`append`](Wal::append) would wait; otherwise as that.
    pub fn try_append(&self, payload: &[u8]) -> Result<Ticket<'_>> {
        self.push(FrameKind::Record, &One::new(payload), None, Patience::Never)
    }

    /// The same appends under a batch time.
    pub fn at(&self, batch_time: impl Into<BatchTime>) -> At<'_> {
        At { wal: self, time: batch_time.into() }
    }

    #[inline]
    fn push(&self, kind: FrameKind, batch: &impl Batch, time: Option<u64>, patience: Patience) -> Result<Ticket<'_>> {
        if batch.count() == 0 {
            return Err(Error::new(ErrorKind::Invalid, "append", "a batch holds at least one record"));
        }
        let framed = self.log.writer.append(kind, batch, time, patience)?;
        Ok(Ticket::new(&self.log, framed))
    }

    /// Syncs all that was appended so far, whatever the durability, and tells up to where. On a full disk it waits for
    /// room, as [`Ticket::wait`] does.
    ///
    /// # Errors
    /// `Poisoned` if it failed, or anything did before; `Closed`.
    pub fn sync(&self) -> Result<Lsn> {
        self.log.check()?;
        self.log.writer.sync().map(Lsn)
    }

    /// Makes ready what an append needs that goes on in a new segment, as the first after opening does: that one is then
    /// taken by [`try_append`](Wal::try_append) too. Waits until two segments are made: written once, where syncs are not
    /// large, or out of cleaned ones. Leaves nothing in the log; later the background does it ahead.
    ///
    /// # Errors
    /// As [`append`](Wal::append), though no append was refused: [`health`](Wal::health) goes by those.
    pub fn prepare(&self) -> Result<()> {
        self.log.check()?;
        self.log.writer.make_segment(Need::Ordinary, true)
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

    /// Bytes of the segments that are made, as the log was opened with.
    pub fn segment_size(&self) -> u64 {
        self.log.writer.options.segment_size
    }

    /// The log's identity: random, made with the log's first segment, equal in all of them.
    pub fn log_id(&self) -> [u8; 16] {
        self.log.log_id
    }

    /// The record at `lsn`, which the log gave: the checks of any other place are against accidents only.
    ///
    /// # Errors
    /// `NotDurable` above what readers may see; `Removed` below the front, if records there were cleaned away; `NoRecord` if
    /// none begins there; `Damage`, `TooNew`, `Io`, `Closed`.
    pub fn get(&self, lsn: Lsn) -> Result<Record> {
        get(&*self.log, lsn)
    }

    /// The records of a range, in order: a snapshot of what is durable now, beside appends and cleaning.
    ///
    /// Sealed segments are read out of a map: a sector that the disk cannot read is a SIGBUS there, not an error.
    /// [`ReadOnly`](crate::ReadOnly) reads without maps.
    ///
    /// # Errors
    /// `Removed` if a record at the range's start or above was cleaned away, be it beyond its end (`Lsn::ZERO` begins at the
    /// front); `Damage` if what would tell is
    /// damaged; `TooNew`, `Io`, `Closed`.
    pub fn read(&self, range: impl RangeBounds<Lsn>) -> Result<Records<'_>> {
        Records::new(&*self.log, range)
    }

    /// Ranges that together are all that may be read now, for a replay whose order does not matter: at most `parts`, cut
    /// between segments, of about as many bytes each. Read each in a thread of its own, with `read(range)`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let wal = seawall::Wal::open(dir.path())?;
    /// # wal.append(b"order 17")?.wait()?;
    /// let counts = std::thread::scope(|scope| {
    ///     let parts = wal.split(4).into_iter().map(|range| scope.spawn(|| Ok(wal.read(range)?.count())));
    ///     let parts: Vec<_> = parts.collect();
    ///     parts.into_iter().map(|part| part.join().expect("does not panic")).collect::<seawall::Result<Vec<_>>>()
    /// })?;
    /// assert_eq!(counts.iter().sum::<usize>(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(&self, parts: usize) -> Vec<Range<Lsn>> {
        split(&*self.log, parts)
    }

    /// Reads on from `from` as records become durable. `Lsn::ZERO` begins at the front, which is where it is when a
    /// record is first looked for; from then on the follower says when cleaning takes what it has not read.
    pub fn follow(&self, from: Lsn) -> Follower<'_> {
        Follower::new(&*self.log, from)
    }

    /// The last durable checkpoint.
    ///
    /// # Errors
    /// As [`get`](Wal::get). `Damage` until another is appended, where it was lost and a repair found none before it: rebuild
    /// the state from the log's first record, or from what you have elsewhere where that was cleaned, and append it anew.
    pub fn checkpoint(&self) -> Result<Option<Record>> {
        let writer = &self.log.writer;
        let last = || writer.framing.lock().checkpoint_below(writer.commit.acknowledged());
        loop {
            let lsn = last();
            if lsn == 0 {
                return self.log.check().map(|()| None);
            }
            match checkpoint(&*self.log, Lsn(lsn)) {
                // Another was appended meanwhile, and all before it cleaned.
                Err(e) if matches!(e.kind(), ErrorKind::Removed { .. }) && last() != lsn => {}
                found => return found.map(Some),
            }
        }
    }

    /// The cursor of this name, made if there is none: then it stands below the first record that is left. Of at
    /// most 16, with names of 1 to 200 bytes.
    ///
    /// When this returns a new one is as durable as an append is once its ticket says so. Waits for a clean that runs.
    ///
    /// # Errors
    /// `Invalid` for the name, or if there are 16 already; as [`append`](Wal::append).
    pub fn cursor(&self, name: &str) -> Result<Cursor> {
        Cursor::open(&self.log, name)
    }

    /// All cursors, by name, and where they stand.
    pub fn cursors(&self) -> BTreeMap<String, Lsn> {
        let framing = self.log.writer.framing.lock();
        framing.cursors.iter().map(|cursor| (cursor.name.clone(), Lsn(cursor.lsn))).collect()
    }

    /// Removes the sealed segments all of whose records are older than `batch_time`, as a prefix of the log.
    ///
    /// Syncs first. Never removes the newest segment, nor the last durable checkpoint or anything after it.
    ///
    /// # Errors
    /// `Poisoned`, `Closed`. `Io` or `DiskFull`, and nothing was cleaned: MARK is missing and cannot be made, or a file
    /// that recovery cut off cannot be moved aside. Files that could not be removed are told in the answer, and tried
    /// again later.
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

    /// Why each segment is kept: what would hold it back if all that is durable were cleaned now. Changes nothing, and
    /// costs a look at each segment in memory. A log that grows says here why.
    pub fn kept(&self) -> Vec<Kept> {
        kept(&self.log.writer)
    }

    /// How the log is, for a readiness probe. Takes short locks and waits for no disk.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let wal = seawall::Wal::open(dir.path())?;
    /// let health = wal.health();
    /// let status = if health.takes_appends() { 200 } else { 503 };
    /// println!("{status} {health}");
    /// # assert_eq!(status, 200);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Where no further segment could be made, asking also has the background try again: a probe that keeps everybody
    /// away sees by itself when there is room.
    pub fn health(&self) -> Health {
        Health::of(&self.log.writer)
    }

    /// Figures of this life of the log.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.log.writer)
    }

    /// Syncs everything, says so in MARK, gives unused space back, and lets the lock go. Later calls on the log
    /// answer `Closed`. Closing again does no harm: it answers `Ok`, which says nothing of how the log was closed, and does
    /// not wait for a close that is under way.
    ///
    /// # Errors
    /// `Poisoned` if what was appended could not be made durable or anything failed before, `DiskFull` if it waits for
    /// room that never came. The lock is let go all the same.
    pub fn close(&self) -> Result<()> {
        self.log.close()
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        // A storage of the caller's may panic, and whoever drops the log may be panicking already.
        _ = catch_unwind(AssertUnwindSafe(|| self.log.close()));
    }
}

/// Appends under a batch time. From [`Wal::at`].
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    wal: &'a Wal,
    time: BatchTime,
}

impl<'a> At<'a> {
    fn push(&self, kind: FrameKind, batch: &impl Batch, patience: Patience) -> Result<Ticket<'a>> {
        self.wal.push(kind, batch, Some(self.time.0), patience)
    }

    /// See [`Wal::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, payload: &[u8]) -> Result<Ticket<'a>> {
        self.push(FrameKind::Record, &One::new(payload), Patience::Wait)
    }

    /// See [`Wal::append_parts`].
    ///
    /// # Errors
    /// As there.
    pub fn append_parts(&self, parts: &[&[u8]]) -> Result<Ticket<'a>> {
        self.push(FrameKind::Record, &Parts::new(parts), Patience::Wait)
    }

    /// See [`Wal::append_batch`].
    ///
    /// # Errors
    /// As there.
    pub fn append_batch<T: AsRef<[u8]>>(&self, payloads: &[T]) -> Result<Ticket<'a>> {
        self.push(FrameKind::Record, &Many::new(payloads), Patience::Wait)
    }

    /// See [`Wal::append_checkpoint`].
    ///
    /// # Errors
    /// As there.
    pub fn append_checkpoint(&self, snapshot: &[u8]) -> Result<Ticket<'a>> {
        self.push(FrameKind::Checkpoint, &One::new(snapshot), Patience::Wait)
    }

    /// See [`Wal::try_append`].
    ///
    /// # Errors
    /// As there.
    pub fn try_append(&self, payload: &[u8]) -> Result<Ticket<'a>> {
        self.push(FrameKind::Record, &One::new(payload), Patience::Never)
    }
}
