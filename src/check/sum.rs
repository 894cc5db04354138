//! The report of a check while it is put together: piece after piece of the log, and what lies above.

mod end;
mod segment;

use std::collections::HashSet;

use crate::error::{Error, ErrorKind, Result, plural};
use crate::format::{BLOCK, CAPACITY, segment_name};
use crate::lsn::Lsn;
use crate::recovery::Found;

use super::count::{Count, Gone, Nth, Rest};
use super::examine::Walks;
use super::plan::{Part, Piece, Plan};
use super::repair::JUMP;
use super::walk::{Hole, Walked};
use super::{Fault, Report};
pub(super) use segment::fault;
use segment::{Inside, Segment, header};

/// A report while it is put together.
pub(super) struct Sum<'a> {
    plan: &'a Plan,
    pieces: &'a [Piece],
    walks: &'a Walks,
    durable: u64,
    /// Below this nothing is a torn tail.
    certain: u64,
    /// Below this what is lost was durable, as far as the piece at hand tells.
    proven: u64,
    pub(super) end: u64,
    /// The least base of the next segment.
    limit: u64,
    count: Count,
    /// Up to here nothing can be missing that is not told.
    sure: Place,
    /// Where the last segment may have gone on, if nothing tells where it ended.
    open: Option<Place>,
    /// The segment whose link is lost, below which more may be: the next link tells, if the log does not end before that.
    owed: Option<String>,
    /// The name of the last segment, and where it lies.
    top: String,
    base: u64,
    /// Whether no frame can have begun behind the last one of the newest segment, if none is seen to.
    free: Option<bool>,
    /// The log ends in a torn tail, and so many valid records lie beyond in its segment.
    torn: Option<u64>,
    /// Faults that only say that a file has another name.
    misnamed: usize,
    /// The newest segment, if there is no file of it.
    pub(super) gone: Option<(u64, u64)>,
    pub(super) report: Report,
}

/// A place in the log, and the valid bytes up to it.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The file, and the byte in it; none if nothing tells which.
    segment: String,
    offset: u64,
    lsn: u64,
    bytes: u64,
}

impl Place {
    /// Where what a file holds would begin.
    fn in_unread(found: &Found) -> Place {
        let offset = if found.header.is_ok() { u64::from(BLOCK) } else { 0 };
        Place { segment: found.name.clone(), offset, lsn: found.base.saturating_add(offset), bytes: 0 }
    }
}

impl<'a> Sum<'a> {
    /// Of the pieces that a log is made of, and what was read of them. `lone`: of one file.
    pub(super) fn of(
        plan: &'a Plan,
        pieces: &'a [Piece],
        walks: &'a Walks,
        (durable, certain, proven): (u64, u64, &[u64]),
        lone: bool,
    ) -> Result<Sum<'a>> {
        let front = plan.survey.front;
        let first = match pieces.first() {
            Some(Piece::Member(index)) => plan.base(*index),
            // All from the front on is gone.
            Some(Piece::Missing { base, .. }) => front.min(*base),
            None => front,
        };
        // Its own link says so, whatever that counts.
        let begins = pieces.first().is_some_and(|piece| plan.begins(piece));
        let mut sum = Sum {
            plan,
            pieces,
            walks,
            durable,
            certain,
            proven: 0,
            end: first,
            limit: first,
            count: Count::new(front == 0 && !begins && plan.survey.is_marked()),
            sure: Place { lsn: front, ..Place::default() },
            open: None,
            owed: None,
            top: String::new(),
            base: first,
            torn: None,
            free: None,
            misnamed: 0,
            gone: None,
            report: Report { first: Lsn(first), notes: plan.survey.notes.clone(), ..Report::default() },
        };
        sum.front_gone(first);
        sum.misnamed();
        for (n, piece) in pieces.iter().enumerate() {
            sum.proven = proven.get(n).copied().unwrap_or(durable);
            match *piece {
                Piece::Missing { base, end, records, before } => sum.missing(base, end, records, before),
                Piece::Member(index) => {
                    if !sum.member(index, pieces.get(n + 1))? {
                        sum.end_in(n, index, lone);
                        break;
                    }
                }
            }
        }
        if !lone {
            sum.above();
        }
        Ok(sum)
    }

    /// What was read of a segment.
    fn walked(&self, index: usize) -> Option<&'a Walked> {
        self.walks.get(index)?.as_ref()
    }

    /// Adds a segment without a file, and what is lost below it: at a place, or in other files that are gone, if it can be.
    fn missing(&mut self, base: u64, end: u64, records: u64, before: u64) {
        self.owed = None;
        let Gone { records: lost, known, others, at_end } = self.count.gone(self.is_room(base), records, before);
        let bytes = end.saturating_sub(base.saturating_add(u64::from(BLOCK)));
        let mut fault = Fault::at(&segment_name(base), base, 0, self.plan.survey.instead(base));
        (fault.lost_bytes, fault.lost_records) = (bytes, known.then_some(lost));
        let open = self.open.take().filter(|_| at_end);
        let unread = || self.plan.unread(self.limit..base).map(|_| self.between(self.limit));
        match open.or_else(unread).filter(|_| lost > records) {
            Some(place) => {
                self.lost_from(place, base, Rest { records: lost - records, known });
                fault.lost_records = Some(records);
            }
            None if others => {
                fault.lsn = Lsn(self.limit);
                fault.lost_bytes = bytes.saturating_add(frames_between(self.limit, base));
                fault.what += &format!("; others may be missing from LSN {} on", self.limit);
            }
            None if lost > records => {
                fault.what += &format!(", and {} below, {UNNAMED}", counted(lost - records, known))
            }
            None => {}
        }
        if self.top.is_empty() {
            self.report.first = fault.lsn;
        }
        if self.plan.survey.may_be_cleaned(base) {
            fault.what += ", or it was cleaned, which MARK would tell";
            fault.lost_records = None;
        }
        fault.doubt(end, self.proven);
        self.report.faults.push(fault);
        self.may_lie_in(&segment_name(base));
        (self.end, self.limit) = (end, end);
        self.sure = self.between(end);
    }

    /// Says which files a missing segment may lie in by their names, for all that can be read in them.
    fn may_lie_in(&mut self, segment: &str) {
        let begins = segment.trim_end_matches(".wal");
        let files = self.plan.survey.foreign.iter().filter(|name| name.starts_with(begins));
        let note = |file| {
            format!("{file}: {segment} by its name, and nothing in it says so: if it is, name it so, and verify again")
        };
        self.report.notes.extend(files.map(note));
    }

    /// Adds what is lost in no file that is left, between a place and the segment at `base`: at a file in between that cannot
    /// be read, if there is one.
    fn lost_from(&mut self, place: Place, base: u64, Rest { records, known }: Rest) {
        let from = place.lsn;
        let lost = format!("{} {UNNAMED}, between LSN {from} and {}", counted(records, known), segment_name(base));
        let bases =
            self.plan.survey.segments.iter().map(|found| found.base).filter(|found| (from..base).contains(found));
        let headers = (bases.count() as u64).max(u64::from(place.segment.is_empty())) * u64::from(BLOCK);
        let valid = self.report.bytes - place.bytes;
        let lost_bytes = without_jump(base.saturating_sub(from.saturating_add(headers))).saturating_sub(valid);
        let (place, what) = match self.plan.unread(from..base) {
            _ if !place.segment.is_empty() => (place, format!("the segment went on here: {lost}")),
            Some((unread, why)) => (Place::in_unread(unread), format!("{why}; here or elsewhere: {lost}")),
            None => (place, lost),
        };
        let Place { segment, offset, lsn, .. } = place;
        let (lsn, lost_records) = (Lsn(lsn), known.then_some(records));
        let mut fault = Fault { segment, offset, lsn, lost_bytes, lost_records, beyond: 0, dropped: 0, what };
        fault.doubt(base, self.proven);
        self.report.faults.push(fault);
    }

    /// Adds what lay between the front and the first segment that is left, if its link is damaged, which would tell.
    fn front_gone(&mut self, first: u64) {
        let index = self.pieces.first().and_then(Piece::member);
        let unlinked = index.and_then(|index| self.plan.parts.get(index)).is_some_and(|part| part.link.is_none());
        let front = self.plan.survey.front;
        if !unlinked || front >= first {
            return;
        }
        if front == 0 {
            // There may have been nothing: a log need not begin at 0.
            self.limit = 0;
            return;
        }
        self.report.first = Lsn(front);
        let what = "the file is missing, and perhaps others behind it";
        let fault = Fault::at(&segment_name(front), front, 0, what);
        self.report.faults.push(Fault { lost_bytes: frames_between(front, first), ..fault });
    }

    /// Before a segment its link counts `before` records: more than were counted lay in files that are gone, and of which
    /// nothing else is left to tell, or in one that nothing tells how to read.
    fn linked(&mut self, found: &Found, before: u64) {
        self.owed = None;
        let next = self.between(found.base);
        let place = std::mem::replace(&mut self.sure, next);
        if let Some(rest) = self.count.link(before) {
            self.report.first = self.report.first.min(Lsn(place.lsn));
            self.lost_from(place, found.base, rest);
        }
    }

    /// A place between two segments.
    fn between(&self, lsn: u64) -> Place {
        Place { lsn, bytes: self.report.bytes, ..Place::default() }
    }

    /// Adds a segment; `false` if the log ends in it. `next`: what follows it.
    fn member(&mut self, index: usize, next: Option<&Piece>) -> Result<bool> {
        let plan = self.plan;
        let (Some(found), Some(part)) = (plan.survey.segments.get(index), plan.parts.get(index)) else {
            return Ok(true);
        };
        let walked = self.walked(index);
        if found.header.is_ok() && walked.is_some_and(|walked| self.ended_before(found, walked)) {
            return Ok(false);
        }
        self.report.segments += 1;
        let untold = self.begin(index, found, part);
        let records = part.seal.map(|seal| seal.records).or(walked.map(Walked::held).unwrap_or_default());
        self.count.add(records);
        if let Some(seal) = part.seal {
            self.end = found.base + seal.end;
        }
        let Some(walked) = walked else {
            self.report.faults.extend(header(found, part, None));
            return Ok(true);
        };
        if let Some(offset) = walked.too_new {
            let message = "a frame of a newer version; use that for this log, nothing was changed";
            return Err(Error::new(ErrorKind::TooNew, "read", message).at(plan.directory.join(&found.name), offset));
        }
        let next = next.map(|next| self.next_link(next));
        let (durable, certain, limit) = (self.durable, self.certain, self.limit);
        Ok(self.contents(&Segment { found, part, walked, durable, certain, limit, next, untold }))
    }

    /// Goes on to a segment: counts what its link tells of those below. Whether nothing tells what is lost there.
    fn begin(&mut self, index: usize, found: &Found, part: &Part) -> bool {
        let room = self.is_room(found.base);
        let mut above = self.plan.parts.iter().skip(index);
        let untold = part.link.is_none() && self.count.is_untold(room, above.any(|part| part.link.is_some()));
        match &part.link {
            Some(link) => self.linked(found, link.records_before),
            None => self.unlinked(found, room),
        }
        self.open = None;
        (self.top, self.base) = (found.name.clone(), found.base);
        self.limit = self.plan.limit(&Piece::Member(index));
        untold
    }

    /// The next segment's link is lost. What is lost below it is told at the lowest place where it may have been, and in a
    /// file only if there is no other.
    fn unlinked(&mut self, found: &Found, room: bool) {
        let (open, place) = (self.open.take(), self.count.unlinked(room));
        if place.is_some() {
            self.owed.get_or_insert_with(|| found.name.clone());
        }
        match place {
            None => {}
            Some(Nth::First) if room => self.sure = self.between(open.map_or(self.limit, |open| open.lsn)),
            Some(Nth::First) => self.sure = open.unwrap_or_else(|| self.between(self.limit)),
            Some(Nth::Later) => (self.sure.segment, self.sure.offset) = (String::new(), 0),
        }
    }

    /// Adds what was read of a segment; `false` if the log ends in it.
    fn contents(&mut self, segment: &Segment<'_>) -> bool {
        let Segment { found, part, walked, next, .. } = *segment;
        let (open, newest) = (part.seal.is_none(), next.is_none());
        self.free = walked.holes.last().filter(|hole| newest && hole.is_free()).map(|hole| hole.holds_no_frame());
        let Inside { mut faults, notes, torn, lost_at_end } = segment.inside();
        faults.iter_mut().for_each(|fault| fault.doubt(fault.lost_to(), self.proven));
        self.report.faults.extend(faults);
        self.report.notes.extend(notes);
        if let Some(hole) = torn {
            self.end = found.base + hole.batch;
            self.report.records += hole.before.0;
            self.report.bytes += hole.before.1;
            self.ends_before(hole);
            return false;
        }
        if open {
            // The next segment's count would find it lost again.
            self.count.add(Some(lost_at_end));
        }
        let passed = part.left.is_some() || !walked.gaps.is_empty();
        let more = found.may_go_on(walked.end, walked.found.records, part.left);
        self.count.end(open && more, open && passed);
        self.report.records += walked.found.records;
        self.report.bytes += walked.bytes;
        if !open && part.link.is_some() {
            self.sure = self.between(self.end);
        }
        if open {
            let is_lost = walked.holes.last().is_some_and(|hole| !hole.followed) && !segment.is_left();
            self.end = if is_lost { self.durable.min(self.limit) } else { found.base + walked.end };
        }
        let here = Place { lsn: found.base + walked.end, bytes: self.report.bytes, ..Place::default() };
        self.open = (open && more).then(|| Place { segment: found.name.clone(), offset: walked.end, ..here });
        let passed_over = |(offset, bytes): &(u64, u64)| passed_over(found.base + offset, *bytes);
        self.report.notes.extend(walked.gaps.iter().map(passed_over));
        true
    }

    /// Whether a segment may have lain between the last one and the one at `base`.
    fn is_room(&self, base: u64) -> bool {
        base.saturating_sub(self.limit) >= *CAPACITY.start()
    }

    /// Adds the files that have other names than their segments: those above a torn tail too, and above the log where opening
    /// would take what lies in their places for damaged.
    fn misnamed(&mut self) {
        let top = self.pieces.last().and_then(Piece::member);
        let members: HashSet<_> = self.pieces.iter().filter_map(Piece::member).collect();
        for (index, (found, part)) in self.plan.survey.segments.iter().zip(&self.plan.parts).enumerate() {
            let is_missed = Some(index) > top && self.plan.is_displaced(index);
            if part.misnamed && (members.contains(&index) || is_missed) {
                let what = format!("this is segment {} under the name {}", segment_name(found.base), found.name);
                let fault = Fault::at(&found.name, found.base, 0, what);
                let beyond = self.walked(index).map_or(0, |walked| walked.found.records);
                self.report.faults.push(Fault { lost_records: Some(0), beyond, ..fault });
                self.misnamed += 1;
            }
        }
    }

    /// What the next link is like, which would tell where the last segment ended.
    fn next_link(&self, next: &Piece) -> &'static str {
        match next.member() {
            None if self.plan.survey.at(self.plan.base_of(next)).is_none() => "is missing with its file",
            None => "is damaged or missing",
            Some(_) if self.plan.base_of(next) > self.limit => "is damaged or missing",
            Some(_) => "is damaged",
        }
    }

    /// Whether the log ended before this segment: not even its link is there.
    fn ended_before(&mut self, found: &Found, walked: &Walked) -> bool {
        let first = walked.holes.first().filter(|hole| hole.batch == u64::from(BLOCK));
        let torn = first.filter(|hole| found.base + hole.batch >= self.certain);
        torn.inspect(|hole| self.ends_before(hole)).is_some()
    }

    /// The log ended before `hole`.
    fn ends_before(&mut self, hole: &Hole) {
        if hole.followed || hole.spoiled.is_some() || hole.from > hole.batch {
            self.torn = Some(hole.beyond);
        }
    }
}

/// What is lost with files of which nothing is left but the count of a later link.
const UNNAMED: &str = "in no file that is left";

/// So many records; if that is not `known`, a repair passed over some of them before.
fn counted(records: u64, known: bool) -> String {
    let most = if known { "" } else { "at most " };
    format!("{most}{}", plural(records, "record"))
}

/// Bytes of frames that may have lain between two places where segments begin. Of what a repair left free above all that
/// was handed out, none did.
fn frames_between(from: u64, to: u64) -> u64 {
    without_jump(to.saturating_sub(from.saturating_add(u64::from(BLOCK))))
}

fn without_jump(bytes: u64) -> u64 {
    bytes.checked_sub(JUMP).unwrap_or(bytes)
}

/// Where an earlier repair passed over what was lost, as a note.
pub(super) fn passed_over(lsn: u64, bytes: u64) -> String {
    format!("LSN {lsn}: {bytes} bytes were lost and passed over by a repair")
}
