//! What the handles and the controls of one disk share, and the stepping of background work.

use super::state::State;
use super::tasks::{Step, TaskId};
use crate::storage::Next;
use crate::sync::{Condvar, Mutex};

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Rung whenever a background step was woken or has run.
    changed: Condvar,
}

/// A step that runs: put back, or stopped if it panics, when this is dropped.
struct Running<'a> {
    shared: &'a Shared,
    id: TaskId,
    step: Option<Step>,
    next: Next,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.shared.state.lock();
            let now = state.now;
            state.tasks.put_back(self.id, self.step.take(), self.next, now)
        };
        drop(left);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    pub(super) fn new(state: State) -> Shared {
        Shared { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn wake(&self, id: TaskId) {
        self.state.lock().tasks.wake(id);
        self.changed.notify_all();
    }

    /// Runs one background step that is due; `false` if none is.
    pub(super) fn step(&self) -> bool {
        let due = self.state.lock().take_due_step();
        let Some((id, step)) = due else {
            return false;
        };
        let mut running = Running { shared: self, id, step: Some(step), next: Next::Stop };
        if let Some(step) = &mut running.step {
            running.next = step();
        }
        true
    }

    /// Runs what is due, and lets time pass where nothing is, until the task `id` has stopped.
    ///
    /// # Panics
    /// If nothing would ever be due: a join of work that nobody woke would wait for ever.
    pub(super) fn join(&self, id: TaskId) {
        while self.state.lock().tasks.is_alive(id) {
            if self.step() {
                continue;
            }
            let mut state = self.state.lock();
            if !state.tasks.is_alive(id) || state.tasks.is_any_due(state.now) {
                continue;
            }
            if state.tasks.is_any_running() {
                // On another thread: it may wake others.
                self.changed.wait(&mut state);
                continue;
            }
            match state.tasks.next_alarm() {
                Some(alarm) => state.now = state.now.max(alarm),
                None => panic!("joined background work that neither is due nor will be: it would wait for ever"),
            }
        }
    }
}
