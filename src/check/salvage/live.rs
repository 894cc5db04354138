//! Writers that go on with a log while it is salvaged: what was settled before, and what they took away meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::format::{MARK, Mark, is_unfinished, segment_base};
use crate::recovery::read_marks;
use crate::storage::{Fs, Storage, looked_at, open_any};

use super::SalvagedLog;
use super::image::Image;
use super::lives::{Family, Lives};

/// The log of a directory as it was before anything was read of it.
#[derive(Debug)]
pub(super) struct Watched {
    directory: PathBuf,
    /// Its files at first.
    listing: Listing,
    /// What its MARK said then, or once times had settled: all below `synced` was written, and what is not cleaned of that
    /// changes no more.
    mark: Mark,
}

/// The files of a log, how long each is, and when it was written to last.
type Listing = BTreeMap<String, Option<(u64, SystemTime)>>;

/// Times of files are no finer than this.
const TICK: Duration = Duration::from_millis(20);

/// The directories of the sources, as far as there is a log in them. What is written in the tick of a file's last change does
/// not show by its time: so where one was written to just now, it waits for the next tick. Whatever is written up to then is
/// seen by all that is read after, and whatever is written from then on shows by a time, or by a file that is new.
pub(super) fn watch(sources: &[impl AsRef<Path>], wait: &mut dyn FnMut(Duration)) -> Vec<Watched> {
    let mut watched: Vec<Watched> = Vec::new();
    for source in sources.iter().map(AsRef::as_ref) {
        // A file lies in one. Where a directory ends in `..` its parent holds no MARK that matters.
        for directory in [Some(source), source.parent()].into_iter().flatten() {
            if watched.iter().any(|known| known.directory == directory) {
                continue;
            }
            let listing = listing(directory);
            if let Some(mark) = newest(directory) {
                watched.push(Watched { directory: directory.to_path_buf(), listing, mark });
            }
        }
    }
    if watched.iter().any(|log| is_fresh(&log.listing)) {
        wait(TICK);
        for log in &mut watched {
            log.mark = newest(&log.directory).filter(|mark| mark.log_id == log.mark.log_id).unwrap_or(log.mark);
        }
    }
    watched
}

fn listing(directory: &Path) -> Listing {
    let names = Fs::new(directory).list().unwrap_or_default().into_iter();
    let names = names.filter_map(|(name, is_file)| name.into_string().ok().filter(|_| is_file));
    let own = names.filter(|name| name == MARK || is_unfinished(name) || segment_base(name).is_some());
    own.map(|name| (name.clone(), looked_at(&directory.join(name)).ok())).collect()
}

/// Whether any of the files was written to in this tick, or will be by its time, for clocks are set.
#[allow(clippy::disallowed_methods, reason = "it is the clock by which files are stamped, and reaches no log")]
fn is_fresh(listing: &Listing) -> bool {
    let now = SystemTime::now();
    let is_settled = |at: &SystemTime| now.duration_since(*at).is_ok_and(|ago| ago >= TICK);
    !listing.values().flatten().all(|(_, at)| is_settled(at))
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

    /// Where its log begins now, if somebody has gone on with it, and its files.
    fn went_on(&self) -> Option<(u64, Listing)> {
        let mark = newest(&self.directory)?;
        let now = listing(&self.directory);
        (mark.log_id == self.mark.log_id && now != self.listing).then_some((mark.front, now))
    }

    /// Takes into account that a writer went on with the log meanwhile, if one did, and says so.
    pub(super) fn allow_for(&self, images: &[Image], lives: &mut Lives) -> Option<String> {
        let ((front, now), settled) = (self.went_on()?, self.mark.synced);
        for (index, image) in (0..).zip(images).filter(|(_, image)| self.holds(image)) {
            lives.moving.insert(index);
            let name = image.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if now.get(&name) != self.listing.get(&name) {
                lives.written.insert(index);
            }
        }
        let past = lives.pasts.entry(Family::Id(self.mark.log_id)).or_default();
        past.front = past.front.max(front);
        past.settled = Some(settled.max(past.settled.unwrap_or(0)));
        // The other slot was being written when it was read.
        past.is_marked |= past.mark.is_some();
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::ControlFlow;

    use super::super::{Meter, search};
    use super::*;
    use crate::{Options, Wal};

    fn append(wal: &Wal, times: u32) {
        (0..times).for_each(|_| _ = wal.append(&[7; 1000]).unwrap().wait().unwrap());
    }

    /// What a writer wrote that was killed in the tick of the listing was told as damage, for no time showed it.
    #[test]
    fn what_is_written_in_the_tick_of_the_listing_is_seen_or_shows() {
        // In the same file, or in one that is new.
        for (times, is_new) in [(3, false), (30, true)] {
            let dir = tempfile::tempdir().unwrap();
            let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
            append(&wal, 5);
            wal.prepare().unwrap();
            // That no clock has come to yet.
            let tick = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
            let names: Vec<_> = listing(dir.path()).into_keys().collect();
            let set_back = || {
                for name in &names {
                    let file = fs::File::options().write(true).open(dir.path().join(name));
                    file.unwrap().set_modified(tick).unwrap();
                }
            };
            set_back();
            let mut waited = 0;
            let mut wait = |_| {
                append(&wal, times);
                wal.prepare().unwrap();
                set_back();
                waited += 1;
            };
            let mut meter = Meter::new(0, &|_| ControlFlow::Continue(()));
            let (found, _) = search(&[dir.path()], &mut meter, &mut wait).unwrap();
            let [log] = found.logs() else { panic!("{found:?}") };
            assert_eq!((waited, log.records, found.is_whole()), (1, u64::from(5 + times), true), "{log}");
            let says_so = |note: &String| note.contains("a writer went on");
            assert_eq!(found.notes.iter().any(says_so), is_new, "{found:?}");
        }
    }

    /// It was told as a log that misses something.
    #[test]
    fn what_is_left_in_a_file_that_a_writer_is_about_to_begin_anew_is_no_log() {
        let dir = tempfile::tempdir().unwrap();
        let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
        append(&wal, 60);
        wal.clean_before_lsn(wal.durable_lsn()).unwrap();
        let spares: Vec<_> = listing(dir.path()).into_keys().filter(|name| segment_base(name).is_some()).collect();
        // No link is left that tells the seed of the first.
        fs::remove_file(dir.path().join(&spares[1])).unwrap();
        let path = dir.path().join(&spares[0]);
        let mut bytes = fs::read(&path).unwrap();
        bytes.get_mut(..4200).unwrap().fill(0);
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        let mut wait = |_| fs::write(&path, &bytes).unwrap();
        let mut meter = Meter::new(0, &|_| ControlFlow::Continue(()));
        let (found, _) = search(&[dir.path()], &mut meter, &mut wait).unwrap();
        let [log] = found.logs() else { panic!("{found:?}") };
        assert!(log.log_id == Some(wal.log_id()) && found.is_whole(), "{found:?}");
        // Where nobody writes it may be any log's.
        assert_eq!(search(&[dir.path()], &mut meter, &mut |_| {}).unwrap().0.logs().len(), 2);
    }
}
