//! Where to start with a partition: the log's mark against the group's offset, decided by one pure function.
//!
//! `m` is the next offset by the log's table, `c` what the group has committed. An offset whose mark bears another id of
//! the topic was committed for one that had the name before: it says nothing about this one, and counts as none. The
//! first row that fits:
//!
//! | # | m | c | verdict |
//! |---|---|---|---|
//! | 1 | known under another topic id | any | [`StartError::TopicRecreated`] |
//! | 2 | none | none | the policy, resolved to a number; a new partition: earliest |
//! | 3 | m | none | m |
//! | 4 | none, or m < c | bears our log | [`StartError::LogBehindGroup`] |
//! | 5 | none, whole log empty | bears another log that has read up to there, no other member | [`StartError::LogBehindGroup`] |
//! | 6 | none | c | c |
//! | 7 | m >= c | c | m, and the group catches up |
//! | 8 | m < c | bears another log or none | c; of `[m, c)` that log has its chain, and none known has the rest: handed over |
//!
//! A partition is new where the log or the group has read of a lower one of its topic. That either knows one is not enough: it
//! may have been begun in the same moment, with the topic or the group.
//!
//! In `AtLeastOnce` the group's offset is the one truth: rows 4 to 8 are one, "start at c". Either way a start
//! below what the source still has is [`StartError::Missing`], one beyond its end [`StartError::Truncated`], or, at a c up
//! to which no log has read, [`StartError::GroupBeyondEnd`]: then nothing says that the source lost a record. An origin or a
//! handover is durable in the log before the first record is read.

use super::config::{Mode, Reset};
use super::entry::{LogId, OriginCause};
use super::error::StartError;
use super::source::TopicId;

/// What the log knows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogMark {
    /// Nothing.
    None,
    /// Its next offset.
    At(i64),
    /// It knows the topic under another identity only.
    Recreated(TopicId),
}

/// What the mark of a commit says: the log has everything from there up to what was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) log: LogId,
    pub(super) from: i64,
    /// Something was read before that, by this log or another.
    pub(super) read_before: bool,
}

impl Chain {
    /// Whether something was read in it up to `next`: one that has only begun holds nothing.
    pub(super) fn has_read(self, next: i64) -> bool {
        self.from < next
    }
}

/// What the group has committed for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupMark {
    /// Nothing.
    None,
    /// An offset, and the chain whose mark it bears.
    At(i64, Option<Chain>),
}

impl GroupMark {
    /// Whether something was read of the partition: a chain that has only begun was not, unless there was one before.
    pub(super) fn is_read(self) -> bool {
        matches!(self, GroupMark::At(next, chain) if chain.is_none_or(|chain| chain.has_read(next) || chain.read_before))
    }
}

/// All that the decision goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) mode: Mode,
    pub(super) reset: Reset,
    pub(super) log: LogId,
    pub(super) mark: LogMark,
    /// The log or the group has read of a lower partition of the topic: this one was added since.
    pub(super) is_new: bool,
    /// The log knows nothing at all.
    pub(super) log_empty: bool,
    pub(super) group: GroupMark,
    /// No other member is in the group. Looked at in row 5 only.
    pub(super) alone: bool,
    pub(super) topic_id: TopicId,
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Facts {
    /// Whether the verdict hangs on [`alone`](Facts::alone), which costs a question to the source.
    pub(super) fn asks_alone(&self) -> bool {
        let other = matches!(self.group, GroupMark::At(c, Some(chain)) if chain.log != self.log && chain.has_read(c));
        self.mode == Mode::ExactlyOnce && self.log_empty && self.mark == LogMark::None && other
    }

    /// Whether this log, or by its commit another, has read what lies before the start.
    fn was_read_up_to(&self, start: Start) -> bool {
        let by_another = matches!(self.group, GroupMark::At(c, Some(chain)) if chain.has_read(c));
        by_another || matches!(start, Start::Resume(_))
    }

    /// Whether the verdict hangs on what the group has read of the topic's other partitions.
    pub(super) fn asks_topic(&self) -> bool {
        let unknown = (self.mark, self.group) == (LogMark::None, GroupMark::None);
        unknown && !self.is_new && self.reset != Reset::Earliest
    }
}

/// Where reading begins, and what is recorded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At the log's mark; nothing to record.
    Resume(i64),
    /// A chain begins, over `previous` in at-least-once.
    Origin { next: i64, previous: Option<i64>, cause: OriginCause },
    /// `[from, next)` is passed over. What of it is in the chain, which begins inside, another log has; what is not, or
    /// all of it without one, is in no log that is known.
    Handover { from: i64, next: i64, chain: Option<Chain> },
}

impl Start {
    /// The first offset that is read.
    pub(super) fn next(self) -> i64 {
        match self {
            Start::Resume(next) | Start::Origin { next, .. } | Start::Handover { next, .. } => next,
        }
    }
}

/// The start table, then the bounds of the source.
pub(super) fn decide(facts: &Facts) -> Result<Start, StartError> {
    let start = match facts.mode {
        Mode::ExactlyOnce => by_log(facts)?,
        Mode::AtLeastOnce => by_group(facts)?,
    };
    let in_bounds = in_bounds(start.next(), facts.low, facts.high);
    if matches!(in_bounds, Err(StartError::Truncated { .. })) && !facts.was_read_up_to(start) {
        let log = if let LogMark::At(m) = facts.mark { Some(m) } else { None };
        return Err(StartError::GroupBeyondEnd { group: start.next(), high: facts.high, log });
    }
    in_bounds.map(|()| start)
}

/// Whether a source that holds `[low, high)` can be read from `next` on.
pub(super) fn in_bounds(next: i64, low: i64, high: i64) -> Result<(), StartError> {
    if next < low {
        Err(StartError::Missing { next, low })
    } else if next > high {
        Err(StartError::Truncated { next, high: Some(high) })
    } else {
        Ok(())
    }
}

fn by_log(facts: &Facts) -> Result<Start, StartError> {
    match (facts.mark, facts.group) {
        (LogMark::Recreated(known), _) => Err(StartError::TopicRecreated { known, now: facts.topic_id }),
        (LogMark::None, GroupMark::None) => by_policy(facts),
        (LogMark::At(m), GroupMark::None) => Ok(Start::Resume(m)),
        (LogMark::At(m), GroupMark::At(c, _)) if m >= c => Ok(Start::Resume(m)),
        (LogMark::At(m), GroupMark::At(c, Some(chain))) if chain.log == facts.log => {
            Err(StartError::LogBehindGroup { log: Some(m), group: c })
        }
        (LogMark::At(m), GroupMark::At(c, chain)) => {
            let inside = |chain: Chain| Chain { from: chain.from.max(m), ..chain };
            Ok(Start::Handover { from: m, next: c, chain: chain.map(inside).filter(|chain| chain.from < c) })
        }
        (LogMark::None, GroupMark::At(c, chain)) => {
            let ours = chain.is_some_and(|chain| chain.log == facts.log);
            // Where nothing was read there is no log that could have been lost.
            let was_read = chain.is_some_and(|chain| chain.has_read(c));
            if ours || (facts.log_empty && was_read && facts.alone) {
                return Err(StartError::LogBehindGroup { log: None, group: c });
            }
            Ok(Start::Origin { next: c, previous: None, cause: OriginCause::Group })
        }
    }
}

fn by_group(facts: &Facts) -> Result<Start, StartError> {
    match (facts.mark, facts.group) {
        (LogMark::Recreated(known), _) => Err(StartError::TopicRecreated { known, now: facts.topic_id }),
        (LogMark::None, GroupMark::None) => by_policy(facts),
        // Nothing was committed yet, but something was read: the policy could pass over what is not in the log.
        (LogMark::At(m), GroupMark::None) => Ok(Start::Resume(m)),
        (LogMark::At(m), GroupMark::At(c, _)) if m == c => Ok(Start::Resume(m)),
        (mark, GroupMark::At(c, _)) => {
            let previous = if let LogMark::At(m) = mark { Some(m) } else { None };
            Ok(Start::Origin { next: c, previous, cause: OriginCause::Group })
        }
    }
}

fn by_policy(facts: &Facts) -> Result<Start, StartError> {
    let (next, cause) = match facts.reset {
        _ if facts.is_new => (facts.low, OriginCause::NewPartition),
        Reset::Earliest => (facts.low, OriginCause::Earliest),
        Reset::Latest => (facts.high, OriginCause::Latest),
        Reset::Error => return Err(StartError::NoOffset),
    };
    Ok(Start::Origin { next, previous: None, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Chain = Chain { log: LogId([1; 16]), from: 0, read_before: false };
    const OTHER: Chain = Chain { log: LogId([2; 16]), from: 0, read_before: false };
    const ID: TopicId = TopicId([3; 16]);
    const OLD: TopicId = TopicId([4; 16]);

    /// A source that holds `[10, 90)`.
    fn facts(mode: Mode, mark: LogMark, group: GroupMark) -> Facts {
        Facts {
            mode,
            reset: Reset::Earliest,
            log: OURS.log,
            mark,
            is_new: false,
            log_empty: mark == LogMark::None,
            group,
            alone: true,
            topic_id: ID,
            low: 10,
            high: 90,
        }
    }

    fn exactly(mark: LogMark, group: GroupMark) -> Facts {
        facts(Mode::ExactlyOnce, mark, group)
    }

    fn at_least(mark: LogMark, group: GroupMark) -> Facts {
        facts(Mode::AtLeastOnce, mark, group)
    }

    fn origin(next: i64, cause: OriginCause) -> Result<Start, StartError> {
        Ok(Start::Origin { next, previous: None, cause })
    }

    #[test]
    fn row_1_a_topic_made_anew_is_an_error_whatever_the_group_says() {
        let groups = [GroupMark::None, GroupMark::At(50, None), GroupMark::At(50, Some(OURS))];
        for group in groups {
            for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
                let verdict = decide(&facts(mode, LogMark::Recreated(OLD), group));
                assert_eq!(verdict, Err(StartError::TopicRecreated { known: OLD, now: ID }));
            }
        }
    }

    #[test]
    fn row_2_the_policy_decides_where_nobody_knows() {
        for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
            let unknown = facts(mode, LogMark::None, GroupMark::None);
            assert_eq!(decide(&unknown), origin(10, OriginCause::Earliest));
            assert_eq!(decide(&Facts { reset: Reset::Latest, ..unknown }), origin(90, OriginCause::Latest));
            assert_eq!(decide(&Facts { reset: Reset::Error, ..unknown }), Err(StartError::NoOffset));
        }
    }

    #[test]
    fn row_2_a_new_partition_starts_at_earliest_whatever_the_policy() {
        for reset in [Reset::Earliest, Reset::Latest, Reset::Error] {
            let known = Facts { reset, is_new: true, log_empty: false, ..exactly(LogMark::None, GroupMark::None) };
            assert_eq!(decide(&known), origin(10, OriginCause::NewPartition));
        }
    }

    #[test]
    fn row_3_the_log_alone_is_followed() {
        assert_eq!(decide(&exactly(LogMark::At(50), GroupMark::None)), Ok(Start::Resume(50)));
    }

    #[test]
    fn row_4_a_log_behind_its_own_commit_is_an_error() {
        let behind = |mark, log| {
            for log_empty in [false, true] {
                let facts = Facts { log_empty, ..exactly(mark, GroupMark::At(50, Some(OURS))) };
                assert_eq!(decide(&facts), Err(StartError::LogBehindGroup { log, group: 50 }));
                assert!(!facts.asks_alone());
            }
        };
        behind(LogMark::At(49), Some(49));
        behind(LogMark::None, None);
    }

    #[test]
    fn row_5_an_empty_log_alone_before_another_logs_commit_is_an_error() {
        let lost = exactly(LogMark::None, GroupMark::At(50, Some(OTHER)));
        assert_eq!(decide(&lost), Err(StartError::LogBehindGroup { log: None, group: 50 }));
        assert!(lost.asks_alone());
        let begun = exactly(LogMark::None, GroupMark::At(50, Some(Chain { from: 50, ..OTHER })));
        assert_eq!(decide(&begun), origin(50, OriginCause::Group));
        assert!(!begun.asks_alone());
    }

    #[test]
    fn row_6_the_groups_offset_begins_a_chain_where_the_log_knows_nothing() {
        let plain = exactly(LogMark::None, GroupMark::At(50, None));
        assert_eq!(decide(&plain), origin(50, OriginCause::Group));
        assert!(!plain.asks_alone());
        let other = exactly(LogMark::None, GroupMark::At(50, Some(OTHER)));
        let in_company = Facts { alone: false, ..other };
        assert_eq!(decide(&in_company), origin(50, OriginCause::Group));
        let with_others = Facts { log_empty: false, ..other };
        assert_eq!(decide(&with_others), origin(50, OriginCause::Group));
        assert!(!with_others.asks_alone());
    }

    #[test]
    fn row_7_a_log_ahead_of_the_group_is_followed() {
        for log in [None, Some(OURS), Some(OTHER)] {
            for m in [50, 51] {
                assert_eq!(decide(&exactly(LogMark::At(m), GroupMark::At(50, log))), Ok(Start::Resume(m)));
            }
        }
    }

    #[test]
    fn row_8_what_another_log_took_is_handed_over() {
        let handed_over = |chain| decide(&exactly(LogMark::At(40), GroupMark::At(50, chain)));
        let by = |chain| Ok(Start::Handover { from: 40, next: 50, chain });
        let from = |from| Some(Chain { from, ..OTHER });
        assert_eq!(handed_over(None), by(None));
        for begins in [0, 39, 40] {
            assert_eq!(handed_over(from(begins)), by(from(40)));
        }
        // What lies before the other log's chain is in none that is known.
        assert_eq!(handed_over(from(41)), by(from(41)));
        for begins in [50, 51] {
            assert_eq!(handed_over(from(begins)), by(None));
        }
    }

    #[test]
    fn row_9_a_start_below_what_is_left_is_an_error() {
        let missing = |next| Err(StartError::Missing { next, low: 10 });
        assert_eq!(decide(&exactly(LogMark::At(9), GroupMark::None)), missing(9));
        assert_eq!(decide(&exactly(LogMark::At(7), GroupMark::At(8, None))), missing(8));
        assert_eq!(decide(&exactly(LogMark::None, GroupMark::At(8, None))), missing(8));
        assert_eq!(decide(&at_least(LogMark::At(50), GroupMark::At(8, None))), missing(8));
        assert_eq!(decide(&exactly(LogMark::At(10), GroupMark::None)), Ok(Start::Resume(10)));
    }

    #[test]
    fn row_10_a_start_beyond_the_end_is_an_error() {
        let truncated = |next| Err(StartError::Truncated { next, high: Some(90) });
        assert_eq!(decide(&exactly(LogMark::At(91), GroupMark::None)), truncated(91));
        assert_eq!(decide(&exactly(LogMark::At(91), GroupMark::At(50, Some(OURS)))), truncated(91));
        assert_eq!(decide(&at_least(LogMark::None, GroupMark::At(91, Some(OTHER)))), truncated(91));
        assert_eq!(decide(&exactly(LogMark::At(90), GroupMark::None)), Ok(Start::Resume(90)));
    }

    #[test]
    fn row_10_a_group_beyond_the_end_that_nobody_has_read_up_to_does_not_accuse_the_source() {
        let begun = Some(Chain { from: 91, ..OTHER });
        for facts in [exactly, at_least] {
            for (mark, log) in [(LogMark::None, None), (LogMark::At(50), Some(50))] {
                for chain in [None, begun] {
                    let beyond = Err(StartError::GroupBeyondEnd { group: 91, high: 90, log });
                    assert_eq!(decide(&facts(mark, GroupMark::At(91, chain))), beyond);
                }
            }
        }
    }

    #[test]
    fn at_least_once_follows_the_group_back_and_forth() {
        for log in [None, Some(OURS), Some(OTHER)] {
            let group = GroupMark::At(50, log);
            let rewound = |m| Ok(Start::Origin { next: 50, previous: Some(m), cause: OriginCause::Group });
            assert_eq!(decide(&at_least(LogMark::At(60), group)), rewound(60));
            assert_eq!(decide(&at_least(LogMark::At(40), group)), rewound(40));
            assert_eq!(decide(&at_least(LogMark::At(50), group)), Ok(Start::Resume(50)));
            assert_eq!(decide(&at_least(LogMark::None, group)), origin(50, OriginCause::Group));
            assert!(!at_least(LogMark::None, group).asks_alone());
        }
    }

    #[test]
    fn at_least_once_without_a_commit_goes_on_where_the_log_ends() {
        let facts = Facts { reset: Reset::Latest, ..at_least(LogMark::At(50), GroupMark::None) };
        assert_eq!(decide(&facts), Ok(Start::Resume(50)));
    }

    /// In exactly-once, of every combination of facts: a start lies within the source; a log that knows the partition
    /// goes on at its own mark, or passes over exactly what lies between it and the group's offset, with a handover
    /// that names the log whose mark the offset bears for what that says it has, and never our own; and a chain begins
    /// only where the log knows nothing.
    #[test]
    fn no_combination_of_facts_passes_over_a_record_in_silence() {
        let offsets = [9, 10, 40, 50, 90, 91];
        let marks = offsets.iter().map(|m| LogMark::At(*m)).chain([LogMark::None, LogMark::Recreated(OLD)]);
        let chains = [None, Some(OURS), Some(OTHER), Some(Chain { from: 45, ..OTHER })];
        let groups: Vec<_> = offsets
            .iter()
            .flat_map(|c| chains.map(|chain| GroupMark::At(*c, chain)))
            .chain([GroupMark::None])
            .collect();
        let mut seen = 0;
        for mark in marks {
            for (group, reset, bits) in groups.iter().flat_map(|group| {
                [Reset::Earliest, Reset::Latest, Reset::Error]
                    .into_iter()
                    .flat_map(move |reset| (0..8).map(move |bits| (*group, reset, bits)))
            }) {
                let (is_new, log_empty, alone) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                let facts = Facts { reset, is_new, log_empty, alone, ..exactly(mark, group) };
                seen += 1;
                let Ok(start) = decide(&facts) else { continue };
                assert!((10..=90).contains(&start.next()), "{facts:?}");
                match (start, mark) {
                    (Start::Resume(next), LogMark::At(m)) => assert_eq!(next, m, "{facts:?}"),
                    (Start::Handover { from, next, chain }, LogMark::At(m)) => {
                        let GroupMark::At(c, said) = group else { panic!("{facts:?}") };
                        assert!(from == m && next == c && next > m, "{facts:?}");
                        assert_ne!(said.map(|said| said.log), Some(OURS.log), "{facts:?}");
                        let has = |chain: Option<Chain>, offset| chain.is_some_and(|chain| chain.from <= offset);
                        assert!((m..c).all(|offset| has(chain, offset) == has(said, offset)), "{facts:?}");
                    }
                    (Start::Origin { previous: None, .. }, LogMark::None) => {}
                    other => panic!("{other:?} for {facts:?}"),
                }
            }
        }
        assert_eq!(seen, 8 * 25 * 3 * 8);
    }
}
