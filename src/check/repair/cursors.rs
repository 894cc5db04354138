//! What becomes of the cursors and of the last checkpoint in a repair, for whoever goes on from them.

use crate::format::Cursor;
use crate::scan::apply_notes;

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
        let lost = last.max(left);
        notes.push(format!("checkpoint at LSN {lost}: is lost, and none before it is left; append one anew"));
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
    let begins = examined.plan.survey.front;
    for Cursor { name, lsn } in after.iter().filter(|one| one.lsn.max(begins) < layout.front) {
        let (lsn, front) = (lsn.max(&begins), layout.front);
        notes.push(format!("cursor {name}: stands at LSN {front}, where the log begins then, not at {lsn}"));
    }
    if !examined.report.is_clean() && examined.may_lose_notes() {
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
