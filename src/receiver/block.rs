//! The block codec: records exactly as received, with the offset ranges they cover, as one record of the log.
//!
//! # Entries
//!
//! Everything a receiver writes is an *entry*. Integers are little endian; an entry begins
//!
//! ```text
//!  0        4         5      6      8
//!  +--------+---------+------+------+----
//!  | magic  | version | kind | zero | the kind's fields
//!  +--------+---------+------+------+----
//!  magic    B5 53 57 42      version  1
//!  kind     1 block | 2 origin | 3 handover | 4 offset table
//! ```
//!
//! The frame of the log already checks every byte, so an entry has no checksum of its own. Decoding is total
//! all the same: it takes any bytes, and allocates nothing by a length that it has not seen the bytes of.
//!
//! # A topic
//!
//! ```text
//!  0            16          20         22
//!  +------------+-----------+----------+------+
//!  | topic id   | partition | name len | name |   name: UTF-8
//!  +------------+-----------+----------+------+
//! ```
//!
//! # Block (kind 1)
//!
//! ```text
//!  8        12        16
//!  +--------+---------+-----------------------+-------------------------+
//!  | ranges | records | range, `ranges` times | record, `records` times |
//!  +--------+---------+-----------------------+-------------------------+
//!
//!  range    0      8      16      20
//!           +------+------+-------+-------+
//!           | from | next | count | topic |      from: where the partition stood before this block
//!           +------+------+-------+-------+      count < next - from: a declared hole
//!
//!  record   0       2      3      4         8        16          24        28          32
//!           +-------+------+------+---------+--------+-----------+---------+-----------+-----+-------+---------+
//!           | range | type | zero | headers | offset | timestamp | key len | value len | key | value | headers |
//!           +-------+------+------+---------+--------+-----------+---------+-----------+-----+-------+---------+
//!           range: index of its range     type: of the timestamp     a length of FFFFFFFF: null
//!
//!  header   0          4           8
//!           +----------+-----------+------+-------+
//!           | name len | value len | name | value |   the name is bytes, no text
//!           +----------+-----------+------+-------+
//! ```
//!
//! Records stand in the order of their arrival, partitions mixed; within a range offsets rise. The ranges of one
//! partition chain from block to block: `from` is the `next` of the entry before. A block of one record, topic
//! `t`, partition 0, id of sixteen 7s, offset 5, timestamp 1000 (creation), null key, value `v`, header `h` = "":
//!
//! ```
//! use seawall::receiver::{BlockBuilder, Entry, Message, Partition, TopicId};
//!
//! let partition = Partition { topic: "t".into(), number: 0 };
//! let mut builder = BlockBuilder::new();
//! let range = builder.range(&partition, TopicId([7; 16]), 5);
//! builder.push(range, &Message {
//!     partition: &partition, offset: 5, timestamp: 1000, timestamp_type: 1,
//!     key: None, value: Some(b"v"), headers: &[(b"h", Some(b""))],
//! });
//! let block = builder.seal();
//! let bytes = block.parts().concat();
//! # #[rustfmt::skip]
//! assert_eq!(bytes, [
//!     0xB5, 0x53, 0x57, 0x42,  1,  1,  0, 0,              // magic, version, kind
//!     1, 0, 0, 0,   1, 0, 0, 0,                           // ranges, records
//!     5, 0, 0, 0, 0, 0, 0, 0,   6, 0, 0, 0, 0, 0, 0, 0,   // from, next
//!     1, 0, 0, 0,                                         // count
//!     7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,     // topic id
//!     0, 0, 0, 0,   1, 0,   b't',                         // partition, name
//!     0, 0,   1,   0,   1, 0, 0, 0,                       // range, type, zero, headers
//!     5, 0, 0, 0, 0, 0, 0, 0,                             // offset
//!     0xE8, 3, 0, 0, 0, 0, 0, 0,                          // timestamp
//!     0xFF, 0xFF, 0xFF, 0xFF,   1, 0, 0, 0,   b'v',       // null key, value
//!     1, 0, 0, 0,   0, 0, 0, 0,   b'h',                   // header
//! ]);
//! let Entry::Block(block) = Entry::decode(&bytes)? else { unreachable!() };
//! let record = block.records().next().unwrap()?;
//! assert_eq!((record.offset, record.key, record.value), (5, None, Some(&b"v"[..])));
//! # Ok::<(), seawall::receiver::DecodeError>(())
//! ```
//!
//! The other kinds are drawn in [`Entry`](super::Entry).

use super::entry;
use super::source::{Message, Partition, TopicId};
use super::wire::{DecodeError, DecodeErrorKind, Decoded, Fields, nullable_len, put_topic};

/// The bytes before a block's first range.
const HEAD: usize = 16;
/// A range without its topic's name.
const RANGE: usize = 42;
/// A record without what has a length.
const RECORD: usize = 32;
/// A header without its name and value.
const HEADER: usize = 8;
/// The most ranges in a block, by the width of a record's index.
const MAX_RANGES: usize = 1 << 16;

/// What a block covers of one partition: `[from, next)`, of which `count` offsets bear a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Range {
    /// The partition.
    pub partition: Partition,
    /// Its topic's identity.
    pub topic_id: TopicId,
    /// Where the partition stood before.
    pub from: i64,
    /// Where it stands after.
    pub next: i64,
    /// Records in the block; fewer than offsets where the source declared a hole.
    pub count: u32,
}

impl Range {
    /// A range of all its parts.
    pub fn new(partition: Partition, topic_id: TopicId, from: i64, next: i64, count: u32) -> Range {
        Range { partition, topic_id, from, next, count }
    }
}

/// One record of a block, borrowed from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockRecord<'a> {
    /// The index of its range in [`Block::ranges`].
    pub range: usize,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds, -1 if it has none.
    pub timestamp: i64,
    /// Its timestamp's type, as the source told it.
    pub timestamp_type: u8,
    /// Its key; none and empty differ.
    pub key: Option<&'a [u8]>,
    /// Its payload; none and empty differ.
    pub value: Option<&'a [u8]>,
    /// Its headers in order, repeats included.
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// A block as it was read: its ranges, and its records to walk over.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    ranges: Vec<Range>,
    count: u32,
    records: Fields<'a>,
}

impl<'a> Block<'a> {
    /// What it covers, in the order in which the partitions first appeared.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// How many records it says it holds.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it holds ranges alone.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its records in the order of their arrival. After the first error nothing more comes.
    pub fn records(&self) -> BlockRecords<'a, '_> {
        let seen = self.ranges.iter().map(|range| (range.from, 0)).collect();
        BlockRecords { ranges: &self.ranges, seen, left: self.count, fields: Some(self.records.clone()) }
    }

    /// The fields after an entry's head.
    pub(super) fn decode(mut fields: Fields<'a>) -> Decoded<Block<'a>> {
        let ranges_count = fields.u32()?;
        let count = fields.u32()?;
        let mut ranges = Vec::new();
        let mut sum = 0_u64;
        for _ in 0..ranges_count {
            let at = fields.at();
            let (from, next, count) = (fields.i64()?, fields.i64()?, fields.u32()?);
            let (partition, topic_id) = fields.topic()?;
            if from < 0 || next < from || i64::from(count) > next - from {
                return Err(DecodeError { kind: DecodeErrorKind::Range, at });
            }
            sum += u64::from(count);
            ranges.push(Range { partition, topic_id, from, next, count });
        }
        if sum != u64::from(count) {
            return Err(fields.error(DecodeErrorKind::Count));
        }
        Ok(Block { ranges, count, records: fields })
    }
}

/// The records of a block: see [`Block::records`].
#[derive(Clone, Debug)]
pub struct BlockRecords<'a, 'b> {
    ranges: &'b [Range],
    /// For each range: the least offset that may come, and how many came.
    seen: Vec<(i64, u32)>,
    left: u32,
    fields: Option<Fields<'a>>,
}

impl<'a> BlockRecords<'a, '_> {
    fn record(&mut self, fields: &mut Fields<'a>) -> Decoded<BlockRecord<'a>> {
        let at = fields.at();
        let range = usize::from(fields.u16()?);
        let timestamp_type = fields.u8()?;
        fields.u8()?;
        let header_count = fields.u32()?;
        let (offset, timestamp) = (fields.i64()?, fields.i64()?);
        let (key_len, value_len) = (fields.u32()?, fields.u32()?);
        let (key, value) = (fields.nullable(key_len)?, fields.nullable(value_len)?);
        let mut headers = Vec::new();
        for _ in 0..header_count {
            let (name_len, value_len) = (fields.u32()?, fields.u32()?);
            headers.push((fields.bytes(name_len as usize)?, fields.nullable(value_len)?));
        }
        self.place(range, offset).map_err(|kind| DecodeError { kind, at })?;
        Ok(BlockRecord { range, offset, timestamp, timestamp_type, key, value, headers })
    }

    /// Holds a record against its range and those that came before it.
    fn place(&mut self, range: usize, offset: i64) -> Result<(), DecodeErrorKind> {
        let (least, count) = self.seen.get_mut(range).ok_or(DecodeErrorKind::Offset)?;
        let range = self.ranges.get(range).ok_or(DecodeErrorKind::Offset)?;
        if offset < *least || offset >= range.next {
            return Err(DecodeErrorKind::Offset);
        }
        if *count == range.count {
            return Err(DecodeErrorKind::Count);
        }
        (*least, *count) = (offset + 1, *count + 1);
        Ok(())
    }
}

impl<'a> Iterator for BlockRecords<'a, '_> {
    type Item = Result<BlockRecord<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut fields = self.fields.take()?;
        if self.left == 0 {
            return fields.end().err().map(Err);
        }
        self.left -= 1;
        let record = self.record(&mut fields);
        if record.is_ok() {
            self.fields = Some(fields);
        }
        Some(record)
    }
}

/// A block in the making, filled straight from borrowed messages.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    ranges: Vec<Range>,
    records: Vec<u8>,
    count: u32,
    range_bytes: usize,
}

impl BlockBuilder {
    /// An empty one.
    pub fn new() -> BlockBuilder {
        BlockBuilder::default()
    }

    /// An empty one that writes its records into `buffer`, for its capacity.
    pub fn with_buffer(mut buffer: Vec<u8>) -> BlockBuilder {
        buffer.clear();
        BlockBuilder { records: buffer, ..BlockBuilder::default() }
    }

    /// Opens the range of a partition that stands at `from`. Once for each partition in a block.
    pub fn range(&mut self, partition: &Partition, topic_id: TopicId, from: i64) -> usize {
        self.range_bytes += BlockBuilder::range_cost(partition);
        self.ranges.push(Range { partition: partition.clone(), topic_id, from, next: from, count: 0 });
        self.ranges.len() - 1
    }

    /// Takes a record into `range`. Its offset is not below the range's `next`, and not the last that there is.
    pub fn push(&mut self, range: usize, message: &Message<'_>) {
        let Some(open) = self.ranges.get_mut(range) else { return };
        debug_assert!(message.offset >= open.next, "offsets rise within a range");
        open.next = message.offset.saturating_add(1);
        open.count += 1;
        self.count += 1;
        let mut fixed = [0; RECORD];
        let index = u16::try_from(range).unwrap_or(u16::MAX);
        let headers = u32::try_from(message.headers.len()).unwrap_or(u32::MAX);
        fixed[0..2].copy_from_slice(&index.to_le_bytes());
        fixed[2] = message.timestamp_type;
        fixed[4..8].copy_from_slice(&headers.to_le_bytes());
        fixed[8..16].copy_from_slice(&message.offset.to_le_bytes());
        fixed[16..24].copy_from_slice(&message.timestamp.to_le_bytes());
        fixed[24..28].copy_from_slice(&nullable_len(message.key).to_le_bytes());
        fixed[28..32].copy_from_slice(&nullable_len(message.value).to_le_bytes());
        self.records.extend_from_slice(&fixed);
        self.records.extend_from_slice(message.key.unwrap_or_default());
        self.records.extend_from_slice(message.value.unwrap_or_default());
        for (name, value) in message.headers {
            self.records.extend_from_slice(&nullable_len(Some(name)).to_le_bytes());
            self.records.extend_from_slice(&nullable_len(*value).to_le_bytes());
            self.records.extend_from_slice(name);
            self.records.extend_from_slice(value.unwrap_or_default());
        }
    }

    /// Declares that nothing more comes below `next` in `range`.
    pub fn advance(&mut self, range: usize, next: i64) {
        if let Some(open) = self.ranges.get_mut(range) {
            open.next = open.next.max(next);
        }
    }

    /// Whether it covers nothing at all.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Records taken.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether no further range can be opened.
    pub fn is_full(&self) -> bool {
        self.ranges.len() >= MAX_RANGES
    }

    /// The bytes of the block if it were sealed now.
    pub fn bytes(&self) -> usize {
        HEAD + self.range_bytes + self.records.len()
    }

    /// The bytes by which a range of `partition` makes it grow.
    pub(super) fn range_cost(partition: &Partition) -> usize {
        RANGE + partition.topic.len()
    }

    /// The bytes by which `message` makes it grow, its range included.
    pub fn cost(message: &Message<'_>) -> usize {
        let headers: usize = message.headers.iter().map(|(n, v)| HEADER + n.len() + v.map_or(0, <[u8]>::len)).sum();
        let data = message.key.map_or(0, <[u8]>::len) + message.value.map_or(0, <[u8]>::len);
        BlockBuilder::range_cost(message.partition) + RECORD + data + headers
    }

    /// Ends it.
    pub fn seal(self) -> SealedBlock {
        let mut head = Vec::with_capacity(HEAD + self.range_bytes);
        entry::put_head(&mut head, entry::BLOCK);
        let ranges = u32::try_from(self.ranges.len()).unwrap_or(u32::MAX);
        head.extend_from_slice(&ranges.to_le_bytes());
        head.extend_from_slice(&self.count.to_le_bytes());
        for range in &self.ranges {
            head.extend_from_slice(&range.from.to_le_bytes());
            head.extend_from_slice(&range.next.to_le_bytes());
            head.extend_from_slice(&range.count.to_le_bytes());
            put_topic(&mut head, &range.partition, range.topic_id);
        }
        SealedBlock { head, records: self.records, ranges: self.ranges, count: self.count }
    }
}

/// A block that is ended and not yet appended.
#[derive(Clone, Debug)]
#[must_use = "a sealed block that is dropped is not in the log"]
pub struct SealedBlock {
    head: Vec<u8>,
    records: Vec<u8>,
    ranges: Vec<Range>,
    count: u32,
}

impl SealedBlock {
    /// Its bytes, to be appended as one record.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head, &self.records]
    }

    /// What it covers.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it holds ranges alone.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of [`parts`](SealedBlock::parts) together.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.records.len()
    }

    /// Gives the larger buffer back for the next block.
    pub fn into_buffer(self) -> Vec<u8> {
        self.records
    }
}
