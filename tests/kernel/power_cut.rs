//! The power fails under a log on a real file system: what was acknowledged is there when it comes back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seawall::{Durability, Lsn, Options, Wal};

use crate::mounted::{Journal, Mounted};

/// Records that are waited for before a cut.
const FEW: usize = 3;

/// Writers that wait for each record.
const WRITERS: u32 = 3;

/// Cuts of a run; `SEAWALL_POWER_CUTS` says how many in the long form.
fn cuts(short: u32) -> u32 {
    std::env::var("SEAWALL_POWER_CUTS").map_or(short, |cuts| cuts.parse().unwrap())
}

fn payload(n: u32) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(16 + n as usize * 7919 % 3000, n.to_le_bytes()[0]);
    payload
}

/// What the writers know, over all lives.
#[derive(Default)]
struct Known {
    /// The number of the next record.
    next: AtomicU32,
    /// Acknowledged, by LSN.
    acknowledged: Mutex<Vec<(Lsn, u32)>>,
    /// What lies before this batch time may be cleaned.
    limit: AtomicU64,
    is_cut: AtomicBool,
}

fn batch_time(n: u32) -> u64 {
    u64::from(n / 64)
}

impl Known {
    /// Appends until the log ends, and notes what is acknowledged before the cut: nobody lives to see what comes
    /// after it. (An ext4 that was shut down may answer a sync that was under way with success, whose transaction it
    /// dropped: `jbd2_complete_transaction` finds it no longer there and does not ask why.)
    fn write(&self, wal: &Wal) {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let ticket = wal.at(batch_time(n)).append(&payload(n));
            let Ok(lsn) = ticket.and_then(|ticket| ticket.wait()) else { return };
            if self.is_cut.load(Ordering::SeqCst) {
                return;
            }
            self.acknowledged.lock().unwrap().push((lsn, n));
        }
    }

    fn clean(&self, wal: &Wal) {
        let limit = batch_time(self.next.load(Ordering::Relaxed)).saturating_sub(8);
        self.limit.store(limit, Ordering::Relaxed);
        _ = wal.clean_before_batch_time(limit);
    }

    /// How many acknowledged records are not there; whatever is there is one that was appended.
    fn missing(&self, wal: &Wal) -> usize {
        let found: Vec<_> = wal.read(..).unwrap().map(Result::unwrap).collect();
        for record in &found {
            let n = u32::from_le_bytes(record.payload[..4].try_into().unwrap());
            assert_eq!(record.payload, payload(n), "{record:?}");
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let is_there = |(lsn, n): &(Lsn, u32)| {
            let at = found.binary_search_by_key(lsn, |record| record.lsn);
            batch_time(*n) < limit || at.is_ok_and(|at| found[at].payload == payload(*n))
        };
        self.acknowledged.lock().unwrap().iter().filter(|record| !is_there(record)).count()
    }

    /// Until a few more are acknowledged, however slow the machine is.
    fn wait_for_more(&self) {
        let count = || self.acknowledged.lock().unwrap().len();
        let (before, began) = (count(), Instant::now());
        while count() < before + FEW && began.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// One life that ends in a power cut, so `late` after it began; `known`: not before some are acknowledged, nor before
    /// some more are after the clean.
    fn live(&self, mounted: &Mounted, wal: &Wal, late: Duration, journal: Journal, known: bool) {
        thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| self.write(wal));
            }
            // Cleaned as well, so that segments go and are used again.
            for cleans in [true, false] {
                if known {
                    self.wait_for_more();
                }
                thread::sleep(late / 2);
                if cleans {
                    self.clean(wal);
                }
            }
            self.is_cut.store(true, Ordering::SeqCst);
            mounted.cut_power(journal);
        });
    }
}

/// What a run came to.
struct Run {
    cuts: u32,
    acknowledged: usize,
    /// Records that were acknowledged and are gone after the last cut. The first one that loses any is the last.
    lost: usize,
}

/// `None`: the file system cannot be had here.
fn run(kind: &'static str, mebibytes: u64, cuts: u32, options: &Options) -> Option<Run> {
    let mut mounted = Mounted::new(kind, mebibytes)?;
    let dir = mounted.dir().join("log");
    let known = Known::default();
    let end = |cuts, lost| Run { cuts, acknowledged: known.acknowledged.lock().unwrap().len(), lost };
    for cut in 0..cuts {
        let wal = options.open(&dir).unwrap();
        let lost = known.missing(&wal);
        if lost > 0 {
            return Some(end(cut, lost));
        }
        let late = Duration::from_millis(20 + u64::from(cut) * 37 % 90);
        let journal = if cut.is_multiple_of(2) { Journal::Lost } else { Journal::Flushed };
        // Some cuts may come before anything is acknowledged.
        known.live(&mounted, &wal, late, journal, cut % 3 < 2);
        assert!(wal.close().is_err(), "nothing is written once the power is cut");
        drop(wal);
        mounted.mount_again();
        known.is_cut.store(false, Ordering::SeqCst);
    }
    let wal = options.open(&dir).unwrap();
    let lost = known.missing(&wal);
    wal.close().unwrap();
    let report = seawall::check::verify(&dir).unwrap();
    assert!(lost > 0 || report.is_clean(), "{report}");
    Some(end(cuts, lost))
}

fn options() -> Options {
    Options::new().segment_size(256 << 10)
}

fn power_is_cut(kind: &'static str, mebibytes: u64) {
    let Some(run) = run(kind, mebibytes, cuts(12), &options()) else { return };
    println!("{kind}: {} power cuts, {} records acknowledged, {} lost", run.cuts, run.acknowledged, run.lost);
    assert_eq!(run.lost, 0, "{kind}: acknowledged, and gone after {} power cuts", run.cuts);
    assert!(run.acknowledged > run.cuts as usize, "{kind}: {} records are no trial", run.acknowledged);
}

#[test]
fn ext4_loses_power() {
    power_is_cut("ext4", 64);
}

#[test]
fn xfs_loses_power() {
    power_is_cut("xfs", 300);
}

/// What these tests would see of a log that tells its waiters before the sync: one that was told to.
#[test]
fn what_is_acknowledged_when_written_is_lost_with_the_power() {
    let Some(run) = run("ext4", 64, 3, &options().durability(Durability::Os)) else { return };
    assert!(run.lost > 0, "nothing was lost by {} power cuts", run.cuts);
    println!("acknowledged when written: {} records gone after {} power cuts", run.lost, run.cuts);
}
