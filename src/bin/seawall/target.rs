//! Where a command may make a new log.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, ensure};

/// Refuses a directory that holds anything, and one that lies within what is read: that would be changed by it.
pub fn refuse_used(new: &Path, sources: &[impl AsRef<Path>]) -> anyhow::Result<()> {
    let used = match fs::read_dir(new) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(e).with_context(|| format!("{} cannot hold the log", new.display())),
    };
    ensure!(!used, "{} is not empty; nothing was written: name a directory that is empty or not there", new.display());
    let place = resolved(new);
    for source in sources.iter().map(AsRef::as_ref) {
        let Ok(mut real) = fs::canonicalize(source) else { continue };
        // Of a log that is read file by file, too.
        if real.parent().is_some_and(|dir| real.is_file() && dir.join("MARK").exists()) {
            real.pop();
        }
        ensure!(
            !real.is_dir() || !place.starts_with(&real),
            "{} lies within {}, which is read and not to be changed; nothing was written: name a directory beside it",
            new.display(),
            real.display()
        );
    }
    Ok(())
}

/// Where a path leads that need not be there: through all links that are. One of no parts leads to the current directory.
pub fn resolved(path: &Path) -> PathBuf {
    let mut real = PathBuf::new();
    let whole = std::path::absolute(path).or_else(|_| std::env::current_dir());
    for part in whole.unwrap_or_else(|_| path.to_owned()).components() {
        if part == Component::ParentDir {
            real.pop();
        } else {
            real.push(part);
            real = fs::canonicalize(&real).unwrap_or(real);
        }
    }
    real
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_links_and_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(temp.path()).unwrap();
        fs::create_dir_all(dir.join("log/sub")).unwrap();
        std::os::unix::fs::symlink(dir.join("log/sub"), dir.join("link")).unwrap();
        for (path, leads) in [
            ("log/new", "log/new"),
            ("none/../log", "log"),
            ("link/new", "log/sub/new"),
            ("link/..", "log"),
            ("link/../../other", "other"),
        ] {
            assert_eq!(resolved(&dir.join(path)), dir.join(leads), "{path}");
        }
    }
}
