//! Kafka as a [`Source`]: a member of a group, driven by librdkafka's event queue.
//!
//! How librdkafka behaves where its documentation is silent, and what is done about it here, stands beside the
//! code. Two things it cannot do are the caller's to know: a record with a zero byte in the name of a header is a
//! fatal error, for the name would be cut short, and a client that does not come back from closing is abandoned with
//! its threads ([`closes_abandoned`]).

mod config;
#[expect(
    unsafe_code,
    reason = "librdkafka has no safe way to headers as bytes, to commits with an answer, or to events"
)]
mod ffi;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use config::KafkaConfig;
use ffi::{Change, Client, Current, Failure, FailureKind, Polled, Row};
use names::Names;

use super::error::set_group;
use super::source::{Commit, Event, Partition, Source, SourceError, TopicId};
use super::within::within;

/// How long a seek may take, which is answered by the client itself.
const SEEK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a partition may take to be started, which the client does by itself too, until it counts as one that does not
/// deliver, and once it was begun anew; and how often that is looked for.
const START_MOMENT: Duration = Duration::from_millis(50);
const START_PATIENCE: Duration = Duration::from_secs(1);
const START_LOOK: Duration = Duration::from_millis(1);
/// How long a dropped source may take to leave its group.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

static CLOSES_ABANDONED: AtomicU64 = AtomicU64::new(0);

/// How many clients of this process did not come back from closing in time and were left to themselves.
pub fn closes_abandoned() -> u64 {
    CLOSES_ABANDONED.load(Ordering::Relaxed)
}

/// A member of a Kafka group, from its first poll on. Made by [`KafkaConfig::connect`].
///
/// Dropping it leaves the group as [`close`](Source::close) does, within five seconds.
pub struct KafkaSource {
    // None once it is closed.
    client: Option<Client>,
    group: String,
    // None once the group is joined.
    topics: Option<Vec<String>>,
    current: Current,
    names: Names,
    // With the offset each was last told to begin at.
    assigned: BTreeMap<Partition, i64>,
    paused: BTreeSet<Partition>,
    // Whether a rebalance was told of and not answered yet: librdkafka could not leave the group before.
    unanswered: bool,
    commits: Commits,
}

/// The commits under way.
#[derive(Default)]
struct Commits {
    last: usize,
    // Without an answer yet: after a broker was killed none may come.
    under_way: Option<UnderWay>,
    // A commit of nothing, which needs no broker.
    empty: bool,
}

/// A commit to which an answer is owed.
#[derive(Clone, Copy)]
struct UnderWay {
    token: usize,
    since: Instant,
    timeout: Duration,
}

impl UnderWay {
    fn is_overdue(&self) -> bool {
        self.since.elapsed() >= self.timeout
    }
}

/// What is told next, before the record it may be is borrowed.
enum Next {
    Record(usize),
    Event(Event<'static>),
}

impl KafkaSource {
    fn new(client: Client, group: &str, topics: &[String]) -> KafkaSource {
        KafkaSource {
            client: Some(client),
            group: group.to_owned(),
            topics: Some(topics.to_owned()),
            current: Current::default(),
            names: Names::default(),
            assigned: BTreeMap::new(),
            paused: BTreeSet::new(),
            unanswered: false,
            commits: Commits::default(),
        }
    }

    /// Joins the group, once: a member has to poll, so it becomes one with the first poll.
    fn join(&mut self) -> Result<(), SourceError> {
        let Some(topics) = self.topics.take() else { return Ok(()) };
        // No later try would be answered otherwise.
        self.client()?.subscribe(&topics).map_err(|error| SourceError { fatal: true, ..error })
    }

    fn client(&self) -> Result<&Client, SourceError> {
        self.client.as_ref().ok_or_else(|| SourceError::new("_DESTROY", "the source is closed", true))
    }

    /// What one event of the client means to the receiver; none if it concerns only us.
    fn told(&mut self, polled: Polled) -> Option<Next> {
        let event = match polled {
            Polled::Nothing => return None,
            Polled::Record(record) => {
                let (topic, number) = record.place();
                let name = self.names.index(topic, number);
                let offset = record.offset();
                match self.current.set(record) {
                    Ok(()) => return Some(Next::Record(name)),
                    Err(e) => {
                        // It cannot be stored as it is, and passing it over would lose it.
                        let (place, group, next) = (self.names.at(name), &self.group, offset.saturating_add(1));
                        let message = format!(
                            "{place} at {offset}: {}. It cannot be recorded as it is. To leave it out, {}",
                            e.message,
                            set_group(group, place, next)
                        );
                        Event::Error(SourceError { message, fatal: true, ..e })
                    }
                }
            }
            Polled::Assigned(rows) => return self.assigned(&rows).map(Next::Event),
            Polled::Revoked(rows) => return self.revoked(&rows).map(Next::Event),
            Polled::Committed { token, result } => {
                // The answer to one that was given up says nothing about the one under way.
                self.commits.under_way.take_if(|under_way| under_way.token == token)?;
                Event::Committed(result)
            }
            Polled::Failed(failure) => self.failed(failure),
        };
        Some(Next::Event(event))
    }

    fn assigned(&mut self, rows: &[Row]) -> Option<Event<'static>> {
        self.unanswered = true;
        let partitions = self.partitions(rows);
        // Where to begin may hang on the disk, and until an assignment is answered librdkafka joins no further rebalance:
        // the member would be expelled. So it is answered at once, and nothing is delivered before it is known.
        let held = self.hold(&partitions);
        if partitions.is_empty() {
            return held.err().map(Event::Error);
        }
        // What could not be answered now is with the offsets.
        Some(Event::Assigned(partitions))
    }

    /// Answers an assignment, and has nothing of it delivered: librdkafka drops what is fetched before the pause. The offset
    /// is no logical one, for while that is looked up a seek does not last.
    fn hold(&mut self, partitions: &[Partition]) -> Result<(), SourceError> {
        let held: Vec<_> = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
        self.begin(&held)?;
        if partitions.is_empty() { Ok(()) } else { self.pause(partitions) }
    }

    fn revoked(&mut self, rows: &[Row]) -> Option<Event<'static>> {
        self.unanswered = true;
        if rows.is_empty() {
            return self.unassign(&[]).err().map(Event::Error);
        }
        let lost = self.client.as_ref().is_some_and(Client::assignment_lost);
        Some(Event::Revoked { partitions: self.partitions(rows), lost })
    }

    fn failed(&mut self, failure: Failure) -> Event<'static> {
        let Some(place) = failure.place else { return Event::Error(failure.error) };
        let name = self.names.index(place.topic.as_bytes(), place.partition);
        let partition = self.names.at(name).clone();
        match failure.kind {
            FailureKind::End => Event::End { partition, next: place.offset },
            FailureKind::OutOfRange => Event::OutOfRange { partition, offset: place.offset },
            FailureKind::Truncated => Event::Truncated { partition },
            FailureKind::Other => Event::Error(failure.error),
        }
    }

    fn partitions(&mut self, rows: &[Row]) -> Vec<Partition> {
        let mut partition = |row: &Row| {
            let name = self.names.index(row.topic.as_bytes(), row.partition);
            self.names.at(name).clone()
        };
        rows.iter().map(&mut partition).collect()
    }

    /// The commit that got no answer in time, or that needed none.
    fn overdue(&mut self) -> Option<Event<'static>> {
        if std::mem::take(&mut self.commits.empty) {
            return Some(Event::Committed(Ok(())));
        }
        let UnderWay { timeout, .. } = self.commits.under_way.take_if(|under_way| under_way.is_overdue())?;
        let message = format!("committing: no answer within {timeout:?}, outcome unknown");
        Some(Event::Committed(Err(SourceError::new("_TIMED_OUT", message, false))))
    }

    /// Begins partitions at offsets, whether they are being read already or not. That answers an assignment.
    fn begin(&mut self, starts: &[(Partition, i64)]) -> Result<(), SourceError> {
        let client = self.client()?;
        let list = ffi::positions(starts)?;
        if client.is_cooperative() {
            let before: Vec<_> = starts.iter().map(|(p, _)| p).filter(|p| self.assigned.contains_key(*p)).collect();
            if !before.is_empty() {
                client.assign(Change::Remove(&ffi::places(before.into_iter())?))?;
            }
            client.assign(Change::Add(&list))?;
        } else {
            // An eager assignment is always the whole one: what is being read goes on where it is.
            let others = self.assigned.iter().filter(|(p, _)| !starts.iter().any(|(s, _)| s == *p));
            let others: Vec<_> = others.collect();
            let positions = ffi::places(others.iter().map(|(partition, _)| *partition))?;
            client.position(&positions)?;
            for (row, (_, begun)) in positions.rows().iter().zip(others) {
                // There is no position before the first record was delivered.
                let offset = if row.offset >= 0 { row.offset } else { *begun };
                list.add(&row.topic, row.partition, Some((offset, "")))?;
            }
            client.assign(Change::To(&list))?;
        }
        self.unanswered = false;
        self.assigned.extend(starts.iter().cloned());
        Ok(())
    }

    /// Moves partitions to offsets, and gives those that refuse it.
    fn seek(&mut self, positions: &[(Partition, i64)]) -> Result<Vec<(Partition, i64)>, SourceError> {
        let list = ffi::positions(positions)?;
        self.client()?.seek(&list, SEEK_PATIENCE)?;
        let mut refused = Vec::new();
        for (row, position) in list.rows().into_iter().zip(positions) {
            if row.failed.is_some() {
                refused.push(position.clone());
            } else {
                // Until something is delivered there, an eager assignment tells it once more.
                self.assigned.insert(position.0.clone(), position.1);
            }
        }
        Ok(refused)
    }

    /// Seeks until nothing refuses it that is only being started, and gives what still does.
    fn seek_started(
        &mut self,
        positions: &[(Partition, i64)],
        patience: Duration,
    ) -> Result<Vec<(Partition, i64)>, SourceError> {
        let deadline = Instant::now() + patience;
        let mut refused = self.seek(positions)?;
        while !refused.is_empty() && Instant::now() < deadline {
            thread::sleep(START_LOOK);
            refused = self.seek(&refused)?;
        }
        Ok(refused)
    }

    /// Ends a client on a thread of its own, which may never come back (after a fatal error, for one).
    fn end(&mut self, timeout: Duration) {
        self.current.clear();
        let Some(client) = self.client.take() else { return };
        if self.unanswered {
            let nothing = ffi::places(std::iter::empty::<&Partition>());
            let _ = match (client.is_cooperative(), nothing) {
                (true, Ok(nothing)) => client.assign(Change::Add(&nothing)),
                _ => client.assign(Change::Clear),
            };
        }
        if within("seawall-kafka-close", timeout, || drop(client)).is_none() {
            CLOSES_ABANDONED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, timeout: Duration) -> Option<Event<'_>> {
        self.current.clear();
        if let Err(error) = self.join() {
            return Some(Event::Error(error));
        }
        if let Some(event) = self.overdue() {
            return Some(event);
        }
        let mut left = timeout;
        let mut deadline = None;
        let next = loop {
            let Some(client) = &self.client else { return None };
            let polled = client.poll(left)?;
            if let Some(next) = self.told(polled) {
                break next;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
            left = deadline.saturating_duration_since(Instant::now());
        };
        match next {
            Next::Event(event) => Some(event),
            Next::Record(name) => self.current.message(self.names.at(name)).map(Event::Record),
        }
    }

    fn assign(&mut self, starts: &[(Partition, i64)]) -> Result<(), SourceError> {
        let new: Vec<_> = starts.iter().filter(|(p, _)| !self.assigned.contains_key(p)).cloned().collect();
        if !new.is_empty() {
            self.begin(&new)?;
        }
        self.resume(starts)
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), SourceError> {
        let client = self.client()?;
        if client.is_cooperative() {
            let ours: Vec<_> = partitions.iter().filter(|p| self.assigned.contains_key(*p)).collect();
            client.assign(Change::Remove(&ffi::places(ours.into_iter())?))?;
            self.assigned.retain(|partition, _| !partitions.contains(partition));
        } else {
            client.assign(Change::Clear)?;
            self.assigned.clear();
        }
        self.unanswered = false;
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), SourceError> {
        self.client()?.pause(&ffi::places(partitions.iter())?, true)?;
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, positions: &[(Partition, i64)]) -> Result<(), SourceError> {
        if positions.is_empty() {
            return Ok(());
        }
        // Nor can one be resumed before it was started.
        let refused = self.seek_started(positions, START_MOMENT)?;
        if !refused.is_empty() {
            // Its position was out of range. Not sooner: this answers a revocation too that is still to be told.
            self.begin(&refused)?;
            self.seek_started(&refused, START_PATIENCE)?;
        }
        // A pause outlives the assignment it was made in.
        self.client()?.pause(&ffi::places(positions.iter().map(|(partition, _)| partition))?, false)?;
        // What was let go on is looked at once a second only, unless it is sought.
        self.seek(positions)?;
        self.paused.retain(|partition| !positions.iter().any(|(p, _)| p == partition));
        Ok(())
    }

    fn commit(&mut self, commits: &[Commit], timeout: Duration) -> Result<(), SourceError> {
        let since = Instant::now();
        if self.commits.under_way.is_some_and(|under_way| !under_way.is_overdue()) {
            return Err(SourceError::new("_PREV_IN_PROGRESS", "a commit is under way already", false));
        }
        if commits.is_empty() {
            self.commits.empty = true;
            return Ok(());
        }
        let token = self.commits.last.wrapping_add(1);
        self.client()?.commit(&ffi::commits(commits)?, token)?;
        self.commits.last = token;
        self.commits.under_way = Some(UnderWay { token, since, timeout });
        Ok(())
    }

    fn commit_sync(&mut self, commits: &[Commit], timeout: Duration) -> Result<(), SourceError> {
        if commits.is_empty() {
            return Ok(());
        }
        self.client()?.commit_wait(&ffi::commits(commits)?, timeout)
    }

    fn committed(&mut self, partitions: &[Partition], timeout: Duration) -> Result<Vec<Option<Commit>>, SourceError> {
        let list = ffi::places(partitions.iter())?;
        self.client()?.committed(&list, timeout)?;
        let answer = |(row, partition): (Row, &Partition)| {
            (row.offset >= 0).then(|| Commit { partition: partition.clone(), next: row.offset, metadata: row.metadata })
        };
        Ok(list.rows().into_iter().zip(partitions).map(answer).collect())
    }

    fn watermarks(&mut self, partition: &Partition, timeout: Duration) -> Result<(i64, i64), SourceError> {
        self.client()?.bounds(partition, timeout)
    }

    fn topic_id(&mut self, topic: &str, timeout: Duration) -> Result<Option<TopicId>, SourceError> {
        Ok(self.client()?.topic_id(topic, timeout)?.map(TopicId))
    }

    fn alone(&mut self, timeout: Duration) -> Result<bool, SourceError> {
        Ok(self.client()?.members(&self.group, timeout)? <= 1)
    }

    fn close(&mut self, timeout: Duration) {
        self.end(timeout);
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.end(DROP_PATIENCE);
    }
}

impl std::fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSource")
            .field("group", &self.group)
            .field("assigned", &self.assigned)
            .finish_non_exhaustive()
    }
}
