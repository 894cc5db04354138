//! What is wrong within one segment of the log.

use crate::error::plural;
use crate::format::{BLOCK, Left};
use crate::lsn::Lsn;
use crate::recovery::{Found, words};

use super::super::Fault;
use super::super::plan::Part;
use super::super::walk::{Hole, Walked};

/// A segment that was read, and what is known around it.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) found: &'a Found,
    pub(super) part: &'a Part,
    pub(super) walked: &'a Walked,
    pub(super) durable: u64,
    /// Below this nothing is a torn tail.
    pub(super) certain: u64,
    /// The least base of the next segment.
    pub(super) limit: u64,
    /// What the next segment's link is like, if there is one and nothing tells where this one ended.
    pub(super) next: Option<&'static str>,
    /// Nothing but its own link tells what is lost below it.
    pub(super) untold: bool,
}

/// What is to be told of it.
#[derive(Default)]
pub(super) struct Inside<'a> {
    pub(super) faults: Vec<Fault>,
    pub(super) notes: Vec<String>,
    /// The log ends before this hole.
    pub(super) torn: Option<&'a Hole>,
    /// Records that are told to be lost at its end.
    pub(super) lost_at_end: u64,
}

impl<'a> Segment<'a> {
    pub(super) fn inside(&self) -> Inside<'a> {
        let Segment { found, part, walked, .. } = *self;
        let (mut inside, mut header) = (Inside::default(), header(found, part, Some(walked)));
        for hole in walked.holes.iter().take(walked.holes.len() - usize::from(self.is_left())) {
            if found.base + hole.batch >= self.certain {
                inside.torn = Some(hole);
                break;
            }
            let Some(fault) = self.of_hole(hole, &mut inside.notes) else { continue };
            if !hole.followed {
                inside.lost_at_end = fault.lost_records.unwrap_or(0);
            }
            // What is damaged right behind the header is one place with it.
            let head = header.take_if(|_| hole.from == u64::from(BLOCK));
            inside.faults.push(head.into_iter().fold(fault, |fault, head| joined(&head, fault, found.length)));
        }
        inside.faults.extend(header);
        inside.faults.extend(self.miscounted().or_else(|| self.left_damaged()));
        inside
    }

    /// A hole as a fault. If only the next segment's link would tell whether it is one, a note says so.
    fn of_hole(&self, hole: &Hole, notes: &mut Vec<String>) -> Option<Fault> {
        let Segment { found, part, durable, limit, .. } = *self;
        let sealed = part.seal.map(|seal| found.base + seal.end);
        let is_durable = found.base + hole.from < durable && durable <= limit;
        let mut fault = match self.next.filter(|_| sealed.is_none() && !hole.followed && !is_durable) {
            None => fault(found, hole, sealed.is_none().then_some(durable.min(limit)), sealed),
            Some(next) => {
                let what = format!("{}: only the next segment's link, which {next}, tells where it ended", found.name);
                notes.push(what);
                // How much more there was, nobody tells; this frame was there.
                let (to, records) = hole.spoiled?;
                fault(found, &Hole { to, records: Some(records), ..hole.clone() }, None, None)
            }
        };
        if self.untold && hole.from == u64::from(BLOCK) {
            fault.lost_records = None;
        }
        Some(fault)
    }

    /// Whether it is the newest and ends in zeros that were left for the next: more was durable than it has room for.
    pub(super) fn is_left(&self) -> bool {
        let is_full = self.limit.saturating_add(u64::from(BLOCK)) < self.durable;
        let is_zero = |hole: &Hole| hole.unwritten && hole.from > u64::from(BLOCK);
        is_full && self.part.seal.is_none() && self.next.is_none() && self.walked.holes.last().is_some_and(is_zero)
    }

    /// Nobody knows how many records a repair left in it.
    fn left_damaged(&self) -> Option<Fault> {
        let Segment { found, walked, .. } = *self;
        let fault = Fault::at(&found.name, found.base, Left::AT, words::LEFT);
        let fault = Fault { lost_records: Some(0), beyond: walked.found.records, ..fault };
        found.left_damaged.then_some(fault)
    }

    /// Without holes, it holds another number of records than it is to.
    fn miscounted(&self) -> Option<Fault> {
        let Segment { found, part, walked, .. } = *self;
        let (records, expected) = (walked.found.records, part.records(!walked.gaps.is_empty()));
        // The next link may be of a repair that found less, and another found it whole again.
        let is_left = part.left.is_some_and(|left| left.records == records);
        let expected = expected.filter(|expected| walked.holes.is_empty() && *expected != records && !is_left)?;
        let whose = if part.left.is_some() { "a repair left" } else { "the next segment's link says" };
        let what = format!("{}, {whose} {expected}", plural(records, "valid record"));
        let fault = Fault::at(&found.name, found.base, u64::from(BLOCK), what);
        Some(Fault { lost_records: Some(0), beyond: records, ..fault })
    }
}

/// A damaged header as a fault.
pub(super) fn header(found: &Found, part: &Part, walked: Option<&Walked>) -> Option<Fault> {
    let fault = Fault::at(&found.name, found.base, 0, found.header.as_ref().err().copied()?);
    // What nothing tells how to read may have held any.
    let lost_records = Some(0).filter(|_| walked.is_some() || part.blank);
    let beyond = walked.map(|walked| walked.found.records).or(part.records(false)).unwrap_or(0);
    Some(Fault { lost_records, beyond, ..fault })
}

/// A damaged header and what is damaged behind it, in a file of that `length`, as one fault.
fn joined(header: &Fault, rest: Fault, length: u64) -> Fault {
    let is_cut = length < rest.offset;
    let what = if is_cut { rest.what } else { format!("{}, and so is what follows it: {}", header.what, rest.what) };
    Fault { offset: 0, lsn: header.lsn, what, ..rest }
}

/// A hole as a fault. `end`: where it ends at most, in a segment whose end nothing else says. `sealed`: where another says
/// that the segment ended.
pub(in crate::check) fn fault(found: &Found, hole: &Hole, end: Option<u64>, sealed: Option<u64>) -> Fault {
    let (base, to) = (found.base, found.base + hole.to);
    let to = if hole.followed { to } else { end.unwrap_or(to) };
    // The header of the frame there still holds, and it is all that was there.
    let only = hole.spoiled.filter(|(end, _)| base + end == to).map(|(_, records)| records);
    let cut = sealed.filter(|_| !hole.followed).and_then(|end| found.cut_before(end));
    let link = (found.header.is_ok() && hole.from == u64::from(BLOCK)).then(|| words::LINK.to_owned());
    let why = found.too_short().or(cut).or(link).map_or_else(String::new, |why| why + ": ");
    Fault {
        segment: found.name.clone(),
        offset: hole.from,
        lsn: Lsn(base + hole.from),
        lost_bytes: to.saturating_sub(base + hole.from),
        lost_records: hole.records.or(only),
        beyond: hole.beyond,
        dropped: hole.dropped,
        what: why + &hole.what,
    }
}
