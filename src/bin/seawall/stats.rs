//! `seawall stats`: figures of a log from outside its process, once or again and again.

mod growth;
mod prometheus;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use seawall::check::{self, Overview};
use serde_json::{Value, json};

use crate::exit;
use crate::failure::{self, About};
use crate::inspect;
use crate::out::{Out, count, counted};
use crate::units::{self, bytes};
use growth::Growth;

/// Show the figures of a log, once or again and again; works on a live log, which notices nothing of it
///
/// Each look reads the newest segment, 8 KiB of each other, and all of those that are seen by that to be damaged.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log's directory
    dir: PathBuf,
    /// Look again and again, and tell how fast it grows
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = units::duration)]
    watch: Option<Duration>,
    /// In the text format of Prometheus
    #[arg(long, conflicts_with_all = ["watch", "json"])]
    prometheus: bool,
    /// One JSON object, a line for each look
    #[arg(long, long_help = JSON)]
    json: bool,
}

const JSON: &str = "\
One JSON object, a line for each look

  segments, disk_bytes, records
  appended          records since the log was made, cleaned ones included
  first, durable    LSNs: all below first was cleaned, or passed over by a repair; all below durable is durable
  checkpoint        LSN of the last one, or null; since_checkpoint: bytes of log from it on
  cursors           name, lsn, lag (bytes of log behind the durable point), holds (bytes of segments
                    that cannot be cleaned because of it)
  faults            how much damage was met; `seawall verify` finds all
  notes             what else there is to know, in words
  growth            with --watch, from the second look on: records_per_second, bytes_per_second (of
                    log, with what rotation left unused); otherwise null
Further fields may come. What is told of an error: `seawall --help`.";

const EXAMPLES: &str = "Examples:
  seawall stats /var/lib/billing
  seawall stats /var/lib/billing --watch 10s
  seawall stats --prometheus /var/lib/billing > /var/lib/node_exporter/billing.prom

Exit codes: 0 no damage was met, or nobody reads on, 1 usage or I/O, 2 damage was met, 5 written by a newer version.";

impl Arguments {
    pub fn about(&self) -> About<'_> {
        About::reading(&self.dir, self.json)
    }
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut overview = check::inspect(&arguments.dir)?;
    let mut looked = Instant::now();
    if arguments.prometheus {
        prometheus::write(&overview, out)?;
    } else if arguments.json {
        out.json(&object(&overview, None))?;
    } else {
        text(arguments, &overview, out)?;
    }
    out.flush()?;
    while let Some(interval) = arguments.watch.filter(|_| out.is_read()) {
        wait(interval, out);
        let (now, then) = (check::inspect(&arguments.dir)?, looked);
        looked = Instant::now();
        let growth = Growth::between(&overview, &now, looked - then);
        if arguments.json {
            out.json(&object(&now, Some(&growth)))?;
        } else {
            out.line(line(&now, &growth))?;
        }
        out.flush()?;
        overview = now;
    }
    Ok(if overview.faults.is_empty() { exit::CLEAN } else { exit::damage() })
}

/// Waits, and no longer than a second once nobody reads any more.
fn wait(interval: Duration, out: &mut Out) {
    let begun = Instant::now();
    while let Some(left) = interval.checked_sub(begun.elapsed()).filter(|_| out.is_read()) {
        std::thread::sleep(left.min(Duration::from_secs(1)));
    }
}

fn segments(overview: &Overview) -> usize {
    overview.segments.iter().filter(|segment| segment.is_log()).count()
}

fn object(overview: &Overview, growth: Option<&Growth>) -> Value {
    json!({
        "segments": segments(overview), "disk_bytes": overview.disk_bytes, "records": overview.records,
        "appended": overview.appended,
        "first": overview.first.0, "durable": overview.durable.0,
        "checkpoint": overview.checkpoint.map(|lsn| lsn.0), "since_checkpoint": overview.since_checkpoint,
        "cursors": overview.cursors.iter().map(inspect::cursor).collect::<Vec<_>>(),
        "faults": overview.faults.len(), "notes": overview.notes,
        "growth": growth.map(|growth| json!({
            "records_per_second": growth.records, "bytes_per_second": growth.bytes,
        })),
    })
}

fn text(arguments: &Arguments, overview: &Overview, out: &mut Out) -> anyhow::Result<()> {
    let rows = [
        ("segments", count(segments(overview) as u64)),
        ("disk", bytes(overview.disk_bytes)),
        ("records", count(overview.records)),
        ("durable", format!("lsn {}", overview.durable)),
        ("checkpoint", inspect::checkpoint(overview)),
    ];
    for (name, value) in rows {
        out.line(format_args!("{name:<12} {value}"))?;
    }
    for cursor in &overview.cursors {
        let (lag, holds) = (bytes(cursor.lag), bytes(cursor.holds));
        out.line(format_args!("cursor       {}: {lag} behind, keeps {holds}", cursor.name))?;
    }
    for note in &overview.notes {
        out.line(format_args!("note         {note}"))?;
    }
    if !overview.faults.is_empty() {
        out.line(format_args!("damage       {}", places(overview)))?;
        out.line(format_args!("next         {}", failure::ways(&arguments.dir, None).join("   |   ")))?;
    }
    Ok(())
}

/// In how many places damage was met.
fn places(overview: &Overview) -> String {
    format!("in {}", counted(overview.faults.len() as u64, "place"))
}

/// A look after another.
fn line(overview: &Overview, growth: &Growth) -> String {
    let (records, rate) = (counted(overview.records, "record"), count(growth.records));
    let (disk, since) = (bytes(overview.disk_bytes), bytes(overview.since_checkpoint));
    let checkpoint =
        overview.checkpoint.map_or_else(|| "no checkpoint".to_owned(), |_| format!("checkpoint {since} ago"));
    let mut line =
        format!("lsn {}  {records}  {rate}/s  {}/s  disk {disk}  {checkpoint}", overview.durable, bytes(growth.bytes));
    for cursor in &overview.cursors {
        line.push_str(&format!("  {} {} behind", cursor.name, bytes(cursor.lag)));
    }
    if !overview.faults.is_empty() {
        line.push_str(&format!("  damage {}", places(overview)));
    }
    line
}
