//! Where nothing is missing nothing is said to be: files that tell nothing beside whole segments, links alone, and logs
//! that were cleaned.

use std::fs;
use std::path::PathBuf;

use seawall::Options;
use seawall::check::Repair;

use crate::made::{self, Log, flip, lone, salvaged, segments, whole};

/// Only a link is ever there, and it was counted as a record.
#[test]
fn a_newest_segment_that_holds_only_its_link_loses_nothing_with_it() {
    for closed in [false, true] {
        let log = Log::new(61, 300);
        flip(&segments(log.dir())[2], 9000);
        Repair::new().run(log.dir()).unwrap();
        if closed {
            // MARK says now that the link was durable.
            Options::new().segment_size(16 << 10).open(log.dir()).unwrap().close().unwrap();
        }
        let left = whole(&salvaged(&[log.dir()]));
        assert_eq!(left.len() + 1, log.made.len());
        let newest = segments(log.dir()).pop().unwrap();
        let bytes = fs::read(&newest).unwrap();
        for hurt in [4096 + 1, 4096 + 4, 4096 + 7, 4096 + 21, 4096 + 30] {
            flip(&newest, hurt);
            let found = salvaged(&[log.dir()]);
            assert!(found.is_whole() && whole(&found) == left, "{closed} {hurt}: {}", lone(&found));
            fs::write(&newest, &bytes).unwrap();
        }
        for from in [0, 4096] {
            let mut bytes = bytes.clone();
            bytes[from..from + 4096].fill(0);
            fs::write(&newest, bytes).unwrap();
            let found = salvaged(&[log.dir()]);
            assert!(lone(&found).damaged == 0 && whole(&found) == left, "{closed} {from}: {}", lone(&found));
            // Where the log went on here, only the link told that no segment is gone below.
            let is_told = !closed || from == 0;
            assert_eq!(
                (found.is_whole(), lone(&found).lost_records),
                (is_told, is_told.then_some(0)),
                "{closed} {from}"
            );
        }
    }
}

/// Nothing tells what such a file held; but what its place held may be known.
#[test]
fn a_file_that_tells_nothing_is_no_loss_where_the_log_tells_what_lay_there() {
    let log = Log::new(60, 300);
    let paths = segments(log.dir());
    let named = |base: u64| log.dir().join(format!("{base:020}.wal"));
    let bak = |path: &PathBuf| path.with_extension("bak");
    for noise in [vec![], vec![0x11; 5000]] {
        // Its bytes are in a copy.
        for path in &paths {
            fs::rename(path, bak(path)).unwrap();
            fs::write(path, &noise).unwrap();
            let found = salvaged(&[log.dir()]);
            assert!(found.is_whole() && found.untold == 0, "{}: {found:?}", path.display());
            assert_eq!(whole(&found), log.made);
            // In another directory there may be another log.
            let other = tempfile::tempdir().unwrap();
            fs::write(other.path().join(path.file_name().unwrap()), &noise).unwrap();
            assert_eq!(salvaged(&[log.dir(), other.path()]).untold, 1);
            fs::rename(bak(path), path).unwrap();
        }
        // No segment lies within another.
        fs::write(named(made::base(&paths[1]) + 4096), &noise).unwrap();
        assert!(salvaged(&[log.dir()]).is_whole());
        fs::remove_file(named(made::base(&paths[1]) + 4096)).unwrap();
        // Of the newest MARK tells; without it nothing does, nor of what may lie above.
        let newest = paths.last().unwrap();
        let bytes = fs::read(newest).unwrap();
        fs::write(newest, &noise).unwrap();
        assert!(!salvaged(&[log.dir()]).is_whole());
        let mark = fs::read(log.dir().join("MARK")).unwrap();
        fs::remove_file(log.dir().join("MARK")).unwrap();
        assert_eq!(salvaged(&[log.dir()]).untold, 1);
        fs::write(newest, bytes).unwrap();
        fs::write(named(1 << 20), &noise).unwrap();
        assert_eq!(salvaged(&[log.dir()]).untold, 1);
        fs::remove_file(named(1 << 20)).unwrap();
        fs::write(log.dir().join("MARK"), mark).unwrap();
    }
}

/// Nothing was said of it.
#[test]
fn a_file_that_is_cut_below_its_link_may_have_held_records() {
    let log = Log::new(63, 300);
    let sources = segments(log.dir());
    let newest = sources.last().unwrap();
    let bytes = fs::read(newest).unwrap();
    fs::rename(log.dir().join("MARK"), log.dir().join("MARK.bak")).unwrap();
    for (length, untold) in [(100, 1), (4095, 1), (4096, 0), (4097, 1), (4150, 1), (4204, 0)] {
        fs::write(newest, &bytes[..length]).unwrap();
        fs::rename(log.dir().join("MARK.bak"), log.dir().join("MARK")).unwrap();
        let found = salvaged(&[log.dir()]);
        assert_eq!((found.untold, found.is_whole()), (0, false), "{length}: MARK tells of it");
        fs::rename(log.dir().join("MARK"), log.dir().join("MARK.bak")).unwrap();
        let found = salvaged(&sources);
        assert_eq!(
            (found.untold, lone(&found).damaged, lone(&found).unmarked),
            (untold, 0, true),
            "{length}: {found:?}"
        );
        let what = format!("{}: cut to {length} bytes, which no crash leaves; whether", newest.display());
        assert_eq!(found.notes.iter().filter(|note| note.starts_with(&what)).count() as u64, untold, "{length}");
        // Its bytes are in a copy.
        let copy = log.dir().join("copy");
        fs::write(&copy, &bytes).unwrap();
        let found = salvaged(&[sources.clone(), vec![copy.clone()]].concat());
        assert!(found.untold == 0 && whole(&found) == log.made, "{length}: {found:?}");
        fs::remove_file(copy).unwrap();
    }
}

/// Where its base is not known, what a link says of the log was not taken for the log's.
#[test]
fn what_was_cleaned_is_not_missing_where_the_headers_of_those_that_tell_so_are_lost() {
    let log = Log::new(62, 300);
    let wal = Options::new().segment_size(16 << 10).open(log.dir()).unwrap();
    wal.append(b"after").unwrap().wait().unwrap();
    wal.clean_before_lsn(log.made[100].lsn).unwrap();
    let front = wal.read(..).unwrap().next().unwrap().unwrap().lsn;
    for n in 0..16_u8 {
        wal.append(&[n; 900]).unwrap().wait().unwrap();
    }
    let made: Vec<made::Made> = wal.read(..).unwrap().map(|record| record.unwrap().into()).collect();
    let after =
        made::base(segments(log.dir()).iter().rfind(|path| made::base(path) <= made[made.len() - 17].lsn.0).unwrap());
    wal.close().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for (number, path) in segments(log.dir()).iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        if made::base(path) > after {
            bytes[..4096].fill(0);
        }
        // Under names that tell nothing.
        fs::write(elsewhere.path().join(format!("{number}.bak")), bytes).unwrap();
    }
    let found = salvaged(&[elsewhere.path()]);
    let told = found.logs().iter().find(|told| told.log_id == Some(log.id)).unwrap();
    assert_eq!((told.first, told.absent, told.damaged, told.unmarked), (front, false, 0, true), "{told}");
}

/// Of two segments that followed one another the files are used again, and the link of the second is still there. What is
/// left of the first was taken for a log that had lost the rest.
#[test]
fn what_is_left_in_files_that_are_used_again_is_no_log_with_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    let wal = open();
    for n in 0..90_u8 {
        wal.append(&[n; 900]).unwrap().wait().unwrap();
    }
    let [first, second] = [1, 2].map(|n| fs::read(&segments(dir.path())[n]).unwrap());
    // None is used again that an earlier life made: but for these two nothing of them is left.
    drop(wal);
    let wal = open();
    wal.append(b"before").unwrap().wait().unwrap();
    let front = wal.clean_before_lsn(seawall::Lsn::MAX).unwrap().first;
    wal.rotate().unwrap();
    wal.append(b"after").unwrap().wait().unwrap();
    wal.prepare().unwrap();
    let copy = tempfile::tempdir().unwrap();
    made::copy(dir.path(), copy.path());
    let files = fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    files.retain(|path| made::base(path) >= front.0 || fs::remove_file(path).is_err());
    files.sort();
    let end = wal.durable_lsn().0;
    let newest = files.iter().rposition(|path| made::base(path) < end).unwrap();
    for (path, upto, old) in
        [(&files[newest], (end - made::base(&files[newest])) as usize, first), (&files[newest + 1], 4096, second)]
    {
        let new = fs::read(path).unwrap();
        fs::write(path, [&new[..upto], &old[upto..]].concat()).unwrap();
    }
    let found = salvaged(&[copy.path()]);
    assert!(found.is_whole() && found.logs().len() == 1, "{found:?}");
    assert!(found.notes.iter().any(|note| note.contains("before they were used again")), "{found:?}");
}

/// A prepared file under another name, or under none, is one all the same; but not where only the page of its header lies
/// over the newest segment's.
#[test]
fn what_a_prepared_file_held_is_no_log_whatever_its_name_is() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    for n in 0..90_u8 {
        let lsn = wal.append(&[n; 900]).unwrap().wait().unwrap();
        if n % 30 == 29 {
            wal.clean_before_lsn(lsn).unwrap();
        }
    }
    wal.prepare().unwrap();
    let last: Vec<_> = wal.read(..).unwrap().map(|record| made::Made::from(record.unwrap())).collect();
    let copy = tempfile::tempdir().unwrap();
    made::copy(dir.path(), copy.path());
    let paths = segments(copy.path());
    let newest = paths.iter().rposition(|path| made::base(path) < last.last().unwrap().lsn.0).unwrap();
    assert!(fs::read(&paths[newest + 1]).unwrap()[4096..].iter().any(|byte| *byte > 0), "a file is used again");
    for (number, path) in paths.iter().enumerate() {
        fs::rename(path, copy.path().join(format!("f{number}"))).unwrap();
    }
    let found = salvaged(&[copy.path()]);
    assert!(made::read(&found, lone(&found)).ends_with(&last) && found.is_whole(), "{found:?}");
    let [newest, prepared] = [newest, newest + 1].map(|number| copy.path().join(format!("f{number}")));
    let (own, other) = (fs::read(&newest).unwrap(), fs::read(prepared).unwrap());
    fs::write(newest, [&other[..4096], &own[4096..]].concat()).unwrap();
    let found = salvaged(&[copy.path()]);
    let read: Vec<_> = found.logs().iter().flat_map(|told| made::read(&found, told)).collect();
    let is_there = |record: &made::Made| read.iter().any(|other| other.payload == record.payload);
    assert!(last.iter().all(is_there) && !found.is_whole(), "{found:?}");
}

/// What was cleaned was taken for the log, and the live segment for another without a name.
#[test]
fn a_front_without_its_header_is_the_log_of_the_mark_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    let mut front = seawall::Lsn(0);
    for n in 0..90_u8 {
        wal.append(&[n; 900]).unwrap().wait().unwrap();
        if n % 30 == 29 {
            wal.rotate().unwrap();
            wal.append(&[n; 9]).unwrap().wait().unwrap();
            front = wal.clean_before_lsn(seawall::Lsn::MAX).unwrap().first;
        }
    }
    let last: Vec<_> = wal.read(..).unwrap().map(|record| made::Made::from(record.unwrap())).collect();
    let copy = tempfile::tempdir().unwrap();
    made::copy(dir.path(), copy.path());
    let mut below = segments(copy.path());
    below.retain(|path| made::base(path) <= front.0);
    let [.., spare, before, path] = &*below else { panic!("{below:?}") };
    // As if its file were used again: no header that is left is that of a neighbour.
    fs::remove_file(before).unwrap();
    assert!(spare.exists() && made::base(path) == front.0);
    let bytes = fs::read(path).unwrap();
    fs::write(path, [&[0; 4096], &bytes[4096..]].concat()).unwrap();
    let found = salvaged(&[copy.path()]);
    // Beside it, what that file held before, which may be any log's: the file has no header.
    let named = found.logs().iter().find(|log| log.log_id == Some(wal.log_id())).unwrap();
    let read = made::read(&found, named);
    assert!(read.ends_with(&last) && read.len() > last.len() && named.is_whole(), "{found:?}");
    // Beside another log's files nobody knows.
    let other = Log::of(84, 5, 16 << 10, 100);
    let path = segments(other.dir()).remove(0);
    fs::copy(&path, copy.path().join("00000000000099999744.wal")).unwrap();
    let found = salvaged(&[copy.path()]);
    let holds = |log: &&_| made::read(&found, log).iter().any(|made| made.payload == last[0].payload);
    let holding = found.logs().iter().find(holds).unwrap();
    assert_eq!(holding.log_id, None, "{found:?}");
}
