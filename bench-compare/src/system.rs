//! Syncs counted where they leave the process, and what a directory lies on. All `unsafe` of the package.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_long, c_void};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// Syncs of this process so far, whoever asked for them.
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

/// Counts what the system says was done.
fn counted(returned: c_long) -> c_int {
    if returned == 0 {
        SYNCS.fetch_add(1, Ordering::Relaxed);
        0
    } else {
        -1
    }
}

// These stand in front of the C library's: the linker takes what the program itself defines, for std and every crate
// that calls by name. A crate that makes the system call itself, or opens with O_DSYNC, is not seen.
// `sync_file_range` is left out: it makes nothing durable (sync_file_range(2)).

/// Counts and syncs.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: the call takes no pointers.
    counted(unsafe { libc::syscall(libc::SYS_fsync, fd) })
}

/// Counts and syncs.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: the call takes no pointers.
    counted(unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
}

/// Counts and syncs.
#[unsafe(no_mangle)]
pub extern "C" fn syncfs(fd: c_int) -> c_int {
    // SAFETY: the call takes no pointers.
    counted(unsafe { libc::syscall(libc::SYS_syncfs, fd) })
}

/// Syncs a map, and counts if it waits for the disk.
///
/// # Safety
/// None of its own: the kernel refuses an address that is not mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msync(addr: *mut c_void, len: usize, flags: c_int) -> c_int {
    // SAFETY: nothing is read or written through the address here, and the kernel checks it.
    let returned = unsafe { libc::syscall(libc::SYS_msync, addr, len, flags) };
    if flags & libc::MS_SYNC == 0 { returned as c_int } else { counted(returned) }
}

/// Waits until all that was written to the file system of `dir` is on the disk.
pub fn settle(dir: &Path) -> io::Result<()> {
    match syncfs(std::fs::File::open(dir)?.as_raw_fd()) {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether `dir` lies in memory, where a sync costs nothing.
pub fn in_memory(dir: &Path) -> io::Result<bool> {
    let path = CString::new(dir.as_os_str().as_bytes())?;
    let mut info = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with a zero, and `info` has room for what is written.
    if unsafe { libc::statfs(path.as_ptr(), info.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled `info`.
    let magic = unsafe { info.assume_init() }.f_type;
    const RAMFS: i64 = 0x8584_58f6;
    Ok([libc::TMPFS_MAGIC, RAMFS].contains(&magic))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only unit test that syncs: the count is the process's.
    #[test]
    #[allow(clippy::disallowed_methods)]
    fn three_syncs_are_counted_as_three_and_failed_ones_not() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/three-syncs");
        let file = std::fs::File::create(&path).unwrap();
        let before = syncs();
        for _ in 0..3 {
            file.sync_data().unwrap();
        }
        assert_eq!(syncs() - before, 3);
        file.sync_all().unwrap();
        assert_eq!(syncs() - before, 4);
        assert_eq!(fdatasync(-1), -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
        assert_eq!(syncs() - before, 4);
        std::fs::remove_file(path).unwrap();
    }
}
