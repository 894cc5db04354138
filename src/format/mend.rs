//! Headers of which one byte is wrong: their checks tell which.

use std::sync::LazyLock;

use super::{FRAME, FrameHeader, HEADER, Header};

/// The bytes with one of the masks laid over one of the places, in turn.
pub(crate) fn mendings<const N: usize>(
    bytes: [u8; N],
    places: impl Iterator<Item = usize>,
    masks: impl Iterator<Item = u8> + Clone,
) -> impl Iterator<Item = [u8; N]> {
    let wrong = places.flat_map(move |at| masks.clone().map(move |mask| (at, mask)));
    wrong.map(move |(at, mask)| {
        let mut mended = bytes;
        mended.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
        mended
    })
}

impl FrameHeader {
    /// Its bytes at `offset` of a segment with `seed`, if its check holds with one of them put right. That it does so by
    /// chance is one case in 2^32 for each of the 6120 that are tried.
    pub(crate) fn mended(frame: &[u8; FRAME as usize], seed: u32, offset: u32) -> Option<[u8; FRAME as usize]> {
        let mut all = mendings(*frame, 0..frame.len(), 1..=u8::MAX);
        all.find(|bytes| FrameHeader::decode(bytes, seed, offset).is_some())
    }
}

impl Header {
    /// A header and its seed, be one byte of it wrong: its checksum tells which.
    pub(crate) fn read(block: &[u8]) -> Option<(Header, u32)> {
        Header::decode(block).ok().or_else(|| Header::mended(block))
    }

    /// A header of which one byte is wrong.
    pub(crate) fn mended(block: &[u8]) -> Option<(Header, u32)> {
        let mut bytes: [u8; HEADER] = block.first_chunk().copied()?;
        let sample = Header::sample();
        let mut others = alike().filter(|at| bytes.get(*at) != sample.get(*at));
        let (at, mask) = match (others.next(), others.next()) {
            (_, Some(_)) => return None,
            (Some(at), None) => (at, bytes.get(at)? ^ sample.get(at)?),
            (None, None) => {
                let (own, borne) = Header::sums(&bytes)?;
                let found = WRONG.binary_search_by_key(&(own ^ borne), |wrong| wrong.difference).ok()?;
                WRONG.get(found).map(|wrong| (usize::from(wrong.at), wrong.mask))?
            }
        };
        *bytes.get_mut(at)? ^= mask;
        Header::decode(&bytes).ok()
    }

    fn sample() -> [u8; HEADER] {
        Header { compatible: 0, log_id: [0; 16], base: 0, capacity: 0, salt: 0 }.encode().0
    }
}

/// Where all headers are alike.
fn alike() -> impl Iterator<Item = usize> {
    (0..12).chain(20..32)
}

/// What one wrong byte makes of a header.
#[derive(Clone, Copy, Default)]
struct Wrong {
    /// Its own checksum XOR the one that it bears. CRC-32 is linear: that does not depend on the other bytes.
    difference: u32,
    at: u8,
    mask: u8,
}

/// Wherever headers are not alike, by the difference.
static WRONG: LazyLock<[Wrong; 48 * 255]> = LazyLock::new(|| {
    let places = (0..HEADER).filter(|at| alike().all(|other| other != *at));
    let masks = places.flat_map(|at| (1..=u8::MAX).map(move |mask| (at, mask)));
    let mut all = [Wrong::default(); 48 * 255];
    for (wrong, (at, mask)) in all.iter_mut().zip(masks) {
        let mut bytes = Header::sample();
        bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
        let difference = Header::sums(&bytes).map_or(0, |(own, borne)| own ^ borne);
        *wrong = Wrong { difference, at: u8::try_from(at).unwrap_or(0), mask };
    }
    all.sort_unstable_by_key(|wrong| wrong.difference);
    all
});

#[cfg(test)]
mod tests {
    use super::super::FrameKind;
    use super::*;

    /// Two of them with one check would leave open which of them it was.
    #[test]
    fn no_two_wrong_bytes_of_a_frames_header_have_one_check() {
        let header = FrameHeader::unclaimed(FrameKind::Record, 100, 7, 9);
        let frame = header.encode(5, 4096);
        let mut differences = std::collections::HashSet::new();
        for wrong in mendings(frame, 0..frame.len(), 1..=u8::MAX) {
            let (own, borne) = FrameHeader::checks(&wrong, 5, 4096).unwrap();
            assert!(differences.insert(own ^ borne), "{wrong:?}");
            assert_eq!(FrameHeader::mended(&wrong, 5, 4096), Some(frame));
        }
    }

    /// Two of them with one checksum would leave open which of them it was.
    #[test]
    fn no_two_wrong_bytes_of_a_header_have_one_checksum() {
        let (header, seed) =
            Header { compatible: 0, log_id: [7; 16], base: 1 << 20, capacity: 1 << 20, salt: 3 }.encode();
        let mut differences = std::collections::HashSet::new();
        for mended in mendings(header, 0..HEADER, 1..=u8::MAX) {
            // A wrong length ends the sum elsewhere, if anywhere.
            if mended[10..12] == header[10..12] {
                let (own, borne) = Header::sums(&mended).unwrap();
                assert!(differences.insert(own ^ borne), "{mended:?}");
            }
        }
        for mended in mendings(header, 0..HEADER, 1..=u8::MAX) {
            assert_eq!(Header::read(&mended).unwrap().1, seed);
        }
    }
}
