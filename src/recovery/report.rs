//! What opening tells about the log that it found.

use std::fmt;
use std::time::Duration;

use crate::error::plural;
use crate::lsn::Lsn;

use super::Recovered;

/// What opening found. Printed, it is a line for a log file.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// All below was cleaned.
    pub first: Lsn,
    /// The log ended here: every record below is there.
    pub end: Lsn,
    /// How many records there are.
    pub records: u64,
    /// In how many segments.
    pub segments: usize,
    /// The tail that was dropped, if there was one. Nobody was told that any of it was durable. Its
    /// bytes stay where they are, and are told of at each opening, until something is appended.
    pub torn: Option<Torn>,
    /// What an operator should know: files that are not the log's, files moved aside, a MARK that is missing,
    /// damaged in part, or another log's.
    pub notes: Vec<String>,
    /// How long opening took.
    pub elapsed: Duration,
}

/// A tail that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Torn {
    /// Where it began: the first batch that is not whole.
    pub lsn: Lsn,
    /// Valid frames beyond its first bad place.
    pub beyond: u64,
}

impl Recovery {
    pub(super) fn new(recovered: &Recovered, torn: Option<Torn>, mut notes: Vec<String>) -> Recovery {
        if !recovered.voids.is_empty() {
            let voids = plural(recovered.voids.len() as u64, "segment");
            notes.push(format!("{voids} prepared or cut off, not part of the log"));
        }
        let records = recovered.segments.iter().map(|sealed| sealed.seal.records);
        Recovery {
            first: Lsn(recovered.segments.first().map_or(recovered.front, |sealed| sealed.found.base)),
            end: Lsn(recovered.end),
            records: records.fold(0, u64::saturating_add),
            segments: recovered.segments.len(),
            torn,
            notes,
            elapsed: Duration::ZERO,
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.torn {
            None => write!(f, "clean")?,
            Some(torn) => {
                write!(f, "torn tail dropped at LSN {}, {} beyond it", torn.lsn, plural(torn.beyond, "frame"))?;
            }
        }
        let (segments, records) = (plural(self.segments as u64, "segment"), plural(self.records, "record"));
        write!(f, "; {segments}, {records}, LSN {} to {}, {:.0?}", self.first, self.end, self.elapsed)?;
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}
