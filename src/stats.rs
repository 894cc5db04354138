//! Figures of a log.

use crate::sync::atomic::Ordering;
use crate::syncs::{Counts, SyncTimes};
use crate::writer::Writer;

/// Figures since the log was opened, but for the sizes, which are of now.
///
/// What takes time is counted where it begins and where it is done. Both only grow, and the difference is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records appended.
    pub appended_records: u64,
    /// Bytes of their payloads.
    pub appended_bytes: u64,
    /// Bytes of frames that were written.
    pub written_bytes: u64,
    /// Bytes of these that syncs made durable.
    pub synced_bytes: u64,
    /// Syncs of segments that were begun.
    pub syncs_begun: u64,
    /// Those that were done. One that failed never is.
    pub syncs: u64,
    /// How long they took.
    pub sync_times: SyncTimes,
    /// Bytes in memory, not yet written.
    pub buffered_bytes: u64,
    /// Segments that hold the log.
    pub segments: u64,
    /// Bytes that the log's files take: segments, prepared ones, spares, MARK; not those that were moved aside.
    pub disk_bytes: u64,
}

impl Stats {
    pub(crate) fn of(writer: &Writer) -> Stats {
        // Before what was written is counted, which is never less.
        let Counts { begun, done, bytes, times } = writer.syncs.counts();
        let segments = writer.segments.read().len() as u64;
        let disk_bytes = writer.maker.disk_bytes().saturating_sub(writer.mark.unmade());
        let framing = writer.framing.lock();
        let (appended_records, appended_bytes) = framing.appended;
        Stats {
            appended_records,
            appended_bytes,
            written_bytes: writer.written_bytes.load(Ordering::Relaxed),
            synced_bytes: bytes,
            syncs_begun: begun,
            syncs: done,
            sync_times: times,
            buffered_bytes: framing.pieces.bytes() as u64,
            segments,
            disk_bytes,
        }
    }
}
