//! Raw images of disks on which the files lie in pieces.

use std::collections::BTreeSet;
use std::fs;

use seawall::Lsn;

use crate::made::{self, Log, Made, lone, salvaged, segments, whole};
use crate::random::Random;
use crate::spec;

const BLOCK: usize = 4096;

/// An image: pieces of files, shuffled, with noise between; `from` bytes before all of it.
fn image(pieces: &[Vec<u8>], from: usize, random: &mut Random) -> Vec<u8> {
    let mut order: Vec<_> = (0..pieces.len()).collect();
    for n in (1..order.len()).rev() {
        order.swap(n, random.below(n as u64 + 1) as usize);
    }
    let mut image = random.bytes(from as u64);
    for n in order {
        let noise = random.below(3) as usize * BLOCK;
        image.extend(random.bytes(noise as u64));
        image.extend(&pieces[n]);
        image.resize(from + (image.len() - from).next_multiple_of(BLOCK), 0);
    }
    image
}

/// The frames of a log's segments: LSN, and bytes from and up to in the file.
fn frames(log: &Log) -> Vec<(Lsn, usize, usize)> {
    let segments = segments(log.dir()).into_iter().map(|path| spec::segment(&fs::read(path).unwrap()).unwrap());
    let of = |segment: spec::Segment| {
        let base = segment.base;
        segment.frames.into_iter().map(move |f| (Lsn(base + f.at as u64), f.at, f.at + 24 + f.length))
    };
    segments.flat_map(of).collect()
}

fn blocks(logs: &[&Log]) -> Vec<Vec<u8>> {
    let paths = logs.iter().flat_map(|log| segments(log.dir()));
    let files: Vec<_> = paths.map(|path| fs::read(path).unwrap()).collect();
    files.iter().flat_map(|bytes| bytes.chunks(BLOCK)).map(<[u8]>::to_vec).collect()
}

/// The records of a log that one block holds, and those that two hold and the next frame is found behind.
fn promised(log: &Log) -> (BTreeSet<Lsn>, BTreeSet<Lsn>) {
    let frames = frames(log);
    let block = |at: usize| at / BLOCK;
    let (mut one, mut two) = (BTreeSet::new(), BTreeSet::new());
    for (n, (lsn, from, to)) in frames.iter().enumerate() {
        if block(*from) == block(to - 1) {
            one.insert(*lsn);
        }
        let next = frames.get(n + 1).filter(|(_, at, _)| *at == to.next_multiple_of(4));
        let is_split = block(from + 23) == block(*from) && block(from + 23) + 1 == block(to - 1);
        // The next begins in the same extent, and its header lies there.
        if is_split && next.is_some_and(|(_, at, _)| block(at + 23) == block(to - 1)) {
            two.insert(*lsn);
        }
    }
    let records: BTreeSet<_> = log.made.iter().map(|made| made.lsn).collect();
    (&one & &records, &two & &records)
}

#[test]
fn every_record_within_a_block_of_a_shuffled_image_is_reached_and_those_across_two() {
    // At a partition's begin that is no multiple of a block too.
    for from in [0, 63 * 512] {
        let mut random = Random::new(21);
        let logs = [Log::of(31, 400, 64 << 10, 3000), Log::new(32, 200), Log::of(33, 300, 1 << 20, 900)];
        let image = image(&blocks(&logs.each_ref()), from, &mut random);
        let path = logs[0].dir().join("image");
        fs::write(&path, image).unwrap();
        let found = salvaged(&[&path]);
        for log in &logs {
            let told = found.logs().iter().find(|told| told.log_id == Some(log.id)).unwrap();
            let read = made::read(&found, told);
            assert!(read.iter().all(|made| log.made.contains(made)));
            let lsns: BTreeSet<_> = read.iter().map(|made| made.lsn).collect();
            let (one, two) = promised(log);
            assert!(one.len() > 100 && two.len() > 2, "{} {}", one.len(), two.len());
            assert_eq!(&one - &lsns, BTreeSet::new(), "in one block");
            assert_eq!(&two - &lsns, BTreeSet::new(), "in two");
        }
        assert_eq!(found.logs().len(), 3);
        fs::remove_file(path).unwrap();
    }
}

/// The files of a log in a few extents each: all of it is reached.
fn extents(log: &Log, random: &mut Random, spoil: impl Fn(&mut Vec<u8>)) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for path in segments(log.dir()) {
        let mut bytes = fs::read(path).unwrap();
        spoil(&mut bytes);
        while !bytes.is_empty() {
            let length = ((6 + random.below(20) as usize) * BLOCK).min(bytes.len());
            pieces.push(bytes.drain(..length).collect());
        }
    }
    pieces
}

#[test]
fn records_across_a_break_are_joined() {
    let mut random = Random::new(22);
    for seed in 0..8 {
        let log = Log::of(40 + seed, 200, 1 << 20, 12_000);
        let pieces = extents(&log, &mut random, |_| ());
        assert!(pieces.len() > 10);
        let path = log.dir().join("image");
        fs::write(&path, image(&pieces, 0, &mut random)).unwrap();
        let found = salvaged(&[&path]);
        let read = whole(&found);
        // A header that itself lies across a break is found if what follows it is in one extent.
        assert_eq!(read, log.made, "{}", lone(&found));
        assert_eq!(lone(&found).damaged, 0, "{}", lone(&found));
    }
}

/// It was taken for a segment, in which what lies at another offset is not the segment's own.
#[test]
fn an_image_that_begins_as_a_segment_does_is_one_all_the_same() {
    let mut random = Random::new(26);
    let log = Log::of(61, 40, 16 << 10, 900);
    let first = &segments(log.dir())[0];
    let image = first.with_extension("image");
    let segment = fs::read(first).unwrap();
    for before in [2, 3] {
        let (front, rest) = segment.split_at(before * BLOCK);
        fs::write(&image, [front, &random.bytes(BLOCK as u64), rest].concat()).unwrap();
        let found = salvaged(&[&image]);
        let read: Vec<_> = whole(&found).iter().map(|made| made.lsn).collect();
        fs::write(&image, &segment).unwrap();
        assert_eq!(read, whole(&salvaged(&[&image])).iter().map(|made| made.lsn).collect::<Vec<_>>(), "{before}");
    }
}

#[test]
fn a_header_across_a_break_is_found_between_its_neighbours() {
    let mut random = Random::new(23);
    let mut across = 0;
    // Payloads of a size by which frames come to begin in the last bytes of a block.
    for length in [100, 104, 108, 112, 116] {
        let dir = tempfile::tempdir().unwrap();
        let wal = seawall::Options::new().segment_size(256 << 10).open(dir.path()).unwrap();
        let payloads: Vec<_> = (0..1000).map(|_| random.bytes(length as u64)).collect();
        payloads.iter().for_each(|payload| drop(wal.append(payload).unwrap()));
        wal.sync().unwrap();
        let made: Vec<Made> = wal.read(..).unwrap().map(|record| record.unwrap().into()).collect();
        wal.close().unwrap();
        let files: Vec<_> = segments(dir.path()).iter().map(|path| fs::read(path).unwrap()).collect();
        let blocks: Vec<_> = files.iter().flat_map(|bytes| bytes.chunks(BLOCK)).map(<[u8]>::to_vec).collect();
        across += made.iter().filter(|made| made.lsn.0 as usize % BLOCK > BLOCK - 24).count();
        let path = dir.path().join("image");
        fs::write(&path, image(&blocks, 0, &mut random)).unwrap();
        let found = salvaged(&[&path]);
        assert_eq!(whole(&found), made, "{}", lone(&found));
    }
    assert!(across > 10, "{across}");
}

/// As the help says: what lies otherwise, by smaller blocks, is not found.
#[test]
fn pieces_lie_as_some_file_of_the_image_begins() {
    let (log, other) = (Log::of(54, 100, 256 << 10, 3000), Log::of(55, 10, 64 << 10, 300));
    let [bytes, another] = [&log, &other].map(|log| fs::read(&segments(log.dir())[0]).unwrap());
    let half = bytes.len() / 2 / BLOCK * BLOCK;
    let path = log.dir().join("image");
    for (shift, beside, is_found) in [(0, 0, true), (1024, 0, false), (1024, 1024, true), (1028, 1028, false)] {
        let mut image = bytes[..half].to_vec();
        image.resize(half + 3 * BLOCK + shift, 0);
        image.extend(&bytes[half..]);
        image.resize(image.len().next_multiple_of(BLOCK) + beside, 0);
        image.extend(&another);
        fs::write(&path, image).unwrap();
        let found = salvaged(&[&path]);
        let told = found.logs().iter().find(|told| told.log_id == Some(log.id)).unwrap();
        let behind = made::read(&found, told).iter().filter(|made| made.lsn.0 > (half + 2 * BLOCK) as u64).count();
        assert_eq!((behind > 20, behind > 0), (is_found, is_found), "{shift} {beside}: {found:?}");
        assert_eq!((told.damaged == 0, told.unmarked), (is_found, true), "{shift} {beside}: {found:?}");
    }
}

#[test]
fn images_without_headers_are_reached_by_links() {
    let mut random = Random::new(24);
    let log = Log::of(50, 300, 64 << 10, 3000);
    let pieces = extents(&log, &mut random, |bytes| bytes[..BLOCK].fill(0));
    let path = log.dir().join("image");
    fs::write(&path, image(&pieces, 0, &mut random)).unwrap();
    let found = salvaged(&[&path]);
    let newest = made::base(segments(log.dir()).last().unwrap());
    let below: Vec<_> = log.made.iter().filter(|made| made.lsn.0 < newest).cloned().collect();
    // Which log it is, nothing tells, nor where the newest segment lies.
    assert_eq!(found.logs().len(), 2, "{found:?}");
    assert!(found.logs().iter().all(|told| told.log_id.is_none()));
    let mut read: Vec<Vec<Made>> = found.logs().iter().map(|told| made::read(&found, told)).collect();
    read.sort_by_key(|made| made[0].lsn.0 + made.len() as u64 * 1000);
    assert_eq!(read[1], below);
    let moved = read[0].iter().map(|made| Made { lsn: Lsn(made.lsn.0 + newest), ..made.clone() });
    assert_eq!([read[1].clone(), moved.collect()].concat(), log.made);
}

#[test]
fn links_lost_too_leave_what_successors_tell() {
    let mut random = Random::new(25);
    let log = Log::of(51, 300, 64 << 10, 1000);
    let paths = segments(log.dir());
    // Header and link of every second segment are gone.
    let mut pieces = Vec::new();
    let mut gone = BTreeSet::new();
    for (n, path) in paths.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        if n % 2 == 0 && n + 1 < paths.len() {
            let segment = spec::segment(&bytes).unwrap();
            let lost = segment.frames.iter().filter(|frame| frame.at < 2 * BLOCK);
            gone.extend(lost.map(|frame| Lsn(segment.base + frame.at as u64)));
            bytes[..2 * BLOCK].fill(0xee);
        }
        pieces.extend(bytes.chunks(3 * BLOCK).map(<[u8]>::to_vec));
    }
    let path = log.dir().join("image");
    fs::write(&path, image(&pieces, 0, &mut random)).unwrap();
    let found = salvaged(&[&path]);
    let expected: Vec<_> = log.made.iter().filter(|made| !gone.contains(&made.lsn)).cloned().collect();
    assert_eq!(whole(&found), expected, "{}", lone(&found));
}

/// A check tells seed XOR offset: under a seed that is known, frames of a segment whose seed is not seem to lie
/// elsewhere, and nothing is wrong with them but that their places do not go on as they do, or lie beyond the end.
#[test]
fn frames_of_an_unknown_segment_are_not_taken_for_those_of_another() {
    let mut random = Random::new(26);
    let (log, other) = (Log::of(52, 100, 1 << 20, 300), Log::of(53, 400, 1 << 20, 300));
    // A second segment says where the first ended.
    let wal = seawall::Options::new().segment_size(1 << 20).open(log.dir()).unwrap();
    wal.append(b"after").unwrap().wait().unwrap();
    let made: Vec<Made> = wal.read(..).unwrap().map(|record| record.unwrap().into()).collect();
    wal.close().unwrap();
    let files: Vec<_> = segments(log.dir()).iter().map(|path| fs::read(path).unwrap()).collect();
    let unknown = fs::read(&segments(other.dir())[0]).unwrap();
    let path = log.dir().join("image");
    for (number, moved) in [(1, 1 << 19 | 1 << 12), (0, 1 << 19)] {
        let mut unknown = unknown.clone();
        let seed = spec::segment(&files[number]).unwrap().seed ^ moved;
        for frame in spec::segment(&unknown).unwrap().frames {
            spec::mend_check(&mut unknown, seed, frame.at);
        }
        let pieces = [files.clone(), vec![unknown[2 * BLOCK..].to_vec()]].concat();
        for _ in 0..4 {
            fs::write(&path, image(&pieces, 3 * BLOCK, &mut random)).unwrap();
            assert_eq!(whole(&salvaged(&[&path])), made);
        }
    }
}
