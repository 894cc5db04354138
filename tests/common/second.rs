//! Recovery a second time, from the specification alone and in another way: the whole directory in memory, everything
//! looked at, nothing fast. Nothing of recovery here is the crate's; `tests/agree.rs` and the crash tests hold the two together.

use std::collections::BTreeMap;
use std::fmt;

use seawall::sim::Disk;
use seawall::{ErrorKind, Kind, Lsn, Wal};

use super::spec::{self, BLOCK, Frame, u64_at};

/// One record: its LSN, kind, batch time, payload.
pub type Record = (u64, u32, u64, Vec<u8>);

/// What a directory is.
pub enum Found {
    /// No log, or one that nothing was ever written to.
    Nothing,
    Damage(String),
    TooNew,
    Log(Log),
}

pub struct Log {
    pub first: u64,
    pub end: u64,
    /// Whether anything of a frame lies beyond its end.
    pub torn: bool,
    pub records: Vec<Record>,
    /// Whether all padding is zeros. Nothing checks it.
    pub padded: bool,
}

impl Found {
    /// That opening the same directory found the same, and reads the same.
    pub fn agrees(&self, opened: &seawall::Result<Wal>) -> Result<(), String> {
        let same = match (self, opened) {
            (Found::Damage(_), Err(e)) => matches!(e.kind(), ErrorKind::Damage(_)),
            (Found::TooNew, Err(e)) => matches!(e.kind(), ErrorKind::TooNew { .. }),
            (Found::Nothing, Ok(wal)) => wal.recovery().end == Lsn(0),
            (Found::Log(log), Ok(wal)) => {
                let found = wal.recovery();
                let ours = (found.first.0, found.end.0, found.torn.is_some());
                ours == (log.first, log.end, log.torn) && log.reads_as(wal)
            }
            _ => false,
        };
        let opened = || opened.as_ref().map(|wal| wal.recovery().to_string());
        if same { Ok(()) } else { Err(format!("opened: {:?}; a second recovery: {self}", opened())) }
    }
}

impl Log {
    /// Whether `wal` gives the same records. Where opening did not look, reading may end in damage.
    fn reads_as(&self, wal: &Wal) -> bool {
        let mut theirs = self.records.iter();
        for record in wal.read(..).unwrap() {
            let Ok(record) = record else { return true };
            let kind = if record.kind == Kind::Checkpoint { 2 } else { 1 };
            let ours = (record.lsn.0, kind, record.batch_time.0, record.payload.to_vec());
            if theirs.next() != Some(&ours) {
                return false;
            }
        }
        theirs.next().is_none()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Nothing => f.write_str("no log"),
            Found::Damage(what) => write!(f, "damage: {what}"),
            Found::TooNew => f.write_str("too new"),
            Found::Log(Log { first, end, torn, records, .. }) => {
                write!(f, "{} records, {first} to {end}, torn: {torn}", records.len())
            }
        }
    }
}

struct Segment {
    bytes: Vec<u8>,
    base: u64,
    seed: u32,
    capacity: u64,
    /// From the first on without a gap, as far as they are valid and of a kind that is known.
    frames: Vec<Frame>,
}

impl Segment {
    fn new(base: u64, bytes: &[u8]) -> Option<Segment> {
        let sound = spec::is_header(bytes) && u64_at(bytes, 48) == base;
        let (seed, capacity) = sound.then(|| (spec::u32_at(bytes, 12), u64_at(bytes, 56)))?;
        let bytes = bytes[..bytes.len().min(capacity as usize)].to_vec();
        let mut segment = Segment { bytes, base, seed, capacity, frames: Vec::new() };
        let mut at = BLOCK;
        while let Some(frame) = segment.frame(at).filter(|frame| frame.kind <= 5) {
            at = frame.end();
            segment.frames.push(frame);
        }
        Some(segment)
    }

    fn frame(&self, at: usize) -> Option<Frame> {
        spec::frame(&self.bytes, self.base, self.seed, at)
    }

    /// The LSN of the first place at which there is no frame that is known.
    fn bad(&self) -> u64 {
        self.base + self.frames.last().map_or(BLOCK, Frame::end) as u64
    }

    fn link(&self) -> Option<Link> {
        let frame = self.frames.first().filter(|frame| spec::is_link(frame, self.base))?;
        let number = |at| u64_at(&frame.payload, at);
        let (prev, front) = ((number(0) != u64::MAX).then(|| number(0)), number(48));
        Some(Link { prev, end: number(8), seed: spec::u32_at(&frame.payload, 16), front })
    }

    /// The valid frames at any place from `lsn` on.
    fn beyond(&self, lsn: u64) -> Vec<Frame> {
        let (mut at, mut found) = ((lsn - self.base) as usize, Vec::new());
        while at < self.bytes.len() {
            let frame = self.frame(at);
            at = frame.as_ref().map_or(at + 4, Frame::end);
            found.extend(frame);
        }
        found
    }

    fn claims<'a>(&self, frames: impl IntoIterator<Item = &'a Frame>) -> u64 {
        let true_ones = frames.into_iter().filter(|frame| frame.claim <= self.base + frame.at as u64);
        true_ones.map(|frame| frame.claim).max().unwrap_or(0)
    }
}

/// What a link says of the segment before its own.
struct Link {
    prev: Option<u64>,
    end: u64,
    seed: u32,
    front: u64,
}

/// What is on `disk`.
pub fn look(disk: &Disk) -> Found {
    let files = disk.names().into_iter().filter_map(|name| disk.file(&name).map(|bytes| (name, bytes)));
    recover(&files.collect())
}

/// What is in these files, by the steps and the table of `DESIGN.md`.
pub fn recover(files: &BTreeMap<String, Vec<u8>>) -> Found {
    let mark = files.get("MARK").map_or(&[][..], Vec::as_slice);
    let based = |name: &str| name.strip_suffix(".wal").filter(|digits| digits.len() == 20)?.parse::<u64>().ok();
    let named: BTreeMap<u64, Option<Segment>> =
        files.iter().filter_map(|(name, bytes)| based(name).map(|base| (base, Segment::new(base, bytes)))).collect();
    let links: BTreeMap<u64, Link> =
        named.iter().filter_map(|(base, segment)| Some((*base, segment.as_ref()?.link()?))).collect();
    let front = links.values().map(|link| link.front).chain([spec::front(mark)]).max().unwrap_or(0);
    let named: BTreeMap<_, _> = named.into_iter().filter(|(base, _)| *base >= front).collect();

    // The way down from a segment, if it ends where the log begins: bases, the highest first.
    let down = |top: u64| -> Option<Vec<u64>> {
        let mut way = vec![top];
        loop {
            let base = *way.last()?;
            let link = links.get(&base)?;
            let Some(prev) = link.prev.filter(|_| base != front) else { return Some(way) };
            named.get(&prev)?.as_ref().filter(|segment| segment.seed == link.seed)?;
            way.push(prev);
        }
    };
    let chain = named.keys().rev().find_map(|base| down(*base)).unwrap_or_default();
    let tip = chain.first().copied();

    for (base, segment) in named.iter().filter(|(base, _)| tip.is_none_or(|tip| **base > tip)) {
        let Some(_) = segment else { return Found::Damage(format!("no header at {base}")) };
        let prev = links.get(base).and_then(|link| link.prev);
        if let Some(prev) = prev.filter(|prev| *prev >= front && !named.contains_key(prev)) {
            return Found::Damage(format!("{base} follows {prev}, which is missing"));
        }
    }
    let segment = |base: &u64| named[base].as_ref().unwrap();
    let ends = |n: usize| links[&chain[n - 1]].end;
    let read = links.keys().filter(|base| **base >= front).map(segment);
    let mut proven = read.map(|segment| segment.claims(segment.frames.first())).max().unwrap_or(0);
    proven = proven.max(spec::synced(mark));

    // Bad places of what is not proven, the newest first: the segment's place in the chain, and the LSN.
    let mut bad = Vec::new();
    for (n, base) in chain.iter().enumerate() {
        let segment = segment(base);
        if n > 0 && ends(n) <= proven {
            break;
        }
        proven = proven.max(segment.claims(&segment.frames));
        if n == 0 || segment.bad() < ends(n) {
            bad.push((n, segment.bad()));
        }
    }
    let (mut beyond, mut evidence) = (0, proven);
    let mut look = |segment: &Segment, from: u64, past: u64| {
        let frames = segment.beyond(from);
        evidence = evidence.max(segment.claims(&frames));
        beyond += frames.iter().filter(|frame| segment.base + frame.at as u64 > past).count();
    };
    for base in named.keys().filter(|base| tip.is_none_or(|tip| **base > tip)) {
        look(segment(base), *base + BLOCK as u64, 0);
    }
    let Some((at, x)) = bad.last().copied() else {
        return match evidence {
            0 if front == 0 && beyond == 0 => Found::Nothing,
            0 if front == 0 => Found::Log(Log { first: 0, end: 0, torn: true, records: Vec::new(), padded: true }),
            _ => Found::Damage(format!("no segments, and {evidence} was durable, {front} cleaned")),
        };
    };
    for (n, lsn) in &bad {
        look(segment(&chain[*n]), *lsn, x);
    }
    beyond += chain[..at].iter().map(|base| segment(base).frames.len()).sum::<usize>();

    let last = segment(&chain[at]);
    if last.frame((x - last.base) as usize).is_some() {
        return Found::TooNew;
    }
    let end = last.batch_end(x);
    for (n, base) in chain.iter().enumerate() {
        let length = base + segment(base).bytes.len() as u64;
        let whole = if n > 0 { ends(n) } else { base + segment(base).capacity };
        if length < whole && (n > 0 || length != end || end != spec::synced(mark)) {
            return Found::Damage(format!("{base} ends at {length}"));
        }
    }
    if evidence > end {
        return Found::Damage(format!("{evidence} was durable, and the log ends at {end}"));
    }
    let below = |n: usize| if n == at { end } else { ends(n) };
    let kept = || (at..chain.len()).rev().flat_map(|n| segment(&chain[n]).below(below(n)));
    Found::Log(Log {
        first: chain.last().copied().unwrap_or(0),
        end,
        torn: beyond > 0 || end < x || last.begun(x),
        records: kept().filter(|(_, frame)| matches!(frame.kind, 1 | 2)).map(record).collect(),
        padded: kept().all(|(segment, frame)| segment.padded(frame)),
    })
}

impl Segment {
    /// Whether the first part of a frame lies at `lsn`, although not all of it.
    fn begun(&self, lsn: u64) -> bool {
        let at = (lsn - self.base) as usize;
        let header = self.bytes.get(at..at + spec::FRAME).filter(|header| header[7] >> 4 & 7 > 0);
        header.is_some_and(|header| spec::frame_check(self.seed, at, header) == spec::u32_at(header, 0))
    }

    /// The end of the last whole batch up to `lsn`.
    fn batch_end(&self, lsn: u64) -> u64 {
        let whole = |frame: &&Frame| !frame.more && self.base + frame.end() as u64 <= lsn;
        self.base + self.frames.iter().rfind(whole).map_or(BLOCK, Frame::end) as u64
    }

    fn below(&self, end: u64) -> impl Iterator<Item = (&Segment, &Frame)> {
        self.frames.iter().filter(move |frame| self.base + (frame.at as u64) < end).map(move |frame| (self, frame))
    }

    fn padded(&self, frame: &Frame) -> bool {
        self.bytes[frame.at + spec::FRAME + frame.length..frame.end()].iter().all(|byte| *byte == 0)
    }
}

fn record((segment, frame): (&Segment, &Frame)) -> Record {
    (segment.base + frame.at as u64, frame.kind, frame.batch_time, frame.payload.clone())
}
