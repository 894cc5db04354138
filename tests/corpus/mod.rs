//! What the fuzz targets do with an input, one module each. Shared by `fuzz/fuzz_targets` and `tests/corpus.rs`.
#![allow(dead_code)]

#[path = "../common/allocations.rs"]
mod allocations;
mod appended;
pub mod crash;
pub mod frame;
mod input;
#[path = "../crash/machine.rs"]
mod machine;
#[path = "../crash/model.rs"]
mod model;
#[path = "../common/random.rs"]
mod random;
pub mod readers;
pub mod receiver;
pub mod recover;
pub mod repair;
pub mod salvage;
#[path = "../common/second.rs"]
mod second;
pub mod segment;
#[path = "../common/spec.rs"]
mod spec;
