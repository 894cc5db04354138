//! Segments under names that are not theirs. Opening does not read them: it only asks whether they are part of a log that
//! lacks them.

use std::collections::HashSet;

use crate::bugs::Bugs;
use crate::error::{Error, Result};
use crate::format::{BLOCK, Header, MARK, frame_size, is_unfinished, segment_name};
use crate::scan::{Chunk, Place, Window, frame_at};
use crate::storage::{Storage, read_head};

use super::survey::{Survey, read_link};

/// The header in a file, sound but for one byte at most, its seed, and the first blocks. What cannot be read is told of where
/// it is the log's by its name.
fn header_in(storage: &dyn Storage, name: &str) -> Option<(Header, u32, Vec<u8>)> {
    let head = storage.open(name, false).and_then(|file| read_head(&*file)).ok()?;
    let (header, seed) = Header::read(&head)?;
    Some((header, seed, head))
}

/// Whether a frame follows the first one in a file.
fn goes_on(storage: &dyn Storage, name: &str, place: &Place, bugs: Bugs) -> bool {
    let Ok(file) = storage.open(name, false) else { return false };
    let mut chunk = Chunk::default();
    let mut window = Window::new(&*file, place.limit, &mut chunk);
    let mut at = |offset| frame_at(&mut window, place, offset, bugs).ok().flatten();
    let first = u64::from(BLOCK);
    at(first).and_then(|link| at(first + frame_size(u64::from(link.length)))).is_some()
}

/// The files with a header of this log that is not their name's, sound but for one byte at most: that and its seed.
pub(crate) fn strays(storage: &dyn Storage, survey: &Survey) -> Result<Vec<(String, Header, u32)>> {
    let sound = survey.segments.iter().filter(|found| found.header.is_ok()).map(|found| found.name.as_str());
    let sound: HashSet<&str> = sound.collect();
    let mut strays = Vec::new();
    for (name, plain) in storage.list().map_err(|e| Error::io("list", storage.path(), e))? {
        let Some(name) = name.to_str().filter(|name| plain && !sound.contains(name)) else { continue };
        let Some((header, seed, _)) = header_in(storage, name) else { continue };
        let is_ours = Some(header.log_id) == survey.log_id && header.base >= survey.front;
        if is_ours && segment_name(header.base) != name {
            strays.push((name.to_owned(), header, seed));
        }
    }
    Ok(strays)
}

impl Survey {
    /// The headers of segments under names that are no segment's, whose first frame holds, as it does in each that was begun.
    /// Of what looks unfinished those that hold more: a repair that ends early leaves one with a link alone. What was moved
    /// aside is named by a link or is none.
    pub(super) fn elsewhere(&self, storage: &dyn Storage, bugs: Bugs) -> Vec<Header> {
        let begun = |name: &str| {
            let (header, seed, head) = header_in(storage, name)?;
            let place = Place { base: header.base, seed, limit: header.capacity };
            let is_more = || !is_unfinished(name) || goes_on(storage, name, &place, bugs);
            read_link(&head, place, bugs).filter(|_| is_more()).map(|_| header)
        };
        let names = self.foreign.iter().chain(&self.unfinished).map(String::as_str);
        names.chain([MARK]).filter_map(begun).collect()
    }

    /// Whether a segment under another name is one of this log's that nothing else tells of: below the newest that lies under
    /// its name the links tell what is missing.
    pub(super) fn misses(&self, header: &Header, newest: Option<u64>) -> bool {
        let is_above = header.base >= self.front && newest.is_none_or(|newest| header.base > newest);
        Some(header.log_id) == self.log_id && is_above && self.at(header.base).is_none()
    }
}
