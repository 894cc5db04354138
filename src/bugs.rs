//! Safeties that a test can take out. Without the feature `sim` nothing can be taken out and nothing is left of this.

/// A safety that can be taken out at run time, by [`Options::plant`](crate::Options::plant).
///
/// Each is a fault that some log was shipped with, or that a shorter way of writing this one would bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "public under `sim`"))]
pub enum Bug {
    /// A segment's name is used before the directory was synced.
    NoDirectorySync,
    /// A segment's header is not synced before the file gets its name.
    HeaderNotSynced,
    /// Waiters are told before the sync.
    AcknowledgeBeforeSync,
    /// A failed sync is tried again, and the second answer believed.
    RetryFailedSync,
    /// Recovery serves what it found above the proven point without writing it again.
    NoRewrite,
    /// A frame's length is used before its check.
    LengthBeforeCheck,
    /// All makings of a segment share one seed, so stale frames of a recycled file validate.
    StaleFrames,
    /// A frame claims more than was synced.
    ClaimAheadOfSync,
    /// MARK is written before the sync it speaks of.
    MarkAheadOfSync,
    /// The newest valid link is the tip, whatever it leads down to.
    NewestLinkIsTip,
    /// A valid frame beyond the first bad place is taken as damage, whatever it claims.
    FramesBeyondAreDamage,
    /// A hole is passed over where a later segment's link vouches for the end.
    LinkIsProof,
    /// A new life begins right above the end that it found.
    LsnHandedOutTwice,
    /// The cut segment is trimmed before the new life's link is durable.
    TrimBeforeLink,
    /// Void segments are moved aside before the new life's link is durable.
    TidyBeforeLink,
    /// Files are removed before MARK says durably that they may.
    FrontNotSynced,
    /// A `.new` file left by an earlier life is used again.
    NewFileReused,
    /// Of the segments written since the last sync only the newest is synced.
    OnlyNewestSynced,
    /// Recovery looks ahead only in the segment of the first bad place.
    LookAheadInOneSegment,
    /// A segment is recycled while somebody holds bytes of it.
    RecycleWhileMapped,
    /// Cleaning passes the last durable checkpoint.
    CleanPastCheckpoint,
    /// Cleaning passes cursors.
    CleanPastCursor,
    /// A release counts only at the next link: notes of cursors are not read at open.
    NotesNotRead,
    /// The end of a torn batch is the last valid frame in it.
    BatchCutInside,
    /// A frame's payload is not held against its checksum.
    PayloadUnchecked,
    /// Recovery writes what it found above the proven point again, and serves it before the sync.
    RewriteNotSynced,
    /// What recovery writes again it reads once more, and does not look at that.
    RewriteUnverified,
    /// Closing trims the newest segment before MARK says durably that the log ends there.
    TrimBeforeMark,
    /// Closing syncs nothing.
    CloseUnsynced,
    /// Recovery asks no claim: the first bad place is the end of the log.
    ClaimsNotAsked,
    /// A cursor is given out before the note of it is durable.
    CursorNotSynced,
    /// The end of a round wakes those that it was for, and nobody who would lead the next.
    NextRoundAsleep,
    /// A leader gives its token back before the durable point has moved.
    TokenBeforePoint,
    /// The first failure wakes nobody who sleeps.
    PoisonUnheard,
    /// Whoever begins to watch does not look once more whether there is something to see.
    WatchedTooLate,
    /// Another segment can be made before the one that was made is there to be taken.
    MadeOutOfOrder,
    /// A cursor is made while a clean runs.
    CursorBesideClean,
    /// What a full disk did not take counts as written.
    FullTakenAsWritten,
}

/// The set of safeties taken out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bugs {
    #[cfg(feature = "sim")]
    planted: u64,
}

impl Bugs {
    #[cfg(feature = "sim")]
    pub(crate) fn with(self, bug: Bug) -> Bugs {
        Bugs { planted: self.planted | 1 << bug as u32 }
    }

    /// Whether `bug` was planted; `false`, at compile time, without the feature.
    #[inline(always)]
    pub(crate) fn has(self, bug: Bug) -> bool {
        #[cfg(feature = "sim")]
        return self.planted & 1 << bug as u32 != 0;
        #[cfg(not(feature = "sim"))]
        {
            let _ = bug;
            false
        }
    }
}
