//! Slices in turns, medians, ratios, and whether both sides synced alike.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::Result;
use super::args::Args;
use super::disk::BenchDir;

/// One row of the table, to be run.
pub struct Workload {
    /// Its name.
    pub name: String,
    /// What the ratio of log to floor should reach.
    pub target: Target,
    /// Measures it.
    pub run: Run,
}

/// How a row is measured.
pub type Run = Box<dyn Fn(&Bench) -> Result<Measured>>;

/// What a ratio should reach.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Of rates: this or more.
    AtLeast(f64),
    /// Of times: this or less.
    AtMost(f64),
    /// Of memory, held against a bound: no more than that, or the bench fails.
    Bounded,
}

/// What the workloads share.
pub struct Bench {
    /// Where files are made.
    pub dir: BenchDir,
    /// A moment of everything.
    pub short: bool,
    /// Pairs of slices per workload.
    pub rounds: usize,
    args: Args,
}

impl Bench {
    /// Makes the directory.
    pub fn new(args: Args) -> Result<Bench> {
        Ok(Bench { dir: BenchDir::new()?, short: args.short, rounds: args.rounds(), args })
    }

    /// One of the bench's own numbers, if it was given.
    pub fn number(&self, option: &str) -> Option<usize> {
        self.args.number(option)
    }

    /// Bytes of a segment: the default, or less for a moment.
    pub fn segment(&self) -> u64 {
        if self.short { 8 << 20 } else { 64 << 20 }
    }

    /// Where a slice ends: after this long, or this much, so that a few segments hold it.
    pub fn limit(&self) -> Limit {
        let time = Duration::from_millis(if self.short { 30 } else { 200 });
        Limit { time, bytes: self.segment() / 2 * 5 }
    }
}

/// Where a slice ends, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// After this long.
    pub time: Duration,
    /// After so many bytes of payload.
    pub bytes: u64,
}

/// What one side did in one slice.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Records appended or read.
    pub records: u64,
    /// In this time.
    pub time: Duration,
    /// Syncs in it.
    pub syncs: u64,
    /// Segments begun in it, each of which may cost a sync more.
    pub segments: u64,
}

impl Slice {
    /// Records a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.time.as_secs_f64()
    }
}

/// What all slices of one side came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Records appended or read.
    pub records: u64,
    /// Syncs.
    pub syncs: u64,
    /// Segments begun.
    pub segments: u64,
}

impl Totals {
    /// Adds one slice.
    pub fn add(&mut self, slice: &Slice) {
        self.records += slice.records;
        self.syncs += slice.syncs;
        self.segments += slice.segments;
    }
}

/// One side of a row: a figure of each slice, and what they came to.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// What it was, with the settings that served it best.
    pub label: String,
    /// Rates a second, times in microseconds, or MiB of memory.
    pub figures: Vec<f64>,
    /// Sums.
    pub totals: Totals,
}

/// How many syncs each side may take.
#[derive(Clone, Copy, Debug)]
pub enum Syncs {
    /// None while the time runs.
    None,
    /// One thread: exactly one for so many records.
    Each(u64),
    /// Several threads: one for at most so many records, as chance groups them.
    Grouped(u64),
}

/// A row as it was measured.
pub struct Measured {
    /// By hand.
    pub floor: Side,
    /// The log.
    pub log: Side,
    /// How they were to sync.
    pub syncs: Syncs,
}

impl Measured {
    /// The log's figure over the floor's, slice by slice, sorted.
    pub fn pairs(&self) -> Vec<f64> {
        let mut pairs: Vec<f64> = self.floor.figures.iter().zip(&self.log.figures).map(|(f, l)| l / f).collect();
        pairs.sort_by(f64::total_cmp);
        pairs
    }

    /// Why the two did not sync alike, if so.
    pub fn unlike(&self) -> Option<String> {
        let (floor, log) = (self.floor.totals, self.log.totals);
        let (cover, factor) = match self.syncs {
            Syncs::None if floor.syncs == 0 && log.syncs == 0 => return None,
            Syncs::None => return Some(format!("syncs where there should be none: {} and {}", floor.syncs, log.syncs)),
            Syncs::Each(cover) => (cover, EACH),
            Syncs::Grouped(cover) => (cover, GROUPED),
        };
        for (name, side) in [("the floor", floor), ("the log", log)] {
            if side.syncs * cover < side.records {
                let Totals { records, syncs, .. } = side;
                return Some(format!("{name} says {records} records are durable after {syncs} syncs"));
            }
        }
        let expected = floor.syncs as f64 / floor.records as f64 * log.records as f64;
        let most = expected * factor + log.segments as f64;
        if (expected / factor..=most).contains(&(log.syncs as f64)) {
            return None;
        }
        Some(format!("{} syncs of the log where the floor's rate gives {expected:.0}", log.syncs))
    }
}

/// By how much syncs may differ with one thread; and one more for each segment begun.
pub const EACH: f64 = 1.02;
/// By how much they may differ where several threads form groups by chance: on a busy machine a group may hold half
/// or all of the threads. That no sync covers more than was under way is held exactly.
pub const GROUPED: f64 = 5.0;

/// Runs both sides in turns, each first in every other pair; a first pair warms up and is not counted.
pub fn interleave(
    rounds: usize,
    floor: &mut dyn FnMut() -> Result<Slice>,
    log: &mut dyn FnMut() -> Result<Slice>,
) -> Result<(Side, Side)> {
    let (mut by_hand, mut logged) = (Side::default(), Side::default());
    floor()?;
    log()?;
    for round in 0..rounds {
        let (f, l) = if round % 2 == 0 {
            let f = floor()?;
            (f, log()?)
        } else {
            let l = log()?;
            (floor()?, l)
        };
        by_hand.figures.push(f.rate());
        by_hand.totals.add(&f);
        logged.figures.push(l.rate());
        logged.totals.add(&l);
    }
    Ok((by_hand, logged))
}

/// The candidate with the best median rate, each tried in turns.
pub fn best<T: Copy>(candidates: &[T], mut trial: impl FnMut(T) -> Result<Slice>) -> Result<T> {
    const TURNS: usize = 5;
    let mut rates = vec![Vec::new(); candidates.len()];
    for _ in 0..TURNS {
        for (candidate, rates) in candidates.iter().zip(&mut rates) {
            rates.push(trial(*candidate)?.rate());
        }
    }
    let medians = rates.iter().map(|rates| median(rates));
    let best = candidates.iter().zip(medians).max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map(|(candidate, _)| *candidate).ok_or_else(|| "no candidates".into())
}

/// Bytes that are not all alike.
pub fn payload(size: usize) -> Vec<u8> {
    (0..=250).cycle().take(size).collect()
}

/// The middle one, or the lower of the two.
pub fn median(figures: &[f64]) -> f64 {
    permille(figures, 500)
}

/// The figure at this place of a thousand in their order.
pub fn permille(figures: &[f64], place: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = sorted.len().saturating_sub(1) * place / 1000;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// Has `threads` threads call `op` until the slice is over; tells the calls and the time from the first start to
/// the last end.
pub fn race(threads: usize, bytes: u64, limit: Limit, op: impl Fn() -> Result<()> + Sync) -> Result<(u64, Duration)> {
    let quota = (limit.bytes / bytes / threads as u64).max(1);
    let barrier = Barrier::new(threads);
    let laps = || -> Result<(u64, Instant, Instant)> {
        barrier.wait();
        let start = Instant::now();
        let mut calls = 0;
        while calls < quota && start.elapsed() < limit.time {
            op()?;
            calls += 1;
        }
        Ok((calls, start, Instant::now()))
    };
    let all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(laps)).collect();
        let mut all = vec![laps()];
        all.extend(others.into_iter().map(|other| other.join().unwrap_or_else(|_| Err("a thread panicked".into()))));
        all
    });
    let mut calls = 0;
    let mut span: Option<(Instant, Instant)> = None;
    for one in all {
        let (count, start, end) = one?;
        calls += count;
        span = Some(span.map_or((start, end), |(s, e)| (s.min(start), e.max(end))));
    }
    Ok((calls, span.map_or(Duration::ZERO, |(start, end)| end - start)))
}
