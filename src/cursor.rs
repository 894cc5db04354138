//! Named cursors: how far readers are done, durable in links and notes, and never passed by cleaning.

use std::sync::Arc;

use crate::bugs::Bug;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, BLOCK, CURSOR_NAME, MAX_CURSORS};
use crate::framing::Framing;
use crate::log::Log;
use crate::lsn::Lsn;
use crate::read::Segments;

/// A named place that cleaning does not pass. From [`Wal::cursor`](crate::Wal::cursor).
///
/// A reader keeps one below what it has still to do, and releases what it has done. It is part of the log and outlives
/// the process; dropping this handle removes nothing. Handles go by the name: one that is left of a cursor that was removed
/// is of the next that is made under it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let wal = seawall::Wal::open(dir.path())?;
/// # let last = wal.append(b"order 17")?.wait()?;
/// let billing = wal.cursor("billing")?;
/// for record in wal.read(billing.lsn()?..)? {
///     let record = record?;
///     println!("billed {:?}", record.payload);
///     billing.release(record.end())?;
/// }
/// # assert_eq!(billing.lsn()?, wal.get(last)?.end());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cursor {
    log: Arc<Log>,
    name: String,
}

impl Cursor {
    /// See [`Wal::cursor`](crate::Wal::cursor).
    pub(crate) fn open(log: &Arc<Log>, name: &str) -> Result<Cursor> {
        log.check()?;
        check_name(name)?;
        let cursor = Cursor { log: Arc::clone(log), name: name.to_owned() };
        let writer = &log.writer;
        // A clean under way may be about to take what the cursor is to keep.
        let hush = writer.commit.hush();
        let one = (!writer.options.bugs.has(Bug::CursorBesideClean)).then(|| writer.cleaning.lock());
        let made = {
            let framing = writer.framing.lock();
            framing.cursor(name).map(|_| framing.cursor_made)
        };
        if let Some(made) = made {
            drop((one, hush));
            // Another thread may just be making it.
            return if made > 0 { writer.wait(made).map(|_| cursor) } else { Ok(cursor) };
        }
        let framed = writer.note(name, |framing| {
            // Crash: one whose removal is not noted yet comes back, and a link has room for no more.
            let comes_back = |owed: &&String| **owed != name && framing.cursor(owed).is_none();
            let removed = framing.owed.iter().filter(comes_back).count();
            if framing.cursors.len() + removed >= MAX_CURSORS {
                let noted =
                    if removed > 0 { "; one that was removed counts until there is room to note it" } else { "" };
                let message = format!("there are {MAX_CURSORS} cursors already; remove one that nobody needs{noted}");
                return Err(Error::new(ErrorKind::Invalid, "make a cursor", message));
            }
            // 0 in a note removes; no record begins in a segment's first block.
            let lsn = log.first() + u64::from(BLOCK);
            framing.cursors.push(format::Cursor { lsn, name: name.to_owned() });
            Ok(lsn)
        });
        // Whoever asks again is not to take it for one that was noted.
        let framed = framed.inspect_err(|_| writer.framing.lock().cursors.retain(|cursor| cursor.name != name))?;
        writer.framing.lock().cursor_made = framed.end;
        drop((one, hush));
        if !writer.options.bugs.has(Bug::CursorNotSynced) {
            writer.wait(framed.end)?;
        }
        Ok(cursor)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands: everything below was released. Where to go on reading.
    ///
    /// # Errors
    /// `Invalid` if there is none of its name any more.
    pub fn lsn(&self) -> Result<Lsn> {
        self.find(&self.log.writer.framing.lock()).map(Lsn)
    }

    /// Says that everything below `lsn` is done, as [`Record::end`](crate::Record::end) of the last record that is.
    ///
    /// Counts at once: the next clean may take it. It is durable with the next commit, or with that clean; a crash
    /// before either sets the cursor back to where it stood. A full disk or log has no room to note it: there it is
    /// durable with that clean, or with the next segment, and closing before either sets the cursor back. A lower `lsn`
    /// changes nothing.
    ///
    /// # Errors
    /// `NotDurable` above what readers may see; `Invalid` if there is none of its name any more; `Poisoned`, `Closed`. That it
    /// could not be noted yet is none.
    pub fn release(&self, lsn: Lsn) -> Result<()> {
        self.log.check()?;
        let durable = self.log.shown();
        if lsn.0 > durable {
            let kind = ErrorKind::NotDurable { lsn, durable: Lsn(durable) };
            let message = format!("cursor {}: LSN {lsn} is not durable, all below {durable} is", self.name);
            return Err(Error::new(kind, "release", message));
        }
        {
            let mut framing = self.log.writer.framing.lock();
            if self.find(&framing)? >= lsn.0 {
                return Ok(());
            }
            framing.cursors.iter_mut().filter(|cursor| cursor.name == self.name).for_each(|cursor| cursor.lsn = lsn.0);
            framing.owed.insert(self.name.clone());
        }
        // Under the lock again: another thread may have released more meanwhile, and notes only go up.
        self.noted(|framing| self.find(framing))
    }

    /// Removes it: nothing is kept for it any more.
    ///
    /// Counts at once, as a release does.
    ///
    /// # Errors
    /// `Invalid` if there is none of its name any more; `Poisoned`, `Closed`.
    pub fn remove(self) -> Result<()> {
        self.log.check()?;
        {
            let mut framing = self.log.writer.framing.lock();
            self.find(&framing)?;
            framing.cursors.retain(|cursor| cursor.name != self.name);
            framing.owed.insert(self.name.clone());
        }
        // Unless it was made again meanwhile.
        self.noted(|framing| Ok(self.find(framing).unwrap_or(0)))
    }

    fn find(&self, framing: &Framing) -> Result<u64> {
        framing.cursor(&self.name).ok_or_else(|| {
            let message = format!("there is no cursor {}: it was removed", self.name);
            Error::new(ErrorKind::Invalid, "use a cursor", message)
        })
    }

    /// Has the note framed that is owed. It counts already, so that nothing but the end of the log is an error: without room
    /// for the note, but for what is held in reserve, the next link tells, or the next clean or the closing finds room.
    fn noted(&self, lsn: impl FnOnce(&mut Framing) -> Result<u64>) -> Result<()> {
        let writer = &self.log.writer;
        // Crash: before the note is durable the cursor comes back where it stood. What a clean took meanwhile is below
        // the front, which is durable and which recovery raises the cursor to.
        match writer.note(&self.name, lsn) {
            Err(e) if matches!(e.kind(), ErrorKind::Poisoned | ErrorKind::Closed | ErrorKind::Invalid) => Err(e),
            _ => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if CURSOR_NAME.contains(&name.len()) {
        return Ok(());
    }
    let (least, most) = CURSOR_NAME.into_inner();
    let message = format!("a cursor's name has {least} to {most} bytes, this one has {}", name.len());
    Err(Error::new(ErrorKind::Invalid, "make a cursor", message))
}
