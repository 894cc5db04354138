//! Commits are advice: whatever becomes of them, the log has each record once, and they are never ahead of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use seawall::receiver::scripted::{Broker, Call, CommitFault};
use seawall::receiver::{CommitMark, LogId, Origin, OriginCause, ReceiveError, Receiver, TopicId, recover};
use seawall::sim::{Disk, Failing, Keep, Operation};
use seawall::{Durability, Lsn};
use tempfile::TempDir;

use crate::world::*;

const FAULTS: [CommitFault; 5] =
    [CommitFault::NotTaken, CommitFault::Refused, CommitFault::Half, CommitFault::AnswerLost, CommitFault::Lost];

#[test]
fn a_commit_that_fails_in_any_way_is_counted_and_sent_again() {
    for fault in FAULTS {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(4));
        produce(&broker, "t", 4, 40);
        broker.fail_commits(&[fault, fault]);
        let life = Life::start(&broker, fs(dir.path()), quick());
        life.expect("the group is told", |life| all_committed(&broker) && life.status().commits.ok > 0);
        assert!(life.witness.heard("commit-failed"), "{fault:?}");
        let status = life.stop();
        let commits = status.commits;
        assert_eq!(commits.failed + commits.timed_out, 2, "{fault:?} {commits:?}");
        let unanswered = matches!(fault, CommitFault::AnswerLost | CommitFault::Lost);
        assert_eq!(commits.timed_out, if unanswered { 2 } else { 0 }, "{fault:?} {commits:?}");
        assert_eq!((broker.backward_commits(), broker.stray_commits()), (0, 0));
        assert_exactly_once(&broker, fs(dir.path()));
    }
}

#[test]
fn commits_that_fail_for_ever_hold_nothing_up() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    broker.fail_commits(&[CommitFault::Refused; 100_000]);
    let life = Life::start(&broker, fs(dir.path()), quick());
    for round in 1..=5 {
        produce(&broker, "t", 1, 10);
        life.expect("all is recorded", |life| life.status().recorded == round * 10);
    }
    assert_eq!(committed(&broker, 0), None);
    broker.heal_commits();
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_stop_that_cannot_commit_says_so_and_the_next_life_catches_up() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    broker.fail_commits(&[CommitFault::Refused; 100_000]);
    let mut config = quick();
    config.stop_timeout = ms(100);
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect("all is recorded", |life| life.status().recorded == 10);
    life.ask_to_stop();
    let error = life.error();
    assert!(matches!(error, ReceiveError::NotCommitted { reason: Some(_), .. }), "{error}");
    assert_eq!(lacking(&error), [(0, None, 10)], "{error}");
    broker.heal_commits();
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    assert_eq!(life.stop().taken, 0);
    assert_exactly_once(&broker, fs(dir.path()));
}

/// A life that has lost both partitions of the broker, and gets no answers that would let it take them back.
fn that_lost_its_partitions(broker: &Broker, dir: &TempDir) -> Life {
    produce(broker, "t", 2, 40);
    let mut config = quick();
    (config.block_interval, config.start_timeout) = (PATIENCE, PATIENCE);
    let life = Life::start(broker, fs(dir.path()), config);
    life.expect("all is read", |life| life.status().taken == 40);
    broker.fail(Call::TopicId, u32::MAX);
    broker.fence(life.member);
    life.expect("what was read is stored", |life| life.status().recorded == 40 && life.status().lost == 2);
    life
}

#[test]
fn a_stop_after_partitions_were_lost_says_what_is_not_committed() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let life = that_lost_its_partitions(&broker, &dir);
    life.ask_to_stop();
    let error = life.error();
    assert_eq!(lacking(&error), [(0, Some(0), 20), (1, Some(0), 20)], "{error}");
    for said in ["t/0 (committed to 0, durable to 20)", "Nothing is lost", "a later start commits"] {
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (Some(0), Some(0)));
    broker.fail(Call::TopicId, 0);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    assert_eq!(life.stop().taken, 0);
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_stop_asks_the_group_before_it_says_that_a_lost_partition_is_not_committed() {
    for elsewhere in [1, 2] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
        let life = that_lost_its_partitions(&broker, &dir);
        // Another owner went on with them.
        (0..elsewhere).for_each(|number| broker.set_committed("g", commit(number, 25, "")));
        life.ask_to_stop();
        match life.outcome() {
            Ok(_) => assert_eq!(elsewhere, 2),
            Err(error) => assert_eq!((lacking(&error), elsewhere), (vec![(1, Some(0), 20)], 1), "{error}"),
        }
    }
}

#[test]
fn a_stop_after_partitions_were_lost_and_taken_back_is_committed() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let life = that_lost_its_partitions(&broker, &dir);
    broker.fail(Call::TopicId, 0);
    life.expect("the partitions come back", |life| life.status().assigned == 4);
    life.stop();
    assert!(all_committed(&broker));
}

#[test]
fn a_stop_after_a_revocation_whose_commit_failed_says_what_is_not_committed() {
    for fault in [CommitFault::Refused, CommitFault::Lost, CommitFault::NotTaken] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
        produce(&broker, "t", 2, 40);
        let mut config = quick();
        (config.block_interval, config.drain_timeout) = (PATIENCE, ms(50));
        let life = Life::start(&broker, fs(dir.path()), config);
        life.expect("all is read and the origins are committed", |life| {
            life.status().taken == 40 && committed(&broker, 1) == Some(0)
        });
        broker.fail_commits(&[fault]);
        let _second = broker.join("g", &["t"]);
        life.expect("a partition is revoked", |life| life.status().revoked == 1);
        assert!(life.witness.heard("not sent again for t/1"), "{fault:?}");
        assert!(!life.witness.heard("will be sent again"), "{fault:?}");
        life.ask_to_stop();
        let error = life.error();
        assert_eq!(lacking(&error), [(1, Some(0), 20)], "{fault:?} {error}");
        assert_eq!(committed(&broker, 0), Some(20), "what is still ours is committed");
    }
}

#[test]
fn a_commit_that_is_answered_after_its_partitions_were_lost_counts() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let mut config = quick();
    (config.start_timeout, config.stop_timeout) = (PATIENCE, PATIENCE);
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect_all_committed();
    broker.fail(Call::TopicId, u32::MAX);
    // The commit takes effect; before its answer is heard the partitions are gone.
    let member = life.member;
    broker.on_commit({
        let broker = broker.clone();
        move |_| broker.fence(member)
    });
    // The group cannot be asked: what is known must do.
    broker.fail(Call::Committed, u32::MAX);
    broker.produce("t", 0, stored("one"));
    life.expect("the partitions are lost", |life| life.status().lost == 2 && life.status().recorded == 1);
    life.stop();
}

/// What a stop says the group lacks: partition, committed and durable.
#[track_caller]
fn lacking(error: &ReceiveError) -> Vec<(i32, Option<i64>, i64)> {
    let ReceiveError::NotCommitted { partitions, .. } = error else { panic!("{error}") };
    partitions.iter().map(|lacking| (lacking.partition.number, lacking.committed, lacking.durable)).collect()
}

#[test]
fn an_idle_receiver_commits_again_lest_offsets_expire() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    let mut config = quick();
    config.commit_refresh = ms(30);
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect_all_committed();
    broker.forget_committed("g");
    life.expect_all_committed();
    life.stop();
}

/// A chain that has only begun says nothing of what was read before it, but a partition above this one is new where something
/// was.
#[test]
fn a_commit_says_of_what_was_read_before_its_log_took_over() {
    let begun = CommitMark::new(LogId([0xAB; 16]), TopicId([1; 16]), Lsn(4096), 10);
    for (former, read_before) in [(String::new(), true), (begun.after(true).encode(), true), (begun.encode(), false)] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
        produce(&broker, "t", 1, 10);
        broker.set_committed("g", commit(0, 10, &former));
        let mut config = quick();
        config.commit_refresh = ms(5);
        let life = Life::start(&broker, fs(dir.path()), config);
        let log = LogId(life.wal.log_id());
        let mark = || CommitMark::parse(&broker.committed("g", "t", 0).unwrap().metadata);
        life.expect("it commits for its log", |_| mark().is_some_and(|mark| mark.log == log));
        life.stop();
        assert_eq!(mark().map(|mark| (mark.from, mark.read_before)), Some((10, read_before)), "{former:?}");
    }
}

/// At each commit, before it takes effect: were the power cut now, and nothing kept that was not synced, the log
/// would still hold what is committed.
#[test]
fn no_commit_is_ever_ahead_of_what_a_power_cut_leaves() {
    let broker = broker(2);
    let disk = Arc::new(Disk::new(1));
    disk.threads(true);
    let (samples, ahead) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    broker.on_commit({
        let (disk, samples, ahead) = (Arc::clone(&disk), Arc::clone(&samples), Arc::clone(&ahead));
        move |commits| {
            let left = disk.fork();
            left.crash(Keep::None);
            left.threads(true);
            let wal = options().open_on(left.mount()).unwrap();
            let table = recover(&wal).unwrap().table;
            for commit in commits {
                let mark = table.iter().find(|(place, ..)| **place == commit.partition);
                if mark.is_none_or(|(_, _, mark)| mark.next < commit.next) {
                    ahead.lock().unwrap().push(format!("{commit:?} where the log has {mark:?}"));
                }
            }
            wal.close().unwrap();
            samples.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut config = quick();
    config.block_records = 3;
    let life = Life::start(&broker, disk.mount(), config);
    for _ in 0..20 {
        produce(&broker, "t", 2, 10);
        life.expect_all_committed();
    }
    life.stop();
    assert_eq!(*ahead.lock().unwrap(), Vec::<String>::new());
    assert!(samples.load(Ordering::Relaxed) >= 20);
}

/// A log that was in use before may hold what only the system has.
#[test]
fn what_a_receiver_finds_in_a_log_is_durable_before_it_begins() {
    let disk = Disk::new(1);
    disk.threads(true);
    let wal = Arc::new(options().durability(Durability::Os).open_on(disk.mount()).unwrap());
    let origin = Origin::new(partition("t", 0), TopicId([1; 16]), None, 10, OriginCause::Earliest);
    wal.append(&origin.encode()).unwrap().wait().unwrap();
    let left = |disk: &Disk| {
        let left = disk.fork();
        left.crash(Keep::None);
        records(&options().open_on(left.mount()).unwrap()).len()
    };
    assert_eq!(left(&disk), 0, "only written");
    let receiver = Receiver::new(wal, broker(1).join("g", &["t"]), quick()).unwrap();
    assert_eq!((receiver.recovered().table.len(), left(&disk)), (1, 1));
}

#[test]
fn nothing_is_committed_while_the_disk_has_it_not() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let failing = Failing::new(fs(dir.path()));
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), quick());
    produce(&broker, "t", 1, 10);
    life.expect_all_committed();
    let hold = failing.hold(Operation::Sync);
    produce(&broker, "t", 1, 10);
    hold.wait_for(1);
    life.expect("the records are read", |life| life.status().taken == 20);
    let sent = life.status().commits.sent;
    assert!(!broker.wait(ms(100), |broker| committed(broker, 0) != Some(10)));
    assert_eq!(life.status().commits.sent, sent);
    drop(hold);
    life.expect_all_committed();
    life.stop();
}

/// The offset is about the records of a topic that is gone: it is no commit of these.
#[test]
fn an_offset_of_a_topic_of_that_name_before_is_not_taken_for_a_commit_at_the_stop() {
    let former = CommitMark::new(LogId([5; 16]), TopicId([9; 16]), Lsn(4096), 0).encode();
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    broker.set_committed("g", commit(0, 70, &former));
    broker.fail_commits(&[CommitFault::Refused; 10_000]);
    let mut config = quick();
    config.stop_timeout = ms(200);
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect("all is recorded", |life| life.status().recorded == 10);
    life.ask_to_stop();
    let error = life.outcome().unwrap_err();
    assert!(matches!(error, ReceiveError::NotCommitted { .. }), "{error}");
}

/// Each turn of the poll loop sends a commit, and each poll may bring its answer.
#[test]
fn commits_refreshed_all_the_time_hold_no_record_up() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let mut config = quick();
    config.commit_refresh = ms(0);
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect_all_committed();
    produce(&broker, "t", 1, 20_000);
    life.expect("all is recorded", |life| life.status().recorded == 20_010);
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

/// A source that says only in answer to a commit that it is over was polled for ever.
#[test]
fn a_fatal_answer_to_a_commit_ends_the_receiver() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    broker.fail_commits(&[CommitFault::Fatal]);
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect("it ends", Life::is_over);
    let ReceiveError::Source(error) = life.error() else { panic!("no error of the source") };
    assert!(error.fatal, "{error}");
}
