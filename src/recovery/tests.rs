//! Directories written by hand: what they show before a segment is scanned.

use std::fs;
use std::path::Path;

use super::survey::odd_length;
use super::*;
use crate::format::{FrameHeader, FrameKind, Header, MARK, NO_BASE, frame_size, segment_name, sum};
use crate::scan::Place;
use crate::storage::Fs;

const CAPACITY: u64 = 16 << 10;
/// Three logs, of which the last goes first where nothing else tells.
const A: [u8; 16] = [1; 16];
const B: [u8; 16] = [2; 16];
const C: [u8; 16] = [3; 16];

/// A directory, and its files as they are written.
struct Directory {
    dir: tempfile::TempDir,
    storage: Fs,
}

/// A segment's file.
struct Segment {
    header: Header,
    seed: u32,
    bytes: Vec<u8>,
}

impl Segment {
    /// One of a log that was made ready and never used.
    fn prepared(log_id: [u8; 16], base: u64) -> Segment {
        let header = Header { compatible: 0, log_id, base, capacity: CAPACITY, salt: 0 };
        let (bytes, seed) = header.encode();
        let mut bytes = bytes.to_vec();
        bytes.resize(BLOCK as usize, 0);
        Segment { header, seed, bytes }
    }

    /// One that was begun behind `prev`, if there is such.
    fn begun(log_id: [u8; 16], base: u64, prev: Option<&Segment>) -> Segment {
        let mut segment = Segment::prepared(log_id, base);
        let (prev_base, prev_end, prev_seed) = match prev {
            Some(prev) => (prev.header.base, prev.header.base + prev.bytes.len() as u64, prev.seed),
            None => (NO_BASE, 0, 0),
        };
        let link = Link { prev_base, prev_end, prev_seed, ..Link::default() };
        segment.push(FrameKind::Link, &link.encode());
        segment
    }

    fn push(&mut self, kind: FrameKind, payload: &[u8]) {
        self.push_in_batch(kind, payload, false);
    }

    /// `more`: its batch goes on.
    fn push_in_batch(&mut self, kind: FrameKind, payload: &[u8], more: bool) {
        let (offset, length) = (u32::try_from(self.bytes.len()).unwrap(), u32::try_from(payload.len()).unwrap());
        // A claim of nothing that could be torn.
        let header = FrameHeader::new(kind, more, length, 0, sum(payload), self.header.base + u64::from(offset), 0);
        self.bytes.extend(header.encode(self.seed, offset));
        self.bytes.extend(payload);
        self.bytes.resize(offset as usize + usize::try_from(frame_size(length.into())).unwrap(), 0);
    }
}

impl Directory {
    fn new() -> Directory {
        let dir = tempfile::tempdir().unwrap();
        let storage = Fs::new(dir.path());
        Directory { dir, storage }
    }

    /// With all the bytes that a segment is made with.
    fn put(&self, name: &str, segment: &Segment) {
        let mut bytes = segment.bytes.clone();
        bytes.resize(usize::try_from(CAPACITY).unwrap(), 0);
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn segment(&self, segment: &Segment) {
        self.put(&segment_name(segment.header.base), segment);
    }

    fn marks(&self, marks: [[u8; 16]; 2]) {
        self.synced(marks, 0);
    }

    /// MARK, which says how far the log was durable.
    fn synced(&self, marks: [[u8; 16]; 2], synced: u64) {
        let mut bytes = vec![0; 2 * BLOCK as usize];
        for (log_id, sequence) in marks.into_iter().zip(0..) {
            let (slot, at) = Mark { log_id, sequence, synced, ..Mark::default() }.encode();
            let at = usize::try_from(at).unwrap();
            bytes[at..at + slot.len()].copy_from_slice(&slot);
        }
        fs::write(self.dir.path().join(MARK), bytes).unwrap();
    }

    fn survey(&self) -> Survey {
        survey(&self.storage, false, Bugs::default()).unwrap()
    }

    fn log_id(&self) -> Option<[u8; 16]> {
        self.survey().log_id
    }
}

#[test]
fn a_name_that_is_listed_twice_is_one_file() {
    let names = ["00000000000000016384.wal", "00000000000000000000.wal", "00000000000000032768.new", "MARK", "other"];
    let listed = names.iter().chain(&names).map(|name| (name.into(), true)).collect();
    let mut survey = Survey::default();
    assert_eq!(survey.sort(listed), [names[1], names[0]]);
    assert_eq!(survey.unfinished, [names[2]]);
    assert_eq!(survey.notes.len(), 1, "{:?}", survey.notes);
}

#[test]
fn a_directory_is_the_log_of_which_most_holds_frames() {
    // Two of another log that were made ready are less than one that holds a frame, be its link lost.
    for link in [true, false] {
        let directory = Directory::new();
        let mut first = if link { Segment::begun(A, 0, None) } else { Segment::prepared(A, 0) };
        if !link {
            first.bytes.resize(2 * BLOCK as usize, 0);
            first.push(FrameKind::Record, b"hello");
        }
        directory.segment(&first);
        [1, 2].iter().for_each(|n| directory.segment(&Segment::prepared(B, n * CAPACITY)));
        assert_eq!(directory.log_id(), Some(A), "link: {link}");
        let survey = directory.survey();
        assert!(survey.segments.iter().skip(1).all(|found| found.header == Err("the header is another log's")));
    }
    // Of two logs with frames that with more of them.
    let directory = Directory::new();
    for (n, log_id) in [(0, A), (1, B), (2, A)] {
        directory.segment(&Segment::begun(log_id, n * CAPACITY, None));
    }
    assert_eq!(directory.log_id(), Some(A));
    // Of none a slot of MARK says more than headers.
    let directory = Directory::new();
    directory.marks([A, A]);
    [1, 2].iter().for_each(|n| directory.segment(&Segment::prepared(B, n * CAPACITY)));
    assert_eq!(directory.log_id(), Some(A));
    directory.marks([A, B]);
    assert_eq!(directory.log_id(), Some(B));
    // Two that were swapped.
    let directory = Directory::new();
    directory.put(&segment_name(0), &Segment::begun(A, CAPACITY, None));
    directory.put(&segment_name(CAPACITY), &Segment::begun(A, 0, None));
    assert_eq!(directory.log_id(), Some(A));
}

#[test]
fn where_none_was_begun_under_its_name_others_say_whose_log_it_is() {
    let directory = Directory::new();
    directory.segment(&Segment::prepared(B, 4 * CAPACITY));
    directory.marks([A, B]);
    directory.put("first", &Segment::begun(A, 0, None));
    assert_eq!(directory.log_id(), Some(A));
    // A third one's are not asked, for nothing else is here of it.
    directory.put("others", &Segment::begun(C, 0, None));
    directory.put("more of others", &Segment::begun(C, CAPACITY, None));
    assert_eq!(directory.log_id(), Some(B));
    directory.put("second", &Segment::begun(A, CAPACITY, None));
    directory.put("third", &Segment::begun(A, 2 * CAPACITY, None));
    assert_eq!(directory.log_id(), Some(A));
    // Without anything under its name most of them are.
    let directory = Directory::new();
    for (n, log_id) in [(0, A), (1, A), (2, B)] {
        directory.put(&format!("{n}"), &Segment::begun(log_id, n * CAPACITY, None));
    }
    assert_eq!(directory.log_id(), Some(A));
}

/// The newest, which no link names.
#[test]
fn a_segment_under_another_name_is_missed_where_mark_does_not_tell() {
    let first = Segment::begun(A, 0, None);
    let other = Segment::begun(A, CAPACITY, Some(&first));
    let with = |name: &str, segment: &Segment, marks: Option<[[u8; 16]; 2]>| {
        let directory = Directory::new();
        directory.segment(&first);
        directory.put(name, segment);
        if let Some(marks) = marks {
            directory.marks(marks);
        }
        directory.survey().is_elsewhere
    };
    assert!(with("lost", &other, None));
    assert!(with("lost", &other, Some([A, B])));
    assert!(!with("lost", &other, Some([A, A])), "MARK tells how far the log was durable");
    assert!(!with(&segment_name(CAPACITY), &other, None));
    assert!(!with("lost", &Segment::begun(B, CAPACITY, None), None), "another log's");
    assert!(!with("lost", &Segment::begun(A, 0, None), None), "below the newest");
    assert!(!with("lost", &Segment::prepared(A, CAPACITY), None), "never begun");
    // What looks unfinished may be, unless it goes on.
    let unfinished = "00000000000000016384.new";
    assert!(!with(unfinished, &other, None));
    let mut more = Segment::begun(A, CAPACITY, Some(&first));
    more.push(FrameKind::Record, b"hello");
    assert!(with(unfinished, &more, None));
    // A file lies in its place.
    let directory = Directory::new();
    directory.segment(&first);
    directory.put("lost", &other);
    directory.put(&segment_name(CAPACITY), &Segment { bytes: Vec::new(), ..Segment::prepared(A, 0) });
    assert!(!directory.survey().is_elsewhere);
}

#[test]
fn files_under_other_names_are_strays() {
    let directory = Directory::new();
    let front = Segment::begun(A, CAPACITY, None);
    directory.segment(&front);
    directory.put("notes", &Segment::begun(A, 2 * CAPACITY, None));
    directory.put("equal", &front);
    directory.put("others", &Segment::begun(B, 2 * CAPACITY, None));
    directory.put("cleaned", &Segment::begun(A, 0, None));
    // A header of its own that is not sound, under its name.
    let mut damaged = Segment::begun(A, 3 * CAPACITY, None);
    damaged.bytes[20] ^= 0xff;
    directory.segment(&damaged);
    fs::create_dir(directory.dir.path().join("directory")).unwrap();
    let mut survey = directory.survey();
    survey.front = CAPACITY;
    let mut found: Vec<_> = strays(&directory.storage, &survey).unwrap();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let found: Vec<_> = found.into_iter().map(|(name, header, _)| (name, header.base)).collect();
    assert_eq!(found, [("equal".to_owned(), CAPACITY), ("notes".to_owned(), 2 * CAPACITY)]);
}

#[test]
fn what_either_slot_of_mark_claims_stays_true() {
    let mark = |log_id, sequence, synced, shown, front| Mark { log_id, sequence, synced, shown, front };
    let hold = |marks: &[Mark]| {
        let mut survey = Survey { log_id: Some(A), ..Survey::default() };
        survey.hold(marks);
        (survey.mark, survey.foreign_mark, survey.half_mark)
    };
    let (older, later) = (mark(A, 1, 9000, 9500, 4096), mark(A, 2, 8000, 9100, 0));
    assert_eq!(hold(&[older, later]), (Some(mark(A, 2, 9000, 9100, 4096)), false, false));
    assert_eq!(hold(&[older]), (Some(older), false, true));
    assert_eq!(hold(&[mark(B, 3, 1, 1, 1), later]), (Some(later), false, true));
    assert_eq!(hold(&[mark(B, 3, 1, 1, 1)]), (None, true, false));
    assert_eq!(hold(&[]), (None, false, false));
}

#[test]
fn what_there_is_to_know_of_mark() {
    let begins = |survey: &Survey, marks: &[Mark], marked, expected: Option<&str>| {
        let note = survey.note_of_mark(marks, marked);
        match expected {
            Some(expected) => assert!(note.as_ref().is_some_and(|note| note.starts_with(expected)), "{note:?}"),
            None => assert_eq!(note, None),
        }
    };
    let mark = Mark { log_id: A, synced: 70, ..Mark::default() };
    let with = |survey: Survey| Survey { log_id: Some(A), ..survey };
    begins(&with(Survey::default()), &[], false, None);
    begins(&with(Survey::default()), &[], true, Some("MARK: not readable; "));
    begins(&with(Survey { is_elsewhere: true, ..Survey::default() }), &[], false, Some("MARK: missing; "));
    let directory = Directory::new();
    directory.segment(&Segment::begun(A, 0, None));
    let Survey { segments, .. } = directory.survey();
    begins(&with(Survey { segments, ..Survey::default() }), &[], false, Some("MARK: missing; "));
    let whole = with(Survey { mark: Some(mark), ..Survey::default() });
    begins(&whole, &[mark, mark], true, None);
    let half = Survey { half_mark: true, ..whole };
    begins(&half, &[mark], true, Some("MARK: one of its two slots is damaged; "));
    begins(&half, &[mark, mark], true, Some("MARK: one of its two slots is another log's; "));
    let foreign = with(Survey { foreign_mark: true, ..Survey::default() });
    begins(&foreign, &[mark], true, Some("MARK: another log's, not used; "));
    let note = foreign.note_of_mark(&[Mark::default(), mark], true).unwrap();
    assert!(note.contains("was durable up to LSN 70"), "{note}");
}

#[test]
fn readers_may_have_seen_more() {
    let shown = |shown| Survey { mark: Some(Mark { shown, ..Mark::default() }), ..Survey::default() };
    assert_eq!(Survey::default().note_of_shown(0), None);
    for (seen, told) in [(99, false), (100, false), (101, true)] {
        let note = shown(seen).note_of_shown(100);
        assert_eq!(note.is_some(), told, "{note:?}");
        let expected = format!("MARK: readers saw records up to LSN {seen}, and the log ends at LSN 100: ");
        assert!(note.is_none_or(|note| note.starts_with(&expected)));
    }
}

#[test]
fn a_length_that_no_crash_leaves_is_told() {
    let told = |length: u64| {
        let directory = Directory::new();
        let segment = Segment::begun(A, 0, None);
        directory.segment(&segment);
        let path = directory.dir.path().join(segment_name(0));
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
        odd_length(&directory.survey().segments[0])
    };
    let least = Segment::begun(A, 0, None).bytes.len() as u64;
    for length in [u64::from(BLOCK), least, CAPACITY] {
        assert_eq!(told(length), None, "{length}");
    }
    assert!(told(least - 4).is_some_and(|note| note.contains(&format!(": cut to {} bytes", least - 4))));
    assert!(told(u64::from(BLOCK) + 4).is_some());
    let longer = told(CAPACITY + 1).unwrap();
    assert!(longer.ends_with(": 16385 bytes, it was made with 16384: the rest is not read"), "{longer}");
}

/// Only the first page of a file is another segment's.
#[test]
fn a_link_says_under_which_seed_a_page_was_lost() {
    let (below, own, other) =
        (Segment::begun(A, 0, None), Segment::begun(A, CAPACITY, None), Segment::begun(A, 2 * CAPACITY, None));
    assert_eq!(misplaced(&own.bytes, CAPACITY), None);
    let page = BLOCK as usize;
    let mixed = [&other.bytes[..page], &own.bytes[page..]].concat();
    let (seed, link) = misplaced(&mixed, CAPACITY).unwrap();
    assert_eq!((seed, link.prev_base), (own.seed, NO_BASE));
    assert_eq!(own_header(&mixed, Some(CAPACITY)), None);
    assert_eq!(own_header(&mixed, None).map(|(_, seed)| seed), Some(other.seed));
    assert_eq!(own_header(&own.bytes, Some(CAPACITY)).map(|(_, seed)| seed), Some(own.seed));
    // Of a file that is another's all through the header is its own.
    assert_eq!(own_header(&other.bytes, Some(CAPACITY)).map(|(_, seed)| seed), Some(other.seed));
    // What names a segment above is the link of none here.
    let above = Segment::begun(A, CAPACITY, Some(&other));
    let place = Place { base: CAPACITY, seed: above.seed, limit: CAPACITY };
    assert_eq!(read_link(&above.bytes, place, Bugs::default()), None);
    let follows = Segment::begun(A, CAPACITY, Some(&below));
    let place = Place { base: CAPACITY, seed: follows.seed, limit: CAPACITY };
    assert!(read_link(&follows.bytes, place, Bugs::default()).is_some());
    // No link is longer than the page that it is read from, nor is another frame one.
    let mut record = Segment::prepared(A, 0);
    record.push(FrameKind::Record, &[0; 80]);
    let place = Place { base: 0, seed: record.seed, limit: CAPACITY };
    assert_eq!(read_link(&record.bytes, place, Bugs::default()), None);
}

#[test]
fn who_looks_beside_a_writer_looks_again() {
    let storage = Fs::new(Path::new("log"));
    let directory = storage.path();
    let gone = |path: &Path| Error::io("open", path, std::io::ErrorKind::NotFound.into());
    let looked = |failures: usize, error: &Error| {
        let mut looks = 0;
        let result = beside(&storage, || {
            looks += 1;
            if looks > failures { Ok(()) } else { Err(error.clone()) }
        });
        (result.map_err(|e| e.to_string()), looks)
    };
    let file = gone(&directory.join("file"));
    assert!(missing(&file));
    assert_eq!(looked(TRIES, &file), (Ok(()), TRIES + 1));
    let (result, looks) = looked(TRIES + 1, &file);
    assert!(result.unwrap_err().contains("a writer goes on faster"));
    assert_eq!(looks, TRIES + 1);
    // No writer's doing.
    for error in [gone(directory), Error::io("open", "file", std::io::ErrorKind::PermissionDenied.into())] {
        let (result, looks) = looked(1, &error);
        assert_eq!((result.unwrap_err(), looks), (error.to_string(), 1));
    }
}

#[test]
fn strictly_a_log_ends_where_it_was_durable() {
    let mut segment = Segment::begun(A, 0, None);
    segment.push(FrameKind::Record, b"one");
    let one = segment.bytes.len() as u64;
    segment.push(FrameKind::Record, b"two");
    let end = segment.bytes.len() as u64;
    let strict = |segment: &Segment, synced: u64, hole: Option<usize>| {
        let directory = Directory::new();
        let mut bytes = segment.bytes.clone();
        if let Some(hole) = hole {
            bytes[hole] ^= 0xff;
        }
        directory.segment(&Segment { bytes, ..*segment });
        directory.synced([A, A], synced);
        let opened = recover(&directory.storage, RecoveryMode::Strict, false, u64::MAX, Bugs::default());
        opened.map(|recovered| recovered.end).map_err(|e| e.to_string())
    };
    assert_eq!(strict(&segment, end, None), Ok(end));
    let told = strict(&segment, one, None).unwrap_err();
    let expected = format!("it ends at LSN {end}, and nothing says that what lies above LSN {one} was durable; open");
    assert!(told.contains(&expected), "{told}");
    // A batch that is not whole.
    segment.push_in_batch(FrameKind::Record, b"three", true);
    let told = strict(&segment, end, None).unwrap_err();
    assert!(told.contains(&format!("it ends at LSN {end}; a part of a batch lies beyond; open")), "{told}");
    // And frames beyond what is damaged.
    let told = strict(&segment, one, Some(usize::try_from(one).unwrap())).unwrap_err();
    let expected = format!("it ends at LSN {one}; beyond lie 1 valid frame, of which nothing says");
    assert!(told.contains(&expected), "{told}");
    assert!(told.contains(&format!("{} byte {one}", segment_name(0))), "{told}");
}

#[test]
fn what_is_in_the_place_of_a_segment_is_told() {
    let (below, tip) = (Segment::begun(A, 0, None), Segment::begun(A, CAPACITY, Some(&Segment::begun(A, 0, None))));
    let directory = Directory::new();
    directory.segment(&tip);
    let survey = directory.survey();
    assert_eq!(survey.instead(0), words::GONE);
    assert_eq!(survey.link_above(0).map(|link| link.prev_seed), Some(below.seed));
    assert_eq!(survey.sealed_end(0), Some(below.bytes.len() as u64));
    assert_eq!((survey.link_above(CAPACITY), survey.sealed_end(CAPACITY)), (None, None));
    assert!(survey.may_be_cleaned(0), "nothing is there of it, and MARK does not tell");
    // Another log's lies there; one of its own that was made another time; a directory.
    directory.segment(&Segment::prepared(B, 0));
    assert_eq!(directory.survey().instead(0), "the header is another log's");
    let mut again = Segment::prepared(A, 0);
    again.header.salt = 9;
    let (header, _) = again.header.encode();
    again.bytes[..header.len()].copy_from_slice(&header);
    directory.segment(&again);
    assert_eq!(directory.survey().instead(0), words::REPLACED);
    assert!(!directory.survey().may_be_cleaned(0));
    fs::remove_file(directory.dir.path().join(segment_name(0))).unwrap();
    fs::create_dir(directory.dir.path().join(segment_name(0))).unwrap();
    let survey = directory.survey();
    assert_eq!(survey.instead(0), words::NO_FILE);
    assert!(!survey.may_be_cleaned(0));
    // A copy of another segment of this log has nothing of it.
    fs::remove_dir(directory.dir.path().join(segment_name(0))).unwrap();
    directory.put(&segment_name(0), &tip);
    assert!(directory.survey().may_be_cleaned(0));
    directory.marks([A, A]);
    assert!(!directory.survey().may_be_cleaned(0), "MARK would tell");
}

#[test]
fn what_was_cut_is_told_by_its_length() {
    let found = |segment: &Segment, length: u64| {
        let directory = Directory::new();
        directory.segment(segment);
        let path = directory.dir.path().join(segment_name(0));
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
        directory.survey().segments.remove(0)
    };
    let (begun, prepared) = (Segment::begun(A, 0, None), Segment::prepared(A, 0));
    for (length, is_short) in
        [(u64::from(BLOCK), false), (CAPACITY - 1, true), (CAPACITY, false), (CAPACITY + 1, false)]
    {
        let trimmed = found(&prepared, length).trimmed();
        assert_eq!(trimmed.is_some(), is_short, "{length}: {trimmed:?}");
    }
    assert!(found(&prepared, 8192).trimmed().unwrap().starts_with("8192 bytes of 16384, and no link"));
    assert_eq!(found(&begun, CAPACITY - 1).trimmed(), None);
    for (end, is_cut) in [(8191, false), (8192, false), (8193, true)] {
        let cut = found(&begun, 8192).cut_before(end);
        assert_eq!(cut.is_some(), is_cut, "{end}");
        assert!(cut.is_none_or(|cut| cut == format!("cut to 8192 bytes, it held records up to LSN {end}")));
    }
    let frame = u64::from(crate::format::FRAME);
    let segment = found(&begun, CAPACITY);
    let left = |records| Some(crate::format::Left { records, min_time: 0, max_time: 0 });
    for (end, left, may) in [
        (CAPACITY - frame, None, true),
        (CAPACITY - frame + 1, None, false),
        (8192, left(3), false),
        (8192, left(4), true),
    ] {
        assert_eq!(segment.may_go_on(end, 3, left), may, "{end}, {left:?}");
    }
}
