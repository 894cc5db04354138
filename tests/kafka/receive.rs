//! The receiving process, where only a real broker shows what becomes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;
use tempfile::TempDir;

use super::World;
use super::common::log::Reading;
use super::common::produce::Producer;
use super::common::receiving::{Job, Receiving};

const BOUND: Duration = Duration::from_secs(90);
const SETTINGS: [&str; 6] =
    ["-X", "session.timeout.ms=3000", "-X", "heartbeat.interval.ms=300", "--block-interval", "50ms"];

fn temp() -> TempDir {
    tempfile::Builder::new().prefix("seawall-receive-").tempdir().unwrap()
}

fn job(world: &World, topic: &str, dir: &Path) -> Job {
    Job::new(&world.broker.address(), topic, dir, &SETTINGS)
}

/// Waits until the logs together hold what is wanted.
fn wait_for(receivers: &mut [&mut Receiving], dirs: &[PathBuf], done: impl Fn(&[Reading]) -> bool) -> Vec<Reading> {
    let deadline = Instant::now() + BOUND;
    let mut readings: Vec<_> = dirs.iter().map(|_| Reading::default()).collect();
    loop {
        readings.iter_mut().zip(dirs).for_each(|(reading, dir)| reading.go_on(dir));
        if done(&readings) {
            return readings;
        }
        receivers.iter_mut().for_each(|receiver| receiver.check());
        let next: Vec<_> = readings.iter().map(|reading| &reading.next).collect();
        assert!(Instant::now() < deadline, "not within {BOUND:?}: the logs stand at {next:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn reaches(next: &[(i32, i64)]) -> impl Fn(&[Reading]) -> bool {
    let next: BTreeMap<i32, i64> = next.iter().copied().collect();
    move |readings| readings.iter().all(|reading| reading.next == next)
}

fn stop(receiver: Receiving) {
    let (status, said) = receiver.stop(1, BOUND);
    assert!(status.success(), "{status}: {said}");
}

/// Committed 0..10, marker 10, aborted 11..21, marker 21, committed 22..30, marker 30, aborted 31..41, marker 41.
pub fn markers_and_aborted_records_are_declared_holes(world: &mut World) {
    let (topic, temp) = ("transactions", temp());
    let dir = temp.path().join("log");
    world.admin.create(topic, 1);
    let producer = Producer::with(&world.broker.address(), topic, &[("transactional.id", "receive")]);
    let transactions = producer.inner();
    transactions.init_transactions(BOUND).unwrap();
    let mut receiver = job(world, topic, &dir).start();
    for (from, to, commit) in [(0, 10, true), (11, 21, false), (22, 30, true), (31, 41, false)] {
        transactions.begin_transaction().unwrap();
        producer.produce(0, from, to);
        match commit {
            true => transactions.commit_transaction(BOUND).unwrap(),
            false => transactions.abort_transaction(BOUND).unwrap(),
        }
    }
    let readings = wait_for(&mut [&mut receiver], std::slice::from_ref(&dir), reaches(&[(0, 42)]));
    assert_eq!((readings[0].records, readings[0].holes), (18, 24));
    stop(receiver);
    let group = world.admin.group(&format!("group-{topic}"));
    let offsets = group.offsets_within(topic, 1, BOUND);
    assert_eq!(offsets, BTreeMap::from([(0, 42)]), "committed past the last marker");
    println!("  18 records, and holes of 24 offsets declared for aborted records and markers");
}

/// Each with a log of its own: the second joins, and leaves again.
pub fn two_members_share_a_group(world: &mut World) {
    const PARTITIONS: i32 = 4;
    let (topic, temp) = ("members", temp());
    let dirs = [temp.path().join("first"), temp.path().join("second")];
    world.admin.create(topic, PARTITIONS);
    let producer = Producer::new(&world.broker.address(), topic);
    let produce = |from, to| (0..PARTITIONS).for_each(|number| producer.produce(number, from, to));
    let stored = |readings: &[Reading]| readings.iter().map(|reading| reading.records).sum::<u64>();

    let mut first = job(world, topic, &dirs[0]).start();
    produce(0, 500);
    wait_for(&mut [&mut first], &dirs, |readings| stored(readings) == 2000);
    let mut second = job(world, topic, &dirs[1]).start();
    second.wait_for("assigned", BOUND);
    produce(500, 1000);
    wait_for(&mut [&mut first, &mut second], &dirs, |readings| stored(readings) == 4000);
    stop(second);
    produce(1000, 1500);
    let readings = wait_for(&mut [&mut first], &dirs, |readings| stored(readings) == 6000);
    stop(first);

    let mut covered: Vec<_> = readings.iter().flat_map(|reading| reading.covered.iter().copied()).collect();
    covered.sort_unstable();
    for number in 0..PARTITIONS {
        let mut at = 0;
        for (_, from, next) in covered.iter().filter(|(n, ..)| *n == number) {
            assert_eq!(*from, at, "{topic}/{number}: a range is in both logs, or in none");
            at = *next;
        }
        assert_eq!(at, 1500);
    }
    let handed_over: i64 = readings[0].handed_over.iter().map(|(_, from, next)| next - from).sum();
    let of_second = readings[1].records;
    assert!(of_second > 0 && handed_over == of_second as i64, "{handed_over} and {of_second}");
    println!("  6000 records, each in one of two logs; the first recorded that the other has {handed_over}");
}

pub fn a_new_partition_is_read_from_its_beginning(world: &mut World) {
    let (topic, temp) = ("grown", temp());
    let dir = temp.path().join("log");
    world.admin.create(topic, 1);
    let producer = Producer::with(&world.broker.address(), topic, &[("topic.metadata.refresh.interval.ms", "500")]);
    producer.produce(0, 0, 100);
    let mut receiver = job(world, topic, &dir).start();
    wait_for(&mut [&mut receiver], std::slice::from_ref(&dir), reaches(&[(0, 100)]));
    world.admin.grow(topic, 2);
    let deadline = Instant::now() + BOUND;
    while producer.partitions() < 2 {
        assert!(Instant::now() < deadline, "the producer does not see the new partition");
        thread::sleep(Duration::from_millis(100));
    }
    producer.produce(1, 0, 100);
    wait_for(&mut [&mut receiver], std::slice::from_ref(&dir), reaches(&[(0, 100), (1, 100)]));
    stop(receiver);
    println!("  the partition that came later was read from offset 0");
}

/// While the receiver runs, and while it does not.
pub fn a_topic_made_anew_is_an_error_of_its_own(world: &mut World) {
    let (topic, temp) = ("anew", temp());
    let dir = temp.path().join("log");
    world.admin.create(topic, 1);
    Producer::new(&world.broker.address(), topic).produce(0, 0, 100);
    let mut receiver = job(world, topic, &dir).start();
    wait_for(&mut [&mut receiver], std::slice::from_ref(&dir), reaches(&[(0, 100)]));

    make_anew(world, topic);
    Producer::new(&world.broker.address(), topic).produce(0, 0, 300);
    let (status, said) = receiver.ended(BOUND);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("TopicRecreated") && said.contains("anew/0"), "{said}");
    println!("  running: {}", said.trim());

    let (status, said) = job(world, topic, &dir).start().ended(BOUND);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("TopicRecreated") && said.contains("anew/0"), "{said}");
    let reading = Reading::of(&dir);
    assert_eq!((reading.records, reading.next), (100, BTreeMap::from([(0, 100)])), "nothing of the new topic is there");
    println!("  started again: the same; the log holds the old topic's records alone");
}

fn make_anew(world: &World, topic: &str) {
    world.admin.delete(topic);
    let deadline = Instant::now() + BOUND;
    while !world.admin.try_create(topic, 1) {
        assert!(Instant::now() < deadline, "{topic} cannot be made anew");
        thread::sleep(Duration::from_millis(100));
    }
}

pub fn records_deleted_before_they_were_read_are_an_error(world: &mut World) {
    let (topic, temp) = ("missing", temp());
    let dir = temp.path().join("log");
    world.admin.create(topic, 1);
    let producer = Producer::new(&world.broker.address(), topic);
    producer.produce(0, 0, 100);
    let mut receiver = job(world, topic, &dir).start();
    wait_for(&mut [&mut receiver], std::slice::from_ref(&dir), reaches(&[(0, 100)]));
    stop(receiver);
    producer.produce(0, 100, 300);
    world.admin.delete_below(topic, 0, 200);
    let (status, said) = job(world, topic, &dir).start().ended(BOUND);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("Missing") && said.contains("100") && said.contains("200"), "{said}");
    assert_eq!(Reading::of(&dir).next, BTreeMap::from([(0, 100)]));
    println!("  {}", said.trim());
}
