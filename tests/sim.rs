//! The controls of the simulated disk and of the failing wrapper.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use seawall::sim::{Disk, Failing, Fault, Keep, Operation};
use seawall::storage::{Fs, Next, Storage};

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

fn mounted(seed: u64) -> (Disk, Arc<dyn Storage>) {
    let disk = Disk::new(seed);
    let storage = disk.mount();
    storage.create_dir().unwrap();
    (disk, storage)
}

/// Ten mutating operations.
fn ten_operations(storage: &dyn Storage) -> io::Result<()> {
    storage.create_dir()?;
    let a = storage.create("a")?;
    a.allocate(4096)?;
    a.write_at(&[1; 2048], 0)?;
    a.sync()?;
    storage.rename("a", "b")?;
    storage.sync_dir()?;
    a.set_len(2048)?;
    a.write_at(&[2; 2048], 0)?;
    storage.remove("b")
}

#[test]
fn a_crash_point_stops_the_machine_in_the_nth_mutating_operation() {
    let shown = |done: u64| {
        let disk = Disk::new(1);
        disk.crash_at(done + 1);
        assert_eq!(ten_operations(&*disk.mount()).is_ok(), done >= 10, "{done}");
        assert_eq!(disk.crashed(), done < 10);
        assert_eq!(disk.operations(), (done + 1).min(10));
        (disk.names(), disk.file("a"), disk.file("b"), disk.dirty_units())
    };
    assert_eq!(shown(2), (vec!["a".into()], Some(vec![]), None, 1));
    assert_eq!(shown(3), (vec!["a".into()], Some(vec![0; 4096]), None, 2));
    assert_eq!(shown(4), (vec!["a".into()], Some([[1; 2048], [0; 2048]].concat()), None, 6));
    assert_eq!(shown(5), (vec!["a".into()], Some([[1; 2048], [0; 2048]].concat()), None, 1));
    assert_eq!(shown(6), (vec!["b".into()], None, Some([[1; 2048], [0; 2048]].concat()), 2));
    assert_eq!(shown(9), (vec!["b".into()], None, Some(vec![2; 2048]), 5));
    assert_eq!(shown(10), (vec![], None, None, 6));
}

#[test]
fn after_the_crash_point_nothing_answers_and_nothing_changes() {
    let (disk, storage) = mounted(1);
    let a = storage.create("a").unwrap();
    a.write_at(b"a", 0).unwrap();
    disk.crash_at(1);
    assert_eq!(a.len().unwrap(), 1, "reads do not count");
    assert!(a.sync().is_err());
    for _ in 0..2 {
        assert!(a.write_at(b"b", 0).is_err() && a.sync().is_err() && a.set_len(0).is_err() && a.allocate(9).is_err());
        assert!(a.read_at(&mut [0], 0).is_err() && a.len().is_err() && a.map(1).is_err());
        assert!(storage.open("a", false).is_err() && storage.create("b").is_err() && storage.list().is_err());
        assert!(storage.rename("a", "b").is_err() && storage.remove("a").is_err() && storage.sync_dir().is_err());
        assert!(storage.lock().is_err() && storage.random(&mut [0]).is_err() && storage.create_dir().is_err());
        assert!(storage.background("test", Box::new(|| Next::Stop)).is_err());
        assert_eq!((disk.names(), disk.file("a").unwrap(), disk.dirty_units()), (vec!["a".into()], b"a".to_vec(), 3));
        // A new machine; the handles of the old one stay dead.
        disk.kill();
    }
    assert_eq!(disk.mount().open("a", false).unwrap().len().unwrap(), 1);
    assert!(!disk.crashed());
}

#[test]
fn a_torn_write_leaves_some_first_sectors() {
    let seen = (0..100).map(|seed| {
        let (disk, storage) = mounted(seed);
        let a = storage.create("a").unwrap();
        disk.crash_torn_at(1);
        assert!(a.write_at(&[1; 1500], 100).is_err());
        assert!(disk.crashed());
        disk.file("a").unwrap().len()
    });
    assert_eq!(seen.collect::<BTreeSet<_>>(), [0, 512, 1024, 1536].into());
}

#[test]
fn a_kill_keeps_the_cache_and_frees_the_lock() {
    let (disk, storage) = mounted(1);
    let lock = storage.lock().unwrap();
    let a = storage.create("a").unwrap();
    a.write_at(b"unsynced", 0).unwrap();
    let work = storage.background("test", Box::new(|| panic!("must not run"))).unwrap();
    work.wake();
    disk.kill();
    work.wake();
    work.join();
    assert!(!disk.step());
    let again = disk.mount();
    let second = again.lock().unwrap();
    drop(lock);
    assert_eq!(kind(again.lock()), ErrorKind::WouldBlock, "the old guard frees nothing");
    drop(second);
    again.lock().unwrap();
    assert_eq!(disk.file("a").unwrap(), b"unsynced");
    assert!(a.read_at(&mut [0], 0).is_err());
    disk.crash(Keep::None);
    assert!(disk.names().is_empty());
}

#[test]
fn a_fork_is_independent() {
    let (disk, storage) = mounted(1);
    let a = storage.create("a").unwrap();
    a.write_at(b"one", 0).unwrap();
    let _lock = storage.lock().unwrap();
    disk.crash_at(3);
    disk.fail(Fault::new(Operation::Sync));
    let fork = disk.fork();
    assert_eq!((fork.operations(), fork.crashed()), (0, false));
    let other = fork.mount();
    let _other_lock = other.lock().unwrap();
    let b = other.open("a", true).unwrap();
    b.write_at(b"two", 0).unwrap();
    b.sync().unwrap();
    other.sync_dir().unwrap();
    assert_eq!((disk.file("a").unwrap(), fork.file("a").unwrap()), (b"one".to_vec(), b"two".to_vec()));
    a.write_at(b"six", 0).unwrap();
    assert_eq!(fork.file("a").unwrap(), b"two");
    fork.crash(Keep::None);
    assert_eq!((disk.file("a").unwrap(), fork.file("a").unwrap()), (b"six".to_vec(), b"two".to_vec()));
    a.write_at(b"ten", 0).unwrap();
    disk.crash(Keep::None);
    assert_eq!((disk.file("a"), fork.file("a").unwrap()), (None, b"two".to_vec()));
}

#[test]
fn everything_follows_from_the_seed() {
    let run = |seed| {
        let (disk, storage) = mounted(seed);
        let mut salt = [0; 32];
        storage.random(&mut salt).unwrap();
        let a = storage.create("a").unwrap();
        storage.sync_dir().unwrap();
        a.write_at(&[7; 8192], 0).unwrap();
        disk.fail(Fault::new(Operation::Sync));
        a.sync().unwrap_err();
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..8 {
            let order = Arc::clone(&order);
            let step = move || {
                order.lock().unwrap().push(number);
                Next::Idle(None)
            };
            storage.background("test", Box::new(step)).unwrap().wake();
        }
        disk.settle();
        disk.crash(Keep::Random(seed));
        (salt, order.lock().unwrap().clone(), disk.file("a").unwrap())
    };
    assert_eq!(run(1), run(1));
    let (one, two) = (run(1), run(2));
    assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2);
}

#[test]
fn a_full_disk_refuses_new_blocks_and_writes_taken_ones() {
    let (disk, storage) = mounted(1);
    disk.capacity(4096);
    let a = storage.create("a").unwrap();
    assert_eq!(kind(a.allocate(4097)), ErrorKind::StorageFull);
    assert_eq!((a.len().unwrap(), disk.used()), (0, 0));
    a.allocate(3072).unwrap();
    let b = storage.create("b").unwrap();
    assert_eq!(b.write_at(&[1; 2000], 0).unwrap(), 1024, "what fits is written");
    assert_eq!(kind(b.write_at(&[1; 976], 1024)), ErrorKind::StorageFull);
    assert_eq!(disk.used(), 4096);
    assert_eq!(a.write_at(&[2; 3072], 0).unwrap(), 3072);
    a.sync().unwrap();
    b.sync().unwrap();
    storage.sync_dir().unwrap();
    let c = storage.create("c").unwrap();
    assert_eq!(kind(c.write_at(b"c", 0)), ErrorKind::StorageFull);

    storage.remove("b").unwrap();
    assert_eq!(disk.used(), 4096, "it is still open");
    drop(b);
    assert_eq!(disk.used(), 3072);
    a.set_len(1000).unwrap();
    assert_eq!(disk.used(), 1024);
    disk.crash(Keep::None);
    assert_eq!(disk.used(), 4096);
    disk.capacity(None);
    disk.mount().open("a", true).unwrap().allocate(1 << 20).unwrap();
}

#[test]
fn faults_strike_the_call_they_name() {
    let (disk, storage) = mounted(1);
    let files = ["a.wal", "b.wal", "MARK"].map(|name| storage.create(name).unwrap());
    disk.fail(Fault::new(Operation::Write).on(".wal").nth(2).kind(ErrorKind::QuotaExceeded));
    disk.fail(Fault::new(Operation::Sync).on("MARK").for_good().errno(28));
    let written = [0, 2, 1, 0, 2, 1].map(|number: usize| files[number].write_at(b"x", 0).is_ok());
    assert_eq!(written, [true, true, false, true, true, true]);
    for _ in 0..3 {
        assert_eq!(kind(files[2].sync()), ErrorKind::StorageFull);
        files[0].sync().unwrap();
    }
    // A file is known by its present name.
    storage.rename("MARK", "x").unwrap();
    files[2].sync().unwrap();
    storage.rename("x", "MARK").unwrap();
    disk.heal();
    files[2].sync().unwrap();

    disk.fail(Fault::new(Operation::Rename).on("b"));
    disk.fail(Fault::new(Operation::Create));
    disk.fail(Fault::new(Operation::Remove).nth(2));
    storage.rename("MARK", "a").unwrap();
    assert!(storage.rename("a", "b").is_err());
    assert_eq!(disk.names(), ["a", "a.wal", "b.wal"]);
    assert!(storage.create("c").is_err());
    storage.create("c").unwrap();
    storage.remove("c").unwrap();
    assert!(storage.remove("a").is_err());
    assert_eq!(disk.names(), ["a", "a.wal", "b.wal"]);
    assert_eq!((disk.count(Operation::Create), disk.count(Operation::Sync)), (5, 8));
}

/// Both kinds of storage with faults, each as (storage, how to set a fault).
fn with_faults(test: impl Fn(Arc<dyn Storage>, &dyn Fn(Fault))) {
    let (disk, storage) = mounted(1);
    test(storage, &|fault| disk.fail(fault));
    let dir = tempfile::tempdir().unwrap();
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    test(failing.clone(), &|fault| failing.fail(fault));
}

#[test]
fn writes_and_reads_come_short_or_fail_in_the_middle() {
    with_faults(|storage, fail| {
        let a = storage.create("a").unwrap();
        let mut buf = [0; 10];
        fail(Fault::new(Operation::Write).short(3));
        assert_eq!(a.write_at(b"abcdef", 0).unwrap(), 3);
        assert_eq!(a.read_at(&mut buf, 0).unwrap(), 3);
        fail(Fault::new(Operation::Write).partial(4));
        assert_eq!(a.write_at(b"ABCDEF", 0).unwrap_err().raw_os_error(), Some(5));
        fail(Fault::new(Operation::Read).short(2));
        assert_eq!(a.read_at(&mut buf, 0).unwrap(), 2);
        assert_eq!(a.read_at(&mut buf, 0).unwrap(), 4);
        assert_eq!(&buf[..4], b"ABCD");
        fail(Fault::new(Operation::Write).kind(ErrorKind::Interrupted));
        assert_eq!(kind(a.write_at(b"x", 0)), ErrorKind::Interrupted);
        assert_eq!(a.read_at(&mut buf, 0).unwrap(), 4);
        assert_eq!(&buf[..4], b"ABCD");
    });
}

#[test]
fn every_kind_of_operation_can_fail_once_and_works_again() {
    with_faults(|storage, fail| {
        storage.create_dir().unwrap();
        let a = storage.create("a").unwrap();
        a.write_at(&[1; 100], 0).unwrap();
        let mut number = 0;
        let mut call = |operation| match operation {
            // The disk has its directory already and does not count the making of it.
            Operation::CreateDir => Err(io::ErrorKind::Other.into()),
            Operation::Create => {
                number += 1;
                storage.create(&format!("new {number}")).map(drop)
            }
            Operation::Rename => storage.rename("a", "a"),
            Operation::Remove => storage.remove("new 2"),
            Operation::Write => a.write_at(b"x", 0).map(drop),
            Operation::Sync => a.sync(),
            Operation::SyncDir => storage.sync_dir(),
            Operation::Allocate => a.allocate(100),
            Operation::SetLen => a.set_len(100),
            Operation::Lock => storage.lock().map(drop),
            Operation::List => storage.list().map(drop),
            Operation::Open => storage.open("a", true).map(drop),
            Operation::Len => a.len().map(drop),
            Operation::Read => a.read_at(&mut [0], 0).map(drop),
            Operation::Map => a.map(1).map(drop),
            Operation::Random => storage.random(&mut [0]),
            Operation::Background => storage.background("test", Box::new(|| Next::Stop)).map(drop),
            other => panic!("{other:?} is not tested"),
        };
        for &operation in Operation::ALL.iter().filter(|&&operation| operation != Operation::CreateDir) {
            fail(Fault::new(operation).kind(ErrorKind::HostUnreachable));
            assert_eq!(kind(call(operation)), ErrorKind::HostUnreachable, "{operation:?}");
            call(operation).unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        }
    });
}

#[test]
fn bytes_under_a_live_map_are_watched() {
    let (disk, storage) = mounted(1);
    let a = storage.create("a").unwrap();
    a.write_at(&[1; 2000], 0).unwrap();
    let map = a.map(1000).unwrap();
    a.write_at(b"x", 1000).unwrap();
    a.set_len(1000).unwrap();
    storage.remove("a").unwrap();
    assert_eq!(disk.violations(), Vec::<String>::new());
    a.write_at(b"x", 999).unwrap();
    a.set_len(999).unwrap();
    a.allocate(500).unwrap();
    assert_eq!(disk.violations().len(), 3, "{:?}", disk.violations());
    assert_eq!((*map).as_ref(), [1; 1000]);
    drop(map);
    a.write_at(b"x", 0).unwrap();
    assert_eq!(disk.violations().len(), 3);

    disk.put("b", b"bytes");
    let _map = storage.open("b", false).unwrap().map(5).unwrap();
    disk.kill();
    disk.mount().open("b", true).unwrap().write_at(b"x", 0).unwrap();
    assert_eq!(disk.violations().len(), 3, "the process that had mapped it is dead");
}

#[test]
fn damage_by_hand_is_durable_and_seen_by_open_handles() {
    let (disk, storage) = mounted(1);
    let a = storage.create("a").unwrap();
    a.write_at(b"good", 0).unwrap();
    disk.put("a", b"rotten");
    let mut buf = [0; 6];
    assert_eq!(a.read_at(&mut buf, 0).unwrap(), 6);
    assert_eq!(&buf, b"rotten");
    disk.put("b", b"b");
    disk.put("c", b"c");
    assert!(disk.remove("b") && !disk.remove("b"));
    assert!(disk.rename("c", "d") && !disk.rename("c", "d"));
    assert_eq!(disk.operations(), 3);
    storage.remove("a").unwrap();
    assert_eq!((disk.names(), disk.dirty_units()), (vec!["d".into()], 1));
    disk.crash(Keep::None);
    assert_eq!(disk.names(), ["a", "d"]);
    assert_eq!(disk.file("a").unwrap(), b"rotten");
}

#[test]
fn background_work_waits_for_steps_and_for_the_clock() {
    let (disk, storage) = mounted(1);
    let log = Arc::new(Mutex::new(Vec::new()));
    let spawn = |name: &'static str, next| {
        let log = Arc::clone(&log);
        let step = move || {
            log.lock().unwrap().push(name);
            next
        };
        storage.background(name, Box::new(step)).unwrap()
    };
    let idle = spawn("idle", Next::Idle(None));
    let timed = spawn("timed", Next::Idle(Some(Duration::from_secs(5))));
    let done = spawn("done", Next::Stop);
    let logged = || std::mem::take(&mut *log.lock().unwrap());
    assert!(!disk.step());
    idle.wake();
    idle.wake();
    assert!(disk.step() && !disk.step());
    assert_eq!(logged(), ["idle"]);
    timed.wake();
    disk.settle();
    disk.advance(Duration::from_millis(4999));
    assert!(!disk.step());
    disk.advance(Duration::from_millis(1));
    assert!(disk.step() && !disk.step());
    assert_eq!(logged(), ["timed", "timed"]);
    assert_eq!(storage.now(), Duration::from_secs(5));
    done.wake();
    done.join();
    done.wake();
    assert!(!disk.step());
    assert_eq!(logged(), ["done"]);
}

#[test]
fn joining_what_will_never_be_due_panics_instead_of_hanging() {
    let (_disk, storage) = mounted(1);
    let work = storage.background("test", Box::new(|| Next::Idle(None))).unwrap();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.join())).is_err());
}

#[test]
fn work_is_ended_by_a_crash_in_its_own_step() {
    let (disk, storage) = mounted(1);
    let disk = Arc::new(disk);
    let (inside, file) = (Arc::clone(&disk), storage.create("a").unwrap());
    let step = move || {
        inside.crash(Keep::All);
        assert!(file.len().is_err());
        Next::Again
    };
    let work = storage.background("test", Box::new(step)).unwrap();
    work.wake();
    assert!(disk.step() && !disk.step());
    work.join();
}

#[test]
fn background_work_can_run_on_threads_instead() {
    let (disk, storage) = mounted(1);
    disk.threads(true);
    let inside = Arc::clone(&storage);
    let step = move || {
        inside.create("made").unwrap();
        Next::Stop
    };
    let work = storage.background("test", Box::new(step)).unwrap();
    work.wake();
    work.join();
    assert_eq!(disk.names(), ["made"]);
}

#[test]
fn a_held_call_waits_until_it_is_released() {
    let (_disk, storage) = mounted(1);
    let failing = Failing::new(storage);
    let a = failing.create("a").unwrap();
    let (first, second) = (failing.hold(Operation::Sync), failing.hold(Operation::Sync));
    thread::scope(|scope| {
        let syncs = [(); 2].map(|()| scope.spawn(|| a.sync()));
        first.wait_for(2);
        a.write_at(b"x", 0).unwrap();
        drop(first);
        assert!(syncs.iter().all(|sync| !sync.is_finished()));
        drop(second);
        for sync in syncs {
            sync.join().unwrap().unwrap();
        }
    });
    assert_eq!(failing.count(Operation::Sync), 2);
}

#[test]
fn a_delayed_call_takes_that_long() {
    let (_disk, storage) = mounted(1);
    let failing = Failing::new(storage);
    let a = failing.create("a").unwrap();
    failing.delay(Operation::Sync, Duration::from_millis(20));
    let before = Instant::now();
    a.sync().unwrap();
    assert!(before.elapsed() >= Duration::from_millis(20));
    assert_eq!(failing.struck(), 0);
}

#[test]
fn a_join_waits_for_a_step_that_runs_on_another_thread() {
    let (disk, storage) = mounted(1);
    let (entered, leave) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(std::sync::Barrier::new(2)));
    let (inside, last) = (Arc::clone(&entered), Arc::clone(&leave));
    let done = Arc::new(Mutex::new(false));
    let writer = Arc::clone(&done);
    let step = move || {
        inside.wait();
        last.wait();
        *writer.lock().unwrap() = true;
        Next::Stop
    };
    let work = storage.background("test", Box::new(step)).unwrap();
    work.wake();
    thread::scope(|scope| {
        scope.spawn(|| disk.step());
        entered.wait();
        let joiner = scope.spawn(|| {
            work.join();
            assert!(*done.lock().unwrap());
        });
        leave.wait();
        joiner.join().unwrap();
    });
}

/// A segment is made under another name, by which its handle went on being known.
#[test]
fn a_fault_strikes_a_file_under_the_name_that_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    let file = failing.create("1.wal.new").unwrap();
    failing.fail(Fault::new(Operation::Sync).on("1.wal").for_good());
    failing.fail(Fault::new(Operation::Len).on(".new").for_good());
    assert!(file.len().is_err());
    failing.rename("1.wal.new", "1.wal").unwrap();
    assert!(file.sync().is_err());
    file.len().unwrap();
}
