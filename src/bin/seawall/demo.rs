//! `seawall demo`: a receiver is killed again and again, and the log holds each record once.

mod cluster;
mod proof;
mod receiver;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit;
use crate::out::{self, Out, count};
use crate::target::log_around;
use crate::units::{self, bytes};
use cluster::{Cluster, Production};
use proof::Proof;
use receiver::Child;

/// Records that are produced.
const RECORDS: u64 = 30_000;
/// How often the receiver is killed.
const KILLS: u64 = 5;
/// It is killed once it has one more of these shares; one further is produced until then, and one after the last kill.
const SHARE: u64 = RECORDS / (KILLS + 2);
/// Nothing takes longer than this, or something is wrong.
const BOUND: Duration = Duration::from_secs(60);

/// Kill a receiver again and again, and see that its log holds each record once; needs no broker
///
/// Starts librdkafka's mock cluster in this process, produces records, receives them in a child process that is
/// killed with SIGKILL while records are still coming, and checks the log against what was produced. Takes about
/// 25 seconds, writes about 10 MB to the directory for temporary files and removes them, when it is interrupted too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Keep the log here, in a directory that is empty or not there yet
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The time in which all records are produced, if no receiver is slower
    #[arg(long, hide = true, value_parser = units::duration, default_value = "18s")]
    pace: Duration,
}

const EXAMPLES: &str = "Examples:
  seawall demo
  seawall demo --dir /tmp/demo && seawall dump /tmp/demo | less

Exit codes: 0 each record is in the log once, 1 it is not, or nothing was proved.";

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("waiting for signals")?;
    }
    let place = Place::new(arguments.dir.as_deref())?;
    match play(&place, arguments.pace, &interrupted, out) {
        // Whatever the error: a signal from a terminal reaches the receiver too.
        Err(_) if interrupted.load(Ordering::Relaxed) => bail!("interrupted before anything was proved"),
        done => done?,
    }
    if let Some(dir) = &arguments.dir {
        let dir = dir.display();
        out.line(format_args!("The log is still there: seawall dump {dir}, seawall verify {dir}"))?;
    }
    Ok(exit::CLEAN)
}

fn play(place: &Place, pace: Duration, interrupted: &AtomicBool, out: &mut Out) -> anyhow::Result<()> {
    let begun = Instant::now();
    let cluster = Cluster::start()?;
    let stage = Stage { bar: bar(), dir: place.path().to_owned(), brokers: cluster.brokers(), begun, interrupted };
    stage.say(
        out,
        &format!(
            "{} records go through a mock Kafka cluster of {} partitions, at {} a second.",
            count(RECORDS),
            cluster::PARTITIONS,
            count(RECORDS / pace.as_secs().max(1))
        ),
    )?;
    stage.say(
        out,
        &format!("A receiver writes them to a log in {}. It will be killed {KILLS} times.", place.path().display()),
    )?;
    let production = Production::begin(&cluster, RECORDS, pace)?;
    let mut proof = Proof::default();
    for kill in 1..=KILLS {
        stage.receive_and_kill(kill, &mut proof, &production, out)?;
    }
    production.allow(RECORDS);
    let mut child = Child::start(&stage.dir, &stage.brokers, KILLS)?;
    stage.wait(&mut child, &mut proof, RECORDS)?;
    let produced = production.finish()?;
    child.stop(BOUND)?;
    // What counts is what a reader finds who knows nothing of the above.
    let mut proof = Proof::default();
    proof.read(&stage.dir)?;
    stage.bar.finish_and_clear();
    proof.check(RECORDS)?;
    out.line("")?;
    out.line(format_args!(
        "  produced   {} records, {}, all acknowledged by the cluster",
        count(RECORDS),
        bytes(produced)
    ))?;
    out.line(format_args!("  killed     the receiver {KILLS} times with SIGKILL; each time it went on by itself"))?;
    out.line(format_args!(
        "  in the log {} records: none missing, none twice, every byte as produced",
        count(proof.records())
    ))?;
    out.line("")?;
    out.line(format_args!("Passed in {:.0} s.", begun.elapsed().as_secs_f64()))
}

/// What every act needs.
struct Stage<'a> {
    bar: ProgressBar,
    dir: PathBuf,
    brokers: String,
    begun: Instant,
    interrupted: &'a AtomicBool,
}

impl Stage<'_> {
    /// Receives until a good part more is in the log, then kills the receiver while records are still coming.
    fn receive_and_kill(
        &self,
        kill: u64,
        proof: &mut Proof,
        production: &Production,
        out: &mut Out,
    ) -> anyhow::Result<()> {
        let before = proof.records();
        // However slow receivers are to begin, there is something new for each, and some is still to come at its kill.
        production.allow((kill + 1) * SHARE);
        let mut child = Child::start(&self.dir, &self.brokers, kill - 1)?;
        self.wait(&mut child, proof, (kill * SHARE).max(before + 1))?;
        child.kill()?;
        let stored = proof.records();
        self.say(
            out,
            &format!(
                "killed the receiver, {kill} of {KILLS}: {} records are durable, {} of them new, more are coming",
                count(stored),
                count(stored - before),
            ),
        )
    }

    /// Waits until the log durably holds `records`.
    fn wait(&self, child: &mut Child, proof: &mut Proof, records: u64) -> anyhow::Result<()> {
        while proof.records() < records {
            ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
            child.check()?;
            if self.begun.elapsed() > BOUND {
                let how = format!("has only {} of {RECORDS} records after {} s", proof.records(), BOUND.as_secs());
                bail!(child.ended(&how)?);
            }
            std::thread::sleep(Duration::from_millis(50));
            proof.read(&self.dir)?;
            self.bar.set_position(proof.records());
        }
        Ok(())
    }

    fn say(&self, out: &mut Out, text: &str) -> anyhow::Result<()> {
        self.bar.suspend(|| out.line(text).and_then(|()| out.flush()))
    }
}

fn bar() -> ProgressBar {
    if !out::has_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(RECORDS);
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} records durable  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Where the log is; removed at the end if nobody asked for it.
struct Place {
    dir: PathBuf,
    keep: bool,
}

impl Place {
    fn new(asked: Option<&Path>) -> anyhow::Result<Place> {
        if let Some(dir) = asked {
            let is_empty = match std::fs::read_dir(dir) {
                Ok(mut entries) => entries.next().is_none(),
                Err(e) if e.kind() == ErrorKind::NotFound => true,
                Err(e) => return Err(e).with_context(|| format!("{} cannot hold the log", dir.display())),
            };
            ensure!(is_empty, "{} is not empty: the demonstration begins with an empty log", dir.display());
            ensure!(log_around(dir).is_none(), "{} lies in a log's directory: name one elsewhere", dir.display());
            return Ok(Place { dir: dir.to_owned(), keep: true });
        }
        let dir = std::env::temp_dir().join(format!("seawall-demo-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Place { dir, keep: false })
    }

    fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
