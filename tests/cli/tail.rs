//! `seawall tail`: the last records, and each further one, beside a live writer.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use seawall::{Durability, Lsn, Options, Wal};
use serde_json::{Value, json};

use crate::{first_segment, flip, lines, log, said, seawall, segments, text};

/// The numbers in payloads `record N ..`.
fn number(line: &Value) -> u64 {
    line["batch_time"].as_u64().unwrap()
}

#[test]
fn the_last_records_are_those_that_a_dump_ends_with() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let _wal = log(temp.path(), 2000);
    let dumped = lines(&seawall(&["dump", "--json", dir]));
    for n in [0, 1, 10, 700, 1999, 2000, 5000] {
        let output = seawall(&["tail", "--json", "-n", &n.to_string(), dir]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(lines(&output), dumped[2000_usize.saturating_sub(n)..], "{n}");
    }
    let output = seawall(&["tail", dir]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 10);
}

#[test]
fn damage_among_the_last_records_exits_with_2() {
    let temp = tempfile::tempdir().unwrap();
    drop(log(temp.path(), 2000));
    flip(&first_segment(temp.path()), 20_000);
    assert_eq!(seawall(&["tail", text(temp.path())]).status.code(), Some(0));
    let output = seawall(&["tail", "-n", "2000", text(temp.path())]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("damage"), "{}", said(&output));
}

/// Nothing of what it had read was written out, and it did not follow.
#[test]
fn damage_is_passed_over_and_said() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let wal = log(temp.path(), 2000);
    let files = segments(temp.path());
    let dumped = lines(&seawall(&["dump", "--json", dir]));
    let base = |path: &Path| -> u64 { path.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap() };
    let lsn = |n: usize| dumped[n]["lsn"].as_u64().unwrap();
    // The fourth from above of the last segment that is full.
    let newest = files.iter().map(|file| base(file)).filter(|base| *base < lsn(1999)).max().unwrap();
    let held = dumped.iter().filter(|line| line["lsn"].as_u64().unwrap() > newest).count();
    let hit = 2000 - held - 4;
    let full = files.iter().filter(|file| base(file) < lsn(hit)).max_by_key(|file| base(file)).unwrap();
    flip(full, lsn(hit) - base(full) + 40);
    let sound: Vec<_> = dumped.iter().enumerate().filter(|(n, _)| *n != hit).map(|(_, line)| line.clone()).collect();
    for (more, met) in [(0, false), (2, false), (4, true), (6, true), (100, true), (5000, true)] {
        let n = held + more;
        let output = seawall(&["tail", "--json", "-n", &n.to_string(), dir]);
        assert_eq!(lines(&output), sound[1999_usize.saturating_sub(n)..], "{n}");
        assert_eq!(output.status.code(), Some(if met { 2 } else { 0 }), "{}", said(&output));
        assert_eq!(said(&output).contains("damage: ") && said(&output).contains("seawall inspect"), met);
    }
    let (mut tail, mut shown) = Following::new(dir, &["-n", &(held + 6).to_string()]);
    let first = sound.len() - held - 6;
    assert_eq!((0..held + 6).map(|_| next(&mut shown)).collect::<Vec<_>>(), sound[first..]);
    wal.at(2000).append(b"more").unwrap().wait().unwrap();
    assert_eq!(number(&next(&mut shown)), 2000);
    drop(shown);
    assert_eq!(tail.0.wait().unwrap().code(), Some(2));
}

/// An error was all that it showed, although it was to go on past damage.
#[test]
fn of_a_log_that_opening_refuses_the_last_records_are_shown() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    log(temp.path(), 2000).close().unwrap();
    let whole = lines(&seawall(&["dump", "--json", dir]));
    let base = |path: &Path| -> u64 { path.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap() };
    let lsn = |n: usize| whole[n]["lsn"].as_u64().unwrap();
    let files = segments(temp.path());
    let newest = files.iter().filter(|file| base(file) < lsn(1999)).max_by_key(|file| base(file)).unwrap();
    let hit = 1990;
    assert!(base(newest) < lsn(hit));
    flip(newest, lsn(hit) - base(newest) + 40);
    assert!(Options::new().open_read_only(temp.path()).is_err());
    let output = seawall(&["dump", "--json", dir]);
    let (dumped, ways) = (lines(&output), said(&output).lines().last().unwrap().to_owned());
    assert_eq!((dumped.len(), output.status.code()), (1999, Some(2)), "{}", said(&output));
    for n in [0, 3, 9, 10, 700, 1999, 5000] {
        let output = seawall(&["tail", "--json", "-n", &n.to_string(), dir]);
        assert_eq!(lines(&output), dumped[1999_usize.saturating_sub(n)..], "{n}");
        let told = said(&output);
        assert_eq!(output.status.code(), Some(2), "{n}: {told}");
        let damage = told.lines().filter(|line| line.starts_with("damage: ") && line.contains(&lsn(hit).to_string()));
        assert_eq!((damage.count(), told.lines().last()), (1, Some(&*ways)), "{n}: {told}");
        // There is no view of it to wait with: the error ends it.
        let output = seawall(&["tail", "-f", "--json", "-n", &n.to_string(), dir]);
        let mut shown = lines(&output);
        let error = shown.pop().unwrap();
        assert_eq!((&error["error"]["kind"], output.status.code()), (&json!("damage"), Some(2)), "{n}: {error}");
        assert_eq!(shown, dumped[1999_usize.saturating_sub(n)..], "{n}");
        assert!(said(&output).contains("error: damaged: ") && said(&output).contains("  next     seawall inspect "));
    }
    // With a segment gone too.
    fs::remove_file(&files[0]).unwrap();
    let dumped = lines(&seawall(&["dump", "--json", dir]));
    let output = seawall(&["tail", "--json", "-n", "5000", dir]);
    assert_eq!((lines(&output), output.status.code()), (dumped, Some(2)), "{}", said(&output));
}

/// Its help said that a log that opening refuses has no writer.
#[test]
fn a_bit_that_flips_beside_a_writer_ends_the_reader_and_not_the_writer() {
    let temp = tempfile::tempdir().unwrap();
    let wal = log(temp.path(), 10);
    flip(&segments(temp.path())[0], 4096 + 300);
    for n in 0..2_u64 {
        let output = seawall(&["tail", "-f", "-n", "1", "--json", text(temp.path())]);
        let shown = lines(&output);
        assert_eq!((shown.len(), output.status.code()), (2, Some(2)), "{}", said(&output));
        assert_eq!((number(&shown[0]), &shown[1]["error"]["kind"]), (9 + n, &json!("damage")), "{shown:?}");
        wal.at(10 + n).append(b"more").unwrap().wait().unwrap();
    }
}

/// It kept all of them before it wrote the first.
#[test]
fn any_number_of_records_takes_no_more_memory() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let wal = Options::new().segment_size(1 << 20).open(temp.path()).unwrap();
    (0..64_000_u64).for_each(|n| drop(wal.at(n).append(&[b'.'; 1000]).unwrap()));
    wal.close().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 60000 && exec \"$0\" tail -n 60000 \"$1\"", env!("CARGO_BIN_EXE_seawall"), dir])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').count(), 60_001);
}

/// A `tail -f` that is killed at the end.
struct Following(Child);

impl Following {
    fn new(wal_dir: &str, arguments: &[&str]) -> (Following, BufReader<ChildStdout>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        let command = command.args(["tail", "-f", "--json", wal_dir]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let shown = BufReader::new(child.stdout.take().unwrap());
        (Following(child), shown)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn next(shown: &mut impl BufRead) -> Value {
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn each_further_record_is_written_out_once_it_is_durable() {
    let temp = tempfile::tempdir().unwrap();
    let wal = log(temp.path(), 100);
    let (_tail, mut shown) = Following::new(text(temp.path()), &["-n", "2"]);
    assert_eq!([number(&next(&mut shown)), number(&next(&mut shown))], [98, 99]);
    for n in 100..1500 {
        let ticket = wal.at(n).append(&[b'.'; 100]).unwrap();
        if n % 50 == 49 {
            let lsn = ticket.wait().unwrap();
            while number(&next(&mut shown)) < n {}
            assert!(wal.durable_lsn() > lsn);
        }
    }
}

/// It said nothing of them, where `dump` did.
#[test]
fn what_there_is_to_know_of_the_end_is_said_as_by_dump() {
    let temp = tempfile::tempdir().unwrap();
    let (old, copy) = (temp.path().join("old"), temp.path().join("copy"));
    let wal = Options::new().segment_size(64 << 10).durability(Durability::Os).open(&old).unwrap();
    (0..100_u64).for_each(|n| drop(wal.at(n).append(&[b'.'; 100]).unwrap()));
    wal.sync().unwrap();
    let seen = wal.at(100).append(&[b'.'; 100]).unwrap().wait().unwrap();
    for (harm, note) in [("MARK", "MARK: missing"), ("power cut", "MARK: readers saw records up to LSN")] {
        _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&old).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
        match harm {
            "MARK" => fs::remove_file(copy.join("MARK")).unwrap(),
            _ => {
                let segment = OpenOptions::new().write(true).open(first_segment(&copy)).unwrap();
                segment.write_all_at(&[0; 8192], seen.0).unwrap();
            }
        }
        let notes = |command: &[&str]| -> Vec<String> {
            let output = seawall(&[command, &[text(&copy)]].concat());
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            said(&output).lines().filter(|line| line.starts_with("note: ")).map(str::to_owned).collect()
        };
        let dumped = notes(&["dump"]);
        assert!(dumped.iter().any(|line| line.contains(note)), "{dumped:?}");
        for n in ["0", "1", "10", "1000"] {
            assert_eq!(notes(&["tail", "-n", n]), dumped, "{n}");
        }
        let stats = seawall(&["stats", text(&copy)]);
        assert!(String::from_utf8(stats.stdout).unwrap().contains(&format!("note         {note}")));
    }
}

/// It cannot write, so it cannot read on, and the log is cleaned.
#[test]
fn what_it_was_overtaken_by_is_said_and_it_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let wal: Wal = log(temp.path(), 10);
    let (mut tail, mut shown) = Following::new(text(temp.path()), &["-n", "1"]);
    assert_eq!(number(&next(&mut shown)), 9);
    // Some of it is what the reader knows and has no room to write out, the rest it has not looked at.
    for n in 10..16_000 {
        drop(wal.at(n).append(&[b'.'; 200]).unwrap());
        if n == 8000 {
            wal.sync().unwrap();
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    wal.sync().unwrap();
    let (begun, mut stderr) = (Instant::now(), BufReader::new(tail.0.stderr.take().unwrap()));
    let mut seen = vec![number(&next(&mut shown))];
    let cleaned = wal.clean_before_lsn(Lsn(wal.durable_lsn().0 - 100_000)).unwrap();
    for n in 16_000..16_010 {
        wal.at(n).append(b"").unwrap().wait().unwrap();
    }
    while *seen.last().unwrap() < 16_009 {
        seen.push(number(&next(&mut shown)));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    let gaps: Vec<_> = seen.windows(2).filter(|pair| pair[1] - pair[0] > 1).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("overtaken: ") && line.contains(&cleaned.first.to_string()), "{line}");
}

/// It wrote out fewer, or none, and said nothing.
#[test]
fn the_last_records_of_a_writer_that_cleans_them_are_shown_or_said_to_be_cleaned() {
    let temp = tempfile::tempdir().unwrap();
    let options = Options::new().segment_size(64 << 10).durability(Durability::Os);
    let wal = options.open(temp.path()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let append = || {
        for n in 0.. {
            let lsn = wal.append(&[7; 40]).unwrap().wait().unwrap();
            if n % 64 == 0 {
                wal.clean_before_lsn(Lsn(lsn.0.saturating_sub(128 << 10))).unwrap();
            }
            if n > 5000 && done.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
        }
    };
    let missing = std::thread::scope(|scope| {
        scope.spawn(append);
        while wal.durable_lsn() < Lsn(256 << 10) {
            std::thread::yield_now();
        }
        let look = |_| {
            let output = seawall(&["tail", "--json", "-n", "300", text(temp.path())]);
            (lines(&output).len() < 300 && !said(&output).contains("overtaken")).then(|| said(&output))
        };
        let missing: Vec<_> = (0..100).filter_map(look).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        missing
    });
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_reader_that_goes_away_ends_it_in_order() {
    goes_away(false);
}

/// It looked only when there was something to write: `tail -f | head -1` hung on an idle log.
#[test]
fn a_reader_that_goes_away_ends_it_beside_an_idle_log() {
    goes_away(true);
}

fn goes_away(idle: bool) {
    let temp = tempfile::tempdir().unwrap();
    let wal = log(temp.path(), 10);
    let (mut tail, mut shown) = Following::new(text(temp.path()), &["-n", "1"]);
    assert_eq!(number(&next(&mut shown)), 9);
    drop(shown);
    let begun = Instant::now();
    let status = loop {
        if !idle {
            wal.append(b"more").unwrap().wait().unwrap();
        }
        if let Some(status) = tail.0.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut said = String::new();
    tail.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_record_is_shown_as_by_dump() {
    let temp = tempfile::tempdir().unwrap();
    let dir = text(temp.path());
    let wal = Wal::open(temp.path()).unwrap();
    wal.at(5).append(b"any\x00bytes, and more of them").unwrap().wait().unwrap();
    for form in [&[][..], &["--json"], &["--hex"]] {
        let [dumped, tailed] = ["dump", "tail"].map(|command| seawall(&[&[command, dir], form].concat()).stdout);
        assert_eq!(String::from_utf8(dumped).unwrap(), String::from_utf8(tailed).unwrap());
    }
    let hex = String::from_utf8(seawall(&["tail", "--hex", dir]).stdout).unwrap();
    assert!(hex.contains("00000000  61 6e 79 00 62 79 74 65 73 2c 20 61 6e 64 20 6d  |any.bytes, and m|"), "{hex}");
    assert!(hex.contains("00000010  6f 72 65"), "{hex}");
    assert_eq!(lines(&seawall(&["tail", "--json", dir]))[0]["kind"], json!("record"));
    // Of a long one the size is told once.
    wal.at(6).append(&[b'x'; 1498]).unwrap().wait().unwrap();
    let shown = String::from_utf8(seawall(&["tail", "-n", "1", dir]).stdout).unwrap();
    let preview = "x".repeat(60);
    assert!(shown.ends_with(&format!("  6  record  1 498 bytes  \"{preview}\"..\n")), "{shown}");
}
