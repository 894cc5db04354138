//! Copies of logs that are open.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Copies the files of a log that may be open: one that is being made goes to another name meanwhile.
pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        match fs::copy(&path, to.join(path.file_name().unwrap())) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
}
