//! Reads a lone segment file that the input describes, and holds it against the specification; see `tests/corpus/segment.rs`.
//!
//! ```text
//! cargo +nightly fuzz run segment fuzz/corpus/segment fuzz/seeds/segment -- -malloc_limit_mb=16 -max_len=2048
//! ```
//!
//! What it finds goes into `fuzz/seeds/segment`, where `tests/corpus.rs` replays it on a stable compiler.
#![no_main]

#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::segment::run(input));
