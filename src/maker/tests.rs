//! What is counted of the bytes on disk.

use super::*;
use crate::append::Patience;
use crate::format::FrameKind;
use crate::framing::One;
use crate::log::Log;
use crate::options::Options;
use crate::storage::Fs;

/// A segment that was to be trimmed was cleaned first: its bytes were taken off twice.
#[test]
fn what_was_cleaned_is_not_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(Arc::new(Fs::new(dir.path())), Options::new().segment_size(16 << 10)).unwrap();
    let writer = &log.writer;
    writer.append(FrameKind::Record, &One::new(b"record"), None, Patience::Wait).unwrap();
    writer.stop();
    writer.rotate_now().unwrap();
    let held = writer.segments.read().front().cloned();
    let gone: Vec<_> = writer.segments.write().pop_front().into_iter().collect();
    assert!(writer.maker.discard(&*writer.storage, gone, || true).is_empty());
    let left = writer.maker.disk_bytes();
    writer.maker.tidy(&*writer.storage, u64::MAX).unwrap();
    assert_eq!(writer.maker.disk_bytes(), left);
    drop(held);
}
