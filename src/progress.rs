//! How far a long reading is.

use std::time::Duration;

/// How far a replay, a verification or the like is, at the moment when it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the log that were read.
    pub bytes: u64,
    /// Bytes that there are to be read in all.
    pub total_bytes: u64,
    /// Valid records among them.
    pub records: u64,
    /// The time since it began.
    pub elapsed: Duration,
}

impl Progress {
    /// The rate so far; 0 before anything was read.
    pub fn bytes_per_second(&self) -> u64 {
        let bytes = u128::from(self.bytes) * 1_000_000_000;
        bytes.checked_div(self.elapsed.as_nanos()).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// The time that is left at the rate so far; `None` before anything was read.
    pub fn left(&self) -> Option<Duration> {
        let left = u128::from(self.total_bytes.saturating_sub(self.bytes));
        let nanos = left.saturating_mul(self.elapsed.as_nanos()).checked_div(u128::from(self.bytes))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_and_the_time_left_follow_from_what_was_read() {
        let progress = |bytes, seconds| Progress {
            bytes,
            total_bytes: 400,
            elapsed: Duration::from_secs(seconds),
            ..Progress::default()
        };
        assert_eq!(progress(100, 2).bytes_per_second(), 50);
        assert_eq!(progress(100, 2).left(), Some(Duration::from_secs(6)));
        assert_eq!(progress(400, 2).left(), Some(Duration::ZERO));
        assert_eq!((progress(0, 2).bytes_per_second(), progress(0, 2).left()), (0, None));
        assert_eq!(progress(100, 0).bytes_per_second(), 0);
        let huge = Progress { bytes: 1, total_bytes: u64::MAX, elapsed: Duration::MAX, ..Progress::default() };
        assert_eq!(huge.left(), Some(Duration::from_nanos(u64::MAX)));
    }
}
