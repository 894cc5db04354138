//! What a repair says of a segment that it wrote anew, beside its header.

use crc32fast::Hasher;

use super::{Seal, field, u64_at};

const AT: usize = 512;
const SIZE: usize = 32;
const WORD: [u8; 4] = *b"left";

/// The records that are left in a segment, and the span of their batch times. The next link counts what was lost too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) records: u64,
    pub(crate) min_time: u64,
    pub(crate) max_time: u64,
}

impl Left {
    /// Where it lies in the header's block.
    pub(crate) const AT: u64 = AT as u64;

    /// Its bytes, and where in the segment they lie.
    pub(crate) fn encode(&self, seed: u32) -> (u64, Vec<u8>) {
        let mut out = WORD.to_vec();
        for number in [self.records, self.min_time, self.max_time] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let check = check(seed, &out);
        (Left::AT, [&check.to_le_bytes()[..], &out].concat())
    }

    /// The one in a header's block, if there is one.
    pub(crate) fn decode(block: &[u8], seed: u32) -> Option<Left> {
        let bytes = block.get(AT..AT + SIZE)?;
        let (stored, said) = bytes.split_first_chunk()?;
        let holds = u32::from_le_bytes(*stored) == check(seed, said) && field(said, 0) == Some(WORD);
        let (records, min_time, max_time) = (u64_at(said, 4)?, u64_at(said, 12)?, u64_at(said, 20)?);
        holds.then_some(Left { records, min_time, max_time })
    }

    /// Whether there is one in a header's block, be it damaged: nothing else writes there.
    pub(crate) fn is_written(block: &[u8]) -> bool {
        block.get(AT..AT + SIZE).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
    }

    /// How the segment ended, of which the next link says `seal`: with what is left, unless the log ended earlier since.
    pub(crate) fn seal(&self, seal: Seal) -> Seal {
        let Left { records, min_time, max_time } = *self;
        if records < seal.records { Seal { records, min_time, max_time, ..seal } } else { seal }
    }
}

fn check(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_ended_as_the_link_says_but_for_what_is_left() {
        let left = Left { records: 7, min_time: 3, max_time: 90 };
        let seal = Seal { end: 5000, last_record: 4800, records: 8, min_time: 2, max_time: 99 };
        assert_eq!(left.seal(seal), Seal { records: 7, min_time: 3, max_time: 90, ..seal });
        // The log ended before all that was left.
        let less = Seal { records: 7, ..seal };
        assert_eq!(left.seal(less), less);
    }

    #[test]
    fn what_is_left_is_read_under_its_seed_alone() {
        let left = Left { records: 7, min_time: 3, max_time: u64::MAX };
        let (_, bytes) = left.encode(0x0123_4567);
        let mut block = vec![0; 4096];
        assert_eq!(Left::decode(&block, 0x0123_4567), None);
        assert!(!Left::is_written(&block));
        block.splice(AT..AT + bytes.len(), bytes);
        assert_eq!((Left::decode(&block, 0x0123_4567), Left::decode(&block, 7)), (Some(left), None));
        block[520] ^= 1;
        assert_eq!(Left::decode(&block, 0x0123_4567), None);
        assert!(Left::is_written(&block));
    }
}
