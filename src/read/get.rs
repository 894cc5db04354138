//! One record by its LSN.

use super::damage::passed_over;
use super::{Found, Open, Records, Segments, kind, removed, too_new};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, FRAME, FrameKind, frame_size};
use crate::lsn::Lsn;
use crate::record::Record;
use crate::scan::Chunk;

/// The record at `lsn`.
pub(crate) fn get(segments: &impl Segments, lsn: Lsn) -> Result<Record> {
    segments.check()?;
    let shown = segments.shown();
    if lsn.0 >= shown {
        let kind = ErrorKind::NotDurable { lsn, durable: Lsn(shown) };
        return Err(Error::new(kind, "get", format!("LSN {lsn} is not durable, all below {shown} is")));
    }
    let Some(segment) = segments.below(lsn.0) else {
        // Whether anything was cleaned away below, reading from the lowest LSN tells.
        return Err(match Records::new(segments, Lsn(1)..) {
            Err(e) if matches!(e.kind(), ErrorKind::Removed { .. }) => removed(lsn.0, segments.first()),
            Err(e) => e,
            Ok(_) => no_record(lsn),
        });
    };
    let offset = lsn.0 - segment.base;
    let chunk = Chunk::one(segment.got());
    let mut open = Open::new(segments, segment, chunk)?;
    if offset < u64::from(BLOCK) || lsn.0 >= open.end() {
        return Err(no_record(lsn));
    }
    let found = if offset.is_multiple_of(4) { open.frame(offset) } else { Ok(None) };
    match found.map_err(|e| open.error(segments, e))? {
        Some(header) => match kind(&header) {
            Some(kind) => open.into_record(Found { lsn: lsn.0, offset, kind, header }),
            None => Err(walk(segments, open, lsn)),
        },
        // Either no frame begins here, or one did: walking from the start of the segment tells.
        None => Err(walk(segments, open, lsn)),
    }
}

/// The checkpoint at `lsn`, which the log tells of: where no record begins there a repair passed it over, and what stands in
/// for its segment lies elsewhere, if anything does.
pub(crate) fn checkpoint(segments: &impl Segments, lsn: Lsn) -> Result<Record> {
    let found = get(segments, lsn);
    let is_lost = matches!(&found, Err(e) if matches!(e.kind(), ErrorKind::NoRecord(_)));
    let Some(segment) = segments.below(lsn.0).filter(|_| is_lost) else { return found };
    let end = segments.after(segment.base).map_or_else(|| segments.shown(), |next| next.base) - segment.base;
    let open = Open::new(segments, segment, Chunk::default())?;
    Err(passed_over(segments, &open, lsn, end))
}

fn no_record(lsn: Lsn) -> Error {
    Error::new(ErrorKind::NoRecord(lsn), "get", format!("no record begins at LSN {lsn}"))
}

impl Open {
    /// The only record that is read of it.
    fn into_record(self, found: Found) -> Result<Record> {
        if self.mapped.is_some() {
            return found.record(&self, |payload| self.share(payload));
        }
        let (from, length) = (found.offset + u64::from(FRAME), found.header.length as usize);
        self.segment.set_got(FRAME as usize + length);
        found.with(self.chunk.keep(from, length))
    }
}

/// Why there is no valid frame at `lsn`.
fn walk(segments: &impl Segments, mut open: Open, lsn: Lsn) -> Error {
    open.chunk = Chunk::default();
    let mut offset = u64::from(BLOCK);
    loop {
        if open.segment.base + offset > lsn.0 {
            return no_record(lsn);
        }
        match open.frame(offset) {
            Ok(Some(header)) => {
                let next = offset + frame_size(u64::from(header.length));
                if header.kind.is_none() {
                    return too_new(segments, &open, offset);
                }
                if header.kind == Some(FrameKind::Gap) && lsn.0 < open.segment.base + next {
                    return passed_over(segments, &open, lsn, next);
                }
                offset = next;
            }
            Ok(None) => match open.last(segments, offset) {
                Ok(header) if header.kind == Some(FrameKind::Gap) => {
                    return passed_over(segments, &open, lsn, offset + frame_size(u64::from(header.length)));
                }
                Ok(_) => return no_record(lsn),
                Err(e) => return e,
            },
            Err(e) => return open.error(segments, e),
        }
    }
}
