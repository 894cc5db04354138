//! Which copy of a segment is the log's: each rule of the table in `src/check/misnamed.rs`, by a case in which another
//! choice would cost a record or bring one back.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use seawall::check::{Repair, RepairPlan, Verify, inspect_on};
use seawall::sim::{Disk, Keep};
use seawall::{Lsn, Options, Wal};

const BLOCK: usize = 4096;
/// Within a segment's link.
const LINK: usize = BLOCK + 30;
/// Within one of the large records.
const RECORD: usize = BLOCK + 1700;
/// The records of a segment.
const EACH: u64 = 13;

fn open(disk: &Disk) -> Wal {
    Options::new().segment_size(16 << 10).open_on(disk.mount()).unwrap()
}

/// A segment's records: ten, and three that take fewer bytes than its link does.
fn fill(wal: &Wal) {
    for n in 0..EACH {
        wal.append(&vec![7; if n < 10 { 400 } else { 0 }]).unwrap().wait().unwrap();
    }
}

/// Three closed segments, and their names.
fn log() -> (Disk, Vec<String>) {
    let disk = Disk::new(4);
    let wal = open(&disk);
    for segment in 0..3 {
        fill(&wal);
        if segment < 2 {
            wal.rotate().unwrap();
        }
    }
    wal.close().unwrap();
    disk.crash(Keep::All);
    let names = used(&disk);
    assert_eq!(names.len(), 3, "{names:?}");
    (disk, names)
}

fn used(disk: &Disk) -> Vec<String> {
    let used = |name: &String| disk.file(name).unwrap().get(BLOCK..BLOCK + 24).is_some_and(|frame| frame != [0; 24]);
    disk.names().into_iter().filter(|name| name.ends_with(".wal") && used(name)).collect()
}

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

fn flip(disk: &Disk, name: &str, at: usize) {
    disk.put(name, flipped(disk.file(name).unwrap(), at));
}

/// Where the last record's frame lies, which has no payload.
fn last(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap()
}

/// What a repair would keep and lose. It is carried out too, and then nothing is left to do.
fn repaired(disk: &Disk) -> (u64, Option<u64>, RepairPlan) {
    let plan = Repair::new().run_on(disk.mount()).unwrap();
    let report = Verify::new().run_on(disk.mount()).unwrap();
    let again = Repair::new().plan_on(disk.mount()).unwrap();
    assert!(report.is_clean() && again.steps.is_empty(), "{plan}\n{report}\n{again}");
    assert_eq!(report.records, plan.kept_records, "{plan}");
    (plan.kept_records, plan.lost_records, plan)
}

/// A repair was writing it of the damaged one, and a power cut took some of it: more bytes, for there is a link in it again,
/// but not all records.
#[test]
fn what_looks_unfinished_takes_no_place_in_which_there_is_something() {
    let (disk, names) = log();
    let sound = disk.file(&names[1]).unwrap();
    let at = last(&sound);
    flip(&disk, &names[1], LINK);
    disk.put(&names[1].replace(".wal", ".new"), flipped(sound, at));
    let (kept, lost, plan) = repaired(&disk);
    assert_eq!((kept, lost), (3 * EACH, Some(0)), "{plan}");
}

/// Where nothing is, it is the only one.
#[test]
fn what_looks_unfinished_takes_a_place_in_which_there_is_nothing() {
    let (disk, names) = log();
    disk.rename(&names[1], &names[1].replace(".wal", ".new"));
    let (kept, lost, plan) = repaired(&disk);
    assert_eq!((kept, lost), (3 * EACH, Some(0)), "{plan}");
}

/// What a repair left is all that is wanted of a segment: neither what it passed over comes back with another copy, nor does
/// anything of what it left go for that.
#[test]
fn a_copy_from_before_a_repair_does_not_take_the_place_of_what_that_left() {
    let (whole, names) = log();
    let sound = whole.file(&names[1]).unwrap();
    let repaired_once = whole.fork();
    flip(&repaired_once, &names[1], RECORD);
    assert_eq!(repaired(&repaired_once).0, 3 * EACH - 1);
    // As many records as were left, and more bytes.
    let disk = repaired_once.fork();
    flip(&disk, &names[1], LINK);
    disk.put("copy", flipped(sound.clone(), last(&sound)));
    let (kept, lost, plan) = repaired(&disk);
    assert_eq!((kept, lost), (3 * EACH - 1, Some(0)), "{plan}");
    let view = Options::new().open_read_only_on(disk.mount()).unwrap();
    let empty = view.read(..).unwrap().filter(|record| record.as_ref().unwrap().payload.is_empty());
    assert_eq!(empty.count() as u64, 3 * (EACH - 10));
    // More than were left, of which some are lost since.
    let disk = repaired_once.fork();
    flip(&disk, &names[1], RECORD + 900);
    disk.put("copy", &sound);
    let (kept, lost, plan) = repaired(&disk);
    assert_eq!((kept, lost), (3 * EACH - 2, Some(1)), "{plan}");
}

/// No link tells whether a copy of the newest segment is this log's: it could be of a time before, or of a copy that went on.
#[test]
fn a_copy_that_no_link_names_takes_no_place_in_which_there_is_something() {
    let (disk, names) = log();
    let sound = disk.file(&names[2]).unwrap();
    flip(&disk, &names[2], RECORD);
    disk.put("copy", sound);
    let (kept, lost, plan) = repaired(&disk);
    assert_eq!((kept, lost), (3 * EACH - 1, Some(1)), "{plan}");
}

#[test]
fn a_copy_that_stands_in_is_not_called_no_part_of_the_log() {
    let (disk, names) = log();
    disk.put("00000000000000843776.wal", disk.file(&names[1]).unwrap());
    let told = |disk: &Disk| inspect_on(disk.mount()).unwrap().notes.iter().any(|note| note.contains("a copy of"));
    assert!(told(&disk));
    flip(&disk, &names[1], RECORD);
    assert!(!told(&disk));
}

/// The one in which a repair let the log go on lies under another name, and no MARK tells of it: the next repair goes on above
/// it once more.
#[test]
fn a_repair_goes_on_above_segments_under_other_names() {
    let (disk, names) = log();
    flip(&disk, &names[2], RECORD);
    repaired(&disk);
    let newest = used(&disk).pop().unwrap();
    disk.rename(&newest, "copy");
    disk.remove("MARK");
    flip(&disk, &names[1], RECORD);
    repaired(&disk);
    let used = used(&disk);
    assert!(used.contains(&newest) && *used.last().unwrap() > newest, "{newest}: {used:?}");
}

/// Only the newest segment's link tells how far the log was cleaned, and that lies under another name.
#[test]
fn what_was_cleaned_stays_so_where_a_segment_under_another_name_tells() {
    let (disk, names) = log();
    let cleaned = [0, 1].map(|n| (names[n].clone(), disk.file(&names[n]).unwrap()));
    let wal = open(&disk);
    let front = Lsn(names[2].trim_end_matches(".wal").parse().unwrap());
    assert_eq!(wal.clean_before_lsn(front).unwrap().first, front);
    fill(&wal);
    wal.close().unwrap();
    disk.crash(Keep::All);
    cleaned.into_iter().for_each(|(name, bytes)| disk.put(&name, bytes));
    disk.remove("MARK");
    let newest = used(&disk).pop().unwrap();
    disk.rename(&newest, "copy");
    let first_is_gone = disk.fork();
    first_is_gone.remove(&names[2]);
    let (kept, _, plan) = repaired(&disk);
    assert_eq!(kept, 2 * EACH, "{plan}");
    let (kept, _, plan) = repaired(&first_is_gone);
    assert_eq!((kept, plan.faults[0].lsn), (EACH, front), "{plan}");
}

/// A power cut ended the repair before the first rename, so the log is as it was, and opening moves the stand-in aside, which
/// is nothing but a gap. Later its segment is damaged or gone.
#[test]
fn what_a_repair_had_begun_stands_in_for_nothing() {
    let mut met = 0;
    for (nth, keep) in (1..30).flat_map(|nth| (0..8).map(move |keep| (nth, keep))) {
        let (disk, names) = log();
        disk.crash_at(nth);
        if Repair::new().quarantine(&names[0]).run_on(disk.mount()).is_ok() {
            break;
        }
        disk.crash(Keep::Random(keep));
        let wal = open(&disk);
        if wal.recovery().records != 3 * EACH {
            continue;
        }
        wal.append(b"it goes on").unwrap().wait().unwrap();
        wal.close().unwrap();
        disk.crash(Keep::All);
        met += u64::from(disk.names().iter().any(|name| name.contains(".new.aside")));
        let gone = disk.fork();
        gone.remove(&names[0]);
        flip(&disk, &names[0], RECORD);
        // A whole copy may lie aside too.
        for (disk, most) in [(disk, 1), (gone, EACH)] {
            let (kept, lost, plan) = repaired(&disk);
            let lost = lost.unwrap();
            assert!([0, most].contains(&lost) && kept + lost == 3 * EACH + 1, "{nth} {keep}: {plan}");
        }
    }
    assert!(met > 10, "{met}");
}

/// One page was written to the wrong place: the header of a segment lies over that of another, behind which all is as it was.
/// It was taken for a copy of the other, and what it holds was passed over, and said to be nothing once it lay aside.
#[test]
fn a_header_in_the_wrong_place_costs_nothing() {
    let (disk, names) = log();
    let other = Disk::new(77);
    fill(&open(&other));
    other.crash(Keep::All);
    for (over, page) in [(1, disk.file(&names[2])), (2, disk.file(&names[1])), (0, other.file(&names[0]))] {
        let hurt = disk.fork();
        let mut bytes = hurt.file(&names[over]).unwrap();
        bytes[..BLOCK].copy_from_slice(&page.unwrap()[..BLOCK]);
        hurt.put(&names[over], bytes);
        let dir = tempfile::tempdir().unwrap();
        let lone = dir.path().join(&names[over]);
        std::fs::write(&lone, hurt.file(&names[over]).unwrap()).unwrap();
        if over > 0 {
            assert_eq!(seawall::check::verify(&lone).unwrap().records, EACH);
        }
        let report = Verify::new().run_on(hurt.mount()).unwrap();
        assert!(!report.notes.iter().any(|note| note.contains("a copy of")), "{report}");
        let (kept, lost, plan) = repaired(&hurt);
        assert_eq!((kept, lost), (3 * EACH, Some(0)), "{over}: {plan}");
        let report = Verify::new().run_on(hurt.mount()).unwrap();
        assert!(report.notes.iter().any(|note| note.contains("holds 13 valid records, all of them")), "{report}");
    }
}

/// A log that was cleaned to its newest segment, that, and files in which others were before they were made ready again.
fn used_again() -> (Disk, String, Vec<String>) {
    let disk = Disk::new(4);
    let wal = open(&disk);
    for _ in 0..3 {
        fill(&wal);
        wal.rotate().unwrap();
    }
    fill(&wal);
    wal.clean_before_lsn(wal.durable_lsn()).unwrap();
    wal.prepare().unwrap();
    let log: Vec<_> = wal.kept().iter().map(|kept| kept.segment.clone()).collect();
    let again: Vec<_> = used(&disk).into_iter().filter(|name| !log.contains(name)).collect();
    assert!(!again.is_empty() && log.len() == 1, "nothing was used again");
    disk.crash(Keep::All);
    (disk, log[0].clone(), again)
}

/// A spare was made ready as another segment, and a hand gave it another name: in it still lies the link of the segment that it
/// was before, which is no part of the log.
#[test]
fn what_a_file_held_before_it_was_used_again_is_no_segment_with_a_header_in_the_wrong_place() {
    let (disk, _, again) = used_again();
    let above = "00000000000001048576.wal";
    disk.rename(again.last().unwrap(), above);
    let report = Verify::new().run_on(disk.mount()).unwrap();
    assert_eq!((report.records, report.segments), (EACH, 1), "{report}");
    let fault = report.faults.iter().find(|fault| fault.segment == above).unwrap();
    assert_eq!((fault.what.as_str(), fault.beyond), ("the header is another segment's", 0), "{report}");
    assert_eq!(repaired(&disk).0, EACH);
}

/// What a write to the wrong place brought: the header of another segment, or of another log, with its link and part of a record.
const HEAD: usize = BLOCK + 512;

fn put_over(disk: &Disk, name: &str, from: &[u8], length: usize) {
    let mut bytes = disk.file(name).unwrap();
    bytes[..length].copy_from_slice(&from[..length]);
    disk.put(name, bytes);
}

/// What verifying says of a file that was moved aside.
fn note_of(disk: &Disk, name: &str) -> String {
    let report = Verify::new().run_on(disk.mount()).unwrap();
    let mut notes = report.notes.iter().filter(|note| note.contains(&format!("{name}.aside")));
    notes.next().unwrap_or_else(|| panic!("nothing of {name}.aside: {report}")).clone()
}

/// The whole segment was passed over, said to be a copy, and to hold nothing once it lay aside.
#[test]
fn a_header_and_a_link_in_the_wrong_place_cost_what_lay_there() {
    let (disk, names) = log();
    let other = Disk::new(77);
    fill(&open(&other));
    other.crash(Keep::All);
    let theirs = other.file(&names[0]);
    let head_lost = disk.fork();
    flip(&head_lost, &names[2], 50);
    let heads = [disk.file(&names[0]), disk.file(&names[1]), disk.file(&names[2]), theirs];
    for (disk, over, from) in [0, 1]
        .into_iter()
        .flat_map(|over| (0..4).map(move |from| (over, from)))
        .flat_map(|(over, from)| [(&disk, over, from), (&head_lost, over, from)])
    {
        if over == from {
            continue;
        }
        let hurt = disk.fork();
        put_over(&hurt, &names[over], heads[from].as_ref().unwrap(), HEAD);
        let report = Verify::new().run_on(hurt.mount()).unwrap();
        let overview = inspect_on(hurt.mount()).unwrap();
        let notes = [&report.notes[..], &overview.notes[..]].concat();
        assert!(!notes.iter().any(|note| note.contains("a copy of")), "{over} {from}: {report}");
        assert_eq!(overview.records, 3 * EACH - 1, "{over} {from}");
        let away = hurt.fork();
        let (kept, lost, plan) = repaired(&hurt);
        assert_eq!((kept, lost), (3 * EACH - 1, Some(1)), "{over} {from}: {plan}");
        // All payloads are alike, so that the first record of the other segment is whole there.
        let held = if from < 3 { 13 } else { 12 };
        let note = note_of(&hurt, &names[over]);
        let told = format!("holds {held} valid records, all of them in the log too");
        assert!(note.contains(&told), "{over} {from}: {note}");
        Repair::new().quarantine(&names[over]).run_on(away.mount()).unwrap();
        let note = note_of(&away, &names[over]);
        let told = format!("holds {held} valid records, 12 of them not in the log");
        assert!(note.contains(&told), "{over} {from}: {note}");
    }
}

/// Some of its records are left in the file that they were written over, and the rest of that file's own.
#[test]
fn a_file_may_be_what_is_left_of_two_segments() {
    let (disk, names) = log();
    put_over(&disk, &names[1], &disk.file(&names[0]).unwrap(), BLOCK + 2048);
    disk.remove(&names[0]);
    let (kept, lost, plan) = repaired(&disk);
    assert_eq!((kept, lost), (5 + 8 + EACH, Some(8 + 5)), "{plan}");
}

/// What lies there holds more of the segment than a copy does.
#[test]
fn a_copy_with_less_in_it_takes_no_place_behind_another_header() {
    let (disk, names) = log();
    let mut copy = disk.file(&names[1]).unwrap();
    copy[RECORD..].fill(0);
    disk.put("copy", copy);
    put_over(&disk, &names[1], &disk.file(&names[0]).unwrap(), HEAD);
    let (kept, lost, plan) = repaired(&disk);
    assert_eq!((kept, lost), (3 * EACH - 1, Some(1)), "{plan}");
}

fn swap(disk: &Disk, a: &str, b: &str) {
    let (first, second) = (disk.file(a).unwrap(), disk.file(b).unwrap());
    disk.put(a, second);
    disk.put(b, first);
}

/// A segment of which the header's checksum says which byte is wrong was lost where it lay under another name.
#[test]
fn a_header_with_a_wrong_byte_says_what_a_file_under_another_name_is() {
    let (disk, names) = log();
    let hurts = [(0, 1), (1, 0), (1, 2), (2, 1)]
        .into_iter()
        .flat_map(|(a, b)| [8, 14, 16, 40, 50, 60, 68].map(|at| (a, b, at)));
    for ((a, b, at), mask) in hurts.zip([1, 0xa5].into_iter().cycle()) {
        let spoil = |disk: &Disk, name: &str| {
            let mut bytes = disk.file(name).unwrap();
            bytes[at] ^= mask;
            disk.put(name, bytes);
        };
        let swapped = disk.fork();
        swap(&swapped, &names[a], &names[b]);
        spoil(&swapped, &names[b]);
        let mut files: Vec<_> = inspect_on(swapped.mount()).unwrap().segments.into_iter().map(|it| it.file).collect();
        files.sort();
        files.dedup();
        assert!(names.iter().all(|name| files.contains(name)), "{a} {b} {at}: {files:?}");
        let (kept, lost, plan) = repaired(&swapped);
        assert_eq!((kept, lost), (3 * EACH, Some(0)), "{a} {b} {at}: {plan}");
        let note = note_of(&swapped, &names[b]);
        assert!(note.contains("holds 13 valid records, all of them in the log too"), "{a} {b} {at}: {note}");
        let renamed = disk.fork();
        renamed.rename(&names[a], "copy");
        spoil(&renamed, "copy");
        let (kept, lost, plan) = repaired(&renamed);
        assert_eq!((kept, lost), (3 * EACH, Some(0)), "{a} {at}: {plan}");
    }
}

/// Nothing tells what it is, and it was said to hold nothing.
#[test]
fn a_file_without_a_header_under_anothers_name_is_not_said_to_hold_nothing() {
    let (disk, names) = log();
    swap(&disk, &names[0], &names[1]);
    let mut bytes = disk.file(&names[1]).unwrap();
    bytes[..72].fill(0);
    disk.put(&names[1], bytes);
    let overview = inspect_on(disk.mount()).unwrap();
    let mut files: Vec<_> = overview.segments.iter().filter(|it| it.length > 0).map(|it| &it.file).collect();
    files.extend(overview.foreign.iter().map(|it| &it.name));
    let named = |name: &String| files.iter().filter(|file| **file == name).count();
    assert_eq!((named(&names[0]), named(&names[1])), (1, 1), "{files:?}");
    repaired(&disk);
    let note = note_of(&disk, &names[1]);
    assert!(note.contains("what it holds cannot be told"), "{note}");
}

/// In it lies the link of the segment that it was before, which was taken to tell that its header is another's.
#[test]
fn what_was_made_ready_in_a_file_used_again_holds_nothing() {
    let (disk, newest, again) = used_again();
    let again: Vec<_> = again.into_iter().filter(|name| *name > newest).collect();
    assert!(!again.is_empty(), "none is above");
    flip(&disk, &newest, RECORD);
    repaired(&disk);
    for name in again {
        let note = note_of(&disk, &name);
        assert!(note.contains("no valid record"), "{note}");
    }
}
