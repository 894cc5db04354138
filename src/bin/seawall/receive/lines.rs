//! Lines on their way out, written by a thread of their own: a reader who does not read holds nobody else up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

/// How many bytes may wait. What comes while so many do is dropped. Of ten thousand partitions at once a line each has room.
const ROOM: usize = 4 << 20;
/// How long the end waits for what is not written yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the file's first line.
pub struct Lines {
    /// None once no more come.
    queue: Option<Sender<String>>,
    /// The bytes of what is not written yet.
    waiting: Arc<AtomicUsize>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
    taken: u64,
    written: Arc<AtomicU64>,
    /// Dropped, and not told of yet.
    missing: u64,
}

impl Lines {
    /// Has `write` write each line, until it says that it takes no more.
    pub fn new(mut write: impl FnMut(&str) -> bool + Send + 'static) -> io::Result<Lines> {
        let (queue, lines) = mpsc::channel::<String>();
        let (ending, ended) = mpsc::channel::<()>();
        let written = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let (count, left) = (Arc::clone(&written), Arc::clone(&waiting));
        thread::Builder::new().name("seawall-tell".into()).spawn(move || {
            let _ending = ending;
            for line in lines {
                if !write(&line) {
                    break;
                }
                count.fetch_add(1, Ordering::Relaxed);
                left.fetch_sub(line.len(), Ordering::Relaxed);
            }
        })?;
        Ok(Lines { queue: Some(queue), waiting, ended, taken: 0, written, missing: 0 })
    }

    /// Hands a line over, after the one that `gap` makes if lines are missing before it; or drops it.
    pub fn put(&mut self, line: String, gap: impl FnOnce(u64) -> String) {
        if self.missing > 0 && self.send(gap(self.missing)) {
            self.missing = 0;
        }
        if self.missing > 0 || !self.send(line) {
            self.missing += 1;
        }
    }

    /// Takes no more, and waits for what is not written yet, but not for long. Gives how many lines are missing.
    pub fn finish(&mut self) -> u64 {
        self.queue = None;
        match self.ended.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => self.missing + self.taken - self.written.load(Ordering::Relaxed),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => self.missing,
        }
    }

    /// Whether there is room for a line. It is not missing where none is written any more.
    fn send(&mut self, line: String) -> bool {
        let Some(queue) = &self.queue else { return true };
        let bytes = line.len();
        if self.waiting.load(Ordering::Relaxed).saturating_add(bytes) > ROOM {
            return matches!(self.ended.try_recv(), Err(TryRecvError::Disconnected));
        }
        // Before the writer can take it off again.
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        if queue.send(line).is_ok() {
            self.taken += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    fn put(lines: &mut Lines, line: impl ToString) {
        lines.put(line.to_string(), |missing| format!("{missing} are missing"));
    }

    /// What is told of hundreds of partitions at once came faster than any reader takes it, and was dropped.
    #[test]
    fn thousands_of_lines_at_once_are_written_however_slow_the_reader_is() {
        let (go, wait) = mpsc::channel::<()>();
        let (sender, read) = mpsc::channel();
        let mut lines = Lines::new(move |line| wait.recv().is_ok() && sender.send(line.to_owned()).is_ok()).unwrap();
        let text = |number: i32| format!("{number} {}", "x".repeat(200));
        (0..5000).for_each(|number| put(&mut lines, text(number)));
        assert_eq!(lines.missing, 0);
        (0..5000).for_each(|_| go.send(()).unwrap());
        assert!(read.iter().take(5000).eq((0..5000).map(text)));
        assert_eq!(lines.finish(), 0);
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_counted_and_told_of_and_hold_nothing_up() {
        let (go, wait) = mpsc::channel::<()>();
        let (sender, read) = mpsc::channel();
        let mut lines = Lines::new(move |line| wait.recv().is_ok() && sender.send(line.to_owned()).is_ok()).unwrap();
        let width = ROOM / 256;
        let line = |number: usize| format!("{number:0width$}");
        let many = 256 + 5;
        (0..many).for_each(|number| put(&mut lines, line(number)));
        let missing = usize::try_from(lines.missing).unwrap();
        assert_eq!(missing, 5);
        (0..many).for_each(|_| go.send(()).unwrap());
        let written: Vec<_> = read.iter().take(many - missing).collect();
        assert_eq!(written, (0..many - missing).map(line).collect::<Vec<_>>());
        (0..2).for_each(|_| go.send(()).unwrap());
        put(&mut lines, "after");
        assert_eq!(read.iter().take(2).collect::<Vec<_>>(), [format!("{missing} are missing"), "after".to_owned()]);
        assert_eq!(lines.finish(), 0);
    }

    #[test]
    fn the_end_waits_for_what_is_being_written_but_not_for_long() {
        let (sender, read) = mpsc::channel();
        let mut lines = Lines::new(move |line| sender.send(line.to_owned()).is_ok()).unwrap();
        (0..10).for_each(|number| put(&mut lines, number));
        assert_eq!((lines.finish(), read.iter().count()), (0, 10));

        let (_never, wait) = mpsc::channel::<()>();
        let mut lines = Lines::new(move |_| wait.recv().is_ok()).unwrap();
        (0..10).for_each(|number| put(&mut lines, number));
        assert_eq!(lines.finish(), 10);
    }

    #[test]
    fn lines_that_shall_not_be_written_are_not_missing() {
        let mut lines = Lines::new(|_| false).unwrap();
        iter::repeat_n("line".repeat(ROOM / 16), 16).for_each(|line| put(&mut lines, line));
        while lines.ended.recv().is_ok() {}
        lines.missing = 0;
        put(&mut lines, "line");
        assert_eq!(lines.finish(), 0);
    }
}
