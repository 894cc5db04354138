//! Opens, reads, appends to and opens again a directory that the input describes; see `tests/corpus/recover.rs`.
//!
//! ```text
//! cargo +nightly fuzz run recover fuzz/corpus/recover fuzz/seeds/recover -- -malloc_limit_mb=16 -max_len=1024
//! ```
//!
//! What it finds goes into `fuzz/seeds/recover`, where `tests/corpus.rs` replays it on a stable compiler.
#![no_main]

#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::recover::run(input));
