//! Headers of which one byte is wrong: their checks tell which.

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

/// The masks of which each is one bit.
pub(crate) fn bits() -> impl Iterator<Item = u8> + Clone {
    (0..8).map(|bit| 1 << bit)
}

impl FrameHeader {
    /// Its bytes at `offset` of a segment with `seed`, if one of the `masks` makes the check hold in one place. That other
    /// bytes do by chance is one case in 2^32 for each that is tried.
    pub(crate) fn mended(
        frame: &[u8; FRAME as usize],
        seed: u32,
        offset: u32,
        masks: impl Iterator<Item = u8> + Clone,
    ) -> Option<[u8; FRAME as usize]> {
        mendings(*frame, 0..frame.len(), masks).find(|bytes| FrameHeader::decode(bytes, seed, offset).is_some())
    }
}

impl Header {
    /// A header and its seed, be one byte of it wrong: its checksum tells which.
    pub(crate) fn read(block: &[u8]) -> Option<(Header, u32)> {
        Header::decode(block).ok().or_else(|| Header::mended(block))
    }

    /// A header of which one byte is wrong.
    pub(crate) fn mended(block: &[u8]) -> Option<(Header, u32)> {
        let (sample, _) = Header { log_id: [0; 16], base: 0, capacity: 0, salt: 0 }.encode();
        let bytes: [u8; HEADER] = block.first_chunk().copied()?;
        let mut others = (0..12).chain(16..32).filter(|at| bytes.get(*at) != sample.get(*at));
        let places = match (others.next(), others.next()) {
            (_, Some(_)) => return None,
            (Some(at), None) => at..at + 1,
            (None, None) => 0..bytes.len(),
        };
        mendings(bytes, places, 1..=u8::MAX).find_map(|mended| Header::decode(&mended).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of them with one checksum would leave open which of them it was.
    #[test]
    fn no_two_wrong_bytes_of_a_header_have_one_checksum() {
        let (header, seed) = Header { log_id: [7; 16], base: 1 << 20, capacity: 1 << 20, salt: 3 }.encode();
        let mut differences = std::collections::HashSet::new();
        for mended in mendings(header, 0..HEADER, 1..=u8::MAX) {
            // A wrong length ends the sum elsewhere, if anywhere.
            if mended[10..12] == header[10..12] {
                let (own, borne) = Header::sums(&mended).unwrap();
                assert!(differences.insert(own ^ borne), "{mended:?}");
            }
        }
        for mended in mendings(header, 0..HEADER, 1..=u8::MAX).step_by(101) {
            assert_eq!(Header::read(&mended).unwrap().1, seed);
        }
    }
}
