//! The segments that a damaged log was made of, each with what its successor says of it and where its bytes are.

use std::cell::OnceCell;
use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, CAPACITY, Header, Link, NO_BASE, segment_name};
use crate::scan::Place;
use crate::storage::{File, Storage};

use super::super::examine::Examined;
use super::super::plan::Plan;
use super::super::sift::{Bounds, Sifted, sift};
use super::Case;
use super::layout::room_for_filler;
use super::stand::{NewLink, Stand};

/// A segment of the log as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) base: u64,
    pub(super) seed: u32,
    /// `None` if it is lost.
    header: Option<Header>,
    /// The file with its bytes; `None` if they are lost.
    source: Option<Source>,
    pub(super) link: Option<Link>,
    /// The offset where it ended and how many records it held, if its successor says so.
    pub(super) seal: Option<(u64, u64)>,
    /// How many records lie before it, if its successor says so.
    pub(super) before: Option<u64>,
    /// How many records an earlier repair says that it left in it.
    left: Option<u64>,
    left_damaged: bool,
    /// What is kept of it where nothing is cut, once it was read for that.
    uncut: OnceCell<Sifted>,
}

#[derive(Debug)]
struct Source {
    name: String,
    file: Box<dyn File>,
    length: u64,
    /// Whether it holds a link or any other frame.
    used: bool,
}

/// Finds all that the log was made of, from its front on: down from its newest segment, each of which says what lies
/// before it. Where one does not, the next used one below is taken.
pub(super) fn know(storage: &dyn Storage, examined: &Examined) -> Result<Vec<Known>> {
    let plan = &examined.plan;
    let mut files = Vec::new();
    for index in 0..plan.parts.len() {
        files.extend(Known::member(storage, plan, index)?);
    }
    let top = examined.newest().map(|index| plan.base(index));
    let mut next = files.iter().position(|known| Some(known.base) == top);
    let mut known: Vec<Known> = Vec::new();
    while let Some(mut segment) = next.map(|index| files.swap_remove(index)) {
        if let Some(link) = known.last().and_then(|above| above.link.as_ref()) {
            segment.seal = Some((link.prev_end.saturating_sub(link.prev_base), link.prev_records));
            segment.before = Some(link.records_before.saturating_sub(link.prev_records));
        }
        next = match &segment.link {
            Some(link) if link.prev_base == NO_BASE || link.prev_base < plan.survey.front => None,
            Some(link) => {
                let meant = |known: &Known| (known.base, known.seed) == (link.prev_base, link.prev_seed);
                Some(files.iter().position(meant).unwrap_or_else(|| {
                    files.push(Known::lost(link.prev_base, link.prev_seed));
                    files.len() - 1
                }))
            }
            None => {
                let below = files.iter().enumerate().filter(|(_, known)| known.base < segment.base && known.is_used());
                below.max_by_key(|(_, known)| known.base).map(|(index, _)| index)
            }
        };
        known.push(segment);
    }
    known.reverse();
    Ok(known)
}

fn open(storage: &dyn Storage, name: &str, used: bool) -> Result<Source> {
    let io = |e| Error::io("open", storage.path().join(name), e);
    let file = storage.open(name, false).map_err(io)?;
    let length = file.len().map_err(io)?;
    Ok(Source { name: name.to_owned(), file, length, used })
}

impl Known {
    /// One of which only its place is known.
    fn lost(base: u64, seed: u32) -> Known {
        Known { base, seed, ..Known::default() }
    }

    /// One that checking goes by; `None` if nothing tells how to read it.
    fn member(storage: &dyn Storage, plan: &Plan, index: usize) -> Result<Option<Known>> {
        let (Some(found), Some(part)) = (plan.survey.segments.get(index), plan.parts.get(index)) else {
            return Ok(None);
        };
        let Some(place) = part.place else { return Ok(None) };
        let source = open(storage, &found.name, plan.is_used(index))?;
        let header = found.header.as_ref().ok().map(|(header, _)| *header);
        let lost = Known::lost(found.base, place.seed);
        let (left, left_damaged) = (part.left.map(|left| left.records), found.left_damaged);
        Ok(Some(Known { header, source: Some(source), link: part.link.clone(), left, left_damaged, ..lost }))
    }

    fn is_used(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.used)
    }

    fn length(&self) -> u64 {
        self.source.as_ref().map_or(0, |source| source.length)
    }

    /// What is kept of it below the LSN `cut`, with room for a link; of a quarantined one nothing.
    pub(super) fn sift(&self, case: &Case<'_>, cut: u64, quarantined: bool) -> Result<Sifted> {
        let end = self.seal.map(|(end, _)| end);
        let (Some(source), false) = (&self.source, quarantined) else {
            return Ok(Sifted::nothing(end.unwrap_or(u64::from(BLOCK))));
        };
        let capacity = self.header.map_or(source.length, |header| header.capacity);
        let place = Place { base: self.base, seed: self.seed, limit: capacity.min(source.length) };
        if self.base.saturating_add(end.unwrap_or(place.limit)) > cut {
            return self.read(case, source, &place, cut);
        }
        if let Some(sifted) = self.uncut.get().cloned().or_else(|| self.whole(&case.examined)) {
            return Ok(sifted);
        }
        let sifted = self.read(case, source, &place, cut)?;
        Ok(self.uncut.get_or_init(|| sifted).clone())
    }

    /// What is kept of it where nothing is cut, if examining found nothing in it but its link and whole batches.
    fn whole(&self, examined: &Examined) -> Option<Sifted> {
        let plan = &examined.plan;
        let index = plan.survey.index(self.base)?;
        let (part, walked) = (plan.parts.get(index)?, examined.walks.get(index)?.as_ref()?);
        let (sealed, end) = (self.seal.map(|(end, _)| end), walked.end);
        let same = part.place?.seed == self.seed && part.seal.map(|seal| seal.end) == sealed;
        if !same || !walked.is_whole(sealed) {
            return None;
        }
        // What lies behind it is a torn tail.
        let last = !walked.holes.is_empty() && self.base + end >= examined.certain;
        let (link, whole) = (Some(self.link.clone()?), walked.found.clone());
        let kept = std::iter::once(u64::from(BLOCK)..end).collect();
        let blank = walked.gaps.iter().map(|(_, size)| size).sum();
        Some(Sifted { kept, blank, end, last, cut: false, link, whole, batch_time: walked.batch_time })
    }

    fn read(&self, case: &Case<'_>, source: &Source, place: &Place, cut: u64) -> Result<Sifted> {
        let (tally, path) = (case.tally, || case.storage.path().join(&source.name));
        let end = self.seal.map(|(end, _)| end);
        let sift = |from| {
            let bytes = end.unwrap_or(place.limit).min(place.limit).min(cut.saturating_sub(self.base));
            tally.expect(bytes);
            let part = tally.part(bytes);
            let bounds = Bounds { from, cut, certain: case.examined.certain };
            let sifted = sift(&*source.file, place, end, bounds, |bytes| part.add(bytes));
            let sifted = sifted.map_err(|e| Error::io("read", path(), e))?;
            part.end(0);
            tally.check()?;
            sifted.ok_or_else(|| {
                let message = "a frame of a newer version; repair the log with that, nothing was changed";
                Error::new(ErrorKind::TooNew, "repair", message).at(path(), 0)
            })
        };
        let (sifted, least) = (sift(0)?, NewLink::least());
        if sifted.link.is_none() && sifted.kept.first().is_some_and(|kept| kept.start < least) {
            // No log has anything there but its link.
            return sift(least);
        }
        Ok(sifted)
    }

    /// The offset where a link in the place of the lost one must end, or before: where the first that is kept begins, or
    /// where the next segment says that this one ended. `None`: wherever it ends.
    pub(super) fn free(&self, sifted: &Sifted) -> Option<u64> {
        let sealed = self.seal.filter(|_| !sifted.last).map(|_| sifted.end);
        sifted.kept.first().map(|kept| kept.start).or(sealed)
    }

    /// How many of its records are lost, where that only shows by how many lie before the one above, whose link is lost,
    /// and no other segment can have held them.
    pub(super) fn missing(&self, above: &Known, link: &Link, sifted: &Sifted) -> u64 {
        let untold = self.seal.is_none() && !sifted.last && above.link.is_none();
        let filled = room_for_filler(self.limit(sifted.end), above.base).is_some();
        let before = above.before.filter(|_| untold && !filled).unwrap_or(0);
        before.saturating_sub(link.records_before.saturating_add(sifted.whole.records))
    }

    /// The least base of the segment after it, where it ends at the offset `end`. A crash may leave it as it was: what is made
    /// above lies beyond that too.
    pub(super) fn limit(&self, end: u64) -> u64 {
        let capacity = self.header.map_or(self.length(), |header| header.capacity);
        self.base.saturating_add(capacity.max(end))
    }

    /// The offset that no frame of it reaches beyond. A stand-in of an earlier repair was made with less than there is room
    /// for up to the next one.
    pub(super) fn full(&self, room: Option<u64>) -> u64 {
        let capacity = self.header.map_or(*CAPACITY.end(), |header| header.capacity);
        capacity.min(room.unwrap_or(capacity))
    }

    /// How it is written anew, if it has to be. `room`: bytes to the base of the next, if there is one. `link`: where its
    /// own is lost.
    pub(super) fn stand(
        &self,
        log_id: [u8; 16],
        room: Option<u64>,
        durable: u64,
        sifted: &Sifted,
        link: Option<&NewLink>,
    ) -> Result<Option<Stand>> {
        let name = segment_name(self.base);
        let source = self.source.as_ref().map(|source| source.name.clone());
        let in_place = self.header.is_some() && source.as_ref() == Some(&name);
        // What lies beyond its end is trimmed once the log goes on: a copy is left of what was durable, or is cut.
        let ended = match (self.seal, room) {
            (Some((end, _)), _) => end,
            (None, None) => self.length().min(durable.saturating_sub(self.base)),
            (None, Some(_)) => 0,
        };
        let whole = !sifted.cut && sifted.end >= ended && sifted.gaps().next().is_none() && self.length() >= sifted.end;
        let sealed = self.seal.filter(|_| !sifted.last).map(|(_, records)| records);
        let told = [self.left, sealed].into_iter().flatten().min();
        let counted = !self.left_damaged && told.is_none_or(|told| told == sifted.whole.records);
        if in_place && whole && counted && link.is_none() {
            return Ok(None);
        }
        let least = *CAPACITY.start();
        // No longer than it is: MARK may say that a newest segment was closed there.
        let length = self.length().max(sifted.end);
        let header = self.header.unwrap_or_else(|| {
            let capacity =
                length.next_multiple_of(u64::from(BLOCK)).clamp(least, room.unwrap_or(*CAPACITY.end()).max(least));
            Header { compatible: 0, log_id, base: self.base, capacity, salt: 0 }
        });
        // Frames and links go by the seed, whatever a header holds that is not known here.
        let header = if header.encode().1 == self.seed { header } else { header.with_seed(self.seed) };
        let mut stand = Stand::new(header, source, length.min(header.capacity).max(sifted.end));
        stand.left = Some(sifted.whole.left());
        let mut at = u64::from(BLOCK);
        if let Some(link) = link {
            at = stand.add_link(link)?;
        }
        stand.kept.clone_from(&sifted.kept);
        for Range { start, end } in sifted.gaps().filter(|gap| gap.end > at) {
            stand.pass_over(start.max(at)..end)?;
        }
        Ok(Some(stand))
    }
}
