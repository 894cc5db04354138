//! Row 30: ten thousand openings, and what they leave on the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use seawall::sim::{Disk, Failing, Fault, Keep, Operation, Unit};
use seawall::{ErrorKind, Lsn, Options};

use crate::common::{CAPACITY, fill, filled, payload, payloads, segments, small, write_unsynced};
use crate::spec::BLOCK;

#[test]
fn row_30_ten_thousand_openings_leave_the_disk_as_it_was() {
    for crash in [false, true] {
        let disk = Disk::new(30);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..10, 2500);
        if crash {
            disk.crash(Keep::None)
        } else {
            wal.close().unwrap()
        }
        drop(wal);
        // The first life after it may tidy up; from then on nothing changes.
        small().open_on(disk.mount()).unwrap().close().unwrap();
        let (used, names) = (disk.used(), disk.names());
        for n in 0..10_000_u64 {
            let wal = small().open_on(disk.mount()).unwrap();
            assert_eq!(wal.recovery().records, 10);
            if crash {
                disk.crash(Keep::Random(n))
            } else {
                wal.close().unwrap()
            }
            drop(wal);
            assert!(disk.used() <= used, "opening {n}: {} bytes of {used}", disk.used());
            assert_eq!(disk.names(), names, "opening {n}");
        }
        assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), filled(0..10, 2500));
    }
}

#[test]
fn row_30_no_segment_is_made_before_the_first_append() {
    let disk = Disk::new(30);
    for n in 0..10_000_u64 {
        let wal = small().open_on(disk.mount()).unwrap();
        disk.settle();
        assert!(segments(&disk).is_empty());
        if n % 2 == 0 {
            wal.close().unwrap()
        } else {
            disk.crash(Keep::Random(n))
        }
        assert!(disk.names().len() <= 1 && disk.used() <= 2 * BLOCK as u64, "{:?}", disk.names());
    }
}

#[test]
fn row_30_lives_that_append_a_little_and_clean_stay_flat() {
    for crash in [false, true] {
        let disk = Disk::new(30);
        let mut most = 0;
        for n in 0..1000_u32 {
            let wal = small().open_on(disk.mount()).unwrap_or_else(|e| panic!("crash {crash}, life {n}: {e}"));
            wal.append(&payload(n, 500)).unwrap().wait().unwrap();
            disk.settle();
            let durable = wal.durable_lsn();
            wal.clean_before_lsn(durable).unwrap();
            if crash {
                disk.crash(Keep::Random(u64::from(n)))
            } else {
                wal.close().unwrap()
            }
            drop(wal);
            most = most.max(disk.used());
            let expected = disk.names().len() <= 16 && disk.used() <= 16 * CAPACITY;
            assert!(expected, "crash {crash}, life {n}: {} bytes, {:?}", disk.used(), disk.names());
        }
    }
}

/// Each leaves its segment as it was made; the next one cuts it to its end once a segment follows it.
#[test]
fn row_30_lives_that_end_before_their_first_commit_add_up_what_they_wrote() {
    for bound in [None, Some(16 * CAPACITY)] {
        let disk = Disk::new(30);
        let options = || bound.into_iter().fold(small(), |options, bytes| options.max_disk_bytes(bytes));
        let lives = if bound.is_some() { 20 } else { 200 };
        for n in 0..lives {
            let wal = options().open_on(disk.mount()).unwrap();
            write_unsynced(&disk, &wal, &[payload(n, 100)]);
            disk.crash(Keep::All);
            drop(wal);
            // Four segments as they were made and MARK; of each life two blocks of headers, a link and a record.
            let most = 4 * CAPACITY + 8192 + u64::from(n) * 8600;
            assert!(disk.used() <= most, "bound {bound:?}, life {n}: {} bytes", disk.used());
        }
        let wal = options().open_on(disk.mount()).unwrap();
        wal.append(&payload(lives, 100)).unwrap().wait().unwrap();
        assert_eq!(payloads(&wal), filled(0..lives + 1, 100));
    }
}

/// A power cut undid that what a killed life had prepared was cut: it counted until this life's first link, which it kept
/// from being appended.
#[test]
fn row_30_what_lies_below_the_newest_segment_and_is_none_goes_at_opening() {
    let disk = Disk::new(1);
    let options = small().max_disk_bytes(5 * CAPACITY);
    let wal = options.open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 3500);
    disk.settle();
    disk.kill();
    drop(wal);
    let wal = options.open_on(disk.mount()).unwrap();
    fill(&wal, 3..4, 3500);
    disk.crash(Keep::None);
    drop(wal);
    let wal = options.open_on(disk.mount()).unwrap();
    fill(&wal, 4..5, 3500);
    assert_eq!(payloads(&wal), filled(0..5, 3500));
}

/// A segment that a power cut took the link from counted until this life's first link, which it kept from being appended:
/// only a checkpoint was let in, and cleaning removed nothing.
#[test]
fn row_30_a_log_without_checkpoints_goes_on_after_a_power_cut() {
    let options = small().max_disk_bytes(4 * CAPACITY);
    let disk = cut_off(&options);
    let wal = options.open_on(disk.mount()).unwrap();
    assert!(wal.recovery().torn.is_some());
    fill(&wal, 1..2, 7000);
    disk.settle();
    assert!(wal.stats().disk_bytes <= 4 * CAPACITY);
    assert_eq!(payloads(&wal), filled(0..2, 7000));
}

/// What a power cut took the link from counted again as soon as this life's first link was framed, and not only once it was
/// durable and let it go.
#[test]
fn row_30_what_a_power_cut_cut_off_does_not_count_until_it_is_gone() {
    let options = small().max_disk_bytes(6 * CAPACITY);
    let disk = cut_off(&options);
    let wal = options.open_on(disk.mount()).unwrap();
    for i in 1..4 {
        _ = wal.append(&payload(i, 7000)).unwrap();
    }
    wal.sync().unwrap();
    disk.settle();
    assert!(wal.stats().disk_bytes <= 6 * CAPACITY);
    assert_eq!(payloads(&wal), filled(0..4, 7000));
}

/// While it was being moved aside it still counted, and was not allowed for any more.
#[test]
fn row_30_what_a_power_cut_cut_off_does_not_count_while_it_is_moved_aside() {
    let options = small().max_disk_bytes(6 * CAPACITY);
    let storage = Failing::new(cut_off(&options).mount());
    let wal = Arc::new(options.open_on(storage.clone()).unwrap());
    let (beside, appended) = (Arc::downgrade(&wal), Arc::new(AtomicU32::new(1)));
    let count = Arc::clone(&appended);
    // A name for it is looked for.
    storage.before(Operation::List, move || {
        for _ in 0..2 {
            let n = count.fetch_add(1, Ordering::Relaxed);
            _ = beside.upgrade().unwrap().append(&payload(n, 7000)).unwrap();
        }
    });
    wal.append(&payload(0, 7000)).unwrap().wait().unwrap();
    wal.clean_before_lsn(Lsn(0)).unwrap();
    assert_eq!(appended.load(Ordering::Relaxed), 3, "nothing was moved aside");
    storage.heal();
    assert!(wal.stats().disk_bytes <= 6 * CAPACITY);
}

/// Where such a segment cannot be moved aside, a life killed later went over its bound by it.
#[test]
fn row_30_what_an_earlier_life_cut_off_counts_after_a_kill() {
    let options = small().max_disk_bytes(6 * CAPACITY);
    let disk = cut_off(&options);
    let cut_off = "00000000000000016384.wal";
    for life in 0..8 {
        disk.fail(Fault::new(Operation::Rename).on(cut_off).for_good());
        let wal = options.open_on(disk.mount()).unwrap();
        if life == 0 {
            fill(&wal, 1..2, 7000);
        } else {
            while wal.append(&payload(0, 7000)).is_ok() {}
            assert!(disk.used() <= 6 * CAPACITY, "{} bytes", disk.used());
        }
        assert!(segments(&disk).iter().any(|name| name == cut_off));
        disk.kill();
    }
}

/// A log of one record, and above it a segment that a power cut took the link from.
fn cut_off(options: &Options) -> Disk {
    let disk = Disk::new(30);
    let wal = options.open_on(disk.mount()).unwrap();
    fill(&wal, 0..1, 7000);
    write_unsynced(&disk, &wal, &[payload(1, 7000), payload(2, 1000)]);
    let link = BLOCK as u64 / 512;
    let mut keep = |unit: &Unit| !matches!(unit, Unit::Sector { file, sector, .. } if file.starts_with("00000000000000016384") && *sector == link);
    disk.crash(Keep::Choose(&mut keep));
    disk
}

/// A segment that could not be made, and its file not removed either, was counted no longer while it lay there.
#[test]
fn row_30_what_a_failed_making_leaves_counts_until_it_is_gone() {
    let disk = Disk::new(30);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..1, 100);
    let before = wal.stats().disk_bytes;
    disk.fail(Fault::new(Operation::Write).on(".new").for_good());
    disk.fail(Fault::new(Operation::Remove).on(".new").for_good());
    while wal.append(&payload(0, 7000)).is_ok() {}
    assert!(before + CAPACITY <= wal.stats().disk_bytes);
    disk.heal();
    wal.append_checkpoint(b"").unwrap().wait().unwrap();
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert_eq!(wal.stats().disk_bytes, disk.used());
}

/// What a clean could not remove counted in that life alone: a later one went over its bound by it, and said nothing.
#[test]
fn row_30_what_cannot_be_removed_counts_in_later_lives_too() {
    let disk = Disk::new(30);
    let options = small().max_disk_bytes(8 * CAPACITY);
    let lengths = || disk.names().iter().map(|name| disk.file(name).unwrap().len() as u64).sum::<u64>();
    for life in 0..20 {
        disk.fail(Fault::new(Operation::Remove).kind(std::io::ErrorKind::PermissionDenied).for_good());
        let wal = options.open_on(disk.mount()).unwrap();
        assert_eq!(wal.stats().disk_bytes, lengths(), "life {life}");
        let told = wal.recovery().notes.iter().filter(|note| note.contains("cannot be removed")).count();
        assert!(told > 0 || life == 0, "{:?}", wal.recovery());
        while wal.append(&payload(0, 7000)).is_ok() {}
        _ = wal.append_checkpoint(b"").map(seawall::Ticket::wait);
        _ = wal.clean_before_lsn(Lsn::MAX);
        // A life's first checkpoint may take a segment more.
        assert!(lengths() <= 9 * CAPACITY, "life {life}: {} bytes", lengths());
        wal.close().unwrap();
    }
    disk.put("00000000000099999744.new", vec![0; 5000]);
    let wal = options.open_on(disk.mount()).unwrap();
    assert_eq!(wal.stats().disk_bytes, lengths());
    disk.heal();
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert_eq!(wal.stats().disk_bytes, lengths());
    while wal.append(&payload(0, 7000)).is_ok() {}
    assert!(lengths() > 6 * CAPACITY && lengths() <= 8 * CAPACITY);
}

/// What could not be opened, or be read whether a maker left it, was neither counted nor, of the first, told of.
#[test]
fn row_30_what_cannot_be_read_counts_and_is_told() {
    let disk = Disk::new(30);
    let lengths = || disk.names().iter().map(|name| disk.file(name).unwrap().len() as u64).sum::<u64>();
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..8, 7000);
    disk.fail(Fault::new(Operation::Remove).for_good());
    assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().failed.is_empty());
    wal.close().unwrap();
    drop(wal);
    disk.heal();
    let (left, unfinished) = (segments(&disk).swap_remove(0), "00000000000099999744.new");
    disk.put(unfinished, vec![0; 5000]);
    disk.fail(Fault::new(Operation::Open).on(&left).kind(std::io::ErrorKind::Other));
    disk.fail(Fault::new(Operation::Read).on(unfinished));
    let wal = small().open_on(disk.mount()).unwrap();
    assert!(disk.file(&left).is_some() && disk.file(unfinished).is_some());
    assert_eq!(wal.stats().disk_bytes, lengths());
    for name in [&left, unfinished] {
        let told = |note: &String| note.contains(name) && note.contains("left alone");
        assert!(wal.recovery().notes.iter().any(told), "{name}: {:?}", wal.recovery());
    }
}

/// A segment that was prepared and never used keeps nothing from being cleaned where it cannot be removed: below the front
/// it may be taken for a cleaned one.
#[test]
fn row_30_a_log_at_its_bound_goes_on_beside_an_empty_segment_that_stays() {
    let disk = Disk::new(30);
    let options = small().max_disk_bytes(8 * CAPACITY);
    let wal = options.open_on(disk.mount()).unwrap();
    fill(&wal, 0..1, 100);
    disk.settle();
    wal.close().unwrap();
    drop(wal);
    let stays = segments(&disk).pop().unwrap();
    assert_eq!(disk.file(&stays).unwrap().len(), BLOCK);
    disk.fail(Fault::new(Operation::Remove).on(&stays).for_good());
    let wal = options.open_on(disk.mount()).unwrap();
    for _ in 0..3 {
        while wal.append(&payload(0, 7000)).is_ok() {}
        wal.append_checkpoint(b"").unwrap().wait().unwrap();
        assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
        assert!(disk.file(&stays).is_some());
    }
    fill(&wal, 0..1, 7000);
}

/// A checkpoint leads out where nothing can be cleaned, and the error says so.
#[test]
fn row_30_a_bound_below_what_is_there_is_met_by_a_checkpoint() {
    let disk = Disk::new(30);
    let wal = small().segment_size(16 * CAPACITY).open_on(disk.mount()).unwrap();
    fill(&wal, 0..30, 7000);
    wal.close().unwrap();
    drop(wal);
    let wal = small().max_disk_bytes(4 * CAPACITY).open_on(disk.mount()).unwrap();
    let refused = wal.append(b"").unwrap_err();
    assert!(*refused.kind() == ErrorKind::LogFull && refused.to_string().contains("append a checkpoint"), "{refused}");
    assert!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
    wal.append_checkpoint(b"").unwrap().wait().unwrap();
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 1);
    fill(&wal, 30..31, 7000);
}

#[test]
fn row_30_openings_of_real_files_leave_them_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().segment_size(64 << 10);
    let wal = options.open(dir.path()).unwrap();
    fill(&wal, 0..200, 1000);
    wal.close().unwrap();
    drop(wal);
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    };
    options.open(dir.path()).unwrap().close().unwrap();
    let before = files();
    for _ in 0..300 {
        let wal = options.open(dir.path()).unwrap();
        assert_eq!(wal.recovery().records, 200);
        wal.close().unwrap();
        drop(wal);
        assert_eq!(files(), before);
    }
    assert_eq!(payloads(&options.open(dir.path()).unwrap()), filled(0..200, 1000));
}
