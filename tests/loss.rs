//! What is said to be lost is what is lost: by the error that refuses to open, and by verifying.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use seawall::check::{Item, Repair, Report, Way, frames, verify};
use seawall::{BatchTime, Damage, Durability, ErrorKind, Lsn, Options, Wal};

#[path = "common/live.rs"]
mod live;
#[allow(dead_code)]
#[path = "common/random.rs"]
mod random;
#[allow(dead_code)]
#[path = "common/spec.rs"]
mod spec;

use random::Random;

const BLOCK: u64 = 4096;
const LINK: u64 = 24 + 80;

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

/// A record as it lies in its segment.
struct Placed {
    segment: usize,
    offset: u64,
    size: u64,
}

/// A closed log: its directory, its used segments and its records.
struct Closed {
    dir: tempfile::TempDir,
    segments: Vec<PathBuf>,
    records: Vec<Placed>,
}

impl Closed {
    fn new() -> Closed {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().open(dir.path()).unwrap();
        let lsns: Vec<_> = (0..200_usize).map(|n| append(&wal, n)).collect();
        wal.close().unwrap();
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> = names.filter(|path| fs::metadata(path).unwrap().len() > 2 * BLOCK).collect();
        segments.sort();
        let bases: Vec<u64> = segments.iter().map(|path| name(path)[..20].parse().unwrap()).collect();
        let place = |(n, lsn): (usize, &u64)| {
            let segment = bases.partition_point(|base| base <= lsn) - 1;
            Placed { segment, offset: lsn - bases[segment], size: 24 + length(n).next_multiple_of(4) as u64 }
        };
        let records: Vec<_> = lsns.iter().enumerate().map(place).collect();
        assert!(segments.len() > 5, "{}", segments.len());
        Closed { dir, segments, records }
    }

    fn of(&self, segment: usize) -> impl DoubleEndedIterator<Item = &Placed> {
        self.records.iter().filter(move |record| record.segment == segment)
    }

    /// The indices of its records.
    fn each(&self, segment: usize) -> impl Iterator<Item = usize> {
        (0..self.records.len()).filter(move |n| self.records[*n].segment == segment)
    }

    fn count(&self, segments: impl IntoIterator<Item = usize>) -> u64 {
        segments.into_iter().map(|segment| self.of(segment).count() as u64).sum()
    }

    /// Bytes of the frames of a segment, its link among them.
    fn bytes(&self, segment: usize) -> u64 {
        self.of(segment).map(|record| record.size).sum::<u64>() + LINK
    }

    /// What opening says, which touches nothing, and what verifying does.
    fn damage(&self) -> (Damage, Report) {
        let files = || -> Vec<_> {
            let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
            let mut files: Vec<_> = names.map(|path| (fs::read(&path).unwrap(), path)).collect();
            files.sort();
            files
        };
        let before = files();
        let error = small().open(self.dir.path()).unwrap_err();
        let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
        assert_eq!(error.offset(), Some(damage.offset), "{error}");
        let read_only = small().open_read_only(self.dir.path()).unwrap_err();
        assert_eq!(read_only.kind(), error.kind());
        let report = verify(self.dir.path()).unwrap();
        assert_eq!(files(), before);
        self.check(damage, &report);
        ((**damage).clone(), report)
    }

    /// Holds what is said of one damaged place against what verifying finds, and what repairing keeps.
    fn check(&self, damage: &Damage, report: &Report) {
        let (all, lsn) = (self.records.len() as u64, damage.lsn);
        let kept = Repair::new().cut(lsn).plan(self.dir.path()).unwrap().kept_records;
        match damage.cut() {
            // What other places have lost is gone in any case.
            Some(cut) => {
                let others: Option<u64> = report.faults.iter().skip(1).map(|fault| fault.lost_records).sum();
                assert!(others.is_none_or(|others| kept == all - cut - others), "{damage}");
            }
            None => assert!(kept + damage.before + damage.beyond <= all, "{damage}"),
        }
        let first = &report.faults[0];
        let told = (first.lsn, first.lost_bytes, first.lost_records);
        assert_eq!((lsn, damage.bytes, damage.records), told, "{damage}: {report}");
        let valid: Vec<_> = frames(self.dir.path()).unwrap().filter_map(|item| record(item.unwrap())).collect();
        let beyond: Vec<_> = valid.iter().filter(|valid| **valid >= lsn).collect();
        if damage.last.is_some() {
            assert_eq!(damage.last, beyond.last().copied().copied(), "{damage}");
        }
        if damage.beyond == beyond.len() as u64 && damage.beyond > 0 {
            let link = Lsn(beyond[0].0 - LINK);
            assert!(damage.next == Some(*beyond[0]) || damage.next == Some(link), "{damage}");
        }
        assert!(!damage.what.is_empty() && !damage.found.is_empty(), "{damage:?}");
    }

    fn lsn(&self, record: &Placed) -> Lsn {
        Lsn(name(&self.segments[record.segment])[..20].parse::<u64>().unwrap() + record.offset)
    }

    fn change(&self, segment: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(&self.segments[segment]).unwrap();
        change(&mut bytes);
        fs::write(&self.segments[segment], bytes).unwrap();
    }

    fn damaged_by(hurt: impl FnOnce(&Closed)) -> (Closed, Damage, Report) {
        let closed = Closed::new();
        hurt(&closed);
        let (damage, report) = closed.damage();
        (closed, damage, report)
    }
}

fn record(item: Item) -> Option<Lsn> {
    if let Item::Record(record) = item { Some(record.lsn) } else { None }
}

fn length(n: usize) -> usize {
    n * 37 % 1000
}

fn append(wal: &Wal, n: usize) -> u64 {
    wal.append(&vec![n as u8; length(n)]).unwrap().wait().unwrap().0
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn cut(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn lost(report: &Report) -> (u64, Option<u64>) {
    let records = report.faults.iter().map(|fault| fault.lost_records).sum();
    (report.faults.iter().map(|fault| fault.lost_bytes).sum(), records)
}

#[test]
fn a_flipped_bit_in_the_newest_segment_of_a_closed_log() {
    let flip = |closed: &Closed| {
        let newest = closed.segments.len() - 1;
        let (path, record) = (&closed.segments[newest], closed.of(newest).nth(2).unwrap());
        let mut bytes = fs::read(path).unwrap();
        bytes[record.offset as usize + 24] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let (closed, damage, report) = Closed::damaged_by(flip);
    let newest = closed.segments.len() - 1;
    let record = closed.of(newest).nth(2).unwrap();
    assert_eq!((damage.segment, damage.offset), (name(&closed.segments[newest]), record.offset));
    assert_eq!((damage.bytes, damage.beyond), (record.size, closed.count([newest]) - 3));
    assert_eq!(lost(&report), (record.size, Some(1)));
    let n = closed.records.len() - closed.count([newest]) as usize + 2;
    let mut payload = vec![n as u8; length(n)];
    let expected = crc32fast::hash(&payload);
    payload[0] ^= 1;
    let found = crc32fast::hash(&payload);
    assert_eq!(damage.found, format!("checksum {found:08x}, expected {expected:08x}, length {}", payload.len()));
    assert_eq!((damage.batch_time, damage.records), (Some(BatchTime(0)), Some(1)));
    assert_eq!(damage.last, closed.records.last().map(|record| closed.lsn(record)));
}

/// What was found instead of a frame, in the newest segment.
fn found_instead(hurt: impl Fn(&mut Vec<u8>, &Placed)) -> (Closed, Damage) {
    let (closed, damage, _) = Closed::damaged_by(|closed| {
        let newest = closed.segments.len() - 1;
        let record = closed.of(newest).nth(2).unwrap();
        closed.change(newest, |bytes| hurt(bytes, record));
    });
    (closed, damage)
}

#[test]
fn what_was_found_instead_of_a_frame() {
    let (_, damage) = found_instead(|bytes, record| bytes[record.offset as usize..][..40].fill(0));
    assert_eq!((damage.found.as_str(), damage.records), ("40 bytes of zeros", None));
    let (_, damage) = found_instead(|bytes, record| bytes.truncate(record.offset as usize));
    assert_eq!(damage.found, format!("the file ends at byte {}", damage.offset));
    let (_, damage) = found_instead(|bytes, record| bytes.truncate(record.offset as usize + 10));
    let end = damage.offset + 10;
    assert_eq!(damage.found, format!("the file ends at byte {end}, 10 bytes further, less than a frame"));
    let (_, damage) = found_instead(|bytes, record| bytes.truncate(record.offset as usize + 30));
    let (end, length) = (damage.offset + 30, damage.bytes - 24);
    let said: Vec<_> = damage.found.split(", ").collect();
    let told: u64 = said[0].strip_prefix("length ").unwrap().parse().unwrap();
    assert!(told <= length && said[1..] == ["beyond the file", &format!("which ends at byte {end}")], "{damage}");
    // A header that does not hold: what it says of its length may be anything.
    let (closed, damage) = found_instead(|bytes, record| {
        bytes[record.offset as usize + 4..][..4].copy_from_slice(&0x1fff_ffff_u32.to_le_bytes());
    });
    let bytes = fs::read(closed.segments.last().unwrap()).unwrap();
    let frame = &bytes[damage.offset as usize..][..24];
    let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut hasher = crc32fast::Hasher::new_with_initial(u32_at(&bytes, 12));
    hasher.update(&(damage.offset as u32).to_le_bytes());
    hasher.update(&frame[4..]);
    let (found, expected, end) = (hasher.finalize(), u32_at(frame, 0), bytes.len());
    let head = format!("frame header with checksum {found:08x}, expected {expected:08x}, length 268435455");
    assert_eq!(damage.found, format!("{head}, beyond the file, which ends at byte {end}"));
}

/// Only what the same segment held was said to be lost by a cut.
#[test]
fn damage_that_reading_meets_tells_what_lies_in_later_segments_too() {
    for segment in [0, 2] {
        let closed = Closed::new();
        let hit = closed.of(segment).nth(3).unwrap();
        closed.change(segment, |bytes| bytes[hit.offset as usize + 24] ^= 1);
        let report = verify(closed.dir.path()).unwrap();
        let wal = small().open(closed.dir.path()).unwrap();
        let view = small().open_read_only(closed.dir.path()).unwrap();
        let lsn = closed.lsn(hit);
        for error in [
            wal.get(lsn).unwrap_err(),
            wal.read(..).unwrap().last().unwrap().unwrap_err(),
            view.read(..).unwrap().last().unwrap().unwrap_err(),
        ] {
            let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
            let later = closed.count(segment + 1..closed.segments.len());
            assert_eq!((damage.lsn, damage.offset, damage.bytes), (lsn, hit.offset, hit.size), "{error}");
            assert_eq!((damage.records, damage.before), (Some(1), 0), "{error}");
            assert_eq!(damage.beyond, closed.count([segment]) - 4 + later, "{error}");
            closed.check(damage, &report);
        }
    }
}

#[test]
fn of_a_batch_what_lies_before_the_damage_is_counted_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    wal.append(&[1; 100]).unwrap().wait().unwrap();
    let batch = wal.append_batch(&[[2; 100]; 5]).unwrap().wait().unwrap();
    let last = wal.append(&[3; 100]).unwrap().wait().unwrap();
    wal.close().unwrap();
    let segment = dir.path().join(format!("{:020}.wal", 0));
    let whole = fs::read(&segment).unwrap();
    for nth in 0..5 {
        let mut bytes = whole.clone();
        bytes[batch.0 as usize + nth * 124 - 4 * 124 + 24] ^= 1;
        fs::write(&segment, bytes).unwrap();
        let error = small().open(dir.path()).unwrap_err();
        let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
        assert_eq!((damage.before, damage.records, damage.beyond), (nth as u64, Some(1), 5 - nth as u64), "{error}");
        assert_eq!((damage.cut(), damage.last), (Some(6), Some(last)), "{error}");
        let cut = Repair::new().cut(damage.lsn).plan(dir.path()).unwrap();
        assert_eq!(cut.kept_records, 1, "{cut}");
    }
}

#[test]
fn the_newest_segment_cut() {
    let cut = |closed: &Closed| {
        let newest = closed.segments.len() - 1;
        cut(&closed.segments[newest], closed.of(newest).nth(3).unwrap().offset + 10);
    };
    let (closed, damage, report) = Closed::damaged_by(cut);
    let newest = closed.segments.len() - 1;
    let (first, size) = (closed.of(newest).nth(3).unwrap().offset, closed.of(newest).skip(3).map(|r| r.size).sum());
    assert_eq!((damage.segment, damage.offset), (name(&closed.segments[newest]), first));
    assert_eq!((damage.bytes, damage.beyond), (size, 0));
    assert_eq!(lost(&report).0, size);
}

#[test]
fn the_newest_segment_removed() {
    let remove = |closed: &Closed| fs::remove_file(closed.segments.last().unwrap()).unwrap();
    let (closed, damage, report) = Closed::damaged_by(remove);
    let newest = closed.segments.len() - 1;
    // At most: nothing tells where the one before it ended.
    let likely = closed.bytes(newest)..closed.bytes(newest) + 1100;
    assert!(likely.contains(&damage.bytes) && damage.beyond == 0, "{damage}");
    assert!(likely.contains(&lost(&report).0), "{report}");
    // The one before it is whole, and not blamed.
    let [fault] = &report.faults[..] else { panic!("{report}") };
    assert_eq!((&fault.segment, fault.offset), (&name(&closed.segments[newest]), 0));
    assert!(fault.what.contains("is missing"), "{report}");
    assert_eq!(fault.lost_bytes, closed.bytes(newest));
    let plan = Repair::new().plan(closed.dir.path()).unwrap();
    assert_eq!(plan.kept_records, closed.count(0..newest));
}

/// Bytes that were appended to it were told as a cut, and as lost.
#[test]
fn the_newest_segment_grown() {
    for more in [1, 24, 600, 16 << 10] {
        for byte in [0, 0xff] {
            if (more, byte) == (1, 0xff) {
                // That may be left of a frame.
                continue;
            }
            let closed = Closed::new();
            closed.change(closed.segments.len() - 1, |bytes| bytes.resize(bytes.len() + more, byte));
            if more > 10 << 10 {
                // As long as it was made, or longer.
                assert!(verify(closed.dir.path()).unwrap().is_clean());
                small().open(closed.dir.path()).unwrap();
                continue;
            }
            let (damage, report) = closed.damage();
            let newest = closed.segments.last().unwrap();
            assert_eq!((damage.segment, damage.bytes), (name(newest), 0));
            assert!(damage.what.contains(": appended to the file"), "{}", damage.what);
            assert_eq!(report.faults[0].what, damage.what);
            assert_eq!(lost(&report), (0, Some(0)), "{report}");
            let plan = Repair::new().run(closed.dir.path()).unwrap();
            let kept = closed.records.len() as u64;
            assert_eq!((plan.kept_records, plan.dropped_records, plan.lost_records), (kept, 0, Some(0)), "{plan}");
            assert_eq!(small().open(closed.dir.path()).unwrap().read(..).unwrap().count(), closed.records.len());
        }
    }
}

#[test]
fn a_middle_segment_cut() {
    let cut = |closed: &Closed| cut(&closed.segments[2], closed.of(2).nth(3).unwrap().offset + 10);
    let (closed, damage, report) = Closed::damaged_by(cut);
    let size = closed.of(2).skip(3).map(|record| record.size).sum();
    let later = 3..closed.segments.len();
    assert_eq!((damage.segment, damage.offset), (name(&closed.segments[2]), closed.of(2).nth(3).unwrap().offset));
    assert_eq!((damage.bytes, damage.beyond), (size, closed.count(later)));
    assert_eq!(lost(&report), (size, Some(closed.count([2]) - 3)));
}

#[test]
fn a_middle_segment_removed_or_emptied() {
    let remove = |closed: &Closed| fs::remove_file(&closed.segments[2]).unwrap();
    let empty = |closed: &Closed| cut(&closed.segments[2], 0);
    for hurt in [&remove as &dyn Fn(&Closed), &empty] {
        let (closed, damage, report) = Closed::damaged_by(hurt);
        let later = 3..closed.segments.len();
        assert_eq!((damage.segment, damage.offset), (name(&closed.segments[2]), 0));
        assert_eq!((damage.bytes, damage.beyond), (closed.bytes(2), closed.count(later)));
        assert_eq!(lost(&report), (closed.bytes(2), Some(closed.count([2]))));
        assert_eq!(report.faults.iter().map(|fault| fault.beyond).sum::<u64>(), 0);
    }
}

#[test]
fn several_segments_removed_in_a_row() {
    let remove = |closed: &Closed| (1..4).for_each(|n| fs::remove_file(&closed.segments[n]).unwrap());
    let (closed, damage, report) = Closed::damaged_by(remove);
    let (size, most) = ((1..4).map(|n| closed.bytes(n)).sum::<u64>(), 3 * ((16 << 10) - BLOCK));
    // The one that a link names.
    assert_eq!((damage.segment, damage.offset), (name(&closed.segments[3]), 0));
    assert!((size..=most + 2 * BLOCK).contains(&damage.bytes), "{}", damage.bytes);
    assert_eq!(lost(&report).1, Some(closed.count(1..4)));
    assert!((size..=most + 2 * BLOCK).contains(&lost(&report).0), "{report}");
}

#[test]
fn a_damaged_header_loses_no_record_to_whoever_reads_past_it() {
    let flip = |closed: &Closed| {
        let mut bytes = fs::read(&closed.segments[2]).unwrap();
        bytes[50] ^= 1;
        fs::write(&closed.segments[2], bytes).unwrap();
    };
    let (closed, damage, report) = Closed::damaged_by(flip);
    assert_eq!((damage.segment.clone(), damage.offset), (name(&closed.segments[2]), 0));
    assert_eq!((damage.bytes, damage.records), (0, Some(0)), "{damage}");
    assert_eq!(damage.beyond, closed.count(2..closed.segments.len()), "{damage}");
    assert_eq!(lost(&report), (0, Some(0)));
    // Of the newest MARK tells that it is all.
    let newest = closed.segments.len() - 1;
    let (closed, damage, _) = Closed::damaged_by(|closed| closed.change(newest, |bytes| bytes[5] ^= 1));
    assert_eq!((damage.bytes, damage.records, damage.beyond), (0, Some(0), closed.count([newest])), "{damage}");
}

#[test]
fn a_closed_log_without_mark_loses_nothing_that_is_known_of() {
    let (_, damage, report) = Closed::damaged_by(|closed| fs::remove_file(closed.dir.path().join("MARK")).unwrap());
    assert_eq!((damage.bytes, damage.beyond), (0, 0));
    assert!(damage.to_string().contains("nothing that is known of"), "{damage}");
    assert_eq!(lost(&report).0, 0);
    assert!(report.to_string().contains("the MARK is gone that says that it was closed there"), "{report}");
    // Each of its slots says it.
    for at in [10, 4106] {
        let closed = Closed::new();
        let mark = closed.dir.path().join("MARK");
        let mut bytes = fs::read(&mark).unwrap();
        bytes[at] ^= 1;
        fs::write(&mark, bytes).unwrap();
        small().open(closed.dir.path()).unwrap();
    }
}

/// What else is done to a log, in words, and how; of its newest segment.
type Hurt<'a> = (&'static str, &'a dyn Fn(&Closed, usize));

/// A closed log without MARK whose newest segment was cut where a record ends: that was told only where nothing else was
/// wrong, and records beyond a damaged one passed for a torn tail.
#[test]
fn a_cut_of_the_newest_segment_is_told_beside_another_fault() {
    let hurts: [Hurt<'_>; 6] = [
        ("nothing else", &|_, _| {}),
        ("header", &|closed, newest| closed.change(newest, |bytes| bytes[2] ^= 2)),
        ("link", &|closed, newest| closed.change(newest, |bytes| bytes[4096 + 26] ^= 2)),
        ("record", &|closed, newest| {
            let at = closed.of(newest).nth(1).unwrap().offset;
            closed.change(newest, |bytes| bytes[at as usize + 24] ^= 1);
        }),
        ("first segment gone", &|closed, _| fs::remove_file(&closed.segments[0]).unwrap()),
        ("first segment gone, record", &|closed, newest| {
            fs::remove_file(&closed.segments[0]).unwrap();
            let at = closed.of(newest).nth(1).unwrap().offset;
            closed.change(newest, |bytes| bytes[at as usize + 24] ^= 1);
        }),
    ];
    for (what, hurt) in hurts {
        let closed = Closed::new();
        let newest = closed.segments.len() - 1;
        let left = closed.of(newest).nth(4).unwrap().offset;
        cut(&closed.segments[newest], left);
        fs::remove_file(closed.dir.path().join("MARK")).unwrap();
        hurt(&closed, newest);
        let report = verify(closed.dir.path()).unwrap();
        let told = report.faults.last().unwrap();
        assert!(told.what.contains(&format!("{left} bytes of 16384: it was cut")), "{what}: {report}");
        assert_eq!((told.offset, told.lost_records), (left, None), "{what}: {report}");
        let gone = if what.contains("first") { closed.count([0]) } else { 0 };
        let there = closed.count(0..newest) + 4 - gone - u64::from(what.contains("record"));
        let plan = Repair::new().run(closed.dir.path()).unwrap();
        let kept = (plan.kept_records, plan.dropped_records, plan.lost_records);
        assert_eq!(kept, (there, 0, None), "{what}: {plan}");
        assert!(verify(closed.dir.path()).unwrap().is_clean(), "{what}");
    }
}

/// Nothing is left to tell how long a newest segment was made: a header that is lost then may hide a cut.
#[test]
fn a_lone_newest_segment_without_header_may_have_been_cut() {
    let closed = Closed::new();
    for path in fs::read_dir(closed.dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if path != closed.segments[0] && name(&path) != "MARK" {
            fs::remove_file(path).unwrap();
        }
    }
    fs::remove_file(closed.dir.path().join("MARK")).unwrap();
    cut(&closed.segments[0], closed.of(0).nth(4).unwrap().offset);
    closed.change(0, |bytes| bytes[2] ^= 2);
    let report = verify(closed.dir.path()).unwrap();
    assert_eq!((report.records, report.faults.len(), report.faults[0].lost_records), (4, 1, None), "{report}");
}

/// Of the segments from the first on, only the last one's loss was told, and the log was said to begin there.
#[test]
fn a_log_whose_first_segments_are_gone() {
    let log = Closed::new();
    for gone in 1..4 {
        let dir = tempfile::tempdir().unwrap();
        for path in fs::read_dir(log.dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if !log.segments[..gone].contains(&path) {
                fs::copy(&path, dir.path().join(name(&path))).unwrap();
            }
        }
        let report = verify(dir.path()).unwrap();
        let lost: u64 = report.faults.iter().map(|fault| fault.lost_records.unwrap()).sum();
        assert_eq!((lost, report.first.0), (log.count(0..gone), 0), "{report}");
        let bytes: u64 = report.faults.iter().map(|fault| fault.lost_bytes).sum();
        let least: u64 = (0..gone).map(|segment| log.bytes(segment)).sum();
        assert!((least..least + gone as u64 * (16 << 10)).contains(&bytes), "{bytes} of {least}: {report}");
        assert_eq!(report.faults[0].lsn.0, 0, "{report}");
    }
}

/// A segment that is cut below a damaged link, or below one that is gone: its loss was told of a place in a sound segment
/// below, or of the file that is gone, and the ways out dropped more than they must.
#[test]
fn a_cut_segment_below_a_lost_link_is_where_its_loss_is_told() {
    for gone in [false, true] {
        let (closed, damage, report) = Closed::damaged_by(|closed| {
            cut(&closed.segments[2], closed.of(2).nth(3).unwrap().offset + 10);
            match gone {
                true => fs::remove_file(&closed.segments[3]).unwrap(),
                false => closed.change(3, |bytes| bytes[4096 + 30] ^= 1),
            }
        });
        let at = closed.of(2).nth(3).unwrap().offset;
        let lost = closed.count([2]) - 3;
        assert_eq!(
            (damage.segment, damage.offset, damage.records),
            (name(&closed.segments[2]), at, Some(lost)),
            "{report}"
        );
        let [of_cut, other] = &report.faults[..] else { panic!("{report}") };
        assert_eq!((of_cut.offset, of_cut.lost_records), (at, Some(lost)), "{report}");
        let second = if gone { closed.count([3]) } else { 0 };
        assert_eq!((&other.segment, other.lost_records), (&name(&closed.segments[3]), Some(second)), "{report}");
        let plan = Repair::new().plan(closed.dir.path()).unwrap();
        let beyond = closed.count(4..closed.segments.len()) + if gone { 0 } else { closed.count([3]) };
        let ways = [
            Way::Cut { lsn: of_cut.lsn, dropped_records: beyond },
            Way::Quarantine { segment: of_cut.segment.clone(), dropped_records: 3 },
        ];
        assert_eq!(plan.others, ways, "{plan}");
    }
}

/// A segment of which zeros are left behind its header, and whose next one is gone: its file was passed over in silence, and
/// the loss told of the one that is gone, or, where that was the newest, not at all.
#[test]
fn a_segment_of_zeros_beside_one_that_is_gone_is_told_too() {
    let zero = |closed: &Closed, segment: usize| {
        closed.change(segment, |bytes| bytes[4096..].fill(0));
        fs::remove_file(&closed.segments[segment + 1]).unwrap();
    };
    let (closed, damage, report) = Closed::damaged_by(|closed| zero(closed, 2));
    let of_file = |segment: usize| (name(&closed.segments[segment]), Some(closed.count([segment])));
    let told: Vec<_> = report.faults.iter().map(|fault| (fault.segment.clone(), fault.lost_records)).collect();
    assert_eq!(told, [of_file(2), of_file(3)], "{report}");
    assert_eq!((damage.segment, damage.offset), (name(&closed.segments[2]), BLOCK), "{report}");
    let newest = Closed::new().segments.len() - 1;
    let (closed, damage, report) = Closed::damaged_by(|closed| zero(closed, newest - 1));
    let told: Vec<_> = report.faults.iter().map(|fault| fault.segment.clone()).collect();
    assert_eq!(told, [name(&closed.segments[newest - 1]), name(&closed.segments[newest])], "{report}");
    assert_eq!((damage.offset, damage.records), (BLOCK, None), "{report}");
}

/// A link that is damaged above a segment that is gone, or cut to less than its header: nothing but the next link's
/// count tells of it.
#[test]
fn a_segment_that_is_gone_below_a_damaged_link_is_told_by_the_count() {
    for (gone, cut) in [(0, None), (1, None), (2, None), (1, Some(2000))] {
        let log = Closed::new();
        match cut {
            None => fs::remove_file(&log.segments[gone]).unwrap(),
            Some(length) => fs::File::options().write(true).open(&log.segments[gone]).unwrap().set_len(length).unwrap(),
        }
        let mut bytes = fs::read(&log.segments[gone + 1]).unwrap();
        bytes[4100] ^= 1;
        fs::write(&log.segments[gone + 1], bytes).unwrap();
        let report = verify(log.dir.path()).unwrap();
        let lost: u64 = report.faults.iter().filter_map(|fault| fault.lost_records).sum();
        assert_eq!((lost, report.first.0), (log.count([gone]), 0), "{report}");
        let error = small().open(log.dir.path()).unwrap_err();
        let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
        assert_eq!(damage.found == "no file that holds them", report.faults[0].segment.is_empty(), "{error}");
        assert!(report.faults.iter().all(|fault| fault.lost_records == Some(0) || fault.lost_bytes > 0), "{report}");
    }
}

/// Some records damaged, some segments gone, some links damaged: where it is told how many records are lost, it is as
/// many. Twice were those counted that lie at the end of a segment before one that is gone.
#[test]
fn as_many_records_are_told_lost_as_are_lost() {
    let (log, mut random) = (Closed::new(), Random::new(17));
    let mut told = 0;
    for round in 0..400 {
        let dir = tempfile::tempdir().unwrap();
        let (mut lost, mut done) = (vec![false; log.records.len()], Vec::new());
        for (segment, path) in log.segments.iter().enumerate() {
            let mut bytes = fs::read(path).unwrap();
            let last = log.of(segment).count() as u64 - 1;
            let hit = match random.below(8) {
                0 if segment + 1 < log.segments.len() => {
                    done.push(format!("{segment} gone"));
                    log.each(segment).for_each(|n| lost[n] = true);
                    continue;
                }
                1 => Some(random.below(last)),
                2 => Some(last),
                _ => None,
            };
            if let Some(hit) = hit {
                let n = log.each(segment).nth(hit as usize).unwrap();
                done.push(format!("{segment} at record {hit}"));
                // One without a payload stays.
                if log.records[n].size > 24 {
                    bytes[log.records[n].offset as usize + 24] ^= 1;
                    lost[n] = true;
                }
            }
            if random.below(8) == 0 {
                done.push(format!("{segment} without link"));
                bytes[BLOCK as usize + 4] ^= 1;
            }
            fs::write(dir.path().join(name(path)), bytes).unwrap();
        }
        fs::copy(log.dir.path().join("MARK"), dir.path().join("MARK")).unwrap();
        let report = verify(dir.path()).unwrap();
        let is = lost.iter().filter(|lost| **lost).count() as u64;
        if let Some(records) = report.faults.iter().map(|fault| fault.lost_records).sum::<Option<u64>>() {
            assert_eq!(records, is, "round {round}, {}: {report}", done.join(", "));
            told += u64::from(is > 1);
        }
    }
    assert!(told > 100, "{told}");
}

/// Opening put the blame on a sound segment, or on all of them.
#[test]
fn a_damaged_link_is_where_it_is_said_to_be() {
    for n in 0..5 {
        let log = Closed::new();
        let mut bytes = fs::read(&log.segments[n]).unwrap();
        bytes[4100] ^= 1;
        fs::write(&log.segments[n], bytes).unwrap();
        let (damage, report) = log.damage();
        assert_eq!((damage.segment.clone(), damage.offset), (name(&log.segments[n]), BLOCK), "{damage}");
        assert_eq!(damage.bytes, LINK, "{damage}");
        assert_eq!((report.faults.len(), report.faults[0].offset), (1, BLOCK), "{report}");
    }
}

/// In the place of a segment lies one that was made another time, and says of itself what a repair left in it: neither what
/// the next link says nor that is there.
#[test]
fn what_a_stranger_says_was_left_in_it_is_not_counted() {
    let closed = Closed::new();
    let mut stranger = fs::read(&closed.segments[2]).unwrap();
    stranger[64..72].fill(0x77);
    let seed = spec::mend_header(&mut stranger);
    let numbers = [999_u64, 0, 0].map(u64::to_le_bytes).concat();
    let left = [b"left", &numbers[..]].concat();
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&left);
    stranger.splice(512..544, [&hasher.finalize().to_le_bytes()[..], &left].concat());
    fs::write(&closed.segments[2], stranger).unwrap();
    let mut bytes = fs::read(&closed.segments[0]).unwrap();
    bytes[..8].fill(0);
    fs::write(&closed.segments[0], bytes).unwrap();
    let error = small().open(closed.dir.path()).unwrap_err();
    let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
    let there = closed.count((0..closed.segments.len()).filter(|n| *n != 2));
    assert_eq!((damage.segment.clone(), damage.beyond), (name(&closed.segments[0]), there), "{error}");
}

/// Links go on counting what a repair passed over.
#[test]
fn what_a_repair_passed_over_is_not_counted_as_there() {
    let closed = Closed::new();
    fs::remove_file(&closed.segments[2]).unwrap();
    Repair::new().run(closed.dir.path()).unwrap();
    let left = closed.records.len() as u64 - closed.count([2]);
    let view = small().open_read_only(closed.dir.path()).unwrap();
    assert_eq!((view.recovery().records, view.read(..).unwrap().count() as u64), (left, left));
    let wal = small().open(closed.dir.path()).unwrap();
    assert_eq!(wal.recovery().records, left);
    wal.close().unwrap();
    drop(wal);
    let mut bytes = fs::read(&closed.segments[0]).unwrap();
    bytes[..8].fill(0);
    fs::write(&closed.segments[0], bytes).unwrap();
    let error = small().open(closed.dir.path()).unwrap_err();
    let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
    assert_eq!(damage.beyond, left);
}

/// Two links name the first segment: one of a life that was cut off, which a hand put back, and the log's own, which counts a
/// record less. The lower one was believed.
#[test]
fn of_two_links_to_one_segment_the_higher_one_tells() {
    let dir = tempfile::tempdir().unwrap();
    let path = |base: u64| dir.path().join(format!("{base:020}.wal"));
    let wal = small().open(dir.path()).unwrap();
    let lsns: Vec<_> = (0..5).map(|_| wal.append(&[1; 500]).unwrap().wait().unwrap()).collect();
    wal.rotate().unwrap();
    wal.append(b"cut off").unwrap().wait().unwrap();
    drop(wal);
    let (first, second) = (path(0), path(16 << 10));
    // Nothing is left to tell that the last record and what lies above were durable.
    let cut_off = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    fs::remove_file(dir.path().join("MARK")).unwrap();
    let mut bytes = fs::read(&first).unwrap();
    bytes.truncate(lsns[4].0 as usize);
    bytes.resize(16 << 10, 0);
    fs::write(&first, bytes).unwrap();
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(wal.recovery().records, 4);
    wal.append(b"goes on").unwrap().wait().unwrap();
    wal.close().unwrap();
    drop(wal);
    assert!(!second.exists());
    fs::write(&second, cut_off).unwrap();
    let overview = seawall::check::inspect(dir.path()).unwrap();
    assert_eq!((overview.segments[0].end, overview.segments[0].records), (Some(lsns[4]), Some(4)), "{overview:?}");
    fs::remove_file(first).unwrap();
    let error = small().open(dir.path()).unwrap_err();
    let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
    assert_eq!(damage.records, Some(4), "{damage}");
}

/// A segment that a repair wrote anew is cut, and the link above it is damaged too: the count of the links goes on counting what
/// the repair passed over, so that it tells of no further loss, and none was told.
#[test]
fn what_a_repaired_segment_lost_below_a_damaged_link_cannot_be_told() {
    let closed = Closed::new();
    let hit = closed.of(1).nth(7).unwrap().offset as usize + 24;
    closed.change(1, |bytes| bytes[hit] ^= 1);
    assert_eq!(Repair::new().run(closed.dir.path()).unwrap().lost_records, Some(1));
    closed.change(1, |bytes| bytes.truncate(5200));
    closed.change(2, |bytes| bytes[4126] ^= 1);
    let report = verify(closed.dir.path()).unwrap();
    assert!(report.records + 3 < closed.records.len() as u64, "{report}");
    assert_eq!(lost(&report).1, None, "{report}");
    assert_eq!(Repair::new().plan(closed.dir.path()).unwrap().lost_records, None);
}

/// Nothing valid is left of a segment but its header: the one below, which was trimmed when the log was closed, was said to
/// be cut.
#[test]
fn a_segment_of_which_only_the_header_is_left_is_the_one_that_is_damaged() {
    for (lives, hit) in [(3, 1), (2, 1), (3, 2)] {
        let dir = tempfile::tempdir().unwrap();
        for life in 0..lives {
            let wal = small().open(dir.path()).unwrap();
            for n in 0..if life == hit { 1 } else { 3 } {
                wal.append(&[n; 100]).unwrap().wait().unwrap();
            }
            wal.close().unwrap();
        }
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut used: Vec<_> = names.filter(|path| fs::metadata(path).unwrap().len() > BLOCK + LINK).collect();
        used.retain(|path| name(path).ends_with(".wal"));
        used.sort();
        assert_eq!(used.len(), lives, "{used:?}");
        let mut bytes = fs::read(&used[hit]).unwrap();
        bytes[BLOCK as usize..].fill(0);
        fs::write(&used[hit], bytes).unwrap();
        let error = small().open(dir.path()).unwrap_err();
        let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
        assert_eq!((&damage.segment, damage.offset), (&name(&used[hit]), BLOCK), "{error}");
        let report = verify(dir.path()).unwrap();
        assert_eq!((&report.faults[0].segment, report.faults[0].offset), (&damage.segment, BLOCK), "{report}");
    }
}

/// Segments are trimmed when a log is closed, and the next life begins higher: a sound one was said to be cut, or a file to be
/// missing that never was.
#[test]
fn of_a_log_of_many_lives_the_segment_that_is_gone_is_the_one_that_is_missed() {
    let (whole, mut used) = (tempfile::tempdir().unwrap(), Vec::new());
    for n in 0..5 {
        let wal = small().open(whole.path()).unwrap();
        used.push(format!("{:020}.wal", wal.append(&[n; 1000]).unwrap().wait().unwrap().0 - BLOCK - LINK));
        wal.close().unwrap();
    }
    for gone in &used {
        let dir = tempfile::tempdir().unwrap();
        for path in fs::read_dir(whole.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if name(&path) != *gone {
                fs::copy(&path, dir.path().join(name(&path))).unwrap();
            }
        }
        let error = small().open(dir.path()).unwrap_err();
        let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
        let report = verify(dir.path()).unwrap();
        let [fault] = &report.faults[..] else { panic!("{report}") };
        assert_eq!((&damage.segment, damage.offset, damage.lsn), (&fault.segment, 0, fault.lsn), "{error}\n{report}");
        // Of the newest only what was durable is left to tell: it lay behind the last.
        let newest = gone == used.last().unwrap();
        assert!(damage.segment == *gone || newest && damage.segment > used[3] && damage.segment < *gone, "{error}");
    }
}

/// A power cut left a hole in what no sync had reached, and an opening dropped what was behind it; then the file is gone. What
/// was dropped was told as lost with it.
#[test]
fn what_an_opening_dropped_is_not_told_as_lost() {
    let (live, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wal = small().durability(Durability::Os).open(live.path()).unwrap();
    (0..5).for_each(|n| _ = wal.append(&[n; 1000]).unwrap().wait().unwrap());
    wal.sync().unwrap();
    let lsns: Vec<u64> = (5..16).map(|n| wal.append(&[n; 1000]).unwrap().wait().unwrap().0).collect();
    live::copy(live.path(), dir.path());
    // MARK as the disk had it.
    fs::remove_file(dir.path().join("MARK")).unwrap();
    let first = dir.path().join("00000000000000000000.wal");
    let mut bytes = fs::read(&first).unwrap();
    bytes[lsns[1] as usize + 100] ^= 1;
    fs::write(&first, bytes).unwrap();
    let wal = small().open(dir.path()).unwrap();
    let torn = wal.recovery().torn.unwrap();
    assert_eq!((torn.lsn.0, wal.read(..).unwrap().count()), (lsns[1], 6));
    wal.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().records, 6);
    fs::remove_file(&first).unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.faults[0].lost_records, None, "{report}");
    let error = small().open(dir.path()).unwrap_err();
    let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
    assert_eq!(damage.records, None, "{error}");
}

/// The files below were cleaned, and told as lost: only MARK said so.
#[test]
fn without_mark_what_was_cleaned_is_not_told_as_lost() {
    for cleaned in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().open(dir.path()).unwrap();
        for n in 0..30 {
            wal.at(n).append(&[1; 1000]).unwrap().wait().unwrap();
        }
        let first = if cleaned { wal.clean_before_batch_time(15).unwrap().first.0 } else { 0 };
        assert_eq!(first > 0, cleaned);
        wal.close().unwrap();
        // What was cleaned in one life is gone in the next.
        small().open(dir.path()).unwrap().close().unwrap();
        if !cleaned {
            fs::remove_file(dir.path().join("00000000000000000000.wal")).unwrap();
        }
        for mark in [true, false] {
            if !mark {
                fs::remove_file(dir.path().join("MARK")).unwrap();
            }
            let report = verify(dir.path()).unwrap();
            let lost = report.faults.first().map(|fault| fault.lost_records);
            let expected = match (cleaned, mark) {
                (true, true) => None,
                (false, true) => Some(Some(11)),
                (_, false) => Some(None),
            };
            assert_eq!(lost, expected, "{cleaned} {mark}: {report}");
            assert_eq!(report.to_string().contains("or it was cleaned"), !mark, "{cleaned} {mark}: {report}");
        }
        // Nor if the link is damaged that names it.
        let file = fs::File::options().write(true).open(dir.path().join("00000000000000016384.wal")).unwrap();
        file.write_all_at(&[0xff], BLOCK + 40).unwrap();
        let report = verify(dir.path()).unwrap();
        let lost = report.faults.iter().map(|fault| fault.lost_records).sum::<Option<u64>>();
        assert_eq!(lost, None, "{cleaned}: {report}");
        assert!(report.faults.iter().all(|fault| fault.lost_records.unwrap_or(0) < 11), "{cleaned}: {report}");
    }
}
