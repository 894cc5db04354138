//! 200 000 records while the receiver is killed ten times and the broker once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::World;
use super::admin::Group;
use super::common::log::Reading;
use super::common::produce::Producer;
use super::common::receiving::{Job, Receiving, seawall};
use super::common::records::{Made, made};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
const RECORDS: i64 = 200_000;
const KILLS: i64 = 10;
/// Stored from kill to kill, at least.
const SHARE: i64 = RECORDS / (KILLS + 3);
/// Records a second.
const PACE: u64 = 4_000;
/// How long it may take until a reader beside the receiver sees what the group has. A reader sees what is *known* to be
/// durable, and the note of that (MARK, or the next frame) is written after the sync, while the commit is on its way.
const NOTED: Duration = Duration::from_secs(1);
const BOUND: Duration = Duration::from_secs(300);

/// The receiver is killed ten times, each after new records were stored and while some remain; the broker once.
pub fn receiver_and_broker(world: &mut World) {
    let temp = tempfile::Builder::new().prefix("seawall-kill-").tempdir().unwrap();
    let dir = temp.path().join("log");
    world.admin.create(TOPIC, PARTITIONS);
    let options = ["--segment-size", "4MiB", "--block-interval", "50ms", "-X", "session.timeout.ms=2000"];
    let job =
        Job::new(&world.broker.address(), TOPIC, &dir, &[&options[..], &["-X", "heartbeat.interval.ms=300"]].concat());
    let producer = Arc::new(Producer::new(&world.broker.address(), TOPIC));
    let limit = Arc::new(AtomicI64::new(0));
    let producing = produce(Arc::clone(&producer), Arc::clone(&limit));
    let samples = Samples::begin(world.admin.group(&job.group), &dir);
    let group = world.admin.group(&job.group);
    // What the group had when the receiver was dead.
    let mut left = BTreeMap::new();
    let begun = Instant::now();
    let mut reading = Reading::default();
    for kill in 1..=KILLS {
        let before = reading.records;
        // Production is never done before the last kill, however long the broker was away.
        limit.store((kill + 2) * SHARE, Ordering::Relaxed);
        let mut receiver = job.start();
        found_by_recovery(&mut receiver, &left);
        let target = (kill * SHARE) as u64;
        wait_for(&mut receiver, &mut reading, &dir, target.max(before + 1), begun);
        if kill == KILLS / 2 {
            kill_broker(world, &mut receiver);
            let stored = reading.records;
            wait_for(&mut receiver, &mut reading, &dir, stored + 1, begun);
        }
        receiver.kill();
        left = group.offsets_within(TOPIC, PARTITIONS, BOUND);
        reading.go_on(&dir);
        assert!(reading.records > before && reading.records < RECORDS as u64);
        println!(
            "  kill {kill}: {} records durable, {} of them new, {} acknowledged by the broker",
            reading.records,
            reading.records - before,
            producer.acknowledged()
        );
    }
    limit.store(RECORDS, Ordering::Relaxed);
    let mut receiver = job.start();
    found_by_recovery(&mut receiver, &left);
    wait_for(&mut receiver, &mut reading, &dir, RECORDS as u64, begun);
    producing.join().unwrap();
    assert_eq!(producer.acknowledged(), RECORDS);
    let (status, said) = receiver.stop(3, BOUND);
    assert!(status.success(), "{status}: {said}");
    println!("  {}", samples.end());
    println!("  recovery found all that was committed, after each of the {KILLS} kills");

    let ends: BTreeMap<i32, i64> = (0..PARTITIONS).map(|number| (number, share(number))).collect();
    let whole = Reading::of(&dir);
    assert_eq!((whole.records, whole.holes, &whole.next), (RECORDS as u64, 0, &ends));
    let committed = group.offsets_within(TOPIC, PARTITIONS, BOUND);
    assert_eq!(committed, ends, "a graceful stop commits everything");
    assert_eq!(dumped(&dir), RECORDS as u64);
    println!("  {RECORDS} records, each once and byte for byte, by the crate's reader and by `seawall dump`");
}

/// Whatever a dead receiver had committed, the next one finds in the log.
fn found_by_recovery(receiver: &mut Receiving, committed: &BTreeMap<i32, i64>) {
    let recovered = receiver.wait_for("recovered", BOUND);
    for (number, offset) in committed {
        let found = recovered["resume"][format!("{TOPIC}/{number}")].as_i64().unwrap_or(0);
        assert!(found >= *offset, "{TOPIC}/{number}: {offset} was committed, recovery found {found}");
    }
}

/// How many records a partition gets.
fn share(number: i32) -> i64 {
    (RECORDS - i64::from(number) + i64::from(PARTITIONS) - 1) / i64::from(PARTITIONS)
}

fn produce(producer: Arc<Producer>, limit: Arc<AtomicI64>) -> JoinHandle<()> {
    thread::spawn(move || {
        let begun = Instant::now();
        for number in 0..RECORDS {
            while number >= limit.load(Ordering::Relaxed) {
                assert!(begun.elapsed() < BOUND, "no more may be produced after {number} records");
                producer.poll(Duration::from_millis(20));
            }
            if number % 40 == 0 {
                let due = Duration::from_millis(number as u64 * 1000 / PACE);
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            producer.send((number % i64::from(PARTITIONS)) as i32, number / i64::from(PARTITIONS));
        }
        // The broker may still be starting again.
        let deadline = Instant::now() + BOUND;
        while producer.acknowledged() < RECORDS {
            assert!(Instant::now() < deadline, "the broker does not take all records");
            producer.poll(Duration::from_millis(100));
        }
    })
}

fn wait_for(receiver: &mut Receiving, reading: &mut Reading, dir: &Path, records: u64, begun: Instant) {
    while reading.records < records {
        receiver.check();
        assert!(begun.elapsed() < BOUND, "{} of {records} records after {BOUND:?}", reading.records);
        thread::sleep(Duration::from_millis(20));
        reading.go_on(dir);
    }
}

fn kill_broker(world: &mut World, receiver: &mut Receiving) {
    world.broker.kill();
    let down = Instant::now();
    thread::sleep(Duration::from_secs(2));
    receiver.check();
    world.broker.restart();
    println!("  the broker was killed and was back after {:.1?}", down.elapsed());
}

/// Holds the group's offsets against what a reader of the log sees, again and again, from a thread. The group is asked
/// first: what the log shows later can only be more.
struct Samples {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<String>,
}

impl Samples {
    fn begin(group: Group, dir: &Path) -> Samples {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, dir) = (Arc::clone(&stop), dir.to_owned());
        let thread = thread::spawn(move || {
            let (mut samples, mut unanswered, mut waited, mut longest) = (0_u64, 0_u64, 0_u64, Duration::ZERO);
            let mut reading = Reading::default();
            while !flag.load(Ordering::Relaxed) {
                let Some(committed) = group.offsets(TOPIC, PARTITIONS) else {
                    unanswered += 1;
                    continue;
                };
                reading.go_on(&dir);
                let ahead = |reading: &Reading| {
                    let next = |number: &i32| reading.next.get(number).copied().unwrap_or(0);
                    committed.iter().find(|(number, offset)| **offset > next(number)).map(|(n, o)| (*n, *o))
                };
                if ahead(&reading).is_some() {
                    waited += 1;
                    let since = Instant::now();
                    while ahead(&reading).is_some() && since.elapsed() < NOTED {
                        reading.go_on(&dir);
                    }
                    longest = longest.max(since.elapsed());
                }
                assert_eq!(ahead(&reading), None, "after {NOTED:?} the group is still ahead: {:?}", reading.next);
                samples += 1;
                thread::sleep(Duration::from_millis(20));
            }
            assert!(samples > 100, "only {samples} samples, {unanswered} questions without an answer");
            format!(
                "what the group had was in the log as a reader sees it within {NOTED:?} at each of {samples} samples: \
                 at {} at once, at {waited} after {longest:.1?} at most",
                samples - waited
            )
        });
        Samples { stop, thread }
    }

    fn end(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Holds what `seawall dump` says against the records; gives their number.
fn dumped(dir: &Path) -> u64 {
    let mut dump = seawall().arg("dump").arg(dir).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
    let mut records = 0;
    for line in BufReader::new(dump.stdout.take().unwrap()).lines() {
        let entry: Value = serde_json::from_str(&line.unwrap()).unwrap();
        for record in entry["records"].as_array().into_iter().flatten() {
            let (partition, offset) = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
            assert_eq!(record["topic"], TOPIC);
            assert_eq!(undumped(record), made(partition as i32, offset), "{partition}@{offset}");
            records += 1;
        }
    }
    assert!(dump.wait().unwrap().success());
    records
}

fn undumped(record: &Value) -> Made {
    let bytes = |value: &Value| value.as_str().map(|text| STANDARD.decode(text).unwrap());
    let name = |value: &Value| match value.as_str() {
        Some(name) => name.as_bytes().to_vec(),
        None => bytes(&value["base64"]).unwrap(),
    };
    let headers = record["headers"].as_array().unwrap().iter();
    Made {
        key: bytes(&record["key"]),
        value: bytes(&record["value"]),
        headers: headers.map(|header| (name(&header[0]), bytes(&header[1]))).collect(),
        timestamp: record["timestamp"].as_i64().unwrap(),
    }
}
