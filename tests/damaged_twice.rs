//! Of logs with two or three damaged places: where it is told how many records are lost, by verifying, by the error that
//! refuses to open, and by a repair, it is as many as are gone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::Path;

use seawall::check::{Repair, verify};
use seawall::{ErrorKind, Options};

const BLOCK: usize = 4096;
const LINK: usize = 24 + 80;

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

/// A log as it lies in its directory: the files that hold something, by name.
struct Log {
    files: Vec<(String, Vec<u8>)>,
    /// Its segments, as indices of those files.
    segments: Vec<usize>,
    /// Records that were not cleaned, nor passed over by a repair.
    records: u64,
    /// The file that a repair wrote anew, if one did, and how many records it passed over. Links go on counting them.
    passed: Option<(usize, u64)>,
}

impl Log {
    /// Of `count` records, cleaned below the record `below`. If it is not closed, it is left as a killed process leaves it.
    fn new(count: usize, below: Option<usize>, close: bool) -> Log {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().open(dir.path()).unwrap();
        let append = |n| wal.append(&vec![7; n * 37 % 1000]).unwrap().wait().unwrap();
        let lsns: Vec<_> = (0..count).map(append).collect();
        let first = below.map(|below| wal.clean_before_lsn(lsns[below]).unwrap().first);
        if close {
            wal.close().unwrap();
        }
        let files = files(dir.path());
        drop(wal);
        let segments = used(&files);
        assert!(segments.len() > 2, "{}", segments.len());
        let records = lsns.iter().filter(|lsn| Some(**lsn) >= first).count() as u64;
        Log { files, segments, records, passed: None }
    }

    /// Of a log that was damaged in one record of its second segment and repaired.
    fn repaired(count: usize) -> Log {
        let mut log = Log::new(count, None, true);
        let dir = tempfile::tempdir().unwrap();
        Hurt::Record.hurt(&mut log.files[log.segments[1]].1);
        log.write(dir.path(), &[]);
        let plan = Repair::new().run(dir.path()).unwrap();
        let name = log.files[log.segments[1]].0.clone();
        log.files = files(dir.path());
        log.files.retain(|(name, _)| !name.contains(".aside"));
        log.segments = used(&log.files);
        log.passed = log.files.iter().position(|file| file.0 == name).zip(plan.lost_records);
        log.records = plan.kept_records;
        assert_eq!(log.passed.map(|(_, records)| records), Some(1), "{plan}");
        log
    }

    /// The files, hurt.
    fn write(&self, dir: &Path, case: &[(usize, Hurt)]) {
        for (n, (name, bytes)) in self.files.iter().enumerate().filter(|(n, _)| !case.contains(&(*n, Hurt::Gone))) {
            let mut bytes = bytes.clone();
            case.iter().filter(|(hit, _)| *hit == n).for_each(|(_, hurt)| hurt.hurt(&mut bytes));
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    /// What may be told where `left` records are left: as many as are lost, and of a file of which nothing is left, what a
    /// repair had passed over too.
    fn lost(&self, left: u64, case: &[(usize, Hurt)]) -> [u64; 2] {
        let whole = |file| [Hurt::Gone, Hurt::LinkCut].iter().any(|hurt| case.contains(&(file, *hurt)));
        let again = self.passed.filter(|(file, _)| whole(*file)).map_or(0, |(_, records)| records);
        [self.records - left, self.records - left + again]
    }
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    // One that is being made may be renamed meanwhile: it holds nothing yet.
    let mut files: Vec<_> = names.filter_map(|path| Some((name(&path), fs::read(&path).ok()?))).collect();
    files.retain(|(name, bytes)| !name.ends_with(".new") && bytes.len() > BLOCK);
    files.sort();
    files
}

/// The indices of the segments that hold something.
fn used(files: &[(String, Vec<u8>)]) -> Vec<usize> {
    let holds = |(name, bytes): &(String, Vec<u8>)| name.ends_with(".wal") && bytes[BLOCK..].iter().any(|b| *b != 0);
    (0..files.len()).filter(|n| holds(&files[*n])).collect()
}

/// What is done to a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hurt {
    Gone,
    Header,
    Link,
    LinkWiped,
    Record,
    /// Within a record.
    Cut,
    /// Behind a record.
    CutBehind,
    /// The same, and its payload is damaged.
    CutBehindDamage,
    /// The same, behind the link.
    LinkCut,
    /// Zeros from within a record on.
    Zeros,
    /// The same, from the end of a record on.
    ZerosBehind,
}

impl Hurt {
    const ALL: [Hurt; 11] = [
        Hurt::Gone,
        Hurt::Header,
        Hurt::Link,
        Hurt::LinkWiped,
        Hurt::Record,
        Hurt::Cut,
        Hurt::CutBehind,
        Hurt::CutBehindDamage,
        Hurt::LinkCut,
        Hurt::Zeros,
        Hurt::ZerosBehind,
    ];

    fn hurt(self, bytes: &mut Vec<u8>) {
        let record = BLOCK + LINK + 300;
        match self {
            Hurt::Header => bytes[50] ^= 1,
            Hurt::Link => bytes[BLOCK + 30] ^= 1,
            Hurt::LinkWiped => bytes[BLOCK..][..LINK].fill(0),
            Hurt::Record => bytes.get_mut(record).into_iter().for_each(|byte| *byte ^= 1),
            Hurt::Cut => bytes.truncate(record + 1200),
            Hurt::Zeros => bytes.iter_mut().skip(record + 1200).for_each(|byte| *byte = 0),
            Hurt::CutBehind | Hurt::CutBehindDamage | Hurt::ZerosBehind => {
                let size = |at: usize| {
                    let frame: &[u8; 24] = bytes.get(at..)?.first_chunk()?;
                    let length = u32::from_le_bytes(frame[4..8].try_into().unwrap()) & 0x0fff_ffff;
                    (*frame != [0; 24]).then_some(24 + length.next_multiple_of(4) as usize)
                };
                let ends = std::iter::successors(Some(BLOCK), |at| Some(at + size(*at)?));
                if let Some(end) = ends.take_while(|end| *end <= bytes.len()).find(|end| *end > record + 1200) {
                    bytes[end - 8] ^= u8::from(self == Hurt::CutBehindDamage);
                    match self {
                        Hurt::ZerosBehind => bytes[end..].fill(0),
                        _ => bytes.truncate(end),
                    }
                }
            }
            Hurt::LinkCut => {
                bytes.truncate(BLOCK + LINK);
                bytes[BLOCK + 54] ^= 1;
            }
            Hurt::Gone => {}
        }
    }
}

/// Of the pairs of places and of the threes some, by a rule.
fn cases(log: &Log) -> Vec<Vec<(usize, Hurt)>> {
    let hurts: Vec<_> = log.segments.iter().flat_map(|n| Hurt::ALL.map(|hurt| (*n, hurt))).collect();
    let mut cases: Vec<_> = hurts.iter().map(|hurt| vec![*hurt]).collect();
    for (a, first) in hurts.iter().enumerate() {
        for (b, second) in hurts.iter().enumerate().skip(a + 1) {
            if (7 * a + b) % 3 == 0 || first.0 == second.0 {
                cases.push(vec![*first, *second]);
            }
            let thirds = hurts.iter().enumerate().skip(b + 1).filter(|(c, _)| (7 * a + 3 * b + c) % 397 == 0);
            cases.extend(thirds.map(|(_, third)| vec![*first, *second, *third]));
        }
        // And all links above.
        let above = log.segments.iter().filter(|n| **n > first.0).map(|n| (*n, Hurt::Link));
        cases.push([*first].into_iter().chain(above).collect());
    }
    cases
}

/// A segment gone below the newest, whose link was damaged too, was told as no loss: nothing else tells of it. And the link
/// of the segment at the front, if damaged, as the loss of all that this holds.
#[test]
fn as_many_records_are_told_lost_as_are_lost() {
    let (mut told, mut untold) = (0, 0);
    let logs =
        [(80, None, true), (80, Some(40), true), (120, Some(60), false), (50, Some(25), false), (50, None, false)];
    let logs = logs.map(|(count, below, close)| Log::new(count, below, close));
    for log in logs.into_iter().chain([Log::repaired(80)]) {
        for (n, case) in cases(&log).into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            log.write(dir.path(), &case);
            let report = verify(dir.path()).unwrap();
            let what = || format!("{} records, {:?}, {case:?}: {report}", log.records, log.passed);
            let may_be = log.lost(report.records, &case);
            let [lost, most] = may_be;
            let all: Option<u64> = report.faults.iter().map(|fault| fault.lost_records).sum();
            assert!(all.is_none_or(|all| may_be.contains(&all)), "{lost} lost, {}", what());
            told += u64::from(lost > 0 && all.is_some());
            untold += u64::from(lost > 0 && all.is_none());
            let Err(error) = small().open(dir.path()) else { continue };
            let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
            assert!(damage.records.is_none_or(|records| records <= most), "{lost} lost, {error}; {}", what());
            assert!(
                damage.records != Some(0) || lost == 0 || report.faults.len() > 1,
                "{lost} lost, {error}; {}",
                what()
            );
            if n % 4 > 0 {
                continue;
            }
            let plan = Repair::new().run(dir.path()).unwrap();
            assert_eq!((plan.kept_records, plan.lost_records), (report.records, all), "{plan}; {}", what());
            assert!(verify(dir.path()).unwrap().is_clean(), "{}", what());
        }
    }
    assert!(told > 800 && untold > 80, "{told} and {untold}");
}
