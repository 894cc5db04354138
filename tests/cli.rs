//! The command line tool: exit codes, what it writes, and what it says when something is wrong.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::panic)]

#[path = "cli/back.rs"]
mod back;
#[path = "cli/bench.rs"]
mod bench;
mod common;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/export.rs"]
mod export;
#[path = "cli/full.rs"]
mod full;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/looking.rs"]
mod looking;
#[path = "cli/receive.rs"]
mod receive;
#[path = "cli/repair.rs"]
mod repair;
#[path = "cli/salvage.rs"]
mod salvage;
#[path = "cli/stats.rs"]
mod stats;
#[path = "cli/tail.rs"]
mod tail;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use seawall::receiver::{BlockBuilder, Handover, Message, OffsetTable, Origin, OriginCause, Partition, TopicId};
use seawall::{Lsn, Options, Wal};
use serde_json::{Value, json};

fn seawall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seawall")).args(arguments).output().unwrap()
}

/// Sends a signal to a child that was not waited for.
fn signal(process: &Child, signal: i32) {
    // SAFETY: the process is a child of ours that was not waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(process.id() as libc::pid_t, signal) }, 0);
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    output.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A log of `records` records of a few bytes, not a receiver's.
fn log(dir: &Path, records: u64) -> Wal {
    let wal = Options::new().segment_size(64 << 10).open(dir).unwrap();
    for number in 0..records {
        drop(wal.at(number).append(format!("record {number} {}", "x".repeat(100)).as_bytes()).unwrap());
    }
    wal.sync().unwrap();
    wal
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
    files.sort();
    files
}

fn first_segment(dir: &Path) -> PathBuf {
    segments(dir).remove(0)
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[test]
fn help_has_examples_and_wrong_usage_exits_with_1() {
    for command in [
        "receive",
        "inspect",
        "dump",
        "tail",
        "stats",
        "verify",
        "repair",
        "salvage",
        "export",
        "bench",
        "demo",
        "completions",
    ] {
        let output = seawall(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Examples:") && help.contains(&format!("seawall {command}")), "{help}");
        assert!(help.contains("Exit codes: 0 "), "{help}");
        assert_eq!(help.contains(" 4 "), ["receive", "repair", "export"].contains(&command), "{help}");
        assert_eq!(help.contains("5 written by"), !["bench", "demo", "completions"].contains(&command), "{help}");
    }
    for wrong in [
        &[][..],
        &["no-such"],
        &["dump"],
        &["receive", "--brokers", "b:1"],
        &["verify", "--no-such", "d"],
        &["repair", "d", "--pass-over", "--cut", "1"],
        &["verify", "--threads", "0", "d"],
    ] {
        assert_eq!(seawall(wrong).status.code(), Some(1), "{wrong:?}");
    }
}

/// It was taken as 1.
#[test]
fn no_thread_at_all_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    drop(log(temp.path(), 10));
    let output = seawall(&["verify", "--threads", "0", text(temp.path())]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("at least 1"), "{}", said(&output));
    assert_eq!(seawall(&["verify", "--threads", "1", text(temp.path())]).status.code(), Some(0));
}

/// One of the two stood there as an absolute path.
#[test]
fn a_path_is_said_as_it_was_named() {
    let temp = tempfile::tempdir().unwrap();
    drop(log(&temp.path().join("log"), 10));
    let first = first_segment(&temp.path().join("log"));
    let file = first.file_name().unwrap().to_str().unwrap();
    let long = format!("log/{file}");
    for (from, named, dir) in
        [("log", file, "."), ("", &*long, "log"), ("log", text(&first), text(first.parent().unwrap()))]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        let output = command.args(["tail", named]).current_dir(temp.path().join(from)).output().unwrap();
        let told = said(&output);
        assert!(told.contains(&format!("where    {named}\n")), "{told}");
        assert!(told.contains(&format!("holds the log: {dir}   |   seawall dump {named}   |   ")), "{told}");
        assert!(told.contains(&format!("   |   seawall salvage {named} --to ")), "{told}");
    }
}

#[test]
fn settings_that_are_not_the_callers_are_refused_before_anything_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    for setting in [
        "enable.auto.commit=true",
        "enable.auto.offset.store=true",
        "auto.offset.reset=latest",
        "isolation.level=read_uncommitted",
    ] {
        let usual = ["receive", "--brokers", "127.0.0.1:1", "--group", "g", "--topic", "t", "--dir", text(&dir)];
        let output = seawall(&[&usual[..], &["-X", setting]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(setting) && said(&output).contains("cannot be changed"), "{}", said(&output));
        assert!(!dir.exists());
    }
}

#[test]
fn settings_that_the_client_does_not_take_are_refused_before_anything_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    // One that is unknown, one that cannot be read, one that does not go with another.
    for (setting, named) in [
        ("no.such.setting=1", "no.such.setting"),
        ("session.timeout.ms=soon", "session.timeout.ms=soon"),
        ("max.poll.interval.ms=1000", "max.poll.interval.ms"),
    ] {
        let usual = ["receive", "--brokers", "127.0.0.1:1", "--group", "g", "--topic", "t", "--dir", text(&dir)];
        let output = seawall(&[&usual[..], &["-X", setting]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(named), "{}", said(&output));
        assert!(!dir.exists() && output.stdout.is_empty(), "{setting}");
    }
}

#[test]
fn a_log_that_is_not_there_is_said_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("nothing");
    for command in ["dump", "verify", "inspect", "tail", "stats"] {
        let output = seawall(&[command, text(&dir)]);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).starts_with("error: ") && said(&output).contains(text(&dir)), "{}", said(&output));
    }
}

#[test]
fn a_log_that_another_has_open_is_locked_for_receive_and_not_for_dump() {
    let temp = tempfile::tempdir().unwrap();
    let _wal = log(temp.path(), 10);
    let dir = text(temp.path());
    let output = seawall(&["receive", "--brokers", "127.0.0.1:1", "--group", "g", "--topic", "t", "--dir", dir]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let output = seawall(&["dump", dir, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(lines(&output).len(), 10);
}

#[test]
fn records_that_are_no_blocks_are_dumped_as_they_are() {
    let temp = tempfile::tempdir().unwrap();
    let wal = Wal::open(temp.path()).unwrap();
    let first = wal.at(7).append(b"any bytes").unwrap().wait().unwrap();
    let second = wal.at(8).append_checkpoint(b"").unwrap().wait().unwrap();
    drop(wal);
    let output = seawall(&["dump", text(temp.path()), "--json"]);
    let expected = [
        json!({ "lsn": first.0, "batch_time": 7, "kind": "record", "payload": "YW55IGJ5dGVz" }),
        json!({ "lsn": second.0, "batch_time": 8, "kind": "checkpoint", "payload": "" }),
    ];
    assert_eq!(lines(&output), expected);
}

#[test]
fn a_block_is_dumped_with_its_ranges_and_its_records_as_received() {
    let temp = tempfile::tempdir().unwrap();
    let partition = Partition { topic: "orders".into(), number: 2 };
    let origin = Origin::new(partition.clone(), TopicId([7; 16]), None, 5, OriginCause::Earliest);
    let mut builder = BlockBuilder::new();
    let range = builder.range(&partition, TopicId([7; 16]), 5);
    let headers: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"")), (b"a", None), (&[0xff], Some(b"v"))];
    let message = |offset, key, value| Message {
        partition: &partition,
        offset,
        timestamp: 1000,
        timestamp_type: 1,
        key,
        value,
        headers: if offset == 5 { &headers } else { &[] },
    };
    builder.push(range, &message(5, Some(b"k"), None));
    builder.push(range, &message(7, None, Some(b"")));
    let wal = Wal::open(temp.path()).unwrap();
    drop(wal.append(&origin.encode()).unwrap());
    wal.append_parts(&builder.seal().parts()).unwrap().wait().unwrap();
    drop(wal);

    let output = seawall(&["dump", text(temp.path()), "--json"]);
    let [origin, block] = &lines(&output)[..] else { panic!("{output:?}") };
    assert_eq!((&origin["kind"], &origin["topic"], &origin["next"]), (&json!("origin"), &json!("orders"), &json!(5)));
    assert_eq!(block["kind"], "block");
    assert_eq!(block["ranges"], json!([{ "topic": "orders", "partition": 2, "from": 5, "next": 8, "count": 2 }]));
    let record = |offset: i64, key: Value, value: Value, headers: Value| {
        json!({
            "topic": "orders", "partition": 2, "offset": offset, "timestamp": 1000,
            "key": key, "value": value, "headers": headers,
        })
    };
    let headers = json!([["a", ""], ["a", null], [{ "base64": "/w==" }, "dg=="]]);
    let expected = [record(5, json!("aw=="), Value::Null, headers), record(7, Value::Null, json!(""), json!([]))];
    assert_eq!(block["records"], json!(expected));

    let output = seawall(&["dump", text(temp.path())]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("orders/2[5, 8)") && shown.contains("orders/2@7") && shown.contains("null"), "{shown}");
}

/// The names of all fields of a value.
fn fields(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(inner) => {
            inner.iter().flat_map(|(name, value)| [fields(value), [name.clone()].into()]).flatten().collect()
        }
        Value::Array(inner) => inner.iter().flat_map(fields).collect(),
        _ => BTreeSet::new(),
    }
}

#[test]
fn the_help_of_dump_has_every_kind_of_line_and_speaks_of_every_field() {
    let temp = tempfile::tempdir().unwrap();
    let partition = Partition { topic: "orders".into(), number: 2 };
    let origin = Origin::new(partition.clone(), TopicId([7; 16]), None, 5, OriginCause::NewPartition);
    let handover = Handover::new(partition.clone(), TopicId([7; 16]), 5, 6, None);
    let mut builder = BlockBuilder::new();
    let range = builder.range(&partition, TopicId([7; 16]), 6);
    let (key, value, headers) = (None, None, &[(&b"\xff"[..], None)][..]);
    builder.push(
        range,
        &Message { partition: &partition, offset: 6, timestamp: 0, timestamp_type: 1, key, value, headers },
    );
    let mut table = OffsetTable::new();
    table.apply_origin(&origin, Lsn(1)).unwrap();
    let wal = Wal::open(temp.path()).unwrap();
    for payload in [origin.encode(), handover.encode(), builder.seal().parts().concat(), b"any".to_vec()] {
        drop(wal.append(&payload).unwrap());
    }
    wal.append_checkpoint(&table.encode()).unwrap().wait().unwrap();
    drop(wal);
    let dumped = lines(&seawall(&["dump", text(temp.path()), "--json"]));
    let help = String::from_utf8(seawall(&["dump", "--help"]).stdout).unwrap();
    let rows: BTreeSet<_> = help.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let words: BTreeSet<_> =
        help.split(|c: char| !c.is_ascii_lowercase() && c != '_' && c != '6' && c != '4').collect();
    let kinds: BTreeSet<_> = dumped.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["block", "checkpoint", "handover", "origin", "record"].into());
    assert!(kinds.is_subset(&rows), "{help}");
    for line in &dumped {
        assert!(fields(line).iter().all(|field| words.contains(field.as_str())), "{line}\n{help}");
    }
    assert!(words.contains(dumped[0]["cause"].as_str().unwrap()), "{help}");
    assert!(!help.contains("everything in base64"), "{help}");
}

#[test]
fn verify_finds_a_flipped_bit_and_dump_goes_on_past_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 2000));
    let output = seawall(&["verify", dir, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!((&lines(&output)[0]["clean"], &lines(&output)[0]["records"]), (&json!(true), &json!(2000)));

    let path = first_segment(temp.path());
    flip(&path, 20_000);
    let output = seawall(&["verify", dir, "--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let report = &lines(&output)[0];
    let fault = &report["faults"][0];
    assert_eq!(
        (&report["clean"], &report["records"], &fault["lost_records"]),
        (&json!(false), &json!(1999), &json!(1))
    );
    assert_eq!(fault["segment"], path.file_name().unwrap().to_str().unwrap());
    assert!((19_800..=20_000).contains(&fault["offset"].as_u64().unwrap()), "{fault}");
    let output = seawall(&["verify", dir]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stdout).unwrap().contains("damaged in 1 place"));

    let output = seawall(&["dump", dir, "--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(lines(&output).len(), 1999);
    assert!(said(&output).contains("damage: ") && said(&output).contains("lost: 1 record"), "{}", said(&output));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let temp = tempfile::tempdir().unwrap();
    drop(log(temp.path(), 20_000));
    let mut dump = Command::new(env!("CARGO_BIN_EXE_seawall"));
    let mut dump =
        dump.args(["dump", text(temp.path())]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(dump.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let output = dump.wait_with_output().unwrap();
    assert_eq!((output.status.code(), said(&output)), (Some(0), String::new()));
}

#[test]
fn damage_is_the_outcome_although_nobody_reads_what_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 20_000));
    // The first record is damaged; what follows does not fit into a pipe.
    flip(&first_segment(temp.path()), 8192 + 60);
    for arguments in [&["verify", dir][..], &["verify", dir, "--json"], &["dump", dir], &["dump", dir, "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains("error"), "{arguments:?}: {}", said(&output));
    }
}

/// Once the pipe was found closed, what was read next was thrown away unseen.
#[test]
fn damage_that_is_met_as_the_reader_goes_away_is_the_outcome() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 20_000));
    let shown = String::from_utf8(seawall(&["dump", dir]).stdout).unwrap();
    // The first that does not fit beside those before it into what is written at once.
    let mut bytes = 0;
    let full = shown.lines().position(|line| {
        bytes += line.len() + 1;
        bytes > 1 << 16
    });
    let next: u64 = shown.lines().nth(full.unwrap() + 1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let segments = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().path());
    let base = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let (base, path) =
        segments.filter_map(|path| Some((base(&path)?, path))).filter(|(b, _)| *b <= next).max().unwrap();
    flip(&path, next - base + 40);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    let output = command.args(["dump", dir]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("\nnext     seawall inspect "), "{}", said(&output));
}

#[test]
fn with_json_an_error_is_an_object_too() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, none) = (text(temp.path()), text(&temp.path().join("none")).to_owned());
    log(temp.path(), 2000).close().unwrap();
    for command in ["dump", "verify", "inspect", "tail", "stats", "repair", "salvage"] {
        let output = seawall(&[command, &none, "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let error = &lines(&output).pop().unwrap()["error"];
        let kind = if command == "salvage" { "io" } else { "not-found" };
        assert_eq!(error["kind"], kind, "{command} {error}");
        assert!(said(&output).starts_with("error: ") && said(&output).contains("\n  next     "), "{}", said(&output));
    }
    let newest = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().path());
    let newest = newest.filter(|path| fs::metadata(path).unwrap().len() > 8192 && path.extension().is_some()).max();
    flip(&newest.unwrap(), 4096 + 300);
    let receive = ["receive", "--brokers", "127.0.0.1:1", "--group", "g", "--topic", "t", "--json", "--dir", dir];
    for arguments in [&["tail", "-f", dir, "--json"][..], &receive] {
        let output = seawall(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let line = lines(&output).pop().unwrap();
        assert_eq!(line.get("event").is_some(), arguments == receive);
        let (error, damage) = (&line["error"], &line["error"]["damage"]);
        assert_eq!((&error["kind"], &damage["lost_records"]), (&json!("damage"), &json!(1)), "{line}");
        let first = error["next"][0].as_str().unwrap();
        assert_eq!(first, format!("seawall inspect {dir} --at {}", damage["lsn"]));
        assert!(said(&output).contains(&format!("  next     {first}   |   seawall repair --dry-run {dir}\n")));
    }
}

/// These had a kind and a text only.
#[test]
fn an_error_of_the_command_itself_has_all_fields_too() {
    let temp = tempfile::tempdir().unwrap();
    let [dir, noise, page] = ["log", "noise", "log/x.html"].map(|name| text(&temp.path().join(name)).to_owned());
    log(Path::new(&dir), 10).close().unwrap();
    fs::write(&noise, (0..20_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect::<Vec<_>>()).unwrap();
    for (arguments, path) in [
        (&["salvage", &noise][..], json!(null)),
        (&["export", &dir, "--out", &dir], json!(dir)),
        (&["export", &dir, "--from", "5", "--to", "3", "--out", &dir], json!(null)),
        (&["dump", &dir, "--from", "5", "--to", "3"], json!(null)),
        (&["inspect", &dir, "--html", &page], json!(page)),
    ] {
        let output = seawall(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let mut error = lines(&output).pop().unwrap()["error"].clone();
        let what = error["text"].take();
        let told = json!({
            "kind": "other", "text": null, "path": path, "offset": null, "touched": "nothing", "next": [], "damage": null,
        });
        assert_eq!(error, told, "{arguments:?}");
        assert_eq!(said(&output), format!("error: {}\n  touched  nothing\n", what.as_str().unwrap()));
    }
    // A page may be begun, and is none of the log.
    let full = ["inspect", &dir, "--html", "/dev/full", "--json"];
    assert_eq!(lines(&seawall(&full)).pop().unwrap()["error"]["touched"], "nothing of the log");
    // Where there are several logs, the error says what leads on.
    let other = text(&temp.path().join("other")).to_owned();
    log(Path::new(&other), 10).close().unwrap();
    let new = text(&temp.path().join("new")).to_owned();
    let output = seawall(&["salvage", &dir, &other, "--to", &new, "--json"]);
    let ways = lines(&output).pop().unwrap()["error"]["next"].as_array().unwrap().clone();
    assert!(ways.len() == 2 && ways.iter().all(|way| way.as_str().unwrap().contains(" --log ")), "{ways:?}");
    assert!(said(&output).contains("\n  next     seawall salvage "), "{}", said(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_told_from_a_log_that_cannot() {
    let temp = tempfile::tempdir().unwrap();
    drop(log(temp.path(), 10));
    for command in ["verify", "dump", "inspect", "tail", "stats"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_seawall"));
        let output = program.args([command, text(temp.path())]).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).starts_with("error: writing to standard output: No space"), "{}", said(&output));
    }
}

#[test]
fn a_log_of_a_newer_version_is_told_from_a_damaged_one() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 10));
    let file = fs::File::options().read(true).write(true).open(first_segment(temp.path())).unwrap();
    let mut header = [0; 72];
    file.read_exact_at(&mut header, 0).unwrap();
    header[8] += 1;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&header[..12]);
    checksum.update(&header[16..]);
    header[12..16].copy_from_slice(&checksum.finalize().to_le_bytes());
    file.write_all_at(&header, 0).unwrap();
    let receive = ["receive", "--brokers", "127.0.0.1:1", "--group", "g", "--topic", "t", "--dir", dir];
    let new = tempfile::tempdir().unwrap();
    // Of which nothing else is left.
    let only = new.path().join("only");
    fs::write(&only, header).unwrap();
    for arguments in [
        &["dump", dir][..],
        &["verify", dir],
        &["inspect", dir],
        &["tail", dir],
        &["stats", dir],
        &["export", dir, "--out", text(&new.path().join("new"))],
        &["salvage", dir],
        &["dump", text(&only)],
        &["verify", text(&only)],
        &["salvage", text(&only)],
        &["salvage", text(&only), "--to", text(&new.path().join("new"))],
        &receive,
    ] {
        let output = seawall(arguments);
        assert_eq!(output.status.code(), Some(5), "{arguments:?}: {}", said(&output));
        // A step without a command in it is none.
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(!shown.trim_end().ends_with("next"), "{arguments:?}: {shown}");
    }
}

/// A log holds a descriptor for each segment.
#[test]
fn a_log_of_many_segments_is_read_whatever_the_soft_limit_is() {
    let temp = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(temp.path()).unwrap();
    for n in 0..100_u8 {
        wal.append(&[n]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.close().unwrap();
    for command in ["verify", "inspect", "dump", "stats", "tail"] {
        for (limit, code) in [("-Sn", 0), ("-n", 1)] {
            let script = format!("ulimit {limit} 64; exec \"$0\" {command} \"$1\"");
            let mut shell = Command::new("sh");
            let output =
                shell.args(["-c", &script, env!("CARGO_BIN_EXE_seawall"), text(temp.path())]).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{command} {limit}: {}", said(&output));
            assert!(code == 0 || said(&output).contains("ulimit -n"), "{command}: {}", said(&output));
        }
    }
}
