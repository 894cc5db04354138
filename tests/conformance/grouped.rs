//! Grouped writes.

use std::collections::BTreeSet;
use std::sync::{Barrier, Mutex};
use std::thread;

use seawall::{BatchTime, Wal};

use crate::{payload, payloads, small};

/// Eight threads that wait for each of their records.
fn appended(wal: &Wal) -> Vec<(u64, u32)> {
    let (start, all) = (Barrier::new(8), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (start, all) = (&start, &all);
            scope.spawn(move || {
                start.wait();
                let mut own = Vec::new();
                for n in (0..50).map(|n| thread * 50 + n) {
                    own.push((wal.append(&payload(n)).unwrap().wait().unwrap().0, n));
                }
                assert!(own.is_sorted(), "a thread's own order is the log's");
                all.lock().unwrap().extend(own);
            });
        }
    });
    all.into_inner().unwrap()
}

#[test]
fn each_caller_of_a_group_has_its_own_lsn() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let all = appended(&wal);
    assert_eq!(all.iter().map(|(lsn, _)| lsn).collect::<BTreeSet<_>>().len(), 400);
    for (lsn, n) in &all {
        assert_eq!(wal.get(seawall::Lsn(*lsn)).unwrap().payload, payload(*n));
    }
    let mut in_order = all;
    in_order.sort_unstable();
    assert_eq!(payloads(&wal), in_order.iter().map(|(_, n)| payload(*n)).collect::<Vec<_>>());
}

#[test]
fn the_batch_time_of_a_group_never_lets_a_clean_drop_newer_records() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    // Out of order, and all in one group.
    let times = (0..600_u32).map(|n| u64::from(n * 7 % 10));
    let lsns: Vec<_> =
        times.zip(0..).map(|(time, n)| (wal.at(time).append(&payload(n)).unwrap().lsn(), time)).collect();
    wal.sync().unwrap();
    wal.clean_before_batch_time(BatchTime(5)).unwrap();
    assert!(lsns.iter().all(|(lsn, time)| *time < 5 || wal.get(*lsn).is_ok()));
}

#[test]
fn closing_answers_every_waiter() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let tickets: Vec<_> = (0..100).map(|n| wal.append(&payload(n)).unwrap()).collect();
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            wal.close().unwrap();
        });
        start.wait();
        for ticket in tickets {
            ticket.wait().unwrap();
        }
    });
    assert!(wal.append(&payload(100)).is_err());
}

#[cfg(feature = "sim")]
#[test]
fn a_failure_reaches_every_waiter_and_nothing_is_written_after_it() {
    use seawall::ErrorKind;
    use seawall::sim::{Disk, Failing, Fault, Operation};
    let disk = Disk::new(7);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    wal.append(&payload(0)).unwrap().wait().unwrap();
    failing.fail(Fault::new(Operation::Sync).on(".wal"));
    let tickets: Vec<_> = (1..9).map(|n| wal.append(&payload(n)).unwrap()).collect();
    let answers = thread::scope(|scope| {
        let waiters: Vec<_> = tickets.into_iter().map(|ticket| scope.spawn(|| ticket.wait())).collect();
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(answers.iter().all(|answer| matches!(answer, Err(e) if *e.kind() == ErrorKind::Poisoned)), "{answers:?}");
    let written = failing.count(Operation::Write);
    assert_eq!(*wal.append(&payload(9)).unwrap_err().kind(), ErrorKind::Poisoned);
    assert!(wal.close().is_err());
    assert_eq!(failing.count(Operation::Write), written);
}
