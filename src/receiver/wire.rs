//! Fields of an entry on the wire: little endian, read with every bound checked, each failure with its place.

use std::fmt;
use std::sync::Arc;

use super::source::{Partition, TopicId};

/// The length that says "null" where bytes may be missing.
const NULL: u32 = u32::MAX;

/// Why bytes are no entry of a receiver, and the byte where that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// The byte in the payload where it shows.
    pub at: usize,
}

/// What is wrong with bytes that should be an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// They do not begin as an entry does: some other program's record.
    NotAnEntry,
    /// Written by a newer version.
    TooNew(u8),
    /// An entry of a kind that this version does not know.
    UnknownKind(u8),
    /// An offset table that is no checkpoint, a checkpoint that is no offset table, or one that says other
    /// than the entries before it.
    Misplaced,
    /// They end inside a field.
    Short,
    /// They go on after the entry.
    Trailing,
    /// A topic's name is not UTF-8.
    Topic,
    /// An enumerated field has a value that this version does not know.
    Value(u8),
    /// A range ends before it begins, begins below zero, or holds more records than offsets.
    Range,
    /// A record lies in no range, outside its range, or not above the one before it.
    Offset,
    /// The records are not as many as the ranges say.
    Count,
}

impl DecodeErrorKind {
    /// Whether a newer version will have written them.
    pub fn is_newer(&self) -> bool {
        matches!(self, DecodeErrorKind::TooNew(_) | DecodeErrorKind::UnknownKind(_) | DecodeErrorKind::Value(_))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DecodeErrorKind::NotAnEntry => f.write_str("not an entry of a receiver"),
            DecodeErrorKind::TooNew(version) => write!(f, "an entry of version {version}, newer than this program"),
            DecodeErrorKind::UnknownKind(kind) => write!(f, "an entry of unknown kind {kind}"),
            DecodeErrorKind::Misplaced => {
                f.write_str("an offset table where it cannot be, or a checkpoint that is none")
            }
            DecodeErrorKind::Short => write!(f, "the entry ends inside a field at byte {}", self.at),
            DecodeErrorKind::Trailing => write!(f, "the entry goes on after its end at byte {}", self.at),
            DecodeErrorKind::Topic => write!(f, "a topic's name at byte {} is not UTF-8", self.at),
            DecodeErrorKind::Value(value) => write!(f, "unknown value {value} at byte {}", self.at),
            DecodeErrorKind::Range => write!(f, "an impossible range at byte {}", self.at),
            DecodeErrorKind::Offset => write!(f, "a record outside its range or out of order at byte {}", self.at),
            DecodeErrorKind::Count => write!(f, "ranges and records differ in number at byte {}", self.at),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A result of decoding.
pub(super) type Decoded<T> = Result<T, DecodeError>;

/// What is left to read.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes, at: 0 }
    }

    /// The byte that is read next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The error `kind` at the byte that is read next.
    pub(super) fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { kind, at: self.at }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.error(DecodeErrorKind::Short))?;
        self.rest = rest;
        self.at += len;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(self.error(DecodeErrorKind::Short))?;
        self.rest = rest;
        self.at += N;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Decoded<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Decoded<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Decoded<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Decoded<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Decoded<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// The bytes that a length read before announced; `None` for null.
    pub(super) fn nullable(&mut self, len: u32) -> Decoded<Option<&'a [u8]>> {
        if len == NULL {
            return Ok(None);
        }
        self.bytes(len as usize).map(Some)
    }

    /// Partition number, topic id, name: as [`put_topic`] writes them.
    pub(super) fn topic(&mut self) -> Decoded<(Partition, TopicId)> {
        let id = TopicId(self.array()?);
        let number = self.i32()?;
        let len = self.u16()?;
        let error = self.error(DecodeErrorKind::Topic);
        let name = std::str::from_utf8(self.bytes(usize::from(len))?).map_err(|_| error)?;
        Ok((Partition { topic: Arc::from(name), number }, id))
    }

    /// A byte that is 0 or 1.
    pub(super) fn flag(&mut self) -> Decoded<bool> {
        let error = self.error(DecodeErrorKind::Value(0));
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError { kind: DecodeErrorKind::Value(other), ..error }),
        }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(DecodeErrorKind::Trailing)) }
    }
}

/// The longest name of a topic, in bytes: an assignment refuses others.
pub(super) const NAME: usize = u16::MAX as usize;

/// `id 16, partition 4, name's length 2, name`.
pub(super) fn put_topic(out: &mut Vec<u8>, partition: &Partition, id: TopicId) {
    let name = partition.topic.as_bytes();
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(&partition.number.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(name.get(..usize::from(len)).unwrap_or(name));
}

/// The length field of bytes that may be missing. A slice of 4 GiB cannot be stored and is never met: a block
/// is bounded far below.
pub(super) fn nullable_len(bytes: Option<&[u8]>) -> u32 {
    bytes.map_or(NULL, |bytes| u32::try_from(bytes.len()).unwrap_or(NULL - 1))
}
