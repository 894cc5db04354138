//! Appends: buffered, durable one by one and in groups, many tickets, batches.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use seawall::Ticket;

use crate::common::Result;
use crate::common::disk::Ring;
use crate::common::engine::Engine;
use crate::common::measure::{
    Bench, Limit, Measured, Side, Slice, Syncs, Target, Workload, best, interleave, payload, race,
};
use crate::common::report::size_of;
use crate::floor::{Buffered, Group, append_durably};

/// What the floors' buffers are chosen from.
const BUFFERS: [usize; 7] = [32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20];
/// Tickets that are out before one is waited for.
const TICKETS: usize = 1000;
/// Records of a batch.
const BATCH: usize = 100;

/// All of them.
pub fn workloads() -> Vec<Workload> {
    let mut all = Vec::new();
    for (size, target) in [(100, 0.7), (1 << 10, 0.85), (16 << 10, 0.9)] {
        let run = Box::new(move |bench: &Bench| buffered(bench, size));
        all.push(Workload { name: format!("buffered {}", size_of(size)), target: Target::AtLeast(target), run });
    }
    for size in [100, 1 << 10, 16 << 10, 256 << 10] {
        let run = Box::new(move |bench: &Bench| alone(bench, size));
        let name = format!("durable {}, 1 thread", size_of(size));
        all.push(Workload { name, target: Target::AtLeast(0.95), run });
    }
    for (size, threads) in [(100, 64), (1 << 10, 8), (1 << 10, 64), (1 << 10, 256), (16 << 10, 64)] {
        let run = Box::new(move |bench: &Bench| together(bench, size, threads));
        let name = format!("durable {}, {threads} threads", size_of(size));
        all.push(Workload { name, target: Target::AtLeast(1.0), run });
    }
    for size in [100, 1 << 10, 16 << 10] {
        let run = Box::new(move |bench: &Bench| tickets(bench, size));
        let name = format!("{TICKETS} tickets {}", size_of(size));
        all.push(Workload { name, target: Target::AtLeast(1.0), run });
    }
    let run = Box::new(move |bench: &Bench| batches(bench, 1 << 10));
    let name = format!("batches {BATCH} x {}", size_of(1 << 10));
    all.push(Workload { name, target: Target::AtLeast(1.0), run });
    all
}

/// A file of blocks written before, as long as a few segments.
fn ring(bench: &Bench) -> Result<Ring> {
    Ok(Ring::create(&bench.dir.fresh("floor")?, 4 * bench.segment())?)
}

fn engine(bench: &Bench) -> Result<Engine> {
    Engine::warm(&bench.dir, "log", bench.segment())
}

/// Nobody waits; what was written is synced when the time has been taken.
fn buffered(bench: &Bench, size: usize) -> Result<Measured> {
    let payload = payload(size);
    let records = bench.limit().bytes / size as u64;
    let floor = RefCell::new(Buffered::new(ring(bench)?, 0));
    let by_hand = |records: u64| -> Result<Slice> {
        let floor = &mut *floor.borrow_mut();
        let (syncs, start) = (floor.ring.syncs, Instant::now());
        for _ in 0..records {
            floor.append(black_box(&payload))?;
        }
        let slice = Slice { records, time: start.elapsed(), syncs: floor.ring.syncs - syncs, segments: 0 };
        floor.sync()?;
        Ok(slice)
    };
    let buffer = best(&BUFFERS, |buffer| {
        floor.borrow_mut().resize(buffer);
        by_hand(records / 4)
    })?;
    floor.borrow_mut().resize(buffer);
    let engine = engine(bench)?;
    let mut log = || {
        engine.slice(|| {
            let start = Instant::now();
            for _ in 0..records {
                drop(engine.wal.append(black_box(&payload))?);
            }
            Ok((records, start.elapsed()))
        })
    };
    let (floor, log) = interleave(bench.rounds, &mut || by_hand(records), &mut log)?;
    Ok(measured(format!("buffer {}", size_of(buffer)), floor, log, Syncs::None))
}

/// One thread, each record durable before the next.
fn alone(bench: &Bench, size: usize) -> Result<Measured> {
    let payload = payload(size);
    let state = RefCell::new((ring(bench)?, Vec::new()));
    let limit = bench.limit();
    let by_hand = |gathered: bool, limit: Limit| {
        let (ring, buffer) = &mut *state.borrow_mut();
        let syncs = ring.syncs;
        let (records, time) = repeat(size, limit, || Ok(append_durably(ring, buffer, black_box(&payload), gathered)?))?;
        Ok(Slice { records, time, syncs: ring.syncs - syncs, segments: 0 })
    };
    let gathered = best(&[false, true], |gathered| by_hand(gathered, limit))?;
    let engine = engine(bench)?;
    let mut log = || {
        engine.slice(|| {
            repeat(size, limit, || {
                engine.wal.append(black_box(&payload))?.wait()?;
                Ok(())
            })
        })
    };
    let (floor, log) = interleave(bench.rounds, &mut || by_hand(gathered, limit), &mut log)?;
    Ok(measured(if gathered { "pwritev" } else { "pwrite" }.into(), floor, log, Syncs::Each(1)))
}

/// Many threads, each with one record under way.
fn together(bench: &Bench, size: usize, threads: usize) -> Result<Measured> {
    let payload = payload(size);
    let group = RefCell::new(Group::new(ring(bench)?));
    let limit = bench.limit();
    let by_hand = |yields: bool| {
        group.borrow_mut().commit.yields = yields;
        let group = &*group.borrow();
        let syncs = group.syncs();
        let (records, time) = race(threads, size as u64, limit, || Ok(group.append(black_box(&payload))?))?;
        Ok(Slice { records, time, syncs: group.syncs() - syncs, segments: 0 })
    };
    let yields = best(&[false, true], by_hand)?;
    let engine = engine(bench)?;
    let mut log = || {
        engine.slice(|| {
            race(threads, size as u64, limit, || {
                engine.wal.append(black_box(&payload))?.wait()?;
                Ok(())
            })
        })
    };
    let (floor, log) = interleave(bench.rounds, &mut || by_hand(yields), &mut log)?;
    let label = if yields { "group, yielding" } else { "group" };
    Ok(measured(label.into(), floor, log, Syncs::Grouped(threads as u64)))
}

/// One thread appends a thousand records and then waits for each of them.
fn tickets(bench: &Bench, size: usize) -> Result<Measured> {
    let engine = engine(bench)?;
    let payload = payload(size);
    let mut out: Vec<Ticket> = Vec::with_capacity(TICKETS);
    let mut log = || {
        for _ in 0..TICKETS {
            out.push(engine.wal.append(black_box(&payload))?);
        }
        for ticket in out.drain(..) {
            ticket.wait()?;
        }
        Ok(())
    };
    flushed(bench, &engine, size, TICKETS, &mut log)
}

/// One thread, each batch durable before the next.
fn batches(bench: &Bench, size: usize) -> Result<Measured> {
    let engine = engine(bench)?;
    let batch = vec![payload(size); BATCH];
    let mut log = || {
        engine.wal.append_batch(black_box(&batch))?.wait()?;
        Ok(())
    };
    flushed(bench, &engine, size, BATCH, &mut log)
}

/// `log` makes `count` records durable with one sync; the floor does so through a buffer.
fn flushed(
    bench: &Bench,
    engine: &Engine,
    size: usize,
    count: usize,
    log: &mut dyn FnMut() -> Result<()>,
) -> Result<Measured> {
    let payload = payload(size);
    let limit = bench.limit();
    let floor = RefCell::new(Buffered::new(ring(bench)?, 0));
    let records = |(calls, time): (u64, Duration)| (calls * count as u64, time);
    let by_hand = || {
        let floor = &mut *floor.borrow_mut();
        let syncs = floor.ring.syncs;
        let (records, time) = records(repeat(size * count, limit, || {
            for _ in 0..count {
                floor.append(black_box(&payload))?;
            }
            Ok(floor.sync()?)
        })?);
        Ok(Slice { records, time, syncs: floor.ring.syncs - syncs, segments: 0 })
    };
    let buffer = best(&BUFFERS, |buffer| {
        floor.borrow_mut().resize(buffer);
        by_hand()
    })?;
    floor.borrow_mut().resize(buffer);
    let mut log = || engine.slice(|| Ok(records(repeat(size * count, limit, &mut *log)?)));
    let (floor, log) = interleave(bench.rounds, &mut || by_hand(), &mut log)?;
    Ok(measured(format!("buffer {}", size_of(buffer)), floor, log, Syncs::Each(count as u64)))
}

fn measured(label: String, floor: Side, log: Side, syncs: Syncs) -> Measured {
    Measured { floor: Side { label, ..floor }, log, syncs }
}

/// Calls `op`, which appends `bytes`, until the slice is over.
fn repeat(bytes: usize, limit: Limit, mut op: impl FnMut() -> Result<()>) -> Result<(u64, Duration)> {
    let quota = (limit.bytes / bytes as u64).max(1);
    let start = Instant::now();
    let mut calls = 0;
    while calls < quota && start.elapsed() < limit.time {
        op()?;
        calls += 1;
    }
    Ok((calls, start.elapsed()))
}
