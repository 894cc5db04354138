//! What is checked: the log in a directory, or one segment file on its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bugs::Bugs;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BadHeader, Header, segment_base};
use crate::recovery::{Survey, beside, find, missing, own_header, survey_beside};
use crate::storage::{Fs, Storage, not_found, read_head};

use super::plan::Plan;

/// A log, or a segment file by its name in the storage.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) storage: Arc<dyn Storage>,
    file: Option<String>,
}

impl Subject {
    /// What lies at `path`.
    pub(super) fn at(path: &Path) -> Subject {
        let (parent, name) = (path.parent(), path.file_name().map(|name| name.to_string_lossy().into_owned()));
        match (parent, name) {
            (Some(parent), Some(name)) if path.is_file() => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                Subject { storage: Arc::new(Fs::new(parent)), file: Some(name) }
            }
            _ => Subject::log(Arc::new(Fs::new(path))),
        }
    }

    pub(super) fn log(storage: Arc<dyn Storage>) -> Subject {
        Subject { storage, file: None }
    }

    /// Whether it is one file, of whose log nothing is known.
    pub(super) fn is_lone(&self) -> bool {
        self.file.is_some()
    }

    /// The path of a segment, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.storage.path().join(name)
    }

    /// What it is made of. Looks again where a writer took a file away meanwhile.
    pub(super) fn plan(&self) -> Result<Plan> {
        if let Some(name) = &self.file {
            return self.lone(name);
        }
        let storage = &*self.storage;
        let plan = match beside(storage, || Plan::read(storage)) {
            Err(e) if missing(&e) => return Err(not_found(storage)),
            plan => plan?,
        };
        if plan.survey.log_id.is_none() && plan.survey.segments.is_empty() {
            return Err(not_found(storage));
        }
        Ok(plan)
    }

    /// All below is cleaned now, as far as the directory says.
    pub(super) fn front(&self) -> Result<u64> {
        if self.is_lone() { Ok(0) } else { survey_beside(&*self.storage).map(|survey| survey.front) }
    }

    /// The highest durable claim of the directory now.
    pub(super) fn claim(&self) -> Result<Option<u64>> {
        if self.is_lone() { Ok(None) } else { survey_beside(&*self.storage).map(|survey| Some(survey.claim())) }
    }

    /// The last record below the first segment that is left now, by its link.
    pub(super) fn last_cleaned(&self) -> Result<Option<u64>> {
        let survey = survey_beside(&*self.storage)?;
        let left = survey.segments.iter().find(|found| found.base >= survey.front && found.link.is_some());
        Ok(left.and_then(|found| found.link.as_ref()).map(|(link, _)| link.last_record))
    }

    /// One file as a log of its own: its header says where it lies, whatever its name is, and the name does if the
    /// header is damaged.
    fn lone(&self, name: &str) -> Result<Plan> {
        let path = self.path(name);
        let file = self.storage.open(name, false).map_err(|e| Error::io("open", &path, e))?;
        let head = read_head(&*file).map_err(|e| Error::io("read", &path, e))?;
        let decoded = Header::decode(&head);
        let named = || name.split_once('.').and_then(|(base, _)| segment_base(&format!("{base}.wal")));
        let header = own_header(&head, named()).map(|(header, _)| header);
        // Of a newer version's the name is not asked: `find` refuses it.
        let newer = (decoded == Err(BadHeader::TooNew)).then_some(0);
        let Some(base) = header.map(|header| header.base).or(newer).or_else(named) else {
            let message = "not a segment: neither its header nor its name says where it lies";
            return Err(Error::new(ErrorKind::NotFound, "open", message).at(path, 0));
        };
        let found = find(&*self.storage, name.to_owned(), base, false, Bugs::default())?;
        let notes = vec![format!("{name}: read on its own; whether more lay beyond, only the whole log tells")];
        let log_id = header.map(|header| header.log_id);
        let survey = Survey { log_id, front: base, segments: vec![found], notes, ..Survey::default() };
        Ok(Plan { tip: Some(0), ..Plan::of(&*self.storage, survey, &HashMap::new())? })
    }
}
