//! The receiver: the polling thread's loop over intake, line, commits and assignments.

mod stop;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::append::Appender;
use super::assign::{Assignment, Desk, TURN, check_table, recheck};
use super::commits::Commits;
use super::config::Config;
use super::entry::LogId;
use super::error::ReceiveError;
use super::intake::{Intake, Recheck};
use super::line::Line;
use super::offsets::{Recovered, recover};
use super::source::{Event, Partition, Source, SourceError};
use super::status::{Board, Notice, Observer, PartitionStatus, SealCause, Silent, Status, StatusHandle, Step};
use crate::{Error, ErrorKind, Health, Wal};

/// Records taken in a row before anything else is looked at.
const BURST: usize = 256;
/// How long a poll may take while the append thread is at work: what it has to say is no event.
const WORKING: Duration = Duration::from_millis(5);
/// A partition that was told to deliver and is silent for so long is sought again.
const WATCHDOG: Duration = Duration::from_secs(30);
/// How often a full log is spoken of.
const FULL_REMINDER: Duration = Duration::from_secs(60);
/// How often the figures of partitions are renewed, at least.
const REPORT: Duration = Duration::from_secs(1);

/// Takes records from a source into a log, and lets the source forget only what is durable there.
///
/// One thread, the caller of [`run`](Receiver::run), polls the source and never waits for the disk, except,
/// bounded, where partitions are taken away. A second appends and syncs.
///
/// The log is the receiver's own: it refuses one that holds anything else since its last offset table, and nobody else may
/// append to it, nor may another receiver have it while this one lives: the offset table of neither would be of all.
pub struct Receiver {
    wal: Arc<Wal>,
    source: Box<dyn Source>,
    config: Config,
    board: Board,
    recovered: Recovered,
    line: Arc<Line>,
    intake: Intake,
    commits: Commits,
    assignments: Vec<Assignment>,
    pace: Pace,
}

/// What the loop remembers from turn to turn.
#[derive(Default)]
struct Pace {
    news: u64,
    reported_at: Duration,
    paused_at: Option<Duration>,
    /// No second pause, and no second try to resume, before.
    pause_from: Duration,
    resume_from: Duration,
    full_told_at: Option<Duration>,
    /// Stopping, and until when.
    stop_by: Option<Duration>,
}

/// Ends the append thread, which keeps the log open, where the polling thread panics.
struct Unwinding(Arc<Line>);

impl Drop for Unwinding {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.finish(true, Duration::ZERO);
        }
    }
}

impl Receiver {
    /// A receiver of `source` into `wal`. Reads the log's offset table and what follows it.
    ///
    /// # Errors
    /// What the log says; [`Decode`](ReceiveError::Decode) or [`Chain`](ReceiveError::Chain) for a log that is
    /// not a receiver's, or of which no offset table survives; [`TableTooLarge`](ReceiveError::TableTooLarge) for one
    /// whose offset table the segments of today do not hold.
    pub fn new(wal: Arc<Wal>, source: impl Source + 'static, config: Config) -> Result<Receiver, ReceiveError> {
        let mut config = config.bounded();
        config.segment_size = wal.segment_size();
        let recovered = recover(&wal)?;
        // Crash: what was found may be committed at once, so the disk must have it, whatever the log's durability is.
        wal.sync()?;
        check_table(recovered.table.clone(), &[], &config)?;
        let board = Board::new(Arc::new(Silent));
        let line = Arc::new(Line::new(recovered.table.clone()));
        let batch_time = wal.batch_time().0;
        let intake = Intake::new(config.clone(), Arc::clone(&line), board.clone(), recovered.table.clone(), batch_time);
        let commits = Commits::new(LogId(wal.log_id()), config.clone());
        Ok(Receiver {
            wal,
            source: Box::new(source),
            config,
            board,
            recovered,
            line,
            intake,
            commits,
            assignments: Vec::new(),
            pace: Pace::default(),
        })
    }

    /// Has `observer` hear what happens.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Receiver {
        self.board.observe(observer);
        self.intake.board(self.board.clone());
        self
    }

    /// What the log held when it was opened.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// To ask for figures while it runs.
    pub fn status(&self) -> StatusHandle {
        self.board.handle()
    }

    /// Receives until `stop` is set, then stops in order: everything read is durable and committed, the group is
    /// left, the log closed. `stop` is looked at every 100 ms, or every [`Config::retry_interval`] if that is longer, but not
    /// while the source is asked something or a revocation waits for the disk ([`Config::drain_timeout`]).
    ///
    /// # Errors
    /// What ended it. Whatever is in the log stays; what is not will be read again.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Status, ReceiveError> {
        let (wal, line) = (Arc::clone(&self.wal), Arc::clone(&self.line));
        let appender = Appender::new(wal, line, self.config.clone(), self.board.clone(), &self.recovered);
        let spawned = thread::Builder::new().name("seawall-append".into()).spawn(move || appender.run());
        let _unwinding = Unwinding(Arc::clone(&self.line));
        let served = match spawned {
            Ok(_) => self.serve(stop),
            Err(_) => {
                self.line.end(None);
                Err(ReceiveError::AppendThread)
            }
        };
        self.end(served)
    }

    /// The loop.
    fn serve(&mut self, stop: &AtomicBool) -> Result<(), ReceiveError> {
        loop {
            let now = self.config.clock.monotonic();
            self.hear_append_thread(now)?;
            if self.stopped(stop, now)? {
                return Ok(());
            }
            self.intake.seal_if_old(now);
            self.balance(now)?;
            self.advance_assignments()?;
            self.watch(now)?;
            self.commits.send(&mut *self.source, &self.intake, &self.line, &self.board);
            if let Some(error) = self.commits.fatal() {
                return Err(error.into());
            }
            self.report(now);
            self.poll(now)?;
        }
    }

    /// Takes events until there is none, or one that is no record.
    fn poll(&mut self, now: Duration) -> Result<(), ReceiveError> {
        let busy = self.line.waiting() > 0 || !self.assignments.is_empty();
        let most = if busy { WORKING } else { self.config.retry_interval };
        let mut timeout = self.intake.until_old(now).map_or(most, |left| left.min(most));
        for _ in 0..BURST {
            match self.source.poll(timeout) {
                None => {}
                Some(Event::Record(message)) => {
                    let was_open = self.intake.open;
                    self.intake.take(&message)?;
                    if self.intake.open == was_open {
                        timeout = Duration::ZERO;
                        continue;
                    }
                }
                Some(Event::Assigned(partitions)) => self.offered(partitions),
                Some(Event::Revoked { partitions, lost }) => self.revoke(&partitions, lost)?,
                Some(Event::End { partition, next }) => self.intake.end(&partition, next),
                Some(Event::OutOfRange { partition, .. }) => self.doubt(&partition, false),
                Some(Event::Truncated { partition }) => self.doubt(&partition, true),
                Some(Event::Committed(answer)) => {
                    // However often commits are refreshed, records are read beside them.
                    self.commits.answered(answer, &mut self.intake, &self.board);
                    timeout = Duration::ZERO;
                    continue;
                }
                Some(Event::Error(error)) if error.fatal => return Err(error.into()),
                Some(Event::Error(error)) => self.note(error),
            }
            return Ok(());
        }
        Ok(())
    }

    /// Begins with partitions, unless we stop: then leaving the group gives them back.
    fn offered(&mut self, partitions: Vec<Partition>) {
        if self.pace.stop_by.is_some() {
            return;
        }
        self.board.step(Step::Assigning);
        self.begin_anew(&partitions);
        self.assignments.push(Assignment::new(partitions));
    }

    /// Ends the reading of partitions that are offered although they are ours already.
    fn begin_anew(&mut self, partitions: &[Partition]) {
        if self.intake.owned.iter().any(|owned| partitions.contains(&owned.partition)) {
            self.intake.seal(SealCause::Revoked);
            self.intake.let_go(partitions);
        }
        self.assignments.retain_mut(|assignment| assignment.without(partitions));
    }

    /// A position is not in its partition any more, or not what it was.
    fn doubt(&mut self, partition: &Partition, is_cut: bool) {
        let now = self.config.clock.monotonic();
        if let Some(owned) = self.intake.find(partition) {
            let recheck = Recheck { since: None, at: now, is_same_topic: false, is_cut };
            owned.recheck = owned.recheck.filter(|recheck| recheck.is_cut || !is_cut).or(Some(recheck));
        }
    }

    fn note(&self, error: SourceError) {
        self.board.update(|status| status.source_errors += 1);
        self.board.tell(&Notice::SourceError(error));
    }

    /// An error of the source that ends the receiver only if it is fatal.
    fn tolerate(&self, answer: Result<(), SourceError>) -> Result<bool, ReceiveError> {
        match answer {
            Ok(()) => Ok(true),
            Err(error) if error.fatal => Err(error.into()),
            Err(error) => {
                self.note(error);
                Ok(false)
            }
        }
    }

    /// Looks at what the append thread has to say, if there is anything new.
    fn hear_append_thread(&mut self, now: Duration) -> Result<(), ReceiveError> {
        let news = self.line.news();
        if news != self.pace.news {
            self.pace.news = news;
            if let Some(failure) = self.line.failure() {
                return Err(failure);
            }
            self.commits.hurry();
            self.pace.reported_at = Duration::ZERO;
        }
        // While records are taken the log is not asked at each turn: what waits for the disk closes intake.
        let full = if self.intake.open { self.line.full() } else { self.full() };
        let Some(full) = full else {
            self.pace.full_told_at = None;
            return Ok(());
        };
        self.intake.open = false;
        if self.pace.full_told_at.is_none_or(|told| now >= told + FULL_REMINDER) {
            self.pace.full_told_at = Some(now);
            self.board.tell(&Notice::Full(full));
        }
        Ok(())
    }

    /// Why nothing gets durable, if it is for want of room: the log took no more, or the disk not what the log had taken.
    fn full(&self) -> Option<Error> {
        let stalled = || match self.wal.health() {
            health @ Health::DiskFull { .. } => Some(Error::new(ErrorKind::DiskFull, "write", health.to_string())),
            _ => None,
        };
        self.line.full().or_else(stalled)
    }

    /// Pauses where intake is closed, resumes where it can be opened.
    fn balance(&mut self, now: Duration) -> Result<(), ReceiveError> {
        if self.intake.open {
            return Ok(());
        }
        let Some(since) = self.pace.paused_at else {
            self.pause(now)?;
            self.pace.paused_at = Some(now);
            let stopping = self.pace.stop_by.is_some();
            self.board
                .update(|status| (status.paused, status.pauses) = (!stopping, status.pauses + u64::from(!stopping)));
            if !stopping {
                self.board.tell(&Notice::Paused { full: self.full() });
            }
            self.board.step(Step::Paused);
            return Ok(());
        };
        let room = self.config.queue_blocks as u64 / 2;
        let has_room = self.pace.stop_by.is_none() && self.line.waiting() <= room && self.full().is_none();
        if has_room && now >= self.pace.resume_from {
            self.resume(now, since)
        } else if !has_room && self.intake.stragglers > 0 && now >= self.pace.pause_from {
            // Partitions that came since, or a pause that did not hold.
            self.pause(now)
        } else {
            Ok(())
        }
    }

    fn pause(&mut self, now: Duration) -> Result<(), ReceiveError> {
        self.pace.pause_from = now + self.config.retry_interval;
        self.intake.stragglers = 0;
        let owned: Vec<_> = self.intake.owned.iter().map(|owned| owned.partition.clone()).collect();
        let answer = if owned.is_empty() { Ok(()) } else { self.source.pause(&owned) };
        self.tolerate(answer).map(|_| ())
    }

    /// Has all partitions delivered from our own next offsets on: what was dropped meanwhile comes again.
    fn resume(&mut self, now: Duration, since: Duration) -> Result<(), ReceiveError> {
        let mut positions = Vec::new();
        for owned in self.intake.owned.iter_mut().filter(|owned| owned.recheck.is_none()) {
            owned.silent_since = Some(now);
            positions.push((owned.partition.clone(), owned.next));
        }
        let answer = if positions.is_empty() { Ok(()) } else { self.source.resume(&positions) };
        if !self.tolerate(answer)? {
            self.pace.resume_from = now + self.config.retry_interval;
            return Ok(());
        }
        self.intake.open = true;
        self.intake.stragglers = 0;
        self.pace.paused_at = None;
        self.board.update(|status| {
            status.paused = false;
            status.paused_for += now.saturating_sub(since);
        });
        self.board.tell(&Notice::Resumed);
        self.board.step(Step::Resumed);
        Ok(())
    }

    fn advance_assignments(&mut self) -> Result<(), ReceiveError> {
        while let Some(mut assignment) = self.assignments.first_mut().map(std::mem::take) {
            let is_done = assignment.advance(&mut self.desk())?;
            if !is_done {
                if let Some(first) = self.assignments.first_mut() {
                    *first = assignment;
                }
                return Ok(());
            }
            self.assignments.remove(0);
            self.pace.reported_at = Duration::ZERO;
        }
        Ok(())
    }

    fn desk(&mut self) -> Desk<'_> {
        Desk {
            source: &mut *self.source,
            intake: &mut self.intake,
            line: &self.line,
            config: &self.config,
            board: &self.board,
            log: LogId(self.wal.log_id()),
        }
    }

    /// Asks about positions that are out of range, and seeks partitions that should speak and are silent.
    fn watch(&mut self, now: Duration) -> Result<(), ReceiveError> {
        if !self.intake.open {
            return Ok(());
        }
        while self.config.clock.monotonic() < now + TURN && recheck(&mut self.desk())? {}
        let silent = |since: Option<Duration>| since.is_some_and(|since| now >= since + WATCHDOG);
        let mut positions = Vec::new();
        for owned in &mut self.intake.owned {
            if owned.recheck.is_none() && silent(owned.silent_since) {
                owned.silent_since = Some(now);
                positions.push((owned.partition.clone(), owned.next));
            }
        }
        if positions.is_empty() {
            return Ok(());
        }
        self.board.update(|status| status.watchdog_seeks += positions.len() as u64);
        let answer = self.source.resume(&positions);
        self.tolerate(answer).map(|_| ())
    }

    /// Lets partitions go: what was read of them durable and committed first, as far as time allows.
    fn revoke(&mut self, partitions: &[Partition], lost: bool) -> Result<(), ReceiveError> {
        self.board.step(Step::Revoking);
        let deadline = Instant::now() + self.config.drain_timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.assignments.retain_mut(|assignment| assignment.without(partitions));
        self.intake.seal(SealCause::Revoked);
        let mut drained = true;
        if !lost {
            // Crash: the next owner begins at the commit, so it follows what is durable.
            drained = self.line.drain(left());
            self.board.step(Step::RevokeDrained);
            let (source, intake, timeout) =
                (&mut *self.source, &mut self.intake, left().max(self.config.retry_interval));
            self.commits.send_and_wait(source, intake, &self.line, partitions, timeout, &self.board);
            self.board.step(Step::RevokeCommitted);
        }
        self.intake.let_go(partitions);
        let answer = self.source.unassign(partitions);
        self.tolerate(answer)?;
        let count = partitions.len() as u64;
        self.board.update(|status| {
            *(if lost { &mut status.lost } else { &mut status.revoked }) += count;
            status.drain_timeouts += u64::from(!drained);
        });
        self.board.tell(&Notice::Revoked { partitions: partitions.to_vec(), lost, drained });
        self.board.step(Step::Revoked);
        self.pace.reported_at = Duration::ZERO;
        Ok(())
    }

    /// Puts the figures on the board, when something changed or it is time.
    fn report(&mut self, now: Duration) {
        self.intake.report();
        if now < self.pace.reported_at + REPORT && !self.pace.reported_at.is_zero() {
            return;
        }
        self.pace.reported_at = now;
        let partitions = self.line.durable(|table| {
            let status = |owned: &super::intake::Owned| PartitionStatus {
                partition: owned.partition.clone(),
                next: owned.next,
                durable: table.get(&owned.partition, owned.topic_id).map(|mark| mark.next),
                committed: owned.committed,
            };
            self.intake.owned.iter().map(status).collect()
        });
        let (queued, full) = (self.line.waiting(), self.full());
        self.board.update(|status| {
            status.partitions = partitions;
            status.queued = queued;
            status.full = full;
        });
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests;
