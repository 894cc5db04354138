//! Replay, every record of a log in order, and opening a log of many segments; out of a warm page cache.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use seawall::Options;

use crate::common::disk::{Ring, remove};
use crate::common::measure::{Bench, Measured, Side, Slice, Syncs, Target, Workload, best, interleave, payload};
use crate::common::report::size_of;
use crate::common::{Result, system};
use crate::floor::{Buffered, HEAD};

/// How a floor reads its file.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Over a map, page by page as they are touched.
    Map,
    /// Over a map whose pages are all taken at once.
    Populated,
    /// Pieces of this many bytes into one buffer.
    Pread(usize),
}

/// What can be handed out without a copy.
const MAPS: [Way; 2] = [Way::Map, Way::Populated];
const WAYS: [Way; 5] = [Way::Map, Way::Populated, Way::Pread(64 << 10), Way::Pread(256 << 10), Way::Pread(1 << 20)];

/// All of them.
pub fn workloads() -> Vec<Workload> {
    let mut all = Vec::new();
    for (kept, how) in [(false, "replay"), (true, "replay and keep")] {
        for (size, target) in [(100, 0.6), (1 << 10, 0.8), (16 << 10, 0.8)] {
            let run = Box::new(move |bench: &Bench| replay(bench, size, kept));
            all.push(Workload { name: format!("{how} {}", size_of(size)), target: Target::AtLeast(target), run });
        }
    }
    let run = Box::new(opening);
    all.push(Workload { name: "open, many segments".into(), target: Target::AtMost(2.0), run });
    all
}

/// One pass over a log that was closed and opened again, against one pass over a file of as many records. Both look at
/// the payload where it lies; with `kept` both hand each out as a `Bytes`, which whoever gets it may keep.
fn replay(bench: &Bench, size: usize, kept: bool) -> Result<Measured> {
    let payload = payload(size);
    let records = 4 * bench.segment() / (size + HEAD) as u64 - 1;
    let by_hand = bench.dir.fresh("floor")?;
    let mut floor = Buffered::new(Ring::create(&by_hand, 4 * bench.segment())?, 256 << 10);
    let path = bench.dir.fresh("log")?;
    let options = Options::new().segment_size(bench.segment());
    {
        let wal = options.open(&path)?;
        for _ in 0..records {
            floor.append(&payload)?;
            drop(wal.append(&payload)?);
        }
        floor.sync()?;
        wal.close()?;
    }
    let wal = options.open(&path)?;
    let mut floor = |way| slice(records, || pass(&by_hand, way, records, kept));
    let way = best(if kept { &MAPS } else { &WAYS }, &mut floor)?;
    let mut log = || {
        slice(records, || {
            let (mut seen, mut left) = (0, wal.read(..)?);
            if kept {
                for record in left {
                    seen += usize::from(black_box(record?).payload.len() == size);
                }
            } else {
                while let Some(record) = left.next_borrowed() {
                    seen += usize::from(black_box(record?).payload.len() == size);
                }
            }
            Ok(seen as u64)
        })
    };
    let (floor, log) = interleave(bench.rounds, &mut || floor(way), &mut log)?;
    wal.close()?;
    remove(&path)?;
    let label = match way {
        Way::Map => "map".into(),
        Way::Populated => "map, populated".into(),
        Way::Pread(piece) => format!("pread of {}", size_of(piece)),
    };
    Ok(Measured { floor: Side { label, ..floor }, log, syncs: Syncs::None })
}

fn slice(records: u64, pass: impl FnOnce() -> Result<u64>) -> Result<Slice> {
    let start = Instant::now();
    let seen = pass()?;
    let time = start.elapsed();
    if seen != records {
        return Err(format!("{seen} records read of {records}").into());
    }
    Ok(Slice { records, time, syncs: 0, segments: 0 })
}

/// Opens the floor's file and reads `records` records; tells how many were as they were written.
fn pass(path: &Path, way: Way, records: u64, kept: bool) -> Result<u64> {
    let look = |payload: &[u8]| _ = black_box(payload);
    let file = File::open(path)?;
    let piece = match way {
        Way::Pread(piece) => piece,
        Way::Map | Way::Populated => {
            let map = system::map(&file, matches!(way, Way::Populated))?;
            if kept {
                let bytes = Bytes::from_owner(map);
                return Ok(walk(&bytes, records, |payload| _ = black_box(bytes.slice_ref(payload))).0);
            }
            return Ok(walk(&map, records, look).0);
        }
    };
    let mut buffer = vec![0; piece];
    let (mut seen, mut at) = (0, 0);
    while seen < records {
        let got = file.read_at(&mut buffer, at)?;
        let (more, used) = walk(buffer.get(..got).unwrap_or_default(), records - seen, look);
        if more == 0 {
            break;
        }
        seen += more;
        at += used as u64;
    }
    Ok(seen)
}

/// Checks whole records from the start of `bytes` and gives each to `take`; tells how many were right and how many
/// bytes they took.
#[inline(always)]
fn walk(bytes: &[u8], records: u64, take: impl Fn(&[u8])) -> (u64, usize) {
    let (mut seen, mut at) = (0, 0);
    while seen < records {
        let Some((head, rest)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<HEAD>()) else { break };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload) = rest.get(..len) else { break };
        if crc32fast::hash(payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            break;
        }
        take(payload);
        seen += 1;
        at += HEAD + len;
    }
    (seen, at)
}

/// Opening a log of many small segments, against opening each of its files and reading its first 8 KiB.
fn opening(bench: &Bench) -> Result<Measured> {
    const SEGMENT: u64 = 16 << 10;
    let segments = if bench.short { 50 } else { 1000 };
    let path = bench.dir.fresh("log")?;
    let options = Options::new().segment_size(SEGMENT);
    {
        let wal = options.open(&path)?;
        for _ in 0..segments {
            drop(wal.append(&payload(4 << 10))?);
            wal.rotate()?;
        }
        wal.close()?;
    }
    let mut by_hand = || {
        let start = Instant::now();
        let mut head = [0; 8 << 10];
        for entry in std::fs::read_dir(&path)? {
            black_box(File::open(entry?.path())?.read_at(&mut head, 0)?);
        }
        Ok(Slice { records: 1, time: start.elapsed(), syncs: 0, segments: 0 })
    };
    let mut log = || {
        let start = Instant::now();
        let wal = options.open(&path)?;
        let time = start.elapsed();
        wal.close()?;
        Ok(Slice { records: 1, time, syncs: 0, segments: 0 })
    };
    let (floor, log) = interleave(bench.rounds, &mut by_hand, &mut log)?;
    remove(&path)?;
    let times = |side: Side| Side { figures: side.figures.iter().map(|rate| 1e6 / rate).collect(), ..side };
    let label = format!("open and read 8 KiB of {segments}");
    Ok(Measured { floor: Side { label, ..times(floor) }, log: times(log), syncs: Syncs::None })
}
