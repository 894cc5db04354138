//! Whoever promises to keep what it acknowledged, and the promise as code.

use std::sync::Arc;

use super::chance::Chance;
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
    /// In words. Whether the record is kept is unknown then, and the engine is not used any more.
    fn append(&mut self, record: &[u8]) -> Result<(), String>;

    /// All records, oldest first.
    ///
    /// # Errors
    /// In words; any is a broken promise.
    fn records(&mut self) -> Result<Vec<Vec<u8>>, String>;
}

/// The promises of a log: what was acknowledged is there, in order and as it was appended; and nothing else is, but
/// for what was appended and not yet acknowledged.
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
/// assert!(oracle.check::<&[u8]>(&[]).is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    appended: Vec<Vec<u8>>,
    acknowledged: usize,
}

impl Oracle {
    /// A record is about to be appended.
    pub fn appended(&mut self, record: &[u8]) {
        self.appended.push(record.to_vec());
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
        self.appended.truncate(found);
        self.acknowledged = found;
        Ok(())
    }
}

impl Explore {
    /// Has an engine append `records` records, of lengths that the seed draws up to 2 KiB, and crashes it everywhere.
    /// Whatever a crash leaves is opened, held against an [`Oracle`], appended to, killed, and opened once more.
    /// Gives the number of states.
    ///
    /// # Errors
    /// The first crash that breaks a promise.
    pub fn engine<E: Engine>(&self, records: u32) -> Result<u64, Broken> {
        let work = |disk: &Disk| {
            let mut oracle = Oracle::default();
            let mut engine = E::open(disk.mount()).ok();
            for number in 0..records {
                let Some(engine) = &mut engine else { break };
                if append(engine, &mut oracle, &self.record(number)).is_err() {
                    break;
                }
                disk.settle();
            }
            // Held until all states were looked at: what it does when it is dropped is no part of the work.
            (oracle, engine)
        };
        self.run(&Disk::new(self.seed), work, |left, (oracle, _)| {
            let mut oracle = oracle.clone();
            reopened::<E>(left, &mut oracle)?;
            left.kill();
            reopened::<E>(left, &mut oracle)
        })
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

/// Opens, checks, and appends one more.
fn reopened<E: Engine>(disk: &Disk, oracle: &mut Oracle) -> Result<(), String> {
    let mut engine = E::open(disk.mount()).map_err(|e| format!("it does not open: {e}"))?;
    oracle.check(&engine.records()?)?;
    append(&mut engine, oracle, b"appended after the crash").map_err(|e| format!("it takes no more: {e}"))
}
