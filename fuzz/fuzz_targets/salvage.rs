//! Salvages a raw image that the input describes; see `tests/corpus/salvage.rs`.
//!
//! ```text
//! cargo +nightly fuzz run salvage fuzz/corpus/salvage fuzz/seeds/salvage -- -malloc_limit_mb=16 -max_len=512
//! ```
//!
//! What it finds goes into `fuzz/seeds/salvage`, where `tests/corpus.rs` replays it on a stable compiler.
#![no_main]

#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::salvage::run(input));
