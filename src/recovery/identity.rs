//! Whose log a directory is, and what its MARK says of it.

use std::collections::HashMap;

use crate::bugs::Bugs;
use crate::error::{Error, Result};
use crate::format::{Header, MARK, Mark};
use crate::scan::holds_frames;
use crate::storage::Storage;

use super::survey::Survey;
use super::words;

/// What follows where MARK does not say all that it said.
const LESS: &str = "what was cleaned or idle is known less well, and records at the end may be missing unseen";

impl Survey {
    /// Finds out whose log this is, what MARK says of it, the front, and whether one of its segments is missing that nothing
    /// else tells of.
    pub(super) fn identify(&mut self, storage: &dyn Storage, marks: &[Mark], bugs: Bugs) -> Result<()> {
        // Where both of them are whole, the newest segment that was begun and MARK tell of all that there was.
        let newest = self.segments.iter().rfind(|found| found.link.is_some());
        let id = newest.and_then(|found| found.header.as_ref().ok()).map(|(header, _)| header.log_id);
        let newest = newest.map(|found| found.base);
        let is_told = marks.iter().filter(|mark| Some(mark.log_id) == id).count() == 2;
        let elsewhere = if is_told { Vec::new() } else { self.elsewhere(storage, bugs) };
        self.log_id = self.elect(storage, marks, most(&elsewhere).filter(|_| newest.is_none()), bugs)?;
        for found in &mut self.segments {
            if found.header.as_ref().is_ok_and(|(header, _)| Some(header.log_id) != self.log_id) {
                found.header = Err("the header is another log's");
                (found.link, found.left, found.left_damaged) = (None, None, false);
            }
        }
        self.hold(marks);
        let links = self.links().map(|link| link.front);
        self.front = links.chain(self.mark.map(|mark| mark.front)).max().unwrap_or(0);
        self.is_elsewhere = elsewhere.iter().any(|header| self.misses(header, newest));
        Ok(())
    }

    /// Takes the slots of MARK that are this log's. What either claims stays true: the later one says all else.
    pub(super) fn hold(&mut self, marks: &[Mark]) {
        let ours = || marks.iter().filter(|mark| Some(mark.log_id) == self.log_id);
        let synced = ours().map(|mark| mark.synced).max().unwrap_or(0);
        let front = ours().map(|mark| mark.front).max().unwrap_or(0);
        let latest = ours().max_by_key(|mark| mark.sequence);
        let count = ours().count();
        (self.foreign_mark, self.half_mark) = (count == 0 && !marks.is_empty(), count == 1);
        self.mark = latest.map(|mark| Mark { synced, front, ..*mark });
    }

    /// Whose log this is, where there are several: that of which most segments hold frames; of none, that of which there are
    /// more slots of MARK, which only speaks of a log; or of which there are more headers, for a segment that was made ready
    /// and not used is nothing of a log.
    ///
    /// `elsewhere`: where no segment was begun under its name, whose log those under other names are, which goes before.
    fn elect(
        &self,
        storage: &dyn Storage,
        marks: &[Mark],
        elsewhere: Option<[u8; 16]>,
        bugs: Bugs,
    ) -> Result<Option<[u8; 16]>> {
        let headers = || self.segments.iter().filter_map(|found| found.header.as_ref().ok());
        let mut ids: Vec<_> = headers().map(|(header, _)| header.log_id).collect();
        ids.extend(marks.iter().map(|mark| mark.log_id));
        if ids.is_empty() {
            // All of them swapped.
            ids.extend(self.segments.iter().filter_map(|found| found.other).map(|(header, _)| header.log_id));
        }
        if let Some(id) = elsewhere.filter(|id| ids.is_empty() || ids.contains(id)) {
            return Ok(Some(id));
        }
        if ids.iter().all(|id| Some(id) == ids.first()) {
            return Ok(ids.pop());
        }
        // Segments with frames, slots of MARK, headers.
        let mut votes: HashMap<[u8; 16], [usize; 3]> = HashMap::new();
        for found in &self.segments {
            let (Ok((header, _)), Some(place)) = (&found.header, found.place(bugs)) else { continue };
            let io = |e| Error::io("read", storage.path().join(&found.name), e);
            let used = found.link.is_some() || holds_frames(&*found.file, &place).map_err(io)?;
            let [frames, _, alone] = votes.entry(header.log_id).or_default();
            *(if used { frames } else { alone }) += 1;
        }
        for mark in marks {
            let [_, marked, _] = votes.entry(mark.log_id).or_default();
            *marked += 1;
        }
        Ok(votes.into_iter().max_by_key(|(id, votes)| (*votes, *id)).map(|(id, _)| id))
    }

    /// What an operator should know of MARK; `marked`: there is such a file.
    pub(super) fn note_of_mark(&self, marks: &[Mark], marked: bool) -> Option<String> {
        if self.foreign_mark {
            let theirs = marks.iter().max_by_key(|mark| mark.synced).map(words::foreign_mark);
            let theirs = theirs.unwrap_or_default();
            return Some(format!("{MARK}: another log's, not used; moved aside once a MARK is needed; {LESS}{theirs}"));
        }
        match self.mark {
            _ if self.half_mark => {
                let is = if marks.len() == 1 { "damaged" } else { "another log's" };
                Some(format!("{MARK}: one of its two slots is {is}; the other one is used; {LESS}"))
            }
            None if marked => Some(format!("{MARK}: not readable; {LESS}")),
            _ if !marked && (!self.segments.is_empty() || self.is_elsewhere) => {
                Some(format!("{MARK}: missing; {LESS}"))
            }
            _ => None,
        }
    }

    /// That MARK let readers see more than is there, where the log ends at `end`.
    pub(crate) fn note_of_shown(&self, end: u64) -> Option<String> {
        let shown = self.mark.map(|mark| mark.shown).filter(|shown| *shown > end)?;
        let seen = words::SEEN;
        Some(format!(
            "{MARK}: {seen} {shown}, and the log ends at LSN {end}: what was not synced a power cut \
             takes, and whether a file was removed nothing tells"
        ))
    }
}

/// The log that most of them are of.
fn most(headers: &[Header]) -> Option<[u8; 16]> {
    let mut votes: HashMap<[u8; 16], usize> = HashMap::new();
    headers.iter().for_each(|header| *votes.entry(header.log_id).or_default() += 1);
    votes.into_iter().max_by_key(|(id, votes)| (*votes, *id)).map(|(id, _)| id)
}
