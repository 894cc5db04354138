//! What the first frame of a segment says, and the cursors in it.

use super::{BLOCK, CAPACITY, CURSOR_NAME, LINK, MAX_CURSORS, NO_BASE, u32_at, u64_at};

/// A named place that cleaning does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) lsn: u64,
    pub(crate) name: String,
}

impl Cursor {
    /// Bytes that one with such a name takes.
    pub(crate) fn size(name: &str) -> u64 {
        9 + name.len() as u64
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.push(u8::try_from(self.name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.name.as_bytes());
    }

    /// One cursor at the start of `bytes`, and what follows it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Cursor, &[u8])> {
        let (lsn, length) = (u64_at(bytes, 0)?, usize::from(*bytes.get(8)?));
        let name = bytes.get(9..9 + length).filter(|name| CURSOR_NAME.contains(&name.len()))?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        Some((Cursor { lsn, name }, bytes.get(9 + length..)?))
    }
}

/// How a segment ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The LSN past its last frame.
    pub(crate) end: u64,
    pub(crate) records: u64,
    /// The last record of the log up to here, be it in a segment before; 0 if there is none.
    pub(crate) last_record: u64,
    pub(crate) min_time: u64,
    pub(crate) max_time: u64,
}

/// What the first frame of a segment says of all before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) prev_base: u64,
    pub(crate) prev_end: u64,
    pub(crate) prev_seed: u32,
    pub(crate) prev_records: u64,
    pub(crate) prev_min_time: u64,
    pub(crate) prev_max_time: u64,
    pub(crate) front: u64,
    pub(crate) checkpoint: u64,
    pub(crate) records_before: u64,
    /// The last record before, be it cleaned long ago; 0 if there was none.
    pub(crate) last_record: u64,
    pub(crate) cursors: Vec<Cursor>,
}

impl Link {
    /// Its payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LINK);
        out.extend_from_slice(&self.prev_base.to_le_bytes());
        out.extend_from_slice(&self.prev_end.to_le_bytes());
        out.extend_from_slice(&u64::from(self.prev_seed).to_le_bytes());
        for number in [
            self.prev_records,
            self.prev_min_time,
            self.prev_max_time,
            self.front,
            self.checkpoint,
            self.records_before,
            self.last_record,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        debug_assert!(self.cursors.len() <= MAX_CURSORS, "a link has room for no more");
        self.cursors.iter().for_each(|cursor| cursor.encode_into(&mut out));
        out
    }

    /// The link in the payload of a valid frame. Zeros up to its end are no cursor.
    pub(crate) fn decode(payload: &[u8]) -> Option<Link> {
        let mut cursors = Vec::new();
        let mut rest = payload.get(LINK..)?;
        while rest.iter().any(|byte| *byte != 0) {
            let (cursor, after) = Cursor::decode(rest)?;
            cursors.push(cursor);
            rest = after;
        }
        let link = Link {
            prev_base: u64_at(payload, 0)?,
            prev_end: u64_at(payload, 8)?,
            prev_seed: u32_at(payload, 16)?,
            prev_records: u64_at(payload, 24)?,
            prev_min_time: u64_at(payload, 32)?,
            prev_max_time: u64_at(payload, 40)?,
            front: u64_at(payload, 48)?,
            checkpoint: u64_at(payload, 56)?,
            records_before: u64_at(payload, 64)?,
            last_record: u64_at(payload, 72)?,
            cursors,
        };
        link.is_sound().then_some(link)
    }

    /// Whether it can be the link of the segment at `base`: no log has a predecessor that is not below, nor has it cleaned
    /// what is to come.
    pub(crate) fn lies_at(&self, base: u64) -> bool {
        let below = self.prev_base == NO_BASE || self.prev_base < base && self.prev_end <= base;
        below && self.front <= base
    }

    /// How it says that the segment before it ended.
    pub(crate) fn seal(&self) -> Seal {
        Seal {
            end: self.prev_end,
            records: self.prev_records,
            last_record: self.last_record,
            min_time: self.prev_min_time,
            max_time: self.prev_max_time,
        }
    }

    /// Whether its numbers can be: its checksums hold, but no log may be counted or cut by what none would write.
    fn is_sound(&self) -> bool {
        let prev = self.prev_base.checked_add(u64::from(BLOCK)).is_none_or(|first| {
            (first..=first.saturating_add(*CAPACITY.end())).contains(&self.prev_end)
                && self.prev_records <= self.records_before
                && self.last_record < self.prev_end
                && self.prev_base.is_multiple_of(u64::from(BLOCK))
        });
        prev && self.records_before <= u64::MAX / 2
    }
}
