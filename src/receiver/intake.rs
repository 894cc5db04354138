//! Intake: the partitions that are ours and the block in the making. The polling thread's, and never waits.

use std::sync::Arc;
use std::time::Duration;

use super::block::BlockBuilder;
use super::config::Config;
use super::error::ReceiveError;
use super::line::{Beginning, Item, Line};
use super::offsets::OffsetTable;
use super::source::{Commit, Message, Partition, TopicId};
use super::status::{Board, SealCause, Step};
use crate::Lsn;

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) partition: Partition,
    pub(super) topic_id: TopicId,
    /// The next offset to read.
    pub(super) next: i64,
    /// Its range in the open block.
    range: Option<usize>,
    /// What the group is known to have.
    pub(super) committed: Option<i64>,
    /// The group had read of it when it became ours.
    pub(super) read_before: bool,
    /// Since when it was told to deliver and has delivered nothing.
    pub(super) silent_since: Option<Duration>,
    /// When it shall be asked whether its position still exists; until then it delivers nothing.
    pub(super) recheck: Option<Recheck>,
}

/// A position that the source said is out of range, or above a cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recheck {
    /// When it was asked about first.
    pub(super) since: Option<Duration>,
    pub(super) at: Duration,
    /// That the topic is the one that it was is known already.
    pub(super) is_same_topic: bool,
    /// The source said that the partition's log was cut below it.
    pub(super) is_cut: bool,
}

impl Owned {
    pub(super) fn new(partition: Partition, topic_id: TopicId, next: i64, committed: Option<i64>) -> Owned {
        let (range, read_before, silent_since, recheck) = (None, false, None, None);
        Owned { partition, topic_id, next, range, committed, read_before, silent_since, recheck }
    }
}

/// See the file's first line.
pub(super) struct Intake {
    config: Config,
    line: Arc<Line>,
    board: Board,
    pub(super) owned: Vec<Owned>,
    /// Partitions that were ours and are not now: a stop tells what the group lacks of them.
    pub(super) gone: Vec<Owned>,
    /// Where the last record went: the next one mostly goes there too.
    last: usize,
    /// What the log will hold once the line is durable.
    planned: OffsetTable,
    /// The number of the last beginnings that were handed over; 0 before the first.
    pub(super) begun: u64,
    builder: BlockBuilder,
    opened_at: Duration,
    batch_time: u64,
    /// Whether records are taken: not while the disk is behind, and no more when stopping.
    pub(super) open: bool,
    /// Records dropped while intake was closed, since it was asked last.
    pub(super) stragglers: u64,
    /// Figures not yet on the board.
    taken: u64,
    duplicates: u64,
    passed_over: u64,
}

impl Intake {
    pub(super) fn new(config: Config, line: Arc<Line>, board: Board, table: OffsetTable, batch_time: u64) -> Intake {
        Intake {
            config,
            line,
            board,
            owned: Vec::new(),
            gone: Vec::new(),
            last: 0,
            planned: table,
            begun: 0,
            builder: BlockBuilder::new(),
            opened_at: Duration::ZERO,
            batch_time,
            open: true,
            stragglers: 0,
            taken: 0,
            duplicates: 0,
            passed_over: 0,
        }
    }

    /// Has `board` hear from now on.
    pub(super) fn board(&mut self, board: Board) {
        self.board = board;
    }

    /// What the log will hold once the line is durable.
    pub(super) fn planned(&self) -> &OffsetTable {
        &self.planned
    }

    fn index(&mut self, partition: &Partition) -> Option<usize> {
        let is_it = |owned: &Owned| {
            owned.partition.number == partition.number
                && (Arc::ptr_eq(&owned.partition.topic, &partition.topic) || owned.partition.topic == partition.topic)
        };
        if !self.owned.get(self.last).is_some_and(is_it) {
            self.last = self.owned.iter().position(is_it)?;
        }
        Some(self.last)
    }

    /// The partition, if it is ours.
    pub(super) fn find(&mut self, partition: &Partition) -> Option<&mut Owned> {
        let index = self.index(partition)?;
        self.owned.get_mut(index)
    }

    /// Makes a partition ours.
    pub(super) fn own(&mut self, owned: Owned) {
        let others = |other: &Owned| other.partition != owned.partition;
        self.owned.retain(others);
        self.gone.retain(others);
        self.owned.push(owned);
    }

    /// Partitions are no longer ours. What was read of them is sealed.
    pub(super) fn let_go(&mut self, partitions: &[Partition]) {
        let goes = |owned: &mut Owned| partitions.contains(&owned.partition);
        self.gone.extend(self.owned.extract_if(.., goes));
    }

    /// Notes that the group has what was committed.
    pub(super) fn confirm(&mut self, commit: &Commit) {
        let mut known = self.owned.iter_mut().chain(&mut self.gone);
        if let Some(known) = known.find(|known| known.partition == commit.partition) {
            known.committed = known.committed.max(Some(commit.next));
        }
    }

    /// Takes a record: into the block, or not at all where the log has it, the partition is not ours, or the
    /// disk is behind (then it comes again, for resuming begins at our own next offset).
    pub(super) fn take(&mut self, message: &Message<'_>) -> Result<(), ReceiveError> {
        if !self.open {
            self.stragglers += 1;
            self.passed_over += 1;
            return Ok(());
        }
        let Some(index) = self.index(message.partition) else {
            self.passed_over += 1;
            return Ok(());
        };
        let limit = self.config.max_block_bytes();
        let needs = BlockBuilder::new().bytes() + BlockBuilder::cost(message);
        let Some(owned) = self.owned.get_mut(index) else { return Ok(()) };
        owned.silent_since = None;
        if message.offset < owned.next {
            self.duplicates += 1;
            return Ok(());
        }
        if needs > limit {
            let (partition, offset) = (owned.partition.clone(), message.offset);
            return Err(ReceiveError::RecordTooLarge { partition, offset, needs, limit });
        }
        self.make_room(BlockBuilder::cost(message));
        let range = self.range(index);
        let Some(owned) = self.owned.get_mut(index) else { return Ok(()) };
        owned.next = message.offset.saturating_add(1);
        self.builder.push(range, message);
        self.taken += 1;
        self.board.step(Step::RecordTaken);
        self.seal_if_large();
        Ok(())
    }

    /// Notes that a partition holds nothing more below `next`.
    pub(super) fn end(&mut self, partition: &Partition, next: i64) {
        if !self.open {
            return;
        }
        let Some(index) = self.index(partition) else { return };
        let Some(owned) = self.owned.get_mut(index) else { return };
        owned.silent_since = None;
        if next <= owned.next {
            return;
        }
        if owned.range.is_none() {
            self.make_room(BlockBuilder::range_cost(partition));
        }
        let range = self.range(index);
        self.builder.advance(range, next);
        if let Some(owned) = self.owned.get_mut(index) {
            owned.next = next;
        }
        self.seal_if_large();
    }

    /// Seals the block if `more` bytes, those of a range among them, would make it larger than fits into a segment.
    fn make_room(&mut self, more: usize) {
        if self.builder.bytes() + more > self.config.max_block_bytes() || self.builder.is_full() {
            self.seal(SealCause::Bytes);
        }
    }

    /// The range of an owned partition in the open block, opened if need be.
    fn range(&mut self, index: usize) -> usize {
        if self.builder.is_empty() {
            self.opened_at = self.config.clock.monotonic();
        }
        let Some(owned) = self.owned.get_mut(index) else { return 0 };
        *owned.range.get_or_insert_with(|| self.builder.range(&owned.partition, owned.topic_id, owned.next))
    }

    fn seal_if_large(&mut self) {
        if self.builder.bytes() >= self.config.block_bytes.min(self.config.max_block_bytes()) {
            self.seal(SealCause::Bytes);
        } else if self.builder.len() >= self.config.block_records || self.builder.is_full() {
            self.seal(SealCause::Records);
        }
    }

    /// Seals the block if it is old enough.
    pub(super) fn seal_if_old(&mut self, now: Duration) {
        if self.until_old(now).is_some_and(|left| left.is_zero()) {
            self.seal(SealCause::Interval);
        }
    }

    /// How long the open block may stay open.
    pub(super) fn until_old(&self, now: Duration) -> Option<Duration> {
        (!self.builder.is_empty()).then(|| (self.opened_at + self.config.block_interval).saturating_sub(now))
    }

    /// Seals the open block, if anything is in it, and hands it to the append thread. Closes intake when the
    /// line is full.
    pub(super) fn seal(&mut self, cause: SealCause) {
        if self.builder.is_empty() {
            return;
        }
        let next = BlockBuilder::with_buffer(self.line.buffer());
        let block = std::mem::replace(&mut self.builder, next).seal();
        self.owned.iter_mut().for_each(|owned| owned.range = None);
        // Ranges begin where the partition stood, and only here does it move: they chain.
        let chained = self.planned.apply_ranges(block.ranges(), Lsn::ZERO);
        debug_assert!(chained.is_ok(), "{chained:?}");
        let batch_time = self.batch_time();
        self.line.push(batch_time, Item::Block(block));
        self.board.update(|status| status.sealed.count(cause));
        self.board.step(Step::BlockSealed);
        if self.line.waiting() >= self.config.queue_blocks.max(1) as u64 {
            self.open = false;
        }
    }

    /// Hands over where partitions begin; gives the number to wait for.
    pub(super) fn begin(&mut self, beginnings: Vec<Beginning>) -> u64 {
        for beginning in &beginnings {
            let chained = beginning.apply(&mut self.planned, Lsn::ZERO);
            debug_assert!(chained.is_ok(), "{chained:?}");
        }
        let batch_time = self.batch_time();
        self.begun = self.line.push(batch_time, Item::Starts(beginnings));
        self.begun
    }

    /// The time now, but never below one given before.
    fn batch_time(&mut self) -> u64 {
        self.batch_time = self.batch_time.max(self.config.clock.unix_millis());
        self.batch_time
    }

    /// Puts the figures on the board.
    pub(super) fn report(&mut self) {
        if self.taken + self.duplicates + self.passed_over == 0 {
            return;
        }
        let (taken, duplicates, passed_over) = (self.taken, self.duplicates, self.passed_over);
        (self.taken, self.duplicates, self.passed_over) = (0, 0, 0);
        self.board.update(|status| {
            status.taken += taken;
            status.duplicates += duplicates;
            status.passed_over += passed_over;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::Silent;
    use super::*;

    #[test]
    fn a_partition_that_comes_and_goes_is_gone_once_and_not_while_it_is_ours() {
        let line = Arc::new(Line::new(OffsetTable::default()));
        let board = Board::new(Arc::new(Silent));
        let mut intake = Intake::new(Config::default(), line, board, OffsetTable::default(), 0);
        let places = [0, 1].map(|number| Partition { topic: "t".into(), number });
        for next in 1..=3 {
            for place in &places {
                intake.own(Owned::new(place.clone(), TopicId([1; 16]), next, None));
            }
            assert_eq!((intake.owned.len(), intake.gone.len()), (2, 0));
            intake.let_go(&places);
            let gone: Vec<_> = intake.gone.iter().map(|gone| (gone.partition.number, gone.next)).collect();
            assert_eq!(gone, [(0, next), (1, next)]);
        }
    }
}
