//! Calls, faults, crashes and openings in any order, held against the model: by steps from anywhere.

use std::time::Duration;

use seawall::sim::{Bug, Disk, Fault, Keep, Operation};
use seawall::{Cursor, ErrorKind, Kind, Lsn, Options, Wal};

use super::model::{Batch, CURSORS, Model, framed};
use super::second;

#[derive(Clone, Debug)]
pub enum Step {
    Append {
        length: usize,
        time: u64,
    },
    Batch {
        lengths: Vec<usize>,
    },
    Checkpoint {
        length: usize,
    },
    Sync,
    Rotate,
    CleanLsn {
        part: u8,
    },
    CleanTime {
        time: u64,
    },
    /// Makes it if it is not there; else moves it to as many 256ths of what is durable, or removes it for 255.
    Cursor {
        name: usize,
        to: u8,
    },
    Background,
    /// The n-th such call from here fails.
    Fail {
        operation: usize,
        nth: u64,
    },
    /// The power goes at once, and what is left is chosen by the seed.
    Crash {
        seed: u64,
    },
    /// The same, chosen by a mask.
    CrashMask {
        mask: u64,
    },
    /// It goes in the middle of a later call.
    CrashLater {
        nth: u64,
        seed: u64,
    },
    Kill,
    Close,
}

pub const FAILING: [Operation; 6] =
    [Operation::Sync, Operation::SyncDir, Operation::Write, Operation::Rename, Operation::Remove, Operation::Create];

pub struct Machine {
    disk: Disk,
    options: Options,
    wal: Option<Wal>,
    model: Model,
    faulty: bool,
    /// What is left when the crash point is met.
    later: u64,
}

impl Machine {
    /// An empty disk, and perhaps a safety taken out.
    pub fn new(bug: Option<Bug>) -> Machine {
        let options = Options::new().segment_size(16 << 10);
        let options = bug.map_or(options.clone(), |bug| options.plant(bug));
        Machine { disk: Disk::new(0), options, wal: None, model: Model::default(), faulty: false, later: 0 }
    }

    /// Brings the log up, over as many crashes as it takes.
    fn up(&mut self) -> Result<&Wal, String> {
        while self.wal.is_none() {
            match self.options.open_on(self.disk.mount()) {
                Ok(wal) => {
                    let checked = self.model.clone().check_into(&wal);
                    match checked {
                        Ok(model) => self.model = model,
                        Err(_) if self.disk.crashed() => {
                            self.down(wal, self.later);
                            continue;
                        }
                        Err(violation) => return Err(violation),
                    }
                    self.wal = Some(wal);
                }
                Err(_) if self.disk.crashed() || self.faulty => {
                    self.disk.heal();
                    self.faulty = false;
                    self.disk.crash(Keep::Random(self.later));
                }
                Err(e) => return Err(format!("the log does not open: {e}")),
            }
        }
        Ok(self.wal.as_ref().unwrap())
    }

    /// The power goes at once.
    fn down(&mut self, wal: Wal, seed: u64) {
        self.down_keeping(wal, Keep::Random(seed));
    }

    fn down_keeping(&mut self, wal: Wal, keep: Keep<'_>) {
        let left = self.disk.fork();
        self.disk.crash_at(0);
        drop(wal);
        self.disk = left;
        self.disk.heal();
        self.faulty = false;
        self.disk.crash(keep);
    }

    fn append(&mut self, kind: Kind, lengths: &[usize], time: u64) -> Result<(), String> {
        let serial = self.model.batches.len();
        let payloads: Vec<Vec<u8>> = lengths.iter().map(|length| vec![serial as u8; *length]).collect();
        let batch = Batch { payloads: payloads.clone(), time, kind, lsn: None };
        let at = self.up()?.at(time);
        let appended = match kind {
            Kind::Checkpoint => at.append_checkpoint(&payloads[0]),
            _ => at.append_batch(&payloads),
        };
        match appended.map(|ticket| ticket.lsn()) {
            Ok(lsn) => self.model.appended(batch, lsn.0),
            Err(e) => {
                if *e.kind() == ErrorKind::Poisoned {
                    self.model.unknown.get_or_insert(batch);
                }
                self.allowed(Err(e))
            }
        }
    }

    fn allowed(&self, result: seawall::Result<()>) -> Result<(), String> {
        match result {
            Err(e) if !self.faulty && !self.disk.crashed() => Err(e.to_string()),
            _ => Ok(()),
        }
    }

    fn clean(&mut self, clean: impl Fn(&Wal) -> seawall::Result<seawall::Cleaned>) -> Result<(), String> {
        self.up()?;
        let wal = self.wal.as_ref().unwrap();
        self.model.cleans(wal);
        let cleaned = clean(wal);
        if let Ok(cleaned) = &cleaned {
            self.model.front = self.model.front.max(cleaned.first.0);
            self.model.all_kept();
        }
        self.allowed(cleaned.map(drop))
    }

    fn cursor(&mut self, name: &str, to: u64) -> Result<(), String> {
        self.up()?;
        let wal = self.wal.as_ref().unwrap();
        let before = framed(wal);
        let result = if !wal.cursors().contains_key(name) {
            let made = wal.cursor(name).map(drop);
            self.model.noted(wal, framed(wal) > before);
            if made.is_ok() {
                self.model.all_kept();
            }
            made
        } else if to == 255 {
            wal.cursor(name).and_then(Cursor::remove)
        } else {
            wal.cursor(name).and_then(|cursor| cursor.release(Lsn(wal.durable_lsn().0 / 256 * to)))
        };
        self.model.noted(wal, framed(wal) > before);
        self.allowed(result)
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Append { length, time } => self.append(Kind::Record, &[*length], *time),
            Step::Batch { lengths } => self.append(Kind::Record, lengths, 3),
            Step::Checkpoint { length } => self.append(Kind::Checkpoint, &[*length], 3),
            Step::Sync => {
                let synced = self.up()?.sync();
                if synced.is_ok() {
                    self.model.all_kept();
                }
                self.allowed(synced.map(drop))
            }
            Step::Rotate => {
                let rotated = self.up()?.rotate();
                self.allowed(rotated)
            }
            Step::CleanLsn { part } => {
                let lsn = self.model.highest / 255 * u64::from(*part);
                self.model.clean_lsn = self.model.clean_lsn.max(lsn);
                self.clean(|wal| wal.clean_before_lsn(Lsn(lsn)))
            }
            Step::CleanTime { time } => {
                self.model.clean_time = self.model.clean_time.max(*time);
                self.clean(|wal| wal.clean_before_batch_time(*time))
            }
            Step::Cursor { name, to } => self.cursor(CURSORS[*name], u64::from(*to)),
            Step::Background => {
                self.up()?;
                self.disk.advance(Duration::from_secs(1));
                self.disk.settle();
                Ok(())
            }
            Step::Fail { operation, nth } => {
                let fault = Fault::new(FAILING[*operation]).nth(*nth);
                self.disk.fail(if nth % 2 == 0 { fault.forgetting() } else { fault });
                self.faulty = true;
                Ok(())
            }
            Step::CrashLater { nth, seed } => {
                self.later = *seed;
                self.disk.crash_torn_at(*nth);
                Ok(())
            }
            Step::Crash { seed } => {
                self.up()?;
                let wal = self.wal.take().unwrap();
                self.down(wal, *seed);
                Ok(())
            }
            Step::CrashMask { mask } => {
                self.up()?;
                let wal = self.wal.take().unwrap();
                self.down_keeping(wal, Keep::Mask(*mask));
                Ok(())
            }
            Step::Kill => {
                self.up()?;
                self.wal = None;
                self.disk.kill();
                Ok(())
            }
            Step::Close => {
                let closed = self.up()?.close();
                if closed.is_ok() {
                    self.model.all_kept();
                }
                self.wal = None;
                self.allowed(closed)
            }
        }
    }

    /// Takes the steps one by one, and opens what is left; `Err` is a broken promise.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            self.take(step)?;
            if self.disk.crashed()
                && let Some(wal) = self.wal.take()
            {
                self.down(wal, self.later);
            }
        }
        self.take(&Step::Kill)?;
        self.up()?;
        let settled = !self.faulty && !self.disk.crashed();
        self.wal.take().filter(|_| settled).map_or(Ok(()), |wal| second::look(&self.disk).agrees(&Ok(wal)))
    }
}

impl Model {
    fn check_into(mut self, wal: &Wal) -> Result<Model, String> {
        self.check(wal).map(|()| self)
    }
}
