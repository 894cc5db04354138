//! What an engine has to do, and the engines.

mod floor;
mod okaywal;
mod planted;
mod raft_engine;
mod redb;
mod seawall;

use std::path::Path;

use crate::Result;

/// A log that is open.
pub trait Engine: Sync {
    /// Appends one record; durable when it returns. Called by several threads at once.
    fn append(&self, payload: &[u8]) -> Result<()>;

    /// Called before each slice, while no time runs: blocks may be written ahead.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Ends its life in order.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Takes a record that was read.
pub type Each<'a> = &'a mut dyn FnMut(&[u8]);

/// How to have one.
pub struct Peer {
    /// Its name here.
    pub name: &'static str,
    /// The crate whose version is told.
    pub package: &'static str,
    /// Makes a log in an empty directory.
    pub open: fn(&Path) -> Result<Box<dyn Engine>>,
    /// Opens a closed one, and gives each record: those of one thread in the order of their appends.
    pub read_back: fn(&Path, Each<'_>) -> Result<()>,
}

/// By hand, against which all others are held.
pub const FLOOR: &str = "floor";

/// All of them. The planted ones are run only where they are named.
pub const PEERS: [Peer; 7] =
    [floor::PEER, seawall::PEER, okaywal::PEER, raft_engine::PEER, redb::PEER, planted::UNSYNCED, planted::FORGETFUL];

/// The one of this name.
pub fn peer(name: &str) -> Result<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name).ok_or_else(|| format!("there is no engine {name:?}").into())
}

/// What runs unless engines are named.
pub fn usual() -> Vec<&'static Peer> {
    PEERS.iter().filter(|peer| !peer.name.starts_with("planted")).collect()
}
