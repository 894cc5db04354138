//! An input, read byte by byte; what is missing at the end reads as 0.

use std::io::Write;
use std::path::Path;

use super::allocations::most_held;

pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn short(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

/// Runs `f`, which may hold `multiple` times `bytes` of memory at most, and 512 KiB more: what is read at once.
pub fn bounded<T>(bytes: usize, multiple: usize, f: impl FnOnce() -> T) -> T {
    bounded_by(multiple * bytes + (512 << 10), f)
}

/// Runs `f`, which may hold `bound` bytes of memory at most.
pub fn bounded_by<T>(bound: usize, f: impl FnOnce() -> T) -> T {
    let (value, held) = most_held(f);
    assert!(held <= bound, "{held} bytes of memory, at most {bound}");
    value
}

/// A file that is gone once it is dropped, in memory where the system has such a directory. `name` begins its name.
pub fn file(name: &str, bytes: &[u8]) -> tempfile::NamedTempFile {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let mut file = tempfile::Builder::new().prefix(name).tempfile_in(directory).expect("a file can be made");
    file.write_all(bytes).expect("it can be written");
    file
}
