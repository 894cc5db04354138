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
