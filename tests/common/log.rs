//! What a log holds, held against the records that follow from partition and offset.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use seawall::receiver::{Entry, Range};
use seawall::{ErrorKind, Lsn, Options};

use super::records::{Made, made};

/// Everything read of a log so far: each record as it was made, in no place twice, and no gap that is not declared.
#[derive(Debug, Default)]
pub struct Reading {
    read_to: Option<Lsn>,
    /// The next offset of each partition that the log durably holds.
    pub next: BTreeMap<i32, i64>,
    /// Records read.
    pub records: u64,
    /// Offsets without a record, declared by the ranges.
    pub holes: u64,
    /// What each range covers: partition, first and next offset.
    pub covered: Vec<(i32, i64, i64)>,
    /// Offsets that another log has: partition, first and next.
    pub handed_over: Vec<(i32, i64, i64)>,
}

impl Reading {
    /// Everything durable in a log.
    pub fn of(dir: &Path) -> Reading {
        let mut reading = Reading::default();
        reading.go_on(dir);
        reading
    }

    /// Reads what is durable now and was not read yet.
    pub fn go_on(&mut self, dir: &Path) {
        let log = match Options::new().open_read_only(dir) {
            Err(e) if *e.kind() == ErrorKind::NotFound => return,
            log => log.unwrap(),
        };
        let from = self.read_to.map_or(Bound::Unbounded, Bound::Excluded);
        for record in log.read((from, Bound::Unbounded)).unwrap() {
            let record = record.unwrap();
            self.take(&Entry::decode(&record.payload).unwrap());
            self.read_to = Some(record.lsn);
        }
    }

    fn take(&mut self, entry: &Entry<'_>) {
        let block = match entry {
            Entry::Block(block) => block,
            Entry::Origin(origin) => {
                let before = self.next.insert(origin.partition.number, origin.next);
                assert_eq!(before, origin.previous, "an origin in the middle of {}", origin.partition);
                return;
            }
            Entry::Handover(handover) => {
                let (number, from, next) = (handover.partition.number, handover.from, handover.next);
                let before = self.next.insert(number, next);
                assert_eq!(before, Some(from), "a handover that does not begin where {} ended", handover.partition);
                self.handed_over.push((number, from, next));
                return;
            }
            _ => return,
        };
        let mut at: Vec<i64> = block.ranges().iter().map(|range| range.from).collect();
        for record in block.records() {
            let record = record.unwrap();
            let (range, at) = (&block.ranges()[record.range], &mut at[record.range]);
            let place = format!("{}@{}", range.partition, record.offset);
            assert!(record.offset >= *at, "{place} is in the log twice");
            *at = record.offset + 1;
            let found = Made {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers.iter().map(|(n, v)| (n.to_vec(), v.map(<[u8]>::to_vec))).collect(),
                timestamp: record.timestamp,
            };
            assert_eq!(found, made(range.partition.number, record.offset), "{place}");
        }
        self.records += block.len() as u64;
        block.ranges().iter().for_each(|range| self.chain(range));
    }

    fn chain(&mut self, range: &Range) {
        self.covered.push((range.partition.number, range.from, range.next));
        self.holes += (range.next - range.from - i64::from(range.count)) as u64;
        let next = self.next.entry(range.partition.number).or_insert(range.from);
        assert_eq!(range.from, *next, "{}: a range that does not go on where the one before ended", range.partition);
        *next = range.next;
    }
}
