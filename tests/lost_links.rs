//! A lost segment that held its link alone gets a stand-in that ends where it ended, whatever cursors its link had.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::mpsc;
use std::time::Duration;

use seawall::check::{Repair, RepairPlan, Verify};
use seawall::sim::{Disk, Keep};
use seawall::{Lsn, Options, Wal};

fn open(disk: &Disk) -> Wal {
    Options::new().segment_size(16 << 10).open_on(disk.mount()).unwrap_or_else(|e| panic!("{e}"))
}

/// Repairs within a time in which it would have been done a thousand times, and sees that the log is sound.
fn repair(disk: &Disk, what: &str) -> RepairPlan {
    let (done, repaired) = mpsc::channel();
    let storage = disk.mount();
    std::thread::spawn(move || _ = done.send(Repair::new().run_on(storage)));
    let plan = repaired.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{what}: no end")).unwrap();
    let report = Verify::new().run_on(disk.mount()).unwrap();
    assert!(report.is_clean(), "{what}: {plan}\n{report}");
    assert!(Repair::new().plan_on(disk.mount()).unwrap().steps.is_empty(), "{what}");
    plan
}

/// Both ways in which a file can be lost.
fn lose(disk: &Disk, name: &str, gone: bool) {
    match gone {
        true => assert!(disk.remove(name)),
        false => disk.put(name, vec![0; disk.file(name).unwrap().len()]),
    }
}

/// The log's first segment holds its link alone, with one cursor or two, which nothing before it tells of.
#[test]
fn the_first_segment_is_lost() {
    let names = (1..=24).map(|length| vec!["x".repeat(length)]);
    for cursors in names.chain([vec!["a".to_owned(), "b".to_owned()], vec!["ab".to_owned(), "c".to_owned()]]) {
        for gone in [true, false] {
            let disk = Disk::new(1);
            let wal = open(&disk);
            wal.append(b"one").unwrap().wait().unwrap();
            for name in &cursors {
                wal.cursor(name).unwrap().release(wal.durable_lsn()).unwrap();
            }
            wal.rotate().unwrap();
            wal.close().unwrap();
            let wal = open(&disk);
            let two = wal.append(b"two").unwrap().wait().unwrap();
            wal.clean_before_lsn(Lsn(16384)).unwrap();
            wal.close().unwrap();
            lose(&disk, "00000000000000016384.wal", gone);
            repair(&disk, &format!("{cursors:?}, gone: {gone}"));
            let wal = open(&disk);
            let read: Vec<Lsn> = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
            assert_eq!(read, [two]);
            assert_eq!(wal.cursors().into_keys().collect::<Vec<_>>(), cursors);
        }
    }
}

/// The note that removes a cursor is lost, and so is the segment behind it, whose link had no cursor: what would be put
/// in its place is longer, or hides that a small record lay behind it.
#[test]
fn the_link_would_be_longer_than_the_lost_one() {
    let records = [None, Some(0), Some(4), Some(12), Some(20)];
    for (length, gone) in (1..40).flat_map(|length| [(length, true), (length, false)]) {
        for record in records {
            the_link_is_longer(length, gone, record);
        }
    }
}

fn the_link_is_longer(length: usize, gone: bool, record: Option<usize>) {
    let disk = Disk::new(1);
    let wal = open(&disk);
    let cursor = wal.cursor(&"x".repeat(length)).unwrap();
    wal.rotate().unwrap();
    let note = wal.append(b"before the note").unwrap().wait().unwrap().0 + 24 + 16;
    cursor.remove().unwrap();
    wal.sync().unwrap();
    let segments = || disk.names().into_iter().filter(|name| name.ends_with(".wal")).collect::<Vec<_>>();
    let noted = segments().into_iter().rfind(|name| name[..20].parse::<u64>().unwrap() < note).unwrap();
    wal.rotate().unwrap();
    if let Some(length) = record {
        wal.append(&vec![1; length]).unwrap().wait().unwrap();
    }
    wal.close().unwrap();
    let alone = segments().into_iter().find(|name| *name > noted).unwrap();
    let wal = open(&disk);
    let last = wal.append(b"last").unwrap().wait().unwrap();
    wal.close().unwrap();
    let at = usize::try_from(note - noted[..20].parse::<u64>().unwrap()).unwrap();
    let mut bytes = disk.file(&noted).unwrap();
    bytes[at + 24] ^= 1;
    disk.put(&noted, bytes);
    lose(&disk, &alone, gone);
    repair(&disk, &format!("{length} bytes, gone: {gone}, record: {record:?}"));
    let wal = open(&disk);
    assert_eq!(wal.read(..).unwrap().last().unwrap().unwrap().lsn, last);
    assert!(wal.cursors().is_empty());
}

/// The note that removes one of two cursors is lost, and so is the newest link, in whose place both do not fit: the one
/// that a reader still has is there.
#[test]
fn cursors_that_do_not_fit_are_not_forgotten() {
    let disk = Disk::new(1);
    let wal = open(&disk);
    let (removed, kept) = (wal.cursor("removed").unwrap(), wal.cursor("kept").unwrap());
    wal.rotate().unwrap();
    let note = wal.append(b"before the note").unwrap().wait().unwrap().0 + 24 + 16;
    removed.remove().unwrap();
    wal.rotate().unwrap();
    wal.append(b"last").unwrap().wait().unwrap();
    wal.close().unwrap();
    drop(kept);
    let flip = |lsn: u64| {
        let bases = disk.names().into_iter().filter_map(|name| name.strip_suffix(".wal")?.parse::<u64>().ok());
        let base = bases.filter(|base| *base <= lsn).max().unwrap();
        let name = format!("{base:020}.wal");
        let mut bytes = disk.file(&name).unwrap();
        bytes[usize::try_from(lsn - base).unwrap()] ^= 1;
        disk.put(&name, bytes);
    };
    flip(note + 24);
    flip((note / 16384 + 1) * 16384 + 4096 + 24);
    repair(&disk, "two cursors");
    assert!(open(&disk).cursors().contains_key("kept"));
}

/// Cleaned up to its newest segment, which is gone then, beside what was prepared: told once.
#[test]
fn a_cleaned_log_whose_newest_segment_is_gone_is_told_as_one_loss() {
    let disk = Disk::new(11);
    let wal = Options::new().segment_size(16 << 10).open_on(disk.mount()).unwrap();
    for n in 0..30 {
        wal.append(&[n; 3000]).unwrap().wait().unwrap();
    }
    wal.clean_before_lsn(wal.durable_lsn()).unwrap();
    wal.prepare().unwrap();
    let newest = wal.kept().last().unwrap().segment.clone();
    disk.crash(Keep::All);
    drop(wal);
    assert!(disk.remove(&newest));
    let report = Verify::new().run_on(disk.mount()).unwrap();
    assert_eq!(report.faults.len(), 1, "{report}");
}
