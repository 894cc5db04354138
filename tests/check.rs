//! Verifying a log and reading on past its damage, on real files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use seawall::check::{Fault, Item, Repair, Salvage, Verify, frames, verify};
use seawall::{ErrorKind, Lsn, Options, Progress, Wal};

#[path = "common/live.rs"]
mod live;
#[path = "common/stops.rs"]
mod stops;

use stops::Stops;

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

fn payload(n: u32) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(4 + (n as usize * 37) % 400, b'.');
    payload
}

/// A closed log of `count` records, of which the LSNs are told.
fn log(dir: &Path, count: u32) -> Vec<Lsn> {
    let wal = small().open(dir).unwrap();
    let lsns = (0..count).map(|n| wal.append(&payload(n)).unwrap().wait().unwrap()).collect();
    wal.close().unwrap();
    lsns
}

/// The segments that hold frames, and not only a header.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = names.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    names.retain(|path| fs::metadata(path).unwrap().len() > 4096);
    names.sort();
    names
}

fn base(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// What `frames` yields: the numbers of the records, and the faults.
fn yielded(dir: &Path) -> (Vec<u32>, Vec<Fault>) {
    let (numbers, faults, removed) = yielded_beside_a_writer(dir);
    assert_eq!(removed, 0);
    (numbers, faults)
}

/// The same where a writer may clean faster than this reads, and how often it did.
fn yielded_beside_a_writer(dir: &Path) -> (Vec<u32>, Vec<Fault>, usize) {
    let (mut numbers, mut faults, mut removed) = (Vec::new(), Vec::new(), 0);
    let mut last = Lsn::ZERO;
    for item in frames(dir).unwrap() {
        match item.unwrap() {
            Item::Record(record) => {
                let n = u32::from_le_bytes(record.payload[..4].try_into().unwrap());
                assert_eq!(record.payload, payload(n));
                assert!(record.lsn > last);
                last = record.lsn;
                numbers.push(n);
            }
            Item::Damage(fault) => {
                assert!(fault.lsn >= last, "{fault} after {last}");
                faults.push(fault);
            }
            _ => removed += 1,
        }
    }
    (numbers, faults, removed)
}

fn all_but(count: u32, lost: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let lost: Vec<_> = lost.into_iter().collect();
    (0..count).filter(|n| !lost.contains(n)).collect()
}

#[test]
fn a_sound_log_is_clean_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let lsns = log(dir.path(), 300);
    let report = verify(dir.path()).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.records, report.segments), (300, segments(dir.path()).len()));
    assert_eq!(report.first, Lsn(base(&segments(dir.path())[0])));
    assert!(report.end > lsns[299] && report.notes.is_empty(), "{report}");
    let payloads: u64 = (0..300).map(|n| 24 + (payload(n).len() as u64).next_multiple_of(4)).sum();
    let links = report.segments as u64 * (24 + 80);
    assert_eq!(report.bytes, payloads + links);
    assert_eq!(yielded(dir.path()), (all_but(300, []), Vec::new()));
    assert!(report.to_string().starts_with("clean; "), "{report}");
}

#[test]
fn any_flipped_byte_is_found_or_means_nothing() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 60);
    let paths = segments(dir.path());
    assert!(paths.len() > 1);
    let (mut found, mut nothing) = (0, 0);
    for path in &paths {
        let length = fs::metadata(path).unwrap().len();
        let header = (0..96).chain([2000]);
        for at in header.chain((4096..length).step_by(7)) {
            flip(path, at);
            let report = match verify(dir.path()) {
                Ok(report) => report,
                Err(e) => panic!("{}: byte {at}: {e:?}", path.display()),
            };
            let (numbers, faults) = yielded(dir.path());
            let lost = 60 - numbers.len() as u64;
            assert_eq!(report.records, numbers.len() as u64, "byte {at}: {report}");
            assert!(lost <= 1, "byte {at}: {report}");
            assert_eq!(report.faults.len(), faults.len(), "byte {at}: {report}\n{faults:?}");
            if report.is_clean() {
                assert_eq!(lost, 0, "byte {at}: {report}");
                nothing += 1;
            } else {
                let told: Option<u64> = report.faults.iter().map(|fault| fault.lost_records).sum();
                assert!(told.is_none_or(|told| told == lost), "byte {at}: {report}");
                let place = &report.faults[0];
                assert_eq!(place.segment, path.file_name().unwrap().to_str().unwrap());
                assert!(place.offset <= at && at < place.offset + place.lost_bytes.max(4096), "byte {at}: {report}");
                found += 1;
            }
            flip(path, at);
        }
    }
    // Padding of frames, and of headers.
    assert!(found > 1000 && nothing < found / 10, "{found} {nothing}");
    assert!(verify(dir.path()).unwrap().is_clean());
}

#[test]
fn a_damaged_stretch_is_told_with_what_it_held() {
    let dir = tempfile::tempdir().unwrap();
    let lsns = log(dir.path(), 200);
    let path = &segments(dir.path())[1];
    let inside: Vec<_> = (0..200).filter(|n| lsns[*n].0 > base(path) && lsns[*n].0 < base(path) + 16384).collect();
    let (from, to) = (inside[3], inside[6]);
    let file = fs::File::options().write(true).open(path).unwrap();
    let length = lsns[to].0 - lsns[from].0;
    file.write_all_at(&vec![0xa5; length as usize], lsns[from].0 - base(path)).unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.faults.len(), 1, "{report}");
    let fault = &report.faults[0];
    assert_eq!((fault.lsn, fault.lost_bytes, fault.lost_records), (lsns[from], length, Some(3)), "{report}");
    assert_eq!(fault.beyond, (inside.len() - 6) as u64, "{report}");
    assert_eq!(report.records, 197);
    let (numbers, faults) = yielded(dir.path());
    assert_eq!(numbers, all_but(200, from as u32..to as u32));
    assert_eq!(faults, report.faults);
}

#[test]
fn a_missing_segment_is_a_fault_and_the_others_are_read() {
    for (gone, count) in [(0, 4), (1, 4), (2, 4), (3, 4)] {
        let dir = tempfile::tempdir().unwrap();
        let mut lsns = Vec::new();
        let wal = small().open(dir.path()).unwrap();
        for n in 0..count * 10 {
            lsns.push(wal.append(&payload(n)).unwrap().wait().unwrap());
            if n % 10 == 9 {
                wal.rotate().unwrap();
            }
        }
        wal.close().unwrap();
        let path = segments(dir.path())[gone as usize].clone();
        fs::remove_file(&path).unwrap();
        assert!(small().open(dir.path()).is_err());
        let report = verify(dir.path()).unwrap();
        let lost = gone * 10..gone * 10 + 10;
        let (numbers, faults) = yielded(dir.path());
        assert_eq!(numbers, all_but(40, lost), "segment {gone}: {report}");
        assert_eq!(faults, report.faults);
        assert_eq!(report.faults.len(), 1, "segment {gone}: {report}");
        assert_eq!(report.records, 30);
        if gone < 3 {
            assert_eq!(report.faults[0].lost_records, Some(10));
        }
    }
}

#[test]
fn a_segment_under_anothers_name_gives_no_record_a_wrong_lsn() {
    let dir = tempfile::tempdir().unwrap();
    let lsns = log(dir.path(), 300);
    let paths = segments(dir.path());
    let aside = dir.path().join("aside");
    for (from, to) in [(&paths[1], &aside), (&paths[2], &paths[1]), (&aside, &paths[2])] {
        fs::rename(from, to).unwrap();
    }
    let mut faults = 0;
    for item in frames(dir.path()).unwrap() {
        match item.unwrap() {
            Item::Record(record) => {
                let n = u32::from_le_bytes(record.payload[..4].try_into().unwrap());
                assert_eq!(record.lsn, lsns[n as usize], "{n}");
            }
            _ => faults += 1,
        }
    }
    let report = verify(dir.path()).unwrap();
    let lost: Option<u64> = report.faults.iter().map(|fault| fault.lost_records).sum();
    assert_eq!(lost, Some(lsns.len() as u64 - report.records), "{report}");
    assert!(faults > 0);
}

#[test]
fn every_segment_gone_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 100);
    for path in segments(dir.path()) {
        fs::remove_file(path).unwrap();
    }
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.faults.len(), 1, "{report}");
    assert!(report.faults[0].lost_bytes > 0, "{report}");
    assert_eq!(yielded(dir.path()), (vec![], report.faults));
}

#[test]
fn a_lost_header_loses_no_record() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 100);
    for path in segments(dir.path()) {
        let before = fs::read(&path).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        // Of the newest no other segment knows the seed.
        let last = path == *segments(dir.path()).last().unwrap();
        file.write_all_at(&[0; 4096], 0).unwrap();
        for field in [12..16, 48..56].into_iter().filter(|_| last) {
            file.write_all_at(&before[field.clone()], field.start as u64).unwrap();
        }
        let report = verify(dir.path()).unwrap();
        assert_eq!((report.faults.len(), report.records), (1, 100), "{report}");
        assert_eq!((report.faults[0].offset, report.faults[0].lost_bytes), (0, 0));
        assert_eq!(yielded(dir.path()), (all_but(100, []), report.faults));
        fs::write(&path, before).unwrap();
    }
    assert!(verify(dir.path()).unwrap().is_clean());
}

#[test]
fn a_cut_segment_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 100);
    for path in segments(dir.path()) {
        let before = fs::read(&path).unwrap();
        for length in [0, 100, 4096, 5000, before.len() as u64 - 4] {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(length).unwrap();
            let report = verify(dir.path()).unwrap();
            let (numbers, faults) = yielded(dir.path());
            let fits = length >= before.len() as u64 - 4 && report.is_clean();
            assert!(!report.is_clean() || fits, "cut to {length}: {report}");
            assert_eq!((report.records, &report.faults), (numbers.len() as u64, &faults), "cut to {length}: {report}");
            fs::write(&path, &before).unwrap();
        }
    }
}

#[test]
fn a_torn_tail_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..30 {
        wal.append(&payload(n)).unwrap().wait().unwrap();
    }
    let end = wal.durable_lsn();
    live::copy(dir.path(), copy.path());
    let path = segments(copy.path()).into_iter().rfind(|path| base(path) <= end.0).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0x77; 333], end.0 - base(&path)).unwrap();
    let report = verify(copy.path()).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.records, report.end), (30, end));
    assert_eq!(yielded(copy.path()), (all_but(30, []), vec![]));
    drop(wal);
}

/// Of a tail that may have been durable once nobody was said to have been told so, nor how much lies in it.
#[test]
fn a_torn_tail_is_told_as_far_as_it_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let end = wal.append(&payload(1)).unwrap().wait().unwrap();
    let batch: Vec<_> = (2..7).map(payload).collect();
    let torn = wal.append_batch(&batch[..1]).unwrap().lsn();
    drop(wal.append_batch(&batch[1..]).unwrap());
    let mark = fs::read(dir.path().join("MARK")).unwrap();
    wal.sync().unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::copy(&segments(dir.path())[0], copy.path().join(format!("{:020}.wal", 0))).unwrap();
    flip(&segments(copy.path())[0], torn.0 + 24);
    let tell = || {
        let report = verify(copy.path()).unwrap();
        assert!(report.is_clean() && report.end == torn && end < torn, "{report}");
        let what = "of which nothing says that it was durable";
        let told = format!("torn tail at LSN {torn}, {what}; beyond it: 4 valid records");
        assert!(report.notes.contains(&told), "{report}");
    };
    tell();
    fs::write(copy.path().join("MARK"), mark).unwrap();
    tell();
}

#[test]
fn what_is_no_log_or_newer_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(*verify(dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(*verify(dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(*frames(dir.path()).unwrap_err().kind(), ErrorKind::NotFound);
    log(dir.path(), 10);
    let path = &segments(dir.path())[0];
    let mut header = fs::read(path).unwrap()[..72].to_vec();
    header[8] = 2;
    let sum = crc32fast::hash(&[&header[..12], &header[16..]].concat());
    header[12..16].copy_from_slice(&sum.to_le_bytes());
    fs::File::options().write(true).open(path).unwrap().write_all_at(&header, 0).unwrap();
    assert_eq!(*verify(dir.path()).unwrap_err().kind(), ErrorKind::TooNew);
    assert_eq!(*frames(dir.path()).unwrap_err().kind(), ErrorKind::TooNew);
}

#[test]
fn progress_ends_at_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 2000);
    for threads in [1, 3] {
        let (bytes, total, records) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let progress = |progress: Progress| {
            bytes.fetch_max(progress.bytes, Ordering::Relaxed);
            total.store(progress.total_bytes, Ordering::Relaxed);
            records.fetch_max(progress.records, Ordering::Relaxed);
            ControlFlow::Continue(())
        };
        assert!(Verify::new().threads(threads).progress(&progress).run(dir.path()).unwrap().is_clean());
        let (bytes, total) = (bytes.into_inner(), total.into_inner());
        assert!(total > 0 && bytes == total, "{bytes} of {total}");
        assert_eq!(records.into_inner(), 2000);
    }
}

#[test]
fn a_verification_is_cancelled_by_whoever_is_told_of_its_progress() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 2000);
    for threads in [1, 4] {
        let (calls, done) = (AtomicU64::new(0), AtomicU64::new(0));
        let progress = |progress: Progress| {
            done.fetch_max(progress.bytes, Ordering::Relaxed);
            if calls.fetch_add(1, Ordering::Relaxed) == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let error = Verify::new().threads(threads).progress(&progress).run(dir.path()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Cancelled);
        let all: u64 = segments(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(done.into_inner() < all / 2, "it went on");
    }
}

#[test]
fn frames_tell_how_far_they_are_and_begin_where_they_are_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let lsns = log(dir.path(), 300);
    let mut all = frames(dir.path()).unwrap();
    let total = all.progress().total_bytes;
    assert_eq!(total, verify(dir.path()).unwrap().bytes);
    let (mut before, mut count) = (0, 0);
    while let Some(item) = all.next() {
        assert!(matches!(item.unwrap(), Item::Record(_)));
        count += 1;
        let progress = all.progress();
        assert!(progress.bytes > before && progress.total_bytes == total && progress.records == count);
        before = progress.bytes;
    }
    assert_eq!((all.progress().bytes, count), (total, 300));
    // Damage before is not told, and the bytes before not read.
    flip(&segments(dir.path())[0], 5000);
    for n in [150, 299] {
        let mut some = frames(dir.path()).unwrap().starting_at(lsns[n]);
        let left = some.progress().total_bytes;
        assert!(left < total * (300 - n as u64) / 300 + (16 << 10), "{left} of {total}");
        for lsn in &lsns[n..] {
            let Some(Ok(Item::Record(record))) = some.next() else { panic!("{lsn}") };
            assert_eq!(record.lsn, *lsn);
        }
        assert!(some.next().is_none());
    }
    assert!(frames(dir.path()).unwrap().starting_at(Lsn::MAX).next().is_none());
}

/// A copy under another name in another place, as somebody would send it.
fn lone(path: &Path, dir: &Path) -> PathBuf {
    let copy = dir.join("sent-by-mail.bin");
    fs::copy(path, &copy).unwrap();
    copy
}

#[test]
fn a_lone_segment_is_verified_and_read_by_its_own_header() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    log(dir.path(), 300);
    let (mut next, paths) = (0, segments(dir.path()));
    for path in &paths {
        let copy = lone(path, elsewhere.path());
        let report = verify(&copy).unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.segments, report.first), (1, Lsn(base(path))));
        assert!(report.notes[0].contains("read on its own"), "{report}");
        let (numbers, faults) = yielded(&copy);
        assert_eq!((numbers.len() as u64, faults), (report.records, vec![]));
        assert!(numbers.iter().copied().eq(next..next + numbers.len() as u32));
        next += numbers.len() as u32;
    }
    assert_eq!(next, 300);
    // Each damaged place that a valid record follows, although nothing in the file says that it was durable.
    let copy = lone(&paths[1], elsewhere.path());
    let whole = yielded(&copy).0;
    flip(&copy, fs::metadata(&copy).unwrap().len() / 2);
    let report = verify(&copy).unwrap();
    assert_eq!((report.faults.len(), report.faults[0].lost_records), (1, Some(1)), "{report}");
    assert_eq!(report.faults[0].segment, "sent-by-mail.bin");
    let (numbers, faults) = yielded(&copy);
    assert_eq!((numbers.len(), faults), (whole.len() - 1, report.faults));
    // Its header is damaged: then the name tells, if it is one.
    let copy = lone(&paths[1], elsewhere.path());
    flip(&copy, 50);
    assert_eq!(*verify(&copy).unwrap_err().kind(), ErrorKind::NotFound);
    let named = copy.with_file_name(paths[1].file_name().unwrap().to_str().unwrap().to_owned() + ".aside.2");
    fs::rename(&copy, &named).unwrap();
    let report = verify(&named).unwrap();
    assert_eq!((report.faults.len(), report.records), (1, whole.len() as u64), "{report}");
    assert_eq!(yielded(&named).0, whole);
}

#[test]
fn a_lone_segment_that_was_cut_or_never_used_is_no_error() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    log(dir.path(), 300);
    let copy = lone(&segments(dir.path())[1], elsewhere.path());
    let whole = verify(&copy).unwrap();
    let file = fs::File::options().write(true).open(&copy).unwrap();
    file.set_len(fs::metadata(&copy).unwrap().len() / 2).unwrap();
    let report = verify(&copy).unwrap();
    assert!(report.is_clean() && report.records < whole.records && report.records > 0, "{report}");
    file.set_len(4096).unwrap();
    let report = verify(&copy).unwrap();
    assert!(report.is_clean() && (report.records, report.segments) == (0, 1), "{report}");
    assert_eq!(yielded(&copy), (vec![], vec![]));
    file.set_len(0).unwrap();
    assert_eq!(*verify(&copy).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_live_log_has_no_faults() {
    let dir = tempfile::tempdir().unwrap();
    let wal: Wal = small().open(dir.path()).unwrap();
    let stop = AtomicBool::new(false);
    wal.append(&payload(0)).unwrap().wait().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1.. {
                let ticket = wal.append(&payload(n)).unwrap();
                if n % 5 == 0 {
                    ticket.wait().unwrap();
                }
                if n % 200 == 0 {
                    let newest = wal.durable_lsn().0;
                    wal.clean_before_lsn(Lsn(newest.saturating_sub(40 << 10))).unwrap();
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _stops = Stops(&stop);
        let (mut seen, mut looks) = (0, 0);
        // Long enough for the writer to have cleaned twice, however slow the disk.
        while looks < 60 || seen <= 400 {
            looks += 1;
            let durable = wal.durable_lsn();
            let report = verify(dir.path()).unwrap();
            assert!(report.is_clean(), "{report}");
            assert!(report.end >= durable, "{report}; {durable} was durable");
            let (numbers, faults, removed) = yielded_beside_a_writer(dir.path());
            assert_eq!(faults, vec![]);
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
            let span = (numbers.first(), numbers.last(), numbers.len());
            assert!(removed > 0 || numbers.last().copied().unwrap_or(0) >= seen, "{span:?} after {seen}: {report}");
            seen = seen.max(numbers.last().copied().unwrap_or(0));
        }
    });
}

/// The records were given to nobody, and that they had been there was not said.
#[test]
fn what_is_cleaned_before_any_of_it_is_read_is_said_to_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let go_on = || {
        (0..3).for_each(|n| _ = wal.append(&payload(n)).unwrap().wait().unwrap());
        wal.rotate().unwrap();
        wal.clean_before_lsn(Lsn::MAX).unwrap().first
    };
    go_on();
    let mut idle = frames(dir.path()).unwrap();
    let mut overtaken = frames(dir.path()).unwrap();
    let end = overtaken.end();
    assert!(idle.next().is_none());
    let front = go_on();
    let Item::Removed { from, first } = overtaken.next().unwrap().unwrap() else { panic!("no record is left") };
    assert!((from, first) == (end, front) && overtaken.next().is_none());
}

/// Links of neighbours, each the only one to tell of the segment before it: nothing but its frames says that the lower
/// one is part of the log.
#[test]
fn two_neighbouring_links_lost_lose_no_record() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 100);
    let paths = segments(dir.path());
    for n in 1..paths.len() - 1 {
        for some in [&paths[n..n + 2], &paths[n - 1..n + 2]] {
            let before: Vec<_> = some.iter().map(|path| fs::read(path).unwrap()).collect();
            for path in some {
                flip(path, 4096 + 30);
            }
            let report = verify(dir.path()).unwrap();
            assert_eq!((report.records, report.first), (100, seawall::Lsn(0)), "{report}");
            assert!(report.faults.iter().all(|fault| fault.lost_records == Some(0) || fault.lost_bytes <= 96));
            assert_eq!(yielded(dir.path()), (all_but(100, []), report.faults));
            some.iter().zip(before).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        }
    }
    assert!(verify(dir.path()).unwrap().is_clean());
}

#[test]
fn a_segment_of_another_place_is_not_read_by_its_damaged_header() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 100);
    let paths = segments(dir.path());
    let (first, last) = (&paths[0], paths.last().unwrap());
    let mut bytes = fs::read(first).unwrap();
    bytes[64] ^= 1;
    fs::write(last, bytes).unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(!report.is_clean() && report.records < 100, "{report}");
    let (shown, _) = yielded(dir.path());
    assert!(shown.windows(2).all(|pair| pair[0] < pair[1]), "the first records came again: {shown:?}");
}

#[test]
fn what_is_not_known_durable_is_counted_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    let held = Options::new().open_read_only(dir.path()).unwrap().durable_lsn();
    wal.close().unwrap();
    let wal = Options::new().segment_size(16 << 10).durability(seawall::Durability::Os).open(dir.path()).unwrap();
    wal.append_batch(&[b"a", b"b"]).unwrap().wait().unwrap();
    wal.append(b"c").unwrap().wait().unwrap();
    fs::remove_file(dir.path().join("MARK")).unwrap();
    let mut all = frames(dir.path()).unwrap();
    assert_eq!(all.by_ref().filter(|item| matches!(item, Ok(Item::Record(_)))).count(), 1);
    assert_eq!((all.end(), all.unproven()), (held, 3));
    assert!(all.notes().iter().any(|note| note.contains("MARK: missing")), "{:?}", all.notes());
}

/// What a writer wrote since was told as if it were for somebody to make durable.
#[test]
fn what_a_writer_went_on_with_is_not_counted_as_unproven() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    let mut all = frames(dir.path()).unwrap();
    wal.append(b"second").unwrap().wait().unwrap();
    assert_eq!(all.by_ref().count(), 1);
    assert_eq!(all.unproven(), 0);
}

/// With `Durability::Os` MARK says what was written, and a power cut may leave less of it. That is no damage.
#[cfg(feature = "sim")]
#[test]
fn what_was_only_written_may_be_gone_after_a_power_cut() {
    use seawall::sim::{Disk, Keep, Unit};
    let disk = Disk::new(1);
    let options = small().durability(seawall::Durability::Os);
    let wal = options.open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    wal.sync().unwrap();
    for length in [8000, 7000] {
        wal.append_checkpoint(&vec![7; length]).unwrap().wait().unwrap();
    }
    let left = disk.fork();
    disk.crash_at(0);
    drop(wal);
    left.crash(Keep::Choose(&mut |unit: &Unit| matches!(unit, Unit::Sector { file, .. } if file == "MARK")));
    let verified = || Verify::new().run_on(left.mount()).unwrap();
    assert!(verified().is_clean(), "{}", verified());
    let wal = options.open_on(left.mount()).unwrap();
    assert!(verified().is_clean(), "{}", verified());
    wal.close().unwrap();
    assert!(verified().is_clean(), "{}", verified());
}

/// It was told although a writer had dropped it, and gone on.
#[cfg(feature = "sim")]
#[test]
fn a_torn_tail_is_not_told_where_a_writer_has_gone_on() {
    use seawall::check::frames_on;
    use seawall::sim::Disk;
    let disk = Disk::new(1);
    let options = small().durability(seawall::Durability::Os);
    let wal = options.open_on(disk.mount()).unwrap();
    let lsns: Vec<_> = (0..9).map(|n| wal.append(&payload(n)).unwrap().wait().unwrap()).collect();
    disk.kill();
    drop(wal);
    let name = disk.names().into_iter().find(|name| name.starts_with("00000000000000000000")).unwrap();
    let mut bytes = disk.file(&name).unwrap();
    bytes[lsns[6].0 as usize + 26] ^= 1;
    disk.put(&name, bytes);
    let told = |notes: &[String]| notes.iter().any(|note| note.starts_with("torn tail at LSN"));
    let [mut idle, mut live] = [(); 2].map(|()| frames_on(disk.mount()).unwrap());
    assert_eq!((idle.by_ref().count(), told(idle.notes())), (6, true));
    let wal = options.open_on(disk.mount()).unwrap();
    wal.append(b"after").unwrap().wait().unwrap();
    wal.sync().unwrap();
    live.by_ref().for_each(|item| _ = item.unwrap());
    assert!(!told(live.notes()), "{:?}", live.notes());
}

/// What a wrong hand appended says nothing of the log.
#[test]
fn a_segment_longer_than_it_was_made_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 100);
    let paths = segments(dir.path());
    fs::File::options().write(true).open(&paths[0]).unwrap().set_len(1 << 20).unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.notes.iter().any(|note| note.contains("it was made with")), "{report}");
}

#[test]
fn a_newest_segment_that_has_grown_is_told_beside_another_fault() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 100);
    let paths = segments(dir.path());
    flip(&paths[0], 6000);
    let last = fs::File::options().write(true).open(paths.last().unwrap()).unwrap();
    last.set_len(last.metadata().unwrap().len() + 40).unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.faults.len(), 2, "{report}");
    assert!(report.faults[1].what.contains("appended to the file"), "{report}");
}

/// The same where the link above survived, and tells of a segment that lost all its frames.
#[cfg(feature = "sim")]
#[test]
fn a_segment_that_lost_all_its_frames_is_no_damage_where_nothing_was_durable() {
    use seawall::sim::{Disk, Keep};
    let options = small().durability(seawall::Durability::Os);
    for (closes, seed) in (0..200).flat_map(|seed| [(false, seed), (true, seed)]) {
        let disk = Disk::new(1);
        let wal = options.open_on(disk.mount()).unwrap();
        wal.append(&[1; 3000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
        wal.append(&[2; 3000]).unwrap().wait().unwrap();
        disk.crash_at(0);
        drop(wal);
        disk.crash(Keep::Random(seed));
        let wal = options.open_on(disk.mount()).unwrap();
        if closes {
            wal.close().unwrap();
        }
        drop(wal);
        let report = Verify::new().run_on(disk.mount()).unwrap();
        assert!(report.is_clean(), "{seed} {closes}: {report}");
    }
}

/// A cleaned log of five segments with four records each, and one with one; the names of its segments.
fn cleaned(dir: &Path) -> Vec<PathBuf> {
    let wal = small().open(dir).unwrap();
    let mut lsns = Vec::new();
    for n in 0..20 {
        lsns.push(wal.append(&[n / 4; 2000]).unwrap().wait().unwrap());
        if n % 4 == 3 {
            wal.rotate().unwrap();
        }
    }
    wal.append(b"newest").unwrap().wait().unwrap();
    wal.clean_before_lsn(lsns[4]).unwrap();
    wal.close().unwrap();
    // What was cleaned may be kept as a spare.
    segments(dir).into_iter().filter(|path| base(path) >= lsns[4].0 - 2 * 4096).collect()
}

#[test]
fn the_first_segment_gone_below_a_damaged_link_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let segments = cleaned(dir.path());
    fs::remove_file(&segments[0]).unwrap();
    flip(&segments[1], 4130);
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.first.0, base(&segments[0]));
    let [gone, link] = &report.faults[..] else { panic!("{report}") };
    assert_eq!((gone.lsn.0, gone.lost_records), (base(&segments[0]), None));
    assert_eq!(gone.lost_bytes, base(&segments[1]) - base(&segments[0]) - 4096);
    assert_eq!((link.lsn.0, link.lost_records), (base(&segments[1]) + 4096, Some(0)));
}

#[test]
fn the_last_record_before_a_damaged_link_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let segments = cleaned(dir.path());
    let newest = segments.len() - 1;
    flip(&segments[newest], 4130);
    let last = 4096 + 24 + 80 + 3 * 2024;
    flip(&segments[newest - 1], last + 500);
    let damage = |item| if let Item::Damage(fault) = item { Some(fault) } else { None };
    let faults: Vec<Fault> = frames(dir.path()).unwrap().filter_map(|item| damage(item.unwrap())).collect();
    let [record, link] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!((record.lsn.0, record.lost_bytes), (base(&segments[newest - 1]) + last, 2024));
    // Whether it was the last, only the link told, and whether it was dropped as a torn tail before that was made.
    assert_eq!((record.lost_records, link.lost_records), (None, None));
}

#[test]
fn what_cannot_be_known_is_not_said_to_be_nothing() {
    let dir = tempfile::tempdir().unwrap();
    cleaned(dir.path());
    fs::remove_file(dir.path().join("MARK")).unwrap();
    let report = verify(dir.path()).unwrap();
    let [cut] = &report.faults[..] else { panic!("{report}") };
    assert_eq!((cut.lost_bytes, cut.lost_records), (0, None));
    assert!(cut.to_string().contains("lost: nothing that is known of"), "{cut}");
}

/// Zeros over the header and the link of the newest segment, beside a lost MARK: it was said that it never held a record,
/// although whole ones lie behind.
#[test]
fn a_segment_that_holds_more_than_zeros_is_not_said_to_be_empty() {
    for (count, wiped) in [(30, 8192), (30, u64::MAX), (250, 8192), (250, u64::MAX)] {
        let temp = tempfile::tempdir().unwrap();
        log(temp.path(), count);
        let newest = segments(temp.path()).pop().unwrap();
        let mut bytes = fs::read(&newest).unwrap();
        let wiped = usize::try_from(wiped).unwrap().min(bytes.len());
        let empty = wiped == bytes.len();
        bytes[..wiped].fill(0);
        fs::write(&newest, bytes).unwrap();
        fs::remove_file(temp.path().join("MARK")).unwrap();
        let told = |report: &seawall::check::Report| report.faults.iter().map(|fault| fault.lost_records).sum();
        let lost: Option<u64> = told(&verify(temp.path()).unwrap());
        assert_eq!(lost, empty.then_some(0), "{count} {empty}");
        let plan = Repair::new().run(temp.path()).unwrap();
        assert_eq!(plan.lost_records, lost, "{plan}");
        let aside = newest.with_extension("wal.aside");
        let report = verify(temp.path()).unwrap();
        let name = aside.file_name().unwrap().to_str().unwrap();
        let unknown = |note: &String| note.contains(name) && note.contains("what it holds cannot be told");
        assert_eq!(report.notes.iter().any(unknown), !empty, "{report}");
        assert_eq!(told(&verify(&aside).unwrap()), lost, "{name} on its own");
    }
}

/// Only the newest link told of the segment before it, and that one is gone too: it was said that nothing was lost.
#[test]
fn what_only_the_newest_link_would_tell_is_not_said_to_be_nothing() {
    for missing in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let lsns = log(temp.path(), 250);
        let files = segments(temp.path());
        let [.., before, newest] = &files[..] else { panic!() };
        // A byte of the link's payload.
        flip(newest, 4096 + 24 + 30);
        let held = lsns.iter().filter(|lsn| (base(before)..base(newest)).contains(&lsn.0)).count() as u64;
        if missing {
            fs::remove_file(before).unwrap();
        }
        let report = verify(temp.path()).unwrap();
        assert_eq!(report.faults.len(), 1, "{report}");
        assert_eq!(report.faults[0].lost_records, None, "{report}");
        assert_eq!(report.records, 250 - if missing { held } else { 0 });
        let plan = Repair::new().run(temp.path()).unwrap();
        assert_eq!((plan.lost_records, plan.kept_records), (report.faults[0].lost_records, report.records));
        assert!(verify(temp.path()).unwrap().is_clean());
    }
}

/// What is left to read from a log of twenty segments with four records each, of which `read` records are read before it
/// is cleaned up to record `clean`, and the files cleaned are overwritten: the records, and what was removed.
fn overtaken(read: usize, clean: usize) -> (Vec<Lsn>, Vec<Lsn>, Vec<(Lsn, Lsn)>) {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let mut lsns = Vec::new();
    let append = |lsns: &mut Vec<Lsn>| {
        for n in 0..4 {
            lsns.push(wal.append(&[n; 2000]).unwrap().wait().unwrap());
        }
        wal.rotate().unwrap();
    };
    for _ in 0..20 {
        append(&mut lsns);
    }
    let mut all = frames(dir.path()).unwrap();
    for lsn in &lsns[..read] {
        let item = all.next().unwrap().unwrap();
        assert!(matches!(&item, Item::Record(record) if record.lsn == *lsn), "{item:?}");
    }
    while lsns.len() <= clean {
        append(&mut lsns);
    }
    let names: Vec<_> = segments(dir.path()).into_iter().filter(|path| base(path) < lsns[clean].0 - 8000).collect();
    let files: Vec<_> = names.iter().map(|path| fs::File::options().write(true).open(path).unwrap()).collect();
    wal.clean_before_lsn(lsns[clean]).unwrap();
    // As if all of them held newer segments: how many become so is the writer's choice.
    for file in files {
        file.write_all_at(&[0; 10_000], 4096).unwrap();
    }
    append(&mut lsns);
    let (mut left, mut removed) = (Vec::new(), Vec::new());
    for item in all {
        match item.unwrap() {
            Item::Record(record) => left.push(record.lsn),
            Item::Removed { from, first } => removed.push((from, first)),
            item => panic!("{item:?}"),
        }
    }
    lsns.truncate(80);
    (lsns, left, removed)
}

#[test]
fn a_reader_that_cleaning_overtakes_is_told_what_it_missed() {
    let (lsns, left, removed) = overtaken(8, 40);
    let [(from, first)] = removed[..] else { panic!("{removed:?}") };
    // It may hold bytes that it read before.
    assert!(lsns[7] < from && from <= lsns[8], "{from}, {first}");
    assert!(lsns[39] < first && first < lsns[40], "{from}, {first}");
    assert_eq!(left, lsns[40..]);
}

#[test]
fn a_reader_is_told_of_no_cleaning_of_what_it_had_read() {
    let (lsns, left, removed) = overtaken(8, 8);
    assert_eq!((left, removed), (lsns[8..].to_vec(), vec![]));
}

#[test]
fn a_reader_of_which_all_is_cleaned_is_told_up_to_its_end() {
    for clean in [76, 88] {
        let (lsns, left, removed) = overtaken(0, clean);
        let [(from, first)] = removed[..] else { panic!("{removed:?}") };
        assert!(from <= lsns[0] && first > lsns[clean.min(80) - 1], "{from}, {first}");
        assert_eq!(left, lsns[clean.min(80)..]);
    }
}

/// Of the newest record nobody could tell how many it was, though its header holds and it is all that is lost.
#[test]
fn the_newest_record_with_a_damaged_payload_is_one_record() {
    let temp = tempfile::tempdir().unwrap();
    // As a killed process leaves it: behind the record are zeros.
    let wal = small().open(temp.path()).unwrap();
    let lsn = wal.append(&[b'.'; 100]).unwrap().wait().unwrap();
    wal.sync().unwrap();
    let copy = tempfile::tempdir().unwrap();
    live::copy(temp.path(), copy.path());
    flip(&copy.path().join("00000000000000000000.wal"), lsn.0 + 30);
    let report = verify(copy.path()).unwrap();
    let [fault] = &report.faults[..] else { panic!("{report}") };
    assert_eq!((fault.lsn, fault.lost_bytes, fault.lost_records), (lsn, 124, Some(1)), "{report}");
    assert_eq!(Repair::new().plan(copy.path()).unwrap().lost_records, Some(1));
}

/// A fault was placed in a file that nothing is wrong with, where the one before or behind it is.
#[test]
fn no_fault_is_placed_in_a_sound_file() {
    type Hurt = fn(&[PathBuf]);
    let hurts: [(&str, &[usize], Hurt); 4] = [
        ("one missing, and the link that named it", &[2, 3], |files| {
            fs::remove_file(&files[2]).unwrap();
            flip(&files[3], 4096 + 30);
        }),
        ("the newest missing", &[5], |files| fs::remove_file(&files[5]).unwrap()),
        ("the newest emptied", &[5], |files| fs::write(&files[5], "").unwrap()),
        ("the newest without its header, and cut", &[5], |files| {
            flip(&files[5], 20);
            fs::File::options().write(true).open(&files[5]).unwrap().set_len(6000).unwrap();
        }),
    ];
    for (what, damaged, hurt) in hurts {
        let temp = tempfile::tempdir().unwrap();
        log(temp.path(), 300);
        let files = segments(temp.path());
        assert_eq!(files.len(), 6);
        hurt(&files);
        let report = verify(temp.path()).unwrap();
        assert!(!report.is_clean());
        let damaged: Vec<_> = damaged.iter().map(|n| files[*n].file_name().unwrap().to_str().unwrap()).collect();
        let sound = |fault: &&Fault| !fault.segment.is_empty() && !damaged.contains(&fault.segment.as_str());
        assert_eq!(report.faults.iter().find(sound), None, "{what}: {report}");
        // Nor is anything said of a file that is not there but that.
        let note = report.notes.iter().find(|note| note.contains("which is damaged,"));
        assert_eq!(note, None, "{what}: {report}");
    }
}

/// Under another name, with another base in its damaged header, a segment's records were shown there.
#[test]
fn a_damaged_header_under_another_name_gives_no_record_a_wrong_lsn() {
    let temp = tempfile::tempdir().unwrap();
    let lsns = log(temp.path(), 300);
    let newest = segments(temp.path()).pop().unwrap();
    flip(&newest, 50);
    fs::rename(&newest, temp.path().join("00000000000099999744.wal")).unwrap();
    for item in frames(temp.path()).unwrap() {
        if let Item::Record(record) = item.unwrap() {
            assert!(lsns.contains(&record.lsn), "{}", record.lsn);
        }
    }
    assert!(!verify(temp.path()).unwrap().is_clean());
}

/// Each place was looked for among all of them.
#[test]
fn many_damaged_places_take_time_in_proportion() {
    const PAYLOAD: usize = 16;
    let time = |records: u64| {
        let dir = tempfile::tempdir().unwrap();
        let wal = Options::new().segment_size(16 << 20).open(dir.path()).unwrap();
        let first = wal.append(&[7; PAYLOAD]).unwrap().lsn();
        (1..records).for_each(|_| drop(wal.append(&[7; PAYLOAD]).unwrap()));
        wal.close().unwrap();
        let path = segments(dir.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let written = bytes[first.0 as usize..].chunks_mut(24 + PAYLOAD);
        written.take(records as usize).step_by(2).for_each(|frame| frame[30] ^= 1);
        fs::write(&path, bytes).unwrap();
        let once = || {
            let begun = Instant::now();
            let damaged = verify(dir.path()).unwrap().faults.len();
            let met = frames(dir.path()).unwrap().filter(|item| matches!(item, Ok(Item::Damage(_)))).count();
            let found = Salvage::new().run(&[dir.path()]).unwrap().logs().iter().map(|log| log.records).sum::<u64>();
            assert_eq!((damaged, met, found), (records as usize / 2, records as usize / 2, records / 2));
            begun.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    // Others on the machine slow one down and not the other: with the square it would be 256 times each time.
    let tries: Vec<_> =
        (0..5).map(|_| (time(10_000), time(160_000))).take_while(|(few, many)| *many >= *few * 48).collect();
    assert!(tries.len() < 5, "10 000 records and 160 000: {tries:?}");
}
