//! A thin receiver: records of a stream, durable in the log before their offsets are committed.
mod source;

pub use source::{Commit, Event, Message, Partition, Source, SourceError, TopicId};
