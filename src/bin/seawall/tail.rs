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
/// Works beside a live writer, which notices nothing of it. Only what is known to be durable is written out. The last
/// records are written out past damage, those of a log that opening refuses too. With -f that error ends it then, and so
/// does damage in what follows, though a writer that has not met it may go on.
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
    let form = Form::of(arguments.json, arguments.hex);
    let view = match Options::new().open_read_only(&arguments.dir) {
        Ok(view) => view,
        Err(error) => return refused(arguments, error, out),
    };
    let ranges = view.split(usize::MAX);
    let end = ranges.last().map_or(view.durable_lsn(), |range| range.end);
    let find = |range: &Range<Lsn>, tick: &dyn Fn(u64, Lsn)| match count(&view, range, tick) {
        Err(e) if matches!(e.kind(), ErrorKind::Damage(_)) => sound(&arguments.dir, range, tick),
        counted => counted,
    };
    let (last, mut is_overtaken) = Last::find(ranges, arguments, find)?;
    // All was cleaned before the segments were listed.
    is_overtaken |= last.is_none() && arguments.records > 0 && view.durable_lsn() > end;
    let (to, damaged) = match last {
        Some(last) => {
            let expected = last.expected;
            let Written { frames, damaged, records } = last.write(arguments, end, out)?;
            is_overtaken |= records < expected;
            (end.min(frames.end()), damaged)
        }
        None => (end, None),
    };
    out.flush()?;
    if is_overtaken && out.is_read() {
        out::warn(format_args!("overtaken: of the last records some were cleaned before they were read"));
    }
    failure::tell_ways(&arguments.dir, damaged);
    if arguments.follow {
        follow(&view, to, form, out)?;
    }
    Ok(if damaged.is_some() { exit::damage() } else { exit::CLEAN })
}

/// Writes out the last records of a log that opening refuses, past its damage. A writer that opened it before may go on,
/// but there is no view of it to wait with.
fn refused(arguments: &Arguments, error: Error, out: &mut Out) -> anyhow::Result<ExitCode> {
    let ErrorKind::Damage(damage) = error.kind() else { return Err(error.into()) };
    let Damage { what, lsn, .. } = &**damage;
    let end = check::frames(&arguments.dir)?.end();
    let overview = check::inspect(&arguments.dir)?;
    let bases = overview.segments.iter().filter(|segment| segment.is_log()).map(|segment| segment.base);
    let mut bases: Vec<Lsn> = bases.filter(|base| *base < end).collect();
    bases.sort_unstable();
    let ends = bases.iter().skip(1).copied().chain([end]);
    let ranges = bases.iter().copied().zip(ends).map(|(from, to)| from..to).collect();
    let (last, _) = Last::find(ranges, arguments, |range, tick| sound(&arguments.dir, range, tick))?;
    let damaged = match last {
        Some(last) => {
            let Written { frames, damaged, .. } = last.write(arguments, end, out)?;
            out.flush()?;
            out::notes(&frames);
            damaged
        }
        None => None,
    };
    if arguments.follow {
        return Err(error.into());
    }
    if damaged.is_none() {
        // It lies before them.
        out::warn(format_args!("damage: LSN {lsn}: {what}"));
    }
    failure::tell_ways(&arguments.dir, damaged.or(Some(*lsn)));
    Ok(exit::damage())
}

/// Where the last records begin: of those in the segment of this range the first `before` are not among them.
struct Last {
    segment: Range<Lsn>,
    before: u64,
    expected: u64,
}

/// What was read to write the last records out, the first damage there, and how many records were written.
struct Written {
    frames: Frames,
    damaged: Option<Lsn>,
    records: u64,
}

impl Last {
    /// Counts back through as few segments as hold them. None is kept meanwhile, for they may be any number. `None`: there
    /// are none. Also tells whether some of them were cleaned meanwhile.
    fn find(
        ranges: Vec<Range<Lsn>>,
        arguments: &Arguments,
        count: impl Fn(&Range<Lsn>, &dyn Fn(u64, Lsn)) -> seawall::Result<u64>,
    ) -> anyhow::Result<(Option<Last>, bool)> {
        let meter = Meter::new(arguments.json);
        let (wanted, begun) = (arguments.records, Instant::now());
        let (mut last, mut found, mut bytes, mut is_overtaken) = (None, 0, 0, false);
        for range in ranges.into_iter().rev() {
            if found >= wanted {
                break;
            }
            let tick = |count: u64, lsn: Lsn| {
                let read = bytes + (lsn.0 - range.start.0);
                meter.tick(|| progress(read, found + count, wanted, begun.elapsed()));
            };
            found += match count(&range, &tick) {
                Err(e) if matches!(e.kind(), ErrorKind::Removed { .. }) => {
                    is_overtaken = true;
                    break;
                }
                counted => counted?,
            };
            bytes += range.end.0 - range.start.0;
            last = Some(Last { segment: range, before: found.saturating_sub(wanted), expected: found.min(wanted) });
        }
        Ok((last, is_overtaken))
    }

    /// Writes them out up to `end`, past damage.
    fn write(self, arguments: &Arguments, end: Lsn, out: &mut Out) -> anyhow::Result<Written> {
        let Last { segment, mut before, .. } = self;
        let mut records = 0;
        let mut frames = check::frames(&arguments.dir)?.starting_at(segment.start);
        let form = Form::of(arguments.json, arguments.hex);
        // All that are before may be cleaned by now.
        let damaged = dump::write(&mut frames, end, form, out, |met| match met {
            Met::Record(record, _) if before > 0 && record.lsn < segment.end => {
                before -= 1;
                false
            }
            Met::Damage(fault) => before == 0 || fault.lsn >= segment.end,
            Met::Record(..) => {
                records += 1;
                true
            }
        })?;
        Ok(Written { frames, damaged, records })
    }
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

/// Counts the valid records of a range in which there is damage.
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
