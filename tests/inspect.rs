//! What `check::inspect` sees of a log, and why each segment is kept, on real files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seawall::check::{MarkState, Overview, Repair, State, inspect, verify};
use seawall::{BatchTime, ErrorKind, Lsn, Options, Wal, Why};

#[path = "common/stops.rs"]
mod stops;

use stops::Stops;

/// A log of five segments and more, each record under its number as batch time.
fn log(dir: &Path, records: u64) -> Wal {
    let wal = Options::new().segment_size(16 << 10).open(dir).unwrap();
    for n in 0..records {
        drop(wal.at(n).append(&[b'.'; 300]).unwrap());
    }
    wal.sync().unwrap();
    wal
}

fn states(overview: &Overview) -> Vec<State> {
    overview.segments.iter().map(|segment| segment.state.clone()).collect()
}

/// Why each segment of the log is kept, as it says itself and as the writer does.
fn kept(overview: &Overview) -> Vec<(String, Why)> {
    let log = overview.segments.iter().filter(|segment| segment.is_log());
    log.map(|segment| (segment.file.clone(), segment.kept.clone().unwrap())).collect()
}

fn kept_by_the_writer(wal: &Wal) -> Vec<(String, Why)> {
    wal.kept().into_iter().map(|kept| (kept.segment, kept.why)).collect()
}

fn path(dir: &Path, overview: &Overview, n: usize) -> PathBuf {
    dir.join(&overview.segments[n].file)
}

#[test]
fn an_overview_has_each_segment_with_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let wal = log(dir.path(), 200);
    let checkpoint = wal.append_checkpoint(b"state").unwrap().wait().unwrap();
    wal.close().unwrap();
    let overview = inspect(dir.path()).unwrap();
    assert_eq!((overview.records, overview.first, overview.checkpoint), (201, Lsn(0), Some(checkpoint)));
    assert_eq!((overview.durable, overview.mark), (wal.durable_lsn(), MarkState::Sound));
    assert_eq!(overview.log_id, Some(wal.log_id()));
    assert_eq!(overview.since_checkpoint, overview.durable.0 - checkpoint.0);
    assert!(overview.faults.is_empty() && overview.foreign.is_empty() && overview.aside.is_empty());
    let log: Vec<_> = overview.segments.iter().filter(|segment| segment.is_log()).collect();
    assert!(log.len() > 4);
    let mut next = 0;
    for (n, segment) in log.iter().enumerate() {
        let newest = n + 1 == log.len();
        assert_eq!(segment.state, if newest { State::Active } else { State::Sealed });
        assert_eq!(segment.length, fs::metadata(dir.path().join(&segment.file)).unwrap().len());
        assert_eq!(segment.capacity, Some(16 << 10));
        let records = segment.records.unwrap();
        let last = if newest { 199 } else { next + records - 1 };
        assert_eq!(segment.batch_times, Some((BatchTime(next), BatchTime(last))));
        assert!(segment.end > Some(segment.base) && segment.end <= Some(overview.durable));
        next += records;
    }
    assert_eq!(next, 201);
    let files = fs::read_dir(dir.path()).unwrap();
    assert_eq!(overview.disk_bytes, files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>());
    let prepared = overview.segments.len() - log.len();
    assert_eq!(states(&overview).iter().filter(|state| **state == State::Prepared).count(), prepared);
}

#[test]
fn each_segment_says_why_it_is_kept_to_others_as_to_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    let wal = log(dir.path(), 200);
    let same = || {
        wal.sync().unwrap();
        let seen = kept(&inspect(dir.path()).unwrap());
        assert_eq!(seen, kept_by_the_writer(&wal));
        seen
    };
    let free = same();
    assert!(free.len() > 4 && free[..free.len() - 1].iter().all(|(_, why)| *why == Why::NotCleaned), "{free:?}");
    assert_eq!(free.last().unwrap().1, Why::Newest);

    let cursor = wal.cursor("billing").unwrap();
    let second: Lsn = Lsn(free[1].0[..20].parse().unwrap());
    cursor.release(Lsn(second.0 + 5000)).unwrap();
    let held = same();
    assert_eq!(held[0].1, Why::NotCleaned);
    assert_eq!(held[1].1, Why::Cursor { name: "billing".into(), lsn: Lsn(second.0 + 5000) });
    let overview = inspect(dir.path()).unwrap();
    let info = &overview.cursors[0];
    assert_eq!((info.name.as_str(), info.lsn), ("billing", Lsn(second.0 + 5000)));
    let sealed: u64 = overview.segments[1..held.len() - 1].iter().map(|segment| segment.length).sum();
    assert_eq!(info.holds, sealed);
    let left: u64 = wal.read(info.lsn..).unwrap().map(|record| record.unwrap()).map(|r| r.end().0 - r.lsn.0).sum();
    assert!(info.lag >= left && info.lag < left + 6 * 200 + 324, "{} {left}", info.lag);

    // What a clean would do is what was said.
    let cleaned = wal.clean_before_lsn(wal.durable_lsn()).unwrap();
    assert_eq!(cleaned.removed, [free[0].0.clone()]);
    assert_eq!(cleaned.kept[0].why, held[1].1);
    cursor.remove().unwrap();
    same();
    assert!(inspect(dir.path()).unwrap().cursors.is_empty());
    wal.append_checkpoint(b"").unwrap().wait().unwrap();
    let lsn = wal.checkpoint().unwrap().unwrap().lsn;
    for n in 0..100 {
        drop(wal.at(n).append(&[b'.'; 300]).unwrap());
    }
    let held = same();
    assert!(held.iter().any(|(_, why)| *why == Why::Checkpoint(lsn)), "{held:?}");
}

#[test]
fn what_is_no_part_of_the_log_is_told_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = log(dir.path(), 200);
    wal.clean_before_lsn(Lsn(30 << 10)).unwrap();
    let first = wal.kept()[0].segment.clone();
    wal.close().unwrap();
    let before = inspect(dir.path()).unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::copy(dir.path().join(&first), dir.path().join(format!("{:020}.wal", 0))).unwrap();
    fs::copy(dir.path().join(&first), dir.path().join(format!("{first}.aside"))).unwrap();
    let overview = inspect(dir.path()).unwrap();
    let names: Vec<_> = overview.foreign.iter().map(|file| (file.name.as_str(), file.length)).collect();
    assert_eq!(names, [("notes.txt", 4), ("sub", 0)]);
    assert_eq!(overview.aside[0].name, format!("{first}.aside"));
    assert_eq!((overview.segments[0].state.clone(), overview.segments[0].kept.clone()), (State::Spare, None));
    assert_eq!(kept(&overview), kept(&before));
    assert_eq!((overview.records, overview.first), (before.records, before.first));
    assert!(overview.records < 200 && overview.appended == 200);
    let files = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap());
    let ours = files.filter(|file| !names.iter().any(|(name, _)| file.file_name() == *name));
    assert_eq!(overview.disk_bytes, ours.map(|file| file.metadata().unwrap().len()).sum::<u64>());
    fs::remove_file(dir.path().join("MARK")).unwrap();
    assert_eq!(inspect(dir.path()).unwrap().mark, MarkState::Missing);
    fs::write(dir.path().join("MARK"), [1; 8192]).unwrap();
    assert_eq!(inspect(dir.path()).unwrap().mark, MarkState::Damaged);
}

#[test]
fn what_is_damaged_or_missing_is_a_state_and_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), 200).close().unwrap();
    let sound = inspect(dir.path()).unwrap();
    let second = path(dir.path(), &sound, 1);
    let file = fs::File::options().write(true).open(path(dir.path(), &sound, 2)).unwrap();
    file.write_all_at(&[1], 20).unwrap();
    fs::remove_file(&second).unwrap();
    let overview = inspect(dir.path()).unwrap();
    assert_eq!(overview.segments.len(), sound.segments.len());
    assert_eq!((overview.segments[1].state.clone(), overview.segments[1].length), (State::Missing, 0));
    assert_eq!(overview.segments[1].records, sound.segments[1].records);
    assert!(matches!(&overview.segments[2].state, State::Damaged(what) if what.contains("header")));
    assert_eq!(overview.segments[2].records, sound.segments[2].records);
    assert_eq!(overview.faults.len(), 2, "{:?}", overview.faults);
    assert_eq!(overview.records, sound.records - sound.segments[1].records.unwrap());
}

/// It was said that there are no cursors and no checkpoint, where only the link told of them.
#[test]
fn what_only_a_damaged_link_tells_is_not_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let wal = log(dir.path(), 20);
    let checkpoint = wal.append_checkpoint(b"state").unwrap().wait().unwrap();
    drop(wal.cursor("reader").unwrap());
    wal.rotate().unwrap();
    wal.append(b"in the newest").unwrap().wait().unwrap();
    wal.close().unwrap();
    let note = |overview: &Overview| overview.notes.iter().any(|note| note.contains("where the cursors stand"));
    let sound = inspect(dir.path()).unwrap();
    assert_eq!((sound.checkpoint, sound.cursors.len(), note(&sound)), (Some(checkpoint), 1, false));
    let newest = sound.segments.iter().rfind(|segment| segment.is_log()).unwrap();
    let file = fs::File::options().write(true).open(dir.path().join(&newest.file)).unwrap();
    file.write_all_at(&[0xff], 4096 + 24 + 30).unwrap();
    let damaged = inspect(dir.path()).unwrap();
    assert_eq!((damaged.checkpoint, damaged.cursors.len(), note(&damaged)), (None, 0, true));
}

/// Behind one damaged record the newest segment seemed to end: cursors were gone, segments that they held were said to be
/// free to go, and fewer records to have been appended.
#[test]
fn what_lies_behind_a_damaged_record_of_the_newest_segment_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let wal = log(dir.path(), 200);
    wal.rotate().unwrap();
    let lost = wal.append(b"to be lost").unwrap().wait().unwrap();
    drop(wal.cursor("reader").unwrap());
    wal.append_checkpoint(b"state").unwrap().wait().unwrap();
    wal.append(b"behind").unwrap().wait().unwrap();
    wal.close().unwrap();
    let sound = inspect(dir.path()).unwrap();
    let newest = sound.segments.iter().rfind(|segment| segment.is_log()).unwrap();
    let file = fs::File::options().write(true).open(dir.path().join(&newest.file)).unwrap();
    file.write_all_at(&[0xff], lost.0 - newest.base.0 + 30).unwrap();
    let damaged = inspect(dir.path()).unwrap();
    assert_eq!((damaged.checkpoint, damaged.appended), (sound.checkpoint, sound.appended));
    assert_eq!((&damaged.cursors[0].name, damaged.cursors[0].lsn), (&sound.cursors[0].name, sound.cursors[0].lsn));
    assert_eq!((kept(&damaged), damaged.records), (kept(&sound), sound.records - 1));
    assert!(damaged.notes.iter().all(|note| !note.contains("cursors")), "{:?}", damaged.notes);
    // Of a newest one of which nothing is left nobody can say.
    fs::write(dir.path().join(&newest.file), "").unwrap();
    let emptied = inspect(dir.path()).unwrap();
    assert!(emptied.notes.iter().any(|note| note.contains("where cursors stand")), "{:?}", emptied.notes);
}

/// A recovery ends the log in the first segment of a life that was not durable beyond; what lies above it stays until
/// the next life has durably begun.
#[cfg(feature = "sim")]
#[test]
fn a_segment_that_is_cut_off_is_told_from_a_prepared_one() {
    use seawall::check::inspect_on;
    use seawall::sim::{Disk, Keep, Unit};
    let disk = Disk::new(1);
    let options = Options::new().segment_size(16 << 10).durability(seawall::Durability::Os);
    let wal = options.open_on(disk.mount()).unwrap();
    wal.append(&[1; 100]).unwrap().wait().unwrap();
    wal.sync().unwrap();
    let durable = wal.durable_lsn();
    wal.append(&[2; 8000]).unwrap().wait().unwrap();
    wal.rotate().unwrap();
    wal.append(&[3; 8000]).unwrap().wait().unwrap();
    let left = disk.fork();
    disk.crash_at(0);
    drop(wal);
    // The second segment got to the disk, and of the first only what was synced.
    left.crash(Keep::Choose(
        &mut |unit: &Unit| matches!(unit, Unit::Sector { file, .. } if file.starts_with("00000000000000016384")),
    ));
    let overview = inspect_on(left.mount()).unwrap();
    let kept: Vec<_> =
        overview.segments.iter().map(|segment| (segment.state.clone(), segment.kept.is_some())).collect();
    assert_eq!(kept[..2], [(State::Active, true), (State::CutOff, false)], "{overview:?}");
    assert!(kept[2..].iter().all(|found| *found == (State::Prepared, false)), "{overview:?}");
    assert_eq!((overview.durable, overview.records), (durable, 1));
}

#[test]
fn a_lone_segment_is_looked_at_by_its_own_header() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wal = log(dir.path(), 200);
    let whole = inspect(dir.path()).unwrap();
    let copy = elsewhere.path().join("one");
    fs::copy(path(dir.path(), &whole, 2), &copy).unwrap();
    let overview = inspect(&copy).unwrap();
    assert_eq!(overview.segments.len(), 1);
    let (lone, known) = (&overview.segments[0], &whole.segments[2]);
    assert_eq!((lone.state.clone(), lone.kept.clone(), lone.file.as_str()), (State::Lone, None, "one"));
    assert_eq!((lone.base, lone.end, lone.records), (known.base, known.end, known.records));
    assert_eq!(lone.batch_times, known.batch_times);
    assert_eq!((overview.records, overview.log_id), (known.records.unwrap(), Some(wal.log_id())));
    // A checkpoint of which its link tells lies in another file.
    wal.append_checkpoint(b"state").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    wal.append(b"behind").unwrap().wait().unwrap();
    let whole = inspect(dir.path()).unwrap();
    let newest = whole.segments.iter().rposition(|segment| segment.is_log()).unwrap();
    fs::copy(path(dir.path(), &whole, newest), &copy).unwrap();
    assert!(inspect(&copy).unwrap().notes.iter().all(|note| !note.contains("lost")));
    fs::write(&copy, "no segment").unwrap();
    assert_eq!(*inspect(&copy).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(*inspect(elsewhere.path()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn beside_a_writer_that_rotates_cleans_and_recycles_nothing_is_taken_for_damage() {
    beside_a_writer(|dir| inspect(dir).unwrap());
}

/// A look that takes longer than the writer needs for a segment.
#[cfg(feature = "sim")]
#[test]
fn however_slowly_it_looks_beside_a_writer_nothing_is_taken_for_damage() {
    use seawall::check::inspect_on;
    use seawall::sim::{Failing, Operation};
    use seawall::storage::Fs;
    for micros in [50, 200, 500] {
        beside_a_writer(|dir| {
            let slow = Failing::new(std::sync::Arc::new(Fs::new(dir)));
            slow.delay(Operation::Read, std::time::Duration::from_micros(micros));
            inspect_on(slow).unwrap()
        });
    }
}

/// Nothing tells whether MARK or the segment does not belong there; it was not said which log MARK is of.
#[test]
fn beside_another_logs_mark_it_is_said_which_log_may_have_been_there() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, theirs] = [0, 1].map(|n| {
        let wal = log(dirs[n].path(), 1);
        wal.append(b"one").unwrap().wait().unwrap();
        let id: String = wal.log_id().iter().map(|byte| format!("{byte:02x}")).collect();
        wal.close().unwrap();
        id
    });
    let durable = inspect(dirs[0].path()).unwrap().durable;
    let first = "00000000000000000000.wal";
    std::fs::copy(dirs[1].path().join(first), dirs[0].path().join(first)).unwrap();
    let overview = inspect(dirs[0].path()).unwrap();
    assert_eq!(overview.log_id.map(|id| id.map(|byte| format!("{byte:02x}")).concat()), Some(theirs));
    let what = format!(
        "If {ours}, which was durable up to LSN {durable}, is the log that belongs here, its segments are gone"
    );
    assert!(
        overview.notes.iter().any(|note| note.starts_with("MARK: another log's") && note.contains(&what)),
        "{overview:?}"
    );
}

/// At each second file that it opens the writer begins a further segment and cleans the first: those that were listed first
/// are gone before it comes to them, and it gave up.
#[cfg(feature = "sim")]
#[test]
fn a_writer_that_overtakes_each_look_keeps_nobody_from_looking() {
    use std::sync::Arc;

    use seawall::check::{Verify, inspect_on};
    use seawall::sim::{Disk, Failing, Operation};
    let disk = Disk::new(1);
    let wal = Arc::new(Options::new().segment_size(16 << 10).open_on(disk.mount()).unwrap());
    let goes_on = |wal: &Wal| {
        wal.append(&[b'.'; 300]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
        let before = wal.durable_lsn().0.saturating_sub(10 * (16 << 10));
        wal.clean_before_lsn(Lsn(before)).unwrap();
    };
    (0..20).for_each(|_| goes_on(&wal));
    let slow = Failing::new(disk.mount());
    let (writer, begun, opens) = (Arc::clone(&wal), wal.durable_lsn(), AtomicU64::new(0));
    slow.before(Operation::Open, move || {
        if opens.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            goes_on(&writer);
        }
    });
    let overview = inspect_on(slow.clone()).unwrap();
    assert!(overview.durable >= begun && overview.faults.is_empty(), "{overview:?}");
    let report = Verify::new().threads(1).run_on(slow).unwrap();
    assert!(report.is_clean(), "{report}");
}

/// Looks a hundred times and more beside a writer that rotates, cleans and recycles.
fn beside_a_writer(look: impl Fn(&Path) -> Overview) {
    let dir = tempfile::tempdir().unwrap();
    let wal = log(dir.path(), 1);
    let (stop, told) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1.. {
                let ticket = wal.at(n).append(&[b'.'; 300]).unwrap();
                if n % 10 == 0 {
                    ticket.wait().unwrap();
                    // Whoever led has written MARK, which is what others see.
                    told.store(wal.durable_lsn().0, Ordering::SeqCst);
                }
                if n % 200 == 0 {
                    wal.clean_before_lsn(Lsn(wal.durable_lsn().0.saturating_sub(40 << 10))).unwrap();
                    // In memory it would clean all that is listed before the first file is opened.
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _stops = Stops(&stop);
        let (mut last, mut looks) = (Overview::default(), 0);
        while looks < 100 || last.first == Lsn(0) {
            looks += 1;
            let durable = Lsn(told.load(Ordering::SeqCst));
            let now = look(dir.path());
            // What the writer is just writing may look like a torn tail.
            assert!(now.faults.is_empty() && !now.notes.iter().any(|note| note.contains("damaged")), "{now:?}");
            assert!(
                now.durable >= durable
                    && now.durable >= last.durable
                    && now.first >= last.first
                    && now.appended >= last.appended,
                "{durable}, {last:?}: {now:?}"
            );
            let log: Vec<_> = now.segments.iter().filter(|segment| segment.is_log()).collect();
            assert!(log.iter().all(|segment| segment.kept.is_some()), "{now:?}");
            assert_eq!(log.last().unwrap().state, State::Active, "{now:?}");
            last = now;
        }
    });
}

/// What opening refuses and 8 KiB of each file show was no fault, and only a note: nobody was warned.
#[test]
fn what_is_seen_to_be_damaged_without_reading_all_is_told() {
    type Hurt = fn(&Path);
    let hurts: [(&str, Hurt); 2] = [
        ("cut", |file| fs::File::options().write(true).open(file).unwrap().set_len(9000).unwrap()),
        ("a link", |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[4096..4100].fill(0xff);
            fs::write(file, bytes).unwrap();
        }),
    ];
    for (what, hurt) in hurts {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 200).close().unwrap();
        let sound = inspect(dir.path()).unwrap();
        let file = path(dir.path(), &sound, 2);
        hurt(&file);
        let damaged = inspect(dir.path()).unwrap();
        assert!(sound.faults.is_empty() && !damaged.faults.is_empty(), "{what}: {damaged:?}");
        assert!(file.ends_with(&damaged.faults[0].segment), "{what}: {damaged:?}");
        let error = Options::new().open(dir.path()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Damage(_)), "{what}: {error}");
    }
}

/// Records that a repair had passed over were counted, as the next link does.
#[test]
fn what_a_repair_passed_over_is_no_record() {
    type Hurt = fn(&Path);
    let hurts: [(&str, Hurt); 3] = [
        ("a record", |file| fs::File::options().write(true).open(file).unwrap().write_all_at(&[1], 9000).unwrap()),
        ("cut", |file| fs::File::options().write(true).open(file).unwrap().set_len(9000).unwrap()),
        ("missing", |file| fs::remove_file(file).unwrap()),
    ];
    for (what, hurt) in hurts {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 200).close().unwrap();
        let file = path(dir.path(), &inspect(dir.path()).unwrap(), 2);
        hurt(&file);
        let repaired = Repair::new().run(dir.path()).unwrap();
        for _ in 0..2 {
            let (overview, verified) = (inspect(dir.path()).unwrap(), verify(dir.path()).unwrap());
            assert!(verified.is_clean() && verified.records >= repaired.kept_records, "{what}: {verified}");
            assert_eq!(overview.records, verified.records, "{what}");
            let segment = overview.segments.iter().find(|segment| file.ends_with(&segment.file)).unwrap();
            let valid = verify(&file).unwrap().records;
            assert_eq!(segment.records, Some(valid), "{what}: {segment:?}");
            let times = segment.batch_times.map(|(first, last)| last.0 - first.0 + 1);
            assert_eq!(times.is_some(), valid > 0);
            assert!(times.is_none_or(|span| span >= valid && what != "cut" || span == valid), "{what}: {segment:?}");
            // Of what comes then too.
            Wal::open(dir.path()).unwrap().append(b"later").unwrap().wait().unwrap();
        }
    }
}

/// A damaged newest segment was active and without a record; of a missing one the segment before was, beyond its capacity.
#[test]
fn a_newest_segment_that_is_damaged_or_missing_is_said_to_be() {
    type Hurt = fn(&Path);
    let hurts: [(&str, Hurt); 4] = [
        ("link", |file| fs::File::options().write(true).open(file).unwrap().write_all_at(&[255], 4130).unwrap()),
        ("a record", |file| fs::File::options().write(true).open(file).unwrap().write_all_at(&[1], 4400).unwrap()),
        ("emptied", |file| fs::write(file, "").unwrap()),
        ("missing", |file| fs::remove_file(file).unwrap()),
    ];
    for (what, hurt) in hurts {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 200).close().unwrap();
        let sound = inspect(dir.path()).unwrap();
        let newest = sound.segments.iter().rposition(|segment| segment.is_log()).unwrap();
        let held = sound.segments[newest].records.unwrap();
        hurt(&path(dir.path(), &sound, newest));
        let damaged = inspect(dir.path()).unwrap();
        let (segment, before) = (&damaged.segments[newest], &damaged.segments[newest - 1]);
        assert_eq!(segment.file, sound.segments[newest].file);
        let expected = match what {
            "link" => Some(held),
            "a record" => Some(held - 1),
            _ => None,
        };
        assert_eq!(segment.records, expected, "{what}: {segment:?}");
        assert_eq!(segment.state == State::Missing, what == "missing");
        assert_eq!(matches!(segment.state, State::Damaged(_)), what != "missing", "{what}: {segment:?}");
        assert_eq!(
            (before.state.clone(), before.records),
            (State::Sealed, sound.segments[newest - 1].records),
            "{what}"
        );
        assert!(before.end <= Some(Lsn(before.base.0 + (16 << 10))), "{what}: {before:?}");
        assert_eq!(damaged.records, sound.records - held + expected.unwrap_or(0), "{what}");
    }
}
