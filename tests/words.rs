//! What opening says of damage, checking and a repair say of the same place, in the same words.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use seawall::check::{Fault, Repair, verify};
use seawall::{ErrorKind, Options, Wal};

const BLOCK: usize = 4096;

/// A closed log of seven segments with records, and one that was made ready.
fn log(dir: &Path) -> Vec<PathBuf> {
    let wal = Options::new().segment_size(16 << 10).open(dir).unwrap();
    (0..100).for_each(|n| _ = wal.at(n).append(&[b'.'; 700]).unwrap().wait().unwrap());
    wal.close().unwrap();
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "wal") && fs::metadata(path).unwrap().len() > 4096);
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[test]
fn the_same_damage_is_told_in_the_same_words() {
    let remove = |path: &PathBuf| fs::remove_file(path).unwrap();
    type Harm<'a> = &'a dyn Fn(&[PathBuf], &Path);
    let harms: [(&str, Harm<'_>); 15] = [
        ("a record of the newest", &|files, _| flip(&files[6], BLOCK + 600)),
        ("the link of the newest", &|files, _| flip(&files[6], BLOCK + 40)),
        ("the link of another", &|files, _| flip(&files[2], BLOCK + 40)),
        ("the header of another", &|files, _| flip(&files[2], 20)),
        ("the newest cut", &|files, _| cut(&files[6], 5000)),
        ("the newest cut within its header", &|files, _| cut(&files[6], 100)),
        ("the newest cut within its link", &|files, _| cut(&files[6], 4130)),
        ("another cut", &|files, _| cut(&files[2], 9000)),
        ("another cut within its header", &|files, _| cut(&files[2], 100)),
        ("one gone", &|files, _| remove(&files[2])),
        ("two gone", &|files, _| files[1..3].iter().for_each(remove)),
        ("the first gone", &|files, _| remove(&files[0])),
        ("the newest gone", &|files, _| remove(&files[6])),
        ("all gone", &|files, _| files.iter().for_each(remove)),
        ("the newest cut, MARK gone", &|files, dir| {
            cut(&files[6], 6000);
            remove(&dir.join("MARK"));
        }),
    ];
    for (what, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        let files = log(dir.path());
        assert_eq!(files.len(), 7);
        harm(&files, dir.path());
        let faults = verify(dir.path()).unwrap().faults;
        let error = Wal::open(dir.path()).unwrap_err();
        let ErrorKind::Damage(damage) = error.kind() else { panic!("{what}: {error}") };
        // The place and the loss are those of the first. Of a frame that is not valid what was found is said, and why it is no torn tail.
        let is_same = |told: &str| match damage.what.starts_with("no valid frame here") {
            true => told.contains(&damage.found) && !told.contains(": "),
            false => told == damage.what || told.starts_with(&format!("{}: ", damage.what)),
        };
        assert_eq!(what == "a record of the newest", damage.what.starts_with("no valid frame here"), "{what}: {error}");
        let place = (&*damage.segment, damage.offset, damage.lsn, damage.bytes, damage.records);
        let [Fault { segment, offset, lsn, lost_bytes, lost_records, what: told, .. }, ..] = &faults[..] else {
            panic!()
        };
        assert_eq!((&**segment, *offset, *lsn, *lost_bytes, *lost_records), place, "{what}: {error}\n{faults:?}");
        assert!(is_same(told), "{what}: {error}\n{faults:?}");
        assert_eq!(Repair::new().plan(dir.path()).unwrap().faults, faults, "{what}");
    }
}
