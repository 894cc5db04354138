//! What `seawall dump --help` says at length.

/// The lines of `--json`.
pub const JSON: &str = "\
One JSON object a line, a record of the log each

Keys, values and payloads are base64, or null where there is none; names are text. Each line has `lsn`,
`batch_time` (a receiver's: milliseconds since 1970) and `kind`. The other fields, by kind:
  block       ranges (of each partition in it: topic, partition, from, next: what it covers is from
              up to, but without, next; count of records), records (topic, partition, offset,
              timestamp, key, value, headers: each a name and a value; a name that is no text
              stands as an object, its bytes under `base64`)
  origin      where the log begins with a partition: topic, partition, previous (where it stood
              before, or null), next, cause (earliest, latest, group or newpartition), payload
  handover    what is passed over because the group was further: topic, partition, from, next, log
              (which has it; null where none is known to), payload
  checkpoint  payload, and if a receiver wrote it: offsets (of each partition: topic, partition,
              next, lsn of the record that brought it there)
  record      payload (any that no receiver wrote, or that this version cannot read)
Further fields and kinds may come. What is told of an error: `seawall --help`.";
