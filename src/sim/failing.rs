//! A wrapper over any storage, real files too, whose calls fail, come short or take long.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::fault::{Counts, Effect, Fault, Faults, Operation, Strike};
use crate::storage::{Background, File, Map, Next, Storage};
use crate::sync::{Condvar, Mutex, thread};

/// A storage over another one that answers errors where it is told to.
///
/// A struck call does not reach the storage below, except for the part of a write that the fault lets
/// through. So a struck sync just does not happen: what a failed sync does to a disk, [`Disk`](super::Disk)
/// shows. A file is known by its name, also after it was renamed through this storage.
///
/// ```
/// use std::sync::Arc;
/// use seawall::sim::{Failing, Fault, Operation};
/// use seawall::storage::{Fs, Storage};
///
/// # let dir = tempfile::tempdir()?;
/// let failing = Failing::new(Arc::new(Fs::new(dir.path())));
/// failing.fail(Fault::new(Operation::Sync).on(".wal").nth(2));
/// let file = failing.create("1.wal")?;
/// file.sync()?;
/// assert!(file.sync().is_err());
/// assert_eq!(failing.struck(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Failing {
    below: Arc<dyn Storage>,
    controls: Arc<Controls>,
}

#[derive(Default)]
struct Controls {
    state: Mutex<State>,
    changed: Condvar,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    faults: Faults,
    counts: Counts,
    struck: u64,
    hooks: BTreeMap<Operation, Hook>,
    /// How many holds there are on an operation, and how many calls they hold.
    held: BTreeMap<Operation, (usize, usize)>,
    /// The names of the files that are open.
    names: Vec<Weak<Mutex<String>>>,
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls").field("faults", &self.state.lock().faults).finish_non_exhaustive()
    }
}

impl Controls {
    /// Counts a call, holds it, calls the hook, and tells what strikes it.
    fn meet(&self, operation: Operation, names: &[&str]) -> Result<(), Strike> {
        let mut state = self.state.lock();
        state.counts.add(operation);
        let strike = state.faults.strike(operation, names);
        state.struck += u64::from(strike.is_some());
        if state.held.get(&operation).is_some_and(|(holds, _)| *holds > 0) {
            if let Some((_, calls)) = state.held.get_mut(&operation) {
                *calls += 1;
            }
            self.changed.notify_all();
            self.changed
                .wait_while(&mut state, |state| state.held.get(&operation).is_some_and(|(holds, _)| *holds > 0));
            if let Some((_, calls)) = state.held.get_mut(&operation) {
                *calls -= 1;
            }
        }
        let hook = state.hooks.get(&operation).cloned();
        drop(state);
        hook.iter().for_each(|hook| hook());
        strike.map_or(Ok(()), Err)
    }

    fn pass(&self, operation: Operation, names: &[&str]) -> io::Result<()> {
        self.meet(operation, names).map_err(|strike| strike.error)
    }
}

impl Failing {
    /// A wrapper over `below` that lets everything through as yet.
    pub fn new(below: Arc<dyn Storage>) -> Arc<Failing> {
        Arc::new(Failing { below, controls: Arc::default() })
    }

    /// Sets a fault. Several may be set; the one set first strikes a call first.
    pub fn fail(&self, fault: Fault) {
        self.controls.state.lock().faults.add(fault);
    }

    /// Forgets all faults, hooks and delays.
    pub fn heal(&self) {
        let mut state = self.controls.state.lock();
        state.faults.clear();
        state.hooks.clear();
    }

    /// Has `hook` called before each such call is passed on, from now on, by the thread that makes it. One hook for
    /// each kind of call. It may panic, as a storage of a caller's own may.
    pub fn before(&self, operation: Operation, hook: impl Fn() + Send + Sync + 'static) {
        self.controls.state.lock().hooks.insert(operation, Arc::new(hook));
    }

    /// Has each such call take `by` longer, from now on.
    pub fn delay(&self, operation: Operation, by: Duration) {
        self.before(operation, move || thread::sleep(by));
    }

    /// Has each such call wait, from now until the answer is dropped: a sync that takes as long as a test needs.
    pub fn hold(&self, operation: Operation) -> Hold {
        self.controls.state.lock().held.entry(operation).or_default().0 += 1;
        Hold { controls: Arc::clone(&self.controls), operation }
    }

    /// How many such calls there were, struck ones included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.controls.state.lock().counts.of(operation)
    }

    /// How many calls were struck by a fault.
    pub fn struck(&self) -> u64 {
        self.controls.state.lock().struck
    }

    fn file(&self, name: &str, below: Box<dyn File>) -> Box<dyn File> {
        let name = Arc::new(Mutex::new(name.to_owned()));
        let mut state = self.controls.state.lock();
        state.names.retain(|name| name.strong_count() > 0);
        state.names.push(Arc::downgrade(&name));
        Box::new(FailingFile { below, name, controls: Arc::clone(&self.controls) })
    }
}

/// Calls of one kind wait while this lives. See [`Failing::hold`].
#[must_use = "calls wait only while the hold lives"]
pub struct Hold {
    controls: Arc<Controls>,
    operation: Operation,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl Hold {
    /// Waits until at least `calls` calls are held.
    pub fn wait_for(&self, calls: usize) {
        let mut state = self.controls.state.lock();
        let too_few = |state: &mut State| state.held.get(&self.operation).is_none_or(|(_, held)| *held < calls);
        self.controls.changed.wait_while(&mut state, too_few);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((holds, _)) = self.controls.state.lock().held.get_mut(&self.operation) {
            *holds -= 1;
        }
        self.controls.changed.notify_all();
    }
}

impl Storage for Failing {
    fn path(&self) -> &Path {
        self.below.path()
    }

    fn create_dir(&self) -> io::Result<()> {
        self.controls.pass(Operation::CreateDir, &[])?;
        self.below.create_dir()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.controls.pass(Operation::Lock, &[])?;
        self.below.lock()
    }

    fn list(&self) -> io::Result<Vec<(OsString, bool)>> {
        self.controls.pass(Operation::List, &[])?;
        self.below.list()
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn File>> {
        self.controls.pass(Operation::Open, &[name])?;
        Ok(self.file(name, self.below.open(name, write)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.controls.pass(Operation::Create, &[name])?;
        Ok(self.file(name, self.below.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.controls.pass(Operation::Rename, &[from, to])?;
        self.below.rename(from, to)?;
        let state = self.controls.state.lock();
        for name in state.names.iter().filter_map(Weak::upgrade) {
            let mut name = name.lock();
            if *name == from {
                to.clone_into(&mut name);
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.controls.pass(Operation::Remove, &[name])?;
        self.below.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.controls.pass(Operation::SyncDir, &[])?;
        self.below.sync_dir()
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        self.controls.pass(Operation::Random, &[])?;
        self.below.random(out)
    }

    fn background(&self, name: &str, step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>> {
        self.controls.pass(Operation::Background, &[name])?;
        self.below.background(name, step)
    }

    fn now(&self) -> Duration {
        self.below.now()
    }
}

/// A file whose calls fail.
#[derive(Debug)]
struct FailingFile {
    below: Box<dyn File>,
    name: Arc<Mutex<String>>,
    controls: Arc<Controls>,
}

impl FailingFile {
    fn meet(&self, operation: Operation) -> Result<(), Strike> {
        let name = self.name.lock().clone();
        self.controls.meet(operation, &[&name])
    }

    fn pass(&self, operation: Operation) -> io::Result<()> {
        self.meet(operation).map_err(|strike| strike.error)
    }
}

impl File for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.pass(Operation::Len)?;
        self.below.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.meet(Operation::Read) {
            Ok(()) => self.below.read_at(buf, offset),
            Err(Strike { effect: Effect::Short(n), .. }) => {
                let n = n.min(buf.len());
                self.below.read_at(buf.get_mut(..n).unwrap_or_default(), offset)
            }
            Err(Strike { error, .. }) => Err(error),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        match self.meet(Operation::Write) {
            Ok(()) => self.below.write_at(buf, offset),
            Err(Strike { effect: Effect::None | Effect::Forgetting, error }) => Err(error),
            Err(Strike { effect: Effect::Short(n), .. }) => self.below.write_at(buf.get(..n).unwrap_or(buf), offset),
            Err(Strike { effect: Effect::Partial(n), error }) => {
                self.below.write_at(buf.get(..n).unwrap_or(buf), offset)?;
                Err(error)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.pass(Operation::Sync)?;
        self.below.sync()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.pass(Operation::Allocate)?;
        self.below.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pass(Operation::SetLen)?;
        self.below.set_len(len)
    }

    fn map(&self, len: usize) -> io::Result<Box<dyn Map>> {
        self.pass(Operation::Map)?;
        self.below.map(len)
    }
}
