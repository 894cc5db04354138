//! A real disk that is full.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use seawall::{ErrorKind, Lsn, Options, Wal};

use crate::mounted::Mounted;

fn payload(n: u32) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(20_000, n.to_le_bytes()[0]);
    payload
}

/// Appends until the disk is full; what is acknowledged.
fn fill(wal: &Wal, records: &mut Vec<(Lsn, u32)>) {
    loop {
        let n = u32::try_from(records.len()).unwrap();
        match wal.append(&payload(n)) {
            Ok(ticket) => records.push((ticket.wait().unwrap(), n)),
            Err(e) => {
                assert_eq!(*e.kind(), ErrorKind::DiskFull, "{e:?}");
                assert!(e.is_backpressure());
                return;
            }
        }
    }
}

/// The same where room was given back, of which the file system may have come to know late, until there are `least` more.
fn fill_on(wal: &Wal, records: &mut Vec<(Lsn, u32)>, least: usize) {
    let (before, began) = (records.len(), Instant::now());
    fill(wal, records);
    while records.len() < before + least {
        let more = records.len() - before;
        assert!(began.elapsed() < Duration::from_secs(60), "{more} records of {least} in the room given back");
        thread::sleep(Duration::from_millis(20));
        fill(wal, records);
    }
}

/// Takes every byte that is left, into a file that is not the log's.
fn take_the_rest(path: &Path) {
    for size in [1 << 20, 4096, 1] {
        let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
        let bytes = vec![b'x'; size];
        while file.write_all(&bytes).and_then(|()| file.flush()).is_ok() {}
        // Where blocks are only reserved when written, a sync meets what is left.
        _ = Command::new("sync").arg(path).status();
    }
}

fn all_there(wal: &Wal, records: &[(Lsn, u32)], first: Lsn) {
    let found: Vec<_> = wal.read(..).unwrap().map(Result::unwrap).collect();
    let expected: Vec<_> = records.iter().filter(|(lsn, _)| *lsn >= first).collect();
    assert_eq!(found.len(), expected.len());
    for (record, (lsn, n)) in found.iter().zip(expected) {
        assert_eq!(record.lsn, *lsn);
        assert_eq!(record.payload, payload(*n));
    }
}

fn a_full_disk(kind: &'static str, mebibytes: u64) {
    let Some(mounted) = Mounted::new(kind, mebibytes) else { return };
    let dir = mounted.dir().join("log");
    let filler = mounted.dir().join("filler");
    fs::write(&filler, vec![b'x'; 8 << 20]).unwrap();
    let options = Options::new().segment_size(1 << 20);
    let wal = options.open(&dir).unwrap();
    let mut records = Vec::new();
    fill(&wal, &mut records);
    take_the_rest(&filler);
    let before = records.len();
    assert!(before > 400, "{kind}: {before} records before the disk was full");
    // Full again and again, and nothing is left behind by an append that was refused.
    fill(&wal, &mut records);
    all_there(&wal, &records, Lsn::ZERO);
    wal.close().unwrap();
    drop(wal);

    // With zero bytes free it opens, reads, and is verified.
    take_the_rest(&filler);
    let view = options.open_read_only(&dir).unwrap();
    assert_eq!(view.read(..).unwrap().map(Result::unwrap).count(), records.len());
    // It would hold the room of what is cleaned below.
    drop(view);
    let report = seawall::check::verify(&dir).unwrap();
    assert!(report.is_clean() && report.records == records.len() as u64, "{report}");
    let wal = options.open(&dir).unwrap();
    all_there(&wal, &records, Lsn::ZERO);
    let refused = wal.append(&payload(0)).map(drop);
    assert!(refused.is_err_and(|e| *e.kind() == ErrorKind::DiskFull));

    // Cleaning needs no byte; appends go on by themselves in what it gave back.
    let limit = records[records.len() / 2].0;
    let cleaned = wal.clean_before_lsn(limit).unwrap();
    assert!(cleaned.removed.len() > 3 && cleaned.failed.is_empty(), "{cleaned:?}");
    all_there(&wal, &records, cleaned.first);
    fill_on(&wal, &mut records, 40);
    all_there(&wal, &records, cleaned.first);

    // So they do when somebody else gives room back.
    fs::remove_file(&filler).unwrap();
    fill_on(&wal, &mut records, 200);
    wal.close().unwrap();
    let wal = options.open(&dir).unwrap();
    all_there(&wal, &records, cleaned.first);
    wal.close().unwrap();
    println!("{kind}: full at {before} records, {} in all", records.len());
}

#[test]
fn a_full_ext4() {
    a_full_disk("ext4", 32);
}

#[test]
fn a_full_xfs() {
    // The smallest that mkfs.xfs makes.
    a_full_disk("xfs", 300);
}
