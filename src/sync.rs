//! Where the core takes its locks, condition variables, atomics and threads from: `parking_lot` and `std`; under
//! `--cfg shuttle` (in `RUSTFLAGS`) the `shuttle` crate, which runs a test's threads in one schedule after another.
//!
//! Without it nothing is wrapped: these are the very types. `check`, the receiver, the tool and the latch itself are not
//! covered.

#[cfg(not(shuttle))]
pub(crate) use self::real::*;
#[cfg(shuttle)]
pub(crate) use self::shuttled::*;

#[cfg(not(shuttle))]
mod real {
    pub(crate) use std::sync::{OnceLock, atomic};
    pub(crate) use std::thread;

    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};

    pub(crate) use crate::latch::{Latch, LatchGuard};
}

/// The few calls that the core makes, as `parking_lot` has them.
///
/// There is no time: a timed wait ends when it is woken, or else as soon as the scheduler comes back to it. That it
/// ends too soon is a schedule that a slow machine has too. That it never blocks keeps what only a timer would mend
/// from being told as a deadlock: what is to be found as one must sleep without a limit.
#[cfg(shuttle)]
mod shuttled {
    use std::ops::{Deref, DerefMut};
    use std::sync::PoisonError;
    use std::time::Instant;

    pub(crate) use shuttle::sync::{RwLockReadGuard, atomic};

    pub(crate) mod thread {
        pub(crate) use shuttle::thread::{
            Builder, JoinHandle, Thread, ThreadId, current, panicking, park, sleep, yield_now,
        };

        /// May return early, as it always may.
        pub(crate) fn park_timeout(_: std::time::Duration) {
            yield_now();
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        /// Taken out while it waits.
        held: Option<shuttle::sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            MutexGuard { mutex: self, held: Some(held) }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        #[expect(clippy::expect_used, reason = "taken out only within a call that has the guard exclusively")]
        fn deref(&self) -> &T {
            self.held.as_ref().expect("held")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        #[expect(clippy::expect_used, reason = "taken out only within a call that has the guard exclusively")]
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("held")
        }
    }

    pub(crate) type Latch<T> = Mutex<T>;
    pub(crate) type LatchGuard<'a, T> = MutexGuard<'a, T>;

    #[derive(Debug, Default)]
    pub(crate) struct Condvar {
        waiting: shuttle::sync::Condvar,
        /// How often it was notified. No scheduling point.
        notified: std::sync::atomic::AtomicU64,
    }

    pub(crate) struct Waited {
        timed_out: bool,
    }

    impl Waited {
        pub(crate) fn timed_out(&self) -> bool {
            self.timed_out
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Condvar {
            Condvar::default()
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let waited = guard.held.take().map(|held| self.waiting.wait(held));
            guard.held = waited.map(|held| held.unwrap_or_else(PoisonError::into_inner));
        }

        pub(crate) fn wait_while<T>(&self, guard: &mut MutexGuard<'_, T>, mut go_on: impl FnMut(&mut T) -> bool) {
            while go_on(guard) {
                self.wait(guard);
            }
        }

        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> Waited {
            let seen = self.notified();
            drop(guard.held.take());
            thread::yield_now();
            guard.held = guard.mutex.lock().held.take();
            Waited { timed_out: self.notified() == seen }
        }

        pub(crate) fn notify_one(&self) {
            self.count();
            self.waiting.notify_one();
        }

        /// How many it woke is not known.
        pub(crate) fn notify_all(&self) -> usize {
            self.count();
            self.waiting.notify_all();
            0
        }

        fn notified(&self) -> u64 {
            self.notified.load(atomic::Ordering::SeqCst)
        }

        fn count(&self) {
            self.notified.fetch_add(1, atomic::Ordering::SeqCst);
        }
    }

    #[derive(Debug)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> RwLock<T> {
            RwLock(shuttle::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Whoever makes the value may be interrupted by the scheduler, which one of `std` would not survive.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        made: atomic::AtomicBool,
        making: Mutex<()>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> OnceLock<T> {
            OnceLock { value: std::sync::OnceLock::new(), made: false.into(), making: Mutex::default() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.value.get().filter(|_| self.made.load(atomic::Ordering::SeqCst))
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let _one = self.making.lock();
            self.value.set(value)?;
            self.made.store(true, atomic::Ordering::SeqCst);
            Ok(())
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let _one = self.making.lock();
            let value = self.value.get_or_init(make);
            self.made.store(true, atomic::Ordering::SeqCst);
            value
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> OnceLock<T> {
            OnceLock::new()
        }
    }

    impl<T> From<T> for OnceLock<T> {
        fn from(value: T) -> OnceLock<T> {
            OnceLock { value: value.into(), made: true.into(), making: Mutex::default() }
        }
    }
}
