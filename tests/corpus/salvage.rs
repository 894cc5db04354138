//! The raw image of a disk on which a log's segments lie in pieces, some of them broken, and what salvage finds in it.
//!
//! The input makes the segments: how many, and for each a salt, how many frames, and of each its kind and length. Then
//! it is a program: one byte for a step, then its operands; what is missing at the end reads as 0.

use seawall::check::{Salvage, SalvagedLog};
use seawall::{Kind, Record};

use super::input::{self, Input, bounded_by};
use super::random::Random;
use super::segment::{frame, header_of};
use super::spec::{self, BLOCK, Frame};

/// The steps of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// A segment, its block, how many blocks, where: blocks of a segment are in the image.
    Place,
    /// Where (2, in fours), length, bytes: something else is there.
    Noise,
    /// Where (2), what to flip.
    Flip,
}

const ALL: [Step; 3] = [Step::Place, Step::Noise, Step::Flip];

const CAPACITY: usize = 16 << 10;
/// Bytes of an image before the first piece. No frame lies where its offset says, which salvage takes for a file.
const BEFORE: usize = CAPACITY;
/// Blocks of an image beyond.
const BLOCKS: usize = 24;
const STEPS: usize = 64;
/// Its memory: a table of seeds, what is read at once; and for each byte of the image.
const BOUND: usize = 3 << 20;
const MULTIPLE: usize = 4;

/// A segment that was cut in pieces.
struct Segment {
    base: u64,
    bytes: Vec<u8>,
    frames: Vec<Frame>,
}

/// Where a part of a segment was put.
struct Piece {
    segment: usize,
    from: usize,
    to: usize,
    at: usize,
}

struct Image {
    segments: Vec<Segment>,
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
}

/// A record, and whether the log that it is of is known by its id.
pub type Found = (bool, Record);

/// Salvages the image that the input describes.
pub fn run(input: &[u8]) {
    run_with(input, |found| found);
}

/// The same with a hand in what is `found`.
pub fn run_with(input: &[u8], found: impl Fn(Vec<Found>) -> Vec<Found>) {
    let image = Image::new(&mut Input(input));
    let file = input::file("image", &image.bytes);
    let records = bounded_by(BOUND + MULTIPLE * image.bytes.len(), || {
        let salvaged = Salvage::new().run(&[file.path()]).expect("a file can be read");
        let read = |log: &SalvagedLog| {
            let records = salvaged.records(log).map(|record| record.expect("what was found is there"));
            records.map(|record| (log.log_id.is_some(), record)).collect::<Vec<_>>()
        };
        salvaged.logs().iter().flat_map(read).collect::<Vec<_>>()
    });
    image.check(&found(records));
}

impl Image {
    fn new(input: &mut Input<'_>) -> Image {
        let segments = segments(input);
        let start = usize::from(input.byte() % 8) * 512;
        let (mut bytes, mut pieces) = (vec![0; BEFORE + start], Vec::new());
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            match ALL.get(usize::from(input.byte()) % ALL.len()) {
                Some(Step::Place) => {
                    let number = usize::from(input.byte()) % segments.len();
                    let Some(segment) = segments.get(number) else { continue };
                    let from = (usize::from(input.byte()) * BLOCK).min(segment.bytes.len());
                    let to = (from + usize::from(input.byte()) * BLOCK).min(segment.bytes.len());
                    let at = BEFORE + start + usize::from(input.byte()) % BLOCKS * BLOCK;
                    let piece = segment.bytes.get(from..to).unwrap_or_default();
                    put(&mut bytes, at, piece);
                    pieces.push(Piece { segment: number, from, to, at });
                }
                Some(Step::Noise) => {
                    let (at, length) = (input.short() * 4, usize::from(input.byte()));
                    put(&mut bytes, at % (BEFORE + BLOCKS * BLOCK), &input.bytes(length));
                }
                _ => {
                    let (at, bits) = (input.short(), input.byte());
                    if let Some(byte) = bytes.get_mut(BEFORE + at) {
                        *byte ^= bits;
                    }
                }
            }
        }
        Image { segments, pieces, bytes }
    }

    /// Whether the bytes of a segment are in the image where a piece put them.
    fn holds(&self, piece: &Piece, from: usize, to: usize) -> bool {
        let within = piece.from <= from && to <= piece.to;
        let at = (piece.at + from).wrapping_sub(piece.from);
        let wanted = self.segments.get(piece.segment).and_then(|segment| segment.bytes.get(from..to));
        within && wanted.is_some() && self.bytes.get(at..at + (to - from)) == wanted
    }

    fn check(&self, found: &[Found]) {
        for (named, record) in found {
            let all = self.segments.iter().flat_map(|segment| segment.frames.iter().map(move |frame| (segment, frame)));
            // Without a header nothing tells where in its log it lies.
            let made = |(segment, frame): (&Segment, &Frame)| {
                (segment.base + frame.at as u64 == record.lsn.0 || !named) && is(record, frame)
            };
            assert!(all.into_iter().any(made), "nobody made {record:?}");
        }
        for (number, segment) in self.segments.iter().enumerate() {
            let of_it = || self.pieces.iter().filter(|piece| piece.segment == number);
            if !of_it().any(|piece| self.holds(piece, 0, 72)) {
                continue;
            }
            for frame in segment.frames.iter().filter(|frame| matches!(frame.kind, 1 | 2)) {
                let (from, to) = (frame.at, frame.at + 24 + frame.length);
                let lsn = segment.base + frame.at as u64;
                let there = of_it().any(|piece| self.holds(piece, from, to));
                let count = found.iter().filter(|(_, record)| record.lsn.0 == lsn && is(record, frame)).count();
                assert!(count == 1 || !there && count == 0, "LSN {lsn}: whole: {there}, found {count} times");
            }
        }
    }
}

fn is(record: &Record, frame: &Frame) -> bool {
    record.payload == frame.payload[..]
        && record.batch_time.0 == frame.batch_time
        && record.ends_batch != frame.more
        && (record.kind == Kind::Checkpoint) == (frame.kind == 2)
}

/// Writes over what is there, and beyond it.
fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The segments of a log, each with its link, and filled as the input says.
fn segments(input: &mut Input<'_>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut count = 0_u32;
    for number in 0..1 + u64::from(input.byte() % 3) {
        let base = (number + 1) * 65536;
        let mut bytes = header_of(base, input.byte());
        let seed = spec::mend_header(&mut bytes);
        bytes.resize(BLOCK, 0);
        bytes.extend(frame(3, 0, &link(segments.last())));
        for _ in 0..input.byte() % 24 {
            let (kind, length) = (input.byte(), input.short() % 6000);
            count += 1;
            // No two blocks are alike: else a frame might be whole with its end in another's place, and salvage takes
            // frames that do not go on in the segment as they do in the image for an unknown segment's.
            let payload = Random::new(u64::from(count)).bytes(length as u64);
            let kinds = [1, 1, 1, 2, 4, 5];
            let frame = frame(kinds[usize::from(kind) % kinds.len()], u32::from(kind >> 7), &payload);
            if bytes.len() + frame.len() > CAPACITY {
                break;
            }
            bytes.extend(frame);
        }
        let mut at = Some(BLOCK);
        while let Some(offset) = at {
            at = spec::mend_frame(&mut bytes, seed, offset);
        }
        let frames = spec::segment(&bytes).expect("its header is sound").frames;
        bytes.resize(CAPACITY, 0);
        segments.push(Segment { base, bytes, frames });
    }
    segments
}

/// A link to the segment before, if there is one.
fn link(before: Option<&Segment>) -> Vec<u8> {
    let records = |segment: &Segment| segment.frames.iter().filter(|frame| matches!(frame.kind, 1 | 2)).count() as u64;
    let numbers = match before {
        None => [u64::MAX, 0, 0, 0, u64::MAX, 0, 65536, 0, 0, 0],
        Some(segment) => {
            let end = segment.base + segment.frames.last().map_or(BLOCK, Frame::end) as u64;
            let seed = u64::from(spec::u32_at(&segment.bytes, 12));
            let (times, records) = (if records(segment) > 0 { (9, 9) } else { (u64::MAX, 0) }, records(segment));
            [segment.base, end, seed, records, times.0, times.1, 65536, 0, records, 0]
        }
    };
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// The seeds, by name.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let frames = |salt: u8, lengths: &[(u8, u16)]| {
        let of = |(kind, length): &(u8, u16)| [&[*kind][..], &length.to_le_bytes()].concat();
        [vec![salt, lengths.len() as u8], lengths.iter().flat_map(of).collect()].concat()
    };
    let one =
        || [vec![0], frames(7, &[(0, 100), (3, 2000), (128, 300), (0, 0), (1, 5000), (5, 64), (2, 2500)])].concat();
    let three = || {
        let small = |salt: u8| frames(salt, &[(0, 1000); 11]);
        [vec![2], small(1), small(2), small(3)].concat()
    };
    let place = |segment: u8, from: u8, count: u8, at: u8| vec![Step::Place as u8, segment, from, count, at];
    let noise = |at: u16, bytes: &[u8]| {
        [&[Step::Noise as u8][..], &(at / 4).to_le_bytes(), &[bytes.len() as u8], bytes].concat()
    };
    let flip = |at: u16, bits: u8| [&[Step::Flip as u8][..], &at.to_le_bytes(), &[bits]].concat();
    let whole = |start: u8, segments: Vec<u8>, steps: &[Vec<u8>]| [segments, vec![start], steps.concat()].concat();
    vec![
        ("empty", vec![]),
        ("whole", whole(0, one(), &[place(0, 0, 4, 0)])),
        ("at-a-sector", whole(3, one(), &[place(0, 0, 4, 1)])),
        ("in-pieces", whole(0, one(), &[place(0, 2, 2, 0), place(0, 0, 1, 5), place(0, 1, 1, 9)])),
        ("without-header", whole(0, one(), &[place(0, 1, 3, 2)])),
        ("header-last", whole(1, one(), &[place(0, 1, 3, 2), place(0, 0, 1, 9)])),
        ("three", whole(0, three(), &[place(0, 0, 4, 0), place(1, 0, 4, 4), place(2, 0, 4, 8)])),
        (
            "three-shuffled",
            whole(
                0,
                three(),
                &[
                    place(2, 1, 2, 0),
                    place(0, 0, 4, 2),
                    place(1, 2, 2, 7),
                    place(1, 0, 2, 12),
                    place(2, 0, 1, 15),
                    place(2, 3, 1, 17),
                ],
            ),
        ),
        ("three-without-two-headers", whole(0, three(), &[place(0, 1, 3, 0), place(1, 1, 3, 4), place(2, 0, 4, 8)])),
        ("twice", whole(0, one(), &[place(0, 0, 4, 0), place(0, 0, 4, 6)])),
        ("written-over", whole(0, three(), &[place(0, 0, 4, 0), place(1, 0, 4, 2), noise(20000, &[0x55; 200])])),
        ("flipped", whole(0, one(), &[place(0, 0, 4, 0), flip(4300, 1), flip(9000, 4)])),
        ("flipped-header", whole(0, one(), &[place(0, 0, 4, 0), flip(50, 1)])),
        ("flipped-link", whole(0, three(), &[place(0, 0, 4, 0), place(1, 0, 4, 4), flip(4, 1), flip(20500, 1)])),
    ]
}
