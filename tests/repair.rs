//! A damaged log is brought back: everything that can stay stays where it was, and nothing is deleted.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

#[path = "repair/again.rs"]
mod again;
#[path = "repair/batches.rs"]
mod batches;
#[path = "common/live.rs"]
mod live;
#[path = "repair/reads.rs"]
mod reads;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use seawall::check::{Repair, RepairPlan, Step, Verify, inspect_on, verify};
use seawall::sim::{Disk, Fault, Keep, Operation};
use seawall::{Durability, ErrorKind, Lsn, Options, Wal};

const BLOCK: usize = 4096;

/// A record as it was appended.
#[derive(Clone, Debug)]
struct Appended {
    lsn: u64,
    time: u64,
    payload: Vec<u8>,
    /// Which append it came with.
    batch: usize,
}

impl Appended {
    fn size(&self) -> u64 {
        24 + self.payload.len().next_multiple_of(4) as u64
    }

    /// Where its bytes lie, without padding.
    fn bytes(&self) -> std::ops::Range<u64> {
        self.lsn..self.lsn + 24 + self.payload.len() as u64
    }
}

/// A closed log of several segments on a disk in memory, and what was appended to it.
struct World {
    disk: Disk,
    records: Vec<Appended>,
    /// The names of segments with records.
    segments: Vec<String>,
    files: BTreeMap<String, Vec<u8>>,
}

fn options() -> Options {
    Options::new().segment_size(16 << 10)
}

fn open(disk: &Disk) -> seawall::Result<Wal> {
    options().open_on(disk.mount())
}

fn base(name: &str) -> u64 {
    name[..20].parse().unwrap()
}

impl World {
    fn new() -> World {
        let disk = Disk::new(7);
        let wal = open(&disk).unwrap();
        let mut records = Vec::new();
        let cursor = {
            let mut cursor = None;
            for batch in 0..90_usize {
                let time = batch as u64 / 7;
                let payloads: Vec<Vec<u8>> = (0..1 + usize::from(batch % 5 == 3) * 3)
                    .map(|n| vec![(batch + n) as u8; batch * 37 % 900])
                    .collect();
                let last = wal.at(time).append_batch(&payloads).unwrap();
                // Some are waited for one by one, some together.
                let last = if batch % 3 == 0 { last.wait().unwrap() } else { last.lsn() };
                let mut lsn = last.0 + 24 + (payloads[0].len().next_multiple_of(4)) as u64;
                for (n, payload) in payloads.iter().enumerate().rev() {
                    lsn -= 24 + payload.len().next_multiple_of(4) as u64;
                    let at = records.len() - (payloads.len() - 1 - n);
                    records.insert(at, Appended { lsn, time, payload: payload.clone(), batch });
                }
                if batch == 20 {
                    cursor = Some(wal.cursor("follower").unwrap());
                }
            }
            cursor.unwrap()
        };
        drop(cursor);
        wal.close().unwrap();
        disk.crash(Keep::All);
        let mut world = World { disk, records, segments: Vec::new(), files: BTreeMap::new() };
        world.files = world.contents();
        let used = |name: &&String| name.ends_with(".wal") && world.records.iter().any(|r| world.holds(name, r.lsn));
        world.segments = world.files.keys().filter(used).cloned().collect();
        assert!(world.segments.len() >= 4, "{:?}", world.segments);
        assert!(world.records.is_sorted_by_key(|record| record.lsn));
        world
    }

    /// One that was killed in a segment of which MARK says nothing.
    fn killed() -> World {
        let mut world = World::new();
        let mark = world.disk.file("MARK").unwrap();
        let wal = open(&world.disk).unwrap();
        for batch in 90..94 {
            let payload = vec![batch as u8; 800];
            let lsn = wal.append(&payload).unwrap().wait().unwrap().0;
            let time = world.records[world.records.len() - 1].time;
            world.records.push(Appended { lsn, time, payload, batch });
        }
        world.disk.kill();
        drop(wal);
        world.disk.put("MARK", mark);
        world.files = world.contents();
        let newest = world
            .files
            .keys()
            .rfind(|name| name.ends_with(".wal") && base(name) <= world.records[world.records.len() - 1].lsn);
        world.segments.push(newest.unwrap().clone());
        world
    }

    fn swap(&self, a: &str, b: &str) {
        self.disk.rename(a, "swap");
        self.disk.rename(b, a);
        self.disk.rename("swap", b);
    }

    fn fork(&self) -> World {
        World {
            disk: self.disk.fork(),
            records: self.records.clone(),
            ..World { disk: Disk::new(0), ..self.clone_names() }
        }
    }

    fn clone_names(&self) -> World {
        World { disk: Disk::new(0), records: Vec::new(), segments: self.segments.clone(), files: self.files.clone() }
    }

    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.disk.names().into_iter().map(|name| (name.clone(), self.disk.file(&name).unwrap())).collect()
    }

    fn holds(&self, segment: &str, lsn: u64) -> bool {
        let next = self.files.keys().filter(|name| name.ends_with(".wal")).map(|name| base(name));
        let next = next.filter(|next| *next > base(segment)).min().unwrap_or(u64::MAX);
        (base(segment)..next).contains(&lsn)
    }

    fn flip(&self, segment: &str, offset: usize, mask: u8) {
        let mut bytes = self.disk.file(segment).unwrap();
        bytes[offset] ^= mask;
        self.disk.put(segment, bytes);
    }

    fn spoil(&self, segment: &str, range: std::ops::Range<usize>) {
        let mut bytes = self.disk.file(segment).unwrap();
        let end = bytes.len().min(range.end);
        bytes[range.start.min(end)..end].fill(0xAA);
        self.disk.put(segment, bytes);
    }

    /// Every record that is read from the log, which must be as it was appended.
    fn read(&self, wal: &Wal) -> Vec<u64> {
        let mut lsns = Vec::new();
        for record in wal.read(..).unwrap() {
            let record = record.unwrap();
            let appended = self.records.iter().find(|appended| appended.lsn == record.lsn.0);
            let appended = appended.unwrap_or_else(|| panic!("nobody appended LSN {}", record.lsn));
            assert_eq!((&record.payload[..], record.batch_time.0), (&appended.payload[..], appended.time));
            assert_eq!(wal.get(record.lsn).unwrap().payload, record.payload);
            lsns.push(record.lsn.0);
        }
        lsns
    }

    /// Repairs, and holds what is left against what must be: `lost` says of each record whether its bytes are.
    fn repair(&self, ways: &Repair, lost: impl Fn(&Appended) -> bool) -> RepairPlan {
        let before = self.contents();
        let planned = ways.plan_on(self.disk.mount()).unwrap();
        assert_eq!(self.contents(), before, "a plan changes nothing");
        let done = ways.run_on(self.disk.mount()).unwrap();
        assert_eq!(planned.to_string(), done.to_string());
        self.is_repaired(&before, !done.steps.is_empty(), lost);
        done
    }

    fn is_repaired(&self, before: &BTreeMap<String, Vec<u8>>, changed: bool, lost: impl Fn(&Appended) -> bool) {
        self.has_all(before);
        self.is_shown_whole(&lost);
        let report = Verify::new().threads(1).run_on(self.disk.mount()).unwrap();
        assert!(report.is_clean(), "{report}");
        let wal = open(&self.disk).unwrap_or_else(|e| panic!("{e}"));
        let left = self.read(&wal);
        self.holds_batches(&left, lost);
        // The log goes on, above everything that was.
        let lsn = wal.append(b"on").unwrap().wait().unwrap();
        let highest = before.keys().filter(|name| name.ends_with(".wal")).map(|name| base(name)).max().unwrap_or(0);
        assert!(lsn.0 > highest + if changed { 1 << 40 } else { 0 });
        wal.close().unwrap();
        let wal = open(&self.disk).unwrap();
        assert_eq!(wal.read(..).unwrap().count(), left.len() + 1);
        wal.close().unwrap();
        assert!(Repair::new().plan_on(self.disk.mount()).unwrap().steps.is_empty());
        let used = |name: &String| self.segments.contains(name);
        self.has_all(&before.iter().filter(|(name, _)| used(name)).map(|(n, b)| (n.clone(), b.clone())).collect());
    }

    /// Readers see all that is left, before anybody opens the log for writing.
    fn is_shown_whole(&self, lost: impl Fn(&Appended) -> bool) {
        let view = options().open_read_only_on(self.disk.mount()).unwrap();
        let read: Vec<u64> = view.read(..).unwrap().map(|record| record.unwrap().lsn.0).collect();
        self.holds_batches(&read, lost);
        assert!(view.durable_lsn() <= view.recovery().end && view.look().unwrap() == view.durable_lsn());
        assert!(view.split(4).iter().all(|part| view.read(part.clone()).unwrap().all(|record| record.is_ok())));
        let overview = seawall::check::inspect_on(self.disk.mount()).unwrap();
        assert_eq!(overview.durable, view.durable_lsn());
    }

    /// Nothing was deleted.
    fn has_all(&self, before: &BTreeMap<String, Vec<u8>>) {
        let now = self.contents();
        for (name, bytes) in before.iter().filter(|(name, _)| name.ends_with(".wal")) {
            let found = now.values().any(|now| now == bytes);
            assert!(found, "the bytes of {name} are nowhere: {:?}", now.keys());
        }
    }

    /// All records of a batch are left or none, and those of which nothing is lost are: but for a batch that follows
    /// a lost frame directly, of which it cannot be told whether it began there.
    fn holds_batches(&self, left: &[u64], lost: impl Fn(&Appended) -> bool) {
        let mut doubtful = false;
        for batch in self.records.chunk_by(|a, b| a.batch == b.batch) {
            let kept = batch.iter().filter(|record| left.contains(&record.lsn)).count();
            assert!(kept == 0 || kept == batch.len(), "{kept} of {} records: {batch:?}", batch.len());
            let hurt = batch.iter().any(&lost);
            assert!(!hurt || kept == 0, "{batch:?}");
            assert!(hurt || doubtful || kept > 0, "lost though nothing of it was: {batch:?}");
            // Those waited for one by one claim that all before them is durable.
            doubtful = hurt;
        }
    }
}

#[test]
fn a_sound_log_needs_no_repair() {
    let world = World::new();
    let plan = world.repair_nothing();
    assert_eq!(plan.kept_records, world.records.len() as u64);
}

impl World {
    fn repair_nothing(&self) -> RepairPlan {
        let plan = Repair::new().run_on(self.disk.mount()).unwrap();
        assert!(plan.steps.is_empty() && plan.faults.is_empty(), "{plan}");
        assert_eq!(self.contents(), self.files);
        plan
    }
}

#[test]
fn a_bit_flipped_anywhere_costs_the_record_it_lies_in() {
    let whole = World::new();
    let mut seen = 0;
    for (n, segment) in whole.segments.iter().enumerate() {
        let end = whole.records.iter().filter(|r| whole.holds(segment, r.lsn)).map(|r| r.lsn + r.size()).max().unwrap();
        let end = (end - base(segment)) as usize;
        let places = (0..72).chain(BLOCK..BLOCK + 140).chain((BLOCK + 140..end).step_by(41 + n));
        for offset in places {
            let world = whole.fork();
            world.flip(segment, offset, 1 << (offset % 8));
            let at = base(segment) + offset as u64;
            let plan = world.repair(&Repair::new(), |r| r.bytes().contains(&at));
            seen += usize::from(!plan.faults.is_empty());
        }
    }
    assert!(seen > 1000, "{seen}");
}

#[test]
fn files_that_are_gone_cost_what_was_in_them() {
    let whole = World::new();
    let n = whole.segments.len();
    for gone in [vec![0], vec![1], vec![1, 2], vec![0, 1], vec![n - 1], vec![0, n - 1], (0..n).collect()] {
        let world = whole.fork();
        gone.iter().for_each(|n| assert!(world.disk.remove(&whole.segments[*n])));
        world.repair(&Repair::new(), |r| gone.iter().any(|n| whole.holds(&whole.segments[*n], r.lsn)));
    }
}

#[test]
fn files_that_are_emptied_cut_or_overwritten_cost_what_is_lost() {
    let whole = World::new();
    for segment in &whole.segments {
        for length in [0, 100, BLOCK, BLOCK + 50, BLOCK + 3000, 14_000] {
            let world = whole.fork();
            let mut bytes = world.disk.file(segment).unwrap();
            bytes.truncate(length);
            let cut = bytes.len() < whole.files[segment].len();
            world.disk.put(segment, bytes);
            let at = base(segment) + length as u64;
            let lost = |r: &Appended| whole.holds(segment, r.lsn) && r.lsn + r.size() > at;
            if cut && whole.records.iter().any(lost) {
                world.repair(&Repair::new(), lost);
            }
            let world = whole.fork();
            world.spoil(segment, length..length + 500);
            let to = at + 500;
            world.repair(&Repair::new(), |r| whole.holds(segment, r.lsn) && r.lsn < to && r.lsn + r.size() > at);
        }
    }
}

#[test]
fn files_under_wrong_names_lose_nothing() {
    let whole = World::new();
    let [a, b, c] = [0, 1, 2].map(|n| whole.segments[n].clone());
    let world = whole.fork();
    world.swap(&a, &b);
    world.repair(&Repair::new(), |_| false);
    let world = whole.fork();
    world.disk.rename(&b, "segment.bak");
    world.repair(&Repair::new(), |_| false);
    let world = whole.fork();
    world.disk.rename(whole.segments.last().unwrap(), "segment.bak");
    world.repair(&Repair::new(), |_| false);
    // What looks unfinished: under its own name, and under those under which others are written.
    for name in [&b, &a, &c].map(|name| name.replace(".wal", ".new")) {
        let world = whole.fork();
        world.disk.rename(&b, &name);
        let report = Verify::new().threads(1).run_on(world.disk.mount()).unwrap();
        assert!(report.to_string().contains(&format!("this is segment {b} under the name {name}")), "{report}");
        let overview = seawall::check::inspect_on(world.disk.mount()).unwrap();
        assert_eq!(overview.disk_bytes, world.contents().values().map(|bytes| bytes.len() as u64).sum::<u64>());
        world.flip(&a, 20, 4);
        world.flip(&c, BLOCK + 30, 1);
        let plan = world.repair(&Repair::new(), |_| false);
        assert_eq!(plan.lost_records, Some(0), "{plan}");
    }
    // One under the name of another, which is gone.
    let world = whole.fork();
    world.disk.rename(&b, &c);
    world.repair(&Repair::new(), |r| whole.holds(&c, r.lsn));
}

/// Of the newest segment, where nothing else tells of what it holds, that was dropped.
#[test]
fn a_newest_segment_under_a_wrong_name_loses_nothing() {
    let whole = World::killed();
    let [first, newest] = [whole.segments.first(), whole.segments.last()].map(|name| name.unwrap().clone());
    let copy = |world: &World, from: &str, to: &str| world.disk.put(to, world.disk.file(from).unwrap());
    let below = format!("{:020}.wal", base(&newest) - BLOCK as u64);
    let above = format!("{:020}.wal", base(&newest) + (1 << 20));
    let hurt: [&dyn Fn(&World); 8] = [
        &|world| world.swap(&first, &newest),
        &|world| _ = world.disk.rename(&newest, "newest.bak"),
        &|world| _ = world.disk.rename(&newest, &below),
        &|world| _ = world.disk.rename(&newest, &above),
        &|world| {
            world.disk.rename(&newest, "newest.bak");
            copy(world, &first, &newest);
        },
        // Of two copies the one that is whole, wherever it stands in the listing.
        &|world| {
            let bytes = world.disk.file(&newest).unwrap();
            world.disk.rename(&newest, "b");
            for name in ["a", "c"] {
                world.disk.put(name, &bytes[..BLOCK + 1200]);
            }
        },
        &|world| _ = world.disk.rename(&newest, &newest.replace(".wal", ".new")),
        // A repair had begun to copy it.
        &|world| {
            world.disk.rename(&newest, "newest.bak");
            world.disk.put(&newest.replace(".wal", ".new"), &world.disk.file("newest.bak").unwrap()[..BLOCK + 1200]);
        },
    ];
    for (n, hurt) in hurt.iter().enumerate() {
        let world = whole.fork();
        hurt(&world);
        let report = Verify::new().threads(1).run_on(world.disk.mount()).unwrap();
        assert!(report.to_string().contains(&format!(": this is segment {newest} under the name ")), "{n}: {report}");
        assert_eq!(report.records, world.records.len() as u64, "{n}: {report}");
        let plan = world.repair(&Repair::new(), |_| false);
        // Another segment may have lain above before.
        let lost = (n != 3).then_some(0);
        assert_eq!((plan.dropped_records, plan.lost_records), (0, lost), "{n}: {plan}");
        assert!(plan.to_string().contains(&format!("back as {newest}\n")), "{n}: {plan}");
    }
}

#[test]
fn a_damaged_copy_under_a_segments_name_takes_no_segments_place() {
    let whole = World::new();
    for segment in &whole.segments {
        let world = whole.fork();
        let mut copy = world.disk.file(segment).unwrap();
        copy[BLOCK + 400] ^= 1;
        world.disk.put(&format!("{:020}.wal", base(segment) + BLOCK as u64), copy);
        world.repair(&Repair::new(), |_| false);
    }
}

#[test]
fn a_closed_log_whose_mark_is_gone_opens_again() {
    let world = World::new();
    world.disk.remove("MARK");
    assert!(open(&world.disk).is_err());
    world.repair(&Repair::new(), |_| false);
}

#[test]
fn only_the_mark_is_left() {
    let world = World::new();
    for name in world.disk.names().iter().filter(|name| *name != "MARK") {
        world.disk.remove(name);
    }
    world.repair(&Repair::new(), |_| true);
}

/// The header, and the first frame, out of whose header any seed can be read.
#[test]
fn a_segment_whose_header_and_first_frame_are_damaged_keeps_its_records() {
    let (closed, killed) = (World::new(), World::killed());
    let newest = killed.segments.last().map(|segment| (&killed, segment));
    for (whole, segment) in closed.segments.iter().map(|segment| (&closed, segment)).chain(newest) {
        for byte in (0..20).map(|n| BLOCK + n).chain([BLOCK + 40]) {
            // A byte of its capacity, one of its checksum, and a part of its magic number and its version.
            for (offset, mask) in [(57, 1), (13, 1), (5, 0x40), (8, 0xFF)] {
                let world = whole.fork();
                world.flip(segment, offset, mask);
                world.flip(segment, byte, 1);
                let plan = world.repair(&Repair::new(), |_| false);
                assert_eq!(plan.kept_records, world.records.len() as u64, "{segment} {byte}: {plan}");
            }
        }
    }
}

/// It is passed over, but it does not go: what a hand renamed may be all that there is of a segment.
#[test]
fn what_looks_unfinished_and_holds_frames_is_moved_aside() {
    let whole = World::new();
    let segment = &whole.segments[1];
    let unfinished = segment.replace(".wal", ".new");
    let world = whole.fork();
    world.disk.rename(segment, &unfinished);
    let bytes = world.disk.file(&unfinished);
    let plan = Repair::new().run_on(world.disk.mount()).unwrap();
    assert!(plan.steps.iter().any(|step| matches!(step, Step::MoveAside { file } if *file == unfinished)), "{plan}");
    assert_eq!(world.disk.file(&format!("{unfinished}.aside")), bytes);
    // One that a maker leaves goes.
    let world = whole.fork();
    world.disk.put(&unfinished, &whole.files[segment][..BLOCK]);
    world.flip(segment, 4500, 1);
    Repair::new().run_on(world.disk.mount()).unwrap();
    assert!(world.disk.names().iter().all(|name| !name.starts_with(&unfinished)));
}

#[test]
fn a_quarantined_segment_is_passed_over_whole() {
    let whole = World::new();
    for segment in &whole.segments {
        let world = whole.fork();
        let plan = world.repair(&Repair::new().quarantine(segment), |r| whole.holds(segment, r.lsn));
        let gone = whole.records.iter().filter(|r| whole.holds(segment, r.lsn)).count() as u64;
        assert_eq!((plan.dropped_records, plan.kept_records), (gone, whole.records.len() as u64 - gone));
    }
    let error = Repair::new().quarantine("x").plan_on(whole.disk.mount()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Invalid);
}

/// A hole that nothing proves durable, in one segment of several that were never synced: opening drops all beyond it, and
/// no repair brings it back, whichever segment goes.
#[test]
fn what_opening_drops_does_not_come_back_through_a_quarantine() {
    let disk = Disk::new(1);
    let options = options().durability(Durability::Os);
    let wal = options.open_on(disk.mount()).unwrap();
    for n in 0..30_u8 {
        wal.append(&[n; 500]).unwrap().wait().unwrap();
        match n {
            9 => wal.sync().and_then(|_| wal.rotate()).unwrap(),
            14 | 19 | 24 => wal.rotate().unwrap(),
            _ => {}
        }
    }
    disk.crash_at(0);
    drop(wal);
    disk.kill();
    let read = |disk: &Disk| -> BTreeSet<u8> {
        let wal = options.open_on(disk.fork().mount()).unwrap();
        wal.read(..).unwrap().map(|record| record.unwrap().payload[0]).collect()
    };
    let all = read(&disk);
    let names: Vec<String> = disk.names().into_iter().filter(|name| name.ends_with(".wal")).collect();
    assert_eq!((all.len(), names.len()), (30, 6), "{names:?}");
    // In the first record, or in the link, of each but the first, which was synced.
    for (torn, at) in (1..5).flat_map(|torn| [(torn, BLOCK + 10), (torn, BLOCK + 1500)]) {
        let hurt = disk.fork();
        let mut bytes = hurt.file(&names[torn]).unwrap();
        bytes[at..at + 20].fill(0);
        hurt.put(&names[torn], bytes);
        let left = read(&hurt);
        assert!(left.len() >= 10 && left.len() < 30);
        for (n, name) in names[..5].iter().enumerate() {
            let disk = hurt.fork();
            let plan = Repair::new().quarantine(name).run_on(disk.mount()).unwrap();
            let (first, next) = ([0, 10, 15, 20, 25][n], [10, 15, 20, 25, 30][n]);
            let kept: BTreeSet<u8> = left.iter().copied().filter(|n| !(first..next).contains(n)).collect();
            assert_eq!(read(&disk), kept, "{torn} {at} {name}: {plan}");
            let counted = (plan.kept_records, plan.dropped_records);
            assert_eq!(counted, (kept.len() as u64, (left.len() - kept.len()) as u64), "{torn} {at} {name}: {plan}");
            assert!(Verify::new().run_on(disk.mount()).unwrap().is_clean());
            assert!(Repair::new().plan_on(disk.mount()).unwrap().steps.is_empty());
        }
    }
}

#[test]
fn a_cut_ends_the_log_at_a_batch() {
    let whole = World::new();
    for record in whole.records.iter().step_by(9) {
        let world = whole.fork();
        let plan = world.repair(&Repair::new().cut(Lsn(record.lsn)), |r| {
            whole.records.iter().filter(|other| other.batch == r.batch).any(|other| other.lsn >= record.lsn)
        });
        assert!(plan.end.0 <= record.lsn);
    }
    // Beyond the end there is nothing to be cut. Damage below is passed over, for an earlier run may have come so far.
    let beyond = Repair::new().cut(Lsn(u64::MAX));
    assert!(beyond.plan_on(whole.disk.mount()).unwrap().steps.is_empty());
    whole.flip(&whole.segments[1], BLOCK + 300, 4);
    let [cut, plain] = [beyond, Repair::new()].map(|way| way.plan_on(whole.disk.mount()).unwrap());
    assert_eq!((cut.steps.is_empty(), cut.steps, cut.dropped_records), (false, plain.steps, 0));
}

/// What was only shown, or of which nothing tells that it was durable, was not copied, and trimmed when the log was opened.
#[test]
fn what_is_cut_lies_beside_the_log_whether_it_was_durable_or_not() {
    for (durability, mark) in
        [(Durability::Os, true), (Durability::Os, false), (Durability::Disk, true), (Durability::Disk, false)]
    {
        let disk = Disk::new(7);
        let wal = options().durability(durability).open_on(disk.mount()).unwrap();
        let payload = |n: u8| [n; 100];
        let lsns: Vec<Lsn> = (1..=20).map(|n| wal.append(&payload(n)).unwrap().wait().unwrap()).collect();
        disk.kill();
        drop(wal);
        assert!(mark || disk.remove("MARK"));
        for (at, damaged) in [(10, None), (10, Some(15)), (10, Some(10))] {
            let disk = disk.fork();
            let name = format!("{:020}.wal", 0);
            if let Some(damaged) = damaged {
                let mut bytes = disk.file(&name).unwrap();
                bytes[lsns[damaged].0 as usize + 30] ^= 1;
                disk.put(&name, bytes);
            }
            let plan = Repair::new().cut(lsns[at]).run_on(disk.mount()).unwrap();
            open(&disk).unwrap().close().unwrap();
            let files: Vec<_> = disk.names().iter().map(|name| disk.file(name).unwrap()).collect();
            for n in (0..20).filter(|n| Some(*n) != damaged) {
                let lies = files.iter().any(|file| file.windows(100).any(|bytes| bytes == payload(n as u8 + 1)));
                assert!(lies, "{durability:?}, MARK {mark}, damaged {damaged:?}: {n} is gone; {plan}");
            }
        }
    }
}

#[test]
fn cursors_and_checkpoints_outlive_a_repair() {
    let world = World::new();
    let wal = open(&world.disk).unwrap();
    let first = wal.append_checkpoint(b"first").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    let second = wal.append_checkpoint(b"second").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    let more = wal.append(b"more").unwrap().wait().unwrap();
    wal.append(b"and more").unwrap().wait().unwrap();
    wal.close().unwrap();
    let segments = || world.disk.names().into_iter().filter(|name| name.ends_with(".wal"));
    let holds = |lsn: Lsn| segments().filter(|name| base(name) < lsn.0).max().unwrap();
    for (hurt, left) in [(vec![first], "second"), (vec![second], "first"), (vec![more], "second")] {
        let disk = world.disk.fork();
        for hurt in hurt {
            let name = holds(hurt);
            let mut bytes = disk.file(&name).unwrap();
            bytes[(hurt.0 - base(&name)) as usize + 25] ^= 1;
            disk.put(&name, bytes);
        }
        Repair::new().run_on(disk.mount()).unwrap();
        let wal = open(&disk).unwrap();
        assert_eq!(&wal.checkpoint().unwrap().unwrap().payload[..], left.as_bytes());
        assert!(wal.cursors().contains_key("follower"), "{:?}", wal.cursors());
    }
}

/// The only checkpoint is lost, and what it stood for may be cleaned: nobody is told that there never was one.
#[test]
fn a_lost_checkpoint_is_an_error_and_not_none() {
    let world = World::new();
    let wal = open(&world.disk).unwrap();
    let only = wal.append_checkpoint(b"only").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    wal.append(b"more").unwrap().wait().unwrap();
    wal.close().unwrap();
    let segments = world.disk.names().into_iter().filter(|name| name.ends_with(".wal"));
    let name = segments.filter(|name| base(name) < only.0).max().unwrap();
    world.flip(&name, (only.0 - base(&name)) as usize + 25, 1);
    Repair::new().run_on(world.disk.mount()).unwrap();
    let wal = open(&world.disk).unwrap();
    let error = wal.checkpoint().unwrap_err();
    let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
    assert_eq!((damage.lsn, &damage.segment), (only, &name));
    assert!(error.to_string().contains("passed over by a repair"), "{error}");
    assert_eq!(wal.get(only).unwrap_err().kind(), error.kind());
}

/// It was said to be none, for the one before was cleaned: state was gone in silence. Nor did anything tell that it is lost.
#[test]
fn a_lost_checkpoint_is_no_none_where_the_one_before_was_cleaned() {
    for (more, sealed) in [(false, false), (true, false), (false, true), (true, true)] {
        let world = World::new();
        let wal = open(&world.disk).unwrap();
        wal.append_checkpoint(b"before").unwrap().wait().unwrap();
        wal.rotate().unwrap();
        let last = wal.append_checkpoint(b"last").unwrap().wait().unwrap();
        wal.cursors().keys().for_each(|name| wal.cursor(name).unwrap().remove().unwrap());
        wal.clean_before_lsn(last).unwrap();
        wal.append(b"more").unwrap().wait().unwrap();
        if sealed {
            wal.rotate().unwrap();
            wal.append(b"and more").unwrap().wait().unwrap();
        }
        wal.close().unwrap();
        world.disk.crash(Keep::All);
        let names = world.disk.names().into_iter().filter(|name| name.ends_with(".wal"));
        let name = names.filter(|name| base(name) < last.0).max().unwrap();
        world.flip(&name, (last.0 - base(&name)) as usize + 25, 1);
        if more {
            world.flip(&name, (last.0 - base(&name)) as usize + 40 + 25, 1);
        }
        let lost = |notes: &[String]| notes.iter().any(|note| note.contains("checkpoint") && note.contains("is lost"));
        let seen = inspect_on(world.disk.mount()).unwrap();
        assert!(lost(&seen.notes), "{more} {sealed}: {:?}", seen.notes);
        let plan = Repair::new().run_on(world.disk.mount()).unwrap();
        assert!(lost(&plan.notes), "{more} {sealed}: {:?}", plan.notes);
        let wal = open(&world.disk).unwrap();
        let error = wal.checkpoint().unwrap_err();
        let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
        assert_eq!(damage.lsn, last, "{more} {sealed}: {error}");
        wal.close().unwrap();
        assert!(lost(&inspect_on(world.disk.mount()).unwrap().notes));
        let wal = open(&world.disk).unwrap();
        wal.append_checkpoint(b"anew").unwrap().wait().unwrap();
        wal.close().unwrap();
        assert!(!lost(&inspect_on(world.disk.mount()).unwrap().notes));
    }
}

#[test]
fn a_cursor_above_a_cut_goes_back_to_it() {
    let world = World::new();
    let wal = open(&world.disk).unwrap();
    let end = wal.durable_lsn();
    wal.cursor("follower").unwrap().release(end).unwrap();
    wal.close().unwrap();
    let plan = Repair::new().cut(Lsn(world.records[50].lsn)).run_on(world.disk.mount()).unwrap();
    assert!(plan.end < end);
    let wal = open(&world.disk).unwrap();
    assert!(wal.cursors()["follower"] <= plan.end);
}

/// Nobody was told: not by the plan, nor by what was done, nor by any look afterwards.
#[test]
fn what_becomes_of_cursors_is_told() {
    let disk = Disk::new(3);
    let wal = open(&disk).unwrap();
    let first = wal.append(&[1; 100]).unwrap().wait().unwrap();
    let (_kept, moved, removed) =
        (wal.cursor("kept").unwrap(), wal.cursor("moved").unwrap(), wal.cursor("removed").unwrap());
    moved.release(first).unwrap();
    wal.sync().unwrap();
    let cut = wal.durable_lsn();
    let second = wal.append(&[2; 100]).unwrap().wait().unwrap();
    moved.release(second).unwrap();
    removed.remove().unwrap();
    let _gone = wal.cursor("gone").unwrap();
    wal.append(&[3; 100]).unwrap().wait().unwrap();
    wal.close().unwrap();
    let name = "00000000000000000000.wal";
    let sound = disk.file(name).unwrap();
    let about = |plan: RepairPlan| -> Vec<String> {
        plan.notes.into_iter().filter(|note| note.contains("cursor")).map(|note| note[..22].to_owned()).collect()
    };
    let told = about(Repair::new().cut(cut).plan_on(disk.fork().mount()).unwrap());
    assert_eq!(told.len(), 3, "{told:?}");
    for what in ["cursor gone, at LSN", "cursor moved: stands a", "cursor removed: is bac"] {
        assert!(told.iter().any(|told| told.starts_with(what)), "{told:?}");
    }
    assert!(about(Repair::new().cut(cut).run_on(disk.fork().mount()).unwrap()) == told);
    // Of what is lost: a record is none, the note of a cursor and the link may be.
    let flipped = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        disk.put(name, bytes);
        about(Repair::new().plan_on(disk.fork().mount()).unwrap())
    };
    assert_eq!(flipped(second.0 as usize + 24), Vec::<String>::new());
    let lost = ["a cursor that was made"];
    assert_eq!(flipped(4096 + 30), lost);
    let note = sound.windows(4).rposition(|bytes| bytes == b"gone").unwrap();
    assert!(flipped(note).iter().any(|told| told == lost[0]));
    // So it is of a newest segment of which nothing is left, with another below, which was trimmed and is sound.
    let whole = World::new();
    let wal = open(&whole.disk).unwrap();
    let newest = wal.append(&[4; 300]).unwrap().wait().unwrap();
    wal.close().unwrap();
    whole.disk.crash(Keep::All);
    let below = whole.segments.last().unwrap();
    let newest = &whole.disk.names().into_iter().rfind(|name| name.ends_with(".wal") && base(name) < newest.0).unwrap();
    for left in [vec![], vec![0; BLOCK + 200], vec![0xAA; BLOCK + 200]] {
        let world = whole.fork();
        let mut bytes = world.disk.file(newest).unwrap();
        let all = if left.is_empty() { 0 } else { bytes.len() };
        bytes[..left.len()].copy_from_slice(&left);
        world.disk.put(newest, &bytes[..all]);
        let plan = Repair::new().plan_on(world.disk.mount()).unwrap();
        assert!(plan.faults.iter().all(|fault| fault.segment != *below), "{plan}");
        assert_eq!(about(plan), lost, "{} of {}", left.len(), bytes.len());
    }
}

/// The cursor stood above records that were lost, and nothing said so.
#[test]
fn a_cursor_in_a_lost_front_is_told_to_stand_where_the_log_begins() {
    let disk = Disk::new(3);
    let wal = open(&disk).unwrap();
    let first = wal.append(&[1; 100]).unwrap().wait().unwrap();
    let cursor = wal.cursor("follower").unwrap();
    cursor.release(first).unwrap();
    let at = cursor.lsn().unwrap();
    for _ in 0..2 {
        wal.rotate().unwrap();
        wal.append(&[2; 100]).unwrap().wait().unwrap();
    }
    wal.close().unwrap();
    let names: Vec<_> = disk.names().into_iter().filter(|name| name.ends_with(".wal")).collect();
    disk.put(&names[0], []);
    let mut second = disk.file(&names[1]).unwrap();
    second[BLOCK..BLOCK + 104].fill(0);
    disk.put(&names[1], second);
    let begin = base(&names[1]);
    let told = format!("cursor follower: stands at LSN {begin}, where the log begins then, not at {at}");
    let plan = Repair::new().run_on(disk.mount()).unwrap();
    assert!(plan.notes.contains(&told), "{told}: {plan}");
    assert_eq!(open(&disk).unwrap().cursors()["follower"], Lsn(begin));
}

/// One that had been cleaned away long before was named in its place.
#[test]
fn the_checkpoint_that_a_cut_loses_is_named() {
    let disk = Disk::new(3);
    let wal = open(&disk).unwrap();
    let first = wal.append_checkpoint(b"cleaned").unwrap().wait().unwrap();
    wal.rotate().unwrap();
    let kept = wal.append(&[1; 100]).unwrap().wait().unwrap();
    let cut = wal.durable_lsn();
    let last = wal.append_checkpoint(b"cut").unwrap().wait().unwrap();
    wal.clean_before_lsn(kept).unwrap();
    assert!(wal.kept().iter().all(|kept| base(&kept.segment) > first.0));
    wal.close().unwrap();
    let plan = Repair::new().cut(cut).plan_on(disk.mount()).unwrap();
    let told = format!("checkpoint at LSN {last}: is lost, and none before it is left; append one anew");
    assert!(plan.notes.contains(&told), "{told}: {plan}");
}

/// It was called a copy of no use, and the records were passed over.
#[test]
fn a_whole_copy_stands_in_for_a_damaged_segment() {
    let whole = World::new();
    let name = &whole.segments[1];
    let sound = whole.disk.file(name).unwrap();
    for copy in ["00000000000000843776.wal", "copy of a segment"] {
        for hurt in 0..4 {
            let world = whole.fork();
            let mut bytes = sound.clone();
            match hurt {
                0 => bytes.truncate(9000),
                1 => bytes[BLOCK + 300] ^= 4,
                2 => bytes[BLOCK..].fill(0),
                _ => bytes[..BLOCK + 200].fill(0xAA),
            }
            world.disk.put(name, &bytes);
            // A part of one is none.
            world.disk.put(copy, &sound[..BLOCK + 8]);
            let lost = Repair::new().plan_on(world.disk.mount()).unwrap().lost_records;
            assert_ne!(lost, Some(0), "{copy} {hurt}");
            world.disk.put(copy, &sound);
            let plan = Repair::new().run_on(world.disk.mount()).unwrap();
            let of_it = plan.faults.iter().filter(|fault| fault.lsn.0 < base(&whole.segments[2]));
            assert!(of_it.map(|fault| fault.lost_records).eq([Some(0)]), "{copy} {hurt}: {plan}");
            assert_eq!(plan.dropped_records, 0, "{copy} {hurt}: {plan}");
            assert_eq!(world.read(&open(&world.disk).unwrap()).len(), world.records.len(), "{copy} {hurt}");
        }
    }
}

/// A copy that is cut within a batch was put back by each repair anew, for what is left of that batch; and of the segment from
/// before a repair each one counted more than the link of the first.
#[test]
fn a_repair_with_an_older_or_a_cut_copy_comes_to_an_end() {
    let whole = World::new();
    let idle = |world: &World, what: &str| {
        Repair::new().run_on(world.disk.mount()).unwrap();
        let again = Repair::new().plan_on(world.disk.mount()).unwrap();
        assert!(
            again.steps.is_empty() && Verify::new().run_on(world.disk.mount()).unwrap().is_clean(),
            "{what}: {again}"
        );
    };
    for name in &whole.segments[..3] {
        let bytes = whole.disk.file(name).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for cut in (1..2000).step_by(97) {
            let world = whole.fork();
            assert!(world.disk.remove(name));
            world.disk.put("copy", &bytes[..used - cut]);
            idle(&world, &format!("{name} {cut}"));
        }
    }
    let world = whole.fork();
    let name = world.segments.last().unwrap();
    let before = world.disk.file(name).unwrap();
    world.flip(name, BLOCK + 300, 4);
    idle(&world, "damaged");
    world.disk.put(name, before);
    idle(&world, "restored");
}

/// A segment is trimmed once its link is durable. Without MARK nothing claims what one commit wrote, and all of it was taken
/// for a torn tail, in silence.
#[test]
fn what_a_trimmed_segment_without_a_link_holds_is_no_torn_tail() {
    let disk = Disk::new(3);
    let wal = open(&disk).unwrap();
    (0..40).for_each(|n| drop(wal.append(&[n; 100]).unwrap()));
    wal.close().unwrap();
    disk.remove("MARK");
    let name = "00000000000000000000.wal";
    let sound = disk.file(name).unwrap();
    let hurt = |hurt: &dyn Fn(&mut [u8])| {
        let mut bytes = sound.clone();
        hurt(&mut bytes);
        disk.put(name, bytes);
        assert!(matches!(open(&disk.fork()).unwrap_err().kind(), ErrorKind::Damage(_)));
        let disk = disk.fork();
        let report = Verify::new().run_on(disk.mount()).unwrap();
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        assert_eq!(open(&disk).unwrap().read(..).unwrap().count() as u64, plan.kept_records);
        (plan.kept_records, report.faults.iter().map(|fault| fault.lost_records).collect::<Vec<_>>())
    };
    assert_eq!(hurt(&|bytes| bytes[BLOCK + 40] ^= 1).0, 40);
    // Nothing is left of how many there were.
    assert_eq!(hurt(&|bytes| bytes[BLOCK..].fill(0)), (0, vec![None]));
}

/// Of two neighbours neither is there, and both headers tell how long they are and that each was a batch: they were told as
/// bytes, and the sound record behind them was dropped, for it may have been of their batch.
#[test]
fn damaged_neighbours_take_no_sound_record_with_them() {
    let disk = Disk::new(3);
    let wal = open(&disk).unwrap();
    let lsns: Vec<_> = (0..9).map(|n| wal.append(&[n; 100]).unwrap().lsn()).collect();
    wal.sync().unwrap();
    wal.close().unwrap();
    let name = "00000000000000000000.wal";
    for many in 1..4 {
        let disk = disk.fork();
        let mut bytes = disk.file(name).unwrap();
        lsns[3..3 + many].iter().for_each(|lsn| bytes[lsn.0 as usize + 30] ^= 1);
        disk.put(name, bytes);
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        assert_eq!(
            (plan.kept_records, plan.dropped_records, plan.lost_records),
            (9 - many as u64, 0, Some(many as u64))
        );
        assert_eq!(open(&disk).unwrap().read(..).unwrap().count(), 9 - many);
    }
}

/// What a cut moved aside does not come back, although the segment is damaged that says that it was cut off.
#[test]
fn what_was_cut_off_stays_cut_off() {
    let world = World::new();
    let cut = world.records.iter().find(|record| world.holds(&world.segments[2], record.lsn)).unwrap().lsn;
    Repair::new().cut(Lsn(cut)).run_on(world.disk.mount()).unwrap();
    let wal = open(&world.disk).unwrap();
    let left = world.read(&wal);
    wal.append(b"on").unwrap().wait().unwrap();
    wal.close().unwrap();
    let next = world.disk.names().into_iter().find(|name| name.ends_with(".wal") && base(name) > 1 << 40).unwrap();
    world.spoil(&next, BLOCK..BLOCK + 40);
    Repair::new().run_on(world.disk.mount()).unwrap();
    let wal = open(&world.disk).unwrap();
    let again: Vec<u64> = wal.read(..).unwrap().map(|record| record.unwrap().lsn.0).collect();
    assert_eq!(again[..again.len() - 1], left);
}

/// Whatever befalls two segments that follow each other: after one repair nothing is left to be done.
#[test]
fn two_neighbours_are_repaired_at_once() {
    let whole = World::new();
    let end = |segment: &str| {
        let last = whole.records.iter().rfind(|record| whole.holds(segment, record.lsn)).unwrap();
        (last.lsn + last.size() - base(segment)) as usize
    };
    let truncate = |world: &World, segment: &str, length: usize| {
        let mut bytes = world.disk.file(segment).unwrap();
        bytes.truncate(length);
        world.disk.put(segment, bytes);
    };
    type Hurt<'a> = &'a dyn Fn(&World, &str);
    let hurts: [Hurt<'_>; 10] = [
        &|_, _| {},
        &|world, segment| assert!(world.disk.remove(segment)),
        &|world, segment| world.flip(segment, 20, 4),
        &|world, segment| world.flip(segment, BLOCK + 30, 1),
        &|world, segment| world.flip(segment, end(segment) / 2 + BLOCK / 2, 1),
        &|world, segment| world.spoil(segment, end(segment) - 30..end(segment)),
        &|world, segment| world.spoil(segment, BLOCK + 2000..BLOCK + 3000),
        &|world, segment| truncate(world, segment, 100),
        &|world, segment| truncate(world, segment, BLOCK + 40),
        &|world, segment| truncate(world, segment, end(segment) - 1000),
    ];
    for (two, one) in whole.segments.windows(2).flat_map(|two| (0..100).map(move |one| (two, one))) {
        let world = whole.fork();
        hurts[one / 10](&world, &two[0]);
        hurts[one % 10](&world, &two[1]);
        let plan = Repair::new().run_on(world.disk.mount()).unwrap();
        let report = Verify::new().threads(1).run_on(world.disk.mount()).unwrap();
        assert!(report.is_clean(), "{one} at {}: {plan}{report}", two[0]);
        let again = Repair::new().plan_on(world.disk.mount()).unwrap();
        assert!(again.steps.is_empty(), "{one} at {}: {again}", two[0]);
        let wal = open(&world.disk).unwrap();
        assert_eq!(world.read(&wal).len() as u64, plan.kept_records);
        assert_eq!(report.records, plan.kept_records);
    }
}

/// A stand-in is as long as what it stands for was said to be, which may be less than there is room for: a file lost behind
/// one, and the other way round, is repaired too.
#[test]
fn files_that_are_lost_one_after_the_other_are_repaired_one_after_the_other() {
    for (kib, record) in [(16, 900), (32, 900), (32, 6000), (64, 9000), (64, 12_000)] {
        let (whole, options) = (Disk::new(1), Options::new().segment_size(kib << 10));
        let wal = options.open_on(whole.mount()).unwrap();
        while wal.stats().segments < 5 {
            _ = wal.append(&vec![1; record]).unwrap();
        }
        wal.close().unwrap();
        let names: Vec<String> = whole.names().into_iter().filter(|name| name.ends_with(".wal")).take(5).collect();
        let orders = (0..125).map(|n| [n / 25, n / 5 % 5, n % 5]).filter(|[a, b, c]| a != b && b != c && a != c);
        for order in orders {
            let disk = whole.fork();
            for lost in order {
                assert!(disk.remove(&names[lost]));
                let plan = Repair::new().run_on(disk.mount()).unwrap();
                let report = Verify::new().threads(1).run_on(disk.mount()).unwrap();
                assert!(report.is_clean(), "{kib} {record} {order:?}: {plan}{report}");
                assert_eq!(report.records, plan.kept_records);
                let again = Repair::new().plan_on(disk.mount()).unwrap();
                assert!(again.steps.is_empty(), "{kib} {record} {order:?}: {again}");
                let wal = options.open_read_only_on(disk.mount()).unwrap();
                let read = wal.read(..).unwrap().map(Result::unwrap).count();
                assert_eq!(read as u64, plan.kept_records);
            }
        }
    }
}

/// The link of a segment is lost and so is the note of a cursor in the one before: what can be put in the link's place
/// is shorter, by less than a gap takes.
#[test]
fn a_link_that_is_a_little_shorter_costs_nothing_behind_it() {
    let world = World::new();
    let note = world.records.iter().rposition(|record| record.batch == 20).unwrap();
    let note = world.records[note].lsn + world.records[note].size();
    let segment = world.segments.iter().rposition(|name| base(name) < note).unwrap();
    world.flip(&world.segments[segment], (note - base(&world.segments[segment])) as usize + 26, 1);
    let next = &world.segments[segment + 1];
    world.flip(next, BLOCK + 26, 1);
    world.repair(&Repair::new(), |_| false);
}

#[test]
fn a_live_log_is_planned_for_and_not_repaired() {
    let world = World::new();
    let wal = open(&world.disk).unwrap();
    assert!(Repair::new().plan_on(world.disk.mount()).unwrap().steps.is_empty());
    assert_eq!(Repair::new().run_on(world.disk.mount()).unwrap_err().kind(), &ErrorKind::Locked);
    wal.close().unwrap();
}

/// At each operation of a repair the power fails; what is left is damaged still or repaired, and repairing it gives what
/// repairing without a crash gives.
#[test]
fn a_crash_in_a_repair_leaves_it_repeatable() {
    let whole = World::new();
    let [first, second, third] = [0, 1, 2].map(|n| whole.segments[n].clone());
    let prepared = whole.files.keys().rfind(|name| name.ends_with(".wal")).unwrap();
    let hurt: [&dyn Fn(&World); 7] = [
        &|world| world.flip(&second, 20, 4),
        &|world| {
            world.flip(&first, BLOCK + 4, 4);
            assert!(world.disk.remove(&third));
        },
        &|world| world.swap(&first, &second),
        &|world| world.flip(whole.segments.last().unwrap(), BLOCK + 300, 4),
        // Nothing tells how to read the first, nor the newest.
        &|world| {
            world.spoil(&first, 0..BLOCK + 200);
            world.flip(&second, BLOCK + 30, 1);
        },
        &|world| world.spoil(whole.segments.last().unwrap(), 0..BLOCK + 200),
        &|world| world.flip(prepared, 20, 4),
    ];
    let mut crashes: u64 = hurt.iter().map(|hurt| crashes_in_the_repair_of(&whole, hurt, &Repair::new())).sum();
    let killed = World::killed();
    let newest = killed.segments.last().unwrap();
    crashes += crashes_in_the_repair_of(&killed, &|world| world.swap(&first, newest), &Repair::new());
    // What only looks unfinished is put back.
    crashes += crashes_in_the_repair_of(
        &whole,
        &|world| {
            world.disk.rename(&second, &second.replace(".wal", ".new"));
            world.flip(&third, 20, 4);
        },
        &Repair::new(),
    );
    let unfinished = |world: &World| {
        world.disk.rename(newest, &newest.replace(".wal", ".new"));
        world.flip(&first, 20, 4);
    };
    crashes += crashes_in_the_repair_of(&killed, &unfinished, &Repair::new());
    // The only whole copy lies in another's place.
    let copied = |world: &World| {
        world.disk.put(&third, world.disk.file(&first).unwrap());
        world.spoil(&first, BLOCK..BLOCK + 300);
    };
    crashes += crashes_in_the_repair_of(&whole, &copied, &Repair::new());
    // What no sync had reached lies above the cut, and the power cut takes it: then there is nothing to be cut.
    let mut beyond = World::new();
    let wal = options().durability(Durability::Os).open_on(beyond.disk.mount()).unwrap();
    wal.sync().unwrap();
    wal.rotate().unwrap();
    let payload = b"written and no more".to_vec();
    let cut = wal.append(&payload).unwrap().wait().unwrap();
    let time = beyond.records[beyond.records.len() - 1].time;
    beyond.records.push(Appended { lsn: cut.0, time, payload, batch: 90 });
    beyond.disk.kill();
    drop(wal);
    crashes += crashes_in_the_repair_of(&beyond, &|_| (), &Repair::new().cut(cut));
    assert!(crashes > 2000, "{crashes}");
}

/// Without MARK only the segments tell which log it is, and which LSNs it gave out.
#[test]
fn a_crash_in_a_repair_that_keeps_nothing_leaves_the_log() {
    let whole = World::new();
    let first = &whole.segments[0];
    let no_header = |world: &World| world.flip(first, 20, 4);
    let alone = |world: &World| {
        world.flip(first, BLOCK + 300, 4);
        let names = world.disk.names();
        names.iter().filter(|name| *name != first).for_each(|name| assert!(world.disk.remove(name)));
    };
    let cut = Repair::new().cut(Lsn(0));
    let mut crashes = crashes_in_the_repair_of(&whole, &no_header, &cut);
    crashes += crashes_in_the_repair_of(&whole, &alone, &Repair::new().quarantine(first));
    let no_mark = |world: &World| {
        no_header(world);
        world.disk.remove("MARK");
    };
    crashes += crashes_in_the_repair_of(&whole, &no_mark, &cut);
    // What was cleaned stays so.
    let front = Lsn(base(&whole.segments[1]));
    let cleaned = |world: &World| {
        let wal = open(&world.disk).unwrap();
        wal.append(b"in a segment whose link tells the front").unwrap().wait().unwrap();
        wal.cursor("follower").unwrap().release(front).unwrap();
        assert_eq!(wal.clean_before_lsn(front).unwrap().first, front);
        wal.rotate().unwrap();
        wal.append(b"and one more").unwrap().wait().unwrap();
        wal.close().unwrap();
        world.disk.crash(Keep::All);
        world.flip(&whole.segments[1], 20, 4);
        world.disk.remove("MARK");
    };
    crashes += crashes_in_the_repair_of(&whole, &cleaned, &Repair::new().cut(front));
    assert!(crashes > 500, "{crashes}");
}

/// One that was prepared by a life before the log's first record has the only header that is left, and goes aside.
#[test]
fn a_crash_in_a_repair_leaves_the_header_that_tells_the_log() {
    let disk = Disk::new(7);
    open(&disk).unwrap().prepare().unwrap();
    disk.kill();
    disk.crash(Keep::All);
    let names = |disk: &Disk| disk.names().into_iter().filter(|name| name.ends_with(".wal"));
    let below = names(&disk).min().unwrap();
    let header = disk.file(&below).unwrap()[..BLOCK].to_vec();
    let wal = open(&disk).unwrap();
    let payload = vec![1; 100];
    let lsn = wal.append(&payload).unwrap().wait().unwrap().0;
    wal.close().unwrap();
    let first = names(&disk).filter(|name| base(name) < lsn).max().unwrap();
    assert!(below < first);
    names(&disk).filter(|name| *name != first).for_each(|name| assert!(disk.remove(&name)));
    disk.put(&below, header);
    disk.remove("MARK");
    disk.crash(Keep::All);
    let records = vec![Appended { lsn, time: 0, payload, batch: 0 }];
    let mut whole = World { disk, records, segments: vec![first.clone()], files: BTreeMap::new() };
    whole.files = whole.contents();
    assert!(crashes_in_the_repair_of(&whole, &|world| world.flip(&first, 20, 4), &Repair::new()) > 100);
}

fn crashes_in_the_repair_of(whole: &World, hurt: &dyn Fn(&World), ways: &Repair) -> u64 {
    let prepared = whole.files.keys().rfind(|name| name.ends_with(".wal")).unwrap();
    let mut crashes = 0;
    let damaged = whole.fork();
    hurt(&damaged);
    let mut before = damaged.contents();
    before.retain(|name, _| whole.segments.contains(name));
    let straight = damaged.fork();
    let undone = open(&straight.fork().disk).ok().map(|wal| straight.read(&wal));
    ways.run_on(straight.disk.mount()).unwrap();
    let expected = straight.read(&open(&straight.disk).unwrap());
    for nth in 1.. {
        let crashed = damaged.fork();
        crashed.disk.crash_torn_at(nth);
        let done = ways.run_on(crashed.disk.mount());
        let units = crashed.disk.dirty_units();
        for n in 0..16_u64 {
            let left = crashed.fork();
            left.disk.reseed(nth * 16 + n);
            match n {
                _ if units <= 4 => left.disk.crash(Keep::Mask(n)),
                0 => left.disk.crash(Keep::All),
                1 => left.disk.crash(Keep::None),
                _ => left.disk.crash(Keep::Random(nth * 16 + n)),
            }
            // A log that opens meanwhile has lost nothing that is not lost in the end.
            if let Ok(wal) = open(&left.fork().disk) {
                let read = left.read(&wal);
                assert!(read == expected || Some(&read) == undone.as_ref(), "{nth} {n}: {read:?}");
            }
            // What was asked for may be done, and not be there any more.
            let again = ways.run_on(left.disk.mount());
            again.unwrap_or_else(|e| panic!("{nth} {n}: {e}: {:?}", left.disk.names()));
            let idle = ways.run_on(left.fork().disk.mount()).unwrap();
            assert!(idle.steps.is_empty() && idle.faults.is_empty(), "{nth} {n}: {idle}");
            left.has_all(&before);
            let wal = open(&left.disk).unwrap();
            assert_eq!(left.read(&wal), expected);
            let lsn = wal.append(b"on").unwrap().wait().unwrap();
            assert!(lsn.0 >= base(prepared) + (16 << 10), "LSN {lsn} was perhaps handed out before");
            wal.close().unwrap();
            left.has_all(&before);
            crashes += 1;
        }
        if done.is_ok() && !crashed.disk.crashed() {
            break;
        }
    }
    crashes
}

/// What a writer that was killed did not sync is kept and is durable after the repair.
#[test]
fn what_is_kept_outlives_a_power_cut() {
    let world = World::new();
    let wal = open(&world.disk).unwrap();
    let lsns: Vec<u64> = (0..40).map(|_| wal.append(&[7; 900]).unwrap().lsn().0).collect();
    world.disk.kill();
    drop(wal);
    world.flip(&world.segments[0], BLOCK + 300, 1);
    let plan = Repair::new().run_on(world.disk.mount()).unwrap();
    assert!(plan.end.0 > lsns[0], "{plan}");
    world.disk.crash(Keep::None);
    let wal = open(&world.disk).unwrap();
    assert_eq!(wal.read(..).unwrap().map(Result::unwrap).count() as u64, plan.kept_records);
}

#[test]
fn the_plan_reads_as_what_is_done() {
    let world = World::new();
    let segment = &world.segments[1];
    world.flip(segment, BLOCK + 200, 1);
    let plan = Repair::new().plan_on(world.disk.mount()).unwrap();
    assert!(matches!(&plan.steps[0], Step::Rewrite { segment: s, passed_over } if s == segment && *passed_over > 0));
    assert!(matches!(&plan.steps[1], Step::Continue { .. }), "{plan}");
    let text = plan.to_string();
    assert!(text.contains(&format!("copy {segment} aside")) && text.contains("keeps "), "{text}");
}

/// The file that a line of what was touched is about, and the one that it is there now.
fn names(touched: &str) -> Vec<&str> {
    touched.split([' ', ',']).filter(|word| word.contains(".wal") || word.ends_with(".new")).collect()
}

/// That the log was damaged still or repaired was said, were it that nothing had been begun.
#[test]
fn a_repair_that_fails_says_what_it_touched_and_nothing_else() {
    let world = World::new();
    world.disk.remove(&world.segments[1]);
    let mut bytes = world.disk.file(&world.segments[2]).unwrap();
    bytes[6000] ^= 1;
    world.disk.put(&world.segments[2], bytes);
    world.disk.put("00000000000000000007.new", [1; 10]);
    let files =
        |disk: &Disk| disk.names().into_iter().map(|name| (name.clone(), disk.file(&name))).collect::<BTreeMap<_, _>>();
    let before = files(&world.disk);
    let mut told = BTreeSet::new();
    let operations = [
        Operation::Lock,
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::SyncDir,
        Operation::Rename,
        Operation::Remove,
        Operation::SetLen,
        Operation::List,
        Operation::Open,
        Operation::Read,
    ];
    for operation in operations {
        for nth in (0..8).chain([20, 40, 60]) {
            let disk = world.disk.fork();
            disk.fail(Fault::new(operation).nth(nth).errno(5));
            let Err(error) = Repair::new().run_on(disk.mount()) else { continue };
            let after = files(&disk);
            let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            let changed: BTreeSet<&str> =
                all.into_iter().filter(|name| before.get(*name) != after.get(*name)).map(String::as_str).collect();
            let said: BTreeSet<&str> = error.touched().iter().flat_map(|line| names(line)).collect();
            let unchanged = |name: &&str| {
                error.touched().iter().any(|line| {
                    line.starts_with(*name) && (line.ends_with("as it was") || line.contains(" copied to "))
                })
            };
            assert!(changed.is_subset(&said), "{operation:?} {nth}: {changed:?} {error}: {:?}", error.touched());
            let surplus: Vec<_> = said.difference(&changed).filter(|name| !unchanged(name)).collect();
            assert!(surplus.is_empty(), "{operation:?} {nth}: {surplus:?} {error}: {:?}", error.touched());
            told.insert(said.len());
        }
    }
    assert!(told.contains(&0) && told.len() > 3, "{told:?}");
}

/// The segment before it is full to its last byte, so that the newest one's place is where the log would end without it.
#[test]
fn an_emptied_newest_segment_behind_a_full_one_is_not_said_to_have_held_nothing() {
    for swapped in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().segment_size(16 << 10);
        let wal = options.open(dir.path()).unwrap();
        let first = wal.append(&[1; 1000]).unwrap().wait().unwrap();
        let (mut at, mut durable) = (first.0 + 1024, 1);
        // Up to where one more record fills the segment, and then that.
        while at + 1024 + 28 <= 16 << 10 {
            wal.append(&[1; 1000]).unwrap().wait().unwrap();
            (at, durable) = (at + 1024, durable + 1);
        }
        wal.append(&vec![1; ((16 << 10) - at - 24) as usize]).unwrap().wait().unwrap();
        // As under load, where MARK is not written at each commit.
        let mark = fs::read(dir.path().join("MARK")).unwrap();
        wal.append(&[2; 500]).unwrap().wait().unwrap();
        let killed = tempfile::tempdir().unwrap();
        live::copy(dir.path(), killed.path());
        fs::write(killed.path().join("MARK"), mark).unwrap();
        let path = |base: u64| killed.path().join(format!("{base:020}.wal"));
        if swapped {
            fs::copy(path(0), path(16 << 10)).unwrap();
        } else {
            fs::File::create(path(16 << 10)).unwrap();
        }
        let report = verify(killed.path()).unwrap();
        let plan = Repair::new().plan(killed.path()).unwrap();
        let told = report.faults.iter().map(|fault| fault.lost_records).sum::<Option<u64>>();
        assert_eq!((report.records, told, plan.lost_records), (durable + 1, None, None), "{report} {plan}");
    }
}
