//! One frame, read by the crate and by the reader that was written from the specification.
//!
//! The input: a byte of [flags](MEND_PAYLOAD), where it lies (2), its first 24 bytes and its payload.

use super::input::Input;
use super::segment::{self, Row};
use super::spec::{self, BLOCK};

/// The frame gets the checksum of its payload that it should have, and that of its header.
pub const MEND_PAYLOAD: u8 = 1;
/// The frame gets the checksum of its header that it should have.
pub const MEND_HEADER: u8 = 2;
/// A valid record follows.
pub const FOLLOWED: u8 = 4;

const ROOM: usize = 16 << 10;

/// Reads the frame that the input describes.
pub fn run(input: &[u8]) {
    run_with(input, |row| row);
}

/// The same with a `reader` between that may spoil what it reads.
pub fn run_with(input: &[u8], reader: impl Fn(Row) -> Row) {
    segment::look(&file(input), reader);
}

/// A segment of nothing else.
fn file(input: &[u8]) -> Vec<u8> {
    let mut input = Input(input);
    let (flags, at) = (input.byte(), BLOCK + input.short() % (ROOM - BLOCK) / 4 * 4);
    let mut bytes = vec![0; ROOM];
    let header = segment::header();
    bytes[..header.len()].copy_from_slice(&header);
    spec::mend_header(&mut bytes);
    let seed = spec::u32_at(&bytes, 12);
    let frame = input.0.get(..input.0.len().min(ROOM - at)).unwrap_or_default();
    bytes[at..at + frame.len()].copy_from_slice(frame);
    let borne = bytes.get(at + 20..at + 24).map(<[u8]>::to_vec);
    let end = (flags & (MEND_PAYLOAD | MEND_HEADER) != 0).then(|| spec::mend_frame(&mut bytes, seed, at)).flatten();
    if let (MEND_HEADER, Some(borne)) = (flags & (MEND_PAYLOAD | MEND_HEADER), borne) {
        // Its payload keeps the checksum that it bears.
        bytes[at + 20..at + 24].copy_from_slice(&borne);
        spec::mend_check(&mut bytes, seed, at);
    }
    let next = segment::frame(1, 0, b"next");
    if let Some(end) = end.filter(|end| flags & FOLLOWED != 0 && end + next.len() <= ROOM) {
        bytes[end..end + next.len()].copy_from_slice(&next);
        spec::mend_frame(&mut bytes, seed, end);
    }
    bytes
}

/// The seeds, by name.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let with = |flags: u8, at: u16, frame: Vec<u8>| [&[flags][..], &at.to_le_bytes(), &frame].concat();
    let huge = || {
        let mut frame = segment::frame(1, 0, b"lies");
        frame[4..8].copy_from_slice(&0x1fff_ffff_u32.to_le_bytes());
        frame
    };
    vec![
        ("empty", vec![]),
        ("record", with(MEND_PAYLOAD, 0, segment::frame(1, 0, b"hello"))),
        ("followed", with(MEND_PAYLOAD | FOLLOWED, 0, segment::frame(1, 0, b"hello"))),
        ("checkpoint", with(MEND_PAYLOAD, 40, segment::frame(2, 0, b""))),
        ("open", with(MEND_PAYLOAD | FOLLOWED, 0, segment::frame(1, 1, b"first"))),
        ("last", with(MEND_PAYLOAD, (ROOM - BLOCK) as u16 - 28, segment::frame(1, 0, b"last"))),
        ("spoiled", with(MEND_HEADER | FOLLOWED, 0, segment::frame(1, 0, b"hello"))),
        ("bare", with(0, 0, segment::frame(1, 0, b"hello"))),
        ("newer", with(MEND_PAYLOAD | FOLLOWED, 0, segment::frame(6, 0, b"what"))),
        ("no-kind", with(MEND_PAYLOAD, 0, segment::frame(0, 0, b"what"))),
        ("huge-length", with(MEND_HEADER, 0, huge())),
        ("cursor", with(MEND_PAYLOAD, 0, segment::frame(4, 0, b"\x09\0\0\0\0\0\0\0\x01x"))),
    ]
}
