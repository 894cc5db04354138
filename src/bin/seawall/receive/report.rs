//! What `seawall receive` tells: a line for each thing that happens, and the pace every few seconds.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use seawall::Wal;
use seawall::receiver::{
    Handover, Notice, Observer, Partition, PartitionStatus, ReceiveError, Recovered, Status, StatusHandle,
};
use serde_json::{Value, json};

use super::lines::Lines;
use crate::out::{self, Out, Plain, count, counted};
use crate::units::bytes;

/// How often the pace is told: where nobody looks, and on a terminal.
const SELDOM: Duration = Duration::from_secs(5);
const OFTEN: Duration = Duration::from_millis(250);
/// How often the same error of the source is told.
const AGAIN: Duration = Duration::from_secs(30);

/// Writes to standard output and error, and waits for nobody who reads them; a terminal also gets a line that is always up to date.
pub struct Report {
    lines: Lines,
    warnings: Lines,
    json: bool,
    bar: Option<ProgressBar>,
    sender: Sender<Notice>,
    notices: Receiver<Notice>,
    last: (Instant, Status),
    /// Errors of the source by their codes: when each was told last, and how often it came since.
    errors: BTreeMap<String, (Instant, u64)>,
}

/// Passes on what the receiver's threads notice.
struct Passing(Sender<Notice>);

impl Observer for Passing {
    fn notice(&self, notice: &Notice) {
        let _ = self.0.send(notice.clone());
    }
}

impl Report {
    pub fn new(json: bool) -> io::Result<Report> {
        let (sender, notices) = mpsc::channel();
        let bar = (out::has_terminal() && !json).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        Ok(Report {
            lines: Lines::new(writer(bar.clone()))?,
            warnings: Lines::new(warning)?,
            json,
            bar,
            sender,
            notices,
            last: (Instant::now(), Status::default()),
            errors: BTreeMap::new(),
        })
    }

    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(Passing(self.sender.clone()))
    }

    pub fn opened(&mut self, wal: &Wal) {
        let found = wal.recovery();
        let torn = found.torn.as_ref().map(|torn| json!({ "lsn": torn.lsn.0, "beyond": torn.beyond }));
        let value = json!({
            "segments": found.segments, "records": found.records, "first": found.first.0, "end": found.end.0,
            "torn": torn, "notes": found.notes,
        });
        self.tell("opened", &found.to_string(), value);
    }

    pub fn recovered(&mut self, recovered: &Recovered) {
        let marks = recovered.table.iter().map(|(partition, _, mark)| (partition.to_string(), mark.next));
        let marks: BTreeMap<_, _> = marks.collect();
        let mut text = counted(marks.len() as u64, "partition");
        if !marks.is_empty() {
            text.push_str("; resume at");
            marks.iter().take(8).for_each(|(partition, next)| text.push_str(&format!(" {partition}@{next}")));
            text.push_str(if marks.len() > 8 { " .. (from the log)" } else { " (from the log)" });
        }
        self.tell("recovered", &text, json!({ "resume": marks }));
    }

    /// Tells how a stop went. What ended it otherwise is told as an error and not here.
    pub fn stopped(&mut self, status: &Status, outcome: Result<(), &ReceiveError>) {
        let Some((durable, committed)) = reached(outcome) else { return };
        let (recorded, duplicates) = (counted(status.recorded, "record"), counted(status.duplicates, "duplicate"));
        let reached = words(durable, committed);
        let text = format!("{recorded} recorded, {duplicates} dropped; {reached}");
        let mut value = figures(status);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("all_durable".into(), durable.into());
            fields.insert("all_committed".into(), committed.into());
        }
        self.tell("stopped", &text, value);
    }

    pub fn warn(&mut self, text: &str) {
        let line = format!("warning: {text}");
        above(self.bar.as_ref(), || {
            self.warnings.put(line, |missing| format!("warning: missing here: {}", counted(missing, "warning")));
        });
    }

    /// Tells what happened, and the pace if it is time; returns after a moment.
    pub fn turn(&mut self, status: &StatusHandle) {
        match self.notices.recv_timeout(OFTEN) {
            Ok(notice) => self.notice(&notice),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        while let Ok(notice) = self.notices.try_recv() {
            self.notice(&notice);
        }
        self.pace(status);
    }

    fn notice(&mut self, notice: &Notice) {
        let mut text = notice.details();
        let mut value = object(notice);
        if matches!(notice, Notice::Assigned { handovers, .. } if handovers.iter().any(|handover| handover.log.is_none()))
        {
            self.warn(&notice.to_string());
        }
        if let Notice::SourceError(error) = notice {
            let code = error.code.clone();
            let (told, since) = self.errors.get(&code).copied().unzip();
            if let Some(told) = told.filter(|told: &Instant| told.elapsed() < AGAIN) {
                self.errors.insert(code, (told, since.unwrap_or(0) + 1));
                return;
            }
            self.errors.insert(code, (Instant::now(), 0));
            if let (Some(more @ 1..), Some(fields)) = (since, value.as_object_mut()) {
                text.push_str(&format!(" ({} more since it was told last)", counted(more, "time")));
                fields.insert("more".into(), more.into());
            }
        }
        self.tell(notice.name(), &text, value);
    }

    fn pace(&mut self, status: &StatusHandle) {
        let (then, before) = &self.last;
        let passed = then.elapsed();
        let due = if self.bar.is_some() { OFTEN } else { SELDOM };
        if passed < due {
            return;
        }
        let now = status.snapshot();
        let per_second = |now: u64, before: u64| {
            let millis = passed.as_millis().max(1);
            u64::try_from(u128::from(now.saturating_sub(before)) * 1000 / millis).unwrap_or(u64::MAX)
        };
        let records = per_second(now.recorded, before.recorded);
        let volume = per_second(now.recorded_bytes, before.recorded_bytes);
        let changed = now.recorded != before.recorded;
        let text = format!(
            "{} rec/s {}/s | {} in {} | {} not committed{}",
            count(records),
            bytes(volume),
            counted(now.recorded, "record"),
            counted(now.blocks, "block"),
            count(uncommitted(&now.partitions)),
            if now.paused { " | paused" } else { "" },
        );
        if let Some(bar) = &self.bar {
            bar.set_message(format!("stored {text}"));
            bar.tick();
        } else if changed {
            let mut value = figures(&now);
            if let Some(fields) = value.as_object_mut() {
                fields.insert("records_per_second".into(), records.into());
                fields.insert("bytes_per_second".into(), volume.into());
            }
            self.tell("stored", &text, value);
        }
        self.last = (Instant::now(), now);
    }

    fn tell(&mut self, event: &str, text: &str, value: Value) {
        let json = self.json;
        self.lines.put(line(json, event, text, value), |missing| {
            let text = format!("missing here: {}; nobody read those before", counted(missing, "line"));
            line(json, "notice", &text, json!({ "text": text }))
        });
    }
}

impl Drop for Report {
    /// Ends the output; it is told where something of it is missing.
    fn drop(&mut self) {
        if let missing @ 1.. = self.lines.finish() {
            self.warn(&format!("standard output was not read: {} missing there", counted(missing, "line")));
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.warnings.finish();
    }
}

/// Writes a line to standard error.
pub fn warning(line: &str) -> bool {
    out::warn(line);
    true
}

/// Writes lines to standard output, above the bar if they are on the same terminal. What cannot be written is no
/// reason not to receive.
fn writer(bar: Option<ProgressBar>) -> impl FnMut(&str) -> bool + Send {
    let mut out = Out::new();
    let shared = bar.clone().filter(|_| io::stdout().is_terminal());
    move |line| {
        let mut written = Ok(());
        above(shared.as_ref(), || written = out.raw(line).and_then(|()| out.flush()));
        if let Err(error) = &written {
            let text = format!("warning: {error:#}; receiving all the same, and telling nothing");
            above(bar.as_ref(), || out::warn(text));
        }
        written.is_ok() && out.has_reader()
    }
}

/// Tells as a last event what ended it.
pub fn failed(error: Value) {
    let Ok(mut last) = Lines::new(writer(None)) else { return };
    last.put(line(true, "failed", "", json!({ "error": error })), |_| String::new());
    last.finish();
}

fn above(bar: Option<&ProgressBar>, write: impl FnOnce()) {
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// What happened now, as a line.
fn line(json: bool, event: &str, text: &str, mut value: Value) -> String {
    let now = Timestamp::now();
    if !json {
        return format!("{} {event:<13} {}", now.to_zoned(TimeZone::system()).strftime("%H:%M:%S"), Plain(text));
    }
    if let Some(fields) = value.as_object_mut() {
        fields.insert("time".into(), now.to_string().into());
        fields.insert("event".into(), event.into());
    }
    value.to_string()
}

/// The figures of what happened.
fn object(notice: &Notice) -> Value {
    match notice {
        Notice::Assigned { partition, next, handovers, .. } => {
            let handover = |handover: &Handover| {
                let log = handover.log.map(|log| log.to_string());
                json!({ "from": handover.from, "next": handover.next, "log": log })
            };
            let handovers: Vec<_> = handovers.iter().map(handover).collect();
            json!({
                "topic": &*partition.topic, "partition": partition.number, "next": next,
                "handovers": handovers, "text": notice.details(),
            })
        }
        Notice::Revoked { partitions, lost, drained } => {
            json!({ "partitions": names(partitions), "lost": lost, "drained": drained })
        }
        Notice::CommitFailed { error, gone } => {
            json!({ "code": error.code, "text": error.message, "gone": names(gone) })
        }
        Notice::SourceError(error) => json!({ "code": error.code, "text": error.message }),
        Notice::Checkpoint(lsn) => json!({ "lsn": lsn.0 }),
        Notice::Cleaned { segments, first } => json!({ "segments": segments, "first": first.0 }),
        Notice::Resumed | Notice::Stopping => json!({}),
        _ => json!({ "text": notice.details() }),
    }
}

fn names(partitions: &[Partition]) -> Vec<String> {
    partitions.iter().map(ToString::to_string).collect()
}

/// Whether everything read is durable, and whether it is committed; `None` if it did not stop in order.
fn reached(outcome: Result<(), &ReceiveError>) -> Option<(bool, bool)> {
    match outcome {
        Ok(()) | Err(ReceiveError::NotClosed) => Some((true, true)),
        Err(ReceiveError::NotCommitted { .. }) => Some((true, false)),
        Err(ReceiveError::NotDurable { .. }) => Some((false, false)),
        Err(_) => None,
    }
}

fn words(durable: bool, committed: bool) -> &'static str {
    match (durable, committed) {
        (true, true) => "everything read is durable and committed",
        (true, false) => "everything read is durable, but not everything is committed",
        (false, _) => "not everything read is durable: the rest is read again",
    }
}

/// Records that are durable, of which the group does not know yet.
fn uncommitted(partitions: &[PartitionStatus]) -> u64 {
    let behind = |status: &PartitionStatus| Some(status.durable? - status.committed?);
    partitions.iter().filter_map(behind).map(|offsets| u64::try_from(offsets).unwrap_or(0)).sum()
}

fn figures(status: &Status) -> Value {
    let partition = |p: &PartitionStatus| {
        json!({
            "topic": &*p.partition.topic, "partition": p.partition.number,
            "next": p.next, "durable": p.durable, "committed": p.committed,
        })
    };
    json!({
        "recorded": status.recorded, "recorded_bytes": status.recorded_bytes, "duplicates": status.duplicates,
        "blocks": status.blocks, "paused": status.paused, "pauses": status.pauses, "assigned": status.assigned,
        "revoked": status.revoked, "lost": status.lost, "source_errors": status.source_errors,
        "commits": {
            "sent": status.commits.sent, "ok": status.commits.ok, "failed": status.commits.failed,
            "timed_out": status.commits.timed_out,
        },
        "partitions": status.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_told_as_it_went() {
        let told = |outcome| reached(outcome).map(|(durable, committed)| words(durable, committed));
        let whole = "everything read is durable and committed";
        assert_eq!(told(Ok(())), Some(whole));
        assert_eq!(told(Err(&ReceiveError::NotClosed)), Some(whole));
        let behind = ReceiveError::NotCommitted { partitions: Vec::new(), reason: None };
        assert_eq!(told(Err(&behind)), Some("everything read is durable, but not everything is committed"));
        let lost = ReceiveError::NotDurable { blocks: 2, reason: None };
        assert_eq!(told(Err(&lost)), Some("not everything read is durable: the rest is read again"));
        assert_eq!(told(Err(&ReceiveError::AppendThread)), None);
    }
}
