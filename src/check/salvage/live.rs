//! Writers that go on with a log while it is salvaged: what was settled before, and what they took away meanwhile.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::format::{MARK, Mark};
use crate::recovery::read_marks;
use crate::storage::{Fs, changed_at, open_any};

use super::SalvagedLog;
use super::image::Image;
use super::lives::{Family, Lives};

/// The log of a directory as it was before anything was read of it.
#[derive(Debug)]
pub(super) struct Watched {
    directory: PathBuf,
    /// What its MARK said: all below `synced` was written, and what is not cleaned of that changes no more.
    mark: Mark,
}

/// Times of files are no finer than this.
const TICK: Duration = Duration::from_millis(20);

/// The directories of the sources, as far as there is a log in them.
pub(super) fn watch(sources: &[impl AsRef<Path>]) -> Vec<Watched> {
    let mut watched: Vec<Watched> = Vec::new();
    for source in sources.iter().map(AsRef::as_ref) {
        // A file lies in one. Where a directory ends in `..` its parent holds no MARK that matters.
        for directory in [Some(source), source.parent()].into_iter().flatten() {
            if watched.iter().all(|known| known.directory != directory)
                && let Some(mark) = newest(directory)
            {
                watched.push(Watched { directory: directory.to_path_buf(), mark });
            }
        }
    }
    watched
}

/// Lets so much time go by that what is written to a file from now on shows by its time.
#[allow(clippy::disallowed_methods, reason = "it is the clock by which files are stamped, and reaches no log")]
pub(super) fn let_times_settle(images: &[Image]) {
    let now = SystemTime::now();
    if images.iter().filter_map(|image| image.changed).any(|at| now.duration_since(at).is_ok_and(|ago| ago < TICK)) {
        thread::sleep(TICK);
    }
}

fn newest(directory: &Path) -> Option<Mark> {
    // Of a pipe in its place nothing is read, which would wait for a writer.
    open_any(&directory.join(MARK)).ok()?;
    let marks = read_marks(&Fs::new(directory)).ok()?;
    marks.into_iter().max_by_key(|mark| mark.sequence)
}

impl Watched {
    /// Whether all of its directory is searched.
    pub(super) fn is_source(&self, sources: &[impl AsRef<Path>]) -> bool {
        sources.iter().any(|source| source.as_ref() == self.directory)
    }

    /// Whether any record of its log was found that is not cleaned.
    pub(super) fn is_left(&self, logs: &[SalvagedLog]) -> bool {
        logs.iter().any(|log| log.log_id == Some(self.mark.log_id) && log.records > log.cleaned)
    }

    /// Where its log begins now, if somebody has gone on with it.
    fn went_on(&self, images: &[Image]) -> Option<u64> {
        let mark = newest(&self.directory)?;
        let is_changed = |image: &Image| changed_at(&image.path).ok() != image.changed;
        let is_other = images.iter().any(|image| self.holds(image) && is_changed(image));
        (mark.log_id == self.mark.log_id && is_other).then_some(mark.front)
    }

    /// Takes into account that a writer went on with the log meanwhile, if one did, and says so.
    pub(super) fn allow_for(&self, images: &[Image], lives: &mut Lives) -> Option<String> {
        let (front, settled) = (self.went_on(images)?, self.mark.synced);
        lives.moving.extend((0..).zip(images).filter(|(_, image)| self.holds(image)).map(|(index, _)| index));
        let past = lives.pasts.entry(Family::Id(self.mark.log_id)).or_default();
        past.front = past.front.max(front);
        past.settled = Some(settled.max(past.settled.unwrap_or(0)));
        Some(format!(
            "{}: a writer went on with the log meanwhile; what it wrote from LSN {settled} on is here as far as it was \
             met, and does not count as missing",
            self.directory.display()
        ))
    }

    fn holds(&self, image: &Image) -> bool {
        image.path.parent() == Some(&self.directory)
    }

    /// Whether a file of its directory told nothing because the writer cleans there, or is beyond what was settled; or
    /// was taken away because the life before had made it ready, and the log goes on above it.
    pub(super) fn is_moving(&self, image: &Image, lives: &Lives) -> bool {
        let front = newest(&self.directory).map_or(0, |mark| mark.front);
        let past = lives.pasts.get(&Family::Id(self.mark.log_id));
        let is_other =
            |base| base < front || base >= self.mark.synced || past.is_some_and(|past| past.is_cut_off(base));
        self.holds(image) && image.base.is_some_and(is_other)
    }

    /// Whether the record at an LSN was cleaned since it was found.
    pub(super) fn has_cleaned(&self, image: &Image, lsn: u64) -> bool {
        self.holds(image) && newest(&self.directory).is_some_and(|mark| lsn < mark.front)
    }
}
