//! A reader and a follower in another process beside a writer, on one disk: they see what is durable, and nothing else.
//!
//! The input is a program: one byte for a step, then its operands; what is missing at the end reads as 0.

use seawall::sim::{Bug, Disk};
use seawall::{ErrorKind, Follower, Kind, Lsn, Options, ReadOnly, Record, Wal};

use super::appended::Row;
use super::input::Input;

/// The steps of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Length (2).
    Append,
    /// How many, length of each.
    Batch,
    Checkpoint,
    Sync,
    Rotate,
    /// Up to where, in 256ths of what is durable.
    Clean,
    /// Background work that is due, and time.
    Settle,
    /// The reader looks again.
    Look,
    /// It reads all.
    Read,
    /// It asks for one, in 256ths of what there was.
    Get,
    /// It asks for the last checkpoint.
    LastCheckpoint,
    /// The follower goes on, by how many at most.
    Next,
    /// The reader opens anew; the follower goes on with that.
    Open,
    /// Both processes are killed, and begin again.
    Kill,
}

const ALL: [Step; 14] = [
    Step::Append,
    Step::Batch,
    Step::Checkpoint,
    Step::Sync,
    Step::Rotate,
    Step::Clean,
    Step::Settle,
    Step::Look,
    Step::Read,
    Step::Get,
    Step::LastCheckpoint,
    Step::Next,
    Step::Open,
    Step::Kill,
];

const STEPS: usize = 160;

/// Runs a program.
pub fn run(input: &[u8]) {
    run_with(input, None);
}

/// The same with a safety of the writer's taken out.
pub fn run_with(input: &[u8], bug: Option<Bug>) {
    let options = Options::new().segment_size(16 << 10);
    let writer = bug.map_or_else(|| options.clone(), |bug| options.clone().plant(bug));
    let (mut input, disk) = (Input(input), Disk::new(3));
    let mut wal = writer.open_on(disk.mount()).expect("a new log opens");
    let (mut truth, mut position, mut steps) = (Truth::default(), Lsn::ZERO, 0);
    // There is no log to be read before its first record is durable.
    for step in [Step::Checkpoint, Step::Sync] {
        truth.write(&wal, &disk, step, &mut Input(&[]));
    }
    loop {
        let view = options.open_read_only_on(disk.mount()).expect("a sound log opens beside a writer");
        let mut follower = view.follow(position);
        let step = loop {
            steps += 1;
            if input.is_empty() || steps > STEPS {
                return end(&wal, &view, &mut follower, &truth, position);
            }
            let step = ALL.get(usize::from(input.byte()) % ALL.len()).copied().unwrap_or(Step::Look);
            match step {
                Step::Look => {
                    let shown = view.look().expect("a sound log is looked at");
                    assert!(shown <= wal.durable_lsn(), "up to {shown} is shown, and not durable");
                }
                Step::Read => truth.read(&view, &wal),
                Step::Get => truth.get(&view, usize::from(input.byte())),
                Step::LastCheckpoint => truth.checkpoint(&view),
                Step::Next => {
                    let most = usize::from(input.byte()) + 1;
                    truth.follow(&view, &mut follower, &mut position, &wal, most);
                }
                Step::Open | Step::Kill => break step,
                step => truth.write(&wal, &disk, step, &mut input),
            }
        };
        drop(follower);
        drop(view);
        if step == Step::Kill {
            disk.kill();
            drop(wal);
            wal = writer.open_on(disk.mount()).expect("a killed log opens");
            truth.opened(&wal);
        }
    }
}

/// Once the log is closed, nothing is left to be shown.
fn end<'a>(wal: &Wal, view: &'a ReadOnly, follower: &mut Follower<'a>, truth: &Truth, mut position: Lsn) {
    wal.close().expect("a sound log closes");
    view.look().expect("a closed log is looked at");
    truth.follow(view, follower, &mut position, wal, usize::MAX);
    let last = truth.rows.last().map_or(0, |row| row.0);
    assert!(truth.rows.is_empty() || position.0 > last, "the follower is at {position}, the last record at {last}");
    truth.read(view, wal);
}

/// What was appended, in order, and up to where it was cleaned.
#[derive(Debug, Default)]
struct Truth {
    rows: Vec<Row>,
    front: u64,
    count: u8,
}

fn row(record: &Record) -> Row {
    (record.lsn.0, record.kind == Kind::Checkpoint, record.payload.to_vec())
}

impl Truth {
    fn payload(&mut self, length: usize) -> Vec<u8> {
        self.count = self.count.wrapping_add(1);
        vec![self.count; length]
    }

    fn write(&mut self, wal: &Wal, disk: &Disk, step: Step, input: &mut Input<'_>) {
        match step {
            Step::Append | Step::Batch => {
                let (count, length) = match step {
                    Step::Append => (1, input.short() % 6000),
                    _ => (1 + input.byte() % 5, usize::from(input.byte()) * 4),
                };
                let payloads: Vec<_> = (0..count).map(|_| self.payload(length)).collect();
                let mut lsn = wal.append_batch(&payloads).expect("there is room").lsn().0;
                lsn -= u64::from(count - 1) * (24 + length.next_multiple_of(4) as u64);
                for payload in payloads {
                    let size = 24 + payload.len().next_multiple_of(4) as u64;
                    self.rows.push((lsn, false, payload));
                    lsn += size;
                }
            }
            Step::Checkpoint => {
                let payload = self.payload(9);
                let lsn = wal.append_checkpoint(&payload).expect("there is room").lsn().0;
                self.rows.push((lsn, true, payload));
            }
            Step::Sync => _ = wal.sync().expect("no sync fails"),
            Step::Rotate => wal.rotate().expect("there is room"),
            Step::Clean => {
                let limit = wal.durable_lsn().0 / 256 * (u64::from(input.byte()) + 1);
                let cleaned = wal.clean_before_lsn(Lsn(limit)).expect("nothing fails");
                self.front = self.front.max(cleaned.first.0);
            }
            _ => {
                disk.advance(std::time::Duration::from_millis(20));
                disk.settle();
            }
        }
    }

    /// A killed writer loses what it had not written.
    fn opened(&mut self, wal: &Wal) {
        let last = wal.read(..).expect("it is read").last().map(|record| record.expect("it is sound").lsn.0);
        self.rows.retain(|row| row.0 < self.front || last.is_some_and(|last| row.0 <= last));
    }

    /// The index of the first record at or above an LSN.
    fn at(&self, lsn: u64) -> usize {
        self.rows.partition_point(|row| row.0 < lsn)
    }

    /// Whether one that reads on from an LSN may be told that what comes next is gone.
    fn is_cleaned(&self, from: u64) -> bool {
        self.rows.get(self.at(from)).map_or(self.front > from, |row| row.0 < self.front)
    }

    fn read(&self, view: &ReadOnly, wal: &Wal) {
        let mut next = None;
        for record in view.read(..).expect("a range is read") {
            let place = next.map_or(0, |next: usize| self.rows.get(next).map_or(u64::MAX, |row| row.0));
            match record {
                Ok(record) => {
                    let index = self.at(record.lsn.0);
                    assert!(next.is_none_or(|next| next == index), "{} after another than before", record.lsn);
                    let before = self.rows.get(..index).unwrap_or_default();
                    assert!(next.is_some() || before.iter().all(|row| row.0 < self.front), "begins at {}", record.lsn);
                    assert!(record.lsn < wal.durable_lsn(), "{} is shown, and not durable", record.lsn);
                    assert_eq!(self.rows.get(index), Some(&row(&record)));
                    next = Some(index + 1);
                }
                Err(e) => {
                    let removed = matches!(e.kind(), ErrorKind::Removed { .. });
                    assert!(removed && (next.is_none() && self.front > 0 || self.is_cleaned(place)), "{e} at {place}");
                    return;
                }
            }
        }
    }

    fn get(&self, view: &ReadOnly, part: usize) {
        let Some(wanted) = self.rows.get(self.rows.len() * part / 256) else { return };
        match view.get(Lsn(wanted.0)) {
            Ok(record) => assert_eq!(row(&record), *wanted),
            Err(e) => match e.kind() {
                ErrorKind::Removed { .. } => assert!(wanted.0 < self.front, "{e}"),
                ErrorKind::NotDurable { .. } => assert!(wanted.0 >= view.durable_lsn().0, "{e}"),
                _ => panic!("{e}"),
            },
        }
    }

    fn checkpoint(&self, view: &ReadOnly) {
        match view.checkpoint() {
            Ok(found) => {
                let shown = self.rows.iter().rfind(|row| row.1 && row.0 < view.durable_lsn().0);
                let found = found.map(|record| row(&record));
                assert!(found.as_ref() == shown || found.is_none() && self.front > 0, "{found:?}, not {shown:?}");
            }
            Err(e) => assert!(matches!(e.kind(), ErrorKind::Removed { .. }) && self.front > 0, "{e}"),
        }
    }

    /// Goes on with the follower, over what was cleaned.
    fn follow<'a>(&self, view: &'a ReadOnly, follower: &mut Follower<'a>, position: &mut Lsn, wal: &Wal, most: usize) {
        for _ in 0..most {
            match follower.try_next() {
                Ok(None) => break,
                Ok(Some(record)) => {
                    let passed = self.rows.get(self.at(position.0)..self.at(record.lsn.0));
                    let passed = passed.expect("it goes upward");
                    // From the beginning on is from the first that is left.
                    let begins = position.0 == 0 && passed.iter().all(|row| row.0 < self.front);
                    assert!(passed.is_empty() || begins, "from {position} to {}", record.lsn);
                    assert!(record.lsn < wal.durable_lsn(), "{} is shown, and not durable", record.lsn);
                    assert_eq!(self.rows.get(self.at(record.lsn.0)), Some(&row(&record)));
                    *position = follower.position();
                }
                Err(e) => {
                    let ErrorKind::Removed { first, .. } = *e.kind() else { panic!("{e}") };
                    let passed = self.rows.get(self.at(position.0)..self.at(first.0)).expect("it goes upward");
                    assert!(self.is_cleaned(position.0), "{e}, from {position} on");
                    assert!(passed.iter().all(|row| row.0 < self.front), "{e}, and the front is {}", self.front);
                    *position = first;
                    *follower = view.follow(first);
                }
            }
        }
    }
}

/// The seeds, by name.
#[allow(clippy::too_many_lines, reason = "a table")]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let op = |step: Step| vec![step as u8];
    let append = |length: u16| [&op(Step::Append)[..], &length.to_le_bytes()].concat();
    let with = |step: Step, operand: u8| vec![step as u8, operand];
    let look = || [op(Step::Look), with(Step::Next, 255), op(Step::Read), with(Step::Get, 200)].concat();
    let written = || [append(700), append(2000), vec![Step::Batch as u8, 3, 100], op(Step::Sync)].concat();
    let recycled = || {
        [append(5000).repeat(3), op(Step::Sync), op(Step::Settle), with(Step::Clean, 250), op(Step::Settle)].concat()
    };
    vec![
        ("empty", vec![]),
        ("synced", [written(), look(), written(), look()].concat()),
        (
            "not-synced",
            [written(), append(50), append(5000), look(), append(5000), look(), op(Step::Sync), look()].concat(),
        ),
        (
            "rotated",
            [written(), op(Step::Rotate), look(), written(), op(Step::Rotate), op(Step::Rotate), look()].concat(),
        ),
        (
            "cleaned-behind",
            [written(), op(Step::Rotate), written(), look(), with(Step::Clean, 255), look(), written(), look()]
                .concat(),
        ),
        (
            "cleaned-before",
            [written(), op(Step::Rotate), written(), with(Step::Clean, 255), look(), op(Step::Open), look()].concat(),
        ),
        (
            "overtaken",
            [written(), with(Step::Next, 0), op(Step::Rotate), written(), with(Step::Clean, 255), look()].concat(),
        ),
        (
            "recycled",
            [recycled(), look(), recycled(), recycled(), with(Step::Next, 3), recycled(), recycled(), look()].concat(),
        ),
        (
            "recycled-unseen",
            [with(Step::Next, 0), recycled(), with(Step::Next, 0), recycled().repeat(5), with(Step::Get, 128), look()]
                .concat(),
        ),
        (
            "checkpoints",
            [
                written(),
                op(Step::Checkpoint),
                op(Step::LastCheckpoint),
                op(Step::Sync),
                op(Step::Look),
                op(Step::LastCheckpoint),
                op(Step::Rotate),
                op(Step::Checkpoint),
                written(),
                op(Step::Look),
                op(Step::LastCheckpoint),
            ]
            .concat(),
        ),
        (
            "killed",
            [
                written(),
                append(90),
                op(Step::Kill),
                look(),
                written(),
                op(Step::Kill),
                look(),
                append(9),
                op(Step::Kill),
                look(),
            ]
            .concat(),
        ),
    ]
}
