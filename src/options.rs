//! How a log is opened: sizes, bounds, durability.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::readonly::ReadOnly;
use crate::storage::{Fs, Storage};
use crate::wal::Wal;

/// What a resolved ticket promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The record survives a power cut: it was written and synced.
    Disk,
    /// The record survives a killed process: it was written to the operating system.
    Os,
}

/// What opening does with bytes after the end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecoveryMode {
    /// Drop a torn tail, of which nothing says that it was durable, and report it.
    TornTail,
    /// Refuse anything but a log that ends exactly where it is known to be durable. Once opened with `TornTail`, a log
    /// does so when something was appended and it was closed in order.
    Strict,
}

/// How to open a log.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let wal = seawall::Options::new().segment_size(1 << 20).open(dir.path())?;
/// let lsn = wal.append(b"order 17")?.wait()?;
/// # assert_eq!(&wal.get(lsn)?.payload[..], b"order 17");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open` is called"]
pub struct Options {
    pub(crate) segment_size: u64,
    pub(crate) segment_age: Option<u64>,
    pub(crate) durability: Durability,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) sync_bytes: Option<u64>,
    pub(crate) max_disk_bytes: Option<u64>,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) create: bool,
    pub(crate) recovery_mode: RecoveryMode,
    pub(crate) bugs: crate::bugs::Bugs,
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// Segments of 64 MiB, `Durability::Disk`, 8 MiB in memory, no bound on disk, creation on.
    pub fn new() -> Options {
        Options {
            segment_size: 64 << 20,
            segment_age: None,
            durability: Durability::Disk,
            sync_interval: None,
            sync_bytes: None,
            max_disk_bytes: None,
            max_buffered_bytes: 8 << 20,
            create: true,
            recovery_mode: RecoveryMode::TornTail,
            bugs: crate::bugs::Bugs::default(),
        }
    }

    /// Bytes of a segment file: 16 KiB to 1 GiB, a multiple of 4 KiB. A batch takes at most 8 KiB less,
    /// a payload less than 256 MiB. It may differ from open to open.
    pub fn segment_size(mut self, bytes: u64) -> Options {
        self.segment_size = bytes;
        self
    }

    /// Begins a new segment once a batch time is this far past the first one in the segment (in its unit).
    pub fn segment_age(mut self, age: u64) -> Options {
        self.segment_age = Some(age);
        self
    }

    /// What a resolved ticket promises.
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// Syncs in the background what nobody waits for, at most this long after it was appended.
    pub fn sync_interval(mut self, interval: Duration) -> Options {
        self.sync_interval = Some(interval);
        self
    }

    /// Syncs in the background once this many bytes were appended that nobody waits for.
    pub fn sync_bytes(mut self, bytes: u64) -> Options {
        self.sync_bytes = Some(bytes);
        self
    }

    /// Takes no further segment beyond this on disk, at least four segments: appends get
    /// [`LogFull`](crate::ErrorKind::LogFull) instead. One is held back for checkpoints. Files that cannot be removed count.
    ///
    /// These may lie beyond it, and nothing else:
    ///
    /// - the first checkpoint since opening, so that a full log can be cleaned: by one segment. After larger segments or a
    ///   lower bound by one beyond what the log holds, if nothing can be cleaned without a new checkpoint. Lives that each
    ///   take one and never clean come to that too, and the next checkpoint is refused then: clean up to the last
    /// - what a power cut cut off, until the first commit of a life clears it away: a segment for each power cut before that
    /// - what a life wrote that was killed after an append and before its first commit: a segment, until the next life but
    ///   one trims it, or the next that commits
    /// - what a clean left, where the disk is full at opening and MARK is missing: it goes at a later opening
    /// - files that were moved aside, which do not count: a power cut may leave one, as large as a segment, and it stays
    ///   until you remove it
    pub fn max_disk_bytes(mut self, bytes: u64) -> Options {
        self.max_disk_bytes = Some(bytes);
        self
    }

    /// Bounds the frames that are appended and not yet written, at least 512 KiB of them. A larger batch is let in alone;
    /// while it waits for that, the others wait behind it. The buffers that hold them may take up to twice as much, and
    /// 2 MiB are kept to be used again.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Options {
        self.max_buffered_bytes = bytes;
        self
    }

    /// Whether a log is made where there is none.
    pub fn create(mut self, create: bool) -> Options {
        self.create = create;
        self
    }

    /// What opening does with bytes after the end of the log.
    pub fn recovery_mode(mut self, mode: RecoveryMode) -> Options {
        self.recovery_mode = mode;
        self
    }

    /// Takes a safety out, so that a test can show which check catches its absence.
    #[cfg(feature = "sim")]
    pub fn plant(mut self, bug: crate::sim::Bug) -> Options {
        self.bugs = self.bugs.with(bug);
        self
    }

    /// Opens the log in the directory `path` for writing. See [`Wal::open`].
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Wal> {
        self.open_on(Arc::new(Fs::new(path)))
    }

    /// Opens the log in a storage of your own for writing.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open_on(&self, storage: Arc<dyn Storage>) -> Result<Wal> {
        Wal::with(storage, self.clone())
    }

    /// Opens the log in the directory `path` for reading, beside a live writer or none. Changes nothing.
    ///
    /// # Errors
    /// As [`Wal::open`], but never `Locked`.
    pub fn open_read_only(&self, path: impl AsRef<Path>) -> Result<ReadOnly> {
        self.open_read_only_on(Arc::new(Fs::new(path)))
    }

    /// Opens the log in a storage of your own for reading.
    ///
    /// # Errors
    /// As [`Wal::open`], but never `Locked`.
    pub fn open_read_only_on(&self, storage: Arc<dyn Storage>) -> Result<ReadOnly> {
        ReadOnly::with(storage, self.clone())
    }
}
