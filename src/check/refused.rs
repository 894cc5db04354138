//! What a log is not opened for, as verifying tells it.

use std::sync::Arc;

use crate::error::{Damage, Error, ErrorKind, Result, plural};
use crate::format::{BLOCK, Header, MARK, segment_name};
use crate::recovery::{Found, Survey, words};
use crate::scan::{Place, damage_at, look_beyond};
use crate::storage::{Storage, read_full};

use super::Fault;
use super::examine::{Depth, Examined, examine};
use super::plan::Piece;
use super::subject::Subject;
use super::tally::Tally;

/// Refuses a log for the damage that recovery found, with what verifying tells of its first fault, and what is valid beyond
/// that. Of sealed segments only those are read that are seen to be damaged: what the others hold is what links say. Gives
/// the error back if there is no fault, as beside a writer that went on meanwhile.
///
/// # Errors
/// The damage; any other error as it is; one that says why, if the log cannot be read for that.
pub(crate) fn refused(storage: &Arc<dyn Storage>, error: Error) -> Result<Error> {
    let ErrorKind::Damage(seen) = error.kind() else { return Err(error) };
    match first(storage)? {
        Some(damage) => {
            Err(Error::damage(error.operation(), storage.path(), Damage { durable: seen.durable, ..damage }))
        }
        None => Ok(error),
    }
}

/// The first fault.
fn first(storage: &Arc<dyn Storage>) -> Result<Option<Damage>> {
    let tally = Tally::untold();
    let examined = examine(&Subject::log(Arc::clone(storage)), Depth::End, 1, &tally)?;
    let Some(fault) = examined.report.faults.first() else { return Ok(None) };
    let survey = &examined.plan.survey;
    let index = survey.segments.iter().position(|found| found.name == fault.segment);
    let mut damage = match index {
        Some(index) => {
            examined.in_file(index, fault).map_err(|e| Error::io("read", storage.path().join(&fault.segment), e))?
        }
        None => examined.in_no_file(fault),
    };
    let seen = index.and_then(|index| examined.seen(index, fault.offset)).unwrap_or(&damage.found);
    let what = match fault.what.strip_suffix(seen).map(|why| why.trim_end_matches(": ")) {
        Some("") => words::NO_FRAME.to_owned(),
        why => why.unwrap_or(&fault.what).to_owned(),
    };
    let base = index.map_or(fault.lsn.0, |index| examined.plan.base(index));
    for piece in examined.pieces.iter().filter(|piece| examined.plan.base_of(piece) > base) {
        let Some(index) = piece.member() else { continue };
        examined.pass(index, &mut damage).map_err(|e| Error::io("read", storage.path(), e))?;
    }
    let behind = fault.dropped.saturating_sub(damage.before);
    Ok(Some(Damage { what, bytes: fault.lost_bytes, records: fault.lost_records, behind, ..damage }))
}

impl Examined {
    /// How a segment is read, up to where it ended.
    fn place(&self, index: usize) -> Option<Place> {
        let part = self.plan.parts.get(index)?;
        let place = part.place?;
        Some(Place { limit: part.seal.map_or(place.limit, |seal| seal.end.min(place.limit)), ..place })
    }

    /// What was seen at an offset of a segment where no valid frame is.
    fn seen(&self, index: usize, offset: u64) -> Option<&String> {
        let holes = &self.walks.get(index)?.as_ref()?.holes;
        holes.iter().find(|hole| hole.from == offset).map(|hole| &hole.what)
    }

    /// What lies at a fault of a segment.
    fn in_file(&self, index: usize, fault: &Fault) -> std::io::Result<Damage> {
        let mut damage = Damage::at(&fault.segment, fault.offset, fault.lsn.0);
        let Some(found) = self.plan.survey.segments.get(index) else { return Ok(damage) };
        match self.place(index) {
            Some(place) if fault.offset > 0 => Ok(damage_at(&*found.file, &place, &found.name, fault.offset)?.0),
            place => {
                damage.found = header_of(found, &self.plan.survey)?;
                // What is behind the header stays.
                place.map_or(Ok(()), |place| look_beyond(&mut damage, &*found.file, &place, u64::from(BLOCK)))?;
                Ok(damage)
            }
        }
    }

    /// What there is of a segment that is gone.
    fn in_no_file(&self, fault: &Fault) -> Damage {
        let gone =
            |piece: &&Piece| matches!(piece, Piece::Missing { base, .. } if segment_name(*base) == fault.segment);
        let end = self.pieces.iter().find(gone).and_then(|piece| self.plan.end_of(piece));
        let end = end.unwrap_or_else(|| self.durable.max(self.plan.survey.mark.map_or(0, |mark| mark.shown)));
        let expected = |there| format!("{there}, expected records up to LSN {end}");
        let found = match self.plan.survey.segments.len() as u64 {
            _ if !fault.segment.is_empty() => expected("no such file".to_owned()),
            0 => expected(format!("{MARK} alone")),
            files if self.pieces.is_empty() => expected(format!("no valid frame in {}", plural(files, "segment file"))),
            _ => "no file that holds them".to_owned(),
        };
        Damage { found, ..Damage::at(&fault.segment, fault.offset, fault.lsn.0) }
    }

    /// Adds to the damage what is valid in a segment beyond it; of those that a durable link seals, as many records as it
    /// says, or as a repair left.
    fn pass(&self, index: usize, damage: &mut Damage) -> std::io::Result<()> {
        let (Some(found), Some(part)) = (self.plan.survey.segments.get(index), self.plan.parts.get(index)) else {
            return Ok(());
        };
        let Some(place) = self.place(index) else { return Ok(()) };
        let first = u64::from(BLOCK);
        let sealed = part.seal.filter(|seal| found.base.saturating_add(seal.end) <= self.durable);
        let is_read = self.walks.get(index).is_some_and(Option::is_some);
        match part.records(false).filter(|_| sealed.is_some() && !is_read) {
            Some(records) => damage.pass(found.base.saturating_add(first), records),
            None => look_beyond(damage, &*found.file, &place, first)?,
        }
        Ok(())
    }
}

/// What is wrong with a segment's header, in words.
fn header_of(found: &Found, survey: &Survey) -> std::io::Result<String> {
    let mut head = [0; BLOCK as usize];
    let filled = read_full(&*found.file, &mut head, 0)?;
    let named = survey.link_above(found.base).map(|link| link.prev_seed);
    Ok(match (Header::decode(&head), Header::sums(&head)) {
        (Ok((header, _)), _) if segment_name(header.base) != found.name => {
            format!("the header of {}, expected one of this name", segment_name(header.base))
        }
        (Ok((header, seed)), _) if Some(header.log_id) == survey.log_id => {
            format!("a header with checksum {seed:08x}, expected {:08x}", named.unwrap_or(seed))
        }
        (Ok((header, _)), _) => {
            let ours = survey.log_id.as_ref().map_or_else(String::new, words::hex);
            format!("a header with log id {}, expected {ours}", words::hex(&header.log_id))
        }
        _ if filled < head.len() => format!("the file ends at byte {filled}, within the header"),
        _ if head.iter().all(|byte| *byte == 0) => format!("{filled} bytes of zeros"),
        (Err(_), Some((found, expected))) => format!("a header with checksum {found:08x}, expected {expected:08x}"),
        (Err(_), None) => "no header".to_owned(),
    })
}
