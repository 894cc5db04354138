//! Behind a bad place: whether the batch that goes on there is seen from its beginning on.

use crate::format::{BLOCK, FRAME, FrameHeader, LINK, frame_size};

/// What is known of the beginning of the batch that the next frame is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Begun {
    #[default]
    Seen,
    /// It may lie in the bad place.
    Doubted,
    /// It does.
    Lost,
}

impl Begun {
    /// Behind a bad place from the offset `from` up to the valid frame at `to`. `more`: whether a batch goes on behind the
    /// frames there, if their headers tell and they are all that was there.
    pub(crate) fn behind(from: u64, to: u64, more: Option<bool>) -> Begun {
        let is_link = from == u64::from(BLOCK) && to < from + frame_size(LINK as u64) + u64::from(FRAME);
        match more {
            _ if is_link => Begun::Seen,
            Some(false) => Begun::Seen,
            Some(true) => Begun::Lost,
            None => Begun::Doubted,
        }
    }

    /// Whether the beginning is lost of the batch that the frame at `lsn` is of, for all that is known. A batch is framed at
    /// once, so only a claim that everything before the frame was durable says that one begins there.
    pub(crate) fn is_lost(&mut self, header: &FrameHeader, lsn: u64) -> bool {
        if *self == Begun::Doubted {
            *self = if header.claim(lsn) == Some(lsn) { Begun::Seen } else { Begun::Lost };
        }
        let lost = *self == Begun::Lost;
        if !header.more {
            *self = Begun::Seen;
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FrameKind;

    #[test]
    fn what_lies_in_the_place_of_a_link_is_no_beginning() {
        let first = u64::from(BLOCK);
        // The smallest link, and less than a frame between it and the next one.
        let last = first + frame_size(LINK as u64) + u64::from(FRAME) - 4;
        for more in [None, Some(false), Some(true)] {
            assert_eq!(Begun::behind(first, last, more), Begun::Seen);
        }
        for (from, to) in [(first, last + 4), (first + 4, last), (first + 4, last + 4)] {
            assert_eq!(Begun::behind(from, to, None), Begun::Doubted);
            assert_eq!(Begun::behind(from, to, Some(false)), Begun::Seen);
            assert_eq!(Begun::behind(from, to, Some(true)), Begun::Lost);
        }
    }

    #[test]
    fn a_lost_beginning_is_that_of_one_batch() {
        let frame = |more, durable| FrameHeader::new(FrameKind::Record, more, 5, 0, 0, 8192, durable);
        // All before it was durable: it begins a batch.
        let mut begun = Begun::Doubted;
        assert!(!begun.is_lost(&frame(true, 8192), 8192));
        assert!(!begun.is_lost(&frame(false, 0), 8192));
        let mut begun = Begun::Doubted;
        assert!(begun.is_lost(&frame(true, 8188), 8192));
        assert!(begun.is_lost(&frame(true, 8192), 8192), "the same batch goes on");
        assert!(begun.is_lost(&frame(false, 0), 8192));
        assert!(!begun.is_lost(&frame(false, 0), 8192));
    }
}
