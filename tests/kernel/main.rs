//! Real kernels: small file systems in images, full, cut off from power, and over a device that refuses.
//!
//! Needs root, loop devices and mkfs, and strace; where one is missing a line `cannot: ..` says what was not tried, and
//! with `SEAWALL_MUST_MOUNT=1`, or for strace `SEAWALL_MUST_TRACE=1`, that fails.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod full_disk;
mod mounted;
mod power_cut;
#[allow(dead_code, clippy::cast_possible_truncation, reason = "shared with the tests of the receiver")]
#[path = "../common/random.rs"]
mod random;
mod refusing;
mod synced;
