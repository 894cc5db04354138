//! What links and `MARK` say of a log as a whole.

/// What is known of a log as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// All below was cleaned.
    pub(super) front: u64,
    /// All below was durable.
    pub(super) durable: u64,
    /// All below was shown to readers.
    pub(super) shown: u64,
    /// Where recovery or a repair cut the log off, and where it went on; in order, and apart.
    pub(super) cuts: Vec<(u64, u64)>,
    /// From the base of a segment to that of the one that links to it: no other lies there.
    pub(super) spans: Vec<(u64, u64)>,
    /// Whether its `MARK` is among the sources, with both its slots: the one that says all may be the one that is lost.
    pub(super) is_marked: bool,
    /// Which slots of it are found, a bit each.
    pub(super) slots: u8,
    /// The source that is its `MARK`, if that is a file of its own.
    pub(super) mark: Option<u16>,
    /// Where a writer goes on with it meanwhile: all below was written before, and is changed by nothing but cleaning.
    pub(super) settled: Option<u64>,
}

impl Past {
    /// Whether a writer may be writing there.
    pub(super) fn is_late(&self, lsn: u64) -> bool {
        self.settled.is_some_and(|settled| lsn >= settled)
    }

    /// What is cut off may hold cuts.
    pub(super) fn join_cuts(&mut self) {
        self.cuts.sort_unstable();
        self.cuts.dedup_by(|next, last| {
            let is_within = next.0 < last.1;
            last.1 = if is_within { last.1.max(next.1) } else { last.1 };
            is_within
        });
    }

    pub(super) fn is_cut_off(&self, lsn: u64) -> bool {
        let above = self.cuts.partition_point(|(from, _)| *from <= lsn);
        above.checked_sub(1).and_then(|index| self.cuts.get(index)).is_some_and(|(_, to)| lsn < *to)
    }
}
