//! Reading a log that another process may be writing. Locks nothing, maps nothing, changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Range, RangeBounds};
use std::sync::Arc;

use crate::bugs::Bugs;
use crate::check::refused;
use crate::error::{Error, ErrorKind, Result};
use crate::follow::Follower;
use crate::format::Cursor;
use crate::lsn::Lsn;
use crate::options::{Options, RecoveryMode};
use crate::read::{Records, Segments, get, split};
use crate::record::Record;
use crate::recovery::{Recovered, Recovery, Sealed, TRIES, front, missing, recover};
use crate::segment::Segment;
use crate::storage::{Storage, not_found};
use crate::view::View;

/// How often a view is tried while a writer cleans away what it is made of.
const OVERTAKEN: usize = 200;

/// A log opened for reading, as it was at that moment: what is known to be durable, and nothing more.
///
/// [`look`](ReadOnly::look) again to see more, or [`follow`](ReadOnly::follow) it. Any number may be open beside a live
/// writer; they neither lock nor write nor map.
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
    view: Arc<View>,
    cursors: Vec<Cursor>,
    recovery: Recovery,
}

/// What was found in a directory that another process may be writing to.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) log_id: [u8; 16],
    /// Up to the one that `shown` lies in, which is not sealed.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    /// Everything below may be shown.
    pub(crate) shown: u64,
    /// The last checkpoint below, as far as that is known; 0 if there is none.
    pub(crate) checkpoint: u64,
    /// Another lies above, and perhaps one between.
    pub(crate) more_checkpoints: bool,
    cursors: Vec<Cursor>,
    report: Recovery,
}

impl Looked {
    pub(crate) fn at(storage: &Arc<dyn Storage>, mode: RecoveryMode, bugs: Bugs) -> Result<Looked> {
        let mut looks = Looks { again: 0, overtaken: 0, believed: u64::MAX, damaged: None, torn: None };
        let recovered = loop {
            let looked = recover(&**storage, mode, false, looks.believed, bugs);
            match looks.settle(&**storage, looked) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err(e) => looks.look_again(&refused(storage, e)?)?,
            }
        };
        let Recovered { log_id: Some(log_id), mark, segments, end, proven, checkpoint, cursors, mut report, .. } =
            recovered
        else {
            return Err(not_found(&**storage));
        };
        let first = segments.first().map_or(0, |sealed| sealed.found.base);
        let shown = proven.max(mark.map_or(0, |mark| mark.shown)).min(end).max(first);
        let mut linked = 0;
        let mut kept = VecDeque::new();
        for sealed in segments {
            // What has not durably begun may be cut off yet.
            if sealed.found.base >= shown && !kept.is_empty() {
                break;
            }
            linked = sealed.found.link.as_ref().map_or(0, |(link, _)| link.checkpoint);
            kept.push_back(sealed);
        }
        // What a writer let others read and a power cut took may reach to between two segments.
        let shown = kept.back().map_or(shown, |last: &Sealed| shown.min(last.seal.end).max(first));
        report.end = Lsn(shown);
        let newest = kept.pop_back().map(|last: Sealed| Segment::unsealed(last.found, last.seed, last.capacity));
        let segments = kept.into_iter().map(Segment::found).chain(newest).map(Arc::new).collect();
        let more_checkpoints = checkpoint >= shown;
        let checkpoint = if more_checkpoints { linked } else { checkpoint };
        let checkpoint = if checkpoint < first { 0 } else { checkpoint };
        Ok(Looked { log_id, segments, shown, checkpoint, more_checkpoints, cursors, report })
    }
}

impl ReadOnly {
    pub(crate) fn with(storage: Arc<dyn Storage>, options: Options) -> Result<ReadOnly> {
        let begun = storage.now();
        let mut found = Looked::at(&storage, options.recovery_mode, options.bugs)?;
        let (cursors, mut recovery) = (std::mem::take(&mut found.cursors), std::mem::take(&mut found.report));
        recovery.elapsed = storage.now().saturating_sub(begun);
        let view = View::new(storage, found, options.recovery_mode)?;
        Ok(ReadOnly { view: Arc::new(view), cursors, recovery })
    }

    /// What opening found. Its records are counted up to the end of the log, shown or not. Beside a writer a torn tail
    /// may be what that was just writing.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Looks again: what became durable since is shown from now on. Following does so by itself.
    ///
    /// # Errors
    /// `Damage`, `TooNew`, `NotStrict`, `Io`; `NotFound` if the log is gone, be it that another is in its place.
    pub fn look(&self) -> Result<Lsn> {
        self.view.look().map(Lsn)
    }

    /// Everything below was durable when it was looked last. Never lower than where the first segment begins: before
    /// the writer's first commit that may be above what the writer says, with nothing in between.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.view.shown())
    }

    /// The log's identity.
    pub fn log_id(&self) -> [u8; 16] {
        self.view.log_id
    }

    /// The record at `lsn`.
    ///
    /// # Errors
    /// As [`Wal::get`](crate::Wal::get).
    pub fn get(&self, lsn: Lsn) -> Result<Record> {
        get(&self.view, lsn)
    }

    /// The records of a range, in order.
    ///
    /// # Errors
    /// As [`Wal::read`](crate::Wal::read).
    pub fn read(&self, range: impl RangeBounds<Lsn>) -> Result<Records<'_>> {
        Records::new(&self.view, range)
    }

    /// Ranges that together are all that may be read, to be read in parallel: see [`Wal::split`](crate::Wal::split).
    pub fn split(&self, parts: usize) -> Vec<Range<Lsn>> {
        split(&self.view, parts)
    }

    /// Reads on from `from` as records become durable; see [`Wal::follow`](crate::Wal::follow). Looks every 5 ms while it
    /// waits, from a thread of its own; the writer notices nothing of it. So it does after a future of
    /// [`next`](Follower::next) was dropped, until there is something to wake it for or the follower is dropped too: who
    /// makes a future for each poll is woken. If the log is gone, it says `NotFound`.
    pub fn follow(&self, from: Lsn) -> Follower<'_> {
        Follower::new(&self.view, from)
    }

    /// All cursors, by name, and where they stood when this was opened, as far as that was written.
    pub fn cursors(&self) -> BTreeMap<String, Lsn> {
        self.cursors.iter().map(|cursor| (cursor.name.clone(), Lsn(cursor.lsn))).collect()
    }

    /// The last durable checkpoint.
    ///
    /// # Errors
    /// As [`Wal::get`](crate::Wal::get).
    pub fn checkpoint(&self) -> Result<Option<Record>> {
        match self.view.checkpoint() {
            0 => Ok(None),
            lsn => self.get(Lsn(lsn)).map(Some),
        }
    }
}

/// Looks at a directory that a writer may be changing. It may add, rotate, recycle, close and open again between two of our
/// reads, so that a look puts together a listing, a MARK, lengths and frames of different times, in this order. What is
/// damaged or torn is so at the next look too, in the same place, held against no more than was claimed at the look before;
/// and what is damaged is found in two looks of [`refused`] then. What only seems so is looked at again.
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

    /// What is damaged in two looks in the same place is nowhere to be found: a writer went on meanwhile.
    fn look_again(&mut self, seen: &Error) -> Result<()> {
        if self.again == TRIES {
            let message =
                format!("a writer goes on faster than this can be looked at; try again, nothing was changed: {seen}");
            return Err(Error::new(ErrorKind::Io, "open", message));
        }
        (self.again, self.damaged) = (self.again + 1, None);
        Ok(())
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
        if self.torn.is_some() {
            // It has moved on: a writer is writing there.
            found.report.torn = None;
            return Some(found);
        }
        self.torn = place;
        None
    }
}

/// The base of the lowest segment whose frames were looked at; of those below, only what later ones say.
fn scanned_from(found: &Recovered) -> u64 {
    let scanned = found.segments.iter().find(|sealed| sealed.seal.end > found.proven).or(found.segments.last());
    scanned.map_or(u64::MAX, |sealed| sealed.found.base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::Torn;

    /// Each look costs as much as reading all that no sync speaks of.
    #[test]
    fn a_torn_tail_that_moves_on_is_looked_at_twice_and_is_none() {
        let torn = |lsn| {
            let mut found = Recovered::default();
            found.report.torn = Some(Torn { lsn: Lsn(lsn), beyond: 0 });
            found
        };
        let looks = || Looks { again: 0, overtaken: 0, believed: u64::MAX, damaged: None, torn: None };
        let mut moving = looks();
        assert!(moving.end(torn(4096)).is_none());
        assert_eq!(moving.end(torn(5000)).map(|found| found.report.torn), Some(None));
        let mut staying = looks();
        assert!(staying.end(torn(4096)).is_none());
        let found = staying.end(torn(4096)).and_then(|found| found.report.torn);
        assert_eq!(found.map(|torn| torn.lsn), Some(Lsn(4096)));
    }
}
