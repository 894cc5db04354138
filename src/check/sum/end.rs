//! The end of a check's report: a torn tail, what lies above the log, and whether all that was durable is below its end.

use crate::error::plural;
use crate::format::{BLOCK, Mark, segment_name};
use crate::lsn::Lsn;
use crate::recovery::{Broken, short, words};

use super::super::Fault;
use super::super::plan::Piece;
use super::Sum;

impl Sum<'_> {
    /// The log ends in the segment at `index`, which is its `n`th piece: in a torn tail, which is said, if there is one.
    pub(super) fn end_in(&mut self, n: usize, index: usize, lone: bool) {
        if n == 0 && self.report.segments == 0 {
            let front = self.plan.survey.front;
            (self.base, self.end, self.report.first) = (front, front, Lsn(front));
            // A lone file is one, whatever is in it.
            self.report.segments = usize::from(lone);
        }
        let owed = self.owed.take();
        let is_owed = |fault: &&mut Fault| owed.as_ref() == Some(&fault.segment) && fault.offset <= u64::from(BLOCK);
        self.report.faults.iter_mut().filter(is_owed).for_each(|fault| fault.lost_records = None);
        if let Some(beyond) = self.torn {
            let above: u64 = self.walks.iter().skip(index + 1).flatten().map(|walked| walked.found.records).sum();
            let (end, beyond) = (self.end, plural(beyond + above, "valid record"));
            let (torn, what) = (words::TORN, words::UNSURE);
            self.report.notes.push(format!("{torn} {end}, {what}; beyond it: {beyond}"));
        }
        let later = self.pieces.len() - n - 1;
        if later > 0 {
            let segments = plural(later as u64, "segment");
            self.report.notes.push(format!("{segments} above the torn tail, not part of the log"));
        }
    }

    /// What lies above the log, and whether all that was durable is below its end.
    pub(super) fn above(&mut self) {
        let (plan, top) = (self.plan, self.pieces.last().and_then(Piece::member));
        self.unread_above(top);
        let (mark, front) = (plan.survey.mark, plan.survey.front);
        if self.end < self.durable {
            self.durable_above(top);
        } else if top.is_none() && front > 0 {
            let what = format!("no segment leads down to the front, LSN {front}");
            self.report.faults.push(Fault::at("", front, 0, what));
        } else if let (Some(Mark { shown, .. }), []) = (mark.filter(Mark::is_used), &*plan.survey.segments) {
            let what = format!("{}: {} {shown}", words::all_gone(0), words::SEEN);
            let lost_bytes = shown.saturating_sub(u64::from(BLOCK));
            self.report.faults.push(Fault { lost_bytes, ..Fault::at("", 0, 0, what) });
        }
        // Where nothing else is wrong, it is the one that opening comes to. One that another followed was trimmed.
        let newest = if self.is_whole() { plan.tip } else { top };
        if let Some(newest) = newest.filter(|_| self.gone.is_none()) {
            self.cut_newest(newest);
        }
        self.report.notes.extend(plan.survey.note_of_shown(self.end));
        // Whatever else opening refuses.
        let is_told = |name: &str| self.report.faults.iter().any(|fault| fault.segment == *name);
        // That all is gone from the front on.
        let is_gone = |broken: &Broken| self.pieces.is_empty() && broken.from == front && is_told("");
        let is_new = |broken: &&Broken| (self.is_whole() || !is_told(&broken.segment)) && !is_gone(broken);
        if let Some(broken) = plan.chain.broken.as_ref().filter(is_new) {
            let (lost_bytes, offset) = (broken.to.saturating_sub(broken.from), broken.from.saturating_sub(broken.base));
            let fault = Fault::at(&broken.segment, broken.base, offset, &*broken.what);
            self.report.faults.push(Fault { lost_bytes, ..fault });
        }
    }

    /// Adds the segments above the log's newest of which nothing can be read.
    fn unread_above(&mut self, top: Option<usize>) {
        for (index, found) in self.plan.survey.segments.iter().enumerate().skip(top.map_or(0, |top| top + 1)) {
            let Some(mut what) = found.unreadable() else { continue };
            // What was durable above the last segment lay in it.
            let held = top.is_some() && self.end < self.durable && found.base >= self.limit;
            let from = found.base.saturating_add(u64::from(BLOCK));
            let lost_bytes = if held { self.durable.saturating_sub(from) } else { 0 };
            let part = self.plan.parts.get(index);
            let is_blank = part.is_some_and(|part| part.blank);
            let is_unread = part.is_some_and(|part| part.place.is_none()) && found.other.is_none();
            if is_unread && !is_blank && found.length > u64::from(BLOCK) {
                what = format!("{what}; {}", words::UNKNOWN);
            }
            // It may have held what was only shown; or be what is left of the log that belongs here, where MARK is another's.
            let is_shown = self.plan.survey.mark.is_some_and(|mark| mark.shown > found.base);
            let is_sure = is_blank && lost_bytes == 0 && !is_shown && !self.plan.survey.foreign_mark;
            let lost_records = is_sure.then_some(0);
            let fault = Fault::at(&found.name, found.base, 0, what);
            self.report.faults.push(Fault { lost_bytes, lost_records, ..fault });
            self.end = if lost_bytes > 0 { self.durable } else { self.end };
        }
    }

    /// Adds what was durable above the end.
    fn durable_above(&mut self, top: Option<usize>) {
        let (durable, limit, segments) = (self.durable, self.limit, &self.plan.survey.segments);
        // Above this segment it lay in one that is gone, below its header.
        let above = durable.saturating_sub(limit.saturating_add(u64::from(BLOCK)));
        let top = top.and_then(|top| segments.get(top));
        let fault = if above > 0 && top.is_some_and(|top| top.header.is_ok()) {
            self.gone = Some((limit, durable));
            Fault::at(&segment_name(limit), limit, 0, words::gone_behind(&self.top, durable))
        } else {
            let what = match self.pieces.is_empty() && self.is_whole() {
                true => {
                    format!("{}: records up to LSN {durable} were durable", words::all_gone(segments.len()))
                }
                false => format!("records up to LSN {durable} were durable, and end here"),
            };
            Fault::at(&self.top, self.base, self.end - self.base, what)
        };
        let lost_bytes = if above > 0 { above } else { durable - self.end };
        self.report.faults.push(Fault { lost_bytes, ..fault });
        self.end = durable;
    }

    /// Whether nothing is wrong but names.
    fn is_whole(&self) -> bool {
        self.report.faults.len() == self.misnamed
    }

    /// The newest segment, if it is shorter than it was made and did not end there when the log was closed. One below what was
    /// durable in another was trimmed.
    fn cut_newest(&mut self, newest: usize) {
        let plan = self.plan;
        let Some(found) = plan.survey.segments.get(newest) else { return };
        let end = found.base.saturating_add(found.length);
        let mut faults = self.report.faults.iter_mut().filter(|fault| fault.segment == found.name);
        let free = self.free.map(|_| self.end);
        let Some(capacity) = plan.capacity(newest) else {
            // Nothing tells how long it was made, and it may have been cut.
            let closed = plan.survey.mark.is_some_and(|mark| mark.synced == end);
            faults.filter(|fault| fault.offset == 0 && !closed).for_each(|fault| fault.lost_records = None);
            return;
        };
        let is_last = self.durable <= found.base.saturating_add(capacity);
        let what = short(&plan.survey, free, end, found.length, capacity).filter(|_| is_last);
        if let Some(told) = faults.find(|fault| fault.offset > 0 && fault.lost_to() >= self.end) {
            // What is lost at its end is told, but for why.
            let why = found.too_short().or(what.filter(|_| told.offset > u64::from(BLOCK)));
            let why = why.filter(|why| !told.what.starts_with(why.as_str()));
            why.into_iter().for_each(|why| told.what = format!("{why}: {}", told.what));
            return;
        }
        if let Some(what) = what {
            // Where it ends inside a frame, or behind one that is damaged, that was there.
            let valid = self.end.clamp(found.base, end) - found.base;
            let free = self.free.filter(|_| plan.survey.mark.is_some_and(|mark| mark.synced == self.end));
            let lost_bytes = if free == Some(true) { 0 } else { found.length - valid };
            let lost_records = free.filter(|free| *free).map(|_| 0);
            let fault = Fault::at(&found.name, found.base, valid, what);
            self.report.faults.push(Fault { lost_bytes, lost_records, ..fault });
        }
    }
}
