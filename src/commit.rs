//! The durable point: who moves it (one leader at a time), who waits for it, and the poison that ends it.
//!
//! [`Commit`] knows nothing of files. Whoever waits and finds no leader leads: the caller brings [`Lead`], which
//! writes and syncs. Futures cannot lead; their wakers are kept here and the log's syncer leads for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::events;

/// How soon a thread that met a full disk leads again.
const FULL_RETRY: Duration = Duration::from_millis(100);

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
}

impl State {
    /// Takes the token. What is appended until the leader aims is in its round.
    fn take(&mut self) {
        self.leading = true;
        self.aim = u64::MAX;
    }
}

/// What leading is. Called without any lock held.
pub(crate) trait Lead {
    /// Writes and syncs what was appended so far, and says up to where to [`Commit::aim`] once it knows. One call at
    /// a time.
    fn lead(&self) -> Result<Led>;

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

    /// Ends all writing. The first failure stays; every waiter is told.
    pub(crate) fn fail(&self, error: &Error) -> Error {
        let mut state = self.state.lock();
        let first = state.poison.is_none();
        let poison = state.poison.get_or_insert_with(|| error.poisoned()).clone();
        let wakers = Wakers(std::mem::take(&mut state.wakers));
        let watchers = Wakers(std::mem::take(&mut state.watchers));
        self.poisoned.store(true, Ordering::Release);
        drop(state);
        self.turns.iter().chain([&self.full]).for_each(|waiting| _ = waiting.notify_all());
        wakers.wake();
        watchers.wake();
        if first {
            events::poisoned(&poison);
        }
        poison
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
        let mut left = Left::default();
        let token = Token(self, &mut left);
        let in_hand = InHand::new(self);
        let led = lead.lead();
        // Crash: published only now, after the sync that `led` speaks of; whoever is woken may tell the world.
        match &led {
            Ok(Led::Written(end)) => _ = self.acknowledged.fetch_max(*end, Ordering::AcqRel),
            Ok(Led::Synced(end)) => {
                self.synced.fetch_max(*end, Ordering::AcqRel);
                self.acknowledged.fetch_max(*end, Ordering::AcqRel);
            }
            Ok(Led::Full) => {}
            Err(error) => return Err(self.fail(error)),
        }
        drop(token);
        lead.moved(left.awaited);
        drop(in_hand);
        // Last, for what a waker does is not ours: it may panic.
        left.wakers.wake();
        left.watchers.wake();
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
        if self.acknowledged() > seen {
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
        watchers.wake();
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
        InHand { commit, panicking: std::thread::panicking() }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.panicking {
            let message = "the thread that was writing panicked";
            self.commit.fail(&Error::new(ErrorKind::Io, "write", message));
        }
    }
}

/// The leader's token. Given back however leading ends.
struct Token<'a>(&'a Commit, &'a mut Left);

/// What is left to do once the token was given back.
#[derive(Default)]
struct Left {
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
        self.0.turn(round + 1).notify_one();
        self.0.full.notify_all();
    }
}

/// Futures to wake. One whose waker panics does not keep the others asleep.
#[derive(Default)]
struct Wakers(BTreeMap<u64, Waker>);

impl Wakers {
    fn wake(mut self) {
        self.wake_all();
    }

    fn wake_all(&mut self) {
        while let Some((_, waker)) = self.0.pop_first() {
            waker.wake();
        }
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    impl<F: Fn() -> Result<Led>> Lead for F {
        fn lead(&self) -> Result<Led> {
            self()
        }

        fn moved(&self, _: bool) {}
    }

    fn to(end: u64) -> impl Fn(&Commit) -> bool {
        move |commit| commit.acknowledged() >= end
    }

    #[test]
    fn a_waiter_leads_and_what_is_reached_needs_no_leader() {
        let commit = Commit::new(4);
        commit.wait(8, to(8), &|| Ok(Led::Synced(12))).unwrap();
        assert_eq!((commit.synced(), commit.acknowledged()), (12, 12));
        commit.wait(12, to(12), &|| panic!("nothing is left to do")).unwrap();
        commit.wait(16, to(16), &|| Ok(Led::Written(16))).unwrap();
        assert_eq!((commit.synced(), commit.acknowledged()), (12, 16));
    }

    #[test]
    fn one_failure_reaches_everybody_and_is_final() {
        let commit = Commit::new(0);
        let failure = || Err(Error::new(ErrorKind::Io, "sync", "gone"));
        for _ in 0..2 {
            let error = commit.wait(8, to(8), &failure).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Poisoned);
            assert!(error.to_string().contains("gone"));
        }
        let later = commit.wait(8, to(8), &|| Ok(Led::Synced(8))).unwrap_err();
        assert_eq!(*later.kind(), ErrorKind::Poisoned, "nothing is led after a failure");
        assert!(matches!(commit.poll(8, Waker::noop()), Some(Err(_))));
        commit.wait(0, to(0), &|| panic!("never led")).unwrap();
    }

    #[test]
    fn a_panicking_leader_leaves_nobody_waiting() {
        let commit = Arc::new(Commit::new(0));
        let leader = Arc::clone(&commit);
        std::thread::spawn(move || leader.wait(8, to(8), &|| panic!("planned"))).join().unwrap_err();
        let error = commit.wait(8, to(8), &|| panic!("never led")).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Poisoned);
    }

    #[test]
    fn many_waiters_share_leaders() {
        let commit = Arc::new(Commit::new(0));
        let (framed, leaders) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let waiter = || {
            let (commit, framed, leaders) = (Arc::clone(&commit), Arc::clone(&framed), Arc::clone(&leaders));
            move || {
                for _ in 0..200 {
                    let end = framed.fetch_add(4, Ordering::SeqCst) + 4;
                    let lead = || {
                        assert_eq!(leaders.fetch_add(1, Ordering::SeqCst), 0, "two leaders");
                        let end = framed.load(Ordering::SeqCst);
                        std::thread::yield_now();
                        leaders.fetch_sub(1, Ordering::SeqCst);
                        Ok(Led::Synced(end))
                    };
                    commit.wait(end, to(end), &lead).unwrap();
                    assert!(commit.synced() >= end);
                }
            }
        };
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(waiter())).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(commit.synced(), 8 * 200 * 4);
    }

    #[test]
    fn a_leader_is_told_whether_another_round_follows() {
        struct Leads<'a>(&'a dyn Fn() -> Led, Mutex<Option<bool>>);
        impl Lead for Leads<'_> {
            fn lead(&self) -> Result<Led> {
                Ok(self.0())
            }

            fn moved(&self, awaited: bool) {
                *self.1.lock() = Some(awaited);
            }
        }
        let commit = Commit::new(0);
        let alone = Leads(&|| Led::Synced(8), Mutex::new(None));
        commit.try_lead(&alone).unwrap().unwrap();
        assert_eq!(alone.1.into_inner(), Some(false));
        std::thread::scope(|scope| {
            let meanwhile = || {
                commit.aim(16);
                scope.spawn(|| commit.wait(24, to(24), &|| Ok(Led::Synced(24))).unwrap());
                while !commit.state.lock().awaited {
                    std::thread::yield_now();
                }
                Led::Synced(16)
            };
            let followed = Leads(&meanwhile, Mutex::new(None));
            commit.try_lead(&followed).unwrap().unwrap();
            assert_eq!(followed.1.into_inner(), Some(true));
        });
        let future = || {
            assert!(commit.poll(40, Waker::noop()).is_none());
            Led::Synced(32)
        };
        let followed = Leads(&future, Mutex::new(None));
        commit.try_lead(&followed).unwrap().unwrap();
        assert_eq!(followed.1.into_inner(), Some(true));
    }

    #[test]
    fn a_future_is_woken_by_the_point_and_by_the_poison() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let commit = Commit::new(0);
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(commit.poll(8, &waker).is_none());
        assert!(commit.poll(8, &waker).is_none());
        assert!(commit.poll(16, &waker).is_none());
        assert!(commit.futures_wait());
        commit.try_lead(&|| Ok(Led::Synced(8))).unwrap().unwrap();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(matches!(commit.poll(8, &waker), Some(Ok(()))));
        commit.fail(&Error::new(ErrorKind::Io, "sync", "gone"));
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    }
}
