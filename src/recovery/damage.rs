//! The errors of a log that is not opened: where it is damaged, and what is lost under each way out.

use std::path::Path;

use crate::bugs::Bugs;
use crate::error::{Damage, Error, ErrorKind, Result};
use crate::format::{BLOCK, NO_BASE};
use crate::lsn::Lsn;
use crate::scan::look_ahead;
use crate::storage::Storage;

use super::survey::Survey;
use super::{Tail, read_segment};

/// A segment that is not as any crash would leave it.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// Its name.
    pub(crate) segment: String,
    pub(crate) base: u64,
    /// What is not there, as far as it is known without reading the segment.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) what: String,
}

/// What is wrong with a newest segment that is shorter than it was made and did not end there, at the LSN `end`, when
/// the log was closed.
pub(crate) fn short(survey: &Survey, end: u64, length: u64, capacity: u64) -> Option<String> {
    let closed = survey.mark.map(|mark| mark.synced);
    if length >= capacity || closed == Some(end) {
        return None;
    }
    Some(match closed {
        Some(_) => format!("cut to {length} bytes, it was made with {capacity}"),
        None => {
            format!("{length} bytes of {capacity}: it was cut, or MARK, which says that it was closed there, is gone")
        }
    })
}

/// The error for bytes that were durable and are not there, or that no crash leaves. `short`: what is wrong with the
/// tip's length.
pub(super) fn damage(
    storage: &dyn Storage,
    survey: &Survey,
    tail: &Tail,
    broken: Option<Broken>,
    short: Option<String>,
) -> Result<Error> {
    let (Broken { segment, base, from, to, what }, next, beyond) = match broken {
        Some(mut broken) => {
            broken.from = first_bad(storage, survey, &broken)?;
            let next = survey.segments.iter().map(|found| found.base).find(|base| *base >= broken.to);
            let beyond = frames_from(storage, survey, broken.to)?;
            (broken, next, beyond)
        }
        None if tail.unlinked.is_some() && !tail.is_torn(&survey.segments) => {
            let found = tail.unlinked.and_then(|index| survey.segments.get(index));
            let base = found.map_or(0, |found| found.base);
            let from = base.saturating_add(u64::from(BLOCK));
            let what = "the link is damaged, which says how the log goes on here".to_owned();
            let segment = found.map(|found| found.name.clone()).unwrap_or_default();
            let to = tail.first_beyond.unwrap_or(tail.claim).max(from);
            (Broken { segment, base, from, to, what }, tail.first_beyond, tail.beyond)
        }
        None => {
            let found = tail.bad.and_then(|index| survey.segments.get(index));
            let base = found.map_or(survey.front, |found| found.base);
            let what = if found.is_none() { "every segment is gone" } else { "no valid frame here, not a torn tail" };
            let what = short.unwrap_or_else(|| what.to_owned());
            let segment = found.map(|found| found.name.clone()).unwrap_or_default();
            let from = base.saturating_add(tail.offset);
            let to = tail.first_beyond.unwrap_or(tail.claim).max(from);
            (Broken { segment, base, from, to, what }, tail.first_beyond, tail.beyond)
        }
    };
    let damage = Damage {
        segment: segment.clone(),
        offset: from.saturating_sub(base),
        lsn: Lsn(from),
        durable: Lsn(tail.claim),
        next: next.map(Lsn),
        bytes: lost(survey, from, to),
        beyond,
    };
    let offset = damage.offset;
    let message = format!("damaged: {what}: {damage}; `seawall verify` lists all that is damaged");
    let directory = storage.path();
    let path = if segment.is_empty() { directory.to_path_buf() } else { directory.join(segment) };
    Ok(Error::new(ErrorKind::Damage(damage), "open", message).at(path, offset))
}

/// Where it is broken: in a segment that was cut, the first bad place lies before the cut.
fn first_bad(storage: &dyn Storage, survey: &Survey, broken: &Broken) -> Result<u64> {
    let cut = survey.segments.iter().find(|found| found.base == broken.base && found.base < broken.from);
    let Some(found) = cut else { return Ok(broken.from) };
    let scan = read_segment(storage, found, Some(broken.to), Bugs::default())?;
    Ok(found.base + scan.end)
}

/// Bytes of frames from one LSN to another, at most: without headers, and without what lies between the end of a
/// segment and the base of the next.
fn lost(survey: &Survey, from: u64, to: u64) -> u64 {
    let block = u64::from(BLOCK);
    // Base, end, and the least base of the next, of segments that are there or that a link speaks of.
    let mut spans = Vec::new();
    for found in &survey.segments {
        let end = found.base.saturating_add(found.header.as_ref().map_or(found.length, |(header, _)| header.capacity));
        let sealed = survey.sealed_end(found.base).unwrap_or(end);
        spans.push((found.base, sealed, end.max(sealed)));
        let link = found.link.as_ref().map(|(link, _)| link).filter(|link| link.prev_base != NO_BASE);
        if let Some(link) = link.filter(|link| survey.segments.iter().all(|found| found.base != link.prev_base)) {
            spans.push((link.prev_base, link.prev_end, found.base));
        }
    }
    spans.sort_unstable();
    let (mut bytes, mut at) = (0, from);
    for (base, end, limit) in spans.into_iter().filter(|(base, ..)| *base < to) {
        if at < base {
            bytes += base.saturating_sub(at.saturating_add(block));
        }
        bytes += to.min(end).saturating_sub(at.max(base.saturating_add(block)));
        at = at.max(limit);
    }
    bytes + to.saturating_sub(if at == from { at } else { at.saturating_add(block) })
}

/// Valid frames in the segments from `lsn` on; of those that a link seals, as many as it says.
fn frames_from(storage: &dyn Storage, survey: &Survey, lsn: u64) -> Result<u64> {
    let links = survey.segments.iter().filter_map(|found| found.link.as_ref()).map(|(link, _)| link);
    let mut frames = 0;
    for found in survey.segments.iter().filter(|found| found.base >= lsn) {
        let sealed = links.clone().find(|link| link.prev_base == found.base);
        let more = match (sealed, found.place(Bugs::default())) {
            (Some(link), Some(_)) => link.prev_records.saturating_add(1),
            (None, Some(place)) => {
                let ahead = look_ahead(&*found.file, &place, u64::from(BLOCK), Bugs::default());
                ahead.map_err(|e| Error::io("read", storage.path().join(&found.name), e))?.frames
            }
            (_, None) => 0,
        };
        frames = more.saturating_add(frames);
    }
    Ok(frames)
}

/// The error of [`RecoveryMode::Strict`](crate::RecoveryMode) for a log that did not end in order.
pub(super) fn not_strict(directory: &Path, survey: &Survey, tail: &Tail) -> Error {
    let (end, claim, beyond) = (tail.end, tail.claim, tail.beyond);
    let found = if claim < end || beyond > 0 {
        format!("all below LSN {claim} is known durable, {beyond} valid frames lie beyond")
    } else {
        "a part of a batch lies there that was never acknowledged".to_owned()
    };
    let message = format!(
        "the log does not end where it is known to be durable: it ends at LSN {end}, {found}; open it with \
         RecoveryMode::TornTail to drop the torn tail; nothing was changed"
    );
    Error::new(ErrorKind::NotStrict, "open", message).at(tail.path(directory, survey), tail.offset)
}
