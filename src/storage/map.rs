//! Read-only maps of real files. The log maps only what it will not write again while a view lives.

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

/// Maps the first `len` bytes.
///
/// A page that lies wholly beyond the end of the file would answer a read with SIGBUS, so a file that is
/// shorter than `len` is refused. Cut later, it would still do so: no log writes or cuts what was mapped, by itself or
/// by whoever had the log open before, and nothing can keep hands away.
pub(super) fn map(file: &File, len: usize) -> io::Result<Mmap> {
    if file.metadata()?.len() < len as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: bytes under a live view must not change. `File::map` has its caller promise that nothing in this process
    // writes or cuts them. A later writer, of this process or another, never writes other bytes into a file that it
    // found, and never cuts it below the end of its records, which is where the view ends.
    unsafe { MmapOptions::new().len(len).map(file) }
}
