//! From a directory to its faults: reads segments in parallel, and looks again at what a live writer may have moved.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::lsn::Lsn;

use super::plan::{Piece, Plan};
use super::subject::Subject;
use super::sum::Sum;
use super::tally::Tally;
use super::walk::{Walked, walk};
use super::{Fault, Report};

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// All segments.
    All,
    /// What it takes to know where the log ends: the segments whose end no link or MARK says is durable, and those that
    /// are seen to be damaged without reading all of them, by their name, their header, their link or their length.
    End,
}

/// A log and what is wrong with it.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) plan: Plan,
    pub(super) pieces: Vec<Piece>,
    /// What was found in each segment that was read.
    pub(super) walks: Walks,
    /// The highest claim.
    pub(super) durable: u64,
    /// Below this nothing is a torn tail: it was durable, or what no crash leaves lies above.
    pub(super) certain: u64,
    /// Everything below may be shown.
    pub(super) shown: u64,
    /// Where the newest segment begins and what was durable of it ends, if there is no file of it, nor a link that names it.
    pub(super) gone: Option<(u64, u64)>,
    /// A writer cleaned some of it while it was read.
    pub(super) overtaken: bool,
    /// Complete for `Depth::All` only.
    pub(super) report: Report,
}

/// Reads a log once, and if it is damaged the damaged segments and the newest once more. What was moved aside is not read.
pub(super) fn examine(subject: &Subject, depth: Depth, threads: usize, tally: &Tally<'_>) -> Result<Examined> {
    let mut examined = look_twice(subject, depth, threads, tally)?;
    if depth == Depth::End {
        examined.report.notes.extend(examined.plan.survey.note_of_aside());
    }
    Ok(examined)
}

fn look_twice(subject: &Subject, depth: Depth, threads: usize, tally: &Tally<'_>) -> Result<Examined> {
    let (plan, walks) = look(subject, depth, threads, tally, None)?;
    let lone = subject.is_lone();
    let durable = durable(&plan, &walks, lone);
    let first = resolve(plan, walks, durable, lone)?;
    if first.report.is_clean() {
        return Ok(first);
    }
    // Beside a writer, a frame may have been written after its place was read and before it was claimed to be
    // durable, and a segment cleaned. What was durable before it is read now is damaged for certain.
    let sound = sound(&first.plan, first.walks);
    let (plan, walks) = look(subject, depth, threads, tally, Some(&sound))?;
    let mut second = resolve(plan, walks, durable, lone)?;
    let seen: HashSet<Lsn> = first.report.faults.iter().map(|fault| fault.lsn).collect();
    let front = subject.front()?;
    let faults = &mut second.report.faults;
    let found = faults.len();
    faults.retain(|fault| fault.lsn.0 >= front && seen.contains(&fault.lsn));
    if found > faults.len() {
        second.overtaken = true;
        second.report.notes.push("segments were cleaned while they were read".to_owned());
    }
    Ok(second)
}

/// What was read of each segment.
pub(super) type Walks = Vec<Option<Walked>>;
/// What was read before and was sound, by base, seed and end.
type Sound = HashMap<(u64, u32, u64), Walked>;

/// A segment that is to be read, and how many bytes of it there are at most.
type Job = (usize, u64);

/// `before`: what an earlier look read and need not be read again; the records of the rest were counted then.
fn look(
    subject: &Subject,
    depth: Depth,
    threads: usize,
    tally: &Tally<'_>,
    before: Option<&Sound>,
) -> Result<(Plan, Walks)> {
    let mut plan = subject.plan()?;
    let known = plan.survey.claim();
    let mut walks: Walks = Vec::new();
    let mut jobs = Vec::new();
    for (index, part) in plan.parts.iter().enumerate() {
        let end = part.seal.map(|seal| seal.end);
        let proven = end.is_some_and(|end| plan.base(index) + end <= known);
        let vouched =
            plan.survey.segments.get(index).is_some_and(|found| {
                found.header.is_ok() && part.link.is_some() && !part.misnamed && !plan.is_cut(index)
            });
        let read = part.place.filter(|_| depth == Depth::All || !proven || !vouched);
        let sound = read.and_then(|place| before?.get(&(place.base, place.seed, end?)).cloned());
        if let (Some(place), None) = (read, &sound) {
            let bytes = end.map_or(place.limit, |end| end.min(place.limit));
            jobs.push((index, bytes));
        }
        walks.push(sound);
    }
    tally.expect(jobs.iter().map(|(_, bytes)| bytes).sum());
    for (index, walked) in read(subject, &plan, &jobs, threads, tally, before.is_none())? {
        if let Some(slot) = walks.get_mut(index) {
            *slot = Some(walked);
        }
    }
    leave_out_begun(&mut plan, &mut walks)?;
    Ok((plan, walks))
}

/// Reads segments, each in one of the threads, and gives what was found by their index. `counts`: whether their records
/// count.
fn read(
    subject: &Subject,
    plan: &Plan,
    jobs: &[Job],
    threads: usize,
    tally: &Tally<'_>,
    counts: bool,
) -> Result<Vec<(usize, Walked)>> {
    let (next, walks, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        while let Some((index, bytes)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (Some(found), Some(part)) = (plan.survey.segments.get(*index), plan.parts.get(*index)) else {
                continue;
            };
            let Some(place) = &part.place else { continue };
            let told = tally.part(*bytes);
            if !told.add(u64::from(BLOCK)) {
                return;
            }
            match walk(&*found.file, place, part.seal.map(|seal| seal.end), |bytes| told.add(bytes)) {
                Ok(walked) => {
                    if !told.end(if counts { walked.found.records } else { 0 }) {
                        return;
                    }
                    walks.lock().push((*index, walked.attribute(part)));
                }
                Err(e) => {
                    tally.stop();
                    failed.lock().get_or_insert(Error::io("read", subject.path(&found.name), e));
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
    failed.into_inner().map_or_else(|| tally.check(), Err)?;
    Ok(walks.into_inner())
}

/// Leaves out the segments that a writer began between the look for their links and the reading of their frames: else a
/// link that was not there yet would be damaged.
fn leave_out_begun(plan: &mut Plan, walks: &mut Walks) -> Result<()> {
    let first = u64::from(BLOCK);
    for (index, walked) in walks.iter_mut().enumerate() {
        let holds_first = |walked: &Walked| walked.end > first && walked.holes.iter().all(|hole| hole.from > first);
        if walked.as_ref().is_some_and(holds_first) && plan.leave_out_begun(index)? {
            *walked = None;
        }
    }
    Ok(())
}

/// The highest claim of all. Of a lone segment the end of its last valid frame: what was claimed of it may lie beyond.
fn durable(plan: &Plan, walks: &Walks, lone: bool) -> u64 {
    let claimed = walks.iter().flatten().map(|walked| walked.claim).max().unwrap_or(0).max(plan.survey.claim());
    let ends =
        walks.iter().zip(&plan.survey.segments).filter_map(|(walked, found)| Some(found.base + walked.as_ref()?.end));
    claimed.max(ends.filter(|_| lone).max().unwrap_or(0))
}

/// Up to where each piece of the log is known to have been durable. What an opening dropped as a torn tail may lie in it, and
/// only the link of the segment that was begun then tells: below a lost link only claims below it count.
fn proven(plan: &Plan, pieces: &[Piece], walks: &Walks, durable: u64) -> Vec<u64> {
    let claim = |piece: &Piece| {
        let index = piece.member()?;
        let linked = plan.survey.segments.get(index)?.link.as_ref().map_or(0, |(_, claim)| *claim);
        Some(walks.get(index)?.as_ref().map_or(0, |walked| walked.claim).max(linked).min(durable))
    };
    let mut proven: Vec<u64> = Vec::new();
    for (n, piece) in pieces.iter().enumerate().rev() {
        let tied = match pieces.get(n + 1) {
            Some(next) => plan.is_tied(piece, next),
            None => plan.limit(piece) >= durable,
        };
        let above = proven.last().copied().unwrap_or(durable);
        proven.push(if tied { above } else { claim(piece).unwrap_or(above) });
    }
    proven.reverse();
    proven
}

/// Puts together what was read: where the log ends, and what of it is not as it was written.
fn resolve(plan: Plan, walks: Walks, durable: u64, lone: bool) -> Result<Examined> {
    let shown = durable.max(plan.survey.mark.map_or(0, |mark| mark.shown));
    let pieces = plan.history(durable, shown);
    let newest = pieces.last().and_then(Piece::member).filter(|_| !lone);
    let trimmed = newest.and_then(|index| plan.trimmed_to(index, walks.get(index)?.as_ref()?, durable));
    let broken = pieces.iter().filter_map(|piece| plan.broken_to(piece));
    let certain = broken.chain(trimmed).max().map_or(durable, |to| to.max(durable));
    let proven = proven(&plan, &pieces, &walks, durable);
    let Sum { end, gone, mut report, .. } = Sum::of(&plan, &pieces, &walks, (durable, certain, &proven), lone)?;
    // What a writer let others read and a power cut took may reach to between two segments.
    let last = pieces.iter().rev().find(|piece| plan.base_of(piece) < shown).and_then(|piece| plan.end_of(piece));
    let shown = shown.min(end).min(last.unwrap_or(end)).max(report.first.0);
    report.end = Lsn(end);
    report.faults.iter_mut().for_each(|fault| fault.doubt(fault.lost_to(), durable));
    report.faults.sort_by_key(|fault| (fault.lsn, fault.offset));
    Ok(Examined { plan, pieces, walks, durable, certain, shown, gone, overtaken: false, report })
}

impl Examined {
    /// The last checkpoint that the newest segment tells of, be it that only a header is left of it; 0 without one.
    pub(super) fn last_checkpoint(&self) -> u64 {
        let Some(index) = self.newest() else { return 0 };
        let linked = self.plan.parts.get(index).and_then(|part| part.link.as_ref()).map_or(0, |link| link.checkpoint);
        let found = self.walks.get(index).and_then(Option::as_ref).map_or(0, |walked| walked.found.checkpoint);
        self.spoiled_checkpoint(index).unwrap_or(0).max(found).max(linked)
    }

    /// The last checkpoint in a segment of which nothing but the header is left.
    pub(super) fn spoiled_checkpoint(&self, index: usize) -> Option<u64> {
        let holes = &self.walks.get(index)?.as_ref()?.holes;
        let below = |lsn: &u64| *lsn < self.certain;
        holes.iter().filter_map(|hole| Some(self.plan.base(index) + hole.checkpoint?)).rfind(below)
    }

    /// Whether some of what tells of cursors and of the last checkpoint is lost: the newest segment's link, or what may have
    /// been a note in it or above.
    pub(super) fn may_lose_notes(&self) -> bool {
        let Some(index) = self.newest() else { return true };
        let (plan, walked) = (&self.plan, self.walks.get(index).and_then(Option::as_ref));
        let is_linked = plan.parts.get(index).is_some_and(|part| part.link.is_some());
        let newest = plan.survey.segments.get(index).map(|found| &found.name);
        let is_lost = |fault: &Fault| {
            let hole = walked.filter(|_| newest == Some(&fault.segment));
            let hole = hole.and_then(|walked| walked.holes.iter().find(|hole| hole.from == fault.offset));
            hole.map_or(fault.lost_records != Some(0), |hole| hole.notes)
        };
        let mut faults = self.report.faults.iter().filter(|fault| fault.lsn.0 >= plan.base(index));
        !is_linked || walked.is_none() || faults.any(is_lost)
    }

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
