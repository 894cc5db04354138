//! What the tests of all rows share: small logs, and what they hold.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use seawall::sim::{Bug, Disk};
use seawall::{ErrorKind, Lsn, Options, Wal};

/// The smallest segments there are.
pub const CAPACITY: u64 = 16 << 10;

pub fn small() -> Options {
    Options::new().segment_size(CAPACITY)
}

/// `options`, with the safety taken out that `bug` says.
pub fn with(options: Options, bug: Option<Bug>) -> Options {
    bug.into_iter().fold(options, Options::plant)
}

/// A payload that tells which one it is, `length` bytes long or a little more.
pub fn payload(n: u32, length: usize) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(length.max(4), (n % 251) as u8);
    payload
}

pub fn payloads(wal: &Wal) -> Vec<Vec<u8>> {
    wal.read(..).unwrap().map(|record| record.unwrap().payload.to_vec()).collect()
}

pub fn kind<T: std::fmt::Debug>(result: seawall::Result<T>) -> ErrorKind {
    result.unwrap_err().kind().clone()
}

pub fn is_damage<T: std::fmt::Debug>(result: &seawall::Result<T>) -> bool {
    result.as_ref().is_err_and(|e| matches!(e.kind(), ErrorKind::Damage(_)))
}

/// Appends and waits for each of `range`, `length` bytes long, and tells where they are.
pub fn fill(wal: &Wal, range: std::ops::Range<u32>, length: usize) -> Vec<Lsn> {
    range.map(|n| wal.append(&payload(n, length)).unwrap().wait().unwrap()).collect()
}

/// The payloads that [`fill`] appends.
pub fn filled(range: std::ops::Range<u32>, length: usize) -> Vec<Vec<u8>> {
    range.map(|n| payload(n, length)).collect()
}

/// The names of the segments on a disk.
pub fn segments(disk: &Disk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".wal")).collect()
}

/// Everything on a disk, to see that nothing was touched.
pub fn everything(disk: &Disk) -> Vec<(String, Vec<u8>)> {
    disk.names().into_iter().map(|name| (name.clone(), disk.file(&name).unwrap())).collect()
}

/// Flips one bit of a file on a disk.
pub fn flip(disk: &Disk, name: &str, byte: usize, bit: u32) {
    let mut bytes = disk.file(name).unwrap();
    bytes[byte] ^= 1 << bit;
    disk.put(name, bytes);
}

/// Appends without having it survive a power cut: written, and the power goes in the sync.
///
/// The disk is to be crashed by the caller, who says what of it is kept.
pub fn write_unsynced(disk: &Disk, wal: &Wal, payloads: &[Vec<u8>]) {
    let mut last = None;
    for payload in payloads {
        last = Some(wal.append(payload).unwrap());
    }
    disk.crash_at(2);
    assert!(last.unwrap().wait().is_err());
    assert!(disk.crashed());
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A small generator, for noise that is the same in each run.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}
