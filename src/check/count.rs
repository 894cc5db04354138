//! How many records lay before each segment, and how many of those are in no file that is left.
//!
//! A link counts the records that the log held before it. From one link to the next, each segment accounts for what it
//! holds and for what is seen to be lost of it. The rest lay where nothing else tells of it: in files that are gone, or at
//! the end of a segment, which only the next link tells. What was met on the way decides whether that rest is known:
//!
//! | met since the last link | the rest at the next |
//! |---|---|
//! | no place for losses of which only that tells | is none: a repair passed over it, or knew less when it made the last link |
//! | one, and segments that account for all that is seen | is lost |
//! | one, and a segment of which nobody knows how much it held | cannot be told |
//! | one, and a segment in which a repair passed over records | cannot be told: some was passed over, some lost |
//!
//! Where no link is left above, nothing tells of such a place at all: [`Count::is_untold`].

use std::mem::{replace, take};

/// The state from one link to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    /// Records of the log up to here, cleaned ones included, where a link told and each segment since.
    upto: Option<u64>,
    /// Since the last link a repair passed over some.
    passed: bool,
    /// Since the last link there was a place for losses of which the next one is the first to tell.
    place: bool,
    /// The last segment may have held more at its end than is there.
    more: bool,
}

/// What is lost with a segment that a link names and of which there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    /// Its records and those below it that the link counts and no file holds.
    pub(super) records: u64,
    /// Whether they are all lost now.
    pub(super) known: bool,
    /// Whether segments right below it are gone too.
    pub(super) others: bool,
    /// Whether what else is lost lay at the end of the last segment.
    pub(super) at_end: bool,
}

/// What a link counts and no file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) records: u64,
    /// Whether they are all lost now; or else a repair passed over some.
    pub(super) known: bool,
}

/// Which place for losses it is of which only the next link tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nth {
    First,
    Later,
}

impl Count {
    /// Before the first segment. `whole`: nothing was ever cleaned.
    pub(super) fn new(whole: bool) -> Count {
        Count { upto: whole.then_some(0), passed: false, place: false, more: false }
    }

    /// A segment of `records` is gone. The link that names it, which comes next, counts `before` up to its end. `room`: whole
    /// segments may have lain below it.
    pub(super) fn gone(&mut self, room: bool, records: u64, before: u64) -> Gone {
        let at_end = !self.place && !room;
        self.unlinked(room);
        let Count { upto, passed, place, more } = replace(self, Count::new(false));
        let rest = upto.filter(|_| !passed || place).map_or(0, |upto| before.saturating_sub(upto));
        let lost = rest.max(records);
        let others = room && (upto.is_none() || lost > records);
        let known = if upto.is_some() { !passed || lost == records } else { !room && !more };
        Gone { records: lost, known, others, at_end }
    }

    /// Whether of what lay below a segment whose link is lost nothing else tells: of whole segments, for which there is
    /// `room`, or of what the last one held at its end. A link above counts it, if one is `left`.
    pub(super) fn is_untold(&self, room: bool, left: bool) -> bool {
        let told_later = left && self.upto.is_some();
        !told_later && (room || self.more)
    }

    /// A segment's link counts `before` records: what of them is in no file.
    pub(super) fn link(&mut self, before: u64) -> Option<Rest> {
        let (passed, place) = (take(&mut self.passed), take(&mut self.place));
        let upto = self.upto.replace(before)?;
        let records = before.saturating_sub(upto);
        (records > 0 && place).then_some(Rest { records, known: !passed })
    }

    /// A segment's link is lost. Says whether there is a place for losses below it, of which the next link tells.
    pub(super) fn unlinked(&mut self, room: bool) -> Option<Nth> {
        (self.more || room).then(|| if replace(&mut self.place, true) { Nth::Later } else { Nth::First })
    }

    /// The segment accounts for so many records, what is seen to be lost of it among them; `None` if nobody knows.
    pub(super) fn add(&mut self, records: Option<u64>) {
        self.upto = self.upto.zip(records).map(|(upto, records)| upto.saturating_add(records));
    }

    /// The segment was read. `more`: more may have lain at its end, as only the next link would tell. `passed`: a repair
    /// passed over some of it, and nothing tells how many.
    pub(super) fn end(&mut self, more: bool, passed: bool) {
        self.more = more;
        self.passed |= passed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of each segment of the log.
    const HELD: [u64; 5] = [2, 3, 2, 4, 2];

    /// What became of a segment.
    #[derive(Clone, Copy, Debug)]
    struct Segment {
        gone: bool,
        link_lost: bool,
        /// Its last record is lost.
        end_lost: bool,
        /// It may seem to have gone on, although it did not.
        unclear: bool,
        /// A repair passed over one of its records before.
        passed: bool,
    }

    impl Segment {
        fn all() -> Vec<Segment> {
            let bit = |bits: u32, n: u32| bits >> n & 1 == 1;
            let gone = Segment { gone: true, link_lost: false, end_lost: false, unclear: false, passed: false };
            let there = (0..16).map(|bits| Segment {
                gone: false,
                link_lost: bit(bits, 0),
                end_lost: bit(bits, 1),
                unclear: bit(bits, 2),
                passed: bit(bits, 3),
            });
            // One that lost its end is unclear.
            there.filter(|segment| !segment.end_lost || segment.unclear).chain([gone]).collect()
        }
    }

    /// What is told lost of a log from the segment `front` on, as the report is put together, and what is. `jump`: a repair
    /// left room before the third.
    fn told_and_lost(log: &[Segment], front: usize, jump: bool) -> (Option<u64>, u64) {
        let base = |n: usize| n + usize::from(jump && n > 1);
        let before = |n: usize| HELD.iter().take(n).sum::<u64>();
        let linked = |n: usize| log.get(n).is_some_and(|segment| !segment.gone && !segment.link_lost);
        let mut count = Count::new(front == 0);
        let (mut told, mut lost, mut limit) = (Some(0), 0, front);
        let mut tell = |records: Option<u64>| told = told.zip(records).map(|(told, records)| told + records);
        for (n, (segment, held)) in log.iter().zip(HELD).enumerate().skip(front) {
            let room = limit < base(n);
            if segment.gone {
                lost += held;
                if linked(n + 1) {
                    let gone = count.gone(room, held, before(n + 1));
                    let below = log.get(front..n).and_then(<[Segment]>::last);
                    if log.iter().all(|segment| !segment.passed) {
                        let is_gone = below.is_some_and(|below| below.gone);
                        let may_be = is_gone || jump && (gone.records > held || front > 0);
                        assert!(gone.others || !is_gone, "{gone:?}, {n}: {log:#?}");
                        assert!(!gone.others || may_be, "{gone:?}, {n}: {log:#?}");
                        let at_end = gone.at_end && gone.records > held;
                        assert!(!at_end || below.is_some_and(|below| below.end_lost), "{gone:?}, {n}: {log:#?}");
                    }
                    tell(gone.known.then_some(gone.records));
                    limit = base(n) + 1;
                }
                continue;
            }
            // The link at the front would have told.
            tell((limit == base(n) || limit > front || linked(n) || front == 0).then_some(0));
            if !linked(n) && count.is_untold(room, (n..log.len()).any(linked)) {
                tell(None);
            }
            match linked(n) {
                true => count.link(before(n)).map_or((), |rest| {
                    assert!(rest.records > 0);
                    tell(rest.known.then_some(rest.records));
                }),
                false => _ = count.unlinked(room),
            }
            let sealed = linked(n + 1);
            let here = u64::from(segment.end_lost);
            lost += here;
            if sealed {
                tell(Some(here));
            }
            count.add(Some(if sealed { held } else { held - here - u64::from(segment.passed) }));
            count.end(!sealed && segment.unclear, !sealed && segment.passed);
            limit = base(n) + 1;
        }
        (told, lost)
    }

    #[test]
    fn what_is_told_lost_is_lost_whatever_became_of_the_segments() {
        let all = Segment::all();
        let newest: Vec<_> = all.iter().filter(|segment| !segment.gone && !segment.end_lost).collect();
        let (mut exact, mut untold) = (0, 0);
        for (front, jump) in [(0, false), (1, false), (0, true), (1, true)] {
            for logs in 0..all.len().pow(4) {
                let nth = |n: u32| all.get(logs / all.len().pow(n) % all.len()).copied();
                for newest in &newest {
                    let log: Vec<Segment> = (0..4).filter_map(nth).chain([**newest]).collect();
                    let (told, lost) = told_and_lost(&log, front, jump);
                    assert!(told.is_none_or(|told| told == lost), "{told:?} told, {lost} lost: {log:#?}");
                    // Only a lost link may leave it untold, what a repair passed over, or what was cleaned.
                    let may_be = |segment: &Segment| segment.link_lost || segment.passed || front > 0;
                    assert!(told.is_some() || log.iter().any(may_be), "{lost} lost: {log:#?}");
                    let at_one_place = log.iter().filter(|segment| segment.gone || segment.unclear).count() < 2;
                    let linked = log.iter().all(|segment| !segment.link_lost);
                    assert!(told.is_some() || !at_one_place || !linked || jump, "{lost} lost: {log:#?}");
                    exact += u64::from(told.is_some() && lost > 0);
                    untold += u64::from(told.is_none());
                }
            }
        }
        assert!(exact > untold / 8 && untold > 0, "{exact} told, {untold} not");
    }
}
