//! The end of a check's report: a torn tail, what lies above the log, and whether all that was durable is below its end.

use crate::error::plural;
use crate::format::{BLOCK, segment_name};
use crate::recovery::{short, words};

use super::super::plan::{Piece, Plan};
use super::Sum;

impl Sum {
    /// Says that the log ends in a torn tail, if it does. `above`: valid records in the segments above it.
    pub(in crate::check) fn tell_torn(&mut self, above: u64) {
        let Some(beyond) = self.torn else { return };
        let beyond = plural(beyond + above, "valid record");
        let what = "of which nothing says that it was durable";
        self.report.notes.push(format!("torn tail at LSN {}, {what}; beyond it: {beyond}", self.end));
    }

    /// What lies above the log, and whether all that was durable is below its end.
    pub(in crate::check) fn above(&mut self, plan: &Plan, pieces: &[Piece]) {
        let top = pieces.last().and_then(Piece::member);
        for (index, found) in plan.survey.segments.iter().enumerate().skip(top.map_or(0, |top| top + 1)) {
            let damaged = found.header.as_ref().err().map(|what| (*what).to_owned());
            let Some(what) = damaged.or_else(|| found.too_short()) else { continue };
            // What was durable above the last segment lay in it.
            let held = top.is_some() && self.end < self.durable && found.base >= self.limit;
            let from = found.base.saturating_add(u64::from(BLOCK));
            let lost = if held { self.durable.saturating_sub(from) } else { 0 };
            let records = plan.parts.get(index).is_some_and(|part| part.blank && lost == 0).then_some(0);
            self.fault(&found.name, found.base, 0, lost, what);
            self.report.faults.last_mut().into_iter().for_each(|fault| fault.lost_records = records);
            self.end = if lost > 0 { self.durable } else { self.end };
        }
        let used = plan.survey.mark.is_some_and(|mark| mark.synced > 0 || mark.front > 0);
        let front = plan.survey.front;
        if self.end < self.durable {
            let mut what = format!("records up to LSN {} were durable, and end here", self.durable);
            let (mut name, mut base) = (self.top.clone(), self.base);
            // What was durable above this segment lay in one that is gone, below its header.
            let above = self.durable.saturating_sub(self.limit.saturating_add(u64::from(BLOCK)));
            let lost = if above > 0 { above } else { self.durable - self.end };
            if pieces.is_empty() && self.is_whole() {
                let gone = words::all_gone(plan.survey.segments.len());
                what = format!("{gone}: records up to LSN {} were durable", self.durable);
            }
            let whole = |top: usize| plan.survey.segments.get(top).is_some_and(|found| found.header.is_ok());
            if above > 0 && top.is_some_and(whole) {
                what = words::gone_behind(&name, self.durable);
                (name, base, self.end) = (segment_name(self.limit), self.limit, self.limit);
                self.gone = Some((base, self.durable));
            }
            self.fault(&name, base, self.end - base, lost, what);
            self.end = self.durable;
        } else if top.is_none() && (front > 0 || used) {
            self.fault("", front, 0, 0, format!("no segment leads down to the front, LSN {front}"));
        }
        // Where nothing else is wrong, it is the one that opening comes to. One that another followed was trimmed.
        let newest = if self.is_whole() { plan.tip } else { top };
        if let Some(newest) = newest.filter(|_| self.gone.is_none()) {
            self.cut_newest(plan, newest);
        }
        // Whatever else opening refuses.
        let is_told = |name: &String| self.report.faults.iter().any(|fault| fault.segment == *name);
        if let Some(broken) = plan.chain.broken.as_ref().filter(|broken| self.is_whole() || !is_told(&broken.segment)) {
            let lost = broken.to.saturating_sub(broken.from);
            let offset = broken.from.saturating_sub(broken.base);
            self.fault(&broken.segment, broken.base, offset, lost, broken.what.clone());
        }
    }

    /// Whether nothing is wrong but names.
    fn is_whole(&self) -> bool {
        self.report.faults.len() == self.misnamed
    }

    /// The newest segment, if it is shorter than it was made and did not end there when the log was closed.
    fn cut_newest(&mut self, plan: &Plan, newest: usize) {
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
        let what = short(&plan.survey, free, end, found.length, capacity);
        if let Some(told) =
            faults.find(|fault| fault.offset > 0 && fault.lsn.0.saturating_add(fault.lost_bytes) >= self.end)
        {
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
            let lost = if free == Some(true) { 0 } else { found.length - valid };
            self.fault(&found.name, found.base, valid, lost, what);
            let records = free.filter(|free| *free).map(|_| 0);
            self.report.faults.last_mut().into_iter().for_each(|fault| fault.lost_records = records);
        }
    }
}
