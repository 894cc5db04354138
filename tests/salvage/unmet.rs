//! Logs that had durable records by their MARK, and of which none is found; and those that only look so.

use std::fs;
use std::path::{Path, PathBuf};

use seawall::check::{Repair, Salvaged, verify};
use seawall::{Durability, Lsn, Options, Wal};

use crate::made::{self, Log, flip, lone, salvaged, segments, whole};

fn open(dir: &Path) -> Wal {
    Options::new().segment_size(16 << 10).open(dir).unwrap()
}

fn behead(path: &Path, keep: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[..4096].fill(0);
    bytes.truncate(keep);
    fs::write(path, bytes).unwrap();
}

/// The one note says of which log.
fn assert_unmet(found: &Salvaged, dir: &Path, what: &str) {
    assert_eq!((found.is_whole(), found.unmet, found.notes.len()), (false, 1, 1), "{what}: {found:?}");
    let path = dir.join("MARK").display().to_string();
    assert!(found.notes[0].starts_with(&path), "{what}: {:?}", found.notes);
}

/// What MARK says was thrown away with its log, because all that is found belongs to none with a name.
#[test]
fn the_end_of_a_log_whose_headers_are_lost_is_missing() {
    for rotations in [0, 2] {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path());
        for n in 0..=rotations {
            for _ in 0..20 {
                wal.append(&[n; 300]).unwrap().wait().unwrap();
            }
            if n < rotations {
                wal.rotate().unwrap();
            }
        }
        wal.close().unwrap();
        let paths = segments(dir.path());
        paths.iter().for_each(|path| behead(path, usize::MAX));
        let found = salvaged(&[dir.path()]);
        assert_eq!((found.is_whole(), found.unmet, lone(&found).log_id), (true, 0, None), "{found:?}");
        // The second half of the newest.
        behead(paths.last().unwrap(), 4096 + 104 + 10 * 324);
        assert!(!verify(dir.path()).unwrap().is_clean());
        let found = salvaged(&[dir.path()]);
        assert_unmet(&found, dir.path(), "cut");
        assert!(lone(&found).records > 0);
        // Another that is whole, and has no name either, is not that one.
        let other = Log::new(81, 400);
        segments(other.dir()).iter().for_each(|path| behead(path, usize::MAX));
        assert_eq!(salvaged(&[dir.path(), other.dir()]).unmet, 1);
        assert!(salvaged(&[other.dir()]).is_whole());
        // Where all is gone.
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
        let found = salvaged(&[dir.path()]);
        assert_unmet(&found, dir.path(), "all gone");
        assert!(found.logs().is_empty());
        // Each slot of MARK tells it alone.
        let mark = dir.path().join("MARK");
        let sound = fs::read(&mark).unwrap();
        for slot in [0, 4096] {
            let mut bytes = sound.clone();
            bytes[slot + 40] ^= 1;
            fs::write(&mark, bytes).unwrap();
            assert_unmet(&salvaged(&[dir.path()]), dir.path(), "half a MARK");
        }
        fs::write(&mark, sound).unwrap();
        // Beside a log of another directory.
        let sound = Log::shared();
        assert_unmet(&salvaged(&[dir.path(), sound.dir()]), dir.path(), "beside another");
    }
}

/// It was said to be whole, with another log's records as its own.
#[test]
fn another_logs_page_over_all_records_of_a_log_is_not_it() {
    let [own, other] = [(); 2].map(|()| {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path());
        (0..3).for_each(|n| _ = wal.append(&[n; 300]).unwrap().wait().unwrap());
        wal.close().unwrap();
        dir
    });
    let [path, from] = [&own, &other].map(|dir| segments(dir.path()).remove(0));
    let (mut bytes, theirs) = (fs::read(&path).unwrap(), fs::read(from).unwrap());
    bytes[4096..].copy_from_slice(&theirs[4096..]);
    fs::write(&path, bytes).unwrap();
    let found = salvaged(&[own.path()]);
    assert_unmet(&found, own.path(), "another's page");
    assert_eq!(lone(&found).log_id, None);
}

/// Only a link tells of it, for MARK speaks of what a repair began.
#[test]
fn a_repaired_log_that_lost_all_its_records_is_missing_beside_a_frame_of_another() {
    let log = Log::new(82, 40);
    let paths = segments(log.dir());
    flip(&paths[0], 9000);
    Repair::new().run(log.dir()).unwrap();
    open(log.dir()).close().unwrap();
    let (newest, mark) = (segments(log.dir()).pop().unwrap(), log.dir().join("MARK"));
    for other in [None, Some(0), Some(4096)] {
        let dir = tempfile::tempdir().unwrap();
        for path in [&newest, &mark] {
            fs::copy(path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        if let Some(from) = other {
            let bytes = fs::read(&segments(Log::shared().dir())[0]).unwrap();
            fs::write(dir.path().join("leftover"), [&[0; 4096][..from], &bytes[from..5000]].concat()).unwrap();
        }
        let found = salvaged(&[dir.path()]);
        assert_eq!(found.logs().len(), usize::from(other.is_some()), "{found:?}");
        assert_unmet(&found, dir.path(), "repaired");
    }
}

#[test]
fn a_log_that_has_no_record_misses_none() {
    let is_whole = |dir: &Path, what: &str| {
        let found = salvaged(&[dir]);
        assert!(found.is_whole() && found.logs().is_empty() && found.notes.is_empty(), "{what}: {found:?}");
    };
    let dir = tempfile::tempdir().unwrap();
    for life in 0..2 {
        let wal = open(dir.path());
        is_whole(dir.path(), &format!("open, {life}"));
        wal.close().unwrap();
        is_whole(dir.path(), &format!("closed, {life}"));
    }
    // All of its records were cleaned.
    let wal = open(dir.path());
    for n in 0..60_u8 {
        wal.append(&[n; 900]).unwrap().wait().unwrap();
    }
    wal.rotate().unwrap();
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert_eq!(wal.read(..).unwrap().count(), 0);
    wal.close().unwrap();
    for path in segments(dir.path()).split_last().unwrap().1 {
        fs::remove_file(path).unwrap();
    }
    is_whole(dir.path(), "cleaned");
    segments(dir.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    is_whole(dir.path(), "cleaned, and only MARK is left");
}

#[test]
fn a_mark_that_is_another_logs_or_a_disks_tells_of_no_loss() {
    let (log, other) = (Log::shared(), Log::new(83, 40));
    let mark = fs::read(other.dir().join("MARK")).unwrap();
    // In place of its own.
    let dir = tempfile::tempdir().unwrap();
    made::copy(log.dir(), dir.path());
    fs::write(dir.path().join("MARK"), &mark).unwrap();
    let found = salvaged(&[dir.path()]);
    let told = &found.logs()[0];
    assert_eq!((told.damaged, told.unmarked, found.unmet), (0, true, 0), "{found:?}");
    assert_eq!(whole(&found), log.made);
    // In the image of a disk, where a log was deleted.
    let files: Vec<PathBuf> = segments(log.dir());
    let disk: Vec<u8> = files.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    let padding = vec![0; disk.len().next_multiple_of(4096) - disk.len()];
    let image = dir.path().join("image");
    fs::write(&image, [disk, padding, mark].concat()).unwrap();
    let found = salvaged(&[&image, &log.dir().join("MARK")]);
    assert!(found.is_whole() && found.unmet == 0, "{found:?}");
}

/// MARK alone says that there were more: they were shown, and not durable.
#[test]
fn whether_records_are_missing_that_were_only_shown_cannot_be_told() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).durability(Durability::Os).open(dir.path()).unwrap();
    for n in 0..3 {
        (0..5).for_each(|_| _ = wal.append(&[n; 300]).unwrap().wait().unwrap());
        wal.rotate().unwrap();
    }
    wal.append(b"newest").unwrap().wait().unwrap();
    let killed = tempfile::tempdir().unwrap();
    made::copy(dir.path(), killed.path());
    assert!(salvaged(&[killed.path()]).is_whole());
    let [.., before, newest] =
        &*segments(killed.path()).into_iter().filter(|path| holds_frames(path)).collect::<Vec<_>>()
    else {
        panic!("{:?}", segments(killed.path()))
    };
    for harm in ["removed", "overwritten"] {
        _ = if harm == "removed" { fs::remove_file(newest) } else { fs::copy(before, newest).map(|_| ()) };
        let found = salvaged(&[killed.path()]);
        assert_eq!(
            (lone(&found).lost_records, found.is_whole(), lone(&found).records),
            (None, false, 15),
            "{harm}: {found:?}"
        );
        assert!(found.notes.iter().any(|note| note.contains("readers saw records up to LSN")), "{harm}: {found:?}");
    }
}

/// One that is damaged below where readers saw others was passed over in silence, and so in the new log.
#[test]
fn a_damaged_record_that_was_only_shown_is_not_said_to_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().durability(Durability::Os).open(dir.path()).unwrap();
    let lsns: Vec<_> = (0..20_u8).map(|n| wal.append(&[n; 300]).unwrap().wait().unwrap()).collect();
    let killed = tempfile::tempdir().unwrap();
    made::copy(dir.path(), killed.path());
    assert!(salvaged(&[killed.path()]).is_whole());
    flip(&segments(killed.path())[0], lsns[17].0 as usize + 26);
    let found = salvaged(&[killed.path()]);
    assert_eq!((lone(&found).lost_records, lone(&found).records, found.is_whole()), (None, 19, false), "{found:?}");
    assert!(found.notes.iter().any(|note| note.contains("readers saw records up to LSN")), "{found:?}");
}

fn holds_frames(path: &Path) -> bool {
    fs::read(path).unwrap()[4096..].iter().any(|byte| *byte != 0)
}
