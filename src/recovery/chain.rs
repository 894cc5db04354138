//! The chain of links: which segments the log is made of, and what of that no crash leaves.
//!
//! A segment is made with all its bytes, and cut to its header or to where its frames end. So there are these lengths that no
//! crash leaves:
//!
//! | | fewer bytes than | of |
//! |---|---|---|
//! | [`Found::too_short`] | a header and a link | each |
//! | [`Found::cut_before`] | the next one's link says that it held | one that another follows |
//! | [`Found::trimmed`] | it was made with, and no link | one above the tip |
//! | [`short`] | it was made with, and MARK does not say that it was closed there | the tip |
//!
//! One that was cut to its header is as a recovery leaves it.

use crate::bugs::{Bug, Bugs};
use crate::error::plural;
use crate::format::{BLOCK, Link, NO_BASE, segment_name};

use super::survey::{Found, Survey};

/// The segments that the log is made of.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Indices of its members into [`Survey::segments`], from the front to the tip.
    pub(crate) members: Vec<usize>,
    /// What no crash leaves, if there is such.
    pub(crate) broken: Option<Broken>,
}

/// A segment that is not as any crash would leave it.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// Its name.
    pub(crate) segment: String,
    pub(crate) base: u64,
    /// What is not there, as far as it is known without reading the segment.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) what: String,
}

impl Survey {
    /// The index of the predecessor that a link names, if it is the file that was meant; `None` at the front.
    fn predecessor(&self, link: &Link, bugs: Bugs) -> std::result::Result<Option<usize>, ()> {
        if link.prev_base == NO_BASE || link.prev_base < self.front {
            return Ok(None);
        }
        let index = self.index(link.prev_base).ok_or(())?;
        let place = self.segments.get(index).and_then(|found| found.place(bugs));
        if place.is_some_and(|place| place.seed == link.prev_seed) { Ok(Some(index)) } else { Err(()) }
    }

    /// Follows the links down from the highest base that leads to the front.
    pub(crate) fn chain(&self, bugs: Bugs) -> Chain {
        let mut leads = vec![false; self.segments.len()];
        for (index, found) in self.segments.iter().enumerate() {
            let Some((link, _)) = &found.link else { continue };
            let below = match self.predecessor(link, bugs) {
                Ok(None) => true,
                Ok(Some(prev)) => prev < index && leads.get(prev) == Some(&true),
                Err(()) => false,
            };
            if let Some(lead) = leads.get_mut(index) {
                *lead = below || bugs.has(Bug::NewestLinkIsTip);
            }
        }
        let mut members = Vec::new();
        let mut next = leads.iter().rposition(|lead| *lead);
        while let Some(index) = next {
            members.push(index);
            let link = self.segments.get(index).and_then(|found| found.link.as_ref());
            next = link.and_then(|(link, _)| self.predecessor(link, bugs).ok().flatten());
        }
        members.reverse();
        let broken = self.broken(&members, bugs);
        Chain { members, broken }
    }

    /// What is wrong with a segment that has less than its own or the next one's link says, or less than it was made with and
    /// no link, and the LSN where it ended as far as it is known. What has nothing left but its header was cut to that by a
    /// recovery, as one that lost its link is.
    fn cut(&self, found: &Found, bugs: Bugs) -> Option<(String, u64)> {
        if let Some(what) = found.too_short() {
            return Some((what, found.base.saturating_add(found.length)));
        }
        let end = self.link_to(&found.place(bugs)?).map(|link| link.prev_end);
        let cut = end.and_then(|end| Some((found.cut_before(end).filter(|_| found.length != u64::from(BLOCK))?, end)));
        cut.or_else(|| Some((found.trimmed()?, found.base.saturating_add(found.length))))
    }

    /// What no crash leaves: rows 3a to 3e of DESIGN's decision table. 3f is [`short`], 3g the table's own.
    fn broken(&self, members: &[usize], bugs: Bugs) -> Option<Broken> {
        let above = members.last().map_or(0, |tip| tip + 1);
        for found in self.segments.iter().skip(above) {
            let (segment, base) = (found.name.clone(), found.base);
            // 3a.
            if let Err(what) = found.header {
                let to = self.sealed_end(base).unwrap_or(base.saturating_add(found.length));
                return Some(Broken { segment, base, from: base, to, what: what.to_owned() });
            }
            // 3b.
            if let Some((what, to)) = self.cut(found, bugs) {
                return Some(Broken { segment, base, from: base.saturating_add(found.length), to, what });
            }
            // 3c.
            if let Some((link, _)) = &found.link
                && self.predecessor(link, bugs).is_err()
            {
                let (base, segment) = (link.prev_base, segment_name(link.prev_base));
                let what = self.instead(base).to_owned();
                return Some(Broken { segment, base, from: base, to: link.prev_end, what });
            }
        }
        for pair in members.windows(2) {
            let [lower, upper] = *pair else { continue };
            let (Some(found), Some(above)) = (self.segments.get(lower), self.segments.get(upper)) else { continue };
            let to = above.link.as_ref().map_or(0, |(link, _)| link.prev_end);
            // 3d.
            if let Some(what) = found.cut_before(to) {
                let from = found.base.saturating_add(found.length);
                return Some(Broken { segment: found.name.clone(), base: found.base, from, to, what });
            }
        }
        // 3e.
        let first = self.segments.first()?;
        (members.is_empty() && self.front > 0).then(|| {
            let what = format!("no segment leads down to the front, LSN {}", self.front);
            Broken { segment: first.name.clone(), base: first.base, from: self.front, to: first.base, what }
        })
    }
}

/// Row 3f: what is wrong with a newest segment that is shorter than it was made and did not end there, at the LSN `end`, when
/// the log was closed. `free`: the LSN behind its last frame, if no other begins there.
pub(crate) fn short(survey: &Survey, free: Option<u64>, end: u64, length: u64, capacity: u64) -> Option<String> {
    let closed = survey.mark.map(|mark| mark.synced);
    if length >= capacity || closed == Some(end) {
        return None;
    }
    Some(match closed {
        Some(closed) if free == Some(closed) && closed < end => format!(
            "{} behind LSN {closed}, where MARK says that the log ended: appended to the file, or left of it by a cut",
            plural(end - closed, "byte")
        ),
        Some(_) => format!("cut to {length} bytes, it was made with {capacity}"),
        None => {
            format!("{length} bytes of {capacity}: it was cut, or the MARK is gone that says that it was closed there")
        }
    })
}
