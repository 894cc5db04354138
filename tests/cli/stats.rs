//! `seawall stats`: figures of a log from outside, once, again and again, and for Prometheus.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{first_segment, lines, log, said, seawall, text};

#[test]
fn the_figures_are_those_of_the_live_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let wal = log(temp.path(), 2000);
    drop(wal.cursor("it's \"mine\"\\").unwrap());
    let checkpoint = wal.append_checkpoint(b"state").unwrap().wait().unwrap();
    let output = seawall(&["stats", "--json", dir]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = lines(&output).remove(0);
    let stats = wal.stats();
    assert_eq!((&told["segments"], &told["records"]), (&json!(stats.segments), &json!(2001)));
    assert_eq!((&told["durable"], &told["checkpoint"]), (&json!(wal.durable_lsn().0), &json!(checkpoint.0)));
    assert_eq!(told["since_checkpoint"], json!(wal.durable_lsn().0 - checkpoint.0));
    assert_eq!((&told["faults"], &told["growth"]), (&json!(0), &Value::Null));
    assert!(told["cursors"][0]["lag"].as_u64() > Some(200_000));

    let shown = String::from_utf8(seawall(&["stats", dir]).stdout).unwrap();
    assert!(shown.contains("2 001") && shown.contains("mine") && shown.contains("behind"), "{shown}");

    let shown = String::from_utf8(seawall(&["stats", "--prometheus", dir]).stdout).unwrap();
    let value =
        |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
    assert_eq!((value("seawall_records"), value("seawall_faults")), (Some(2001), Some(0)), "{shown}");
    assert_eq!(value("seawall_durable_lsn"), Some(wal.durable_lsn().0));
    let lag = value(r#"seawall_cursor_lag_bytes{cursor="it's \"mine\"\\"}"#);
    assert_eq!(lag, told["cursors"][0]["lag"].as_u64(), "{shown}");
    for line in shown.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        assert!(shown.contains(&format!("# TYPE {name} {kind}\n")), "{line}");
    }
    // What only grows is no gauge.
    assert_eq!(value("seawall_appended_records_total"), Some(2001), "{shown}");
    assert!(!shown.contains("seawall_appended_records "), "{shown}");
    // Nothing that a terminal would obey.
    wal.cursor("z\u{1b}[2J").unwrap().release(wal.durable_lsn()).unwrap();
    let shown = String::from_utf8(seawall(&["stats", "--prometheus", dir]).stdout).unwrap();
    assert!(shown.contains("cursor=\"z\u{fffd}[2J\"") && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn damage_that_is_met_exits_with_2_and_no_log_with_1() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    drop(log(temp.path(), 2000));
    fs::remove_file(first_segment(temp.path())).unwrap();
    let output = seawall(&["stats", dir]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        String::from_utf8(output.stdout).unwrap().contains("damage       in 1 place\nnext         seawall verify ")
    );
    let shown = String::from_utf8(seawall(&["stats", "--prometheus", dir]).stdout).unwrap();
    assert!(shown.contains("\nseawall_faults 1\n"), "{shown}");
    assert_eq!(seawall(&["stats", text(&temp.path().join("none"))]).status.code(), Some(1));
}

#[test]
fn watched_it_tells_how_fast_the_log_grows() {
    let temp = tempfile::tempdir().unwrap();
    let wal = log(temp.path(), 10);
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    let command = command.args(["stats", "--json", text(temp.path()), "--watch", "200ms"]).stdout(Stdio::piped());
    let mut watch = command.spawn().unwrap();
    let mut shown = BufReader::new(watch.stdout.take().unwrap());
    let stop = AtomicBool::new(false);
    let looks: Vec<Value> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                wal.append(&[0; 1000]).unwrap().wait().unwrap();
                wal.clean_before_lsn(wal.durable_lsn()).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let mut look = || {
            let mut line = String::new();
            shown.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap()
        };
        let looks = (0..6).map(|_| look()).collect();
        stop.store(true, Ordering::Relaxed);
        looks
    });
    drop(shown);
    // Nobody reads on: it ends by itself.
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    assert_eq!(looks[0]["growth"], Value::Null);
    let appended = |look: &Value| look["appended"].as_u64().unwrap();
    assert!(appended(&looks[5]) > appended(&looks[0]) + 5, "{looks:?}");
    for (before, look) in looks.iter().zip(&looks[1..]) {
        let growth = |name: &str| look["growth"][name].as_u64().unwrap();
        let (records, bytes) = (growth("records_per_second"), growth("bytes_per_second"));
        // A disk may stand still for longer than from one look to the next.
        let more = appended(look) - appended(before);
        assert!(records <= 5 * more && (records > 0 || more < 5), "{look}, {more} more");
        // A record takes 1024 bytes, and 64 KiB hold a header.
        assert!(bytes >= records * 1000 && bytes <= records * 1500, "{look}");
    }
}

/// A look after another did not tell of damage, and told of a checkpoint where there was none.
#[test]
fn watched_it_tells_of_damage_and_of_no_checkpoint() {
    let temp = tempfile::tempdir().unwrap();
    let wal = log(temp.path(), 2000);
    let look = |damaged: bool, checkpoint: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        let command = command.args(["stats", text(temp.path()), "--watch", "10ms"]).stdout(Stdio::piped());
        let mut watch = command.spawn().unwrap();
        let mut shown = BufReader::new(watch.stdout.take().unwrap()).lines();
        let line = shown.by_ref().map(Result::unwrap).find(|line| line.starts_with("lsn ")).unwrap();
        drop(shown);
        watch.wait().unwrap();
        assert!(line.contains(checkpoint) && line.contains("damage in 1 place") == damaged, "{line}");
    };
    look(false, "  no checkpoint");
    wal.append_checkpoint(b"state").unwrap().wait().unwrap();
    look(false, "  checkpoint ");
    wal.close().unwrap();
    fs::remove_file(first_segment(temp.path())).unwrap();
    look(true, "  checkpoint ");
}
