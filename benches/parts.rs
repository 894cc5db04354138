//! `cargo bench --bench parts`: the small parts by themselves, as the public API reaches them.
//!
//! For comparing one version with the next on one machine; `append` is the bench that stands beside floors.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seawall::{Lsn, Options, Wal};

const SIZES: [usize; 3] = [100, 1 << 10, 16 << 10];
const SEGMENT: u64 = 16 << 20;

/// A directory for one log, removed when it is dropped.
fn directory() -> tempfile::TempDir {
    let parent =
        std::env::var_os("SEAWALL_BENCH_DIR").map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    tempfile::tempdir_in(parent).unwrap()
}

fn settle(wal: &Wal) {
    let end = wal.sync().unwrap();
    wal.clean_before_lsn(end).unwrap();
}

/// Frames into memory and pieces to the page cache; syncs and cleaning lie outside of the time.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for size in SIZES {
        let dir = directory();
        let wal = Options::new().segment_size(SEGMENT).open(dir.path()).unwrap();
        let payload = vec![0x5a; size];
        let lap = 2 * SEGMENT / size as u64;
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|records| {
                let (mut left, mut time) = (records, Duration::ZERO);
                while left > 0 {
                    let some = left.min(lap);
                    let start = Instant::now();
                    for _ in 0..some {
                        drop(wal.append(black_box(&payload)).unwrap());
                    }
                    time += start.elapsed();
                    left -= some;
                    settle(&wal);
                }
                time
            });
        });
        wal.close().unwrap();
    }
    group.finish();
}

/// A log of sealed segments, opened again, and the LSN of each of its records.
fn filled(dir: &tempfile::TempDir, size: usize) -> (Wal, Vec<Lsn>) {
    let options = Options::new().segment_size(SEGMENT);
    let payload = vec![0x5a; size];
    let records = 2 * SEGMENT / size as u64;
    let lsns = {
        let wal = options.open(dir.path()).unwrap();
        let lsns = (0..records).map(|_| wal.append(&payload).unwrap().lsn()).collect();
        wal.close().unwrap();
        lsns
    };
    (options.open(dir.path()).unwrap(), lsns)
}

/// Every record in order.
fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    for size in SIZES {
        let dir = directory();
        let (wal, lsns) = filled(&dir, size);
        group.throughput(Throughput::Bytes((size * lsns.len()) as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher
                .iter(|| wal.read(..).unwrap().map(|record| black_box(record.unwrap()).payload.len()).sum::<usize>());
        });
    }
    group.finish();
}

/// One record by its LSN, here and there.
fn get(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get");
    for size in SIZES {
        let dir = directory();
        let (wal, lsns) = filled(&dir, size);
        let mut here_and_there = (0..lsns.len()).map(|i| i * 7919 % lsns.len()).filter_map(|i| lsns.get(i)).cycle();
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| wal.get(*here_and_there.next().unwrap()).unwrap());
        });
    }
    group.finish();
}

criterion_group!(parts, append, scan, get);
criterion_main!(parts);
