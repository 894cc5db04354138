//! What the two background tasks do: the syncer leads for those who cannot, the maker prepares segments and tidies.

use std::time::Duration;

use crate::commit::{FULL_RETRY, Led};
use crate::events;
use crate::need::Need;
use crate::options::Durability;
use crate::sync::OnceLock;
use crate::sync::atomic::Ordering;
use crate::writer::{Leader, Writer};

/// How soon to look again while somebody else leads.
const AGAIN: Duration = Duration::from_millis(5);

impl Writer {
    /// Has the syncer look after bytes that nobody may wait for.
    #[inline]
    pub(crate) fn arm_syncer(&self, end: u64) {
        // Whoever still sees it armed framed before the syncer looked, which takes the framing lock once it has disarmed.
        let armed = || self.armed.load(Ordering::Acquire) || self.armed.swap(true, Ordering::SeqCst);
        if self.options.sync_interval.is_some() && !armed() {
            self.wake_syncer();
        }
        if self.options.sync_bytes.is_some_and(|bytes| end.saturating_sub(self.commit.synced()) >= bytes) {
            self.wake_syncer();
        }
    }

    pub(crate) fn wake_syncer(&self) {
        if let Some(syncer) = self.syncer.get() {
            syncer.wake();
        }
    }

    pub(crate) fn wake_maker(&self) {
        if let Some(maker) = self.making.get() {
            maker.wake();
        }
    }

    /// One look of the syncer: leads for futures, for the interval and the byte bound, writes what `try_append`
    /// left, tries again what met a full disk. `since` is when it first saw unsynced bytes.
    pub(crate) fn syncer_step(&self, since: &mut Option<Duration>) -> Option<Duration> {
        // Disarmed before looking: whatever is appended afterwards wakes this step again.
        self.armed.store(false, Ordering::SeqCst);
        let (end, full) = {
            let framing = self.framing.lock();
            (framing.end, !framing.pieces.full.is_empty())
        };
        let unsynced = end.saturating_sub(self.commit.synced());
        if unsynced > 0 {
            self.armed.store(true, Ordering::SeqCst);
        }
        let now = self.storage.now();
        let due = match self.options.sync_interval {
            Some(interval) if unsynced > 0 => since.get_or_insert(now).saturating_add(interval),
            _ => Duration::MAX,
        };
        let enough = unsynced > 0 && self.options.sync_bytes.is_some_and(|bytes| unsynced >= bytes);
        let disk = self.options.durability == Durability::Disk;
        let sync = now >= due || enough;
        // After a full disk threads wait too, and none of them leads again by itself.
        if sync || self.commit.futures_wait() || self.stalled.load(Ordering::Relaxed) {
            match self.commit.try_lead(&Leader { writer: self, sync: sync || disk }) {
                Some(Ok(Led::Full)) => return Some(FULL_RETRY),
                Some(Ok(Led::Synced(synced))) if self.options.sync_interval.is_some() => {
                    // What was framed meanwhile counts from when it may have been.
                    *since = (self.framing.lock().end > synced).then_some(now);
                    return Some(Duration::ZERO);
                }
                Some(Ok(_)) if self.options.sync_interval.is_some() => return Some(Duration::ZERO),
                // Somebody else leads, and may be the one who met the full disk and will not try again.
                None if self.stalled.load(Ordering::Relaxed) => return Some(FULL_RETRY),
                // Somebody else leads, and may not have seen all that is to be synced.
                None if self.options.sync_interval.is_some()
                    || enough
                    || full
                    || self.crowded.load(Ordering::SeqCst) =>
                {
                    return Some(AGAIN);
                }
                // Somebody else leads, and wakes us when futures are left over.
                Some(_) | None => return None,
            }
        }
        let crowded = self.crowded.swap(false, Ordering::SeqCst);
        if (full || crowded) && matches!(self.write_out(crowded, |_| ()), Ok(false)) {
            return Some(FULL_RETRY);
        }
        if unsynced == 0 {
            *since = None;
        }
        (due < Duration::MAX).then(|| due.saturating_sub(now))
    }

    /// One look of the maker: prepares segments once the active one is half full or somebody who may not wait needs
    /// one, tidies what may be tidied.
    pub(crate) fn maker_step(&self) {
        self.tell_begun();
        let half_full = self.framing.lock().tip().is_some_and(|(segment, offset)| offset >= segment.capacity / 2);
        if self.commit.is_poisoned() {
            return;
        }
        if let Some(need) = self.maker.wanted() {
            // Only allocated: it is late already.
            _ = self.make_segment(need, false);
        } else if half_full && self.maker.wants_more() {
            // A full disk is met again, and told, by the append that needs the segment.
            _ = self.make_segment(Need::Ordinary, true);
        }
        _ = self.tidy();
    }

    /// Tells of the segments begun since it was called last, here and not where they are: there a lock is held.
    pub(crate) fn tell_begun(&self) {
        if !cfg!(feature = "tracing") {
            return;
        }
        let told = self.begun_told.load(Ordering::Relaxed);
        let segments = self.segments.read();
        let begun: Vec<_> = segments.iter().filter(|segment| segment.base >= told).cloned().collect();
        drop(segments);
        for segment in begun {
            self.begun_told.store(segment.base + 1, Ordering::Relaxed);
            events::segment_begun(self.storage.path(), &segment.name);
        }
    }

    /// Ends the background work and waits for it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for task in [&self.syncer, &self.making].into_iter().filter_map(OnceLock::get) {
            task.wake();
            task.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::append::Patience;
    use crate::format::FrameKind;
    use crate::framing::One;
    use crate::log::Log;
    use crate::options::Options;
    use crate::storage::Fs;

    /// A log whose background steps are ours to take.
    fn log(options: Options) -> (tempfile::TempDir, Arc<Log>) {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(Arc::new(Fs::new(dir.path())), options).unwrap();
        log.writer.stop();
        (dir, log)
    }

    /// A clean met a full disk, woke the syncer, and led on for a moment: nobody ever tried again.
    #[test]
    fn while_the_disk_is_full_a_syncer_that_finds_a_leader_looks_again() {
        let (_dir, log) = log(Options::new());
        let writer = &log.writer;
        writer.stalled.store(true, Ordering::Relaxed);
        let lead = || {
            assert_eq!(writer.syncer_step(&mut None), Some(FULL_RETRY));
            Ok(Led::Full)
        };
        assert!(matches!(writer.commit.try_lead(&lead), Some(Ok(Led::Full))));
    }

    /// Whoever else led only wrote, and the interval began anew each time.
    #[test]
    fn the_interval_goes_on_while_somebody_else_leads() {
        let (_dir, log) = log(Options::new().durability(Durability::Os).sync_interval(Duration::from_nanos(1)));
        let writer = &log.writer;
        writer.append(FrameKind::Record, &One::new(b"record"), None, Patience::Wait).unwrap();
        let began = Some(Duration::ZERO);
        let since = Cell::new(began);
        let lead = || {
            let mut kept = since.take();
            assert_eq!(writer.syncer_step(&mut kept), Some(AGAIN));
            since.set(kept);
            Ok(Led::Written(0))
        };
        assert!(writer.commit.try_lead(&lead).is_some());
        let mut since = since.into_inner();
        assert_eq!(since, began);
        assert_eq!((writer.syncer_step(&mut since), since), (Some(Duration::ZERO), None));
    }

    /// With a byte bound of 0 an idle log synced without end.
    #[test]
    fn nothing_is_synced_where_nothing_was_appended() {
        let (_dir, log) = log(Options::new().sync_bytes(0).sync_interval(Duration::from_secs(1)));
        assert_eq!(log.writer.syncer_step(&mut None), None);
    }

    /// A segment that was to be trimmed was cleaned first: its bytes were taken off twice.
    #[test]
    fn what_was_cleaned_is_not_trimmed() {
        let (_dir, log) = log(Options::new().segment_size(16 << 10));
        let writer = &log.writer;
        writer.append(FrameKind::Record, &One::new(b"record"), None, Patience::Wait).unwrap();
        writer.rotate_now().unwrap();
        let held = writer.segments.read().front().cloned();
        let gone: Vec<_> = writer.segments.write().pop_front().into_iter().collect();
        assert!(writer.maker.discard(&*writer.storage, gone, || true).is_empty());
        let left = writer.maker.disk_bytes();
        writer.maker.tidy(&*writer.storage, u64::MAX).unwrap();
        assert_eq!(writer.maker.disk_bytes(), left);
        drop(held);
    }
}
