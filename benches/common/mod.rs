//! What the benches beside floors share: the command line, the directory, slices in turns, the table.
#![allow(dead_code)] // no bench needs all of it

pub mod args;
pub mod disk;
pub mod engine;
pub mod measure;
pub mod report;
pub mod system;

use std::process::ExitCode;

use args::{Args, Usage};
use measure::{Bench, Workload};
use report::Outcome;

/// What every part of a bench returns.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A bench: what it is called with, and its rows.
pub fn main(usage: &Usage, workloads: Vec<Workload>) -> ExitCode {
    let args = match Args::parse(usage, std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{}", usage.help());
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("{message}\n\n{}", usage.help());
            return ExitCode::FAILURE;
        }
    };
    match run(args, workloads) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for; `false` if floor and log did not sync alike somewhere, or a bound was passed.
fn run(args: Args, mut workloads: Vec<Workload>) -> Result<bool> {
    workloads.retain(|workload| args.only.as_ref().is_none_or(|only| workload.name.contains(only.as_str())));
    if workloads.is_empty() {
        return Err("no workload has that in its name; --list shows them".into());
    }
    if args.list {
        workloads.iter().for_each(|workload| println!("{}", workload.name));
        return Ok(true);
    }
    let markdown = args.markdown;
    let bench = Bench::new(args)?;
    report::head(&bench);
    let mut outcomes = Vec::new();
    for workload in &workloads {
        let outcome = Outcome::new(workload, (workload.run)(&bench)?);
        report::row(&outcome);
        outcomes.push(outcome);
    }
    if markdown {
        report::markdown(&outcomes);
    }
    Ok(report::right(&outcomes))
}
