//! Where records come from, as the receiver sees it: [`Source`], what it tells ([`Event`]) and what it is asked.
//!
//! All calls come from the receiver's polling thread. A source never calls back: everything it has to say
//! comes out of [`Source::poll`], one event a call, so that the receiver answers a rebalance when its blocks are
//! durable and not inside a callback.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic's name, of 65 535 bytes at most.
    pub topic: Arc<str>,
    /// The partition's number.
    pub number: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// The identity of a topic: another one after it was deleted and made anew under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

/// One record as the source gave it, borrowed until the next call.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Where it comes from.
    pub partition: &'a Partition,
    /// Its offset there, from 0 on.
    pub offset: i64,
    /// Its timestamp in milliseconds, -1 if it has none.
    pub timestamp: i64,
    /// Its timestamp's type: 0 not available, 1 creation, 2 append.
    pub timestamp_type: u8,
    /// Its key; none and empty differ.
    pub key: Option<&'a [u8]>,
    /// Its payload; none (a tombstone) and empty differ.
    pub value: Option<&'a [u8]>,
    /// Its headers in order, repeats included; names are bytes.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// What a source has to say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A record of an assigned partition. Offsets rise within a partition since its last assign or seek.
    Record(Message<'a>),
    /// These partitions are ours to begin with, by [`Source::assign`]. That may take its time: nothing of them is delivered
    /// before, and the group does not wait for it.
    Assigned(Vec<Partition>),
    /// These go: make their records durable, commit, answer with [`Source::unassign`], for which the group waits.
    /// `lost`: they are another's already, so nothing can be committed.
    Revoked {
        /// What goes.
        partitions: Vec<Partition>,
        /// Whether they are another's already.
        lost: bool,
    },
    /// Everything up to `next` was delivered or does not exist (markers, aborted and compacted records).
    End {
        /// The partition.
        partition: Partition,
        /// The next offset there.
        next: i64,
    },
    /// The position is not, or no longer, in the partition; it delivers nothing until assigned or sought anew.
    OutOfRange {
        /// The partition.
        partition: Partition,
        /// The position.
        offset: i64,
    },
    /// The partition's log was cut below the position, and may have grown again since: other records may stand at
    /// offsets that were read. It delivers nothing until assigned or sought anew.
    Truncated {
        /// The partition.
        partition: Partition,
    },
    /// The answer to the [`Source::commit`] under way: what was committed, or that it is unknown.
    Committed(Result<(), SourceError>),
    /// Something went wrong. Not the end unless it is fatal.
    Error(SourceError),
}

/// What a source could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceError {
    /// What happened, with the place.
    pub message: String,
    /// A short, stable code for counting, such as the client's error name.
    pub code: String,
    /// Whether the source will never deliver again.
    pub fatal: bool,
}

impl SourceError {
    /// An error of the given code.
    pub fn new(code: impl Into<String>, message: impl Into<String>, fatal: bool) -> SourceError {
        SourceError { message: message.into(), code: code.into(), fatal }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for SourceError {}

/// What a group has committed for a partition, or is asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: Partition,
    /// The *next* offset.
    pub next: i64,
    /// The string stored beside it.
    pub metadata: String,
}

/// Something that delivers records of partitions and remembers how far a group has come.
pub trait Source: Send {
    /// Waits at most `timeout` for the next event; `None` if nothing happened.
    fn poll(&mut self, timeout: Duration) -> Option<Event<'_>>;

    /// Begins each of the partitions of an [`Event::Assigned`] at its offset.
    ///
    /// # Errors
    /// What the source said; the partitions are not read then.
    fn assign(&mut self, starts: &[(Partition, i64)]) -> Result<(), SourceError>;

    /// Lets partitions of an [`Event::Revoked`] go.
    ///
    /// # Errors
    /// What the source said.
    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), SourceError>;

    /// Stops delivery of partitions; polling goes on, and membership with it.
    ///
    /// # Errors
    /// What the source said.
    fn pause(&mut self, partitions: &[Partition]) -> Result<(), SourceError>;

    /// Moves each partition to an offset and has it delivered again, paused before or not.
    ///
    /// # Errors
    /// What the source said.
    fn resume(&mut self, positions: &[(Partition, i64)]) -> Result<(), SourceError>;

    /// Begins to commit; the answer comes as [`Event::Committed`]. One at a time: while an answer is owed, another is
    /// refused. None is owed any more after `timeout`: that it did not come may be told then, and what comes later is not.
    ///
    /// # Errors
    /// What the source said, or that an answer is owed; then no answer comes to this one.
    fn commit(&mut self, commits: &[Commit], timeout: Duration) -> Result<(), SourceError>;

    /// Commits and waits for the answer, at most `timeout`.
    ///
    /// # Errors
    /// What the source said, or that the answer did not come: the outcome is unknown.
    fn commit_sync(&mut self, commits: &[Commit], timeout: Duration) -> Result<(), SourceError>;

    /// What the group has committed for each partition, `None` where nothing.
    ///
    /// # Errors
    /// What the source said, or that the answer did not come.
    fn committed(&mut self, partitions: &[Partition], timeout: Duration) -> Result<Vec<Option<Commit>>, SourceError>;

    /// The first offset that is left and the one after the last that can be read, from 0 on.
    ///
    /// # Errors
    /// What the source said, or that the answer did not come.
    fn watermarks(&mut self, partition: &Partition, timeout: Duration) -> Result<(i64, i64), SourceError>;

    /// The topic's identity; `None` while there is no such topic.
    ///
    /// # Errors
    /// What the source said, or that the answer did not come.
    fn topic_id(&mut self, topic: &str, timeout: Duration) -> Result<Option<TopicId>, SourceError>;

    /// Whether this member is the only one in its group, where the source can tell.
    ///
    /// # Errors
    /// What the source said, or that the answer did not come.
    fn alone(&mut self, timeout: Duration) -> Result<bool, SourceError>;

    /// Leaves the group and ends, at most `timeout`; delivers and commits nothing more.
    fn close(&mut self, timeout: Duration);
}
