//! Whoever promises to keep what it acknowledged, and the promise as code.

use std::sync::Arc;

use super::chance::Chance;
use super::crash::Keep;
use super::disk::Disk;
use super::explore::{Broken, Explore};
use crate::storage::Storage;

/// A log, or what can be seen as one: it keeps records in order, and says of each once it is durable.
///
/// Through this trait any engine that does its reads and writes by a [`Storage`] is crashed as seawall is:
/// [`Explore::engine`].
pub trait Engine: Sized {
    /// Opens, and recovers, what lies in the directory; makes it if there is nothing.
    ///
    /// # Errors
    /// In words. After a crash any is a broken promise.
    fn open(storage: Arc<dyn Storage>) -> Result<Self, String>;

    /// Appends a record and returns once it is durable.
    ///
    /// # Errors
    /// In words. Whether the record is kept is unknown then, and the engine is not used any more, but another one opened.
    fn append(&mut self, record: &[u8]) -> Result<(), String>;

    /// All records, oldest first.
    ///
    /// # Errors
    /// In words; any is a broken promise.
    fn records(&mut self) -> Result<Vec<Vec<u8>>, String>;
}

/// The promises of a log: what was acknowledged is there, in order and as it was appended; and nothing else is, but
/// for what was appended and not yet acknowledged, as whole batches.
///
/// ```
/// use seawall::sim::Oracle;
///
/// let mut oracle = Oracle::default();
/// oracle.appended(b"one");
/// oracle.acknowledged();
/// oracle.appended(b"two");
/// assert!(oracle.clone().check(&[b"one"]).is_ok());
/// assert!(oracle.clone().check(&[b"one", b"two"]).is_ok());
/// assert!(oracle.clone().check(&[b"two"]).is_err());
/// assert!(oracle.clone().check::<&[u8]>(&[]).is_err());
/// // A batch is there as a whole or not at all.
/// oracle.appended_batch(&[b"three", b"four!"]);
/// assert!(oracle.check(&[&b"one"[..], b"two", b"three"]).is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    appended: Vec<Vec<u8>>,
    /// How many there were after each append.
    ends: Vec<usize>,
    acknowledged: usize,
}

impl Oracle {
    /// A record is about to be appended.
    pub fn appended(&mut self, record: &[u8]) {
        self.appended_batch(&[record]);
    }

    /// A batch is about to be appended: all of its records are there in the end, or none.
    pub fn appended_batch<R: AsRef<[u8]>>(&mut self, records: &[R]) {
        self.appended.extend(records.iter().map(|record| record.as_ref().to_vec()));
        self.ends.push(self.appended.len());
    }

    /// What was to be appended last was refused, with nothing of it kept.
    pub fn refused(&mut self) {
        self.ends.pop();
        self.appended.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// All that was appended so far was said to be durable.
    pub fn acknowledged(&mut self) {
        self.acknowledged = self.appended.len();
    }

    /// Holds what was recovered against the promises. What is shown once is to stay: it counts as acknowledged from then
    /// on, and what is not shown never was.
    ///
    /// # Errors
    /// The broken promise, in words.
    pub fn check<R: AsRef<[u8]>>(&mut self, recovered: &[R]) -> Result<(), String> {
        let (found, appended, acknowledged) = (recovered.len(), self.appended.len(), self.acknowledged);
        if found > appended {
            return Err(format!("{found} records, {appended} were appended"));
        }
        for (n, (found, appended)) in recovered.iter().zip(&self.appended).enumerate() {
            if found.as_ref() != appended {
                return Err(format!("record {n} is not the one that was appended there"));
            }
        }
        if found < acknowledged {
            return Err(format!("{found} records, {acknowledged} were acknowledged"));
        }
        if found > 0 && !self.ends.contains(&found) {
            return Err(format!("{found} records, the last of which is not the last of its batch"));
        }
        self.appended.truncate(found);
        self.ends.retain(|end| *end <= found);
        self.acknowledged = found;
        Ok(())
    }
}

impl Explore {
    /// Has an engine append `records` records, of lengths that the seed draws up to 2 KiB, and crashes it everywhere; where
    /// a sync fails it is opened anew and goes on. Whatever a crash leaves is opened, held against an [`Oracle`], appended
    /// to, and so again after another crash: behind that, while it is opened, and as soon as it shows its records.
    /// Gives the number of states.
    ///
    /// # Errors
    /// The first crash that breaks a promise.
    pub fn engine<E: Engine>(&self, records: u32) -> Result<u64, Broken> {
        let mut states = 0;
        // What one crash shows is told before what it takes two of.
        for twice in [false, true] {
            let (before, mut nth) = (states, 0);
            states += self
                .run(
                    &Disk::new(self.seed),
                    |disk| self.appended::<E>(disk, records),
                    |left, Appended { oracle, broken, .. }| {
                        nth += 1;
                        broken.clone().map_or(Ok(()), Err)?;
                        if twice { again::<E>(left, oracle, nth) } else { reopened::<E>(left, &mut oracle.clone()) }
                    },
                )
                .map_err(|broken| Broken { states: before + broken.states, ..broken })?;
        }
        Ok(states)
    }

    /// What there is to crash.
    fn appended<E: Engine>(&self, disk: &Disk, records: u32) -> Appended<E> {
        let mut oracle = Oracle::default();
        let mut engine = E::open(disk.mount()).ok();
        for number in 0..records {
            let record = self.record(number);
            let done = engine.as_mut().is_some_and(|engine| append(engine, &mut oracle, &record).is_ok());
            if disk.crashed() {
                break;
            }
            if !done {
                drop(engine.take());
                let opened = open::<E>(disk, &mut oracle);
                if disk.crashed() {
                    break;
                }
                match opened {
                    Ok(opened) => engine = Some(opened),
                    Err(what) => return Appended { oracle, engine, broken: Some(format!("after a failure {what}")) },
                }
            }
            disk.settle();
        }
        Appended { oracle, engine, broken: None }
    }

    /// A record that tells its number.
    fn record(&self, number: u32) -> Vec<u8> {
        let mut chance = Chance::new(self.seed ^ u64::from(number));
        let mut record = vec![0; 4 + chance.below(2 << 10)];
        chance.fill(&mut record);
        record.splice(..4, number.to_le_bytes());
        record
    }
}

fn append(engine: &mut impl Engine, oracle: &mut Oracle, record: &[u8]) -> Result<(), String> {
    oracle.appended(record);
    engine.append(record)?;
    oracle.acknowledged();
    Ok(())
}

/// What became of an engine and its records. It is held until all states were looked at: what it does when it is dropped is
/// no part of the work.
struct Appended<E> {
    oracle: Oracle,
    #[expect(dead_code, reason = "held only")]
    engine: Option<E>,
    broken: Option<String>,
}

/// What a crash left keeps all promises, whatever crash follows.
fn again<E: Engine>(left: &Disk, oracle: &Oracle, nth: u64) -> Result<(), String> {
    // Once it is shown, it stays.
    let disk = left.fork();
    let mut shown = oracle.clone();
    let engine = open::<E>(&disk, &mut shown)?;
    disk.crash(Keep::None);
    drop(engine);
    open::<E>(&disk, &mut shown).map_err(|what| format!("shown, and after a power cut {what}"))?;
    // As a whole, and once more.
    let disk = left.fork();
    let mut acknowledged = oracle.clone();
    reopened::<E>(&disk, &mut acknowledged)?;
    let operations = disk.operations();
    let second = if nth.is_multiple_of(2) {
        disk.crash(Keep::None);
        "a power cut"
    } else {
        disk.kill();
        "a kill"
    };
    reopened::<E>(&disk, &mut acknowledged).map_err(|what| format!("appended to, and after {second} {what}"))?;
    // The power goes on the way.
    let mut oracle = oracle.clone();
    left.crash_torn_at(1 + nth % operations.max(1));
    let stopped = reopened::<E>(left, &mut oracle);
    if !left.crashed() {
        stopped?;
    }
    left.crash(Keep::Random(nth));
    open::<E>(left, &mut oracle).map(drop).map_err(|what| format!("after a crash while it was opened {what}"))
}

/// Opens and checks.
fn open<E: Engine>(disk: &Disk, oracle: &mut Oracle) -> Result<E, String> {
    let mut engine = E::open(disk.mount()).map_err(|e| format!("it does not open: {e}"))?;
    oracle.check(&engine.records()?)?;
    Ok(engine)
}

/// Opens, checks, and appends one more.
fn reopened<E: Engine>(disk: &Disk, oracle: &mut Oracle) -> Result<(), String> {
    let mut engine = open::<E>(disk, oracle)?;
    append(&mut engine, oracle, b"appended after the crash").map_err(|e| format!("it takes no more: {e}"))
}
