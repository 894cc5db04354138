//! A segmented, checksummed write-ahead log to embed.
mod bugs;
mod clean;
mod commit;
mod error;
mod format;
mod framing;
mod lsn;
mod maker;
mod mark;
mod options;
mod read;
mod readonly;
mod record;
mod recovery;
mod scan;
mod segment;
mod stats;
pub mod storage;
mod wal;
mod writer;

pub use clean::{Cleaned, Kept, Why};
pub use error::{Damage, Error, ErrorKind, Result};
pub use lsn::{BatchTime, Lsn};
pub use options::{Durability, Options, RecoveryMode};
pub use read::Records;
pub use readonly::ReadOnly;
pub use record::{Kind, Record};
pub use recovery::{Recovery, Torn};
pub use stats::Stats;
pub use wal::{At, Ticket, Wal};

pub mod receiver;

#[cfg(feature = "sim")]
pub mod sim;
