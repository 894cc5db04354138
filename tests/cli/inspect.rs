//! `seawall inspect`: what it tells of clean, damaged and live logs and of lone files, as text, JSON and a page.

use std::fs;
use std::path::Path;

use seawall::{Lsn, Wal};
use serde_json::{Value, json};

use crate::{first_segment, flip, lines, log, said, seawall, segments, text};

/// Inspects as JSON.
fn inspected(arguments: &[&str], code: i32) -> Value {
    let output = seawall(&[&["inspect", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    lines(&output).remove(0)
}

fn shown(arguments: &[&str]) -> String {
    String::from_utf8(seawall(&[&["inspect"], arguments].concat()).stdout).unwrap()
}

/// A log with a cursor at its second record.
fn with_cursor(dir: &Path, name: &str) -> (Wal, Lsn) {
    let wal = log(dir, 2000);
    let second = wal.read(..).unwrap().nth(1).unwrap().unwrap().lsn;
    wal.cursor(name).unwrap().release(second).unwrap();
    wal.sync().unwrap();
    (wal, second)
}

#[test]
fn a_live_log_says_why_each_segment_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let (wal, second) = with_cursor(temp.path(), "billing");
    let told = inspected(&[text(temp.path())], 0);
    let kept: Vec<_> = told["segments"].as_array().unwrap().iter().filter(|s| !s["kept"].is_null()).collect();
    assert!(kept.len() > 3);
    let because = json!({ "why": "cursor", "lsn": second.0, "name": "billing", "text": format!("cursor billing, at LSN {second}") });
    assert_eq!((&kept[0]["kept"], &kept[0]["state"]), (&because, &json!("sealed")));
    assert_eq!(kept.last().unwrap()["kept"]["why"], "newest");
    assert_eq!((&told["records"], &told["durable"]), (&json!(2000), &json!(wal.durable_lsn().0)));
    let cursor = &told["cursors"][0];
    assert_eq!((&cursor["name"], &cursor["lsn"]), (&json!("billing"), &json!(second.0)));
    assert!(cursor["lag"].as_u64() > Some(200_000) && cursor["holds"].as_u64() > Some(200_000), "{cursor}");
    let shown = shown(&[text(temp.path())]);
    assert!(shown.contains(&format!("cursor billing, at LSN {second}")), "{shown}");
    assert!(shown.contains("the newest, which is never removed") && shown.contains("2 000"), "{shown}");
    for segment in told["segments"].as_array().unwrap() {
        assert!(shown.contains(segment["file"].as_str().unwrap()), "{shown}");
    }
}

#[test]
fn damage_that_is_met_is_told_and_exits_with_2() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 2000));
    assert_eq!(inspected(&[dir], 0)["faults"], json!([]));
    fs::remove_file(first_segment(temp.path())).unwrap();
    let told = inspected(&[dir], 2);
    assert_eq!((&told["segments"][0]["state"], &told["faults"][0]["lsn"]), (&json!("missing"), &json!(0)));
    let shown = shown(&[dir]);
    assert!(shown.contains("missing") && shown.contains("damage   "), "{shown}");
    assert_eq!(seawall(&["inspect", dir]).status.code(), Some(2));
}

#[test]
fn what_is_at_an_lsn_is_told_with_its_neighbours() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let wal = log(temp.path(), 2000);
    let records: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap()).collect();
    drop(wal);
    let at = |lsn: Lsn, code| inspected(&[dir, "--at", &lsn.to_string()], code)["at"].clone();
    let [before, here, next] = &records[900..903] else { panic!() };
    let found = at(here.lsn, 0);
    assert_eq!((&found["found"], &found["before"]["lsn"]), (&json!("record"), &json!(before.lsn.0)));
    let told = json!({ "lsn": here.lsn.0, "end": here.end().0, "batch_time": 901, "kind": "record", "bytes": here.payload.len() });
    assert_eq!((&found["here"], &found["next"]["lsn"]), (&told, &json!(next.lsn.0)));
    let inside = at(Lsn(here.lsn.0 + 9), 0);
    assert_eq!((&inside["found"], &inside["here"]), (&json!("inside"), &told));
    let offset = found["offset"].as_u64().unwrap();
    let segment = temp.path().join(found["segment"].as_str().unwrap());
    flip(&segment, offset + 30);
    for lsn in [here.lsn, Lsn(here.end().0 - 1)] {
        let damaged = at(lsn, 2);
        assert_eq!((&damaged["found"], &damaged["damage"]["lsn"]), (&json!("damage"), &json!(here.lsn.0)));
        assert_eq!((&damaged["before"]["lsn"], &damaged["next"]["lsn"]), (&json!(before.lsn.0), &json!(next.lsn.0)));
    }
    assert_eq!(at(next.lsn, 0)["found"], "record");
    // The last record of the segment below is before the first of one.
    let base_of = |path: &Path| path.file_name().unwrap().to_str().unwrap()[..20].parse::<u64>().unwrap();
    let edge = segments(temp.path()).iter().map(|path| base_of(path)).find(|base| *base > here.end().0).unwrap();
    let first = records.iter().position(|record| record.lsn.0 > edge).unwrap();
    let begins = at(records[first].lsn, 0);
    assert_eq!(begins["before"]["lsn"], json!(records[first - 1].lsn.0), "{begins}");
    assert_eq!(at(Lsn(edge), 0)["before"], begins["before"]);
    assert_eq!(at(records[0].lsn, 0)["before"], json!(null));
    let beyond = at(Lsn::MAX, 0);
    assert_eq!(
        (&beyond["found"], &beyond["segment"], &beyond["offset"]),
        (&json!("nothing"), &json!(null), &json!(null))
    );
    let shown = shown(&[dir, "--at", &here.lsn.to_string()]);
    assert!(shown.contains(&format!("at lsn {}: ", here.lsn)) && shown.contains("here    damage: "), "{shown}");
    // A copy under the name of a place within it, which is no part of the log.
    let base: u64 = segment.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap();
    let place = (here.lsn.0 / 4096) * 4096;
    assert!(place > base, "{place}");
    fs::copy(&segment, temp.path().join(format!("{place:020}.wal"))).unwrap();
    let damaged = at(here.lsn, 2);
    assert_eq!((&damaged["segment"], &damaged["offset"]), (&found["segment"], &found["offset"]));
}

#[test]
fn a_lone_file_is_inspected_by_its_header() {
    let (temp, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(log(temp.path(), 2000));
    let copy = elsewhere.path().join("sent");
    fs::copy(first_segment(temp.path()), &copy).unwrap();
    let whole = inspected(&[text(temp.path())], 0);
    let told = inspected(&[text(&copy)], 0);
    let segment = &told["segments"][0];
    assert_eq!((&segment["state"], &segment["kept"], &segment["file"]), (&json!("lone"), &Value::Null, &json!("sent")));
    assert_eq!(segment["records"], whole["segments"][0]["records"]);
    assert_eq!(told["log_id"], whole["log_id"]);
    let shown = shown(&[text(&copy)]);
    // What only the whole log knows is not told of it.
    assert!(shown.contains("read on its own") && !shown.contains("durable") && !shown.contains("missing"), "{shown}");
    assert_eq!(told["mark"], "unknown");
    fs::write(&copy, "anything").unwrap();
    assert_eq!(seawall(&["inspect", text(&copy)]).status.code(), Some(1));
}

#[test]
fn the_page_has_every_segment_and_nothing_in_it_is_markup_but_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("<log>&\"'");
    drop(with_cursor(&dir, "<script>alert(1)</script>"));
    fs::write(dir.join("<b>mine"), "").unwrap();
    let file = temp.path().join("page.html");
    for _ in 0..2 {
        let output = seawall(&["inspect", text(&dir), "--html", text(&file)]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let page = fs::read_to_string(&file).unwrap();
    for segment in inspected(&[text(&dir)], 0)["segments"].as_array().unwrap() {
        let name = segment["file"].as_str().unwrap();
        assert!(page.contains(&format!("<td>{name}</td>")), "{page}");
        assert!(page.contains(&format!("title=\"segment: {name}\nstate: {}", segment["state"].as_str().unwrap())));
    }
    for raw in ["<script>", "<log>", "<b>", "&\"", "http", "src="] {
        assert!(!page.contains(raw), "{raw}: {page}");
    }
    for escaped in ["&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;log&gt;&amp;&quot;&#39;", "&lt;b&gt;mine"] {
        assert!(page.contains(escaped), "{escaped}: {page}");
    }
    // Each tag that is opened is closed, but for those that need not be.
    for tag in ["table", "tr", "td", "div", "i", "p", "h1", "style"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_page_is_written_over_nothing_but_a_page() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, other) = (temp.path().join("log"), temp.path().join("other"));
    drop(log(&dir, 10));
    let segment = first_segment(&dir);
    fs::copy(&segment, &other).unwrap();
    let before = fs::read(&segment).unwrap();
    // A page that is named as a segment is would be one to whoever opens the log.
    let unused = dir.join("00000000000000786432.wal");
    let another = temp.path().join("another");
    drop(log(&another, 10));
    let theirs = another.join("00000000000000786432.wal");
    // So it would be through a link that leads to nothing.
    let link = temp.path().join("link.html");
    std::os::unix::fs::symlink(&theirs, &link).unwrap();
    let among = "among a log's files";
    for (file, says) in [(&segment, among), (&unused, among), (&theirs, among), (&link, among), (&other, "left as it")]
    {
        for log in [&dir, &segment] {
            let output = seawall(&["inspect", text(log), "--html", text(file)]);
            assert_eq!(output.status.code(), Some(1));
            assert!(said(&output).contains(says), "{}", said(&output));
        }
    }
    assert_eq!([&segment, &other].map(|file| fs::read(file).unwrap()), [before.clone(), before]);
    assert!(!unused.exists() && !theirs.exists());
}

/// The names of all fields of a value.
fn fields(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(inner) => inner.iter().for_each(|(name, value)| {
            into.push(name.clone());
            fields(value, into);
        }),
        Value::Array(inner) => inner.iter().for_each(|value| fields(value, into)),
        _ => {}
    }
}

#[test]
fn the_help_speaks_of_every_field() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(with_cursor(temp.path(), "billing"));
    fs::write(temp.path().join("mine"), "").unwrap();
    flip(&first_segment(temp.path()), 8192);
    fs::remove_file(temp.path().join("MARK")).unwrap();
    let inspected = lines(&seawall(&["inspect", "--json", "--at", "8192", dir])).remove(0);
    let verified = lines(&seawall(&["verify", "--json", dir])).remove(0);
    let stats = lines(&seawall(&["stats", "--json", dir])).remove(0);
    for (command, told) in [("inspect", inspected), ("verify", verified), ("stats", stats)] {
        let help = String::from_utf8(seawall(&[command, "--help"]).stdout).unwrap();
        let words: Vec<_> = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let mut names = Vec::new();
        fields(&told, &mut names);
        assert!(names.len() > 8, "{told}");
        assert!(names.iter().all(|name| words.contains(&name.as_str())), "{command}: {names:?}\n{help}");
    }
}

/// Half of one was in the way of the next, and the one before it was gone.
#[test]
fn a_page_that_cannot_be_written_whole_leaves_what_was_there() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, page) = (temp.path().join("log"), temp.path().join("page.html"));
    drop(log(&dir, 100));
    let write = |limit: &str| {
        // A file larger than so many blocks of 512 bytes is refused as on a full disk.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
        let seawall = env!("CARGO_BIN_EXE_seawall");
        let mut shell = std::process::Command::new("sh");
        let output =
            shell.args(["-c", &script, "sh", seawall, "inspect", text(&dir), "--html", text(&page)]).output().unwrap();
        (output.status.code(), fs::read_dir(temp.path()).unwrap().count())
    };
    assert_eq!(write("2"), (Some(1), 1));
    assert_eq!(write("unlimited"), (Some(0), 2));
    let whole = fs::read(&page).unwrap();
    assert_eq!(write("2"), (Some(1), 2));
    assert!(fs::read(&page).unwrap() == whole);
}
