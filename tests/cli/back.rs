//! A log that is damaged in any way of the rows 13 to 20 of the threats is understood and brought back with the
//! commands alone, following only what their output says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use seawall::{Lsn, Options, Wal};

use crate::{said, text};

const BLOCK: u64 = 4096;
const SEGMENTS: usize = 6;

/// Runs a command as a shell does that finds the tool on its path.
fn shell(command: &str) -> Output {
    let tool = Path::new(env!("CARGO_BIN_EXE_seawall")).parent().unwrap();
    let path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap());
    Command::new("sh").args(["-c", command]).env("PATH", path).output().unwrap()
}

fn all(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap() + &said(output)
}

/// The commands that an output says may come next: those on the line `next`, and on the lines `or` below it.
fn next(output: &str) -> Vec<String> {
    let lines = output.lines().map(str::trim_start).filter(|line| line.starts_with("next ") || line.starts_with("or "));
    let ways = lines.flat_map(|line| line.split_once(' ').unwrap().1.split("   |   "));
    let command = |way: &str| way.trim().split("     ").next().unwrap().to_owned();
    ways.map(command).filter(|way| way.starts_with("seawall ")).collect()
}

/// A log: its directory, its used segments, and what was acknowledged.
pub struct Made {
    _temp: tempfile::TempDir,
    pub dir: PathBuf,
    pub segments: Vec<PathBuf>,
    pub records: Vec<(Lsn, Vec<u8>)>,
}

impl Made {
    /// A closed log of records and batches, over several segments.
    pub fn new() -> Made {
        let temp = tempfile::tempdir().unwrap();
        // A name that a shell would take apart.
        let dir = temp.path().join("the log's");
        let wal = Options::new().segment_size(16 << 10).open(&dir).unwrap();
        for n in 0..700_u64 {
            let payload = |part: u64| format!("record {n}.{part} {}", "x".repeat(n as usize % 90)).into_bytes();
            match n % 9 {
                4 => drop(wal.at(n).append_checkpoint(&payload(0)).unwrap()),
                7 => drop(wal.at(n).append_batch(&[payload(0), payload(1), payload(2)]).unwrap()),
                _ => drop(wal.at(n).append(&payload(0)).unwrap()),
            }
            if n % 20 == 0 {
                wal.sync().unwrap();
            }
        }
        wal.sync().unwrap();
        let records = wal.read(..).unwrap().map(Result::unwrap).map(|r| (r.lsn, r.payload.to_vec())).collect();
        wal.close().unwrap();
        let paths = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> = paths.filter(|path| fs::metadata(path).unwrap().len() > 2 * BLOCK).collect();
        segments.sort();
        assert_eq!(segments.len(), SEGMENTS);
        Made { _temp: temp, dir, segments, records }
    }

    /// The base of a segment.
    pub fn base(&self, n: usize) -> u64 {
        self.segments[n].file_stem().unwrap().to_str().unwrap().parse().unwrap()
    }

    /// The offsets of the records of a segment.
    pub fn offsets(&self, n: usize) -> Vec<u64> {
        let base = self.base(n);
        let end = self.segments.get(n + 1).map_or(u64::MAX, |_| self.base(n + 1));
        let within = self.records.iter().map(|(lsn, _)| lsn.0).filter(|lsn| (base..end).contains(lsn));
        within.map(|lsn| lsn - base).collect()
    }

    pub fn change(&self, n: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(&self.segments[n]).unwrap();
        change(&mut bytes);
        fs::write(&self.segments[n], bytes).unwrap();
    }

    /// All files, with what they hold.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    }

    fn restore(&self, files: &BTreeMap<PathBuf, Vec<u8>>) {
        self.files().keys().for_each(|path| fs::remove_file(path).unwrap());
        files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
}

/// The number after a word, with its thousands apart.
fn number(text: &str, word: &str) -> u64 {
    let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("no {word:?} in:\n{text}"));
    let digits = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ' ').filter(char::is_ascii_digit);
    digits.collect::<String>().parse().unwrap()
}

/// What a way to damage a log does, and how many records may be lost by passing over it.
struct Hurt {
    what: String,
    hurt: Box<dyn Fn(&Made) + Sync>,
    lost: Lost,
}

#[derive(Clone, Copy)]
enum Lost {
    Nothing,
    /// A batch, and the next one, which may have begun in it.
    Batches,
    Segment(usize),
    All,
}

impl Lost {
    fn most(self, made: &Made) -> usize {
        match self {
            Lost::Nothing => 0,
            Lost::Batches => 6,
            Lost::Segment(n) => made.offsets(n).len(),
            Lost::All => made.records.len(),
        }
    }
}

/// The first, one in the middle, and the newest.
const PLACES: [usize; 3] = [0, 2, SEGMENTS - 1];

/// What may happen to a segment.
fn of_segment(n: usize, mut add: impl FnMut(String, Lost, Box<dyn Fn(&Made) + Sync>)) {
    // Row 13: bits. Magic, capacity, seed; link; a record's check, batch time, claim, sum, payload.
    for byte in [2, 13, 50, 57] {
        let flip = move |made: &Made| made.change(n, |bytes| bytes[byte] ^= 1);
        add(format!("13 byte {byte} of header {n}"), Lost::Nothing, Box::new(flip));
    }
    let flip = move |made: &Made| made.change(n, |bytes| bytes[BLOCK as usize + 30] ^= 1);
    add(format!("13 link of {n}"), Lost::Nothing, Box::new(flip));
    for (nth, byte) in [(0, 1), (5, 9), (6, 17), (7, 21), (8, 25), (9, 24)] {
        let flip = move |made: &Made| {
            let at = made.offsets(n)[nth] + byte;
            made.change(n, |bytes| bytes[at as usize] ^= 0x20);
        };
        add(format!("13 byte {byte} of record {nth} of {n}"), Lost::Batches, Box::new(flip));
    }
    // Row 14: lengths.
    for length in [0, 0x1fff_ffff, u32::MAX, 0x1000_4000] {
        let lie = move |made: &Made| {
            let at = made.offsets(n)[6] as usize;
            made.change(n, |bytes| bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes()));
        };
        add(format!("14 length {length:x} in {n}"), Lost::Batches, Box::new(lie));
    }
    // Rows 15 and 17: a part overwritten with zeros, and with another record.
    let zeros = move |made: &Made| {
        let at = made.offsets(n)[6] as usize;
        made.change(n, |bytes| bytes[at..at + 30].fill(0));
    };
    add(format!("15 zeros in {n}"), Lost::Batches, Box::new(zeros));
    let stale = move |made: &Made| {
        let (from, to) = (made.offsets(n)[20] as usize, made.offsets(n)[6] as usize);
        made.change(n, |bytes| bytes.copy_within(from..from + 30, to));
    };
    add(format!("17 a frame of another place in {n}"), Lost::Batches, Box::new(stale));
    // Row 18: files.
    let named = |made: &Made| made.dir.join("00000000000099999744.wal");
    add(format!("18 {n} removed"), Lost::Segment(n), Box::new(move |made| fs::remove_file(&made.segments[n]).unwrap()));
    add(format!("18 {n} emptied"), Lost::Segment(n), Box::new(move |made| made.change(n, Vec::clear)));
    add(format!("18 {n} cut"), Lost::Segment(n), Box::new(move |made| made.change(n, |bytes| bytes.truncate(6000))));
    let rename = move |made: &Made| fs::rename(&made.segments[n], named(made)).unwrap();
    add(format!("18 {n} renamed"), Lost::Nothing, Box::new(rename));
    let copy = move |made: &Made| _ = fs::copy(&made.segments[n], named(made)).unwrap();
    add(format!("18 {n} duplicated"), Lost::Nothing, Box::new(copy));
    let other = move |made: &Made| _ = fs::copy(&Made::new().segments[n], &made.segments[n]).unwrap();
    add(format!("18 another log's in place of {n}"), Lost::Segment(n), Box::new(other));
}

fn hurts() -> Vec<Hurt> {
    let mut hurts = Vec::new();
    let mut add = |what: String, lost, hurt: Box<dyn Fn(&Made) + Sync>| hurts.push(Hurt { what, hurt, lost });
    PLACES.iter().for_each(|n| of_segment(*n, &mut add));
    // Row 16: the last that was acknowledged.
    let last = |made: &Made| {
        let at = made.offsets(SEGMENTS - 1).pop().unwrap() as usize;
        made.change(SEGMENTS - 1, |bytes| bytes[at + 30] ^= 1);
    };
    add("16 the last record".into(), Lost::Batches, Box::new(last));
    let swap = |made: &Made| {
        let [a, b] = [1, 2].map(|n| fs::read(&made.segments[n]).unwrap());
        fs::write(&made.segments[1], b).unwrap();
        fs::write(&made.segments[2], a).unwrap();
    };
    add("18 two swapped".into(), Lost::Nothing, Box::new(swap));
    let mark = |made: &Made| made.dir.join("MARK");
    add("18 MARK removed".into(), Lost::Nothing, Box::new(move |made| fs::remove_file(mark(made)).unwrap()));
    add("18 MARK torn".into(), Lost::Nothing, Box::new(move |made| fs::write(mark(made), [0; 100]).unwrap()));
    let theirs = move |made: &Made| _ = fs::copy(mark(&Made::new()), mark(made)).unwrap();
    add("18 another log's MARK".into(), Lost::Nothing, Box::new(theirs));
    let all = |made: &Made| made.segments.iter().for_each(|path| fs::remove_file(path).unwrap());
    add("18 all removed".into(), Lost::All, Box::new(all));
    add("18 all emptied".into(), Lost::All, Box::new(|made| (0..SEGMENTS).for_each(|n| made.change(n, Vec::clear))));
    let several = move |made: &Made| {
        made.change(1, |bytes| bytes[50] ^= 1);
        made.change(3, |bytes| bytes[5000] ^= 1);
        fs::remove_file(mark(made)).unwrap();
    };
    add("several at once".into(), Lost::Batches, Box::new(several));
    hurts
}

impl Made {
    /// What is left of the log, once it is brought back: it opens, holds no other record than it held, and goes on.
    fn left(&self, what: &str) -> usize {
        let wal = Wal::open(&self.dir).unwrap_or_else(|e| panic!("{what}: {e}"));
        let left: Vec<_> = wal.read(..).unwrap().map(Result::unwrap).collect();
        for record in &left {
            let was = self.records.binary_search_by_key(&record.lsn, |(lsn, _)| *lsn);
            assert_eq!(self.records[was.unwrap()].1, record.payload, "{what}");
        }
        let lsn = wal.append(b"later").unwrap().wait().unwrap();
        assert!(self.records.iter().all(|(before, _)| *before < lsn), "{what}");
        wal.close().unwrap();
        left.len()
    }

    /// Follows one of the ways that the plan proposes to its end.
    fn take(&self, way: &str, loss: Option<u64>, valid: u64, what: &str) -> usize {
        let done = shell(way);
        let told = all(&done);
        let what = format!("{what}: {way}:\n{told}");
        let Some(new) = way.split_once(" --to ").map(|(_, new)| new) else {
            assert!(matches!(done.status.code(), Some(0 | 3)), "{what}");
            let [verify] = &next(&told)[..] else { panic!("{what}") };
            let verified = shell(verify);
            assert_eq!((verified.status.code(), next(&all(&verified)).len()), (Some(0), 0), "{what}{}", all(&verified));
            let left = self.left(&what);
            assert_eq!(left as u64, number(&told, "kept "), "{what}");
            assert_eq!(left as u64, valid - loss.unwrap_or(valid - left as u64), "{what}");
            return left;
        };
        if done.status.code() == Some(1) {
            assert!(told.contains("no record of any log was found"), "{what}");
            return 0;
        }
        assert!(matches!(done.status.code(), Some(0 | 3)), "{what}");
        let new = shell(&format!("echo {new}")).stdout;
        let new = Path::new(std::str::from_utf8(&new).unwrap().trim_end());
        let left = Wal::open(new).unwrap().read(..).unwrap().map(Result::unwrap).count();
        fs::remove_dir_all(new).unwrap();
        left
    }
}

fn follow(hurt: &Hurt) {
    let made = Made::new();
    (hurt.hurt)(&made);
    let before = made.files();
    for command in ["verify", "tail -n 100000", "dump", "inspect", "stats"] {
        let first = shell(&format!("seawall {command} {}", quoted(&made.dir)));
        let what = format!("{}: {command}: {}", hurt.what, all(&first));
        if matches!(command, "inspect" | "stats") && first.status.code() == Some(0) {
            // They do not read all.
            continue;
        }
        assert_eq!(first.status.code(), Some(2), "{what}");
        let ways = next(&all(&first));
        assert!(!ways.is_empty() && ways.last().unwrap().contains("repair --dry-run"), "{what}");
        for way in &ways {
            let looked = shell(way);
            // Of a place that is only short of something there may be nothing to see.
            let codes = if way.contains("inspect") { 0..=2 } else { 2..=2 };
            assert!(
                looked.status.code().is_some_and(|code| code != 1 && codes.contains(&code)),
                "{what}{way}: {looked:?}"
            );
        }
        assert!(made.files() == before, "{what}: something was touched");
    }
    let plan = all(&shell(&format!("seawall repair --dry-run {}", quoted(&made.dir))));
    let ways = next(&plan);
    let kept = number(&plan, "keeps ");
    // Where nothing is left they are all the same.
    assert!(ways.len() >= if kept > 0 { 2 } else { 1 }, "{}: {plan}", hurt.what);
    let valid = kept + number(&plan, ", drops ");
    for (n, way) in ways.iter().enumerate() {
        let loss = plan.lines().find(|line| line.contains(way) && line.contains("     # drops "));
        let loss = if n == 0 { Some(valid - kept) } else { loss.map(|line| number(line, "     # drops ")) };
        made.restore(&before);
        let left = made.take(way, loss, valid, &hurt.what);
        let most = hurt.lost.most(&made);
        if n == 0 || way.contains("salvage") {
            assert!(left + most >= made.records.len(), "{}: {way} keeps {left}: {plan}", hurt.what);
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", text(path).replace('\'', "'\\''"))
}

#[test]
fn a_log_damaged_in_any_way_is_brought_back_by_what_the_commands_say() {
    let hurts = hurts();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(hurt) = hurts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    follow(hurt);
                }
            });
        }
    });
}

/// Rows 18, 19 and 20: what is no damage is not called so.
#[test]
fn what_is_no_damage_is_told_apart() {
    let made = Made::new();
    made.change(1, |bytes| bytes.extend([7; 9000]));
    ["notes.txt", "00000000000000000000.wal~", "mark"]
        .iter()
        .for_each(|name| fs::write(made.dir.join(name), "x").unwrap());
    let verified = shell(&format!("seawall verify {}", quoted(&made.dir)));
    let told = all(&verified);
    assert_eq!((verified.status.code(), next(&told).len()), (Some(0), 0), "{told}");
    for name in ["notes.txt", "00000000000000000000.wal~", "mark"] {
        assert!(told.contains(&format!("{name}: not a file of the log, left alone")), "{told}");
    }
    assert_eq!(made.left("grown, and with foreign files"), made.records.len());
}
