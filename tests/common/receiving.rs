//! `seawall receive` as a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub fn seawall() -> Command {
    Command::new(env!("CARGO_BIN_EXE_seawall"))
}

/// A running receiver. Killed when it is dropped.
pub struct Receiving {
    process: Child,
    events: Receiver<Value>,
    errors: File,
}

/// What to receive, and how.
pub struct Job {
    pub brokers: String,
    pub group: String,
    pub topic: String,
    pub dir: PathBuf,
    pub options: Vec<String>,
}

impl Job {
    pub fn new(brokers: &str, topic: &str, dir: &Path, options: &[&str]) -> Job {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let (topic, group) = (topic.to_owned(), format!("group-{topic}"));
        Job { brokers: brokers.to_owned(), group, topic, dir: dir.to_owned(), options }
    }

    pub fn start(&self) -> Receiving {
        let mut errors = tempfile::tempfile().unwrap();
        let mut command = seawall();
        command.args(["receive", "--json", "--brokers", &self.brokers, "--group", &self.group, "--topic", &self.topic]);
        command.arg("--dir").arg(&self.dir).args(&self.options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.try_clone().unwrap());
        let mut process = with_parent(&mut command).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The last line of a killed process may be half a line.
                let Ok(event) = serde_json::from_str(&line) else { break };
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        errors.seek(SeekFrom::Start(0)).unwrap();
        Receiving { process, events, errors }
    }
}

impl Receiving {
    /// Waits for an event of this name.
    pub fn wait_for(&mut self, name: &str, bound: Duration) -> Value {
        let deadline = Instant::now() + bound;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if event["event"] == name => return event,
                Ok(_) => {}
                Err(e) => panic!("no event {name} within {bound:?} ({e}): {}", self.said()),
            }
        }
    }

    /// All events that are there and were not looked at yet.
    pub fn events(&self) -> Vec<Value> {
        self.events.try_iter().collect()
    }

    /// Panics if it has ended by itself.
    pub fn check(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("the receiver ended ({status}): {}", self.said());
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.check();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, as often as `times`; gives the exit status and what was said on standard error.
    pub fn stop(mut self, times: u32, bound: Duration) -> (ExitStatus, String) {
        self.check();
        for _ in 0..times {
            // SAFETY: the process is a child of ours that was not waited for, so the id is still its own.
            unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGTERM) };
        }
        self.ended(bound)
    }

    /// Waits until it ends by itself.
    pub fn ended(mut self, bound: Duration) -> (ExitStatus, String) {
        let deadline = Instant::now() + bound;
        let status = loop {
            match self.process.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("the receiver does not end: {}", self.said()),
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        (status, self.said())
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        let _ = self.errors.seek(SeekFrom::Start(0));
        let _ = self.errors.read_to_string(&mut text);
        text
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has a process killed when the thread that starts it is gone (on Linux).
pub fn with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec nothing but one system call is made.
    #[cfg(target_os = "linux")]
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command
}
