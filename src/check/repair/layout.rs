//! How a damaged log will stand once it is repaired: which segments are written anew, and what follows the last.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{BLOCK, CAPACITY, Cursor, Link, NO_BASE, Seal, is_unfinished, segment_base, segment_name};
use crate::recovery::blocked;
use crate::scan::{Place, Summary, apply_notes};
use crate::segment::is_filled;
use crate::storage::Storage;

use super::super::examine::Examined;
use super::super::plan::Plan;
use super::super::sift::Sifted;
use super::known::Known;
use super::stand::{NewLink, Stand};
use super::{Case, Repair};

/// How far above all LSNs that may have been handed out the log goes on.
pub(in super::super) const JUMP: u64 = 1 << 40;

/// All that a repair does, in its order.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) stands: Vec<Stand>,
    /// Segments that stay as they are, up to where, and from which offset on no claim speaks of them.
    pub(super) unproven: Vec<(String, Place, u64)>,
    /// Files below the log's first segment, which would be taken for cleaned ones.
    pub(super) below: Vec<String>,
    /// The segment that follows.
    pub(super) next: Stand,
    /// The LSN where the log ends before it.
    pub(super) end: u64,
    /// Other segment files that are not part of the log.
    pub(super) others: Vec<String>,
    /// Files that look unfinished and hold more than a maker leaves.
    pub(super) unfinished: Vec<String>,
    /// Records that are kept.
    pub(super) records: u64,
    /// Where the log begins then.
    pub(super) front: u64,
    pub(super) cursors: Vec<Cursor>,
    /// The last checkpoint; 0 if there is none.
    pub(super) checkpoint: u64,
    /// It is lost, and so are all before it.
    pub(super) lacks_checkpoint: bool,
}

impl Layout {
    pub(super) fn new(case: &Case<'_>, ways: &Repair<'_>) -> Result<Layout> {
        let Case { storage, ref examined, ref known, .. } = *case;
        let Examined { plan, durable, report, .. } = examined;
        let log_id = plan.survey.log_id.ok_or_else(|| unknown_log(storage))?;
        let cut = ways.cut_at(known, report.end.0);
        let (mut stands, mut unproven, mut used, mut records) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut upto = Upto::none(plan.survey.front);
        for (n, segment) in known.iter().enumerate() {
            if segment.base.saturating_add(u64::from(BLOCK)) >= cut {
                break;
            }
            let room = known.get(n + 1).map(|above| above.base - segment.base);
            let quarantined = ways.quarantines(segment.base);
            let mut sifted = segment.sift(case, cut, quarantined)?;
            let lost_link = sifted.link.is_none();
            if let (true, None, Some(before)) = (lost_link, &segment.link, segment.before) {
                stands.extend(upto.fill(storage, log_id, segment.base, before)?);
            }
            let link = sifted.link.take().or_else(|| segment.link.clone());
            let link = link.unwrap_or_else(|| upto.link(segment.before));
            let anew = lost_link.then(|| new_link(segment, &sifted, link.clone(), upto.batch_time));
            sifted.end = sifted.end.max(anew.as_ref().map_or(0, |anew| anew.end));
            let missing = known.get(n + 1).map_or(0, |above| segment.missing(above, &link, &sifted));
            if missing > 0 {
                sifted.lose_the_rest(segment.full(room), anew.as_ref().map_or(u64::from(BLOCK), |anew| anew.end));
            }
            let stand = segment.stand(log_id, room, *durable, &sifted, anew.as_ref())?;
            let from = durable.saturating_sub(segment.base).max(u64::from(BLOCK));
            if stand.is_none() && from < sifted.end {
                let place = Place { base: segment.base, seed: segment.seed, limit: sifted.end };
                unproven.push((segment_name(segment.base), place, from));
            }
            stands.extend(stand);
            let (last, kept) = (sifted.last, sifted.whole.records);
            let spoiled = plan.survey.index(segment.base).and_then(|index| examined.spoiled_checkpoint(index));
            upto.pass(segment, &link, sifted, missing, spoiled.filter(|lsn| *lsn < cut));
            used.push(segment);
            records += kept;
            if last {
                break;
            }
        }
        let base = next_base(storage, plan, *durable)?;
        if let Some(stand) = stands.iter().find(|stand| plan.survey.blocked.contains(&stand.name)) {
            // A link may lead to what is left of the segment: that is for a person to decide.
            return Err(blocked(storage, "repair", &stand.name));
        }
        // Crash: where nothing is kept, nothing goes before the next is there: only the names tell whose log this is.
        let front = used.first().map_or(plan.survey.front, |first| first.base);
        let (below, others) = left_out(plan, front, &stands, &used);
        upto.front = front;
        let mut next = Stand::drawn(storage, log_id, base)?;
        next.add_link(&NewLink::new(upto.link(None), upto.batch_time))?;
        next.claim();
        let mut taken = others.clone();
        stands.iter_mut().chain([&mut next]).for_each(|stand| stand.avoid(&mut taken));
        let unfinished = filled(storage, &plan.survey.unfinished)?;
        let lacks_checkpoint = upto.checkpoint > 0 && (upto.has_lost(upto.checkpoint) || upto.checkpoint < front);
        let Upto { seal: Seal { end, .. }, cursors, checkpoint, .. } = upto;
        Ok(Layout {
            stands,
            unproven,
            below,
            next,
            end,
            others,
            unfinished,
            records,
            front,
            cursors,
            checkpoint,
            lacks_checkpoint,
        })
    }
}

/// The frame of the link that a segment gets which lost its own, up to what is kept where it is known.
fn new_link(segment: &Known, sifted: &Sifted, link: Link, batch_time: u64) -> NewLink {
    match segment.free(sifted) {
        // Only the newest link's cursors count, and in the place of another one they may hide what is lost.
        Some(free) if segment.seal.is_some() => NewLink::up_to(free, Link { cursors: Vec::new(), ..link }, batch_time),
        Some(free) => NewLink::up_to(free, link, batch_time),
        None => NewLink::new(link, batch_time),
    }
}

/// The files of segments that are not part of the log as it will stand: those below its front, and the others. What looks
/// unfinished and was read as a segment is one of these, for it is put back out of it first.
fn left_out(plan: &Plan, front: u64, stands: &[Stand], used: &[&Known]) -> (Vec<String>, Vec<String>) {
    let anew = |name: &String| stands.iter().any(|stand| stand.name == *name);
    let part = |name: &String| anew(name) || used.iter().any(|segment| segment_name(segment.base) == *name);
    let there = plan.survey.segments.iter().map(|found| &found.name).chain(&plan.displaced);
    let ours = there.filter(|name| is_unfinished(name) || segment_base(name).is_some() && !part(name));
    let mut names: Vec<String> = ours.cloned().collect();
    // One file may lie in the place of one segment and be another.
    names.sort();
    names.dedup();
    names.into_iter().partition(|name| segment_base(name).is_some_and(|base| base < front))
}

/// Those of the files that hold more than a maker leaves.
fn filled(storage: &dyn Storage, names: &[String]) -> Result<Vec<String>> {
    let mut filled = Vec::new();
    for name in names {
        match is_filled(storage, name) {
            // A writer has finished it meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            is => filled.extend(is.map_err(|e| Error::io("read", storage.path().join(name), e))?.then(|| name.clone())),
        }
    }
    Ok(filled)
}

fn unknown_log(storage: &dyn Storage) -> Error {
    let message = "no segment's header and no MARK tells which log this is, so there is nothing to go on with; nothing \
                   was changed, and `seawall salvage` finds the records that are left";
    Error::new(ErrorKind::NotFound, "repair", message).at(storage.path(), None)
}

fn next_base(storage: &dyn Storage, plan: &Plan, durable: u64) -> Result<u64> {
    let ceiling = plan.survey.ceiling.max(durable).max(plan.survey.front);
    let base = ceiling.checked_next_multiple_of(u64::from(BLOCK)).and_then(|base| base.checked_add(JUMP));
    base.filter(|base| base.checked_add(*CAPACITY.end()).is_some()).ok_or_else(|| {
        let highest = plan.survey.segments.last().map_or("", |found| &found.name);
        let message = format!(
            "no LSNs are left above this log, whose highest segment is {highest}; nothing was changed. If that is a copy \
             under a wrong name, move it away"
        );
        let kind = ErrorKind::TooLarge { needs: JUMP, limit: u64::MAX - ceiling };
        Error::new(kind, "repair", message).at(storage.path(), None)
    })
}

/// Where a segment that is nothing but a gap lies between the least base that it can have and the next one's, if there is
/// room for it.
pub(super) fn room_for_filler(limit: u64, next: u64) -> Option<u64> {
    next.checked_sub(*CAPACITY.start()).filter(|from| *from >= limit)
}

/// The log up to some segment, as it will stand.
struct Upto {
    front: u64,
    prev_base: u64,
    prev_seed: u32,
    seal: Seal,
    /// The least base of the next segment.
    limit: u64,
    checkpoint: u64,
    records: u64,
    batch_time: u64,
    cursors: Vec<Cursor>,
    /// What is passed over, by LSN.
    lost: Vec<Range<u64>>,
}

impl Upto {
    fn none(front: u64) -> Upto {
        let seal = Summary::default().seal(0, 0);
        let (limit, checkpoint, records, batch_time) = (0, 0, 0, 0);
        let (prev_base, prev_seed, cursors, lost) = (NO_BASE, 0, Vec::new(), Vec::new());
        Upto { front, prev_base, prev_seed, seal, limit, checkpoint, records, batch_time, cursors, lost }
    }

    /// What the next segment's link says. `before`: how many records lie before it, if that is known better.
    fn link(&self, before: Option<u64>) -> Link {
        let Seal { end, records, last_record, min_time, max_time } = self.seal;
        Link {
            prev_base: self.prev_base,
            prev_end: end,
            prev_seed: self.prev_seed,
            prev_records: records,
            prev_min_time: min_time,
            prev_max_time: max_time,
            front: self.front,
            checkpoint: self.checkpoint,
            records_before: before.unwrap_or(self.records).max(records),
            last_record,
            cursors: self.cursors.clone(),
        }
    }

    /// Where others lay before the segment at `base`, of which nothing is left but how many records they held: one that
    /// is nothing but a gap.
    fn fill(&mut self, storage: &dyn Storage, log_id: [u8; 16], base: u64, before: u64) -> Result<Option<Stand>> {
        let records = before.saturating_sub(self.records);
        let Some(from) = room_for_filler(self.limit, base) else { return Ok(None) };
        if self.prev_base == NO_BASE || records == 0 {
            return Ok(None);
        }
        let mut filler = Stand::drawn(storage, log_id, from)?;
        let end = from + *CAPACITY.start();
        let linked = filler.add_link(&NewLink::new(self.link(None), self.batch_time))?;
        filler.pass_over(linked..end - from)?;
        filler.left = Some(Summary::default().left());
        self.lost.push(self.seal.end..base);
        self.seal = Seal { records, last_record: end - 4, ..Summary::default().seal(end, 0) };
        (self.prev_base, self.prev_seed, self.limit, self.records) = (from, filler.seed, end, before);
        Ok(Some(filler))
    }

    /// Whether it lay in what is passed over.
    fn has_lost(&self, lsn: u64) -> bool {
        self.lost.iter().any(|lost| lost.contains(&lsn))
    }

    /// Goes on over a segment with this link, of which that much is kept. `missing`: how many records it lost, where only
    /// the count behind it tells. `spoiled`: the last checkpoint in it of which only the header is left.
    fn pass(&mut self, segment: &Known, link: &Link, sifted: Sifted, missing: u64, spoiled: Option<u64>) {
        let (told, front) = (segment.seal.filter(|_| !sifted.last).map(|(_, records)| records), self.front);
        let records = told.unwrap_or(sifted.whole.records + missing);
        // A checkpoint that is lost gives way to the one before, if that is left: better than none. Else it is told as lost.
        let is_left = |checkpoint: u64| checkpoint > 0 && checkpoint >= front;
        if !(is_left(self.checkpoint) && self.has_lost(link.checkpoint)) {
            self.checkpoint = link.checkpoint;
        }
        self.lost.extend(sifted.gaps().map(|gap| segment.base + gap.start..segment.base + gap.end));
        self.cursors.clone_from(&link.cursors);
        apply_notes(&mut self.cursors, sifted.whole.notes.clone());
        if sifted.whole.checkpoint > 0 {
            self.checkpoint = sifted.whole.checkpoint;
        } else if let Some(spoiled) = spoiled.filter(|_| !is_left(self.checkpoint)) {
            self.checkpoint = spoiled;
        }
        self.limit = segment.limit(sifted.end);
        // What is passed over may have been records, up to its end.
        let lost = sifted.gaps().map(|gap| segment.base + gap.end - 4).max().unwrap_or(0);
        let seal = sifted.whole.seal(segment.base + sifted.end, link.last_record.max(lost));
        self.seal = Seal { records, ..seal };
        (self.prev_base, self.prev_seed) = (segment.base, segment.seed);
        self.records = link.records_before.saturating_add(records);
        self.batch_time = self.batch_time.max(sifted.batch_time);
    }
}
