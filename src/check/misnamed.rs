//! Segments of the log whose files have other names: read as what their headers say, where nothing else can be.

use crate::bugs::Bugs;
use crate::error::{Error, Result};
use crate::format::{Header, is_unfinished, segment_name};
use crate::recovery::{Found, Survey, find, is_aside};
use crate::scan::{Place, holds_frames, scan};
use crate::storage::{Storage, read_head};

/// Whether a file bears another name than that of the segment in it.
pub(super) fn is_misnamed(found: &Found) -> bool {
    found.name != segment_name(found.base)
}

/// Puts each such segment into the survey, at its own place, if nothing valid is there. Its header, its link and the
/// place are the log's: a spare that is being made anew has no link yet, and what was moved aside may not have been part
/// of the log. Gives the names of the files whose places were taken.
pub(super) fn adopt(storage: &dyn Storage, survey: &mut Survey) -> Result<Vec<String>> {
    let mut adopted: Vec<(Found, u64)> = Vec::new();
    for (name, plain) in storage.list().map_err(|e| Error::io("list", storage.path(), e))? {
        let Some(name) = name.to_str().filter(|name| plain && !is_unfinished(name) && !is_aside(name)) else {
            continue;
        };
        if survey.segments.iter().any(|found| found.name == name && found.header.is_ok()) {
            continue;
        }
        // What cannot be read is told of where it is the log's by its name.
        let Ok(head) = storage.open(name, false).and_then(|file| read_head(&*file)) else { continue };
        let Ok((header, _)) = Header::decode(&head) else { continue };
        if Some(header.log_id) != survey.log_id || header.base < survey.front || segment_name(header.base) == name {
            continue;
        }
        let found = find(storage, name.to_owned(), header.base, false, Bugs::default())?;
        let Some(place) = found.place(Bugs::default()).filter(|_| found.link.is_some()) else { continue };
        let io = |e| Error::io("read", storage.path().join(name), e);
        if !is_free(survey, &place).map_err(io)? {
            continue;
        }
        // Of several copies the one that reaches farthest.
        let reach = scan(&*found.file, &place, Bugs::default()).map_err(io)?.end;
        match adopted.iter_mut().find(|(other, _)| other.base == found.base) {
            Some(other) if other.1 < reach => *other = (found, reach),
            Some(_) => {}
            None => adopted.push((found, reach)),
        }
    }
    let mut displaced = Vec::new();
    for (found, _) in adopted {
        survey.ceiling = survey.ceiling.max(found.base.saturating_add(found.length));
        survey.front = survey.front.max(found.link.as_ref().map_or(0, |(link, _)| link.front));
        survey.notes.retain(|note| !note.starts_with(&format!("{}: not a file of the log", found.name)));
        displaced.extend(survey.segments.extract_if(.., |other| other.base == found.base).map(|other| other.name));
        survey.segments.push(found);
    }
    survey.segments.sort_by_key(|found| found.base);
    let cut = survey.segments.partition_point(|found| found.base < survey.front);
    survey.spares.extend(survey.segments.drain(..cut).map(|found| found.name));
    Ok(displaced)
}

/// Whether no file lies at a place, or one of another segment, or one in which nothing of this one is.
fn is_free(survey: &Survey, place: &Place) -> std::io::Result<bool> {
    let Ok(index) = survey.segments.binary_search_by_key(&place.base, |found| found.base) else { return Ok(true) };
    let Some(found) = survey.segments.get(index).filter(|found| found.header.is_err()) else { return Ok(false) };
    let others = Header::decode(&read_head(&*found.file)?).is_ok();
    let there = Place { limit: place.limit.min(found.length), ..*place };
    Ok(others || !holds_frames(&*found.file, &there)?)
}
