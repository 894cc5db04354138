//! Work that may never come back.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Does `work` on a thread of its own, and waits for that at most `timeout`. `None` where it has not come back by then, and
/// is left to itself, or where no thread was to be had.
pub(super) fn within<T: Send + 'static>(
    name: &str,
    timeout: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, answer) = mpsc::channel();
    thread::Builder::new().name(name.into()).spawn(move || _ = done.send(work())).ok()?;
    answer.recv_timeout(timeout).ok()
}
