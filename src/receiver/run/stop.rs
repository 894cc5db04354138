//! How a receiver ends: asked to, or because something ended it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{REPORT, Receiver};
use crate::ErrorKind;
use crate::receiver::error::ReceiveError;
use crate::receiver::status::{Notice, SealCause, Status, Step};
use crate::receiver::within::within;

impl Receiver {
    /// Begins to stop where that is asked for; `true` once there is nothing left to do.
    pub(super) fn stopped(&mut self, stop: &AtomicBool, now: Duration) -> Result<bool, ReceiveError> {
        let Some(deadline) = self.pace.stop_by else {
            if stop.load(Ordering::Acquire) {
                self.board.tell(&Notice::Stopping);
                self.pace.stop_by = Some(now + self.config.stop_timeout);
                self.intake.seal(SealCause::Stop);
                self.intake.open = false;
                self.assignments.clear();
                self.board.step(Step::Stopping);
            }
            return Ok(false);
        };
        let is_stored = self.line.waiting() == 0 || self.is_full_for_good(now);
        let is_settled = is_stored && self.commits.is_settled(&self.intake, &self.line);
        if !is_settled && now < deadline {
            return Ok(false);
        }
        self.kept()?;
        self.board.step(Step::StopCommitted);
        Ok(true)
    }

    /// Whether the log is full, after several tries, and nothing here makes room. What it does not take is not committed:
    /// to wait for it keeps nothing.
    fn is_full_for_good(&self, now: Duration) -> bool {
        let is_full = self.line.full().is_some_and(|full| *full.kind() == ErrorKind::LogFull);
        let is_tried = self.pace.full_told_at.is_some_and(|told| now >= told + self.config.retry_interval * 5);
        is_full && is_tried && self.config.retain.is_none()
    }

    /// Whether everything read is durable and the group has it.
    fn kept(&mut self) -> Result<(), ReceiveError> {
        if let blocks @ 1.. = self.line.waiting() {
            let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
            return Err(ReceiveError::NotDurable { blocks, reason: self.full() });
        }
        let (source, timeout) = (&mut *self.source, self.config.request_timeout);
        let partitions = self.commits.lacking(source, &self.intake, &self.line, timeout);
        if partitions.is_empty() {
            return Ok(());
        }
        Err(ReceiveError::NotCommitted { partitions, reason: self.commits.last_error().cloned() })
    }

    /// Ends both threads, the membership and the log, in that order.
    pub(super) fn end(mut self, served: Result<(), ReceiveError>) -> Result<Status, ReceiveError> {
        let mut drained = true;
        if served.is_err() {
            // Not committed: an error may mean that our offsets are about something else. The log has them.
            self.intake.seal(SealCause::Stop);
            drained =
                !self.is_full_for_good(self.config.clock.monotonic()) && self.line.drain(self.config.drain_timeout);
        }
        let deadline = Instant::now() + self.config.stop_timeout.max(self.config.drain_timeout);
        let left = || deadline.saturating_duration_since(Instant::now());
        let ended = self.line.finish(!drained, left());
        // What was not durable in time may be by now.
        let served = if let Err(ReceiveError::NotDurable { .. }) = served { self.kept() } else { served };
        self.source.close(self.config.drain_timeout);
        self.board.step(Step::LeftGroup);
        // A thread that still waits for the disk keeps the log: closing would wait for the disk too.
        let closed = if ended { self.close(left()) } else { Err(ReceiveError::NotClosed) };
        self.board.step(Step::Closed);
        self.pace.reported_at = Duration::ZERO;
        self.report(REPORT);
        self.board.update(|status| status.paused = false);
        served?;
        if let Some(failure) = self.line.end_failure() {
            return Err(failure);
        }
        closed?;
        Ok(self.board.handle().snapshot())
    }

    /// Closes the log on a thread of its own, which is left to itself where the disk does not come back in time.
    fn close(&self, timeout: Duration) -> Result<(), ReceiveError> {
        let (wal, timeout) = (Arc::clone(&self.wal), timeout.max(self.config.retry_interval));
        within("seawall-close", timeout, move || wal.close()).ok_or(ReceiveError::NotClosed)?.map_err(Into::into)
    }
}
