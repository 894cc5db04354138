//! What the commands that look into a log share: filters, lone files, threads, progress, pipes, completions.

use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{first_segment, flip, lines, log, said, seawall, segments, text};

fn dumped(arguments: &[&str]) -> Vec<Value> {
    let output = seawall(&[&["dump", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    lines(&output)
}

#[test]
fn a_dump_is_of_what_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let wal = log(temp.path(), 2000);
    wal.at(3000).append_checkpoint(b"").unwrap().wait().unwrap();
    let all = dumped(&[dir]);
    let lsn = |n: usize| all[n]["lsn"].to_string();
    assert_eq!(dumped(&[dir, "--from", &lsn(900), "--to", &lsn(1500)]), all[900..1500]);
    // In the midst of a record: the next one is the first.
    let inside = all[900]["lsn"].as_u64().unwrap() + 1;
    assert_eq!(dumped(&[dir, "--from", &inside.to_string()]), all[901..]);
    assert_eq!(dumped(&[dir, "--from-time", "1990", "--to-time", "1995"]), all[1990..1995]);
    assert_eq!(dumped(&[dir, "--from-time", "1970-01-01T00:00:01.99Z"]), all[1990..]);
    assert_eq!(dumped(&[dir, "--kind", "checkpoint"]), all[2000..]);
    assert_eq!(dumped(&[dir, "--kind", "checkpoint", "--kind", "record"]), all);
    assert_eq!(dumped(&[dir, "--kind", "block"]), [json!(null); 0]);
    for wrong in [&["--kind", "no-such"][..], &["--from", "x"], &["--from-time", "soon"], &["--hex", "--json"]] {
        assert_eq!(seawall(&[&["dump", dir], wrong].concat()).status.code(), Some(1), "{wrong:?}");
    }
}

#[test]
fn damage_outside_what_is_asked_for_is_not_told() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 2000));
    let all = dumped(&[dir]);
    flip(&first_segment(temp.path()), all[100]["lsn"].as_u64().unwrap() + 40);
    let lsn = |n: usize| all[n]["lsn"].to_string();
    assert_eq!(dumped(&[dir, "--to", &lsn(100)]), all[..100]);
    assert_eq!(dumped(&[dir, "--from", &lsn(1500)]), all[1500..]);
    assert_eq!(seawall(&["dump", dir, "--from", &lsn(50), "--to", &lsn(102)]).status.code(), Some(2));
}

/// A file name, or a cursor's, that would clear the screen of whoever lists it.
#[test]
fn names_do_not_write_to_a_terminal_what_they_like() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log\u{1b}[2J");
    let wal = log(&dir, 10);
    let cursor = "c\u{9b}31m\u{7}";
    wal.cursor(cursor).unwrap();
    drop(wal);
    let foreign = "note\n\u{1b}]0;title\u{7f}";
    fs::write(dir.join(foreign), b"").unwrap();
    let told = String::from_utf8(seawall(&["inspect", text(&dir)]).stdout).unwrap();
    assert!(told.contains(r"note\n\u{1b}]0;title\u{7f}") && told.contains(r"cursor c\u{9b}31m\u{7}"), "{told}");
    let told = lines(&seawall(&["inspect", "--json", text(&dir)])).remove(0);
    assert_eq!((&told["foreign"][0]["name"], &told["cursors"][0]["name"]), (&json!(foreign), &json!(cursor)));
    assert_eq!(seawall(&["stats", text(&dir)]).status.code(), Some(0));
    flip(&first_segment(&dir), 4300);
    let commands: [&[&str]; 7] =
        [&["inspect"], &["stats"], &["verify"], &["repair"], &["dump"], &["tail"], &["inspect", "--at", "5000"]];
    for command in commands {
        let output = seawall(&[command, &[text(&dir)]].concat());
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), said(&output));
        assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{command:?}: {told:?}");
    }
}

#[test]
fn a_lone_file_is_verified_and_dumped_by_its_header() {
    let (temp, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(log(temp.path(), 2000));
    let copy = elsewhere.path().join("sent");
    fs::copy(first_segment(temp.path()), &copy).unwrap();
    let all = dumped(&[text(temp.path())]);
    let alone = dumped(&[text(&copy)]);
    assert!(alone.len() > 100);
    assert_eq!(alone, all[..alone.len()]);
    let verified = lines(&seawall(&["verify", "--json", "--threads", "1", text(&copy)])).remove(0);
    assert_eq!((&verified["clean"], &verified["records"]), (&json!(true), &json!(alone.len())));
    flip(&copy, 20_000);
    for command in ["verify", "dump"] {
        assert_eq!(seawall(&[command, text(&copy)]).status.code(), Some(2));
    }
    // Where it lies in its log, that tells more.
    let (dir, first) = (text(temp.path()), first_segment(temp.path()));
    flip(&first, 20_000);
    let way = format!("next     seawall verify {dir}   |   seawall salvage ");
    for (file, is_in_log) in [(&first, true), (&copy, false)] {
        let told = String::from_utf8(seawall(&["verify", text(file)]).stdout).unwrap();
        assert_eq!(
            (told.contains(&way), told.contains("next     seawall salvage ")),
            (is_in_log, !is_in_log),
            "{told}"
        );
    }
    // From beside it, without a directory.
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    let output = command.args(["verify", "sent"]).current_dir(elsewhere.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn any_number_of_threads_verifies_the_same() {
    let temp = tempfile::tempdir().unwrap();
    drop(log(temp.path(), 2000));
    flip(&first_segment(temp.path()), 20_000);
    let verify = |threads: &str| seawall(&["verify", "--json", "--threads", threads, text(temp.path())]);
    assert_eq!(lines(&verify("1")), lines(&verify("7")));
    assert_eq!(verify("1").status.code(), Some(2));
    assert_eq!(verify("many").status.code(), Some(1));
}

/// A dump that cannot go on for a while, as nobody reads it.
fn slow_dump(dir: &str, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    let command = command.args(["dump", dir]).args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut dump = command.spawn().unwrap();
    let mut shown = BufReader::new(dump.stdout.take().unwrap());
    std::thread::sleep(Duration::from_millis(5500));
    std::io::copy(&mut shown, &mut std::io::sink()).unwrap();
    let output = dump.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    said(&output)
}

#[test]
fn off_a_terminal_a_line_tells_how_far_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 20_000));
    std::thread::scope(|scope| {
        let json = scope.spawn(|| slow_dump(dir, &["--json"]));
        let told = slow_dump(dir, &[]);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.starts_with("progress: ") && told.contains(" of 2.7 MB, ") && told.contains("/s, "), "{told}");
        // Beside JSON, for a program, there is none.
        assert_eq!(json.join().unwrap(), "");
    });
}

#[test]
fn what_does_not_take_long_tells_no_progress() {
    let temp = tempfile::tempdir().unwrap();
    drop(log(temp.path(), 2000));
    for command in ["verify", "dump"] {
        assert_eq!(said(&seawall(&[command, text(temp.path())])), "");
    }
}

#[test]
fn no_command_minds_that_its_reader_goes_away() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 20_000));
    let beside = tempfile::tempdir().unwrap();
    let new = beside.path().join("new");
    let export = ["export", dir, "--out", text(&new)];
    for arguments in [
        &["inspect", dir][..],
        &["inspect", dir, "--json", "--at", "5000"],
        &["stats", dir],
        &["stats", dir, "--watch", "10ms"],
        &["stats", dir, "--prometheus"],
        &["tail", dir, "-n", "20000"],
        &["tail", dir, "-n", "20000", "-f"],
        &["verify", dir],
        &["dump", dir, "--hex"],
        &["completions", "bash"],
        &export,
    ] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        let mut process = command.args(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        _ = reader.read(&mut [0; 10]).unwrap();
        drop(reader);
        let mut told = String::new();
        process.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((process.wait().unwrap().code(), told.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn completions_are_of_every_command() {
    let shells = ["bash", "zsh", "fish", "elvish", "powershell"];
    for shell in shells {
        let output = seawall(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        let script = String::from_utf8(output.stdout).unwrap();
        for command in ["receive", "inspect", "dump", "tail", "stats", "verify", "export", "demo", "completions"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    assert_eq!(seawall(&["completions", "no-such"]).status.code(), Some(1));
}

/// Such a range was silently empty.
#[test]
fn a_range_that_ends_before_it_begins_is_an_error_of_usage() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 10));
    for (from, to) in [("--from", "--to"), ("--from-time", "--to-time")] {
        let output = seawall(&["dump", dir, from, "6000", to, "5000"]);
        assert_eq!(output.status.code(), Some(1), "{from}");
        assert!(said(&output).contains(&format!("{from} 6000 lies above {to} 5000")), "{}", said(&output));
        assert_eq!(seawall(&["dump", dir, from, "5000", to, "5000"]).status.code(), Some(0), "{from}");
    }
}

/// The system's "Not a directory" was all that was said.
#[test]
fn a_file_in_the_place_of_a_log_is_told_with_what_to_give_instead() {
    let temp = tempfile::tempdir().unwrap();
    drop(log(temp.path(), 10));
    let file = first_segment(temp.path());
    for command in [&["tail"][..], &["tail", "-f"], &["repair"], &["repair", "--pass-over"]] {
        let output = seawall(&[command, &[text(&file)]].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let (file, dir) = (text(&file), text(temp.path()));
        assert!(said.starts_with(&format!("error: {file} is no directory, and a log is one\n")), "{said}");
        let next =
            format!("next     the same command with the directory that holds the log: {dir}   |   seawall dump {file}");
        assert!(said.contains(&next) && said.contains("touched  nothing\n"), "{said}");
    }
    // Of MARK, which is no segment, nothing is to be dumped or salvaged.
    let mark = temp.path().join("MARK");
    for command in ["repair", "tail", "verify", "inspect", "dump"] {
        let said = said(&seawall(&[command, text(&mark)]));
        let next = format!("next     the same command with the directory that holds the log: {}\n", text(temp.path()));
        assert!(said.ends_with(&next), "{said}");
    }
}

/// "Mend what the system says" was the next step, although the system minds nothing.
#[test]
fn what_is_no_plain_file_in_the_place_of_one_is_to_be_moved_away() {
    let temp = tempfile::tempdir().unwrap();
    let [dir, saved] = ["log", "saved"].map(|name| temp.path().join(name));
    log(&dir, 2000).close().unwrap();
    let commands: [(PathBuf, &[&[&str]]); 2] = [
        (dir.join("MARK"), &[&["verify"], &["inspect"], &["dump"], &["tail"], &["stats"], &["repair"]]),
        (segments(&dir)[1].clone(), &[&["repair"], &["repair", "--pass-over"]]),
    ];
    for (file, commands) in &commands {
        fs::rename(file, &saved).unwrap();
        for is_link in [false, true] {
            if is_link {
                symlink(&saved, file).unwrap()
            } else {
                fs::create_dir(file).unwrap()
            }
            for command in *commands {
                let told = said(&seawall(&[command, &[text(&dir)][..]].concat()));
                let next =
                    format!("next     move {} away, and the file that is meant there if it is elsewhere", text(file));
                assert!(told.contains(&next) && !told.contains("the system"), "{command:?}: {told}");
            }
            // As it says.
            if is_link { fs::remove_file(file).unwrap() } else { fs::rename(file, temp.path().join("away")).unwrap() }
        }
        fs::rename(&saved, file).unwrap();
        fs::remove_dir(temp.path().join("away")).unwrap();
        for command in *commands {
            assert_eq!(seawall(&[command, &[text(&dir)][..]].concat()).status.code(), Some(0), "{command:?}");
        }
    }
}

/// Nor is anything to be mended where what was named is not there, or nothing to be read.
#[test]
fn what_cannot_be_a_source_is_told_with_what_to_give_instead() {
    let temp = tempfile::tempdir().unwrap();
    let [none, pipe] = ["none", "pipe"].map(|name| temp.path().join(name));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let next = |command: &str, path: &Path| {
        said(&seawall(&[command, text(path)])).split("next     ").nth(1).unwrap().to_owned()
    };
    assert_eq!(next("salvage", &none), "the same command with what is there\n");
    let instead = format!("the same command with files, directories or disks in the place of {}\n", text(&pipe));
    assert_eq!(next("salvage", &pipe), instead);
    // It proposed to salvage that.
    assert_eq!(next("verify", &pipe), "the same command with the directory that holds the log\n");
}
