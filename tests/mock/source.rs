//! The source alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use seawall::receiver::{Commit, Event, KafkaConfig, KafkaSource, Partition, Source, SourceError};

use crate::common::cluster::Cluster;
use crate::common::produce::Producer;
use crate::common::records::{Made, made};

const BOUND: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(100);

fn cluster(partitions: i32) -> Cluster {
    Cluster::new("topic", partitions)
}

fn config(cluster: &Cluster) -> KafkaConfig {
    let config = KafkaConfig::new(cluster.brokers(), "group").topic("topic");
    config.set("session.timeout.ms", "2000").unwrap().set("heartbeat.interval.ms", "200").unwrap()
}

fn partition(number: i32) -> Partition {
    Partition { topic: "topic".into(), number }
}

/// Polls until `done` takes an event.
fn until<T>(source: &mut KafkaSource, what: &str, mut done: impl FnMut(&Event<'_>) -> Option<T>) -> T {
    let deadline = Instant::now() + BOUND;
    while Instant::now() < deadline {
        if let Some(event) = source.poll(STEP) {
            if let Some(found) = done(&event) {
                return found;
            }
            assert!(!matches!(&event, Event::Error(e) if e.fatal), "{event:?}");
        }
    }
    panic!("{what}: not within {BOUND:?}");
}

fn assigned(source: &mut KafkaSource) -> Vec<Partition> {
    until(source, "assignment", |event| match event {
        Event::Assigned(partitions) => Some(partitions.clone()),
        _ => None,
    })
}

fn joined(config: &KafkaConfig) -> KafkaSource {
    let mut source = config.connect().unwrap();
    let partitions = assigned(&mut source);
    let starts: Vec<_> = partitions.into_iter().map(|p| (p, 0)).collect();
    source.assign(&starts).unwrap();
    source
}

/// Receives until every partition ended at `ends`, in order and each record once; gives what came.
fn drain(source: &mut KafkaSource, ends: &BTreeMap<i32, i64>) -> BTreeMap<(i32, i64), Made> {
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
                assert_eq!((&*message.partition.topic, message.timestamp_type), ("topic", 1));
                let twice = records.insert((message.partition.number, message.offset), made);
                assert!(twice.is_none(), "{} at {} came twice", message.partition, message.offset);
            }
            Event::End { partition, next } => {
                ended.insert(partition.number, *next);
            }
            event => panic!("{event:?}"),
        }
        (ended == *ends).then_some(())
    });
    records
}

fn commit(number: i32, next: i64, metadata: &str) -> Commit {
    Commit { partition: partition(number), next, metadata: metadata.into() }
}

fn answer(source: &mut KafkaSource) -> Result<(), String> {
    until(source, "answer to the commit", |event| match event {
        Event::Committed(result) => Some(result.clone().map_err(|e| e.code)),
        _ => None,
    })
}

#[test]
fn records_come_in_order_byte_for_byte_and_the_end_tells_the_position() {
    let cluster = cluster(3);
    let producer = Producer::new(&cluster.brokers(), "topic");
    for number in 0..3 {
        producer.produce(number, 0, 700);
    }
    let mut source = joined(&config(&cluster));
    let ends = BTreeMap::from([(0, 700), (1, 700), (2, 700)]);
    let records = drain(&mut source, &ends);
    assert_eq!(records.len(), 2100);
    for ((number, offset), record) in &records {
        assert_eq!(*record, made(*number, *offset), "{number}/{offset}");
    }
    assert!(records.values().any(|r| r.headers.iter().any(|(n, _)| std::str::from_utf8(n).is_err())));
    assert!(records.values().any(|r| r.headers.iter().any(|(_, v)| v.is_none())));
    assert!(records.values().any(|r| r.value.is_none()) && records.values().any(|r| r.value == Some(vec![])));
    assert_eq!(source.watermarks(&partition(1), BOUND).unwrap(), (0, 700));
    source.close(BOUND);
    assert!(source.poll(STEP).is_none(), "a closed source delivers nothing");
}

#[test]
fn a_commit_is_answered_and_its_metadata_comes_back() {
    let cluster = cluster(2);
    Producer::new(&cluster.brokers(), "topic").produce(0, 0, 10);
    let mut source = joined(&config(&cluster));
    let both = [partition(0), partition(1)];
    assert_eq!(source.committed(&both, BOUND).unwrap(), [None, None]);

    source.commit(&[commit(0, 7, "sw1:x:y:z")], BOUND).unwrap();
    assert!(source.commit(&[commit(0, 8, "")], BOUND).is_err(), "one at a time");
    answer(&mut source).unwrap();
    assert_eq!(source.committed(&both, BOUND).unwrap(), [Some(commit(0, 7, "sw1:x:y:z")), None]);

    let metadata = "m".repeat(4096);
    source.commit_sync(&[commit(0, 9, &metadata), commit(1, 0, "")], BOUND).unwrap();
    assert_eq!(source.committed(&both, BOUND).unwrap(), [Some(commit(0, 9, &metadata)), Some(commit(1, 0, ""))]);

    source.commit(&[], BOUND).unwrap();
    answer(&mut source).unwrap();
    source.close(BOUND);
}

#[test]
fn a_commit_without_an_answer_counts_as_failed_and_the_next_one_is_taken() {
    let cluster = cluster(1);
    let mut source = joined(&config(&cluster).set("socket.timeout.ms", "60000").unwrap());
    cluster.mock().broker_round_trip_time(1, Duration::from_secs(15)).unwrap();
    let begun = Instant::now();
    source.commit(&[commit(0, 1, "")], Duration::from_secs(10)).unwrap();
    assert_eq!(answer(&mut source).unwrap_err(), "_TIMED_OUT");
    assert!((9..14).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let error = source.commit_sync(&[commit(0, 2, "")], Duration::from_millis(500)).unwrap_err();
    assert!(error.message.contains("unknown") && begun.elapsed() < Duration::from_secs(3), "{error}");
    cluster.mock().broker_round_trip_time(1, Duration::ZERO).unwrap();
    source.commit(&[commit(0, 3, "")], BOUND).unwrap();
    let _ = answer(&mut source);
    source.close(Duration::from_millis(100));
}

/// It had a time of its own: a receiver that gave a commit up sooner was refused each further one until then.
#[test]
fn a_commit_is_given_up_when_the_receiver_says_and_the_next_one_is_taken_then() {
    let cluster = cluster(1);
    let mut source = joined(&config(&cluster).set("socket.timeout.ms", "60000").unwrap());
    cluster.mock().broker_round_trip_time(1, Duration::from_secs(15)).unwrap();
    let (begun, short) = (Instant::now(), Duration::from_millis(500));
    source.commit(&[commit(0, 1, "")], short).unwrap();
    assert!(source.commit(&[commit(0, 2, "")], short).is_err(), "one at a time");
    assert_eq!(answer(&mut source).unwrap_err(), "_TIMED_OUT");
    source.commit(&[commit(0, 2, "")], short).unwrap();
    std::thread::sleep(short);
    source.commit(&[commit(0, 3, "")], short).expect("it is given up before that is told");
    assert_eq!(answer(&mut source).unwrap_err(), "_TIMED_OUT");
    assert!((1500..9000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    source.close(Duration::from_millis(100));
}

#[test]
fn paused_partitions_wait_and_resume_where_they_are_told_to() {
    let cluster = cluster(2);
    let producer = Producer::new(&cluster.brokers(), "topic");
    producer.produce(0, 0, 100);
    producer.produce(1, 0, 100);
    let mut source = joined(&config(&cluster));
    drain(&mut source, &BTreeMap::from([(0, 100), (1, 100)]));

    source.pause(&[partition(0), partition(1)]).unwrap();
    producer.produce(0, 100, 200);
    producer.produce(1, 100, 200);
    let quiet = Instant::now() + Duration::from_secs(2);
    while Instant::now() < quiet {
        let event = source.poll(STEP);
        assert!(event.is_none(), "{event:?} came although paused");
    }
    // One goes back, as when what was read is read again; the other goes on.
    source.resume(&[(partition(0), 50), (partition(1), 100)]).unwrap();
    let records = drain(&mut source, &BTreeMap::from([(0, 200), (1, 200)]));
    let offsets = |number| records.keys().filter(|(n, _)| *n == number).map(|(_, o)| *o).collect::<Vec<_>>();
    assert_eq!(offsets(0), (50..200).collect::<Vec<_>>());
    assert_eq!(offsets(1), (100..200).collect::<Vec<_>>());
    source.close(BOUND);
}

/// The client looks once a second at what it was not told to look at.
#[test]
fn what_is_resumed_comes_at_once() {
    let cluster = cluster(1);
    Producer::new(&cluster.brokers(), "topic").produce(0, 0, 300);
    let mut source = joined(&config(&cluster));
    let mut waits: Vec<_> = (0..5)
        .map(|start| {
            source.pause(&[partition(0)]).unwrap();
            // Until no answer of the broker is awaited any more.
            assert!(source.poll(Duration::from_secs(1)).is_none());
            let since = Instant::now();
            source.resume(&[(partition(0), start)]).unwrap();
            until(&mut source, "record", |event| matches!(event, Event::Record(_)).then(|| since.elapsed()))
        })
        .collect();
    waits.sort();
    assert!(waits[2] < Duration::from_millis(500), "{waits:?}");
    source.close(BOUND);
}

#[test]
fn a_partition_resumed_before_it_was_started_begins_where_it_is_told_to() {
    let cluster = cluster(1);
    Producer::new(&cluster.brokers(), "topic").produce(0, 0, 300);
    let mut source = joined(&config(&cluster));
    for start in [10, 200, 20] {
        source.pause(&[partition(0)]).unwrap();
        source.resume(&[(partition(0), start)]).unwrap();
        let first = until(&mut source, "record", |event| match event {
            Event::Record(message) => Some(message.offset),
            _ => None,
        });
        assert_eq!(first, start);
    }
    source.close(BOUND);
}

#[test]
fn a_position_outside_the_partition_is_told_with_its_place_and_can_be_mended() {
    for strategy in ["cooperative-sticky", "range"] {
        let cluster = cluster(2);
        let producer = Producer::new(&cluster.brokers(), "topic");
        producer.produce(0, 0, 20);
        producer.produce(1, 0, 20);
        let config = config(&cluster).set("partition.assignment.strategy", strategy).unwrap();
        let mut source = config.connect().unwrap();
        assigned(&mut source);
        source.assign(&[(partition(0), 500), (partition(1), 0)]).unwrap();
        let mut read = 0;
        let place = until(&mut source, "out of range", |event| match event {
            Event::OutOfRange { partition, offset } => Some((partition.clone(), *offset)),
            Event::Record(message) => {
                read = message.offset + 1;
                None
            }
            _ => None,
        });
        assert_eq!(place, (partition(0), 500), "{strategy}");
        source.resume(&[(partition(0), 5)]).unwrap();
        let records = drain_some(&mut source, (20 - read + 15) as usize);
        let expected: Vec<_> = (5..20).map(|o| (0, o)).chain((read..20).map(|o| (1, o))).collect();
        assert_eq!(records, expected, "{strategy}: the other partition goes on where it was");
        source.close(BOUND);
    }
}

fn drain_some(source: &mut KafkaSource, count: usize) -> Vec<(i32, i64)> {
    let mut records = Vec::new();
    until(source, "records", |event| {
        if let Event::Record(message) = event {
            records.push((message.partition.number, message.offset));
        }
        (records.len() == count).then_some(())
    });
    records.sort_unstable();
    records
}

#[test]
fn two_members_share_and_what_one_leaves_the_other_gets() {
    for strategy in ["cooperative-sticky", "range"] {
        let cluster = cluster(4);
        let config = config(&cluster).set("partition.assignment.strategy", strategy).unwrap();
        let mut first = joined(&config);
        let mut second = config.connect().unwrap();
        let (mut ours, mut theirs) = ((0..4).map(partition).collect::<Vec<_>>(), Vec::new());
        let deadline = Instant::now() + BOUND;
        while ours.len() != 2 || theirs.len() != 2 {
            assert!(Instant::now() < deadline, "{strategy}: {ours:?} and {theirs:?}");
            step(&mut first, &mut ours);
            step(&mut second, &mut theirs);
        }
        assert!(ours.iter().all(|p| !theirs.contains(p)), "{ours:?} and {theirs:?}");
        second.close(BOUND);
        while ours.len() != 4 {
            assert!(Instant::now() < deadline, "{strategy}: {ours:?} after the other left");
            step(&mut first, &mut ours);
        }
        first.close(BOUND);
    }
}

/// librdkafka joins no rebalance while an assignment is not answered: a member that waited for its disk to be told where to
/// begin was expelled.
#[test]
fn a_rebalance_goes_on_before_it_is_known_where_to_begin() {
    for strategy in ["cooperative-sticky", "range"] {
        let cluster = cluster(2);
        let producer = Producer::new(&cluster.brokers(), "topic");
        (0..2).for_each(|number| producer.produce(number, 0, 5));
        let config = config(&cluster).set("partition.assignment.strategy", strategy).unwrap();
        let mut first = config.connect().unwrap();
        assert_eq!(assigned(&mut first), [partition(0), partition(1)]);
        let mut second = config.connect().unwrap();
        let (mut revoked, mut theirs) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + BOUND;
        while theirs.is_empty() {
            assert!(Instant::now() < deadline, "{strategy}: the other member got nothing, {revoked:?} was revoked");
            match first.poll(STEP) {
                Some(Event::Revoked { partitions, lost: false }) => {
                    first.unassign(&partitions).unwrap();
                    revoked.extend(partitions);
                }
                Some(Event::Assigned(_)) | None => {}
                other => panic!("{strategy}: {other:?}"),
            }
            step(&mut second, &mut theirs);
        }
        let ours: Vec<_> = (0..2).map(partition).filter(|partition| !theirs.contains(partition)).collect();
        assert_eq!(ours.len(), 1, "{strategy}");
        producer.produce(ours[0].number, 5, 10);
        while let Some(event) = first.poll(STEP) {
            assert!(matches!(event, Event::Assigned(_)), "{strategy}: {event:?} before it was known where to begin");
        }
        first.assign(&[(ours[0].clone(), 2)]).unwrap();
        let expected: Vec<_> = (2..10).map(|offset| (ours[0].number, offset)).collect();
        assert_eq!(drain_some(&mut first, 8), expected, "{strategy}");
        first.close(BOUND);
        second.close(BOUND);
    }
}

fn step(source: &mut KafkaSource, owned: &mut Vec<Partition>) {
    match source.poll(STEP) {
        Some(Event::Assigned(partitions)) => {
            source.assign(&partitions.iter().map(|p| (p.clone(), 0)).collect::<Vec<_>>()).unwrap();
            owned.extend(partitions);
        }
        Some(Event::Revoked { partitions, .. }) => {
            source.unassign(&partitions).unwrap();
            owned.retain(|p| !partitions.contains(p));
        }
        Some(Event::Error(e)) => panic!("{e}"),
        _ => {}
    }
}

#[test]
fn a_paused_partition_that_went_and_came_back_is_read_again() {
    let cluster = cluster(2);
    let producer = Producer::new(&cluster.brokers(), "topic");
    let config = config(&cluster);
    let mut first = joined(&config);
    first.pause(&[partition(0), partition(1)]).unwrap();
    let mut second = config.connect().unwrap();
    let (mut ours, mut theirs) = (vec![partition(0), partition(1)], Vec::new());
    let deadline = Instant::now() + BOUND;
    while ours.len() != 1 || theirs.len() != 1 {
        assert!(Instant::now() < deadline);
        step(&mut first, &mut ours);
        step(&mut second, &mut theirs);
    }
    let moved = theirs[0].clone();
    second.close(BOUND);
    while ours.len() != 2 {
        assert!(Instant::now() < deadline);
        step(&mut first, &mut ours);
    }
    producer.produce(moved.number, 0, 10);
    assert_eq!(drain_some(&mut first, 10).len(), 10);
    first.close(BOUND);
}

#[test]
fn closing_is_bounded_and_possible_in_the_middle_of_a_rebalance() {
    let cluster = cluster(1);
    let mut source = config(&cluster).connect().unwrap();
    assigned(&mut source);
    let begun = Instant::now();
    source.close(BOUND);
    assert!(begun.elapsed() < Duration::from_secs(10), "an unanswered assignment held the close up");

    let mut source = joined(&config(&cluster));
    cluster.mock().broker_round_trip_time(1, Duration::from_secs(20)).unwrap();
    let begun = Instant::now();
    source.close(Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_topic_has_an_id_and_a_missing_one_has_none() {
    let cluster = cluster(1);
    let mut source = config(&cluster).connect().unwrap();
    let id = source.topic_id("topic", BOUND).unwrap();
    assert!(id.is_some_and(|id| id.0 != [0; 16]), "{id:?}");
    assert_eq!(source.topic_id("topic", BOUND).unwrap(), id);
    source.close(BOUND);
}

#[test]
fn the_bounds_of_a_partition_are_right_although_the_first_answer_was_an_error() {
    let cluster = cluster(1);
    Producer::new(&cluster.brokers(), "topic").produce(0, 0, 50);
    let mut source = joined(&config(&cluster));
    for errors in 1..4 {
        let errors = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; errors];
        cluster.mock().request_errors(RDKafkaApiKey::ListOffsets, &errors);
        assert_eq!(source.watermarks(&partition(0), BOUND).unwrap(), (0, 50));
    }
    let error = source.watermarks(&partition(7), Duration::from_secs(2)).unwrap_err();
    assert!(error.message.contains("topic/7"), "{error}");
    source.close(BOUND);
}

#[test]
fn a_header_name_that_librdkafka_would_cut_short_is_an_error_and_not_another_name() {
    let cluster = cluster(1);
    let producer = Producer::new(&cluster.brokers(), "topic");
    let header = |name: &[u8], value: Option<&[u8]>| (name.to_vec(), value.map(<[u8]>::to_vec));
    let good = vec![header(b"a", Some(b"1")), header(b"a", None), header(b"b", Some(b"")), header(b"a", None)];
    let cut = vec![header(b"a", None), header(b"a\0b", None)];
    for (offset, headers) in [(0, good.clone()), (1, cut)] {
        producer.send_record(0, offset, &Made { key: None, value: None, headers, timestamp: 1 });
    }
    producer.flush();
    let mut source = joined(&config(&cluster));
    let deadline = Instant::now() + BOUND;
    let mut read = Vec::new();
    let error = loop {
        assert!(Instant::now() < deadline);
        match source.poll(STEP) {
            Some(Event::Record(message)) => {
                read = message.headers.iter().map(|(name, value)| header(name, *value)).collect();
            }
            Some(Event::Error(error)) if error.fatal => break error,
            _ => {}
        }
    };
    assert_eq!(read, good);
    assert!(
        error.message.contains("topic/0 at 1") && error.message.contains("behind which librdkafka cuts it off: \"a\""),
        "{error}"
    );
    source.close(BOUND);
}

/// Each header was looked up twice, by walking over all headers: the time went up with the square, to more than a member
/// may be silent for.
#[test]
fn a_record_of_very_many_headers_is_taken_at_once() {
    let cluster = cluster(1);
    let producer = Producer::with(&cluster.brokers(), "topic", &[("message.max.bytes", "10000000")]);
    let headers: Vec<_> = (0..100_000).map(|_| (Vec::new(), None)).collect();
    let record = Made { key: None, value: None, headers, timestamp: 1 };
    producer.send_record(0, 0, &record);
    producer.flush();
    let mut source = joined(&config(&cluster));
    let begun = Instant::now();
    let count = until(&mut source, "the record", |event| match event {
        Event::Record(message) => Some(message.headers.len()),
        _ => None,
    });
    let took = begun.elapsed();
    assert_eq!(count, 100_000);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Polls until it ends the receiver.
fn fatal(source: &mut KafkaSource) -> SourceError {
    let deadline = Instant::now() + BOUND;
    while Instant::now() < deadline {
        match source.poll(STEP) {
            Some(Event::Error(error)) if error.fatal => return error,
            _ => {}
        }
    }
    panic!("no fatal error within {BOUND:?}");
}

#[test]
fn a_topic_that_the_broker_does_not_allow_is_an_end_and_no_lack_of_an_answer() {
    let cluster = cluster(1);
    cluster.mock().topic_error("topic", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION).unwrap();
    let mut source = config(&cluster).connect().unwrap();
    let error = source.topic_id("topic", BOUND).unwrap_err();
    assert!(error.fatal && error.code == "TOPIC_EXCEPTION", "{error:?}");
    assert!(error.message.ends_with("correct it (--topic)"), "{error}");
    source.close(BOUND);
}

#[test]
fn a_member_whose_name_another_took_says_how_both_can_be() {
    let cluster = cluster(1);
    let mut source = joined(&config(&cluster).set("group.instance.id", "one").unwrap());
    let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID];
    cluster.mock().request_errors(RDKafkaApiKey::Heartbeat, &fenced);
    let error = fatal(&mut source);
    assert_eq!(error.code, "FENCED_INSTANCE_ID");
    assert!(error.message.ends_with("give each member one of its own (-X group.instance.id=ID)"), "{error}");
    source.close(BOUND);
}
