//! Row 31: copies of a log, made beside its writer or by hand.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use seawall::check::Verify;
use seawall::sim::Disk;
use seawall::{ErrorKind, Lsn, Wal};

use crate::common::{fill, filled, is_damage, payload, payloads, segments, small};
use crate::spec;
use crate::stops::Stops;

const LENGTH: usize = 700;

/// Copies a log beside its writer, by the order that `DESIGN.md` gives; `None` if the writer cleaned meanwhile.
fn copy_live(from: &Path, to: &Path) -> io::Result<Option<()>> {
    let mark = fs::read(from.join("MARK"))?;
    let (synced, front) = (spec::synced(&mark), spec::front(&mark));
    fs::write(to.join("MARK"), &mark)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name().into_string().unwrap();
        let Some(base) = name.strip_suffix(".wal").and_then(|base| base.parse::<u64>().ok()) else { continue };
        if !(front..synced).contains(&base) {
            continue;
        }
        let file = match File::open(from.join(&name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        (&file).take(synced - base).read_to_end(&mut bytes)?;
        let mut header = [0; 72];
        file.read_exact_at(&mut header, 0)?;
        if !bytes.starts_with(&header) || spec::u64_at(&header, 48) != base {
            return Ok(None);
        }
        fs::write(to.join(&name), bytes)?;
    }
    Ok((spec::front(&fs::read(from.join("MARK"))?) == front).then_some(()))
}

/// Copies file by file, as `cp -r` does.
fn copy_plainly(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // What the writer recycles meanwhile is gone.
        _ = fs::copy(entry.path(), to.join(entry.file_name()));
    }
}

/// Runs `copies` beside a writer that rotates, cleans and is never still. It is given what was acknowledged last.
fn beside_a_writer(from: &Path, copies: impl FnOnce(&AtomicU32)) {
    let (acknowledged, done) = (AtomicU32::new(0), AtomicBool::new(false));
    let ends = Stops(&done);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wal = small().open(from).unwrap();
            for n in 0_u32.. {
                wal.append(&payload(n, LENGTH)).unwrap().wait().unwrap();
                acknowledged.store(n, Ordering::SeqCst);
                if n % 40 == 39 {
                    wal.clean_before_lsn(Lsn(wal.durable_lsn().0.saturating_sub(64 << 10))).unwrap();
                }
                if done.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        while acknowledged.load(Ordering::SeqCst) < 100 {
            std::thread::yield_now();
        }
        let ends = ends;
        copies(&acknowledged);
        drop(ends);
    });
}

/// The numbers of the records of a log, which follow one another; where they begin and end.
fn numbers(wal: &Wal) -> (u32, u32) {
    follow_one_another(payloads(wal))
}

fn follow_one_another(found: Vec<Vec<u8>>) -> (u32, u32) {
    let first = found.first().map_or(0, |payload| spec::u32_at(payload, 0));
    let end = first + found.len() as u32;
    assert_eq!(found, filled(first..end, LENGTH));
    (first, end)
}

#[test]
fn row_31_a_copy_made_beside_the_writer_opens_at_its_durable_point() {
    let dir = tempfile::tempdir().unwrap();
    beside_a_writer(&dir.path().join("log"), |acknowledged| {
        let (mut made, mut again) = (0, 0);
        while made < 100 {
            let to = tempfile::tempdir().unwrap();
            let before = acknowledged.load(Ordering::SeqCst);
            if copy_live(&dir.path().join("log"), to.path()).unwrap().is_none() {
                again += 1;
                assert!(again < 10_000, "the writer is always faster");
                continue;
            }
            let durable = spec::synced(&fs::read(to.path().join("MARK")).unwrap());
            let wal = small().open(to.path()).unwrap();
            assert!(wal.recovery().torn.is_none(), "{}", wal.recovery());
            assert_eq!(wal.durable_lsn(), Lsn(durable));
            let (_, end) = numbers(&wal);
            assert!(end > before, "{end} records of {before} that were acknowledged");
            wal.append(&payload(end, LENGTH)).unwrap().wait().unwrap();
            assert_eq!(numbers(&wal).1, end + 1);
            made += 1;
        }
        println!("{made} copies opened, {again} were begun again");
    });
}

#[test]
fn row_31_a_plain_copy_of_a_live_log_opens_or_is_refused_and_is_never_wrong() {
    let dir = tempfile::tempdir().unwrap();
    beside_a_writer(&dir.path().join("log"), |_| {
        let (mut opened, mut refused) = (0, 0);
        for _ in 0..100 {
            let to = tempfile::tempdir().unwrap();
            copy_plainly(&dir.path().join("log"), to.path());
            match small().open(to.path()) {
                Ok(wal) => {
                    // What was copied while it was written may be met as damage, on reading.
                    let records = wal.read(..).unwrap().map_while(|record| {
                        record.inspect_err(|e| assert!(matches!(e.kind(), ErrorKind::Damage(_)), "{e}")).ok()
                    });
                    follow_one_another(records.map(|record| record.payload.to_vec()).collect());
                    opened += 1;
                }
                Err(e) => {
                    assert!(matches!(e.kind(), ErrorKind::Damage(_)), "{e}");
                    refused += 1;
                }
            }
        }
        println!("{opened} plain copies opened, {refused} were refused");
        assert!(opened > 0);
    });
}

#[test]
fn row_31_a_moved_log_needs_no_repair() {
    let dir = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
    let wal = small().open(&from).unwrap();
    let cursor = wal.cursor("reader").unwrap().lsn().unwrap();
    for n in 0..100 {
        wal.append(&payload(n, LENGTH)).unwrap().wait().unwrap();
    }
    let (id, durable) = (wal.log_id(), wal.durable_lsn());
    drop(wal);
    fs::rename(&from, &to).unwrap();
    let wal = small().open(&to).unwrap();
    assert_eq!((wal.log_id(), wal.durable_lsn(), numbers(&wal)), (id, durable, (0, 100)));
    assert_eq!(wal.cursor("reader").unwrap().lsn().unwrap(), cursor);
    assert!(wal.recovery().torn.is_none(), "{}", wal.recovery());
    assert_eq!(*small().create(false).open(&from).unwrap_err().kind(), ErrorKind::NotFound);
}

/// The log and its copy are one by identity and names; what tells their segments apart is the seed in the next one's link. Of
/// a newest segment that follows one of both, as the first after the copy was made, no link tells.
#[test]
fn row_31_a_segment_of_a_copy_that_went_on_is_none_of_the_log() {
    let log = Disk::new(31);
    let wal = small().open_on(log.mount()).unwrap();
    fill(&wal, 0..3, LENGTH);
    wal.close().unwrap();
    drop(wal);
    let copy = log.fork();
    copy.reseed(32);
    for (disk, first) in [(&log, 3), (&copy, 1000)] {
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, first..first + 60, LENGTH);
        wal.close().unwrap();
    }
    let names = segments(&log);
    assert_eq!(names, segments(&copy));
    let used = names.iter().filter(|name| log.file(name).unwrap().len() > 4096).collect::<Vec<_>>();
    assert!(used.len() > 3);
    for name in &used[1..] {
        let mixed = log.fork();
        mixed.put(name, copy.file(name).unwrap());
        let opened = small().open_on(mixed.mount());
        assert!(is_damage(&opened), "{name}: {opened:?}");
        let read = small().open_read_only_on(mixed.mount());
        assert!(is_damage(&read), "{name}, read only: {read:?}");
        let report = Verify::new().run_on(mixed.mount()).unwrap();
        assert!(!report.is_clean(), "{name}: {report}");
    }
}
