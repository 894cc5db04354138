//! One event of the client's queue: plain data, or a record borrowed from it.

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};
use std::slice;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;

use super::list::{self, Row};
use super::{Owned, advice, description, error, name, text};
use crate::receiver::source::{Message, Partition, SourceError};

/// What came out of the queue.
pub(in super::super) enum Polled {
    /// A record.
    Record(Record),
    /// Partitions to begin with.
    Assigned(Vec<Row>),
    /// Partitions to let go.
    Revoked(Vec<Row>),
    /// The answer to a commit.
    Committed {
        /// What the commit was submitted with.
        token: usize,
        /// What was said.
        result: Result<(), SourceError>,
    },
    /// Something else than a record happened, mostly in a partition.
    Failed(Failure),
    /// Nothing that concerns anybody.
    Nothing,
}

/// An error event.
pub(in super::super) struct Failure {
    pub(in super::super) kind: FailureKind,
    pub(in super::super) error: SourceError,
    /// The partition and the offset it is about.
    pub(in super::super) place: Option<Place>,
}

/// The errors that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum FailureKind {
    /// Not an error: all there is was delivered.
    End,
    /// The position is not in the partition.
    OutOfRange,
    /// The partition's log was cut below the position.
    Truncated,
    /// Anything else.
    Other,
}

/// A partition and an offset in it.
#[derive(Clone, Debug)]
pub(in super::super) struct Place {
    pub(in super::super) topic: String,
    pub(in super::super) partition: i32,
    pub(in super::super) offset: i64,
}

type Event = Owned<rd::rd_kafka_event_t>;

/// Turns an event into what it says.
pub(super) fn read(event: Event) -> Polled {
    // SAFETY: the event is alive; the list is the event's and copied out.
    unsafe {
        match rd::rd_kafka_event_type(event.as_ptr()) {
            rd::RD_KAFKA_EVENT_FETCH => record(event),
            rd::RD_KAFKA_EVENT_REBALANCE => {
                let rows = list::read(rd::rd_kafka_event_topic_partition_list(event.as_ptr()));
                match rd::rd_kafka_event_error(event.as_ptr()) {
                    Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Polled::Assigned(rows),
                    _ => Polled::Revoked(rows),
                }
            }
            rd::RD_KAFKA_EVENT_OFFSET_COMMIT => committed(&event),
            rd::RD_KAFKA_EVENT_ERROR => Polled::Failed(failure(&event)),
            _ => Polled::Nothing,
        }
    }
}

fn committed(event: &Event) -> Polled {
    // SAFETY: the event is alive; the list is the event's and copied out; the opaque is the number we gave.
    let (code, rows, token) = unsafe {
        let rows = list::read(rd::rd_kafka_event_topic_partition_list(event.as_ptr()));
        (rd::rd_kafka_event_error(event.as_ptr()), rows, rd::rd_kafka_event_opaque(event.as_ptr()).addr())
    };
    let failed = rows.into_iter().find_map(|row| row.failed.map(|e| (e, row.topic, row.partition)));
    let result = match (code, failed) {
        (Code::RD_KAFKA_RESP_ERR_NO_ERROR, None) => Ok(()),
        (Code::RD_KAFKA_RESP_ERR_NO_ERROR, Some((e, topic, partition))) => {
            Err(SourceError { message: format!("committing {topic}/{partition}: {}", e.message), ..e })
        }
        (code, _) => Err(error(code, "committing")),
    };
    Polled::Committed { token, result }
}

fn failure(event: &Event) -> Failure {
    // SAFETY: the event is alive, and its strings with it.
    let (code, said, fatal) = unsafe {
        let said = text(rd::rd_kafka_event_error_string(event.as_ptr()));
        (rd::rd_kafka_event_error(event.as_ptr()), said, rd::rd_kafka_event_error_is_fatal(event.as_ptr()) != 0)
    };
    // SAFETY: the event is alive; the row is ours to free, or null.
    let row = unsafe { rd::rd_kafka_event_topic_partition(event.as_ptr()) };
    // SAFETY: the row is alive until its owner goes.
    let place = Owned::new(row, rd::rd_kafka_topic_partition_destroy).map(|row| list::row(unsafe { row.0.as_ref() }));
    let place = place.map(|row| Place { topic: row.topic, partition: row.partition, offset: row.offset });
    let kind = kind(code, &said);
    let message = match &place {
        Some(at) => format!("{}/{} at {}: {said}{}", at.topic, at.partition, at.offset, advice(code)),
        None => said + advice(code),
    };
    Failure { kind, error: SourceError::new(name(code), message, fatal), place }
}

/// What an error means. All that is amiss with a position has one code, without a reset policy of the client's: only
/// the text says why.
fn kind(code: Code, said: &str) -> FailureKind {
    match code {
        Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => FailureKind::End,
        Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => {
            let is_cut = said.contains(&description(Code::RD_KAFKA_RESP_ERR__LOG_TRUNCATION));
            if is_cut { FailureKind::Truncated } else { FailureKind::OutOfRange }
        }
        _ => FailureKind::Other,
    }
}

/// A record, and the event whose memory it lies in.
pub(in super::super) struct Record {
    message: NonNull<rd::rd_kafka_message_t>,
    _event: Event,
}

// SAFETY: the event is owned, and librdkafka's objects may be used from any thread.
unsafe impl Send for Record {}

fn record(event: Event) -> Polled {
    // SAFETY: the event is alive and holds one message, which lives as long as the event.
    let message = unsafe { rd::rd_kafka_event_message_next(event.as_ptr()) };
    match NonNull::new(message.cast_mut()) {
        None => Polled::Nothing,
        Some(message) => Polled::Record(Record { message, _event: event }),
    }
}

impl Record {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: the message lives as long as the event, which is ours.
        unsafe { self.message.as_ref() }
    }

    /// The topic's name and the partition's number.
    pub(in super::super) fn place(&self) -> (&[u8], i32) {
        let raw = self.raw();
        // SAFETY: a message of a consumer has a topic, whose name is a string that lives as long as the client's
        // topic object, on which the message holds a reference.
        let topic = unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(raw.rkt)) };
        (topic.to_bytes(), raw.partition)
    }

    /// Its offset.
    pub(in super::super) fn offset(&self) -> i64 {
        self.raw().offset
    }
}

/// The record last delivered, kept until the next one so that the caller may borrow from it.
#[derive(Default)]
pub(in super::super) struct Current {
    // Borrowed from `record`'s memory, in truth: emptied before that goes, and lent out no longer than `self`.
    headers: Vec<(&'static [u8], Option<&'static [u8]>)>,
    /// Their names while they are read.
    names: Vec<&'static CStr>,
    record: Option<Record>,
}

impl Current {
    /// Lets the record go.
    pub(in super::super) fn clear(&mut self) {
        self.headers.clear();
        self.record = None;
    }

    /// Takes the next record, whose headers are read: an error if they cannot be.
    pub(in super::super) fn set(&mut self, record: Record) -> Result<(), SourceError> {
        self.clear();
        let raw = record.raw();
        if raw.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(error(raw.err, "record"));
        }
        let mut list = ptr::null_mut();
        // SAFETY: the message is alive; the list belongs to it and lives as long.
        let code = unsafe { rd::rd_kafka_message_headers(record.message.as_ptr(), &mut list) };
        match code {
            Code::RD_KAFKA_RESP_ERR__NOENT => {}
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => self.read_headers(list)?,
            code => {
                let message = format!("headers cannot be read: {}", description(code));
                return Err(SourceError::new(name(code), message, true));
            }
        }
        self.record = Some(record);
        Ok(())
    }

    fn read_headers(&mut self, list: *mut rd::rd_kafka_headers_t) -> Result<(), SourceError> {
        for index in 0.. {
            let (mut start, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the list is alive; the name ends in a zero, the value has the size given or is null, and both
            // live as long as the message, which outlives these lists of slices (see the field).
            let (name, bytes) = unsafe {
                let code = rd::rd_kafka_header_get_all(list, index, &mut start, &mut value, &mut size);
                if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    break;
                }
                (CStr::from_ptr(start), bytes(value, size))
            };
            self.names.push(name);
            self.headers.push((name.to_bytes(), bytes));
        }
        self.names.sort_unstable();
        let mut alike = self.names.chunk_by(|a, b| a == b);
        let cut = alike.find(|names| !are_whole(list, names)).and_then(<[_]>::first).map(|name| format!("{name:?}"));
        self.names.clear();
        let Some(name) = cut else { return Ok(()) };
        self.headers.clear();
        let message = format!("the name of a header contains a zero byte, behind which librdkafka cuts it off: {name}");
        Err(SourceError::new("_BAD_MSG", message, true))
    }

    /// The record as the receiver sees it.
    pub(in super::super) fn message<'a>(&'a self, partition: &'a Partition) -> Option<Message<'a>> {
        let record = self.record.as_ref()?;
        let raw = record.raw();
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and key and payload lie in it with the lengths given, or are null.
        let (timestamp, key, value) = unsafe {
            let timestamp = rd::rd_kafka_message_timestamp(record.message.as_ptr(), &mut kind);
            (timestamp, bytes(raw.key, raw.key_len), bytes(raw.payload, raw.len))
        };
        let timestamp_type = match kind {
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => 0,
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => 1,
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => 2,
        };
        let headers = &self.headers;
        Some(Message { partition, offset: raw.offset, timestamp, timestamp_type, key, value, headers })
    }
}

/// Whether the names of headers, which are the same as far as they were given, are whole: a lookup compares lengths too,
/// and finds as many. One lookup walks over all headers, so there is one for each name.
fn are_whole(list: *mut rd::rd_kafka_headers_t, names: &[&CStr]) -> bool {
    let (Some(name), last) = (names.first(), names.len().saturating_sub(1)) else { return true };
    let (mut found, mut size) = (ptr::null(), 0);
    // SAFETY: the list is alive, the name ends in a zero.
    let code = unsafe { rd::rd_kafka_header_get(list, last, name.as_ptr(), &mut found, &mut size) };
    code == Code::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// `size` bytes at `start`; none if it is null.
///
/// # Safety
/// They are alive and unchanged for `'a`.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: not null, and as the caller says.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast(), size) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those that librdkafka 2.12 makes.
    #[test]
    fn a_log_that_was_cut_is_told_from_a_position_that_is_out_of_range() {
        let reset = Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET;
        let cut = "Partition log truncation detected at offset 10 (leader epoch 1): broker end offset is 5 (offset leader \
                   epoch 0). Reset to INVALID.: Local: Partition log truncation detected (broker 1)";
        let no_epoch = "No epoch found less or equal to offset 10 (leader epoch 1): broker end offset is -1 (offset leader \
                        epoch -1). Reset using configured policy.: Local: Partition log truncation detected (broker 1)";
        let outside = "fetch failed due to requested offset not available on the broker: Broker: Offset out of range \
                       (broker 1)";
        assert_eq!(kind(reset, cut), FailureKind::Truncated);
        assert_eq!(kind(reset, no_epoch), FailureKind::Truncated);
        assert_eq!(kind(reset, outside), FailureKind::OutOfRange);
        assert_eq!(kind(Code::RD_KAFKA_RESP_ERR__TRANSPORT, cut), FailureKind::Other);
    }
}
