//! How a receiver works: mode, sizes, time-outs, and the clock it tells batch times by.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What holds between a source and the log after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// No record is lost and none is twice in the log: reading goes on where the *log* ends.
    #[default]
    ExactlyOnce,
    /// No record is lost, some may be twice: reading goes on where the *group* is. So a log that is behind it, as one that was
    /// rolled back or lost, is not refused, and what it lacks is not read again.
    AtLeastOnce,
}

/// Where to begin with a partition that neither the log nor the group knows. One that was added to a topic begins at its first
/// offset whatever this says, for what it holds came since: that is one above a partition of which the log or the group has
/// read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reset {
    /// At its first offset.
    #[default]
    Earliest,
    /// At its end: what it holds already is not recorded.
    Latest,
    /// Nowhere: it is an error.
    Error,
}

/// What a receiver goes by. All sizes are bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What holds after a crash.
    pub mode: Mode,
    /// Where to begin where nobody knows.
    pub on_reset: Reset,
    /// A block is closed this long after its first record. Default 200 ms.
    pub block_interval: Duration,
    /// A block is closed once it is this large. Default 4 MiB.
    pub block_bytes: usize,
    /// A block is closed once it holds this many records. Default 100 000.
    pub block_records: usize,
    /// Sealed blocks that may wait for the disk before intake pauses. Default 4.
    pub queue_blocks: usize,
    /// The log's: no block is made larger than fits into a segment.
    pub(super) segment_size: u64,
    /// Blocks older than this are cleaned away, but for those in the newest segment. Default: never. A block's age is told
    /// by the clock at its sealing, which never goes back within a log: one that was ahead holds retention up until it is
    /// reached.
    pub retain: Option<Duration>,
    /// How often old blocks are looked for. Default 10 s.
    pub clean_interval: Duration,
    /// An offset table is written after this many bytes of blocks. Default 64 MiB.
    pub checkpoint_bytes: u64,
    /// An offset table is written after this many blocks. Default 4096.
    pub checkpoint_blocks: u64,
    /// How long a question to the source may take. Default 5 s.
    pub request_timeout: Duration,
    /// How long an assignment may stay without answers from the source. Default 60 s.
    pub start_timeout: Duration,
    /// A commit without an answer for so long has failed, and another is sent. The source is told of it. Default 10 s.
    pub commit_timeout: Duration,
    /// A failed commit is sent again after this long, or with the next block. Default 1 s.
    pub commit_retry: Duration,
    /// Offsets are committed again after this long without a commit, lest they expire. Default 10 min.
    pub commit_refresh: Duration,
    /// How long a revocation waits for the disk and for the commit: half of the session's time-out. Default 5 s.
    pub drain_timeout: Duration,
    /// How long stopping waits for the disk and for the commit, and for room in a log that [`retain`](Config::retain) cleans:
    /// in one that nothing cleans, not at all; and once more, beside `drain_timeout` and a question to the
    /// source, to end what waits for the disk then, leave the group and close the log. Default 30 s.
    pub stop_timeout: Duration,
    /// How often a paused or full receiver looks again. Default 100 ms.
    pub retry_interval: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mode: Mode::default(),
            on_reset: Reset::default(),
            block_interval: Duration::from_millis(200),
            block_bytes: 4 << 20,
            block_records: 100_000,
            queue_blocks: 4,
            segment_size: 64 << 20,
            retain: None,
            clean_interval: Duration::from_secs(10),
            checkpoint_bytes: 64 << 20,
            checkpoint_blocks: 4096,
            request_timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(60),
            commit_timeout: Duration::from_secs(10),
            commit_retry: Duration::from_secs(1),
            commit_refresh: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(30),
            retry_interval: Duration::from_millis(100),
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// Longer than anybody waits, and short enough to be added to any time of a clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Config {
    /// With durations that can be reckoned with.
    pub(super) fn bounded(mut self) -> Config {
        for duration in [
            &mut self.block_interval,
            &mut self.clean_interval,
            &mut self.request_timeout,
            &mut self.start_timeout,
            &mut self.commit_timeout,
            &mut self.commit_retry,
            &mut self.commit_refresh,
            &mut self.drain_timeout,
            &mut self.stop_timeout,
            &mut self.retry_interval,
        ] {
            *duration = (*duration).min(LONGEST);
        }
        self
    }

    /// The largest payload that fits into a segment: header, link and one frame are taken off.
    pub(super) fn max_block_bytes(&self) -> usize {
        const TAKEN: u64 = 8192 + 24 + 4;
        const MAX_PAYLOAD: u64 = (1 << 28) - 1;
        usize::try_from(self.segment_size.saturating_sub(TAKEN).min(MAX_PAYLOAD)).unwrap_or(usize::MAX)
    }
}

/// The receiver's two clocks.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Never goes back, from any starting point below `Duration::MAX / 2`.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since 1970, as far as this machine knows.
    fn unix_millis(&self) -> u64;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where batch times come from")]
    fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
