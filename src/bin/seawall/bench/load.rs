//! Threads that append: as fast as they can, or at a fixed rate, whatever became of those before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use parking_lot::RwLock;

use crate::units::whole;

/// A sleep may take that much longer; a thread that has a core to itself stays awake for it.
const OVERSLEPT: Duration = Duration::from_micros(200);

/// How many threads append, and what ends it.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    pub threads: usize,
    /// Calls that a thread makes at most.
    pub calls: u64,
    pub time: Duration,
    pub stop: &'a AtomicBool,
}

impl Load<'_> {
    /// Has each thread call `append` with its number and the count of its calls before, until it is over. Tells the calls
    /// of each, and the time they took.
    pub fn race(
        &self,
        append: impl Fn(usize, u64) -> anyhow::Result<()> + Sync,
    ) -> anyhow::Result<(Vec<u64>, Duration)> {
        self.together(|thread, start| {
            let mut calls = 0;
            while calls < self.calls && start.elapsed() < self.time && !self.stop.load(Ordering::Relaxed) {
                append(thread, calls)?;
                calls += 1;
            }
            Ok(calls)
        })
    }

    /// The same at a fixed rate: the calls fall due one after another, each thread's in its turn.
    pub fn paced(
        &self,
        rate: f64,
        append: impl Fn(usize, u64) -> anyhow::Result<()> + Sync,
    ) -> anyhow::Result<(Vec<u64>, Arrivals)> {
        let spins = thread::available_parallelism().is_ok_and(|cores| self.threads < cores.get());
        let calls = self.calls.saturating_mul(self.threads as u64).min(whole((rate * self.time.as_secs_f64()).ceil()));
        let (all, _) = self.together(|thread, start| {
            let (mut arrivals, mut done) = (Arrivals::default(), 0);
            for turn in (thread as u64..calls).step_by(self.threads) {
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                // However late it is called: what waited for others waited.
                let due = start + Duration::from_secs_f64(turn as f64 / rate);
                arrivals.wait(due, spins);
                arrivals.behind = due.elapsed();
                append(thread, done)?;
                done += 1;
                arrivals.took.add(due.elapsed());
            }
            Ok((done, arrivals))
        })?;
        let mut sum = Arrivals::default();
        let counts = all.into_iter().map(|(calls, arrivals)| {
            sum.add(&arrivals);
            calls
        });
        Ok((counts.collect(), sum))
    }

    /// Runs all threads from one moment on, which they are told; tells what each came to, and when the last was done.
    fn together<T: Send>(
        &self,
        body: impl Fn(usize, Instant) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<(Vec<T>, Duration)> {
        // Held until all are there. Left empty if one cannot be started.
        let begins = RwLock::new(None);
        thread::scope(|scope| {
            let mut gate = begins.write();
            let (begins, body) = (&begins, &body);
            let mut started = Vec::with_capacity(self.threads);
            for thread in 0..self.threads {
                let run = move || {
                    let start = *begins.read();
                    start.map(|start| body(thread, start)).transpose()
                };
                started.push(thread::Builder::new().spawn_scoped(scope, run).context("starting a thread")?);
            }
            let start = Instant::now();
            *gate = Some(start);
            drop(gate);
            let mut all = Vec::with_capacity(self.threads);
            for thread in started {
                all.extend(thread.join().map_err(|_| anyhow!("a thread panicked"))??);
            }
            Ok((all, start.elapsed()))
        })
    }
}

/// What became of calls at a fixed rate.
#[derive(Default)]
pub struct Arrivals {
    /// From when each was due until it was done.
    pub took: Times,
    /// How much later than asked threads woke that slept, which counts as a part of that.
    pub overslept: Times,
    /// How late the last call was made.
    pub behind: Duration,
}

impl Arrivals {
    fn wait(&mut self, due: Instant, spins: bool) {
        let left = due.saturating_duration_since(Instant::now());
        let asleep = if spins { left.saturating_sub(OVERSLEPT) } else { left };
        if !asleep.is_zero() {
            thread::sleep(asleep);
        }
        while spins && Instant::now() < due {
            std::hint::spin_loop();
        }
        if !asleep.is_zero() {
            self.overslept.add(due.elapsed());
        }
    }

    /// Adds those of another thread, or of another time.
    pub fn add(&mut self, other: &Arrivals) {
        self.took.merge(&other.took);
        self.overslept.merge(&other.overslept);
        self.behind = self.behind.max(other.behind);
    }
}

/// Times counted in buckets of less than 2 percent each; the longest as it was.
#[derive(Default)]
pub struct Times {
    buckets: Vec<u64>,
    pub count: u64,
    pub longest: Duration,
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let place = bucket(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if self.buckets.len() <= place {
            self.buckets.resize(place + 1, 0);
        }
        self.buckets.iter_mut().skip(place).take(1).for_each(|count| *count += 1);
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    fn merge(&mut self, other: &Times) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }

    /// How long the share `part` of them took at most.
    pub fn quantile(&self, part: f64) -> Duration {
        let (wanted, mut seen) = (whole((part * self.count as f64).ceil()), 0);
        let place = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        place.map_or(Duration::ZERO, |place| Duration::from_nanos(bound(place)).min(self.longest))
    }
}

/// Up to 127 ns each its own, then 64 for each doubling.
fn bucket(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(7);
    (shift * 64) as usize + usize::try_from(nanos >> shift).unwrap_or_default()
}

/// The longest time of a bucket.
fn bound(place: usize) -> u64 {
    let shift = (place / 64).saturating_sub(1);
    (((place - shift * 64) as u64 + 1) << shift).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_narrow_and_none_is_left_out() {
        for nanos in (0..10_000).chain([1 << 20, (1 << 20) - 1, 123_456_789, u64::MAX >> 1, u64::MAX]) {
            let place = bucket(nanos);
            assert!(bound(place) >= nanos && (place == 0 || bound(place - 1) < nanos), "{nanos}");
            assert!(bound(place) - nanos <= nanos / 64, "{nanos}");
        }
    }

    #[test]
    fn quantiles_are_of_all_that_was_added() {
        let (mut times, mut others) = (Times::default(), Times::default());
        (1..=50).for_each(|micros| times.add(Duration::from_micros(micros)));
        (51..=100).for_each(|micros| others.add(Duration::from_micros(micros)));
        times.merge(&others);
        let is_about = |part, micros: u128| {
            let (found, wanted) = (times.quantile(part).as_nanos(), micros * 1000);
            assert!((wanted..=wanted + wanted / 50).contains(&found), "{part}: {found}");
        };
        is_about(0.5, 50);
        is_about(0.99, 99);
        assert_eq!((times.quantile(1.0), times.count), (Duration::from_micros(100), 100));
        assert_eq!(Times::default().quantile(0.5), Duration::ZERO);
    }

    /// One call of 50 ms: those that fell due meanwhile took longer too, though each is done at once.
    #[test]
    fn a_stall_counts_for_all_that_had_to_wait() {
        let stop = AtomicBool::new(false);
        let load = Load { threads: 1, calls: 100, time: Duration::from_millis(100), stop: &stop };
        let slow = |_, calls| {
            if calls == 10 {
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        };
        let (calls, arrivals) = load.paced(1000.0, slow).unwrap();
        assert_eq!((calls, arrivals.took.count), (vec![100], 100));
        assert!(arrivals.took.longest >= Duration::from_millis(50));
        // A fifth of all waited for more than half of it.
        assert!(arrivals.took.quantile(0.8) >= Duration::from_millis(25), "{:?}", arrivals.took.quantile(0.8));
    }
}
