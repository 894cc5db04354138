//! A receiver's ordinary life: what is recorded, how blocks are made, how it stops and goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use seawall::receiver::scripted::Stored;
use seawall::receiver::{
    Clock, CommitMark, Entry, LogId, Mode, OriginCause, ReceiveError, Status, SystemClock, TopicId,
};
use seawall::sim::{Disk, Keep};
use seawall::{Durability, ErrorKind, Kind, Lsn, Wal};

use crate::world::*;

#[test]
fn thirty_messages_are_recorded_and_thirty_is_committed() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 30);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    let log = LogId(life.wal.log_id());
    let commit = broker.committed("g", "t", 0).unwrap();
    let mark = CommitMark::parse(&commit.metadata).unwrap();
    assert_eq!((commit.next, mark.log, mark.topic_id), (30, log, TopicId([1; 16])));
    assert!(matches!(Entry::decode(&life.wal.get(mark.lsn).unwrap().payload), Ok(Entry::Block(_))));
    let status = life.stop();
    assert_eq!((status.taken, status.recorded, status.duplicates), (30, 30, 0));
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn several_topics_are_received_into_one_log_each_with_its_own_offsets() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    broker.create_topic("u", 2);
    let all = |wal: &Wal| {
        let mut all = Vec::new();
        for record in records(wal) {
            let Entry::Block(block) = Entry::decode(&record.payload).unwrap() else { continue };
            all.extend(block.records().map(|record| {
                let record = record.unwrap();
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                (block.ranges()[record.range].partition.clone(), record.offset, value)
            }));
        }
        all.sort();
        all
    };
    let expected = |records: i32| {
        let each = |topic: &'static str| {
            let of = move |i: i32| {
                (partition(topic, i % 2), i64::from(i / 2), format!("{topic}/{} record {}", i % 2, i % 20))
            };
            (0..records).map(of)
        };
        let mut expected: Vec<_> = each("t").chain(each("u")).collect();
        expected.sort();
        expected
    };
    for life in 1..=3 {
        produce(&broker, "t", 2, 20);
        produce(&broker, "u", 2, 20);
        let wal = Arc::new(options().open(dir.path()).unwrap());
        let life_of = Life::of(&["t", "u"], &broker, Arc::clone(&wal), quick(), Arc::default()).unwrap();
        let next = |topic| broker.committed("g", topic, 1).map(|commit| commit.next);
        let end = Some(i64::from(life) * 10);
        life_of.expect("both are committed", |_| (next("t"), next("u")) == (end, end) && all_committed(&broker));
        assert_eq!(all(&wal), expected(life * 20));
        drop(wal);
        assert_eq!(life_of.stop().recorded, 40);
    }
}

#[test]
fn what_was_received_is_recorded_byte_for_byte() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let bytes = |len: usize| Some((0..len).map(|i| i as u8).collect::<Vec<_>>());
    for key in [None, bytes(0), bytes(3)] {
        for value in [None, bytes(0), bytes(1000)] {
            for headers in [
                vec![],
                vec![(b"b".to_vec(), None), (b"a".to_vec(), bytes(0)), (b"b".to_vec(), bytes(2))],
                vec![(vec![0xFF, 0], bytes(256)), (vec![], None)],
            ] {
                for (timestamp_type, timestamp) in [(0, -1), (1, 0), (2, i64::MAX)] {
                    let (key, value, headers) = (key.clone(), value.clone(), headers.clone());
                    broker.produce("t", 1, Stored { timestamp, timestamp_type, key, value, headers });
                }
            }
        }
    }
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    assert_eq!(broker.records("t", 1).len(), 81);
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_graceful_stop_leaves_everything_read_durable_and_committed() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(3));
    produce(&broker, "t", 3, 100);
    let mut config = quick();
    config.block_interval = PATIENCE;
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect("all is read", |life| life.status().taken == 100);
    assert_eq!(life.status().recorded, 0, "the block is open for long");
    let wal = Arc::clone(&life.wal);
    let status = life.stop();
    assert_eq!((status.recorded, status.sealed.by_stop, status.queued), (100, 1, 0));
    assert!(all_committed(&broker));
    assert!(broker.members("g").is_empty(), "the group is left");
    assert_eq!(wal.append(b"x").err().map(|error| error.kind().clone()), Some(ErrorKind::Closed));
    drop(wal);
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn an_idle_receiver_stops_and_begins_again_without_a_word_in_the_log() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 3);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    let count = || {
        let wal = options().open(dir.path()).unwrap();
        let count = records(&wal).len();
        wal.close().unwrap();
        count
    };
    let before = count();
    for _ in 0..3 {
        let life = Life::start(&broker, fs(dir.path()), quick());
        life.expect("the partition is ours", |life| life.status().assigned == 1);
        assert_eq!(life.stop().commits.sent, 0, "the group has it all");
    }
    assert_eq!(count(), before);
}

#[test]
fn the_next_life_goes_on_where_the_log_ends_whatever_became_of_the_commits() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    for round in 0..4 {
        produce(&broker, "t", 2, 20);
        let life = Life::start(&broker, fs(dir.path()), quick());
        life.expect_all_committed();
        assert_eq!(life.stop().recorded, 20);
        match round {
            0 => broker.forget_committed("g"),
            1 => (0..2).for_each(|number| broker.set_committed("g", commit(number, 3, ""))),
            _ => {}
        }
    }
    assert_exactly_once(&broker, fs(dir.path()));
    assert_eq!(broker.backward_commits(), 0);
}

#[test]
fn the_group_catches_up_with_the_log_before_anything_new_is_read() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    broker.set_committed("g", commit(0, 4, ""));
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    assert_eq!(life.stop().taken, 0);
}

#[test]
fn what_the_source_repeats_is_dropped_and_counted_and_the_rest_taken() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    produce(&broker, "t", 1, 5);
    broker.repeat(4);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    let status = life.stop();
    assert_eq!((status.duplicates, status.recorded), (4, 5));
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn offsets_without_records_are_declared_and_committed() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 5);
    broker.skip("t", 0, 2);
    produce(&broker, "t", 1, 3);
    broker.compact("t", 0, 1);
    broker.skip("t", 0, 1);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    assert_eq!(committed(&broker, 0), Some(11));
    broker.skip("t", 0, 4);
    life.expect_all_committed();
    assert_eq!(committed(&broker, 0), Some(15), "a marker alone is recorded and committed too");
    life.stop();
    let wal = options().open(dir.path()).unwrap();
    let ranges: Vec<_> = records(&wal)
        .iter()
        .filter_map(|record| match Entry::decode(&record.payload) {
            Ok(Entry::Block(block)) => Some(block.ranges().to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(ranges.iter().map(|range| u64::from(range.count)).sum::<u64>(), 7);
    assert_eq!((ranges[0].from, ranges.last().unwrap().next), (0, 15));
    assert!(ranges.windows(2).all(|pair| pair[0].next == pair[1].from));
    wal.close().unwrap();
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_log_begins_with_the_origins_of_its_partitions() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    produce(&broker, "t", 2, 4);
    broker.expire("t", 1, 1);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    let origins: Vec<_> = records(&life.wal)
        .iter()
        .take(2)
        .map(|record| match Entry::decode(&record.payload) {
            Ok(Entry::Origin(origin)) => (origin.partition.number, origin.next, origin.cause, origin.previous),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(origins, [(0, 0, OriginCause::Earliest, None), (1, 1, OriginCause::Earliest, None)]);
    life.stop();
}

#[test]
fn a_block_is_sealed_by_records_by_bytes_or_by_its_age() {
    let run = |change: fn(&mut seawall::receiver::Config), until: fn(&Status) -> bool| {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
        produce(&broker, "t", 1, 100);
        let mut config = quick();
        config.block_interval = PATIENCE;
        change(&mut config);
        let life = Life::start(&broker, fs(dir.path()), config);
        life.expect("all is taken as far as it shall be", |life| until(&life.status()));
        let status = life.stop();
        assert_exactly_once(&broker, fs(dir.path()));
        status.sealed
    };
    let by_records = run(|config| config.block_records = 30, |status| status.taken == 100);
    assert_eq!((by_records.by_records, by_records.by_bytes, by_records.by_interval), (3, 0, 0));
    let by_bytes = run(|config| config.block_bytes = 2000, |status| status.taken == 100);
    assert!(by_bytes.by_bytes >= 3 && by_bytes.by_records == 0 && by_bytes.by_interval == 0, "{by_bytes:?}");
    // All of it durable before the stop: nothing but its age can have sealed the last block.
    let by_age = run(|config| config.block_interval = ms(1), |status| status.recorded == 100);
    assert!(by_age.by_interval >= 1 && (by_age.by_records, by_age.by_bytes, by_age.by_stop) == (0, 0, 0), "{by_age:?}");
}

/// What a segment leaves for a record: 8 KiB for its header and link, 24 bytes for the frame's header, 4 of padding.
const LARGEST_BLOCK: usize = SEGMENT as usize - 8192 - 24 - 4;

#[test]
fn no_block_is_larger_than_a_segment_holds() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let mut config = quick();
    config.block_bytes = usize::MAX;
    config.block_interval = PATIENCE;
    let largest = LARGEST_BLOCK;
    // The last fills a block to its last byte, which is then sealed although more was asked for.
    for len in [largest / 3, largest / 3, largest / 3, largest / 2, largest - 92, 10, largest - 91] {
        let value = Some(vec![7; len]);
        broker.produce("t", 0, Stored { value, ..Stored::default() });
    }
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect("all is read", |life| life.status().taken == 7);
    assert_eq!(life.stop().sealed.by_stop, 0);
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn offsets_without_records_make_no_block_larger_than_a_segment_holds() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let mut config = quick();
    config.block_bytes = usize::MAX;
    config.block_interval = PATIENCE;
    // Ten bytes are left in the block, which hold no range of the other partition.
    let value = Some(vec![7; LARGEST_BLOCK - 91 - 10]);
    broker.produce("t", 0, Stored { value, ..Stored::default() });
    broker.skip("t", 1, 5);
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect("all is read", |life| {
        let next: Vec<_> = life.status().partitions.iter().map(|status| status.next).collect();
        next == [1, 5]
    });
    let status = life.stop();
    assert_eq!((status.sealed.by_bytes, status.sealed.by_stop), (1, 1));
    assert!(all_committed(&broker));
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn a_record_that_no_segment_holds_is_an_error_that_says_so() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    produce(&broker, "t", 1, 2);
    broker.produce("t", 0, Stored { value: Some(vec![7; SEGMENT as usize]), ..Stored::default() });
    let life = Life::start(&broker, fs(dir.path()), quick());
    let error = life.error();
    assert!(matches!(error, ReceiveError::RecordTooLarge { offset: 2, .. }), "{error}");
    assert!(error.to_string().contains("larger segments"), "{error}");
    let wal = options().open(dir.path()).unwrap();
    assert_eq!(contents(&wal)[&0].len(), 2, "what came before is in the log");
}

#[test]
fn partitions_whose_offsets_no_segment_holds_are_an_error_before_any_is_recorded() {
    // Of the fewer a segment holds the table, but not the origins in one batch.
    for count in [1000, 2000] {
        let (dir, broker) = (tempfile::tempdir().unwrap(), broker(count));
        produce(&broker, "t", count as i32, count as i32);
        let life = Life::start(&broker, fs(dir.path()), quick());
        let error = life.error();
        assert!(matches!(error, ReceiveError::TableTooLarge { partitions, .. } if partitions == count), "{error}");
        assert!(error.to_string().contains("larger segments"), "{error}");
        assert_eq!(records(&options().open(dir.path()).unwrap()).len(), 0);
        assert_eq!(broker.all_committed("g"), []);
    }
}

#[test]
fn an_offset_table_that_smaller_segments_do_not_hold_is_an_error_before_anything_is_read() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(300));
    produce(&broker, "t", 300, 300);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    life.stop();
    produce(&broker, "t", 1, 10);
    let wal = || Arc::new(options().segment_size(16 << 10).open(dir.path()).unwrap());
    let error = Life::on(&broker, wal(), quick(), Arc::default()).err().unwrap();
    assert!(matches!(error, ReceiveError::TableTooLarge { partitions: 300, .. }), "{error}");
    assert!(error.to_string().contains("offset table") && error.to_string().contains("--segment-size"), "{error}");
    // Nothing is in its way once the segments are as large as before.
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    assert_eq!(life.stop().recorded, 10);
}

/// A ticket of such a log says that its record was written, not that the disk has it.
#[test]
fn a_log_that_is_only_written_is_synced_before_anything_is_committed() {
    for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
        let (broker, disk) = (broker(1), Disk::new(1));
        disk.threads(true);
        let options = options().durability(Durability::Os);
        let mut config = quick();
        config.mode = mode;
        let begin = |disk: &Disk| {
            let wal = Arc::new(options.open_on(disk.mount()).unwrap());
            Life::on(&broker, wal, config.clone(), Arc::default()).unwrap()
        };
        let life = begin(&disk);
        produce(&broker, "t", 1, 20);
        life.expect_all_committed();
        let left = disk.fork();
        life.cut_off(&disk);
        left.crash(Keep::None);
        left.threads(true);
        produce(&broker, "t", 1, 1);
        let life = begin(&left);
        life.expect_all_committed();
        life.stop();
        assert_exactly_once(&broker, left.mount());
    }
}

#[test]
fn durations_of_any_length_are_taken() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let mut config = quick();
    config.block_records = 5;
    for duration in [
        &mut config.block_interval,
        &mut config.clean_interval,
        &mut config.request_timeout,
        &mut config.start_timeout,
        &mut config.commit_timeout,
        &mut config.commit_refresh,
        &mut config.drain_timeout,
        &mut config.stop_timeout,
    ] {
        *duration = Duration::MAX;
    }
    config.retain = Some(Duration::MAX);
    let life = Life::start(&broker, fs(dir.path()), config);
    produce(&broker, "t", 1, 20);
    life.expect_all_committed();
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

/// A clock a thousand times as fast.
#[derive(Debug)]
struct Fast(SystemClock);

impl Clock for Fast {
    fn monotonic(&self) -> Duration {
        1000 * self.0.monotonic()
    }

    fn unix_millis(&self) -> u64 {
        self.0.unix_millis()
    }
}

#[test]
fn a_partition_that_stays_silent_is_sought_again() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let mut config = quick();
    config.clock = Arc::new(Fast(SystemClock::default()));
    (config.start_timeout, config.commit_timeout) = (1000 * PATIENCE, 1000 * PATIENCE);
    produce(&broker, "t", 2, 30);
    broker.stall(1);
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect_all_committed();
    assert_eq!(life.stop().watchdog_seeks, 2);
    assert_exactly_once(&broker, fs(dir.path()));
}

/// A wall clock that goes back with every look.
#[derive(Debug)]
struct Backwards(SystemClock, AtomicU64);

impl Clock for Backwards {
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn unix_millis(&self) -> u64 {
        self.1.fetch_sub(100, Ordering::Relaxed)
    }
}

#[test]
fn batch_times_never_decrease_though_the_clock_goes_back() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let mut times = Vec::new();
    for start in [1_000_000, 500_000] {
        let mut config = quick();
        config.clock = Arc::new(Backwards(SystemClock::default(), AtomicU64::new(start)));
        config.block_records = 3;
        produce(&broker, "t", 1, 10);
        let life = Life::start(&broker, fs(dir.path()), config);
        life.expect_all_committed();
        times = records(&life.wal).iter().map(|record| record.batch_time.0).collect();
        life.stop();
    }
    assert!(times.len() > 8 && times.is_sorted() && times[0] == 1_000_000, "{times:?}");
}

#[test]
fn a_checkpoint_keeps_recovery_short() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(2));
    let mut config = quick();
    (config.checkpoint_blocks, config.block_records) = (5, 2);
    produce(&broker, "t", 2, 100);
    let life = Life::start(&broker, fs(dir.path()), config.clone());
    life.expect_all_committed();
    let status = life.stop();
    assert!(status.checkpoints >= 5, "{status:?}");
    let life = Life::start(&broker, fs(dir.path()), config);
    assert!(life.recovered.checkpoint.is_some_and(|lsn| lsn > Lsn::ZERO));
    assert_eq!(life.recovered.entries, 0, "the last life wrote a table when it stopped");
    assert_eq!(life.recovered.table.len(), 2);
    let kinds: Vec<_> = records(&life.wal).iter().map(|record| record.kind).collect();
    assert!(kinds.contains(&Kind::Checkpoint));
    life.stop();
    assert_exactly_once(&broker, fs(dir.path()));
}

#[test]
fn at_least_once_goes_back_with_the_group_and_says_so_in_the_log() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), broker(1));
    let mut config = quick();
    config.mode = Mode::AtLeastOnce;
    produce(&broker, "t", 1, 10);
    let life = Life::start(&broker, fs(dir.path()), config.clone());
    life.expect_all_committed();
    life.stop();
    broker.set_committed("g", commit(0, 6, ""));
    let life = Life::start(&broker, fs(dir.path()), config);
    life.expect_all_committed();
    let offsets: Vec<_> = contents(&life.wal)[&0].iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 6, 7, 8, 9]);
    life.stop();
    // The way back to exactly-once is open: the table follows the origins.
    produce(&broker, "t", 1, 3);
    let life = Life::start(&broker, fs(dir.path()), quick());
    life.expect_all_committed();
    assert_eq!(life.stop().recorded, 3);
}
