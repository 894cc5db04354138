//! The second reading of a source: every frame of a known segment, wherever its bytes lie.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::{ControlFlow, Range};

use crate::error::{Error, Result};
use crate::format::{BLOCK, CAPACITY, FRAME, FrameHeader, FrameKind, frame_size, sum};
use crate::storage::File;

use super::Meter;
use super::image::{CHUNK, Image, read_past};
use super::lives::Lives;
use super::survey::SECTOR;

/// Of more seeds that frames of one source agree on the others are not tried: each is tried at every place that is read
/// from then on, and whoever makes payloads can make many.
const AGREED: usize = 16;

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
                let place = Place { index, source: Source { image, file }, at: at + done as u64, bytes };
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
            if whole.is_none() && !place.source.holds(place.at, place.bytes, &header)? {
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

    /// Takes out of the frames of one image, from the index `first` on, those that are another segment's.
    pub(super) fn sift(&mut self, first: usize, image: &Image, lives: &Lives) {
        let mut frames = self.frames.split_off(first);
        frames.sort_unstable_by_key(|frame| (frame.life, frame.at));
        // A file that is a segment is not the image of a disk: elsewhere in it a check that holds for the offset that another
        // seed makes of it says nothing, as it does for one seed in 64 where segments have 64 MiB.
        let may_be_one = image.is_named() || image.length <= lives.longest;
        let is_segment =
            may_be_one && 2 * frames.iter().filter(|frame| frame.at == u64::from(frame.offset)).count() >= frames.len();
        for (run, is_one) in runs(&frames) {
            let is_own =
                |frame: &&Frame| lives.is_anchored(frame) || !is_segment && is_one && lives.is_below_end(frame);
            self.frames.extend(run.iter().filter(is_own));
        }
    }

    /// The frames of one image, from the index `first` on, that are one of the first so many lives', in their order there. In
    /// a file that is named as a segment those do not count that are another segment's: they are its own, whose seed is
    /// not known yet.
    pub(super) fn known(&self, first: usize, lives: &Lives, told: usize, image: &Image) -> Vec<Frame> {
        let frames = self.frames.get(first..).unwrap_or_default();
        let mut frames: Vec<_> = frames.iter().filter(|frame| (frame.life as usize) < told).copied().collect();
        frames.sort_unstable_by_key(|frame| (frame.life, frame.at));
        let own = runs(&frames).flat_map(|(run, is_one)| {
            run.iter().filter(move |frame| is_one || !image.is_named() || lives.is_anchored(frame))
        });
        let mut known: Vec<_> = own.copied().collect();
        known.sort_unstable_by_key(|frame| frame.at);
        known
    }
}

/// Frames that follow each other in an image, and whether they do so in the segment too: else it is a seed XOR offset that is
/// another segment's. `frames`: in the order of their lives, and in a life of their places in the image.
fn runs(frames: &[Frame]) -> impl Iterator<Item = (&[Frame], bool)> {
    let follows = |a: &Frame, b: &Frame| a.life == b.life && a.at + u64::from(a.end() - a.offset) == b.at;
    // One that begins a sector may be in the next piece of the segment.
    let goes_on = |pair: &[Frame]| match pair {
        [a, b] => a.end() == b.offset || b.at.is_multiple_of(u64::from(SECTOR)),
        _ => true,
    };
    frames.chunk_by(follows).map(move |run| (run, run.windows(2).all(goes_on)))
}

type Head = [u8; FRAME as usize];

/// A place in an image.
struct Place<'a> {
    index: u16,
    source: Source<'a>,
    at: u64,
    /// What was read from there on.
    bytes: &'a [u8],
}

/// An image that is open.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) image: &'a Image,
    pub(super) file: &'a dyn File,
}

impl Source<'_> {
    /// Whether the payload behind the header at a place is the header's. `bytes`: what was read from there on.
    fn holds(&self, at: u64, bytes: &[u8], header: &FrameHeader) -> io::Result<bool> {
        let from = at + u64::from(FRAME);
        let to = from + u64::from(header.length);
        if to > self.image.length {
            return Ok(false);
        }
        let payload = bytes.get(FRAME as usize..).and_then(|rest| rest.get(..header.length as usize));
        let found = match payload {
            Some(payload) if header.length <= BLOCK => sum(payload),
            _ => self.image.sum(self.file, from, to)?,
        };
        Ok(found == header.sum)
    }
}

/// The seed of a segment of which neither the header nor the link is left as it was: that which two frames side by side
/// agree on, each having it by its own place. The segment begins at `begin` and reaches up to `end` at most.
pub(super) fn agreed_seed(source: &Source<'_>, begin: u64, end: u64) -> io::Result<Option<u32>> {
    let mut agreed = None;
    pairs(source, begin..end, &[], |seed, _| {
        agreed = Some(seed);
        ControlFlow::Break(())
    })?;
    Ok(agreed)
}

/// All such seeds of a source that is one segment, and of which these frames are known: another piece of the log may lie in
/// the place of the segment's own. Those that most agree on come first. Of frames that lie there twice, be it at another
/// place, only the seed counts that more agree on.
pub(super) fn agreed_seeds(source: &Source<'_>, known: &[Frame]) -> io::Result<Vec<u32>> {
    let mut told: HashMap<u32, Vec<u32>> = HashMap::new();
    pairs(source, 0..source.image.length, known, |seed, word| {
        told.entry(seed).or_default().push(word);
        ControlFlow::Continue(())
    })?;
    let mut told: Vec<_> = told.into_iter().collect();
    told.sort_unstable_by_key(|(seed, words)| (Reverse(words.len()), *seed));
    let mut met = HashSet::new();
    // All of the words, not up to the first that is new.
    let is_new = |(_, words): &(u32, Vec<u32>)| words.iter().filter(|word| met.insert(**word)).count() > 0;
    Ok(told.into_iter().filter(is_new).map(|(seed, _)| seed).take(AGREED).collect())
}

/// Tells of frames side by side, which are whole but for the second one's payload, what seed they agree on, and the first
/// one's seed XOR offset. What lies in a frame does not count, be it one of those that are known. Frames of more than half
/// a chunk do not count.
fn pairs(
    source: &Source<'_>,
    within: Range<u64>,
    known: &[Frame],
    mut tell: impl FnMut(u32, u32) -> ControlFlow<()>,
) -> io::Result<()> {
    let Range { start: begin, end } = within;
    let mut known = known.iter().map(|frame| (frame.at, frame.at + u64::from(frame.end() - frame.offset))).peekable();
    let mut at = begin + u64::from(BLOCK);
    let mut buf = vec![0; usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(CHUNK)];
    while at < end.min(begin + *CAPACITY.end()) {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let chunk = buf.get_mut(..left.min(CHUNK)).unwrap_or_default();
        read_past(source.file, chunk, at);
        let seed = |from: usize| {
            let frame: &Head = chunk.get(from..)?.first_chunk()?;
            let offset = u32::try_from(at - begin + from as u64).ok()?;
            let header = FrameHeader::unchecked(frame).filter(|header| header.kind.is_some())?;
            let word = FrameHeader::seed_xor_offset(frame);
            Some((word ^ offset, word, header))
        };
        let mut from = 0;
        while from < chunk.len().min(CHUNK / 2) {
            let here = at + from as u64;
            while known.next_if(|(_, to)| *to <= here).is_some() {}
            if let Some((_, to)) = known.peek().filter(|(at, _)| *at <= here) {
                from += usize::try_from(to - here).unwrap_or(CHUNK);
                continue;
            }
            let frame = seed(from).filter(|(.., header)| header.length as usize <= CHUNK / 2);
            let next =
                frame.map(|(.., header)| from + usize::try_from(frame_size(u64::from(header.length))).unwrap_or(CHUNK));
            if let (Some((first, word, header)), Some(next)) = (frame, next)
                && seed(next).is_some_and(|(second, ..)| second == first)
                && source.holds(here, chunk.get(from..).unwrap_or_default(), &header)?
            {
                if tell(first, word).is_break() {
                    return Ok(());
                }
                from = next;
            } else {
                from += 4;
            }
        }
        at += from as u64;
    }
    Ok(())
}
