//! Crashing engines and applications through what `seawall::sim` offers: it finds what is broken, and tells it again.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use seawall::sim::{Broken, Bug, Disk, Engine, Explore, Unit};
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
