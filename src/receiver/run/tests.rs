//! Single turns of the loop, by a clock that the test moves: what is asked, sought and begun, and what is not.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::receiver::assign::tests::{HAIR, Hand, place, places};
use crate::receiver::entry::{Origin, OriginCause};
use crate::receiver::intake::Owned;
use crate::receiver::line::{Beginning, Item};
use crate::receiver::scripted::{Broker, Call, CommitFault, Stored};
use crate::sim::Disk;
use crate::{Lsn, Options};

/// A receiver whose loop the test goes through, and whose the two partitions of `t` are, from 0 on.
fn receiver() -> (Broker, Arc<Hand>, Receiver) {
    let broker = Broker::new();
    let id = broker.create_topic("t", 2);
    (0..2).for_each(|number| _ = broker.produce("t", number, Stored::default()));
    let clock = Arc::<Hand>::default();
    let config = Config { clock: Arc::<Hand>::clone(&clock), ..Config::default() };
    let wal = Options::new().segment_size(64 << 10).open_on(Disk::new(1).mount()).unwrap();
    let mut source = broker.join("g", &["t"]);
    assert!(matches!(source.poll(Duration::ZERO), Some(Event::Assigned(offered)) if offered == places(&[0, 1])));
    let mut receiver = Receiver::new(Arc::new(wal), source, config).unwrap();
    (0..2).for_each(|number| receiver.intake.own(Owned::new(place(number), id, 0, None)));
    (broker, clock, receiver)
}

fn now(receiver: &Receiver) -> Duration {
    receiver.config.clock.monotonic()
}

fn rechecks(receiver: &Receiver) -> Vec<Option<Recheck>> {
    receiver.intake.owned.iter().map(|owned| owned.recheck).collect()
}

/// The partitions of which records come.
fn delivered(receiver: &mut Receiver) -> Vec<i32> {
    let mut numbers = Vec::new();
    while let Some(event) = receiver.source.poll(Duration::ZERO) {
        if let Event::Record(message) = event {
            numbers.push(message.partition.number);
        }
    }
    numbers
}

/// That the log was cut stays, for the position may be in it again; and what is asked already is not begun with anew.
#[test]
fn a_doubt_is_forgotten_only_for_that_of_a_cut() {
    for (before, then, is_cut, is_new) in
        [(false, false, false, false), (false, true, true, true), (true, false, true, false), (true, true, true, false)]
    {
        let (broker, _, mut receiver) = receiver();
        broker.fail(Call::TopicId, u32::MAX);
        receiver.doubt(&place(1), before);
        let at = now(&receiver);
        receiver.watch(at).unwrap();
        receiver.doubt(&place(1), then);
        let rechecks = rechecks(&receiver);
        assert!(rechecks[0].is_none());
        assert_eq!(rechecks[1].map(|it| (it.is_cut, it.since.is_none())), Some((is_cut, is_new)), "{before} {then}");
    }
}

/// Who asked all the time that there is would not poll.
#[test]
fn positions_are_asked_about_for_a_moment_and_only_while_records_are_taken() {
    let (_, clock, mut receiver) = receiver();
    (0..2).for_each(|number| receiver.doubt(&place(number), false));
    receiver.intake.open = false;
    let at = now(&receiver);
    receiver.watch(at).unwrap();
    assert!(rechecks(&receiver).iter().all(|it| it.is_some_and(|it| it.since.is_none())));
    receiver.intake.open = true;
    clock.advance(TURN);
    receiver.watch(at).unwrap();
    assert!(rechecks(&receiver).iter().all(|it| it.is_some_and(|it| it.since.is_none())));
    let at = now(&receiver);
    receiver.watch(at).unwrap();
    assert!(rechecks(&receiver).iter().all(Option::is_none));
    assert_eq!(delivered(&mut receiver), [0, 1], "they are sought again");
}

/// It is asked about first: at a position that is gone nothing would come.
#[test]
fn a_position_in_doubt_is_not_sought() {
    let (broker, clock, mut receiver) = receiver();
    broker.fail(Call::TopicId, u32::MAX);
    clock.advance(WATCHDOG);
    receiver.doubt(&place(1), false);
    let at = now(&receiver);
    receiver.watch(at).unwrap();
    receiver.intake.owned.iter_mut().for_each(|owned| owned.silent_since = Some(Duration::ZERO));
    receiver.watch(at).unwrap();
    assert_eq!((seeks(&receiver), delivered(&mut receiver)), (1, vec![0]));
    receiver.intake.open = false;
    receiver.resume(at, at).unwrap();
    assert!(receiver.intake.open);
    assert_eq!(delivered(&mut receiver), [0]);
}

fn seeks(receiver: &Receiver) -> u64 {
    receiver.status().snapshot().watchdog_seeks
}

/// Whatever had told it to deliver: an answer about its position, or the end of a pause.
#[test]
fn a_partition_that_stays_silent_is_sought_again_and_again_but_not_at_each_turn() {
    for (is_in_doubt, silent) in [(true, 1), (false, 2)] {
        let (_, clock, mut receiver) = receiver();
        let at = now(&receiver);
        if is_in_doubt {
            receiver.doubt(&place(0), false);
            receiver.watch(at).unwrap();
        } else {
            receiver.resume(at, at).unwrap();
        }
        for round in 1..4 {
            clock.advance(WATCHDOG);
            for _ in 0..3 {
                let at = now(&receiver);
                receiver.watch(at).unwrap();
                assert_eq!(seeks(&receiver), round * silent);
            }
        }
    }
}

/// Something that waits for the disk, and for ever: nobody is at the other end of the line.
fn push(receiver: &Receiver) -> u64 {
    receiver.line.push(0, Item::Starts(Vec::new()))
}

fn full(kind: ErrorKind) -> Option<Error> {
    Some(Error::new(kind, "append", "no room"))
}

/// A source that refuses would be asked at each turn, and one whose pause holds for nothing.
#[test]
fn a_pause_that_does_not_hold_and_a_resume_that_fails_are_tried_again_after_a_while() {
    let (broker, clock, mut receiver) = receiver();
    [Call::Pause, Call::Resume].into_iter().for_each(|call| broker.fail(call, u32::MAX));
    receiver.intake.open = false;
    let turns = |receiver: &mut Receiver, stragglers| {
        clock.advance(receiver.config.retry_interval);
        let (at, before) = (now(receiver), receiver.status().snapshot().source_errors);
        for _ in 0..3 {
            receiver.intake.stragglers += stragglers;
            receiver.balance(at).unwrap();
        }
        receiver.status().snapshot().source_errors - before
    };
    let last = (0..3).map(|_| push(&receiver)).max();
    // Those that came after the last pause of a turn have it made once more in the next.
    assert_eq!([0, 0, 1, 1, 0].map(|stragglers| turns(&mut receiver, stragglers)), [1, 0, 1, 1, 1]);
    assert_eq!(turns(&mut receiver, 0), 0);
    receiver.line.done(last.unwrap(), |_| ());
    assert_eq!([0, 0, 1].map(|stragglers| turns(&mut receiver, stragglers)), [1, 1, 1]);
}

#[test]
fn records_are_taken_again_only_where_there_is_room_and_no_stop() {
    let is_taken = |change: fn(&mut Receiver)| {
        let (_, clock, mut receiver) = receiver();
        receiver.intake.open = false;
        change(&mut receiver);
        for _ in 0..3 {
            clock.advance(receiver.config.retry_interval);
            let at = now(&receiver);
            receiver.balance(at).unwrap();
        }
        receiver.intake.open
    };
    // Four blocks may wait: half of them are no reason.
    assert!(is_taken(|receiver| (0..2).for_each(|_| _ = push(receiver))));
    assert!(!is_taken(|receiver| (0..3).for_each(|_| _ = push(receiver))));
    assert!(!is_taken(|receiver| receiver.line.set_full(full(ErrorKind::LogFull))));
    assert!(!is_taken(|receiver| receiver.pace.stop_by = Some(Duration::MAX)));
}

/// Whoever makes room has a moment; where the disk is full, or the log is cleaned, all the time that a stop takes.
#[test]
fn a_stop_gives_up_a_log_that_stays_full_and_nothing_else() {
    let day = Duration::from_secs(24 * 3600);
    for (kind, retain, gives_up) in
        [(ErrorKind::LogFull, None, true), (ErrorKind::LogFull, Some(day), false), (ErrorKind::DiskFull, None, false)]
    {
        let (_, _, mut receiver) = receiver();
        (receiver.config.retain, receiver.config.stop_timeout) = (retain, day);
        push(&receiver);
        receiver.line.set_full(full(kind));
        let (stop, at) = (AtomicBool::new(true), now(&receiver));
        receiver.hear_append_thread(at).unwrap();
        assert!(!receiver.stopped(&stop, at).unwrap());
        let tries = 5 * receiver.config.retry_interval;
        assert!(!receiver.stopped(&stop, at + tries - HAIR).unwrap());
        let not_durable = |answer: &_| matches!(answer, Err(ReceiveError::NotDurable { blocks: 1, .. }));
        assert_eq!(not_durable(&receiver.stopped(&stop, at + tries)), gives_up);
        assert!(not_durable(&receiver.stopped(&stop, at + day)));
    }
}

/// Goes on with what was offered; what is being read then, and from where.
fn begun(receiver: &mut Receiver) -> Vec<(i32, i64)> {
    receiver.advance_assignments().unwrap();
    receiver.intake.owned.iter().map(|owned| (owned.partition.number, owned.next)).collect()
}

#[test]
fn nothing_is_begun_with_while_stopping() {
    let (_, clock, mut receiver) = receiver();
    receiver.intake.owned.clear();
    let stop = AtomicBool::new(true);
    receiver.offered(places(&[0]));
    let at = now(&receiver);
    assert!(!receiver.stopped(&stop, at).unwrap());
    receiver.offered(places(&[1]));
    for _ in 0..3 {
        assert_eq!(begun(&mut receiver), []);
        clock.advance(receiver.config.retry_interval);
    }
    assert_eq!((receiver.line.waiting(), receiver.assignments.len()), (0, 0));
}

/// Begun once more, a partition would stand where the last sealed block ends, and what the open one holds would be in the log
/// twice.
#[test]
fn partitions_that_are_offered_again_before_they_are_begun_are_begun_once() {
    let (_, _, mut receiver) = receiver();
    receiver.intake.owned.clear();
    receiver.offered(places(&[0, 1]));
    receiver.offered(places(&[1]));
    receiver.offered(places(&[0, 1]));
    assert_eq!(receiver.assignments.len(), 1);
    assert_eq!(begun(&mut receiver), []);
    receiver.line.done(1, |_| ());
    assert_eq!(begun(&mut receiver), [(0, 0), (1, 0)]);
    assert_eq!(receiver.status().snapshot().assigned, 2);
}

/// What is read after the last block was sealed would be in none.
#[test]
fn no_record_is_taken_while_stopping() {
    for stops in [false, true] {
        let (_, _, mut receiver) = receiver();
        receiver.source.assign(&[(place(0), 0)]).unwrap();
        let at = now(&receiver);
        assert!(!receiver.stopped(&AtomicBool::new(stops), at).unwrap());
        receiver.poll(at).unwrap();
        assert_eq!(receiver.intake.owned[0].next, i64::from(!stops));
    }
}

/// Counts how often it hears that the log is full.
#[derive(Default)]
struct Ear(AtomicU64);

impl Observer for Ear {
    fn notice(&self, notice: &Notice) {
        self.0.fetch_add(u64::from(matches!(notice, Notice::Full(_))), Ordering::Relaxed);
    }
}

#[test]
fn a_full_log_is_spoken_of_now_and_then_and_at_once_when_it_is_full_again() {
    let (_, clock, receiver) = receiver();
    let ear = Arc::<Ear>::default();
    let mut receiver = receiver.observe(Arc::<Ear>::clone(&ear));
    let mut heard = |full| {
        receiver.line.set_full(full);
        let at = now(&receiver);
        (0..3).for_each(|_| receiver.hear_append_thread(at).unwrap());
        ear.0.load(Ordering::Relaxed)
    };
    assert_eq!(heard(full(ErrorKind::LogFull)), 1);
    clock.advance(FULL_REMINDER / 2);
    assert_eq!(heard(full(ErrorKind::LogFull)), 1);
    clock.advance(FULL_REMINDER / 2);
    assert_eq!(heard(full(ErrorKind::LogFull)), 2);
    assert_eq!(heard(None), 2);
    assert_eq!(heard(full(ErrorKind::LogFull)), 3);
}

#[test]
fn a_commit_that_failed_goes_again_at_once_with_what_is_durable_since() {
    let (broker, clock, mut receiver) = receiver();
    let (partition, topic_id) = (place(0), receiver.intake.owned[0].topic_id);
    let origin = Beginning::Origin(Origin::new(partition, topic_id, None, 0, OriginCause::Earliest));
    receiver.line.done(0, |table| origin.apply(table, Lsn::ZERO).unwrap());
    broker.fail_commits(&[CommitFault::NotTaken; 9]);
    let mut sent = || {
        let at = now(&receiver);
        receiver.hear_append_thread(at).unwrap();
        let Receiver { source, intake, line, commits, board, .. } = &mut receiver;
        (0..3).for_each(|_| commits.send(&mut **source, intake, line, board));
        (board.handle().snapshot().commits.sent, Arc::clone(line))
    };
    let (first, line) = sent();
    assert_eq!((first, sent().0), (1, 1));
    line.done(0, |_| ());
    assert_eq!((sent().0, sent().0), (2, 2));
    clock.advance(Config::default().commit_retry);
    assert_eq!((sent().0, sent().0), (3, 3));
}

/// The append thread went on for ever, and held the log.
#[test]
fn a_panic_in_the_polling_thread_lets_the_log_go() {
    struct Panics;
    impl Observer for Panics {
        fn notice(&self, notice: &Notice) {
            assert!(!matches!(notice, Notice::Assigned { .. }), "planned");
        }
    }
    let (broker, disk) = (Broker::new(), Disk::new(1));
    broker.create_topic("t", 1);
    disk.threads(true);
    let options = Options::new().segment_size(64 << 10);
    let wal = Arc::new(options.open_on(disk.mount()).unwrap());
    let receiver = Receiver::new(wal, broker.join("g", &["t"]), Config::default()).unwrap().observe(Arc::new(Panics));
    let run = std::panic::AssertUnwindSafe(|| receiver.run(&AtomicBool::new(false)));
    assert!(std::panic::catch_unwind(run).is_err());
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(e) = options.open_on(disk.mount()) {
        assert!(*e.kind() == ErrorKind::Locked && Instant::now() < until, "{e}");
        thread::sleep(Duration::from_millis(10));
    }
}
