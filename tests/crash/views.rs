//! Readers beside the writer that recovered: what it shows, and nothing else.

use bytes::Bytes;
use seawall::sim::Disk;
use seawall::{ErrorKind, Lsn, Options, ReadOnly, Record, Result, Wal};

/// More than after which a view gives up on what is let out and not there.
const LOOKS: usize = 6;

fn all<'a>(records: Result<impl Iterator<Item = Result<Record>> + 'a>) -> Result<Vec<(Lsn, Bytes)>> {
    records?.map(|record| record.map(|record| (record.lsn, record.payload))).collect()
}

/// A view shows what the writer shows, up to where it knows that to be durable: what was just recovered is known to the
/// writer alone until it commits more.
fn compare(view: &ReadOnly, wal: &Wal, when: &str) -> std::result::Result<(), String> {
    let said = |e: seawall::Error| format!("a view {when}: {e}");
    let shown = all(view.read(..)).map_err(said)?;
    let mut expected = all(wal.read(..)).map_err(said)?;
    if view.durable_lsn() > wal.durable_lsn() {
        return Err(format!("a view {when} shows up to {}, the writer {}", view.durable_lsn(), wal.durable_lsn()));
    }
    expected.retain(|(lsn, _)| *lsn < view.durable_lsn());
    if shown == expected {
        return Ok(());
    }
    let lsns = |records: &[(Lsn, Bytes)]| records.iter().map(|(lsn, _)| lsn.0).collect::<Vec<_>>();
    Err(format!("a view {when} shows {:?}, the writer {:?}", lsns(&shown), lsns(&expected)))
}

pub fn beside(wal: &Wal, disk: &Disk, options: &Options) -> std::result::Result<(), String> {
    let view = match options.open_read_only_on(disk.mount()) {
        Err(e) if *e.kind() == ErrorKind::NotFound && wal.durable_lsn() == Lsn::ZERO => return Ok(()),
        view => view.map_err(|e| format!("a view does not open: {e}"))?,
    };
    compare(&view, wal, "at its opening")?;
    for _ in 0..LOOKS {
        view.look().map_err(|e| format!("a view looks: {e}"))?;
        compare(&view, wal, "that looked again")?;
    }
    Ok(())
}
