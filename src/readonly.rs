//! Reading a log that another process may be writing. Locks nothing, maps nothing, changes nothing.

use std::collections::BTreeMap;
use std::ops::{Range, RangeBounds};
use std::sync::Arc;

use crate::error::Result;
use crate::follow::Follower;
use crate::format::Cursor;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::read::{Records, Segments, checkpoint, get, split};
use crate::record::Record;
use crate::recovery::Recovery;
use crate::storage::Storage;
use crate::view::{Looked, View};

/// A log opened for reading, as it was at that moment: what is known to be durable, and nothing more.
///
/// [`look`](ReadOnly::look) again to see more, or [`follow`](ReadOnly::follow) it. Any number may be open beside a live
/// writer; they neither lock nor write nor map.
/// A reader that cleaning overtakes is told [`ErrorKind::Removed`](crate::ErrorKind::Removed). It holds a descriptor for
/// each segment, so that what is cleaned away meanwhile may take its room on the disk until the reader is dropped.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let wal = seawall::Wal::open(dir)?;
/// wal.append(b"order 17")?.wait()?;
/// let view = seawall::Options::new().open_read_only(dir)?;
/// for record in view.read(..)? {
///     let record = record?;
///     println!("{}: {:?}", record.lsn, record.payload);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReadOnly {
    view: Arc<View>,
    cursors: Vec<Cursor>,
    recovery: Recovery,
}

impl ReadOnly {
    pub(crate) fn with(storage: Arc<dyn Storage>, options: Options) -> Result<ReadOnly> {
        let begun = storage.now();
        let mut found = Looked::at(&storage, options.recovery_mode, options.bugs)?;
        let (cursors, mut recovery) = (std::mem::take(&mut found.cursors), std::mem::take(&mut found.report));
        recovery.elapsed = storage.now().saturating_sub(begun);
        let view = View::new(storage, found, options.recovery_mode)?;
        Ok(ReadOnly { view: Arc::new(view), cursors, recovery })
    }

    /// What opening found. Its records are counted up to the end of the log, shown or not. Beside a writer a torn tail
    /// may be what that was just writing.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Looks again: what became durable since is shown from now on. Following does so by itself.
    ///
    /// # Errors
    /// `Damage`, `TooNew`, `NotStrict`, `Io`; `NotFound` if the log is gone, be it that another is in its place.
    pub fn look(&self) -> Result<Lsn> {
        self.view.look().map(Lsn)
    }

    /// Everything below was durable when it was looked last. Never lower than where the first segment begins: before
    /// the writer's first commit that may be above what the writer says, with nothing in between.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.view.shown())
    }

    /// The log's identity.
    pub fn log_id(&self) -> [u8; 16] {
        self.view.log_id
    }

    /// The record at `lsn`.
    ///
    /// # Errors
    /// As [`Wal::get`](crate::Wal::get).
    pub fn get(&self, lsn: Lsn) -> Result<Record> {
        get(&self.view, lsn)
    }

    /// The records of a range, in order.
    ///
    /// # Errors
    /// As [`Wal::read`](crate::Wal::read).
    pub fn read(&self, range: impl RangeBounds<Lsn>) -> Result<Records<'_>> {
        Records::new(&self.view, range)
    }

    /// Ranges that together are all that may be read, to be read in parallel: see [`Wal::split`](crate::Wal::split).
    pub fn split(&self, parts: usize) -> Vec<Range<Lsn>> {
        split(&self.view, parts)
    }

    /// Reads on from `from` as records become durable; see [`Wal::follow`](crate::Wal::follow). Looks every 5 ms while it
    /// waits, from a thread of its own; the writer notices nothing of it. So it does after a future of
    /// [`next`](Follower::next) was dropped, until there is something to wake it for or the follower is dropped too: who
    /// makes a future for each poll is woken. If the log is gone, it says `NotFound`.
    pub fn follow(&self, from: Lsn) -> Follower<'_> {
        Follower::new(&self.view, from)
    }

    /// All cursors, by name, and where they stood when this was opened, as far as that was written.
    pub fn cursors(&self) -> BTreeMap<String, Lsn> {
        self.cursors.iter().map(|cursor| (cursor.name.clone(), Lsn(cursor.lsn))).collect()
    }

    /// The last durable checkpoint.
    ///
    /// # Errors
    /// As [`Wal::checkpoint`](crate::Wal::checkpoint).
    pub fn checkpoint(&self) -> Result<Option<Record>> {
        match self.view.checkpoint() {
            0 => Ok(None),
            lsn => checkpoint(&self.view, Lsn(lsn)).map(Some),
        }
    }
}
