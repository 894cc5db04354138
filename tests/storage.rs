//! What every storage does alike: real files, the simulated disk, and a wrapper that lets all through.
#![cfg(feature = "sim")]
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::fs;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use seawall::sim::{Disk, Failing};
use seawall::storage::{Background, File, Fs, Next, Storage};

/// Runs `test` on an empty directory of each kind.
fn on_each(test: impl Fn(Arc<dyn Storage>)) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let disk = Disk::new(1);
    let storages: [Arc<dyn Storage>; 3] = [
        Arc::new(Fs::new(dirs[0].path().join("log"))),
        disk.mount(),
        Failing::new(Arc::new(Fs::new(dirs[1].path().join("log")))),
    ];
    for storage in storages {
        println!("on {storage:?}");
        storage.create_dir().unwrap();
        test(storage);
    }
}

fn content(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0xee; file.len().unwrap() as usize + 100];
    let mut done = 0;
    while let n @ 1.. = file.read_at(&mut bytes[done..], done as u64).unwrap() {
        done += n;
    }
    bytes.truncate(done);
    bytes
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

fn names(storage: &dyn Storage) -> Vec<String> {
    let mut names: Vec<_> = storage.list().unwrap().into_iter().map(|(name, _)| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_directory_that_is_not_there_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    for storage in [Arc::new(Fs::new(dir.path().join("none"))) as Arc<dyn Storage>, Disk::new(1).mount()] {
        assert_eq!(kind(storage.list()), ErrorKind::NotFound);
        assert_eq!(kind(storage.lock()), ErrorKind::NotFound);
        assert_eq!(kind(storage.open("a", false)), ErrorKind::NotFound);
        assert_eq!(kind(storage.create("a")), ErrorKind::NotFound);
        assert_eq!(kind(storage.sync_dir()), ErrorKind::NotFound);
    }
}

#[test]
fn a_directory_is_made_once_and_again() {
    on_each(|storage| {
        storage.create_dir().unwrap();
        storage.create("a").unwrap();
        storage.create_dir().unwrap();
        assert_eq!(names(&*storage), ["a"]);
    });
}

#[test]
fn a_file_is_made_once_and_found_by_its_name() {
    on_each(|storage| {
        assert_eq!(kind(storage.open("a", true)), ErrorKind::NotFound);
        let a = storage.create("a").unwrap();
        assert_eq!(a.len().unwrap(), 0);
        assert_eq!(kind(storage.create("a")), ErrorKind::AlreadyExists);
        a.write_at(b"one", 0).unwrap();
        assert_eq!(content(&*storage.open("a", false).unwrap()), b"one");
        assert_eq!(storage.list().unwrap(), [("a".into(), true)]);
    });
}

#[test]
fn what_is_written_is_read_and_gaps_are_zeros() {
    on_each(|storage| {
        let a = storage.create("a").unwrap();
        a.write_at(&[1; 700], 1000).unwrap();
        a.write_at(&[2; 600], 500).unwrap();
        let expected = [&[0; 500][..], &[2; 600], &[1; 600]].concat();
        assert_eq!(content(&*a), expected);
        let mut part = [9; 10];
        assert_eq!(a.read_at(&mut part, 1695).unwrap(), 5);
        assert_eq!(a.read_at(&mut part, 1700).unwrap(), 0);
        assert_eq!(a.read_at(&mut part, u64::from(u32::MAX)).unwrap(), 0);
        a.sync().unwrap();
        assert_eq!(content(&*a), expected);
    });
}

#[test]
fn a_file_opened_for_reading_is_not_written() {
    on_each(|storage| {
        storage.create("a").unwrap().write_at(b"one", 0).unwrap();
        let a = storage.open("a", false).unwrap();
        assert!(a.write_at(b"two", 0).is_err());
        assert!(a.set_len(0).is_err());
        assert_eq!(content(&*a), b"one");
    });
}

#[test]
fn a_cut_takes_bytes_away_for_good() {
    on_each(|storage| {
        let a = storage.create("a").unwrap();
        a.write_at(&[1; 2000], 0).unwrap();
        a.set_len(700).unwrap();
        assert_eq!(content(&*a), [1; 700]);
        a.set_len(1500).unwrap();
        assert_eq!(content(&*a), [&[1; 700][..], &[0; 800]].concat());
    });
}

#[test]
fn allocating_makes_the_length_exact_and_keeps_what_was_written() {
    on_each(|storage| {
        let a = storage.create("a").unwrap();
        a.write_at(b"one", 0).unwrap();
        a.allocate(16384).unwrap();
        assert_eq!(a.len().unwrap(), 16384);
        assert_eq!(&content(&*a)[..5], b"one\0\0");
        a.allocate(8192).unwrap();
        assert_eq!(a.len().unwrap(), 8192);
        assert_eq!(&content(&*a)[..5], b"one\0\0");
    });
}

#[test]
fn a_handle_outlives_a_new_name_and_the_last_one() {
    on_each(|storage| {
        let a = storage.create("a").unwrap();
        let b = storage.create("b").unwrap();
        b.write_at(b"old b", 0).unwrap();
        a.write_at(b"was a", 0).unwrap();
        storage.rename("a", "b").unwrap();
        assert_eq!(names(&*storage), ["b"]);
        assert_eq!(content(&*storage.open("b", false).unwrap()), b"was a");
        a.write_at(b"is", 0).unwrap();
        assert_eq!(content(&*storage.open("b", false).unwrap()), b"iss a");
        assert_eq!(content(&*b), b"old b");
        storage.remove("b").unwrap();
        assert_eq!(kind(storage.remove("b")), ErrorKind::NotFound);
        assert_eq!(kind(storage.rename("b", "c")), ErrorKind::NotFound);
        a.write_at(b"n", 0).unwrap();
        assert_eq!(content(&*a), b"nss a");
        a.sync().unwrap();
        storage.sync_dir().unwrap();
    });
}

#[test]
fn a_map_shows_the_first_bytes_and_outlives_the_file() {
    on_each(|storage| {
        let a = storage.create("a").unwrap();
        a.write_at(&[7; 5000], 0).unwrap();
        assert_eq!(kind(a.map(5001)), ErrorKind::UnexpectedEof);
        let map = a.map(4999).unwrap();
        let whole = storage.open("a", false).unwrap().map(5000).unwrap();
        drop(a);
        storage.remove("a").unwrap();
        assert_eq!((*map).as_ref(), [7; 4999]);
        assert_eq!((*whole).as_ref(), [7; 5000]);
        let empty = storage.create("b").unwrap().map(0).unwrap();
        assert_eq!((*empty).as_ref(), b"");
    });
}

#[test]
fn the_lock_is_exclusive_until_it_is_dropped() {
    on_each(|storage| {
        let lock = storage.lock().unwrap();
        assert_eq!(kind(storage.lock()), ErrorKind::WouldBlock);
        drop(lock);
        drop(storage.lock().unwrap());
    });
}

#[test]
fn the_lock_is_exclusive_over_all_handles_on_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(1);
    disk.mount().create_dir().unwrap();
    let pairs: [[Arc<dyn Storage>; 2]; 2] =
        [[Arc::new(Fs::new(dir.path())), Arc::new(Fs::new(dir.path().join(".")))], [disk.mount(), disk.mount()]];
    for [one, other] in pairs {
        let lock = one.lock().unwrap();
        assert_eq!(kind(other.lock()), ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(kind(other.lock()), ErrorKind::WouldBlock);
        drop(lock);
        other.lock().unwrap();
    }
}

#[test]
fn random_bytes_are_not_given_twice() {
    on_each(|storage| {
        let mut draws = [[0; 1000], [0; 1000]];
        for draw in &mut draws {
            storage.random(draw).unwrap();
        }
        assert_ne!(draws[0], draws[1]);
        assert!(draws[0].iter().filter(|&&byte| byte == 0).count() < 100);
        storage.random(&mut []).unwrap();
    });
}

#[test]
fn the_clock_does_not_go_back() {
    on_each(|storage| {
        let before = storage.now();
        assert!(storage.now() >= before);
    });
}

#[test]
fn background_work_begins_idle_runs_when_woken_and_is_joined() {
    on_each(|storage| {
        let calls = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&calls);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let step = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            if stopping.load(Ordering::SeqCst) { Next::Stop } else { Next::Idle(None) }
        };
        let work = storage.background("test", Box::new(step)).unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        stop.store(true, Ordering::SeqCst);
        work.wake();
        work.join();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        work.wake();
        work.join();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_step_is_called_again_at_once_or_after_its_time() {
    on_each(|storage| {
        let mut answers =
            [Next::Again, Next::Idle(Some(Duration::from_millis(1))), Next::Again, Next::Stop].into_iter();
        let (calls, called) = mpsc::channel();
        let step = move || {
            calls.send(()).unwrap();
            answers.next().unwrap()
        };
        let work = storage.background("test", Box::new(step)).unwrap();
        work.wake();
        work.join();
        assert_eq!(called.iter().count(), 4);
    });
}

#[test]
fn a_step_may_use_the_storage_and_wake_itself_and_others() {
    on_each(|storage| {
        let handles: Arc<[OnceLock<Box<dyn Background>>; 2]> = Arc::default();
        for own in 0..2 {
            let (inside, all) = (Arc::clone(&storage), Arc::clone(&handles));
            let mut calls = 0;
            let step = move || {
                calls += 1;
                inside.create(&format!("{own} {calls}")).unwrap();
                for work in all.iter() {
                    work.get().unwrap().wake();
                }
                if calls == 3 { Next::Stop } else { Next::Idle(None) }
            };
            handles[own].set(storage.background("test", Box::new(step)).unwrap_or_else(|_| panic!())).ok().unwrap();
        }
        handles[0].get().unwrap().wake();
        handles[0].get().unwrap().join();
        handles[1].get().unwrap().join();
        assert_eq!(names(&*storage), ["0 1", "0 2", "0 3", "1 1", "1 2", "1 3"]);
    });
}

#[test]
fn no_wake_is_lost_on_a_thread() {
    let (said, heard) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (value, answer) = (Arc::clone(&said), Arc::clone(&heard));
    let step = move || match value.load(Ordering::SeqCst) {
        u64::MAX => Next::Stop,
        value => {
            answer.store(value, Ordering::SeqCst);
            (0..value % 101).for_each(|_| std::hint::spin_loop());
            Next::Idle(None)
        }
    };
    let work = Fs::new("unused").background("test", Box::new(step)).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    for round in 1..=500_000 {
        // The step has just answered: wake it at various moments of its falling asleep.
        (0..round % 31).for_each(|_| std::hint::spin_loop());
        said.store(round, Ordering::SeqCst);
        work.wake();
        let mut looks = 0_u32;
        while heard.load(Ordering::SeqCst) != round {
            looks += 1;
            if looks.is_multiple_of(256) {
                assert!(Instant::now() < limit, "the wake was lost");
                std::thread::yield_now();
            }
        }
    }
    said.store(u64::MAX, Ordering::SeqCst);
    work.wake();
    work.join();
}

#[test]
fn a_step_that_panics_does_not_hang_a_join() {
    let work = Fs::new("unused").background("panics", Box::new(|| panic!("as the test wants"))).unwrap();
    work.wake();
    work.join();
    work.join();

    let disk = Disk::new(1);
    let work = disk.mount().background("panics", Box::new(|| panic!("as the test wants"))).unwrap();
    work.wake();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disk.step())).is_err());
    work.join();
}

#[test]
fn two_threads_may_join_the_same_work() {
    let go = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&go);
    let step = move || {
        if gone.load(Ordering::SeqCst) { Next::Stop } else { Next::Again }
    };
    let work = Fs::new("unused").background("test", Box::new(step)).unwrap();
    work.wake();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                work.join();
                assert!(go.load(Ordering::SeqCst));
            });
        }
        go.store(true, Ordering::SeqCst);
    });
}

#[test]
fn real_directories_are_made_with_their_parents() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    Fs::new(&deep).create_dir().unwrap();
    assert!(deep.is_dir());
    fs::write(dir.path().join("file"), b"").unwrap();
    assert_eq!(kind(Fs::new(dir.path().join("file")).create_dir()), ErrorKind::NotADirectory);
    assert_eq!(kind(Fs::new(dir.path().join("file/below")).create_dir()), ErrorKind::NotADirectory);
    Fs::new("/").create_dir().unwrap();
    Fs::new(".").create_dir().unwrap();
}

#[test]
fn only_plain_files_are_listed_as_such() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    let mut listed = Fs::new(dir.path()).list().unwrap();
    listed.sort();
    assert_eq!(listed, [("dir".into(), false), ("file".into(), true), ("link".into(), false)]);
}

#[test]
fn allocating_a_real_file_takes_its_blocks() {
    use std::os::unix::fs::MetadataExt;

    let dir = tempfile::tempdir().unwrap();
    let storage = Fs::new(dir.path());
    let file = storage.create("a").unwrap();
    file.allocate(1 << 20).unwrap();
    assert!(fs::metadata(dir.path().join("a")).unwrap().blocks() * 512 >= 1 << 20);
    file.allocate(4096).unwrap();
    assert!(fs::metadata(dir.path().join("a")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn the_handle_on_the_directory_is_kept_and_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let storage = Fs::new(&path);
    storage.create_dir().unwrap();
    storage.create("a").unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    storage.sync_dir().unwrap();
}

/// A sync that did not reach the kernel would be no fault that a test of the log can see, for most file systems make a name
/// durable with its file: this one refuses.
#[cfg(target_os = "linux")]
#[test]
fn a_sync_asks_the_kernel() {
    let storage = Fs::new("/proc/self");
    assert_eq!(kind(storage.sync_dir()), ErrorKind::InvalidInput);
    assert_eq!(kind(storage.open("comm", false).unwrap().sync()), ErrorKind::InvalidInput);
}
