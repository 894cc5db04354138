//! Beside a writer that appends, rotates, cleans and recycles meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seawall::{Lsn, Options, Record, Wal};

use crate::made::salvaged;
use crate::random::Random;

/// Records of which each says which it is.
fn payload(number: u64, random: &mut Random) -> Vec<u8> {
    let length = random.below(9000);
    [number.to_le_bytes().to_vec(), random.bytes(length)].concat()
}

/// Appends until it is told to stop. Now and then it cleans, syncs, or does neither for a while.
fn write(wal: &Wal, stop: &AtomicBool) {
    let (mut random, mut lsns) = (Random::new(31), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let ticket = wal.append(&payload(lsns.len() as u64 + 1, &mut random)).unwrap();
        lsns.push(ticket.lsn());
        if random.below(4) == 0 {
            ticket.wait().unwrap();
        }
        if random.below(100) == 0 && lsns.len() > 200 {
            wal.clean_before_lsn(lsns[lsns.len() - 100]).unwrap();
        }
    }
}

/// It failed where a file had gone, and reported damage where the writer had gone on.
#[test]
fn nothing_is_damaged_because_a_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    wal.append(&0_u64.to_le_bytes()).unwrap().wait().unwrap();
    let (stop, mut times) = (AtomicBool::new(false), 0);
    let look = || {
        let durable = wal.durable_lsn();
        let found = salvaged(&[dir.path()]);
        assert!(found.is_whole(), "{found:?}");
        // A file that is recycled and not begun yet holds a segment of which nothing tells where it lay.
        let Some(told) = found.logs().iter().find(|told| told.log_id.is_some()) else {
            assert!(!found.notes.is_empty(), "all of it may have been cleaned before it was read");
            return 0;
        };
        let read: Vec<_> = found.records(told).map(Result::unwrap).collect();
        // All that was not cleaned meanwhile, without a gap.
        let first = wal.read(..).unwrap().next().unwrap().unwrap().lsn;
        let left: Vec<_> = read.iter().filter(|record| record.lsn >= first).collect();
        let number = |record: &Record| u64::from_le_bytes(record.payload[..8].try_into().unwrap());
        assert!(left.windows(2).all(|pair| number(pair[0]) + 1 == number(pair[1])), "{told}");
        // What MARK said before may be behind what was durable, by no more than a segment; or all of that was cleaned.
        let near = |lsn: Lsn| lsn.0 + 2 * (64 << 10) > durable.0;
        assert!(near(told.last) || near(first), "{told} of {durable}");
        usize::from(found.notes.iter().any(|note| note.contains("a writer went on")))
    };
    thread::scope(|scope| {
        scope.spawn(|| write(&wal, &stop));
        let begun = Instant::now();
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while begun.elapsed() < Duration::from_secs(6) {
                times += look();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(times > 3, "{times}");
    // Nobody writes any more: what is damaged now is damage.
    drop(wal);
    assert!(salvaged(&[dir.path()]).notes.is_empty());
    for path in crate::made::segments(dir.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    assert!(!salvaged(&[dir.path()]).is_whole());
}
