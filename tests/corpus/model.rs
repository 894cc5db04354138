//! What a log that no hand touched must hold: the batches that were appended, as far as they were durable or more.

use seawall::{Kind, Lsn, Wal};

/// One append.
#[derive(Debug)]
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
        self.batches.push(Batch { lsn, payloads, checkpoint });
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
