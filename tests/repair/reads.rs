//! What a repair reads, what it tells of that, and when it can be stopped.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::check::{Repair, Verify, Way, verify};
use seawall::storage::{Background, File, Fs, Map, Next, Storage};
use seawall::{ErrorKind, Lsn, Options, Progress};

use super::{BLOCK, World, base};

/// How many bytes were read of each file.
type Reads = Arc<Mutex<BTreeMap<String, u64>>>;

/// Real files, of which all that is read is counted.
#[derive(Debug)]
struct Counting(Fs, Reads);

#[derive(Debug)]
struct CountingFile(Box<dyn File>, String, Reads);

impl Storage for Counting {
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn create_dir(&self) -> io::Result<()> {
        self.0.create_dir()
    }
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock()
    }
    fn list(&self) -> io::Result<Vec<(OsString, bool)>> {
        self.0.list()
    }
    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn File>> {
        let file = self.0.open(name, write)?;
        Ok(Box::new(CountingFile(file, name.to_owned(), Arc::clone(&self.1))))
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.0.create(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        self.0.random(out)
    }
    fn background(&self, name: &str, step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>> {
        self.0.background(name, step)
    }
    fn now(&self) -> Duration {
        self.0.now()
    }
}

impl File for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.read_at(buf, offset)?;
        *self.2.lock().unwrap().entry(self.1.clone()).or_default() += read as u64;
        Ok(read)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn map(&self, len: usize) -> io::Result<Box<dyn Map>> {
        self.0.map(len)
    }
}

const SEGMENT: u64 = 1 << 20;

/// A closed log of seven segments of a MiB, the third of which is damaged in its middle, and their names.
fn damaged() -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(SEGMENT).open(dir.path()).unwrap();
    for n in 0..1700_u64 {
        _ = wal.append(&vec![n as u8; 4000]).unwrap();
    }
    wal.close().unwrap();
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".wal")).collect();
    names.sort();
    names.truncate(7);
    let path = dir.path().join(&names[2]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[SEGMENT as usize / 2] ^= 1;
    std::fs::write(path, bytes).unwrap();
    (dir, names)
}

/// How often each segment is read by `repair`, in tenths; the heads of all are looked at some times besides.
fn readings(dir: &Path, names: &[String], repair: impl FnOnce(Arc<dyn Storage>)) -> Vec<u64> {
    let reads = Reads::default();
    repair(Arc::new(Counting(Fs::new(dir), Arc::clone(&reads))));
    let reads = reads.lock().unwrap();
    names.iter().map(|name| reads.get(name).copied().unwrap_or(0) * 10 / SEGMENT).collect()
}

/// It was read anew, most of it twice, for each of the ways that the command offers.
#[test]
fn a_log_is_read_once_for_all_ways_out() {
    let (dir, names) = damaged();
    let mut plan = None;
    let read = readings(dir.path(), &names, |storage| plan = Some(Repair::new().plan_on(storage).unwrap()));
    // The damaged one three times, and up to the cut; at the damage a part of it is read anew. The newest is half full.
    for (n, tenths) in read.iter().enumerate() {
        let most = if n == 2 { 48 } else { 12 };
        assert!(*tenths <= most, "{n}: {read:?}");
    }
    let plan = plan.unwrap();
    let first = plan.faults[0].lsn;
    let dropped = |repair: Repair<'_>| repair.plan(dir.path()).unwrap().dropped_records;
    let ways = [
        Way::Cut { lsn: first, dropped_records: dropped(Repair::new().cut(first)) },
        Way::Quarantine { segment: names[2].clone(), dropped_records: dropped(Repair::new().quarantine(&names[2])) },
    ];
    assert_eq!(plan.others, ways);
    let count = |way: &Way| match way {
        Way::Cut { dropped_records, .. } | Way::Quarantine { dropped_records, .. } => *dropped_records,
        _ => 0,
    };
    assert!(count(&ways[0]) > count(&ways[1]) && count(&ways[1]) > 200, "{ways:?}");
    // One that is asked for has no others, and reads no more.
    for way in [Repair::new().cut(first), Repair::new().quarantine(&names[2])] {
        let read = readings(dir.path(), &names, |storage| {
            assert_eq!(way.plan_on(storage).unwrap().others, []);
        });
        assert!(read[2] <= 38 && read.iter().sum::<u64>() < 6 * 12 + 38, "{read:?}");
    }
    // Of one that is repaired nothing is read again, nor what was moved aside.
    Repair::new().run(dir.path()).unwrap();
    let names = [&names[..], &[format!("{}.aside", names[2])]].concat();
    let read = readings(dir.path(), &names, |storage| {
        assert!(Repair::new().plan_on(storage).unwrap().others.is_empty());
    });
    assert!(read[..7].iter().all(|tenths| (4..=12).contains(tenths)) && read[7] == 0, "{read:?}");
    assert!(verify(dir.path()).unwrap().is_clean());
}

/// What was told, each after the other: neither what is done nor what there is to do falls, and all is done in the end.
fn told(run: impl FnOnce(&(dyn Fn(Progress) -> ControlFlow<()> + Sync))) -> Progress {
    let told = Mutex::new(Vec::new());
    run(&|progress| {
        told.lock().unwrap().push(progress);
        ControlFlow::Continue(())
    });
    let told = told.into_inner().unwrap();
    assert!(told.len() > 8 && told.is_sorted_by_key(|progress| progress.bytes));
    assert!(
        told.is_sorted_by_key(|progress| progress.total_bytes) && told.is_sorted_by_key(|progress| progress.records)
    );
    assert!(told.iter().all(|progress| progress.bytes <= progress.total_bytes), "{told:?}");
    let last = *told.last().unwrap();
    assert!(last.bytes == last.total_bytes && last.bytes > told[0].bytes, "{last:?}");
    last
}

#[test]
fn what_a_repair_tells_of_its_progress_never_falls_and_ends_at_all_of_it() {
    let (dir, names) = damaged();
    let verified = told(|progress| _ = Verify::new().progress(progress).run(dir.path()).unwrap());
    let planned = told(|progress| _ = Repair::new().progress(progress).plan(dir.path()).unwrap());
    assert_eq!((verified.records, planned.records), (1699, 1699));
    assert!(planned.total_bytes > verified.total_bytes);
    let segment = Repair::new().quarantine(&names[2]);
    let passed_over = told(|progress| _ = segment.clone().progress(progress).plan(dir.path()).unwrap());
    assert!(passed_over.total_bytes < planned.total_bytes);
    let done = told(|progress| _ = Repair::new().progress(progress).run(dir.path()).unwrap());
    // A copy aside, and what is kept.
    assert!(done.total_bytes > planned.total_bytes + SEGMENT, "{done:?} {planned:?}");
    let sound = told(|progress| _ = Repair::new().progress(progress).plan(dir.path()).unwrap());
    assert!(sound.total_bytes < verified.total_bytes && sound.records == 1699, "{sound:?}");
}

/// Whenever it is: before anything was changed nothing is, and from then on it is done to its end.
#[test]
fn a_repair_is_cancelled_before_it_changes_anything_or_not_at_all() {
    let whole = World::new();
    whole.flip(&whole.segments[1], BLOCK + 300, 1);
    let before = whole.contents();
    let stopped_at = |nth: u64, work: &dyn Fn(&Repair<'_>) -> seawall::Result<()>| {
        let calls = AtomicU64::new(0);
        let progress = |_| match calls.fetch_add(1, Ordering::Relaxed) {
            call if call == nth => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let done = work(&Repair::new().progress(&progress));
        (done, calls.into_inner())
    };
    let planned = |repair: &Repair<'_>| repair.plan_on(whole.disk.mount()).map(|_| ());
    let (mut cancelled, mut done) = (0, 0);
    for nth in 0.. {
        let (plan, calls) = stopped_at(nth, &planned);
        assert_eq!(plan.is_err(), calls > nth, "{nth}");
        let world = whole.fork();
        let run = |repair: &Repair<'_>| repair.run_on(world.disk.mount()).map(|_| ());
        let (ran, calls) = stopped_at(nth, &run);
        for error in plan.err().iter().chain(ran.as_ref().err()) {
            assert_eq!((error.kind(), error.operation()), (&ErrorKind::Cancelled, "repair"), "{error}");
            assert!(error.touched().is_empty());
        }
        match ran {
            Err(_) => {
                assert_eq!((calls, done), (nth + 1, 0), "it went on");
                assert!(world.contents() == before);
                cancelled += 1;
            }
            Ok(()) if calls > nth => done += 1,
            Ok(()) => break,
        }
        // Nobody holds it any more.
        Repair::new().run_on(world.disk.mount()).unwrap();
        world.is_repaired(&before, true, |record| {
            record.bytes().contains(&(base(&whole.segments[1]) + BLOCK as u64 + 300))
        });
    }
    assert!(cancelled > 10 && done > 2, "{cancelled} {done}");
    let cut = Repair::new().cut(Lsn(0)).progress(&|_| ControlFlow::Break(()));
    assert_eq!(cut.run_on(whole.disk.mount()).unwrap_err().kind(), &ErrorKind::Cancelled);
}
