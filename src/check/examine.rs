//! From a directory to its faults: reads segments in parallel, and looks again at what a live writer may have moved.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result, cancelled, plural};
use crate::format::{BLOCK, segment_name};
use crate::lsn::Lsn;
use crate::progress::Progress;
use crate::recovery::{Found, TRIES, short};

use super::plan::{Piece, Plan};
use super::subject::Subject;
use super::walk::{Hole, Walked, walk};
use super::{Fault, Report, Tell};

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// All segments.
    All,
    /// What it takes to know where the log ends: the segments whose end no link or MARK says is durable, and those that
    /// are seen to be damaged without reading all of them, by their header, their link or their length.
    End,
}

/// A log and what is wrong with it.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) plan: Plan,
    pub(super) pieces: Vec<Piece>,
    /// Of each segment, whether it was read.
    pub(super) walked: Vec<bool>,
    /// The highest claim.
    pub(super) durable: u64,
    /// Everything below may be shown.
    pub(super) shown: u64,
    /// Complete for `Depth::All` only.
    pub(super) report: Report,
}

pub(super) fn examine(subject: &Subject, depth: Depth, threads: usize, progress: Tell<'_>) -> Result<Examined> {
    let (mut plan, mut walks) = look(subject, depth, threads, progress, &HashMap::new())?;
    for _ in 0..TRIES {
        if !begun_since(&plan, &walks) {
            break;
        }
        let sound = sound(&plan, walks);
        (plan, walks) = look(subject, depth, threads, progress, &sound)?;
    }
    let lone = subject.is_lone();
    let durable = durable(&plan, &walks, lone);
    let first = resolve(plan, &walks, durable, lone)?;
    if first.report.is_clean() {
        return Ok(first);
    }
    // Beside a writer, a frame may have been written after its place was read and before it was claimed to be
    // durable, and a segment cleaned. What was durable before it is read now is damaged for certain.
    let sound = sound(&first.plan, walks);
    let (plan, walks) = look(subject, depth, threads, progress, &sound)?;
    let mut second = resolve(plan, &walks, durable, lone)?;
    let seen = first.report.faults;
    let front = subject.front()?;
    let faults = &mut second.report.faults;
    let found = faults.len();
    faults.retain(|fault| fault.lsn.0 >= front && seen.iter().any(|s| s.lsn == fault.lsn));
    if found > faults.len() {
        second.report.notes.push("segments were cleaned while they were read".to_owned());
    }
    Ok(second)
}

/// What was read of each segment.
type Walks = Vec<Option<Walked>>;
/// What was read before and was sound, by base, seed and end.
type Sound = HashMap<(u64, u32, u64), Walked>;

fn look(subject: &Subject, depth: Depth, threads: usize, progress: Tell<'_>, sound: &Sound) -> Result<(Plan, Walks)> {
    let plan = subject.plan()?;
    let known = plan.survey.claim();
    let mut walks: Walks = Vec::new();
    let mut jobs = Vec::new();
    for (index, part) in plan.parts.iter().enumerate() {
        let end = part.seal.map(|seal| seal.end);
        let proven = end.is_some_and(|end| plan.base(index) + end <= known);
        let vouched = plan.survey.segments.get(index).is_some_and(|found| {
            found.header.is_ok() && part.link.is_some() && end.is_none_or(|end| found.length >= end)
        });
        let read = part.place.as_ref().filter(|_| depth == Depth::All || !proven || !vouched);
        let before = read.and_then(|place| sound.get(&(place.base, place.seed, end?)).cloned());
        if let (Some(place), None) = (read, &before) {
            jobs.push((index, place, part.seal));
        }
        walks.push(before);
    }
    let total_bytes =
        jobs.iter().map(|(_, place, seal)| seal.map_or(place.limit, |seal| seal.end).min(place.limit)).sum();
    let (next, stop, begun) = (AtomicUsize::new(0), AtomicBool::new(false), Instant::now());
    let (bytes, records) = (AtomicU64::new(0), AtomicU64::new(0));
    let results = Mutex::new((walks, None));
    let tell = |more: u64, counted: u64| {
        let bytes = bytes.fetch_add(more, Ordering::Relaxed) + more;
        let records = records.fetch_add(counted, Ordering::Relaxed) + counted;
        let now = Progress { bytes, total_bytes, records, elapsed: begun.elapsed() };
        if !stop.load(Ordering::Relaxed) && progress(now).is_break() {
            stop.store(true, Ordering::Relaxed);
            results.lock().1.get_or_insert_with(|| cancelled("check"));
        }
        !stop.load(Ordering::Relaxed)
    };
    let work = || {
        while let Some((index, place, seal)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(found) = plan.survey.segments.get(*index) else { continue };
            tell(u64::from(BLOCK).min(place.limit), 0);
            let (end, expected) = (seal.map(|seal| seal.end), seal.map(|seal| seal.records));
            let walked = walk(&*found.file, place, end, expected, |bytes| tell(bytes, 0));
            if !tell(0, walked.as_ref().map_or(0, |walked| walked.records)) {
                return;
            }
            let mut results = results.lock();
            match walked {
                Ok(walked) => results.0.iter_mut().skip(*index).take(1).for_each(|slot| *slot = Some(walked.clone())),
                Err(e) => {
                    stop.store(true, Ordering::Relaxed);
                    let path: PathBuf = subject.path(&found.name);
                    results.1.get_or_insert(Error::io("read", path, e));
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(jobs.len()) {
            // A thread that cannot be had is done without.
            _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let (walks, error) = results.into_inner();
    error.map_or(Ok((plan, walks)), Err)
}

/// Whether a writer began a segment between the look for its link and the reading of its frames. Else a link that is not
/// there is damaged, and so is the segment's first frame.
fn begun_since(plan: &Plan, walks: &Walks) -> bool {
    let first = u64::from(BLOCK);
    let begun = |walked: &Walked| walked.end > first && walked.holes.iter().all(|hole| hole.from > first);
    plan.parts.iter().zip(walks).any(|(part, walked)| part.link.is_none() && walked.as_ref().is_some_and(begun))
}

/// The highest claim of all. Of a lone segment the end of its last valid frame: what was claimed of it may lie beyond.
fn durable(plan: &Plan, walks: &Walks, lone: bool) -> u64 {
    let claimed = walks.iter().flatten().map(|walked| walked.claim).max().unwrap_or(0).max(plan.survey.claim());
    let ends =
        walks.iter().zip(&plan.survey.segments).filter_map(|(walked, found)| Some(found.base + walked.as_ref()?.end));
    claimed.max(ends.filter(|_| lone).max().unwrap_or(0))
}

/// Puts together what was read: where the log ends, and what of it is not as it was written.
fn resolve(plan: Plan, walks: &Walks, durable: u64, lone: bool) -> Result<Examined> {
    let shown = durable.max(plan.survey.mark.map_or(0, |mark| mark.shown));
    let pieces = plan.history(durable, shown);
    let front = plan.survey.front;
    let first = match pieces.first() {
        Some(Piece::Member(index)) => plan.base(*index),
        // All from the front on is gone.
        Some(Piece::Missing { base, .. }) => front.min(*base),
        None => front,
    };
    // Known if nothing was ever cleaned.
    let counted = (front == 0).then_some(0);
    let mut sum = Sum {
        durable,
        end: first,
        limit: first,
        counted,
        sure: front,
        sure_bytes: 0,
        top: String::new(),
        report: Report::default(),
    };
    sum.report.notes.clone_from(&plan.survey.notes);
    sum.report.first = Lsn(first);
    let unlinked = |index: &usize| plan.parts.get(*index).is_some_and(|part| part.link.is_none());
    if let Some(Piece::Member(index)) = pieces.first()
        && front > 0
        && front < first
        && unlinked(index)
    {
        // The front is a segment's base, and no link is left to name it.
        sum.front_gone(front, first);
    }
    for (n, piece) in pieces.iter().enumerate() {
        match *piece {
            Piece::Missing { base, end, records, before } => sum.missing(base, end, records, before),
            Piece::Member(index) => {
                let walked = walks.get(index).and_then(Option::as_ref);
                if !sum.member(&plan, index, walked, n + 1 == pieces.len())? {
                    let later = pieces.len() - n - 1;
                    if later > 0 {
                        sum.report.notes.push(format!(
                            "{} above the torn tail, not part of the log",
                            plural(later as u64, "segment")
                        ));
                    }
                    break;
                }
            }
        }
    }
    if !lone {
        sum.above(&plan, &pieces);
    }
    let Sum { end, mut report, .. } = sum;
    report.end = Lsn(end);
    report.faults.sort_by_key(|fault| (fault.lsn, fault.offset));
    let walked = walks.iter().map(Option::is_some).collect();
    Ok(Examined { plan, pieces, walked, durable, shown: shown.min(end), report })
}

/// A report while it is put together.
struct Sum {
    durable: u64,
    end: u64,
    /// The least base of the next segment.
    limit: u64,
    /// Records of the log up to here, cleaned ones included, where the links tell.
    counted: Option<u64>,
    /// Up to where that is sure, and the valid bytes up to there.
    sure: u64,
    sure_bytes: u64,
    /// The name of the last segment.
    top: String,
    report: Report,
}

impl Sum {
    /// Adds a segment without a file, and all those that must have lain between it and the one before.
    fn missing(&mut self, base: u64, end: u64, records: u64, before: u64) {
        let block = u64::from(BLOCK);
        let lost = self.counted.map_or(records, |counted| before.saturating_sub(counted).max(records));
        let mut what = "the file is missing, or another segment's".to_owned();
        let (mut from, mut bytes) = (base, end.saturating_sub(base.saturating_add(block)));
        let begins = self.top.is_empty();
        if lost > records || begins && self.counted.is_none() && self.limit < base {
            what = format!("the files from LSN {} to here are missing, or other segments'", self.limit);
            from = self.limit;
            bytes = bytes.saturating_add(base.saturating_sub(self.limit.saturating_add(block)));
        }
        // Without a count to begin with, the records of those before it are not known.
        let known = self.counted.is_some() || from == base;
        if begins {
            self.report.first = Lsn(from);
        }
        (self.end, self.limit, self.counted) = (end, end, Some(before));
        (self.sure, self.sure_bytes) = (end, self.report.bytes);
        self.report.faults.push(Fault {
            segment: segment_name(base),
            offset: 0,
            lsn: Lsn(from),
            lost_bytes: bytes,
            lost_records: known.then_some(lost),
            beyond: 0,
            what,
        });
    }

    /// Adds what lay between the front and the first segment that is left.
    fn front_gone(&mut self, front: u64, first: u64) {
        self.report.first = Lsn(front);
        self.report.faults.push(Fault {
            segment: segment_name(front),
            offset: 0,
            lsn: Lsn(front),
            lost_bytes: first.saturating_sub(front.saturating_add(u64::from(BLOCK))),
            lost_records: None,
            beyond: 0,
            what: "the file is missing, and perhaps others behind it".to_owned(),
        });
    }

    /// Before the segment at `base` its link counts `before` records: more than were counted lay in files that are gone,
    /// and of which nothing else is left to tell.
    fn passed_over(&mut self, segment: &str, base: u64, before: u64) {
        let (sure, whole) = (self.sure, self.report.bytes.saturating_sub(self.sure_bytes));
        (self.sure, self.sure_bytes) = (base, self.report.bytes);
        let lost = self.counted.map_or(0, |counted| before.saturating_sub(counted));
        if lost == 0 {
            return;
        }
        self.report.first = self.report.first.min(Lsn(sure));
        self.report.faults.push(Fault {
            segment: segment.to_owned(),
            offset: 0,
            lsn: Lsn(sure),
            lost_bytes: base.saturating_sub(sure.saturating_add(whole).saturating_add(u64::from(BLOCK))),
            lost_records: Some(lost),
            beyond: 0,
            what: format!("in no file that is left: {} between LSN {sure} and this segment", plural(lost, "record")),
        });
    }

    /// Adds a segment; `false` if the log ends in it.
    fn member(&mut self, plan: &Plan, index: usize, walked: Option<&Walked>, newest: bool) -> Result<bool> {
        let (Some(found), Some(part)) = (plan.survey.segments.get(index), plan.parts.get(index)) else {
            return Ok(true);
        };
        self.report.segments += 1;
        let place = |offset, what: &str| Fault {
            segment: found.name.clone(),
            offset,
            lsn: Lsn(found.base + offset),
            lost_bytes: 0,
            lost_records: Some(0),
            beyond: walked.map(|walked| walked.records).or(part.seal.map(|seal| seal.records)).unwrap_or(0),
            what: what.to_owned(),
        };
        if let Err(what) = found.header {
            self.report.faults.push(place(0, what));
        }
        let limit = found.header.as_ref().map_or(found.length, |(header, _)| header.capacity);
        if let Some(link) = &part.link {
            self.passed_over(&found.name, found.base, link.records_before);
            self.counted = Some(link.records_before);
        }
        self.top.clone_from(&found.name);
        self.limit = found.base.saturating_add(limit);
        let records = part.seal.map(|seal| seal.records).or(walked.map(Walked::held).unwrap_or_default());
        self.counted = self.counted.zip(records).map(|(before, records)| before.saturating_add(records));
        if let Some(seal) = part.seal {
            self.end = found.base + seal.end;
        }
        let Some(walked) = walked else { return Ok(true) };
        if let Some(offset) = walked.too_new {
            let message = "a frame of a newer version; verify the log with that";
            return Err(Error::new(ErrorKind::TooNew, "verify", message).at(plan.directory.join(&found.name), offset));
        }
        let open = part.seal.is_none();
        let left = open && newest && self.is_left(walked);
        for hole in walked.holes.iter().take(walked.holes.len() - usize::from(left)) {
            if found.base + hole.batch >= self.durable {
                return Ok(self.torn(found.base, hole));
            }
            if open && !newest && !hole.followed {
                let what =
                    format!("{}: only the next segment's link, which is damaged, tells where it ended", found.name);
                self.report.notes.push(what);
                // How much more there was, nobody tells; this frame was there.
                let known = hole.spoiled.map(|(to, records)| Hole { to, records: Some(records), ..hole.clone() });
                self.report.faults.extend(known.map(|hole| fault(&found.name, found.base, &hole, None)));
                continue;
            }
            self.report.faults.push(fault(&found.name, found.base, hole, open.then_some(self.durable.min(self.limit))));
        }
        self.report.records += walked.records;
        self.report.bytes += walked.bytes;
        if !open && part.link.is_some() {
            (self.sure, self.sure_bytes) = (self.end, self.report.bytes);
        }
        if open && newest {
            let lost = walked.holes.last().filter(|hole| !hole.followed && !left).map(|_| self.durable.min(self.limit));
            self.end = lost.unwrap_or(found.base + walked.end);
        }
        for (offset, bytes) in &walked.gaps {
            let what = format!("LSN {}: {bytes} bytes were lost and passed over by a repair", found.base + offset);
            self.report.notes.push(what);
        }
        let whole = walked.holes.is_empty() && walked.gaps.is_empty();
        if let Some(seal) = part.seal.filter(|seal| whole && seal.records != walked.records) {
            let what =
                format!("{}, the next segment's link says {}", plural(walked.records, "valid record"), seal.records);
            self.report.faults.push(place(u64::from(BLOCK), &what));
        }
        Ok(true)
    }

    /// Whether the newest segment ends in zeros that were left for the next: more was durable than it has room for.
    fn is_left(&self, walked: &Walked) -> bool {
        let full = self.limit.saturating_add(u64::from(BLOCK)) < self.durable;
        full && walked.holes.last().is_some_and(|hole| hole.unwritten)
    }

    /// The log ends before `hole`. Always `false`.
    fn torn(&mut self, base: u64, hole: &Hole) -> bool {
        self.end = base + hole.batch;
        self.report.records += hole.before.0;
        self.report.bytes += hole.before.1;
        if hole.followed || hole.spoiled.is_some() || hole.from > hole.batch {
            self.report.notes.push(format!("torn tail at LSN {}, which nobody was told was durable", self.end));
        }
        false
    }

    /// What lies above the log, and whether all that was durable is below its end.
    fn above(&mut self, plan: &Plan, pieces: &[Piece]) {
        let top = pieces.last().and_then(Piece::member);
        for (index, found) in plan.survey.segments.iter().enumerate().skip(top.map_or(0, |top| top + 1)) {
            let what = match (&found.header, plan.dangling(index)) {
                (Err(what), _) => (*what).to_owned(),
                (_, Some(link)) => {
                    format!("its predecessor {} is missing or another file", segment_name(link.prev_base))
                }
                _ => continue,
            };
            self.fault(&found.name, found.base, 0, 0, what);
        }
        let used = plan.survey.mark.is_some_and(|mark| mark.synced > 0 || mark.front > 0);
        let front = plan.survey.front;
        if self.end < self.durable {
            let mut what = format!("records up to LSN {} were durable, and end here", self.durable);
            let mut base = top.map_or(self.end, |top| plan.base(top));
            let mut name = self.top.clone();
            // What was durable above this segment lay in one that is gone, below its header.
            let above = self.durable.saturating_sub(self.limit.saturating_add(u64::from(BLOCK)));
            let lost = if above > 0 { above } else { self.durable - self.end };
            let there = |found: &Found| (self.limit..self.durable).contains(&found.base);
            if above > 0 && top.is_some() && !plan.survey.segments.iter().any(there) {
                what = format!("the file behind {name} is missing: records up to LSN {} were durable", self.durable);
                (name, base, self.end) = (segment_name(self.limit), self.limit, self.limit);
            }
            self.fault(&name, base, self.end - base, lost, what);
            self.end = self.durable;
        } else if top.is_none() && (front > 0 || used) {
            self.fault("", front, 0, 0, format!("no segment leads down to the front, LSN {front}"));
        }
        let whole = |top: &usize| {
            let name = plan.survey.segments.get(*top).map(|found| &found.name);
            self.report.faults.iter().all(|fault| Some(&fault.segment) != name)
        };
        if let Some(top) = top.filter(whole) {
            self.short(plan, top);
        }
    }

    /// The newest segment, if it is shorter than it was made and did not end there when the log was closed.
    fn short(&mut self, plan: &Plan, top: usize) {
        let Some(found) = plan.survey.segments.get(top) else { return };
        let Ok((header, _)) = &found.header else { return };
        if let Some(what) = short(&plan.survey, found.base.saturating_add(found.length), found.length, header.capacity)
        {
            self.fault(&found.name, found.base, found.length, 0, what);
        }
    }

    fn fault(&mut self, segment: &str, base: u64, offset: u64, lost_bytes: u64, what: String) {
        let (segment, lsn) = (segment.to_owned(), Lsn(base + offset));
        let fault = Fault { segment, offset, lsn, lost_bytes, lost_records: None, beyond: 0, what };
        self.report.faults.push(fault);
    }
}

/// A hole as a fault. `end`: where it ends at most, in a segment whose end nothing else says.
pub(super) fn fault(name: &str, base: u64, hole: &Hole, end: Option<u64>) -> Fault {
    let to = base + hole.to;
    let to = if hole.followed { to } else { end.unwrap_or(to) };
    Fault {
        segment: name.to_owned(),
        offset: hole.from,
        lsn: Lsn(base + hole.from),
        lost_bytes: to.saturating_sub(base + hole.from),
        lost_records: hole.records,
        beyond: hole.beyond,
        what: hole.what.clone(),
    }
}

impl Examined {
    /// The newest segment of the log, by index.
    pub(super) fn newest(&self) -> Option<usize> {
        self.pieces.last()?.member()
    }
}

/// What need not be read again.
fn sound(plan: &Plan, walks: Walks) -> Sound {
    let mut sound = Sound::new();
    for (part, walked) in plan.parts.iter().zip(walks) {
        let (Some(place), Some(seal), Some(walked)) = (&part.place, part.seal, walked) else { continue };
        if walked.holes.is_empty() {
            sound.insert((place.base, place.seed, seal.end), walked);
        }
    }
    sound
}
