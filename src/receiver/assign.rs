//! Assignments on their way: from the offer, over the questions to the source and the start table, to the
//! partitions being read. Each step returns at once or after one bounded question, so polling goes on between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::entry::{Handover, LogId, Origin};
use super::error::ReceiveError;
use super::intake::{Intake, Owned, Recheck};
use super::line::{Beginning, Line};
use super::mark::CommitMark;
use super::offsets::OffsetTable;
use super::source::{Commit, Partition, Source, SourceError, TopicId};
use super::start::{Facts, GroupMark, LogMark, Start, StartError, decide, in_bounds};
use super::status::{Board, Notice, Step};
use crate::Lsn;

/// What a record of a batch takes at most beside its payload.
const FRAME: usize = 24 + 3;

/// An assignment that is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    partitions: Vec<Partition>,
    since: Duration,
    try_at: Duration,
    /// Decided; to be read once the entries of that number are durable.
    decided: Option<(u64, Vec<Decided>)>,
}

#[derive(Debug)]
struct Decided {
    partition: Partition,
    topic_id: TopicId,
    start: Start,
    committed: Option<i64>,
}

/// What the steps of an assignment need.
pub(super) struct Desk<'a> {
    pub(super) source: &'a mut dyn Source,
    pub(super) intake: &'a mut Intake,
    pub(super) line: &'a Line,
    pub(super) config: &'a Config,
    pub(super) board: &'a Board,
    pub(super) log: LogId,
}

impl Desk<'_> {
    /// How long to ask on after an answer: not at all where it will stay the same.
    fn patience<T>(&self, answer: &Result<T, ReceiveError>) -> Duration {
        match answer {
            Err(ReceiveError::Source(error)) if !error.fatal => self.config.start_timeout,
            // A broker that has just come back may not know its own end yet.
            Err(ReceiveError::Start { error: StartError::Truncated { .. }, .. }) => self.config.request_timeout,
            _ => Duration::ZERO,
        }
    }

    /// Counts and tells an error that is not the end.
    fn note(&self, error: ReceiveError) {
        let error = match error {
            ReceiveError::Source(error) => error,
            other => SourceError::new("START", other.to_string(), false),
        };
        self.board.update(|status| status.source_errors += 1);
        self.board.tell(&Notice::SourceError(error));
    }
}

impl Assignment {
    pub(super) fn new(partitions: Vec<Partition>, now: Duration) -> Assignment {
        Assignment { partitions, since: now, try_at: now, decided: None }
    }

    /// Forgets partitions that were taken away again; `false` if none are left.
    pub(super) fn without(&mut self, gone: &[Partition]) -> bool {
        self.partitions.retain(|partition| !gone.contains(partition));
        if let Some((_, decided)) = &mut self.decided {
            decided.retain(|decided| !gone.contains(&decided.partition));
        }
        !self.partitions.is_empty()
    }

    /// Goes one step further where that is possible now; `true` once the partitions are being read.
    pub(super) fn advance(&mut self, desk: &mut Desk<'_>) -> Result<bool, ReceiveError> {
        let now = desk.config.clock.monotonic();
        if now < self.try_at {
            return Ok(false);
        }
        let answer = match &self.decided {
            None => self.decide(desk).map(|()| false),
            Some((number, _)) if !desk.line.is_done(*number) => return Ok(false),
            Some(_) => self.read(desk, now).map(|()| true),
        };
        let patience = desk.patience(&answer);
        match answer {
            Err(error) if now < self.since + patience => {
                self.try_at = now + desk.config.retry_interval;
                desk.note(error);
                Ok(false)
            }
            other => other,
        }
    }

    /// Asks the source, and hands what has to be recorded to the append thread.
    fn decide(&mut self, desk: &mut Desk<'_>) -> Result<(), ReceiveError> {
        let timeout = desk.config.request_timeout;
        let ids = topic_ids(desk.source, &self.partitions, timeout)?;
        let committed = desk.source.committed(&self.partitions, timeout)?;
        if committed.len() != self.partitions.len() {
            let message = format!("{} of {} committed offsets came back", committed.len(), self.partitions.len());
            return Err(SourceError::new("INCOMPLETE", message, false).into());
        }
        let mut alone = None;
        let mut decided = Vec::new();
        for (partition, committed) in self.partitions.iter().zip(committed) {
            let Some(topic_id) = ids.get(&partition.topic).copied() else { continue };
            let (low, high) = desk.source.watermarks(partition, timeout)?;
            let mut facts = facts(desk, partition, topic_id, committed.as_ref(), (low, high));
            if facts.asks_alone() {
                facts.alone = match alone {
                    Some(alone) => alone,
                    None => *alone.insert(desk.source.alone(timeout)?),
                };
            }
            let start = decide(&facts).map_err(|error| ReceiveError::Start { partition: partition.clone(), error })?;
            let committed = committed.map(|commit| commit.next);
            decided.push(Decided { partition: partition.clone(), topic_id, start, committed });
        }
        // Crash: an origin or a handover is durable before the first record is read after it, so that every
        // range in the log has the beginning of its chain below it.
        let beginnings: Vec<_> = decided.iter().filter_map(Decided::beginning).collect();
        check_table(desk.intake.planned().clone(), &beginnings, desk.config)?;
        let number = if beginnings.is_empty() { 0 } else { desk.intake.begin(beginnings) };
        self.decided = Some((number, decided));
        Ok(())
    }

    /// Has the partitions delivered.
    fn read(&mut self, desk: &mut Desk<'_>, now: Duration) -> Result<(), ReceiveError> {
        let Some((_, decided)) = &self.decided else { return Ok(()) };
        let starts: Vec<_> = decided.iter().map(|decided| (decided.partition.clone(), decided.start.next())).collect();
        desk.source.assign(&starts)?;
        desk.board.update(|status| status.assigned += starts.len() as u64);
        for it in decided {
            let (partition, next) = (it.partition.clone(), it.start.next());
            let mut owned = Owned::new(partition.clone(), it.topic_id, next, it.committed);
            owned.silent_since = Some(now);
            desk.intake.own(owned);
            let (cause, handover) = match it.beginning() {
                None => (None, None),
                Some(Beginning::Origin(origin)) => (Some(origin.cause), None),
                Some(Beginning::Handover(handover)) => (None, Some(handover)),
            };
            desk.board.tell(&Notice::Assigned { partition, next, cause, handover });
        }
        desk.board.step(Step::Assigned);
        Ok(())
    }
}

impl Decided {
    /// What is recorded before the partition is read.
    fn beginning(&self) -> Option<Beginning> {
        let (partition, topic_id) = (self.partition.clone(), self.topic_id);
        match self.start {
            Start::Resume(_) => None,
            Start::Origin { next, previous, cause } => {
                Some(Beginning::Origin(Origin::new(partition, topic_id, previous, next, cause)))
            }
            Start::Handover { from, next, log } => {
                Some(Beginning::Handover(Handover::new(partition, topic_id, from, next, log)))
            }
        }
    }
}

/// Whether the offset table with these partitions in it fits into a segment, and so do their beginnings, which are one
/// batch.
pub(super) fn check_table(
    mut table: OffsetTable,
    beginnings: &[Beginning],
    config: &Config,
) -> Result<(), ReceiveError> {
    for beginning in beginnings {
        // What does not chain is refused where it is recorded.
        _ = beginning.apply(&mut table, Lsn::ZERO);
    }
    let batch = beginnings.iter().map(|beginning| FRAME + beginning.encode().len()).sum();
    let (needs, limit) = (table.encode().len().max(batch), config.max_block_bytes());
    if needs <= limit { Ok(()) } else { Err(ReceiveError::TableTooLarge { partitions: table.len(), needs, limit }) }
}

/// The identity of each topic, asked anew; an error if one is not there.
fn topic_ids(
    source: &mut dyn Source,
    partitions: &[Partition],
    timeout: Duration,
) -> Result<BTreeMap<Arc<str>, TopicId>, SourceError> {
    let mut ids = BTreeMap::new();
    for partition in partitions {
        if !ids.contains_key(&partition.topic) {
            ids.insert(Arc::clone(&partition.topic), topic_id(source, partition, timeout)?);
        }
    }
    Ok(ids)
}

fn topic_id(source: &mut dyn Source, partition: &Partition, timeout: Duration) -> Result<TopicId, SourceError> {
    let topic = &*partition.topic;
    let gone = || SourceError::new("UNKNOWN_TOPIC", format!("the topic {topic} does not exist"), false);
    source.topic_id(topic, timeout)?.ok_or_else(gone)
}

fn facts(
    desk: &Desk<'_>,
    partition: &Partition,
    topic_id: TopicId,
    committed: Option<&Commit>,
    (low, high): (i64, i64),
) -> Facts {
    let table = desk.intake.planned();
    let mark = match (table.get(partition, topic_id), table.other_topic(&partition.topic, topic_id)) {
        (Some(mark), _) => LogMark::At(mark.next),
        (None, Some(known)) => LogMark::Recreated(known),
        (None, None) => LogMark::None,
    };
    let group = committed.map_or(GroupMark::None, |commit| {
        GroupMark::At(commit.next, CommitMark::parse(&commit.metadata).map(|mark| mark.log))
    });
    Facts {
        mode: desk.config.mode,
        reset: desk.config.on_reset,
        log: desk.log,
        mark,
        topic_known: table.knows_topic(&partition.topic, topic_id),
        log_empty: table.is_empty(),
        group,
        alone: true,
        topic_id,
        low,
        high,
    }
}

/// Asks about a position that the source said is out of range: gone for good is an error, else it is sought
/// again.
pub(super) fn recheck(desk: &mut Desk<'_>, index: usize) -> Result<(), ReceiveError> {
    let now = desk.config.clock.monotonic();
    let Some(owned) = desk.intake.owned.get_mut(index) else { return Ok(()) };
    let Some(Recheck { since, .. }) = owned.recheck.filter(|recheck| now >= recheck.at) else { return Ok(()) };
    owned.recheck = Some(Recheck { since, at: now + desk.config.retry_interval });
    let (partition, known, next) = (owned.partition.clone(), owned.topic_id, owned.next);
    let answer = ask_again(desk, &partition, known, next);
    let patience = desk.patience(&answer);
    match answer {
        Err(error) if now < since + patience => {
            desk.note(error);
            Ok(())
        }
        Ok(()) => {
            if let Some(owned) = desk.intake.find(&partition) {
                (owned.recheck, owned.silent_since) = (None, Some(now));
            }
            Ok(())
        }
        other => other,
    }
}

fn ask_again(desk: &mut Desk<'_>, partition: &Partition, known: TopicId, next: i64) -> Result<(), ReceiveError> {
    let timeout = desk.config.request_timeout;
    let start_error = |error| ReceiveError::Start { partition: partition.clone(), error };
    let now = topic_id(desk.source, partition, timeout)?;
    if now != known {
        return Err(start_error(StartError::TopicRecreated { known, now }));
    }
    let (low, high) = desk.source.watermarks(partition, timeout)?;
    in_bounds(next, low, high).map_err(start_error)?;
    desk.source.resume(&[(partition.clone(), next)])?;
    Ok(())
}
