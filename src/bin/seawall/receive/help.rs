//! What `seawall receive --help` says at length.

/// The lines of `--json`, which `report` writes.
pub const JSON: &str = "\
Tell what happens as one JSON object a line

Each has `event` and `time` (RFC 3339, UTC). The other fields, by event:
  opened         segments, records, first, end, torn (null, or lsn and beyond), notes
  recovered      resume: the next offset of each \"topic/partition\" that the log has
  assigned       topic, partition, next, text, handovers (from, next and log of offsets that are not
                 in this log; log is null where no log is known to have them)
  revoked        partitions, lost, drained (whether all read of them was durable in time)
  paused         text (intake waits for the disk, or for room in it or in the log)
  resumed
  full           text
  commit-failed  code, text, gone (partitions that were let go meanwhile; the others are sent again)
  source         code, text, more (how often since it was told last; not if never)
  checkpoint     lsn
  cleaned        segments, first (the LSN where the log begins now)
  stored         every 5 s in which records came: as in stopped without all_durable and all_committed,
                 and records_per_second, bytes_per_second
  stopping
  stopped        all_durable, all_committed, recorded, recorded_bytes, duplicates, blocks, paused, pauses, assigned,
                 revoked, lost, source_errors, commits (sent, ok, failed, timed_out),
                 partitions (topic, partition, next, durable, committed)
  failed         error (what ended it otherwise; its fields stand in `seawall --help`)
  notice         text (anything else)
Further fields and events may come.";
