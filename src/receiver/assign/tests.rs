//! The steps of an assignment, and of asking about a position, one at a time and by a clock that the test moves: what is
//! taken away between two of them, and how long they are patient.

use std::slice;

use parking_lot::Mutex;

use super::*;
use crate::receiver::config::Clock;
use crate::receiver::scripted::{Broker, Call, ScriptedSource, Stored};
use crate::receiver::source::Event;
use crate::receiver::status::Silent;

const MS: Duration = Duration::from_millis(1);
/// Where the group is with each partition of the topic; each holds 20 records.
const STARTS: [(i32, i64); 3] = [(0, 5), (1, 10), (2, 15)];

/// A clock that stands almost still until it is moved: it goes on by a hair with each look, so that who looks all the
/// time comes to an end.
#[derive(Debug, Default)]
pub(in crate::receiver) struct Hand(Mutex<Duration>);

pub(in crate::receiver) const HAIR: Duration = Duration::from_nanos(100);

impl Hand {
    pub(in crate::receiver) fn advance(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for Hand {
    fn monotonic(&self) -> Duration {
        self.advance(HAIR);
        *self.0.lock()
    }

    fn unix_millis(&self) -> u64 {
        0
    }
}

/// A member at a broker, and what the steps need. Nobody is at the other end of the line.
struct Stage {
    broker: Broker,
    source: ScriptedSource,
    id: TopicId,
    clock: Arc<Hand>,
    config: Config,
    board: Board,
    line: Arc<Line>,
    intake: Intake,
}

impl Stage {
    fn new() -> Stage {
        let broker = Broker::new();
        let id = broker.create_topic("t", STARTS.len());
        for (number, next) in STARTS {
            (0..20).for_each(|_| _ = broker.produce("t", number, Stored::default()));
            broker.set_committed("g", Commit { partition: place(number), next, metadata: String::new() });
        }
        let source = broker.join("g", &["t"]);
        let clock = Arc::<Hand>::default();
        let config = Config { clock: Arc::<Hand>::clone(&clock), ..Config::default() };
        let board = Board::new(Arc::new(Silent));
        let line = Arc::new(Line::new(OffsetTable::default()));
        let intake = Intake::new(config.clone(), Arc::clone(&line), board.clone(), OffsetTable::default(), 0);
        Stage { broker, source, id, clock, config, board, line, intake }
    }

    fn desk(&mut self) -> Desk<'_> {
        Desk {
            source: &mut self.source,
            intake: &mut self.intake,
            line: &self.line,
            config: &self.config,
            board: &self.board,
            log: LogId([1; 16]),
        }
    }

    /// The first offset that the source delivers of each partition.
    fn firsts(&mut self) -> Vec<(i32, i64)> {
        let mut firsts = BTreeMap::new();
        while let Some(event) = self.source.poll(Duration::ZERO) {
            if let Event::Record(message) = event {
                firsts.entry(message.partition.number).or_insert(message.offset);
            }
        }
        firsts.into_iter().collect()
    }

    /// Makes a partition ours whose position is asked about from now on.
    fn doubt(&mut self, number: i32, next: i64, is_cut: bool) {
        let mut owned = Owned::new(place(number), self.id, next, None);
        let at = self.clock.monotonic();
        owned.recheck = Some(Recheck { since: None, at, is_same_topic: false, is_cut });
        self.intake.own(owned);
    }

    /// Takes steps until there is an error, and lets time go by where there is nothing to do; after how many milliseconds
    /// that is.
    fn patience(&mut self, mut step: impl FnMut(&mut Desk<'_>) -> Result<bool, ReceiveError>) -> (u128, String) {
        let (begun, pause) = (self.clock.monotonic(), self.config.retry_interval);
        for steps in 1..2000 {
            match step(&mut self.desk()) {
                Ok(true) => {}
                Ok(false) => self.clock.advance(pause),
                Err(error) => {
                    let after = (self.clock.monotonic() - begun).as_millis();
                    assert_eq!(u128::from(self.errors()), after / pause.as_millis(), "one try after each pause");
                    return (after, error.to_string());
                }
            }
            assert!(self.errors() <= steps, "it tries without a pause");
        }
        panic!("its patience does not end");
    }

    /// How many errors were told that are not the end.
    fn errors(&self) -> u64 {
        self.board.handle().snapshot().source_errors
    }
}

pub(in crate::receiver) fn place(number: i32) -> Partition {
    Partition { topic: "t".into(), number }
}

pub(in crate::receiver) fn places(numbers: &[i32]) -> Vec<Partition> {
    numbers.iter().copied().map(place).collect()
}

/// The decisions stand for the partitions by their order: one that goes takes its own along.
#[test]
fn what_goes_between_two_steps_leaves_the_others_their_starts() {
    // Which topic it is, what the group has, a decision each, what is recorded.
    const STEPS: usize = 1 + 1 + STARTS.len() + 1;
    for steps in 0..=STEPS {
        for gone in [&[0][..], &[1], &[2], &[0, 1], &[0, 2], &[1, 2]] {
            let (mut stage, mut assignment) = (Stage::new(), Assignment::new(places(&[0, 1, 2])));
            (0..steps).for_each(|_| assignment.ask(&mut stage.desk()).unwrap());
            assert_eq!(assignment.recorded.is_some(), steps == STEPS);
            assert!(assignment.without(&places(gone)));
            while assignment.recorded.is_none() {
                assignment.ask(&mut stage.desk()).unwrap();
            }
            assignment.read(&mut stage.desk(), Duration::ZERO).unwrap();
            let left: Vec<_> = STARTS.into_iter().filter(|(number, _)| !gone.contains(number)).collect();
            assert_eq!(stage.firsts(), left, "{gone:?} went after {steps} steps");
            let owned = stage.intake.owned.iter().map(|owned| (owned.partition.number, owned.next));
            assert_eq!(owned.collect::<Vec<_>>(), left, "{gone:?} went after {steps} steps");
            let recorded = stage.intake.planned().iter().map(|(place, _, mark)| (place.number, mark.next));
            let known = if steps == STEPS { &STARTS[..] } else { &left };
            assert_eq!(recorded.collect::<Vec<_>>(), known, "{gone:?} went after {steps} steps");
        }
    }
}

#[test]
fn an_assignment_of_which_nothing_is_left_is_none() {
    let mut assignment = Assignment::new(places(&[0, 1]));
    assert!(assignment.without(&places(&[0])));
    assert!(!assignment.without(&places(&[1, 2])));
}

/// Each try of its own would have had all the time there is.
#[test]
fn a_position_without_an_answer_is_asked_about_only_so_long() {
    for call in [Call::TopicId, Call::Watermarks, Call::Resume] {
        let mut stage = Stage::new();
        stage.broker.fail(call, u32::MAX);
        stage.doubt(0, 10, false);
        let (after, error) = stage.patience(recheck);
        assert!(error.contains(&format!("{call:?} fails")), "{error}");
        assert_eq!(after, stage.config.start_timeout.as_millis(), "{call:?}");
    }
}

#[test]
fn a_position_beyond_the_end_is_asked_about_only_so_long() {
    let mut stage = Stage::new();
    stage.doubt(0, 21, false);
    let (after, error) = stage.patience(recheck);
    assert!(error.starts_with("t/0: Truncated"), "{error}");
    assert_eq!(after, stage.config.request_timeout.as_millis());
}

/// One that is asked about again and again would have kept the others waiting.
#[test]
fn the_position_that_waits_longest_is_asked_about_first() {
    let mut stage = Stage::new();
    (0..3).for_each(|number| stage.doubt(number, 10, false));
    let at = stage.clock.monotonic();
    for (owned, later) in stage.intake.owned.iter_mut().zip([2 * MS, Duration::ZERO, MS]) {
        owned.recheck.as_mut().unwrap().at = at + later;
    }
    stage.clock.advance(2 * MS);
    // The topic, then the bounds.
    let left = [vec![0, 1, 2], vec![0, 2], vec![0, 2], vec![0], vec![0], vec![]];
    for left in left {
        assert!(recheck(&mut stage.desk()).unwrap());
        let asked = stage.intake.owned.iter().filter(|owned| owned.recheck.is_some());
        assert_eq!(asked.map(|owned| owned.partition.number).collect::<Vec<_>>(), left);
    }
    assert!(!recheck(&mut stage.desk()).unwrap());
}

#[test]
fn a_position_of_which_the_answer_stays_the_same_is_asked_about_once() {
    let at_once = |begins: &str, next, is_cut, change: fn(&Stage)| {
        let mut stage = Stage::new();
        stage.doubt(0, next, is_cut);
        change(&stage);
        let (after, error) = stage.patience(recheck);
        assert!(error.contains(begins), "{error}");
        assert_eq!(after, 0, "{error}");
    };
    at_once("t/0: Missing", 5, false, |stage| stage.broker.expire("t", 0, 6));
    at_once("t/0: Truncated", 10, true, |_| ());
    at_once("t/0: TopicRecreated", 10, false, |stage| _ = stage.broker.recreate_topic("t"));
    at_once("DEAD", 10, false, |stage| stage.broker.kill(stage.source.member()));
}

#[test]
fn an_assignment_asks_only_so_long() {
    let ends = |begins: &str, patience: fn(&Config) -> Duration, change: fn(&Stage)| {
        let (mut stage, mut assignment) = (Stage::new(), Assignment::new(places(&[0, 1, 2])));
        change(&stage);
        let (after, error) = stage.patience(|desk| assignment.advance(desk));
        assert!(error.contains(begins), "{error}");
        assert_eq!(after, patience(&stage.config).as_millis(), "{error}");
    };
    ends("TopicId fails", |config| config.start_timeout, |stage| stage.broker.fail(Call::TopicId, u32::MAX));
    ends("Committed fails", |config| config.start_timeout, |stage| stage.broker.fail(Call::Committed, u32::MAX));
    ends("Watermarks fails", |config| config.start_timeout, |stage| stage.broker.fail(Call::Watermarks, u32::MAX));
    ends("t/1: GroupBeyondEnd", |config| config.request_timeout, |stage| stage.broker.truncate("t", 1, 9));
    ends("t/1: Missing", |_| Duration::ZERO, |stage| stage.broker.expire("t", 1, 11));
    ends("DEAD", |_| Duration::ZERO, |stage| stage.broker.kill(stage.source.member()));
}

/// Many partitions, or a slow disk, may take longer together than one question may.
#[test]
fn an_assignment_has_all_its_time_anew_whenever_it_came_forward() {
    let (mut stage, mut assignment) = (Stage::new(), Assignment::new(places(&[0, 1, 2])));
    let almost = stage.config.start_timeout - MS;
    for call in [Call::TopicId, Call::Committed, Call::Watermarks] {
        stage.broker.fail(call, u32::MAX);
        assert!(!assignment.advance(&mut stage.desk()).unwrap(), "{call:?}");
        stage.clock.advance(almost);
        assert!(!assignment.advance(&mut stage.desk()).unwrap(), "{call:?}");
        stage.broker.fail(call, 0);
        stage.clock.advance(stage.config.retry_interval);
    }
    // All is decided, and waits for the disk.
    stage.broker.fail(Call::Assign, u32::MAX);
    for _ in 0..2 {
        assert!(!assignment.advance(&mut stage.desk()).unwrap());
        stage.clock.advance(almost);
    }
    assert!(!assignment.advance(&mut stage.desk()).unwrap());
    stage.line.done(assignment.recorded.unwrap(), |_| ());
    assert!(!assignment.advance(&mut stage.desk()).unwrap());
    stage.broker.fail(Call::Assign, 0);
    stage.clock.advance(stage.config.retry_interval);
    assert!(assignment.advance(&mut stage.desk()).unwrap());
    assert_eq!(stage.firsts(), STARTS);
}

/// A source that says that much about what the group has, however much it is asked, and that of a partition's bounds.
struct Says(usize, (i64, i64));

const BOUNDS: (i64, i64) = (0, 20);

impl Source for Says {
    fn committed(&mut self, _: &[Partition], _: Duration) -> Result<Vec<Option<Commit>>, SourceError> {
        Ok(vec![None; self.0])
    }

    fn topic_id(&mut self, _: &str, _: Duration) -> Result<Option<TopicId>, SourceError> {
        Ok(Some(TopicId([1; 16])))
    }

    fn watermarks(&mut self, _: &Partition, _: Duration) -> Result<(i64, i64), SourceError> {
        Ok(self.1)
    }

    fn alone(&mut self, _: Duration) -> Result<bool, SourceError> {
        Ok(true)
    }

    fn poll(&mut self, _: Duration) -> Option<Event<'_>> {
        None
    }

    fn assign(&mut self, _: &[(Partition, i64)]) -> Result<(), SourceError> {
        Ok(())
    }

    fn unassign(&mut self, _: &[Partition]) -> Result<(), SourceError> {
        Ok(())
    }

    fn pause(&mut self, _: &[Partition]) -> Result<(), SourceError> {
        Ok(())
    }

    fn resume(&mut self, _: &[(Partition, i64)]) -> Result<(), SourceError> {
        Ok(())
    }

    fn commit(&mut self, _: &[Commit], _: Duration) -> Result<(), SourceError> {
        Ok(())
    }

    fn commit_sync(&mut self, _: &[Commit], _: Duration) -> Result<(), SourceError> {
        Ok(())
    }

    fn close(&mut self, _: Duration) {}
}

/// Those of which it said nothing would have been left out in silence.
#[test]
fn an_answer_about_fewer_or_more_partitions_than_were_asked_for_is_none() {
    for (says, is_answer) in [(0, false), (1, false), (2, true), (3, false)] {
        let (mut stage, mut assignment) = (Stage::new(), Assignment::new(places(&[0, 1])));
        assert!(!assignment.advance(&mut Desk { source: &mut Says(says, BOUNDS), ..stage.desk() }).unwrap());
        assert_eq!((assignment.recorded.is_some(), stage.errors()), (is_answer, u64::from(!is_answer)), "{says}");
    }
}

/// One that the group has read of would not have been seen.
#[test]
fn nor_is_one_about_the_partitions_below() {
    let (place, timeout) = (Partition { topic: Arc::from("orders"), number: 2 }, Duration::from_secs(1));
    for (says, is_answer) in [(0, false), (1, false), (2, true), (3, false)] {
        let lowest =
            lowest_read(&mut Says(says, BOUNDS), &place.topic, TopicId([1; 16]), slice::from_ref(&place), timeout);
        assert_eq!(lowest.ok(), is_answer.then_some(None), "{says}");
    }
}

/// What they begin could not be read again.
#[test]
fn neither_negative_offsets_nor_a_name_that_is_too_long_are_recorded() {
    for (bounds, is_recorded) in
        [((0, 20), true), ((0, 0), true), ((-5, 20), false), ((-5, -1), false), ((0, -1), false)]
    {
        let (mut stage, mut assignment) = (Stage::new(), Assignment::new(places(&[0])));
        _ = assignment.advance(&mut Desk { source: &mut Says(1, bounds), ..stage.desk() });
        assert_eq!(assignment.recorded.is_some(), is_recorded, "{bounds:?}");
    }
    for (length, is_recorded) in [(NAME, true), (NAME + 1, false)] {
        let (mut stage, topic) = (Stage::new(), Arc::from("t".repeat(length)));
        stage.config.block_bytes = 1 << 20;
        let mut assignment = Assignment::new(vec![Partition { topic, number: 0 }]);
        _ = assignment.advance(&mut Desk { source: &mut Says(1, BOUNDS), ..stage.desk() });
        assert_eq!(assignment.recorded.is_some(), is_recorded, "{length}");
    }
}

/// It would begin twice, which does not chain.
#[test]
fn a_partition_that_is_offered_twice_begins_once() {
    let (mut stage, mut assignment) = (Stage::new(), Assignment::new(places(&[0, 1, 0])));
    assert!(!assignment.advance(&mut Desk { source: &mut Says(2, BOUNDS), ..stage.desk() }).unwrap());
    assert!(assignment.recorded.is_some());
}
