//! One segment file: made anew or out of a spare, sealed, read, mapped.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::bugs::{Bug, Bugs};
use crate::error::{Error, is_full};
use crate::format::{BLOCK, Header, Seal, segment_name, unfinished_name};
use crate::recovery::{Found, Sealed};
use crate::scan::Place;
use crate::storage::{File, Map, Storage, is_zero, read_head, write_full};
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Zeros written at once.
const CHUNK: usize = 256 << 10;

/// A segment of the log. Whoever reads holds it; a file is recycled only when nobody does.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) base: u64,
    pub(crate) capacity: u64,
    pub(crate) seed: u32,
    pub(crate) file: Box<dyn File>,
    /// Bytes of its file that count towards the bound. A file that somebody else cuts or lengthens counts as it did.
    length: AtomicU64,
    /// Made while the log was opened last. Bytes of an older one may still be held, by this process or another, from
    /// when it was open before: such a file is never written again.
    made: bool,
    seal: OnceLock<Seal>,
    map: Mapped,
    /// Bytes of the frame that was got out of it last: the next is often as long.
    got: AtomicUsize,
}

/// The view of a sealed segment, made at the first read.
#[derive(Default)]
struct Mapped(OnceLock<Box<dyn Map>>);

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "mapped" } else { "not mapped" })
    }
}

/// What a segment is made out of.
#[derive(Debug)]
pub(crate) enum Stock {
    /// A new file; `written`: every block is written once, for overwriting is twice as fast as the first write
    /// into an allocated block.
    New { written: bool },
    /// A file of this life below the durable front.
    Spare(Spare),
}

/// A segment file below the front of which nobody holds bytes.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) file: Box<dyn File>,
    pub(crate) length: u64,
    /// The checksum in its header, which the next one must not repeat.
    pub(crate) seed: Option<u32>,
}

impl Segment {
    /// A segment that recovery found.
    pub(crate) fn found(sealed: Sealed) -> Segment {
        let Sealed { found, seed, capacity, seal } = sealed;
        let seal = OnceLock::from(seal);
        Segment { seal, ..Segment::unsealed(found, seed, capacity) }
    }

    /// One that was found and may still be written.
    pub(crate) fn unsealed(found: Found, seed: u32, capacity: u64) -> Segment {
        let length = found.length.min(capacity);
        Segment { made: false, ..Segment::new(found.name, found.base, capacity, seed, found.file, length) }
    }

    /// Makes the segment `header` out of `stock`: with its final name, a durable header and a durable entry.
    ///
    /// # Errors
    /// Also tells whether the name may have come to be, and its LSNs with it.
    pub(crate) fn make(
        storage: &dyn Storage,
        mut header: Header,
        stock: Stock,
        bugs: Bugs,
    ) -> std::result::Result<Segment, NotMade> {
        let (from, file, old_seed) = prepare(storage, &header, stock, bugs)?;
        let give_up = |operation, e| {
            let error = Error::io(operation, storage.path().join(&from), e);
            give_up(storage, &from, error)
        };
        loop {
            let mut salt = [0; 8];
            storage.random(&mut salt).map_err(|e| give_up("draw a salt for", e))?;
            header.salt = u64::from_le_bytes(salt);
            if old_seed != Some(header.encode().1) {
                break;
            }
        }
        let (bytes, seed) = header.encode();
        let seed = if bugs.has(Bug::StaleFrames) { 0 } else { seed };
        let mut block = vec![0; BLOCK as usize];
        block.splice(..bytes.len(), bytes);
        write_full(&*file, &block, 0).map_err(|e| give_up("write the header of", e))?;
        // Crash: a name vouches for a whole header, so the header is durable before the file gets its name.
        if !bugs.has(Bug::HeaderNotSynced) {
            file.sync().map_err(|e| give_up("sync", e))?;
        }
        let name = segment_name(header.base);
        storage.rename(&from, &name).map_err(|e| {
            // On a full disk it was refused; what failed otherwise may have happened all the same.
            let refused = is_full(&e);
            let not_made = give_up("rename", e);
            NotMade { named: not_made.named || !refused, ..not_made }
        })?;
        // Crash: records go into the segment only once its name is durable, or they would go with it.
        if !bugs.has(Bug::NoDirectorySync) {
            storage.sync_dir().map_err(|e| {
                let failed = Failed::Unsynced(Error::io("sync", storage.path(), e));
                NotMade { failed, named: true, left: None }
            })?;
        }
        let Header { base, capacity, .. } = header;
        Ok(Segment::new(name, base, capacity, seed, file, capacity))
    }

    fn new(name: String, base: u64, capacity: u64, seed: u32, file: Box<dyn File>, length: u64) -> Segment {
        let (seal, map, got) = (OnceLock::new(), Mapped::default(), AtomicUsize::new(0));
        Segment { name, base, capacity, seed, file, length: AtomicU64::new(length), made: true, seal, map, got }
    }

    /// The file as stock for another segment, if nobody can hold bytes of it: the caller is the only one who has the
    /// segment.
    pub(crate) fn into_spare(self) -> Option<Spare> {
        if !self.made || !self.is_as_counted() {
            return None;
        }
        let length = self.length();
        let Segment { name, file, seed, .. } = self;
        Some(Spare { name, file, length, seed: Some(seed) })
    }

    /// Bytes of its file that count.
    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// Whether no hand made its file longer or shorter: otherwise it is not cut, and not used again.
    fn is_as_counted(&self) -> bool {
        self.file.len().is_ok_and(|length| length == self.length())
    }

    /// Bytes of its file above its end, which cutting it gives back: 0 until it is sealed, and where a hand changed it.
    pub(crate) fn excess(&self) -> u64 {
        let end = self.sealed().map_or(self.capacity, |seal| seal.end - self.base);
        if self.is_as_counted() { self.length().saturating_sub(end) } else { 0 }
    }

    /// Cuts its file to where it ended, if it is sealed. Tells how many bytes that gives back.
    pub(crate) fn trim(&self) -> u64 {
        match self.excess() {
            0 => 0,
            excess => self.cut(self.length() - excess),
        }
    }

    /// Cuts its file. Tells how many bytes that gives back.
    pub(crate) fn cut(&self, length: u64) -> u64 {
        if self.file.set_len(length).is_err() {
            return 0;
        }
        self.length.swap(length, Ordering::Relaxed).saturating_sub(length)
    }

    /// Says how it ended. No frame is added afterwards.
    pub(crate) fn seal(&self, seal: Seal) {
        let first = self.seal.set(seal).is_ok();
        debug_assert!(first, "sealed twice");
    }

    /// How it ended, if it did.
    pub(crate) fn sealed(&self) -> Option<&Seal> {
        self.seal.get()
    }

    /// Bytes of the frame that was got last; 0 if none was.
    pub(crate) fn got(&self) -> usize {
        self.got.load(Ordering::Relaxed)
    }

    /// Says how many bytes the frame has that was got.
    pub(crate) fn set_got(&self, bytes: usize) {
        self.got.store(bytes, Ordering::Relaxed);
    }

    /// Where its frames lie, for reading below `end`.
    pub(crate) fn place(&self, end: u64) -> Place {
        let end = self.seal.get().map_or(end, |seal| seal.end.min(end));
        Place { base: self.base, seed: self.seed, limit: end.saturating_sub(self.base).min(self.capacity) }
    }

    /// The bytes of a sealed segment out of its map. The segment, and so the file, lives as long as they do.
    pub(crate) fn bytes(self: &Arc<Self>) -> io::Result<Option<Bytes>> {
        let Some(seal) = self.seal.get() else { return Ok(None) };
        if self.map.0.get().is_none() {
            let length = usize::try_from(seal.end - self.base).map_err(io::Error::other)?;
            let map = self.file.map(length)?;
            _ = self.map.0.set(map);
        }
        Ok(Some(Bytes::from_owner(Held(Arc::clone(self)))))
    }
}

/// Bytes that hold their segment.
struct Held(Arc<Segment>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.map.0.get().map_or(&[], |map| (**map).as_ref())
    }
}

/// Why a segment, or MARK, could not be made.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The file could not be: the disk is full, or refused it. Nothing is lost.
    Refused(Error),
    /// The directory could not be synced.
    Unsynced(Error),
}

/// What is left of a segment that could not be made.
#[derive(Debug)]
pub(crate) struct NotMade {
    pub(crate) failed: Failed,
    /// Whether its name may have come to be, so that its LSNs are spent; or its `.new` is still in the way.
    pub(crate) named: bool,
    /// Its file, if that could not be removed.
    pub(crate) left: Option<String>,
}

/// Gives a file up for good: a sync that failed on it may have lied. If removing fails too, the next open removes a
/// `.new`, and a spare is written anew wherever it is used.
fn give_up(storage: &dyn Storage, name: &str, error: Error) -> NotMade {
    let named = storage.remove(name).is_err();
    NotMade { failed: Failed::Refused(error), named, left: named.then(|| name.to_owned()) }
}

type Prepared = (String, Box<dyn File>, Option<u32>);

/// A file of the right length with all its blocks taken, under a name that recovery does not read.
fn prepare(storage: &dyn Storage, header: &Header, stock: Stock, bugs: Bugs) -> std::result::Result<Prepared, NotMade> {
    let capacity = header.capacity;
    match stock {
        Stock::Spare(Spare { name, file, length, seed }) => {
            let filled = if length < capacity { fill(&*file, length, capacity) } else { file.set_len(capacity) };
            filled.map_err(|e| give_up(storage, &name, Error::io("fill", storage.path().join(&name), e)))?;
            Ok((name, file, seed))
        }
        Stock::New { written } => {
            let name = unfinished_name(header.base);
            let path = storage.path().join(&name);
            if bugs.has(Bug::NewFileReused)
                && let Ok(file) = storage.open(&name, true)
            {
                return Ok((name, file, None));
            }
            let file = storage.create(&name).map_err(|e| {
                // If it was made all the same, the next try finds it.
                let named = e.kind() == io::ErrorKind::AlreadyExists;
                NotMade { failed: Failed::Refused(Error::io("create", &path, e)), named, left: None }
            })?;
            let filled =
                file.allocate(capacity).and_then(|()| if written { fill(&*file, 0, capacity) } else { Ok(()) });
            filled.map_err(|e| give_up(storage, &name, Error::io("allocate", &path, e)))?;
            Ok((name, file, None))
        }
    }
}

/// Whether a file under such a name holds more than zeros, or a header and zeros: then no maker left it. It is a segment
/// that a hand renamed, a repair's that ended early, or not the log's at all.
pub(crate) fn is_filled(storage: &dyn Storage, name: &str) -> io::Result<bool> {
    let file = storage.open(name, false)?;
    let headed = Header::decode(&read_head(&*file)?).is_ok();
    Ok(!is_zero(&*file, if headed { u64::from(BLOCK) } else { 0 })?)
}

/// Writes zeros from `from` to `to`.
fn fill(file: &dyn File, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK];
    while from < to {
        let length = usize::try_from(to - from).unwrap_or(CHUNK).min(CHUNK);
        write_full(file, zeros.get(..length).unwrap_or_default(), from)?;
        from += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    /// Frames of what a file held before would hold in it again.
    #[cfg(feature = "sim")]
    #[test]
    fn a_segment_is_not_made_with_the_seed_that_its_file_had() {
        use super::*;
        use crate::sim::Disk;

        let disk = Disk::new(1);
        disk.put("spare", [0; 16 << 10]);
        // The same is drawn on each: what is made on the first is what the second would make.
        let make = |disk: &Disk, seed| {
            let (storage, name) = (disk.mount(), "spare".to_owned());
            let file = storage.open(&name, true).unwrap();
            let header = Header { compatible: 0, log_id: [1; 16], base: 0, capacity: 16 << 10, salt: 0 };
            let stock = Stock::Spare(Spare { name, file, length: 16 << 10, seed });
            Segment::make(&*storage, header, stock, Bugs::default()).unwrap().seed
        };
        let [first, second, third] = [(); 3].map(|()| disk.fork());
        let seed = make(&first, None);
        assert_eq!(make(&second, Some(!seed)), seed);
        assert_ne!(make(&third, Some(seed)), seed);
    }
}
