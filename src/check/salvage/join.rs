//! Records that lie across a break: the file lies in several extents of the image, and the record in two of them.
//!
//! A frame's header tells where the record begins, and the next frame of the segment where it ends, in another extent.
//! The break is at a sector in between, and the payload's checksum says at which.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::{FRAME, FrameHeader};
use crate::recovery::missing;
use crate::storage::read_full;

use super::hunt::{Finds, Frame, batch};
use super::image::{Files, Image, appended};
use super::lives::Lives;
use super::survey::SECTOR;

/// Where a frame goes on in another extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Break {
    /// The offset in the segment.
    pub(super) offset: u32,
    image: u16,
    at: u64,
}

impl Break {
    /// The same extent at a later offset.
    fn on(self, offset: u32) -> Option<Break> {
        Some(Break { offset, at: self.at + u64::from(offset.checked_sub(self.offset)?), ..self })
    }
}

/// Frames that lie across a break, by their places.
pub(super) type Breaks = HashMap<(u32, u32), Break>;

/// The bytes of a frame, or its first bytes.
pub(super) fn frame_bytes(
    images: &[Image],
    files: &mut Files,
    frame: &Frame,
    broken: Option<&Break>,
    length: usize,
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let first = broken.map_or(length, |broken| broken.offset.saturating_sub(frame.offset) as usize).min(length);
    let (head, tail) = bytes.split_at_mut(first);
    let parts = [(frame.image, frame.at, head)].into_iter().chain(broken.map(|b| (b.image, b.at, tail)));
    for (image, at, part) in parts.filter(|(.., part)| !part.is_empty()) {
        let (image, file) = files.get(images, image)?;
        read_full(file, part, at).map_err(|e| Error::io("read", &image.path, e))?;
    }
    Ok(bytes)
}

/// Joins what can be joined. It tries as many places as there are blocks in all sources, eight times over, and no more.
pub(super) fn join(finds: &mut Finds, lives: &Lives, images: &[Image], files: &mut Files) -> Result<Breaks> {
    let order = |frame: &Frame| (frame.place(), frame.image, frame.at);
    finds.frames.sort_unstable_by_key(order);
    finds.torn.sort_unstable_by_key(order);
    let mut joiner = Joiner { finds, images, files, breaks: Breaks::new(), joined: Vec::new(), tries: 1024 };
    joiner.tries += 8 * images.iter().map(|image| image.sums.len()).sum::<usize>();
    joiner.join_torn()?;
    joiner.join_heads(lives)?;
    let Joiner { breaks, joined, .. } = joiner;
    finds.frames.extend(joined);
    Ok(breaks)
}

/// In a file that is gone, for a writer cleaned it, nothing is found.
fn unless_gone<T>(found: Result<Option<T>>) -> Result<Option<T>> {
    match found {
        Err(e) if missing(&e) => Ok(None),
        found => found,
    }
}

struct Joiner<'a> {
    finds: &'a Finds,
    images: &'a [Image],
    files: &'a mut Files,
    breaks: Breaks,
    joined: Vec<Frame>,
    tries: usize,
}

impl Joiner<'_> {
    fn join_torn(&mut self) -> Result<()> {
        // First those that the next frame follows: if places run out, then over frames that are none.
        for is_followed in [true, false] {
            for frame in &self.finds.torn {
                if self.breaks.contains_key(&frame.place()) || self.is_covered(frame) {
                    continue;
                }
                let extents = self.extents(frame.life, frame.end());
                let followed = !extents.is_empty();
                if followed != is_followed {
                    continue;
                }
                let extents = if followed { extents } else { self.beyond(frame.life, frame.end()) };
                for extent in extents {
                    if let Some(found) = unless_gone(self.find_break(frame, extent))? {
                        self.breaks.insert(frame.place(), found);
                        self.joined.push(*frame);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether another frame is whole where this one would lie: a gap is none.
    fn is_covered(&self, frame: &Frame) -> bool {
        let above = self.finds.frames.partition_point(|other| other.place() < frame.place());
        let (below, above) = self.finds.frames.split_at_checked(above).unwrap_or_default();
        let is_other = |other: &&Frame| other.life == frame.life && !other.is_gap();
        let below = below.iter().rev().take_while(|other| other.life == frame.life).find(is_other);
        let mut inside = above.iter().take_while(|other| other.place() < (frame.life, frame.end()));
        below.is_some_and(|below| below.end() > frame.offset) || inside.any(|other| is_other(&other))
    }

    /// The extents in which a frame begins at `offset`.
    fn extents(&self, life: u32, offset: u32) -> Vec<Break> {
        const COPIES: usize = 8;
        let mut extents = Vec::new();
        for frames in [&self.finds.frames, &self.finds.torn] {
            let from = frames.partition_point(|frame| frame.place() < (life, offset));
            let copies = frames.iter().skip(from).take_while(|frame| frame.place() == (life, offset)).take(COPIES);
            extents.extend(copies.map(|frame| Break { offset, image: frame.image, at: frame.at }));
        }
        extents
    }

    /// The extent of the first frame beyond `offset`, which may begin with what lies before it.
    fn beyond(&self, life: u32, offset: u32) -> Vec<Break> {
        let frames = &self.finds.frames;
        let next = frames.get(frames.partition_point(|frame| frame.place() < (life, offset)));
        let next = next.filter(|frame| frame.life == life);
        let extent = next.and_then(|next| {
            let at = next.at.checked_sub(u64::from(next.offset - offset))?;
            Some(Break { offset, image: next.image, at })
        });
        extent.into_iter().collect()
    }

    /// Where a frame breaks off, if it ends where the extent `end` begins to be known.
    fn find_break(&mut self, frame: &Frame, end: Break) -> Result<Option<Break>> {
        let bytes = frame_bytes(self.images, self.files, frame, None, FRAME as usize)?;
        let header = bytes.first_chunk().and_then(FrameHeader::unchecked);
        // A writer may have begun another segment in the file.
        let Some(header) = header.filter(|header| header.length == frame.length) else { return Ok(None) };
        let payload = frame.offset + FRAME;
        let last = payload + header.length;
        let mut offset = payload.next_multiple_of(SECTOR);
        while offset < last && self.tries > 0 {
            self.tries -= 1;
            let back = u64::from(end.offset - offset);
            let broken = end.at.checked_sub(back).map(|at| Break { offset, at, ..end });
            let from = frame.at + u64::from(FRAME);
            let first = (frame.image, from, from + u64::from(offset - payload));
            let second = broken.map(|b| (b.image, b.at, b.at + u64::from(last - offset)));
            if let (Some(broken), Some(second)) = (broken, second)
                && self.sum([first, second])? == Some(header.sum)
            {
                return Ok(Some(broken));
            }
            offset += SECTOR;
        }
        Ok(None)
    }

    /// The checksum of two stretches, if they are there.
    fn sum(&mut self, parts: [(u16, u64, u64); 2]) -> Result<Option<u32>> {
        let mut sum = 0;
        for (index, from, to) in parts {
            let (image, file) = self.files.get(self.images, index)?;
            if to > image.length {
                return Ok(None);
            }
            let part = image.sum(file, from, to).map_err(|e| Error::io("read", &image.path, e))?;
            sum = appended(sum, part, to - from);
        }
        Ok(Some(sum))
    }

    /// Frames whose header itself lies across a break: where one is expected, and the next is known.
    fn join_heads(&mut self, lives: &Lives) -> Result<()> {
        let frames = self.finds.frames.iter().chain(&self.joined).filter(|frame| !frame.is_gap());
        let starts: HashSet<_> = frames.map(Frame::place).collect();
        for before in 0..self.finds.frames.len() + self.joined.len() {
            let (frames, joined) = (&self.finds.frames, &self.joined);
            let Some(frame) = frames.get(before).or_else(|| joined.get(before - frames.len())).copied() else { break };
            let offset = frame.end();
            let left = SECTOR - offset % SECTOR;
            if left >= FRAME || starts.contains(&(frame.life, offset)) {
                continue;
            }
            let Some(life) = lives.all.get(frame.life as usize) else { continue };
            let size = u64::from(offset - frame.offset);
            let from = match self.breaks.get(&frame.place()) {
                Some(broken) => broken.on(offset),
                None => Some(Break { offset, image: frame.image, at: frame.at + size }),
            };
            let next = self.beyond(frame.life, offset + left).first().copied();
            let (Some(from), Some(broken)) = (from, next) else { continue };
            let head = Frame { at: from.at, image: from.image, offset, ..frame };
            let bytes = frame_bytes(self.images, self.files, &head, Some(&broken), FRAME as usize).map(Some);
            let header = unless_gone(bytes)?.and_then(|bytes| FrameHeader::decode(&bytes, life.seed, offset));
            let Some(header) = header else { continue };
            let payload = broken.at + u64::from(FRAME - left);
            let whole = (broken.image, payload, payload + u64::from(header.length));
            if unless_gone(self.sum([(broken.image, payload, payload), whole]))? == Some(header.sum) {
                let is_record = header.is_record();
                let joined =
                    Frame { length: header.length, is_record, batch: batch(&header, life.lsn(offset)), ..head };
                self.breaks.insert(joined.place(), broken);
                self.joined.push(joined);
            }
        }
        Ok(())
    }
}
