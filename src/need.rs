//! What a segment is needed for, and why there is none.

use std::time::Duration;

use crate::error::Error;
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

/// A segment that somebody needs and that could not be made.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Why, the last time.
    pub(crate) error: Error,
    /// Since when none could be made, by the storage's clock.
    pub(crate) since: Duration,
    /// Something was cleaned since: it may not hold any more.
    pub(crate) cleaned: bool,
}

/// What must be given back for an ordinary append to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Bytes that must be free on the disk.
    pub(crate) disk: u64,
    /// Bytes that the log's files take too much, by the caller's bound.
    pub(crate) bound: u64,
}
