//! A disk that takes 15 seconds for a sync, under a receiver that must be heard of every 6.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use seawall::Options;
use seawall::receiver::{Config, KafkaConfig, Notice, Observer, ReceiveError, Receiver, Status, StatusHandle};
use seawall::sim::{Failing, Operation};
use seawall::storage::Fs;

use super::World;
use super::common::log::Reading;
use super::common::produce::Producer;

const SLOW: Duration = Duration::from_secs(15);
const BOUND: Duration = Duration::from_secs(90);

/// Everything that was noticed.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn notice(&self, notice: &Notice) {
        self.0.lock().unwrap().push(notice.to_string());
    }
}

/// A receiver with real files in a thread, and a member of a group that must be heard of every 6 s.
struct Running {
    status: StatusHandle,
    heard: Arc<Heard>,
    disk: Arc<Failing>,
    /// Syncs before it ran.
    opened: u64,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Status, ReceiveError>>,
}

impl Running {
    /// `slow`: syncs are, from the first on that the receiver waits for.
    fn start(world: &World, topic: &str, dir: &Path, slow: bool) -> Running {
        let disk = Failing::new(Arc::new(Fs::new(dir)));
        let wal = Options::new().open_on(disk.clone()).unwrap();
        let mut kafka = KafkaConfig::new(world.broker.address(), format!("group-{topic}")).topic(topic);
        for (key, value) in
            [("max.poll.interval.ms", "6000"), ("session.timeout.ms", "3000"), ("heartbeat.interval.ms", "500")]
        {
            kafka = kafka.set(key, value).unwrap();
        }
        let mut config = Config::default();
        config.block_interval = Duration::from_millis(100);
        config.drain_timeout = Duration::from_millis(1500);
        let heard = Arc::new(Heard::default());
        let receiver = Receiver::new(Arc::new(wal), kafka.connect().unwrap(), config).unwrap().observe(heard.clone());
        let opened = disk.count(Operation::Sync);
        if slow {
            disk.delay(Operation::Sync, SLOW);
        }
        let (status, stop) = (receiver.status(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || receiver.run(&flag));
        Running { status, heard, disk, opened, stop, thread }
    }

    fn wait_for(&self, what: &str, done: impl Fn(&Status) -> bool) {
        let deadline = Instant::now() + BOUND;
        while !done(&self.status.snapshot()) {
            let goes_on = Instant::now() < deadline && !self.thread.is_finished();
            assert!(goes_on, "{what}: {:?}", self.heard.0.lock().unwrap());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it in order; it has never been expelled.
    fn stop(self) -> Status {
        self.stop.store(true, Ordering::Relaxed);
        let last = self.thread.join().unwrap().unwrap();
        let heard = self.heard.0.lock().unwrap();
        assert_eq!((last.lost, last.source_errors), (0, 0), "{heard:?}");
        assert!(!heard.iter().any(|notice| notice.starts_with("lost")), "{heard:?}");
        last
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("seawall-slow-").tempdir().unwrap()
}

pub fn a_sync_of_15_seconds_does_not_cost_the_membership(world: &mut World) {
    let topic = "slow";
    world.admin.create(topic, 1);
    let temp = directory();
    let running = Running::start(world, topic, temp.path(), false);
    let producer = Producer::new(&world.broker.address(), topic);
    producer.produce(0, 0, 100);
    running.wait_for("the first records", |status| status.recorded == 100);

    let syncs = running.disk.count(Operation::Sync);
    running.disk.delay(Operation::Sync, SLOW);
    producer.produce(0, 100, 200);
    running.wait_for("a slow sync", |_| running.disk.count(Operation::Sync) > syncs);
    let begun = Instant::now();
    // Blocks go on being filled until the queue to the disk is full.
    let mut made = 200;
    while begun.elapsed() < SLOW - Duration::from_secs(2) {
        producer.produce(0, made, made + 50);
        made += 50;
        thread::sleep(Duration::from_millis(200));
    }
    let meanwhile = running.status.snapshot();
    assert!(meanwhile.recorded == 100 && meanwhile.pauses == 1, "{meanwhile:?}");
    running.disk.heal();
    running.wait_for("all records", |status| status.recorded == made as u64);
    let took = begun.elapsed();
    assert!(took >= SLOW, "the sync was not slow: {took:?}");
    assert_eq!(running.stop().assigned, 1);
    let reading = Reading::of(temp.path());
    assert_eq!((reading.records, reading.next[&0]), (made as u64, made));
    println!(
        "  {made} records; a sync took {took:.1?} with max.poll.interval.ms=6000, intake was paused and the membership kept"
    );
}

/// The receiver waits for the disk to know where its partitions begin, and another member joins.
pub fn a_rebalance_does_not_wait_for_a_slow_disk_that_an_assignment_waits_for(world: &mut World) {
    let topic = "slow-assignment";
    world.admin.create(topic, 2);
    let producer = Producer::new(&world.broker.address(), topic);
    (0..2).for_each(|number| producer.produce(number, 0, 100));
    let (slow, quick) = (directory(), directory());
    let first = Running::start(world, topic, slow.path(), true);
    first.wait_for("a slow sync", |_| first.disk.count(Operation::Sync) > first.opened);
    let begun = Instant::now();
    let second = Running::start(world, topic, quick.path(), false);
    second.wait_for("the other member's partition", |status| status.recorded == 100);
    let took = begun.elapsed();
    assert!(took < SLOW && first.status.snapshot().assigned == 0, "{took:?}, {:?}", first.status.snapshot());
    first.disk.heal();
    first.wait_for("its own partition", |status| status.recorded == 100);
    assert_eq!((first.stop().lost, second.stop().lost), (0, 0));
    let records = [slow, quick].map(|temp| Reading::of(temp.path()).records);
    assert_eq!(records, [100, 100]);
    println!("  another member had its partition after {took:.1?}, while where to begin waited for a sync of {SLOW:?}");
}
