//! Faults of making segments.

use seawall::sim::Disk;
use seawall::{ErrorKind, Lsn, Options, Wal};

use super::{small, soon};

/// Nobody made the segment that a refused `try_append` needed, unless the newest one was half full.
#[test]
fn a_refused_try_append_has_its_segment_made() {
    fn later(what: &str, disk: &Disk, mut append: impl FnMut() -> seawall::Result<()>) {
        assert_eq!(append().map_err(|e| e.kind().clone()), Err(ErrorKind::Backpressure), "{what}");
        disk.settle();
        append().unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let disk = Disk::new(1);
    let options = Options::new().segment_size(1 << 20).segment_age(10);
    let wal = options.open_on(disk.mount()).unwrap();
    later("at first", &disk, || wal.at(1).try_append(b"x").map(drop));
    let (most, more) = (vec![1; 400 << 10], vec![2; 700 << 10]);
    wal.append(&most).unwrap().wait().unwrap();
    later("too large for what is left", &disk, || wal.try_append(&more).map(drop));
    wal.sync().unwrap();
    wal.rotate().unwrap();
    wal.append(b"y").unwrap().wait().unwrap();
    later("of another age", &disk, || wal.at(100).try_append(b"z").map(drop));
    wal.close().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let wal = options.open(dir.path()).unwrap();
    soon("an append", || wal.try_append(b"x").is_ok());
}

/// On a full log or disk `try_append` said for ever that a segment was not ready, so that nobody cleaned.
#[test]
fn try_append_says_what_is_full_until_there_is_room() {
    for bounded in [true, false] {
        let disk = Disk::new(2);
        let options = if bounded { small().max_disk_bytes(6 * (16 << 10)) } else { small() };
        let wal = options.open_on(disk.mount()).unwrap();
        let kind = if bounded { ErrorKind::LogFull } else { ErrorKind::DiskFull };
        wal.append(b"first").unwrap().wait().unwrap();
        disk.capacity((!bounded).then(|| disk.used() + (32 << 10)));
        let fill = |wal: &Wal| while wal.append(&[1; 3000]).map(|ticket| ticket.wait().unwrap()).is_ok() {};
        let refused = |wal: &Wal| wal.try_append(&[1; 3000]).map(drop).map_err(|e| e.kind().clone());
        fill(&wal);
        _ = refused(&wal);
        disk.settle();
        for _ in 0..2 {
            assert_eq!(refused(&wal), Err(kind.clone()));
        }
        disk.settle();
        assert_eq!(refused(&wal), Err(kind.clone()));
        assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
        assert_eq!(refused(&wal), Err(ErrorKind::Backpressure), "what was full may not be any more");
        disk.settle();
        refused(&wal).unwrap();
        fill(&wal);
        _ = refused(&wal);
        disk.settle();
        assert_eq!(refused(&wal), Err(kind));
        if !bounded {
            // Room that somebody else gave back.
            disk.capacity(None);
            _ = refused(&wal);
            disk.settle();
            refused(&wal).unwrap();
        }
    }
}
