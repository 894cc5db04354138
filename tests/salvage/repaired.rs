//! Behind a repair: what it passed over, cut off or replaced, and what of that is whole in the files it moved aside.

use std::fs;

use seawall::Options;
use seawall::check::Repair;

use crate::made::{self, Log, Made, flip, lone, salvaged, segments, whole};

#[test]
fn what_a_repair_passed_over_is_found_in_what_it_copied_aside() {
    let log = Log::new(40, 300);
    let name = segments(log.dir())[2].file_name().unwrap().to_str().unwrap().to_owned();
    Repair::new().quarantine(&name).run(log.dir()).unwrap();
    let found = salvaged(&[log.dir()]);
    assert_eq!(whole(&found), log.made, "{}", lone(&found));
    let told = lone(&found);
    assert_eq!((found.is_whole(), told.lost_records, told.cut_off, told.doubled), (true, Some(0), 0, 0), "{told}");
    // Without the copy nothing is known to be missing: it was passed over.
    fs::remove_file(log.dir().join(format!("{name}.aside"))).unwrap();
    let found = salvaged(&[log.dir()]);
    assert!(found.is_whole() && whole(&found).len() < log.made.len(), "{}", lone(&found));
}

/// The gap that stands for the batch in the log came first.
#[test]
fn what_is_left_of_a_damaged_batch_is_found_behind_a_repair_too() {
    let log = Log::new(41, 300);
    for (number, path) in segments(log.dir()).iter().enumerate().skip(1) {
        let dir = tempfile::tempdir().unwrap();
        made::copy(log.dir(), dir.path());
        let path = dir.path().join(path.file_name().unwrap());
        let base = made::base(&path);
        let own = |made: &&Made| (base + 8192..base + 16384).contains(&made.lsn.0);
        let Some(first) = log.made.iter().filter(own).find(|made| !made.ends_batch) else { continue };
        let hit = log.made.iter().position(|made| made.lsn == first.lsn).unwrap() + number % 3;
        let lsn = log.made[hit].lsn;
        // The header, or the payload.
        let payload = if number % 2 == 0 { 24 } else { 0 };
        flip(&path, (lsn.0 - base) as usize + payload);
        let before: Vec<_> =
            salvaged(&[dir.path()]).records(lone(&salvaged(&[dir.path()]))).map(Result::unwrap).collect();
        assert_eq!(before.len() + 1, log.made.len());
        Repair::new().run(dir.path()).unwrap();
        let found = salvaged(&[dir.path()]);
        let expected: Vec<_> = log.made.iter().filter(|made| made.lsn != lsn).cloned().collect();
        assert_eq!(whole(&found), expected, "{number}: {}", lone(&found));
        // What is left of the batch is a part, and nothing else is.
        let mut records = found.records(lone(&found));
        let mut parts = Vec::new();
        while let Some(record) = records.next() {
            parts.extend(records.is_part().then_some(record.unwrap().lsn));
        }
        let begin = log.made[..hit].iter().rposition(|made| made.ends_batch).map_or(0, |last| last + 1);
        let end = hit + log.made[hit..].iter().position(|made| made.ends_batch).unwrap();
        let batch: Vec<_> = log.made[begin..=end].iter().map(|made| made.lsn).filter(|other| *other != lsn).collect();
        assert!(batch.iter().all(|lsn| parts.contains(lsn)), "{number}: {parts:?} {batch:?}");
    }
}

/// What the links of the segments that were cut off count was held against what the log counts without them.
#[test]
fn a_cut_loses_nothing_that_lies_aside() {
    let log = Log::new(42, 300);
    let (paths, count) = (segments(log.dir()), log.made.len());
    assert!(paths.len() > 6);
    for (at, after) in [(count / 4, 0), (count / 4, 3), (count / 2, 100), (count - 2, 0), (count - 2, 3), (1, 50)] {
        let dir = tempfile::tempdir().unwrap();
        made::copy(log.dir(), dir.path());
        Repair::new().cut(log.made[at].lsn).run(dir.path()).unwrap();
        let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
        let kept: Vec<Made> = wal.read(..).unwrap().map(|record| record.unwrap().into()).collect();
        (0..after).for_each(|n| drop(wal.append(&[n; 700]).unwrap()));
        wal.sync().unwrap();
        let new: Vec<Made> = wal.read(..).unwrap().skip(kept.len()).map(|record| record.unwrap().into()).collect();
        wal.close().unwrap();
        assert!(kept.len() <= at && kept == log.made[..kept.len()]);
        let found = salvaged(&[dir.path()]);
        let told = lone(&found);
        assert_eq!(whole(&found), [log.made.clone(), new].concat(), "{at} {after}");
        let counts = (told.damaged, told.lost_records, told.absent, told.cut_off, told.doubled);
        assert_eq!(counts, (0, Some(0), false, (count - kept.len()) as u64, 0), "{at} {after}: {told}");
    }
}

/// The log went on below what a repair had begun when it ended with a crash: that its link says where the log ended made all
/// that followed look cut off, and what is missing of it like no loss.
#[test]
fn what_a_repair_only_begun_does_not_say_where_the_log_ended() {
    let log = Log::new(43, 100);
    let repaired = tempfile::tempdir().unwrap();
    made::copy(log.dir(), repaired.path());
    flip(&segments(repaired.path())[1], 9000);
    Repair::new().run(repaired.path()).unwrap();
    let begun = segments(repaired.path()).pop().unwrap();
    assert!(made::base(&begun) >= 1 << 40);
    let wal = Options::new().segment_size(16 << 10).open(log.dir()).unwrap();
    for n in 0..100_u8 {
        wal.append(&[n; 700]).unwrap().wait().unwrap();
    }
    let made: Vec<Made> = wal.read(..).unwrap().map(|record| record.unwrap().into()).collect();
    wal.close().unwrap();
    let paths = segments(log.dir());
    let (gone, newest) = (&paths[paths.len() - 3], &paths[paths.len() - 1]);
    let own = |path: &std::path::Path| {
        let base = made::base(path);
        made.iter().filter(|made| (base..base + 16384).contains(&made.lsn.0)).count() as u64
    };
    let (lost, cut) = (own(gone), own(newest));
    for end in ["new", "new.aside", "new.aside.1"] {
        let aside = log.dir().join(format!("{:020}.{end}", made::base(&begun)));
        fs::copy(&begun, &aside).unwrap();
        let found = salvaged(&[log.dir()]);
        let told = lone(&found);
        assert_eq!(
            (whole(&found) == made, found.is_whole(), told.lost_records),
            (true, true, Some(0)),
            "{end}: {told}"
        );
        assert_eq!((told.cut_off, told.segments), (0, paths.len()), "{end}: {told}");
        for (path, told) in [(gone, Some(lost)), (newest, None)] {
            let bytes = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            let found = salvaged(&[log.dir()]);
            fs::write(path, bytes).unwrap();
            let counts = (lone(&found).lost_records, lone(&found).cut_off, found.is_whole());
            assert_eq!(counts, (told, 0, false), "{end}: {}", lone(&found));
        }
        // A record in it is found.
        fs::rename(newest, &aside).unwrap();
        let found = salvaged(&[log.dir()]);
        assert!(cut > 0 && whole(&found) == made, "{end}: {}", lone(&found));
        fs::rename(&aside, newest).unwrap();
    }
}

/// Of a gap that is damaged the rest was found in a copy, and a whole record that begins where it does was then read as
/// if it went on there too.
#[test]
fn a_record_that_a_damaged_gap_covers_is_read_where_it_was_found() {
    let log = Log::new(45, 300);
    let mut met = 0;
    for path in segments(log.dir()).iter().skip(1) {
        let dir = tempfile::tempdir().unwrap();
        made::copy(log.dir(), dir.path());
        let path = dir.path().join(path.file_name().unwrap());
        let base = made::base(&path);
        // A batch of which the last record is damaged.
        let begins = |pair: &&[Made]| pair[0].ends_batch && !pair[1].ends_batch && pair[0].lsn.0 > base + 4096;
        let Some(at) = log.made.windows(2).position(|pair| begins(&pair)) else { continue };
        let (first, last) = (&log.made[at + 1], &log.made[at + 3]);
        if last.lsn.0 > base + 15_000 || last.lsn.0 - first.lsn.0 < 600 {
            continue;
        }
        flip(&path, (last.lsn.0 - base) as usize);
        Repair::new().run(dir.path()).unwrap();
        let copy = path.with_extension("copy");
        fs::copy(&path, &copy).unwrap();
        flip(&copy, (last.lsn.0 - base) as usize);
        let expected: Vec<_> = log.made.iter().filter(|made| made.lsn != last.lsn).cloned().collect();
        assert_eq!(whole(&salvaged(&[dir.path()])), expected);
        met += 1;
    }
    assert!(met > 2, "{met}");
}
