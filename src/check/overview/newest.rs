//! The newest segment, which tells more of the log than any other.

use crate::error::Result;
use crate::format::{self, BLOCK, Link};
use crate::recovery::cursors;

use super::super::examine::Examined;
use super::super::subject::Subject;
use super::super::walk::Walked;
use super::contents;

/// The newest segment of the log, or of what is shown: its link tells what was so when it was begun, and its frames what was
/// since.
#[derive(Debug, Default)]
pub(super) struct Newest {
    pub(super) index: Option<usize>,
    pub(super) link: Link,
    pub(super) walked: Walked,
}

impl Newest {
    pub(super) fn read(subject: &Subject, examined: &Examined, index: Option<usize>) -> Result<Newest> {
        let Some(index) = index else { return Ok(Newest::default()) };
        let link = examined.plan.parts.get(index).and_then(|part| part.link.clone()).unwrap_or_default();
        Ok(Newest { index: Some(index), link, walked: contents(subject, examined, index)? })
    }

    /// Whether its link, which tells of what lies before it, is lost.
    pub(super) fn is_unlinked(&self, examined: &Examined) -> bool {
        let part = self.index.and_then(|index| examined.plan.parts.get(index));
        part.is_some_and(|part| part.link.is_none())
    }

    /// Whether all that is shown of it was found in it.
    pub(super) fn reaches(&self, examined: &Examined) -> bool {
        let base = self.index.map(|index| examined.plan.base(index));
        let end = self.walked.end.max(u64::from(BLOCK));
        self.walked.holes.is_empty() && base.is_none_or(|base| base.saturating_add(end) >= examined.shown)
    }

    /// Records up to its end, with what is lost of it.
    pub(super) fn appended(&self, examined: &Examined) -> u64 {
        let found = self.index.and_then(|index| examined.plan.survey.segments.get(index));
        let faults =
            examined.report.faults.iter().filter(|fault| found.is_some_and(|found| found.name == fault.segment));
        let lost = faults.filter_map(|fault| fault.lost_records);
        lost.fold(self.link.records_before.saturating_add(self.walked.found.records), u64::saturating_add)
    }

    /// The last checkpoint, durable or not; 0 if there is none.
    pub(super) fn checkpoint(&self) -> u64 {
        self.walked.found.checkpoint.max(self.link.checkpoint)
    }

    /// Where the cursors stand.
    pub(super) fn cursors(&self, front: u64) -> Vec<format::Cursor> {
        let mut cursors = cursors(&self.link, self.walked.found.notes.clone(), front);
        cursors.sort_by(|a, b| a.name.cmp(&b.name));
        cursors
    }
}
