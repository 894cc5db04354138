//! From a directory to where the log ends: survey, chain, scan, look ahead, decide, and make it so.
//!
//! The steps and the table stand in `DESIGN.md`; the bytes in `src/format.rs`.

mod beside;
mod chain;
mod decide;
mod identity;
mod report;
mod rewrite;
mod strays;
mod survey;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::bugs::{Bug, Bugs};
use crate::error::{Damage, Error, ErrorKind, Result, plural};
use crate::format::{BLOCK, Cursor, Link, Mark, Seal};
use crate::lsn::Lsn;
use crate::options::RecoveryMode;
use crate::scan::{Scan, Summary, apply_notes, look_ahead, scan};
use crate::storage::Storage;

pub(crate) use beside::{TRIES, beside, survey_beside, too_fast};
pub(crate) use chain::{Broken, Chain, short};
use decide::{Seen, Verdict, decide};
pub use report::{Recovery, Torn};
pub(crate) use rewrite::{durably, rewrite};
pub(crate) use strays::strays;
pub(crate) use survey::{
    Found, Survey, blocked, ceiling, cut_short, find, front, misplaced, missing, own_header, read_link, read_marks,
    survey,
};

/// A segment of the log, with what seals it.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) found: Found,
    pub(crate) seed: u32,
    pub(crate) capacity: u64,
    pub(crate) seal: Seal,
}

/// A segment file that is no part of the log: prepared and not used, or cut off by this or an earlier recovery.
#[derive(Debug)]
pub(crate) struct Void {
    pub(crate) name: String,
    pub(crate) base: u64,
    pub(crate) length: u64,
    pub(crate) kind: VoidKind,
}

/// Why a segment file is no part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoidKind {
    /// A link leads past it: an earlier life cut it off. It is not looked into.
    PassedOver,
    /// It lies above the end and may hold frames: a power cut took the link that led to it, or to one below.
    CutOff,
    /// It lies above the end without a frame: it was prepared and never used.
    Unused,
}

/// Where the log ends, and everything that goes on from there.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// `None` where there is no log yet.
    pub(crate) log_id: Option<[u8; 16]>,
    pub(crate) mark: Option<Mark>,
    /// MARK is another log's.
    pub(crate) foreign_mark: bool,
    pub(crate) front: u64,
    /// From the front to the end.
    pub(crate) segments: Vec<Sealed>,
    /// The end of the log: the start of the first batch that is not there.
    pub(crate) end: u64,
    /// How much of it a claim speaks of.
    pub(crate) proven: u64,
    /// Records up to the end, cleaned ones included.
    pub(crate) records: u64,
    /// The last checkpoint; 0 if there is none.
    pub(crate) checkpoint: u64,
    /// The highest batch time, of cleaned records too.
    pub(crate) batch_time: u64,
    pub(crate) cursors: Vec<Cursor>,
    /// The LSN of the last note of them in the newest segment; 0 if there is none.
    pub(crate) last_note: u64,
    /// A new life begins at or above.
    pub(crate) ceiling: u64,
    pub(crate) voids: Vec<Void>,
    pub(crate) spares: Vec<String>,
    pub(crate) unfinished: Vec<String>,
    pub(crate) report: Recovery,
}

/// Finds the end of the log in `storage`; changes nothing.
///
/// `believed`: claims above it do not prove damage. For a reader beside a writer, whose claims may be younger than
/// the look at the place that they speak of; otherwise all are believed.
pub(crate) fn recover(
    storage: &dyn Storage,
    mode: RecoveryMode,
    write: bool,
    believed: u64,
    bugs: Bugs,
) -> Result<Recovered> {
    let survey = survey(storage, write, bugs)?;
    let chain = survey.chain(bugs);
    let tail = Tail::read(storage, &survey, &chain, bugs)?;
    // Nor does a MARK that was written since prove that the newest segment is cut: it may speak of one above.
    let short = tail.short(&survey).filter(|_| survey.mark.is_none_or(|mark| mark.synced <= believed));
    let used = survey.mark.is_some_and(|mark| mark.is_used());
    let verdict = decide(Seen {
        too_new: tail.too_new,
        broken: chain.broken.is_some() || short.is_some() || survey.is_elsewhere,
        claimed: tail.claim.min(believed) > tail.end && !bugs.has(Bug::ClaimsNotAsked)
            || bugs.has(Bug::FramesBeyondAreDamage) && tail.beyond > 0,
        beyond: tail.beyond > 0,
        segments: !survey.segments.is_empty(),
        used,
    });
    let path = storage.path().to_path_buf();
    match verdict {
        Verdict::TooNew => {
            let message = "a frame of a newer version; open the log with that, nothing was changed";
            Err(Error::new(ErrorKind::TooNew, "open", message).at(tail.path(&path, &survey), tail.offset))
        }
        Verdict::Damage => Err(damage(storage, &survey, &tail, chain.broken)),
        Verdict::Torn if mode == RecoveryMode::Strict => Err(not_strict(&path, &survey, &tail)),
        Verdict::End if mode == RecoveryMode::Strict && (tail.claim != tail.end || tail.is_torn(&survey.segments)) => {
            Err(not_strict(&path, &survey, &tail))
        }
        Verdict::Torn | Verdict::End | Verdict::New => Ok(assemble(survey, tail, bugs)),
    }
}

/// The error for bytes that were durable and are not there, or that no crash leaves, as far as it is known here: what is lost
/// tells [`check::refused`](crate::check::refused).
fn damage(storage: &dyn Storage, survey: &Survey, tail: &Tail, broken: Option<Broken>) -> Error {
    let bad = tail.bad.and_then(|index| survey.segments.get(index));
    let (segment, base, offset) = match (broken, bad) {
        (Some(Broken { segment, base, .. }), _) => (segment, base, 0),
        (None, Some(found)) => (found.name.clone(), found.base, tail.offset),
        (None, None) => (String::new(), survey.front, 0),
    };
    let damage =
        Damage { what: words::NO_FRAME.to_owned(), ..Damage::at(&segment, offset, base.saturating_add(offset)) };
    Error::damage("open", storage.path(), Damage { durable: Lsn(tail.claim), ..damage })
}

/// The error of [`RecoveryMode::Strict`](crate::RecoveryMode) for a log that did not end in order.
fn not_strict(directory: &std::path::Path, survey: &Survey, tail: &Tail) -> Error {
    let (end, claim, beyond) = (tail.end, tail.claim, tail.beyond);
    let proven = if claim < end {
        format!(", and nothing says that what lies above LSN {claim} was durable")
    } else {
        String::new()
    };
    let beyond = match beyond {
        0 if tail.is_torn(&survey.segments) => "; a part of a batch lies beyond".to_owned(),
        0 => String::new(),
        _ => format!("; beyond lie {}, of which nothing says that they were durable", plural(beyond, "valid frame")),
    };
    let message = format!(
        "the log does not end where it is known to be durable: it ends at LSN {end}{proven}{beyond}; open it with \
         RecoveryMode::TornTail, which keeps all up to there; nothing was changed"
    );
    Error::new(ErrorKind::NotStrict, "open", message).at(tail.path(directory, survey), tail.offset)
}

/// What the end of the log looks like.
#[derive(Debug, Default)]
struct Tail {
    /// Of each segment of the chain up to the tip.
    chain: Vec<Member>,
    /// How many members of the chain the log keeps.
    kept: usize,
    /// The end of the log.
    end: u64,
    /// The segment, by index, and the offset of the first bad place.
    bad: Option<usize>,
    offset: u64,
    too_new: bool,
    /// A frame whose header holds begins at the first bad place.
    spoiled: bool,
    /// The highest claim found.
    claim: u64,
    /// Valid frames beyond the first bad place.
    beyond: u64,
    /// Segments above the tip without any frame, by index.
    empty: Vec<usize>,
}

/// A segment of the chain.
#[derive(Debug)]
struct Member {
    index: usize,
    /// Where the next one's link says that it ended.
    sealed: Option<u64>,
    scanned: Option<Scan>,
}

impl Tail {
    /// Scans the tip and, back along the chain, what no claim speaks of; then looks ahead.
    fn read(storage: &dyn Storage, survey: &Survey, chain: &Chain, bugs: Bugs) -> Result<Tail> {
        let mut tail = Tail { claim: survey.claim(), ..Tail::default() };
        let mut unproven = true;
        for (member, &index) in chain.members.iter().enumerate().rev() {
            let Some(found) = survey.segments.get(index) else { continue };
            let above = chain.members.get(member + 1).and_then(|&above| survey.segments.get(above));
            let sealed = above.and_then(|above| above.link.as_ref()).map(|(link, _)| link.prev_end);
            unproven = unproven && sealed.is_none_or(|end| end > tail.claim && !bugs.has(Bug::LinkIsProof));
            let scanned = if unproven { Some(read_segment(storage, found, sealed, bugs)?) } else { None };
            tail.claim = tail.claim.max(scanned.as_ref().map_or(0, |scan| scan.claim));
            tail.chain.push(Member { index, sealed, scanned });
        }
        tail.chain.reverse();
        tail.find_end(survey);
        tail.look_beyond(storage, survey, bugs)?;
        Ok(tail)
    }

    /// The first bad place in LSN order over all scanned.
    fn find_end(&mut self, survey: &Survey) {
        for (n, Member { index, sealed, scanned }) in self.chain.iter().enumerate() {
            let (Some(found), Some(scan)) = (survey.segments.get(*index), scanned) else { continue };
            self.end = found.base + scan.end;
            self.bad = Some(*index);
            self.offset = scan.bad;
            (self.too_new, self.spoiled) = (scan.too_new, scan.spoiled);
            self.kept = n + 1;
            if *sealed != Some(self.end) {
                return;
            }
        }
    }

    /// Looks for frames beyond the first bad place of each scanned segment, and in void ones above the tip.
    fn look_beyond(&mut self, storage: &dyn Storage, survey: &Survey, bugs: Bugs) -> Result<()> {
        let mut froms = Vec::new();
        for member in self.chain.iter().filter(|member| Some(member.index) >= self.bad) {
            froms.extend(member.scanned.as_ref().map(|scan| (member.index, scan.bad, scan.frames)));
        }
        let tip = self.chain.last().map(|tip| tip.index);
        let above = tip.map_or(0, |tip| tip + 1);
        froms.extend((above..survey.segments.len()).map(|index| (index, u64::from(BLOCK), 0)));
        for (index, from, before) in froms {
            let Some((found, place)) = survey.segments.get(index).and_then(|f| Some((f, f.place(bugs)?))) else {
                continue;
            };
            if bugs.has(Bug::LookAheadInOneSegment) && Some(index) != self.bad {
                continue;
            }
            let path = storage.path().join(&found.name);
            let ahead = look_ahead(&*found.file, &place, from, bugs).map_err(|e| Error::io("read", path, e))?;
            self.claim = self.claim.max(ahead.claim);
            if Some(index) > tip && ahead.frames == 0 {
                self.empty.push(index);
            }
            let passed = Some(index) > self.bad && self.bad.is_some();
            self.beyond += ahead.frames + if passed { before } else { 0 };
        }
        Ok(())
    }

    /// Whether a part of a batch lies at the first bad place.
    fn is_torn(&self, segments: &[Found]) -> bool {
        let found = self.bad.and_then(|index| segments.get(index));
        self.spoiled || found.is_some_and(|found| found.base + self.offset != self.end)
    }

    /// What is wrong with the tip's length.
    fn short(&self, survey: &Survey) -> Option<String> {
        let found = survey.segments.get(self.chain.last()?.index)?;
        let free = (!self.is_torn(&survey.segments)).then_some(self.end);
        let end = found.base.saturating_add(found.length);
        short(survey, free, end, found.length, found.header.as_ref().ok()?.0.capacity)
    }

    fn path(&self, directory: &std::path::Path, survey: &Survey) -> PathBuf {
        let found = self.bad.and_then(|index| survey.segments.get(index));
        found.map_or_else(|| directory.to_path_buf(), |found| directory.join(&found.name))
    }
}

fn read_segment(storage: &dyn Storage, found: &Found, sealed: Option<u64>, bugs: Bugs) -> Result<Scan> {
    let Some(mut place) = found.place(bugs) else { return Ok(Scan::default()) };
    if let Some(end) = sealed {
        place.limit = place.limit.min(end.saturating_sub(found.base));
    }
    scan(&*found.file, &place, bugs).map_err(|e| Error::io("read", storage.path().join(&found.name), e))
}

/// The log up to its end; what lies above becomes void.
fn assemble(mut survey: Survey, tail: Tail, bugs: Bugs) -> Recovered {
    survey.notes.extend(survey.note_of_aside());
    survey.notes.extend(survey.note_of_shown(tail.end));
    let damaged = survey.segments.iter().filter(|found| found.left_damaged);
    let told = damaged.map(|found| format!("{}: {}: more may be counted than there are", found.name, words::LEFT));
    survey.notes.extend(told.collect::<Vec<_>>());
    let Survey { mark, foreign_mark, log_id, front, segments, spares, unfinished, ceiling, notes, .. } = survey;
    let ceiling = if bugs.has(Bug::LsnHandedOutTwice) {
        tail.end.next_multiple_of(u64::from(BLOCK))
    } else {
        // Never below what was once handed out, although its file may be gone.
        ceiling.max(tail.end)
    };
    let torn = tail.beyond > 0 || tail.is_torn(&segments);
    let kept = tail.chain.into_iter().take(tail.kept).map(|member| (member.index, member.scanned));
    let mut kept: std::collections::HashMap<usize, Option<Scan>> = kept.collect();
    let mut recovered = Recovered {
        log_id,
        mark,
        foreign_mark,
        front,
        end: tail.end,
        proven: tail.claim.min(tail.end),
        ceiling,
        spares,
        unfinished,
        ..Recovered::default()
    };
    let (mut links, mut scans) = (Vec::new(), Vec::new());
    for (index, found) in segments.into_iter().enumerate() {
        match (kept.remove(&index), found.place(bugs), &found.header) {
            (Some(scanned), Some(place), Ok((header, _))) => {
                scans.push(scanned);
                links.push(found.link.as_ref().map(|(link, _)| link.clone()).unwrap_or_default());
                let capacity = header.capacity;
                let sealed = Sealed { seed: place.seed, capacity, seal: Seal::default(), found };
                recovered.segments.push(sealed);
            }
            _ => {
                let kind = if tail.empty.contains(&index) {
                    VoidKind::Unused
                } else if found.base < tail.end {
                    VoidKind::PassedOver
                } else {
                    VoidKind::CutOff
                };
                recovered.voids.push(Void { name: found.name, base: found.base, length: found.length, kind });
            }
        }
    }
    seal(&mut recovered, &links, scans.pop().flatten());
    let torn = torn.then_some(Torn { lsn: Lsn(tail.end), beyond: tail.beyond });
    recovered.report = Recovery::new(&recovered, torn, notes);
    recovered
}

/// Fills in how each segment ended: the last by its scan, the others by the links of their successors, which go on counting
/// what a repair passed over.
fn seal(recovered: &mut Recovered, links: &[Link], last: Option<Scan>) {
    let last = last.unwrap_or_default();
    recovered.batch_time = last.batch_time;
    let Some(link) = links.last() else { return };
    let last_seal = last.whole.seal(recovered.end, link.last_record);
    for (sealed, seal) in recovered.segments.iter_mut().zip(links.iter().skip(1).map(Link::seal)) {
        sealed.seal = sealed.found.left.as_ref().map_or(seal, |left| left.seal(seal));
    }
    recovered.segments.last_mut().into_iter().for_each(|sealed| sealed.seal = last_seal);
    let Summary { records, checkpoint, notes, last_note, .. } = last.whole;
    recovered.records = link.records_before + records;
    recovered.checkpoint = if checkpoint > 0 { checkpoint } else { link.checkpoint };
    // A repair goes on by a link, and what lay below the first segment that it found may be gone.
    if recovered.checkpoint < recovered.front {
        recovered.checkpoint = 0;
    }
    recovered.cursors = cursors(link, notes, recovered.front);
    recovered.last_note = last_note;
}

/// Where the cursors stand behind a segment with that link and these notes.
pub(crate) fn cursors(link: &Link, notes: BTreeMap<String, u64>, front: u64) -> Vec<Cursor> {
    let mut cursors = link.cursors.clone();
    apply_notes(&mut cursors, notes);
    // A release counts at once: the clean that used it is durable by itself.
    cursors.iter_mut().for_each(|cursor| cursor.lsn = cursor.lsn.max(front));
    cursors
}

#[cfg(test)]
mod tests;
