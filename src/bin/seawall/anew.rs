//! Records of one log written into a new one: batch by batch, with their batch times and kinds.

use std::borrow::Cow;

use seawall::{BatchTime, Kind, Lsn, Record, Wal};

/// A new log while it is written.
pub struct Anew<'a> {
    wal: &'a Wal,
    /// Zeros are written in place of payloads.
    redact: bool,
    /// Of one batch, so far.
    batch: Vec<Record>,
    pub records: u64,
    pub batches: u64,
    /// Batches of which only a part is there, and whether the last record taken was of one that goes on.
    pub parts: u64,
    in_part: bool,
    /// The last record.
    pub last: Option<Lsn>,
}

impl Anew<'_> {
    pub fn new(wal: &Wal, redact: bool) -> Anew<'_> {
        Anew { wal, redact, batch: Vec::new(), records: 0, batches: 0, parts: 0, in_part: false, last: None }
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.batch.is_empty()
    }

    /// Takes a record of a batch that is whole.
    pub fn take(&mut self, record: Record) -> anyhow::Result<()> {
        let ends = record.ends_batch;
        self.in_part = false;
        self.batch.push(record);
        if ends { self.end_batch() } else { Ok(()) }
    }

    /// Takes a record of a batch that is not whole, as a batch of its own. So is what was taken of it before.
    pub fn take_part(&mut self, record: Record) -> anyhow::Result<()> {
        self.end_apart()?;
        self.parts += u64::from(!self.in_part);
        self.in_part = !record.ends_batch;
        self.batch.push(record);
        self.end_batch()
    }

    /// Appends what there is of a batch, whose rest is gone, each record on its own.
    pub fn end_apart(&mut self) -> anyhow::Result<()> {
        std::mem::take(&mut self.batch).into_iter().try_for_each(|record| self.take_part(record))
    }

    /// Appends what there is of a batch.
    fn end_batch(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let Some(Record { batch_time: BatchTime(time), kind, .. }) = batch.first() else { return Ok(()) };
        let payloads: Vec<Cow<'_, [u8]>> = batch.iter().map(|record| self.payload(record)).collect();
        let at = self.wal.at(*time);
        let ticket = match (kind, &payloads[..]) {
            (Kind::Checkpoint, [snapshot]) => at.append_checkpoint(snapshot)?,
            _ => at.append_batch(&payloads)?,
        };
        self.last = Some(ticket.lsn());
        self.records += payloads.len() as u64;
        self.batches += 1;
        Ok(())
    }

    /// What is written of a record.
    fn payload<'r>(&self, record: &'r Record) -> Cow<'r, [u8]> {
        if self.redact { Cow::Owned(vec![0; record.payload.len()]) } else { Cow::Borrowed(&record.payload) }
    }
}
