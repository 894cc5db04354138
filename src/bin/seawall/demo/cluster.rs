//! The mock cluster, and the producer of records that can be made again from their place.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ProducerContext};

pub const TOPIC: &str = "orders";
pub const PARTITIONS: i32 = 3;

/// One broker inside this process, until its end: librdkafka may wait for ever when it takes a mock cluster down that
/// clients are connected to.
pub struct Cluster(ManuallyDrop<MockCluster<'static, DefaultProducerContext>>);

impl Cluster {
    pub fn start() -> anyhow::Result<Cluster> {
        let cluster = MockCluster::new(1).context("starting librdkafka's mock cluster")?;
        cluster.create_topic(TOPIC, PARTITIONS, 1).context("making the topic")?;
        Ok(Cluster(ManuallyDrop::new(cluster)))
    }

    pub fn brokers(&self) -> String {
        self.0.bootstrap_servers()
    }
}

/// A record, as it is produced and as it must be found.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The record at an offset of a partition. Some have no payload, some an empty one, some headers that repeat.
pub fn order(partition: i32, offset: i64) -> Order {
    let number = offset.unsigned_abs() * 3 + u64::from(partition.unsigned_abs());
    let size = usize::try_from(number.wrapping_mul(0x9e37_79b9) % 400).unwrap_or(0);
    let value = match number % 23 {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(format!("order {number} ").into_bytes().into_iter().cycle().take(20 + size).collect()),
    };
    let key = (!number.is_multiple_of(17)).then(|| format!("customer {}", number % 1000).into_bytes());
    let headers = match number % 5 {
        0 => vec![("trace".to_owned(), Some(number.to_le_bytes().to_vec())), ("trace".to_owned(), None)],
        1 => vec![("empty".to_owned(), Some(Vec::new()))],
        _ => Vec::new(),
    };
    Order { key, value, headers }
}

/// How many records may be produced by now, and what the cluster acknowledged.
#[derive(Default)]
struct Shared {
    allowed: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicBool,
}

#[derive(Clone)]
struct Listening(Arc<Shared>);

impl ClientContext for Listening {}

impl ProducerContext for Listening {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.0.acknowledged.fetch_add(1, Ordering::Relaxed)),
            Err(_) => self.0.failed.store(true, Ordering::Relaxed),
        }
    }
}

/// Records being produced, evenly over a time, by a thread; never more than are allowed.
pub struct Production {
    shared: Arc<Shared>,
    records: u64,
    thread: JoinHandle<anyhow::Result<u64>>,
}

impl Production {
    pub fn begin(cluster: &Cluster, records: u64, pace: Duration) -> anyhow::Result<Production> {
        let shared = Arc::new(Shared::default());
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.brokers()).set("enable.idempotence", "true").set("linger.ms", "5");
        let producer: BaseProducer<Listening> = config.create_with_context(Listening(Arc::clone(&shared)))?;
        let thread = thread::Builder::new().name("demo-produce".into());
        let for_thread = Arc::clone(&shared);
        let thread = thread.spawn(move || produce(&producer, &for_thread, records, pace))?;
        Ok(Production { shared, records, thread })
    }

    /// Lets this many records come in all.
    pub fn allow(&self, records: u64) {
        self.shared.allowed.store(records, Ordering::Relaxed);
    }

    /// Waits for the end, makes sure that the cluster has them all, and tells how many bytes they are.
    pub fn finish(self) -> anyhow::Result<u64> {
        let bytes = self.thread.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
        ensure!(!self.shared.failed.load(Ordering::Relaxed), "the mock cluster refused a record");
        let records = self.shared.acknowledged.load(Ordering::Relaxed);
        ensure!(records == self.records, "the mock cluster acknowledged {records} of {} records", self.records);
        Ok(bytes)
    }
}

fn produce(producer: &BaseProducer<Listening>, shared: &Shared, records: u64, pace: Duration) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let mut bytes = 0;
    for number in 0..records {
        let due = pace.mul_f64(number as f64 / records as f64);
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            producer.poll(Duration::ZERO);
            thread::sleep(early);
        }
        while number >= shared.allowed.load(Ordering::Relaxed) {
            producer.poll(Duration::from_millis(10));
        }
        let partition = i32::try_from(number % 3)?;
        let order = order(partition, i64::try_from(number / 3)?);
        bytes += order.value.as_ref().map_or(0, Vec::len) as u64;
        let mut headers = OwnedHeaders::new();
        for (key, value) in &order.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut record = BaseRecord::to(TOPIC).partition(partition).headers(headers);
        record.key = order.key.as_deref();
        record.payload = order.value.as_deref();
        producer.send(record).map_err(|(e, _)| e)?;
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(bytes)
}
