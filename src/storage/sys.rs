//! System calls that std does not offer: taking blocks ahead, and random bytes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!(
    "seawall is built for Linux and macOS only: elsewhere nobody has checked what a sync makes durable, \
     how a directory is synced and locked, and how blocks are taken before they are written"
);

/// Repeats `call` while a signal interrupts it; -1 becomes the error it stands for.
fn uninterrupted(mut call: impl FnMut() -> libc::c_int) -> io::Result<()> {
    loop {
        if call() != -1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn file_offset(len: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// Takes every block of the first `len` bytes, growing the file to `len` if it is shorter.
///
/// This is `fallocate`, not `posix_fallocate`: where the file system cannot take blocks ahead, the latter
/// writes one byte into each block instead (glibc) or fails as well (musl). Those writes would go past
/// the seam, where no test can fail or count them, and they take tens of milliseconds without telling
/// that the cheap call is not there. So the error is handed on as `Unsupported`.
#[cfg(target_os = "linux")]
pub(super) fn take_blocks(file: &File, len: u64) -> io::Result<()> {
    let len = file_offset(len)?;
    // SAFETY: the descriptor is open for as long as `file` is borrowed; no memory is handed over.
    uninterrupted(|| unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) })
}

/// Takes every block of the first `len` bytes, growing the file to `len` if it is shorter.
///
/// `F_PREALLOCATE` takes blocks behind those that the file already has and leaves its length alone. In one
/// piece if there is one, else in several.
#[cfg(target_os = "macos")]
pub(super) fn take_blocks(file: &File, len: u64) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    let metadata = file.metadata()?;
    // `st_blocks` counts units of 512 bytes, whatever the size of the file system's own.
    let missing = file_offset(len.saturating_sub(metadata.blocks().saturating_mul(512)))?;
    if missing > 0 {
        let take = |flags| {
            let mut request = libc::fstore_t {
                fst_flags: flags,
                fst_posmode: libc::F_PEOFPOSMODE,
                fst_offset: 0,
                fst_length: missing,
                fst_bytesalloc: 0,
            };
            // SAFETY: the descriptor is open for as long as `file` is borrowed; `request` is a whole
            // `fstore_t` that outlives the call, which writes only `fst_bytesalloc`.
            uninterrupted(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut request) })
        };
        take(libc::F_ALLOCATECONTIG | libc::F_ALLOCATEALL).or_else(|_| take(libc::F_ALLOCATEALL))?;
    }
    if metadata.len() < len { file.set_len(len) } else { Ok(()) }
}

/// Fills `out` with random bytes. Blocks only where the system has gathered no randomness since its start.
#[cfg(target_os = "linux")]
pub(super) fn random(out: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
        // SAFETY: the pointer and the length are those of `rest`, borrowed exclusively over the call.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => done += n,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Fills `out` with random bytes.
#[cfg(target_os = "macos")]
pub(super) fn random(out: &mut [u8]) -> io::Result<()> {
    // 256 bytes are the most that one call gives.
    for piece in out.chunks_mut(256) {
        // SAFETY: the pointer and the length are those of `piece`, borrowed exclusively over the call.
        uninterrupted(|| unsafe { libc::getentropy(piece.as_mut_ptr().cast(), piece.len()) })?;
    }
    Ok(())
}
