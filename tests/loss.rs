//! What is said to be lost is what is lost: by the error that refuses to open, and by verifying.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use seawall::check::{Report, verify};
use seawall::{Damage, ErrorKind, Options, Wal};

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
        (damage.clone(), report)
    }

    fn damaged_by(hurt: impl FnOnce(&Closed)) -> (Closed, Damage, Report) {
        let closed = Closed::new();
        hurt(&closed);
        let (damage, report) = closed.damage();
        (closed, damage, report)
    }
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
}

#[test]
fn a_middle_segment_cut() {
    let cut = |closed: &Closed| cut(&closed.segments[2], closed.of(2).nth(3).unwrap().offset + 10);
    let (closed, damage, report) = Closed::damaged_by(cut);
    let size = closed.of(2).skip(3).map(|record| record.size).sum();
    let later = 3..closed.segments.len();
    assert_eq!((damage.segment, damage.offset), (name(&closed.segments[2]), closed.of(2).nth(3).unwrap().offset));
    assert_eq!((damage.bytes, damage.beyond), (size, closed.count(later.clone()) + later.len() as u64));
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
        assert_eq!((damage.bytes, damage.beyond), (closed.bytes(2), closed.count(later.clone()) + later.len() as u64));
        assert_eq!(lost(&report), (closed.bytes(2), Some(closed.count([2]))));
        assert_eq!(report.faults.iter().map(|fault| fault.beyond).sum::<u64>(), 0);
    }
}

#[test]
fn several_segments_removed_in_a_row() {
    let remove = |closed: &Closed| (1..4).for_each(|n| fs::remove_file(&closed.segments[n]).unwrap());
    let (closed, damage, report) = Closed::damaged_by(remove);
    let (size, most) = ((1..4).map(|n| closed.bytes(n)).sum::<u64>(), 3 * ((16 << 10) - BLOCK));
    assert_eq!((damage.segment, damage.offset), (name(&closed.segments[1]), 0));
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
    assert_eq!((damage.segment, damage.offset), (name(&closed.segments[2]), 0));
    assert_eq!(damage.bytes, closed.bytes(2), "all of it, to opening");
    assert_eq!(lost(&report), (0, Some(0)));
}

#[test]
fn a_closed_log_without_mark_loses_nothing_that_is_known_of() {
    let (_, damage, report) = Closed::damaged_by(|closed| fs::remove_file(closed.dir.path().join("MARK")).unwrap());
    assert_eq!((damage.bytes, damage.beyond), (0, 0));
    assert!(damage.to_string().contains("nothing that is known of"), "{damage}");
    assert_eq!(lost(&report).0, 0);
    assert!(report.to_string().contains("MARK, which says that it was closed there, is gone"), "{report}");
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
        assert!(report.faults.iter().all(|fault| fault.lost_records == Some(0) || fault.lost_bytes > 0), "{report}");
    }
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
