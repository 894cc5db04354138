//! What the log's files give back: segments cut to their ends, void ones cleared away once a link is durable, cleaned ones
//! removed or kept as spares.
//!
//! | when | call | what becomes of which files | once this is durable |
//! |---|---|---|---|
//! | opening, at work | `trim` | a sealed segment that ended early is cut to its end | the link above it |
//! | | `clear` | void ones that hold frames are moved aside, others removed | a link above them |
//! | | `tidy` | both, of what is due | this life's link above each, and its first |
//! | | `clear_below` | `clear`, of those below a base | a link of an earlier life above them |
//! | opening | `shrink_voids` | prepared ones are cut to their headers, those between the last frames and the highest removed | their names |
//! | | `remove_spares` | those below the front are removed | MARK with that front |
//! | | `remove_left` | one that nobody needs is removed | nothing |
//! | cleaning | `discard` | cleaned ones become spares or are removed, with those that could not be before | MARK with a front above them |
//! | closing | `cut` | the newest one is cut to its end | MARK that says so |
//! | | `shrink_prepared` | prepared ones are cut to their headers | their names |
//!
//! `unlink` removes for the others, and notes what stays. None syncs the directory but `clear`; a clean does it at its end.

use std::sync::Arc;

use super::{Maker, SPARES, State};
use crate::bugs::Bug;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, Header};
use crate::recovery::{Void, VoidKind};
use crate::scan::Place;
use crate::segment::{Failed, Segment, Spare};
use crate::storage::{Storage, read_head};

impl Maker {
    /// Takes note that an earlier life left the newest segment longer than it ended.
    pub(crate) fn cut_newest_later(&self, segment: Arc<Segment>) {
        let excess = segment.excess();
        self.state.lock().uncut = Some((segment, excess));
    }

    /// Says that this life's first link ends at `end`: from when that is durable, what recovery cut off may go.
    pub(crate) fn begin_life(&self, end: u64) {
        let mut state = self.state.lock();
        state.first_link = Some(end);
        let uncut = state.uncut.take();
        state.trims.extend(uncut.map(|(segment, _)| (segment, end)));
    }

    /// Has a sealed segment cut to its end once the log is durable up to `link`, the end of the link above it.
    pub(crate) fn trim_later(&self, segment: Arc<Segment>, link: u64) {
        self.state.lock().trims.push((segment, link));
    }

    /// Whether there is anything for [`tidy`](Maker::tidy) to do.
    pub(crate) fn untidy(&self, synced: u64) -> bool {
        let state = self.state.lock();
        let linked = state.first_link.is_some_and(|link| link <= synced);
        linked && !state.voids.is_empty() || state.trims.iter().any(|(_, link)| *link <= synced)
    }

    /// Trims segments that ended early, and clears away what recovery cut off, where the link above is durable.
    ///
    /// # Errors
    /// The directory could not be synced. A file that cannot be moved stays and is tried again.
    pub(crate) fn tidy(&self, storage: &dyn Storage, synced: u64) -> Result<()> {
        let _tidying = self.tidying.lock();
        let mut state = self.state.lock();
        let (due, later) = std::mem::take(&mut state.trims).into_iter().partition(|(_, link)| *link <= synced);
        state.trims = later;
        // Crash: until the link is durable the next recovery may come to another end, and needs every byte.
        let linked = state.first_link.is_some_and(|link| link <= synced);
        drop(state);
        due.iter().for_each(|(segment, _): &(Arc<Segment>, u64)| _ = self.trim(segment));
        self.clear(storage, if linked { u64::MAX } else { 0 })
    }

    /// Cuts a sealed segment to its end. Tells whether that gave anything back.
    pub(crate) fn trim(&self, segment: &Segment) -> bool {
        let less = segment.trim();
        self.state.lock().disk_bytes -= less;
        less > 0
    }

    /// Moves void files below a base aside that hold frames, removes the others. Each counts, and does not, until it is gone.
    fn clear(&self, storage: &dyn Storage, below: u64) -> Result<()> {
        let state = self.state.lock();
        let due = state.voids.iter().filter(|void| void.base < below);
        let names: Vec<_> = due.map(|void| void.name.clone()).collect();
        drop(state);
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            let cleared = match holds_frames(storage, &name) {
                Ok(true) => move_aside(storage, &name).map(drop),
                Ok(false) => storage.remove(&name),
                Err(e) => Err(e),
            };
            if cleared.is_ok() {
                let mut state = self.state.lock();
                let State { voids, disk_bytes, .. } = &mut *state;
                let gone = voids.extract_if(.., |void| void.name == name);
                *disk_bytes -= gone.map(|void| void.length).sum::<u64>().min(*disk_bytes);
            }
        }
        storage.sync_dir().map_err(|e| Error::io("sync", storage.path(), e))
    }

    /// Clears away void files below `front`, the log's or, at opening, the tip's base. An earlier life's durable link passed over them, so they need not wait for a
    /// link of ours. None with frames may stay that a clean is about to leave behind: below the front it would be taken for
    /// a segment that was cleaned, and removed.
    ///
    /// # Errors
    /// One of them could not be cleared away, or the directory could not be synced.
    pub(crate) fn clear_below(&self, storage: &dyn Storage, front: u64) -> std::result::Result<(), Failed> {
        let _tidying = self.tidying.lock();
        self.clear(storage, front).map_err(Failed::Unsynced)?;
        let state = self.state.lock();
        let may_stay = |void: &Void| void.base >= front || void.kind == VoidKind::Unused;
        let Some(left) = state.voids.iter().find(|void| !may_stay(void)) else { return Ok(()) };
        let message = "recovery cut this file off and it cannot be moved aside; nothing was cleaned";
        Err(Failed::Refused(Error::new(ErrorKind::Io, "clean", message).at(storage.path().join(&left.name), 0)))
    }

    /// Takes segments below the durable front: a few that were made in this life become spares, the others go. Tells
    /// what could not go. Nothing more goes once `sound` says no.
    pub(crate) fn discard(
        &self,
        storage: &dyn Storage,
        segments: Vec<Arc<Segment>>,
        sound: impl Fn() -> bool,
    ) -> Vec<(String, std::io::Error)> {
        let mut stuck = Vec::new();
        let _tidying = self.tidying.lock();
        let before = {
            let mut state = self.state.lock();
            state.refused.iter_mut().for_each(|refused| refused.cleaned = true);
            // What goes as a whole is not cut as well, nor counted twice.
            let stays = |segment: &Segment| segments.iter().all(|gone| gone.base != segment.base);
            state.trims.retain(|(segment, _)| stays(segment));
            state.uncut = state.uncut.take().filter(|(segment, _)| stays(segment));
            std::mem::take(&mut state.stuck)
        };
        for (name, length) in before {
            if !sound() {
                return stuck;
            }
            self.unlink(storage, name, length, &mut stuck);
        }
        for segment in segments {
            if !sound() {
                break;
            }
            let name = segment.name.clone();
            let length = segment.length();
            // Only the last holder can take it apart: no reader, no `Bytes`, no sync under way.
            let spare = if self.bugs.has(Bug::RecycleWhileMapped) {
                storage.open(&name, true).ok().map(|file| Spare { name: name.clone(), file, length, seed: None })
            } else {
                Arc::into_inner(segment).and_then(Segment::into_spare)
            };
            let mut state = self.state.lock();
            match spare {
                Some(spare) if state.spares.len() < SPARES => {
                    let at = state.spares.partition_point(|other| other.length <= spare.length);
                    state.spares.insert(at, spare);
                }
                _ => {
                    drop(state);
                    self.unlink(storage, name, length, &mut stuck);
                }
            }
        }
        stuck
    }

    pub(super) fn unlink(
        &self,
        storage: &dyn Storage,
        name: String,
        length: u64,
        stuck: &mut Vec<(String, std::io::Error)>,
    ) {
        let removed = storage.remove(&name);
        let mut state = self.state.lock();
        match removed {
            Ok(()) => state.disk_bytes -= length.min(state.disk_bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => state.disk_bytes -= length.min(state.disk_bytes),
            Err(e) => {
                state.stuck.push((name.clone(), length));
                stuck.push((name, e));
            }
        }
    }

    /// Cuts segments that an earlier life had prepared to their headers, as closing does: their blocks would keep a
    /// full log from taking the segment that it needs to be cleaned. Of those above everything that holds frames only
    /// the highest stays, which is enough that no LSN is handed out twice; the others would add up, life by life.
    pub(crate) fn shrink_voids(&self, storage: &dyn Storage) {
        let mut state = self.state.lock();
        let State { voids, disk_bytes, .. } = &mut *state;
        // Crash: those with frames above are what links lead down to, and stay. The names of the others were synced
        // before this, so the highest outlives whichever goes.
        let last = voids.len().saturating_sub(1);
        let top = voids.iter().rposition(|void| void.kind != VoidKind::Unused).map_or(0, |frames| frames + 1);
        let mut index = 0;
        voids.retain(|void| {
            let goes = (top..last).contains(&index) && storage.remove(&void.name).is_ok();
            index += 1;
            *disk_bytes -= if goes { void.length.min(*disk_bytes) } else { 0 };
            !goes
        });
        let header = u64::from(BLOCK);
        for void in voids.iter_mut().filter(|void| void.kind == VoidKind::Unused && void.length > header) {
            if storage.open(&void.name, true).is_ok_and(|file| file.set_len(header).is_ok()) {
                *disk_bytes -= (void.length - header).min(*disk_bytes);
                void.length = header;
            }
        }
    }

    /// Removes files that lie below the front at open. None is used again: somebody may hold bytes of it from when the
    /// log was open before. Tells what stays, but for what is another log's.
    pub(crate) fn remove_spares(&self, storage: &dyn Storage, names: Vec<String>) -> Vec<String> {
        let left = |name: String| match self.is_foreign(storage, &name) {
            Ok(true) => None,
            Ok(false) => self.remove_left(storage, name),
            Err(e) => {
                self.count(storage, &name);
                Some(format!("{name}: not needed any more, but left alone, for whose it is cannot be read: {e}"))
            }
        };
        names.into_iter().filter_map(left).collect()
    }

    /// Removes a file that an earlier life left. Tells if it stays; then it counts, and the next clean tries again.
    pub(crate) fn remove_left(&self, storage: &dyn Storage, name: String) -> Option<String> {
        let e = storage.remove(&name).err().filter(|e| e.kind() != std::io::ErrorKind::NotFound)?;
        let (told, length) =
            (format!("{name}: not needed any more, but cannot be removed: {e}"), self.count(storage, &name));
        self.state.lock().stuck.push((name, length));
        Some(told)
    }

    /// Counts a file that stays, as far as its length is to be had, and tells that.
    pub(crate) fn count(&self, storage: &dyn Storage, name: &str) -> u64 {
        let length = storage.open(name, false).and_then(|file| file.len()).unwrap_or(0);
        self.state.lock().disk_bytes += length;
        length
    }

    /// Whether a file has the header of another log: that is not ours to remove.
    fn is_foreign(&self, storage: &dyn Storage, name: &str) -> std::io::Result<bool> {
        let head = read_head(&*storage.open(name, false)?)?;
        Ok(Header::decode(&head).is_ok_and(|(header, _)| header.log_id != self.log_id))
    }

    /// Cuts a segment's file, in closing. Where that fails it stays as it is.
    pub(crate) fn cut(&self, segment: &Segment, length: u64) {
        let less = segment.cut(length);
        self.state.lock().disk_bytes -= less;
    }

    /// Cuts prepared segments to their headers: the names must stay, the blocks need not.
    pub(crate) fn shrink_prepared(&self) {
        let prepared = std::mem::take(&mut self.state.lock().prepared);
        for segment in prepared {
            self.cut(&segment, u64::from(BLOCK));
        }
    }
}

/// Whether a void file holds anything that was once appended. One whose header is not readable is taken to.
fn holds_frames(storage: &dyn Storage, name: &str) -> std::io::Result<bool> {
    let file = storage.open(name, false)?;
    let Ok((header, seed)) = Header::decode(&read_head(&*file)?) else { return Ok(true) };
    let place = Place { base: header.base, seed, limit: header.capacity.min(file.len()?) };
    crate::scan::holds_frames(&*file, &place)
}

/// Gives a file a name that is never read and never removed, and tells it.
pub(crate) fn move_aside(storage: &dyn Storage, name: &str) -> std::io::Result<String> {
    let aside = aside_name(storage, name)?;
    storage.rename(name, &aside).map(|()| aside)
}

/// Such a name for it, which no file has.
pub(crate) fn aside_name(storage: &dyn Storage, name: &str) -> std::io::Result<String> {
    let taken = storage.list()?;
    let aside = |n: u64| if n == 0 { format!("{name}.aside") } else { format!("{name}.aside.{n}") };
    let free = |aside: &String| taken.iter().all(|(name, _)| name.as_os_str() != aside.as_str());
    (0..).map(aside).find(free).ok_or_else(|| std::io::ErrorKind::AlreadyExists.into())
}
