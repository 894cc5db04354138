//! A damaged log is understood and brought back by following what the commands say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use super::{first_segment, flip, lines, log, said, seawall, segments, text};

fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A log of 2000 records whose first segment is damaged in one.
fn damaged(dir: &Path) {
    log(dir, 2000).close().unwrap();
    flip(&first_segment(dir), 4096 + 1000);
}

/// The commands that an output proposes, as arguments.
fn proposed(output: &str) -> Vec<Vec<String>> {
    let commands = output.lines().filter_map(|line| line.split_once("seawall ")).map(|(_, command)| command);
    let words = |command: &str| command.split("    ").next().unwrap().split(' ').map(str::to_owned).collect();
    commands.map(words).collect()
}

/// They were left out where there was nothing to do.
#[test]
fn what_verify_notes_is_noted_where_nothing_is_to_be_repaired() {
    let temp = tempfile::tempdir().unwrap();
    // One that was closed is damaged without MARK.
    let _wal = log(temp.path(), 10);
    fs::remove_file(temp.path().join("MARK")).unwrap();
    let [verified, repaired] = ["verify", "repair"].map(|command| told(&seawall(&[command, text(temp.path())])));
    let notes =
        |shown: &str| shown.lines().filter(|line| line.starts_with("note ")).map(str::to_owned).collect::<Vec<_>>();
    assert!(repaired.starts_with("nothing to repair") && !notes(&verified).is_empty(), "{verified}{repaired}");
    assert_eq!(notes(&repaired), notes(&verified));
}

#[test]
fn a_damaged_log_is_brought_back_by_what_the_plan_proposes() {
    let temp = tempfile::tempdir().unwrap();
    damaged(temp.path());
    let plan = seawall(&["repair", text(temp.path())]);
    assert_eq!(plan.status.code(), Some(2), "{}", said(&plan));
    let plan = told(&plan);
    for part in
        ["damage   ", "where  00000000000000000000.wal byte", "lost   1 record, ", "plan     copy", "touched  nothing"]
    {
        assert!(plan.contains(part), "{plan}");
    }
    let ways = proposed(&plan);
    assert!(ways.len() >= 3, "{plan}");
    for (way, kept) in ways.iter().zip([Some(1999), None, None]).filter(|(way, _)| way[0] == "repair") {
        let dir = tempfile::tempdir().unwrap();
        damaged(dir.path());
        let way: Vec<&str> =
            way.iter().map(|word| if Path::new(word) == temp.path() { text(dir.path()) } else { word }).collect();
        let done = seawall(&[&way[..], &["--json"]].concat());
        assert_eq!(done.status.code(), Some(3), "{way:?} {}", said(&done));
        let done = lines(&done)[0].clone();
        assert_eq!((&done["done"], &done["lost_records"]), (&json!(true), &json!(1)), "{done}");
        let left = done["kept_records"].as_u64().unwrap();
        assert!(kept.is_none_or(|kept| kept == left), "{done}");
        let verify = seawall(&["verify", text(dir.path()), "--json"]);
        assert_eq!((verify.status.code(), lines(&verify)[0]["records"].as_u64()), (Some(0), Some(left)));
        let dump = seawall(&["dump", text(dir.path()), "--json"]);
        assert_eq!((dump.status.code(), lines(&dump).len() as u64), (Some(0), left));
        let again = seawall(&["repair", text(dir.path())]);
        assert_eq!(again.status.code(), Some(0), "{}", told(&again));
        assert!(told(&again).starts_with("nothing to repair"), "{}", told(&again));
    }
}

#[test]
fn what_a_repair_passed_over_is_said_by_those_who_read_past_it() {
    let temp = tempfile::tempdir().unwrap();
    damaged(temp.path());
    let newest = segments(temp.path()).pop().unwrap();
    assert_eq!(seawall(&["repair", text(temp.path()), "--pass-over"]).status.code(), Some(3));
    let beside = tempfile::tempdir().unwrap();
    let new = beside.path().join("new");
    let newest = newest.file_stem().unwrap().to_str().unwrap().trim_start_matches('0');
    for (reading, times) in [
        (&["dump", text(temp.path())][..], 1),
        (&["export", text(temp.path()), "--out", text(&new)], 1),
        (&["dump", text(temp.path()), "--from", newest], 0),
    ] {
        let output = seawall(reading);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(said(&output).matches("lost and passed over by a repair").count(), times, "{}", said(&output));
    }
}

#[test]
fn a_plan_and_a_dry_run_change_nothing() {
    let temp = tempfile::tempdir().unwrap();
    damaged(temp.path());
    let files = || -> Vec<_> {
        let names = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = names.map(|path| (fs::read(&path).unwrap(), path)).collect();
        files.sort();
        files
    };
    let before = files();
    let segment =
        before.iter().map(|(_, path)| path).find(|path| path.extension().is_some_and(|e| e == "wal")).unwrap();
    let segment = text(Path::new(segment.file_name().unwrap()));
    for way in [
        &[][..],
        &["--dry-run"],
        &["--pass-over", "--dry-run"],
        &["--cut", "6000", "--dry-run"],
        &["--quarantine", segment, "--dry-run"],
    ] {
        let output = seawall(&[&["repair", text(temp.path())], way].concat());
        assert_eq!(output.status.code(), Some(2), "{way:?} {}", said(&output));
        let (asked, dir) = (way.split_last().map_or(&[][..], |(_, asked)| asked), text(temp.path()));
        let next = match asked {
            [] => format!("next     seawall repair {dir} --pass-over     # does this"),
            asked => format!("next     seawall repair {dir} {}\n", asked.join(" ")),
        };
        assert!(told(&output).contains(&format!("touched  nothing\n{next}")), "{}", told(&output));
        let json = seawall(&[&["repair", text(temp.path()), "--json"], way].concat());
        let told = &lines(&json)[0];
        assert_eq!(told["done"], Value::Bool(false));
        let command = next.trim_start_matches("next     ").split("     ").next().unwrap().trim_end();
        assert_eq!((&told["next"][0], told["next"][1].is_null()), (&json!(command), !asked.is_empty()), "{told}");
    }
    assert_eq!(files(), before);
}

/// Segments that were only swapped cost nothing. Of a closed log without MARK all is kept, but nothing says that it ended
/// there: whether anything is lost cannot be told, and that is no success.
#[test]
fn a_repair_that_keeps_all_says_so() {
    let temp = tempfile::tempdir().unwrap();
    log(temp.path(), 2000).close().unwrap();
    fs::remove_file(temp.path().join("MARK")).unwrap();
    let done = seawall(&["repair", text(temp.path()), "--pass-over"]);
    assert_eq!(done.status.code(), Some(3), "{}", said(&done));
    assert!(told(&done).contains("kept 2 000 valid records, dropped 0"), "{}", told(&done));
    // Without the segment that was prepared next nothing is replaced.
    let temp = tempfile::tempdir().unwrap();
    log(temp.path(), 10).close().unwrap();
    fs::remove_file(temp.path().join("MARK")).unwrap();
    fs::remove_file(segments(temp.path()).pop().unwrap()).unwrap();
    let done = seawall(&["repair", text(temp.path()), "--pass-over"]);
    assert_eq!(done.status.code(), Some(3), "{}", said(&done));
    assert!(told(&done).contains("touched  the log\n"), "{}", told(&done));
    let temp = tempfile::tempdir().unwrap();
    log(temp.path(), 2000).close().unwrap();
    let first = first_segment(temp.path());
    fs::rename(&first, temp.path().join("first.bak")).unwrap();
    let done = seawall(&["repair", text(temp.path()), "--pass-over"]);
    assert_eq!(done.status.code(), Some(0), "{}{}", told(&done), said(&done));
    assert!(!first.with_extension("wal.aside").exists());
    assert!(told(&done).contains("kept 2 000 valid records, dropped 0"), "{}", told(&done));
    assert!(told(&done).contains("replaced is beside it as *.aside"), "{}", told(&done));
    assert_eq!(told(&done).contains("*.aside"), told(&done).contains("move "), "{}", told(&done));
    // The newest one too, which no other names.
    let temp = tempfile::tempdir().unwrap();
    log(temp.path(), 2000).close().unwrap();
    let newest = segments(temp.path()).into_iter().rfind(|path| fs::metadata(path).unwrap().len() > 4096).unwrap();
    fs::rename(&newest, temp.path().join("newest.bak")).unwrap();
    let dumped = seawall(&["dump", text(temp.path())]);
    assert_eq!((dumped.status.code(), told(&dumped).lines().count()), (Some(2), 2000), "{}", said(&dumped));
    let plan = lines(&seawall(&["repair", text(temp.path()), "--json"])).remove(0);
    let name = newest.file_name().unwrap().to_str().unwrap();
    assert_eq!(plan["steps"][0], json!({ "put_back": "newest.bak", "as": name, "passed_over": 0 }), "{plan}");
    let done = seawall(&["repair", text(temp.path()), "--pass-over"]);
    assert_eq!(done.status.code(), Some(0), "{}{}", told(&done), said(&done));
}

#[test]
fn what_cannot_be_repaired_is_an_error_with_its_own_code() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    assert_eq!(seawall(&["repair", text(&dir)]).status.code(), Some(1));
    let wal = log(&dir, 10);
    let held = seawall(&["repair", text(&dir), "--pass-over"]);
    assert_eq!(held.status.code(), Some(4), "{}", said(&held));
    assert_eq!(seawall(&["repair", text(&dir)]).status.code(), Some(0));
    wal.close().unwrap();
    let wrong = |way: &[&str]| {
        let output = seawall(&[&["repair", text(&dir)], way].concat());
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(way[1]), "{}", said(&output));
    };
    wrong(&["--quarantine", "no-such"]);
    // Beyond the end there is nothing to cut: it does what is left to do.
    flip(&segments(&dir)[0], 4096 + 300);
    assert_eq!(seawall(&["repair", text(&dir), "--cut", "99999999", "--dry-run"]).status.code(), Some(2));
}

/// The used segments of a damaged log, and what the plan says of it, as text and as an object.
fn planned(hurt: impl Fn(&Path, &[PathBuf])) -> (tempfile::TempDir, Vec<PathBuf>, String) {
    let temp = tempfile::tempdir().unwrap();
    log(temp.path(), 2000).close().unwrap();
    let mut files = segments(temp.path());
    files.retain(|path| fs::metadata(path).unwrap().len() > 4096);
    assert!(files.len() > 3);
    hurt(temp.path(), &files);
    let plan = told(&seawall(&["repair", text(temp.path())]));
    (temp, files, plan)
}

/// Of records in files under other names the one counted as dropped what the other counted as lost.
#[test]
fn what_a_way_drops_is_the_same_number_in_its_plan() {
    // Where nothing is lost no way is told of.
    let swap = |dir: &Path, files: &[PathBuf]| {
        flip(&files[3], 4096 + 300);
        fs::rename(&files[1], dir.join("aside")).unwrap();
        fs::rename(&files[2], &files[1]).unwrap();
        fs::rename(dir.join("aside"), &files[2]).unwrap();
    };
    let misname = |dir: &Path, files: &[PathBuf]| {
        flip(&files[3], 4096 + 300);
        fs::rename(&files[1], dir.join("second.bak")).unwrap();
    };
    for hurt in [&swap as &dyn Fn(&Path, &[PathBuf]), &misname] {
        let (temp, _, plan) = planned(hurt);
        let mut ways = 0;
        for line in plan.lines().filter(|line| line.contains("     # drops ")) {
            let (way, drops) = line.split_once("     # drops ").unwrap();
            let way: Vec<&str> = way.split_once("seawall ").unwrap().1.split(' ').collect();
            let told = lines(&seawall(&[&way[..], &["--dry-run", "--json"]].concat())).remove(0);
            let number: String = drops.chars().filter(char::is_ascii_digit).collect();
            assert_eq!((told["dropped_records"].to_string(), &told["lost_records"]), (number, &json!(1)), "{line}");
            assert_eq!(told["kept_records"].as_u64().unwrap() + told["dropped_records"].as_u64().unwrap(), 1999);
            ways += 1;
        }
        assert!(ways > 0, "{plan}{}", temp.path().display());
    }
}

/// All of a segment in which nothing is left goes either way: that was proposed twice.
#[test]
fn no_quarantine_is_proposed_that_does_what_passing_over_does() {
    let (temp, files, plan) = planned(|_, files| fs::write(&files[1], [0; 64 << 10]).unwrap());
    assert!(plan.contains("--cut ") && !plan.contains("--quarantine"), "{plan}");
    let name = text(files[1].file_name().unwrap().as_ref());
    let steps = |way: &[&str]| {
        let plan = lines(&seawall(&[&["repair", text(temp.path()), "--dry-run", "--json"], way].concat())).remove(0);
        (plan["dropped_records"].clone(), plan["steps"].clone())
    };
    assert_eq!(steps(&["--quarantine", name]), steps(&["--pass-over"]));
    let (.., plan) = planned(|_, files| flip(&files[1], 9000));
    assert!(plan.contains("--quarantine"), "{plan}");
}

/// A copy was planned of a file that is not there.
#[test]
fn a_segment_that_is_missing_is_made_and_not_copied() {
    let (temp, files, plan) = planned(|_, files| fs::remove_file(&files[1]).unwrap());
    let name = text(files[1].file_name().unwrap().as_ref()).to_owned();
    assert!(plan.contains(&format!("plan     make {name}, which is missing, with ")), "{plan}");
    assert!(!plan.contains(&format!("copy {name}")), "{plan}");
    let told = lines(&seawall(&["repair", "--json", text(temp.path())])).remove(0);
    assert!(told["steps"].as_array().unwrap().iter().any(|step| step["make"] == name.as_str()), "{told}");
}

/// The new log was to be made of the name `.`, which lies within what is read.
#[test]
fn what_is_proposed_for_the_directory_one_is_in_works_as_it_is_printed() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, within) = (temp.path().join("log"), temp.path().join("log/within"));
    damaged(&dir);
    fs::create_dir(&within).unwrap();
    for (at, name) in [(&dir, "."), (&within, "..")] {
        let run = |arguments: &[&str]| {
            let output = crate::common::receiving::seawall().args(arguments).current_dir(at).output().unwrap();
            (output.status.code(), told(&output) + &said(&output))
        };
        let (_, plan) = run(&["repair", name]);
        let ways = proposed(&plan);
        let salvage = ways.iter().find(|way| way[0] == "salvage").unwrap();
        let (code, told) = run(&salvage.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(code, Some(3), "{salvage:?} {told}");
    }
}

/// A copy under a name so high that no segment fits above it was a dead end.
#[test]
fn a_segment_under_the_highest_name_is_told_with_the_ways_out() {
    let (temp, _, _) = planned(|dir, files| {
        fs::copy(&files[2], dir.join("18446744073709486080.wal")).unwrap();
    });
    let refused = seawall(&["repair", text(temp.path())]);
    assert_eq!(refused.status.code(), Some(1));
    let told = said(&refused);
    let parts =
        ["whose highest segment is 18446744073709486080.wal", "move it away", "seawall inspect", "seawall salvage"];
    parts.iter().for_each(|part| assert!(told.contains(part), "{part}: {told}"));
}

#[test]
fn no_salvage_is_proposed_where_no_file_holds_a_record() {
    let (_temp, _, plan) = planned(|_, files| files.iter().for_each(|file| fs::remove_file(file).unwrap()));
    assert!(plan.contains("--pass-over") && !plan.contains("seawall salvage"), "{plan}");
    let (_temp, _, plan) = planned(|_, files| files[1..].iter().for_each(|file| fs::remove_file(file).unwrap()));
    assert!(plan.contains("seawall salvage"), "{plan}");
}

/// It was proposed where there was none, and named a log that salvage did not find.
#[test]
fn the_salvage_that_is_proposed_works_as_it_is_printed() {
    type Hurt = fn(&Path, &[PathBuf]);
    let behead = |dir: &Path, files: &[PathBuf]| {
        files[1..].iter().for_each(|file| fs::remove_file(file).unwrap());
        let bytes = fs::read(&files[0]).unwrap();
        fs::write(&files[0], [&[0; 4096], &bytes[4096..]].concat()).unwrap();
        assert!(dir.join("MARK").exists());
    };
    // Without MARK nothing says whose the last segment is: its records are found, under no log's name.
    let scribble = |dir: &Path, files: &[PathBuf]| {
        fs::remove_file(dir.join("MARK")).unwrap();
        let newest = files.last().unwrap();
        let bytes = fs::read(newest).unwrap();
        fs::write(newest, [&[0x5a; 8192], &bytes[8192..]].concat()).unwrap();
    };
    // In a file that is none of the log's by its name, nor by its header.
    let misname = |dir: &Path, files: &[PathBuf]| {
        let newest = files.last().unwrap();
        let bytes = fs::read(newest).unwrap();
        fs::write(dir.join("newest.bak"), [&[0; 4096], &bytes[4096..]].concat()).unwrap();
        fs::remove_file(newest).unwrap();
    };
    let hurts: [(Option<u64>, Hurt); 6] = [
        (None, |dir, files| {
            files[1..].iter().for_each(|file| fs::remove_file(file).unwrap());
            fs::rename(dir.join("MARK"), &files[0]).unwrap();
        }),
        (None, |_, files| files.iter().for_each(|file| fs::write(file, [&[0; 4096][..], b"noise"].concat()).unwrap())),
        (Some(1), behead),
        (Some(1), |_, files| flip(&files[1], 9000)),
        (Some(2), scribble),
        (Some(2), misname),
    ];
    for (number, (found, hurt)) in hurts.into_iter().enumerate() {
        let (temp, _, plan) = planned(hurt);
        let ways: Vec<_> = plan.lines().filter(|line| line.contains("seawall salvage")).collect();
        assert_eq!(ways.len() as u64, found.unwrap_or(0), "{number}: {plan}");
        for way in ways {
            let way: Vec<_> = way.split_once("seawall ").unwrap().1.split("     ").next().unwrap().split(' ').collect();
            let output = seawall(&way);
            assert!(matches!(output.status.code(), Some(0 | 3)), "{number}: {way:?} {}", said(&output));
            fs::remove_dir_all(way.last().unwrap()).unwrap();
        }
        drop(temp);
    }
}

/// A newest segment that was cut where MARK is gone was said to have cost nothing.
#[test]
fn the_exit_code_tells_whether_something_is_lost() {
    let newest = |files: &[PathBuf]| files.last().unwrap().clone();
    let (temp, ..) = planned(|dir, files| {
        fs::remove_file(dir.join("MARK")).unwrap();
        fs::File::options().write(true).open(newest(files)).unwrap().set_len(6000).unwrap();
    });
    let done = seawall(&["repair", text(temp.path()), "--pass-over"]);
    assert_eq!(done.status.code(), Some(3), "{}", told(&done));
}

/// It was 0 where records behind the last might be gone that only MARK speaks of.
#[test]
fn a_repair_without_a_mark_does_not_say_that_nothing_is_lost() {
    for (has_mark, code) in [(true, 0), (false, 3)] {
        let [living, temp] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let wal = log(living.path(), 2000);
        // As a kill leaves it.
        for path in segments(living.path()).into_iter().chain(has_mark.then(|| living.path().join("MARK"))) {
            fs::copy(&path, temp.path().join(path.file_name().unwrap())).unwrap();
        }
        drop(wal);
        let first = first_segment(temp.path());
        fs::rename(&first, first.with_extension("bak")).unwrap();
        for way in ["--dry-run", "--pass-over"] {
            let repaired = seawall(&["repair", text(temp.path()), way, "--json"]);
            let plan = lines(&repaired).remove(0);
            let told = ["dropped_records", "lost_records", "unmarked"].map(|field| plan[field].clone());
            assert_eq!(told[..2], [json!(0), json!(0)], "{plan}");
            assert_eq!(told[2], json!(!has_mark), "{plan}");
            let code = if way == "--dry-run" { 2 } else { code };
            assert_eq!(repaired.status.code(), Some(code), "{way}: {plan}");
        }
    }
}

/// Whoever cuts a sound log is told what goes, before and after, and by the exit code.
#[test]
fn a_cut_of_a_sound_log_says_what_it_drops() {
    let temp = tempfile::tempdir().unwrap();
    log(temp.path(), 2000).close().unwrap();
    let dir = text(temp.path());
    let dump = lines(&seawall(&["dump", dir, "--json"]));
    let cut = dump[1990]["lsn"].to_string();
    let end = lines(&seawall(&["verify", dir, "--json"]))[0]["end"].to_string();
    let files = || segments(temp.path()).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    let before = files();
    // Nothing reaches above its end, nor above what lies beyond that.
    for way in [&[&end[..], "--dry-run"][..], &[&end], &["99999999"]] {
        let none = seawall(&[&["repair", dir, "--cut"], way].concat());
        assert_eq!(none.status.code(), Some(0), "{}", told(&none));
        assert!(told(&none).starts_with("nothing to cut: "), "{}", told(&none));
        assert!(files() == before, "{}", told(&none));
    }
    let drops = format!("lost     10 sound records: the log is undamaged and reaches to lsn {end}");
    let plan = seawall(&["repair", dir, "--cut", &cut, "--dry-run"]);
    assert_eq!(plan.status.code(), Some(3), "{}", told(&plan));
    assert!(told(&plan).contains(&drops) && told(&plan).contains("touched  nothing"), "{}", told(&plan));
    assert!(files() == before, "{}", told(&plan));
    let done = seawall(&["repair", dir, "--cut", &cut]);
    assert_eq!(done.status.code(), Some(3), "{}", told(&done));
    assert!(
        told(&done).contains(&drops.replace("is undamaged and reaches", "was undamaged and reached")),
        "{}",
        told(&done)
    );
    assert_eq!(lines(&seawall(&["dump", dir, "--json"])).len(), 1990);
}

/// Another log's segment in the place of the only one: what that held is gone, and MARK, which knows of it, is then the one
/// that looks like another log's.
#[test]
fn another_logs_segment_in_the_place_of_the_only_one_is_no_success() {
    let [ours, theirs] = [10, 20].map(|records| {
        let temp = tempfile::tempdir().unwrap();
        log(temp.path(), records).close().unwrap();
        temp
    });
    fs::copy(first_segment(theirs.path()), first_segment(ours.path())).unwrap();
    let done = seawall(&["repair", text(ours.path()), "--pass-over", "--json"]);
    let plan = lines(&done).remove(0);
    assert_eq!((done.status.code(), &plan["lost_records"]), (Some(3), &json!(null)), "{plan}");
    let notes: Vec<_> = plan["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    assert!(notes.iter().any(|note| note.starts_with("MARK: another log's")), "{plan}");
}
