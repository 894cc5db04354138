//! `seawall bench`: what it tells, as text, JSON and a page; what it refuses; that nothing is left of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{lines, log, said, seawall, signal, text};

/// Names of what lies in a directory.
fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn its_object_has_floor_log_latency_and_what_was_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let output = seawall(&["bench", "--dir", dir, "--seconds", "0.2", "--threads", "1,3", "--record", "100", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = lines(&output).remove(0);
    assert_eq!((&told["dir"], &told["record_bytes"], &told["seconds"]), (&json!(dir), &json!(100), &json!(0.2)));
    assert!(told["sync_us"].as_f64() > Some(0.0) && told["sync_is_free"].is_boolean(), "{told}");
    let tables = told["tables"].as_array().unwrap();
    let of: Vec<_> = tables.iter().map(|table| table["durability"].as_str().unwrap()).collect();
    assert_eq!(of, ["os", "disk"]);
    for table in tables {
        let rows = table["rows"].as_array().unwrap();
        assert_eq!(rows.iter().map(|row| &row["threads"]).collect::<Vec<_>>(), [&json!(1), &json!(3)]);
        for row in rows {
            shows_all(row, table["durability"] == "disk");
        }
    }
    assert!(names(temp.path()).is_empty(), "{:?}", names(temp.path()));
}

/// A row's figures go together.
fn shows_all(row: &Value, is_durable: bool) {
    for side in [&row["floor"], &row["log"]] {
        let (rate, records) = (side["records_per_second"].as_u64().unwrap(), side["records"].as_u64().unwrap());
        assert!(rate > 0 && records > 0, "{row}");
        assert!(side["bytes_per_second"].as_u64().unwrap().abs_diff(rate * 100) <= 100, "{row}");
        // No sync covers more records than threads wait for.
        let (syncs, most) = (side["syncs"].as_u64().unwrap(), row["threads"].as_u64().unwrap());
        assert!(!is_durable || syncs * most >= records, "{row}");
        assert_eq!(side["records_per_sync"].is_null(), syncs == 0, "{row}");
    }
    assert!(is_durable || row["floor"]["syncs"] == 0, "{row}");
    assert!(row["ratio"].as_f64() > Some(0.0), "{row}");
    let latency = |name: &str| row["latency"][name].as_f64().unwrap();
    let order = ["p50_us", "p99_us", "p999_us", "max_us"].map(latency);
    assert!(order.is_sorted() && order[0] > 0.0, "{row}");
    // About 70 percent of the log's rate.
    let share = latency("rate") / row["log"]["records_per_second"].as_f64().unwrap();
    assert!((0.6..0.8).contains(&share) || latency("rate") < 100.0, "{row}");
    assert!(latency("behind_us") >= 0.0 && latency("overslept_p99_us") >= 0.0, "{row}");
    assert!(row["latency"]["keeps_up"].is_boolean(), "{row}");
    // With the pair that warms up.
    let appended = row["log"]["records"].as_f64().unwrap() + latency("records");
    assert!(row["read_back"].as_f64().unwrap() > appended, "{row}");
    assert_eq!(row["reopened"], 7, "{row}");
}

#[test]
fn each_durability_has_a_table_under_what_survives() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let output = seawall(&["bench", "--dir", dir, "--seconds", "0.2", "--threads", "2", "--record", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.starts_with(&format!("directory    {dir}")), "{shown}");
    let (facts, tables) = shown.split_once("\n\n").unwrap();
    assert!(facts.contains("\nsync ") && facts.contains("write of 4 KiB") && facts.ends_with("1 byte"), "{shown}");
    let (os, disk) = tables.split_once("\n\n").unwrap();
    assert!(os.starts_with("os: ") && os.contains("not a crash of the operating system"), "{os}");
    assert!(disk.starts_with("disk: ") && disk.contains(" and a power cut\n"), "{disk}");
    for table in [os, disk] {
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[1].starts_with("threads ") && lines[1].ends_with("p99.9 / max"), "{table}");
        assert!(lines[2].starts_with("2        floor ") && lines[3].starts_with("         log "), "{table}");
        assert!(lines[4].contains(" records read back as acknowledged, after reopening 7 times"), "{table}");
        assert!(lines.iter().all(|line| line.chars().count() <= 120), "{table}");
    }
    assert!(names(temp.path()).is_empty());
}

#[test]
fn the_report_is_one_file_that_needs_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("<dir> & \"co\"");
    fs::create_dir(&dir).unwrap();
    let file = temp.path().join("out.html");
    let arguments = ["bench", "--dir", text(&dir), "--seconds", "0.05", "--threads", "1,2", "--report", text(&file)];
    let output = seawall(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let page = fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!doctype html>\n") && page.ends_with("</html>\n"), "{page}");
    for outside in ["http", "src=", "href=", "url(", "@import", "<script", "<dir>"] {
        assert!(!page.contains(outside), "{outside}: {page}");
    }
    assert!(page.contains("&lt;dir&gt; &amp; &quot;co&quot;") && page.contains("prefers-color-scheme: dark"), "{page}");
    // Of each durability a section with two plots of two rows, and a table.
    assert_eq!([page.matches("<h2>").count(), page.matches("<svg ").count()], [2, 4]);
    assert_eq!([page.matches("<rect ").count(), page.matches("<circle ").count()], [8, 16]);
    assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
    assert_eq!(names(&dir), Vec::<String>::new());
    // It is not written over.
    let output = seawall(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("is there; it was left as it is"), "{}", said(&output));
    assert_eq!(fs::read_to_string(&file).unwrap(), page);
}

#[test]
fn what_cannot_be_measured_is_refused_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    for (option, value, why) in [
        ("--record", "0", "1 to 67100648 bytes"),
        ("--record", "67100649", "1 to 67100648 bytes"),
        ("--record", "5 parsecs", "a size is a whole number"),
        ("--threads", "0", "from 1 to 1024"),
        ("--threads", "1,1025", "from 1 to 1024"),
        ("--threads", "", "from 1 to 1024"),
        ("--durability", "tape", "possible values: os, disk"),
        ("--seconds", "0", "from 0.01 to 3600"),
        ("--seconds", "NaN", "from 0.01 to 3600"),
        ("--seconds", "inf", "from 0.01 to 3600"),
    ] {
        let output = seawall(&["bench", "--dir", dir, option, value]);
        assert_eq!(output.status.code(), Some(1), "{option} {value}");
        assert!(said(&output).contains(why), "{}", said(&output));
    }
    let missing = temp.path().join("none");
    let output = seawall(&["bench", "--json", "--dir", text(&missing)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("none is no directory"), "{}", said(&output));
    assert_eq!(lines(&output)[0]["error"]["path"], json!(text(&missing)));
    let output = seawall(&["bench", "--dir", dir, "--report", text(&missing.join("out.html"))]);
    assert!(said(&output).contains("none is no directory"), "{}", said(&output));
    let output = seawall(&["bench", "--dir", dir, "--threads", "1024", "--record", "2MiB"]);
    assert!(said(&output).contains("2.1 GB would be under way at once"), "{}", said(&output));
    assert!(names(temp.path()).is_empty(), "{:?}", names(temp.path()));
    // Nor is anything made among a log's files.
    drop(log(temp.path(), 1));
    let before = names(temp.path()).len();
    let output = seawall(&["bench", "--dir", dir]);
    assert!(said(&output).contains("holds a log"), "{}", said(&output));
    let page = temp.path().join("out.html");
    let output = seawall(&["bench", "--dir", text(temp.path().parent().unwrap()), "--report", text(&page)]);
    assert!(said(&output).contains("lies among a log's files"), "{}", said(&output));
    assert_eq!(names(temp.path()).len(), before);
}

#[test]
fn nothing_is_left_where_it_fails_midway() {
    let temp = tempfile::tempdir().unwrap();
    // Too few files for a log.
    let script = "ulimit -n 6 && exec \"$0\" bench --json --seconds 0.1 --dir \"$1\"";
    let mut command = Command::new("sh");
    let output = command.args(["-c", script, env!("CARGO_BIN_EXE_seawall"), text(temp.path())]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = &lines(&output)[0]["error"];
    assert_eq!((&told["kind"], &told["touched"]), (&json!("io"), &json!("nothing that was there before")), "{told}");
    assert!(told["text"].as_str().unwrap().contains("open files"), "{told}");
    assert!(names(temp.path()).is_empty(), "{:?}", names(temp.path()));
}

#[test]
fn nothing_is_left_where_it_is_interrupted() {
    let temp = tempfile::tempdir().unwrap();
    let page = temp.path().join("out.html");
    for wait in [0, 500, 2000] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.args(["bench", "--dir", text(temp.path()), "--seconds", "600", "--report", text(&page)]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while names(temp.path()).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(wait));
        signal(&child, libc::SIGINT);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("error: interrupted"), "{}", said(&output));
        assert!(names(temp.path()).is_empty(), "{:?}", names(temp.path()));
    }
}
