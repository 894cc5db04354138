//! The same repair once more, as after a crash that came when all was done.

use seawall::Lsn;
use seawall::check::Repair;

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
