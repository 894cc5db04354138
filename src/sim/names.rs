//! The directory of the disk: names that are shown, names that the platter holds, changes in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chance::Chance;

/// A file, whatever names it has.
pub(super) type FileId = u64;

type Name = Arc<str>;

/// A change on its way to the platter. It speaks of one file: on a platter where the name belongs to another
/// file, or to none, a rename and a removal do nothing.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create { name: Name, file: FileId },
    Rename { from: Name, to: Name, file: FileId },
    Remove { name: Name, file: FileId },
}

impl Change {
    fn file(&self) -> FileId {
        match *self {
            Change::Create { file, .. } | Change::Rename { file, .. } | Change::Remove { file, .. } => file,
        }
    }

    fn apply(&self, names: &mut BTreeMap<Name, FileId>) {
        match self {
            Change::Create { name, file } => {
                names.insert(Arc::clone(name), *file);
            }
            Change::Rename { from, to, file } => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                    names.insert(Arc::clone(to), *file);
                }
            }
            Change::Remove { name, file } => {
                if names.get(name) == Some(file) {
                    names.remove(name);
                }
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    shown: BTreeMap<Name, FileId>,
    platter: BTreeMap<Name, FileId>,
    changes: Vec<Change>,
}

impl Names {
    pub(super) fn shown(&self) -> impl Iterator<Item = &str> {
        self.shown.keys().map(|name| &**name)
    }

    pub(super) fn find(&self, name: &str) -> Option<FileId> {
        self.shown.get(name).copied()
    }

    pub(super) fn is_shown(&self, file: FileId) -> bool {
        self.shown.values().any(|&id| id == file)
    }

    /// Whether a power cut may leave a name to `file`.
    pub(super) fn may_keep(&self, file: FileId) -> bool {
        self.platter.values().any(|&id| id == file)
            || self.changes.iter().any(|change| matches!(change, Change::Create { file: id, .. } if *id == file))
    }

    /// The name of `file`: as shown, else as it may survive.
    pub(super) fn name_of(&self, file: FileId) -> Option<&str> {
        let shown = self.shown.iter().chain(&self.platter).find(|(_, id)| **id == file);
        shown.map(|(name, _)| &**name).or_else(|| {
            self.changes.iter().find_map(|change| match change {
                Change::Create { name, file: id } if *id == file => Some(&**name),
                _ => None,
            })
        })
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.shown);
        self.changes.push(change);
    }

    pub(super) fn create(&mut self, name: &str, file: FileId) {
        self.change(Change::Create { name: name.into(), file });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, file: FileId) {
        if from != to {
            self.change(Change::Rename { from: from.into(), to: to.into(), file });
        }
    }

    pub(super) fn remove(&mut self, name: &str, file: FileId) {
        self.change(Change::Remove { name: name.into(), file });
    }

    pub(super) fn sync(&mut self) {
        self.changes.clear();
        self.platter = self.shown.clone();
    }

    /// A sync that fails: the changes up to some point reach the platter, the others are still on their way.
    pub(super) fn fail_sync(&mut self, chance: &mut Chance) {
        let through = chance.below(self.changes.len() + 1);
        for change in self.changes.drain(..through) {
            change.apply(&mut self.platter);
        }
    }

    /// A power cut: the changes for which `keep` says so have reached the platter.
    pub(super) fn crash(&mut self, mut keep: impl FnMut(&Change) -> bool) {
        for change in std::mem::take(&mut self.changes) {
            if keep(&change) {
                change.apply(&mut self.platter);
            }
        }
        self.shown = self.platter.clone();
    }

    /// By hand: makes `name` the one name of `file`, durably; without a file, nobody's.
    pub(super) fn set_durable(&mut self, name: &str, file: Option<FileId>) {
        let gone = [self.find(name), self.platter.get(name).copied(), file];
        self.changes.retain(|change| !gone.contains(&Some(change.file())));
        for names in [&mut self.shown, &mut self.platter] {
            names.remove(name);
            if let Some(file) = file {
                names.retain(|_, id| *id != file);
                names.insert(name.into(), file);
            }
        }
    }
}
