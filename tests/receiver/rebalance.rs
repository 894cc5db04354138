//! Rebalances: what was read of a partition is durable and committed before it goes, and nothing is afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use seawall::receiver::Config;
use seawall::receiver::scripted::{Broker, Call, CommitFault, ScriptedSource, Stored};
use seawall::receiver::{Mode, SourceError};
use seawall::sim::{Disk, Failing, Hold, Keep, Operation};

use crate::world::*;

/// Each record is in exactly one of the logs.
#[track_caller]
fn assert_once_in_all(broker: &Broker, partitions: i32, lives: Vec<Life>) {
    let mut all: BTreeMap<i32, Vec<(i64, Stored)>> = BTreeMap::new();
    for life in lives {
        for (number, records) in contents(&life.wal) {
            all.entry(number).or_default().extend(records);
        }
        life.stop();
    }
    for number in 0..partitions {
        let here = all.entry(number).or_default();
        here.sort_by_key(|(offset, _)| *offset);
        assert_eq!(*here, broker.records("t", number), "partition {number}");
    }
}

#[test]
fn a_partition_goes_only_when_what_was_read_of_it_is_durable_and_committed() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    produce(&broker, "t", 2, 40);
    let mut config = quick();
    config.block_interval = PATIENCE;
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect("all is read", |life| life.status().taken == 40);
    assert_eq!(committed(&broker, 1), Some(0), "the origin, for the block is still open");
    let second = broker.join("g", &["t"]);
    life.expect("a partition is revoked", |life| life.witness.heard("revoked: t/1"));
    assert_eq!(committed(&broker, 1), Some(20));
    assert_eq!((life.status().revoked, life.status().sealed.by_revocation), (1, 1));
    drop(second);
    life.expect("it comes back", |life| life.status().assigned == 3);
    life.stop();
    assert_eq!((broker.stray_commits(), broker.backward_commits()), (0, 0));
    assert_exactly_once(&broker, fs(dir.path()));
}

fn owners_come_and_go(eager: bool) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let broker = broker(4);
    if eager {
        broker.eager();
    }
    produce(&broker, "t", 4, 100);
    let first = Life::start(&broker, fs(dirs[0].path()), quick());
    first.expect_all_committed();
    let second = Life::start(&broker, fs(dirs[1].path()), quick());
    for _ in 0..10 {
        produce(&broker, "t", 4, 40);
    }
    second.expect("the second has its share", |life| all_committed(&broker) && life.status().partitions.len() == 2);
    // The second dies; the first takes back what went on without it.
    second.stop();
    produce(&broker, "t", 4, 40);
    first.expect_all_committed();
    assert!(first.witness.heard("another log has"), "the range that went elsewhere is recorded");
    assert_eq!((broker.stray_commits(), broker.backward_commits()), (0, 0));
    let second = Life::start(&broker, fs(dirs[1].path()), quick());
    produce(&broker, "t", 4, 40);
    second.expect("the second has its share", |life| all_committed(&broker) && life.status().partitions.len() == 2);
    assert_once_in_all(&broker, 4, vec![first, second]);
}

#[test]
fn each_record_is_once_in_the_logs_of_a_group_whose_owners_come_and_go() {
    owners_come_and_go(false);
}

#[test]
fn each_record_is_once_in_the_logs_when_everything_is_revoked_at_each_rebalance() {
    owners_come_and_go(true);
}

#[test]
fn a_lost_partition_is_not_committed_and_trimmed_on_return() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    produce(&broker, "t", 2, 40);
    let mut config = quick();
    config.block_interval = PATIENCE;
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect("all is read", |life| life.status().taken == 40);
    broker.repeat(3);
    // No answers for now, so that what happens between losing and getting back can be seen.
    broker.fail(Call::TopicId, u32::MAX);
    broker.fence(life.member);
    life.expect("what was read is stored", |life| life.status().recorded == 40 && life.status().source_errors > 3);
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (Some(0), Some(0)), "the loser commits nothing");
    broker.fail(Call::TopicId, 0);
    life.expect("the partitions come back", |life| life.status().lost == 2 && life.status().assigned == 4);
    let status = life.status();
    assert_eq!((status.revoked, status.drain_timeouts), (0, 0));
    life.expect("what was read comes again", |life| life.status().duplicates == 6);
    let status = life.stop();
    assert_eq!((status.taken, status.recorded), (40, 40));
    assert_eq!((broker.stray_commits(), broker.backward_commits()), (0, 0));
    assert!(all_committed(&broker));
    assert_exactly_once(&broker, fs(dir.path()));
}

/// A life whose disk stands still, with five records of each of two partitions in its hand, while another member joins.
fn on_a_disk_that_stands_still(broker: &Broker, dir: &Path, config: Config) -> (Life, Hold, ScriptedSource) {
    let failing = Failing::new(fs(dir));
    let life = Life::start(broker, Arc::<Failing>::clone(&failing), config);
    produce(broker, "t", 2, 10);
    life.expect_all_committed();
    let hold = failing.hold(Operation::Sync);
    produce(broker, "t", 2, 10);
    hold.wait_for(1);
    (life, hold, broker.join("g", &["t"]))
}

#[test]
fn a_revocation_waits_for_the_disk_only_so_long_and_nothing_is_committed_after_it() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let mut config = quick();
    config.drain_timeout = ms(50);
    let (life, hold, second) = on_a_disk_that_stands_still(&broker, dir.path(), config);
    let told = "before everything read of them was durable";
    life.expect("a partition is revoked in time", |life| life.witness.heard(told));
    assert_eq!((life.status().revoked, life.status().drain_timeouts), (1, 1));
    assert_eq!(committed(&broker, 1), Some(5), "only what is durable");
    drop(hold);
    life.expect("the blocks are durable after all", |life| life.status().recorded == 20);
    life.expect("what is still ours is committed", |_| committed(&broker, 0) == Some(10));
    assert_eq!((committed(&broker, 1), broker.stray_commits()), (Some(5), 0));
    drop(second);
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

/// What is durable here lies below what another log's receiver has committed meanwhile.
#[test]
fn a_partition_that_is_back_before_its_records_are_durable_is_not_committed_backwards() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let mut config = quick();
    (config.drain_timeout, config.commit_refresh) = (ms(50), ms(0));
    let (life, hold, second) = on_a_disk_that_stands_still(&broker, dir.path(), config);
    life.expect("a partition is revoked in time", |life| life.status().drain_timeouts == 1);
    broker.set_committed("g", commit(1, 7, ""));
    drop(second);
    life.expect("it comes back", |life| life.status().assigned == 3);
    let sent = life.status().commits.sent;
    life.expect("commits are refreshed", |life| life.status().commits.sent > sent + 1);
    assert_eq!((committed(&broker, 1), broker.backward_commits()), (Some(7), 0));
    drop(hold);
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_partition_is_read_only_when_its_origin_is_durable_and_polling_goes_on_meanwhile() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    broker.max_poll_interval(ms(500));
    produce(&broker, "t", 1, 10);
    let failing = Failing::new(fs(dir.path()));
    let wal = options().open_on(Arc::<Failing>::clone(&failing)).unwrap();
    let hold = failing.hold(Operation::Sync);
    let life = Life::on(&broker, Arc::new(wal), quick(), Arc::default()).unwrap();
    hold.wait_for(1);
    std::thread::sleep(ms(1000));
    assert_eq!((life.status().taken, life.status().assigned, broker.expelled()), (0, 0, 0));
    drop(hold);
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

/// The group was set back, and the origin that says so is under way when the partition is lost and comes back: it was read at
/// once, and what the log had before was committed over the operator's offset.
#[test]
fn a_partition_that_is_back_before_its_origin_is_durable_waits_for_that() {
    let (broker, disk) = (broker(1), Disk::new(1));
    disk.threads(true);
    let mut config = quick();
    (config.mode, config.drain_timeout) = (Mode::AtLeastOnce, ms(50));
    produce(&broker, "t", 1, 60);
    let life = Life::start(&broker, disk.mount(), config.clone());
    life.expect_all_committed();
    life.stop();
    broker.set_committed("g", commit(0, 40, ""));
    let failing = Failing::new(disk.mount());
    let wal = Arc::new(options().open_on(Arc::<Failing>::clone(&failing)).unwrap());
    let hold = failing.hold(Operation::Sync);
    let life = Life::on(&broker, wal, config.clone(), Arc::default()).unwrap();
    hold.wait_for(1);
    broker.fence(life.member);
    // Its answers about the second assignment.
    std::thread::sleep(ms(500));
    assert_eq!((life.status().taken, life.status().assigned, committed(&broker, 0)), (0, 0, Some(40)));
    disk.crash(Keep::None);
    drop(hold);
    life.cut_off(&disk);
    let life = Life::start(&broker, disk.mount(), config);
    life.expect_all_committed();
    assert_eq!(life.stop().recorded, 20, "what the group was set back to");
}

#[test]
fn slow_answers_about_many_partitions_do_not_cost_the_membership() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(40));
    broker.max_poll_interval(ms(1000));
    produce(&broker, "t", 40, 40);
    // All of them together take twice what a member may be silent for.
    broker.delay(Call::Watermarks, ms(50));
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    assert_eq!((life.status().assigned, broker.expelled()), (40, 0));
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn slow_answers_about_many_positions_out_of_range_do_not_cost_the_membership() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(40));
    produce(&broker, "t", 40, 80);
    let mut config = quick();
    config.request_timeout = PATIENCE;
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect_all_committed();
    // A broker that does not know its ends for a while.
    (0..40).for_each(|number| broker.truncate("t", number, 1));
    life.expect("all are asked about", |life| (0..40).all(|n| life.witness.heard(&format!("t/{n}: Truncated"))));
    broker.max_poll_interval(ms(1000));
    broker.delay(Call::TopicId, ms(50));
    broker.delay(Call::Watermarks, ms(50));
    (0..40).for_each(|number| broker.skip("t", number, 1));
    produce(&broker, "t", 40, 40);
    life.expect_all_committed();
    let status = life.stop();
    assert_eq!((status.recorded, broker.expelled()), (120, 0));
}

#[test]
fn a_partition_that_goes_before_it_was_begun_is_let_go_and_begun_again() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    produce(&broker, "t", 2, 20);
    let failing = Failing::new(fs(dir.path()));
    let wal = options().open_on(Arc::<Failing>::clone(&failing)).unwrap();
    let hold = failing.hold(Operation::Sync);
    let life = Life::on(&broker, Arc::new(wal), quick(), Arc::default()).unwrap();
    hold.wait_for(1);
    let second = broker.join("g", &["t"]);
    // The revocation waits for the origins; they are durable once the disk is.
    drop(hold);
    life.expect("a partition is revoked", |life| life.status().revoked == 1);
    drop(second);
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

/// What the group had answered for all of them would have been taken for what it has of those that are left.
#[test]
fn partitions_that_are_left_of_an_assignment_begin_where_the_group_is_with_each() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(3));
    produce(&broker, "t", 3, 60);
    (0..3).for_each(|number| broker.set_committed("g", commit(number, 5 * i64::from(number + 1), "")));
    // All is known but where the partitions end.
    broker.fail(Call::Watermarks, u32::MAX);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect("it asks where they end", |life| life.status().source_errors > 0);
    let second = broker.join("g", &["t"]);
    life.expect("the one in the middle is revoked", |life| life.status().revoked == 1);
    broker.fail(Call::Watermarks, 0);
    life.expect("two are begun", |life| life.status().assigned == 2);
    life.stop();
    drop(second);
    let wal = options().open(dir.path()).unwrap();
    let firsts: BTreeMap<_, _> = contents(&wal).iter().map(|(number, held)| (*number, held[0].0)).collect();
    assert_eq!(firsts, BTreeMap::from([(0, 5), (2, 15)]));
}

/// One that was taken away would have been read beside its new owner.
#[test]
fn a_partition_that_goes_while_its_origin_waits_for_the_disk_is_not_read() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(3));
    produce(&broker, "t", 3, 60);
    let failing = Failing::new(fs(dir.path()));
    let wal = options().open_on(Arc::<Failing>::clone(&failing)).unwrap();
    let hold = failing.hold(Operation::Sync);
    let mut config = quick();
    config.drain_timeout = ms(50);
    let life = Life::on(&broker, Arc::new(wal), config, Arc::default()).unwrap();
    hold.wait_for(1);
    let second = broker.join("g", &["t"]);
    life.expect("the one in the middle is revoked", |life| life.status().revoked == 1);
    drop(hold);
    life.expect("the others are read", |life| {
        let next = life.status().partitions.iter().map(|status| status.next).sum::<i64>();
        next >= 40
    });
    let partitions: Vec<_> = life.status().partitions.iter().map(|status| status.partition.number).collect();
    assert_eq!(partitions, [0, 2]);
    life.stop();
    drop(second);
    assert_eq!((committed(&broker, 1), broker.stray_commits()), (None, 0));
}

#[test]
fn a_revocation_without_an_answer_to_its_commit_goes_on() {
    for fault in [CommitFault::Refused, CommitFault::AnswerLost, CommitFault::Lost, CommitFault::NotTaken] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
        produce(&broker, "t", 2, 40);
        let mut config = quick();
        (config.block_interval, config.drain_timeout) = (PATIENCE, ms(50));
        let life = Life::start(&broker, fs(dir.path()), config);
        life.expect("all is read", |life| life.status().taken == 40);
        broker.heal_commits();
        broker.fail_commits(&[fault]);
        let second = broker.join("g", &["t"]);
        life.expect("a partition is revoked", |life| life.status().revoked == 1);
        drop(second);
        life.expect("the partition comes back", |life| life.status().assigned == 3);
        life.stop();
        assert!(all_committed(&broker), "{fault:?}");
        assert_exactly_once(&broker, fs(dir.path()));
    }
}

#[test]
fn a_topic_that_is_deleted_is_let_go_and_one_of_that_name_is_another() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    produce(&broker, "t", 2, 20);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    broker.delete_topic("t");
    life.expect("the partitions are revoked", |life| life.status().revoked == 2);
    broker.create_topic("t", 2);
    let error = life.error();
    assert!(error.to_string().contains("TopicRecreated"), "{error}");
    assert_eq!(broker.all_committed("g"), []);
}

#[test]
fn partitions_that_are_offered_though_they_are_ours_are_begun_anew_and_nothing_is_twice() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let mut config = quick();
    config.block_interval = PATIENCE;
    let life = Life::start(&broker, fs(dir.path()), config);
    for round in 1..=5 {
        produce(&broker, "t", 2, 10);
        broker.repeat(round as i64);
        broker.offer_again(life.member);
        produce(&broker, "t", 2, 10);
        life.expect("all is read", |life| life.status().taken == round * 20);
    }
    life.stop();
    assert!(all_committed(&broker));
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn errors_of_the_source_are_counted_unless_they_are_its_end() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let mut config = quick();
    (config.block_interval, config.mode) = (PATIENCE, Mode::ExactlyOnce);
    let life = Life::start(&broker, fs(dir.path()), config);
    broker.tell_error(life.member, SourceError::new("_TRANSPORT", "the broker is away", false));
    produce(&broker, "t", 1, 10);
    life.expect("all is read", |life| life.status().taken == 10 && life.witness.heard("_TRANSPORT"));
    assert_eq!(life.status().source_errors, 1);
    broker.tell_error(life.member, SourceError::new("_FENCED", "another has our name", true));
    let error = life.error();
    assert!(error.to_string().contains("_FENCED"), "{error}");
    let wal = options().open(dir.path()).unwrap();
    assert_eq!(contents(&wal)[&0].len(), 10, "what was read is in the log");
}
