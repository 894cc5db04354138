//! Salvage: every record whose bytes are whole, whatever became of the files around them.
//!
//! A source is read twice. First headers and links are looked for at every sector: they tell the seeds of segments,
//! their own and that of the segment before. Then a frame is looked for at every fourth byte. A frame tells its seed XOR
//! its offset ([`FrameHeader::seed_xor_offset`]), so that one look into a table of seeds finds the segment and the
//! place in it, wherever the bytes lie; then its check and the payload's sum are held against them.
//!
//! Seed XOR offset is not seed and offset. Frames of a segment whose seed is not known lie in a known one too, elsewhere
//! and with both checks holding, if the seeds agree in the bits that no offset has and in the place in a block: for 64 MiB
//! once in 2^18 pairs of segments. So a frame is believed at once only where its file would put it, if in one piece
//! ([`Lives::is_anchored`]). All others must go on in the segment as they do in the image, lie below its end, and fill what
//! nothing better fills; and a source most of which is one segment holds nothing else.

mod hunt;
mod image;
mod index;
mod join;
mod live;
mod lives;
mod meter;
mod past;
mod reckoning;
mod survey;
mod unmet;

use std::fmt;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::slice;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result, plural};
use crate::format::{FRAME, FrameHeader, FrameKind, sum};
use crate::lsn::{BatchTime, Lsn};
use crate::progress::Progress;
use crate::record::{Kind, Record};
use crate::recovery::words::UNTOLD;
use crate::recovery::{cut_short, missing};

use super::overview::PATIENCE;
use hunt::{Finds, Frame, MORE, PART, Source, agreed_seeds};
use image::{Files, Image, Images, images};
use join::{Breaks, frame_bytes, join};
use live::{Watched, watch};
use lives::Lives;
use meter::Meter;
use survey::{Seen, survey};

/// How to salvage.
///
/// A source is a directory, of which all files are read whatever their names are, or a file: a segment under any name,
/// or the raw image of a disk or a partition, or the disk itself. The order does not matter, and a source may hold
/// several logs. Nothing is changed, and no lock is needed. Where a writer goes on with a log meanwhile, what its `MARK`
/// said before is looked for, and what was written since is shown as far as it was met; a note says so.
///
/// A record is reached if its bytes are whole and the seed of its segment is known: from the segment's header, even
/// with one wrong byte, or from its first frame, or from the first frame of the segment that follows; in a file that
/// begins as the segment did, also from any two neighbouring records of up to 128 KiB. In an image headers and first
/// frames are found at multiples of 512 bytes. The file may be fragmented: a record that lies in one extent is found
/// wherever that is, one that lies in two if the next frame is there too, as long as each extent begins as far behind a
/// multiple of 4 KiB as one of the files in the image does. One that lies in three is not found, nor one that a write to
/// the wrong place put into a file that is another segment, but in a copy of that page as a file of its own.
///
/// What is shown was written as it is shown, by its two checksums. They are no signature: whoever can read a log can
/// append a payload that looks like frames of the log, and these are shown if the frame around them is damaged, or if
/// they lie in a file of their own. A log that was stored as payloads of another is found in an image as the log that
/// it is. An image has no names: what a repair had only begun passes there for the log's, what was appended since for
/// cut off, and what a file held before it was used again for a log without a name. And if it is fragmented, a lone piece of a segment of which nothing else is left may pass for a missing piece
/// of another: for segments of 64 MiB, once in some 2^18 such pairs.
///
/// Takes 24 bytes of memory for each frame that is found, copies included, up to three times as much while it runs, and
/// 1 MiB for each GiB of the sources.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// # let wal = seawall::Wal::open(dir)?;
/// # wal.append(b"order 17")?.wait()?;
/// let salvaged = seawall::check::Salvage::new().run(&[dir])?;
/// for log in salvaged.logs() {
///     println!("{log}");
///     for record in salvaged.records(log) {
///         let record = record?;
///         println!("{}: {:?}", record.lsn, record.payload);
///     }
/// }
/// # assert_eq!(salvaged.logs()[0].records, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is salvaged until it is run"]
pub struct Salvage<'a> {
    progress: &'a dyn Fn(Progress) -> ControlFlow<()>,
}

impl fmt::Debug for Salvage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Salvage").finish_non_exhaustive()
    }
}

impl Default for Salvage<'_> {
    fn default() -> Self {
        Salvage::new()
    }
}

impl<'a> Salvage<'a> {
    /// Without progress.
    pub fn new() -> Salvage<'a> {
        Salvage { progress: &|_| ControlFlow::Continue(()) }
    }

    /// Is told of the progress, without records, about every quarter MiB. All bytes are read twice, and count so; the total
    /// grows where a writer cleaned all of a log away before it was read, and what it has by then is read. With `Break` the
    /// run ends, and answers `Cancelled`.
    pub fn progress(mut self, progress: &'a dyn Fn(Progress) -> ControlFlow<()>) -> Salvage<'a> {
        self.progress = progress;
        self
    }

    /// Looks for records in all of the sources.
    ///
    /// # Errors
    /// `Io` where a source is not there, or neither a file, nor a directory, nor a disk; `Invalid` for more than 65 535
    /// files; `Cancelled`. What the system does not let be read is no error, but counted.
    pub fn run(&self, sources: &[impl AsRef<Path>]) -> Result<Salvaged> {
        let mut meter = Meter::new(0, self.progress);
        let mut wait = thread::sleep;
        let (mut found, mut is_overtaken) = search(sources, &mut meter, &mut wait)?;
        // A writer goes on, so the next search is another chance.
        while is_overtaken && meter.begun.elapsed() < PATIENCE {
            (found, is_overtaken) = match search(sources, &mut meter, &mut wait) {
                // One of the sources was a file, and is gone too.
                Err(e) if missing(&e) => break,
                again => again?,
            };
        }
        Ok(found)
    }
}

/// Also tells whether a writer went on with a log of which no record is found: it cleaned all that was there.
fn search(
    sources: &[impl AsRef<Path>],
    meter: &mut Meter<'_>,
    wait: &mut dyn FnMut(Duration),
) -> Result<(Salvaged, bool)> {
    let watched = watch(sources, wait);
    let Images { mut images, mut notes, mut refused } = images(sources)?;
    let bytes = images.iter().map(|image| image.length).sum();
    meter.total += 2 * bytes;
    let seen = survey_all(&mut images, meter)?;
    let mut lives = Lives::new(&seen, &images);
    let Hunted { mut finds, gone, mut untold } = hunt(&images, &mut lives, meter)?;
    let breaks = join(&mut finds, &lives, &images, &mut Files::default())?;
    let said: Vec<_> = watched.iter().map(|log| log.allow_for(&images, &mut lives)).collect();
    let is_moving = |image: &&Image| {
        let mut live = watched.iter().zip(&said).filter(|(_, said)| said.is_some());
        live.any(|(log, _)| log.is_moving(image, &lives))
    };
    for image in gone.into_iter().filter(|image| !is_moving(image)) {
        refused += 1;
        notes.push(format!("{} was removed before it was read", image.path.display()));
    }
    let is_found = |life| finds.frames.iter().any(|frame| Some(frame.life) == life);
    let is_told = |image: &Image| is_moving(&image) || lives.tells_of(image, &images);
    untold.retain(|Untold { image, life, .. }| !is_told(image) && !is_found(*life));
    notes.extend(untold.iter().map(|Untold { image, what, .. }| format!("{}: {what}", image.path.display())));
    let untold = untold.len() as u64;
    let went_on: Vec<bool> = said.iter().map(Option::is_some).collect();
    notes.extend(said.into_iter().flatten());
    index::settle(&mut finds, &lives);
    let mut found = index::logs(&mut finds, &lives);
    let lost = unmet::unmet(&mut found, &finds.frames, &lives, &images);
    let (logs, unmet) = (found.logs, lost.len() as u64);
    notes.extend(found.notes.into_iter().chain(lost));
    let Finds { frames, too_new, .. } = finds;
    let (too_new, unreadable) = (too_new + seen.too_new, seen.refused);
    let found = Salvaged { logs, bytes, unreadable, refused, untold, unmet, too_new, notes, ..Salvaged::default() };
    let mut moving = watched.iter().zip(went_on).filter(|(_, went_on)| *went_on);
    let is_overtaken = moving.any(|(log, _)| log.is_source(sources) && !log.is_left(&found.logs));
    Ok((Salvaged { watched, images, lives, frames, breaks, ..found }, is_overtaken))
}

/// The first reading of all sources.
fn survey_all(images: &mut [Image], meter: &mut Meter<'_>) -> Result<Seen> {
    let mut seen = Seen::default();
    for (index, image) in (0_u16..).zip(&mut *images) {
        match image.open() {
            Ok(file) => survey(index, image, &*file, &mut seen, meter)?,
            Err(e) if missing(&e) => meter.add(image.length)?,
            Err(e) => return Err(e),
        }
    }
    seen.mend_links(images)?;
    Ok(seen)
}

/// What the second reading found.
#[derive(Default)]
struct Hunted<'i> {
    finds: Finds,
    /// Files that are not there any more.
    gone: Vec<&'i Image>,
    untold: Vec<Untold<'i>>,
}

/// A file in which nothing tells what it held.
struct Untold<'i> {
    image: &'i Image,
    /// Which life is left, if its header tells. Its frames may lie elsewhere.
    life: Option<u32>,
    what: String,
}

/// Looks for frames in all sources.
fn hunt<'i>(images: &'i [Image], lives: &mut Lives, meter: &mut Meter<'_>) -> Result<Hunted<'i>> {
    let mut hunted = Hunted::default();
    let told = lives.all.len();
    for (index, image) in (0_u16..).zip(images) {
        let file = match image.open() {
            Err(e) if missing(&e) => {
                meter.add(image.length)?;
                hunted.gone.push(image);
                continue;
            }
            file => file?,
        };
        let finds = &mut hunted.finds;
        let (before, torn, too_new) = (finds.frames.len(), finds.torn.len(), finds.too_new);
        finds.hunt(index, image, &*file, lives, meter)?;
        let life = lives.fills(index);
        // Where they lie at their offsets they may be an earlier life's, and a link tells a false seed if it is damaged. Those
        // that lie elsewhere may have been written over what lay there, if the source is no image of a disk.
        let found = finds.frames.get(before..).unwrap_or_default();
        let may_be_one = image.length <= lives.longest || found.iter().all(|frame| frame.at == u64::from(frame.offset));
        let is_open = may_be_one && life.is_none_or(|life| !lives.is_sure(image, life));
        let seeds = if is_open {
            // What frames of another file agreed on may be this one's, seen from elsewhere.
            let known = finds.known(before, lives, told, image);
            agreed_seeds(&Source { image, file: &*file }, &known).map_err(|e| Error::io("read", &image.path, e))?
        } else {
            Vec::new()
        };
        finds.sift(before, image, lives);
        let is_found = finds.frames.len() > before;
        if lives.add(seeds, index) {
            finds.frames.truncate(before);
            finds.torn.truncate(torn);
            finds.too_new = too_new;
            // Read once more than was said.
            meter.total += image.length;
            finds.hunt(index, image, &*file, lives, meter)?;
            finds.sift(before, image, lives);
        } else if !is_found && image.is_named() {
            let what = match (life, cut_short(image.length)) {
                (None, _) => Some("nothing tells any more what it held, if anything".to_owned()),
                (Some(_), what) => what.map(|what| format!("{what}; {UNTOLD}")),
            };
            hunted.untold.extend(what.map(|what| Untold { image, life, what }));
        }
    }
    Ok(hunted)
}

/// What was found. From [`Salvage::run`].
#[derive(Default)]
#[non_exhaustive]
pub struct Salvaged {
    logs: Vec<SalvagedLog>,
    /// Bytes of all sources.
    pub bytes: u64,
    /// Bytes that the system refused to read, and what lay in them was passed over.
    pub unreadable: u64,
    /// Files and directories that the system refused to open, and that were passed over.
    pub refused: u64,
    /// Files that are named as segments are, and in which nothing tells any more what they held, if anything, be it that
    /// they are cut to less than a header and a link; but for those of whose place the log beside them tells.
    pub untold: u64,
    /// Logs of which no record is found, although their `MARK`, a file of its own, or a link beside it says that there were
    /// durable ones. Such a log may be one of those without a name, which then lacks its end.
    pub unmet: u64,
    /// Headers and frames that a newer version of this crate wrote. Read the sources with that.
    pub too_new: u64,
    /// What an operator should know.
    pub notes: Vec<String>,
    /// The logs that a writer may go on with.
    watched: Vec<Watched>,
    images: Vec<Image>,
    lives: Lives,
    frames: Vec<Frame>,
    breaks: Breaks,
}

/// A log that was found. Printed, it is a line.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SalvagedLog {
    /// Its id in hexadecimal, or `unknown-` and a number where no header is left to tell it. Then the LSNs may be
    /// offsets in the one segment that it has.
    pub name: String,
    /// [`Wal::log_id`](crate::Wal::log_id).
    pub log_id: Option<[u8; 16]>,
    /// Segments of which there is a frame.
    pub segments: usize,
    /// Records and checkpoints.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The first record.
    pub first: Lsn,
    /// The last record.
    pub last: Lsn,
    /// What the largest segment can hold: a log for these records needs segments as large.
    pub segment_size: u64,
    /// Places where a record was and is not found, or many: missing segments count as one. 0: nothing that is known of is
    /// missing.
    pub damaged: u64,
    /// Whether segments lay before the first that is found, or may have, of which nothing is among the sources, nor
    /// all of `MARK`: then they do not count as damage, for it may be that they were cleaned, or not given.
    pub absent: bool,
    /// Whether its `MARK` is not among the sources, or only one of the two slots of it: then nothing tells whether more followed the last record.
    pub unmarked: bool,
    /// How many records are missing, or at most so many: as the links count them, before the first that is found too, and
    /// where a repair had passed some over in a segment that is damaged again, those as well. `None`: that cannot be told,
    /// nor, where nothing is damaged, whether any are, for a link is lost that would tell.
    pub lost_records: Option<u64>,
    /// How many of the records lie where the log was cut off: by recovery at a torn tail, of which nobody was told that it
    /// was durable, or by a repair.
    pub cut_off: u64,
    /// How many of the records had been cleaned away.
    pub cleaned: u64,
    /// How many places there are between or behind these where others lay, or may have lain, that were cleaned away too and
    /// are gone. That is no damage.
    pub gone: u64,
    /// How many of the records have the LSN of others, or lie across them: two logs with the same beginning, of which
    /// one was a copy. First those of the one are yielded, then those of the other, segment by segment.
    pub doubled: u64,
    frames: Range<usize>,
}

impl SalvagedLog {
    /// Whether it misses nothing that is known of, nor what only the sources do not tell of.
    pub fn is_whole(&self) -> bool {
        self.damaged == 0 && !self.absent && !self.unmarked && self.lost_records.is_some()
    }
}

impl fmt::Display for SalvagedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SalvagedLog { name, segments, records, bytes, first, last, .. } = self;
        let (records, segments) = (plural(*records, "record"), plural(*segments as u64, "segment"));
        write!(f, "{name}: {records} of {bytes} bytes in {segments}, LSN {first} to {last}")?;
        if self.damaged > 0 {
            write!(f, "; passed over: {}", plural(self.damaged, "damaged place"))?;
        }
        match self.lost_records {
            _ if self.is_whole() => {}
            Some(lost) => write!(f, "; missing: {}", plural(lost, "record"))?,
            None if self.unmarked => write!(f, "; whether more followed only MARK would tell")?,
            None if self.damaged == 0 && !self.absent => write!(f, "; whether records are missing cannot be told")?,
            None => write!(f, "; how many records are missing cannot be told")?,
        }
        for (count, what) in [
            (self.cut_off, "that had been cut off"),
            (self.cleaned, "that had been cleaned away"),
            (self.doubled, "in the place of others"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        if self.gone > 0 {
            write!(f, ", others of them gone in {}", plural(self.gone, "place"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Salvaged").field("logs", &self.logs).field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl Salvaged {
    /// The logs of which there is a record, in the order of their ids.
    pub fn logs(&self) -> &[SalvagedLog] {
        &self.logs
    }

    /// Whether no log misses anything that is known of, and nothing was passed over of which that cannot be told.
    pub fn is_whole(&self) -> bool {
        let passed_over = [self.unreadable, self.refused, self.untold, self.unmet, self.too_new];
        passed_over.iter().all(|count| *count == 0) && self.logs.iter().all(SalvagedLog::is_whole)
    }

    /// The records of one of its logs, in the order of their LSNs, each once, but for
    /// [`doubled`](SalvagedLog::doubled) ones. The payloads are read again, one at a time, and checked again. Those that a
    /// writer has cleaned away since are passed over, and [counted](SalvagedRecords::cleaned).
    pub fn records(&self, log: &SalvagedLog) -> SalvagedRecords<'_> {
        let frames = self.frames.get(log.frames.clone()).unwrap_or_default();
        SalvagedRecords {
            salvaged: self,
            frames: frames.iter(),
            files: Files::default(),
            part: false,
            broken: None,
            cleaned: 0,
        }
    }
}

/// The records of a log. From [`Salvaged::records`]. A record that cannot be read any more is an error, and the next one
/// follows.
#[must_use = "an iterator does nothing until it is driven"]
pub struct SalvagedRecords<'a> {
    salvaged: &'a Salvaged,
    frames: slice::Iter<'a, Frame>,
    files: Files,
    part: bool,
    /// The segment in which a batch goes on of which a record was not read any more.
    broken: Option<u32>,
    cleaned: u64,
}

impl fmt::Debug for SalvagedRecords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SalvagedRecords").field("left", &self.frames.len()).finish_non_exhaustive()
    }
}

impl SalvagedRecords<'_> {
    /// Whether the record that was yielded last is of a batch that is not whole, or not known to be: others of it may not be
    /// found, or not be read any more. Those before one that is not read any more were yielded as if it were whole.
    pub fn is_part(&self) -> bool {
        self.part
    }

    /// How many records were passed over so far because a writer has cleaned them away since they were found. Others that
    /// were cleaned may have been yielded before them.
    pub fn cleaned(&self) -> u64 {
        self.cleaned
    }

    fn was_cleaned(&self, frame: &Frame) -> bool {
        let Salvaged { images, lives, watched, .. } = self.salvaged;
        let found = images.get(usize::from(frame.image)).zip(lives.all.get(frame.life as usize));
        found.is_some_and(|(image, life)| watched.iter().any(|log| log.has_cleaned(image, life.lsn(frame.offset))))
    }

    fn read(&mut self, frame: &Frame) -> Result<Record> {
        let Salvaged { images, lives, breaks, .. } = self.salvaged;
        let length = FRAME as usize + frame.length as usize;
        let mut bytes = frame_bytes(images, &mut self.files, frame, breaks.get(&frame.place()), length)?;
        let payload = bytes.split_off(FRAME as usize);
        let life = lives.all.get(frame.life as usize);
        let valid = life.and_then(|life| Some((life, FrameHeader::decode(&bytes, life.seed, frame.offset)?)));
        let Some((life, header)) = valid.filter(|(_, header)| sum(&payload) == header.sum) else {
            let path = images.get(usize::from(frame.image)).map(|image| image.path.as_path());
            let changed = io::Error::new(io::ErrorKind::InvalidData, "it changed since it was searched");
            return Err(Error::io("read", path.unwrap_or(Path::new("")), changed));
        };
        let kind = if header.kind == Some(FrameKind::Checkpoint) { Kind::Checkpoint } else { Kind::Record };
        Ok(Record {
            lsn: Lsn(life.lsn(frame.offset)),
            batch_time: BatchTime(header.batch_time),
            kind,
            ends_batch: !header.more,
            payload: payload.into(),
        })
    }
}

impl Iterator for SalvagedRecords<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        loop {
            let frame = self.frames.next()?;
            let read = self.read(frame);
            let is_broken = self.broken == Some(frame.life);
            self.part = is_broken || frame.batch & PART != 0;
            self.broken = Some(frame.life).filter(|_| frame.batch & MORE != 0 && (is_broken || read.is_err()));
            match read {
                Err(_) if self.was_cleaned(frame) => self.cleaned += 1,
                read => return Some(read),
            }
        }
    }
}
