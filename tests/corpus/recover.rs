//! Recovery of an arbitrary directory: a log written, crashed, damaged and mended as the input says, then opened.
//!
//! The input is a program: one byte for a step, then its operands; what is missing at the end reads as 0. So a seed
//! of a few dozen bytes makes directories of many segments. Shared by `fuzz/fuzz_targets/recover.rs` and
//! `tests/corpus.rs`.

use super::appended::Model;
use super::input::{Input, bounded};
use super::{second, spec};
use seawall::check::{Item, Verify, frames_on, inspect_on};
use seawall::sim::{Disk, Keep};
use seawall::{Lsn, Options, ReadOnly, Record, RecoveryMode, Wal};

const SEGMENT: u64 = 16 << 10;
const BLOCK: usize = 4096;
/// Bytes of all files at most: how much an input may ask for.
const LARGEST: usize = 64 << 10;
const STEPS: usize = 200;

/// The steps of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Length (2 bytes).
    Append,
    /// How many, length of each.
    Batch,
    Checkpoint,
    Sync,
    Rotate,
    /// Up to where, in 256ths of what there is.
    Clean,
    /// Background steps.
    Settle,
    /// Close, open.
    Close,
    /// Kill the process, open.
    Kill,
    /// Cut the power: a seed for what survives. Open.
    Crash,
    /// File, offset (2), length, bytes: write them. This and all that follow end the log's life first.
    Write,
    /// File, offset (2), what to flip.
    Flip,
    /// File, length (2).
    Resize,
    /// File.
    Remove,
    /// File, name.
    Rename,
    /// File, name.
    Copy,
    /// Name, length (2), bytes.
    Put,
    /// File: gives its header the checksum that it should have.
    MendHeader,
    /// File, offset (2): gives the frame there the checksums that it should have.
    MendFrame,
    /// Gives both slots of MARK theirs.
    MendMark,
}

const ALL: [Step; 20] = [
    Step::Append,
    Step::Batch,
    Step::Checkpoint,
    Step::Sync,
    Step::Rotate,
    Step::Clean,
    Step::Settle,
    Step::Close,
    Step::Kill,
    Step::Crash,
    Step::Write,
    Step::Flip,
    Step::Resize,
    Step::Remove,
    Step::Rename,
    Step::Copy,
    Step::Put,
    Step::MendHeader,
    Step::MendFrame,
    Step::MendMark,
];

const NAMES: [&str; 10] = [
    "MARK",
    "00000000000000000000.wal",
    "00000000000000016384.wal",
    "00000000000000032768.wal",
    "00000000000000036864.wal",
    "18446744073709531136.wal",
    "00000000000000016384.new",
    "00000000000000000000.wal.aside",
    "0000000000000016384.wal",
    "notes.txt",
];

pub fn options() -> Options {
    Options::new().segment_size(SEGMENT)
}

/// Runs a program and opens what it leaves, in every way.
pub fn run(input: &[u8]) {
    run_with(input, &options());
}

/// The same with options of the caller's, who may have taken a safety out.
pub fn run_with(input: &[u8], options: &Options) {
    let Built { disk, forged, .. } = build(input, options);
    look(&disk.fork(), options);
    if !forged {
        second::look(&disk).agrees(&options.open_on(disk.fork().mount())).unwrap();
    }
    let strict = options.clone().recovery_mode(RecoveryMode::Strict);
    let shown = strict.open_on(disk.fork().mount()).ok().map(|wal| all(&wal));
    let records = write(&disk, options, &strict);
    assert!(shown.is_none() || shown == records, "what opens strictly is not the same log");
}

/// Without writing.
fn look(disk: &Disk, options: &Options) {
    let before: Vec<_> = disk.names().into_iter().map(|name| disk.file(&name)).collect();
    let view = options.open_read_only_on(disk.mount());
    if let Ok(view) = &view {
        ascending(view.read(..).into_iter().flatten().map_while(Result::ok).map(|record| record.lsn));
        _ = view.checkpoint();
    }
    let report = Verify::new().threads(1).run_on(disk.mount());
    let is_clean = report.as_ref().is_ok_and(|report| report.is_clean());
    if let Ok(frames) = frames_on(disk.mount()) {
        let items: Vec<_> = frames.map_while(Result::ok).collect();
        let records = items.iter().filter_map(|item| match item {
            Item::Record(record) => Some(record.lsn),
            _ => None,
        });
        ascending(records);
        let damaged = items.iter().any(|item| matches!(item, Item::Damage(_)));
        assert!(!damaged || report.is_err() || report.is_ok_and(|report| !report.is_clean()));
    }
    inspect(disk, view.ok(), is_clean);
    let after: Vec<_> = disk.names().into_iter().map(|name| disk.file(&name)).collect();
    assert!(before == after, "a reader changed the directory");
}

/// Of a sound log it tells what a reader of it sees.
fn inspect(disk: &Disk, view: Option<ReadOnly>, is_clean: bool) {
    let overview = inspect_on(disk.mount());
    let (true, Ok(overview), Some(view)) = (is_clean, overview, view) else { return };
    let checkpoint = view.checkpoint().unwrap().map(|record| record.lsn);
    let cursors = overview.cursors.iter().map(|cursor| (cursor.name.clone(), cursor.lsn)).collect();
    assert_eq!((overview.durable, overview.checkpoint, view.cursors()), (view.durable_lsn(), checkpoint, cursors));
    let mut log = overview.segments.iter().filter(|segment| segment.is_log());
    if log.any(|segment| segment.base.max(segment.end.unwrap()) > overview.durable) {
        // A reader does not see yet what is counted.
        return;
    }
    let records = view.read(..).unwrap().map(Result::unwrap).count() as u64;
    assert_eq!(overview.records, records, "{overview:?}");
    let counted: u64 = overview.segments.iter().filter(|segment| segment.is_log()).filter_map(|s| s.records).sum();
    assert_eq!(counted, records, "{overview:?}");
}

fn ascending(lsns: impl Iterator<Item = Lsn>) {
    let mut last = Lsn::ZERO;
    for lsn in lsns {
        assert!(lsn > last, "{lsn} after {last}");
        last = lsn;
    }
}

/// All records, or as many as come before an error.
fn all(wal: &Wal) -> (Vec<Record>, bool) {
    let mut records = Vec::new();
    for record in wal.read(..).into_iter().flatten() {
        match record {
            Ok(record) => records.push(record),
            Err(_) => return (records, false),
        }
    }
    (records, true)
}

/// Opens for writing; what was read and what is appended is there at the next opening, and opening again. After a close it
/// opens strictly. Returns what was read first.
fn write(disk: &Disk, options: &Options, strict: &Options) -> Option<(Vec<Record>, bool)> {
    let bytes = disk.names().iter().filter_map(|name| disk.file(name)).map(|file| file.len()).sum();
    let wal = bounded(bytes, 8, || options.open_on(disk.mount())).ok()?;
    let (mut records, whole) = all(&wal);
    let shown = (records.clone(), whole);
    ascending(records.iter().map(|record| record.lsn));
    for record in &records {
        assert_eq!(wal.get(record.lsn).as_ref().ok(), Some(record));
    }
    let Ok(lsn) = wal.append(b"one more").and_then(seawall::Ticket::wait) else { return Some(shown) };
    assert!(records.last().is_none_or(|last| last.lsn < lsn));
    disk.settle();
    if wal.close().is_err() || !whole {
        return Some(shown);
    }
    drop(wal);
    for options in [strict, options] {
        let wal = match options.open_on(disk.mount()) {
            Ok(wal) => wal,
            Err(e) => panic!("does not open again: {e:?}"),
        };
        let (again, whole) = all(&wal);
        assert!(whole, "cannot be read again");
        if again.len() > records.len() {
            assert!(again.last().is_some_and(|last| last.lsn == lsn && last.payload == "one more"));
            records.extend(again.last().cloned());
        }
        assert!(again == records, "{} records, before {}", again.len(), records.len());
    }
    Some(shown)
}

/// What a program leaves.
pub struct Built {
    pub disk: Disk,
    /// What was appended until a hand touched the directory.
    pub model: Model,
    /// A hand gave bytes checksums that they did not have, or put them where others were.
    pub forged: bool,
}

pub fn build(input: &[u8], options: &Options) -> Built {
    let disk = Disk::new(7);
    let mut input = Input(input);
    let mut wal = options.open_on(disk.mount()).ok();
    let (mut model, mut touched, mut forged) = (Model::default(), false, false);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let step = ALL.get(usize::from(input.byte()) % ALL.len()).copied().unwrap_or(Step::Sync);
        if step as u8 >= Step::Write as u8 {
            touched = true;
            forged |= step as u8 >= Step::Rename as u8;
            if wal.take().is_some() {
                disk.kill();
            }
            damage(&disk, step, &mut input);
        } else if let Some(open) = &wal {
            live(open, &disk, step, &mut input, &mut model);
            if matches!(step, Step::Close | Step::Kill | Step::Crash) {
                drop(wal.take());
                wal = options.open_on(disk.mount()).ok();
                if !touched {
                    model.opened(wal.as_ref().expect("no hand touched it"));
                }
            }
        }
    }
    drop(wal);
    disk.kill();
    Built { disk, model, forged }
}

fn live(wal: &Wal, disk: &Disk, step: Step, input: &mut Input<'_>, model: &mut Model) {
    match step {
        Step::Append => {
            let payload = model.payload(input.short() % 9000);
            if let Ok(ticket) = wal.append(&payload) {
                model.appended(ticket.lsn(), vec![payload], false);
            }
        }
        Step::Batch => {
            let (count, length) = (input.byte(), input.byte());
            let payloads: Vec<_> = (0..count % 8).map(|_| model.payload(usize::from(length))).collect();
            if let Ok(ticket) = wal.append_batch(&payloads) {
                model.appended(ticket.lsn(), payloads, false);
            }
        }
        Step::Checkpoint => {
            let payload = model.payload(5);
            if let Ok(ticket) = wal.append_checkpoint(&payload) {
                model.appended(ticket.lsn(), vec![payload], true);
            }
        }
        Step::Sync => _ = wal.sync(),
        Step::Rotate => _ = wal.rotate(),
        Step::Clean => {
            let limit = wal.durable_lsn().0 / 256 * u64::from(input.byte());
            let cleaned = wal.clean_before_lsn(Lsn(limit));
            model.durable(wal.durable_lsn());
            _ = cleaned.map(|cleaned| model.cleaned(cleaned.first));
        }
        Step::Settle => disk.settle(),
        Step::Close => _ = wal.close(),
        Step::Kill => disk.kill(),
        Step::Crash => disk.crash(Keep::Random(u64::from(input.byte()))),
        _ => {}
    }
    model.durable(wal.durable_lsn());
}

/// A file that there is.
fn file(disk: &Disk, input: &mut Input<'_>) -> Option<(String, Vec<u8>)> {
    let mut names = disk.names();
    names.sort_by_key(|name| name != "MARK");
    let which = usize::from(input.byte());
    let name = names.get(which.checked_rem(names.len())?)?.clone();
    let bytes = disk.file(&name)?;
    Some((name, bytes))
}

fn name(input: &mut Input<'_>) -> &'static str {
    NAMES.get(usize::from(input.byte()) % NAMES.len()).copied().unwrap_or("MARK")
}

fn damage(disk: &Disk, step: Step, input: &mut Input<'_>) {
    if step == Step::Put {
        let (name, length) = (name(input), input.short().min(2048));
        return disk.put(name, input.bytes(length));
    }
    if step == Step::MendMark {
        if let Some(mut mark) = disk.file("MARK") {
            for slot in [0, BLOCK] {
                if let Some(slot) = mark.get_mut(slot..slot + 64) {
                    put32(slot, 60, crc32fast::hash(slot.get(..60).unwrap_or_default()));
                }
            }
            disk.put("MARK", mark);
        }
        return;
    }
    let Some((name_of, mut bytes)) = file(disk, input) else { return };
    match step {
        Step::Write => {
            let (offset, length) = (input.short(), usize::from(input.byte()));
            let new = input.bytes(length.min(64));
            if let Some(old) = bytes.get_mut(offset..offset + new.len()) {
                old.copy_from_slice(&new);
            }
        }
        Step::Flip => {
            let (offset, bits) = (input.short(), input.byte());
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= bits;
            }
        }
        Step::Resize => bytes.resize(input.short().min(LARGEST), 0),
        Step::Remove => {
            disk.remove(&name_of);
            return;
        }
        Step::Rename => {
            disk.rename(&name_of, name(input));
            return;
        }
        Step::Copy => return disk.put(name(input), bytes),
        Step::MendHeader => {
            if let Some(header) = bytes.get_mut(..72) {
                spec::mend_header(header);
            }
        }
        Step::MendFrame => {
            let offset = input.short();
            if bytes.len() >= 16 {
                let seed = spec::u32_at(&bytes, 12);
                spec::mend_frame(&mut bytes, seed, offset);
            }
        }
        _ => {}
    }
    disk.put(&name_of, bytes);
}

fn put32(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&number.to_le_bytes());
    }
}
