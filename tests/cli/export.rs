//! `seawall export`: a part of a log as a new log, record by record as it was.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use seawall::{BatchTime, Kind, Lsn, Options, Record, Wal};
use serde_json::{Value, json};

use crate::{first_segment, flip, lines, log, said, seawall, segments, signal, text};

/// All but the LSNs.
type Told = (BatchTime, Kind, bool, Vec<u8>);

fn records(dir: &Path) -> Vec<Record> {
    let log = Options::new().open_read_only(dir).unwrap();
    log.read(..).unwrap().map(|record| record.unwrap()).collect()
}

fn told(records: &[Record]) -> Vec<Told> {
    records.iter().map(|r| (r.batch_time, r.kind, r.ends_batch, r.payload.to_vec())).collect()
}

/// Records, batches and checkpoints under times of their own.
fn mixed(dir: &Path) -> Wal {
    let wal = Options::new().segment_size(64 << 10).open(dir).unwrap();
    for n in 0..600_u64 {
        let at = wal.at(1000 - n);
        drop(at.append(format!("record {n} {}", "x".repeat(100)).as_bytes()).unwrap());
        drop(at.append_batch(&[vec![1; 10], vec![], vec![2; n as usize]]).unwrap());
        if n % 100 == 0 {
            drop(at.append_checkpoint(&n.to_le_bytes()).unwrap());
        }
    }
    wal.sync().unwrap();
    wal
}

fn export(from: &Path, to: &Path, range: Option<Range<u64>>, more: &[&str]) -> std::process::Output {
    let range = range.map(|range| [range.start.to_string(), range.end.to_string()]);
    let mut arguments = vec!["export", text(from), "--out", text(to)];
    if let Some([from, to]) = &range {
        arguments.extend(["--from", from, "--to", to]);
    }
    arguments.extend(more);
    seawall(&arguments)
}

#[test]
fn a_part_of_a_live_log_is_written_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    let wal = mixed(&old);
    let all = records(&old);
    // Where batches begin.
    let [from, to] = [700, 1500].map(|from| (from..).find(|n| all[n - 1].ends_batch).unwrap());
    let output = export(&old, &new, Some(all[from].lsn.0..all[to].lsn.0), &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let written = records(&new);
    assert_eq!(told(&written), told(&all[from..to]));
    let batches = written.iter().filter(|record| record.ends_batch).count();
    let end = Options::new().open_read_only(&new).unwrap().durable_lsn();
    assert_eq!(
        lines(&output),
        [json!({
            "records": to - from, "batches": batches, "parts": 0, "damaged": 0, "removed": 0, "unproven": 0, "end": end.0,
        })]
    );
    assert_eq!(seawall(&["verify", text(&new)]).status.code(), Some(0));
    drop(wal);

    let whole = temp.path().join("whole");
    let output = export(&old, &whole, None, &[]);
    assert_eq!(told(&records(&whole)), told(&all));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.starts_with("2 406 records in ") && shown.contains("LSNs are new"), "{shown}");
}

#[test]
fn redacted_no_byte_of_a_payload_is_left() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    drop(mixed(&old));
    assert_eq!(export(&old, &new, None, &["--redact"]).status.code(), Some(0));
    let (before, after) = (records(&old), records(&new));
    let blank = |(time, kind, ends, payload): Told| (time, kind, ends, vec![0; payload.len()]);
    assert_eq!(told(&after), told(&before).into_iter().map(blank).collect::<Vec<_>>());
    for entry in fs::read_dir(&new).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|bytes| bytes == b"record " || bytes == [b'x'; 7] || bytes == [2; 7]));
    }
}

#[test]
fn what_is_damaged_is_left_out_and_exits_with_3() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    drop(log(&old, 2000));
    let all = records(&old);
    flip(&first_segment(&old), all[7].lsn.0 + 40);
    let output = export(&old, &new, None, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("damage: ") && said(&output).contains("lost: 1 record"), "{}", said(&output));
    let left: Vec<_> = all.iter().filter(|record| record.lsn != all[7].lsn).cloned().collect();
    assert_eq!(told(&records(&new)), told(&left));
    // Beyond the damage there is none.
    let beyond = temp.path().join("beyond");
    let output = export(&old, &beyond, Some(all[8].lsn.0..u64::MAX), &["--json"]);
    assert_eq!((output.status.code(), &lines(&output)[0]["damaged"]), (Some(0), &json!(0)), "{}", said(&output));
    assert!(said(&output).is_empty() && told(&records(&beyond)) == told(&all[8..]), "{}", said(&output));
    let from = |index: usize| seawall(&["dump", text(&old), "--from", &all[index].lsn.0.to_string()]);
    assert_eq!((from(8).status.code(), said(&from(8))), (Some(0), String::new()));
    // Within it there is.
    assert_eq!(from(7).status.code(), Some(2));
    let within = temp.path().join("within");
    assert_eq!(export(&old, &within, Some(all[8].lsn.0 - 1..u64::MAX), &[]).status.code(), Some(3));
    let next = temp.path().join("next");
    assert_eq!(export(&old, &next, Some(0..all[7].lsn.0), &[]).status.code(), Some(0));
    assert_eq!(told(&records(&next)), told(&all[..7]));
}

/// It was said to be written with loss, although all of it was written.
#[test]
fn damage_that_costs_no_record_is_told_and_exits_with_0() {
    let temp = tempfile::tempdir().unwrap();
    let old = temp.path().join("old");
    log(&old, 2000).close().unwrap();
    let all = told(&records(&old));
    let file = &segments(&old)[1];
    // Its header, its link, and both, which are one place.
    for (number, places) in [&[20][..], &[4096 + 30], &[20, 4096 + 30]].into_iter().enumerate() {
        places.iter().for_each(|at| flip(file, *at));
        let new = temp.path().join(format!("new.{number}"));
        let output = export(&old, &new, None, &["--json"]);
        let damaged = lines(&output)[0]["damaged"].as_u64().unwrap();
        assert_eq!((output.status.code(), damaged), (Some(0), 1), "{places:?}: {}", said(&output));
        assert_eq!(said(&output).matches("damage: ").count(), 1, "{}", said(&output));
        assert_eq!(told(&records(&new)), all);
        places.iter().for_each(|at| flip(file, *at));
    }
}

/// A log of so many segments of 1 MiB, and its records.
fn large(dir: &Path, segments: u64) -> (Wal, Vec<Record>) {
    let wal = Options::new().segment_size(1 << 20).open(dir).unwrap();
    for number in 0..segments * 1024 {
        drop(wal.append(format!("record {number} {}", "x".repeat(1000)).as_bytes()).unwrap());
    }
    wal.sync().unwrap();
    (wal, records(dir))
}

/// Cleans away all but the newest segment, as if all of the others held newer segments then: how many become so is the
/// writer's choice. Says where the log begins.
fn overtake(wal: &Wal, dir: &Path, newest: Lsn) -> Lsn {
    let open = |path: &PathBuf| fs::File::options().write(true).open(path).unwrap();
    let files: Vec<_> = segments(dir).iter().map(open).collect();
    let cleaned = wal.clean_before_lsn(newest).unwrap();
    for file in files.iter().take(cleaned.removed.len()) {
        file.write_all_at(&[0; (1 << 20) - 4096], 4096).unwrap();
    }
    cleaned.first
}

/// An export that stands still while it is overtaken. `None`: it had read too far before.
fn overtaken(dir: &Path, count: u64) -> Option<(std::process::Output, Vec<Record>, Lsn)> {
    let (old, new) = (dir.join("old"), dir.join("new"));
    let (wal, all) = large(&old, count);
    let mut process = spawn(&["export", text(&old), "--json", "--out", text(&new)]);
    while process.try_wait().unwrap().is_none() && (!new.exists() || segments(&new).len() < 3) {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&process, libc::SIGSTOP);
    let first = overtake(&wal, &old, all.last().unwrap().lsn);
    signal(&process, libc::SIGCONT);
    let output = process.wait_with_output().unwrap();
    (lines(&output)[0]["removed"] != 0).then_some((output, all, first))
}

fn spawn(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_is_cleaned_away_in_the_middle_is_told_and_exits_with_3() {
    let temps: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut tries = temps.iter().zip([32, 64, 128, 256]);
    let found = tries.find_map(|(temp, count)| Some((temp, overtaken(temp.path(), count)?)));
    let (temp, (output, all, first)) = found.expect("no export told that it was overtaken");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("missing: records from LSN "), "{}", said(&output));
    assert!(said(&output).contains(&format!("reading went on at LSN {first}")), "{}", said(&output));
    let report = &lines(&output)[0];
    assert_eq!((&report["removed"], &report["damaged"]), (&json!(1), &json!(0)));
    let left = &all[all.partition_point(|record| record.lsn < first)..];
    let written = records(&temp.path().join("new"));
    let read = written.len() - left.len();
    assert!(0 < read && read < all.len() - left.len(), "{read}");
    assert_eq!(told(&written), told(&[&all[..read], left].concat()));
}

#[test]
fn a_dump_that_is_overtaken_says_so_and_exits_with_0() {
    let temp = tempfile::tempdir().unwrap();
    let (wal, all) = large(temp.path(), 8);
    let mut process = spawn(&["dump", text(temp.path()), "--json"]);
    // It goes no further than the pipe takes.
    let mut shown = BufReader::new(process.stdout.take().unwrap()).lines();
    let begun = shown.next().unwrap().unwrap();
    let first = overtake(&wal, temp.path(), all.last().unwrap().lsn);
    let lsns: Vec<_> = [begun].into_iter().chain(shown.map(Result::unwrap)).map(|line| lsn(&line)).collect();
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("note: records from LSN "), "{}", said(&output));
    assert!(said(&output).contains(&format!("reading went on at LSN {first}")), "{}", said(&output));
    let all: Vec<_> = all.iter().map(|record| record.lsn).collect();
    let left = &all[all.partition_point(|lsn| *lsn < first)..];
    let read = lsns.len() - left.len();
    assert!(0 < read && read < all.len() - left.len(), "{read}");
    assert_eq!(lsns, [&all[..read], left].concat());
}

fn lsn(line: &str) -> Lsn {
    Lsn(serde_json::from_str::<Value>(line).unwrap()["lsn"].as_u64().unwrap())
}

#[test]
fn a_lone_file_is_exported_too() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new, copy) = (temp.path().join("old"), temp.path().join("new"), temp.path().join("00.aside"));
    drop(log(&old, 2000));
    fs::copy(first_segment(&old), &copy).unwrap();
    assert_eq!(export(&copy, &new, None, &[]).status.code(), Some(0));
    let written = records(&new);
    assert!(written.len() > 100);
    assert_eq!(told(&written), told(&records(&old)[..written.len()]));
}

#[test]
fn nothing_is_written_where_there_is_something() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new, file) = (temp.path().join("old"), temp.path().join("new"), temp.path().join("file"));
    drop(log(&old, 10));
    fs::create_dir(&new).unwrap();
    assert_eq!(export(&old, &new, None, &[]).status.code(), Some(0));
    fs::write(&file, "mine").unwrap();
    for (place, why) in [(&new, "is not empty"), (&old, "is not empty"), (&file, "cannot hold the log")] {
        let output = export(&old, place, None, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(why), "{}", said(&output));
    }
    assert_eq!(records(&old).len(), 10);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let none = temp.path().join("none");
    assert_eq!(export(&none, &temp.path().join("unmade"), None, &[]).status.code(), Some(1));
    assert!(!temp.path().join("unmade").exists());
}

/// The new log was made among the files of another, which then had a directory of somebody else.
#[test]
fn nothing_is_written_among_the_files_of_another_log() {
    let temp = tempfile::tempdir().unwrap();
    let [old, other, link] = ["old", "other", "link"].map(|name| temp.path().join(name));
    drop((log(&old, 10), log(&other, 10)));
    fs::create_dir(other.join("empty")).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let files = || fs::read_dir(&other).unwrap().count();
    let before = files();
    for marked in [true, false] {
        for place in ["other/new", "other/empty", "other/new/lower", "link/new", "other/none/../new"] {
            let to = temp.path().join(place);
            for command in [["export", text(&old), "--out", text(&to)], ["salvage", text(&old), "--to", text(&to)]] {
                let output = seawall(&command);
                let told = said(&output);
                assert_eq!(output.status.code(), Some(1), "{command:?}");
                assert!(told.contains("holds another log; nothing was written: name a directory beside it"), "{told}");
                assert_eq!(files(), before - usize::from(!marked), "{command:?}");
            }
        }
        // Without MARK it is a log still.
        _ = fs::remove_file(other.join("MARK"));
    }
    // Nor into a directory there, but one in that is no part of the log.
    fs::write(other.join("empty/mine"), "mine").unwrap();
    assert_eq!(export(&old, &other.join("empty/new"), None, &[]).status.code(), Some(0));
}

/// Payloads, each with whether its batch ends there.
fn batches(dir: &Path) -> Vec<(String, bool)> {
    records(dir).iter().map(|r| (String::from_utf8(r.payload.to_vec()).unwrap(), r.ends_batch)).collect()
}

#[test]
fn of_a_damaged_batch_each_record_is_written_on_its_own() {
    // In the header, which alone tells whether the batch goes on, and in the payload.
    for (hit, at) in (0..3).flat_map(|hit| [(hit, 2), (hit, 30)]) {
        for command in ["export", "salvage"] {
            let temp = tempfile::tempdir().unwrap();
            let (old, new) = (temp.path().join("old"), temp.path().join("new"));
            let wal = Wal::open(&old).unwrap();
            let payload = |n: u32| format!("payload {n}");
            wal.append(b"before").unwrap().wait().unwrap();
            wal.append_batch(&[payload(0), payload(1), payload(2)]).unwrap().wait().unwrap();
            wal.append_batch(&["after", "it"]).unwrap().wait().unwrap();
            wal.append(b"last").unwrap().wait().unwrap();
            wal.close().unwrap();
            flip(&first_segment(&old), records_at(&old)[1 + hit] + at);
            let output = match command {
                "export" => export(&old, &new, None, &[]),
                _ => seawall(&["salvage", text(&old), "--to", text(&new)]),
            };
            let told = String::from_utf8(output.stdout.clone()).unwrap();
            assert_eq!(output.status.code(), Some(3), "{told}");
            assert!(told.contains("parts of 1 batch, "), "{command} {hit} {at}: {told}");
            let parts = (0..3).filter(|n| *n != hit).map(|n| (payload(n as u32), true));
            let whole = [("after".into(), false), ("it".into(), true), ("last".into(), true)];
            let expected: Vec<_> = [("before".into(), true)].into_iter().chain(parts).chain(whole).collect();
            assert_eq!(batches(&new), expected, "{command} {hit} {at}");
        }
    }
}

/// What lies in the range was written as a batch.
#[test]
fn of_a_batch_that_the_range_cuts_each_record_is_written_on_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let old = temp.path().join("old");
    let wal = Wal::open(&old).unwrap();
    wal.append_batch(&["a", "b", "c"]).unwrap().wait().unwrap();
    wal.append_batch(&["d", "e"]).unwrap().wait().unwrap();
    wal.append_batch(&["f", "g", "h"]).unwrap().wait().unwrap();
    wal.close().unwrap();
    let at = records_at(&old);
    for (from, to, parts, expected) in [
        (1, 7, 2, &[("b", true), ("c", true), ("d", false), ("e", true), ("f", true), ("g", true)][..]),
        (3, 5, 0, &[("d", false), ("e", true)]),
        (4, 5, 1, &[("e", true)]),
    ] {
        let new = temp.path().join(format!("{from}"));
        let output = export(&old, &new, Some(at[from]..at[to]), &["--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(lines(&output)[0]["parts"], json!(parts), "{from}");
        let expected: Vec<_> = expected.iter().map(|(text, ends)| ((*text).to_owned(), *ends)).collect();
        assert_eq!(batches(&new), expected, "{from}");
    }
}

fn records_at(dir: &Path) -> Vec<u64> {
    records(dir).iter().map(|record| record.lsn.0).collect()
}

/// That more than one of them is gone was not said: what begins with the first that is left begins with what is lost.
#[test]
fn segments_that_are_gone_at_the_front_are_told() {
    let temp = tempfile::tempdir().unwrap();
    let old = temp.path().join("old");
    log(&old, 3000).close().unwrap();
    for gone in 1..4 {
        fs::remove_file(first_segment(&old)).unwrap();
        let dump = seawall(&["dump", text(&old), "--json"]);
        assert_eq!(dump.status.code(), Some(2), "{gone} gone: {}", said(&dump));
        let left = lines(&dump).len();
        assert!(0 < left && left < 3000, "{left}");
        let new = temp.path().join(format!("new.{gone}"));
        let export = seawall(&["export", text(&old), "--json", "--out", text(&new)]);
        assert_eq!(export.status.code(), Some(3), "{gone} gone: {}", said(&export));
        assert_eq!((&lines(&export)[0]["damaged"], records(&new).len()), (&json!(1), left));
        // From where nothing is missing any more.
        let from = newest_base(&old);
        let dump = seawall(&["dump", text(&old), "--from", &from.to_string()]);
        assert_eq!(dump.status.code(), Some(0), "{gone} gone: {}", said(&dump));
    }
}

/// Without MARK nothing says that the last records are durable: they are left out, and that was not said.
#[test]
fn what_nothing_says_is_durable_is_left_out_and_told() {
    let temp = tempfile::tempdir().unwrap();
    let (old, copy, new) = (temp.path().join("old"), temp.path().join("copy"), temp.path().join("new"));
    let wal = log(&old, 100);
    fs::create_dir(&copy).unwrap();
    segments(&old).iter().for_each(|path| _ = fs::copy(path, copy.join(path.file_name().unwrap())).unwrap());
    drop(wal);
    let export = seawall(&["export", text(&copy), "--json", "--out", text(&new)]);
    assert_eq!(export.status.code(), Some(0), "{}", said(&export));
    let unproven = lines(&export)[0]["unproven"].as_u64().unwrap();
    assert!(unproven > 0 && said(&export).contains("note: not shown: "), "{}", said(&export));
    assert_eq!(lines(&export)[0]["records"].as_u64().unwrap() + unproven, 100);
}

/// The base of the newest segment that was used.
fn newest_base(dir: &Path) -> u64 {
    let mut used = segments(dir).into_iter().filter(|path| fs::metadata(path).unwrap().len() > 8192);
    used.next_back().unwrap().file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// It ended in silence, and left a new log of nothing.
#[test]
fn that_nothing_lies_in_a_range_is_said() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    drop(log(&old, 10));
    let output = export(&old, &new, Some(1_000_000..2_000_000), &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output).contains("no record lies in what was asked for"), "{}", said(&output));
    let unmade = temp.path().join("unmade");
    let output = seawall(&["export", text(&old), "--out", text(&unmade), "--from", "9000", "--to", "8000"]);
    assert_eq!((output.status.code(), unmade.exists()), (Some(1), false));
    assert!(said(&output).contains("--from 9000 lies above --to 8000"), "{}", said(&output));
}
