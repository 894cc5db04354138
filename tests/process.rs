//! Processes that are killed, and processes beside each other, on real files.
//!
//! This binary runs itself as a child, in the test `child`, which does nothing without its environment variables.
//! `SEAWALL_KILLS` sets how often each test kills (default 100).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use seawall::{Durability, ErrorKind, Kind, Lsn, Options, Wal};

/// How long anything may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(60);
const THREADS: u32 = 4;

/// Which record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    life: u32,
    thread: u32,
    n: u32,
}

fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (n ^ (n >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

/// The only payload that the record can have.
fn payload(id: Id) -> Vec<u8> {
    let words = [id.life, id.thread, id.n];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let seed = mix(u64::from(id.life) << 40 | u64::from(id.thread) << 32 | u64::from(id.n));
    bytes.extend((0..seed % 500).map(|at| mix(seed + at) as u8));
    bytes
}

fn id(bytes: &[u8]) -> Id {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    Id { life: word(0), thread: word(4), n: word(8) }
}

/// Segments from which on a process appends slowly.
const MANY: u64 = 300;

fn options(durability: Durability) -> Options {
    Options::new().segment_size(32 << 10).durability(durability)
}

/// One line to the parent; the end of this process if the parent is gone.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(format!("\n@{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

// The child.

#[test]
fn child() {
    let Ok(role) = std::env::var("SEAWALL_CHILD") else { return };
    let dir = std::env::var("SEAWALL_CHILD_DIR").unwrap();
    let life = std::env::var("SEAWALL_CHILD_LIFE").unwrap().parse().unwrap();
    let os = std::env::var("SEAWALL_CHILD_OS").unwrap() == "1";
    let options = options(if os { Durability::Os } else { Durability::Disk });
    match role.as_str() {
        "append" => append(&options.open(&dir).unwrap(), life, u32::MAX, false),
        "clean" => append(&options.open(&dir).unwrap(), life, u32::MAX, true),
        "some" => {
            append(&options.open(&dir).unwrap(), life, 50, false);
            say("idle");
            until_parent_ends();
        }
        "open" => {
            let wal = options.open(&dir);
            say(&format!("opened {:?}", wal.as_ref().map(|_| ()).map_err(|e| e.kind().clone())));
            until_parent_ends();
        }
        role => panic!("{role}"),
    }
}

fn until_parent_ends() {
    _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Appends from several threads, lone records and batches of three, and says what is acknowledged.
fn append(wal: &Wal, life: u32, count: u32, cleaning: bool) {
    say("open");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut n = 0;
                while n < count {
                    if wal.stats().segments > MANY {
                        // Each takes an open file, and a fast disk would come to the limit of those.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    let batch = if n % 7 == 4 { 3 } else { 1 };
                    let payloads: Vec<_> = (n..n + batch).map(|n| payload(Id { life, thread, n })).collect();
                    let lsn = match batch {
                        1 => wal.append(&payloads[0]).unwrap().wait().unwrap(),
                        _ => wal.append_batch(&payloads).unwrap().wait().unwrap(),
                    };
                    n += batch;
                    say(&format!("ack {lsn} {thread} {}", n - 1));
                    if thread == 0 && n % 256 == 0 {
                        wal.sync().unwrap();
                    }
                    if cleaning && n % 16 == 0 {
                        let limit = Lsn(lsn.0.saturating_sub(64 << 10));
                        say(&format!("cleaning {limit}"));
                        wal.clean_before_lsn(limit).unwrap();
                        if thread == 0 {
                            wal.rotate().unwrap();
                        }
                    }
                }
            });
        }
    });
}

// The parent.

#[derive(Debug, PartialEq)]
enum Said {
    Open,
    Ack(Lsn, Id),
    /// Records below may be gone.
    Cleaning(Lsn),
    Idle,
    Opened(String),
}

fn parse(line: &str, life: u32) -> Option<Said> {
    let mut words = line.strip_prefix('@')?.split(' ');
    let number = |words: &mut std::str::Split<'_, char>| words.next().unwrap().parse().unwrap();
    Some(match words.next()? {
        "open" => Said::Open,
        "ack" => {
            let lsn = Lsn(number(&mut words));
            let (thread, n) = (number(&mut words) as u32, number(&mut words) as u32);
            Said::Ack(lsn, Id { life, thread, n })
        }
        "cleaning" => Said::Cleaning(Lsn(number(&mut words))),
        "idle" => Said::Idle,
        "opened" => Said::Opened(line["@opened ".len()..].to_owned()),
        word => panic!("{word}"),
    })
}

/// A child, killed when dropped.
struct Process {
    child: Child,
    said: Receiver<Said>,
    /// Closed at its death, for which a child may wait.
    _stdin: Option<ChildStdin>,
}

impl Process {
    fn start(role: &str, dir: &Path, life: u32, durability: Durability) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("SEAWALL_CHILD", role)
            .env("SEAWALL_CHILD_DIR", dir)
            .env("SEAWALL_CHILD_LIFE", life.to_string())
            .env("SEAWALL_CHILD_OS", if durability == Durability::Os { "1" } else { "0" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, said) = channel();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut line = String::new();
            // The last line may have been cut by the kill: what has no end was not said.
            while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
                if let Some(said) = parse(line.trim_end(), life) {
                    _ = sender.send(said);
                }
                line.clear();
            }
        });
        let stdin = child.stdin.take();
        Process { child, said, _stdin: stdin }
    }

    fn next(&self) -> Said {
        self.said.recv_timeout(PATIENCE).unwrap()
    }

    /// SIGKILL; then what it had still said.
    fn kill(&mut self) -> Vec<Said> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said.iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Everything that was ever acknowledged or shown, and must stay.
#[derive(Default)]
struct Known {
    records: BTreeMap<Lsn, Id>,
    /// Records below may have been cleaned.
    limit: Lsn,
    highest: Lsn,
}

impl Known {
    fn note(&mut self, lsn: Lsn, id: Id) {
        let before = self.records.insert(lsn, id);
        assert!(before.is_none_or(|before| before == id), "LSN {lsn} was {before:?} and is {id:?}");
    }

    fn hear(&mut self, said: impl IntoIterator<Item = Said>) -> usize {
        let mut acknowledged = 0;
        for said in said {
            match said {
                Said::Ack(lsn, id) => {
                    assert!(lsn > self.highest, "LSN {lsn} was handed out twice, {} was shown", self.highest);
                    self.note(lsn, id);
                    acknowledged += 1;
                }
                Said::Cleaning(limit) => self.limit = self.limit.max(limit),
                _ => {}
            }
        }
        acknowledged
    }

    /// All that is known is there, nothing is wrong, nothing is there in part.
    fn check(&mut self, wal: &Wal) {
        let mut next: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        let mut last = Lsn::ZERO;
        for record in wal.read(..).unwrap() {
            let record = record.unwrap();
            assert!(record.lsn > last && record.kind == Kind::Record);
            last = record.lsn;
            let id = id(&record.payload);
            assert_eq!(record.payload, payload(id), "{id:?} at LSN {last}");
            let inside = id.n % 7 == 4 || id.n % 7 == 5;
            assert_eq!(record.ends_batch, !inside, "{id:?}");
            let next = next.entry((id.life, id.thread)).or_insert(if self.limit > Lsn::ZERO { id.n } else { 0 });
            assert_eq!(*next, id.n, "a record before {id:?} is gone");
            *next = id.n + 1;
            self.note(record.lsn, id);
            seen.insert(record.lsn, id);
        }
        assert!(next.values().all(|next| !matches!(next % 7, 5 | 6)), "a batch is there in part");
        for (lsn, id) in self.records.range(self.limit..) {
            assert_eq!(seen.get(lsn), Some(id), "{id:?} at LSN {lsn} is gone, it was acknowledged or shown");
        }
        let first = wal.recovery().first;
        self.records.retain(|lsn, _| *lsn >= first);
        self.highest = last;
    }
}

fn kills() -> u32 {
    std::env::var("SEAWALL_KILLS").map_or(100, |kills| kills.parse().unwrap())
}

/// Kills a writer again and again, each time after new appends were acknowledged.
fn kill_again_and_again(role: &str, durability: Durability) {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let (mut life, mut killed, mut acknowledged) = (0, 0, 0);
    while killed < kills() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = Known::default();
        for _ in 0..25.min(kills() - killed) {
            life += 1;
            let chance = mix(seed + u64::from(life));
            if chance.is_multiple_of(4) {
                // One more death, somewhere in opening or soon after.
                let mut early = Process::start(role, dir.path(), life, durability);
                std::thread::sleep(Duration::from_micros(chance >> 8 & 0x3fff));
                known.hear(early.kill());
                life += 1;
            }
            let mut process = Process::start(role, dir.path(), life, durability);
            assert_eq!(process.next(), Said::Open);
            let wanted = 1 + (chance >> 32) as usize % 40;
            let mut heard = 0;
            while heard < wanted {
                heard += known.hear([process.next()]);
            }
            assert_eq!(*options(durability).open(dir.path()).unwrap_err().kind(), ErrorKind::Locked);
            std::thread::sleep(Duration::from_micros(chance >> 16 & 0xfff));
            heard += known.hear(process.kill());
            killed += 1;
            acknowledged += heard;
            // Free at once.
            let wal = options(durability).open(dir.path()).unwrap();
            known.check(&wal);
            if chance & 0xf0 == 0 {
                wal.close().unwrap();
            }
        }
    }
    println!("{role} {durability:?}: {killed} kills, {acknowledged} acknowledged appends");
}

#[test]
fn killed_while_appending_durable_on_disk() {
    kill_again_and_again("append", Durability::Disk);
}

#[test]
fn killed_while_appending_durable_in_the_system() {
    kill_again_and_again("append", Durability::Os);
}

#[test]
fn killed_while_rotating_and_cleaning() {
    kill_again_and_again("clean", Durability::Disk);
    kill_again_and_again("clean", Durability::Os);
}

#[test]
fn of_two_writers_in_two_processes_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Process::start("open", dir.path(), 0, Durability::Disk);
    assert_eq!(first.next(), Said::Opened("Ok(())".to_owned()));
    let second = Process::start("open", dir.path(), 0, Durability::Disk);
    assert_eq!(second.next(), Said::Opened("Err(Locked)".to_owned()));
    // Nothing in the directory is the lock.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(*Wal::open(dir.path()).unwrap_err().kind(), ErrorKind::Locked);
    first.kill();
    Wal::open(dir.path()).unwrap();
}

#[test]
fn closing_lets_the_lock_go_although_a_process_is_just_being_started() {
    let dir = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Command::new("/bin/true").status().unwrap();
            }
        });
        let opened: Result<Vec<()>, _> = (0..3000).map(|_| Wal::open(dir.path())?.close()).collect();
        done.store(true, Ordering::Relaxed);
        opened.unwrap();
    });
}

/// What a reader in this process sees of a log that another process writes, above what it has seen: the records,
/// each checked, and how far it sees.
fn view(dir: &Path, records: &mut BTreeMap<Lsn, Id>, removed: &mut u32) -> Option<Lsn> {
    let view = match Options::new().open_read_only(dir) {
        Ok(view) => view,
        Err(e) if *e.kind() == ErrorKind::NotFound => return None,
        Err(e) => panic!("{e:?}"),
    };
    let from = records.last_key_value().map_or(Lsn::ZERO, |(lsn, _)| *lsn);
    let read = view.read(from..).or_else(|e| {
        assert!(matches!(e.kind(), ErrorKind::Removed { .. }), "{e:?}");
        view.read(..)
    });
    for record in read.unwrap() {
        let record = match record {
            Ok(record) => record,
            Err(e) if matches!(e.kind(), ErrorKind::Removed { .. }) => {
                *removed += 1;
                break;
            }
            Err(e) => panic!("{e:?}"),
        };
        let id = id(&record.payload);
        assert_eq!(record.payload, payload(id));
        let before = records.insert(record.lsn, id);
        assert!(before.is_none_or(|before| before == id), "LSN {} was {before:?} and is {id:?}", record.lsn);
    }
    Some(view.durable_lsn())
}

#[test]
fn a_reader_beside_a_writer_in_another_process() {
    for (durability, role) in [
        (Durability::Disk, "append"),
        (Durability::Os, "append"),
        (Durability::Disk, "clean"),
        (Durability::Os, "clean"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::start(role, dir.path(), 1, durability);
        assert_eq!(process.next(), Said::Open);
        let (mut records, mut removed, mut last) = (BTreeMap::new(), 0, Lsn::ZERO);
        let mut acknowledged = BTreeMap::new();
        let began = Instant::now();
        for _ in 0..200 {
            for said in std::iter::once(process.next()).chain(process.said.try_iter()) {
                if let Said::Ack(lsn, id) = said {
                    acknowledged.insert(lsn, id);
                }
            }
            let shown = view(dir.path(), &mut records, &mut removed).unwrap_or_default();
            assert!(shown >= last, "{last} was shown, now {shown}");
            last = shown;
        }
        // Under load the view follows, too.
        while acknowledged.keys().next().is_some_and(|lsn| last <= *lsn) {
            assert!(began.elapsed() < PATIENCE, "{last}");
            last = view(dir.path(), &mut records, &mut removed).unwrap_or_default();
        }
        for said in process.kill() {
            if let Said::Ack(lsn, id) = said {
                acknowledged.insert(lsn, id);
            }
        }
        let shown = view(dir.path(), &mut records, &mut removed).unwrap();
        assert!(shown >= last, "{last} was shown, after the writer's death {shown}");
        for (lsn, id) in &acknowledged {
            assert!(records.get(lsn).is_none_or(|seen| seen == id), "LSN {lsn}");
        }
        println!("{role} {durability:?}: {} records seen, overtaken {removed} times", records.len());
        assert!(!records.is_empty());
    }
}

#[test]
fn a_reader_beside_an_idle_writer_sees_all_that_is_durable() {
    for durability in [Durability::Disk, Durability::Os] {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::start("some", dir.path(), 1, durability);
        let mut acknowledged = BTreeMap::new();
        loop {
            match process.next() {
                Said::Ack(lsn, id) => _ = acknowledged.insert(lsn, id),
                Said::Idle => break,
                _ => {}
            }
        }
        assert!(acknowledged.len() >= 100);
        let mut records = BTreeMap::new();
        let began = Instant::now();
        // The writer says so in MARK after it told those who waited.
        while !acknowledged.keys().all(|lsn| records.contains_key(lsn)) {
            assert!(began.elapsed() < PATIENCE, "{} of {}", records.len(), acknowledged.len());
            view(dir.path(), &mut records, &mut 0);
        }
        process.kill();
        let mut after = BTreeMap::new();
        view(dir.path(), &mut after, &mut 0);
        assert_eq!(after, records);
    }
}

/// Follows a log from another process until it has seen the record `last`, over whatever becomes of the writer.
fn follow(dir: &Path, shown: &Mutex<BTreeMap<Lsn, Id>>, last: &Mutex<Option<Lsn>>) -> u32 {
    let view = Options::new().open_read_only(dir).unwrap();
    let (mut follower, mut removed) = (view.follow(Lsn::ZERO), 0);
    let mut next: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut passes = true;
    loop {
        let record = match follower.next_timeout(Duration::from_millis(20)) {
            Ok(Some(record)) => record,
            Ok(None) => match *last.lock().unwrap() {
                Some(last) if follower.position() > last => return removed,
                _ => continue,
            },
            Err(e) => {
                let ErrorKind::Removed { lsn, first } = *e.kind() else { panic!("{e:?}") };
                assert!(lsn < first, "{e}");
                removed += 1;
                (follower, passes) = (view.follow(first), true);
                continue;
            }
        };
        let id = id(&record.payload);
        assert_eq!(record.payload, payload(id));
        // Of what was lost in a kill nothing was shown, so that each thread of a life goes up by one.
        let expected = next.entry((id.life, id.thread)).or_insert(id.n);
        assert!(*expected == id.n || passes && *expected < id.n, "{id:?} where {expected} was to follow");
        *expected = id.n + 1;
        if passes {
            passes = false;
            next = BTreeMap::from([((id.life, id.thread), id.n + 1)]);
        }
        let before = shown.lock().unwrap().insert(record.lsn, id);
        assert!(before.is_none_or(|before| before == id), "LSN {} was {before:?} and is {id:?}", record.lsn);
    }
}

#[test]
fn followers_in_another_process_outlive_the_writers() {
    for (role, lives) in [("append", kills() / 5), ("clean", kills() / 5)] {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Process::start("some", dir.path(), 0, Durability::Disk);
        while first.next() != Said::Idle {}
        first.kill();
        let (shown, last) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
        std::thread::scope(|scope| {
            let followers: Vec<_> = (0..3).map(|_| scope.spawn(|| follow(dir.path(), &shown, &last))).collect();
            let mut known = Known::default();
            for life in 1..=lives {
                let mut process = Process::start(role, dir.path(), life, Durability::Disk);
                assert_eq!(process.next(), Said::Open);
                let mut heard = 0;
                while heard < 60 {
                    heard += known.hear([process.next()]);
                }
                known.hear(process.kill());
                // Of the last commits the writer may not have come to say that they were.
                let acknowledged = known.records.keys().rev().nth(4 * THREADS as usize).copied().unwrap_or_default();
                let began = Instant::now();
                while shown.lock().unwrap().last_key_value().is_none_or(|(lsn, _)| *lsn < acknowledged) {
                    assert!(began.elapsed() < PATIENCE, "{acknowledged} was acknowledged and is not shown");
                    std::thread::sleep(Duration::from_millis(1));
                }
                let wal = options(Durability::Disk).open(dir.path()).unwrap();
                let first = wal.recovery().first;
                let seen: Vec<_> = shown.lock().unwrap().range(first..).map(|(lsn, id)| (*lsn, *id)).collect();
                for (lsn, id) in seen {
                    known.note(lsn, id);
                }
                known.check(&wal);
                if life == lives {
                    let lsn = wal.append(&payload(Id { life: life + 1, thread: 0, n: 0 })).unwrap().wait().unwrap();
                    *last.lock().unwrap() = Some(lsn);
                }
            }
            let removed: u32 = followers.into_iter().map(|follower| follower.join().unwrap()).sum();
            println!(
                "{role}: {} records shown to three followers over {lives} kills, overtaken {removed} times",
                shown.lock().unwrap().len()
            );
        });
    }
}
