//! Following a log in the writer's process.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

use std::future::Future;
use std::ops::Bound;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use seawall::sim::{Disk, Failing, Fault, Keep, Operation, Unit};
use seawall::storage::Fs;
use seawall::{Durability, ErrorKind, Follower, Lsn, Options, Wal};

const LONG: Duration = Duration::from_secs(20);

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

fn number(follower: &mut Follower<'_>) -> Option<u64> {
    let record = follower.next_timeout(LONG).unwrap()?;
    Some(u64::from_le_bytes(record.payload[..8].try_into().unwrap()))
}

fn append(wal: &Wal, n: u64) -> Lsn {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(8 + (n as usize * 37) % 900, 7);
    wal.append(&payload).unwrap().wait().unwrap()
}

/// A log with a record in it, and its directory, which may fail whoever looks beside it.
fn with_one() -> (tempfile::TempDir, Wal, Arc<Failing>) {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    append(&wal, 0);
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    (dir, wal, failing)
}

#[test]
fn followers_see_every_record_once_beside_rotation_and_cleaning() {
    const COUNT: u64 = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let cursor = wal.cursor("slow").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (0..COUNT).for_each(|n| _ = append(&wal, n)));
        scope.spawn(|| {
            let mut follower = wal.follow(Lsn::ZERO);
            for n in 0..COUNT {
                assert_eq!(number(&mut follower), Some(n));
                assert!(follower.position() <= wal.durable_lsn(), "what is not durable was shown");
                if n % 100 == 0 {
                    cursor.release(follower.position()).unwrap();
                    wal.clean_before_lsn(Lsn::MAX).unwrap();
                }
            }
        });
    });
    assert!(wal.read(..).unwrap().count() < COUNT as usize / 2);
}

#[test]
fn a_follower_goes_on_over_openings() {
    let disk = Disk::new(1);
    let mut position = Lsn::ZERO;
    for life in 0..4 {
        let wal = small().open_on(disk.mount()).unwrap();
        let mut follower = wal.follow(position);
        for n in life * 30..life * 30 + 30 {
            append(&wal, n);
            assert_eq!(number(&mut follower), Some(n));
        }
        position = follower.position();
        drop(wal.append(b"never durable").unwrap());
        assert_eq!(follower.try_next().unwrap(), None);
        disk.crash(Keep::None);
    }
}

#[test]
fn what_was_read_may_be_cleaned_and_what_was_not_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let [mut reads, mut sleeps] = [(); 2].map(|()| wal.follow(Lsn::ZERO));
    let first = append(&wal, 0);
    wal.rotate().unwrap();
    assert_eq!([number(&mut reads), number(&mut sleeps)], [Some(0), Some(0)]);
    append(&wal, 1);
    wal.rotate().unwrap();
    assert_eq!(number(&mut reads), Some(1));
    append(&wal, 2);
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 2);
    assert_eq!(number(&mut reads), Some(2));
    let error = sleeps.try_next().unwrap_err();
    let ErrorKind::Removed { lsn, first: left } = *error.kind() else { panic!("{error}") };
    assert!(first < lsn && lsn < left, "{error}");
    assert_eq!(number(&mut wal.follow(left)), Some(2));
}

#[test]
fn waiting_ends_with_the_record_or_with_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let mut follower = wal.follow(Lsn::ZERO);
    let began = Instant::now();
    assert_eq!(follower.next_timeout(Duration::from_millis(50)).unwrap(), None);
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(follower.next_timeout(Duration::ZERO).unwrap(), None);
    thread::scope(|scope| {
        let waits = scope.spawn(|| (follower.next_timeout(Duration::MAX).unwrap(), Instant::now()));
        thread::sleep(Duration::from_millis(50));
        // Nobody leads for a follower.
        drop(wal.append(b"first").unwrap());
        thread::sleep(Duration::from_millis(50));
        assert!(!waits.is_finished());
        let synced = Instant::now();
        wal.sync().unwrap();
        let (record, woken) = waits.join().unwrap();
        assert_eq!(&record.unwrap().payload[..], b"first");
        assert!(woken - synced < LONG);
    });
}

struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_dropped_future_loses_nothing_and_leaves_nothing() {
    let disk = Disk::new(2);
    let wal = small().open_on(disk.mount()).unwrap();
    let woken = Arc::new(Count(AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut follower = wal.follow(Lsn::ZERO);
    for _ in 0..3 {
        assert!(pin!(follower.next()).as_mut().poll(&mut context).is_pending());
    }
    append(&wal, 5);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "one waker for each follower");
    let Poll::Ready(record) = pin!(follower.next()).as_mut().poll(&mut context) else { panic!("not ready") };
    assert_eq!(record.unwrap().payload[0], 5);
    assert!(pin!(follower.next()).as_mut().poll(&mut context).is_pending());
    drop(follower);
    append(&wal, 6);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "a follower that is gone is not woken");
}

#[test]
fn poison_and_close_end_the_waiting() {
    let disk = Disk::new(3);
    disk.threads(true);
    let wal = small().open_on(disk.mount()).unwrap();
    append(&wal, 1);
    let mut follower = wal.follow(Lsn::ZERO);
    disk.fail(Fault::new(Operation::Sync).for_good());
    assert!(wal.append(b"unknown").unwrap().wait().is_err());
    assert_eq!(number(&mut follower), Some(1), "what is durable is read");
    assert_eq!(*follower.next_timeout(LONG).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(follower.try_next().unwrap(), None);

    let disk = Disk::new(4);
    disk.threads(true);
    let wal = small().open_on(disk.mount()).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| wal.follow(Lsn::ZERO).next_timeout(LONG).map_err(|e| e.kind().clone()));
        thread::sleep(Duration::from_millis(50));
        wal.close().unwrap();
        assert_eq!(waits.join().unwrap(), Err(ErrorKind::Closed));
    });
}

/// A checkpoint that was written and not synced, behind a record that was torn: the next life cut both off.
#[test]
fn a_view_forgets_a_checkpoint_that_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = small().open_on(failing.clone()).unwrap();
    let kept = wal.append_checkpoint(b"kept").unwrap().wait().unwrap();
    let view = small().open_read_only(dir.path()).unwrap();
    let torn = wal.append(&[1; 5000]).unwrap().lsn();
    failing.fail(Fault::new(Operation::Sync));
    assert!(wal.append_checkpoint(b"cut off").unwrap().wait().is_err());
    assert_eq!(view.look().unwrap(), wal.durable_lsn());
    drop(wal);
    let mut bytes = std::fs::read(dir.path().join("00000000000000000000.wal")).unwrap();
    bytes[torn.0 as usize + 100] ^= 1;
    std::fs::write(dir.path().join("00000000000000000000.wal"), bytes).unwrap();
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(wal.recovery().end, torn);
    append(&wal, 7);
    assert_eq!(view.look().unwrap(), wal.durable_lsn());
    assert_eq!(view.checkpoint().unwrap().unwrap().lsn, kept);
    let records: Vec<_> = view.read(..).unwrap().map(|record| record.unwrap().payload[0]).collect();
    assert_eq!(records, [b'k', 7]);
}

/// Notes of cursors are no records: whoever has read all that there was misses nothing when they are cleaned.
#[test]
fn notes_that_are_cleaned_are_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let open = || small().open(dir.path()).unwrap();
    let wal = open();
    append(&wal, 0);
    wal.cursor("reader").unwrap();
    let last = append(&wal, 1);
    let view = small().open_read_only(dir.path()).unwrap();
    let [mut looked, mut late] = [(); 2].map(|()| wal.follow(Lsn::ZERO));
    let mut beside = view.follow(Lsn::ZERO);
    for n in [0, 1] {
        assert_eq!(number(&mut beside), Some(n));
        assert_eq!([number(&mut looked), number(&mut late)], [Some(n); 2]);
    }
    let position = late.position();
    // A note behind the last record, and two lives of which nothing else is left.
    wal.cursor("reader").unwrap().release(position).unwrap();
    wal.sync().unwrap();
    assert_eq!(looked.try_next().unwrap(), None);
    drop((looked, late));
    drop(wal);
    for _ in 0..2 {
        open().cursor("other").unwrap().remove().unwrap();
    }
    let wal = open();
    let mut records = wal.read(..).unwrap();
    assert_eq!(records.by_ref().take(2).count(), 2);
    append(&wal, 2);
    let [mut read, mut missed] = [position, last].map(|lsn| wal.follow(lsn));
    let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert_eq!((cleaned.removed.len(), cleaned.kept.len()), (3, 1), "{cleaned:?}");
    assert_eq!((number(&mut read), number(&mut beside)), (Some(2), Some(2)));
    assert!(records.next().is_none(), "what it was to read was read");
    assert_eq!(wal.read((Bound::Excluded(last), Bound::Unbounded)).unwrap().count(), 1);
    let removed = |error: seawall::Error| assert!(matches!(error.kind(), ErrorKind::Removed { .. }), "{error}");
    removed(missed.try_next().unwrap_err());
    // And what nobody looked at is missed by whoever has looked before.
    let mut empty = wal.follow(wal.durable_lsn());
    assert_eq!(empty.try_next().unwrap(), None);
    append(&wal, 3);
    wal.rotate().unwrap();
    append(&wal, 4);
    wal.cursor("reader").unwrap().remove().unwrap();
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 1);
    removed(empty.try_next().unwrap_err());
}

/// One that began at the front of a log without records was never told what it had missed.
#[test]
fn a_follower_that_found_no_record_says_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    drop(wal.cursor("reader").unwrap());
    let mut follower = wal.follow(Lsn::ZERO);
    assert_eq!(follower.try_next().unwrap(), None);
    append(&wal, 0);
    wal.rotate().unwrap();
    append(&wal, 1);
    wal.cursor("reader").unwrap().remove().unwrap();
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 1);
    let error = follower.try_next().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Removed { .. }), "{error}");
}

/// One that looked into a log that held nothing at all was not told either.
#[test]
fn a_follower_that_found_nothing_says_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    wal.prepare().unwrap();
    let view = small().open_read_only(dir.path()).unwrap();
    let mut followers = [wal.follow(Lsn::ZERO), view.follow(Lsn::ZERO), wal.follow(Lsn::ZERO)];
    for follower in &mut followers[..2] {
        assert_eq!(follower.try_next().unwrap(), None);
    }
    append(&wal, 0);
    wal.rotate().unwrap();
    let last = append(&wal, 1);
    assert_eq!(wal.clean_before_lsn(last).unwrap().removed.len(), 1);
    for follower in &mut followers[..2] {
        let error = follower.try_next().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Removed { .. }), "{error}");
    }
    // This one looks for the first time.
    assert_eq!(followers[2].try_next().unwrap().unwrap().lsn, last);
}

/// Where the thread could not be had once, nobody could wait any more.
#[test]
fn a_view_whose_thread_could_not_be_had_tries_again() {
    let (_dir, wal, failing) = with_one();
    let view = small().open_read_only_on(failing.clone()).unwrap();
    let mut follower = view.follow(Lsn::ZERO);
    assert_eq!(number(&mut follower), Some(0));
    failing.fail(Fault::new(Operation::Background));
    assert_eq!(*follower.next_timeout(LONG).unwrap_err().kind(), ErrorKind::Io);
    append(&wal, 1);
    assert_eq!(number(&mut follower), Some(1));
    assert_eq!(follower.next_timeout(Duration::from_millis(20)).unwrap(), None);
}

/// The first range of a log that begins at 0 began at the front, wherever that was by then.
#[test]
fn parts_of_a_replay_say_what_was_cleaned_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..5 {
        append(&wal, n);
        wal.rotate().unwrap();
    }
    let last = append(&wal, 5);
    let parts = wal.split(4);
    let records =
        |part: &std::ops::Range<Lsn>| wal.read(part.clone()).and_then(|records| records.collect::<Result<Vec<_>, _>>());
    assert_eq!(parts.iter().map(|part| records(part).unwrap().len()).sum::<usize>(), 6);
    wal.clean_before_lsn(last).unwrap();
    let cleaned: Vec<_> = parts.iter().filter(|part| part.end <= last).collect();
    assert!(!cleaned.is_empty());
    for part in cleaned {
        let error = records(part).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Removed { .. }), "{error}");
    }
}

/// The files of a log that was removed are still open: a follower waited for ever, and showed nothing of another log that
/// was made in its place.
#[test]
fn a_log_that_is_gone_is_told() {
    for (again, waits) in [(false, false), (false, true), (true, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let wal = small().create(true).open(&path).unwrap();
        append(&wal, 0);
        let view = small().open_read_only(&path).unwrap();
        let mut follower = view.follow(Lsn::ZERO);
        assert_eq!(number(&mut follower), Some(0));
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        let other = again.then(|| small().open(&path).unwrap());
        if let Some(other) = &other {
            // As long as there is nothing in it, it is none; then it is another one.
            append(other, 1);
            append(other, 2);
        }
        let error = if waits { follower.next_timeout(LONG).unwrap_err() } else { view.look().unwrap_err() };
        assert_eq!(*error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(error.to_string().contains("another"), again, "{error}");
    }
}

/// A MARK that could not be made whole is removed and made anew, before there is a segment: a view that looked meanwhile said
/// that the log was gone, and would not go on.
#[test]
fn a_view_of_a_log_without_segments_waits_for_mark_to_be_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let id = wal.log_id();
    wal.prepare().unwrap();
    drop(wal);
    let mark = std::fs::read(dir.path().join("MARK")).unwrap();
    for path in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if !path.ends_with("MARK") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let view = small().open_read_only(dir.path()).unwrap();
    let mut follower = view.follow(Lsn::ZERO);
    for left in [None, Some(&[][..]), Some(&[0; 8192]), Some(&mark[..100])] {
        match left {
            None => std::fs::remove_file(dir.path().join("MARK")).unwrap(),
            Some(left) => std::fs::write(dir.path().join("MARK"), left).unwrap(),
        }
        view.look().unwrap();
        assert!(follower.try_next().unwrap().is_none());
    }
    std::fs::write(dir.path().join("MARK"), mark).unwrap();
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(wal.log_id(), id);
    append(&wal, 0);
    assert_eq!(number(&mut follower), Some(0));
}

/// A view whose newest segment was cleaned away looks anew: it said that there was no checkpoint, for a later one was
/// written and not yet durable.
#[test]
fn a_view_that_looks_anew_knows_the_last_durable_checkpoint() {
    let disk = Disk::new(1);
    let options = Options::new().segment_size(2 << 20);
    let wal = options.open_on(disk.mount()).unwrap();
    append(&wal, 0);
    let view = options.open_read_only_on(disk.mount()).unwrap();
    wal.rotate().unwrap();
    let durable = wal.append_checkpoint(b"durable").unwrap().wait().unwrap();
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    drop(wal.append_checkpoint(b"written").unwrap());
    // More than a piece: written, and not synced.
    (0..4).for_each(|_| drop(wal.append(&[7; 100_000]).unwrap()));
    assert!(view.look().unwrap() > durable);
    assert_eq!(view.checkpoint().unwrap().map(|record| record.lsn), Some(durable));
}

/// The thread that looks for all of a view's followers died of it, and they waited for ever.
#[test]
fn a_waker_that_panics_leaves_the_other_followers_waiting_for_nothing() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("planned");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    append(&wal, 0);
    let view = small().open_read_only(dir.path()).unwrap();
    let [mut panics, mut waits] = [(); 2].map(|()| view.follow(wal.durable_lsn()));
    let waker = Waker::from(Arc::new(Panics));
    for n in 1..3 {
        assert!(pin!(panics.next()).as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let began = Instant::now();
                (number(&mut waits), began.elapsed())
            });
            thread::sleep(Duration::from_millis(50));
            append(&wal, n);
            let (found, after) = waits.join().unwrap();
            assert!(found == Some(n) && after < LONG, "{found:?} after {after:?}");
        });
        assert_eq!(number(&mut panics), Some(n));
    }
}

#[test]
fn a_view_that_nobody_waits_for_any_more_does_not_look() {
    let (_dir, wal, failing) = with_one();
    let view = small().open_read_only_on(failing.clone()).unwrap();
    let mut follower = view.follow(Lsn::ZERO);
    assert_eq!(number(&mut follower), Some(0));
    assert!(follower.next_timeout(Duration::from_millis(50)).unwrap().is_none());
    // A look may be under way.
    thread::sleep(Duration::from_millis(50));
    let before = failing.count(Operation::Read);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(failing.count(Operation::Read), before);
    append(&wal, 1);
    assert_eq!(number(&mut follower), Some(1));
}

/// What an `Os` log had let its readers see and a power cut took, of a segment before the last: the records behind it are
/// no part of the log, and that they are missing is no damage.
#[test]
fn a_view_does_not_pass_over_what_a_power_cut_took() {
    let disk = Disk::new(1);
    let options = small().durability(Durability::Os);
    let wal = options.open_on(disk.mount()).unwrap();
    append(&wal, 0);
    wal.sync().unwrap();
    append(&wal, 1);
    wal.rotate().unwrap();
    let lost = append(&wal, 2);
    let rest = disk.fork();
    disk.crash_at(0);
    drop(wal);
    rest.crash(Keep::Choose(
        &mut |unit: &Unit| !matches!(unit, Unit::Sector { file, .. } if file.starts_with("00000000000000000000")),
    ));
    let wal = options.open_on(rest.mount()).unwrap();
    let view = options.open_read_only_on(rest.mount()).unwrap();
    let count = |view: &seawall::ReadOnly| view.read(..).unwrap().map(Result::unwrap).count();
    for _ in 0..300 {
        assert_eq!((view.look().unwrap(), count(&view)), (wal.durable_lsn(), 1));
        assert!(view.get(lost).is_err());
    }
    let next = append(&wal, 3);
    assert_eq!((view.look().unwrap(), count(&view)), (wal.durable_lsn(), 2));
    assert_eq!(number(&mut view.follow(lost)), Some(3));
    assert!(next > lost);
}

/// The segment that recovery cut off, and the one that was begun after it, both say that they follow the last that a view
/// knows: the view went on in whichever it met first.
#[test]
fn a_view_goes_on_in_the_highest_segment_that_follows() {
    let disk = Disk::new(1);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    append(&wal, 0);
    wal.sync().unwrap();
    append(&wal, 1);
    wal.rotate().unwrap();
    append(&wal, 2);
    let (rest, void) = (disk.fork(), disk.names().into_iter().rfind(|name| name.ends_with(".wal")).unwrap());
    disk.crash_at(0);
    drop(wal);
    rest.crash(Keep::Choose(
        &mut |unit: &Unit| !matches!(unit, Unit::Sector { file, .. } if file.starts_with("00000000000000000000")),
    ));
    // It stays beside the one that takes its place.
    rest.fail(Fault::new(Operation::Rename).on(&void).kind(std::io::ErrorKind::PermissionDenied).for_good());
    let wal = small().open_on(rest.mount()).unwrap();
    let view = small().open_read_only_on(rest.mount()).unwrap();
    append(&wal, 3);
    assert!(rest.names().contains(&void) && rest.names().last() > Some(&void), "{void}: {:?}", rest.names());
    assert_eq!(view.look().unwrap(), wal.durable_lsn());
    let mut follower = view.follow(Lsn::ZERO);
    assert_eq!([number(&mut follower), number(&mut follower)], [Some(0), Some(3)]);
}

/// What MARK let out lies between the end of the log and the segment that the next writer has begun.
#[test]
fn a_view_that_opens_where_a_power_cut_took_something_reads_to_the_end() {
    let disk = Disk::new(1);
    let options = Options::new().segment_size(1 << 20);
    let wal = options.clone().durability(Durability::Os).open_on(disk.mount()).unwrap();
    append(&wal, 0);
    wal.sync().unwrap();
    append(&wal, 1);
    let rest = disk.fork();
    disk.crash_at(0);
    drop(wal);
    rest.crash(Keep::Choose(&mut |unit: &Unit| matches!(unit, Unit::Sector { file, .. } if file == "MARK")));
    let wal = options.open_on(rest.mount()).unwrap();
    // Written, and not synced.
    let large = wal.append(&vec![7; 300 << 10]).unwrap();
    let view = options.open_read_only_on(rest.mount()).unwrap();
    assert_eq!((view.durable_lsn(), view.read(..).unwrap().map(Result::unwrap).count()), (wal.durable_lsn(), 1));
    large.wait().unwrap();
    assert_eq!(view.look().unwrap(), wal.durable_lsn());
    assert_eq!(view.read(..).unwrap().map(Result::unwrap).count(), 2);
}

/// What an `Os` log had shown and a power cut took: a view looked for it in all of the log, again and again.
#[test]
fn a_view_does_not_look_for_what_a_power_cut_took() {
    let disk = Disk::new(5);
    let options = small().durability(Durability::Os);
    let wal = options.open_on(disk.mount()).unwrap();
    append(&wal, 0);
    wal.sync().unwrap();
    (1..9).for_each(|n| _ = append(&wal, n));
    let dirty = disk.dirty();
    let marks: Vec<_> =
        dirty.iter().map(|unit| matches!(unit, Unit::Sector { file, .. } if file.ends_with("MARK"))).collect();
    assert!(marks.contains(&true));
    disk.crash(Keep::Units(&marks));
    drop(wal);
    for writer in [false, true] {
        let wal = writer.then(|| options.open_on(disk.mount()).unwrap());
        let failing = Failing::new(disk.mount());
        let view = options.open_read_only_on(failing.clone()).unwrap();
        let before = failing.count(Operation::List);
        for _ in 0..300 {
            view.look().unwrap();
        }
        assert!(failing.count(Operation::List) - before < 20, "{}", failing.count(Operation::List) - before);
        assert_eq!(view.read(..).unwrap().count(), 1);
        if let Some(wal) = wal {
            append(&wal, 1);
            assert_eq!(view.look().unwrap(), wal.durable_lsn());
            assert_eq!(view.read(..).unwrap().count(), 2);
        }
    }
}

/// The longest that a follower waited for the next record, beside threads that each wait for theirs: in this process, and
/// in a view. Syncs or writes take long, so that a rotation falls into one.
fn longest_waits(durability: Durability, slow: Operation) -> [Duration; 2] {
    let dir = tempfile::tempdir().unwrap();
    let storage = Failing::new(Arc::new(Fs::new(dir.path())));
    storage.delay(slow, Duration::from_millis(20));
    let wal = Options::new().segment_size(1 << 20).durability(durability).open_on(storage).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    let view = Options::new().open_read_only(dir.path()).unwrap();
    let done = AtomicBool::new(false);
    let (done, wal) = (&done, &wal);
    std::thread::scope(|scope| {
        for n in 0..16 {
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // Some always append while others are led, so that one round follows the other.
                    thread::sleep(Duration::from_micros(1000 * n));
                    wal.append(&[7; 4000]).unwrap().wait().unwrap();
                }
            });
        }
        let longest = move |mut follower: Follower<'_>| {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !done.load(Ordering::Relaxed) {
                if follower.next_timeout(Duration::from_secs(1)).unwrap().is_some() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
            longest.max(last.elapsed())
        };
        let waits =
            [wal.follow(Lsn::ZERO), view.follow(Lsn::ZERO)].map(|follower| scope.spawn(move || longest(follower)));
        std::thread::sleep(Duration::from_secs(3));
        done.store(true, Ordering::Relaxed);
        waits.map(|waiting| waiting.join().unwrap())
    })
}

#[test]
fn a_view_keeps_up_while_commits_follow_on_one_another() {
    for (durability, slow) in [(Durability::Disk, Operation::Sync), (Durability::Os, Operation::Write)] {
        let [own, view] = longest_waits(durability, slow);
        println!("{durability:?}: {view:?}, in the writer's process {own:?}");
        assert!(view < own + Duration::from_millis(300), "{durability:?}: {view:?}, in the writer's process {own:?}");
    }
}
