//! Writes that find the disk full: what waits in memory is told to nobody, and is written once there is room.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use seawall::Ticket;
use seawall::sim::{Fault, Operation};

use crate::run::Run;

impl Run<'_> {
    /// Has writes find the disk full, from one of the next on.
    pub fn fill(&mut self) {
        let fault = Fault::new(Operation::Write).nth(1 + self.random.below(20)).for_good();
        let fault = fault.kind(std::io::ErrorKind::StorageFull);
        let fault = if self.random.one_in(2) { fault.partial(self.random.below(3000) as usize) } else { fault };
        self.say("full", &fault);
        self.disk.fail(fault);
        (self.faulty, self.full) = (true, true);
    }

    /// There is room again.
    pub fn empty(&mut self) {
        self.say("room", &());
        self.disk.heal();
        self.full = false;
    }

    /// Looks at a ticket before and after a step of the background, which would be waited for until there is room.
    pub fn wait_without_end(&mut self, lsn: u64, mut ticket: Ticket<'static>) -> Result<(), String> {
        for _ in 0..2 {
            let polled = Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop()));
            self.say("poll", &polled);
            if let Poll::Ready(result) = polled {
                if result.is_ok() && (!self.plan.os || self.plan.kills_only) {
                    self.model.acknowledged(lsn);
                }
                return Ok(());
            }
            self.disk.advance(Duration::from_millis(100));
            self.disk.step();
        }
        self.tickets.push((lsn, ticket));
        if self.random.one_in(3) {
            self.empty();
        }
        Ok(())
    }
}
