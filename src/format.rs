//! The bytes of the log, version 1: the specification, and encoding and decoding on slices. No I/O.
//!
//! All numbers are little endian. *d* is the durable point: every byte of the log below it has been through
//! a successful sync. Every claim about *d* is written after the sync it speaks of, so a claim that can be read
//! is true.
//!
//! # A segment
//!
//! A file named by its base LSN in 20 digits, `00000000000067108864.wal`. The LSN of a byte is the base plus its
//! offset in the file.
//!
//! ```text
//!  0           4096                                                    capacity
//!  +-----------+--------------+---------+---------+-----+-------------------+
//!  | header    | link (frame) | frame   | frame   | ... | zeros, or what an |
//!  | and zeros |              |         |         |     | earlier life left |
//!  +-----------+--------------+---------+---------+-----+-------------------+
//! ```
//!
//! # The header
//!
//! One block of 4096 bytes, written and synced before the file gets its name, never written again under it.
//!
//! ```text
//!   0  magic       8   89 53 45 41 57 0d 0a 1a   ("\x89SEAW\r\n\x1a")
//!   8  version     2   1                              these four fields never move, and the checksum stays
//!  10  length      2   72                             CRC-32 in every version: so that "too new" is told
//!  12  checksum    4   over 0..12 and 16..length      from "damaged"
//!  16  features        compatible 4, read-only compatible 4, incompatible 4
//!  28  algorithm   1   of the frame checksums: 1 = CRC-32 (ISO-HDLC)         29  zero 3
//!  32  log id     16   random, equal in all segments of a log
//!  48  base        8   equals the name
//!  56  capacity    8   16 KiB ..= 1 GiB, a multiple of 4096
//!  64  salt        8   random; drawn again if `checksum` would repeat the one that the file had before
//! ```
//!
//! The *seed* of a segment is its header's `checksum`.
//!
//! A segment that a repair wrote anew says in the same block what is left in it, for the next link counts what was lost
//! too:
//!
//! ```text
//! 512  check 4   CRC-32 begun from the seed, over 516..544
//! 516  "left" 4     520  records 8     528  least batch time 8     536  highest batch time 8
//! ```
//!
//! # A frame
//!
//! 24 bytes, the payload, zeros to a multiple of 4. Frames lie without gaps from offset 4096.
//!
//! ```text
//!  0        4        8                 16       20       24
//!  +--------+--------+-----------------+--------+--------+--------------+-----+
//!  | check  | word   | batch time      | behind | sum    | payload      | 0-3 |
//!  +--------+--------+-----------------+--------+--------+--------------+-----+
//!  check   CRC-32 begun from the seed, over the frame's offset in the file (u32) and bytes 4..24
//!  word    bits 0..28 length of the payload | bits 28..31 kind | bit 31: the batch goes on in the next frame
//!  behind  lsn - d when it was framed; ffff_ffff claims nothing
//!  sum     CRC-32 of the payload
//! ```
//!
//! Kinds: 1 record, 2 checkpoint, 3 link, 4 cursor note, 5 gap. Kind 0 is never valid, so zeros are no frame. A valid
//! frame of another kind was written by a newer version. `length` means nothing until `check` holds.
//!
//! A *gap* stands where a repair passed over what was lost: its payload is zeros, as many as it takes to the next
//! frame. Of more than 2^28 bytes there are several.
//!
//! A *batch* is the frames with the last bit of `word` set, up to and including the first without. It exists if
//! all its frames are valid. All of it lies in one segment.
//!
//! # The link
//!
//! The first frame of a used segment, a batch of its own, at most 4096 bytes. It seals the predecessor; its batch
//! time is the highest so far.
//!
//! ```text
//!   0  prev base 8 (all ones: none)   8  prev end 8    16  prev seed 4   20  zero 4   24  prev records 8
//!  32  prev min time 8               40  prev max time 8
//!  48  front 8: all below is cleaned 56  last checkpoint 8 (0: none)     64  records before this segment 8
//!  72  last record 8: before this segment (0: none)
//!  80  cursors: (lsn 8, length 1, name)*, at most 16 of 1 to 200 bytes; then zeros, which mean nothing
//! ```
//!
//! Only a repair writes such zeros: less than 24 of them, where its link is shorter than the one that it takes the place
//! of and a gap would not fit behind it.
//!
//! A predecessor's base is one of blocks, and it reaches no higher than the segment's base, nor is the front above that: a
//! frame that says so is no link.
//!
//! A *cursor note* is one such cursor; the LSN 0 removes it.
//!
//! # MARK
//!
//! A file of two slots, at 0 and 4096; the slot with the higher valid sequence holds. `sequence & 1` is the slot. What is
//! not synced is never written over the slot that the front was synced in last.
//!
//! ```text
//!   0  magic     8   89 53 45 41 4d 0d 0a 1a
//!   8  log id   16      24  sequence 8      32  synced 8: d       40  shown 8: what readers may see
//!  48  front     8      56  zero     4      60  CRC-32 over 0..60
//! ```
//!
//! # An example
//!
//! A segment at base 65536 with seed `0123_4567`, d = 65536, and the record `hello` under batch time 7 at offset
//! 4096 (`tests::frame_of_the_specification` holds these bytes):
//!
//! ```text
//!  9a f3 3a cd  05 00 00 10  07 00 00 00 00 00 00 00  00 10 00 00  86 a6 10 36  68 65 6c 6c 6f 00 00 00
//!  check        length 5,    batch time 7             behind 4096  sum          h  e  l  l  o
//!               kind 1
//! ```

mod check;
mod left;
mod link;
mod mend;
mod names;

use std::sync::LazyLock;

use crc32fast::Hasher;

use check::{check, undo};
pub(crate) use left::Left;
pub(crate) use link::{Cursor, Link, Seal};
pub(crate) use mend::is_elsewhere;
pub(crate) use names::{aside_of, base_in, is_unfinished, segment_base, segment_name, unfinished_name, was_unfinished};

/// Bytes of the block that holds a header; the offset of the first frame.
pub(crate) const BLOCK: u32 = 4096;
/// Bytes of a frame before its payload.
pub(crate) const FRAME: u32 = 24;
/// Payloads are shorter than this.
pub(crate) const MAX_PAYLOAD: u64 = 1 << 28;
/// What a segment holds at most beside its header and link.
pub(crate) const OVERHEAD: u64 = HEAD as u64;
/// Bytes that hold the header and the link.
pub(crate) const HEAD: usize = 8192;
/// The least and the largest capacity.
pub(crate) const CAPACITY: std::ops::RangeInclusive<u64> = 16 << 10..=1 << 30;
/// Cursors of a log at most.
pub(crate) const MAX_CURSORS: usize = 16;
/// Bytes of a cursor's name.
pub(crate) const CURSOR_NAME: std::ops::RangeInclusive<usize> = 1..=200;
/// The name of MARK.
pub(crate) const MARK: &str = "MARK";
/// Bytes of a slot of MARK that mean something.
pub(crate) const MARK_SLOT: usize = 64;
/// Bytes of MARK.
pub(crate) const MARK_LEN: u64 = 2 * BLOCK as u64;
/// `prev base` of the first segment of a log.
pub(crate) const NO_BASE: u64 = u64::MAX;

const VERSION: u16 = 1;
const HEADER: usize = 72;
const HEADER_LEN: u16 = 72;
/// Bytes of a link's payload without cursors.
pub(crate) const LINK: usize = 80;
const CRC32: u8 = 1;
const SEGMENT_MAGIC: [u8; 8] = *b"\x89SEAW\r\n\x1a";
const MARK_MAGIC: [u8; 8] = *b"\x89SEAM\r\n\x1a";
const CLAIMS_NOTHING: u32 = u32::MAX;

/// The little-endian bytes at `at`, or `None` beyond the end.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

/// The number whose bytes are those of the two.
fn pair(first: u32, second: u32) -> u64 {
    u64::from(second) << 32 | u64::from(first)
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Features that whoever does not know them can do without.
    pub(crate) compatible: u32,
    pub(crate) log_id: [u8; 16],
    pub(crate) base: u64,
    pub(crate) capacity: u64,
    pub(crate) salt: u64,
}

/// Why a block is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Not one, or damaged.
    Bad,
    /// A newer version's.
    TooNew,
}

impl Header {
    /// The header's bytes; the rest of the block is zero. Its checksum is the segment's seed.
    pub(crate) fn encode(&self) -> ([u8; HEADER], u32) {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&HEADER_LEN.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.compatible.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&[CRC32, 0, 0, 0]);
        out.extend_from_slice(&self.log_id);
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(&out);
        let seed = header_checksum(&bytes).unwrap_or_default();
        if let Some(checksum) = bytes.get_mut(12..16) {
            checksum.copy_from_slice(&seed.to_le_bytes());
        }
        (bytes, seed)
    }

    /// The same with the salt that gives it this seed: for a segment whose header is lost, and whose frames hold under
    /// the seed alone.
    pub(crate) fn with_seed(self, seed: u32) -> Header {
        let (bytes, _) = Header { salt: 0, ..self }.encode();
        // The last four bytes of the salt are the last that the checksum is over: what they make of the CRC before
        // them is the same as what zeros make of the CRC with them in it.
        let mut hasher = Hasher::new();
        hasher.update(&bytes[..12]);
        hasher.update(&bytes[16..HEADER - 4]);
        let last = !hasher.finalize() ^ undo(!seed);
        Header { salt: u64::from(last) << 32, ..self }
    }

    /// The header at the start of `block`, and its seed.
    pub(crate) fn decode(block: &[u8]) -> Result<(Header, u32), BadHeader> {
        Header::parse(block).unwrap_or(Err(BadHeader::Bad))
    }

    /// The checksum of the header at the start of `block`, and the one that it bears; `None` without a length.
    pub(crate) fn sums(block: &[u8]) -> Option<(u32, u32)> {
        Some((header_checksum(block)?, u32_at(block, 12)?))
    }

    fn parse(block: &[u8]) -> Option<Result<(Header, u32), BadHeader>> {
        let seed = u32_at(block, 12)?;
        if field(block, 0)? != SEGMENT_MAGIC || header_checksum(block)? != seed {
            return None;
        }
        let unknown_features = u32_at(block, 20)? != 0 || u32_at(block, 24)? != 0;
        if u16_at(block, 8)? != VERSION || unknown_features || field(block, 28)? != [CRC32, 0, 0, 0] {
            return Some(Err(BadHeader::TooNew));
        }
        let header = Header {
            compatible: u32_at(block, 16)?,
            log_id: field(block, 32)?,
            base: u64_at(block, 48)?,
            capacity: u64_at(block, 56)?,
            salt: u64_at(block, 64)?,
        };
        let sound = CAPACITY.contains(&header.capacity)
            && header.capacity.is_multiple_of(u64::from(BLOCK))
            && header.base.is_multiple_of(u64::from(BLOCK))
            && header.base.checked_add(header.capacity).is_some();
        sound.then_some(Ok((header, seed)))
    }
}

/// The checksum that a header ought to have; `None` if its length is none.
fn header_checksum(block: &[u8]) -> Option<u32> {
    let length = usize::from(u16_at(block, 10)?);
    let mut hasher = Hasher::new();
    hasher.update(block.get(..12)?);
    hasher.update(block.get(16..length.min(BLOCK as usize))?);
    Some(hasher.finalize())
}

/// What the seed of the segment at `base` may have been whose header is damaged: the checksum stored in it, and its
/// own. None if the header is not that of this place: another segment's frames would hold under its seed.
pub(crate) fn seeds(block: &[u8], base: u64) -> impl Iterator<Item = u32> {
    let mut named = block.get(..HEADER).unwrap_or_default().to_vec();
    if let Some(place) = named.get_mut(48..56) {
        place.copy_from_slice(&base.to_le_bytes());
    }
    let own = u64_at(block, 48) == Some(base) || Header::decode(&named).is_ok();
    [u32_at(block, 12), header_checksum(block)].into_iter().flatten().filter(move |_| own)
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FrameKind {
    Record = 1,
    Checkpoint = 2,
    Link = 3,
    CursorNote = 4,
    Gap = 5,
}

impl FrameKind {
    /// Whether it is what a caller appended.
    #[inline]
    pub(crate) fn is_record(self) -> bool {
        matches!(self, FrameKind::Record | FrameKind::Checkpoint)
    }
}

/// The first 24 bytes of a frame whose `check` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// `None`: of a newer version.
    pub(crate) kind: Option<FrameKind>,
    /// Whether the batch goes on in the next frame.
    pub(crate) more: bool,
    pub(crate) length: u32,
    pub(crate) batch_time: u64,
    /// How far the log was known durable, as a distance down from this frame.
    behind: u32,
    pub(crate) sum: u32,
}

/// Bytes that a frame with such a payload takes.
pub(crate) fn frame_size(length: u64) -> u64 {
    u64::from(FRAME) + length.next_multiple_of(4)
}

/// CRC-32 of a payload.
#[inline]
pub(crate) fn sum(payload: &[u8]) -> u32 {
    // Making a hasher asks what the processor can do: a fifth of the time over 100 bytes.
    static BLANK: LazyLock<Hasher> = LazyLock::new(Hasher::new);
    let mut hasher = BLANK.clone();
    hasher.update(payload);
    hasher.finalize()
}

/// CRC-32 of as many zeros.
pub(crate) fn zeros_sum(length: u64) -> u32 {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut hasher = Hasher::new();
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        hasher.update(ZEROS.get(..most).unwrap_or_default());
        left -= most as u64;
    }
    hasher.finalize()
}

impl FrameHeader {
    /// Whether it is what a caller appended.
    pub(crate) fn is_record(&self) -> bool {
        self.kind.is_some_and(FrameKind::is_record)
    }

    /// The header of a frame at `lsn`, claiming that the log is durable up to `durable`.
    #[inline]
    pub(crate) fn new(
        kind: FrameKind,
        more: bool,
        length: u32,
        batch_time: u64,
        sum: u32,
        lsn: u64,
        durable: u64,
    ) -> Self {
        // A claim that does not fit claims nothing: a smaller distance would claim too much.
        let behind = lsn.checked_sub(durable).and_then(|far| u32::try_from(far).ok()).unwrap_or(CLAIMS_NOTHING);
        FrameHeader { kind: Some(kind), more, length, batch_time, behind, sum }
    }

    /// The header of a frame that claims nothing and is a batch of its own.
    pub(crate) fn unclaimed(kind: FrameKind, length: u32, batch_time: u64, sum: u32) -> Self {
        FrameHeader { kind: Some(kind), more: false, length, batch_time, behind: CLAIMS_NOTHING, sum }
    }

    /// The same, with the claim that all before it is durable.
    pub(crate) fn claiming(self) -> Self {
        FrameHeader { behind: 0, ..self }
    }

    /// Its bytes at `offset` of a segment with `seed`.
    #[inline]
    pub(crate) fn encode(&self, seed: u32, offset: u32) -> [u8; FRAME as usize] {
        let kind = self.kind.map_or(0, |kind| kind as u32);
        let word = self.length | kind << 28 | u32::from(self.more) << 31;
        let words = |first: u32| [pair(first, word), self.batch_time, pair(self.behind, self.sum)];
        let [head, time, tail] = words(check(seed, words(offset))).map(u64::to_le_bytes);
        let mut bytes = [0; FRAME as usize];
        bytes[0..8].copy_from_slice(&head);
        bytes[8..16].copy_from_slice(&time);
        bytes[16..24].copy_from_slice(&tail);
        bytes
    }

    /// The header at `offset` of a segment with `seed`, if its check holds.
    #[inline]
    pub(crate) fn decode(bytes: &[u8], seed: u32, offset: u32) -> Option<FrameHeader> {
        let frame: &[u8; FRAME as usize] = bytes.first_chunk()?;
        let header = FrameHeader::unchecked(frame)?;
        let words = [pair(offset, u32_at(frame, 4)?), u64_at(frame, 8)?, u64_at(frame, 16)?];
        let kind = frame[7] >> 4 & 7;
        (kind != 0 && check(seed, words) == u32_at(frame, 0)?).then_some(header)
    }

    /// The check of a frame's first bytes at `offset` of a segment with `seed`, and the one that they bear.
    pub(crate) fn checks(frame: &[u8; FRAME as usize], seed: u32, offset: u32) -> Option<(u32, u32)> {
        let words = [pair(offset, u32_at(frame, 4)?), u64_at(frame, 8)?, u64_at(frame, 16)?];
        Some((check(seed, words), u32_at(frame, 0)?))
    }

    /// The header in a frame's first bytes, whatever its check says.
    #[inline]
    pub(crate) fn unchecked(frame: &[u8; FRAME as usize]) -> Option<FrameHeader> {
        let word = u32_at(frame, 4)?;
        let kind = match word >> 28 & 7 {
            1 => Some(FrameKind::Record),
            2 => Some(FrameKind::Checkpoint),
            3 => Some(FrameKind::Link),
            4 => Some(FrameKind::CursorNote),
            5 => Some(FrameKind::Gap),
            _ => None,
        };
        Some(FrameHeader {
            kind,
            more: word >> 31 == 1,
            length: word & 0x0fff_ffff,
            batch_time: u64_at(frame, 8)?,
            behind: u32_at(frame, 16)?,
            sum: u32_at(frame, 20)?,
        })
    }

    /// How far it says that the log was durable, if it says so; it lies at `lsn`.
    pub(crate) fn claim(&self, lsn: u64) -> Option<u64> {
        if self.behind == CLAIMS_NOTHING { None } else { lsn.checked_sub(u64::from(self.behind)) }
    }
}

/// A slot of MARK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) log_id: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) synced: u64,
    pub(crate) shown: u64,
    pub(crate) front: u64,
}

impl Mark {
    /// Its bytes, and where in the file they go.
    pub(crate) fn encode(&self) -> ([u8; MARK_SLOT], u64) {
        let mut bytes = [0; MARK_SLOT];
        bytes[..8].copy_from_slice(&MARK_MAGIC);
        bytes[8..24].copy_from_slice(&self.log_id);
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.synced.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.shown.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.front.to_le_bytes());
        let crc = sum(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        (bytes, (self.sequence & 1) * u64::from(BLOCK))
    }

    /// The slot at the start of `bytes`, if it is whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Mark> {
        if field(bytes, 0)? != MARK_MAGIC || sum(bytes.get(..60)?) != u32_at(bytes, 60)? {
            return None;
        }
        Some(Mark {
            log_id: field(bytes, 8)?,
            sequence: u64_at(bytes, 24)?,
            synced: u64_at(bytes, 32)?,
            shown: u64_at(bytes, 40)?,
            front: u64_at(bytes, 48)?,
        })
    }
}

#[cfg(test)]
mod tests;
