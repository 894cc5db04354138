//! What an append gives: a record on its way to be durable.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::framing::Framed;
use crate::log::Log;
use crate::lsn::Lsn;

/// A record on its way to be durable. Wait for it, or await it on any executor.
///
/// Dropping it forgets the wait, never the record.
#[derive(Debug)]
#[must_use = "a record is durable only once its ticket says so: wait for it, await it, or drop it knowingly"]
pub struct Ticket {
    log: Arc<Log>,
    lsn: Lsn,
    end: u64,
}

impl Ticket {
    pub(crate) fn new(log: &Arc<Log>, framed: Framed) -> Ticket {
        Ticket { log: Arc::clone(log), lsn: Lsn(framed.lsn), end: framed.end }
    }

    /// Where the record is (the last of a batch). It may not be durable yet.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether waiting would return at once.
    pub fn is_done(&self) -> bool {
        let commit = &self.log.writer.commit;
        commit.acknowledged() >= self.end || commit.is_poisoned()
    }

    /// Waits until the record is durable; leads a commit when nobody does.
    ///
    /// # Errors
    /// `Poisoned`: whether the record survives is unknown.
    #[inline]
    pub fn wait(self) -> Result<Lsn> {
        self.log.writer.wait(self.end)?;
        Ok(self.lsn)
    }
}

impl Future for Ticket {
    type Output = Result<Lsn>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Lsn>> {
        let writer = &self.log.writer;
        match writer.commit.poll(self.end, cx.waker()) {
            Some(done) => Poll::Ready(done.map(|()| self.lsn)),
            None => {
                writer.wake_syncer();
                Poll::Pending
            }
        }
    }
}
