//! Each kind of error and of damage as it is told, on a disk whose chance follows from a seed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use seawall::check::Repair;
use seawall::sim::{Disk, Fault, Keep, Operation};
use seawall::{Error, Lsn, Options, RecoveryMode, Wal};
use serde_json::json;

use super::{About, object, text};

#[path = "../../../../tests/common/snapshot.rs"]
mod snapshot;

const BLOCK: usize = 4096;
const EIO: i32 = 5;

fn options() -> Options {
    Options::new().segment_size(16 << 10)
}

/// A closed log of several segments, its used ones, and the LSNs of its records, of which each 20th is a batch of three.
struct Made {
    disk: Disk,
    names: Vec<String>,
    lsns: Vec<Lsn>,
}

impl Made {
    fn new(seed: u64) -> Made {
        let disk = Disk::new(seed);
        let wal = options().open_on(disk.mount()).unwrap();
        fill(&wal);
        let lsns = wal.read(..).unwrap().map(|record| record.unwrap().lsn).collect();
        wal.close().unwrap();
        drop(wal);
        let used = |name: &String| name.ends_with(".wal") && disk.file(name).unwrap().len() > 2 * BLOCK;
        let names: Vec<_> = disk.names().into_iter().filter(used).collect();
        assert!(names.len() >= 5, "{names:?}");
        Made { disk, names, lsns }
    }

    fn base(&self, n: usize) -> u64 {
        self.names[n][..20].parse().unwrap()
    }

    fn newest(&self) -> usize {
        self.names.len() - 1
    }

    /// The offset of a record of a segment.
    fn offset(&self, n: usize, nth: usize) -> usize {
        let base = self.base(n);
        let at = self.lsns.iter().filter(|lsn| lsn.0 > base).nth(nth).unwrap();
        usize::try_from(at.0 - base).unwrap()
    }

    fn change(&self, n: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.disk.file(&self.names[n]).unwrap();
        change(&mut bytes);
        self.disk.put(&self.names[n], bytes);
    }

    fn flip(&self, n: usize, at: usize) {
        self.change(n, |bytes| bytes[at] ^= 1);
    }

    /// What opening says of it.
    fn refused(&self) -> Error {
        options().open_on(self.disk.mount()).map(drop).unwrap_err()
    }
}

fn fill(wal: &Wal) {
    for n in 0..100_u64 {
        let payload = vec![u8::try_from(n).unwrap(); 500 + usize::try_from(n).unwrap()];
        let at = wal.at(1_763_647_380_000 + n);
        let ticket = if n % 20 == 15 {
            at.append_batch(&[&payload[..9], &payload[..8], &payload[..7]])
        } else {
            at.append(&payload)
        };
        ticket.unwrap().wait().unwrap();
    }
}

/// Gives a segment's header the checksum that it should have.
fn mend(bytes: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..72]);
    bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
}

fn about() -> About<'static> {
    About { touched: "nothing of the log", ..About::reading(Path::new("sim"), false) }
}

fn told(error: Error) -> String {
    let error = anyhow::Error::from(error);
    text(&error, Some(about()))
}

/// What is told of a log that was damaged so.
fn damaged(hurt: impl FnOnce(&Made)) -> String {
    let made = Made::new(7);
    hurt(&made);
    let before: Vec<_> = made.disk.names().into_iter().map(|name| made.disk.file(&name)).collect();
    let told = told(made.refused());
    let after: Vec<_> = made.disk.names().into_iter().map(|name| made.disk.file(&name)).collect();
    assert!(told.contains("  touched  nothing\n") && before == after, "{told}");
    told
}

/// What reading meets in an older segment.
fn read(made: &Made) -> String {
    let wal = options().open_on(made.disk.mount()).unwrap();
    told(wal.read(..).unwrap().find_map(Result::err).unwrap())
}

#[test]
fn each_kind_of_damage_to_frames() {
    // The newest segment's record `nth`, changed there.
    let newest = |nth, change: &dyn Fn(&mut [u8])| {
        damaged(|made| {
            let at = made.offset(made.newest(), nth);
            made.change(made.newest(), |bytes| change(&mut bytes[at..]));
        })
    };
    let batch = |made: &Made| {
        let second = |pair: &[Lsn]| pair[1].0 - pair[0].0 == 36 && pair[0].0 > made.base(4);
        let at = made.lsns.windows(2).find(|pair| second(pair)).unwrap()[1].0 - made.base(4);
        made.flip(4, usize::try_from(at).unwrap() + 25);
    };
    let length = |bytes: &mut [u8]| bytes[4..8].copy_from_slice(&0x1fff_ffff_u32.to_le_bytes());
    let older = Made::new(7);
    older.flip(1, older.offset(1, 3) + 30);
    let cases = [
        ("a payload in the newest segment", newest(3, &|bytes| bytes[30] ^= 1)),
        ("a payload in an older segment, met by reading", read(&older)),
        ("the last record", newest(14, &|bytes| bytes[24] ^= 1)),
        ("in a batch", damaged(batch)),
        ("a frame's header", newest(3, &|bytes| bytes[9] ^= 1)),
        ("a length beyond the segment", newest(3, &length)),
        ("zeros", newest(3, &|bytes| bytes[..100].fill(0))),
        ("a link", damaged(|made| made.flip(2, BLOCK + 30))),
        ("the newest link", damaged(|made| made.flip(made.newest(), BLOCK + 30))),
        ("passed over by a repair", passed_over()),
    ];
    snapshot::compare("frames.txt", &cases);
}

#[test]
fn each_kind_of_damage_to_files() {
    let removed = |made: &Made, name: &String| assert!(made.disk.remove(name));
    let put =
        |made: &Made, name: &str, from: &Made, n: usize| made.disk.put(name, from.disk.file(&from.names[n]).unwrap());
    let salt = |made: &Made| {
        made.change(2, |bytes| {
            bytes[70] ^= 1;
            mend(bytes);
        });
    };
    let every = |made: &Made| {
        let names = made.disk.names();
        names.iter().filter(|name| name.ends_with(".wal")).for_each(|name| removed(made, name));
    };
    let nameless = "00000000000099999744.wal";
    let cases = [
        ("a header", damaged(|made| made.flip(2, 50))),
        ("a header of zeros", damaged(|made| made.change(2, |bytes| bytes[..BLOCK].fill(0)))),
        ("emptied", damaged(|made| made.change(2, Vec::clear))),
        ("cut", damaged(|made| made.change(2, |bytes| bytes.truncate(7000)))),
        ("missing", damaged(|made| removed(made, &made.names[2]))),
        ("two missing", damaged(|made| made.names[2..4].iter().for_each(|name| removed(made, name)))),
        ("another segment's file", damaged(|made| put(made, &made.names[2], made, 1))),
        ("another log's file", damaged(|made| put(made, &made.names[2], &Made::new(8), 2))),
        ("another file of this place", damaged(salt)),
        ("a file under a name that none had", damaged(|made| put(made, nameless, made, 2))),
        ("the newest missing", damaged(|made| removed(made, &made.names[made.newest()]))),
        ("the newest cut", damaged(|made| made.change(made.newest(), |bytes| bytes.truncate(6000)))),
        ("MARK missing", damaged(|made| assert!(made.disk.remove("MARK")))),
        ("every segment missing", damaged(every)),
        ("all that was left of a cleaned log missing", cleaned()),
    ];
    snapshot::compare("files.txt", &cases);
}

/// A log of which only prepared segments are left above its front.
fn cleaned() -> String {
    let made = Made::new(7);
    let wal = options().open_on(made.disk.mount()).unwrap();
    wal.append(&[1; 100]).unwrap().wait().unwrap();
    wal.clean_before_lsn(Lsn::MAX).unwrap();
    let first = wal.read(..).unwrap().next().unwrap().unwrap().lsn;
    wal.close().unwrap();
    drop(wal);
    let held =
        |name: &String| name.ends_with(".wal") && made.disk.file(name).unwrap()[BLOCK..].iter().any(|byte| *byte != 0);
    made.disk.names().iter().filter(|name| held(name)).for_each(|name| assert!(made.disk.remove(name), "{first}"));
    told(made.refused())
}

fn passed_over() -> String {
    let made = Made::new(7);
    let lost = made.lsns.iter().find(|lsn| lsn.0 > made.base(1)).unwrap();
    made.flip(1, usize::try_from(lost.0 - made.base(1)).unwrap() + 30);
    Repair::new().run_on(made.disk.mount()).unwrap();
    told(options().open_on(made.disk.mount()).unwrap().get(*lost).unwrap_err())
}

fn not_strict() -> Error {
    let disk = Disk::new(7);
    let wal = options().open_on(disk.mount()).unwrap();
    wal.append(&[1; 100]).unwrap().wait().unwrap();
    disk.crash(Keep::All);
    // It alone says that the last sync succeeded.
    assert!(disk.remove("MARK"));
    options().recovery_mode(RecoveryMode::Strict).open_on(disk.mount()).map(drop).unwrap_err()
}

fn too_new() -> Error {
    let made = Made::new(7);
    made.change(2, |bytes| {
        bytes[8] += 1;
        mend(bytes);
    });
    made.refused()
}

/// A log and what a call says of a fault of its disk.
fn failed(fault: Option<Fault>, options: Options, call: impl Fn(&Wal) -> Option<Error>) -> Error {
    let disk = Disk::new(7);
    let wal = options.open_on(disk.mount()).unwrap();
    wal.append(&[1; 100]).unwrap().wait().unwrap();
    fault.into_iter().for_each(|fault| disk.fail(fault));
    (0..1000).find_map(|_| call(&wal)).unwrap()
}

#[test]
fn each_kind_of_error() {
    let append = |wal: &Wal| wal.append(&[3; 5000]).and_then(|ticket| ticket.wait()).err();
    let full = Fault::new(Operation::Allocate).kind(std::io::ErrorKind::StorageFull).for_good();
    let unable = Fault::new(Operation::Allocate).kind(std::io::ErrorKind::Unsupported).for_good();
    let denied = |operation| Fault::new(operation).kind(std::io::ErrorKind::PermissionDenied).for_good();
    let refused = |fault| {
        let made = Made::new(7);
        made.disk.fail(fault);
        made.refused()
    };
    let removed = |wal: &Wal| {
        (0..20).for_each(|_| drop(append(wal)));
        wal.clean_before_lsn(Lsn::MAX).unwrap();
        wal.get(Lsn(4096 + 96)).err()
    };
    let poisoned = |wal: &Wal| {
        drop(append(wal));
        wal.append(b"later").err()
    };
    let disk = Disk::new(7);
    let _held = options().open_on(disk.mount()).unwrap();
    let cases = [
        ("not found", told(options().create(false).open_on(Disk::new(7).mount()).map(drop).unwrap_err())),
        ("locked", told(options().open_on(disk.mount()).map(drop).unwrap_err())),
        ("too new", told(too_new())),
        ("not strict", told(not_strict())),
        ("refused", told(refused(denied(Operation::List)))),
        ("read error", told(refused(Fault::new(Operation::Read).on(".wal").errno(EIO).for_good()))),
        ("no more files in the system", told(refused(Fault::new(Operation::Open).errno(libc::ENFILE).for_good()))),
        ("read-only", told(refused(Fault::new(Operation::Open).on(".wal").errno(libc::EROFS).for_good()))),
        ("no blocks ahead", told(failed(Some(unable), options(), append))),
        ("disk full", told(failed(Some(full), options(), append))),
        ("log full", told(failed(None, options().max_disk_bytes(4 * (16 << 10)), append))),
        ("removed", told(failed(None, options(), removed))),
        ("poisoned", told(failed(Some(Fault::new(Operation::Sync).errno(EIO)), options(), poisoned))),
        ("too large", told(failed(None, options(), |wal| wal.append(&vec![0; 1 << 20]).err()))),
        ("no such segment", told(Repair::new().quarantine("no-such").plan_on(Made::new(7).disk.mount()).unwrap_err())),
        ("no log to go on with", told(no_log())),
        ("another's error", text(&anyhow::anyhow!("there is no topic t at b:1").context("receiving"), Some(about()))),
    ];
    snapshot::compare("errors.txt", &cases);
}

/// Of which no header and no MARK tells what it was.
fn no_log() -> Error {
    let made = Made::new(7);
    made.disk.names().iter().for_each(|name| made.disk.put(name, [0; 8192]));
    Repair::new().plan_on(made.disk.mount()).unwrap_err()
}

#[test]
fn the_object_bears_what_the_block_says() {
    let made = Made::new(7);
    made.flip(made.newest(), made.offset(made.newest(), 3) + 30);
    let error = anyhow::Error::from(made.refused());
    let (object, text) = (object(&error, about()), text(&error, Some(about())));
    let damage = &object["damage"];
    assert_eq!((&object["kind"], &object["touched"]), (&json!("damage"), &json!("nothing")));
    assert_eq!(object["offset"], damage["offset"]);
    for (field, said) in [
        ("lsn", "lsn {}, batch time"),
        ("batch_time", "batch time {}"),
        ("found", "found    {}"),
        ("what", "error: damaged: {}"),
        ("next", "(lsn {} ..= "),
        ("last", "..= {})"),
        ("durable", "all below lsn {} was durable"),
        ("lost_records", "lost     {} record of "),
        ("lost_records_if_cut", "passed over; {} records if cut here"),
    ] {
        let value = damage[field].as_str().map_or_else(|| damage[field].to_string(), str::to_owned);
        assert!(text.contains(&said.replace("{}", &value)), "{field}: {damage}\n{text}");
    }
    let next: Vec<_> = object["next"].as_array().unwrap().iter().map(|way| way.as_str().unwrap()).collect();
    assert!(text.ends_with(&format!("next     {}", next.join("   |   "))), "{text}");
    let words =
        |text: &str| text.split(|c: char| !c.is_ascii_lowercase() && c != '_').map(str::to_owned).collect::<Vec<_>>();
    let help = words(super::JSON);
    for field in object.as_object().unwrap().keys().chain(damage.as_object().unwrap().keys()) {
        assert!(help.contains(field), "{field} is not in the help");
    }
}

#[test]
fn a_path_is_quoted_as_a_shell_takes_it() {
    for (path, quoted) in [
        ("db/wal", "db/wal"),
        ("", "''"),
        ("the log's", "'the log'\\''s'"),
        ("-x", "./-x"),
        ("a$b", "'a$b'"),
        ("a\n\u{1b}\u{9b}1\\'", r"$'a\x0a\x1b\xc2\x9b1\\\''"),
    ] {
        assert_eq!(super::shell(Path::new(path)), quoted);
    }
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(b"-b\xffd\n'"));
    assert_eq!(super::shell(path), r"$'./-b\xffd\x0a\''");
}
