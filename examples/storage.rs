//! A storage of your own: `cargo run --example storage -- DIR`.
//!
//! A wrapper over the real files counts what reaches the disk and times the syncs. The log is appended to in two ways,
//! each record waited for by itself, and a hundred tickets out before any is waited for. The wrapper shows what that is
//! for the disk: one sync for a record, and one for all that are out.
//!
//! What it guarantees: what the log guarantees, for it hands every call on as it is, errors too. Whoever changes what a
//! call does, to throttle, encrypt or store elsewhere, has to keep the assumptions S1 to S6 of `seawall::storage`. For
//! failing and crashing there is `seawall::sim` already.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seawall::Options;
use seawall::storage::{Background, File, Fs, Map, Next, Storage};

/// What reached the disk.
#[derive(Debug, Default)]
struct Counts {
    writes: u64,
    bytes: u64,
    syncs: Vec<Duration>,
}

/// One directory of real files whose calls are counted.
#[derive(Debug)]
struct Counting {
    inner: Fs,
    counts: Arc<Mutex<Counts>>,
}

/// One file of it.
#[derive(Debug)]
struct CountingFile {
    inner: Box<dyn File>,
    counts: Arc<Mutex<Counts>>,
}

impl Counting {
    fn new(dir: &Path) -> Counting {
        Counting { inner: Fs::new(dir), counts: Arc::default() }
    }

    fn counted(&self, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(CountingFile { inner, counts: Arc::clone(&self.counts) })
    }

    /// What was counted since it was taken last.
    fn take(&self) -> Counts {
        std::mem::take(&mut *self.counts.lock())
    }
}

/// Only what is handed out as a file is wrapped; everything else goes through.
impl Storage for Counting {
    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn File>> {
        Ok(self.counted(self.inner.open(name, write)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.counted(self.inner.create(name)?))
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn create_dir(&self) -> io::Result<()> {
        self.inner.create_dir()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock()
    }

    fn list(&self) -> io::Result<Vec<(OsString, bool)>> {
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        self.inner.random(out)
    }

    fn background(&self, name: &str, step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>> {
        self.inner.background(name, step)
    }

    fn now(&self) -> Duration {
        self.inner.now()
    }
}

impl File for CountingFile {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.inner.write_at(buf, offset)?;
        let mut counts = self.counts.lock();
        counts.writes += 1;
        counts.bytes += written as u64;
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        let start = Instant::now();
        self.inner.sync()?;
        // Counted without a lock around the sync: that would have every other file wait for it.
        self.counts.lock().syncs.push(start.elapsed());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    /// Sealed segments are read out of a map: these reads no wrapper sees.
    fn map(&self, len: usize) -> io::Result<Box<dyn Map>> {
        self.inner.map(len)
    }
}

fn report(way: &str, counts: Counts) {
    let Counts { writes, bytes, mut syncs } = counts;
    syncs.sort_unstable();
    let at = |percent: usize| syncs.get(syncs.len() * percent / 100).copied().unwrap_or_default();
    let (count, median, slow) = (syncs.len(), at(50), at(99));
    println!("{way}: {writes} writes, {bytes} bytes, {count} syncs of {median:.0?}, one in a hundred over {slow:.0?}");
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: storage DIR")?;
    let storage = Arc::new(Counting::new(Path::new(&dir)));
    let wal = Options::new().open_on(Arc::clone(&storage) as Arc<dyn Storage>)?;
    // The first record has the first segment made.
    wal.append(b"first")?.wait()?;
    report("opening and the first record", storage.take());
    for n in 0..300 {
        wal.append(format!("record {n}").as_bytes())?.wait()?;
    }
    report("300 records, each waited for", storage.take());
    let mut out = Vec::new();
    for n in 0..300 {
        out.push(wal.append(format!("record {n}").as_bytes())?);
        if out.len() == 100 {
            for ticket in out.drain(..) {
                ticket.wait()?;
            }
        }
    }
    report("300 records, a hundred out", storage.take());
    wal.close()?;
    Ok(())
}
