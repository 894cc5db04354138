//! Rows 26 to 29: sizes, times, LSNs at their ends; cleaning beside everything; a child of `fork`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use seawall::sim::{Bug, Disk, Keep};
use seawall::{ErrorKind, Lsn, Why};

use crate::common::{CAPACITY, fill, filled, kind, payload, payloads, segments, small, with};
use crate::spec;

/// What a batch takes at most, frames included.
const LIMIT: usize = CAPACITY as usize - 8192;

#[test]
fn row_26_records_of_no_bytes_and_of_the_most_there_may_be() {
    let disk = Disk::new(26);
    let wal = small().open_on(disk.mount()).unwrap();
    let most = vec![26; LIMIT - 24];
    let mut expected = Vec::new();
    for _ in 0..5 {
        wal.append(b"").unwrap().wait().unwrap();
        wal.append(&most).unwrap().wait().unwrap();
        expected.extend([vec![], most.clone()]);
    }
    let one_more = vec![26; LIMIT - 23];
    for refused in [wal.append(&one_more), wal.try_append(&one_more), wal.append_checkpoint(&one_more)] {
        let ErrorKind::TooLarge { needs, limit } = kind(refused) else { panic!("not TooLarge") };
        assert_eq!((needs, limit), (LIMIT as u64 + 4, LIMIT as u64));
    }
    // What no segment of any size holds is told by what those of this log do.
    let ErrorKind::TooLarge { limit, .. } = kind(wal.append(&vec![0; 1 << 28])) else { panic!("not TooLarge") };
    assert_eq!(limit, LIMIT as u64);
    let largest = seawall::Options::new().segment_size(1 << 30).open_on(Disk::new(27).mount()).unwrap();
    let ErrorKind::TooLarge { needs, limit } = kind(largest.append(&vec![0; 1 << 28])) else { panic!("not TooLarge") };
    assert_eq!((needs, limit), (24 + (1 << 28), 24 + (1 << 28) - 1));
    let stats = wal.stats();
    assert_eq!((stats.appended_records, stats.buffered_bytes), (10, 0), "nothing was appended");
    assert_eq!(payloads(&wal), expected);
    disk.crash(Keep::None);
    drop(wal);
    assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), expected);
}

#[test]
fn row_26_batches_as_large_as_a_segment_holds_and_larger() {
    let disk = Disk::new(26);
    let wal = small().open_on(disk.mount()).unwrap();
    // Frames of 24 bytes alone: as many as there is room for.
    let empty = vec![b""; LIMIT / 24];
    for _ in 0..3 {
        wal.append_batch(&empty).unwrap().wait().unwrap();
    }
    assert!(matches!(kind(wal.append_batch(&vec![b""; LIMIT / 24 + 1])), ErrorKind::TooLarge { .. }));
    let parts = [vec![1; LIMIT / 2 - 24], vec![2; LIMIT / 2 - 24]];
    wal.append_batch(&parts).unwrap().wait().unwrap();
    let larger = [vec![1; LIMIT / 2 - 24], vec![2; LIMIT / 2 - 23]];
    assert!(matches!(kind(wal.append_batch(&larger)), ErrorKind::TooLarge { .. }));
    assert_eq!(kind(wal.append_batch::<&[u8]>(&[])), ErrorKind::Invalid);
    let held: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    assert!(matches!(
        kind(wal.append_parts(&[held[0], held[1], b"123456789012345678901234567890"])),
        ErrorKind::TooLarge { .. }
    ));
    let records: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap()).collect();
    assert_eq!(records.len(), 3 * (LIMIT / 24) + 2);
    assert_eq!(records.iter().filter(|record| record.ends_batch).count(), 4);
    disk.crash(Keep::None);
    drop(wal);
    assert_eq!(small().open_on(disk.mount()).unwrap().recovery().records, records.len() as u64);
}

/// A log of three records whose only segment was moved to `base`, as if all below had been used and cleaned.
fn moved_to(base: u64) -> Disk {
    let disk = Disk::new(27);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 1000);
    disk.crash(Keep::All);
    drop(wal);
    disk.remove("MARK");
    let names = segments(&disk);
    let mut bytes = disk.file(&names[0]).unwrap();
    let segment = spec::segment(&bytes).unwrap();
    names.iter().for_each(|name| assert!(disk.remove(name)));
    bytes[48..56].copy_from_slice(&base.to_le_bytes());
    let seed = spec::mend_header(&mut bytes);
    // Distances stay what they were, but for the link's: nothing was durable before it.
    segment.frames.iter().for_each(|frame| spec::mend_check(&mut bytes, seed, frame.at));
    disk.put(&format!("{base:020}.wal"), bytes);
    disk
}

#[test]
fn row_27_lsns_up_to_the_last_there_is() {
    let last = u64::MAX - 4095 - CAPACITY;
    for (base, segments_left) in [(last, 0), (last - CAPACITY, 1), (last - 2 * CAPACITY, 2), (last - 5 * CAPACITY, 5)] {
        let disk = moved_to(base);
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!(payloads(&wal), filled(0..3, 1000));
        assert_eq!(wal.recovery().first, Lsn(base));
        let mut appended = 3;
        let e = loop {
            match wal.append(&payload(appended, 1000)) {
                Ok(ticket) => assert!(ticket.wait().unwrap() > Lsn(base)),
                Err(e) => break e,
            }
            appended += 1;
        };
        // Nothing mends it, so it is no full log.
        assert!(matches!(e.kind(), ErrorKind::TooLarge { .. }) && !e.is_backpressure(), "{e:?}");
        // One segment stays in reserve, for a checkpoint.
        assert!(appended <= 3 + 12 * segments_left && (segments_left < 2 || appended > 3), "{appended}");
        assert_eq!(payloads(&wal), filled(0..appended, 1000));
        assert_eq!(wal.read(Lsn(base)..=Lsn::MAX).unwrap().count(), appended as usize);
        assert!(matches!(kind(wal.get(Lsn::MAX)), ErrorKind::NotDurable { .. }));
        wal.clean_before_lsn(Lsn::MAX).unwrap();
        wal.close().unwrap();
        drop(wal);
        let wal = small().open_on(disk.mount()).unwrap();
        assert!(payloads(&wal).ends_with(&[payload(appended - 1, 1000)]));
    }
}

#[test]
fn row_27_a_file_that_reaches_beyond_the_last_lsn_is_no_overflow() {
    let base = u64::MAX - 4095 - CAPACITY;
    for more in [0, 1, 4095, 4096, 1 << 20] {
        let disk = moved_to(base);
        let name = segments(&disk).remove(0);
        let mut bytes = disk.file(&name).unwrap();
        bytes.resize(bytes.len() + more, 0);
        disk.put(&name, bytes);
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!(payloads(&wal), filled(0..3, 1000), "{more}");
        assert!(matches!(kind(wal.append(b"one")), ErrorKind::TooLarge { .. }), "{more}");
    }
    // Names at the very end, with nothing in them.
    for name in ["18446744073709547520.wal", "18446744073709551615.wal", "18446744073709535232.wal"] {
        let disk = moved_to(1 << 40);
        disk.put(name, [0; 100]);
        let opened = small().open_on(disk.mount());
        let refused = opened.as_ref().is_err_and(|e| matches!(e.kind(), ErrorKind::Damage(_)));
        let reported = opened.as_ref().is_ok_and(|wal| wal.recovery().notes.iter().any(|note| note.contains(name)));
        assert!(refused || reported, "{name}: {opened:?}");
    }
}

#[test]
fn row_27_batch_times_at_their_ends_and_out_of_order() {
    let disk = Disk::new(27);
    let wal = small().segment_age(10).open_on(disk.mount()).unwrap();
    let times = [0, u64::MAX, 0, 5, u64::MAX, 3, 1 << 63, 1, u64::MAX - 1, 0, 0, 2];
    for (n, time) in times.into_iter().enumerate() {
        wal.at(time).append(&payload(n as u32, 2500)).unwrap().wait().unwrap();
    }
    assert_eq!(wal.batch_time().0, u64::MAX);
    // Each clean takes whole segments, a prefix, all of whose records are older: never a newer record.
    for threshold in [0, 1, 6, 1 << 63, u64::MAX] {
        let before: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap()).collect();
        let cleaned = wal.clean_before_batch_time(threshold).unwrap();
        for record in before.iter().filter(|record| record.lsn < cleaned.first) {
            assert!(record.batch_time.0 < threshold, "{threshold}: {record:?}");
        }
        let after: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap()).collect();
        let left: Vec<_> = before.into_iter().filter(|record| record.lsn >= cleaned.first).collect();
        assert_eq!(after, left);
    }
    disk.crash(Keep::None);
    let before = payloads(&small().open_on(disk.fork().mount()).unwrap());
    drop(wal);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(wal.batch_time().0, u64::MAX, "out of the log itself");
    assert_eq!(payloads(&wal), before);
}

/// A checkpoint, then more records; how far a clean of everything goes.
fn clean_keeps_the_checkpoint(bug: Option<Bug>) -> bool {
    let disk = Disk::new(28);
    let wal = with(small(), bug).open_on(disk.mount()).unwrap();
    fill(&wal, 0..12, 2500);
    let checkpoint = wal.append_checkpoint(b"where it stands").unwrap().wait().unwrap();
    fill(&wal, 12..30, 2500);
    let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
    let kept = cleaned.kept.iter().any(|kept| kept.why == Why::Checkpoint(checkpoint));
    drop(wal);
    disk.crash(Keep::None);
    let wal = small().open_on(disk.mount()).unwrap();
    let found = wal.checkpoint().ok().flatten().map(|record| record.lsn);
    let after = wal.read(checkpoint..).is_ok_and(|records| records.skip(1).count() == 18);
    kept && found == Some(checkpoint) && after
}

#[test]
fn row_28_a_clean_of_everything_keeps_the_last_checkpoint_and_what_follows() {
    assert!(clean_keeps_the_checkpoint(None));
    assert!(!clean_keeps_the_checkpoint(Some(Bug::CleanPastCheckpoint)), "the check sees nothing");
}

#[test]
fn row_28_a_clean_of_everything_keeps_the_newest_segment() {
    let disk = Disk::new(28);
    let wal = small().open_on(disk.mount()).unwrap();
    assert!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty(), "of an empty log");
    fill(&wal, 0..30, 2500);
    for _ in 0..3 {
        let cleaned = wal.clean_before_batch_time(u64::MAX).unwrap();
        assert_eq!(cleaned.kept.last().unwrap().why, Why::Newest);
        assert_eq!(wal.stats().segments, 1);
        assert!(payloads(&wal).ends_with(&filled(29..30, 2500)));
    }
    // A clean that a power cut follows at once has happened, and the log goes on.
    disk.crash(Keep::None);
    drop(wal);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(wal.recovery().segments, 1);
    fill(&wal, 30..40, 2500);
    assert!(payloads(&wal).ends_with(&filled(29..40, 2500)));
}

#[test]
fn row_28_cleaning_beside_reading_appending_and_other_cleans() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let (done, gone) = (AtomicBool::new(false), AtomicUsize::new(0));
    fill(&wal, 0..10, 1000);
    let end = std::thread::scope(|scope| {
        let cleaners: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let durable = wal.durable_lsn().0;
                        let cleaned = wal.clean_before_lsn(Lsn(durable.saturating_sub(8 * CAPACITY))).unwrap();
                        assert_eq!(cleaned.failed, []);
                        gone.fetch_add(cleaned.removed.len(), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let (mut overtaken, mut rounds) = (0, 0);
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                rounds += 1;
                let mut next = None;
                for record in wal.read(..).unwrap() {
                    match record {
                        Ok(record) => {
                            let n = spec::u32_at(&record.payload, 0);
                            assert_eq!(record.payload, payload(n, 1000));
                            assert!(next.is_none_or(|next| next == n), "a gap before {n}");
                            next = Some(n + 1);
                        }
                        Err(e) => {
                            assert!(matches!(e.kind(), ErrorKind::Removed { .. }), "{e}");
                            overtaken += 1;
                        }
                    }
                }
            }
            (rounds, overtaken)
        });
        // However fast the disk is, until cleaning has come to something.
        let mut end = 10;
        while end < 1500 || gone.load(Ordering::Relaxed) <= 50 {
            assert!(end < 1_000_000, "nothing is cleaned");
            fill(&wal, end..end + 10, 1000);
            end += 10;
        }
        done.store(true, Ordering::Relaxed);
        cleaners.into_iter().for_each(|cleaner| cleaner.join().unwrap());
        println!("{gone:?} removed, (rounds, overtaken) = {:?}", reader.join().unwrap());
        end
    });
    let left = payloads(&wal);
    assert_eq!(left, filled(end - left.len() as u32..end, 1000));
    wal.close().unwrap();
    drop(wal);
    assert_eq!(payloads(&small().open(dir.path()).unwrap()), left);
}

/// A child of `fork` that does nothing with the log: it neither lets the parent's lock go when it ends, nor keeps it
/// while it lives.
#[test]
fn row_29_a_forked_child_neither_keeps_nor_drops_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    fill(&wal, 0..3, 700);
    let fork = |lives: bool| {
        // SAFETY: the child of a process of several threads calls nothing but `close`, `pause` and `_exit`.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: as above; the descriptors are the child's own copies, and it returns to nobody who has them.
            unsafe {
                if lives {
                    loop {
                        libc::pause();
                    }
                }
                (3..1024).for_each(|copy| _ = libc::close(copy));
                libc::_exit(0);
            }
        }
        child
    };
    // SAFETY: it waits for a child of its own.
    let wait = |child| assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    wait(fork(false));
    assert_eq!(kind(small().open(dir.path())), ErrorKind::Locked);
    let lives = fork(true);
    let closed = wal.close();
    let again = small().open(dir.path()).map(|wal| payloads(&wal));
    // SAFETY: it kills a child of its own, which was not waited for yet.
    assert_eq!(unsafe { libc::kill(lives, libc::SIGKILL) }, 0);
    wait(lives);
    closed.unwrap();
    assert_eq!(again.unwrap(), filled(0..3, 700));
}
