//! The command line.

use std::fmt::Write;

/// What a bench takes beside what all take.
pub struct Usage {
    /// Its name.
    pub bench: &'static str,
    /// Options that take a number, and what it is.
    pub numbers: &'static [(&'static str, &'static str)],
    /// What it needs on the disk.
    pub space: &'static str,
}

impl Usage {
    /// What `--help` prints.
    pub fn help(&self) -> String {
        let Usage { bench, space, .. } = self;
        let mut own = String::new();
        for (option, what) in self.numbers {
            _ = writeln!(own, "  {:<14} {what}", format!("{option} N"));
        }
        format!(
            "\
cargo bench --bench {bench} -- [OPTIONS]

  --only NAME    only workloads whose name contains NAME
  --list         print the names of the workloads and stop
  --short        a moment of everything (about a minute): that it runs and syncs alike, no figures to keep
  --rounds N     pairs of slices per workload (default 25; 3 with --short)
{own}  --markdown     print the table for DESIGN.md as well
  --help         this

SEAWALL_BENCH_DIR names the directory to work in: on the disk that is to be measured, with {space} free.
Default: target/tmp. What is made there is removed at the end.
"
        )
    }
}

/// What was asked for.
#[derive(Debug, Default)]
pub struct Args {
    /// Part of the names to run.
    pub only: Option<String>,
    /// Print names only.
    pub list: bool,
    /// A moment of everything.
    pub short: bool,
    /// Print the table for `DESIGN.md`.
    pub markdown: bool,
    /// Pairs of slices, if given.
    rounds: Option<usize>,
    /// The bench's own numbers.
    numbers: Vec<(&'static str, usize)>,
}

impl Args {
    /// Reads the arguments; `None` if help was asked for.
    pub fn parse(usage: &Usage, arguments: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
        let mut args = Args::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--bench" => {} // cargo says this to every bench
                "--help" | "-h" => return Ok(None),
                "--only" => args.only = Some(value()?),
                "--list" => args.list = true,
                "--short" => args.short = true,
                "--markdown" => args.markdown = true,
                "--rounds" => args.rounds = Some(number(&value()?)?),
                other => match usage.numbers.iter().find(|(option, _)| *option == other) {
                    Some((option, _)) => args.numbers.push((option, number(&value()?)?)),
                    None => return Err(format!("unknown argument {other:?}")),
                },
            }
        }
        Ok(Some(args))
    }

    /// Pairs of slices per workload.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.short { 3 } else { 25 })
    }

    /// One of the bench's own numbers, if it was given.
    pub fn number(&self, option: &str) -> Option<usize> {
        self.numbers.iter().rev().find(|(name, _)| *name == option).map(|(_, number)| *number)
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| format!("{text:?} is not a positive number"))
}
