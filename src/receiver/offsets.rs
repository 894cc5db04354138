//! The offset table: for each partition the log knows, the next offset it needs; and how it is rebuilt at open.
//!
//! Each entry chains on the one before: a range's `from` is the `next` the table holds. The head of a chain is
//! an [`Origin`], or a table that a checkpoint kept. So blocks whose beginnings were cleaned away, with no table
//! to stand for them, do not chain on anything and are refused rather than guessed at.
//!
//! A running receiver has it three times, each a step behind the one before, for each thread needs its own:
//!
//! | table | holds | for |
//! |---|---|---|
//! | the intake's `planned` | what was handed to the append thread | where an assignment resumes |
//! | the append thread's | what was appended | what chains, and what a checkpoint says |
//! | the line's | what is durable | commits |

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use super::block::Range;
use super::entry::{Entry, Handover, Origin, put_table_head};
use super::error::ReceiveError;
use super::source::{Partition, TopicId};
use super::wire::{DecodeError, DecodeErrorKind, Decoded, Fields, put_topic};
use crate::{Kind, Lsn, Record, Wal};

/// Where the log stands with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mark {
    /// The first offset of the unbroken chain that ends at `next`: what lies between is, or was, in the log.
    pub from: i64,
    /// The next offset it needs.
    pub next: i64,
    /// The record that brought it there, or the last of those that were appended with it.
    pub lsn: Lsn,
    /// Something was read of the partition before `from`, by this log or another.
    pub read_before: bool,
}

impl Mark {
    /// Whether something was read of the partition: a chain that has only begun, and was not handed over, holds nothing.
    fn is_read(self) -> bool {
        self.read_before || self.from < self.next
    }
}

/// The next offset of each partition of each topic that the log knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetTable {
    marks: BTreeMap<(Partition, TopicId), Mark>,
}

/// An entry that does not continue what the table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainError {
    /// The partition.
    pub partition: Partition,
    /// Where the entry begins, `None` for one that begins a chain.
    pub from: Option<i64>,
    /// Where the table stands, `None` where it knows nothing.
    pub table: Option<i64>,
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChainError { partition, from, table } = self;
        let place = |offset: &Option<i64>| offset.map_or("nowhere".to_owned(), |offset| format!("offset {offset}"));
        write!(f, "{partition} goes on from {} where the offset table stands at {}", place(from), place(table))
    }
}

impl std::error::Error for ChainError {}

impl OffsetTable {
    /// An empty one.
    pub fn new() -> OffsetTable {
        OffsetTable::default()
    }

    /// Where the log stands with a partition.
    pub fn get(&self, partition: &Partition, id: TopicId) -> Option<Mark> {
        self.marks.get(&(partition.clone(), id)).copied()
    }

    /// All partitions, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Partition, TopicId, Mark)> {
        self.marks.iter().map(|((partition, id), mark)| (partition, *id, *mark))
    }

    /// Whether it knows no partition.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// How many partitions it knows.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Another identity under which it knows the topic, if it does not know it under `id`.
    pub fn other_topic(&self, topic: &str, id: TopicId) -> Option<TopicId> {
        let mut other = None;
        for (_, known, _) in self.iter().filter(|(partition, ..)| &*partition.topic == topic) {
            if known == id {
                return None;
            }
            other = Some(known);
        }
        other
    }

    /// Whether something was read of a lower partition of the topic.
    pub fn has_read_below(&self, partition: &Partition, id: TopicId) -> bool {
        let is_lower = |other: &Partition| other.topic == partition.topic && other.number < partition.number;
        self.iter().any(|(other, known, mark)| is_lower(other) && known == id && mark.is_read())
    }

    /// Follows a block's ranges: all or, if one does not chain, none.
    ///
    /// # Errors
    /// The first range that does not continue the table.
    pub fn apply_ranges(&mut self, ranges: &[Range], lsn: Lsn) -> Result<(), ChainError> {
        self.check_ranges(ranges)?;
        for range in ranges {
            let known = self.get(&range.partition, range.topic_id);
            let (from, read_before) = known.map_or((range.from, false), |mark| (mark.from, mark.read_before));
            let mark = Mark { from, next: range.next, lsn, read_before };
            self.set(&range.partition, range.topic_id, mark);
        }
        Ok(())
    }

    /// Begins a chain.
    ///
    /// # Errors
    /// The table stands elsewhere than the origin says.
    pub fn apply_origin(&mut self, origin: &Origin, lsn: Lsn) -> Result<(), ChainError> {
        self.expect(&origin.partition, origin.topic_id, origin.previous)?;
        let read_before = self.get(&origin.partition, origin.topic_id).is_some_and(Mark::is_read);
        let mark = Mark { from: origin.next, next: origin.next, lsn, read_before };
        self.set(&origin.partition, origin.topic_id, mark);
        Ok(())
    }

    /// Passes over what another log has, or none.
    ///
    /// # Errors
    /// The table stands elsewhere than the handover says.
    pub fn apply_handover(&mut self, handover: &Handover, lsn: Lsn) -> Result<(), ChainError> {
        self.expect(&handover.partition, handover.topic_id, Some(handover.from))?;
        let mark = Mark { from: handover.next, next: handover.next, lsn, read_before: true };
        self.set(&handover.partition, handover.topic_id, mark);
        Ok(())
    }

    pub(super) fn check_ranges(&self, ranges: &[Range]) -> Result<(), ChainError> {
        let mut ends = BTreeMap::new();
        ranges.iter().try_for_each(|range| {
            // One that is there twice goes on from where it was before.
            let before = ends.insert((&range.partition, range.topic_id), range.next);
            let table = before.or_else(|| self.get(&range.partition, range.topic_id).map(|mark| mark.next));
            let (partition, from) = (range.partition.clone(), Some(range.from));
            if table == from { Ok(()) } else { Err(ChainError { partition, from, table }) }
        })
    }

    fn expect(&self, partition: &Partition, id: TopicId, from: Option<i64>) -> Result<(), ChainError> {
        let table = self.get(partition, id).map(|mark| mark.next);
        if table == from { Ok(()) } else { Err(ChainError { partition: partition.clone(), from, table }) }
    }

    fn set(&mut self, partition: &Partition, id: TopicId, mark: Mark) {
        self.marks.insert((partition.clone(), id), mark);
    }

    /// Whether both have the same chains, by whatever records.
    fn stands_as(&self, other: &OffsetTable) -> bool {
        let chains = |table: &OffsetTable| -> Vec<_> {
            table.marks.iter().map(|(key, mark)| (key.clone(), mark.from, mark.next)).collect()
        };
        chains(self) == chains(other)
    }

    /// Its bytes, to be appended as a checkpoint.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_table_head(&mut out);
        let count = u32::try_from(self.marks.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for ((partition, id), mark) in &self.marks {
            out.extend_from_slice(&[u8::from(mark.read_before), 0, 0, 0]);
            out.extend_from_slice(&mark.from.to_le_bytes());
            out.extend_from_slice(&mark.next.to_le_bytes());
            out.extend_from_slice(&mark.lsn.0.to_le_bytes());
            put_topic(&mut out, partition, *id);
        }
        out
    }

    /// The fields after an entry's head.
    pub(super) fn decode(mut fields: Fields<'_>) -> Decoded<OffsetTable> {
        let mut table = OffsetTable::new();
        for _ in 0..fields.u32()? {
            let error = fields.error(DecodeErrorKind::Range);
            let read_before = fields.flag()?;
            fields.array::<3>()?;
            let (from, next, lsn) = (fields.i64()?, fields.i64()?, Lsn(fields.u64()?));
            let mark = Mark { from, next, lsn, read_before };
            if from < 0 || next < from || table.marks.insert(fields.topic()?, mark).is_some() {
                return Err(error);
            }
        }
        fields.end()?;
        Ok(table)
    }
}

/// What [`recover`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// The table.
    pub table: OffsetTable,
    /// The checkpoint it began with.
    pub checkpoint: Option<Lsn>,
    /// Records read after it.
    pub entries: u64,
}

/// Rebuilds the table: from the last checkpoint and the entries after it, or from the log's first record.
///
/// # Errors
/// What the log said; a record that no receiver wrote; an entry that does not chain, as after a cleaning that
/// left no table.
pub fn recover(wal: &Wal) -> Result<Recovered, ReceiveError> {
    let mut recovered = Recovered::default();
    let mut after = Bound::Unbounded;
    if let Some(checkpoint) = wal.checkpoint()? {
        let Entry::OffsetTable(table) = decode(&checkpoint)? else { return Err(misplaced(&checkpoint)) };
        recovered.table = table;
        recovered.checkpoint = Some(checkpoint.lsn);
        after = Bound::Excluded(checkpoint.lsn);
    }
    for record in wal.read((after, Bound::Unbounded))? {
        let record = record?;
        follow(&mut recovered.table, &record)?;
        recovered.entries += 1;
    }
    Ok(recovered)
}

/// Takes one record of the log into the table. A table on the way is held against it, as a range would be.
fn follow(table: &mut OffsetTable, record: &Record) -> Result<(), ReceiveError> {
    let lsn = record.lsn;
    let chained = match decode(record)? {
        Entry::Block(block) => table.apply_ranges(block.ranges(), lsn),
        Entry::Origin(origin) => table.apply_origin(&origin, lsn),
        Entry::Handover(handover) => table.apply_handover(&handover, lsn),
        // One that was appended since the last checkpoint was asked for.
        Entry::OffsetTable(snapshot) if snapshot.stands_as(table) => Ok(()),
        Entry::OffsetTable(_) => return Err(misplaced(record)),
    };
    chained.map_err(|error| ReceiveError::Chain { lsn, error })
}

fn decode(record: &Record) -> Result<Entry<'_>, ReceiveError> {
    let entry = Entry::decode(&record.payload).map_err(|error| ReceiveError::Decode { lsn: record.lsn, error })?;
    let is_table = matches!(entry, Entry::OffsetTable(_));
    if is_table == (record.kind == Kind::Checkpoint) { Ok(entry) } else { Err(misplaced(record)) }
}

/// A checkpoint that is no table, or a table that is no checkpoint or says other than the entries before it.
fn misplaced(record: &Record) -> ReceiveError {
    let error = DecodeError { kind: DecodeErrorKind::Misplaced, at: 0 };
    ReceiveError::Decode { lsn: record.lsn, error }
}
