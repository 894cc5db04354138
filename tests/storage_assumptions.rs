//! The six storage assumptions, each on the simulated disk: what may come of it does, what may not does not.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeSet;
use std::io::ErrorKind;

use seawall::sim::{Disk, Fault, Keep, Operation, Unit};

/// On Linux and on macOS.
const EIO: i32 = 5;

/// A disk that durably holds these files.
fn disk(files: &[(&str, &[u8])]) -> Disk {
    let disk = Disk::new(1);
    disk.mount().create_dir().unwrap();
    for (name, bytes) in files {
        disk.put(name, bytes);
    }
    disk
}

/// All files of the disk.
type Files = Vec<(String, Vec<u8>)>;

fn files(disk: &Disk) -> Files {
    disk.names().into_iter().map(|name| (name.clone(), disk.file(&name).unwrap())).collect()
}

/// What the disk may hold after a power cut, over all subsets of what is on its way.
fn outcomes<T: Ord>(disk: &Disk, look: impl Fn(&Disk) -> T) -> BTreeSet<T> {
    let units = disk.dirty_units();
    assert_eq!(disk.dirty().len(), units);
    assert!(units <= 16, "{units} units");
    let masks = 0..1_u64 << units;
    let outcomes = masks.map(|mask| {
        let left = disk.fork();
        left.crash(Keep::Mask(mask));
        assert_eq!(left.dirty_units(), 0);
        look(&left)
    });
    outcomes.collect()
}

fn set<T: Ord, const N: usize>(items: [T; N]) -> BTreeSet<T> {
    BTreeSet::from(items)
}

/// The first byte of each sector.
fn sectors(disk: &Disk, name: &str) -> String {
    disk.file(name).unwrap().chunks(512).map(|sector| char::from(sector[0].max(b'.'))).collect()
}

fn strings<const N: usize>(items: [&str; N]) -> BTreeSet<String> {
    items.map(str::to_owned).into()
}

#[test]
fn s1_a_successful_sync_makes_bytes_and_length_survive() {
    let disk = disk(&[("a", b"")]);
    let a = disk.mount().open("a", true).unwrap();
    a.write_at(&[b'x'; 1200], 0).unwrap();
    assert_eq!(outcomes(&disk, |left| left.file("a").unwrap().len()), set([0, 1200]));
    a.sync().unwrap();
    assert_eq!(disk.dirty_units(), 0);
    assert_eq!(outcomes(&disk, |left| left.file("a").unwrap()), set([vec![b'x'; 1200]]));

    a.set_len(700).unwrap();
    assert_eq!(outcomes(&disk, |left| left.file("a").unwrap().len()), set([1200, 700]));
    a.sync().unwrap();
    assert_eq!(outcomes(&disk, |left| left.file("a").unwrap()), set([vec![b'x'; 700]]));

    a.allocate(1024).unwrap();
    a.sync().unwrap();
    let expected = [&[b'x'; 700][..], &[0; 324]].concat();
    assert_eq!(outcomes(&disk, |left| left.file("a").unwrap()), set([expected]));
}

#[test]
fn s1_a_sync_says_nothing_of_the_name_and_nothing_of_other_files() {
    let disk = disk(&[("b", b"old")]);
    let storage = disk.mount();
    let a = storage.create("a").unwrap();
    a.write_at(b"new", 0).unwrap();
    storage.open("b", true).unwrap().write_at(b"new", 0).unwrap();
    a.sync().unwrap();
    let look = |left: &Disk| (left.file("a").unwrap_or_default(), left.file("b").unwrap());
    let (none, old, new) = (Vec::new(), b"old".to_vec(), b"new".to_vec());
    let expected = [(none.clone(), old.clone()), (none, new.clone()), (new.clone(), old), (new.clone(), new)];
    assert_eq!(outcomes(&disk, look), set(expected));
}

#[test]
fn s2_unsynced_sectors_survive_in_any_subset() {
    let disk = disk(&[("a", &[b'o'; 1536])]);
    let a = disk.mount().open("a", true).unwrap();
    a.write_at(&[b'n'; 1536], 0).unwrap();
    assert_eq!(sectors(&disk, "a"), "nnn");
    let expected = strings(["ooo", "oon", "ono", "onn", "noo", "non", "nno", "nnn"]);
    assert_eq!(outcomes(&disk, |left| sectors(left, "a")), expected);
}

#[test]
fn s2_a_sector_is_whole_or_not_at_all() {
    let disk = disk(&[("a", &[b'o'; 1024])]);
    disk.mount().open("a", true).unwrap().write_at(&[b'n'; 1024], 0).unwrap();
    for left in outcomes(&disk, |left| left.file("a").unwrap()) {
        assert!(left.chunks(512).all(|sector| sector == [b'o'; 512] || sector == [b'n'; 512]));
    }
}

#[test]
fn s2_a_sector_keeps_any_of_its_versions_since_the_last_sync() {
    let disk = disk(&[("a", &[b'0'; 512])]);
    let a = disk.mount().open("a", true).unwrap();
    a.write_at(&[b'1'; 512], 0).unwrap();
    a.sync().unwrap();
    for version in [b'2', b'3'] {
        a.write_at(&[version; 512], 0).unwrap();
    }
    assert_eq!(outcomes(&disk, |left| sectors(left, "a")), strings(["1", "2", "3"]));
}

#[test]
fn s2_writes_survive_in_any_order_over_files() {
    let disk = disk(&[("a", b"o"), ("b", b"o")]);
    let storage = disk.mount();
    storage.open("a", true).unwrap().write_at(b"n", 0).unwrap();
    storage.open("b", true).unwrap().write_at(b"n", 0).unwrap();
    let both = |left: &Disk| sectors(left, "a") + &sectors(left, "b");
    assert_eq!(outcomes(&disk, both), strings(["oo", "on", "no", "nn"]));
}

#[test]
fn s2_length_and_bytes_survive_apart() {
    let disk = disk(&[("a", &[b'o'; 512])]);
    let a = disk.mount().open("a", true).unwrap();
    a.write_at(&[b'n'; 512], 512).unwrap();
    // The length without the bytes is zeros; the bytes without the length are nothing.
    assert_eq!(outcomes(&disk, |left| sectors(left, "a")), strings(["o", "o.", "on"]));
}

#[test]
fn s2_what_was_cut_off_does_not_come_back_when_the_file_grows_again() {
    let disk = disk(&[("a", &[b'o'; 1024])]);
    let a = disk.mount().open("a", true).unwrap();
    a.write_at(&[b'x'; 1024], 0).unwrap();
    a.set_len(512).unwrap();
    a.set_len(1536).unwrap();
    let left = outcomes(&disk, |left| sectors(left, "a"));
    assert_eq!(left, strings(["oo", "ox", "xo", "xx", "o", "x", "o..", "x.."]));
    a.sync().unwrap();
    assert_eq!(outcomes(&disk, |left| sectors(left, "a")), strings(["x.."]));
}

#[test]
fn s3_bytes_beside_the_written_range_are_never_touched() {
    let disk = disk(&[("a", &[b'o'; 1500])]);
    let a = disk.mount().open("a", true).unwrap();
    a.write_at(&[b'1'; 100], 450).unwrap();
    a.write_at(&[b'2'; 10], 500).unwrap();
    for left in outcomes(&disk, |left| left.file("a").unwrap()) {
        assert_eq!((&left[..450], &left[550..]), (&[b'o'; 450][..], &[b'o'; 950][..]));
    }
}

#[test]
fn s4_a_replacement_by_rename_leaves_the_old_or_the_new() {
    let disk = disk(&[("b", b"old")]);
    let storage = disk.mount();
    let a = storage.create("a").unwrap();
    a.write_at(b"new", 0).unwrap();
    a.sync().unwrap();
    storage.rename("a", "b").unwrap();
    let (old, new) = (("b".to_owned(), b"old".to_vec()), ("b".to_owned(), b"new".to_vec()));
    let both = vec![("a".to_owned(), b"new".to_vec()), old.clone()];
    // Never both names, never neither: and a rename of what did not survive does nothing.
    assert_eq!(outcomes(&disk, files), set([vec![old], both, vec![new.clone()]]));
    storage.sync_dir().unwrap();
    assert_eq!(outcomes(&disk, files), set([vec![new]]));
}

#[test]
fn s4_names_survive_in_any_subset_until_the_directory_is_synced() {
    let disk = disk(&[("c", b"c")]);
    let storage = disk.mount();
    storage.create("a").unwrap();
    storage.create("b").unwrap();
    storage.remove("c").unwrap();
    let names = |left: &Disk| left.names().concat();
    assert_eq!(outcomes(&disk, names), strings(["c", "ac", "bc", "abc", "", "a", "b", "ab"]));
    storage.sync_dir().unwrap();
    assert_eq!(outcomes(&disk, names), strings(["ab"]));
}

#[test]
fn s4_a_removal_that_survived_does_not_strike_another_file_of_that_name() {
    let disk = disk(&[("a", b"old")]);
    let storage = disk.mount();
    storage.remove("a").unwrap();
    let a = storage.create("a").unwrap();
    a.write_at(b"new", 0).unwrap();
    a.sync().unwrap();
    assert_eq!(outcomes(&disk, |left| left.file("a")), set([None, Some(b"old".to_vec()), Some(b"new".to_vec())]));
    storage.remove("a").unwrap();
    storage.sync_dir().unwrap();
    assert_eq!(outcomes(&disk, |left| left.file("a")), set([None]));
}

#[test]
fn s4_a_change_that_survived_alone_does_not_strike_another_file() {
    let disk_a = disk(&[("a", b"old")]);
    let storage = disk_a.mount();
    storage.remove("a").unwrap();
    storage.create("a").unwrap();
    storage.rename("a", "b").unwrap();
    assert!(outcomes(&disk_a, |left| left.file("b")).iter().all(|b| b.as_ref().is_none_or(Vec::is_empty)));

    let disk_b = disk(&[("a", b"a"), ("b", b"b")]);
    let storage = disk_b.mount();
    storage.rename("a", "b").unwrap();
    storage.remove("b").unwrap();
    assert_eq!(outcomes(&disk_b, |left| left.names().concat()), strings(["ab", "b", ""]));

    let disk_c = disk(&[("a", b"1"), ("c", b"2")]);
    let storage = disk_c.mount();
    storage.rename("a", "b").unwrap();
    storage.rename("c", "a").unwrap();
    storage.rename("a", "d").unwrap();
    let held = |left: &Disk| files(left).into_iter().map(|(_, bytes)| char::from(bytes[0])).collect::<BTreeSet<_>>();
    assert_eq!(
        outcomes(&disk_c, |left| (left.names().len(), held(left))),
        set([(2, set(['1', '2'])), (1, set(['2']))])
    );
}

#[test]
fn s4_names_do_not_wait_for_bytes_nor_bytes_for_names() {
    let disk = disk(&[]);
    let storage = disk.mount();
    storage.create("a").unwrap().write_at(b"x", 0).unwrap();
    storage.sync_dir().unwrap();
    assert_eq!(outcomes(&disk, |left| left.file("a")), set([Some(vec![]), Some(vec![0]), Some(b"x".to_vec())]));
}

#[test]
fn s4_a_failed_directory_sync_makes_some_changes_survive_and_a_later_one_all() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let disk = disk(&[]);
        disk.reseed(seed);
        let storage = disk.mount();
        storage.create("a").unwrap();
        storage.create("b").unwrap();
        disk.fail(Fault::new(Operation::SyncDir));
        storage.sync_dir().unwrap_err();
        assert_eq!(disk.names(), ["a", "b"]);
        let left = disk.fork();
        left.crash(Keep::None);
        seen.insert(left.names().concat());
        storage.sync_dir().unwrap();
        disk.crash(Keep::None);
        assert_eq!(disk.names(), ["a", "b"]);
    }
    assert_eq!(seen, strings(["", "a", "ab"]));
}

/// A file of two sectors "oo", overwritten with "nn", and the sync of it failed.
fn after_a_failed_sync(seed: u64) -> Disk {
    let disk = disk(&[("a", &[b'o'; 1024])]);
    disk.reseed(seed);
    let a = disk.mount().open("a", true).unwrap();
    a.write_at(&[b'n'; 1024], 0).unwrap();
    disk.fail(Fault::new(Operation::Sync));
    assert_eq!(a.sync().unwrap_err().raw_os_error(), Some(EIO));
    disk
}

#[test]
fn s5_after_a_failed_sync_bytes_look_clean_that_the_disk_does_not_hold() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let disk = after_a_failed_sync(seed);
        assert_eq!((disk.dirty_units(), sectors(&disk, "a").as_str()), (0, "nn"));
        // A new process, a new handle and a sync that succeeds do not tell and do not help.
        disk.kill();
        assert_eq!(sectors(&disk, "a"), "nn");
        let a = disk.mount().open("a", true).unwrap();
        a.sync().unwrap();
        let mut byte = [0];
        a.read_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [b'n']);
        disk.crash(Keep::All);
        seen.insert(sectors(&disk, "a"));
    }
    assert_eq!(seen, strings(["oo", "on", "no", "nn"]));
}

#[test]
fn s5_what_is_written_again_after_a_failed_sync_is_synced_again() {
    let mut other = BTreeSet::new();
    for seed in 0..100 {
        let disk = after_a_failed_sync(seed);
        let a = disk.mount().open("a", true).unwrap();
        a.write_at(&[b'n'; 512], 0).unwrap();
        a.sync().unwrap();
        disk.crash(Keep::None);
        let left = sectors(&disk, "a");
        assert_eq!(&left[..1], "n");
        other.insert(left[1..].to_owned());
    }
    assert_eq!(other, strings(["o", "n"]));
}

#[test]
fn s5_a_failed_sync_does_not_lose_the_length_for_good() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let disk = disk(&[("a", b"")]);
        disk.reseed(seed);
        let a = disk.mount().open("a", true).unwrap();
        a.allocate(4096).unwrap();
        disk.fail(Fault::new(Operation::Sync));
        a.sync().unwrap_err();
        let left = disk.fork();
        left.crash(Keep::None);
        seen.insert(left.file("a").unwrap().len());
        a.sync().unwrap();
        disk.crash(Keep::None);
        assert_eq!(disk.file("a").unwrap().len(), 4096);
    }
    assert_eq!(seen, set([0, 4096]));
}

#[test]
fn s6_a_read_error_is_an_error() {
    let disk = disk(&[("a", &[b'o'; 2048])]);
    disk.fail_reads("a", 600..700);
    let a = disk.mount().open("a", true).unwrap();
    let mut buf = [0; 100];
    assert_eq!(a.read_at(&mut buf, 500).unwrap(), 100);
    for offset in [501, 650, 699] {
        assert_eq!(a.read_at(&mut buf, offset).unwrap_err().raw_os_error(), Some(EIO));
    }
    assert_eq!(a.read_at(&mut buf, 700).unwrap(), 100);
    assert!(a.map(2048).is_err());
    assert_eq!((*a.map(600).unwrap()).as_ref(), [b'o'; 600]);
    disk.crash(Keep::All);
    let a = disk.mount().open("a", true).unwrap();
    assert!(a.read_at(&mut buf, 650).is_err());
    disk.heal();
    assert_eq!(a.read_at(&mut buf, 650).unwrap(), 100);
    disk.fail(Fault::new(Operation::Read).nth(2).kind(ErrorKind::TimedOut));
    assert_eq!(a.read_at(&mut buf, 650).unwrap(), 100);
    assert_eq!(a.read_at(&mut buf, 650).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn what_survives_by_seed_or_by_choice_is_one_of_the_outcomes() {
    let disk = disk(&[("a", &[b'o'; 1024]), ("b", b"b")]);
    let storage = disk.mount();
    let a = storage.open("a", true).unwrap();
    a.write_at(&[b'n'; 1024], 256).unwrap();
    storage.remove("b").unwrap();
    storage.create("c").unwrap();
    let possible = outcomes(&disk, files);
    let random = |seed| {
        let left = disk.fork();
        left.crash(Keep::Random(seed));
        files(&left)
    };
    assert_eq!((0..3000).map(random).collect::<BTreeSet<_>>(), possible);
    assert!((0..100).all(|seed| random(seed) == random(seed)));

    let units = disk.dirty();
    assert_eq!(units[0], Unit::Remove { name: "b".into() });
    assert_eq!(units[1], Unit::Create { name: "c".into() });
    assert_eq!(units[2], Unit::Length { file: "a".into(), len: 1280 });
    assert_eq!(units[4], Unit::Sector { file: "a".into(), sector: 1, version: 0 });
    for number in 0..units.len() {
        let crashed = |keep| {
            let left = disk.fork();
            left.crash(keep);
            files(&left)
        };
        let mut flags = vec![false; units.len()];
        flags[number] = true;
        let by_mask = crashed(Keep::Mask(1 << number));
        assert_eq!(crashed(Keep::Units(&flags)), by_mask);
        assert_eq!(crashed(Keep::Choose(&mut |unit| *unit == units[number])), by_mask);
    }
    let left = disk.fork();
    left.crash(Keep::All);
    assert_eq!(files(&left), files(&disk));
}

#[test]
fn a_file_that_is_never_synced_stays_bounded() {
    let disk = disk(&[]);
    let storage = disk.mount();
    let a = storage.create("a").unwrap();
    for round in 0..2000_u64 {
        a.write_at(&round.to_le_bytes(), round % 7 * 8).unwrap();
        a.set_len(64 + round % 3 * 1000).unwrap();
    }
    assert!(disk.dirty_units() < 1500, "{}", disk.dirty_units());
    a.sync().unwrap();
    let shown = disk.file("a").unwrap();
    storage.sync_dir().unwrap();
    disk.crash(Keep::None);
    assert_eq!(disk.file("a").unwrap(), shown);
}
