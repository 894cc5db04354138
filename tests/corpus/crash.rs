//! Calls with crashes and faults, held against the model of the crash tests: `tests/crash/machine.rs`.
//!
//! The input is a program: one byte for a step, then its operands; what is missing at the end reads as 0.

use seawall::sim::Bug;

use super::input::Input;
use super::machine::{FAILING, Machine, Step};
use super::model::CURSORS;

const STEPS: usize = 80;

/// Runs a program.
pub fn run(input: &[u8]) {
    run_with(input, None);
}

/// The same with a safety taken out.
pub fn run_with(input: &[u8], bug: Option<Bug>) {
    let steps = steps(&mut Input(input));
    if let Err(violation) = Machine::new(bug).run(&steps) {
        panic!("{violation} by {steps:?}");
    }
}

fn steps(input: &mut Input<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    while !input.is_empty() && steps.len() < STEPS {
        steps.push(step(input));
    }
    steps
}

fn step(input: &mut Input<'_>) -> Step {
    match input.byte() % 15 {
        0 => Step::Append { length: input.short() % 4000, time: u64::from(input.byte() % 6) },
        1 => Step::Batch { lengths: (0..=input.byte() % 4).map(|_| input.short() % 1500).collect() },
        2 => Step::Checkpoint { length: input.short() % 2000 },
        3 => Step::Sync,
        4 => Step::Rotate,
        5 => Step::CleanLsn { part: input.byte() },
        6 => Step::CleanTime { time: u64::from(input.byte() % 6) },
        7 => Step::Cursor { name: usize::from(input.byte()) % CURSORS.len(), to: input.byte() },
        8 => Step::Background,
        9 => Step::Fail { operation: usize::from(input.byte()) % FAILING.len(), nth: 1 + u64::from(input.byte() % 24) },
        10 => Step::Crash { seed: input.short() as u64 },
        11 => Step::CrashMask { mask: u64::from_le_bytes(input.bytes(8).try_into().unwrap_or_default()) },
        12 => Step::CrashLater { nth: 1 + u64::from(input.byte() % 32), seed: u64::from(input.byte()) },
        13 => Step::Kill,
        _ => Step::Close,
    }
}

/// The seeds, by name.
#[allow(clippy::too_many_lines, reason = "a table")]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let append = |length: u16, time: u8| [&[0][..], &length.to_le_bytes(), &[time]].concat();
    let batch = |lengths: &[u16]| {
        let lengths: Vec<u8> = lengths.iter().flat_map(|length| length.to_le_bytes()).collect();
        [vec![1, (lengths.len() / 2 - 1) as u8], lengths].concat()
    };
    let appends = |count: usize, length: u16| append(length, 1).repeat(count);
    let (sync, rotate, background, kill, close) = (vec![3], vec![4], vec![8], vec![13], vec![14]);
    let crash = |seed: u16| [&[10][..], &seed.to_le_bytes()].concat();
    let mask = |mask: u64| [&[11][..], &mask.to_le_bytes()].concat();
    let later = |nth: u8, seed: u8| vec![12, nth - 1, seed];
    let fail = |operation: u8, nth: u8| vec![9, operation, nth - 1];
    let clean = |part: u8| vec![5, part];
    let cursor = |name: u8, to: u8| vec![7, name, to];
    let checkpoint = || vec![2, 40, 0];
    let lives = || [appends(5, 900), sync.clone(), appends(3, 2500), rotate.clone(), appends(4, 300)].concat();
    vec![
        ("empty", vec![]),
        ("closed", [lives(), close.clone()].concat()),
        ("killed", [lives(), kill.clone(), lives(), kill].concat()),
        ("crashed", [lives(), crash(3), lives(), crash(700), lives(), crash(5)].concat()),
        ("masked", [lives(), mask(0x5555), lives(), mask(u64::MAX << 3), appends(2, 50), mask(0)].concat()),
        ("crashed-within", [later(9, 3), lives(), later(4, 8), lives(), later(2, 1), lives()].concat()),
        (
            "batches",
            [batch(&[100, 900, 0]), batch(&[1400; 4]), crash(2), batch(&[7, 7]), later(3, 77), sync.clone()].concat(),
        ),
        ("failed-sync", [lives(), fail(0, 1), sync.clone(), appends(2, 70), crash(9), lives()].concat()),
        ("failed-names", [fail(1, 2), lives(), fail(3, 1), lives(), fail(5, 1), lives(), close.clone()].concat()),
        ("failed-write", [appends(2, 3000), fail(2, 2), lives(), sync.clone(), lives(), crash(4)].concat()),
        (
            "cleaned",
            [
                lives(),
                lives(),
                sync.clone(),
                clean(200),
                background.clone(),
                lives(),
                clean(255),
                later(3, 5),
                background.clone(),
            ]
            .concat(),
        ),
        (
            "by-time",
            [
                append(900, 1),
                rotate.clone(),
                append(900, 4),
                rotate.clone(),
                append(9, 5),
                sync.clone(),
                vec![6, 5],
                crash(1),
            ]
            .concat(),
        ),
        (
            "cursors",
            [
                cursor(0, 0),
                lives(),
                sync.clone(),
                cursor(0, 128),
                cursor(1, 0),
                clean(255),
                lives(),
                cursor(0, 250),
                cursor(1, 255),
                sync.clone(),
                clean(255),
                crash(6),
                lives(),
                cursor(0, 255),
                crash(8),
            ]
            .concat(),
        ),
        (
            "checkpoints",
            [lives(), checkpoint(), sync.clone(), lives(), clean(255), checkpoint(), crash(0), clean(255), close]
                .concat(),
        ),
        ("recycled", [appends(3, 3900), sync.clone(), background.clone(), clean(250), background].concat().repeat(4)),
        (
            "recycled-crashed",
            [appends(3, 3900), sync, vec![8], clean(250), vec![8], crash(77), vec![8]].concat().repeat(4),
        ),
    ]
}
