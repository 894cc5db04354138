//! Segments that lie under other names: what verifying, reading and repairing say of them is one and the same.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use seawall::check::{Item, Repair, Verify, frames_on};
use seawall::sim::{Disk, Keep};
use seawall::{Durability, ErrorKind, Lsn, Options, Wal};

const BLOCK: usize = 4096;

fn open(disk: &Disk) -> seawall::Result<Wal> {
    Options::new().segment_size(16 << 10).open_on(disk.mount())
}

/// Four segments of twelve records each but for the last, which holds six; closed, or killed with a MARK that knows
/// nothing of the newest.
fn log(closed: bool) -> (Disk, Vec<String>, u64) {
    let disk = Disk::new(11);
    let wal = open(&disk).unwrap();
    let mut mark = None;
    for segment in 0..4 {
        let records = if segment == 3 { 6 } else { 12 };
        for n in 0..records {
            wal.append(&[n; 400]).unwrap().wait().unwrap();
        }
        if segment == 2 {
            mark = disk.file("MARK");
        }
        if segment < 3 {
            wal.rotate().unwrap();
        }
    }
    if closed {
        wal.close().unwrap();
        disk.crash(Keep::All);
    } else {
        disk.kill();
        drop(wal);
        disk.put("MARK", mark.unwrap());
    }
    let used = |name: &String| disk.file(name).unwrap().get(BLOCK..BLOCK + 24).is_some_and(|frame| frame != [0; 24]);
    let names = disk.names().into_iter().filter(|name| name.ends_with(".wal") && used(name)).collect::<Vec<_>>();
    assert_eq!(names.len(), 4, "{names:?}");
    (disk, names, 42)
}

fn flip(disk: &Disk, name: &str, offset: usize) {
    let mut bytes = disk.file(name).unwrap();
    bytes[offset] ^= 1;
    disk.put(name, bytes);
}

/// Whether the three say the same of the records, and of those that there were, if anything is left to tell of them.
fn judge(disk: &Disk, records: Option<u64>) -> Result<(), String> {
    let report = Verify::new().threads(1).run_on(disk.mount()).unwrap();
    let plan = Repair::new().plan_on(disk.mount()).unwrap();
    let items: Vec<Item> = frames_on(disk.mount()).unwrap().map(Result::unwrap).collect();
    let shown = items.iter().filter(|item| matches!(item, Item::Record(_))).count() as u64;
    // What is told of a name is told alike.
    let is_alike = |item: &Item| match item {
        Item::Damage(fault) => !fault.what.starts_with("this is segment") || report.faults.contains(fault),
        _ => true,
    };
    let told = report.faults.iter().map(|fault| fault.lost_records).sum::<Option<u64>>();
    let opened = Options::new().open_on(disk.fork().mount()).err();
    let refused = opened.as_ref().and_then(|error| match error.kind() {
        ErrorKind::Damage(damage) => damage.records,
        _ => None,
    });
    let same = plan.kept_records + plan.dropped_records == report.records
        && plan.lost_records == told
        && shown <= report.records
        && items.iter().all(is_alike)
        && refused.zip(told).is_none_or(|(refused, told)| refused <= told)
        && records.zip(told).is_none_or(|(records, lost)| report.records + lost == records);
    if same {
        Ok(())
    } else {
        Err(format!("{records:?} records, {shown} shown\nverify: {report}\nrepair: {plan}\nopen: {opened:?}"))
    }
}

#[test]
fn verifying_and_repairing_say_the_same_of_segments_under_other_names() {
    let mut different = Vec::new();
    for closed in [true, false] {
        let (whole, names, records) = log(closed);
        for (n, name) in names.iter().enumerate() {
            for moved in ["stray.bak", &format!("{name}.aside"), &format!("{name}.aside.3"), "00000000000000999424.wal"]
            {
                for (what, hurt) in [("", None), ("its link", Some(BLOCK + 30)), ("a record", Some(BLOCK + 700))] {
                    for next in [false, true] {
                        let disk = whole.fork();
                        disk.rename(name, moved);
                        hurt.into_iter().for_each(|at| flip(&disk, moved, at));
                        if let Some(above) = names.get(n + 1).filter(|_| next) {
                            flip(&disk, above, BLOCK + 30);
                        }
                        // Of what was moved aside only the next link tells that it was part of the log.
                        let untold = moved.contains(".aside") && (next || n == 3) && !closed;
                        let agrees = judge(&disk, Some(records).filter(|_| !untold));
                        let told = format!("closed {closed}, segment {n} as {moved}, hurt {what}, next {next}");
                        different.extend(agrees.err().map(|what| format!("{told}: {what}\n")));
                    }
                }
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

/// What a repair dropped, or could not read then, is told of for as long as it lies there.
#[test]
fn verifying_tells_of_records_in_files_that_were_moved_aside() {
    let notes = |disk: &Disk| {
        let report = Verify::new().threads(1).run_on(disk.mount()).unwrap();
        assert!(report.is_clean(), "{report}");
        report.notes.into_iter().filter(|note| note.contains("aside")).collect::<Vec<_>>()
    };
    let (whole, names, _) = log(true);
    let aside = |name: &str| format!("{name}.aside: moved aside earlier, holds");
    let disk = whole.fork();
    Repair::new().quarantine(&names[1]).run_on(disk.mount()).unwrap();
    let told = format!("{} 12 valid records, 12 of them not in the log", aside(&names[1]));
    let is_told = |notes: &[String]| notes.iter().any(|note| note.starts_with(&told));
    assert!(is_told(&notes(&disk)), "{:?}", notes(&disk));
    // Also to whoever chooses how to repair what is damaged since.
    let hurt = disk.fork();
    flip(&hurt, &names[2], BLOCK + 700);
    let plan = Repair::new().plan_on(hurt.mount()).unwrap();
    assert!(is_told(&plan.notes), "{:?}", plan.notes);
    // Its header was damaged when it was copied, and one record.
    let disk = whole.fork();
    flip(&disk, &names[1], 30);
    flip(&disk, &names[1], BLOCK + 700);
    Repair::new().run_on(disk.mount()).unwrap();
    let told = format!("{} 11 valid records, all of them in the log too", aside(&names[1]));
    assert!(notes(&disk).contains(&told), "{:?}", notes(&disk));
    let others = "holds no valid record";
    assert!(notes(&disk).iter().any(|note| note.contains(others)), "{:?}", notes(&disk));
    // Of two both are named, and of more the first.
    let names = [1, 2, 3].map(|n| format!("{:020}.wal.aside", n * BLOCK));
    for (n, told) in [(2, format!(": {} and {}", names[0], names[1])), (3, format!(": {} and 2 others", names[0]))] {
        let disk = whole.fork();
        names[..n].iter().for_each(|name| disk.put(name, [0; 8192]));
        let verified = notes(&disk);
        assert!(verified.iter().any(|note| note.ends_with(&told)), "{told} {verified:?}");
        let wal = Options::new().open_on(disk.mount()).unwrap();
        let opened = &wal.recovery().notes;
        assert!(opened.iter().any(|note| note.ends_with(&told)), "{told} {opened:?}");
    }
}

/// Bytes behind a torn place are still in their segment, and not in the log.
#[test]
fn records_beyond_the_end_are_not_told_as_in_the_log_too() {
    let disk = Disk::new(11);
    let wal = Options::new().segment_size(16 << 10).durability(Durability::Os).open_on(disk.mount()).unwrap();
    let lsns = [1, 2, 3].map(|n| wal.append(&[n; 600]).unwrap().wait().unwrap());
    // Nothing was synced.
    disk.crash(Keep::All);
    drop(wal);
    let name = disk.names().into_iter().find(|name| name.ends_with(".wal")).unwrap();
    disk.put(&format!("{name}.aside"), disk.file(&name).unwrap());
    flip(&disk, &name, usize::try_from(lsns[1].0).unwrap() + 100);
    let report = Verify::new().threads(1).run_on(disk.mount()).unwrap();
    assert_eq!((report.is_clean(), report.records, report.end), (true, 1, lsns[1]), "{report}");
    let told = format!("{name}.aside: moved aside earlier, holds 3 valid records, 2 of them not in the log");
    assert!(report.notes.iter().any(|note| note.starts_with(&told)), "{report}");
}

/// A segment under another name whose header is damaged, and the link with it that would tell its seed: its frames hold
/// wherever it lies, but the LSNs there never were its records'.
#[test]
fn a_segment_with_a_damaged_header_is_not_read_at_another_place() {
    let (whole, names, _) = log(true);
    let read = |disk: &Disk| -> Vec<_> {
        let items = frames_on(disk.mount()).unwrap();
        items
            .filter_map(|item| if let Item::Record(record) = item.unwrap() { Some(record.lsn) } else { None })
            .collect()
    };
    let all = read(&whole);
    assert_eq!(all.len(), 42);
    for (n, byte) in (1..3).flat_map(|n| [(n, 20), (n, 58), (n, 66)]) {
        let base: u64 = names[n][..20].parse().unwrap();
        for moved in [base - 4096, base + 4096] {
            let disk = whole.fork();
            flip(&disk, &names[n], byte);
            flip(&disk, &names[n + 1], BLOCK + 40);
            disk.rename(&names[n], &format!("{moved:020}.wal"));
            assert!(read(&disk).iter().all(|lsn| all.contains(lsn)), "{n} {byte} {moved}: {:?}", read(&disk));
            Repair::new().run_on(disk.mount()).unwrap();
            assert!(read(&disk).iter().all(|lsn| all.contains(lsn)), "{n} {byte} {moved}: {:?}", read(&disk));
        }
    }
}

/// What a scribble over the header left of the base was taken for another place, and a repair dropped the segment.
#[test]
fn a_segment_whose_header_is_scribbled_over_is_read_in_its_place() {
    let whole = Disk::new(1);
    let wal = open(&whole).unwrap();
    for n in 0..37 {
        wal.append(&[n; 100]).unwrap().wait().unwrap();
    }
    wal.close().unwrap();
    drop(wal);
    let name = "00000000000000000000.wal";
    for (range, fill) in [16..516, 32..64, 48..64, 48..72]
        .into_iter()
        .flat_map(|range| [0, 0xAA, 0xFF].map(|fill| (range.clone(), fill)))
    {
        let disk = whole.fork();
        let mut bytes = disk.file(name).unwrap();
        bytes[range.clone()].fill(fill);
        disk.put(name, bytes);
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        assert_eq!(plan.kept_records, 37, "{range:?} {fill}: {plan}");
        assert_eq!(open(&disk).unwrap().read(..).unwrap().count(), 37, "{range:?} {fill}");
    }
    // Two bits, one of them in the base.
    for (base, other) in (48..56).flat_map(|base| [(base, 9), (base, 20), (base, 60), (base, 70)]) {
        let disk = whole.fork();
        flip(&disk, name, base);
        flip(&disk, name, other);
        let plan = Repair::new().plan_on(disk.mount()).unwrap();
        assert_eq!(plan.kept_records, 37, "{base} {other}: {plan}");
    }
}

/// A used segment that was cut to less than its header passed for one that was prepared, and nothing was said.
#[test]
fn a_segment_without_a_link_that_is_cut_is_told_of() {
    let disk = Disk::new(1);
    let wal = open(&disk).unwrap();
    wal.append(b"record").unwrap().wait().unwrap();
    disk.kill();
    drop(wal);
    let name = disk.names().into_iter().rfind(|name| name.ends_with(".wal")).unwrap();
    let mut bytes = disk.file(&name).unwrap();
    bytes.truncate(735);
    disk.put(&name, bytes);
    let report = Verify::new().run_on(disk.mount()).unwrap();
    assert!(report.notes.iter().any(|note| note.contains(&format!("{name}: cut to 735 bytes"))), "{report}");
    // One that was closed where it ends is not, be its link damaged.
    let (disk, names, _) = log(true);
    flip(&disk, &names[3], BLOCK + 40);
    let report = Verify::new().run_on(disk.mount()).unwrap();
    assert!(!report.is_clean() && report.notes.is_empty(), "{report}");
}

/// One that is cut to more or less than its header, which no crash leaves, may have held records: the log was said to be
/// clean, and a repair to have lost nothing.
#[test]
fn a_segment_that_is_cut_below_its_link_is_a_fault() {
    let (four, names, _) = log(true);
    let prepared = four.names().into_iter().rfind(|name| name.ends_with(".wal")).unwrap();
    assert!(prepared > names[3]);
    let one = Disk::new(1);
    let wal = open(&one).unwrap();
    wal.append(b"record").unwrap().wait().unwrap();
    wal.close().unwrap();
    drop(wal);
    four.remove("MARK");
    one.remove("MARK");
    let first = "00000000000000000000.wal".to_owned();
    for (whole, name, kept) in [(&one, &first, 0), (&four, &names[3], 36), (&four, &prepared, 42)] {
        for length in [735, 4009, BLOCK - 1, BLOCK + 1, BLOCK + 103] {
            let disk = whole.fork();
            let mut bytes = disk.file(name).unwrap();
            bytes.resize(length, 0);
            disk.put(name, bytes);
            let refused = open(&disk.fork()).unwrap_err();
            assert!(matches!(refused.kind(), seawall::ErrorKind::Damage(_)), "{refused}");
            let report = Verify::new().run_on(disk.mount()).unwrap();
            let fault = report.faults.iter().find(|fault| fault.segment == *name).unwrap();
            assert!(fault.what.contains(&format!("cut to {length} bytes")), "{report}");
            assert_eq!(fault.lost_records, None, "{report}");
            let plan = Repair::new().run_on(disk.mount()).unwrap();
            assert_eq!((plan.kept_records, plan.lost_records), (kept, None), "{name} {length}: {plan}");
            assert_eq!(open(&disk).unwrap().read(..).unwrap().count() as u64, kept);
        }
    }
}

/// A file that was moved aside and of which nothing tells how to read it was said to hold no valid record.
#[test]
fn what_cannot_be_read_aside_is_not_called_empty() {
    let (disk, names, _) = log(true);
    let mut bytes = disk.file(&names[0]).unwrap();
    bytes[..4096].fill(0xAA);
    let aside = format!("{:020}.wal.aside", 1 << 30);
    disk.put(&aside, bytes);
    let report = Verify::new().run_on(disk.mount()).unwrap();
    assert!(report.notes.iter().any(|note| note.contains(&aside) && note.contains("seawall salvage")), "{report}");
}

/// Below it nothing is left that its link could lead to: it was called a copy, and its records were dropped.
#[test]
fn a_page_over_the_header_of_the_first_segment_that_is_not_cleaned_loses_nothing() {
    let (whole, names, _) = log(true);
    let base = |name: &str| Lsn(name[..20].parse().unwrap());
    let wal = open(&whole).unwrap();
    wal.clean_before_lsn(base(&names[3])).unwrap();
    wal.close().unwrap();
    let used = |name: &&String| whole.file(name).unwrap().get(BLOCK..BLOCK + 24).is_some_and(|frame| frame != [0; 24]);
    let all: Vec<_> = whole.names().into_iter().filter(|name| name.ends_with(".wal")).collect();
    let (begun, ready): (Vec<_>, Vec<_>) = all.iter().partition(used);
    let (name, other) = (begun[0], ready[0]);
    for is_swap in [false, true] {
        let disk = whole.fork();
        let (mut bytes, mut others) = (disk.file(name).unwrap(), disk.file(other).unwrap());
        let own = bytes[..BLOCK].to_vec();
        bytes[..BLOCK].copy_from_slice(&others[..BLOCK]);
        disk.put(name, bytes);
        if is_swap {
            others[..BLOCK].copy_from_slice(&own);
            disk.put(other, others);
        }
        judge(&disk, Some(6)).unwrap();
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        assert_eq!((plan.kept_records, plan.dropped_records), (6, 0), "{is_swap}: {plan}");
        assert!(!plan.notes.iter().any(|note| note.contains("a copy of")), "{is_swap}: {plan}");
        assert_eq!(open(&disk).unwrap().read(..).unwrap().count(), 6);
    }
}

/// Nothing told whose log it is where no header lies under its own name and MARK is gone.
#[test]
fn swapped_segments_are_put_back_without_a_mark() {
    let (disk, names, records) = log(true);
    disk.remove("MARK");
    for name in &names {
        disk.rename(name, &format!("{name}.bak"));
    }
    for (name, next) in names.iter().zip(names.iter().cycle().skip(1)) {
        disk.rename(&format!("{name}.bak"), next);
    }
    judge(&disk, Some(records)).unwrap();
    let plan = Repair::new().run_on(disk.mount()).unwrap();
    assert_eq!((plan.kept_records, plan.dropped_records), (records, 0), "{plan}");
}

/// It opened as a new log, which handed out the LSNs again, and no command but salvage found one.
#[test]
fn a_log_that_lies_under_other_names_alone_is_no_new_log() {
    let (whole, names, records) = log(true);
    let rest: Vec<_> = whole.names().into_iter().filter(|name| name != "MARK").collect();
    for mark in [None, Some(vec![0; 60])] {
        for end in [".bak", ".1", "~", ".new"] {
            let disk = whole.fork();
            let other =
                |name: &str| name.strip_suffix(".wal").filter(|_| end == ".new").unwrap_or(name).to_owned() + end;
            assert!(rest.iter().all(|name| disk.rename(name, &other(name))));
            disk.remove("MARK");
            mark.iter().for_each(|bytes| disk.put("MARK", bytes.clone()));
            let error = open(&disk).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Damage(_)), "{end}: {error}");
            judge(&disk, Some(records)).unwrap();
            let plan = Repair::new().run_on(disk.mount()).unwrap();
            assert_eq!((plan.kept_records, plan.dropped_records), (records, 0), "{end}: {plan}");
            let wal = open(&disk).unwrap();
            assert_eq!(wal.read(..).unwrap().count() as u64, records, "{end}");
            assert!(names.iter().all(|name| disk.file(name).is_some()));
        }
    }
    // One that was made ready and not used is no log, nor what a crash leaves of the making of one. Of one whose first frame
    // does not hold nothing but salvage would take anything.
    let disk = Disk::new(12);
    let mut spoiled = whole.file(&names[0]).unwrap();
    spoiled[BLOCK + 9] ^= 0xff;
    disk.put("spoiled", spoiled);
    let used = |name: &&String| whole.file(name).unwrap().get(BLOCK..BLOCK + 24).is_some_and(|frame| frame != [0; 24]);
    let unused = rest.iter().find(|name| !used(name)).unwrap();
    disk.put("copy", whole.file(unused).unwrap());
    disk.put(&names[0].replace(".wal", ".new"), whole.file(unused).unwrap());
    drop(open(&disk).unwrap());
}

/// It opened without them, be it as a new log, where a segment that was made ready kept its name.
#[test]
fn segments_that_alone_have_other_names_are_not_forgotten_without_a_mark() {
    for closed in [true, false] {
        let (whole, names, records) = log(closed);
        whole.remove("MARK");
        let ends = [".wal.old", ".new"];
        for (renamed, end) in
            [&names[..], &names[3..], &names[2..], &names[1..2]].map(|renamed| ends.map(|end| (renamed, end))).concat()
        {
            let disk = whole.fork();
            assert!(renamed.iter().all(|name| disk.rename(name, &name.replace(".wal", end))));
            let error = open(&disk).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Damage(_)), "{renamed:?} {end}: {error}");
            judge(&disk, Some(records)).unwrap();
            let plan = Repair::new().run_on(disk.mount()).unwrap();
            assert_eq!((plan.kept_records, plan.dropped_records), (records, 0), "{renamed:?} {end}: {plan}");
            drop(open(&disk).unwrap());
        }
        // A copy beside what it is a copy of is nothing.
        if !closed {
            names.iter().for_each(|name| whole.put(&format!("{name}.old"), whole.file(name).unwrap()));
            drop(open(&whole).unwrap());
        }
    }
}

/// Whose log it was went by which of two ids is the higher.
#[test]
fn a_mark_of_which_a_slot_is_another_logs_is_half_a_mark() {
    for (seed, slot) in [(21, 0), (22, 0), (23, 1), (24, 1), (25, 0), (26, 1)] {
        let (disk, names, records) = log(true);
        let other = Disk::new(seed);
        let wal = open(&other).unwrap();
        wal.append(b"another log's").unwrap().wait().unwrap();
        wal.close().unwrap();
        let mut mark = disk.file("MARK").unwrap();
        let (at, theirs) = (slot * BLOCK, other.file("MARK").unwrap());
        mark[at..at + 64].copy_from_slice(&theirs[at..at + 64]);
        disk.put("MARK", mark);
        let plan = Repair::new().plan_on(disk.mount()).unwrap();
        assert!(plan.unmarked && plan.notes.iter().any(|note| note.contains("may be missing unseen")), "{plan}");
        for name in &names {
            disk.rename(name, &format!("{name}.bak"));
        }
        disk.names().iter().filter(|name| name.ends_with(".wal")).for_each(|name| assert!(disk.remove(name)));
        judge(&disk, Some(records)).unwrap();
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        assert_eq!((plan.kept_records, plan.dropped_records, plan.unmarked), (records, 0, true), "{plan}");
        assert!(plan.notes.iter().any(|note| note.contains("may be missing unseen")), "{plan}");
    }
}

/// Its records were told lost for good, though a hand that gives it its name back has them.
#[test]
fn a_file_that_may_be_a_missing_segment_by_its_name_is_told() {
    let (disk, names, records) = log(true);
    let mut bytes = disk.file(&names[1]).unwrap();
    bytes[..4].copy_from_slice(b"ABCD");
    disk.put(&format!("{}.bak", names[1]), bytes);
    disk.remove(&names[1]);
    let plan = Repair::new().plan_on(disk.mount()).unwrap();
    assert_eq!(plan.lost_records, Some(12), "{plan}");
    let told = format!("{}.bak: {} by its name", names[1], names[1]);
    assert!(plan.notes.iter().any(|note| note.starts_with(&told)), "{plan}");
    disk.rename(&format!("{}.bak", names[1]), &names[1]);
    let plan = Repair::new().run_on(disk.mount()).unwrap();
    assert_eq!((plan.kept_records, plan.lost_records), (records, Some(0)), "{plan}");
    assert!(!plan.notes.iter().any(|note| note.contains("by its name")), "{plan}");
}

/// What was cleaned leaves nothing in its place: where another log's segment lies in it, the log's own is lost, and the next
/// link tells how much, also without MARK.
#[test]
fn what_another_logs_segment_lies_in_the_place_of_was_not_cleaned() {
    let (whole, names, _) = log(true);
    whole.remove("MARK");
    let gone = whole.fork();
    gone.remove(&names[0]);
    let other = Disk::new(77);
    let wal = open(&other).unwrap();
    wal.append(b"another log's").unwrap().wait().unwrap();
    wal.close().unwrap();
    whole.put(&names[0], other.file(&names[0]).unwrap());
    for (disk, lost) in [(gone, None), (whole, Some(12))] {
        let report = Verify::new().run_on(disk.mount()).unwrap();
        let first = report.faults.iter().find(|fault| fault.lsn.0 == 0).unwrap();
        assert_eq!(first.lost_records, lost, "{report}");
    }
}
