//! Standard output and error: lines and JSON. Colour is left to the libraries, which heed `NO_COLOR`.

use std::fmt::{self, Display, Formatter, Write as _};
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::os::fd::AsRawFd;

use anyhow::Context;
use seawall::Lsn;
use seawall::check::Frames;
use serde_json::Value;

/// Standard output. That nobody reads it any more is no error: a command that ends for it ends as what it met until then
/// has it. What cannot be written is told once; after either, the rest is written nowhere.
pub struct Out {
    writer: BufWriter<Stdout>,
    has_reader: bool,
}

impl Out {
    pub fn new() -> Out {
        Out { writer: BufWriter::with_capacity(1 << 16, io::stdout()), has_reader: true }
    }

    /// Writes a line for people, which may wait in memory until [`flush`](Out::flush).
    pub fn line(&mut self, line: impl Display) -> anyhow::Result<()> {
        self.raw(Plain(line))
    }

    /// Writes a value as one line.
    pub fn json(&mut self, value: &Value) -> anyhow::Result<()> {
        self.raw(value)
    }

    /// Writes lines for programs, as they are.
    pub fn raw(&mut self, lines: impl Display) -> anyhow::Result<()> {
        self.write(|writer| writeln!(writer, "{lines}"))
    }

    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.write(Write::flush)
    }

    /// Whether a person looks at it.
    pub fn is_terminal(&self) -> bool {
        self.writer.get_ref().is_terminal()
    }

    /// Whether somebody may still read what is written.
    pub fn has_reader(&self) -> bool {
        self.has_reader
    }

    /// Whether somebody still reads, found out without writing: for a command that may have nothing to write for long.
    pub fn is_read(&mut self) -> bool {
        self.has_reader = self.has_reader && !is_closed(self.writer.get_ref());
        self.has_reader
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) -> anyhow::Result<()> {
        if !self.has_reader {
            return Ok(());
        }
        let written = write(&mut self.writer);
        self.has_reader = written.is_ok();
        match written {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("writing to standard output"),
        }
    }
}

/// Whether standard output is a pipe whose other end is closed.
#[expect(unsafe_code, reason = "a system call that std does not offer")]
fn is_closed(out: &Stdout) -> bool {
    // A closed end is always told, be it that nothing is asked for.
    let mut poll = libc::pollfd { fd: out.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: it points to one `pollfd`, which lives for the call.
    let told = unsafe { libc::poll(&raw mut poll, 1, 0) };
    told > 0 && poll.revents & libc::POLLERR != 0
}

/// Writes a line to standard error, where somebody may be listening.
pub fn warn(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", Plain(line));
}

/// A line with its control characters escaped: names of files, cursors and topics come from others, and must not write
/// to somebody's terminal what they like.
pub struct Plain<T>(pub T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while let Some((at, c)) = text.char_indices().find(|(_, c)| c.is_control()) {
            let (before, rest) = text.split_at(at);
            write!(self.0, "{before}{}", c.escape_default())?;
            text = rest.get(c.len_utf8()..).unwrap_or_default();
        }
        self.0.write_str(text)
    }
}

/// Whether a person looks at standard error: progress bars go there.
pub fn has_terminal() -> bool {
    io::stderr().is_terminal()
}

/// As many as there are of something: `1 record`, `2 181 records`.
pub fn counted(number: u64, what: &str) -> String {
    let end = match (number, what.ends_with("ch")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {what}{end}", count(number))
}

/// As many records as are lost: `no record`, `1 record`.
pub fn records(number: u64) -> String {
    if number == 0 { "no record".to_owned() } else { counted(number, "record") }
}

/// Says what an operator should know of what was read, and which records were not, for nothing says that they are durable.
pub fn notes(frames: &Frames) {
    for note in frames.notes() {
        warn(format_args!("note: {note}"));
    }
    if frames.unproven() > 0 {
        let (records, from) = (counted(frames.unproven(), "valid record"), frames.end());
        warn(format_args!(
            "note: not shown: {records} at LSN {from} or above, of which nothing says that they are durable; the writer \
             that has the log makes them so, or opening it, where nothing is damaged"
        ));
    }
}

/// What a writer cleaned away before it was read.
pub fn removed(from: Lsn, first: Lsn) -> String {
    format!("records from LSN {from} on were cleaned away meanwhile; reading went on at LSN {first}")
}

/// Of batches that were damaged.
pub fn parts(batches: u64) -> String {
    format!("parts of {}, not known to be whole: their records stand each on its own", counted(batches, "batch"))
}

/// A count with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Plain, count, counted};

    #[test]
    fn control_characters_are_escaped_and_nothing_else_is() {
        let text = "a\u{1b}[31m\n\t\u{7f}\u{9b}2J\\ ä 'b'";
        assert_eq!(Plain(text).to_string(), r"a\u{1b}[31m\n\t\u{7f}\u{9b}2J\ ä 'b'");
    }

    #[test]
    fn one_is_no_plural() {
        for (number, text) in [(0, "0 valid records"), (1, "1 valid record"), (2181, "2 181 valid records")] {
            assert_eq!(counted(number, "valid record"), text);
        }
        assert_eq!([counted(1, "batch"), counted(2, "batch")], ["1 batch", "2 batches"]);
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (48_211, "48 211"), (1_204_999, "1 204 999")] {
            assert_eq!(count(number), text);
        }
    }
}
