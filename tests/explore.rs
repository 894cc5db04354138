//! Crashing engines and applications through what `seawall::sim` offers: it finds what is broken, and tells it again.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;

use seawall::sim::{Broken, Bug, Disk, Engine, Explore, Unit};
use seawall::storage::{File, Storage};
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

/// Records behind their lengths in a file that grows, synced after each. Where `NAME_SYNCED` is false it forgets that a
/// new name is not durable before the directory is synced.
struct Naive<const NAME_SYNCED: bool> {
    file: Box<dyn File>,
    end: u64,
}

impl<const NAME_SYNCED: bool> Engine for Naive<NAME_SYNCED> {
    fn open(storage: Arc<dyn Storage>) -> Result<Self, String> {
        let open = || {
            storage.create_dir()?;
            let file = match storage.open("log", true) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => storage.create("log")?,
                opened => opened?,
            };
            if NAME_SYNCED {
                storage.sync_dir()?;
            }
            Ok(Naive { file, end: 0 })
        };
        let mut engine = open().map_err(|e: std::io::Error| e.to_string())?;
        engine.records()?;
        Ok(engine)
    }

    fn append(&mut self, record: &[u8]) -> Result<(), String> {
        let mut frame = u32::try_from(record.len()).unwrap().to_le_bytes().to_vec();
        frame.extend(crc32fast::hash(record).to_le_bytes());
        frame.extend(record);
        let written = self.file.write_at(&frame, self.end).and_then(|_| self.file.sync());
        self.end += frame.len() as u64;
        written.map_err(|e| e.to_string())
    }

    fn records(&mut self) -> Result<Vec<Vec<u8>>, String> {
        let mut bytes = vec![0; usize::try_from(self.file.len().unwrap()).unwrap()];
        self.file.read_at(&mut bytes, 0).map_err(|e| e.to_string())?;
        let (mut records, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((head, behind)) = rest.split_at_checked(8) {
            let length = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
            let Some((record, behind)) = behind.split_at_checked(length) else { break };
            if length == 0 || crc32fast::hash(record) != u32::from_le_bytes(head[4..].try_into().unwrap()) {
                break;
            }
            records.push(record.to_vec());
            rest = behind;
        }
        self.end = (bytes.len() - rest.len()) as u64;
        Ok(records)
    }
}

#[test]
fn another_engine_is_crashed_by_the_same_trait() {
    let broken = Explore::new(3).engine::<Naive<false>>(3).unwrap_err();
    assert!(broken.what.contains("were acknowledged"), "{broken}");
    // Made small: nothing but the name is lost.
    assert_eq!(broken.crash.lost, [Unit::Create { name: "log".into() }], "{broken}");
    assert!(broken.to_string().contains("that loses the name log: 0 records, 1 were acknowledged"), "{broken}");
}

#[test]
fn a_crash_that_was_found_can_be_had_again() {
    let work = |disk: &Disk| {
        let mut engine = Naive::<false>::open(disk.mount()).ok()?;
        engine.append(b"one").ok()
    };
    let check = |left: &Disk, told: &Option<()>| match (left.file("log"), told) {
        (Some(file), _) if !file.is_empty() => Ok(()),
        (_, None) => Ok(()),
        (file, Some(())) => Err(format!("acknowledged, and there is {file:?}")),
    };
    let broken = Explore::new(1).run(&Disk::new(1), work, check).unwrap_err();
    let (left, told) = Explore::new(1).again(&broken.crash, &Disk::new(1), work);
    assert_eq!(check(&left, &told), Err(broken.what));
}

/// With the name synced there is nothing to be found.
#[test]
fn an_engine_that_keeps_its_promises_is_not_accused() {
    for seed in 0..20 {
        assert!(Explore::new(seed).engine::<Naive<true>>(6).unwrap() > 100);
    }
}
