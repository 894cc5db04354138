//! `cargo bench --bench readers`: reading beside hand-written floors, and what readers cost others.
//!
//! - *followed*: durable appends with a read-only follower in another process, against the same without.
//! - *memory*: a process that replays a big log, and what it holds beyond the page cache at most (`RssAnon`, looked at
//!   every millisecond): 64 MiB, or the bench fails.
//! - *verify*: `check::verify` with a thread for each core, against one thread that checksums the same frames in a map.
//! - *get*: records here and there out of a warm page cache, against `pread` and a checksum with an index in hand.
//!
//! How it is measured and what decides the exit code stands in `benches/append`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;
mod follow;
mod frames;
mod memory;

use std::process::ExitCode;

use common::args::Usage;

const USAGE: Usage = Usage {
    bench: "readers",
    numbers: &[(memory::MIB, "bytes of the log whose replay is looked at, in MiB (default 10240; 512 with --short)")],
    space: "12 GiB (2 GiB with --short)",
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The bench runs itself for what is measured in a process of its own.
    let child = match arguments[..] {
        [follow::CHILD, path] => follow::child(path),
        [memory::CHILD, path, how] => memory::child(path, how),
        _ => {
            let mut workloads = follow::workloads();
            workloads.extend(memory::workloads());
            workloads.extend(frames::workloads());
            return common::main(&USAGE, workloads);
        }
    };
    match child {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}
