//! Reading a log that another process may be writing. Locks nothing, maps nothing, changes nothing.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;

use crate::error::{Error, ErrorKind, Result};
use crate::format::Cursor;
use crate::log::not_found;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::read::{Records, Segments, get};
use crate::record::{Kind, Record};
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
    cursors: Vec<Cursor>,
    recovery: Recovery,
}

impl ReadOnly {
    pub(crate) fn with(storage: Arc<dyn Storage>, options: Options) -> Result<ReadOnly> {
        let mut looks = Looks { again: 0, overtaken: 0, believed: u64::MAX, damaged: None, torn: None };
        let recovered = loop {
            let looked = recover(&*storage, options.recovery_mode, false, looks.believed, options.bugs);
            if let Some(found) = looks.settle(&*storage, looked)? {
                break found;
            }
        };
        let Recovered {
            log_id: Some(log_id), mark, mut segments, end, proven, checkpoint, cursors, mut report, ..
        } = recovered
        else {
            return Err(not_found(&*storage));
        };
        let first = segments.first().map_or(0, |sealed| sealed.found.base);
        let shown = proven.max(mark.map_or(0, |mark| mark.shown)).min(end).max(first);
        if let Some(last) = segments.last_mut() {
            last.end = last.end.min(shown).max(last.found.base);
        }
        report.end = Lsn(shown);
        let link = segments
            .iter()
            .rev()
            .find(|sealed| sealed.found.base < shown)
            .and_then(|sealed| sealed.found.link.as_ref());
        let linked = link.map_or(0, |(link, _)| link.checkpoint);
        let segments = segments.into_iter().map(Segment::found).map(Arc::new).collect();
        let mut view = ReadOnly { storage, log_id, segments, shown, checkpoint, cursors, recovery: report };
        if checkpoint >= shown {
            view.checkpoint = view.checkpoint_before(linked)?;
        }
        Ok(view)
    }

    /// The last checkpoint that is shown, where a later one is not yet: in the newest segment, or as its link says.
    fn checkpoint_before(&self, linked: u64) -> Result<u64> {
        let Some(newest) = self.below(self.shown.saturating_sub(1)) else { return Ok(0) };
        let mut last = if linked < self.first() { 0 } else { linked };
        let mut records = self.read(Lsn(newest.base)..)?;
        while let Some(record) = records.next_borrowed() {
            let record = record?;
            if record.kind == Kind::Checkpoint {
                last = record.lsn.0;
            }
        }
        Ok(last)
    }

    /// What opening found. Its records are counted up to the end of the log, shown or not. Beside a writer a torn tail
    /// may be what that was just writing.
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

    /// All cursors, by name, and where they stand, as far as that is written.
    pub fn cursors(&self) -> BTreeMap<String, Lsn> {
        self.cursors.iter().map(|cursor| (cursor.name.clone(), Lsn(cursor.lsn))).collect()
    }

    /// The last durable checkpoint.
    ///
    /// # Errors
    /// As [`Wal::get`](crate::Wal::get).
    pub fn checkpoint(&self) -> Result<Option<Record>> {
        if self.checkpoint == 0 { Ok(None) } else { self.get(Lsn(self.checkpoint)).map(Some) }
    }
}

/// Looks at a directory that a writer may be changing. It may add, rotate and recycle between two of our reads: what
/// is damaged or torn is so at the next look, in the same place, and what only seems so is not.
struct Looks {
    /// Looks that settled nothing.
    again: usize,
    /// Looks that the writer cleaned under.
    overtaken: usize,
    /// What was claimed at the last look. The writer may always be faster than we are, so what is looked at again is
    /// held only against what was claimed before.
    believed: u64,
    damaged: Option<Lsn>,
    torn: Option<Lsn>,
}

impl Looks {
    /// What was found, once it is to be believed.
    fn settle(&mut self, storage: &dyn Storage, looked: Result<Recovered>) -> Result<Option<Recovered>> {
        match looked {
            Err(e) if missing(&e) && e.path() == Some(storage.path()) => Err(not_found(storage)),
            Err(e) => self.doubt(e).map(|()| None),
            // In a file that was recycled under us there was nothing to read: its records seem to end early.
            Ok(found) if front(storage, found.log_id)? > scanned_from(&found) => {
                self.overtaken += 1;
                if self.overtaken <= OVERTAKEN {
                    return Ok(None);
                }
                let message = "a writer cleans faster than this can be read; try again, nothing was changed";
                Err(Error::new(ErrorKind::Io, "open", message))
            }
            Ok(found) => Ok(self.end(found)),
        }
    }

    /// Whether to look again, for the error may be the work of a writer; else gives it back.
    fn doubt(&mut self, error: Error) -> Result<()> {
        let damage = match error.kind() {
            ErrorKind::Damage(damage) => Some((damage.lsn, damage.durable.0)),
            _ if missing(&error) => None,
            _ => return Err(error),
        };
        let place = damage.map(|(lsn, _)| lsn);
        if self.again == TRIES || place.is_some() && place == self.damaged {
            return Err(error);
        }
        self.again += 1;
        if let Some((_, durable)) = damage {
            (self.damaged, self.believed) = (place, durable);
        }
        Ok(())
    }

    /// What was found, unless its torn tail may be what a writer had not finished.
    fn end(&mut self, mut found: Recovered) -> Option<Recovered> {
        let place = found.report.torn.as_ref().map(|torn| torn.lsn);
        if place.is_none() || place == self.torn {
            return Some(found);
        }
        if self.again == TRIES {
            found.report.torn = None;
            return Some(found);
        }
        self.again += 1;
        self.torn = place;
        None
    }
}

/// The base of the lowest segment whose frames were looked at; of those below, only what later ones say.
fn scanned_from(found: &Recovered) -> u64 {
    let scanned = found.segments.iter().find(|sealed| sealed.end > found.proven).or(found.segments.last());
    scanned.map_or(u64::MAX, |sealed| sealed.found.base)
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

    fn removed(&self, base: u64) -> Result<Option<u64>> {
        let now = survey_beside(&*self.storage)?;
        let gone = base < now.front || now.segments.iter().all(|found| found.base != base);
        Ok(gone.then_some(now.front))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn watch(&self, _: u64, _: u64, _: &Waker) -> Result<bool> {
        Ok(true)
    }

    fn forget(&self, _: u64) {}
}
