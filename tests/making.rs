//! Segments made by an append and by the background at once, around a full disk.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use seawall::sim::{Disk, Failing, Operation};
use seawall::{Lsn, Options};

/// A maker that has made its segment but not handed it over must not be overtaken by the next one.
#[test]
fn segments_are_used_in_the_order_of_their_bases_however_many_make_them() {
    const RECORDS: usize = 40;
    for round in 0..600_u64 {
        let disk = Disk::new(round);
        disk.threads(true);
        let options = Options::new().segment_size(64 << 10);
        let wal = options.open_on(disk.mount()).unwrap();
        let mut last = wal.append(&[1; 100]).unwrap().wait().unwrap();
        disk.capacity(disk.used());
        let (mut records, mut refused) = (1, 0);
        while records < RECORDS {
            match wal.append(&[7; 16_280]) {
                Ok(ticket) => {
                    assert!(ticket.lsn() > last, "round {round}: {} after {last}", ticket.lsn());
                    last = ticket.wait().unwrap();
                    records += 1;
                }
                Err(error) if error.is_backpressure() => {
                    refused += 1;
                    if refused > round % 7 {
                        disk.capacity(None);
                    }
                    std::thread::sleep(Duration::from_micros(100 * (round % 11)));
                }
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        wal.close().unwrap();
        let wal = options.open_on(disk.mount()).unwrap();
        let lsns: Vec<Lsn> = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
        assert_eq!((lsns.len(), lsns.last()), (RECORDS, Some(&last)), "round {round}");
        wal.close().unwrap();
    }
}

/// After opening `try_append` finds no segment, and waits for none.
#[test]
fn what_is_prepared_is_taken_at_once_and_leaves_nothing_in_the_log() {
    let disk = Disk::new(1);
    let options = Options::new().segment_size(16 << 10);
    let wal = options.open_on(disk.mount()).unwrap();
    assert!(wal.try_append(b"one").unwrap_err().is_backpressure());
    wal.prepare().unwrap();
    let used = disk.used();
    wal.prepare().unwrap();
    assert_eq!((disk.used(), wal.stats().appended_records, wal.read(..).unwrap().count()), (used, 0, 0));
    wal.try_append(b"one").unwrap().wait().unwrap();
    wal.close().unwrap();
    let wal = options.open_on(disk.mount()).unwrap();
    wal.prepare().unwrap();
    drop(wal);
    disk.kill();
    assert_eq!(options.open_on(disk.mount()).unwrap().read(..).unwrap().count(), 1);
}

/// Overwriting is faster than the first write, and worth a write ahead where syncs are many: not at the disk's speed.
#[test]
fn a_segment_is_written_ahead_unless_syncs_are_large() {
    for (records, ahead) in [(1, true), (32, false), (usize::MAX, false)] {
        let disk = Disk::new(1);
        let failing = Failing::new(disk.mount());
        let wal = Options::new().segment_size(8 << 20).open_on(failing.clone()).unwrap();
        for n in 1..=80 {
            let ticket = wal.append(&[7; 64 << 10]).unwrap();
            if n % records == 0 {
                ticket.wait().unwrap();
            }
        }
        let before = failing.count(Operation::Write);
        disk.settle();
        let writes = failing.count(Operation::Write) - before;
        assert_eq!(writes > 16, ahead, "{records} records a sync, {writes} writes");
    }
}
