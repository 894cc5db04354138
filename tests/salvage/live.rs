//! Beside a writer that appends, rotates, cleans and recycles meanwhile.

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seawall::check::Salvage;
use seawall::{Lsn, Options, Record, Wal};

use crate::made::{self, lone, salvaged};
use crate::random::Random;

/// Records of which each says which it is.
fn payload(number: u64, random: &mut Random) -> Vec<u8> {
    let length = random.below(9000);
    [number.to_le_bytes().to_vec(), random.bytes(length)].concat()
}

/// Appends until it is told to stop. Now and then it cleans, syncs, or does neither for a while.
fn write(wal: &Wal, stop: &AtomicBool) {
    let (mut random, mut lsns) = (Random::new(31), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let ticket = wal.append(&payload(lsns.len() as u64 + 1, &mut random)).unwrap();
        lsns.push(ticket.lsn());
        if random.below(4) == 0 {
            ticket.wait().unwrap();
        }
        if random.below(100) == 0 && lsns.len() > 200 {
            wal.clean_before_lsn(lsns[lsns.len() - 100]).unwrap();
        }
    }
}

/// It failed where a file had gone, and reported damage where the writer had gone on.
#[test]
fn nothing_is_damaged_because_a_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    wal.append(&0_u64.to_le_bytes()).unwrap().wait().unwrap();
    let (stop, mut times) = (AtomicBool::new(false), 0);
    let look = || {
        let durable = wal.durable_lsn();
        let found = salvaged(&[dir.path()]);
        assert!(found.is_whole(), "{found:?}");
        // A file that is recycled and not begun yet holds a segment of which nothing tells where it lay.
        let Some(told) = found.logs().iter().find(|told| told.log_id.is_some()) else {
            assert!(!found.notes.is_empty(), "all of it may have been cleaned before it was read");
            return 0;
        };
        // What the next segment in a file says was taken for the word of the one that it held.
        assert_eq!(told.cut_off, 0, "{told}");
        let read: Vec<_> = found.records(told).map(Result::unwrap).collect();
        // All that was there when it began and was not cleaned meanwhile, without a gap. What is written later lies in files
        // that were not listed, or were used again since.
        let first = wal.read(..).unwrap().next().unwrap().unwrap().lsn;
        let left: Vec<_> = read.iter().filter(|record| (first..durable).contains(&record.lsn)).collect();
        let number = |record: &Record| u64::from_le_bytes(record.payload[..8].try_into().unwrap());
        let gap = left.windows(2).find(|pair| number(pair[0]) + 1 != number(pair[1]));
        assert!(gap.is_none(), "{told}: {first} to {durable}, behind {:?}", gap.map(|pair| pair[0].lsn));
        // What MARK said before may be behind what was durable, by no more than a segment; or all of that was cleaned.
        let near = |lsn: Lsn| lsn.0 + 2 * (64 << 10) > durable.0;
        assert!(near(told.last) || near(first), "{told} of {durable}");
        usize::from(found.notes.iter().any(|note| note.contains("a writer went on")))
    };
    thread::scope(|scope| {
        scope.spawn(|| write(&wal, &stop));
        let begun = Instant::now();
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while begun.elapsed() < Duration::from_secs(6) {
                times += look();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(times > 3, "{times}");
    // Nobody writes any more: what is damaged now is damage.
    drop(wal);
    assert!(salvaged(&[dir.path()]).notes.is_empty());
    for path in crate::made::segments(dir.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    assert!(!salvaged(&[dir.path()]).is_whole());
}

/// It was counted as a file that could not be read.
#[test]
fn what_a_killed_writer_had_made_ready_is_taken_away_and_held_nothing() {
    let (killed, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |dir: &tempfile::TempDir| Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    let wal = open(&killed);
    for n in 0..50_u8 {
        wal.append(&[n; 3000]).unwrap().wait().unwrap();
    }
    wal.prepare().unwrap();
    made::copy(killed.path(), dir.path());
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let ready = names.filter(|path| path.extension().is_some_and(|e| e == "wal")).max().unwrap();
    let bytes = fs::read(&ready).unwrap();
    assert!(bytes[4096..].iter().all(|byte| *byte == 0), "{}", ready.display());
    let wal = open(&dir);
    for n in 0..5_u8 {
        wal.append(&[n; 3000]).unwrap().wait().unwrap();
    }
    let begun = Instant::now();
    while ready.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not tidied up");
        wal.rotate().unwrap();
        wal.append(b"more").unwrap().wait().unwrap();
    }
    // It takes nothing more for a segment then.
    wal.prepare().unwrap();
    // As it was before what the life before left was tidied up, which comes while the sources are read.
    fs::write(&ready, &bytes[..4096]).unwrap();
    let tidied = Cell::new(false);
    let tidy = |_| {
        if !tidied.replace(true) {
            fs::remove_file(&ready).unwrap();
            wal.append(b"after").unwrap().wait().unwrap();
        }
        ControlFlow::Continue(())
    };
    let found = Salvage::new().progress(&tidy).run(&[dir.path()]).unwrap();
    assert!(found.is_whole() && found.refused == 0, "{found:?}");
    assert!(found.notes.len() == 1 && found.notes[0].contains("a writer went on"), "{:?}", found.notes);
    assert!(lone(&found).records >= 55, "{}", lone(&found));
}

/// No log was found where all that was listed was gone before it was read.
#[test]
fn a_writer_that_overtakes_each_search_hides_no_log() {
    [3, 15].into_iter().for_each(overtakes);
}

fn overtakes(times: u32) {
    let dir = tempfile::tempdir().unwrap();
    let open = || Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    // What a life before left is removed, and not used again.
    let live = || {
        let wal = open();
        let lsns: Vec<_> = (0..60).map(|_| wal.append(&[b'.'; 3000]).unwrap().wait().unwrap()).collect();
        let last = lsns[59];
        wal.clean_before_lsn(last).unwrap();
        wal.close().unwrap();
        last
    };
    let (last, told, looks) = (Cell::new(live()), Cell::new((0, 0)), Cell::new(0));
    let overtake = |now: seawall::Progress| {
        let is_next = now.total_bytes > told.get().1;
        assert!(now.bytes >= told.get().0 && now.bytes <= now.total_bytes, "{now:?}");
        told.set((now.bytes, now.total_bytes));
        if is_next && looks.replace(looks.get() + 1) < times {
            last.set(live());
        }
        ControlFlow::Continue(())
    };
    let found = Salvage::new().progress(&overtake).run(&[dir.path()]).unwrap();
    assert!(found.is_whole() && lone(&found).last == last.get(), "{found:?}");
    assert_eq!((looks.get(), told.get().0), (times + 1, told.get().1));
}

/// Nothing was said of those that were cleaned between two that were read.
#[test]
fn what_a_writer_cleans_between_two_records_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    let lsns: Vec<_> = (0..500_u16).map(|n| wal.append(&[n as u8; 3000]).unwrap().wait().unwrap()).collect();
    let found = salvaged(&[dir.path()]);
    let mut records = found.records(lone(&found));
    let first: Vec<_> = records.by_ref().take(10).map(|record| record.unwrap().lsn).collect();
    wal.clean_before_lsn(lsns[400]).unwrap();
    wal.append(b"after").unwrap().wait().unwrap();
    let rest: Vec<_> = records.by_ref().map(|record| record.unwrap().lsn).collect();
    // What is open, or kept to be used again, can be read on.
    assert!(rest.is_sorted() && rest.ends_with(&lsns[400..]) && first == lsns[..10], "{}", rest.len());
    assert!(records.cleaned() > 200, "{}", records.cleaned());
    assert_eq!(records.cleaned() as usize + first.len() + rest.len(), lsns.len());
}

/// What is left of a batch was yielded as one that is whole.
#[test]
fn a_batch_of_which_a_record_is_not_read_any_more_is_not_whole() {
    for is_cleaned in [false, true] {
        let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let options = Options::new().segment_size(16 << 10);
        let wal = options.clone().open(dir.path()).unwrap();
        for n in 0..30 {
            wal.append_batch(&[[n; 500], [n; 500], [n; 500]]).unwrap().wait().unwrap();
        }
        wal.close().unwrap();
        let found = salvaged(&[dir.path()]);
        let all = made::whole(&found);
        if is_cleaned {
            made::copy(dir.path(), other.path());
            let wal = options.open(other.path()).unwrap();
            wal.append(b"after").unwrap().wait().unwrap();
            wal.clean_before_lsn(all[60].lsn).unwrap();
            wal.close().unwrap();
            fs::copy(other.path().join("MARK"), dir.path().join("MARK")).unwrap();
        }
        // The second record of the second batch, once the first is read.
        let mut records = found.records(lone(&found));
        let mut parts = Vec::new();
        while let Some(record) = records.next() {
            parts.push(record.ok().map(|record| (record.lsn, records.is_part())));
            if parts.len() == 4 {
                made::flip(&made::segments(dir.path())[0], all[4].lsn.0 as usize + 30);
            }
        }
        let mut expected: Vec<_> = all.iter().enumerate().map(|(n, made)| Some((made.lsn, n == 5))).collect();
        if is_cleaned {
            expected.remove(4);
        } else {
            expected[4] = None;
        }
        assert_eq!((parts, records.cleaned()), (expected, u64::from(is_cleaned)));
    }
}

/// A hole between records that had been cleaned looked like none.
#[test]
fn places_where_others_were_cleaned_away_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    let lsns: Vec<_> = (0..300_u16).map(|n| wal.append(&[n as u8; 3000]).unwrap().wait().unwrap()).collect();
    let copy = tempfile::tempdir().unwrap();
    made::copy(dir.path(), copy.path());
    let front = wal.clean_before_lsn(lsns[200]).unwrap().first;
    wal.append(b"after").unwrap().wait().unwrap();
    wal.close().unwrap();
    // Without what is kept to be used again.
    let is_cleaned = |path: &std::path::PathBuf| made::base(path) < front.0;
    made::segments(dir.path()).iter().filter(|path| is_cleaned(path)).for_each(|path| fs::remove_file(path).unwrap());
    let cleaned: Vec<_> = made::segments(copy.path()).into_iter().filter(is_cleaned).collect();
    let last = cleaned.len() - 1;
    assert!(last > 5);
    for (gone, places) in
        [(&[][..], 0), (&[3], 1), (&[0], 0), (&[last], 1), (&[1, 3, 4, last], 3), (&[0, 1, last - 1, last], 1)]
    {
        let left = cleaned.iter().enumerate().filter(|(number, _)| !gone.contains(number));
        let sources: Vec<_> = left.map(|(_, path)| path.clone()).chain([dir.path().to_path_buf()]).collect();
        let found = salvaged(&sources);
        assert_eq!((lone(&found).gone, found.is_whole()), (places, true), "{gone:?}: {}", lone(&found));
    }
}

/// As a process leaves it that is killed within a write: that was told as damage.
#[test]
fn a_torn_tail_that_nobody_was_told_of_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    for n in 0..10_u8 {
        wal.append(&[n; 3000]).unwrap().wait().unwrap();
    }
    let mark = fs::read(dir.path().join("MARK")).unwrap();
    let last = wal.append(&[7; 3000]).unwrap().wait().unwrap().0 as usize;
    let killed = tempfile::tempdir().unwrap();
    made::copy(dir.path(), killed.path());
    for is_told in [false, true] {
        if !is_told {
            fs::write(killed.path().join("MARK"), &mark).unwrap();
        }
        for left in [0, 10, 23, 24, 25, 1000, 3023] {
            let newest = made::segments(killed.path())[0].clone();
            let mut bytes = fs::read(&newest).unwrap();
            bytes[last + left..last + 3024].fill(0);
            fs::write(&newest, bytes).unwrap();
            let found = salvaged(&[killed.path()]);
            let told = (lone(&found).records, lone(&found).lost_records, found.is_whole());
            assert_eq!(told, (10, (!is_told).then_some(0), !is_told), "{left}: {}", lone(&found));
            // Of less than a frame's header nothing shows.
            let tail = format!("torn tail at LSN {last}, of which nothing says that it was durable");
            let notes = usize::from(!is_told && left >= 24);
            assert_eq!(
                (found.notes.len(), found.notes.iter().filter(|note| note.ends_with(&tail)).count()),
                (notes, notes)
            );
            fs::copy(&made::segments(dir.path())[0], &newest).unwrap();
        }
        fs::copy(dir.path().join("MARK"), killed.path().join("MARK")).unwrap();
    }
}

/// A power cut before anything of it was synced may take a link and leave what follows: nothing durable lay between.
#[test]
fn a_torn_tail_in_which_a_link_is_torn_hides_nothing_that_was_durable() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    wal.append(&[1; 3000]).unwrap().wait().unwrap();
    let mark = fs::read(dir.path().join("MARK")).unwrap();
    // Nothing of it claims that it was durable, for it is one round.
    drop(wal.append_batch(&vec![[2; 3000]; 15]).unwrap());
    wal.append_batch(&vec![[3; 3000]; 10]).unwrap().wait().unwrap();
    for (is_told, is_whole) in [(false, true), (true, false)] {
        let cut = tempfile::tempdir().unwrap();
        made::copy(dir.path(), cut.path());
        if !is_told {
            fs::write(cut.path().join("MARK"), &mark).unwrap();
        }
        let newest = &made::segments(cut.path())[1];
        let mut bytes = fs::read(newest).unwrap();
        bytes[4096 + 30..4096 + 60].fill(0);
        fs::write(newest, bytes).unwrap();
        let found = salvaged(&[cut.path()]);
        let told = lone(&found);
        assert_eq!((told.records, told.damaged, found.is_whole()), (26, 0, is_whole), "{told}");
        assert_eq!(told.lost_records, is_whole.then_some(0), "{told}");
    }
}
