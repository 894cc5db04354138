//! The decision table: what was seen, and what it means. Nothing else decides whether a log opens. What is seen as
//! *broken* is found in `chain.rs`; read errors and headers too new end the survey before; `Strict` asks
//! for more than this. `check` goes on past damage and does not ask the table: it goes by the same survey, chain and
//! rules of length, and `tests/agree.rs` holds what it finds against what opening says.

/// What recovery saw, as the questions that the table asks. A read error never comes this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// A valid frame of a newer version at the first bad place. A header of one ended the survey before.
    pub(super) too_new: bool,
    /// Segments are not as any crash leaves them: rows 3a to 3f and 3h of DESIGN's table.
    pub(super) broken: bool,
    /// Something readable claims that more was durable than is there.
    pub(super) claimed: bool,
    /// Valid frames lie beyond the first bad place.
    pub(super) beyond: bool,
    /// There is any segment.
    pub(super) segments: bool,
    /// MARK says that something was durable, shown or cleaned once.
    pub(super) used: bool,
}

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    TooNew,
    Damage,
    Torn,
    End,
    New,
}

/// The first row that fits.
pub(super) fn decide(seen: Seen) -> Verdict {
    match seen {
        Seen { too_new: true, .. } => Verdict::TooNew,
        Seen { broken: true, .. } => Verdict::Damage,
        Seen { segments: false, used: true, .. } => Verdict::Damage,
        Seen { claimed: true, .. } => Verdict::Damage,
        Seen { segments: false, .. } => Verdict::New,
        Seen { beyond: true, .. } => Verdict::Torn,
        Seen { beyond: false, .. } => Verdict::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of the 64 things that can be seen, against the table written as priorities.
    #[test]
    fn every_row_of_the_table() {
        let mut verdicts = [0; 5];
        for bits in 0..64_u32 {
            let bit = |n: u32| bits >> n & 1 == 1;
            let seen = Seen {
                too_new: bit(0),
                broken: bit(1),
                claimed: bit(2),
                beyond: bit(3),
                segments: bit(4),
                used: bit(5),
            };
            let lost = seen.used && !seen.segments;
            let expected = if seen.too_new {
                Verdict::TooNew
            } else if seen.broken || lost || seen.claimed {
                Verdict::Damage
            } else if !seen.segments {
                Verdict::New
            } else if seen.beyond {
                Verdict::Torn
            } else {
                Verdict::End
            };
            assert_eq!(decide(seen), expected, "{seen:?}");
            verdicts[expected as usize] += 1;
        }
        assert_eq!(verdicts, [32, 26, 2, 2, 2]);
    }
}
