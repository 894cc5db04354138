//! Faults of readers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use seawall::check::{Verify, frames_on, inspect_on};
use seawall::sim::{Disk, Failing, Fault, Operation};
use seawall::{ErrorKind, Lsn, Options};

use super::small;

/// A damaged link behind a segment that was cleaned under a reader was told as records that were cleaned away.
#[test]
fn a_damaged_link_is_damage_beside_a_clean_too() {
    for damaged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().open(dir.path()).unwrap();
        let mut bases = Vec::new();
        for n in 0..3 {
            let lsn = wal.append(&[n; 3000]).unwrap().wait().unwrap();
            bases.push(lsn.0 / 4096 * 4096 - 4096);
            wal.rotate().unwrap();
        }
        wal.append(&[3; 3000]).unwrap().wait().unwrap();
        let mut records = wal.read(..).unwrap();
        assert_eq!(records.next().unwrap().unwrap().payload[0], 0);
        let cleaned = wal.clean_before_lsn(Lsn(bases[1])).unwrap();
        assert_eq!(cleaned.removed.len(), 1, "{cleaned:?}");
        if damaged {
            let name = dir.path().join(format!("{:020}.wal", bases[1]));
            let mut bytes = std::fs::read(&name).unwrap();
            bytes[4096 + 30] ^= 1;
            std::fs::write(&name, bytes).unwrap();
        }
        let next = records.next().unwrap();
        match next {
            Ok(record) => assert!(!damaged && record.payload[0] == 1),
            Err(e) => assert!(damaged && matches!(e.kind(), ErrorKind::Damage(_)), "{e}"),
        }
        assert_eq!(records.count(), if damaged { 0 } else { 2 });
    }
}

/// A reader that was overtaken was told the base of the segment that it had just read to its end.
#[test]
fn an_overtaken_reader_is_told_where_it_would_have_gone_on() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..4 {
        wal.append(&[n; 3000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.append(&[4; 3000]).unwrap().wait().unwrap();
    let mut records = wal.read(..).unwrap();
    let last = records.next().unwrap().unwrap().lsn;
    let first = wal.clean_before_lsn(Lsn::MAX).unwrap().first;
    let error = records.next().unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Removed { lsn: Lsn(last.0 + 24 + 3000), first });
}

/// A reader whose last segment was cleaned away, up to beyond what it was to read, ended as if all had been read.
#[test]
fn an_overtaken_reader_does_not_end_as_if_nothing_was_missing() {
    for lost in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().open(dir.path()).unwrap();
        wal.append(&[0; 3000]).unwrap().wait().unwrap();
        if lost {
            wal.rotate().unwrap();
        }
        wal.append(&[1; 3000]).unwrap().wait().unwrap();
        let mut records = wal.read(..).unwrap();
        assert_eq!(records.next_borrowed().unwrap().unwrap().payload[0], 0);
        wal.rotate().unwrap();
        wal.append(&[2; 3000]).unwrap().wait().unwrap();
        wal.clean_before_lsn(Lsn::MAX).unwrap();
        let next = records.next().unwrap();
        assert_eq!(next.is_err(), lost, "{next:?}");
        assert!(records.next_borrowed().is_none());
    }
}

/// A closed log of two records with a bit of the first flipped, the name of its segment, and that as it was.
fn closed_and_flipped() -> (Disk, &'static str, Vec<u8>) {
    let disk = Disk::new(10);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(&[1; 7000]).unwrap().wait().unwrap();
    wal.append(&[2; 100]).unwrap().wait().unwrap();
    wal.close().unwrap();
    let name = "00000000000000000000.wal";
    let sound = disk.file(name).unwrap();
    let mut bytes = sound.clone();
    bytes[8000] ^= 1;
    disk.put(name, bytes);
    (disk, name, sound)
}

/// A read-only open looked at real damage eleven times.
#[test]
fn damage_that_stays_is_told_at_the_second_look() {
    let (disk, ..) = closed_and_flipped();
    let beside = Failing::new(disk.mount());
    let looks = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&looks);
    beside.before(Operation::List, move || _ = counted.fetch_add(1, Ordering::Relaxed));
    let error = Options::new().open_read_only_on(beside).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Damage(_)), "{error}");
    // Two looks, and three times for what is lost: all of the log, and what lies under other names, twice, and the front.
    assert_eq!(looks.load(Ordering::Relaxed), 2 + 5);
}

/// A writer closed the log between a reader's look at MARK and that at the segments, and opened it again between the next look
/// at the names and that at MARK: the trimmed segment was told as cut, twice in the same place.
#[test]
fn a_log_that_is_closed_and_opened_between_looks_is_not_refused() {
    let disk = Disk::new(1);
    let wal = Options::new().open_on(disk.mount()).unwrap();
    wal.append(b"one").unwrap().wait().unwrap();
    let beside = Failing::new(disk.mount());
    let calls = Arc::new(Mutex::new((0, 0, Some(wal))));
    let at_list = Arc::clone(&calls);
    beside.before(Operation::List, move || {
        let mut calls = at_list.lock().unwrap();
        (calls.0, calls.1) = (calls.0 + 1, 0);
    });
    let at_open = Arc::clone(&calls);
    beside.before(Operation::Open, move || {
        let mut calls = at_open.lock().unwrap();
        calls.1 += 1;
        match (calls.0, calls.1) {
            (1, 2) => {
                let wal = calls.2.take().unwrap();
                drop(wal.append(b"more").unwrap());
                wal.close().unwrap();
            }
            (2, 1) => {
                let wal = Options::new().open_on(disk.mount()).unwrap();
                wal.append(b"two").unwrap().wait().unwrap();
                calls.2 = Some(wal);
            }
            _ => {}
        }
    });
    let view = Options::new().open_read_only_on(beside).unwrap();
    assert_eq!(calls.lock().unwrap().0, 2);
    view.look().unwrap();
    assert_eq!(view.read(..).unwrap().count(), 3);
}

/// What seemed damaged twice in the same place, and is not where it was to be told, is looked for again.
#[test]
fn damage_that_is_gone_when_it_is_to_be_told_is_none() {
    let (disk, name, sound) = closed_and_flipped();
    let beside = Failing::new(disk.mount());
    let looks = AtomicU64::new(0);
    beside.before(Operation::List, move || {
        if looks.fetch_add(1, Ordering::Relaxed) == 2 {
            disk.put(name, &sound);
        }
    });
    assert_eq!(small().open_read_only_on(beside).unwrap().read(..).unwrap().count(), 2);
}

/// A view opened while a further checkpoint was being synced knew of none at all.
#[test]
fn a_view_beside_a_checkpoint_that_is_not_durable_yet_has_the_one_before() {
    for (rotates, cleans) in [(false, false), (true, false), (true, true)] {
        let disk = Disk::new(8);
        let failing = Failing::new(disk.mount());
        let wal = small().open_on(failing.clone()).unwrap();
        wal.append(b"record").unwrap().wait().unwrap();
        wal.rotate().unwrap();
        let first = wal.append_checkpoint(b"first").unwrap().wait().unwrap();
        if rotates {
            wal.rotate().unwrap();
        }
        wal.append(b"record").unwrap().wait().unwrap();
        if cleans {
            assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 1);
        }
        let held = failing.hold(Operation::Sync);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| wal.append_checkpoint(b"second").unwrap().wait());
            held.wait_for(1);
            let view = Options::new().open_read_only_on(disk.mount()).unwrap();
            let checkpoint = view.checkpoint().unwrap().unwrap();
            assert_eq!((checkpoint.lsn, &checkpoint.payload[..]), (first, &b"first"[..]));
            drop(held);
            let second = second.join().unwrap().unwrap();
            let view = Options::new().open_read_only_on(disk.mount()).unwrap();
            assert_eq!(view.checkpoint().unwrap().unwrap().lsn, second);
        });
    }
}

/// Whoever had been overtaken was sent to where it had begun, and told so again.
#[test]
fn an_overtaken_view_is_told_where_the_log_begins_now() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    for n in 0..12 {
        wal.append(&[n; 7000]).unwrap().wait().unwrap();
    }
    let view = Options::new().open_read_only_on(disk.mount()).unwrap();
    let first = wal.clean_before_lsn(Lsn::MAX).unwrap().first;
    for n in 0..12 {
        wal.append(&[n; 7000]).unwrap().wait().unwrap();
    }
    let error = view.read(..).unwrap().find_map(Result::err).unwrap();
    assert!(matches!(*error.kind(), ErrorKind::Removed { first: left, .. } if left == first), "{error}");
}

/// A writer that was killed may have begun a segment durably and not have come to say so in MARK, and nothing else that a
/// view reads tells of another file.
#[test]
fn a_view_finds_a_segment_that_mark_does_not_tell_of() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    let beside = Failing::new(disk.mount());
    let view = small().open_read_only_on(beside.clone()).unwrap();
    let mark = disk.file("MARK").unwrap();
    wal.rotate().unwrap();
    for record in [b"second", b"third!"] {
        wal.append(record).unwrap().wait().unwrap();
    }
    disk.put("MARK", mark);
    let count = || view.read(..).unwrap().map(Result::unwrap).count();
    let before = beside.count(Operation::List);
    assert_eq!((view.look().unwrap(), count()), (view.durable_lsn(), 1));
    let looks = (0..300).filter(|_| view.look().is_ok() && count() == 1).count();
    // The last one may not have been durable, as far as anything tells.
    assert_eq!(count(), 2, "not within 300 looks");
    let lists = beside.count(Operation::List) - before;
    assert!(looks > 50 && lists < 10, "{looks} looks before, {lists} times listed");
}

/// Of two copies of a log that were both written to, each has a segment of its own at the same base: what follows the
/// one does not follow the other.
#[test]
fn a_view_does_not_go_on_in_a_segment_of_a_copy() {
    let ours = Disk::new(1);
    small().open_on(ours.mount()).unwrap().append(b"both").unwrap().wait().unwrap();
    let copy = ours.fork();
    copy.reseed(2);
    // Larger segments, so that the next one has another base.
    let [wal, other] = [(&ours, 16 << 10), (&copy, 20 << 10)]
        .map(|(disk, size)| Options::new().segment_size(size).open_on(disk.mount()).unwrap());
    assert_eq!(wal.append(b"ours").unwrap().wait().unwrap(), other.append(b"copy").unwrap().wait().unwrap());
    let view = small().open_read_only_on(ours.mount()).unwrap();
    other.rotate().unwrap();
    for _ in 0..2 {
        other.append(b"copy").unwrap().wait().unwrap();
    }
    let used =
        |name: &&String| name.ends_with(".wal") && copy.file(name).unwrap()[4096..].iter().any(|byte| *byte != 0);
    let theirs = copy.names().iter().rfind(used).unwrap().clone();
    assert!(ours.file(&theirs).is_none(), "{theirs}");
    ours.put(&theirs, copy.file(&theirs).unwrap());
    wal.rotate().unwrap();
    wal.append(b"more").unwrap().wait().unwrap();
    assert!(ours.names().iter().any(|name| name.ends_with(".wal") && *name > theirs), "it is not the highest");
    assert_eq!(view.look().unwrap(), wal.durable_lsn());
    let records: Vec<_> = view.read(..).unwrap().map(|record| record.unwrap().payload).collect();
    assert_eq!(records, [&b"both"[..], b"ours", b"more"]);
}

/// Each segment that a view knows is an open file, whose blocks are not given back before it is let go.
#[test]
fn a_view_lets_go_of_what_was_cleaned() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    for n in 0..12 {
        wal.append(&[n; 7000]).unwrap().wait().unwrap();
    }
    let view = small().open_read_only_on(disk.mount()).unwrap();
    let segments = view.split(usize::MAX).len();
    assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
    wal.close().unwrap();
    drop(wal);
    let used = disk.used();
    view.look().unwrap();
    assert_eq!((segments, view.split(usize::MAX).len()), (12, 1));
    assert!(used - disk.used() >= 4 * (16 << 10), "{used} bytes, and {} then", disk.used());
}

/// A writer cleaned all that a view knew, and what came next, between its look at MARK and the listing: the look was done, and
/// showed no more than before.
#[test]
fn a_look_that_a_clean_overtakes_shows_what_was_durable_before_it() {
    let disk = Disk::new(7);
    let wal = Arc::new(small().open_on(disk.mount()).unwrap());
    wal.append(b"one").unwrap().wait().unwrap();
    let failing = Failing::new(disk.mount());
    let view = small().open_read_only_on(Arc::<Failing>::clone(&failing)).unwrap();
    let mut last = Lsn(0);
    for payload in [b"two", b"thr"] {
        wal.rotate().unwrap();
        last = wal.append(payload).unwrap().wait().unwrap();
    }
    let durable = wal.durable_lsn();
    let (writer, done) = (Arc::clone(&wal), AtomicBool::new(false));
    failing.before(Operation::List, move || {
        if !done.swap(true, Ordering::SeqCst) {
            writer.clean_before_lsn(last).unwrap();
            for _ in 0..3 {
                writer.rotate().unwrap();
                writer.append(b"on").unwrap().wait().unwrap();
            }
        }
    });
    let shown = view.look().unwrap();
    assert!(shown >= durable, "{shown}, durable before: {durable}");
    assert_eq!(view.get(last).unwrap().payload, b"thr"[..]);
}

/// A file that is gone at each look was told as that, by the system's own words.
#[test]
fn who_is_overtaken_by_a_writer_at_each_look_says_so() {
    let disk = Disk::new(7);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"one").unwrap().wait().unwrap();
    let failing = Failing::new(disk.mount());
    failing.fail(Fault::new(Operation::Open).on(".wal").kind(std::io::ErrorKind::NotFound).for_good());
    let storage = || Arc::<Failing>::clone(&failing);
    let told = [
        small().open_read_only_on(storage()).map(|_| ()),
        Verify::new().run_on(storage()).map(|_| ()),
        inspect_on(storage()).map(|_| ()),
        frames_on(storage()).map(|_| ()),
    ];
    for told in told {
        let error = told.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("a writer goes on faster than this can be looked at; try again"), "{error}");
    }
}
