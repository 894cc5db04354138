//! Repair of an arbitrary directory: made and harmed by a program of `recover`, verified, repaired, opened.

use seawall::check::{Fault, Item, Repair, RepairPlan, Report, Verify, frames_on};
use seawall::sim::Disk;
use seawall::{ErrorKind, Kind, Record, Ticket, Wal};

pub use super::appended::Row;
use super::input::bounded;
use super::recover::{Built, build, options};
use super::spec::{self, BLOCK};

type NamedFile = (String, Option<Vec<u8>>);

/// How many times the bytes of the directory a repair may hold.
const MULTIPLE: usize = 16;

/// Runs a program and repairs what it leaves.
pub fn run(input: &[u8]) {
    run_with(input, |_| ());
}

/// The same with a hand in what the repaired log holds.
pub fn run_with(input: &[u8], hand: impl Fn(&mut Vec<Row>)) {
    let built = build(input, &options());
    let disk = &built.disk;
    if is_wrong_within(disk) {
        // Of bytes that are right by their checksums and wrong all the same it is enough that it ends.
        _ = Repair::new().run_on(disk.mount());
        return;
    }
    let before = files(disk);
    let bytes = before.iter().filter_map(|(_, bytes)| Some(bytes.as_ref()?.len())).sum();
    let report = verify(disk);
    let shown = shown(disk);
    let plan = bounded(bytes, MULTIPLE, || Repair::new().plan_on(disk.mount()));
    assert!(files(disk) == before, "a plan changed the directory");
    let (plan, report) = match (plan, report) {
        (Ok(plan), Ok(report)) => (plan, report),
        (Err(e), _) | (_, Err(e)) => {
            assert!(matches!(e.kind(), ErrorKind::NotFound | ErrorKind::TooNew | ErrorKind::TooLarge { .. }), "{e:?}");
            return;
        }
    };
    assert_eq!(plan.steps.is_empty(), report.is_clean(), "{plan}\n{report}");
    // Over the directory's own bytes those of the new files, which the disk in memory holds too.
    let done = bounded(bytes + (64 << 10), MULTIPLE, || Repair::new().run_on(disk.mount()));
    let done = done.unwrap_or_else(|e| panic!("what was planned is not done: {e}\n{plan}"));
    assert_eq!(plan.to_string(), done.to_string());
    let after = verify(disk).expect("what was repaired is a log");
    assert!(after.is_clean(), "{after}\nafter {plan}");
    let again = Repair::new().plan_on(disk.mount()).expect("it can be repaired again");
    assert!(again.steps.is_empty(), "{again}\nafter {plan}");

    let wal = options().open_on(disk.mount()).unwrap_or_else(|e| panic!("does not open: {e:?}\n{after}\nafter {plan}"));
    let mut found = read(&wal);
    hand(&mut found);
    check(&built, &before, (&report, &plan), &shown, &found, wal.recovery().first.0);
    // A file that comes back under its own name may say by a forged link that all before it was cleaned.
    if !plan.steps.is_empty() && !built.forged {
        assert_eq!(found.len() as u64, plan.kept_records, "{plan}");
    }
    goes_on(wal, disk, found);
}

/// Whether a segment's first frame is whole and is no link that a log would write: no damage makes that, and no check
/// of a single segment sees it.
fn is_wrong_within(disk: &Disk) -> bool {
    let wrong = |name: &String| {
        let bytes = disk.file(name).filter(|bytes| bytes.len() > BLOCK && spec::is_header(bytes))?;
        let (base, seed) = (spec::u64_at(&bytes, 48), spec::u32_at(&bytes, 12));
        spec::frame(&bytes, base, seed, BLOCK).filter(|frame| !spec::is_link(frame, base))
    };
    // Whatever its name is: a repair gives files back the name that their header says.
    disk.names().iter().any(|name| wrong(name).is_some())
}

/// Nothing is there that nobody appended; all is there that was, and was not told to be lost.
fn check(built: &Built, before: &[NamedFile], told: (&Report, &RepairPlan), shown: &[Row], found: &[Row], first: u64) {
    let (report, plan) = told;
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "out of order");
    for row in shown.iter().filter(|row| !built.forged || row.0 >= first) {
        assert!(found.contains(row), "LSN {} was shown before the repair, and is gone\n{report}", row.0);
    }
    if built.forged {
        return;
    }
    for row in found {
        assert!(built.model.ever().contains(row), "LSN {}: nobody appended it\n{report}", row.0);
    }
    // Without MARK nobody may know any more how far the last segment was durable.
    let known = before.iter().find(|(name, _)| name == "MARK").and_then(|(_, bytes)| bytes.as_deref());
    let known = spec::synced(known.unwrap_or_default()).max(report.end.0);
    let mut missed = Vec::new();
    for batch in built.model.durable_batches().filter(|batch| batch.iter().all(|row| row.0 < known)) {
        // A fault reaches up to the next record that is shown, be it in another file; that of a link down too, for a
        // file that only it told of.
        let lost = |row: &Row| {
            let end = row.0 + 24 + row.2.len().next_multiple_of(4) as u64;
            let none = |lsns: std::ops::Range<u64>| !shown.iter().any(|row| lsns.contains(&row.0));
            let above = |fault: &Fault| fault.lsn.0 < end && none(fault.lsn.0..row.0);
            let below = |fault: &Fault| fault.offset <= BLOCK as u64 && row.0 < fault.lsn.0 && none(row.0..fault.lsn.0);
            report.faults.iter().any(|fault| above(fault) || below(fault))
        };
        if batch.iter().any(lost) {
            continue;
        }
        missed.extend(batch.into_iter().filter(|row| !found.contains(row)));
    }
    // Behind a lost header it may be that a batch goes on.
    let missed: Vec<_> = missed.iter().map(|row| row.0).collect();
    let told = plan.dropped_records;
    assert!(
        missed.len() as u64 <= told,
        "LSNs {missed:?} were durable, are not told to be lost, and are gone\n{report}"
    );
}

/// Appends, closes, opens again.
fn goes_on(wal: Wal, disk: &Disk, mut found: Vec<Row>) {
    let lsn = wal.append(b"one more").and_then(Ticket::wait).expect("a repaired log goes on");
    found.push((lsn.0, false, b"one more".to_vec()));
    disk.settle();
    wal.close().expect("and closes");
    drop(wal);
    let report = verify(disk).expect("it is a log");
    assert!(report.is_clean(), "{report}");
    let wal = options().open_on(disk.mount()).expect("and opens again");
    assert!(read(&wal) == found, "other records than before");
}

fn verify(disk: &Disk) -> seawall::Result<Report> {
    Verify::new().threads(1).run_on(disk.mount())
}

fn files(disk: &Disk) -> Vec<NamedFile> {
    disk.names().into_iter().map(|name| (name.clone(), disk.file(&name))).collect()
}

fn row(record: &Record) -> Row {
    (record.lsn.0, record.kind == Kind::Checkpoint, record.payload.to_vec())
}

/// The records that are read past damage, without those of batches that are not whole.
fn shown(disk: &Disk) -> Vec<Row> {
    let Ok(mut frames) = frames_on(disk.mount()) else { return Vec::new() };
    let (mut whole, mut batch) = (Vec::new(), Vec::new());
    while let Some(Ok(item)) = frames.next() {
        let Item::Record(record) = item else { continue };
        batch.push((frames.is_part(), row(&record)));
        if record.ends_batch {
            whole.extend(batch.drain(..).filter(|(is_part, _)| !is_part).map(|(_, row)| row));
        }
    }
    whole
}

fn read(wal: &Wal) -> Vec<Row> {
    wal.read(..).expect("it is read").map(|record| row(&record.expect("a repaired log is read whole"))).collect()
}
