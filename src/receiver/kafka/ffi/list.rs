//! A list of partitions as librdkafka takes and gives it.

use std::ffi::c_int;
use std::{ptr, slice};

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;

use super::{Owned, c_string, error, no_memory, text};
use crate::receiver::source::SourceError;

/// A list that is ours to free.
pub(in super::super) struct List(Owned<rd::rd_kafka_topic_partition_list_t>);

/// One partition of a list, as plain data.
#[derive(Clone, Debug)]
pub(in super::super) struct Row {
    pub(in super::super) topic: String,
    pub(in super::super) partition: i32,
    /// Negative where there is none.
    pub(in super::super) offset: i64,
    pub(in super::super) metadata: String,
    /// What went wrong with this partition.
    pub(in super::super) failed: Option<SourceError>,
}

impl List {
    pub(in super::super) fn new(capacity: usize) -> Result<List, SourceError> {
        let capacity = c_int::try_from(capacity).unwrap_or(c_int::MAX);
        // SAFETY: no preconditions; the list is freed by its owner.
        let list = unsafe { rd::rd_kafka_topic_partition_list_new(capacity) };
        Owned::new(list, rd::rd_kafka_topic_partition_list_destroy).map(List).ok_or_else(no_memory)
    }

    pub(super) fn as_ptr(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    /// Adds a partition, with an offset and the string beside it where there is one.
    pub(in super::super) fn add(
        &self,
        topic: &str,
        partition: i32,
        offset: Option<(i64, &str)>,
    ) -> Result<(), SourceError> {
        let topic = c_string(topic)?;
        // SAFETY: the list is alive and used by this thread alone; the name is copied; the row is the list's and
        // alive until the next change. Its metadata is memory of librdkafka's allocator, which frees it with the row.
        unsafe {
            let row = rd::rd_kafka_topic_partition_list_add(self.as_ptr(), topic.as_ptr(), partition);
            let Some((offset, metadata)) = offset else { return Ok(()) };
            (*row).offset = offset;
            if !metadata.is_empty() {
                let copy = rd::rd_kafka_mem_malloc(ptr::null_mut(), metadata.len());
                if copy.is_null() {
                    return Err(no_memory());
                }
                ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                (*row).metadata = copy;
                (*row).metadata_size = metadata.len();
            }
        }
        Ok(())
    }

    /// Everything in it, copied out.
    pub(in super::super) fn rows(&self) -> Vec<Row> {
        // SAFETY: the list is alive and changed by nobody meanwhile.
        unsafe { read(self.as_ptr()) }
    }

    /// The first partition's error, if any has one.
    pub(super) fn first_error(&self, what: &str) -> Result<(), SourceError> {
        match self.rows().into_iter().find_map(|row| row.failed.map(|e| (e, row.topic, row.partition))) {
            None => Ok(()),
            Some((e, topic, partition)) => {
                Err(SourceError { message: format!("{what} {topic}/{partition}: {}", e.message), ..e })
            }
        }
    }
}

/// Copies a list out.
///
/// # Safety
/// `list` is null, or a list that nobody changes during the call.
pub(super) unsafe fn read(list: *const rd::rd_kafka_topic_partition_list_t) -> Vec<Row> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: not null, and alive by the caller's word; `elems` holds `cnt` rows, and is null for none.
    let rows = unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        slice::from_raw_parts((*list).elems, count)
    };
    rows.iter().map(row).collect()
}

/// Copies a row out.
pub(super) fn row(row: &rd::rd_kafka_topic_partition_t) -> Row {
    let failed = (row.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| error(row.err, "partition"));
    let metadata = match row.metadata.is_null() {
        true => String::new(),
        // SAFETY: not null, and `metadata_size` bytes long.
        false => unsafe {
            let bytes = slice::from_raw_parts(row.metadata.cast::<u8>(), row.metadata_size);
            String::from_utf8_lossy(bytes).into_owned()
        },
    };
    Row { topic: text(row.topic), partition: row.partition, offset: row.offset, metadata, failed }
}
