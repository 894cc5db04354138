//! What is wrong with a segment, in words: the same for opening, for checking and for a repair.

use crate::format::Mark;

/// A directory or a link lies where a file of the log belongs.
pub(crate) const NO_FILE: &str = "no plain file, but a directory, a link or the like, has the name";

/// Of a frame that is not valid there is no more to say than what was found.
pub(crate) const NO_FRAME: &str = "no valid frame here, not a torn tail";

/// The first frame of a segment is damaged, or none.
pub(crate) const LINK: &str = "the link is damaged, which says how the log goes on here";

/// Nothing is left of a log of which MARK tells. `files`: segments without any valid frame.
pub(crate) fn all_gone(files: usize) -> String {
    match files {
        0 => "every segment is gone".to_owned(),
        _ => "no segment that is left holds a valid frame".to_owned(),
    }
}

/// What there is to say where nothing of a segment is left but its header.
pub(crate) const UNTOLD: &str = "whether it held records cannot be told";

/// Where nothing tells under which seed a segment's frames hold, so that none of them counts.
pub(crate) const UNKNOWN: &str = "nothing tells how to read what is behind that; a salvage may find it";

/// What is said where MARK tells of more than is there.
pub(crate) const SEEN: &str = "readers saw records up to LSN";

/// How a note of a torn tail begins.
pub(crate) const TORN: &str = "torn tail at LSN";

/// What is said of a torn tail.
pub(crate) const UNSURE: &str = "of which nothing says that it was durable";

/// No segment has this name.
pub(crate) const GONE: &str = "the file is missing";

/// One has it that was made another time: the link above names another.
pub(crate) const REPLACED: &str = "another file lies in its place";

/// Of a file in whose place another is read.
pub(crate) const DISPLACED: &str = "the segment of this name lies under another, and what this holds is not read";

/// The log went on behind the segment `name`, up to the LSN `durable`, and nothing of that is there.
pub(crate) fn gone_behind(name: &str, durable: u64) -> String {
    format!("the file behind {name} is missing: records up to LSN {durable} were durable")
}

/// Beside segments with frames MARK is another log's: nothing tells which of them does not belong here.
pub(crate) fn foreign_mark(mark: &Mark) -> String {
    let (id, durable) = (hex(&mark.log_id), mark.synced);
    match durable {
        0 => String::new(),
        _ => format!(
            ". If {id}, which was durable up to LSN {durable}, is the log that belongs here, its segments are gone and \
             another log's lie in their places"
        ),
    }
}

/// The id of a log.
pub(crate) fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of a header's block in which only a repair writes.
pub(crate) const LEFT: &str = "damaged where a repair says how many records it left, or zeros lie if there was none";

/// A sealed segment has that many bytes left.
pub(crate) fn cut(length: u64, end: u64) -> String {
    format!("cut to {length} bytes, it held records up to LSN {end}")
}

/// One without a link has fewer bytes than it was made with.
pub(crate) fn trimmed(length: u64, capacity: u64) -> String {
    format!("{length} bytes of {capacity}, and no link: it had one when it was trimmed, or was cut")
}

/// One has less than a header and a link.
pub(crate) fn cut_short(length: u64) -> String {
    format!("cut to {length} bytes, which no crash leaves")
}
