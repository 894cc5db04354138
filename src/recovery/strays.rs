//! Segments under names that are not theirs. Opening does not read them: it only asks whether they are all that is left.

use std::collections::{HashMap, HashSet};

use crate::bugs::Bugs;
use crate::error::{Error, Result};
use crate::format::{Header, aside_of, is_unfinished, segment_base, segment_name};
use crate::scan::Place;
use crate::storage::{Storage, read_head};

use super::survey::{Survey, read_link};

/// The files with a header of this log that is not their name's, sound but for one byte at most: that and its seed.
pub(crate) fn strays(storage: &dyn Storage, survey: &Survey) -> Result<Vec<(String, Header, u32)>> {
    let sound = survey.segments.iter().filter(|found| found.header.is_ok()).map(|found| found.name.as_str());
    let sound: HashSet<&str> = sound.collect();
    let mut strays = Vec::new();
    for (name, plain) in storage.list().map_err(|e| Error::io("list", storage.path(), e))? {
        let Some(name) = name.to_str().filter(|name| plain && !sound.contains(name)) else { continue };
        // What cannot be read is told of where it is the log's by its name.
        let Ok(head) = storage.open(name, false).and_then(|file| read_head(&*file)) else { continue };
        let Some((header, seed)) = Header::read(&head) else { continue };
        let is_ours = Some(header.log_id) == survey.log_id && header.base >= survey.front;
        if is_ours && segment_name(header.base) != name {
            strays.push((name.to_owned(), header, seed));
        }
    }
    Ok(strays)
}

/// The headers of segments under other names whose first frame holds, as it does in each that was begun. What looks unfinished
/// is left by a crash that ends the making of a log, and what was moved aside is named by a link or is none.
pub(super) fn elsewhere(storage: &dyn Storage, bugs: Bugs) -> Result<Vec<Header>> {
    let is_named = |name: &str| segment_base(name).is_some() || is_unfinished(name) || aside_of(name).is_some();
    let mut found = Vec::new();
    for (name, plain) in storage.list().map_err(|e| Error::io("list", storage.path(), e))? {
        let Some(name) = name.to_str().filter(|name| plain && !is_named(name)) else { continue };
        let Ok(head) = storage.open(name, false).and_then(|file| read_head(&*file)) else { continue };
        let Some((header, seed)) = Header::read(&head) else { continue };
        let place = Place { base: header.base, seed, limit: header.capacity };
        found.extend(read_link(&head, place, bugs).map(|_| header));
    }
    Ok(found)
}

impl Survey {
    /// Whether a segment under another name is one of this log's that nothing else tells of: below the newest that lies under
    /// its name the links tell what is missing.
    pub(super) fn misses(&self, header: &Header, newest: Option<u64>) -> bool {
        let is_above = header.base >= self.front && newest.is_none_or(|newest| header.base > newest);
        Some(header.log_id) == self.log_id && is_above && self.at(header.base).is_none()
    }
}

/// The log that most of them are of.
pub(super) fn most(headers: &[Header]) -> Option<[u8; 16]> {
    let mut votes: HashMap<[u8; 16], usize> = HashMap::new();
    headers.iter().for_each(|header| *votes.entry(header.log_id).or_default() += 1);
    votes.into_iter().max_by_key(|(id, votes)| (*votes, *id)).map(|(id, _)| id)
}
