//! Verifying a log, and finding records in it, against the same over its own files with an index in hand.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use seawall::{Lsn, Options, Record, Wal, check};

use crate::common::disk::remove;
use crate::common::measure::{Bench, Measured, Side, Slice, Syncs, Target, Workload, best, interleave, payload};
use crate::common::report::size_of;
use crate::common::{Result, system};

/// All of them.
pub fn workloads() -> Vec<Workload> {
    let mut all = Vec::new();
    for size in [100, 1 << 10, 16 << 10] {
        let run = Box::new(move |bench: &Bench| verify(bench, size));
        all.push(Workload { name: format!("verify {}", size_of(size)), target: Target::AtLeast(1.0), run });
    }
    for (how, from) in [("", From::Sealed), (", newest segment", From::Newest), (", read-only", From::Outside)] {
        let run = Box::new(move |bench: &Bench| get(bench, 1 << 10, from));
        all.push(Workload { name: format!("get {}{how}", size_of(1 << 10)), target: Target::AtLeast(0.9), run });
    }
    all
}

/// Where a frame lies: in which file, from where to where.
struct Place {
    file: usize,
    from: usize,
    to: usize,
    lsn: Lsn,
}

/// The frames of a log and the files that they lie in.
struct Index {
    files: Vec<File>,
    places: Vec<Place>,
}

impl Index {
    /// Of a log whose records `lsns` have payloads of `size` bytes: a file is named for its first LSN.
    fn new(log: &Path, lsns: &[Lsn], frame: usize) -> Result<Index> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(log)? {
            let name = entry?.file_name().into_string().map_err(|_| "a name")?;
            if let Some(base) = name.strip_suffix(".wal") {
                names.push((base.parse::<u64>()?, name));
            }
        }
        names.sort();
        let files = names.iter().map(|(_, name)| File::open(log.join(name))).collect::<std::io::Result<_>>()?;
        let place = |lsn: &Lsn| {
            let file = names.partition_point(|(base, _)| *base <= lsn.0).checked_sub(1)?;
            let from = usize::try_from(lsn.0 - names.get(file)?.0).ok()?;
            Some(Place { file, from, to: from + frame, lsn: *lsn })
        };
        let places = lsns.iter().map(place).collect::<Option<_>>().ok_or("an LSN below all segments")?;
        Ok(Index { files, places })
    }
}

/// Fills a log with records of `size` bytes; gives their LSNs and the bytes of a frame.
fn fill(wal: &Wal, size: usize, bytes: u64) -> Result<(Vec<Lsn>, usize)> {
    let payload = payload(size);
    let mut lsns = Vec::new();
    for _ in 0..bytes / (size + 32) as u64 {
        lsns.push(wal.append(&payload)?.lsn());
    }
    wal.sync()?;
    let first: Record = wal.get(*lsns.first().ok_or("no record")?)?;
    let frame = usize::try_from(first.end().0 - first.lsn.0)?;
    Ok((lsns, frame))
}

fn verify(bench: &Bench, size: usize) -> Result<Measured> {
    let path = bench.dir.fresh("log")?;
    let options = Options::new().segment_size(bench.segment());
    let wal = options.open(&path)?;
    let (lsns, frame) = fill(&wal, size, 4 * bench.segment())?;
    wal.close()?;
    let index = Index::new(&path, &lsns, frame)?;
    let records = lsns.len() as u64;
    let timed = |pass: &dyn Fn() -> Result<u64>| {
        let start = Instant::now();
        let seen = pass()?;
        let time = start.elapsed();
        if seen != records { Err(format!("{seen} records of {records}").into()) } else { Ok(slice(seen, time)) }
    };
    let by_hand = |populate: bool| {
        timed(&|| {
            let maps =
                index.files.iter().map(|file| system::map(file, populate)).collect::<std::io::Result<Vec<_>>>()?;
            let bytes = |place: &Place| maps.get(place.file)?.get(place.from..place.to);
            let summed = index.places.iter().filter_map(bytes).map(|bytes| black_box(crc32fast::hash(bytes)));
            Ok(summed.count() as u64)
        })
    };
    let populate = best(&[false, true], by_hand)?;
    let mut log = || {
        timed(&|| {
            let report = check::verify(&path)?;
            if report.is_clean() { Ok(report.records) } else { Err(report.to_string().into()) }
        })
    };
    let (floor, log) = interleave(bench.rounds, &mut || by_hand(populate), &mut log)?;
    remove(&path)?;
    Ok(measured(if populate { "map, populated, one thread" } else { "map, one thread" }, floor, log))
}

/// Which records are got, and who gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// The writer, out of sealed segments.
    Sealed,
    /// The writer, out of the segment that it is writing.
    Newest,
    /// A read-only opener.
    Outside,
}

fn get(bench: &Bench, size: usize, from: From) -> Result<Measured> {
    let path = bench.dir.fresh("log")?;
    let options = Options::new().segment_size(bench.segment());
    let mut wal = options.open(&path)?;
    let bytes = if from == From::Newest { bench.segment() / 2 } else { 4 * bench.segment() };
    let (lsns, frame) = fill(&wal, size, bytes)?;
    if from != From::Newest {
        wal.close()?;
        wal = options.open(&path)?;
    }
    let view = options.open_read_only(&path)?;
    let mut index = Index::new(&path, &lsns, frame)?;
    shuffle(&mut index.places);
    let mut buffer = vec![0; frame];
    let mut by_hand = || {
        here_and_there(bench, &index.places, |place| {
            let file = index.files.get(place.file).ok_or("no file")?;
            file.read_exact_at(&mut buffer, place.from as u64)?;
            black_box(crc32fast::hash(&buffer));
            Ok(())
        })
    };
    let mut log = || {
        here_and_there(bench, &index.places, |place| {
            let record = if from == From::Outside { view.get(place.lsn) } else { wal.get(place.lsn) };
            if black_box(record?).payload.len() == size { Ok(()) } else { Err("another record".into()) }
        })
    };
    let (floor, log) = interleave(bench.rounds, &mut by_hand, &mut log)?;
    wal.close()?;
    remove(&path)?;
    Ok(measured("pread, checksum", floor, log))
}

/// Calls `get` for one place after the other, round and round, until the slice is over.
fn here_and_there(bench: &Bench, places: &[Place], mut get: impl FnMut(&Place) -> Result<()>) -> Result<Slice> {
    let limit = bench.limit().time;
    let (mut records, start) = (0, Instant::now());
    for some in places.chunks(64).cycle() {
        for place in some {
            get(place)?;
        }
        records += some.len() as u64;
        if start.elapsed() >= limit {
            break;
        }
    }
    Ok(slice(records, start.elapsed()))
}

/// Into another order, the same each time.
fn shuffle(places: &mut [Place]) {
    let mut state = 1_u64;
    for last in (1..places.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        places.swap(last, usize::try_from(state >> 33).unwrap_or_default() % (last + 1));
    }
}

fn slice(records: u64, time: Duration) -> Slice {
    Slice { records, time, syncs: 0, segments: 0 }
}

fn measured(label: &str, floor: Side, log: Side) -> Measured {
    Measured { floor: Side { label: label.into(), ..floor }, log, syncs: Syncs::None }
}
