//! One engine in a process of its own, so that the syncs of the process are the engine's.
//!
//! It is told `slice` and answers with records, nanoseconds and syncs; or `check`, closes, opens again, reads
//! everything and answers with `same` and the number of records, or what is wrong.

use std::io::BufRead;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::engines::{Engine, Peer};
use crate::{Result, payload, system};

/// How long a slice is.
pub const SLICE: Duration = Duration::from_millis(100);

/// Obeys until it has checked or nobody asks any more.
pub fn serve(peer: &Peer, dir: &Path, record: usize, threads: usize) -> Result<()> {
    std::fs::create_dir(dir)?;
    let engine = (peer.open)(dir)?;
    let mut payloads: Vec<Vec<u8>> = (0..threads).map(|thread| payload::new(record, thread)).collect();
    let mut counts = vec![0; threads];
    println!("open");
    for line in std::io::stdin().lock().lines() {
        if line? == "slice" {
            engine.prepare()?;
            let (records, before) = (counts.iter().sum::<u64>(), system::syncs());
            let time = slice(&*engine, &mut payloads, &mut counts)?;
            let syncs = system::syncs() - before;
            println!("{} {} {syncs}", counts.iter().sum::<u64>() - records, time.as_nanos());
        } else {
            engine.close()?;
            match check(peer, dir, record, &counts) {
                Ok(()) => println!("same {}", counts.iter().sum::<u64>()),
                Err(wrong) => println!("{wrong}"),
            }
            break;
        }
    }
    Ok(())
}

/// Has every thread append until the time is over; tells the time from the first start to the last end.
fn slice(engine: &dyn Engine, payloads: &mut [Vec<u8>], counts: &mut [u64]) -> Result<Duration> {
    let barrier = Barrier::new(payloads.len());
    let lap = |payload: &mut [u8], count: &mut u64| -> Result<(Instant, Instant)> {
        barrier.wait();
        let start = Instant::now();
        while start.elapsed() < SLICE {
            payload::set_count(payload, *count);
            engine.append(payload)?;
            *count += 1;
        }
        Ok((start, Instant::now()))
    };
    std::thread::scope(|scope| {
        let lap = &lap;
        let pairs = payloads.iter_mut().zip(counts);
        let laps: Vec<_> = pairs.map(|(payload, count)| scope.spawn(move || lap(payload, count))).collect();
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for lap in laps {
            let (start, end) = lap.join().map_err(|_| "a thread panicked")??;
            starts.push(start);
            ends.push(end);
        }
        Ok(ends.into_iter().max().zip(starts.into_iter().min()).map_or(Duration::ZERO, |(end, start)| end - start))
    })
}

/// Whether a closed log has exactly what was acknowledged.
fn check(peer: &Peer, dir: &Path, record: usize, counts: &[u64]) -> Result<()> {
    let mut expected: Vec<Vec<u8>> = (0..counts.len()).map(|thread| payload::new(record, thread)).collect();
    let mut seen = vec![0; counts.len()];
    let mut wrong = None;
    (peer.read_back)(dir, &mut |read| {
        let thread = if read.len() == record { payload::place(read).0 as usize } else { usize::MAX };
        let Some((expected, seen)) = expected.get_mut(thread).zip(seen.get_mut(thread)) else {
            wrong.get_or_insert_with(|| format!("a record of {} bytes that nobody appended", read.len()));
            return;
        };
        payload::set_count(expected, *seen);
        if read != *expected {
            wrong.get_or_insert_with(|| format!("record {seen} of thread {thread} is another, or out of order"));
        }
        *seen += 1;
    })?;
    if seen != counts {
        let (read, acknowledged) = (seen.iter().sum::<u64>(), counts.iter().sum::<u64>());
        let first = wrong.map_or(String::new(), |wrong| format!("; {wrong}"));
        return Err(format!("{read} records of {acknowledged} acknowledged{first}").into());
    }
    wrong.map_or(Ok(()), |wrong| Err(wrong.into()))
}
