//! How long syncs take: all of them in a histogram, the recent ones one by one, and the one under way.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::sync::Mutex;

/// Syncs are called slow from here on.
pub(crate) const SLOW: Duration = Duration::from_secs(1);

/// So many syncs are recent at most, and none that is older than this.
const RECENT: usize = 100;
const AGE: Duration = Duration::from_secs(60);

/// Rows of the histogram: what is shorter than 2^10 ns, and a row for each doubling up to 2^36 ns.
const ROWS: usize = 27;
const FIRST: u32 = 10;

/// How long syncs took, as a histogram: four buckets for each doubling, from a microsecond to a minute.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncTimes {
    rows: [[u64; 4]; ROWS],
    longest: Duration,
}

impl SyncTimes {
    fn add(&mut self, took: Duration) {
        let (row, column) = bucket(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if let Some(count) = self.rows.get_mut(row).and_then(|row| row.get_mut(column)) {
            *count += 1;
        }
        self.longest = self.longest.max(took);
    }

    /// How long the share `part` of all syncs took at most: 0.5 is the median, 1 the longest of all; `None` if there was
    /// none. At most a quarter more than is so, or 256 ns; the longest, and what took longer than a minute, as it was.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let all: u64 = self.rows.iter().flatten().sum();
        let wanted = part * all as f64;
        let mut seen = 0;
        for (row, counts) in self.rows.iter().enumerate() {
            for (column, count) in counts.iter().enumerate() {
                seen += count;
                if *count > 0 && seen as f64 >= wanted {
                    let last = (row, column) == (ROWS - 1, 3);
                    return Some(if last { self.longest } else { bound(row, column).min(self.longest) });
                }
            }
        }
        (all > 0).then_some(self.longest)
    }
}

impl fmt::Debug for SyncTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99] = [0.5, 0.99].map(|part| self.quantile(part).unwrap_or_default());
        f.debug_struct("SyncTimes").field("p50", &p50).field("p99", &p99).field("longest", &self.longest).finish()
    }
}

/// The row, and the quarter of it.
fn bucket(nanos: u64) -> (usize, usize) {
    let doubling = nanos.checked_ilog2().unwrap_or(0).max(FIRST - 1);
    let row = (doubling - (FIRST - 1)) as usize;
    let quarter = nanos >> (doubling.max(FIRST) - 2) & 3;
    if row < ROWS { (row, quarter as usize) } else { (ROWS - 1, 3) }
}

/// What lies in a bucket took less than this.
fn bound(row: usize, quarter: usize) -> Duration {
    let (first, width) = match row {
        0 => (0, 1 << (FIRST - 2)),
        _ => (1 << (FIRST as usize + row - 1), 1 << (FIRST as usize + row - 3)),
    };
    Duration::from_nanos(first + (quarter as u64 + 1) * width)
}

/// What is counted of syncs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) begun: u64,
    pub(crate) done: u64,
    pub(crate) bytes: u64,
    pub(crate) times: SyncTimes,
}

/// The syncs of a log, counted by whoever leads. All times are of the storage's clock.
#[derive(Debug, Default)]
pub(crate) struct Syncs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// The recent ones: when each ended, how long it took, and how many bytes it made durable.
    recent: VecDeque<(Duration, Duration, u64)>,
    /// When the one under way began.
    under_way: Option<Duration>,
}

impl Syncs {
    pub(crate) fn begin(&self, now: Duration) {
        let mut state = self.0.lock();
        state.counts.begun += 1;
        state.under_way = Some(now);
    }

    /// It succeeded, and made so many bytes durable. Tells how long it took.
    pub(crate) fn end(&self, now: Duration, bytes: u64) -> Duration {
        let mut state = self.0.lock();
        let took = now.saturating_sub(state.under_way.take().unwrap_or(now));
        state.counts.done += 1;
        state.counts.bytes += bytes;
        state.counts.times.add(took);
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back((now, took, bytes));
        took
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// How many bytes a recent sync made durable on average, if the next one does that with what is left of all that was
    /// `written`.
    pub(crate) fn mean(&self, written: u64) -> u64 {
        let state = self.0.lock();
        let synced: u64 = state.recent.iter().map(|(.., bytes)| bytes).sum();
        let next = written.saturating_sub(state.counts.bytes);
        synced.saturating_add(next) / (state.recent.len() as u64 + 1)
    }

    /// What 99 of 100 recent syncs took at most, or the one under way has taken already, if that is slow.
    pub(crate) fn slow(&self, now: Duration) -> Option<Duration> {
        let state = self.0.lock();
        let recent = state.recent.iter().filter(|(ended, ..)| now.saturating_sub(*ended) <= AGE);
        let mut times: Vec<_> = recent.map(|(_, took, _)| *took).collect();
        let under_way = state.under_way.map(|began| now.saturating_sub(began));
        drop(state);
        times.sort_unstable();
        let rank = (times.len() * 99).div_ceil(100);
        let p99 = rank.checked_sub(1).and_then(|last| times.get(last)).copied();
        p99.max(under_way).filter(|longest| *longest >= SLOW)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The exact answer: sorted, and counted off.
    fn naive(times: &[u64], part: f64) -> Option<u64> {
        let mut times = times.to_vec();
        times.sort_unstable();
        times.iter().enumerate().find(|(n, _)| (n + 1) as f64 >= part * times.len() as f64).map(|(_, time)| *time)
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_all_times_or_a_quarter_more(
            times in prop::collection::vec(
                prop_oneof![0..3000_u64, 0..10_000_000_000_u64, (0..64_u32).prop_map(|n| 1 << n), Just(u64::MAX)], 0..300),
            part in 0.0..=1.0_f64,
        ) {
            let mut told = SyncTimes::default();
            times.iter().for_each(|time| told.add(Duration::from_nanos(*time)));
            for part in [part, 0.5, 0.99, 1.0] {
                let told = told.quantile(part).map(|told| u64::try_from(told.as_nanos()).unwrap());
                let exact = naive(&times, part);
                prop_assert_eq!(told.is_some(), exact.is_some());
                let (Some(told), Some(exact)) = (told, exact) else { continue };
                let longest = times.iter().max().copied().unwrap_or(0);
                let most = if exact >= 1 << 36 { longest } else { exact.saturating_add((exact / 4).max(256)) };
                prop_assert!((exact..=most).contains(&told), "{} for {}, at most {}", told, exact, most);
                prop_assert!(part < 1.0 || told == longest);
            }
        }

        #[test]
        fn each_time_lies_in_its_bucket(nanos in prop_oneof![0..5000_u64, 0..1_u64 << 36]) {
            let (row, column) = bucket(nanos);
            let nanos = Duration::from_nanos(nanos);
            let below = match (row, column) {
                (0, 0) => Duration::ZERO,
                (_, 0) => bound(row - 1, 3),
                _ => bound(row, column - 1),
            };
            prop_assert!(below <= nanos && nanos < bound(row, column), "{:?} in {} {}", nanos, row, column);
        }
    }

    /// Two of a hundred are told, one is not; and what is a minute old is forgotten.
    #[test]
    fn slow_is_what_the_recent_ones_were() {
        let syncs = Syncs::default();
        let mut now = Duration::from_secs(1000);
        let mut sync = |took: Duration| {
            syncs.begin(now);
            now += took;
            syncs.end(now, 1);
            (syncs.slow(now), now)
        };
        let [fast, slow] = [Duration::from_micros(10), SLOW];
        assert_eq!(sync(slow).0, Some(slow), "the only one");
        (0..98).for_each(|_| assert_eq!(sync(fast).0, Some(slow)));
        assert_eq!(sync(fast).0, None, "one of a hundred");
        assert_eq!(sync(slow).0, None, "the first has left");
        let (told, ended) = sync(slow * 2);
        assert_eq!(told, Some(slow), "two of a hundred");
        assert_eq!(syncs.slow(ended + AGE), Some(slow * 2), "the last one alone is that recent");
        assert_eq!(syncs.slow(ended + AGE + fast), None);
        let begun = ended + AGE * 2;
        syncs.begin(begun);
        assert_eq!(syncs.slow(begun + slow / 2), None);
        assert_eq!(syncs.slow(begun + slow * 3), Some(slow * 3), "the one under way");
    }
}
