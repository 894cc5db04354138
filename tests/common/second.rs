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

#[derive(Default)]
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
            (Found::TooNew, Err(e)) => matches!(e.kind(), ErrorKind::TooNew),
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
    length: usize,
    /// From the first on without a gap, as far as they are valid and of a kind that is known.
    frames: Vec<Frame>,
}

impl Segment {
    fn new(base: u64, bytes: &[u8]) -> Option<Segment> {
        let sound = spec::is_header(bytes) && u64_at(bytes, 48) == base;
        let (seed, capacity) = sound.then(|| (spec::u32_at(bytes, 12), u64_at(bytes, 56)))?;
        let length = bytes.len();
        let bytes = bytes[..length.min(capacity as usize)].to_vec();
        let mut segment = Segment { bytes, base, seed, capacity, length, frames: Vec::new() };
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
        // None says that what is to come was cleaned.
        if number(48) > self.base {
            return None;
        }
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
    let directory = Directory::new(files);
    let chain = directory.chain();
    if let Some(damage) = directory.above(chain.first()) {
        return Found::Damage(damage);
    }
    if !directory.told && files.iter().any(|file| directory.is_elsewhere(file)) {
        return Found::Damage("a segment lies under another name".to_owned());
    }
    let Tail { bad, beyond, evidence } = directory.tail(&chain);
    let Some((at, x)) = bad.last().copied() else {
        return match evidence {
            0 if directory.segments.is_empty() && directory.shown > 0 => {
                Found::Damage(format!("no segments, and readers saw records up to {}", directory.shown))
            }
            0 if directory.front == 0 && beyond == 0 => Found::Nothing,
            0 if directory.front == 0 => Found::Log(Log { torn: true, padded: true, ..Log::default() }),
            _ => Found::Damage(format!("no segments, and {evidence} was durable, {} cleaned", directory.front)),
        };
    };
    let last = directory.segment(&chain[at]);
    if last.frame((x - last.base) as usize).is_some() {
        return Found::TooNew;
    }
    let end = last.batch_end(x);
    if let Some(damage) = directory.lengths(&chain, end) {
        return Found::Damage(damage);
    }
    if evidence > end {
        return Found::Damage(format!("{evidence} was durable, and the log ends at {end}"));
    }
    let below = |n: usize| if n == at { end } else { directory.ends(&chain, n) };
    let kept: Vec<_> = (at..chain.len())
        .rev()
        .flat_map(|n| directory.segment(&chain[n]).below(below(n)).collect::<Vec<_>>())
        .collect();
    Found::Log(Log {
        first: chain.last().copied().unwrap_or(0),
        end,
        torn: beyond > 0 || end < x || last.begun(x),
        padded: kept.iter().all(|(segment, frame)| segment.padded(frame)),
        records: kept.into_iter().filter(|(_, frame)| matches!(frame.kind, 1 | 2)).map(record).collect(),
    })
}

/// The bytes with a sound header, if one byte of it is wrong at most.
fn with_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in (0..72.min(bytes.len())).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
        let right = std::mem::replace(&mut bytes[at], byte);
        if spec::is_header(&bytes) {
            return Some(bytes);
        }
        bytes[at] = right;
    }
    None
}

/// The files that are read: those from the front on.
struct Directory {
    /// What MARK says.
    synced: u64,
    shown: u64,
    /// Both of its slots, and a segment's link, tell of all that there was.
    told: bool,
    /// Above all segments with a link.
    above: u64,
    /// Of which log segments and MARK are, as far as they are.
    logs: Vec<Vec<u8>>,
    front: u64,
    /// By their names; `None` without a header that may be under this name.
    segments: BTreeMap<u64, Option<Segment>>,
    links: BTreeMap<u64, Link>,
}

/// What is known of the end.
struct Tail {
    /// Bad places of what is not proven, the newest first: the segment's place in the chain, and the LSN.
    bad: Vec<(usize, u64)>,
    /// Valid frames beyond the lowest of them.
    beyond: usize,
    /// The highest claim.
    evidence: u64,
}

impl Directory {
    fn new(files: &BTreeMap<String, Vec<u8>>) -> Directory {
        let mark = files.get("MARK").map_or(&[][..], Vec::as_slice);
        let based = |name: &str| name.strip_suffix(".wal").filter(|digits| digits.len() == 20)?.parse::<u64>().ok();
        let named = files.iter().filter_map(|(name, bytes)| based(name).map(|base| (base, bytes)));
        let mut segments: BTreeMap<_, _> = named.map(|(base, bytes)| (base, Segment::new(base, bytes))).collect();
        let linked = segments.iter().filter_map(|(base, segment)| Some((*base, segment.as_ref()?.link()?)));
        let mut links: BTreeMap<_, _> = linked.collect();
        let mut logs = spec::logs(mark);
        let told = logs.len() == 2 && !links.is_empty();
        let above = links.keys().next_back().map_or(0, |base| base + 1);
        logs.extend(segments.values().flatten().map(|segment| segment.bytes[32..48].to_vec()));
        let front = links.values().map(|link| link.front).chain([spec::front(mark)]).max().unwrap_or(0);
        segments.retain(|base, _| *base >= front);
        links.retain(|base, _| *base >= front);
        Directory { synced: spec::synced(mark), shown: spec::shown(mark), told, above, logs, front, segments, links }
    }

    /// Whether a file that is none by its name was begun as a segment of this log: by its header, be one byte of that wrong, and
    /// its link.
    fn is_elsewhere(&self, (name, bytes): (&String, &Vec<u8>)) -> bool {
        let is_named = |end: &str| name.len() == 24 && name.ends_with(end);
        if is_named(".wal") || name.contains(".aside") {
            return false;
        }
        let Some(bytes) = with_header(bytes) else { return false };
        let (base, log) = (u64_at(&bytes, 48), &bytes[32..48]);
        let is_ours = self.logs.is_empty() || self.logs.iter().any(|ours| ours == log);
        let is_free = base >= self.front.max(self.above) && !self.segments.contains_key(&base);
        // A repair that ends early leaves an unfinished one with a link alone.
        let least = if is_named(".new") { 2 } else { 1 };
        let begun = |segment: Segment| segment.link().is_some() && segment.frames.len() >= least;
        is_ours && is_free && Segment::new(base, &bytes).is_some_and(begun)
    }

    /// One whose header is sound.
    fn segment(&self, base: &u64) -> &Segment {
        self.segments[base].as_ref().unwrap()
    }

    /// From the tip down: the highest segment from which links lead to where the log begins.
    fn chain(&self) -> Vec<u64> {
        self.segments.keys().rev().find_map(|base| self.down(*base)).unwrap_or_default()
    }

    fn down(&self, top: u64) -> Option<Vec<u64>> {
        let mut way = vec![top];
        loop {
            let base = *way.last()?;
            let link = self.links.get(&base)?;
            let Some(prev) = link.prev.filter(|_| base != self.front) else { return Some(way) };
            if !self.is_meant(prev, link.seed) {
                return None;
            }
            way.push(prev);
        }
    }

    /// Whether the segment that a link means lies at its base.
    fn is_meant(&self, base: u64, seed: u32) -> bool {
        self.segments.get(&base).is_some_and(|there| there.as_ref().is_some_and(|segment| segment.seed == seed))
    }

    /// Where the chain's segment `n` ends, by the link of the one above it.
    fn ends(&self, chain: &[u64], n: usize) -> u64 {
        self.links[&chain[n - 1]].end
    }

    /// What no crash leaves above the tip, or anywhere if there is none.
    fn above(&self, tip: Option<&u64>) -> Option<String> {
        self.segments.iter().filter(|(base, _)| tip.is_none_or(|tip| *base > tip)).find_map(|(base, segment)| {
            let prev = self.links.get(base).and_then(|link| link.prev).filter(|prev| *prev >= self.front);
            match prev {
                _ if segment.is_none() => Some(format!("no header at {base}")),
                _ if segment
                    .as_ref()
                    .is_some_and(|segment| segment.length != BLOCK && segment.length < BLOCK + 104) =>
                {
                    Some(format!("{base} is too short for a link"))
                }
                _ if segment.as_ref().is_some_and(|segment| segment.length != BLOCK && self.is_cut(*base, segment)) => {
                    Some(format!("{base} is shorter than the next link says"))
                }
                _ if segment.as_ref().is_some_and(|segment| segment.length != BLOCK && segment.is_short())
                    && !self.links.contains_key(base) =>
                {
                    Some(format!("{base} has no link and is shorter than it was made"))
                }
                Some(prev) if !self.is_meant(prev, self.links[base].seed) => {
                    Some(format!("{base} follows {prev}, which is missing or another"))
                }
                _ => None,
            }
        })
    }

    /// Whether a segment ends before the highest link that names it says.
    fn is_cut(&self, base: u64, segment: &Segment) -> bool {
        let named = self.links.values().rev().find(|link| link.prev == Some(base) && link.seed == segment.seed);
        named.is_some_and(|link| base + (segment.length as u64) < link.end)
    }

    fn tail(&self, chain: &[u64]) -> Tail {
        let links = self.links.keys().map(|base| self.segment(base)).map(|linked| linked.claims(linked.frames.first()));
        let mut proven = links.max().unwrap_or(0).max(self.synced);
        let mut bad = Vec::new();
        for (n, base) in chain.iter().enumerate() {
            let segment = self.segment(base);
            if n > 0 && self.ends(chain, n) <= proven {
                break;
            }
            proven = proven.max(segment.claims(&segment.frames));
            if n == 0 || segment.bad() < self.ends(chain, n) {
                bad.push((n, segment.bad()));
            }
        }
        let (at, x) = bad.last().copied().unwrap_or((0, 0));
        let void = self.segments.keys().filter(|base| chain.first().is_none_or(|tip| *base > tip));
        let places = void.map(|base| (*base, base + BLOCK as u64)).chain(bad.iter().map(|(n, lsn)| (chain[*n], *lsn)));
        let (mut beyond, mut evidence) = (0, proven);
        for (base, from) in places {
            let segment = self.segment(&base);
            let frames = segment.beyond(from);
            evidence = evidence.max(segment.claims(&frames));
            beyond += frames.iter().filter(|frame| base + frame.at as u64 > x).count();
        }
        beyond += chain[..at].iter().map(|base| self.segment(base).frames.len()).sum::<usize>();
        Tail { bad, beyond, evidence }
    }

    /// What is shorter than any crash leaves it.
    fn lengths(&self, chain: &[u64], end: u64) -> Option<String> {
        chain.iter().enumerate().find_map(|(n, base)| {
            let length = base + self.segment(base).bytes.len() as u64;
            let whole = if n > 0 { self.ends(chain, n) } else { base + self.segment(base).capacity };
            let closed = n == 0 && length == end && end == self.synced;
            (length < whole && !closed).then(|| format!("{base} ends at {length}"))
        })
    }
}

impl Segment {
    fn is_short(&self) -> bool {
        (self.length as u64) < self.capacity
    }

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
