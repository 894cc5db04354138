//! What is read out of the log.

use bytes::Bytes;

use crate::format::frame_size;
use crate::lsn::{BatchTime, Lsn};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// What was appended.
    Record,
    /// A snapshot of the caller's state, by [`append_checkpoint`](crate::Wal::append_checkpoint).
    Checkpoint,
}

/// One record, as it was appended. Its payload is a [`Bytes`] to keep, or borrowed from the reader
/// ([`Records::next_borrowed`](crate::Records::next_borrowed)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<P = Bytes> {
    /// Where it is.
    pub lsn: Lsn,
    /// The batch time it was appended under.
    pub batch_time: BatchTime,
    /// What it is.
    pub kind: Kind,
    /// Whether it is the last record of its batch.
    pub ends_batch: bool,
    /// Its bytes. Out of the map of a sealed segment, without a copy; they never change.
    pub payload: P,
}

impl<P: AsRef<[u8]>> Record<P> {
    /// The LSN past it: where the next record begins, if one follows in the segment.
    pub fn end(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(frame_size(self.payload.as_ref().len() as u64)))
    }
}
