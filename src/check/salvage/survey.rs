//! The first reading of a source: its checksums, and at each sector a header, a link or MARK.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::slice;

use crc32fast::Hasher;

use crate::error::{Error, Result};
use crate::format::{
    BLOCK, BadHeader, FRAME, FrameHeader, FrameKind, Header, Link, MARK_LEN, MARK_SLOT, Mark, NO_BASE, sum,
};
use crate::recovery::missing;
use crate::storage::File;

use super::super::repair::JUMP;
use super::Meter;
use super::hunt::{Source, agreed_seed};
use super::image::{CHUNK, Files, Image, read_past};

/// Files of a file system begin at a multiple of this, and so does each of their extents.
pub(super) const SECTOR: u32 = 512;

/// Of more seeds that links tell of one segment the others are not tried: whoever makes payloads can make many.
const TOLD: usize = 64;

/// What tells of segments.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) headers: Vec<SeenHeader>,
    pub(super) links: Vec<SeenLink>,
    /// With the source that is a MARK and nothing else, if it lies in one: not in the image of a disk.
    pub(super) marks: Vec<(Option<u16>, Mark)>,
    /// Headers of a newer version.
    pub(super) too_new: u64,
    /// Bytes that the system refused to read.
    pub(super) refused: u64,
}

#[derive(Debug)]
pub(super) struct SeenHeader {
    pub(super) image: u16,
    pub(super) at: u64,
    pub(super) header: Header,
    pub(super) seed: u32,
}

#[derive(Debug)]
pub(super) struct SeenLink {
    pub(super) image: u16,
    pub(super) at: u64,
    /// Of the segment that it is the first frame of.
    pub(super) seed: u32,
    pub(super) frame: FrameHeader,
    pub(super) link: Link,
}

/// Reads all of a source, whose checksums it leaves there.
pub(super) fn survey(
    index: u16,
    image: &mut Image,
    file: &dyn File,
    seen: &mut Seen,
    meter: &mut Meter<'_>,
) -> Result<()> {
    let block = BLOCK as usize;
    let mut buf = vec![0; CHUNK + block];
    let mut hasher = Hasher::new();
    image.sums.push(0);
    let mut at = 0;
    while at < image.length {
        let left = usize::try_from(image.length - at).unwrap_or(usize::MAX);
        // A link is at most a block long, and may begin in the last sector of the chunk.
        let bytes = buf.get_mut(..left.min(CHUNK + block)).unwrap_or_default();
        let refused = read_past(file, bytes, at);
        let chunk = bytes.get(..left.min(CHUNK)).unwrap_or_default();
        if refused > 0 {
            seen.refused += read_past(file, &mut chunk.to_vec(), at);
        }
        for block in chunk.chunks_exact(block) {
            hasher.update(block);
            image.sums.push(hasher.clone().finalize());
        }
        for from in (0..chunk.len()).step_by(SECTOR as usize) {
            seen.look(index, at + from as u64, bytes.get(from..).unwrap_or_default());
            let mark = bytes.get(from..from + MARK_SLOT).and_then(Mark::decode);
            seen.marks.extend(mark.map(|mark| ((image.length <= MARK_LEN).then_some(index), mark)));
        }
        meter.add(chunk.len() as u64)?;
        at += chunk.len() as u64;
    }
    Ok(())
}

impl Seen {
    fn look(&mut self, image: u16, at: u64, bytes: &[u8]) {
        match Header::decode(bytes) {
            Err(BadHeader::TooNew) => self.too_new += 1,
            Ok((header, seed)) => self.headers.push(SeenHeader { image, at, header, seed }),
            Err(BadHeader::Bad) => {
                if let Some((header, seed)) = Header::mended(bytes) {
                    self.headers.push(SeenHeader { image, at, header, seed });
                }
            }
        }
        let behind = |found: &&SeenHeader| found.image == image && found.at + u64::from(BLOCK) >= at;
        let header = self.headers.iter().rev().take_while(behind).find(|found| found.at + u64::from(BLOCK) == at);
        let Some(own) = bytes.first_chunk() else { return };
        let frame = header.and_then(|header| mended_frame(*own, header.seed));
        if let Some((seed, frame, link)) = link(&frame.unwrap_or(*own), bytes, frame.is_some()) {
            self.links.push(SeenLink { image, at, seed, frame, link });
        }
    }

    /// Gives links their segments' seeds where the frame is damaged, for then its check tells one that no segment has: the
    /// header's before it, or, if that is lost, what another link tells of the segment that the file is named as; or what
    /// the frames behind it agree on. A file that is used again has another's link behind its header, or another's frames
    /// behind its link: so either the frames must agree on what is told, or no more than one byte may be wrong.
    pub(super) fn mend_links(&mut self, images: &[Image]) -> Result<()> {
        let block = u64::from(BLOCK);
        let headers: HashMap<_, _> =
            self.headers.iter().map(|found| ((found.image, found.at + block), found)).collect();
        let mut named: HashMap<u64, Vec<u32>> = HashMap::new();
        for Link { prev_base, prev_seed, .. } in self.links.iter().map(|seen| &seen.link) {
            named.entry(*prev_base).or_default().push(*prev_seed);
        }
        for seeds in named.values_mut() {
            seeds.sort_unstable();
            seeds.dedup();
        }
        let places = self.headers.iter().map(|found| (found.image, found.at));
        let places: BTreeSet<_> = places.chain(self.links.iter().map(|seen| (seen.image, seen.at))).collect();
        let mut files = Files::default();
        for seen in &mut self.links {
            let (Some(begin), Some(image)) = (seen.at.checked_sub(block), images.get(usize::from(seen.image))) else {
                continue;
            };
            let header = headers.get(&(seen.image, seen.at));
            let base = header.map(|found| found.header.base).or(image.base.filter(|_| begin == 0));
            let told = match header {
                Some(found) => slice::from_ref(&found.seed),
                None => base.and_then(|base| named.get(&base)).map_or(&[][..], Vec::as_slice),
            };
            let is_told = |seed: &u32| told.binary_search(seed).is_ok();
            if is_told(&seen.seed) {
                continue;
            }
            // No frames behind what begins next: else one image with many links would be read again for each.
            let next = places.range((Bound::Excluded((seen.image, seen.at)), Bound::Included((seen.image, u64::MAX))));
            let end = next.map(|(_, at)| *at).next().unwrap_or(image.length);
            let bytes = seen.frame.encode(seen.seed, BLOCK);
            let agreed = match files.get(images, seen.image) {
                Err(e) if missing(&e) => continue,
                opened => {
                    let (image, file) = opened?;
                    let agreed = agreed_seed(&Source { image, file }, begin, end);
                    let agreed = agreed.map_err(|e| Error::io("read", &image.path, e))?;
                    // A writer may have begun another segment in the file since: the frames are that one's.
                    let mut now = [0; FRAME as usize];
                    read_past(file, &mut now, seen.at);
                    if now != bytes {
                        continue;
                    }
                    agreed
                }
            };
            if agreed == Some(seen.seed) {
                continue;
            }
            let under = |seed| Some((seed, FrameHeader::decode(&mended_frame(bytes, seed)?, seed, BLOCK)?));
            let fits = |seed: &u32| is_told(seed) && base.is_some_and(|base| seen.link.lies_at(base));
            let known = agreed.filter(fits).map(|seed| (seed, seen.frame));
            if let Some(mended) = agreed.into_iter().chain(told.iter().copied().take(TOLD)).find_map(under).or(known) {
                (seen.seed, seen.frame) = mended;
            }
        }
        Ok(())
    }
}

/// The first frame of a segment with this seed, which holds, or of which one byte is wrong: its check would tell another
/// seed, which no segment has.
fn mended_frame(frame: [u8; FRAME as usize], seed: u32) -> Option<[u8; FRAME as usize]> {
    let holds = FrameHeader::decode(&frame, seed, BLOCK).is_some();
    if holds { Some(frame) } else { FrameHeader::mended(&frame, seed, BLOCK) }
}

/// A payload of which one bit is wrong: its checksum tells which.
fn mended_payload(payload: &[u8], expected: u32) -> Option<Vec<u8>> {
    let mut bytes = payload.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            *bytes.get_mut(at)? ^= 1 << bit;
            if sum(&bytes) == expected {
                return Some(bytes);
            }
            *bytes.get_mut(at)? ^= 1 << bit;
        }
    }
    None
}

/// The link that begins here, whosever it is, and the seed of its segment: each is the frame at the same offset. Where the
/// header before it knows the frame, `is_known`, one bit of the payload may be wrong.
fn link(frame: &[u8; FRAME as usize], bytes: &[u8], is_known: bool) -> Option<(u32, FrameHeader, Link)> {
    let header = FrameHeader::unchecked(frame)?;
    let fits = header.length <= BLOCK - FRAME;
    if header.kind != Some(FrameKind::Link) || header.more || !fits {
        return None;
    }
    let payload = bytes.get(FRAME as usize..)?.get(..header.length as usize)?;
    let link = if sum(payload) == header.sum {
        Link::decode(payload)?
    } else {
        Link::decode(&is_known.then(|| mended_payload(payload, header.sum))??)?
    };
    Some((FrameHeader::seed_xor_offset(frame) ^ BLOCK, header, link))
}

/// The base that the name of a file says, if its link says nothing else: a file may have been renamed, or made ready
/// for its next life, and then the LSNs would be another segment's. `sizes`: what a segment may hold.
pub(super) fn by_name(image: &Image, seen: &SeenLink, sizes: &HashSet<u64>) -> Option<u64> {
    let base = image.base.filter(|_| seen.at == u64::from(BLOCK))?;
    let durable = seen.frame.claim(base.checked_add(u64::from(BLOCK))?);
    let follows = match seen.link.prev_base {
        NO_BASE => base == 0,
        prev if prev < base && seen.link.prev_end <= base => {
            // Rotations that ran ahead of the sync claim less than what they seal, or nothing. Within one life of the
            // log a segment begins where the one before can hold no more.
            let is_next = sizes.contains(&(base - prev));
            // A repair goes on far above all others, and claims all before it.
            let is_repaired = durable == base.checked_add(u64::from(BLOCK)) && base - seen.link.prev_end >= JUMP;
            // When it was framed, nothing above what it seals was durable.
            let is_own = |durable| durable <= seen.link.prev_end && (durable >= prev || is_next);
            is_repaired || durable.map_or(is_next, is_own)
        }
        _ => false,
    };
    follows.then_some(base)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::ops::ControlFlow;

    use super::super::image::images;
    use super::*;
    use crate::Options;
    use crate::format::segment_name;

    /// A link of the life before was given the seed of the segment that was begun in its file between two readings, and all
    /// between the two was told as cut off.
    #[test]
    fn a_link_is_not_mended_by_what_was_written_over_it_since() {
        let log = tempfile::tempdir().unwrap();
        let wal = Options::new().segment_size(16 << 10).open(log.path()).unwrap();
        for _ in 0..3 {
            (0..5).for_each(|n| _ = wal.append(&[n; 300]).unwrap().wait().unwrap());
            wal.rotate().unwrap();
        }
        wal.append(b"newest").unwrap().wait().unwrap();
        let [before, after] = [16 << 10, 32 << 10].map(|base| fs::read(log.path().join(segment_name(base))).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(segment_name(32 << 10));
        let (header, frames) = (after.get(..4096).unwrap(), before.get(4096..).unwrap());
        fs::write(&path, [header, frames].concat()).unwrap();
        let (mut images, mut seen) = (images(&[&path]).unwrap().images, Seen::default());
        let file = images.first().unwrap().open().unwrap();
        survey(0, images.first_mut().unwrap(), &*file, &mut seen, &mut Meter::new(0, &|_| ControlFlow::Continue(())))
            .unwrap();
        fs::write(&path, &after).unwrap();
        seen.mend_links(&images).unwrap();
        let [link] = &*seen.links else { panic!("{seen:?}") };
        assert_eq!(link.seed, Header::decode(&before).unwrap().1);
    }
}
