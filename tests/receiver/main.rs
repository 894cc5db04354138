//! The receiver against a broker in memory: every row of its tables, every step it can die at.
#![cfg(feature = "sim")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs
)]

mod commits;
mod crash;
mod life;
mod pressure;
mod rebalance;
mod start;
mod world;
