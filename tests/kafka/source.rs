//! The source alone, where only a real broker shows how it behaves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;
use seawall::receiver::{Commit, Event, KafkaConfig, KafkaSource, Partition, Source};

use super::World;
use super::common::produce::Producer;
use super::common::records::{Made, made};

const BOUND: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

fn partition(topic: &str, number: i32) -> Partition {
    Partition { topic: topic.into(), number }
}

fn connect(world: &World, topic: &str) -> KafkaSource {
    let config = KafkaConfig::new(world.broker.address(), format!("group-{topic}")).topic(topic);
    config.set("session.timeout.ms", "6000").unwrap().connect().unwrap()
}

/// Polls until `done` takes an event; assignments begin at offset 0.
fn until<T>(source: &mut KafkaSource, what: &str, mut done: impl FnMut(&Event<'_>) -> Option<T>) -> T {
    let deadline = Instant::now() + BOUND;
    while Instant::now() < deadline {
        let Some(event) = source.poll(STEP) else { continue };
        if let Some(found) = done(&event) {
            return found;
        }
        match event {
            Event::Assigned(partitions) => {
                source.assign(&partitions.into_iter().map(|p| (p, 0)).collect::<Vec<_>>()).unwrap();
            }
            Event::Revoked { partitions, .. } => source.unassign(&partitions).unwrap(),
            Event::Error(e) => assert!(!e.fatal, "{e}"),
            _ => {}
        }
    }
    panic!("{what}: not within {BOUND:?}");
}

fn drain(source: &mut KafkaSource, topic: &str, ends: &BTreeMap<i32, i64>) -> BTreeMap<(i32, i64), Made> {
    let mut records = BTreeMap::new();
    let mut ended = BTreeMap::new();
    until(source, "end of all partitions", |event| {
        match event {
            Event::Record(message) => {
                let made = Made {
                    key: message.key.map(<[u8]>::to_vec),
                    value: message.value.map(<[u8]>::to_vec),
                    headers: message.headers.iter().map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect(),
                    timestamp: message.timestamp,
                };
                assert_eq!(&*message.partition.topic, topic);
                let twice = records.insert((message.partition.number, message.offset), made);
                assert!(twice.is_none(), "{} at {} came twice", message.partition, message.offset);
            }
            Event::End { partition, next } => {
                ended.insert(partition.number, *next);
            }
            _ => {}
        }
        (ended == *ends).then_some(())
    });
    records
}

fn answer(source: &mut KafkaSource) -> Result<(), String> {
    until(source, "answer to the commit", |event| match event {
        Event::Committed(result) => Some(result.clone().map_err(|e| e.code)),
        _ => None,
    })
}

/// Records byte for byte; markers and aborted records are holes; an open transaction is the end.
pub fn records_and_their_gaps(world: &mut World) {
    let topic = "records";
    world.admin.create(topic, 2);
    Producer::new(&world.broker.address(), topic).produce(0, 0, 1000);

    // Partition 1: committed 0..10, marker 10, aborted 11..21, marker 21, plain 22..30, open 30..40.
    let producer = Producer::with(&world.broker.address(), topic, &[("transactional.id", "writer")]);
    let transactions = producer.inner();
    transactions.init_transactions(BOUND).unwrap();
    for (from, to, commit) in [(0, 10, true), (11, 21, false), (22, 30, true)] {
        transactions.begin_transaction().unwrap();
        producer.produce(1, from, to);
        match commit {
            true => transactions.commit_transaction(BOUND).unwrap(),
            false => transactions.abort_transaction(BOUND).unwrap(),
        }
    }
    transactions.begin_transaction().unwrap();
    producer.produce(1, 31, 41);

    let mut source = connect(world, topic);
    let records = drain(&mut source, topic, &BTreeMap::from([(0, 1000), (1, 31)]));
    for ((number, offset), record) in &records {
        assert_eq!(*record, made(*number, *offset), "{number}/{offset}");
    }
    let offsets: BTreeSet<_> = records.keys().filter(|(number, _)| *number == 1).map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, (0..10).chain(22..30).collect());
    assert_eq!(records.len(), 1018);
    assert_eq!(source.watermarks(&partition(topic, 1), BOUND).unwrap(), (0, 31), "an open transaction is the end");

    transactions.abort_transaction(BOUND).unwrap();
    let next = until(&mut source, "the end behind the abort", |event| match event {
        Event::Record(message) => panic!("aborted {} came", message.offset),
        Event::End { next, .. } => Some(*next),
        _ => None,
    });
    assert_eq!(next, 42, "the end is behind aborted records and the marker");
    source.close(BOUND);
    println!("  1018 records byte for byte; markers and aborted records were holes, the end stood behind them");
}

/// Commits with their answers and metadata; what is too long is refused and changes nothing.
pub fn commits_and_their_answers(world: &mut World) {
    let topic = "commits";
    world.admin.create(topic, 2);
    Producer::new(&world.broker.address(), topic).produce(0, 0, 10);
    let mut source = connect(world, topic);
    drain(&mut source, topic, &BTreeMap::from([(0, 10), (1, 0)]));
    assert!(source.alone(BOUND).unwrap());

    let commit = |next, metadata: &str| Commit { partition: partition(topic, 0), next, metadata: metadata.into() };
    let both = [partition(topic, 0), partition(topic, 1)];
    source.commit(&[commit(4, "sw1:a:b:c")], BOUND).unwrap();
    answer(&mut source).unwrap();
    let long = "m".repeat(4096);
    source.commit_sync(&[commit(5, &long)], BOUND).unwrap();
    assert_eq!(source.committed(&both, BOUND).unwrap(), [Some(commit(5, &long)), None]);
    let error = source.commit_sync(&[commit(6, &"m".repeat(4097))], BOUND).unwrap_err();
    assert_eq!(error.code, "OFFSET_METADATA_TOO_LARGE");
    assert_eq!(source.committed(&both, BOUND).unwrap(), [Some(commit(5, &long)), None]);

    let mut second = connect(world, topic);
    let deadline = Instant::now() + BOUND;
    while source.alone(BOUND).unwrap() {
        assert!(Instant::now() < deadline, "the second member is not seen");
        second.poll(STEP);
        source.poll(STEP);
    }
    second.close(BOUND);
    source.close(BOUND);
    println!("  commits were answered, 4096 bytes of metadata came back, 4097 were refused, a second member was seen");
}

/// A topic that was deleted and made anew has another id, and none between.
pub fn a_topic_made_anew_has_another_id(world: &mut World) {
    let topic = "recreated";
    world.admin.create(topic, 1);
    let mut source = connect(world, topic);
    let first = source.topic_id(topic, BOUND).unwrap().unwrap();
    world.admin.delete(topic);
    let deadline = Instant::now() + BOUND;
    while source.topic_id(topic, BOUND).unwrap().is_some() {
        assert!(Instant::now() < deadline, "the topic stays");
        source.poll(STEP);
    }
    world.admin.create(topic, 1);
    let second = loop {
        if let Some(id) = source.topic_id(topic, BOUND).unwrap() {
            break id;
        }
        assert!(Instant::now() < deadline, "the topic does not come back");
        source.poll(STEP);
    };
    assert_ne!(first, second);
    source.close(BOUND);
    println!("  the topic had no id while it was gone, and another one afterwards");
}

/// The broker is killed: nothing is fatal, and everything goes on when it is back.
pub fn the_broker_is_killed_and_comes_back(world: &mut World) {
    let topic = "killed";
    world.admin.create(topic, 1);
    let producer = Producer::new(&world.broker.address(), topic);
    producer.produce(0, 0, 100);
    let mut source = connect(world, topic);
    drain(&mut source, topic, &BTreeMap::from([(0, 100)]));
    let commit = |next| Commit { partition: partition(topic, 0), next, metadata: String::new() };
    source.commit_sync(&[commit(50)], BOUND).unwrap();

    world.broker.kill();
    source.commit(&[commit(100)], Duration::from_secs(10)).unwrap();
    let begun = Instant::now();
    let error = source.commit_sync(&[commit(100)], Duration::from_millis(700)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2), "{error}");
    let begun = Instant::now();
    let outcome = answer(&mut source);
    assert!(begun.elapsed() < Duration::from_secs(15));
    world.broker.restart();
    producer.produce(0, 100, 200);
    // The member was expelled: it reads from the start again, as assignments begin at 0 here.
    let records = drain(&mut source, topic, &BTreeMap::from([(0, 200)]));
    assert!(records.contains_key(&(0, 199)));
    let deadline = Instant::now() + BOUND;
    while source.commit_sync(&[commit(200)], Duration::from_secs(5)).is_err() {
        assert!(Instant::now() < deadline, "no commit succeeds after the broker is back");
        source.poll(STEP);
    }
    source.close(BOUND);
    println!("  the commit under way while the broker was dead ended as {outcome:?}; reading and committing went on");
}
