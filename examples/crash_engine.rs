//! Crashing another engine: `cargo run --features sim --example crash_engine`.
//!
//! A log of forty lines: records behind their lengths and checksums in one file, synced after each. It does its reads
//! and writes through `seawall::storage::Storage`, and three calls, `open`, `append` and `records`, make it an
//! `Engine`: so it can be crashed as seawall is, and held against the same promises.
//!
//! As it stands it keeps them, on a disk as the simulation has it, whose syncs may fail. Without the sync of the
//! directory, which many logs were shipped without, the file may lose its name, and the first crash that shows it is told.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io;
use std::sync::Arc;

use seawall::sim::{Engine, Explore};
use seawall::storage::{File, Storage};

/// The log. `DURABLE_NAME`: the directory is synced once the file is made.
pub(crate) struct Small<const DURABLE_NAME: bool> {
    pub(crate) file: Box<dyn File>,
    pub(crate) end: u64,
}

impl<const DURABLE_NAME: bool> Small<DURABLE_NAME> {
    /// As it lies there.
    pub(crate) fn found(storage: &dyn Storage) -> io::Result<Self> {
        storage.create_dir()?;
        let file = match storage.open("log", true) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => storage.create("log")?,
            opened => opened?,
        };
        if DURABLE_NAME {
            storage.sync_dir()?;
        }
        Ok(Small { file, end: 0 })
    }

    /// What is shown is to stay, and may be in the cache alone: a sync of it may have failed.
    pub(crate) fn write_again(&mut self) -> io::Result<()> {
        for record in self.read()? {
            self.write(&record)?;
        }
        self.file.sync()
    }

    pub(crate) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let length = u32::try_from(record.len()).map_err(io::Error::other)?.to_le_bytes();
        let frame = [&length[..], &crc32fast::hash(record).to_le_bytes(), record].concat();
        let mut done = 0;
        while let Some(rest) = frame.get(done..).filter(|rest| !rest.is_empty()) {
            done += self.file.write_at(rest, self.end + done as u64)?;
        }
        self.end += frame.len() as u64;
        Ok(())
    }

    /// The records up to the first that is not whole.
    pub(crate) fn read(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut bytes = vec![0; usize::try_from(self.file.len()?).map_err(io::Error::other)?];
        let length = self.file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        let (mut records, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((&length, behind)) = rest.split_first_chunk().filter(|(length, _)| **length != [0; 4])
            && let Some((&sum, behind)) = behind.split_first_chunk()
            && let Some((record, behind)) = behind.split_at_checked(u32::from_le_bytes(length) as usize)
            && crc32fast::hash(record) == u32::from_le_bytes(sum)
        {
            records.push(record.to_vec());
            rest = behind;
        }
        Ok(records)
    }
}

impl<const DURABLE_NAME: bool> Engine for Small<DURABLE_NAME> {
    fn open(storage: Arc<dyn Storage>) -> Result<Self, String> {
        let mut log = Small::found(&*storage).map_err(|e| e.to_string())?;
        log.write_again().map_err(|e| e.to_string())?;
        Ok(log)
    }

    fn append(&mut self, record: &[u8]) -> Result<(), String> {
        self.write(record).and_then(|()| self.file.sync()).map_err(|e| e.to_string())
    }

    fn records(&mut self) -> Result<Vec<Vec<u8>>, String> {
        self.read().map_err(|e| e.to_string())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    for seed in 0..50 {
        let states = Explore::new(seed).engine::<Small<true>>(10)?;
        println!("seed {seed}: {states} crash states, no promise broken");
    }
    match Explore::new(0).engine::<Small<false>>(10) {
        Ok(states) => Err(format!("without the sync of the directory: {states} states, and nothing was found").into()),
        Err(broken) => {
            println!("without the sync of the directory: {broken}");
            Ok(())
        }
    }
}
