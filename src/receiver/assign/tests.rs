//! The steps of an assignment, one at a time: what is taken away between two of them.

use super::*;
use crate::receiver::scripted::{Broker, ScriptedSource, Stored};
use crate::receiver::source::Event;
use crate::receiver::status::Silent;

/// Where the group is with each partition of the topic; each holds 20 records.
const STARTS: [(i32, i64); 3] = [(0, 5), (1, 10), (2, 15)];

/// A member at a broker, and what the steps need. Nobody is at the other end of the line.
struct Stage {
    source: ScriptedSource,
    config: Config,
    board: Board,
    line: Arc<Line>,
    intake: Intake,
}

impl Stage {
    fn new() -> Stage {
        let broker = Broker::new();
        broker.create_topic("t", STARTS.len());
        for (number, next) in STARTS {
            (0..20).for_each(|_| _ = broker.produce("t", number, Stored::default()));
            broker.set_committed("g", Commit { partition: place(number), next, metadata: String::new() });
        }
        let source = broker.join("g", &["t"]);
        let config = Config::default();
        let board = Board::new(Arc::new(Silent));
        let line = Arc::new(Line::new(OffsetTable::default()));
        let intake = Intake::new(config.clone(), Arc::clone(&line), board.clone(), OffsetTable::default(), 0);
        Stage { source, config, board, line, intake }
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
}

fn place(number: i32) -> Partition {
    Partition { topic: "t".into(), number }
}

fn places(numbers: &[i32]) -> Vec<Partition> {
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
