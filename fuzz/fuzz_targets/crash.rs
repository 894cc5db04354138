//! Calls, crashes and faults that the input describes, against the model of the crash tests; see `tests/corpus/crash.rs`.
//!
//! ```text
//! cargo +nightly fuzz run crash fuzz/corpus/crash fuzz/seeds/crash -- -malloc_limit_mb=16 -max_len=512
//! ```
//!
//! What it finds goes into `fuzz/seeds/crash`, where `tests/corpus.rs` replays it on a stable compiler.
#![no_main]

#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::crash::run(input));
