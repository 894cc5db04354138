//! The segments that headers and links tell of: the seed of each, where in which log it lies, and how it ended.
//!
//! A file lives several times: each header that is written into it begins a life under a seed of its own.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::format::{BLOCK, CAPACITY, FRAME, Link, Mark, NO_BASE};

use super::hunt::Frame;
use super::image::Image;
use super::past::Past;
use super::survey::{SECTOR, Seen, SeenHeader, SeenLink, by_name};

/// Which log a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    Id([u8; 16]),
    /// No header is left to tell its id. The seed of its first segment stands for it.
    Nameless(u32),
}

/// One life of a segment.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) seed: u32,
    /// `None`: nothing tells where in its log it lies.
    pub(super) base: Option<u64>,
    family: Option<Family>,
    /// The offset of what follows its link, if that is known, or of the link.
    pub(super) begin: u32,
    /// The offset that no frame reaches beyond.
    pub(super) limit: u64,
    /// The offset where it ended, if a successor says so.
    pub(super) end: Option<u64>,
    /// How many records it held, if a successor says so.
    pub(super) records: Option<u64>,
    /// Where the one before it lies, and how many records lie before it, if its link says so.
    pub(super) before: Option<(u64, u64)>,
    /// A header tells of it.
    is_headed: bool,
    /// Another life has the same seed: a frame is its only where its header is.
    is_twin: bool,
    /// Its file is another segment's by now: all of it was cleaned.
    pub(super) is_former: bool,
    /// The highest claim in its frames.
    pub(super) claim: u64,
}

impl Life {
    pub(super) fn family(&self) -> Family {
        self.family.unwrap_or(Family::Nameless(self.seed))
    }

    /// Whether nothing tells its log.
    fn is_nameless(&self) -> bool {
        !matches!(self.family, Some(Family::Id(_)))
    }

    /// What it can hold.
    pub(super) fn size(&self) -> u64 {
        if self.is_headed { self.limit } else { self.end.unwrap_or(0) }
    }

    pub(super) fn lsn(&self, offset: u32) -> u64 {
        self.base.unwrap_or(0).saturating_add(u64::from(offset))
    }
}

/// All lives, and a table of their seeds.
#[derive(Debug, Default)]
pub(super) struct Lives {
    pub(super) all: Vec<Life>,
    pub(super) pasts: BTreeMap<Family, Past>,
    by_seed: HashMap<u32, Vec<usize>>,
    /// Where the header or the link of a life says that it begins.
    homes: HashSet<(u16, u64, u32)>,
    /// The most that a segment is known to hold.
    pub(super) longest: u64,
    /// Where in a block all that are in an image begin.
    aligned: HashMap<u16, HashSet<u64>>,
    /// Files whose names say that they were never done.
    unmade: HashSet<u16>,
    /// Files that are used again: all else that lies in them is what they held before.
    begun: HashSet<u16>,
    /// Files of the directories whose logs a writer goes on with, and those of them that it has written to meanwhile.
    pub(super) moving: HashSet<u16>,
    pub(super) written: HashSet<u16>,
    /// For each key the seeds that have it.
    table: Vec<Vec<(u32, u32)>>,
    /// No offset has a bit from here on.
    bits: u32,
}

impl Lives {
    pub(super) fn new(seen: &Seen, images: &[Image]) -> Lives {
        let mut lives = Lives::default();
        for found in &seen.headers {
            let index = lives.headed(found);
            lives.add_home(found.image, found.at, index);
        }
        for Link { prev_base, prev_seed, .. } in seen.links.iter().map(|seen| &seen.link) {
            let known = lives.by_seed.get(prev_seed).into_iter().flatten().filter_map(|index| lives.all.get(*index));
            // A link is no better than a header.
            if *prev_base != NO_BASE && known.into_iter().all(|life| !life.is_headed && life.base != Some(*prev_base)) {
                lives.push(*prev_seed, Some(*prev_base));
            }
        }
        // A file that is named as a segment is as long as one, unless it was trimmed.
        let lengths = images.iter().filter(|image| image.base.is_some()).map(|image| image.length);
        let sizes = seen.headers.iter().map(|found| found.header.capacity).chain(lengths).collect();
        lives.longest = HashSet::iter(&sizes).max().copied().unwrap_or(0);
        for link in &seen.links {
            if !lives.by_seed.contains_key(&link.seed) {
                let base = images.get(usize::from(link.image)).and_then(|image| by_name(image, link, &sizes));
                lives.push(link.seed, base);
            }
        }
        for link in &seen.links {
            if let (Some(index), Some(at)) = (lives.owner(link), link.at.checked_sub(u64::from(BLOCK))) {
                lives.add_home(link.image, at, index);
            }
        }
        let unmade = images.iter().zip(0..).filter(|(image, _)| image.was_unfinished());
        lives.unmade = unmade.map(|(_, index)| index).collect();
        lives.adopt(seen, images);
        lives.relate(seen);
        lives.begun = lives.begun(seen);
        lives.tell_former(seen);
        for twins in lives.by_seed.values().filter(|twins| twins.len() > 1) {
            for index in twins {
                if let Some(life) = lives.all.get_mut(*index) {
                    life.is_twin = true;
                }
            }
        }
        lives.tabulate();
        lives
    }

    /// Gives a segment without a header the log of the `MARK` beside it, if its name and its link say that it lies where that
    /// begins, and no header there is another log's.
    fn adopt(&mut self, seen: &Seen, images: &[Image]) {
        let directory = |image: u16| images.get(usize::from(image)).and_then(|image| image.path.parent());
        let headed: HashSet<_> = seen.headers.iter().map(|found| (found.image, found.at)).collect();
        for link in seen.links.iter().filter(|link| link.at == u64::from(BLOCK) && !headed.contains(&(link.image, 0))) {
            let name = images.get(usize::from(link.image)).and_then(|image| image.base);
            let is_here = |image: u16| directory(image) == directory(link.image);
            let fits = |mark: &Mark| mark.front > 0 && Some(mark.front) == name && link.link.front <= mark.front;
            let mut beside = seen.marks.iter().filter(|(file, _)| file.is_some_and(is_here));
            let Some((_, Mark { log_id, .. })) = beside.find(|(_, mark)| fits(mark)) else { continue };
            if seen.headers.iter().any(|found| is_here(found.image) && found.header.log_id != *log_id) {
                continue;
            }
            if let Some(life) = self.owner(link).and_then(|own| self.all.get_mut(own)).filter(|life| life.base == name)
            {
                life.family = life.family.or(Some(Family::Id(*log_id)));
            }
        }
    }

    /// Files that are what their headers tell of, for they begin with the link of that; or, by what `MARK` says, of no use
    /// yet, where the segment is known in which that ends: else only the page of the header may be another file's.
    fn begun(&self, seen: &Seen) -> HashSet<u16> {
        let linked = seen.links.iter().filter(|link| link.at == u64::from(BLOCK));
        let linked: HashSet<_> = linked.map(|link| (link.image, link.seed)).collect();
        let is_begun = |found: &&SeenHeader| {
            let family = Family::Id(found.header.log_id);
            let durable = self.pasts.get(&family).filter(|past| past.is_marked).map_or(0, |past| past.durable);
            let is_free = || (1..=found.header.base).contains(&durable) && self.ends_in_known(family, durable);
            found.at == 0 && (linked.contains(&(found.image, found.seed)) || is_free())
        };
        seen.headers.iter().filter(is_begun).map(|found| found.image).collect()
    }

    fn ends_in_known(&self, family: Family, durable: u64) -> bool {
        let holds = |life: &Life, base: u64| base < durable && durable <= base.saturating_add(life.size());
        self.all.iter().any(|life| life.family() == family && life.base.is_some_and(|base| holds(life, base)))
    }

    /// Tells of which segments the file is another's by now: those of no log that is known, behind another's header, and
    /// those that they link to, for cleaning begins below.
    fn tell_former(&mut self, seen: &Seen) {
        let files: HashSet<_> = seen.headers.iter().filter(|found| found.at == 0).map(|found| found.image).collect();
        for link in seen.links.iter().filter(|link| link.at == u64::from(BLOCK) && files.contains(&link.image)) {
            let mut is_former = false;
            for index in self.by_seed.get(&link.seed).into_iter().flatten() {
                if let Some(life) = self.all.get_mut(*index) {
                    life.is_former |= life.is_nameless();
                    is_former |= life.is_former;
                }
            }
            for index in self.by_seed.get(&link.link.prev_seed).into_iter().flatten().filter(|_| is_former) {
                if let Some(life) = self.all.get_mut(*index) {
                    life.is_former |= life.is_nameless() && life.base == Some(link.link.prev_base);
                }
            }
        }
    }

    /// The life that a header tells of.
    fn headed(&mut self, found: &SeenHeader) -> usize {
        let (base, family) = (Some(found.header.base), Some(Family::Id(found.header.log_id)));
        let same = |index: &usize| self.all.get(*index).is_some_and(|life| life.base == base && life.family == family);
        if let Some(known) = self.by_seed.get(&found.seed).and_then(|indices| indices.iter().copied().find(same)) {
            return known;
        }
        let index = self.push(found.seed, base);
        if let Some(life) = self.all.get_mut(index) {
            (life.family, life.limit, life.is_headed) = (family, found.header.capacity, true);
        }
        index
    }

    fn push(&mut self, seed: u32, base: Option<u64>) -> usize {
        let limit = *CAPACITY.end();
        let (family, end, records, before, claim, begin) = (None, None, None, None, 0, BLOCK);
        let (is_headed, is_twin, is_former) = (false, false, false);
        let life =
            Life { seed, base, family, begin, limit, end, records, before, is_headed, is_twin, is_former, claim };
        self.all.push(life);
        self.by_seed.entry(seed).or_default().push(self.all.len() - 1);
        self.all.len() - 1
    }

    /// Adds lives of which nothing is known but the seed, and that their file is the source, unless the seed is known.
    pub(super) fn add(&mut self, mut seeds: Vec<u32>, image: u16) -> bool {
        seeds.retain(|seed| !self.by_seed.contains_key(seed));
        for seed in &seeds {
            let index = self.push(*seed, None);
            self.add_home(image, 0, index);
        }
        if !seeds.is_empty() {
            self.tabulate();
        }
        !seeds.is_empty()
    }

    fn add_home(&mut self, image: u16, at: u64, index: usize) {
        self.homes.insert((image, at, number(index)));
        self.aligned.entry(image).or_default().insert(at % u64::from(BLOCK));
    }

    fn is_home(&self, image: u16, at: u64, life: u32) -> bool {
        self.homes.contains(&(image, at, life))
    }

    /// The life whose file is the whole source, if there is one: rather one that a header tells of, for what is left of a
    /// former one may lie as if it were.
    pub(super) fn fills(&self, image: u16) -> Option<u32> {
        let whole = self.homes.iter().filter(|(other, at, _)| (*other, *at) == (image, 0)).map(|(.., life)| *life);
        whole.min_by_key(|life| (!self.is_headed(*life), *life))
    }

    /// Whether a header tells of a life.
    fn is_headed(&self, life: u32) -> bool {
        self.all.get(life as usize).is_some_and(|life| life.is_headed)
    }

    /// Whether a header tells that a file is this life's, and the name of the file does not tell against it: it may be
    /// another's only where what the header tells of was cleaned, for then its file is used again.
    pub(super) fn is_sure(&self, image: &Image, life: u32) -> bool {
        let life = self.all.get(life as usize).filter(|life| life.is_headed);
        life.is_some_and(|life| {
            let front = self.pasts.get(&life.family()).map_or(0, |past| past.front);
            image.base.is_none() || image.base == life.base || life.base.is_some_and(|base| base < front)
        })
    }

    /// Whether a frame lies where it must if the file is in one piece, from where its header or its link says that it
    /// begins, or from the beginning of the source. All others could be another segment's, whose seed is not known: the
    /// check tells seed XOR offset, and not the two.
    pub(super) fn is_anchored(&self, frame: &Frame) -> bool {
        let begin = frame.at.checked_sub(u64::from(frame.offset));
        begin.is_some_and(|at| at == 0 || self.is_home(frame.image, at, frame.life))
    }

    /// Which life a link is the first frame of.
    fn owner(&self, link: &SeenLink) -> Option<usize> {
        let indices = self.by_seed.get(&link.seed)?;
        let home = |index: &&usize| {
            link.at.checked_sub(u64::from(BLOCK)).is_some_and(|at| self.is_home(link.image, at, number(**index)))
        };
        if let [index] = indices[..] { Some(index) } else { indices.iter().find(home).copied() }
    }

    /// Finds out of the links which segments are of one log, how each ended, and what all of a log knows.
    fn relate(&mut self, seen: &Seen) {
        let mut edges = Vec::new();
        for link in &seen.links {
            let Some(own) = self.owner(link) else { continue };
            let parent = (link.link.prev_base != NO_BASE).then(|| self.parent(own, link)).flatten();
            edges.push((link, own, parent));
        }
        // Upward, so that what holds of one segment is known of all above it; of several that link to the same
        // segment the highest is the log's.
        edges.sort_by_key(|(_, own, _)| self.all.get(*own).and_then(|life| life.base));
        // One whose place is unknown stays apart: its LSNs are its own.
        let has_place = |own: &usize| self.all.get(*own).is_some_and(|life| life.base.is_some());
        let placed = edges.iter().filter(|(_, own, _)| has_place(own));
        let pairs: Vec<_> = placed.filter_map(|(_, own, parent)| Some((*own, (*parent)?))).collect();
        for (own, parent) in pairs.iter().rev() {
            self.inherit(*own, *parent);
        }
        for (own, parent) in &pairs {
            self.inherit(*parent, *own);
        }
        for (own, parent) in pairs {
            let name = self.all.get(parent).map(Life::family);
            if let Some(life) = self.all.get_mut(parent) {
                life.family = name;
            }
            self.inherit(parent, own);
        }
        let mut gaps: HashMap<usize, (u64, u64, u64)> = HashMap::new();
        edges.retain(|(seen, ..)| !self.unmade.contains(&seen.image));
        for (seen, own, parent) in edges {
            let Some((family, base)) = self.all.get(own).map(|life| (life.family(), life.base)) else { continue };
            // Of one whose place is unknown the log is the one that it links to.
            let above = parent.and_then(|parent| self.all.get(parent)).map(Life::family);
            for family in [base.map(|_| family), above].into_iter().flatten() {
                let past = self.pasts.entry(family).or_default();
                past.front = past.front.max(seen.link.front);
            }
            if let Some(life) = self.all.get_mut(own) {
                life.before = Some((seen.link.prev_base, seen.link.records_before));
                life.begin = BLOCK + FRAME + seen.frame.length.next_multiple_of(4);
            }
            if let Some(parent) = parent {
                let end = seen.link.prev_end;
                gaps.insert(parent, (end, base.unwrap_or(end), seen.link.prev_records));
            }
        }
        for (parent, (end, next, records)) in gaps {
            let Some(life) = self.all.get_mut(parent) else { continue };
            life.records = Some(records);
            life.end = life.base.and_then(|base| end.checked_sub(base));
            let past = self.pasts.entry(life.family()).or_default();
            past.cuts.extend((end < next).then_some((end, next)));
            past.spans.extend(life.base.map(|base| (base, next)));
        }
        self.pasts.values_mut().for_each(Past::join_cuts);
        for (image, mark) in &seen.marks {
            let past = self.pasts.entry(Family::Id(mark.log_id)).or_default();
            past.front = past.front.max(mark.front);
            past.durable = past.durable.max(mark.synced);
            past.shown = past.shown.max(mark.shown);
            past.slots |= 1 << (mark.sequence & 1);
            past.is_marked = past.slots == 0b11;
            past.mark = past.mark.or(*image);
        }
    }

    /// The predecessor that a link names, of the same log if there are several.
    fn parent(&self, own: usize, link: &SeenLink) -> Option<usize> {
        let family = self.all.get(own)?.family;
        let indices = self.by_seed.get(&link.link.prev_seed)?;
        let fits = |index: &&usize| {
            let Some(life) = self.all.get(**index) else { return false };
            let related = family.is_none() || life.family.is_none() || life.family == family;
            life.base == Some(link.link.prev_base) && related
        };
        indices.iter().find(fits).copied()
    }

    /// Gives the log of one life to another that has none.
    fn inherit(&mut self, from: usize, to: usize) {
        let family = self.all.get(from).and_then(|life| life.family);
        if let Some(life) = self.all.get_mut(to).filter(|life| life.family.is_none()) {
            life.family = family;
        }
    }

    /// Whether a writer took a segment away meanwhile: it begins another in its file, or is about to, and what is left of
    /// that tells nothing.
    pub(super) fn is_taken(&self, index: u32, life: &Life) -> bool {
        let is_below = |past: &Past| past.settled.is_some() && life.base.is_some_and(|base| base < past.front);
        let is_old = life.is_former || life.is_nameless() && self.pasts.values().any(is_below);
        let homes = || self.homes.iter().filter(|(.., life)| *life == index).map(|(image, ..)| image);
        let is_moving = || homes().all(|image| self.moving.contains(image));
        let is_left = life.is_nameless() && life.base.is_none();
        let is_written = || homes().next().is_some() && homes().all(|image| self.written.contains(image));
        !self.moving.is_empty() && (is_old && is_moving() || is_left && is_written())
    }

    /// Whether all that is found of a life is what files held before they were used again: that is no log.
    pub(super) fn is_left_over(&self, life: &Life, frames: &[Frame]) -> bool {
        let is_behind = |frame: &Frame| frame.at == u64::from(frame.offset) && self.begun.contains(&frame.image);
        life.is_former && life.is_nameless() && frames.iter().all(is_behind)
    }

    /// Whether a segment without a record was only begun: what was to be in it is not the log's.
    pub(super) fn is_unmade(&self, index: u32, life: &Life) -> bool {
        let mut homes = self.homes.iter().filter(|(.., life)| *life == index).peekable();
        life.end.is_none() && homes.peek().is_some() && homes.all(|(image, ..)| self.unmade.contains(image))
    }

    /// Whether a frame lies before the end of its segment, where that is known.
    pub(super) fn is_below_end(&self, frame: &Frame) -> bool {
        let end = self.all.get(frame.life as usize).and_then(|life| life.end);
        end.is_none_or(|end| u64::from(frame.end()) <= end)
    }

    /// Whether what the log of a file's directory is known to have held where its name says that it lies, is counted
    /// without it.
    pub(super) fn tells_of(&self, image: &Image, images: &[Image]) -> bool {
        let families = self.families_beside(image, images);
        let tells = |family: &Family| image.base.is_some_and(|base| self.tells_at(*family, base));
        !families.is_empty() && families.iter().all(tells)
    }

    /// The logs whose segments lie in a file's directory, as far as they are known.
    pub(super) fn families_beside(&self, image: &Image, images: &[Image]) -> HashSet<Family> {
        let is_beside =
            |index: u16| images.get(usize::from(index)).is_some_and(|other| other.path.parent() == image.path.parent());
        let beside = self.homes.iter().filter(|(index, ..)| is_beside(*index));
        beside.filter_map(|(.., life)| self.all.get(*life as usize)?.family).collect()
    }

    fn tells_at(&self, family: Family, base: u64) -> bool {
        let Some(past) = self.pasts.get(&family) else { return false };
        let is_within = past.spans.iter().any(|(from, to)| (*from..*to).contains(&base));
        // Of the newest, and of what lies above, MARK tells that anything was durable.
        let bases = self.all.iter().filter(|life| life.family == Some(family)).filter_map(|life| life.base);
        let newest = bases.filter(|base| *base < past.durable).max();
        let is_told = newest.is_some_and(|newest| (newest..past.durable).contains(&base));
        base < past.front || past.is_cut_off(base) || is_within || is_told
    }

    fn tabulate(&mut self) {
        let limit = self.all.iter().map(|life| life.limit).max().unwrap_or(0);
        // Few bits make a large table.
        self.bits = limit.saturating_sub(1).checked_ilog2().map_or(0, |bit| bit + 1).max(26);
        self.table = vec![Vec::new(); (SECTOR as usize) << (32 - self.bits)];
        for (index, life) in self.all.iter().enumerate() {
            let key = key(life.seed, self.bits);
            if let Some(seeds) = self.table.get_mut(key) {
                seeds.push((life.seed, number(index)));
            }
        }
    }

    /// The lives in which a frame with this `seed_xor_offset` may lie at `at` of an image, and at which offsets. They
    /// have the place in the sector in common, and no offset is beyond a segment.
    #[inline]
    pub(super) fn candidates(&self, word: u32, image: u16, at: u64) -> impl Iterator<Item = (u32, &Life, u32)> {
        let in_sector = u32::try_from(at % u64::from(SECTOR)).unwrap_or_default();
        let seeds = self.table.get(key(word ^ in_sector, self.bits)).map_or(&[][..], Vec::as_slice);
        seeds.iter().filter_map(move |(seed, index)| {
            let offset = seed ^ word;
            let life = self.all.get(*index as usize)?;
            let fits = offset >= BLOCK && u64::from(offset) < life.limit;
            // Where the file begins, or would if the bytes before were there too.
            let begin = at.wrapping_sub(u64::from(offset));
            let in_block = begin % u64::from(BLOCK);
            let is_aligned = || begin == 0 || self.aligned.get(&image).is_none_or(|known| known.contains(&in_block));
            let is_own = fits && is_aligned() && (!life.is_twin || self.is_home(image, begin, *index));
            is_own.then_some((*index, life, offset))
        })
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// What seed and word have in common: the high bits, which no offset has, and the low ones, which the place tells.
#[inline]
fn key(seed: u32, bits: u32) -> usize {
    (seed.checked_shr(bits).unwrap_or(0) * SECTOR + seed % SECTOR) as usize
}
