//! Opening, verifying and repairing judge the same log alike, whatever crashes and hands have made of it, and so does a
//! second recovery.
//!
//! A log is made by a script that follows from a seed, through kills and power cuts, every third time also through harms
//! that were repaired, and then harmed in one or two places. For each such state:
//!
//! - recovery as `common/second.rs` has it, from the specification alone, comes to what opening comes to: refused, or
//!   the same first record, end, tail and records;
//! - what opening refuses as damaged, verifying has a fault for: the same place, words and loss;
//! - what verifying finds clean, opening accepts, and both see the same end and as many records; a view, `inspect` and
//!   `dump` show it up to the same LSN;
//! - of what opening accepts, verifying has no fault but in a place that opening does not read: behind the link of a
//!   segment that another follows, or of a repair's count, of which it has a note;
//! - once repaired, it opens, verifies clean and needs no further repair; and every acknowledged record that lay below
//!   the end that verifying told is there, but for as many as were counted as lost or dropped;
//! - a repair that a power cut ended keeps each acknowledged record when it is run again that it keeps otherwise.
//!
//! `SEAWALL_STATES=100000 cargo test --release --features sim --test agree` looks at more states than it does by itself,
//! `SEAWALL_SEED=n` at those of one script; `SEAWALL_KEEP=DIR` keeps the logs that are judged differently.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

#[allow(dead_code)]
#[path = "common/random.rs"]
mod random;
#[allow(dead_code)]
#[path = "common/second.rs"]
mod second;
#[allow(dead_code)]
#[path = "common/spec.rs"]
mod spec;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use random::Random;
use seawall::check::{Fault, Item, Repair, RepairPlan, Report, Verify, frames_on, inspect_on};
use seawall::sim::{Bug, Disk, Keep};
use seawall::{Damage, Durability, ErrorKind, Lsn, Options, Ticket, Wal};

/// Harmed states of each script.
const HARMS: u64 = 8;
/// In which each state is done a thousand times over.
const PATIENCE: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn opening_verifying_and_repairing_agree() {
    let states = number("SEAWALL_STATES").unwrap_or(8_000);
    let seeds = number("SEAWALL_SEED").map_or(1..=states.div_ceil(HARMS), |seed| seed..=seed);
    let (begin, begun) = mpsc::channel();
    let work = std::thread::spawn(move || {
        let mut seen = Seen::default();
        for seed in seeds {
            let script = Script::run(seed);
            for harm in 0..=HARMS {
                begin.send(format!("seed {seed}, harm {harm}")).unwrap();
                script.look(harm, &mut seen);
            }
        }
        seen
    });
    let mut last = String::new();
    loop {
        match begun.recv_timeout(PATIENCE) {
            Ok(state) => last = state,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{last}: no end"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let seen = work.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    println!("{seen:?}");
    assert!(seen.different.is_empty(), "{} differ:\n{}", seen.different.len(), seen.different.join("\n"));
    assert!(number("SEAWALL_SEED").is_some() || seen.refused.min(seen.accepted).min(seen.unread) > 0);
}

/// A killed process leaves two segments of which nothing says that they are durable; then the first is harmed as no crash
/// does it.
#[test]
fn a_torn_tail_is_none_below_what_no_crash_leaves() {
    let first = "00000000000000000000.wal";
    let cut = |disk: &Disk| disk.put(first, &disk.file(first).unwrap()[..6700]);
    let zero = |disk: &Disk| disk.put(first, vec![0; disk.file(first).unwrap().len()]);
    let remove = |disk: &Disk| assert!(disk.remove(first));
    let harms: [(Harm<'_>, &[u8]); 3] = [(&cut, &[0, 1, 9]), (&zero, &[9]), (&remove, &[9])];
    for (harm, left) in harms {
        let options = || Options::new().segment_size(16 << 10).durability(Durability::Os);
        let disk = Disk::new(1);
        let wal = options().open_on(disk.mount()).unwrap();
        for n in 0..5 {
            wal.append(&[n; 1000]).unwrap().wait().unwrap();
        }
        wal.rotate().unwrap();
        wal.append(&[9; 1000]).unwrap().wait().unwrap();
        disk.crash_at(0);
        drop(wal);
        disk.kill();
        harm(&disk);
        let refused = options().open_on(disk.fork().mount()).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Damage(_)), "{refused}");
        let report = verify(&disk.fork()).unwrap();
        // What an earlier opening may have dropped is not lost now.
        let lost = report.faults.iter().map(|fault| fault.lost_records).sum::<Option<u64>>();
        assert_eq!(lost, None, "{report}");
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        assert_eq!((plan.kept_records, plan.lost_records), (left.len() as u64, lost), "{plan}");
        assert!(verify(&disk).unwrap().is_clean());
        let wal = options().open_on(disk.mount()).unwrap();
        assert_eq!(read(&wal).unwrap().into_values().map(|payload| payload[0]).collect::<Vec<_>>(), left);
    }
}

/// A killed process leaves segments of which nothing says that they are durable; then MARK is removed, and of the first less is
/// left than the next one's link says, its own damaged or lost, as no crash or recovery leaves it: what lay above was taken for
/// a torn tail, dropped by opening and moved aside by a repair.
#[test]
fn what_lies_above_a_segment_that_is_cut_with_its_link_stays() {
    let first = "00000000000000000000.wal";
    let options = || Options::new().segment_size(16 << 10).durability(Durability::Os);
    for length in [100, 1915, 4095, 4097, 4150, 4199, 4200, 4600, 5200] {
        let disk = Disk::new(1);
        let wal = options().open_on(disk.mount()).unwrap();
        for n in 0..4 {
            wal.append(&[n; 1000]).unwrap().wait().unwrap();
            wal.rotate().unwrap();
        }
        disk.crash_at(0);
        drop(wal);
        disk.kill();
        let mut bytes = disk.file(first).unwrap()[..length].to_vec();
        bytes.get_mut(4096 + 40).into_iter().for_each(|byte| *byte ^= 1);
        disk.put(first, bytes);
        disk.remove("MARK");
        let refused = options().open_on(disk.fork().mount()).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Damage(_)), "{refused}");
        let report = verify(&disk.fork()).unwrap();
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        assert_eq!((plan.kept_records, plan.dropped_records, plan.lost_records), (3, 0, None), "{report}\n{plan}");
        let wal = options().open_on(disk.mount()).unwrap();
        assert_eq!(read(&wal).unwrap().into_values().map(|payload| payload[0]).collect::<Vec<_>>(), [1, 2, 3]);
    }
}

/// Row 3c. It was written so that only a file that is gone counted, and the second recovery took the rest for a torn tail.
#[test]
fn another_file_in_the_place_of_the_one_that_a_link_means_is_damage() {
    let options = || Options::new().segment_size(16 << 10);
    let disk = Disk::new(1);
    let wal = options().open_on(disk.mount()).unwrap();
    for n in 0..14 {
        drop(wal.append(&[n; 3000]).unwrap());
    }
    disk.crash_at(0);
    drop(wal);
    disk.kill();
    let name = "00000000000000016384.wal";
    let mut bytes = disk.file(name).unwrap();
    bytes[64] ^= 1;
    spec::mend_header(&mut bytes);
    disk.put(name, bytes);
    let opened = options().open_on(disk.fork().mount());
    second::look(&disk).agrees(&opened).unwrap();
    assert!(matches!(opened.unwrap_err().kind(), ErrorKind::Damage(_)));
}

/// The second recovery misses each safety that is taken out of the first.
#[test]
fn a_second_recovery_disagrees_with_one_that_lacks_a_safety() {
    let mut unseen = vec![
        Bug::NewestLinkIsTip,
        Bug::FramesBeyondAreDamage,
        Bug::LinkIsProof,
        Bug::LookAheadInOneSegment,
        Bug::BatchCutInside,
        Bug::PayloadUnchecked,
        Bug::ClaimsNotAsked,
    ];
    for seed in 1..=20_000 {
        let script = Script::run(seed);
        for harm in 0..=HARMS {
            let (disk, done) = script.harmed(harm);
            let second = second::look(&disk);
            unseen.retain(|bug| {
                let agrees = second.agrees(&script.options.clone().plant(*bug).open_on(disk.fork().mount()));
                agrees.is_ok() || {
                    println!("{bug:?}: seed {seed}, harm {harm}: {done}");
                    false
                }
            });
        }
        if unseen.is_empty() {
            return;
        }
    }
    panic!("not missed: {unseen:?}");
}

/// A log of few and small records of every shape, closed, or with a tail that nobody was told of, with MARK or without:
/// each bit of it is flipped, each file cut to each length, removed, emptied, zeroed, copied over each other and swapped
/// with it.
#[test]
fn each_damage_to_a_small_log_is_judged_alike() {
    let mut seen = Seen::default();
    for (closed, mark) in [(true, true), (true, false), (false, true), (false, false)] {
        let (script, copy) = (Script::of_every_shape(closed, 0), Script::of_every_shape(closed, 1));
        if !mark {
            script.disk.remove("MARK");
        }
        let mut look = |what: String, harm: Harm<'_>| {
            let disk = script.disk.fork();
            harm(&disk);
            let twice = || second::look(&disk).agrees(&script.open(&disk.fork()));
            let differs = script.judge(&disk, false, &mut seen).and_then(|()| twice()).err();
            seen.different.extend(differs.map(|e| format!("closed {closed}, MARK {mark}: {what}: {e}")));
        };
        for name in script.disk.names() {
            let bytes = script.disk.file(&name).unwrap();
            // Behind the last frame, and in the header's block behind the header, a few places stand for all.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let places = || (0..used).filter(|at| *at < 80 || *at >= 4096 || at % 397 == 0).chain([used, used + 40]);
            for at in places().filter(|at| *at < bytes.len()) {
                for bit in 0..8 {
                    let mut hurt = bytes.clone();
                    hurt[at] ^= 1 << bit;
                    look(format!("{name}: bit {bit} of byte {at}"), &|disk| disk.put(&name, &hurt));
                }
            }
            for length in places().chain([bytes.len() - 1]).filter(|length| *length < bytes.len()) {
                look(format!("{name}: cut to {length}"), &|disk| disk.put(&name, &bytes[..length]));
            }
            look(format!("{name}: removed"), &|disk| assert!(disk.remove(&name)));
            look(format!("{name}: zeros"), &|disk| disk.put(&name, vec![0; bytes.len()]));
            let copied = copy.disk.file(&name).unwrap();
            look(format!("{name}: of a copy that went on"), &|disk| disk.put(&name, &copied));
            for other in script.disk.names().into_iter().filter(|other| *other != name) {
                let theirs = script.disk.file(&other).unwrap();
                look(format!("{name} over {other}"), &|disk| disk.put(&other, &bytes));
                look(format!("{name} renamed to {other}"), &|disk| _ = disk.rename(&name, &other));
                look(format!("{name} and {other} swapped"), &|disk| {
                    disk.put(&other, &bytes);
                    disk.put(&name, &theirs);
                });
            }
        }
    }
    println!("{seen:?}");
    let (differing, first) = (seen.different.len(), seen.different.iter().take(20).cloned().collect::<Vec<_>>());
    assert!(seen.different.is_empty(), "{differing} differ:\n{}", first.join("\n"));
    assert!(seen.refused.min(seen.accepted).min(seen.unread) > 1000);
}

/// What was met.
#[derive(Debug, Default)]
struct Seen {
    accepted: u64,
    refused: u64,
    /// Faults that opening does not see.
    unread: u64,
    /// Nothing told any more which log it was.
    unknown: u64,
    different: Vec<String>,
}

/// A log after its last crash.
struct Script {
    seed: u64,
    disk: Disk,
    options: Options,
    /// Records that were acknowledged and are there: payloads by LSN.
    acknowledged: BTreeMap<Lsn, Vec<u8>>,
    /// Where it begins.
    first: Lsn,
    /// Went on with something harmed in it that nothing depended on then.
    tainted: bool,
}

impl Script {
    fn new(seed: u64, options: Options) -> Script {
        Script { seed, disk: Disk::new(0), options, acknowledged: BTreeMap::new(), first: Lsn(0), tainted: false }
    }

    fn run(seed: u64) -> Script {
        let mut random = Random::new(seed);
        let durability = if random.below(2) == 0 { Durability::Os } else { Durability::Disk };
        let options = Options::new().segment_size(16 << 10).durability(durability);
        let mut script = Script { disk: Disk::new(seed), ..Script::new(seed, options) };
        for _ in 0..1 + random.below(4) {
            if random.below(3) == 0 {
                script.disk.crash_torn_at(1 + random.below(150));
            }
            if let Ok(wal) = script.open(&script.disk) {
                script.live(&wal, &mut random);
                if random.below(3) == 0 {
                    _ = wal.close();
                }
                script.disk.crash_at(0);
            }
            match random.below(6) {
                0 => script.disk.crash(Keep::None),
                1 => script.disk.crash(Keep::All),
                2 => script.disk.crash(Keep::Random(random.next())),
                _ => script.disk.kill(),
            }
        }
        if seed.is_multiple_of(3) {
            script.live_on_repaired(&mut random);
        }
        let opened = script.open(&script.disk.fork()).map(|wal| (wal.recovery().first, read(&wal).unwrap()));
        let (first, there) = opened.unwrap_or_default();
        script.first = first;
        script.acknowledged.retain(|lsn, _| there.contains_key(lsn));
        script
    }

    /// Is harmed and repaired once or twice, with power cuts in that or not, and goes on or not.
    fn live_on_repaired(&mut self, random: &mut Random) {
        for _ in 0..1 + random.below(2) {
            let disk = self.disk.fork();
            for _ in 0..1 + random.below(2) {
                _ = hurt(&disk, random);
            }
            let names: Vec<_> = disk.names().into_iter().filter(|name| name.ends_with(".wal")).collect();
            let ways = match names.get(random.below(4 * names.len() as u64 + 1) as usize) {
                Some(name) => Repair::new().quarantine(name),
                None => Repair::new(),
            };
            let mut done = if random.below(2) == 0 {
                disk.crash_torn_at(1 + random.below(40));
                let done = ways.run_on(disk.mount());
                disk.crash(Keep::Random(random.next()));
                done
            } else {
                ways.run_on(disk.mount())
            };
            // It may go on as it is, if that is sound.
            let is_sound = || verify(&disk.fork()).is_ok_and(|report| report.is_clean());
            if done.is_err() && !is_sound() {
                done = Repair::new().run_on(disk.mount());
            }
            // Otherwise nothing tells any more which log it is.
            if done.is_err() && !is_sound() {
                continue;
            }
            self.tainted |= done.ok().is_none_or(|plan| plan.steps.is_empty());
            self.disk = disk;
            if !self.disk.names().iter().any(|name| name.ends_with(".wal")) {
                // Nothing told that there ever was one: another log begins.
                self.acknowledged.clear();
            }
            if random.below(2) == 0
                && let Ok(wal) = self.open(&self.disk)
            {
                self.live(&wal, random);
                self.disk.crash_at(0);
                self.disk.kill();
            }
        }
    }

    /// Two segments and a prepared one, closed or after a power cut that kept what nobody waited for. Another seed gives
    /// another log with the same identity.
    fn of_every_shape(closed: bool, seed: u64) -> Script {
        let options = Options::new().segment_size(16 << 10);
        let script = Script::new(0, options);
        let wal = script.open(&script.disk).unwrap();
        script.disk.reseed(seed);
        let wait = |ticket: seawall::Result<Ticket<'_>>| _ = ticket.unwrap().wait().unwrap();
        wait(wal.append(b""));
        wait(wal.at(7).append_parts(&[b"in ", b"parts"]));
        wait(wal.append_batch(&["a", "bb", ""]));
        wait(wal.append_checkpoint(b"state"));
        wal.cursor("c").unwrap().release(wal.durable_lsn()).unwrap();
        wal.rotate().unwrap();
        wait(wal.append_batch(&["x", "yy"]));
        wait(wal.append(&[7; 101]));
        if closed {
            wal.close().unwrap();
        } else {
            drop(wal.append(b"tail").unwrap());
            let last = wal.append_batch(&["nobody", "was told"]).unwrap();
            script.disk.crash_at(2);
            assert!(last.wait().is_err());
            script.disk.crash(Keep::All);
        }
        script
    }

    fn open(&self, disk: &Disk) -> seawall::Result<Wal> {
        self.options.clone().open_on(disk.mount())
    }

    /// Some calls, until the power fails.
    fn live(&mut self, wal: &Wal, random: &mut Random) {
        let mut waiting = Vec::new();
        for _ in 0..random.below(40) {
            match random.below(16) {
                0..=6 => {
                    let length = random.below(3000);
                    let payload = random.bytes(length);
                    let Ok(ticket) = wal.append(&payload) else { continue };
                    waiting.push((ticket.lsn(), payload));
                    if random.below(3) == 0 && ticket.wait().is_ok() {
                        self.acknowledged.extend(waiting.drain(..));
                    }
                }
                7 => {
                    let payloads = [900, 700, 10].map(|most| random.bytes(most));
                    _ = wal.append_batch(&payloads);
                }
                8 => _ = wal.append_checkpoint(b"state"),
                9 | 10 => _ = wal.rotate(),
                11 => {
                    if wal.sync().is_ok() {
                        self.acknowledged.extend(waiting.drain(..));
                    }
                }
                12 => _ = wal.clean_before_lsn(Lsn(random.below(wal.durable_lsn().0 + 1))),
                13 => {
                    let name = "cursor".get(..1 + random.below(6) as usize).unwrap_or_default();
                    let lsn = Lsn(random.below(wal.durable_lsn().0 + 1));
                    _ = wal.cursor(name).and_then(|cursor| cursor.release(lsn));
                }
                14 => _ = wal.cursor("c").and_then(|cursor| cursor.remove()),
                _ => {
                    self.disk.advance(Duration::from_millis(10));
                    self.disk.step();
                }
            }
        }
    }

    /// One state: without harm, or with one or two, in words.
    fn harmed(&self, harm: u64) -> (Disk, String) {
        let (disk, mut random) = (self.disk.fork(), Random::new(self.seed << 8 | harm));
        let mut done = Vec::new();
        for _ in 0..harm.min(1 + random.below(2)) {
            done.extend(hurt(&disk, &mut random));
        }
        (disk, done.join(", "))
    }

    fn look(&self, harm: u64, seen: &mut Seen) {
        let (disk, done) = self.harmed(harm);
        let kept = disk.fork();
        let twice = || second::look(&disk).agrees(&self.open(&disk.fork()));
        let differs = self
            .judge(&disk, harm == 0 && !self.tainted, seen)
            .and_then(|()| twice())
            .and_then(|()| self.repair(&disk, harm, seen));
        let Err(what) = differs else { return };
        if let Some(dir) = std::env::var_os("SEAWALL_KEEP") {
            let dir = Path::new(&dir).join(format!("{}-{harm}", self.seed));
            fs::create_dir_all(&dir).unwrap();
            kept.names().iter().for_each(|name| fs::write(dir.join(name), kept.file(name).unwrap()).unwrap());
        }
        seen.different.push(format!("seed {}, harm {harm}: {done}: {what}", self.seed));
    }

    /// Opening and verifying.
    fn judge(&self, disk: &Disk, sound: bool, seen: &mut Seen) -> Agrees {
        let (verified, opened) = (verify(&disk.fork()), self.open(&disk.fork()));
        match (verified, opened) {
            (Ok(report), Err(e)) if matches!(e.kind(), ErrorKind::Damage(_)) => {
                seen.refused += 1;
                let ErrorKind::Damage(damage) = e.kind() else { unreachable!() };
                let is_told = report.faults.iter().any(|fault| tells(fault, damage));
                check(!sound && is_told, || format!("refused: {e}; verify: {report}"))
            }
            (Ok(report), Ok(wal)) if report.is_clean() => {
                seen.accepted += 1;
                let (found, read) = (wal.recovery(), read(&wal).map_err(|e| format!("{e}; verify: {report}"))?);
                let same = (report.end, report.records) == (found.end, read.len() as u64);
                check(same, || format!("opened: {found}, {} records; verify: {report}", read.len()))?;
                self.show_alike(disk)
            }
            (Ok(report), Ok(wal)) => {
                seen.unread += 1;
                let newest = wal.kept().last().map(|kept| kept.segment.clone()).unwrap_or_default();
                // Opening does not look for segments under other names, nor for what lies before them.
                let misnamed = |fault: &Fault| fault.offset == 0 && fault.what.contains(" under the name ");
                let unread = |fault: &Fault| fault.segment < newest && fault.offset > 4096;
                let above = |fault: &Fault| misnamed(fault) || fault.lsn >= wal.recovery().end;
                let above = |fault: &Fault| report.faults.iter().any(misnamed) && above(fault);
                // What a repair says that it left only counts records: opening notes that it is damaged.
                let notes = &wal.recovery().notes;
                let noted = |fault: &Fault| fault.offset == 512 && notes.iter().any(|n| n.starts_with(&fault.segment));
                let unread = |fault: &Fault| unread(fault) || above(fault) || noted(fault);
                let unread = report.faults.iter().all(unread);
                check(!sound && unread, || format!("opened: {}; verify: {report}", wal.recovery()))
            }
            // Every file is gone: no log, or a new one.
            (Err(none), Ok(wal)) if *none.kind() == ErrorKind::NotFound => {
                check(wal.recovery().end == Lsn(0), || format!("opened: {}; verify: {none}", wal.recovery()))
            }
            (verified, opened) => Err(format!("opened: {opened:?}; verify: {verified:?}")),
        }
    }

    /// A view, `dump` and `inspect` show the same of it.
    fn show_alike(&self, disk: &Disk) -> Agrees {
        let view = self.options.clone().open_read_only_on(disk.fork().mount()).map_err(|e| e.to_string())?;
        let overview = inspect_on(disk.fork().mount()).map_err(|e| e.to_string())?;
        let frames = frames_on(disk.fork().mount()).map_err(|e| e.to_string())?;
        let ends = [view.durable_lsn(), overview.durable, frames.end()];
        let shown = frames.filter(|item| matches!(item, Ok(Item::Record(_)))).count();
        let read = view.read(..).map_err(|e| e.to_string())?.count();
        check(ends == [ends[0]; 3] && shown == read, || {
            format!("durable to a view, inspect and dump: {ends:?}; shown by a view and dump: {read}, {shown}")
        })
    }

    /// Repairing, and what is left then.
    fn repair(&self, disk: &Disk, harm: u64, seen: &mut Seen) -> Agrees {
        let Ok(before) = verify(disk) else { return Ok(()) };
        let harmed = disk.fork();
        let plan = match Repair::new().run_on(disk.mount()) {
            Err(e) if *e.kind() == ErrorKind::NotFound => {
                seen.unknown += 1;
                return Ok(());
            }
            done => done.map_err(|e| format!("repair: {e}; {before}"))?,
        };
        let told = |what: String| format!("after the repair: {what}\n{plan}\nbefore: {before}");
        let after = verify(&disk.fork()).map_err(|e| told(e.to_string()))?;
        check(after.is_clean(), || told(after.to_string()))?;
        let again = Repair::new().plan_on(disk.mount()).map_err(|e| told(e.to_string()))?;
        check(again.steps.is_empty(), || told(again.to_string()))?;
        let wal = self.open(&disk.fork()).map_err(|e| told(e.to_string()))?;
        let left = read(&wal).map_err(|e| told(e.to_string()))?;
        check(left.len() as u64 == plan.kept_records, || told(format!("{} records", left.len())))?;
        self.crashed(&harmed, harm, &left).map_err(told)?;
        self.nothing_else_is_lost(&harmed, &before, &plan, &left).map_err(told)
    }

    /// Repairing with a power cut in it, and again. `left`: what is left without.
    fn crashed(&self, harmed: &Disk, harm: u64, left: &Records) -> Agrees {
        let (disk, nth) = (harmed.fork(), 1 + Random::new(self.seed << 8 | harm).below(60));
        disk.crash_at(nth);
        _ = Repair::new().run_on(disk.mount());
        disk.crash(Keep::All);
        let told = |what: String| format!("crashed at operation {nth}, and again: {what}");
        let plan = Repair::new().run_on(disk.mount()).map_err(|e| told(e.to_string()))?;
        let report = verify(&disk.fork()).map_err(|e| told(e.to_string()))?;
        let wal = self.open(&disk).map_err(|e| told(e.to_string()))?;
        let again = read(&wal).map_err(|e| told(e.to_string()))?;
        let mut kept = self.acknowledged.keys().filter(|lsn| left.contains_key(lsn));
        let missing = kept.find(|lsn| !again.contains_key(lsn));
        check(report.is_clean() && missing.is_none(), || told(format!("{missing:?} is missing\n{plan}\n{report}")))
    }

    fn nothing_else_is_lost(&self, harmed: &Disk, before: &Report, plan: &RepairPlan, left: &Records) -> Agrees {
        let below = self.acknowledged.range(before.first..before.end);
        let missing: Vec<_> = below.filter(|(lsn, _)| !left.contains_key(lsn)).collect();
        let same = |(lsn, is): (&Lsn, &Vec<u8>)| left.get(lsn).is_none_or(|left| left == is);
        check(self.acknowledged.iter().all(same), || "other bytes than were appended".to_owned())?;
        // Its bytes are where they were, and nothing is wrong with the header above them.
        let whole = |lsn: &Lsn, is: &Vec<u8>| {
            let bases = harmed.names().into_iter().filter_map(|name| name.strip_suffix(".wal")?.parse::<u64>().ok());
            let Some(base) = bases.filter(|base| *base <= lsn.0).max() else { return false };
            let name = format!("{base:020}.wal");
            let header = before.faults.iter().any(|fault| fault.segment == name && fault.offset == 0);
            let at = (lsn.0 - base) as usize;
            let frame =
                |disk: &Disk| disk.file(&name)?.get(at..at + 24 + is.len().next_multiple_of(4)).map(<[u8]>::to_vec);
            // Not of a copy of another segment, which was no part of the log before.
            let its = frame(&self.disk).filter(|found| found[24..].starts_with(is));
            !header && its.is_some() && frame(harmed) == its
        };
        // Where a link is lost, nothing may be left to tell of the files before it.
        let untold = before.faults.iter().any(|fault| fault.offset == 4096);
        let told = match plan.lost_records.filter(|_| !untold) {
            Some(lost) => missing.len() as u64 <= plan.dropped_records + lost,
            None => missing.iter().filter(|(lsn, is)| whole(lsn, is)).count() as u64 <= plan.dropped_records,
        };
        check(told, || format!("missing: {:?}", missing.iter().map(|(lsn, _)| lsn.0).collect::<Vec<_>>()))?;
        let gone: Vec<_> = self.unharmed(harmed, before).filter(|lsn| !left.contains_key(lsn)).collect();
        check(gone.is_empty(), || format!("in files that are whole, and missing: {gone:?}"))
    }

    /// The acknowledged records below the first segment that is whole in no file, whatever that is called, or only in
    /// copies beside its own, which is damaged: the log ends nowhere before. What was moved aside counts where nothing else is
    /// damaged and there is a segment above, for only its link says that it is the log's.
    fn unharmed(&self, harmed: &Disk, before: &Report) -> impl Iterator<Item = Lsn> {
        // Several files that are missing may be one fault.
        let is_one = before.faults.len() < 2 && !before.faults.iter().any(|fault| fault.what.contains("others may be"));
        let is_linked =
            |name: &str| is_one && harmed.names().iter().any(|other| other.ends_with(".wal") && **other > *name);
        let names = harmed.names();
        let held = |bytes: &[u8], aside: bool| {
            names.iter().any(|name| name.contains(".aside") == aside && harmed.file(name).is_some_and(|it| it == bytes))
        };
        // A copy of another segment was no part of the log before.
        let is_it = |name: &String, base: &u64| spec::segment(&self.disk.file(name)?).filter(|it| it.base == *base);
        let base =
            |name: &String| name.strip_suffix(".wal")?.parse::<u64>().ok().filter(|base| is_it(name, base).is_some());
        let mut bases: Vec<u64> = self.disk.names().iter().filter_map(base).collect();
        bases.sort_unstable();
        let whole = |base: &u64| {
            let name = format!("{base:020}.wal");
            let (was, is) = (self.disk.file(&name).unwrap(), harmed.file(&name));
            let damaged = is.is_some_and(|is| is != was && is.get(..64) == was.get(..64));
            (held(&was, false) || is_linked(&name) && held(&was, true)) && !damaged
        };
        let from = bases.partition_point(|base| *base <= self.first.0).saturating_sub(1);
        let upto = bases[from..].iter().find(|base| !whole(base)).map_or(u64::MAX, |base| *base);
        self.acknowledged.range(..Lsn(upto)).map(|(lsn, _)| *lsn)
    }
}

type Records = BTreeMap<Lsn, Vec<u8>>;

/// Something done to a disk.
type Harm<'a> = &'a dyn Fn(&Disk);

/// What differs, in words.
type Agrees = Result<(), String>;

fn read(wal: &Wal) -> seawall::Result<Records> {
    wal.read(..)?.map(|record| record.map(|record| (record.lsn, record.payload.to_vec()))).collect()
}

fn verify(disk: &Disk) -> seawall::Result<Report> {
    Verify::new().threads(1).run_on(disk.mount())
}

/// Whether a fault of verifying is the damage that opening tells: at the same place, in the same words, with the same loss.
fn tells(fault: &Fault, damage: &Damage) -> bool {
    let Damage { segment, offset, lsn, bytes, records, what, found, .. } = damage;
    let why = what == "no valid frame here, not a torn tail" && fault.what.contains(found);
    let place = (&fault.segment, fault.offset, fault.lsn) == (segment, *offset, *lsn);
    place && (fault.lost_bytes, fault.lost_records) == (*bytes, *records) && (why || fault.what.starts_with(what))
}

fn check(holds: bool, what: impl FnOnce() -> String) -> Agrees {
    if holds { Ok(()) } else { Err(what()) }
}

/// What a hand or a dying disk may do to one file; in words.
fn hurt(disk: &Disk, random: &mut Random) -> Option<String> {
    let ours = |name: &String| name.ends_with(".wal") || name == "MARK";
    let files: Vec<String> = disk.names().into_iter().filter(ours).collect();
    let any = |random: &mut Random| files.get(random.below(files.len().max(1) as u64) as usize).cloned();
    let (name, other) = (any(random)?, any(random)?);
    let mut bytes = disk.file(&name)?;
    // The header and the link are small and many things depend on them.
    let most = if random.below(3) == 0 { bytes.len().min(4400) } else { bytes.len() };
    let at = random.below(most.max(1) as u64) as usize;
    let fresh = format!("{:020}.wal", random.below(64) << 12);
    let what = random.below(10);
    match what {
        0 | 1 => bytes.truncate(at),
        2 => bytes[at / 512 * 512..].iter_mut().take(1 + random.below(3000) as usize).for_each(|byte| *byte = 0),
        3 | 4 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << random.below(8)),
        _ => {}
    }
    match what {
        0..=4 => disk.put(&name, &bytes),
        5 if random.below(8) == 0 => {
            files.iter().filter(|name| *name != "MARK").for_each(|name| assert!(disk.remove(name)));
            return Some("remove all but MARK".to_owned());
        }
        5 => _ = disk.remove(&name),
        6 => _ = disk.remove("MARK"),
        7 => _ = disk.rename(&name, if random.below(2) == 0 { &other } else { &fresh }),
        8 => disk.put(if random.below(2) == 0 { &other } else { &fresh }, &bytes),
        _ => {
            let swapped = disk.file(&other)?;
            disk.put(&other, &bytes);
            disk.put(&name, swapped);
        }
    }
    let words = ["cut", "cut", "zeros in", "flip in", "flip in", "remove", "remove MARK", "rename", "copy", "swap"];
    Some(format!("{} {name} {at} ({other}, {fresh})", words[what as usize]))
}
