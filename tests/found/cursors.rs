//! Faults of cursors.

use seawall::sim::Disk;
use seawall::{ErrorKind, Lsn, Options, Wal};

use super::small;

/// Notes of releases took the segment that is held in reserve and filled it: there was no room for the checkpoint that
/// would have had the log cleaned, in this life and in later ones.
#[test]
fn notes_leave_the_reserve_to_the_checkpoint() {
    let way_out = |wal: &Wal, case: &str| {
        wal.cursor("billing").unwrap().release(wal.durable_lsn()).unwrap();
        wal.append_checkpoint(&[8; 200]).unwrap_or_else(|e| panic!("{case}: {e}")).wait().unwrap();
        assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty(), "{case}");
        wal.append(&[1; 100]).unwrap_or_else(|e| panic!("{case}: {e}")).wait().unwrap();
    };
    for (full_disk, reopened) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = format!("a full disk {full_disk}, reopened {reopened}");
        let disk = Disk::new(3);
        disk.capacity(full_disk.then_some(112 << 10));
        let options = if full_disk { small() } else { small().max_disk_bytes(96 << 10) };
        let mut wal = options.open_on(disk.mount()).unwrap();
        wal.append_checkpoint(&[7; 200]).unwrap().wait().unwrap();
        let cursor = wal.cursor("billing").unwrap();
        while wal.append(&[1; 100]).is_ok() {}
        wal.sync().unwrap();
        for record in wal.read(cursor.lsn().unwrap()..).unwrap() {
            cursor.release(record.unwrap().end()).unwrap();
        }
        if reopened {
            wal.close().unwrap();
            wal = options.open_on(disk.mount()).unwrap();
            let cursor = wal.cursor("billing").unwrap();
            for _ in 0..1000 {
                cursor.release(Lsn(cursor.lsn().unwrap().0 + 4)).unwrap_or_else(|e| panic!("{case}: {e}"));
            }
        }
        way_out(&wal, &case);
    }
}

/// A new cursor has to be durable, so it is refused where an ordinary record is.
#[test]
fn a_full_log_has_no_room_for_a_new_cursor_but_for_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().max_disk_bytes(64 << 10).open(dir.path()).unwrap();
    wal.append_checkpoint(b"begin").unwrap().wait().unwrap();
    while wal.append(b"").is_ok() {}
    assert_eq!(*wal.cursor("late").unwrap_err().kind(), ErrorKind::LogFull);
    assert!(wal.cursors().is_empty());
    wal.append_checkpoint(b"here").unwrap().wait().unwrap();
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    wal.cursor("late").unwrap();
}

/// Lives of a full log that began with a release each took a segment beyond the bound, one a life.
#[test]
fn lives_that_begin_with_a_release_stay_below_the_bound() {
    const BOUND: u64 = 96 << 10;
    for killed in [false, true] {
        let disk = Disk::new(1);
        let open = || Options::new().segment_size(16 << 10).max_disk_bytes(BOUND).open_on(disk.mount()).unwrap();
        let wal = open();
        wal.append_checkpoint(b"state").unwrap().wait().unwrap();
        wal.cursor("reader").unwrap();
        while wal.append(&[1; 900]).is_ok() {}
        wal.close().unwrap();
        for life in 0..20 {
            let wal = open();
            let cursor = wal.cursor("reader").unwrap();
            cursor.release(Lsn(cursor.lsn().unwrap().0 + 4)).unwrap();
            wal.sync().unwrap();
            assert!(disk.used() <= BOUND, "life {life}, killed {killed}: {} bytes", disk.used());
            if killed {
                disk.kill();
            } else {
                wal.close().unwrap();
            }
        }
        let wal = open();
        wal.append_checkpoint(b"here").unwrap().wait().unwrap();
        wal.cursor("reader").unwrap().release(wal.durable_lsn()).unwrap();
        assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
    }
}
