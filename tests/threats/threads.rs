//! Row 24: threads that panic, waits that are dropped, and nobody left but futures.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use seawall::sim::{Disk, Failing, Fault, Keep, Operation};
use seawall::storage::{Fs, Storage};
use seawall::{Durability, ErrorKind, Lsn, Wal};

use crate::allocations::largest_allocation;
use crate::common::{CAPACITY, block_on, fill, filled, kind, payload, payloads, small};

/// A storage in which one such call panics once it is told to.
fn panicking(below: Arc<dyn Storage>, operation: Operation) -> (Arc<Failing>, Arc<AtomicBool>) {
    let (storage, armed) = (Failing::new(below), Arc::<AtomicBool>::default());
    let once = Arc::clone(&armed);
    storage.before(operation, move || assert!(!once.swap(false, Ordering::SeqCst), "a planned panic"));
    (storage, armed)
}

/// Runs `f` on a thread of its own; a test that hangs fails instead.
fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || send.send(f()));
    match receive.recv_timeout(Duration::from_secs(60)) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("it failed: {:?}", thread.join().is_err()),
    }
}

fn a_leader_panics(operation: Operation) {
    let disk = Disk::new(24);
    disk.threads(true);
    let (storage, armed) = panicking(disk.mount(), operation);
    let wal = Arc::new(small().segment_size(1 << 20).open_on(storage).unwrap());
    fill(&wal, 0..3, 1000);
    let tickets: Vec<_> = (3..11).map(|n| wal.append(&payload(n, 1000)).unwrap().into_owned()).collect();
    armed.store(true, Ordering::SeqCst);
    let threads: Vec<_> = tickets
        .into_iter()
        .enumerate()
        .map(|(n, ticket)| std::thread::spawn(move || if n % 3 == 2 { block_on(ticket) } else { ticket.wait() }))
        .collect();
    let ends: Vec<_> = threads.into_iter().map(std::thread::JoinHandle::join).collect();
    // One thread panicked, or the syncer did; all the others were told.
    assert!(ends.iter().filter(|end| end.is_err()).count() <= 1);
    for end in ends.into_iter().flatten() {
        assert_eq!(kind(end), ErrorKind::Poisoned);
    }
    assert_eq!(kind(wal.append(b"later")), ErrorKind::Poisoned);
    assert_eq!(payloads(&wal), filled(0..3, 1000));
    assert_eq!(kind(wal.close()), ErrorKind::Poisoned);
    drop(wal);
    // What it had in hand is unknown; what was durable is there, and the lock is free.
    let shown = payloads(&small().open_on(disk.mount()).unwrap());
    assert!(shown.len() >= 3);
    assert_eq!(shown, filled(0..shown.len() as u32, 1000));
}

#[test]
fn row_24_a_leader_that_panics_leaves_nobody_waiting() {
    in_time(|| a_leader_panics(Operation::Write));
    in_time(|| a_leader_panics(Operation::Sync));
}

#[test]
fn row_24_an_append_that_panics_in_a_write_leaves_nobody_waiting() {
    in_time(|| {
        let disk = Disk::new(24);
        disk.threads(true);
        let (storage, armed) = panicking(disk.mount(), Operation::Write);
        let wal = small().segment_size(4 << 20).open_on(storage).unwrap();
        fill(&wal, 0..3, 1000);
        // The append that fills a piece writes it, with nobody leading.
        armed.store(true, Ordering::SeqCst);
        let mut n = 3;
        let panicked = loop {
            let append = catch_unwind(AssertUnwindSafe(|| wal.append(&payload(n, 1000)).map(drop)));
            match append {
                Ok(done) => done.unwrap(),
                Err(_) => break n,
            }
            n += 1;
        };
        assert!(panicked > 100, "{panicked}");
        // The piece it had in hand is gone: nothing after it may be acknowledged, and nothing may hang.
        let after = wal.append(b"after").and_then(|ticket| ticket.wait());
        assert_eq!(kind(after), ErrorKind::Poisoned);
        assert_eq!(payloads(&wal), filled(0..3, 1000));
        assert_eq!(kind(wal.close()), ErrorKind::Poisoned);
        drop(wal);
        disk.kill();
        assert_eq!(payloads(&small().open_on(disk.mount()).unwrap())[..3], filled(0..3, 1000));
    });
}

/// What is owed a cursor is noted in closing, in a segment that has to be made.
#[test]
fn row_24_a_close_that_panics_ends_all_writing() {
    let disk = Disk::new(24);
    let (storage, armed) = panicking(disk.mount(), Operation::Create);
    let wal = small().open_on(Arc::<Failing>::clone(&storage)).unwrap();
    let cursor = wal.cursor(&"c".repeat(200)).unwrap();
    let end = fill(&wal, 0..10, 1000)[9].0 + 1024;
    // Room for a small record is left, and none for the note.
    fill(&wal, 10..11, (CAPACITY - end) as usize - 124);
    storage.fail(Fault::new(Operation::Create).kind(io::ErrorKind::StorageFull));
    cursor.release(wal.durable_lsn()).unwrap();
    armed.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| wal.close())).is_err());
    let _other = small().open_on(disk.mount()).unwrap();
    assert_eq!(kind(wal.append(b"late")), ErrorKind::Poisoned);
}

#[test]
fn row_24_waiting_while_a_panic_unwinds_is_no_failure_of_the_log() {
    /// Says something to the log when it is dropped.
    struct Farewell<'a>(&'a Wal);
    impl Drop for Farewell<'_> {
        fn drop(&mut self) {
            self.0.append(b"farewell").unwrap().wait().unwrap();
        }
    }
    let disk = Disk::new(24);
    let wal = small().open_on(disk.mount()).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _farewell = Farewell(&wal);
        panic!("a planned panic that has nothing to do with the log");
    }));
    assert!(panicked.is_err());
    wal.append(b"later").unwrap().wait().unwrap();
    wal.close().unwrap();
    drop(wal);
    disk.crash(Keep::None);
    assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), [&b"farewell"[..], b"later"]);
}

#[test]
fn row_24_a_dropped_wait_forgets_the_wait_and_not_the_record() {
    in_time(|| {
        let disk = Disk::new(24);
        let wal = small().open_on(disk.mount()).unwrap();
        for n in 0..30 {
            let ticket = wal.append(&payload(n, 1000)).unwrap();
            match n % 3 {
                0 => drop(ticket),
                1 => {
                    // A future that was polled once, and then dropped as in a `select`.
                    let mut ticket = pin!(ticket);
                    let polled = ticket.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(_))));
                }
                _ => drop(ticket.wait().unwrap()),
            }
        }
        disk.crash(Keep::None);
        drop(wal);
        assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), filled(0..30, 1000));
    });
}

#[test]
fn row_24_where_only_futures_wait_the_syncer_leads() {
    for durability in [Durability::Disk, Durability::Os] {
        in_time(move || {
            let dir = tempfile::tempdir().unwrap();
            let wal = Arc::new(small().durability(durability).open(dir.path()).unwrap());
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let wal = Arc::clone(&wal);
                    std::thread::spawn(move || {
                        for n in 0..200 {
                            let lsn = block_on(wal.append(&payload(n, 100)).unwrap()).unwrap();
                            assert!(wal.durable_lsn() > lsn);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(payloads(&wal).len(), 800);
        });
    }
}

#[test]
fn row_24_one_future_among_waits_that_were_dropped_is_still_answered() {
    in_time(|| {
        let dir = tempfile::tempdir().unwrap();
        let slow = Failing::new(Arc::new(Fs::new(dir.path())));
        let wal = small().open_on(slow.clone()).unwrap();
        fill(&wal, 0..1, 1000);
        let hold = slow.hold(Operation::Sync);
        let waiting = std::thread::spawn({
            let ticket = wal.append(&payload(1, 1000)).unwrap().into_owned();
            move || ticket.wait()
        });
        hold.wait_for(1);
        // Framed while the sync is under way: the leader has to see that somebody is left over.
        let mut abandoned = Box::pin(wal.append(&payload(2, 1000)).unwrap());
        assert!(abandoned.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let left = std::thread::spawn({
            let ticket = wal.append(&payload(3, 1000)).unwrap().into_owned();
            move || block_on(ticket)
        });
        drop(abandoned);
        drop(hold);
        waiting.join().unwrap().unwrap();
        left.join().unwrap().unwrap();
        assert_eq!(payloads(&wal), filled(0..4, 1000));
    });
}

#[test]
fn row_24_the_notes_of_a_cursor_do_not_pile_up_at_opening() {
    let disk = Disk::new(24);
    let wal = small().segment_size(1 << 20).open_on(disk.mount()).unwrap();
    let cursor = wal.cursor("c").unwrap();
    let mut last = Lsn::ZERO;
    for _ in 0..12_000 {
        last = wal.append(b"").unwrap().wait().unwrap();
        cursor.release(last).unwrap();
    }
    drop(cursor);
    drop(wal);
    disk.kill();
    let (wal, largest) = largest_allocation(|| small().open_on(disk.mount()).unwrap());
    assert_eq!(wal.cursors().into_values().collect::<Vec<_>>(), [last]);
    // What is read at a time; the notes as a list took twice as much.
    assert!(largest <= 256 << 10, "{largest} bytes at once");
}

#[test]
fn row_24_at_the_bound_of_memory_everybody_gets_through() {
    in_time(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().segment_size(1 << 20).max_buffered_bytes(512 << 10).open(dir.path()).unwrap();
        let append = |wal: &Wal, thread: u32| {
            for n in 0..2000 {
                let record = payload(thread * 10_000 + n, 1000);
                match n % 4 {
                    0 => drop(wal.append(&record).unwrap()),
                    1 => drop(wal.append(&record).unwrap().wait().unwrap()),
                    _ => loop {
                        match wal.try_append(&record) {
                            Ok(ticket) => break drop(ticket),
                            Err(e) => assert_eq!(*e.kind(), ErrorKind::Backpressure, "{e}"),
                        }
                        std::thread::yield_now();
                    },
                }
                assert!(wal.stats().buffered_bytes <= 512 << 10);
            }
        };
        std::thread::scope(|scope| {
            let (wal, append) = (&wal, &append);
            (0..4).for_each(|thread| drop(scope.spawn(move || append(wal, thread))));
        });
        wal.sync().unwrap();
        assert_eq!(payloads(&wal).len(), 8000);
    });
}

/// Closes on a thread of its own, beside a call that is held; whether closing waited for it, and how that ended.
fn closes_beside<T: Send>(records: u32, operation: Operation, call: impl FnOnce(&Wal) -> T + Send) -> (bool, T) {
    let dir = tempfile::tempdir().unwrap();
    let slow = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = small().open_on(slow.clone()).unwrap();
    fill(&wal, 0..records, 2500);
    let hold = slow.hold(operation);
    std::thread::scope(|scope| {
        let wal = &wal;
        let calling = scope.spawn(move || call(wal));
        hold.wait_for(1);
        let closing = scope.spawn(move || wal.close());
        let begin = Instant::now();
        // Nothing tells that a thread waits; closing would long be through if it did not.
        while !closing.is_finished() && begin.elapsed() < Duration::from_millis(300) {
            std::thread::yield_now();
        }
        let waited = !closing.is_finished() && kind(small().open(dir.path())) == ErrorKind::Locked;
        drop(hold);
        closing.join().unwrap().unwrap();
        (waited, calling.join().unwrap())
    })
}

#[test]
fn row_24_closing_waits_for_a_segment_that_is_being_made() {
    // Renamed after the lock was let go, it would take the place of a segment of the next writer.
    // The first one: the background has nothing to do yet, so that only the append is at work.
    let append = |wal: &Wal| wal.append(b"one").map(drop);
    let (waited, appended) = in_time(move || closes_beside(0, Operation::Rename, append));
    assert!(waited, "the lock was let go while a segment was being made");
    assert_eq!(kind(appended), ErrorKind::Closed);
}

#[test]
fn row_24_closing_waits_for_a_clean_and_a_clean_after_it_is_refused() {
    let (waited, cleaned) = in_time(|| closes_beside(60, Operation::Remove, |wal| wal.clean_before_lsn(Lsn::MAX)));
    assert!(waited, "the lock was let go while files were being removed");
    assert!(!cleaned.unwrap().removed.is_empty());
}

#[test]
fn row_24_waiters_are_told_when_a_log_is_closed_on_a_full_disk() {
    in_time(|| {
        let disk = Disk::new(24);
        disk.threads(true);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..3, 1000);
        disk.fail(Fault::new(Operation::Write).on(".wal").kind(io::ErrorKind::StorageFull).for_good());
        let [first, second] = [3, 4].map(|n| wal.append(&payload(n, 1000)).unwrap().into_owned());
        let writes = disk.count(Operation::Write);
        let waiting = std::thread::spawn(move || first.wait());
        while disk.count(Operation::Write) == writes {
            std::thread::yield_now();
        }
        assert_eq!(kind(wal.close()), ErrorKind::DiskFull);
        // The lock is another's now: nothing may be written any more, and nobody told that it was.
        disk.heal();
        let next = small().open_on(disk.mount()).unwrap();
        assert_eq!(kind(waiting.join().unwrap()), ErrorKind::Poisoned);
        assert_eq!(kind(second.wait()), ErrorKind::Poisoned);
        next.append(b"next").unwrap().wait().unwrap();
        disk.crash(Keep::None);
        drop((wal, next));
        let mut expected = filled(0..3, 1000);
        expected.push(b"next".to_vec());
        assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), expected);
    });
}
