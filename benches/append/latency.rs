//! p99.9 of durable appends while segments are rotated, against the same without any rotation.
//!
//! The load is open: appends fall due at a fixed rate, whatever became of those before, and a commit's time
//! runs from when it was due. A thread that slept until then and overslept counts from when it woke: that is
//! the load generator's fault, not the log's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::Result;
use crate::common::engine::Engine;
use crate::common::measure::{Bench, Limit, Measured, Side, Syncs, Target, Workload, median, payload, permille, race};
use crate::common::report::size_of;

/// Threads of the load, many more than are under way at once.
const THREADS: usize = 32;
/// Of the rate that the log reaches with as many threads in a closed loop, measured anew for each block: a shared
/// disk that has become slower than the load would show its queue and nothing else.
const LOAD: f64 = 0.25;
/// Commits of a slice.
const SLICE: usize = 2_000;
const SIZE: usize = 1 << 10;
/// The option that sets how many commits there are on each side.
pub const COMMITS: &str = "--commits";
/// One rotation in about a thousand commits: were only they slow, p99.9 would show it.
const SMALL: u64 = 1 << 20;
/// Pairs of percentiles that the commits are divided into.
const BLOCKS: usize = 10;

/// The one of them.
pub fn workloads() -> Vec<Workload> {
    let name = format!("p99.9 durable {}, rotating", size_of(SIZE));
    vec![Workload { name, target: Target::AtMost(1.5), run: Box::new(rotations) }]
}

fn rotations(bench: &Bench) -> Result<Measured> {
    let large = if bench.short { 16 << 20 } else { 256 << 20 };
    let without = Engine::warm(&bench.dir, "without", large)?;
    let with = Engine::warm(&bench.dir, "with", SMALL)?;
    let commits = bench.number(COMMITS).unwrap_or(if bench.short { 20_000 } else { 1_000_000 });
    let slices = commits.div_ceil(SLICE).div_ceil(BLOCKS);
    let (mut floor, mut log) = (Arm::default(), Arm::default());
    let mut rates = Vec::new();
    let mut room;
    for _ in 0..BLOCKS {
        let interval = interval(&without)?;
        rates.push(1.0 / interval.as_secs_f64());
        room = 0;
        for turn in 0..slices {
            if room < 4 * (SLICE * SIZE) as u64 {
                room = begin_segment(&without)?;
            }
            room -= 2 * (SLICE * SIZE) as u64;
            if turn % 2 == 0 {
                floor.run(&without, interval)?;
                log.run(&with, interval)?;
            } else {
                log.run(&with, interval)?;
                floor.run(&without, interval)?;
            }
        }
        floor.end_block();
        log.end_block();
    }
    floor.0.label = format!("no rotation, {:.0}/s", median(&rates));
    log.0.label = format!("{} rotations", log.0.totals.segments);
    Ok(Measured { floor: floor.0, log: log.0, syncs: Syncs::Grouped(THREADS as u64) })
}

/// Makes room for a whole segment without a rotation; tells how many bytes.
fn begin_segment(engine: &Engine) -> Result<u64> {
    engine.wal.rotate()?;
    engine.wal.append(b"first of its segment")?.wait()?;
    engine.settle()?;
    Ok(engine.segment)
}

/// The time between two commits, so that the disk is busy and not swamped.
fn interval(engine: &Engine) -> Result<Duration> {
    let payload = payload(SIZE);
    let limit = Limit { time: Duration::from_millis(100), bytes: engine.segment / 16 };
    let mut rates = Vec::new();
    for _ in 0..5 {
        let slice = engine.slice(|| {
            race(THREADS, SIZE as u64, limit, || {
                engine.wal.append(&payload)?.wait()?;
                Ok(())
            })
        })?;
        rates.push(slice.rate());
    }
    Ok(Duration::from_secs_f64(1.0 / (median(&rates) * LOAD)))
}

/// One side: its figures so far, and the times of the present block in microseconds.
#[derive(Default)]
struct Arm(Side, Vec<f64>);

impl Arm {
    /// One slice; the log is settled afterwards.
    fn run(&mut self, engine: &Engine, interval: Duration) -> Result<()> {
        let Arm(side, times) = self;
        let slice = engine.slice(|| {
            let start = Instant::now();
            times.append(&mut open_loop(engine, interval)?);
            Ok((SLICE as u64, start.elapsed()))
        })?;
        side.totals.add(&slice);
        Ok(())
    }

    fn end_block(&mut self) {
        let Arm(side, times) = self;
        side.figures.push(permille(times, 999));
        times.clear();
    }
}

/// The time of each commit of one slice.
fn open_loop(engine: &Engine, interval: Duration) -> Result<Vec<f64>> {
    let next = AtomicU64::new(0);
    let payload = payload(SIZE);
    let start = Instant::now() + Duration::from_millis(5);
    let one = || -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(SLICE);
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= SLICE as u64 {
                return Ok(times);
            }
            let mut due = start + interval.mul_f64(turn as f64);
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                thread::sleep(early);
                due = Instant::now();
            }
            engine.wal.append(&payload)?.wait()?;
            times.push(due.elapsed().as_secs_f64() * 1e6);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::with_capacity(SLICE);
        for thread in threads {
            all.append(&mut thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))?);
        }
        Ok(all)
    })
}
