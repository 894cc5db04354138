//! A disk that takes 15 seconds for a sync, under a receiver that must be heard of every 6.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use seawall::Options;
use seawall::receiver::{Config, KafkaConfig, Notice, Observer, Receiver};
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

pub fn a_sync_of_15_seconds_does_not_cost_the_membership(world: &mut World) {
    let topic = "slow";
    world.admin.create(topic, 1);
    let temp = tempfile::Builder::new().prefix("seawall-slow-").tempdir().unwrap();
    let delay = Arc::new(Delay::default());
    let storage = Slow { files: Fs::new(temp.path()), delay: Arc::clone(&delay) };
    let wal = Options::new().open_on(Arc::new(storage)).unwrap();
    let mut kafka = KafkaConfig::new(world.broker.address(), "group-slow").topic(topic);
    for (key, value) in
        [("max.poll.interval.ms", "6000"), ("session.timeout.ms", "3000"), ("heartbeat.interval.ms", "500")]
    {
        kafka = kafka.set(key, value).unwrap();
    }
    let mut config = Config::default();
    config.block_interval = Duration::from_millis(100);
    let heard = Arc::new(Heard::default());
    let receiver = Receiver::new(Arc::new(wal), kafka.connect().unwrap(), config).unwrap().observe(heard.clone());
    let status = receiver.status();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let running = thread::spawn(move || receiver.run(&flag));

    let producer = Producer::new(&world.broker.address(), topic);
    producer.produce(0, 0, 100);
    let wait_for = |what: &str, done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + BOUND;
        while !done() {
            assert!(Instant::now() < deadline && !running.is_finished(), "{what}: {:?}", heard.0.lock().unwrap());
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for("the first records", &|| status.snapshot().recorded == 100);

    delay.millis.store(SLOW.as_millis() as u64, Ordering::Relaxed);
    producer.produce(0, 100, 200);
    wait_for("a slow sync", &|| delay.syncs.load(Ordering::Relaxed) > 0);
    let begun = Instant::now();
    // Blocks go on being filled until the queue to the disk is full.
    let mut made = 200;
    while begun.elapsed() < SLOW - Duration::from_secs(2) {
        producer.produce(0, made, made + 50);
        made += 50;
        thread::sleep(Duration::from_millis(200));
    }
    let meanwhile = status.snapshot();
    assert!(meanwhile.recorded == 100 && meanwhile.pauses == 1, "{meanwhile:?}");
    delay.millis.store(0, Ordering::Relaxed);
    wait_for("all records", &|| status.snapshot().recorded == made as u64);
    let took = begun.elapsed();
    assert!(took >= SLOW, "the sync was not slow: {took:?}");

    stop.store(true, Ordering::Relaxed);
    let last = running.join().unwrap().unwrap();
    let heard = heard.0.lock().unwrap();
    assert_eq!((last.assigned, last.lost, last.source_errors), (1, 0, 0), "{heard:?}");
    assert!(!heard.iter().any(|notice| notice.starts_with("lost")), "{heard:?}");
    let reading = Reading::of(temp.path());
    assert_eq!((reading.records, reading.next[&0]), (made as u64, made));
    println!(
        "  {made} records; a sync took {took:.1?} with max.poll.interval.ms=6000, intake was paused and the membership kept"
    );
}
