//! The seam: the only way to the disk, to randomness, to background work and to the timer.
//!
//! Everything that the log does and that is not a pure function of the calls made on it comes through [`Storage`]
//! and [`File`]. [`Fs`] is the real one; the crate's feature `sim` brings a disk in memory that can crash
//! and fail. An implementation of your own goes to [`Options::open_on`](crate::Options::open_on).
//!
//! What only says how long a caller's thread sleeps, or how fast it reads, goes by the real clock: the limit of
//! [`Follower::next_timeout`](crate::Follower::next_timeout), the pace of waiting for a full disk, the rate in
//! [`Progress`](crate::Progress). Nothing that is written or told apart from that depends on it.
//!
//! # Storage assumptions
//!
//! What the log takes for granted of an implementation, and what recovery never takes for granted:
//!
//! | | |
//! |---|---|
//! | S1 | A [`File::sync`] that returned `Ok` makes survive: every write to that file since its last *failed* sync, and its size. |
//! | S2 | Writes that were not synced survive in any subset of 512-byte sectors, in any order over files. |
//! | S3 | Writing a sector does not change bytes outside the written range. |
//! | S4 | Directory changes survive in any subset until [`Storage::sync_dir`]; a rename is whole or not at all. One that returned `Ok` covers all before it, also what a sync before this opening failed for. |
//! | S5 | After a *failed* sync, reads may show bytes that the disk does not hold, and a later sync may succeed without writing them. |
//! | S6 | A read error is an error, never "nothing there". |

pub(crate) mod background;
mod fs;
mod gate;
#[expect(unsafe_code, reason = "maps of files that the log never changes while mapped")]
mod map;
#[expect(unsafe_code, reason = "system calls that std does not offer")]
mod sys;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::format::HEAD;

pub use fs::Fs;
pub(crate) use fs::{looked_at, open_any};
pub(crate) use gate::{Gate, is_broken};

/// One directory that holds one log.
///
/// Names are plain file names inside the directory. Errors are `io::Error`s as the system gave them; the
/// log adds the path and the operation.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Where the directory is, for messages only.
    fn path(&self) -> &Path;

    /// Makes the directory and its missing parents, durably. It is no error if it exists.
    ///
    /// # Errors
    /// As the system gave it.
    fn create_dir(&self) -> io::Result<()>;

    /// Takes the directory's exclusive lock, which is held until the guard is dropped or the process dies.
    ///
    /// # Errors
    /// `WouldBlock` if another handle, in this process or another, holds it.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;

    /// The names in the directory, each once, in any order; `true` with those of plain files.
    ///
    /// # Errors
    /// As the system gave it.
    fn list(&self) -> io::Result<Vec<(OsString, bool)>>;

    /// Opens a file that exists: for reading and writing, or for reading only.
    ///
    /// # Errors
    /// `NotFound` if there is none; otherwise as the system gave it.
    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn File>>;

    /// Makes a new, empty file for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that name; otherwise as the system gave it.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Gives a file another name, over whatever bore it. Handles stay valid.
    ///
    /// # Errors
    /// As the system gave it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Handles and maps of the file stay valid.
    ///
    /// # Errors
    /// As the system gave it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all changes to names so far survive (S4).
    ///
    /// # Errors
    /// As the system gave it. The log then trusts nothing about names any more and is poisoned.
    fn sync_dir(&self) -> io::Result<()>;

    /// Fills `out` with random bytes: the log's id and the salts of segments.
    ///
    /// # Errors
    /// As the system gave it.
    fn random(&self, out: &mut [u8]) -> io::Result<()>;

    /// Runs `step` in the background, again and again, as its answers ask for ([`Next`]), until it answers
    /// [`Next::Stop`]. `step` is called from one thread at a time and begins idle.
    ///
    /// # Errors
    /// As the system gave it, when there can be no further thread.
    fn background(&self, name: &str, step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>>;

    /// A clock that never goes back, from any starting point.
    fn now(&self) -> Duration;
}

/// One file of the log. All offsets and lengths are bytes.
#[expect(clippy::len_without_is_empty, reason = "a length that can fail has no is_empty")]
pub trait File: Send + Sync + fmt::Debug {
    /// Its length.
    ///
    /// # Errors
    /// As the system gave it.
    fn len(&self) -> io::Result<u64>;

    /// Reads at `offset`; fewer bytes than asked for are allowed, zero means that the file ends there.
    ///
    /// # Errors
    /// As the system gave it.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`; fewer bytes than asked for are allowed. Unsynced (S2).
    ///
    /// # Errors
    /// As the system gave it.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes its bytes and its length survive (S1). Never called again after it failed.
    ///
    /// # Errors
    /// As the system gave it.
    fn sync(&self) -> io::Result<()>;

    /// Makes it `len` bytes long with every block taken, reading as zeros where nothing was written.
    ///
    /// # Errors
    /// `StorageFull` or `QuotaExceeded` when there is no room; `Unsupported` where the file system cannot take
    /// blocks ahead; otherwise as the system gave it.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts it to `len`, giving the blocks beyond back. Unsynced.
    ///
    /// # Errors
    /// As the system gave it.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// A read-only view of its first `len` bytes. No other bytes will be written there while the view lives.
    ///
    /// # Errors
    /// `UnexpectedEof` if it is shorter; otherwise as the system gave it. What cannot be read may be told here, or be a
    /// SIGBUS when it is touched.
    fn map(&self, len: usize) -> io::Result<Box<dyn Map>>;
}

/// A read-only view of a file's bytes. Unmapped when dropped.
pub trait Map: AsRef<[u8]> + Send + Sync {}

impl<T: AsRef<[u8]> + Send + Sync> Map for T {}

/// What a background step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call me again at once.
    Again,
    /// Call me when I am woken, or after this long if a duration is given.
    Idle(Option<Duration>),
    /// I am done; never call me again.
    Stop,
}

/// A handle to background work. Dropping it neither stops nor joins the work.
pub trait Background: Send + Sync {
    /// Has the step called soon, by somebody else: whoever wakes may hold locks that it takes. Cheap when it is already due.
    fn wake(&self);

    /// Waits until the step has answered [`Next::Stop`]; not when called from the step itself.
    fn join(&self);
}

/// Why a log was not locked.
pub(crate) fn lock_error(storage: &dyn Storage, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::WouldBlock => {
            let message = format!("{} has another writer; end it, or open the log read-only", storage.path().display());
            Error::new(ErrorKind::Locked, "lock", message)
        }
        io::ErrorKind::NotFound => not_found(storage),
        _ => Error::io("lock", storage.path(), e),
    }
}

/// There is nothing of a log.
pub(crate) fn not_found(storage: &dyn Storage) -> Error {
    let message = format!("there is no log in {}", storage.path().display());
    Error::new(ErrorKind::NotFound, "open", message)
}

/// Reads exactly `buf.len()` bytes at `offset`, or fewer where the file ends; tells how many.
pub(crate) fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// The first two blocks of a file, which hold a segment's header and link, or what there is of them.
pub(crate) fn read_head(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let filled = read_full(file, &mut head, 0)?;
    head.truncate(filled);
    Ok(head)
}

/// Whether a file holds nothing but zeros from an offset on.
pub(crate) fn is_zero(file: &dyn File, from: u64) -> io::Result<bool> {
    const ZEROS: [u8; 4096] = [0; 4096];
    // Most that hold more show it in the first block.
    let (mut bytes, mut at) = (vec![0; ZEROS.len()], from);
    loop {
        let filled = read_full(file, &mut bytes, at)?;
        bytes.truncate(filled);
        if filled == 0 || bytes.chunks(ZEROS.len()).any(|chunk| !ZEROS.starts_with(chunk)) {
            return Ok(filled == 0);
        }
        at += filled as u64;
        bytes.resize(256 << 10, 0);
    }
}

/// Writes all of `buf` at `offset`: short and interrupted writes are continued.
pub(crate) fn write_full(file: &dyn File, buf: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
        match file.write_at(rest, offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
