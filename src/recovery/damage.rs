//! The errors of a log that is not opened: where it is damaged, and what is lost under each way out.

use std::path::Path;

use crate::bugs::Bugs;
use crate::error::{Damage, Error, ErrorKind, Result, plural};
use crate::format::{BLOCK, CAPACITY, Header, Link, MARK, NO_BASE, seeds, segment_name};
use crate::lsn::Lsn;
use crate::scan::{Place, damage_at, holds_frames, look_beyond};
use crate::storage::{Storage, read_full, read_head};

use super::chain::Broken;
use super::survey::{Found, Survey, strays};
use super::{Tail, read_segment, words};

/// What is wrong with a newest segment that is shorter than it was made and did not end there, at the LSN `end`, when
/// the log was closed. `free`: the LSN behind its last frame, if no other begins there.
pub(crate) fn short(survey: &Survey, free: Option<u64>, end: u64, length: u64, capacity: u64) -> Option<String> {
    let closed = survey.mark.map(|mark| mark.synced);
    if length >= capacity || closed == Some(end) {
        return None;
    }
    Some(match closed {
        Some(closed) if free == Some(closed) && closed < end => format!(
            "{} behind LSN {closed}, where MARK says that the log ended: appended to the file, or left of it by a cut",
            plural(end - closed, "byte")
        ),
        Some(_) => format!("cut to {length} bytes, it was made with {capacity}"),
        None => {
            format!("{length} bytes of {capacity}: it was cut, or the MARK is gone that says that it was closed there")
        }
    })
}

/// The error for bytes that were durable and are not there, or that no crash leaves. `short`: what is wrong with the
/// tip's length.
pub(super) fn damage(
    storage: &dyn Storage,
    survey: &Survey,
    tail: &Tail,
    broken: Option<Broken>,
    short: Option<String>,
) -> Result<Error> {
    let segment = |index: Option<usize>| index.and_then(|index| survey.segments.get(index));
    let unlinked = segment(unlinked(survey, tail).filter(|_| !tail.is_torn(&survey.segments)));
    let damage = match (broken, unlinked, segment(tail.bad)) {
        // That none leads down to the front is its link's fault, if its own segment is there.
        (Some(broken), Some(found), _) if broken.base == found.base && found.base == survey.front => {
            of_link(storage, survey, tail, found)?
        }
        (Some(broken), ..) => of_segment(storage, survey, tail, broken)?,
        (None, Some(found), _) => of_link(storage, survey, tail, found)?,
        (None, None, Some(found)) => {
            match gone_behind(survey, tail, found).filter(|_| !tail.is_torn(&survey.segments)) {
                Some(gone) => gone,
                None => {
                    let what = short.unwrap_or_else(|| "no valid frame here, not a torn tail".to_owned());
                    of_frame(storage, survey, tail, found, tail.offset, what)?
                }
            }
        }
        (None, None, None) => {
            let files = survey.segments.len();
            let what = words::all_gone(files);
            let there = match files {
                0 => format!("{MARK} alone"),
                _ => format!("no valid frame in {}", plural(files as u64, "segment file")),
            };
            let found = format!("{there}, expected records up to LSN {}", tail.claim);
            let bytes = lost(survey, survey.front, tail.claim.max(survey.front));
            Damage { what, found, bytes, ..Damage::at("", 0, survey.front) }
        }
    };
    Ok(Error::damage("open", storage.path(), Damage { durable: Lsn(tail.claim), ..damage }))
}

/// The lowest segment above the tip, by index, that has no link and in which there was something: frames are, a link names
/// it, or what was durable reaches into it.
fn unlinked(survey: &Survey, tail: &Tail) -> Option<usize> {
    let above = tail.chain.last().map_or(0, |tip| tip.index + 1);
    let was_used = |index: usize, found: &Found| {
        let named = found.place(Bugs::default()).is_some_and(|place| survey.link_to(&place).is_some());
        !tail.empty.contains(&index) || named || found.base.saturating_add(u64::from(BLOCK)) < tail.claim
    };
    let unlinked = |found: &Found| found.header.is_ok() && found.link.is_none();
    let mut others = survey.segments.iter().enumerate().skip(above);
    others.find(|(index, found)| unlinked(found) && was_used(*index, found)).map(|(index, _)| index)
}

/// The damage of a link.
fn of_link(storage: &dyn Storage, survey: &Survey, tail: &Tail, found: &Found) -> Result<Damage> {
    let damage = of_frame(storage, survey, tail, found, u64::from(BLOCK), words::LINK.to_owned())?;
    let records = damage.records.filter(|_| !is_more_below(survey, tail, found));
    Ok(Damage { records, ..damage })
}

/// Whether more may have lain below a segment whose link is damaged than is there: whole segments, or what the one below
/// has lost at its end. Only that link would tell, or the next one's count.
fn is_more_below(survey: &Survey, tail: &Tail, found: &Found) -> bool {
    let Some(below) = tail.bad.and_then(|index| survey.segments.get(index)) else {
        return survey.front < found.base;
    };
    let member = tail.chain.iter().find(|member| Some(member.index) == tail.bad);
    let records = member.and_then(|member| member.scanned.as_ref()).map(|scan| scan.whole.records);
    let above = found.place(Bugs::default()).and_then(|place| survey.link_to(&place));
    let before = above.map(|link| link.records_before.saturating_sub(link.prev_records));
    let counted =
        below.link.as_ref().zip(records).map(|((link, _), records)| link.records_before.saturating_add(records));
    if before.is_some() && before == counted {
        return false;
    }
    let Ok((header, _)) = &below.header else { return true };
    let room = below.base.saturating_add(header.capacity) < found.base;
    room || below.may_go_on(tail.offset, records, below.left)
}

/// The damage if the log went on behind its last segment, and no file is there that begins below what was durable. How that
/// one ended nothing tells: it was trimmed.
fn gone_behind(survey: &Survey, tail: &Tail, last: &Found) -> Option<Damage> {
    let (header, _) = last.header.as_ref().ok()?;
    let base = last.base.saturating_add(header.capacity);
    let is_gone = survey.segments.iter().all(|other| other.base <= last.base || other.base >= tail.claim);
    let went_on = base.saturating_add(u64::from(BLOCK)) < tail.claim;
    let damage = || Damage {
        what: words::gone_behind(&last.name, tail.claim),
        found: format!("no such file, expected records up to LSN {}", tail.claim),
        bytes: tail.claim.saturating_sub(base.saturating_add(u64::from(BLOCK))),
        ..Damage::at(&segment_name(base), 0, base)
    };
    (is_gone && went_on).then(damage)
}

/// The damage at an offset of a segment whose header holds.
fn of_frame(
    storage: &dyn Storage,
    survey: &Survey,
    tail: &Tail,
    found: &Found,
    offset: u64,
    what: String,
) -> Result<Damage> {
    let from = found.base.saturating_add(offset);
    let Some(place) = found.place(Bugs::default()) else { return Ok(Damage::at(&found.name, offset, from)) };
    let (mut damage, only) = damage_at(&*found.file, &place, &found.name, offset).map_err(io(storage, found))?;
    look_above(storage, survey, tail, found.base.saturating_add(1), &mut damage)?;
    let to = damage.next.map_or(tail.claim, |next| next.0).max(from);
    damage.lose(lost(survey, from, to), only);
    Ok(Damage { what, ..damage })
}

/// The damage of a segment that is not as any crash would leave it.
fn of_segment(storage: &dyn Storage, survey: &Survey, tail: &Tail, broken: Broken) -> Result<Damage> {
    let Broken { segment, base, from, to, what } = broken;
    let link = survey.link_above(base);
    let mut damage = Damage::at(&segment, 0, from.max(base));
    let mut bytes = None;
    match survey.segments.iter().find(|found| found.base == base) {
        None => {
            damage.found = format!("no such file, expected records up to LSN {to}");
            damage.records = link.map(|link| link.prev_records).filter(|_| from == base);
        }
        Some(found) if found.header.is_err() => {
            damage.found = header_of(found, survey).map_err(io(storage, found))?;
            if link.is_none() {
                // Nothing says where it ended, but what was durable in it lay below the next one.
                let above = survey.segments.iter().map(|found| found.base).find(|above| *above > base);
                let upto = above.map_or(tail.claim, |above| above.min(tail.claim));
                bytes = Some(upto.saturating_sub(base.saturating_add(u64::from(BLOCK))));
            }
            if let Some(place) = behind_header(found, link).map_err(io(storage, found))? {
                // What is behind the header stays.
                let first = u64::from(BLOCK);
                look_beyond(&mut damage, &*found.file, &place, first).map_err(io(storage, found))?;
                bytes = damage.next.map(|next| lost(survey, base, next.0)).or(bytes);
                // More may have lain behind it, if nothing tells where it ended.
                let all = link.is_some() && damage.next.is_some_and(|next| next.0 == base.saturating_add(first));
                damage.records = all.then_some(0);
            }
        }
        // It was cut: the first bad place lies before that.
        Some(found) if from > base => {
            let scan = read_segment(storage, found, Some(to), Bugs::default())?;
            if let Some(place) = found.place(Bugs::default()) {
                damage = damage_at(&*found.file, &place, &segment, scan.end).map_err(io(storage, found))?.0;
                let there = scan.whole.records + damage.before + damage.beyond;
                damage.records = link.map(|link| found.records(link).saturating_sub(there));
            }
        }
        Some(found) => match (link, &found.header) {
            (Some(link), Ok((_, seed))) if link.prev_seed != *seed => {
                damage.found = format!("a header with checksum {seed:08x}, expected {:08x}", link.prev_seed);
                damage.records = Some(link.prev_records).filter(|_| from == base);
            }
            _ => damage.found = format!("a segment at LSN {base}, and none below"),
        },
    }
    if let Some(name) = renamed(storage, survey, base, link)? {
        damage.found += &format!("; {name} is this segment, under another name");
        damage.records = None;
    }
    look_above(storage, survey, tail, to.max(base.saturating_add(1)), &mut damage)?;
    let bytes = bytes.unwrap_or_else(|| lost(survey, from.min(damage.lsn.0), to));
    Ok(Damage { what, bytes, ..damage })
}

/// Another name under which the segment at `base` lies, of which `link` tells: then nothing of it may be lost.
fn renamed(storage: &dyn Storage, survey: &Survey, base: u64, link: Option<&Link>) -> Result<Option<String>> {
    let own = survey.segments.iter().find(|found| found.base == base);
    let is_it = |header: &Header, seed| header.base == base && link.is_some_and(|link| link.prev_seed == seed);
    if own.is_some_and(|own| own.header.as_ref().is_ok_and(|(header, seed)| is_it(header, *seed))) {
        return Ok(None);
    }
    let mut others = strays(storage, survey)?.into_iter();
    Ok(others.find(|(_, header, seed)| is_it(header, *seed)).map(|(name, ..)| name))
}

/// Where the frames lie behind a damaged header, by the seed that the next link tells, or the rest of the header.
fn behind_header(found: &Found, link: Option<&Link>) -> std::io::Result<Option<Place>> {
    let head = read_head(&*found.file)?;
    // Another segment's, or under a name that none was given: its LSNs would go beyond the last.
    if Header::decode(&head).is_ok() || found.base.checked_add(found.length).is_none() {
        return Ok(None);
    }
    let end = link.map_or(found.length, |link| link.prev_end.saturating_sub(found.base));
    let limit = end.min(found.length).min(*CAPACITY.end());
    for seed in link.map(|link| link.prev_seed).into_iter().chain(seeds(&head, found.base)) {
        let place = Place { base: found.base, seed, limit };
        if holds_frames(&*found.file, &place)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// What is wrong with a segment's header, in words.
fn header_of(found: &Found, survey: &Survey) -> std::io::Result<String> {
    let mut head = [0; BLOCK as usize];
    let filled = read_full(&*found.file, &mut head, 0)?;
    Ok(match (Header::decode(&head), Header::sums(&head)) {
        (Ok((header, _)), _) if header.base != found.base => {
            format!("the header of {}, expected one of this name", segment_name(header.base))
        }
        (Ok((header, _)), _) => {
            let ours = survey.log_id.as_ref().map_or_else(String::new, words::hex);
            format!("a header with log id {}, expected {ours}", words::hex(&header.log_id))
        }
        _ if filled < head.len() => format!("the file ends at byte {filled}, within the header"),
        _ if head.iter().all(|byte| *byte == 0) => format!("{filled} bytes of zeros"),
        (Err(_), Some((found, expected))) => format!("a header with checksum {found:08x}, expected {expected:08x}"),
        (Err(_), None) => "no header".to_owned(),
    })
}

fn io<'a>(storage: &'a dyn Storage, found: &'a Found) -> impl FnOnce(std::io::Error) -> Error + 'a {
    |e| Error::io("read", storage.path().join(&found.name), e)
}

/// Adds to the damage what is valid in the segments from `lsn` on; of those that a durable link seals, as many records
/// as it says, or as a repair left.
fn look_above(storage: &dyn Storage, survey: &Survey, tail: &Tail, lsn: u64, damage: &mut Damage) -> Result<()> {
    let first = u64::from(BLOCK);
    for found in survey.segments.iter().filter(|found| found.base >= lsn) {
        let Some(place) = found.place(Bugs::default()) else { continue };
        match survey.link_to(&place).filter(|link| link.prev_end <= tail.claim) {
            Some(link) => damage.pass(found.base.saturating_add(first), found.records(link)),
            None => look_beyond(damage, &*found.file, &place, first).map_err(io(storage, found))?,
        }
    }
    Ok(())
}

/// Bytes of frames from one LSN to another, at most: without headers, and without what lies between the end of a
/// segment and the base of the next.
fn lost(survey: &Survey, from: u64, to: u64) -> u64 {
    let block = u64::from(BLOCK);
    // Base, end, and the least base of the next, of segments that are there or that a link speaks of.
    let mut spans = Vec::new();
    for found in &survey.segments {
        let end = found.base.saturating_add(found.header.as_ref().map_or(found.length, |(header, _)| header.capacity));
        let sealed = survey.sealed_end(found.base).unwrap_or(end);
        spans.push((found.base, sealed, end.max(sealed)));
        let link = found.link.as_ref().map(|(link, _)| link).filter(|link| link.prev_base != NO_BASE);
        if let Some(link) = link.filter(|link| survey.segments.iter().all(|found| found.base != link.prev_base)) {
            spans.push((link.prev_base, link.prev_end, found.base));
        }
    }
    spans.sort_unstable();
    let (mut bytes, mut at) = (0, from);
    for (base, end, limit) in spans.into_iter().filter(|(base, ..)| *base < to) {
        if at < base {
            bytes += base.saturating_sub(at.saturating_add(block));
        }
        bytes += to.min(end).saturating_sub(at.max(base.saturating_add(block)));
        at = at.max(limit);
    }
    bytes + to.saturating_sub(if at == from { at } else { at.saturating_add(block) })
}

/// The error of [`RecoveryMode::Strict`](crate::RecoveryMode) for a log that did not end in order.
pub(super) fn not_strict(directory: &Path, survey: &Survey, tail: &Tail) -> Error {
    let (end, claim, beyond) = (tail.end, tail.claim, tail.beyond);
    let proven = if claim < end {
        format!(", and nothing says that what lies above LSN {claim} was durable")
    } else {
        String::new()
    };
    let beyond = match beyond {
        0 if tail.is_torn(&survey.segments) => "; a part of a batch lies beyond".to_owned(),
        0 => String::new(),
        _ => format!("; beyond lie {}, of which nothing says that they were durable", plural(beyond, "valid frame")),
    };
    let message = format!(
        "the log does not end where it is known to be durable: it ends at LSN {end}{proven}{beyond}; open it with \
         RecoveryMode::TornTail, which keeps all up to there; nothing was changed"
    );
    Error::new(ErrorKind::NotStrict, "open", message).at(tail.path(directory, survey), tail.offset)
}
