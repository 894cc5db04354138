//! The system calls that std lacks: what a file system is, taking blocks, and a map of a file. All `unsafe` of the bench.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

/// The magic number of the file system that `file` lies on.
#[cfg(target_os = "linux")]
pub fn file_system(file: &File) -> io::Result<u64> {
    use std::os::fd::AsRawFd;
    let mut info = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` lives, and `info` has room for what is written.
    if unsafe { libc::fstatfs(file.as_raw_fd(), info.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled `info`.
    let info = unsafe { info.assume_init() };
    Ok(info.f_type as u64)
}

/// Elsewhere nobody says: zero.
#[cfg(not(target_os = "linux"))]
pub fn file_system(_file: &File) -> io::Result<u64> {
    Ok(0)
}

/// Takes the blocks of the first `length` bytes of `file`.
#[cfg(target_os = "linux")]
pub fn allocate(file: &File, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = i64::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the descriptor is open for as long as `file` lives.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Elsewhere they are taken as they are written.
#[cfg(not(target_os = "linux"))]
pub fn allocate(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)
}

/// A read-only map of all of `file`; `populate` takes all its pages at once.
pub fn map(file: &File, populate: bool) -> io::Result<memmap2::Mmap> {
    let mut options = memmap2::MmapOptions::new();
    if populate {
        options.populate();
    }
    // SAFETY: the bench made the file for itself and neither writes nor cuts it while the map lives.
    unsafe { options.map(file) }
}
