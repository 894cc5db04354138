//! The state of the disk under its one lock, and the gate that every operation passes.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::chance::Chance;
use super::crash::{Chooser, Keep};
use super::fault::{Counts, Faults, Operation, Strike};
use super::inode::Inode;
use super::names::{FileId, Names};
use super::tasks::{Step, TaskId, Tasks};

/// An operation after which nothing is done any more.
struct CrashPoint {
    /// Mutating operations that are still let through.
    before: u64,
    torn: bool,
}

/// A map that may be alive.
struct Mapped {
    file: FileId,
    len: u64,
    alive: Weak<()>,
}

pub(super) struct State {
    /// What a power cut does not touch.
    pub(super) directory: bool,
    pub(super) names: Names,
    pub(super) files: BTreeMap<FileId, Arc<Inode>>,
    next_file: FileId,
    pub(super) unreadable: Vec<(FileId, Range<u64>)>,
    pub(super) capacity: Option<u64>,

    /// The mounts, handles and locks of earlier boots are dead.
    pub(super) boot: u64,
    crash_point: Option<CrashPoint>,
    pub(super) crashed: bool,
    handles: BTreeMap<FileId, usize>,
    pub(super) locked: bool,
    maps: Vec<Mapped>,
    pub(super) tasks: Tasks,

    pub(super) faults: Faults,
    pub(super) counts: Counts,
    pub(super) violations: Vec<String>,
    pub(super) now: Duration,
    pub(super) threads: bool,

    /// What `Storage::random` gives, what a failed sync does, and which step comes next: apart, so that one
    /// more draw of the one does not change the others.
    pub(super) entropy: Chance,
    pub(super) chance: Chance,
    order: Chance,
}

/// Why an operation is not simply done.
pub(super) enum Refusal {
    /// The disk or the mount is gone, or the operation makes no sense.
    Error(io::Error),
    /// It is the one in which the power goes, and a part of it is still done.
    Torn,
    /// A fault strikes it.
    Fault(Strike),
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal {
            Refusal::Error(error) | Refusal::Fault(Strike { error, .. }) => error,
            Refusal::Torn => power_is_gone(),
        }
    }
}

pub(super) fn power_is_gone() -> io::Error {
    io::Error::other("the simulated machine has crashed")
}

/// What an operation is about.
#[derive(Clone, Copy)]
pub(super) enum About<'a> {
    Nothing,
    Names(&'a [&'a str]),
    File(FileId),
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        let mut seeds = Chance::new(seed);
        State {
            directory: false,
            names: Names::default(),
            files: BTreeMap::new(),
            next_file: 0,
            unreadable: Vec::new(),
            capacity: None,
            boot: 0,
            crash_point: None,
            crashed: false,
            handles: BTreeMap::new(),
            locked: false,
            maps: Vec::new(),
            tasks: Tasks::default(),
            faults: Faults::default(),
            counts: Counts::default(),
            violations: Vec::new(),
            now: Duration::ZERO,
            threads: false,
            entropy: Chance::new(seeds.next()),
            chance: Chance::new(seeds.next()),
            order: Chance::new(seeds.next()),
        }
    }

    /// The disk alone, without anything that runs on it or is set to happen.
    pub(super) fn fork(&self) -> State {
        let mut fork = State {
            directory: self.directory,
            names: self.names.clone(),
            files: self.files.clone(),
            next_file: self.next_file,
            unreadable: self.unreadable.clone(),
            capacity: self.capacity,
            now: self.now,
            threads: self.threads,
            entropy: self.entropy.clone(),
            chance: self.chance.clone(),
            order: self.order.clone(),
            ..State::new(0)
        };
        fork.forget_unreachable();
        fork
    }

    pub(super) fn reseed(&mut self, seed: u64) {
        let State { entropy, chance, order, .. } = State::new(seed);
        (self.entropy, self.chance, self.order) = (entropy, chance, order);
    }

    /// Counts an operation of boot `boot` and tells whether it is simply to be done.
    pub(super) fn admit(&mut self, boot: u64, operation: Operation, about: About<'_>) -> Result<(), Refusal> {
        if boot != self.boot {
            return Err(Refusal::Error(io::Error::other("opened before the last crash of the simulated machine")));
        }
        if self.crashed {
            return Err(Refusal::Error(power_is_gone()));
        }
        self.counts.add(operation);
        if let Some(point) = self.crash_point.as_mut().filter(|_| operation.is_mutating()) {
            if point.before == 0 {
                self.crashed = true;
                return Err(if point.torn { Refusal::Torn } else { Refusal::Error(power_is_gone()) });
            }
            point.before -= 1;
        }
        if !self.faults.is_empty() {
            let struck = match about {
                About::Nothing => self.faults.strike(operation, &[]),
                About::Names(names) => self.faults.strike(operation, names),
                About::File(file) => self.faults.strike(operation, self.names.name_of(file).as_slice()),
            };
            if let Some(strike) = struck {
                return Err(Refusal::Fault(strike));
            }
        }
        Ok(())
    }

    pub(super) fn take_due_step(&mut self) -> Option<(TaskId, Step)> {
        self.tasks.take_due(self.now, &mut self.order)
    }

    pub(super) fn set_crash_point(&mut self, nth: u64, torn: bool) {
        self.crash_point = nth.checked_sub(1).map(|before| CrashPoint { before, torn });
        self.crashed = nth == 0;
    }

    pub(super) fn add_file(&mut self, inode: Inode) -> FileId {
        self.next_file += 1;
        self.files.insert(self.next_file, Arc::new(inode));
        self.next_file
    }

    pub(super) fn inode(&self, file: FileId) -> io::Result<&Inode> {
        self.files.get(&file).map(|inode| &**inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The file to be changed, with the chance that its change may need.
    pub(super) fn inode_mut(&mut self, file: FileId) -> io::Result<(&mut Inode, &mut Chance)> {
        let inode = self.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
        Ok((Arc::make_mut(inode), &mut self.chance))
    }

    /// Bytes of blocks taken by files that have a name or are open.
    pub(super) fn used(&self) -> u64 {
        let in_use = |id: &FileId| self.names.is_shown(*id) || self.handles.contains_key(id);
        self.files.iter().filter(|(id, _)| in_use(id)).map(|(_, inode)| inode.taken()).sum()
    }

    /// Bytes that can still be taken.
    pub(super) fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    pub(super) fn add_handle(&mut self, file: FileId) {
        *self.handles.entry(file).or_default() += 1;
    }

    pub(super) fn drop_handle(&mut self, boot: u64, file: FileId) {
        if boot != self.boot {
            return;
        }
        if let Some(count) = self.handles.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&file);
                self.forget_if_unreachable(file);
            }
        }
    }

    pub(super) fn forget_if_unreachable(&mut self, file: FileId) {
        if !self.handles.contains_key(&file) && !self.names.is_shown(file) && !self.names.may_keep(file) {
            self.files.remove(&file);
            self.unreadable.retain(|(id, _)| *id != file);
        }
    }

    pub(super) fn forget_unreachable(&mut self) {
        for file in self.files.keys().copied().collect::<Vec<_>>() {
            self.forget_if_unreachable(file);
        }
    }

    pub(super) fn is_unreadable(&self, file: FileId, offset: u64, len: usize) -> bool {
        let end = offset.saturating_add(len as u64);
        self.unreadable.iter().any(|(id, range)| *id == file && range.start < end && offset < range.end)
    }

    pub(super) fn add_map(&mut self, file: FileId, len: u64) -> Arc<()> {
        self.maps.retain(|map| map.alive.strong_count() > 0);
        let alive = Arc::new(());
        self.maps.push(Mapped { file, len, alive: Arc::downgrade(&alive) });
        alive
    }

    /// Records a violation if bytes of `file` from `start` up to `end` are under a map that is alive.
    pub(super) fn check_maps(&mut self, file: FileId, start: u64, end: u64, what: &str) {
        for map in &self.maps {
            if map.file == file && start < map.len.min(end) && map.alive.strong_count() > 0 {
                let name = self.names.name_of(file).unwrap_or("a removed file");
                let (len, end) = (map.len, map.len.min(end));
                self.violations.push(format!("{name}: bytes {start}..{end} {what} under a live map of {len} bytes"));
            }
        }
    }

    /// Files of which a power cut keeps or loses something, in the order in which it is asked about them.
    pub(super) fn dirty_files(&self) -> impl Iterator<Item = (FileId, &Inode)> {
        let dirty = self.files.iter().filter(|(_, inode)| inode.is_dirty());
        dirty.filter(|(id, _)| self.names.may_keep(**id)).map(|(id, inode)| (*id, &**inode))
    }

    /// Cuts the power and boots. What is given back is to be dropped outside of the lock.
    pub(super) fn crash(&mut self, keep: Keep<'_>) -> Tasks {
        let mut chooser = Chooser::new(keep);
        let before = self.names.clone();
        chooser.names(&mut self.names);
        for (&id, inode) in &mut self.files {
            if !inode.is_clean() && before.may_keep(id) {
                Arc::make_mut(inode).crash(&mut chooser.file(&before, id));
            }
        }
        self.boot()
    }

    /// Ends all processes: what they opened, locked, mapped and ran is gone. What is given back is to be
    /// dropped outside of the lock.
    pub(super) fn boot(&mut self) -> Tasks {
        self.boot += 1;
        self.crash_point = None;
        self.crashed = false;
        self.handles.clear();
        self.locked = false;
        self.maps.clear();
        self.forget_unreachable();
        self.tasks.take()
    }
}
