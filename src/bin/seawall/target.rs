//! Where a command may make a new log.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::ensure;
use seawall::{Error, ErrorKind, check};

use crate::exit;
use crate::failure::Listing;

/// Refuses a directory that holds anything, and one that lies within what is read: that would be changed by it; or among
/// the files of another log.
pub fn refuse_used(new: &Path, sources: &[impl AsRef<Path>]) -> anyhow::Result<()> {
    let used = match fs::read_dir(new) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(refused(new, format!("cannot hold the log: {e}")).into()),
    };
    let free = "is not empty; nothing was written: name a directory that is empty or not there";
    ensure!(!used, refused(new, free.to_owned()));
    let place = resolved(new);
    for source in sources.iter().map(AsRef::as_ref) {
        let Ok(mut real) = fs::canonicalize(source) else { continue };
        // Of a log that is read file by file, too.
        if real.is_file()
            && let Some(dir) = log_around(&real)
        {
            real = dir.to_owned();
        }
        ensure!(
            !real.is_dir() || !place.starts_with(&real),
            refused(
                new,
                format!(
                    "lies within {}, which is read and not to be changed; nothing was written: name a directory beside it",
                    real.display()
                )
            )
        );
    }
    // What lies in a directory that is there: itself, or the topmost that is made for it.
    let made = place.ancestors().find(|path| path.parent().is_none_or(Path::exists)).unwrap_or(&place);
    let log = log_around(made);
    ensure!(
        log.is_none(),
        refused(
            new,
            format!(
                "lies within {}, which holds another log; nothing was written: name a directory beside it",
                log.unwrap_or(&place).display()
            )
        )
    );
    Ok(())
}

fn refused(new: &Path, why: String) -> Listing {
    Listing::at(new, format!("{} {why}", new.display()))
}

/// Makes a log. If that fails before a record is in it, what was made is taken away, so that the same command may be run
/// again.
pub fn make<T>(new: &Path, make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let was_there = new.exists();
    make().inspect_err(|error| {
        // Somebody else's is left alone.
        let is_others = matches!(exit::of_log(error).map(Error::kind), Some(ErrorKind::Locked));
        if !is_others && holds_nothing(new) {
            let files = fs::read_dir(new).into_iter().flatten().flatten();
            files.for_each(|file| _ = fs::remove_file(file.path()));
            if !was_there {
                _ = fs::remove_dir(new);
            }
        }
    })
}

/// Whether no record is in a log that was begun, be it that not even its MARK was made.
fn holds_nothing(new: &Path) -> bool {
    match check::inspect(new) {
        Ok(overview) => overview.records == 0,
        Err(e) => *e.kind() == ErrorKind::NotFound,
    }
}

/// Whether anything is in a directory.
pub fn is_used(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// The directory that a file or a directory lies in, if that holds a log. One without MARK is known by its segments.
pub fn log_around(path: &Path) -> Option<&Path> {
    parent(path).filter(|dir| holds(dir, is_logs))
}

/// The directory that a segment file lies in, if more of a log lies there.
pub fn log_of_segment(file: &Path) -> Option<&Path> {
    let is_segment = file.extension().is_some_and(|extension| extension == "wal");
    parent(file).filter(|dir| is_segment && holds(dir, |name| is_logs(name) && Some(name) != file.file_name()))
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
}

fn holds(dir: &Path, is_it: impl Fn(&OsStr) -> bool) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_it(&entry.file_name()))))
}

/// Whether a file is named as one of a log.
pub fn is_logs(name: &OsStr) -> bool {
    name == "MARK" || name.to_str().is_some_and(is_segment)
}

/// Whether a file is named as a segment, be it one that was moved aside.
fn is_segment(name: &str) -> bool {
    name.split_once(".wal").is_some_and(|(base, more)| {
        base.len() == 20 && base.bytes().all(|byte| byte.is_ascii_digit()) && (more.is_empty() || more.starts_with('.'))
    })
}

/// A place of which a name beside it can be made, in no directory of a log: a source's own, or that of its log.
pub fn beside_log(source: &Path) -> PathBuf {
    // Of `.` or nothing no name can be made.
    let named = |path: &Path| if path.file_name().is_some() { path.to_owned() } else { resolved(path) };
    let mut place = named(source);
    while let Some(dir) = log_around(&place) {
        place = named(dir);
    }
    place
}

/// Links that lead to links, at most, before a path leads nowhere.
const LINKS: usize = 40;

/// Where a path leads that need not be there: through all links, those that lead to nothing too. One of no parts leads to
/// the current directory.
pub fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).or_else(|_| std::env::current_dir());
    lead(&whole.unwrap_or_else(|_| path.to_owned()), LINKS)
}

fn lead(path: &Path, links: usize) -> PathBuf {
    let mut real = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            real.pop();
            continue;
        }
        real.push(part);
        real = fs::canonicalize(&real).unwrap_or_else(|_| match fs::read_link(&real) {
            Ok(to) if links > 0 => lead(&real.with_file_name(to), links - 1),
            _ => real.clone(),
        });
    }
    real
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use seawall::Wal;

    use super::*;

    /// Somebody else may make a log of the same name between the look at it and the making.
    #[test]
    fn what_another_writer_has_just_begun_is_not_taken_away() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("log");
        let mut other = None;
        let error = make(&dir, || {
            other = Some(Wal::open(&dir)?);
            Ok(Wal::open(&dir)?)
        });
        assert_eq!(exit::of_log(&error.unwrap_err()).map(Error::kind), Some(&ErrorKind::Locked));
        let other = other.unwrap();
        other.append(b"theirs").unwrap().wait().unwrap();
        other.close().unwrap();
        assert_eq!(check::inspect(&dir).unwrap().records, 1);
        // One's own is.
        let new = temp.path().join("new");
        let failed = make(&new, || -> anyhow::Result<()> {
            drop(Wal::open(&new)?);
            anyhow::bail!("planned")
        });
        assert!(failed.is_err() && !new.exists());
    }

    #[test]
    fn a_log_is_known_by_a_segment_of_any_life() {
        let (segment, aside) = ("00000000000000016384.wal", "00000000000000016384.wal.aside.2");
        for (name, is_ours) in [(segment, true), (aside, true), ("1.wal", false), ("00000000000000016384.walk", false)]
        {
            assert_eq!(is_segment(name), is_ours, "{name}");
        }
    }

    #[test]
    fn a_path_leads_through_links_and_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(temp.path()).unwrap();
        fs::create_dir_all(dir.join("log/sub")).unwrap();
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, dir.join(from)).unwrap();
        link("log/sub", "link");
        link("link/../none", "dangling");
        link("self", "self");
        for (path, leads) in [
            ("log/new", "log/new"),
            ("none/../log", "log"),
            ("link/new", "log/sub/new"),
            ("link/..", "log"),
            ("link/../../other", "other"),
            ("dangling", "log/none"),
            ("dangling/new", "log/none/new"),
            ("self", "self"),
        ] {
            assert_eq!(resolved(&dir.join(path)), dir.join(leads), "{path}");
        }
    }
}
