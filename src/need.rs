//! What a segment is needed for.

use crate::format::BLOCK;

/// How badly a segment is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// For ordinary records and notes of cursors: one must stay in reserve behind it.
    Ordinary,
    /// For a checkpoint, which helps to get out of a full disk.
    Reserve,
}

impl Need {
    pub(crate) fn prepared(self) -> usize {
        match self {
            Need::Ordinary => 2,
            Need::Reserve => 1,
        }
    }

    /// Bytes that the bound must leave for `missing` segments of `size`.
    pub(crate) fn bytes(self, missing: usize, size: u64) -> u64 {
        let segments = size.saturating_mul(missing as u64);
        match self {
            // The reserve is cut to its header when the log is closed, and made anew beside that.
            Need::Ordinary => segments.saturating_add(u64::from(BLOCK)),
            Need::Reserve => segments,
        }
    }
}
