//! The names of segment files. They are strict: nothing that almost matches is one.

use super::{BLOCK, CAPACITY};

/// The name of the segment at `base`.
pub(crate) fn segment_name(base: u64) -> String {
    format!("{base:020}.wal")
}

/// The name of a segment while it is made.
pub(crate) fn unfinished_name(base: u64) -> String {
    format!("{base:020}.new")
}

/// Whether `name` is a segment's while it is made.
pub(crate) fn is_unfinished(name: &str) -> bool {
    finished_name(name).is_some()
}

/// The name that a segment will have once it is made.
pub(crate) fn finished_name(unfinished: &str) -> Option<String> {
    let name = format!("{}.wal", unfinished.strip_suffix(".new")?);
    segment_base(&name).map(|_| name)
}

/// The base that a name says, if it is exactly a segment's: of blocks, and with room above it for the smallest.
pub(crate) fn segment_base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let base: u64 = digits.parse().ok()?;
    let may_be = base.is_multiple_of(u64::from(BLOCK)) && base.checked_add(*CAPACITY.start()).is_some();
    (may_be && segment_name(base) == name).then_some(base)
}
