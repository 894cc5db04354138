//! What a read-only follower in another process costs the writer.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seawall::{Lsn, Options};

use crate::common::Result;
use crate::common::engine::Engine;
use crate::common::measure::{Bench, Measured, Side, Syncs, Target, Workload, interleave, payload, race};
use crate::common::report::size_of;

/// What the bench calls itself with to follow a log.
pub const CHILD: &str = "--follow";
const SIZE: usize = 1 << 10;
/// The last record of a slice, after which the follower rests.
const STOP: &[u8] = b"stop";
const PATIENCE: Duration = Duration::from_secs(60);

/// All of them.
pub fn workloads() -> Vec<Workload> {
    let row = |(threads, target): (usize, f64)| {
        let name = format!("followed, {} x {threads}", size_of(SIZE));
        let run = Box::new(move |bench: &Bench| followed(bench, threads));
        Workload { name, target: Target::AtLeast(target), run }
    };
    [(1, 0.95), (64, 0.9)].map(row).into()
}

/// The same log in both: in the one slice nobody reads it, in the other a follower reads all of it.
fn followed(bench: &Bench, threads: usize) -> Result<Measured> {
    let payload = payload(SIZE);
    let engine = Engine::warm(&bench.dir, "log", bench.segment())?;
    let mut follower = Follower::start(&engine.path)?;
    let append = || {
        let (records, time) = race(threads, SIZE as u64, bench.limit(), || {
            engine.wal.append(&payload)?.wait()?;
            Ok(())
        })?;
        let start = Instant::now();
        engine.wal.append(STOP)?.wait()?;
        Ok((records + 1, time + start.elapsed()))
    };
    let mut alone = || engine.slice(append);
    let mut beside = || {
        engine.slice(|| {
            follower.follow(engine.wal.durable_lsn())?;
            let (records, time) = append()?;
            let read = follower.read()?;
            if read != records {
                return Err(format!("the follower read {read} records of {records}").into());
            }
            Ok((records, time))
        })
    };
    let (floor, log) = interleave(bench.rounds, &mut alone, &mut beside)?;
    let syncs = if threads == 1 { Syncs::Each(1) } else { Syncs::Grouped(threads as u64) };
    Ok(Measured { floor: Side { label: "without a follower".into(), ..floor }, log, syncs })
}

/// The process that follows when it is told to. Ended when it is dropped.
struct Follower {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Follower {
    fn start(log: &Path) -> Result<Follower> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CHILD).arg(log).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let said = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Follower { child, said })
    }

    /// Has it follow from an LSN; it does when this returns.
    fn follow(&mut self, from: Lsn) -> Result<()> {
        let stdin = self.child.stdin.as_mut().ok_or("no pipe")?;
        stdin.write_all(format!("{from}\n").as_bytes())?;
        self.read().map(drop)
    }

    /// The number that it says next.
    fn read(&mut self) -> Result<u64> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        line.trim().parse().map_err(|_| "the follower has failed".into())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Follows from each LSN on standard input to the next stop, and says how many records it read.
pub fn child(log: &str) -> Result<()> {
    for line in std::io::stdin().lines() {
        let view = Options::new().open_read_only(log)?;
        let mut follower = view.follow(Lsn(line?.parse()?));
        let mut next = follower.try_next()?;
        println!("0");
        let mut records = 0;
        loop {
            let record = match next.take() {
                Some(record) => record,
                None => follower.next_timeout(PATIENCE)?.ok_or("nothing comes")?,
            };
            records += 1;
            if record.payload == STOP {
                break;
            }
        }
        println!("{records}");
    }
    Ok(())
}
