//! Who leads, who waits, who is woken.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;

impl<F: Fn() -> Result<Led>> Lead for F {
    fn round(&self) -> Result<Led> {
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

/// The point moves, and a later round fails, between a waiter's first look and the one under the lock.
#[test]
fn what_is_durable_stays_durable_whatever_failed_later() {
    let (commit, looks) = (Commit::new(0), AtomicUsize::new(0));
    let late = |commit: &Commit| {
        if looks.fetch_add(1, Ordering::SeqCst) > 0 {
            return to(8)(commit);
        }
        commit.try_lead(&|| Ok(Led::Synced(8))).unwrap().unwrap();
        commit.fail(&Error::new(ErrorKind::Io, "sync", "gone"));
        false
    };
    commit.wait(8, late, &|| panic!("never led")).unwrap();
    assert!(matches!(commit.poll(8, Waker::noop()), Some(Ok(()))));
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

/// Several waiters would wake one another for ever.
#[test]
fn a_full_disk_is_tried_by_each_waiter_at_a_pace() {
    const WAITERS: u32 = 4;
    let (commit, begun, tries) = (Commit::new(0), Instant::now(), AtomicUsize::new(0));
    let lead = || {
        tries.fetch_add(1, Ordering::SeqCst);
        Ok(if begun.elapsed() < 3 * FULL_RETRY { Led::Full } else { Led::Synced(8) })
    };
    thread::scope(|scope| {
        for _ in 0..WAITERS {
            scope.spawn(|| commit.wait(8, to(8), &lead).unwrap());
        }
    });
    let (took, tries) = (begun.elapsed(), tries.into_inner());
    let most = (took.as_millis() / FULL_RETRY.as_millis() + 1) * u128::from(WAITERS);
    assert!(tries as u128 <= most && tries >= 3, "{tries} tries in {took:?}");
}

#[test]
fn a_leader_is_told_whether_another_round_follows() {
    struct Leads<'a>(&'a dyn Fn() -> Led, Mutex<Option<bool>>);
    impl Lead for Leads<'_> {
        fn round(&self) -> Result<Led> {
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
