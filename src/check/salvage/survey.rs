//! The first reading of a source: its checksums, and at each sector a header, a link or MARK.

use crc32fast::Hasher;

use crate::error::Result;
use crate::format::{BLOCK, BadHeader, FRAME, FrameHeader, FrameKind, Header, Link, MARK_SLOT, Mark, sum};
use crate::storage::File;

use super::Meter;
use super::image::{CHUNK, Image, read_past};

/// Files of a file system begin at a multiple of this, and so does each of their extents.
pub(super) const SECTOR: u32 = 512;

/// What tells of segments.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) headers: Vec<SeenHeader>,
    pub(super) links: Vec<SeenLink>,
    pub(super) marks: Vec<Mark>,
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
                if let Some((header, seed)) = mended(bytes) {
                    self.headers.push(SeenHeader { image, at, header, seed });
                }
            }
        }
        if let Some((seed, frame, link)) = link(bytes) {
            self.links.push(SeenLink { image, at, seed, frame, link });
        }
        self.marks.extend(bytes.get(..MARK_SLOT).and_then(Mark::decode));
    }
}

/// A header of which one bit is wrong: its checksum tells which.
fn mended(bytes: &[u8]) -> Option<(Header, u32)> {
    let (sample, _) = Header { log_id: [0; 16], base: 0, capacity: 0, salt: 0 }.encode();
    let mut bytes: [u8; 72] = bytes.first_chunk().copied()?;
    let same = (0..12).chain(16..32);
    if same.filter(|at| bytes.get(*at) != sample.get(*at)).count() > 1 {
        return None;
    }
    for bit in 0..bytes.len() * 8 {
        let mask = 1 << (bit % 8);
        *bytes.get_mut(bit / 8)? ^= mask;
        if let Ok(found) = Header::decode(&bytes) {
            return Some(found);
        }
        *bytes.get_mut(bit / 8)? ^= mask;
    }
    None
}

/// The link that begins here, whosever it is, and the seed of its segment: each is the frame at the same offset.
fn link(bytes: &[u8]) -> Option<(u32, FrameHeader, Link)> {
    let frame = bytes.first_chunk()?;
    let header = FrameHeader::unchecked(frame)?;
    let fits = header.length <= BLOCK - FRAME;
    if header.kind != Some(FrameKind::Link) || header.more || !fits {
        return None;
    }
    let payload = bytes.get(FRAME as usize..)?.get(..header.length as usize)?;
    let link = Some(payload).filter(|payload| sum(payload) == header.sum).and_then(Link::decode)?;
    Some((FrameHeader::seed_xor_offset(frame) ^ BLOCK, header, link))
}
