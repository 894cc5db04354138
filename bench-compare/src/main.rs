//! `seawall` beside other engines and a floor by hand: the same records, threads and time, durable on return.
//!
//! Engines run in turns, in short slices of one run: a shared disk's speed changes many times over within minutes, so
//! only neighbours compare anything. Each is a process of its own, whose syncs are counted where they leave it.

mod child;
mod engines;
mod payload;
mod report;
mod system;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use engines::{FLOOR, Peer};
use report::{Row, Slice};

/// What everything here fails with.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const HELP: &str = "\
bench-compare [OPTIONS]

  --dir DIR       work in a new directory in DIR, on the disk that is to be measured (default: target)
  --record BYTES  bytes of a record, 16 or more (default 1024)
  --threads LIST  numbers of threads that append at once (default 1,8,64)
  --seconds S     how long each engine appends for each number of threads (default 3)
  --engines LIST  only these, beside the floor
  --help          this

Exit code 1 if an engine's records were not read back as it acknowledged them, or anything failed.
";

struct Args {
    dir: PathBuf,
    record: usize,
    threads: Vec<usize>,
    seconds: f64,
    peers: Vec<&'static Peer>,
}

impl Args {
    /// Reads the arguments; `None` if help was asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Args>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let mut args = Args { dir, record: 1024, threads: vec![1, 8, 64], seconds: 3.0, peers: engines::usual() };
        while let Some(argument) = arguments.next() {
            if argument == "--help" {
                return Ok(None);
            }
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a value; see --help"))?;
            match argument.as_str() {
                "--dir" => args.dir = value.into(),
                "--record" => args.record = value.parse()?,
                "--threads" => args.threads = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--seconds" => args.seconds = value.parse()?,
                "--engines" => {
                    let named = value.split(',').filter(|name| *name != FLOOR).map(engines::peer);
                    args.peers = std::iter::once(engines::peer(FLOOR)).chain(named).collect::<Result<_>>()?;
                }
                _ => return Err(format!("unknown argument {argument:?}; see --help").into()),
            }
        }
        let sizes = (payload::HEAD..=64 << 20).contains(&args.record);
        let threads = args.threads.iter().all(|threads| (1..=1024).contains(threads));
        let seconds = args.seconds > 0.0 && args.seconds <= 3600.0;
        if !(sizes && threads && seconds) {
            return Err("a record has 16 bytes to 64 MiB, threads are 1 to 1024, seconds more than 0".into());
        }
        Ok(Some(args))
    }
}

/// A directory of the run's own, removed when it is dropped.
struct RunDir(PathBuf);

impl RunDir {
    fn new(parent: &Path) -> Result<RunDir> {
        std::fs::create_dir_all(parent)?;
        if system::in_memory(parent)? {
            let place = parent.display();
            return Err(format!("{place} is in memory, where a sync costs nothing: name one on a disk by --dir").into());
        }
        let path = parent.join(format!("bench-compare-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(RunDir(path))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

/// An engine's process.
struct Running {
    peer: &'static Peer,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    slices: Vec<Slice>,
}

impl Running {
    fn start(peer: &'static Peer, dir: &Path, record: usize, threads: usize) -> Result<Running> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--child").arg(peer.name).arg(dir.join(peer.name)).args([record, threads].map(|n| n.to_string()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (to, from) = child.stdin.take().zip(child.stdout.take()).ok_or("no pipes")?;
        let mut running = Running { peer, child, to, from: BufReader::new(from), slices: Vec::new() };
        running.answer()?;
        Ok(running)
    }

    fn ask(&mut self, what: &str) -> Result<String> {
        writeln!(self.to, "{what}")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("{} ended before it answered: {}", self.peer.name, self.child.wait()?).into());
        }
        Ok(line.trim().to_owned())
    }

    fn slice(&mut self) -> Result<Slice> {
        let answer = self.ask("slice")?;
        let numbers: Vec<u64> = answer.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [records, nanos, syncs] = numbers[..] else { return Err(format!("{answer:?} is no slice").into()) };
        Ok(Slice { records, seconds: nanos as f64 / 1e9, syncs })
    }

    /// Has everything read back, and ends.
    fn finish(mut self) -> Result<Row> {
        let answer = self.ask("check")?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("{}: {status}", self.peer.name).into());
        }
        let same = answer.strip_prefix("same ").and_then(|records| records.parse().ok());
        let read_back = same.ok_or(answer);
        Ok(Row { name: self.peer.name, version: version(self.peer.package), slices: self.slices, read_back })
    }
}

/// The version of a crate that this was built with.
fn version(package: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \"")).unwrap_or_default();
    after.split('"').next().unwrap_or_default().to_owned()
}

/// All engines with one number of threads, in turns, in another order each round: what a slice leaves to the disk
/// meets each of the others. A first round warms up.
fn compare(args: &Args, dir: &Path, threads: usize) -> Result<Vec<Row>> {
    let start = |peer: &&'static Peer| Running::start(peer, dir, args.record, threads);
    let mut all = args.peers.iter().map(start).collect::<Result<Vec<_>>>()?;
    // What they wrote ahead is not written back while another is measured.
    system::settle(dir)?;
    let rounds = (args.seconds / child::SLICE.as_secs_f64()).ceil() as usize;
    let mut noise = payload::noise();
    let mut turns: Vec<usize> = (0..all.len()).collect();
    for round in 0..=rounds {
        turns.sort_by_cached_key(|_| noise.next());
        for &turn in &turns {
            let slice = all[turn].slice()?;
            if round > 0 {
                all[turn].slices.push(slice);
            }
        }
    }
    all.into_iter().map(Running::finish).collect()
}

fn run(args: &Args) -> Result<bool> {
    let run = RunDir::new(&args.dir)?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{} on {cores} cores; records of {} bytes, slices of {:?}\n", run.0.display(), args.record, child::SLICE);
    let mut right = true;
    for &threads in &args.threads {
        let dir = run.0.join(format!("threads-{threads}"));
        std::fs::create_dir(&dir)?;
        let rows = compare(args, &dir, threads)?;
        print!("threads: {threads}; {}", report::tables(&rows, threads));
        right &= rows.iter().all(|row| row.read_back.is_ok());
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(right)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child", name, dir, record, threads] => engines::peer(name).and_then(|peer| {
            child::serve(peer, Path::new(dir), record.parse()?, threads.parse()?)?;
            Ok(true)
        }),
        _ => Args::parse(arguments.into_iter()).and_then(|args| match args {
            Some(args) => run(&args),
            None => {
                print!("{HELP}");
                Ok(true)
            }
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
