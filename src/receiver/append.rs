//! The append thread: takes items from the line, appends, waits for the disk, says so; writes offset tables and
//! cleans.

use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::error::ReceiveError;
use super::line::{Beginning, Item, Line, Numbered, Work};
use super::offsets::{ChainError, OffsetTable, Recovered};
use super::status::{Board, Notice, Step};
use crate::{Error, Lsn, Ticket, Wal};

/// How long it sleeps where nothing has to be looked for.
const IDLE: Duration = Duration::from_secs(60);

/// The append thread's work.
pub(super) struct Appender {
    wal: Arc<Wal>,
    line: Arc<Line>,
    config: Config,
    board: Board,
    /// All that was appended, durable or not.
    table: OffsetTable,
    /// What was appended and is not known durable.
    appended: Vec<(Ticket<'static>, Numbered)>,
    batch_time: u64,
    /// Entries and bytes since the last offset table.
    entries: u64,
    bytes: u64,
    cleaned_at: Duration,
    failure: Option<ReceiveError>,
}

impl Drop for Appender {
    /// Whatever ends the thread, the polling thread learns of it.
    fn drop(&mut self) {
        self.line.end(self.failure.take());
    }
}

/// Why an append gave up.
enum Stop {
    Failed(ReceiveError),
    Abandoned,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error.into())
    }
}

impl Appender {
    pub(super) fn new(wal: Arc<Wal>, line: Arc<Line>, config: Config, board: Board, recovered: &Recovered) -> Appender {
        let (table, entries) = (recovered.table.clone(), recovered.entries);
        let (batch_time, cleaned_at) = (wal.batch_time().0, config.clock.monotonic());
        Appender {
            wal,
            line,
            config,
            board,
            table,
            appended: Vec::new(),
            batch_time,
            entries,
            bytes: 0,
            cleaned_at,
            failure: None,
        }
    }

    /// Works until the line is finished or the log fails.
    pub(super) fn run(mut self) {
        let failure = match self.work() {
            Err(Stop::Failed(error)) => Some(error),
            Ok(()) | Err(Stop::Abandoned) => None,
        };
        self.failure = failure;
    }

    fn work(&mut self) -> Result<(), Stop> {
        loop {
            match self.line.take(self.until_clean()) {
                Work::Items(items) => {
                    items.into_iter().try_for_each(|item| self.append(item))?;
                    self.settle()?;
                    if self.entries >= self.config.checkpoint_blocks || self.bytes >= self.config.checkpoint_bytes {
                        self.checkpoint()?;
                    }
                }
                Work::Idle => {}
                Work::Finished => return self.checkpoint(),
                Work::Abandoned => return Err(Stop::Abandoned),
            }
            if self.until_clean().is_zero() {
                self.clean()?;
            }
        }
    }

    fn until_clean(&self) -> Duration {
        if self.config.retain.is_none() {
            return IDLE;
        }
        (self.cleaned_at + self.config.clean_interval).saturating_sub(self.config.clock.monotonic())
    }

    /// Appends one item; while the log has no room, tries again.
    fn append(&mut self, item: Numbered) -> Result<(), Stop> {
        // What does not chain would make the log unreadable for good: better to end here.
        self.check(&item.item).map_err(|error| self.unchained(error))?;
        self.batch_time = self.batch_time.max(item.batch_time);
        let ticket = loop {
            match self.try_append(&item.item) {
                Ok(ticket) => break ticket.into_owned(),
                Err(error) if error.is_backpressure() => {
                    self.settle()?;
                    self.line.set_full(Some(error));
                    // The first append of a life lets go what was there before, and a table may go where a block may not:
                    // then it is written though the last one still holds.
                    self.entries = self.entries.max((self.wal.stats().appended_records == 0).into());
                    self.clean()?;
                    if !self.line.wait_to_retry(self.config.retry_interval) {
                        return Err(Stop::Abandoned);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.line.set_full(None);
        apply(&mut self.table, &item.item, ticket.lsn()).map_err(|error| self.unchained(error))?;
        self.board.step(match item.item {
            Item::Block(_) => Step::BlockAppended,
            Item::Starts(_) => Step::StartAppended,
        });
        self.appended.push((ticket, item));
        Ok(())
    }

    fn try_append(&self, item: &Item) -> crate::Result<Ticket<'_>> {
        let at = self.wal.at(self.batch_time);
        match item {
            Item::Block(block) => at.append_parts(&block.parts()),
            Item::Starts(starts) => {
                let payloads: Vec<_> = starts.iter().map(Beginning::encode).collect();
                at.append_batch(&payloads)
            }
        }
    }

    fn check(&self, item: &Item) -> Result<(), ChainError> {
        match item {
            Item::Block(block) => self.table.check_ranges(block.ranges()),
            Item::Starts(starts) => {
                let mut table = self.table.clone();
                starts.iter().try_for_each(|start| start.apply(&mut table, Lsn::ZERO))
            }
        }
    }

    fn unchained(&self, error: ChainError) -> Stop {
        Stop::Failed(ReceiveError::Chain { lsn: self.wal.durable_lsn(), error })
    }

    /// Waits until everything appended is durable, and says so.
    fn settle(&mut self) -> Result<(), Stop> {
        let Some((ticket, last)) = self.appended.pop() else { return Ok(()) };
        let last_lsn = ticket.lsn();
        // Crash: a commit follows what is said below, so nothing is said before the disk has it. What is
        // durable is a prefix, so the last ticket speaks for all; with `Durability::Os` it says that it was written only.
        ticket.wait()?;
        self.wal.sync()?;
        let items = self.appended.drain(..).map(|(ticket, item)| (ticket.lsn(), item)).chain([(last_lsn, last)]);
        for (lsn, Numbered { number, item, .. }) in items {
            self.entries += 1;
            let mut chained = Ok(());
            self.line.done(number, |table| chained = apply(table, &item, lsn));
            chained.map_err(|error| Stop::Failed(ReceiveError::Chain { lsn, error }))?;
            match item {
                Item::Block(block) => {
                    let (records, bytes) = (block.len() as u64, block.bytes() as u64);
                    self.bytes += bytes;
                    self.board.update(|status| {
                        status.blocks += 1;
                        status.recorded += records;
                        status.recorded_bytes += bytes;
                    });
                    self.line.recycle(block.into_buffer());
                    self.board.step(Step::BlockDurable);
                }
                Item::Starts(_) => self.board.step(Step::StartDurable),
            }
        }
        Ok(())
    }

    /// Writes an offset table, unless the last one still holds. A log without room for it gets it later.
    fn checkpoint(&mut self) -> Result<(), Stop> {
        if self.entries == 0 {
            return Ok(());
        }
        let ticket = match self.wal.at(self.batch_time).append_checkpoint(&self.table.encode()) {
            Ok(ticket) => ticket,
            Err(error) if error.is_backpressure() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.board.step(Step::CheckpointAppended);
        let lsn = ticket.wait()?;
        // As in settling: what is told below is that the disk has it.
        self.wal.sync()?;
        (self.entries, self.bytes) = (0, 0);
        self.board.update(|status| status.checkpoints += 1);
        self.board.tell(&Notice::Checkpoint(lsn));
        self.board.step(Step::CheckpointDurable);
        Ok(())
    }

    /// Writes an offset table, and removes segments of which every block is older than is to be retained.
    fn clean(&mut self) -> Result<(), Stop> {
        self.cleaned_at = self.config.clock.monotonic();
        // Crash: a table must be durable before the entries that it stands for go. The log keeps what lies above the
        // last one; where there is none yet it would keep nothing.
        self.checkpoint()?;
        let Some(retain) = self.config.retain else { return Ok(()) };
        if self.wal.checkpoint()?.is_none() {
            return Ok(());
        }
        let retain = u64::try_from(retain.as_millis()).unwrap_or(u64::MAX);
        self.board.step(Step::Cleaning);
        let cleaned = self.wal.clean_before_batch_time(self.config.clock.unix_millis().saturating_sub(retain));
        let cleaned = match cleaned {
            // A MARK that somebody took away cannot be made anew on a full disk; it is tried again.
            Err(error) if error.is_backpressure() => return Ok(()),
            cleaned => cleaned?,
        };
        self.board.step(Step::Cleaned);
        if !cleaned.removed.is_empty() {
            self.board.update(|status| status.cleaned += cleaned.removed.len() as u64);
            self.board.tell(&Notice::Cleaned { segments: cleaned.removed.len(), first: cleaned.first });
        }
        Ok(())
    }
}

fn apply(table: &mut OffsetTable, item: &Item, lsn: Lsn) -> Result<(), ChainError> {
    match item {
        Item::Block(block) => table.apply_ranges(block.ranges(), lsn),
        Item::Starts(starts) => starts.iter().try_for_each(|start| start.apply(table, lsn)),
    }
}

impl Beginning {
    /// Follows it in a table.
    pub(super) fn apply(&self, table: &mut OffsetTable, lsn: Lsn) -> Result<(), ChainError> {
        match self {
            Beginning::Origin(origin) => table.apply_origin(origin, lsn),
            Beginning::Handover(handover) => table.apply_handover(handover, lsn),
        }
    }
}
