//! Assignments on their way: from the offer, over the questions to the source and the start table, to the
//! partitions being read. Each step returns after some bounded questions that took a moment together, or one that took
//! longer, so polling goes on between.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::entry::{Handover, LogId, Origin};
use super::error::{ReceiveError, StartError};
use super::intake::{Intake, Owned, Recheck};
use super::line::{Beginning, Line};
use super::mark::CommitMark;
use super::offsets::OffsetTable;
use super::source::{Commit, Partition, Source, SourceError, TopicId};
use super::start::{Chain, Facts, GroupMark, LogMark, Start, decide, in_bounds};
use super::status::{Board, Notice, Step};
use super::wire::NAME;
use crate::Lsn;

/// What a record of a batch takes at most beside its payload.
const FRAME: usize = 24 + 3;

/// How long questions are asked in a row before there is a poll. One that is under way then is waited for.
pub(super) const TURN: Duration = Duration::from_millis(50);

/// An assignment that is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    partitions: Vec<Partition>,
    /// When it was begun with, or came forward last.
    since: Option<Duration>,
    try_at: Duration,
    /// What the source has said so far.
    topic_ids: BTreeMap<Arc<str>, TopicId>,
    committed: Option<Vec<Option<Commit>>>,
    alone: Option<bool>,
    /// Of topics, the lowest partition of which the group has read.
    lowest_read: BTreeMap<Arc<str>, Option<i32>>,
    /// Of the first partitions, in their order.
    decided: Vec<Decided>,
    /// All are decided; to be read once the beginnings of that number are durable.
    recorded: Option<u64>,
}

#[derive(Debug)]
struct Decided {
    partition: Partition,
    topic_id: TopicId,
    start: Start,
    committed: Option<i64>,
    /// The group has read of it.
    read_before: bool,
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
    /// How long to ask on after an error: not at all where the answer will stay the same.
    fn patience(&self, error: &ReceiveError) -> Duration {
        match error {
            ReceiveError::Source(error) if !error.fatal => self.config.start_timeout,
            // A broker that has just come back may not know its own end yet.
            ReceiveError::Start {
                error: StartError::Truncated { high: Some(_), .. } | StartError::GroupBeyondEnd { .. },
                ..
            } => self.config.request_timeout,
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
    pub(super) fn new(mut partitions: Vec<Partition>) -> Assignment {
        // Begun twice, one would not chain.
        let mut met = BTreeSet::new();
        partitions.retain(|partition| met.insert(partition.clone()));
        Assignment { partitions, ..Assignment::default() }
    }

    /// Forgets partitions that were taken away again; `false` if none are left.
    pub(super) fn without(&mut self, gone: &[Partition]) -> bool {
        self.partitions.retain(|partition| !gone.contains(partition));
        // Those decided stay the first of the rest, which are as many as are asked for again: the answer's are in their order.
        self.decided.retain(|decided| !gone.contains(&decided.partition));
        self.committed = None;
        !self.partitions.is_empty()
    }

    /// Goes some steps further where that is possible now; `true` once the partitions are being read.
    pub(super) fn advance(&mut self, desk: &mut Desk<'_>) -> Result<bool, ReceiveError> {
        let begun = desk.config.clock.monotonic();
        let mut now = begun;
        while now >= self.try_at && now < begun + TURN {
            let answer = match self.recorded {
                None => self.ask(desk).map(|()| false),
                Some(number) if !desk.line.is_done(number) => {
                    self.since = Some(now);
                    return Ok(false);
                }
                Some(_) => self.read(desk, now).map(|()| true),
            };
            let since = *self.since.get_or_insert(now);
            now = desk.config.clock.monotonic();
            match answer {
                Ok(false) => self.since = Some(now),
                Ok(true) => return Ok(true),
                Err(error) if now < since + desk.patience(&error) => {
                    self.try_at = now + desk.config.retry_interval;
                    desk.note(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Asks the source the next question. After the last, what has to be recorded goes to the append thread.
    fn ask(&mut self, desk: &mut Desk<'_>) -> Result<(), ReceiveError> {
        let timeout = desk.config.request_timeout;
        for partition in &self.partitions {
            if let Entry::Vacant(unknown) = self.topic_ids.entry(Arc::clone(&partition.topic)) {
                unknown.insert(topic_id(desk.source, partition, timeout)?);
                return Ok(());
            }
        }
        let Some(committed) = &self.committed else {
            self.committed = Some(committed(desk.source, &self.partitions, timeout)?);
            return Ok(());
        };
        let Some((partition, committed)) = self.partitions.iter().zip(committed).nth(self.decided.len()) else {
            return self.record(desk);
        };
        let Some(topic_id) = self.topic_ids.get(&partition.topic).copied() else { return Ok(()) };
        let mut facts = facts(desk, partition, topic_id, group_mark(committed.as_ref(), topic_id));
        if facts.asks_alone() && self.alone.is_none() {
            self.alone = Some(desk.source.alone(timeout)?);
            return Ok(());
        }
        facts.alone = self.alone.unwrap_or(true);
        if facts.asks_topic() {
            let Some(lowest) = self.lowest_read.get(&partition.topic) else {
                let topic = Arc::clone(&partition.topic);
                let lowest = lowest_read(desk.source, &topic, topic_id, &self.partitions, timeout)?;
                self.lowest_read.insert(topic, lowest);
                return Ok(());
            };
            facts.is_new = lowest.is_some_and(|lowest| lowest < partition.number);
        }
        (facts.low, facts.high) = bounds(desk.source, partition, timeout)?;
        let start = decide(&facts).map_err(|error| ReceiveError::Start { partition: partition.clone(), error })?;
        let committed = if let GroupMark::At(next, _) = facts.group { Some(next) } else { None };
        let read_before = facts.group.is_read();
        self.decided.push(Decided { partition: partition.clone(), topic_id, start, committed, read_before });
        Ok(())
    }

    /// Hands what has to be recorded to the append thread.
    fn record(&mut self, desk: &mut Desk<'_>) -> Result<(), ReceiveError> {
        // Crash: an origin or a handover is durable before the first record is read after it, so that every
        // range in the log has the beginning of its chain below it.
        let beginnings: Vec<_> = self.decided.iter().flat_map(Decided::beginnings).collect();
        check_table(desk.intake.planned().clone(), &beginnings, desk.config)?;
        // Those of an assignment that was revoked meanwhile may be under way still, and be what this one resumes at.
        self.recorded = Some(if beginnings.is_empty() { desk.intake.begun } else { desk.intake.begin(beginnings) });
        Ok(())
    }

    /// Has the partitions delivered.
    fn read(&mut self, desk: &mut Desk<'_>, now: Duration) -> Result<(), ReceiveError> {
        let starts: Vec<_> =
            self.decided.iter().map(|decided| (decided.partition.clone(), decided.start.next())).collect();
        desk.source.assign(&starts)?;
        desk.board.update(|status| status.assigned += starts.len() as u64);
        for it in &self.decided {
            let (partition, next) = (it.partition.clone(), it.start.next());
            let mut owned = Owned::new(partition.clone(), it.topic_id, next, it.committed);
            (owned.silent_since, owned.read_before) = (Some(now), it.read_before);
            desk.intake.own(owned);
            let (mut cause, mut handovers) = (None, Vec::new());
            for beginning in it.beginnings() {
                match beginning {
                    Beginning::Origin(origin) => cause = Some(origin.cause),
                    Beginning::Handover(handover) => handovers.push(handover),
                }
            }
            desk.board.tell(&Notice::Assigned { partition, next, cause, handovers });
        }
        desk.board.step(Step::Assigned);
        Ok(())
    }
}

impl Decided {
    /// What is recorded before the partition is read.
    fn beginnings(&self) -> Vec<Beginning> {
        let place = || (self.partition.clone(), self.topic_id);
        match self.start {
            Start::Resume(_) => Vec::new(),
            Start::Origin { next, previous, cause } => {
                let (partition, topic_id) = place();
                vec![Beginning::Origin(Origin::new(partition, topic_id, previous, next, cause))]
            }
            Start::Handover { from, next, chain } => {
                let known = chain.map_or(next, |chain| chain.from);
                let parts = [(from, known, None), (known, next, chain.map(|chain| chain.log))];
                let handover = |(from, next, log)| {
                    let (partition, topic_id) = place();
                    Beginning::Handover(Handover::new(partition, topic_id, from, next, log))
                };
                parts.into_iter().filter(|(from, next, _)| from < next).map(handover).collect()
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

/// The identity of a partition's topic, asked anew; an error if there is none.
fn topic_id(source: &mut dyn Source, partition: &Partition, timeout: Duration) -> Result<TopicId, SourceError> {
    let topic = &*partition.topic;
    let gone = || SourceError::new("UNKNOWN_TOPIC", format!("the topic {topic} does not exist"), false);
    if topic.len() > NAME {
        let message = format!("the topic's name has {} bytes, at most {NAME} are possible", topic.len());
        return Err(SourceError::new("INVALID_TOPIC", message, true));
    }
    source.topic_id(topic, timeout)?.ok_or_else(gone)
}

/// From which offset on, and up to which, a partition can be read. Negative ones would be recorded, and never read again.
fn bounds(source: &mut dyn Source, partition: &Partition, timeout: Duration) -> Result<(i64, i64), SourceError> {
    let (low, high) = source.watermarks(partition, timeout)?;
    if low.min(high) >= 0 {
        return Ok((low, high));
    }
    let message = format!("{partition} goes from offset {low} to {high}, and no offset is negative");
    Err(SourceError::new("INVALID_OFFSET", message, false))
}

/// What the group has committed for each of these partitions.
fn committed(
    source: &mut dyn Source,
    partitions: &[Partition],
    timeout: Duration,
) -> Result<Vec<Option<Commit>>, SourceError> {
    let committed = source.committed(partitions, timeout)?;
    if committed.len() == partitions.len() {
        return Ok(committed);
    }
    let message = format!("{} of {} committed offsets came back", committed.len(), partitions.len());
    Err(SourceError::new("INCOMPLETE", message, false))
}

/// The lowest partition of the topic of which the group has read, below the highest of these: new ones are above those that
/// were there.
fn lowest_read(
    source: &mut dyn Source,
    topic: &Arc<str>,
    topic_id: TopicId,
    partitions: &[Partition],
    timeout: Duration,
) -> Result<Option<i32>, SourceError> {
    let highest =
        partitions.iter().filter(|partition| partition.topic == *topic).map(|partition| partition.number).max();
    let all: Vec<_> = (0..highest.unwrap_or(0)).map(|number| Partition { topic: Arc::clone(topic), number }).collect();
    let committed = committed(source, &all, timeout)?;
    let mut read = all.iter().zip(&committed).filter(|(_, commit)| group_mark(commit.as_ref(), topic_id).is_read());
    Ok(read.next().map(|(partition, _)| partition.number))
}

/// What the group has committed for a partition of the topic that has this id.
pub(super) fn group_mark(committed: Option<&Commit>, topic_id: TopicId) -> GroupMark {
    let Some(commit) = committed else { return GroupMark::None };
    match CommitMark::parse(&commit.metadata) {
        // It is about the records of a topic that is gone, and says nothing about this one.
        Some(mark) if mark.topic_id != topic_id => GroupMark::None,
        mark => GroupMark::At(
            commit.next,
            mark.map(|mark| Chain { log: mark.log, from: mark.from, read_before: mark.read_before }),
        ),
    }
}

/// What is known of a partition before its bounds are.
fn facts(desk: &Desk<'_>, partition: &Partition, topic_id: TopicId, group: GroupMark) -> Facts {
    let table = desk.intake.planned();
    let mark = match (table.get(partition, topic_id), table.other_topic(&partition.topic, topic_id)) {
        (Some(mark), _) => LogMark::At(mark.next),
        (None, Some(known)) => LogMark::Recreated(known),
        (None, None) => LogMark::None,
    };
    Facts {
        mode: desk.config.mode,
        reset: desk.config.on_reset,
        log: desk.log,
        mark,
        is_new: table.has_read_below(partition, topic_id),
        log_empty: table.is_empty(),
        group,
        alone: true,
        topic_id,
        low: 0,
        high: 0,
    }
}

/// Asks about a position that the source said is out of range or cut off, one question a call: gone for good is an
/// error, else it is sought again. `false` where there is nothing to ask now.
pub(super) fn recheck(desk: &mut Desk<'_>) -> Result<bool, ReceiveError> {
    let now = desk.config.clock.monotonic();
    let due = |owned: &&Owned| owned.recheck.is_some_and(|recheck| now >= recheck.at);
    let longest = desk.intake.owned.iter().filter(due).min_by_key(|owned| owned.recheck.map(|recheck| recheck.at));
    let Some(owned) = longest else { return Ok(false) };
    let Some(asked) = owned.recheck else { return Ok(false) };
    let (partition, known, next) = (owned.partition.clone(), owned.topic_id, owned.next);
    let since = asked.since.unwrap_or(now);
    let answer = if !asked.is_same_topic {
        ask_topic(desk, &partition, known).map(|()| Some(Recheck { since: Some(since), is_same_topic: true, ..asked }))
    } else if asked.is_cut {
        // The bounds say nothing: it may have grown past the position again.
        let error = StartError::Truncated { next, high: None };
        Err(ReceiveError::Start { partition: partition.clone(), error })
    } else {
        ask_bounds(desk, &partition, next).map(|()| None)
    };
    let now = desk.config.clock.monotonic();
    let recheck = match answer {
        Ok(recheck) => recheck,
        Err(error) if now < since + desk.patience(&error) => {
            desk.note(error);
            Some(Recheck { since: Some(since), at: now + desk.config.retry_interval, ..asked })
        }
        Err(error) => return Err(error),
    };
    if let Some(owned) = desk.intake.find(&partition) {
        (owned.recheck, owned.silent_since) = (recheck, Some(now));
    }
    Ok(true)
}

fn ask_topic(desk: &mut Desk<'_>, partition: &Partition, known: TopicId) -> Result<(), ReceiveError> {
    let now = topic_id(desk.source, partition, desk.config.request_timeout)?;
    let error = StartError::TopicRecreated { known, now };
    if now == known { Ok(()) } else { Err(ReceiveError::Start { partition: partition.clone(), error }) }
}

fn ask_bounds(desk: &mut Desk<'_>, partition: &Partition, next: i64) -> Result<(), ReceiveError> {
    let (low, high) = bounds(desk.source, partition, desk.config.request_timeout)?;
    in_bounds(next, low, high).map_err(|error| ReceiveError::Start { partition: partition.clone(), error })?;
    desk.source.resume(&[(partition.clone(), next)])?;
    Ok(())
}

#[cfg(all(test, feature = "sim"))]
pub(super) mod tests;
