//! A broker, a place for a log, and the lives of a receiver between them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use seawall::receiver::scripted::{Broker, Stored};
use seawall::receiver::{
    Commit, Config, Entry, Notice, Observer, Partition, ReceiveError, Receiver, Recovered, Status, StatusHandle, Step,
    recover,
};
use seawall::sim::Disk;
use seawall::storage::{Fs, Storage};
use seawall::{Options, Record, Wal};

pub const SEGMENT: u64 = 64 << 10;
/// Longer than anything takes, even on a busy machine: where it is waited out, something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// All intervals short, so that tests are.
pub fn quick() -> Config {
    let mut config = Config::default();
    config.block_interval = ms(2);
    config.block_bytes = 16 << 10;
    config.retry_interval = ms(5);
    config.commit_retry = ms(5);
    config.commit_timeout = ms(100);
    config.request_timeout = ms(50);
    config.start_timeout = Duration::from_secs(5);
    config
}

pub fn options() -> Options {
    Options::new().segment_size(SEGMENT)
}

pub fn partition(topic: &str, number: i32) -> Partition {
    Partition { topic: topic.into(), number }
}

pub fn stored(value: &str) -> Stored {
    Stored {
        timestamp: 1_700_000_000_000,
        timestamp_type: 1,
        key: Some(b"key".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![(b"trace".to_vec(), Some(b"id".to_vec()))],
    }
}

/// `count` records, spread over the partitions `0..partitions` of `topic`.
pub fn produce(broker: &Broker, topic: &str, partitions: i32, count: i32) {
    for i in 0..count {
        let number = i % partitions;
        let value = format!("{topic}/{number} record {i}");
        broker.produce(topic, number, stored(&value));
    }
}

/// A broker with topic `t` of `partitions`.
pub fn broker(partitions: usize) -> Broker {
    let broker = Broker::new();
    broker.create_topic("t", partitions);
    broker
}

pub fn fs(path: &Path) -> Arc<dyn Storage> {
    Arc::new(Fs::new(path))
}

/// What was told, in words, and what shall happen at a step.
#[derive(Default)]
pub struct Witness {
    pub notices: Mutex<Vec<String>>,
    pub steps: Mutex<BTreeMap<Step, u64>>,
    #[expect(clippy::type_complexity, reason = "a hook")]
    pub at_step: Mutex<Option<Box<dyn FnMut(Step, u64) + Send>>>,
}

impl Observer for Witness {
    fn notice(&self, notice: &Notice) {
        self.notices.lock().unwrap().push(notice.to_string());
    }

    fn step(&self, step: Step) {
        let visit = {
            let mut steps = self.steps.lock().unwrap();
            let visits = steps.entry(step).or_default();
            *visits += 1;
            *visits
        };
        if let Some(hook) = &mut *self.at_step.lock().unwrap() {
            hook(step, visit);
        }
    }
}

impl Witness {
    pub fn heard(&self, what: &str) -> bool {
        self.notices.lock().unwrap().iter().any(|notice| notice.contains(what))
    }
}

/// A running receiver.
pub struct Life {
    pub wal: Arc<Wal>,
    pub member: u64,
    pub recovered: Recovered,
    pub witness: Arc<Witness>,
    broker: Broker,
    status: StatusHandle,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Status, ReceiveError>>,
}

impl Life {
    /// Opens the log and begins to receive topic `t` in group `g`.
    pub fn start(broker: &Broker, storage: Arc<dyn Storage>, config: Config) -> Life {
        Life::begin(broker, storage, config, Arc::default()).unwrap()
    }

    pub fn begin(
        broker: &Broker,
        storage: Arc<dyn Storage>,
        config: Config,
        witness: Arc<Witness>,
    ) -> Result<Life, ReceiveError> {
        let wal = Arc::new(options().open_on(storage)?);
        Life::on(broker, wal, config, witness)
    }

    pub fn on(broker: &Broker, wal: Arc<Wal>, config: Config, witness: Arc<Witness>) -> Result<Life, ReceiveError> {
        Life::of(&["t"], broker, wal, config, witness)
    }

    /// Receives these topics in group `g`.
    pub fn of(
        topics: &[&str],
        broker: &Broker,
        wal: Arc<Wal>,
        config: Config,
        witness: Arc<Witness>,
    ) -> Result<Life, ReceiveError> {
        let source = broker.join("g", topics);
        let member = source.member();
        let receiver = Receiver::new(Arc::clone(&wal), source, config)?.observe(Arc::<Witness>::clone(&witness));
        let (status, recovered) = (receiver.status(), receiver.recovered().clone());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || receiver.run(&stop))
        };
        Ok(Life { wal, member, recovered, witness, broker: broker.clone(), status, stop, thread })
    }

    pub fn status(&self) -> Status {
        self.status.snapshot()
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for a condition; also ends where the life does. Tells whether the condition holds.
    pub fn wait(&self, mut condition: impl FnMut(&Life) -> bool) -> bool {
        let mut holds = false;
        self.broker.wait(PATIENCE, |_| {
            holds = condition(self);
            holds || self.is_over()
        });
        holds || condition(self)
    }

    #[track_caller]
    pub fn expect(&self, what: &str, condition: impl FnMut(&Life) -> bool) {
        let holds = self.wait(condition);
        let notices = self.witness.notices.lock().unwrap();
        assert!(holds, "{what}; over: {}, {:#?}\n{notices:#?}", self.is_over(), self.status());
    }

    /// Waits until the group has everything there is of `t`.
    #[track_caller]
    pub fn expect_all_committed(&self) {
        self.expect("everything is committed", |life| all_committed(&life.broker));
    }

    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Stops in order.
    #[track_caller]
    pub fn stop(self) -> Status {
        self.ask_to_stop();
        self.outcome().unwrap()
    }

    #[track_caller]
    pub fn outcome(self) -> Result<Status, ReceiveError> {
        self.expect("the receiver ends", Life::is_over);
        self.thread.join().unwrap()
    }

    /// The process dies. Its disk goes first: a receiver that is cut off ends in order.
    #[track_caller]
    pub fn cut_off(self, disk: &Disk) {
        disk.kill();
        self.broker.kill(self.member);
        _ = self.outcome();
    }

    #[track_caller]
    pub fn error(self) -> ReceiveError {
        self.outcome().unwrap_err()
    }
}

/// The high watermarks of `t`.
fn ends(broker: &Broker) -> Vec<i64> {
    (0..).map_while(|number| broker.end("t", number)).collect()
}

pub fn all_committed(broker: &Broker) -> bool {
    (0..).zip(ends(broker)).all(|(number, end)| committed(broker, number) == Some(end))
}

pub fn committed(broker: &Broker, number: i32) -> Option<i64> {
    broker.committed("g", "t", number).map(|commit| commit.next)
}

pub fn commit(number: i32, next: i64, metadata: &str) -> Commit {
    Commit { partition: partition("t", number), next, metadata: metadata.to_owned() }
}

/// The records of the log.
pub fn records(wal: &Wal) -> Vec<Record> {
    wal.read(..).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The received records in the log, in its order, by partition of `t`.
pub fn contents(wal: &Wal) -> BTreeMap<i32, Vec<(i64, Stored)>> {
    let mut contents: BTreeMap<i32, Vec<(i64, Stored)>> = BTreeMap::new();
    for record in records(wal) {
        let Entry::Block(block) = Entry::decode(&record.payload).unwrap() else { continue };
        for record in block.records() {
            let record = record.unwrap();
            let number = block.ranges()[record.range].partition.number;
            let headers = record.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
            let stored = Stored {
                timestamp: record.timestamp,
                timestamp_type: record.timestamp_type,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers.collect(),
            };
            contents.entry(number).or_default().push((record.offset, stored));
        }
    }
    contents
}

/// Opens the log again and holds it against the broker: each record once, byte for byte, in order.
#[track_caller]
pub fn assert_exactly_once(broker: &Broker, storage: Arc<dyn Storage>) {
    let wal = options().open_on(storage).unwrap();
    let contents = contents(&wal);
    for number in 0..ends(broker).len() as i32 {
        let (there, here) = (broker.records("t", number), contents.get(&number).cloned().unwrap_or_default());
        let offsets = |records: &[(i64, Stored)]| records.iter().map(|(offset, _)| *offset).collect::<Vec<_>>();
        assert_eq!(offsets(&here), offsets(&there), "partition {number}");
        assert_eq!(here, there, "partition {number}");
    }
    recover(&wal).unwrap();
    wal.close().unwrap();
}

/// As [`assert_exactly_once`], of what cleaning has left: nothing is missing above the first record, nothing is
/// twice.
#[track_caller]
pub fn assert_exactly_once_from_first(broker: &Broker, wal: &Wal) {
    let table = recover(wal).unwrap().table;
    let contents = contents(wal);
    for (place, _, mark) in table.iter() {
        let here = contents.get(&place.number).cloned().unwrap_or_default();
        let Some((first, _)) = here.first() else { continue };
        let there = broker.records("t", place.number);
        let there: Vec<_> = there.into_iter().filter(|(at, _)| at >= first && *at < mark.next).collect();
        assert_eq!(here, there, "{place}");
    }
}

/// Nothing the group has been told is beyond the log.
#[track_caller]
pub fn assert_not_ahead(broker: &Broker, wal: &Wal) {
    let table = recover(wal).unwrap().table;
    for commit in broker.all_committed("g") {
        let next = table.iter().find(|(place, ..)| **place == commit.partition).map(|(_, _, mark)| mark.next);
        assert!(next.is_some_and(|next| commit.next <= next), "{commit:?} where the log stands at {next:?}");
    }
}
