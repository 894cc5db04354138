//! The bytes of one source, whatever they are, and the checksum of any stretch of them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, base_in, segment_name, was_unfinished};
use crate::storage::{File, Fs, Storage, open_any, read_full};

/// Bytes read at once.
pub(super) const CHUNK: usize = 256 << 10;

/// A file or device to be salvaged from.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) path: PathBuf,
    pub(super) length: u64,
    /// The base that its name says.
    pub(super) base: Option<u64>,
    /// The CRC-32 of all before each block. So the checksum of any stretch costs two blocks, however long it is: the
    /// length of a frame that is none may be anything.
    pub(super) sums: Vec<u32>,
}

impl Image {
    /// Whether it has the name that a segment of a log has.
    pub(super) fn is_named(&self) -> bool {
        self.base.is_some_and(|base| self.path.file_name().is_some_and(|name| name == segment_name(base).as_str()))
    }

    /// Whether its name says that the segment in it was never done: where the log ended, and what was cut off, its link does
    /// not tell.
    pub(super) fn was_unfinished(&self) -> bool {
        self.path.file_name().and_then(|name| name.to_str()).is_some_and(was_unfinished)
    }

    pub(super) fn open(&self) -> Result<Box<dyn File>> {
        open_any(&self.path).map(|(file, _)| file).map_err(|e| Error::io("open", &self.path, e))
    }

    /// CRC-32 of the bytes from `from` up to `to`.
    pub(super) fn sum(&self, file: &dyn File, from: u64, to: u64) -> io::Result<u32> {
        Ok(appended(self.sum_before(file, from)?, 0, to - from) ^ self.sum_before(file, to)?)
    }

    fn sum_before(&self, file: &dyn File, at: u64) -> io::Result<u32> {
        let (block, rest) = (at / u64::from(BLOCK), at % u64::from(BLOCK));
        let before = usize::try_from(block).ok().and_then(|block| self.sums.get(block));
        let mut hasher = Hasher::new_with_initial(*before.ok_or(io::ErrorKind::UnexpectedEof)?);
        let mut bytes = [0; BLOCK as usize];
        let bytes = bytes.get_mut(..usize::try_from(rest).unwrap_or_default()).unwrap_or_default();
        read_past(file, bytes, at - rest);
        hasher.update(bytes);
        Ok(hasher.finalize())
    }
}

/// CRC-32 of bytes with the checksum `first` and `length` bytes with the checksum `second` behind them.
pub(super) fn appended(first: u32, second: u32, length: u64) -> u32 {
    let mut hasher = Hasher::new_with_initial(first);
    hasher.combine(&Hasher::new_with_initial_len(second, length));
    hasher.finalize()
}

/// Reads on past what the system refuses, or is not there any more: zeros stand there, over which no checksum holds but
/// by being right. Tells how many bytes were refused.
pub(super) fn read_past(file: &dyn File, buf: &mut [u8], at: u64) -> u64 {
    if read_full(file, buf, at).is_ok_and(|read| read == buf.len()) {
        return 0;
    }
    let (mut refused, mut at) = (0, at);
    for piece in buf.chunks_mut(BLOCK as usize) {
        let read = read_full(file, piece, at);
        refused += if read.is_err() { piece.len() as u64 } else { 0 };
        piece.iter_mut().skip(read.unwrap_or(0)).for_each(|byte| *byte = 0);
        at += piece.len() as u64;
    }
    refused
}

/// The sources, and what was passed over.
#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) images: Vec<Image>,
    pub(super) notes: Vec<String>,
    /// Files and directories that the system does not open.
    pub(super) refused: u64,
}

/// All files of the directories and the other sources as they are.
pub(super) fn images(sources: &[impl AsRef<Path>]) -> Result<Images> {
    let (mut paths, mut all) = (Vec::new(), Images::default());
    for source in sources {
        let source = source.as_ref();
        match Fs::new(source).list() {
            Ok(mut names) => {
                names.sort();
                for (name, is_file) in names {
                    let path = source.join(name);
                    if is_file {
                        paths.push(path);
                    } else {
                        all.notes.push(format!("{} is no plain file, and was passed over", path.display()));
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => paths.push(source.to_path_buf()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::io("list", source, e)),
            Err(e) => all.refuse(source, &e),
        }
    }
    if u16::try_from(paths.len()).is_err() {
        let message = format!("{} files at once; at most {} are possible", paths.len(), u16::MAX);
        return Err(Error::new(ErrorKind::Invalid, "salvage", message));
    }
    for path in paths {
        match open_any(&path) {
            Ok((_, length)) => {
                let base = path.file_name().and_then(|name| base_in(name.to_str()?));
                all.images.push(Image { path, length, base, sums: Vec::new() });
            }
            // A writer cleaned it, and then nothing is missing, or it will be seen to be.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !sources.iter().any(|own| own.as_ref() == path) => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Err(Error::io("open", &path, e)),
            Err(e) => all.refuse(&path, &e),
        }
    }
    Ok(all)
}

impl Images {
    fn refuse(&mut self, path: &Path, error: &io::Error) {
        self.refused += 1;
        self.notes.push(format!("{} cannot be read, and was passed over: {error}", path.display()));
    }
}

/// Open files, a few at a time: a process may not open as many as a log has.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<u16, Box<dyn File>>);

impl Files {
    const OPEN: usize = 32;

    pub(super) fn get<'a>(&'a mut self, images: &'a [Image], index: u16) -> Result<(&'a Image, &'a dyn File)> {
        let gone = || Error::new(ErrorKind::Invalid, "salvage", "no such source");
        let image = images.get(usize::from(index)).ok_or_else(gone)?;
        if !self.0.contains_key(&index) {
            if self.0.len() >= Files::OPEN {
                self.0.clear();
            }
            self.0.insert(index, image.open()?);
        }
        let file = self.0.get(&index).ok_or_else(gone)?;
        Ok((image, &**file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Map;

    /// A disk of counted bytes that refuses one block.
    #[derive(Debug)]
    struct Dying;

    const LENGTH: u64 = 40_000;
    const REFUSED: std::ops::Range<u64> = 8192..12_288;

    fn byte(at: u64) -> u8 {
        u8::try_from(at * 7 % 251).unwrap()
    }

    impl File for Dying {
        fn len(&self) -> io::Result<u64> {
            Ok(LENGTH)
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let end = (offset + buf.len() as u64).min(LENGTH);
            if offset < REFUSED.end && end > REFUSED.start {
                return Err(io::Error::other("the medium is bad"));
            }
            buf.iter_mut().zip(offset..end).for_each(|(to, at)| *to = byte(at));
            Ok(usize::try_from(end.saturating_sub(offset)).unwrap())
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            unreachable!()
        }

        fn sync(&self) -> io::Result<()> {
            unreachable!()
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            unreachable!()
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            unreachable!()
        }

        fn map(&self, _: usize) -> io::Result<Box<dyn Map>> {
            unreachable!()
        }
    }

    #[test]
    fn what_a_dying_disk_refuses_is_counted_and_the_rest_is_read() {
        let mut image = Image { path: PathBuf::new(), length: LENGTH, base: None, sums: Vec::new() };
        let mut seen = super::super::survey::Seen::default();
        let mut meter = super::super::Meter::new(LENGTH, &|_| std::ops::ControlFlow::Continue(()));
        super::super::survey::survey(0, &mut image, &Dying, &mut seen, &mut meter).unwrap();
        assert_eq!(seen.refused, 4096);
        let bytes: Vec<u8> = (0..LENGTH).map(|at| if REFUSED.contains(&at) { 0 } else { byte(at) }).collect();
        for (from, to) in [(0, 0), (0, LENGTH), (1, 4096), (4096, 8192), (5000, 33_333), (20_000, 20_001), (9000, 9001)]
        {
            let slice = bytes.get(usize::try_from(from).unwrap()..usize::try_from(to).unwrap()).unwrap();
            assert_eq!(image.sum(&Dying, from, to).unwrap(), crc32fast::hash(slice), "{from}..{to}");
        }
    }
}
