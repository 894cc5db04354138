//! What is at an LSN, and the records around it.

use std::path::Path;

use seawall::check::{self, Fault, Item, Overview, SegmentInfo};
use seawall::{Lsn, Record};
use serde_json::{Value, json};

use crate::out::Out;
use crate::record::Shown;
use crate::verify;

/// A place in a log.
#[derive(Default)]
pub struct At {
    lsn: Lsn,
    /// The segment file it lies in, and the byte there.
    place: Option<(String, u64)>,
    /// The last record before it, the one it lies in, and the first behind.
    before: Option<Record>,
    here: Option<Record>,
    next: Option<Record>,
    damage: Option<Fault>,
}

impl At {
    /// Reads the segment that holds `lsn` up to the record behind it, and the one below.
    pub fn find(path: &Path, overview: &Overview, lsn: Lsn) -> anyhow::Result<At> {
        let mut at = At { lsn, ..At::default() };
        let holds = |segment: &&SegmentInfo| {
            let size = segment.capacity.unwrap_or(u64::MAX).max(segment.length);
            lsn.0.checked_sub(segment.base.0).is_some_and(|byte| byte < size)
        };
        let mut all = overview.segments.iter().rev().filter(holds);
        // Any file may bear the name of a place within one of the log.
        let Some(segment) = all.clone().find(|segment| segment.end.is_some()).or_else(|| all.next()) else {
            return Ok(at);
        };
        at.place = Some((segment.file.clone(), lsn.0 - segment.base.0));
        // The last record before it may lie in the segment below.
        let log = overview.segments.iter().filter(|other| other.is_log() && other.base < segment.base);
        let below = log.max_by_key(|other| other.base).map_or(segment.base, |other| other.base);
        for item in check::frames(path)?.starting_at(below) {
            match item? {
                Item::Record(record) if record.lsn > lsn => {
                    at.next = Some(record);
                    break;
                }
                Item::Record(record) if record.end() > lsn => at.here = Some(record),
                Item::Record(record) => at.before = Some(record),
                Item::Damage(fault) if fault.lsn <= lsn && lsn.0 - fault.lsn.0 < fault.lost_bytes.max(1) => {
                    at.damage = Some(fault);
                }
                _ => {}
            }
        }
        Ok(at)
    }

    pub fn is_damaged(&self) -> bool {
        self.damage.is_some()
    }

    fn found(&self) -> &'static str {
        match (&self.damage, &self.here) {
            (_, Some(record)) if record.lsn == self.lsn => "record",
            (_, Some(_)) => "inside",
            (Some(_), None) => "damage",
            (None, None) => "nothing",
        }
    }

    pub fn object(&self) -> Value {
        let record = |record: &Record| {
            json!({
                "lsn": record.lsn.0, "end": record.end().0, "batch_time": record.batch_time.0,
                "kind": Shown::new(record).kind(), "bytes": record.payload.len(),
            })
        };
        json!({
            "lsn": self.lsn.0, "found": self.found(),
            "segment": self.place.as_ref().map(|(file, _)| file), "offset": self.place.as_ref().map(|(_, byte)| byte),
            "before": self.before.as_ref().map(record), "here": self.here.as_ref().map(record),
            "next": self.next.as_ref().map(record), "damage": self.damage.as_ref().map(verify::fault),
        })
    }

    pub fn text(&self, out: &mut Out) -> anyhow::Result<()> {
        let place =
            self.place.as_ref().map_or_else(|| "in no segment".into(), |(file, byte)| format!("{file} byte {byte}"));
        out.line(format_args!("at lsn {}: {place}", self.lsn))?;
        let line = |record: &Option<Record>| record.as_ref().map_or_else(|| "-".into(), |r| Shown::new(r).summary());
        out.line(format_args!("  before  {}", line(&self.before)))?;
        match (self.found(), &self.damage) {
            ("record", _) => out.line(format_args!("  here    {}", line(&self.here)))?,
            ("inside", _) => out.line(format_args!("  here    inside {}", line(&self.here)))?,
            (_, Some(fault)) => out.line(format_args!("  here    damage: {fault}"))?,
            _ => out.line("  here    no record")?,
        }
        out.line(format_args!("  next    {}", line(&self.next)))
    }
}
