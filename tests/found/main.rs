//! Faults that reading the source found, each with the calls that showed it.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod checking;
mod cursors;
mod keeping;
#[path = "../common/live.rs"]
mod live;
mod making;
mod reading;
mod waiting;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall::sim::{Disk, Failing, Fault, Keep, Operation};
use seawall::storage::Fs;
use seawall::{Durability, ErrorKind, Lsn, Options, Wal, Why};

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: not within ten seconds");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A clean beside a thread that rotates: the front passed the durable point, and a crash left no log.
#[test]
fn a_clean_beside_rotation_stays_below_the_durable_point() {
    let disk = Disk::new(1);
    let failing = Failing::new(disk.mount());
    // What is waited for is only written, so that the clean has something to sync, and then MARK to write.
    let options = small().durability(Durability::Os);
    let wal = options.open_on(failing.clone()).unwrap();
    for _ in 0..3 {
        drop(wal.append(&[1; 5000]).unwrap());
        wal.append(&[1; 3000]).unwrap().wait().unwrap();
        while disk.step() {}
        wal.rotate().unwrap();
    }
    wal.append(&[2; 8000]).unwrap().wait().unwrap();
    // Another segment lies ready, so that the rotation below needs no file.
    while disk.step() {}
    let held = failing.hold(Operation::Write);
    let cleaned = std::thread::scope(|scope| {
        let clean = scope.spawn(|| wal.clean_before_lsn(Lsn::MAX));
        held.wait_for(1);
        wal.rotate().unwrap();
        drop(wal.append(b"beside").unwrap());
        drop(held);
        clean.join().unwrap().unwrap()
    });
    assert!(cleaned.first <= wal.durable_lsn(), "{cleaned:?}, durable {}", wal.durable_lsn());
    assert_eq!(cleaned.removed.len(), 3, "{cleaned:?}");
    disk.crash(Keep::None);
    let wal = options.open_on(disk.mount()).unwrap();
    let left: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap().payload[0]).collect();
    assert_eq!(left, [2]);
}

/// Another log's MARK decided which segments were read, and the first append wrote over it.
#[test]
fn another_logs_mark_is_not_gone_by_and_moved_aside() {
    let [live, ours] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut foreign = Vec::new();
    for segments in [9, 3] {
        let dir = live.path().join(segments.to_string());
        let wal = small().open(&dir).unwrap();
        for n in 0..segments {
            wal.append(&[n; 3000]).unwrap().wait().unwrap();
            wal.rotate().unwrap();
        }
        wal.append(&[segments; 3000]).unwrap().wait().unwrap();
        if segments == 9 {
            wal.clean_before_lsn(Lsn::MAX).unwrap();
            foreign = std::fs::read(dir.join("MARK")).unwrap();
            continue;
        }
        // As a killed process leaves it.
        live::copy(dir.as_ref(), ours.path());
    }
    std::fs::write(ours.path().join("MARK"), &foreign).unwrap();
    let wal = small().open(ours.path()).unwrap();
    assert_eq!(wal.read(..).unwrap().count(), 4);
    assert!(wal.recovery().notes.iter().any(|note| note.starts_with("MARK: another log's")), "{:?}", wal.recovery());
    assert!(!ours.path().join("MARK.aside").exists(), "nothing is touched before the first append");
    wal.append(&[4; 3000]).unwrap().wait().unwrap();
    wal.close().unwrap();
    assert_eq!(std::fs::read(ours.path().join("MARK.aside")).unwrap(), foreign);
    assert_eq!(small().open(ours.path()).unwrap().read(..).unwrap().count(), 5);
}

/// A relative path meant another directory once the process had changed its own.
#[test]
fn a_relative_path_is_fixed_when_the_storage_is_made() {
    use seawall::storage::Storage;
    assert!(Fs::new("orders").path().is_absolute());
}

/// While somebody led when the interval was over, it was never looked at again.
#[test]
fn the_interval_holds_beside_waiters() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = small().sync_interval(Duration::from_millis(20)).open_on(failing.clone()).unwrap();
    wal.append(b"warm").unwrap().wait().unwrap();
    failing.delay(Operation::Sync, Duration::from_millis(100));
    let late = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wal.append(b"waited for").unwrap().wait().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        let late = wal.append(b"nobody waits").unwrap().lsn();
        waiter.join().unwrap();
        late
    });
    failing.heal();
    soon("the interval", || wal.durable_lsn() > late);
}

/// Waiting for tickets with `Durability::Os` pushed the interval's sync off for ever.
#[test]
fn the_interval_syncs_what_was_only_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = small().durability(Durability::Os).sync_interval(Duration::from_millis(20));
    let wal = options.open(dir.path()).unwrap();
    soon("a sync", || {
        let mut ticket = wal.append(b"x").unwrap();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while std::pin::Pin::new(&mut ticket).poll(&mut context).is_pending() {
            std::thread::yield_now();
        }
        wal.stats().syncs > 2
    });
}

/// A write that met a full disk was not tried again when nobody waited.
#[test]
fn a_full_disk_ends_by_itself_when_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = Options::new().segment_size(4 << 20).open_on(failing.clone()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    failing.fail(Fault::new(Operation::Write).kind(std::io::ErrorKind::StorageFull));
    let met = (0..400).any(|_| wal.append(&[2; 4096]).is_err());
    assert!(met || failing.struck() > 0, "the full disk was not met");
    soon("an append", || wal.append(b"again").is_ok());
    wal.sync().unwrap();
}

/// The syncer that met a full disk woke itself, and tried again without a pause for as long as it was full.
#[test]
fn a_full_disk_is_tried_at_a_pace() {
    let disk = Disk::new(3);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    disk.fail(Fault::new(Operation::Write).on(".wal").kind(std::io::ErrorKind::StorageFull).for_good());
    drop(wal.append(b"waits").unwrap());
    wal.clean_before_lsn(Lsn::ZERO).unwrap();
    for _ in 0..3 {
        let tried = disk.count(Operation::Write);
        assert!((0..100).any(|_| !disk.step()), "it is due again and again");
        assert!(disk.count(Operation::Write) > tried, "it is never tried again");
        disk.advance(Duration::from_millis(100));
    }
    disk.heal();
    disk.settle();
    wal.append(b"again").unwrap().wait().unwrap();
}

/// Spares kept from a life without a bound filled the bound of the next.
#[test]
fn spares_do_not_fill_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for _ in 0..8 {
        wal.append(&[3; 8000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.append(b"x").unwrap().wait().unwrap();
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    wal.close().unwrap();
    let wal = small().max_disk_bytes(64 << 10).open(dir.path()).unwrap();
    wal.append(b"y").unwrap().wait().unwrap();
}

/// After a kill the prepared segments took the room that a checkpoint needs.
#[test]
fn a_full_log_is_cleaned_after_a_kill() {
    let disk = Disk::new(3);
    let options = small().max_disk_bytes(160 << 10);
    let wal = options.open_on(disk.mount()).unwrap();
    wal.append_checkpoint(b"begin").unwrap().wait().unwrap();
    let full = loop {
        match wal.append(&[1; 7000]) {
            Ok(ticket) => drop(ticket.wait().unwrap()),
            Err(e) => break e,
        }
    };
    assert_eq!(*full.kind(), ErrorKind::LogFull);
    disk.kill();
    drop(wal);
    let wal = options.open_on(disk.mount()).unwrap();
    wal.append_checkpoint(b"where we are").unwrap().wait().unwrap();
    assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
    wal.append(b"on we go").unwrap().wait().unwrap();
}

/// A reader whose every look the writer overtook took what was new beyond its end for damage.
#[test]
fn a_reader_slower_than_the_writer_sees_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_size(1 << 20);
    let wal = Arc::new(options.open(dir.path()).unwrap());
    wal.append(b"x").unwrap().wait().unwrap();
    let slow = Failing::new(Arc::new(Fs::new(dir.path())));
    let writer = Arc::clone(&wal);
    slow.before(Operation::Read, move || {
        for _ in 0..2 {
            writer.append(b"more").unwrap().wait().unwrap();
        }
    });
    let view = options.open_read_only_on(slow.clone()).unwrap();
    assert!(slow.count(Operation::Read) > 6, "it looked again");
    slow.heal();
    assert_eq!(view.read(..).unwrap().last().unwrap().unwrap().payload, "more");
}

/// Looking ahead of a hole read a chunk anew for each frame that it found.
#[test]
fn looking_ahead_reads_each_byte_once() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = Options::new().segment_size(1 << 20).durability(Durability::Os);
    let wal = options.open(dir.path()).unwrap();
    for _ in 0..30_000 {
        drop(wal.append(b"torn").unwrap());
    }
    wal.append(b"last").unwrap().wait().unwrap();
    // As a crash leaves it, with a hole near the start.
    for file in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        // A segment that is being made changes its name meanwhile.
        let Ok(mut bytes) = std::fs::read(file.path()) else { continue };
        if file.file_name() == "00000000000000000000.wal" {
            bytes[8192..8704].fill(0);
        }
        std::fs::write(copy.path().join(file.file_name()), bytes).unwrap();
    }
    let counted = Failing::new(Arc::new(Fs::new(copy.path())));
    let wal = options.open_on(counted.clone()).unwrap();
    assert!(wal.recovery().torn.as_ref().is_some_and(|torn| torn.beyond > 29_000), "{:?}", wal.recovery());
    assert!(counted.count(Operation::Read) < 40, "{} reads", counted.count(Operation::Read));
}

/// A file was recycled while `Bytes` of it were held from when the log was open before.
#[test]
fn what_was_read_does_not_change_after_closing_and_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    for n in 0..12 {
        wal.append(&[n; 20_000]).unwrap().wait().unwrap();
    }
    wal.rotate().unwrap();
    let held: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap().payload).collect();
    wal.close().unwrap();
    // Smaller segments, too, for which a recycled file would be cut under its map.
    for _ in 0..2 {
        let wal = small().open(dir.path()).unwrap();
        for _ in 0..3 {
            (0..20).for_each(|_| _ = wal.append(&[251; 7000]).unwrap().wait().unwrap());
            wal.clean_before_lsn(Lsn::MAX).unwrap();
        }
        wal.close().unwrap();
    }
    for (n, bytes) in (0..).zip(&held) {
        assert!(bytes.iter().all(|byte| *byte == n), "record {n}");
    }
}

/// Cleaning waited for room on the disk that it was to make room on.
#[test]
fn a_clean_on_a_full_disk_removes_what_is_durable() {
    let disk = Disk::new(5);
    let full = || Fault::new(Operation::Write).on(".wal").kind(std::io::ErrorKind::StorageFull).for_good();
    let wal = small().open_on(disk.mount()).unwrap();
    for _ in 0..3 {
        wal.append(&[1; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.append(&[2; 100]).unwrap().wait().unwrap();
    disk.fail(full());
    drop(wal.append(&[3; 100]).unwrap());
    let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert_eq!(cleaned.removed.len(), 3, "{cleaned:?}");
    assert_eq!(*wal.append(b"later").unwrap_err().kind(), ErrorKind::DiskFull);
    // A segment whose link waits in memory is none to begin with.
    disk.heal();
    wal.sync().unwrap();
    wal.rotate().unwrap();
    disk.fail(full());
    drop(wal.append(&[4; 100]).unwrap());
    let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert!(cleaned.removed.is_empty() && cleaned.kept[0].why == Why::NotDurable, "{cleaned:?}");
    disk.crash(Keep::None);
    disk.heal();
    let wal = small().open_on(disk.mount()).unwrap();
    let left: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap().payload[0]).collect();
    assert_eq!(left, [2, 3]);
}

/// After a full disk a `sync` slept on for as long as others were served without one.
#[test]
fn a_sync_is_not_starved_by_what_is_only_written() {
    let disk = Disk::new(6);
    disk.threads(true);
    let wal = small().segment_size(1 << 20).durability(Durability::Os).open_on(disk.mount()).unwrap();
    wal.append(b"x").unwrap().wait().unwrap();
    disk.fail(Fault::new(Operation::Write).on(".wal").kind(std::io::ErrorKind::StorageFull).for_good());
    drop(wal.append(b"y").unwrap());
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| wal.sync());
        std::thread::sleep(Duration::from_millis(20));
        disk.heal();
        soon("the sync", || {
            if let Ok(ticket) = wal.append(b"z") {
                ticket.wait().unwrap();
            }
            sync.is_finished()
        });
    });
}

/// An interval beyond what a clock can say ended the thread that serves futures.
#[test]
fn an_interval_of_any_length_lets_futures_end() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().sync_interval(Duration::MAX).open(dir.path()).unwrap();
    drop(wal.append(b"nobody waits").unwrap());
    std::thread::sleep(Duration::from_millis(20));
    let mut ticket = wal.append(b"awaited").unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    soon("the ticket", || std::pin::Pin::new(&mut ticket).poll(&mut context).is_ready());
}

/// What a writer did between two looks of a reader passed for an error, or for a torn tail.
#[test]
fn a_reader_under_which_segments_are_recycled_sees_a_whole_log() {
    for nth in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let options = small().durability(Durability::Os);
        let wal = Arc::new(options.open(dir.path()).unwrap());
        let append = |wal: &Wal| wal.append(&[7; 3000]).unwrap().wait().unwrap();
        (0..15).for_each(|_| _ = append(&wal));
        let before = wal.durable_lsn();
        let beside = Failing::new(Arc::new(Fs::new(dir.path())));
        let (writer, calls) = (Arc::clone(&wal), std::sync::atomic::AtomicU64::new(0));
        let overtake = Arc::new(move || {
            if calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == nth {
                for _ in 0..4 {
                    writer.rotate().unwrap();
                    writer.clean_before_lsn(Lsn::MAX).unwrap();
                    (0..15).for_each(|_| _ = append(&writer));
                }
            }
        });
        for operation in [Operation::Read, Operation::Open] {
            let overtake = Arc::clone(&overtake);
            beside.before(operation, move || overtake());
        }
        let view = options.open_read_only_on(beside.clone()).unwrap();
        assert!(view.durable_lsn() >= before && view.recovery().torn.is_none(), "{nth}: {:?}", view.recovery());
        for record in view.read(..).unwrap() {
            match record {
                Ok(record) => assert_eq!(record.payload, [7; 3000][..]),
                Err(e) => assert!(matches!(e.kind(), ErrorKind::Removed { .. }), "{nth}: {e}"),
            }
        }
    }
}

/// Another log's files below the front of a MARK that was put beside them were removed unread.
#[test]
fn another_logs_segments_below_the_front_are_left_alone() {
    let disk = Disk::new(8);
    let wal = small().open_on(disk.mount()).unwrap();
    for _ in 0..6 {
        wal.append(&[1; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    wal.close().unwrap();
    let other = Disk::new(9);
    let theirs = small().open_on(other.mount()).unwrap();
    theirs.append(&[2; 7000]).unwrap().wait().unwrap();
    theirs.close().unwrap();
    let name = "00000000000000000000.wal";
    let bytes = other.file(name).unwrap();
    disk.put(name, bytes.clone());
    drop(small().open_on(disk.mount()).unwrap());
    assert_eq!(disk.file(name), Some(bytes));
}

/// What a writer wrote between a reader's scan and its look ahead passed for frames beyond a torn tail.
#[test]
fn a_reader_beside_a_writer_sees_no_torn_tail() {
    for nth in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().segment_size(1 << 20).durability(Durability::Os);
        let wal = Arc::new(options.open(dir.path()).unwrap());
        (0..3).for_each(|_| _ = wal.append(b"before").unwrap().wait().unwrap());
        let beside = Failing::new(Arc::new(Fs::new(dir.path())));
        let (writer, calls) = (Arc::clone(&wal), std::sync::atomic::AtomicU64::new(0));
        beside.before(Operation::Read, move || {
            if calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == nth {
                (0..2).for_each(|_| _ = writer.append(b"meanwhile").unwrap().wait().unwrap());
            }
        });
        let view = options.open_read_only_on(beside).unwrap();
        assert_eq!(view.recovery().torn, None, "{nth}");
    }
}

/// The clean after one that could not remove a file waited for itself.
#[test]
fn a_file_that_could_not_be_removed_goes_with_the_next_clean() {
    let disk = Disk::new(7);
    let wal = small().open_on(disk.mount()).unwrap();
    for _ in 0..12 {
        wal.append(&[1; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    disk.fail(Fault::new(Operation::Remove).on(".wal"));
    let failed = wal.clean_before_lsn(Lsn::MAX).unwrap().failed;
    assert_eq!(failed.len(), 1);
    let length = disk.file(&failed[0].0).unwrap().len() as u64;
    let before = wal.stats().disk_bytes;
    assert!(wal.clean_before_lsn(Lsn::MAX).unwrap().failed.is_empty());
    assert!(disk.file(&failed[0].0).is_none());
    assert_eq!(wal.stats().disk_bytes, before - length);
}

/// The highest batch time was forgotten with the records that bore it, so the next ones looked old.
#[test]
fn batch_time_survives_cleaning_and_closing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    wal.at(100).append(b"x").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    wal.clean_before_batch_time(101).unwrap();
    wal.close().unwrap();
    assert_eq!(*wal.rotate().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(small().open(dir.path()).unwrap().batch_time().0, 100);
}

/// A log of the type that is shared between threads may be dropped anywhere.
#[test]
fn the_handles_are_send_and_sync() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Wal>();
    shared::<seawall::Ticket>();
    shared::<seawall::ReadOnly>();
}

/// Opening a log whose MARK was another's made a MARK to remove what lies below the front, on a disk without a block.
#[test]
fn a_full_disk_opens_beside_another_logs_mark() {
    let other = Disk::new(11);
    let theirs = small().open_on(other.mount()).unwrap();
    theirs.append(b"theirs").unwrap().wait().unwrap();
    theirs.close().unwrap();
    let disk = Disk::new(12);
    let wal = small().open_on(disk.mount()).unwrap();
    for _ in 0..6 {
        wal.append(&[1; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    for _ in 0..2 {
        wal.append(&[2; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.append(&[3; 7000]).unwrap().wait().unwrap();
    disk.kill();
    disk.put("MARK", other.file("MARK").unwrap());
    let before = disk.names();
    assert!(before.contains(&"00000000000000000000.wal".to_owned()), "a spare, or this shows nothing: {before:?}");
    // Less than there is: what opening gives back of prepared segments must not do either.
    disk.capacity(1);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(wal.read(..).unwrap().count(), 3);
    assert_eq!(*wal.append(b"more").unwrap_err().kind(), ErrorKind::DiskFull);
    drop(wal);
    disk.capacity(None);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"more").unwrap().wait().unwrap();
    assert_eq!(wal.read(..).unwrap().count(), 4);
    wal.close().unwrap();
    assert!(!disk.names().contains(&"00000000000000000000.wal".to_owned()), "{:?}", disk.names());
}
