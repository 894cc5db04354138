//! The durable point: who moves it (one leader at a time), who waits for it, and the poison that ends it.
//!
//! [`Commit`] knows nothing of files. Whoever waits and finds no leader leads: the caller brings [`Lead`], which
//! writes and syncs. Futures cannot lead; their wakers are kept here and the log's syncer leads for them.
//!
//! ```text
//! Ticket::wait > Writer::wait > Commit::wait > lead_or_sleep --- nobody leads -> lead > Leader::round: writes, syncs
//!                                                            `-- else ---------> sleeps until that round ends
//! Ticket::poll > Commit::poll: keeps the waker      the syncer > try_lead -----> lead, as above
//! ```

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::bugs::{Bug, Bugs};
use crate::error::{Error, ErrorKind, Result};
use crate::events;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Condvar, Mutex};
use crate::wakers::Wakers;

/// How soon whoever met a full disk tries again.
pub(crate) const FULL_RETRY: Duration = Duration::from_millis(100);

/// How far the log is written and synced, and who waits.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// Every byte below went through a successful sync. Claims are made of this and of nothing else.
    synced: AtomicU64,
    /// What tickets, readers and `durable_lsn` go by: `synced`, or with `Durability::Os` what was written.
    acknowledged: AtomicU64,
    /// Set with [`State::poison`], for those who only ask whether.
    poisoned: AtomicBool,
    state: Mutex<State>,
    /// Who waits for a round, by its parity: the end of a round wakes those that it was for, and one of the next.
    turns: [Condvar; 2],
    /// Who met a full disk.
    full: Condvar,
    bugs: Bugs,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody leads. Leading is one token: two leaders would sync the same pages twice.
    leading: bool,
    /// Rounds that were led.
    round: usize,
    /// While somebody leads: what was appended below is in this round, and the rest in the next.
    aim: u64,
    /// A thread sleeps until the next round, which it leads if nobody comes first.
    awaited: bool,
    /// Futures, by the LSN that they wait for. A batch ends there and only its ticket waits for it.
    wakers: BTreeMap<u64, Waker>,
    /// Who only looks on, by an id, and wants to know that something moved. Nobody leads for them.
    watchers: BTreeMap<u64, Waker>,
    /// The first failure. Never cleared.
    poison: Option<Error>,
    /// Threads that hold a lock which a waker may want: until they let go they wake nobody for a failure.
    hushes: Vec<ThreadId>,
    /// Whether the failure was told.
    told: bool,
}

impl State {
    /// Takes the token. What is appended until the leader aims is in its round.
    fn take(&mut self) {
        self.leading = true;
        self.aim = u64::MAX;
    }

    /// What is to be told of a failure now, if there was one.
    fn failure(&mut self) -> Failure {
        if self.poison.is_none() || self.hushes.contains(&thread::current().id()) {
            return Failure::default();
        }
        let first = !std::mem::replace(&mut self.told, true);
        let poison = self.poison.clone().filter(|_| first);
        let woken = [&mut self.wakers, &mut self.watchers].map(|waiting| Wakers(std::mem::take(waiting)));
        Failure { poison, woken }
    }
}

/// What leading is. Called without any lock held.
pub(crate) trait Lead {
    /// A round: writes and syncs what was appended so far, and says up to where to [`Commit::aim`] once it knows. One call at
    /// a time.
    fn round(&self) -> Result<Led>;

    /// What may be said, no sooner, once the point has moved and the threads were woken. `awaited`: another round follows
    /// at once, for threads or futures wait for it.
    fn moved(&self, awaited: bool);
}

/// What a leader brought about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Led {
    /// Everything below was written.
    Written(u64),
    /// Everything below was written and synced.
    Synced(u64),
    /// The disk is full and the writes wait in memory: not a failure.
    Full,
}

impl Commit {
    /// Everything below `end` is synced already.
    pub(crate) fn new(end: u64) -> Commit {
        Commit { synced: end.into(), acknowledged: end.into(), ..Commit::default() }
    }

    /// Without the safeties that `bugs` takes out.
    pub(crate) fn without(self, bugs: Bugs) -> Commit {
        Commit { bugs, ..self }
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// The error that everybody gets once the log is poisoned.
    pub(crate) fn poison(&self) -> Option<Error> {
        self.state.lock().poison.clone()
    }

    /// Ends all writing. The first failure stays; every waiter is told, futures once this thread is not
    /// [hushed](Commit::hush).
    pub(crate) fn fail(&self, error: &Error) -> Error {
        let mut state = self.state.lock();
        let poison = state.poison.get_or_insert_with(|| error.poisoned()).clone();
        self.poisoned.store(true, Ordering::Release);
        let failure = state.failure();
        drop(state);
        if !self.bugs.has(Bug::PoisonUnheard) {
            self.turns.iter().chain([&self.full]).for_each(|waiting| _ = waiting.notify_all());
        }
        failure.tell();
        poison
    }

    /// While this lives this thread wakes no future for a failure, which may want a lock that the thread holds.
    pub(crate) fn hush(&self) -> Hush<'_> {
        self.state.lock().hushes.push(thread::current().id());
        Hush(self)
    }

    /// Whether futures wait for more than is acknowledged.
    pub(crate) fn futures_wait(&self) -> bool {
        let state = self.state.lock();
        state.wakers.last_key_value().is_some_and(|(end, _)| *end > self.acknowledged())
    }

    /// Whoever leads says that its round takes what was appended below `end`.
    pub(crate) fn aim(&self, end: u64) {
        self.state.lock().aim = end;
    }

    /// Waits until `reached` says so of what ends at `end`, leading whenever nobody does.
    #[inline]
    pub(crate) fn wait(&self, end: u64, reached: impl Fn(&Commit) -> bool, lead: &impl Lead) -> Result<()> {
        if reached(self) { Ok(()) } else { self.lead_or_sleep(end, reached, lead) }
    }

    #[inline(never)]
    fn lead_or_sleep(&self, end: u64, reached: impl Fn(&Commit) -> bool, lead: &impl Lead) -> Result<()> {
        let mut full = None;
        let mut state = self.state.lock();
        loop {
            // What is durable stays durable, whatever failed later.
            if reached(self) {
                return Ok(());
            }
            if let Some(poison) = &state.poison {
                return Err(poison.clone());
            }
            if let Some(until) = full {
                // At a pace, whoever else wakes us: several waiters would wake one another for ever. And not beyond
                // it, though others go on: what they reach may not be what we wait for.
                full = full.filter(|_| !self.full.wait_until(&mut state, until).timed_out());
            } else if state.leading {
                // Nobody sleeps for ever. A round wakes its own; those of the next are woken by that, and one of
                // them, woken now, leads it unless somebody came first: the point has not moved past it meanwhile.
                let later = end > state.aim;
                state.awaited |= later;
                let turn = state.round + usize::from(later);
                self.turn(turn).wait(&mut state);
            } else {
                state.take();
                drop(state);
                let led = self.lead(lead)?;
                full = matches!(led, Led::Full).then(|| Instant::now() + FULL_RETRY);
                if reached(self) {
                    return Ok(());
                }
                state = self.state.lock();
            }
        }
    }

    fn turn(&self, round: usize) -> &Condvar {
        let [even, odd] = &self.turns;
        if round.is_multiple_of(2) { even } else { odd }
    }

    /// Leads once, unless somebody does already. `None`: somebody did.
    pub(crate) fn try_lead(&self, lead: &impl Lead) -> Option<Result<Led>> {
        let mut state = self.state.lock();
        if let Some(poison) = &state.poison {
            return Some(Err(poison.clone()));
        }
        if state.leading {
            return None;
        }
        state.take();
        drop(state);
        Some(self.lead(lead))
    }

    /// With the token: leads, publishes, gives the token back, wakes.
    fn lead(&self, lead: &impl Lead) -> Result<Led> {
        // Dropped in this order, after a panic too, which goes from below: `in_hand`, which poisons then; `token`, which
        // fills `due`; `hush`, which may wake for a poison; `due`, which wakes. Who is woken may do anything, so that comes
        // last, when nobody leads any more and no lock is held. Without a panic `token` goes first, and what moved is told.
        let mut due = Due::default();
        let hush = self.hush();
        let mut token = Some(Token(self, &mut due));
        let in_hand = InHand::new(self);
        let led = lead.round().map_err(|error| self.fail(&error));
        if self.bugs.has(Bug::TokenBeforePoint) {
            token = None;
        }
        // Crash: published only now, after the sync that `led` speaks of; whoever is woken may tell the world.
        match &led {
            Ok(Led::Written(end)) => _ = self.acknowledged.fetch_max(*end, Ordering::AcqRel),
            Ok(Led::Synced(end)) => {
                self.synced.fetch_max(*end, Ordering::AcqRel);
                self.acknowledged.fetch_max(*end, Ordering::AcqRel);
            }
            Ok(Led::Full) | Err(_) => {}
        }
        drop(token);
        if led.is_ok() {
            lead.moved(due.awaited);
        }
        drop((in_hand, hush, due));
        led
    }

    /// Whether `end` is acknowledged; if not, `waker` will be woken when it is or when the log is poisoned.
    pub(crate) fn poll(&self, end: u64, waker: &Waker) -> Option<Result<()>> {
        if self.acknowledged() >= end {
            return Some(Ok(()));
        }
        let waker = waker.clone();
        let mut state = self.state.lock();
        if self.acknowledged() >= end {
            return Some(Ok(()));
        }
        if let Some(poison) = &state.poison {
            return Some(Err(poison.clone()));
        }
        let replaced = state.wakers.insert(end, waker);
        // Without the lock: it may be the last to hold a task, and what that drops may wait for the log.
        drop(state);
        drop(replaced);
        None
    }

    /// Has `waker` woken when more than `seen` is acknowledged, or the log is poisoned; `false` if more is already.
    pub(crate) fn watch(&self, id: u64, seen: u64, waker: &Waker) -> Result<bool> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if self.acknowledged() > seen && !self.bugs.has(Bug::WatchedTooLate) {
            return Ok(false);
        }
        if let Some(poison) = &state.poison {
            return Err(poison.clone());
        }
        let replaced = state.watchers.insert(id, waker);
        drop(state);
        drop(replaced);
        Ok(true)
    }

    /// Forgets a watcher.
    pub(crate) fn forget(&self, id: u64) {
        let forgotten = self.state.lock().watchers.remove(&id);
        drop(forgotten);
    }

    /// Wakes all watchers: the log is closed.
    pub(crate) fn wake_watchers(&self) {
        let watchers = Wakers(std::mem::take(&mut self.state.lock().watchers));
        drop(watchers);
    }
}

/// A failure to be told, with no lock held.
#[derive(Default)]
struct Failure {
    /// The first time.
    poison: Option<Error>,
    woken: [Wakers; 2],
}

impl Failure {
    fn tell(self) {
        drop(self.woken);
        if let Some(poison) = &self.poison {
            events::poisoned(poison);
        }
    }
}

/// From [`Commit::hush`]. To be made before the lock is taken, so that it ends after it.
pub(crate) struct Hush<'a>(&'a Commit);

impl Drop for Hush<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        let own = thread::current().id();
        if let Some(last) = state.hushes.iter().rposition(|hushed| *hushed == own) {
            state.hushes.swap_remove(last);
        }
        let failure = state.failure();
        drop(state);
        failure.tell();
    }
}

/// Poisons the log if the thread panics while this lives: nobody knows what became of the bytes it had in hand.
pub(crate) struct InHand<'a> {
    commit: &'a Commit,
    /// It was panicking before: then something that is dropped meanwhile writes, and nothing went wrong with that.
    panicking: bool,
}

impl InHand<'_> {
    pub(crate) fn new(commit: &Commit) -> InHand<'_> {
        InHand { commit, panicking: thread::panicking() }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.panicking {
            let message = "the thread that was writing panicked";
            self.commit.fail(&Error::new(ErrorKind::Io, "write", message));
        }
    }
}

/// The leader's token. Given back however leading ends.
struct Token<'a>(&'a Commit, &'a mut Due);

/// What is due once the token was given back.
#[derive(Default)]
struct Due {
    /// Another round follows at once.
    awaited: bool,
    wakers: Wakers,
    watchers: Wakers,
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.leading = false;
        let round = state.round;
        state.round += 1;
        let later = state.wakers.split_off(&(self.0.acknowledged() + 1));
        self.1.awaited = std::mem::take(&mut state.awaited) || !later.is_empty();
        self.1.wakers.0 = std::mem::replace(&mut state.wakers, later);
        self.1.watchers.0 = std::mem::take(&mut state.watchers);
        self.0.turn(round).notify_all();
        if !self.0.bugs.has(Bug::NextRoundAsleep) {
            self.0.turn(round + 1).notify_one();
        }
        self.0.full.notify_all();
    }
}

#[cfg(test)]
mod tests;
