//! `seawall bench`: what the log reaches on a disk, beside a floor by hand that is measured in turns with it.

mod floor;
mod group;
mod help;
mod load;
mod log;
mod report;
mod row;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit;
use crate::failure::{About, Listing};
use crate::inspect::{directory, write_new};
use crate::meter::Meter;
use crate::out::{self, Out, count, counted};
use crate::target::{log_around, resolved};
use crate::units::{self, bytes};
use floor::Probe;
use log::{MAX_RECORD, Payloads};
use row::{Row, Stage};

pub use log::Mismatch;

/// What may be under way at once: each thread's record, in memory and in the file of the floor.
const MAX_UNDER_WAY: u64 = 1 << 30;
/// The longest time of a row.
const MAX_SECONDS: f64 = 3600.0;

/// Measure what the log reaches on a disk, beside a floor written by hand, and see that it holds what it acknowledged
///
/// Makes a directory of its own in DIR, seawall-bench-*, and removes it in the end, on SIGINT and SIGTERM too; a second
/// one, a hangup and SIGKILL leave it there. First it measures what a sync costs there. Then, for each durability and each number of
/// threads, floor and log append in turns, the log's fsyncs and the floor's are counted, and appends at 70 percent of
/// the rate that the log reached are timed from when each was due, so that a stall counts for all that had to wait.
/// Again and again the log is closed, opened and read back: number, order and bytes must be what was acknowledged.
///
/// Figures of different durability promise different things, and stand apart. It takes up to about 500 MB of disk, or four
/// times what is under way at once where that is more.
#[derive(Debug, Args)]
#[command(after_help = help::EXAMPLES)]
pub struct Arguments {
    /// A directory on the disk to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of a record, such as 100 or 16KiB; at most 64MiB less some 8KiB
    #[arg(long, value_name = "SIZE", default_value = "1024", value_parser = record)]
    record: u64,
    /// How many threads append, each waiting for its record; a row for each number, 1 to 1024
    #[arg(long, value_name = "N,..", default_value = "1,8,64", value_delimiter = ',', value_parser = threads)]
    threads: Vec<usize>,
    /// What is waited for; a table for each
    #[arg(long, value_enum, value_name = "os|disk,..", default_value = "os,disk", value_delimiter = ',')]
    durability: Vec<Durability>,
    /// Seconds that a row takes for throughput, half of them the floor's, and as many again for latency; at most 3600
    #[arg(long, value_name = "S", default_value = "3", value_parser = seconds)]
    seconds: f64,
    /// Write a page with plots too, in one file for a browser, which must not be there yet
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// One JSON object
    #[arg(long, long_help = help::JSON)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// Written: survives a killed process
    Os,
    /// Written and synced: survives a power cut
    Disk,
}

impl Durability {
    fn name(self) -> &'static str {
        match self {
            Durability::Os => "os",
            Durability::Disk => "disk",
        }
    }

    /// What survives.
    fn survives(self) -> &'static str {
        match self {
            Durability::Os => {
                "what was acknowledged survives a killed process, not a crash of the operating system or a power cut"
            }
            Durability::Disk => {
                "what was acknowledged survives a killed process, a crash of the operating system and a power cut"
            }
        }
    }
}

fn record(text: &str) -> Result<u64, String> {
    match units::size(text)? {
        size @ 1..=MAX_RECORD => Ok(size),
        _ => Err(format!("a record has 1 to {MAX_RECORD} bytes, as many as a segment takes")),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    let number = text.trim().parse().ok().filter(|number| (1..=1024).contains(number));
    number.ok_or_else(|| "numbers from 1 to 1024 with commas between, such as 1,8,64".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds >= 0.01 && *seconds <= MAX_SECONDS);
    seconds.ok_or_else(|| format!("a number of seconds from 0.01 to {MAX_SECONDS}"))
}

impl Arguments {
    pub fn about(&self) -> About<'_> {
        const TOUCHED: &str = "nothing that was there before";
        About { touched: TOUCHED, done: TOUCHED, ..About::reading(&self.dir, self.json) }
    }

    /// Refuses what cannot be done, before anything is measured.
    fn check(&self) -> anyhow::Result<()> {
        let dir = &self.dir;
        let refused = |path: &Path, why: &str| Listing::at(path, format!("{} {why}", path.display()));
        ensure!(dir.is_dir(), refused(dir, "is no directory; name one on the disk to be measured"));
        let holds_log = log_around(&dir.join("bench")).is_some();
        ensure!(!holds_log, refused(dir, "holds a log; name a directory beside it"));
        let most = self.threads.iter().copied().max().unwrap_or(1) as u64 * self.record;
        let what = format!("{} would be under way at once, and at most {} are: ", bytes(most), bytes(MAX_UNDER_WAY));
        ensure!(most <= MAX_UNDER_WAY, Listing::new(what + "name a lower --threads or a smaller --record", None));
        if let Some(file) = &self.report {
            ensure!(file.symlink_metadata().is_err(), refused(file, "is there; it was left as it is: name a new file"));
            let place = resolved(file);
            ensure!(log_around(&place).is_none(), refused(file, "lies among a log's files; name a place elsewhere"));
            let parent = directory(&place);
            ensure!(parent.is_dir(), refused(parent, "is no directory, and the report was to lie in it"));
        }
        Ok(())
    }
}

/// What was measured of one durability.
struct Table {
    durability: Durability,
    rows: Vec<Row>,
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    arguments.check()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The first only sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("waiting for signals")?;
    }
    let place = Place::new(&arguments.dir)?;
    let measured = measure(arguments, &place, &stop, out);
    // Said beside what was measured, or went wrong.
    let left = place.remove().inspect_err(|error| out::warn(format_args!("warning: {error:#}: it is left there")));
    // Whatever the error: it may have come of that.
    ensure!(!stop.load(Ordering::Relaxed), "interrupted before all was measured");
    let (probe, tables) = measured?;
    if arguments.json {
        out.json(&report::object(arguments, &probe, &tables))?;
    }
    if let Some(file) = &arguments.report {
        let page = report::page(arguments, &probe, &tables);
        write_new(file, &page).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(if left.is_ok() { exit::CLEAN } else { exit::USAGE })
}

fn measure(
    arguments: &Arguments,
    place: &Place,
    stop: &AtomicBool,
    out: &mut Out,
) -> anyhow::Result<(Probe, Vec<Table>)> {
    let payloads = Payloads::new(usize::try_from(arguments.record)?);
    let rows = (arguments.durability.len() * arguments.threads.len()) as u64;
    let meter = Meter::of_steps(arguments.json, 1 + rows * row::steps(arguments.seconds));
    let probe = Probe::take(&place.dir, Duration::from_secs_f64(arguments.seconds.min(1.0)), stop)?;
    let mut say = |lines: Vec<String>| {
        meter.aside(|| {
            let mut lines = lines.iter().filter(|_| !arguments.json);
            lines.try_for_each(|line| out.line(line)).and_then(|()| out.flush())
        })
    };
    say(facts(arguments, &probe).iter().map(|(name, value)| format!("{name:<12} {value}")).collect())?;
    if let Some(warning) = warning(&probe) {
        meter.say(warning);
    }
    let stage = Stage { dir: &place.dir, payloads: &payloads, seconds: arguments.seconds, stop, meter: &meter };
    let mut tables = Vec::new();
    for &durability in &arguments.durability {
        let title = format!("{}: {}", durability.name(), durability.survives());
        say(vec![String::new(), title, report::line(&report::COLUMNS)])?;
        let mut rows = Vec::new();
        for &threads in &arguments.threads {
            let row = stage.row(durability, threads)?;
            say(report::cells(&row, arguments.record).iter().map(report::line).collect())?;
            rows.push(row);
        }
        say(report::notes(&rows))?;
        tables.push(Table { durability, rows });
    }
    Ok((probe, tables))
}

/// What stands above all tables: names and values.
fn facts(arguments: &Arguments, probe: &Probe) -> Vec<(&'static str, String)> {
    let system = probe.file_system.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    vec![
        ("directory", format!("{}{system}", arguments.dir.display())),
        (
            "sync",
            format!(
                "{} for a write of 4 KiB in place and fdatasync (median of {})",
                units::time(probe.sync),
                count(probe.samples as u64)
            ),
        ),
        ("record", counted(arguments.record, "byte")),
    ]
}

/// What is to be said aloud where nothing reaches a disk.
fn warning(probe: &Probe) -> Option<&'static str> {
    probe
        .is_free()
        .then_some("warning: a sync costs nothing here, so that it reaches no disk: figures of `disk` mean nothing")
}

/// A directory of its own, removed with all in it.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(parent: &Path) -> anyhow::Result<Place> {
        let id = std::process::id();
        for number in 0.. {
            let dir = parent.join(format!("seawall-bench-{id}-{number}"));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Place { dir }),
                // Another process had the same id.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| format!("making {}", dir.display())),
            }
        }
        bail!("no name is left in {}", parent.display())
    }

    fn remove(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))
    }
}

impl Drop for Place {
    /// Where something panicked.
    fn drop(&mut self) {
        if self.dir.exists() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
