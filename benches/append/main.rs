//! `cargo bench --bench append`: the log beside hand-written floors, on a real disk.
//!
//! Each row runs floor and log in turns, in short slices of one run, and prints the medians and two ratios:
//! of the medians, and the median over the pairs of neighbouring slices. A shared disk's speed changes many
//! times over within minutes, so only such pairs compare anything; the target is held against the second.
//! No time decides the exit code. It is 1 if the floor and the log did not sync alike, if the directory
//! is in memory (nothing would be measured), or if something failed.
//!
//! But for the row of new segments both sides are in their steady state: the log has been cleaned, so that its segments are
//! recycled files whose blocks were written before, and so are the blocks that the floors write into.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod appends;
#[path = "../common/mod.rs"]
mod common;
mod floor;
mod growing;
mod latency;
mod reading;

use std::process::ExitCode;

use common::args::Usage;

const USAGE: Usage = Usage {
    bench: "append",
    numbers: &[(
        latency::COMMITS,
        "commits on each side of the latency workload (default 1000000; 20000 with --short)",
    )],
    space: "4 GiB",
};

fn main() -> ExitCode {
    let mut workloads = appends::workloads();
    workloads.extend(growing::workloads());
    workloads.extend(reading::workloads());
    workloads.extend(latency::workloads());
    common::main(&USAGE, workloads)
}
