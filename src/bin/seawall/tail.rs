//! `seawall tail`: the last records of a log, and each further one once it is durable, from another process.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use seawall::check::{self, Frames, Item};
use seawall::{Damage, Error, ErrorKind, Lsn, Options, Progress, ReadOnly};

use crate::dump::{self, Met};
use crate::exit;
use crate::failure::{self, About};
use crate::meter::Meter;
use crate::out::{self, Out};
use crate::record::{Form, Shown};

/// How long to wait for a record at once.
const IDLE: Duration = Duration::from_secs(1);

/// Write out the last records of a log, and go on as more become durable
///
/// Works beside a live writer, which notices nothing of it. Only what is known to be durable is written out; how much more
/// lies in the log is said on standard error. The last records are written out past damage, those of a log that opening
/// refuses too. With -f that error ends it then, and so does damage in what follows, though a writer that has not met it may
/// go on.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log's directory
    dir: PathBuf,
    /// Go on: write out each further record once it is durable
    #[arg(short, long)]
    follow: bool,
    /// How many records to begin with
    #[arg(short = 'n', long = "records", value_name = "N", default_value_t = 10)]
    records: u64,
    /// All bytes of each payload too, in hexadecimal
    #[arg(long, conflicts_with = "json")]
    hex: bool,
    /// One JSON object a line, with keys, values and payloads in base64
    #[arg(long, long_help = dump::JSON)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  seawall tail -f /var/lib/billing
  seawall tail -n 1 --json /var/lib/billing
  seawall tail -f -n 0 --json /var/lib/billing | jq .lsn

Records that the writer cleans before they can be read are passed over, which is said on standard error.

Exit codes: 0 all of that was written out, or nobody reads on, 1 usage or I/O, 2 damage was passed over (what and where
stands on standard error) or ended it, 5 written by a newer version.";

impl Arguments {
    pub fn about(&self) -> About<'_> {
        About::reading(&self.dir, self.json)
    }
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    let dir = arguments.dir.as_path();
    let (view, refused) = match Options::new().open_read_only(dir) {
        Ok(view) => (Some(view), None),
        Err(error) if is_damage(&error) => (None, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let last = Last::find(arguments, view.as_ref())?;
    let end = last.end;
    let Written { frames, mut damaged, is_overtaken } = last.write(arguments, out)?;
    out.flush()?;
    if is_overtaken && out.is_read() {
        out::warn(format_args!("overtaken: of the last records some were cleaned before they were read"));
    }
    out::notes(&frames);
    if let Some(error) = refused {
        // There is no view of it to wait with, though a writer that opened it before may go on.
        let (false, ErrorKind::Damage(damage)) = (arguments.follow, error.kind()) else { return Err(error.into()) };
        let Damage { what, lsn, .. } = &**damage;
        if damaged.is_none() {
            // It lies before them.
            out::warn(format_args!("damage: LSN {lsn}: {what}"));
        }
        damaged = damaged.or(Some(*lsn));
    }
    failure::tell_ways(dir, damaged);
    if let (true, Some(view)) = (arguments.follow, view) {
        follow(&view, end.min(frames.end()), Form::of(arguments.json, arguments.hex), out)?;
    }
    Ok(if damaged.is_some() { exit::damage() } else { exit::CLEAN })
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damage(_))
}

/// Where the last records begin: of those in the segment at `from`, which ends at `to`, the first `before` are not among
/// them.
struct Last {
    from: Lsn,
    to: Lsn,
    before: u64,
    expected: u64,
    /// They end there.
    end: Lsn,
    /// Some were cleaned meanwhile.
    is_overtaken: bool,
}

/// What was read to write the last records out, the first damage there, and whether some were cleaned before that.
struct Written {
    frames: Frames,
    damaged: Option<Lsn>,
    is_overtaken: bool,
}

impl Last {
    /// Counts back through as few segments as hold them, past damage and where there is no view of them. None is kept
    /// meanwhile, for they may be any number.
    fn find(arguments: &Arguments, view: Option<&ReadOnly>) -> anyhow::Result<Last> {
        let dir = arguments.dir.as_path();
        let (ranges, end) = match view {
            Some(view) => {
                let ranges = view.split(usize::MAX);
                let end = ranges.last().map_or(view.durable_lsn(), |range| range.end);
                (ranges, end)
            }
            None => segments(dir)?,
        };
        let meter = Meter::new(arguments.json);
        let (wanted, begun) = (arguments.records, Instant::now());
        let (mut found, mut bytes) = (0, 0);
        let mut last = Last { from: end, to: end, before: 0, expected: 0, end, is_overtaken: false };
        for range in ranges.into_iter().rev() {
            if found >= wanted {
                break;
            }
            let tick = |count: u64, lsn: Lsn| {
                let read = bytes + (lsn.0 - range.start.0);
                meter.tick(|| progress(read, found + count, wanted, begun.elapsed()));
            };
            found += match view.map(|view| count(view, &range, tick)) {
                Some(Err(e)) if matches!(e.kind(), ErrorKind::Removed { .. }) => {
                    last.is_overtaken = true;
                    break;
                }
                Some(Err(e)) if !is_damage(&e) => return Err(e.into()),
                Some(Ok(counted)) => counted,
                Some(Err(_)) | None => sound(dir, &range, tick)?,
            };
            bytes += range.end.0 - range.start.0;
            (last.from, last.to) = (range.start, range.end);
            (last.before, last.expected) = (found.saturating_sub(wanted), found.min(wanted));
        }
        // All was cleaned before the segments were listed.
        last.is_overtaken |= wanted > 0 && last.from == end && view.is_some_and(|view| view.durable_lsn() > end);
        Ok(last)
    }

    /// Writes them out, past damage.
    fn write(self, arguments: &Arguments, out: &mut Out) -> anyhow::Result<Written> {
        let Last { from, to, mut before, expected, end, is_overtaken } = self;
        let mut records = 0;
        let mut frames = check::frames(&arguments.dir)?.starting_at(from);
        let form = Form::of(arguments.json, arguments.hex);
        // All that are before may be cleaned by now.
        let damaged = dump::write(&mut frames, end, form, out, |met| match met {
            Met::Record(record, _) if before > 0 && record.lsn < to => {
                before -= 1;
                false
            }
            Met::Damage(fault) => before == 0 || fault.lsn >= to,
            Met::Record(..) => {
                records += 1;
                true
            }
        })?;
        // What there is to say of the log's end is known there.
        while out.has_reader() && frames.next().transpose()?.is_some() {}
        Ok(Written { frames, damaged, is_overtaken: is_overtaken || records < expected })
    }
}

/// The segments of a log that opening refuses, and where its records end.
fn segments(dir: &Path) -> seawall::Result<(Vec<Range<Lsn>>, Lsn)> {
    let end = check::frames(dir)?.end();
    let overview = check::inspect(dir)?;
    let bases = overview.segments.iter().filter(|segment| segment.is_log()).map(|segment| segment.base);
    let mut bases: Vec<Lsn> = bases.filter(|base| *base < end).collect();
    bases.sort_unstable();
    let ends = bases.iter().skip(1).copied().chain([end]);
    Ok((bases.iter().copied().zip(ends).map(|(from, to)| from..to).collect(), end))
}

/// Counts the records of a range; told is how many there are up to an LSN.
fn count(view: &ReadOnly, range: &Range<Lsn>, tick: impl Fn(u64, Lsn)) -> seawall::Result<u64> {
    let mut count = 0;
    for record in view.read(range.clone())? {
        count += 1;
        tick(count, record?.lsn);
    }
    Ok(count)
}

/// Counts the valid records of a range, past damage.
fn sound(dir: &Path, range: &Range<Lsn>, tick: impl Fn(u64, Lsn)) -> seawall::Result<u64> {
    let mut count = 0;
    for item in check::frames(dir)?.starting_at(range.start) {
        match item? {
            Item::Record(record) if record.lsn >= range.end => break,
            Item::Record(record) => {
                count += 1;
                tick(count, record.lsn);
            }
            _ => {}
        }
    }
    Ok(count)
}

/// How far the search is: there is to be read as much as the records so far let expect.
fn progress(bytes: u64, found: u64, wanted: u64, elapsed: Duration) -> Progress {
    let expected = u128::from(bytes) * u128::from(wanted) / u128::from(found.max(1));
    let mut progress = Progress::default();
    (progress.bytes, progress.records, progress.elapsed) = (bytes, found, elapsed);
    progress.total_bytes = u64::try_from(expected).unwrap_or(u64::MAX).max(bytes);
    progress
}

/// Writes out what becomes durable from `from` on, for as long as somebody reads it.
fn follow(view: &ReadOnly, from: Lsn, form: Form, out: &mut Out) -> anyhow::Result<()> {
    let mut follower = view.follow(from);
    while out.is_read() {
        let next = match follower.try_next() {
            Ok(None) => {
                out.flush()?;
                follower.next_timeout(IDLE)
            }
            next => next,
        };
        match next {
            Ok(Some(record)) => Shown::new(&record).write(form, out)?,
            Ok(None) => {}
            Err(e) => {
                let ErrorKind::Removed { lsn, first } = *e.kind() else { return Err(e.into()) };
                out.flush()?;
                out::warn(format_args!(
                    "overtaken: what lay between LSN {lsn} and {first} was cleaned before it was read"
                ));
                follower = view.follow(first);
            }
        }
    }
    Ok(())
}
