//! Faults of making segments.

use seawall::sim::{Disk, Fault, Keep, Operation, Unit};
use seawall::{Durability, ErrorKind, Lsn, Options, Wal};

use super::{small, soon};

/// Nobody made the segment that a refused `try_append` needed, unless the newest one was half full.
#[test]
fn a_refused_try_append_has_its_segment_made() {
    fn later(what: &str, disk: &Disk, mut append: impl FnMut() -> seawall::Result<()>) {
        assert_eq!(append().map_err(|e| e.kind().clone()), Err(ErrorKind::Backpressure), "{what}");
        disk.settle();
        append().unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let disk = Disk::new(1);
    let options = Options::new().segment_size(1 << 20).segment_age(10);
    let wal = options.open_on(disk.mount()).unwrap();
    later("at first", &disk, || wal.at(1).try_append(b"x").map(drop));
    let (most, more) = (vec![1; 400 << 10], vec![2; 700 << 10]);
    wal.append(&most).unwrap().wait().unwrap();
    later("too large for what is left", &disk, || wal.try_append(&more).map(drop));
    wal.sync().unwrap();
    wal.rotate().unwrap();
    wal.append(b"y").unwrap().wait().unwrap();
    later("of another age", &disk, || wal.at(100).try_append(b"z").map(drop));
    wal.close().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let wal = options.open(dir.path()).unwrap();
    soon("an append", || wal.try_append(b"x").is_ok());
}

/// What was in memory, though less than a piece, kept a large `try_append` out for ever.
#[test]
fn a_try_append_at_the_bound_on_memory_is_let_in_once_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_size(32 << 20);
    let wal = options.open(dir.path()).unwrap();
    let larger = vec![1; 9 << 20];
    soon("one larger than the bound", || wal.try_append(&larger).is_ok());
    soon("another one", || wal.try_append(&larger).is_ok());
    let half = vec![2; 5 << 20];
    soon("one of two", || wal.try_append(&half).is_ok());
    soon("the other", || wal.try_append(&half).is_ok());
}

/// On a full log or disk `try_append` said for ever that a segment was not ready, so that nobody cleaned.
#[test]
fn try_append_says_what_is_full_until_there_is_room() {
    for bounded in [true, false] {
        let disk = Disk::new(2);
        let options = if bounded { small().max_disk_bytes(6 * (16 << 10)) } else { small() };
        let wal = options.open_on(disk.mount()).unwrap();
        let kind = if bounded { ErrorKind::LogFull } else { ErrorKind::DiskFull };
        wal.append(b"first").unwrap().wait().unwrap();
        disk.capacity((!bounded).then(|| disk.used() + (32 << 10)));
        let fill = |wal: &Wal| while wal.append(&[1; 3000]).map(|ticket| ticket.wait().unwrap()).is_ok() {};
        let refused = |wal: &Wal| wal.try_append(&[1; 3000]).map(drop).map_err(|e| e.kind().clone());
        fill(&wal);
        _ = refused(&wal);
        disk.settle();
        for _ in 0..2 {
            assert_eq!(refused(&wal), Err(kind.clone()));
        }
        disk.settle();
        assert_eq!(refused(&wal), Err(kind.clone()));
        assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
        assert_eq!(refused(&wal), Err(ErrorKind::Backpressure), "what was full may not be any more");
        disk.settle();
        refused(&wal).unwrap();
        fill(&wal);
        _ = refused(&wal);
        disk.settle();
        assert_eq!(refused(&wal), Err(kind));
        if !bounded {
            // Room that somebody else gave back.
            disk.capacity(None);
            _ = refused(&wal);
            disk.settle();
            refused(&wal).unwrap();
        }
    }
}

/// Each restart of a full log left a header behind, until there was no room for the checkpoint that would have it
/// cleaned.
#[test]
fn a_full_log_is_cleaned_after_any_number_of_restarts() {
    let restart = |disk: &Disk, wal: Wal, killed: bool| {
        if killed {
            disk.kill();
        } else {
            wal.close().unwrap();
        }
    };
    let mut seen = 0;
    for extra in (0..16 << 10).step_by(1024) {
        for (size, case) in [500, 2000, 6000, 8160].into_iter().zip(0..) {
            for (killed, lives) in [(false, 1), (true, 1), (true, 3), (false, 12), (true, 12)] {
                let bound = (4 + (case + seen) % 3) * (16 << 10) + extra;
                let case = format!("{bound} bytes, records of {size}, {lives} lives, killed {killed}");
                let disk = Disk::new(seen);
                let options = small().max_disk_bytes(bound);
                let mut wal = options.open_on(disk.mount()).unwrap();
                wal.append_checkpoint(b"begin").unwrap().wait().unwrap();
                for _ in 0..lives {
                    while wal.append(&vec![1; size]).map(|ticket| ticket.wait().unwrap()).is_ok() {}
                    assert!(disk.used() <= bound, "{case}: {} bytes", disk.used());
                    restart(&disk, wal, killed);
                    wal = options.open_on(disk.mount()).unwrap();
                    if lives == 3 {
                        // Lost with its segment.
                        drop(wal.append_checkpoint(b"not waited for").unwrap_or_else(|e| panic!("{case}: {e}")));
                        restart(&disk, wal, killed);
                        wal = options.open_on(disk.mount()).unwrap();
                    }
                }
                wal.append_checkpoint(b"here").unwrap_or_else(|e| panic!("{case}: {e}")).wait().unwrap();
                assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty(), "{case}");
                wal.append(&vec![2; size]).unwrap_or_else(|e| panic!("{case}: {e}")).wait().unwrap();
                assert!(disk.used() <= bound, "{case}: {} bytes", disk.used());
                seen += 1;
            }
        }
    }
}

/// The same seen from the directory: one file more after each restart.
#[test]
fn restarts_of_a_full_log_leave_nothing_behind() {
    for (bounded, killed) in [(true, false), (true, true), (false, false), (false, true)] {
        let disk = Disk::new(3);
        let options = if bounded { small().max_disk_bytes(8 * (16 << 10)) } else { small() };
        let mut wal = options.open_on(disk.mount()).unwrap();
        wal.append_checkpoint(b"begin").unwrap().wait().unwrap();
        disk.capacity((!bounded).then(|| disk.used() + (80 << 10)));
        let mut before = None;
        for n in 0..12 {
            let found = (disk.names(), disk.used());
            while wal.append(&[1; 2000]).map(|ticket| ticket.wait().unwrap()).is_ok() {}
            if n > 2 {
                assert_eq!((disk.names(), disk.used()), found, "by an append that was refused");
            }
            if killed {
                disk.kill();
            } else {
                wal.close().unwrap();
            }
            wal = options.open_on(disk.mount()).unwrap();
            let left = (disk.names().len(), disk.used());
            if n > 1 {
                assert_eq!(*before.get_or_insert(left), left, "bounded {bounded}, killed {killed}, restart {n}");
            }
        }
    }
}

/// Of the segments that lives without a record leave, the last one's name is enough: no LSN is handed out twice.
#[test]
fn lives_that_leave_no_record_leave_one_file_and_use_up_their_lsns() {
    let disk = Disk::new(4);
    let mut wal = small().open_on(disk.mount()).unwrap();
    let mut last = wal.append(b"first").unwrap().wait().unwrap();
    let mut files = None;
    for n in 0..20_u64 {
        if n % 2 == 0 {
            disk.kill();
        } else {
            disk.crash(Keep::Random(n));
        }
        // A life that appends nothing has only the names to go by.
        drop(small().open_on(disk.mount()).unwrap());
        disk.kill();
        wal = small().open_on(disk.mount()).unwrap();
        assert_eq!(*files.get_or_insert(disk.names().len()), disk.names().len(), "{:?}", disk.names());
        let lsn = wal.append(b"lost").unwrap().lsn();
        assert!(lsn > last, "{lsn} after {last}");
        last = lsn;
    }
    assert_eq!(wal.read(..).unwrap().count(), 1);
}

/// A segment that lost all its frames to a crash, but not the next one's link to it, is not just prepared.
#[test]
fn a_segment_that_a_link_leads_down_to_keeps_its_name() {
    let disk = Disk::new(5);
    let options = small().durability(Durability::Os);
    let wal = options.open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    wal.sync().unwrap();
    wal.rotate().unwrap();
    wal.append(b"lost").unwrap().wait().unwrap();
    let lost = disk.names().iter().rev().nth(2).unwrap().clone();
    wal.rotate().unwrap();
    wal.append(b"lost too").unwrap().wait().unwrap();
    // What is on its way is what these two hold and, behind both, nothing of the reserve.
    disk.crash(Keep::Choose(&mut |unit| !matches!(unit, Unit::Sector { file, .. } if *file == lost)));
    for _ in 0..3 {
        let wal = options.open_on(disk.mount()).unwrap();
        assert_eq!((wal.read(..).unwrap().count(), disk.names().contains(&lost)), (1, true), "{:?}", disk.names());
        drop(wal);
        disk.kill();
    }
}

/// Each refusal took a segment's LSNs with it, until a link could not say any more how far the log was durable.
#[test]
fn an_append_that_is_refused_spends_no_lsns() {
    let disk = Disk::new(6);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    let spent = |faults: &[Fault]| {
        faults.iter().for_each(|fault| disk.fail(fault.clone().for_good()));
        while wal.append(&[1; 5000]).map(|ticket| ticket.wait().unwrap()).is_ok() {}
        let end = wal.durable_lsn();
        (0..50).for_each(|_| assert!(wal.append(&[1; 5000]).is_err()));
        disk.heal();
        // Through the reserve and into what is made now.
        (0..5).for_each(|_| _ = wal.append(&[2; 5000]).unwrap().wait().unwrap());
        wal.durable_lsn().0 - end.0
    };
    for fault in [
        Fault::new(Operation::Create).kind(std::io::ErrorKind::StorageFull),
        Fault::new(Operation::Create).on(".new"),
        Fault::new(Operation::Allocate).kind(std::io::ErrorKind::StorageFull),
        Fault::new(Operation::Write).on(".new"),
        Fault::new(Operation::Sync).on(".new"),
        Fault::new(Operation::Rename).kind(std::io::ErrorKind::StorageFull),
    ] {
        let spent = spent(std::slice::from_ref(&fault));
        assert!(spent < 4 * (16 << 10), "{fault:?}: {spent}");
    }
    // The segment may have its name although the system said no: what it would hold is spent.
    assert!(spent(&[Fault::new(Operation::Rename)]) > 50 * (16 << 10));
    // Nor is a `.new` made again that could not be removed.
    assert!(spent(&[Fault::new(Operation::Allocate), Fault::new(Operation::Remove)]) > 50 * (16 << 10));
    let records = wal.read(..).unwrap().count();
    wal.close().unwrap();
    assert_eq!(small().open_on(disk.mount()).unwrap().read(..).unwrap().count(), records);
}

/// A full log was opened with larger segments: no checkpoint fitted, and without one nothing could be cleaned.
#[test]
fn a_full_log_opened_with_larger_segments_is_cleaned_by_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().max_disk_bytes(128 << 10).open(dir.path()).unwrap();
    wal.append_checkpoint(b"first").unwrap().wait().unwrap();
    while wal.append(&[1; 2000]).is_ok() {}
    wal.close().unwrap();
    let wal = Options::new().segment_size(32 << 10).max_disk_bytes(128 << 10).open(dir.path()).unwrap();
    assert_eq!(*wal.append(&[2; 2000]).unwrap_err().kind(), ErrorKind::LogFull);
    wal.append_checkpoint(b"second").unwrap().wait().unwrap();
    assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
    wal.append(&[2; 2000]).unwrap().wait().unwrap();
}

/// A power cut took the link of the segment in reserve: it counted in full, and there was no room for another.
#[test]
fn a_full_log_whose_reserve_a_power_cut_took_is_cleaned_by_a_checkpoint() {
    let options = || small().max_disk_bytes(64 << 10);
    let disk = Disk::new(3);
    let wal = options().open_on(disk.mount()).unwrap();
    wal.append_checkpoint(b"first").unwrap().wait().unwrap();
    while wal.append(&[1; 2000]).is_ok() {}
    wal.sync().unwrap();
    disk.settle();
    let ticket = wal.append_checkpoint(&[2; 5000]).unwrap();
    drop(wal.append(&[3; 2000]).unwrap());
    // Written, and not synced.
    disk.crash_at(2);
    assert!(ticket.wait().is_err());
    let link = |unit: &Unit| matches!(unit, Unit::Sector { file, sector: 8, .. } if file.ends_with(".wal"));
    let keep: Vec<_> = disk.dirty().iter().map(|unit| !link(unit)).collect();
    assert!(keep.contains(&false));
    disk.crash(Keep::Units(&keep));
    let wal = options().open_on(disk.mount()).unwrap();
    assert_eq!(*wal.append(&[4; 2000]).unwrap_err().kind(), ErrorKind::LogFull);
    wal.append_checkpoint(b"second").unwrap().wait().unwrap();
    assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
    wal.append(&[4; 2000]).unwrap().wait().unwrap();
    assert!(wal.stats().disk_bytes <= 64 << 10, "{:?}", wal.stats());
}

/// Each life of a full log took a segment more for its first checkpoint.
#[test]
fn the_way_out_of_a_full_log_adds_nothing_up_over_lives() {
    for (kills, size) in [(false, 100), (false, 12_000), (true, 100), (true, 12_000)] {
        let mut disk = Disk::new(1);
        let options = || small().max_disk_bytes(64 << 10);
        let wal = options().open_on(disk.mount()).unwrap();
        while wal.append(&[1; 3000]).and_then(|ticket| ticket.wait()).is_ok() {
            disk.settle();
        }
        wal.close().unwrap();
        for _ in 0..30 {
            let wal = options().open_on(disk.mount()).unwrap();
            _ = wal.append_checkpoint(&vec![2; size]).and_then(|ticket| ticket.wait());
            disk.settle();
            assert!(wal.stats().disk_bytes <= 80 << 10, "{:?}", wal.stats());
            if kills {
                let left = disk.fork();
                disk.crash_at(0);
                drop(wal);
                left.kill();
                disk = left;
            } else {
                wal.close().unwrap();
            }
        }
        let wal = options().open_on(disk.mount()).unwrap();
        assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
        wal.append(&[3; 3000]).unwrap().wait().unwrap();
    }
}

/// A bound below what the log held already: no checkpoint fitted, and the old one kept everything.
#[test]
fn a_log_that_holds_more_than_its_new_bound_is_cleaned_by_a_checkpoint() {
    for lives in 1..4 {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().open(dir.path()).unwrap();
        wal.append_checkpoint(b"first").unwrap().wait().unwrap();
        for _ in 0..30 {
            wal.append(&[1; 5000]).unwrap().wait().unwrap();
        }
        wal.close().unwrap();
        let held = wal.stats().disk_bytes;
        for _ in 0..lives {
            let wal = small().max_disk_bytes(64 << 10).open(dir.path()).unwrap();
            assert_eq!(*wal.append(&[2; 5000]).unwrap_err().kind(), ErrorKind::LogFull);
            _ = wal.append_checkpoint(b"second").and_then(|ticket| ticket.wait());
            assert!(wal.stats().disk_bytes <= held + (32 << 10), "{:?}", wal.stats());
            wal.close().unwrap();
        }
        let wal = small().max_disk_bytes(64 << 10).open(dir.path()).unwrap();
        assert!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len() > 5);
        wal.append(&[3; 5000]).unwrap().wait().unwrap();
    }
}

/// Each life takes a checkpoint and none cleans, until the bound refuses one: what it was told to do was to append one.
#[test]
fn a_checkpoint_that_a_full_log_refuses_is_not_told_to_append_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = || small().max_disk_bytes(4 * (16 << 10));
    let mut refused = None;
    for _ in 0..40 {
        let wal = options().open(dir.path()).unwrap();
        refused = wal.append_checkpoint(b"where I stand").err();
        if refused.is_some() {
            break;
        }
        wal.sync().unwrap();
        wal.close().unwrap();
    }
    let error = refused.expect("the bound holds");
    assert_eq!(*error.kind(), ErrorKind::LogFull);
    assert!(!error.to_string().contains("append a checkpoint"), "{error}");
    // What it says instead.
    let wal = options().open(dir.path()).unwrap();
    let record = wal.append(b"no room").unwrap_err();
    assert!(record.to_string().contains("append a checkpoint, for which room is kept"), "{record}");
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    wal.append_checkpoint(b"room again").unwrap().wait().unwrap();
}
