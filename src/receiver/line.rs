//! The line from the polling thread to the append thread: a queue one way, what is durable the other way.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::block::SealedBlock;
use super::entry::{Handover, Origin};
use super::error::ReceiveError;
use super::offsets::OffsetTable;
use crate::Error;

/// What the append thread is given, each with its batch time.
#[derive(Debug)]
pub(super) enum Item {
    /// A block of records.
    Block(SealedBlock),
    /// Where partitions begin, all or none.
    Starts(Vec<Beginning>),
}

/// An entry that is durable before a partition is read.
#[derive(Clone, Debug)]
pub(super) enum Beginning {
    Origin(Origin),
    Handover(Handover),
}

impl Beginning {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Beginning::Origin(origin) => origin.encode(),
            Beginning::Handover(handover) => handover.encode(),
        }
    }
}

/// An item with its place in the line.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) batch_time: u64,
    pub(super) item: Item,
}

/// What the append thread finds when it comes back for more.
pub(super) enum Work {
    Items(Vec<Numbered>),
    /// Nothing came in time.
    Idle,
    /// Nothing will come.
    Finished,
    /// What there is shall not be stored.
    Abandoned,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Numbered>,
    pushed: u64,
    done: u64,
    /// What is durable.
    table: OffsetTable,
    full: Option<Error>,
    failure: Option<ReceiveError>,
    spare: Vec<Vec<u8>>,
    finish: bool,
    abandon: bool,
    ended: bool,
}

/// See the file's first line.
pub(super) struct Line {
    state: Mutex<State>,
    /// The append thread waits here.
    work: Condvar,
    /// The polling thread waits here, bounded, where it has to.
    progress: Condvar,
    /// Goes up with everything that the append thread has to say.
    news: AtomicU64,
}

impl Line {
    pub(super) fn new(table: OffsetTable) -> Line {
        let state = State { table, ..State::default() };
        Line { state: Mutex::new(state), work: Condvar::new(), progress: Condvar::new(), news: AtomicU64::new(1) }
    }

    // The polling thread's side.

    /// Hands an item over; never waits. Gives its number.
    pub(super) fn push(&self, batch_time: u64, item: Item) -> u64 {
        let mut state = self.state.lock();
        state.pushed += 1;
        let number = state.pushed;
        state.queue.push_back(Numbered { number, batch_time, item });
        self.work.notify_one();
        number
    }

    /// Changes whenever something below may have changed. Costs one load.
    pub(super) fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    /// Items that are not durable yet.
    pub(super) fn waiting(&self) -> u64 {
        let state = self.state.lock();
        state.pushed - state.done
    }

    /// Whether the item of that number is durable.
    pub(super) fn is_done(&self, number: u64) -> bool {
        self.state.lock().done >= number
    }

    /// What ended the append thread, if it has ended unasked.
    pub(super) fn failure(&self) -> Option<ReceiveError> {
        let state = self.state.lock();
        let unasked = (state.ended && !state.finish).then_some(ReceiveError::AppendThread);
        state.failure.clone().or(unasked)
    }

    /// What ended the append thread, asked or not.
    pub(super) fn end_failure(&self) -> Option<ReceiveError> {
        self.state.lock().failure.clone()
    }

    /// Why the log takes nothing, while it does not.
    pub(super) fn full(&self) -> Option<Error> {
        self.state.lock().full.clone()
    }

    /// Looks at the table of what is durable.
    pub(super) fn durable<T>(&self, look: impl FnOnce(&OffsetTable) -> T) -> T {
        look(&self.state.lock().table)
    }

    /// A buffer for the next block, used before if there is one.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.state.lock().spare.pop().unwrap_or_default()
    }

    /// Waits until everything handed over is durable, at most `timeout`. Tells whether it is.
    pub(super) fn drain(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while state.done < state.pushed && !state.ended {
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.done >= state.pushed
    }

    /// Ends the append thread: after what is in the line, or, with `abandon`, where it can end next. Waits for
    /// that at most `timeout`, and tells whether it ended.
    pub(super) fn finish(&self, abandon: bool, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        state.finish = true;
        state.abandon |= abandon;
        self.work.notify_one();
        while !state.ended {
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.ended
    }

    // The append thread's side.

    /// All that is in the line; waits for it at most `timeout`.
    pub(super) fn take(&self, timeout: Duration) -> Work {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        loop {
            if state.abandon {
                return Work::Abandoned;
            }
            if !state.queue.is_empty() {
                return Work::Items(state.queue.drain(..).collect());
            }
            if state.finish {
                return Work::Finished;
            }
            if self.work.wait_until(&mut state, deadline).timed_out() {
                return Work::Idle;
            }
        }
    }

    /// Says that everything up to `number` is durable, and with it what `change` does to the table.
    pub(super) fn done(&self, number: u64, change: impl FnOnce(&mut OffsetTable)) {
        let mut state = self.state.lock();
        state.done = state.done.max(number);
        change(&mut state.table);
        self.tell();
    }

    /// Says that the log takes nothing, or that it does again.
    pub(super) fn set_full(&self, full: Option<Error>) {
        let mut state = self.state.lock();
        let is_new = state.full.is_some() != full.is_some();
        state.full = full;
        if is_new {
            self.tell();
        }
    }

    /// Waits before another try; `false` if it is not worth one.
    pub(super) fn wait_to_retry(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while !state.abandon && !self.work.wait_until(&mut state, deadline).timed_out() {}
        !state.abandon
    }

    /// Keeps a buffer for the next block.
    pub(super) fn recycle(&self, buffer: Vec<u8>) {
        const KEPT: usize = 4;
        let mut state = self.state.lock();
        if state.spare.len() < KEPT {
            state.spare.push(buffer);
        }
    }

    /// Says that the append thread has ended, and why if it had to.
    pub(super) fn end(&self, failure: Option<ReceiveError>) {
        let mut state = self.state.lock();
        state.ended = true;
        state.failure = failure;
        self.tell();
    }

    fn tell(&self) {
        self.news.fetch_add(1, Ordering::Release);
        self.progress.notify_all();
    }
}
