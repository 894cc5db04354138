//! A broker in memory, with topics, groups, rebalances and faults on script, and a [`Source`](super::Source) at it.
//!
//! For tests, also of those who build on the receiver. It behaves as Kafka does where that matters: offsets of
//! markers exist without records, a topic made anew has another id and its group's offsets are gone, a live
//! member may commit what it does not own (counted in [`Broker::stray_commits`]) and backwards
//! ([`Broker::backward_commits`]), a position out of range is told once and then is silent.

mod group;
mod member;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::source::{Commit, Partition, SourceError, TopicId};
use group::{Group, Told};
pub use member::ScriptedSource;

/// A record as it was produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its timestamp.
    pub timestamp: i64,
    /// Its timestamp's type.
    pub timestamp_type: u8,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its payload.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What a source's message borrows; it lives as long as the process, so that a source needs no borrow of itself.
#[derive(Clone, Copy)]
struct Kept {
    stored: &'static Stored,
    headers: &'static [(&'static [u8], Option<&'static [u8]>)],
}

/// A partition's log.
#[derive(Default)]
struct Shelf {
    low: i64,
    high: i64,
    records: BTreeMap<i64, Kept>,
}

struct Topic {
    id: TopicId,
    shelves: Vec<Shelf>,
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CommitFault {
    /// Not taken: the call fails.
    NotTaken,
    /// Answered with an error, nothing committed.
    Refused,
    /// The same, and the error is fatal.
    Fatal,
    /// Answered with an error, though the first half of the partitions was committed.
    Half,
    /// Committed, and no answer comes.
    AnswerLost,
    /// Not committed, and no answer comes.
    Lost,
}

/// A question that can be made to fail, or to take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Call {
    /// [`Source::assign`](super::Source::assign)
    Assign,
    /// [`Source::pause`](super::Source::pause)
    Pause,
    /// [`Source::resume`](super::Source::resume)
    Resume,
    /// [`Source::committed`](super::Source::committed)
    Committed,
    /// [`Source::watermarks`](super::Source::watermarks)
    Watermarks,
    /// [`Source::topic_id`](super::Source::topic_id)
    TopicId,
    /// [`Source::alone`](super::Source::alone)
    Alone,
}

type Hook = Arc<dyn Fn(&[Commit]) + Send + Sync>;

#[derive(Default)]
struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    groups: BTreeMap<String, Group>,
    ids: u8,
    members: u64,
    eager: bool,
    max_poll_interval: Option<Duration>,
    commit_faults: Vec<CommitFault>,
    call_faults: BTreeMap<Call, u32>,
    call_delays: BTreeMap<Call, Duration>,
    stray_commits: u64,
    backward_commits: u64,
    expelled: u64,
    repeats: i64,
    stalls: u32,
    on_commit: Option<Hook>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The broker. Clones are the same one.
#[derive(Clone, Default)]
pub struct Broker(Arc<Shared>);

impl Broker {
    /// One without topics.
    pub fn new() -> Broker {
        Broker::default()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.0.state.lock());
        self.0.changed.notify_all();
        changed
    }

    /// Makes a topic, under an id never given before.
    pub fn create_topic(&self, name: &str, partitions: usize) -> TopicId {
        self.change(|state| {
            state.ids += 1;
            let id = TopicId([state.ids; 16]);
            let shelves = (0..partitions).map(|_| Shelf::default()).collect();
            state.topics.insert(Arc::from(name), Topic { id, shelves });
            state.rebalance();
            id
        })
    }

    /// Deletes a topic, and with it what groups have committed for it.
    pub fn delete_topic(&self, name: &str) {
        self.change(|state| {
            state.topics.remove(name);
            for group in state.groups.values_mut() {
                group.committed.retain(|partition, _| &*partition.topic != name);
            }
            state.rebalance();
        });
    }

    /// Puts an empty topic of another id in a topic's place, behind the back of its members.
    pub fn recreate_topic(&self, name: &str) -> TopicId {
        self.change(|state| {
            state.ids += 1;
            let id = TopicId([state.ids; 16]);
            if let Some(topic) = state.topics.get_mut(name) {
                topic.id = id;
                topic.shelves.iter_mut().for_each(|shelf| *shelf = Shelf::default());
            }
            for group in state.groups.values_mut() {
                group.committed.retain(|partition, _| &*partition.topic != name);
            }
            id
        })
    }

    /// Adds a partition to a topic.
    pub fn add_partition(&self, name: &str) {
        self.change(|state| {
            if let Some(topic) = state.topics.get_mut(name) {
                topic.shelves.push(Shelf::default());
            }
            state.rebalance();
        });
    }

    fn shelf<T>(&self, topic: &str, number: i32, change: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
        self.change(|state| state.shelf_mut(topic, number).map(change))
    }

    /// Appends a record; gives its offset, or -1 where there is no such partition.
    pub fn produce(&self, topic: &str, number: i32, stored: Stored) -> i64 {
        let stored: &'static Stored = Box::leak(Box::new(stored));
        let headers = stored.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect::<Vec<_>>();
        let kept = Kept { stored, headers: Box::leak(headers.into_boxed_slice()) };
        let append = |shelf: &mut Shelf| {
            shelf.records.insert(shelf.high, kept);
            shelf.high += 1;
            shelf.high - 1
        };
        self.shelf(topic, number, append).unwrap_or(-1)
    }

    /// Appends offsets without records, as transaction markers and aborted records are.
    pub fn skip(&self, topic: &str, number: i32, offsets: i64) {
        self.shelf(topic, number, |shelf| shelf.high += offsets);
    }

    /// Removes what lies below `low`, as retention does.
    pub fn expire(&self, topic: &str, number: i32, low: i64) {
        self.shelf(topic, number, |shelf| {
            shelf.records.retain(|offset, _| *offset >= low);
            (shelf.low, shelf.high) = (low, shelf.high.max(low));
        });
    }

    /// Removes one record inside, as compaction does.
    pub fn compact(&self, topic: &str, number: i32, offset: i64) {
        self.shelf(topic, number, |shelf| shelf.records.remove(&offset));
    }

    /// Cuts the end off, as a broker that lost its disk's tail does.
    pub fn truncate(&self, topic: &str, number: i32, high: i64) {
        self.shelf(topic, number, |shelf| {
            shelf.records.retain(|offset, _| *offset < high);
            (shelf.low, shelf.high) = (shelf.low.min(high), high);
        });
    }

    /// All records of a partition, by offset.
    pub fn records(&self, topic: &str, number: i32) -> Vec<(i64, Stored)> {
        let all = |shelf: &mut Shelf| shelf.records.iter().map(|(at, kept)| (*at, kept.stored.clone())).collect();
        self.shelf(topic, number, all).unwrap_or_default()
    }

    /// The end of a partition: the offset of the next record. `None` where there is no such partition.
    pub fn end(&self, topic: &str, number: i32) -> Option<i64> {
        self.shelf(topic, number, |shelf| shelf.high)
    }

    /// A member of `group` that reads `topics`. Partitions are shared among the group's members.
    pub fn join(&self, group: &str, topics: &[&str]) -> ScriptedSource {
        let member = self.change(|state| {
            state.members += 1;
            let member = state.members;
            state.group(group).join(member, topics);
            state.rebalance();
            member
        });
        ScriptedSource::new(self.clone(), group, member)
    }

    /// What a group has committed.
    pub fn committed(&self, group: &str, topic: &str, number: i32) -> Option<Commit> {
        let partition = Partition { topic: topic.into(), number };
        self.0.state.lock().groups.get(group)?.committed.get(&partition).cloned()
    }

    /// All that a group has committed.
    pub fn all_committed(&self, group: &str) -> Vec<Commit> {
        let state = self.0.state.lock();
        state.groups.get(group).map(|group| group.committed.values().cloned().collect()).unwrap_or_default()
    }

    /// Commits for a group, as another program would.
    pub fn set_committed(&self, group: &str, commit: Commit) {
        self.change(|state| state.group(group).committed.insert(commit.partition.clone(), commit));
    }

    /// Forgets what a group has committed, as expiry does.
    pub fn forget_committed(&self, group: &str) {
        self.change(|state| state.group(group).committed.clear());
    }

    /// Has rebalances take everything from everybody first.
    pub fn eager(&self) {
        self.change(|state| state.eager = true);
    }

    /// Takes partitions from a member without asking, as from one that was expelled, and offers them anew.
    pub fn fence(&self, member: u64) {
        self.change(|state| {
            state.expelled += 1;
            state.groups.values_mut().for_each(|group| group.fence(member));
            state.rebalance();
        });
    }

    /// Offers a member what it owns once more, as no sound broker does.
    pub fn offer_again(&self, member: u64) {
        self.change(|state| state.groups.values_mut().for_each(|group| group.offer_again(member)));
    }

    /// Cuts a member off: whatever it does from now on does not reach the broker.
    pub fn kill(&self, member: u64) {
        self.change(|state| {
            state.groups.values_mut().for_each(|group| group.remove(member));
            state.rebalance();
        });
    }

    /// Expels members that do not poll for so long.
    pub fn max_poll_interval(&self, interval: Duration) {
        self.change(|state| state.max_poll_interval = Some(interval));
    }

    /// What becomes of the next commits, in order. Later ones succeed.
    pub fn fail_commits(&self, faults: &[CommitFault]) {
        self.change(|state| {
            state.commit_faults.extend(faults);
        });
    }

    /// Forgets the faults of commits to come.
    pub fn heal_commits(&self) {
        self.change(|state| state.commit_faults.clear());
    }

    /// Makes the next `times` calls of that kind fail.
    pub fn fail(&self, call: Call, times: u32) {
        self.change(|state| state.call_faults.insert(call, times));
    }

    /// Has calls of that kind take so long.
    pub fn delay(&self, call: Call, by: Duration) {
        self.change(|state| state.call_delays.insert(call, by));
    }

    /// Has each assignment and each seek begin so many offsets too early, as a source that repeats would.
    pub fn repeat(&self, offsets: i64) {
        self.change(|state| state.repeats = offsets);
    }

    /// Has the next `times` assignments deliver nothing until a position is sought, as a client whose fetch was lost.
    pub fn stall(&self, times: u32) {
        self.change(|state| state.stalls = times);
    }

    /// Has a member hear of an error.
    pub fn tell_error(&self, member: u64, error: SourceError) {
        self.change(|state| {
            let groups = state.groups.values_mut();
            groups.for_each(|group| group.tell(member, Told::Error(error.clone())));
        });
    }

    /// Has a member hear that a partition's log was cut below its position, whatever the partition holds.
    pub fn tell_truncated(&self, member: u64, topic: &str, number: i32) {
        let partition = Partition { topic: topic.into(), number };
        self.change(|state| {
            let groups = state.groups.values_mut();
            groups.for_each(|group| group.tell(member, Told::Truncated(partition.clone())));
        });
    }

    /// Has `hook` see each commit just before it takes effect.
    pub fn on_commit(&self, hook: impl Fn(&[Commit]) + Send + Sync + 'static) {
        self.change(|state| state.on_commit = Some(Arc::new(hook)));
    }

    /// Commits for partitions that the member did not own.
    pub fn stray_commits(&self) -> u64 {
        self.0.state.lock().stray_commits
    }

    /// Commits below one before.
    pub fn backward_commits(&self) -> u64 {
        self.0.state.lock().backward_commits
    }

    /// Members that were expelled.
    pub fn expelled(&self) -> u64 {
        self.0.state.lock().expelled
    }

    /// The members of a group, oldest first.
    pub fn members(&self, group: &str) -> Vec<u64> {
        let state = self.0.state.lock();
        state.groups.get(group).map(|group| group.members.keys().copied().collect()).unwrap_or_default()
    }

    /// Waits until `condition` holds of the broker, at most `timeout`; tells whether it did.
    pub fn wait(&self, timeout: Duration, mut condition: impl FnMut(&Broker) -> bool) -> bool {
        let deadline = std::time::Instant::now() + timeout;
        while !condition(self) {
            let mut state = self.0.state.lock();
            // The condition may hang on more than the broker: look again every so often.
            let look_again = std::time::Instant::now() + Duration::from_millis(2);
            self.0.changed.wait_until(&mut state, deadline.min(look_again));
            drop(state);
            if std::time::Instant::now() >= deadline {
                return condition(self);
            }
        }
        true
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl State {
    fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    fn shelf_mut(&mut self, topic: &str, number: i32) -> Option<&mut Shelf> {
        let index = usize::try_from(number).ok()?;
        self.topics.get_mut(topic)?.shelves.get_mut(index)
    }

    fn rebalance(&mut self) {
        let eager = self.eager;
        let topics = &self.topics;
        let partitions = |name: &Arc<str>| -> Vec<Partition> {
            let count = topics.get(name).map_or(0, |topic| topic.shelves.len());
            (0..i32::try_from(count).unwrap_or(i32::MAX))
                .map(|number| Partition { topic: Arc::clone(name), number })
                .collect()
        };
        for group in self.groups.values_mut() {
            let all = group.topics().iter().flat_map(partitions).collect();
            group.rebalance(all, eager);
        }
    }
}
