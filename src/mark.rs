//! MARK: what is known durable, what readers may see, and the front, in two slots rewritten in turn.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::{BLOCK, MARK, MARK_LEN, Mark};
use crate::maker::move_aside;
use crate::segment::Failed;
use crate::storage::{File, Storage, write_full};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The file and what its newer slot says.
#[derive(Debug)]
pub(crate) struct MarkFile {
    state: Mutex<State>,
    /// Bytes that its file takes: told without waiting for whoever writes it.
    bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// `None` until it is known to lie whole and durable in the directory.
    file: Option<Box<dyn File>>,
    /// Another log's lies in its place.
    foreign: bool,
    /// One lies there that could not be made, and not be removed.
    spoiled: bool,
    mark: Mark,
    /// The slot that was synced last in this life, as `sequence & 1`, or before in a log that was cleaned. What is written
    /// without a sync goes to the other one.
    kept: u64,
}

impl MarkFile {
    /// `found`: what it says, if it was read. `vouched`: it stands beside segments, before which it was made. `foreign`:
    /// another log's was read.
    pub(crate) fn open(
        storage: &dyn Storage,
        log_id: [u8; 16],
        found: Option<Mark>,
        vouched: bool,
        foreign: bool,
    ) -> Result<MarkFile> {
        let mark = Mark { log_id, ..found.unwrap_or_default() };
        let file = if found.is_some() && vouched {
            Some(storage.open(MARK, true).map_err(|e| io(storage, "open", e))?)
        } else {
            None
        };
        if let Some(file) = file.as_ref().filter(|_| mark.front > 0) {
            // Crash: either slot may be the one that the front is durable in. The newer one, written again with the bytes
            // that it has, is from here on, and the other may be overwritten. Without a front both may be lost to a crash:
            // what MARK says of what is durable, recovery has synced before this is written to.
            let (slot, at) = mark.encode();
            write_full(&**file, &slot, at).and_then(|()| file.sync()).map_err(|e| io(storage, "settle", e))?;
        }
        let state = Mutex::new(State { file, foreign, spoiled: false, kept: mark.sequence & 1, mark });
        // One that says nothing may take some all the same.
        let length = || storage.open(MARK, false).and_then(|file| file.len()).unwrap_or(0);
        let bytes = if found.is_some() { MARK_LEN } else { length() };
        Ok(MarkFile { state, bytes: AtomicU64::new(bytes) })
    }

    /// Makes it, if it is not there: both slots valid, synced, and its name durable, before any segment is named.
    pub(crate) fn ensure(&self, storage: &dyn Storage) -> std::result::Result<(), Failed> {
        let mut state = self.state.lock();
        if state.file.is_some() {
            return Ok(());
        }
        if state.foreign {
            // Crash: a log whose MARK is missing, which is no worse than one beside another's.
            _ = move_aside(storage, MARK).map_err(|e| Failed::Refused(io(storage, "move aside", e)))?;
            self.bytes.store(0, Ordering::Release);
            sync_dir(storage)?;
            state.foreign = false;
        }
        if state.spoiled {
            self.remove_spoiled(&mut state, storage).map_err(|e| Failed::Refused(io(storage, "remove", e)))?;
        }
        let file = match storage.create(MARK) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => storage.open(MARK, true),
            made => made,
        };
        let file = file.map_err(|e| Failed::Refused(io(storage, "create", e)))?;
        let made = file.allocate(MARK_LEN).and_then(|()| {
            for _ in 0..2 {
                state.mark.sequence += 1;
                let (slot, at) = state.mark.encode();
                let mut block = vec![0; BLOCK as usize];
                block.splice(..slot.len(), slot);
                write_full(&*file, &block, at)?;
            }
            file.sync()
        });
        // Crash: with no segment named yet a torn MARK is a new log; beside segments it would weaken evidence.
        made.map_err(|e| {
            // Made anew the next time: a sync that failed is not tried again on the same file. What cannot be removed now is
            // tried then.
            _ = self.remove_spoiled(&mut state, storage);
            Failed::Refused(io(storage, "make", e))
        })?;
        sync_dir(storage)?;
        state.kept = state.mark.sequence & 1;
        state.file = Some(file);
        self.bytes.store(MARK_LEN, Ordering::Release);
        Ok(())
    }

    /// Removes what could not be made.
    fn remove_spoiled(&self, state: &mut State, storage: &dyn Storage) -> std::io::Result<()> {
        state.spoiled = true;
        match storage.remove(MARK) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => state.spoiled = false,
        }
        self.bytes.store(0, Ordering::Release);
        Ok(())
    }

    /// Says more, if it is more: `synced` and `front` never go down. Unsynced unless `sync`.
    pub(crate) fn write(&self, storage: &dyn Storage, said: Said, sync: bool) -> Result<()> {
        let mut state = self.state.lock();
        let State { file: Some(file), mark, kept, .. } = &mut *state else { return Ok(()) };
        let before = mark.said();
        let more = before.max(said);
        if !sync && more == before {
            return Ok(());
        }
        (mark.synced, mark.shown, mark.front) = (more.synced, more.shown, more.front);
        // Crash: a write may be torn, so none goes to the slot that was synced last: it alone says durably where the log
        // begins, once what lay below is gone.
        mark.sequence += if (mark.sequence + 1) & 1 == *kept { 2 } else { 1 };
        let (slot, at) = mark.encode();
        write_full(&**file, &slot, at).map_err(|e| io(storage, "write", e))?;
        if sync {
            file.sync().map_err(|e| io(storage, "sync", e))?;
            *kept = mark.sequence & 1;
        }
        Ok(())
    }

    /// Bytes that it will take and does not yet.
    pub(crate) fn unmade(&self) -> u64 {
        MARK_LEN.saturating_sub(self.bytes.load(Ordering::Acquire))
    }

    /// What it says.
    pub(crate) fn said(&self) -> Said {
        self.state.lock().mark.said()
    }
}

fn sync_dir(storage: &dyn Storage) -> std::result::Result<(), Failed> {
    storage.sync_dir().map_err(|e| Failed::Unsynced(Error::io("sync", storage.path(), e)))
}

impl Mark {
    pub(crate) fn said(&self) -> Said {
        let Mark { synced, shown, front, .. } = *self;
        Said { synced, shown, front }
    }

    /// Whether there was a record once, or the name of one at least, which is synced before: no crash takes all segments.
    pub(crate) fn is_used(&self) -> bool {
        self.synced > 0 || self.shown > 0 || self.front > 0
    }
}

/// How often whoever waits for more looks at MARK, and a writer of whom only MARK tells writes it.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// What MARK says, or is to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) synced: u64,
    pub(crate) shown: u64,
    pub(crate) front: u64,
}

impl Said {
    /// The most that either says.
    pub(crate) fn max(self, other: Said) -> Said {
        Said {
            synced: self.synced.max(other.synced),
            shown: self.shown.max(other.shown),
            front: self.front.max(other.front),
        }
    }
}

fn io(storage: &dyn Storage, operation: &'static str, e: std::io::Error) -> Error {
    Error::io(operation, storage.path().join(MARK), e)
}
