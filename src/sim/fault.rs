//! Kinds of operations, and faults that strike the n-th of a kind.

use std::fmt;
use std::io;

/// A call on [`Storage`](crate::storage::Storage) or [`File`](crate::storage::File).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// `Storage::create_dir`. A [`Disk`](super::Disk) counts it only where the directory is not there.
    CreateDir,
    /// `Storage::create`.
    Create,
    /// `Storage::rename`.
    Rename,
    /// `Storage::remove`.
    Remove,
    /// `File::write_at`.
    Write,
    /// `File::sync`.
    Sync,
    /// `Storage::sync_dir`.
    SyncDir,
    /// `File::allocate`.
    Allocate,
    /// `File::set_len`.
    SetLen,
    /// `Storage::lock`.
    Lock,
    /// `Storage::list`.
    List,
    /// `Storage::open`.
    Open,
    /// `File::len`.
    Len,
    /// `File::read_at`.
    Read,
    /// `File::map`.
    Map,
    /// `Storage::random`.
    Random,
    /// `Storage::background`.
    Background,
}

impl Operation {
    /// Every kind.
    pub const ALL: &'static [Operation] = &[
        Operation::CreateDir,
        Operation::Create,
        Operation::Rename,
        Operation::Remove,
        Operation::Write,
        Operation::Sync,
        Operation::SyncDir,
        Operation::Allocate,
        Operation::SetLen,
        Operation::Lock,
        Operation::List,
        Operation::Open,
        Operation::Len,
        Operation::Read,
        Operation::Map,
        Operation::Random,
        Operation::Background,
    ];

    /// Whether it changes what is on the disk, or what of it is durable. These are the ones after which, and
    /// in the middle of which, a crash is worth a test.
    pub fn is_mutating(self) -> bool {
        self <= Operation::SetLen
    }
}

/// How often each kind of operation was called.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts([u64; Operation::ALL.len()]);

impl Counts {
    pub(super) fn add(&mut self, operation: Operation) {
        if let Some(count) = self.0.get_mut(operation as usize) {
            *count += 1;
        }
    }

    pub(super) fn of(&self, operation: Operation) -> u64 {
        self.0.get(operation as usize).copied().unwrap_or(0)
    }

    pub(super) fn mutating(&self) -> u64 {
        Operation::ALL.iter().filter(|kind| kind.is_mutating()).map(|&kind| self.of(kind)).sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Errno(i32),
    Kind(io::ErrorKind),
}

/// What a struck call does before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing; of a sync on a [`Disk`](super::Disk), what storage assumption S5 says.
    None,
    /// A write writes this many bytes and answers the error all the same.
    Partial(usize),
    /// A read or a write does this many bytes and answers `Ok`.
    Short(usize),
    /// A sync forgets what it did not write, a read what an earlier one did not, and answers `Ok`.
    Forgetting,
}

/// What strikes a call instead of, or along with, what the call does.
///
/// ```
/// use seawall::sim::{Fault, Operation};
/// use std::io::ErrorKind;
///
/// // The third sync of a file whose name ends with ".wal" fails with EIO, and no other.
/// Fault::new(Operation::Sync).on(".wal").nth(3);
/// // The disk is full from now on.
/// Fault::new(Operation::Allocate).kind(ErrorKind::StorageFull).for_good();
/// // The next write takes 7 bytes and says so.
/// Fault::new(Operation::Write).short(7);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a fault strikes once it is handed to `fail`"]
pub struct Fault {
    operation: Operation,
    name: Option<String>,
    nth: u64,
    for_good: bool,
    cause: Cause,
    effect: Effect,
}

impl Fault {
    /// The next such call fails, once, with `EIO`, and does nothing.
    pub fn new(operation: Operation) -> Fault {
        Fault { operation, name: None, nth: 1, for_good: false, cause: Cause::Errno(libc::EIO), effect: Effect::None }
    }

    /// Strikes the `n`-th such call from when the fault is set, 1 being the next.
    pub fn nth(mut self, n: u64) -> Fault {
        self.nth = n;
        self
    }

    /// Strikes all such calls from that one on.
    pub fn for_good(mut self) -> Fault {
        self.for_good = true;
        self
    }

    /// Counts and strikes only calls on files whose name ends with `name`; of a rename, either name.
    pub fn on(mut self, name: &str) -> Fault {
        self.name = Some(name.to_owned());
        self
    }

    /// Answers an error of this kind.
    pub fn kind(mut self, kind: io::ErrorKind) -> Fault {
        self.cause = Cause::Kind(kind);
        self
    }

    /// Answers an error of the operating system, by its number.
    pub fn errno(mut self, errno: i32) -> Fault {
        self.cause = Cause::Errno(errno);
        self
    }

    /// A write writes at most `bytes` bytes and answers the error all the same. Other calls just fail.
    pub fn partial(mut self, bytes: usize) -> Fault {
        self.effect = Effect::Partial(bytes);
        self
    }

    /// A read or a write does at most `bytes` bytes and answers `Ok` with their number: no error. Other calls
    /// just fail.
    pub fn short(mut self, bytes: usize) -> Fault {
        self.effect = Effect::Short(bytes);
        self
    }

    /// What looks clean on a [`Disk`](super::Disk) and is not on its platter is forgotten, so that reads show what lies there
    /// again: on some file systems a sync that fails does so at once, and on others the cache does whenever it needs room.
    /// A sync fails and forgets what it did not write; a read does before it reads, and is no error. Other calls just
    /// fail.
    pub fn forgetting(mut self) -> Fault {
        self.effect = Effect::Forgetting;
        self
    }

    fn error(&self) -> io::Error {
        match self.cause {
            Cause::Errno(errno) => io::Error::from_raw_os_error(errno),
            Cause::Kind(kind) => kind.into(),
        }
    }
}

/// Which call it strikes.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { operation, name, nth, effect, .. } = self;
        write!(f, "{operation:?} {nth}")?;
        name.iter().try_for_each(|name| write!(f, " of {name}"))?;
        write!(f, " fails")?;
        if *effect == Effect::Forgetting { write!(f, " and forgets what it did not write") } else { Ok(()) }
    }
}

/// The error and the effect of a fault that strikes.
#[derive(Debug)]
pub(super) struct Strike {
    pub(super) error: io::Error,
    pub(super) effect: Effect,
}

/// Faults that wait for their call.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a call on the files `names`; the first fault that strikes it, if any does.
    pub(super) fn strike(&mut self, operation: Operation, names: &[&str]) -> Option<Strike> {
        let mut struck = None;
        self.0.retain_mut(|fault| {
            let meant = fault.name.as_ref().is_none_or(|end| names.iter().any(|name| name.ends_with(end.as_str())));
            if fault.operation != operation || !meant {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth > 0 || struck.is_some() {
                return true;
            }
            struck = Some(Strike { error: fault.error(), effect: fault.effect });
            fault.for_good
        });
        struck
    }
}
