//! A device that refuses to write, met by the kernel after `write` has returned: the sync fails, the pages look clean.

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

/// Until the device refuses, and beyond. `None`: it cannot be had here.
///
/// The first segment of a log is allocated, and its blocks are first written by commits: it is the sync of one that
/// the device refuses, long before the next segment is made.
fn refused(kind: &'static str, takes: u64, options: Options) -> Option<Refused> {
    let options = options.segment_size(128 << 20);
    let mut mounted = Mounted::refusing(kind, 600, takes)?;
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
