//! Faults that reading the source found, each with the calls that showed it.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall::sim::{Disk, Failing, Fault, Operation};
use seawall::storage::Fs;
use seawall::{Durability, ErrorKind, Lsn, Options, Wal};

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
    let dir = tempfile::tempdir().unwrap();
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = small().open_on(failing.clone()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    // MARK is written between a clean's sync and what follows it: slowly, so that the other thread gets in there.
    failing.delay(Operation::Write, Duration::from_millis(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                drop(wal.append(&[1; 3000]).unwrap());
                wal.rotate().unwrap();
            }
        });
        for _ in 0..60 {
            let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
            let durable = wal.durable_lsn();
            if cleaned.first > durable {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                panic!("{cleaned:?}, durable {durable}");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
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
