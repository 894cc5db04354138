//! Everything that can go wrong, a test or more for each row of the table of threats, named for the row.
//!
//! | row | threat |
//! |---|---|
//! | 1 | a torn last frame |
//! | 2 | a hole with later writes beyond it |
//! | 3 | lengths that survive without data, data without lengths |
//! | 4 | names that do not survive |
//! | 5 | a crash at any step, in recovery too |
//! | 6 | what was shown after a kill, then a power cut |
//! | 7 | a power cut with `Durability::Os` |
//! | 8 | a sync that fails |
//! | 9 | writes, reads and directories that fail, come short, are interrupted |
//! | 10 | a full disk |
//! | 11 | no directory, no permission, no descriptor |
//! | 12 | a slow disk |
//! | 13 | any bit flipped |
//! | 14 | lengths that lie |
//! | 15 | damage that a later frame knows to be durable |
//! | 16 | damage to the last acknowledged frame |
//! | 17 | frames of other lives, other logs, inside payloads |
//! | 18 | files removed, cut, grown, swapped |
//! | 19 | foreign files in the directory |
//! | 20 | a newer version's files |
//! | 21 | files cut or recycled under a map |
//! | 22 | two writers |
//! | 23 | a reader beside a writer |
//! | 24 | panics, dropped waits, closing beside everything |
//! | 25 | a follower that is overtaken (`tests/follow.rs`) |
//! | 26 | records of no bytes, and of the most there may be |
//! | 27 | LSNs and batch times at their ends |
//! | 28 | cleaning everything, and beside everything |
//! | 29 | a child of `fork` that has copies of the descriptors |
//! | 30 | thousands of openings |
//! | 31 | a log copied while it is written |
//! | 32 | noise, zeros and stale frames beyond the tail |
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

#[path = "../common/allocations.rs"]
#[allow(dead_code)]
mod allocations;
mod bounds;
mod common;
mod copies;
mod disk;
mod flips;
mod hands;
#[path = "../common/live.rs"]
mod live;
mod openings;
mod power;
mod processes;
mod rot;
#[path = "../common/spec.rs"]
#[allow(dead_code)]
mod spec;
mod stale;
#[path = "../common/stops.rs"]
mod stops;
mod threads;
