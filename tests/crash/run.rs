//! One run: a script drawn from a seed, on a disk that crashes, with every opening held against the model.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use seawall::sim::{Bug, Disk, Fault, Keep, Operation};
use seawall::{Cursor, Durability, ErrorKind, Kind, Lsn, Options, Ticket, Wal};

use crate::model::{Batch, CURSORS, Model, framed};
use crate::second;
use crate::views::beside;

/// What may happen in a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub faults: bool,
    /// The disk gets full.
    pub full: bool,
    /// With `Durability::Os`.
    pub os: bool,
    /// Only processes die.
    pub kills_only: bool,
    pub bug: Option<Bug>,
    pub talk: bool,
}

impl Plan {
    pub fn crashes() -> Plan {
        Plan { faults: false, full: false, os: false, kills_only: false, bug: None, talk: false }
    }

    pub fn faults() -> Plan {
        Plan { faults: true, ..Plan::crashes() }
    }

    pub fn full() -> Plan {
        Plan { full: true, ..Plan::crashes() }
    }

    pub fn kills() -> Plan {
        Plan { os: true, kills_only: true, ..Plan::crashes() }
    }

    pub fn unsynced() -> Plan {
        Plan { os: true, ..Plan::crashes() }
    }

    fn options(&self) -> Options {
        let durability = if self.os { Durability::Os } else { Durability::Disk };
        let options = Options::new().segment_size(16 << 10).durability(durability);
        match self.bug {
            Some(bug) => options.plant(bug),
            None => options,
        }
    }
}

/// How many crash states were checked, by the call that the crash met.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub by_operation: HashMap<&'static str, u64>,
}

impl Counts {
    pub fn states(&self) -> u64 {
        self.by_operation.values().sum()
    }

    pub fn add(&mut self, other: &Counts) {
        for (operation, states) in &other.by_operation {
            *self.by_operation.entry(operation).or_default() += states;
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub struct Run<'a> {
    pub plan: &'a Plan,
    pub disk: Disk,
    pub model: Model,
    pub random: Random,
    counts: Counts,
    /// The call that is under way.
    operation: &'static str,
    /// Distinguishes payloads.
    serial: u32,
    time: u64,
    pub tickets: Vec<(u64, Ticket<'static>)>,
    /// A call was made to fail in this life.
    pub faulty: bool,
    /// Writes find the disk full, from one of this life on: nobody may wait for the disk.
    pub full: bool,
    /// Payloads held in this life, and copies of them.
    holds: bool,
    /// Cursors are used in this run.
    cursors: bool,
    held: Vec<(Vec<u8>, Bytes)>,
}

/// Runs one seed; `Err` is a broken promise.
pub fn run(plan: &Plan, seed: u64) -> Result<Counts, String> {
    let mut run = Run {
        plan,
        disk: Disk::new(seed),
        model: Model::default(),
        random: Random::new(seed),
        counts: Counts::default(),
        operation: "open",
        serial: 0,
        time: 0,
        tickets: Vec::new(),
        faulty: false,
        full: false,
        holds: false,
        cursors: false,
        held: Vec::new(),
    };
    run.cursors = run.random.one_in(3);
    let lives = 2 + run.random.below(5);
    for _ in 0..lives {
        run.life()?;
        run.power_cut()?;
    }
    Ok(run.counts)
}

impl Run<'_> {
    /// Opens, makes calls until the power goes or the script ends.
    fn life(&mut self) -> Result<(), String> {
        (self.faulty, self.full) = (false, false);
        self.holds = self.random.one_in(3);
        let point = match self.random.below(4) {
            0 => 1 + self.random.below(12),
            _ => 1 + self.random.below(90),
        };
        self.disk.crash_torn_at(point);
        if self.plan.faults && self.random.one_in(2) {
            self.inject();
        } else if self.plan.faults {
            // The cache forgets while the log is opened, which is no fault.
            let nth = 1 + self.random.below(16);
            self.disk.fail(Fault::new(Operation::Read).on(".wal").nth(nth).forgetting());
        }
        if self.plan.full {
            self.fill();
        }
        self.operation = "open";
        self.say("open", &());
        let wal = match self.plan.options().open_on(self.disk.mount()) {
            Ok(wal) => wal,
            Err(_) if self.disk.crashed() || self.faulty => return Ok(()),
            Err(e) => return Err(format!("the log does not open: {e}")),
        };
        // A fault may have struck what the log may go on after; reading back may then meet the crash.
        let mut checked = self.model.clone();
        match checked.check(&wal) {
            Err(_) if self.disk.crashed() => return Ok(()),
            checked_now => checked_now?,
        }
        self.model = checked;
        for _ in 0..self.random.below(40) {
            if self.disk.crashed() {
                break;
            }
            self.call(&wal)?;
        }
        self.tickets.clear();
        if self.random.one_in(3) {
            self.operation = "close";
            if wal.close().is_ok() {
                self.model.all_kept();
            }
        }
        self.let_go()?;
        // Not closed by dropping it: what a drop writes comes after the power is gone.
        let rest = self.disk.fork();
        self.disk.crash_at(0);
        drop(wal);
        self.disk = rest;
        Ok(())
    }

    fn inject(&mut self) {
        let operations = [
            Operation::Sync,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Write,
            Operation::Create,
            Operation::Rename,
            Operation::Remove,
            Operation::Allocate,
            Operation::SetLen,
            Operation::Read,
        ];
        let operation = operations[self.random.below(operations.len() as u64) as usize];
        let mut fault = Fault::new(operation).nth(1 + self.random.below(20));
        if operation == Operation::Allocate || self.random.one_in(6) && operation != Operation::Write {
            fault = fault.kind(std::io::ErrorKind::StorageFull);
        } else if operation == Operation::Write && self.random.one_in(2) {
            fault = fault.partial(self.random.below(3000) as usize);
        } else if operation == Operation::Sync && self.random.one_in(2) {
            fault = fault.forgetting();
        }
        if self.random.one_in(3) {
            fault = fault.for_good();
        }
        self.say("fault", &fault);
        self.disk.fail(fault);
        self.faulty = true;
    }

    pub fn say(&self, what: &str, with: &dyn std::fmt::Debug) {
        if self.plan.talk {
            println!("{:>4} {what} {with:?}", self.disk.operations());
        }
    }

    fn call(&mut self, wal: &Wal) -> Result<(), String> {
        let choice = self.random.below(24);
        match choice {
            0..=8 => self.append(wal, 1, Kind::Record),
            9..=11 => {
                let count = 2 + self.random.below(4) as usize;
                self.append(wal, count, Kind::Record)
            }
            12..=13 => self.append(wal, 1, Kind::Checkpoint),
            14..=16 => self.wait(),
            17 => self.sync(wal),
            18 => self.plain("rotate", |_, wal| wal.rotate(), wal),
            19..=20 => self.clean(wal),
            21 => self.look(wal),
            22 if self.cursors && !self.full => self.cursor(wal),
            _ => {
                self.operation = "background";
                self.disk.advance(Duration::from_millis(10));
                let stepped = self.disk.step();
                self.say("step", &stepped);
                Ok(())
            }
        }
    }

    fn plain(
        &mut self,
        name: &'static str,
        call: impl Fn(&mut Self, &Wal) -> seawall::Result<()>,
        wal: &Wal,
    ) -> Result<(), String> {
        self.operation = name;
        let result = call(self, wal);
        self.say(name, &result);
        self.allowed(name, result)
    }

    /// An error is a broken promise unless something was made to fail.
    fn allowed(&self, what: &str, result: seawall::Result<()>) -> Result<(), String> {
        match result {
            Err(e) if !self.disk.crashed() && !self.faulty => Err(format!("{what}: {e}")),
            _ => Ok(()),
        }
    }

    fn append(&mut self, wal: &Wal, count: usize, kind: Kind) -> Result<(), String> {
        self.operation = match kind {
            Kind::Checkpoint => "checkpoint",
            _ if count > 1 => "batch",
            _ => "append",
        };
        let payloads: Vec<_> = (0..count).map(|_| self.payload(count)).collect();
        self.time += self.random.below(3);
        let time = self.time.saturating_sub(self.random.below(3));
        let batch = Batch { payloads: payloads.clone(), time, kind, lsn: None };
        let at = wal.at(time);
        let appended = match kind {
            Kind::Checkpoint => at.append_checkpoint(&payloads[0]),
            _ if count > 1 => at.append_batch(&payloads),
            _ if self.random.one_in(4) => at.append_parts(&[&payloads[0][..4], &payloads[0][4..]]),
            _ => at.append(&payloads[0]),
        };
        self.say(self.operation, &appended.as_ref().map(Ticket::lsn));
        match appended {
            Ok(ticket) => {
                let lsn = ticket.lsn().0;
                self.model.appended(batch, lsn)?;
                self.tickets.push((lsn, ticket.into_owned()));
                if self.random.one_in(3) { self.wait() } else { Ok(()) }
            }
            Err(e) if *e.kind() == ErrorKind::Poisoned => {
                // Failed while the log was: it may be there, but only if nothing later was accepted.
                self.model.unknown.get_or_insert(batch);
                self.allowed("append", Err(e))
            }
            Err(e) => self.allowed("append", Err(e)),
        }
    }

    fn payload(&mut self, count: usize) -> Vec<u8> {
        let longest = if count > 1 { 1200 } else { 3000 };
        let length = match self.random.below(8) {
            0 => 0,
            1..=4 => self.random.below(200),
            _ => self.random.below(longest),
        };
        self.serial += 1;
        let mut payload = self.serial.to_le_bytes().to_vec();
        payload.resize(4 + length as usize, self.serial as u8);
        payload
    }

    fn wait(&mut self) -> Result<(), String> {
        if self.tickets.is_empty() {
            return Ok(());
        }
        self.operation = "wait";
        let index = self.random.below(self.tickets.len() as u64) as usize;
        let (lsn, ticket) = self.tickets.swap_remove(index);
        if self.full {
            return self.wait_without_end(lsn, ticket);
        }
        let result = ticket.wait();
        self.say("wait", &result);
        if result.is_ok() && (!self.plan.os || self.plan.kills_only) {
            self.model.acknowledged(lsn);
        }
        self.allowed("wait", result.map(drop))
    }

    fn sync(&mut self, wal: &Wal) -> Result<(), String> {
        self.operation = "wait";
        if self.full {
            self.empty();
        }
        let result = wal.sync();
        self.say("sync", &result);
        if result.is_ok() {
            self.model.all_kept();
        }
        self.allowed("sync", result.map(drop))
    }

    fn cursor(&mut self, wal: &Wal) -> Result<(), String> {
        self.operation = "cursor";
        let name = CURSORS[self.random.below(2) as usize];
        let before = framed(wal);
        let result = if !wal.cursors().contains_key(name) {
            let made = wal.cursor(name).map(drop);
            self.model.noted(wal, framed(wal) > before);
            if made.is_ok() && (!self.plan.os || self.plan.kills_only) {
                self.model.all_kept();
            }
            made
        } else if self.random.one_in(6) {
            wal.cursor(name).and_then(Cursor::remove)
        } else {
            let part = 1 + self.random.below(4);
            wal.cursor(name).and_then(|cursor| cursor.release(Lsn(wal.durable_lsn().0 / part)))
        };
        self.model.noted(wal, framed(wal) > before);
        self.say("cursor", &(name, wal.cursors(), &result));
        self.allowed("cursor", result)
    }

    fn clean(&mut self, wal: &Wal) -> Result<(), String> {
        self.operation = "clean";
        self.model.cleans(wal);
        let result = if self.random.one_in(2) {
            let lsn = self.random.below(self.model.highest + 2);
            self.model.clean_lsn = self.model.clean_lsn.max(lsn);
            wal.clean_before_lsn(Lsn(lsn))
        } else {
            let time = self.random.below(self.time + 2);
            self.model.clean_time = self.model.clean_time.max(time);
            wal.clean_before_batch_time(time)
        };
        self.say("clean", &result);
        if let Ok(cleaned) = &result {
            // On a full disk it goes on with what is durable: that may be nothing yet, of a log that begins in memory.
            if !self.full || !cleaned.removed.is_empty() {
                self.model.front = self.model.front.max(cleaned.first.0);
            }
            if self.full {
                self.model.durable(wal.durable_lsn().0);
            } else {
                self.model.all_kept();
            }
        }
        self.allowed("clean", result.map(drop))
    }

    /// Reads beside the writer: what is durable, and nothing else.
    fn look(&mut self, wal: &Wal) -> Result<(), String> {
        if self.faulty || self.disk.crashed() {
            return Ok(());
        }
        let shown = wal.durable_lsn();
        let mut lsns = Vec::new();
        for record in wal.read(..).map_err(|e| e.to_string())? {
            lsns.push(record.map_err(|e| format!("reading beside appends: {e}"))?.lsn);
        }
        if lsns.last().is_some_and(|last| *last >= shown) {
            return Err("a record was shown that is not durable".to_owned());
        }
        // Bytes that are held keep their file from being recycled.
        if let Some(lsn) = lsns.get(self.random.below(lsns.len().max(1) as u64) as usize).filter(|_| self.holds) {
            let payload = wal.get(*lsn).map_err(|e| e.to_string())?.payload;
            self.held.push((payload.to_vec(), payload));
        }
        Ok(())
    }

    /// What was handed out has not changed under its holders.
    fn let_go(&mut self) -> Result<(), String> {
        let changed = self.held.drain(..).any(|(before, payload)| payload != before);
        match self.disk.violations().first() {
            Some(violation) => Err(violation.clone()),
            None if changed => Err("bytes that were handed out have changed".to_owned()),
            None => Ok(()),
        }
    }

    /// Cuts the power, looks at what may be left, goes on with one of it.
    fn power_cut(&mut self) -> Result<(), String> {
        self.disk.heal();
        if self.plan.kills_only || self.random.one_in(8) {
            self.disk.kill();
            self.state(&self.disk.fork(), self.random.0)?;
            return Ok(());
        }
        let dirty = self.disk.dirty_units();
        let (enumerated, count) = if dirty <= 4 { (true, 1 << dirty) } else { (false, 10) };
        for n in 0..count {
            let disk = self.disk.fork();
            let seed = self.random.next();
            match (enumerated, n) {
                (true, mask) => disk.crash(Keep::Mask(mask)),
                (false, 0) => disk.crash(Keep::None),
                (false, 1) => disk.crash(Keep::All),
                (false, _) => disk.crash(Keep::Random(seed)),
            }
            self.state(&disk, seed)?;
        }
        let seed = self.random.next();
        self.say("power cut, going on with", &seed);
        self.disk.crash(Keep::Random(seed));
        Ok(())
    }

    /// Opens one state that is left, holds it against the model, appends, crashes and opens once more.
    fn state(&mut self, disk: &Disk, seed: u64) -> Result<(), String> {
        *self.counts.by_operation.entry(self.operation).or_default() += 1;
        let mut random = Random::new(seed);
        let mut model = self.model.clone();
        if random.one_in(4) {
            // The recovery crashes too.
            disk.crash_torn_at(1 + random.below(6));
            let opened = self.plan.options().open_on(disk.mount());
            let rest = disk.fork();
            disk.crash_at(0);
            drop(opened);
            self.go_down(&rest, random.next());
            return self.open_and_check(&rest, &mut model, &mut random);
        }
        self.open_and_check(disk, &mut model, &mut random)
    }

    /// The machine goes down, or only the process where that is all the durability promises.
    fn go_down(&self, disk: &Disk, seed: u64) {
        if self.plan.kills_only { disk.kill() } else { disk.crash(Keep::Random(seed)) }
    }

    fn open_and_check(&mut self, disk: &Disk, model: &mut Model, random: &mut Random) -> Result<(), String> {
        let second = (random.one_in(4) && self.plan.bug.is_none()).then(|| second::look(disk));
        let wal = self.plan.options().open_on(disk.mount());
        if let Some(second) = second {
            let padded = !matches!(&second, second::Found::Log(log) if !log.padded);
            let agrees = if padded { second.agrees(&wal) } else { Err("padding that is no zeros".to_owned()) };
            agrees.map_err(|e| format!("after a crash in {}: {e}", self.operation))?;
        }
        let wal = wal.map_err(|e| format!("after a crash in {}: the log does not open: {e}", self.operation))?;
        model.check(&wal).map_err(|e| format!("after a crash in {}: {e}", self.operation))?;
        if self.plan.bug.is_none() && random.one_in(8) {
            beside(&wal, disk, &self.plan.options())
                .map_err(|e| format!("after a crash in {}: {e}", self.operation))?;
        }
        if random.one_in(3) {
            let payload = vec![b'n'; random.below(2000) as usize];
            let batch = Batch { payloads: vec![payload.clone()], time: 0, kind: Kind::Record, lsn: None };
            let ticket = wal.at(0).append(&payload).map_err(|e| format!("append after recovery: {e}"))?;
            let lsn = ticket.lsn().0;
            model.appended(batch, lsn)?;
            if random.one_in(2) {
                ticket.wait().map_err(|e| format!("wait after recovery: {e}"))?;
                if self.plan.os && !self.plan.kills_only {
                    wal.sync().map_err(|e| format!("sync after recovery: {e}"))?;
                }
                model.acknowledged(lsn);
            }
            if random.one_in(2) {
                disk.settle();
            }
            let rest = disk.fork();
            disk.crash_at(0);
            drop(wal);
            self.go_down(&rest, random.next());
            let wal = self.plan.options().open_on(rest.mount());
            let wal = wal.map_err(|e| format!("after a crash behind a recovery: the log does not open: {e}"))?;
            return model.check(&wal).map_err(|e| format!("after a crash behind a recovery: {e}"));
        }
        Ok(())
    }
}
