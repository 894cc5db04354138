//! A replica in another process, with a cursor that keeps what it has not got:
//!
//! - `cargo run --example replica -- write LOG SOCKET` appends each line of standard input, and answers with its LSN;
//! - `cargo run --example replica -- follow LOG SOCKET COPY` copies the log LOG into one of its own, in COPY.
//!
//! The replica reads the log's files, beside the writer or without one. What it has appended to its copy, durably, it
//! acknowledges over the socket, and the writer releases the log's cursor `replica` up to there and cleans. Its own
//! position it keeps nowhere else than in the copy: each record there has as its batch time the LSN at which its
//! original ends, so that a record and the position behind it are durable together or not at all.
//!
//! What it guarantees, whoever of the two is killed, and when, and however often:
//! - The copy holds each durable record of the log once, in order, and batches whole.
//! - Cleaning never passes what the copy does not hold durably.
//!
//! What it does not: a replica that never comes back holds everything back. `Options::max_disk_bytes` bounds the log
//! then (appends get `LogFull`), and `Cursor::remove` gives the replica up.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use seawall::{Cursor, ErrorKind, Kind, Lsn, Options, ReadOnly, Wal};

/// Bytes of a segment: small, so that cleaning is soon to be seen. The default, 64 MiB, is the better one.
const SEGMENT: u64 = 64 << 10;
/// Records of which the replica waits for one sync.
const AT_ONCE: usize = 100;
/// How long the replica waits for a record before it says again where it is.
const IDLE: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", log, socket] => write(Path::new(log), Path::new(socket)),
        ["follow", log, socket, copy] => follow(Path::new(log), Path::new(socket), Path::new(copy)),
        _ => Err("usage: replica write LOG SOCKET | replica follow LOG SOCKET COPY".into()),
    }
}

// The writer.

fn write(log: &Path, socket: &Path) -> Result<(), Box<dyn Error>> {
    let wal = Arc::new(Options::new().segment_size(SEGMENT).open(log)?);
    // Before the first record: the cursor is durable when this returns, and from then on it keeps everything.
    let cursor = wal.cursor("replica")?;
    // One that is there is of a writer that is gone, for the log is locked.
    _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    let releasing = Arc::clone(&wal);
    thread::spawn(move || {
        for replica in listener.incoming() {
            if let Err(e) = replica.map_err(Into::into).and_then(|replica| release(&releasing, &cursor, replica)) {
                eprintln!("the replica is gone and may come back: {e}");
            }
        }
    });
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lines() {
        let lsn = wal.append(line?.as_bytes())?.wait()?;
        writeln!(out, "{lsn}")?;
    }
    wal.close()?;
    Ok(())
}

/// Releases what the replica says that it has, and cleans whenever that is a segment more.
fn release(wal: &Wal, cursor: &Cursor, replica: UnixStream) -> Result<(), Box<dyn Error>> {
    let mut cleaned = Lsn::ZERO;
    for line in BufReader::new(replica).lines() {
        // The last line of a replica that was killed may be cut short. That is a lower number, which releases nothing.
        let lsn = Lsn(line?.parse()?);
        cursor.release(lsn)?;
        if lsn.0 >= cleaned.0 + SEGMENT {
            // As far as can be: the cursor holds back what the replica has not got.
            wal.clean_before_lsn(Lsn::MAX)?;
            cleaned = lsn;
        }
    }
    Ok(())
}

// The replica.

fn follow(log: &Path, socket: &Path, copy: &Path) -> Result<(), Box<dyn Error>> {
    let log = look(log)?;
    // A directory for each log: the LSNs of another one mean something else.
    let copy = copy.join(format!("{:032x}", u128::from_le_bytes(log.log_id())));
    let copy = Options::new().segment_size(SEGMENT).open(copy)?;
    // Past the last record that the copy holds. Never zero, which begins wherever the log does: a replica that has lost
    // its copy is told `Removed` then, instead of going on with a hole.
    let mut position = copy.batch_time().0.max(1);
    let mut follower = log.follow(Lsn(position));
    let (mut batch, mut writer) = (Vec::new(), None);
    loop {
        let (mut ticket, mut taken) = (None, 0);
        let mut next = follower.next_timeout(IDLE)?;
        while let Some(record) = next {
            let end = record.end().0;
            match record.kind {
                Kind::Checkpoint => ticket = Some((end, copy.at(end).append_checkpoint(&record.payload)?)),
                _ => batch.push(record.payload),
            }
            if record.ends_batch && !batch.is_empty() {
                ticket = Some((end, copy.at(end).append_batch(&batch)?));
                batch.clear();
            }
            taken += 1;
            next = if taken < AT_ONCE { follower.try_next()? } else { None };
        }
        if let Some((end, ticket)) = ticket {
            // Only then acknowledged: what the writer releases may be gone at once.
            ticket.wait()?;
            position = end;
        }
        acknowledge(&mut writer, socket, position);
    }
}

/// Opens the log once there is one: it is made with its first record.
fn look(log: &Path) -> seawall::Result<ReadOnly> {
    loop {
        match Options::new().open_read_only(log) {
            Err(e) if *e.kind() == ErrorKind::NotFound => thread::sleep(IDLE),
            opened => return opened,
        }
    }
}

/// Tells the writer, if there is one. It is told again and again: a release counts at once and is durable a little
/// later, so that a writer that was killed may have to hear it again.
fn acknowledge(writer: &mut Option<UnixStream>, socket: &Path, position: u64) {
    if writer.is_none() {
        *writer = UnixStream::connect(socket).ok();
    }
    if let Some(stream) = writer
        && stream.write_all(format!("{position}\n").as_bytes()).is_err()
    {
        *writer = None;
    }
}
