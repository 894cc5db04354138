//! Threads that append, wait, read, follow, clean, rotate and release at once, over real files and in memory, for as many
//! seconds as `SEAWALL_STRESS` says: above all for the sanitizers, which watch them in `scripts/check --full`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::thread;
use std::time::{Duration, Instant};

use seawall::{ErrorKind, Lsn, Options, Record, Result, Wal};

fn seconds() -> Duration {
    Duration::from_secs_f64(std::env::var("SEAWALL_STRESS").map_or(1.0, |text| text.parse().unwrap()))
}

fn options() -> Options {
    Options::new().segment_size(64 << 10).sync_interval(Duration::from_millis(5))
}

/// A record of one byte, again and again: of others' bytes a look would tell.
fn payload(thread: usize, number: usize) -> Vec<u8> {
    vec![b'a' + u8::try_from(thread).unwrap(); 1 + number * 331 % 9000]
}

fn whole(record: &Record) {
    assert!(record.payload.iter().all(|byte| *byte == record.payload[0]));
}

/// What is there, unless it was cleaned meanwhile.
fn unless_cleaned<T>(found: Result<T>) -> Option<T> {
    found.inspect_err(|e| assert!(matches!(e.kind(), ErrorKind::Removed { .. }), "{e}")).ok()
}

fn append(wal: &Wal, thread: usize, number: usize) -> Lsn {
    let payload = payload(thread, number);
    match number % 4 {
        0 => wal.append(&payload).unwrap().wait().unwrap(),
        1 => wal.append_batch(&[&payload[..payload.len() / 2 + 1], &payload]).unwrap().lsn(),
        2 => {
            let ticket = wal.append(&payload).unwrap().into_owned();
            thread::spawn(move || ticket.wait().unwrap()).join().unwrap()
        }
        _ => wal.append_checkpoint(&payload).unwrap().wait().unwrap(),
    }
}

fn appends(wal: &Wal, thread: usize, until: Instant) {
    let mut last = Lsn::ZERO;
    for number in (0..).take_while(|_| Instant::now() < until) {
        let lsn = append(wal, thread, number);
        assert!(lsn > last);
        last = lsn;
        if lsn < wal.durable_lsn() {
            unless_cleaned(wal.get(lsn)).iter().for_each(whole);
        }
    }
}

/// Reads all, again and again, and keeps what it read until the next time.
fn reads(wal: &Wal, until: Instant) {
    let mut kept: Vec<Record> = Vec::new();
    while Instant::now() < until {
        let records = unless_cleaned(wal.read(Lsn::ZERO..));
        let records: Vec<_> = records.into_iter().flatten().filter_map(unless_cleaned).collect();
        kept.iter().chain(&records).for_each(whole);
        kept = records;
    }
}

fn follows(wal: &Wal, until: Instant) {
    let cursor = wal.cursor("follower").unwrap();
    let mut follower = wal.follow(cursor.lsn().unwrap());
    let mut last = Lsn::ZERO;
    while Instant::now() < until {
        let Some(record) = follower.next_timeout(Duration::from_millis(10)).unwrap() else { continue };
        whole(&record);
        assert!(record.lsn > last);
        last = record.lsn;
        cursor.release(follower.position()).unwrap();
    }
}

fn cleans(wal: &Wal, until: Instant) {
    while Instant::now() < until {
        wal.clean_before_lsn(wal.durable_lsn()).unwrap();
        wal.rotate().unwrap();
        _ = (wal.health(), wal.stats(), wal.kept(), wal.checkpoint().unwrap());
        thread::sleep(Duration::from_millis(3));
    }
}

fn stress(wal: &Wal) {
    let until = Instant::now() + seconds();
    thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || appends(wal, thread, until));
        }
        scope.spawn(|| reads(wal, until));
        scope.spawn(|| follows(wal, until));
        scope.spawn(|| cleans(wal, until));
    });
    assert!(wal.stats().segments > 1);
    wal.close().unwrap();
}

#[test]
fn everything_at_once_over_files() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    let view = options().open_read_only(dir.path());
    stress(&wal);
    drop(view);
    let wal = options().open(dir.path()).unwrap();
    wal.read(Lsn::ZERO..).unwrap().for_each(|record| whole(&record.unwrap()));
}

#[cfg(feature = "sim")]
#[test]
fn everything_at_once_in_memory() {
    let disk = seawall::sim::Disk::new(1);
    disk.threads(true);
    stress(&options().open_on(disk.mount()).unwrap());
    assert_eq!(disk.violations(), Vec::<String>::new());
}
