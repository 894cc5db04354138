//! The bytes of one segment, frame by frame, going on behind every damaged place.

use std::io;

use bytes::Bytes;

use crate::bugs::Bugs;
use crate::format::{BLOCK, FRAME, FrameHeader, FrameKind, Link, frame_size};
use crate::scan::{Bad, Begun, Chunk, Place, Source, Summary, Window, bad, frame_at, next_frame};
use crate::storage::File;

use super::plan::Part;

/// Bytes between two reports of progress.
const STRIDE: u64 = 1 << 20;

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Stretch {
    /// And whether the beginning of its batch is lost, for all that is known.
    Frame(u64, FrameHeader, bool),
    Hole(Hole),
    /// A valid frame of a newer version.
    TooNew(u64, FrameHeader),
}

/// A stretch without a valid frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Hole {
    pub(super) from: u64,
    /// Where the next valid frame is, or where the segment ends.
    pub(super) to: u64,
    /// Whether a valid frame lies at `to`.
    pub(super) followed: bool,
    /// Frames whose headers hold lie at its start: where the last of them ends, and how many records they are.
    pub(super) spoiled: Option<(u64, u64)>,
    /// Where the batch begins that is not whole.
    pub(super) batch: u64,
    /// How many records were here, where the frames' headers still tell.
    pub(super) records: Option<u64>,
    /// Whether a note of a cursor may have been here.
    pub(super) notes: bool,
    /// The offset of the last checkpoint that was here, where its header still tells.
    pub(super) checkpoint: Option<u64>,
    pub(super) what: String,
    /// Whether it is nothing but zeros, up to the segment's end, behind a whole batch.
    pub(super) unwritten: bool,
    /// Valid records in whole batches before it, and the bytes of their frames.
    pub(super) before: (u64, u64),
    /// Valid records beyond it.
    pub(super) beyond: u64,
    /// Valid records that go with it if it is passed over: before it in its batch, and behind it if the beginning of theirs
    /// is lost.
    pub(super) dropped: u64,
}

impl Hole {
    /// Whether it is the end of a segment, behind a whole batch, and no frame is seen to begin there.
    pub(super) fn is_free(&self) -> bool {
        !self.followed && self.spoiled.is_none() && self.batch == self.from
    }

    /// Whether, of such, there is room for a frame's header, which would hold, or nothing but zeros.
    pub(super) fn holds_no_frame(&self) -> bool {
        self.unwritten || self.to - self.from >= u64::from(FRAME)
    }
}

/// Goes over one segment.
#[derive(Debug)]
pub(super) struct Walk {
    place: Place,
    /// The offset where the segment ends, or at most can end: `sealed` tells which.
    end: u64,
    sealed: bool,
    offset: u64,
    batch: u64,
    begun: Begun,
    /// Up to which offset was told.
    told: u64,
    chunk: Chunk,
}

impl Walk {
    /// `end`: where the log says that the segment ended, if it says so.
    pub(super) fn new(place: &Place, end: Option<u64>) -> Walk {
        let first = u64::from(BLOCK);
        let limit = end.map_or(place.limit, |end| end.min(place.limit));
        let place = Place { limit, ..*place };
        let (sealed, end, chunk) = (end.is_some(), end.unwrap_or(limit), Chunk::default());
        Walk { place, end, sealed, offset: first, batch: first, begun: Begun::default(), told: first, chunk }
    }

    /// Tells of the bytes that were passed since it last did, where they are many; whether to go on.
    pub(super) fn tell(&mut self, progress: &mut impl FnMut(u64) -> bool) -> bool {
        let passed = self.offset - self.told;
        if passed < STRIDE {
            return true;
        }
        self.told = self.offset;
        progress(passed)
    }

    /// What comes next; `None` at the end.
    #[inline(always)]
    pub(super) fn next(&mut self, file: &dyn File) -> io::Result<Option<Stretch>> {
        let (place, offset) = (&self.place, self.offset);
        if offset >= self.end {
            return Ok(self.open_batch());
        }
        let mut window = Window::new(file, place.limit, &mut self.chunk);
        let Some(header) = frame_at(&mut window, place, offset, Bugs::default())? else {
            return self.hole(file).map(|hole| Some(Stretch::Hole(hole)));
        };
        if header.kind.is_none() {
            (self.offset, self.batch) = (self.end, self.end);
            return Ok(Some(Stretch::TooNew(offset, header)));
        }
        if header.kind == Some(FrameKind::Link) && offset == u64::from(BLOCK) {
            // One that is none is as good as damaged, for opening and for a repair.
            let payload = window.bytes(offset + u64::from(FRAME), header.length as usize)?;
            if !payload.and_then(Link::decode).is_some_and(|link| link.lies_at(place.base)) {
                return self.hole(file).map(|hole| Some(Stretch::Hole(hole)));
            }
        }
        self.offset += frame_size(u64::from(header.length));
        if !header.more {
            self.batch = self.offset;
        }
        let lost = self.begun.is_lost(&header, place.base + offset);
        Ok(Some(Stretch::Frame(offset, header, lost)))
    }

    /// Whether the batch that goes on behind the frame that `next` gave is whole up to its end.
    pub(super) fn ends_whole(&mut self, file: &dyn File) -> io::Result<bool> {
        let (place, mut offset) = (&self.place, self.offset);
        let mut window = Window::new(file, place.limit, &mut self.chunk);
        while offset < self.end {
            let Some(header) = frame_at(&mut window, place, offset, Bugs::default())? else { return Ok(false) };
            if !header.more {
                return Ok(true);
            }
            offset += frame_size(u64::from(header.length));
        }
        Ok(false)
    }

    /// The payload of the frame that `next` gave.
    pub(super) fn payload(&mut self, file: &dyn File, offset: u64, header: &FrameHeader) -> io::Result<Bytes> {
        let mut window = Window::new(file, self.place.limit, &mut self.chunk);
        let payload = window.bytes(offset + u64::from(FRAME), header.length as usize)?;
        Ok(Bytes::copy_from_slice(payload.ok_or(io::ErrorKind::UnexpectedEof)?))
    }

    /// At the end of the segment: a batch whose last frame is not there.
    fn open_batch(&mut self) -> Option<Stretch> {
        let (batch, from) = (self.batch, self.offset);
        self.batch = from;
        (batch < from).then(|| {
            let what = "the segment ends inside a batch".to_owned();
            Stretch::Hole(Hole { from, to: from, batch, what, ..Hole::default() })
        })
    }

    /// The stretch from here to the next valid frame.
    fn hole(&mut self, file: &dyn File) -> io::Result<Hole> {
        let (place, from) = (&self.place, self.offset);
        let mut window = Window::new(file, place.limit, &mut self.chunk);
        let Bad { found: mut what, header, mended, zeros } = bad(&mut window, place, from)?;
        if let Some(header) = &header {
            what = format!("payload with {what}, batch time {}", header.batch_time);
        }
        // Of frames whose headers hold, and only the payloads do not, is known how many they are and what comes behind.
        let (mut end, mut records, mut notes, mut more, mut damaged) = (from, 0, false, false, header.or(mended));
        let mut checkpoint = None;
        while let Some(header) = damaged {
            checkpoint = Some(end).filter(|_| header.kind == Some(FrameKind::Checkpoint)).or(checkpoint);
            end += frame_size(u64::from(header.length));
            records += u64::from(header.is_record());
            notes |= !header.is_record();
            more = header.more;
            let is_valid = end >= self.end || frame_at(&mut window, place, end, Bugs::default())?.is_some();
            damaged = if is_valid { None } else { bad(&mut window, place, end)?.header };
        }
        let known = (end > from).then_some((end, records));
        let spoiled = known.filter(|_| header.is_some());
        let search = if end > from { end } else { from + 4 };
        let next = next_frame(&mut window, place, search, Bugs::default())?.map(|(offset, _)| offset);
        let (to, batch) = (next.unwrap_or(self.end), self.batch);
        (self.offset, self.batch) = (to, to);
        // Where the file ends the segment need not have ended: it may have been cut.
        let only_it = known.filter(|(end, _)| *end == to && (next.is_some() || self.sealed));
        let notes = notes || only_it.is_none();
        let records = only_it.map(|(_, records)| records);
        self.begun = Begun::behind(from, to, only_it.map(|_| more));
        let followed = next.is_some();
        let unwritten = !followed && batch == from && zeros == to - from;
        Ok(Hole { from, to, followed, spoiled, batch, records, notes, checkpoint, what, unwritten, ..Hole::default() })
    }
}

/// What one segment holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Walked {
    /// Valid records and notes of cursors, and the bytes of all valid frames but gaps.
    pub(super) found: Summary,
    pub(super) bytes: u64,
    /// Where an earlier repair passed over what was lost: from which offset, and how many bytes.
    pub(super) gaps: Vec<(u64, u64)>,
    /// The highest claim.
    pub(super) claim: u64,
    /// The highest batch time of a batch that ends in it.
    pub(super) batch_time: u64,
    /// The offset past the last valid frame.
    pub(super) end: u64,
    pub(super) holes: Vec<Hole>,
    pub(super) too_new: Option<u64>,
}

impl Walked {
    /// How many records the segment held up to the last valid one, if that can be told.
    pub(super) fn held(&self) -> Option<u64> {
        let between = self.holes.iter().filter(|hole| hole.followed);
        between.map(|hole| hole.records).sum::<Option<u64>>().map(|lost| lost + self.found.records)
    }

    /// Whether there is nothing in it but whole batches, up to `end`, where the log says that it ended, or up to where no
    /// further frame begins.
    pub(super) fn is_whole(&self, end: Option<u64>) -> bool {
        let whole = match (self.holes.as_slice(), end) {
            ([], _) => end.is_none_or(|end| end == self.end),
            ([hole], None) => !hole.followed && hole.batch == hole.from,
            _ => false,
        };
        whole && self.too_new.is_none()
    }

    /// Says of the one hole whose header does not tell how many records it held, if there is only one. `part`: the segment.
    pub(super) fn attribute(mut self, part: &Part) -> Walked {
        let known: u64 = self.holes.iter().filter_map(|hole| hole.records).sum();
        // Of one in which the log ends a repair that a crash ended passed over the rest: it told that, and nothing else does.
        let expected = part.records(!self.gaps.is_empty()).filter(|_| part.seal.is_some() || part.left.is_none());
        let lost = expected.map(|expected| expected.saturating_sub(self.found.records + known));
        let mut unknown = self.holes.iter_mut().filter(|hole| hole.records.is_none());
        if let (Some(hole), None) = (unknown.next(), unknown.next()) {
            hole.records = lost;
        }
        self
    }
}

/// Reads all of a segment, or until `progress`, which is told of the bytes passed, ends it.
pub(super) fn walk(
    file: &dyn File,
    place: &Place,
    end: Option<u64>,
    mut progress: impl FnMut(u64) -> bool,
) -> io::Result<Walked> {
    let mut walk = Walk::new(place, end);
    let mut walked = Walked { end: u64::from(BLOCK), ..Walked::default() };
    // Valid records in whole batches and the bytes of their frames, and valid records since.
    let (mut whole, mut open) = ((0, 0), 0);
    while let Some(step) = walk.next(file)? {
        match step {
            // Not by copy: it would be read wider than it was just written, which waits.
            Stretch::Frame(offset, ref header, lost) => {
                if let Some(kind) = header.kind {
                    walked.found.add(kind, 1, header.batch_time, place.base + offset);
                }
                let size = frame_size(u64::from(header.length));
                match header.kind {
                    Some(FrameKind::Gap) => walked.gaps.push((offset, size)),
                    _ => walked.bytes += size,
                }
                if header.kind == Some(FrameKind::CursorNote) {
                    walked.found.note(&walk.payload(file, offset, header)?);
                }
                walked.claim = walked.claim.max(header.claim(place.base + offset).unwrap_or(0));
                walked.end = walk.offset;
                match walked.holes.last_mut().filter(|_| lost) {
                    Some(hole) => hole.dropped += u64::from(header.is_record()),
                    None => open += u64::from(header.is_record()),
                }
                if !header.more {
                    open = 0;
                    walked.batch_time = walked.batch_time.max(header.batch_time);
                    whole = (walked.found.records, walked.bytes);
                }
            }
            Stretch::Hole(hole) => {
                // Beyond, for now: how many records lie before.
                let dropped = std::mem::take(&mut open);
                walked.holes.push(Hole { before: whole, beyond: walked.found.records, dropped, ..hole });
                whole = (walked.found.records, walked.bytes);
            }
            Stretch::TooNew(offset, header) => {
                // It claims as any frame does.
                walked.claim = walked.claim.max(header.claim(place.base + offset).unwrap_or(0));
                walked.too_new = Some(offset);
            }
        }
        if !walk.tell(&mut progress) {
            return Ok(walked);
        }
    }
    for hole in &mut walked.holes {
        hole.beyond = walked.found.records - hole.beyond;
    }
    Ok(walked)
}
