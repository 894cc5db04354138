//! One file of the disk: what reads show, what the platter holds, and what is on its way between the two.

use std::collections::BTreeMap;
use std::mem;

use super::chance::Chance;
use super::content::{Content, Sector, cut_sector, index, pieces, whole_sectors};

/// Unsynced versions remembered of one sector, and unsynced lengths of one file. Beyond, a random one that
/// is not the newest is forgotten: a file that is written for ever and never synced stays bounded.
const REMEMBERED: usize = 32;

/// A sector as it was after some write.
#[derive(Clone, Debug)]
struct Version {
    /// The time of the last change of length before the write.
    after: u64,
    sector: Sector,
}

/// A length on its way to the platter. Such changes reach it in order, whatever becomes of the bytes.
#[derive(Clone, Debug)]
struct Length {
    time: u64,
    len: u64,
}

/// What of a file was chosen to reach the platter.
pub(super) trait Pick {
    /// How many of the pending lengths `lens`, from the oldest on.
    fn lengths(&mut self, lens: &[u64]) -> usize;
    /// Which of the `versions` of sector `number`, 0 being the oldest; none keeps what the platter holds.
    fn version(&mut self, number: usize, versions: usize) -> Option<usize>;
}

/// Everything, as by a sync.
struct Newest;

impl Pick for Newest {
    fn lengths(&mut self, lens: &[u64]) -> usize {
        lens.len()
    }

    fn version(&mut self, _number: usize, versions: usize) -> Option<usize> {
        versions.checked_sub(1)
    }
}

impl Pick for Chance {
    fn lengths(&mut self, lens: &[u64]) -> usize {
        self.below(lens.len() + 1)
    }

    fn version(&mut self, _number: usize, versions: usize) -> Option<usize> {
        self.below(versions + 1).checked_sub(1)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    cache: Content,
    platter: Content,
    lengths: Vec<Length>,
    dirty: BTreeMap<usize, Vec<Version>>,
    /// Counts changes of length.
    time: u64,
    /// A sync failed since the last crash: sectors that are not dirty may differ from the platter's.
    stale: bool,
    /// Bytes for which blocks are taken, from the start.
    taken: u64,
}

impl Inode {
    /// A file whose bytes are on the platter.
    pub(super) fn durable(bytes: &[u8]) -> Inode {
        let content = Content::new(bytes);
        let taken = whole_sectors(content.len());
        Inode { platter: content.clone(), cache: content, taken, ..Inode::default() }
    }

    pub(super) fn cache(&self) -> &Content {
        &self.cache
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.lengths.is_empty() || !self.dirty.is_empty()
    }

    /// How many choices [`Inode::crash`] makes between keeping and losing: one for each pending length
    /// and each version.
    pub(super) fn dirty_units(&self) -> usize {
        self.lengths.len() + self.dirty.values().map(Vec::len).sum::<usize>()
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, chance: &mut Chance) {
        let start = index(offset);
        let end = offset + bytes.len() as u64;
        for (number, of_sector, of_bytes) in pieces(start..start + bytes.len()) {
            let sector = self.cache.write_piece(number, of_sector, bytes.get(of_bytes).unwrap_or_default());
            let versions = self.dirty.entry(number).or_default();
            versions.push(Version { after: self.time, sector });
            if versions.len() > REMEMBERED {
                versions.remove(chance.below(REMEMBERED));
            }
        }
        self.taken = self.taken.max(whole_sectors(end));
        if end > self.cache.len() {
            self.change_len(end, chance);
        }
    }

    /// Takes blocks for `len` bytes and makes the file that long.
    pub(super) fn allocate(&mut self, len: u64, chance: &mut Chance) {
        self.set_len(len, chance);
        self.taken = whole_sectors(len);
    }

    pub(super) fn set_len(&mut self, len: u64, chance: &mut Chance) {
        self.taken = self.taken.min(whole_sectors(len));
        if len != self.cache.len() {
            self.change_len(len, chance);
        }
    }

    fn change_len(&mut self, len: u64, chance: &mut Chance) {
        self.cache.set_len(len);
        self.time += 1;
        self.lengths.push(Length { time: self.time, len });
        if self.lengths.len() > REMEMBERED {
            self.forget_a_length(chance);
        }
    }

    /// Forgets a pending length at which nothing was cut: one that is no shorter than the one before.
    fn forget_a_length(&mut self, chance: &mut Chance) {
        let grown: Vec<usize> = self
            .lengths
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| matches!(pair, [before, this] if before.len <= this.len))
            .map(|(before, _)| before + 1)
            .filter(|&this| this + 1 < self.lengths.len())
            .collect();
        if let Some(&forgotten) = grown.get(chance.below(grown.len())) {
            self.lengths.remove(forgotten);
        }
    }

    /// A sync that succeeds (S1). Sectors that a failed sync left looking clean are not written (S5).
    pub(super) fn sync(&mut self) {
        self.write_back(&mut Newest);
        self.lengths.clear();
    }

    /// A sync that fails (S5): some of what was dirty reaches the platter, and all of it looks clean.
    /// Lengths that did not reach it are still on their way: a later sync makes the length survive.
    pub(super) fn fail_sync(&mut self, chance: &mut Chance) {
        self.stale |= !self.dirty.is_empty();
        let lengths = self.write_back(chance);
        self.lengths.drain(..lengths);
    }

    /// What is not dirty is shown as it is on the platter from now on.
    pub(super) fn forget_stale(&mut self) {
        let mut cache = self.platter.clone();
        cache.set_len(self.cache.len());
        for (number, versions) in &self.dirty {
            versions.last().into_iter().for_each(|newest| cache.set_sector(*number, newest.sector.clone()));
        }
        self.cache = cache;
    }

    /// A power cut: what `pick` chooses has reached the platter, and the cache is gone.
    pub(super) fn crash(&mut self, pick: &mut dyn Pick) {
        self.write_back(pick);
        self.lengths.clear();
        self.cache = self.platter.clone();
        self.taken = whole_sectors(self.platter.len());
        self.stale = false;
    }

    /// Whether a power cut leaves it as it is.
    pub(super) fn is_clean(&self) -> bool {
        !self.is_dirty() && !self.stale && self.taken == whole_sectors(self.platter.len())
    }

    /// Brings what `pick` chooses to the platter and forgets all versions; tells how many lengths came through.
    fn write_back(&mut self, pick: &mut dyn Pick) -> usize {
        let lens: Vec<u64> = self.lengths.iter().map(|length| length.len).collect();
        let count = pick.lengths(&lens).min(lens.len());
        let lengths = self.lengths.get(..count).unwrap_or_default();
        // What a cut took away stays away, although the file may have grown again since.
        let cut_since = |time| lengths.iter().filter(|length| length.time > time).map(|length| length.len).min();
        if let Some(end) = cut_since(0) {
            self.platter.zero_from(end);
        }
        for (number, versions) in mem::take(&mut self.dirty) {
            let picked = pick.version(number, versions.len());
            if let Some(version) = picked.and_then(|picked| versions.into_iter().nth(picked)) {
                let mut sector = version.sector;
                if let Some(end) = cut_since(version.after) {
                    cut_sector(&mut sector, number, end);
                }
                self.platter.set_sector(number, sector);
            }
        }
        let len = lengths.last().map_or(self.platter.len(), |length| length.len);
        self.platter.set_len(len);
        count
    }
}
