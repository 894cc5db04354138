//! A disk in memory that can crash, lie, run full and rot; a wrapper that fails; safeties to take out.
//!
//! With these the log itself is tested, and an application that embeds it can be, or another engine: [`Explore`] cuts
//! the power at each storage operation in turn and looks at what that may leave, an [`Oracle`] is the promises as code,
//! and an [`Engine`] is whatever can be held against them. By hand it is a few lines too:
//!
//! ```
//! use seawall::sim::{Disk, Keep};
//! use seawall::storage::Storage;
//! use std::io;
//!
//! // The application: replaces a file durably.
//! fn save(storage: &dyn Storage, text: &[u8]) -> io::Result<()> {
//!     let new = storage.create("state.new")?;
//!     new.write_at(text, 0)?;
//!     new.sync()?;
//!     storage.rename("state.new", "state")?;
//!     storage.sync_dir()
//! }
//!
//! let before = Disk::new(1);
//! before.put("state", b"old");
//! for nth in 1.. {
//!     let disk = before.fork();
//!     disk.crash_torn_at(nth);
//!     let saved = save(&*disk.mount(), b"new").is_ok();
//!     // Every subset of what was on its way to the platter.
//!     for mask in 0..1 << disk.dirty_units() {
//!         let left = disk.fork();
//!         left.crash(Keep::Mask(mask));
//!         let state = left.file("state").unwrap();
//!         assert!(state == b"new" || state == b"old" && !saved);
//!     }
//!     if saved {
//!         break;
//!     }
//! }
//! ```
//!
//! # What the disk models
//!
//! The six [storage assumptions](crate::storage#storage-assumptions), and no kinder disk than they allow:
//!
//! | | |
//! |---|---|
//! | S1 | A sync that succeeds brings a file's dirty sectors and its length to the platter. It says nothing of the file's name. |
//! | S2 | Of each dirty sector a crash keeps any version since the last sync, or what the platter held; of each file any of its lengths since then. All of these apart, over all files. Bytes that were not kept read as zeros where the file is that long all the same. |
//! | S3 | A version of a sector holds what the cache held: writing a part of it never endangers the rest. |
//! | S4 | Names created, changed and removed survive a crash in any subset until the directory is synced. Each change speaks of one file: a rename or removal of a file that does not have the name on the platter does nothing. |
//! | S5 | A sync that fails brings some of the dirty sectors to the platter and makes all look clean. They are shown until a crash, over a kill too, or until they are [forgotten](Fault::forgetting); no later sync writes them, unless they are written again. |
//! | S6 | Reads fail where they are told to, and nowhere else. |
//!
//! The lengths of one file change in order, as in a journal: what was cut off does not come back although the
//! file has grown again. A sector's unsynced versions and a file's unsynced lengths are remembered up to 32,
//! the newest always.
//!
//! Not modelled: several directories, subdirectories, permissions, links, sparse files (all up to the last
//! byte written or allocated counts as taken), more than 16 GiB in a file.
//!
//! # Background work
//!
//! On a [`Disk`], steps handed to [`Storage::background`](crate::storage::Storage::background) run only when
//! [`Disk::step`] or [`Disk::settle`] is called, on the caller's thread, one of those that are due by chance
//! from the seed; or when somebody joins them. The clock moves only by [`Disk::advance`], or in a join where
//! nothing else is due. Joining work that neither is due nor will be panics instead of waiting for ever.

mod chance;
mod content;
mod crash;
mod disk;
mod engine;
mod explore;
mod failing;
mod fault;
mod inode;
mod mount;
mod names;
mod shared;
mod state;
mod tasks;

pub use crate::bugs::Bug;
pub use crash::{Keep, Unit};
pub use disk::Disk;
pub use engine::{Engine, Oracle};
pub use explore::{Broken, Crash, Explore};
pub use failing::{Failing, Hold};
pub use fault::{Fault, Operation};
