//! Headers of which one byte is wrong: their checks tell which.
//!
//! CRC-32 is linear: how far a check is off depends on what is wrong, and not on the bytes that are right. So what is wrong is
//! looked up by that.

use std::sync::LazyLock;

use super::{BLOCK, FRAME, FrameHeader, FrameKind, HEADER, Header, header_checksum, u64_at};

impl FrameHeader {
    /// Its bytes at `offset` of a segment with `seed`, if its check holds with one of them put right. That it does so by
    /// chance is one case in 2^32 for each of the 6120 ways in which one may be wrong.
    pub(crate) fn mended(frame: &[u8; FRAME as usize], seed: u32, offset: u32) -> Option<[u8; FRAME as usize]> {
        let (own, borne) = FrameHeader::checks(frame, seed, offset)?;
        let mended = over(*frame, look_up(&*FRAMES, own ^ borne)?);
        FrameHeader::decode(&mended, seed, offset).map(|_| mended)
    }
}

impl Header {
    /// A header and its seed, be one byte of it wrong: its checksum tells which.
    pub(crate) fn read(block: &[u8]) -> Option<(Header, u32)> {
        Header::decode(block).ok().or_else(|| Header::mended(block))
    }

    /// A header of which one byte is wrong.
    pub(crate) fn mended(block: &[u8]) -> Option<(Header, u32)> {
        let mended = match Known::of(block)? {
            Known::PutRight(bytes) => bytes,
            Known::Right(bytes) => {
                let (own, borne) = Header::sums(&bytes)?;
                over(bytes, look_up(&*HEADERS, own ^ borne)?)
            }
        };
        Header::decode(&mended).ok()
    }
}

/// Whether what is left of a header says that the segment of this seed does not lie at `base`: it names another place, and
/// with at most one other byte put right the seed is its checksum. Of more damage it is not known which bytes still hold.
pub(crate) fn is_elsewhere(block: &[u8], seed: u32, base: u64) -> bool {
    let is_seed = |bytes: &[u8; HEADER]| header_checksum(bytes) == Some(seed);
    let is_other = match Known::of(block) {
        None => false,
        Some(Known::PutRight(bytes)) => is_seed(&bytes),
        Some(Known::Right(bytes)) => {
            let wrong = header_checksum(&bytes).and_then(|own| look_up(&*HEADERS, own ^ seed));
            let other = wrong.filter(|wrong| !(48..56).contains(&wrong.at));
            is_seed(&bytes) || other.is_some_and(|wrong| is_seed(&over(bytes, wrong)))
        }
    };
    is_other && u64_at(block, 48) != Some(base)
}

/// A header by the bytes that all have in common.
enum Known {
    /// They are right.
    Right([u8; HEADER]),
    /// One was wrong.
    PutRight([u8; HEADER]),
}

impl Known {
    /// `None` if more are wrong.
    fn of(block: &[u8]) -> Option<Known> {
        let mut bytes: [u8; HEADER] = block.first_chunk().copied()?;
        let common = bytes.iter_mut().zip(sample()).enumerate().filter(|(at, _)| is_common(*at));
        let wrong =
            common.filter(|(_, (byte, right))| **byte != *right).map(|(_, (byte, right))| *byte = right).count();
        match wrong {
            0 => Some(Known::Right(bytes)),
            1 => Some(Known::PutRight(bytes)),
            _ => None,
        }
    }
}

/// Whether the byte there is the same in all headers.
fn is_common(at: usize) -> bool {
    (0..12).contains(&at) || (20..32).contains(&at)
}

fn sample() -> [u8; HEADER] {
    Header { compatible: 0, log_id: [0; 16], base: 0, capacity: 0, salt: 0 }.encode().0
}

/// What is wrong with a byte.
#[derive(Clone, Copy, Default)]
struct Wrong {
    /// The check that the bytes have then XOR the one that they bear.
    difference: u32,
    at: u8,
    /// What is laid over it.
    mask: u8,
}

/// The bytes of headers that are not common to all, and how each may be wrong, by the difference.
static HEADERS: LazyLock<[Wrong; 48 * 255]> = LazyLock::new(|| {
    let difference = |wrong| Header::sums(&over(sample(), wrong)).map(|(own, borne)| own ^ borne);
    by_difference((0..HEADER).filter(|at| !is_common(*at)), difference)
});

/// Those of frames.
static FRAMES: LazyLock<[Wrong; FRAME as usize * 255]> = LazyLock::new(|| {
    let sample = FrameHeader::unclaimed(FrameKind::Record, 0, 0, 0).encode(0, BLOCK);
    let difference = |wrong| FrameHeader::checks(&over(sample, wrong), 0, BLOCK).map(|(own, borne)| own ^ borne);
    by_difference(0..FRAME as usize, difference)
});

fn by_difference<const N: usize>(
    places: impl Iterator<Item = usize>,
    difference: impl Fn(Wrong) -> Option<u32>,
) -> [Wrong; N] {
    let wrong = |at, mask| Wrong { difference: 0, at: u8::try_from(at).unwrap_or(u8::MAX), mask };
    let ways = places.flat_map(|at| (1..=u8::MAX).map(move |mask| wrong(at, mask)));
    let mut all = [Wrong::default(); N];
    for (one, way) in all.iter_mut().zip(ways) {
        *one = Wrong { difference: difference(way).unwrap_or(0), ..way };
    }
    all.sort_unstable_by_key(|wrong| wrong.difference);
    all
}

fn look_up(all: &[Wrong], difference: u32) -> Option<Wrong> {
    let found = all.binary_search_by_key(&difference, |wrong| wrong.difference).ok()?;
    all.get(found).copied()
}

fn over<const N: usize>(mut bytes: [u8; N], wrong: Wrong) -> [u8; N] {
    bytes.iter_mut().skip(usize::from(wrong.at)).take(1).for_each(|byte| *byte ^= wrong.mask);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The bytes with each of them wrong in each way, in turn.
    fn spoiled<const N: usize>(bytes: [u8; N]) -> impl Iterator<Item = (usize, [u8; N])> {
        let ways = (0..N).flat_map(|at| (1..=u8::MAX).map(move |mask| (at, mask)));
        ways.map(move |(at, mask)| (at, over(bytes, Wrong { difference: 0, at: u8::try_from(at).unwrap(), mask })))
    }

    fn header() -> ([u8; HEADER], u32) {
        Header { compatible: 5, log_id: [7; 16], base: 1 << 20, capacity: 1 << 20, salt: 3 }.encode()
    }

    /// Two of them with one check would leave open which of them it was.
    #[test]
    fn no_two_wrong_bytes_of_a_frames_header_have_one_check() {
        let frame = FrameHeader::unclaimed(FrameKind::Record, 100, 7, 9).encode(5, 4096);
        let mut differences = HashSet::new();
        for (_, wrong) in spoiled(frame) {
            let (own, borne) = FrameHeader::checks(&wrong, 5, 4096).unwrap();
            assert!(differences.insert(own ^ borne), "{wrong:?}");
            assert_eq!(FrameHeader::mended(&wrong, 5, 4096), Some(frame));
        }
    }

    /// Two of them with one checksum would leave open which of them it was.
    #[test]
    fn no_two_wrong_bytes_of_a_header_have_one_checksum() {
        let (header, seed) = header();
        let mut differences = HashSet::new();
        for (at, wrong) in spoiled(header) {
            // A wrong length ends the sum elsewhere, if anywhere.
            if !(10..12).contains(&at) {
                let (own, borne) = Header::sums(&wrong).unwrap();
                assert!(differences.insert(own ^ borne), "{wrong:?}");
            }
            assert_eq!(Header::read(&wrong).unwrap().1, seed);
        }
    }

    /// Of two nothing is known.
    #[test]
    fn a_header_of_another_place_says_so_with_one_byte_wrong() {
        let (header, seed) = header();
        assert!(is_elsewhere(&header, seed, 0) && !is_elsewhere(&header, seed ^ 1, 0));
        assert!(!is_elsewhere(&header, seed, 1 << 20));
        for (at, wrong) in spoiled(header) {
            assert_eq!(is_elsewhere(&wrong, seed, 0), !(48..56).contains(&at), "{at}");
            assert!(!is_elsewhere(&wrong, seed, u64_at(&wrong, 48).unwrap()), "{at}");
            if at < 71 {
                let two = over(wrong, Wrong { difference: 0, at: 71, mask: 9 });
                assert!(!is_elsewhere(&two, seed, 0) || (12..16).contains(&at), "{at}");
                assert_eq!(Header::read(&two), None, "{at}");
            }
        }
    }
}
