//! What lies in the directory: MARK, the names, each segment's header and link.

use std::ffi::OsString;

use crate::bugs::{Bug, Bugs};
use crate::error::{Error, ErrorKind, Result, listed};
use crate::format::{
    BLOCK, BadHeader, CAPACITY, FRAME, FrameHeader, FrameKind, Header, LINK, Left, Link, MARK, MARK_SLOT, Mark,
    aside_of, frame_size, is_unfinished, segment_base, segment_name, sum,
};
use crate::scan::{Place, frame_at};
use crate::storage::{File, Storage, read_full, read_head};

use super::words::{self, NO_FILE};

/// A segment file that is not a spare.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// What its name says.
    pub(crate) base: u64,
    pub(crate) length: u64,
    pub(crate) file: Box<dyn File>,
    /// Its header and seed, or what is wrong with it.
    pub(crate) header: std::result::Result<(Header, u32), &'static str>,
    /// The header and the seed of the segment that it is, if its name is another's.
    pub(crate) other: Option<(Header, u32)>,
    /// The link in its first frame, and what that frame claims.
    pub(crate) link: Option<(Link, u64)>,
    /// What a repair left in it, if one wrote it anew.
    pub(crate) left: Option<Left>,
    /// That is damaged.
    pub(crate) left_damaged: bool,
}

impl Found {
    /// Where its frames may lie.
    pub(crate) fn place(&self, bugs: Bugs) -> Option<Place> {
        let (header, seed) = self.header.as_ref().ok()?;
        let seed = if bugs.has(Bug::StaleFrames) { 0 } else { *seed };
        Some(Place { base: self.base, seed, limit: header.capacity.min(self.length) })
    }

    /// Whether it may have gone on behind its last frame, which ends at the offset `end`, for all that is there: zeros are
    /// what lost sectors leave, and a file that is shorter than it was made was trimmed or cut. `left`: how many of its
    /// `records` there were if a repair wrote it anew.
    pub(crate) fn may_go_on(&self, end: u64, records: u64, left: Option<Left>) -> bool {
        let is_all = left.is_some_and(|left| left.records == records);
        let has_room = |header: &Header| end.saturating_add(u64::from(FRAME)) <= header.capacity;
        !is_all && self.header.as_ref().map_or(true, |(header, _)| has_room(header))
    }

    /// What is wrong with it if it does not reach up to the LSN `end`, where the next segment's link says that it ended:
    /// it was made with all its bytes, so no crash leaves that.
    pub(crate) fn cut_before(&self, end: u64) -> Option<String> {
        let cut = self.base.saturating_add(self.length) < end;
        cut.then(|| words::cut(self.length, end))
    }

    /// Why nothing of it can be read without another's word, if that is so: its header is damaged, or no room for a link.
    pub(crate) fn unreadable(&self) -> Option<String> {
        self.header.as_ref().err().map(|what| (*what).to_owned()).or_else(|| self.too_short())
    }

    /// What is wrong with it if it has no link and is shorter than it was made, but for one that was cut to its header: a
    /// link is durable before its segment is trimmed.
    pub(crate) fn trimmed(&self) -> Option<String> {
        let (header, _) = self.header.as_ref().ok().filter(|_| self.link.is_none())?;
        let is_short = self.length != u64::from(BLOCK) && self.length < header.capacity;
        is_short.then(|| words::trimmed(self.length, header.capacity))
    }

    /// What is wrong with it if it is too short for a link, and not cut to its header: it was made with all its bytes, and is
    /// cut to its header or to where its frames end.
    pub(crate) fn too_short(&self) -> Option<String> {
        cut_short(self.length).filter(|_| self.header.is_ok())
    }
}

/// The same of a file of that length, behind a sound header.
pub(crate) fn cut_short(length: u64) -> Option<String> {
    let header = u64::from(BLOCK);
    let odd = length != header && length < header + frame_size(LINK as u64);
    odd.then(|| words::cut_short(length))
}

/// All that a directory shows before a segment is scanned.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) mark: Option<Mark>,
    /// MARK is another log's.
    pub(crate) foreign_mark: bool,
    /// One of its two slots is damaged, or another log's.
    pub(crate) half_mark: bool,
    /// A segment of this log that was begun, above all that lie under their names, has another name, and no file lies in its
    /// place: asked where MARK is not whole.
    pub(crate) is_elsewhere: bool,
    pub(crate) log_id: Option<[u8; 16]>,
    /// All below is cleaned.
    pub(crate) front: u64,
    /// From the front on, by base.
    pub(crate) segments: Vec<Found>,
    /// Below the front.
    pub(crate) spares: Vec<String>,
    /// `.new` files of an earlier life.
    pub(crate) unfinished: Vec<String>,
    /// Files that were moved aside.
    pub(crate) aside: Vec<String>,
    /// Plain files that are none of the log's by their names.
    pub(crate) foreign: Vec<String>,
    /// Names of segments under which no plain file lies.
    pub(crate) blocked: Vec<String>,
    /// Above every LSN that any file here could have handed out.
    pub(crate) ceiling: u64,
    /// What an operator should know.
    pub(crate) notes: Vec<String>,
}

/// Lists the directory and reads MARK and the first two blocks of each segment.
pub(crate) fn survey(storage: &dyn Storage, write: bool, bugs: Bugs) -> Result<Survey> {
    let mut survey = Survey::default();
    let listed = storage.list().map_err(|e| Error::io("list", storage.path(), e))?;
    let (marked, marks) = match listed.iter().find(|(name, _)| name == MARK) {
        Some((_, true)) => (true, read_marks(storage)?),
        Some((_, false)) => return Err(blocked(storage, "open", MARK)),
        None => (false, Vec::new()),
    };
    let names = survey.sort(listed);
    let (log_id, cleaned) = survey.read_down(storage, names, &marks, write, bugs)?;
    survey.identify(storage, &marks, bugs)?;
    survey.ceiling = survey.segments.iter().map(ceiling).max().unwrap_or(0);
    survey.ceiling = survey.ceiling.max(survey.mark.map_or(0, |mark| mark.synced.max(mark.shown)));
    // What a link leads to may be a segment of the log.
    let blocked = survey.blocked.iter().filter_map(|name| segment_base(name)).max();
    survey.ceiling = survey.ceiling.max(blocked.map_or(0, |base| base.saturating_add(*CAPACITY.end())));
    let theirs = survey.log_id == log_id;
    survey.clean_to(if theirs { survey.front.max(cleaned) } else { survey.front });
    survey.notes.extend(survey.segments.iter().filter_map(odd_length));
    let copies: Vec<_> = survey.segments.iter().filter_map(|found| survey.note_of_copy(found)).collect();
    survey.notes.extend(copies);
    let note = survey.note_of_mark(&marks, marked);
    survey.notes.extend(note);
    Ok(survey)
}

impl Survey {
    /// Sorts what is listed by its names; gives those of segments, by base.
    pub(super) fn sort(&mut self, mut listed: Vec<(OsString, bool)>) -> Vec<String> {
        let mut names = Vec::new();
        // One that is told twice, as some file systems do while a directory changes, would be taken for two.
        listed.sort_unstable();
        listed.dedup();
        for (name, plain) in listed {
            if let Some(name) = name.to_str().filter(|name| !plain && segment_base(name).is_some()) {
                self.notes.push(format!("{name}: {NO_FILE}; left alone"));
                self.blocked.push(name.to_owned());
                continue;
            }
            let known = name.to_str().filter(|_| plain).map(str::to_owned);
            match known {
                Some(name) if name == MARK => {}
                Some(name) if segment_base(&name).is_some() => names.push(name),
                Some(name) if is_unfinished(&name) => self.unfinished.push(name),
                Some(name) if aside_of(&name).is_some() => self.aside.push(name),
                known => {
                    self.notes.push(format!("{}: not a file of the log, left alone", name.to_string_lossy()));
                    self.foreign.extend(known);
                }
            }
        }
        names
    }

    /// Reads the segments from the newest down: the first sound header tells whose front to go by, and spares below that are
    /// not read. Gives that log and that front.
    fn read_down(
        &mut self,
        storage: &dyn Storage,
        names: Vec<String>,
        marks: &[Mark],
        write: bool,
        bugs: Bugs,
    ) -> Result<(Option<[u8; 16]>, u64)> {
        self.segments.reserve(names.len());
        let (mut log_id, mut cleaned) = (None, 0);
        for name in names.into_iter().rev() {
            let base = segment_base(&name).unwrap_or(0);
            if base < cleaned {
                self.spares.push(name);
                continue;
            }
            let found = match find(storage, name, base, write, bugs) {
                Err(e) if missing(&e) && log_id.is_some() => {
                    if base >= front(storage, log_id)? {
                        return Err(e);
                    }
                    // A writer cleaned it since the directory was listed, and perhaps more: what was read of that stands.
                    cleaned = self.segments.last().map_or(0, |above| above.base);
                    self.spares.push(segment_name(base));
                    continue;
                }
                found => found?,
            };
            if let (None, Ok((header, _))) = (log_id, &found.header) {
                log_id = Some(header.log_id);
                // Whose log this is nobody knows yet where there are several.
                let theirs = marks.iter().all(|mark| mark.log_id == header.log_id);
                cleaned = marks.iter().map(|mark| mark.front).max().filter(|_| theirs).unwrap_or(0);
            }
            self.segments.push(found);
        }
        self.segments.reverse();
        self.spares.reverse();
        Ok((log_id, cleaned))
    }
}

/// A length that no crash leaves as a note, wherever it lies: too short, or longer than it was made.
pub(super) fn odd_length(found: &Found) -> Option<String> {
    let (name, length) = (&found.name, found.length);
    let capacity = found.header.as_ref().ok().map(|(header, _)| header.capacity).filter(|capacity| *capacity < length);
    let short = found.too_short().map(|what| format!("{name}: {what}; {}", words::UNTOLD));
    short
        .or(capacity
            .map(|capacity| format!("{name}: {length} bytes, it was made with {capacity}: the rest is not read")))
}

/// The error for what lies where a file of the log belongs, and is none.
pub(crate) fn blocked(storage: &dyn Storage, operation: &'static str, name: &str) -> Error {
    let what = format!("{NO_FILE}; move it away");
    Error::io(operation, storage.path().join(name), std::io::Error::new(std::io::ErrorKind::InvalidInput, what))
}

/// The front that MARK gives this log now; 0 without one. A segment is recycled only once it lies below.
pub(crate) fn front(storage: &dyn Storage, log_id: Option<[u8; 16]>) -> Result<u64> {
    let marks = match read_marks(storage) {
        Err(e) if missing(&e) => Vec::new(),
        marks => marks?,
    };
    Ok(marks.iter().filter(|mark| Some(mark.log_id) == log_id).map(|mark| mark.front).max().unwrap_or(0))
}

/// Whether a file or the directory is not there.
pub(crate) fn missing(error: &Error) -> bool {
    error.system().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// The valid slots of MARK.
pub(crate) fn read_marks(storage: &dyn Storage) -> Result<Vec<Mark>> {
    let path = || storage.path().join(MARK);
    let file = storage.open(MARK, false).map_err(|e| Error::io("open", path(), e))?;
    let mut marks = Vec::new();
    for slot in [0, u64::from(BLOCK)] {
        let mut bytes = [0; MARK_SLOT];
        read_full(&*file, &mut bytes, slot).map_err(|e| Error::io("read", path(), e).at(path(), slot))?;
        marks.extend(Mark::decode(&bytes));
    }
    Ok(marks)
}

pub(crate) fn find(storage: &dyn Storage, name: String, base: u64, write: bool, bugs: Bugs) -> Result<Found> {
    let path = storage.path().join(&name);
    let file = storage.open(&name, write).map_err(|e| Error::io("open", &path, e))?;
    let length = file.len().map_err(|e| Error::io("measure", &path, e))?;
    let head = read_head(&*file).map_err(|e| Error::io("read", &path, e).at(&path, 0))?;
    let mut other = None;
    let header = match Header::decode(&head) {
        Ok((header, seed)) if header.base != base => {
            other = Some((header, seed));
            Err("the header is another segment's")
        }
        Ok(sound) => Ok(sound),
        Err(BadHeader::Bad) => Err("the header is damaged"),
        Err(BadHeader::TooNew) => {
            let message = "written by a newer version; open it with that, nothing was changed";
            return Err(Error::new(ErrorKind::TooNew, "open", message).at(&path, 0));
        }
    };
    let left = header.as_ref().ok().and_then(|(_, seed)| Left::decode(&head, *seed));
    let left_damaged = header.is_ok() && left.is_none() && Left::is_written(&head);
    let mut found = Found { name, base, length, file, header, other, link: None, left, left_damaged };
    found.link = found.place(bugs).and_then(|place| read_link(&head, place, bugs));
    Ok(found)
}

/// The link in the first two blocks of a segment, and what its frame claims.
pub(crate) fn read_link(mut head: &[u8], place: Place, bugs: Bugs) -> Option<(Link, u64)> {
    let first = u64::from(BLOCK);
    let limit = place.limit.min(head.len() as u64);
    let header = frame_at(&mut head, &Place { limit, ..place }, first, bugs).ok()??;
    link_of(&header, head.get((BLOCK + FRAME) as usize..)?, place.base.checked_add(first)?)
}

/// The seed under which the link of a segment at `base` holds behind a sound header of another seed: only its page is another
/// segment's, unless it is what a file held before it was used again.
pub(crate) fn misplaced(head: &[u8], base: u64) -> Option<(u32, Link)> {
    let (_, other) = Header::decode(head).ok()?;
    let first = head.get(BLOCK as usize..)?.first_chunk()?;
    let seed = FrameHeader::seed_xor_offset(first) ^ BLOCK;
    let place = Place { base, seed, limit: head.len() as u64 };
    let (link, _) = read_link(head, place, Bugs::default()).filter(|_| seed != other)?;
    Some((seed, link))
}

/// The sound header of a file that is named for the segment at `base`, unless it is another's and only its page is there.
pub(crate) fn own_header(head: &[u8], base: Option<u64>) -> Option<(Header, u32)> {
    let (header, seed) = Header::decode(head).ok()?;
    let is_misplaced = base.is_some_and(|base| base != header.base && misplaced(head, base).is_some());
    (!is_misplaced).then_some((header, seed))
}

fn link_of(header: &FrameHeader, payload: &[u8], lsn: u64) -> Option<(Link, u64)> {
    if header.kind != Some(FrameKind::Link) || header.more {
        return None;
    }
    let payload = payload.get(..header.length as usize)?;
    debug_assert_eq!(sum(payload), header.sum);
    let (link, base) = (Link::decode(payload)?, lsn.saturating_sub(u64::from(BLOCK)));
    link.lies_at(base).then_some((link, header.claim(lsn).unwrap_or(0)))
}

/// Above every LSN that the file could have handed out.
pub(crate) fn ceiling(found: &Found) -> u64 {
    let capacity = found.header.as_ref().map_or(*CAPACITY.end(), |(header, _)| header.capacity);
    found.base.saturating_add(capacity.max(found.length))
}

impl Survey {
    /// Everything below is cleaned. Gives how many segments that are.
    pub(crate) fn clean_to(&mut self, front: u64) -> usize {
        self.front = self.front.max(front);
        let cut = self.segments.partition_point(|found| found.base < self.front);
        self.spares.extend(self.segments.drain(..cut).map(|found| found.name));
        cut
    }

    /// What an operator should know of what was moved aside.
    pub(crate) fn note_of_aside(&self) -> Option<String> {
        match &*self.aside {
            [] => None,
            [name] => Some(format!("{name}: moved aside earlier, not read")),
            names => Some(format!("{} files moved aside earlier, not read: {}", names.len(), listed(names))),
        }
    }

    /// The link that names the segment of this base and seed: not a stranger in its place.
    pub(crate) fn link_to(&self, place: &Place) -> Option<&Link> {
        self.links().filter(|link| (link.prev_base, link.prev_seed) == (place.base, place.seed)).last()
    }

    /// All links, from below. Several may name one segment: the highest is the log's, the others a life before cut off.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.segments.iter().filter_map(|found| found.link.as_ref()).map(|(link, _)| link)
    }

    /// The highest claim of MARK and of all links.
    pub(crate) fn claim(&self) -> u64 {
        let links = self.segments.iter().filter_map(|found| found.link.as_ref());
        links.map(|(_, claim)| *claim).chain(self.mark.map(|mark| mark.synced)).max().unwrap_or(0)
    }

    /// That a file is another segment's, which lies in its own place too, as a note.
    fn note_of_copy(&self, found: &Found) -> Option<String> {
        let (Header { base, .. }, seed) = found.other?;
        let own = self.at(base)?.header.as_ref().ok()?;
        (own.1 == seed).then(|| format!("{}: a copy of {}, not part of the log", found.name, segment_name(base)))
    }

    /// Whether MARK tells how far the log was cleaned. The slot that does may be the one that is damaged.
    pub(crate) fn is_marked(&self) -> bool {
        self.mark.is_some() && !self.half_mark
    }

    /// Whether a segment of which nothing is left may have been cleaned for all that is known, be others below it left: spares
    /// go in any order, or are made into others.
    pub(crate) fn may_be_cleaned(&self, base: u64) -> bool {
        let ours = |found: &Found| found.other.is_some_and(|(header, _)| Some(header.log_id) == self.log_id);
        !self.is_marked() && !self.blocked.contains(&segment_name(base)) && self.at(base).is_none_or(ours)
    }

    /// The file in the place of the segment at `base`.
    pub(crate) fn at(&self, base: u64) -> Option<&Found> {
        self.segments.get(self.index(base)?)
    }

    /// The index of the segment at `base`.
    pub(crate) fn index(&self, base: u64) -> Option<usize> {
        self.segments.binary_search_by_key(&base, |found| found.base).ok()
    }

    /// What lies at `base` instead of the segment that a link names.
    pub(crate) fn instead(&self, base: u64) -> &'static str {
        match self.at(base) {
            Some(found) => found.header.as_ref().err().copied().unwrap_or(words::REPLACED),
            None if self.blocked.contains(&segment_name(base)) => NO_FILE,
            None => words::GONE,
        }
    }

    /// The link that names the segment at `base`, whatever lies there.
    pub(crate) fn link_above(&self, base: u64) -> Option<&Link> {
        self.links().filter(|link| link.prev_base == base).last()
    }

    /// Where the segment at `base` ended, if the link above it says so.
    pub(crate) fn sealed_end(&self, base: u64) -> Option<u64> {
        self.link_above(base).map(|link| link.prev_end)
    }
}
