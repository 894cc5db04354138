//! Bringing a damaged log back: what would be done first, then doing it.

mod act;
mod cursors;
mod known;
mod layout;
mod stand;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result, plural};
use crate::format::{BLOCK, frame_size, segment_name};
use crate::lsn::Lsn;
use crate::progress::Progress;
use crate::storage::{Fs, Storage, lock_error};

use super::aside;
use super::examine::{Depth, Examined, examine};
use super::plan::Plan;
use super::subject::Subject;
use super::tally::Tally;
use super::{Fault, Report, Tell};
use known::{Known, know};
pub(super) use layout::JUMP;
use layout::Layout;
use stand::Stand;

/// Brings a damaged log back by passing over what is damaged; on request a segment whole, or all from an LSN on.
///
/// Everything else stays where it is, under its LSN. Where bytes are passed over, the segment is written anew with a gap
/// in their place; where a file is gone, one takes its place that is nothing but a gap. Then the log goes on in a new
/// segment, 2^40 LSNs above all that was ever handed out. Of a batch that is damaged nothing stays, nor of one behind it where
/// nothing tells that it is another: where more than a bit of a frame's header is lost. What is replaced
/// is copied aside before, what is no longer part of the log is moved aside; nothing is deleted. A cursor that was made or
/// moved in what is lost is gone, or stands where it stood before: make it again before anything cleans.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # let wal = seawall::Wal::open(dir)?;
/// # wal.append(b"order 17")?.wait()?;
/// # wal.close()?;
/// use seawall::check::Repair;
///
/// let plan = Repair::new().plan(dir)?;
/// println!("{plan}");
/// for way in &plan.others {
///     println!("or {way:?}");
/// }
/// if !plan.faults.is_empty() {
///     Repair::new().run(dir)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing is repaired until it is run"]
pub struct Repair<'a> {
    quarantine: Vec<String>,
    cut: Option<Lsn>,
    progress: Tell<'a>,
}

/// What a repair does, or did. Printed, it is a line for each fault and for each step.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairPlan {
    /// What is damaged, as [`verify`](super::verify) tells it. What is lost already, is lost in each way.
    pub faults: Vec<Fault>,
    /// What is done, in order. Empty if there is nothing to repair.
    pub steps: Vec<Step>,
    /// Valid records that stay.
    pub kept_records: u64,
    /// Valid records that go, those in files under other names included: in a segment that is quarantined, from the cut
    /// on, or of a batch that is not whole or not known to be ([`Fault::dropped`]).
    pub dropped_records: u64,
    /// Records that were lost before and do not come back, as the faults tell them; `None` where it cannot be told.
    pub lost_records: Option<u64>,
    /// Whether its `MARK` is missing or another log's, or one of the two slots of it is: then nothing tells whether more
    /// records followed the last, and `lost_records` knows nothing of these.
    pub unmarked: bool,
    /// Where the log's records will end. It goes on above, in another segment, and [`verify`](super::verify) then tells an
    /// end behind the first frame of that.
    pub end: Lsn,
    /// The log ends here now, as [`verify`](super::verify) tells it. A cut drops what lies between the two.
    pub before: Lsn,
    /// What else an operator should know, as [`verify`](super::verify) tells it, and what becomes of the cursors.
    pub notes: Vec<String>,
    /// The other ways out of the damage that drop more, where none was asked for and this one costs a record. None of what
    /// was done.
    pub others: Vec<Way>,
}

/// Another way out of what is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// To cut the log where the damage begins.
    Cut {
        /// For [`Repair::cut`].
        lsn: Lsn,
        /// As its own plan says it.
        dropped_records: u64,
    },
    /// To pass over all of the first segment that is damaged.
    Quarantine {
        /// For [`Repair::quarantine`].
        segment: String,
        /// As its own plan says it.
        dropped_records: u64,
    },
}

/// One step of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A segment is copied aside and written anew.
    Rewrite {
        /// Its file.
        segment: String,
        /// Bytes that are passed over in it.
        passed_over: u64,
    },
    /// A segment whose bytes lie under another name is written under its own, and what lies there is copied aside.
    PutBack {
        /// Where they lie. It stays, or is moved aside if its name is an unfinished segment's, or that of one that is not part
        /// of the log.
        file: String,
        /// Its file.
        segment: String,
        /// Bytes that are passed over in it.
        passed_over: u64,
    },
    /// A segment is written of which there is no file.
    Make {
        /// Its file.
        segment: String,
        /// Bytes that are passed over in it.
        passed_over: u64,
    },
    /// A file that is not part of the log any more is moved aside.
    MoveAside {
        /// Its name.
        file: String,
    },
    /// The log goes on in a new segment.
    Continue {
        /// Its file.
        segment: String,
    },
}

/// A log as it was examined, once for all ways out.
struct Case<'a> {
    storage: &'a dyn Storage,
    tally: &'a Tally<'a>,
    examined: Examined,
    /// Empty if there is nothing to be done.
    known: Vec<Known>,
}

impl fmt::Debug for Repair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repair { quarantine, cut, .. } = self;
        f.debug_struct("Repair").field("quarantine", quarantine).field("cut", cut).finish_non_exhaustive()
    }
}

impl Default for Repair<'_> {
    fn default() -> Self {
        Repair::new()
    }
}

impl<'a> Repair<'a> {
    /// Passes over what is damaged, with the rest of its batch ([`Fault::dropped`]), and no more; without progress.
    pub fn new() -> Repair<'a> {
        Repair { quarantine: Vec::new(), cut: None, progress: &|_| ControlFlow::Continue(()) }
    }

    /// Passes over all of a segment, by its file's name. The one in which the log ends is cut off, with the torn tail that
    /// may reach beyond it. If the log is sound and that drops no record, there is nothing to do, nor if the segment lies
    /// aside already.
    pub fn quarantine(mut self, segment: impl Into<String>) -> Repair<'a> {
        self.quarantine.push(segment.into());
        self
    }

    /// Ends the log before the first batch that reaches above `lsn`, be the log damaged or sound: the plan says how many
    /// valid records that drops. Where none reaches above, it passes over what is damaged, and no more; if nothing is, or all
    /// was cut off already, there is nothing to do.
    pub fn cut(mut self, lsn: Lsn) -> Repair<'a> {
        self.cut = Some(lsn);
        self
    }

    /// Is told of the progress as [`Verify::progress`](super::Verify::progress) is; the total grows by what is read once
    /// more, and by what is copied before that begins. With `Break` it ends, answers `Cancelled` and has changed nothing. It
    /// is asked once more before the first file is touched, and only told from then on: what is begun is done to its end.
    pub fn progress(mut self, progress: &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync)) -> Repair<'a> {
        self.progress = progress;
        self
    }

    /// What would be done to the log in the directory `path`, and what the other ways out drop. Changes nothing, and works
    /// beside a live writer.
    ///
    /// Reads the log once, as [`Verify`](super::Verify) does and with as many threads; where there is damage, the damaged
    /// segments and the newest once more. For the plan only the damaged segments are read again, and for a cut the one that
    /// it ends in, up to there. A segment that lies under another name is read up to twice more, to know it.
    ///
    /// # Errors
    /// `NotFound` if there is no log, or nothing that tells which; `Invalid` if there is no such segment or LSN;
    /// `TooNew`; `TooLarge` if no LSNs are left; `Io`; `Cancelled`.
    pub fn plan(&self, path: impl AsRef<Path>) -> Result<RepairPlan> {
        self.plan_on(Arc::new(Fs::new(path)))
    }

    /// The same in a storage of your own.
    ///
    /// # Errors
    /// As [`plan`](Repair::plan).
    pub fn plan_on(&self, storage: Arc<dyn Storage>) -> Result<RepairPlan> {
        let tally = Tally::new("repair", self.progress);
        let case = self.examine(&storage, &tally)?;
        let (plan, _) = self.lay_out(&case)?;
        let others = if self.acts() { Vec::new() } else { case.others(&plan)? };
        Ok(RepairPlan { others, ..plan })
    }

    /// Does it, and tells what was done. A crash within leaves the log damaged still or repaired, and the same log, of which
    /// no LSN is given out again; run it again, as it was or without a way: what is done is not done again. What was to be
    /// moved aside may still lie there then; opening moves it.
    ///
    /// Reads the log as [`plan`](Repair::plan) does. Takes room for a copy of each segment that is written anew, twice.
    ///
    /// # Errors
    /// As [`plan`](Repair::plan); `Locked` if a writer has the log; `DiskFull`. Run it again then, too;
    /// [`Error::touched`](crate::Error::touched) says what was changed until then.
    pub fn run(&self, path: impl AsRef<Path>) -> Result<RepairPlan> {
        self.run_on(Arc::new(Fs::new(path)))
    }

    /// The same in a storage of your own.
    ///
    /// # Errors
    /// As [`run`](Repair::run).
    pub fn run_on(&self, storage: Arc<dyn Storage>) -> Result<RepairPlan> {
        let _lock = storage.lock().map_err(|e| lock_error(&*storage, e))?;
        let tally = Tally::new("repair", self.progress);
        let (plan, layout) = self.lay_out(&self.examine(&storage, &tally)?)?;
        if let Some(layout) = layout {
            tally.act()?;
            act::act(&*storage, &layout, &tally)?;
        }
        Ok(plan)
    }

    fn examine<'t>(&self, storage: &'t Arc<dyn Storage>, tally: &'t Tally<'t>) -> Result<Case<'t>> {
        let examined = examine(&Subject::log(Arc::clone(storage)), Depth::All, super::threads(), tally)?;
        self.check(&**storage, &examined)?;
        let mut case = Case { storage: &**storage, tally, examined, known: Vec::new() };
        if case.examined.plan.survey.log_id.is_some() && !self.is_idle(&case) {
            case.known = know(case.storage, &case.examined)?;
            // Whoever chooses a way is told what may be had elsewhere.
            let notes = aside::notes(case.storage, &case.examined);
            case.examined.report.notes.extend(notes);
        }
        Ok(case)
    }

    fn lay_out(&self, case: &Case<'_>) -> Result<(RepairPlan, Option<Layout>)> {
        let report = &case.examined.report;
        let (before, unmarked) = (report.end, !case.examined.plan.survey.is_marked());
        if self.is_idle(case) {
            let (kept_records, lost_records, end, notes) = (report.records, Some(0), before, report.notes.clone());
            let plan = RepairPlan { kept_records, lost_records, unmarked, end, before, notes, ..RepairPlan::default() };
            return Ok((plan, None));
        }
        let layout = Layout::new(case, self)?;
        let faults = report.faults.clone();
        let lost = faults.iter().map(|fault| fault.lost_records).sum();
        let plan = RepairPlan {
            faults,
            steps: layout.steps(&case.examined.plan),
            kept_records: layout.records,
            dropped_records: report.records.saturating_sub(layout.records),
            lost_records: lost,
            unmarked,
            end: Lsn(layout.end),
            before,
            notes: report.notes.iter().cloned().chain(cursors::notes(&case.examined, &layout)).collect(),
            others: Vec::new(),
        };
        let is_end = plan.end == before || case.is_only_link(plan.end);
        if plan.faults.is_empty() && plan.dropped_records == 0 && is_end {
            // Nothing reaches above the cut, and what is quarantined holds no record.
            return Ok((RepairPlan { steps: Vec::new(), ..plan }, None));
        }
        Ok((plan, Some(layout)))
    }

    /// Whether nothing is damaged, and nothing is asked for that is not done.
    fn is_idle(&self, case: &Case<'_>) -> bool {
        let asks = |name: &String| is_segment(&case.examined, name);
        let cuts = self.cut.is_some_and(|cut| cut <= case.examined.report.end) && !self.has_cut_all(&case.examined);
        case.examined.report.is_clean() && !cuts && !self.quarantine.iter().any(asks)
    }

    /// Whether what was asked for is there, or was done, as by an earlier run that a crash ended late. What lay above a cut is
    /// not asked for: that run, a torn tail or the damage may have taken it.
    fn check(&self, storage: &dyn Storage, examined: &Examined) -> Result<()> {
        let Report { first, end, .. } = examined.report;
        let invalid = |message| Err(Error::new(ErrorKind::Invalid, "repair", message).at(storage.path(), None));
        if let Some(cut) = self.cut.filter(|cut| *cut < first && !self.has_cut_all(examined)) {
            return invalid(format!("the log reaches from LSN {first} to {end} and cannot be cut at {cut}"));
        }
        let is_aside = |name: &String| examined.plan.survey.aside.iter().any(|aside| is_aside_of(aside, name));
        match self.quarantine.iter().find(|name| !is_segment(examined, name) && !is_aside(name)) {
            Some(name) => invalid(format!("{name} is no segment of this log; `seawall inspect` lists them")),
            None => Ok(()),
        }
    }

    /// Whether the log begins above the cut and holds nothing, as it does once all of it was cut off.
    fn has_cut_all(&self, examined: &Examined) -> bool {
        let Report { ref faults, records, first, .. } = examined.report;
        self.cut.is_some_and(|cut| cut < first) && faults.is_empty() && records == 0
    }

    /// Whether it does more than to pass over what is damaged.
    fn acts(&self) -> bool {
        self.cut.is_some() || !self.quarantine.is_empty()
    }

    fn quarantines(&self, base: u64) -> bool {
        self.quarantine.contains(&segment_name(base))
    }

    /// The LSN that nothing kept reaches above. `end`: where the log ends now.
    fn cut_at(&self, known: &[Known], end: u64) -> u64 {
        let cut = self.cut.map_or(u64::MAX, |lsn| lsn.0);
        // Nothing tells where the one ends in which the log does: that ends before it. With a torn tail there are others
        // above, and what opening drops does not come back because the hole before it goes too.
        let newest = known.iter().rposition(|segment| segment.base <= end).unwrap_or(0);
        let quarantined = known.iter().skip(newest).find(|segment| self.quarantines(segment.base));
        quarantined.map_or(cut, |segment| cut.min(segment.base))
    }
}

/// Whether a segment of the log has this name.
fn is_segment(examined: &Examined, name: &str) -> bool {
    examined.plan.survey.segments.iter().any(|found| segment_name(found.base) == name)
}

/// Whether a file that was moved aside had this name.
fn is_aside_of(aside: &str, name: &str) -> bool {
    aside.strip_prefix(name).is_some_and(|end| end.starts_with(".aside"))
}

impl Case<'_> {
    /// Whether nothing lies above `end` but the link of the newest segment.
    fn is_only_link(&self, end: Lsn) -> bool {
        let newest = self.known.last().and_then(|newest| Some((newest.base, newest.link.as_ref()?)));
        newest.is_some_and(|(base, link)| {
            let begin = base.saturating_add(u64::from(BLOCK));
            let above = begin.saturating_add(frame_size(link.encode().len() as u64));
            (link.prev_end, above) == (end.0, self.examined.report.end.0)
        })
    }

    /// The ways out but for the one of this plan. One that cannot be planned is left out.
    fn others(&self, plan: &RepairPlan) -> Result<Vec<Way>> {
        // One that drops no more leaves the same.
        let dropped = |way: Repair<'_>| {
            let laid_out = way.check(self.storage, &self.examined).and_then(|()| way.lay_out(self));
            laid_out.ok().map(|(other, _)| other.dropped_records).filter(|dropped| *dropped > plan.dropped_records)
        };
        if plan.dropped_records == 0 && plan.lost_records == Some(0) {
            // It costs nothing.
            return Ok(Vec::new());
        }
        let Some(lsn) = plan.faults.iter().map(|fault| fault.lsn).min() else { return Ok(Vec::new()) };
        let cut = dropped(Repair::new().cut(lsn)).map(|dropped_records| Way::Cut { lsn, dropped_records });
        let names = self.storage.list().map_err(|e| Error::io("list", self.storage.path(), e))?;
        let is_there = |fault: &&Fault| names.iter().any(|(name, plain)| *plain && *name == *fault.segment);
        let quarantine = plan.faults.iter().find(is_there).and_then(|fault| {
            let segment = fault.segment.clone();
            let dropped_records = dropped(Repair::new().quarantine(&segment))?;
            Some(Way::Quarantine { segment, dropped_records })
        });
        self.tally.check()?;
        Ok(cut.into_iter().chain(quarantine).collect())
    }
}

impl Layout {
    fn steps(&self, plan: &Plan) -> Vec<Step> {
        let rewrite = |stand: &Stand| {
            let (segment, passed_over) = (stand.name.clone(), stand.passed_over);
            if let Some(file) = stand.lay_elsewhere().cloned() {
                return Step::PutBack { file, segment, passed_over };
            }
            let there = plan.survey.segments.iter().any(|found| found.name == segment);
            if there { Step::Rewrite { segment, passed_over } } else { Step::Make { segment, passed_over } }
        };
        let aside = |file: &String| Step::MoveAside { file: file.clone() };
        let mut steps: Vec<Step> = self.unfinished.iter().map(aside).collect();
        steps.extend(self.stands.iter().map(rewrite));
        steps.extend(self.below.iter().map(aside));
        steps.push(Step::Continue { segment: self.next.name.clone() });
        steps.extend(self.others.iter().map(aside));
        steps
    }
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RepairPlan { faults, steps, kept_records, dropped_records, end, .. } = self;
        if steps.is_empty() {
            let records = plural(*kept_records, "record");
            return write!(f, "nothing to repair; {records}, the log ends at LSN {end}");
        }
        faults.iter().try_for_each(|fault| writeln!(f, "damage: {fault}"))?;
        steps.iter().try_for_each(|step| writeln!(f, "step: {step}"))?;
        let kept = plural(*kept_records, "valid record");
        write!(f, "keeps {kept}, drops {dropped_records}; the log ends at LSN {end}")
    }
}

/// What is passed over in a segment, if there is anything.
fn with(passed_over: u64) -> String {
    if passed_over == 0 { String::new() } else { format!(", with {} passed over", plural(passed_over, "byte")) }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Rewrite { segment, passed_over } => {
                write!(f, "copy {segment} aside and write it anew{}", with(*passed_over))
            }
            Step::PutBack { file, segment, passed_over } => {
                write!(f, "put {file} back as {segment}{}", with(*passed_over))
            }
            Step::Make { segment, passed_over } => write!(f, "make {segment}, which is missing{}", with(*passed_over)),
            Step::MoveAside { file } => write!(f, "move {file} aside"),
            Step::Continue { segment } => write!(f, "let the log go on in {segment}"),
        }
    }
}
