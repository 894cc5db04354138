//! What the Kafka tests share: records that can be made again from their number, and a producer of them.
#![allow(dead_code)]

pub mod cluster;
pub mod log;
pub mod produce;
pub mod random;
pub mod receiving;
pub mod records;
