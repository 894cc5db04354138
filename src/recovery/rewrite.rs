//! Writing again what the last life may not have brought to the disk.
//!
//! After a failed sync the cache may show what the disk does not hold (S5), and neither reading nor another sync tells.
//! Writing the same bytes makes them dirty again. But what looks clean the cache may forget at any time, and reads show what
//! the disk holds from then on: so what is written is what was verified, in the same bytes, and not what another read gives.

use std::io;

use crate::bugs::{Bug, Bugs};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, FRAME, frame_size};
use crate::scan::{Chunk, Place, Window, frame_at};
use crate::storage::{File, Storage, read_full, write_full};

use super::Recovered;
use super::beside::TRIES;

/// Recovers by `look`, and makes durable what it found: what may be shown. Looks again where the storage shows less by then.
pub(crate) fn durably(
    storage: &dyn Storage,
    mut look: impl FnMut() -> Result<Recovered>,
    bugs: Bugs,
) -> Result<Recovered> {
    for _ in 0..TRIES {
        let recovered = look()?;
        if recovered.make_durable(storage, bugs)? {
            return Ok(recovered);
        }
    }
    let message = "each time the log is read its files hold other bytes; nothing was appended";
    Err(Error::new(ErrorKind::Io, "recover", message).at(storage.path(), 0))
}

impl Recovered {
    /// Writes again what no claim speaks of, and syncs it: only then may it be shown. `false` where it is not there any more.
    fn make_durable(&self, storage: &dyn Storage, bugs: Bugs) -> Result<bool> {
        if bugs.has(Bug::NoRewrite) {
            return Ok(true);
        }
        for sealed in &self.segments {
            let base = sealed.found.base;
            let from = self.proven.max(base + u64::from(BLOCK));
            if from < sealed.seal.end {
                let path = storage.path().join(&sealed.found.name);
                let place = Place { base, seed: sealed.seed, limit: sealed.seal.end - base };
                let written = rewrite(&*sealed.found.file, &place, from - base, bugs);
                if !written.map_err(|e| Error::io("recover", path, e))? {
                    return Ok(false);
                }
            }
        }
        // Crash: names that an earlier life did not live to sync are relied upon from here on.
        storage.sync_dir().map_err(|e| Error::io("sync", storage.path(), e))?;
        Ok(true)
    }
}

/// Writes the frames of a segment again, from the one at `from` up to the end of the place, and syncs them. `false` where
/// they are not there any more.
pub(crate) fn rewrite(file: &dyn File, place: &Place, from: u64, bugs: Bugs) -> io::Result<bool> {
    if bugs.has(Bug::RewriteUnverified) {
        let mut bytes = vec![0; usize::try_from(place.limit - from).unwrap_or_default()];
        read_full(file, &mut bytes, from)?;
        write_full(file, &bytes, from)?;
    } else if !write_frames(file, place, from, bugs)? {
        return Ok(false);
    }
    if !bugs.has(Bug::RewriteNotSynced) {
        file.sync()?;
    }
    Ok(true)
}

fn write_frames(file: &dyn File, place: &Place, from: u64, bugs: Bugs) -> io::Result<bool> {
    let mut chunk = Chunk::default();
    let first = frame_at(&mut Window::new(file, place.limit, &mut chunk), place, from, bugs)?;
    // A claim that lies within a frame, as only a forged one does, is no place to begin at.
    let mut at = if first.is_some() { from } else { u64::from(BLOCK) };
    while at < place.limit {
        let mut window = Window::new(file, place.limit, &mut chunk);
        if frame_at(&mut window, place, at, bugs)?.is_none() {
            return Ok(false);
        }
        let (mut next, mut end) = (at, at);
        while let Some(header) = frame_at(&mut &chunk, place, next, bugs)? {
            end = next + u64::from(FRAME + header.length);
            next += frame_size(u64::from(header.length));
        }
        // Not what fills the last frame up, which may not be held and nobody reads.
        let length = usize::try_from(end - at).unwrap_or(usize::MAX);
        write_full(file, chunk.held(at, length).unwrap_or_default(), at)?;
        at = next;
    }
    Ok(true)
}
