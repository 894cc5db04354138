//! What a few lines by hand reach on the same disk: writes into blocks written before, and one sync for a group.
#![expect(clippy::disallowed_methods, reason = "the floor syncs a file of its own")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::{Condvar, Mutex};

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

/// Appends by hand. One thread writes each record; of more, who finds no leader writes for all that came by then. After
/// each write a sync, where records are to be durable.
///
/// Groups wait apart by their number's parity: the end of a write wakes its own group, which is done, and one of the
/// next group, which leads it.
pub struct Floor {
    gate: Mutex<Gate>,
    turns: [Condvar; 2],
    ring: Mutex<Ring>,
    syncs: bool,
    is_alone: bool,
}

#[derive(Default)]
struct Gate {
    gathering: Vec<u8>,
    spare: Vec<u8>,
    /// The group that is gathering. Groups below `done` are written.
    group: u64,
    done: u64,
    is_led: bool,
}

impl Floor {
    pub fn create(path: &Path, threads: usize, record: usize, syncs: bool) -> anyhow::Result<Floor> {
        let size = RING.max(threads as u64 * frame_bytes(record));
        let ring = Ring::create(path, size).context("making the file of the floor")?;
        let (gate, turns) = (Mutex::default(), Default::default());
        Ok(Floor { gate, turns, ring: Mutex::new(ring), syncs, is_alone: threads == 1 })
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.ring.lock().syncs
    }

    /// Returns once the record is written, and synced if it is to be.
    pub fn append(&self, payload: &[u8]) -> io::Result<()> {
        let sum = crc32fast::hash(payload);
        let mut gate = self.gate.lock();
        put(&mut gate.gathering, payload, sum);
        if self.is_alone {
            self.ring.lock().write(&gate.gathering, self.syncs)?;
            gate.gathering.clear();
            return Ok(());
        }
        let mine = gate.group;
        while gate.done <= mine {
            if gate.is_led {
                self.turn(mine).wait(&mut gate);
                continue;
            }
            gate.is_led = true;
            gate.group += 1;
            let empty = std::mem::take(&mut gate.spare);
            let mut full = std::mem::replace(&mut gate.gathering, empty);
            drop(gate);
            let written = self.ring.lock().write(&full, self.syncs);
            full.clear();
            gate = self.gate.lock();
            gate.spare = full;
            // A failure too ends it, so that nobody waits for ever: its leader's error ends the command.
            gate.done = mine + 1;
            gate.is_led = false;
            self.turn(mine).notify_all();
            self.turn(mine + 1).notify_one();
            written?;
        }
        Ok(())
    }

    fn turn(&self, group: u64) -> &Condvar {
        let [even, odd] = &self.turns;
        if group.is_multiple_of(2) { even } else { odd }
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
