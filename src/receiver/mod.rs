//! A thin receiver: records of a stream, durable in the log before their offsets are committed.
mod append;
mod assign;
pub mod block;
mod commits;
mod config;
mod entry;
mod error;
mod intake;
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

pub use block::{Block, BlockBuilder, BlockRecord, BlockRecords, Range, SealedBlock};
pub use config::{Clock, Config, Mode, Reset, SystemClock};
pub use entry::{Entry, Handover, LogId, Origin, OriginCause};
pub use error::ReceiveError;
pub use mark::CommitMark;
pub use offsets::{ChainError, Mark, OffsetTable, Recovered, recover};
pub use run::Receiver;
pub use source::{Commit, Event, Message, Partition, Source, SourceError, TopicId};
pub use start::StartError;
pub use status::{CommitCounts, Notice, Observer, PartitionStatus, SealCause, Sealed, Status, StatusHandle, Step};
pub use wire::{DecodeError, DecodeErrorKind};
