//! What a few lines by hand reach on the same disk: writes into blocks written before, and one sync for a group.
#![expect(clippy::disallowed_methods, reason = "the floor syncs a file of its own")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;

use super::group::Group;
use super::log::frame_bytes;

/// What a sync is of that costs something: no disk is faster.
const COSTS: Duration = Duration::from_micros(10);
/// Bytes of the file that is written round and round.
const RING: u64 = 64 << 20;

/// What a sync costs in a directory.
pub struct Probe {
    /// The median time of a write of 4 KiB and its sync.
    pub sync: Duration,
    pub samples: usize,
    /// The name of the file system, where the system tells.
    pub file_system: Option<String>,
}

impl Probe {
    /// Writes and syncs in place for as long as `time`.
    pub fn take(dir: &Path, time: Duration, stop: &AtomicBool) -> anyhow::Result<Probe> {
        let path = dir.join("probe");
        let mut ring = Ring::create(&path, 1 << 20).context("measuring the floor of the disk")?;
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.len() < 8 || begun.elapsed() < time && !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            ring.write(&[1; 4096], true).context("measuring the floor of the disk")?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        fs::remove_file(&path)?;
        let sync = times.get(times.len() / 2).copied().unwrap_or_default();
        Ok(Probe { sync, samples: times.len(), file_system: file_system(dir) })
    }

    /// Whether a sync costs nothing, so that nothing can be durable by it.
    pub fn is_free(&self) -> bool {
        self.sync < COSTS || matches!(self.file_system.as_deref(), Some("tmpfs" | "ramfs"))
    }
}

/// The name of the file system that a directory lies on, by the device that both have.
#[cfg(target_os = "linux")]
fn file_system(dir: &Path) -> Option<String> {
    let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(dir).ok()?);
    let device = format!("{}:{}", libc::major(device), libc::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device))?;
    mount.split_once(" - ")?.1.split(' ').next().map(str::to_owned)
}

/// Elsewhere nobody tells.
#[cfg(not(target_os = "linux"))]
fn file_system(_dir: &Path) -> Option<String> {
    None
}

/// A file whose blocks were all written before, written round and round.
struct Ring {
    file: File,
    size: u64,
    at: u64,
    syncs: u64,
}

impl Ring {
    fn create(path: &Path, size: u64) -> io::Result<Ring> {
        let file = File::create_new(path)?;
        let zeros = vec![0; 256 << 10];
        for at in (0..size).step_by(zeros.len()) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Ring { file, size, at: 0, syncs: 0 })
    }

    fn write(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        let length = bytes.len() as u64;
        if self.at + length > self.size {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at)?;
        self.at += length;
        if sync {
            self.syncs += 1;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// Appends by hand. One thread writes each record, of more one writes for all. After each write a sync, where records are to
/// be durable.
pub struct Floor {
    group: Group,
    /// The record of a thread that is alone.
    alone: Option<Mutex<Vec<u8>>>,
    ring: Mutex<Ring>,
    syncs: bool,
}

impl Floor {
    pub fn create(path: &Path, threads: usize, record: usize, syncs: bool) -> anyhow::Result<Floor> {
        let size = RING.max(threads as u64 * frame_bytes(record));
        let ring = Ring::create(path, size).context("making the file of the floor")?;
        let alone = (threads == 1).then(Mutex::default);
        Ok(Floor { group: Group::default(), alone, ring: Mutex::new(ring), syncs })
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.ring.lock().syncs
    }

    /// Returns once the record is written, and synced if it is to be.
    pub fn append(&self, payload: &[u8]) -> io::Result<()> {
        let sum = crc32fast::hash(payload);
        let write = |bytes: &[u8]| self.ring.lock().write(bytes, self.syncs);
        let Some(alone) = &self.alone else {
            return self.group.append(|gathering| put(gathering, payload, sum), write);
        };
        let mut record = alone.lock();
        record.clear();
        put(&mut record, payload, sum);
        write(&record)
    }
}

/// Adds a record of as many bytes as a frame of the log has: its length, its checksum, its bytes.
fn put(buffer: &mut Vec<u8>, payload: &[u8], sum: u32) {
    let end = buffer.len() + usize::try_from(frame_bytes(payload.len())).unwrap_or_default();
    buffer.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    buffer.extend_from_slice(&u64::from(sum).to_le_bytes());
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(payload);
    buffer.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    /// Who waited for a leader that failed waited for ever.
    #[test]
    fn a_write_that_fails_is_told_to_all_that_wait() {
        let (group, writes, failed) = (Group::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let write = |_: &[u8]| match writes.fetch_add(1, Ordering::Relaxed) {
            0..20 => Ok(()),
            _ => Err(io::Error::other("full")),
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while group.append(|gathering| gathering.push(1), write).is_ok() {}
                    failed.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!((writes.into_inner(), failed.into_inner()), (21, 8));
    }
}
