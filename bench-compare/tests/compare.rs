//! The program itself, with planted engines: what does not sync is not ranked, nor what loses a record.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// A moment of the floor and `engine` with two threads.
fn run(engine: &str) -> (Output, String) {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-compare"));
    command.args(["--dir", dir, "--record", "100", "--threads", "2", "--seconds", "0.2", "--engines", engine]);
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    (output, printed)
}

/// Whether the row of `name` stands below the title.
fn below(printed: &str, title: &str, name: &str) -> bool {
    let table = printed.split_once(title).map_or("", |(_, after)| after).split("\n\n").next().unwrap();
    table.lines().any(|line| line.trim_start().starts_with(name))
}

#[test]
fn what_syncs_nothing_is_not_ranked() {
    let (output, printed) = run("planted-unsynced");
    assert!(below(&printed, "NOT DURABLE", "planted-unsynced"), "{printed}");
    assert!(below(&printed, "durable on return", "floor"), "{printed}");
    assert!(!below(&printed, "durable on return", "planted"), "{printed}");
    assert!(output.status.success(), "{printed}");
}

#[test]
fn what_loses_a_record_is_not_ranked_and_fails() {
    let (output, printed) = run("planted-forgetful");
    assert!(below(&printed, "READ BACK WRONG", "planted-forgetful"), "{printed}");
    assert!(!below(&printed, "durable on return", "planted"), "{printed}");
    assert_eq!(output.status.code(), Some(1), "{printed}");
}

#[test]
fn every_engine_is_durable_and_whole() {
    let (output, printed) = run("seawall,okaywal,raft-engine,redb");
    for engine in ["floor", "seawall", "okaywal", "raft-engine", "redb"] {
        assert!(below(&printed, "durable on return", engine), "{engine}: {printed}");
    }
    assert!(output.status.success(), "{printed}");
}

#[test]
fn a_directory_in_memory_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench-compare")).args(["--dir", "/dev/shm"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("in memory"), "{said}");
}
