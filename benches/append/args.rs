//! The command line.

/// What `--help` prints.
pub const HELP: &str = "\
cargo bench --bench append -- [OPTIONS]

  --only NAME    only workloads whose name contains NAME
  --list         print the names of the workloads and stop
  --short        a moment of everything (under a minute): that it runs and syncs alike, no figures to keep
  --rounds N     pairs of slices per workload (default 25; 3 with --short)
  --commits N    commits on each side of the latency workload (default 1000000; 20000 with --short)
  --markdown     print the table for DESIGN.md as well
  --help         this

SEAWALL_BENCH_DIR names the directory to work in: on the disk that is to be measured, with 4 GiB free.
Default: target/tmp. What is made there is removed at the end.
";

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
    /// Commits per side of the latency workload, if given.
    commits: Option<usize>,
}

impl Args {
    /// Reads the arguments; `None` if help was asked for.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
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
                "--commits" => args.commits = Some(number(&value()?)?),
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        Ok(Some(args))
    }

    /// Pairs of slices per workload.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.short { 3 } else { 25 })
    }

    /// Commits on each side of the latency workload.
    pub fn commits(&self) -> usize {
        self.commits.unwrap_or(if self.short { 20_000 } else { 1_000_000 })
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| format!("{text:?} is not a positive number"))
}
