//! Commits, tickets, poison, rotation, the making of segments, readers, cleaning and closing in schedules that `shuttle`
//! chooses, over the disk in memory: half of them by chance, half by priorities that change at few points.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --target-dir target/shuttle --features sim --test shuttle`, with as many
//! schedules of each kind as `SEAWALL_SCHEDULES` says. `SHUTTLE_RANDOM_SEED` chooses others. That nobody sleeps for ever is
//! asked in each: a schedule in which somebody does ends as a deadlock.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::sim::{Bug, Disk, Fault, Keep, Operation};
use seawall::{ErrorKind, Follower, Lsn, Options, Record, Wal};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;

/// Chosen once: the same schedules each time.
const SEED: u64 = 0x5EA_3A11;
/// How often the priorities change, of threads that otherwise run to their end.
const CHANGES: usize = 4;
/// Of a record two of which, and no third, go into the smallest segment beside its header and link.
const LARGE: usize = 5000;
/// Waits until there is something: a wait with an end would hide that nobody wakes it.
const FOR_EVER: Duration = Duration::MAX;

fn schedules() -> usize {
    std::env::var("SEAWALL_SCHEDULES").map_or(500, |text| text.parse().unwrap())
}

/// `planted`: a safety is taken out, and which schedule fails for that is looked for.
fn run(scheduler: impl Scheduler + 'static, planted: bool, test: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    config.max_steps = shuttle::MaxSteps::FailAfter(100_000);
    if planted {
        // One that has no end is no proof of the kind that is asked for: another is tried.
        config.max_steps = shuttle::MaxSteps::ContinueAfter(100_000);
        config.failure_persistence = shuttle::FailurePersistence::None;
    }
    shuttle::Runner::new(scheduler, config).run(test);
}

fn explore(test: fn(Option<Bug>)) {
    run(RandomScheduler::new_from_seed(SEED, schedules()), false, move || test(None));
    run(PctScheduler::new_from_seed(SEED, CHANGES, schedules()), false, move || test(None));
}

/// Takes a safety out and asks that one of `most` schedules fails for it, in these words.
fn caught(bug: Bug, most: usize, test: fn(Option<Bug>), by: &str) {
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tried);
    let test = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        test(Some(bug));
    };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        run(RandomScheduler::new_from_seed(SEED, most / 2), true, test.clone());
        run(PctScheduler::new_from_seed(SEED, CHANGES, most / 2), true, test);
    }));
    let panic = ran.expect_err("not caught");
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    println!(
        "{bug:?} caught in schedule {}: {}",
        tried.load(Ordering::Relaxed),
        text.lines().next().unwrap_or_default()
    );
    assert!(text.contains(by), "{bug:?} was to be caught by {by:?}");
}

/// A log whose background work has threads of its own, and what those who appended were told.
struct Bed {
    disk: Disk,
    wal: Wal,
    /// Held over no scheduling point.
    told: Mutex<Vec<(Lsn, Vec<u8>)>>,
}

fn options(bug: Option<Bug>) -> Options {
    let options = Options::new().segment_size(16 << 10);
    bug.into_iter().fold(options, Options::plant)
}

fn payload(thread: usize, number: usize, length: usize) -> Vec<u8> {
    let mut payload = format!("{thread}/{number}").into_bytes();
    payload.resize(length.max(payload.len()), b'.');
    payload
}

impl Bed {
    fn new(bug: Option<Bug>) -> Bed {
        Bed::with(&options(bug))
    }

    fn with(options: &Options) -> Bed {
        let disk = Disk::new(1);
        disk.threads(true);
        let wal = options.open_on(disk.mount()).unwrap();
        Bed { disk, wal, told: Mutex::default() }
    }

    fn tell(&self, lsn: Lsn, payload: Vec<u8>) {
        self.told.lock().unwrap().push((lsn, payload));
    }

    fn try_append(&self, thread: usize, number: usize, length: usize) -> seawall::Result<Lsn> {
        let payload = payload(thread, number, length);
        let lsn = self.wal.append(&payload)?.wait()?;
        self.tell(lsn, payload);
        Ok(lsn)
    }

    fn append(&self, thread: usize, number: usize, length: usize) -> Lsn {
        self.try_append(thread, number, length).unwrap()
    }

    /// All names and bytes.
    fn image(&self) -> Vec<(String, Option<Vec<u8>>)> {
        self.disk.names().into_iter().map(|name| (name.clone(), self.disk.file(&name))).collect()
    }

    /// Cuts the power, on a copy.
    fn cut(&self) -> Cut {
        let told = self.told.lock().unwrap().clone();
        let left = self.disk.fork();
        left.threads(false);
        left.crash(Keep::None);
        Cut { told, left }
    }

    /// Everybody was told of each record, all are there, and so they are after a power cut.
    fn holds(&self, records: usize) {
        assert_eq!(self.told.lock().unwrap().len(), records);
        assert_eq!(read(&self.wal).len(), records);
        self.cut().check();
    }
}

/// What a power cut left.
struct Cut {
    told: Vec<(Lsn, Vec<u8>)>,
    left: Disk,
}

impl Cut {
    /// All that somebody was told is durable is there, but for what was cleaned.
    fn check(self) -> Wal {
        let wal = options(None).open_on(self.left.mount()).unwrap();
        let found = read(&wal);
        let first = found.first().map_or(Lsn::ZERO, |record| record.lsn);
        for (lsn, payload) in self.told.iter().filter(|(lsn, _)| *lsn >= first) {
            let there = found.iter().any(|record| record.lsn == *lsn && record.payload == payload);
            assert!(there, "acknowledged and lost: {lsn}");
        }
        wal
    }
}

/// All records, in order, each once.
fn read(wal: &Wal) -> Vec<Record> {
    let records: Vec<Record> = wal.read(Lsn::ZERO..).unwrap().map(Result::unwrap).collect();
    in_order(&records);
    records
}

fn in_order(records: &[Record]) {
    assert!(records.windows(2).all(|two| two[0].lsn < two[1].lsn), "LSNs go up");
    let mut payloads: Vec<_> = records.iter().map(|record| &record.payload).collect();
    payloads.sort();
    assert!(payloads.windows(2).all(|two| two[0] != two[1]), "each record once");
}

fn followed(mut follower: Follower<'_>, records: usize) {
    let found: Vec<_> = (0..records).map(|_| follower.next_timeout(FOR_EVER).unwrap().unwrap()).collect();
    in_order(&found);
}

fn is_poison(error: &seawall::Error) {
    assert_eq!(*error.kind(), ErrorKind::Poisoned);
}

/// Threads that wait for their records, one that waits for all, and the power cut beside them.
fn waiting(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    let cuts = thread::scope(|scope| {
        let append_twice = |name| {
            bed.append(name, 0, 0);
            let cut = bed.cut();
            bed.append(name, 1, 0);
            cut
        };
        let threads = [0, 1, 2].map(|name| scope.spawn(move || append_twice(name)));
        scope.spawn(|| {
            let [first, second] = [0, 1].map(|number| (number, bed.wal.append(&payload(3, number, 0)).unwrap()));
            for (number, ticket) in [second, first] {
                bed.tell(ticket.wait().unwrap(), payload(3, number, 0));
            }
        });
        scope.spawn(|| bed.wal.sync().unwrap());
        threads.map(|thread| thread.join().unwrap())
    });
    cuts.into_iter().for_each(|cut| drop(cut.check()));
    bed.holds(8);
}

#[test]
fn waiters_are_told_once_their_records_are_durable() {
    explore(waiting);
}

#[test]
fn told_before_the_sync_is_caught() {
    caught(Bug::AcknowledgeBeforeSync, 100, waiting, "acknowledged and lost");
}

#[test]
fn a_next_round_that_nobody_leads_is_caught() {
    caught(Bug::NextRoundAsleep, 100, waiting, "deadlock");
}

/// Futures, which cannot lead, beside a thread that can.
fn awaiting(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    thread::scope(|scope| {
        for name in 0..2 {
            scope.spawn(move || {
                let tickets = [0, 1].map(|number| (number, bed.wal.append(&payload(name, number, 0)).unwrap()));
                for (number, ticket) in tickets {
                    bed.tell(block_on(ticket).unwrap(), payload(name, number, 0));
                }
            });
        }
        scope.spawn(|| bed.append(2, 0, 0));
    });
    bed.holds(5);
}

#[test]
fn futures_are_woken_whoever_leads() {
    explore(awaiting);
}

#[test]
fn a_token_given_back_before_the_point_moves_is_caught() {
    caught(Bug::TokenBeforePoint, 100, awaiting, "deadlock");
}

/// The disk is full for a moment: nobody leads for futures but the syncer, which has to come back.
fn stalled(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    bed.append(9, 9, 0);
    let full = Fault::new(Operation::Write).on(".wal").kind(std::io::ErrorKind::StorageFull);
    bed.disk.fail(full.nth(thread_rng().gen_range(1..=2)));
    thread::scope(|scope| {
        for name in 0..3 {
            // An append is refused meanwhile, and takes nothing.
            scope.spawn(move || {
                let ticket = loop {
                    match bed.wal.append(&payload(name, 0, 0)) {
                        Ok(ticket) => break ticket,
                        Err(e) => assert_eq!(*e.kind(), ErrorKind::DiskFull),
                    }
                    thread::yield_now();
                };
                bed.tell(block_on(ticket).unwrap(), payload(name, 0, 0));
            });
        }
        // It leads too, and does not wait for room.
        scope.spawn(|| bed.wal.clean_before_lsn(Lsn::ZERO).unwrap());
    });
    bed.holds(4);
}

#[test]
fn a_disk_that_was_full_is_tried_again() {
    explore(stalled);
}

/// Nobody waits for what is appended, but who follows: the interval, or the bound, has it synced.
fn unattended(options: &Options) {
    let bed = &Bed::with(options);
    thread::scope(|scope| {
        for name in 0..2 {
            scope.spawn(move || (0..2).for_each(|number| drop(bed.wal.append(&payload(name, number, 0)).unwrap())));
        }
        scope.spawn(|| followed(bed.wal.follow(Lsn::ZERO), 4));
    });
}

#[test]
fn what_nobody_waits_for_is_synced_by_the_interval() {
    explore(|bug| unattended(&options(bug).sync_interval(Duration::ZERO)));
}

#[test]
fn what_nobody_waits_for_is_synced_by_the_bound() {
    explore(|bug| unattended(&options(bug).sync_bytes(1)));
}

/// Two records to a segment: each second append needs one, from the maker or made by itself.
fn rotating(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    let cut = thread::scope(|scope| {
        for name in 0..3 {
            scope.spawn(move || (0..3).for_each(|number| _ = bed.append(name, number, LARGE)));
        }
        scope.spawn(|| {
            let payload = payload(3, 0, LARGE);
            loop {
                match bed.wal.try_append(&payload) {
                    Ok(ticket) => break bed.tell(ticket.wait().unwrap(), payload),
                    Err(e) => assert_eq!(*e.kind(), ErrorKind::Backpressure),
                }
                thread::yield_now();
            }
        });
        scope.spawn(|| bed.wal.rotate().unwrap());
        scope.spawn(|| bed.cut()).join().unwrap()
    });
    cut.check();
    bed.holds(10);
}

#[test]
fn segments_are_begun_in_order() {
    explore(rotating);
}

#[test]
fn segments_made_out_of_order_are_caught() {
    caught(Bug::MadeOutOfOrder, 1000, rotating, "was cleaned away");
}

/// All appends after one of the first three calls of this kind failed: everybody is told, nobody sleeps for ever.
fn poisoned(fault: Fault, length: usize, bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    bed.append(9, 9, 0);
    bed.disk.fail(fault.nth(thread_rng().gen_range(1..=3)));
    thread::scope(|scope| {
        for name in 0..3 {
            scope.spawn(move || {
                let failed = (0..).find_map(|number| bed.try_append(name, number, length).err());
                is_poison(&failed.unwrap());
            });
        }
        scope.spawn(move || {
            let failed = (0..).find_map(|number| match bed.wal.append(&payload(3, number, length)) {
                Ok(ticket) => block_on(ticket).map(|lsn| bed.tell(lsn, payload(3, number, length))).err(),
                Err(e) => Some(e),
            });
            is_poison(&failed.unwrap());
        });
        scope.spawn(|| {
            let mut follower = bed.wal.follow(Lsn::ZERO);
            let failed = std::iter::repeat_with(|| follower.next_timeout(FOR_EVER)).find_map(Result::err);
            is_poison(&failed.unwrap());
        });
    });
    is_poison(&bed.wal.close().unwrap_err());
    bed.cut().check();
}

fn poisoned_by_a_sync(bug: Option<Bug>) {
    poisoned(Fault::new(Operation::Sync).on(".wal"), 0, bug);
}

#[test]
fn a_sync_that_fails_is_told_to_everybody() {
    explore(poisoned_by_a_sync);
}

#[test]
fn a_poison_that_wakes_nobody_is_caught() {
    caught(Bug::PoisonUnheard, 100, poisoned_by_a_sync, "deadlock");
}

#[test]
fn a_directory_that_cannot_be_synced_is_told_to_everybody() {
    explore(|bug| poisoned(Fault::new(Operation::SyncDir), LARGE, bug));
}

/// A thread and a task that follow beside a writer.
fn following(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|number| _ = bed.append(0, number, LARGE)));
        scope.spawn(|| followed(bed.wal.follow(Lsn::ZERO), 3));
        scope.spawn(|| {
            let mut follower = bed.wal.follow(Lsn::ZERO);
            let found: Vec<_> = (0..3).map(|_| block_on(follower.next()).unwrap()).collect();
            in_order(&found);
        });
    });
    bed.holds(3);
}

#[test]
fn followers_see_each_record_in_order() {
    explore(following);
}

#[test]
fn watching_without_another_look_is_caught() {
    fn once(bug: Option<Bug>) {
        let bed = &Bed::new(bug);
        thread::scope(|scope| {
            scope.spawn(|| bed.append(0, 0, 0));
            scope.spawn(|| followed(bed.wal.follow(Lsn::ZERO), 1));
        });
    }
    caught(Bug::WatchedTooLate, 4000, once, "deadlock");
}

/// The same from outside: a view that knows what MARK and the frames say.
fn looking_on(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    bed.append(9, 9, 0);
    thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|number| _ = bed.append(0, number, LARGE)));
        scope.spawn(|| {
            let view = options(None).open_read_only_on(bed.disk.mount()).unwrap();
            followed(view.follow(Lsn::ZERO), 4);
        });
    });
    bed.holds(4);
}

#[test]
fn a_read_only_follower_sees_each_record_in_order() {
    explore(looking_on);
}

/// Cleaning beside appends and a reader that keeps what it read.
fn cleaning(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    (0..4).for_each(|number| _ = bed.append(9, number, LARGE));
    let cut = thread::scope(|scope| {
        scope.spawn(|| (0..4).for_each(|number| _ = bed.append(0, number, LARGE)));
        scope.spawn(|| (0..2).for_each(|_| _ = bed.wal.clean_before_lsn(bed.wal.durable_lsn()).unwrap()));
        scope.spawn(|| {
            let records: Vec<_> = bed.wal.read(Lsn::ZERO..).into_iter().flatten().collect();
            let overtaken = |e: &seawall::Error| matches!(e.kind(), ErrorKind::Removed { .. });
            assert!(records.iter().filter_map(|record| record.as_ref().err()).all(overtaken));
            let records: Vec<_> = records.into_iter().flatten().collect();
            in_order(&records);
            (0..2).for_each(|_| thread::yield_now());
            assert!(records.iter().all(|record| record.payload.len() == LARGE));
        });
        scope.spawn(|| bed.cut()).join().unwrap()
    });
    cut.check();
    assert_eq!(bed.disk.violations(), Vec::<String>::new());
    let last = bed.told.lock().unwrap().iter().map(|(lsn, _)| *lsn).max();
    assert_eq!(read(&bed.wal).last().map(|record| record.lsn), last);
    bed.cut().check();
}

#[test]
fn cleaning_takes_nothing_from_readers_and_appends() {
    explore(cleaning);
}

/// A cursor made beside a clean keeps all from where it stands.
fn cursors(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    (0..5).for_each(|number| _ = bed.append(9, number, LARGE));
    thread::scope(|scope| {
        for name in ["first", "second"] {
            scope.spawn(move || {
                let cursor = bed.wal.cursor(name).unwrap();
                let mut done = cursor.lsn().unwrap();
                for record in bed.wal.read(done..).expect("kept") {
                    done = record.expect("kept").end();
                }
                cursor.release(done).unwrap();
            });
        }
        scope.spawn(|| bed.wal.cursor("first").unwrap());
        scope.spawn(|| bed.wal.clean_before_lsn(Lsn::MAX).unwrap());
        scope.spawn(|| bed.append(0, 0, LARGE));
    });
    let stand = bed.wal.cursors();
    assert!(stand.len() == 2 && stand.values().all(|lsn| bed.wal.read(*lsn..).is_ok()));
    let found = bed.cut().check();
    assert_eq!(found.cursors().len(), 2);
}

#[test]
fn a_cursor_keeps_all_from_where_it_stands() {
    explore(cursors);
}

#[test]
fn a_cursor_made_while_a_clean_runs_is_caught() {
    caught(Bug::CursorBesideClean, 4000, cursors, "kept");
}

/// Two say how far they are, at once: the later note is not of the one who was less far.
#[test]
fn a_cursor_that_two_release_at_once_stands_where_the_further_is() {
    explore(|bug| {
        let bed = &Bed::new(bug);
        let ends = [0, 1].map(|number| bed.wal.get(bed.append(9, number, 0)).unwrap().end());
        let cursor = &bed.wal.cursor("reader").unwrap();
        thread::scope(|scope| {
            ends.into_iter().for_each(|end| _ = scope.spawn(move || cursor.release(end).unwrap()));
        });
        bed.wal.sync().unwrap();
        assert_eq!(bed.cut().check().cursors()["reader"], ends[1]);
    });
}

/// The removal's note is the later one, and the cursor is there again.
#[test]
fn a_cursor_made_again_while_it_is_removed_is_there_or_not_and_so_it_stays() {
    explore(|bug| {
        let bed = &Bed::new(bug);
        let cursor = bed.wal.cursor("reader").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| cursor.remove().unwrap());
            scope.spawn(|| _ = bed.wal.cursor("reader").unwrap());
        });
        bed.wal.sync().unwrap();
        assert_eq!(bed.cut().check().cursors(), bed.wal.cursors());
    });
}

/// Closing beside everything: what was appended is durable, later calls are refused, the lock is free.
fn closing(bug: Option<Bug>) {
    let bed = &Bed::new(bug);
    bed.append(9, 9, 0);
    let cursor = bed.wal.cursor("reader").unwrap();
    let closed = |error: &seawall::Error| assert_eq!(*error.kind(), ErrorKind::Closed);
    let left = thread::scope(|scope| {
        for name in 0..2 {
            scope.spawn(move || match bed.wal.append(&payload(name, 0, LARGE)) {
                Ok(ticket) if name == 0 => bed.tell(ticket.wait().unwrap(), payload(name, 0, LARGE)),
                Ok(ticket) => bed.tell(block_on(ticket).unwrap(), payload(name, 0, LARGE)),
                Err(e) => closed(&e),
            });
        }
        scope.spawn(|| _ = cursor.release(bed.wal.durable_lsn()).inspect_err(closed));
        scope.spawn(|| _ = bed.wal.clean_before_lsn(Lsn::MAX).inspect_err(closed));
        scope.spawn(|| {
            let mut follower = bed.wal.follow(Lsn::ZERO);
            closed(&std::iter::repeat_with(|| follower.next_timeout(FOR_EVER)).find_map(Result::err).unwrap());
        });
        scope.spawn(|| bed.wal.close().map(|()| bed.image()).unwrap()).join().unwrap()
    });
    assert!(left == bed.image(), "written after the lock was let go");
    bed.cut().check();
}

#[test]
fn closing_loses_nothing_and_leaves_nobody_waiting() {
    explore(closing);
}
