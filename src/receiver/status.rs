//! What a receiver tells about itself: figures to ask for ([`StatusHandle`]) and news as it happens ([`Observer`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::entry::{Handover, OriginCause};
use super::source::{Partition, SourceError};
use crate::{Error, ErrorKind, Lsn};

/// Why a block was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SealCause {
    /// It was old enough.
    Interval,
    /// It was large enough.
    Bytes,
    /// It held enough records.
    Records,
    /// Partitions were revoked.
    Revoked,
    /// The receiver stopped.
    Stop,
}

/// How many blocks were sealed for each cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// [`SealCause::Interval`].
    pub by_interval: u64,
    /// [`SealCause::Bytes`].
    pub by_bytes: u64,
    /// [`SealCause::Records`].
    pub by_records: u64,
    /// [`SealCause::Revoked`].
    pub by_revocation: u64,
    /// [`SealCause::Stop`].
    pub by_stop: u64,
}

impl Sealed {
    pub(super) fn count(&mut self, cause: SealCause) {
        let counter = match cause {
            SealCause::Interval => &mut self.by_interval,
            SealCause::Bytes => &mut self.by_bytes,
            SealCause::Records => &mut self.by_records,
            SealCause::Revoked => &mut self.by_revocation,
            SealCause::Stop => &mut self.by_stop,
        };
        *counter += 1;
    }
}

/// What became of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitCounts {
    /// Begun.
    pub sent: u64,
    /// Confirmed.
    pub ok: u64,
    /// Answered with an error, or not taken at all.
    pub failed: u64,
    /// Without an answer in time.
    pub timed_out: u64,
}

/// Where a partition that this receiver owns stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The partition.
    pub partition: Partition,
    /// The next offset that will be read.
    pub next: i64,
    /// The next offset that the log durably needs.
    pub durable: Option<i64>,
    /// The next offset that the group is known to have.
    pub committed: Option<i64>,
}

/// The figures of a receiver since it began.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// Records taken into blocks.
    pub taken: u64,
    /// Records durable in the log.
    pub recorded: u64,
    /// Bytes of durable blocks.
    pub recorded_bytes: u64,
    /// Records dropped because the log has them.
    pub duplicates: u64,
    /// Records dropped because intake was paused or the partition is not ours; they come again.
    pub passed_over: u64,
    /// Blocks sealed.
    pub sealed: Sealed,
    /// Blocks durable in the log.
    pub blocks: u64,
    /// Entries that wait for the disk.
    pub queued: u64,
    /// Whether intake is paused now.
    pub paused: bool,
    /// How often it was paused.
    pub pauses: u64,
    /// How long it was paused, without the pause under way.
    pub paused_for: Duration,
    /// Why the log takes nothing now, if it is full.
    pub full: Option<Error>,
    /// Commits.
    pub commits: CommitCounts,
    /// Partitions that were assigned.
    pub assigned: u64,
    /// Partitions that were revoked in order.
    pub revoked: u64,
    /// Partitions that were lost.
    pub lost: u64,
    /// Revocations that could not wait for the disk.
    pub drain_timeouts: u64,
    /// Errors that the source told of.
    pub source_errors: u64,
    /// Partitions sought again because they were silent.
    pub watchdog_seeks: u64,
    /// Offset tables written.
    pub checkpoints: u64,
    /// Segments cleaned away.
    pub cleaned: u64,
    /// The partitions that are owned.
    pub partitions: Vec<PartitionStatus>,
}

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A partition is ours and read from here on.
    Assigned {
        /// The partition.
        partition: Partition,
        /// The first offset that is read.
        next: i64,
        /// Why there; `None`: the log ends there.
        cause: Option<OriginCause>,
        /// What was passed over because the group was further than this log, in order: what no known log has, what
        /// another has.
        handovers: Vec<Handover>,
    },
    /// Partitions are no longer ours.
    Revoked {
        /// The partitions.
        partitions: Vec<Partition>,
        /// Whether they were another's, or gone with their topic, before they could be committed.
        lost: bool,
        /// Whether everything read of them was durable in time.
        drained: bool,
    },
    /// Intake stopped: the disk is behind, or there is no room.
    Paused {
        /// Why the log takes nothing, if that is why.
        full: Option<Error>,
    },
    /// Intake goes on.
    Resumed,
    /// The log is full, and intake is paused until it is not. Told again each minute.
    Full(Error),
    /// A commit failed; what is still ours of it goes with the next block.
    CommitFailed {
        /// Why.
        error: SourceError,
        /// Its partitions that are no longer ours, or are about to go: nothing more is sent for them.
        gone: Vec<Partition>,
    },
    /// The source told of an error that is not its end.
    SourceError(SourceError),
    /// An offset table is durable.
    Checkpoint(Lsn),
    /// Old segments were removed.
    Cleaned {
        /// How many.
        segments: usize,
        /// The first record that is left.
        first: Lsn,
    },
    /// The receiver stops.
    Stopping,
}

impl Notice {
    /// What sort of thing happened, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Notice::Assigned { .. } => "assigned",
            Notice::Revoked { .. } => "revoked",
            Notice::Paused { .. } => "paused",
            Notice::Resumed => "resumed",
            Notice::Full(_) => "full",
            Notice::CommitFailed { .. } => "commit-failed",
            Notice::SourceError(_) => "source",
            Notice::Checkpoint(_) => "checkpoint",
            Notice::Cleaned { .. } => "cleaned",
            Notice::Stopping => "stopping",
        }
    }

    /// What happened, to stand after its name. Empty where the name says all.
    pub fn details(&self) -> String {
        match self {
            Notice::Assigned { partition, next, cause, handovers } => {
                let why = match cause {
                    _ if !handovers.is_empty() => passed_over(handovers),
                    None => "from the log".into(),
                    Some(OriginCause::Earliest) => "earliest".into(),
                    Some(OriginCause::Latest) => "latest".into(),
                    Some(OriginCause::Group) => "from the group".into(),
                    Some(OriginCause::NewPartition) => "a new partition".into(),
                };
                format!("{partition}@{next} ({why})")
            }
            Notice::Revoked { partitions, lost, drained } => {
                let lost = if *lost { ", another's or deleted before they could be committed" } else { "" };
                let drained = if *drained { "" } else { ", before everything read of them was durable" };
                format!("{}{lost}{drained}", names(partitions))
            }
            Notice::Paused { full } => full.as_ref().map_or("the disk is behind", no_room).into(),
            Notice::Full(error) if *error.kind() == ErrorKind::LogFull => {
                // The error's own words are for whoever has the log in hand.
                let full = no_room(error);
                format!("{full}, intake is paused until there is room: --retain or a larger --max-disk-bytes makes it")
            }
            Notice::Full(error) => format!("{}, intake is paused until it is not: {error}", no_room(error)),
            Notice::CommitFailed { error, gone } if gone.is_empty() => {
                format!("outcome unknown, will be sent again: {error}")
            }
            Notice::CommitFailed { error, gone } => {
                format!("outcome unknown, not sent again for {}, no longer ours: {error}", names(gone))
            }
            Notice::SourceError(error) => error.to_string(),
            Notice::Checkpoint(lsn) => format!("offset table at LSN {lsn}"),
            Notice::Cleaned { segments, first } => {
                format!("{segments} segment{}, the log begins at {first}", if *segments == 1 { "" } else { "s" })
            }
            Notice::Resumed | Notice::Stopping => String::new(),
        }
    }
}

fn passed_over(handovers: &[Handover]) -> String {
    let said = |Handover { from, next, log, .. }: &Handover| match log {
        Some(log) => format!("another log has {from} to {next}: {log}"),
        None => format!(
            "offsets {from} to {next} are in no log known to this one: somebody set the group forward, or a log before \
             the last took them"
        ),
    };
    handovers.iter().map(said).collect::<Vec<_>>().join("; ")
}

fn names(partitions: &[Partition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn no_room(error: &Error) -> &'static str {
    if *error.kind() == ErrorKind::DiskFull { "the disk is full" } else { "the log is full" }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match &*self.details() {
            "" => Ok(()),
            details => write!(f, ": {details}"),
        }
    }
}

/// A place where a receiver can die. Tests visit each through [`Observer::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Partitions were offered.
    Assigning,
    /// Their origins or handovers are in the log, not durable.
    StartAppended,
    /// They are durable.
    StartDurable,
    /// Their partitions are ours.
    Assigned,
    /// A record is in the open block.
    RecordTaken,
    /// A block is sealed.
    BlockSealed,
    /// A block is in the log, not durable.
    BlockAppended,
    /// A block is durable.
    BlockDurable,
    /// A commit was sent.
    CommitSent,
    /// A commit was answered.
    CommitAnswered,
    /// An offset table is in the log, not durable.
    CheckpointAppended,
    /// An offset table is durable.
    CheckpointDurable,
    /// Old segments are about to go.
    Cleaning,
    /// Old segments are gone.
    Cleaned,
    /// Partitions are taken away.
    Revoking,
    /// All that was read of them is durable.
    RevokeDrained,
    /// Their offsets are committed.
    RevokeCommitted,
    /// They are no longer ours.
    Revoked,
    /// Intake is paused.
    Paused,
    /// Intake goes on.
    Resumed,
    /// Stopping began: the last block is sealed.
    Stopping,
    /// All that was read is durable and committed.
    StopCommitted,
    /// The group is left.
    LeftGroup,
    /// The log is closed.
    Closed,
}

impl Step {
    /// All of them, in the order of a record's way.
    pub const ALL: [Step; 24] = [
        Step::Assigning,
        Step::StartAppended,
        Step::StartDurable,
        Step::Assigned,
        Step::RecordTaken,
        Step::BlockSealed,
        Step::BlockAppended,
        Step::BlockDurable,
        Step::CommitSent,
        Step::CommitAnswered,
        Step::CheckpointAppended,
        Step::CheckpointDurable,
        Step::Cleaning,
        Step::Cleaned,
        Step::Revoking,
        Step::RevokeDrained,
        Step::RevokeCommitted,
        Step::Revoked,
        Step::Paused,
        Step::Resumed,
        Step::Stopping,
        Step::StopCommitted,
        Step::LeftGroup,
        Step::Closed,
    ];
}

/// Hears what happens, on the receiver's threads: it must not block.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn notice(&self, _notice: &Notice) {}

    /// A place where the receiver can die was reached. Called with the feature `sim` only, once a record.
    fn step(&self, _step: Step) {}
}

/// Hears nothing.
pub(super) struct Silent;

impl Observer for Silent {}

/// The figures, shared with those who ask.
#[derive(Clone)]
pub(super) struct Board {
    status: Arc<Mutex<Status>>,
    observer: Arc<dyn Observer>,
}

impl Board {
    pub(super) fn new(observer: Arc<dyn Observer>) -> Board {
        Board { status: Arc::default(), observer }
    }

    pub(super) fn observe(&mut self, observer: Arc<dyn Observer>) {
        self.observer = observer;
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock());
    }

    pub(super) fn tell(&self, notice: &Notice) {
        self.observer.notice(notice);
    }

    /// Visits a place where the receiver can die. Nothing without the feature `sim`.
    #[inline(always)]
    pub(super) fn step(&self, step: Step) {
        if cfg!(feature = "sim") {
            self.observer.step(step);
        }
    }

    pub(super) fn handle(&self) -> StatusHandle {
        StatusHandle(Arc::clone(&self.status))
    }
}

/// Asks a running receiver for its figures, from any thread.
#[derive(Clone, Debug)]
pub struct StatusHandle(Arc<Mutex<Status>>);

impl StatusHandle {
    /// The figures now.
    pub fn snapshot(&self) -> Status {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_its_name_once_and_what_happened() {
        let partitions: Vec<_> = (0..2).map(|number| Partition { topic: "orders".into(), number }).collect();
        let revoked = |lost, drained| Notice::Revoked { partitions: partitions.clone(), lost, drained }.to_string();
        assert_eq!(revoked(false, true), "revoked: orders/0 orders/1");
        assert_eq!(
            revoked(true, true),
            "revoked: orders/0 orders/1, another's or deleted before they could be committed"
        );
        assert_eq!(revoked(false, false), "revoked: orders/0 orders/1, before everything read of them was durable");
        let failed = |gone: &[Partition]| {
            let error = SourceError::new("REFUSED", "the broker refused", false);
            Notice::CommitFailed { error, gone: gone.to_vec() }.to_string()
        };
        assert_eq!(failed(&[]), "commit-failed: outcome unknown, will be sent again: the broker refused (REFUSED)");
        assert_eq!(
            failed(&partitions),
            "commit-failed: outcome unknown, not sent again for orders/0 orders/1, no longer ours: the broker refused \
             (REFUSED)"
        );
        assert_eq!(Notice::Paused { full: None }.to_string(), "paused: the disk is behind");
        assert_eq!(Notice::Stopping.to_string(), "stopping");
    }
}
