//! A reader and a follower beside a writer, in the order that the input says; see `tests/corpus/readers.rs`.
//!
//! ```text
//! cargo +nightly fuzz run readers fuzz/corpus/readers fuzz/seeds/readers -- -malloc_limit_mb=16 -max_len=512
//! ```
//!
//! What it finds goes into `fuzz/seeds/readers`, where `tests/corpus.rs` replays it on a stable compiler.
#![no_main]

#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::readers::run(input));
