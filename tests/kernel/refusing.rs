//! A device that refuses to write, met by the kernel after `write` has returned: the sync fails, the pages look clean.

use std::path::PathBuf;

use seawall::{Error, ErrorKind, Lsn, Options, Wal};

use crate::mounted::Mounted;
use crate::random::Random;

/// Nothing that a device can make smaller.
fn payload(n: u32) -> Vec<u8> {
    Random::new(u64::from(n)).bytes(20_000)
}

/// What came of appending until the device refused.
struct Refused {
    acknowledged: usize,
    /// Acknowledged, and not there once the device takes all again.
    lost: usize,
    error: Option<Error>,
}

/// Appends until an error, or so many records.
fn fill(wal: &Wal, most: u32, acknowledged: &mut Vec<(Lsn, u32)>) -> Option<Error> {
    for n in 0..most {
        match wal.append(&payload(n)).and_then(|ticket| ticket.wait()) {
            Ok(lsn) => acknowledged.push((lsn, n)),
            Err(e) => return Some(e),
        }
    }
    None
}

/// A log whose device has refused a sync, and takes all again.
struct Stopped {
    mounted: Mounted,
    dir: PathBuf,
    acknowledged: Vec<(Lsn, u32)>,
    error: Option<Error>,
}

/// Until the device refuses. `None`: it cannot be had here.
///
/// The first segment of a log is allocated, and its blocks are first written by commits: it is the sync of one that
/// the device refuses, long before the next segment is made.
fn stopped(kind: &'static str, takes: u64, options: &Options) -> Option<Stopped> {
    let mounted = Mounted::refusing(kind, 600, takes)?;
    let dir = mounted.dir().join("log");
    let wal = options.open(&dir).unwrap();
    let mut acknowledged = Vec::new();
    let error = fill(&wal, u32::try_from(takes * 55).unwrap(), &mut acknowledged);
    if let Some(error) = &error {
        println!("{kind}: after {} records: {error}", acknowledged.len());
        let again = wal.append(&payload(0)).and_then(|ticket| ticket.wait()).unwrap_err();
        assert_eq!((again.kind(), wal.close().unwrap_err().kind()), (&ErrorKind::Poisoned, &ErrorKind::Poisoned));
    }
    drop(wal);
    mounted.give_room();
    Some(Stopped { mounted, dir, acknowledged, error })
}

/// And beyond.
fn refused(kind: &'static str, takes: u64, options: Options) -> Option<Refused> {
    let options = options.segment_size(128 << 20);
    let Stopped { mut mounted, dir, acknowledged, error } = stopped(kind, takes, &options)?;
    mounted.mount_again();
    let lost = match options.open(&dir) {
        Ok(wal) => lost(&wal, &acknowledged),
        Err(e) => {
            println!("{kind}: {e}");
            acknowledged.len()
        }
    };
    Some(Refused { acknowledged: acknowledged.len(), lost, error })
}

/// How many acknowledged records are not there; the log goes on.
fn lost(wal: &Wal, acknowledged: &[(Lsn, u32)]) -> usize {
    let found: Vec<_> = wal.read(..).unwrap().map(Result::unwrap).map(|record| (record.lsn, record.payload)).collect();
    for ((_, found), n) in found.iter().zip(0..) {
        assert_eq!(found, &payload(n));
    }
    wal.append(&payload(0)).unwrap().wait().unwrap();
    wal.close().unwrap();
    let there = found.iter().zip(acknowledged).filter(|((found, _), (lsn, _))| found == lsn).count();
    acknowledged.len() - there
}

fn a_commit_is_refused(kind: &'static str, takes: u64) {
    let Some(refused) = refused(kind, takes, Options::new()) else { return };
    let error = refused.error.unwrap();
    assert_eq!(*error.kind(), ErrorKind::Poisoned, "{error}");
    assert!(refused.acknowledged > 500, "{} records are no trial", refused.acknowledged);
    assert_eq!(refused.lost, 0);
}

#[test]
fn ext4_refuses_a_commit() {
    a_commit_is_refused("ext4", 50);
}

#[test]
fn xfs_refuses_a_commit() {
    a_commit_is_refused("xfs", 110);
}

/// What these tests would see of a log that believes the second answer: the pages look clean by then.
#[cfg(feature = "sim")]
#[test]
fn a_sync_that_is_tried_again_loses_what_it_says_is_durable() {
    // Now and then the kernel refuses the second time too, and nobody is told a wrong thing.
    for _ in 0..5 {
        let options = Options::new().plant(seawall::sim::Bug::RetryFailedSync);
        let Some(refused) = refused("xfs", 110, options) else { return };
        println!("tried again: {} of {} records lost", refused.lost, refused.acknowledged);
        if refused.lost > 0 {
            return;
        }
        assert!(refused.error.is_some(), "nothing was refused");
    }
    panic!("five times nothing was lost");
}

/// Opened where it is, with the pages that look clean and are not on the disk: the kernel forgets them before the last read
/// that recovery makes of them. What is shown then must be there, and what is appended behind it.
#[cfg(feature = "sim")]
fn opened_while_pages_go(kind: &'static str, takes: u64, options: Options) -> Option<Result<(), String>> {
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use seawall::sim::{Failing, Fault, Operation};
    use seawall::storage::Fs;

    let options = options.segment_size(128 << 20);
    let Stopped { mounted: _mounted, dir, acknowledged, .. } = stopped(kind, takes, &options)?;
    // How many reads it makes before it first writes; that fails, and nothing was changed.
    let dry = Failing::new(Arc::new(Fs::new(&dir)));
    dry.fail(Fault::new(Operation::Write).for_good());
    let refused = options.open_on(Arc::clone(&dry) as _).unwrap_err();
    let last = dry.count(Operation::Read);
    if dry.count(Operation::Write) == 0 {
        crate::mounted::cannot(&format!("{kind} has shut itself down: {refused}"));
        return None;
    }
    let failing = Failing::new(Arc::new(Fs::new(&dir)));
    let (reads, segment) = (AtomicU64::new(0), dir.join("00000000000000000000.wal"));
    failing.before(Operation::Read, move || {
        if reads.fetch_add(1, Ordering::SeqCst) + 1 == last {
            // Of dd's own: the kernel is asked to keep no page of the file.
            let of = format!("if={}", segment.display());
            let dd = Command::new("dd").args([&*of, "iflag=nocache", "count=0"]).output().unwrap();
            assert!(dd.status.success(), "{dd:?}");
        }
    });
    let wal = options.open_on(failing).unwrap();
    let records = wal.read(..).unwrap().collect::<seawall::Result<Vec<_>>>();
    wal.append(&payload(0)).unwrap().wait().unwrap();
    Some(match records {
        Err(e) => Err(e.to_string()),
        Ok(records) => {
            let lsns: Vec<_> = records.iter().map(|record| record.lsn).collect();
            assert!(acknowledged.iter().all(|(lsn, _)| lsns.contains(lsn)));
            assert_eq!(wal.read(..).unwrap().map(Result::unwrap).count(), records.len() + 1);
            println!("{kind}: {} records, {} acknowledged", records.len(), acknowledged.len());
            Ok(())
        }
    })
}

#[cfg(feature = "sim")]
#[test]
fn ext4_forgets_pages_while_the_log_is_opened() {
    let Some(opened) = opened_while_pages_go("ext4", 50, Options::new()) else { return };
    opened.unwrap();
}

#[cfg(feature = "sim")]
#[test]
fn xfs_forgets_pages_while_the_log_is_opened() {
    // Its own log may be refused too, and it ends then.
    let opened = (0..5).find_map(|_| opened_while_pages_go("xfs", 110, Options::new()));
    opened.map_or(Ok(()), |opened| opened).unwrap();
}

#[cfg(feature = "sim")]
#[test]
fn what_is_written_again_unverified_is_not_there() {
    let options = Options::new().plant(seawall::sim::Bug::RewriteUnverified);
    let Some(opened) = opened_while_pages_go("ext4", 50, options) else { return };
    println!("unverified: {}", opened.expect_err("nothing was seen of it"));
}
