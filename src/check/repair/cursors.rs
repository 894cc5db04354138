//! What becomes of the cursors and of the last checkpoint in a repair, for whoever goes on from them.

use crate::format::Cursor;
use crate::scan::apply_notes;

use super::super::Fault;
use super::super::examine::Examined;
use super::layout::Layout;

/// What there is to do about one that is gone.
const AGAIN: &str = "make it again before anything cleans";

/// The cursors that will not stand where they stand, as notes, and whether others may have stood in what is lost; and the last
/// checkpoint, if it is.
pub(super) fn notes(examined: &Examined, layout: &Layout) -> Vec<String> {
    let (mut notes, after) = (Vec::new(), &layout.cursors[..]);
    let (last, left) = (examined.last_checkpoint(), layout.checkpoint);
    if layout.lacks_checkpoint {
        notes.push(format!("checkpoint at LSN {left}: is lost, and none before it is left; append one anew"));
    } else if left < last {
        notes.push(match left {
            0 => format!("checkpoint at LSN {last}: is lost, and there is none before it; append one anew"),
            _ => format!("checkpoint at LSN {last}: is lost; the one before it, at LSN {left}, counts again"),
        });
    }
    if let Some(now) = now(examined) {
        let find = |cursors: &[Cursor], name: &str| cursors.iter().find(|one| one.name == *name).map(|one| one.lsn);
        for Cursor { name, lsn } in &now {
            match find(after, name) {
                Some(left) if left == *lsn => {}
                Some(left) => notes.push(format!("cursor {name}: stands at LSN {left} again, not at {lsn}; {AGAIN}")),
                None => notes.push(format!("cursor {name}, at LSN {lsn}: is gone; {AGAIN}")),
            }
        }
        let removed = after.iter().filter(|one| find(&now, &one.name).is_none());
        notes.extend(
            removed.map(|Cursor { name, lsn }| format!("cursor {name}: is back at LSN {lsn}, and was removed")),
        );
    }
    if !examined.report.is_clean() && may_be_lost(examined) {
        let what = "a cursor that was made or moved in what is lost is gone, or stands where it stood before, and a \
                    checkpoint there is lost";
        notes.push(format!("{what}; {AGAIN}"));
    }
    notes
}

/// The cursors as they stand, if the newest segment tells.
fn now(examined: &Examined) -> Option<Vec<Cursor>> {
    let index = examined.newest()?;
    let mut cursors = examined.plan.parts.get(index)?.link.as_ref()?.cursors.clone();
    apply_notes(&mut cursors, examined.walks.get(index)?.as_ref()?.found.notes.clone());
    Some(cursors)
}

/// Whether some of what tells of them is lost, and of the last checkpoint: the newest segment's link, or what may have been a
/// note in it or above.
pub(in super::super) fn may_be_lost(examined: &Examined) -> bool {
    let Some(index) = examined.newest() else { return true };
    let (plan, walked) = (&examined.plan, examined.walks.get(index).and_then(Option::as_ref));
    let is_linked = plan.parts.get(index).is_some_and(|part| part.link.is_some());
    let newest = plan.survey.segments.get(index).map(|found| &found.name);
    let is_lost = |fault: &Fault| {
        let hole = walked.filter(|_| newest == Some(&fault.segment));
        let hole = hole.and_then(|walked| walked.holes.iter().find(|hole| hole.from == fault.offset));
        hole.map_or(fault.lost_records != Some(0), |hole| hole.notes)
    };
    let mut faults = examined.report.faults.iter().filter(|fault| fault.lsn.0 >= plan.base(index));
    !is_linked || walked.is_none() || faults.any(is_lost)
}
