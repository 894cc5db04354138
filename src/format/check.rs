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

/// What the words were begun from, if that is their check.
pub(super) fn seed(check: u32, words: [u64; 3]) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of a word")]
    let halves = words.into_iter().rev().flat_map(|word| [(word >> 32) as u32, word as u32]);
    !halves.fold(!check, |crc, half| unstep(crc) ^ half)
}

/// What the CRC was before four bytes of zeros.
pub(super) fn unstep(mut crc: u32) -> u32 {
    for _ in 0..32 {
        // The bit that went out tells whether the polynomial came in, and only the polynomial sets the highest.
        crc = if crc >> 31 == 1 { (crc ^ POLYNOMIAL) << 1 | 1 } else { crc << 1 };
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::{check, seed};

    #[test]
    fn the_same_number_as_crc32fast() {
        let mut number = 1_u64;
        for _ in 0..10_000 {
            let words = [(); 3].map(|()| {
                number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                number ^ number >> 29
            });
            let begun = u32::try_from(number >> 32).unwrap();
            let mut hasher = crc32fast::Hasher::new_with_initial(begun);
            words.iter().for_each(|word| hasher.update(&word.to_le_bytes()));
            assert_eq!(check(begun, words), hasher.finalize());
            assert_eq!(seed(check(begun, words), words), begun);
        }
    }
}
