//! Row 13: each bit of a small log is flipped, and what must come of it is worked out from the specification.

use std::collections::BTreeMap;

use seawall::sim::{Disk, Keep};
use seawall::{Durability, ErrorKind, Kind, Lsn, Record, Wal};

use crate::common::{CAPACITY, Noise, everything, flip, kind, payload, segments, small};
use crate::spec::{self, BLOCK, FRAME, Frame, Segment};

/// How a log was left.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    /// Closed in order: nothing may be lost, and MARK says so.
    Closed,
    /// Acknowledged, then a tail that was written and not synced, then a power cut that kept it.
    Tail,
    /// `Durability::Os` and a power cut that kept everything: no claim speaks of any of it.
    Os,
}

/// A record of every shape, over two segments.
fn every_shape(wal: &Wal) {
    wal.append(b"").unwrap().wait().unwrap();
    wal.append(b"one").unwrap().wait().unwrap();
    wal.at(7).append_parts(&[b"in ", b"parts"]).unwrap().wait().unwrap();
    wal.append_batch(&["a", "bb", "", "dddd"]).unwrap().wait().unwrap();
    wal.append_checkpoint(b"state").unwrap().wait().unwrap();
    wal.at(u64::MAX).append(&payload(5, 60)).unwrap().wait().unwrap();
    wal.rotate().unwrap();
    wal.append(b"second").unwrap().wait().unwrap();
    wal.append_batch(&["x", "yy"]).unwrap().wait().unwrap();
    wal.append(&payload(8, 101)).unwrap().wait().unwrap();
}

fn build(left: Left) -> Disk {
    let disk = Disk::new(13);
    let durability = if left == Left::Os { Durability::Os } else { Durability::Disk };
    let wal = small().durability(durability).open_on(disk.mount()).unwrap();
    every_shape(&wal);
    match left {
        Left::Closed => wal.close().unwrap(),
        Left::Os => disk.crash(Keep::All),
        Left::Tail => {
            drop(wal.append(b"tail").unwrap());
            let last = wal.append_batch(&["nobody", "was told"]).unwrap();
            disk.crash_at(2);
            assert!(last.wait().is_err());
            disk.crash(Keep::All);
        }
    }
    disk
}

/// Everything that the specification says about a log, before a bit of it is flipped.
struct Truth {
    left: Left,
    /// Of the two segments that hold frames, by name.
    used: Vec<(String, Segment)>,
    lengths: Vec<usize>,
    mark: Vec<u8>,
    end: u64,
    /// Whether the tip was cut to its end.
    trimmed: bool,
    records: BTreeMap<u64, Record>,
}

/// What must come of a flip.
#[derive(Debug, PartialEq)]
enum Must {
    /// The same records as before.
    Same,
    /// Opening is refused.
    Damage,
    /// The log ends here.
    EndAt(u64),
    /// It opens, and the frame here is met by whoever reads it.
    MetAt(u64),
}

/// Where a bit is flipped.
#[derive(Clone, Debug)]
enum Place {
    Mark(usize),
    Segment(usize, usize),
}

impl Truth {
    fn of(disk: &Disk, left: Left) -> Truth {
        let mut used = Vec::new();
        let mut lengths = Vec::new();
        for name in segments(disk) {
            let bytes = disk.file(&name).unwrap();
            let segment = spec::segment(&bytes);
            if let Some(segment) = segment.filter(|segment| !segment.frames.is_empty()) {
                lengths.push(bytes.len());
                used.push((name, segment));
            }
        }
        let wal = small().open_on(disk.fork().mount()).unwrap();
        let records =
            wal.read(..).unwrap().map(|record| record.unwrap()).map(|record| (record.lsn.0, record)).collect();
        let mark = disk.file("MARK").unwrap_or_default();
        let end = used.last().map_or(0, |(_, segment)| segment.end());
        assert_eq!(used.len(), 2);
        let trimmed = (lengths[1] as u64) < CAPACITY;
        Truth { left, used, lengths, mark, end, trimmed, records }
    }

    /// The highest claim that is left when this frame is gone, and MARK says `synced`.
    fn claims(&self, segments: std::ops::Range<usize>, gone: Option<(usize, usize)>, synced: u64) -> u64 {
        let mut best = synced;
        for n in segments {
            for frame in &self.used[n].1.frames {
                best = if gone == Some((n, frame.at)) { best } else { best.max(frame.claim) };
            }
        }
        best
    }

    /// The verdict for a log that ends at `end`, where claims go up to `claim`.
    fn ends(end: u64, claim: u64) -> Must {
        if claim > end { Must::Damage } else { Must::EndAt(end) }
    }

    fn must(&self, place: &Place, synced: u64) -> Must {
        let (n, byte) = match *place {
            // A slot less, or none: of the closed log only MARK says that it may be shorter than it was made.
            Place::Mark(_) if self.trimmed && synced != self.end => return Must::Damage,
            Place::Mark(_) => return Must::Same,
            Place::Segment(n, byte) => (n, byte),
        };
        if self.trimmed && synced != self.end || byte < 72 {
            return Must::Damage;
        }
        let segment = &self.used[n].1;
        let hit = |frame: &&Frame| (frame.at..frame.at + FRAME + frame.length).contains(&byte);
        let Some(frame) = segment.frames.iter().find(hit) else {
            return Must::Same;
        };
        let all = self.claims(0..2, Some((n, frame.at)), synced);
        match (n, frame.at) {
            // Without the first link nothing leads down to the front; without the second the first is the tip.
            (0, BLOCK) => Truth::ends(0, all),
            (1, BLOCK) => Truth::ends(self.used[0].1.end(), all),
            (1, at) => Truth::ends(segment.batch_of(at), all),
            // The sealed one is read at open only if neither MARK nor its successor knows it durable.
            (_, at) if self.claims(1..2, None, synced) >= segment.end() => Must::MetAt(segment.base + at as u64),
            (_, at) => Truth::ends(segment.batch_of(at), all),
        }
    }

    /// Opens and reads, and tells what came of it.
    fn came(&self, disk: &Disk) -> Result<Must, String> {
        let before = everything(disk);
        let wal = match small().open_on(disk.mount()) {
            Err(e) if matches!(e.kind(), ErrorKind::Damage(_)) => {
                let untouched = everything(disk) == before;
                return if untouched { Ok(Must::Damage) } else { Err("refused, and changed something".to_owned()) };
            }
            other => other.map_err(|e| e.to_string())?,
        };
        let (mut met, mut seen) = (None, 0);
        for record in wal.read(..).map_err(|e| e.to_string())? {
            match record {
                Ok(record) if self.records.get(&record.lsn.0) == Some(&record) => seen += 1,
                Ok(record) => return Err(format!("a wrong record: {record:?}")),
                Err(e) => match e.kind() {
                    ErrorKind::Damage(damage) => met = Some(damage.lsn.0),
                    _ => return Err(e.to_string()),
                },
            }
        }
        let end = wal.recovery().end.0;
        if let Some(lsn) = met {
            self.others_are_reached(&wal, lsn)?;
            return Ok(Must::MetAt(lsn));
        }
        if seen != self.records.range(..end).count() {
            return Err(format!("{seen} records below {end}, there were more"));
        }
        Ok(if end == self.end { Must::Same } else { Must::EndAt(end) })
    }

    /// Beside the damage at `lsn` every record is there, in any order.
    fn others_are_reached(&self, wal: &Wal, lsn: u64) -> Result<(), String> {
        for (at, expected) in self.records.iter().rev() {
            match wal.get(Lsn(*at)) {
                Ok(record) if *at != lsn && record == *expected => {}
                Err(e) if *at == lsn && matches!(e.kind(), ErrorKind::Damage(_)) => {}
                other => return Err(format!("the record at {at}, with damage at {lsn}: {other:?}")),
            }
        }
        Ok(())
    }

    /// Each place that means something, and a sample of those that mean nothing.
    fn places(&self) -> Vec<(Place, u32)> {
        let mut places = Vec::new();
        let mut add = |place: Place| places.extend((0..8).map(|bit| (place.clone(), bit)));
        for (n, (_, segment)) in self.used.iter().enumerate() {
            let end = segment.frames.last().unwrap().end();
            (0..72).chain(BLOCK..end).for_each(|byte| add(Place::Segment(n, byte)));
            (72..BLOCK).chain(end..self.lengths[n]).step_by(397).for_each(|byte| add(Place::Segment(n, byte)));
        }
        (0..64).chain(BLOCK..BLOCK + 64).for_each(|byte| add(Place::Mark(byte)));
        places
    }
}

fn flip_each(left: Left, with_mark: bool) {
    let disk = build(left);
    let truth = Truth::of(&disk, left);
    let mut came = BTreeMap::new();
    for (place, bit) in truth.places() {
        let hurt = disk.fork();
        let mut mark = truth.mark.clone();
        match &place {
            Place::Segment(n, byte) => flip(&hurt, &truth.used[*n].0, *byte, bit),
            Place::Mark(byte) => {
                flip(&hurt, "MARK", *byte, bit);
                mark = hurt.file("MARK").unwrap();
            }
        }
        if !with_mark {
            hurt.remove("MARK");
            mark.clear();
        }
        let must = truth.must(&place, spec::synced(&mark));
        // A log that ends where it ended before has lost nothing.
        let must = if must == Must::EndAt(truth.end) { Must::Same } else { must };
        let got = truth.came(&hurt).unwrap_or_else(|e| panic!("{:?}, {place:?}, bit {bit}: {e}", truth.left));
        assert_eq!(got, must, "{left:?}, MARK {with_mark}, {place:?}, bit {bit}");
        let word = format!("{got:?}").chars().take_while(|c| c.is_alphabetic()).collect::<String>();
        *came.entry(word).or_insert(0) += 1;
    }
    println!("{left:?}, MARK {with_mark}: {came:?}");
    assert!(came.values().sum::<i32>() > 8000, "{came:?}");
}

#[test]
fn row_13_each_bit_of_a_closed_log() {
    flip_each(Left::Closed, true);
}

#[test]
fn row_13_each_bit_of_a_closed_log_without_mark() {
    flip_each(Left::Closed, false);
}

#[test]
fn row_13_each_bit_of_a_log_with_an_unacknowledged_tail() {
    flip_each(Left::Tail, true);
}

#[test]
fn row_13_each_bit_of_a_log_with_an_unacknowledged_tail_without_mark() {
    flip_each(Left::Tail, false);
}

#[test]
fn row_13_each_bit_of_a_log_that_nothing_speaks_of() {
    flip_each(Left::Os, true);
}

#[test]
fn row_13_each_bit_of_a_log_that_nothing_speaks_of_without_mark() {
    flip_each(Left::Os, false);
}

#[test]
fn row_13_many_bits_at_once_never_make_a_wrong_record() {
    let disk = build(Left::Tail);
    let truth = Truth::of(&disk, Left::Tail);
    let mut noise = Noise(13);
    for round in 0..3000 {
        let hurt = disk.fork();
        for _ in 0..1 + noise.next() % 12 {
            let (name, segment) = &truth.used[(noise.next() % 2) as usize];
            let from = if noise.next().is_multiple_of(8) { 0 } else { BLOCK };
            let span = segment.frames.last().unwrap().end() - from;
            let byte = from + (noise.next() % span as u64) as usize;
            flip(&hurt, name, byte, (noise.next() % 8) as u32);
        }
        let came = truth.came(&hurt);
        // Several damaged frames are met one after the other; the check is that none is shown as a record.
        let met = came.as_ref().is_err_and(|e| e.starts_with("the record at"));
        assert!(came.is_ok() || met, "round {round}: {came:?}");
    }
}

#[test]
fn row_13_what_the_shapes_are_is_what_was_appended() {
    let disk = build(Left::Closed);
    let truth = Truth::of(&disk, Left::Closed);
    let records: Vec<_> = truth.records.values().collect();
    let shape = |n: usize| (&records[n].payload[..], records[n].batch_time.0, records[n].kind, records[n].ends_batch);
    assert_eq!(records.len(), 13);
    assert_eq!(shape(0), (&b""[..], 0, Kind::Record, true));
    assert_eq!(shape(2), (&b"in parts"[..], 7, Kind::Record, true));
    assert_eq!(shape(3), (&b"a"[..], 7, Kind::Record, false));
    assert_eq!(shape(6), (&b"dddd"[..], 7, Kind::Record, true));
    assert_eq!(shape(7), (&b"state"[..], 7, Kind::Checkpoint, true));
    assert_eq!(shape(8), (&payload(5, 60)[..], u64::MAX, Kind::Record, true));
    // What a parser written from the specification reads is what the log shows.
    let mut frames = 0;
    for (_, segment) in &truth.used {
        for frame in segment.frames.iter().filter(|frame| frame.kind == 1 || frame.kind == 2) {
            let record = &truth.records[&(segment.base + frame.at as u64)];
            assert_eq!((&frame.payload[..], !frame.more), (&record.payload[..], record.ends_batch));
            frames += 1;
        }
    }
    assert_eq!(frames, 13);
    let wal = small().open_on(disk.mount()).unwrap();
    assert!(matches!(kind(wal.get(Lsn(truth.used[0].1.base + 4096))), ErrorKind::NoRecord(_)), "a link is no record");
}
