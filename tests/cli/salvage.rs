//! `seawall salvage`: what it lists, what it writes anew, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use seawall::{Kind, Lsn, Options, Record, Wal};
use serde_json::json;

use crate::{first_segment, flip, lines, log, said, seawall, segments, text};

/// Records, checkpoints and batches; what was appended, without LSNs.
fn mixed(dir: &Path) -> Vec<Record> {
    let wal = Options::new().segment_size(64 << 10).open(dir).unwrap();
    for n in 0..300_u64 {
        let payload = |part: u64| format!("record {n}.{part} {}", "x".repeat(n as usize)).into_bytes();
        match n % 5 {
            1 => drop(wal.at(n).append_checkpoint(&payload(0)).unwrap()),
            2 => drop(wal.at(1000 - n).append_batch(&[payload(0), payload(1), payload(2)]).unwrap()),
            _ => drop(wal.at(n).append(&payload(0)).unwrap()),
        }
    }
    wal.sync().unwrap();
    let records = wal.read(..).unwrap().map(Result::unwrap).collect();
    wal.close().unwrap();
    records
}

type Told = (u64, Kind, bool, Vec<u8>);

fn told(record: &Record) -> Told {
    (record.batch_time.0, record.kind, record.ends_batch, record.payload.to_vec())
}

fn written(dir: &Path) -> Vec<Told> {
    let wal = Wal::open(dir).unwrap();
    wal.read(..).unwrap().map(|record| told(&record.unwrap())).collect()
}

#[test]
fn salvaged_records_are_written_anew_with_their_batch_times_kinds_and_batches() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    let records = mixed(&old);
    let output = seawall(&["salvage", text(&old), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let found = &lines(&output)[0];
    assert_eq!((&found["logs"][0]["records"], &found["written"]), (&json!(records.len()), &json!(null)));
    assert_eq!((&found["logs"][0]["damaged"], &found["unreadable"]), (&json!(0), &json!(0)));

    let name = found["logs"][0]["log"].as_str().unwrap();
    let output = seawall(&["salvage", text(&old), "--log", &name[..6], "--to", text(&new), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let object = lines(&output).remove(0);
    let wrote = &object["written"];
    // The help explains each of its fields in words.
    let help = String::from_utf8(seawall(&["salvage", "--help"]).stdout).unwrap();
    let (_, help) = help.split_once("Tell what was found as one JSON object").unwrap();
    let (help, _) = help.split_once("Nothing is missing").unwrap();
    assert!(!help.contains("\":"), "{help}");
    let words: Vec<_> = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let parts = [&object, &object["logs"][0], wrote].map(|part| part.as_object().unwrap().keys().map(String::as_str));
    let fields: Vec<_> = parts.into_iter().flatten().collect();
    assert!(fields.iter().all(|field| words.contains(field)), "{fields:?}\n{help}");
    let batches = records.iter().filter(|record| record.ends_batch).count();
    assert_eq!((&wrote["records"], &wrote["batches"]), (&json!(records.len()), &json!(batches)));
    assert_eq!(written(&new), records.iter().map(told).collect::<Vec<_>>());
    let first = Wal::open(&new).unwrap().read(..).unwrap().next().unwrap().unwrap();
    assert_eq!(wrote["first"], json!(first.lsn.0));
}

#[test]
fn what_is_left_of_a_batch_is_written_apart_and_damage_is_the_outcome() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    let records = mixed(&old);
    // The middle of a batch.
    let hit = records.iter().position(|record| !record.ends_batch).unwrap() + 1;
    flip(&first_segment(&old), records[hit].lsn.0 + 30);
    let output = seawall(&["salvage", text(&old), "--to", text(&new)]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("1 place passed over") && shown.contains("LSNs are new"), "{shown}");
    let mut expected: Vec<_> = records.iter().map(told).collect();
    expected.remove(hit);
    expected[hit - 1].2 = true;
    assert_eq!(written(&new), expected);
}

#[test]
fn only_one_log_goes_into_a_new_one_and_only_where_nothing_is() {
    let temp = tempfile::tempdir().unwrap();
    let [one, two, new] = ["one", "two", "new"].map(|name| temp.path().join(name));
    let count = mixed(&one).len();
    mixed(&two);
    let output = seawall(&["salvage", text(&one), text(&two), "--to", text(&new)]);
    assert_eq!(output.status.code(), Some(1));
    let ids = [&one, &two].map(|dir| Wal::open(dir).unwrap().log_id().map(|byte| format!("{byte:02x}")).concat());
    let told = said(&output);
    let (first, listed) = told.split_once('\n').unwrap();
    assert_eq!(first, "error: there are 2 logs in the sources; choose one with --log:");
    let mut listed: Vec<_> = listed
        .lines()
        .take_while(|line| !line.contains("touched"))
        .map(|line| line.split(':').next().unwrap().to_owned())
        .collect();
    listed.sort();
    let mut expected = ids.clone().map(|id| format!("  {id}"));
    expected.sort();
    assert_eq!(listed, expected, "{told}");
    assert!(!new.exists());
    let output = seawall(&["salvage", text(&one), "--to", text(&two)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("is not empty"), "{}", said(&output));
    let output = seawall(&["salvage", text(&one), "--log", "no"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("error: no log was found whose name begins with no; there are:\n  {}: ", ids[0]);
    assert!(said(&output).starts_with(&expected), "{}", said(&output));
    let output = seawall(&["salvage", text(&one), text(&two), "--to", text(&new), "--log", &ids[0]]);
    assert_eq!((output.status.code(), written(&new).len()), (Some(0), count), "{}", said(&output));
    // Whoever takes the one is told of the other.
    let note = format!("another log is in the sources: {}, {count} records", ids[1]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("note     {note}\n")), "{output:?}");
    let output = seawall(&["salvage", text(&one), text(&two), "--log", &ids[0], "--json"]);
    assert_eq!(lines(&output)[0]["notes"], json!([note]));
    let output = seawall(&["salvage", text(&one), "--log", &ids[0], "--json"]);
    assert_eq!(lines(&output)[0]["notes"], json!([]));
}

#[test]
fn an_image_is_salvaged_and_noise_is_said_to_hold_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let old = temp.path().join("old");
    let records = mixed(&old);
    let mut image = vec![0xa5; 1 << 20];
    for entry in fs::read_dir(&old).unwrap() {
        image.extend(fs::read(entry.unwrap().path()).unwrap());
        image.resize(image.len().next_multiple_of(4096) + 8192, 0x5a);
    }
    let path = temp.path().join("disk.img");
    fs::write(&path, &image).unwrap();
    let output = seawall(&["salvage", text(&path), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(lines(&output)[0]["logs"][0]["records"], json!(records.len()));
    fs::write(&path, &image[..1 << 20]).unwrap();
    let output = seawall(&["salvage", text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).starts_with("error: no record of any log was found"), "{}", said(&output));
}

#[test]
fn what_is_whole_is_not_called_damaged_and_the_new_log_lies_beside_the_old() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("old.new"));
    let count = mixed(&old).len();
    let mut segments: Vec<_> = fs::read_dir(&old).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| fs::metadata(path).unwrap().len() > 8192);
    segments.sort();
    // One of its own, in the middle of the log.
    let output = seawall(&["salvage", text(&segments[1])]);
    let shown = String::from_utf8(output.stdout.clone()).unwrap();
    // What lay before it is not there, which is no damage.
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.contains("not among the sources") && !shown.contains("passed over"), "{shown}");
    assert!(shown.trim_end().ends_with(&format!(" --to {}", text(&new))), "{shown}");
    // Only links are damaged.
    for path in &segments[1..] {
        flip(path, 4100);
    }
    let output = seawall(&["salvage", text(&old), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(lines(&output)[0]["logs"][0]["records"], json!(count));
    // Several logs, several new ones.
    let other = temp.path().join("other");
    mixed(&other);
    let output = seawall(&["salvage", text(&old), text(&other)]);
    let shown = String::from_utf8(output.stdout).unwrap();
    let ways: String = shown.lines().filter(|line| line.contains(" --to ")).collect();
    let to: Vec<_> = ways.split("   |   ").map(|way| way.rsplit(' ').next().unwrap().to_owned()).collect();
    assert!(to.len() == 2 && to[0] != to[1], "{shown}");
}

/// It exited with 0 where verify knew of a loss, or that nothing tells what a file held.
#[test]
fn what_verify_knows_to_be_lost_is_in_the_exit_code() {
    type Hurt = fn(&Path, &[PathBuf]);
    let hurts: [(&str, Hurt); 6] = [
        ("the first, and the link that named it", |_, files| {
            fs::remove_file(&files[0]).unwrap();
            flip(&files[1], 4096 + 30);
        }),
        ("the first, the link that named it, and MARK", |dir, files| {
            fs::remove_file(&files[0]).unwrap();
            flip(&files[1], 4096 + 30);
            fs::remove_file(dir.join("MARK")).unwrap();
        }),
        ("a segment, and the link that named it", |_, files| {
            fs::remove_file(&files[1]).unwrap();
            flip(&files[2], 4096 + 30);
        }),
        ("the first, and MARK", |dir, files| {
            fs::remove_file(&files[0]).unwrap();
            fs::remove_file(dir.join("MARK")).unwrap();
        }),
        ("all of the newest, and MARK", |dir, files| {
            fs::write(files.last().unwrap(), "").unwrap();
            fs::remove_file(dir.join("MARK")).unwrap();
        }),
        ("all behind the header of the newest, and MARK", |dir, files| {
            let newest = files.last().unwrap();
            fs::write(newest, &fs::read(newest).unwrap()[..4150]).unwrap();
            fs::remove_file(dir.join("MARK")).unwrap();
        }),
    ];
    for (what, hurt) in hurts {
        let temp = tempfile::tempdir().unwrap();
        let (old, new) = (temp.path().join("old"), temp.path().join("new"));
        let wal = Options::new().segment_size(16 << 10).open(&old).unwrap();
        (0..100_u64).for_each(|n| drop(wal.at(n).append(&[b'.'; 700]).unwrap()));
        wal.close().unwrap();
        let mut files = segments(&old);
        // The newest too, which no link names.
        files.retain(|path| fs::metadata(path).unwrap().len() > 4096);
        assert!(files.len() > 3);
        let held: Vec<_> = files.iter().map(|file| lines(&seawall(&["dump", "--json", text(file)])).len()).collect();
        hurt(&old, &files);
        // It was synced at its end only: without MARK nothing says any more that anything was durable.
        let is_known = !what.ends_with("named it, and MARK");
        assert_eq!(seawall(&["verify", text(&old)]).status.code(), Some(if is_known { 2 } else { 0 }), "{what}");
        let output = seawall(&["salvage", text(&old)]);
        assert_eq!(output.status.code(), Some(2), "{what}");
        let shown = String::from_utf8(output.stdout).unwrap();
        let number = held[usize::from(what.starts_with("a segment"))];
        let known = if what.starts_with("all of") {
            "nothing tells any more what it held".to_owned()
        } else if what.starts_with("all behind") {
            "cut to 4150 bytes, which no crash leaves; whether it held records cannot be told".to_owned()
        } else if shown.contains("  end      whether more followed only MARK would tell") {
            "  missing  it cannot be told how many records\n".to_owned()
        } else {
            format!("  missing  {number} records\n")
        };
        assert!(shown.contains(&known), "{what}: {known} in {shown}");
        assert_eq!(seawall(&["salvage", text(&old), "--to", text(&new)]).status.code(), Some(3), "{what}");
    }
}

/// It exited with 0, and segments above the last that was left were gone.
#[test]
fn without_mark_it_cannot_be_told_whether_more_followed() {
    let temp = tempfile::tempdir().unwrap();
    let old = temp.path().join("old");
    log(&old, 2000).close().unwrap();
    let mark = fs::read(old.join("MARK")).unwrap();
    let files = segments(&old);
    let last = files.iter().rfind(|file| fs::metadata(file).unwrap().len() > 8192).unwrap();
    let image = temp.path().join("image");
    fs::write(&image, files.iter().flat_map(|file| fs::read(file).unwrap()).collect::<Vec<_>>()).unwrap();
    let told = |sources: &[&Path]| {
        let sources: Vec<_> = sources.iter().map(|source| text(source)).collect();
        let output = seawall(&[&["salvage", "--json"], &sources[..]].concat());
        let log = lines(&output)[0]["logs"][0].clone();
        (output.status.code().unwrap(), log["unmarked"].clone(), log["lost_records"].clone(), log["damaged"].clone())
    };
    let untold = (2, json!(true), json!(null), json!(0));
    assert_eq!(told(&[&old]), (0, json!(false), json!(0), json!(0)));
    let all: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    assert_eq!((told(&all), told(&[&image])), (untold.clone(), untold.clone()), "as files, and as an image");
    for is_cut in [false, true] {
        if is_cut {
            fs::remove_file(last).unwrap();
        }
        fs::remove_file(old.join("MARK")).unwrap();
        assert_eq!(told(&[&old]), untold, "{is_cut}");
        let shown = String::from_utf8(seawall(&["salvage", text(&old)]).stdout).unwrap();
        assert!(shown.contains("  end      whether more followed only MARK would tell"), "{shown}");
        fs::write(old.join("MARK"), "no mark").unwrap();
        assert_eq!(told(&[&old]), untold, "{is_cut}");
        fs::write(old.join("MARK"), &mark).unwrap();
    }
    assert_eq!(told(&[&old]), (2, json!(false), json!(null), json!(1)));
}

/// It exited with 0: what is found belongs to no log with a name, and so what MARK says was about none that was found.
#[test]
fn the_end_of_a_log_whose_header_is_lost_is_in_the_exit_code() {
    let temp = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| temp.path().join(name));
    log(&old, 20).close().unwrap();
    let file = first_segment(&old);
    let bytes = fs::read(&file).unwrap();
    // Where a record begins: nothing but MARK tells of more.
    let end = lines(&seawall(&["dump", text(&old), "--json"]))[10]["lsn"].as_u64().unwrap();
    fs::write(&file, [&[0; 4096], &bytes[4096..end as usize]].concat()).unwrap();
    assert_eq!(seawall(&["verify", text(&old)]).status.code(), Some(2));
    let output = seawall(&["salvage", text(&old)]);
    let shown = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{shown}");
    let note = format!("note     {}: its log had durable records", text(&old.join("MARK")));
    assert!(shown.contains("log      unknown-") && shown.contains(&note), "{shown}");
    let output = seawall(&["salvage", text(&old), "--to", text(&new), "--json"]);
    assert_eq!((output.status.code(), &lines(&output)[0]["unmet"]), (Some(3), &json!(1)), "{}", said(&output));
}

/// The new log lay within its source, which was changed by it.
#[test]
fn nothing_is_written_into_a_source() {
    let temp = tempfile::tempdir().unwrap();
    let (old, link) = (temp.path().join("old"), temp.path().join("link"));
    mixed(&old);
    std::os::unix::fs::symlink(&old, &link).unwrap();
    fs::create_dir(old.join("empty")).unwrap();
    let files = || fs::read_dir(&old).unwrap().count();
    let (before, file) = (files(), first_segment(&old));
    let within =
        [old.join("sub"), old.join("empty"), link.join("a/b"), old.join("none/../sub"), link.join("../old/sub")];
    for to in within {
        for command in [
            &["salvage", text(&old), "--to", text(&to)][..],
            &["salvage", text(&link), "--to", text(&to)],
            &["salvage", text(&file), "--to", text(&to)],
        ] {
            let output = seawall(command);
            assert_eq!(output.status.code(), Some(1), "{command:?}");
            assert!(said(&output).contains("lies within") && said(&output).contains("beside it"), "{}", said(&output));
            assert_eq!(files(), before, "{command:?}");
        }
    }
    let beside = old.join("../new");
    assert_eq!(seawall(&["salvage", text(&link), "--to", text(&beside)]).status.code(), Some(0));
}

/// It was known by MARK alone, and without it the new log was to be made among the damaged log's files, and was.
#[test]
fn a_log_without_mark_is_not_written_into_either() {
    let temp = tempfile::tempdir().unwrap();
    let [old, copy, new] = ["old", "copy", "old.new"].map(|name| temp.path().join(name));
    let count = mixed(&old).len();
    fs::remove_file(old.join("MARK")).unwrap();
    let first = first_segment(&old);
    flip(&first, 10);
    fs::create_dir(&copy).unwrap();
    let files = segments(&old);
    fs::copy(&files[1], copy.join("saved")).unwrap();
    let renamed = old.join("saved");
    fs::rename(&files[1], &renamed).unwrap();
    let within = seawall(&["salvage", text(&renamed), "--to", text(&old.join("sub"))]);
    assert_eq!(within.status.code(), Some(1));
    assert!(said(&within).contains("lies within"), "{}", said(&within));
    assert!(!old.join("sub").exists());
    let next = |output: &Output, to: &Path| {
        let shown = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(shown.trim_end().ends_with(&format!(" --to {}", text(to))), "{shown}");
    };
    next(&seawall(&["verify", text(&first)]), &new);
    next(&seawall(&["salvage", text(&first)]), &new);
    next(&seawall(&["salvage", text(&renamed), text(&first)]), &new);
    // Nothing says that a log lies there.
    next(&seawall(&["salvage", text(&copy.join("saved"))]), &copy.join("saved.new"));
    fs::rename(&renamed, &files[1]).unwrap();
    // A directory within it, and one that is the current.
    fs::create_dir(old.join("lower")).unwrap();
    fs::copy(&files[1], old.join("lower/saved")).unwrap();
    next(&seawall(&["salvage", text(&old.join("lower"))]), &new);
    for source in [".", "lower", files[1].file_name().unwrap().to_str().unwrap()] {
        let here = Command::new(env!("CARGO_BIN_EXE_seawall")).args(["salvage", source]).current_dir(&old).output();
        next(&here.unwrap(), &fs::canonicalize(&old).unwrap().with_file_name("old.new"));
    }
    fs::remove_dir_all(old.join("lower")).unwrap();
    // Whether there were more, nothing tells.
    assert_eq!(seawall(&["salvage", text(&old), "--to", text(&new)]).status.code(), Some(3));
    assert_eq!(written(&new).len(), count);
}

/// One file that could not be opened ended all of it.
#[test]
fn a_source_that_cannot_be_read_is_passed_over_and_told() {
    let temp = tempfile::tempdir().unwrap();
    let [old, new, bad] = ["old", "new", "bad"].map(|name| temp.path().join(name));
    let count = mixed(&old).len();
    // It leads to itself: nobody can open it.
    std::os::unix::fs::symlink(&bad, &bad).unwrap();
    let output = seawall(&["salvage", text(&bad), text(&old), "--to", text(&new), "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let object = lines(&output).remove(0);
    assert_eq!((&object["refused"], &object["written"]["records"]), (&json!(1), &json!(count)));
    assert!(object["notes"][0].as_str().unwrap().starts_with(text(&bad)), "{object}");
    let alone = seawall(&["salvage", text(&bad)]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(said(&alone).contains("bad cannot be read, and was passed over"), "{}", said(&alone));
    assert_eq!(seawall(&["salvage", text(&temp.path().join("none")), text(&old)]).status.code(), Some(1));
}

#[test]
fn beside_a_writer_nothing_is_called_damaged_and_what_is_there_is_written_anew() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    let wal = Options::new().segment_size(64 << 10).open(&old).unwrap();
    wal.append(&0_u64.to_le_bytes()).unwrap().wait().unwrap();
    let stop = AtomicBool::new(false);
    let outputs = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (1..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                let ticket = wal.append(&[u64::to_le_bytes(n).as_slice(), &[b'.'; 700]].concat()).unwrap();
                if n % 3 == 0 {
                    let lsn = ticket.wait().unwrap();
                    wal.clean_before_lsn(Lsn(lsn.0.saturating_sub(16 << 20))).unwrap();
                }
                if n % 20 == 0 {
                    // In memory all that was found would be cleaned before it is written.
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            }
        });
        let outputs: Vec<_> = (0..5)
            .map(|_| {
                _ = fs::remove_dir_all(&new);
                (seawall(&["salvage", text(&old)]), seawall(&["salvage", text(&old), "--to", text(&new)]))
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        outputs
    });
    let mut noted = 0;
    for output in outputs.iter().flat_map(|(listed, written)| [listed, written]) {
        let shown = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(output.status.code(), Some(0), "{shown}{}", said(output));
        noted += usize::from(shown.contains("note     ") && shown.contains(": a writer went on with the log"));
    }
    assert!(noted > 2, "{noted}");
    let numbers: Vec<_> =
        written(&new).iter().map(|(.., payload)| u64::from_le_bytes(payload[..8].try_into().unwrap())).collect();
    assert!(numbers.len() > 100 && numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

/// A pipe waits for somebody to write.
#[test]
fn a_pipe_in_the_place_of_mark_is_not_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let records = mixed(temp.path());
    fs::remove_file(temp.path().join("MARK")).unwrap();
    assert!(Command::new("mkfifo").arg(temp.path().join("MARK")).status().unwrap().success());
    let mut salvage = Command::new("timeout");
    let salvage = salvage.args(["60", env!("CARGO_BIN_EXE_seawall"), "salvage", "--json"]).arg(temp.path());
    let output = salvage.output().unwrap();
    assert_ne!(output.status.code(), Some(124), "{}", said(&output));
    assert_eq!(lines(&output)[0]["logs"][0]["records"], json!(records.len()));
}

/// They opened nothing, and told of no way to what is there.
#[test]
fn a_log_of_which_all_was_moved_aside_leads_to_salvage() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    mixed(&dir);
    fs::remove_file(dir.join("MARK")).unwrap();
    for path in segments(&dir) {
        fs::rename(&path, path.with_extension("wal.aside")).unwrap();
    }
    for command in ["verify", "inspect", "dump", "repair"] {
        let output = seawall(&[command, text(&dir)]);
        let next = format!("next     seawall salvage {}", text(&dir));
        assert_eq!(output.status.code(), Some(1), "{command}: {}", said(&output));
        assert!(said(&output).contains(&next), "{command}: {}", said(&output));
    }
}
