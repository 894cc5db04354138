//! What is said of a command that failed: what is wrong, where, what is lost, what was touched, and what to do next.

use std::fmt::{self, Display, Formatter};
use std::io::ErrorKind as Kind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::Utf8Chunk;

use seawall::{Damage, Error, ErrorKind, Lsn, check};
use serde_json::{Value, json};

use crate::exit;
use crate::inspect::directory;
use crate::out::{self, Plain, counted};
use crate::target::{beside_log, is_logs, is_used, log_around, log_of_segment};

/// The help of `--json` for what fails.
pub const JSON: &str = "\
With --json a command that fails writes a last line to standard output, beside what it says on standard error:
  error             kind (a word: damage, not-found, locked, too-new, disk-full, io .. or other), text,
                    path and offset (the byte in it; each null where there is none), touched (in
                    words), next (commands to choose from, or a step in words; may be empty), and
                    damage: null, or segment,
                    offset, lsn, batch_time, what, found (both in words), durable (all below that LSN
                    was), next and last (LSNs of what is valid beyond), lost_bytes (at most) and
                    lost_records if it is passed over, before (valid records before it in the same
                    batch), behind (those right after it that may be of its batch), beyond (all valid
                    records after it), lost_records_if_cut; null where it is not known
Of `seawall receive` it is a line with the event `failed`. Arguments that no command takes are told on standard error
alone. Further fields and words may come.";

/// What a command is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The log, or a file of one.
    pub path: &'a Path,
    /// What there is to say of what it changed, if it fails midway and the log does not say that itself.
    pub touched: &'static str,
    /// The same of what fails beside the log, such as standard output: it may have done all else by then.
    pub done: &'static str,
    /// A log that it makes.
    pub new: Option<&'a Path>,
    pub json: bool,
}

impl<'a> About<'a> {
    /// A command that changes nothing there.
    pub fn reading(path: &'a Path, json: bool) -> About<'a> {
        About { path, touched: NOTHING, done: NOTHING, new: None, json }
    }

    /// The log that it has begun to make, if anything is left of it.
    fn begun(&self) -> Option<&Path> {
        self.new.filter(|new| is_used(new))
    }

    /// What was changed by a command that failed midway.
    fn changed(&self, error: &Error) -> String {
        match (error.touched(), self.begun()) {
            ([], None) => self.touched.to_owned(),
            ([], Some(new)) => format!("nothing that was read; {} holds a part", new.display()),
            (touched, _) => touched.join("; "),
        }
    }

    /// What was changed by a command that failed beside the log.
    fn changed_beside(&self) -> String {
        match self.begun() {
            None => self.done.to_owned(),
            Some(new) => format!("nothing that was read; {} holds what was written", new.display()),
        }
    }
}

/// Commands to choose from, on a line.
pub fn next(ways: &[String]) -> String {
    format!("next     {}", ways.join("   |   "))
}

/// The commands that lead on from damage, met at `at`.
pub fn ways(path: &Path, at: Option<Lsn>) -> Vec<String> {
    let dir = shell(path);
    if path.is_file() {
        // The whole log tells more, and can be brought back in its place.
        let verify = log_of_segment(path).map(|dir| format!("seawall verify {}", shell(dir)));
        return verify.into_iter().chain([salvage(&[path], None)]).collect();
    }
    let look = at.map_or_else(|| format!("seawall verify {dir}"), |lsn| format!("seawall inspect {dir} --at {lsn}"));
    vec![look, format!("seawall repair --dry-run {dir}")]
}

/// Says on standard error what leads on from damage that was passed over, if any was.
pub fn tell_ways(path: &Path, damaged: Option<Lsn>) {
    if damaged.is_some() {
        out::warn(next(&ways(path, damaged)));
    }
}

/// The command that writes what can still be read into a new log.
pub fn salvage(sources: &[impl AsRef<Path>], log: Option<&str>) -> String {
    let beside = beside_log(sources.first().map_or(Path::new("log"), AsRef::as_ref));
    let name = |n: u32| {
        let mut name = PathBuf::from(beside.components().as_path()).into_os_string();
        // Each log has its own.
        if let Some(log) = log {
            name.push(format!(".{}", log.chars().take(16).collect::<String>()));
        }
        name.push(if n == 0 { ".new".to_owned() } else { format!(".new.{n}") });
        PathBuf::from(name)
    };
    let new = (0..).map(name).find(|new| !new.exists()).unwrap_or_default();
    let sources: Vec<String> = sources.iter().map(|source| shell(source.as_ref())).collect();
    let log = log.map_or_else(String::new, |log| format!(" --log {log}"));
    format!("seawall salvage {}{log} --to {}", sources.join(" "), shell(&new))
}

/// A path as a shell takes it.
pub fn shell(path: &Path) -> String {
    let (text, bytes) = (path.to_string_lossy(), path.as_os_str().as_bytes());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    let dash = if bytes.starts_with(b"-") { "./" } else { "" };
    if path.to_str().is_none() || text.contains(char::is_control) {
        let byte = |byte: &u8| format!("\\x{byte:02x}");
        let escape = |chunk: Utf8Chunk<'_>| -> String {
            chunk.valid().chars().map(escaped).chain(chunk.invalid().iter().map(byte)).collect()
        };
        return format!("$'{dash}{}'", bytes.utf8_chunks().map(escape).collect::<String>());
    }
    match !text.is_empty() && text.chars().all(plain) {
        true => format!("{dash}{text}"),
        false => format!("'{dash}{}'", text.replace('\'', "'\\''")),
    }
}

/// A character within `$'..'`.
fn escaped(c: char) -> String {
    match c {
        '\'' | '\\' => format!("\\{c}"),
        _ if c.is_control() => c.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
        _ => c.to_string(),
    }
}

/// What is refused before anything is changed, or where more is to say than a line holds.
#[derive(Debug)]
pub struct Listing {
    what: String,
    below: Vec<String>,
    /// What it is about, and what leads on.
    path: Option<PathBuf>,
    next: Vec<String>,
}

impl Listing {
    /// An error of one line, with those of `below` under it.
    pub fn new(what: String, below: impl IntoIterator<Item = String>) -> Listing {
        Listing { what, below: below.into_iter().collect(), path: None, next: Vec::new() }
    }

    /// An error of one line about a file or a directory.
    pub fn at(path: &Path, what: String) -> Listing {
        Listing { path: Some(path.to_owned()), ..Listing::new(what, None) }
    }

    /// The same, with what leads on.
    pub fn with_next(self, next: Vec<String>) -> Listing {
        Listing { next, ..self }
    }

    fn of(error: &anyhow::Error) -> Option<&Listing> {
        error.downcast_ref()
    }

    /// The lines below the first of an error.
    fn below(error: &anyhow::Error) -> &[String] {
        Listing::of(error).map_or(&[], |listing| &listing.below)
    }
}

impl Display for Listing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Listing {}

/// What went wrong, for people: a line, and a block below it if there is more to say.
pub fn text(error: &anyhow::Error, about: Option<About<'_>>) -> String {
    let mut text = format!("error: {}", Plain(headline(error)));
    Listing::below(error).iter().for_each(|line| text.push_str(&format!("\n  {}", Plain(line))));
    for (label, value) in about.map(|about| Told::of(error, about).rows()).unwrap_or_default() {
        text.push_str(&format!("\n  {label:<8} {}", Plain(value)));
    }
    text
}

/// The same for programs.
pub fn object(error: &anyhow::Error, about: About<'_>) -> Value {
    let mut text = headline(error);
    Listing::below(error).iter().for_each(|line| text.push_str(&format!("\n  {line}")));
    let Told { error, path, offset, touched, next } = Told::of(error, about);
    json!({
        "kind": error.map_or("other", |error| word(error.kind())), "text": text,
        "path": path.map(|path| path.display().to_string()), "offset": offset, "touched": touched, "next": next,
        "damage": error.and_then(damage).map(facts),
    })
}

/// What went wrong, on a line.
fn headline(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let log = exit::of_log(error);
    if let Some(path) = log.filter(|log| is_file(log)).and_then(Error::path) {
        return format!("{} is no directory, and a log is one", path.display());
    }
    for cause in error.chain() {
        let cause = match log.and_then(damage) {
            // The rest stands in the block.
            Some(damage) if log.is_some_and(|log| cause.to_string() == log.to_string()) => {
                format!("damaged: {}", damage.what)
            }
            _ => cause.to_string(),
        };
        // Errors of the log and the client say their cause themselves.
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

/// What the system said, if it is about that.
fn system(error: &Error) -> Option<&std::io::Error> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref())
}

/// Whether a file was named where a directory is meant.
fn is_file(error: &Error) -> bool {
    system(error).is_some_and(|e| e.kind() == Kind::NotADirectory)
}

fn damage(error: &Error) -> Option<&Damage> {
    match error.kind() {
        ErrorKind::Damage(damage) => Some(&**damage),
        _ => None,
    }
}

fn facts(damage: &Damage) -> Value {
    let lsn = |lsn: Option<Lsn>| lsn.map(|lsn| lsn.0);
    json!({
        "segment": damage.segment, "offset": damage.offset, "lsn": damage.lsn.0,
        "batch_time": damage.batch_time.map(|time| time.0), "what": damage.what, "found": damage.found,
        "durable": damage.durable.0, "next": lsn(damage.next), "last": lsn(damage.last), "lost_bytes": damage.bytes,
        "lost_records": damage.records, "before": damage.before, "behind": damage.behind,
        "beyond": damage.beyond,
        "lost_records_if_cut": damage.cut(),
    })
}

/// What is said below the first line.
struct Told<'a> {
    /// What the log said, if that is what failed.
    error: Option<&'a Error>,
    path: Option<PathBuf>,
    offset: Option<u64>,
    touched: String,
    next: Vec<String>,
}

impl<'a> Told<'a> {
    fn of(error: &'a anyhow::Error, about: About<'_>) -> Told<'a> {
        match (exit::of_log(error), Listing::of(error)) {
            (Some(error), _) => Told::by_log(error, about),
            (None, Some(Listing { path, next, .. })) => {
                Told { error: None, path: path.clone(), offset: None, touched: NOTHING.to_owned(), next: next.clone() }
            }
            (None, None) => {
                Told { error: None, path: None, offset: None, touched: about.changed_beside(), next: Vec::new() }
            }
        }
    }

    fn by_log(error: &'a Error, about: About<'_>) -> Told<'a> {
        let told = error.path().unwrap_or(about.path);
        // As the caller named it, if it is in there.
        let whole = std::path::absolute(about.path).unwrap_or_default();
        let named = |path: &Path| match path.strip_prefix(&whole) {
            Ok(rest) => about.path.components().chain(rest.components()).collect(),
            // So is the directory of a file.
            Err(_) if whole.parent() == Some(path) => directory(about.path).to_owned(),
            Err(_) => path.to_owned(),
        };
        let in_file = error.offset().is_some() || told.is_file();
        let dir = if in_file { told.parent().unwrap_or(told) } else { told };
        let (path, dir, offset) = (named(told), named(dir), error.offset());
        let midway =
            matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull | ErrorKind::LogFull | ErrorKind::Poisoned);
        let touched = if midway { about.changed(error) } else { NOTHING.to_owned() };
        // Nothing is written into what is not empty.
        let free = about.begun().map(|new| format!("with {} removed or renamed ", shell(new)));
        let next = steps(error, &path, &dir, &(free.unwrap_or_default() + "the same command"));
        Told { error: Some(error), touched, next, path: Some(path), offset }
    }

    fn rows(self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        // Another's error names it in its line.
        if let (Some(error), Some(path)) = (self.error, &self.path) {
            let byte = self.offset.map(|offset| format!(" byte {offset}"));
            let mut place = format!("{}{}", path.display(), byte.unwrap_or_default());
            if let Some(damage) = damage(error) {
                place += &format!(", lsn {}", damage.lsn);
                if let Some(time) = damage.batch_time {
                    place += &format!(", batch time {}", time.0);
                }
                rows.push(("found", damage.found.clone()));
                rows.push(("context", context(damage)));
                rows.push(("lost", lost(damage)));
            }
            rows.insert(0, ("where", place));
        }
        rows.push(("touched", self.touched));
        if !self.next.is_empty() {
            rows.push(("next", self.next.join("   |   ")));
        }
        rows
    }
}

/// What a command that changes nothing touched.
pub const NOTHING: &str = "nothing";

fn context(damage: &Damage) -> String {
    let (records, verb) =
        (counted(damage.beyond, "valid record"), if damage.beyond == 1 { "follows" } else { "follow" });
    let follow = match (damage.beyond, damage.next, damage.last) {
        (0, ..) => "no valid record follows".to_owned(),
        (1, _, Some(last)) => format!("{records} {verb} (lsn {last})"),
        (_, Some(next), Some(last)) => format!("{records} {verb} (lsn {next} ..= {last})"),
        (_, next, _) => format!("{records} {verb}, from lsn {} on", next.unwrap_or_default()),
    };
    format!("{follow}; all below lsn {} was durable", damage.durable)
}

fn lost(damage: &Damage) -> String {
    let passed = match (damage.records, damage.bytes) {
        (Some(0), _) => out::records(0),
        (_, 0) => "nothing that is known of".to_owned(),
        (Some(records), bytes) => format!("{} of {}", out::records(records), counted(bytes, "byte")),
        (None, bytes) => format!("at most {}", counted(bytes, "byte")),
    };
    let cut = match damage.cut() {
        Some(records) => out::records(records),
        None => match damage.before.saturating_add(damage.beyond) {
            0 => "the same".to_owned(),
            more => format!("{} more", counted(more, "valid record")),
        },
    };
    let batch = match (damage.before, damage.behind) {
        (0, 0) => String::new(),
        (before, 0) => format!("; its batch goes as a whole, {} before it too", counted(before, "record")),
        (0, behind) => format!("; {} behind it too, which may be of its batch", counted(behind, "record")),
        (before, behind) => {
            format!("; its batch goes as a whole, {before} before it and {} behind it too", counted(behind, "record"))
        }
    };
    format!("{passed} if passed over; {cut} if cut here{batch}")
}

fn word(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Io => "io",
        ErrorKind::Damage(_) => "damage",
        ErrorKind::NotStrict => "not-strict",
        ErrorKind::TooNew => "too-new",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Locked => "locked",
        ErrorKind::DiskFull => "disk-full",
        ErrorKind::LogFull => "log-full",
        ErrorKind::TooLarge { .. } => "too-large",
        ErrorKind::Removed { .. } => "removed",
        ErrorKind::Poisoned => "poisoned",
        ErrorKind::Invalid => "invalid",
        _ => "other",
    }
}

/// The next command, or the next step where there is none. `file`: what the error names, in `dir` or that itself. `again`:
/// the same command once more, in words.
fn steps(error: &Error, file: &Path, dir: &Path, again: &str) -> Vec<String> {
    let mend = format!("mend what the system says, then {again} again");
    match error.kind() {
        // What a repair passed over is lost already; a copy of it may lie aside.
        ErrorKind::Damage(damage) if error.operation() == "read" && (damage.bytes, damage.records) == (0, Some(0)) => {
            vec![salvage(&[dir], None)]
        }
        ErrorKind::Damage(damage) => ways(dir, Some(damage.lsn)),
        ErrorKind::NotStrict => {
            let verify = format!("seawall verify {}", shell(dir));
            vec![verify, "open it with RecoveryMode::TornTail, which keeps all up to where it ends".to_owned()]
        }
        ErrorKind::Invalid if error.operation() == "repair" => vec![format!("seawall inspect {}", shell(dir))],
        ErrorKind::TooLarge { .. } if error.operation() == "repair" => {
            vec![format!("seawall inspect {}", shell(dir)), salvage(&[dir], None)]
        }
        ErrorKind::TooNew => {
            vec![format!("{again} of the version that wrote it, or a later one; this is {}", env!("CARGO_PKG_VERSION"))]
        }
        // Which is no segment, and is told of with the log.
        ErrorKind::NotFound if file.ends_with("MARK") && file.is_file() => vec![with_log(file, again)],
        // Of a directory that holds a log nobody can tell which, or under no name of a log.
        ErrorKind::NotFound if error.operation() == "repair" || holds_segment(dir) => vec![salvage(&[dir], None)],
        ErrorKind::NotFound => vec![format!("{again} with the directory that holds the log: MARK and *.wal lie in it")],
        ErrorKind::Locked => {
            vec![format!("seawall inspect {}", shell(dir)), format!("{again} once the other writer has ended")]
        }
        ErrorKind::Io => io_steps(error, file, dir, again, mend),
        ErrorKind::DiskFull => vec![format!("make room on the disk, then {again} again")],
        ErrorKind::LogFull => {
            vec!["clean the log or give it more room (--retain, --max-disk-bytes), then the same again".to_owned()]
        }
        ErrorKind::Removed { first, .. } => vec![format!("seawall dump {} --from {first}", shell(dir))],
        ErrorKind::Poisoned => {
            vec![mend + ": opening trusts only what is proven"]
        }
        _ => Vec::new(),
    }
}

/// The same with the directory of the log that a file is of.
fn with_log(file: &Path, again: &str) -> String {
    let log = log_around(file).map_or_else(String::new, |dir| format!(": {}", shell(dir)));
    format!("{again} with the directory that holds the log{log}")
}

/// Whether a file in the directory is a segment, whatever its name is.
fn holds_segment(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().is_file() && check::frames(entry.path()).is_ok())
    })
}

/// The same where the system refused. `mend`: the step where nothing tells more than it says.
fn io_steps(error: &Error, file: &Path, dir: &Path, again: &str, mend: String) -> Vec<String> {
    let refused = system(error);
    let is_named = file.file_name().is_some_and(is_logs);
    match refused.map_or(Kind::Other, std::io::Error::kind) {
        Kind::PermissionDenied => vec![format!("{again} as a user who may do this")],
        Kind::NotADirectory => {
            let again = with_log(file, again);
            let dump = check::frames(file).is_ok().then(|| format!("seawall dump {}", shell(file)));
            // Of a file that is no segment it may be an image of a disk, but for this one.
            let is_source =
                !file.ends_with("MARK") && std::fs::metadata(file).is_ok_and(|of| is_source(of.file_type()));
            let salvage = is_source.then(|| salvage(&[file], None));
            [Some(again), dump, salvage].into_iter().flatten().collect()
        }
        // It is no plain file, which the system does not mind.
        Kind::InvalidInput if is_named && refused.is_some_and(|e| e.raw_os_error().is_none()) => {
            let file = shell(file);
            vec![format!("move {file} away, and the file that is meant there if it is elsewhere; then {again} again")]
        }
        Kind::InvalidInput if error.operation() == "open" => {
            vec![format!("{again} with files, directories or disks in the place of {}", shell(file))]
        }
        Kind::NotFound if error.operation() == "list" => vec![format!("{again} with what is there")],
        Kind::ReadOnlyFilesystem => {
            vec![format!("mount the file system so that it can be written, then {again} again")]
        }
        Kind::Unsupported if error.operation() == "allocate" => {
            vec![format!("{again} with a directory on another file system, such as ext4 or xfs")]
        }
        _ => match (refused.and_then(std::io::Error::raw_os_error), error.operation()) {
            (Some(libc::EMFILE), _) => {
                vec![format!("allow more open files (`ulimit -n`; each segment takes one), then {again} again")]
            }
            (Some(libc::ENFILE), _) => {
                vec![format!("let the system open more files (fs.file-max), then {again} again")]
            }
            (Some(libc::EAGAIN), "start a thread for") => {
                vec![format!("allow more threads (`ulimit -u`), then {again} again")]
            }
            (_, "read") => vec![mend, salvage(&[dir], None)],
            _ => vec![mend],
        },
    }
}

/// Whether salvage reads what is of this kind.
fn is_source(kind: std::fs::FileType) -> bool {
    kind.is_file() || kind.is_block_device()
}

#[cfg(all(test, feature = "sim"))]
mod tests;
