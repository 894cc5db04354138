//! What a process that replays a big log holds beyond the page cache.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use seawall::{Options, Wal};

use crate::common::Result;
use crate::common::disk::remove;
use crate::common::measure::{Bench, Measured, Side, Syncs, Target, Workload, payload};

/// What the bench calls itself with to replay a log.
pub const CHILD: &str = "--replay";
/// The option that sets how large the log is.
pub const MIB: &str = "--mib";
/// MiB that it may take.
const LIMIT: f64 = 64.0;
const SIZE: usize = 1 << 10;

/// All of them.
pub fn workloads() -> Vec<Workload> {
    let row = |(name, how): (&str, &'static str)| {
        let run = Box::new(move |bench: &Bench| replay(bench, how));
        Workload { name: name.into(), target: Target::Bounded, run }
    };
    [("memory, replay", "write"), ("memory, replay read-only", "read")].map(row).into()
}

/// A log is made, and a process of its own opens it and reads each record.
fn replay(bench: &Bench, how: &str) -> Result<Measured> {
    let mib = bench.number(MIB).unwrap_or(if bench.short { 512 } else { 10 << 10 });
    let records = (mib << 20) / SIZE;
    let path = bench.dir.fresh("log")?;
    {
        let wal = Options::new().segment_size(bench.segment()).open(&path)?;
        let payload = payload(SIZE);
        for _ in 0..records {
            drop(wal.append(&payload)?);
        }
        wal.close()?;
    }
    let output = Command::new(std::env::current_exe()?).arg(CHILD).arg(&path).arg(how).output()?;
    remove(&path)?;
    let said = String::from_utf8(output.stdout)?;
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [read, kib] = numbers[..] else {
        return Err(format!("the replay has failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    };
    if read != records as u64 {
        return Err(format!("{read} records read of {records}").into());
    }
    let side = |label, figure| Side { label, figures: vec![figure], ..Side::default() };
    let floor = side(format!("what it may take, of {mib} MiB"), LIMIT);
    Ok(Measured { floor, log: side(String::new(), kib as f64 / 1024.0), syncs: Syncs::None })
}

/// Opens the log and reads each record; says how many, and the KiB that were held at most.
pub fn child(log: &str, how: &str) -> Result<()> {
    let done = AtomicBool::new(false);
    let (records, kib) = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(anonymous()?);
                thread::sleep(Duration::from_millis(1));
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(most.max(anonymous()?))
        });
        let records = read(Path::new(log), how);
        done.store(true, Ordering::Relaxed);
        (records, watching.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    });
    println!("{} {}", records?, kib?);
    Ok(())
}

fn read(log: &Path, how: &str) -> Result<u64> {
    let mut records = 0;
    match how {
        "write" => {
            let wal = Wal::open(log)?;
            for record in wal.read(..)? {
                records += u64::from(record?.payload.len() == SIZE);
            }
            wal.close()?;
        }
        _ => {
            let view = Options::new().open_read_only(log)?;
            for record in view.read(..)? {
                records += u64::from(record?.payload.len() == SIZE);
            }
        }
    }
    Ok(records)
}

/// KiB of this process that lie in memory and in no file.
fn anonymous() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("the system does not tell RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
