//! The examples, run as what they are: processes that are asked, killed and started again.
//!
//! `cargo test` builds them; for this test alone, `cargo build --examples` does.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]
#![allow(clippy::print_stdout)]

#[path = "common/random.rs"]
#[allow(dead_code, reason = "other tests draw more")]
mod random;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use random::Random;
use seawall::{ErrorKind, Lsn, Options, RecoveryMode, Wal};

/// How long anything may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(60);

/// The built example: beside the folder in which this test lies.
fn example(name: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    Command::new(path)
}

/// A directory on the disk that the tests are built on.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Bytes that the files of a directory take.
fn disk_bytes(dir: &Path) -> u64 {
    // What is cleaned away meanwhile takes none.
    std::fs::read_dir(dir).unwrap().filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

/// An example that runs, killed when it is dropped.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (sender, said) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            // What has no end was not said: the process was killed before. Spaces at a line's end are part of it.
            while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
                _ = sender.send(line.trim_end_matches('\n').to_owned());
                line.clear();
            }
        });
        let stdin = child.stdin.take();
        Running { child, stdin, said }
    }

    fn ask(&mut self, lines: &str) {
        self.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    }

    fn next(&self) -> String {
        self.said.recv_timeout(PATIENCE).unwrap()
    }

    /// SIGKILL; then what it had still said.
    fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said.iter().collect()
    }

    /// Closes its standard input and waits for its end.
    fn end(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.status()
    }

    /// Waits for its end.
    fn status(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None if begun.elapsed() > PATIENCE => panic!("it does not end"),
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Another each time; a test that fails says which it was.
fn seed() -> u64 {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    seed
}

// The key-value store.

type Map = BTreeMap<String, String>;

/// Changes a store, and the map that it should be.
fn change(random: &mut Random, n: u32, map: &mut Map) -> String {
    let key = format!("key{}", random.below(20));
    if random.below(8) == 0 {
        map.remove(&key);
        return format!("delete {key}\n");
    }
    // Now and then nothing stands behind the space.
    let length = random.below(10) * random.below(1_200);
    let value = format!("{n} {}", "v".repeat(length as usize));
    let line = format!("put {key} {value}\n");
    map.insert(key, value);
    line
}

fn list(store: &mut Running) -> Map {
    store.ask("list\n");
    let lines = std::iter::from_fn(|| Some(store.next()).filter(|line| line != "ok"));
    lines.map(|line| line.split_once(' ').map(|(key, value)| (key.into(), value.into())).unwrap()).collect()
}

#[test]
fn kv_keeps_each_answered_change_over_kills_and_its_disk_use_flat() {
    const CHANGES: u32 = 250;
    let dir = directory();
    let mut random = Random::new(seed());
    let (mut map, mut n, mut written, mut life) = (Map::new(), 0, 0, 0);
    // Far more than may be on the disk.
    while written < 16 << 20 {
        life += 1;
        let mut store = Running::start(example("kv").arg(dir.path()));
        assert_eq!(list(&mut store), map, "life {life}");
        // Before each change.
        let mut states = vec![];
        let mut changes = vec![];
        for _ in 0..CHANGES {
            n += 1;
            states.push(map.clone());
            changes.push(change(&mut random, n, &mut map));
        }
        states.push(map.clone());
        let asked = changes.concat();
        let mut stdin = store.stdin.take().unwrap();
        // The store may be killed before it has read all.
        let asking = thread::spawn(move || _ = stdin.write_all(asked.as_bytes()));
        let wanted = random.below(u64::from(CHANGES) + 1);
        let mut answers: Vec<String> = (0..wanted).map(|_| store.next()).collect();
        answers.extend(store.kill());
        asking.join().unwrap();
        assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
        written += changes[..answers.len()].iter().map(|change| change.len() as u64).sum::<u64>();
        let disk = disk_bytes(dir.path());
        println!("life {life}: {} answers, {disk} bytes on disk of {written} written", answers.len());
        assert!(disk <= 8 << 20, "{disk} bytes on disk");
        // The changes survive that were answered, and perhaps some that were not: the first so many, whatever is there.
        let mut store = Running::start(example("kv").arg(dir.path()));
        map = list(&mut store);
        let survived = states[answers.len()..].contains(&map);
        assert!(survived, "life {life}: {} answers, and the state is that after none of these or more", answers.len());
        assert!(store.end().success());
    }
}

#[test]
fn kv_too_large_for_a_checkpoint_goes_on_and_seldom_tries() {
    let dir = directory();
    let errors = std::fs::File::create_new(dir.path().join("errors")).unwrap();
    let log = dir.path().join("log");
    let mut store = Running::start(example("kv").arg(&log).stderr(errors));
    store.ask(&format!("put big {}\n", "x".repeat(2 << 20)));
    assert!(store.next().starts_with("too large"));
    for n in 0..800 {
        store.ask(&format!("put key-{n} {}\n", "x".repeat(4000)));
        assert_eq!(store.next(), "ok");
    }
    assert!(store.end().success());
    let errors = std::fs::read_to_string(dir.path().join("errors")).unwrap();
    let tries = errors.lines().filter(|line| line.starts_with("no checkpoint")).count();
    // After 1, 2 and 4 MiB at most.
    assert!((1..=3).contains(&tries), "{errors}");
    let mut store = Running::start(example("kv").arg(&log));
    store.ask("get big\nget key-799\n");
    assert_eq!((store.next(), store.next().len()), ("none".into(), 4006));
}

/// It would show the changes since as if they were all.
#[test]
fn kv_without_the_checkpoint_of_what_was_cleaned_refuses() {
    let dir = directory();
    let wal = Options::new().segment_size(1 << 20).open(dir.path()).unwrap();
    wal.append(b"cleaned").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    let lengths = [3u64, 2].map(u64::to_le_bytes).concat();
    wal.append(&[&lengths[..], b"keyv"].concat()).unwrap().wait().unwrap();
    assert_eq!(wal.clean_before_lsn(Lsn::MAX).unwrap().removed.len(), 1);
    wal.close().unwrap();
    let out = example("kv").arg(dir.path()).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && errors.contains("the checkpoint that held it is lost"), "{errors}");
}

// The service.

/// A client's connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(BufReader::new(stream))
    }

    /// Status, head and body of the answer; `None` if the service was killed.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, String, String)> {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            self.0.read_line(&mut head).ok().filter(|read| *read > 0)?;
        }
        let head = head.to_lowercase();
        let length = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some((head.split(' ').nth(1)?.parse().ok()?, head, String::from_utf8(body).unwrap()))
    }

    /// Posts an event, again while the next segment is being made; gives status, head and body.
    fn post(&mut self, event: &str) -> Option<(u16, String, String)> {
        let begun = Instant::now();
        loop {
            let answer = self.ask("POST", "/events", event)?;
            if answer.0 != 429 || !answer.2.contains("not ready") {
                return Some(answer);
            }
            assert!(begun.elapsed() < PATIENCE, "{}", answer.2);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn service(dir: &Path, mib: &str) -> (Running, String) {
    let running = Running::start(example("ingest").arg(dir).args(["127.0.0.1:0", mib]));
    let address = std::iter::from_fn(|| Some(running.next()))
        .find_map(|line| line.strip_prefix("listening on ").map(ToOwned::to_owned));
    (running, address.unwrap())
}

/// Posts from many connections at once, until each has done `each` or the service is gone; gives what was answered.
fn post_from_many(address: &str, clients: usize, each: usize) -> Vec<(Lsn, String)> {
    thread::scope(|scope| {
        let one = |client: usize| {
            let mut connection = Client::new(address);
            let mut answered = Vec::new();
            for n in 0..each {
                let event = format!("event {client}/{n}");
                let Some((status, _, body)) = connection.post(&event) else { break };
                assert_eq!(status, 201, "{body}");
                answered.push((Lsn(body.parse().unwrap()), event));
            }
            answered
        };
        let all: Vec<_> = (0..clients).map(|client| scope.spawn(move || one(client))).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    })
}

fn all_there(wal: &Wal, answered: &[(Lsn, String)]) {
    for (lsn, event) in answered {
        assert_eq!(wal.get(*lsn).unwrap().payload, event.as_bytes(), "LSN {lsn}");
    }
}

#[test]
fn ingest_shares_syncs_among_requests_and_stops_in_order() {
    let dir = directory();
    let (mut running, address) = service(dir.path(), "64");
    let mut client = Client::new(&address);
    assert_eq!(client.ask("GET", "/ready", "").unwrap().0, 200);
    let answered = post_from_many(&address, 32, 40);
    assert_eq!(answered.len(), 32 * 40);
    let (_, _, stats) = client.ask("GET", "/stats", "").unwrap();
    println!("{stats}");
    let numbers: Vec<u64> = stats.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers[0], 32 * 40);
    assert!(numbers[1] < numbers[0] / 2, "the requests do not share syncs: {stats}");

    // Idle connections do not keep it from stopping.
    assert!(Command::new("kill").arg(running.child.id().to_string()).status().unwrap().success());
    assert!(running.status().success());
    assert_eq!(running.said.iter().last().as_deref(), Some("closed"));
    // Strict: nothing is there that was not synced.
    let wal = Options::new().recovery_mode(RecoveryMode::Strict).open(dir.path()).unwrap();
    all_there(&wal, &answered);
}

/// One of them kept it from ever stopping.
#[test]
fn ingest_stops_beside_a_client_that_does_not_read_its_answers() {
    let dir = directory();
    let (mut running, address) = service(dir.path(), "64");
    let mut client = Client::new(&address);
    let stream = client.0.get_mut();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    // Until it answers no more, and so reads no more.
    let requests = "GET /ready HTTP/1.1\r\n\r\n".repeat(1000);
    while stream.write_all(requests.as_bytes()).is_ok() {}
    assert!(Command::new("kill").arg(running.child.id().to_string()).status().unwrap().success());
    assert!(running.status().success());
    drop(client);
}

/// The first request of all was answered with 429, and `/ready` had said that events were taken.
#[test]
fn ingest_takes_an_event_as_soon_as_it_says_that_it_is_ready() {
    for _ in 0..10 {
        let dir = directory();
        let (_running, address) = service(dir.path(), "64");
        let mut client = Client::new(&address);
        let begun = Instant::now();
        while client.ask("GET", "/ready", "").unwrap().0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "it does not become ready");
        }
        let (status, _, body) = client.ask("POST", "/events", "hello").unwrap();
        assert_eq!(status, 201, "{body}");
    }
}

#[test]
fn ingest_keeps_each_answered_event_over_a_kill() {
    let dir = directory();
    let (mut running, address) = service(dir.path(), "64");
    let answered = thread::scope(|scope| {
        let posting = scope.spawn(|| post_from_many(&address, 8, 1_000_000));
        let mut client = Client::new(&address);
        // Into the middle of it.
        while !posting.is_finished() && client.ask("GET", "/stats", "").unwrap().2.find(' ') < Some("1000".len()) {}
        running.kill();
        posting.join().unwrap()
    });
    println!("{} events answered", answered.len());
    assert!(answered.len() > 900);
    all_there(&Wal::open(dir.path()).unwrap(), &answered);
}

#[test]
fn ingest_answers_429_while_the_log_is_full_and_goes_on_once_it_was_cleaned() {
    let dir = directory();
    let (_running, address) = service(dir.path(), "5");
    let mut client = Client::new(&address);
    let event = "e".repeat(100_000);
    let mut last = None;
    let (status, head, body) = loop {
        let answer = client.post(&event).unwrap();
        if answer.0 != 201 {
            break answer;
        }
        last = Some(answer.2);
    };
    assert_eq!(status, 429, "{body}");
    assert!(head.contains("retry-after: 1"), "{head}");
    assert_eq!(client.ask("GET", "/ready", "").unwrap().0, 503);
    assert!(disk_bytes(dir.path()) <= 5 << 20);
    let (status, _, body) = client.ask("DELETE", &format!("/events/{}", last.unwrap()), "").unwrap();
    assert_eq!(status, 200, "{body}");
    let begun = Instant::now();
    while client.ask("POST", "/events", &event).unwrap().0 != 201 {
        assert!(begun.elapsed() < PATIENCE, "it does not go on");
    }
    assert_eq!(client.ask("POST", "/events", &"e".repeat(1 << 20)).unwrap().0, 413);
    assert_eq!(client.ask("GET", "/ready", "").unwrap().0, 200);
}

// The replica.

/// The two processes, where their files are, and what the writer has answered.
struct Pair {
    dir: tempfile::TempDir,
    writer: Option<Running>,
    replica: Option<Running>,
    /// Lines are numbered; a number is used once, answered or not.
    next: u64,
    answered: Vec<u64>,
}

impl Pair {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the writer, started if there is none, append lines; it is killed when `answers` of them are answered.
    fn write(&mut self, lines: u64, answers: u64) {
        let (log, socket) = (self.path("log"), self.path("socket"));
        let start = || Running::start(example("replica").arg("write").arg(log).arg(socket));
        let mut writer = self.writer.take().unwrap_or_else(start);
        let numbers = self.next..self.next + lines;
        self.next = numbers.end;
        let asked: String = numbers.clone().map(|n| format!("{n} {}\n", "x".repeat(n as usize * 37 % 2000))).collect();
        let mut stdin = writer.stdin.take().unwrap();
        let asking = thread::spawn(move || stdin.write_all(asked.as_bytes()).map(|()| stdin).ok());
        let mut heard: Vec<String> = (0..answers).map(|_| writer.next()).collect();
        if answers < lines {
            heard.extend(writer.kill());
        }
        self.answered.extend(numbers.take(heard.len()));
        writer.stdin = asking.join().unwrap();
        self.writer = Some(writer).filter(|_| answers == lines);
    }

    fn follow(&mut self) {
        let [log, socket, copy] = ["log", "socket", "copy"].map(|name| self.path(name));
        self.replica = Some(Running::start(example("replica").arg("follow").arg(log).arg(socket).arg(copy)));
    }

    /// Reads the copy up to line `to`. Each line that was answered is there, and none twice.
    fn check(&self, to: u64) {
        let id = Options::new().open_read_only(self.path("log")).unwrap().log_id();
        let copy = self.path("copy").join(format!("{:032x}", u128::from_le_bytes(id)));
        let begun = Instant::now();
        let copy = loop {
            match Options::new().open_read_only(&copy) {
                Err(e) if *e.kind() == ErrorKind::NotFound && begun.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(2));
                }
                opened => break opened.unwrap(),
            }
        };
        let mut follower = copy.follow(Lsn::ZERO);
        let (mut missing, mut last) = (self.answered.iter().copied().filter(|n| *n <= to).peekable(), None);
        while missing.peek().is_some() {
            let record = follower.next_timeout(PATIENCE).unwrap();
            let record = record.unwrap_or_else(|| panic!("the replica stays behind"));
            let line = std::str::from_utf8(&record.payload).unwrap();
            let (n, rest) = line.split_once(' ').unwrap();
            let n: u64 = n.parse().unwrap();
            assert_eq!(rest.len(), n as usize * 37 % 2000);
            assert!(last < Some(n), "line {n} after {last:?}");
            last = Some(n);
            let due = missing.next_if(|due| *due <= n);
            assert!(due.is_none() || due == last, "line {due:?} was answered, and after it comes {last:?}");
        }
    }
}

#[test]
fn replica_misses_nothing_and_doubles_nothing_whoever_is_killed() {
    let mut random = Random::new(seed());
    let mut pair = Pair { dir: directory(), writer: None, replica: None, next: 0, answered: Vec::new() };
    for round in 0..20 {
        if pair.replica.is_none() || random.below(2) == 0 {
            // Killed in the middle of what it does, or begun by one that was.
            drop(pair.replica.take());
            if random.below(3) > 0 {
                pair.follow();
            }
        }
        let lines = 50 + random.below(150);
        let answers = if random.below(2) == 0 { lines } else { random.below(lines) };
        pair.write(lines, answers);
        println!("round {round}: {answers} of {lines}, replica: {}", pair.replica.is_some());
    }
    // The writer alone: the log grows by whatever the replica has not got.
    drop(pair.replica.take());
    pair.write(1000, 1000);
    let grown = disk_bytes(&pair.path("log"));
    let lines: u64 = (pair.next - 1000..pair.next).map(|n| n * 37 % 2000).sum();
    assert!(grown >= lines, "{grown} bytes for lines of {lines}: what the replica has not got is gone");
    // Killed while it catches up: what it has got by then is cleaned away, and nothing more.
    for step in 1..5 {
        pair.follow();
        pair.check(pair.next - 1000 + step * 100);
        drop(pair.replica.take());
    }
    // The replica alone, and then both, until almost nothing is left.
    drop(pair.writer.take());
    pair.follow();
    pair.check(pair.next);
    let begun = Instant::now();
    while disk_bytes(&pair.path("log")) > 6 * (64 << 10) {
        assert!(begun.elapsed() < PATIENCE, "{} bytes: nothing is cleaned", disk_bytes(&pair.path("log")));
        pair.write(1, 1);
    }
    pair.check(pair.next);
    println!("{} lines, {} of them answered", pair.next, pair.answered.len());
    // A copy that is lost is not begun anew with a hole.
    drop(pair.replica.take());
    std::fs::remove_dir_all(pair.path("copy")).unwrap();
    pair.follow();
    assert!(!pair.replica.take().unwrap().status().success(), "it goes on without what was cleaned away");
    assert!(pair.writer.take().unwrap().end().success());
}

// The storage.

#[test]
fn storage_counts_what_reaches_the_disk() {
    let dir = directory();
    let output = example("storage").arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}");
    let counts = |line: &str| -> Vec<u64> {
        let counted = line.split_once(": ").unwrap().1;
        counted.split([' ', ',']).filter_map(|word| word.parse().ok()).collect()
    };
    let counts: Vec<Vec<u64>> = said.lines().map(counts).collect();
    let [_, each, shared] = &counts[..] else { panic!("{said}") };
    // A write of the record and one of MARK each; 24 bytes of a frame and the record.
    assert!(each[0] >= 300 && each[1] >= 300 * 32 && (300..310).contains(&each[2]), "{said}");
    assert!(shared[0] < 30 && shared[1] >= 300 * 32 && (3..10).contains(&shared[2]), "{said}");
    assert_eq!(Wal::open(dir.path()).unwrap().read(..).unwrap().count(), 601);
}

/// What is crashed in memory ends by itself, and says what it found.
#[cfg(feature = "sim")]
#[test]
fn what_is_crashed_in_memory_tells_what_it_found() {
    for (name, found) in [
        ("crash_app", "198 are left of 200"),
        ("crash_engine", "that loses the name log: 0 records, 1 were acknowledged"),
    ] {
        let output = example(name).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{name}: {told}{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains(found), "{name}: {told}");
        let states = told.lines().filter_map(|line| line.strip_suffix(" crash states, no promise broken"));
        let mut states = states.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        assert!(states.all(|states| states > 100), "{name}: {told}");
    }
}
