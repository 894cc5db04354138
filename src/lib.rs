//! A write-ahead log to embed: segmented, checksummed, append-only, in one directory.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("orders");
//! let wal = seawall::Wal::open(&dir)?;
//! println!("{}", wal.recovery());
//! let lsn = wal.append(b"order 17")?.wait()?; // durable when this returns
//! for record in wal.read(lsn..)? {
//!     let record = record?;
//!     println!("{}: {:?}", record.lsn, record.payload);
//! }
//! wal.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What survives
//!
//! Once a [`Ticket`] has resolved to `Ok`:
//!
//! | | killed process | operating system crash | power cut |
//! |---|---|---|---|
//! | [`Durability::Disk`], the default | yes | yes | yes |
//! | [`Durability::Os`] | yes | what was synced | what was synced |
//! | not waited for | what was written | what was synced | what was synced |
//!
//! In each case what is left is a prefix of what was appended, and never part of a batch. A sync is `fdatasync` on
//! Linux and `F_FULLFSYNC` on macOS. Not promised: hardware that lies about a sync, network file systems.
//!
//! # How to use it
//!
//! - Open: [`Wal::open`], or [`Options`]; [`Wal::recovery`] says what was found. Read-only, beside a live writer:
//!   [`Options::open_read_only`].
//! - Append: [`Wal::append`], [`Wal::append_batch`], [`Wal::append_parts`], [`Wal::try_append`], each under a batch
//!   time too by [`Wal::at`]. Then [`Ticket::wait`], or await the ticket on any executor. Waits of several threads,
//!   or of many tickets, share one sync.
//! - Bound what nobody waits for: [`Options::sync_interval`], [`Options::sync_bytes`], [`Wal::sync`].
//! - Read: [`Wal::get`], [`Wal::read`], in parallel by [`Wal::split`]; on and on, blocking or awaited:
//!   [`Wal::follow`], and from other processes [`ReadOnly::follow`]. Keep what a reader has not done: [`Wal::cursor`].
//! - Remember where you are: [`Wal::append_checkpoint`], [`Wal::checkpoint`]. Forget what is done:
//!   [`Wal::clean_before_batch_time`], [`Wal::clean_before_lsn`].
//! - Watch: [`Wal::health`], for a readiness probe too; [`Wal::stats`]; why segments stay: [`Wal::kept`].
//!   With the feature `tracing` there are events under the target `seawall`: opened, segment begun, sync slow, appends
//!   refused and resumed, cleaned, poisoned, closed. Whoever hears them must not block, nor use the log.
//!
//! After `fork` only the parent may use an open log. `DESIGN.md` in the repository argues every decision and every
//! crash point; the bytes are drawn in `src/format.rs`.

mod append;
mod bugs;
pub mod check;
mod clean;
mod commit;
mod cursor;
mod error;
mod events;
mod follow;
mod format;
mod framing;
mod health;
#[cfg(not(shuttle))]
mod latch;
mod log;
mod lsn;
mod maker;
mod mark;
mod need;
mod options;
mod pieces;
mod progress;
mod read;
mod readonly;
mod record;
mod recovery;
mod scan;
mod segment;
mod stats;
pub mod storage;
mod sync;
mod syncs;
mod tasks;
mod ticket;
mod view;
mod wakers;
mod wal;
mod writer;

pub use clean::{Cleaned, Kept, Why};
pub use cursor::Cursor;
pub use error::{Damage, Error, ErrorKind, Result};
pub use follow::Follower;
pub use health::Health;
pub use lsn::{BatchTime, Lsn};
pub use options::{Durability, Options, RecoveryMode};
pub use progress::Progress;
pub use read::Records;
pub use readonly::ReadOnly;
pub use record::{Kind, Record};
pub use recovery::{Recovery, Torn};
pub use stats::Stats;
pub use syncs::SyncTimes;
pub use ticket::Ticket;
pub use wal::{At, Wal};

pub mod receiver;

#[cfg(feature = "sim")]
pub mod sim;
