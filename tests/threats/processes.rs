//! Rows 22 and 23: other processes, as writers and as readers.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use seawall::{ErrorKind, Lsn, ReadOnly};

use crate::common::{CAPACITY, fill, filled, kind, payload, payloads, small};
use crate::spec;

const DIRECTORY: &str = "SEAWALL_THREATS_DIRECTORY";
/// How many threads append.
const THREADS: &str = "SEAWALL_THREATS_THREADS";

/// What a second process does: opens the log for writing, says so, and appends until it is killed.
fn write_until_killed(directory: &Path) {
    let threads = std::env::var(THREADS).map_or(1, |threads| threads.parse().unwrap());
    let wal = small().open(directory).unwrap();
    println!("\nopened");
    let next = AtomicU32::new(wal.recovery().records as u32);
    let append = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let lsn = wal.append(&payload(n, 700)).unwrap().wait().unwrap();
            println!("\nacknowledged {n} {lsn}");
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(append)));
}

/// The second process, to be started: the first test of these, told by its environment to be one.
fn second(directory: &Path) -> Command {
    let test = "processes::row_22_a_second_writer_is_refused_and_free_at_once_after_a_kill";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(DIRECTORY, directory);
    command
}

/// A second process that has the log open, and what it says.
struct Second {
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Second {
    fn start(directory: &Path) -> Second {
        Second::run(&mut second(directory))
    }

    fn run(command: &mut Command) -> Second {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut second = Second { child, says };
        second.hear("opened");
        second
    }

    /// Waits until it says a line that begins so, and gives the rest.
    fn hear(&mut self, begin: &str) -> String {
        let mut lines = self.says.by_ref().map(Result::unwrap);
        let heard = lines.find_map(|line| line.strip_prefix(begin).map(str::to_owned));
        heard.expect("the second process ended")
    }

    fn acknowledged(&mut self) -> u32 {
        let heard = self.hear("acknowledged ");
        heard.split(' ').next().unwrap().parse().unwrap()
    }

    /// SIGKILL. Tells the last record that it said was acknowledged, if it said so of any.
    fn kill(mut self) -> Option<u32> {
        self.child.kill().unwrap();
        let mut last = None;
        for line in self.says.by_ref().map_while(Result::ok) {
            let number = line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' ')?.0.parse().ok());
            last = number.or(last);
        }
        self.child.wait().unwrap();
        last
    }
}

#[test]
fn row_22_a_second_writer_is_refused_and_free_at_once_after_a_kill() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return write_until_killed(directory.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    for life in 0..10 {
        let mut second = Second::start(dir.path());
        let mut acked = 0;
        for _ in 0..20 {
            acked = second.acknowledged();
        }
        // Here, and in a third process, which dies of it before it can say that it has opened.
        assert_eq!(kind(small().open(dir.path())), ErrorKind::Locked);
        let acked = second.kill().unwrap_or(acked);
        let wal = small().open(dir.path()).unwrap_or_else(|e| panic!("life {life}: {e}"));
        let shown = payloads(&wal);
        assert!(shown.len() as u32 > acked, "life {life}: {} of {acked}", shown.len());
        assert_eq!(shown, filled(0..shown.len() as u32, 700), "life {life}");
        wal.close().unwrap();
    }
}

#[test]
fn row_22_a_process_is_refused_while_this_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    fill(&wal, 0..10, 700);
    let output = second(dir.path()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("has another writer"), "{said}");
    assert_eq!(payloads(&wal), filled(0..10, 700));
}

#[test]
fn row_22_the_lock_holds_although_the_files_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let second = Second::start(dir.path());
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        // The writer makes and trims files meanwhile; what is gone is gone.
        _ = std::fs::remove_file(entry.unwrap().path());
    }
    assert_eq!(kind(small().open(dir.path())), ErrorKind::Locked);
    _ = second.kill();
    // The lock is the directory's own and needs no file; whatever is left is judged, not waited for.
    if let Err(e) = small().open(dir.path()) {
        assert!(matches!(e.kind(), ErrorKind::Damage(_)), "{e}");
    }
}

/// Opens a view beside a writer and reads it through: a run of records without a gap. Tells where it ends.
fn look(view: &ReadOnly, length: usize) -> Option<u32> {
    let mut next = None;
    for record in view.read(..).unwrap() {
        match record {
            Ok(record) => {
                let n = spec::u32_at(&record.payload, 0);
                assert_eq!(record.payload, payload(n, length), "LSN {}", record.lsn);
                assert!(next.is_none_or(|next| next == n), "a gap before {n}");
                next = Some(n + 1);
            }
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::Removed { .. }), "{e}");
                return None;
            }
        }
    }
    Some(next.unwrap_or(0))
}

#[test]
fn row_23_a_reader_beside_a_writer_that_rotates_cleans_and_recycles() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    fill(&wal, 0..1, 1000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut looks, mut overtaken, mut before) = (0, 0, 0);
                    while !done.load(Ordering::Relaxed) {
                        let view = small().open_read_only(dir.path()).unwrap();
                        looks += 1;
                        match look(&view, 1000) {
                            Some(end) => {
                                assert!(end >= before, "went back from {before} to {end}");
                                before = end;
                            }
                            None => overtaken += 1,
                        }
                    }
                    (looks, overtaken)
                })
            })
            .collect();
        for n in 1..3000 {
            let lsn = wal.append(&payload(n, 1000)).unwrap().wait().unwrap();
            if n % 20 == 0 {
                wal.clean_before_lsn(Lsn(lsn.0.saturating_sub(2 * CAPACITY))).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let (looks, overtaken) = reader.join().unwrap();
            println!("{looks} looks, overtaken in {overtaken}");
            assert!(looks > 5);
        }
    });
    // Idle: all of it, at once.
    assert_eq!(look(&small().open_read_only(dir.path()).unwrap(), 1000), Some(3000));
}

#[test]
fn row_23_a_reader_that_is_overtaken_is_told_where_the_log_begins_now() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let lsns = fill(&wal, 0..40, 2500);
    let view = small().open_read_only(dir.path()).unwrap();
    let mut reading = view.read(..).unwrap();
    assert_eq!(reading.next().unwrap().unwrap().lsn, lsns[0]);
    // The files under it are recycled, and hold other records now.
    for round in 1..5 {
        wal.clean_before_lsn(Lsn::MAX).unwrap();
        fill(&wal, 40 * round..40 * round + 40, 2500);
    }
    let mut told = None;
    for record in reading {
        match record {
            Ok(record) => assert_eq!(record.payload, payload(spec::u32_at(&record.payload, 0), 2500)),
            Err(e) => told = Some(e),
        }
    }
    let told = told.expect("the reader was overtaken and not told");
    assert!(matches!(told.kind(), ErrorKind::Removed { .. }), "{told}");
    for lsn in &lsns {
        match view.get(*lsn) {
            Ok(record) => assert_eq!(record.lsn, *lsn),
            Err(e) => assert!(matches!(e.kind(), ErrorKind::Removed { .. }), "{e}"),
        }
    }
}

#[test]
fn row_23_a_reader_beside_another_process_and_after_its_kill_sees_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut second = Second::start(dir.path());
    let mut acked = 0;
    for _ in 0..40 {
        for _ in 0..10 {
            acked = second.acknowledged();
        }
        // MARK says it before anybody is told.
        let seen = look(&small().open_read_only(dir.path()).unwrap(), 700).unwrap();
        assert!(seen >= acked, "{seen} shown, {acked} acknowledged before");
    }
    let acked = second.kill().unwrap_or(acked);
    let before: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let seen = look(&small().open_read_only(dir.path()).unwrap(), 700).unwrap();
    assert!(seen >= acked, "{seen} shown, {acked} acknowledged");
    let after: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after, "a reader changes nothing");
}

/// The frames of the round under way, which say how far the log is durable, may never be written: MARK said it before.
#[test]
fn row_23_after_a_kill_among_many_threads_a_reader_sees_what_was_acknowledged() {
    for kill in 0..15 {
        let dir = tempfile::tempdir().unwrap();
        let mut second = Second::run(second(dir.path()).env(THREADS, "8"));
        let number = |line: &str| line.strip_prefix("acknowledged ")?.split_once(' ')?.1.parse().ok().map(Lsn);
        let lines = second.says.by_ref().map(Result::unwrap);
        let mut acked: Vec<Lsn> = lines.filter_map(|line| number(&line)).take(100 + 30 * kill).collect();
        second.child.kill().unwrap();
        acked.extend(second.says.by_ref().map_while(Result::ok).filter_map(|line| number(&line)));
        second.child.wait().unwrap();
        let view = small().open_read_only(dir.path()).unwrap();
        let hidden: Vec<_> = acked.into_iter().filter(|lsn| view.get(*lsn).is_err()).collect();
        assert!(hidden.is_empty(), "kill {kill}: acknowledged and not shown: {hidden:?}");
    }
}
