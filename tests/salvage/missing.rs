//! What is missing, and how much of it is known; segments that lie where no claim reaches.

use std::fs;

use seawall::Options;
use seawall::check::{Repair, verify};

use crate::made::{self, Log, Made, lone, salvaged, segments, whole};
use crate::spec;

/// Nothing was said to be missing where nothing named what lay before the first segment that is left.
#[test]
fn a_lost_front_is_told_beside_damaged_links_with_how_many_records_lay_there() {
    let log = Log::new(19, 300);
    let (paths, mark) = (segments(log.dir()), log.dir().join("MARK"));
    assert!(paths.len() > 6);
    for (gone, damaged) in [(1, 1), (2, 1), (1, 2), (3, 3), (2, paths.len() - 2)] {
        let dir = tempfile::tempdir().unwrap();
        for (number, path) in paths[gone..].iter().enumerate() {
            let mut bytes = fs::read(path).unwrap();
            bytes[4096 + 30] ^= 3 * u8::from(number < damaged);
            fs::write(dir.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        let (lost, left) = log.made.split_at(log.made.partition_point(|made| made.lsn.0 < made::base(&paths[gone])));
        // With no link left nothing counts.
        let number = Some(lost.len() as u64).filter(|_| gone + damaged < paths.len());
        let found = salvaged(&[dir.path()]);
        assert_eq!((whole(&found), found.is_whole()), (left.to_vec(), false), "{gone} {damaged}");
        let told = lone(&found);
        assert_eq!((told.damaged, told.absent, told.lost_records), (0, true, None), "{gone} {damaged}");
        let found = salvaged(&[dir.path(), &mark]);
        let told = lone(&found);
        assert_eq!((told.damaged, told.absent, told.lost_records), (1, false, number), "{gone} {damaged}");
        assert!(!found.is_whole());
    }
}

#[test]
fn what_was_cleaned_is_no_lost_front_and_its_first_segment_is() {
    let log = Log::new(20, 300);
    let wal = Options::new().segment_size(16 << 10).open(log.dir()).unwrap();
    wal.append(b"after").unwrap().wait().unwrap();
    wal.clean_before_lsn(log.made[100].lsn).unwrap();
    wal.close().unwrap();
    let (paths, mark) = (segments(log.dir()), log.dir().join("MARK"));
    paths[..2].iter().for_each(|path| made::flip(path, 4096 + 30));
    assert!(salvaged(&[log.dir()]).is_whole(), "one bit of a link is put right");
    paths[..2].iter().for_each(|path| made::flip(path, 4096 + 31));
    // What lay before the first that counts again, no other link counts.
    let found = salvaged(&[log.dir()]);
    assert_eq!((lone(&found).damaged, lone(&found).lost_records), (0, None), "{}", lone(&found));
    for sources in [paths[1..].to_vec(), [&paths[1..], &[mark]].concat()] {
        let found = salvaged(&sources);
        let told = lone(&found);
        // How many were cleaned, only a link told that is gone; without MARK more may have followed, too.
        let is_marked = sources.len() == paths.len();
        assert_eq!((told.lost_records, told.unmarked, found.is_whole()), (None, !is_marked, false), "{told}");
        assert_eq!((told.damaged, told.absent), (u64::from(is_marked), !is_marked), "{told}");
    }
}

#[test]
fn records_that_are_missing_are_counted_as_the_links_count_them() {
    let log = Log::new(21, 300);
    let paths = segments(log.dir());
    let all: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let lost = |hit: &[usize]| {
        let found = salvaged(&[log.dir()]);
        let told = lone(&found);
        assert_eq!(found.is_whole(), told.lost_records == Some(0), "{hit:?}: {told}");
        (told.lost_records, log.made.len() as u64 - told.records)
    };
    assert_eq!(lost(&[]), (Some(0), 0));
    for hit in [&[1][..], &[2, 3], &[0, 4], &[paths.len() - 1], &[1, paths.len() - 1]] {
        for number in hit {
            let mut bytes = all[*number].clone();
            let length = bytes.len();
            // Beyond the first frames, and before the last.
            bytes[5000..length - 4000].fill(0);
            fs::write(&paths[*number], bytes).unwrap();
        }
        let (told, missing) = lost(hit);
        assert!(missing > 0);
        // Of the newest no link tells.
        assert_eq!(told, Some(missing).filter(|_| !hit.contains(&(paths.len() - 1))), "{hit:?}");
        // And the link behind it.
        if let [_, number] = hit
            && *number + 1 < paths.len() - 1
        {
            let mut bytes = all[number + 1].clone();
            bytes[4096 + 30] ^= 3;
            fs::write(&paths[number + 1], bytes).unwrap();
            assert_eq!(lost(hit), (Some(missing), missing), "{hit:?}");
        }
        paths.iter().zip(&all).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
}

/// The check of a link tells a seed that no segment has, if one bit of its header is wrong.
#[test]
fn a_flipped_bit_in_the_header_of_a_link_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    let cursors = ["one", "another"].map(|name| wal.cursor(name).unwrap());
    for n in 0..70_u8 {
        wal.append(&[n; 900]).unwrap().wait().unwrap();
    }
    let made: Vec<Made> = wal.read(..).unwrap().map(|record| record.unwrap().into()).collect();
    drop(cursors);
    wal.close().unwrap();
    for (number, path) in segments(dir.path()).into_iter().enumerate() {
        let before = fs::read(&path).unwrap();
        // Beside its segment's header, or without: then the link behind it tells the seed.
        for header in [4096, 0] {
            if header == 0 && Some(&path) == segments(dir.path()).last() {
                continue;
            }
            for bit in (number..24 * 8).step_by(7) {
                let mut bytes = [&[0; 4096][header..], &before[4096 - header..]].concat();
                bytes[4096 + bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, bytes).unwrap();
                let found = salvaged(&[dir.path()]);
                let told = lone(&found);
                assert_eq!(
                    (whole(&found) == made, told.lost_records),
                    (true, Some(0)),
                    "{} {bit} {told}",
                    path.display()
                );
                assert!(found.is_whole(), "{} {bit} {told}", path.display());
            }
        }
        fs::write(&path, before).unwrap();
    }
}

/// The segment without a header was another log.
#[test]
fn a_lost_header_loses_no_place_where_rotations_ran_ahead_of_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    // No claim is above the beginning of the log.
    (0..100_u8).for_each(|n| drop(wal.append(&[n; 1000]).unwrap()));
    wal.sync().unwrap();
    let made: Vec<Made> = wal.read(..).unwrap().map(|record| record.unwrap().into()).collect();
    wal.close().unwrap();
    let paths = segments(dir.path());
    let before: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(paths.len() > 5);
    let last = paths.len() - 1;
    let behead = |number: usize| fs::write(&paths[number], [&[0; 4096], &before[number][4096..]].concat()).unwrap();
    for lost in
        [&[last][..], &[last - 1, last], &[0, last], &(1..=last).collect::<Vec<_>>(), &(0..=last).collect::<Vec<_>>()]
    {
        lost.iter().for_each(|number| behead(*number));
        let found = salvaged(&[dir.path()]);
        assert_eq!(whole(&found), made, "{lost:?}");
        assert_eq!((found.is_whole(), lone(&found).log_id.is_some()), (true, lost.len() <= last), "{lost:?}");
        paths.iter().zip(&before).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
    // And the link behind it too: its name says where it lies.
    behead(last - 1);
    let mut bytes = before[last].clone();
    bytes[4096 + 30] ^= 1;
    fs::write(&paths[last], bytes).unwrap();
    assert_eq!(whole(&salvaged(&[dir.path()])), made);
    fs::write(&paths[last], &before[last]).unwrap();
    // Under a wrong name it stays apart.
    behead(last);
    let newest = made::base(&paths[last]);
    for base in [newest - 16384, newest + 16384, newest + (1 << 20)] {
        let name = dir.path().join(format!("{base:020}.wal.aside"));
        fs::copy(&paths[last], &name).unwrap();
        let found = salvaged(&[&paths[..last], std::slice::from_ref(&name)].concat());
        fs::remove_file(name).unwrap();
        let told = found.logs().iter().find(|told| told.log_id.is_some()).unwrap();
        assert!(made::read(&found, told).iter().all(|record| made.contains(record)), "{base}");
    }
}

/// The log takes no frame for whole that lacks a byte of its padding, for no crash leaves that: its records are whole.
#[test]
fn a_record_that_lacks_only_padding_is_lost_to_the_log_and_salvaged() {
    for cut in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().segment_size(16 << 10);
        let wal = options.clone().open(dir.path()).unwrap();
        for _ in 0..3 {
            wal.append(&[7; 5]).unwrap().wait().unwrap();
        }
        wal.close().unwrap();
        let newest = segments(dir.path()).into_iter().next().unwrap();
        let file = fs::File::options().write(true).open(&newest).unwrap();
        file.set_len(file.metadata().unwrap().len() - cut).unwrap();
        let (log, salvage) = if cut == 0 { (3, 3) } else { (2, if cut < 4 { 3 } else { 2 }) };
        let opened = options.clone().open(dir.path());
        assert_eq!(opened.is_ok(), cut == 0, "{cut}: {opened:?}");
        drop(opened);
        let report = verify(dir.path()).unwrap();
        assert_eq!((report.records, report.is_clean()), (log, cut == 0), "{cut}: {report}");
        assert_eq!(whole(&salvaged(&[dir.path()])).len(), salvage, "{cut}");
        let plan = Repair::new().run(dir.path()).unwrap();
        assert_eq!((plan.kept_records, plan.dropped_records), (log, 0), "{cut}: {plan}");
        assert_eq!(plan.lost_records, (cut == 0).then_some(0), "{cut}: {plan}");
        // Copied aside before it is written anew.
        assert_eq!(whole(&salvaged(&[dir.path()])).len(), salvage, "{cut} after the repair");
    }
}

/// The end of the newest segment was told twice: by the frame that is torn, and by how far the log was durable.
#[test]
fn a_damaged_end_is_one_place() {
    let log = Log::new(21, 130);
    let paths = segments(log.dir());
    let (path, sealed) = (paths.last().unwrap(), &paths[1]);
    let before = fs::read(path).unwrap();
    let frames = spec::segment(&before).unwrap().frames;
    assert!(frames.len() > 2);
    for frame in &frames[1..] {
        let payload = frame.at + 24;
        let mut flipped = before.clone();
        flipped[payload] ^= 1;
        for hurt in [&flipped, &before[..payload + 4], &before[..frame.at]] {
            fs::write(path, hurt).unwrap();
            let found = salvaged(&[log.dir()]);
            assert_eq!(lone(&found).damaged, 1, "{} bytes, frame at {}: {}", hurt.len(), frame.at, lone(&found));
        }
    }
    // Two are two: one in it, or elsewhere, and its end; or its end and the segment behind it.
    let (first, last) = (frames[1].at + 24, frames.last().unwrap().at + 24);
    let mut flipped = before.clone();
    [first, last].into_iter().for_each(|at| flipped[at] ^= 1);
    fs::write(path, &flipped).unwrap();
    assert_eq!(lone(&salvaged(&[log.dir()])).damaged, 2);
    flipped[first] ^= 1;
    fs::write(path, &flipped).unwrap();
    made::flip(sealed, 9000);
    assert_eq!(lone(&salvaged(&[log.dir()])).damaged, 2);
    made::flip(sealed, 9000);
    fs::remove_file(path).unwrap();
    let below = &paths[paths.len() - 2];
    let torn = spec::segment(&fs::read(below).unwrap()).unwrap().frames.last().unwrap().at;
    made::flip(below, torn + 24);
    assert_eq!(lone(&salvaged(&[log.dir()])).damaged, 2);
}

/// Of what lay below the last link nothing but that tells: it was said that nothing is missing.
#[test]
fn what_only_a_lost_link_tells_of_is_not_told_to_be_nothing() {
    let log = Log::new(44, 300);
    let paths = segments(log.dir());
    let last = paths.len() - 1;
    let all: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    // Of the one below the end, or all of it, or a copy of another lies in its place.
    let cut = || fs::write(&paths[last - 1], [&all[last - 1][..9000], &[0; 16384 - 9000]].concat()).unwrap();
    let remove = || fs::remove_file(&paths[last - 1]).unwrap();
    let copy = || _ = fs::copy(&paths[0], &paths[last - 1]).unwrap();
    for (number, harm) in [&cut as &dyn Fn(), &remove, &copy].into_iter().enumerate() {
        for bits in 0..3 {
            harm();
            (0..bits).for_each(|at| made::flip(&paths[last], 4096 + 30 + at));
            let found = salvaged(&[log.dir()]);
            let (told, lost) = (lone(&found), log.made.len() as u64 - lone(&found).records);
            assert!(lost > 0 && !found.is_whole(), "{number} {bits}: {told}");
            // One bit is put right.
            assert_eq!(told.lost_records, Some(lost).filter(|_| bits < 2), "{number} {bits}: {told}");
            assert_eq!(told.to_string().contains("whether records are missing cannot be told"), bits == 2, "{told}");
            paths.iter().zip(&all).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        }
    }
    // In the middle the next link tells.
    for (hit, lost) in [(2, false), (2, true)] {
        (30..32).for_each(|at| made::flip(&paths[hit + 1], 4096 + at));
        if lost {
            fs::remove_file(&paths[hit]).unwrap();
        }
        let found = salvaged(&[log.dir()]);
        let lost = log.made.len() as u64 - lone(&found).records;
        assert_eq!((lone(&found).lost_records, found.is_whole()), (Some(lost), lost == 0), "{}", lone(&found));
        paths.iter().zip(&all).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
}
