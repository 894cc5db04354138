//! A log that is not cleaned: each segment is a new file, and so is each of the floor's.
#![allow(clippy::disallowed_methods)] // the floor syncs its own files

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use seawall::Options;

use crate::common::Result;
use crate::common::disk::remove;
use crate::common::measure::{Bench, Measured, Side, Slice, Syncs, Target, Workload, interleave, payload};
use crate::common::report::size_of;
use crate::common::system::allocate;
use crate::floor::{HEAD, put};

/// Records that are made durable with one sync: many bytes, as where a stream is recorded at the speed of the disk.
const GROUP: u64 = 1000;
/// What the floor writes at once.
const BUFFER: usize = 256 << 10;

/// The one.
pub fn workloads() -> Vec<Workload> {
    let size = 16 << 10;
    let run = Box::new(move |bench: &Bench| growing(bench, size));
    vec![Workload { name: format!("new segments, {GROUP} x {}", size_of(size)), target: Target::AtLeast(0.8), run }]
}

/// Each slice begins with an empty directory.
fn growing(bench: &Bench, size: usize) -> Result<Measured> {
    let payload = payload(size);
    let records = (bench.limit().bytes / size as u64).next_multiple_of(GROUP);
    let segment = bench.segment();
    let mut by_hand = || -> Result<Slice> {
        let dir = bench.dir.fresh("floor")?;
        std::fs::create_dir(&dir)?;
        let start = Instant::now();
        let mut files = Files { dir: dir.clone(), length: segment, at: segment, made: 0, syncs: 0, file: None };
        let mut buffer = Vec::with_capacity(BUFFER);
        for n in 1..=records {
            put(&mut buffer, black_box(&payload), crc32fast::hash(&payload));
            if buffer.len() + HEAD + size > BUFFER || n.is_multiple_of(GROUP) {
                files.write(&buffer)?;
                buffer.clear();
            }
            if n.is_multiple_of(GROUP) {
                files.sync()?;
            }
        }
        let slice = Slice { records, time: start.elapsed(), syncs: files.syncs, segments: files.made };
        remove(&dir)?;
        Ok(slice)
    };
    let mut log = || -> Result<Slice> {
        let dir = bench.dir.fresh("log")?;
        let start = Instant::now();
        let wal = Options::new().segment_size(segment).open(&dir)?;
        for n in 1..=records {
            let ticket = wal.append(black_box(&payload))?;
            if n.is_multiple_of(GROUP) {
                ticket.wait()?;
            }
        }
        let (time, stats) = (start.elapsed(), wal.stats());
        drop(wal);
        remove(&dir)?;
        Ok(Slice { records, time, syncs: stats.syncs, segments: stats.segments })
    };
    let (floor, log) = interleave(bench.rounds, &mut by_hand, &mut log)?;
    let label = format!("new files, buffer {}", size_of(BUFFER));
    Ok(Measured { floor: Side { label, ..floor }, log, syncs: Syncs::Each(GROUP) })
}

/// Files whose blocks are taken before they are written.
struct Files {
    dir: PathBuf,
    length: u64,
    at: u64,
    made: u64,
    syncs: u64,
    file: Option<File>,
}

impl Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at + bytes.len() as u64 > self.length {
            if self.file.is_some() {
                self.sync()?;
            }
            self.file = Some(made(&self.dir, self.made, self.length)?);
            self.made += 1;
            self.at = 0;
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        self.file.as_ref().ok_or(io::ErrorKind::NotFound)?.sync_data()
    }
}

/// A new file whose blocks are taken, durable with its name.
fn made(dir: &Path, number: u64, length: u64) -> io::Result<File> {
    let file = File::create_new(dir.join(number.to_string()))?;
    allocate(&file, length)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}
