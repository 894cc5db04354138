//! The header of a frame of which one byte is wrong: its check tells which.

use super::{FRAME, FrameHeader};

impl FrameHeader {
    /// Its bytes at `offset` of a segment with `seed`, if one of the `masks` makes the check hold in one place. That other
    /// bytes do by chance is one case in 2^32 for each that is tried.
    pub(crate) fn mended(
        frame: &[u8; FRAME as usize],
        seed: u32,
        offset: u32,
        masks: impl Iterator<Item = u8> + Clone,
    ) -> Option<[u8; FRAME as usize]> {
        let wrong = (0..frame.len()).flat_map(|at| masks.clone().map(move |mask| (at, mask)));
        let mended = |(at, mask)| {
            let mut bytes = *frame;
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
            bytes
        };
        wrong.map(mended).find(|bytes| FrameHeader::decode(bytes, seed, offset).is_some())
    }
}
