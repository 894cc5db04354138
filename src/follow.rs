//! Following a log: reading on as records become durable, over gaps, rotation and cleaning.

use std::future::poll_fn;
use std::ops::Bound;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::format::BLOCK;
use crate::lsn::Lsn;
use crate::read::{Records, Segments};
use crate::record::Record;
use crate::sync::atomic::Ordering;
use crate::sync::thread::{self, Thread};

/// Reads a log on and on: all records from an LSN, and each further one once it is durable.
///
/// From [`Wal::follow`](crate::Wal::follow). It holds nothing back: cleaning may overtake it, which it says
/// ([`ErrorKind::Removed`](crate::ErrorKind)), unless a [`Cursor`](crate::Cursor) keeps what it has not read.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let wal = seawall::Wal::open(dir.path())?;
/// # wal.append(b"order 17")?.wait()?;
/// use std::time::Duration;
///
/// let mut follower = wal.follow(seawall::Lsn::ZERO);
/// while let Some(record) = follower.next_timeout(Duration::from_millis(100))? {
///     println!("{}: {:?}", record.lsn, record.payload);
/// }
/// # assert_eq!(follower.position(), wal.durable_lsn());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a follower reads only when it is asked for the next record"]
pub struct Follower<'a> {
    segments: &'a dyn Segments,
    /// What was durable when it was last looked.
    records: Option<Records<'a>>,
    /// Where to go on: past the last record.
    position: u64,
    /// Everything below was read, but for a frame that reaches above it.
    read: u64,
    /// Where that begins; else the same.
    whole: u64,
    /// Under which it waits.
    id: u64,
}

impl std::fmt::Debug for Follower<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<'a> Follower<'a> {
    pub(crate) fn new(segments: &'a dyn Segments, from: Lsn) -> Follower<'a> {
        // Of `std` always: it outlives a schedule, and nothing is ordered by it.
        static IDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Follower { segments, records: None, position: from.0, read: 0, whole: 0, id }
    }

    /// Past the last record that was given, or where it begins: where another follower would go on, and what a cursor may be
    /// released to.
    pub fn position(&self) -> Lsn {
        Lsn(self.position)
    }

    /// The next record, if there is one that is durable.
    ///
    /// # Errors
    /// `Removed` if cleaning has taken what comes next; follow anew from its `first`. `Damage`, `TooNew`, `Io`, `Closed`;
    /// of a view, also as [`ReadOnly::look`](crate::ReadOnly::look).
    pub fn try_next(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(records) = &mut self.records {
                if let Some(record) = records.next() {
                    let record = record.inspect_err(|_| self.records = None)?;
                    self.position = record.end().0;
                    return Ok(Some(record));
                }
                (self.read, self.whole) = (records.end().0, records.whole().0);
                self.records = None;
            }
            let shown = self.segments.look()?;
            if self.position == 0 {
                // From here on it says what cleaning takes. No record begins in a segment's first block.
                self.position = self.segments.first() + u64::from(BLOCK);
            }
            if shown <= self.read {
                return Ok(None);
            }
            // What follows the last record and was read, such as notes of cursors, may have been cleaned.
            let from = Lsn(self.position.max(self.whole));
            self.records = Some(Records::new(self.segments, (Bound::Included(from), Bound::Unbounded))?);
        }
    }

    /// The next record, waiting for it no longer than `timeout`.
    ///
    /// # Errors
    /// As [`try_next`](Follower::try_next); `Poisoned` once all that is durable was read and nothing more can be.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record>> {
        let until = Instant::now().checked_add(timeout);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            if let Poll::Ready(next) = self.poll_next(&mut Context::from_waker(&waker)) {
                return next.map(Some);
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => {
                    // Nobody waits any more: a view need not look.
                    self.segments.forget(self.id);
                    return Ok(None);
                }
                Some(left) => thread::park_timeout(left),
            }
        }
    }

    /// The next record, on any executor. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`next_timeout`](Follower::next_timeout).
    pub async fn next(&mut self) -> Result<Record> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Record>> {
        loop {
            if let Some(record) = self.try_next()? {
                return Poll::Ready(Ok(record));
            }
            if self.segments.watch(self.id, self.read, context.waker())? {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        self.segments.forget(self.id);
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
