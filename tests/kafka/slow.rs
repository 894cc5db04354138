//! A disk that takes 15 seconds for a sync, under a receiver that must be heard of every 6.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use seawall::Options;
use seawall::receiver::{Config, KafkaConfig, Notice, Observer, ReceiveError, Receiver, Status, StatusHandle};
use seawall::storage::{Background, File, Fs, Map, Next, Storage};

use super::World;
use super::common::log::Reading;
use super::common::produce::Producer;

const SLOW: Duration = Duration::from_secs(15);
const BOUND: Duration = Duration::from_secs(90);

/// Real files whose syncs take as long as they are told to.
#[derive(Debug)]
struct Slow {
    files: Fs,
    delay: Arc<Delay>,
}

#[derive(Debug, Default)]
struct Delay {
    millis: AtomicU64,
    syncs: AtomicU64,
}

#[derive(Debug)]
struct SlowFile(Box<dyn File>, Arc<Delay>);

impl Slow {
    fn slow(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(SlowFile(file, Arc::clone(&self.delay)))
    }
}

impl Storage for Slow {
    fn path(&self) -> &Path {
        self.files.path()
    }
    fn create_dir(&self) -> io::Result<()> {
        self.files.create_dir()
    }
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.files.lock()
    }
    fn list(&self) -> io::Result<Vec<(OsString, bool)>> {
        self.files.list()
    }
    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn File>> {
        self.files.open(name, write).map(|file| self.slow(file))
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.files.create(name).map(|file| self.slow(file))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.files.sync_dir()
    }
    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        self.files.random(out)
    }
    fn background(&self, name: &str, step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>> {
        self.files.background(name, step)
    }
    fn now(&self) -> Duration {
        self.files.now()
    }
}

impl File for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        let delay = Duration::from_millis(self.1.millis.load(Ordering::Relaxed));
        if !delay.is_zero() {
            self.1.syncs.fetch_add(1, Ordering::Relaxed);
            thread::sleep(delay);
        }
        self.0.sync()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn map(&self, len: usize) -> io::Result<Box<dyn Map>> {
        self.0.map(len)
    }
}

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
    delay: Arc<Delay>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Status, ReceiveError>>,
}

impl Running {
    /// `slow`: syncs are, from the first on that the receiver waits for.
    fn start(world: &World, topic: &str, dir: &Path, slow: bool) -> Running {
        let delay = Arc::new(Delay::default());
        let storage = Slow { files: Fs::new(dir), delay: Arc::clone(&delay) };
        let wal = Options::new().open_on(Arc::new(storage)).unwrap();
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
        delay.slow(slow);
        let (status, stop) = (receiver.status(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || receiver.run(&flag));
        Running { status, heard, delay, stop, thread }
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

impl Delay {
    fn slow(&self, slow: bool) {
        let delay = if slow { SLOW } else { Duration::ZERO };
        self.millis.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
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

    running.delay.slow(true);
    producer.produce(0, 100, 200);
    running.wait_for("a slow sync", |_| running.delay.syncs() > 0);
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
    running.delay.slow(false);
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
    first.wait_for("a slow sync", |_| first.delay.syncs() > 0);
    let begun = Instant::now();
    let second = Running::start(world, topic, quick.path(), false);
    second.wait_for("the other member's partition", |status| status.recorded == 100);
    let took = begun.elapsed();
    assert!(took < SLOW && first.status.snapshot().assigned == 0, "{took:?}, {:?}", first.status.snapshot());
    first.delay.slow(false);
    first.wait_for("its own partition", |status| status.recorded == 100);
    assert_eq!((first.stop().lost, second.stop().lost), (0, 0));
    let records = [slow, quick].map(|temp| Reading::of(temp.path()).records);
    assert_eq!(records, [100, 100]);
    println!("  another member had its partition after {took:.1?}, while where to begin waited for a sync of {SLOW:?}");
}
