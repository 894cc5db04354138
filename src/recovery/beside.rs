//! Looking at a directory beside a writer, which may take a file away between the listing and the look at it.

use crate::bugs::Bugs;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

use super::survey::{Survey, missing, survey};

/// How often a directory is looked at again that a writer changed meanwhile.
pub(crate) const TRIES: usize = 10;

/// As [`survey`], beside a writer.
pub(crate) fn survey_beside(storage: &dyn Storage) -> Result<Survey> {
    beside(storage, || survey(storage, false, Bugs::default()))
}

/// Looks again where a file was gone meanwhile. That the directory is, is no writer's doing.
pub(crate) fn beside<T>(storage: &dyn Storage, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tries = 0;
    loop {
        match look() {
            Err(e) if missing(&e) && e.path() != Some(storage.path()) => {
                tries += 1;
                if tries > TRIES {
                    return Err(too_fast("read", &e));
                }
            }
            looked => return looked,
        }
    }
}

/// The error of who looked again and again beside a writer, and each time `seen` was in the way.
pub(crate) fn too_fast(operation: &'static str, seen: &Error) -> Error {
    let message = format!("a writer goes on faster than this can be looked at; try again, nothing was changed: {seen}");
    Error::new(ErrorKind::Io, operation, message)
}
