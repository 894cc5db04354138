//! Segments written by hand, and what is found in them.

use super::*;
use crate::storage::{Fs, Storage};

/// Blocks of zeros are passed over at once, and not what begins in their last bytes.
#[test]
fn a_frame_behind_zeros_of_any_length_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = Fs::new(dir.path()).create("segment").unwrap();
    let place = Place { base: 1 << 20, seed: 0, limit: 6 * u64::from(BLOCK) };
    file.set_len(place.limit).unwrap();
    for offset in (BLOCK..4 * BLOCK).step_by(4) {
        // Its check is 0 as well, and is the seed's that it tells.
        let mut frame = FrameHeader::unclaimed(FrameKind::Record, 0, 0, sum(b"")).encode(0, offset);
        frame[..4].fill(0);
        let place = Place { seed: FrameHeader::seed_xor_offset(&frame) ^ offset, ..place };
        file.write_at(&frame, offset.into()).unwrap();
        for from in [BLOCK, BLOCK + 4, 2 * BLOCK - 4, offset].into_iter().filter(|from| *from <= offset) {
            let mut chunk = Chunk::default();
            let mut window = Window::new(&*file, place.limit, &mut chunk);
            let found = next_frame(&mut window, &place, from.into(), Bugs::default()).unwrap();
            assert_eq!(found.map(|(found, _)| found), Some(offset.into()), "from {from}");
        }
        file.write_at(&[0; FRAME as usize], offset.into()).unwrap();
    }
}

const BASE: u64 = 1 << 20;
const SEED: u32 = 7;
const FIRST: u64 = BLOCK as u64;

/// A segment of batches: for each frame whether its batch goes on and how long its payload is. They claim nothing.
struct Written {
    _dir: tempfile::TempDir,
    file: Box<dyn File>,
    place: Place,
    /// Where each frame begins, and the last one ends.
    offsets: Vec<u64>,
}

impl Written {
    fn new(frames: &[(bool, usize)]) -> Written {
        let dir = tempfile::tempdir().unwrap();
        let file = Fs::new(dir.path()).create("segment").unwrap();
        let place = Place { base: BASE, seed: SEED, limit: 3 * FIRST };
        file.set_len(place.limit).unwrap();
        let mut written = Written { _dir: dir, file, place, offsets: vec![FIRST] };
        for (more, length) in frames {
            let at = *written.offsets.last().unwrap();
            written.put(at, *more, BASE + at - 4, *length);
            written.offsets.push(at + frame_size(*length as u64));
        }
        written
    }

    fn put(&self, at: u64, more: bool, durable: u64, length: usize) {
        let payload = vec![0xab; length];
        let length = u32::try_from(length).unwrap();
        let header = FrameHeader::new(FrameKind::Record, more, length, 3, sum(&payload), BASE + at, durable);
        self.file.write_at(&header.encode(SEED, u32::try_from(at).unwrap()), at).unwrap();
        self.file.write_at(&payload, at + u64::from(FRAME)).unwrap();
    }

    /// Flips bits of the byte at `at`.
    fn flip(&self, at: u64) {
        let mut byte = [0];
        read_full(&*self.file, &mut byte, at).unwrap();
        self.file.write_at(&[byte[0] ^ 0xff], at).unwrap();
    }

    fn bad(&self, at: u64) -> Bad {
        let mut chunk = Chunk::default();
        bad(&mut Window::new(&*self.file, self.place.limit, &mut chunk), &self.place, at).unwrap()
    }

    fn damage(&self, at: u64) -> (u64, u64, Option<u64>) {
        let (damage, _) = damage_at(&*self.file, &self.place, "segment", at).unwrap();
        (damage.before, damage.behind, damage.next.map(|lsn| lsn.0 - BASE))
    }
}

#[test]
fn whole_batches_end_a_scan() {
    let written = Written::new(&[(false, 8), (true, 8), (false, 8), (true, 8)]);
    let scan = scan(&*written.file, &written.place, Bugs::default()).unwrap();
    assert_eq!((scan.frames, scan.end, scan.bad), (4, written.offsets[3], written.offsets[4]));
    assert_eq!((scan.whole.records, scan.spoiled, scan.too_new), (3, false, false));
    let none = Written::new(&[]);
    let scan = super::scan(&*none.file, &none.place, Bugs::default()).unwrap();
    assert_eq!((scan.frames, scan.end, scan.bad), (0, FIRST, FIRST));
}

#[test]
fn a_frame_ends_where_the_segment_does() {
    let mut written = Written::new(&[(false, 100)]);
    let end = written.offsets[1];
    for (limit, holds) in [(end, true), (end - 4, false), (FIRST + u64::from(FRAME), false), (FIRST + 20, false)] {
        written.place.limit = limit;
        let scan = scan(&*written.file, &written.place, Bugs::default()).unwrap();
        assert_eq!(scan.frames, u64::from(holds), "up to {limit}");
        // Bytes of a file that go beyond are none of the segment's, in memory neither.
        let mut bytes = vec![0; usize::try_from(end).unwrap()];
        read_full(&*written.file, &mut bytes, 0).unwrap();
        let header = frame_at(&mut &*bytes, &written.place, FIRST, Bugs::default()).unwrap();
        assert_eq!(header.is_some(), holds, "up to {limit}");
    }
}

#[test]
fn a_spoiled_frame_has_its_header_and_its_length() {
    let mut written = Written::new(&[(false, 100)]);
    let end = written.offsets[1];
    written.flip(FIRST + u64::from(FRAME) + 50);
    for (limit, spoiled) in [(3 * FIRST, true), (end, true), (end - 4, false)] {
        written.place.limit = limit;
        let scan = scan(&*written.file, &written.place, Bugs::default()).unwrap();
        assert_eq!((scan.frames, scan.spoiled), (0, spoiled), "up to {limit}");
    }
    written.place.limit = 3 * FIRST;
    written.file.set_len(end - 4).unwrap();
    assert!(!scan(&*written.file, &written.place, Bugs::default()).unwrap().spoiled, "its end is cut off");
}

#[test]
fn what_lies_ahead_is_counted_with_its_claims() {
    let written = Written::new(&[(false, 8), (false, 40), (false, 8)]);
    written.flip(FIRST);
    let ahead = look_ahead(&*written.file, &written.place, FIRST + 4, Bugs::default()).unwrap();
    assert_eq!((ahead.frames, ahead.claim), (2, BASE + written.offsets[2] - 4));
    let ahead = look_ahead(&*written.file, &written.place, FIRST + 1, Bugs::default()).unwrap();
    assert_eq!(ahead.frames, 2, "an odd offset is rounded up");
    assert_eq!(look_ahead(&*written.file, &written.place, 0, Bugs::default()).unwrap().frames, 2);
}

#[test]
fn a_bad_place_is_told_in_words() {
    let mut written = Written::new(&[(false, 8), (false, 8), (false, 9)]);
    let [_, second, third, end] = written.offsets[..] else { panic!() };
    assert_eq!(written.bad(end).zeros, written.place.limit - end);
    written.flip(second);
    let bad = written.bad(second);
    assert!(bad.found.starts_with("frame header with checksum ") && bad.found.ends_with(", length 8"), "{}", bad.found);
    // Its segment ends where it does, or a byte of it is beyond.
    for (limit, ends) in [(third, true), (third - 4, false)] {
        written.place.limit = limit;
        assert_eq!(written.bad(second).found.ends_with(", length 8"), ends, "{}", written.bad(second).found);
    }
    for room in [0, 8, 20] {
        written.place.limit = second + room;
        let expected = match room {
            0 => format!("the segment ends at byte {second}"),
            _ => format!("the segment ends at byte {}, {room} bytes further, less than a frame", second + room),
        };
        assert_eq!(written.bad(second).found, expected);
    }
    written.place.limit = second + 24;
    assert!(written.bad(second).found.starts_with("frame header"), "{}", written.bad(second).found);
    written.place.limit = third + 4096;
    written.file.set_len(third).unwrap();
    assert_eq!(written.bad(third).found, format!("the file ends at byte {third}"));
}

#[test]
fn a_header_is_put_right_where_the_segment_goes_on() {
    let mut written = Written::new(&[(false, 8), (true, 8), (false, 9)]);
    let [_, second, third, end] = written.offsets[..] else { panic!() };
    written.flip(second + 9);
    assert!(written.bad(second).mended.is_some_and(|header| header.more && header.length == 8));
    written.flip(third + 9);
    assert!(written.bad(second).mended.is_none(), "nothing valid follows");
    assert!(written.bad(third).mended.is_none(), "nor here");
    written.place.limit = end;
    assert!(written.bad(third).mended.is_some(), "the segment ends with it");
    // Two bytes are wrong.
    written.flip(third + 10);
    assert!(written.bad(third).mended.is_none());
}

#[test]
fn records_of_a_batch_that_is_cut_are_counted() {
    let frames = [(false, 8), (true, 8), (true, 12), (true, 8), (false, 12), (false, 8)];
    let at = |written: &Written, index: usize| written.offsets[index];
    // The payload: its header tells that the batch goes on.
    for (index, before, behind) in [(0, 0, 0), (1, 0, 3), (2, 1, 2), (3, 2, 1), (4, 3, 0), (5, 0, 0)] {
        let written = Written::new(&frames);
        written.flip(at(&written, index) + u64::from(FRAME));
        let next = (index < 5).then(|| at(&written, index + 1));
        assert_eq!(written.damage(at(&written, index)), (before, behind, next), "frame {index}");
    }
    // Of two headers: nothing tells of a batch but what claims that all before it was durable.
    for (durable, behind) in [(0, 2), (4, 0)] {
        let written = Written::new(&frames);
        for index in [1, 2] {
            written.flip(at(&written, index) + 9);
            written.flip(at(&written, index) + 10);
        }
        let third = at(&written, 3);
        written.put(third, true, BASE + third - 4 + durable, 8);
        assert_eq!(written.damage(at(&written, 1)), (0, behind, Some(third)), "durable {durable}");
        // From within the bad place on nothing is known to be before it, though it goes on there.
        assert_eq!(written.damage(at(&written, 2)).0, 0);
    }
}
