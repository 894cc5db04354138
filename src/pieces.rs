//! Frames in memory that wait to be written: pieces of a segment each, and buffers to use again. No I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::segment::Segment;

/// Bytes of a piece. Larger ones fall out of the cache between framing and writing.
pub(crate) const PIECE: usize = 256 << 10;

/// Frames that follow one another in one segment, to be written at once. Whole batches only.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
    /// As long as the piece may become. What follows the frames an earlier piece left.
    buffer: Vec<u8>,
    /// Where the frames end.
    end: usize,
}

impl Piece {
    /// The frames.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.end).unwrap_or_default()
    }

    /// Where the next frames go, `size` bytes that are to be overwritten.
    #[inline]
    pub(crate) fn room(&mut self, size: usize) -> Option<&mut [u8]> {
        self.buffer.get_mut(self.end..)?.get_mut(..size)
    }

    /// They are framed.
    #[inline]
    pub(crate) fn framed(&mut self, size: usize) {
        self.end += size;
    }

    fn left(&self) -> usize {
        self.buffer.len() - self.end
    }
}

/// All pieces that are in memory.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// The piece that frames go to; none while nothing waits.
    current: Option<Piece>,
    /// Pieces that are full, oldest first.
    pub(crate) full: VecDeque<Piece>,
    /// Buffers to use again, the hottest last.
    free: Vec<Vec<u8>>,
    /// Bytes of the pieces that were ended and are not written.
    ended: usize,
}

impl Pieces {
    /// A piece with room for `size` bytes that go to `offset` of `segment`.
    #[inline]
    pub(crate) fn with_room(&mut self, size: usize, segment: &Arc<Segment>, offset: u64) -> Option<&mut Piece> {
        if self.current.as_ref().is_none_or(|piece| piece.left() < size) {
            self.begin(size, segment, offset);
        }
        self.current.as_mut()
    }

    #[cold]
    fn begin(&mut self, size: usize, segment: &Arc<Segment>, offset: u64) {
        self.turn();
        let most = usize::try_from(segment.capacity).unwrap_or(PIECE).min(PIECE);
        let mut buffer = self.free.pop().unwrap_or_default();
        buffer.resize(size.max(most), 0);
        self.current = Some(Piece { segment: Arc::clone(segment), offset, buffer, end: 0 });
    }

    /// Ends the current piece; the next frame begins another.
    #[cold]
    pub(crate) fn turn(&mut self) {
        if let Some(piece) = self.current.take() {
            self.ended += piece.end;
            self.full.push_back(piece);
        }
    }

    /// Takes back the buffer of a piece that was written, or leaves it to the caller to drop without the lock.
    pub(crate) fn written(&mut self, piece: Piece) -> Option<Piece> {
        self.ended -= piece.end;
        if piece.buffer.len() > 2 * PIECE || self.free.len() >= 4 {
            return Some(piece);
        }
        self.free.push(piece.buffer);
        None
    }

    /// Bytes framed and not yet written.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.ended + self.current.as_ref().map_or(0, |piece| piece.end)
    }
}
