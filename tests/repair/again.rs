//! The same repair once more, as after a crash that came when all was done.

use seawall::check::{Repair, Verify};
use seawall::sim::{Disk, Keep};
use seawall::{Lsn, Options};

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
