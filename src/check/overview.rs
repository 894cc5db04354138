//! What lies in a log's directory: each file, what it is, and why it is kept.

mod newest;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bugs::Bugs;
use crate::clean::{Holds, Why};
use crate::error::{Error, Result};
use crate::format::{self, BLOCK, FrameKind, MARK, Seal, aside_of, is_unfinished, segment_base, segment_name};
use crate::lsn::{BatchTime, Lsn};
use crate::recovery::{Found, TRIES, missing, read_marks, words};
use crate::scan::{Chunk, Place, Window, frame_at};
use crate::storage::Storage;

use super::Fault;
use super::examine::{Depth, Examined, examine};
use super::plan::Piece;
use super::subject::Subject;
use super::tally::Tally;
use super::walk::{Walked, walk};
use newest::Newest;

/// What a log is made of, as it was at one moment. From [`inspect`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Overview {
    /// The log's identity, where any segment or MARK tells it.
    pub log_id: Option<[u8; 16]>,
    /// Where the log begins: all below was cleaned, or passed over by a repair.
    pub first: Lsn,
    /// Everything below is known to be durable, and is what readers see.
    pub durable: Lsn,
    /// The last durable checkpoint.
    pub checkpoint: Option<Lsn>,
    /// Bytes of frames from it on, up to `durable`; of the whole log if there is none.
    pub since_checkpoint: u64,
    /// By name.
    pub cursors: Vec<CursorInfo>,
    /// MARK, which says how far the log is durable and where it begins.
    pub mark: MarkState,
    /// All segment files, and those that are missing, by base.
    pub segments: Vec<SegmentInfo>,
    /// Files that recovery or a repair moved aside.
    pub aside: Vec<FileInfo>,
    /// What is not the log's.
    pub foreign: Vec<FileInfo>,
    /// Bytes of all the log's files, those moved aside included.
    pub disk_bytes: u64,
    /// Valid records of the log, as far as links and the newest segment tell; of sealed segments all, known to be durable
    /// or not.
    pub records: u64,
    /// Records since the log was made, cleaned and lost ones included: it only grows, as long as the newest segment's link
    /// is sound.
    pub appended: u64,
    /// What is damaged, as far as can be told without reading all: [`verify`](super::verify) tells the rest.
    pub faults: Vec<Fault>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// A segment file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its name.
    pub file: String,
    /// Where it begins.
    pub base: Lsn,
    /// Where its last record ends, where that is known; of the newest the durable point.
    pub end: Option<Lsn>,
    /// The bytes it was made with; `None` without a sound header.
    pub capacity: Option<u64>,
    /// The bytes of the file.
    pub length: u64,
    /// Its valid records, where that is known: of a sealed one that is not seen to be damaged, what the next link says;
    /// what a repair passed over is not among them.
    pub records: Option<u64>,
    /// The lowest and the highest batch time of its records.
    pub batch_times: Option<(BatchTime, BatchTime)>,
    /// What it is.
    pub state: State,
    /// Why it was not cleaned; `None` if it is not part of the log.
    pub kept: Option<Why>,
    /// The last record up to here, as far as that is known.
    last_record: u64,
}

/// What a segment file is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The newest of the log: a writer that has it open may append to it.
    Active,
    /// Part of the log, and complete.
    Sealed,
    /// Made and not used yet.
    Prepared,
    /// Cleaned: waits to be recycled or removed.
    Spare,
    /// Cut off by a recovery: it holds what nobody was told was durable.
    CutOff,
    /// It is damaged as far as can be seen without reading all: its header is, or is another's, or something behind it;
    /// in words.
    Damaged(String),
    /// It was part of the log, and there is no such file.
    Missing,
    /// Read on its own: only the whole log tells what it is.
    Lone,
}

/// A cursor, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CursorInfo {
    /// Its name.
    pub name: String,
    /// Everything below was released.
    pub lsn: Lsn,
    /// Bytes of frames from there up to the durable point: how far its reader is behind.
    pub lag: u64,
    /// Bytes of the sealed segment files that cannot be cleaned because of it.
    pub holds: u64,
}

/// What MARK is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarkState {
    /// Both slots are sound.
    Sound,
    /// One of the two slots is damaged, or another log's; the other one serves.
    OneSlot,
    /// There is none.
    Missing,
    /// Neither slot is sound.
    Damaged,
    /// Another log's.
    Foreign,
    /// A file was read on its own, of whose log nothing is known.
    #[default]
    Unknown,
}

/// A file beside the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// Its name.
    pub name: String,
    /// Its bytes; 0 of what is no plain file.
    pub length: u64,
}

/// Looks at the log in the directory `path`, or at a segment file on its own.
///
/// Reads the newest segment, 8 KiB of each other, and all of those that are seen by that to be damaged; beside a writer
/// what it had at that moment.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # let wal = seawall::Wal::open(dir)?;
/// # wal.append(b"order 17")?.wait()?;
/// for segment in seawall::check::inspect(dir)?.segments {
///     println!("{}: {:?}, kept because {:?}", segment.file, segment.state, segment.kept);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`verify`](super::verify). Damage is no error: it is in the answer.
pub fn inspect(path: impl AsRef<Path>) -> Result<Overview> {
    look(&Subject::at(path.as_ref()))
}

/// As [`inspect`], of the log in a storage of your own.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_on(storage: Arc<dyn Storage>) -> Result<Overview> {
    look(&Subject::log(storage))
}

/// How long a look is repeated beside a writer that is faster than it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

fn look(subject: &Subject) -> Result<Overview> {
    let (begun, mut tries, mut durable) = (Instant::now(), 0, None);
    loop {
        let (overview, settled) = look_once(subject)?;
        // Where a writer goes on the next look is another chance.
        tries = if durable.replace(overview.durable) == Some(overview.durable) { tries + 1 } else { 0 };
        if settled || tries == TRIES || begun.elapsed() > PATIENCE {
            return Ok(overview);
        }
    }
}

/// Also tells whether what was seen belongs together: a writer may recycle a segment between two looks at it.
fn look_once(subject: &Subject) -> Result<(Overview, bool)> {
    let mut examined = examine(subject, Depth::End, 1, &Tally::untold())?;
    let (first, end) = (examined.report.first.0, examined.report.end.0);
    let bases: Vec<u64> = examined.pieces.iter().map(|piece| examined.plan.base_of(piece)).collect();
    // What lies above a torn tail is no part of the log.
    examined.pieces.truncate(bases.partition_point(|base| *base == first || *base < end));
    let survey = &examined.plan.survey;
    let mut overview = Overview {
        log_id: survey.log_id,
        first: examined.report.first,
        durable: Lsn(examined.shown),
        faults: examined.report.faults.clone(),
        notes: examined.report.notes.clone(),
        ..Overview::default()
    };
    let newest = Newest::read(subject, &examined, examined.newest())?;
    let settled = newest.reaches(&examined) && !examined.overtaken || !overview.faults.is_empty();
    overview.checkpoint = checkpoint(subject, &examined, &newest)?;
    let last = examined.last_checkpoint();
    let is_told = settled && !subject.is_lone() && (1..examined.shown).contains(&last);
    if is_told && !holds_checkpoint(subject, &examined, last)? {
        let what = "the last checkpoint is lost: repair what is damaged, if anything is, and append one anew";
        overview.notes.push(format!("LSN {last}: {what}"));
    }
    overview.segments = segments(subject, &examined, &newest)?;
    if !subject.is_lone() {
        overview.mark = mark(&*subject.storage, survey.log_id)?;
        overview.list(&*subject.storage, &examined.plan.displaced)?;
        overview.explain(&newest.cursors(survey.front));
        if newest.is_unlinked(&examined) {
            let what = "the newest segment's link is damaged: where the cursors stand and the last checkpoint is, and how \
                        many records there were, is told only as far as later frames say it; a repair finds it again";
            overview.notes.push(what.to_owned());
        } else if examined.may_lose_notes() {
            let what = "what is lost may have told where cursors stand and the last checkpoint is: they are shown as they were \
                        before";
            overview.notes.push(what.to_owned());
        }
    }
    overview.segments.sort_by_key(|segment| segment.base);
    let counts = overview.log().filter_map(|segment| segment.records);
    // Whatever damaged links may say.
    overview.records = counts.fold(0, u64::saturating_add);
    overview.appended = newest.appended(&examined);
    overview.since_checkpoint = overview.bytes_from(overview.checkpoint.unwrap_or_default());
    overview.disk_bytes += overview.segments.iter().map(|segment| segment.length).sum::<u64>();
    Ok((overview, settled))
}

/// The last checkpoint that is durable. Where the newest segment tells of a later one, the one in which what is shown ends
/// tells.
fn checkpoint(subject: &Subject, examined: &Examined, newest: &Newest) -> Result<Option<Lsn>> {
    let (front, shown) = (examined.plan.survey.front, examined.shown);
    let mut last = newest.checkpoint();
    if last >= shown {
        let mut members = examined.pieces.iter().filter_map(Piece::member);
        let index = members.rfind(|index| examined.plan.base(*index) < shown);
        last = Newest::read(subject, examined, index)?.checkpoint();
    }
    Ok((last > 0 && (front..shown).contains(&last)).then_some(Lsn(last)))
}

/// Whether a checkpoint lies there: one that the newest segment tells of may be lost.
fn holds_checkpoint(subject: &Subject, examined: &Examined, lsn: u64) -> Result<bool> {
    let mut members = examined.pieces.iter().filter_map(Piece::member);
    let Some((found, place)) =
        members.rfind(|index| examined.plan.base(*index) < lsn).and_then(|at| shown(examined, at))
    else {
        return Ok(false);
    };
    let frame = frame_at(
        &mut Window::new(&*found.file, place.limit, &mut Chunk::default()),
        &place,
        lsn - place.base,
        Bugs::default(),
    );
    let frame = frame.map_err(|e| Error::io("read", subject.path(&found.name), e))?;
    Ok(frame.is_some_and(|frame| frame.kind == Some(FrameKind::Checkpoint)))
}

/// What a segment of the log holds of what is shown, behind damaged places too, if anything tells how to read it.
fn contents(subject: &Subject, examined: &Examined, index: usize) -> Result<Walked> {
    let Some((found, place)) = shown(examined, index) else { return Ok(Walked::default()) };
    let end = examined.plan.parts.get(index).and_then(|part| part.seal).map(|seal| seal.end);
    let io = |e| Error::io("read", subject.path(&found.name), e);
    let walked = walk(&*found.file, &place, end, |_| true).map_err(io)?;
    // As for readers, what is shown ends before a frame in which the durable point lies: frames in its payload do not count.
    let whole = examined.plan.parts.get(index).and_then(|part| part.place).unwrap_or(place);
    let mut chunk = Chunk::one(0);
    for hole in &walked.holes {
        let mut window = Window::new(&*found.file, whole.limit, &mut chunk);
        if frame_at(&mut window, &whole, hole.from, Bugs::default()).map_err(io)?.is_some() {
            return walk(&*found.file, &Place { limit: hole.from, ..place }, end, |_| true).map_err(io);
        }
    }
    Ok(walked)
}

/// A segment, and where the frames lie that are shown of it.
fn shown(examined: &Examined, index: usize) -> Option<(&Found, Place)> {
    let place = examined.plan.parts.get(index)?.place.as_ref()?;
    let limit = examined.shown.saturating_sub(place.base).min(place.limit);
    Some((examined.plan.survey.segments.get(index)?, Place { limit, ..*place }))
}

/// The segments from the front on.
fn segments(subject: &Subject, examined: &Examined, newest: &Newest) -> Result<Vec<SegmentInfo>> {
    let plan = &examined.plan;
    let members: Vec<usize> = examined.pieces.iter().filter_map(Piece::member).collect();
    let links = || plan.parts.iter().filter_map(|part| part.link.as_ref());
    let gone = |(base, end)| SegmentInfo { records: None, ..SegmentInfo::missing(base, end, 0) };
    let mut segments: Vec<SegmentInfo> = examined.pieces.iter().filter_map(absent).collect();
    segments.extend(examined.gone.map(gone));
    for (index, (found, part)) in plan.survey.segments.iter().zip(&plan.parts).enumerate() {
        let (is_member, is_newest) = (members.contains(&index), newest.index == Some(index));
        if found.header.is_err() && !is_member && plan.is_read_elsewhere(found) {
            continue;
        }
        // What was durable beyond it lay in one that is gone.
        let limit = found.header.as_ref().map_or(u64::MAX, |(header, _)| header.capacity);
        let is_active = is_newest && examined.shown <= found.base.saturating_add(limit);
        // Under one name two segments may be wrong: the one that lies there, and the one that should.
        let of_it =
            |fault: &&Fault| fault.segment == found.name && fault.lsn.0.checked_sub(fault.offset) == Some(found.base);
        let fault = examined.report.faults.iter().find(of_it).filter(|_| is_member);
        let mut info = SegmentInfo {
            file: found.name.clone(),
            base: Lsn(found.base),
            end: None,
            capacity: found.header.as_ref().ok().map(|(header, _)| header.capacity),
            length: found.length,
            records: None,
            batch_times: None,
            state: match (&found.header, fault) {
                (Err(what), _) => State::Damaged((*what).to_owned()),
                _ if subject.is_lone() => State::Lone,
                (_, Some(fault)) => State::Damaged(fault.what.clone()),
                _ if is_active => State::Active,
                _ if is_member => State::Sealed,
                _ if part.written => State::CutOff,
                _ => State::Prepared,
            },
            kept: is_newest.then_some(Why::Newest).filter(|_| !subject.is_lone()),
            last_record: 0,
        };
        let sealed = links().rfind(|link| link.prev_base == found.base && is_member && !is_newest);
        if fault.is_some() {
            let walked = contents(subject, examined, index)?;
            let end = sealed.map_or_else(|| found.base.saturating_add(walked.end), |link| link.prev_end);
            info.hold(walked.found.seal(end, part.link.as_ref().map_or(0, |link| link.last_record)));
        } else if let Some(link) = sealed {
            info.hold(found.left.as_ref().map_or(link.seal(), |left| left.seal(link.seal())));
        } else if is_active {
            info.hold(newest.walked.found.seal(examined.shown.max(found.base), newest.link.last_record));
        } else if is_member && part.place.is_some() {
            // The link that said how it ended is lost.
            let walked = contents(subject, examined, index)?;
            info.hold(walked.found.seal(found.base.saturating_add(walked.end), 0));
        }
        segments.push(info);
    }
    Ok(segments)
}

/// A segment that a link names and of which there is no file.
fn absent(piece: &Piece) -> Option<SegmentInfo> {
    let Piece::Missing { base, end, records, .. } = *piece else { return None };
    Some(SegmentInfo::missing(base, end, records))
}

impl SegmentInfo {
    fn missing(base: u64, end: u64, records: u64) -> SegmentInfo {
        SegmentInfo {
            file: segment_name(base),
            base: Lsn(base),
            end: Some(Lsn(end)),
            capacity: None,
            length: 0,
            records: Some(records),
            batch_times: None,
            state: State::Missing,
            kept: None,
            last_record: end.saturating_sub(4),
        }
    }

    fn hold(&mut self, seal: Seal) {
        let Seal { end, records, last_record, min_time, max_time } = seal;
        (self.end, self.records, self.last_record) = (Some(Lsn(end)), Some(records), last_record);
        self.batch_times = (records > 0).then_some((BatchTime(min_time), BatchTime(max_time)));
    }

    /// Whether it is a file of the log: sealed, or the newest.
    pub fn is_log(&self) -> bool {
        self.end.is_some() && self.state != State::Missing
    }
}

impl Overview {
    /// The files that the log is made of.
    fn log(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.segments.iter().filter(|segment| segment.is_log())
    }

    /// Bytes of frames from `lsn` up to the durable point.
    fn bytes_from(&self, lsn: Lsn) -> u64 {
        let from = |segment: &SegmentInfo| lsn.0.max(segment.base.0.saturating_add(u64::from(BLOCK)));
        let within = |segment: &SegmentInfo| segment.end.unwrap_or_default().0.saturating_sub(from(segment));
        self.log().map(within).sum()
    }

    /// Adds what lies beside the segments of the log, or is `displaced`, unless a writer takes it away meanwhile.
    fn list(&mut self, storage: &dyn Storage, displaced: &[String]) -> Result<()> {
        let known = |segments: &[SegmentInfo], name: &str| segments.iter().any(|segment| segment.file == name);
        for (name, plain) in storage.list().map_err(|e| Error::io("list", storage.path(), e))? {
            let name = name.to_string_lossy().into_owned();
            // What is no plain file may make whoever opens it wait.
            let opened = plain.then(|| storage.open(&name, false).and_then(|file| file.len()));
            let length = opened.and_then(|length| length.ok()).unwrap_or(0);
            match segment_base(&name).filter(|_| plain) {
                Some(base) if !known(&self.segments, &name) => {
                    // What is not displaced was made since.
                    let state = if Lsn(base) < self.first {
                        Some(State::Spare)
                    } else {
                        displaced.contains(&name).then(|| State::Damaged(words::DISPLACED.to_owned()))
                    };
                    let nothing = SegmentInfo::missing(base, 0, 0);
                    let there = |state| SegmentInfo { end: None, length, records: None, state, ..nothing };
                    self.segments.extend(state.map(there));
                }
                Some(_) => {}
                // One of the log's segments may lie under any name.
                None if known(&self.segments, &name) => {}
                None if plain && (name == MARK || is_unfinished(&name)) => self.disk_bytes += length,
                None if plain && aside_of(&name).is_some() => {
                    self.disk_bytes += length;
                    self.aside.push(FileInfo { name, length });
                }
                None => self.foreign.push(FileInfo { name, length }),
            }
        }
        self.aside.sort_by(|a, b| a.name.cmp(&b.name));
        self.foreign.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Says why each segment is kept, and what the cursors cost.
    fn explain(&mut self, cursors: &[format::Cursor]) {
        let holds = Holds {
            synced: self.durable.0,
            checkpoint: self.checkpoint.unwrap_or_default().0,
            cursor: cursors.iter().min_by_key(|cursor| cursor.lsn).cloned(),
            bugs: Bugs::default(),
        };
        let log: Vec<(Lsn, Lsn)> = self.log().filter_map(|segment| Some((segment.base, segment.end?))).collect();
        let mut first: Option<String> = None;
        for segment in self.segments.iter_mut().filter(|segment| segment.is_log() && segment.kept.is_none()) {
            let next = log.iter().find(|(base, _)| *base > segment.base).map(|(base, _)| base.0);
            let held = holds.back(segment.end.unwrap_or_default().0, segment.last_record, next);
            let free = first.clone().map_or(Why::NotCleaned, Why::Behind);
            if held.is_some() {
                first.get_or_insert_with(|| segment.file.clone());
            }
            segment.kept = Some(held.unwrap_or(free));
        }
        let cost = |cursor: &format::Cursor| {
            let lsn = Lsn(cursor.lsn);
            let holds =
                self.log().filter(|s| s.kept != Some(Why::Newest) && s.last_record >= lsn.0).map(|s| s.length).sum();
            CursorInfo { name: cursor.name.clone(), lsn, lag: self.bytes_from(lsn), holds }
        };
        self.cursors = cursors.iter().map(cost).collect();
    }
}

fn mark(storage: &dyn Storage, log_id: Option<[u8; 16]>) -> Result<MarkState> {
    let marks = match read_marks(storage) {
        Err(e) if missing(&e) => return Ok(MarkState::Missing),
        marks => marks?,
    };
    let ours = marks.iter().filter(|mark| Some(mark.log_id) == log_id).count();
    Ok(match (ours, marks.len()) {
        (2, _) => MarkState::Sound,
        (1, _) => MarkState::OneSlot,
        (_, 0) => MarkState::Damaged,
        _ => MarkState::Foreign,
    })
}
