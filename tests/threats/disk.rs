//! Rows 9 to 12: errors, a full disk, directories that are none, syncs that take long.

use std::io;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use seawall::sim::{Disk, Failing, Fault, Keep, Operation};
use seawall::storage::{Fs, Storage};
use seawall::{ErrorKind, Health, Lsn, Wal};

use crate::common::{CAPACITY, everything, fill, filled, kind, payload, payloads, segments, small};

#[test]
fn row_09_short_and_interrupted_writes_and_reads_are_continued() {
    for n in 1..40 {
        let disk = Disk::new(9);
        let faults = [
            Fault::new(Operation::Write).nth(n).short(7),
            Fault::new(Operation::Write).nth(n + 2).kind(io::ErrorKind::Interrupted),
            Fault::new(Operation::Read).nth(n).short(3),
            Fault::new(Operation::Read).nth(n + 2).kind(io::ErrorKind::Interrupted),
        ];
        faults.into_iter().for_each(|fault| disk.fail(fault));
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..10, 2500);
        assert_eq!(payloads(&wal), filled(0..10, 2500));
        disk.crash(Keep::None);
        drop(wal);
        assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), filled(0..10, 2500));
    }
}

#[test]
fn row_09_a_write_that_fails_poisons_and_nothing_lands_after_the_torn_bytes() {
    for errno in [libc::EIO, libc::EAGAIN, libc::EBADF] {
        for partial in [0, 1, 100, 512, 3000] {
            let disk = Disk::new(9);
            let wal = small().open_on(disk.mount()).unwrap();
            fill(&wal, 0..3, 1000);
            disk.fail(Fault::new(Operation::Write).on(".wal").errno(errno).partial(partial));
            let tickets = [3, 4, 5].map(|n| wal.append(&payload(n, 1000)).unwrap());
            tickets.into_iter().for_each(|ticket| assert_eq!(kind(ticket.wait()), ErrorKind::Poisoned));
            let writes = disk.count(Operation::Write);
            assert_eq!(kind(wal.append(&payload(6, 1000))), ErrorKind::Poisoned);
            assert_eq!(kind(wal.append_checkpoint(b"state")), ErrorKind::Poisoned);
            assert_eq!(kind(wal.clean_before_lsn(Lsn::MAX)), ErrorKind::Poisoned);
            assert_eq!(payloads(&wal), filled(0..3, 1000), "reading goes on");
            assert_eq!(kind(wal.close()), ErrorKind::Poisoned);
            assert_eq!(disk.count(Operation::Write), writes, "something was written afterwards");
            drop(wal);
            let shown = payloads(&small().open_on(disk.mount()).unwrap());
            assert_eq!(shown, filled(0..3 + (partial as u32 / 1024).min(2), 1000));
        }
    }
}

#[test]
fn row_09_a_directory_that_fails_to_sync_poisons() {
    for nth in 1..4 {
        let disk = Disk::new(9);
        let wal = small().open_on(disk.mount()).unwrap();
        disk.fail(Fault::new(Operation::SyncDir).nth(nth));
        let mut acked = 0;
        let e = loop {
            match wal.append(&payload(acked, 2500)).and_then(|ticket| ticket.wait()) {
                Ok(_) => acked += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(*e.kind(), ErrorKind::Poisoned, "{e}");
        assert_eq!(kind(wal.append(b"later")), ErrorKind::Poisoned);
        disk.crash(Keep::None);
        drop(wal);
        assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), filled(0..acked, 2500));
    }
}

#[test]
fn row_09_a_read_error_is_an_error_and_never_nothing_there() {
    let disk = Disk::new(9);
    let wal = small().open_on(disk.mount()).unwrap();
    let lsns = fill(&wal, 0..20, 2500);
    disk.kill();
    drop(wal);
    let reads = {
        let whole = disk.fork();
        drop(small().open_on(whole.mount()).unwrap());
        whole.count(Operation::Read)
    };
    assert!(reads > 5);
    for n in 1..=reads {
        let hurt = disk.fork();
        let before = everything(&hurt);
        hurt.fail(Fault::new(Operation::Read).nth(n));
        match small().open_on(hurt.mount()) {
            Err(e) => {
                assert_eq!(*e.kind(), ErrorKind::Io, "read {n}: {e}");
                assert!(e.path().is_some(), "read {n}: {e}");
                assert_eq!(everything(&hurt), before, "read {n}");
            }
            // Reads that only tidy up need not succeed.
            Ok(wal) => assert_eq!(payloads(&wal), filled(0..20, 2500), "read {n}"),
        }
    }
    let wal = small().open_on(disk.mount()).unwrap();
    let name = segments(&disk).remove(0);
    disk.fail_reads(&name, 6000..6001);
    let e = wal.get(lsns[0]).unwrap_err();
    assert_eq!(*e.kind(), ErrorKind::Io);
    assert!(e.to_string().contains(&name), "{e}");
    assert_eq!(wal.get(lsns[10]).unwrap().payload, payload(10, 2500));
}

/// Appends until the disk is full; how many went in.
fn until_full(wal: &Wal, from: u32, disk: &Disk) -> u32 {
    for n in from.. {
        disk.settle();
        match wal.append(&payload(n, 2500)) {
            Ok(ticket) => assert!(ticket.wait().is_ok()),
            Err(e) => {
                assert_eq!(*e.kind(), ErrorKind::DiskFull, "{e}");
                assert!(e.is_backpressure());
                return n;
            }
        }
    }
    unreachable!()
}

#[test]
fn row_10_a_disk_that_runs_full_is_a_state_that_ends_by_itself() {
    let disk = Disk::new(10);
    disk.capacity(8 * CAPACITY);
    let wal = small().open_on(disk.mount()).unwrap();
    let mut appended = until_full(&wal, 0, &disk);
    assert!(appended > 20, "{appended}");
    assert_eq!(payloads(&wal), filled(0..appended, 2500), "what was refused left nothing behind");
    // Refused again and again, and nothing is poisoned.
    for _ in 0..20 {
        assert_eq!(until_full(&wal, appended, &disk), appended);
    }
    // Where it stands can still be said, and room made up to there.
    let checkpoint = wal.append_checkpoint(b"all of it is done").unwrap().wait().unwrap();
    disk.capacity(disk.used());
    let before = disk.used();
    let cleaned = wal.clean_before_lsn(checkpoint).unwrap();
    assert!(!cleaned.removed.is_empty() && cleaned.failed.is_empty(), "{cleaned:?}");
    assert!(disk.used() <= before, "cleaning took blocks");
    let first = until_full(&wal, appended, &disk);
    assert!(first > appended, "appends did not resume");
    assert_eq!(wal.checkpoint().unwrap().unwrap().lsn, checkpoint);
    appended = first;
    wal.close().unwrap();
    drop(wal);
    disk.crash(Keep::None);
    let wal = small().open_on(disk.mount()).unwrap();
    let last = wal.read(..).unwrap().last().unwrap().unwrap().payload;
    assert_eq!(last, payload(appended - 1, 2500));
}

#[test]
fn row_10_opening_reading_and_cleaning_work_with_zero_bytes_free() {
    for close in [true, false] {
        let disk = Disk::new(10);
        let wal = small().open_on(disk.mount()).unwrap();
        let lsns = fill(&wal, 0..40, 2500);
        if close {
            wal.close().unwrap()
        } else {
            disk.crash(Keep::None)
        }
        drop(wal);
        disk.capacity(disk.used());
        let view = small().open_read_only_on(disk.mount()).unwrap();
        assert!(view.read(..).unwrap().all(|record| record.is_ok()));
        // A reader holds the files that it reads, and with them their room.
        drop(view);
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!(payloads(&wal), filled(0..40, 2500));
        assert_eq!(kind(wal.append(b"no room")), ErrorKind::DiskFull);
        assert_eq!(wal.clean_before_lsn(lsns[20]).unwrap().failed, []);
        assert!(matches!(kind(wal.get(lsns[0])), ErrorKind::Removed { .. }));
        // A spare that was trimmed needs more room than it has; it goes, and its room is there for the next try.
        let resumed = (0..6).find_map(|_| match wal.append(b"room again") {
            Ok(ticket) => Some(ticket),
            Err(e) => {
                assert_eq!(*e.kind(), ErrorKind::DiskFull, "{e}");
                None
            }
        });
        resumed.expect("room was made").wait().unwrap();
        wal.close().unwrap();
        drop(wal);
        disk.crash(Keep::None);
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!(wal.read(..).unwrap().last().unwrap().unwrap().payload, &b"room again"[..]);
    }
}

#[test]
fn row_10_a_disk_that_is_full_from_the_beginning() {
    let disk = Disk::new(10);
    disk.capacity(0);
    let wal = small().open_on(disk.mount()).unwrap();
    for _ in 0..3 {
        assert_eq!(kind(wal.append(b"one")), ErrorKind::DiskFull);
    }
    assert_eq!(disk.used(), 0, "{:?}", disk.names());
    disk.capacity(None);
    wal.append(b"one").unwrap().wait().unwrap();
    wal.close().unwrap();
    assert_eq!(wal.recovery().records, 0);
    drop(wal);
    disk.crash(Keep::None);
    assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), [b"one"]);
}

#[test]
fn row_10_no_room_at_any_step_of_making_a_segment() {
    for kind_of_full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        for operation in [Operation::Allocate, Operation::Create, Operation::Rename] {
            for nth in 1..6 {
                let disk = Disk::new(10);
                let wal = small().open_on(disk.mount()).unwrap();
                disk.fail(Fault::new(operation).nth(nth).kind(kind_of_full));
                let (mut n, mut refused) = (0, 0);
                while n < 20 {
                    match wal.append(&payload(n, 2500)) {
                        Ok(ticket) => {
                            ticket.wait().unwrap();
                            n += 1;
                        }
                        Err(e) => {
                            assert_eq!(*e.kind(), ErrorKind::DiskFull, "{operation:?} {nth}: {e}");
                            refused += 1;
                        }
                    }
                    if n % 3 == 0 {
                        disk.settle();
                    }
                }
                assert!(refused <= 1);
                assert_eq!(payloads(&wal), filled(0..20, 2500));
                wal.close().unwrap();
                drop(wal);
                disk.crash(Keep::None);
                assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), filled(0..20, 2500));
                assert!(disk.names().iter().all(|name| !name.ends_with(".new")), "{:?}", disk.names());
            }
        }
    }
}

#[test]
fn row_10_a_write_without_room_is_repeated_and_its_tickets_wait() {
    let disk = Disk::new(10);
    disk.threads(true);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..2, 1000);
    disk.fail(Fault::new(Operation::Write).on(".wal").kind(io::ErrorKind::StorageFull).for_good());
    let ticket = wal.append(&payload(2, 1000)).unwrap();
    std::thread::scope(|scope| {
        let writes = disk.count(Operation::Write);
        let waiting = scope.spawn(|| ticket.wait());
        while disk.count(Operation::Write) < writes + 2 {
            std::thread::yield_now();
        }
        // Tried more than once, nobody is told yet, and nothing further is let in.
        assert!(!waiting.is_finished());
        assert_eq!(kind(wal.append(&payload(3, 1000))), ErrorKind::DiskFull);
        assert_eq!(payloads(&wal), filled(0..2, 1000));
        disk.heal();
        waiting.join().unwrap().unwrap();
    });
    fill(&wal, 3..5, 1000);
    assert_eq!(payloads(&wal), filled(0..5, 1000));
}

#[test]
fn row_10_no_room_in_a_sync_poisons() {
    for kind_of_full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let disk = Disk::new(10);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..2, 1000);
        disk.fail(Fault::new(Operation::Sync).on(".wal").kind(kind_of_full));
        assert_eq!(kind(wal.append(b"lost?").unwrap().wait()), ErrorKind::Poisoned);
        assert_eq!(kind(wal.append(b"later")), ErrorKind::Poisoned);
    }
}

#[test]
fn row_10_a_failed_sync_of_mark_in_a_clean_leaves_the_front_and_poisons() {
    let disk = Disk::new(10);
    let wal = small().open_on(disk.mount()).unwrap();
    let lsns = fill(&wal, 0..20, 2500);
    let names = disk.names();
    disk.fail(Fault::new(Operation::Sync).on("MARK"));
    assert_eq!(kind(wal.clean_before_lsn(Lsn::MAX)), ErrorKind::Poisoned);
    assert_eq!(disk.names(), names, "nothing goes");
    assert_eq!(wal.get(lsns[0]).unwrap().payload, payload(0, 2500));
    disk.crash(Keep::None);
    drop(wal);
    assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), filled(0..20, 2500));
}

#[test]
fn row_11_directories_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let names = |e: &seawall::Error, path: &std::path::Path| {
        assert_eq!(*e.kind(), ErrorKind::Io, "{e}");
        assert_eq!(e.path(), Some(path), "{e}");
        assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");
    };
    let file = dir.path().join("file");
    std::fs::write(&file, b"not a log").unwrap();
    names(&small().open(&file).unwrap_err(), &file);
    names(&small().open(file.join("below")).unwrap_err(), &file.join("below"));
    assert_eq!(std::fs::read(&file).unwrap(), b"not a log");
    let around = dir.path().join("loop");
    symlink(&around, &around).unwrap();
    names(&small().open(&around).unwrap_err(), &around);
    names(&small().open(around.join("below")).unwrap_err(), &around.join("below"));
    assert_eq!(kind(small().create(false).open(dir.path().join("none"))), ErrorKind::NotFound);
    assert_eq!(kind(small().open_read_only(dir.path().join("none"))), ErrorKind::NotFound);
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["file", "loop"], "nothing half created");
}

#[test]
fn row_11_what_the_system_refuses_at_open_names_the_path_and_changes_nothing() {
    let disk = Disk::new(11);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..20, 2500);
    disk.kill();
    drop(wal);
    for errno in [libc::EMFILE, libc::EROFS, libc::EACCES, libc::EPERM] {
        for operation in [Operation::Lock, Operation::List, Operation::Open, Operation::Len] {
            for nth in 1..20 {
                let hurt = disk.fork();
                let before = everything(&hurt);
                hurt.fail(Fault::new(operation).nth(nth).errno(errno));
                let opened = small().open_on(hurt.mount());
                if opened.is_ok() {
                    assert!(nth > 1, "{operation:?} was never called");
                    break;
                }
                let e = opened.unwrap_err();
                assert_eq!(*e.kind(), ErrorKind::Io, "{e}");
                assert!(e.path().is_some_and(|path| path.starts_with("sim")), "{e}");
                assert_eq!(everything(&hurt), before, "{operation:?} {nth}");
                // The lock was let go: it opens once the reason is gone.
                hurt.heal();
                assert_eq!(payloads(&small().open_on(hurt.mount()).unwrap()), filled(0..20, 2500));
            }
        }
    }
}

#[test]
fn row_11_a_segment_that_cannot_be_made_refuses_the_append_and_not_the_log() {
    for errno in [libc::EMFILE, libc::EROFS, libc::EACCES, libc::EDQUOT, libc::EIO] {
        let disk = Disk::new(11);
        let wal = small().open_on(disk.mount()).unwrap();
        disk.fail(Fault::new(Operation::Create).on(".new").errno(errno).for_good());
        for _ in 0..3 {
            let e = wal.append(b"one").unwrap_err();
            let expected = if errno == libc::EDQUOT { ErrorKind::DiskFull } else { ErrorKind::Io };
            assert_eq!(*e.kind(), expected, "{e}");
            assert!(e.path().is_some_and(|path| path.to_str().unwrap().ends_with(".new")), "{e}");
        }
        assert!(segments(&disk).is_empty());
        disk.heal();
        fill(&wal, 0..10, 2500);
        assert_eq!(payloads(&wal), filled(0..10, 2500));
    }
}

#[test]
fn row_11_a_directory_that_vanishes_is_an_error_and_what_was_read_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let wal = small().open(&path).unwrap();
    let lsns = fill(&wal, 0..4, 2500);
    // Again, if a segment was made in it meanwhile.
    while let Err(e) = std::fs::remove_dir_all(&path) {
        assert_eq!(e.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{e}");
    }
    let mut failed = None;
    for n in 4..40 {
        if let Err(e) = wal.append(&payload(n, 2500)).and_then(|ticket| ticket.wait()) {
            failed = Some(e);
            break;
        }
    }
    let e = failed.expect("segments were made in a directory that is gone");
    assert!(e.path().is_some_and(|at| at.starts_with(&path)), "{e}");
    assert_eq!(wal.get(lsns[0]).unwrap().payload, payload(0, 2500));
    drop(wal);
    assert!(!path.exists());
}

#[test]
fn row_12_while_a_sync_takes_long_appends_go_on_and_readers_are_not_blocked() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = small().segment_size(4 << 20).max_buffered_bytes(512 << 10).open_on(Arc::clone(&slow) as _).unwrap();
    let lsns = fill(&wal, 0..10, 1000);
    std::thread::scope(|scope| {
        let hold = slow.hold(Operation::Sync);
        let ticket = wal.append(&payload(10, 1000)).unwrap();
        let waiting = scope.spawn(|| ticket.wait());
        hold.wait_for(1);
        // With the sync under way: reading, appending to memory, and asking, all from here.
        assert_eq!(wal.get(lsns[3]).unwrap().payload, payload(3, 1000));
        assert_eq!(payloads(&wal), filled(0..10, 1000));
        assert_eq!(wal.read(lsns[5]..).unwrap().count(), 5);
        let view = small().open_read_only(dir.path()).unwrap();
        assert!(view.read(..).unwrap().count() >= 9);
        let mut n = 11;
        while n < 400 {
            drop(wal.append(&payload(n, 1000)).unwrap());
            n += 1;
        }
        assert_eq!(wal.durable_lsn(), Lsn(lsns[9].0 + 1024));
        assert!(wal.stats().buffered_bytes <= 512 << 10);
        // Health says so, while the sync is under way and when it is done, and that appends go on.
        let began = Instant::now();
        while matches!(wal.health(), Health::Healthy) && began.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        let slow = |health: Health| health.takes_appends() && matches!(health, Health::SlowSync { .. });
        assert!(slow(wal.health()), "{:?}", wal.health());
        assert!(!waiting.is_finished());
        drop(hold);
        waiting.join().unwrap().unwrap();
        assert!(slow(wal.health()), "{:?}", wal.health());
    });
    wal.sync().unwrap();
    assert_eq!(payloads(&wal), filled(0..400, 1000));
}

/// Of the frames of the round under way none says what was acknowledged last: MARK does.
#[test]
fn row_12_a_reader_elsewhere_sees_what_is_acknowledged_while_the_next_sync_takes_long() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = small().segment_size(1 << 20).open_on(Arc::clone(&slow) as _).unwrap();
    fill(&wal, 0..2, 100);
    let (go_on, held) = mpsc::channel();
    let (held, before) = (Mutex::new(held), slow.count(Operation::Sync));
    slow.before(Operation::Sync, move || _ = held.lock().unwrap().recv());
    std::thread::scope(|scope| {
        let one = scope.spawn(|| wal.append(b"one").unwrap().wait().unwrap());
        while slow.count(Operation::Sync) == before {
            std::thread::yield_now();
        }
        let other = scope.spawn(|| wal.append(b"other").unwrap().wait().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        go_on.send(()).unwrap();
        let lsn = one.join().unwrap();
        let view = small().open_read_only(dir.path()).unwrap();
        let shown = view.get(lsn).map(|record| record.payload);
        go_on.send(()).unwrap();
        other.join().unwrap();
        assert_eq!(shown.unwrap(), &b"one"[..]);
    });
}

#[test]
fn row_12_a_batch_beyond_the_bound_of_memory_is_not_passed_by_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = small().segment_size(4 << 20).max_buffered_bytes(512 << 10).open_on(Arc::clone(&slow) as _).unwrap();
    fill(&wal, 0..1, 1000);
    slow.delay(Operation::Write, Duration::from_millis(10));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Little by little, so that the bound holds nobody of them up.
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(wal.append(&[0; 100]).unwrap());
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(50));
        let large = scope.spawn(|| wal.append(&vec![1; 600 << 10]).unwrap().wait().unwrap());
        let began = Instant::now();
        while !large.is_finished() && began.elapsed() < Duration::from_secs(4) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let finished = large.is_finished();
        done.store(true, Ordering::Relaxed);
        assert!(finished, "passed by for {:?}", began.elapsed());
    });
}

#[test]
fn row_12_beyond_the_bound_of_memory_appends_wait_and_try_append_answers() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Failing::new(Arc::new(Fs::new(dir.path())));
    let storage: Arc<dyn Storage> = slow.clone();
    let wal = small().segment_size(4 << 20).max_buffered_bytes(512 << 10).open_on(storage).unwrap();
    fill(&wal, 0..1, 1000);
    let hold = slow.hold(Operation::Write);
    let mut n = 1;
    let e = loop {
        match wal.try_append(&payload(n, 1000)) {
            Ok(_) => n += 1,
            Err(e) => break e,
        }
        assert!(wal.stats().buffered_bytes <= 512 << 10);
    };
    assert_eq!(*e.kind(), ErrorKind::Backpressure);
    assert!(n > 400, "{n} records in 512 KiB");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wal.append(&payload(n, 1000)).map(|ticket| ticket.wait()));
        hold.wait_for(1);
        assert_eq!(kind(wal.try_append(b"no")), ErrorKind::Backpressure);
        assert!(!waiting.is_finished());
        drop(hold);
        waiting.join().unwrap().unwrap().unwrap();
    });
    assert_eq!(payloads(&wal), filled(0..n + 1, 1000));
    slow.delay(Operation::Sync, Duration::from_millis(1));
    wal.close().unwrap();
}

/// A segment that ended early was tried first, which there was no block to fill: the append was refused beside a whole one.
#[test]
fn row_10_a_short_spare_is_no_full_disk_beside_a_whole_one() {
    // The first two fill a segment to its end, the other leaves it short.
    let (whole, short) = (&[8160, 3976][..], &[7000][..]);
    for segments in [[whole, short], [short, whole]] {
        let disk = Disk::new(10);
        let wal = small().open_on(disk.mount()).unwrap();
        for length in segments.concat() {
            wal.append(&vec![0; length]).unwrap().wait().unwrap();
        }
        fill(&wal, 1..2, 7000);
        disk.settle();
        wal.clean_before_lsn(Lsn::MAX).unwrap();
        let lengths: Vec<_> = disk.names().iter().map(|name| disk.file(name).unwrap().len()).collect();
        assert!(lengths.iter().filter(|length| **length == 16384).count() == 4 && lengths.len() == 6, "{lengths:?}");
        disk.capacity(disk.used());
        // One goes to a segment that was prepared, the next to one out of a spare, for the reserve stays.
        fill(&wal, 2..4, 7000);
        let refused = wal.append(&payload(4, 7000)).unwrap_err();
        assert_eq!(
            (refused.kind(), wal.health().takes_appends()),
            (&ErrorKind::DiskFull, false),
            "{lengths:?}: {refused}"
        );
    }
}
