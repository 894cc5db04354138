//! Rows 1 to 8: the power goes, processes are killed, a sync fails.

use std::os::unix::fs::FileExt;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use seawall::check::{Repair, Verify};
use seawall::sim::{Bug, Disk, Failing, Fault, Keep, Operation, Unit};
use seawall::storage::Fs;
use seawall::{Durability, ErrorKind, Lsn, Options};

use crate::common::{
    block_on, fill, filled, is_damage, kind, payload, payloads, segments, small, with, write_unsynced,
};
use crate::spec;

/// Five acknowledged records, a sixth that was written and not synced, and the power is gone.
fn torn() -> Disk {
    let disk = Disk::new(1);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..5, 100);
    write_unsynced(&disk, &wal, &[payload(5, 2500)]);
    disk
}

#[test]
fn row_01_a_torn_final_frame_is_dropped_whatever_sectors_of_it_survive() {
    let disk = torn();
    let units = disk.dirty_units();
    assert!((6..=14).contains(&units), "{units} units to enumerate: {:?}", disk.dirty());
    let mut whole = 0;
    for mask in 0..1 << units {
        let left = disk.fork();
        left.crash(Keep::Mask(mask));
        let wal = small().open_on(left.mount()).unwrap_or_else(|e| panic!("mask {mask:b}: {e}"));
        let shown = payloads(&wal);
        assert_eq!(shown[..5], filled(0..5, 100), "mask {mask:b}");
        if shown.len() > 5 {
            assert_eq!(shown[5..], [payload(5, 2500)], "mask {mask:b}");
            whole += 1;
        }
    }
    assert!(whole > 0 && whole < 1 << (units - 5), "{whole} states held the record");
}

#[test]
fn row_01_a_torn_final_frame_is_dropped_at_any_byte() {
    let disk = torn();
    disk.crash(Keep::All);
    let name = segments(&disk).remove(0);
    let bytes = disk.file(&name).unwrap();
    let last = spec::segment(&bytes).unwrap().frames.pop().unwrap();
    assert_eq!(last.payload, payload(5, 2500));
    for cut in last.at..last.at + spec::FRAME + last.length {
        let left = disk.fork();
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        left.put(&name, &torn);
        let wal = small().open_on(left.mount()).unwrap();
        assert_eq!(payloads(&wal), filled(0..5, 100), "cut at {cut}");
        assert_eq!(wal.recovery().end, Lsn(last.at as u64));
    }
}

/// Two durable records, then twelve over several segments that were written and never synced.
fn unsynced() -> (Disk, seawall::Wal) {
    let disk = Disk::new(2);
    let wal = small().durability(Durability::Os).open_on(disk.mount()).unwrap();
    fill(&wal, 0..2, 3000);
    wal.sync().unwrap();
    fill(&wal, 2..14, 3000);
    assert!(segments(&disk).len() >= 4, "{:?}", disk.names());
    (disk, wal)
}

/// Loses one sector after the other of the unsynced tail, and tells what first went wrong.
fn holes(bug: Option<Bug>) -> Result<(), String> {
    let (disk, _wal) = unsynced();
    let sector = |unit: Unit| match unit {
        Unit::Sector { file, sector, .. } if file.ends_with(".wal") => Some((file, sector)),
        _ => None,
    };
    let mut lost: Vec<_> = disk.dirty().into_iter().filter_map(sector).collect();
    lost.dedup();
    assert!(lost.len() > 60, "{} sectors", lost.len());
    for hole in lost {
        let left = disk.fork();
        left.crash(Keep::Choose(&mut |unit| sector(unit.clone()).as_ref() != Some(&hole)));
        survives_hole(&left, bug).map_err(|what| format!("without sector {} of {}: {what}", hole.1, hole.0))?;
    }
    Ok(())
}

fn survives_hole(left: &Disk, bug: Option<Bug>) -> Result<(), String> {
    let options = with(small(), bug);
    let wal = options.open_on(left.mount()).map_err(|e| e.to_string())?;
    let shown: seawall::Result<Vec<_>> = wal.read(..).map_err(|e| e.to_string())?.collect();
    let shown: Vec<_> = shown.map_err(|e| e.to_string())?.iter().map(|record| record.payload.to_vec()).collect();
    let n = shown.len() as u32;
    if !(2..=13).contains(&n) || shown != filled(0..n, 3000) {
        return Err(format!("{n} records shown, not what was appended before the hole"));
    }
    wal.append(b"later").unwrap().wait().map_err(|e| e.to_string())?;
    left.settle();
    left.crash(Keep::None);
    drop(wal);
    let wal = options.open_on(left.mount()).map_err(|e| e.to_string())?;
    let mut expected = shown;
    expected.push(b"later".to_vec());
    if payloads(&wal) == expected { Ok(()) } else { Err("something beyond the hole came back".to_owned()) }
}

#[test]
fn row_02_a_hole_ends_the_log_whatever_lies_beyond() {
    holes(None).unwrap();
}

#[test]
fn row_02_catches_frames_beyond_a_hole_taken_as_damage() {
    let caught = holes(Some(Bug::FramesBeyondAreDamage)).unwrap_err();
    assert!(caught.contains("damaged"), "{caught}");
}

#[test]
fn row_02_catches_a_link_trusted_as_proof() {
    let caught = holes(Some(Bug::LinkIsProof)).unwrap_err();
    assert!(caught.contains("its files hold other bytes"), "{caught}");
}

#[test]
fn row_03_lengths_without_data_and_data_without_lengths() {
    type Kept = fn(&Unit) -> bool;
    let keeps: [Kept; 4] = [
        |unit| matches!(unit, Unit::Length { .. }),
        |unit| matches!(unit, Unit::Sector { .. }),
        |unit| !matches!(unit, Unit::Length { .. }),
        |unit| !matches!(unit, Unit::Sector { .. }),
    ];
    let mut states = 0;
    for nth in 1.. {
        let disk = Disk::new(3);
        disk.crash_at(nth);
        let acked = tell(&disk, &small());
        for keep in keeps {
            let left = disk.fork();
            left.crash(Keep::Choose(&mut |unit| keep(unit)));
            holds(&left, &acked);
            states += 1;
        }
        if !disk.crashed() {
            break;
        }
    }
    assert!(states > 200, "{states} states");
}

/// What somebody did with a log before it stopped answering.
#[derive(Debug, Default)]
struct Story {
    /// Records that were handed to the log, by number: `0..tried`.
    tried: u32,
    /// Of them, those that it acknowledged.
    acked: u32,
    /// Records below this number may be cleaned away.
    cleaned: u32,
}

/// Appends, rotates, cleans and closes, until something fails.
fn tell(disk: &Disk, options: &Options) -> Story {
    let mut story = Story::default();
    _ = go_on(disk, options, &mut story);
    story
}

fn go_on(disk: &Disk, options: &Options, story: &mut Story) -> seawall::Result<()> {
    let mut lsns = Vec::new();
    for _ in 0..2 {
        let wal = options.open_on(disk.mount())?;
        for round in 0..4_u32 {
            for n in 0..3 {
                story.tried += 1;
                let ticket = wal.append(&payload(story.tried - 1, 3500))?;
                lsns.push(ticket.lsn());
                if n != 1 {
                    ticket.wait()?;
                    story.acked = story.tried;
                }
            }
            if round == 1 {
                wal.rotate()?;
            }
            disk.settle();
            if round == 2 {
                // Said before it is done: a clean that fails may have happened.
                story.cleaned = story.tried - 4;
                wal.clean_before_lsn(lsns[story.cleaned as usize])?;
            }
        }
        wal.close()?;
    }
    Ok(())
}

/// Opens what is left, checks the promises, goes on, and cuts the power again.
fn holds(left: &Disk, story: &Story) {
    let wal = small().open_on(left.mount()).unwrap_or_else(|e| panic!("{story:?}: {e}"));
    let mut shown = payloads(&wal);
    let first = shown.first().map_or(story.tried.min(story.acked), |first| spec::u32_at(first, 0));
    let last = first + shown.len() as u32;
    assert!(first <= story.cleaned && last >= story.acked && last <= story.tried, "{first}..{last}: {story:?}");
    assert_eq!(shown, filled(first..last, 3500), "{story:?}");
    wal.append(b"once more").unwrap().wait().unwrap();
    shown.push(b"once more".to_vec());
    left.settle();
    left.crash(Keep::None);
    drop(wal);
    assert_eq!(payloads(&small().open_on(left.mount()).unwrap()), shown, "{story:?}");
    assert_eq!(left.violations(), [""; 0]);
}

fn is_name(unit: &Unit) -> bool {
    matches!(unit, Unit::Create { .. } | Unit::Rename { .. } | Unit::Remove { .. })
}

#[test]
fn row_04_names_that_do_not_survive_never_were() {
    let mut states = 0;
    for nth in 1.. {
        let disk = Disk::new(4);
        disk.crash_at(nth);
        let story = tell(&disk, &small());
        let names = disk.dirty().iter().filter(|unit| is_name(unit)).count();
        for mask in 0..1_u32 << names.min(5) {
            for others in [true, false] {
                let (left, mut n) = (disk.fork(), 0);
                left.crash(Keep::Choose(&mut |unit| {
                    n += u32::from(is_name(unit));
                    if is_name(unit) { mask >> (n - 1) & 1 == 1 } else { others }
                }));
                holds(&left, &story);
                states += 1;
            }
        }
        if !disk.crashed() {
            break;
        }
    }
    assert!(states > 300, "{states} states");
}

#[test]
fn row_05_a_crash_at_every_step_and_in_every_recovery_from_it() {
    let mut states = 0;
    for nth in 1.. {
        let disk = Disk::new(5);
        disk.crash_torn_at(nth);
        let story = tell(&disk, &small());
        for keep in [Keep::All, Keep::None, Keep::Random(nth), Keep::Random(nth + 1)] {
            let left = disk.fork();
            left.crash(keep);
            for again in 1.. {
                // The second crash strikes in the recovery, and the third, after another step, in the next one.
                let left = left.fork();
                left.crash_torn_at(again);
                let opened = small().open_on(left.mount());
                let through = !left.crashed();
                drop(opened);
                left.crash(Keep::Random(again));
                holds(&left, &story);
                states += 1;
                if through {
                    break;
                }
            }
        }
        if !disk.crashed() {
            break;
        }
    }
    assert!(states > 2000, "{states} states");
}

/// Records are written, the process is killed, a new one shows them, the power goes.
fn shown_stays_shown(bug: Option<Bug>) -> bool {
    let disk = Disk::new(6);
    let options = with(small().durability(Durability::Os), bug);
    let wal = options.open_on(disk.mount()).unwrap();
    fill(&wal, 0..14, 3000);
    disk.kill();
    drop(wal);
    for _ in 0..3 {
        let wal = options.open_on(disk.mount()).unwrap();
        assert_eq!(payloads(&wal), filled(0..14, 3000));
        disk.kill();
    }
    disk.crash(Keep::None);
    let wal = options.open_on(disk.mount());
    wal.is_ok_and(|wal| payloads(&wal) == filled(0..14, 3000))
}

#[test]
fn row_06_what_was_shown_after_a_kill_survives_a_power_cut() {
    assert!(shown_stays_shown(None));
    assert!(!shown_stays_shown(Some(Bug::NoRewrite)), "the check sees nothing");
}

#[test]
fn row_07_a_power_cut_with_os_durability_leaves_a_prefix() {
    let (disk, _wal) = unsynced();
    let mut lengths = std::collections::BTreeMap::new();
    for seed in 0..2000 {
        let left = disk.fork();
        left.crash(Keep::Random(seed));
        let wal = small().open_on(left.mount()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let shown = payloads(&wal);
        assert!(shown.len() >= 2, "seed {seed}");
        assert_eq!(shown, filled(0..shown.len() as u32, 3000), "seed {seed}");
        *lengths.entry(shown.len()).or_insert(0) += 1;
    }
    assert!(lengths.len() > 3, "the power cuts were all alike: {lengths:?}");
}

#[test]
fn row_08_a_failed_sync_poisons_tells_everybody_and_is_not_tried_again() {
    let disk = Disk::new(8);
    disk.threads(true);
    let wal = small().open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 3000);
    disk.fail(Fault::new(Operation::Sync).on(".wal"));
    let told = AtomicUsize::new(0);
    let tickets: Vec<_> = (3..11).map(|n| wal.append(&payload(n, 300)).unwrap()).collect();
    std::thread::scope(|scope| {
        for (n, ticket) in tickets.into_iter().enumerate() {
            let told = &told;
            scope.spawn(move || {
                let answer = if n % 2 == 0 { ticket.wait() } else { block_on(ticket) };
                assert_eq!(kind(answer), ErrorKind::Poisoned);
                told.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    assert_eq!(told.into_inner(), 8);
    let syncs = disk.count(Operation::Sync);
    assert_eq!(kind(wal.append(b"later")), ErrorKind::Poisoned);
    assert_eq!(kind(wal.sync()), ErrorKind::Poisoned);
    assert_eq!(payloads(&wal), filled(0..3, 3000), "reading what is durable goes on");
    assert_eq!(kind(wal.close()), ErrorKind::Poisoned);
    assert_eq!(disk.count(Operation::Sync), syncs, "nothing was synced again");
}

/// A round that was acknowledged while the next one waited, whose sync failed: damage to it is no torn tail.
#[test]
fn row_08_what_was_acknowledged_before_a_sync_failed_is_known_durable() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Failing::new(Arc::new(Fs::new(dir.path())));
    let wal = small().open_on(Arc::clone(&failing) as _).unwrap();
    fill(&wal, 0..2, 100);
    let held = failing.hold(Operation::Sync);
    let lsn = std::thread::scope(|scope| {
        let one = scope.spawn(|| wal.append(b"one").unwrap().wait().unwrap());
        held.wait_for(1);
        let other = scope.spawn(|| wal.append(b"other").unwrap().wait());
        std::thread::sleep(Duration::from_millis(50));
        failing.fail(Fault::new(Operation::Sync));
        drop(held);
        assert!(other.join().unwrap().is_err());
        one.join().unwrap()
    });
    _ = wal.close();
    drop(wal);
    let view = small().open_read_only(dir.path()).unwrap();
    assert_eq!(view.get(lsn).unwrap().payload, &b"one"[..]);
    let segment = std::fs::OpenOptions::new().write(true).open(dir.path().join("00000000000000000000.wal")).unwrap();
    segment.write_all_at(b"x", lsn.0 + 24).unwrap();
    assert!(is_damage(&small().open(dir.path())));
}

/// What a log shows once it was opened where the cache forgets before the `nth` read, what could not be synced in the life
/// before: all of it stays, and what is appended is behind it. `None` where there are fewer reads.
fn forgotten(seed: u64, nth: u64, options: &Options) -> Option<()> {
    let disk = Disk::new(seed);
    let wal = options.open_on(disk.mount()).unwrap();
    fill(&wal, 0..3, 900);
    disk.fail(Fault::new(Operation::Sync).on(".wal"));
    let tickets: Vec<_> = (3..6).map(|n| wal.append(&payload(n, 900)).unwrap()).collect();
    tickets.into_iter().for_each(|ticket| assert_eq!(kind(ticket.wait()), ErrorKind::Poisoned));
    disk.kill();
    drop(wal);
    disk.fail(Fault::new(Operation::Read).on(".wal").nth(nth).forgetting());
    let (reads, wal) = (disk.count(Operation::Read), options.open_on(disk.mount()).unwrap());
    if disk.count(Operation::Read) - reads < nth {
        return None;
    }
    let mut shown = payloads(&wal);
    assert!((3..=6).contains(&shown.len()) && filled(0..6, 900).starts_with(&shown), "{seed}, {nth}");
    shown.push(payload(6, 900));
    wal.append(&payload(6, 900)).unwrap().wait().unwrap();
    assert_eq!(payloads(&wal), shown, "seed {seed}, read {nth}");
    disk.crash(Keep::None);
    drop(wal);
    assert_eq!(payloads(&options.open_on(disk.mount()).unwrap()), shown, "seed {seed}, read {nth}");
    Some(())
}

#[test]
fn row_08_what_the_cache_forgets_while_the_log_is_opened_is_not_taken_for_durable() {
    let mut reads = 0;
    for seed in 0..100 {
        reads += (1..40).take_while(|nth| forgotten(seed, *nth, &small()).is_some()).count();
    }
    assert!(reads > 400, "{reads}");
    let planted = small().plant(Bug::RewriteUnverified);
    let missed = |seed| (1..40).all(|nth| catch_unwind(|| forgotten(seed, nth, &planted)).is_ok());
    assert!(!(0..10).all(missed), "what was not verified was taken for durable, and nothing was seen of it");
}

/// A repair says in its next link that all before is durable.
#[test]
fn row_08_what_the_cache_forgets_during_a_repair_is_not_taken_for_durable() {
    let mut refused = 0;
    for seed in 0..20 {
        let before = Disk::new(seed);
        let wal = small().open_on(before.mount()).unwrap();
        fill(&wal, 0..3, 900);
        wal.rotate().unwrap();
        fill(&wal, 3..5, 900);
        before.fail(Fault::new(Operation::Sync).on(".wal"));
        let tickets: Vec<_> = (5..8).map(|n| wal.append(&payload(n, 900)).unwrap()).collect();
        tickets.into_iter().for_each(|ticket| assert_eq!(kind(ticket.wait()), ErrorKind::Poisoned));
        before.kill();
        drop(wal);
        let first = before.names().into_iter().find(|name| name.ends_with(".wal")).unwrap();
        let mut bytes = before.file(&first).unwrap();
        bytes[4300] ^= 1;
        before.put(&first, bytes);
        for nth in 1.. {
            let disk = before.fork();
            disk.fail(Fault::new(Operation::Read).on(".wal").nth(nth).forgetting());
            if let Err(e) = Repair::new().run_on(disk.mount()) {
                assert!(e.to_string().contains("repair again"), "{e}");
                refused += 1;
                Repair::new().run_on(disk.mount()).unwrap();
                // That had perhaps nothing left to do, and names that the first one gave are synced by who opens.
                small().open_on(disk.mount()).unwrap().close().unwrap();
            }
            let all = disk.count(Operation::Read);
            disk.crash(Keep::None);
            let report = Verify::new().run_on(disk.mount()).unwrap();
            assert!(report.is_clean(), "seed {seed}, read {nth}: {report}");
            // Of those that were durable one is damaged.
            assert!((4..=7).contains(&payloads(&small().open_on(disk.mount()).unwrap()).len()), "{seed}, {nth}");
            if all < nth {
                break;
            }
        }
    }
    assert!(refused > 0, "nothing was forgotten while it was written again");
}

#[test]
fn row_08_reopening_after_a_failed_sync_trusts_nothing_above_the_proven_point() {
    for seed in 0..200 {
        let disk = Disk::new(seed);
        let wal = small().open_on(disk.mount()).unwrap();
        fill(&wal, 0..3, 1000);
        disk.fail(Fault::new(Operation::Sync).on(".wal"));
        let tickets: Vec<_> = (3..9).map(|n| wal.append(&payload(n, 1000)).unwrap()).collect();
        tickets.into_iter().for_each(|ticket| assert_eq!(kind(ticket.wait()), ErrorKind::Poisoned));
        if seed % 2 == 0 {
            // The process ends; the cache goes on to show what the disk does not hold.
            disk.kill();
        } else {
            drop(wal);
        }
        let wal = small().open_on(disk.mount()).unwrap();
        let shown = payloads(&wal);
        assert_eq!(shown, filled(0..9, 1000), "seed {seed}: the cache has it");
        disk.crash(Keep::None);
        drop(wal);
        assert_eq!(payloads(&small().open_on(disk.mount()).unwrap()), shown, "seed {seed}: and so has the disk now");
    }
}
