//! What ends a receiver.

use std::fmt;

use super::offsets::ChainError;
use super::source::{Partition, SourceError, TopicId};
use super::wire::{DecodeError, DecodeErrorKind};
use crate::{Error, ErrorKind, Lsn};

/// How many partitions a message names.
const NAMED: usize = 8;

/// What ended a receiver, or kept it from beginning.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The log failed.
    Log(Error),
    /// The source failed for good, or gave no answer in time.
    Source(SourceError),
    /// There is no safe place to begin with, or go on in, a partition.
    Start {
        /// The partition.
        partition: Partition,
        /// Why.
        error: StartError,
    },
    /// The log holds a record that no receiver wrote, or a newer one.
    Decode {
        /// The record.
        lsn: Lsn,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The log's entries do not chain: the offset table that stood for what was cleaned away did not survive.
    Chain {
        /// The entry; of one that was refused before it was in the log, how far that was durable.
        lsn: Lsn,
        /// What does not fit.
        error: ChainError,
    },
    /// A record that no segment can hold.
    RecordTooLarge {
        /// Its partition.
        partition: Partition,
        /// Its offset.
        offset: i64,
        /// The bytes its block would take.
        needs: usize,
        /// The most a block can take.
        limit: usize,
    },
    /// The offset table of so many partitions, or the batch that begins them, does not fit into a segment. Nothing was
    /// recorded of new ones.
    TableTooLarge {
        /// How many there would be, or are.
        partitions: usize,
        /// The bytes that the larger of the two takes.
        needs: usize,
        /// The most a record can take.
        limit: usize,
    },
    /// The append thread ended before its time.
    AppendThread,
    /// Stopping took too long, or the log is full and not cleaned: what was read is not all durable, and will be read again.
    NotDurable {
        /// Blocks that were not stored.
        blocks: usize,
        /// Why, where the log said.
        reason: Option<Error>,
    },
    /// What was read is durable and the group told, but the log could not be closed in time. Nothing is lost.
    NotClosed,
    /// What was read is durable, but the group does not have all of it, for it could not be told, or the partitions
    /// went before it was. It will be told at the next start; in at-least-once it is read again.
    NotCommitted {
        /// What the group lacks.
        partitions: Vec<Uncommitted>,
        /// The last answer, where there was one.
        reason: Option<SourceError>,
    },
}

/// Why there is no safe place to begin with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The topic was deleted and made anew under its name.
    TopicRecreated {
        /// What the log knows it as.
        known: TopicId,
        /// What it is now.
        now: TopicId,
    },
    /// The group has committed more than the log that bears its mark holds: the log was rolled back or lost.
    LogBehindGroup {
        /// Where the log stands, if it knows the partition.
        log: Option<i64>,
        /// Where the group stands.
        group: i64,
    },
    /// The source no longer has the next record.
    Missing {
        /// The next offset.
        next: i64,
        /// The first that is left.
        low: i64,
    },
    /// The source's log was cut below the next record.
    Truncated {
        /// The next offset.
        next: i64,
        /// The source's end, where that tells it. `None` where the source itself says so
        /// ([`Event::Truncated`](super::Event::Truncated)), wherever it ends now. A later start cannot tell once it has
        /// grown past `next`.
        high: Option<i64>,
    },
    /// The group's offset lies beyond the source's end, and no log is known to have read up to there: it was set, or a
    /// transaction holds the end back.
    GroupBeyondEnd {
        /// Where the group stands.
        group: i64,
        /// The source's end.
        high: i64,
        /// Where the log stands, if it knows the partition.
        log: Option<i64>,
    },
    /// Neither log nor group knows the partition, and the policy is to refuse that.
    NoOffset,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::TopicRecreated { .. } => f.write_str(
                "TopicRecreated: the topic was deleted and made anew since the log last read it. Receive it into \
                 another directory; an option to begin a new chain in this one (--on-recreated earliest) is to come",
            ),
            StartError::LogBehindGroup { log: Some(log), group } => write!(
                f,
                "LogBehindGroup: this log stands at {log}, its own commit at {group}: the directory was rolled back. \
                 Restore the newest copy of it, or set the group's offset back to {log}"
            ),
            StartError::LogBehindGroup { log: None, group } => write!(
                f,
                "LogBehindGroup: the log has nothing of this partition, but one has committed {group} for this group: the \
                 directory was lost, rolled back or is another. Restore it, or use another group; an option to begin here \
                 (--on-log-behind origin) is to come. (A spare member is to have recorded something before it takes over.)"
            ),
            StartError::Missing { next, low } => write!(
                f,
                "Missing: offsets {next} to {low} are no longer in the source, which begins at {low}; an option to \
                 record the gap and go on (--on-gap record) is to come"
            ),
            StartError::Truncated { next, high } => {
                write!(f, "Truncated: the next offset is {next}, but the source ")?;
                match high {
                    Some(high) => write!(f, "ends at {high}")?,
                    None => f.write_str("was cut below it, and others may stand where records were read")?,
                }
                f.write_str(": it lost records that were read from it. Receive into another directory and group")
            }
            StartError::GroupBeyondEnd { group, high, .. } => write!(
                f,
                "GroupBeyondEnd: the group's offset is {group}, but the source ends at {high}, and no log is known to have \
                 read up to there. It was set too high, or transactions are open: wait for them to end"
            ),
            StartError::NoOffset => f.write_str(
                "neither the log nor the group knows an offset, and the policy for that is to refuse (--on-reset error): begin \
                 with --on-reset earliest or latest",
            ),
        }
    }
}

impl StartError {
    /// Where the group may be set for a start to go on there.
    fn way_out(&self) -> Option<i64> {
        match self {
            StartError::Missing { low, .. } => Some(*low),
            // Below the end no record is passed over that the log lacks.
            StartError::GroupBeyondEnd { high, log, .. } => Some(log.map_or(*high, |log| log.min(*high))),
            _ => None,
        }
    }
}

/// What has the group go on at `next`, and what comes of it.
pub(super) fn set_group(group: &str, Partition { topic, number }: &Partition, next: i64) -> String {
    format!(
        "end the members of the group, then kafka-consumer-groups --bootstrap-server HOST:PORT --group {group} --topic \
         {topic}:{number} --reset-offsets --to-offset {next} --execute: a later start passes over what the log lacks \
         below that, and records so"
    )
}

impl std::error::Error for StartError {}

/// A partition of which the group has less than is durable in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uncommitted {
    /// The partition.
    pub partition: Partition,
    /// The next offset by the group, as far as that is known.
    pub committed: Option<i64>,
    /// The next offset that the log durably needs.
    pub durable: i64,
}

impl Uncommitted {
    pub(super) fn new(partition: Partition, committed: Option<i64>, durable: i64) -> Uncommitted {
        Uncommitted { partition, committed, durable }
    }
}

impl fmt::Display for Uncommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Uncommitted { partition, committed, durable } = self;
        match committed {
            Some(committed) => write!(f, "{partition} (committed to {committed}, durable to {durable})"),
            None => write!(f, "{partition} (nothing committed, durable to {durable})"),
        }
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReceiveError::Log(error) => write!(f, "{error}"),
            ReceiveError::Source(error) => write!(f, "{error}"),
            ReceiveError::Start { partition, error } => {
                write!(f, "{partition}: {error}")?;
                let Some(next) = error.way_out() else { return Ok(()) };
                write!(f, ". To go on at {next}, {}", set_group("GROUP", partition, next))
            }
            ReceiveError::Decode { lsn, error } => {
                write!(f, "the record at LSN {lsn} cannot be read: {error}. {}", way_out(error.kind))
            }
            ReceiveError::Chain { lsn, error } => write!(
                f,
                "the entry at LSN {lsn} does not chain: {error}. No offset table survives that says where the log \
                 stands; the group's offset is not trusted in its place. Receive into another directory and group"
            ),
            ReceiveError::RecordTooLarge { partition, offset, needs, limit } => write!(
                f,
                "{partition} offset {offset} takes a block of {needs} bytes, and a segment holds {limit}: open the \
                 log with larger segments (--segment-size)"
            ),
            ReceiveError::TableTooLarge { partitions, needs, limit } => write!(
                f,
                "the offset table, or what begins it, takes {needs} bytes for {partitions} partitions, and a segment \
                 holds {limit}: open the log with larger segments (--segment-size)"
            ),
            ReceiveError::AppendThread => f.write_str("the append thread ended before its time"),
            ReceiveError::NotDurable { blocks, reason } => {
                let blocks = format!("{blocks} block{}", if *blocks == 1 { "" } else { "s" });
                let (why, again) = match reason.as_ref().map(Error::kind) {
                    Some(ErrorKind::LogFull) => (
                        ", for the log is full",
                        "what the log lacks is not committed, and a later start reads it again",
                    ),
                    _ => (" in time", "a later start reads again what the log then lacks"),
                };
                write!(f, "{blocks} could not be stored{why}. Nothing is lost: {again}")?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            ReceiveError::NotClosed => f.write_str(
                "all that was read is durable and committed, but the disk did not let the log be closed in time",
            ),
            ReceiveError::NotCommitted { partitions, reason } => {
                f.write_str("all that was read is durable, but not all of it is committed:")?;
                for (index, lacking) in partitions.iter().take(NAMED).enumerate() {
                    write!(f, "{} {lacking}", if index > 0 { "," } else { "" })?;
                }
                if let more @ 1.. = partitions.len().saturating_sub(NAMED) {
                    write!(f, " and {more} more partitions")?;
                }
                f.write_str(
                    ". Nothing is lost: the log has it, and a later start commits what it is assigned of topics that are \
                     still there",
                )?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ". The last answer to a commit: {reason}"))
            }
        }
    }
}

/// What to do about a record that is no entry, or none that this version knows.
fn way_out(kind: DecodeErrorKind) -> &'static str {
    match kind {
        kind if kind.is_newer() => "Receive with the version that wrote it, or a later one",
        DecodeErrorKind::NotAnEntry => {
            "The log has to be the receiver's alone: receive into another directory, and group if this one has read into it"
        }
        _ => "Receive into another directory and group",
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReceiveError::Log(error) => Some(error),
            ReceiveError::Source(error) => Some(error),
            ReceiveError::Start { error, .. } => Some(error),
            ReceiveError::Decode { error, .. } => Some(error),
            ReceiveError::Chain { error, .. } => Some(error),
            ReceiveError::NotDurable { reason, .. } => reason.as_ref().map(|error| error as _),
            ReceiveError::NotCommitted { reason, .. } => reason.as_ref().map(|error| error as _),
            ReceiveError::RecordTooLarge { .. }
            | ReceiveError::TableTooLarge { .. }
            | ReceiveError::AppendThread
            | ReceiveError::NotClosed => None,
        }
    }
}

impl From<Error> for ReceiveError {
    fn from(error: Error) -> ReceiveError {
        ReceiveError::Log(error)
    }
}

impl From<SourceError> for ReceiveError {
    fn from(error: SourceError) -> ReceiveError {
        ReceiveError::Source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_gone_on_with_says_what_to_do() {
        let decode = |kind| ReceiveError::Decode { lsn: Lsn(7), error: DecodeError { kind, at: 3 } }.to_string();
        for (kind, said) in [
            (DecodeErrorKind::NotAnEntry, "receive into another directory"),
            (DecodeErrorKind::TooNew(9), "Receive with the version that wrote it"),
            (DecodeErrorKind::UnknownKind(9), "Receive with the version that wrote it"),
            (DecodeErrorKind::Value(9), "Receive with the version that wrote it"),
            (DecodeErrorKind::Misplaced, "Receive into another directory and group"),
            (DecodeErrorKind::Short, "Receive into another directory and group"),
        ] {
            let text = decode(kind);
            assert!(text.starts_with("the record at LSN 7 cannot be read: ") && text.contains(said), "{text}");
        }
        let partition = Partition { topic: "orders".into(), number: 0 };
        let error = ChainError { partition, from: Some(5), table: None };
        let text = ReceiveError::Chain { lsn: Lsn(7), error }.to_string();
        assert!(text.ends_with("Receive into another directory and group"), "{text}");
    }

    #[test]
    fn what_could_not_be_stored_is_counted_and_said_to_be_read_again() {
        let text = |blocks| ReceiveError::NotDurable { blocks, reason: None }.to_string();
        let tail = "could not be stored in time. Nothing is lost: a later start reads again what the log then lacks";
        assert_eq!([text(1), text(2)], [format!("1 block {tail}"), format!("2 blocks {tail}")]);
    }
}
