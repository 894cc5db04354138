//! Bytes of the log in the place of others of it: a write that went to the wrong place.

use std::fs;
use std::path::{Path, PathBuf};

use seawall::check::Salvaged;

use crate::made::{self, Log, Made, salvaged, segments};
use crate::random::Random;
use crate::spec;

const BLOCK: usize = 4096;

/// What was made and is whole at its place in the newest segment, and not found.
fn missed(found: &Salvaged, log: &Log, newest: &Path, before: &[u8]) -> Vec<Made> {
    let (base, now) = (made::base(newest), fs::read(newest).unwrap());
    let whole = |frame: &&spec::Frame| {
        now.get(frame.at..frame.at + 24 + frame.length) == before.get(frame.at..frame.at + 24 + frame.length)
    };
    let frames = spec::segment(before).unwrap().frames;
    let lsns: Vec<_> = frames.iter().filter(whole).map(|frame| base + frame.at as u64).collect();
    let read: Vec<_> = found.logs().iter().flat_map(|told| made::read(found, told)).collect();
    // Where nothing tells its place in the log, its LSN is its offset.
    let is_found = |right: &Made| {
        read.iter()
            .any(|made| (made.lsn == right.lsn || made.lsn.0 == right.lsn.0 - base) && made.payload == right.payload)
    };
    log.made.iter().filter(|made| lsns.contains(&made.lsn.0) && !is_found(made)).cloned().collect()
}

/// A log of three segments, the newest of which is hurt, and their bytes.
fn three() -> (Log, Vec<PathBuf>, Vec<Vec<u8>>) {
    let log = Log::of(90, 450, 64 << 10, 600);
    let paths = segments(log.dir());
    let files: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(paths.len() > 2 && files.last().unwrap().len() > 40_000, "{} {}", paths.len(), files.last().unwrap().len());
    (log, paths, files)
}

/// What lay in its place told the seed alone, or kept others from being looked for.
#[test]
fn other_bytes_of_the_log_over_the_head_of_the_newest_segment_hide_none_behind_them() {
    let (log, paths, files) = three();
    let (newest, last) = (paths.last().unwrap(), files.len() - 1);
    let mut random = Random::new(91);
    let blocks = (0..9).flat_map(|skip| (2..5).map(move |count| (skip * BLOCK, count * BLOCK)));
    let sectors: Vec<_> =
        (0..20).map(|_| (random.below(70) as usize * 512, (9 + random.below(20) as usize) * 512)).collect();
    for (skip, count) in blocks.chain(sectors) {
        for from in [last - 2, last - 1, last] {
            let bytes = [&files[from][skip..skip + count], &files[last][count..]].concat();
            fs::write(newest, bytes).unwrap();
            for sources in [vec![log.dir().to_path_buf()], vec![newest.clone()]] {
                let found = salvaged(&sources);
                let missed = missed(&found, &log, newest, &files[last]);
                assert_eq!(missed, [], "{count} bytes of {from} from {skip}: {sources:?} {found:?}");
            }
        }
    }
    fs::write(newest, &files[last]).unwrap();
    assert_eq!(made::whole(&salvaged(&[log.dir()])), log.made);
}

/// What lies in the file twice is one record.
#[test]
fn a_piece_of_a_segment_over_its_own_head_tells_no_other_log() {
    let (log, paths, files) = three();
    let (newest, own) = (paths.last().unwrap(), files.last().unwrap());
    fs::write(newest, [&own[6 * BLOCK..9 * BLOCK], &own[3 * BLOCK..]].concat()).unwrap();
    let found = salvaged(&[log.dir()]);
    assert_eq!(missed(&found, &log, newest, own), []);
    assert_eq!(found.logs().iter().filter(|told| told.log_id.is_none()).count(), 1, "{found:?}");
}

/// Behind a sound header they are what was cleaned, in a file under its own name and in one made ready under another.
#[test]
fn what_is_left_of_former_lives_of_a_file_is_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = seawall::Options::new().segment_size(16 << 10).open(dir.path()).unwrap();
    let mut left = 0;
    for n in 0..900_u32 {
        let lsn = wal.append(&[n as u8; 200]).unwrap().wait().unwrap();
        if n % 40 == 39 {
            wal.clean_before_lsn(lsn).unwrap();
        }
        if n % 17 > 0 {
            continue;
        }
        // As a kill leaves it.
        let killed = tempfile::tempdir().unwrap();
        made::copy(dir.path(), killed.path());
        let found = salvaged(&[killed.path()]);
        assert!(found.is_whole(), "{n}: {found:?}");
        assert_eq!(found.logs().len(), 1, "{n}: {found:?}");
        left += usize::from(found.notes.iter().any(|note| note.contains("before they were used again")));
    }
    assert!(left > 9, "{left}");
}

/// Each place seems to be followed by the next frame, and under none lies what it says.
#[test]
fn headers_that_agree_on_a_seed_and_on_no_payload_take_linear_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = vec![0x11; 8 << 20];
    for at in (BLOCK..bytes.len() - spec::FRAME).step_by(spec::FRAME) {
        bytes[at + 4..at + 8].copy_from_slice(&(120_000_u32 | 1 << 28).to_le_bytes());
        spec::mend_check(&mut bytes, 0x1234_5678, at);
    }
    fs::write(dir.path().join("00000000000000000000.wal"), bytes).unwrap();
    let begun = std::time::Instant::now();
    let found = salvaged(&[dir.path()]);
    let took = begun.elapsed();
    assert!(found.logs().is_empty() && took < std::time::Duration::from_secs(30), "{took:?} {found:?}");
}
