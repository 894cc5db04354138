//! `seawall verify`: every checksum of a log, beside a live writer or without one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use seawall::check::{Fault, Report, Verify};
use serde_json::{Value, json};

use crate::exit;
use crate::out::{self, Out, count};
use crate::units::bytes;

/// Check every checksum of a log, in parallel; works on a live log and changes nothing
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log's directory
    dir: PathBuf,
    /// Tell what was found as one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  seawall verify /var/lib/billing
  seawall verify /var/lib/billing --json | jq .faults

Exit codes: 0 all that was known to be durable is there as it was written, 1 usage or I/O, 2 it is not, 5 written by
a newer version.";

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    let bar = bar();
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let report = Verify::new().progress(&progress).run(&arguments.dir);
    bar.finish_and_clear();
    let report = report?;
    if arguments.json {
        out.json(&object(&report))?;
    } else {
        text(&report, out)?;
    }
    Ok(if report.is_clean() { exit::CLEAN } else { exit::damage() })
}

/// A progress bar of bytes, on a terminal.
pub fn bar() -> ProgressBar {
    if !out::has_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let template = "{bar:40} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A fault as JSON.
pub fn fault(fault: &Fault) -> Value {
    json!({
        "segment": fault.segment, "offset": fault.offset, "lsn": fault.lsn.0, "what": fault.what,
        "lost_bytes": fault.lost_bytes, "lost_records": fault.lost_records, "beyond": fault.beyond,
    })
}

fn object(report: &Report) -> Value {
    json!({
        "clean": report.is_clean(), "segments": report.segments, "records": report.records, "bytes": report.bytes,
        "first": report.first.0, "end": report.end.0, "notes": report.notes,
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
    })
}

/// A fault as text.
pub fn fault_text(fault: &Fault, out: &mut Out) -> anyhow::Result<()> {
    out.line(format_args!("damage   {}", fault.what))?;
    out.line(format_args!("  where  {} byte {}, lsn {}", fault.segment, fault.offset, fault.lsn))?;
    let lost = match fault.lost_records {
        Some(0) if fault.lost_bytes == 0 => "no record".to_owned(),
        None if fault.lost_bytes == 0 => "nothing that is known of".to_owned(),
        Some(records) => format!("{} records, {} bytes", count(records), count(fault.lost_bytes)),
        None => format!("{} bytes; how many records, cannot be told", count(fault.lost_bytes)),
    };
    out.line(format_args!("  lost   {lost}"))?;
    out.line(format_args!("  after  {} valid records follow in the segment", count(fault.beyond)))
}

fn text(report: &Report, out: &mut Out) -> anyhow::Result<()> {
    report.faults.iter().try_for_each(|fault| fault_text(fault, out))?;
    for note in &report.notes {
        out.line(format_args!("note     {note}"))?;
    }
    let found = match report.faults.len() {
        0 => "clean".to_owned(),
        1 => "damaged in 1 place".to_owned(),
        places => format!("damaged in {places} places"),
    };
    let (segments, records) = (count(report.segments as u64), count(report.records));
    out.line(format_args!(
        "{found}: {segments} segments, {records} valid records, {}, lsn {} to {}",
        bytes(report.bytes),
        report.first,
        report.end
    ))
}
