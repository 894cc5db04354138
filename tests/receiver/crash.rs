//! Where it can die: a receiver is killed at every step it can reach, the power cut with it, and started again;
//! in the end each record is in the log once, and at no time was the group told more than the log had.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use seawall::Durability;
use seawall::receiver::scripted::{Broker, CommitFault, Stored};
use seawall::receiver::{Config, Mode, Step, recover};
use seawall::sim::{Disk, Keep};

use crate::world::*;

/// What the disk keeps when the power goes, or that it stays.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    CutNone,
    CutAll,
    CutSome(u64),
}

impl End {
    fn strike(self, disk: &Disk) {
        match self {
            End::Kill => disk.kill(),
            End::CutNone => disk.crash(Keep::None),
            End::CutAll => disk.crash(Keep::All),
            End::CutSome(seed) => disk.crash(Keep::Random(seed)),
        }
    }
}

/// What is promised, and whether old segments go on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ExactlyOnce,
    AtLeastOnce,
    Cleaning,
}

fn config(way: Way) -> Config {
    let mode = if way == Way::AtLeastOnce { Mode::AtLeastOnce } else { Mode::ExactlyOnce };
    let mut config = quick();
    (config.block_records, config.queue_blocks) = (4, 1);
    (config.checkpoint_blocks, config.mode, config.commit_timeout) = (6, mode, ms(15));
    let retain = if way == Way::Cleaning { ms(1) } else { ms(3_600_000) };
    (config.retain, config.clean_interval) = (Some(retain), ms(3));
    config
}

/// One life that goes through everything: records, holes, a rebalance there and back, a stop. `die` says at
/// which visit of which step it ends. Tells whether it came to its end.
fn live(
    broker: &Broker,
    disk: &Arc<Disk>,
    way: Way,
    mut die: impl FnMut(Step, u64) -> Option<End> + Send + 'static,
) -> (bool, BTreeMap<Step, u64>) {
    disk.threads(true);
    let witness = Arc::new(Witness::default());
    {
        let (broker, disk) = (broker.clone(), Arc::clone(disk));
        let mut is_dead = false;
        *witness.at_step.lock().unwrap() = Some(Box::new(move |step, visit| {
            if is_dead {
                return;
            }
            if step == Step::BlockAppended {
                // A disk that takes a moment, so that the line fills and intake pauses.
                std::thread::sleep(ms(1));
            }
            if let Some(end) = die(step, visit) {
                is_dead = true;
                // All at once, for both threads: the broker hears nothing more, the disk does nothing more.
                broker.members("g").into_iter().for_each(|member| broker.kill(member));
                end.strike(&disk);
            }
        }));
    }
    let Ok(life) = Life::begin(broker, disk.mount(), config(way), Arc::clone(&witness)) else {
        return (false, witness.steps.lock().unwrap().clone());
    };
    let finished = go_through_everything(&life, broker);
    life.ask_to_stop();
    let outcome = life.outcome();
    let steps = witness.steps.lock().unwrap().clone();
    (finished && outcome.is_ok(), steps)
}

fn go_through_everything(life: &Life, broker: &Broker) -> bool {
    // More than a segment, so that the log rotates.
    for number in (0..20).map(|i| i % 2) {
        broker.produce("t", number, Stored { value: Some(vec![number as u8; 5000]), ..Stored::default() });
    }
    broker.skip("t", 0, 1);
    if !life.wait(|_| all_committed(broker)) {
        return false;
    }
    let revoked = life.status().revoked;
    let second = broker.join("g", &["t"]);
    produce(broker, "t", 2, 6);
    if !life.wait(|life| life.status().revoked > revoked) {
        return false;
    }
    drop(second);
    produce(broker, "t", 2, 6);
    life.wait(|_| all_committed(broker))
}

/// Has lives follow each other until one comes to its end, and checks the log after each.
fn check(broker: &Broker, disk: &Arc<Disk>, way: Way) {
    let wal = options().open_on(disk.mount()).unwrap();
    if way == Way::AtLeastOnce {
        // Rewound or not, the table can be rebuilt.
        recover(&wal).unwrap();
    } else {
        assert_not_ahead(broker, &wal);
        assert_exactly_once_from_first(broker, &wal);
    }
    wal.close().unwrap();
}

/// Whether the log no longer begins at its beginning.
fn is_cleaned(disk: &Disk) -> bool {
    let wal = options().open_on(disk.mount()).unwrap();
    let begins = contents(&wal).get(&0).and_then(|records| records.first().map(|(offset, _)| *offset));
    wal.close().unwrap();
    begins != Some(0)
}

fn assert_at_least_once(broker: &Broker, disk: &Disk) {
    let wal = options().open_on(disk.mount()).unwrap();
    let mut contents = contents(&wal);
    for number in 0..2 {
        let mut here: Vec<(i64, Stored)> = contents.remove(&number).unwrap_or_default();
        here.sort_by_key(|(offset, _)| *offset);
        here.dedup();
        assert_eq!(here, broker.records("t", number), "partition {number}");
    }
    wal.close().unwrap();
}

#[test]
fn the_enumerated_steps_are_all_reached() {
    let mut missed = Step::ALL.to_vec();
    // Whether it waits for room goes by how fast its threads are: one run may not have to.
    for seed in 1..20 {
        let (broker, disk) = (broker(2), Arc::new(Disk::new(seed)));
        let (finished, steps) = live(&broker, &disk, Way::ExactlyOnce, |_, _| None);
        assert!(finished);
        assert_exactly_once(&broker, disk.mount());
        missed.retain(|step| !steps.contains_key(step));
        if missed.is_empty() {
            return;
        }
    }
    panic!("{missed:?}");
}

fn killed_at_each_step(way: Way, ends: &[End]) {
    let (mut struck, mut cleaned) = (0, 0);
    for (seed, (step, visit)) in (100..).zip(Step::ALL.iter().flat_map(|step| [(*step, 1), (*step, 2), (*step, 5)])) {
        for end in ends {
            let end = if let End::CutSome(_) = end { End::CutSome(seed) } else { *end };
            let (broker, disk) = (broker(2), Arc::new(Disk::new(seed)));
            disk.threads(true);
            let (finished, _) = live(&broker, &disk, way, move |at, nth| (at == step && nth == visit).then_some(end));
            // The last steps may be reached with nothing left to fail.
            struck += u64::from(!finished);
            disk.threads(true);
            check(&broker, &disk, way);
            let (finished, _) = live(&broker, &disk, way, |_, _| None);
            assert!(finished, "{step:?} visit {visit} {end:?}");
            match way {
                Way::ExactlyOnce => assert_exactly_once(&broker, disk.mount()),
                Way::AtLeastOnce => assert_at_least_once(&broker, &disk),
                Way::Cleaning => {
                    check(&broker, &disk, way);
                    cleaned += u64::from(is_cleaned(&disk));
                }
            }
            assert_eq!(broker.stray_commits(), 0, "{step:?} visit {visit} {end:?}");
        }
    }
    println!("{struck} lives ended early, {cleaned} logs were cleaned");
    assert!(way != Way::Cleaning || cleaned > 30 * ends.len() as u64, "only {cleaned} logs were cleaned");
    assert!(struck > 30 * ends.len() as u64, "only {struck} lives ended early");
}

#[test]
fn killed_at_each_step_with_the_power_on_each_record_is_once_in_the_log() {
    killed_at_each_step(Way::ExactlyOnce, &[End::Kill]);
}

#[test]
fn killed_at_each_step_with_nothing_unsynced_kept_each_record_is_once_in_the_log() {
    killed_at_each_step(Way::ExactlyOnce, &[End::CutNone]);
}

#[test]
fn killed_at_each_step_with_anything_unsynced_kept_each_record_is_once_in_the_log() {
    killed_at_each_step(Way::ExactlyOnce, &[End::CutAll, End::CutSome(0)]);
}

#[test]
fn killed_at_each_step_at_least_once_loses_nothing() {
    killed_at_each_step(Way::AtLeastOnce, &[End::Kill, End::CutNone]);
}

#[test]
fn killed_at_each_step_while_old_segments_go_nothing_is_read_again() {
    killed_at_each_step(Way::Cleaning, &[End::Kill, End::CutNone, End::CutSome(0)]);
}

/// A small generator, so that a seed replays.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn killed_again_and_again_at_any_step_under_commit_faults_each_record_is_once_in_the_log() {
    let seeds = std::env::var("SEAWALL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150);
    for seed in 0..seeds {
        let (broker, disk) = (broker(2), Arc::new(Disk::new(seed)));
        let mut chance = Chance(seed);
        let faults = [
            CommitFault::NotTaken,
            CommitFault::Refused,
            CommitFault::Half,
            CommitFault::AnswerLost,
            CommitFault::Lost,
        ];
        for _ in 0..3 {
            broker.fail_commits(&[faults[chance.below(5) as usize]]);
            let end = match chance.below(4) {
                0 => End::Kill,
                1 => End::CutNone,
                2 => End::CutAll,
                _ => End::CutSome(chance.below(1 << 32)),
            };
            let mut left = chance.below(120);
            live(&broker, &disk, Way::ExactlyOnce, move |_, _| {
                left = left.saturating_sub(1);
                (left == 0).then_some(end)
            });
            disk.threads(true);
            check(&broker, &disk, Way::ExactlyOnce);
        }
        broker.heal_commits();
        let (finished, _) = live(&broker, &disk, Way::ExactlyOnce, |_, _| None);
        assert!(finished, "seed {seed}");
        assert_exactly_once(&broker, disk.mount());
        assert_eq!(broker.stray_commits(), 0, "seed {seed}");
    }
    println!("{seeds} seeds of 3 deaths each");
}

/// A ticket of such a log says that the table was written, not that the disk has it.
#[test]
fn an_offset_table_that_is_told_of_is_durable_in_a_log_that_is_only_written() {
    let (broker, disk) = (broker(1), Arc::new(Disk::new(1)));
    disk.threads(true);
    let (witness, told) = (Arc::new(Witness::default()), mpsc::channel());
    let running = Arc::clone(&disk);
    *witness.at_step.lock().unwrap() = Some(Box::new(move |step, _| {
        if step == Step::CheckpointDurable {
            told.0.send(running.fork()).unwrap();
        }
    }));
    let mut config = config(Way::ExactlyOnce);
    config.checkpoint_blocks = 1;
    let wal = options().durability(Durability::Os).open_on(disk.mount()).unwrap();
    let life = Life::on(&broker, Arc::new(wal), config, witness).unwrap();
    produce(&broker, "t", 1, 20);
    life.expect_all_committed();
    life.stop();
    let cut = told.1.try_iter().map(|left| {
        left.crash(Keep::None);
        let recovered = recover(&options().open_on(left.mount()).unwrap()).unwrap();
        assert!(recovered.checkpoint.is_some() && recovered.entries == 0, "{recovered:?}");
    });
    assert!(cut.count() > 0);
}
