//! Where a partition begins and ends, asked of its leader.
//!
//! `rd_kafka_query_watermark_offsets` is not used: it asks twice, forgets the first answer's error when the second
//! answer is good, and then gives the end for the beginning, as if everything had been deleted. That was seen when a
//! broker came back from SIGKILL.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_OffsetSpec_t as Spec;
use rdkafka::bindings::rd_kafka_admin_op_t as Op;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;

use super::{Client, List, check_code, check_error, error, poll_reply};
use crate::receiver::source::{Partition, SourceError};

/// How long to wait before the same question is asked again.
const AGAIN: Duration = Duration::from_millis(50);

impl Client {
    /// The first offset left and the one after the last that can be read. While the partition's leader is not known,
    /// it is asked again, for as long as `timeout`.
    pub(in super::super) fn bounds(&self, place: &Partition, timeout: Duration) -> Result<(i64, i64), SourceError> {
        let deadline = Instant::now() + timeout;
        let low = self.offset(place, Spec::RD_KAFKA_OFFSET_SPEC_EARLIEST, deadline)?;
        let high = self.offset(place, Spec::RD_KAFKA_OFFSET_SPEC_LATEST, deadline)?;
        Ok((low, high))
    }

    fn offset(&self, place: &Partition, spec: Spec, deadline: Instant) -> Result<i64, SourceError> {
        let what = format!("asking for the bounds of {place}");
        loop {
            match self.ask_offset(place, spec, deadline.saturating_duration_since(Instant::now()), &what)? {
                Ok(offset) if offset >= 0 => return Ok(offset),
                Ok(_) => return Err(error(Code::RD_KAFKA_RESP_ERR__NO_OFFSET, &what)),
                Err(code) if is_passing(code) && Instant::now() + AGAIN < deadline => thread::sleep(AGAIN),
                Err(code) => return Err(error(code, &what)),
            }
        }
    }

    /// One question; the inner result is the partition's own.
    fn ask_offset(
        &self,
        place: &Partition,
        spec: Spec,
        timeout: Duration,
        what: &str,
    ) -> Result<Result<i64, Code>, SourceError> {
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout, what)?;
        let level = rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED;
        // SAFETY: the options are alive.
        check_error(unsafe { rd::rd_kafka_AdminOptions_set_isolation_level(options.as_ptr(), level) }, what)?;
        let list = List::new(1)?;
        list.add(&place.topic, place.number, Some((spec as i64, "")))?;
        let queue = self.reply_queue()?;
        // SAFETY: all alive; the list is copied; the answer goes to the queue.
        unsafe { rd::rd_kafka_ListOffsets(self.rk(), list.as_ptr(), options.as_ptr(), queue.as_ptr()) };
        let event = poll_reply(&queue, timeout, what)?;
        // SAFETY: the event is alive, and everything read here is part of it.
        unsafe {
            let code = rd::rd_kafka_event_error(event.as_ptr());
            if is_passing(code) {
                return Ok(Err(code));
            }
            check_code(code, what)?;
            let mut count = 0;
            let result = rd::rd_kafka_event_ListOffsets_result(event.as_ptr());
            if result.is_null() {
                return Err(error(Code::RD_KAFKA_RESP_ERR__FAIL, what));
            }
            let infos = rd::rd_kafka_ListOffsets_result_infos(result, &mut count);
            if infos.is_null() || count == 0 {
                return Err(error(Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, what));
            }
            let row = rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos);
            match (*row).err {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(Ok((*row).offset)),
                code => Ok(Err(code)),
            }
        }
    }
}

/// Whether the same question may be answered a little later: leaders are being elected or looked up.
fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
            | Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
            | Code::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE
            | Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR
            | Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH
            | Code::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH
            | Code::RD_KAFKA_RESP_ERR__TRANSPORT
            | Code::RD_KAFKA_RESP_ERR__WAIT_CACHE
    )
}
