//! Topics and group offsets, asked for and made from beside the receiver.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const BOUND: Duration = Duration::from_secs(30);

pub struct Admin {
    client: AdminClient<DefaultClientContext>,
    brokers: String,
}

impl Admin {
    pub fn new(brokers: &str) -> Admin {
        let client = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
        Admin { client, brokers: brokers.to_owned() }
    }

    pub fn create(&self, topic: &str, partitions: i32) {
        let topics = [NewTopic::new(topic, partitions, TopicReplication::Fixed(1))];
        for result in block_on(self.client.create_topics(&topics, &options())).unwrap() {
            result.unwrap();
        }
        self.wait_for_leaders(topic, partitions);
    }

    /// As [`create`](Admin::create); false while the topic of that name is still being deleted.
    pub fn try_create(&self, topic: &str, partitions: i32) -> bool {
        let topics = [NewTopic::new(topic, partitions, TopicReplication::Fixed(1))];
        let results = block_on(self.client.create_topics(&topics, &options())).unwrap();
        if results.iter().any(Result::is_err) {
            return false;
        }
        self.wait_for_leaders(topic, partitions);
        true
    }

    pub fn delete(&self, topic: &str) {
        for result in block_on(self.client.delete_topics(&[topic], &options())).unwrap() {
            result.unwrap();
        }
    }

    pub fn grow(&self, topic: &str, partitions: usize) {
        let new = [NewPartitions::new(topic, partitions)];
        for result in block_on(self.client.create_partitions(&new, &options())).unwrap() {
            result.unwrap();
        }
    }

    /// Deletes the records of a partition below an offset, as retention does.
    pub fn delete_below(&self, topic: &str, number: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, number, Offset::Offset(offset)).unwrap();
        let done = block_on(self.client.delete_records(&list, &options())).unwrap();
        assert!(done.elements().iter().all(|element| element.error().is_ok()), "{done:?}");
    }

    fn wait_for_leaders(&self, topic: &str, partitions: i32) {
        let deadline = Instant::now() + BOUND;
        let (client, timeout) = (self.client.inner(), Duration::from_secs(2));
        // A client that asked too early keeps the answer that there is no such partition: metadata is asked for anew.
        let ask = |number| {
            client.fetch_metadata(Some(topic), timeout)?;
            client.fetch_watermarks(topic, number, timeout)
        };
        while let Some(error) = (0..partitions).find_map(|number| ask(number).err()) {
            assert!(Instant::now() < deadline, "{topic} has no leaders: {error}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A view of the group that is no member of it.
    pub fn group(&self, group: &str) -> Group {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", group).set("enable.auto.commit", "false");
        Group(config.create().unwrap())
    }
}

/// A group's offsets.
pub struct Group(BaseConsumer);

impl Group {
    /// The next offset of each partition, for those that have one.
    pub fn offsets(&self, topic: &str, partitions: i32) -> Option<BTreeMap<i32, i64>> {
        let mut list = TopicPartitionList::new();
        for number in 0..partitions {
            list.add_partition(topic, number);
        }
        let answer = self.0.committed_offsets(list, Duration::from_secs(2)).ok()?;
        let known = answer.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(next) => Some((element.partition(), next)),
            _ => None,
        });
        Some(known.collect())
    }
}

impl Group {
    /// As [`offsets`](Group::offsets), asked until there is an answer: a broker just started has none yet.
    pub fn offsets_within(&self, topic: &str, partitions: i32, bound: Duration) -> BTreeMap<i32, i64> {
        let deadline = Instant::now() + bound;
        loop {
            if let Some(offsets) = self.offsets(topic, partitions) {
                return offsets;
            }
            assert!(Instant::now() < deadline, "no answer about the group's offsets within {bound:?}");
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(BOUND)).request_timeout(Some(BOUND))
}

/// Waits for a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park_timeout(Duration::from_millis(100));
    }
}
