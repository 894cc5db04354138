//! Where to start: each row of the table, with a broker and a log that are in that state.

use std::sync::Arc;

use seawall::Lsn;
use seawall::Wal;
use seawall::receiver::scripted::{Broker, Call};
use seawall::receiver::{
    BlockBuilder, CommitMark, Config, DecodeErrorKind, Entry, Handover, LogId, Message, Mode, OriginCause,
    ReceiveError, Reset, StartError, TopicId,
};
use tempfile::TempDir;

use crate::world::*;

/// A log that holds the first `count` records of `t`/0.
fn with_log(broker: &Broker, count: i32) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    produce(broker, "t", 1, count);
    let life = Life::start(broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    dir
}

fn id_of(dir: &TempDir) -> LogId {
    let wal = options().open(dir.path()).unwrap();
    let id = LogId(wal.log_id());
    wal.close().unwrap();
    id
}

fn mark_of(log: LogId) -> String {
    CommitMark::new(log, TopicId([1; 16]), Lsn(4096), 0).encode()
}

const OTHER: LogId = LogId([0xAB; 16]);

fn start_error(life: Life) -> StartError {
    match life.error() {
        ReceiveError::Start { error, .. } => error,
        other => panic!("{other}"),
    }
}

fn offsets(dir: &TempDir) -> Vec<i64> {
    let wal = options().open(dir.path()).unwrap();
    let offsets = contents(&wal).get(&0).map(|records| records.iter().map(|(offset, _)| *offset).collect());
    wal.close().unwrap();
    offsets.unwrap_or_default()
}

fn entries<T>(dir: &TempDir, pick: impl Fn(Entry<'_>) -> Option<T>) -> Vec<T> {
    let wal = options().open(dir.path()).unwrap();
    let entries = records(&wal).iter().filter_map(|record| pick(Entry::decode(&record.payload).unwrap())).collect();
    wal.close().unwrap();
    entries
}

/// Where the log says that its partitions begin.
fn origins(dir: &TempDir) -> Vec<i64> {
    entries(dir, |entry| if let Entry::Origin(origin) = entry { Some(origin.next) } else { None })
}

/// What nobody knows begins at its end.
fn latest() -> Config {
    let mut config = quick();
    config.on_reset = Reset::Latest;
    config
}

#[test]
fn a_topic_made_anew_is_an_error_and_never_a_duplicate() {
    for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
        let broker = broker(1);
        let dir = with_log(&broker, 10);
        let now = broker.recreate_topic("t");
        produce(&broker, "t", 1, 20);
        let mut config = quick();
        config.mode = mode;
        let error = start_error(Life::start(&broker, fs(dir.path()), config));
        assert_eq!(error, StartError::TopicRecreated { known: TopicId([1; 16]), now });
        assert!(error.to_string().contains("option"), "{error}");
        assert_eq!(offsets(&dir), (0..10).collect::<Vec<_>>());
        assert_eq!(committed(&broker, 0), None, "nothing is committed on the new topic");
    }
}

#[test]
fn an_offset_that_was_committed_for_a_topic_of_that_name_before_counts_as_none() {
    let former = CommitMark::new(OTHER, TopicId([9; 16]), Lsn(4096), 0).encode();
    for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
        produce(&broker, "t", 1, 10);
        broker.set_committed("g", commit(0, 7, &former));
        let mut config = quick();
        config.mode = mode;
        let life = Life::start(&broker, fs(dir.path()), config.clone());
        life.expect_all_committed();
        life.stop();
        assert_eq!(offsets(&dir), (0..10).collect::<Vec<_>>(), "{mode:?}");
        // Nor does it keep this topic's offsets from being committed, though it is beyond them.
        broker.set_committed("g", commit(0, 70, &former));
        let life = Life::start(&broker, fs(dir.path()), config);
        life.expect_all_committed();
        assert_eq!(life.stop().recorded, 0, "{mode:?}");
    }
}

#[test]
fn where_nobody_knows_the_policy_decides_and_is_recorded_as_origin() {
    for (reset, first, cause) in [(Reset::Earliest, 2, OriginCause::Earliest), (Reset::Latest, 10, OriginCause::Latest)]
    {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
        produce(&broker, "t", 1, 10);
        broker.expire("t", 0, 2);
        let mut config = quick();
        config.on_reset = reset;
        let life = Life::start(&broker, fs(dir.path()), config);
        life.expect("the partition is ours", |life| life.status().assigned == 1);
        produce(&broker, "t", 1, 5);
        life.expect_all_committed();
        life.stop();
        assert_eq!(offsets(&dir), (first..15).collect::<Vec<_>>());
        let origins = entries(&dir, |entry| if let Entry::Origin(origin) = entry { Some(origin) } else { None });
        assert_eq!(origins.iter().map(|origin| (origin.next, origin.cause)).collect::<Vec<_>>(), [(first, cause)]);
    }
}

#[test]
fn where_nobody_knows_and_the_policy_is_to_refuse_it_is_an_error() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let mut config = quick();
    config.on_reset = Reset::Error;
    assert_eq!(start_error(Life::start(&broker, fs(dir.path()), config)), StartError::NoOffset);
}

#[test]
fn a_new_partition_of_a_known_topic_starts_at_earliest_though_the_policy_is_latest() {
    let broker = broker(1);
    let dir = with_log(&broker, 10);
    broker.add_partition("t");
    broker.produce("t", 1, stored("before the receiver saw the partition"));
    let life = Life::start(&broker, fs(dir.path()), latest());
    life.expect_all_committed();
    assert_eq!(life.stop().recorded, 1);
    assert_exactly_once(&broker, fs(dir.path()));
}

/// A new partition that fell to a member whose log knew nothing of the topic began at its end, and what was in it was in no
/// log.
#[test]
fn a_new_partition_of_a_topic_that_the_group_has_read_starts_at_earliest_in_an_empty_log_too() {
    for reads in [true, false] {
        let broker = broker(1);
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let config = latest();
        let first = Life::start(&broker, fs(dirs[0].path()), config.clone());
        first.wait(|life| life.status().assigned == 1);
        produce(&broker, "t", 1, if reads { 10 } else { 0 });
        first.expect_all_committed();
        let second = Life::start(&broker, fs(dirs[1].path()), config);
        broker.delay(Call::Watermarks, ms(100));
        broker.add_partition("t");
        (0..5).for_each(|_| _ = broker.produce("t", 1, stored("new")));
        second.wait(|life| life.status().assigned == 1);
        first.expect_all_committed();
        second.stop();
        first.stop();
        // A group that has read nothing begins where the policy says.
        assert_eq!(origins(&dirs[1]), [if reads { 0 } else { 5 }]);
    }
}

/// The backlog of a partition as old as the topic was recorded, for the log knew another one of the topic: one of which it had
/// read nothing, or a higher one.
#[test]
fn a_partition_beside_one_that_was_only_begun_or_is_higher_is_no_new_one() {
    for ours in [0, 1] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), Broker::new());
        let before = (ours == 1).then(|| broker.join("g", &["t"]));
        let life = Life::start(&broker, fs(dir.path()), latest());
        let other = before.unwrap_or_else(|| broker.join("g", &["t"]));
        broker.create_topic("t", 2);
        life.expect("its origin is committed", |_| committed(&broker, ours) == Some(0));
        (0..ours).for_each(|_| _ = broker.produce("t", ours, stored("read")));
        life.expect("what is there of it is committed", |_| committed(&broker, ours) == Some(i64::from(ours)));
        (0..10).for_each(|_| _ = broker.produce("t", 1 - ours, stored("old")));
        drop(other);
        life.expect("both are ours", |life| life.status().assigned == 2);
        life.expect_all_committed();
        assert!(!life.witness.heard("a new partition"));
        assert_eq!(life.stop().recorded, ours as u64);
    }
}

#[test]
fn a_partition_is_new_only_above_one_that_the_group_has_read() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(4));
    produce(&broker, "t", 4, 40);
    broker.set_committed("g", commit(2, 5, ""));
    let life = Life::start(&broker, fs(dir.path()), latest());
    life.expect_all_committed();
    life.stop();
    assert_eq!(origins(&dir), [10, 10, 5, 0]);
}

/// A member that had taken over and read nothing yet committed what looked like a beginning.
#[test]
fn a_partition_is_new_above_one_of_which_a_log_before_the_last_has_read() {
    for (read_before, first) in [(true, 0), (false, 5)] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
        produce(&broker, "t", 1, 10);
        let mark = CommitMark::new(OTHER, TopicId([1; 16]), Lsn(4096), 10).after(read_before);
        broker.set_committed("g", commit(0, 10, &mark.encode()));
        broker.add_partition("t");
        (0..5).for_each(|_| _ = broker.produce("t", 1, stored("new")));
        let life = Life::start(&broker, fs(dir.path()), latest());
        life.expect_all_committed();
        life.stop();
        assert_eq!(origins(&dir), [10, first]);
    }
}

/// A handover counted as a beginning, and what the log had read before it for nothing: with the group's offsets gone, the new
/// partition began at its end, and what was in it was in no log.
#[test]
fn a_partition_is_new_above_one_that_was_handed_over_and_not_read_since() {
    for stops in [false, true] {
        let broker = broker(1);
        let dir = with_log(&broker, 10);
        produce(&broker, "t", 1, 5);
        broker.set_committed("g", commit(0, 15, &mark_of(OTHER)));
        let config = latest();
        let start = || Life::start(&broker, fs(dir.path()), config.clone());
        let life = start();
        life.expect("it is handed over", |life| life.witness.heard("another log has 10 to 15"));
        let grow = || {
            broker.forget_committed("g");
            broker.add_partition("t");
            (0..5).for_each(|_| _ = broker.produce("t", 1, stored("new")));
        };
        let life = if stops {
            life.stop();
            grow();
            start()
        } else {
            grow();
            life
        };
        life.expect("the new partition is read", |life| life.status().partitions.len() == 2);
        life.expect("from its beginning", |life| life.witness.heard("t/1@0 (a new partition)"));
        assert_eq!(life.stop().recorded, 5);
    }
}

#[test]
fn the_log_is_followed_where_the_groups_offset_expired() {
    let broker = broker(1);
    let dir = with_log(&broker, 10);
    broker.forget_committed("g");
    produce(&broker, "t", 1, 5);
    let life = Life::start(&broker, fs(dir.path()), latest());
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_log_that_was_rolled_back_is_an_error() {
    let broker = broker(1);
    let dir = with_log(&broker, 10);
    broker.set_committed("g", commit(0, 12, &mark_of(id_of(&dir))));
    produce(&broker, "t", 1, 5);
    let error = start_error(Life::start(&broker, fs(dir.path()), quick()));
    assert_eq!(error, StartError::LogBehindGroup { log: Some(10), group: 12 });
}

#[test]
fn a_log_that_was_lost_is_an_error() {
    let broker = broker(1);
    drop(with_log(&broker, 10));
    let empty = tempfile::tempdir().unwrap();
    let error = start_error(Life::start(&broker, fs(empty.path()), quick()));
    assert_eq!(error, StartError::LogBehindGroup { log: None, group: 10 });
    assert!(error.to_string().contains("option"), "{error}");
    assert!(offsets(&empty).is_empty());
}

#[test]
fn an_empty_log_begins_where_another_read_nothing() {
    let (first, dir, broker) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), broker(1));
    let life = Life::start(&broker, fs(first.path()), quick());
    life.expect("its origin is committed", |_| committed(&broker, 0) == Some(0));
    life.stop();
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    assert_eq!(offsets(&dir), (0..10).collect::<Vec<_>>());
}

#[test]
fn an_empty_log_beside_other_members_begins_where_the_group_is() {
    let broker = broker(2);
    produce(&broker, "t", 1, 10);
    broker.set_committed("g", commit(0, 6, &mark_of(OTHER)));
    broker.set_committed("g", commit(1, 0, &mark_of(OTHER)));
    // The second member joins later, so that t/0 stays with the first, but before the first has its answers.
    let dir = tempfile::tempdir().unwrap();
    broker.fail(Call::TopicId, u32::MAX);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect("the source is asked", |life| life.status().source_errors > 0);
    let second = broker.join("g", &["t"]);
    broker.fail(Call::TopicId, 0);
    life.expect("the partition is ours", |life| life.status().partitions.iter().any(|status| status.next == 10));
    life.stop();
    drop(second);
    assert_eq!(offsets(&dir), [6, 7, 8, 9]);
}

#[test]
fn another_programs_commit_begins_an_empty_log() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    broker.set_committed("g", commit(0, 7, "some consumer's"));
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    assert_eq!(offsets(&dir), [7, 8, 9]);
}

#[test]
fn what_another_log_took_is_handed_over_and_recorded() {
    for (metadata, log) in [(mark_of(OTHER), Some(OTHER)), (String::new(), None)] {
        let broker = broker(1);
        let dir = with_log(&broker, 10);
        produce(&broker, "t", 1, 10);
        broker.set_committed("g", commit(0, 15, &metadata));
        let life = Life::start(&broker, fs(dir.path()), quick());
        life.expect_all_committed();
        let (known, unknown) = ("another log has 10 to 15", "10 to 15 are in no log known to this one");
        assert_eq!((life.witness.heard(known), life.witness.heard(unknown)), (log.is_some(), log.is_none()));
        life.stop();
        assert_eq!(offsets(&dir), (0..10).chain(15..20).collect::<Vec<_>>());
        assert_eq!(handovers(&dir), [Handover::new(partition("t", 0), TopicId([1; 16]), 10, 15, log)]);
    }
}

fn handovers(dir: &TempDir) -> Vec<Handover> {
    entries(dir, |entry| if let Entry::Handover(handover) = entry { Some(handover) } else { None })
}

#[test]
fn what_no_log_is_known_to_have_is_not_put_down_to_the_one_that_committed_last() {
    let broker = broker(1);
    let first = with_log(&broker, 10);
    // Somebody sets the group forward, and another log begins there, and has a table of its own before it goes on.
    produce(&broker, "t", 1, 40);
    broker.set_committed("g", commit(0, 30, ""));
    let other = tempfile::tempdir().unwrap();
    for more in [10, 5] {
        let life = Life::start(&broker, fs(other.path()), quick());
        life.expect_all_committed();
        life.stop();
        produce(&broker, "t", 1, more);
    }
    let life = Life::start(&broker, fs(other.path()), quick());
    life.expect_all_committed();
    life.stop();
    let log = id_of(&other);
    let life = Life::start(&broker, fs(first.path()), quick());
    let (unknown, known) =
        ("offsets 10 to 30 are in no log known to this one", format!("another log has 30 to 65: {log}"));
    life.expect("both are told", |life| life.witness.heard(unknown) && life.witness.heard(&known));
    life.stop();
    let handover = |from, next, log| Handover::new(partition("t", 0), TopicId([1; 16]), from, next, log);
    assert_eq!(handovers(&first), [handover(10, 30, None), handover(30, 65, Some(log))]);
    // Its own chain begins there now, and the log is sound.
    produce(&broker, "t", 1, 5);
    let life = Life::start(&broker, fs(first.path()), quick());
    life.expect_all_committed();
    life.stop();
    assert_eq!(CommitMark::parse(&broker.committed("g", "t", 0).unwrap().metadata).unwrap().from, 65);
}

#[test]
fn retention_that_passed_the_log_is_an_error() {
    let broker = broker(1);
    let dir = with_log(&broker, 10);
    produce(&broker, "t", 1, 10);
    broker.expire("t", 0, 12);
    let error = start_error(Life::start(&broker, fs(dir.path()), quick()));
    assert_eq!(error, StartError::Missing { next: 10, low: 12 });
}

#[test]
fn what_is_missing_is_passed_over_where_the_group_is_set_behind_it_as_the_error_says() {
    for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
        let broker = broker(1);
        let dir = with_log(&broker, 10);
        produce(&broker, "t", 1, 10);
        broker.expire("t", 0, 12);
        let mut config = quick();
        config.mode = mode;
        let error = Life::start(&broker, fs(dir.path()), config.clone()).error().to_string();
        assert!(error.contains("--topic t:0 --reset-offsets --to-offset 12 --execute"), "{error}");
        broker.set_committed("g", commit(0, 12, ""));
        let life = Life::start(&broker, fs(dir.path()), config);
        life.expect_all_committed();
        assert_eq!(life.stop().recorded, 8);
        let passed_over = Handover::new(partition("t", 0), TopicId([1; 16]), 10, 12, None);
        assert_eq!(handovers(&dir), if mode == Mode::ExactlyOnce { vec![passed_over] } else { vec![] });
    }
}

#[test]
fn a_broker_that_lost_its_end_is_an_error() {
    let broker = broker(1);
    let dir = with_log(&broker, 10);
    broker.truncate("t", 0, 8);
    let error = start_error(Life::start(&broker, fs(dir.path()), quick()));
    assert_eq!(error, StartError::Truncated { next: 10, high: Some(8) });
}

/// Nobody has read what lies before such an offset: it was set there, or the end is held back by a transaction.
#[test]
fn a_group_beyond_the_end_does_not_mean_that_the_source_lost_records_and_can_be_set_back() {
    for (mode, read, next) in [
        (Mode::ExactlyOnce, 10, 10),
        (Mode::ExactlyOnce, 6, 6),
        (Mode::ExactlyOnce, 0, 10),
        (Mode::AtLeastOnce, 6, 6),
        (Mode::AtLeastOnce, 0, 10),
    ] {
        let broker = broker(1);
        let dir = if read > 0 { with_log(&broker, read) } else { tempfile::tempdir().unwrap() };
        produce(&broker, "t", 1, 10 - read);
        broker.set_committed("g", commit(0, 50, ""));
        let mut config = quick();
        config.mode = mode;
        let error = Life::start(&broker, fs(dir.path()), config.clone()).error().to_string();
        assert!(error.starts_with("t/0: GroupBeyondEnd: ") && error.contains("transactions"), "{error}");
        assert!(error.contains(&format!("--topic t:0 --reset-offsets --to-offset {next} --execute")), "{error}");
        broker.set_committed("g", commit(0, next, ""));
        let life = Life::start(&broker, fs(dir.path()), config);
        life.expect_all_committed();
        assert_eq!(life.stop().recorded, 10 - next as u64);
    }
}

#[test]
fn a_source_that_ends_before_what_another_log_has_read_lost_records() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let _other = with_log(&broker, 10);
    broker.truncate("t", 0, 8);
    let mut config = quick();
    config.mode = Mode::AtLeastOnce;
    let error = start_error(Life::start(&broker, fs(dir.path()), config));
    assert_eq!(error, StartError::Truncated { next: 10, high: Some(8) });
}

#[test]
fn a_broker_that_says_that_it_lost_its_end_is_an_error_although_it_has_grown_past_it() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    produce(&broker, "t", 2, 20);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    broker.tell_truncated(life.member, "t", 1);
    let error = life.error();
    assert!(error.to_string().starts_with("t/1: Truncated: the next offset is 10, "), "{error}");
    let truncated = StartError::Truncated { next: 10, high: None };
    assert!(matches!(error, ReceiveError::Start { error, .. } if error == truncated));
}

#[test]
fn a_topic_made_anew_is_not_taken_for_one_that_lost_its_end() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    let now = broker.recreate_topic("t");
    produce(&broker, "t", 1, 20);
    broker.tell_truncated(life.member, "t", 0);
    assert_eq!(start_error(life), StartError::TopicRecreated { known: TopicId([1; 16]), now });
}

#[test]
fn a_broker_that_knows_its_end_only_a_moment_later_is_waited_for() {
    let broker = broker(1);
    let dir = with_log(&broker, 10);
    broker.truncate("t", 0, 8);
    let mut config = quick();
    config.request_timeout = PATIENCE;
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect("the source is asked", |life| life.status().source_errors > 2);
    assert!(life.witness.heard("Truncated"));
    broker.skip("t", 0, 2);
    life.expect("the partition is ours", |life| life.status().assigned == 1);
    produce(&broker, "t", 1, 5);
    life.expect_all_committed();
    assert_eq!(life.stop().recorded, 5);
}

#[test]
fn retention_that_passes_a_running_receiver_is_an_error() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    broker.expire("t", 0, 20);
    assert_eq!(start_error(life), StartError::Missing { next: 10, low: 20 });
}

#[test]
fn a_topic_made_anew_under_a_running_receiver_is_an_error() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    let now = broker.recreate_topic("t");
    assert_eq!(start_error(life), StartError::TopicRecreated { known: TopicId([1; 16]), now });
    assert_eq!(committed(&broker, 0), None, "nothing is committed on the new topic");
}

#[test]
fn questions_without_an_answer_are_asked_again() {
    for call in [Call::TopicId, Call::Committed, Call::Watermarks, Call::Assign] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
        produce(&broker, "t", 1, 10);
        broker.fail(call, 3);
        let life = Life::start(&broker, fs(dir.path()), quick());
        life.expect_all_committed();
        let status = life.stop();
        assert_eq!((status.source_errors, status.recorded), (3, 10), "{call:?}");
        assert_exactly_once(&broker, fs(dir.path()));
    }
}

#[test]
fn questions_without_an_answer_for_long_are_an_error() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    broker.fail(Call::Watermarks, u32::MAX);
    let mut config = quick();
    config.start_timeout = ms(100);
    let error = Life::start(&broker, fs(dir.path()), config).error();
    assert!(matches!(error, ReceiveError::Source(_)), "{error}");
}

fn refused(fill: impl Fn(&Wal)) -> ReceiveError {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let wal = options().open(dir.path()).unwrap();
    fill(&wal);
    wal.close().unwrap();
    drop(wal);
    Life::begin(&broker, fs(dir.path()), quick(), Arc::default()).err().unwrap()
}

#[test]
fn a_log_that_is_not_a_receivers_is_refused() {
    let not_an_entry =
        |error| matches!(error, ReceiveError::Decode { error, .. } if error.kind == DecodeErrorKind::NotAnEntry);
    assert!(not_an_entry(refused(|wal| _ = wal.append(b"order 17").unwrap().wait().unwrap())));
    assert!(not_an_entry(refused(|wal| _ = wal.append_checkpoint(b"state").unwrap().wait().unwrap())));
}

#[test]
fn blocks_without_a_table_or_an_origin_below_them_are_refused() {
    let error = refused(|wal| {
        let place = partition("t", 0);
        let mut builder = BlockBuilder::new();
        let range = builder.range(&place, TopicId([1; 16]), 100);
        let message = Message {
            partition: &place,
            offset: 100,
            timestamp: 0,
            timestamp_type: 0,
            key: None,
            value: None,
            headers: &[],
        };
        builder.push(range, &message);
        wal.append(&builder.seal().parts().concat()).unwrap().wait().unwrap();
    });
    assert!(matches!(&error, ReceiveError::Chain { error, .. } if error.table.is_none()), "{error}");
    assert!(error.to_string().contains("not trusted"), "{error}");
}
