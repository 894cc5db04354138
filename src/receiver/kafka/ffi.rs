//! Owns every call into librdkafka: the client's handle and its queue. What comes out is plain data, or borrowed
//! from an event that is owned here.
//!
//! The client is driven through its event queue and sets no callback, so no Rust code is ever called by C.

mod admin;
mod bounds;
mod event;
mod list;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;

use crate::receiver::source::{Commit, Partition, SourceError};

pub(super) use event::{Current, Failure, FailureKind, Polled};
pub(super) use list::{List, Row};

/// A C object with the function that frees it.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    /// Takes `object` over, which `free` will free; `None` if it is null.
    fn new(object: *mut T, free: unsafe extern "C" fn(*mut T)) -> Option<Owned<T>> {
        NonNull::new(object).map(|object| Owned(object, free))
    }

    fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the object was given with the function that frees it, and is freed only here.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// A consumer that belongs to a group. Dropping it leaves the group and waits for that, without a bound.
pub(super) struct Client {
    rk: NonNull<rd::rd_kafka_t>,
    // Gone before `rk` is: see `drop`.
    queue: Option<Owned<rd::rd_kafka_queue_t>>,
    // Whom to ask about topics, once known: a broker, or the controller (`None`).
    asked_broker: Cell<Option<Option<i32>>>,
}

// SAFETY: librdkafka's handles and queues may be used from any thread.
unsafe impl Send for Client {}

/// How an assignment changes.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    /// To the list, whatever it was (eager).
    To(&'a List),
    /// To nothing (eager).
    Clear,
    /// The list comes (cooperative).
    Add(&'a List),
    /// The list goes (cooperative).
    Remove(&'a List),
}

impl Client {
    /// Makes a consumer of `settings`; with `logs`, librdkafka writes its own lines to standard error.
    pub(super) fn open(settings: &[(String, String)], logs: bool) -> Result<Client, SourceError> {
        let mut text = [0u8; 512];
        // SAFETY: a new configuration, handed over to `rd_kafka_new` below or freed by its owner.
        let conf = Owned::new(unsafe { rd::rd_kafka_conf_new() }, rd::rd_kafka_conf_destroy).ok_or_else(no_memory)?;
        for (key, value) in settings {
            let (ckey, cvalue) = (c_string(key)?, c_string(value)?);
            // SAFETY: the strings end in a zero and live through the call; `text` has the length given.
            let answer = unsafe {
                let (key, value) = (ckey.as_ptr(), cvalue.as_ptr());
                rd::rd_kafka_conf_set(conf.as_ptr(), key, value, text.as_mut_ptr().cast(), text.len())
            };
            if answer != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                return Err(SourceError::new(
                    "_INVALID_ARG",
                    format!("setting {key}={value}: {}", message(&text)),
                    true,
                ));
            }
        }
        let events = rd::RD_KAFKA_EVENT_FETCH | rd::RD_KAFKA_EVENT_REBALANCE | rd::RD_KAFKA_EVENT_ERROR;
        // SAFETY: the configuration is alive; a null log callback means that nothing is logged.
        unsafe {
            rd::rd_kafka_conf_set_events(conf.as_ptr(), events);
            if !logs {
                rd::rd_kafka_conf_set_log_cb(conf.as_ptr(), None);
            }
        }
        let kind = rd::rd_kafka_type_t::RD_KAFKA_CONSUMER;
        // SAFETY: `text` has the length given; the configuration is taken over if a handle comes back.
        let rk = unsafe { rd::rd_kafka_new(kind, conf.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
        let rk = NonNull::new(rk)
            .ok_or_else(|| SourceError::new("_FAIL", format!("making the Kafka client: {}", message(&text)), true))?;
        // The configuration is the client's now.
        let _ = std::mem::ManuallyDrop::new(conf);
        let mut client = Client { rk, queue: None, asked_broker: Cell::new(None) };
        // SAFETY: the handle is alive. The main queue is joined to the consumer's, which is then the only one.
        let queue = unsafe {
            rd::rd_kafka_poll_set_consumer(client.rk());
            rd::rd_kafka_queue_get_consumer(client.rk())
        };
        client.queue = Owned::new(queue, rd::rd_kafka_queue_destroy);
        Ok(client)
    }

    fn rk(&self) -> *mut rd::rd_kafka_t {
        self.rk.as_ptr()
    }

    fn queue(&self) -> *mut rd::rd_kafka_queue_t {
        self.queue.as_ref().map_or(ptr::null_mut(), Owned::as_ptr)
    }

    /// Joins the group for `topics`.
    pub(super) fn subscribe(&self, topics: &[String]) -> Result<(), SourceError> {
        let list = List::new(topics.len())?;
        for topic in topics {
            list.add(topic, -1, None)?;
        }
        // SAFETY: handle and list are alive; the list is copied.
        check_code(unsafe { rd::rd_kafka_subscribe(self.rk(), list.as_ptr()) }, "subscribing")
    }

    /// Waits for the next event of the client.
    pub(super) fn poll(&self, timeout: Duration) -> Option<Polled> {
        // SAFETY: the queue lives as long as the client.
        let event = unsafe { rd::rd_kafka_queue_poll(self.queue(), millis(timeout)) };
        Some(event::read(Owned::new(event, rd::rd_kafka_event_destroy)?))
    }

    /// Whether rebalances are incremental.
    pub(super) fn is_cooperative(&self) -> bool {
        // SAFETY: the handle is alive; the answer is a static string.
        text(unsafe { rd::rd_kafka_rebalance_protocol(self.rk()) }) == "COOPERATIVE"
    }

    /// Whether the partitions of the revocation under way are another member's already.
    pub(super) fn assignment_lost(&self) -> bool {
        // SAFETY: the handle is alive.
        unsafe { rd::rd_kafka_assignment_lost(self.rk()) != 0 }
    }

    /// Changes the assignment.
    pub(super) fn assign(&self, change: Change<'_>) -> Result<(), SourceError> {
        let rk = self.rk();
        // SAFETY: handle and list are alive; the list is copied; a null list means none.
        unsafe {
            match change {
                Change::To(list) => check_code(rd::rd_kafka_assign(rk, list.as_ptr()), "assigning"),
                Change::Clear => check_code(rd::rd_kafka_assign(rk, ptr::null()), "unassigning"),
                Change::Add(list) => check_error(rd::rd_kafka_incremental_assign(rk, list.as_ptr()), "assigning"),
                Change::Remove(list) => {
                    check_error(rd::rd_kafka_incremental_unassign(rk, list.as_ptr()), "unassigning")
                }
            }
        }
    }

    /// Stops (`true`) or continues the delivery of the list's partitions.
    pub(super) fn pause(&self, list: &List, pause: bool) -> Result<(), SourceError> {
        // SAFETY: handle and list are alive.
        let answer = unsafe {
            match pause {
                true => rd::rd_kafka_pause_partitions(self.rk(), list.as_ptr()),
                false => rd::rd_kafka_resume_partitions(self.rk(), list.as_ptr()),
            }
        };
        check_code(answer, if pause { "pausing" } else { "resuming" })?;
        list.first_error(if pause { "pausing" } else { "resuming" })
    }

    /// Moves the list's partitions to their offsets; which of them refused stands in the list.
    pub(super) fn seek(&self, list: &List, timeout: Duration) -> Result<(), SourceError> {
        // SAFETY: handle and list are alive.
        check_error(unsafe { rd::rd_kafka_seek_partitions(self.rk(), list.as_ptr(), millis(timeout)) }, "seeking")
    }

    /// Fills in the position of each of the list's partitions.
    pub(super) fn position(&self, list: &List) -> Result<(), SourceError> {
        // SAFETY: handle and list are alive.
        check_code(unsafe { rd::rd_kafka_position(self.rk(), list.as_ptr()) }, "asking for the position")
    }

    /// Begins a commit; the answer comes out of [`Client::poll`] with `token`.
    pub(super) fn commit(&self, list: &List, token: usize) -> Result<(), SourceError> {
        self.commit_to(self.queue(), list, token)
    }

    /// Commits and waits for the answer.
    pub(super) fn commit_wait(&self, list: &List, timeout: Duration) -> Result<(), SourceError> {
        let queue = self.reply_queue()?;
        self.commit_to(queue.as_ptr(), list, 0)?;
        match event::read(poll_reply(&queue, timeout, "committing")?) {
            Polled::Committed { result, .. } => result,
            _ => Err(SourceError::new("_FAIL", "committing: an answer of another kind", false)),
        }
    }

    fn commit_to(&self, queue: *mut rd::rd_kafka_queue_t, list: &List, token: usize) -> Result<(), SourceError> {
        let opaque = ptr::without_provenance_mut::<c_void>(token);
        // SAFETY: handle, list and queue are alive; the list is copied; the opaque is a number, never followed.
        check_code(unsafe { rd::rd_kafka_commit_queue(self.rk(), list.as_ptr(), queue, None, opaque) }, "committing")
    }

    /// Fills in what the group has committed for each of the list's partitions.
    pub(super) fn committed(&self, list: &List, timeout: Duration) -> Result<(), SourceError> {
        // SAFETY: handle and list are alive.
        let answer = unsafe { rd::rd_kafka_committed(self.rk(), list.as_ptr(), millis(timeout)) };
        check_code(answer, "asking for committed offsets")?;
        list.first_error("asking for committed offsets")
    }

    /// A queue of our own for one answer.
    fn reply_queue(&self) -> Result<Owned<rd::rd_kafka_queue_t>, SourceError> {
        // SAFETY: the handle is alive; the queue is freed by its owner, and answers that come later are dropped.
        Owned::new(unsafe { rd::rd_kafka_queue_new(self.rk()) }, rd::rd_kafka_queue_destroy).ok_or_else(no_memory)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: closing serves the queue, so that comes first; then the queue goes, and last the handle, once.
        unsafe {
            rd::rd_kafka_consumer_close(self.rk());
            self.queue = None;
            rd::rd_kafka_destroy(self.rk());
        }
    }
}

/// A list of partitions without offsets.
pub(super) fn places<'a>(partitions: impl ExactSizeIterator<Item = &'a Partition>) -> Result<List, SourceError> {
    let list = List::new(partitions.len())?;
    for partition in partitions {
        list.add(&partition.topic, partition.number, None)?;
    }
    Ok(list)
}

/// A list of partitions with offsets.
pub(super) fn positions(positions: &[(Partition, i64)]) -> Result<List, SourceError> {
    let list = List::new(positions.len())?;
    for (partition, offset) in positions {
        list.add(&partition.topic, partition.number, Some((*offset, "")))?;
    }
    Ok(list)
}

/// A list of what is to be committed.
pub(super) fn commits(commits: &[Commit]) -> Result<List, SourceError> {
    let list = List::new(commits.len())?;
    for commit in commits {
        list.add(&commit.partition.topic, commit.partition.number, Some((commit.next, &commit.metadata)))?;
    }
    Ok(list)
}

/// The one event of a reply queue.
fn poll_reply(
    queue: &Owned<rd::rd_kafka_queue_t>,
    timeout: Duration,
    what: &str,
) -> Result<Owned<rd::rd_kafka_event_t>, SourceError> {
    // SAFETY: the queue is alive.
    let event = unsafe { rd::rd_kafka_queue_poll(queue.as_ptr(), millis(timeout)) };
    Owned::new(event, rd::rd_kafka_event_destroy).ok_or_else(|| {
        SourceError::new(
            "_TIMED_OUT",
            format!("{what}: no answer within {} ms, outcome unknown", timeout.as_millis()),
            false,
        )
    })
}

fn check_code(code: Code, what: &str) -> Result<(), SourceError> {
    if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(error(code, what)) }
}

/// Takes an error object over and says what it says.
fn check_error(answer: *mut rd::rd_kafka_error_t, what: &str) -> Result<(), SourceError> {
    let Some(answer) = Owned::new(answer, rd::rd_kafka_error_destroy) else { return Ok(()) };
    // SAFETY: the object is alive; its string too, until it is freed.
    let (code, said, fatal) = unsafe {
        let said = text(rd::rd_kafka_error_string(answer.as_ptr()));
        (rd::rd_kafka_error_code(answer.as_ptr()), said, rd::rd_kafka_error_is_fatal(answer.as_ptr()) != 0)
    };
    Err(SourceError::new(name(code), format!("{what}: {said}{}", advice(code)), fatal))
}

/// What a code means, said about `what`.
fn error(code: Code, what: &str) -> SourceError {
    SourceError::new(name(code), format!("{what}: {}{}", description(code), advice(code)), is_final(code))
}

/// Whether a code, without being said to be fatal, is an answer that will not be another.
fn is_final(code: Code) -> bool {
    matches!(code, Code::RD_KAFKA_RESP_ERR__FATAL | Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)
}

/// What to do about a code, to stand behind what it means.
fn advice(code: Code) -> &'static str {
    match code {
        Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION => "; the broker allows no topic of that name: correct it (--topic)",
        Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID => {
            "; end the other, or give each member one of its own (-X group.instance.id=ID)"
        }
        _ => "",
    }
}

/// The stable name of a code, such as `UNKNOWN_MEMBER_ID`; the client's own begin with an underscore.
fn name(code: Code) -> String {
    // SAFETY: the answer is a static string.
    text(unsafe { rd::rd_kafka_err2name(code) })
}

fn description(code: Code) -> String {
    // SAFETY: the answer is a static string.
    text(unsafe { rd::rd_kafka_err2str(code) })
}

fn no_memory() -> SourceError {
    SourceError::new("_CRIT_SYS_RESOURCE", "the Kafka client has no memory", true)
}

fn c_string(text: &str) -> Result<CString, SourceError> {
    CString::new(text).map_err(|_| SourceError::new("_INVALID_ARG", format!("{text:?} contains a zero byte"), true))
}

/// A copy of a C string that is alive during the call; nothing for null.
fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, and every caller gives a string of librdkafka's that is alive and ends in a zero.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// What librdkafka wrote into a buffer for a message.
fn message(buffer: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(buffer).unwrap_or_default();
    text.to_string_lossy().into_owned()
}

fn millis(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}
