//! Segments ready to be used: made ahead in the background, out of spares where there are any.

mod tidying;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::bugs::{Bug, Bugs};
use crate::error::{Error, ErrorKind};
use crate::format::{BLOCK, Header};
use crate::need::{Missing, Need, Refused};
use crate::recovery::{Void, VoidKind};
use crate::segment::{Failed, NotMade, Segment, Spare, Stock};
use crate::storage::Storage;
use crate::sync::{Condvar, Mutex};
pub(crate) use tidying::{aside_name, move_aside};

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
    /// By length: what there is no room for to fill is used last.
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
        let length = |goes: fn(&Void) -> bool| {
            let lengths = self.voids.iter().filter(|void| goes(void)).map(|void| void.length);
            lengths.fold(0, u64::saturating_add)
        };
        // For anything: the bound, and what a power cut has cut off while it is there.
        if need != Need::Reserve || self.first_link.is_some() {
            return max_disk_bytes.saturating_add(length(|void| void.kind == VoidKind::CutOff));
        }
        // For a checkpoint before this life's first link is framed: a segment more, and all that this link lets go.
        let excess = self.uncut.as_ref().map_or(0, |(_, excess)| *excess);
        let more = segment_size.saturating_add(excess).saturating_add(length(|_| true));
        // Where nothing can be cleaned without it: that beyond what was found.
        let bound = if pinned { max_disk_bytes.max(self.found_bytes) } else { max_disk_bytes };
        bound.saturating_add(more)
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
                let Some(spare) = spare else { return Err(Failed::Refused(self.log_full(&state, need, used, wanted))) };
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
                return Err(Failed::Refused(Error::new(kind, "append", "the last LSN was handed out")));
            };
            state.next_base = next_base;
            state.disk_bytes += self.segment_size - spare.as_ref().map_or(0, |spare| spare.length);
            state.making = true;
            drop(state);
            let mut token = Making(Some(self));
            let is_spare = spare.is_some();
            let stock = spare.map_or(Stock::New { written }, Stock::Spare);
            let header = Header { compatible: 0, log_id: self.log_id, base, capacity: self.segment_size, salt: 0 };
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
                    // A spare that there is no room to fill says nothing of the next one.
                    let full = matches!(&failed, Failed::Refused(e) if *e.kind() == ErrorKind::DiskFull);
                    if !(is_spare && full) {
                        return Err(failed);
                    }
                }
            }
        }
    }

    fn log_full(&self, state: &State, need: Need, used: u64, wanted: u64) -> Error {
        let first = match (state.first_link, need) {
            (Some(_), _) => "",
            // It was one.
            (None, Need::Reserve) => "; where that removes nothing, release the cursors and clean again",
            (None, _) => {
                "; where that removes nothing, release the cursors, append a checkpoint, for which room is kept, and clean \
                 again"
            }
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
