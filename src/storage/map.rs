//! Read-only maps of real files. The log maps only what it will not write again while a view lives.

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

/// Maps the first `len` bytes.
///
/// A page that lies wholly beyond the end of the file would answer a read with SIGBUS, so a file that is
/// shorter than `len` is refused. Cut later, by another process, it would still do so: the lock on the
/// directory keeps other logs away, and nothing can keep hands away.
pub(super) fn map(file: &File, len: usize) -> io::Result<Mmap> {
    if file.metadata()?.len() < len as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: bytes under a live view must not change. `File::map` has its caller promise that nothing in
    // this process writes or cuts them; other processes are kept out by the lock, as said above.
    unsafe { MmapOptions::new().len(len).map(file) }
}
