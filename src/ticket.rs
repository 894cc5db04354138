//! What an append gives: a record on its way to be durable.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::framing::Framed;
use crate::log::Log;
use crate::lsn::Lsn;
use crate::writer::Writer;

/// A record on its way to be durable. Wait for it, or await it on any executor.
///
/// Dropping it forgets the wait, never the record. It borrows the log, for counting who holds the log would take a
/// tenth of the time of a small append; [`into_owned`](Ticket::into_owned) gives one to send away.
///
/// Awaited, it is woken from the thread that led the commit, which holds no lock then: a `Waker` of your own may use the
/// log, and what it takes the next commit waits for.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let wal = seawall::Wal::open(dir.path())?;
/// let ticket = wal.append(b"order 17")?.into_owned();
/// let waiter = std::thread::spawn(move || ticket.wait());
/// # waiter.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a record is durable only once its ticket says so: wait for it, await it, or drop it knowingly"]
pub struct Ticket<'a> {
    log: Held<'a>,
    lsn: Lsn,
    end: u64,
}

/// The log that a ticket is of.
#[derive(Debug)]
enum Held<'a> {
    Borrowed(&'a Arc<Log>),
    Owned(Arc<Log>),
}

impl<'a> Ticket<'a> {
    #[inline]
    pub(crate) fn new(log: &'a Arc<Log>, framed: Framed) -> Ticket<'a> {
        Ticket { log: Held::Borrowed(log), lsn: Lsn(framed.lsn.get()), end: framed.end }
    }

    /// The same ticket, for another thread or a task of its own. It keeps no log open, but holds
    /// its files: what is removed takes its room until the ticket is dropped.
    pub fn into_owned(self) -> Ticket<'static> {
        let log = match self.log {
            Held::Borrowed(log) => Arc::clone(log),
            Held::Owned(log) => log,
        };
        Ticket { log: Held::Owned(log), lsn: self.lsn, end: self.end }
    }

    fn writer(&self) -> &Writer {
        match &self.log {
            Held::Borrowed(log) => &log.writer,
            Held::Owned(log) => &log.writer,
        }
    }

    /// Where the record is (the last of a batch). It may not be durable yet.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether waiting would return at once.
    pub fn is_done(&self) -> bool {
        let commit = &self.writer().commit;
        commit.acknowledged() >= self.end || commit.is_poisoned()
    }

    /// Waits until the record is durable; leads a commit when nobody does. While the disk is full and the record in
    /// memory only (on copy-on-write file systems and with quotas), it waits for room.
    ///
    /// # Errors
    /// `Poisoned`: whether the record survives is unknown.
    #[inline]
    pub fn wait(self) -> Result<Lsn> {
        self.writer().wait(self.end)?;
        Ok(self.lsn)
    }
}

impl Future for Ticket<'_> {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lsn>> {
        let writer = self.writer();
        match writer.commit.poll(self.end, cx.waker()) {
            Some(done) => Poll::Ready(done.map(|()| self.lsn)),
            None => {
                writer.wake_syncer();
                Poll::Pending
            }
        }
    }
}
