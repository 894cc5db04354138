//! Records that follow from partition and offset alone, so that what was received can be held against them.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::random::Random;

/// A header: any bytes as name, and perhaps a value.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// One record, as it is produced and as it must be received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub timestamp: i64,
}

/// The record at an offset of a partition: mixed sizes, and everything that is easily mistaken for something else.
pub fn made(partition: i32, offset: i64) -> Made {
    let mut random = Random::new((partition as u64) << 48 ^ offset as u64);
    let key = match random.below(10) {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(format!("key {partition}/{offset}").into_bytes()),
    };
    let len = match random.below(1000) {
        0 => 60_000,
        1..20 => random.below(8_000),
        _ => random.below(400),
    };
    let value = match random.below(20) {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(random.bytes(len)),
    };
    Made { key, value, headers: headers(&mut random), timestamp: begun() + offset }
}

/// When the test began, in milliseconds. Timestamps are of today, or a broker that comes back from SIGKILL takes the
/// producer for one that has expired, forgets its sequence numbers, and stores a batch that is sent again twice.
#[expect(clippy::disallowed_methods, reason = "no clock of the log's")]
fn begun() -> i64 {
    static BEGUN: OnceLock<i64> = OnceLock::new();
    *BEGUN.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
}

fn headers(random: &mut Random) -> Vec<Header> {
    let headers = match random.below(8) {
        0 => vec![("trace", Some("a")), ("trace", Some("b")), ("trace", None)],
        1 => vec![("null", None), ("empty", Some(""))],
        2 => return vec![(vec![0xff, 0xfe, b'n', 0x80], Some(random.bytes(9))), (b"plain".to_vec(), None)],
        3 => vec![("", Some("a header without a name"))],
        4 => return vec![(b"bytes".to_vec(), Some(random.bytes(40)))],
        _ => vec![],
    };
    headers.into_iter().map(|(name, value)| (name.into(), value.map(Into::into))).collect()
}
