//! One log's segments added up, in order: what was found, and what is missing.

use crate::format::{BLOCK, FRAME, LINK, frame_size};
use crate::lsn::Lsn;
use crate::recovery::words::{SEEN, TORN, UNSURE, hex};

use super::SalvagedLog;
use super::hunt::{Frame, MORE};
use super::lives::{Family, Life};
use super::past::Past;

/// What the frames make.
#[derive(Default)]
pub(super) struct Logs {
    /// The logs of which there is a record.
    pub(super) logs: Vec<SalvagedLog>,
    /// Those of them that have no name, and how far they reach.
    pub(super) reaches: Vec<(usize, u64)>,
    /// What else there is to know of them.
    pub(super) notes: Vec<String>,
    /// Those with `MARK` that had records, and of which there is none.
    pub(super) unmet: Vec<Unmet>,
}

/// A log of which no record is found.
pub(super) struct Unmet {
    pub(super) family: Family,
    /// What it had lies below.
    pub(super) durable: u64,
    /// Links of its own tell of segments that are gone: no log without a name holds these.
    pub(super) is_linked: bool,
}

/// Adds up the segments of one log, in order.
pub(super) struct Reckoning<'a> {
    family: Family,
    past: &'a Past,
    log: SalvagedLog,
    /// The end of what was found or is known to have been there, and of what is known to have been durable.
    reach: u64,
    durable: u64,
    /// How far the last segment can reach, if it breaks off in a frame that is told to be damaged.
    torn_to: u64,
    /// Where in the last segment a frame is not whole of which nothing says that it was durable.
    torn: Option<u64>,
    /// Where the segment before lies, and how many records of the log lie up to its end, as far as that is known.
    last: Option<u64>,
    counted: Option<u64>,
    /// The last segment that begins below what MARK says is durable.
    newest: u64,
    /// How many places were damaged where a link last counted what lies before it, and whether records are missing since
    /// then of which only the next one that counts can tell how many they were.
    sure: u64,
    is_open: bool,
    /// Where the last segment may have gone on, or one that is gone have begun. And whether, since a link last counted, one is
    /// lost that would tell of such a place: the next may count it.
    free: Option<u64>,
    is_untold: bool,
    /// Whether nothing can lie between the front and what was added.
    is_begun: bool,
    /// Where the last segment lies of which a cleaned record may be here, and whether others are gone since then.
    shown: Option<u64>,
    is_gone: bool,
    /// Whether a writer had not written on yet when the rest was read.
    is_ended: bool,
}

impl<'a> Reckoning<'a> {
    /// `claim`: the highest of its frames.
    pub(super) fn new(family: Family, past: &'a Past, claim: u64) -> Reckoning<'a> {
        let log_id = if let Family::Id(id) = family { Some(id) } else { None };
        let name = match family {
            Family::Id(id) => hex(&id),
            Family::Nameless(seed) => format!("unknown-{seed:08x}"),
        };
        let log = SalvagedLog { name, log_id, first: Lsn::MAX, lost_records: Some(0), ..SalvagedLog::default() };
        // Of what was cleaned nobody knows how much it was; else the links count from the first record on.
        let counted = (past.front == 0).then_some(0);
        let (sure, durable) = (0, past.durable.max(claim));
        Reckoning {
            family,
            past,
            log,
            reach: 0,
            durable,
            torn_to: 0,
            torn: None,
            last: None,
            newest: past.front,
            counted,
            sure,
            is_open: false,
            free: None,
            is_untold: false,
            is_begun: false,
            shown: None,
            is_gone: false,
            is_ended: false,
        }
    }

    /// `is_torn`: whether a frame begins at an offset whose payload is not to be found.
    pub(super) fn add(&mut self, life: &Life, frames: &[Frame], is_torn: impl Fn(u32) -> bool) {
        let is_below = |frame: &Frame| life.end.is_none_or(|end| u64::from(frame.end()) <= end);
        let found = frames.iter().filter(|frame| frame.is_record && is_below(frame)).count() as u64;
        self.begin(life, !frames.is_empty());
        // What was durable ended in it.
        let is_durable = life.base.and_then(|base| self.past.durable.checked_sub(base));
        let is_durable = is_durable.is_some_and(|upto| upto > u64::from(BLOCK) && upto <= life.size());
        self.hold(life, is_durable || !frames.is_empty() || life.records.is_some() || is_torn(BLOCK));
        self.pass_gone(life, frames);
        // Only beside MARK it matters that nothing says more.
        let is_tail = |lsn: u64| life.end.is_none() && self.past.is_marked && lsn >= self.durable;
        let (log, before, mut torn) = (&mut self.log, self.reach, None);
        log.segments += usize::from(!frames.is_empty());
        if let Some(last) = frames.last() {
            log.segment_size = log.segment_size.max(life.size()).max(u64::from(last.end()));
        }
        let (mut next, mut is_short) = (life.begin, false);
        // What lies behind a hole that no frame claims may have been dropped as a torn tail, and so may what is of no whole batch.
        let mut is_sure = life.records.is_some() || frames.last().is_none_or(|last| last.batch & MORE == 0);
        // Tells whether that counts.
        let mut miss = |offset: u32| {
            let lsn = life.lsn(offset);
            // All of its records are there: what was damaged is the log's own.
            let is_no_loss =
                life.is_former || lsn < self.past.front || self.past.is_cut_off(lsn) || self.past.is_late(lsn);
            if life.records == Some(found) || is_no_loss {
                return false;
            }
            is_sure &= life.records.is_some() || lsn < life.claim;
            if is_tail(lsn) {
                torn = torn.or(Some(lsn));
                return false;
            }
            is_short = true;
            // No more than that the log began before what was given.
            let is_absent = frames.is_empty() && log.records == 0 && !self.past.is_marked;
            log.absent |= is_absent;
            log.damaged += u64::from(!is_absent);
            !is_absent
        };
        for frame in frames {
            if frame.offset > next && !(next == BLOCK && is_link(frame.offset)) {
                miss(next);
            }
            next = frame.end();
        }
        let is_told = match life.end {
            Some(end) => end > u64::from(next) && miss(next),
            // First there is only a link.
            None => next != BLOCK && is_torn(next) && miss(next),
        };
        if !frames.is_empty() {
            self.torn = torn;
        }
        let (base, end) = (life.base.unwrap_or(0), life.end.unwrap_or(0).max(u64::from(next)));
        if life.end.is_some() || !frames.is_empty() {
            self.reach = before.max(base.saturating_add(end));
            self.torn_to = if is_told && life.end.is_none() { base.saturating_add(life.limit) } else { 0 };
        }
        self.show(life, frames, before);
        if is_short {
            self.lose(life.records.map(|records| records.saturating_sub(found)));
        }
        if !self.is_apart(life) {
            let counted = self.counted.filter(|_| is_sure);
            self.counted = counted.map(|counted| counted.saturating_add(life.records.unwrap_or(found)));
            self.last = life.base;
            // Where nothing more had room, only another segment may have followed.
            let is_full = life.size() < end.saturating_add(u64::from(FRAME));
            self.free = life.base.map(|base| base.saturating_add(if is_full { end.max(life.size()) } else { end }));
        }
        self.newest = life.base.filter(|base| *base < self.past.durable).unwrap_or(self.newest);
    }

    /// Adds the records that are found. `before`: the end of those before.
    fn show(&mut self, life: &Life, frames: &[Frame], before: u64) {
        let log = &mut self.log;
        for frame in frames.iter().filter(|frame| frame.is_record) {
            let lsn = life.lsn(frame.offset);
            log.records += 1;
            log.bytes += u64::from(frame.length);
            log.first = log.first.min(Lsn(lsn));
            log.last = log.last.max(Lsn(lsn));
            log.cleaned += u64::from(lsn < self.past.front);
            log.cut_off += u64::from(self.past.is_cut_off(lsn));
            log.doubled += u64::from(lsn < before);
        }
    }

    /// Whether it counts for nothing that follows in the log: it was cut off, or cleaned before its file was another's.
    fn is_apart(&self, life: &Life) -> bool {
        life.is_former || life.base.is_some_and(|base| self.past.is_cut_off(base))
    }

    /// The frames of one life that follow those before without a gap, if a writer goes on with the log meanwhile: it may
    /// have written what lies between after that was read. Of the last batch all, or nothing.
    pub(super) fn met<'f>(&mut self, life: &Life, frames: &'f [Frame]) -> &'f [Frame] {
        let late = |offset| self.past.is_late(life.lsn(offset));
        if self.past.settled.is_none() {
            return frames;
        }
        // One that was begun after the links were looked for.
        self.is_ended |= late(0) && life.before.is_none() && !frames.is_empty();
        let (mut next, mut known) = (life.begin, 0);
        for (index, frame) in frames.iter().enumerate() {
            self.is_ended |= late(next) && frame.offset > next && !(next == BLOCK && is_link(frame.offset));
            if self.is_ended {
                break;
            }
            next = frame.end();
            if frame.batch & MORE == 0 || !late(frame.offset) {
                known = index + 1;
            }
        }
        self.is_ended |= late(next) && life.end.is_some_and(|end| end > u64::from(next));
        frames.get(..known).unwrap_or_default()
    }

    /// Counts where records are gone between cleaned ones, or behind them.
    fn pass_gone(&mut self, life: &Life, frames: &[Frame]) {
        let front = self.past.front;
        if front == 0 || life.base.is_none_or(|base| base > front) {
            return;
        }
        self.is_gone |= life.before.is_none_or(|(prev, _)| self.shown != Some(prev));
        let (mut next, mut is_first) = (life.begin, self.log.records == 0);
        for frame in frames {
            let is_hole = frame.offset > next && !(next == BLOCK && is_link(frame.offset));
            self.is_gone |= is_hole && life.lsn(next) < front;
            if frame.is_record {
                self.log.gone += u64::from(self.is_gone && !is_first);
                (self.is_gone, is_first) = (false, false);
            }
            next = frame.end();
        }
        self.is_gone |= life.end.is_none_or(|end| end > u64::from(next));
        self.shown = life.base;
    }

    /// So many records are missing. `None`: the next link may tell.
    fn lose(&mut self, records: Option<u64>) {
        self.is_open |= records.is_none();
        self.log.lost_records = self.log.lost_records.map(|lost| lost.saturating_add(records.unwrap_or(0)));
    }

    /// Looks whether the log begins with a segment where it should. Where all of the front is gone, and what named it,
    /// this alone tells; or the next link, if nothing was cleaned. `is_there`: a frame of it is.
    fn begin(&mut self, life: &Life, is_there: bool) {
        let (front, lsn) = (self.past.front, life.base.unwrap_or(0));
        self.is_begun |= life.is_former;
        // A front that is late was begun after the files were listed.
        if self.is_begun || lsn < front || self.past.is_late(front) {
            return;
        }
        if front > 0 && self.last.is_some_and(|last| last < front) {
            // What was cleaned may be there in part.
            (self.counted, self.last, self.free) = (None, None, None);
            (self.is_open, self.is_untold, self.sure) = (false, false, self.log.damaged);
        }
        if life.base == Some(front) {
            self.is_begun = is_there || life.records.is_some();
        } else if front > 0 && is_there {
            self.begin_late();
            self.log.lost_records = None;
        }
    }

    /// What lay before the first segment that is found is lost. It counts once, whatever names a part of it.
    fn begin_late(&mut self) {
        self.is_begun = true;
        if self.log.damaged == 0 && !self.log.absent {
            self.log.absent = !self.past.is_marked;
            self.log.damaged = u64::from(self.past.is_marked);
        }
    }

    /// Holds against each other how many records were found and how many the links count: a segment of which nothing is
    /// left, not even the link behind it, shows by that alone. `is_there`: the log went on in this one.
    fn hold(&mut self, life: &Life, is_there: bool) {
        let base = life.base.unwrap_or(0);
        if self.is_apart(life) {
            return;
        }
        let Some((prev, before)) = life.before else {
            // What nothing says was durable is a torn tail beside MARK.
            let may_be = |free: u64| self.durable > free || !self.past.is_marked;
            let is_free = self.free.is_some_and(|free| base >= free.saturating_add(u64::from(FRAME)) && may_be(free));
            self.is_untold |= is_there && is_free && base > self.past.front && !self.past.is_late(base);
            return;
        };
        if life.base.is_some_and(|base| base <= self.past.front) {
            // What lies before it was cleaned, if anything does.
            (self.counted, self.is_begun) = (Some(before), self.is_begun || self.past.front == 0);
            return;
        }
        let counted = self.counted.filter(|_| self.last.is_none_or(|last| last == prev));
        match counted.map(|counted| before.saturating_sub(counted)) {
            Some(0) => {}
            Some(_) if self.past.is_late(base) => {}
            Some(lost) => {
                self.lose(Some(lost));
                if !self.is_begun {
                    self.begin_late();
                } else if self.sure == self.log.damaged && !self.is_open {
                    // What is damaged in between may have been those.
                    self.log.damaged += 1;
                }
            }
            None if self.is_open || self.is_untold => self.log.lost_records = None,
            None => {}
        }
        self.is_begun |= self.past.front == 0;
        (self.counted, self.sure) = (Some(before), self.log.damaged);
        (self.is_open, self.is_untold) = (false, false);
    }

    pub(super) fn finish(mut self, frames: std::ops::Range<usize>, told: &mut Logs) {
        let is_linked = self.log.damaged > 0;
        if !self.is_begun && !self.past.is_late(self.past.front) {
            self.begin_late();
            self.is_open = true;
        }
        // What was durable once lies beyond all that is here, and was more than the newest's link.
        let durable = self.past.settled.map_or(self.durable, |settled| settled.min(self.durable));
        let is_only_link = u32::try_from(durable.saturating_sub(self.newest)).is_ok_and(is_link);
        let is_cut = durable > self.reach.max(self.past.front) && !is_only_link;
        // Where the newest segment breaks off that is told already.
        self.log.damaged += u64::from(is_cut && durable > self.torn_to);
        // A power cut takes what was only shown; so does who removes a file, or flips a bit.
        let left = self.torn.unwrap_or(self.reach).max(self.durable);
        let is_shown = self.past.settled.is_none() && self.past.shown > left;
        if is_cut || is_shown || self.is_open || self.is_untold {
            self.log.lost_records = None;
        }
        self.log.frames = frames;
        if self.log.records > 0 {
            self.log.unmarked = !self.past.is_marked;
            let torn =
                self.torn.filter(|lsn| *lsn >= durable && !self.past.is_late(*lsn) && !self.past.is_cut_off(*lsn));
            let shown = Some(self.past.shown).filter(|_| is_shown && !is_cut);
            let what = "that they were durable nothing says";
            told.notes.extend(shown.map(|lsn| format!("{}: {SEEN} {lsn}; {what}", self.log.name)));
            told.notes.extend(torn.map(|lsn| format!("{}: {TORN} {lsn}, {UNSURE}", self.log.name)));
            told.reaches.extend(self.log.log_id.is_none().then_some((told.logs.len(), self.reach)));
            told.logs.push(self.log);
        } else if self.past.mark.is_some() && (is_cut || is_linked) {
            // One slot is enough for that: what it says was durable, and the newest segment is never cleaned.
            told.unmet.push(Unmet { family: self.family, durable: durable.max(self.reach), is_linked });
        }
    }
}

/// Whether nothing but a link has room before `offset`.
pub(super) fn is_link(offset: u32) -> bool {
    u64::from(offset) < u64::from(BLOCK) + frame_size(LINK as u64) + u64::from(FRAME)
}
