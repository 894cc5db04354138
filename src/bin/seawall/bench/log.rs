//! The log under the load, and what is read back of it.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use anyhow::Context;
use seawall::{Lsn, Options, Wal};

/// Bytes of a segment, and what a payload in it may take: a segment has a header, a record another.
const SEGMENT: u64 = 64 << 20;
const FRAME: u64 = 24;
pub const MAX_RECORD: u64 = SEGMENT - (8 << 10) - FRAME;

/// Segments that a log goes through before more of them are filled.
const LAPS: u64 = 3;
/// Bits of a record's number, below its thread's, in its batch time.
const NUMBER: u32 = 48;
/// In how many places of the pattern a payload may begin.
const PLACES: u64 = 1 << 16;

/// Bytes that the frame of a payload takes.
pub fn frame_bytes(record: usize) -> u64 {
    FRAME + (record as u64).next_multiple_of(4)
}

/// Payloads that follow from thread and number, without taking time: parts of one pattern.
pub struct Payloads {
    pattern: Vec<u8>,
    pub record: usize,
}

impl Payloads {
    pub fn new(record: usize) -> Payloads {
        let words = (record as u64 + PLACES).div_ceil(8);
        Payloads { pattern: (0..words).flat_map(|word| mixed(word).to_le_bytes()).collect(), record }
    }

    pub fn of(&self, tag: u64) -> &[u8] {
        let place = usize::try_from(mixed(tag) % PLACES).unwrap_or_default();
        self.pattern.get(place..place + self.record).unwrap_or_default()
    }
}

/// A number whose bits look as if they had nothing to do with those of `number` (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

pub fn tag(thread: usize, number: u64) -> u64 {
    (thread as u64) << NUMBER | number
}

/// What was read back is not what was acknowledged.
#[derive(Debug)]
pub struct Mismatch(String);

impl Display for Mismatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "what was read back after reopening is not what was acknowledged: {}", self.0)
    }
}

impl std::error::Error for Mismatch {}

/// Holds records, as they are read, against what each thread appended.
struct Check<'a> {
    payloads: &'a Payloads,
    /// The number of each thread's next record.
    next: Vec<u64>,
}

impl Check<'_> {
    fn take(&mut self, lsn: Lsn, tag: u64, payload: &[u8]) -> Result<(), Mismatch> {
        let (thread, number) = (tag >> NUMBER, tag & ((1 << NUMBER) - 1));
        let wrong = |what: String| Err(Mismatch(format!("the record at LSN {lsn} {what}")));
        let Some(next) = usize::try_from(thread).ok().and_then(|thread| self.next.get_mut(thread)) else {
            return wrong(format!("is of thread {thread}, which there was not"));
        };
        if number != *next {
            return wrong(format!("is number {number} of thread {thread}, where number {next} was to follow"));
        }
        if payload != self.payloads.of(tag) {
            return wrong(format!("is number {number} of thread {thread} and holds other bytes"));
        }
        *next += 1;
        Ok(())
    }

    fn finish(self, acknowledged: &[u64]) -> Result<(), Mismatch> {
        let mut threads = self.next.iter().zip(acknowledged).enumerate();
        match threads.find(|(_, (read, acknowledged))| read != acknowledged) {
            Some((thread, (read, acknowledged))) => Err(Mismatch(format!(
                "of thread {thread} {acknowledged} records were acknowledged and {read} read back"
            ))),
            None => Ok(()),
        }
    }
}

/// A log that threads append to; each of them counts its records.
pub struct Log<'a> {
    options: Options,
    dir: PathBuf,
    pub wal: Wal,
    payloads: &'a Payloads,
    /// Of each thread.
    acknowledged: Vec<u64>,
    /// All below was read back.
    end: Lsn,
    /// How often it was opened anew.
    pub reopened: u64,
}

impl Log<'_> {
    pub fn create(dir: PathBuf, options: Options, threads: usize, payloads: &Payloads) -> anyhow::Result<Log<'_>> {
        let options = options.segment_size(SEGMENT);
        let wal = options.open(&dir)?;
        let mut log = Log { options, dir, wal, payloads, acknowledged: vec![0; threads], end: Lsn::ZERO, reopened: 0 };
        log.settle(true)?;
        Ok(log)
    }

    /// Cleans what was read back, and brings the log where one is that was open for long: its segments are made, so that
    /// nothing but the load keeps the disk busy, and where some are to be filled, out of cleaned ones, which only those
    /// become that were begun since it was opened.
    fn settle(&mut self, fills_segments: bool) -> anyhow::Result<()> {
        let filling = vec![0x5a; 256 << 10];
        let laps = if fills_segments { LAPS * SEGMENT / filling.len() as u64 } else { 1 };
        for _ in 0..laps {
            drop(self.wal.append(&filling)?);
        }
        self.end = self.wal.sync()?;
        self.wal.clean_before_lsn(self.end)?;
        self.wal.prepare()?;
        Ok(())
    }

    /// Appends a thread's record, the one after `calls` others since what was read back, and returns once it is
    /// acknowledged.
    pub fn append(&self, thread: usize, calls: u64) -> anyhow::Result<()> {
        let tag = tag(thread, self.acknowledged.get(thread).context("no such thread")? + calls);
        self.wal.at(tag).append(self.payloads.of(tag))?.wait()?;
        Ok(())
    }

    /// Closes the log, opens it anew and holds what is read against `calls`, as many records of each thread.
    pub fn read_back(&mut self, calls: &[u64]) -> anyhow::Result<()> {
        let mut check = Check { payloads: self.payloads, next: self.acknowledged.clone() };
        self.acknowledged.iter_mut().zip(calls).for_each(|(sum, calls)| *sum += calls);
        self.wal.close()?;
        self.wal = self.options.open(&self.dir)?;
        self.reopened += 1;
        let mut records = self.wal.read(self.end..)?;
        while let Some(record) = records.next_borrowed() {
            let record = record?;
            check.take(record.lsn, record.batch_time.0, record.payload)?;
        }
        drop(records);
        check.finish(&self.acknowledged)?;
        let records: u64 = calls.iter().sum();
        self.settle(records * frame_bytes(self.payloads.record) > SEGMENT / 2)
    }

    /// Records that were acknowledged and read back.
    pub fn records(&self) -> u64 {
        self.acknowledged.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    /// Three records of each of two threads, in turns, changed by `bug`, and read.
    fn read(bug: impl FnOnce(&mut Vec<(u64, Vec<u8>)>)) -> Result<(), String> {
        let payloads = Payloads::new(40);
        let tags = (0..3).flat_map(|number| [tag(0, number), tag(1, number)]);
        let mut records: Vec<_> = tags.map(|tag| (tag, payloads.of(tag).to_vec())).collect();
        bug(&mut records);
        let mut check = Check { payloads: &payloads, next: vec![0; 2] };
        let mut all = records.iter().try_for_each(|(tag, payload)| check.take(Lsn(7), *tag, payload));
        all = all.and_then(|()| check.finish(&[3, 3]));
        all.map_err(|e| e.to_string().split_once("acknowledged: ").unwrap().1.to_owned())
    }

    #[test]
    fn a_record_that_is_missing_twice_moved_or_changed_is_noticed() {
        assert_eq!(read(|_| ()), Ok(()));
        // Nobody promised an order among threads.
        assert_eq!(read(|records| records.swap(0, 1)), Ok(()));
        let told = |what: &str| Err(what.to_owned());
        let at = "the record at LSN 7 is";
        let follow =
            |number, next| told(&format!("{at} number {number} of thread 1, where number {next} was to follow"));
        assert_eq!(read(|records| drop(records.remove(3))), follow(2, 1));
        assert_eq!(read(|records| records.insert(3, records[3].clone())), follow(1, 2));
        assert_eq!(read(|records| records.swap(1, 3)), follow(1, 0));
        assert_eq!(
            read(|records| drop(records.pop())),
            told("of thread 1 3 records were acknowledged and 2 read back")
        );
        let other = told(&format!("{at} number 1 of thread 0 and holds other bytes"));
        assert_eq!(read(|records| records[2].1[39] ^= 1), other);
        assert_eq!(read(|records| records[2].1.truncate(39)), other);
        assert_eq!(read(|records| records[4].0 = tag(2, 0)), told(&format!("{at} of thread 2, which there was not")));
    }

    #[test]
    fn a_mismatch_exits_as_damage_does() {
        assert_eq!(exit::code(&Mismatch(String::new()).into()), exit::damage());
    }

    #[test]
    fn payloads_have_their_size_and_differ() {
        for record in [1, 7, 100, 1 << 20] {
            let payloads = Payloads::new(record);
            assert!((0..100).all(|tag| payloads.of(tag).len() == record), "{record}");
        }
        let payloads = Payloads::new(16);
        assert!((0..1000).all(|number| payloads.of(tag(1, number)) != payloads.of(tag(2, number))));
    }
}
