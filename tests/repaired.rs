//! Logs that were repaired and are damaged again.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use seawall::check::{Repair, RepairPlan, Report, Verify, inspect_on};
use seawall::receiver::recover;
use seawall::sim::{Disk, Keep, Unit};
use seawall::{Durability, ErrorKind, Lsn, Options, Wal};

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

fn lost_in(report: &Report) -> Option<u64> {
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

/// The highest claim is of the middle of a segment that is lost then: readers see up to there, and what is left.
#[test]
fn a_view_opens_where_the_highest_claim_lies_in_a_gap() {
    let disk = Disk::new(1);
    let wal = open(&disk).unwrap();
    for n in 0..3 {
        wal.append(&[n; 400]).unwrap().wait().unwrap();
    }
    wal.rotate().unwrap();
    let durable = wal.append(&[3; 400]).unwrap().wait().unwrap();
    for n in 4..8 {
        drop(wal.append(&[n; 400]).unwrap());
    }
    wal.rotate().unwrap();
    let last = wal.append(&[8; 400]).unwrap();
    disk.crash_at(2);
    assert!(last.wait().is_err());
    disk.crash(Keep::All);
    let names = used(&disk);
    assert_eq!(names.len(), 3, "{names:?}");
    for remove in [true, false] {
        let disk = disk.fork();
        match remove {
            true => assert!(disk.remove(&names[1])),
            false => disk.put(&names[1], vec![0; disk.file(&names[1]).unwrap().len()]),
        }
        let (_, left) = repair(&disk, &Repair::new());
        assert_eq!(left, [0, 1, 2, 8]);
        // What the log goes on in claims all before it.
        assert!(disk.remove(&used(&disk).pop().unwrap()));
        let wal = open(&disk.fork()).unwrap();
        assert_eq!(wal.read(..).unwrap().map(|record| record.unwrap().payload[0]).collect::<Vec<_>>(), left);
        let view = Options::new().open_read_only_on(disk.mount()).unwrap();
        let shown: Vec<u8> = view.read(..).unwrap().map(|record| record.unwrap().payload[0]).collect();
        assert_eq!(shown, [0, 1, 2]);
        assert!(view.durable_lsn() > durable);
        assert_eq!(view.look().unwrap(), view.durable_lsn());
        assert_eq!(view.read(durable..).unwrap().count(), 0);
        let error = view.get(durable).unwrap_err();
        assert!(error.to_string().contains("passed over by a repair"), "{error}");
        assert_eq!(inspect_on(disk.mount()).unwrap().durable, view.durable_lsn());
        let mut follower = view.follow(Lsn::ZERO);
        let followed: Vec<u8> = std::iter::from_fn(|| follower.try_next().unwrap()).map(|r| r.payload[0]).collect();
        assert_eq!(followed, shown);
    }
}

/// MARK is gone, and the one link that tells the front lies behind a lost header: what lay below the front is no part of
/// the log, under whatever name it is found.
#[test]
fn a_link_behind_a_lost_header_tells_the_front() {
    let (whole, names) = log();
    let old: Vec<_> = names.iter().map(|name| whole.file(name).unwrap()).collect();
    let wal = open(&whole).unwrap();
    let front = Lsn(names[2][..20].parse().unwrap());
    assert_eq!(wal.clean_before_lsn(front).unwrap().first, front);
    wal.append(&[48; 400]).unwrap().wait().unwrap();
    wal.close().unwrap();
    whole.remove("MARK");
    let newest = used(&whole).pop().unwrap();
    let kept: Vec<u8> = (24..49).collect();
    for header in [20, 50, 58] {
        for stray in [None, Some("old.bak"), Some("00000000000099999744.wal"), Some("00000000000000000000.new")] {
            for (n, name) in names[..2].iter().enumerate() {
                let disk = whole.fork();
                spoil(&disk, &newest, header..header + 1);
                stray.into_iter().for_each(|stray| disk.put(stray, &old[n]));
                let mut report = verify(&disk);
                assert_eq!((report.first, report.records), (front, 25), "{name}: {report}");
                // Without MARK it may have been cut where it ends.
                let faults = report.faults.len();
                report.faults.retain(|fault| fault.segment != newest || !fault.what.contains("it was cut"));
                assert_eq!(report.faults.len() + 1, faults, "{name}: {report}");
                // Nothing tells what lay under the name of a segment above.
                let told = stray.is_none_or(|stray| !stray.ends_with(".wal")).then_some(0);
                assert_eq!(lost_in(&report), told, "{name}: {report}");
                let (plan, left) = repair(&disk, &Repair::new());
                assert_eq!(left, kept, "{name} as {stray:?}: {plan}");
            }
        }
    }
}

/// A segment holds less than the next link tells once a repair passed over some of it: what is lost then is held against
/// what was left.
#[test]
fn what_was_passed_over_is_not_lost_again() {
    let (disk, names) = log();
    let at = |n: usize| BLOCK + 24 + 80 + n * 424;
    spoil(&disk, &names[1], at(2)..at(5));
    let (plan, left) = repair(&disk, &Repair::new());
    assert_eq!((plan.lost_records, left.len()), (Some(3), 45));
    for (hurt, lost_now) in [(at(8)..at(8) + 4, 1), (at(8)..at(10), 2), (at(11)..at(11) + 4, 1), (BLOCK..BLOCK + 4, 0)]
    {
        for header in [false, true] {
            let disk = disk.fork();
            spoil(&disk, &names[1], hurt.clone());
            if header {
                spoil(&disk, &names[1], 20..21);
            }
            let report = verify(&disk);
            assert_eq!((lost_in(&report), report.records), (Some(lost_now), 45 - lost_now), "{hurt:?}: {report}");
            let (plan, _) = repair(&disk, &Repair::new());
            assert_eq!((plan.lost_records, plan.kept_records), (Some(lost_now), 45 - lost_now), "{hurt:?}: {plan}");
        }
    }
}

/// The link above a segment in which a repair passed over some, or which is nothing but a gap, is lost: the one above that
/// counts what was there once.
#[test]
fn what_a_stand_in_stands_for_is_not_counted_again() {
    let at = |n: usize| BLOCK + 24 + 80 + n * 424;
    for gone in [true, false] {
        let (disk, names) = log();
        match gone {
            true => assert!(disk.remove(&names[1])),
            false => spoil(&disk, &names[1], at(2)..at(5)),
        }
        let (first, left) = repair(&disk, &Repair::new());
        assert_eq!(first.lost_records, Some(if gone { 12 } else { 3 }));
        for header in [false, true] {
            let disk = disk.fork();
            spoil(&disk, &names[2], BLOCK..BLOCK + 40);
            if header {
                spoil(&disk, &names[1], 20..21);
            }
            let report = verify(&disk);
            assert_eq!((lost_in(&report), report.records), (Some(0), left.len() as u64), "gone: {gone}: {report}");
            let (plan, again) = repair(&disk, &Repair::new());
            assert_eq!((plan.lost_records, again), (Some(0), left.clone()), "gone: {gone}: {plan}");
        }
    }
}

/// The newest segment says what a repair left in it. What opening drops of it since is counted by neither.
#[test]
fn a_repaired_newest_segment_that_ends_earlier_holds_what_is_there() {
    let at = |n: usize| BLOCK + 24 + 80 + n * 424;
    let (disk, names) = log();
    spoil(&disk, &names[3], at(2)..at(3));
    let (_, left) = repair(&disk, &Repair::new());
    assert_eq!(left.len(), 47);
    // Without MARK and what the log goes on in, nothing tells that the last record was durable, but for the file's length.
    assert!(disk.remove(&used(&disk).pop().unwrap()) && disk.remove("MARK"));
    let mut bytes = disk.file(&names[3]).unwrap();
    bytes[at(11)..].fill(0);
    bytes.resize(16 << 10, 0);
    disk.put(&names[3], bytes);
    let wal = open(&disk).unwrap();
    assert_eq!((wal.recovery().records, wal.read(..).unwrap().count()), (46, 46), "{}", wal.recovery());
    wal.append(b"on").unwrap().wait().unwrap();
    wal.close().unwrap();
    let report = verify(&disk);
    assert!(report.is_clean() && report.records == 47, "{report}");
    assert_eq!(open(&disk).unwrap().recovery().records, 47);
}

/// What a repair leaves free between two segments was counted to the bytes that are lost there.
#[test]
fn what_a_repair_left_free_is_not_lost() {
    let (disk, names) = log();
    let (plan, _) = repair(&disk, &Repair::new().quarantine(&names[1]));
    assert_eq!(plan.dropped_records, 12);
    let wal = open(&disk).unwrap();
    for n in 48..84 {
        wal.append(&[n; 400]).unwrap().wait().unwrap();
        if n % 12 == 11 {
            wal.rotate().unwrap();
        }
    }
    wal.close().unwrap();
    let all = used(&disk);
    let made = &all[4..];
    assert!(made.len() > 3 && all[..4] == names, "{all:?}");
    // The fourth link counts what was in the first that the log went on in, of which nothing else is left to tell.
    made[..2].iter().for_each(|name| assert!(disk.remove(name)));
    spoil(&disk, &made[2], BLOCK..BLOCK + 4);
    let report = verify(&disk);
    let bytes: u64 = report.faults.iter().map(|fault| fault.lost_bytes).sum();
    assert!(lost_in(&report).is_none_or(|lost| lost == 12), "{report}");
    assert!((12 * 424..128 << 10).contains(&bytes), "{report}");
}

/// Two more segments with a record each, closed: the names of all that are used.
fn closed_in_two_more(wal: &Wal, disk: &Disk) -> Vec<String> {
    for n in 1..3 {
        wal.rotate().unwrap();
        drop(wal.append(&[n]).unwrap());
    }
    wal.close().unwrap();
    used(disk)
}

/// The links tell of a checkpoint, and of its segment nothing is left: what stands in for it may lie elsewhere.
#[test]
fn a_checkpoint_that_is_lost_is_said_to_be_until_there_is_another() {
    for size in [16 << 10, 32 << 10] {
        let disk = Disk::new(1);
        let wal = Options::new().segment_size(size).open_on(disk.mount()).unwrap();
        drop(wal.append(&[0]).unwrap());
        wal.rotate().unwrap();
        let lost = wal.append_checkpoint(b"state").unwrap().lsn();
        let names = closed_in_two_more(&wal, &disk);
        assert!(disk.remove(&names[1]));
        spoil(&disk, &names[2], BLOCK..BLOCK + 40);
        let (_, left) = repair(&disk, &Repair::new());
        assert_eq!(left, [0, 1, 2]);
        let (wal, view) = (open(&disk).unwrap(), Options::new().open_read_only_on(disk.mount()).unwrap());
        for error in [wal.checkpoint().unwrap_err(), view.checkpoint().unwrap_err()] {
            let ErrorKind::Damage(damage) = error.kind() else { panic!("{size}: {error}") };
            assert_eq!((damage.lsn, damage.beyond), (lost, 2), "{error}");
            assert!(error.to_string().contains("lost and passed over by a repair"), "{error}");
        }
        let error = recover(&wal).unwrap_err();
        assert!(error.to_string().contains("lost and passed over by a repair"), "{error}");
        let anew = wal.append_checkpoint(b"anew").unwrap().wait().unwrap();
        assert_eq!(wal.checkpoint().unwrap().map(|found| found.lsn), Some(anew));
    }
}

/// The same where no segment is left before those that tell of it: it would hold back every clean.
#[test]
fn a_checkpoint_before_all_that_is_left_is_none() {
    let disk = Disk::new(1);
    let wal = open(&disk).unwrap();
    drop(wal.append_checkpoint(b"state").unwrap());
    let names = closed_in_two_more(&wal, &disk);
    assert!(disk.remove(&names[0]));
    spoil(&disk, &names[1], BLOCK..BLOCK + 40);
    let (plan, left) = repair(&disk, &Repair::new());
    assert_eq!(left, [1, 2]);
    // It is told here, and nowhere later.
    assert!(is_checkpoint_lost(&plan), "{plan}");
    let wal = open(&disk.fork()).unwrap();
    assert!(wal.checkpoint().unwrap().is_none());
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed, names[1..]);
    // Another is written, and the power goes in its sync.
    let wal = open(&disk).unwrap();
    let another = wal.append_checkpoint(b"another").unwrap();
    disk.crash_at(2);
    assert!(another.wait().is_err());
    disk.crash(Keep::All);
    let view = Options::new().open_read_only_on(disk.mount()).unwrap();
    assert!(view.checkpoint().unwrap().is_none());
}

fn is_checkpoint_lost(plan: &RepairPlan) -> bool {
    plan.notes.iter().any(|note| note.contains("checkpoint") && note.contains("is lost"))
}

/// Of a checkpoint only the frame's header is left. Asking for it is an error then, and where it was cut off there is none.
#[test]
fn a_checkpoint_that_is_cut_off_is_none() {
    let disk = Disk::new(1);
    let wal = open(&disk).unwrap();
    wal.append(&[0; 100]).unwrap().wait().unwrap();
    let checkpoint = wal.append_checkpoint(&[1; 100]).unwrap().wait().unwrap();
    let last = wal.append(&[2; 100]).unwrap().wait().unwrap();
    wal.append(&[3; 100]).unwrap().wait().unwrap();
    wal.close().unwrap();
    disk.crash(Keep::All);
    let at = usize::try_from(checkpoint.0).unwrap() + 30;
    spoil(&disk, &used(&disk)[0], at..at + 4);
    for (cut, is_none) in [(Lsn(last.0 + 124), false), (checkpoint, true)] {
        let disk = disk.fork();
        let (plan, _) = repair(&disk, &Repair::new().cut(cut));
        assert!(is_checkpoint_lost(&plan), "{plan}");
        let found = open(&disk).unwrap().checkpoint();
        assert_eq!(found.is_ok_and(|found| found.is_none()), is_none, "{plan}");
    }
}

/// Verifying said "clean", and opening counted what had been passed over as there.
#[test]
fn damage_to_what_a_repair_says_it_left_is_told_and_mended() {
    let (disk, names) = log();
    spoil(&disk, &names[1], BLOCK + 600..BLOCK + 610);
    repair(&disk, &Repair::new());
    let sound = disk.file(&names[1]).unwrap();
    for at in 512..544 {
        let disk = disk.fork();
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        disk.put(&names[1], bytes);
        let report = verify(&disk);
        let told: Vec<_> =
            report.faults.iter().map(|fault| (&fault.segment, fault.offset, fault.lost_records)).collect();
        assert_eq!(told, [(&names[1], 512, Some(0))], "{report}");
        let wal = open(&disk.fork()).unwrap();
        let notes = wal.recovery().notes.join("\n");
        assert!(notes.contains("damaged where a repair says how many records it left"), "{notes}");
        assert_eq!(repair(&disk, &Repair::new()).1.len(), 47);
    }
}

/// A power cut took a sector of a payload, opening dropped the record and those behind it, and the next power cut undid their
/// trimming. Of the segment that was begun then, which alone says where the log had ended, something is lost: the record was
/// told as one more, that was lost now.
#[test]
fn what_an_opening_dropped_is_not_told_as_lost_once_nothing_tells_that_it_was() {
    let options = || Options::new().segment_size(16 << 10);
    let harms: [fn(&Disk, &str); 3] = [
        |disk, name| assert!(disk.remove(name)),
        |disk, name| spoil(disk, name, BLOCK..BLOCK + 100),
        |disk, name| spoil(disk, name, BLOCK..BLOCK + 512),
    ];
    for harm in harms {
        let disk = Disk::new(7);
        let wal = options().durability(Durability::Os).open_on(disk.mount()).unwrap();
        let append = |wal: &Wal, n: usize| -> Vec<u64> {
            (0..n).map(|_| wal.append(&[7; 1600]).unwrap().wait().unwrap().0).collect()
        };
        append(&wal, 3);
        wal.sync().unwrap();
        let sector_of = (append(&wal, 3)[0] + 600) / 512;
        let first = used(&disk)[0].clone();
        let lost =
            |unit: &Unit| matches!(unit, Unit::Sector { file, sector, .. } if *file == first && *sector == sector_of);
        disk.crash(Keep::Choose(&mut |unit| !lost(unit)));
        drop(wal);
        let wal = options().open_on(disk.mount()).unwrap();
        let torn = wal.recovery().torn.as_ref().map(|torn| torn.beyond);
        assert_eq!((wal.recovery().records, torn), (3, Some(2)), "{}", wal.recovery());
        append(&wal, 10);
        wal.close().unwrap();
        disk.crash(Keep::None);
        assert_eq!(verify(&disk).records, 13);
        harm(&disk, &used(&disk)[1]);
        let report = verify(&disk);
        assert!(!report.is_clean() && lost_in(&report).is_none_or(|lost| lost + report.records <= 13), "{report}");
    }
}
