//! One row: floor and log in turns, then the log at a fixed rate, and what was acknowledged read back after each slice.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use seawall::Options;

use super::Durability;
use super::floor::Floor;
use super::load::{Arrivals, Load};
use super::log::{Log, Payloads, frame_bytes, tag};
use crate::meter::Meter;
use crate::out::counted;
use crate::units::whole;

/// Where a slice ends, whatever its time: so much fits into a few segments.
const SLICE: u64 = 128 << 20;
/// Pairs of slices, at least.
const PAIRS: u64 = 5;
/// Of the rate that the log reached, what falls due.
const LOAD: f64 = 0.7;

/// What one side did.
#[derive(Default)]
pub struct Side {
    rates: Vec<f64>,
    pub records: u64,
    pub syncs: u64,
}

impl Side {
    fn add(&mut self, calls: &[u64], time: Duration, syncs: u64) {
        let records: u64 = calls.iter().sum();
        self.rates.push(records as f64 / time.as_secs_f64());
        self.records += records;
        self.syncs += syncs;
    }

    /// Records a second: the median of the slices.
    pub fn rate(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    }

    pub fn records_per_sync(&self) -> Option<f64> {
        (self.syncs > 0).then(|| self.records as f64 / self.syncs as f64)
    }
}

/// What was measured of one number of threads.
pub struct Row {
    pub threads: usize,
    pub floor: Side,
    pub log: Side,
    /// Calls a second that fell due, and what became of them.
    pub due: f64,
    pub arrivals: Arrivals,
    /// The time of one of its slices.
    slice: Duration,
    pub read_back: u64,
    pub reopened: u64,
}

impl Row {
    /// The log's rate of the floor's.
    pub fn ratio(&self) -> f64 {
        self.log.rate() / self.floor.rate()
    }

    /// Whether the log was done with what was due about when the time was over.
    pub fn keeps_up(&self) -> bool {
        self.arrivals.behind <= (self.slice / 20).max(Duration::from_millis(10))
    }
}

/// Pairs of slices, and the time of each slice.
fn pairs(seconds: f64) -> (u64, Duration) {
    let pairs = whole(seconds.ceil()).max(PAIRS);
    (pairs, Duration::from_secs_f64(seconds / 2.0 / pairs as f64))
}

/// Slices at a fixed rate, and the time of each.
fn paced(seconds: f64) -> (u64, Duration) {
    let slices = whole(seconds.ceil());
    (slices, Duration::from_secs_f64(seconds / slices as f64))
}

/// How often a row tells how far it is.
pub fn steps(seconds: f64) -> u64 {
    1 + pairs(seconds).0 + paced(seconds).0
}

/// What every row needs.
pub struct Stage<'a> {
    pub dir: &'a Path,
    pub payloads: &'a Payloads,
    pub seconds: f64,
    pub stop: &'a AtomicBool,
    pub meter: &'a Meter,
}

impl Stage<'_> {
    pub fn row(&self, durability: Durability, threads: usize) -> anyhow::Result<Row> {
        let step = |what: &str| {
            self.meter.step(&format!("{}, {}, {what}", durability.name(), counted(threads as u64, "thread")));
            if self.stop.load(Ordering::Relaxed) { bail!("interrupted") } else { Ok(()) }
        };
        let (path, dir) = (self.dir.join("floor"), self.dir.join("log"));
        let syncs = durability == Durability::Disk;
        let options = Options::new().durability(match durability {
            Durability::Os => seawall::Durability::Os,
            Durability::Disk => seawall::Durability::Disk,
        });
        let floor = Floor::create(&path, threads, self.payloads.record, syncs)?;
        let mut log = Log::create(dir.clone(), options, threads, self.payloads)?;
        let (pairs, time) = pairs(self.seconds);
        let calls = (SLICE / frame_bytes(self.payloads.record) / threads as u64).max(1);
        let load = Load { threads, calls, time, stop: self.stop };
        let (mut by_hand, mut logged) = (Side::default(), Side::default());
        // Each first in its turn. The first pair warms up and is not counted.
        for pair in 0..=pairs {
            step("throughput")?;
            if pair == 1 {
                (by_hand, logged) = (Side::default(), Side::default());
            }
            if pair % 2 == 0 {
                self.by_hand(&floor, load, &mut by_hand)?;
            }
            logged_slice(&mut log, load, &mut logged)?;
            if pair % 2 == 1 {
                self.by_hand(&floor, load, &mut by_hand)?;
            }
        }
        let (slices, slice) = paced(self.seconds);
        let (due, mut arrivals) = (logged.rate() * LOAD, Arrivals::default());
        for _ in 0..slices {
            step("latency")?;
            let (calls, of_slice) =
                Load { time: slice, ..load }.paced(due, |thread, calls| log.append(thread, calls))?;
            log.read_back(&calls)?;
            arrivals.add(&of_slice);
        }
        let (read_back, reopened) = (log.records(), log.reopened);
        drop((log, floor));
        fs::remove_file(path)?;
        fs::remove_dir_all(dir)?;
        Ok(Row { threads, floor: by_hand, log: logged, due, arrivals, slice, read_back, reopened })
    }

    fn by_hand(&self, floor: &Floor, load: Load<'_>, side: &mut Side) -> anyhow::Result<()> {
        let before = floor.syncs();
        let append = |thread, calls| Ok(floor.append(self.payloads.of(tag(thread, calls)))?);
        let (calls, time) = load.race(append)?;
        side.add(&calls, time, floor.syncs() - before);
        Ok(())
    }
}

/// A slice of the log, which is then read back.
fn logged_slice(log: &mut Log<'_>, load: Load<'_>, side: &mut Side) -> anyhow::Result<()> {
    let before = log.wal.stats().syncs;
    let (calls, time) = load.race(|thread, calls| log.append(thread, calls))?;
    side.add(&calls, time, log.wal.stats().syncs - before);
    log.read_back(&calls)
}
