//! `seawall demo` as it is run: what it proves, and what it leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::receiving::{seawall, with_parent};
use crate::said;

/// The demonstration, with a directory for temporary files of its own.
fn demo(temporary: &Path) -> Command {
    let mut command = seawall();
    command.arg("demo").env("TMPDIR", temporary).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it until the receiver was killed once, then sends it a signal.
fn interrupt(demo: &mut Command, signal: i32) -> Output {
    let mut process = with_parent(demo).spawn().unwrap();
    let mut shown = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("killed the receiver") {
        line.clear();
        assert_ne!(shown.read_line(&mut line).unwrap(), 0, "it ended by itself");
    }
    crate::signal(&process, signal);
    shown.read_to_string(&mut line).unwrap();
    process.wait_with_output().unwrap()
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn each_record_is_there_once_and_nothing_is_left_behind() {
    let temp = tempfile::tempdir().unwrap();
    let output = demo(temp.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("30 000 records: none missing, none twice, every byte as produced"), "{shown}");
    assert!(shown.contains("\nPassed in "), "{shown}");
    assert_eq!(names(temp.path()), BTreeSet::new());
}

/// As where starting a receiver takes so long that all is produced meanwhile.
#[test]
fn each_receiver_of_a_demo_finds_new_records_and_leaves_some_however_slow_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let output = demo(temp.path()).args(["--pace", "1ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown.matches("more are coming").count(), 5, "{shown}");
    assert!(!shown.contains(" 0 of them new"), "{shown}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let temp = tempfile::tempdir().unwrap();
        let output = interrupt(&mut demo(temp.path()), signal);
        assert_eq!(names(temp.path()), BTreeSet::new());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said(&output).contains("interrupted"), "{}", said(&output));
    }
}

#[test]
fn a_demo_touches_nothing_beside_its_directory() {
    let temp = tempfile::tempdir().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let beside = temp.path().join("log.errors");
    fs::write(&beside, "somebody's").unwrap();
    interrupt(demo(temporary.path()).arg("--dir").arg(temp.path().join("log")), libc::SIGTERM);
    assert_eq!(names(temp.path()), BTreeSet::from(["log".to_owned(), "log.errors".to_owned()]));
    assert_eq!(fs::read_to_string(beside).unwrap(), "somebody's");
    assert_eq!(names(temporary.path()), BTreeSet::new());
}

#[test]
fn a_demo_takes_an_empty_directory_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    let among = temp.path().join("log").join("demo");
    drop(crate::log(&temp.path().join("log"), 10));
    for (wrong, why) in [
        (temp.path(), "is not empty"),
        (&file, "cannot hold the log: Not a directory"),
        (&among, "lies in a log's directory"),
    ] {
        let output = demo(temp.path()).arg("--dir").arg(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(&format!("error: {} {why}", wrong.display())), "{}", said(&output));
        assert_eq!(output.stdout, b"");
    }
}
