//! The same repair once more, as after a crash that came when all was done.

use seawall::check::{Repair, Verify};
use seawall::sim::{Disk, Keep};
use seawall::{Durability, Lsn, Options};

use super::{BLOCK, World};

/// It was an error, or the log went on in one more segment.
#[test]
fn what_is_done_already_is_not_done_again() {
    let whole = World::new();
    let [second, newest] = [&whole.segments[1], whole.segments.last().unwrap()];
    let middle = Lsn(whole.records[whole.records.len() / 2].lsn);
    let ways = [
        ("all", Repair::new()),
        ("middle", Repair::new().cut(middle)),
        ("nothing", Repair::new().cut(Lsn(0))),
        ("second", Repair::new().quarantine(second)),
        ("newest", Repair::new().quarantine(newest)),
        ("both", Repair::new().quarantine(second).quarantine(newest)),
    ];
    for (what, way) in ways {
        for hurt in [false, true] {
            let world = whole.fork();
            if hurt {
                world.flip(second, BLOCK + 300, 4);
            }
            let plan = way.run_on(world.disk.mount()).unwrap();
            assert_eq!(plan.steps.is_empty(), what == "all" && !hurt, "{what} {hurt}");
            let before = world.contents();
            let again = way.run_on(world.disk.mount()).unwrap_or_else(|e| panic!("{what} {hurt}: {e}"));
            assert!(again.steps.is_empty() && again.faults.is_empty(), "{what} {hurt}: {again}");
            assert_eq!((again.kept_records, again.dropped_records), (plan.kept_records, 0), "{what} {hurt}");
            assert!(world.contents() == before, "{what} {hurt}");
        }
    }
}

/// A quarantine that leaves room for a gap where the next segment is gone too was ended by a power cut, with only the highest
/// of what it wrote in its place. Then the log is repaired without it: the gap had lain within the segment that stays.
#[test]
fn after_a_crash_another_way_out_may_be_taken() {
    let disk = Disk::new(5);
    let wal = Options::new().segment_size(32 << 10).open_on(disk.mount()).unwrap();
    for segment in 0..3 {
        (0..7).for_each(|n| _ = wal.append(&[n; 2000]).unwrap().wait().unwrap());
        if segment < 2 {
            wal.rotate().unwrap();
        }
    }
    wal.close().unwrap();
    disk.crash(Keep::All);
    let names = ["00000000000000000000.wal", "00000000000000032768.wal"];
    assert!(disk.remove(names[1]));
    for (nth, keep) in (1..80).flat_map(|nth| (0..4).map(move |keep| (nth, keep))) {
        let disk = disk.fork();
        disk.crash_at(nth);
        if Repair::new().quarantine(names[0]).run_on(disk.mount()).is_ok() {
            return;
        }
        disk.crash(if keep == 0 { Keep::All } else { Keep::Random(keep) });
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        let report = Verify::new().run_on(disk.mount()).unwrap();
        assert!(report.is_clean() && report.records == plan.kept_records, "{nth} {keep}: {plan}\n{report}");
    }
    panic!("it does not end");
}

/// Files in the places of others, one of them gone or its link damaged: what a repair keeps, it keeps as well if a power cut
/// ended it and it is run again.
#[test]
fn a_crash_costs_no_record_whichever_files_are_swapped() {
    let (disk, names) = four();
    let files: Vec<_> = names.iter().map(|name| disk.file(name).unwrap()).collect();
    let (mut crashes, mut worse) = (0, Vec::new());
    let gone = (0..4).map(|n| (Some(n), None)).chain((0..4).map(|n| (None, Some(n))));
    for (order, (gone, unlinked)) in orders().into_iter().flat_map(|order| gone.clone().map(move |harm| (order, harm)))
    {
        let harmed = disk.fork();
        for (name, &file) in names.iter().zip(&order) {
            let mut bytes = files[file].clone();
            bytes[BLOCK + 34] ^= u8::from(unlinked == Some(file));
            harmed.put(name, bytes);
        }
        gone.map(|n| harmed.remove(&names[n]));
        let straight = harmed.fork();
        let kept = Repair::new().run_on(straight.mount()).unwrap().kept_records;
        for nth in 1.. {
            let crashed = harmed.fork();
            crashed.crash_at(nth);
            let done = Repair::new().run_on(crashed.mount()).is_ok();
            for all in [true, false] {
                let left = crashed.fork();
                left.crash(if all { Keep::All } else { Keep::Random(nth) });
                let plan = Repair::new().run_on(left.mount()).unwrap();
                let what = format!("{order:?} without {gone:?}, link {unlinked:?}, {nth} {all}");
                if plan.kept_records != kept {
                    worse.push(format!("{what}: {kept} kept, then {}", plan.kept_records));
                }
                let report = Verify::new().threads(1).run_on(left.mount()).unwrap();
                assert!(report.is_clean(), "{what}: {report}");
                crashes += 1;
            }
            if done {
                break;
            }
        }
    }
    assert!(worse.is_empty(), "{} of {crashes}:\n{}", worse.len(), worse.join("\n"));
    assert!(crashes > 5_000, "{crashes}");
}

/// A cut through a log in which the newest segments are damaged too, at each place, and ended by a power cut: the same once
/// more does what is left of it. It was "beyond the end" that it had itself brought about.
#[test]
fn a_cut_that_a_crash_ended_is_done_when_it_is_run_again() {
    let (disk, cuts, [prepared, next]) = killed();
    let (mut crashes, mut worse) = (0, Vec::new());
    for (harm, &cut) in (0..4).flat_map(|harm| cuts.iter().map(move |cut| (harm, cut))) {
        let harmed = disk.fork();
        let damaged = |name: &str, at: usize| {
            let mut bytes = harmed.file(name).unwrap();
            bytes[at] ^= 1;
            harmed.put(name, bytes);
        };
        match harm {
            0 => damaged(&prepared, 9),
            1 => damaged(&next, BLOCK + 34),
            2 => damaged(&next, 9),
            _ => damaged("00000000000000000000.wal", BLOCK + 34),
        }
        let straight = harmed.fork();
        let kept = Repair::new().cut(cut).run_on(straight.mount()).unwrap().kept_records;
        for nth in 1.. {
            let crashed = harmed.fork();
            crashed.crash_at(nth);
            let done = Repair::new().cut(cut).run_on(crashed.mount()).is_ok();
            for all in [true, false] {
                let left = crashed.fork();
                left.crash(if all { Keep::All } else { Keep::Random(nth) });
                let what = format!("harm {harm}, cut at {cut}, {nth} {all}");
                match Repair::new().cut(cut).run_on(left.mount()) {
                    // Of what was never synced a power cut may take some.
                    Ok(plan) if plan.kept_records == kept || !all && plan.kept_records < kept => {}
                    done => worse.push(format!("{what}: {kept} kept, then {done:?}")),
                }
                crashes += 1;
            }
            if done {
                break;
            }
        }
    }
    assert!(worse.is_empty(), "{} of {crashes}:\n{}", worse.len(), worse.join("\n"));
    assert!(crashes > 500, "{crashes}");
}

/// A log of three segments, the last one only prepared, whose process was killed before anything was synced; where it may be
/// cut; and the names of the last two.
fn killed() -> (Disk, Vec<Lsn>, [String; 2]) {
    let disk = Disk::new(9);
    let wal = Options::new().segment_size(16 << 10).durability(Durability::Os).open_on(disk.mount()).unwrap();
    let mut cuts = vec![Lsn(0)];
    for segment in 0..2 {
        let batch: Vec<_> = (0..3).map(|n| vec![n; 300]).collect();
        cuts.push(wal.append(&[segment; 900]).unwrap().wait().unwrap());
        cuts.push(wal.append_batch(&batch).unwrap().wait().unwrap());
        cuts.extend([1, 2].map(|n| Lsn(cuts[cuts.len() - 1].0 + n * 324)));
        if segment == 0 {
            wal.rotate().unwrap();
        }
    }
    disk.crash_at(0);
    drop(wal);
    disk.kill();
    let names: Vec<String> = disk.names().into_iter().filter(|name| name.ends_with(".wal")).collect();
    let [_, next, prepared] = <[String; 3]>::try_from(names).unwrap();
    (disk, cuts, [prepared, next])
}

/// Four closed segments of five records each.
fn four() -> (Disk, Vec<String>) {
    let disk = Disk::new(9);
    let wal = Options::new().segment_size(16 << 10).open_on(disk.mount()).unwrap();
    for segment in 0..4 {
        (0..5).for_each(|n| _ = wal.append(&[n; 300]).unwrap().wait().unwrap());
        if segment < 3 {
            wal.rotate().unwrap();
        }
    }
    wal.close().unwrap();
    disk.crash(Keep::All);
    let names: Vec<String> = disk.names().into_iter().filter(|name| name.ends_with(".wal")).take(4).collect();
    (disk, names)
}

/// All orders of four.
fn orders() -> Vec<[usize; 4]> {
    let all = (0..256).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6]);
    all.filter(|order| (0..4).all(|n| order.contains(&n))).collect()
}

/// The first segment is cleaned, the third one quarantined: it lies aside. Then the link of the second and that of the stand-in
/// of the third are damaged, so that nothing tells any more how many records were cleaned, and the stand-in is removed: what
/// lies aside comes back, and its link counts them.
#[test]
fn a_repair_comes_to_an_end_where_a_link_counts_more_than_an_earlier_one_knew() {
    let (disk, names) = four();
    let wal = Options::new().segment_size(16 << 10).open_on(disk.mount()).unwrap();
    wal.clean_before_lsn(Lsn(16384 + BLOCK as u64 + 1)).unwrap();
    wal.close().unwrap();
    disk.crash(Keep::All);
    let repair = |way: Repair<'_>| {
        let plan = way.run_on(disk.mount()).unwrap();
        let report = Verify::new().threads(1).run_on(disk.mount()).unwrap();
        assert!(report.is_clean(), "{plan}\n{report}");
        plan
    };
    let flip = |name: &str, at: usize| {
        let mut bytes = disk.file(name).unwrap();
        bytes[at] ^= 1;
        disk.put(name, bytes);
    };
    assert_eq!(repair(Repair::new().quarantine(&names[2])).kept_records, 10);
    flip(&names[1], BLOCK + 34);
    flip(&names[2], BLOCK + 4);
    assert_eq!(repair(Repair::new()).kept_records, 10);
    assert!(disk.remove(&names[2]));
    let back = repair(Repair::new());
    assert_eq!((back.kept_records, back.lost_records), (15, Some(0)), "{back}");
    assert!(repair(Repair::new()).steps.is_empty());
}

/// The last records of a closed log are lost, and a power cut ends the repair once its newest segment is written anew: how many
/// were lost could not be told, and no run says that none was.
#[test]
fn what_was_lost_is_not_told_as_nothing_by_a_repair_that_is_run_again() {
    let (disk, names) = four();
    let mut bytes = disk.file(&names[3]).unwrap();
    let end = bytes.len();
    bytes[end - 700..].fill(0);
    disk.put(&names[3], bytes);
    let straight = Repair::new().plan_on(disk.mount()).unwrap();
    assert_eq!(straight.lost_records, None, "{straight}");
    let mut begun = 0;
    for nth in 1.. {
        let crashed = disk.fork();
        crashed.crash_at(nth);
        let done = Repair::new().run_on(crashed.mount()).is_ok();
        crashed.crash(Keep::All);
        let report = Verify::new().threads(1).run_on(crashed.mount()).unwrap();
        assert!(!report.to_string().contains("appended to the file"), "{nth}: {report}");
        let again = Repair::new().run_on(crashed.mount()).unwrap();
        assert_eq!(again.kept_records, straight.kept_records, "{nth}: {again}");
        if !again.steps.is_empty() && !again.faults.is_empty() {
            begun += 1;
            assert_eq!(again.lost_records, None, "{nth}: {again}");
        }
        if done {
            break;
        }
    }
    assert!(begun > 10, "{begun}");
}
