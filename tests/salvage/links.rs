//! Links whose frames' headers are damaged, beside headers that are lost or not: what such a check tells is no seed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use seawall::Lsn;
use seawall::check::Salvaged;

use crate::made::{self, Log, Made, lone, salvaged, segments, whole};
use crate::random::Random;
use crate::spec;

const BLOCK: usize = 4096;

/// Bytes of a header.
const HEAD: usize = 72;

/// Some of them, of each of its fields.
const HEADER: [usize; 13] = [0, 7, 8, 11, 12, 15, 17, 22, 28, 33, 50, 57, 71];

/// A log under other names or damaged, so long ago that no writer can be at it.
struct Copy {
    dir: tempfile::TempDir,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Copy {
    fn of(log: &Log) -> Copy {
        let dir = tempfile::tempdir().unwrap();
        made::copy(log.dir(), dir.path());
        let files = segments(dir.path()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap()));
        let copy = Copy { files: files.collect(), dir };
        fs::read_dir(copy.dir.path()).unwrap().for_each(|entry| age(&entry.unwrap().path()));
        copy
    }

    fn write(&self, number: usize, bytes: &[u8]) {
        write(&self.files[number].0, bytes);
    }

    /// Turns several bits of bytes in a segment.
    fn hurt(&self, number: usize, places: &[usize]) -> Vec<u8> {
        let mut bytes = self.files[number].1.clone();
        spoil(&mut bytes, places);
        self.write(number, &bytes);
        bytes
    }

    fn mend(&self) {
        (0..self.files.len()).for_each(|number| self.write(number, &self.files[number].1));
    }

    /// All segments one behind the other.
    fn image(&self, to: &Path) {
        let mut image = Vec::new();
        for (path, _) in &self.files {
            image.extend(fs::read(path).unwrap());
            image.resize(image.len().next_multiple_of(BLOCK), 0);
        }
        write(to, &image);
    }
}

/// A byte in each of these places, and in a header the one beside it too: its checksum puts right a single one.
fn spoil(bytes: &mut [u8], places: &[usize]) {
    let beside = places.iter().filter(|at| **at < HEAD).map(|at| (at + 1) % HEAD);
    places.iter().copied().chain(beside).for_each(|at| bytes[at] ^= 0x67);
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    age(path);
}

fn age(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
}

/// All that is found, in order; of a segment that nothing places the LSNs are offsets.
fn all(found: &Salvaged, log: &Log, base: u64) -> Vec<Made> {
    let mut all = Vec::new();
    for told in found.logs() {
        assert_eq!((told.damaged, told.doubled), (0, 0), "{told}");
        let read = made::read(found, told);
        let is_placed = told.log_id.is_some() || read.iter().all(|made| log.made.contains(made));
        let from = if is_placed { 0 } else { base };
        all.extend(read.into_iter().map(|made| Made { lsn: Lsn(made.lsn.0 + from), ..made }));
    }
    all.sort_by_key(|made| made.lsn);
    all
}

/// Whether a first frame in which this byte is wrong is a link by its kind, length and sum.
fn is_link(at: usize) -> bool {
    !(4..8).contains(&at) && at < 20
}

#[test]
fn wrong_bytes_in_the_header_and_one_in_the_link_lose_no_record() {
    let elsewhere = tempfile::tempdir().unwrap();
    for log in [Log::of(70, 20, 16 << 10, 200), Log::new(71, 150)] {
        let copy = Copy::of(&log);
        let last = copy.files.len() - 1;
        for number in [0, last / 2, last] {
            let base = made::base(&copy.files[number].0);
            let own: Vec<_> = log.made.iter().filter(|made| made.lsn.0 / 16384 == base / 16384).cloned().collect();
            let (is_only, is_newest) = (last == 0, number == last);
            for (header, link) in HEADER.iter().flat_map(|header| (0..24).map(move |link| (*header, link))) {
                let what = format!("{number} of {last}, {header}, {link}");
                copy.hurt(number, &[header, BLOCK + link]);
                // Where nothing else tells of the segment, it is a log of its own.
                let is_apart = is_newest && !is_link(link);
                if is_only || !is_apart {
                    let found = salvaged(&[copy.dir.path()]);
                    assert_eq!(all(&found, &log, base), log.made, "{what}");
                    let told = lone(&found);
                    assert_eq!((told.segments, found.untold, found.unmet), (last + 1, 0, 0), "{what}");
                    if !is_apart {
                        assert!(found.is_whole() && told.lost_records == Some(0), "{what}: {told}");
                        assert_eq!(told.log_id.is_none(), is_only, "{what}");
                    }
                } else {
                    let paths: Vec<_> = copy.files.iter().map(|(path, _)| path.clone()).collect();
                    assert_eq!(all(&salvaged(&paths), &log, base), log.made, "{what}");
                }
                // The file alone, and under a name that tells nothing.
                assert_eq!(all(&salvaged(&[&copy.files[number].0]), &log, base), own, "{what}");
                let lone = elsewhere.path().join("file");
                write(&lone, &fs::read(&copy.files[number].0).unwrap());
                assert_eq!(all(&salvaged(&[&lone]), &log, base), own, "{what}");
                // An image, in which only headers and links tell where a segment begins.
                let image = elsewhere.path().join("image");
                copy.image(&image);
                let found = salvaged(&[&image]);
                let mut expected = log.made.clone();
                expected.retain(|made| is_only || !is_apart || !own.contains(made));
                assert_eq!(all(&found, &log, base), expected, "{what}");
                assert_eq!(found.logs().len(), 1 + usize::from(!is_only && is_newest && !is_apart), "{what}");
            }
            copy.mend();
        }
    }
}

/// The seed that its check told was taken for another segment's in the same place, with records of its own.
#[test]
fn a_wrong_byte_in_a_link_alone_is_no_loss() {
    let log = Log::new(72, 150);
    let copy = Copy::of(&log);
    for number in 0..copy.files.len() {
        for places in (0..24).map(|at| vec![at]).chain([(8..20).collect(), (0..4).chain(8..20).collect()]) {
            copy.hurt(number, &places.iter().map(|at| BLOCK + at).collect::<Vec<_>>());
            let found = salvaged(&[copy.dir.path()]);
            let told = lone(&found);
            assert_eq!(whole(&found), log.made, "{number} {places:?}: {told}");
            assert!(found.is_whole(), "{number} {places:?}: {told}");
            assert_eq!((told.segments, told.lost_records), (copy.files.len(), Some(0)), "{number} {places:?}");
        }
        copy.mend();
    }
}

#[test]
fn links_of_which_more_is_wrong_hide_no_record_either() {
    let log = Log::new(73, 150);
    let copy = Copy::of(&log);
    let last = copy.files.len() - 1;
    for places in [vec![0, 9], (0..4).collect(), (8..20).collect(), (0..4).chain(8..20).collect()] {
        let places: Vec<_> = [3].into_iter().chain(places.iter().map(|at| BLOCK + at)).collect();
        for number in 0..=last {
            copy.hurt(number, &places);
            let paths: Vec<_> = copy.files.iter().map(|(path, _)| path.clone()).collect();
            let found = salvaged(&paths);
            let base = made::base(&paths[number]);
            assert_eq!(all(&found, &log, base), log.made, "{number} {places:?}: {found:?}");
            if number < last {
                let told = lone(&found);
                let counts = (told.damaged, told.absent, told.segments);
                assert_eq!(counts, (0, false, last + 1), "{number} {places:?}: {told}");
            }
            copy.mend();
        }
    }
}

#[test]
fn several_such_segments_and_records_beside_files_of_another_log_give_all_that_is_whole() {
    let (log, other) = (Log::new(74, 150), Log::of(75, 60, 16 << 10, 300));
    let (copy, beside) = (Copy::of(&log), Copy::of(&other));
    let last = copy.files.len() - 1;
    let image = copy.dir.path().join("image.raw");
    for hit in [&[0, 1][..], &[last - 1, last], &[1, 3], &(0..=last).collect::<Vec<_>>()] {
        for spoil in [false, true] {
            let mut gone = Vec::new();
            for number in hit {
                let mut places = vec![30, BLOCK + 9];
                // The first record, and one in the middle.
                let (path, bytes) = &copy.files[*number];
                let segment = spec::segment(bytes).unwrap();
                for frame in [&segment.frames[1], &segment.frames[segment.frames.len() / 2]] {
                    if spoil {
                        places.push(frame.at + 1);
                        gone.push(Lsn(made::base(path) + frame.at as u64));
                    }
                }
                copy.hurt(*number, &places);
            }
            let expected: Vec<_> = log.made.iter().filter(|made| !gone.contains(&made.lsn)).cloned().collect();
            let found = salvaged(&[copy.dir.path(), beside.dir.path()]);
            assert_eq!((found.logs().len(), found.unmet, found.untold), (2, 0, 0), "{hit:?}: {found:?}");
            for (told, expected) in [(false, &expected), (true, &other.made)] {
                let told = found.logs().iter().find(|log| (log.log_id == Some(other.id)) == told).unwrap();
                assert_eq!(made::read(&found, told), *expected, "{hit:?}: {told}");
                assert_eq!(told.damaged > 0, spoil && told.log_id != Some(other.id), "{hit:?}: {told}");
            }
            // In an image, each where it was.
            copy.image(&image);
            let found = salvaged(&[&image]);
            let read: Vec<_> = found.logs().iter().flat_map(|told| made::read(&found, told)).collect();
            assert_eq!(read.len(), expected.len(), "{hit:?}: {found:?}");
            assert!(expected.iter().all(|made| read.iter().any(|other| other.payload == made.payload)), "{hit:?}");
            fs::remove_file(&image).unwrap();
            copy.mend();
        }
    }
}

/// What an earlier life left there, and is known, hid what the file holds.
#[test]
fn a_file_that_is_used_again_gives_its_own_records_too() {
    let dir = tempfile::tempdir().unwrap();
    let wal = seawall::Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    let (mut made, mut stale): (Vec<Made>, _) = (Vec::new(), 0);
    for n in 0..900_u32 {
        let lsn = wal.append(&[&n.to_le_bytes()[..], &[n as u8; 200]].concat()).unwrap().wait().unwrap();
        made.extend(wal.read(lsn..).unwrap().map(|record| Made::from(record.unwrap())));
        if n % 40 == 39 {
            wal.clean_before_lsn(lsn).unwrap();
        }
        if n < 300 || n % 17 > 0 {
            continue;
        }
        // As a kill leaves it.
        let killed = tempfile::tempdir().unwrap();
        made::copy(dir.path(), killed.path());
        let newest = segments(killed.path()).into_iter().rfind(|path| made::base(path) < lsn.0).unwrap();
        let base = made::base(&newest);
        let own: Vec<_> = made.iter().filter(|made| made.lsn.0 > base).collect();
        stale += usize::from(whole_of(&salvaged(&[killed.path()])).len() > own.len() + 80);
        for places in [&[3][..], &[3, BLOCK + 9], &[3, BLOCK + 21], &[3, BLOCK + 1, BLOCK + 9], &[3, BLOCK + 60]] {
            let mut bytes = fs::read(&newest).unwrap();
            spoil(&mut bytes, places);
            fs::write(&newest, &bytes).unwrap();
            let read = whole_of(&salvaged(&[killed.path()]));
            spoil(&mut bytes, places);
            fs::write(&newest, bytes).unwrap();
            for right in own.iter().filter(|_| own.len() > 1) {
                let met: Vec<_> = read.iter().filter(|made| made.payload == right.payload).collect();
                assert_eq!(met.len(), 1, "{n} {places:?}: {right:?}");
                assert!(met[0].lsn == right.lsn || met[0].lsn.0 == right.lsn.0 - base, "{n} {places:?}: {met:?}");
            }
        }
    }
    assert!(stale > 0);
}

/// What lies in a file from an earlier life may seem to lie elsewhere in a segment whose header is lost, which may be of any
/// size; and the file was taken for the image of a disk.
#[test]
fn a_file_that_is_used_again_is_a_segment_whatever_its_former_records_seem_to_be() {
    let log = Log::new(78, 150);
    let copy = Copy::of(&log);
    let paths: Vec<_> = copy.files.iter().map(|(path, _)| path.clone()).collect();
    let last = paths.len() - 1;
    // Only the link behind it tells its seed.
    copy.write(0, &[&[0; BLOCK], &copy.files[0].1[BLOCK..]].concat());
    let seed = spec::segment(&copy.files[0].1).unwrap().seed;
    let (own, former) = (&copy.files[last].1, &copy.files[1].1);
    let first = spec::segment(own).unwrap().frames[1].at;
    let stale: Vec<_> =
        spec::segment(former).unwrap().frames.into_iter().filter(|frame| frame.at > own.len()).collect();
    assert!(stale.len() > 3);
    let mut bytes =
        [&vec![0; first], &own[first..], &vec![0; stale[0].at - own.len()], &former[stale[0].at..]].concat();
    for frame in stale {
        spec::mend_check(&mut bytes, seed ^ 1 << 28, frame.at);
    }
    copy.write(last, &bytes);
    assert_eq!(all(&salvaged(&paths), &log, made::base(&paths[last])), log.made);
}

/// Where the offset of another segment could be read in a record, that record was taken for known, and so the seed was not
/// looked for that it has.
#[test]
fn a_segment_that_only_its_records_tell_is_found_where_another_seed_could_be_theirs_elsewhere() {
    let log = Log::new(79, 150);
    let copy = Copy::of(&log);
    let paths: Vec<_> = copy.files.iter().map(|(path, _)| path.clone()).collect();
    let (last, above) = (paths.len() - 1, made::base(&paths[1]));
    let seed = spec::segment(&copy.files[0].1).unwrap().seed;
    let frames = spec::segment(&copy.files[last].1).unwrap().frames;
    // Of the first only the link behind it tells, and not how long it may have been.
    fs::remove_file(&paths[0]).unwrap();
    let mut bytes = copy.files[last].1.clone();
    bytes[..frames[1].at].fill(0);
    for frame in &frames[1..] {
        spec::mend_check(&mut bytes, seed ^ 0x1ec2_3600, frame.at);
    }
    copy.write(last, &bytes);
    let expected: Vec<_> = log.made.iter().filter(|made| made.lsn.0 >= above).cloned().collect();
    assert!(expected.iter().filter(|made| made.lsn.0 > made::base(&paths[last])).count() > 3);
    let found = salvaged(&paths[1..]);
    let read = whole_of(&found);
    assert_eq!(read.len(), expected.len(), "{found:?}");
    assert!(expected.iter().all(|made| read.iter().any(|other| other.payload == made.payload)), "{found:?}");
}

fn whole_of(found: &Salvaged) -> Vec<Made> {
    found.logs().iter().flat_map(|told| made::read(found, told)).collect()
}

/// Each link is read on from up to the next.
#[test]
fn links_that_nothing_confirms_take_linear_time() {
    let log = Log::new(76, 50);
    let (copy, image) = (Copy::of(&log), tempfile::tempdir().unwrap());
    let frame = spec::segment(&copy.files[0].1).unwrap().frames[0].clone();
    let link = &copy.files[0].1[frame.at..frame.end()];
    let (mut bytes, mut random) = (Vec::new(), Random::new(77));
    while bytes.len() < 16 << 20 {
        let next = bytes.len() + (16 << 10);
        bytes.extend(random.bytes(4));
        bytes.extend(&link[4..]);
        // So that every place looks like the beginning of a frame.
        bytes.resize(next, 0x11);
    }
    let path = image.path().join("00000000000000000000.wal");
    write(&path, &bytes);
    let begun = Instant::now();
    let found = salvaged(&[image.path(), copy.dir.path()]);
    let took = begun.elapsed();
    assert_eq!(whole_of(&found), log.made);
    assert!(took < Duration::from_secs(30), "{took:?}");
}
