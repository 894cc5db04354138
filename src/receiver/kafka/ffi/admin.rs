//! Questions about topics and groups, which librdkafka answers on a queue of their own.

use std::ffi::c_int;
use std::time::Duration;
use std::{ptr, slice};

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_admin_op_t as Op;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;

use super::{Client, Owned, c_string, check_code, error, millis, no_memory, poll_reply};
use crate::receiver::source::SourceError;

pub(super) type Options = Owned<rd::rd_kafka_AdminOptions_t>;

impl Client {
    /// The topic's id; `None` while there is no such topic. Brokers that give no ids give zeros.
    pub(in super::super) fn topic_id(&self, topic: &str, timeout: Duration) -> Result<Option<[u8; 16]>, SourceError> {
        let what = format!("asking for the id of topic {topic}");
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout, &what)?;
        self.choose_broker(&options, timeout, &what)?;
        let queue = self.reply_queue()?;
        let topic = c_string(topic)?;
        let mut names = [topic.as_ptr()];
        // SAFETY: one name, which is copied; the collection is freed by its owner.
        let topics = unsafe { rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
        let topics = Owned::new(topics, rd::rd_kafka_TopicCollection_destroy).ok_or_else(no_memory)?;
        // SAFETY: all alive; the collection is copied; the answer goes to the queue.
        unsafe { rd::rd_kafka_DescribeTopics(self.rk(), topics.as_ptr(), options.as_ptr(), queue.as_ptr()) };
        // Whom to ask is found out anew after an answer that did not come.
        let broker = self.asked_broker.take();
        let event = poll_reply(&queue, timeout, &what)?;
        // SAFETY: the event is alive, and everything read here is part of it.
        unsafe {
            check_code(rd::rd_kafka_event_error(event.as_ptr()), &what)?;
            self.asked_broker.set(broker);
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeTopics_result(event.as_ptr());
            if result.is_null() {
                return Err(error(Code::RD_KAFKA_RESP_ERR__FAIL, &what));
            }
            let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            if topics.is_null() || count == 0 {
                return Ok(None);
            }
            match code_of(rd::rd_kafka_TopicDescription_error(*topics)) {
                Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => Ok(None),
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let id = rd::rd_kafka_TopicDescription_topic_id(*topics);
                    let high = rd::rd_kafka_Uuid_most_significant_bits(id);
                    let low = rd::rd_kafka_Uuid_least_significant_bits(id);
                    Ok(Some(uuid(high, low)))
                }
                code => Err(error(code, &what)),
            }
        }
    }

    /// How many members the group has.
    pub(in super::super) fn members(&self, group: &str, timeout: Duration) -> Result<usize, SourceError> {
        let what = format!("asking for the members of group {group}");
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, timeout, &what)?;
        let queue = self.reply_queue()?;
        let group = c_string(group)?;
        let mut names = [group.as_ptr()];
        let (names, count) = (names.as_mut_ptr(), names.len());
        // SAFETY: all alive; the name is copied; the answer goes to the queue.
        unsafe { rd::rd_kafka_DescribeConsumerGroups(self.rk(), names, count, options.as_ptr(), queue.as_ptr()) };
        let event = poll_reply(&queue, timeout, &what)?;
        // SAFETY: the event is alive, and everything read here is part of it.
        unsafe {
            check_code(rd::rd_kafka_event_error(event.as_ptr()), &what)?;
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event.as_ptr());
            if result.is_null() {
                return Err(error(Code::RD_KAFKA_RESP_ERR__FAIL, &what));
            }
            let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
            if groups.is_null() || count == 0 {
                return Ok(0);
            }
            check_code(code_of(rd::rd_kafka_ConsumerGroupDescription_error(*groups)), &what)?;
            Ok(rd::rd_kafka_ConsumerGroupDescription_member_count(*groups))
        }
    }

    /// Has the question asked of a broker that there is. librdkafka asks the controller, and waits for it without
    /// an end where the cluster names one that is none of its brokers, as librdkafka's mock cluster does.
    fn choose_broker(&self, options: &Options, timeout: Duration, what: &str) -> Result<(), SourceError> {
        let broker = match self.asked_broker.get() {
            Some(broker) => broker,
            None => {
                let brokers = self.brokers(timeout, what)?;
                // SAFETY: the handle is alive; nothing is waited for.
                let controller = unsafe { rd::rd_kafka_controllerid(self.rk(), 0) };
                let broker = if brokers.contains(&controller) { None } else { brokers.first().copied() };
                self.asked_broker.set(Some(broker));
                broker
            }
        };
        let Some(broker) = broker else { return Ok(()) };
        // SAFETY: the options are alive; no buffer is given for a message.
        let code = unsafe { rd::rd_kafka_AdminOptions_set_broker(options.as_ptr(), broker, ptr::null_mut(), 0) };
        check_code(code, what)
    }

    /// The brokers of the cluster.
    fn brokers(&self, timeout: Duration, what: &str) -> Result<Vec<i32>, SourceError> {
        let mut metadata = ptr::null();
        // SAFETY: the handle is alive; no topic is asked for; what comes back is ours to free.
        let code = unsafe { rd::rd_kafka_metadata(self.rk(), 0, ptr::null_mut(), &mut metadata, millis(timeout)) };
        check_code(code, what)?;
        // SAFETY: not null after success; `brokers` holds `broker_cnt` of them, or is null for none.
        unsafe {
            let count = usize::try_from((*metadata).broker_cnt).unwrap_or(0);
            let brokers = match count {
                0 => Vec::new(),
                count => slice::from_raw_parts((*metadata).brokers, count).iter().map(|broker| broker.id).collect(),
            };
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(brokers)
        }
    }

    pub(super) fn options(&self, op: Op, timeout: Duration, what: &str) -> Result<Options, SourceError> {
        // SAFETY: the handle is alive; the options are freed by their owner.
        let options = unsafe { rd::rd_kafka_AdminOptions_new(self.rk(), op) };
        let options = Owned::new(options, rd::rd_kafka_AdminOptions_destroy).ok_or_else(no_memory)?;
        let timeout: c_int = millis(timeout).max(1);
        // SAFETY: the options are alive; no buffer is given for a message.
        let code =
            unsafe { rd::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), timeout, ptr::null_mut(), 0) };
        check_code(code, what)?;
        Ok(options)
    }
}

/// The code of an error that belongs to an event; none for null.
///
/// # Safety
/// `error` is null or alive.
unsafe fn code_of(error: *const rd::rd_kafka_error_t) -> Code {
    if error.is_null() {
        return Code::RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    // SAFETY: not null, and alive by the caller's word.
    unsafe { rd::rd_kafka_error_code(error) }
}

/// The sixteen bytes of an id in the order of their usual notation.
fn uuid(high: i64, low: i64) -> [u8; 16] {
    let bits = u128::from(high.cast_unsigned()) << 64 | u128::from(low.cast_unsigned());
    std::array::from_fn(|i| u8::try_from(bits >> (120 - 8 * i) & 0xff).unwrap_or(0))
}
