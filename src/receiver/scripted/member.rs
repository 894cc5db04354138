//! A member of a group at the broker in memory: a [`Source`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::group::Told;
use super::{Broker, Call, CommitFault, Kept, State};
use crate::receiver::source::{Commit, Event, Message, Partition, Source, SourceError, TopicId};

/// Records of one partition in a row before the next has its turn.
const RUN: u32 = 5;

/// Where a partition is being read.
#[derive(Clone, Copy, Debug)]
struct Position {
    next: i64,
    paused: bool,
    /// The end was told at this offset.
    ended_at: i64,
    out_of_range: bool,
}

/// A source at a [`Broker`]. Made by [`Broker::join`].
pub struct ScriptedSource {
    broker: Broker,
    group: String,
    member: u64,
    positions: BTreeMap<Partition, Position>,
    turn: (usize, u32),
    current: Option<(Partition, i64, Kept)>,
    polled_at: Instant,
    commits: u64,
    // The last commit, as long as an answer to it is owed, and until when.
    under_way: Option<(u64, Instant)>,
}

impl ScriptedSource {
    pub(super) fn new(broker: Broker, group: &str, member: u64) -> ScriptedSource {
        ScriptedSource {
            broker,
            group: group.to_owned(),
            member,
            positions: BTreeMap::new(),
            turn: (0, 0),
            current: None,
            polled_at: Instant::now(),
            commits: 0,
            under_way: None,
        }
    }

    /// The broker's name for this member.
    pub fn member(&self) -> u64 {
        self.member
    }

    fn dead() -> SourceError {
        SourceError::new("DEAD", "the member is cut off from the broker", true)
    }

    /// Runs a call at the broker, unless it is to fail or the member is dead.
    fn call<T>(&self, call: Call, run: impl FnOnce(&mut State) -> T) -> Result<T, SourceError> {
        let delay = self.broker.0.state.lock().call_delays.get(&call).copied();
        std::thread::sleep(delay.unwrap_or_default());
        self.broker.change(|state| {
            if !state.group(&self.group).members.contains_key(&self.member) {
                return Err(Self::dead());
            }
            if let Some(left) = state.call_faults.get_mut(&call).filter(|left| **left > 0) {
                *left -= 1;
                return Err(SourceError::new("SCRIPT", format!("{call:?} fails by the script"), false));
            }
            Ok(run(state))
        })
    }

    /// The next event, if there is one now.
    fn next(&mut self, state: &mut State) -> Option<Event<'static>> {
        let member = state.group(&self.group).members.get_mut(&self.member);
        let Some(member) = member else { return Some(Event::Error(Self::dead())) };
        if let Some(told) = member.told.pop_front() {
            return Some(match told {
                Told::Assigned(partitions) => Event::Assigned(partitions),
                Told::Revoked(partitions, lost) => {
                    if lost {
                        self.positions.retain(|partition, _| !partitions.contains(partition));
                    }
                    Event::Revoked { partitions, lost }
                }
                Told::Committed(number, answer) => {
                    if self.under_way.take_if(|(under_way, _)| *under_way == number).is_none() {
                        return self.next(state);
                    }
                    Event::Committed(answer)
                }
                Told::Truncated(partition) => {
                    if let Some(position) = self.positions.get_mut(&partition) {
                        position.out_of_range = true;
                    }
                    Event::Truncated { partition }
                }
                Told::Error(error) => Event::Error(error),
            });
        }
        self.read(state)
    }

    /// Looks at the partitions in turn. A record goes to `current`.
    fn read(&mut self, state: &mut State) -> Option<Event<'static>> {
        let count = self.positions.len();
        if self.turn.1 >= RUN {
            self.turn = (self.turn.0 + 1, 0);
        }
        for step in 0..count {
            let index = (self.turn.0 + step) % count;
            let (partition, position) = self.positions.iter_mut().nth(index)?;
            let Some(shelf) = state.shelf_mut(&partition.topic, partition.number) else { continue };
            if position.paused || position.out_of_range {
                continue;
            }
            if position.next < shelf.low || position.next > shelf.high {
                position.out_of_range = true;
                return Some(Event::OutOfRange { partition: partition.clone(), offset: position.next });
            }
            if let Some((offset, kept)) = shelf.records.range(position.next..).next() {
                position.next = offset + 1;
                self.current = Some((partition.clone(), *offset, *kept));
                self.turn = if step == 0 { (index, self.turn.1 + 1) } else { (index, 1) };
                return None;
            }
            if position.ended_at != shelf.high {
                (position.ended_at, position.next) = (shelf.high, shelf.high);
                return Some(Event::End { partition: partition.clone(), next: shelf.high });
            }
        }
        None
    }

    fn seek(&mut self, positions: &[(Partition, i64)]) {
        let repeats = self.broker.0.state.lock().repeats;
        for (partition, next) in positions {
            let position = Position { next: (next - repeats).max(0), paused: false, ended_at: -1, out_of_range: false };
            self.positions.insert(partition.clone(), position);
        }
    }

    /// Stores commits as the broker would.
    fn store(&self, commits: &[Commit]) {
        let hook = self.broker.0.state.lock().on_commit.clone();
        if let Some(hook) = hook {
            hook(commits);
        }
        self.broker.change(|state| {
            let group = state.group(&self.group);
            let Some(member) = group.members.get(&self.member) else { return };
            let stray = commits.iter().filter(|commit| !member.owned.contains(&commit.partition)).count();
            let mut backward = 0;
            for commit in commits {
                let before = group.committed.insert(commit.partition.clone(), commit.clone());
                backward += u64::from(before.is_some_and(|before| before.next > commit.next));
            }
            state.stray_commits += stray as u64;
            state.backward_commits += backward;
        });
    }

    /// Carries a commit out; its answer, or none if none comes.
    fn carry_out(&self, commits: &[Commit]) -> Result<Option<Result<(), SourceError>>, SourceError> {
        let error = |code| SourceError::new(code, "the commit fails by the script", false);
        let fault = self.broker.change(|state| {
            if !state.group(&self.group).members.contains_key(&self.member) {
                return Err(Self::dead());
            }
            if commits.iter().any(|commit| !state.topics.contains_key(&commit.partition.topic)) {
                return Err(SourceError::new("UNKNOWN_TOPIC", "a commit for a topic that there is not", false));
            }
            let has_fault = !state.commit_faults.is_empty();
            Ok(has_fault.then(|| state.commit_faults.remove(0)))
        })?;
        let answer = match fault {
            None => {
                self.store(commits);
                Some(Ok(()))
            }
            Some(CommitFault::NotTaken) => return Err(error("NOT_TAKEN")),
            Some(CommitFault::Refused) => Some(Err(error("REFUSED"))),
            Some(CommitFault::Fatal) => Some(Err(SourceError { fatal: true, ..error("FATAL") })),
            Some(CommitFault::Half) => {
                let (half, _) = commits.split_at(commits.len() / 2);
                self.store(half);
                Some(Err(error("HALF")))
            }
            Some(CommitFault::AnswerLost) => {
                self.store(commits);
                None
            }
            Some(CommitFault::Lost) => None,
        };
        Ok(answer)
    }

    /// Expels the member if it did not poll for too long.
    fn watch(&mut self) {
        let gap = self.polled_at.elapsed();
        let bound = self.broker.0.state.lock().max_poll_interval;
        if bound.is_some_and(|bound| gap > bound) {
            self.broker.fence(self.member);
        }
    }
}

impl Source for ScriptedSource {
    fn poll(&mut self, timeout: Duration) -> Option<Event<'_>> {
        self.watch();
        self.current = None;
        let broker = self.broker.clone();
        let deadline = Instant::now() + timeout;
        let mut state = broker.0.state.lock();
        let event = loop {
            let event = self.next(&mut state);
            if event.is_some() || self.current.is_some() {
                break event;
            }
            if broker.0.changed.wait_until(&mut state, deadline).timed_out() {
                break None;
            }
        };
        drop(state);
        self.polled_at = Instant::now();
        if event.is_some() {
            return event;
        }
        let (partition, offset, Kept { stored, headers }) = self.current.as_ref()?;
        Some(Event::Record(Message {
            partition,
            offset: *offset,
            timestamp: stored.timestamp,
            timestamp_type: stored.timestamp_type,
            key: stored.key.as_deref(),
            value: stored.value.as_deref(),
            headers,
        }))
    }

    fn assign(&mut self, starts: &[(Partition, i64)]) -> Result<(), SourceError> {
        let stalled = self.call(Call::Assign, |state| {
            let stalled = state.stalls > 0;
            state.stalls = state.stalls.saturating_sub(1);
            stalled
        })?;
        self.seek(starts);
        for (partition, _) in starts {
            if let Some(position) = self.positions.get_mut(partition) {
                position.paused = stalled;
            }
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), SourceError> {
        self.positions.retain(|partition, _| !partitions.contains(partition));
        self.broker.change(|state| {
            let eager = state.eager;
            state.group(&self.group).let_go(self.member, partitions, eager);
        });
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), SourceError> {
        self.call(Call::Pause, |_| ())?;
        for partition in partitions {
            if let Some(position) = self.positions.get_mut(partition) {
                position.paused = true;
            }
        }
        Ok(())
    }

    fn resume(&mut self, positions: &[(Partition, i64)]) -> Result<(), SourceError> {
        self.call(Call::Resume, |_| ())?;
        self.seek(positions);
        Ok(())
    }

    fn commit(&mut self, commits: &[Commit], timeout: Duration) -> Result<(), SourceError> {
        let now = Instant::now();
        if self.under_way.is_some_and(|(_, deadline)| now < deadline) {
            return Err(SourceError::new("IN_PROGRESS", "a commit is under way", false));
        }
        let answer = self.carry_out(commits)?;
        self.commits += 1;
        self.under_way = Some((self.commits, now + timeout));
        if let Some(answer) = answer {
            let told = Told::Committed(self.commits, answer);
            self.broker.change(|state| state.group(&self.group).tell(self.member, told));
        }
        Ok(())
    }

    fn commit_sync(&mut self, commits: &[Commit], timeout: Duration) -> Result<(), SourceError> {
        match self.carry_out(commits)? {
            Some(answer) => answer,
            None => {
                std::thread::sleep(timeout);
                Err(SourceError::new("TIMED_OUT", "no answer to the commit", false))
            }
        }
    }

    fn committed(&mut self, partitions: &[Partition], _: Duration) -> Result<Vec<Option<Commit>>, SourceError> {
        self.call(Call::Committed, |state| {
            let committed = &state.group(&self.group).committed;
            partitions.iter().map(|partition| committed.get(partition).cloned()).collect()
        })
    }

    fn watermarks(&mut self, partition: &Partition, _: Duration) -> Result<(i64, i64), SourceError> {
        let shelf = self.call(Call::Watermarks, |state| {
            state.shelf_mut(&partition.topic, partition.number).map(|shelf| (shelf.low, shelf.high))
        })?;
        shelf.ok_or_else(|| SourceError::new("UNKNOWN_PARTITION", format!("there is no {partition}"), false))
    }

    fn topic_id(&mut self, topic: &str, _: Duration) -> Result<Option<TopicId>, SourceError> {
        self.call(Call::TopicId, |state| state.topics.get(topic).map(|topic| topic.id))
    }

    fn alone(&mut self, _: Duration) -> Result<bool, SourceError> {
        self.call(Call::Alone, |state| state.group(&self.group).members.len() == 1)
    }

    fn close(&mut self, _: Duration) {
        self.positions.clear();
        self.broker.kill(self.member);
    }
}

impl Drop for ScriptedSource {
    /// A process that dies leaves nothing behind but what the broker has.
    fn drop(&mut self) {
        self.broker.kill(self.member);
    }
}

impl std::fmt::Debug for ScriptedSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedSource").field("group", &self.group).field("member", &self.member).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::scripted::Stored;

    fn place(number: i32) -> Partition {
        Partition { topic: "t".into(), number }
    }

    /// The offsets that come, and the ends, until nothing does.
    fn all(source: &mut ScriptedSource) -> Vec<(i32, i64, bool)> {
        let mut seen = Vec::new();
        while let Some(event) = source.poll(Duration::ZERO) {
            match event {
                Event::Record(message) => seen.push((message.partition.number, message.offset, true)),
                Event::End { partition, next } => seen.push((partition.number, next, false)),
                other => panic!("{other:?}"),
            }
        }
        seen
    }

    fn assigned(source: &mut ScriptedSource) -> Vec<i32> {
        match source.poll(Duration::ZERO) {
            Some(Event::Assigned(partitions)) => partitions.iter().map(|partition| partition.number).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_holes_and_ends_come_in_order_from_where_it_was_assigned() {
        let broker = Broker::new();
        broker.create_topic("t", 1);
        (0..4).for_each(|_| _ = broker.produce("t", 0, Stored::default()));
        broker.skip("t", 0, 2);
        broker.compact("t", 0, 2);
        let mut source = broker.join("g", &["t"]);
        assert_eq!(assigned(&mut source), [0]);
        source.assign(&[(place(0), 1)]).unwrap();
        assert_eq!(all(&mut source), [(0, 1, true), (0, 3, true), (0, 6, false)]);
        source.pause(&[place(0)]).unwrap();
        broker.produce("t", 0, Stored::default());
        assert_eq!(all(&mut source), []);
        source.resume(&[(place(0), 3)]).unwrap();
        assert_eq!(all(&mut source), [(0, 3, true), (0, 6, true), (0, 7, false)]);
        broker.expire("t", 0, 9);
        source.resume(&[(place(0), 3)]).unwrap();
        assert!(matches!(source.poll(Duration::ZERO), Some(Event::OutOfRange { offset: 3, .. })));
        assert_eq!(all(&mut source), []);
    }

    #[test]
    fn a_partition_reaches_its_new_owner_only_after_the_old_one_let_it_go() {
        let broker = Broker::new();
        broker.create_topic("t", 2);
        let mut first = broker.join("g", &["t"]);
        assert_eq!(assigned(&mut first), [0, 1]);
        first.assign(&[(place(0), 0), (place(1), 0)]).unwrap();
        let mut second = broker.join("g", &["t"]);
        assert!(second.poll(Duration::ZERO).is_none());
        let Some(Event::Revoked { partitions, lost: false }) = first.poll(Duration::ZERO) else { panic!() };
        assert_eq!(partitions, [place(1)]);
        assert!(second.poll(Duration::ZERO).is_none());
        first.unassign(&partitions).unwrap();
        assert_eq!(assigned(&mut second), [1]);
        drop(first);
        assert_eq!(assigned(&mut second), [0]);
    }
}
