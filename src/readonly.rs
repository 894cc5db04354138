//! Reading a log that another process may be writing. Locks nothing, maps nothing, changes nothing.

use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::log::not_found;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::read::{Records, Segments, get};
use crate::record::Record;
use crate::recovery::{Recovered, Recovery, TRIES, front, missing, recover, survey_beside};
use crate::segment::Segment;
use crate::storage::Storage;

/// How often a view is tried while a writer cleans away what it is made of.
const OVERTAKEN: usize = 200;

/// A log opened for reading, as it was at that moment: what is known to be durable, and nothing more.
///
/// Open it again to see more. Any number may be open beside a live writer; they neither lock nor write nor map.
/// A reader that cleaning overtakes is told [`ErrorKind::Removed`]. It holds a descriptor for each segment, so that
/// what is cleaned away meanwhile may take its room on the disk until the reader is dropped.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let wal = seawall::Wal::open(dir)?;
/// wal.append(b"order 17")?.wait()?;
/// let view = seawall::Options::new().open_read_only(dir)?;
/// for record in view.read(..)? {
///     let record = record?;
///     println!("{}: {:?}", record.lsn, record.payload);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReadOnly {
    storage: Arc<dyn Storage>,
    log_id: [u8; 16],
    segments: Vec<Arc<Segment>>,
    shown: u64,
    checkpoint: u64,
    recovery: Recovery,
}

impl ReadOnly {
    pub(crate) fn with(storage: Arc<dyn Storage>, options: Options) -> Result<ReadOnly> {
        let (mut tries, mut overtaken, mut believed, mut damaged, mut torn) = (0, 0, u64::MAX, None, None);
        let recovered = loop {
            // A writer beside us may add, rotate and recycle between two of our reads: what looks like damage
            // then is not there when looked at again. It may always be faster than we are, so what is looked at
            // again is held only against what was claimed before.
            match recover(&*storage, options.recovery_mode, false, believed, options.bugs) {
                Err(e) if missing(&e) && e.path() == Some(storage.path()) => return Err(not_found(&*storage)),
                Err(e) if tries < TRIES && moving(&e) => {
                    tries += 1;
                    if let ErrorKind::Damage(damage) = e.kind() {
                        let place = Some(damage.lsn);
                        if place == damaged {
                            return Err(e);
                        }
                        damaged = place;
                        believed = damage.durable.0;
                    }
                }
                Err(e) => return Err(e),
                // In a file that was recycled under us there was nothing to read: its records seem to end early.
                Ok(found) if front(&*storage, found.log_id)? > scanned_from(&found) => {
                    overtaken += 1;
                    if overtaken > OVERTAKEN {
                        let message = "a writer cleans faster than this can be read; try again, nothing was changed";
                        return Err(Error::new(ErrorKind::Io, "open", message));
                    }
                }
                // What a writer had not finished at one look seems torn; what is, is so at the next, in the same place.
                Ok(mut found) => {
                    let place = found.report.torn.as_ref().map(|torn| torn.lsn);
                    if place.is_none() || place == torn {
                        break found;
                    }
                    if tries == TRIES {
                        found.report.torn = None;
                        break found;
                    }
                    tries += 1;
                    torn = place;
                }
            }
        };
        let Recovered { log_id: Some(log_id), mark, mut segments, end, proven, checkpoint, mut report, .. } = recovered
        else {
            return Err(not_found(&*storage));
        };
        let first = segments.first().map_or(0, |sealed| sealed.found.base);
        let shown = proven.max(mark.map_or(0, |mark| mark.shown)).min(end).max(first);
        if let Some(last) = segments.last_mut() {
            last.end = last.end.min(shown).max(last.found.base);
        }
        let checkpoint = if checkpoint < shown { checkpoint } else { 0 };
        report.end = Lsn(shown);
        let segments = segments.into_iter().map(Segment::found).map(Arc::new).collect();
        Ok(ReadOnly { storage, log_id, segments, shown, checkpoint, recovery: report })
    }

    /// What opening found. Its records are counted up to the end of the log, shown or not.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Everything below was durable when this was opened.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.shown)
    }

    /// The log's identity.
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// The record at `lsn`.
    ///
    /// # Errors
    /// As [`Wal::get`](crate::Wal::get).
    pub fn get(&self, lsn: Lsn) -> Result<Record> {
        get(self, lsn)
    }

    /// The records of a range, in order.
    ///
    /// # Errors
    /// As [`Wal::read`](crate::Wal::read).
    pub fn read(&self, range: impl RangeBounds<Lsn>) -> Result<Records<'_>> {
        Records::new(self, range)
    }

    /// The last durable checkpoint.
    ///
    /// # Errors
    /// As [`Wal::get`](crate::Wal::get).
    pub fn checkpoint(&self) -> Result<Option<Record>> {
        if self.checkpoint == 0 { Ok(None) } else { self.get(Lsn(self.checkpoint)).map(Some) }
    }
}

/// The base of the lowest segment whose frames were looked at; of those below, only what later ones say.
fn scanned_from(found: &Recovered) -> u64 {
    let scanned = found.segments.iter().find(|sealed| sealed.end > found.proven).or(found.segments.last());
    scanned.map_or(u64::MAX, |sealed| sealed.found.base)
}

/// Whether an error may be the work of a writer beside us.
fn moving(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damage(_)) || missing(error)
}

impl Segments for ReadOnly {
    fn shown(&self) -> u64 {
        self.shown
    }

    fn first(&self) -> u64 {
        self.segments.first().map_or(self.shown, |segment| segment.base)
    }

    fn below(&self, lsn: u64) -> Option<Arc<Segment>> {
        let above = self.segments.partition_point(|segment| segment.base <= lsn);
        above.checked_sub(1).and_then(|index| self.segments.get(index)).cloned()
    }

    fn after(&self, base: u64) -> Option<Arc<Segment>> {
        self.segments.get(self.segments.partition_point(|segment| segment.base <= base)).cloned()
    }

    fn mapped_below(&self) -> u64 {
        0
    }

    fn path(&self, name: &str) -> PathBuf {
        self.storage.path().join(name)
    }

    fn removed(&self, base: u64) -> Result<bool> {
        let now = survey_beside(&*self.storage)?;
        Ok(base < now.front || now.segments.iter().all(|found| found.base != base))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}
