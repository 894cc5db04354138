//! `seawall inspect`: what lies in a log's directory, and why, beside a live writer or without one.

mod at;
mod help;
pub mod page;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use seawall::check::{self, CursorInfo, FileInfo, MarkState, Overview, SegmentInfo, State};
use seawall::{Lsn, Why};
use serde_json::{Value, json};

use crate::exit;
use crate::failure::{self, About, Listing};
use crate::out::{Out, count};
use crate::target::{log_around, resolved};
use crate::units::bytes;
use crate::verify;
use at::At;

/// Show what a log is made of and why each segment is kept; works on a live log and changes nothing
///
/// Reads the newest segment, 8 KiB of each other, and all of those that are seen by that to be damaged: damage elsewhere
/// is found by `seawall verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log's directory, or a segment file to be looked at on its own
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// Show too what is at this LSN, and the records around it
    #[arg(long, value_name = "LSN")]
    at: Option<u64>,
    /// One JSON object
    #[arg(long, long_help = help::JSON)]
    json: bool,
    /// Write a page with a map of the segments, in one file for a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  seawall inspect /var/lib/billing
  seawall inspect --at 104233088 /var/lib/billing
  seawall inspect --html billing.html /var/lib/billing
  seawall inspect --json /var/lib/billing | jq '.segments[] | select(.kept.why == \"cursor\")'
  seawall inspect 00000000000067108864.wal

Exit codes: 0 no damage was met, 1 usage or I/O, 2 damage was met, 5 written by a newer version.";

impl Arguments {
    pub fn about(&self) -> About<'_> {
        // A page may be begun.
        let done = if self.html.is_some() { "nothing of the log" } else { failure::NOTHING };
        About { done, ..About::reading(&self.path, self.json) }
    }
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    let overview = check::inspect(&arguments.path)?;
    let at = arguments.at.map(|lsn| At::find(&arguments.path, &overview, Lsn(lsn))).transpose()?;
    if let Some(file) = &arguments.html {
        write_page(&arguments.path, file, &page::page(&arguments.path, &overview))?;
    }
    if arguments.json {
        let mut object = object(&overview);
        if let (Some(at), Value::Object(fields)) = (&at, &mut object) {
            fields.insert("at".into(), at.object());
        }
        out.json(&object)?;
    } else {
        text(&overview, out)?;
        if let Some(at) = &at {
            at.text(out)?;
        }
    }
    let damaged = !overview.faults.is_empty() || at.is_some_and(|at| at.is_damaged());
    if damaged && !arguments.json {
        out.line("touched  nothing")?;
        out.line(failure::next(&failure::ways(&arguments.path, None)))?;
    }
    Ok(if damaged { exit::damage() } else { exit::CLEAN })
}

/// Writes a page, over an older one too, but over nothing else: it might be a part of the log. Nor does a page belong
/// among the log's files, under whatever name.
fn write_page(log: &Path, file: &Path, page: &str) -> anyhow::Result<()> {
    let log = if log.is_file() { directory(log) } else { log };
    let place = resolved(file);
    // Nor among another log's.
    let is_among = resolved(log) == directory(&place) || log_around(&place).is_some();
    let refused = |why: &str| Listing::at(file, format!("{} {why}", file.display()));
    ensure!(!is_among, refused("lies among a log's files; name a place elsewhere"));
    let mut begins = Vec::new();
    if file.is_file() {
        File::open(file)?.take(page::BEGINS.len() as u64).read_to_end(&mut begins)?;
        let own = begins == page::BEGINS.as_bytes();
        ensure!(own, refused("is there and is no page of this command; it was left as it is"));
    }
    let written = if place.exists() && !place.is_file() {
        std::fs::write(&place, page)
    } else {
        // Beside it first: an older page stays as it is until this one is whole.
        let beside = place.with_extension(format!("{}.new", std::process::id()));
        write_new(&beside, page)
            .and_then(|()| std::fs::rename(&beside, &place).inspect_err(|_| _ = std::fs::remove_file(&beside)))
    };
    written.with_context(|| format!("writing {}", file.display()))
}

/// Writes a file that is not there yet; of one that cannot be written nothing is left.
pub fn write_new(file: &Path, text: &str) -> io::Result<()> {
    let mut new = File::create_new(file)?;
    new.write_all(text.as_bytes()).inspect_err(|_| _ = std::fs::remove_file(file))
}

/// The directory that a path lies in.
pub fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A state in a word.
pub fn state(state: &State) -> &'static str {
    match state {
        State::Active => "active",
        State::Sealed => "sealed",
        State::Prepared => "prepared",
        State::Spare => "spare",
        State::CutOff => "cut-off",
        State::Damaged(_) => "damaged",
        State::Missing => "missing",
        State::Lone => "lone",
        _ => "unknown",
    }
}

fn mark(mark: MarkState) -> &'static str {
    match mark {
        MarkState::Sound => "sound",
        MarkState::OneSlot => "one-slot",
        MarkState::Missing => "missing",
        MarkState::Damaged => "damaged",
        MarkState::Foreign => "foreign",
        _ => "unknown",
    }
}

/// Bytes as they are written in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kept(why: &Why) -> Value {
    let (word, lsn, name) = match why {
        Why::Newest => ("newest", None, None),
        Why::NotDurable => ("not-durable", None, None),
        Why::Checkpoint(lsn) => ("checkpoint", Some(lsn.0), None),
        Why::Cursor { name, lsn } => ("cursor", Some(lsn.0), Some(name)),
        Why::Behind(segment) => ("behind", None, Some(segment)),
        Why::NotCleaned => ("not-cleaned", None, None),
        _ => ("other", None, None),
    };
    json!({ "why": word, "lsn": lsn, "name": name, "text": why.to_string() })
}

/// A cursor.
pub fn cursor(cursor: &CursorInfo) -> Value {
    json!({ "name": cursor.name, "lsn": cursor.lsn.0, "lag": cursor.lag, "holds": cursor.holds })
}

fn object(overview: &Overview) -> Value {
    let segment = |segment: &SegmentInfo| {
        json!({
            "file": segment.file, "base": segment.base.0, "end": segment.end.map(|end| end.0),
            "capacity": segment.capacity, "length": segment.length, "records": segment.records,
            "batch_times": segment.batch_times.map(|(least, most)| [least.0, most.0]),
            "state": state(&segment.state), "kept": segment.kept.as_ref().map(kept),
        })
    };
    let file = |file: &FileInfo| json!({ "name": file.name, "length": file.length });
    json!({
        "log_id": overview.log_id.map(|id| hex(&id)), "first": overview.first.0, "durable": overview.durable.0,
        "checkpoint": overview.checkpoint.map(|lsn| lsn.0), "since_checkpoint": overview.since_checkpoint,
        "mark": mark(overview.mark), "records": overview.records, "appended": overview.appended,
        "disk_bytes": overview.disk_bytes,
        "segments": overview.segments.iter().map(segment).collect::<Vec<_>>(),
        "cursors": overview.cursors.iter().map(cursor).collect::<Vec<_>>(),
        "aside": overview.aside.iter().map(file).collect::<Vec<_>>(),
        "foreign": overview.foreign.iter().map(file).collect::<Vec<_>>(),
        "faults": overview.faults.iter().map(verify::fault).collect::<Vec<_>>(),
        "notes": overview.notes,
    })
}

/// What is known of the log as a whole: names and values.
fn facts(overview: &Overview) -> Vec<(String, String)> {
    // Of a lone file only the whole log tells it.
    let durable = if overview.mark == MarkState::Unknown { "" } else { ", which is durable" };
    let mut facts = vec![
        ("log".to_owned(), overview.log_id.map_or_else(|| "unknown".to_owned(), |id| hex(&id))),
        ("lsn".into(), format!("{} to {}{durable}", overview.first, overview.durable)),
        ("records".into(), count(overview.records)),
        ("disk".into(), bytes(overview.disk_bytes)),
        ("mark".into(), mark(overview.mark).to_owned()),
        ("checkpoint".into(), checkpoint(overview)),
    ];
    for cursor in &overview.cursors {
        let (lag, holds) = (bytes(cursor.lag), bytes(cursor.holds));
        facts.push((format!("cursor {}", cursor.name), format!("lsn {}, {lag} behind, keeps {holds}", cursor.lsn)));
    }
    facts
}

/// Where the last checkpoint is, and how far back.
pub fn checkpoint(overview: &Overview) -> String {
    let since = bytes(overview.since_checkpoint);
    overview.checkpoint.map_or_else(|| "none".to_owned(), |lsn| format!("lsn {lsn}, {since} ago"))
}

/// A segment's row of the table.
fn row(segment: &SegmentInfo) -> [String; 7] {
    let unknown = || "-".to_owned();
    let what = match &segment.state {
        State::Damaged(what) => what.clone(),
        _ => segment.kept.as_ref().map_or_else(String::new, ToString::to_string),
    };
    [
        segment.file.clone(),
        state(&segment.state).to_owned(),
        segment.end.map_or_else(unknown, |end| end.to_string()),
        segment.records.map_or_else(unknown, count),
        segment.batch_times.map_or_else(unknown, |(least, most)| format!("{least}..{most}")),
        bytes(segment.length),
        what,
    ]
}

const COLUMNS: [&str; 7] = ["segment", "state", "end", "records", "batch times", "size", "kept because"];

fn text(overview: &Overview, out: &mut Out) -> anyhow::Result<()> {
    for (name, value) in facts(overview) {
        out.line(format_args!("{name:<12} {value}"))?;
    }
    let rows: Vec<_> = std::iter::once(COLUMNS.map(str::to_owned)).chain(overview.segments.iter().map(row)).collect();
    let mut widths = [0; COLUMNS.len()];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.line(cells.join("  ").trim_end())?;
    }
    for file in &overview.aside {
        out.line(format_args!("aside    {} {}", file.name, bytes(file.length)))?;
    }
    for file in &overview.foreign {
        out.line(format_args!("foreign  {} {}", file.name, bytes(file.length)))?;
    }
    for fault in &overview.faults {
        out.line(format_args!("damage   {fault}"))?;
    }
    for note in &overview.notes {
        out.line(format_args!("note     {note}"))?;
    }
    Ok(())
}
