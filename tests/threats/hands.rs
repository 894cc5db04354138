//! Rows 18, 19 and 21: hands in the directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use seawall::check::{Repair, Salvage, Verify, frames, inspect, inspect_on, verify};
use seawall::sim::{Bug, Disk, Keep, Unit};
use seawall::{Durability, Error, ErrorKind, Lsn, RecoveryMode};

use crate::common::{CAPACITY, everything, fill, filled, is_damage, kind, payload, payloads, segments, small, with};
use crate::spec::{self, BLOCK};

/// Five segments of acknowledged records, and how the log was left: closed, or cut off with MARK written back.
fn five(close: bool) -> (Disk, Vec<String>, u32) {
    let disk = Disk::new(18);
    let wal = small().open_on(disk.mount()).unwrap();
    let mut n = 0;
    while wal.stats().segments < 5 {
        fill(&wal, n..n + 1, 2500);
        n += 1;
    }
    fill(&wal, n..n + 1, 2500);
    if close {
        wal.close().unwrap()
    } else {
        disk.crash(Keep::All)
    }
    let used = |name: &String| spec::segment(&disk.file(name).unwrap()).is_some_and(|s| !s.frames.is_empty());
    let names: Vec<String> = segments(&disk).into_iter().filter(used).collect();
    assert_eq!(names.len(), 5);
    (disk, names, n + 1)
}

/// What hands did was noticed, and nothing was touched by noticing it.
fn is_refused(disk: &Disk, what: &str) {
    let before = everything(disk);
    let opened = small().open_on(disk.mount());
    assert!(is_damage(&opened), "{what}: {opened:?}");
    let read = small().open_read_only_on(disk.mount());
    assert!(is_damage(&read), "{what}, read only: {read:?}");
    assert_eq!(everything(disk), before, "{what}: changed");
}

/// What hands did took nothing away.
fn is_whole(disk: &Disk, records: u32, what: &str) -> Vec<String> {
    let wal = small().open_on(disk.mount()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(payloads(&wal), filled(0..records, 2500), "{what}");
    wal.recovery().notes.clone()
}

#[test]
fn row_18_a_segment_removed() {
    for close in [true, false] {
        let (disk, names, _) = five(close);
        for name in &names {
            let hurt = disk.fork();
            hurt.remove(name);
            is_refused(&hurt, &format!("closed {close}, without {name}"));
            // MARK is not needed, but for the last: there it alone knows.
            hurt.remove("MARK");
            if name != &names[4] {
                is_refused(&hurt, &format!("closed {close}, without {name} and MARK"));
            }
        }
        let hurt = disk.fork();
        segments(&hurt).iter().for_each(|name| assert!(hurt.remove(name)));
        is_refused(&hurt, "without any segment");
        let error = small().open_on(hurt.mount()).unwrap_err();
        let ErrorKind::Damage(damage) = error.kind() else { panic!("{error}") };
        let told = format!("MARK alone, expected records up to LSN {}", damage.durable);
        assert_eq!((&damage.found, damage.bytes > 5 * 2500), (&told, true), "{error}");
    }
}

/// What one slot of MARK says of a closed log the other says too: where nothing else tells of its only used segment.
#[test]
fn row_18_a_closed_log_that_lost_its_segment_and_a_slot_of_mark() {
    let disk = Disk::new(18);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 100);
    wal.close().unwrap();
    let names = segments(&disk);
    let removed = |disk: &Disk| names.iter().for_each(|name| assert!(disk.remove(name)));
    let cut = |disk: &Disk| disk.put(&names[0], &disk.file(&names[0]).unwrap()[..BLOCK]);
    for (harm, what) in [(&removed as &dyn Fn(&Disk), "without segments"), (&cut, "cut to its header")] {
        for slot in [0, BLOCK] {
            let hurt = disk.fork();
            harm(&hurt);
            let mut mark = hurt.file("MARK").unwrap();
            mark[slot + 40] ^= 1;
            hurt.put("MARK", mark);
            is_refused(&hurt, &format!("{what}, without the slot at {slot}"));
        }
    }
}

/// A segment's name is durable before MARK shows a frame of it, so no power cut takes all of them.
#[test]
fn row_18_all_segments_removed_of_a_log_that_never_synced() {
    let disk = Disk::new(18);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 100);
    disk.crash(Keep::All);
    let hurt = disk.fork();
    segments(&hurt).iter().for_each(|name| assert!(hurt.remove(name)));
    is_refused(&hurt, "without any segment");
    let report = Verify::new().run_on(hurt.mount()).unwrap();
    assert_eq!(report.faults.len(), 1, "{report}");
    let told = "every segment is gone: readers saw records up to LSN";
    assert!(report.faults[0].to_string().contains(told), "{report}");
    assert_eq!(report.faults[0].lost_records, None, "{report}");
    let strict = small().recovery_mode(RecoveryMode::Strict).open_on(hurt.mount());
    assert!(is_damage(&strict), "{strict:?}");
}

#[test]
fn row_18_a_missing_front_is_allowed_only_where_a_clean_said_so() {
    let (disk, _, records) = five(true);
    let wal = small().open_on(disk.mount()).unwrap();
    let cleaned = wal.clean_before_lsn(Lsn::MAX).unwrap();
    assert!(!cleaned.removed.is_empty());
    let left = payloads(&wal);
    wal.append(&payload(records, 2500)).unwrap().wait().unwrap();
    wal.close().unwrap();
    drop(wal);
    // MARK and the new link both say that the front was cleaned: either is enough.
    let wal = small().open_on(disk.fork().mount()).unwrap();
    assert_eq!(payloads(&wal).len(), left.len() + 1);
    let first = format!("{:020}.wal", cleaned.first.0);
    disk.remove(&first);
    is_refused(&disk, "without the first segment that is left");
}

#[test]
fn row_18_a_segment_cut_or_emptied() {
    for close in [true, false] {
        let (disk, names, records) = five(close);
        for (n, name) in names.iter().enumerate() {
            let bytes = disk.file(name).unwrap();
            let end = spec::segment(&bytes).unwrap().frames.last().unwrap().end();
            for length in (0..bytes.len()).step_by(337).chain([BLOCK - 1, BLOCK, end - 1, end, bytes.len() - 1]) {
                let hurt = disk.fork();
                hurt.put(name, &bytes[..length]);
                let what = format!("closed {close}, {name} cut to {length} of {}, used {end}", bytes.len());
                // Sizes are durable from the making: a tip that is short was cut, unless MARK says that the log ends
                // there, as it does at close and in an idle moment.
                if length < end || n == 4 && length < bytes.len() && length != end {
                    is_refused(&hurt, &what);
                } else {
                    is_whole(&hurt, records, &what);
                }
            }
        }
    }
}

/// A log whose next segment was begun, and its link lost with the power, has no other end for that.
#[test]
fn row_18_the_newest_segment_cut_below_one_without_a_link() {
    let disk = Disk::new(18);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..2, 100);
    let shown = wal.append(&payload(2, 100)).unwrap().lsn().0 as usize;
    wal.rotate().unwrap();
    drop(wal.append(&payload(3, 600)).unwrap());
    let last = wal.append(&payload(4, 100)).unwrap();
    // Both segments are written, and the power goes in the first sync.
    disk.crash_at(3);
    assert!(last.wait().is_err());
    drop(wal);
    let names = segments(&disk);
    // What MARK came to say is lost too: it would tell a cut where the last commit ended from none.
    let lost = |unit: &Unit| match unit {
        Unit::Sector { file, sector, .. } => file == "MARK" || *file == names[1] && *sector == 8,
        _ => false,
    };
    disk.crash(Keep::Choose(&mut |unit| !lost(unit)));
    // The next opening shows the third record, and is killed.
    let wal = small().open_on(disk.mount()).unwrap();
    assert_eq!(payloads(&wal), filled(0..3, 100));
    assert_eq!(wal.recovery().torn.as_ref().map(|torn| torn.beyond), Some(1));
    disk.crash_at(0);
    drop(wal);
    disk.kill();
    for cut in [shown, shown + 30] {
        let hurt = disk.fork();
        let bytes = hurt.file(&names[0]).unwrap();
        hurt.put(&names[0], &bytes[..cut]);
        is_refused(&hurt, &format!("cut to {cut}"));
    }
}

#[test]
fn row_18_a_segment_grown() {
    let (disk, names, records) = five(false);
    for name in &names {
        for more in [1, 511, 4096, 3 * CAPACITY as usize] {
            for byte in [0, 0xff] {
                let hurt = disk.fork();
                let mut bytes = disk.file(name).unwrap();
                bytes.resize(bytes.len() + more, byte);
                hurt.put(name, &bytes);
                is_whole(&hurt, records, &format!("{name} grown by {more}"));
                // The life after begins above all that could have been handed out.
                let wal = small().open_on(hurt.mount()).unwrap();
                let lsn = wal.append(b"later").unwrap().wait().unwrap();
                assert!(lsn.0 > spec::u64_at(&bytes, 48) + bytes.len() as u64);
            }
        }
    }
}

#[test]
fn row_18_segments_swapped_duplicated_and_renamed() {
    for close in [true, false] {
        let (disk, names, records) = five(close);
        for a in 0..5 {
            for b in 0..5 {
                let (bytes, what) = (disk.file(&names[a]).unwrap(), format!("closed {close}, {a} and {b}"));
                if a < b {
                    let hurt = disk.fork();
                    hurt.put(&names[a], disk.file(&names[b]).unwrap());
                    hurt.put(&names[b], &bytes);
                    is_refused(&hurt, &format!("swapped {what}"));
                }
                if a != b {
                    let hurt = disk.fork();
                    hurt.put(&names[b], &bytes);
                    is_refused(&hurt, &format!("copied over {what}"));
                    hurt.remove(&names[a]);
                    is_refused(&hurt, &format!("renamed over {what}"));
                }
            }
            // Under a name that none had: above all, and between.
            let base = spec::u64_at(&disk.file(&names[4]).unwrap(), 48);
            let above = format!("{:020}.wal", base + 64 * CAPACITY);
            let hurt = disk.fork();
            hurt.put(&above, disk.file(&names[a]).unwrap());
            is_refused(&hurt, &format!("copied above, {a}"));
            let hurt = disk.fork();
            hurt.rename(&names[a], &above);
            is_refused(&hurt, &format!("renamed to above, {a}"));
            let between = format!("{:020}.wal", spec::u64_at(&disk.file(&names[2]).unwrap(), 48) + 4096);
            let hurt = disk.fork();
            hurt.put(&between, disk.file(&names[a]).unwrap());
            let report = Verify::new().run_on(hurt.mount()).unwrap();
            let notes = is_whole(&hurt, records, &format!("copied between, {a}"));
            let told = format!("{between}: a copy of {}, not part of the log", names[a]);
            assert!(notes.contains(&told), "{notes:?}");
            assert!(report.is_clean() && report.notes.contains(&told), "{report}");
            let hurt = disk.fork();
            hurt.rename(&names[a], &between);
            is_refused(&hurt, &format!("renamed to between, {a}"));
        }
    }
}

#[test]
fn row_18_mark_removed_torn_or_of_another_log() {
    let (disk, _, records) = five(false);
    let mark = disk.file("MARK").unwrap();
    let foreign = Disk::new(99);
    let wal = small().open_on(foreign.mount()).unwrap();
    fill(&wal, 0..40, 2500);
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    wal.close().unwrap();
    let theirs = foreign.file("MARK").unwrap();
    let half = [&mark[..BLOCK], &theirs[BLOCK..]].concat();
    let torn: Vec<Vec<u8>> = vec![vec![], mark[..30].to_vec(), vec![0; mark.len()], vec![0xff; mark.len()]];
    for (n, bytes) in torn.into_iter().enumerate() {
        let hurt = disk.fork();
        hurt.put("MARK", bytes);
        let notes = is_whole(&hurt, records, &format!("MARK torn, {n}"));
        assert!(notes.iter().any(|note| note.contains("MARK")), "{notes:?}");
    }
    let hurt = disk.fork();
    hurt.remove("MARK");
    let notes = is_whole(&hurt, records, "without MARK");
    assert!(notes.iter().any(|note| note.contains("MARK: missing")), "{notes:?}");
    // A MARK that is not ours says nothing of us: a front of another log must not take our segments away.
    for (what, bytes) in [("another log's", theirs), ("half another's", half)] {
        let hurt = disk.fork();
        hurt.put("MARK", bytes);
        let notes = is_whole(&hurt, records, what);
        assert!(
            notes.iter().any(|note| note.starts_with("MARK") && note.contains("another log's")),
            "{what}: {notes:?}"
        );
    }
    // One slot torn: the other says nearly as much.
    for slot in [0, BLOCK] {
        let hurt = disk.fork();
        let mut bytes = mark.clone();
        bytes[slot + 10] ^= 1;
        hurt.put("MARK", bytes);
        is_whole(&hurt, records, "one slot torn");
    }
}

#[test]
fn row_18_after_mark_is_lost_the_log_goes_on_and_has_one_again() {
    let (disk, _, records) = five(false);
    disk.remove("MARK");
    let wal = small().open_on(disk.mount()).unwrap();
    wal.append(&payload(records, 2500)).unwrap().wait().unwrap();
    wal.close().unwrap();
    drop(wal);
    disk.crash(Keep::None);
    let notes = is_whole(&disk, records + 1, "with a new MARK");
    assert!(!notes.iter().any(|note| note.contains("MARK")), "{notes:?}");
}

#[test]
fn row_18_one_segment_beside_the_mark_of_another_log_is_always_judged_alike() {
    let mut verdicts = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..3, 100);
        disk.kill();
        drop(wal);
        let other = Disk::new(1000 + seed);
        fill(&small().open_on(other.mount()).unwrap(), 0..3, 100);
        segments(&disk).iter().skip(1).for_each(|name| assert!(disk.remove(name)));
        disk.put("MARK", other.file("MARK").unwrap());
        let opened = small().open_on(disk.mount());
        verdicts.insert(opened.map_err(|e| e.to_string()).map(|wal| payloads(&wal)));
    }
    // A segment is the log; MARK only speaks of it.
    assert_eq!(verdicts, [Ok(filled(0..3, 100))].into());
}

/// Of a log's only used segment nothing is left but what MARK says of it, and where it lay lies what another log had made
/// ready and not used.
#[test]
fn row_18_a_prepared_segment_of_another_log_does_not_outweigh_mark() {
    let other = Disk::new(99);
    small().open_on(other.mount()).unwrap().prepare().unwrap();
    other.kill();
    let prepared: Vec<Vec<u8>> = segments(&other).iter().map(|name| other.file(name).unwrap()).collect();
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let wal = small().open_on(disk.mount()).unwrap();
        let last = *fill(&wal, 0..3, 100).last().unwrap();
        let id = wal.log_id();
        wal.close().unwrap();
        let names = segments(&disk);
        names.iter().for_each(|name| assert!(disk.remove(name)));
        for (n, bytes) in prepared.iter().enumerate() {
            disk.put(&format!("{:020}.wal", n * (16 << 10)), bytes);
        }
        is_refused(&disk, "with another log's prepared segment");
        assert_eq!(inspect_on(disk.mount()).unwrap().log_id, Some(id));
        Repair::new().run_on(disk.mount()).unwrap();
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!((wal.log_id(), payloads(&wal).len()), (id, 0));
        assert!(wal.append(b"on").unwrap().wait().unwrap() > last);
    }
}

/// A segment with frames outvotes MARK, and what is left of the log that MARK is of was told as another's, with no loss.
#[test]
fn row_18_the_only_used_segment_is_replaced_by_another_logs() {
    let used = |seed| {
        let disk = Disk::new(seed);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..10, 100);
        wal.close().unwrap();
        disk
    };
    let (disk, other) = (used(1), used(2));
    let first = segments(&disk)[0].clone();
    disk.put(&first, other.file(&first).unwrap());
    is_refused(&disk, "another log's in the place of the only one");
    let plan = Repair::new().run_on(disk.mount()).unwrap();
    assert_eq!((plan.kept_records, plan.lost_records), (10, None), "{plan}");
    assert!(plan.notes.iter().any(|note| note.contains("is the log that belongs here")), "{plan}");
}

#[test]
fn row_19_foreign_files_are_reported_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let wal = small().open(dir.path()).unwrap();
    fill(&wal, 0..20, 2500);
    wal.close().unwrap();
    let first = fs::read(at("00000000000000000000.wal")).unwrap();
    let strange = [
        "notes.txt",
        "00000000000000000000.wal~",
        ".00000000000000000000.wal.swp",
        "#00000000000000000000.wal#",
        "00000000000000000000.WAL",
        "0000000000000000000.wal",
        "000000000000000000000.wal",
        "+0000000000000016384.wal",
        "-0000000000000016384.wal",
        "99999999999999999999.wal",
        "0000000000000001638x.wal",
        "00000000000000016384.wal.bak",
        "00000000000000016384.wal.aside.x",
        "MARK~",
        "mark",
        "backup-of-log-1-2.tmp",
        "snow\u{2603}man",
    ];
    strange.iter().for_each(|name| fs::write(at(name), &first).unwrap());
    fs::create_dir(at("00000000099999999488.wal")).unwrap();
    fs::create_dir(at("lost+found")).unwrap();
    symlink(at("00000000000000000000.wal"), at("00000000088888889344.wal")).unwrap();
    fs::write(at("00000000000000016384.wal.aside"), b"aside").unwrap();
    let wal = small().open(dir.path()).unwrap();
    assert_eq!(payloads(&wal), filled(0..20, 2500));
    let notes = wal.recovery().notes.join("\n");
    let others =
        ["00000000099999999488.wal", "lost+found", "00000000088888889344.wal", "00000000000000016384.wal.aside"];
    for name in strange.iter().chain(&others) {
        assert!(notes.contains(&format!("{name}: ")), "{name} is not reported:\n{notes}");
    }
    // It is worked with and cleaned, and they stay.
    fill(&wal, 20..60, 2500);
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    wal.close().unwrap();
    strange.iter().for_each(|name| assert_eq!(fs::read(at(name)).unwrap(), first, "{name}"));
    others.iter().for_each(|name| assert!(fs::symlink_metadata(at(name)).is_ok(), "{name}"));
}

#[test]
fn row_19_what_looks_unfinished_and_is_more_than_that_is_not_removed() {
    let (disk, names, records) = five(false);
    let newest = names.last().unwrap();
    let unfinished = newest.replace(".wal", ".new");
    // A maker leaves zeros, or a header and zeros.
    let (header, zeros) = (disk.file(newest).unwrap()[..BLOCK].to_vec(), vec![0; 4 * BLOCK]);
    let theirs = |part: &[u8]| [part, &zeros[part.len()..]].concat();
    disk.put("00000000000000999424.new", theirs(&header));
    disk.put("00000000000001003520.new", &zeros);
    disk.put("00000000000001007616.new", b"");
    // All that is left of a segment, another log's, and what is no segment at all.
    let frames = disk.file(newest).unwrap();
    let mut late = vec![0; 12 * BLOCK];
    late.extend(&frames[BLOCK..]);
    let ours = [
        (unfinished, frames),
        ("00000000000000901120.new".to_owned(), late),
        ("00000000000000905216.new".to_owned(), b"notes".to_vec()),
    ];
    ours.iter().for_each(|(name, bytes)| disk.put(name, bytes));
    for _ in 0..2 {
        let notes = is_whole(&disk, records, "beside unfinished files").join("\n");
        for (name, bytes) in &ours {
            let aside = format!("{name}.aside");
            assert_eq!(disk.file(&aside).as_ref(), Some(bytes), "{name}: {:?}", disk.names());
            assert!(disk.file(name).is_none() && !notes.is_empty(), "{notes}");
        }
        assert!(disk.names().iter().all(|name| !name.ends_with(".new")), "{:?}", disk.names());
    }
}

/// Its name alone says which LSNs are spent: a segment was made over a link, and LSNs of the one it leads to given again.
#[test]
fn row_19_no_lsn_is_given_again_of_what_a_link_or_a_directory_stands_for() {
    let (disk, names, _) = five(false);
    let newest = names.last().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = disk.names().into_iter().filter(|name| name != "MARK" && name < newest);
    files.for_each(|name| fs::write(dir.path().join(&name), disk.file(&name).unwrap()).unwrap());
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    fs::write(&elsewhere, disk.file(newest).unwrap()).unwrap();
    symlink(&elsewhere, dir.path().join(newest)).unwrap();
    let spent = newest.trim_end_matches(".wal").parse::<u64>().unwrap() + CAPACITY;
    let wal = small().open(dir.path()).unwrap();
    for _ in 0..3 {
        assert!(wal.append(b"again").unwrap().wait().unwrap().0 >= spent);
    }
    assert!(dir.path().join(newest).is_symlink());
}

#[test]
fn row_19_a_directory_in_the_place_of_a_file_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    fill(&wal, 0..20, 2500);
    wal.close().unwrap();
    let listed = |dir: &Path| -> Vec<_> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| (fs::read(dir.join(&name)).ok(), name)).collect()
    };
    for name in ["00000000000000016384.wal", "MARK"] {
        let (temp, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (log, is_mark) = (temp.path(), name == "MARK");
        for (bytes, name) in listed(dir.path()) {
            fs::write(log.join(name), bytes.unwrap()).unwrap();
        }
        fs::rename(log.join(name), elsewhere.path().join(name)).unwrap();
        fs::create_dir(log.join(name)).unwrap();
        fs::write(log.join(name).join("kept"), b"kept").unwrap();
        let before = listed(log);
        let told = |what: &str, told: String, acts: bool| {
            assert!(
                told.contains(name) && told.contains("a directory, a link or the like, has the name"),
                "{what}: {told}"
            );
            assert!(!acts || told.contains("move it away"), "{what}: {told}");
            assert_eq!(listed(log), before, "{what}");
        };
        let text = |result: Result<String, Error>| result.unwrap_or_else(|e| e.to_string());
        let report = |report: seawall::check::Report| {
            assert_eq!(report.faults.len(), 1, "{report}");
            report.to_string()
        };
        told("open", small().open(log).unwrap_err().to_string(), is_mark);
        told("read", small().open_read_only(log).unwrap_err().to_string(), is_mark);
        told("verify", text(verify(log).map(report)), is_mark);
        told("inspect", text(inspect(log).map(|found| format!("{:?}", found.faults))), is_mark);
        let dump = frames(log).map(|frames| frames.map(|item| format!("{item:?}\n")).collect());
        told("dump", text(dump), is_mark);
        told("plan", Repair::new().plan(log).unwrap_err().to_string(), true);
        told("repair", Repair::new().run(log).unwrap_err().to_string(), true);
        let found = Salvage::new().run(&[log]).unwrap();
        assert!(found.notes.iter().any(|note| note.contains(name)), "{:?}", found.notes);
        assert_eq!(listed(log), before);
        // Done as told.
        fs::remove_dir_all(log.join(name)).unwrap();
        fs::rename(elsewhere.path().join(name), log.join(name)).unwrap();
        assert_eq!(payloads(&small().open(log).unwrap()), filled(0..20, 2500));
    }
}

#[test]
fn row_21_a_file_cut_before_it_is_mapped_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let lsns = fill(&wal, 0..20, 2500);
    let file = fs::File::options().write(true).open(dir.path().join("00000000000000000000.wal")).unwrap();
    file.set_len(5000).unwrap();
    for lsn in &lsns[..3] {
        let e = wal.get(*lsn).unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::Io), "{e}");
        assert!(e.path().is_some_and(|path| path.ends_with("00000000000000000000.wal")), "{e}");
    }
    assert_eq!(wal.get(lsns[19]).unwrap().payload, payload(19, 2500));
    drop(wal);
    assert!(is_damage(&small().open(dir.path())));
}

#[test]
fn row_21_files_of_a_reader_elsewhere_are_not_mapped_and_a_cut_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let lsns = fill(&wal, 0..20, 2500);
    let view = small().open_read_only(dir.path()).unwrap();
    assert_eq!(view.get(lsns[1]).unwrap().payload, payload(1, 2500));
    let file = fs::File::options().write(true).open(dir.path().join("00000000000000000000.wal")).unwrap();
    file.set_len(5000).unwrap();
    let got = view.get(lsns[1]);
    assert!(is_damage(&got), "{got:?}");
    assert!(view.read(..).unwrap().any(|record| is_damage(&record)));
}

/// `Bytes` are held over cleans and refills; whether they, or the file under them, were written over.
fn held_over_cleans(bug: Option<Bug>) -> Vec<String> {
    let disk = Disk::new(21);
    let wal = with(small(), bug).open_on(disk.mount()).unwrap();
    let lsns = fill(&wal, 0..20, 2500);
    let held: Vec<_> = lsns[..12].iter().map(|lsn| wal.get(*lsn).unwrap().payload).collect();
    for round in 1..10 {
        wal.clean_before_lsn(Lsn::MAX).unwrap();
        fill(&wal, 20 * round..20 * round + 20, 2500);
        disk.settle();
    }
    let expected: Vec<_> = filled(0..12, 2500);
    assert!(held.iter().zip(&expected).all(|(held, expected)| held == expected));
    disk.violations()
}

#[test]
fn row_21_bytes_that_are_held_never_change() {
    assert_eq!(held_over_cleans(None), [""; 0]);
    let caught = held_over_cleans(Some(Bug::RecycleWhileMapped));
    assert!(caught.iter().any(|what| what.contains("written under a live map")), "{caught:?}");
}

#[test]
fn row_21_a_segment_that_is_made_longer_counts_as_it_was_made() {
    // Before it is cut to its end, and after.
    for cut in [false, true] {
        let disk = Disk::new(21);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..12, 2500);
        let first = &segments(&disk)[0];
        let length = || disk.file(first).unwrap().len() as u64;
        assert_eq!(length(), CAPACITY);
        if cut {
            disk.settle();
            assert!(length() < CAPACITY);
        }
        disk.mount().open(first, true).unwrap().set_len(1 << 20).unwrap();
        disk.settle();
        assert_eq!(length(), 1 << 20);
        assert!(!wal.clean_before_lsn(Lsn::MAX).unwrap().removed.is_empty());
        fill(&wal, 12..30, 2500);
        disk.settle();
        let files = disk.names().iter().map(|name| disk.file(name).unwrap().len() as u64).sum::<u64>();
        assert_eq!(wal.stats().disk_bytes, files, "cut {cut}");
    }
}

#[test]
fn row_21_bytes_that_are_held_never_change_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let lsns = fill(&wal, 0..20, 2500);
    let held: Vec<_> = lsns[..12].iter().map(|lsn| wal.get(*lsn).unwrap().payload).collect();
    for round in 1..10 {
        wal.clean_before_lsn(Lsn::MAX).unwrap();
        fill(&wal, 20 * round..20 * round + 20, 2500);
    }
    assert!(matches!(kind(wal.get(lsns[0])), ErrorKind::Removed { .. }));
    wal.close().unwrap();
    // They outlive the segment, the log and its directory.
    drop(wal);
    drop(dir);
    assert_eq!(held, filled(0..12, 2500));
}
