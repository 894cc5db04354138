//! The cases of its log's suites.

use std::fs;

use seawall::{BatchTime, ErrorKind, Lsn, Options};

use crate::{filled, payload, payloads, segments, small, spec};

#[test]
fn records_of_many_segments_are_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..1000 {
        drop(wal.append(&payload(n)).unwrap());
    }
    wal.sync().unwrap();
    assert!(segments(dir.path()).len() > 5);
    assert_eq!(payloads(&wal), filled(0..1000));
}

#[test]
fn what_is_written_is_what_a_parser_by_hand_reads() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..300 {
        wal.at(u64::from(n / 10)).append(&payload(n)).unwrap().wait().unwrap();
    }
    wal.close().unwrap();
    let parsed: Vec<_> = segments(dir.path())
        .iter()
        .filter_map(|path| spec::segment(&fs::read(path).unwrap()))
        .flat_map(|segment| segment.frames)
        .filter(|frame| frame.kind == 1)
        .map(|frame| (frame.batch_time, frame.payload))
        .collect();
    let expected: Vec<_> = (0..300).map(|n| (u64::from(n / 10), payload(n))).collect();
    assert_eq!(parsed, expected);
}

#[test]
fn a_new_instance_recovers_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..3 {
        let wal = small().open(dir.path()).unwrap();
        assert_eq!(payloads(&wal), filled(0..life * 200));
        for n in life * 200..(life + 1) * 200 {
            wal.append(&payload(n)).unwrap().wait().unwrap();
        }
    }
}

#[test]
fn a_clean_removes_old_segments_before_it_returns_and_spares_the_batch_time_itself() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..600 {
        drop(wal.at(u64::from(n / 100)).append(&payload(n)).unwrap());
    }
    wal.sync().unwrap();
    let cleaned = wal.clean_before_batch_time(BatchTime(3)).unwrap();
    assert!(!cleaned.removed.is_empty() && cleaned.failed.is_empty(), "{cleaned:?}");
    let left = payloads(&wal);
    // Whole segments only: what is older and in a segment with what is not, stays.
    assert!(left.len() >= 300 && left.len() < 600, "{}", left.len());
    assert_eq!(left, filled(600 - left.len() as u32..600));
    for lsn in [Lsn::ZERO, Lsn(cleaned.first.0 - 1)] {
        assert!(
            matches!(wal.get(lsn).unwrap_err().kind(), ErrorKind::Removed { first, .. } if *first == cleaned.first)
        );
    }
}

#[test]
fn closing_twice_does_no_harm_and_nothing_is_taken_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    wal.append(&payload(0)).unwrap().wait().unwrap();
    wal.close().unwrap();
    wal.close().unwrap();
    let before = segments(dir.path());
    assert_eq!(*wal.append(&payload(1)).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(segments(dir.path()), before, "no file is made after closing");
}

#[test]
fn nothing_is_on_the_disk_before_the_first_write() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let wal = small().open(&log).unwrap();
    assert_eq!(fs::read_dir(&log).unwrap().count(), 0);
    wal.close().unwrap();
    assert_eq!(fs::read_dir(&log).unwrap().count(), 0);
}

#[test]
fn a_missing_directory_is_an_empty_log_or_a_clear_error_by_option() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let refused = Options::new().create(false).open(&log).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::NotFound);
    assert!(refused.to_string().contains(log.to_str().unwrap()), "{refused}");
    assert!(!log.exists());
    assert_eq!(payloads(&Options::new().open(&log).unwrap()), filled([]));
}

#[test]
fn each_durable_append_is_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..300 {
        let lsn = wal.append(&payload(n)).unwrap().wait().unwrap();
        assert_eq!(wal.get(lsn).unwrap().payload, payload(n));
        assert_eq!(payloads(&wal).len(), n as usize + 1);
    }
}

#[test]
fn reading_past_the_end_ends() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let mut records = wal.read(..).unwrap();
    assert!(records.next().is_none() && records.next().is_none());
    drop(records);
    let lsn = wal.append(&payload(0)).unwrap().wait().unwrap();
    let mut records = wal.read(lsn..).unwrap();
    assert_eq!(records.next().unwrap().unwrap().lsn, lsn);
    assert!(records.next().is_none() && records.next().is_none());
    drop(records);
    assert!(wal.read(wal.durable_lsn()..).unwrap().next().is_none());
    assert!(wal.get(wal.durable_lsn()).is_err());
}

#[test]
fn random_reads_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let lsns: Vec<_> = (0..500).map(|n| wal.append(&payload(n)).unwrap().lsn()).collect();
    wal.sync().unwrap();
    // 211 and 500 have no common divisor: each once.
    for n in (0..500).map(|n| n * 211 % 500) {
        assert_eq!(wal.get(lsns[n]).unwrap().payload, payload(n as u32));
    }
}

#[test]
fn a_log_may_be_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let wal = small().open(&here).unwrap();
    let lsn = wal.append(&payload(0)).unwrap().wait().unwrap();
    let id = wal.log_id();
    wal.close().unwrap();
    drop(wal);
    fs::rename(&here, &there).unwrap();
    let wal = small().open(&there).unwrap();
    assert_eq!((wal.get(lsn).unwrap().payload.to_vec(), wal.log_id()), (payload(0), id));
}

#[test]
fn of_two_writers_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(*small().open(dir.path()).unwrap_err().kind(), ErrorKind::Locked);
    wal.append(&payload(0)).unwrap().wait().unwrap();
    drop(wal);
    assert_eq!(payloads(&small().open(dir.path()).unwrap()), filled([0]));
}

#[test]
fn a_segment_is_rolled_by_size_by_the_age_of_batch_times_and_on_request() {
    let of = |options: Options, rotate: bool| {
        let dir = tempfile::tempdir().unwrap();
        let wal = options.open(dir.path()).unwrap();
        for n in 0..20 {
            wal.at(u64::from(n)).append(&payload(n)).unwrap().wait().unwrap();
            if rotate {
                wal.rotate().unwrap();
            }
        }
        assert_eq!(payloads(&wal), filled(0..20));
        wal.stats().segments
    };
    assert_eq!(of(small(), false), 1);
    assert_eq!(of(small().segment_age(5), false), 4);
    assert!(of(small(), true) >= 20);
}
