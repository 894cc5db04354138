//! What a directory's log is made of, as far as can be told although parts of it are damaged or gone.
//!
//! Where recovery accepts a log, this is the chain that recovery finds. Beyond, a segment whose own header is
//! damaged is read by what the next segment's link says of it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::bugs::Bugs;
use crate::error::{Error, Result};
use crate::format::{BLOCK, FrameHeader, HEAD, Header, Left, Link, NO_BASE, is_elsewhere, seeds, segment_name};
use crate::recovery::{Chain, Found, Survey, misplaced, read_link, survey};
use crate::scan::{Place, holds_frames};
use crate::storage::{Storage, is_zero, read_head};

use super::misnamed::{Adopted, adopt, is_misnamed, unnote};
use super::walk::Walked;

/// A segment file and how to read it.
#[derive(Debug)]
pub(super) struct Part {
    /// `None` where nothing tells its seed.
    pub(super) place: Option<Place>,
    pub(super) link: Option<Link>,
    pub(super) seal: Option<Seal>,
    /// What a repair left in it, if one wrote it anew.
    pub(super) left: Option<Left>,
    /// Whether it holds a link or any other frame.
    pub(super) written: bool,
    /// Whether no record of this place was ever in it: there is nothing but zeros from where its link would be.
    pub(super) blank: bool,
    /// Whether its file has another name. That of a lone file says nothing.
    pub(super) misnamed: bool,
}

impl Part {
    /// How many records it is to hold, if that is known: as many as a repair left, or as the next link says, which goes on
    /// counting what a repair passed over, and is less where the log ended earlier since. `gaps`: whether one passed over any.
    pub(super) fn records(&self, gaps: bool) -> Option<u64> {
        let left = self.left.map(|left| left.records);
        let sealed = self.seal.map(|seal| seal.records).filter(|_| !gaps || left.is_some());
        [left, sealed].into_iter().flatten().min()
    }
}

/// What a link says of the segment before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal {
    seed: u32,
    /// The offset of its end.
    pub(super) end: u64,
    pub(super) records: u64,
}

/// What the log was made of, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// By index into the segments of the survey.
    Member(usize),
    /// A segment that a link names, without a file. Others may be missing below: `before` records lie before the link.
    Missing { base: u64, end: u64, records: u64, before: u64 },
}

impl Piece {
    /// Its index, if there is a file.
    pub(super) fn member(&self) -> Option<usize> {
        match *self {
            Piece::Member(index) => Some(index),
            Piece::Missing { .. } => None,
        }
    }
}

/// All segment files of a directory.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) directory: PathBuf,
    pub(super) survey: Survey,
    /// One for each segment of the survey.
    pub(super) parts: Vec<Part>,
    /// What recovery finds, and what it refuses of that.
    pub(super) chain: Chain,
    /// The newest segment of that chain.
    pub(super) tip: Option<usize>,
    /// Files of no use in the places of segments that lie under other names.
    pub(super) displaced: Vec<String>,
}

impl Plan {
    pub(super) fn read(storage: &dyn Storage) -> Result<Plan> {
        let mut survey = survey(storage, false, Bugs::default())?;
        let Adopted { displaced, told } = adopt(storage, &mut survey)?;
        let mut plan = Plan { displaced, ..Plan::of(storage, survey, &told)? };
        for (part, found) in plan.parts.iter_mut().zip(&plan.survey.segments) {
            part.misnamed = is_misnamed(found);
        }
        Ok(plan)
    }

    /// What the segments of a survey are. `told`: seeds by base, of which frames are known to be there.
    pub(super) fn of(storage: &dyn Storage, mut survey: Survey, told: &HashMap<u64, u32>) -> Result<Plan> {
        // The bases of files that are read as what belongs there, whatever their headers say.
        let mut here = misplaced_headers(storage, &survey)?;
        let mut seals: HashMap<u64, Seal> = HashMap::new();
        let links = survey.segments.iter().filter_map(|found| found.link.as_ref());
        let mut bases: HashMap<u32, u64> = links.map(|(link, _)| (link.prev_seed, link.prev_base)).collect();
        bases.extend(survey.segments.iter().filter_map(|found| Some((found.header.as_ref().ok()?.1, found.base))));
        // The bases of segments that lie under the names of others.
        let others = survey.segments.iter().filter(|found| !here.contains(&found.base));
        let swapped: HashSet<u64> = others.filter_map(|found| found.other).map(|(header, _)| header.base).collect();
        let mut parts = Vec::new();
        for found in survey.segments.iter().rev() {
            let seal = seals.get(&found.base).copied();
            let place = found.place(Bugs::default());
            let (left, written, blank, misnamed) = (found.left, false, false, false);
            let mut part = Part { place, link: None, seal, left, written, blank, misnamed };
            part.link = found.link.as_ref().map(|(link, _)| link.clone());
            let io = |e| Error::io("read", storage.path().join(&found.name), e);
            if found.header.is_err() {
                let is_swapped = swapped.contains(&found.base) && !here.contains(&found.base);
                let own = |seed: &u32| !is_swapped && bases.get(seed).is_none_or(|base| *base == found.base);
                let head = read_head(&*found.file).map_err(io)?;
                let first = u64::from(BLOCK);
                part.blank = found.length >= first && is_zero(&*found.file, first).map_err(io)?;
                let told = told.get(&found.base).copied();
                let known = seal.map(|seal| seal.seed).into_iter().chain(told);
                let is_damaged = Header::decode(&head).is_err();
                if is_damaged || here.contains(&found.base) || holds_any(found, known).map_err(io)? {
                    (part.place, part.link) = mend(found, &head, seal, told, own).map_err(io)?;
                    here.insert(found.base);
                }
            }
            if let (Some(seal), Some(place)) = (seal, &part.place)
                && place.seed != seal.seed
            {
                let sealed = Place { seed: seal.seed, ..*place };
                if holds_frames(&*found.file, &sealed).map_err(io)? {
                    // Its first frame is damaged as well, out of which any seed can be read.
                    (part.place, part.link) = (Some(sealed), None);
                } else {
                    // Another file than the one that was meant.
                    part.seal = None;
                }
            }
            if let Some(place) =
                part.place.filter(|place| !found.header.as_ref().is_ok_and(|(_, seed)| *seed == place.seed))
            {
                part.left = Left::decode(&read_head(&*found.file).map_err(io)?, place.seed);
            }
            part.written = part.link.is_some();
            if let (false, Some(place)) = (part.written, &part.place) {
                // Both its own link and that of its successor may be damaged.
                part.written = holds_frames(&*found.file, place).map_err(io)?;
            }
            if let Some(link) = part.link.as_ref().filter(|link| link.prev_base != NO_BASE) {
                let end = link.prev_end.saturating_sub(link.prev_base);
                let seal = Seal { seed: link.prev_seed, end, records: link.prev_records };
                seals.entry(link.prev_base).or_insert(seal);
            }
            parts.push(part);
        }
        parts.reverse();
        survey.forget_others(&here);
        let front = front(&survey, &parts);
        parts.drain(..survey.clean_to(front));
        let chain = survey.chain(Bugs::default());
        let tip = chain.members.last().copied();
        Ok(Plan { directory: storage.path().to_path_buf(), survey, parts, chain, tip, displaced: Vec::new() })
    }

    /// Where the segment at `index` lies in the log.
    pub(super) fn base(&self, index: usize) -> u64 {
        self.survey.segments.get(index).map_or(0, |found| found.base)
    }

    /// Where a piece lies in the log.
    pub(super) fn base_of(&self, piece: &Piece) -> u64 {
        match *piece {
            Piece::Member(index) => self.base(index),
            Piece::Missing { base, .. } => base,
        }
    }

    /// Whether a segment has a link that it had not when it was looked for: then it is one that was not begun.
    pub(super) fn leave_out_begun(&mut self, index: usize) -> Result<bool> {
        let Some((part, found)) = self.parts.get_mut(index).zip(self.survey.segments.get(index)) else {
            return Ok(false);
        };
        let Some(place) = part.place.filter(|_| part.link.is_none() && found.header.is_ok()) else { return Ok(false) };
        let head = read_head(&*found.file).map_err(|e| Error::io("read", self.directory.join(&found.name), e))?;
        let begun = read_link(&head, place, Bugs::default()).is_some();
        if begun {
            (part.place, part.written) = (None, false);
        }
        Ok(begun)
    }

    /// Whether a piece is the log's first by its own link. What a repair found lost below that counts.
    pub(super) fn begins(&self, piece: &Piece) -> bool {
        let link = piece.member().and_then(|index| self.parts.get(index)?.link.as_ref());
        link.is_some_and(|link| link.prev_base == NO_BASE)
    }

    /// Whether the link of the next piece is about this one.
    pub(super) fn is_tied(&self, piece: &Piece, next: &Piece) -> bool {
        let link = next.member().and_then(|next| self.parts.get(next)?.link.as_ref());
        let seal = piece.member().is_none_or(|index| self.parts.get(index).is_some_and(|part| part.seal.is_some()));
        seal && link.is_some_and(|link| link.prev_base == self.base_of(piece))
    }

    /// The least base of what follows a piece.
    pub(super) fn limit(&self, piece: &Piece) -> u64 {
        match *piece {
            Piece::Missing { end, .. } => end,
            Piece::Member(index) => self.survey.segments.get(index).map_or(0, |found| {
                found.base.saturating_add(found.header.as_ref().map_or(found.length, |(header, _)| header.capacity))
            }),
        }
    }

    /// Whether a file of no use lies in the place of a segment.
    pub(super) fn is_displaced(&self, index: usize) -> bool {
        self.displaced.contains(&segment_name(self.base(index)))
    }

    /// Whether the file is read as another segment than that in whose place it lies.
    pub(super) fn is_read_elsewhere(&self, found: &Found) -> bool {
        self.survey.segments.iter().any(|other| other.name == found.name && other.base != found.base)
    }

    /// Where a piece of the log ended, if that is known.
    pub(super) fn end_of(&self, piece: &Piece) -> Option<u64> {
        match *piece {
            Piece::Member(index) => Some(self.base(index).saturating_add(self.parts.get(index)?.seal?.end)),
            Piece::Missing { end, .. } => Some(end),
        }
    }

    /// The index of the segment at `base`, if its seed is the one that was meant.
    fn index(&self, base: u64, seed: u32) -> Option<usize> {
        let index = self.survey.index(base)?;
        let place = self.parts.get(index)?.place.as_ref()?;
        (place.seed == seed).then_some(index)
    }

    /// The log up to its newest segment: the newest with a link, be its predecessors damaged, or one above it that holds
    /// what is known to be durable, or frames that are shown, or was trimmed. Of what was only shown a power cut may have left
    /// nothing.
    pub(super) fn history(&self, durable: u64, shown: u64) -> Vec<Piece> {
        let above = |index: &usize| {
            let Some(part) = self.parts.get(*index).filter(|part| part.place.is_some()) else { return false };
            let is_durable = self.base(*index) + u64::from(BLOCK) < if part.written { shown } else { durable };
            is_durable
                || part.written && self.survey.segments.get(*index).is_some_and(|found| found.trimmed().is_some())
        };
        let linked = self.parts.iter().rposition(|part| part.link.is_some());
        let top = (0..self.parts.len()).rev().find(above).max(linked).max(self.tip);
        let mut pieces = Vec::new();
        let mut next = top;
        while let Some(index) = next {
            pieces.push(Piece::Member(index));
            let below = index.checked_sub(1);
            next = match self.parts.get(index).and_then(|part| part.link.as_ref()) {
                Some(link) if link.prev_base == NO_BASE || link.prev_base < self.survey.front => None,
                Some(link) => match self.index(link.prev_base, link.prev_seed).filter(|prev| *prev < index) {
                    Some(prev) => Some(prev),
                    None => {
                        let Link { prev_base: base, prev_end: end, prev_records: records, .. } = *link;
                        pieces.push(Piece::Missing { base, end, records, before: link.records_before });
                        (0..index).rev().find(|lower| self.base(*lower) < base && self.is_used(*lower))
                    }
                },
                // What its link said is lost: whatever lies next below was the predecessor.
                None => (0..=below.unwrap_or(0)).rev().find(|lower| *lower < index && self.is_used(*lower)),
            };
        }
        pieces.reverse();
        pieces
    }

    /// Up to where a piece of the log is as no crash leaves it, if it is: without a file or a header, or cut, but for one that
    /// was cut to its header, as a recovery does it. The log did not end before.
    pub(super) fn broken_to(&self, piece: &Piece) -> Option<u64> {
        let index = match *piece {
            Piece::Missing { end, .. } => return Some(end),
            Piece::Member(index) => index,
        };
        let (found, part) = (self.survey.segments.get(index)?, self.parts.get(index)?);
        let end = found.base.saturating_add(part.seal.map_or(u64::from(BLOCK), |seal| seal.end));
        let cut = self.is_cut(index) && found.length != u64::from(BLOCK);
        (found.header.is_err() || cut).then_some(end)
    }

    /// The bytes that a segment was made with: where its header is lost, as many as the next that is sound, for a life makes
    /// all alike, or else the one before.
    pub(super) fn capacity(&self, index: usize) -> Option<u64> {
        let (below, above) = self.survey.segments.split_at_checked(index)?;
        let sound = above.iter().chain(below.iter().rev()).find_map(|found| found.header.as_ref().ok());
        sound.map(|(header, _)| header.capacity)
    }

    /// Up to where the newest segment was durable, if it is shorter than it was made: no crash leaves that. It was trimmed
    /// when the log was closed, or cut, and what lies behind its last whole batch may be half a frame. One to which opening
    /// does not come goes with the torn tail below it, as long as nothing else is refused.
    pub(super) fn trimmed_to(&self, index: usize, walked: &Walked, durable: u64) -> Option<u64> {
        let found = self.survey.segments.get(index)?;
        let refused = self.tip == Some(index) || self.chain.broken.is_some() || found.base < durable;
        let short = refused && found.length < self.capacity(index)?;
        let end = walked.holes.last().filter(|hole| !hole.followed).map_or(walked.end, |hole| hole.batch);
        short.then(|| found.base.saturating_add(end))
    }

    /// Whether a segment does not reach up to where the next one's link says that it ended.
    pub(super) fn is_cut(&self, index: usize) -> bool {
        let (Some(found), Some(part)) = (self.survey.segments.get(index), self.parts.get(index)) else { return false };
        part.seal.is_some_and(|seal| found.cut_before(found.base.saturating_add(seal.end)).is_some())
    }

    /// A segment that lies between two places, of which nothing can be read, and why.
    pub(super) fn unread(&self, bases: std::ops::Range<u64>) -> Option<(&Found, String)> {
        let mut between = self.survey.segments.iter().enumerate().filter(|(_, found)| bases.contains(&found.base));
        let (_, found) = between.find(|(index, _)| !self.is_used(*index))?;
        Some((found, found.unreadable().unwrap_or_else(|| "no valid frame in it".to_owned())))
    }

    pub(super) fn is_used(&self, index: usize) -> bool {
        self.parts.get(index).is_some_and(|part| part.written || part.seal.is_some())
    }
}

/// The bases of segments in which nothing but the page of the header is another's, as a page that was written to the wrong
/// place leaves it: a link names what lies there, or what lies there goes on from a segment below, or from where one lay
/// that was cleaned. What the file held before it was used again goes on from elsewhere.
fn misplaced_headers(storage: &dyn Storage, survey: &Survey) -> Result<HashSet<u64>> {
    let mut here = HashSet::new();
    for found in survey.segments.iter().filter(|found| found.header.is_err()) {
        let head = read_head(&*found.file).map_err(|e| Error::io("read", storage.path().join(&found.name), e))?;
        let Some((seed, link)) = misplaced(&head, found.base) else { continue };
        let limit = found.length;
        let is_named = survey.link_to(&Place { base: found.base, seed, limit }).is_some();
        let below = survey.at(link.prev_base).and_then(|below| below.header.as_ref().ok());
        let goes_on = link.prev_base == NO_BASE || below.is_some_and(|(_, seed)| *seed == link.prev_seed);
        let is_next =
            found.other.is_some_and(|(other, _)| found.base.checked_sub(link.prev_base) == Some(other.capacity));
        let is_behind_cleaned = survey.is_marked() && link.prev_base < survey.front && is_next;
        if is_named || goes_on || is_behind_cleaned || survey.segments.len() == 1 {
            here.insert(found.base);
        }
    }
    Ok(here)
}

/// Whether frames hold in a file under one of the seeds.
fn holds_any(found: &Found, seeds: impl IntoIterator<Item = u32>) -> std::io::Result<bool> {
    for seed in seeds {
        if holds_frames(&*found.file, &Place { base: found.base, seed, limit: found.length })? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Survey {
    /// The files at these bases are read as what belongs there: they are no copies of what their headers say.
    fn forget_others(&mut self, bases: &HashSet<u64>) {
        for found in self.segments.iter_mut().filter(|found| bases.contains(&found.base)) {
            if found.other.take().is_some() {
                unnote(&mut self.notes, &found.name);
            }
        }
    }
}

/// The highest front that a link tells, be its own header lost. It leads to a segment whose header is sound then: behind a
/// lost one another log's link may lie.
fn front(survey: &Survey, parts: &[Part]) -> u64 {
    let places: HashSet<_> =
        survey.segments.iter().filter_map(|found| Some((found.base, found.header.as_ref().ok()?.1))).collect();
    let links = parts.iter().filter_map(|part| part.link.as_ref());
    let ours = links.filter(|link| places.contains(&(link.prev_base, link.prev_seed)));
    ours.map(|link| link.front).max().unwrap_or(0)
}

/// How to read a segment without a sound header: by the seed that its successor's link says, or that the rest of the
/// header gives, or under which its first frame holds, if that is a link, or that is `told`. A header under another's name
/// is not mended, sound or damaged: the frames hold wherever the file is, but their LSNs are those of its own name. `own`:
/// whether no link, name or sound header says that the segment of this seed, or of this base, lies elsewhere.
fn mend(
    found: &Found,
    head: &[u8],
    seal: Option<Seal>,
    told: Option<u32>,
    own: impl Fn(&u32) -> bool,
) -> std::io::Result<(Option<Place>, Option<Link>)> {
    let (base, limit) = (found.base, found.length.min(u64::from(u32::MAX)));
    // A name that no segment was given: its LSNs would go beyond the last.
    let beyond = base.checked_add(limit.max(HEAD as u64)).is_none();
    if beyond {
        return Ok((None, None));
    }
    let at = |seed| Place { base, seed, limit };
    let linked = |seed| match read_link(head, at(seed), Bugs::default())? {
        // When it was framed, nothing above what it seals was durable, unless a repair says so: it lies elsewhere.
        (link, claim) if claim > link.prev_end && claim != base + u64::from(BLOCK) => None,
        (link, _) => Some((Some(at(seed)), Some(link))),
    };
    let sealed = seal.map(|seal| seal.seed);
    // What a sound header says is another's.
    let is_others = Header::decode(head).is_ok();
    let stored: Vec<u32> = seeds(head, base).filter(|seed| !is_others && own(seed)).collect();
    if let Some(mended) = sealed.into_iter().chain(told).chain(stored.iter().copied()).find_map(linked) {
        return Ok(mended);
    }
    // Its link is damaged too, and any seed can be read out of a damaged frame: those of the header go before.
    for seed in stored.into_iter().filter(|_| sealed.is_none()) {
        if holds_frames(&*found.file, &at(seed))? {
            return Ok((Some(at(seed)), None));
        }
    }
    let first = head.get(BLOCK as usize..).and_then(|frame| frame.first_chunk());
    let first = first.map(|frame| FrameHeader::seed_xor_offset(frame) ^ BLOCK).filter(&own);
    let linked = first.and_then(|seed| linked(seed).filter(|_| !is_elsewhere(head, seed, base)));
    Ok(linked.unwrap_or_else(|| (sealed.or(told).map(at), None)))
}
