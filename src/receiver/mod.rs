//! A thin receiver: records of a stream, durable in the log before their offsets are committed.
//!
//! ```text
//!            polling thread                             append thread
//!  source -> intake: open block -> line (2 to 4 sealed) -> append, wait for the disk -> offset table
//!    ^                                                              |
//!    +---------- commits: advice, one under way <-- what is durable +
//! ```
//!
//! Each block is one record of the log: records exactly as received, and the offset ranges they cover, under one
//! checksum (the bytes: [`block`]). What the log holds of each partition is the [`OffsetTable`], kept as the log's
//! checkpoint. So a crash can only take blocks whole, with their ranges, and they are read again.
//!
//! | [`Mode`] | reading begins | after a crash |
//! |---|---|---|
//! | [`ExactlyOnce`](Mode::ExactlyOnce) | where the *log* ends | none lost, none twice in the log |
//! | [`AtLeastOnce`](Mode::AtLeastOnce) | where the *group* is | none lost, some may be twice |
//!
//! A crash leaves what was durable, and no more than that is committed. Where the group is further for another reason, as
//! before a log that was rolled back or lost, or because it was set forward, `AtLeastOnce` follows it: what the log lacks
//! below is not read again, and only the [`Origin`] in the log says so.
//!
//! Exactly once holds for one log. A member of a group may take over partitions from one with another log: each
//! record is then in one of the logs, and where a log passes over records, it says in a [`Handover`] which other log
//! has them, as far as that one's commit proves it, or that none known has. A commit that does not reach the group
//! before a partition changes hands (an expelled member, a broker that is away, a disk too slow for what a revocation
//! waits for it, [`Config::drain_timeout`]) has the next owner read again what the former has: across logs that is twice.
//!
//! What is refused rather than guessed: a topic that was made anew; in `ExactlyOnce` a log that was rolled back or lost,
//! if the group's last commit is its own or nobody else is in the group (where another log has gone on since, what it
//! lost is handed over as known in no log, with a warning; and a spare with an empty log is taken for one that was lost);
//! offsets that are gone ([`StartError`]); a log whose offset table did not survive ([`ReceiveError::Chain`]). A topic's id is
//! asked at each assignment, and where a position is out of range. So one that is made anew while it is read, and holds
//! as many offsets again before that is seen, is refused only at the next assignment. Where the broker gives no ids,
//! as before Kafka 2.8, it is noticed by its offsets only: where it holds fewer than were read.
//!
//! Not here yet: quarantine for records that cannot be taken, options to go on where this refuses, sinks.
//!
#![cfg_attr(feature = "sim", doc = "```")]
#![cfg_attr(not(feature = "sim"), doc = "```ignore")]
//! # use std::sync::Arc;
//! # use std::sync::atomic::{AtomicBool, Ordering};
//! # use seawall::receiver::scripted::{Broker, Stored};
//! use seawall::receiver::{Config, Receiver};
//!
//! # let dir = tempfile::tempdir()?;
//! # let broker = Broker::new();
//! # broker.create_topic("orders", 1);
//! # broker.produce("orders", 0, Stored::default());
//! let source = broker.join("billing", &["orders"]);
//! let wal = Arc::new(seawall::Wal::open(dir.path())?);
//! let receiver = Receiver::new(wal, source, Config::default())?;
//! let (status, stop) = (receiver.status(), Arc::new(AtomicBool::new(false)));
//! # let until_stored = { let (stop, status) = (Arc::clone(&stop), status.clone()); std::thread::spawn(move || {
//! #     while status.snapshot().recorded < 1 { std::thread::yield_now(); }
//! #     stop.store(true, Ordering::Release);
//! # }) };
//! let end = receiver.run(&stop)?; // until another thread sets `stop`
//! assert_eq!(end.recorded, 1);
//! assert_eq!(broker.committed("billing", "orders", 0).map(|commit| commit.next), Some(1));
//! # until_stored.join().ok();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod append;
mod assign;
pub mod block;
mod commits;
mod config;
mod entry;
mod error;
mod intake;
#[cfg(feature = "kafka")]
mod kafka;
mod line;
mod mark;
mod offsets;
mod run;
#[cfg(feature = "sim")]
pub mod scripted;
mod source;
mod start;
mod status;
mod wire;
mod within;

pub use block::{Block, BlockBuilder, BlockRecord, BlockRecords, Range, SealedBlock};
pub use config::{Clock, Config, Mode, Reset, SystemClock};
pub use entry::{Entry, Handover, LogId, Origin, OriginCause};
pub use error::{ReceiveError, StartError, Uncommitted};
#[cfg(feature = "kafka")]
pub use kafka::{KafkaConfig, KafkaSource, closes_abandoned};
pub use mark::CommitMark;
pub use offsets::{ChainError, Mark, OffsetTable, Recovered, recover};
pub use run::Receiver;
pub use source::{Commit, Event, Message, Partition, Source, SourceError, TopicId};
pub use status::{CommitCounts, Notice, Observer, PartitionStatus, SealCause, Sealed, Status, StatusHandle, Step};
pub use wire::{DecodeError, DecodeErrorKind};
