//! One segment as a repair writes it anew.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    BLOCK, CAPACITY, FRAME, FrameHeader, FrameKind, Header, Left, Link, MAX_PAYLOAD, frame_size, segment_name, sum,
    unfinished_name, zeros_sum,
};
use crate::storage::{File, Storage, read_full, write_full};

/// A link that a repair writes.
#[derive(Debug)]
pub(super) struct NewLink {
    link: Link,
    /// The highest batch time before it.
    batch_time: u64,
    /// The offset where its frame ends.
    pub(super) end: u64,
}

impl NewLink {
    /// The least offset where one ends.
    pub(super) fn least() -> u64 {
        NewLink::ending(&Link::default())
    }

    fn ending(link: &Link) -> u64 {
        u64::from(BLOCK) + frame_size(link.encode().len() as u64)
    }

    /// One with all the room it takes.
    pub(super) fn new(link: Link, batch_time: u64) -> NewLink {
        NewLink { end: NewLink::ending(&link), link, batch_time }
    }

    /// One that ends at the offset `free`, or before it and leaves room for a gap; `free` is `least` or more.
    pub(super) fn up_to(free: u64, link: Link, batch_time: u64) -> NewLink {
        let mut new = NewLink::new(link, batch_time);
        if new.end > free {
            // Another link will follow.
            let link = Link { cursors: Vec::new(), ..new.link };
            new = NewLink::new(link, batch_time);
        }
        if new.end + u64::from(FRAME) > free {
            new.end = new.end.max(free);
        }
        new
    }

    /// Its payload, with zeros up to its end.
    fn payload(&self) -> Vec<u8> {
        let (mut payload, end) = (self.link.encode(), NewLink::ending(&self.link));
        if self.end > end {
            let room = self.end - u64::from(BLOCK + FRAME);
            payload.resize(usize::try_from(room).unwrap_or_default(), 0);
        }
        payload
    }
}

/// Bytes copied at once.
const CHUNK: u64 = 256 << 10;

/// A segment that is written anew under its name and its seed, so that what is kept stays valid where it lies. It is
/// read-only to the log: its successor says how it ended.
#[derive(Debug)]
pub(super) struct Stand {
    pub(super) name: String,
    /// A name for it that nobody reads.
    pub(super) unfinished: String,
    header: Header,
    pub(super) seed: u32,
    /// The file that the kept bytes come from.
    source: Option<String>,
    pub(super) kept: Vec<Range<u64>>,
    /// What is new: offsets, frame headers, and payloads where they are not zeros.
    frames: Vec<(u64, FrameHeader, Vec<u8>)>,
    length: u64,
    /// What is left in it, unless the log goes on in it.
    pub(super) left: Option<Left>,
    /// Bytes that are passed over.
    pub(super) passed_over: u64,
}

impl Stand {
    /// Without a frame yet.
    pub(super) fn new(header: Header, source: Option<String>, length: u64) -> Stand {
        let (name, unfinished) = (segment_name(header.base), unfinished_name(header.base));
        let (seed, kept, frames) = (header.encode().1, Vec::new(), Vec::new());
        Stand { name, unfinished, header, seed, source, kept, frames, length, left: None, passed_over: 0 }
    }

    /// One that no file was before, with a salt of its own.
    pub(super) fn drawn(storage: &dyn Storage, log_id: [u8; 16], base: u64) -> Result<Stand> {
        let mut salt = [0; 8];
        storage.random(&mut salt).map_err(|e| Error::io("draw a salt for", storage.path(), e))?;
        let (capacity, salt) = (*CAPACITY.start(), u64::from_le_bytes(salt));
        Ok(Stand::new(Header { compatible: 0, log_id, base, capacity, salt }, None, capacity))
    }

    /// The file that the kept bytes come from, if it has another name.
    pub(super) fn lay_elsewhere(&self) -> Option<&String> {
        self.source.as_ref().filter(|source| **source != self.name)
    }

    /// Puts a link at its start and gives the offset past it.
    pub(super) fn add_link(&mut self, link: &NewLink) -> Result<u64> {
        let payload = link.payload();
        let (bytes, sum) = (length(payload.len() as u64)?, sum(&payload));
        let header = FrameHeader::unclaimed(FrameKind::Link, bytes, link.batch_time, sum);
        self.frames.push((u64::from(BLOCK), header, payload));
        Ok(link.end)
    }

    /// Has its frames claim that all before them is durable: readers go by that, where MARK speaks of what was cut off.
    pub(super) fn claim(&mut self) {
        self.frames.iter_mut().for_each(|(_, header, _)| *header = header.claiming());
    }

    /// Fills a gap with frames that say so.
    pub(super) fn pass_over(&mut self, gap: Range<u64>) -> Result<()> {
        let (frame, most) = (u64::from(FRAME), u64::from(FRAME) + MAX_PAYLOAD - 4);
        let mut at = gap.start;
        self.passed_over += gap.end - gap.start;
        while at < gap.end {
            let left = gap.end - at;
            // None is shorter than a frame's header.
            let size = if left > most { most.min(left - frame) } else { left };
            let payload = size.saturating_sub(frame);
            let header = FrameHeader::unclaimed(FrameKind::Gap, length(payload)?, 0, zeros_sum(payload));
            self.frames.push((at, header, Vec::new()));
            at += size;
        }
        Ok(())
    }

    /// Is written under none of the names that are `taken`, and takes one: a segment that a hand renamed may lie there.
    pub(super) fn avoid(&mut self, taken: &mut Vec<String>) {
        let mut names = (self.header.base..).step_by(BLOCK as usize).map(unfinished_name);
        self.unfinished = names.find(|name| !taken.contains(name)).unwrap_or_default();
        taken.push(self.unfinished.clone());
    }

    /// Bytes that are copied to write it.
    pub(super) fn copied(&self) -> u64 {
        self.kept.iter().map(|kept| kept.end - kept.start).sum()
    }

    /// Writes it, durably, under its unfinished name. `progress` is told of the bytes copied.
    pub(super) fn write(&self, storage: &dyn Storage, progress: impl Fn(u64)) -> Result<()> {
        let name = &self.unfinished;
        let io = |e| Error::io("write", storage.path().join(name), e);
        let file = storage.create(name).map_err(io)?;
        file.set_len(self.length).map_err(io)?;
        write_full(&*file, &self.header.encode().0, 0).map_err(io)?;
        if let Some((at, bytes)) = self.left.map(|left| left.encode(self.seed)) {
            write_full(&*file, &bytes, at).map_err(io)?;
        }
        if let Some(source) = &self.source {
            let path = storage.path().join(source);
            let from = storage.open(source, false).map_err(|e| Error::io("open", path, e))?;
            for kept in &self.kept {
                copy(&*from, &*file, kept.clone(), &progress).map_err(io)?;
            }
        }
        for (offset, header, payload) in &self.frames {
            let mut bytes = header.encode(self.seed, length(*offset)?).to_vec();
            bytes.extend_from_slice(payload);
            write_full(&*file, &bytes, *offset).map_err(io)?;
        }
        file.sync().map_err(io)
    }
}

fn length(bytes: u64) -> Result<u32> {
    u32::try_from(bytes).map_err(|_| Error::new(ErrorKind::Invalid, "repair", "no segment is that long"))
}

/// Copies a file whole and durably to a new one. `progress` is told of the bytes copied.
pub(super) fn copy_file(storage: &dyn Storage, from: &str, to: &str, progress: impl Fn(u64)) -> Result<()> {
    let io = |e| Error::io("copy", storage.path().join(from), e);
    let (source, file) = (storage.open(from, false).map_err(io)?, storage.create(to).map_err(io)?);
    let length = source.len().map_err(io)?;
    copy(&*source, &*file, 0..length, progress).and_then(|()| file.sync()).map_err(io)
}

fn copy(from: &dyn File, to: &dyn File, bytes: Range<u64>, progress: impl Fn(u64)) -> std::io::Result<()> {
    let mut at = bytes.start;
    let mut chunk = vec![0; usize::try_from((bytes.end - at).min(CHUNK)).unwrap_or_default()];
    while at < bytes.end {
        let most = usize::try_from(bytes.end - at).unwrap_or(usize::MAX).min(chunk.len());
        let part = chunk.get_mut(..most).unwrap_or_default();
        if read_full(from, part, at)? < most {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        write_full(to, part, at)?;
        at += most as u64;
        progress(most as u64);
    }
    Ok(())
}
