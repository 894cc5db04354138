//! How the log is: each state reached, told and left again; and what syncs take, counted.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::sim::{Disk, Failing, Fault, Operation};
use seawall::{Durability, ErrorKind, Health, Lsn, Options, Wal};

const SEGMENT: u64 = 16 << 10;
const SECOND: Duration = Duration::from_secs(1);

fn small() -> Options {
    Options::new().segment_size(SEGMENT)
}

/// Appends until something is refused.
fn fill(wal: &Wal) -> ErrorKind {
    loop {
        match wal.append(&[1; 3000]) {
            Ok(ticket) => _ = ticket.wait().unwrap(),
            Err(e) => return e.kind().clone(),
        }
    }
}

fn is_healthy(wal: &Wal) -> bool {
    let health = wal.health();
    matches!(health, Health::Healthy) && health.takes_appends()
}

/// Asks, has the background do what it was asked to, and asks again.
fn asked_twice(wal: &Wal, disk: &Disk) -> Health {
    _ = wal.health();
    disk.settle();
    wal.health()
}

fn disk_needs(health: &Health) -> u64 {
    assert!(!health.takes_appends());
    match health {
        Health::DiskFull { needed, .. } => *needed,
        other => panic!("{other:?}"),
    }
}

fn log_needs(health: &Health) -> u64 {
    assert!(!health.takes_appends());
    match health {
        Health::LogFull { needed, .. } => *needed,
        other => panic!("{other:?}"),
    }
}

/// A log goes by what was refused to appends.
#[test]
fn what_could_not_be_prepared_was_refused_to_nobody() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    disk.capacity(disk.used());
    assert_eq!(*wal.prepare().unwrap_err().kind(), ErrorKind::DiskFull);
    assert!(is_healthy(&wal));
    assert_eq!(*wal.append(b"one").unwrap_err().kind(), ErrorKind::DiskFull);
    assert!(matches!(wal.health(), Health::DiskFull { .. }));
    disk.capacity(None);
    wal.prepare().unwrap();
    assert!(is_healthy(&wal));
}

#[test]
fn a_log_is_healthy_until_it_is_closed() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    assert!(is_healthy(&wal));
    (0..30).for_each(|_| _ = wal.append(&[1; 3000]).unwrap().wait().unwrap());
    assert!(is_healthy(&wal));
    wal.close().unwrap();
    let health = wal.health();
    assert!(matches!(health, Health::Closed) && !health.takes_appends(), "{health:?}");
    assert_eq!(health.to_string(), "the log was closed");
}

#[test]
fn a_full_disk_is_told_with_what_it_lacks_and_seen_to_end_by_asking_alone() {
    let disk = Disk::new(2);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    disk.capacity(disk.used() + 2 * SEGMENT);
    assert_eq!(fill(&wal), ErrorKind::DiskFull);
    disk.advance(5 * SECOND);
    let health = wal.health();
    let needed = disk_needs(&health);
    assert_eq!(
        health.to_string(),
        format!("the disk has been full for 5.0s: appends go on once {needed} bytes are free")
    );
    // The first refusal counts, and not the last.
    assert_eq!(fill(&wal), ErrorKind::DiskFull);
    disk.advance(SECOND);
    assert!(matches!(wal.health(), Health::DiskFull { since, .. } if since == 6 * SECOND), "{:?}", wal.health());
    disk.capacity(disk.used() + needed - 512);
    assert_eq!(disk_needs(&asked_twice(&wal, &disk)), needed, "a block too few");
    disk.capacity(disk.used() + needed);
    assert!(matches!(asked_twice(&wal, &disk), Health::Healthy));
    wal.append(&[1; 3000]).unwrap().wait().unwrap();
    // A second one begins anew.
    disk.capacity(disk.used());
    assert_eq!(fill(&wal), ErrorKind::DiskFull);
    assert!(matches!(wal.health(), Health::DiskFull { since: Duration::ZERO, .. }));
    // Room that cleaning gives back: recycled files need no block, and nobody's try to know.
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert!(is_healthy(&wal));
    assert!(matches!(asked_twice(&wal, &disk), Health::Healthy));
}

#[test]
fn a_disk_that_is_full_from_the_beginning_lacks_mark_too() {
    let disk = Disk::new(3);
    disk.capacity(0);
    let wal = small().open_on(disk.mount()).unwrap();
    assert!(is_healthy(&wal), "nobody has needed anything");
    assert_eq!(fill(&wal), ErrorKind::DiskFull);
    let needed = disk_needs(&wal.health());
    disk.capacity(needed - 512);
    disk_needs(&asked_twice(&wal, &disk));
    disk.capacity(needed);
    assert!(matches!(asked_twice(&wal, &disk), Health::Healthy));
    wal.append(b"first").unwrap().wait().unwrap();
}

#[test]
fn writes_that_wait_for_room_are_a_full_disk() {
    let disk = Disk::new(4);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    disk.advance(SECOND);
    disk.fail(Fault::new(Operation::Write).on(".wal").kind(io::ErrorKind::StorageFull).for_good());
    drop(wal.append(&[2; 1000]).unwrap());
    assert!(is_healthy(&wal), "not met yet");
    wal.clean_before_lsn(Lsn::ZERO).unwrap();
    disk.advance(2 * SECOND);
    let health = wal.health();
    assert_eq!(disk_needs(&health), 1024, "the frame that waits");
    assert!(matches!(health, Health::DiskFull { since, .. } if since == 2 * SECOND), "{health:?}");
    disk.settle();
    assert_eq!(disk_needs(&wal.health()), 1024, "tried again");
    disk.heal();
    disk.advance(SECOND);
    disk.settle();
    assert!(is_healthy(&wal));
    wal.append(b"again").unwrap().wait().unwrap();
}

#[test]
fn a_full_log_is_told_with_what_must_be_cleaned() {
    let disk = Disk::new(5);
    let wal = small().max_disk_bytes(8 * SEGMENT).open_on(disk.mount()).unwrap();
    assert_eq!(fill(&wal), ErrorKind::LogFull);
    disk.advance(3 * SECOND);
    let health = wal.health();
    let needed = log_needs(&health);
    assert_eq!(
        health.to_string(),
        format!("the log has been full for 3.0s: appends go on once {needed} bytes of it are cleaned")
    );
    // The checkpoint takes the reserve, which is then missing too.
    wal.append_checkpoint(&[9; 3000]).unwrap().wait().unwrap();
    let needed = log_needs(&asked_twice(&wal, &disk));
    assert!(needed > SEGMENT && needed <= 2 * SEGMENT, "{needed}");
    // Cleaning one segment is not enough, two are; it takes nobody's try to know.
    let lsns: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
    let begins = lsns.windows(2).filter(|pair| pair[0].0 / SEGMENT < pair[1].0 / SEGMENT).map(|pair| pair[1]);
    let [second, third] = begins.take(2).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(wal.clean_before_lsn(second).unwrap().removed.len(), 1);
    assert_eq!(log_needs(&wal.health()), needed - SEGMENT);
    assert_eq!(log_needs(&asked_twice(&wal, &disk)), needed - SEGMENT);
    assert_eq!(wal.clean_before_lsn(third).unwrap().removed.len(), 1);
    assert!(is_healthy(&wal));
    assert!(matches!(asked_twice(&wal, &disk), Health::Healthy));
    assert_eq!(fill(&wal), ErrorKind::LogFull);
}

#[test]
fn segments_that_are_refused_for_another_reason_are_told_with_it() {
    for errno in [libc::EMFILE, libc::EACCES] {
        let disk = Disk::new(6);
        let wal = small().open_on(disk.mount()).unwrap();
        wal.append(b"first").unwrap().wait().unwrap();
        disk.fail(Fault::new(Operation::Create).errno(errno).for_good());
        assert_eq!(fill(&wal), ErrorKind::Io);
        disk.advance(SECOND);
        let health = asked_twice(&wal, &disk);
        assert!(!health.takes_appends());
        let Health::Refused { since, error } = &health else { panic!("{health:?}") };
        assert_eq!((*since, error.operation()), (SECOND, "create"));
        assert_eq!(health.to_string(), format!("no segment could be made for 1.0s: {error}"));
        disk.heal();
        assert!(matches!(asked_twice(&wal, &disk), Health::Healthy));
        wal.append(&[1; 3000]).unwrap().wait().unwrap();
    }
}

/// What was made ahead of time and could not be keeps nobody away yet.
#[test]
fn a_segment_that_nobody_needs_yet_is_no_reason() {
    let disk = Disk::new(7);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    disk.settle();
    let made = disk.count(Operation::Create);
    disk.capacity(disk.used());
    (0..3).for_each(|_| _ = wal.append(&[1; 3000]).unwrap().wait().unwrap());
    disk.settle();
    assert!(disk.count(Operation::Create) > made, "it was not tried");
    assert!(is_healthy(&wal));
}

/// A log whose syncs take as long as is said, by the clock of the disk.
fn slow_log(seed: u64) -> (Arc<Disk>, Arc<Failing>, Arc<Wal>) {
    let disk = Arc::new(Disk::new(seed));
    let slow = Failing::new(disk.mount());
    let wal = Arc::new(Options::new().open_on(slow.clone()).unwrap());
    wal.append(b"first").unwrap().wait().unwrap();
    (disk, slow, wal)
}

fn takes(slow: &Failing, disk: &Arc<Disk>, by: Duration) {
    let disk = Arc::clone(disk);
    slow.before(Operation::Sync, move || disk.advance(by));
}

#[test]
fn slow_syncs_are_told_while_they_are_recent() {
    let (disk, slow, wal) = slow_log(8);
    let append = || _ = wal.append(b"record").unwrap().wait().unwrap();
    takes(&slow, &disk, Duration::from_millis(999));
    append();
    assert!(is_healthy(&wal));
    takes(&slow, &disk, SECOND);
    append();
    let health = wal.health();
    assert!(matches!(health, Health::SlowSync { p99 } if p99 == SECOND), "{health:?}");
    assert!(health.takes_appends());
    assert_eq!(health.to_string(), "syncs are slow: 99 of 100 take up to 1.0s");
    // Others follow.
    slow.heal();
    (0..100).for_each(|_| append());
    assert!(is_healthy(&wal));
    // Or none does, for a minute.
    takes(&slow, &disk, 3 * SECOND);
    (0..2).for_each(|_| append());
    slow.heal();
    append();
    assert!(matches!(wal.health(), Health::SlowSync { p99 } if p99 == 3 * SECOND), "{:?}", wal.health());
    disk.advance(60 * SECOND);
    assert!(matches!(wal.health(), Health::SlowSync { .. }));
    disk.advance(SECOND);
    assert!(is_healthy(&wal));
}

#[test]
fn a_sync_under_way_is_told_and_counted() {
    let (disk, slow, wal) = slow_log(9);
    (0..200).for_each(|_| _ = wal.append(b"fast").unwrap().wait().unwrap());
    let before = wal.stats();
    assert_eq!((before.syncs_begun, before.written_bytes), (before.syncs, before.synced_bytes));
    let seen = Arc::new(Mutex::new(None));
    let (asked, told, ages) = (Arc::downgrade(&wal), Arc::clone(&seen), Arc::clone(&disk));
    slow.before(Operation::Sync, move || {
        // From within: whoever asks waits for no lock that is held meanwhile.
        ages.advance(20 * SECOND);
        *told.lock().unwrap() = asked.upgrade().map(|wal| (wal.health(), wal.stats()));
    });
    wal.append(&[7; 1000]).unwrap().wait().unwrap();
    let (health, during) = seen.lock().unwrap().take().unwrap();
    assert!(matches!(health, Health::SlowSync { p99 } if p99 == 20 * SECOND), "{health:?}");
    assert_eq!((during.syncs_begun, during.syncs), (before.syncs_begun + 1, before.syncs));
    assert_eq!((during.written_bytes, during.synced_bytes), (before.written_bytes + 1024, before.synced_bytes));
    let after = wal.stats();
    assert_eq!((after.syncs_begun, after.syncs), (during.syncs_begun, during.syncs_begun));
    assert_eq!((after.written_bytes, after.synced_bytes), (during.written_bytes, during.written_bytes));
    assert_eq!(after.sync_times.quantile(1.0), Some(20 * SECOND));
    assert_eq!(after.sync_times.quantile(0.5), Some(Duration::from_nanos(256)), "no time passed, and the bucket's end");
    slow.heal();
}

#[test]
fn what_is_only_written_is_not_counted_as_synced() {
    let disk = Disk::new(10);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    wal.append(&[1; 1000]).unwrap().wait().unwrap();
    let stats = wal.stats();
    assert!(stats.written_bytes > 1000, "{stats:?}");
    assert_eq!((stats.synced_bytes, stats.syncs_begun, stats.sync_times.quantile(0.5)), (0, 0, None));
    wal.sync().unwrap();
    let stats = wal.stats();
    assert_eq!((stats.synced_bytes, stats.syncs), (stats.written_bytes, 1));
}

#[test]
fn a_poisoned_log_says_why_and_that_it_is_done_for() {
    let disk = Disk::new(11);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    disk.fail(Fault::new(Operation::Sync).on(".wal"));
    let lost = wal.append(b"lost?").unwrap().wait().unwrap_err();
    let stats = wal.stats();
    assert_eq!((stats.syncs_begun, stats.syncs), (2, 1));
    for closed in [false, true] {
        let health = wal.health();
        assert!(!health.takes_appends());
        assert_eq!(health.to_string(), lost.to_string());
        assert!(matches!(health, Health::Poisoned { error } if *error.kind() == ErrorKind::Poisoned));
        // Closing does not hide it.
        assert_eq!(wal.close().is_ok(), closed);
    }
    drop(wal);
    assert!(is_healthy(&small().open_on(disk.mount()).unwrap()));
}

#[test]
fn what_is_needed_counts_a_mark_that_somebody_took_away() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(&[1; 3000]).unwrap().wait().unwrap();
    disk.kill();
    drop(wal);
    disk.remove("MARK");
    let wal = small().open_on(disk.mount()).unwrap();
    disk.capacity(disk.used());
    assert_eq!(fill(&wal), ErrorKind::DiskFull);
    let needed = disk_needs(&wal.health());
    disk.capacity(disk.used() + needed);
    wal.append(&[1; 3000]).unwrap().wait().unwrap();
}
