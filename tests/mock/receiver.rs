//! The receiver as it is run: `seawall receive` as a process of its own, killed and started again.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use seawall::receiver::Entry;

use crate::common::cluster::Cluster;
use crate::common::log::Reading;
use crate::common::produce::Producer;
use crate::common::receiving::{Job, Receiving};

const BOUND: Duration = Duration::from_secs(60);

fn job(cluster: &Cluster, dir: &Path, options: &[&str]) -> Job {
    let settings = ["-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=200", "--block-interval", "20ms"];
    Job::new(&cluster.brokers(), "topic", dir, &[&settings[..], options].concat())
}

fn wait_for(receiver: &mut Receiving, reading: &mut Reading, dir: &Path, records: u64) {
    let deadline = Instant::now() + BOUND;
    while reading.records < records {
        receiver.check();
        assert!(Instant::now() < deadline, "{} of {records} records within {BOUND:?}", reading.records);
        thread::sleep(Duration::from_millis(20));
        reading.go_on(dir);
    }
}

#[test]
fn each_record_is_in_the_log_once_although_the_receiver_is_killed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let cluster = Cluster::new("topic", 3);
    let job = job(&cluster, &dir, &["--segment-size", "1MiB"]);
    let producer = Producer::new(&cluster.brokers(), "topic");
    let mut reading = Reading::default();
    let mut made = 0;
    for _ in 0..4 {
        let before = reading.records;
        let mut receiver = job.start();
        // Some before the kill is due, some that may or may not be stored when it comes.
        for more in [1500, 300] {
            (0..3).for_each(|number| producer.produce(number, made, made + more));
            made += more;
            wait_for(&mut receiver, &mut reading, &dir, before + 3000);
        }
        receiver.kill();
        reading.go_on(&dir);
        assert!(reading.records > before);
    }
    let mut receiver = job.start();
    wait_for(&mut receiver, &mut reading, &dir, made as u64 * 3);
    let (status, said) = receiver.stop(2, BOUND);
    assert!(status.success(), "{status}: {said}");
    let whole = Reading::of(&dir);
    let ends: BTreeMap<i32, i64> = (0..3).map(|number| (number, made)).collect();
    assert_eq!((whole.records, whole.holes, whole.next), (made as u64 * 3, 0, ends));
}

#[test]
fn a_graceful_stop_leaves_nothing_uncommitted_and_the_next_start_reads_nothing_twice() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let cluster = Cluster::new("topic", 1);
    let producer = Producer::new(&cluster.brokers(), "topic");
    producer.produce(0, 0, 500);
    let job = job(&cluster, &dir, &[]);
    let mut receiver = job.start();
    let mut reading = Reading::default();
    wait_for(&mut receiver, &mut reading, &dir, 500);
    // Whatever was sent when the signal comes is either in the log or not taken.
    producer.produce(0, 500, 700);
    let (status, said) = receiver.stop(1, BOUND);
    assert!(status.success(), "{status}: {said}");

    let mut receiver = job.start();
    let recovered = receiver.wait_for("recovered", BOUND);
    reading.go_on(&dir);
    assert_eq!(recovered["resume"]["topic/0"], reading.next[&0]);
    wait_for(&mut receiver, &mut reading, &dir, 700);
    let (status, said) = receiver.stop(1, BOUND);
    assert!(status.success(), "{status}: {said}");
    assert_eq!(Reading::of(&dir).records, 700);
}

#[test]
fn several_topics_go_into_one_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let cluster = Cluster::new("topic", 2);
    cluster.mock().create_topic("other", 1, 1).unwrap();
    Producer::new(&cluster.brokers(), "topic").produce(1, 0, 100);
    Producer::new(&cluster.brokers(), "other").produce(0, 0, 70);
    let mut receiver = job(&cluster, &dir, &["--topic", "other"]).start();
    let received = || {
        let mut received = BTreeMap::new();
        let Ok(log) = seawall::Options::new().open_read_only(&dir) else { return received };
        for record in log.read(..).unwrap() {
            let record = record.unwrap();
            let Entry::Block(block) = Entry::decode(&record.payload).unwrap() else { continue };
            for range in block.ranges() {
                *received.entry(range.partition.to_string()).or_default() += range.count;
            }
        }
        received
    };
    let expected = BTreeMap::from([("other/0".to_owned(), 70), ("topic/1".to_owned(), 100)]);
    let deadline = Instant::now() + BOUND;
    while received() != expected {
        receiver.check();
        assert!(Instant::now() < deadline, "{:?} within {BOUND:?}", received());
        thread::sleep(Duration::from_millis(20));
    }
    let (status, said) = receiver.stop(2, BOUND);
    assert!(status.success(), "{status}: {said}");
}

#[test]
fn a_topic_that_is_not_there_is_an_error_that_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("another", 1).without("topic");
    let (status, said) = job(&cluster, &temp.path().join("log"), &[]).start().ended(BOUND);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("no topic topic") && said.contains("--topic"), "{said}");
}

#[test]
fn latest_begins_at_the_end_and_error_refuses() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 1);
    let producer = Producer::new(&cluster.brokers(), "topic");
    producer.produce(0, 0, 100);
    let (status, said) = job(&cluster, &temp.path().join("refused"), &["--on-reset", "error"]).start().ended(BOUND);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("topic/0") && said.contains("--on-reset"), "{said}");

    let dir = temp.path().join("log");
    let mut receiver = job(&cluster, &dir, &["--on-reset", "latest"]).start();
    receiver.wait_for("assigned", BOUND);
    producer.produce(0, 100, 150);
    let mut reading = Reading::default();
    wait_for(&mut receiver, &mut reading, &dir, 50);
    assert_eq!(reading.next[&0], 150);
}
