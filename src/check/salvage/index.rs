//! Out of what was found: which frames are a log's, in order.

use std::collections::HashSet;

use crate::error::plural;
use crate::format::{BLOCK, FRAME};

use super::hunt::{Finds, Frame, GAP, MORE, PART, SURE};
use super::lives::{Family, Lives};
use super::past::Past;
use super::reckoning::{Logs, Reckoning, is_link};

/// Each frame once, by segment and offset, without those that cannot be there beside others.
pub(super) fn settle(finds: &mut Finds, lives: &Lives) {
    let Finds { frames, torn, .. } = finds;
    frames
        .sort_unstable_by_key(|frame| (frame.place(), frame.length, !lives.is_anchored(frame), frame.image, frame.at));
    // Copies: the check and the payload's sum are the same, and so are the bytes.
    frames.dedup_by_key(|frame| (frame.place(), frame.length, frame.is_gap()));
    let mut kept = Vec::with_capacity(frames.len());
    for life in frames.chunk_by(|a, b| a.life == b.life) {
        kept.extend(consistent(life, lives));
    }
    *frames = kept;
    for life in frames.chunk_by_mut(|a, b| a.life == b.life) {
        let Some(Frame { life: number, .. }) = life.first().copied() else { continue };
        let begin = lives.all.get(number as usize).map_or(BLOCK, |life| life.begin);
        tell_parts(life, begin, of_life(torn, number));
    }
}

/// Marks the frames of one segment whose batches are not whole, or not known to be: as a repair decides. `next`: where
/// the first lies, but for the link.
fn tell_parts(frames: &mut [Frame], mut next: u32, torn: &[Frame]) {
    let mark = |frame: &mut Frame| frame.batch |= PART;
    let (mut begin, mut is_part) = (0, false);
    for index in 0..frames.len() {
        let (before, rest) = frames.split_at_mut(index);
        let Some(frame) = rest.first_mut() else { return };
        if frame.is_gap() {
            // What a repair passes over ends where a batch begins.
            if frame.batch & MORE == 0 {
                before.iter_mut().skip(begin).for_each(mark);
                (next, begin, is_part) = (frame.end(), index + 1, false);
            }
            continue;
        }
        if frame.offset > next {
            before.iter_mut().skip(begin).for_each(mark);
            let here = torn.iter().skip(torn.partition_point(|torn| torn.offset < next));
            let only = here.take_while(|torn| torn.offset == next).find(|torn| torn.end() == frame.offset);
            let only_link = next == BLOCK && is_link(frame.offset);
            is_part = match only {
                Some(torn) => torn.batch & MORE != 0,
                None => !only_link && frame.batch & SURE == 0,
            };
            begin = index;
        }
        if is_part {
            mark(frame);
        }
        next = frame.end();
        if frame.batch & MORE == 0 {
            (begin, is_part) = (index + 1, false);
        }
    }
    frames.iter_mut().skip(begin).for_each(mark);
}

/// Frames of one segment that do not overlap: what lies inside another frame is its payload. First those that are where
/// they must be, then those that follow one another without a gap, then those that stand alone, as noise may look like.
/// What a repair put there comes after what it passed over: it may lie aside.
fn consistent(frames: &[Frame], lives: &Lives) -> Vec<Frame> {
    let ends: HashSet<u32> = frames.iter().map(Frame::end).chain([BLOCK]).collect();
    let starts: HashSet<u32> = frames.iter().map(|frame| frame.offset).collect();
    let rank = |frame: &Frame| match () {
        () if lives.is_anchored(frame) => u8::from(!frame.is_record),
        () if ends.contains(&frame.offset) || starts.contains(&frame.end()) => 2,
        () => 3,
    };
    let (gaps, frames): (Vec<&Frame>, Vec<&Frame>) = frames.iter().partition(|frame| frame.is_gap());
    let ranked: Vec<(u8, &Frame)> = frames.iter().map(|frame| (rank(frame), *frame)).collect();
    let mut kept: Vec<Frame> = Vec::with_capacity(frames.len());
    for rank in 0..4 {
        let (mut more, mut end): (Vec<Frame>, u32) = (Vec::new(), 0);
        for (_, frame) in ranked.iter().filter(|(own, _)| *own == rank) {
            let above = kept.partition_point(|other| other.offset < frame.offset);
            let below = above.checked_sub(1).and_then(|index| kept.get(index));
            let is_free = kept.get(above).is_none_or(|next| frame.end() <= next.offset)
                && below.is_none_or(|last| last.end() <= frame.offset);
            if is_free && end <= frame.offset {
                end = frame.end();
                more.push(**frame);
            }
        }
        kept.extend(more);
        kept.sort_unstable_by_key(|frame| frame.offset);
    }
    let (mut passed, mut end) = (Vec::new(), 0);
    for gap in gaps {
        passed.extend(rest_of(gap, end, &kept));
        end = end.max(gap.end());
    }
    kept.extend(passed);
    kept.sort_unstable_by_key(|frame| frame.offset);
    kept
}

/// What of a gap lies between the frames that are kept, from an offset on.
fn rest_of(gap: &Frame, from: u32, kept: &[Frame]) -> Vec<Frame> {
    let (mut rest, mut from) = (Vec::new(), gap.offset.max(from));
    let first = kept.partition_point(|frame| frame.end() <= from);
    let inside = kept.iter().skip(first).take_while(|frame| frame.offset < gap.end());
    for (to, next) in inside.map(|frame| (frame.offset, frame.end())).chain([(gap.end(), gap.end())]) {
        if let Some(length) = to.checked_sub(from).and_then(|size| size.checked_sub(FRAME)) {
            let more = u8::from(to < gap.end()) * MORE;
            let at = gap.at + u64::from(from - gap.offset);
            rest.push(Frame { at, offset: from, length, batch: GAP | more, ..*gap });
        }
        from = next;
    }
    rest
}

/// The logs that the frames make, which come to lie in their order.
pub(super) fn logs(finds: &mut Finds, lives: &Lives) -> Logs {
    let mut order: Vec<(Family, u64, u32, usize)> = Vec::new();
    for (index, life) in lives.all.iter().enumerate() {
        order.push((life.family(), life.base.unwrap_or(0), life.seed, index));
    }
    order.sort_unstable();
    let (mut frames, mut told, mut left_over) = (Vec::with_capacity(finds.frames.len()), Logs::default(), 0);
    for family in order.chunk_by(|a, b| a.0 == b.0) {
        let Some((name, ..)) = family.first() else { continue };
        let empty = Past::default();
        let mut members = Vec::new();
        for (.., index) in family {
            let Some(life) = lives.all.get(*index) else { continue };
            let number = u32::try_from(*index).unwrap_or(u32::MAX);
            let own = of_life(&finds.frames, number);
            if lives.is_left_over(life, own) {
                left_over += own.iter().filter(|frame| frame.is_record).count() as u64;
                continue;
            }
            let is_empty = own.iter().all(|frame| !frame.is_record);
            if !(lives.is_taken(number, life) || is_empty && lives.is_unmade(number, life)) {
                members.push((number, life, own));
            }
        }
        let claim = members.iter().map(|(_, life, _)| life.claim).max().unwrap_or(0);
        let mut reckoning = Reckoning::new(*name, lives.pasts.get(name).unwrap_or(&empty), claim);
        let first = frames.len();
        for (number, life, own) in members {
            let own = reckoning.met(life, own);
            let torn = of_life(&finds.torn, number);
            reckoning.add(life, own, |offset| torn.binary_search_by_key(&offset, |torn| torn.offset).is_ok());
            frames.extend(own.iter().filter(|frame| frame.is_record));
        }
        reckoning.finish(first..frames.len(), &mut told);
    }
    // Of these nothing is left but `MARK`.
    let is_known = |name: &Family| order.binary_search_by_key(name, |(name, ..)| *name).is_ok();
    for (name, past) in lives.pasts.iter().filter(|(name, _)| !is_known(name)) {
        Reckoning::new(*name, past, 0).finish(0..0, &mut told);
    }
    if left_over > 0 {
        let what = "of what files held before they were used again: nothing tells where in a log";
        told.notes.push(format!("{} {what}", plural(left_over, "record")));
    }
    finds.frames = frames;
    told
}

/// Of frames in the order of their places, those of one life.
fn of_life(frames: &[Frame], life: u32) -> &[Frame] {
    let from = frames.partition_point(|frame| frame.life < life);
    let to = frames.partition_point(|frame| frame.life <= life);
    frames.get(from..to).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(offset: u32, length: u32, at: u64) -> Frame {
        Frame { at, life: 0, offset, length, image: 0, is_record: true, batch: 0 }
    }

    #[test]
    fn of_frames_that_contradict_each_other_those_in_runs_hold() {
        let run = [frame(8192, 100, 50_000), frame(8316, 100, 50_124), frame(8440, 76, 50_248)];
        let inside = [frame(8220, 10, 50_028), frame(8256, 10, 50_064)];
        let across = frame(8000, 9000, 90_000);
        let apart = frame(20_000, 8, 70_000);
        let settled = |frames: &[&[Frame]]| {
            let mut finds = Finds { frames: frames.concat(), ..Finds::default() };
            settle(&mut finds, &Lives::default());
            finds.frames.iter().map(|frame| frame.offset).collect::<Vec<_>>()
        };
        assert_eq!(settled(&[&run, &inside, &[across, apart, apart]]), [8192, 8316, 8440, 20_000]);
        // Where it must be, a frame holds whatever others say.
        let anchored = frame(8200, 1000, 8200);
        assert_eq!(settled(&[&run, &[anchored]]), [8200]);
    }
}
