//! What Spark Streaming's log does and what its suites ask of one, case by case, asked of this log on real files. The
//! receiver's cases are tests of the receiver: `DESIGN.md` says which.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

#[allow(dead_code, reason = "the crash tests and others read more of it")]
#[path = "../common/spec.rs"]
mod spec;

mod damage;
mod grouped;
mod log;

use std::path::{Path, PathBuf};

use seawall::{Options, Wal};

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

/// A record of a hundred bytes that bears its number.
fn payload(n: u32) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(100, b'a' + n as u8 % 26);
    payload
}

fn payloads(wal: &Wal) -> Vec<Vec<u8>> {
    wal.read(..).unwrap().map(|record| record.unwrap().payload.to_vec()).collect()
}

fn filled(numbers: impl IntoIterator<Item = u32>) -> Vec<Vec<u8>> {
    numbers.into_iter().map(payload).collect()
}

/// The log's segment files, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    found.sort();
    found
}
