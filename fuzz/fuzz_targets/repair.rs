//! Repairs a directory that the input describes; see `tests/corpus/repair.rs`.
//!
//! ```text
//! cargo +nightly fuzz run repair fuzz/corpus/repair fuzz/seeds/repair -- -malloc_limit_mb=16 -max_len=1024
//! ```
//!
//! What it finds goes into `fuzz/seeds/repair`, where `tests/corpus.rs` replays it on a stable compiler.
#![no_main]

#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::repair::run(input));
