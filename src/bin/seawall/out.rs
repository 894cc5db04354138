//! Standard output and error: lines and JSON. Colour is left to the libraries, which heed `NO_COLOR`.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde_json::Value;

/// Standard output.
pub struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub fn new() -> Out {
        Out(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    /// Writes a line, which may wait in memory until [`flush`](Out::flush).
    pub fn line(&mut self, line: impl Display) -> anyhow::Result<()> {
        Ok(writeln!(self.0, "{line}")?)
    }

    /// Writes a value as one line.
    pub fn json(&mut self, value: &Value) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.0, value).map_err(io::Error::from)?;
        Ok(self.0.write_all(b"\n")?)
    }

    pub fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

/// Says on standard error what went wrong.
pub fn complain(error: &anyhow::Error) {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Errors of the log and the client say their cause themselves.
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    warn(format_args!("error: {text}"));
}

/// Writes a line to standard error, where somebody may be listening.
pub fn warn(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether a person looks at standard error: progress bars go there.
pub fn has_terminal() -> bool {
    io::stderr().is_terminal()
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
    use super::count;

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (48_211, "48 211"), (1_204_999, "1 204 999")] {
            assert_eq!(count(number), text);
        }
    }
}
