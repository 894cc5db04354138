//! A key-value store that embeds the log: `cargo run --example kv -- DIR`, then on standard input, a line each,
//! `put KEY VALUE`, `delete KEY`, `get KEY`, `list` or `disk`.
//!
//! The state is a map in memory, and the log is its only file. A change is appended and durable before it is answered.
//! Now and then the whole state is appended as a checkpoint, and the log is cleaned up to there. Opening takes the last
//! checkpoint and applies what follows it.
//!
//! What it guarantees:
//! - A change that was answered is there after a killed process, a crash of the system and a power cut.
//! - What is there after a crash is what the first so many changes made, whole ones, in their order.
//! - The disk holds a few segments, and what was appended since the last checkpoint: that and the checkpoint itself are
//!   never more than about the state twice.
//!
//! What it does not: a `get` beside a `put` may show what is not durable yet. And a checkpoint is one record, which a
//! segment must hold, here 1 MiB: beyond that there is none, and the log grows. A larger store writes its snapshot into a
//! file of its own, syncs that, and appends the file's name. Nor can a change be larger: it is refused.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::Path;

use parking_lot::Mutex;
use seawall::{ErrorKind, Kind, Lsn, Options, Wal};

/// Bytes of a segment: small, so that cleaning is soon to be seen. The default, 64 MiB, is the better one.
const SEGMENT: u64 = 1 << 20;

/// The store. All is `&self`: threads that put at the same time share syncs.
struct Store {
    wal: Wal,
    state: Mutex<State>,
}

impl Store {
    /// The last checkpoint, then what follows.
    fn open(dir: &Path) -> Result<Store, Box<dyn Error>> {
        let wal = Options::new().segment_size(SEGMENT).open(dir)?;
        eprintln!("{}", wal.recovery());
        let mut state = State::default();
        let checkpoint = wal.checkpoint()?.map(|checkpoint| checkpoint.lsn);
        // Only what a checkpoint holds is cleaned: without one, a part of the state is gone.
        let first = wal.recovery().first;
        if checkpoint.is_none() && first > Lsn::ZERO {
            return Err(format!("all below LSN {first} was cleaned, and the checkpoint that held it is lost").into());
        }
        let from = checkpoint.unwrap_or(Lsn::ZERO);
        for record in wal.read(from..)? {
            let record = record?;
            if record.kind == Kind::Checkpoint {
                state = State { snapshot: record.payload.len(), ..State::default() };
            } else {
                state.since += record.payload.len();
            }
            state.apply(&record.payload).ok_or("a record that no store wrote")?;
        }
        // A store that was killed may have made its checkpoint and not come to clean.
        wal.clean_before_lsn(from)?;
        Ok(Store { wal, state: Mutex::new(state) })
    }

    /// Puts or, without a value, deletes. Durable when this returns.
    ///
    /// If the log is full nothing was changed, and the same call may succeed later (`is_backpressure`); nor was it if
    /// the change is too large. After any other error nobody knows whether the change survives: open the store again,
    /// and what it holds is what counts.
    fn change(&self, key: &str, value: Option<&str>) -> seawall::Result<()> {
        let change = encode(key, value);
        let ticket = {
            let mut state = self.state.lock();
            // Under the lock: the log has the changes in the order in which the map has them.
            let ticket = self.wal.append(&change)?;
            state.since += change.len();
            state.apply(&change);
            ticket
        };
        // Without the lock: whoever else changes something meanwhile shares the sync.
        ticket.wait()?;
        if let Err(e) = self.checkpoint_if_due() {
            eprintln!("no checkpoint: {e}");
        }
        Ok(())
    }

    /// A checkpoint costs as much as the state, so it is due once more than that was appended since the last.
    fn checkpoint_if_due(&self) -> seawall::Result<()> {
        let ticket = {
            let mut state = self.state.lock();
            if state.since < state.snapshot.max(usize::try_from(SEGMENT).unwrap_or(usize::MAX)) {
                return Ok(());
            }
            // Under the lock: the snapshot is the state at this place of the log, with all before it and nothing after.
            let snapshot = state.snapshot();
            let appended = self.wal.append_checkpoint(&snapshot);
            // Of a state too large for one, too, the next is due once as much again was appended: it may be smaller then.
            if appended.as_ref().err().is_none_or(is_too_large) {
                (state.since, state.snapshot) = (0, snapshot.len());
            }
            appended?
        };
        let lsn = ticket.wait()?;
        self.wal.clean_before_lsn(lsn)?;
        Ok(())
    }

    fn get(&self, key: &str) -> Option<String> {
        self.state.lock().map.get(key).cloned()
    }
}

/// Nothing was appended, and never will be as it is.
fn is_too_large(error: &seawall::Error) -> bool {
    matches!(error.kind(), ErrorKind::TooLarge { .. })
}

/// What the log says.
#[derive(Default)]
struct State {
    map: BTreeMap<String, String>,
    /// Bytes of the last checkpoint, and of the changes since.
    snapshot: usize,
    since: usize,
}

impl State {
    /// Applies one or several changes, as they were encoded.
    fn apply(&mut self, mut changes: &[u8]) -> Option<()> {
        while !changes.is_empty() {
            let (key, value);
            (key, value, changes) = decode(changes)?;
            match value {
                Some(value) => _ = self.map.insert(key, value),
                None => _ = self.map.remove(&key),
            }
        }
        Some(())
    }

    /// The changes that make this state out of nothing.
    fn snapshot(&self) -> Vec<u8> {
        self.map.iter().flat_map(|(key, value)| encode(key, Some(value))).collect()
    }
}

/// Two lengths, of the value one more than it has and 0 without one; then both. The log tells where a record ends, and
/// that it is as it was written: neither is stored here again.
fn encode(key: &str, value: Option<&str>) -> Vec<u8> {
    let lengths = [key.len() as u64, value.map_or(0, |value| value.len() as u64 + 1)];
    let mut change: Vec<u8> = lengths.iter().flat_map(|length| length.to_le_bytes()).collect();
    change.extend_from_slice(key.as_bytes());
    change.extend_from_slice(value.unwrap_or_default().as_bytes());
    change
}

/// Key, value, and what follows them.
fn decode(bytes: &[u8]) -> Option<(String, Option<String>, &[u8])> {
    let (key_length, rest) = bytes.split_first_chunk()?;
    let (value_length, rest) = rest.split_first_chunk()?;
    let length = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (key, rest) = rest.split_at_checked(length(key_length)?)?;
    Some(match length(value_length)?.checked_sub(1) {
        None => (text(key)?, None, rest),
        Some(length) => {
            let (value, rest) = rest.split_at_checked(length)?;
            (text(key)?, Some(text(value)?), rest)
        }
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: kv DIR")?;
    let store = Store::open(Path::new(&dir))?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let changed = match words[..] {
            ["put", key, value] => store.change(key, Some(value)),
            ["delete", key] => store.change(key, None),
            ["get", key] => {
                writeln!(out, "{}", store.get(key).map_or("none".into(), |value| format!("value {value}")))?;
                continue;
            }
            ["list"] => {
                for (key, value) in &store.state.lock().map {
                    writeln!(out, "{key} {value}")?;
                }
                Ok(())
            }
            ["disk"] => {
                writeln!(out, "{} bytes", store.wal.stats().disk_bytes)?;
                continue;
            }
            _ => {
                writeln!(out, "unknown: {line}")?;
                continue;
            }
        };
        match changed {
            Ok(()) => writeln!(out, "ok")?,
            Err(e) if e.is_backpressure() => writeln!(out, "full, try again later: {e}")?,
            Err(e) if is_too_large(&e) => writeln!(out, "too large: {e}")?,
            // Unknown whether it survives: whoever starts the store again is told by what it holds.
            Err(e) => return Err(e.into()),
        }
    }
    store.wal.close()?;
    Ok(())
}
