//! A state machine over the same model: calls, faults, crashes and openings in any order, shrunk to the few that
//! break a promise.

use proptest::prelude::*;
use seawall::sim::Bug;

use crate::machine::{FAILING, Machine, Step};
use crate::model::CURSORS;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..4000, 0_u64..6).prop_map(|(length, time)| Step::Append { length, time }),
        4 => prop::collection::vec(0_usize..1500, 1..5).prop_map(|lengths| Step::Batch { lengths }),
        1 => (0_usize..2000).prop_map(|length| Step::Checkpoint { length }),
        4 => Just(Step::Sync),
        1 => Just(Step::Rotate),
        2 => any::<u8>().prop_map(|part| Step::CleanLsn { part }),
        1 => (0_u64..6).prop_map(|time| Step::CleanTime { time }),
        1 => (0..CURSORS.len(), any::<u8>()).prop_map(|(name, to)| Step::Cursor { name, to }),
        2 => Just(Step::Background),
        1 => (0..FAILING.len(), 1_u64..8).prop_map(|(operation, nth)| Step::Fail { operation, nth }),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        1 => any::<u64>().prop_map(|mask| Step::CrashMask { mask }),
        2 => (1_u64..20, any::<u64>()).prop_map(|(nth, seed)| Step::CrashLater { nth, seed }),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn any_calls_faults_and_crashes_keep_the_promises(steps in prop::collection::vec(step(), 1..60)) {
        Machine::new(None).run(&steps).map_err(TestCaseError::fail)?;
    }
}

/// The machine itself is able to fail, and shrinks to a few steps.
#[test]
fn a_planted_bug_is_found_and_shrunk() {
    for bug in [Bug::AcknowledgeBeforeSync, Bug::BatchCutInside, Bug::LinkIsProof, Bug::LsnHandedOutTwice] {
        let mut runner = proptest::test_runner::TestRunner::new_with_rng(
            config(5000),
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let found = runner.run(&prop::collection::vec(step(), 1..60), |steps| {
            Machine::new(Some(bug)).run(&steps).map_err(TestCaseError::fail)
        });
        let Err(proptest::test_runner::TestError::Fail(violation, steps)) = found else {
            panic!("{bug:?} was not found");
        };
        println!("{bug:?}: {violation} by {steps:?}");
        assert!(steps.len() <= 25, "{bug:?} shrank to {} steps only", steps.len());
    }
}
