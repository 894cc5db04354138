//! Salvage: every record whose bytes are whole, out of directories, files in any order, and raw images.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]

#[path = "salvage/known.rs"]
mod known;
#[path = "salvage/links.rs"]
mod links;
#[path = "salvage/live.rs"]
mod live;
#[path = "salvage/made.rs"]
mod made;
#[path = "salvage/misplaced.rs"]
mod misplaced;
#[path = "salvage/missing.rs"]
mod missing;
#[path = "common/random.rs"]
mod random;
#[path = "salvage/raw.rs"]
mod raw;
#[path = "salvage/repaired.rs"]
mod repaired;
#[path = "common/spec.rs"]
#[allow(dead_code)]
mod spec;
#[path = "salvage/unmet.rs"]
mod unmet;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use seawall::check::{Salvage, Salvaged};
use seawall::{ErrorKind, Lsn, Options};

use made::{Log, Made, hex, lone, salvaged, segments, whole};
use random::Random;

#[test]
fn a_sound_log_is_salvaged_whole() {
    let log = Log::new(1, 300);
    let found = salvaged(&[log.dir()]);
    assert!(found.is_whole() && found.too_new == 0 && found.notes.is_empty(), "{found:?}");
    let told = lone(&found);
    assert_eq!((told.name.clone(), told.log_id), (hex(log.id), Some(log.id)));
    assert_eq!((told.records, told.segments), (log.made.len() as u64, segments(log.dir()).len()));
    assert_eq!(told.bytes, log.made.iter().map(|made| made.payload.len() as u64).sum::<u64>());
    assert_eq!((told.first, told.last), (log.made[0].lsn, log.made.last().unwrap().lsn));
    assert_eq!((told.damaged, told.cleaned, told.cut_off, told.doubled), (0, 0, 0, 0), "{told}");
    assert_eq!(told.segment_size, 16 << 10);
    assert_eq!(whole(&found), log.made);
}

#[test]
fn any_one_flipped_bit_loses_no_other_record() {
    let log = Log::new(2, 60);
    let mut random = Random::new(5);
    let mut lost = 0;
    // Under names that tell nothing.
    for path in segments(log.dir()) {
        fs::rename(&path, path.with_extension("bak.wal")).unwrap();
    }
    for path in segments(log.dir()) {
        let before = fs::read(&path).unwrap();
        let segment = spec::segment(&before).unwrap();
        let link = 4096..segment.frames[0].end();
        let sample: Vec<_> = (0..150).map(|_| random.below(before.len() as u64) as usize).collect();
        for at in (0..72).chain(link).chain(sample) {
            let mut flipped = before.clone();
            flipped[at] ^= 1 << random.below(8);
            fs::write(&path, flipped).unwrap();
            let hit = segment.frames.iter().find(|frame| (frame.at..frame.at + 24 + frame.length).contains(&at));
            let gone = hit.map(|frame| Lsn(segment.base + frame.at as u64));
            let expected: Vec<_> = log.made.iter().filter(|made| Some(made.lsn) != gone).cloned().collect();
            let found = salvaged(&[log.dir()]);
            assert_eq!(whole(&found), expected, "{} byte {at}", path.display());
            // The link is the log's own: no record is missing.
            let is_whole = hit.is_none_or(|frame| frame.at == 4096);
            assert_eq!(found.is_whole(), is_whole, "{} byte {at}: {}", path.display(), lone(&found));
            lost += log.made.len() - expected.len();
        }
        fs::write(&path, before).unwrap();
    }
    assert!(lost > 100, "{lost}");
}

#[test]
fn files_may_have_any_name_and_order_and_be_there_twice() {
    let log = Log::new(3, 200);
    let noise = Random::new(8).bytes(50_000);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut paths = segments(log.dir());
    paths.reverse();
    paths.swap(1, 3);
    let mut sources: Vec<PathBuf> = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        let to = elsewhere.path().join(format!("{}.bak{}", (number * 7) % 5, number));
        fs::copy(path, &to).unwrap();
        sources.push(to);
    }
    let other = elsewhere.path().join("notes.txt");
    fs::write(&other, &noise).unwrap();
    sources.push(other);
    sources.push(paths[2].clone());
    let found = salvaged(&sources);
    assert_eq!(whole(&found), log.made);
    let told = lone(&found);
    assert_eq!(
        (told.damaged, told.unmarked, found.is_whole()),
        (0, true, false),
        "only MARK tells where it ends: {told}"
    );
    sources.push(log.dir().join("MARK"));
    let found = salvaged(&sources);
    assert!(found.is_whole() && whole(&found) == log.made, "{}", lone(&found));
    // As a directory, and the directory twice, and beside another log.
    assert_eq!(whole(&salvaged(&[elsewhere.path(), log.dir(), log.dir()])), log.made);
    let second = Log::new(4, 50);
    let found = salvaged(&[second.dir(), elsewhere.path()]);
    assert_eq!(found.logs().len(), 2);
    for log in [&log, &second] {
        let told = found.logs().iter().find(|told| told.log_id == Some(log.id)).unwrap();
        assert_eq!(made::read(&found, told), log.made);
    }
}

#[test]
fn missing_segments_are_told_and_the_others_reached() {
    let log = Log::new(5, 200);
    let paths = segments(log.dir());
    for gone in 0..paths.len() {
        let rest: Vec<_> = paths.iter().filter(|path| **path != paths[gone]).cloned().collect();
        let base = made::base(&paths[gone]);
        let expected: Vec<_> =
            log.made.iter().filter(|made| !(base..base + 16384).contains(&made.lsn.0)).cloned().collect();
        let found = salvaged(&rest);
        assert_eq!(whole(&found), expected);
        // Of the newest nobody knows, if MARK is not there, and the first may not have been given.
        let told = (lone(&found).damaged, lone(&found).absent);
        assert_eq!(told, (u64::from(gone > 0 && gone + 1 < paths.len()), gone == 0), "{gone}");
        let found = salvaged(&[rest, vec![log.dir().join("MARK")]].concat());
        assert_eq!((whole(&found), lone(&found).damaged), (expected, 1), "{gone}");
    }
}

#[test]
fn lost_headers_lose_no_record() {
    let log = Log::new(6, 150);
    let paths = segments(log.dir());
    let before: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    // One after the other, and then all but one: its links lead to all others.
    for (path, bytes) in paths.iter().zip(&before) {
        fs::write(path, [&[0; 4096], &bytes[4096..]].concat()).unwrap();
        assert_eq!(whole(&salvaged(&[log.dir()])), log.made, "{}", path.display());
        fs::write(path, bytes).unwrap();
    }
    for (path, bytes) in paths.iter().zip(&before).skip(1) {
        fs::write(path, [&[0; 4096], &bytes[4096..]].concat()).unwrap();
    }
    let found = salvaged(&[log.dir()]);
    assert_eq!((whole(&found), lone(&found).log_id), (log.made.clone(), Some(log.id)));
    fs::write(&paths[0], [&[0; 4096], &before[0][4096..]].concat()).unwrap();
    let found = salvaged(&[log.dir()]);
    assert_eq!((whole(&found), lone(&found).log_id), (log.made.clone(), None), "no header is left");
    assert!(lone(&found).name.starts_with("unknown-"));
}

#[test]
fn a_file_without_header_and_link_is_told_by_its_successor_or_by_its_own_records() {
    let log = Log::new(7, 150);
    let paths = segments(log.dir());
    for (number, path) in paths.iter().enumerate() {
        let bytes = fs::read(path).unwrap();
        let segment = spec::segment(&bytes).unwrap();
        let hit = segment.frames.iter().filter(|frame| frame.at < 8192).map(|frame| segment.base + frame.at as u64);
        let gone: Vec<_> = hit.collect();
        let expected: Vec<_> = log.made.iter().filter(|made| !gone.contains(&made.lsn.0)).cloned().collect();
        fs::write(path, [&[0; 8192], &bytes[8192..]].concat()).unwrap();
        let found = salvaged(&[log.dir()]);
        if number + 1 < paths.len() {
            assert_eq!(whole(&found), expected, "{}", path.display());
        } else {
            // Nothing says where it lies: its LSNs are its offsets.
            let told = found.logs().iter().find(|told| told.log_id.is_none()).unwrap();
            let mut all = made::read(&found, found.logs().iter().find(|told| told.log_id.is_some()).unwrap());
            all.extend(
                made::read(&found, told).into_iter().map(|made| Made { lsn: Lsn(made.lsn.0 + segment.base), ..made }),
            );
            assert_eq!(all, expected);
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_name_gives_no_record_a_wrong_lsn() {
    let log = Log::new(8, 150);
    let paths = segments(log.dir());
    let lsns: Vec<_> = log.made.iter().map(|made| made.lsn).collect();
    // The newest, whose header is lost, under the names of others: its link tells against each of them.
    let bytes = fs::read(paths.last().unwrap()).unwrap();
    let newest = made::base(paths.last().unwrap());
    for base in [0, newest - 16384, newest + 16384, newest + (1 << 20), 1 << 40] {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join(format!("{base:020}.wal"));
        fs::write(&name, [&[0; 4096], &bytes[4096..]].concat()).unwrap();
        let found = salvaged(&[&paths[..paths.len() - 1], &[name]].concat());
        let told = found.logs().iter().find(|told| told.log_id.is_some()).unwrap();
        let known: Vec<_> = log.made.iter().filter(|made| made.lsn.0 < newest).cloned().collect();
        assert_eq!(made::read(&found, told), known, "{base}");
        let unplaced = found.logs().iter().find(|told| told.log_id.is_none()).unwrap();
        assert!(unplaced.records > 0 && unplaced.last.0 < 16384, "{unplaced}");
    }
    assert!(lsns.is_sorted());
}

#[test]
fn payloads_that_hold_frames_are_not_taken_for_records() {
    let inner = Log::new(9, 40);
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(64 << 10).open(dir.path()).unwrap();
    // A log in the payloads of another, and a log in its own.
    for path in segments(inner.dir()) {
        wal.append(&fs::read(path).unwrap()).unwrap().wait().unwrap();
    }
    let own = fs::read(&segments(dir.path())[0]).unwrap();
    wal.append(&own[..30 << 10]).unwrap().wait().unwrap();
    wal.close().unwrap();
    let found = salvaged(&[dir.path()]);
    assert_eq!((lone(&found).records, lone(&found).doubled), (segments(inner.dir()).len() as u64 + 1, 0), "{found:?}");
    // The frames around them are damaged: what they hold is found as what it is.
    for path in segments(dir.path()) {
        let mut bytes = fs::read(&path).unwrap();
        for frame in spec::segment(&bytes).unwrap().frames {
            bytes[frame.at + 20] ^= 1;
        }
        fs::write(path, bytes).unwrap();
    }
    let found = salvaged(&[dir.path()]);
    for told in found.logs() {
        assert_eq!(told.log_id, Some(inner.id), "the log's own copy is of records that are lost too");
        for made in made::read(&found, told) {
            assert!(inner.made.contains(&made), "{made:?}");
        }
    }
}

#[test]
fn what_was_cleaned_or_cut_off_or_forked_is_told() {
    let log = Log::new(10, 200);
    let copy = tempfile::tempdir().unwrap();
    made::copy(log.dir(), copy.path());
    // Two lives of one log go on at the same place.
    let mut forks = Vec::new();
    for (dir, text) in [(log.dir(), "one"), (copy.path(), "another")] {
        let wal = Options::new().segment_size(16 << 10).open(dir).unwrap();
        forks.push(wal.append(text.as_bytes()).unwrap().wait().unwrap());
        wal.close().unwrap();
    }
    assert_eq!(forks[0], forks[1]);
    let found = salvaged(&[log.dir(), copy.path()]);
    let read = made::read(&found, lone(&found));
    assert_eq!((read.len(), lone(&found).doubled), (log.made.len() + 2, 1), "{}", lone(&found));
    assert_eq!(read[..log.made.len()], log.made);
    let texts: Vec<_> = read[log.made.len()..].iter().map(|made| made.payload.as_slice()).collect();
    assert!(texts == [b"one".as_slice(), b"another"] || texts == [b"another".as_slice(), b"one"]);

    // Cleaned, while a copy of the cleaned segments is left.
    let wal = Options::new().segment_size(16 << 10).open(log.dir()).unwrap();
    let middle = log.made[100].lsn;
    wal.append(b"after").unwrap().wait().unwrap();
    wal.clean_before_lsn(middle).unwrap();
    wal.close().unwrap();
    let found = salvaged(&[log.dir(), copy.path()]);
    let front = made::base(&segments(log.dir())[0]);
    let below = log.made.iter().filter(|made| made.lsn.0 < front).count() as u64;
    assert!(below > 0 && lone(&found).cleaned == below, "{} of {below}", lone(&found));
    assert_eq!(lone(&salvaged(&[log.dir()])).damaged, 0, "what was cleaned is not missing");
}

#[test]
fn what_recovery_cut_off_is_counted() {
    let log = Log::new(11, 40);
    let copy = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(log.dir()).unwrap();
    let tickets: Vec<_> = (0..20_u32).map(|n| wal.append(&n.to_le_bytes()).unwrap()).collect();
    let first = tickets[0].lsn();
    wal.append(&[7; 8000]).unwrap().wait().unwrap();
    made::copy(log.dir(), copy.path());
    drop(tickets);
    drop(wal);
    // A power cut that took the first of them: nothing says that they were durable.
    let path = segments(copy.path()).into_iter().rfind(|path| made::base(path) <= first.0).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[(first.0 - made::base(&path)) as usize] ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::remove_file(copy.path().join("MARK")).unwrap();
    let wal = Options::new().segment_size(16 << 10).open(copy.path()).unwrap();
    let after = wal.append(b"after").unwrap().wait().unwrap();
    wal.close().unwrap();
    // Closing trims what was cut off: as it was before, beside the segment that went on.
    let newest = segments(copy.path()).into_iter().rfind(|path| made::base(path) <= after.0).unwrap();
    let found = salvaged(&[log.dir(), &newest]);
    assert_eq!((lone(&found).cut_off, lone(&found).damaged), (21, 0), "{}", lone(&found));
    // As the power cut left it, the hole is no damage: it is why the log was cut off there.
    fs::write(copy.path().join("torn"), bytes).unwrap();
    let rest = segments(log.dir()).into_iter().filter(|other| other.file_name() != path.file_name());
    let found = salvaged(&rest.chain([copy.path().join("torn"), newest]).collect::<Vec<_>>());
    assert_eq!((lone(&found).cut_off, lone(&found).damaged), (20, 0), "{}", lone(&found));
}

/// A check tells seed XOR offset: what lies in the file of one segment may seem to lie in another's, whose seed is known.
#[test]
fn stale_frames_in_a_segment_are_not_taken_for_those_of_another() {
    let (log, other) = (Log::of(17, 100, 1 << 20, 300), Log::of(18, 400, 1 << 20, 300));
    let seed = spec::segment(&fs::read(&segments(log.dir())[0]).unwrap()).unwrap().seed;
    let path = segments(other.dir())[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    let frames = spec::segment(&bytes).unwrap().frames;
    let stale: Vec<_> = frames.iter().skip(400).map(|frame| frame.at as u64).collect();
    for at in &stale {
        // Above all that the other holds, and in one piece there.
        spec::mend_check(&mut bytes, seed ^ 1 << 19, *at as usize);
    }
    fs::write(&path, bytes).unwrap();
    let base = made::base(&path);
    let expected: Vec<_> = other.made.iter().filter(|made| !stale.contains(&(made.lsn.0 - base))).cloned().collect();
    assert!(!stale.is_empty() && expected.len() < other.made.len());
    let found = salvaged(&[log.dir().to_path_buf(), path]);
    for (log, made) in [(&log, &log.made), (&other, &expected)] {
        let told = found.logs().iter().find(|told| told.log_id == Some(log.id)).unwrap();
        assert_eq!(made::read(&found, told), *made);
    }
}

#[test]
fn a_recycled_file_gives_its_former_records_under_their_own_lsns_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    let mut made = Vec::new();
    for n in 0..600_u32 {
        let payload = [n.to_le_bytes().as_slice(), &[n as u8; 200]].concat();
        let lsn = wal.append(&payload).unwrap().wait().unwrap();
        made.push((lsn, payload));
        if n % 50 == 49 {
            wal.clean_before_lsn(lsn).unwrap();
        }
    }
    // As a kill leaves it: what is recycled and not begun yet holds what was cleaned.
    let killed = tempfile::tempdir().unwrap();
    made::copy(dir.path(), killed.path());
    assert!(salvaged(&[killed.path()]).is_whole(), "{:?}", salvaged(&[killed.path()]));
    drop(wal);
    let before: Vec<_> = segments(dir.path()).iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for lost in [0..0, 0..4096, 0..8192] {
        for (path, bytes) in &before {
            let mut bytes = bytes.clone();
            let end = lost.end.min(bytes.len());
            bytes[lost.start..end].fill(0);
            fs::write(path, bytes).unwrap();
        }
        let found = salvaged(&[dir.path()]);
        for told in found.logs() {
            for record in found.records(told) {
                let record = record.unwrap();
                let n = u32::from_le_bytes(record.payload[..4].try_into().unwrap());
                let right = made[n as usize].0;
                let is_offset = told.log_id.is_none() && record.lsn.0 < 16384 && record.lsn.0 == right.0 % 16384;
                assert!(record.lsn == right || is_offset, "{n}: {} for {right} in {told}", record.lsn);
                assert_eq!(record.payload, made[n as usize].1);
            }
        }
    }
}

#[test]
fn what_is_newer_is_told_and_the_rest_reached() {
    let log = Log::new(12, 100);
    let paths = segments(log.dir());
    let mut bytes = fs::read(&paths[1]).unwrap();
    let seed = spec::segment(&bytes).unwrap().seed;
    let frame = spec::segment(&bytes).unwrap().frames[2].clone();
    bytes[frame.at + 7] |= 0x70;
    spec::mend_check(&mut bytes, seed, frame.at);
    fs::write(&paths[1], &bytes).unwrap();
    let found = salvaged(&[log.dir()]);
    let lsn = Lsn(made::base(&paths[1]) + frame.at as u64);
    let rest: Vec<_> = log.made.iter().filter(|made| made.lsn != lsn).cloned().collect();
    assert_eq!((whole(&found), found.too_new, lone(&found).damaged), (rest, 1, 0));
    assert!(!found.is_whole());
}

#[test]
fn sources_that_change_meanwhile_give_an_error_and_no_wrong_record() {
    let log = Log::new(13, 100);
    let found = salvaged(&[log.dir()]);
    let path = &segments(log.dir())[1];
    let mut bytes = fs::read(path).unwrap();
    let hit =
        log.made.iter().position(|made| made.lsn.0 > made::base(path) + 6000 && !made.payload.is_empty()).unwrap();
    bytes[(log.made[hit].lsn.0 - made::base(path)) as usize + 24] ^= 1;
    fs::write(path, bytes).unwrap();
    for (record, made) in found.records(lone(&found)).zip(&log.made) {
        match record {
            Ok(record) => assert_eq!(Made::from(record), *made),
            Err(e) => {
                assert_eq!((e.kind(), made.lsn, e.path()), (&ErrorKind::Io, log.made[hit].lsn, Some(path.as_path())));
            }
        }
    }
}

#[test]
fn what_is_not_there_is_an_error_and_a_directory_in_it_a_note() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("inner")).unwrap();
    fs::write(dir.path().join("empty"), []).unwrap();
    let found = salvaged(&[dir.path()]);
    assert!(found.logs().is_empty() && found.notes.len() == 1 && found.bytes == 0);
    let e = Salvage::new().run(&[dir.path().join("none")]).unwrap_err();
    assert_eq!((e.kind(), e.path()), (&ErrorKind::Io, Some(dir.path().join("none").as_path())));
}

#[test]
fn progress_ends_at_all_of_it() {
    let log = Log::new(14, 300);
    let last = std::cell::Cell::new((0, 0));
    let progress = |progress: seawall::Progress| {
        let (done, all) = (progress.bytes, progress.total_bytes);
        assert!(done >= last.get().0);
        last.set((done, all));
        ControlFlow::Continue(())
    };
    let found = Salvage::new().progress(&progress).run(&[log.dir()]).unwrap();
    assert_eq!(last.get(), (2 * found.bytes, 2 * found.bytes));
    let told = std::cell::Cell::new(0);
    let once = |_| {
        told.set(told.get() + 1);
        ControlFlow::Break(())
    };
    let e = Salvage::new().progress(&once).run(&[log.dir()]).unwrap_err();
    assert_eq!((e.kind(), told.get()), (&ErrorKind::Cancelled, 1));
}

/// Salvages one source of these bytes, and whatever it holds can be read.
fn salvage_bytes(dir: &Path, bytes: &[u8]) -> Salvaged {
    let path = dir.join("00000000000000016384.wal");
    fs::write(&path, bytes).unwrap();
    let found = salvaged(&[path]);
    found.logs().iter().for_each(|told| drop(made::read(&found, told)));
    found
}

#[test]
fn noise_takes_linear_time_and_holds_no_record() {
    let log = Log::new(15, 200);
    let noise = Random::new(3).bytes(64 << 20);
    // So that every place looks like the beginning of a frame, and none is zero.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("noise");
    fs::write(&path, &noise).unwrap();
    let begun = Instant::now();
    let found = salvaged(&[path.as_path(), log.dir()]);
    let took = begun.elapsed();
    assert_eq!(whole(&found), log.made);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn headers_that_promise_long_payloads_take_linear_time() {
    let log = Log::of(16, 20, 64 << 20, 400);
    let path = &segments(log.dir())[0];
    let mut bytes = fs::read(path).unwrap();
    let seed = spec::segment(&bytes).unwrap().seed;
    let end = bytes.len();
    // A sound check at every 24th byte, under which lie some MiB that are not what it says.
    bytes.resize(8 << 20, 0x11);
    for at in (end..5 << 20).step_by(spec::FRAME) {
        bytes[at + 4..at + 8].copy_from_slice(&(3_u32 << 20 | 1 << 28).to_le_bytes());
        spec::mend_check(&mut bytes, seed, at);
    }
    fs::write(path, bytes).unwrap();
    let begun = Instant::now();
    let found = salvaged(&[path]);
    let took = begun.elapsed();
    assert_eq!(whole(&found), log.made);
    assert!(took < Duration::from_secs(30), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_no_log_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..40_000)) {
        let dir = tempfile::tempdir().unwrap();
        prop_assert!(salvage_bytes(dir.path(), &bytes).logs().is_empty());
    }

    #[test]
    fn a_segment_with_any_bytes_in_it_gives_none_but_its_records(
        places in prop::collection::vec((0_usize..16_384, any::<u8>()), 1..40), moved in 0_usize..3000, cut in 0_usize..16_000
    ) {
        let log = Log::shared();
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = fs::read(&segments(log.dir())[1]).unwrap();
        for (at, byte) in places {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(cut.max(100));
        let bytes = [vec![0; moved], bytes].concat();
        let found = salvage_bytes(dir.path(), &bytes);
        for told in found.logs().iter().filter(|told| told.log_id == Some(log.id)) {
            for made in made::read(&found, told) {
                prop_assert!(log.made.contains(&made), "{made:?}");
            }
        }
    }
}
