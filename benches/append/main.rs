//! `cargo bench --bench append`: the log beside hand-written floors, on a real disk.
//!
//! Each row runs floor and log in turns, in short slices of one run, and prints the medians and two ratios:
//! of the medians, and the median over the pairs of neighbouring slices. A shared disk's speed changes many
//! times over within minutes, so only such pairs compare anything; the target is held against the second.
//! No time decides the exit code. It is 1 if the floor and the log did not sync alike, if the directory
//! is in memory (nothing would be measured), or if something failed.
//!
//! Both sides are in their steady state: the log has been cleaned, so that its segments are recycled files
//! whose blocks were written before, and so are the blocks that the floors write into.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod appends;
mod args;
mod disk;
mod engine;
mod floor;
mod latency;
mod measure;
mod reading;
mod report;
mod system;

use std::process::ExitCode;

use args::Args;
use measure::Bench;
use report::Outcome;

/// What every part of the bench returns.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("{message}\n\n{}", args::HELP);
            return ExitCode::FAILURE;
        }
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for; `false` if floor and log did not sync alike somewhere.
fn run(args: &Args) -> Result<bool> {
    let mut workloads = appends::workloads();
    workloads.extend(reading::workloads());
    workloads.extend(latency::workloads());
    workloads.retain(|workload| args.only.as_ref().is_none_or(|only| workload.name.contains(only.as_str())));
    if workloads.is_empty() {
        return Err("no workload has that in its name; --list shows them".into());
    }
    if args.list {
        workloads.iter().for_each(|workload| println!("{}", workload.name));
        return Ok(true);
    }
    let bench = Bench::new(args)?;
    report::head(&bench);
    let mut outcomes = Vec::new();
    for workload in &workloads {
        let outcome = Outcome::new(workload, (workload.run)(&bench)?);
        report::row(&outcome);
        outcomes.push(outcome);
    }
    if args.markdown {
        report::markdown(&outcomes);
    }
    Ok(report::alike(&outcomes))
}
