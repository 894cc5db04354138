//! Disks that are slow, full or broken: polling goes on, intake pauses and resumes, nothing is lost or twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall::receiver::scripted::{Broker, Call, CommitFault, Stored};
use seawall::receiver::{Config, ReceiveError};
use seawall::sim::{Disk, Failing, Fault, Operation};
use seawall::{ErrorKind, Options};

use crate::world::*;

fn small_blocks() -> Config {
    let mut config = quick();
    (config.block_records, config.queue_blocks) = (5, 2);
    config
}

#[test]
fn a_slow_sync_pauses_intake_and_keeps_the_membership() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    broker.max_poll_interval(ms(500));
    let failing = Failing::new(fs(dir.path()));
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), small_blocks());
    produce(&broker, "t", 2, 20);
    life.expect_all_committed();
    let hold = failing.hold(Operation::Sync);
    produce(&broker, "t", 2, 500);
    hold.wait_for(1);
    life.expect("intake is paused", |life| life.status().paused);
    // Three times what a member may be silent for.
    std::thread::sleep(ms(1500));
    let status = life.status();
    assert!(status.paused && status.taken < 520 && status.queued >= 2, "{status:?}");
    assert_eq!(broker.expelled(), 0);
    drop(hold);
    life.expect_all_committed();
    let status = life.stop();
    assert!(status.pauses > 0 && !status.paused && status.paused_for >= ms(1500), "{status:?}");
    assert_eq!((status.lost, status.duplicates, broker.expelled()), (0, 0, 0));
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn memory_in_flight_is_bounded_while_the_disk_stands_still() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let failing = Failing::new(fs(dir.path()));
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), small_blocks());
    produce(&broker, "t", 2, 2);
    life.expect_all_committed();
    let hold = failing.hold(Operation::Sync);
    produce(&broker, "t", 2, 1000);
    hold.wait_for(1);
    life.expect("intake is paused", |life| life.status().paused);
    assert!(!broker.wait(ms(50), |_| life.status().taken > 2 + 2 * 5));
    drop(hold);
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn pauses_that_do_not_hold_and_resumes_that_fail_lose_nothing() {
    for call in [Call::Pause, Call::Resume] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(3));
        broker.fail(call, 5);
        let mut config = small_blocks();
        config.queue_blocks = 1;
        let failing = Failing::new(fs(dir.path()));
        let life = Life::start(&broker, Arc::<Failing>::clone(&failing), config);
        // However fast the disk is: what is held is no origin's sync.
        produce(&broker, "t", 3, 3);
        life.expect_all_committed();
        let hold = failing.hold(Operation::Sync);
        produce(&broker, "t", 3, 300);
        hold.wait_for(1);
        life.expect("the queue is full", |life| life.status().taken >= 3 + 5);
        std::thread::sleep(ms(100));
        drop(hold);
        life.expect_all_committed();
        let status = life.stop();
        assert!(status.pauses > 0 && status.source_errors > 0, "{call:?} {status:?}");
        assert_exactly_once(&broker, fs(dir.path()));
    }
}

#[test]
fn a_stop_while_the_disk_stands_still_waits_for_it_and_keeps_polling() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    broker.max_poll_interval(ms(500));
    let failing = Failing::new(fs(dir.path()));
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), small_blocks());
    produce(&broker, "t", 1, 5);
    life.expect_all_committed();
    let hold = failing.hold(Operation::Sync);
    produce(&broker, "t", 1, 20);
    hold.wait_for(1);
    life.ask_to_stop();
    std::thread::sleep(ms(1000));
    assert!(!life.is_over());
    drop(hold);
    let status = life.outcome().unwrap();
    assert_eq!((status.recorded, broker.expelled()), (status.taken, 0));
    assert_eq!(committed(&broker, 0), Some(status.recorded as i64));
}

#[test]
fn a_stop_while_the_disk_stands_still_ends_when_its_time_is_over() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let failing = Failing::new(fs(dir.path()));
    let mut config = small_blocks();
    (config.stop_timeout, config.drain_timeout) = (ms(50), ms(50));
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), config);
    produce(&broker, "t", 1, 5);
    life.expect_all_committed();
    let hold = failing.hold(Operation::Sync);
    produce(&broker, "t", 1, 20);
    hold.wait_for(1);
    life.ask_to_stop();
    let error = life.error();
    assert!(matches!(error, ReceiveError::NotDurable { blocks: 1.., .. }), "{error}");
    assert_eq!(committed(&broker, 0), Some(5));
    drop(hold);
}

/// There was nothing to store, so the append thread had ended, and closing waited for the disk without a bound.
#[test]
fn an_idle_receiver_stops_in_time_though_the_disk_stands_still() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 5);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    let failing = Failing::new(fs(dir.path()));
    let mut config = quick();
    (config.stop_timeout, config.drain_timeout) = (ms(50), ms(50));
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), config);
    life.expect("it is idle", |life| life.status().assigned == 1);
    let hold = failing.hold(Operation::Sync);
    life.ask_to_stop();
    let error = life.error();
    assert!(matches!(error, ReceiveError::NotClosed), "{error}");
    assert!(broker.members("g").is_empty(), "the group is left");
    drop(hold);
}

#[test]
fn what_is_stored_while_a_stop_ends_is_not_called_lost() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let failing = Failing::new(fs(dir.path()));
    let mut config = quick();
    (config.stop_timeout, config.drain_timeout) = (ms(1), PATIENCE);
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), config);
    produce(&broker, "t", 1, 5);
    life.expect_all_committed();
    let hold = failing.hold(Operation::Sync);
    produce(&broker, "t", 1, 20);
    life.expect("all is read", |life| life.status().taken == 25);
    hold.wait_for(1);
    // However late its time is over: what is stored is not committed.
    broker.fail_commits(&[CommitFault::Refused; 100_000]);
    life.ask_to_stop();
    std::thread::sleep(ms(300));
    drop(hold);
    let error = life.error();
    assert!(matches!(error, ReceiveError::NotCommitted { .. }), "{error}");
    assert!(error.to_string().contains("t/0 (committed to 5, durable to 25)"), "{error}");
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_full_log_pauses_intake_says_so_and_resumes_when_there_is_room() {
    let broker = broker(1);
    let disk = Disk::new(7);
    disk.threads(true);
    let life = Life::start(&broker, disk.mount(), small_blocks());
    produce(&broker, "t", 1, 10);
    life.expect_all_committed();
    disk.capacity(disk.used());
    let big = || Stored { value: Some(vec![7; 4000]), ..Stored::default() };
    (0..100).for_each(|_| _ = broker.produce("t", 0, big()));
    life.expect("the log is full", |life| life.status().full.is_some() && life.status().paused);
    life.expect("it says so", |life| life.witness.heard("full: the disk is full, intake is paused"));
    let full = life.status().full.unwrap();
    assert_eq!(*full.kind(), ErrorKind::DiskFull);
    let stored = life.status().recorded;
    assert!(stored < 110, "{stored}");
    disk.capacity(None);
    life.expect_all_committed();
    let status = life.stop();
    assert!(status.full.is_none() && !status.paused, "{status:?}");
    assert_exactly_once(&broker, disk.mount());
}

/// As on file systems that take a new block for each write.
#[test]
fn a_disk_that_is_too_full_for_what_the_log_has_taken_is_called_full() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let failing = Failing::new(fs(dir.path()));
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), small_blocks());
    produce(&broker, "t", 1, 5);
    life.expect_all_committed();
    failing.fail(Fault::new(Operation::Write).on(".wal").kind(std::io::ErrorKind::StorageFull).for_good());
    produce(&broker, "t", 1, 200);
    life.expect("it says so", |life| life.witness.heard("full: the disk is full, intake is paused"));
    life.expect("the status too", |life| life.status().full.is_some_and(|e| *e.kind() == ErrorKind::DiskFull));
    failing.heal();
    life.expect_all_committed();
    let status = life.stop();
    assert!(status.full.is_none() && !status.paused, "{status:?}");
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_pause_says_whether_the_disk_is_behind_or_the_log_is_full_and_what_to_do_then() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let failing = Failing::new(fs(dir.path()));
    let wal = options().max_disk_bytes(6 * SEGMENT).open_on(Arc::<Failing>::clone(&failing)).unwrap();
    let mut config = small_blocks();
    config.stop_timeout = ms(50);
    config.queue_blocks = 1000;
    let life = Life::on(&broker, Arc::new(wal), config.clone(), Arc::default()).unwrap();
    (0..200).for_each(|_| _ = broker.produce("t", 0, Stored { value: Some(vec![7; 4000]), ..Stored::default() }));
    life.expect("intake is paused", |life| life.witness.heard("paused: "));
    assert!(life.witness.heard("paused: the log is full") && !life.witness.heard("the disk is behind"));
    assert!(life.witness.heard("--retain or a larger --max-disk-bytes"));
    assert!(!life.witness.heard("append a checkpoint"), "what the log says to its own caller");
    life.ask_to_stop();
    let error = life.error();
    assert!(matches!(error, ReceiveError::NotDurable { .. }), "{error}");

    let (dir, broker) = (tempfile::tempdir().unwrap(), self::broker(1));
    let failing = Failing::new(fs(dir.path()));
    config.queue_blocks = 2;
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), config);
    life.expect("the partition is ours", |life| life.status().assigned == 1);
    let hold = failing.hold(Operation::Sync);
    produce(&broker, "t", 1, 100);
    life.expect("intake is paused", |life| life.witness.heard("paused: the disk is behind"));
    assert!(!life.witness.heard("full"));
    drop(hold);
}

/// Room may come in a log that is cleaned, or on a disk. In one that only grows the whole time of a stop was waited out.
#[test]
fn a_stop_waits_for_room_only_where_some_may_come() {
    for (retain, timeout) in [(None, PATIENCE / 2), (Some(PATIENCE), ms(300))] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
        let mut config = small_blocks();
        (config.stop_timeout, config.drain_timeout, config.retain) = (timeout, timeout, retain);
        let wal = options().max_disk_bytes(6 * SEGMENT).open(dir.path()).unwrap();
        let life = Life::on(&broker, Arc::new(wal), config, Arc::default()).unwrap();
        (0..200).for_each(|_| _ = broker.produce("t", 0, Stored { value: Some(vec![7; 4000]), ..Stored::default() }));
        life.expect("the log is full", |life| life.status().full.is_some());
        let asked = Instant::now();
        life.ask_to_stop();
        let error = life.error();
        let took = asked.elapsed();
        assert!(matches!(error, ReceiveError::NotDurable { blocks: 1.., reason: Some(_) }), "{error}");
        assert_eq!(took < timeout, retain.is_none(), "{took:?}");
        // Nothing is lost: what is durable is committed, and nothing else.
        let wal = options().open(dir.path()).unwrap();
        let durable = contents(&wal).get(&0).map_or(0, |records| records.len() as i64);
        assert!(durable < 200 && committed(&broker, 0) == Some(durable), "{durable}: {:?}", committed(&broker, 0));
        wal.close().unwrap();
        let life = Life::start(&broker, fs(dir.path()), quick());
        life.expect_all_committed();
        life.stop();
        assert_exactly_once(&broker, fs(dir.path()));
    }
}

#[test]
fn a_full_log_that_may_be_cleaned_makes_room_for_itself() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let mut config = small_blocks();
    config.retain = Some(ms(20));
    let options = options().max_disk_bytes(6 * SEGMENT);
    let wal = Arc::new(options.open(dir.path()).unwrap());
    let life = Life::on(&broker, wal, config, Arc::default()).unwrap();
    let big = || Stored { value: Some(vec![7; 4000]), ..Stored::default() };
    // Ten times what the log may hold.
    (0..1000).for_each(|_| _ = broker.produce("t", 0, big()));
    life.expect_all_committed();
    assert_exactly_once_from_first(&broker, &life.wal);
    let status = life.stop();
    assert!(status.cleaned > 10 && status.recorded == 1000 && status.checkpoints > 0, "{status:?}");
    // The table stands for what is gone.
    broker.forget_committed("g");
    produce(&broker, "t", 1, 3);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    assert_eq!(life.stop().recorded, 3);
}

#[test]
fn old_blocks_go_when_retention_passes_them_and_the_table_stays() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let mut config = small_blocks();
    (config.retain, config.clean_interval) = (Some(ms(1)), ms(5));
    let life = Life::start(&broker, fs(dir.path()), config.clone());
    let mut produced = 0;
    life.expect("segments are cleaned", |life| {
        if all_committed(&broker) {
            (0..20).for_each(|i| {
                broker.produce("t", i % 2, Stored { value: Some(vec![7; 2000]), ..Stored::default() });
            });
            produced += 20;
        }
        life.status().cleaned > 3
    });
    life.expect_all_committed();
    assert_exactly_once_from_first(&broker, &life.wal);
    assert_eq!(life.stop().recorded, produced);
    broker.forget_committed("g");
    produce(&broker, "t", 2, 4);
    let life = Life::start(&broker, fs(dir.path()), config);
    assert!(life.recovered.checkpoint.is_some());
    life.expect_all_committed();
    assert_eq!(life.stop().recorded, 4, "nothing is read again");
}

/// Large records, so that the log has several segments, and no offset table before a stop in order.
fn without_tables() -> Config {
    let mut config = quick();
    (config.checkpoint_blocks, config.checkpoint_bytes) = (u64::MAX, u64::MAX);
    config
}

fn produce_large(broker: &Broker, count: usize) {
    for _ in 0..count {
        broker.produce("t", 0, Stored { value: Some(vec![1; 5000]), ..Stored::default() });
    }
}

/// A log of forty records that was killed before its first table, and how to clean it.
fn killed_without_a_table() -> (Broker, Disk, Config) {
    let (broker, disk) = (broker(1), Disk::new(1));
    disk.threads(true);
    let life = Life::start(&broker, disk.mount(), without_tables());
    produce_large(&broker, 40);
    life.expect_all_committed();
    life.cut_off(&disk);
    let mut config = without_tables();
    (config.retain, config.clean_interval) = (Some(ms(1)), ms(5));
    (broker, disk, config)
}

/// Old segments go, and what is left is read by the table that stands for them.
#[track_caller]
fn is_cleaned_to_a_table(life: Life, broker: &Broker, disk: &Disk) {
    life.expect("old segments go", |life| life.status().cleaned > 0);
    assert_eq!(life.status().checkpoints, 1);
    life.stop();
    let life = Life::start(broker, disk.mount(), without_tables());
    assert_eq!(life.recovered.table.iter().map(|(_, _, mark)| mark.next).collect::<Vec<_>>(), [40]);
    life.stop();
}

/// A life that was killed before its first table, and one that only cleaned: the beginnings of the chains were gone, and
/// nothing stood for them.
#[test]
fn entries_without_a_table_go_only_once_there_is_one() {
    let (broker, disk, config) = killed_without_a_table();
    let life = Life::start(&broker, disk.mount(), config);
    assert!(life.recovered.checkpoint.is_none());
    is_cleaned_to_a_table(life, &broker, &disk);
}

/// The same on a disk that has no room for the first table.
#[test]
fn entries_stay_where_a_full_disk_takes_no_table() {
    let (broker, disk, config) = killed_without_a_table();
    let failing = Failing::new(disk.mount());
    failing.fail(Fault::new(Operation::Allocate).kind(std::io::ErrorKind::StorageFull).for_good());
    let life = Life::start(&broker, Arc::<Failing>::clone(&failing), config);
    let tried = || failing.count(Operation::Allocate);
    life.expect("a table is tried again and again", |_| tried() > 5);
    assert_eq!((life.status().checkpoints, life.status().cleaned), (0, 0));
    failing.heal();
    is_cleaned_to_a_table(life, &broker, &disk);
}

/// What an earlier life had recorded after its last table counted for nothing: the full log wrote no newer table, and
/// the older one kept all segments.
#[test]
fn a_full_log_that_was_killed_makes_room_by_retention() {
    let (broker, disk) = (broker(1), Disk::new(1));
    disk.threads(true);
    let open = || Arc::new(options().max_disk_bytes(4 * SEGMENT).open_on(disk.mount()).unwrap());
    let begin = |config| Life::on(&broker, open(), config, Arc::default()).unwrap();
    let life = begin(without_tables());
    broker.produce("t", 0, Stored::default());
    life.expect_all_committed();
    // In order: it writes a table.
    life.stop();
    let life = begin(without_tables());
    produce_large(&broker, 60);
    life.expect("the log is full", |life| life.status().full.is_some());
    life.cut_off(&disk);
    let mut config = without_tables();
    (config.retain, config.clean_interval) = (Some(ms(1)), ms(5));
    let life = begin(config);
    life.expect_all_committed();
    assert!(life.status().cleaned > 0);
    life.stop();
}

/// What a killed life left is as long as it was made until something is linked above it: blocks were refused for it, and
/// nothing else was tried.
#[test]
fn a_log_that_is_full_of_what_a_crash_left_takes_a_table_and_goes_on() {
    let (broker, disk) = (broker(1), Disk::new(1));
    disk.threads(true);
    let life = Life::start(&broker, disk.mount(), without_tables());
    produce_large(&broker, 16);
    life.expect_all_committed();
    life.cut_off(&disk);
    produce_large(&broker, 1);
    let wal = Arc::new(options().max_disk_bytes(4 * SEGMENT).open_on(disk.mount()).unwrap());
    let full = wal.append(b"").err().map(|e| e.kind().clone());
    assert_eq!(full, Some(ErrorKind::LogFull));
    let life = Life::on(&broker, wal, without_tables(), Arc::default()).unwrap();
    life.expect_all_committed();
    assert_eq!(life.stop().recorded, 1);
}

/// Opened with a lower bound. Nothing but being the newest keeps what is there, and the last entry is a table: none was
/// written above it.
#[test]
fn a_log_that_is_full_of_what_a_table_stands_for_takes_another_and_goes_on() {
    let (broker, disk) = (broker(1), Disk::new(1));
    disk.threads(true);
    let begin = |options: Options, config| {
        Life::on(&broker, Arc::new(options.open_on(disk.mount()).unwrap()), config, Arc::default()).unwrap()
    };
    let life = begin(options().segment_size(16 * SEGMENT), without_tables());
    produce_large(&broker, 120);
    life.expect_all_committed();
    life.stop();
    let bounded = options().max_disk_bytes(4 * SEGMENT);
    let mut config = without_tables();
    for retain in [None, Some(ms(1))] {
        (config.retain, config.clean_interval) = (retain, ms(5));
        let life = begin(bounded.clone(), config.clone());
        let full = life.wal.append(b"").err().map(|e| e.kind().clone());
        assert_eq!(full, Some(ErrorKind::LogFull));
        produce_large(&broker, 1);
        life.expect_all_committed();
        assert_eq!(life.status().checkpoints, 1, "{retain:?}");
        assert_eq!(life.stop().recorded, 1);
    }
}

#[test]
fn a_failed_sync_ends_the_receiver_and_the_next_life_reads_it_again() {
    let broker = broker(1);
    let disk = Disk::new(3);
    disk.threads(true);
    let life = Life::start(&broker, disk.mount(), small_blocks());
    produce(&broker, "t", 1, 10);
    life.expect_all_committed();
    disk.fail(Fault::new(Operation::Sync));
    produce(&broker, "t", 1, 20);
    let error = life.error();
    assert!(matches!(&error, ReceiveError::Log(_)), "{error}");
    disk.heal();
    let life = Life::start(&broker, disk.mount(), small_blocks());
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, disk.mount());
}

/// The flag is looked at every 100 ms at least. Times are the best of three, for the machine may be busy.
#[test]
fn a_slow_answer_of_the_disk_does_not_slow_the_stop_flag_down() {
    let (mut heard, mut ended) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
        let failing = Failing::new(fs(dir.path()));
        let life = Life::start(&broker, Arc::<Failing>::clone(&failing), quick());
        produce(&broker, "t", 1, 5);
        life.expect_all_committed();
        let hold = failing.hold(Operation::Sync);
        produce(&broker, "t", 1, 5);
        hold.wait_for(1);
        let asked = Instant::now();
        life.ask_to_stop();
        life.expect("the flag is seen", |life| life.witness.heard("stopping"));
        heard = heard.min(asked.elapsed());
        std::thread::sleep(ms(300));
        assert!(!life.is_over());
        let released = Instant::now();
        drop(hold);
        assert_eq!(life.outcome().unwrap().recorded, 10);
        ended = ended.min(released.elapsed());
    }
    assert!(heard < ms(200), "the flag was seen after {heard:?}");
    // Durable, committed, the answer heard: some turns of the loop.
    assert!(ended < ms(1000), "{ended:?} from the disk's answer to the end");
}
