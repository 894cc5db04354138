//! Crashing engines and applications through what `seawall::sim` offers: it finds what is broken, and tells it again.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

#[allow(dead_code)]
#[path = "../examples/crash_engine.rs"]
mod crash_engine;

use std::io;
use std::sync::Arc;

use crash_engine::Small;

use seawall::sim::{Broken, Bug, Disk, Engine, Explore, Oracle, Unit};
use seawall::storage::Storage;
use seawall::{Options, Wal};

/// The log, with a safety taken out where `BUG` is a number: types have no other way to be told.
struct Log<const BUG: usize>(Wal);

const BUGS: [Bug; 4] = [Bug::AcknowledgeBeforeSync, Bug::NoDirectorySync, Bug::HeaderNotSynced, Bug::LsnHandedOutTwice];
const NONE: usize = BUGS.len();

impl<const BUG: usize> Engine for Log<BUG> {
    fn open(storage: Arc<dyn Storage>) -> Result<Self, String> {
        let options = Options::new().segment_size(16 << 10);
        let options = BUGS.get(BUG).into_iter().fold(options, |options, bug| options.plant(*bug));
        options.open_on(storage).map(Log).map_err(|e| e.to_string())
    }

    fn append(&mut self, record: &[u8]) -> Result<(), String> {
        self.0.append(record).and_then(|ticket| ticket.wait()).map(drop).map_err(|e| e.to_string())
    }

    fn records(&mut self) -> Result<Vec<Vec<u8>>, String> {
        let records = self.0.read(..).map_err(|e| e.to_string())?;
        records.map(|record| record.map(|r| r.payload.to_vec()).map_err(|e| e.to_string())).collect()
    }
}

#[test]
fn this_log_keeps_its_promises() {
    let states = Explore::new(7).states(24).engine::<Log<NONE>>(30).unwrap();
    assert!(states > 1000, "{states}");
}

#[test]
fn safeties_that_are_taken_out_are_missed() {
    let caught = |broken: Result<u64, Broken>| broken.expect_err("nothing was found").what;
    let explore = Explore::new(7);
    assert!(caught(explore.engine::<Log<0>>(30)).contains("were acknowledged"));
    caught(explore.engine::<Log<1>>(30));
    caught(explore.engine::<Log<2>>(30));
    caught(explore.engine::<Log<3>>(30));
}

/// A file that is written and synced, and whose name is not: other engines are crashed by `examples/crash_engine.rs`.
fn save(disk: &Disk) -> Option<()> {
    let storage = disk.mount();
    storage.create_dir().ok()?;
    let file = storage.create("log").ok()?;
    file.write_at(b"one", 0).ok()?;
    file.sync().ok()
}

#[test]
fn a_crash_that_was_found_is_small_and_can_be_had_again() {
    let check = |left: &Disk, told: &Option<()>| match (left.file("log"), told) {
        (Some(file), _) if !file.is_empty() => Ok(()),
        (_, None) => Ok(()),
        (file, Some(())) => Err(format!("acknowledged, and there is {file:?}")),
    };
    let broken = Explore::new(1).run(&Disk::new(1), save, check).unwrap_err();
    // Nothing but the name is lost.
    assert_eq!(broken.crash.lost, [Unit::Create { name: "log".into() }], "{broken}");
    assert!(broken.to_string().contains("that loses the name log: acknowledged, and there is None"), "{broken}");
    let (left, told) = Explore::new(1).again(&broken.crash, &Disk::new(1), save);
    assert_eq!(check(&left, &told), Err(broken.what));
}

/// The engine of the example, with what is wrong in it by its number.
struct Flawed<const FLAW: usize>(Small<true>);

const SOUND: usize = 0;
/// A sync that failed is tried again: it writes nothing then.
const SYNCED_AGAIN: usize = 1;
/// The record is read back before that and written again: it may be gone.
const READ_BACK: usize = 2;
/// What is found is shown as it is: a power cut takes what the last process could not sync.
const SHOWN_UNSYNCED: usize = 3;
/// The file is cut to nothing and written anew.
const WRITTEN_ANEW: usize = 4;

impl<const FLAW: usize> Flawed<FLAW> {
    fn open(storage: &dyn Storage) -> io::Result<Self> {
        let mut small = Small::found(storage)?;
        let records = small.read()?;
        match FLAW {
            SHOWN_UNSYNCED => small.end = records.iter().map(|record| record.len() as u64 + 8).sum(),
            WRITTEN_ANEW => {
                small.file.set_len(0)?;
                records.iter().try_for_each(|record| small.write(record))?;
                small.file.sync()?;
            }
            _ => small.write_again()?,
        }
        Ok(Flawed(small))
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let Flawed(small) = self;
        let at = small.end;
        small.write(record)?;
        match small.file.sync() {
            Err(_) if FLAW == SYNCED_AGAIN => small.file.sync(),
            Err(_) if FLAW == READ_BACK => {
                let mut frame = vec![0; record.len() + 8];
                small.file.read_at(&mut frame, at)?;
                small.file.write_at(&frame, at)?;
                small.file.sync()
            }
            synced => synced,
        }
    }
}

impl<const FLAW: usize> Engine for Flawed<FLAW> {
    fn open(storage: Arc<dyn Storage>) -> Result<Self, String> {
        Flawed::open(&*storage).map_err(|e| e.to_string())
    }

    fn append(&mut self, record: &[u8]) -> Result<(), String> {
        self.append(record).map_err(|e| e.to_string())
    }

    fn records(&mut self) -> Result<Vec<Vec<u8>>, String> {
        self.0.records()
    }
}

#[test]
fn failing_syncs_and_crashes_while_opening_find_what_power_cuts_alone_do_not() {
    for seed in 0..4 {
        let explore = Explore::new(seed).states(24);
        explore.engine::<Flawed<SOUND>>(10).unwrap();
        let broken = [
            explore.engine::<Flawed<SYNCED_AGAIN>>(10),
            explore.engine::<Flawed<READ_BACK>>(10),
            explore.engine::<Flawed<SHOWN_UNSYNCED>>(10),
            explore.engine::<Flawed<WRITTEN_ANEW>>(10),
        ]
        .map(|found| found.expect_err("nothing was found"));
        // The others are seen without: what a kill leaves is not durable, and opening may be cut short.
        for broken in &broken[..2] {
            assert!(broken.crash.fault.is_some(), "{broken}");
            assert!(broken.to_string().contains(" fails"), "{broken}");
        }
        assert!(broken.iter().all(|broken| broken.to_string().contains(&format!("(seed {seed}, "))), "{broken:?}");
    }
}

#[test]
fn a_crash_behind_a_failing_sync_can_be_had_again() {
    let work = |disk: &Disk| {
        let storage = disk.mount();
        storage.create_dir().ok()?;
        storage.sync_dir().ok()?;
        let file = storage.create("log").ok()?;
        storage.sync_dir().ok()?;
        file.write_at(b"one", 0).ok()?;
        file.sync().or_else(|_| file.sync()).ok()
    };
    let check = |left: &Disk, told: &Option<()>| match (left.file("log"), told) {
        (Some(file), _) if file == b"one" => Ok(()),
        (_, None) => Ok(()),
        (file, Some(())) => Err(format!("acknowledged, and there is {file:?}")),
    };
    let broken = Explore::new(1).run(&Disk::new(1), work, check).unwrap_err();
    assert!(broken.to_string().starts_with("Sync 1 fails"), "{broken}");
    let (left, told) = Explore::new(1).again(&broken.crash, &Disk::new(1), work);
    assert_eq!(check(&left, &told), Err(broken.what));
}

#[test]
fn a_panic_is_told_as_a_crash() {
    let work = |disk: &Disk| {
        let storage = disk.mount();
        storage.create_dir().unwrap();
    };
    let broken = Explore::new(3).run(&Disk::new(1), work, |_, ()| Ok(())).unwrap_err();
    assert!(broken.to_string().contains("operation 1: it panics: "), "{broken}");
    let broken = Explore::new(3).run(&Disk::new(1), |_| (), |_, ()| panic!("torn")).unwrap_err();
    assert!(broken.to_string().ends_with("it panics: torn (seed 3, state 1)"), "{broken}");
}

/// What a large write leaves is mostly runs of sectors.
#[test]
fn one_large_write_is_there_and_not_the_one_before() {
    let [one, two] = [1_u8, 2].map(|byte| vec![byte; 64 << 10]);
    let before = Disk::new(1);
    before.put("blobs", b"");
    let work = |disk: &Disk| {
        let file = disk.mount().open("blobs", true).ok()?;
        file.write_at(&one, 0).ok()?;
        file.write_at(&two, one.len() as u64).ok()?;
        file.sync().ok()
    };
    let check = |left: &Disk, _: &Option<()>| {
        let file = left.file("blobs").unwrap_or_default();
        let whole = |at: usize, blob: &[u8]| file.get(at..at + blob.len()) == Some(blob);
        if whole(one.len(), &two) && !whole(0, &one) { Err("the second without the first".to_owned()) } else { Ok(()) }
    };
    let found = (0..20).filter(|seed| Explore::new(*seed).run(&before, work, check).is_err()).count();
    assert!(found >= 10, "{found} of 20");
}

#[test]
fn the_oracle_knows_batches_and_what_was_refused() {
    let mut oracle = Oracle::default();
    oracle.appended(b"one");
    oracle.appended_batch(&[b"two", b"3rd"]);
    oracle.acknowledged();
    oracle.appended_batch(&[b"4th", b"5th"]);
    let all: Vec<&[u8]> = vec![b"one", b"two", b"3rd", b"4th", b"5th"];
    assert!([0, 1, 2, 4].iter().all(|n| oracle.clone().check(&all[..*n]).is_err()));
    assert!([3, 5].iter().all(|n| oracle.clone().check(&all[..*n]).is_ok()));
    oracle.refused();
    assert!(oracle.clone().check(&all).is_err());
    assert!(oracle.check(&all[..3]).is_ok());
    assert!(oracle.check(&all[..1]).is_err(), "what was shown stays");
}
