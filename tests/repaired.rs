//! Logs that were repaired and are damaged again.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use seawall::check::{Repair, RepairPlan, Report, Verify, inspect_on};
use seawall::sim::{Disk, Keep};
use seawall::{Lsn, Options, Wal};

const BLOCK: usize = 4096;

fn open(disk: &Disk) -> seawall::Result<Wal> {
    Options::new().segment_size(16 << 10).open_on(disk.mount())
}

fn verify(disk: &Disk) -> Report {
    Verify::new().threads(1).run_on(disk.mount()).unwrap()
}

/// Four closed segments of twelve records each, and their names.
fn log() -> (Disk, Vec<String>) {
    let disk = Disk::new(3);
    let wal = open(&disk).unwrap();
    for n in 0..48 {
        wal.append(&[n; 400]).unwrap().wait().unwrap();
        if n % 12 == 11 && n < 47 {
            wal.rotate().unwrap();
        }
    }
    wal.close().unwrap();
    disk.crash(Keep::All);
    let names = used(&disk);
    assert_eq!(names.len(), 4, "{names:?}");
    (disk, names)
}

/// The segments in which there is anything.
fn used(disk: &Disk) -> Vec<String> {
    let used = |name: &String| disk.file(name).unwrap().get(BLOCK..BLOCK + 24).is_some_and(|frame| frame != [0; 24]);
    disk.names().into_iter().filter(|name| name.ends_with(".wal") && used(name)).collect()
}

fn spoil(disk: &Disk, name: &str, bytes: std::ops::Range<usize>) {
    let mut file = disk.file(name).unwrap();
    file[bytes].fill(0xAA);
    disk.put(name, file);
}

/// Repairs, and sees that this is all there is to do and that opening, viewing and verifying count the same records.
fn repair(disk: &Disk, ways: &Repair) -> (RepairPlan, Vec<u8>) {
    let plan = ways.run_on(disk.mount()).unwrap();
    let report = verify(disk);
    assert!(report.is_clean(), "{plan}\n{report}");
    let again = Repair::new().plan_on(disk.mount()).unwrap();
    assert!(again.steps.is_empty(), "{plan}\n{again}");
    let wal = open(&disk.fork()).unwrap();
    let read: Vec<u8> = wal.read(..).unwrap().map(|record| record.unwrap().payload[0]).collect();
    let view = Options::new().open_read_only_on(disk.mount()).unwrap();
    let seen = view.read(..).unwrap().map(Result::unwrap).count() as u64;
    let counted = [plan.kept_records, report.records, wal.recovery().records, seen];
    assert_eq!(counted, [read.len() as u64; 4], "{plan}\n{report}");
    (plan, read)
}

fn lost(report: &Report) -> Option<u64> {
    report.faults.iter().map(|fault| fault.lost_records).sum()
}

/// The newest segment's link is lost with that of the one that the repair made, so that nothing counts any more what was in
/// the segment that was quarantined: the new link tells of its stand-in. Then that is lost, and the copy that was moved
/// aside holds more than the link says.
#[test]
fn what_was_moved_aside_does_not_come_back_with_more_than_the_next_link_tells() {
    let (disk, names) = log();
    repair(&disk, &Repair::new().quarantine(&names[2]));
    let made = used(&disk).pop().unwrap();
    for link in [&names[3], &made] {
        spoil(&disk, link, BLOCK..BLOCK + 40);
    }
    let (_, left) = repair(&disk, &Repair::new());
    let kept: Vec<u8> = (0..24).chain(36..48).collect();
    assert_eq!(left, kept);
    for lost in [names[2].replace(".wal", ".new"), "lost.bak".to_owned()] {
        let disk = disk.fork();
        disk.rename(&names[2], &lost);
        if lost == "lost.bak" {
            disk.remove(&lost);
        }
        let (plan, left) = repair(&disk, &Repair::new());
        assert_eq!(left, kept, "{plan}");
    }
}
