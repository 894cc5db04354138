//! What `seawall inspect --help` says at length.

/// The object of `--json`.
pub const JSON: &str = "\
One JSON object

  log_id            the log's identity in hexadecimal, or null
  first, durable    LSNs: all below first was cleaned, or passed over by a repair; all below durable is durable
                    (of a file on its own: valid)
  checkpoint        LSN of the last one, or null; since_checkpoint: bytes of log from it on
  mark              sound, one-slot, missing, damaged, foreign or unknown (of a file on its own)
  records, disk_bytes; appended: records since the log was made, cleaned ones included
  segments          of each file: file, base, end (LSNs), capacity, length (bytes), records,
                    batch_times (the lowest and the highest; each of these null where it is not known),
                    state (active, sealed, prepared, spare, cut-off, damaged, missing or lone),
                    kept (null of what is no part of the log): why (newest, not-durable, checkpoint, cursor,
                    behind or not-cleaned), lsn and name (of the checkpoint, the cursor, or the
                    segment that it is behind, or null), text (the same in words)
  cursors           name, lsn, lag (bytes of log behind the durable point), holds (bytes of
                    segments that cannot be cleaned because of it)
  aside, foreign    files moved aside, and those that are not the log's: name, length
  faults            damage that was met, as of verify: segment, offset, lsn, what, lost_bytes,
                    lost_records, beyond, dropped
  notes             what else there is to know, in words
  at                with --at: lsn, segment, offset (null where there is none), found (record, inside,
                    damage or nothing), and before, here, next: the records there (lsn, end,
                    batch_time, kind, bytes) or null; damage: as in faults, or null
Further fields and words may come. What is told of an error: `seawall --help`.";
