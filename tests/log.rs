//! What the log does, on real files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use seawall::{BatchTime, Durability, ErrorKind, Kind, Lsn, Options, Wal, Why};

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

fn payloads(wal: &Wal) -> Vec<Vec<u8>> {
    wal.read(..).unwrap().map(|record| record.unwrap().payload.to_vec()).collect()
}

fn numbered(n: u32) -> Vec<u8> {
    let mut payload = vec![b'.'; (n as usize * 37) % 600];
    payload.extend_from_slice(&n.to_le_bytes());
    payload
}

fn kind<T: std::fmt::Debug>(result: seawall::Result<T>) -> ErrorKind {
    result.unwrap_err().kind().clone()
}

#[test]
fn what_is_appended_is_read_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<_> = (0..1000).map(numbered).collect();
    for life in 0..4 {
        let wal = small().open(dir.path()).unwrap();
        assert_eq!(payloads(&wal), expected[..life * 250], "life {life}");
        assert_eq!(wal.recovery().records, life as u64 * 250);
        assert!(wal.recovery().torn.is_none());
        let mut last = Lsn::ZERO;
        for payload in &expected[life * 250..(life + 1) * 250] {
            let lsn = wal.append(payload).unwrap().wait().unwrap();
            assert!(lsn > last);
            last = lsn;
            assert_eq!(wal.get(lsn).unwrap().payload, payload);
        }
        assert_eq!(payloads(&wal), expected[..(life + 1) * 250]);
        wal.close().unwrap();
    }
}

#[test]
fn every_form_of_append() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    wal.append(b"one").unwrap().wait().unwrap();
    wal.append(b"").unwrap().wait().unwrap();
    wal.append_parts(&[b"two ", b"", b"parts"]).unwrap().wait().unwrap();
    let last = wal.append_batch(&["a", "bb", "ccc"]).unwrap().wait().unwrap();
    wal.at(7).append(b"seven").unwrap().wait().unwrap();
    wal.at(3).append(b"three").unwrap().wait().unwrap();
    wal.append(b"again seven").unwrap().wait().unwrap();
    wal.try_append(b"try").unwrap().wait().unwrap();
    let checkpoint = wal.append_checkpoint(b"state").unwrap().wait().unwrap();
    let records: Vec<_> = wal.read(..).unwrap().map(Result::unwrap).collect();
    let seen: Vec<_> = records.iter().map(|r| (&r.payload[..], r.batch_time.0, r.kind, r.ends_batch)).collect();
    let expected: [(&[u8], u64, Kind, bool); 11] = [
        (b"one", 0, Kind::Record, true),
        (b"", 0, Kind::Record, true),
        (b"two parts", 0, Kind::Record, true),
        (b"a", 0, Kind::Record, false),
        (b"bb", 0, Kind::Record, false),
        (b"ccc", 0, Kind::Record, true),
        (b"seven", 7, Kind::Record, true),
        (b"three", 3, Kind::Record, true),
        (b"again seven", 7, Kind::Record, true),
        (b"try", 7, Kind::Record, true),
        (b"state", 7, Kind::Checkpoint, true),
    ];
    assert_eq!(seen, expected);
    assert_eq!(records[5].lsn, last);
    assert_eq!(wal.checkpoint().unwrap().unwrap().lsn, checkpoint);
    assert_eq!(kind(wal.append_batch::<&[u8]>(&[])), ErrorKind::Invalid);
    drop(wal);
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(wal.checkpoint().unwrap().unwrap().payload, "state");
    assert_eq!(wal.batch_time().0, 7);
}

#[test]
fn a_record_takes_24_bytes_more_than_its_payload_to_a_multiple_of_4() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(1 << 20).open(dir.path()).unwrap();
    for (payload, takes) in [(0, 24), (1, 28), (100, 124), (1024, 1048)] {
        let first = wal.append(&vec![1; payload]).unwrap().lsn();
        assert_eq!(wal.append(b"next").unwrap().lsn().0 - first.0, takes, "{payload}");
    }
}

#[test]
fn synced_bytes_are_bytes_of_frames_and_no_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for _ in 0..3 {
        wal.append(&[1; 100]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.append(&[1; 100]).unwrap().wait().unwrap();
    assert_eq!(wal.stats().synced_bytes, 4 * (24 + 100 + 24 + 80));
}

#[test]
fn sizes_up_to_the_largest_batch() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let room = (16 << 10) - 8192 - 24;
    let largest = vec![7; room];
    wal.append(&largest).unwrap().wait().unwrap();
    wal.append(&largest).unwrap().wait().unwrap();
    let too_large = vec![7; room + 1];
    assert!(matches!(kind(wal.append(&too_large)), ErrorKind::TooLarge { .. }));
    assert!(matches!(kind(wal.append_batch(&[&largest[..], &[]])), ErrorKind::TooLarge { .. }));
    let halves = [&largest[..room / 2 - 12], &largest[..room / 2 - 12]];
    wal.append_batch(&halves).unwrap().wait().unwrap();
    assert_eq!(payloads(&wal).len(), 4);
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn tickets_are_awaited_on_any_executor() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..200 {
        let lsn = block_on(wal.append(&numbered(n)).unwrap()).unwrap();
        assert!(lsn < wal.durable_lsn());
    }
    drop(wal.append(b"nobody waits").unwrap());
    wal.sync().unwrap();
    assert_eq!(payloads(&wal).len(), 201);
}

/// A task whose future is woken by the log's own thread may hold the last handle to the log.
#[test]
fn a_log_is_dropped_by_the_thread_that_wakes_a_future() {
    struct DropsIt(std::sync::Mutex<Option<Wal>>, std::sync::mpsc::Sender<()>);
    impl Wake for DropsIt {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
            self.1.send(()).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let mut ticket = wal.append(b"the last word").unwrap().into_owned();
    let (sender, woken) = std::sync::mpsc::channel();
    let waker = Waker::from(Arc::new(DropsIt(Some(wal).into(), sender)));
    if std::pin::Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending() {
        woken.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    drop((waker, ticket));
    assert_eq!(payloads(&small().open(dir.path()).unwrap()), [b"the last word"]);
}

#[test]
fn threads_share_syncs_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    // However fast the disk is, the records of all are there before one of them syncs.
    let appended = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let (wal, appended) = (&wal, &appended);
            scope.spawn(move || {
                for n in 0..300_u32 {
                    let ticket = wal.append(&[thread.to_le_bytes(), n.to_le_bytes()].concat()).unwrap();
                    appended.wait();
                    let lsn = ticket.wait().unwrap();
                    assert!(wal.durable_lsn() > lsn);
                }
            });
        }
    });
    let mut next = [0_u32; 8];
    for payload in payloads(&wal) {
        let (thread, n) = payload.split_at(4);
        let next = &mut next[u32::from_le_bytes(thread.try_into().unwrap()) as usize];
        assert_eq!(n, next.to_le_bytes());
        *next += 1;
    }
    assert_eq!(next, [300; 8]);
    assert!(wal.stats().syncs <= 600, "{:?}", wal.stats());
}

#[test]
fn a_clean_by_batch_time_says_why_what_lies_behind_a_later_time_stays() {
    let kept = |segments: &[&[u64]], before: u64| {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().open(dir.path()).unwrap();
        for times in segments {
            times.iter().for_each(|time| _ = wal.at(*time).append(b"x").unwrap().wait().unwrap());
            wal.rotate().unwrap();
        }
        wal.at(9).append(b"newest").unwrap().wait().unwrap();
        let cleaned = wal.clean_before_batch_time(before).unwrap();
        cleaned.kept.into_iter().map(|kept| kept.why).collect::<Vec<_>>()
    };
    let [five, six] = [5, 6].map(|time| Why::BatchTime(BatchTime(time)));
    assert_eq!(kept(&[&[5, 5], &[6, 2], &[7]], 5), [five, six.clone()]);
    assert_eq!(kept(&[&[5], &[7]], 5), []);
    assert_eq!(kept(&[&[4, 6], &[7]], 5), [six]);
}

#[test]
fn cleaning_removes_a_prefix_and_says_why_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let mut lsns = Vec::new();
    for time in 0..10_u64 {
        for _ in 0..2 {
            lsns.push(wal.at(time).append(&[time as u8; 5000]).unwrap().wait().unwrap());
        }
    }
    let cleaned = wal.clean_before_batch_time(4).unwrap();
    assert!(!cleaned.removed.is_empty() && cleaned.kept.is_empty(), "{cleaned:?}");
    let first = wal.read(..).unwrap().next().unwrap().unwrap();
    assert_eq!(first.batch_time.0, 4);
    assert!(matches!(kind(wal.get(lsns[0])), ErrorKind::Removed { first, .. } if first == cleaned.first));
    assert!(matches!(kind(wal.read(lsns[0]..)), ErrorKind::Removed { .. }));
    let checkpoint = wal.append_checkpoint(b"here").unwrap().wait().unwrap();
    wal.at(11).append(&[0; 8000]).unwrap().wait().unwrap();
    wal.at(12).append(&[0; 8000]).unwrap().wait().unwrap();
    let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert_eq!(cleaned.kept[0].why, Why::Checkpoint(checkpoint));
    assert_eq!(cleaned.kept.last().unwrap().why, Why::Newest);
    let shown = cleaned.to_string();
    let begins = format!("{} segments removed, the log begins at LSN {}; ", cleaned.removed.len(), cleaned.first);
    assert!(shown.starts_with(&begins) && shown.ends_with(&cleaned.kept.last().unwrap().to_string()), "{shown}");
    let stays = format!("; {} stays: the last checkpoint, at LSN {checkpoint}; ", cleaned.kept[0].segment);
    assert!(shown.contains(&stays), "{shown}");
    assert_eq!(wal.checkpoint().unwrap().unwrap().lsn, checkpoint);
    drop(wal);
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(wal.checkpoint().unwrap().unwrap().lsn, checkpoint);
    assert!(matches!(kind(wal.get(lsns[0])), ErrorKind::Removed { .. }));
}

#[test]
fn sealed_segments_are_read_out_of_their_map_and_never_change() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let lsn = wal.append(&[1; 6000]).unwrap().wait().unwrap();
    let kept = {
        wal.append(&[2; 6000]).unwrap().wait().unwrap();
        wal.append(&[3; 6000]).unwrap().wait().unwrap();
        wal.get(lsn).unwrap().payload
    };
    let again = wal.get(lsn).unwrap().payload;
    assert_eq!(kept.as_ptr(), again.as_ptr(), "both lie in the map");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    if cfg!(target_os = "linux") {
        let address = kept.as_ptr() as usize;
        let inside = maps.lines().any(|line| {
            let (from, rest) = line.split_once('-').unwrap();
            let to = rest.split_once(' ').unwrap().0;
            let range = usize::from_str_radix(from, 16).unwrap()..usize::from_str_radix(to, 16).unwrap();
            range.contains(&address) && line.contains(".wal")
        });
        assert!(inside, "no map of a segment holds the payload");
    }
    for n in 0..40 {
        wal.append(&[n; 6000]).unwrap().wait().unwrap();
        wal.clean_before_lsn(Lsn::MAX).unwrap();
    }
    assert!(kept.iter().all(|byte| *byte == 1));
}

#[test]
fn what_is_borrowed_is_what_is_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let mut lsns = Vec::new();
    for n in 0..200_u32 {
        lsns.push(wal.at(u64::from(n)).append(&numbered(n)).unwrap().lsn());
        if n % 20 == 0 {
            lsns.push(wal.append_batch(&[numbered(n), Vec::new()]).unwrap().lsn());
            lsns.push(wal.append_checkpoint(b"so far").unwrap().lsn());
        }
    }
    wal.sync().unwrap();
    assert!(wal.stats().segments > 3, "maps and the segment that is still written");
    let reader = Options::new().open_read_only(dir.path()).unwrap();
    for from in [0, 1, 77, lsns.len() - 1].map(|n| lsns[n]) {
        for mut borrowed in [wal.read(from..).unwrap(), reader.read(from..).unwrap()] {
            let mut handed_out = wal.read(from..).unwrap();
            // In turns, so that both ways go on from where the other stopped.
            while let Some(record) = handed_out.next() {
                let (expected, record) = (record.unwrap(), borrowed.next_borrowed().unwrap().unwrap());
                assert_eq!(
                    (record.lsn, record.batch_time, record.kind),
                    (expected.lsn, expected.batch_time, expected.kind)
                );
                assert_eq!((record.ends_batch, record.payload), (expected.ends_batch, &expected.payload[..]));
                assert_eq!(handed_out.next().transpose().unwrap(), borrowed.next().transpose().unwrap());
            }
            assert!(borrowed.next_borrowed().is_none());
        }
    }
}

#[test]
fn intervals_and_bytes_bound_what_nobody_waits_for() {
    for options in [small().sync_interval(Duration::from_millis(5)), small().sync_bytes(1000)] {
        let dir = tempfile::tempdir().unwrap();
        let wal = options.open(dir.path()).unwrap();
        for _ in 0..3 {
            let lsn = wal.append(&[0; 1000]).unwrap().lsn();
            let begin = std::time::Instant::now();
            while wal.durable_lsn() <= lsn {
                assert!(begin.elapsed() < Duration::from_secs(10), "never synced");
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn with_os_durability_nothing_is_synced_but_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().durability(Durability::Os).open(dir.path()).unwrap();
    for n in 0..100 {
        wal.append(&numbered(n)).unwrap().wait().unwrap();
    }
    assert_eq!(wal.stats().syncs, 0);
    let view = Options::new().open_read_only(dir.path()).unwrap();
    assert_eq!(view.read(..).unwrap().count(), 100);
    wal.sync().unwrap();
    assert_eq!(wal.stats().syncs, 1);
}

#[test]
fn a_reader_beside_the_writer_sees_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(kind(small().open_read_only(dir.path().join("none"))), ErrorKind::NotFound);
    let wal = small().open(dir.path()).unwrap();
    for n in 0..100 {
        wal.append(&numbered(n)).unwrap().wait().unwrap();
        let view = small().open_read_only(dir.path()).unwrap();
        let seen: Vec<_> = view.read(..).unwrap().map(|r| r.unwrap().payload.to_vec()).collect();
        assert_eq!(seen, (0..=n).map(numbered).collect::<Vec<_>>());
    }
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(kind(small().open(dir.path())), ErrorKind::Locked);
    wal.close().unwrap();
    wal.close().unwrap();
    assert_eq!(kind(wal.append(b"late")), ErrorKind::Closed);
    assert_eq!(kind(wal.get(Lsn(5000))), ErrorKind::Closed);
    assert_eq!(kind(wal.sync()), ErrorKind::Closed);
    assert_eq!(kind(wal.checkpoint()), ErrorKind::Closed);
    small().open(dir.path()).unwrap();
}

/// What was made ready before is no part of the log; and what a power cut took was not cleaned.
#[cfg(feature = "sim")]
#[test]
fn nothing_is_said_to_be_cleaned_that_was_not() {
    use seawall::sim::{Disk, Keep};
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    let dropped = wal.append(b"a").unwrap().lsn();
    disk.crash(Keep::None);
    drop(wal);
    let wal = small().open_on(disk.mount()).unwrap();
    let ticket = wal.append(b"b").unwrap();
    assert!(ticket.lsn() > Lsn(16 << 10));
    assert_eq!(wal.read(Lsn(1)..).unwrap().count(), 0);
    ticket.wait().unwrap();
    assert_eq!(wal.read(Lsn(1)..).unwrap().count(), 1);
    assert_eq!(kind(wal.get(dropped)), ErrorKind::NoRecord(dropped));
    let view = small().open_read_only_on(disk.mount()).unwrap();
    assert_eq!(kind(view.get(dropped)), ErrorKind::NoRecord(dropped));
    // Until something is.
    wal.rotate().unwrap();
    let last = wal.append(b"c").unwrap().wait().unwrap();
    wal.clean_before_lsn(last).unwrap();
    assert!(matches!(kind(wal.get(dropped)), ErrorKind::Removed { .. }));
    assert!(matches!(kind(wal.read(Lsn(1)..)), ErrorKind::Removed { .. }));
}

/// Appending answered with the poison.
#[cfg(feature = "sim")]
#[test]
fn a_log_that_could_not_be_closed_well_is_closed_all_the_same() {
    use seawall::sim::{Disk, Fault, Operation};
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    disk.fail(Fault::new(Operation::Sync).on(".wal"));
    assert_eq!(kind(wal.append(b"first").unwrap().wait()), ErrorKind::Poisoned);
    assert_eq!(kind(wal.close()), ErrorKind::Poisoned);
    assert_eq!(kind(wal.append(b"late")), ErrorKind::Closed);
    assert_eq!(kind(wal.rotate()), ErrorKind::Closed);
    assert_eq!(kind(wal.get(Lsn(5000))), ErrorKind::Closed);
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for options in [
        Options::new().segment_size(8192),
        Options::new().segment_size((16 << 10) + 1),
        Options::new().segment_size(2 << 30),
        Options::new().max_buffered_bytes(1),
        Options::new().max_disk_bytes(1 << 20),
    ] {
        assert_eq!(kind(options.open(dir.path())), ErrorKind::Invalid);
    }
    let missing = dir.path().join("missing");
    assert_eq!(kind(Options::new().create(false).open(&missing)), ErrorKind::NotFound);
    assert!(!missing.exists());
    assert_eq!(kind(Options::new().create(false).open(dir.path())), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_segment_ends_when_its_batch_times_are_old_enough() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_age(10).open(dir.path()).unwrap();
    let segment = |time: u64| {
        wal.at(time).append(b"tick").unwrap().wait().unwrap();
        wal.stats().segments
    };
    assert_eq!([segment(100), segment(109), segment(90), segment(110)], [1, 1, 1, 2]);
    assert_eq!([segment(119), segment(120), segment(500), segment(1)], [2, 3, 4, 4]);
    wal.rotate().unwrap();
    wal.rotate().unwrap();
    assert_eq!(wal.stats().segments, 5, "an empty segment is not rotated");
    assert_eq!(payloads(&wal).len(), 8);
}

#[cfg(feature = "sim")]
#[test]
fn strict_opens_only_what_is_known_durable_to_its_end() {
    let disk = seawall::sim::Disk::new(1);
    let strict = small().durability(Durability::Os).recovery_mode(seawall::RecoveryMode::Strict);
    let wal = strict.open_on(disk.mount()).unwrap();
    wal.append(b"kept").unwrap().wait().unwrap();
    wal.close().unwrap();
    let wal = strict.open_on(disk.mount()).unwrap();
    assert_eq!(payloads(&wal), [b"kept"]);
    wal.append(b"written, not synced").unwrap().wait().unwrap();
    disk.kill();
    drop(wal);
    let before = disk.names();
    assert_eq!(kind(strict.open_on(disk.mount())), ErrorKind::NotStrict);
    assert_eq!(disk.names(), before);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(payloads(&wal).len(), 2);
}

/// A log of some segments, one of them cut short, with batches.
fn many_segments(dir: &std::path::Path) -> Wal {
    let wal = Options::new().segment_size(16 << 10).open(dir).unwrap();
    for n in 0..400_u32 {
        drop(wal.append_batch(&[vec![7; n as usize % 200], vec![8; 10]]).unwrap());
        if n == 100 {
            wal.rotate().unwrap();
        }
    }
    wal.sync().unwrap();
    wal
}

#[test]
fn the_parts_of_a_split_log_together_are_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let wal = many_segments(dir.path());
    let view = Options::new().open_read_only(dir.path()).unwrap();
    wal.clean_before_lsn(Lsn(40 << 10)).unwrap();
    view.look().unwrap();
    let all: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
    assert!(all.len() < 800 && all.len() > 400);
    for parts in [0, 1, 2, 3, 7, 1000] {
        let ranges = wal.split(parts);
        assert_eq!(ranges, view.split(parts));
        assert!(ranges.len() <= parts.max(1) && (parts < 2 || ranges.len() > 1), "{ranges:?}");
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
        let read = |range: std::ops::Range<Lsn>| wal.read(range).unwrap().map(|record| record.unwrap().lsn);
        let counts: Vec<_> = ranges.iter().map(|range| read(range.clone()).count()).collect();
        assert!(parts > 3 || counts.iter().max().unwrap() < &(all.len() / ranges.len() + 200), "{counts:?}");
        assert_eq!(ranges.into_iter().flat_map(read).collect::<Vec<_>>(), all);
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(Wal::open(empty.path()).unwrap().split(3).is_empty());
}

#[test]
fn a_replay_tells_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let wal = many_segments(dir.path());
    let lsns: Vec<_> = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
    for range in [Lsn::ZERO..Lsn::MAX, lsns[50]..lsns[700], Lsn(lsns[50].0 + 1)..lsns[51], lsns[9]..lsns[9]] {
        let mut records = wal.read(range.clone()).unwrap();
        let first = records.progress();
        assert_eq!((first.bytes, first.records), (0, 0));
        assert!(first.total_bytes > 0 || range.is_empty());
        let (mut last, mut count) = (0, 0);
        while let Some(record) = records.next_borrowed() {
            let frame = 24 + record.unwrap().payload.len() as u64;
            count += 1;
            let now = records.progress();
            assert_eq!((now.total_bytes, now.records), (first.total_bytes, count));
            assert!(now.bytes > last && now.bytes <= now.total_bytes);
            assert!(now.bytes - last >= frame);
            last = now.bytes;
        }
        let end = records.progress();
        assert_eq!((end.bytes, end.records), (end.total_bytes, count));
        assert_eq!(end.total_bytes, first.total_bytes, "{range:?}");
    }
    // No gap between segments counts, nor what the segment that was cut short did not use.
    let whole = wal.read(..).unwrap().progress().total_bytes;
    let frames = |n: usize| 24 + (n as u64).next_multiple_of(4);
    let payloads: u64 = (0..400).map(|n| frames(n % 200) + frames(10)).sum();
    assert!(whole > payloads && whole < payloads + 20 * 96, "{whole} {payloads}");
}
