//! The metadata beside a commit: which log stands behind the offset, and from where on. `sw1:<log uuid>:<topic
//! id>:<lsn>:<from>`, the first two in hex, the others in decimal, and `:read` if logs before it have read; 73 to 115 bytes of
//! the 4096 that a broker allows.

use std::str::FromStr;

use super::entry::LogId;
use super::source::TopicId;
use crate::Lsn;

/// What a commit says about the log that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitMark {
    /// The log.
    pub log: LogId,
    /// The topic's identity as the log knew it.
    pub topic_id: TopicId,
    /// The record up to which the partition was in the log.
    pub lsn: Lsn,
    /// The first offset of the unbroken chain that ends at the one committed: what lies between is in the log.
    pub from: i64,
    /// Something was read of the partition before `from`, by this log or another.
    pub read_before: bool,
}

impl CommitMark {
    /// The mark of a commit.
    pub fn new(log: LogId, topic_id: TopicId, lsn: Lsn, from: i64) -> CommitMark {
        CommitMark { log, topic_id, lsn, from, read_before: false }
    }

    /// With whether something was read of the partition before `from`.
    #[must_use]
    pub fn after(self, read_before: bool) -> CommitMark {
        CommitMark { read_before, ..self }
    }

    /// As it stands beside the offset.
    pub fn encode(&self) -> String {
        let read = if self.read_before { ":read" } else { "" };
        format!("sw1:{}:{}:{}:{}{read}", self.log, hex(&self.topic_id.0), self.lsn, self.from)
    }

    /// `None` for what is no such mark: it is some other program's.
    pub fn parse(metadata: &str) -> Option<CommitMark> {
        let mut parts = metadata.split(':');
        (parts.next()? == "sw1").then_some(())?;
        let (log, topic_id) = (LogId(unhex(parts.next()?)?), TopicId(unhex(parts.next()?)?));
        let (lsn, from) = (Lsn(decimal(parts.next()?)?), decimal(parts.next()?)?);
        let read = parts.next();
        let is_ours = read.is_none_or(|read| read == "read") && parts.next().is_none();
        is_ours.then_some(CommitMark { log, topic_id, lsn, from, read_before: read.is_some() })
    }
}

/// A number as it is written: no sign.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 16];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was_written() {
        let mark = CommitMark::new(LogId([0x0F; 16]), TopicId([0xA0; 16]), Lsn(67_112_960), 17);
        let text = mark.encode();
        assert_eq!(text, "sw1:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f:a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0:67112960:17");
        assert_eq!(CommitMark::parse(&text), Some(mark));
        let after = mark.after(true);
        assert_eq!((after.encode(), CommitMark::parse(&after.encode())), (format!("{text}:read"), Some(after)));
    }

    #[test]
    fn other_programs_metadata_is_no_mark() {
        let good = CommitMark::new(LogId([1; 16]), TopicId([2; 16]), Lsn(3), 4).encode();
        for bad in [
            "",
            "sw1",
            "sw1:::",
            "consumer-7",
            &good[1..],
            &good.replace("sw1", "sw2"),
            &format!("{good}:"),
            &format!("{good}:5"),
            &format!("{good}:read:read"),
        ] {
            assert_eq!(CommitMark::parse(bad), None, "{bad}");
        }
        let numbers =
            [":3", ":4"].into_iter().flat_map(|n| [(n, ":+5"), (n, ":-5"), (n, ":"), (n, ":99999999999999999999")]);
        for (from, to) in numbers.chain([("0101", "01_1"), (":4", "")]) {
            assert_eq!(CommitMark::parse(&good.replacen(from, to, 1)), None, "{from} -> {to}");
        }
    }
}
