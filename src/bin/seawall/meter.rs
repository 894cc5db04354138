//! How far a command is: a bar on a terminal, a line on standard error every five seconds elsewhere.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use seawall::Progress;

use crate::out::{self, counted};
use crate::units::bytes;

/// How often a line is written.
const LINE: Duration = Duration::from_secs(5);
/// How often the bar is drawn.
const DRAW: Duration = Duration::from_millis(100);

/// Shows how far something is. Gone when it is dropped.
pub struct Meter {
    bar: ProgressBar,
    /// `None`: nothing is shown.
    every: Option<Duration>,
    last: Mutex<Instant>,
}

impl Meter {
    /// `json`: a program reads what is told, and there are no lines for it; a bar stays, for whoever looks at the terminal.
    pub fn new(json: bool) -> Meter {
        Meter::with(json, 0, "{bar:40} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left")
    }

    /// Of what is done in so many steps.
    pub fn of_steps(json: bool, steps: u64) -> Meter {
        Meter::with(json, steps, "{bar:40} {msg}  {eta} left")
    }

    fn with(json: bool, length: u64, template: &str) -> Meter {
        let bar = ProgressBar::new(length);
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let every = match (bar.is_hidden(), json) {
            (false, _) => Some(DRAW),
            (true, false) => Some(LINE),
            (true, true) => None,
        };
        Meter { bar, every, last: Mutex::new(Instant::now()) }
    }

    /// Shows nothing.
    pub fn silent() -> Meter {
        Meter { bar: ProgressBar::hidden(), every: None, last: Mutex::new(Instant::now()) }
    }

    /// Shows how far it is, if it is time to. From any thread.
    pub fn tick(&self, progress: impl FnOnce() -> Progress) {
        let (Some(every), Ok(mut last)) = (self.every, self.last.try_lock()) else { return };
        if last.elapsed() < every {
            return;
        }
        *last = Instant::now();
        let progress = progress();
        if self.bar.is_hidden() {
            out::warn(line(&progress));
        } else {
            self.bar.set_length(progress.total_bytes);
            self.bar.set_position(progress.bytes);
        }
    }

    /// The same for what may be told to stop by the answer: it goes on.
    pub fn told(&self, progress: Progress) -> ControlFlow<()> {
        self.tick(|| progress);
        ControlFlow::Continue(())
    }

    /// One step more is done, and this is next.
    pub fn step(&self, next: &str) {
        let (Some(every), Ok(mut last)) = (self.every, self.last.try_lock()) else { return };
        self.bar.inc(1);
        self.bar.set_message(next.to_owned());
        if last.elapsed() >= every && self.bar.is_hidden() {
            *last = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            out::warn(format_args!("progress: {next}, {done} of {} done", counted(all, "step")));
        }
    }

    /// Writes something else without breaking the bar.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Writes a line to standard error without breaking the bar.
    pub fn say(&self, line: impl Display) {
        self.bar.suspend(|| out::warn(line));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn line(progress: &Progress) -> String {
    let Progress { bytes: done, total_bytes: total, records, .. } = *progress;
    let rate = progress.bytes_per_second();
    let left = progress.left().map_or_else(String::new, |left| format!(", {} s left", left.as_secs()));
    format!("progress: {} of {}, {}, {}/s{left}", bytes(done), bytes(total), counted(records, "record"), bytes(rate))
}
