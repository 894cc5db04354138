//! `seawall export`: a part of a log as a new log, to be sent or looked into elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use seawall::check::{self, Frames, Item};
use seawall::{Lsn, Options, Wal};
use serde_json::json;

use crate::anew::Anew;
use crate::exit;
use crate::failure::{self, About};
use crate::meter::Meter;
use crate::out::{self, Out, counted};
use crate::target::{self, refuse_used};
use crate::units;
use crate::verify::lies_below;

/// Write a part of a log into a new log, with the same batch times, kinds and batches
///
/// Works on a live log, which it does not change, and goes on past damage. LSNs are new, and cursors are left behind.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log's directory, or a segment file on its own
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// From the record at this LSN on
    #[arg(long, value_name = "LSN", default_value = "0", hide_default_value = true)]
    from: u64,
    /// Up to this LSN, and without what begins there
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// Where the new log is made: a directory that is empty or not there yet
    #[arg(long, value_name = "NEWDIR")]
    out: PathBuf,
    /// Write zeros in place of each payload, as many as it has bytes
    #[arg(long)]
    redact: bool,
    /// Tell what was written as one JSON object: records, batches, parts (batches of which a
    /// part is there, its records written each on its own), damaged (places passed over), removed (places in
    /// the middle where a writer cleaned records away first, or 1 if it cleaned all), unproven (valid records at
    /// the end that were left out, for nothing says that they are durable), end (LSN in the new log)
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  seawall export /var/lib/billing --from 104233088 --to 104300000 --out /tmp/part
  seawall export /var/lib/billing --redact --out /tmp/to-send
  seawall export 00000000000067108864.wal.aside --out /tmp/saved

Exit codes: 0 all of that was written, be it past damage that costs no record, 1 usage or I/O, 3 written, but
for what is lost by damage, or was cleaned away in the middle meanwhile, or all of it (what and where stands on standard
error), 4 the new log is locked, 5 written by a newer version.";

impl Arguments {
    pub fn about(&self) -> About<'_> {
        About { new: Some(&self.out), ..About::reading(&self.path, self.json) }
    }
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    units::in_order(("--from", Some(arguments.from)), ("--to", arguments.to))?;
    refuse_used(&arguments.out, &[&arguments.path])?;
    let overview = check::inspect(&arguments.path)?;
    let frames = check::frames(&arguments.path)?.starting_at(Lsn(arguments.from));
    // A batch lies in one segment: as large as the largest, each has room.
    let largest = overview.segments.iter().filter_map(|segment| segment.capacity).max();
    let mut options = Options::new();
    if let Some(size) = largest {
        options = options.segment_size(size);
    }
    target::make(&arguments.out, || write(arguments, frames, options.open(&arguments.out)?, out))
}

/// Writes into the new log what was asked for, and tells it.
fn write(arguments: &Arguments, mut frames: Frames, wal: Wal, out: &mut Out) -> anyhow::Result<ExitCode> {
    let to = arguments.to.map_or(Lsn::MAX, Lsn);
    let meter = Meter::new(arguments.json);
    let mut export = Anew::new(&wal, arguments.redact);
    let (mut damaged, mut lost, mut removed, mut first, mut is_late) = (0, false, 0, None, false);
    while let Some(item) = frames.next() {
        match item? {
            Item::Record(record) if record.lsn >= to => break,
            Item::Record(record) if frames.is_part() => export.take_part(record)?,
            Item::Record(record) => export.take(record)?,
            Item::Damage(fault) if fault.lsn >= to => break,
            Item::Damage(fault) if lies_below(&fault, arguments.from) => {}
            Item::Damage(fault) => {
                damaged += 1;
                lost |= fault.lost_records != Some(0);
                first.get_or_insert(fault.lsn);
                export.end_apart()?;
                meter.say(format_args!("damage: {fault}"));
            }
            Item::Removed { from, .. } if from >= to => break,
            // The new log begins behind it.
            Item::Removed { from, first } if export.is_empty() => {
                is_late = true;
                meter.say(format_args!("note: {}", out::removed(from, first)));
            }
            Item::Removed { from, first } => {
                removed += 1;
                export.end_apart()?;
                meter.say(format_args!("missing: {}", out::removed(from, first)));
            }
            _ => {}
        }
        meter.tick(|| frames.progress());
    }
    // The range may end inside a batch.
    export.end_apart()?;
    drop(meter);
    out::notes(&frames);
    failure::tell_ways(&arguments.path, first);
    let Anew { records, batches, parts, .. } = export;
    let end = wal.sync()?;
    wal.close()?;
    if records == 0 {
        let what = if is_late { "all was cleaned before it was read" } else { "no record lies in what was asked for" };
        out::warn(format_args!("note: {what}; {} is empty", arguments.out.display()));
        removed += u64::from(is_late);
    }
    if arguments.json {
        let told = json!({
            "records": records, "batches": batches, "parts": parts, "damaged": damaged, "removed": removed,
            "unproven": frames.unproven(), "end": end.0,
        });
        out.json(&told)?;
    } else {
        let (records, batches, place) =
            (counted(records, "record"), counted(batches, "batch"), arguments.out.display());
        out.line(format_args!("{records} in {batches} written to {place}; their LSNs are new"))?;
        if parts > 0 {
            out.line(out::parts(parts))?;
        }
    }
    Ok(if lost || removed > 0 { exit::loss() } else { exit::CLEAN })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// It was told as all that was asked for.
    #[test]
    fn where_all_was_cleaned_before_it_was_read_it_is_said_and_the_code_is_3() {
        let temp = tempfile::tempdir().unwrap();
        let (old, new) = (temp.path().join("old"), temp.path().join("new"));
        let wal = Options::new().segment_size(16 << 10).open(&old).unwrap();
        let go_on = || {
            wal.append(b"record").unwrap().wait().unwrap();
            wal.rotate().unwrap();
            wal.clean_before_lsn(Lsn::MAX).unwrap();
        };
        go_on();
        let paths = [old.to_str().unwrap(), "--out", new.to_str().unwrap()];
        let Command { arguments } = Command::parse_from(["export"].iter().chain(&paths));
        let frames = || check::frames(&old).unwrap();
        let written = |frames| write(&arguments, frames, Options::new().open(&new).unwrap(), &mut Out::new()).unwrap();
        assert_eq!(written(frames()), exit::CLEAN);
        let overtaken = frames();
        go_on();
        assert_eq!(written(overtaken), exit::loss());
    }
}
