//! Background work on a real thread.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Background, Next};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// When the step is to be called.
#[derive(Default)]
struct Bell {
    /// Woken and not yet called. Set without `lock`, so that waking what is due costs one swap.
    due: AtomicBool,
    /// Held between looking at `due` and falling asleep, so that no ring falls in between.
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        if !self.due.swap(true, Ordering::AcqRel) {
            drop(self.lock.lock());
            self.rung.notify_one();
        }
    }

    /// Returns once it was rung, or after `limit`.
    fn wait(&self, limit: Option<Duration>) {
        // A limit beyond the range of the clock is none.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut held = self.lock.lock();
        while !self.due.swap(false, Ordering::AcqRel) {
            match deadline {
                None => self.rung.wait(&mut held),
                Some(deadline) => {
                    if self.rung.wait_until(&mut held, deadline).timed_out() {
                        self.due.store(false, Ordering::Release);
                        return;
                    }
                }
            }
        }
    }
}

struct Worker {
    bell: Arc<Bell>,
    /// Held while joining, so that a second joiner waits for the first.
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Background for Worker {
    fn wake(&self) {
        self.bell.ring();
    }

    fn join(&self) {
        let mut handle = self.handle.lock();
        let own = |handle: &JoinHandle<()>| handle.thread().id() == thread::current().id();
        if let Some(handle) = handle.take().filter(|handle| !own(handle)) {
            // A step that panicked has ended its thread and has been reported by the panic hook.
            drop(handle.join());
        }
    }
}

/// Starts a thread that calls `step` as its answers ask for. See [`Storage::background`](super::Storage::background).
pub(crate) fn spawn(name: &str, mut step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>> {
    let bell = Arc::new(Bell::default());
    let own = Arc::clone(&bell);
    let body = move || {
        let mut next = Next::Idle(None);
        loop {
            match next {
                Next::Again => {}
                Next::Idle(limit) => own.wait(limit),
                Next::Stop => return,
            }
            next = step();
        }
    };
    let handle = thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(Box::new(Worker { bell, handle: Mutex::new(Some(handle)) }))
}
