//! Ends what runs beside a test, however that ends.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets it when it is dropped.
pub struct Stops<'a>(pub &'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
