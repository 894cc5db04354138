//! The simulated disk against naive models: of a directory that never crashes, and of what a crash may leave.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::rc::Rc;

use proptest::prelude::*;
use seawall::sim::{Disk, Fault, Keep, Operation};
use seawall::storage::{File, Fs, Storage};

#[derive(Clone, Debug)]
enum Call {
    Create(usize),
    Open(usize),
    Rename(usize, usize),
    Remove(usize),
    SyncDir,
    List,
    Write { handle: usize, offset: u64, len: usize, byte: u8 },
    Read { handle: usize, offset: u64, len: usize },
    SetLen { handle: usize, len: u64 },
    Allocate { handle: usize, len: u64 },
    Sync { handle: usize },
    Map { handle: usize, len: usize },
    Close { handle: usize },
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn call() -> impl Strategy<Value = Call> {
    let (name, handle, offset, len) = (0..NAMES.len(), 0..8_usize, 0..3000_u64, 0..2000_usize);
    prop_oneof![
        2 => name.clone().prop_map(Call::Create),
        2 => name.clone().prop_map(Call::Open),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Call::Rename(from, to)),
        1 => name.prop_map(Call::Remove),
        1 => Just(Call::SyncDir),
        1 => Just(Call::List),
        8 => (handle.clone(), offset.clone(), len.clone(), 1..=255_u8)
            .prop_map(|(handle, offset, len, byte)| Call::Write { handle, offset, len, byte }),
        4 => (handle.clone(), offset.clone(), len.clone()).prop_map(|(handle, offset, len)| Call::Read { handle, offset, len }),
        2 => (handle.clone(), offset.clone()).prop_map(|(handle, len)| Call::SetLen { handle, len }),
        1 => (handle.clone(), offset).prop_map(|(handle, len)| Call::Allocate { handle, len }),
        2 => handle.clone().prop_map(|handle| Call::Sync { handle }),
        1 => (handle.clone(), len).prop_map(|(handle, len)| Call::Map { handle, len }),
        1 => handle.prop_map(|handle| Call::Close { handle }),
    ]
}

/// What a call answered: bytes and numbers, or the kind of the error.
type Answer = Result<Vec<u8>, ErrorKind>;

/// The calls on a storage.
struct Real<'a> {
    storage: &'a dyn Storage,
    handles: Vec<Box<dyn File>>,
}

impl Real<'_> {
    fn call(&mut self, call: &Call) -> Answer {
        self.try_call(call).map_err(|error| error.kind())
    }

    fn try_call(&mut self, call: &Call) -> std::io::Result<Vec<u8>> {
        let storage = self.storage;
        match *call {
            Call::Create(name) => self.handles.push(storage.create(NAMES[name])?),
            Call::Open(name) => self.handles.push(storage.open(NAMES[name], true)?),
            Call::Rename(from, to) => storage.rename(NAMES[from], NAMES[to])?,
            Call::Remove(name) => storage.remove(NAMES[name])?,
            Call::SyncDir => storage.sync_dir()?,
            Call::List => {
                let mut names: Vec<_> =
                    storage.list()?.into_iter().map(|(name, _)| name.into_encoded_bytes()).collect();
                names.sort();
                return Ok(names.concat());
            }
            Call::Close { handle } if handle < self.handles.len() => drop(self.handles.remove(handle)),
            _ => {}
        }
        let (Call::Write { handle, .. }
        | Call::Read { handle, .. }
        | Call::SetLen { handle, .. }
        | Call::Allocate { handle, .. }
        | Call::Sync { handle }
        | Call::Map { handle, .. }) = *call
        else {
            return Ok(vec![]);
        };
        let Some(file) = self.handles.get(handle) else {
            return Ok(vec![]);
        };
        match *call {
            Call::Write { offset, len, byte, .. } => {
                assert_eq!(file.write_at(&vec![byte; len], offset)?, len);
            }
            Call::Read { offset, len, .. } => {
                let mut bytes = vec![0xee; len];
                let n = file.read_at(&mut bytes, offset)?;
                bytes.truncate(n);
                return Ok(bytes);
            }
            Call::SetLen { len, .. } => file.set_len(len)?,
            Call::Allocate { len, .. } if len > 0 => file.allocate(len)?,
            Call::Sync { .. } => file.sync()?,
            Call::Map { len, .. } => return Ok((*file.map(len)?).as_ref().to_vec()),
            _ => {}
        }
        Ok(file.len()?.to_le_bytes().to_vec())
    }
}

/// The same calls on plain maps and vectors.
#[derive(Default)]
struct Naive {
    names: BTreeMap<usize, Rc<RefCell<Vec<u8>>>>,
    handles: Vec<Rc<RefCell<Vec<u8>>>>,
}

impl Naive {
    fn call(&mut self, call: &Call) -> Answer {
        match *call {
            Call::Create(name) if self.names.contains_key(&name) => return Err(ErrorKind::AlreadyExists),
            Call::Create(name) => {
                let file = Rc::<RefCell<Vec<u8>>>::default();
                self.names.insert(name, Rc::clone(&file));
                self.handles.push(file);
            }
            Call::Open(name) => self.handles.push(Rc::clone(self.names.get(&name).ok_or(ErrorKind::NotFound)?)),
            Call::Rename(from, to) => {
                let file = self.names.remove(&from).ok_or(ErrorKind::NotFound)?;
                self.names.insert(to, file);
            }
            Call::Remove(name) => drop(self.names.remove(&name).ok_or(ErrorKind::NotFound)?),
            Call::List => return Ok(self.names.keys().flat_map(|&name| NAMES[name].bytes()).collect()),
            Call::Close { handle } if handle < self.handles.len() => drop(self.handles.remove(handle)),
            Call::SyncDir | Call::Close { .. } => {}
            Call::Write { handle, .. }
            | Call::Read { handle, .. }
            | Call::SetLen { handle, .. }
            | Call::Allocate { handle, .. }
            | Call::Sync { handle }
            | Call::Map { handle, .. } => {
                if let Some(file) = self.handles.get(handle) {
                    return on_bytes(&mut file.borrow_mut(), call);
                }
            }
        }
        Ok(vec![])
    }
}

fn on_bytes(bytes: &mut Vec<u8>, call: &Call) -> Answer {
    match *call {
        Call::Write { offset, len, byte, .. } if len > 0 => {
            let (start, end) = (offset as usize, offset as usize + len);
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].fill(byte);
        }
        Call::Read { offset, len, .. } => {
            return Ok(bytes.iter().skip(offset as usize).take(len).copied().collect());
        }
        Call::SetLen { len, .. } => bytes.resize(len as usize, 0),
        Call::Allocate { len, .. } if len > 0 => bytes.resize(len as usize, 0),
        Call::Map { len, .. } => return bytes.get(..len).map(<[u8]>::to_vec).ok_or(ErrorKind::UnexpectedEof),
        _ => {}
    }
    Ok((bytes.len() as u64).to_le_bytes().to_vec())
}

fn compare(storage: &dyn Storage, calls: &[Call]) {
    storage.create_dir().unwrap();
    let (mut real, mut naive) = (Real { storage, handles: Vec::new() }, Naive::default());
    for (number, call) in calls.iter().enumerate() {
        assert_eq!(real.call(call), naive.call(call), "call {number}: {call:?}");
    }
}

/// What one byte of a file may be after a crash.
#[derive(Clone, Default)]
struct Byte {
    shown: u8,
    possible: BTreeSet<u8>,
    /// A sync failed since it was last written: no later sync is believed.
    doubtful: bool,
}

/// What a file may be after a crash, byte by byte: wider than the truth, for bytes of one sector go together.
struct Possible {
    bytes: Vec<Byte>,
    shown: usize,
    lens: BTreeSet<usize>,
}

impl Possible {
    fn write(&mut self, range: std::ops::Range<usize>, byte: u8) {
        for place in &mut self.bytes[range] {
            place.shown = byte;
            place.possible.insert(byte);
            place.doubtful = false;
        }
    }

    fn set_len(&mut self, len: usize) {
        for place in &mut self.bytes[len.min(self.shown)..] {
            place.shown = 0;
            place.possible.insert(0);
        }
        self.shown = len;
        self.lens.insert(len);
    }

    fn sync(&mut self) {
        for place in self.bytes.iter_mut().filter(|place| !place.doubtful) {
            place.possible = [place.shown].into();
        }
        self.lens = [self.shown].into();
    }

    fn fail_sync(&mut self) {
        for place in &mut self.bytes {
            place.doubtful |= place.possible.len() > 1;
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, len: usize, byte: u8 },
    SetLen(usize),
    Sync,
    FailSync,
    Kill,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..3000_usize, 1..1500_usize, 1..=255_u8).prop_map(|(offset, len, byte)| Change::Write { offset, len, byte }),
        2 => (0..4500_usize).prop_map(Change::SetLen),
        2 => Just(Change::Sync),
        1 => Just(Change::FailSync),
        1 => Just(Change::Kill),
    ]
}

fn crash_leaves_what_may_be(seed: u64, changes: &[Change]) {
    let disk = Disk::new(seed);
    disk.put("a", b"");
    let place = Byte { shown: 0, possible: [0].into(), doubtful: false };
    let mut possible = Possible { bytes: vec![place; 4500], shown: 0, lens: [0].into() };
    for change in changes {
        let file = disk.mount().open("a", true).unwrap();
        match *change {
            Change::Write { offset, len, byte } => {
                file.write_at(&vec![byte; len], offset as u64).unwrap();
                possible.write(offset..offset + len, byte);
                if offset + len > possible.shown {
                    possible.shown = offset + len;
                    possible.lens.insert(offset + len);
                }
            }
            Change::SetLen(len) => {
                file.set_len(len as u64).unwrap();
                possible.set_len(len);
            }
            Change::Sync => {
                file.sync().unwrap();
                possible.sync();
            }
            Change::FailSync => {
                disk.fail(Fault::new(Operation::Sync));
                file.sync().unwrap_err();
                possible.fail_sync();
            }
            Change::Kill => disk.kill(),
        }
        let shown: Vec<u8> = possible.bytes[..possible.shown].iter().map(|place| place.shown).collect();
        assert_eq!(disk.file("a").unwrap(), shown);
    }
    for keep in [Keep::All, Keep::None, Keep::Random(seed), Keep::Random(!seed)] {
        let left = disk.fork();
        left.crash(keep);
        let bytes = left.file("a").unwrap();
        assert!(possible.lens.contains(&bytes.len()), "{} of {:?}", bytes.len(), possible.lens);
        for (at, byte) in bytes.iter().enumerate() {
            // Beyond what is shown, an older length may hold what it held.
            assert!(possible.bytes[at].possible.contains(byte), "{byte} at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_crashes_the_disk_is_a_plain_directory(calls in prop::collection::vec(call(), 0..80)) {
        compare(&*Disk::new(1).mount(), &calls);
    }

    #[test]
    fn a_crash_leaves_only_what_the_assumptions_allow(seed: u64, changes in prop::collection::vec(change(), 0..25)) {
        crash_leaves_what_may_be(seed, &changes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn real_files_are_a_plain_directory(calls in prop::collection::vec(call(), 0..60)) {
        let dir = tempfile::tempdir().unwrap();
        compare(&Fs::new(dir.path()), &calls);
    }
}
