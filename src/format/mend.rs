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
    /// A header and its seed, be one bit of it wrong: its checksum tells which.
    pub(crate) fn read(block: &[u8]) -> Option<(Header, u32)> {
        Header::decode(block).ok().or_else(|| Header::mended(block))
    }

    /// A header of which one bit is wrong.
    pub(crate) fn mended(block: &[u8]) -> Option<(Header, u32)> {
        let (sample, _) = Header { log_id: [0; 16], base: 0, capacity: 0, salt: 0 }.encode();
        let bytes: [u8; HEADER] = block.first_chunk().copied()?;
        let same = (0..12).chain(16..32);
        if same.filter(|at| bytes.get(*at) != sample.get(*at)).count() > 1 {
            return None;
        }
        mendings(bytes, 0..bytes.len(), bits()).find_map(|mended| Header::decode(&mended).ok())
    }
}
