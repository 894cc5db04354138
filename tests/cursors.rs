//! Cursors: made, released, removed; what they keep, and what is left of them after a crash.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use seawall::sim::{Disk, Failing, Fault, Keep, Operation};
use seawall::{ErrorKind, Lsn, Options, Wal, Why};

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

/// `count` segments of two records each, and a newest one; the records' ends.
fn fill(wal: &Wal, count: u8) -> Vec<Lsn> {
    let mut ends = Vec::new();
    for n in 0..count {
        for _ in 0..2 {
            let lsn = wal.append(&[n; 5000]).unwrap().wait().unwrap();
            ends.push(wal.get(lsn).unwrap().end());
        }
        wal.rotate().unwrap();
    }
    wal.append(b"newest").unwrap().wait().unwrap();
    ends
}

fn stand(wal: &Wal) -> Vec<(String, u64)> {
    wal.cursors().into_iter().map(|(name, lsn)| (name, lsn.0)).collect()
}

#[test]
fn cleaning_never_passes_a_cursor_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let [slow, fast] = ["slow", "fast"].map(|name| wal.cursor(name).unwrap());
    let ends = fill(&wal, 4);
    fast.release(ends[7]).unwrap();
    slow.release(ends[2]).unwrap();
    let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert_eq!(cleaned.removed.len(), 1, "{cleaned:?}");
    assert_eq!(cleaned.kept[0].why, Why::Cursor { name: "slow".to_owned(), lsn: ends[2] });
    slow.release(ends[3]).unwrap();
    let cleaned = wal.clean_before_batch_time(u64::MAX).unwrap();
    assert_eq!(cleaned.removed.len(), 1, "{cleaned:?}");
    // Its segment ended there, and is gone; nothing that it was to read is.
    assert_eq!(wal.read(slow.lsn().unwrap()..).unwrap().count(), 5);
    assert_eq!(wal.read(Lsn(ends[3].0 - 4)..).unwrap().count(), 5, "no record began there");
    let below = Lsn(ends[3].0 - 24 - 5000);
    let error = wal.read(below..).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Removed { lsn: below, first: cleaned.first });
    slow.remove().unwrap();
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 2);
}

#[test]
fn cursors_outlive_the_process_rotation_and_a_power_cut() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    let made = wal.cursor("made").unwrap().lsn().unwrap();
    drop(wal.cursor("gone").unwrap().remove());
    let ends = fill(&wal, 2);
    let released = wal.cursor("released").unwrap();
    released.release(ends[1]).unwrap();
    wal.sync().unwrap();
    // Neither is durable.
    released.release(ends[3]).unwrap();
    let kept = [("made".to_owned(), made.0), ("released".to_owned(), ends[1].0)];
    disk.crash(Keep::None);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(stand(&wal), kept);
    let view = small().open_read_only_on(disk.mount()).unwrap();
    assert_eq!(view.cursors().len(), 2);
    fill(&wal, 3);
    wal.close().unwrap();
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(stand(&wal), kept);
}

#[test]
fn a_release_that_a_clean_used_survives_with_it() {
    let disk = Disk::new(2);
    let wal = small().open_on(disk.mount()).unwrap();
    let cursor = wal.cursor("reader").unwrap();
    let ends = fill(&wal, 3);
    cursor.release(ends[3]).unwrap();
    let first = wal.clean_before_lsn(Lsn::MAX).unwrap().first;
    disk.crash(Keep::None);
    let wal = small().open_on(disk.mount()).unwrap();
    let now = wal.cursor("reader").unwrap().lsn().unwrap();
    assert!(now >= ends[3] && wal.recovery().first == first, "{now} {ends:?}");
    assert_eq!(wal.read(now.max(first)..).unwrap().count(), 3);
}

/// Not even the note can be made, and the clean is durable by itself: the cursor begins where the log does.
#[test]
fn a_cursor_whose_release_was_not_noted_stands_at_the_front() {
    let disk = Disk::new(9);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(disk.mount()).unwrap();
    let name = wal.cursor("reader").unwrap().name().to_owned();
    let ends = fill(&wal, 3);
    wal.close().unwrap();
    let wal = small().open_on(failing.clone()).unwrap();
    failing.fail(Fault::new(Operation::Create).kind(std::io::ErrorKind::PermissionDenied).for_good());
    wal.cursor(&name).unwrap().release(ends[3]).unwrap();
    let first = wal.clean_before_lsn(Lsn::MAX).unwrap().first;
    assert!(first > ends[1], "{first} {ends:?}");
    disk.crash(Keep::None);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!((wal.recovery().first, stand(&wal)), (first, vec![(name, first.0)]));
}

#[test]
fn a_cursor_only_goes_up_and_not_beyond_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let cursor = wal.cursor("reader").unwrap();
    let ends = fill(&wal, 1);
    cursor.release(ends[1]).unwrap();
    cursor.release(ends[0]).unwrap();
    assert_eq!(cursor.lsn().unwrap(), ends[1]);
    let beyond = Lsn(wal.durable_lsn().0 + 4);
    let error = cursor.release(beyond).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotDurable { lsn: beyond, durable: wal.durable_lsn() });
    assert_eq!(wal.cursor("reader").unwrap().lsn().unwrap(), ends[1], "found, not made anew");
    let other = cursor.clone();
    cursor.remove().unwrap();
    for error in [other.lsn().unwrap_err(), other.release(ends[1]).unwrap_err(), other.remove().unwrap_err()] {
        assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
    }
    wal.close().unwrap();
    assert_eq!(*wal.cursor("reader").unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn sixteen_cursors_of_two_hundred_bytes_fit() {
    let dir = tempfile::tempdir().unwrap();
    let name = |n: u32| format!("{n:02}{}", "ä".repeat(99));
    let expected: BTreeMap<_, _> = (0..16).map(|n| (name(n), Lsn(4096))).collect();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..16 {
        wal.cursor(&name(n)).unwrap();
    }
    for bad in [name(16), String::new(), "x".repeat(201)] {
        assert_eq!(*wal.cursor(&bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
    fill(&wal, 2);
    wal.close().unwrap();
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(wal.cursors(), expected);
    wal.cursor(&name(3)).unwrap().remove().unwrap();
    wal.cursor(&name(16)).unwrap();
}

#[test]
fn a_full_log_is_got_out_of_by_a_release() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().max_disk_bytes(96 << 10).open(dir.path()).unwrap();
    let cursor = wal.cursor("reader").unwrap();
    while wal.append(&[1; 5000]).is_ok() {}
    assert_eq!(*wal.append(&[1; 5000]).unwrap_err().kind(), ErrorKind::LogFull);
    wal.sync().unwrap();
    assert!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
    cursor.release(wal.durable_lsn()).unwrap();
    assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
    wal.append(&[1; 5000]).unwrap().wait().unwrap();
}

#[test]
fn a_release_needs_no_room_on_a_full_disk() {
    let disk = Disk::new(3);
    let wal = small().open_on(disk.mount()).unwrap();
    let cursor = wal.cursor("reader").unwrap();
    let ends = fill(&wal, 2);
    disk.fail(Fault::new(Operation::Write).on(".wal").kind(std::io::ErrorKind::StorageFull).for_good());
    cursor.release(ends[3]).unwrap();
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 2);
}

/// The second to ask for a cursor was told that it stands before it was durable.
#[test]
fn a_cursor_that_another_thread_is_making_is_durable_too_when_it_is_given() {
    let disk = Disk::new(7);
    disk.threads(true);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(failing.clone()).unwrap();
    wal.append(b"one").unwrap().wait().unwrap();
    let hold = failing.hold(Operation::Sync);
    thread::scope(|scope| {
        let first = scope.spawn(|| wal.cursor("x").map(drop));
        hold.wait_for(1);
        let second = scope.spawn(|| wal.cursor("x").map(drop));
        thread::sleep(Duration::from_millis(200));
        assert!(!second.is_finished());
        drop(hold);
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    });
}

#[test]
fn handles_go_by_the_name() {
    let wal = small().open_on(Disk::new(7).mount()).unwrap();
    fill(&wal, 3);
    let first = wal.cursor("billing").unwrap();
    let left = first.clone();
    first.remove().unwrap();
    assert_eq!(*left.lsn().unwrap_err().kind(), ErrorKind::Invalid);
    let next = wal.cursor("billing").unwrap();
    left.release(wal.durable_lsn()).unwrap();
    assert_eq!(next.lsn().unwrap(), wal.durable_lsn());
}

/// Its note was framed, and could not be written: the second to ask was given a cursor that no opening would find.
#[test]
fn a_cursor_whose_note_could_not_be_written_is_none() {
    let disk = Disk::new(7);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(b"one").unwrap().wait().unwrap();
    // Leaves a full piece, which whoever frames next writes.
    _ = wal.append(b"two").unwrap();
    wal.rotate().unwrap();
    disk.fail(Fault::new(Operation::Write).on(".wal"));
    for _ in 0..3 {
        assert_eq!(wal.cursor("billing").unwrap_err().kind(), &ErrorKind::Poisoned);
        assert!(wal.cursors().is_empty());
    }
    drop(wal);
    disk.heal();
    assert!(small().open_on(disk.mount()).unwrap().cursors().is_empty());
}

/// Without room for a note, what was removed came back over an orderly close and held the log for ever, and what was
/// released went back, although a clean had made room.
#[test]
fn what_had_no_room_for_a_note_is_durable_with_the_clean_that_makes_room() {
    for removed in [false, true] {
        let disk = Disk::new(7);
        let options = small().max_disk_bytes(96 << 10);
        let wal = options.open_on(disk.mount()).unwrap();
        wal.append_checkpoint(b"state").unwrap().wait().unwrap();
        let cursor = wal.cursor("billing").unwrap();
        while wal.append(&[1; 100]).is_ok() {}
        while wal.append(b"").is_ok() {}
        wal.sync().unwrap();
        let durable = wal.durable_lsn();
        if removed {
            cursor.remove().unwrap();
        } else {
            cursor.release(durable).unwrap();
        }
        wal.append_checkpoint(b"here").unwrap().wait().unwrap();
        assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
        disk.crash(Keep::None);
        drop(wal);
        let wal = options.open_on(disk.mount()).unwrap();
        let left = stand(&wal);
        assert!(if removed { left.is_empty() } else { left[0].1 >= durable.0 }, "{left:?}");
    }
}

/// It was an error that the note could not be made, although the release counted, and removing used the handle up.
#[test]
fn a_note_that_cannot_be_made_yet_is_no_error() {
    let disk = Disk::new(8);
    let failing = Failing::new(disk.mount());
    let wal = small().open_on(disk.mount()).unwrap();
    let [released, removed] = ["released", "removed"].map(|name| wal.cursor(name).unwrap().name().to_owned());
    let ends = fill(&wal, 3);
    wal.close().unwrap();
    let wal = small().open_on(failing.clone()).unwrap();
    failing.fail(Fault::new(Operation::Create).kind(std::io::ErrorKind::PermissionDenied).for_good());
    wal.cursor(&released).unwrap().release(ends[3]).unwrap();
    wal.cursor(&removed).unwrap().remove().unwrap();
    failing.heal();
    // Closing finds room for both notes.
    wal.close().unwrap();
    assert_eq!(stand(&small().open_on(disk.mount()).unwrap()), [(released, ends[3].0)]);
}

/// A note behind the last record kept its segment from a clean up to there.
#[test]
fn a_clean_up_to_the_last_record_takes_the_notes_behind_it() {
    let disk = Disk::new(9);
    let wal = small().open_on(disk.mount()).unwrap();
    let cursor = wal.cursor("billing").unwrap();
    let last = wal.append(b"last").unwrap().wait().unwrap();
    let end = wal.get(last).unwrap().end();
    cursor.release(end).unwrap();
    wal.rotate().unwrap();
    wal.append(b"newest").unwrap().wait().unwrap();
    assert!(wal.clean_before_lsn(last).unwrap().removed.is_empty());
    assert_eq!(wal.clean_before_lsn(end).unwrap().removed.len(), 1);
}

/// The removal of a cursor with a long name found no room in a full log, a new one with a short name did. After a kill there
/// were 17, of which the next link told 16: the one that was durable was gone, and a clean took what it was to keep.
#[test]
fn a_cursor_whose_removal_is_not_noted_counts_as_one_of_those_there_may_be() {
    let disk = Disk::new(1);
    let options = Options::new().segment_size(16 << 10).max_disk_bytes(4 * (16 << 10));
    let wal = options.open_on(disk.mount()).unwrap();
    let long = wal.cursor(&"long".repeat(50)).unwrap();
    let others: Vec<_> = (0..15).map(|n| wal.cursor(&n.to_string()).unwrap()).collect();
    while let Ok(ticket) = wal.append(&[7; 96]) {
        ticket.wait().unwrap();
    }
    long.remove().unwrap();
    let refused = wal.cursor("b").unwrap_err();
    assert!(refused.to_string().contains("until there is room"), "{refused}");
    wal.append_checkpoint(b"").unwrap().wait().unwrap();
    others.iter().for_each(|cursor| cursor.release(wal.durable_lsn()).unwrap());
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    // The next link tells.
    wal.rotate().unwrap();
    wal.cursor("b").unwrap();
    for _ in 0..2 {
        disk.kill();
        let wal = options.open_on(disk.mount()).unwrap();
        assert_eq!((wal.cursors().len(), wal.cursors().contains_key("b")), (16, true));
        wal.append_checkpoint(b"").unwrap().wait().unwrap();
    }
}
