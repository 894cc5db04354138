//! Real files in a real directory.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Seek};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{Background, File, Map, Next, Storage, background, map, sys};
use crate::sync::OnceLock;

/// A real directory on a local file system. It is found by its path, so nobody may rename it while the log is open.
#[derive(Debug)]
pub struct Fs {
    path: PathBuf,
    /// Open from the first use on: the kernel tells a failed write-back of the directory only to handles
    /// that were open when it failed.
    dir: OnceLock<fs::File>,
    started: Instant,
}

impl Fs {
    /// The directory `path`, which need not exist yet. Touches nothing.
    pub fn new(path: impl AsRef<Path>) -> Fs {
        // Files are made for as long as the log is open, and the process may change its directory meanwhile.
        let path = std::path::absolute(&path).unwrap_or_else(|_| path.as_ref().to_path_buf());
        Fs { path, dir: OnceLock::new(), started: Instant::now() }
    }

    fn dir(&self) -> io::Result<&fs::File> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        let dir = fs::File::open(&self.path)?;
        Ok(self.dir.get_or_init(|| dir))
    }
}

/// What to do where blocks cannot be taken ahead.
const NO_BLOCKS: &str = "this file system takes no blocks ahead (fallocate), which a log needs; put it on one that does, such \
                         as ext4 or xfs";

impl Storage for Fs {
    fn path(&self) -> &Path {
        &self.path
    }

    fn create_dir(&self) -> io::Result<()> {
        create_dir_durably(&self.path)
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.dir()?;
        // A handle of its own: the system gives the lock to an open file, and gives it to that one again.
        let handle = fs::File::open(&self.path)?;
        match handle.try_lock() {
            Ok(()) => Ok(Box::new(Lock(handle))),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<(OsString, bool)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) => names.push((entry.file_name(), kind.is_file())),
                // Some file systems have to look at the file for its type; it may be gone by then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn File>> {
        let file = OpenOptions::new().read(true).write(write).open(self.path.join(name))?;
        Ok(Box::new(FsFile(file)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.dir()?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))?;
        Ok(Box::new(FsFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir()?;
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_names(self.dir()?)
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        sys::random(out)
    }

    fn background(&self, name: &str, step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>> {
        background::spawn(name, step)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Opens any file or device for reading, and tells how many bytes it holds.
pub(crate) fn open_any(path: &Path) -> io::Result<(Box<dyn File>, u64)> {
    // A pipe would wait for somebody to write.
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file, nor a directory, nor a disk"));
    }
    let mut file = fs::File::open(path)?;
    // A device has no length in its metadata, but an end.
    let length = file.seek(io::SeekFrom::End(0))?;
    Ok((Box::new(FsFile(file)), length))
}

/// How long a file is, and when it was last written to.
pub(crate) fn looked_at(path: &Path) -> io::Result<(u64, SystemTime)> {
    let found = fs::metadata(path)?;
    Ok((found.len(), found.modified()?))
}

/// The directory's lock.
struct Lock(fs::File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not let it go while a process that is just being started holds a copy of the handle.
        _ = self.0.unlock();
    }
}

/// A real file.
#[derive(Debug)]
struct FsFile(fs::File);

impl File for FsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }

    /// `fdatasync` on Linux: bytes, length and block map, not the times. On macOS std makes it
    /// `F_FULLFSYNC`, which empties the drive's cache too, as `fsync` there does not. What a signal interrupted, std asks
    /// again: that is no failure, of which pages would have been given up.
    #[expect(clippy::disallowed_methods, reason = "the one place where a file is synced")]
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        sys::take_blocks(&self.0, len).map_err(|e| match e.kind() {
            io::ErrorKind::Unsupported => io::Error::new(e.kind(), format!("{e}: {NO_BLOCKS}")),
            _ => e,
        })?;
        if self.len()? > len { self.0.set_len(len) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn map(&self, len: usize) -> io::Result<Box<dyn Map>> {
        Ok(Box::new(map::map(&self.0, len)?))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where a directory is synced")]
fn sync_names(dir: &fs::File) -> io::Result<()> {
    dir.sync_all()
}

/// The directory that holds the name of `path`.
fn parent(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// Makes `path` and its missing parents, each durable before the next is made in it.
fn create_dir_durably(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return sync_name_of_found(path),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let Some(parent) = parent(path) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    create_dir_durably(parent)?;
    let holder = fs::File::open(parent)?;
    match fs::create_dir(path) {
        // Somebody else may make it at the same time; whether they sync it is not known.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    sync_names(&holder)
}

/// A directory that was found may have been made by a process killed before it synced the name. Above it
/// all names are durable then, for each is synced before the next is made. Where the parent cannot be
/// synced by us at all, the directory was not made by us either.
fn sync_name_of_found(path: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};

    let Some(parent) = parent(path) else {
        return Ok(());
    };
    match fs::File::open(parent).and_then(|holder| sync_names(&holder)) {
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported) => Ok(()),
        synced => synced,
    }
}
