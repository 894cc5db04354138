//! Faults of waiting: who is woken, and what MARK says of it.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use seawall::sim::{Disk, Failing, Fault, Operation};
use seawall::storage::Fs;
use seawall::{ErrorKind, Lsn, Options, Wal};

use super::{small, soon};

/// Counts how often it was woken; may panic at it.
#[derive(Default)]
struct Woken {
    times: AtomicU64,
    panics: bool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "planned");
    }
}

/// A clean led the sync, and what was awaited meanwhile was never woken; nor did MARK say what was acknowledged.
#[test]
fn whoever_waits_beside_a_clean_that_leads_is_woken() {
    let disk = Disk::new(1);
    disk.threads(true);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    let second = wal.append(b"second").unwrap().lsn();
    let held = failing.hold(Operation::Sync);
    std::thread::scope(|scope| {
        let cleans = scope.spawn(|| wal.clean_before_lsn(Lsn(1)));
        held.wait_for(1);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut ticket = pin!(wal.append(b"third").unwrap());
        assert!(ticket.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // Until the syncer has found somebody leading. If it comes later it leads itself.
        std::thread::sleep(Duration::from_millis(100));
        drop(held);
        cleans.join().unwrap().unwrap();
        soon("the future", || woken.times.load(Ordering::SeqCst) > 0);
    });
    let view = Options::new().open_read_only_on(disk.mount()).unwrap();
    assert_eq!(&view.get(second).unwrap().payload[..], b"second");
}

#[test]
fn mark_says_what_a_clean_made_durable() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    let second = wal.append(b"second").unwrap();
    wal.clean_before_lsn(Lsn(1)).unwrap();
    let second = second.wait().unwrap();
    let view = Options::new().open_read_only_on(disk.mount()).unwrap();
    assert_eq!(view.durable_lsn(), wal.durable_lsn());
    assert_eq!(&view.get(second).unwrap().payload[..], b"second");
}

/// A record that nobody waited for lay in memory, and MARK was left for the next commit to write, which never came.
#[test]
fn mark_says_what_is_durable_beside_a_record_that_nobody_waits_for() {
    let disk = Disk::new(1);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    let held = failing.hold(Operation::Sync);
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| wal.append(b"second").unwrap().wait().unwrap());
        held.wait_for(1);
        drop(wal.append(b"nobody waits").unwrap());
        drop(held);
        second.join().unwrap()
    });
    let view = Options::new().open_read_only_on(disk.mount()).unwrap();
    assert_eq!(&view.get(second).unwrap().payload[..], b"second");
}

/// A waker that panicked left the others asleep, although their records were durable.
#[test]
fn a_waker_that_panics_keeps_nobody_asleep() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    let [first, second] = [true, false].map(|panics| Arc::new(Woken { panics, ..Woken::default() }));
    let mut one = pin!(wal.append(b"one").unwrap());
    let mut two = pin!(wal.append(b"two").unwrap());
    assert!(one.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&first)))).is_pending());
    assert!(two.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&second)))).is_pending());
    wal.sync().unwrap();
    assert_eq!([&first, &second].map(|woken| woken.times.load(Ordering::SeqCst)), [1, 1]);
}

/// What follows a round was skipped where a waker of the round panicked: the syncer was not woken for the next.
#[test]
fn a_waker_that_panics_does_not_keep_the_next_round_asleep() {
    let disk = Disk::new(1);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    disk.settle();
    let [panics, later] = [true, false].map(|panics| Arc::new(Woken { panics, ..Woken::default() }));
    let mut one = pin!(wal.append(b"one").unwrap());
    assert!(one.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&panics)))).is_pending());
    let held = failing.hold(Operation::Sync);
    std::thread::scope(|scope| {
        let leads = scope.spawn(|| wal.sync());
        held.wait_for(1);
        let mut two = pin!(wal.append(b"two").unwrap());
        assert!(two.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&later)))).is_pending());
        // The syncer finds somebody leading.
        disk.settle();
        drop(held);
        leads.join().unwrap().unwrap();
        disk.settle();
    });
    assert_eq!([&panics, &later].map(|woken| woken.times.load(Ordering::SeqCst)), [1, 1]);
}

/// A storage panicked while MARK was written, after the round: the next round's future slept on, and nothing was
/// poisoned.
#[test]
fn a_storage_that_panics_after_the_round_poisons_the_log() {
    let disk = Disk::new(1);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    drop(wal.append(b"one").unwrap());
    disk.settle();
    let woken = Arc::new(Woken::default());
    let held = failing.hold(Operation::Sync);
    std::thread::scope(|scope| {
        let leads = scope.spawn(|| catch_unwind(AssertUnwindSafe(|| wal.sync())).is_err());
        held.wait_for(1);
        let mut two = pin!(wal.append(b"two").unwrap());
        assert!(two.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&woken)))).is_pending());
        disk.settle();
        let panicked = AtomicU64::new(0);
        failing.before(Operation::Write, move || assert!(panicked.fetch_add(1, Ordering::SeqCst) > 0, "planned"));
        drop(held);
        assert!(leads.join().unwrap());
        assert_eq!(woken.times.load(Ordering::SeqCst), 1);
        let Poll::Ready(Err(e)) = two.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("pending") };
        assert_eq!(*e.kind(), ErrorKind::Poisoned);
    });
}

type Call = fn(&Wal);

/// Uses the log when woken.
struct Uses {
    wal: Arc<Wal>,
    with: Call,
    done: AtomicU64,
}

impl Wake for Uses {
    fn wake(self: Arc<Self>) {
        (self.with)(&self.wal);
        self.done.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that cleaned, made a cursor or closed waited for ever for a lock that its own thread held: a clean was syncing
/// or failing, a write failed, the log was being closed.
#[test]
fn a_waker_may_use_the_log() {
    let uses: [(&str, Call); 4] = [
        ("cleans", |wal| _ = wal.clean_before_lsn(Lsn::MAX)),
        ("makes a cursor", |wal| _ = wal.cursor("woken")),
        ("appends", |wal| _ = wal.append(b"woken").and_then(|ticket| ticket.wait())),
        ("closes", |wal| _ = wal.close()),
    ];
    let wakes: [(&str, Option<u64>, Call); 6] = [
        ("a sync", None, |wal| _ = wal.sync()),
        ("a clean", None, |wal| _ = wal.clean_before_lsn(Lsn::MAX)),
        ("a clean that fails", Some(1), |wal| _ = wal.clean_before_lsn(Lsn::MAX)),
        ("a write that fails", Some(0), |wal| _ = wal.sync()),
        ("a cursor that fails", Some(0), |wal| _ = wal.cursor("fails")),
        ("a close", None, |wal| _ = wal.close()),
    ];
    for (what, with) in uses {
        for (by, fails, wake) in wakes {
            let disk = Disk::new(1);
            let failing = Failing::new(disk.mount());
            let wal = Arc::new(small().open_on(failing.clone()).unwrap());
            for _ in 0..2 {
                wal.append(&[1; 3000]).unwrap().wait().unwrap();
                wal.rotate().unwrap();
            }
            disk.settle();
            let mut ticket = wal.append(b"waits").unwrap().into_owned();
            let uses = Arc::new(Uses { wal: Arc::clone(&wal), with, done: AtomicU64::new(0) });
            let waker = Waker::from(Arc::clone(&uses));
            assert!(pin!(&mut ticket).as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            if let Some(nth) = fails {
                failing.fail(Fault::new(Operation::Write).nth(nth).for_good());
            }
            let thread = std::thread::spawn(move || wake(&wal));
            soon(&format!("a waker {what}, woken by {by}"), || thread.is_finished());
            thread.join().unwrap();
            assert_eq!(uses.done.load(Ordering::SeqCst), 1, "a waker {what}, woken by {by}");
        }
    }
}

/// Threads were told at once of a sync that failed, and futures only when a clean that hung in a removal went on.
#[test]
fn futures_are_told_of_a_failure_while_a_clean_hangs() {
    let disk = Disk::new(1);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    for n in 0..20 {
        wal.append(&[n; 6000]).unwrap().wait().unwrap();
        disk.settle();
    }
    let held = failing.hold(Operation::Remove);
    std::thread::scope(|scope| {
        let cleans = scope.spawn(|| wal.clean_before_lsn(Lsn::MAX));
        held.wait_for(1);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut ticket = pin!(wal.append(b"waits").unwrap());
        assert!(ticket.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        failing.fail(Fault::new(Operation::Sync));
        assert!(wal.sync().is_err());
        let told = woken.times.load(Ordering::SeqCst);
        drop(held);
        _ = cleans.join().unwrap();
        assert_eq!(told, 1);
    });
}

/// The syncer's thread took the panic of a waker for its own, and poisoned a log of which all was durable.
#[test]
fn a_waker_that_panics_on_the_syncer_poisons_nothing() {
    let disk = Disk::new(1);
    disk.threads(true);
    let wal = small().open_on(disk.mount()).unwrap();
    let panics = Arc::new(Woken { panics: true, ..Woken::default() });
    let mut ticket = pin!(wal.append(b"first").unwrap());
    let waker = Waker::from(Arc::clone(&panics));
    if ticket.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        soon("the waker", || panics.times.load(Ordering::SeqCst) > 0);
    }
    for _ in 0..3 {
        wal.append(b"later").unwrap().into_owned().wait().unwrap();
    }
    wal.close().unwrap();
}

/// A close that a panic ended let the lock go and nothing else: the log cleaned away what the next writer had appended.
#[test]
fn a_close_that_panics_ends_the_log_before_it_lets_go() {
    for dropped in [false, true] {
        let disk = Disk::new(1);
        let failing = Failing::new(disk.mount());
        let wal = small().open_on(failing.clone()).unwrap();
        for n in 0..6 {
            wal.append(&[n; 6000]).unwrap().wait().unwrap();
        }
        disk.settle();
        let first = AtomicU64::new(0);
        failing.before(Operation::Write, move || assert!(first.fetch_add(1, Ordering::SeqCst) > 0, "planned"));
        if dropped {
            drop(wal);
            small().open_on(disk.mount()).unwrap();
            continue;
        }
        assert!(catch_unwind(AssertUnwindSafe(|| wal.close())).is_err());
        let other = small().open_on(disk.mount()).unwrap();
        other.append(b"other").unwrap().wait().unwrap();
        let names = disk.names();
        assert_eq!(*wal.clean_before_lsn(Lsn::MAX).unwrap_err().kind(), ErrorKind::Closed);
        assert!(wal.append(b"late").is_err() && wal.sync().is_err());
        assert_eq!(disk.names(), names);
        assert_eq!(other.read(..).unwrap().map(Result::unwrap).count(), 7);
    }
}

/// One thread writes its pieces while the leader's sync fails: no write is begun once that has been told.
#[test]
fn a_writer_under_way_stops_where_the_log_is_poisoned() {
    let disk = Disk::new(3);
    let failing = Failing::new(disk.mount());
    let wal = Options::new().segment_size(16 << 20).open_on(failing.clone()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    failing.fail(Fault::new(Operation::Sync).on(".wal"));
    let syncs = failing.hold(Operation::Sync);
    let begun = std::thread::scope(|scope| {
        let leads = scope.spawn(|| wal.append(b"led").unwrap().wait());
        syncs.wait_for(1);
        // Many pieces, which the syncer does not write, for its steps are ours.
        (0..60).for_each(|_| drop(wal.try_append(&[1; 100 << 10]).unwrap()));
        let writes = failing.hold(Operation::Write);
        let fills = scope.spawn(|| wal.append(&[2; 200 << 10]).map(drop));
        writes.wait_for(1);
        drop(syncs);
        assert_eq!(*leads.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
        let begun = failing.count(Operation::Write);
        drop(writes);
        assert_eq!(*fills.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
        begun
    });
    assert_eq!(failing.count(Operation::Write), begun);
}

/// The leader has two segments to sync, and another thread's write fails during the first.
#[test]
fn a_leader_under_way_stops_where_the_log_is_poisoned() {
    let disk = Disk::new(3);
    let failing = Failing::new(disk.mount());
    let wal = Options::new().segment_size(4 << 20).open_on(failing.clone()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    drop(wal.append(&[1; 3000]).unwrap());
    wal.rotate().unwrap();
    let last = wal.append(&[2; 3000]).unwrap();
    let syncs = failing.hold(Operation::Sync);
    let begun = std::thread::scope(|scope| {
        let leads = scope.spawn(|| last.wait());
        syncs.wait_for(1);
        failing.fail(Fault::new(Operation::Write).on(".wal"));
        let failed = (0..10).find_map(|_| wal.append(&[3; 100 << 10]).err());
        assert_eq!(*failed.unwrap().kind(), ErrorKind::Poisoned);
        let begun = failing.count(Operation::Sync);
        drop(syncs);
        assert_eq!(*leads.join().unwrap().unwrap_err().kind(), ErrorKind::Poisoned);
        begun
    });
    assert_eq!(failing.count(Operation::Sync), begun);
}

/// Figures waited for whoever was syncing MARK.
#[test]
fn figures_are_told_while_mark_is_synced() {
    let disk = Disk::new(3);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    for n in 0..10 {
        wal.append(&[n; 5000]).unwrap().wait().unwrap();
    }
    let held = failing.hold(Operation::Sync);
    std::thread::scope(|scope| {
        let cleans = scope.spawn(|| wal.clean_before_lsn(Lsn::MAX));
        held.wait_for(1);
        let (told, figures) = std::sync::mpsc::channel();
        let wal = &wal;
        scope.spawn(move || told.send(wal.stats()).unwrap());
        let figures = figures.recv_timeout(Duration::from_secs(10));
        drop(held);
        assert_eq!(figures.unwrap().appended_records, 10);
        assert!(!cleans.join().unwrap().unwrap().removed.is_empty());
    });
}

/// What was appended while the syncer synced was counted from the end of that: it was synced later than the interval.
#[test]
fn the_interval_counts_from_the_append_though_it_was_made_within_a_sync() {
    const INTERVAL: Duration = Duration::from_millis(100);
    let disk = Arc::new(Disk::new(1));
    let failing = Failing::new(disk.mount());
    let wal = Arc::new(small().sync_interval(INTERVAL).open_on(failing.clone()).unwrap());
    wal.append(b"warm").unwrap().wait().unwrap();
    disk.settle();
    drop(wal.append(b"first").unwrap());
    disk.settle();
    let late = Arc::new(AtomicU64::new(0));
    let (writer, clock, told) = (Arc::downgrade(&wal), Arc::clone(&disk), Arc::clone(&late));
    failing.before(Operation::Sync, move || {
        if told.load(Ordering::Relaxed) == 0 {
            let wal = writer.upgrade().unwrap();
            told.store(wal.append(b"within the sync").unwrap().lsn().0, Ordering::Relaxed);
            clock.advance(4 * INTERVAL);
        }
    });
    disk.advance(INTERVAL);
    disk.settle();
    failing.heal();
    disk.settle();
    let late = late.load(Ordering::Relaxed);
    assert!(late > 0 && wal.durable_lsn().0 > late, "{late} is not durable below {}", wal.durable_lsn());
}

/// While a batch that has no room in memory waits for it, smaller ones wait behind it.
#[test]
fn small_appends_do_not_pass_a_large_batch_that_waits_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    let options = Options::new().segment_size(4 << 20).max_buffered_bytes(512 << 10);
    let wal = options.open_on(failing.clone()).unwrap();
    wal.append(b"first").unwrap().wait().unwrap();
    drop(wal.append(&[1; 300 << 10]).unwrap());
    let hold = failing.hold(Operation::Write);
    std::thread::scope(|scope| {
        let large = scope.spawn(|| wal.append(&[2; 400 << 10]).unwrap().lsn());
        hold.wait_for(1);
        let error = wal.try_append(b"small").unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Backpressure, "{error}");
        drop(hold);
        let large = large.join().unwrap();
        assert!(wal.append(b"small").unwrap().lsn() > large);
    });
}

/// A follower of a view that begins to wait while all is well is woken for an error too.
#[test]
fn a_follower_of_a_view_is_woken_for_an_error_that_comes_while_it_waits() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"read").unwrap().wait().unwrap();
    let view = small().open_read_only_on(disk.mount()).unwrap();
    let mut follower = view.follow(wal.durable_lsn());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let looks = || {
        disk.advance(Duration::from_millis(100));
        disk.settle();
        woken.times.load(Ordering::SeqCst)
    };
    assert!(pin!(follower.next()).poll(&mut context).is_pending());
    assert_eq!(looks(), 0);
    disk.fail(Fault::new(Operation::Read).for_good());
    assert_eq!(looks(), 1);
    let next = pin!(follower.next()).poll(&mut context);
    assert!(matches!(&next, Poll::Ready(Err(e)) if *e.kind() == ErrorKind::Io), "{next:?}");
}

/// The log is closed between a follower's look and its watching: whoever closes wakes those that it finds, and nobody is
/// left to wake one that comes after.
#[test]
fn a_follower_that_begins_to_wait_while_the_log_closes_is_told() {
    thread_local! {
        static CLOSES: RefCell<Option<Arc<seawall::Wal>>> = const { RefCell::new(None) };
    }
    // Cloned where the log is watched, before it is.
    fn clone(_: *const ()) -> RawWaker {
        if let Some(wal) = CLOSES.take() {
            wal.close().unwrap();
        }
        RawWaker::new(std::ptr::null(), &CLOSING)
    }
    static CLOSING: RawWakerVTable = RawWakerVTable::new(clone, |_| (), |_| (), |_| ());
    let wal = Arc::new(small().open_on(Disk::new(1).mount()).unwrap());
    wal.append(b"read").unwrap().wait().unwrap();
    let mut follower = wal.follow(wal.durable_lsn());
    assert!(follower.try_next().unwrap().is_none());
    CLOSES.set(Some(Arc::clone(&wal)));
    #[allow(unsafe_code)]
    // SAFETY: nothing is behind the pointer, and none of the functions reads it.
    let waker = unsafe { Waker::new(std::ptr::null(), &CLOSING) };
    let next = pin!(follower.next()).poll(&mut Context::from_waker(&waker));
    assert!(matches!(&next, Poll::Ready(Err(e)) if *e.kind() == ErrorKind::Closed), "{next:?}");
}
