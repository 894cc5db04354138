//! Ten acknowledged records of a hundred bytes, and then this.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use seawall::check::{Item, Salvage, frames, verify};
use seawall::{Damage, Error, ErrorKind, Wal};
use tempfile::TempDir;

use crate::{filled, payload, payloads, segments, small, spec};

/// Bytes of a frame's header.
const FRAME: usize = 24;

/// A log of ten records, closed or as a killed writer leaves it.
fn ten(closed: bool) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..10 {
        wal.append(&payload(n)).unwrap().wait().unwrap();
    }
    if closed {
        wal.close().unwrap();
        return dir;
    }
    let killed = tempfile::tempdir().unwrap();
    for path in segments(dir.path()).into_iter().chain([dir.path().join("MARK")]) {
        fs::copy(&path, killed.path().join(path.file_name().unwrap())).unwrap();
    }
    killed
}

/// The only segment that holds records, and where each of them begins.
fn records(dir: &Path) -> (PathBuf, Vec<usize>) {
    let parsed = segments(dir).into_iter().find_map(|path| Some((spec::segment(&fs::read(&path).unwrap())?, path)));
    let (segment, path) = parsed.unwrap();
    (path, segment.frames.iter().filter(|frame| frame.kind == 1).map(|frame| frame.at).collect())
}

fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at as u64).unwrap();
}

/// What opening says, which changes nothing.
fn refused(dir: &Path) -> (Error, Box<Damage>) {
    let all = || {
        let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
        fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap().path())).collect::<Vec<_>>()
    };
    let before = all();
    let refused = small().open(dir).map(drop).unwrap_err();
    assert_eq!(all(), before);
    let ErrorKind::Damage(damage) = refused.kind().clone() else { panic!("{refused}") };
    assert!(!verify(dir).unwrap().is_clean());
    (refused, damage)
}

/// The records that salvage reaches, and those that are shown on past the damage.
fn reached(dir: &Path) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let salvaged = Salvage::new().run(&[dir]).unwrap();
    let salvaged = salvaged.records(&salvaged.logs()[0]).map(|record| record.unwrap().payload.to_vec()).collect();
    let shown = frames(dir).unwrap().filter_map(|item| match item.unwrap() {
        Item::Record(record) => Some(record.payload.to_vec()),
        _ => None,
    });
    (salvaged, shown.collect())
}

fn without(n: u32) -> Vec<Vec<u8>> {
    filled((0..10).filter(|other| *other != n))
}

#[test]
fn the_last_byte_cut_off_is_damage_once_a_close_proved_it() {
    let dir = ten(true);
    let (path, records) = records(dir.path());
    let end = records[9] + FRAME + 100;
    assert_eq!(fs::metadata(&path).unwrap().len(), end as u64, "a closed log gives back what it does not use");
    fs::File::options().write(true).open(&path).unwrap().set_len(end as u64 - 1).unwrap();
    let (refused, damage) = refused(dir.path());
    assert!(damage.durable.0 > damage.lsn.0, "{refused}");
    assert_eq!(reached(dir.path()), (without(9), without(9)));
}

#[test]
fn the_last_byte_that_nobody_was_told_of_is_dropped_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().durability(seawall::Durability::Os).open(dir.path()).unwrap();
    for n in 0..10 {
        wal.append(&payload(n)).unwrap().wait().unwrap();
    }
    let (path, records) = records(dir.path());
    // As a power cut leaves it: the bytes were never synced, and MARK does not speak of them.
    let cut = tempfile::tempdir().unwrap();
    fs::copy(&path, cut.path().join(path.file_name().unwrap())).unwrap();
    overwrite(&cut.path().join(path.file_name().unwrap()), records[9] + FRAME + 99, &[0]);
    let wal = small().open(cut.path()).unwrap();
    assert_eq!(payloads(&wal), filled(0..9));
    let torn = wal.recovery().torn.unwrap();
    assert_eq!(torn.lsn, wal.recovery().end);
}

#[test]
fn one_payload_bit_flipped_is_an_error_that_says_where_and_the_other_nine_are_reached() {
    for n in 0..10 {
        let dir = ten(true);
        let (path, records) = records(dir.path());
        let byte = fs::read(&path).unwrap()[records[n] + FRAME + 50];
        overwrite(&path, records[n] + FRAME + 50, &[byte ^ 4]);
        let (error, damage) = refused(dir.path());
        assert_eq!(damage.offset, records[n] as u64);
        assert_eq!(damage.segment, path.file_name().unwrap().to_str().unwrap());
        for said in [&damage.segment, &damage.offset.to_string(), &damage.lsn.to_string()] {
            assert!(error.to_string().contains(said), "{error}");
        }
        assert_eq!(reached(dir.path()), (without(n as u32), without(n as u32)));
    }
}

#[test]
fn a_length_that_lies_is_an_error_and_the_later_records_are_found() {
    // Raised by one, made huge, negative.
    for length in [101_u32, 0x0fff_fff0, 0xffff_fff0] {
        let dir = ten(true);
        let (path, records) = records(dir.path());
        overwrite(&path, records[3] + 4, &length.to_le_bytes());
        let (_, damage) = refused(dir.path());
        assert_eq!((damage.offset, damage.beyond), (records[3] as u64, 6));
        assert_eq!(reached(dir.path()), (without(3), without(3)));
    }
}

#[test]
fn zeros_at_the_end_are_known_as_never_written() {
    for more in [0, 4096] {
        let dir = ten(false);
        let (path, _) = records(dir.path());
        assert_eq!(fs::metadata(&path).unwrap().len(), 16 << 10, "zeros up to the size it was made with");
        fs::File::options().write(true).open(&path).unwrap().set_len((16 << 10) + more).unwrap();
        let wal = small().open(dir.path()).unwrap();
        assert_eq!((payloads(&wal), wal.recovery().torn), (filled(0..10), None));
        wal.append(&payload(10)).unwrap().wait().unwrap();
        assert_eq!(payloads(&wal), filled(0..11));
    }
}

#[test]
fn garbage_at_the_end_is_never_read_as_records() {
    let dir = ten(false);
    let (path, records) = records(dir.path());
    overwrite(&path, records[9] + FRAME + 100, &[0xa5; 3000]);
    assert_eq!(payloads(&small().open(dir.path()).unwrap()), filled(0..10));
}

#[test]
fn garbage_behind_a_closed_log_is_refused() {
    // Its newest segment ends where MARK says, or is as long as it was made.
    let dir = ten(true);
    let (path, records) = records(dir.path());
    overwrite(&path, records[9] + FRAME + 100, &[0xa5; 3000]);
    let (_, damage) = refused(dir.path());
    assert_eq!(damage.offset, (records[9] + FRAME + 100) as u64);
    assert_eq!(reached(dir.path()), (filled(0..10), filled(0..10)));
}

#[test]
fn ten_more_records_behind_a_torn_one_are_all_there() {
    let dir = ten(false);
    let (path, records) = records(dir.path());
    // Half a frame behind the tenth, as a killed writer may leave it.
    let bytes = fs::read(&path).unwrap();
    let half = bytes[records[9]..records[9] + 60].to_vec();
    overwrite(&path, records[9] + FRAME + 100, &half);
    let open = || small().open(dir.path()).unwrap();
    let wal = open();
    for n in 10..20 {
        wal.append(&payload(n)).unwrap().wait().unwrap();
    }
    drop(wal);
    assert_eq!(payloads(&open()), filled(0..20));
}

#[test]
fn foreign_files_are_named_and_left_alone() {
    let dir = ten(true);
    for (name, bytes) in [("log-1", ""), ("backup-of-log-1-2.tmp", "old records")] {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(payloads(&wal), filled(0..10));
    wal.append(&payload(10)).unwrap().wait().unwrap();
    wal.close().unwrap();
    let notes = wal.recovery().notes.join("\n");
    for (name, bytes) in [("log-1", ""), ("backup-of-log-1-2.tmp", "old records")] {
        assert!(notes.contains(name), "{notes}");
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), bytes);
    }
}

/// A log of three segments and more, closed.
fn longer() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let wal: Wal = small().open(dir.path()).unwrap();
    for n in 0..400 {
        drop(wal.append(&payload(n)).unwrap());
    }
    wal.close().unwrap();
    dir
}

#[test]
fn a_middle_segment_removed_truncated_swapped_or_copied_is_named() {
    type Harm = fn(&[PathBuf]);
    let harms: [Harm; 4] = [
        |files| fs::remove_file(&files[1]).unwrap(),
        |files| fs::File::options().write(true).open(&files[1]).unwrap().set_len(8192).unwrap(),
        |files| {
            fs::rename(&files[1], files[1].with_extension("swap")).unwrap();
            fs::rename(&files[2], &files[1]).unwrap();
            fs::rename(files[1].with_extension("swap"), &files[2]).unwrap();
        },
        |files| _ = fs::copy(&files[0], &files[1]).unwrap(),
    ];
    for harm in harms {
        let dir = longer();
        let files = segments(dir.path());
        harm(&files);
        let (error, damage) = refused(dir.path());
        let name = files[1].file_name().unwrap().to_str().unwrap();
        assert!(damage.segment == name || damage.what.contains(name), "{error}");
    }
}

#[test]
fn a_segment_copied_under_another_name_is_named_and_read_once() {
    let dir = longer();
    let files = segments(dir.path());
    let copy = "00000000000099999744.wal";
    fs::copy(&files[1], dir.path().join(copy)).unwrap();
    let (_, damage) = refused(dir.path());
    assert_eq!(damage.segment, copy);
    assert_eq!(reached(dir.path()), (filled(0..400), filled(0..400)));
}

#[test]
fn segments_behind_damaged_ones_are_read_by_whoever_asks_to_go_on() {
    let dir = longer();
    let files = segments(dir.path());
    let (from, to) = (4200, 12_200);
    let frames = spec::segment(&fs::read(&files[0]).unwrap()).unwrap().frames;
    let records = frames.iter().filter(|frame| frame.kind == 1);
    let lost: Vec<_> =
        records.filter(|frame| frame.at < to && frame.end() > from).map(|frame| &frame.payload).collect();
    overwrite(&files[0], from, &vec![0xff; to - from]);
    let left: Vec<_> = filled(0..400).into_iter().filter(|payload| !lost.contains(&payload)).collect();
    assert!(lost.len() > 60 && left.len() + lost.len() == 400);
    assert_eq!(reached(dir.path()), (left.clone(), left));
}
