//! Doing what a repair plans, in an order that a crash may end anywhere, and keeping count of what was touched.

use std::cell::RefCell;

use crate::bugs::Bugs;
use crate::error::{Error, ErrorKind, Result};
use crate::format::is_unfinished;
use crate::maker::{aside_name, move_aside};
use crate::recovery::rewrite;
use crate::storage::Storage;

use super::super::tally::{Part, Tally};
use super::layout::Layout;
use super::stand::{Stand, copy_file};

/// Does all of it. An error says what was touched until then.
pub(super) fn act(storage: &dyn Storage, layout: &Layout, tally: &Tally<'_>) -> Result<()> {
    let names = Names { storage, touched: RefCell::default() };
    let bytes = names.bytes(layout)?;
    tally.expect(bytes);
    let part = tally.part(bytes);
    names.act(layout, &part).map_err(|error| error.having_touched(names.touched()))?;
    part.end(0);
    Ok(())
}

/// A storage whose errors say what was done to which file, and that remembers what was.
struct Names<'a> {
    storage: &'a dyn Storage,
    touched: RefCell<Vec<Touched>>,
}

enum Touched {
    /// Begun, if it is there, and nobody reads it.
    Begun(String),
    /// In words.
    Done(String),
}

impl Names<'_> {
    /// How many bytes are read to be written elsewhere, or again.
    fn bytes(&self, layout: &Layout) -> Result<u64> {
        let there = self.list()?;
        let mut bytes: u64 = layout.unproven.iter().map(|(_, place, from)| place.limit - from).sum();
        for stand in &layout.stands {
            bytes += stand.copied();
            if there.contains(&stand.name) {
                let file = self.io("open", &stand.name, self.storage.open(&stand.name, false))?;
                bytes += self.io("open", &stand.name, file.len())?;
            }
        }
        Ok(bytes)
    }

    fn act(&self, layout: &Layout, part: &Part<'_, '_>) -> Result<()> {
        let (Layout { stands, unproven, below, next, others, .. }, storage) = (layout, self.storage);
        let told = |bytes| _ = part.add(bytes);
        self.move_aside(&layout.unfinished)?;
        for name in self.list()?.iter().filter(|name| is_unfinished(name) && !others.contains(name)) {
            self.io("remove", name, storage.remove(name))?;
            self.done(format!("{name}, which was unfinished, removed"));
        }
        for stand in stands {
            if self.list()?.contains(&stand.name) {
                let aside = self.io("list", "", aside_name(storage, &stand.name))?;
                self.begin(stand);
                copy_file(storage, &stand.name, &stand.unfinished, told)?;
                self.rename(&stand.unfinished, &aside, format!("{} copied to {aside}", stand.name))?;
            }
            self.begin(stand);
            stand.write(storage, told)?;
        }
        // Crash: what is written over is gone, so its copy is durable before.
        self.sync()?;
        for stand in stands.iter().rev() {
            self.rename(&stand.unfinished, &stand.name, format!("{} written anew", stand.name))?;
            if stand.lay_elsewhere().is_some() {
                // Crash: no link names the newest, so nothing is written over what was swapped with it until it is back.
                self.sync()?;
            }
        }
        for (name, place, from) in unproven {
            // Crash: a sync that failed may have left it in the cache alone, and the next link claims that it is durable.
            let file = self.io("open", name, storage.open(name, true))?;
            self.done(format!("{name} written again as it was"));
            if !self.io("sync", name, rewrite(&*file, place, *from, Bugs::default()))? {
                let message = "it holds other bytes than when the repair was planned; repair again";
                return Err(Error::new(ErrorKind::Io, "repair", message).at(storage.path().join(name), *from));
            }
            told(place.limit - from);
        }
        if !below.is_empty() {
            // Crash: the only header that tells whose log this is may be in one of them, until the names above are durable.
            self.sync()?;
        }
        self.move_aside(below)?;
        // Crash: below the front of the next link all counts as cleaned, and that leads down through what was just written.
        self.sync()?;
        self.begin(next);
        next.write(storage, told)?;
        self.rename(&next.unfinished, &next.name, format!("{} made, in which the log goes on", next.name))?;
        // Crash: the names of the others say which LSNs are spent, until the next segment's does.
        self.sync()?;
        self.move_aside(others)?;
        self.sync()
    }

    fn io<T>(&self, operation: &'static str, name: &str, done: std::io::Result<T>) -> Result<T> {
        done.map_err(|e| Error::io(operation, self.storage.path().join(name), e))
    }

    fn list(&self) -> Result<Vec<String>> {
        let names = self.io("list", "", self.storage.list())?;
        Ok(names.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect())
    }

    fn rename(&self, from: &str, to: &str, what: String) -> Result<()> {
        self.io("rename", from, self.storage.rename(from, to))?;
        self.touched.borrow_mut().retain(|touched| !matches!(touched, Touched::Begun(name) if name == from));
        self.done(what);
        Ok(())
    }

    fn move_aside(&self, names: &[String]) -> Result<()> {
        for name in names {
            let aside = self.io("move aside", name, move_aside(self.storage, name))?;
            self.done(format!("{name} moved to {aside}"));
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.io("sync", "", self.storage.sync_dir())
    }

    fn begin(&self, stand: &Stand) {
        self.touched.borrow_mut().push(Touched::Begun(stand.unfinished.clone()));
    }

    fn done(&self, what: String) {
        self.touched.borrow_mut().push(Touched::Done(what));
    }

    /// All that was touched, in order.
    fn touched(&self) -> Vec<String> {
        let there = self.list();
        let left = |name: &String| there.as_ref().is_ok_and(|names| names.contains(name));
        let told = |touched: Touched| match touched {
            Touched::Done(what) => Some(what),
            Touched::Begun(name) => match there {
                Err(_) => Some(format!("{name}, which opening does not read, begun")),
                Ok(_) => left(&name).then(|| format!("{name}, which opening does not read, left unfinished")),
            },
        };
        self.touched.take().into_iter().filter_map(told).collect()
    }
}
