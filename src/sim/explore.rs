//! Every crash of a piece of work, and every state that it may leave; the first that breaks a promise, made small.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::chance::Chance;
use super::crash::{Keep, Unit};
use super::disk::Disk;
use super::fault::{Fault, Operation};

/// Crashes a piece of work at each storage operation that it makes, and looks at the states that the crash may leave; and
/// the same where one of its syncs failed before.
///
/// The work is yours: a log, code that embeds one, or anything else that keeps its files in a [`Disk`]. The whole
/// follows from the seed; what is found is told as a [`Crash`], which can be had [again](Explore::again).
///
/// Here an application that replaces a file durably:
///
/// ```
/// use seawall::sim::{Disk, Explore};
/// use std::io;
///
/// fn save(disk: &Disk, text: &[u8]) -> io::Result<()> {
///     let storage = disk.mount();
///     let new = storage.create("state.new")?;
///     new.write_at(text, 0)?;
///     new.sync()?;
///     storage.rename("state.new", "state")?;
///     storage.sync_dir()
/// }
///
/// let before = Disk::new(1);
/// before.put("state", b"old");
/// // What the work answers is what it has acknowledged when the power goes.
/// let work = |disk: &Disk| save(disk, b"new").is_ok();
/// let states = Explore::new(1).run(&before, work, |left, &saved| match left.file("state").as_deref() {
///     Some(b"new") => Ok(()),
///     Some(b"old") if !saved => Ok(()),
///     other => Err(format!("{other:?}, saved: {saved}")),
/// })?;
/// assert!(states > 20);
/// # Ok::<(), seawall::sim::Broken>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is explored until it is run"]
pub struct Explore {
    pub(super) seed: u64,
    states: u64,
}

/// A crash: in which operation the power went, and what of the unsynced survived it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crash {
    /// The power goes in this [mutating](Operation::is_mutating) operation of the work, 1 being its first; or behind its
    /// last.
    pub operation: u64,
    /// The sync of a file or of the directory that fails before that, if one does.
    pub fault: Option<Box<Fault>>,
    /// Of each unit that was [dirty](Disk::dirty), whether it survives. `None`: the process alone is killed.
    pub kept: Option<Vec<bool>>,
    /// The units that do not.
    pub lost: Vec<Unit>,
}

/// A crash that breaks a promise: as few units are lost in it as it takes. Printed, it is a line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Broken {
    /// Which.
    pub crash: Crash,
    /// Of the [`Explore`] that found it: with it the same is found again.
    pub seed: u64,
    /// How many states were looked at up to it.
    pub states: u64,
    /// What was said of it.
    pub what: String,
}

impl Explore {
    /// At most 64 states at each operation. `seed` draws them where there are more.
    pub fn new(seed: u64) -> Explore {
        Explore { seed, states: 64 }
    }

    /// At most so many states at each operation, at least four: all that there are, or a sample of them.
    pub fn states(mut self, most: u64) -> Explore {
        self.states = most.max(4);
        self
    }

    /// Has `work` done on forks of `before`, with the power going in its first operation, its second, and so on to its
    /// end; and has `check` look at each state that may be left. `work` is to stop where it meets an error, or to go on as
    /// it does in earnest, and to tell what it had acknowledged by then. Background work runs where `work`
    /// [steps](Disk::step) it.
    ///
    /// After that each of its syncs fails, once, and the power goes later: in another operation, and behind the last. Every
    /// other time what such a sync did not write is [forgotten](Fault::forgetting) at once.
    ///
    /// Takes as long as doing the work as often as it has operations, and checking what each state left.
    ///
    /// # Errors
    /// The first crash of which `check` says that it breaks a promise, or in which `work` or `check` panics.
    pub fn run<T>(
        &self,
        before: &Disk,
        mut work: impl FnMut(&Disk) -> T,
        mut check: impl FnMut(&Disk, &T) -> Result<(), String>,
    ) -> Result<u64, Broken> {
        let mut search = Search { explore: self, chance: Chance::new(self.seed), states: 0 };
        let (mut syncs, mut counts) = (Vec::new(), [0; 2]);
        for operation in 1.. {
            let stopped = self.stopped(before, &mut work, operation, None)?;
            search.look(&stopped, self.states, &mut check)?;
            if stopped.ended {
                break;
            }
            for (kind, count) in SYNCS.into_iter().zip(&mut counts) {
                let nth = stopped.disk.count(kind);
                if std::mem::replace(count, nth) < nth {
                    syncs.push((operation, Fault::new(kind).nth(nth)));
                }
            }
        }
        let most = (self.states / 4).max(4);
        for (operation, fault) in syncs {
            let fault = if search.chance.below(2) == 0 { fault } else { fault.forgetting() };
            let ended = self.stopped(before, &mut work, u64::MAX, Some(&fault))?;
            let last = ended.disk.operations();
            search.look(&Stopped { operation: last + 1, ..ended }, most, &mut check)?;
            if last > operation {
                let further = usize::try_from(last - operation).unwrap_or(usize::MAX);
                let later = operation + 1 + search.chance.below(further) as u64;
                search.look(&self.stopped(before, &mut work, later, Some(&fault))?, most, &mut check)?;
            }
        }
        Ok(search.states)
    }

    /// The same crash of the same work again: the disk as it was left, and what the work had told.
    pub fn again<T>(&self, crash: &Crash, before: &Disk, mut work: impl FnMut(&Disk) -> T) -> (Disk, T) {
        let stopped = Stopped::new(before, &mut work, crash.operation, crash.fault.as_deref());
        (left(&stopped.disk, &crash.kept), stopped.told)
    }

    /// A panic of the work breaks a promise too.
    fn stopped<T>(
        &self,
        before: &Disk,
        work: &mut impl FnMut(&Disk) -> T,
        operation: u64,
        fault: Option<&Fault>,
    ) -> Result<Stopped<T>, Broken> {
        let stopped = AssertUnwindSafe(|| Stopped::new(before, work, operation, fault));
        catch_unwind(stopped).map_err(|panic| {
            let crash = Crash { operation, fault: fault.cloned().map(Box::new), kept: None, lost: Vec::new() };
            Broken { crash, seed: self.seed, states: 0, what: told_by(&*panic) }
        })
    }
}

/// What a panic says.
fn told_by(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panics: {}", text.unwrap_or("with no text"))
}

/// Syncs a file, or the directory.
const SYNCS: [Operation; 2] = [Operation::Sync, Operation::SyncDir];

/// An exploration that goes on.
struct Search<'a> {
    explore: &'a Explore,
    chance: Chance,
    states: u64,
}

impl Search<'_> {
    /// Looks at what the power's going leaves, at most at so many states.
    fn look<T>(
        &mut self,
        stopped: &Stopped<T>,
        most: u64,
        check: &mut impl FnMut(&Disk, &T) -> Result<(), String>,
    ) -> Result<(), Broken> {
        let units = stopped.disk.dirty();
        for kept in self.choices(units.len(), most) {
            self.states += 1;
            let mut broken = |kept: &Option<Vec<bool>>| {
                let checked = AssertUnwindSafe(|| check(&left(&stopped.disk, kept), &stopped.told));
                catch_unwind(checked).unwrap_or_else(|panic| Err(told_by(&*panic))).err()
            };
            let Some(what) = broken(&kept) else { continue };
            let (kept, what) = shrink(kept, what, broken);
            let lost = units.iter().zip(kept.iter().flatten()).filter(|(_, kept)| !**kept);
            let lost = lost.map(|(unit, _)| unit.clone()).collect();
            let crash = Crash { operation: stopped.operation, fault: stopped.fault.clone().map(Box::new), kept, lost };
            return Err(Broken { crash, seed: self.explore.seed, states: self.states, what });
        }
        Ok(())
    }

    /// What may survive of so many units: a kill, all of it, none, and each other way or a sample of them.
    fn choices(&mut self, units: usize, most: u64) -> Vec<Option<Vec<bool>>> {
        let all = 1_u64.checked_shl(u32::try_from(units).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
        let mut choices = vec![None];
        if all < most {
            choices.extend((0..all).map(|mask| Some((0..units).map(|unit| mask >> unit & 1 == 1).collect())));
            return choices;
        }
        choices.extend([true, false].map(|kept| Some(vec![kept; units])));
        for _ in 3..most {
            let odds = [1, 4, 7].get(self.chance.below(5)).copied();
            // Each by itself; or a run of them, as large writes go to the disk: that alone, or all but that.
            let (from, to) = (self.chance.below(units), self.chance.below(units));
            let (run, inside) = (from.min(to)..=from.max(to), self.chance.below(2) == 0);
            let keeps = |unit| match odds {
                Some(odds) => self.chance.below(8) < odds,
                None => run.contains(&unit) == inside,
            };
            choices.push(Some((0..units).map(keeps).collect()));
        }
        choices
    }
}

/// The work on a fork, up to the power's going in an operation.
struct Stopped<T> {
    disk: Disk,
    told: T,
    operation: u64,
    fault: Option<Fault>,
    /// It came to its end before.
    ended: bool,
}

impl<T> Stopped<T> {
    fn new(before: &Disk, work: &mut impl FnMut(&Disk) -> T, operation: u64, fault: Option<&Fault>) -> Stopped<T> {
        let disk = before.fork();
        disk.crash_torn_at(operation);
        fault.into_iter().for_each(|fault| disk.fail(fault.clone()));
        let told = work(&disk);
        let ended = !disk.crashed();
        Stopped { disk, told, operation, fault: fault.cloned(), ended }
    }
}

/// What the crash leaves of a disk.
fn left(disk: &Disk, kept: &Option<Vec<bool>>) -> Disk {
    let left = disk.fork();
    match kept {
        Some(kept) => left.crash(Keep::Units(kept)),
        None => left.kill(),
    }
    left
}

/// Keeps more and more of what was lost, as long as it is `broken` all the same.
fn shrink(
    kept: Option<Vec<bool>>,
    mut what: String,
    mut broken: impl FnMut(&Option<Vec<bool>>) -> Option<String>,
) -> (Option<Vec<bool>>, String) {
    let Some(mut least) = kept else { return (None, what) };
    for unit in 0..least.len() {
        let mut more = least.clone();
        let Some(lost) = more.get_mut(unit).filter(|kept| !**kept) else { continue };
        *lost = true;
        if let Some(still) = broken(&Some(more.clone())) {
            (least, what) = (more, still);
        }
    }
    (Some(least), what)
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = self.operation;
        if let Some(fault) = &self.fault {
            write!(f, "{fault}, then ")?;
        }
        if self.kept.is_none() {
            return write!(f, "a kill in operation {operation}");
        }
        write!(
            f,
            "a power cut in operation {operation} that loses {}",
            if self.lost.is_empty() { "nothing" } else { "" }
        )?;
        let lost: Vec<_> = self.lost.iter().map(Unit::to_string).collect();
        write!(f, "{}", lost.join(", "))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (seed {}, state {})", self.crash, self.what, self.seed, self.states)
    }
}

impl std::error::Error for Broken {}
