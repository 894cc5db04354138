//! The mock cluster of librdkafka, without the three seconds that it lets a new group wait.

use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer as _};

/// One broker, which lives as long as this.
pub struct Cluster {
    owner: BaseProducer,
}

impl Cluster {
    pub fn new(topic: &str, partitions: i32) -> Cluster {
        let owner: BaseProducer = ClientConfig::new().set("test.mock.num.brokers", "1").create().unwrap();
        // SAFETY: the client is alive and has a mock cluster, by its setting.
        unsafe {
            let cluster = rd::rd_kafka_handle_mock_cluster(owner.client().native_ptr());
            rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 200);
        }
        let cluster = Cluster { owner };
        cluster.mock().create_topic(topic, partitions, 1).unwrap();
        cluster
    }

    /// Has a topic be missing whoever asks for it: the mock makes topics by itself now and then.
    pub fn without(self, topic: &str) -> Cluster {
        self.mock().topic_error(topic, rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
        self
    }

    pub fn mock(&self) -> MockCluster<'_, DefaultProducerContext> {
        let client: &Client<DefaultProducerContext> = self.owner.client();
        client.mock_cluster().unwrap()
    }

    pub fn brokers(&self) -> String {
        self.mock().bootstrap_servers()
    }
}
