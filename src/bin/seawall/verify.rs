//! `seawall verify`: every checksum of a log, beside a live writer or without one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use seawall::check::{Fault, Report, Verify};
use serde_json::{Value, json};

use crate::exit;
use crate::failure::{self, About};
use crate::meter::Meter;
use crate::out::{self, Out, counted};
use crate::units::{self, bytes};

/// Check every checksum of a log, in parallel; works on a live log and changes nothing
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log's directory, or a segment file to be verified on its own
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// How many segments are read at once [default: as many as there are cores, at least 2]
    #[arg(long, value_name = "N", value_parser = units::threads)]
    threads: Option<usize>,
    /// Tell what was found as one JSON object
    #[arg(long, long_help = JSON)]
    json: bool,
}

const JSON: &str = "\
Tell what was found as one JSON object

  clean     whether everything known to be durable is there as it was written
  segments, records, bytes  what is valid, counted
  first     where the log begins
  end       where it ends (both LSNs)
  faults    what is damaged: segment, offset (the byte in it), lsn, what (in words), lost_bytes,
            lost_records (null where it cannot be told), beyond (valid records after it in the segment),
            dropped (valid records that go with it if a repair passes over it, as of its batch)
  notes     what else there is to know, in words
Further fields may come. What is told of an error: `seawall --help`.";

const EXAMPLES: &str = "Examples:
  seawall verify /var/lib/billing
  seawall verify --threads 8 /var/lib/billing
  seawall verify 00000000000067108864.wal
  seawall verify /var/lib/billing --json | jq .faults

Exit codes: 0 all that was known to be durable is there as it was written, 1 usage or I/O, 2 it is not, 5 written by
a newer version. MARK says how far the log was durable: where it is missing, not readable or another log's, a note says
so, and less is known.";

impl Arguments {
    pub fn about(&self) -> About<'_> {
        About::reading(&self.path, self.json)
    }
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    let meter = Meter::new(arguments.json);
    let progress = |progress| meter.told(progress);
    let mut verify = Verify::new().progress(&progress);
    if let Some(threads) = arguments.threads {
        verify = verify.threads(threads);
    }
    let report = verify.run(&arguments.path);
    drop(meter);
    let report = report?;
    if arguments.json {
        out.json(&object(&report))?;
    } else {
        text(&arguments.path, &report, out)?;
    }
    Ok(if report.is_clean() { exit::CLEAN } else { exit::damage() })
}

/// Whether all of a fault lies below an LSN, from which on something is asked for.
pub fn lies_below(fault: &Fault, from: u64) -> bool {
    // Of one without bytes nobody knows how far it reaches.
    fault.lost_bytes > 0 && fault.lsn.0.saturating_add(fault.lost_bytes) <= from
}

/// A fault as JSON.
pub fn fault(fault: &Fault) -> Value {
    json!({
        "segment": fault.segment, "offset": fault.offset, "lsn": fault.lsn.0, "what": fault.what,
        "lost_bytes": fault.lost_bytes, "lost_records": fault.lost_records, "beyond": fault.beyond,
        "dropped": fault.dropped,
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
    match fault.segment.is_empty() {
        true => out.line(format_args!("  where  lsn {}", fault.lsn))?,
        false => out.line(format_args!("  where  {} byte {}, lsn {}", fault.segment, fault.offset, fault.lsn))?,
    }
    let lost = match fault.lost_records {
        Some(0) => out::records(0),
        None if fault.lost_bytes == 0 => "nothing that is known of".to_owned(),
        Some(records) => format!("{}, {}", out::records(records), counted(fault.lost_bytes, "byte")),
        None => format!("{}; how many records, cannot be told", counted(fault.lost_bytes, "byte")),
    };
    out.line(format_args!("  lost   {lost}"))?;
    out.line(format_args!("  after  {} in the segment", counted(fault.beyond, "valid record")))?;
    if fault.dropped > 0 {
        let dropped = counted(fault.dropped, "valid record");
        out.line(format_args!("  drops  {dropped} if a repair passes over it, as of its batch"))?;
    }
    Ok(())
}

fn text(path: &Path, report: &Report, out: &mut Out) -> anyhow::Result<()> {
    report.faults.iter().try_for_each(|fault| fault_text(fault, out))?;
    for note in &report.notes {
        out.line(format_args!("note     {note}"))?;
    }
    let found = match report.faults.len() {
        0 => "clean".to_owned(),
        places => format!("damaged in {}", counted(places as u64, "place")),
    };
    let (segments, records) = (counted(report.segments as u64, "segment"), counted(report.records, "valid record"));
    out.line(format_args!(
        "{found}: {segments}, {records}, {}, lsn {} to {}",
        bytes(report.bytes),
        report.first,
        report.end
    ))?;
    if !report.is_clean() {
        out.line("touched  nothing")?;
        out.line(failure::next(&failure::ways(path, report.faults.first().map(|fault| fault.lsn))))?;
    }
    Ok(())
}
