//! Segments of the log whose files have other names: read as what their headers say, where nothing else can be.
//!
//! The one rule for all that check: what is taken here is the log's to verifying, reading and repairing alike.

use std::collections::HashMap;

use crate::bugs::Bugs;
use crate::error::{Error, Result};
use crate::format::{Header, is_unfinished, segment_name};
use crate::recovery::{Found, Survey, find, is_aside, strays};
use crate::scan::{Place, holds_frames};
use crate::storage::{Storage, read_head};

use super::walk::walk;

/// Whether a file bears another name than that of the segment in it.
pub(super) fn is_misnamed(found: &Found) -> bool {
    found.name != segment_name(found.base)
}

/// What became of the survey.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    /// The names of the files whose places were taken.
    pub(super) displaced: Vec<String>,
    /// Seeds by base, of segments that lie in their places without a sound header: copies elsewhere tell them.
    pub(super) told: HashMap<u64, u32>,
}

/// A file that could be a segment of the log under another name.
struct Stray {
    found: Found,
    place: Place,
}

/// Puts each such segment into the survey, at its own place, if nothing valid is there, or, of a copy that a hand made of one
/// whose end a link tells, less than in that. Its header, its frames and the
/// place are the log's: a spare that is being made anew holds no frame yet. What was moved aside may have been cut off,
/// so of that only what a link names is taken; and of what looks unfinished, only what holds a record. None is taken that
/// holds more records than a link says that names it: that tells of what a repair left of it since.
pub(super) fn adopt(storage: &dyn Storage, survey: &mut Survey) -> Result<Adopted> {
    let mut adopted = Adopted::default();
    let is_late = |stray: &Stray| is_aside(&stray.found.name) || is_unfinished(&stray.found.name);
    let mut found = Vec::new();
    for (name, Header { base, .. }, _) in strays(storage, survey)? {
        let stray = find(storage, name, base, false, Bugs::default())?;
        found.extend(stray.place(Bugs::default()).map(|place| Stray { found: stray, place }));
    }
    let (late, renamed): (Vec<_>, Vec<_>) = found.into_iter().partition(is_late);
    // What a hand renamed goes before what was moved aside: since then a repair may have passed over some of it. And before
    // what looks unfinished: it may be half of a copy that a repair was making of any of the others.
    for mut strays in [renamed, late] {
        // From above, for links name those below.
        while let Some(base) = strays.iter().map(|stray| stray.place.base).max() {
            let mut best: Option<(Stray, (bool, u64))> = None;
            for stray in strays.extract_if(.., |stray| stray.place.base == base) {
                let io = |e| Error::io("read", storage.path().join(&stray.found.name), e);
                let link = survey.link_to(&stray.place);
                let meant = link.is_some();
                let end = link.map(|link| link.prev_end.saturating_sub(link.prev_base));
                let least = match is_free(survey, &stray.place, &mut adopted.told).map_err(io)? {
                    true if is_aside(&stray.found.name) && !meant => None,
                    true => Some(0),
                    false if is_late(&stray) => None,
                    false => left_of(survey, &stray.place, end).map_err(io)?,
                };
                let Some(least) = least else { continue };
                // Of several copies the one in which most is left.
                let walked = walk(&*stray.found.file, &stray.place, end, |_| true).map_err(io)?;
                if link.is_some_and(|link| walked.found.records > link.prev_records) {
                    continue;
                }
                // Of an unfinished one no maker leaves a frame, and no repair a record that is not elsewhere.
                let made = is_unfinished(&stray.found.name) && walked.found.records == 0;
                let left = if made { 0 } else { walked.bytes };
                if left > least && best.as_ref().is_none_or(|(_, best)| *best < (meant, left)) {
                    best = Some((stray, (meant, left)));
                }
            }
            adopted.displaced.extend(best.into_iter().flat_map(|(stray, _)| survey.take(stray.found)));
        }
    }
    survey.clean_to(survey.front);
    Ok(adopted)
}

impl Survey {
    /// Takes a file as the segment that its header says. Gives the name of the one in its place.
    fn take(&mut self, found: Found) -> Option<String> {
        self.ceiling = self.ceiling.max(found.base.saturating_add(found.length));
        self.front = self.front.max(found.link.as_ref().map_or(0, |(link, _)| link.front));
        let is_no_file = format!("{}: not a file of the log", found.name);
        let is_copy = format!("{}: a copy of", found.name);
        self.notes.retain(|note| !note.starts_with(&is_no_file) && !note.starts_with(&is_copy));
        self.aside.retain(|name| *name != found.name);
        self.unfinished.retain(|name| *name != found.name);
        let there = self.segments.extract_if(.., |other| other.base == found.base).map(|other| other.name).next();
        let at = self.segments.partition_point(|other| other.base < found.base);
        self.segments.insert(at, found);
        there
    }
}

/// How many valid bytes of a segment lie in its own place, if they are not all of it: then a copy may hold more.
fn left_of(survey: &Survey, place: &Place, end: Option<u64>) -> std::io::Result<Option<u64>> {
    let index = survey.segments.binary_search_by_key(&place.base, |found| found.base);
    let (Some(found), Some(end)) = (index.ok().and_then(|index| survey.segments.get(index)), end) else {
        return Ok(None);
    };
    if found.header.as_ref().is_ok_and(|(_, seed)| *seed != place.seed) {
        return Ok(None);
    }
    let there = Place { limit: place.limit.min(found.length), ..*place };
    let walked = walk(&*found.file, &there, Some(end), |_| true)?;
    Ok((!walked.is_whole(Some(end))).then_some(walked.bytes))
}

/// Whether no file lies at a place, or one of another segment, or one in which nothing of this one is. `told`: the seed,
/// where something is.
fn is_free(survey: &Survey, place: &Place, told: &mut HashMap<u64, u32>) -> std::io::Result<bool> {
    let Ok(index) = survey.segments.binary_search_by_key(&place.base, |found| found.base) else { return Ok(true) };
    let Some(found) = survey.segments.get(index) else { return Ok(true) };
    if let Ok((_, seed)) = found.header {
        // Made another time, and no link is about it.
        let other = Place { seed, ..*place };
        return Ok(seed != place.seed && survey.link_to(place).is_some() && survey.link_to(&other).is_none());
    }
    let others = Header::decode(&read_head(&*found.file)?).is_ok();
    let there = Place { limit: place.limit.min(found.length), ..*place };
    let free = others || !holds_frames(&*found.file, &there)?;
    if !free {
        told.entry(place.base).or_insert(place.seed);
    }
    Ok(free)
}
