//! `seawall salvage`: every record that can still be read, out of whatever is left of a log.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::Args;
use seawall::check::{Salvage, Salvaged, SalvagedLog};
use seawall::{Lsn, Options};
use serde_json::{Value, json};

use crate::anew::Anew;
use crate::exit;
use crate::failure::{self, About, Listing};
use crate::meter::Meter;
use crate::out::{self, Out, count, counted};
use crate::target::{self, is_used, refuse_used};
use crate::units::bytes;

/// Find the records whose bytes are whole, in directories, single files and raw images of disks; changes none of them
///
/// A record is found if anything tells how to read its segment: the header, the first frame, the first frame of the next
/// segment, or, in a file that begins as the segment did, two records side by side. That may have any name.
///
/// In the image of a disk or of a partition, headers and first frames are looked for at every multiple of 512 bytes, and
/// records at every fourth byte, so that it does not matter where the files lie, nor whether anything names them. A
/// record that lies in one piece of its file is found, and one in two pieces if the record behind it begins in the second;
/// one in three is not. But of an image that is no longer than a segment and begins as one does, only what lies in its
/// place is read. A piece must begin as far behind a multiple of 4096 bytes as one of the logs' files does: so it is
/// where the blocks of the file system are as large or larger. Files that are compressed, encrypted or packed into others
/// are not found. Several logs are kept apart by their ids, and one that was deleted is found as far as nothing lies over
/// it. Of a batch that is not whole the records are written one by one, and counted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Directories, of which every file is read whatever its name is, segment files under any name, images, disks. Of a log
    /// with a writer name the directory: a file named here that the writer removes ends it with an error
    #[arg(required = true)]
    sources: Vec<PathBuf>,
    /// Only the log whose name begins so, as the list has it
    #[arg(long, value_name = "ID")]
    log: Option<String>,
    /// Write the records of the one log into a new log, with the same batch times and kinds, and batches where they are
    /// whole; the LSNs are new
    #[arg(long, value_name = "NEWDIR")]
    to: Option<PathBuf>,
    /// Tell what was found as one JSON object
    #[arg(long, long_help = JSON)]
    json: bool,
}

const JSON: &str = "\
Tell what was found as one JSON object

  logs        of each log: log (its id in hexadecimal, or unknown- and a number), segments, records and
              bytes (of their payloads) that are whole, first and last (LSNs of records), segment_size
              (of the largest), damaged (places where records were and are not found), absent (whether
              segments before the first may be missing and MARK is too, which tells what was cleaned),
              unmarked (whether its MARK is missing, or half of it, so that nothing tells whether more
              followed), lost_records (how many are missing, or at most so many; null where it cannot be
              told, or not whether any are, for a link is lost that would tell), and of the records:
              cut_off (where recovery or a repair cut the log off), cleaned (had been cleaned away),
              gone (places between or behind these where others were cleaned away that are not here),
              doubled (in the place of others)
  bytes       of all sources; unreadable: how many of these the system refuses to read
  refused     files and directories that cannot be read; untold: files named as segments in which
              nothing tells what they held; unmet: logs of which no record is found, although
              their MARK, or a link, says that there were durable ones
  too_new     headers and frames of a newer version: salvage with that
  notes       what else there is to know, in words
  written     null without --to, or what went into the new log: dir, records, batches, parts (batches
              of which a part is written), unreadable (records that were found and could not be read
              again), cleaned (records that a writer cleaned away before they were read again), first
              and last (LSNs in the new log, or null)
Nothing is missing that is known of where damaged, unreadable, refused, untold, unmet and too_new are 0 and
absent and unmarked are false, and lost_records is no null.
Further fields may come. What is told of an error: `seawall --help`.";

const EXAMPLES: &str = "Examples:
  seawall salvage /var/lib/billing
  seawall salvage old/*.wal lost+found /mnt/backup/billing --to /var/lib/billing.new
  seawall salvage /dev/sdb1 --log 3f2a --to /var/lib/billing.new

Memory: up to 72 bytes for each record that is found, and 1 MiB for each GiB of the sources.

Exit codes: 0 nothing is missing that is known of, 1 usage or I/O, or no record was found, or what was found is cleaned
away by the time it is written, 2 something is missing, or it cannot be told whether, 3 the same, and the rest was
written, 5 written by a newer version, at least in part.";

impl Arguments {
    pub fn about(&self) -> Option<About<'_>> {
        let path = self.sources.first()?;
        Some(About { new: self.to.as_deref(), ..About::reading(path, self.json) })
    }
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    if let Some(to) = &arguments.to {
        refuse_used(to, &arguments.sources)?;
    }
    let meter = Meter::new(arguments.json);
    let progress = |progress| meter.told(progress);
    let found = Salvage::new().progress(&progress).run(&arguments.sources)?;
    drop(meter);
    if found.logs().is_empty() {
        // They may say why.
        found.notes.iter().for_each(|note| out::warn(format_args!("note: {note}")));
    }
    let logs = chosen(&found, arguments.log.as_deref())?;
    let notes = notes(&found, &logs);
    let written = match (&arguments.to, &logs[..]) {
        // Where there is none, a newer version wrote all of it.
        (None, _) | (_, []) => None,
        (Some(to), [log]) => {
            let unfinished = |e: anyhow::Error| match is_used(to) {
                true => e.context(format!("the log in {} holds a part of the records", to.display())),
                false => e,
            };
            Some(target::make(to, || write(&found, log, to)).map_err(unfinished)?)
        }
        (Some(_), logs) => {
            let what = format!("there are {} logs in the sources; choose one with --log:", logs.len());
            let ways = logs.iter().map(|log| failure::salvage(&arguments.sources, Some(&log.name))).collect();
            bail!(Listing::new(what, logs.iter().map(ToString::to_string)).with_next(ways))
        }
    };
    if arguments.json {
        out.json(&object(&found, &logs, &notes, arguments.to.as_deref(), written.as_ref()))?;
    } else {
        text(&found, &logs, &notes, arguments, written.as_ref(), out)?;
    }
    let read = found.unreadable == 0 && found.refused == 0 && found.untold == 0 && found.unmet == 0;
    let is_whole = read && logs.iter().all(|log| log.is_whole());
    Ok(match written {
        _ if found.too_new > 0 => exit::too_new(),
        None if is_whole => exit::CLEAN,
        Some(written) if is_whole && written.unreadable == 0 => exit::CLEAN,
        None => exit::damage(),
        Some(_) => exit::loss(),
    })
}

fn chosen<'a>(found: &'a Salvaged, name: Option<&str>) -> anyhow::Result<Vec<&'a SalvagedLog>> {
    let nothing = || Listing::new(format!("no record of any log was found in {}", bytes(found.bytes)), None);
    ensure!(!found.logs().is_empty() || found.too_new > 0, nothing());
    let Some(name) = name else { return Ok(found.logs().iter().collect()) };
    let logs: Vec<_> = found.logs().iter().filter(|log| log.name.starts_with(name)).collect();
    if logs.is_empty() {
        let what = format!("no log was found whose name begins with {name}; there are:");
        bail!(Listing::new(what, found.logs().iter().map(ToString::to_string)));
    }
    Ok(logs)
}

/// What was found has notes, and so have the logs that were not chosen.
fn notes(found: &Salvaged, chosen: &[&SalvagedLog]) -> Vec<String> {
    let others = found.logs().iter().filter(|log| chosen.iter().all(|chosen| chosen.name != log.name));
    let note =
        |log: &SalvagedLog| format!("another log is in the sources: {}, {}", log.name, counted(log.records, "record"));
    found.notes.iter().cloned().chain(others.map(note)).collect()
}

/// What went into the new log.
#[derive(Debug, Default)]
struct Written {
    records: u64,
    batches: u64,
    /// Batches of which only a part is there.
    parts: u64,
    /// Records that were found and could not be read any more.
    unreadable: u64,
    /// Records that were found, and that a writer has cleaned away since.
    cleaned: u64,
    first: Option<Lsn>,
    last: Option<Lsn>,
}

/// How large the segments of the new log are: as its records need, and of many not so small that there are many files, nor so
/// large that one that is made ahead takes much more room.
fn segment_size(log: &SalvagedLog) -> u64 {
    const OVERHEAD: u64 = 8 << 10;
    // A frame is its payload and less than this.
    let all = log.records.saturating_mul(32).saturating_add(log.bytes).saturating_add(OVERHEAD);
    // A batch lies in one segment, and the largest may fill the largest.
    let largest = log.segment_size.saturating_add(OVERHEAD);
    let size = largest.max((all / 8).min(64 << 20));
    size.min(all).clamp(16 << 10, 1 << 30).next_multiple_of(4096)
}

/// Writes the records of a log into a new one.
fn write(found: &Salvaged, log: &SalvagedLog, to: &Path) -> anyhow::Result<Written> {
    let wal = Options::new().segment_size(segment_size(log)).open(to)?;
    let (mut written, mut new) = (Written::default(), Anew::new(&wal, false));
    let mut records = found.records(log);
    while let Some(record) = records.next() {
        // What came before one that is not read any more is left of its batch.
        if record.is_err() || records.cleaned() > written.cleaned {
            new.end_apart()?;
        }
        written.cleaned = records.cleaned();
        match record {
            Ok(record) if records.is_part() => new.take_part(record)?,
            Ok(record) => new.take(record)?,
            Err(e) => {
                out::warn(format_args!("damage: {e}"));
                written.unreadable += 1;
            }
        }
    }
    new.end_apart()?;
    written.cleaned = records.cleaned();
    Anew { records: written.records, batches: written.batches, parts: written.parts, last: written.last, .. } = new;
    if written.records == 0 && written.unreadable == 0 {
        let cleaned = counted(written.cleaned, "record");
        let what =
            format!("a writer cleaned all that was found away meanwhile, {cleaned}; nothing was written: run it again");
        bail!(Listing::new(what, None));
    }
    wal.sync()?;
    written.first = wal.read(..)?.next().transpose()?.map(|record| record.lsn);
    wal.close()?;
    Ok(written)
}

fn object(
    found: &Salvaged,
    logs: &[&SalvagedLog],
    notes: &[String],
    to: Option<&Path>,
    written: Option<&Written>,
) -> Value {
    let log = |log: &&SalvagedLog| {
        json!({
            "log": log.name, "segments": log.segments, "records": log.records, "bytes": log.bytes,
            "first": log.first.0, "last": log.last.0, "segment_size": log.segment_size,
            "damaged": log.damaged, "absent": log.absent, "unmarked": log.unmarked, "lost_records": log.lost_records,
            "cut_off": log.cut_off, "cleaned": log.cleaned, "gone": log.gone, "doubled": log.doubled,
        })
    };
    let lsn = |lsn: Option<Lsn>| lsn.map(|lsn| lsn.0);
    let written = written.map(|written| {
        json!({
            "dir": to, "records": written.records, "batches": written.batches, "parts": written.parts,
            "unreadable": written.unreadable, "cleaned": written.cleaned, "first": lsn(written.first),
            "last": lsn(written.last),
        })
    });
    json!({
        "logs": logs.iter().map(log).collect::<Vec<_>>(), "bytes": found.bytes, "unreadable": found.unreadable,
        "refused": found.refused, "untold": found.untold, "unmet": found.unmet,
        "too_new": found.too_new, "notes": notes, "written": written,
    })
}

fn text_of(log: &SalvagedLog, out: &mut Out) -> anyhow::Result<()> {
    out.line(format_args!("log      {}", log.name))?;
    out.line(format_args!(
        "  found    {}, {}, in {}, lsn {} to {}",
        counted(log.records, "record"),
        bytes(log.bytes),
        counted(log.segments as u64, "segment"),
        log.first,
        log.last
    ))?;
    if log.absent {
        out.line(
            "  absent   segments before these are not among the sources, nor is MARK, which tells what was cleaned",
        )?;
    }
    if log.unmarked {
        out.line(
            "  end      whether more followed only MARK would tell, and it, or half of it, is not among the sources",
        )?;
    }
    if !log.is_whole() {
        // Of what is absent it cannot be told whether it was cleaned.
        let most = if log.absent { "at most " } else { "" };
        let lost = log.lost_records.map(|lost| format!("{most}{}", counted(lost, "record")));
        let is_known = log.damaged > 0 || log.absent || log.unmarked;
        let untold =
            if is_known { "it cannot be told how many records" } else { "it cannot be told whether records are" };
        let lost = lost.unwrap_or(untold.to_owned());
        out.line(format_args!("  missing  {lost}"))?;
    }
    for (number, name, what) in [
        (log.damaged, "damage", "passed over: records were there and are not found"),
        (log.cut_off, "cut off", "of the records lie where the log was cut off: by recovery, or by a repair"),
        (log.cleaned, "cleaned", "of the records had been cleaned away"),
        (log.gone, "gone", "beside these: others had been cleaned away there, and are not here"),
        (log.doubled, "doubled", "of the records lie in the place of others: a copy of the log had gone on apart"),
    ] {
        if number > 0 {
            let is_places = name == "damage" || name == "gone";
            let number = if is_places { counted(number, "place") } else { count(number) };
            out.line(format_args!("  {name:<8} {number} {what}"))?;
        }
    }
    Ok(())
}

fn text(
    found: &Salvaged,
    logs: &[&SalvagedLog],
    notes: &[String],
    arguments: &Arguments,
    written: Option<&Written>,
    out: &mut Out,
) -> anyhow::Result<()> {
    let (sources, to) = (&arguments.sources, arguments.to.as_deref());
    for log in logs {
        text_of(log, out)?;
    }
    for note in notes {
        out.line(format_args!("note     {note}"))?;
    }
    if found.unreadable > 0 {
        out.line(format_args!("damage   {} of the sources cannot be read", counted(found.unreadable, "byte")))?;
    }
    if found.refused > 0 {
        out.line(format_args!("damage   {} could not be read", counted(found.refused, "file")))?;
    }
    if found.too_new > 0 {
        let number = count(found.too_new);
        out.line(format_args!("too new  of the headers and frames, a newer version's: {number}; salvage with that"))?;
    }
    match (written, to) {
        (Some(written), Some(to)) => {
            let (records, batches) = (counted(written.records, "record"), counted(written.batches, "batch"));
            out.line(format_args!("wrote    {records} in {batches} to {}", to.display()))?;
            if written.parts > 0 {
                out.line(format_args!("         {}", out::parts(written.parts)))?;
            }
            if written.cleaned > 0 {
                let number = counted(written.cleaned, "record");
                out.line(format_args!(
                    "         without {number} that a writer cleaned away meanwhile, wherever they lay"
                ))?;
            }
            let lsns = written.first.zip(written.last).map(|(first, last)| format!(": {first} to {last}"));
            let lsns = lsns.unwrap_or_default();
            out.line(format_args!("         a new log, and the LSNs are new{lsns}; cursors are not taken over"))
        }
        _ => {
            let name = |log: &&SalvagedLog| (logs.len() > 1).then(|| log.name.clone());
            let ways: Vec<_> = logs.iter().map(|log| failure::salvage(sources, name(log).as_deref())).collect();
            if ways.is_empty() { Ok(()) } else { out.line(failure::next(&ways)) }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// It was called a new log, and none was there.
    #[test]
    fn of_what_was_cleaned_away_meanwhile_no_log_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let (old, new) = (temp.path().join("old"), temp.path().join("new"));
        let open = || Options::new().segment_size(16 << 10).open(&old).unwrap();
        let wal = open();
        (0..5).for_each(|n| _ = wal.append(&[n; 300]).unwrap().wait().unwrap());
        wal.close().unwrap();
        let found = Salvage::new().run(&[&old]).unwrap();
        // A segment of an earlier life is no spare: its file goes.
        let wal = open();
        let last = wal.append(b"another").unwrap().wait().unwrap();
        wal.clean_before_lsn(last).unwrap();
        let [log] = found.logs() else { panic!("{found:?}") };
        let error = target::make(&new, || write(&found, log, &new)).unwrap_err();
        assert!(error.to_string().contains("5 records; nothing was written: run it again"), "{error}");
        assert!(!new.exists());
    }
}
