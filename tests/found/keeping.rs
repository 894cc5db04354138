//! Faults of cleaning, of poison, and of what the writer keeps in order.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use seawall::sim::{Disk, Failing, Fault, Keep, Operation, Unit};
use seawall::{Durability, ErrorKind, Kept, Lsn, Options, RecoveryMode, Why};

use super::small;

/// After a failed sync of MARK a second clean synced it again and removed files; so did closing.
#[test]
fn a_poisoned_log_writes_and_syncs_nothing_more() {
    for failing in [Operation::Sync, Operation::Write] {
        let disk = Disk::new(8);
        let wal = small().open_on(disk.mount()).unwrap();
        for n in 0..10 {
            wal.append(&[n; 5000]).unwrap().wait().unwrap();
        }
        disk.fail(Fault::new(failing).on("MARK").kind(io::ErrorKind::Other));
        let poisoned = |what: &str, result: seawall::Result<()>| {
            assert_eq!(*result.expect_err(what).kind(), ErrorKind::Poisoned, "{what}");
        };
        poisoned("clean", wal.clean_before_lsn(Lsn::MAX).map(drop));
        let counts = || {
            [Operation::Write, Operation::Sync, Operation::SyncDir, Operation::Remove, Operation::SetLen]
                .map(|operation| disk.count(operation))
        };
        let before = counts();
        poisoned("append", wal.append(b"later").map(drop));
        poisoned("clean again", wal.clean_before_lsn(Lsn::MAX).map(drop));
        poisoned("clean by time", wal.clean_before_batch_time(u64::MAX).map(drop));
        poisoned("sync", wal.sync().map(drop));
        poisoned("rotate", wal.rotate());
        assert_eq!(wal.read(..).unwrap().count(), 10, "reading goes on");
        poisoned("close", wal.close());
        assert_eq!(counts(), before);
        // The lock was let go. The front may be the new one: of what failed nobody knows whether it was done.
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!(wal.read(..).unwrap().last().unwrap().unwrap().payload[0], 9);
    }
}

/// A clean went on removing files after another thread's sync had failed, synced the directory and answered `Ok`.
#[test]
fn a_clean_ends_where_the_log_is_poisoned() {
    let disk = Disk::new(9);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    for n in 0..20 {
        wal.append(&[n; 6000]).unwrap().wait().unwrap();
    }
    let held = failing.hold(Operation::Remove);
    let syncs = std::thread::scope(|scope| {
        let cleans = scope.spawn(|| wal.clean_before_lsn(Lsn::MAX));
        held.wait_for(1);
        failing.fail(Fault::new(Operation::Sync));
        assert!(wal.append(b"unknown").unwrap().wait().is_err());
        let syncs = failing.count(Operation::SyncDir);
        drop(held);
        assert_eq!(*cleans.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
        syncs
    });
    assert_eq!((failing.count(Operation::Remove), failing.count(Operation::SyncDir)), (1, syncs));
}

/// MARK was counted before it was made, and after its making had failed, and not where it was torn; what closing cuts off was
/// counted for good.
#[test]
fn the_bytes_on_disk_are_what_the_files_take() {
    let disk = Disk::new(10);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!((wal.stats().disk_bytes, lengths(&disk)), (0, 0));
    for record in [b"first", b"other"] {
        wal.append(record).unwrap().wait().unwrap();
        wal.rotate().unwrap();
        disk.settle();
        assert_eq!(wal.stats().disk_bytes, lengths(&disk));
    }
    wal.close().unwrap();
    assert_eq!(wal.stats().disk_bytes, lengths(&disk));
    for torn in [8192, 0, 4100] {
        let disk = Disk::new(11);
        disk.put("MARK", vec![7; torn]);
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!((wal.stats().disk_bytes, lengths(&disk)), (torn as u64, torn as u64));
        disk.fail(Fault::new(Operation::Sync).on("MARK"));
        wal.append(b"refused").unwrap_err();
        assert_eq!((wal.stats().disk_bytes, lengths(&disk)), (0, 0));
        wal.append(b"taken").unwrap().wait().unwrap();
        disk.settle();
        assert_eq!(wal.stats().disk_bytes, lengths(&disk));
    }
}

fn lengths(disk: &Disk) -> u64 {
    disk.names().iter().map(|name| disk.file(name).unwrap().len() as u64).sum()
}

/// The same after the directory's sync, with tidying due; the failure may come while the log is being closed.
#[test]
fn a_poisoned_log_tidies_nothing_more() {
    for beside in [false, true] {
        let disk = Disk::new(8);
        let failing = Failing::new(disk.mount());
        let wal = small().open_on(failing.clone()).unwrap();
        for n in 0..3 {
            wal.append(&[n; 100]).unwrap().wait().unwrap();
            wal.rotate().unwrap();
        }
        wal.append(&[3; 100]).unwrap().wait().unwrap();
        failing.fail(Fault::new(Operation::SyncDir).kind(io::ErrorKind::Other));
        let held = failing.hold(Operation::SyncDir);
        std::thread::scope(|scope| {
            let rotates = scope.spawn(|| wal.rotate());
            held.wait_for(1);
            let counts = || [Operation::SetLen, Operation::SyncDir, Operation::Sync].map(|o| disk.count(o));
            let before = counts();
            if beside {
                let closes = scope.spawn(|| wal.close());
                // Until it waits for the making. If it comes later it is told all the same.
                std::thread::sleep(Duration::from_millis(100));
                drop(held);
                assert_eq!(*closes.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
                assert!(rotates.join().unwrap().is_err());
            } else {
                drop(held);
                assert_eq!(*rotates.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
                assert_eq!(*wal.clean_before_lsn(Lsn::MAX).unwrap_err().kind(), ErrorKind::Poisoned);
            }
            assert_eq!(counts(), before);
        });
    }
}

/// Whoever waited for a segment to be made made it again, and synced the directory after that had failed.
#[test]
fn nothing_is_made_once_the_directory_could_not_be_synced() {
    let disk = Disk::new(8);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    wal.append(&[1; 100]).unwrap().wait().unwrap();
    failing.fail(Fault::new(Operation::SyncDir).kind(io::ErrorKind::Other));
    let held = failing.hold(Operation::SyncDir);
    std::thread::scope(|scope| {
        let rotate = || scope.spawn(|| wal.rotate());
        let first = rotate();
        held.wait_for(1);
        let creates = disk.count(Operation::Create);
        let second = rotate();
        // Until it waits for the making. If it comes later it is told all the same.
        std::thread::sleep(Duration::from_millis(100));
        drop(held);
        for rotate in [first, second] {
            assert_eq!(*rotate.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
        }
        assert_eq!(disk.count(Operation::Create), creates);
    });
}

/// A leader whose sync returns after another thread's write failed.
#[test]
fn mark_is_not_written_once_the_log_is_poisoned() {
    let disk = Disk::new(8);
    let failing = Failing::new(disk.mount());
    let wal = Options::new().segment_size(4 << 20).open_on(failing.clone()).unwrap();
    let ticket = wal.append(b"first").unwrap();
    let held = failing.hold(Operation::Sync);
    std::thread::scope(|scope| {
        let leads = scope.spawn(|| ticket.wait());
        held.wait_for(1);
        failing.fail(Fault::new(Operation::Write).kind(io::ErrorKind::Other));
        assert!((0..200).any(|_| wal.append(&[7; 3000]).is_err()));
        let writes = disk.count(Operation::Write);
        drop(held);
        leads.join().unwrap().unwrap();
        assert_eq!(disk.count(Operation::Write), writes);
    });
}

/// A MARK whose making failed in its sync was synced again, in the same file, by the next making.
#[test]
fn a_mark_that_could_not_be_synced_is_made_anew() {
    let disk = Disk::new(8);
    let wal = small().open_on(disk.mount()).unwrap();
    disk.fail(Fault::new(Operation::Sync).on("MARK").kind(io::ErrorKind::Other));
    assert_eq!(*wal.append(b"no").unwrap_err().kind(), ErrorKind::Io);
    assert!(!disk.names().contains(&"MARK".to_owned()), "{:?}", disk.names());
    wal.append(b"yes").unwrap().wait().unwrap();
    wal.close().unwrap();
}

/// It was synced again all the same where it could not be removed.
#[test]
fn a_mark_that_could_be_neither_synced_nor_removed_is_not_synced_again() {
    let disk = Disk::new(8);
    let wal = small().open_on(disk.mount()).unwrap();
    disk.fail(Fault::new(Operation::Sync).on("MARK").kind(io::ErrorKind::Other));
    for failing in [Operation::Sync, Operation::Remove] {
        disk.fail(Fault::new(Operation::Remove).on("MARK").kind(io::ErrorKind::Other));
        let syncs = disk.count(Operation::Sync);
        assert_eq!(*wal.append(b"no").unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(disk.count(Operation::Sync) - syncs, u64::from(failing == Operation::Sync), "{failing:?}");
    }
    wal.append(b"yes").unwrap().wait().unwrap();
    wal.close().unwrap();
}

/// It was told that the log is poisoned and is to be closed, which nobody had.
#[test]
fn what_fails_while_a_log_is_opened_is_told_as_it_was() {
    let disk = Disk::new(8);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    wal.append(b"x").unwrap().wait().unwrap();
    wal.sync().unwrap();
    wal.append(b"y").unwrap().wait().unwrap();
    let disk = disk.fork();
    drop(wal);
    disk.kill();
    // Nothing says that the last record is durable: MARK is to, once it is.
    disk.fail(Fault::new(Operation::Write).on("MARK").kind(io::ErrorKind::Other));
    let error = small().open_on(disk.mount()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io, "{error}");
    assert!(!error.to_string().contains("poisoned"), "{error}");
    assert_eq!(small().open_on(disk.mount()).unwrap().recovery().records, 2);
}

/// Segments below the limit behind one that is not were not told at all.
#[test]
fn a_clean_tells_what_lies_behind_a_segment_above_the_limit() {
    let disk = Disk::new(2);
    let wal = small().open_on(disk.mount()).unwrap();
    let mut names = Vec::new();
    for time in [100_u64, 1, 2, 200, 3] {
        let lsn = wal.at(time).append(b"x").unwrap().wait().unwrap();
        names.push(format!("{:020}.wal", lsn.0 / 4096 * 4096 - 4096));
        if time != 3 {
            wal.rotate().unwrap();
        }
    }
    let told = |kept: Vec<Kept>| kept.into_iter().map(|kept| (kept.segment, kept.why)).collect::<Vec<_>>();
    let kept = |n: usize, why| (names[n].clone(), why);
    let behind = || Why::Behind(names[0].clone());
    let cleaned = wal.clean_before_batch_time(50).unwrap();
    assert!(cleaned.removed.is_empty());
    let first = kept(0, Why::BatchTime(100.into()));
    assert_eq!(told(cleaned.kept), [first, kept(1, behind()), kept(2, behind()), kept(4, Why::Newest)]);
    // What holds nothing back that is below the limit is not told.
    assert_eq!(wal.clean_before_batch_time(1).unwrap().kept, []);
    let cleaned = wal.clean_before_batch_time(101).unwrap();
    assert_eq!(cleaned.removed, names[..3]);
    assert_eq!(told(cleaned.kept), [kept(3, Why::BatchTime(200.into())), kept(4, Why::Newest)]);
}

/// A limit at which a segment begins is not one above it, and one that holds no record is behind nothing.
#[test]
fn a_clean_up_to_where_a_segment_begins_leaves_that_and_tells_nothing_of_it() {
    let disk = Disk::new(2);
    let wal = small().open_on(disk.mount()).unwrap();
    let names = || wal.kept().into_iter().map(|kept| kept.segment).collect::<Vec<_>>();
    wal.at(100).append(b"first").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    // Notes of cursors, and no record, until it is full.
    while names().len() < 3 {
        wal.cursor("again").unwrap().remove().unwrap();
    }
    wal.at(3).append(b"newest").unwrap().wait().unwrap();
    let [first, noted, newest] = names().try_into().unwrap();
    let told = |kept: Vec<Kept>| kept.into_iter().map(|kept| (kept.segment, kept.why)).collect::<Vec<_>>();
    let cleaned = wal.clean_before_batch_time(50).unwrap();
    let expected = [(first.clone(), Why::BatchTime(100.into())), (newest, Why::Newest)];
    assert_eq!((cleaned.removed, told(cleaned.kept)), (vec![], expected.to_vec()));
    let base = Lsn(noted[..20].parse().unwrap());
    let cleaned = wal.clean_before_lsn(base).unwrap();
    assert_eq!((cleaned.first, cleaned.removed, told(cleaned.kept)), (base, vec![first], vec![]));
}

/// A waker that was replaced was dropped under the lock; if a task went with it that waited for the log, it hung.
#[test]
fn a_waker_that_is_replaced_may_take_a_task_with_it_that_waits() {
    struct Last(Mutex<Option<Box<dyn FnOnce() + Send>>>);
    impl Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some(farewell) = self.0.lock().unwrap().take() {
                farewell();
            }
        }
    }
    let (done, told) = channel();
    std::thread::spawn(move || {
        let wal = Arc::new(small().open_on(Disk::new(3).mount()).unwrap());
        let mut ticket = wal.append(b"x").unwrap().into_owned();
        let task = Arc::clone(&wal);
        let farewell = move || _ = task.append(b"farewell").unwrap().wait().unwrap();
        let waker = Waker::from(Arc::new(Last(Mutex::new(Some(Box::new(farewell))))));
        assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        // What the task waited for brings this ticket's round too; it was not there when it was asked.
        _ = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_))));
        done.send(wal.read(..).unwrap().count()).unwrap();
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(2));
}

/// Bytes of an earlier piece in the padding, against the format.
#[test]
fn padding_is_zero_in_pieces_that_are_used_again() {
    let disk = Disk::new(5);
    let wal = small().open_on(disk.mount()).unwrap();
    for length in 1..40 {
        wal.append(&[0xff; 60]).unwrap().wait().unwrap();
        let at = usize::try_from(wal.append(&vec![0xff; length]).unwrap().wait().unwrap().0).unwrap();
        let end = at + 24 + length;
        let file = disk.file("00000000000000000000.wal").unwrap();
        assert!(file[end..end.next_multiple_of(4)].iter().all(|byte| *byte == 0), "{length}");
    }
}

/// A write fails while somebody waits to write what comes after it.
#[test]
fn nothing_is_written_behind_a_write_that_failed() {
    let disk = Disk::new(5);
    let failing = Failing::new(disk.mount());
    let wal = Options::new().segment_size(4 << 20).open_on(failing.clone()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    failing.fail(Fault::new(Operation::Write).on(".wal").kind(io::ErrorKind::Other));
    let held = failing.hold(Operation::Write);
    std::thread::scope(|scope| {
        let fills = scope.spawn(|| (0..200).find_map(|_| wal.append(&[7; 3000]).err()));
        held.wait_for(1);
        let last = wal.append(b"last").unwrap();
        let waits = scope.spawn(|| last.wait());
        // Until it waits for the output lock. If it comes later it is told all the same.
        std::thread::sleep(Duration::from_millis(100));
        drop(held);
        assert!(fills.join().unwrap().is_some());
        assert_eq!(*waits.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
    });
    assert!(wal.close().is_err());
    drop(wal);
    disk.kill();
    let wal = Options::new().open_on(disk.mount()).unwrap();
    let first = wal.read(..).unwrap().next().unwrap().unwrap();
    assert_eq!(&first.payload[..], b"first");
}

/// A page that was only written may be dropped by the kernel, and bytes of a map of it would change.
#[test]
fn what_is_only_written_is_not_mapped() {
    let disk = Disk::new(5);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    for n in 0..3 {
        wal.append(&[n; 5000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    assert_eq!(wal.read(..).unwrap().count(), 3);
    assert_eq!(disk.count(Operation::Map), 0);
    wal.sync().unwrap();
    assert_eq!(wal.read(..).unwrap().count(), 3);
    assert!(disk.count(Operation::Map) > 0);
}

/// A log that a life has passed over a cut-off segment of, without tidying; and that segment's name.
fn with_a_segment_cut_off() -> (Disk, String) {
    let disk = Disk::new(5);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    drop(wal.append(b"first").unwrap());
    wal.rotate().unwrap();
    let lsn = wal.append(b"cut off").unwrap().wait().unwrap();
    disk.kill();
    drop(wal);
    let void = format!("{:020}.wal", lsn.0 / 4096 * 4096 - 4096);
    let mut bytes = disk.file(&void).unwrap();
    bytes[4096] ^= 1;
    disk.put(&void, &bytes);
    // A life whose link passes over it, and that ends before anything is tidied.
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(wal.recovery().records, 1);
    wal.append(b"second").unwrap().wait().unwrap();
    disk.kill();
    (disk, void)
}

/// Frames that recovery cut off are moved aside before a clean could leave them below the front, where files are removed.
#[test]
fn opening_moves_what_an_earlier_life_passed_over_aside() {
    let (disk, void) = with_a_segment_cut_off();
    assert!(disk.names().contains(&void));
    let wal = small().open_on(disk.mount()).unwrap();
    let names = disk.names();
    assert!(!names.contains(&void) && names.contains(&format!("{void}.aside")), "{names:?}");
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 1);
}

/// What cannot be moved aside must not come to lie below the front, where the next open would remove it.
#[test]
fn a_clean_does_not_pass_what_cannot_be_moved_aside() {
    let (disk, void) = with_a_segment_cut_off();
    disk.fail(Fault::new(Operation::Rename).on(&void).kind(io::ErrorKind::PermissionDenied).for_good());
    let wal = small().open_on(disk.mount()).unwrap();
    let error = wal.clean_before_lsn(Lsn::MAX).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Io, "{error}");
    drop(wal);
    let wal = small().open_on(disk.mount()).unwrap();
    assert!(disk.names().contains(&void), "{:?}", disk.names());
    disk.heal();
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 1);
    assert!(disk.names().contains(&format!("{void}.aside")));
}

/// A copy of a log whose files were synced and whose directory was not: what opening shows, a power cut must not take.
#[test]
fn opening_makes_the_names_durable_that_it_relies_on() {
    let [from, to] = [6, 7].map(Disk::new);
    let wal = small().open_on(from.mount()).unwrap();
    for n in 0..5 {
        wal.append(&[n; 5000]).unwrap().wait().unwrap();
    }
    wal.close().unwrap();
    let copy = to.mount();
    copy.create_dir().unwrap();
    for name in from.names() {
        let (bytes, file) = (from.file(&name).unwrap(), copy.create(&name).unwrap());
        assert_eq!(file.write_at(&bytes, 0).unwrap(), bytes.len());
        file.sync().unwrap();
    }
    drop(copy);
    let wal = small().open_on(to.mount()).unwrap();
    assert_eq!(wal.read(..).unwrap().count(), 5);
    to.crash(Keep::None);
    drop(wal);
    assert_eq!(small().open_on(to.mount()).unwrap().read(..).unwrap().count(), 5);
}

/// A leader that is held up where it wakes somebody, until after the log was closed.
#[test]
fn mark_is_not_written_after_the_lock_was_let_go() {
    struct Slow(Sender<()>, Mutex<Receiver<()>>);
    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
            self.1.lock().unwrap().recv().unwrap();
        }
    }
    let disk = Disk::new(5);
    let wal = small().open_on(disk.mount()).unwrap();
    let (entered, woken) = channel();
    let (go_on, wait) = channel();
    let waker = Waker::from(Arc::new(Slow(entered, Mutex::new(wait))));
    let mut future = wal.append(b"future").unwrap().into_owned();
    assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| wal.append(b"leads").unwrap().wait());
        woken.recv_timeout(Duration::from_secs(10)).unwrap();
        wal.close().unwrap();
        let writes = disk.count(Operation::Write);
        go_on.send(()).unwrap();
        leader.join().unwrap().unwrap();
        assert_eq!(disk.count(Operation::Write), writes);
    });
}

/// A clean and the maker synced the directory beside one another: the failure was told to one, and the other went on.
#[test]
fn a_directory_that_could_not_be_synced_fails_for_everybody() {
    let disk = Disk::new(8);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    for n in 0..3 {
        wal.append(&[n; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.append(&[3; 100]).unwrap().wait().unwrap();
    failing.fail(Fault::new(Operation::SyncDir).kind(io::ErrorKind::Other));
    let held = failing.hold(Operation::SyncDir);
    std::thread::scope(|scope| {
        let cleans = scope.spawn(|| wal.clean_before_lsn(Lsn::MAX));
        held.wait_for(1);
        let syncs = disk.count(Operation::SyncDir);
        let rotates = scope.spawn(|| wal.rotate());
        // Until it waits for the clean. If it comes later it is told all the same.
        std::thread::sleep(Duration::from_millis(100));
        drop(held);
        for failed in [cleans.join().unwrap().map(drop), rotates.join().unwrap()] {
            assert_eq!(*failed.unwrap_err().kind(), ErrorKind::Poisoned);
        }
        assert_eq!(disk.count(Operation::SyncDir), syncs);
    });
}

/// A record that was torn by itself was dropped and not told, and so was the batch time of a batch that was not whole.
#[test]
fn a_tail_that_was_dropped_is_told_and_leaves_nothing() {
    for batch in [false, true] {
        let disk = Disk::new(3);
        let wal = small().open_on(disk.mount()).unwrap();
        wal.at(5).append(b"durable").unwrap().wait().unwrap();
        let records = if batch { vec![vec![1; 100], vec![2; 4000]] } else { vec![vec![1; 8000]] };
        let ticket = wal.at(1_000_000).append_batch(&records).unwrap();
        // Written, and not synced.
        disk.crash_at(2);
        assert!(ticket.wait().is_err());
        let dirty = disk.dirty();
        let record = |unit: &Unit| matches!(unit, Unit::Sector { file, .. } if file.ends_with(".wal"));
        let last = dirty.iter().rposition(record).unwrap();
        let keep: Vec<_> = (0..dirty.len()).map(|index| index != last).collect();
        disk.crash(Keep::Units(&keep));
        let report = seawall::check::Verify::new().run_on(disk.mount()).unwrap();
        assert!(report.is_clean() && report.notes.iter().any(|note| note.starts_with("torn tail")), "{report}");
        let wal = small().open_on(disk.mount()).unwrap();
        let torn = wal.recovery().torn.unwrap();
        assert_eq!((torn.lsn, torn.beyond), (wal.recovery().end, 0));
        assert_eq!(wal.batch_time(), seawall::BatchTime(5));
    }
}

/// The newest segment was an earlier life's, and stayed so.
#[test]
fn rotating_after_opening_begins_a_segment() {
    let disk = Disk::new(3);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.rotate().unwrap();
    assert_eq!(wal.stats().segments, 0);
    wal.append(b"record").unwrap().wait().unwrap();
    wal.close().unwrap();
    let wal = small().open_on(disk.mount()).unwrap();
    wal.rotate().unwrap();
    wal.rotate().unwrap();
    assert_eq!(wal.stats().segments, 2);
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 1);
}

/// A clean synced the front into one slot of MARK; the second commit after it wrote over that slot, and where the write
/// was torn and the power went the log no longer knew that what was missing had been cleaned.
#[test]
fn a_torn_write_of_mark_does_not_take_the_front() {
    for (reopens, nth) in [false, true].into_iter().flat_map(|reopens| (1..4).map(move |nth| (reopens, nth))) {
        let (disk, wal) = cleaned();
        let mut last = wal.append(b"acknowledged").unwrap().wait().unwrap();
        let wal = if reopens {
            drop(wal);
            small().open_on(disk.mount()).unwrap()
        } else {
            wal
        };
        disk.fail(Fault::new(Operation::Write).on("MARK").nth(nth).partial(51));
        while let Ok(lsn) = wal.append(b"acknowledged").and_then(seawall::Ticket::wait) {
            last = lsn;
        }
        let left = disk.fork();
        disk.crash_at(0);
        drop(wal);
        survives(&left, last);
    }
}

/// The same while the log is opened: the newer slot was in the cache alone, and the other one written over.
#[test]
fn a_torn_write_of_mark_at_opening_does_not_take_the_front() {
    for nth in 1..4 {
        let (disk, wal) = cleaned();
        let last = wal.append(b"acknowledged").unwrap().wait().unwrap();
        disk.kill();
        drop(wal);
        disk.fail(Fault::new(Operation::Write).on("MARK").nth(nth).partial(51));
        drop(small().open_on(disk.mount()));
        survives(&disk, last);
    }
}

/// A log of which a clean has taken all but the newest segment.
fn cleaned() -> (Disk, seawall::Wal) {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    for n in 0..8 {
        wal.append(&[n; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    disk.settle();
    wal.append(b"newest").unwrap().wait().unwrap();
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 8);
    (disk, wal)
}

/// The record is there, whatever of what is not synced a power cut keeps.
fn survives(disk: &Disk, record: Lsn) {
    disk.heal();
    let dirty = disk.dirty_units();
    assert!(dirty < 14, "{dirty}");
    for mask in 0..1 << dirty {
        let left = disk.fork();
        left.crash(Keep::Mask(mask));
        let wal = small().open_on(left.mount()).unwrap_or_else(|e| panic!("{mask:b} of {dirty}: {e}"));
        wal.get(record).unwrap();
    }
}

/// The front may be told by the link of a segment that was cut off, in the cache alone, beside a MARK that was made just now:
/// what lies below is removed once the front is synced, and no sooner.
#[test]
fn what_a_cut_off_link_says_was_cleaned_is_removed_once_mark_says_it_durably() {
    let disk = Disk::new(1);
    let options = small().durability(Durability::Os);
    let wal = options.open_on(disk.mount()).unwrap();
    for n in 0..4 {
        wal.append(&[n; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    disk.settle();
    let kept = wal.append(b"kept").unwrap().wait().unwrap();
    wal.sync().unwrap();
    let first = wal.clean_before_lsn(Lsn::MAX).unwrap().first;
    let torn = wal.append(b"torn").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    wal.append(b"cut off").unwrap().wait().unwrap();
    disk.kill();
    drop(wal);
    let below = || {
        let bases = disk.names().into_iter().filter_map(|name| name.strip_suffix(".wal")?.parse::<u64>().ok());
        bases.filter(|base| *base < first.0).count()
    };
    assert!(below() > 0, "no spares: {:?}", disk.names());
    let name = format!("{:020}.wal", first.0);
    let mut bytes = disk.file(&name).unwrap();
    bytes[usize::try_from(torn.0 - first.0).unwrap()] ^= 1;
    disk.put(&name, bytes);
    disk.remove("MARK");
    let wal = options.open_on(disk.mount()).unwrap();
    assert_eq!((wal.recovery().end, below()), (torn, 0), "{:?}", disk.names());
    // The names are written back first.
    disk.crash(Keep::Choose(&mut |unit: &Unit| !matches!(unit, Unit::Sector { .. })));
    drop(wal);
    let wal = options.open_on(disk.mount()).unwrap_or_else(|e| panic!("{e}"));
    let left: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
    assert_eq!(left, [kept]);
}

/// A frame that was whole, of a batch that was not, was dropped and not refused.
#[test]
fn strict_refuses_half_a_batch() {
    let disk = Disk::new(3);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"durable").unwrap().wait().unwrap();
    let ticket = wal.append_batch(&[vec![1; 100], vec![2; 4000]]).unwrap();
    disk.crash_at(2);
    assert!(ticket.wait().is_err());
    let dirty = disk.dirty();
    let first = dirty.iter().position(|unit| matches!(unit, Unit::Sector { file, .. } if file.ends_with(".wal")));
    let keep: Vec<_> = (0..dirty.len()).map(|index| Some(index) == first).collect();
    disk.crash(Keep::Units(&keep));
    let strict = small().recovery_mode(RecoveryMode::Strict);
    assert_eq!(*strict.open_on(disk.mount()).unwrap_err().kind(), ErrorKind::NotStrict);
    let error = strict.open_on(disk.mount()).unwrap_err().to_string();
    assert!(error.contains("a part of a batch"), "{error}");
    let wal = small().open_on(disk.mount()).unwrap();
    assert!(wal.recovery().torn.is_some());
    let figures = wal.stats();
    wal.append(b"x").unwrap().wait().unwrap();
    assert_eq!((figures.appended_bytes, wal.stats().appended_bytes), (0, 1), "links are no records");
}

/// MARK tells the front, or a link that was framed after the clean: where neither is left, what was cleaned and lies there
/// still, as a spare, is part of the log again.
#[test]
fn without_mark_what_was_cleaned_and_not_removed_is_back() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    for n in 0..4 {
        wal.append(&[n; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.append(b"newest").unwrap().wait().unwrap();
    let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
    disk.kill();
    drop(wal);
    let opened = |disk: &Disk| small().open_on(disk.mount()).unwrap().recovery().first;
    assert_eq!((cleaned.removed.len(), opened(&disk.fork())), (4, cleaned.first));
    disk.remove("MARK");
    assert!(opened(&disk) < cleaned.first);
}
