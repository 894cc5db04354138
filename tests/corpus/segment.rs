//! One segment file without its log, read by the crate and by the reader that was written from the specification.
//!
//! The input: a byte of [flags](MEND_HEADER), a byte for how many harms, each an offset (2) and what to flip there, the
//! header if the flags say so, and what follows the first block.

use seawall::ErrorKind;
use seawall::check::{Item, Verify, frames, frames_on};
use seawall::sim::Disk;
use seawall::{Kind, Options, Record};

use super::input::{self, Input, bounded};
use super::spec::{self, BLOCK, Frame};

/// The header gets the checksum that it should have.
pub const MEND_HEADER: u8 = 1;
/// Each frame gets the checksums that it should have, from the first on, as far as lengths lead.
pub const MEND_FRAMES: u8 = 2;
/// The file is as long as the header says, or 64 KiB.
pub const FILL: u8 = 4;
/// The first frame is a sound link of a log's first segment.
pub const LINK: u8 = 8;
/// The input brings a header, 72 bytes of it.
pub const HEADER: u8 = 16;

const BASE: u64 = 65536;
/// Bytes of a file at most.
const LARGEST: usize = 64 << 10;
/// How many times the file's bytes a reader may hold. A hole of 4 bytes becomes a fault with two strings.
const MULTIPLE: usize = 16;

/// A record: LSN, kind as in the frame, batch time, whether it ends its batch, payload.
pub type Row = (u64, u32, u64, bool, Vec<u8>);

/// What a reader is to give.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    base: u64,
    /// Records up to the first bad place, in whole batches.
    whole: Vec<Row>,
    /// And those of the batch that it lies in.
    open: Vec<Row>,
    /// The first bad place, and the end of the last whole batch.
    bad: u64,
    end: u64,
    /// Nothing that is valid lies beyond, nor is claimed to.
    last: bool,
    /// A frame of a newer version lies somewhere.
    too_new: bool,
    /// The first frame is a link.
    linked: bool,
}

/// Reads the file that the input describes.
pub fn run(input: &[u8]) {
    run_with(input, |row| row);
}

/// The same with a `reader` between that may spoil what it reads.
pub fn run_with(input: &[u8], reader: impl Fn(Row) -> Row) {
    look(&file(input), reader);
}

/// Reads a file.
pub fn look(bytes: &[u8], reader: impl Fn(Row) -> Row) {
    let expected = expected(bytes);
    alone(bytes, expected.as_ref(), reader);
    in_a_directory(bytes, expected.as_ref());
}

/// The file.
fn file(input: &[u8]) -> Vec<u8> {
    let mut input = Input(input);
    let flags = input.byte();
    let harms: Vec<_> = (0..input.byte() % 16).map(|_| (input.short(), input.byte())).collect();
    let mut bytes = vec![0; BLOCK];
    let header = if flags & HEADER != 0 { input.bytes(72) } else { header() };
    bytes[..72].copy_from_slice(&header);
    if flags & LINK != 0 {
        bytes.extend(frame(3, 0, &link()));
    }
    let body = input.0.get(..input.0.len().min(LARGEST - BLOCK - 128)).unwrap_or_default();
    bytes.extend_from_slice(body);
    if flags & FILL != 0 {
        let capacity = usize::try_from(spec::u64_at(&bytes, 56)).unwrap_or(LARGEST);
        bytes.resize(capacity.clamp(bytes.len(), LARGEST), 0);
    }
    if flags & MEND_HEADER != 0 {
        spec::mend_header(&mut bytes);
    }
    if flags & MEND_FRAMES != 0 {
        let seed = spec::u32_at(&bytes, 12);
        let mut at = Some(BLOCK);
        while let Some(offset) = at {
            at = spec::mend_frame(&mut bytes, seed, offset);
        }
    }
    for (offset, bits) in harms {
        if let Some(byte) = bytes.get_mut(offset) {
            *byte ^= bits;
        }
    }
    bytes
}

/// A header as it is, but for its checksum.
pub fn header() -> Vec<u8> {
    header_of(BASE, 3)
}

/// The header of the segment at `base` of a log, under a salt that repeats a byte.
pub fn header_of(base: u64, salt: u8) -> Vec<u8> {
    let mut header = b"\x89SEAW\r\n\x1a\x01\0\x48\0\0\0\0\0".to_vec();
    header.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    header.extend_from_slice(&[7; 16]);
    header.extend_from_slice(&base.to_le_bytes());
    header.extend_from_slice(&(16_u64 << 10).to_le_bytes());
    header.extend_from_slice(&[salt; 8]);
    header
}

/// The payload of a first segment's link.
fn link() -> Vec<u8> {
    let numbers = [u64::MAX, 0, 0, 0, u64::MAX, 0, BASE, 0, 0, 0];
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// A frame but for its checksums. `more`: its batch goes on.
pub fn frame(kind: u32, more: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&(payload.len() as u32 | kind << 28 | more << 31).to_le_bytes());
    frame.extend_from_slice(&9_u64.to_le_bytes());
    frame.extend_from_slice(&[255; 4]);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame.resize(frame.len().next_multiple_of(4), 0);
    frame
}

/// A record as the crate gives it.
fn row(record: &Record) -> Row {
    let kind = if record.kind == Kind::Checkpoint { 2 } else { 1 };
    (record.lsn.0, kind, record.batch_time.0, record.ends_batch, record.payload.to_vec())
}

fn row_of(base: u64, frame: &Frame) -> Row {
    (base + frame.at as u64, frame.kind, frame.batch_time, !frame.more, frame.payload.clone())
}

/// What the specification says of the file; `None` if it is no segment of version 1.
fn expected(bytes: &[u8]) -> Option<Expected> {
    if !spec::is_header(bytes) {
        return None;
    }
    let capacity = usize::try_from(spec::u64_at(bytes, 56)).unwrap_or(usize::MAX);
    let bytes = bytes.get(..capacity.min(bytes.len()))?;
    if bytes.len() < BLOCK {
        return None;
    }
    let segment = spec::segment(bytes)?;
    let (base, seed) = (segment.base, segment.seed);
    let known = segment.frames.iter().take_while(|frame| frame.kind <= 5);
    let (mut whole, mut open, mut end, mut bad, mut claim) = (Vec::new(), Vec::new(), base + BLOCK as u64, BLOCK, 0);
    for frame in known {
        open.extend(matches!(frame.kind, 1 | 2).then(|| row_of(base, frame)));
        claim = frame.claim.max(claim);
        bad = frame.end();
        if !frame.more {
            whole.append(&mut open);
            end = base + bad as u64;
        }
    }
    let beyond = |at: usize| spec::frame(bytes, base, seed, at);
    let beyond: Vec<_> = (bad..bytes.len()).step_by(4).filter_map(beyond).collect();
    let linked = segment.frames.first().is_some_and(|frame| spec::is_link(frame, base));
    let too_new = beyond.iter().any(|frame| frame.kind > 5);
    let bad = base + bad as u64;
    let last = beyond.is_empty() && claim <= bad;
    Some(Expected { base, whole, open, bad, end, last, too_new, linked })
}

/// On its own: what lies before the first bad place is there, and what is there is in the file.
fn alone(bytes: &[u8], expected: Option<&Expected>, reader: impl Fn(Row) -> Row) {
    let file = input::file("00000000000000065536.", bytes);
    let path = file.path();
    let report = bounded(bytes.len(), MULTIPLE, || Verify::new().threads(1).run(path));
    let (items, error) = bounded(bytes.len(), MULTIPLE, || match frames(path) {
        Err(e) => (Vec::new(), Some(e)),
        Ok(frames) => {
            let (mut items, mut error) = (Vec::new(), None);
            for item in frames {
                match item {
                    Ok(item) => items.push(item),
                    Err(e) => error = Some(e),
                }
            }
            (items, error)
        }
    });
    let found: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::Record(record) => Some(reader(row(record))),
            _ => None,
        })
        .collect();
    let damaged = items.iter().any(|item| matches!(item, Item::Damage(_)));
    let Some(expected) = expected else {
        lies_in(&found, bytes);
        return;
    };
    if let Some(e) = error {
        assert!(expected.too_new && *e.kind() == ErrorKind::TooNew, "{e}");
        return;
    }
    let before: Vec<_> = found.iter().filter(|record| record.0 < expected.bad).cloned().collect();
    let (whole, open) = before.split_at(expected.whole.len().min(before.len()));
    assert_eq!(whole, expected.whole, "of whole batches");
    assert!(open.is_empty() || open == expected.open, "{open:?} of the open batch, not {:?}", expected.open);
    lies_in(&found, bytes);
    match report {
        Ok(report) => {
            assert!(!damaged || !report.is_clean(), "damage that verify does not see");
            assert!(report.records >= expected.whole.len() as u64, "{report}");
            if expected.last && expected.linked && expected.end == expected.bad {
                assert_eq!(report.records, expected.whole.len() as u64, "{report}");
                assert_eq!(report.end.0, expected.end, "{report}");
            }
        }
        Err(e) => assert!(expected.too_new && *e.kind() == ErrorKind::TooNew, "{e}"),
    }
}

/// Whatever is said of a file: its records are bytes of it, in the order in which they lie.
fn lies_in(rows: &[Row], bytes: &[u8]) {
    let bases = [BASE, bytes.get(48..56).map_or(0, |bytes| spec::u64_at(bytes, 0))];
    let mut last = None;
    for (lsn, .., payload) in rows {
        assert!(last < Some(lsn), "{lsn} after {last:?}");
        last = Some(lsn);
        let at = |base: u64| usize::try_from(lsn.checked_sub(base)?).ok();
        let there = |base| bytes.get(at(base)?.checked_add(24)?..)?.starts_with(payload).then_some(());
        assert!(bases.into_iter().any(|base| there(base).is_some()), "{lsn}: not in the file");
    }
}

/// As a log of one segment: what readers see of it is what the specification says.
fn in_a_directory(bytes: &[u8], expected: Option<&Expected>) {
    let disk = Disk::new(1);
    let base = expected.map_or(BASE, |expected| expected.base);
    disk.put(&format!("{base:020}.wal"), bytes);
    bounded(bytes.len(), MULTIPLE, || _ = Verify::new().threads(1).run_on(disk.mount()));
    bounded(bytes.len(), MULTIPLE, || {
        _ = frames_on(disk.mount()).map(|frames| frames.take_while(Result::is_ok).count());
    });
    bounded(bytes.len(), MULTIPLE, || {
        let Ok(view) = Options::new().open_read_only_on(disk.mount()) else { return };
        let rows: Vec<_> =
            view.read(..).into_iter().flatten().map_while(Result::ok).map(|record| row(&record)).collect();
        match expected {
            Some(expected) => {
                let mut all = expected.whole.iter();
                rows.iter().for_each(|row| assert!(all.any(|whole| whole == row), "{row:?} is shown"));
            }
            None => lies_in(&rows, bytes),
        }
    });
}

/// The seeds, by name.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let good = MEND_HEADER | MEND_FRAMES | LINK;
    let records = || [frame(1, 0, b"hello"), frame(2, 0, b"point"), frame(1, 0, b"")].concat();
    let batch = || [frame(1, 1, b"first"), frame(1, 1, b"second"), frame(1, 0, b"third")].concat();
    let with =
        |flags: u8, harms: &[u8], body: Vec<u8>| [vec![flags, (harms.len() / 3) as u8], harms.to_vec(), body].concat();
    let claims = |behind: u32| {
        let mut frame = frame(1, 0, b"claims");
        frame[16..20].copy_from_slice(&behind.to_le_bytes());
        [records(), frame].concat()
    };
    let headed = |flags: u8, change: fn(&mut [u8])| {
        let mut header = header();
        change(&mut header);
        [&[flags | HEADER, 0][..], &header, &records()].concat()
    };
    vec![
        ("empty", vec![]),
        ("records", with(good, &[], records())),
        ("filled", with(good | FILL, &[], [records(), batch()].concat())),
        ("no-link", with(good & !LINK, &[], [records(), batch()].concat())),
        ("bare", with(0, &[], records())),
        ("torn-batch", with(good, &[], batch().into_iter().take(60).collect())),
        ("open-batch", with(good, &[], [records(), frame(1, 1, b"first")].concat())),
        ("harmed", with(good | FILL, &[0x80, 0x10, 1], [records(), batch()].concat())),
        ("harmed-batch", with(good, &[0x10, 0x11, 4, 0xec, 0x10, 4], [records(), batch(), records()].concat())),
        ("harmed-header", with(good, &[40, 0, 1], records())),
        (
            "cursor-and-gap",
            with(good, &[], [frame(4, 0, b"\x09\0\0\0\0\0\0\0\x01x"), frame(5, 0, &[0; 40]), records()].concat()),
        ),
        ("too-new", with(good, &[], [records(), frame(6, 0, b"what"), records()].concat())),
        ("kind-zero", with(good, &[], [records(), frame(0, 0, b"what"), records()].concat())),
        (
            "huge-length",
            with(good, &[], {
                let mut last = frame(1, 0, b"lies");
                last[4..8].copy_from_slice(&0x1fff_ffff_u32.to_le_bytes());
                [records(), last].concat()
            }),
        ),
        ("claims-all", with(good, &[], claims(0))),
        ("claims-too-much", with(good, &[], claims(0x00ff_0000))),
        ("another-capacity", headed(good | FILL, |header| header[57] = 0x80)),
        ("largest-capacity", headed(good, |header| header[56..64].copy_from_slice(&(1_u64 << 30).to_le_bytes()))),
        ("last-base", headed(good, |header| header[48..56].copy_from_slice(&(u64::MAX - 0x4fff).to_le_bytes()))),
        ("new-version", headed(good, |header| header[8] = 2)),
        ("new-feature", headed(good, |header| header[16] = 1)),
        ("long-header", headed(good, |header| header[10] = 80)),
        ("frame-in-payload", with(good, &[0x6c, 0x10, 1], frame(1, 0, &records()))),
    ]
}
