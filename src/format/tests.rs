//! Test vectors of the format, and what its checks catch.

use super::*;

const HEADER_OF_A_LOG: Header =
    Header { compatible: 0, log_id: *b"0123456789abcdef", base: 65536, capacity: 16384, salt: 0x0102_0304_0506_0708 };

#[test]
fn frame_of_the_specification() {
    let (seed, offset) = (0x0123_4567, 4096);
    let header = FrameHeader::new(FrameKind::Record, false, 5, 7, sum(b"hello"), 65536 + 4096, 65536);
    let expected =
        [0x9a, 0xf3, 0x3a, 0xcd, 5, 0, 0, 0x10, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x86, 0xa6, 0x10, 0x36];
    assert_eq!(header.encode(seed, offset), expected);
    assert_eq!(FrameHeader::decode(&expected, seed, offset), Some(header));
    assert_eq!(header.claim(65536 + 4096), Some(65536));
    assert_eq!(header.claiming().claim(65536 + 4096), Some(65536 + 4096));
    assert_eq!(FrameHeader::unclaimed(FrameKind::Record, 5, 7, 0).claim(65536 + 4096), None);
}

#[test]
fn header_of_the_specification() {
    let (bytes, seed) = HEADER_OF_A_LOG.encode();
    assert_eq!(bytes[..12], *b"\x89SEAW\r\n\x1a\x01\x00\x48\x00");
    assert_eq!(seed, 0x19b5_5fe2);
    assert_eq!(bytes[16..32], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(Header::decode(&bytes), Ok((HEADER_OF_A_LOG, seed)));
}

#[test]
fn every_bit_of_a_header_is_checked() {
    let (bytes, _) = HEADER_OF_A_LOG.encode();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&flipped), Err(BadHeader::Bad), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert_eq!(Header::decode(&bytes[..length]), Err(BadHeader::Bad));
    }
}

#[test]
fn a_newer_header_is_not_a_damaged_one() {
    for (at, value) in [(8, 2), (20, 1), (24, 1), (28, 2)] {
        let (mut bytes, _) = HEADER_OF_A_LOG.encode();
        bytes[at] = value;
        assert_eq!(Header::decode(&bytes), Err(BadHeader::Bad));
        let checksum = header_checksum(&bytes).unwrap();
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(BadHeader::TooNew), "byte {at}");
    }
    let (mut bytes, _) = HEADER_OF_A_LOG.encode();
    bytes[16] = 1;
    let checksum = header_checksum(&bytes).unwrap();
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert!(Header::decode(&bytes).is_ok(), "a compatible feature is none of our business");
}

/// Whatever their checksum says.
#[test]
fn headers_of_what_no_segment_is_are_none() {
    let unsound = [
        Header { capacity: 12 << 10, ..HEADER_OF_A_LOG },
        Header { capacity: (1 << 30) + 4096, ..HEADER_OF_A_LOG },
        Header { capacity: 16384 + 512, ..HEADER_OF_A_LOG },
        Header { base: 65536 + 512, ..HEADER_OF_A_LOG },
        Header { base: u64::MAX - 4095, ..HEADER_OF_A_LOG },
    ];
    for header in unsound {
        assert_eq!(Header::decode(&header.encode().0), Err(BadHeader::Bad), "{header:?}");
    }
}

#[test]
fn every_bit_and_the_place_of_a_frame_are_checked() {
    let header = FrameHeader::new(FrameKind::Checkpoint, true, 77, u64::MAX, 5, 1 << 40, 1 << 39);
    let bytes = header.encode(9, 8192);
    assert_eq!(FrameHeader::decode(&bytes, 9, 8192), Some(header));
    assert_eq!(header.claim(1 << 40), None, "a distance of 2^39 claims nothing");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(FrameHeader::decode(&flipped, 9, 8192), None, "bit {bit}");
    }
    assert_eq!(FrameHeader::decode(&bytes, 8, 8192), None);
    assert_eq!(FrameHeader::decode(&bytes, 9, 8196), None);
    assert_eq!(FrameHeader::decode(&[0; 24], 0, 0), None);
}

#[test]
fn a_claim_never_says_too_much() {
    let claim = |lsn: u64, durable| FrameHeader::new(FrameKind::Record, false, 0, 0, 0, lsn, durable).claim(lsn);
    assert_eq!(claim(1 << 32, 0), None);
    assert_eq!(claim((1 << 32) - 1, 0), None);
    assert_eq!(claim((1 << 32) - 2, 0), Some(0));
    assert_eq!(claim(10, 20), None);
    assert_eq!(claim(u64::MAX, u64::MAX), Some(u64::MAX));
}

#[test]
fn a_link_of_numbers_that_cannot_be_is_none() {
    let sound = Link { prev_base: 65536, prev_end: 70000, prev_records: 4, records_before: 9, ..Link::default() };
    let sound = Link { last_record: 69972, ..sound };
    assert_eq!(Link::decode(&sound.encode()), Some(sound.clone()));
    for forged in [
        Link { prev_end: 65535, ..sound.clone() },
        Link { prev_base: 65536 - 4, ..sound.clone() },
        Link { prev_end: 65536 + 4095, ..sound.clone() },
        Link { prev_end: u64::MAX, ..sound.clone() },
        Link { prev_records: 10, ..sound.clone() },
        Link { last_record: 70000, ..sound.clone() },
        Link { records_before: u64::MAX, ..sound },
    ] {
        assert_eq!(Link::decode(&forged.encode()), None, "{forged:?}");
    }
}

/// Its numbers may be sound and still be none that a segment there could have.
#[test]
fn a_link_names_what_lies_below() {
    let link = |prev_base, prev_end, front| Link { prev_base, prev_end, front, ..Link::default() };
    for (link, can_be) in [
        (link(0, 16384, 0), true),
        (link(0, 16384, 16384), true),
        (link(0, 16384, 16388), false),
        (link(0, 16388, 0), false),
        (link(16384, 16384, 0), false),
        (link(NO_BASE, 0, 16384), true),
        (link(NO_BASE, 0, 16388), false),
    ] {
        assert_eq!(link.lies_at(16384), can_be, "{link:?}");
    }
}

/// Two seeds can be those of a damaged header, unless it is another place's.
#[test]
fn the_seeds_of_a_damaged_header() {
    let (bytes, seed) = HEADER_OF_A_LOG.encode();
    let of = |at: usize, base| {
        let mut block = bytes;
        block[at] ^= 1;
        (seeds(&block, base).collect::<Vec<_>>(), header_checksum(&block).unwrap())
    };
    let (found, own) = of(64, 65536);
    assert_eq!(found, [seed, own]);
    assert!(of(64, 4096).0.is_empty());
    let (found, own) = of(49, 65536);
    assert_eq!(found, [seed, own], "nothing is wrong but where it says that it lies");
    assert!(of(49, 4096).0.is_empty());
}

#[test]
fn a_frame_of_no_kind_is_none() {
    let header = FrameHeader::unclaimed(FrameKind::Record, 5, 7, 0);
    let none = FrameHeader { kind: None, ..header };
    assert_eq!(FrameHeader::decode(&header.encode(1, 4096), 1, 4096), Some(header));
    assert_eq!(FrameHeader::decode(&none.encode(1, 4096), 1, 4096), None);
}

#[test]
fn a_seed_is_seen_by_a_frame() {
    for (seed, offset) in [(0, 4096), (1, 4096), (0x8000_0000, 8192), (0x0123_4567, 65532)] {
        let frame = FrameHeader::unclaimed(FrameKind::Record, 5, 7, 9).encode(seed, offset);
        assert_eq!(FrameHeader::seed_xor_offset(&frame), seed ^ offset);
    }
}

#[test]
fn links_marks_and_cursors_come_back() {
    let link = Link {
        prev_base: NO_BASE,
        prev_end: 2,
        prev_seed: 3,
        prev_records: 4,
        prev_min_time: 5,
        prev_max_time: 6,
        front: 7,
        checkpoint: 8,
        records_before: 9,
        last_record: 10,
        cursors: (0..16).map(|n| Cursor { lsn: n, name: "ä".repeat(100) }).collect(),
    };
    let bytes = link.encode();
    assert!(frame_size(bytes.len() as u64) <= 4096);
    assert_eq!(Link::decode(&bytes), Some(link.clone()));
    // miri takes minutes for all.
    let step = if cfg!(miri) { 97 } else { 1 };
    for length in (0..bytes.len()).step_by(step) {
        assert_ne!(Link::decode(&bytes[..length]), Some(link.clone()));
    }
    for zeros in 1..24 {
        let mut padded = [bytes.clone(), vec![0; zeros]].concat();
        assert_eq!(Link::decode(&padded), Some(link.clone()));
        *padded.last_mut().unwrap() = 1;
        assert_eq!(Link::decode(&padded), None);
    }
    let mark = Mark { log_id: [1; 16], sequence: 3, synced: 4, shown: 5, front: 6 };
    let (mut bytes, at) = mark.encode();
    assert_eq!((Mark::decode(&bytes), at), (Some(mark), 4096));
    for bit in (0..bytes.len() * 8).step_by(step) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Mark::decode(&bytes), None, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn names_are_strict() {
    assert_eq!(segment_base("00000000000067108864.wal"), Some(67_108_864));
    let highest = u64::MAX - u64::MAX % 4096 - 16384;
    assert_eq!(segment_base(&segment_name(highest)), Some(highest));
    for name in [
        "18446744073709547520.wal",
        "18446744073709551615.wal",
        "00000000000000000001.wal",
        "67108864.wal",
        "00000000000067108864.WAL",
        "00000000000067108864.wal~",
        "99999999999999999999.wal",
        "+0000000000067108864.wal",
        ".wal",
        "",
    ] {
        assert_eq!(segment_base(name), None, "{name}");
    }
    for (name, before) in [
        ("MARK.aside", Some("MARK")),
        ("MARK.aside.3", Some("MARK")),
        ("00000000000067108864.wal.aside", Some("00000000000067108864.wal")),
        ("MARK", None),
        ("NOTES.aside", None),
        ("MARK.aside.x", None),
        ("MARK.aside3", None),
    ] {
        assert_eq!(aside_of(name), before, "{name}");
    }
}

#[test]
fn what_was_never_done_says_so_by_its_name() {
    let base = "00000000000067108864";
    for (end, is_so) in [
        (".new", true),
        (".new.aside", true),
        (".new.aside.12", true),
        (".wal", false),
        (".wal.aside", false),
        (".new.aside.", false),
        (".new.asides", false),
        (".new.1", false),
    ] {
        assert_eq!(was_unfinished(&format!("{base}{end}")), is_so, "{end}");
    }
    assert!(!was_unfinished("67108864.new"));
}

#[test]
fn a_name_tells_where_a_file_was() {
    let base = "00000000000067108864";
    for (end, is_so) in
        [(".wal", true), (".new", true), (".wal.aside", true), (".new.aside.1", true), (".old", false), ("", false)]
    {
        assert_eq!(base_in(&format!("{base}{end}")), is_so.then_some(67_108_864), "{end}");
    }
    assert_eq!(base_in("67108864.new"), None);
}

/// A segment whose header is lost is read by its seed, and its new header is to give that seed again.
#[test]
fn a_header_is_given_any_seed() {
    let mut seed = 1_u32;
    for n in 0..if cfg!(miri) { 20 } else { 1000_u64 } {
        seed = seed.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
        let header =
            Header { compatible: 0, log_id: [n.to_le_bytes()[0]; 16], base: n << 12, capacity: 16 << 10, salt: n };
        let header = header.with_seed(seed);
        assert_eq!(header.encode().1, seed);
        assert_eq!(Header::decode(&header.encode().0), Ok((header, seed)));
    }
}
