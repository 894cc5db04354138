//! The directory of the bench, and the files of blocks written before that the floors write into.
#![allow(clippy::disallowed_methods)] // floors sync their own files

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Result, system};

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const OVERLAY: u64 = 0x794c_7630;
/// No disk syncs 4 KiB faster than this.
const IN_MEMORY: Duration = Duration::from_micros(5);

/// A directory on the disk that is measured. Emptied when it is made and removed when it is dropped.
pub struct BenchDir {
    path: PathBuf,
    /// Held, so that two runs do not empty each other's directory.
    _lock: File,
    /// The time of one sync of 4 KiB written into blocks written before.
    pub sync: Duration,
}

impl BenchDir {
    /// Makes the directory, and sees that a sync in it reaches a disk.
    pub fn new() -> Result<BenchDir> {
        let parent = match std::env::var_os("SEAWALL_BENCH_DIR") {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        };
        let path = parent.join("seawall-bench");
        std::fs::create_dir_all(&path)?;
        let lock = File::open(&path)?;
        lock.try_lock().map_err(|e| format!("{}: another run is using it ({e})", path.display()))?;
        for entry in std::fs::read_dir(&path)? {
            remove(&entry?.path())?;
        }
        let mut dir = BenchDir { path, _lock: lock, sync: Duration::ZERO };
        dir.sync = dir.time_sync()?;
        dir.refuse_memory()?;
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it that does not exist yet.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        remove(&path)?;
        Ok(path)
    }

    fn refuse_memory(&self) -> Result<()> {
        let magic = system::file_system(&self._lock)?;
        let in_memory = magic == TMPFS || magic == RAMFS || (magic == OVERLAY && self.sync < IN_MEMORY);
        if in_memory {
            let place = self.path.display();
            return Err(format!(
                "{place} is in memory (file system {magic:#x}, sync in {:?}): nothing would be measured. \
                 SEAWALL_BENCH_DIR names a directory on a disk",
                self.sync
            )
            .into());
        }
        Ok(())
    }

    fn time_sync(&self) -> Result<Duration> {
        let path = self.fresh("probe")?;
        let mut ring = Ring::create(&path, 1 << 20)?;
        let mut times = Vec::new();
        for _ in 0..64 {
            let start = Instant::now();
            ring.write(&[1; 4096])?;
            ring.sync()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        remove(&path)?;
        Ok(times.get(times.len() / 2).copied().unwrap_or_default())
    }
}

impl Drop for BenchDir {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            eprintln!("{} is left behind: {error}", self.path.display());
        }
    }
}

/// Removes a file or a directory with all in it, if it exists.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// A file whose blocks were all written before, written round and round.
pub struct Ring {
    file: File,
    size: u64,
    at: u64,
    /// Where the file's own cursor stands.
    cursor: u64,
    /// Syncs so far, the one of the making left out.
    pub syncs: u64,
}

impl Ring {
    /// Makes the file and writes every block of it.
    pub fn create(path: &Path, size: u64) -> io::Result<Ring> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        let zeros = vec![0; 256 << 10];
        for at in (0..size).step_by(zeros.len()) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Ring { file, size, at: 0, cursor: 0, syncs: 0 })
    }

    /// Writes `bytes` behind what was written last.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.take(bytes.len());
        self.file.write_all_at(bytes, at)
    }

    /// Writes `head` and `body` behind what was written last, with one call and no copy.
    pub fn write_gathered(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let at = self.take(head.len() + body.len());
        if self.cursor != at {
            self.file.seek(SeekFrom::Start(at))?;
        }
        let written = self.file.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])?;
        self.cursor = at + written as u64;
        if written != head.len() + body.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// `fdatasync`.
    pub fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        self.file.sync_data()
    }

    fn take(&mut self, len: usize) -> u64 {
        if self.at + len as u64 > self.size {
            self.at = 0;
        }
        let at = self.at;
        self.at += len as u64;
        at
    }
}
