//! A state machine over the same model: calls, faults, crashes and openings in any order, shrunk to the few that
//! break a promise.

use std::time::Duration;

use proptest::prelude::*;
use seawall::sim::{Bug, Disk, Fault, Keep, Operation};
use seawall::{ErrorKind, Kind, Lsn, Options, Wal};

use crate::model::{Batch, Model};

#[derive(Clone, Debug)]
enum Step {
    Append {
        length: usize,
        time: u64,
    },
    Batch {
        lengths: Vec<usize>,
    },
    Checkpoint {
        length: usize,
    },
    Sync,
    Rotate,
    CleanLsn {
        part: u8,
    },
    CleanTime {
        time: u64,
    },
    Background,
    /// The n-th such call from here fails.
    Fail {
        operation: usize,
        nth: u64,
    },
    /// The power goes at once, and what is left is chosen by the seed.
    Crash {
        seed: u64,
    },
    /// It goes in the middle of a later call.
    CrashLater {
        nth: u64,
        seed: u64,
    },
    Kill,
    Close,
}

const FAILING: [Operation; 6] =
    [Operation::Sync, Operation::SyncDir, Operation::Write, Operation::Rename, Operation::Remove, Operation::Create];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..4000, 0_u64..6).prop_map(|(length, time)| Step::Append { length, time }),
        4 => prop::collection::vec(0_usize..1500, 1..5).prop_map(|lengths| Step::Batch { lengths }),
        1 => (0_usize..2000).prop_map(|length| Step::Checkpoint { length }),
        4 => Just(Step::Sync),
        1 => Just(Step::Rotate),
        2 => any::<u8>().prop_map(|part| Step::CleanLsn { part }),
        1 => (0_u64..6).prop_map(|time| Step::CleanTime { time }),
        2 => Just(Step::Background),
        1 => (0..FAILING.len(), 1_u64..8).prop_map(|(operation, nth)| Step::Fail { operation, nth }),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        2 => (1_u64..20, any::<u64>()).prop_map(|(nth, seed)| Step::CrashLater { nth, seed }),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

struct Machine {
    disk: Disk,
    options: Options,
    wal: Option<Wal>,
    model: Model,
    faulty: bool,
    /// What is left when the crash point is met.
    later: u64,
}

impl Machine {
    fn new(bug: Option<Bug>) -> Machine {
        let options = Options::new().segment_size(16 << 10);
        let options = bug.map_or(options.clone(), |bug| options.plant(bug));
        Machine { disk: Disk::new(0), options, wal: None, model: Model::default(), faulty: false, later: 0 }
    }

    /// Brings the log up, over as many crashes as it takes.
    fn up(&mut self) -> Result<&Wal, String> {
        while self.wal.is_none() {
            match self.options.open_on(self.disk.mount()) {
                Ok(wal) => {
                    let checked = self.model.clone().check_into(&wal);
                    match checked {
                        Ok(model) => self.model = model,
                        Err(_) if self.disk.crashed() => {
                            self.down(wal, self.later);
                            continue;
                        }
                        Err(violation) => return Err(violation),
                    }
                    self.wal = Some(wal);
                }
                Err(_) if self.disk.crashed() || self.faulty => {
                    self.disk.heal();
                    self.faulty = false;
                    self.disk.crash(Keep::Random(self.later));
                }
                Err(e) => return Err(format!("the log does not open: {e}")),
            }
        }
        Ok(self.wal.as_ref().unwrap())
    }

    fn down(&mut self, wal: Wal, seed: u64) {
        let left = self.disk.fork();
        self.disk.crash_at(0);
        drop(wal);
        self.disk = left;
        self.disk.heal();
        self.faulty = false;
        self.disk.crash(Keep::Random(seed));
    }

    fn append(&mut self, kind: Kind, lengths: &[usize], time: u64) -> Result<(), String> {
        let serial = self.model.batches.len();
        let payloads: Vec<Vec<u8>> = lengths.iter().map(|length| vec![serial as u8; *length]).collect();
        let batch = Batch { payloads: payloads.clone(), time, kind, lsn: None };
        let at = self.up()?.at(time);
        let appended = match kind {
            Kind::Checkpoint => at.append_checkpoint(&payloads[0]),
            _ => at.append_batch(&payloads),
        };
        match appended.map(|ticket| ticket.lsn()) {
            Ok(lsn) => self.model.appended(batch, lsn.0),
            Err(e) => {
                if *e.kind() == ErrorKind::Poisoned {
                    self.model.unknown.get_or_insert(batch);
                }
                self.allowed(Err(e))
            }
        }
    }

    fn allowed(&self, result: seawall::Result<()>) -> Result<(), String> {
        match result {
            Err(e) if !self.faulty && !self.disk.crashed() => Err(e.to_string()),
            _ => Ok(()),
        }
    }

    fn clean(&mut self, clean: impl Fn(&Wal) -> seawall::Result<seawall::Cleaned>) -> Result<(), String> {
        self.up()?;
        let wal = self.wal.as_ref().unwrap();
        self.model.cleans(wal);
        let cleaned = clean(wal);
        if let Ok(cleaned) = &cleaned {
            self.model.front = self.model.front.max(cleaned.first.0);
            self.model.all_kept();
        }
        self.allowed(cleaned.map(drop))
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Append { length, time } => self.append(Kind::Record, &[*length], *time),
            Step::Batch { lengths } => self.append(Kind::Record, lengths, 3),
            Step::Checkpoint { length } => self.append(Kind::Checkpoint, &[*length], 3),
            Step::Sync => {
                let synced = self.up()?.sync();
                if synced.is_ok() {
                    self.model.all_kept();
                }
                self.allowed(synced.map(drop))
            }
            Step::Rotate => {
                let rotated = self.up()?.rotate();
                self.allowed(rotated)
            }
            Step::CleanLsn { part } => {
                let lsn = self.model.highest / 255 * u64::from(*part);
                self.model.clean_lsn = self.model.clean_lsn.max(lsn);
                self.clean(|wal| wal.clean_before_lsn(Lsn(lsn)))
            }
            Step::CleanTime { time } => {
                self.model.clean_time = self.model.clean_time.max(*time);
                self.clean(|wal| wal.clean_before_batch_time(*time))
            }
            Step::Background => {
                self.up()?;
                self.disk.advance(Duration::from_secs(1));
                self.disk.settle();
                Ok(())
            }
            Step::Fail { operation, nth } => {
                self.disk.fail(Fault::new(FAILING[*operation]).nth(*nth));
                self.faulty = true;
                Ok(())
            }
            Step::CrashLater { nth, seed } => {
                self.later = *seed;
                self.disk.crash_torn_at(*nth);
                Ok(())
            }
            Step::Crash { seed } => {
                self.up()?;
                let wal = self.wal.take().unwrap();
                self.down(wal, *seed);
                Ok(())
            }
            Step::Kill => {
                self.up()?;
                self.wal = None;
                self.disk.kill();
                Ok(())
            }
            Step::Close => {
                let closed = self.up()?.close();
                if closed.is_ok() {
                    self.model.all_kept();
                }
                self.wal = None;
                self.allowed(closed)
            }
        }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            self.take(step)?;
            if self.disk.crashed()
                && let Some(wal) = self.wal.take()
            {
                self.down(wal, self.later);
            }
        }
        self.up().map(drop)
    }
}

impl Model {
    fn check_into(mut self, wal: &Wal) -> Result<Model, String> {
        self.check(wal).map(|()| self)
    }
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
