//! The errors of reading for what is not there as it was written.

use std::path::PathBuf;

use crate::error::{Damage, Error};
use crate::format::BLOCK;
use crate::lsn::Lsn;
use crate::scan::{damage_at, look_beyond};

use super::{Open, Segments, removed};

/// The error for an LSN in a gap, which ends at an offset: of the segment, or behind it where no file is left.
pub(super) fn passed_over(segments: &impl Segments, open: &Open, lsn: Lsn, end: u64) -> Error {
    let segment = &open.segment;
    let offset = lsn.0 - segment.base;
    let damage = Damage {
        what: "what was here was lost and passed over by a repair".to_owned(),
        found: format!("a gap up to LSN {}", segment.base + end),
        records: Some(0),
        ..if lsn.0 < open.end() { Damage::at(&segment.name, offset, lsn.0) } else { Damage::at("", 0, lsn.0) }
    };
    let (directory, damage) = damage_in(segments, open, damage, end);
    let message = format!(
        "{}: found {}; LSN {lsn}; nothing more is lost and nothing was changed: read on from there; what the repair copied \
         aside is among what `seawall salvage` finds",
        damage.what, damage.found
    );
    Error::damage_told("read", &directory, damage, message)
}

/// The error for a place where a durable frame should be.
#[cold]
pub(super) fn damaged(segments: &(impl Segments + ?Sized), open: &Open, offset: u64) -> Error {
    let segment = &open.segment;
    match segments.taken_away(segment.base) {
        Ok(None) => {}
        Ok(Some(first)) => return removed(segment.base + offset, first),
        Err(e) => return e,
    }
    let found = damage_at(&*segment.file, &open.place, &segment.name, offset);
    let lsn = segment.base + offset;
    let (mut damage, only) = found.unwrap_or_else(|_| (Damage::at(&segment.name, offset, lsn), None));
    damage.lose(damage.next.map_or(open.end(), |next| next.0).saturating_sub(lsn), only);
    let damage = Damage { what: "no valid frame here".to_owned(), ..damage };
    let (directory, damage) = damage_in(segments, open, damage, open.place.limit);
    Error::damage("read", &directory, damage)
}

/// Damage in the open segment, which is seen as far as `seen`, with what is valid beyond, and the directory.
#[cold]
fn damage_in(segments: &(impl Segments + ?Sized), open: &Open, mut damage: Damage, seen: u64) -> (PathBuf, Damage) {
    damage.durable = Lsn(segments.shown());
    // What cannot be read is not counted: it is damage that is to be told.
    _ = look_beyond(&mut damage, &*open.segment.file, &open.place, seen);
    let mut next = segments.after(open.segment.base);
    while let Some(later) = next {
        let first = u64::from(BLOCK);
        match later.sealed() {
            Some(seal) => damage.pass(later.base + first, seal.records),
            None => _ = look_beyond(&mut damage, &*later.file, &later.place(segments.shown()), first),
        }
        next = segments.after(later.base);
    }
    let path = segments.path(&open.segment.name);
    (path.parent().unwrap_or(&path).to_path_buf(), damage)
}
