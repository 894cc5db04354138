//! The log under test, brought to its steady state and kept there.

use std::path::PathBuf;
use std::time::Duration;

use seawall::{Options, Wal};

use super::Result;
use super::disk::{BenchDir, remove};
use super::measure::Slice;

/// Segments that a warm log has been through before anything is measured.
const LAPS: u64 = 4;

/// A log of its own in the directory of the bench, removed when it is dropped.
pub struct Engine {
    /// The log.
    pub wal: Wal,
    /// Bytes of a segment.
    pub segment: u64,
    /// Where it is.
    pub path: PathBuf,
}

impl Engine {
    /// A new log, filled and cleaned: its spare segments are files whose blocks were written before.
    pub fn warm(dir: &BenchDir, name: &str, segment: u64) -> Result<Engine> {
        let path = dir.fresh(name)?;
        let wal = Options::new().segment_size(segment).open(&path)?;
        let engine = Engine { wal, segment, path };
        for _ in 0..2 {
            engine.fill(LAPS * segment)?;
            engine.settle()?;
        }
        Ok(engine)
    }

    /// Appends `bytes` and a little more.
    pub fn fill(&self, bytes: u64) -> Result<()> {
        let payload = vec![0x5a; 4000];
        let mut appended = 0;
        while appended < bytes {
            drop(self.wal.append(&payload)?);
            appended += payload.len() as u64;
        }
        Ok(())
    }

    /// Syncs everything and cleans all that can be: between slices, never in one.
    pub fn settle(&self) -> Result<()> {
        let end = self.wal.sync()?;
        self.wal.clean_before_lsn(end)?;
        Ok(())
    }

    /// One slice: `work` tells how many records it appended in which time. The log is settled afterwards.
    pub fn slice(&self, work: impl FnOnce() -> Result<(u64, Duration)>) -> Result<Slice> {
        let (before, from) = (self.wal.stats().syncs, self.wal.durable_lsn());
        let (records, time) = work()?;
        let syncs = self.wal.stats().syncs - before;
        self.settle()?;
        let segments = self.wal.durable_lsn().0 / self.segment - from.0 / self.segment;
        Ok(Slice { records, time, syncs, segments })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let closed = self.wal.close().map_err(|e| e.to_string());
        if let Err(error) = closed.and_then(|()| remove(&self.path).map_err(|e| e.to_string())) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}
