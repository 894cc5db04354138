//! A record of the log as a line, or a few, or as a JSON object: the same wherever records are shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seawall::receiver::{Block, BlockRecord, Entry, Handover, Mark, OffsetTable, Origin, Partition, Range, TopicId};
use seawall::{Kind, Record};
use serde_json::{Map, Value, json};

use crate::out::{Out, counted};

/// How records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Text,
    /// Lines for people, and all bytes of each payload.
    Hex,
}

impl Form {
    pub fn of(json: bool, hex: bool) -> Form {
        match (json, hex) {
            (true, _) => Form::Json,
            (false, true) => Form::Hex,
            (false, false) => Form::Text,
        }
    }
}

/// A record and what it is to the receiver, if it is that.
pub struct Shown<'a> {
    record: &'a Record,
    entry: Option<Entry<'a>>,
}

impl<'a> Shown<'a> {
    pub fn new(record: &'a Record) -> Shown<'a> {
        Shown { record, entry: Entry::decode(&record.payload).ok().filter(is_whole) }
    }

    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        kind(self.record, self.entry.as_ref())
    }

    /// Where it is and what it is, on a line.
    pub fn summary(&self) -> String {
        let Record { lsn, batch_time, payload, .. } = self.record;
        format!("lsn {lsn}, batch time {batch_time}, {} of {}", self.kind(), counted(payload.len() as u64, "byte"))
    }

    pub fn write(&self, form: Form, out: &mut Out) -> anyhow::Result<()> {
        let entry = self.entry.as_ref();
        match form {
            Form::Json => out.json(&object(self.record, entry)?),
            Form::Text => text(self.record, entry, out),
            Form::Hex => {
                text(self.record, entry, out)?;
                hex(&self.record.payload, out)
            }
        }
    }
}

/// Whether a block's records can all be read. One that this version cannot read is a record like any other.
fn is_whole(entry: &Entry<'_>) -> bool {
    !matches!(entry, Entry::Block(block) if block.records().any(|record| record.is_err()))
}

fn object(record: &Record, entry: Option<&Entry<'_>>) -> anyhow::Result<Value> {
    let mut fields = Map::new();
    fields.insert("lsn".into(), record.lsn.0.into());
    fields.insert("batch_time".into(), record.batch_time.0.into());
    fields.insert("kind".into(), kind(record, entry).into());
    match entry {
        Some(Entry::Block(block)) => {
            fields.insert("ranges".into(), block.ranges().iter().map(range).collect());
            let records: Result<Vec<Value>, _> =
                block.records().map(|r| Ok::<_, anyhow::Error>(message(block, &r?))).collect();
            fields.insert("records".into(), records?.into());
            return Ok(fields.into());
        }
        Some(Entry::Origin(origin)) => fields.extend(origin_fields(origin)),
        Some(Entry::Handover(handover)) => fields.extend(handover_fields(handover)),
        Some(Entry::OffsetTable(table)) => {
            fields.insert("offsets".into(), offsets(table));
        }
        _ => {}
    }
    fields.insert("payload".into(), base64(&record.payload));
    Ok(fields.into())
}

fn kind(record: &Record, entry: Option<&Entry<'_>>) -> &'static str {
    match (entry, record.kind) {
        (Some(Entry::Block(_)), _) => "block",
        (Some(Entry::Origin(_)), _) => "origin",
        (Some(Entry::Handover(_)), _) => "handover",
        (_, Kind::Checkpoint) => "checkpoint",
        _ => "record",
    }
}

fn range(range: &Range) -> Value {
    let (topic, partition) = (&*range.partition.topic, range.partition.number);
    json!({ "topic": topic, "partition": partition, "from": range.from, "next": range.next, "count": range.count })
}

fn message(block: &Block<'_>, record: &BlockRecord<'_>) -> Value {
    let place = block.ranges().get(record.range).map(|range| &range.partition);
    let headers: Vec<Value> =
        record.headers.iter().map(|(name, value)| json!([header_name(name), nullable(*value)])).collect();
    json!({
        "topic": place.map(|place| &*place.topic),
        "partition": place.map(|place| place.number),
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": nullable(record.key),
        "value": nullable(record.value),
        "headers": headers,
    })
}

/// A name that is no text stands as bytes.
fn header_name(name: &[u8]) -> Value {
    match std::str::from_utf8(name) {
        Ok(name) => name.into(),
        Err(_) => json!({ "base64": base64(name) }),
    }
}

fn nullable(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, base64)
}

fn base64(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

fn origin_fields(origin: &Origin) -> Map<String, Value> {
    let value = json!({
        "topic": &*origin.partition.topic, "partition": origin.partition.number,
        "previous": origin.previous, "next": origin.next, "cause": format!("{:?}", origin.cause).to_lowercase(),
    });
    value.as_object().cloned().unwrap_or_default()
}

fn handover_fields(handover: &Handover) -> Map<String, Value> {
    let value = json!({
        "topic": &*handover.partition.topic, "partition": handover.partition.number,
        "from": handover.from, "next": handover.next, "log": handover.log.map(|log| log.to_string()),
    });
    value.as_object().cloned().unwrap_or_default()
}

fn offsets(table: &OffsetTable) -> Value {
    let row = |(partition, _, mark): (&Partition, TopicId, Mark)| json!({ "topic": &*partition.topic, "partition": partition.number, "next": mark.next, "lsn": mark.lsn.0 });
    table.iter().map(row).collect()
}

/// All bytes, sixteen a line: the offset in the payload, hexadecimal, and what is text.
fn hex(payload: &[u8], out: &mut Out) -> anyhow::Result<()> {
    for (n, row) in payload.chunks(16).enumerate() {
        let digits: String = row.iter().map(|byte| format!(" {byte:02x}")).collect();
        let letter = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let letters: String = row.iter().map(letter).collect();
        out.line(format_args!("{:>16}{:08x} {digits:<48}  |{letters}|", "", n * 16))?;
    }
    Ok(())
}

fn text(record: &Record, entry: Option<&Entry<'_>>, out: &mut Out) -> anyhow::Result<()> {
    let kind = kind(record, entry);
    let head = format!("{:>14}  {}  {kind}", record.lsn.0, record.batch_time.0);
    match entry {
        Some(Entry::Block(block)) => {
            let ranges: Vec<String> =
                block.ranges().iter().map(|r| format!("{}[{}, {})", r.partition, r.from, r.next)).collect();
            out.line(format_args!("{head}  {}  {}", counted(block.len() as u64, "record"), ranges.join(" ")))?;
            for message in block.records() {
                out.line(line(block, &message?))?;
            }
        }
        Some(Entry::Origin(o)) => out.line(format_args!("{head}  {}@{} ({:?})", o.partition, o.next, o.cause))?,
        Some(Entry::Handover(h)) => out.line(format_args!("{head}  {}[{}, {})", h.partition, h.from, h.next))?,
        Some(Entry::OffsetTable(table)) => {
            let rows: Vec<String> =
                table.iter().map(|(partition, _, mark)| format!("{partition}@{}", mark.next)).collect();
            out.line(format_args!("{head}  {}", rows.join(" ")))?;
        }
        _ => out.line(format_args!(
            "{head}  {}  {}",
            counted(record.payload.len() as u64, "byte"),
            preview(&record.payload).0
        ))?,
    }
    Ok(())
}

fn line(block: &Block<'_>, record: &BlockRecord<'_>) -> String {
    let place = block.ranges().get(record.range).map(|range| range.partition.to_string()).unwrap_or_default();
    let mut line = format!("{:>16}{place}@{}", "", record.offset);
    let part = |bytes: Option<&[u8]>| match bytes.map(|bytes| (preview(bytes), bytes.len() as u64)) {
        None => "null".to_owned(),
        Some(((shown, true), _)) => shown,
        Some(((shown, false), length)) => format!("{shown} ({})", counted(length, "byte")),
    };
    line.push_str(&format!("  key {}  value {}", part(record.key), part(record.value)));
    for (name, value) in &record.headers {
        line.push_str(&format!("  {}={}", name.escape_ascii(), part(*value)));
    }
    line
}

/// The first bytes, readable, and whether these are all.
fn preview(bytes: &[u8]) -> (String, bool) {
    const SHOWN: usize = 60;
    let (shown, rest) = bytes.split_at(bytes.len().min(SHOWN));
    let more = if rest.is_empty() { "" } else { ".." };
    (format!("\"{}\"{more}", shown.escape_ascii()), rest.is_empty())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use seawall::receiver::LogId;

    use super::*;

    #[test]
    fn a_handover_is_dumped_with_its_log_or_null() {
        for (log, told) in [(Some(LogId([0xAB; 16])), json!("ab".repeat(16))), (None, Value::Null)] {
            let partition = Partition { topic: "orders".into(), number: 3 };
            let fields = handover_fields(&Handover::new(partition, TopicId([1; 16]), 1927, 2900, log));
            assert_eq!((&fields["from"], &fields["next"]), (&json!(1927), &json!(2900)));
            assert_eq!(fields["log"], told);
        }
    }
}
