//! Figures of a log.

use std::sync::atomic::Ordering;

use crate::writer::Writer;

/// Figures since the log was opened, but for the sizes, which are of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records appended.
    pub appended_records: u64,
    /// Bytes of their payloads.
    pub appended_bytes: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Bytes of frames that these made durable.
    pub synced_bytes: u64,
    /// Bytes in memory, not yet written.
    pub buffered_bytes: u64,
    /// Segments that hold the log.
    pub segments: u64,
    /// Bytes that the log's files take: segments, prepared ones, spares, MARK.
    pub disk_bytes: u64,
}

impl Stats {
    pub(crate) fn of(writer: &Writer) -> Stats {
        let segments = writer.segments.read().len() as u64;
        let disk_bytes = writer.maker.disk_bytes().saturating_sub(writer.mark.unmade());
        let framing = writer.framing.lock();
        let (appended_records, appended_bytes) = framing.appended;
        Stats {
            appended_records,
            appended_bytes,
            syncs: writer.syncs.load(Ordering::Relaxed),
            synced_bytes: writer.synced_bytes.load(Ordering::Relaxed),
            buffered_bytes: framing.pieces.bytes() as u64,
            segments,
            disk_bytes,
        }
    }
}
