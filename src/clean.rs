//! Cleaning: removes a prefix of sealed segments, and says why the others stay.

use std::fmt;
use std::sync::Arc;

use crate::bugs::{Bug, Bugs};
use crate::error::{Error, Result, plural};
use crate::events;
use crate::format::{Cursor, Seal, segment_name};
use crate::lsn::{BatchTime, Lsn};
use crate::segment::Segment;
use crate::writer::{Writer, closed};

/// What a clean did. Segments that the limit does not concern are not mentioned. Printed, it is a line.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Cleaned {
    /// All below was cleaned. Where nothing was removed it need not be durable that the log begins there.
    pub first: Lsn,
    /// The segments that are gone from the log.
    pub removed: Vec<String>,
    /// The segments below the limit that stayed, and why; before them the first that lies above it, if it holds them
    /// back.
    pub kept: Vec<Kept>,
    /// Files that are gone from the log and could not be removed from the directory; the next clean tries again.
    pub failed: Vec<(String, String)>,
}

/// A segment that stayed. Printed, it is a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Its file.
    pub segment: String,
    /// Why.
    pub why: Why,
}

/// Why an old segment stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It is the newest, which is never removed.
    Newest,
    /// The segment after it is not durable yet: it was begun meanwhile, or the disk is full.
    NotDurable,
    /// It holds a record at or above the limit: this batch time is its highest.
    BatchTime(BatchTime),
    /// It holds a record at or above the limit: this is its end.
    Lsn(Lsn),
    /// It holds the last durable checkpoint, or lies above it.
    Checkpoint(Lsn),
    /// A cursor has not been released so far.
    Cursor {
        /// Its name.
        name: String,
        /// Where it stands.
        lsn: Lsn,
    },
    /// A segment before it stays, and only a prefix is removed.
    Behind(String),
    /// Nothing holds it back: it was not cleaned. Told by [`Wal::kept`](crate::Wal::kept) alone.
    NotCleaned,
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = plural(self.removed.len() as u64, "segment");
        write!(f, "{removed} removed, the log begins at LSN {}", self.first)?;
        self.kept.iter().try_for_each(|kept| write!(f, "; {kept}"))?;
        self.failed.iter().try_for_each(|(file, why)| write!(f, "; {file} cannot be removed yet: {why}"))
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stays: {}", self.segment, self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Newest => write!(f, "the newest, which is never removed"),
            Why::NotDurable => write!(f, "the segment after it is not durable yet"),
            Why::BatchTime(time) => write!(f, "holds a record of batch time {time}"),
            Why::Lsn(lsn) => write!(f, "holds records up to LSN {lsn}"),
            Why::Checkpoint(lsn) => write!(f, "the last checkpoint, at LSN {lsn}"),
            Why::Cursor { name, lsn } => write!(f, "cursor {name}, at LSN {lsn}"),
            Why::Behind(segment) => write!(f, "behind {segment}, which stays"),
            Why::NotCleaned => write!(f, "not cleaned: nothing holds it back"),
        }
    }
}

/// What no clean passes, whatever its limit.
#[derive(Debug)]
pub(crate) struct Holds {
    /// The durable point.
    pub(crate) synced: u64,
    /// The last durable checkpoint; 0 if there is none.
    pub(crate) checkpoint: u64,
    /// The cursor that stands lowest.
    pub(crate) cursor: Option<Cursor>,
    pub(crate) bugs: Bugs,
}

impl Holds {
    /// What holds a segment back that ends at `end`, with its last record or the last before it, before the one at the
    /// base `next`.
    pub(crate) fn back(&self, end: u64, last_record: u64, next: Option<u64>) -> Option<Why> {
        // Crash: the front must not pass the durable point. A segment begins there once its link is durable.
        if next.is_none_or(|next| next >= self.synced) {
            return Some(Why::NotDurable);
        }
        if self.checkpoint > 0 && self.checkpoint < end && !self.bugs.has(Bug::CleanPastCheckpoint) {
            return Some(Why::Checkpoint(Lsn(self.checkpoint)));
        }
        let holds = |cursor: &&Cursor| cursor.lsn <= last_record && !self.bugs.has(Bug::CleanPastCursor);
        let cursor = self.cursor.as_ref().filter(holds);
        cursor.map(|cursor| Why::Cursor { name: cursor.name.clone(), lsn: Lsn(cursor.lsn) })
    }
}

/// Up to where to clean.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Segments all of whose records are older.
    BatchTime(BatchTime),
    /// Segments all of whose records lie below.
    Lsn(Lsn),
}

impl Limit {
    /// Whether a segment lies wholly below.
    fn covers(self, segment: &Segment, seal: &Seal) -> bool {
        match self {
            Limit::BatchTime(time) => seal.records == 0 || seal.max_time < time.0,
            Limit::Lsn(lsn) => segment.base < lsn.0 && seal.last_record < lsn.0,
        }
    }

    /// Whether a segment lies below at least in part.
    fn touches(self, segment: &Segment, seal: &Seal) -> bool {
        match self {
            // Of none the lowest time is the highest that there is.
            Limit::BatchTime(time) => seal.min_time < time.0,
            Limit::Lsn(lsn) => segment.base < lsn.0,
        }
    }

    /// Why a segment that does not lie wholly below stays.
    fn passed(self, seal: &Seal) -> Why {
        match self {
            Limit::BatchTime(_) => Why::BatchTime(BatchTime(seal.max_time)),
            Limit::Lsn(_) => Why::Lsn(Lsn(seal.end)),
        }
    }
}

/// Removes what lies wholly below the limit. One at a time.
///
/// Needs no block, no segment and no frame, so that it works with zero bytes free; only a MARK that is missing has to
/// be made first.
pub(crate) fn clean(writer: &Writer, limit: Limit) -> Result<Cleaned> {
    let cleaned = clean_all(writer, limit)?;
    // Where there was no room before there may be now. Crash: notes may come after what went on their word, for recovery
    // raises a cursor to the front, which is durable.
    if writer.note_owed() {
        _ = writer.sync_once()?;
    }
    Ok(cleaned)
}

fn clean_all(writer: &Writer, limit: Limit) -> Result<Cleaned> {
    // On a disk too full for what waits in memory, what is durable already can still go. Before any lock: this wakes
    // whoever waited, and what they do may be to clean.
    _ = writer.sync_once()?;
    let _hush = writer.commit.hush();
    let _one = writer.cleaning.lock();
    let ended = writer.ended.read();
    if *ended {
        return Err(closed());
    }
    writer.tidy()?;
    let segments: Vec<Arc<Segment>> = writer.segments.read().iter().cloned().collect();
    let mut cleaned = Cleaned::default();
    let gone = choose(writer, limit, &segments, &mut cleaned);
    let front = segments.get(gone).map_or(0, |segment| segment.base);
    cleaned.first = Lsn(front);
    let removed = if gone > 0 { retire(writer, front, gone)? } else { Vec::new() };
    drop(segments);
    cleaned.removed = removed.iter().map(|segment| segment.name.clone()).collect();
    // Whatever failed meanwhile: nothing more goes.
    let failed = writer.maker.discard(&*writer.storage, removed, || !writer.commit.is_poisoned());
    writer.sound()?;
    cleaned.failed = failed.into_iter().map(|(name, e)| (name, e.to_string())).collect();
    if gone > 0 {
        writer.storage.sync_dir().map_err(|e| writer.fail(&Error::io("sync", writer.storage.path(), e)))?;
        events::cleaned(writer.storage.path(), cleaned.first, gone, cleaned.failed.len());
    }
    Ok(cleaned)
}

/// See [`Wal::kept`](crate::Wal::kept).
pub(crate) fn kept(writer: &Writer) -> Vec<Kept> {
    let segments: Vec<Arc<Segment>> = writer.segments.read().iter().cloned().collect();
    let mut cleaned = Cleaned::default();
    let gone = choose(writer, Limit::Lsn(Lsn::MAX), &segments, &mut cleaned);
    let free = |segment: &Arc<Segment>| Kept { segment: segment.name.clone(), why: Why::NotCleaned };
    segments.iter().take(gone).map(free).chain(cleaned.kept).collect()
}

/// How many segments from the front may go; notes why the next ones stay.
fn choose(writer: &Writer, limit: Limit, segments: &[Arc<Segment>], cleaned: &mut Cleaned) -> usize {
    let (holds, active) = {
        let framing = writer.framing.lock();
        // Under the lock: checkpoints below an older point may be forgotten.
        let synced = writer.commit.synced();
        let checkpoint = framing.checkpoint_below(synced);
        let cursor = framing.cursors.iter().min_by_key(|cursor| cursor.lsn).cloned();
        (Holds { synced, checkpoint, cursor, bugs: writer.options.bugs }, framing.unsealed())
    };
    let mut gone = 0;
    let mut kept: Option<String> = None;
    // Lies above the limit: told only if something below the limit is behind it.
    let mut above: Option<Kept> = None;
    for (n, segment) in segments.iter().enumerate() {
        // All but the newest are sealed: the framing lock was taken since the segments were counted, and whoever begins
        // a segment seals the one before it under that. The newest may be by now.
        let seal = segment.sealed();
        let newest = n + 1 == segments.len();
        let touched = match (seal, active) {
            (Some(seal), _) => limit.touches(segment, seal),
            (None, Some((base, seal))) => base == segment.base && limit.touches(segment, &seal),
            (None, None) => false,
        };
        let before = kept.is_none() && (newest || seal.is_none_or(|seal| limit.covers(segment, seal)));
        if !touched && !before {
            if let (None, Some(seal)) = (&kept, seal) {
                above = Some(Kept { segment: segment.name.clone(), why: limit.passed(seal) });
                kept = Some(segment.name.clone());
            }
            continue;
        }
        cleaned.kept.extend(above.take());
        let why = match seal.filter(|_| !newest) {
            None => Some(Why::Newest),
            Some(seal) if !limit.covers(segment, seal) => Some(limit.passed(seal)),
            Some(seal) => holds.back(seal.end, seal.last_record, segments.get(n + 1).map(|next| next.base)),
        };
        match (why, &kept) {
            (None, None) => gone += 1,
            (None, Some(before)) => {
                cleaned.kept.push(Kept { segment: segment.name.clone(), why: Why::Behind(before.clone()) });
            }
            (Some(why), _) => {
                kept.get_or_insert_with(|| segment.name.clone());
                cleaned.kept.push(Kept { segment: segment.name.clone(), why });
            }
        }
    }
    gone
}

/// Says durably that the log begins at `front`, and takes the segments below out of it.
fn retire(writer: &Writer, front: u64, gone: usize) -> Result<Vec<Arc<Segment>>> {
    writer.mark.ensure(&*writer.storage).map_err(|failed| writer.poison_unsynced(failed))?;
    writer.maker.clear_below(&*writer.storage, front).map_err(|failed| writer.poison_unsynced(failed))?;
    writer.framing.lock().front = front;
    // Crash: files below the front go only once MARK says so durably; before, nothing happened.
    writer.write_mark(!writer.options.bugs.has(Bug::FrontNotSynced))?;
    let mut segments = writer.segments.write();
    debug_assert_eq!(segments.get(gone).map(|first| first.name.clone()), Some(segment_name(front)));
    Ok(segments.drain(..gone).collect())
}
