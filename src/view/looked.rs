//! A look at a whole directory that another process may be writing to, until what it finds is to be believed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bugs::Bugs;
use crate::check::refused;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Cursor;
use crate::lsn::Lsn;
use crate::options::RecoveryMode;
use crate::recovery::{Recovered, Recovery, Sealed, TRIES, cursors, front, missing, recover, too_fast};
use crate::scan::{Place, scan};
use crate::segment::Segment;
use crate::storage::{Storage, not_found};

/// How often a view is tried while a writer cleans away what it is made of.
const OVERTAKEN: usize = 200;

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
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) report: Recovery,
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
        let Recovered { log_id: Some(log_id), mark, segments, end, proven, mut report, .. } = recovered else {
            return Err(not_found(&**storage));
        };
        let Recovered { checkpoint, mut cursors, last_note, .. } = recovered;
        let first = segments.first().map_or(0, |sealed| sealed.found.base);
        let newest = segments.last().map_or(0, |sealed| sealed.found.base);
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
        if let Some(last) = kept.back().filter(|last| last.found.base < newest || last_note >= shown) {
            // Above lie notes of cursors that nothing says are durable.
            cursors = cursors_at(last, shown, first, bugs)
                .map_err(|e| Error::io("read", storage.path().join(&last.found.name), e))?;
        }
        let newest = kept.pop_back().map(|last: Sealed| Segment::unsealed(last.found, last.seed, last.capacity));
        let segments = kept.into_iter().map(Segment::found).chain(newest).map(Arc::new).collect();
        let more_checkpoints = checkpoint >= shown;
        let checkpoint = if more_checkpoints { linked } else { checkpoint };
        // As in recovery, of what a repair's link says.
        let checkpoint = if checkpoint < first { 0 } else { checkpoint };
        Ok(Looked { log_id, segments, shown, checkpoint, more_checkpoints, cursors, report })
    }
}

/// Where the cursors stand at the LSN `shown` in a segment.
fn cursors_at(last: &Sealed, shown: u64, front: u64, bugs: Bugs) -> std::io::Result<Vec<Cursor>> {
    let limit = shown.saturating_sub(last.found.base).min(last.found.length);
    let place = Place { base: last.found.base, seed: last.seed, limit };
    let notes = scan(&*last.found.file, &place, bugs)?.whole.notes;
    Ok(last.found.link.as_ref().map_or_else(Vec::new, |(link, _)| cursors(link, notes, front)))
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
            return Err(too_fast("open", seen));
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
        if place.is_some() && place == self.damaged {
            return Err(error);
        }
        if self.again == TRIES {
            return Err(if place.is_some() { error } else { too_fast("open", &error) });
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
