//! How the log is, in a word: whether it takes appends, and if not, what would have to happen.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::sync::atomic::Ordering;
use crate::writer::Writer;

/// How a log is. From [`Wal::health`](crate::Wal::health); printed, it is a line for a person.
///
/// Of several that are so, the one that stands last here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// Nothing is known to be wrong.
    Healthy,
    /// Appends are taken, and syncs of segments take a second or more. Of the recent ones: the last hundred, and none
    /// that ended more than a minute ago. How long other calls take is not looked at.
    SlowSync {
        /// What 99 of 100 of them took at most; or longer, if the one under way has taken that long already.
        p99: Duration,
    },
    /// An append was refused because no further segment can be made, and the reason is not a lack of room:
    /// permissions, descriptors.
    Refused {
        /// How long ago that began.
        since: Duration,
        /// Why, the last time.
        error: Error,
    },
    /// An append was refused, for with a further segment the log would take more than
    /// [`max_disk_bytes`](crate::Options::max_disk_bytes).
    LogFull {
        /// How long ago that began.
        since: Duration,
        /// Bytes that must be cleaned for appends to go on.
        needed: u64,
    },
    /// An append was refused, for the disk has no room for a further segment; or what was appended waits in memory for
    /// room, on a file system that copies on write.
    DiskFull {
        /// How long ago that began.
        since: Duration,
        /// Bytes that must be free for appends to go on. How many are free is not known.
        needed: u64,
    },
    /// It was closed.
    Closed,
    /// A write or a sync failed. Reading goes on; open the log again to append.
    Poisoned {
        /// What everybody is told.
        error: Error,
    },
}

impl Health {
    pub(crate) fn of(writer: &Writer) -> Health {
        if let Some(error) = writer.commit.poison() {
            return Health::Poisoned { error };
        }
        let (closed, buffered) = {
            let framing = writer.framing.lock();
            (framing.closed, framing.pieces.bytes() as u64)
        };
        if closed {
            return Health::Closed;
        }
        let now = writer.storage.now();
        if writer.stalled.load(Ordering::Acquire) {
            return Health::DiskFull { since: now.saturating_sub(*writer.stalled_since.lock()), needed: buffered };
        }
        let refused = Health::refused(writer, now);
        refused.or_else(|| writer.syncs.slow(now).map(|p99| Health::SlowSync { p99 })).unwrap_or(Health::Healthy)
    }

    /// Why no further segment could be made when somebody needed one. Has the background try again.
    fn refused(writer: &Writer, now: Duration) -> Option<Health> {
        let refused = writer.maker.want_again()?;
        writer.wake_maker();
        let (since, missing) = (now.saturating_sub(refused.since), writer.maker.missing());
        // Where nothing is needed any more something was cleaned, and it was not tried since.
        match refused.error.kind() {
            ErrorKind::LogFull => {
                let needed = missing.bound;
                (needed > 0).then_some(Health::LogFull { since, needed })
            }
            ErrorKind::DiskFull => {
                // A MARK that is missing is made before a segment.
                let needed = missing.disk + writer.mark.unmade();
                (needed > 0).then_some(Health::DiskFull { since, needed })
            }
            _ => Some(Health::Refused { since, error: refused.error }),
        }
    }

    /// Whether appends are taken now: for a readiness probe. If `false`, what fits into the rest of the newest segment
    /// may be taken all the same.
    pub fn takes_appends(&self) -> bool {
        matches!(self, Health::Healthy | Health::SlowSync { .. })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Health::Healthy => write!(f, "healthy"),
            Health::SlowSync { p99 } => write!(f, "syncs are slow: 99 of 100 take up to {p99:.1?}"),
            Health::Refused { since, error } => write!(f, "no segment could be made for {since:.1?}: {error}"),
            Health::LogFull { since, needed } => {
                write!(f, "the log has been full for {since:.1?}: appends go on once {needed} bytes of it are cleaned")
            }
            Health::DiskFull { since, needed } => {
                write!(f, "the disk has been full for {since:.1?}: appends go on once {needed} bytes are free")
            }
            Health::Closed => write!(f, "the log was closed"),
            Health::Poisoned { error } => write!(f, "{error}"),
        }
    }
}
