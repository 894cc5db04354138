//! What the log is to hold: the promises, as code.

use std::collections::{BTreeMap, BTreeSet};

use seawall::{Kind, Record, Wal};

/// The cursors of a run.
pub const CURSORS: [&str; 2] = ["one", "other"];

/// A batch that was appended, or that an append may have left although it failed.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Payloads in order.
    pub payloads: Vec<Vec<u8>>,
    pub time: u64,
    pub kind: Kind,
    /// Of the last record; `None` where the append did not say.
    pub lsn: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All that was appended and not lost, cleaned batches too.
    pub batches: Vec<Batch>,
    /// How many of them, from the first, are promised to survive.
    pub kept: usize,
    /// An append that failed while the log was poisoned or the power went: there, or not.
    pub unknown: Option<Batch>,
    /// The highest LSN ever handed out.
    pub highest: u64,
    /// The front that the last successful clean told.
    pub front: u64,
    /// What cleans were allowed to remove, at the most: LSNs and batch times below.
    pub clean_lsn: u64,
    pub clean_time: u64,
    /// The least cursor at the clean where it stood highest: no clean was to take anything from there on.
    pub clean_cursor: u64,
    /// Where each cursor may stand: as is promised to survive, and all later places. `None`: it is not there.
    pub cursors: BTreeMap<String, Vec<Option<u64>>>,
    /// Cursors that moved in this life where there was no room to note it: they may come back where they stood.
    pub owed: BTreeSet<String>,
}

impl Model {
    /// Notes an append that said `lsn`.
    pub fn appended(&mut self, batch: Batch, lsn: u64) -> Result<(), String> {
        if lsn <= self.highest {
            return Err(format!("LSN {lsn} was handed out although {} was before", self.highest));
        }
        self.highest = lsn;
        self.batches.push(Batch { lsn: Some(lsn), ..batch });
        Ok(())
    }

    /// Everything up to the batch that ends at `lsn` was acknowledged.
    pub fn acknowledged(&mut self, lsn: u64) {
        let upto = self.batches.iter().position(|batch| batch.lsn == Some(lsn)).map_or(0, |index| index + 1);
        self.kept = self.kept.max(upto);
    }

    /// All batches below `lsn` are promised to survive.
    pub fn durable(&mut self, lsn: u64) {
        let upto = self.batches.iter().rposition(|batch| batch.lsn.is_some_and(|last| last < lsn));
        self.kept = self.kept.max(upto.map_or(0, |index| index + 1));
    }

    /// All that was appended is promised to survive.
    pub fn all_kept(&mut self) {
        self.kept = self.batches.len();
        for (name, stands) in &mut self.cursors {
            if !self.owed.contains(name) {
                stands.drain(..stands.len() - 1);
            }
        }
    }

    /// Notes where the cursors stand now; `framed`: there was room to note in the log what has changed.
    pub fn noted(&mut self, wal: &Wal, framed: bool) {
        let now = wal.cursors();
        for name in CURSORS {
            let stand = now.get(name).map(|lsn| lsn.0);
            let stands = self.cursors.entry(name.to_owned()).or_insert_with(|| vec![None]);
            if stands.last() != Some(&stand) {
                stands.push(stand);
                if framed {
                    self.owed.remove(name);
                } else {
                    self.owed.insert(name.to_owned());
                }
            }
        }
    }

    /// A clean is about to run.
    pub fn cleans(&mut self, wal: &Wal) {
        let least = wal.cursors().into_values().map(|lsn| lsn.0).min();
        self.clean_cursor = self.clean_cursor.max(least.unwrap_or(u64::MAX));
    }

    /// A cursor stands where it was said to, or at the front above.
    fn check_cursors(&mut self, wal: &Wal) -> Result<(), String> {
        let (now, first) = (wal.cursors(), wal.recovery().first.0);
        for name in CURSORS {
            let found = now.get(name).map(|lsn| lsn.0);
            let stands = self.cursors.entry(name.to_owned()).or_insert_with(|| vec![None]);
            let said = |stand: &Option<u64>| *stand == found || stand.is_some_and(|lsn| found == Some(lsn.max(first)));
            if !stands.iter().any(said) {
                return Err(format!(
                    "cursor {name} stands at {found:?}, it was set to {stands:?}, the front is {first}"
                ));
            }
            *stands = vec![found];
        }
        self.owed.clear();
        Ok(())
    }

    /// Holds a freshly opened log against the promises; what it serves, it must serve for ever.
    pub fn check(&mut self, wal: &Wal) -> Result<(), String> {
        let mut found = Vec::new();
        for record in wal.read(..).map_err(|e| format!("read: {e}"))? {
            found.push(record.map_err(|e| format!("read: {e}"))?);
        }
        let first = wal.recovery().first.0;
        if first < self.front {
            return Err(format!("the front is {first}, a clean had said {}", self.front));
        }
        let groups = batches(&found)?;
        let start = self.start(first)?;
        self.check_kept_checkpoint(&found)?;
        let mut expected: Vec<_> = self.batches[start..].to_vec();
        expected.extend(self.unknown.take());
        if groups.len() > expected.len() {
            return Err(format!("{} batches where {} were appended", groups.len(), expected.len()));
        }
        for (group, batch) in groups.iter().zip(&expected) {
            same(group, batch)?;
        }
        let end = start + groups.len();
        if end < self.kept {
            return Err(format!("only {end} batches of {} acknowledged ones are left", self.kept));
        }
        self.batches.truncate(start);
        for (group, batch) in groups.iter().zip(expected) {
            let lsn = group.last().map(|record| record.lsn.0);
            self.highest = self.highest.max(lsn.unwrap_or(0));
            self.batches.push(Batch { lsn, ..batch });
        }
        self.kept = end;
        self.check_cursors(wal)?;
        self.check_checkpoint(wal, &found)
    }

    /// The index of the first batch that is left. Those before it must have been cleaned, and cleanable.
    fn start(&self, first: u64) -> Result<usize, String> {
        let start = self.batches.iter().position(|batch| batch.lsn.is_none_or(|lsn| lsn >= first));
        let start = start.unwrap_or(self.batches.len());
        for batch in &self.batches[..start] {
            let lsn = batch.lsn.unwrap_or(0);
            let passed = lsn >= self.clean_cursor;
            if lsn >= self.clean_lsn && batch.time >= self.clean_time || passed {
                return Err(format!(
                    "the batch at LSN {lsn} under time {} is gone, no clean was to take it",
                    batch.time
                ));
            }
        }
        Ok(start)
    }

    /// Cleaning passes a durable checkpoint only where a later one is durable.
    fn check_kept_checkpoint(&self, found: &[Record]) -> Result<(), String> {
        let kept = self.batches[..self.kept].iter().rfind(|batch| batch.kind == Kind::Checkpoint);
        let Some(kept) = kept.and_then(|batch| batch.lsn) else { return Ok(()) };
        if found.iter().any(|record| record.kind == Kind::Checkpoint && record.lsn.0 >= kept) {
            return Ok(());
        }
        Err(format!("the last durable checkpoint, at LSN {kept}, was cleaned away"))
    }

    fn check_checkpoint(&self, wal: &Wal, found: &[Record]) -> Result<(), String> {
        let expected = found.iter().rfind(|record| record.kind == Kind::Checkpoint);
        let checkpoint = wal.checkpoint().map_err(|e| format!("checkpoint: {e}"))?;
        if checkpoint.as_ref() == expected {
            return Ok(());
        }
        Err(format!("the checkpoint is {:?}, expected {:?}", checkpoint.map(|r| r.lsn), expected.map(|r| r.lsn)))
    }
}

/// Bytes that were framed in this life.
pub fn framed(wal: &Wal) -> u64 {
    let stats = wal.stats();
    stats.written_bytes + stats.buffered_bytes
}

fn batches(records: &[Record]) -> Result<Vec<Vec<&Record>>, String> {
    let mut groups: Vec<Vec<&Record>> = Vec::new();
    let mut open = false;
    for record in records {
        if !open {
            groups.push(Vec::new());
        }
        groups.last_mut().unwrap().push(record);
        open = !record.ends_batch;
    }
    if open { Err("the log ends within a batch".to_owned()) } else { Ok(groups) }
}

fn same(group: &[&Record], batch: &Batch) -> Result<(), String> {
    let last = group.last().unwrap().lsn.0;
    if batch.lsn.is_some_and(|lsn| lsn != last) {
        return Err(format!("a batch at LSN {last} where {:?} was appended", batch.lsn));
    }
    let right = group.len() == batch.payloads.len()
        && group.iter().zip(&batch.payloads).all(|(record, payload)| {
            record.payload == payload[..] && record.batch_time.0 == batch.time && record.kind == batch.kind
        });
    if right { Ok(()) } else { Err(format!("wrong records in the batch at LSN {last}")) }
}
