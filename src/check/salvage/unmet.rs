//! Logs of which no record is found, although they had some by what their `MARK` and their links say.

use std::collections::HashSet;

use crate::lsn::Lsn;

use super::hunt::Frame;
use super::image::Image;
use super::lives::{Family, Lives};
use super::reckoning::{Logs, Unmet};

/// What there is to say of each that none of the logs that are found can be. Of a log that none of their `MARK`s can be of
/// nobody knows how much it misses.
pub(super) fn unmet(found: &mut Logs, frames: &[Frame], lives: &Lives, images: &[Image]) -> Vec<String> {
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
        // Not what lies behind the header of another segment.
        let is_other = |log: &usize| {
            let own = found.logs.get(*log).and_then(|log| frames.get(log.frames.clone()));
            own.is_some_and(|own| are_left_over(own, lives))
        };
        let may_be = |(_, (log, reach)): &(usize, &(usize, u64))| !is_linked && reach >= durable && !is_other(log);
        let near = reaches.iter().enumerate().filter(may_be);
        if let Some((index, _)) = near.min_by_key(|(_, (_, reach))| *reach) {
            let (log, _) = reaches.swap_remove(index);
            found.logs.get_mut(log).into_iter().for_each(|log| log.unmarked = false);
            continue;
        }
        let but = if reaches.is_empty() { "" } else { ", unless as a log without a name, which lacks the last" };
        let (path, durable) = (mark.path.display(), Lsn(*durable));
        notes.push(format!("{path}: its log had durable records, up to LSN {durable}, and none of them is found{but}"));
    }
    for log in found.logs.iter_mut().filter(|log| log.unmarked) {
        let own = frames.get(log.frames.clone()).unwrap_or_default();
        log.unmarked = log.log_id.is_some() || !are_left_over(own, lives);
        log.lost_records = log.lost_records.filter(|_| !log.unmarked);
    }
    notes
}

/// Whether frames of no log lie in files that logs with `MARK` use again: those tell of what they held before.
fn are_left_over(frames: &[Frame], lives: &Lives) -> bool {
    let images: HashSet<u16> = frames.iter().map(|frame| frame.image).collect();
    let is_marked = |image: &u16| {
        let owner = lives.fills(*image).and_then(|life| lives.all.get(life as usize));
        owner.and_then(|owner| lives.pasts.get(&owner.family())).is_some_and(|past| past.is_marked)
    };
    frames.iter().all(|frame| frame.at == u64::from(frame.offset)) && images.iter().all(is_marked)
}
