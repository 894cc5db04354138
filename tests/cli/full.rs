//! A disk that is full, or small: a file system in memory, in a namespace of its own. Where the system lets nobody make one,
//! a line `cannot: ..` says so.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use seawall::Options;

use crate::{log, said, text};

/// Runs a script with the tool as `$tool`, and a file system of so many KiB as `$disk`, which `grow` makes larger.
#[allow(clippy::print_stdout, reason = "whoever runs the test is told what it did not try")]
fn on_a_disk(size: u32, variables: &[(&str, &Path)], script: &str) -> Option<Output> {
    let disk = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={size}k none \"$disk\" || exit 77");
    let grow = "grow() { mount -o remount,size=64m \"$disk\"; }";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{mount}\n{grow}\n{script}")]);
    command.env("tool", env!("CARGO_BIN_EXE_seawall")).env("disk", disk.path()).envs(variables.iter().copied());
    let output =
        command.output().ok().filter(|output| output.status.code() != Some(77) && !said(output).contains("unshare"));
    if output.is_none() {
        println!("cannot: no file system in memory");
    }
    output
}

fn shown(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What was made stayed, and the command that was told next was refused for it.
#[test]
fn where_no_record_was_written_the_same_command_works_once_there_is_room() {
    let temp = tempfile::tempdir().unwrap();
    let old = temp.path().join("old");
    // One record as large as a segment: no smaller one holds it.
    let wal = Options::new().segment_size(1 << 20).open(&old).unwrap();
    wal.append(&vec![b'.'; 900_000]).unwrap().wait().unwrap();
    wal.close().unwrap();
    for (command, to) in [("export", "--out"), ("salvage", "--to")] {
        // Too small for MARK, and for a segment.
        for size in [4, 200] {
            for made in ["", "mkdir \"$disk/new\""] {
                let script = format!(
                    "{made}\n\"$tool\" {command} \"$old\" {to} \"$disk/new\" 2>&1; echo $?; ls -A \"$disk/new\"\n\
                     grow; \"$tool\" {command} \"$old\" {to} \"$disk/new\" 2>&1; echo $?"
                );
                let Some(output) = on_a_disk(size, &[("old", &old)], &script) else { return };
                let shown = shown(&output);
                let told = format!("{shown}{}", said(&output));
                let next = "next     make room on the disk, then the same command again\n1\n";
                assert!(shown.contains("touched  nothing\n") && shown.contains(next), "{command} {size}: {told}");
                assert!(!shown.contains("holds a part") && shown.ends_with("\n0\n"), "{command} {size}: {told}");
                assert_eq!(said(&output).is_empty(), !made.is_empty(), "{command} {size}: {told}");
            }
        }
    }
}

/// That the new log is in the way of the next one was not told.
#[test]
fn where_a_part_was_written_it_stays_and_is_said_to_be_in_the_way() {
    let temp = tempfile::tempdir().unwrap();
    let old = temp.path().join("old");
    let wal = Options::new().segment_size(64 << 10).open(&old).unwrap();
    (0..30_u64).for_each(|n| drop(wal.at(n).append(&[b'.'; 50_000]).unwrap()));
    wal.close().unwrap();
    let script = "\"$tool\" export \"$old\" --out \"$disk/new\" 2>&1; echo $?; \"$tool\" verify \"$disk/new\"\n\
                  rm -r \"$disk/new\"; grow; \"$tool\" export \"$old\" --out \"$disk/new\" 2>&1; echo $?";
    let Some(output) = on_a_disk(400, &[("old", &old)], script) else { return };
    let shown = shown(&output);
    assert!(shown.contains("nothing that was read; ") && shown.contains("/new holds a part\n"), "{shown}");
    assert!(shown.contains("next     make room on the disk, then with ") && shown.contains("clean: "), "{shown}");
    assert!(
        shown.contains("/new removed or renamed the same command again\n1\n") && shown.ends_with("\n0\n"),
        "{shown}"
    );
}

/// It took 64 MiB for any number of records.
#[test]
fn a_few_records_are_salvaged_into_a_little_room() {
    let temp = tempfile::tempdir().unwrap();
    let old = temp.path().join("old");
    log(&old, 130).close().unwrap();
    let script = "\"$tool\" salvage \"$old\" --to \"$disk/new\" && \"$tool\" verify \"$disk/new\"";
    let Some(output) = on_a_disk(200, &[("old", &old)], script) else { return };
    let shown = shown(&output);
    assert!(
        shown.contains("wrote    130 records in 130 batches") && shown.contains("clean: "),
        "{shown}{}",
        said(&output)
    );
    // Nor is much room taken ahead for many.
    let many = temp.path().join("many");
    let wal = Options::new().segment_size(1 << 20).open(&many).unwrap();
    (0..160_u64).for_each(|n| drop(wal.at(n).append(&[b'.'; 100_000]).unwrap()));
    wal.close().unwrap();
    let Some(output) = on_a_disk(24 << 10, &[("old", &many)], script) else { return };
    assert!(output.status.success(), "{}", said(&output));
    // One that fills a segment still has room.
    let [one, new] = ["one", "new"].map(|name| temp.path().join(name));
    let wal = Options::new().segment_size(128 << 20).open(&one).unwrap();
    wal.append(&vec![b'.'; 100 << 20]).unwrap().wait().unwrap();
    wal.close().unwrap();
    let output = crate::seawall(&["salvage", text(&one), "--to", text(&new)]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let bytes: u64 = fs::read_dir(&new).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 110 << 20, "{bytes}");
}
