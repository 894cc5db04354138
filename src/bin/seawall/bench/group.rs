//! Group commit by hand: what the floors of this command, of `benches` and of `bench-compare` are made of.

use std::io;

use parking_lot::{Condvar, Mutex};

/// Who finds no leader leads: one write for all that came by then.
///
/// Groups wait apart by their number's parity: the end of a write wakes its own group, which is done, and one of the next,
/// which leads it.
#[derive(Default)]
pub struct Group {
    gate: Mutex<Gate>,
    turns: [Condvar; 2],
    /// A leader gives way once before it takes its group, so that more come along.
    pub yields: bool,
}

#[derive(Default)]
struct Gate {
    gathering: Vec<u8>,
    spare: Vec<u8>,
    /// The group that is gathering. Groups below `done` are written.
    group: u64,
    done: u64,
    is_led: bool,
    /// A write failed: nothing is promised any more.
    is_broken: bool,
}

impl Group {
    /// Adds a record by `put`, and returns once `write` was given it with all others of its group. One write at a time.
    pub fn append(&self, put: impl FnOnce(&mut Vec<u8>), write: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut gate = self.gate.lock();
        put(&mut gate.gathering);
        let mine = gate.group;
        while gate.done <= mine {
            if gate.is_broken {
                return Err(io::Error::other("another thread's write failed"));
            }
            if gate.is_led {
                self.turn(mine).wait(&mut gate);
                continue;
            }
            gate.is_led = true;
            if self.yields {
                drop(gate);
                std::thread::yield_now();
                gate = self.gate.lock();
            }
            gate.group += 1;
            let empty = std::mem::take(&mut gate.spare);
            let mut full = std::mem::replace(&mut gate.gathering, empty);
            drop(gate);
            let written = write(&full);
            full.clear();
            gate = self.gate.lock();
            gate.spare = full;
            gate.is_led = false;
            gate.is_broken |= written.is_err();
            gate.done += u64::from(written.is_ok());
            self.turn(mine).notify_all();
            // Nobody leads the next where nothing is written any more.
            if gate.is_broken {
                self.turn(mine + 1).notify_all();
            } else {
                self.turn(mine + 1).notify_one();
            }
            written?;
        }
        Ok(())
    }

    fn turn(&self, group: u64) -> &Condvar {
        let [even, odd] = &self.turns;
        if group.is_multiple_of(2) { even } else { odd }
    }
}
