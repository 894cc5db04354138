//! What the fuzz targets do with an input, one module each. Shared by `fuzz/fuzz_targets` and `tests/corpus.rs`.
#![allow(dead_code)]

#[path = "../common/allocations.rs"]
mod allocations;
mod input;
mod model;
#[path = "../common/random.rs"]
mod random;
pub mod recover;
pub mod repair;
pub mod salvage;
pub mod segment;
#[path = "../common/spec.rs"]
mod spec;
