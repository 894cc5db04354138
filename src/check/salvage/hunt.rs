//! The second reading of a source: every frame of a known segment, wherever its bytes lie.

use std::io;

use crate::error::{Error, Result};
use crate::format::{BLOCK, CAPACITY, FRAME, FrameHeader, FrameKind, frame_size, sum};
use crate::storage::File;

use super::Meter;
use super::image::{CHUNK, Image, read_past};
use super::lives::Lives;
use super::survey::SECTOR;

/// A frame that was found. There may be very many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its place in the image.
    pub(super) at: u64,
    pub(super) life: u32,
    /// Its place in the segment.
    pub(super) offset: u32,
    /// Of its payload.
    pub(super) length: u32,
    pub(super) image: u16,
    pub(super) is_record: bool,
    /// What is known of its batch: any of [`MORE`], [`SURE`], [`PART`] and [`GAP`].
    pub(super) batch: u8,
}

/// The batch goes on in the next frame.
pub(super) const MORE: u8 = 1;
/// A batch begins with it, for it claims that all before it was durable.
pub(super) const SURE: u8 = 2;
/// The batch is not whole.
pub(super) const PART: u8 = 4;
/// It is none: a repair passed over what lay there. With [`MORE`] only as far as something of it was found behind.
pub(super) const GAP: u8 = 8;

/// What a frame says of its batch.
pub(super) fn batch(header: &FrameHeader, lsn: u64) -> u8 {
    let is_gap = header.kind == Some(FrameKind::Gap);
    u8::from(header.more) * MORE + u8::from(header.claim(lsn) == Some(lsn)) * SURE + u8::from(is_gap) * GAP
}

impl Frame {
    /// Where it lies, in the order of the log.
    pub(super) fn place(&self) -> (u32, u32) {
        (self.life, self.offset)
    }

    pub(super) fn is_gap(&self) -> bool {
        self.batch & GAP != 0
    }

    /// The offset past it.
    pub(super) fn end(&self) -> u32 {
        let size = frame_size(u64::from(self.length));
        self.offset.saturating_add(u32::try_from(size).unwrap_or(u32::MAX))
    }
}

/// What the sources hold.
#[derive(Debug, Default)]
pub(super) struct Finds {
    pub(super) frames: Vec<Frame>,
    /// Frames whose header holds, and whose payload does not where it should follow.
    pub(super) torn: Vec<Frame>,
    /// Valid frames of a newer version.
    pub(super) too_new: u64,
}

impl Finds {
    /// Tries every place of a source. A frame found is stepped over, so that frames in its payload do not count.
    pub(super) fn hunt(
        &mut self,
        index: u16,
        image: &Image,
        file: &dyn File,
        lives: &mut Lives,
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let io = |e| Error::io("read", &image.path, e);
        let mut buf = vec![0; CHUNK];
        let mut at = 0;
        while at + u64::from(FRAME) <= image.length {
            let left = usize::try_from(image.length - at).unwrap_or(usize::MAX);
            let chunk = buf.get_mut(..left.min(CHUNK)).unwrap_or_default();
            read_past(file, chunk, at);
            let mut done = 0;
            while let Some(bytes) = chunk.get(done..) {
                let Some(frame) = bytes.first_chunk() else { break };
                // Kind 0 is never valid: zeros cost nothing.
                let found = frame[7] & 0x70 != 0;
                let place = Place { index, image, file, at: at + done as u64, bytes };
                let size = if found { self.try_place(&place, frame, lives).map_err(io)? } else { None };
                done += size.unwrap_or(4);
            }
            meter.add((done as u64).min(image.length - at))?;
            at += done as u64;
        }
        meter.add(image.length.saturating_sub(at))
    }

    /// The bytes of the valid frame that begins at a place. It may be one of several segments'.
    fn try_place(&mut self, place: &Place<'_>, bytes: &Head, lives: &mut Lives) -> io::Result<Option<usize>> {
        let word = FrameHeader::seed_xor_offset(bytes);
        let (mut whole, mut claims) = (None, None);
        for (life, known, offset) in lives.candidates(word, place.index, place.at) {
            let Some(header) = FrameHeader::decode(bytes, known.seed, offset) else { continue };
            let size = frame_size(u64::from(header.length));
            if u64::from(offset) + size > known.limit {
                continue;
            }
            let (length, is_record, image) = (header.length, header.is_record(), place.index);
            let batch = batch(&header, known.lsn(offset));
            let frame = Frame { at: place.at, life, offset, length, image, is_record, batch };
            if whole.is_none() && !place.holds(&header)? {
                self.torn.push(frame);
                continue;
            }
            self.too_new += u64::from(whole.is_none() && header.kind.is_none());
            whole = usize::try_from(size).ok();
            self.frames.push(frame);
            if lives.is_anchored(&frame) {
                claims = Some((life, header.claim(known.lsn(offset)).unwrap_or(0)));
            }
        }
        if let Some((life, claim)) = claims
            && let Some(life) = lives.all.get_mut(life as usize)
        {
            life.claim = life.claim.max(claim);
        }
        Ok(whole)
    }

    /// Takes out of the frames of one source, from the index `first` on, those that are another segment's.
    pub(super) fn sift(&mut self, first: usize, lives: &Lives) {
        let mut frames = self.frames.split_off(first);
        frames.sort_unstable_by_key(|frame| (frame.life, frame.at));
        // A file that is a segment is not the image of a disk.
        let is_segment = 2 * frames.iter().filter(|frame| frame.at == u64::from(frame.offset)).count() >= frames.len();
        let follows = |a: &Frame, b: &Frame| a.life == b.life && a.at + u64::from(a.end() - a.offset) == b.at;
        // Side by side in the image and not in the segment: a seed XOR offset that is another segment's.
        let jumps = |pair: &[Frame]| match pair {
            [a, b] => a.end() != b.offset && !b.at.is_multiple_of(u64::from(SECTOR)),
            _ => false,
        };
        for run in frames.chunk_by(follows) {
            let is_false = is_segment || run.windows(2).any(jumps);
            self.frames
                .extend(run.iter().filter(|frame| lives.is_anchored(frame) || !is_false && lives.is_below_end(frame)));
        }
    }
}

type Head = [u8; FRAME as usize];

/// A place in an image.
struct Place<'a> {
    index: u16,
    image: &'a Image,
    file: &'a dyn File,
    at: u64,
    /// What was read from there on.
    bytes: &'a [u8],
}

impl Place<'_> {
    /// Whether the payload that follows is the header's.
    fn holds(&self, header: &FrameHeader) -> io::Result<bool> {
        let from = self.at + u64::from(FRAME);
        let to = from + u64::from(header.length);
        if to > self.image.length {
            return Ok(false);
        }
        let payload = self.bytes.get(FRAME as usize..).and_then(|rest| rest.get(..header.length as usize));
        let found = match payload {
            Some(payload) if header.length <= BLOCK => sum(payload),
            _ => self.image.sum(self.file, from, to)?,
        };
        Ok(found == header.sum)
    }
}

/// The seed of a segment of which neither the header nor the link is left as it was: that which two frames side by side
/// agree on, each having it by its own place. The segment begins at `begin` and reaches up to `end` at most. Frames of
/// more than half a chunk do not count.
pub(super) fn agreed_seed(file: &dyn File, begin: u64, end: u64) -> Option<u32> {
    let head = FRAME as usize;
    let mut at = begin + u64::from(BLOCK);
    let mut buf = vec![0; usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(CHUNK)];
    while at < end.min(begin + *CAPACITY.end()) {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let chunk = buf.get_mut(..left.min(CHUNK)).unwrap_or_default();
        read_past(file, chunk, at);
        let seed = |from: usize| {
            let frame: &Head = chunk.get(from..)?.first_chunk()?;
            let offset = u32::try_from(at - begin + from as u64).ok()?;
            let header = FrameHeader::unchecked(frame)?;
            header.kind.is_some().then(|| (FrameHeader::seed_xor_offset(frame) ^ offset, header))
        };
        for from in (0..chunk.len().min(CHUNK / 2)).step_by(4) {
            let Some((first, header)) = seed(from).filter(|(_, header)| header.length as usize <= CHUNK / 2) else {
                continue;
            };
            let Some(payload) = chunk.get(from + head..from + head + header.length as usize) else { continue };
            let next = from + head + payload.len().next_multiple_of(4);
            if seed(next).is_some_and(|(second, _)| second == first) && sum(payload) == header.sum {
                return Some(first);
            }
        }
        at += CHUNK as u64 / 2;
    }
    None
}
