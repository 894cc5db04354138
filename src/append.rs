//! Appending: a batch framed into memory under the framing lock, into the next segment where the active one is full.
//! Only a bound or a missing segment makes it wait, and then without the lock.
//!
//! ```text
//! Wal::append > Wal::push > Writer::append --- as things are -------------------> Framing::frame: into memory
//!                                           |- too much in memory: make_room -----^      |
//!                                           `- a full segment: next_segment ------^      v
//!                                                                                    follow_up: wakes the maker
//!                                                                                    and the syncer, writes full pieces
//! Leader::round, the syncer, follow_up > Writer::write_out: from memory into files. Only a round syncs: `commit.rs`
//! ```

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Cursor, FRAME, FrameKind, MAX_PAYLOAD, OVERHEAD, frame_size};
use crate::framing::{Batch, Framed, Framing, One, batch_size};
use crate::need::Need;
use crate::segment::Segment;
use crate::sync::LatchGuard;
use crate::sync::atomic::Ordering;
use crate::writer::{Writer, closed};

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    Never,
}

impl Writer {
    /// Frames a batch: into memory, all of it or nothing.
    #[inline(never)]
    pub(crate) fn append(
        &self,
        kind: FrameKind,
        batch: &impl Batch,
        time: Option<u64>,
        patience: Patience,
    ) -> Result<Framed> {
        let size = batch_size(batch);
        self.check_size(batch, size)?;
        let mut framing = self.framing.lock();
        if !self.admits(&framing, size, time) {
            framing = self.make_way(framing, kind, size, time, patience)?;
        }
        let time = time.unwrap_or(framing.batch_time);
        let framed = framing.frame(kind, batch, size, time, self.commit.synced());
        self.follow_up(framing, framed, patience)
    }

    /// Frames a note of the cursor `name`: where `lsn` says that it stands, under the lock.
    pub(crate) fn note(&self, name: &str, lsn: impl FnOnce(&mut Framing) -> Result<u64>) -> Result<Framed> {
        let (kind, size) = (FrameKind::CursorNote, frame_size(Cursor::size(name)));
        let framing = self.framing.lock();
        let mut framing = self.make_way(framing, kind, size, None, Patience::Wait)?;
        let cursor = Cursor { lsn: lsn(&mut framing)?, name: name.to_owned() };
        let mut payload = Vec::new();
        cursor.encode_into(&mut payload);
        let time = framing.batch_time;
        let framed = framing.frame(kind, &One::new(&payload), size, time, self.commit.synced());
        framing.owed.remove(name);
        self.follow_up(framing, framed, Patience::Wait)
    }

    /// Frames the notes that had no room, as far as there is room now. Tells whether there were any.
    pub(crate) fn note_owed(&self) -> bool {
        let owed = self.framing.lock().owed.clone();
        for name in &owed {
            _ = self.note(name, |framing| Ok(framing.cursor(name).unwrap_or(0)));
        }
        !owed.is_empty()
    }

    /// Has written, made and looked after what a batch that was framed brings with it.
    /// Here and in `Framing::frame` a call of its own would be a twentieth of an append of 100 bytes.
    #[inline(always)]
    fn follow_up(
        &self,
        mut framing: LatchGuard<'_, Framing>,
        framed: Option<Framed>,
        patience: Patience,
    ) -> Result<Framed> {
        let (maker_is_due, full) = (framing.maker_is_due(), !framing.pieces.full.is_empty());
        drop(framing);
        let framed = framed.ok_or_else(no_room)?;
        if maker_is_due {
            self.wake_maker();
        }
        self.arm_syncer(framed.end);
        if full {
            self.write_full_pieces(patience)?;
        }
        Ok(framed)
    }

    /// Whether a batch of `size` bytes may be framed as things are.
    #[inline]
    fn admits(&self, framing: &Framing, size: u64, time: Option<u64>) -> bool {
        self.is_open(framing) && self.bounded(framing, size) && self.fits(framing, size, time)
    }

    /// Whether so much more may be in memory. What is larger than the bound is let in alone.
    #[inline]
    fn bounded(&self, framing: &Framing, size: u64) -> bool {
        let taken = framing.pieces.bytes() as u64 + framing.reserved;
        taken == 0 || taken + size <= self.options.max_buffered_bytes as u64
    }

    #[inline]
    fn fits(&self, framing: &Framing, size: u64, time: Option<u64>) -> bool {
        framing.fits(size, time.unwrap_or(framing.batch_time), self.options.segment_age)
    }

    /// Waits for room in memory or for the next segment, until a batch of `size` bytes may be framed.
    #[cold]
    fn make_way<'a>(
        &'a self,
        mut framing: LatchGuard<'a, Framing>,
        kind: FrameKind,
        size: u64,
        time: Option<u64>,
        patience: Patience,
    ) -> Result<LatchGuard<'a, Framing>> {
        loop {
            self.check_open(&framing)?;
            if !self.bounded(&framing, size) {
                drop(framing);
                framing = self.make_room(size, patience)?;
            } else if !self.fits(&framing, size, time) {
                let need = if kind == FrameKind::Checkpoint { Need::Reserve } else { Need::Ordinary };
                framing = self.next_segment(framing, need, patience)?;
            } else {
                return Ok(framing);
            }
        }
    }

    /// Whoever fills a piece writes it.
    #[cold]
    fn write_full_pieces(&self, patience: Patience) -> Result<()> {
        match patience {
            Patience::Wait => self.write_out(false, |_| ()).map(drop),
            Patience::Never => {
                self.wake_syncer();
                Ok(())
            }
        }
    }

    #[inline]
    fn check_size(&self, batch: &impl Batch, size: u64) -> Result<()> {
        let limit = self.options.segment_size - OVERHEAD;
        let longest = (0..batch.count()).map(|n| batch.length(n)).max().unwrap_or(0);
        if size <= limit && longest < MAX_PAYLOAD {
            return Ok(());
        }
        let (needs, limit, what) = if longest < MAX_PAYLOAD {
            (size, limit, "the batch takes")
        } else {
            // Without padding: with it the shortest that is too long is no longer than the longest that is not.
            let head = u64::from(FRAME);
            (longest + head, limit.min(MAX_PAYLOAD - 1 + head), "a record takes")
        };
        let message = format!("{what} {needs} bytes, at most {limit} are possible; nothing was appended");
        Err(Error::new(ErrorKind::TooLarge { needs, limit }, "append", message))
    }

    #[inline]
    fn is_open(&self, framing: &Framing) -> bool {
        !framing.closed && !self.commit.is_poisoned() && !self.stalled.load(Ordering::Relaxed)
    }

    fn check_open(&self, framing: &Framing) -> Result<()> {
        if self.is_open(framing) {
            return Ok(());
        }
        if framing.closed {
            return Err(closed());
        }
        self.sound()?;
        let message = "the disk is full and earlier appends wait to be written; nothing was appended";
        Err(Error::new(ErrorKind::DiskFull, "append", message))
    }

    /// Rotates into a prepared segment; without one, makes one first, with the framing lock let go.
    fn next_segment<'a>(
        &'a self,
        mut framing: LatchGuard<'a, Framing>,
        need: Need,
        patience: Patience,
    ) -> Result<LatchGuard<'a, Framing>> {
        if let Some(next) = self.maker.take(need) {
            self.rotate(&mut framing, next);
            return Ok(framing);
        }
        drop(framing);
        if patience == Patience::Never {
            let refused = self.maker.want(need).filter(|refused| !refused.cleaned);
            self.wake_maker();
            let not_ready = || Error::new(ErrorKind::Backpressure, "append", "the next segment is not ready");
            return Err(refused.map_or_else(not_ready, |refused| refused.error));
        }
        self.make_segment(need, false)?;
        Ok(self.framing.lock())
    }

    fn rotate(&self, framing: &mut Framing, next: Arc<Segment>) {
        self.segments.write().push_back(Arc::clone(&next));
        let first = framing.active().is_none();
        let (sealed, link) = framing.rotate(next, self.commit.synced());
        if first {
            self.maker.begin_life(link);
        }
        if let Some(early) = sealed.filter(|segment| ended_early(segment)) {
            self.maker.trim_later(early, link);
        }
    }

    /// Begins a new segment, unless the active one is empty.
    pub(crate) fn rotate_now(&self) -> Result<()> {
        let mut framing = self.framing.lock();
        self.check_open(&framing)?;
        let before = framing.active();
        while framing.newest_used() && framing.active() == before {
            self.check_open(&framing)?;
            framing = self.next_segment(framing, Need::Ordinary, Patience::Wait)?;
        }
        let maker_is_due = framing.maker_is_due();
        drop(framing);
        if maker_is_due {
            self.wake_maker();
        }
        Ok(())
    }

    /// Gets bytes out of memory, for an append of `size` bytes that would go over the bound.
    fn make_room(&self, size: u64, patience: Patience) -> Result<LatchGuard<'_, Framing>> {
        if patience == Patience::Never {
            self.crowded.store(true, Ordering::SeqCst);
            self.wake_syncer();
            let message = "as much is in memory as may be; nothing was appended";
            return Err(Error::new(ErrorKind::Backpressure, "append", message));
        }
        // A waker that is told of a failure meanwhile meets the poison before it would want a turn.
        let _turn = self.turn.lock();
        let mut framing = self.framing.lock();
        if !self.bounded(&framing, size) {
            // Else small ones might pass it by for ever.
            framing.reserved = size;
            drop(framing);
            let written = self.write_out(true, |_| ());
            framing = self.framing.lock();
            framing.reserved = 0;
            written?;
        }
        Ok(framing)
    }
}

/// Whether so much of a sealed segment is unused that its blocks are worth giving back.
pub(crate) fn ended_early(segment: &Segment) -> bool {
    segment.sealed().is_some_and(|seal| seal.end - segment.base < segment.capacity / 8 * 7)
}

/// What cannot be: a segment or a piece that has not the room it said.
#[cold]
fn no_room() -> Error {
    Error::new(ErrorKind::Io, "append", "the active segment has no room; nothing was appended")
}
