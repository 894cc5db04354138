//! Checking a log without opening it: every checksum of every segment, and reading on past damage.
//!
//! Nothing here locks, maps or changes anything, but for [`Repair::run`], which takes the log's lock and mends it. All
//! else works beside a live writer; what that cleans or recycles meanwhile is no fault.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! # let wal = seawall::Wal::open(dir)?;
//! # wal.append(b"order 17")?.wait()?;
//! let report = seawall::check::verify(dir)?;
//! println!("{report}");
//! assert!(report.is_clean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aside;
mod count;
mod examine;
mod frames;
mod misnamed;
mod overview;
mod plan;
mod refused;
mod repair;
mod salvage;
mod sift;
mod subject;
mod sum;
mod tally;
mod walk;

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Result, plural};
use crate::format::BLOCK;
use crate::lsn::Lsn;
use crate::progress::Progress;
use crate::storage::Storage;
use examine::Depth;
use subject::Subject;
use tally::Tally;

pub(crate) use refused::refused;

pub use frames::{Frames, Item, frames, frames_on};
pub use overview::{CursorInfo, FileInfo, MarkState, Overview, SegmentInfo, State, inspect, inspect_on};
pub use repair::{Repair, RepairPlan, Step, Way};
pub use salvage::{Salvage, Salvaged, SalvagedLog, SalvagedRecords};

/// Verifies all checksums of the log in the directory `path`, with two threads or as many as there are cores.
///
/// If `path` is a file, it is verified as a segment on its own, by its own header: whatever its name is, wherever it
/// lies. What is damaged before its last valid record is a fault then; only the whole log could tell a torn tail.
///
/// # Errors
/// `NotFound` if there is no log; `TooNew`; `Io`. Damage is no error: it is in the report.
pub fn verify(path: impl AsRef<Path>) -> Result<Report> {
    Verify::new().run(path)
}

/// How to verify.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # let wal = seawall::Wal::open(dir)?;
/// # wal.append(b"order 17")?.wait()?;
/// use std::ops::ControlFlow;
/// use std::time::Duration;
///
/// let progress = |progress: seawall::Progress| {
///     println!("{} of {} bytes", progress.bytes, progress.total_bytes);
///     if progress.elapsed > Duration::from_secs(3600) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
/// };
/// let report = seawall::check::Verify::new().threads(4).progress(&progress).run(dir)?;
/// assert!(report.is_clean() && report.records == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is verified until it is run"]
pub struct Verify<'a> {
    threads: Option<usize>,
    progress: Tell<'a>,
}

/// Who is told of the progress.
type Tell<'a> = &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync);

/// How many threads read where nobody says it.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).max(2)
}

impl fmt::Debug for Verify<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Default for Verify<'_> {
    fn default() -> Self {
        Verify::new()
    }
}

impl<'a> Verify<'a> {
    /// With two threads or as many as there are cores, and without progress.
    pub fn new() -> Verify<'a> {
        Verify { threads: None, progress: &|_| ControlFlow::Continue(()) }
    }

    /// How many threads read, at least one. Each reads a segment and takes as much memory as 256 KiB or the
    /// largest record.
    pub fn threads(mut self, threads: usize) -> Verify<'a> {
        self.threads = Some(threads.max(1));
        self
    }

    /// Is told of the progress about every MiB, from any of the threads, one after the other; the records of a segment are
    /// counted once it is done. Where there is damage, the damaged segments and the newest are read once more, and the
    /// total grows by them then. With `Break` the run ends as soon as the threads see it, and answers `Cancelled`.
    pub fn progress(mut self, progress: &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync)) -> Verify<'a> {
        self.progress = progress;
        self
    }

    /// Verifies the log in the directory `path`, or a segment file on its own.
    ///
    /// # Errors
    /// As [`verify`]; `Cancelled`.
    pub fn run(&self, path: impl AsRef<Path>) -> Result<Report> {
        self.examine(&Subject::at(path.as_ref()))
    }

    /// Verifies the log in a storage of your own.
    ///
    /// # Errors
    /// As [`run`](Verify::run).
    pub fn run_on(&self, storage: Arc<dyn Storage>) -> Result<Report> {
        self.examine(&Subject::log(storage))
    }

    fn examine(&self, subject: &Subject) -> Result<Report> {
        let tally = Tally::new("check", self.progress);
        let mut examined = examine::examine(subject, Depth::All, self.threads.unwrap_or_else(threads), &tally)?;
        let notes = aside::notes(&*subject.storage, &examined);
        examined.report.notes.extend(notes);
        Ok(examined.report)
    }
}

/// What verifying found. Printed, it is a line, and one more for each fault and note.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Segments of the log.
    pub segments: usize,
    /// Valid records.
    pub records: u64,
    /// Bytes of the frames that are valid.
    pub bytes: u64,
    /// Where the log begins, as far as what is left tells: all below was cleaned, or a fault is told of it.
    pub first: Lsn,
    /// Where it ends. A torn tail, of which nothing says that it was durable, lies beyond and is no fault.
    pub end: Lsn,
    /// What was known to be durable and is not as it was written, and what no crash leaves; in order. What opening refuses
    /// has a fault here; not all that has one is refused, for opening reads less.
    pub faults: Vec<Fault>,
    /// What an operator should know: a torn tail, files that are not the log's, what lies in those that were moved aside, a
    /// missing MARK.
    pub notes: Vec<String>,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The segment file; empty where there is none left.
    pub segment: String,
    /// The byte in it where the damage begins.
    pub offset: u64,
    /// The same place as an address in the log; of several files that are missing, where the first may have begun.
    pub lsn: Lsn,
    /// Bytes from there to the next valid frame, or to where the segment ended, as far as that is known.
    pub lost_bytes: u64,
    /// How many records were there, where that can be told: of a whole file as many as links say, with what an earlier
    /// repair passed over in it. `Some(0)`: none is lost by it. Of what nothing says that it was durable that cannot be told:
    /// it may have been a torn tail, which an opening has dropped before.
    pub lost_records: Option<u64>,
    /// Valid records beyond it in the same segment.
    pub beyond: u64,
    /// Valid records that go with it if a repair passes over it: the rest of its batch, before it and behind, and right behind
    /// it a batch of which nothing tells that it is another.
    pub dropped: u64,
    /// What was found.
    pub what: String,
}

impl Fault {
    /// One of which only the place is known.
    fn at(segment: &str, base: u64, offset: u64, what: impl Into<String>) -> Fault {
        let (segment, lsn, what) = (segment.to_owned(), Lsn(base.saturating_add(offset)), what.into());
        Fault { segment, offset, lsn, lost_bytes: 0, lost_records: None, beyond: 0, dropped: 0, what }
    }

    /// Nobody can tell how many records are lost up to `to` where that lies above what is `proven` durable: it may have been a
    /// torn tail, which an opening has dropped already.
    fn doubt(&mut self, to: u64, proven: u64) {
        if to > proven && self.lost_records > Some(0) {
            self.lost_records = None;
            self.what += &format!("; what lay above LSN {proven} may have been dropped as a torn tail");
        }
    }

    /// Where what is lost in one segment ends at most, as an LSN. Of a whole file it begins behind the header.
    fn lost_to(&self) -> u64 {
        let header = if self.offset == 0 { u64::from(BLOCK) } else { 0 };
        self.lsn.0.saturating_add(header).saturating_add(self.lost_bytes)
    }
}

impl Report {
    /// Whether everything known to be durable is there as it was written.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            0 => write!(f, "clean")?,
            1 => write!(f, "damaged in 1 place")?,
            n => write!(f, "damaged in {n} places")?,
        }
        write!(
            f,
            "; {}, {}, {} bytes, LSN {} to {}",
            plural(self.segments as u64, "segment"),
            plural(self.records, "record"),
            self.bytes,
            self.first,
            self.end
        )?;
        for fault in &self.faults {
            write!(f, "\n{fault}")?;
        }
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.segment.is_empty() {
            write!(f, "{} byte {}, ", self.segment, self.offset)?;
        }
        write!(f, "LSN {}: {}; lost: ", self.lsn, self.what)?;
        match (self.lost_records, self.lost_bytes) {
            (Some(0), _) => write!(f, "no record")?,
            (Some(records), bytes) => write!(f, "{}, {bytes} bytes", plural(records, "record"))?,
            (None, 0) => write!(f, "nothing that is known of")?,
            (None, bytes) => write!(f, "{bytes} bytes, it cannot be told how many records")?,
        }
        write!(f, "; behind it in the segment: {}", plural(self.beyond, "valid record"))?;
        match self.dropped {
            0 => Ok(()),
            dropped => {
                write!(f, "; a repair that passes over it drops {} of its batch", plural(dropped, "valid record"))
            }
        }
    }
}
