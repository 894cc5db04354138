//! `seawall dump`: what a log holds, record by record, beside a live writer or without one.

mod help;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use seawall::check::{self, Fault, Frames, Item};
use seawall::{BatchTime, Lsn, Record};

use crate::exit;
use crate::failure::{self, About};
use crate::meter::Meter;
use crate::out::{self, Out};
use crate::record::{Form, Shown};
use crate::units;
use crate::verify::lies_below;
pub use help::JSON;

/// Write out what a log holds; works on a live log, and goes on past damage
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log's directory, or a segment file to be read on its own
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// Only records at this LSN or above
    #[arg(long, value_name = "LSN", default_value = "0", hide_default_value = true)]
    from: u64,
    /// Only records below this LSN
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// Only records of this batch time or a later one: a number, or a time such as 2025-11-20T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = units::batch_time)]
    from_time: Option<u64>,
    /// Only records of an earlier batch time
    #[arg(long, value_name = "TIME", value_parser = units::batch_time)]
    to_time: Option<u64>,
    /// Only records of this kind; may be given several times
    #[arg(long)]
    kind: Vec<Kind>,
    /// All bytes of each payload too, in hexadecimal
    #[arg(long, conflicts_with = "json")]
    hex: bool,
    /// One JSON object a line, with keys, values and payloads in base64
    #[arg(long, long_help = JSON)]
    json: bool,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Any that no receiver wrote
    Record,
    /// A snapshot
    Checkpoint,
    /// A receiver's block of messages
    Block,
    /// Where a receiver's log begins with a partition
    Origin,
    /// What a receiver passed over
    Handover,
}

const EXAMPLES: &str = "Examples:
  seawall dump /var/lib/billing
  seawall dump --from 104233088 --to 104300000 --hex /var/lib/billing
  seawall dump --from-time 2025-11-20T14:00:00Z --kind block /var/lib/billing
  seawall dump 00000000000067108864.wal.aside
  seawall dump /var/lib/billing --json | jq -r 'select(.kind == \"block\") | .records[].value | @base64d'

Only what is known to be durable is written out; how much more lies in the log is said on standard error. Of a file on
its own all valid records are.

Exit codes: 0 all of that was written out, 1 usage or I/O, 2 damage was passed over (what and where stands on standard
error), 5 written by a newer version. What a writer cleans away before it was read is no damage; it is said on standard
error.";

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    units::in_order(("--from", Some(arguments.from)), ("--to", arguments.to))?;
    units::in_order(("--from-time", arguments.from_time), ("--to-time", arguments.to_time))?;
    let mut frames = check::frames(&arguments.path)?.starting_at(Lsn(arguments.from));
    let (form, to) = (Form::of(arguments.json, arguments.hex), arguments.to.map_or(Lsn::MAX, Lsn));
    let damaged = write(&mut frames, to, form, out, |met| match met {
        Met::Record(record, shown) => arguments.asks_for(record, shown),
        Met::Damage(fault) => !lies_below(fault, arguments.from),
    })?;
    out.flush()?;
    out::notes(&frames);
    failure::tell_ways(&arguments.path, damaged);
    Ok(if damaged.is_some() { exit::damage() } else { exit::CLEAN })
}

/// What is met in a log.
pub enum Met<'a> {
    Record(&'a Record, &'a Shown<'a>),
    Damage(&'a Fault),
}

/// Writes records out up to `to`, past damage, which is said, as is what a writer cleaned meanwhile; of both what is `asked`
/// for. Gives where the first damage lies that was said.
pub fn write(
    frames: &mut Frames,
    to: Lsn,
    form: Form,
    out: &mut Out,
    mut asked: impl FnMut(Met<'_>) -> bool,
) -> anyhow::Result<Option<Lsn>> {
    let mut damaged = None;
    // A bar among the records would be in their way.
    let meter = if out.is_terminal() { Meter::silent() } else { Meter::new(form == Form::Json) };
    while let Some(item) = frames.next() {
        match item? {
            Item::Record(record) if record.lsn >= to || !out.has_reader() => break,
            Item::Record(record) => {
                let shown = Shown::new(&record);
                if asked(Met::Record(&record, &shown)) {
                    shown.write(form, out)?;
                }
            }
            Item::Damage(fault) if fault.lsn >= to => break,
            Item::Damage(fault) if asked(Met::Damage(&fault)) => {
                damaged.get_or_insert(fault.lsn);
                // What is around it goes out first.
                out.flush()?;
                meter.say(format_args!("damage: {fault}"));
            }
            Item::Removed { from, .. } if from >= to => break,
            Item::Removed { from, first } => {
                out.flush()?;
                meter.say(format_args!("note: {}", out::removed(from, first)));
            }
            _ => {}
        }
        meter.tick(|| frames.progress());
    }
    Ok(damaged)
}

impl Arguments {
    pub fn about(&self) -> About<'_> {
        About::reading(&self.path, self.json)
    }

    fn asks_for(&self, record: &Record, shown: &Shown<'_>) -> bool {
        let BatchTime(time) = record.batch_time;
        let kind = Kind::from_str(shown.kind(), false);
        self.from_time.is_none_or(|from| time >= from)
            && self.to_time.is_none_or(|to| time < to)
            && (self.kind.is_empty() || kind.is_ok_and(|kind| self.kind.contains(&kind)))
    }
}
