//! The command line tool `seawall`: receive a stream, look into a log, verify, repair, salvage and export it, measure
//! it, and a demonstration.

mod anew;
mod bench;
mod completions;
mod demo;
mod dump;
mod exit;
mod export;
mod failure;
mod inspect;
mod meter;
mod out;
mod receive;
mod record;
mod repair;
mod salvage;
mod stats;
mod tail;
mod target;
mod units;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde_json::json;

use failure::About;
use out::Out;

/// A write-ahead log: receive a stream into it, look inside, verify, repair, salvage and export it.
///
/// Exit codes: 0 clean, 1 usage or I/O, 2 damage found, 3 acted with loss, or where it cannot be told
/// whether, 4 locked by another writer, 5 written by a newer version.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", failure::JSON), max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  seawall demo
  seawall receive --brokers localhost:9092 --group billing --topic orders --dir /var/lib/billing
  seawall inspect /var/lib/billing
  seawall dump /var/lib/billing --json | head -1
  seawall tail -f /var/lib/billing
  seawall verify /var/lib/billing
  seawall bench --dir /var/lib";

#[derive(Debug, Subcommand)]
enum Command {
    Receive(Box<receive::Arguments>),
    Inspect(inspect::Arguments),
    Dump(dump::Arguments),
    Tail(tail::Arguments),
    Stats(stats::Arguments),
    Export(export::Arguments),
    Verify(verify::Arguments),
    Repair(repair::Arguments),
    Salvage(salvage::Arguments),
    Bench(bench::Arguments),
    Demo(demo::Arguments),
    Completions(completions::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::command().try_get_matches().and_then(|found| Arguments::from_arg_matches(&found)) {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version are answers, everything else is an error of usage. Nobody may be listening.
            let _ = told.print();
            return if told.use_stderr() { exit::USAGE } else { exit::CLEAN };
        }
    };
    // A log holds a descriptor for each segment; where no more are granted, opening says what it is short of.
    _ = rlimit::increase_nofile_limit(u64::MAX);
    let about = arguments.command.about();
    let done = match &arguments.command {
        // It does not wait for whoever reads what it tells.
        Command::Receive(arguments) => receive::run(arguments),
        Command::Inspect(arguments) => telling(|out| inspect::run(arguments, out)),
        Command::Tail(arguments) => telling(|out| tail::run(arguments, out)),
        Command::Stats(arguments) => telling(|out| stats::run(arguments, out)),
        Command::Export(arguments) => telling(|out| export::run(arguments, out)),
        Command::Completions(arguments) => telling(|out| completions::run(arguments, Arguments::command(), out)),
        Command::Dump(arguments) => telling(|out| dump::run(arguments, out)),
        Command::Verify(arguments) => telling(|out| verify::run(arguments, out)),
        Command::Repair(arguments) => telling(|out| repair::run(arguments, out)),
        Command::Salvage(arguments) => telling(|out| salvage::run(arguments, out)),
        Command::Bench(arguments) => telling(|out| bench::run(arguments, out)),
        Command::Demo(arguments) => telling(|out| demo::run(arguments, out)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            failure::text(&error, about).lines().for_each(out::warn);
            if let Some(about) = about.filter(|about| about.json) {
                // That it cannot be written is nothing to say beside that.
                let mut out = Out::new();
                _ = out.json(&json!({ "error": failure::object(&error, about) })).and_then(|()| out.flush());
            }
            exit::code(&error)
        }
    }
}

impl Command {
    /// What it is about; `None` if that is no log.
    fn about(&self) -> Option<About<'_>> {
        match self {
            Command::Receive(arguments) => Some(arguments.about()),
            Command::Inspect(arguments) => Some(arguments.about()),
            Command::Dump(arguments) => Some(arguments.about()),
            Command::Tail(arguments) => Some(arguments.about()),
            Command::Stats(arguments) => Some(arguments.about()),
            Command::Export(arguments) => Some(arguments.about()),
            Command::Verify(arguments) => Some(arguments.about()),
            Command::Repair(arguments) => Some(arguments.about()),
            Command::Salvage(arguments) => arguments.about(),
            Command::Bench(arguments) => Some(arguments.about()),
            Command::Demo(_) | Command::Completions(_) => None,
        }
    }
}

/// Runs what tells something on standard output.
fn telling(run: impl FnOnce(&mut Out) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let mut out = Out::new();
    let code = run(&mut out)?;
    out.flush()?;
    Ok(code)
}
