//! What is told to `tracing`, with the feature of that name; without it these functions are empty. An append calls them
//! only where it makes a segment or meets a full disk.
#![cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "there is nobody to tell"))]

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::recovery::Recovery;

/// Tells it; nothing without the feature.
macro_rules! tell {
    ($level:ident, $($told:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::$level!(target: "seawall", $($told)*)
    };
}

pub(crate) fn opened(log: &Path, found: &Recovery) {
    tell!(info, log = %log.display(), records = found.records, torn = found.torn.is_some(), recovery = %found, "opened");
}

pub(crate) fn segment_begun(log: &Path, segment: &str) {
    tell!(debug, log = %log.display(), segment, "segment begun");
}

pub(crate) fn sync_slow(log: &Path, segment: &str, bytes: u64, took: Duration) {
    tell!(warn, log = %log.display(), segment, bytes, ?took, "sync slow");
}

/// The disk or the log is full, or no segment can be made for another reason.
pub(crate) fn appends_refused(log: &Path, error: &Error) {
    tell!(warn, log = %log.display(), %error, "appends refused");
}

pub(crate) fn appends_resumed(log: &Path, after: Duration) {
    tell!(info, log = %log.display(), ?after, "appends resumed");
}

pub(crate) fn poisoned(error: &Error) {
    tell!(error, %error, "poisoned");
}

pub(crate) fn cleaned(log: &Path, first: Lsn, removed: usize, failed: usize) {
    tell!(info, log = %log.display(), %first, removed, failed, "cleaned");
}

pub(crate) fn closed(log: &Path, closed: &Result<()>) {
    match closed {
        Ok(()) => {
            tell!(info, log = %log.display(), "closed");
        }
        Err(error) => {
            tell!(warn, log = %log.display(), %error, "closed");
        }
    }
}
