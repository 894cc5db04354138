//! `seawall receive` against the mock cluster: its signals, its options, and what it tells.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaRespErr;
use seawall::Options;
use seawall::receiver::{Commit, Event, KafkaConfig, KafkaSource, Partition, Source};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::common::cluster::Cluster;
use crate::common::log::Reading;
use crate::common::produce::Producer;
use crate::common::receiving::{seawall, with_parent};
use crate::common::records::made;
use crate::{said, seawall as run, text};

const BOUND: Duration = Duration::from_secs(60);

/// A receiver. Killed with the test's thread.
fn start(cluster: &Cluster, dir: &Path, stdout: impl Into<Stdio>, options: &[&str]) -> Child {
    start_with(cluster, dir, stdout, Stdio::piped(), options)
}

fn start_with(
    cluster: &Cluster,
    dir: &Path,
    stdout: impl Into<Stdio>,
    stderr: impl Into<Stdio>,
    options: &[&str],
) -> Child {
    let mut command = seawall();
    command.args(["receive", "--brokers", &cluster.brokers(), "--group", "group", "--topic", "topic"]);
    command.args(["--block-interval", "20ms", "-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=200"]);
    command.arg("--dir").arg(dir).args(options);
    with_parent(&mut command).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap()
}

fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_so(is_so, || what.to_owned());
}

fn until_so(mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + BOUND;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {BOUND:?}: {}", what());
        thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for(dir: &Path, records: u64) -> Reading {
    let mut reading = Reading::default();
    until(&format!("{records} records"), || {
        reading.go_on(dir);
        reading.records >= records
    });
    reading
}

/// What it has said, once it has ended by itself.
fn ended(mut process: Child) -> Output {
    until("it ends", || process.try_wait().unwrap().is_some());
    process.wait_with_output().unwrap()
}

/// Has it stop by a signal, in order.
fn stop(process: Child, signal: i32) -> Output {
    crate::signal(&process, signal);
    let output = ended(process);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    output
}

/// What it has told so far; the last line may be half a line.
fn events(told: &NamedTempFile) -> Vec<Value> {
    let told = fs::read_to_string(told.path()).unwrap();
    told.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
}

fn wait_for_event(told: &NamedTempFile, name: &str) -> Value {
    let mut found = None;
    let is_there = || {
        found = events(told).into_iter().find(|event| event["event"] == name);
        found.is_some()
    };
    until_so(is_there, || format!("{name} among {}", fs::read_to_string(told.path()).unwrap()));
    found.unwrap()
}

/// The names of all fields. Those of `resume` are names of partitions.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(inner) => {
            for (name, value) in inner {
                found.insert(name.clone());
                if name != "resume" {
                    fields(value, found);
                }
            }
        }
        Value::Array(inner) => inner.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

/// The help has a row for each event, and speaks of each field.
fn stand_in_the_help(events: &[Value]) {
    let help = String::from_utf8(run(&["receive", "--help"]).stdout).unwrap();
    let rows: BTreeSet<_> = help.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let words: BTreeSet<_> = help.split(|c: char| !c.is_ascii_lowercase() && c != '_').collect();
    for event in events {
        let mut found = BTreeSet::new();
        fields(event, &mut found);
        assert!(rows.contains(event["event"].as_str().unwrap()), "{event}\n{help}");
        assert!(found.iter().all(|field| words.contains(field.as_str())), "{event}\n{help}");
    }
}

#[test]
fn options_that_cannot_be_meant_are_refused_by_name_before_anything_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let cases: [(&[&str], &str); 13] = [
        (&["--brokers", ""], "--brokers"),
        (&["--brokers", " ,"], "--brokers"),
        (&["--group", ""], "--group"),
        (&["--topic", ""], "--topic"),
        (&["--topic", "t"], "--topic t is given twice"),
        (&["--topic", "^a"], "no topic can have the name \"^a\""),
        (&["--topic", "a b"], "no topic can have the name \"a b\""),
        (&["--topic", ".."], "no topic can have the name \"..\""),
        (&["--block-interval", "0s"], "--block-interval"),
        (&["--retain", "0s"], "--retain"),
        (&["--segment-size", "0"], "--segment-size is 0"),
        (&["--segment-size", "1.5MiB"], "whole number"),
        (&["--max-disk-bytes", "0"], "--max-disk-bytes is 0"),
    ];
    for (wrong, named) in cases {
        let mut arguments = vec!["receive", "--dir", text(&dir), "--topic", "t"];
        for usual in [["--brokers", "127.0.0.1:1"], ["--group", "g"]] {
            if usual[0] != wrong[0] {
                arguments.extend(usual);
            }
        }
        let output = run(&[&arguments, wrong].concat());
        assert_eq!(output.status.code(), Some(1), "{wrong:?}: {}", said(&output));
        assert!(said(&output).starts_with("error: ") && said(&output).contains(named), "{wrong:?}: {}", said(&output));
        assert!(!dir.exists(), "{wrong:?}");
    }
}

#[test]
fn sigint_stops_in_order() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let cluster = Cluster::new("topic", 1);
    Producer::new(&cluster.brokers(), "topic").produce(0, 0, 100);
    let process = start(&cluster, &dir, Stdio::piped(), &[]);
    wait_for(&dir, 100);
    let output = stop(process, libc::SIGINT);
    let told = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(told.ends_with("100 records recorded, 0 duplicates dropped; everything read is durable and committed\n"));
    assert!(told.contains(" assigned      topic/0@0 (earliest)\n"), "{told}");
    assert_eq!(said(&output), "");
}

#[test]
fn receiving_goes_on_although_what_is_told_goes_nowhere() {
    let (reader, without_reader) = io::pipe().unwrap();
    drop(reader);
    let mut outputs = vec![(Stdio::from(without_reader), "")];
    if cfg!(target_os = "linux") {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        outputs.push((full.into(), "warning: writing to standard output: No space left"));
    }
    for (output, warning) in outputs {
        let temp = tempfile::tempdir().unwrap();
        let cluster = Cluster::new("topic", 1);
        Producer::new(&cluster.brokers(), "topic").produce(0, 0, 100);
        let process = start(&cluster, temp.path(), output, &[]);
        wait_for(temp.path(), 100);
        let output = stop(process, libc::SIGTERM);
        assert!(said(&output).starts_with(warning), "{}", said(&output));
        assert_eq!(said(&output).lines().count(), usize::from(!warning.is_empty()));
    }
}

/// The writing end of a pipe with room for so many bytes, and the reading end, which nobody reads.
fn stuffed(room: usize) -> (io::PipeReader, io::PipeWriter) {
    let (mut reader, mut writer) = io::pipe().unwrap();
    let blocking = |blocking: bool| {
        // SAFETY: the descriptor is open, and nobody else has it yet.
        let code =
            unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, if blocking { 0 } else { libc::O_NONBLOCK }) };
        assert_eq!(code, 0);
    };
    blocking(false);
    while (&writer).write(&[b'\n'; 4096]).is_ok() {}
    blocking(true);
    reader.read_exact(&mut vec![0; room]).unwrap();
    writer.flush().unwrap();
    (reader, writer)
}

#[test]
fn a_reader_who_does_not_read_holds_up_neither_the_receiver_nor_its_end() {
    // No line fits; or the first do, and the rest of fifty partitions does not.
    for room in [0, 4096] {
        let temp = tempfile::tempdir().unwrap();
        let cluster = Cluster::new("topic", 50);
        let producer = Producer::new(&cluster.brokers(), "topic");
        (0..50).for_each(|number| producer.produce(number, 0, 4));
        let (mut reader, writer) = stuffed(room);
        let process = start(&cluster, temp.path(), writer, &["--json"]);
        wait_for(temp.path(), 200);
        let output = stop(process, libc::SIGTERM);
        assert!(said(&output).starts_with("warning: standard output was not read: "), "{}", said(&output));
        assert_eq!(said(&output).lines().count(), 1);
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        assert_eq!(told.contains("\"event\":\"opened\""), room > 0, "{told}");
    }
}

/// Of both outputs together, as of a log collector that hangs; with something to warn of, and with an error at the end.
#[test]
fn a_standard_error_that_nobody_reads_holds_up_neither() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 50).without("missing");
    let producer = Producer::new(&cluster.brokers(), "topic");
    (0..50).for_each(|number| producer.produce(number, 0, 4));
    let (_reader, writer) = stuffed(0);
    let process =
        start_with(&cluster, temp.path(), writer.try_clone().unwrap(), writer.try_clone().unwrap(), &["--json"]);
    wait_for(temp.path(), 200);
    stop(process, libc::SIGTERM);
    let options = ["--json", "--topic", "missing"];
    let process = start_with(&cluster, temp.path(), writer.try_clone().unwrap(), writer, &options);
    assert_eq!(ended(process).status.code(), Some(1));
}

#[test]
fn at_least_once_goes_on_where_the_group_is() {
    let temp = tempfile::tempdir().unwrap();
    let (one, other) = (temp.path().join("one"), temp.path().join("other"));
    let cluster = Cluster::new("topic", 1);
    let producer = Producer::new(&cluster.brokers(), "topic");
    for (dir, from, to, records) in [(&one, 0, 100, 100), (&other, 100, 150, 50), (&one, 150, 160, 110)] {
        producer.produce(0, from, to);
        let process = start(&cluster, dir, Stdio::null(), &["--mode", "at-least-once"]);
        wait_for(dir, records);
        stop(process, libc::SIGTERM);
    }
    // Exactly once would have written down that another log has what lies between.
    let reading = Reading::of(&one);
    assert_eq!((reading.records, reading.next[&0], &reading.handed_over[..]), (110, 160, &[][..]));
}

#[test]
fn what_was_retained_long_enough_is_cleaned_away() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 1);
    let producer = Producer::new(&cluster.brokers(), "topic");
    let told = NamedTempFile::new().unwrap();
    let process = start(&cluster, temp.path(), told.reopen().unwrap(), &["--json", "--retain", "1s"]);
    producer.produce(0, 0, 100);
    wait_for(temp.path(), 100);
    // Segments of a tenth of what is retained, but not less than a second.
    thread::sleep(Duration::from_millis(1100));
    producer.produce(0, 100, 200);
    let cleaned = wait_for_event(&told, "cleaned");
    let log = Options::new().open_read_only(temp.path()).unwrap();
    let (first, begins) = (log.read(..).unwrap().next().unwrap().unwrap().lsn, cleaned["first"].as_u64().unwrap());
    assert!(begins > 0 && first.0 >= begins, "{first}: {cleaned}");
    drop(log);
    stop(process, libc::SIGTERM);
    let told = events(&told);
    let expected = ["opened", "recovered", "assigned", "stored", "checkpoint", "cleaned", "stopping", "stopped"];
    let names: BTreeSet<_> = told.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(names.is_superset(&BTreeSet::from(expected)), "{told:?}");
    let stopped = told.last().unwrap();
    assert_eq!(stopped["recorded"], 200);
    stand_in_the_help(&told);
    // As the help says of `stored`.
    let names = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let stored = names(told.iter().find(|event| event["event"] == "stored").unwrap());
    let differ: Vec<_> = names(stopped).symmetric_difference(&stored).cloned().collect();
    assert_eq!(differ, ["all_committed", "all_durable", "bytes_per_second", "records_per_second"]);
    let help = String::from_utf8(run(&["receive", "--help"]).stdout).unwrap();
    assert!(help.contains("as in stopped without all_durable and all_committed,"), "{help}");
}

#[test]
fn no_more_is_taken_on_disk_than_is_allowed() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 1);
    // Before the first that fits into no segment: it may be read before the log is full.
    Producer::new(&cluster.brokers(), "topic").produce(0, 0, 900);
    let options = ["--json", "--segment-size", "64KiB", "--max-disk-bytes", "256KiB"];
    let told = NamedTempFile::new().unwrap();
    let mut process = start(&cluster, temp.path(), told.reopen().unwrap(), &options);
    wait_for_event(&told, "full");
    stand_in_the_help(&events(&told));
    let sizes = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() <= 256 << 10);
    assert!((1..900).contains(&Reading::of(temp.path()).records));
    process.kill().unwrap();
    process.wait().unwrap();
}

/// It waited the whole time that a stop may take for room that nobody could make, and what it said of it was for programmers.
#[test]
fn a_stop_at_the_bound_does_not_wait_for_room_and_says_what_makes_some() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 1);
    Producer::new(&cluster.brokers(), "topic").produce(0, 0, 900);
    let told = NamedTempFile::new().unwrap();
    let bounded = ["--json", "--segment-size", "64KiB", "--max-disk-bytes", "256KiB"];
    let process = start(&cluster, temp.path(), told.reopen().unwrap(), &bounded);
    wait_for_event(&told, "full");
    let asked = Instant::now();
    crate::signal(&process, libc::SIGTERM);
    let output = ended(process);
    let took = asked.elapsed();
    assert_eq!(output.status.code(), Some(1));
    assert!(took < Duration::from_secs(15), "{took:?}");
    for told in
        ["could not be stored, for the log is full. Nothing is lost: what the log lacks is not committed", "next "]
    {
        assert!(said(&output).contains(told), "{}", said(&output));
    }
    let stopped = wait_for_event(&told, "stopped");
    let at = |name: &str| stopped["partitions"][0][name].as_i64().unwrap();
    assert!(at("committed") == at("durable") && at("durable") < at("next"), "{stopped}");
    let process = start(&cluster, temp.path(), Stdio::null(), &["--segment-size", "64KiB"]);
    wait_for(temp.path(), 900);
    stop(process, libc::SIGTERM);
    assert_eq!(Reading::of(temp.path()).records, 900);
}

/// One whose log is damaged, under a name that would clear the screen of whoever is told of it.
#[test]
fn what_ended_it_is_told_in_lines_and_names_do_not_write_to_a_terminal_what_they_like() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log\u{1b}[2J\nnext");
    drop(crate::log(&dir, 100));
    crate::flip(&crate::first_segment(&dir), 4300);
    for options in [&[][..], &["--json"]] {
        let arguments = ["receive", "--brokers", "127.0.0.1:1", "--group", "g", "--topic", "t", "--dir", text(&dir)];
        let output = run(&[&arguments, options].concat());
        assert_eq!(output.status.code(), Some(2));
        let told = said(&output);
        let labels: Vec<_> = told.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(labels, ["error:", "where", "found", "context", "lost", "touched", "next"], "{told}");
        assert!(
            told.contains(r"log\u{1b}[2J\nnext") && !told.contains(|c: char| c.is_control() && c != '\n'),
            "{told:?}"
        );
    }
}

#[test]
fn what_a_newer_receiver_wrote_has_its_own_exit_code() {
    let cluster = Cluster::new("topic", 1);
    let temp = tempfile::tempdir().unwrap();
    let wal = Options::new().open(temp.path()).unwrap();
    wal.append(&[0xB5, b'S', b'W', b'B', 9, 1, 0, 0]).unwrap().wait().unwrap();
    wal.close().unwrap();
    let output = ended(start(&cluster, temp.path(), Stdio::null(), &[]));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(said(&output).contains("Receive with the version that wrote it"), "{output:?}");
}

#[test]
fn a_topic_that_the_broker_does_not_allow_ends_it() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 1);
    cluster.mock().topic_error("topic", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION).unwrap();
    let output = ended(start(&cluster, temp.path(), Stdio::piped(), &[]));
    assert_eq!(output.status.code(), Some(1));
    let told = said(&output);
    assert!(told.starts_with("error: ") && told.contains("correct it (--topic) (TOPIC_EXCEPTION)"), "{told}");
    assert_eq!(told.lines().skip(1).collect::<Vec<_>>(), ["  touched  nothing that was stored"], "{told}");
}

#[test]
fn an_answer_that_does_not_tell_of_the_topic_is_not_called_none() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 1);
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.mock().topic_error("topic", refused).unwrap();
    let told = NamedTempFile::new().unwrap();
    let process = start_with(&cluster, temp.path(), Stdio::null(), told.reopen().unwrap(), &[]);
    let mut text = String::new();
    until("it warns", || {
        text = fs::read_to_string(told.path()).unwrap();
        text.ends_with('\n')
    });
    assert!(text.starts_with("warning: no word on the topic from 127.0.0.1:"), "{text}");
    assert!(text.contains("TOPIC_AUTHORIZATION_FAILED") && text.lines().count() == 1, "{text}");
    stop(process, libc::SIGTERM);
}

/// A member of the group, and what it was assigned.
fn member(cluster: &Cluster) -> (KafkaSource, Vec<Partition>) {
    let member = KafkaConfig::new(cluster.brokers(), "group").topic("topic");
    let member = member.set("session.timeout.ms", "2000").unwrap().set("heartbeat.interval.ms", "200").unwrap();
    let mut member = member.connect().unwrap();
    let mut ours = Vec::new();
    until("a member is in the group", || {
        if let Some(Event::Assigned(partitions)) = member.poll(Duration::from_millis(100)) {
            ours = partitions;
        }
        !ours.is_empty()
    });
    (member, ours)
}

/// As `kafka-consumer-groups --reset-offsets` does, in a group without members.
fn set_offset(cluster: &Cluster, next: i64) {
    let (mut member, mut partitions) = member(cluster);
    let partition = partitions.pop().unwrap();
    member.assign(&[(partition.clone(), next)]).unwrap();
    member.commit_sync(&[Commit { partition, next, metadata: String::new() }], BOUND).unwrap();
    member.close(BOUND);
}

/// It was a member while it looked for its topics, and did not poll: the others could not commit meanwhile, and nobody read
/// what fell to it. Whoever starts it again and again did that again and again.
#[test]
fn a_mistyped_topic_disturbs_no_member_of_the_group() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 2).without("missing");
    let (mut member, ours) = member(&cluster);
    member.assign(&ours.into_iter().map(|partition| (partition, 0)).collect::<Vec<_>>()).unwrap();
    let mut process = start(&cluster, temp.path(), Stdio::piped(), &["--topic", "missing"]);
    while process.try_wait().unwrap().is_none() {
        let event = member.poll(Duration::from_millis(100));
        assert!(!matches!(event, Some(Event::Revoked { .. })), "{event:?}");
    }
    let output = ended(process);
    assert!(said(&output).contains("there is no topic missing"), "{}", said(&output));
    member.close(BOUND);
}

/// It left an empty log behind, and so did whoever stopped it while it looked.
#[test]
fn a_mistyped_topic_leaves_no_log_behind() {
    let temp = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("topic", 1).without("missing");
    let dirs = ["ended", "stopped", "there"].map(|name| temp.path().join(name));
    fs::create_dir(&dirs[2]).unwrap();
    let [by_itself, stopped, in_dir] =
        dirs.each_ref().map(|dir| start(&cluster, dir, Stdio::piped(), &["--topic", "missing"]));
    thread::sleep(Duration::from_secs(1));
    let told = String::from_utf8(stop(stopped, libc::SIGINT).stdout).unwrap();
    assert!(told.contains(" stopped       0 records recorded"), "{told}");
    for process in [by_itself, in_dir] {
        let output = ended(process);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("there is no topic missing"), "{}", said(&output));
    }
    let left = dirs.each_ref().map(|dir| fs::read_dir(dir).map_or(-1, |files| files.count() as i32));
    assert_eq!(left, [-1, -1, 0], "what was not there is not, and what was holds nothing");
}

#[test]
fn a_record_that_cannot_be_recorded_ends_it_until_the_group_is_set_behind_it_as_it_says() {
    // At least once, each start reads again what could not be committed.
    let exactly = ("exactly-once", 100, "offsets 100 to 101 are in no log known");
    for (mode, records, told) in [exactly, ("at-least-once", 200, "from the group")] {
        let temp = tempfile::tempdir().unwrap();
        let cluster = Cluster::new("topic", 1);
        let producer = Producer::new(&cluster.brokers(), "topic");
        producer.produce(0, 0, 100);
        let mut cut = made(0, 100);
        cut.headers = vec![(b"a\0b".to_vec(), None)];
        producer.send_record(0, 100, &cut);
        producer.produce(0, 101, 150);
        for _ in 0..2 {
            let output = ended(start(&cluster, temp.path(), Stdio::piped(), &["--mode", mode]));
            assert_eq!(output.status.code(), Some(1));
            let said = said(&output);
            assert!(said.starts_with("error: topic/0 at 100: the name of a header contains a zero byte"), "{said}");
            assert!(said.contains("--group group --topic topic:0 --reset-offsets --to-offset 101 --execute"), "{said}");
        }
        assert_eq!(Reading::of(temp.path()).records, records);
        set_offset(&cluster, 101);
        let process = start(&cluster, temp.path(), Stdio::piped(), &["--mode", mode]);
        wait_for(temp.path(), records + 49);
        let output = stop(process, libc::SIGTERM);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("topic/0@101") && said.contains(told), "{said}");
        assert_eq!(Reading::of(temp.path()).next[&0], 150);
    }
}
