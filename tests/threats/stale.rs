//! Row 17: frames that were valid once, or elsewhere, and must not be again. Row 32: 64 MiB of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use seawall::check::Verify;
use seawall::sim::{Bug, Disk, Keep, Operation};
use seawall::{Durability, Lsn, Options};

use crate::allocations::largest_allocation;
use crate::common::{Noise, fill, filled, flip, payload, payloads, segments, small, with, write_unsynced};
use crate::spec::{self, BLOCK, FRAME};

/// Fills and cleans a log until its files were used several times, cuts the power, and compares what is shown.
fn recycled(bug: Option<Bug>) -> Result<(), String> {
    let options = with(small(), bug);
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let wal = options.open_on(disk.mount()).map_err(|e| e.to_string())?;
        let mut appended = BTreeMap::new();
        // Frames of one size, so that stale ones lie just where the next would be.
        for n in 0..120 + seed as u32 {
            let lsn = wal.append(&payload(n, 1000)).unwrap().wait().map_err(|e| e.to_string())?;
            appended.insert(lsn, payload(n, 1000));
            disk.settle();
            if n % 25 == 24 {
                wal.clean_before_lsn(Lsn::MAX).map_err(|e| e.to_string())?;
            }
        }
        let made = disk.count(Operation::Rename);
        assert!(disk.count(Operation::Create) < made, "no file was used again, of {made}");
        disk.crash(Keep::Random(seed));
        drop(wal);
        let wal = options.open_on(disk.mount()).map_err(|e| e.to_string())?;
        for record in wal.read(..).map_err(|e| e.to_string())? {
            let record = record.map_err(|e| e.to_string())?;
            if appended.get(&record.lsn).map(|payload| &payload[..]) != Some(&record.payload[..]) {
                return Err(format!("seed {seed}: a stale frame at LSN {}", record.lsn));
            }
        }
        let last = *appended.keys().next_back().unwrap();
        if wal.get(last).is_err() {
            return Err(format!("seed {seed}: the last record is gone"));
        }
    }
    Ok(())
}

#[test]
fn row_17_frames_of_a_recycled_file_are_never_valid_again() {
    recycled(None).unwrap();
}

#[test]
fn row_17_catches_stale_frames_taken_for_records() {
    let caught = recycled(Some(Bug::StaleFrames)).unwrap_err();
    assert!(caught.contains("stale"), "{caught}");
}

/// Some records that are durable, then one that nobody was told of.
fn with_tail(tail: &[u8]) -> Disk {
    let disk = Disk::new(17);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 400);
    write_unsynced(&disk, &wal, &[tail.to_vec()]);
    disk.crash(Keep::All);
    disk
}

#[test]
fn row_17_frames_of_another_log_are_no_frames() {
    let (disk, other) = (with_tail(b"tail"), Disk::new(18));
    let wal = small().open_on(other.mount()).unwrap();
    fill(&wal, 100..120, 400);
    let theirs = other.file(&segments(&other)[0]).unwrap();
    let name = segments(&disk).remove(0);
    let ours = disk.file(&name).unwrap();
    let end = spec::segment(&ours).unwrap().frames.last().unwrap().end();
    assert!(spec::segment(&theirs).unwrap().frames.len() > 10);
    // At the same offsets, and moved by a frame.
    for shift in [0, 424] {
        let mixed = [&ours[..end], &theirs[end - shift..theirs.len() - shift]].concat();
        let disk = disk.fork();
        disk.put(&name, &mixed);
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!(wal.recovery().records, 4);
        assert!(wal.recovery().torn.is_none(), "{}", wal.recovery());
    }
}

#[test]
fn row_17_a_payload_that_contains_frames_is_a_payload() {
    // Whole segments of a log as records of a log: of another, and of this very one.
    let source = with_tail(b"tail");
    let frames = source.file(&segments(&source)[0]).unwrap()[..BLOCK + 1000].to_vec();
    let disk = with_tail(&frames);
    let name = segments(&disk).remove(0);
    let own = disk.file(&name).unwrap();
    let segment = spec::segment(&own).unwrap();
    let last = segment.frames.last().unwrap();
    assert_eq!(last.payload, frames);
    assert_eq!(payloads(&small().open_on(disk.fork().mount()).unwrap())[3], frames);
    // With the frame around them torn, nothing in it is a frame.
    let torn = disk.fork();
    flip(&torn, &name, last.at, 0);
    let wal = small().open_on(torn.mount()).unwrap();
    assert_eq!(payloads(&wal), filled(0..3, 400));
    assert!(wal.recovery().torn.is_none_or(|torn| torn.beyond == 0), "{}", wal.recovery());
    // Frames of this very segment, with its own seed, lie elsewhere than they say.
    let disk = Disk::new(17);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 400);
    let own = disk.file(&segments(&disk)[0]).unwrap()[BLOCK..BLOCK + 1400].to_vec();
    write_unsynced(&disk, &wal, std::slice::from_ref(&own));
    disk.crash(Keep::All);
    let name = segments(&disk).remove(0);
    let segment = spec::segment(&disk.file(&name).unwrap()).unwrap();
    flip(&disk, &name, segment.frames.last().unwrap().at + FRAME + 1399, 0);
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(payloads(&wal), filled(0..3, 400));
    assert!(wal.recovery().torn.is_none_or(|torn| torn.beyond == 0), "{}", wal.recovery());
}

/// Lives of a log that end in power cuts, each with records that nobody was told of. No LSN twice.
fn lives(bug: Option<Bug>) -> Result<(), String> {
    let options = with(small(), bug);
    for seed in 0..10 {
        let disk = Disk::new(seed);
        let mut handed_out = BTreeMap::new();
        let mut n = 0;
        for life in 0..12 {
            let wal = options.open_on(disk.mount()).map_err(|e| e.to_string())?;
            for _ in 0..2 + (seed + life) % 5 {
                n += 1;
                let ticket = wal.append(&payload(n, 1500)).map_err(|e| e.to_string())?;
                if let Some(before) = handed_out.insert(ticket.lsn(), n) {
                    return Err(format!("LSN {} twice: record {before}, then {n}", ticket.lsn()));
                }
                if n % 3 == 0 {
                    ticket.wait().map_err(|e| e.to_string())?;
                }
                if n % 7 == 0 {
                    wal.clean_before_lsn(Lsn::MAX).map_err(|e| e.to_string())?;
                }
            }
            disk.crash(Keep::Random(seed * 100 + life));
        }
    }
    Ok(())
}

#[test]
fn row_17_no_lsn_is_handed_out_twice() {
    lives(None).unwrap();
}

#[test]
fn row_17_catches_an_lsn_handed_out_twice() {
    let caught = lives(Some(Bug::LsnHandedOutTwice)).unwrap_err();
    assert!(caught.contains("twice"), "{caught}");
}

/// Of the newest segments of an `Os` log no file is left, and MARK alone says that readers saw records in them.
#[test]
fn row_17_an_lsn_that_readers_saw_is_not_handed_out_again_although_its_file_is_gone() {
    let disk = Disk::new(17);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    fill(&wal, 0..2, 1000);
    wal.rotate().unwrap();
    let seen = wal.append(&payload(2, 1000)).unwrap().wait().unwrap();
    disk.kill();
    drop(wal);
    segments(&disk).iter().skip(1).for_each(|name| _ = disk.remove(name));
    let end = Verify::new().run_on(disk.mount()).unwrap();
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(payloads(&wal), filled(0..2, 1000));
    // No damage, but said.
    assert!(end.is_clean() && wal.recovery().end == end.end, "{end}");
    let said = |notes: &[String]| notes.iter().filter(|note| note.contains("readers saw records up to LSN")).count();
    assert_eq!((said(&end.notes), said(&wal.recovery().notes)), (1, 1), "{end}");
    let next = wal.append(&payload(3, 1000)).unwrap().wait().unwrap();
    assert!(next > seen, "{next} after {seen}");
}

#[test]
fn row_17_an_older_life_does_not_come_back_after_a_shorter_recovery() {
    for seed in 0..300 {
        let disk = Disk::new(seed);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..2, 1000);
        write_unsynced(&disk, &wal, &filled(2..10, 1000));
        disk.crash(Keep::Random(seed));
        drop(wal);
        let mut expected = payloads(&small().open_on(disk.mount()).unwrap());
        for n in 20..24 {
            let wal = small().open_on(disk.mount()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(payloads(&wal), expected, "seed {seed}");
            wal.append(&payload(n, 1000)).unwrap().wait().unwrap();
            expected.push(payload(n, 1000));
            disk.crash(Keep::Random(seed + u64::from(n)));
        }
    }
}

/// A log of a few records with `beyond` over all the rest of its 64 MiB.
fn opens_with(beyond: impl Fn(u32, u64) -> Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let options = Options::new();
    let wal = options.open(dir.path()).unwrap();
    fill(&wal, 0..100, 1000);
    // As it lies there while the log is open: not trimmed, as after a power cut.
    crate::live::copy(dir.path(), copy.path());
    let name = "00000000000000000000.wal";
    let file = fs::File::options().read(true).write(true).open(copy.path().join(name)).unwrap();
    let mut head = vec![0; 1 << 20];
    file.read_exact_at(&mut head, 0).unwrap();
    let segment = spec::segment(&head).unwrap();
    let mut at = segment.frames.last().unwrap().end() as u64;
    assert_eq!(file.metadata().unwrap().len(), 64 << 20);
    while at < 64 << 20 {
        let bytes = beyond(segment.seed, at);
        let bytes = &bytes[..bytes.len().min(((64 << 20) - at) as usize)];
        file.write_all_at(bytes, at).unwrap();
        at += bytes.len() as u64;
    }
    let begin = Instant::now();
    let (opened, largest) = largest_allocation(|| options.open(copy.path()));
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(20), "opening took {took:?}");
    assert!(largest < 2 << 20, "{largest} bytes at once");
    let wal = opened.unwrap();
    assert!(wal.recovery().torn.is_none(), "{}", wal.recovery());
    assert_eq!(payloads(&wal), filled(0..100, 1000));
    println!("opened in {took:?}");
}

#[test]
fn row_32_noise_beyond_the_tail() {
    let noise = std::cell::RefCell::new(Noise(32));
    opens_with(|_, _| noise.borrow_mut().bytes(1 << 20));
}

#[test]
fn row_32_zeros_beyond_the_tail() {
    opens_with(|_, _| vec![0; 1 << 20]);
}

#[test]
fn row_32_stale_frames_beyond_the_tail() {
    // Frames as an earlier life of the file left them: right in all but the seed.
    opens_with(|seed, at| {
        let mut bytes = vec![7; 1 << 20];
        for from in (0..bytes.len()).step_by(1024) {
            bytes[from + 4..from + 8].copy_from_slice(&(1000_u32 | 1 << 28).to_le_bytes());
            let sum = crc32fast::hash(&bytes[from + FRAME..from + 1024]);
            bytes[from + 20..from + 24].copy_from_slice(&sum.to_le_bytes());
            let check = spec::frame_check(seed ^ 1, at as usize + from, &bytes[from..from + FRAME]);
            bytes[from..from + 4].copy_from_slice(&check.to_le_bytes());
        }
        bytes
    });
}
