//! The check of a frame's first bytes: CRC-32, eight bytes a step.
//!
//! The same number as `crc32fast` begun from the seed gives, which takes three to five times as long over so few
//! bytes; a scan and an append in memory would spend a quarter of their time there. The way is slicing-by-8 (Kounavis
//! and Berry, "A Systematic Approach to Building High Performance, Software-based, CRC Generators", 2005): the bytes
//! of a step are looked up side by side, one table for each of the eight distances to the end of the step.

/// CRC-32 (ISO-HDLC), reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;

static TABLES: [[u32; 256]; 8] = tables();

/// Table `n` holds what each byte does to the CRC once `n` bytes of zeros have followed it.
#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "the compiler alone evaluates it")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut at = 0;
    while at < 8 * 256 {
        let (table, byte) = (at / 256, at % 256);
        // A byte alone, or one byte of zeros after what the table before has for it.
        let mut crc = if table == 0 { at as u32 } else { tables[table - 1][byte] };
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[table][byte] = crc;
        at += 1;
    }
    tables
}

/// CRC-32 of the bytes of the words one after the other, begun from `seed`.
#[inline(always)]
pub(super) fn check(seed: u32, [first, second, third]: [u64; 3]) -> u32 {
    !step(step(step(!seed, first), second), third)
}

#[inline(always)]
#[allow(clippy::indexing_slicing, reason = "no byte lies beyond a table of 256")]
fn step(crc: u32, word: u64) -> u32 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    let [b0, b1, b2, b3, b4, b5, b6, b7] = (word ^ u64::from(crc)).to_le_bytes().map(usize::from);
    t7[b0] ^ t6[b1] ^ t5[b2] ^ t4[b3] ^ t3[b4] ^ t2[b5] ^ t1[b6] ^ t0[b7]
}

/// What each byte of a CRC was before four bytes of zeros.
static UNDONE: [[u32; 256]; 4] = undone();

#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "the compiler alone evaluates it")]
const fn undone() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut at = 0;
    while at < 4 * 256 {
        let (table, byte) = (at / 256, at % 256);
        let mut crc = (byte as u32) << (8 * table);
        let mut bit = 0;
        while bit < 32 {
            // The polynomial, and nothing else, sets the highest bit: so it tells what the lowest was.
            crc = if crc >> 31 == 1 { (crc ^ POLYNOMIAL) << 1 | 1 } else { crc << 1 };
            bit += 1;
        }
        tables[table][byte] = crc;
        at += 1;
    }
    tables
}

/// What the CRC was before four bytes of zeros.
#[inline(always)]
#[allow(clippy::indexing_slicing, reason = "no byte lies beyond a table of 256")]
pub(super) fn undo(crc: u32) -> u32 {
    let [t0, t1, t2, t3] = &UNDONE;
    let [b0, b1, b2, b3] = crc.to_le_bytes().map(usize::from);
    t0[b0] ^ t1[b1] ^ t2[b2] ^ t3[b3]
}

impl super::FrameHeader {
    /// The seed under which the check in these bytes holds, XOR the offset at which it does: one of the two gives the
    /// other. A CRC can be walked back, and the offset is what the seed meets first.
    #[inline]
    pub(crate) fn seed_xor_offset(frame: &[u8; super::FRAME as usize]) -> u32 {
        let mut words = frame.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
        let check = words.next().unwrap_or_default();
        !undo(words.rev().fold(!check, |crc, word| undo(crc) ^ word))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{FrameHeader, FrameKind};
    use super::check;

    proptest! {
        #[test]
        fn a_frame_tells_the_offset_by_the_seed_and_the_seed_by_the_offset(
            seed: u32, offset: u32, length in 0_u32..1 << 28, time: u64, sum: u32, more: bool, durable: u64
        ) {
            let header = FrameHeader::new(FrameKind::Record, more, length, time, sum, durable ^ 77, durable);
            let bytes = header.encode(seed, offset);
            prop_assert_eq!(FrameHeader::seed_xor_offset(&bytes), seed ^ offset);
        }

        #[test]
        fn any_bytes_are_a_frame_of_the_seed_that_they_tell(mut bytes: [u8; 24], offset: u32) {
            bytes[7] |= 0x10;
            let seed = FrameHeader::seed_xor_offset(&bytes) ^ offset;
            prop_assert!(FrameHeader::decode(&bytes, seed, offset).is_some());
            prop_assert!(FrameHeader::decode(&bytes, seed ^ 1, offset).is_none());
        }
    }

    #[test]
    fn the_same_number_as_crc32fast() {
        let mut number = 1_u64;
        for _ in 0..if cfg!(miri) { 100 } else { 10_000 } {
            let words = [(); 3].map(|()| {
                number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                number ^ number >> 29
            });
            let begun = u32::try_from(number >> 32).unwrap();
            let mut hasher = crc32fast::Hasher::new_with_initial(begun);
            words.iter().for_each(|word| hasher.update(&word.to_le_bytes()));
            assert_eq!(check(begun, words), hasher.finalize());
        }
    }
}
