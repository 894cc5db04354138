//! How far a salvage is with all that it reads.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::error::{Result, cancelled};
use crate::progress::Progress;

/// Counts the bytes that were read, and tells of them.
pub(super) struct Meter<'a> {
    done: u64,
    pub(super) total: u64,
    pub(super) begun: Instant,
    progress: &'a dyn Fn(Progress) -> ControlFlow<()>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(total: u64, progress: &'a dyn Fn(Progress) -> ControlFlow<()>) -> Meter<'a> {
        Meter { done: 0, total, begun: Instant::now(), progress }
    }

    pub(super) fn add(&mut self, bytes: u64) -> Result<()> {
        self.done += bytes;
        let (bytes, total_bytes, elapsed) = (self.done, self.total, self.begun.elapsed());
        match (self.progress)(Progress { bytes, total_bytes, records: 0, elapsed }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(cancelled("salvage")),
        }
    }
}
