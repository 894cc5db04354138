//! This crate, with its defaults, and segments made before a slice instead of meanwhile.
//!
//! `append(..)?.wait()` with `Durability::Disk`, the default: durable by `fdatasync` once the ticket resolves
//! (README.md, "What survives").

use std::path::Path;

use seawall::Wal;

use super::{Each, Engine, Peer};
use crate::Result;

pub const PEER: Peer = Peer { name: "seawall", package: "seawall", open, read_back };

struct Seawall(Wal);

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Seawall(Wal::open(dir)?)))
}

fn read_back(dir: &Path, each: Each<'_>) -> Result<()> {
    for record in Wal::open(dir)?.read(..)? {
        each(&record?.payload);
    }
    Ok(())
}

impl Engine for Seawall {
    fn append(&self, payload: &[u8]) -> Result<()> {
        self.0.append(payload)?.wait()?;
        Ok(())
    }

    /// Segments are made ahead, their blocks written: by the background otherwise, while it is measured.
    fn prepare(&self) -> Result<()> {
        Ok(self.0.prepare()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }
}
