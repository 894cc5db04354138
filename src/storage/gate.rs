//! The one way to the directory's sync: once it has failed, it fails for good, whoever asks.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Background, File, Next, Storage};
use crate::sync::{Mutex, MutexGuard};

/// A storage whose names are neither changed nor synced any more once syncing them has failed.
///
/// Several threads sync them: making segments, cleaning, tidying. One that came second could be told `Ok` of names
/// that the first failed to make durable (S5), and records would be acknowledged in a segment without a name. So one
/// is at it at a time, and the first failure is everybody's.
#[derive(Debug)]
pub(crate) struct Gate {
    storage: Arc<dyn Storage>,
    failed: Mutex<Option<Failure>>,
}

/// An `io::Error`, which cannot be cloned.
type Failure = (io::ErrorKind, String);

/// What everybody after the first is told.
#[derive(Debug)]
struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the directory could not be synced before: {}", self.0)
    }
}

impl std::error::Error for Broken {}

/// Whether a call was refused because the directory could not be synced before.
pub(crate) fn is_broken(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Broken>())
}

impl Gate {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Gate {
        Gate { storage, failed: Mutex::default() }
    }

    /// Lets one through at a time, and nobody after a failure.
    fn pass(&self) -> io::Result<MutexGuard<'_, Option<Failure>>> {
        let failed = self.failed.lock();
        match &*failed {
            Some((kind, message)) => Err(io::Error::new(*kind, Broken(message.clone()))),
            None => Ok(failed),
        }
    }
}

impl Storage for Gate {
    fn sync_dir(&self) -> io::Result<()> {
        let mut failed = self.pass()?;
        self.storage.sync_dir().inspect_err(|e| *failed = Some((e.kind(), e.to_string())))
    }

    fn path(&self) -> &Path {
        self.storage.path()
    }

    fn create_dir(&self) -> io::Result<()> {
        self.storage.create_dir()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.storage.lock()
    }

    fn list(&self) -> io::Result<Vec<(OsString, bool)>> {
        self.storage.list()
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn File>> {
        self.storage.open(name, write)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let _passed = self.pass()?;
        self.storage.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _passed = self.pass()?;
        self.storage.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        // One that hangs keeps nobody from making a segment: what is removed nobody relies upon.
        drop(self.pass()?);
        self.storage.remove(name)
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        self.storage.random(out)
    }

    fn background(&self, name: &str, step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>> {
        self.storage.background(name, step)
    }

    fn now(&self) -> Duration {
        self.storage.now()
    }
}
