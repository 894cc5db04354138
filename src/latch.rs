//! The lock that every append takes: let go with a plain store.
//!
//! A lock that knows of its sleepers pays for two locked instructions, one to take it and one to let go of it and see
//! whether anybody sleeps. Nobody tells those who wait for a latch: they look again, by and by from a short sleep. It
//! is for what is over in nanoseconds, where only a thread that was interrupted holds it for longer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{hint, thread};

use parking_lot::lock_api::{GuardNoSend, Mutex, MutexGuard, RawMutex};

pub(crate) type Latch<T> = Mutex<RawLatch, T>;
pub(crate) type LatchGuard<'a, T> = MutexGuard<'a, RawLatch, T>;

/// Up to this look the processor is kept, each time for twice as long.
const SPINS: u32 = 6;
/// Up to this one it is offered to others.
const YIELDS: u32 = 16;
/// How long is slept before each of the others: about what waking a thread takes.
const SLEEP: Duration = Duration::from_micros(50);

/// Whether it is taken.
pub(crate) struct RawLatch(AtomicBool);

// SAFETY: `lock` and `try_lock` return with the flag set by themselves, which only one swap can do until it is cleared,
// and the release of `unlock` is acquired by the swap that sees it.
#[expect(unsafe_code, reason = "lock_api gives out the value by what this promises")]
unsafe impl RawMutex for RawLatch {
    const INIT: RawLatch = RawLatch(AtomicBool::new(false));

    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

impl RawLatch {
    #[cold]
    fn wait(&self) {
        for turn in 0.. {
            match turn {
                0..SPINS => (0..1 << turn).for_each(|_| hint::spin_loop()),
                SPINS..YIELDS => thread::yield_now(),
                _ => thread::sleep(SLEEP),
            }
            if !self.0.load(Ordering::Relaxed) && self.try_lock() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_has_it() {
        const THREADS: u64 = 4;
        const TURNS: u64 = if cfg!(miri) { 100 } else { 100_000 };
        let latch = Latch::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..TURNS).for_each(|_| *latch.lock() += 1));
            }
        });
        assert_eq!(latch.into_inner(), THREADS * TURNS);
    }

    #[test]
    fn whoever_waits_for_long_gets_it_and_sees_what_was_done() {
        let latch = Latch::new(0);
        thread::scope(|scope| {
            let mut held = latch.lock();
            let waiting = scope.spawn(|| *latch.lock());
            thread::sleep(Duration::from_millis(20));
            assert!(latch.try_lock().is_none() && !waiting.is_finished());
            *held = 1;
            drop(held);
            assert_eq!(waiting.join().ok(), Some(1));
        });
    }

    #[test]
    fn a_panic_lets_go_of_it() {
        let latch = Latch::new(());
        let panicked = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _held = latch.lock();
                    std::panic::resume_unwind(Box::new(()));
                })
                .join()
                .is_err()
        });
        assert!(panicked && latch.try_lock().is_some());
    }
}
