//! What lies at a bad place, before it and beyond: gathered once there is an error to make, and never while reading.

use std::io;

use crate::bugs::Bugs;
use crate::error::Damage;
use crate::format::{BLOCK, FRAME, FrameHeader, frame_size, sum};
use crate::lsn::{BatchTime, Lsn};
use crate::storage::File;

use super::{Begun, Chunk, Place, Source, Window, frame_at, next_frame, zeros};

/// What lies where a valid frame should.
#[derive(Debug)]
pub(crate) struct Bad {
    /// What was found and what was expected, in words.
    pub(crate) found: String,
    /// The frame's header, if that holds and only the payload does not.
    pub(crate) header: Option<FrameHeader>,
    /// What it was, if one byte of it is wrong and the segment goes on or ends where the frame does.
    pub(crate) mended: Option<FrameHeader>,
    /// How many zeros begin here, if not even a header does.
    pub(crate) zeros: u64,
}

/// Looks at the bytes of a bad place.
pub(crate) fn bad(window: &mut Window<'_>, place: &Place, offset: u64) -> io::Result<Bad> {
    let told = |found| Ok(Bad { found, header: None, mended: None, zeros: 0 });
    let length = window.file.len()?;
    let (end, whose) = if length <= place.limit { (length, "file") } else { (place.limit, "segment") };
    let room = end.saturating_sub(offset);
    let bytes = if room < u64::from(FRAME) { None } else { window.bytes(offset, FRAME as usize)? };
    let Some(frame) = bytes.and_then(|bytes| bytes.first_chunk()).copied() else {
        let found = match room {
            0 => format!("the {whose} ends at byte {end}"),
            _ => format!("the {whose} ends at byte {end}, {room} bytes further, less than a frame"),
        };
        return Ok(Bad { found, header: None, mended: None, zeros: zeros_at(window, offset)? });
    };
    if frame == [0; FRAME as usize] {
        let zeros = zeros_at(window, offset)?;
        return Ok(Bad { found: format!("{zeros} bytes of zeros"), header: None, mended: None, zeros });
    }
    let short = u32::try_from(offset).unwrap_or(u32::MAX);
    let length = FrameHeader::unchecked(&frame).map_or(0, |header| header.length);
    let beyond = match frame_size(u64::from(length)) > room {
        true => format!(", beyond the {whose}, which ends at byte {end}"),
        false => String::new(),
    };
    let Some(header) = FrameHeader::decode(&frame, place.seed, short) else {
        let (found, expected) = FrameHeader::checks(&frame, place.seed, short).unwrap_or_default();
        let found = format!("frame header with checksum {found:08x}, expected {expected:08x}, length {length}{beyond}");
        return Ok(Bad { found, header: None, mended: mended(window, place, offset, &frame)?, zeros: 0 });
    };
    let payload = if beyond.is_empty() { window.bytes(offset + u64::from(FRAME), length as usize)? } else { None };
    let Some(payload) = payload else { return told(format!("length {length}{beyond}")) };
    let found = format!("checksum {:08x}, expected {:08x}, length {length}", sum(payload), header.sum);
    Ok(Bad { found, header: Some(header), mended: None, zeros: 0 })
}

fn mended(
    window: &mut Window<'_>,
    place: &Place,
    offset: u64,
    frame: &[u8; FRAME as usize],
) -> io::Result<Option<FrameHeader>> {
    let short = u32::try_from(offset).unwrap_or(u32::MAX);
    let mended = FrameHeader::mended(frame, place.seed, short).and_then(|frame| FrameHeader::unchecked(&frame));
    let Some(header) = mended.filter(|header| header.kind.is_some()) else { return Ok(None) };
    let end = offset + frame_size(u64::from(header.length));
    let goes_on = end == place.limit || frame_at(window, place, end, Bugs::default())?.is_some();
    Ok(Some(header).filter(|_| goes_on))
}

/// How many zeros there are from `from` on.
fn zeros_at(window: &mut Window<'_>, from: u64) -> io::Result<u64> {
    let mut at = from;
    while let Some(rest) = window.rest(at, 1)? {
        let (zeros, length) = (zeros(rest), rest.len());
        at += zeros as u64;
        if zeros < length {
            break;
        }
    }
    Ok(at - from)
}

/// The damage at `offset` of a segment, as far as the segment tells; how much is lost is left open. Also gives the size
/// of the frame there and how many records it is, where its header still tells.
pub(crate) fn damage_at(
    file: &dyn File,
    place: &Place,
    segment: &str,
    offset: u64,
) -> io::Result<(Damage, Option<(u64, u64)>)> {
    let mut chunk = Chunk::default();
    let mut window = Window::new(file, place.limit, &mut chunk);
    let Bad { found, header, mended, .. } = bad(&mut window, place, offset)?;
    let header = header.or(mended);
    let before = before(&mut window, place, offset)?;
    let batch_time = header.map(|header| BatchTime(header.batch_time));
    let only = header.map(|header| (frame_size(u64::from(header.length)), u64::from(header.is_record())));
    let mut damage = Damage { batch_time, found, before, ..Damage::at(segment, offset, place.base + offset) };
    // A frame whose length is known is stepped over, so that frames in its payload do not count.
    look_beyond(&mut damage, file, place, offset + only.map_or(4, |(size, _)| size))?;
    if let Some(next) = damage.next {
        let next = next.0 - place.base;
        let more = header.filter(|_| only.is_some_and(|(size, _)| offset + size == next)).map(|header| header.more);
        damage.behind = behind(&mut window, place, next, Begun::behind(offset, next, more))?;
    }
    Ok((damage, only))
}

/// Valid records from the frame at `at` on that are of a batch whose beginning is lost.
fn behind(window: &mut Window<'_>, place: &Place, mut at: u64, mut begun: Begun) -> io::Result<u64> {
    let mut records = 0;
    while let Some(header) = frame_at(window, place, at, Bugs::default())?
        && begun.is_lost(&header, place.base + at)
    {
        records += u64::from(header.is_record());
        at += frame_size(u64::from(header.length));
    }
    Ok(records)
}

/// Valid records of the batch that a bad place lies in, before it.
fn before(window: &mut Window<'_>, place: &Place, offset: u64) -> io::Result<u64> {
    let (mut at, mut records) = (u64::from(BLOCK), 0);
    while at < offset
        && let Some((found, header)) = next_frame(window, place, at, Bugs::default())?
    {
        records = match (header.more, found == at) {
            _ if found >= offset => 0,
            (false, _) => 0,
            (true, true) => records + 1,
            (true, false) => 1,
        };
        at = found + frame_size(u64::from(header.length));
    }
    Ok(records)
}

/// Adds to the damage what is valid in a segment from `from` on.
pub(crate) fn look_beyond(damage: &mut Damage, file: &dyn File, place: &Place, from: u64) -> io::Result<()> {
    let mut chunk = Chunk::default();
    let mut window = Window::new(file, place.limit, &mut chunk);
    let mut at = from.max(u64::from(BLOCK)).next_multiple_of(4);
    while let Some((found, header)) = next_frame(&mut window, place, at, Bugs::default())? {
        let lsn = Lsn(place.base + found);
        damage.next.get_or_insert(lsn);
        if header.is_record() {
            damage.beyond += 1;
            damage.last = Some(lsn);
        }
        at = found + frame_size(u64::from(header.length));
    }
    Ok(())
}
