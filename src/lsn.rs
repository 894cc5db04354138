//! The two numbers of the log: where a record is ([`Lsn`]) and which batch it belongs to ([`BatchTime`]).

use std::fmt;

/// The address of a record in the log: the base of its segment plus the offset of its frame in the file.
///
/// LSNs order records and subtract to bytes of log. They are not dense: a gap without records lies
/// between the end of a segment and the base of the next. No LSN is handed out twice, over crashes too.
/// `Lsn(0)` is the place of a segment header and never a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Below every record.
    pub const ZERO: Lsn = Lsn(0);
    /// Above every record.
    pub const MAX: Lsn = Lsn(u64::MAX);
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The time of the batch that a record belongs to, in the caller's unit (the receiver uses Unix milliseconds).
///
/// Opaque to the log: it is only compared. It may arrive out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchTime(pub u64);

impl fmt::Display for BatchTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for BatchTime {
    fn from(time: u64) -> BatchTime {
        BatchTime(time)
    }
}
