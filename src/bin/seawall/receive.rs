//! `seawall receive`: records a Kafka group's topics in a log until it is told to stop.

mod help;
mod lines;
mod report;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use seawall::receiver::{Config, KafkaConfig, KafkaSource, Mode, Receiver, Reset, Source, Status, closes_abandoned};
use seawall::{ErrorKind, Options, Wal};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit;
use crate::failure::{self, About};
use crate::units;
use lines::Lines;
use report::Report;

/// How long topics are looked for before one counts as missing: one that was just made is not known everywhere.
const TOPIC_PATIENCE: Duration = Duration::from_secs(10);

/// Record topics in a log; offsets are committed only when their records are durable
///
/// Runs until SIGTERM or SIGINT: then everything read is made durable and committed, and the exit code is 0. That
/// takes as long as the disk and the broker take, but no more than 30 s until it is given up, and some 45 s more to
/// leave the group and close the log. What is not committed in time is named, and the exit code is 1: the log has it,
/// and a later start commits it. A log that is full and not cleaned (--retain) is not waited for, and the exit code is 1 too:
/// what it did not take is not committed, and a later start reads it again. A second signal changes nothing.
///
/// An output that nobody reads, or that cannot be written, neither ends it nor holds it up. Lines that find no room
/// because nobody has read those before are dropped, and how many is told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Brokers to begin with
    #[arg(long, value_name = "HOST:PORT[,..]", value_parser = brokers)]
    brokers: String,
    /// The group to be a member of
    #[arg(long, value_name = "G", value_parser = name)]
    group: String,
    /// A topic to receive; may be given several times
    #[arg(long = "topic", value_name = "T", required = true, value_parser = name)]
    topics: Vec<String>,
    /// The log's directory, made if it is missing, once the topics were looked for. The log is this receiver's alone
    #[arg(long)]
    dir: PathBuf,
    /// What holds after a crash
    #[arg(long, value_enum, default_value_t = ModeName::ExactlyOnce)]
    mode: ModeName,
    /// A block is made durable this long after its first record
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = units::duration)]
    block_interval: Duration,
    /// Size of the log's segments, 16KiB to 1GiB
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::size)]
    segment_size: u64,
    /// Take no further segment beyond this on disk, at least four segments: intake pauses until there is room. An offset
    /// table that lets the log be cleaned may take one more
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    max_disk_bytes: Option<u64>,
    /// Remove segments all of whose records were received longer ago than this; the newest stays until more is received
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    retain: Option<Duration>,
    /// Where to begin where neither the log nor the group knows an offset. A new partition of a topic begins at its first:
    /// one above another of which the log or the group has read
    #[arg(long, value_enum, default_value_t = ResetName::Earliest)]
    on_reset: ResetName,
    /// A setting of librdkafka
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Tell what happens as one JSON object a line
    #[arg(long, long_help = help::JSON)]
    json: bool,
    /// Stop as by SIGTERM when standard input ends
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

const EXAMPLES: &str = "Examples:
  seawall receive --brokers k1:9092,k2:9092 --group billing --topic orders --dir /var/lib/billing
  seawall receive --brokers k1:9092 --group billing --topic orders --topic refunds --dir /var/lib/billing \\
      --max-disk-bytes 20GiB --retain 7d
  seawall receive --brokers k1:9092 --group audit --topic orders --dir audit --on-reset latest \\
      -X session.timeout.ms=30000 -X client.rack=a --json

Exactly once (the default) means: after any crash each record is in this log once, for reading goes on where the log
ends. Only where the group's offset was set beyond that, by another log or by somebody, reading goes on there, and what
is passed over is recorded and told. At least once: reading goes on where the group is, so several logs may share the
work of a group. After a crash none is lost, but a log that was rolled back or lost is not refused there, and what it
lacks below the group's offset is not read again.

Exit codes: 0 stopped in order, 1 usage, or what else ended it, 2 the log is damaged, 4 it is locked by another writer,
5 written by a newer version.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    /// After a crash no record is lost and none is twice in the log
    ExactlyOnce,
    /// After a crash no record is lost, some may be twice
    AtLeastOnce,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ResetName {
    /// At the first offset that is left
    Earliest,
    /// At the end
    Latest,
    /// Nowhere: it is an error
    Error,
}

fn brokers(text: &str) -> Result<String, String> {
    let port = |broker: &str| broker.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let is_address = |broker: &str| !broker.contains(char::is_whitespace) && port(broker).is_some_and(|port| port > 0);
    match text.split(',').map(str::trim).find(|broker| !is_address(broker)) {
        None => Ok(text.to_owned()),
        Some(broker) => Err(format!("{broker:?} is no address of a broker: HOST:PORT is wanted")),
    }
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a name is not empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a setting is KEY=VALUE, such as session.timeout.ms=30000".to_owned()),
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    receive(arguments).or_else(|error| {
        let about = arguments.about();
        // Said as everything is: it must not take more than a moment to end.
        let Ok(mut last) = Lines::new(report::warning) else { return Err(error) };
        failure::text(&error, Some(about)).lines().for_each(|line| last.put(line.to_owned(), |_| String::new()));
        if arguments.json {
            report::failed(failure::object(&error, about));
        }
        last.finish();
        Ok(exit::code(&error))
    })
}

fn receive(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("waiting for signals")?;
    }
    if arguments.stop_with_stdin {
        let stop = Arc::clone(&stop);
        thread::Builder::new().name("seawall-stdin".into()).spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            stop.store(true, Ordering::Relaxed);
        })?;
    }
    let kafka = arguments.kafka()?;
    // The group is joined once the receiver polls: not before its topics and its log are known.
    let mut source = kafka.connect()?;
    let mut report = Report::new(arguments.json)?;
    let mut wal = arguments.open_if_there()?;
    wal.iter().for_each(|wal| report.opened(wal));
    let deadline = Instant::now() + TOPIC_PATIENCE;
    for topic in &arguments.topics {
        look_for(&mut source, topic, &arguments.brokers, deadline, &stop, &mut report)?;
    }
    // One is made only now: a mistyped topic leaves none.
    if wal.is_none() && !stop.load(Ordering::Relaxed) {
        wal = Some(arguments.open(true)?);
        wal.iter().for_each(|wal| report.opened(wal));
    }
    let Some(wal) = wal.map(Arc::new) else {
        report.stopped(&Status::default(), Ok(()));
        return Ok(exit::CLEAN);
    };
    let receiver = Receiver::new(wal, source, arguments.config(kafka.session_timeout()))?;
    report.recovered(receiver.recovered());
    let receiver = receiver.observe(report.observer());
    let status = receiver.status();
    let flag = Arc::clone(&stop);
    let running = thread::Builder::new().name("seawall-poll".into()).spawn(move || receiver.run(&flag))?;
    while !running.is_finished() {
        report.turn(&status);
    }
    let done = running.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
    report.turn(&status);
    if closes_abandoned() > 0 {
        report.warn("the Kafka client did not leave the group in time; the group waits for its session to time out");
    }
    report.stopped(&status.snapshot(), done.as_ref().map(|_| ()));
    done?;
    Ok(exit::CLEAN)
}

/// Makes sure that a topic is there, or says what is not. Without a broker it is not known: that is told, and
/// receiving begins when one answers.
fn look_for(
    source: &mut KafkaSource,
    topic: &str,
    brokers: &str,
    deadline: Instant,
    stop: &AtomicBool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut missing = false;
    let answer = loop {
        let answer = match source.topic_id(topic, Duration::from_secs(2)) {
            Ok(Some(_)) => return Ok(()),
            // However often it is asked.
            Err(error) if error.fatal => return Err(error.into()),
            answer => answer,
        };
        // A broker that is too busy to answer once more has said before what there is.
        let answer = if missing { Ok(None) } else { answer };
        missing = answer.is_ok();
        if Instant::now() >= deadline || stop.load(Ordering::Relaxed) {
            break answer;
        }
        thread::sleep(Duration::from_millis(100));
    };
    match answer {
        _ if stop.load(Ordering::Relaxed) => Ok(()),
        Ok(_) => bail!("there is no topic {topic} at {brokers}: create it, or correct --topic"),
        Err(error) => {
            // The client's own codes begin so; any other is a broker's, which has answered.
            let said = if error.code.starts_with('_') { "no answer from" } else { "no word on the topic from" };
            report.warn(&format!("{said} {brokers} yet, going on trying: {error}"));
            Ok(())
        }
    }
}

impl Arguments {
    pub fn about(&self) -> About<'_> {
        const STORED: &str = "nothing that was stored";
        About { touched: STORED, done: STORED, ..About::reading(&self.dir, self.json) }
    }

    fn kafka(&self) -> anyhow::Result<KafkaConfig> {
        let mut kafka = KafkaConfig::new(&self.brokers, &self.group);
        let mut topics = BTreeSet::new();
        for topic in &self.topics {
            ensure!(topics.insert(topic), "--topic {topic} is given twice");
            kafka = kafka.topic(topic);
        }
        for (key, value) in &self.settings {
            kafka = kafka.set(key, value).with_context(|| format!("-X {key}={value}"))?;
        }
        Ok(kafka)
    }

    /// The log, if there is one: nothing is made.
    fn open_if_there(&self) -> anyhow::Result<Option<Wal>> {
        let is_none = |error: &anyhow::Error| exit::of_log(error).is_some_and(|e| *e.kind() == ErrorKind::NotFound);
        match self.open(false) {
            Err(error) if is_none(&error) => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn open(&self, create: bool) -> anyhow::Result<Wal> {
        let opened = self.log_options().create(create).open(&self.dir);
        opened.map_err(|error| match error.kind() {
            // It names the log's options, which have other names here.
            ErrorKind::Invalid => {
                let text = error.to_string().replace("segment_size", "--segment-size");
                anyhow!(text.replace("max_disk_bytes", "--max-disk-bytes"))
            }
            _ => error.into(),
        })
    }

    fn log_options(&self) -> Options {
        let mut options = Options::new().segment_size(self.segment_size);
        if let Some(bytes) = self.max_disk_bytes {
            options = options.max_disk_bytes(bytes);
        }
        // Segments go as a whole, so one may hold no more than a part of what is retained.
        if let Some(retain) = self.retain {
            let age = (retain / 10).max(Duration::from_secs(1));
            options = options.segment_age(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        }
        options
    }

    fn config(&self, session_timeout: Duration) -> Config {
        let mut config = Config::default();
        config.mode = match self.mode {
            ModeName::ExactlyOnce => Mode::ExactlyOnce,
            ModeName::AtLeastOnce => Mode::AtLeastOnce,
        };
        config.on_reset = match self.on_reset {
            ResetName::Earliest => Reset::Earliest,
            ResetName::Latest => Reset::Latest,
            ResetName::Error => Reset::Error,
        };
        config.block_interval = self.block_interval;
        config.retain = self.retain;
        config.drain_timeout = session_timeout / 2;
        config
    }
}
