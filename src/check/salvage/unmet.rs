//! Logs of which no record is found, although they had some by what their `MARK` and their links say.

use std::collections::HashSet;

use crate::lsn::Lsn;

use super::image::Image;
use super::index::{Logs, Unmet};
use super::lives::{Family, Lives};

/// What there is to say of each that none of the logs that are found can be.
pub(super) fn unmet(found: &Logs, lives: &Lives, images: &[Image]) -> Vec<String> {
    let named: HashSet<_> = found.logs.iter().filter_map(|log| log.log_id).map(Family::Id).collect();
    // One without a name that reaches as far may be it. Each is one log only.
    let mut reaches = found.reaches.clone();
    let mut notes = Vec::new();
    for Unmet { family, durable, is_linked } in &found.unmet {
        // On a disk lie the MARKs of logs that were deleted, too.
        let mark = lives.pasts.get(family).and_then(|past| images.get(usize::from(past.mark?)));
        let Some(mark) = mark else { continue };
        let beside = lives.families_beside(mark, images);
        if !beside.contains(family) && beside.iter().any(|other| named.contains(other)) {
            // Somebody put another log's MARK there.
            continue;
        }
        let near = reaches.iter().enumerate().filter(|(_, reach)| !is_linked && *reach >= durable);
        if let Some((index, _)) = near.min_by_key(|(_, reach)| *reach) {
            reaches.swap_remove(index);
            continue;
        }
        let but = if reaches.is_empty() { "" } else { ", unless as a log without a name, which lacks the last" };
        let (path, durable) = (mark.path.display(), Lsn(*durable));
        notes.push(format!("{path}: its log had durable records, up to LSN {durable}, and none of them is found{but}"));
    }
    notes
}
