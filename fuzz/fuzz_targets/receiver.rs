//! Decodes the payload of a receiver's entry, and encodes it again; see `tests/corpus/receiver.rs`.
//!
//! ```text
//! cargo +nightly fuzz run receiver fuzz/corpus/receiver fuzz/seeds/receiver -- -malloc_limit_mb=16 -max_len=1024
//! ```
//!
//! What it finds goes into `fuzz/seeds/receiver`, where `tests/corpus.rs` replays it on a stable compiler.
#![no_main]

#[path = "../../tests/corpus/mod.rs"]
mod corpus;

libfuzzer_sys::fuzz_target!(|input: &[u8]| corpus::receiver::run(input));
