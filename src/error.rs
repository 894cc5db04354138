//! What can go wrong, as one cloneable word: a kind, where, and what it means.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lsn::{BatchTime, Lsn};

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Clones share it: every waiter of a failed sync gets the same one.
///
/// `{:?}` is what `{}` is, as it is what a `main` that returns it prints; `{:#?}` has the fields, one a line.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    path: Option<PathBuf>,
    offset: Option<u64>,
    message: String,
    source: Option<io::Error>,
    /// What poisoned the log.
    cause: Option<Error>,
    touched: Vec<String>,
}

impl Inner {
    fn new(kind: ErrorKind, operation: &'static str) -> Inner {
        let (message, touched) = (String::new(), Vec::new());
        Inner { kind, operation, path: None, offset: None, message, source: None, cause: None, touched }
    }
}

/// What sort of error it is, and so what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The system refused a call. A read that ends so has changed nothing, and an open nothing that anybody needs.
    Io,
    /// Bytes known to be durable are not there, or not what was written. Nothing was changed.
    Damage(Box<Damage>),
    /// The log does not end where it is known to be durable, and [`RecoveryMode::Strict`](crate::RecoveryMode)
    /// was asked for. Nothing was changed.
    NotStrict,
    /// Written by a newer version of this crate. Nothing was changed.
    TooNew,
    /// There is no log here, and creation was not asked for.
    NotFound,
    /// Another writer has the log.
    Locked,
    /// The disk has no room for a further segment; nothing was appended. Appends resume once there is room. Of a
    /// [`close`](crate::Wal::close): there was none for what waited for it, and that is lost.
    DiskFull,
    /// The bound on bytes on disk allows no further segment; nothing was appended. Clean, and appends resume; where that
    /// removes nothing, append a checkpoint first.
    LogFull,
    /// Too much is in memory and not yet written, and the call may not wait. Nothing was appended.
    Backpressure,
    /// A batch that no segment of the log can hold, a payload that no frame can, or a segment beyond the last LSN there is.
    /// Nothing was appended.
    TooLarge {
        /// What it takes on disk, in bytes.
        needs: u64,
        /// What there is at most.
        limit: u64,
    },
    /// The record is not yet as durable as the log was opened to make it.
    NotDurable {
        /// Asked for.
        lsn: Lsn,
        /// Everything below is.
        durable: Lsn,
    },
    /// The record was cleaned away.
    Removed {
        /// Asked for, or where a reader would have gone on.
        lsn: Lsn,
        /// The first place that is left.
        first: Lsn,
    },
    /// No record begins at this LSN.
    NoRecord(Lsn),
    /// The log was closed.
    Closed,
    /// A write or a sync failed, so what was not yet durable is *unknown*. Reading goes on; open the log
    /// again to append.
    Poisoned,
    /// An option or an argument out of its range.
    Invalid,
    /// Whoever was told of the progress asked to stop. Nothing was changed.
    Cancelled,
}

/// Where durable bytes are damaged, what was found there, and what is lost under each way out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The segment file; empty where there is none left.
    pub segment: String,
    /// The byte in it where the damage begins.
    pub offset: u64,
    /// The same place as an address in the log.
    pub lsn: Lsn,
    /// The batch time of the record there, where its header still tells.
    pub batch_time: Option<BatchTime>,
    /// What is wrong, in words.
    pub what: String,
    /// What was found there, and what was expected, in words.
    pub found: String,
    /// Everything below was durable once, by a claim that was found.
    pub durable: Lsn,
    /// The first valid frame beyond the damage.
    pub next: Option<Lsn>,
    /// The last valid record beyond it, where that can be told without reading sealed segments.
    pub last: Option<Lsn>,
    /// Bytes of frames, at most, that are lost if the damage is passed over; what is valid is not among them.
    pub bytes: u64,
    /// Records that are lost then, where that can be told: of a whole segment as many as the next link says, with what an
    /// earlier repair passed over in it.
    pub records: Option<u64>,
    /// Valid records before it in the same batch: they go with it if the log is repaired or cut.
    pub before: u64,
    /// Valid records right behind it, a part of those beyond, that go with it too if the log is repaired: of the same batch,
    /// or of one of which nothing tells that it is another.
    pub behind: u64,
    /// Valid records beyond it, lost too if the log is cut where it begins. Of a segment that another follows, as many as the
    /// next link says.
    pub beyond: u64,
}

impl Damage {
    /// Damage of which only the place is known yet.
    pub(crate) fn at(segment: &str, offset: u64, lsn: u64) -> Damage {
        Damage {
            segment: segment.to_owned(),
            offset,
            lsn: Lsn(lsn),
            batch_time: None,
            what: String::new(),
            found: String::new(),
            durable: Lsn(lsn),
            next: None,
            last: None,
            bytes: 0,
            records: None,
            before: 0,
            behind: 0,
            beyond: 0,
        }
    }

    /// Adds a segment beyond, of which its successor's link says how many records it holds.
    pub(crate) fn pass(&mut self, first: u64, records: u64) {
        self.next.get_or_insert(Lsn(first));
        self.beyond = self.beyond.saturating_add(records);
        if records > 0 {
            self.last = None;
        }
    }

    /// Sets how many bytes are lost. `only`: the size of the frame there and how many records it is, where that can be
    /// told: if it is all of the bytes, the records are known.
    pub(crate) fn lose(&mut self, bytes: u64, only: Option<(u64, u64)>) {
        self.bytes = bytes;
        self.records = only.filter(|(size, _)| *size == bytes).map(|(_, records)| records);
    }

    /// Records that are lost if the log is cut where the damage begins, where that can be told.
    pub fn cut(&self) -> Option<u64> {
        Some(self.records?.saturating_add(self.before).saturating_add(self.beyond))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { lsn, what, found, durable, next, bytes, records, beyond, .. } = self;
        write!(
            f,
            "{what}: found {found}; LSN {lsn}, all below LSN {durable} was durable; lost if it is passed over: "
        )?;
        match (records, bytes, next) {
            (Some(0), ..) => write!(f, "no record")?,
            (_, 0, _) => write!(f, "nothing that is known of")?,
            (Some(records), bytes, _) => write!(f, "{} of {bytes} bytes", plural(*records, "record"))?,
            (None, bytes, Some(next)) => write!(f, "at most {bytes} bytes, up to LSN {next}")?,
            (None, bytes, None) => write!(f, "at most {bytes} bytes, the rest")?,
        }
        write!(f, "; if the log is cut here: ")?;
        match self.cut() {
            Some(0) => write!(f, "no record")?,
            Some(records) => write!(f, "{}", plural(records, "record"))?,
            None => write!(f, "{} more", plural(beyond.saturating_add(self.before), "valid record"))?,
        }
        write!(f, "; nothing was changed")
    }
}

/// `1 record`, `2 records`.
pub(crate) fn plural(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `a`, `a and b`, `a and 2 others`.
pub(crate) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [name] => name.clone(),
        [name, other] => format!("{name} and {other}"),
        [name, others @ ..] => format!("{name} and {} others", others.len()),
    }
}

impl Error {
    /// An error of `kind` met by `operation`.
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner { message: message.into(), ..Inner::new(kind, operation) }))
    }

    /// What the system said to `operation` on `path`; a full disk becomes [`ErrorKind::DiskFull`].
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Error {
        let kind = if is_full(&source) { ErrorKind::DiskFull } else { ErrorKind::Io };
        let (path, source) = (Some(path.as_ref().to_path_buf()), Some(source));
        Error(Arc::new(Inner { path, source, ..Inner::new(kind, operation) }))
    }

    /// The error for damage to the log in `directory`. On one line, as all of them are: it goes into somebody's log file.
    /// What it is made of stands in [`Damage`], and the command line tool lays it out.
    pub(crate) fn damage(operation: &'static str, directory: &Path, damage: Damage) -> Error {
        let message = format!("damaged: {damage}; `seawall repair` lists all that is damaged, and the ways out");
        Error::damage_told(operation, directory, damage, message)
    }

    /// The same in other words.
    pub(crate) fn damage_told(operation: &'static str, directory: &Path, damage: Damage, message: String) -> Error {
        let place = match damage.segment.is_empty() {
            true => (directory.to_path_buf(), None),
            false => (directory.join(&damage.segment), Some(damage.offset)),
        };
        Error::new(ErrorKind::Damage(Box::new(damage)), operation, message).at(place.0, place.1)
    }

    /// The same error with its place: a byte of a file, or a directory.
    pub(crate) fn at(self, path: impl AsRef<Path>, offset: impl Into<Option<u64>>) -> Error {
        let (path, offset) = (Some(path.as_ref().to_path_buf()), offset.into());
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Error(Arc::new(Inner { path, offset, ..inner })),
            Err(shared) => Error(shared),
        }
    }

    /// The same error with a message, if it has none.
    pub(crate) fn noting(self, message: &str) -> Error {
        match Arc::try_unwrap(self.0) {
            Ok(inner) if inner.message.is_empty() => Error(Arc::new(Inner { message: message.to_owned(), ..inner })),
            Ok(inner) => Error(Arc::new(inner)),
            Err(shared) => Error(shared),
        }
    }

    /// The same error with what was changed before it.
    pub(crate) fn having_touched(self, touched: Vec<String>) -> Error {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Error(Arc::new(Inner { touched, ..inner })),
            Err(shared) => Error(shared),
        }
    }

    /// The error that a poisoned log gives from now on, for its first failure.
    pub(crate) fn poisoned(&self) -> Error {
        let message = format!("{self}; what was not yet durable is unknown: close the log and open it again");
        let (path, offset, cause) = (self.0.path.clone(), self.0.offset, Some(self.clone()));
        Error(Arc::new(Inner { path, offset, message, cause, ..Inner::new(ErrorKind::Poisoned, self.0.operation) }))
    }

    /// Of what a poisoned log gives, the failure that poisoned it; any other as it is.
    pub(crate) fn unpoisoned(self) -> Error {
        self.0.cause.clone().unwrap_or(self)
    }

    /// What the system said, if it is about that.
    pub(crate) fn system(&self) -> Option<&io::Error> {
        self.0.source.as_ref()
    }

    /// What sort of error it is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The file or directory it is about, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// What the log was doing, in a word or two.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The byte in [`path`](Error::path) it is about, where there is one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What a [`Repair`](crate::check::Repair) had changed before it failed, in words, a file each; of none: nothing.
    pub fn touched(&self) -> &[String] {
        &self.0.touched
    }

    /// Whether nothing is wrong but that there is no room, in memory, on the disk or within the bound, so that the same call
    /// succeeds once there is: answer 429, pause the source.
    pub fn is_backpressure(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Backpressure | ErrorKind::DiskFull | ErrorKind::LogFull)
    }
}

/// What answers whoever asked to stop.
pub(crate) fn cancelled(operation: &'static str) -> Error {
    Error::new(ErrorKind::Cancelled, operation, "cancelled; nothing was changed")
}

/// Whether the system says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if inner.kind == ErrorKind::Poisoned {
            return write!(f, "the log is poisoned: {}", inner.message);
        }
        write!(f, "{}", inner.operation)?;
        if let Some(path) = &inner.path {
            match path.as_os_str().is_empty() {
                true => f.write_str(" \"\"")?,
                false => write!(f, " {}", path.display())?,
            }
        }
        if let Some(offset) = inner.offset {
            write!(f, " byte {offset}")?;
        }
        if !inner.message.is_empty() {
            write!(f, ": {}", inner.message)?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(self, f);
        }
        let Inner { kind, operation, path, offset, message, source, cause: _, touched } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("operation", operation)
            .field("path", path)
            .field("offset", offset)
            .field("message", message)
            .field("source", source)
            .field("touched", touched)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `main` that returned one printed all of it twice, on one line.
    #[test]
    fn debug_says_what_display_says_and_has_the_fields_on_lines_of_their_own() {
        let error = Error::damage("open", Path::new("log"), Damage::at("00000000000000000000.wal", 4096, 4096));
        assert_eq!(format!("{error:?}"), error.to_string());
        let (fields, told) = (format!("{error:#?}"), format!("{:?}", error.0.message));
        assert!(fields.starts_with("Error {\n    kind: Damage(\n        Damage {\n"), "{fields}");
        assert_eq!(fields.matches(&told).count(), 1, "{fields}");
        for field in ["operation: \"open\"", "path: Some(", "offset: Some(", "source: None", "touched: []"] {
            assert!(fields.contains(&format!("\n    {field}")), "{field}: {fields}");
        }
    }
}
