//! What lies in files that were moved aside, and not in the log: it is no fault, but somebody may look for it.

use std::{io, iter};

use crate::error::{listed, plural};
use crate::format::{Header, base_in};
use crate::recovery::misplaced;
use crate::scan::Place;
use crate::storage::{File, Storage, is_zero, read_head};

use super::examine::Examined;
use super::walk::{Stretch, Walk};

/// A note for each file that was moved aside and holds valid records, and one for the others.
pub(super) fn notes(storage: &dyn Storage, examined: &Examined) -> Vec<String> {
    let (mut notes, mut empty, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for name in &examined.plan.survey.aside {
        match held(storage, examined, name) {
            Ok(None) => unknown.push(format!(
                "{name}: moved aside earlier; its header is damaged or another's, and what it holds cannot be told: \
                 `seawall salvage` looks"
            )),
            Ok(Some((0, _))) => empty.push(name.clone()),
            Ok(Some((records, missing))) => {
                let records = plural(records, "valid record");
                let missing = match missing {
                    0 => "all of them in the log too".to_owned(),
                    _ => format!(
                        "{missing} of them not in the log: `seawall export --out NEWDIR FILE` writes what it holds into a new \
                         log"
                    ),
                };
                notes.push(format!("{name}: moved aside earlier, holds {records}, {missing}"));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => notes.push(format!("{name}: moved aside earlier, cannot be read: {e}")),
        }
    }
    notes.extend(unknown);
    notes.extend(match empty.as_slice() {
        [] => None,
        [name] => Some(format!("{name}: moved aside earlier, holds no valid record")),
        names => Some(format!("{} files moved aside earlier hold no valid record: {}", names.len(), listed(names))),
    });
    notes
}

/// How many valid records are in a file that was moved aside, and how many of these are not in the log; `None` where nothing
/// tells how to read it. It may be what is left of two segments: the one that its header says, and that of its name.
fn held(storage: &dyn Storage, examined: &Examined, name: &str) -> io::Result<Option<(u64, u64)>> {
    let file = storage.open(name, false)?;
    let (head, limit, named) = (read_head(&*file)?, file.len()?, base_in(name));
    let survey = &examined.plan.survey;
    // Of another log's there is nothing to miss.
    let header = Header::read(&head).filter(|(header, _)| survey.log_id == Some(header.log_id));
    let is_own = header.is_some_and(|(header, _)| named.is_none_or(|base| base == header.base));
    // A segment is written anew under its seed, so that tells how to read one that was copied aside without a header.
    let told = named.filter(|_| !is_own).and_then(|base| {
        let seed = member(examined, base).map(|(_, place)| place.seed);
        let seed = seed.or_else(|| survey.link_above(base).map(|link| link.prev_seed));
        Some((base, seed.or_else(|| misplaced(&head, base).map(|(seed, _)| seed))?))
    });
    let headed = header.map(|(header, seed)| (header.base, seed)).filter(|place| Some(*place) != told);
    let (mut held, mut missing) = (0, 0);
    for (base, seed) in headed.into_iter().chain(told) {
        let (records, gone) = compared(examined, &*file, &Place { base, seed, limit })?;
        held += records;
        missing += gone;
    }
    let is_told = held > 0 || is_own || is_zero(&*file, 0)?;
    Ok(is_told.then_some((held, missing)))
}

/// How many valid records lie at a place in a file, and how many of these are not in the log.
fn compared(examined: &Examined, file: &dyn File, place: &Place) -> io::Result<(u64, u64)> {
    let log = member(examined, place.base).filter(|(_, log)| log.seed == place.seed);
    let mut kept = log.into_iter().flat_map(|(file, place)| records(file, &place)).peekable();
    let (mut held, mut missing) = (0, 0);
    for lsn in records(file, place) {
        let lsn = lsn?;
        while let Some(below) = kept.next_if(|at| !at.as_ref().is_ok_and(|at| *at >= lsn)) {
            _ = below?;
        }
        held += 1;
        missing += u64::from(!kept.peek().is_some_and(|at| at.as_ref().is_ok_and(|at| *at == lsn)));
    }
    Ok((held, missing))
}

/// The segment of the log at a base, if there is one, up to where the log ends.
fn member(examined: &Examined, base: u64) -> Option<(&dyn File, Place)> {
    let plan = &examined.plan;
    let index = examined.pieces.iter().filter_map(|piece| piece.member()).find(|index| plan.base(*index) == base)?;
    let place = plan.parts.get(index)?.place?;
    let limit = place.limit.min(examined.report.end.0.saturating_sub(base));
    Some((&*plan.survey.segments.get(index)?.file, Place { limit, ..place }))
}

/// The LSNs of the valid records in a segment, in order.
fn records<'a>(file: &'a dyn File, place: &Place) -> impl Iterator<Item = io::Result<u64>> + use<'a> {
    let (mut walk, base) = (Walk::new(place, None), place.base);
    let steps = iter::from_fn(move || walk.next(file).transpose());
    steps.filter_map(move |step| match step {
        Ok(Stretch::Frame(offset, header, _)) if header.is_record() => Some(Ok(base + offset)),
        Ok(_) => None,
        Err(e) => Some(Err(e)),
    })
}
