//! Segments ready to be used: made ahead in the background, out of spares where there are any; and the tidying
//! that must wait until a link is durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::bugs::{Bug, Bugs};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, Header, finished_name};
use crate::need::{Missing, Need, Refused};
use crate::recovery::{Void, VoidKind};
use crate::scan::Place;
use crate::segment::{Failed, NotMade, Segment, Spare, Stock};
use crate::storage::{Storage, read_head};
use crate::sync::{Condvar, Mutex};

/// Spares kept for recycling; more are removed.
const SPARES: usize = 4;

/// Makes segments. Making is one token: the background step holds it as a rule, an append that needs a segment
/// takes it when nobody does.
#[derive(Debug)]
pub(crate) struct Maker {
    pub(crate) log_id: [u8; 16],
    pub(crate) segment_size: u64,
    pub(crate) max_disk_bytes: u64,
    pub(crate) bugs: Bugs,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while files are trimmed or cleared away, so that a clean finds them done or left, and never under way.
    tidying: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    making: bool,
    next_base: u64,
    prepared: VecDeque<Arc<Segment>>,
    spares: Vec<Spare>,
    /// Bytes of all files that count: segments, prepared ones, spares, void ones.
    disk_bytes: u64,
    /// The same when the log was opened.
    found_bytes: u64,
    /// Segments to cut to their end, once the link above them is durable.
    trims: Vec<(Arc<Segment>, u64)>,
    /// The newest segment of earlier lives, if it ended early, and the bytes that cutting it will give back: to be cut once
    /// this life's first link is durable.
    uncut: Option<(Arc<Segment>, u64)>,
    /// Files that recovery made void, to be moved aside or removed once this life's first link is durable.
    voids: Vec<Void>,
    first_link: Option<u64>,
    /// Files that could not be removed, and their bytes: below the front, or what a failed making left.
    stuck: Vec<(String, u64)>,
    /// What somebody needs who may not wait, for the next background step to make.
    wanted: Option<Need>,
    /// Why none could be made, until one is.
    refused: Option<Refused>,
}

impl State {
    /// Up to where a segment may go that is needed as `need`. Segments that a power cut took the link from do not count
    /// while they are there: this life's first durable link lets them go. After a kill there are none, and a log stays
    /// within its bound.
    ///
    /// A log that was left at its bound gets out by its first checkpoint: by one segment more, without what else its link
    /// will let go; and where the bound is lower than what was found and nothing can be cleaned without a new checkpoint
    /// (`pinned`), beyond what was found.
    fn bound(&self, need: Need, pinned: bool, max_disk_bytes: u64, segment_size: u64) -> u64 {
        let is_first = need == Need::Reserve && self.first_link.is_none();
        let goes = self.voids.iter().filter(|void| is_first || void.kind == VoidKind::CutOff);
        let goes = goes.map(|void| void.length).fold(0, u64::saturating_add);
        let bound = if is_first && pinned { max_disk_bytes.max(self.found_bytes) } else { max_disk_bytes };
        let excess = self.uncut.as_ref().map_or(0, |(_, excess)| *excess);
        let more = if is_first { segment_size.saturating_add(excess) } else { 0 };
        bound.saturating_add(goes).saturating_add(more)
    }

    /// Bytes that count besides what `missing` segments are made out of.
    fn used(&self, missing: usize) -> u64 {
        self.disk_bytes - self.spares.iter().rev().take(missing).map(|spare| spare.length).sum::<u64>()
    }
}

impl Maker {
    pub(crate) fn new(
        log_id: [u8; 16],
        segment_size: u64,
        max_disk_bytes: Option<u64>,
        ceiling: u64,
        disk_bytes: u64,
        voids: Vec<Void>,
        bugs: Bugs,
    ) -> Maker {
        // Beyond the last multiple no segment fits, which the first making says.
        let next_base = ceiling.checked_next_multiple_of(u64::from(BLOCK)).unwrap_or(u64::MAX);
        let state = State { next_base, disk_bytes, found_bytes: disk_bytes, voids, ..State::default() };
        let max_disk_bytes = max_disk_bytes.unwrap_or(u64::MAX);
        Maker {
            log_id,
            segment_size,
            max_disk_bytes,
            bugs,
            state: Mutex::new(state),
            changed: Condvar::new(),
            tidying: Mutex::default(),
        }
    }

    /// The next segment, if there is one for this need. Only memory; called under the framing lock.
    pub(crate) fn take(&self, need: Need) -> Option<Arc<Segment>> {
        let mut state = self.state.lock();
        if state.prepared.len() >= need.prepared() { state.prepared.pop_front() } else { None }
    }

    /// Whether there are fewer segments prepared than an ordinary append wants to find.
    pub(crate) fn wants_more(&self) -> bool {
        self.state.lock().prepared.len() < Need::Ordinary.prepared()
    }

    /// Has the next background step make a segment for somebody who may not wait. Tells why the last try could not.
    pub(crate) fn want(&self, need: Need) -> Option<Refused> {
        let mut state = self.state.lock();
        state.wanted = Some(need);
        state.refused.clone()
    }

    /// The same for whoever only looks on: has it tried again.
    pub(crate) fn want_again(&self) -> Option<Refused> {
        let mut state = self.state.lock();
        let refused = state.refused.clone()?;
        state.wanted = state.wanted.or(Some(Need::Ordinary));
        Some(refused)
    }

    /// What somebody needs who may not wait; asked once.
    pub(crate) fn wanted(&self) -> Option<Need> {
        self.state.lock().wanted.take()
    }

    /// Keeps why what somebody needs could not be made at `now`. Tells whether that is new.
    pub(crate) fn refuse(&self, error: Error, now: Duration) -> bool {
        let mut state = self.state.lock();
        let since = state.refused.as_ref().map(|before| before.since);
        state.refused = Some(Refused { error, since: since.unwrap_or(now), cleaned: false });
        since.is_none()
    }

    /// All that somebody needs was made. Tells since when it could not be.
    pub(crate) fn made(&self) -> Option<Duration> {
        self.state.lock().refused.take().map(|refused| refused.since)
    }

    /// What an ordinary append would have to find, to go on in a further segment.
    pub(crate) fn missing(&self) -> Missing {
        let state = self.state.lock();
        let missing = Need::Ordinary.prepared().saturating_sub(state.prepared.len());
        let used = state.used(missing);
        let disk = self.segment_size.saturating_mul(missing as u64).saturating_sub(state.disk_bytes - used);
        let wanted = used.saturating_add(Need::Ordinary.bytes(missing, self.segment_size));
        let bound = state.bound(Need::Ordinary, false, self.max_disk_bytes, self.segment_size);
        Missing { disk, bound: wanted.saturating_sub(bound) }
    }

    /// Makes segments until there is one for this need. `pinned`: nothing can be cleaned before a checkpoint is appended.
    ///
    /// # Errors
    /// `DiskFull`, `LogFull` or whatever kept the file from being made; what was prepared stays. `Failed` tells
    /// whether the directory's sync failed.
    pub(crate) fn ensure(
        &self,
        storage: &dyn Storage,
        need: Need,
        written: bool,
        pinned: bool,
    ) -> std::result::Result<(), Failed> {
        let mut state = self.state.lock();
        loop {
            let missing = need.prepared().saturating_sub(state.prepared.len());
            if missing == 0 {
                return Ok(());
            }
            if state.making {
                self.changed.wait(&mut state);
                continue;
            }
            // None is made where the bound does not leave room for all: who is refused leaves nothing behind.
            let wanted = need.bytes(missing, self.segment_size);
            let used = state.used(missing);
            let spare = state.spares.pop();
            let bound = state.bound(need, pinned, self.max_disk_bytes, self.segment_size);
            if used.saturating_add(wanted) > bound {
                let Some(spare) = spare else { return Err(Failed::File(self.log_full(&state, used, wanted))) };
                // A spare does not help here, it only takes room.
                drop(state);
                let Spare { name, file, length, .. } = spare;
                drop(file);
                self.unlink(storage, name, length, &mut Vec::new());
                state = self.state.lock();
                continue;
            }
            let base = state.next_base;
            let Some(next_base) = base.checked_add(self.segment_size) else {
                state.spares.extend(spare);
                // Not `LogFull`, which cleaning mends.
                let kind = ErrorKind::TooLarge { needs: self.segment_size, limit: u64::MAX - base };
                return Err(Failed::File(Error::new(kind, "append", "the last LSN was handed out")));
            };
            state.next_base = next_base;
            state.disk_bytes += self.segment_size - spare.as_ref().map_or(0, |spare| spare.length);
            state.making = true;
            drop(state);
            let mut token = Making(Some(self));
            let stock = spare.map_or(Stock::New { written }, Stock::Spare);
            let header = Header { log_id: self.log_id, base, capacity: self.segment_size, salt: 0 };
            let made = Segment::make(storage, header, stock, self.bugs);
            if self.bugs.has(Bug::MadeOutOfOrder) {
                drop(std::mem::replace(&mut token, Making(None)));
            }
            state = self.state.lock();
            // The token is given back under the same lock: otherwise who takes it next could have a higher
            // segment ready before this one, and the log would not go up from base to base.
            token.0 = None;
            state.making = false;
            self.changed.notify_all();
            match made {
                Ok(segment) => state.prepared.push_back(Arc::new(segment)),
                Err(NotMade { failed, named, left }) => {
                    match left {
                        Some(name) => state.stuck.push((name, self.segment_size)),
                        None => state.disk_bytes -= self.segment_size,
                    }
                    if !named {
                        // Nothing bears the name, so nobody was handed an LSN of it: the next one is made there.
                        state.next_base = base;
                    }
                    return Err(failed);
                }
            }
        }
    }

    fn log_full(&self, state: &State, used: u64, wanted: u64) -> Error {
        let first = if state.first_link.is_some() {
            ""
        } else {
            "; where that removes nothing, append a checkpoint, which is taken all the same, and clean again"
        };
        let message = format!(
            "the log holds {used} of at most {} bytes and takes {wanted} more to go on; clean, and appends resume{first}",
            self.max_disk_bytes
        );
        Error::new(ErrorKind::LogFull, "append", message)
    }

    /// Bytes that the log's files take.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.state.lock().disk_bytes
    }

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

    /// Clears away void files below the tip. An earlier life's durable link passed over them, so they need not wait for a
    /// link of ours. None may stay that a clean is about to leave behind: below the front it would be taken for a segment
    /// that was cleaned, and removed.
    ///
    /// # Errors
    /// One of them could not be cleared away, or the directory could not be synced.
    pub(crate) fn clear_below(&self, storage: &dyn Storage, front: u64) -> std::result::Result<(), Failed> {
        let _tidying = self.tidying.lock();
        self.clear(storage, front).map_err(Failed::Directory)?;
        let state = self.state.lock();
        let Some(left) = state.voids.iter().find(|void| void.base < front) else { return Ok(()) };
        let message = "recovery cut this file off and it cannot be moved aside; nothing was cleaned";
        Err(Failed::File(Error::new(ErrorKind::Io, "clean", message).at(storage.path().join(&left.name), 0)))
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
                Some(spare) if state.spares.len() < SPARES => state.spares.push(spare),
                _ => {
                    drop(state);
                    self.unlink(storage, name, length, &mut stuck);
                }
            }
        }
        stuck
    }

    fn unlink(&self, storage: &dyn Storage, name: String, length: u64, stuck: &mut Vec<(String, std::io::Error)>) {
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
    /// log was open before.
    pub(crate) fn remove_spares(&self, storage: &dyn Storage, names: Vec<String>) {
        for name in names.into_iter().filter(|name| !self.is_foreign(storage, name)) {
            self.unlink(storage, name, 0, &mut Vec::new());
        }
    }

    /// Whether a file has the header of another log: that is not ours to remove. Nor is one that cannot be read.
    fn is_foreign(&self, storage: &dyn Storage, name: &str) -> bool {
        let head = storage.open(name, false).and_then(|file| read_head(&*file));
        head.map_or(true, |head| Header::decode(&head).is_ok_and(|(header, _)| header.log_id != self.log_id))
    }

    /// Cuts prepared segments to their headers: the names must stay, the blocks need not.
    pub(crate) fn shrink_prepared(&self) {
        let prepared = std::mem::take(&mut self.state.lock().prepared);
        for segment in prepared {
            _ = segment.file.set_len(u64::from(BLOCK));
        }
    }
}

/// The token of making, given back should the making panic.
struct Making<'a>(Option<&'a Maker>);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if let Some(maker) = self.0 {
            maker.state.lock().making = false;
            maker.changed.notify_all();
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

/// Gives a file a name that is never read and never removed, and tells it: of an unfinished segment the one that goes with
/// the name that it was to have.
pub(crate) fn move_aside(storage: &dyn Storage, name: &str) -> std::io::Result<String> {
    let aside = aside_name(storage, finished_name(name).as_deref().unwrap_or(name))?;
    storage.rename(name, &aside).map(|()| aside)
}

/// Such a name for it, which no file has.
pub(crate) fn aside_name(storage: &dyn Storage, name: &str) -> std::io::Result<String> {
    let taken = storage.list()?;
    let aside = |n: u64| if n == 0 { format!("{name}.aside") } else { format!("{name}.aside.{n}") };
    let free = |aside: &String| taken.iter().all(|(name, _)| name.as_os_str() != aside.as_str());
    (0..).map(aside).find(free).ok_or_else(|| std::io::ErrorKind::AlreadyExists.into())
}
