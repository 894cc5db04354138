//! How to reach a Kafka cluster, and the client's settings.

use std::time::Duration;

use super::KafkaSource;
use super::ffi::Client;
use crate::receiver::source::SourceError;

/// What keeps offsets from being committed or chosen behind the log's back, or doubted without a cause; nobody may
/// change it.
const FIXED: [(&str, &str, &str); 4] = [
    ("enable.auto.commit", "false", "offsets are committed when their records are durable, and not before"),
    ("enable.auto.offset.store", "false", "offsets are committed when their records are durable, and not before"),
    ("auto.offset.reset", "error", "the receiver decides where to start; its own reset option says how"),
    (
        "isolation.level",
        "read_committed",
        "the end of a partition hangs on it, and the log's next offset is held to that",
    ),
];

/// The time-out of a session.
const SESSION: (&str, &str) = ("session.timeout.ms", "10000");

/// What is set unless the caller sets it.
const DEFAULTS: [(&str, &str); 8] = [
    ("allow.auto.create.topics", "false"),
    ("check.crcs", "true"),
    ("client.id", "seawall"),
    ("enable.partition.eof", "true"),
    ("fetch.queue.backoff.ms", "1"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    SESSION,
    ("topic.metadata.refresh.interval.ms", "5000"),
];

/// Settings that are the broker's business under `group.protocol=consumer`.
const CLASSIC_ONLY: [&str; 2] = ["partition.assignment.strategy", SESSION.0];

/// How long a topic's name may be.
const LONGEST_NAME: usize = 249;

/// Whether a topic can have this name. librdkafka takes others too, and one that begins with `^` for a pattern.
fn is_name(topic: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_NAME).contains(&topic.len()) && topic.bytes().all(is_legal) && !matches!(topic, "." | "..")
}

/// Where the records come from: brokers, group, topics, and librdkafka's settings.
///
/// ```no_run
/// use seawall::receiver::KafkaConfig;
///
/// let source = KafkaConfig::new("localhost:9092", "billing").topic("orders").set("client.rack", "a")?.connect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a configuration does nothing until `connect` is called"]
pub struct KafkaConfig {
    brokers: String,
    group: String,
    topics: Vec<String>,
    settings: Vec<(String, String)>,
}

impl KafkaConfig {
    /// Brokers as `host:port`, separated by commas, and the group to be a member of.
    pub fn new(brokers: impl Into<String>, group: impl Into<String>) -> KafkaConfig {
        KafkaConfig { brokers: brokers.into(), group: group.into(), topics: Vec::new(), settings: Vec::new() }
    }

    /// Adds a topic to receive, by its name; whether that can be one is told by [`connect`](KafkaConfig::connect).
    pub fn topic(mut self, topic: impl Into<String>) -> KafkaConfig {
        self.topics.push(topic.into());
        self
    }

    /// Sets one of librdkafka's settings, over the default of this crate or of librdkafka.
    ///
    /// # Errors
    /// For a setting that this crate relies on, or that is given elsewhere. Whether librdkafka knows the
    /// setting is told by [`connect`](KafkaConfig::connect).
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<KafkaConfig, SourceError> {
        let (key, value) = (key.into(), value.into());
        let refused = |why: &str| {
            let message = format!("the setting {key} cannot be changed: {why}");
            Err(SourceError::new("_INVALID_ARG", message, true))
        };
        if let Some((_, fixed, why)) = FIXED.iter().find(|(name, _, _)| *name == key) {
            return if *fixed == value { Ok(self) } else { refused(&format!("it is {fixed}, because {why}")) };
        }
        match key.as_str() {
            "bootstrap.servers" | "metadata.broker.list" => return refused("the brokers are given apart from it"),
            "group.id" => return refused("the group is given apart from it"),
            _ => self.settings.push((key, value)),
        }
        Ok(self)
    }

    /// Makes the client. Brokers are contacted in the background: that none answers is told by
    /// [`Source::poll`](crate::receiver::Source::poll). The group is joined with the first poll, for a member that does not
    /// poll holds the others up: what takes long, such as opening the log, belongs before it.
    ///
    /// # Errors
    /// For a name that no topic can have, and for a setting that librdkafka does not know or take.
    pub fn connect(&self) -> Result<KafkaSource, SourceError> {
        Ok(KafkaSource::new(self.client()?, &self.group, &self.topics))
    }

    fn client(&self) -> Result<Client, SourceError> {
        if self.topics.is_empty() {
            return Err(SourceError::new("_INVALID_ARG", "no topic to receive was given", true));
        }
        if let Some(topic) = self.topics.iter().find(|topic| !is_name(topic)) {
            let message = format!(
                "no topic can have the name {topic:?}: it is 1 to {LONGEST_NAME} of a-z, A-Z, 0-9, '.', '_' and '-', and \
                 neither \".\" nor \"..\""
            );
            return Err(SourceError::new("_INVALID_ARG", message, true));
        }
        Client::open(&self.settings(), self.wants_logs())
    }

    /// Everything that librdkafka is given, in the order in which it is set.
    fn settings(&self) -> Vec<(String, String)> {
        let consumer_protocol = self.settings.iter().any(|(k, v)| k == "group.protocol" && v == "consumer");
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let defaults = DEFAULTS.iter().filter(|(key, _)| !consumer_protocol || !CLASSIC_ONLY.contains(key));
        let mut all: Vec<_> = defaults.copied().map(owned).collect();
        all.push(owned(("bootstrap.servers", &self.brokers)));
        all.push(owned(("group.id", &self.group)));
        all.extend(self.settings.iter().cloned());
        all.extend(FIXED.iter().map(|(key, value, _)| owned((key, value))));
        all
    }

    /// How long the group waits for a member that is silent, as far as it is set here.
    pub fn session_timeout(&self) -> Duration {
        let settings = self.settings();
        let values = settings.iter().rev().filter(|(key, _)| key == SESSION.0).map(|(_, value)| value);
        let mut millis = values.map(String::as_str).chain([SESSION.1]).filter_map(|value| value.parse().ok());
        millis.next().map_or(Duration::ZERO, Duration::from_millis)
    }

    /// librdkafka's own lines are wanted once they are asked for; what matters comes as events anyway.
    fn wants_logs(&self) -> bool {
        self.settings.iter().any(|(key, _)| key == "debug" || key == "log_level")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig::new("localhost:1", "group").topic("topic")
    }

    #[test]
    fn settings_that_the_log_relies_on_cannot_be_changed() {
        for (key, value) in [
            ("enable.auto.commit", "true"),
            ("enable.auto.offset.store", "true"),
            ("auto.offset.reset", "latest"),
            ("isolation.level", "read_uncommitted"),
        ] {
            let error = config().set(key, value).unwrap_err();
            assert!(error.message.contains(key) && error.message.contains("cannot be changed"), "{error}");
        }
        assert!(config().set("enable.auto.commit", "false").is_ok(), "saying what is so anyway does no harm");
    }

    #[test]
    fn what_the_caller_sets_comes_after_the_defaults_and_before_what_is_fixed() {
        let settings = config().set("session.timeout.ms", "6000").unwrap().settings();
        let value = |key: &str| settings.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        assert_eq!(value("session.timeout.ms").as_deref(), Some("6000"));
        assert_eq!(value("auto.offset.reset").as_deref(), Some("error"));
        assert_eq!(value("isolation.level").as_deref(), Some("read_committed"));
        assert_eq!(value("check.crcs").as_deref(), Some("true"));
    }

    #[test]
    fn the_new_group_protocol_is_not_given_settings_of_the_old_one() {
        let settings = config().set("group.protocol", "consumer").unwrap().settings();
        assert!(!settings.iter().any(|(k, _)| CLASSIC_ONLY.contains(&k.as_str())));
        assert!(config().set("group.protocol", "consumer").unwrap().connect().is_ok());
    }

    #[test]
    fn a_setting_that_librdkafka_does_not_know_is_named() {
        let error = config().set("no.such.setting", "1").unwrap().connect().unwrap_err();
        assert!(error.message.contains("no.such.setting"), "{error}");
        let error = config().set("session.timeout.ms", "soon").unwrap().connect().unwrap_err();
        assert!(error.message.contains("session.timeout.ms=soon"), "{error}");
    }

    #[test]
    fn a_topic_is_needed() {
        assert!(KafkaConfig::new("localhost:1", "group").connect().is_err());
    }

    #[test]
    fn a_name_that_no_topic_can_have_is_refused_and_no_pattern() {
        let (longest, longer) = ("x".repeat(249), "x".repeat(250));
        for topic in ["a", "A.b_c-9", "...", "__consumer_offsets", &longest] {
            assert!(KafkaConfig::new("localhost:1", "group").topic(topic).connect().is_ok(), "{topic}");
        }
        for topic in ["", ".", "..", "^a", "a b", "a/b", "a*", "ä", "a\0", "a\n", &longer] {
            let config = config().topic(topic);
            let error = config.connect().unwrap_err();
            assert_eq!((&*error.code, error.fatal), ("_INVALID_ARG", true), "{error}");
            assert!(error.message.starts_with(&format!("no topic can have the name {topic:?}: ")), "{error}");
        }
    }

    #[test]
    fn the_session_time_out_is_the_last_one_set_or_the_default() {
        let of = |config: KafkaConfig| config.session_timeout().as_millis();
        assert_eq!(of(config()), 10_000);
        let set = config().set("session.timeout.ms", "6000").unwrap();
        assert_eq!(of(set.clone().set("session.timeout.ms", "7000").unwrap()), 7000);
        assert_eq!(of(set.set("group.protocol", "consumer").unwrap()), 6000);
        assert_eq!(of(config().set("group.protocol", "consumer").unwrap()), 10_000);
    }
}
