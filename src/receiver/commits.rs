//! Commits: advice to the source of what is durable. One under way; the latest wins; a failure is counted and
//! goes again with the next block.
//!
//! A list is made from the partitions owned when it is sent, on the thread that also lets partitions go, so none
//! is sent for a partition after it went. The table it is made from holds only what is durable.

use std::time::Duration;

use super::assign::group_mark;
use super::config::Config;
use super::entry::LogId;
use super::error::Uncommitted;
use super::intake::{Intake, Owned};
use super::line::Line;
use super::mark::CommitMark;
use super::offsets::Mark;
use super::source::{Commit, Partition, Source, SourceError};
use super::start::GroupMark;
use super::status::{Board, CommitCounts, Notice, Step};

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Commits {
    log: LogId,
    config: Config,
    under_way: Option<UnderWay>,
    /// Not before, unless something new is durable.
    retry_at: Duration,
    sent_at: Duration,
    last_error: Option<SourceError>,
}

#[derive(Debug)]
struct UnderWay {
    deadline: Duration,
    commits: Vec<Commit>,
}

impl Commits {
    pub(super) fn new(log: LogId, config: Config) -> Commits {
        let sent_at = config.clock.monotonic();
        Commits { log, config, under_way: None, retry_at: Duration::ZERO, sent_at, last_error: None }
    }

    /// Something new is durable: no need to wait with it.
    pub(super) fn hurry(&mut self) {
        self.retry_at = Duration::ZERO;
    }

    /// Why the last commit failed, if it did.
    pub(super) fn last_error(&self) -> Option<&SourceError> {
        self.last_error.as_ref()
    }

    /// Whether the group has everything that is durable of the partitions that are ours.
    pub(super) fn is_settled(&self, intake: &Intake, line: &Line) -> bool {
        self.under_way.is_none() && self.list(intake, line, is_behind).is_empty()
    }

    /// What the group lacks of what is durable here, also of partitions that are no longer ours. The group is asked,
    /// at most `timeout`, before it is said to lack anything: another may have committed since.
    pub(super) fn lacking(
        &self,
        source: &mut dyn Source,
        intake: &Intake,
        line: &Line,
        timeout: Duration,
    ) -> Vec<Uncommitted> {
        let mut lacking: Vec<_> = line.durable(|table| {
            let lacks = |known: &Owned| {
                let mark = table.get(&known.partition, known.topic_id).filter(|mark| is_behind(known, *mark))?;
                Some((known.topic_id, Uncommitted::new(known.partition.clone(), known.committed, mark.next)))
            };
            intake.owned.iter().chain(&intake.gone).filter_map(lacks).collect()
        });
        let partitions: Vec<_> = lacking.iter().map(|(_, lacking)| lacking.partition.clone()).collect();
        if let (false, Ok(answers)) = (partitions.is_empty(), source.committed(&partitions, timeout)) {
            for ((topic_id, lacking), commit) in lacking.iter_mut().zip(answers) {
                lacking.committed = match group_mark(commit.as_ref(), *topic_id) {
                    GroupMark::At(next, _) => Some(next),
                    GroupMark::None => None,
                };
            }
            lacking.retain(|(_, lacking)| lacking.committed < Some(lacking.durable));
        }
        lacking.into_iter().map(|(_, lacking)| lacking).collect()
    }

    /// Sends what is durable and not committed, unless a commit is under way or one has just failed.
    pub(super) fn send(&mut self, source: &mut dyn Source, intake: &Intake, line: &Line, board: &Board) {
        let now = self.config.clock.monotonic();
        if let Some(UnderWay { commits, .. }) = self.under_way.take_if(|commit| now >= commit.deadline) {
            board.update(|status| status.commits.timed_out += 1);
            let message = "no answer to a commit in time, outcome unknown";
            self.failed(SourceError::new("_TIMED_OUT", message, false), gone(&commits, intake), board);
        }
        if self.under_way.is_some() || now < self.retry_at {
            return;
        }
        let refresh = now.saturating_sub(self.sent_at) >= self.config.commit_refresh;
        let commits = self.list(intake, line, |owned, mark| is_behind(owned, mark) || refresh);
        if commits.is_empty() {
            return;
        }
        self.sent_at = now;
        board.update(|status| status.commits.sent += 1);
        // Ours begins first, so that what the source gives up is overdue here too.
        let (begun, timeout) = (self.config.clock.monotonic(), self.config.commit_timeout);
        match source.commit(&commits, timeout) {
            Ok(()) => {
                self.under_way = Some(UnderWay { deadline: begun + timeout, commits });
                board.step(Step::CommitSent);
            }
            Err(error) => {
                board.update(|status| status.commits.failed += 1);
                self.failed(error, Vec::new(), board);
            }
        }
    }

    /// Takes the answer to the commit under way.
    pub(super) fn answered(&mut self, answer: Result<(), SourceError>, intake: &mut Intake, board: &Board) {
        // The source takes no commit while it owes an answer, so that this is the one under way, or one given up.
        let Some(UnderWay { deadline, commits }) = self.under_way.take() else { return };
        match answer {
            Ok(()) => {
                self.confirmed(&commits, intake, board);
                board.step(Step::CommitAnswered);
            }
            Err(error) => {
                let is_late = self.config.clock.monotonic() >= deadline;
                let counted = |counts: &mut CommitCounts| {
                    *(if is_late { &mut counts.timed_out } else { &mut counts.failed }) += 1;
                };
                board.update(|status| counted(&mut status.commits));
                self.failed(error, gone(&commits, intake), board);
            }
        }
    }

    /// Commits what is durable of `partitions`, which go then, and waits for it, at most `timeout`.
    pub(super) fn send_and_wait(
        &mut self,
        source: &mut dyn Source,
        intake: &mut Intake,
        line: &Line,
        partitions: &[Partition],
        timeout: Duration,
        board: &Board,
    ) {
        let goes = |owned: &Owned, mark| partitions.contains(&owned.partition) && is_behind(owned, mark);
        let commits = self.list(intake, line, goes);
        if commits.is_empty() {
            return;
        }
        board.update(|status| status.commits.sent += 1);
        match source.commit_sync(&commits, timeout) {
            Ok(()) => self.confirmed(&commits, intake, board),
            Err(error) => {
                board.update(|status| status.commits.failed += 1);
                self.failed(error, commits.into_iter().map(|commit| commit.partition).collect(), board);
            }
        }
    }

    /// The last error, if it ends the source.
    pub(super) fn fatal(&self) -> Option<SourceError> {
        self.last_error.as_ref().filter(|error| error.fatal).cloned()
    }

    fn confirmed(&mut self, commits: &[Commit], intake: &mut Intake, board: &Board) {
        self.last_error = None;
        board.update(|status| status.commits.ok += 1);
        commits.iter().for_each(|commit| intake.confirm(commit));
    }

    fn failed(&mut self, error: SourceError, gone: Vec<Partition>, board: &Board) {
        self.retry_at = self.config.clock.monotonic() + self.config.commit_retry;
        board.tell(&Notice::CommitFailed { error: error.clone(), gone });
        self.last_error = Some(error);
    }

    /// The durable offsets of those owned partitions that `goes` picks; never below what the group has.
    fn list(&self, intake: &Intake, line: &Line, goes: impl Fn(&Owned, Mark) -> bool) -> Vec<Commit> {
        line.durable(|table| {
            let durable = |owned: &Owned| {
                let mark = table.get(&owned.partition, owned.topic_id)?;
                if !goes(owned, mark) || owned.committed.is_some_and(|committed| mark.next < committed) {
                    return None;
                }
                let read_before = owned.read_before || mark.read_before;
                let metadata = CommitMark::new(self.log, owned.topic_id, mark.lsn, mark.from).after(read_before);
                Some(Commit { partition: owned.partition.clone(), next: mark.next, metadata: metadata.encode() })
            };
            intake.owned.iter().filter_map(durable).collect()
        })
    }
}

/// The partitions of a commit that are no longer ours.
fn gone(commits: &[Commit], intake: &Intake) -> Vec<Partition> {
    let is_ours = |partition: &Partition| intake.owned.iter().any(|owned| owned.partition == *partition);
    commits.iter().map(|commit| &commit.partition).filter(|partition| !is_ours(partition)).cloned().collect()
}

fn is_behind(owned: &Owned, mark: Mark) -> bool {
    owned.committed.is_none_or(|committed| committed < mark.next)
}
