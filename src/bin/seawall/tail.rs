//! `seawall tail`: the last records of a log, and each further one once it is durable, from another process.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use seawall::{ErrorKind, Lsn, Options, ReadOnly, Record};

use crate::dump;
use crate::exit;
use crate::failure::About;
use crate::out::{self, Out};
use crate::record::{Form, Shown};

/// How long to wait for a record at once.
const IDLE: Duration = Duration::from_secs(1);

/// Write out the last records of a log, and go on as more become durable
///
/// Works beside a live writer, which notices nothing of it. Only what is known to be durable is written out.
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
    records: usize,
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

Exit codes: 0 all of that was written out, or nobody reads on, 1 usage or I/O, 2 damage was met, 5 written by a newer
version.";

impl Arguments {
    pub fn about(&self) -> About<'_> {
        About::reading(&self.dir, self.json)
    }
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    let form = Form::of(arguments.json, arguments.hex);
    let view = Options::new().open_read_only(&arguments.dir)?;
    let end = view.durable_lsn();
    for record in last(&view, arguments.records)? {
        Shown::new(&record).write(form, out)?;
    }
    out.flush()?;
    if arguments.follow {
        follow(&view, end, form, out)?;
    }
    Ok(exit::CLEAN)
}

/// The last records, out of as few segments as hold them. Those that are cleaned meanwhile are not among them.
fn last(view: &ReadOnly, count: usize) -> anyhow::Result<Vec<Record>> {
    let mut found: VecDeque<Record> = VecDeque::new();
    for range in view.split(usize::MAX).into_iter().rev() {
        if found.len() >= count {
            break;
        }
        let mut before: VecDeque<Record> = VecDeque::new();
        for record in view.read(range).into_iter().flatten() {
            match record {
                Err(e) if matches!(e.kind(), ErrorKind::Removed { .. }) => break,
                record => before.push_back(record?),
            }
            if before.len() + found.len() > count {
                before.pop_front();
            }
        }
        before.append(&mut found);
        found = before;
    }
    Ok(found.into())
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
