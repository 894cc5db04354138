//! Rows 14, 15, 16 and 20: lengths that lie, damage in the middle and at the end, versions to come.

use seawall::check::{Repair, Verify};
use seawall::sim::{Bug, Disk, Keep};
use seawall::{Durability, ErrorKind, Options};

use crate::allocations::largest_allocation;
use crate::common::{
    Noise, everything, fill, filled, flip, is_damage, kind, payload, payloads, segments, small, with, write_unsynced,
};
use crate::spec::{self, BLOCK, FRAME, Frame};

/// More than opening and reading a log of small records takes at once, in bytes.
const MODEST: usize = 1 << 20;

/// Six acknowledged records and one that nobody was told of, in one segment.
fn seven() -> Disk {
    let disk = Disk::new(14);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..6, 200);
    write_unsynced(&disk, &wal, &[payload(6, 200)]);
    disk.crash(Keep::All);
    disk
}

/// The one segment that holds frames, and what it holds.
fn used(disk: &Disk) -> (String, Vec<u8>, spec::Segment) {
    let name = segments(disk).remove(0);
    let bytes = disk.file(&name).unwrap();
    let segment = spec::segment(&bytes).unwrap();
    (name, bytes, segment)
}

/// Lengths that no frame has, among them one beyond the segment, "negative" ones, and one whose padded size is.
fn lies(frame: &Frame, capacity: usize) -> Vec<u32> {
    let room = (capacity - frame.at - FRAME) as u32;
    let own = frame.length as u32;
    vec![
        0,
        1,
        own - 1,
        own + 1,
        own + 4,
        room - 1,
        room,
        room + 1,
        room + 4,
        1 << 20,
        1 << 27,
        0x0fff_fffc,
        0x0fff_ffff,
    ]
}

#[test]
fn row_14_a_length_is_bounded_before_it_is_used() {
    let disk = seven();
    let (name, bytes, segment) = used(&disk);
    let records = &segment.frames[1..];
    assert_eq!(records.len(), 7);
    for (n, frame) in records.iter().enumerate() {
        for lie in lies(frame, bytes.len()) {
            for mended in [false, true] {
                let hurt = disk.fork();
                let mut bytes = bytes.clone();
                let word = spec::u32_at(&bytes, frame.at + 4) & 0xf000_0000 | lie;
                bytes[frame.at + 4..frame.at + 8].copy_from_slice(&word.to_le_bytes());
                if mended {
                    spec::mend_check(&mut bytes, segment.seed, frame.at);
                }
                hurt.put(&name, &bytes);
                let (opened, largest) = largest_allocation(|| small().open_on(hurt.mount()));
                assert!(largest < MODEST, "record {n} of length {lie}, mended {mended}: {largest} bytes at once");
                if n < 6 {
                    assert!(is_damage(&opened), "record {n} of length {lie}, mended {mended}: {opened:?}");
                } else {
                    assert_eq!(payloads(&opened.unwrap()), filled(0..6, 200));
                }
            }
        }
    }
}

#[test]
fn row_14_lengths_in_proven_segments_are_met_on_reading() {
    let disk = Disk::new(14);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..40, 1000);
    wal.close().unwrap();
    let (name, bytes, segment) = used(&disk);
    let frame = &segment.frames[3];
    for lie in lies(frame, bytes.len()) {
        let hurt = disk.fork();
        let mut bytes = bytes.clone();
        let word = spec::u32_at(&bytes, frame.at + 4) & 0xf000_0000 | lie;
        bytes[frame.at + 4..frame.at + 8].copy_from_slice(&word.to_le_bytes());
        spec::mend_check(&mut bytes, segment.seed, frame.at);
        hurt.put(&name, &bytes);
        let wal = small().open_on(hurt.mount()).unwrap();
        let (read, largest) = largest_allocation(|| wal.read(..).unwrap().collect::<Vec<_>>());
        assert!(largest < MODEST, "length {lie}: {largest} bytes at once");
        assert_eq!(read.len(), 3, "two records, then the damage");
        assert!(is_damage(&read[2]), "{:?}", read[2]);
        let got = wal.get(seawall::Lsn(segment.base + frame.at as u64));
        assert!(is_damage(&got), "{got:?}");
    }
}

#[test]
fn row_14_lengths_and_sizes_in_headers_and_links() {
    let disk = seven();
    let (name, bytes, segment) = used(&disk);
    let mut cases = Vec::new();
    for length in [0_u16, 1, 15, 16, 71, 73, 4096, 4097, u16::MAX] {
        cases.push((10, length.to_le_bytes().to_vec()));
    }
    for size in [0_u64, 1, 4096, (16 << 10) + 1, 1 << 30, (1 << 30) + 4096, 1 << 63, u64::MAX, u64::MAX - 4095] {
        cases.extend((size != segment.base).then(|| (48, size.to_le_bytes().to_vec())));
        cases.push((56, size.to_le_bytes().to_vec()));
    }
    for (at, value) in cases {
        let hurt = disk.fork();
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(&value);
        spec::mend_header(&mut bytes);
        hurt.put(&name, &bytes);
        let (opened, largest) = largest_allocation(|| small().open_on(hurt.mount()));
        assert!(largest < MODEST, "{value:?} at {at}: {largest} bytes at once");
        // With the header the seed has changed, so that none of the frames is valid any more.
        assert!(is_damage(&opened), "{value:?} at {at}: {opened:?}");
    }
    for length in 0..=255_u8 {
        let hurt = disk.fork();
        let mut bytes = bytes.clone();
        let link = BLOCK + FRAME;
        // The link as if it told of a cursor with a name of this length, of which only ten bytes are there.
        bytes[link + 72..link + 80].copy_from_slice(&5000_u64.to_le_bytes());
        bytes[link + 80] = length;
        let payload = link..link + 91;
        let word = spec::u32_at(&bytes, BLOCK + 4) & 0xf000_0000 | payload.len() as u32;
        let sum = crc32fast::hash(&bytes[payload]);
        bytes[BLOCK + 4..BLOCK + 8].copy_from_slice(&word.to_le_bytes());
        bytes[BLOCK + 20..BLOCK + 24].copy_from_slice(&sum.to_le_bytes());
        spec::mend_check(&mut bytes, segment.seed, BLOCK);
        hurt.put(&name, &bytes);
        let opened = small().open_on(hurt.mount());
        assert!(is_damage(&opened), "{length}: {opened:?}");
    }
}

/// The largest allocation in opening a log behind whose tail there is noise that looks like large frames.
fn opens_noise_with(options: &Options) -> usize {
    let disk = seven();
    let (name, mut bytes, segment) = used(&disk);
    let end = segment.frames.last().unwrap().end();
    let mut noise = Noise(14);
    for word in bytes[end..].chunks_exact_mut(4) {
        word.copy_from_slice(&((noise.next() as u32) | 0x1f00_0000).to_le_bytes());
    }
    disk.put(&name, &bytes);
    let (opened, largest) = largest_allocation(|| options.open_on(disk.mount()));
    assert_eq!(payloads(&opened.unwrap()), filled(0..7, 200));
    largest
}

#[test]
fn row_14_catches_a_length_used_before_its_check() {
    let modest = opens_noise_with(&small());
    assert!(modest < MODEST, "{modest} bytes at once");
    let planted = opens_noise_with(&small().plant(Bug::LengthBeforeCheck));
    assert!(planted > 16 << 20, "the check sees nothing: {planted} bytes at once");
}

#[test]
fn row_15_damage_that_a_later_frame_knows_durable_is_no_torn_tail() {
    let disk = Disk::new(15);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..8, 300);
    disk.crash(Keep::All);
    drop(wal);
    // What MARK knows is not needed: the frames know it.
    disk.remove("MARK");
    let (name, _, segment) = used(&disk);
    for frame in &segment.frames[1..8] {
        let hurt = disk.fork();
        flip(&hurt, &name, frame.at + FRAME + 5, 3);
        let before = everything(&hurt);
        let Err(e) = small().open_on(hurt.mount()) else { panic!("opened") };
        let ErrorKind::Damage(damage) = e.kind() else { panic!("{e}") };
        assert_eq!((damage.segment.as_str(), damage.offset), (name.as_str(), frame.at as u64));
        assert_eq!(damage.beyond, segment.frames.iter().filter(|other| other.at > frame.at).count() as u64);
        assert!(damage.durable > damage.lsn);
        assert!(e.to_string().contains(&name), "{e}");
        assert_eq!(everything(&hurt), before, "nothing is touched");
    }
}

#[test]
fn row_15_frames_that_do_not_know_it_prove_nothing() {
    let disk = Disk::new(15);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 300);
    write_unsynced(&disk, &wal, &filled(3..9, 300));
    disk.crash(Keep::All);
    let (name, _, segment) = used(&disk);
    for (n, frame) in segment.frames.iter().enumerate().skip(4) {
        let hurt = disk.fork();
        flip(&hurt, &name, frame.at + FRAME + 5, 3);
        let wal = small().open_on(hurt.mount()).unwrap();
        assert_eq!(payloads(&wal), filled(0..n as u32 - 1, 300));
        assert_eq!(wal.recovery().end.0, segment.base + frame.at as u64);
        // Its header holds, so that it is told although nothing may lie beyond.
        let torn = wal.recovery().torn.map(|torn| (torn.lsn, torn.beyond));
        assert_eq!(torn, Some((wal.recovery().end, 9 - n as u64)));
        // Without it, it is the end: stale bytes of a recycled file look no other.
        let hurt = disk.fork();
        flip(&hurt, &name, frame.at + 1, 3);
        let wal = small().open_on(hurt.mount()).unwrap();
        assert_eq!(wal.recovery().torn.is_some(), n < 9);
    }
}

/// The last record of a segment rots, and the first of the next: only a frame beyond both knows them durable.
fn known_by_another_segment(bug: Option<Bug>) -> bool {
    let disk = Disk::new(15);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..2, 4000);
    // Rotated away from before it is synced: the link above it does not know it durable.
    drop(wal.append(&payload(2, 4000)).unwrap());
    fill(&wal, 3..6, 4000);
    disk.crash(Keep::All);
    drop(wal);
    disk.remove("MARK");
    let names = segments(&disk);
    let frames = |n: usize| spec::segment(&disk.file(&names[n]).unwrap()).unwrap().frames;
    let (lower, upper) = (frames(0), frames(1));
    assert_eq!((lower.len(), upper.len()), (4, 4), "a link and three records each");
    flip(&disk, &names[0], lower[3].at + FRAME, 0);
    flip(&disk, &names[1], upper[1].at + FRAME, 0);
    is_damage(&with(small(), bug).open_on(disk.mount()))
}

#[test]
fn row_15_catches_looking_ahead_in_one_segment_only_and_claims_that_are_not_asked() {
    assert!(known_by_another_segment(None));
    assert!(!known_by_another_segment(Some(Bug::ClaimsNotAsked)), "the check sees nothing");
    assert!(!known_by_another_segment(Some(Bug::LookAheadInOneSegment)), "the check sees nothing");
}

#[test]
fn row_16_the_last_acknowledged_frame_is_damage_when_a_claim_speaks_of_it() {
    for close in [true, false] {
        let disk = Disk::new(16);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..5, 300);
        if close {
            wal.close().unwrap();
            disk.crash(Keep::None);
        } else {
            // An idle moment: MARK was written, and the system got to writing it back.
            disk.crash(Keep::All);
        }
        drop(wal);
        let (name, _, segment) = used(&disk);
        let last = segment.frames.last().unwrap();
        for byte in [last.at, last.at + FRAME, last.at + FRAME + last.length - 1] {
            let hurt = disk.fork();
            flip(&hurt, &name, byte, 7);
            assert!(is_damage(&small().open_on(hurt.mount())), "closed {close}, byte {byte}");
        }
        let hurt = disk.fork();
        let mut bytes = hurt.file(&name).unwrap();
        bytes[last.at..last.end()].fill(0);
        hurt.put(&name, bytes);
        assert!(is_damage(&small().open_on(hurt.mount())), "closed {close}, zeros");
    }
}

/// What opening had written again was durable and shown, and only the next commit said so.
#[test]
fn row_16_what_opening_shows_is_known_durable_from_then_on() {
    let disk = Disk::new(16);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    fill(&wal, 0..5, 300);
    disk.kill();
    drop(wal);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(payloads(&wal), filled(0..5, 300));
    let view = small().open_read_only_on(disk.mount()).unwrap();
    assert_eq!((view.durable_lsn(), view.read(..).unwrap().count()), (wal.durable_lsn(), 5));
    disk.kill();
    drop(wal);
    let (name, _, segment) = used(&disk);
    flip(&disk, &name, segment.frames.last().unwrap().at + FRAME, 7);
    assert!(is_damage(&small().open_on(disk.mount())));
}

#[test]
fn row_16_the_one_unprovable_case_is_as_the_design_states_it() {
    let disk = Disk::new(16);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..5, 300);
    // Rot in the last synced bytes, no later frame, and the power goes before MARK is written back.
    disk.crash(Keep::None);
    drop(wal);
    let (name, _, segment) = used(&disk);
    let last = segment.frames.last().unwrap();
    assert_eq!(last.payload, payload(4, 300));
    flip(&disk, &name, last.at + FRAME, 7);
    let rotten = disk.file(&name).unwrap();
    let wal = small().open_on(disk.fork().mount()).unwrap();
    assert_eq!(payloads(&wal), filled(0..4, 300), "one record, no more");
    assert!(wal.recovery().torn.is_some(), "{}", wal.recovery());
    // Where the damage takes the later frames too, which say it of those before: what is left of one is a torn tail.
    for (n, frame) in segment.frames[1..5].iter().enumerate() {
        for (from, is_torn) in [(frame.end(), true), (frame.at, false)] {
            let hurt = disk.fork();
            let mut bytes = rotten.clone();
            bytes[frame.at + FRAME + 20] ^= 1;
            bytes[from..].fill(0);
            hurt.put(&name, bytes);
            let wal = small().open_on(hurt.mount()).unwrap();
            assert_eq!(payloads(&wal), filled(0..n as u32, 300));
            assert_eq!(wal.recovery().torn.is_some(), is_torn, "{n}: {}", wal.recovery());
        }
    }
    let design = include_str!("../../DESIGN.md");
    assert!(design.contains("one unprovable case"), "the design says so");
}

#[test]
fn row_20_what_a_newer_version_wrote_is_its_own_error_and_is_not_touched() {
    let disk = seven();
    let (name, bytes, segment) = used(&disk);
    // Version, read-only compatible and incompatible features, checksum algorithm.
    for (at, value) in [(8, 2_u8), (9, 1), (20, 1), (23, 128), (24, 1), (27, 1), (28, 2)] {
        let hurt = disk.fork();
        let mut bytes = bytes.clone();
        bytes[at] = value;
        spec::mend_header(&mut bytes);
        hurt.put(&name, &bytes);
        let before = everything(&hurt);
        assert_eq!(kind(small().open_on(hurt.mount())), ErrorKind::TooNew, "byte {at}");
        assert_eq!(kind(small().open_read_only_on(hurt.mount())), ErrorKind::TooNew, "byte {at}");
        assert_eq!(everything(&hurt), before);
    }
    // A valid frame of a kind to come, at the first bad place.
    let last = segment.frames.last().unwrap();
    for kind_to_come in 6..8_u32 {
        let hurt = disk.fork();
        let mut bytes = bytes.clone();
        let word = last.length as u32 | kind_to_come << 28;
        bytes[last.at + 4..last.at + 8].copy_from_slice(&word.to_le_bytes());
        spec::mend_check(&mut bytes, segment.seed, last.at);
        hurt.put(&name, &bytes);
        let before = everything(&hurt);
        assert_eq!(kind(small().open_on(hurt.mount())), ErrorKind::TooNew);
        assert_eq!(kind(small().open_read_only_on(hurt.mount())), ErrorKind::TooNew);
        assert_eq!(everything(&hurt), before);
    }
}

#[test]
fn row_20_another_magic_or_a_kind_that_never_was_is_no_newer_version() {
    let disk = seven();
    let (name, bytes, segment) = used(&disk);
    let hurt = disk.fork();
    let mut other = bytes.clone();
    other[..8].copy_from_slice(b"\x89PNG....");
    spec::mend_header(&mut other);
    hurt.put(&name, &other);
    let before = everything(&hurt);
    assert!(is_damage(&small().open_on(hurt.mount())));
    assert_eq!(everything(&hurt), before);
    // Kind 0 is what zeros would be: never valid, whatever the check says.
    let last = segment.frames.last().unwrap();
    let mut zero = bytes;
    zero[last.at + 4..last.at + 8].copy_from_slice(&(last.length as u32).to_le_bytes());
    spec::mend_check(&mut zero, segment.seed, last.at);
    disk.put(&name, &zero);
    assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), filled(0..6, 200));
}

#[test]
fn row_20_features_that_any_version_can_do_without_are_passed_over() {
    let disk = seven();
    let (name, mut bytes, segment) = used(&disk);
    bytes[16] = 1;
    let seed = spec::mend_header(&mut bytes);
    segment.frames.iter().for_each(|frame| spec::mend_check(&mut bytes, seed, frame.at));
    disk.put(&name, &bytes);
    assert_eq!(payloads(&small().open_on(disk.fork().mount()).unwrap()), filled(0..7, 200));
    // A repair knows no more of them, and leaves the seed that they are part of.
    bytes[segment.frames[2].at + FRAME] ^= 1;
    disk.put(&name, &bytes);
    let plan = Repair::new().run_on(disk.mount()).unwrap();
    assert_eq!((plan.kept_records, plan.lost_records), (6, Some(1)), "{plan}");
    assert_eq!(disk.file(&name).unwrap()[16], 1);
    assert!(Verify::new().run_on(disk.mount()).unwrap().is_clean());
    assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()).len(), 6);
}
