//! Reads one frame that the input describes, and holds it against the specification; see `tests/corpus/frame.rs`.
//!
//! ```text
//! cargo +nightly fuzz run frame fuzz/corpus/frame fuzz/seeds/frame -- -malloc_limit_mb=16 -max_len=2048
//! ```
//!
//! What it finds goes into `fuzz/seeds/frame`, where `tests/corpus.rs` replays it on a stable compiler.
#![no_main]

#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::frame::run(input));
