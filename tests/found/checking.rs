//! What a check, an overview and a repair go by, where nothing but a single look, claim or question decides.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use seawall::check::{Item, Repair, Salvage, Verify, frames_on, inspect_on};
use seawall::sim::{Disk, Failing, Keep, Operation};
use seawall::{ErrorKind, Lsn, Wal};

use super::small;

/// A log of so many segments with two records each, and a newest one with one; and the names of its segments.
fn log(disk: &Disk, segments: u8) -> (Wal, Vec<String>, Vec<Lsn>) {
    let wal = small().open_on(disk.mount()).unwrap();
    let mut lsns = Vec::new();
    for n in 0..segments {
        lsns.push(wal.append(&[n; 3000]).unwrap().wait().unwrap());
        lsns.push(wal.append(&[n; 3000]).unwrap().wait().unwrap());
        wal.rotate().unwrap();
    }
    lsns.push(wal.append(&[segments; 3000]).unwrap().wait().unwrap());
    let names = lsns.iter().step_by(2).map(|lsn| format!("{:020}.wal", lsn.0 / 4096 * 4096 - 4096)).collect();
    (wal, names, lsns)
}

fn flip(disk: &Disk, name: &str, at: usize) {
    let mut bytes = disk.file(name).unwrap();
    bytes[at] ^= 1;
    disk.put(name, bytes);
}

/// What was damaged and is cleaned while it is looked at, be it as late as can be, is no fault of the log.
#[test]
fn damage_that_is_cleaned_while_it_is_verified_is_not_told() {
    let disk = Disk::new(1);
    let (wal, names, _) = log(&disk, 4);
    wal.close().unwrap();
    flip(&disk, &names[1], 5000);
    let mut overtaken = 0;
    for nth in 1.. {
        let disk = disk.fork();
        let wal = Arc::new(small().open_on(disk.mount()).unwrap());
        let (beside, lists) = (Failing::new(disk.mount()), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&lists);
        beside.before(Operation::List, move || {
            if count.fetch_add(1, Ordering::Relaxed) + 1 == nth {
                wal.clean_before_lsn(Lsn::MAX).unwrap();
            }
        });
        let report = Verify::new().run_on(beside).unwrap();
        if lists.load(Ordering::Relaxed) < nth {
            assert_eq!(report.faults.len(), 1, "nothing was cleaned: {report}");
            break;
        }
        assert!(report.is_clean(), "cleaned at look {nth}: {report}");
        overtaken += usize::from(report.notes.iter().any(|note| note.contains("cleaned while they were read")));
    }
    assert!(overtaken > 0);
}

/// A segment whose link is damaged is cleaned before it is read, and its file used again: what begins where the damage did
/// and reaches further is not that damage, but records that nobody got.
#[test]
fn what_reaches_further_than_the_damage_that_is_known_is_not_taken_for_it() {
    let disk = Disk::new(1);
    let (wal, names, lsns) = log(&disk, 4);
    flip(&disk, &names[1], 4096 + 30);
    let mut frames = frames_on(disk.mount()).unwrap();
    assert!(matches!(frames.next(), Some(Ok(Item::Record(record))) if record.lsn == lsns[0]));
    let mut bytes = disk.file(&names[1]).unwrap();
    bytes[4096..].fill(0);
    disk.put(&names[1], bytes);
    let first = wal.clean_before_lsn(lsns[4]).unwrap().first;
    let (mut read, mut removed) = (Vec::new(), Vec::new());
    for item in frames {
        match item.unwrap() {
            Item::Record(record) => read.push(record.lsn),
            Item::Removed { from, first } => removed.push((from, first)),
            item => panic!("{item:?}"),
        }
    }
    assert_eq!(read, [&lsns[1..2], &lsns[4..]].concat());
    assert!(matches!(removed[..], [(from, to)] if from < lsns[2] && to == first), "{removed:?}");
}

/// Also of what is seen without reading all: the link of a segment that lies below.
#[test]
fn damage_below_where_reading_begins_is_not_told() {
    let disk = Disk::new(1);
    let (wal, names, lsns) = log(&disk, 4);
    wal.close().unwrap();
    flip(&disk, &names[1], 4096 + 30);
    for (from, told) in [(0, 1), (3, 1), (4, 0), (6, 0)] {
        let (mut read, mut damage) = (Vec::new(), 0);
        for item in frames_on(disk.mount()).unwrap().starting_at(lsns[from]) {
            match item.unwrap() {
                Item::Record(record) => read.push(record.lsn),
                _ => damage += 1,
            }
        }
        assert_eq!((read, damage), (lsns[from..].to_vec(), told), "from record {from}");
    }
}

/// Behind a frame whose header is lost only a claim that everything before was durable says that a batch begins there.
#[test]
fn what_may_be_the_rest_of_a_batch_is_a_part() {
    for batch in [true, false] {
        let disk = Disk::new(1);
        let wal = small().open_on(disk.mount()).unwrap();
        wal.append(b"before").unwrap().wait().unwrap();
        let records = [vec![1; 100], vec![2; 100], vec![3; 100]];
        if batch {
            wal.append_batch(&records).unwrap().wait().unwrap();
        } else {
            records.iter().for_each(|record| _ = wal.append(record).unwrap().wait().unwrap());
        }
        wal.append(b"behind").unwrap().wait().unwrap();
        let lsns: Vec<Lsn> = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
        wal.close().unwrap();
        flip(&disk, "00000000000000000000.wal", usize::try_from(lsns[2].0).unwrap() + 5);
        let mut frames = frames_on(disk.mount()).unwrap();
        let mut read = Vec::new();
        while let Some(item) = frames.next() {
            if let Item::Record(record) = item.unwrap() {
                read.push((record.lsn, frames.is_part()));
            }
        }
        assert_eq!(read, [(lsns[0], false), (lsns[1], batch), (lsns[3], batch), (lsns[4], false)]);
    }
}

/// A clean went by a release that there was no room to note, and the power went before there was: the cursor stands where
/// the log begins, as opening says.
#[test]
fn no_cursor_is_shown_below_the_front() {
    let disk = Arc::new(Disk::new(1));
    let beside = Failing::new(disk.mount());
    let wal = small().open_on(beside.clone()).unwrap();
    let cursor = wal.cursor("reader").unwrap();
    for n in 0..4 {
        wal.append(&[n; 3000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    disk.capacity(disk.used());
    let mut last = Lsn::ZERO;
    while let Ok(ticket) = wal.append(b"fills") {
        last = ticket.wait().unwrap();
    }
    cursor.release(last).unwrap();
    let left = Arc::new(Mutex::new(None));
    let (cut, whole) = (Arc::clone(&left), Arc::clone(&disk));
    // The front is durable, and what lies below gone.
    beside.before(Operation::SyncDir, move || _ = cut.lock().unwrap().get_or_insert_with(|| whole.fork()));
    let first = wal.clean_before_lsn(Lsn::MAX).unwrap().first;
    let disk = left.lock().unwrap().take().unwrap();
    disk.crash(Keep::None);
    let shown = inspect_on(disk.mount()).unwrap().cursors;
    assert_eq!(shown.iter().map(|cursor| (cursor.name.as_str(), cursor.lsn)).collect::<Vec<_>>(), [("reader", first)]);
    assert_eq!(small().open_on(disk.mount()).unwrap().cursors()["reader"], first);
}

/// The last checkpoint is damaged, for which all up to the newest segment was cleaned: the one before, of which the link
/// still tells, is gone.
#[test]
fn no_checkpoint_is_shown_below_the_front() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append_checkpoint(b"gone").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    let last = wal.append_checkpoint(b"last").unwrap().wait().unwrap();
    let first = wal.clean_before_lsn(Lsn::MAX).unwrap().first;
    wal.close().unwrap();
    assert_eq!(inspect_on(disk.mount()).unwrap().checkpoint, Some(last));
    flip(&disk, &format!("{:020}.wal", first.0), usize::try_from(last.0 - first.0).unwrap() + 24);
    let overview = inspect_on(disk.mount()).unwrap();
    assert_eq!((overview.faults.len(), overview.checkpoint), (1, None));
}

/// Whoever is told of a repair's progress may end it as long as nothing is changed: also after all was read, while it is
/// laid out what is to be written.
#[test]
fn a_repair_asks_once_more_before_it_touches_anything() {
    let disk = Disk::new(1);
    let (wal, names, _) = log(&disk, 4);
    wal.close().unwrap();
    flip(&disk, &names[1], 5000);
    let (beside, ends) = (Failing::new(disk.mount()), Arc::new(AtomicBool::new(false)));
    let drawn = Arc::clone(&ends);
    // For the segment in which the log goes on.
    beside.before(Operation::Random, move || drawn.store(true, Ordering::Relaxed));
    let progress = |_| if ends.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let before = disk.operations();
    let error = Repair::new().progress(&progress).run_on(beside).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(ends.load(Ordering::Relaxed) && disk.operations() == before && error.touched().is_empty(), "{error}");
}

/// A segment that is written anew gives way to files that lie under the names that it might have meanwhile, and so comes to
/// the name that the next one would have.
#[test]
fn segments_that_are_written_anew_do_not_take_one_anothers_names() {
    let disk = Disk::new(1);
    let (wal, names, lsns) = log(&disk, 6);
    wal.close().unwrap();
    assert_eq!(names[1], "00000000000000016384.wal");
    for (n, name) in names[2..6].iter().enumerate() {
        assert!(disk.rename(name, &format!("{:020}.new", n * 4096)));
    }
    names[..2].iter().for_each(|name| flip(&disk, name, 5000));
    Repair::new().run_on(disk.mount()).unwrap();
    assert!(Verify::new().run_on(disk.mount()).unwrap().is_clean());
    let wal = small().open_on(disk.mount()).unwrap();
    let read: Vec<Lsn> = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
    assert_eq!(read, [&lsns[1..2], &lsns[3..]].concat());
}

/// Of a checkpoint that nobody was told of a power cut leaves the frame's header: it is a torn tail, and none that is lost. A
/// repair of what lies before tells the log so too.
#[test]
fn a_torn_checkpoint_is_not_a_lost_one() {
    let disk = Disk::new(3);
    let wal = small().open_on(disk.mount()).unwrap();
    let damaged = wal.append(&[1; 100]).unwrap().wait().unwrap();
    wal.append(&[2; 100]).unwrap().wait().unwrap();
    let torn = wal.append_checkpoint(&[3; 100]).unwrap();
    let [at, torn_at] = [damaged, torn.lsn()].map(|lsn| usize::try_from(lsn.0).unwrap() + 30);
    disk.crash_at(2);
    assert!(torn.wait().is_err());
    disk.crash(Keep::All);
    let name = format!("{:020}.wal", 0);
    flip(&disk, &name, torn_at);
    let seen = inspect_on(disk.mount()).unwrap();
    assert!(seen.faults.is_empty() && !seen.notes.iter().any(|note| note.contains("checkpoint")), "{seen:?}");
    flip(&disk, &name, at);
    Repair::new().run_on(disk.mount()).unwrap();
    assert!(small().open_on(disk.mount()).unwrap().checkpoint().unwrap().is_none());
}

fn fill(wal: &Wal, records: u8) -> Vec<Lsn> {
    (0..records).map(|n| wal.append(&[n; 700]).unwrap().wait().unwrap()).collect()
}

/// No record is lost here: neither by verifying nor by opening a number of them is told, but that nobody knows.
fn assert_untold(disk: &Disk, what: &str) {
    let report = Verify::new().threads(1).run_on(disk.fork().mount()).unwrap();
    assert!(report.faults.iter().all(|fault| fault.lost_records.unwrap_or(0) == 0), "{what}: {report}");
    let Err(error) = small().open_on(disk.fork().mount()) else { return };
    let ErrorKind::Damage(damage) = error.kind() else { panic!("{what}: {error}") };
    assert_eq!(damage.records.unwrap_or(0), 0, "{what}: {error}");
}

/// The slot of MARK that says so is damaged, and the other one is from before.
#[test]
fn what_was_cleaned_is_not_lost_with_the_slot_that_says_so() {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 40);
    wal.close().unwrap();
    let wal = small().open_on(disk.mount()).unwrap();
    let last = fill(&wal, 3)[2];
    assert!(!wal.clean_before_lsn(last).unwrap().removed.is_empty());
    disk.kill();
    drop(wal);
    for slot in [0, 4096] {
        let hurt = disk.fork();
        let mut mark = disk.file("MARK").unwrap();
        mark[slot..slot + 64].fill(0);
        hurt.put("MARK", &mark);
        assert_untold(&hurt, &format!("slot at {slot}"));
        let dir = tempfile::tempdir().unwrap();
        hurt.names().iter().for_each(|name| std::fs::write(dir.path().join(name), hurt.file(name).unwrap()).unwrap());
        let salvaged = Salvage::new().run(&[dir.path()]).unwrap();
        assert!(salvaged.logs()[0].unmarked && salvaged.logs()[0].damaged == 0, "slot at {slot}: {salvaged:?}");
    }
}

/// A cleaned segment is made into another, or was, and one below it is still there; then MARK goes.
#[test]
fn what_was_cleaned_is_not_lost_above_what_was_cleaned_too() {
    for nth in 1.. {
        let disk = Disk::new(1);
        let wal = small().open_on(disk.mount()).unwrap();
        let last = fill(&wal, 40)[39];
        wal.clean_before_lsn(last).unwrap();
        disk.crash_at(nth);
        let all = (0..30).all(|n| {
            disk.step();
            wal.append(&[n; 700]).and_then(|ticket| ticket.wait()).is_ok()
        });
        disk.kill();
        drop(wal);
        disk.remove("MARK");
        assert_untold(&disk, &format!("killed at {nth}"));
        if all {
            assert!(nth > 50, "{nth}");
            break;
        }
    }
}
