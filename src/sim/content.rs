//! The bytes of a file in sectors, shared between copies until they are written.

use std::ops::Range;
use std::sync::Arc;

/// What a disk writes whole or not at all, in bytes.
pub(super) const SECTOR: usize = 512;

/// The bytes of one sector; none are zeros.
pub(super) type Sector = Option<Arc<[u8; SECTOR]>>;

/// `n`, up to the next whole sector.
pub(super) fn whole_sectors(n: u64) -> u64 {
    n.next_multiple_of(SECTOR as u64)
}

/// A position or length in memory. The files of a [`Disk`](super::Disk) are far below the limit.
pub(super) fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Length and bytes of a file. Beyond the length all bytes are zeros; sectors that are not there are zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    sectors: Vec<Sector>,
}

/// The sectors that `range` touches: number, the part of the sector, the part of the range.
pub(super) fn pieces(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let (number, from) = (at / SECTOR, at % SECTOR);
        let n = (SECTOR - from).min(range.end - at);
        let piece = (number, from..from + n, at - range.start..at - range.start + n);
        at += n;
        Some(piece)
    })
}

impl Content {
    pub(super) fn new(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        for (number, of_sector, of_bytes) in pieces(0..bytes.len()) {
            content.write_piece(number, of_sector, bytes.get(of_bytes).unwrap_or_default());
        }
        content.len = bytes.len() as u64;
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, out: &mut [u8], offset: u64) -> usize {
        let start = index(offset.min(self.len));
        let n = out.len().min(index(self.len) - start);
        for (number, of_sector, of_out) in pieces(start..start + n) {
            let Some(out) = out.get_mut(of_out) else { break };
            match self.sector(number).and_then(|sector| sector.get(of_sector)) {
                Some(bytes) => out.copy_from_slice(bytes),
                None => out.fill(0),
            }
        }
        n
    }

    pub(super) fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(&mut bytes, 0);
        bytes
    }

    fn sector(&self, number: usize) -> Option<&Arc<[u8; SECTOR]>> {
        self.sectors.get(number)?.as_ref()
    }

    fn slot(&mut self, number: usize) -> Option<&mut Sector> {
        if self.sectors.len() <= number {
            self.sectors.resize(number + 1, None);
        }
        self.sectors.get_mut(number)
    }

    /// Writes into one sector, whatever the length, and gives the sector as it is then.
    pub(super) fn write_piece(&mut self, number: usize, part: Range<usize>, bytes: &[u8]) -> Sector {
        let slot = self.slot(number)?;
        let sector = Arc::make_mut(slot.get_or_insert_with(|| Arc::new([0; SECTOR])));
        if let Some(part) = sector.get_mut(part) {
            part.copy_from_slice(bytes);
        }
        slot.clone()
    }

    pub(super) fn set_sector(&mut self, number: usize, sector: Sector) {
        if let Some(slot) = self.slot(number) {
            *slot = sector;
        }
    }

    /// Makes it `len` bytes long: cut, or with zeros at its end.
    pub(super) fn set_len(&mut self, len: u64) {
        self.zero_from(len);
        self.len = len;
    }

    /// Makes all bytes from `end` on zeros.
    pub(super) fn zero_from(&mut self, end: u64) {
        self.sectors.truncate(index(end.div_ceil(SECTOR as u64)));
        let number = index(end / SECTOR as u64);
        if let Some(last) = self.sectors.get_mut(number) {
            cut_sector(last, number, end);
        }
    }
}

/// Makes the bytes of sector `number` that lie from file offset `end` on zeros.
pub(super) fn cut_sector(sector: &mut Sector, number: usize, end: u64) {
    let keep = index(end).saturating_sub(number.saturating_mul(SECTOR));
    if keep == 0 {
        *sector = None;
    } else if let Some(beyond) = sector.as_mut().and_then(|bytes| Arc::make_mut(bytes).get_mut(keep..)) {
        beyond.fill(0);
    }
}
