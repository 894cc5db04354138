//! Background work that runs only when it is stepped.

use std::time::Duration;

use super::chance::Chance;
use crate::storage::Next;

pub(super) type Step = Box<dyn FnMut() -> Next + Send>;

pub(super) type TaskId = u64;

struct Task {
    id: TaskId,
    /// Taken out while it runs.
    step: Option<Step>,
    due: bool,
    /// The time at which it is due, if nobody wakes it before.
    alarm: Option<Duration>,
}

impl Task {
    fn is_due(&self, now: Duration) -> bool {
        self.step.is_some() && (self.due || self.alarm.is_some_and(|alarm| alarm <= now))
    }
}

/// All background work that has not stopped. Steps may own handles on the disk, whose drop takes the lock of
/// the disk: they are dropped outside of it.
#[derive(Default)]
pub(super) struct Tasks {
    next: TaskId,
    tasks: Vec<Task>,
}

impl Tasks {
    pub(super) fn add(&mut self, step: Step) -> TaskId {
        self.next += 1;
        self.tasks.push(Task { id: self.next, step: Some(step), due: false, alarm: None });
        self.next
    }

    pub(super) fn wake(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            task.due = true;
        }
    }

    /// Takes all tasks out. Their numbers are not given again.
    pub(super) fn take(&mut self) -> Tasks {
        Tasks { next: self.next, tasks: std::mem::take(&mut self.tasks) }
    }

    pub(super) fn is_alive(&self, id: TaskId) -> bool {
        self.tasks.iter().any(|task| task.id == id)
    }

    pub(super) fn is_any_running(&self) -> bool {
        self.tasks.iter().any(|task| task.step.is_none())
    }

    pub(super) fn next_alarm(&self) -> Option<Duration> {
        self.tasks.iter().filter_map(|task| task.alarm).min()
    }

    pub(super) fn is_any_due(&self, now: Duration) -> bool {
        self.tasks.iter().any(|task| task.is_due(now))
    }

    /// Takes out a step that is due, one of them by chance.
    pub(super) fn take_due(&mut self, now: Duration, chance: &mut Chance) -> Option<(TaskId, Step)> {
        let due = self.tasks.iter().filter(|task| task.is_due(now)).count();
        let chosen = chance.below(due);
        let task = self.tasks.iter_mut().filter(|task| task.is_due(now)).nth(chosen)?;
        task.due = false;
        task.alarm = None;
        Some((task.id, task.step.take()?))
    }

    /// Puts a step back after it ran, as it asked for. Gives it back if it is to be dropped.
    pub(super) fn put_back(&mut self, id: TaskId, step: Option<Step>, next: Next, now: Duration) -> Option<Step> {
        let Some(at) = self.tasks.iter().position(|task| task.id == id) else {
            return step;
        };
        if next == Next::Stop {
            self.tasks.remove(at);
            return step;
        }
        if let Some(task) = self.tasks.get_mut(at) {
            task.step = step;
            match next {
                Next::Again => task.due = true,
                Next::Idle(limit) => task.alarm = limit.and_then(|limit| now.checked_add(limit)),
                Next::Stop => {}
            }
        }
        None
    }
}
