//! Segments of the log whose files have other names: read as what their headers say, where nothing else can be.
//!
//! The one rule for all that check: what is taken here is the log's to verifying, reading and repairing alike.
//!
//! | word | file |
//! |---|---|
//! | *misnamed* | a segment of the log under another name than its own, by a hand |
//! | *aside* | `NAME.aside`: what opening or a repair moved there, or copied before it wrote a segment anew |
//! | *stand-in* | what a repair wrote anew under a segment's name and seed, with gaps for what is lost |
//! | *adopted* | any of these, or an unfinished one, that is read here in the place of its segment |

use std::collections::HashMap;
use std::io;

use crate::bugs::Bugs;
use crate::error::{Error, Result};
use crate::format::{Header, Left, aside_of, segment_name, was_unfinished};
use crate::recovery::{Found, Survey, ceiling, find, missing, strays};
use crate::scan::{Place, holds_frames};
use crate::storage::{Storage, read_head};

use super::sift::{Bounds, sift};

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
    /// Of the segment, however many bytes of it this file has.
    place: Place,
}

/// Puts each such segment into the survey, at its own place: its header, its frames and the place are the log's.
///
/// | lies | in its place is nothing of it | there is less of it than in this one |
/// |---|---|---|
/// | under another name | taken | taken if a link names it |
/// | aside: it may have been cut off | taken if a link names it | the same, unless that is what a repair left |
/// | unfinished | taken if it holds a record, for no maker leaves one, and all that a repair left in it, if one wrote it | not taken, unless what is there has another name too, and no link |
///
/// What was unfinished before it was moved aside is both, and not taken if a repair wrote it: all that this kept is elsewhere
/// then, and what it passed over may be.
///
/// None is taken that holds more records than a link says that names it, or than a repair left in its place: that tells of
/// what was left of it since. Only whole batches count, for a repair keeps no others. One with a frame of a newer version
/// is taken where nothing of it lies in its place: then nothing of the log is known, as where such a frame lies there.
pub(super) fn adopt(storage: &dyn Storage, survey: &mut Survey) -> Result<Adopted> {
    let mut adopted = Adopted::default();
    let is_late = |stray: &Stray| aside_of(&stray.found.name).is_some() || was_unfinished(&stray.found.name);
    let mut found = Vec::new();
    for (name, Header { base, capacity, .. }, seed) in strays(storage, survey)? {
        let stray = match find(storage, name, base, false, Bugs::default()) {
            // A writer makes a spare into another segment under its old name.
            Err(e) if missing(&e) => continue,
            stray => stray?,
        };
        // A header in which a bit is wrong stays damaged, and says the same.
        if stray.header.is_ok() || stray.other.is_none() {
            found.push(Stray { found: stray, place: Place { base, seed, limit: capacity } });
        }
    }
    // From above, for links name those below.
    while let Some(base) = found.iter().map(|stray| stray.place.base).max() {
        let here = found.extract_if(.., |stray| stray.place.base == base);
        let (late, renamed): (Vec<_>, Vec<_>) = here.partition(is_late);
        // What a hand renamed goes before what was moved aside: since then a repair may have passed over some of it. And
        // before what looks unfinished: it may be half of a copy that a repair was making of any of the others.
        for strays in [renamed, late] {
            let mut best: Option<(Stray, Worth)> = None;
            for stray in strays {
                let io = |e| Error::io("read", storage.path().join(&stray.found.name), e);
                let Some(worth) = worth(survey, &stray, &mut adopted.told).map_err(io)? else { continue };
                // Of several copies the one in which most is left.
                if best.as_ref().is_none_or(|(_, best)| *best < worth) {
                    best = Some((stray, worth));
                }
            }
            adopted.displaced.extend(best.into_iter().flat_map(|(stray, _)| survey.take(stray.found)));
        }
    }
    Ok(adopted)
}

/// Of several copies the highest is taken: one that a link names, then the one in which most is left.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    named: bool,
    bytes: u64,
}

/// What a file is worth, if it is to be taken: see [`adopt`] for the rules.
fn worth(survey: &Survey, stray: &Stray, told: &mut HashMap<u64, u32>) -> io::Result<Option<Worth>> {
    let (aside, unfinished) = (aside_of(&stray.found.name).is_some(), was_unfinished(&stray.found.name));
    let link = survey.link_to(&stray.place);
    let named = link.is_some();
    let free = is_free(survey, &stray.place, told)?;
    let there = survey.at(stray.place.base).filter(|_| !free);
    let is_other = |there: &Found| there.header.as_ref().is_ok_and(|(_, seed)| *seed != stray.place.seed);
    // What a repair left there. Its header may be damaged.
    let head = there.map(|there| read_head(&*there.file)).transpose()?;
    let left = head.and_then(|head| Left::decode(&head, stray.place.seed));
    // What a hand renamed was taken, and its link is lost: nothing says that its segment was ever begun.
    let begins = there.is_some_and(|there| is_misnamed(there) && there.link.is_none()) && stray.found.link.is_some();
    // The table's columns. What lies aside beside what a repair left is what that passed over.
    let stays = match there {
        None => aside && !named,
        Some(_) if begins => false,
        Some(there) => unfinished || !named || is_other(there) || aside && left.is_some(),
    };
    if stays {
        return Ok(None);
    }
    let end = link.map(|link| link.prev_end.saturating_sub(link.prev_base));
    let left_there = there.map_or(Ok(Some((0, 0))), |there| left_in(there, &stray.place, end))?;
    let Some((bytes_there, records_there)) = left_there else { return Ok(None) };
    let Some((bytes, records)) = left_in(&stray.found, &stray.place, end)? else {
        return Ok(there.is_none().then_some(Worth { named, bytes: u64::MAX }));
    };
    // Each of these tells of what was left of it since.
    let more_than_left = left.is_some_and(|left| records_there == left.records || records > left.records);
    let more_than_named = link.is_some_and(|link| records > link.prev_records);
    // Of one that a repair wrote, only what is as whole as it was to be, and that opening has not moved aside since.
    let is_half = |left: Left| aside || records != left.records;
    let not_done = unfinished && (records == 0 || stray.found.left.is_some_and(is_half));
    let taken = (begins || bytes > bytes_there) && !more_than_left && !more_than_named && !not_done;
    Ok(taken.then_some(Worth { named, bytes }))
}

/// The bytes and the records of whole batches that a file holds of a segment, but for gaps; `None` for a frame of a newer
/// version, with which nobody can tell how much it is.
fn left_in(found: &Found, place: &Place, end: Option<u64>) -> io::Result<Option<(u64, u64)>> {
    let place = Place { limit: place.limit.min(found.length), ..*place };
    let Some(left) = sift(&*found.file, &place, end, Bounds::NONE, |_| true)? else { return Ok(None) };
    let bytes: u64 = left.kept.iter().map(|kept| kept.end - kept.start).sum();
    Ok(Some((bytes - left.blank, left.whole.records)))
}

impl Survey {
    /// Takes a file as the segment that its header says. Gives the name of the one in its place.
    fn take(&mut self, found: Found) -> Option<String> {
        self.ceiling = self.ceiling.max(ceiling(&found));
        self.front = self.front.max(found.link.as_ref().map_or(0, |(link, _)| link.front));
        unnote(&mut self.notes, &found.name);
        for names in [&mut self.aside, &mut self.unfinished, &mut self.foreign] {
            names.retain(|name| *name != found.name);
        }
        let there = self.segments.extract_if(.., |other| other.base == found.base).map(|other| other.name).next();
        let at = self.segments.partition_point(|other| other.base < found.base);
        self.segments.insert(at, found);
        there
    }
}

/// Takes back that a file is none of the log's: it is read as one.
pub(super) fn unnote(notes: &mut Vec<String>, name: &str) {
    let not_ours = ["not a file of the log", "a copy of"].map(|what| format!("{name}: {what}"));
    notes.retain(|note| !not_ours.iter().any(|not_ours| note.starts_with(not_ours)));
}

/// Whether no file lies at a place, or one of another segment, or one in which nothing of this one is. `told`: the seed,
/// where something is.
fn is_free(survey: &Survey, place: &Place, told: &mut HashMap<u64, u32>) -> io::Result<bool> {
    let Some(found) = survey.at(place.base) else { return Ok(true) };
    if let Ok((_, seed)) = found.header {
        // Made another time, and no link is about it.
        let other = Place { seed, ..*place };
        return Ok(seed != place.seed && survey.link_to(place).is_some() && survey.link_to(&other).is_none());
    }
    let there = Place { limit: place.limit.min(found.length), ..*place };
    let free = !holds_frames(&*found.file, &there)?;
    if !free {
        told.entry(place.base).or_insert(place.seed);
    }
    Ok(free)
}
