//! Futures that are to be woken, once no lock is held: what a waker does is not ours.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakers by what they wait for. Dropping wakes them all.
///
/// One that panics keeps nobody asleep and ends nothing: the panic hook has told of it.
#[derive(Debug, Default)]
pub(crate) struct Wakers(pub(crate) BTreeMap<u64, Waker>);

impl Drop for Wakers {
    fn drop(&mut self) {
        while let Some((_, waker)) = self.0.pop_first() {
            _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}
