//! Everything that can go wrong, a test or more for each row of the table of threats, named for the row.
//!
//! Rows are numbered by what they are about: 1 to 8 power and processes that die, 9 to 12 the disk's answers,
//! 13 to 21 rot and hands, 22 to 32 processes, threads and bounds. Rows 25 and 31 (followers, copies of a live
//! log) come with what they are about.
#![cfg(feature = "sim")]
#![allow(
    missing_docs,
    unsafe_code,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod bounds;
mod common;
mod disk;
mod flips;
mod hands;
mod power;
mod processes;
mod rot;
mod spec;
mod stale;
mod threads;
