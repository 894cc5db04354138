//! A second reader of the format, written from the specification alone: no code of the crate, no shared CRC.

use seawall::sim::Disk;
use seawall::{Kind, Wal};

/// One record: its LSN, kind, batch time, payload.
pub type Parsed = (u64, u8, u64, Vec<u8>);

fn crc(start: u32, bytes: &[u8]) -> u32 {
    let mut crc = !start;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The records of the log on `disk` that lie below `end`, from the front `first` on.
pub fn parse(disk: &Disk, first: u64, end: u64) -> Vec<Parsed> {
    let mut records = Vec::new();
    let (mut end, mut upper) = (end, end);
    loop {
        // The segment that `end` lies in: the highest base below it.
        let names = disk.names();
        let bases = names.iter().filter_map(|name| name.strip_suffix(".wal")?.parse().ok());
        let Some(base) = bases.filter(|base: &u64| *base < upper).max() else { break };
        let (mut found, prev_base, prev_end) = segment(disk, base, end);
        found.append(&mut records);
        records = found;
        if prev_base == u64::MAX || prev_base < first {
            break;
        }
        (upper, end) = (prev_base + 1, prev_end);
    }
    records
}

fn segment(disk: &Disk, base: u64, end: u64) -> (Vec<Parsed>, u64, u64) {
    let bytes = disk.file(&format!("{base:020}.wal")).unwrap();
    assert_eq!(bytes[..8], *b"\x89SEAW\r\n\x1a");
    assert_eq!((bytes[8], bytes[9], bytes[10], bytes[11]), (1, 0, 72, 0));
    let seed = u32_at(&bytes, 12);
    assert_eq!(crc(crc(0, &bytes[..12]), &bytes[16..72]), seed);
    assert_eq!(u64_at(&bytes, 48), base);
    let (mut at, mut records, mut link) = (4096, Vec::new(), None);
    while base + (at as u64) < end {
        let check = crc(crc(seed, &(at as u32).to_le_bytes()), &bytes[at + 4..at + 24]);
        assert_eq!(check, u32_at(&bytes, at), "check of the frame at {at} of {base}");
        let word = u32_at(&bytes, at + 4);
        let payload = &bytes[at + 24..at + 24 + (word & 0x0fff_ffff) as usize];
        assert_eq!(crc(0, payload), u32_at(&bytes, at + 20), "sum of the frame at {at} of {base}");
        match word >> 28 & 7 {
            3 => link = Some((u64_at(payload, 0), u64_at(payload, 8))),
            kind @ (1 | 2) => {
                records.push((base + at as u64, kind as u8, u64_at(&bytes, at + 8), payload.to_vec()));
            }
            kind => assert_eq!(kind, 4),
        }
        let end = at + 24 + payload.len();
        at = end.next_multiple_of(4);
        assert!(bytes[end..at].iter().all(|byte| *byte == 0), "padding of the frame at {end} of {base}");
    }
    assert_eq!(base + at as u64, end, "a frame reaches over the end");
    let (prev_base, prev_end) = link.unwrap();
    (records, prev_base, prev_end)
}

/// What the log gives is what the bytes say to somebody else.
pub fn compare(disk: &Disk, wal: &Wal) -> Result<(), String> {
    let recovery = wal.recovery();
    let ours = wal.read(..).map_err(|e| e.to_string())?.map(|record| {
        let record = record.unwrap();
        let kind = if record.kind == Kind::Checkpoint { 2 } else { 1 };
        (record.lsn.0, kind, record.batch_time.0, record.payload.to_vec())
    });
    let theirs = parse(disk, recovery.first.0, recovery.end.0);
    if ours.eq(theirs.iter().cloned()) { Ok(()) } else { Err("a second parser reads other records".to_owned()) }
}
