//! A producer that takes header names as bytes, which the safe API of rdkafka does not.

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_vtype_t as Kind;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::records::{Made, made};

/// What the broker acknowledged: how many records of each partition; and what it did not.
#[derive(Default)]
struct Acks {
    acknowledged: Mutex<BTreeMap<i32, i64>>,
    wrong: Mutex<Vec<String>>,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) if message.offset() == number as i64 => {
                *self.acknowledged.lock().unwrap().entry(message.partition()).or_default() += 1;
            }
            Ok(message) => {
                let wrong = format!("record {number} of {} is at {}", message.partition(), message.offset());
                self.wrong.lock().unwrap().push(wrong);
            }
            Err((e, message)) => {
                self.wrong.lock().unwrap().push(format!("record {number} of {}: {e}", message.partition()));
            }
        }
    }
}

/// Produces the records that follow from their offsets, each acknowledged by all replicas, in order.
pub struct Producer {
    inner: BaseProducer<Acks>,
    topic: CString,
}

impl Producer {
    pub fn new(brokers: &str, topic: &str) -> Producer {
        Producer::with(brokers, topic, &[])
    }

    pub fn with(brokers: &str, topic: &str, settings: &[(&str, &str)]) -> Producer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("enable.idempotence", "true").set("linger.ms", "5");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let inner = config.create_with_context(Acks::default()).unwrap();
        Producer { inner, topic: CString::new(topic).unwrap() }
    }

    pub fn inner(&self) -> &BaseProducer<impl ProducerContext> {
        &self.inner
    }

    /// Produces the records `from..to` of a partition and waits until the broker has them all.
    pub fn produce(&self, partition: i32, from: i64, to: i64) {
        for offset in from..to {
            self.send(partition, offset);
        }
        self.flush();
    }

    /// How many partitions it knows.
    pub fn partitions(&self) -> usize {
        let metadata = self.inner.client().fetch_metadata(self.topic.to_str().ok(), Duration::from_secs(10));
        metadata.unwrap().topics()[0].partitions().len()
    }

    /// Queues the record of this offset, waiting for room.
    pub fn send(&self, partition: i32, offset: i64) {
        self.send_record(partition, offset, &made(partition, offset));
    }

    pub fn send_record(&self, partition: i32, offset: i64, record: &Made) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(code) = self.enqueue(partition, offset, record) {
            assert_eq!(code, rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL);
            assert!(Instant::now() < deadline, "the producer's queue stays full");
            self.inner.poll(Duration::from_millis(20));
        }
        self.inner.poll(Duration::ZERO);
    }

    /// Hears what the broker has to say.
    pub fn poll(&self, timeout: Duration) {
        self.inner.poll(timeout);
    }

    /// Waits until everything is acknowledged, and that it was, at the offsets meant.
    pub fn flush(&self) {
        self.inner.flush(Duration::from_secs(60)).unwrap();
        self.check();
    }

    /// How many records of all partitions were acknowledged.
    pub fn acknowledged(&self) -> i64 {
        self.check();
        self.inner.context().acknowledged.lock().unwrap().values().sum()
    }

    fn check(&self) {
        let wrong = self.inner.context().wrong.lock().unwrap();
        assert!(wrong.is_empty(), "producing failed, {} records, the first: {}", wrong.len(), wrong[0]);
    }

    fn enqueue(&self, partition: i32, offset: i64, record: &Made) -> Result<(), rd::rd_kafka_resp_err_t> {
        let memory = |bytes: &Option<Vec<u8>>| rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: bytes.as_ref().map_or(ptr::null_mut(), |b| b.as_ptr().cast_mut().cast()),
            size: bytes.as_ref().map_or(0, Vec::len),
        };
        let one = |vtype, u| rd::rd_kafka_vu_s { vtype, u };
        type Value = rd::rd_kafka_vu_s__bindgen_ty_1;
        // SAFETY: key, payload and name are copied by the call (MSG_F_COPY); the headers are the call's if it succeeds
        // and freed here if not; the opaque is a number.
        unsafe {
            let headers = rd::rd_kafka_headers_new(record.headers.len());
            for (name, value) in &record.headers {
                let (start, len) = match value {
                    None => (ptr::null(), 0),
                    Some(value) => (value.as_ptr().cast::<c_void>(), value.len() as isize),
                };
                rd::rd_kafka_header_add(headers, name.as_ptr().cast(), name.len() as isize, start, len);
            }
            let opaque = ptr::without_provenance_mut(usize::try_from(offset).unwrap());
            let all = [
                one(Kind::RD_KAFKA_VTYPE_TOPIC, Value { cstr: self.topic.as_ptr() }),
                one(Kind::RD_KAFKA_VTYPE_PARTITION, Value { i32_: partition }),
                one(Kind::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: rd::RD_KAFKA_MSG_F_COPY }),
                one(Kind::RD_KAFKA_VTYPE_KEY, Value { mem: memory(&record.key) }),
                one(Kind::RD_KAFKA_VTYPE_VALUE, Value { mem: memory(&record.value) }),
                one(Kind::RD_KAFKA_VTYPE_TIMESTAMP, Value { i64_: record.timestamp }),
                one(Kind::RD_KAFKA_VTYPE_HEADERS, Value { headers }),
                one(Kind::RD_KAFKA_VTYPE_OPAQUE, Value { ptr: opaque }),
            ];
            let error = rd::rd_kafka_produceva(self.inner.client().native_ptr(), all.as_ptr(), all.len());
            if error.is_null() {
                return Ok(());
            }
            rd::rd_kafka_headers_destroy(headers);
            let code = rd::rd_kafka_error_code(error);
            rd::rd_kafka_error_destroy(error);
            Err(code)
        }
    }
}
