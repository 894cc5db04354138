//! The Kafka source, and the receiver with it, against the mock cluster of librdkafka: no Java, no network.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::panic)]

mod common;
#[path = "mock/receiver.rs"]
mod receiver;
#[path = "mock/source.rs"]
mod source;
