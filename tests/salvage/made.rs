//! Logs of records that are known, and what salvage makes of them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fmt, fs};

use seawall::check::{Salvage, Salvaged, SalvagedLog};
use seawall::{Kind, Lsn, Options, Record};

use crate::random::Random;

#[path = "../common/live.rs"]
mod live;
pub use live::copy;

/// What was appended.
#[derive(Clone, PartialEq, Eq)]
pub struct Made {
    pub lsn: Lsn,
    pub batch_time: u64,
    pub kind: Kind,
    pub ends_batch: bool,
    pub payload: Vec<u8>,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.lsn, self.payload.len())
    }
}

impl From<Record> for Made {
    fn from(record: Record) -> Made {
        let Record { lsn, batch_time, kind, ends_batch, payload, .. } = record;
        Made { lsn, batch_time: batch_time.0, kind, ends_batch, payload: payload.to_vec() }
    }
}

/// A closed log and what was appended to it.
pub struct Log {
    dir: tempfile::TempDir,
    pub id: [u8; 16],
    pub made: Vec<Made>,
}

impl Log {
    /// Of segments of 16 KiB, with `appends` single records, checkpoints and batches.
    pub fn new(seed: u64, appends: u32) -> Log {
        Log::of(seed, appends, 16 << 10, 400)
    }

    /// With records of less than `longest` bytes.
    pub fn of(seed: u64, appends: u32, segment_size: u64, longest: u64) -> Log {
        let dir = tempfile::tempdir().unwrap();
        let wal = Options::new().segment_size(segment_size).open(dir.path()).unwrap();
        let mut random = Random::new(seed);
        for n in 0..appends {
            let time = random.next() >> random.below(64);
            let mut payload = || {
                let length = random.below(longest) as usize;
                random.bytes(length as u64)
            };
            match n % 11 {
                3 => drop(wal.at(time).append_checkpoint(&payload()).unwrap()),
                5 => drop(wal.at(time).append_batch(&[payload(), payload(), payload()]).unwrap()),
                _ => drop(wal.at(time).append(&payload()).unwrap()),
            }
            if n % 7 == 0 {
                wal.sync().unwrap();
            }
        }
        wal.sync().unwrap();
        let made = wal.read(..).unwrap().map(|record| record.unwrap().into()).collect();
        let id = wal.log_id();
        wal.close().unwrap();
        Log { dir, id, made }
    }

    /// One that is only read.
    pub fn shared() -> &'static Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| Log::new(99, 150))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// The segments that hold frames, in order.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = names.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    names.retain(|path| fs::metadata(path).unwrap().len() > 4096);
    names.sort();
    names
}

/// Turns a bit of the byte at an offset.
pub fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

pub fn base(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

pub fn hex(id: [u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn salvaged(sources: &[impl AsRef<Path>]) -> Salvaged {
    Salvage::new().run(sources).unwrap()
}

pub fn read(found: &Salvaged, log: &SalvagedLog) -> Vec<Made> {
    let read: Vec<Made> = found.records(log).map(|record| record.unwrap().into()).collect();
    assert_eq!(read.len() as u64, log.records);
    read
}

/// The one log that was found.
pub fn lone(found: &Salvaged) -> &SalvagedLog {
    let names: Vec<_> = found.logs().iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    &found.logs()[0]
}

/// All records of the one log that was found.
pub fn whole(found: &Salvaged) -> Vec<Made> {
    read(found, lone(found))
}
