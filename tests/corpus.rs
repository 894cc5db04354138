//! Replays the seeds of the fuzz targets, and whatever they once found, on a stable compiler.
//!
//! `SEAWALL_WRITE_SEEDS=1` writes the seeds of each target into `fuzz/seeds`.
#![cfg(feature = "sim")]
#![allow(
    missing_docs,
    unsafe_code,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

#[path = "corpus/mod.rs"]
mod corpus;

use std::fs;
use std::panic::{RefUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corpus::recover::{self, Step};
use corpus::{crash, frame, readers, receiver, repair, salvage, segment};
use seawall::sim::Bug;
use seawall::{ErrorKind, Lsn};

/// One byte of a program.
fn op(step: Step) -> u8 {
    step as u8
}

fn appends(count: usize, length: u16) -> Vec<u8> {
    let [low, high] = length.to_le_bytes();
    [op(Step::Append), low, high].repeat(count)
}

/// Three segments of records and one without, all of it durable. Files: MARK 0, segments 1, 2, ..
fn rotated() -> Vec<u8> {
    let mut program = Vec::new();
    for _ in 0..3 {
        program.extend(appends(5, 300));
        program.extend([op(Step::Batch), 3, 50, op(Step::Sync), op(Step::Rotate)]);
    }
    program
}

fn with(mut program: Vec<u8>, steps: &[u8]) -> Vec<u8> {
    program.extend_from_slice(steps);
    program
}

/// Where the first record of a segment lies: behind the header and a link without cursors.
const RECORD: u16 = 4096 + 24 + 80;

/// The seeds of `recover`, by name.
fn recover_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let write = |file: u8, offset: u16, bytes: &[u8]| {
        let [low, high] = offset.to_le_bytes();
        [&[op(Step::Write), file, low, high, bytes.len() as u8][..], bytes].concat()
    };
    let closed = with(rotated(), &[op(Step::Close)]);
    let recycled = {
        let mut program = Vec::new();
        for _ in 0..6 {
            program.extend(appends(3, 4000));
            program.extend([op(Step::Sync), op(Step::Settle), op(Step::Clean), 250]);
        }
        program
    };
    vec![
        ("empty", vec![]),
        ("clean", with(appends(20, 100), &[op(Step::Sync), op(Step::Close)])),
        ("rotated", closed.clone()),
        ("two-lives", with(closed.clone(), &with(rotated(), &[op(Step::Checkpoint), op(Step::Sync)]))),
        ("torn", with(rotated(), &with(appends(9, 700), &[op(Step::Crash), 3]))),
        ("torn-twice", with(rotated(), &with(appends(9, 700), &[op(Step::Crash), 5, op(Step::Append), 9, 0, 9, 77]))),
        ("killed", with(rotated(), &with(appends(9, 700), &[op(Step::Kill), op(Step::Append), 9, 0]))),
        ("flipped-payload", with(closed.clone(), &[op(Step::Flip), 1, 0x90, 0x10, 1])),
        ("flipped-header", with(closed.clone(), &[op(Step::Flip), 2, 40, 0, 1])),
        ("another-capacity", with(closed.clone(), &[op(Step::Flip), 2, 57, 0, 0x80, op(Step::MendHeader), 2])),
        ("newer", with(closed.clone(), &[op(Step::Flip), 2, 8, 0, 3, op(Step::MendHeader), 2])),
        ("zeros", with(closed.clone(), &write(1, 4300, &[0; 64]))),
        ("huge-length", {
            let damaged = with(closed.clone(), &write(1, RECORD + 4, &[0xff, 0xff, 0xff, 0x1f]));
            with(damaged, &[&[op(Step::MendFrame), 1][..], &RECORD.to_le_bytes()].concat())
        }),
        ("unknown-kind", {
            let damaged = with(closed.clone(), &write(3, RECORD + 7, &[0x60]));
            with(damaged, &[&[op(Step::MendFrame), 3][..], &RECORD.to_le_bytes()].concat())
        }),
        ("claims-the-future", {
            let damaged = with(rotated(), &write(3, 4112, &[0, 0, 0, 0]));
            with(damaged, &[op(Step::MendFrame), 3, 0, 0x10])
        }),
        ("another-front", {
            let damaged = with(rotated(), &write(3, 4096 + 24 + 48, &[0, 0x40]));
            with(damaged, &[op(Step::MendFrame), 3, 0, 0x10])
        }),
        ("link-to-above", {
            let above = 0xc000_0000_0000_0000_u64;
            let damaged = with(closed.clone(), &write(1, 4096 + 24, &above.to_le_bytes()));
            let damaged = with(damaged, &write(1, 4096 + 32, &(above + 4096).to_le_bytes()));
            with(damaged, &[op(Step::MendFrame), 1, 0, 0x10, op(Step::Remove), 2, op(Step::Remove), 2])
        }),
        ("mark-lost", with(closed.clone(), &[op(Step::Remove), 0])),
        ("mark-ahead", with(rotated(), &with(write(0, 34, &[9]), &[op(Step::MendMark)]))),
        ("first-gone", with(closed.clone(), &[op(Step::Remove), 1])),
        ("middle-gone", with(closed.clone(), &[op(Step::Remove), 2])),
        ("newest-gone", with(closed.clone(), &[op(Step::Remove), 3])),
        ("cut", with(closed.clone(), &[op(Step::Resize), 2, 0, 0x12])),
        ("grown", with(closed.clone(), &[op(Step::Resize), 3, 0, 0x80])),
        ("swapped", with(closed.clone(), &[op(Step::Rename), 1, 5, op(Step::Rename), 1, 1])),
        ("copied", with(closed.clone(), &[op(Step::Copy), 2, 5, op(Step::Copy), 1, 4])),
        ("foreign", with(closed, &[op(Step::Put), 9, 3, 0, b'a', b'b', b'c', op(Step::Put), 6, 1, 0, 1])),
        ("recycled", recycled.clone()),
        ("recycled-torn", with(recycled.clone(), &with(appends(4, 3000), &[op(Step::Crash), 11]))),
        ("cleaned", with(recycled, &[op(Step::Clean), 255, op(Step::Settle), op(Step::Close), op(Step::Remove), 0])),
    ]
}

/// Seeds by name.
type Seeds = Vec<(&'static str, Vec<u8>)>;

/// A fuzz target: its name, what it does with an input, its seeds.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Seeds,
}

const RECOVER: Target = Target { name: "recover", run: recover::run, seeds: recover_seeds };
const FRAME: Target = Target { name: "frame", run: frame::run, seeds: frame::seeds };
const SEGMENT: Target = Target { name: "segment", run: segment::run, seeds: segment::seeds };
const CRASH: Target = Target { name: "crash", run: crash::run, seeds: crash::seeds };
const READERS: Target = Target { name: "readers", run: readers::run, seeds: readers::seeds };
const RECEIVER: Target = Target { name: "receiver", run: receiver::run, seeds: receiver::seeds };
const REPAIR: Target = Target { name: "repair", run: repair::run, seeds: recover_seeds };
const SALVAGE: Target = Target { name: "salvage", run: salvage::run, seeds: salvage::seeds };

impl Target {
    fn directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(self.name)
    }

    /// Its seeds lie where the fuzzer finds them; they and all else that lies there run.
    fn replay(&self) {
        fs::create_dir_all(self.directory()).unwrap();
        for (name, program) in (self.seeds)() {
            let path = self.directory().join(name);
            if std::env::var_os("SEAWALL_WRITE_SEEDS").is_some() {
                fs::write(&path, &program).unwrap();
            }
            assert_eq!(fs::read(&path).ok(), Some(program), "{name}: SEAWALL_WRITE_SEEDS=1 writes it");
        }
        for entry in fs::read_dir(self.directory()).unwrap() {
            let path = entry.unwrap().path();
            let program = fs::read(&path).unwrap();
            assert!(program.len() < 4096, "{}", path.display());
            println!("{}", path.display());
            (self.run)(&program);
        }
    }

    /// The seed of a name.
    fn seed(&self, name: &str) -> Vec<u8> {
        (self.seeds)().into_iter().find(|(seed, _)| *seed == name).unwrap().1
    }

    /// Inputs by chance, what a fuzzer would try first. `SEAWALL_ROUNDS` for more.
    fn try_by_chance(&self, rounds: usize) {
        let rounds = std::env::var("SEAWALL_ROUNDS").map_or(rounds, |rounds| rounds.parse().unwrap());
        assert_eq!(first_failure(&(self.seeds)(), rounds, self.run), None);
    }
}

/// Seeds with noise behind them or, every other time, in them, until `run` panics or `rounds` are over: then the last.
fn first_failure(seeds: &Seeds, rounds: usize, run: impl Fn(&[u8]) + RefUnwindSafe) -> Option<(usize, Vec<u8>)> {
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for round in 0..rounds {
        let mut program = seeds[round % seeds.len()].1.clone();
        if (round / seeds.len()).is_multiple_of(2) {
            program.extend((0..byte() % 40).map(|_| byte()));
        } else {
            for _ in 0..byte() % 4 {
                let at = usize::from(byte()) << 8 | usize::from(byte());
                if let Some(byte_at) = at.checked_rem(program.len()).and_then(|at| program.get_mut(at)) {
                    *byte_at = byte();
                }
            }
        }
        if catch_unwind(|| run(&program)).is_err() {
            return Some((round, program));
        }
    }
    None
}

#[test]
fn what_lies_in_recover_is_recovered() {
    RECOVER.replay();
    RECOVER.try_by_chance(400);
}

#[test]
fn what_lies_in_frame_is_read_as_the_specification_says() {
    FRAME.replay();
    FRAME.try_by_chance(2000);
}

#[test]
fn what_lies_in_segment_is_read_as_the_specification_says() {
    SEGMENT.replay();
    SEGMENT.try_by_chance(2000);
}

#[test]
fn a_reader_that_is_wrong_in_one_record_is_noticed() {
    let wrong: [fn(segment::Row) -> segment::Row; 4] = [
        |row| (row.0 + 4, row.1, row.2, row.3, row.4),
        |row| (row.0, 3 - row.1, row.2, row.3, row.4),
        |row| (row.0, row.1, row.2, !row.3, row.4),
        |row| (row.0, row.1, row.2, row.3, [&row.4[..], &[0]].concat()),
    ];
    for reader in wrong {
        assert!(catch_unwind(|| segment::run_with(&SEGMENT.seed("records"), reader)).is_err());
        assert!(catch_unwind(|| frame::run_with(&FRAME.seed("record"), reader)).is_err());
    }
}

#[test]
fn what_lies_in_crash_keeps_the_promises() {
    CRASH.replay();
    CRASH.try_by_chance(1500);
}

#[test]
fn a_safety_taken_out_breaks_a_promise() {
    for bug in [
        Bug::AcknowledgeBeforeSync,
        Bug::BatchCutInside,
        Bug::CleanPastCursor,
        Bug::LinkIsProof,
        Bug::LsnHandedOutTwice,
        Bug::NotesNotRead,
    ] {
        let noticed = first_failure(&(CRASH.seeds)(), 6000, |input| crash::run_with(input, Some(bug)));
        let (round, _) = noticed.unwrap_or_else(|| panic!("{bug:?} was not noticed"));
        println!("{bug:?}: after {round} inputs");
    }
}

#[test]
fn what_lies_in_readers_shows_what_is_durable() {
    READERS.replay();
    READERS.try_by_chance(1500);
}

#[test]
fn a_writer_that_claims_too_much_is_noticed_by_readers() {
    let run = |input: &[u8]| readers::run_with(input, Some(Bug::ClaimAheadOfSync));
    let noticed = first_failure(&(READERS.seeds)(), 1000, run);
    println!("after {} inputs", noticed.expect("it is not noticed").0);
}

#[test]
fn what_lies_in_receiver_is_decoded_and_encoded_again() {
    RECEIVER.replay();
    RECEIVER.try_by_chance(20_000);
}

#[test]
fn an_entry_that_is_encoded_otherwise_is_noticed() {
    let wrong: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes.push(0), |bytes| bytes.truncate(bytes.len() - 1), |bytes| bytes[8] ^= 0x42];
    for name in ["block", "origin", "handover", "table"] {
        for hand in wrong {
            assert!(catch_unwind(|| receiver::run_with(&RECEIVER.seed(name), hand)).is_err(), "{name}");
        }
    }
}

#[test]
fn what_lies_in_repair_is_repaired() {
    REPAIR.replay();
    REPAIR.try_by_chance(400);
}

#[test]
fn a_repair_that_loses_or_invents_a_record_is_noticed() {
    let wrong: [fn(&mut Vec<repair::Row>); 3] =
        [|found| drop(found.remove(2)), |found| found[2].2.push(0), |found| found[2].0 += 4];
    for name in ["rotated", "middle-gone", "flipped-payload"] {
        let seed = REPAIR.seed(name);
        for hand in wrong {
            assert!(catch_unwind(|| repair::run_with(&seed, hand)).is_err(), "{name}");
        }
    }
}

#[test]
fn what_lies_in_salvage_is_salvaged() {
    SALVAGE.replay();
    SALVAGE.try_by_chance(800);
}

#[test]
fn a_salvage_that_loses_or_invents_a_record_is_noticed() {
    let seed = SALVAGE.seed("in-pieces");
    let wrong: [fn(Vec<salvage::Found>) -> Vec<salvage::Found>; 3] = [
        |found| found[1..].to_vec(),
        |found| [&found[..], &found[..1]].concat(),
        |mut found| {
            found[0].1.ends_batch ^= true;
            found
        },
    ];
    for hand in wrong {
        assert!(catch_unwind(|| salvage::run_with(&seed, hand)).is_err());
    }
}

/// What opening says of each seed, in a word. `Crash` and `Kill` open the log again within the program.
#[rustfmt::skip]
const VERDICTS: &[(&str, &str)] = &[
    ("empty", "sound"),
    ("clean", "sound"),
    ("rotated", "sound"),
    ("two-lives", "sound"),
    ("torn", "sound"),
    ("torn-twice", "sound"),
    ("killed", "sound"),
    ("flipped-payload", "damaged inside"),
    ("flipped-header", "damaged"),
    ("another-capacity", "damaged"),
    ("newer", "too new"),
    ("zeros", "damaged inside"),
    ("huge-length", "damaged inside"),
    ("unknown-kind", "too new inside"),
    ("claims-the-future", "sound"),
    ("another-front", "sound"),
    ("link-to-above", "damaged"),
    ("mark-lost", "damaged"),
    ("mark-ahead", "damaged"),
    ("first-gone", "damaged"),
    ("middle-gone", "damaged"),
    ("newest-gone", "damaged"),
    ("cut", "damaged"),
    ("grown", "sound"),
    ("swapped", "damaged"),
    ("copied", "damaged"),
    ("foreign", "sound"),
    ("recycled", "sound"),
    ("recycled-torn", "sound"),
    ("cleaned", "damaged"),
];

#[test]
fn the_seeds_reach_what_they_are_named_for() {
    for (name, program) in recover_seeds() {
        let disk = recover::build(&program, &recover::options()).disk;
        let verdict = match recover::options().open_on(disk.mount()) {
            Ok(wal) if wal.recovery().torn.is_some() => "torn",
            Ok(wal) => match wal.read(..).unwrap().find_map(Result::err).map(|e| e.kind().clone()) {
                None => "sound",
                Some(ErrorKind::TooNew) => "too new inside",
                Some(_) => "damaged inside",
            },
            Err(e) => match e.kind() {
                ErrorKind::Damage(_) => "damaged",
                ErrorKind::TooNew => "too new",
                ErrorKind::NotFound => "no log",
                _ => "another error",
            },
        };
        assert!(VERDICTS.contains(&(name, verdict)), "{name} is {verdict}");
    }
    assert_eq!(VERDICTS.len(), recover_seeds().len());
}

/// What MARK claimed ended within a record, and a follower that had seen it would have passed it over.
#[test]
fn a_record_in_which_the_durable_point_lies_is_followed_once_it_is_durable_whole() {
    let program = fs::read(RECOVER.directory().join("mark-within-a-frame")).unwrap();
    let disk = recover::build(&program, &recover::options()).disk;
    let view = recover::options().open_read_only_on(disk.mount()).unwrap();
    let mut follower = view.follow(Lsn::ZERO);
    assert_eq!((follower.try_next().unwrap(), view.durable_lsn()), (None, Lsn(4524)));
    let wal = recover::options().open_on(disk.mount()).unwrap();
    let last = wal.append(b"one more").unwrap().wait().unwrap();
    let mut next = || follower.next_timeout(Duration::from_secs(60)).unwrap().unwrap().lsn;
    assert_eq!([next(), next()], [Lsn(4200), last]);
}

/// What the fuzz target checks is worth its time only if it notices that a safety is gone.
#[test]
fn a_safety_taken_out_is_noticed() {
    for bug in [
        Bug::NoDirectorySync,
        Bug::HeaderNotSynced,
        Bug::TrimBeforeLink,
        Bug::StaleFrames,
        Bug::LsnHandedOutTwice,
        Bug::FrontNotSynced,
    ] {
        let options = recover::options().plant(bug);
        let noticed = first_failure(&recover_seeds(), 4000, |program| recover::run_with(program, &options));
        let (round, _) = noticed.unwrap_or_else(|| panic!("{bug:?} was not noticed"));
        println!("{bug:?}: after {round} programs");
    }
}
