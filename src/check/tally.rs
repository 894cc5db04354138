//! How far a check is with all that it reads, and whether whoever is told lets it go on.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

use parking_lot::Mutex;

use crate::error::{Result, cancelled};
use crate::progress::Progress;

use super::Tell;

/// The count of all threads of a check. Neither the bytes nor their total are ever told to be less than before.
pub(super) struct Tally<'a> {
    operation: &'static str,
    progress: Tell<'a>,
    begun: Instant,
    /// Locked while somebody is told: one is told after the other.
    count: Mutex<Count>,
}

struct Count {
    now: Progress,
    stopped: bool,
    /// Nobody can stop it any more.
    acts: bool,
}

impl<'a> Tally<'a> {
    pub(super) fn new(operation: &'static str, progress: Tell<'a>) -> Tally<'a> {
        let count = Mutex::new(Count { now: Progress::default(), stopped: false, acts: false });
        Tally { operation, progress, begun: Instant::now(), count }
    }

    /// Of one of which nobody is told.
    pub(super) fn untold() -> Tally<'static> {
        Tally::new("check", &|_| ControlFlow::Continue(()))
    }

    /// So much more is to be read.
    pub(super) fn expect(&self, bytes: u64) {
        self.count.lock().now.total_bytes += bytes;
    }

    /// Begins with a part of what is expected.
    pub(super) fn part(&self, size: u64) -> Part<'_, 'a> {
        Part { tally: self, left: Cell::new(size) }
    }

    /// Stops all threads.
    pub(super) fn stop(&self) {
        self.count.lock().stopped = true;
    }

    /// # Errors
    /// `Cancelled`, if whoever is told wanted it to stop.
    pub(super) fn check(&self) -> Result<()> {
        if self.count.lock().stopped { Err(cancelled(self.operation)) } else { Ok(()) }
    }

    /// Asks for the last time whether to go on: from here on something is changed.
    ///
    /// # Errors
    /// As [`check`](Tally::check).
    pub(super) fn act(&self) -> Result<()> {
        self.add(0, 0);
        self.check()?;
        self.count.lock().acts = true;
        Ok(())
    }

    /// Tells of more; whether to go on.
    fn add(&self, bytes: u64, records: u64) -> bool {
        let mut count = self.count.lock();
        if !count.stopped {
            count.now.bytes += bytes;
            count.now.records += records;
            count.now.elapsed = self.begun.elapsed();
            let stop = (self.progress)(count.now).is_break();
            count.stopped = stop && !count.acts;
        }
        !count.stopped
    }
}

/// Some of what is expected, all of which was read when it ends.
pub(super) struct Part<'t, 'a> {
    tally: &'t Tally<'a>,
    left: Cell<u64>,
}

impl Part<'_, '_> {
    /// Tells that more of it was read; whether to go on.
    pub(super) fn add(&self, bytes: u64) -> bool {
        let bytes = bytes.min(self.left.get());
        self.left.set(self.left.get() - bytes);
        self.tally.add(bytes, 0)
    }

    /// Tells that it ends, with so many records; whether to go on.
    pub(super) fn end(self, records: u64) -> bool {
        self.tally.add(self.left.get(), records)
    }
}
