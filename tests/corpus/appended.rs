//! What a log that no hand touched must hold: the batches that were appended, as far as they were durable or more.

use seawall::{Kind, Lsn, Wal};

/// One append.
#[derive(Clone, Debug)]
struct Batch {
    /// Of its last record.
    lsn: Lsn,
    payloads: Vec<Vec<u8>>,
    checkpoint: bool,
}

/// The log as its caller knows it.
#[derive(Debug, Default)]
pub struct Model {
    batches: Vec<Batch>,
    /// All below is cleaned.
    front: Lsn,
    durable: Lsn,
    count: u8,
    /// All that was ever appended.
    ever: Vec<Row>,
}

/// A record: its LSN, whether it is a checkpoint, its payload.
pub type Row = (u64, bool, Vec<u8>);

impl Batch {
    /// Its records. Their frames lie side by side.
    fn rows(&self) -> Vec<Row> {
        let (mut rows, mut lsn) = (Vec::new(), self.lsn.0);
        for (n, payload) in self.payloads.iter().rev().enumerate() {
            if n > 0 {
                lsn -= 24 + payload.len().next_multiple_of(4) as u64;
            }
            rows.insert(0, (lsn, self.checkpoint, payload.clone()));
        }
        rows
    }
}

impl Model {
    /// A payload unlike the ones before it.
    pub fn payload(&mut self, length: usize) -> Vec<u8> {
        self.count = self.count.wrapping_add(1);
        vec![self.count; length]
    }

    /// They were appended.
    pub fn appended(&mut self, lsn: Lsn, payloads: Vec<Vec<u8>>, checkpoint: bool) {
        assert!(self.batches.last().is_none_or(|last| last.lsn < lsn), "{lsn} was handed out before");
        let batch = Batch { lsn, payloads, checkpoint };
        self.ever.extend(batch.rows());
        self.batches.push(batch);
    }

    /// All that was ever appended, lost or not.
    pub fn ever(&self) -> &[Row] {
        &self.ever
    }

    /// The batches that must be there: durable and not cleaned.
    pub fn durable_batches(&self) -> impl Iterator<Item = Vec<Row>> {
        let must = |batch: &&Batch| batch.lsn < self.durable && batch.lsn >= self.front;
        self.batches.iter().filter(must).map(Batch::rows)
    }

    /// Everything below is durable.
    pub fn durable(&mut self, durable: Lsn) {
        self.durable = self.durable.max(durable);
    }

    /// Everything below was cleaned.
    pub fn cleaned(&mut self, first: Lsn) {
        let last = self.batches.iter().rfind(|batch| batch.checkpoint && batch.lsn < self.durable);
        assert!(last.is_none_or(|last| first <= last.lsn), "cleaned past the last durable checkpoint");
        self.front = self.front.max(first);
    }

    /// Holds what was found at an opening against it, and goes on from there.
    pub fn opened(&mut self, wal: &Wal) {
        let mut found = wal.read(..).expect("what opens is read").map(|record| record.expect("no hand touched it"));
        let (front, durable, mut kept) = (self.front, self.durable, 0);
        for batch in &self.batches {
            kept += 1;
            if batch.lsn < front {
                continue;
            }
            let Some(mut record) = found.next() else {
                assert!(batch.lsn >= durable, "{} was durable and is gone", batch.lsn);
                kept -= 1;
                break;
            };
            for (n, payload) in batch.payloads.iter().enumerate() {
                if n > 0 {
                    record = found.next().expect("a batch survives whole or not at all");
                }
                assert!(record.payload == payload, "{}: another record than was appended", record.lsn);
                assert_eq!(record.kind == Kind::Checkpoint, batch.checkpoint);
            }
            assert_eq!(record.lsn, batch.lsn);
        }
        assert_eq!(found.next(), None, "more than was appended");
        self.batches.truncate(kept);
        self.durable(wal.durable_lsn());
    }
}
