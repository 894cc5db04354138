//! The names of segment files. They are strict: nothing that almost matches is one.

use super::{BLOCK, CAPACITY, MARK};

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
    name.strip_suffix(".new").is_some_and(|digits| segment_base(&format!("{digits}.wal")).is_some())
}

/// Whether `name` is a segment's while it is made, or that of one that was moved aside.
pub(crate) fn was_unfinished(name: &str) -> bool {
    is_unfinished(aside_of(name).unwrap_or(name))
}

/// The name that a file had before it was moved aside: `NAME.aside` or `NAME.aside.n`.
pub(crate) fn aside_of(name: &str) -> Option<&str> {
    let (name, n) = name.split_once(".aside")?;
    let numbered = n.is_empty() || n.strip_prefix('.').is_some_and(|n| n.parse::<u64>().is_ok());
    let ours = name == MARK || is_unfinished(name) || segment_base(name).is_some();
    (ours && numbered).then_some(name)
}

/// The base in the name of a segment, of one that is made, or of either moved aside.
pub(crate) fn base_in(name: &str) -> Option<u64> {
    let (digits, _) = aside_of(name).unwrap_or(name).split_once('.').filter(|(_, end)| ["wal", "new"].contains(end))?;
    segment_base(&format!("{digits}.wal"))
}

/// The base that a name says, if it is exactly a segment's: of blocks, and with room above it for the smallest.
pub(crate) fn segment_base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    // A number may have a sign.
    let base: u64 = digits.parse().ok().filter(|_| digits.len() == 20 && !digits.starts_with('+'))?;
    let may_be = base.is_multiple_of(u64::from(BLOCK)) && base.checked_add(*CAPACITY.start()).is_some();
    may_be.then_some(base)
}
