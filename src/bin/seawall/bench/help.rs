//! What `seawall bench --help` says at length.

pub const EXAMPLES: &str = "Examples:
  seawall bench
  seawall bench --dir /mnt/nvme --record 256 --threads 1,8,64 --durability os,disk --report out.html
  seawall bench --dir /mnt/nvme --durability disk --threads 64 --seconds 60
  seawall bench --json | jq '.tables[].rows[] | [.threads, .ratio]'

The floor is what a simple program reaches that could not recover: of one thread each record is written in place with
one call (and synced); of more, one of them writes what all have gathered (and syncs once). A slice of a row ends after
128 MiB, so that a fast row may take less than its time. Before a slice that fills segments the log is cleaned, so that
it goes on in segments used before, as a log does that is cleaned from time to time.

Exit codes: 0 all was read back as acknowledged, 1 usage or I/O, or interrupted, 2 it was not, or the log was damaged.";

/// The object of `--json`.
pub const JSON: &str = "\
One JSON object

  dir, file_system (null where it is not known), record_bytes, seconds
  sync_us           the median time of a write of 4096 bytes in place and its sync, in microseconds;
                    sync_is_free: it reaches no disk, and figures of disk mean nothing
  tables            of each durability, not to be compared with one another: durability (os or disk),
                    survives (in words), rows, in the order asked for:
    threads
    floor, log      of each: records_per_second (the median of its slices), bytes_per_second (of
                    payload), records, syncs (of all slices), records_per_sync (null without syncs)
    ratio           the log's rate of the floor's
    latency         of appends at a fixed rate, from when each was due: rate (a second), records, p50_us,
                    p99_us, p999_us, max_us; behind_us: how late the last was begun, at most, in any slice;
                    keeps_up: that is little; overslept_p99_us: how late threads of the load woke, which is
                    a part of those (0 where none slept)
    read_back       records that were read back as acknowledged; reopened: how often
Further fields may come. What is told of an error: `seawall --help`.";
