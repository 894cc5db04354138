//! What a damaged frame's header takes with it: whether a batch goes on behind it only that tells.

use seawall::check::{Repair, Verify};
use seawall::sim::{Disk, Keep};
use seawall::{ErrorKind, Lsn, Options, Wal};

use super::BLOCK;

const FRAME: usize = 24;
const BATCH: u64 = 20;

fn open(disk: &Disk) -> seawall::Result<Wal> {
    Options::new().segment_size(16 << 10).open_on(disk.mount())
}

/// Two segments; in each one record, then one and a batch that nobody waited between, then one more; and cursors, which
/// the second one's link bears. The LSN of the record before each batch.
fn log() -> (Disk, [Lsn; 2]) {
    let disk = Disk::new(6);
    let wal = open(&disk).unwrap();
    ["ab", "cd"].iter().for_each(|name| wal.cursor(name).unwrap().release(Lsn(0)).unwrap());
    let lone = [0, 1].map(|segment| {
        wal.append(b"zero").unwrap().wait().unwrap();
        let lone = wal.append(b"a record").unwrap();
        let last = wal.append_batch(&vec![[7; 30]; BATCH as usize]).unwrap();
        let (lone, _) = (lone.wait().unwrap(), last.wait().unwrap());
        wal.append(b"end").unwrap().wait().unwrap();
        if segment == 0 {
            wal.rotate().unwrap();
        }
        lone
    });
    wal.close().unwrap();
    disk.crash(Keep::All);
    (disk, lone)
}

const RECORDS: u64 = 2 * (BATCH + 3);

fn change(disk: &Disk, lsn: Lsn, change: impl FnOnce(&mut [u8])) {
    let base = lsn.0 / (16 << 10) * (16 << 10);
    let (name, at) = (format!("{base:020}.wal"), (lsn.0 - base) as usize);
    let mut bytes = disk.file(&name).unwrap();
    change(&mut bytes[at..at + FRAME]);
    disk.put(&name, bytes);
}

/// Its check tells which byte it is, and so where the frame ends and that its batch does.
#[test]
fn one_byte_of_a_frames_header_costs_that_frame_alone() {
    let (whole, lone) = log();
    let link = Lsn((16 << 10) + BLOCK as u64);
    // Of what lay before a lost link nothing else tells, so how much is lost cannot be said.
    for (lsn, lost) in [(lone[0], Some(1)), (lone[1], Some(1)), (link, None)] {
        let masks = (0..8).map(|bit| 1 << bit).chain([0x5A, 0xFF]);
        for (byte, mask) in (0..FRAME).flat_map(|byte| masks.clone().map(move |mask: u8| (byte, mask))) {
            let disk = whole.fork();
            change(&disk, lsn, |header| header[byte] ^= mask);
            if let Err(e) = open(&disk.fork()) {
                let ErrorKind::Damage(damage) = e.kind() else { panic!("{e}") };
                assert_eq!((damage.records, damage.behind), (lost, 0), "{lsn} {byte} {mask}: {e}");
            }
            let report = Verify::new().run_on(disk.mount()).unwrap();
            let [fault] = &*report.faults else { panic!("{lsn} {byte} {mask}: {report}") };
            assert_eq!((fault.lost_records, fault.dropped), (lost, 0), "{lsn} {byte} {mask}: {report}");
            let plan = Repair::new().run_on(disk.mount()).unwrap();
            let told = (plan.kept_records, plan.dropped_records, plan.lost_records);
            assert_eq!(told, (RECORDS - lost.unwrap_or(0), 0, lost), "{lsn} {byte} {mask}: {plan}");
        }
    }
}

/// The batch behind it may be the rest of one that began in it. What that costs is said before.
#[test]
fn what_goes_with_a_lost_header_is_told() {
    let (whole, lone) = log();
    for lsn in lone {
        let disk = whole.fork();
        change(&disk, lsn, |header| header.fill(0));
        let report = Verify::new().run_on(disk.mount()).unwrap();
        assert_eq!((report.records, report.faults[0].dropped), (RECORDS - 1, BATCH), "{report}");
        assert!(report.to_string().contains("a repair that passes over it drops 20 valid records"), "{report}");
        let told = match open(&disk.fork()) {
            Err(e) => e,
            Ok(wal) => wal.read(..).unwrap().find_map(Result::err).unwrap(),
        };
        let ErrorKind::Damage(damage) = told.kind() else { panic!("{told}") };
        assert_eq!((damage.before, damage.behind, damage.beyond > BATCH), (0, BATCH, true), "{told}");
        let plan = Repair::new().run_on(disk.mount()).unwrap();
        assert_eq!((plan.kept_records, plan.dropped_records), (RECORDS - 1 - BATCH, BATCH), "{plan}");
    }
    // Within a batch, what goes lies before it and behind.
    let disk = whole.fork();
    let within = Lsn(lone[0].0 + 32 + 5 * (FRAME as u64 + 32));
    change(&disk, within, |header| header[1] ^= 1);
    let report = Verify::new().run_on(disk.mount()).unwrap();
    assert_eq!((report.faults[0].lost_records, report.faults[0].dropped), (Some(1), BATCH - 1), "{report}");
    let plan = Repair::new().run_on(disk.mount()).unwrap();
    assert_eq!((plan.kept_records, plan.dropped_records), (RECORDS - BATCH, BATCH - 1), "{plan}");
}

/// With one byte put right it would be a header, of a frame that no other follows: of what lies within its length all counts.
#[test]
fn a_header_that_one_byte_makes_is_none_where_nothing_follows_it() {
    let (disk, lone) = log();
    let name = "00000000000000000000.wal";
    let mut bytes = disk.file(name).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let at = lone[0].0 as usize;
    let (seed, length) = (number(12), number(at + 4) + 300);
    bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
    let mut check = crc32fast::Hasher::new_with_initial(seed);
    check.update(&(at as u32).to_le_bytes());
    check.update(&bytes[at + 4..at + FRAME]);
    bytes[at..at + 4].copy_from_slice(&(check.finalize() ^ 1).to_le_bytes());
    disk.put(name, bytes);
    let report = Verify::new().run_on(disk.mount()).unwrap();
    assert_eq!(
        (report.records, report.faults[0].lost_bytes, report.faults[0].dropped),
        (RECORDS - 1, 32, BATCH),
        "{report}"
    );
}
