//! The receiver as a process of its own: this program, `seawall receive`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cluster::TOPIC;
use crate::failure::Listing;

/// Time-outs of the session, for each receiver in turn. The mock cluster lets a new group wait three seconds; a
/// later member waits one second less than the time-out of the member before it. Each must outlive its own wait.
const SESSIONS: [&str; 3] = ["3500", "2700", "2000"];

/// A running receiver. Killed when it is dropped.
pub struct Child {
    process: process::Child,
    // Reads what it says on standard error, lest it wait for a reader; none once that was asked for.
    errors: Option<JoinHandle<VecDeque<String>>>,
}

impl Child {
    /// The `number`th receiver, counted from zero.
    pub fn start(dir: &Path, brokers: &str, number: u64) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("looking for this program's own file")?;
        let mut command = Command::new(program);
        command.args(["receive", "--brokers", brokers, "--group", "demo", "--topic", TOPIC, "--dir"]).arg(dir);
        command.args(["--segment-size", "2MiB", "--block-interval", "50ms", "--stop-with-stdin"]);
        let session = usize::try_from(number).ok().and_then(|number| SESSIONS.get(number)).unwrap_or(&"2000");
        command.args(["-X", &format!("session.timeout.ms={session}"), "-X", "heartbeat.interval.ms=300"]);
        Child::of(command)
    }

    fn of(mut command: Command) -> anyhow::Result<Child> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let process = command.spawn().context("starting a receiver")?;
        let mut child = Child { process, errors: None };
        let errors = child.process.stderr.take().context("a receiver without standard error")?;
        let reading = thread::Builder::new().name("demo-errors".into());
        child.errors = Some(reading.spawn(move || last_lines(errors))?);
        Ok(child)
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(self.said(&format!("ended by itself ({status})"))),
        }
    }

    /// SIGKILL: nothing that it had in mind comes to pass any more.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.check()?;
        self.end().map_err(Into::into)
    }

    /// Lets it stop in order.
    pub fn stop(mut self, bound: Duration) -> anyhow::Result<()> {
        drop(self.process.stdin.take());
        let deadline = Instant::now() + bound;
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!(self.said(&format!("did not stop in order ({status})"))),
                None if Instant::now() > deadline => bail!(self.ended("does not stop")?),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Kills it, for it does not do what it should. What is wrong, with the last that it said.
    pub fn ended(&mut self, wrong: &str) -> anyhow::Result<Listing> {
        self.end()?;
        Ok(self.said(wrong))
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    /// What is wrong, with the last that it said before it ended.
    fn said(&mut self, wrong: &str) -> Listing {
        let said = self.errors.take().and_then(|reading| reading.join().ok()).unwrap_or_default();
        let and = if said.is_empty() { "said nothing" } else { "said:" };
        Listing::new(format!("the receiver {wrong} and {and}"), said)
    }
}

/// Reads to the end, and keeps the last lines.
fn last_lines(errors: impl Read) -> VecDeque<String> {
    const KEPT: usize = 20;
    let mut kept = VecDeque::new();
    for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    kept
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure;

    /// What a receiver that ends by itself has the demonstration say.
    fn ends(script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let error = Child::of(command).unwrap().stop(Duration::from_secs(60)).unwrap_err();
        failure::text(&error, None)
    }

    #[test]
    fn what_a_receiver_said_stands_in_lines_below_how_it_ended() {
        let how = "error: the receiver did not stop in order (exit status: 2) and";
        let said = ends(r"printf 'error: damaged\n  where    here\033\n' >&2; exit 2");
        assert_eq!(said, format!("{how} said:\n  error: damaged\n    where    here\\u{{1b}}"));
        assert_eq!(ends("exit 2"), format!("{how} said nothing"));
    }
}
