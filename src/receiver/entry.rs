//! Everything that a receiver writes into the log, told apart: [`Entry`].

use std::fmt;

use super::block::Block;
use super::mark::hex;
use super::offsets::OffsetTable;
use super::source::{Partition, TopicId};
use super::wire::{DecodeError, DecodeErrorKind, Decoded, Fields, put_topic};

const MAGIC: [u8; 4] = [0xB5, b'S', b'W', b'B'];
const VERSION: u8 = 1;
pub(super) const BLOCK: u8 = 1;
const ORIGIN: u8 = 2;
const HANDOVER: u8 = 3;
const OFFSET_TABLE: u8 = 4;

/// The identity of a log, as the metadata of commits bears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// One record of the log, decoded.
///
/// Blocks are drawn in the module's documentation of the codec. The others, after the same first 8 bytes:
///
/// ```text
/// origin        cause 1, has previous 1, zero 2, previous 8, next 8, topic
/// handover      has log 1, zero 3, from 8, next 8, log id 16, topic
/// offset table  count 4, then `count` times: read before 1, zero 3, from 8, next 8, LSN 8, topic
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Entry<'a> {
    /// Records as received, with what they cover.
    Block(Block<'a>),
    /// Where the log begins with a partition.
    Origin(Origin),
    /// Records that are not in this log because the group was further.
    Handover(Handover),
    /// The offset table: a checkpoint.
    OffsetTable(OffsetTable),
}

impl<'a> Entry<'a> {
    /// Decodes the payload of a record.
    ///
    /// # Errors
    /// What is wrong and where; [`DecodeErrorKind::NotAnEntry`] for a record that no receiver wrote. The
    /// records of a block are checked as they are walked over.
    pub fn decode(payload: &'a [u8]) -> Result<Entry<'a>, DecodeError> {
        let mut fields = Fields::new(payload);
        let magic = fields.array().ok().filter(|magic| *magic == MAGIC);
        if magic.is_none() {
            return Err(DecodeError { kind: DecodeErrorKind::NotAnEntry, at: 0 });
        }
        let (version, kind) = (fields.u8()?, fields.u8()?);
        if version != VERSION {
            return Err(DecodeError { kind: DecodeErrorKind::TooNew(version), at: MAGIC.len() });
        }
        fields.u16()?;
        match kind {
            BLOCK => Block::decode(fields).map(Entry::Block),
            ORIGIN => Origin::decode(fields).map(Entry::Origin),
            HANDOVER => Handover::decode(fields).map(Entry::Handover),
            OFFSET_TABLE => OffsetTable::decode(fields).map(Entry::OffsetTable),
            other => Err(DecodeError { kind: DecodeErrorKind::UnknownKind(other), at: MAGIC.len() + 1 }),
        }
    }
}

/// The first 8 bytes of an entry.
pub(super) fn put_head(out: &mut Vec<u8>, kind: u8) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind, 0, 0]);
}

/// The first bytes of an offset table.
pub(super) fn put_table_head(out: &mut Vec<u8>) {
    put_head(out, OFFSET_TABLE);
}

/// Why a partition begins where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OriginCause {
    /// Neither log nor group knew it: its first offset.
    Earliest,
    /// Neither log nor group knew it: the end that it had then.
    Latest,
    /// The group's offset: the log did not know it, or the mode is at-least-once.
    Group,
    /// A partition that its topic got later: its first offset.
    NewPartition,
}

impl OriginCause {
    fn code(self) -> u8 {
        match self {
            OriginCause::Earliest => 1,
            OriginCause::Latest => 2,
            OriginCause::Group => 3,
            OriginCause::NewPartition => 4,
        }
    }

    fn from_code(code: u8) -> Option<OriginCause> {
        [OriginCause::Earliest, OriginCause::Latest, OriginCause::Group, OriginCause::NewPartition]
            .into_iter()
            .find(|cause| cause.code() == code)
    }
}

/// Where the log begins with a partition: the head of a chain of ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// The partition.
    pub partition: Partition,
    /// Its topic's identity.
    pub topic_id: TopicId,
    /// Where the log stood with it before, if it knew it: only at-least-once moves a mark that is there.
    pub previous: Option<i64>,
    /// The first offset it reads.
    pub next: i64,
    /// Why there.
    pub cause: OriginCause,
}

impl Origin {
    /// An origin of all its parts.
    pub fn new(
        partition: Partition,
        topic_id: TopicId,
        previous: Option<i64>,
        next: i64,
        cause: OriginCause,
    ) -> Origin {
        Origin { partition, topic_id, previous, next, cause }
    }

    /// Its bytes, to be appended as one record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(&mut out, ORIGIN);
        out.extend_from_slice(&[self.cause.code(), u8::from(self.previous.is_some()), 0, 0]);
        out.extend_from_slice(&self.previous.unwrap_or_default().to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        put_topic(&mut out, &self.partition, self.topic_id);
        out
    }

    fn decode(mut fields: Fields<'_>) -> Decoded<Origin> {
        let code = fields.u8()?;
        let cause = OriginCause::from_code(code).ok_or(fields.error(DecodeErrorKind::Value(code)))?;
        let has_previous = fields.flag()?;
        fields.u16()?;
        let (previous, next) = (fields.i64()?, fields.i64()?);
        if next < 0 {
            return Err(fields.error(DecodeErrorKind::Range));
        }
        let (partition, topic_id) = fields.topic()?;
        fields.end()?;
        Ok(Origin { partition, topic_id, previous: has_previous.then_some(previous), next, cause })
    }
}

/// Records that are not in this log because the group was further: another member took them, or somebody set the
/// group's offset forward.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handover {
    /// The partition.
    pub partition: Partition,
    /// Its topic's identity.
    pub topic_id: TopicId,
    /// Where this log stood.
    pub from: i64,
    /// Where the group stood: this log goes on there.
    pub next: i64,
    /// The log that has them. `None` where they are in no log known to this one: somebody set the group's offset
    /// forward, or the log that committed it began with the partition behind them.
    pub log: Option<LogId>,
}

impl Handover {
    /// A handover of all its parts.
    pub fn new(partition: Partition, topic_id: TopicId, from: i64, next: i64, log: Option<LogId>) -> Handover {
        Handover { partition, topic_id, from, next, log }
    }

    /// Its bytes, to be appended as one record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(&mut out, HANDOVER);
        out.extend_from_slice(&[u8::from(self.log.is_some()), 0, 0, 0]);
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&self.log.unwrap_or(LogId([0; 16])).0);
        put_topic(&mut out, &self.partition, self.topic_id);
        out
    }

    fn decode(mut fields: Fields<'_>) -> Decoded<Handover> {
        let has_log = fields.flag()?;
        fields.array::<3>()?;
        let (from, next) = (fields.i64()?, fields.i64()?);
        if from < 0 || next < from {
            return Err(fields.error(DecodeErrorKind::Range));
        }
        let log = LogId(fields.array()?);
        let (partition, topic_id) = fields.topic()?;
        fields.end()?;
        Ok(Handover { partition, topic_id, from, next, log: has_log.then_some(log) })
    }
}
