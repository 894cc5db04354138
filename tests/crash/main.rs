//! Crashes the log at every storage operation it makes, and checks what the next opening finds.
//!
//! A run is a script of calls drawn from a seed, on a disk that loses power at some operation. Every state that
//! the power cut may leave (all of them where few things are dirty, a sample otherwise) is opened, held against
//! the model and against a second recovery, written from the specification alone, and appended to; one of them goes on:
//! so crashes meet recoveries of crashes.
//!
//! `SEAWALL_STATES=3000000 cargo test --release --features sim --test crash` checks more states,
//! `SEAWALL_SEED=17` replays one run with its calls printed.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::cast_possible_truncation)]

mod bugs;
mod full;
mod machine;
mod model;
mod property;
mod run;
#[path = "../common/second.rs"]
mod second;
#[allow(dead_code)]
#[path = "../common/spec.rs"]
mod spec;
mod views;

use std::collections::BTreeMap;
use std::time::Instant;

use run::{Counts, Plan, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Runs seeds on all cores until `states` were checked. The first violation ends the test, with its seed.
fn explore(plan: Plan, states: u64) -> Counts {
    if let Some(seed) = number("SEAWALL_SEED") {
        let counts = run(&Plan { talk: true, ..plan }, seed);
        return counts.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let total = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let mut total = Counts::default();
                    let mut seed = worker;
                    while total.states() < states / threads {
                        match run(&plan, seed) {
                            Ok(counts) => total.add(&counts),
                            Err(violation) => panic!("SEAWALL_SEED={seed}: {violation}"),
                        }
                        seed += threads;
                    }
                    total
                })
            })
            .collect();
        let mut total = Counts::default();
        for worker in workers {
            total.add(&worker.join().unwrap());
        }
        total
    });
    assert!(total.states() >= states - threads);
    total
}

fn report(what: &str, counts: &Counts, began: Instant) {
    println!("{what}: {} crash states in {:.0?}, no violation", counts.states(), began.elapsed());
    let mut by_operation: BTreeMap<_, _> = counts.by_operation.iter().collect();
    for (operation, states) in std::mem::take(&mut by_operation) {
        println!("  {operation:12} {states:>9}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_any_crash() {
    let states = number("SEAWALL_STATES").unwrap_or(120_000);
    let began = Instant::now();
    let counts = explore(Plan::crashes(), states);
    report("power cuts", &counts, began);
    for operation in ["open", "append", "batch", "checkpoint", "wait", "rotate", "clean", "background", "close"] {
        assert!(counts.by_operation.get(operation).is_some_and(|states| *states > 0), "no crash in {operation}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_calls_fail_too() {
    let states = number("SEAWALL_STATES").unwrap_or(100_000);
    let began = Instant::now();
    let counts = explore(Plan::faults(), states);
    report("power cuts and failing calls", &counts, began);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_gets_full() {
    let states = number("SEAWALL_STATES").unwrap_or(40_000);
    let began = Instant::now();
    let counts = explore(Plan::full(), states);
    report("power cuts and a full disk", &counts, began);
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let states = number("SEAWALL_STATES").unwrap_or(20_000);
    let began = Instant::now();
    let counts = explore(Plan::kills(), states);
    report("killed processes, Durability::Os", &counts, began);
}

#[test]
fn what_was_never_synced_leaves_a_prefix_after_a_power_cut() {
    let states = number("SEAWALL_STATES").unwrap_or(20_000);
    let began = Instant::now();
    let counts = explore(Plan::unsynced(), states);
    report("power cuts, Durability::Os", &counts, began);
}
