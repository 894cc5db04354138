//! What a repair keeps of one segment: its whole batches.

use std::io;
use std::ops::Range;

use crate::format::{BLOCK, FRAME, FrameKind, Link, frame_size};
use crate::scan::{Place, Summary};
use crate::storage::File;

use super::walk::{Stretch, Walk};

/// What is kept at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Batches that begin below this offset go.
    pub(super) from: u64,
    /// Batches that reach above this LSN go, and what follows them.
    pub(super) cut: u64,
    /// A hole at or above this LSN is a torn tail: the log ends there.
    pub(super) certain: u64,
}

impl Bounds {
    /// All that is whole is kept.
    pub(super) const NONE: Bounds = Bounds { from: 0, cut: u64::MAX, certain: u64::MAX };
}

/// What is kept of a segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sifted {
    /// Offsets of the bytes kept, in order, without those between.
    pub(super) kept: Vec<Range<u64>>,
    /// How many of these are gaps, which hold nothing.
    pub(super) blank: u64,
    /// The offset where the segment ends, kept or not.
    pub(super) end: u64,
    /// Whether the log ends here too, whatever follows.
    pub(super) last: bool,
    /// Whether it does by the cut, which valid frames lie behind.
    pub(super) cut: bool,
    pub(super) link: Option<Link>,
    pub(super) whole: Summary,
    /// The highest batch time.
    pub(super) batch_time: u64,
}

impl Sifted {
    /// Nothing is left of a segment that ended at `end`.
    pub(super) fn nothing(end: u64) -> Sifted {
        Sifted { end, ..Sifted::default() }
    }

    /// What lies between the bytes kept.
    pub(super) fn gaps(&self) -> impl Iterator<Item = Range<u64>> {
        let starts = std::iter::once(u64::from(BLOCK)).chain(self.kept.iter().map(|kept| kept.end));
        let ends = self.kept.iter().map(|kept| kept.start).chain(std::iter::once(self.end));
        starts.zip(ends).map(|(start, end)| start..end).filter(|gap| !gap.is_empty())
    }

    /// Something behind its link is lost: what lies behind the last batch, up to `full`, where it could reach, if nothing
    /// else is. `linked`: the offset where its link ends, if that is new.
    pub(super) fn lose_the_rest(&mut self, full: u64, linked: u64) {
        let whole = self.gaps().all(|gap| gap.end <= linked);
        if let Some(end) = Some(full).filter(|end| whole && *end >= self.end + u64::from(FRAME)) {
            self.end = end;
        }
    }

    fn keep(&mut self, bytes: Range<u64>) {
        match self.kept.last_mut() {
            Some(last) if last.end == bytes.start => last.end = bytes.end,
            _ => self.kept.push(bytes),
        }
    }
}

/// Reads a segment. `end`: where the log says that it ended, if it says so; otherwise it ends with its last batch.
///
/// Of a batch that is not whole nothing is kept. Behind a frame whose header is lost nobody can tell whether a batch
/// goes on, unless what follows claims that everything before it was durable: a batch is framed at once.
///
/// `None` for a frame of a newer version. What is given is of no use if `progress`, which is told of the bytes passed, ended it.
pub(super) fn sift(
    file: &dyn File,
    place: &Place,
    end: Option<u64>,
    bounds: Bounds,
    mut progress: impl FnMut(u64) -> bool,
) -> io::Result<Option<Sifted>> {
    let mut walk = Walk::new(place, end);
    let mut sifted = Sifted::default();
    let (mut batch, mut open) = (u64::from(BLOCK), Summary::default());
    while let Some(step) = walk.next(file)? {
        if !walk.tell(&mut progress) {
            break;
        }
        match step {
            Stretch::Frame(offset, header, lost) => {
                let (lsn, next) = (place.base + offset, offset + frame_size(u64::from(header.length)));
                if place.base + next > bounds.cut {
                    (sifted.last, sifted.cut) = (true, true);
                    break;
                }
                if let Some(kind) = header.kind {
                    open.add(kind, 1, header.batch_time, lsn);
                }
                match header.kind {
                    Some(FrameKind::Link) if offset == u64::from(BLOCK) => {
                        sifted.link = Link::decode(&walk.payload(file, offset, &header)?);
                    }
                    Some(FrameKind::CursorNote) => {
                        open.note(&walk.payload(file, offset, &header)?);
                    }
                    _ => {}
                }
                if header.more {
                    continue;
                }
                let whole = std::mem::take(&mut open);
                if !lost && batch >= bounds.from {
                    sifted.keep(batch..next);
                    sifted.blank += if header.kind == Some(FrameKind::Gap) { next - offset } else { 0 };
                    sifted.whole.merge(whole);
                    sifted.batch_time = sifted.batch_time.max(header.batch_time);
                }
                batch = next;
            }
            Stretch::Hole(hole) if place.base + hole.batch >= bounds.certain || place.base + hole.to > bounds.cut => {
                sifted.last = true;
                sifted.cut = hole.followed && place.base + hole.batch < bounds.certain;
                break;
            }
            Stretch::Hole(hole) if end.is_none() && !hole.followed => break,
            Stretch::Hole(hole) => (batch, open) = (hole.to, Summary::default()),
            Stretch::TooNew(..) => return Ok(None),
        }
    }
    sifted.end = match end {
        Some(end) if !sifted.last => end,
        _ => sifted.kept.last().map_or(u64::from(BLOCK), |kept| kept.end),
    };
    Ok(Some(sifted))
}
