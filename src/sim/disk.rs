//! The controls of the disk in memory that can crash, lie, run full and be damaged.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::content::index;
use super::crash::{Chooser, Keep, Unit};
use super::fault::{Fault, Operation};
use super::inode::Inode;
use super::mount::Mount;
use super::shared::Shared;
use super::state::State;
use crate::storage::Storage;

/// A disk in memory with one directory. See the [module](super) for what it models and how to test with it.
///
/// All methods take `&self` and may be called from any thread. Whatever is left to chance follows from the
/// seed and the order of calls.
pub struct Disk {
    shared: Arc<Shared>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Disk")
            .field("boot", &state.boot)
            .field("operations", &state.counts.mutating())
            .field("names", &state.names.shown().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// An empty disk, without even the directory.
    pub fn new(seed: u64) -> Disk {
        Disk { shared: Arc::new(Shared::new(State::new(seed))) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.shared.state.lock())
    }

    /// The disk as the machine sees it until the next [`crash`](Disk::crash) or [`kill`](Disk::kill). From
    /// then on everything that was opened through it answers errors and changes nothing.
    pub fn mount(&self) -> Arc<dyn Storage> {
        Arc::new(Mount::new(&self.shared))
    }

    /// An independent disk in the same state: cache, platter, what is on its way between, capacity,
    /// unreadable bytes, clock, seed. Nothing runs on it: no mount, lock, map, background work, crash point
    /// or fault comes along, and its counters begin at 0. Bytes are shared until one of the two writes them.
    #[must_use]
    pub fn fork(&self) -> Disk {
        Disk { shared: Arc::new(Shared::new(self.with(|state| state.fork()))) }
    }

    /// Begins all chance anew from `seed`.
    pub fn reseed(&self, seed: u64) {
        self.with(|state| state.reseed(seed));
    }

    /// Has the power go in the `nth` [mutating](Operation::is_mutating) operation from now, 1 being the next
    /// and 0 being now. That operation and all after it, reads too, answer an error and do nothing;
    /// [`crash`](Disk::crash) or [`kill`](Disk::kill) brings the machine back.
    pub fn crash_at(&self, nth: u64) {
        self.with(|state| state.set_crash_point(nth, false));
    }

    /// As [`crash_at`](Disk::crash_at), but if that operation is a write, some of its sectors from the first
    /// on (and not all) are still written, to the cache.
    pub fn crash_torn_at(&self, nth: u64) {
        self.with(|state| state.set_crash_point(nth, true));
    }

    /// Whether the crash point was reached, and the machine not brought back since.
    pub fn crashed(&self) -> bool {
        self.with(|state| state.crashed)
    }

    /// Cuts the power and boots: of what was not synced, what `keep` says survives; the cache, all handles,
    /// locks, maps, background work and the crash point are gone. Faults that were set stay, see
    /// [`heal`](Disk::heal).
    pub fn crash(&self, keep: Keep<'_>) {
        let tasks = self.with(|state| state.crash(keep));
        drop(tasks);
    }

    /// Kills all processes: as [`crash`](Disk::crash), but the page cache lives, so that everything that was
    /// written is still shown, synced or not, and nothing has become durable.
    pub fn kill(&self) {
        let tasks = self.with(State::boot);
        drop(tasks);
    }

    /// How many units a power cut would keep or lose now; 2 to this power are the ways in which it can go.
    pub fn dirty_units(&self) -> usize {
        self.with(|state| {
            state.names.changes().len() + state.dirty_files().map(|(_, inode)| inode.dirty_units()).sum::<usize>()
        })
    }

    /// The units that a power cut would keep or lose now: changes of names, the oldest first; then for each
    /// file, the oldest first, its lengths and its sectors.
    pub fn dirty(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        let mut note = |unit: &Unit| {
            units.push(unit.clone());
            false
        };
        self.with(|state| {
            let mut chooser = Chooser::new(Keep::Choose(&mut note));
            chooser.names(&mut state.names.clone());
            for (file, inode) in state.dirty_files() {
                inode.clone().crash(&mut chooser.file(&state.names, file));
            }
        });
        units
    }

    /// How many [mutating](Operation::is_mutating) operations there were, failed ones included.
    pub fn operations(&self) -> u64 {
        self.with(|state| state.counts.mutating())
    }

    /// How many operations of one kind there were, failed ones included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.with(|state| state.counts.of(operation))
    }

    /// Bounds the disk to this many bytes, or not at all. Beyond, [`allocate`](crate::storage::File::allocate)
    /// and writes that need more blocks answer `StorageFull`; a write that only partly fits is short. Blocks
    /// that were taken can always be written.
    pub fn capacity(&self, bytes: impl Into<Option<u64>>) {
        let bytes = bytes.into();
        self.with(|state| state.capacity = bytes);
    }

    /// Bytes of blocks taken, by files that have a name or are open. A block is 512 bytes.
    pub fn used(&self) -> u64 {
        self.with(|state| state.used())
    }

    /// Sets a fault. Several may be set; the one set first strikes a call first.
    ///
    /// A sync that is struck does what storage assumption S5 says: of the dirty sectors some, by chance, reach
    /// the platter, and all look clean from then on. A struck `sync_dir` makes the changes up to some point
    /// survive; the others are still on their way.
    pub fn fail(&self, fault: Fault) {
        self.with(|state| state.faults.add(fault));
    }

    /// Makes reads of these bytes of a file fail with `EIO`, and maps that would hold some of them. Does
    /// nothing if there is no such file.
    pub fn fail_reads(&self, name: &str, bytes: Range<u64>) {
        self.with(|state| {
            let file = state.names.find(name);
            state.unreadable.extend(file.map(|file| (file, bytes)));
        });
    }

    /// Forgets all faults and unreadable bytes.
    pub fn heal(&self) {
        self.with(|state| {
            state.faults.clear();
            state.unreadable.clear();
        });
    }

    /// The names that are shown now, sorted.
    pub fn names(&self) -> Vec<String> {
        self.with(|state| state.names.shown().map(str::to_owned).collect())
    }

    /// The bytes that a file shows now; `None` if there is no such file.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.with(|state| {
            let content = state.inode(state.names.find(name)?).ok()?.cache();
            Some(content.bytes(index(content.len())))
        })
    }

    /// By hand: gives a file these bytes, durably, as rot or an editor would. Of a file that there is, open
    /// handles see them, and unsynced writes are gone; otherwise it is made. Neither counted nor bounded.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let inode = Inode::durable(bytes.as_ref());
        self.with(|state| {
            state.directory = true;
            let file = match state.names.find(name) {
                Some(file) => {
                    state.files.insert(file, Arc::new(inode));
                    file
                }
                None => state.add_file(inode),
            };
            state.names.set_durable(name, Some(file));
            state.forget_unreachable();
        });
    }

    /// By hand: removes a name, durably. Whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.with(|state| {
            let found = state.names.find(name).is_some();
            state.names.set_durable(name, None);
            state.forget_unreachable();
            found
        })
    }

    /// By hand: gives a file another name, durably, over whatever bore it. Whether there was one.
    pub fn rename(&self, from: &str, to: &str) -> bool {
        self.with(|state| {
            let Some(file) = state.names.find(from) else {
                return false;
            };
            state.names.set_durable(to, Some(file));
            state.forget_unreachable();
            true
        })
    }

    /// Writes and cuts of bytes under a live map, in words. A test should find none.
    pub fn violations(&self) -> Vec<String> {
        self.with(|state| state.violations.clone())
    }

    /// Runs one background step that is due, one of them by chance, on this thread; `false` if none is due.
    pub fn step(&self) -> bool {
        self.shared.step()
    }

    /// Runs background steps until none is due. Does not return while a step asks to be called again at once.
    pub fn settle(&self) {
        while self.step() {}
    }

    /// Moves the clock of the machine on. Background work that becomes due runs when it is stepped.
    pub fn advance(&self, by: Duration) {
        self.with(|state| state.now = state.now.saturating_add(by));
    }

    /// Whether background work that is begun from now on runs on threads of its own, as on real files,
    /// instead of being stepped. What it does is no longer a matter of the seed then, and it waits by the
    /// real clock. [`crash`](Disk::crash) and [`kill`](Disk::kill) do not end such threads.
    pub fn threads(&self, on: bool) {
        self.with(|state| state.threads = on);
    }
}
