//! What a power cut leaves: the choice over everything that is on its way to the platter.

use std::fmt;

use super::chance::Chance;
use super::content::index;
use super::inode::Pick;
use super::names::{Change, FileId, Names};

/// One thing that is on its way to the platter and that a power cut keeps or loses.
///
/// Of the units of one sector, the newest that is kept is what the platter holds then; if none is, it holds
/// what it held before. Lengths of a file reach the platter in order: the newest that is kept counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// A name was given to a new file.
    Create {
        /// The name.
        name: String,
    },
    /// A file got another name.
    Rename {
        /// The name before.
        from: String,
        /// The name after.
        to: String,
    },
    /// A name was removed.
    Remove {
        /// The name.
        name: String,
    },
    /// A file's length changed.
    Length {
        /// The file's name.
        file: String,
        /// The length after, in bytes.
        len: u64,
    },
    /// A sector was written.
    Sector {
        /// The file's name.
        file: String,
        /// The sector's number: its file offset by 512.
        sector: u64,
        /// Which unsynced write of the sector, 0 being the oldest.
        version: usize,
    },
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Create { name } => write!(f, "the name {name}"),
            Unit::Rename { from, to } => write!(f, "the renaming of {from} to {to}"),
            Unit::Remove { name } => write!(f, "the removal of {name}"),
            Unit::Length { file, len } => write!(f, "the length {len} of {file}"),
            Unit::Sector { file, sector, version } => write!(f, "write {version} of sector {sector} of {file}"),
        }
    }
}

/// Which units survive a power cut.
#[non_exhaustive]
pub enum Keep<'a> {
    /// All: as if everything had been synced just before.
    All,
    /// None: only what was synced.
    None,
    /// Some, by a seed. How many, too: of the names and of each file all, none, most, half or few.
    Random(u64),
    /// Bit `i` tells of unit `i` in the order of [`Disk::dirty`](super::Disk::dirty); units from 64 on are lost.
    Mask(u64),
    /// One `bool` for each unit in the order of [`Disk::dirty`](super::Disk::dirty); units beyond are lost.
    Units(&'a [bool]),
    /// Those for which it answers `true`. It is asked in the order of [`Disk::dirty`](super::Disk::dirty).
    Choose(&'a mut dyn FnMut(&Unit) -> bool),
}

/// Asks a [`Keep`] about one unit after the other.
pub(super) struct Chooser<'a> {
    keep: Keep<'a>,
    next: usize,
    chance: Chance,
    /// Of 8.
    odds: usize,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(keep: Keep<'a>) -> Chooser<'a> {
        let seed = if let Keep::Random(seed) = keep { seed } else { 0 };
        Chooser { keep, next: 0, chance: Chance::new(seed), odds: 0 }
    }

    /// Begins with the names, or with the next file.
    fn begin_group(&mut self) {
        self.odds = [0, 1, 4, 7, 8].get(self.chance.below(5)).copied().unwrap_or(0);
    }

    fn keeps(&mut self, unit: impl FnOnce() -> Unit) -> bool {
        let number = self.next;
        self.next += 1;
        match &mut self.keep {
            Keep::All => true,
            Keep::None => false,
            Keep::Random(_) => self.chance.below(8) < self.odds,
            Keep::Mask(mask) => number < 64 && *mask >> number & 1 != 0,
            Keep::Units(units) => units.get(number).copied().unwrap_or(false),
            Keep::Choose(choose) => choose(&unit()),
        }
    }

    pub(super) fn names(&mut self, names: &mut Names) {
        self.begin_group();
        names.crash(|change| self.keeps(|| unit_of(change)));
    }

    /// Chooses for the next file. `names` are those before the crash.
    pub(super) fn file<'b>(&'b mut self, names: &'b Names, file: FileId) -> FileChooser<'b, 'a> {
        self.begin_group();
        FileChooser { chooser: self, names, file }
    }
}

fn unit_of(change: &Change) -> Unit {
    match change {
        Change::Create { name, .. } => Unit::Create { name: name.to_string() },
        Change::Rename { from, to, .. } => Unit::Rename { from: from.to_string(), to: to.to_string() },
        Change::Remove { name, .. } => Unit::Remove { name: name.to_string() },
    }
}

/// Asks about the units of one file.
pub(super) struct FileChooser<'b, 'a> {
    chooser: &'b mut Chooser<'a>,
    names: &'b Names,
    file: FileId,
}

impl FileChooser<'_, '_> {
    /// Asks about `count` units of which the newest that is kept counts; tells its number.
    fn newest_kept(&mut self, count: usize, unit: impl Fn(String, usize) -> Unit) -> Option<usize> {
        let (names, file) = (self.names, self.file);
        let name = || names.name_of(file).unwrap_or_default().to_owned();
        // Every one is asked, so that units have the same numbers whatever is answered.
        (0..count).filter(|&number| self.chooser.keeps(|| unit(name(), number))).last()
    }
}

impl Pick for FileChooser<'_, '_> {
    fn lengths(&mut self, lens: &[u64]) -> usize {
        let len = |number: usize| lens.get(number).copied().unwrap_or(0);
        self.newest_kept(lens.len(), |file, number| Unit::Length { file, len: len(number) })
            .map_or(0, |newest| newest + 1)
    }

    fn version(&mut self, number: usize, versions: usize) -> Option<usize> {
        self.newest_kept(versions, |file, version| Unit::Sector { file, sector: number as u64, version })
    }
}

/// The limit of a file's length, in bytes: sectors are kept in memory.
pub(super) const MAX_LEN: u64 = 1 << 34;

/// Whether `end` is a length that a file may have.
pub(super) fn fits(end: Option<u64>) -> bool {
    end.is_some_and(|end| end <= MAX_LEN && index(end) != usize::MAX)
}
