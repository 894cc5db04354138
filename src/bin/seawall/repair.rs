//! `seawall repair`: what can be done about a damaged log, and doing it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use seawall::Lsn;
use seawall::check::{self, Repair, RepairPlan, Salvage, SegmentInfo, State, Step, Way};
use serde_json::{Value, json};

use crate::exit;
use crate::failure::{self, About};
use crate::inspect::hex;
use crate::meter::Meter;
use crate::out::{Out, count, counted};

/// Bring a damaged log back: first the plan, then the act
///
/// Without one of --pass-over, --quarantine and --cut it only says what each of them would do, and changes nothing; that
/// works on a live log too, which is read once for all of them, as verify does, and once more where only salvage can tell
/// what is left. Everything that stays keeps its LSN. What is replaced is copied aside before, and what is no longer part of
/// the log is moved aside, as NAME.wal.aside: nothing is deleted. A cursor that was made or moved in what is lost is gone, or
/// stands where it stood before: make it again before anything cleans. A crash within leaves the log damaged still or
/// repaired: run it again, without a way to see which; what is done is not done again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The log's directory
    dir: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Pass over what is damaged with the rest of its batch, and no more: of what can be read, the way that loses least
    #[arg(long, conflicts_with_all = ["quarantine", "cut"])]
    pass_over: bool,
    /// Pass over all of a segment; may be given several times
    #[arg(long, value_name = "SEGMENT")]
    quarantine: Vec<String>,
    /// End the log before the first batch that reaches above LSN, be it damaged or sound
    #[arg(long, value_name = "LSN")]
    cut: Option<u64>,
    /// Tell the plan as one JSON object
    #[arg(long, long_help = JSON)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  seawall repair /var/lib/billing
  seawall repair /var/lib/billing --pass-over
  seawall repair /var/lib/billing --cut 104233088 --dry-run
  seawall repair /var/lib/billing --quarantine 00000000000067108864.wal

Exit codes: 0 nothing to repair or to cut, or done without loss, 1 usage or I/O, 2 damage found and nothing done, 3 done
with loss, or where it cannot be told whether anything is lost, as without MARK, or --dry-run on an undamaged log of
what would drop records, 4 a writer has the log, 5 written by a newer version.";

const JSON: &str = "Tell the plan as one JSON object:
  {\"done\":BOOL,\"kept_records\":N,\"dropped_records\":N,\"lost_records\":N,\"unmarked\":BOOL,
   \"end\":LSN,\"before\":LSN,
   \"faults\":[..as verify..],
   \"notes\":[STRING,..],
   \"next\":[COMMAND,..],
   \"steps\":[{\"rewrite\":SEGMENT,\"passed_over\":BYTES}|{\"make\":SEGMENT,\"passed_over\":BYTES}|
             {\"put_back\":FILE,\"as\":SEGMENT,\"passed_over\":BYTES}|{\"move_aside\":FILE}|{\"continue\":SEGMENT},..]}
lost_records were lost before and come back in no way; null where it cannot be told. Where unmarked is true, MARK is
missing, or half of it, and nothing tells whether more records followed the last. The log's records end at `before` now,
and at `end` then; it goes on above that. A segment is made of which there is no file, and put back that lies in one under
another name. What is told of an error: `seawall --help`.";

impl Arguments {
    pub fn about(&self) -> About<'_> {
        // Telling it is all that can fail beside the log.
        let done = if self.acts() && !self.dry_run { "what the repair was to change" } else { failure::NOTHING };
        About { done, ..About::reading(&self.dir, self.json) }
    }

    fn acts(&self) -> bool {
        self.pass_over || self.cut.is_some() || !self.quarantine.is_empty()
    }

    /// The command that does what it is asked to do.
    fn acting(&self) -> String {
        let mut command = format!("seawall repair {}", failure::shell(&self.dir));
        if self.pass_over {
            command += " --pass-over";
        }
        for segment in &self.quarantine {
            command += &format!(" --quarantine {}", failure::shell(Path::new(segment)));
        }
        if let Some(lsn) = self.cut {
            command += &format!(" --cut {lsn}");
        }
        command
    }
}

pub fn run(arguments: &Arguments, out: &mut Out) -> anyhow::Result<ExitCode> {
    let asked = arguments.acts();
    let act = asked && !arguments.dry_run;
    let meter = Meter::new(arguments.json);
    let progress = |progress| meter.told(progress);
    let mut repair = arguments.quarantine.iter().fold(Repair::new().progress(&progress), Repair::quarantine);
    if let Some(lsn) = arguments.cut {
        repair = repair.cut(Lsn(lsn));
    }
    let plan = if act { repair.run(&arguments.dir) } else { repair.plan(&arguments.dir) };
    drop(meter);
    let plan = plan?;
    let next = next(&plan, arguments);
    if arguments.json {
        out.json(&object(&plan, act, &next))?;
    } else {
        text(&plan, act, arguments, out)?;
        match next.as_slice() {
            [(only, what)] if what.is_empty() => out.line(failure::next(std::slice::from_ref(only)))?,
            next => next.iter().enumerate().try_for_each(|(n, (command, what))| {
                let lead = if n == 0 { "next  " } else { "    or" };
                out.line(format_args!("{lead}   {command}     # {what}"))
            })?,
        }
    }
    let lost = plan.dropped_records > 0 || plan.lost_records != Some(0) || plan.unmarked;
    Ok(match (plan.steps.is_empty(), act) {
        (true, _) => exit::CLEAN,
        (false, false) if !plan.faults.is_empty() => exit::damage(),
        _ if lost => exit::loss(),
        _ => exit::CLEAN,
    })
}

fn object(plan: &RepairPlan, done: bool, next: &[(String, String)]) -> Value {
    let step = |step: &Step| match step {
        Step::Rewrite { segment, passed_over } => json!({ "rewrite": segment, "passed_over": passed_over }),
        Step::PutBack { file, segment, passed_over } => {
            json!({ "put_back": file, "as": segment, "passed_over": passed_over })
        }
        Step::Make { segment, passed_over } => json!({ "make": segment, "passed_over": passed_over }),
        Step::MoveAside { file } => json!({ "move_aside": file }),
        Step::Continue { segment } => json!({ "continue": segment }),
        _ => Value::Null,
    };
    json!({
        "done": done && !plan.steps.is_empty(),
        "kept_records": plan.kept_records, "dropped_records": plan.dropped_records,
        "lost_records": plan.lost_records, "unmarked": plan.unmarked, "end": plan.end.0, "before": plan.before.0,
        "faults": plan.faults.iter().map(crate::verify::fault).collect::<Vec<_>>(),
        "notes": plan.notes,
        "next": next.iter().map(|(command, _)| command).collect::<Vec<_>>(),
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn text(plan: &RepairPlan, done: bool, arguments: &Arguments, out: &mut Out) -> anyhow::Result<()> {
    plan.faults.iter().try_for_each(|fault| crate::verify::fault_text(fault, out))?;
    if plan.steps.is_empty() {
        let (records, end) = (counted(plan.kept_records, "record"), plan.end);
        let act = if arguments.cut.is_some() { "cut" } else { "repair" };
        out.line(format_args!("nothing to {act}: {records}, the log ends at lsn {end}"))?;
    }
    plan.notes.iter().try_for_each(|note| out.line(format_args!("note     {note}")))?;
    if plan.steps.is_empty() {
        return Ok(());
    }
    let told = if done { "done" } else { "plan" };
    plan.steps.iter().try_for_each(|step| out.line(format_args!("{told}     {step}")))?;
    let (kept, dropped) = (counted(plan.kept_records, "valid record"), count(plan.dropped_records));
    let (keep, drop) = if done { ("kept", "dropped") } else { ("keeps", "drops") };
    out.line(format_args!("{keep} {kept}, {drop} {dropped}; its records end at lsn {}", plan.end))?;
    if plan.faults.is_empty() && plan.dropped_records > 0 {
        let dropped = counted(plan.dropped_records, "sound record");
        let is = if done { "was undamaged and reached" } else { "is undamaged and reaches" };
        out.line(format_args!("lost     {dropped}: the log {is} to lsn {}", plan.before))?;
    }
    match done {
        true => {
            let aside = plan.steps.iter().any(|step| match step {
                Step::MoveAside { .. } => true,
                Step::Rewrite { segment, .. } | Step::PutBack { segment, .. } => {
                    arguments.dir.join(format!("{segment}.aside")).exists()
                }
                _ => false,
            });
            let beside = if aside { "; what was replaced is beside it as *.aside" } else { "" };
            out.line(format_args!("touched  the log{beside}"))
        }
        false => out.line("touched  nothing"),
    }
}

/// The commands to choose from, each with what it does and loses, where there are several.
fn next(plan: &RepairPlan, arguments: &Arguments) -> Vec<(String, String)> {
    let dir = failure::shell(&arguments.dir);
    if plan.steps.is_empty() {
        return Vec::new();
    }
    if arguments.acts() {
        let is_done = !arguments.dry_run;
        let command = if is_done { format!("seawall verify {dir}") } else { arguments.acting() };
        return vec![(command, String::new())];
    }
    let this = "does this; first copy the directory, if you can".to_owned();
    let mut next = vec![(format!("seawall repair {dir} --pass-over"), this)];
    for way in &plan.others {
        let (way, dropped) = match way {
            Way::Cut { lsn, dropped_records } => (format!("--cut {lsn}"), dropped_records),
            Way::Quarantine { segment, dropped_records } => (format!("--quarantine {segment}"), dropped_records),
            _ => continue,
        };
        next.push((format!("seawall repair {dir} {way}"), format!("drops {}", counted(*dropped, "valid record"))));
    }
    let left = "writes what is left into a new log, and leaves this one";
    next.extend(salvages(plan, arguments).into_iter().map(|way| (way, left.to_owned())));
    next
}

/// The commands that write into new logs what is left. Where it is in doubt whether anything is, it is looked for.
fn salvages(plan: &RepairPlan, arguments: &Arguments) -> Vec<String> {
    let dir = arguments.dir.as_path();
    let way = |log: &str| failure::salvage(&[dir], Some(log));
    let overview = check::inspect(dir).ok();
    // Salvage knows a log by a header.
    let is_used =
        |segment: &SegmentInfo| segment.capacity.is_some() && segment.records.is_some_and(|records| records > 0);
    let sound = overview.filter(|overview| plan.kept_records > 0 && overview.segments.iter().any(is_used));
    // What lost its header may be found without the log's name. Another log's records bring nothing of this one back.
    let is_named = |segment: &SegmentInfo| segment.capacity.is_some() || !matches!(segment.state, State::Damaged(_));
    // And so may one in a file that is none of the log's by its name.
    let all_named =
        sound.as_ref().is_some_and(|overview| overview.foreign.is_empty() && overview.segments.iter().all(is_named));
    let ours = sound.and_then(|overview| overview.log_id);
    if let Some(id) = ours.filter(|_| all_named) {
        return vec![way(&hex(&id))];
    }
    let meter = Meter::new(arguments.json);
    let progress = |progress| meter.told(progress);
    let found = Salvage::new().progress(&progress).run(&[dir]);
    let logs = found.iter().flat_map(|found| found.logs());
    let logs = logs.filter(|log| ours.is_none() || log.log_id.is_none() || log.log_id == ours);
    logs.map(|log| way(&log.name)).collect()
}
