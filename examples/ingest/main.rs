//! A service that takes events over HTTP: `cargo run --example ingest -- DIR [ADDRESS [MIB]]`, then
//! `curl -d hello ADDRESS/events`.
//!
//! | | |
//! |---|---|
//! | `POST /events` | appends the body. `201` and its LSN once it is durable; `429` when there is no room |
//! | `DELETE /events/LSN` | whoever consumes them is done with all below: the log is cleaned up to there |
//! | `GET /ready` | `200` while events are taken, otherwise `503`; and why |
//! | `GET /stats` | records and syncs |
//!
//! No sync runs on an async worker. `try_append` copies the event into memory and never waits; the ticket is awaited,
//! and the log's own thread syncs for all that await then, so that the requests in flight share one sync. What does
//! wait for the disk (opening, cleaning, closing) has a thread that may block.
//!
//! What it guarantees:
//! - An event that was answered with `201` is there after a killed process, a crash of the system and a power cut.
//! - An event that was answered with `429` or `413` is not there.
//! - At most 8 MiB of events are in memory and MIB (64; 4 or more) on the disk; beyond either, `429`.
//! - SIGTERM or ctrl-c stops it in order: requests that were read are answered, then the log is closed. A client that
//!   does not read its answer is waited for no longer than a second.
//!
//! What it does not: where the answer is `500` or got lost, nobody knows whether the event is there, and whoever sends
//! it again should give it an id. And there may be a few `429` until the log's own thread has made a segment, where events
//! come faster than that goes.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod http;

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use seawall::{ErrorKind, Lsn, Options, Wal};
use tokio::io::BufStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: ingest DIR [ADDRESS [MIB]], with MIB 4 or more")?;
    let address = arguments.next().unwrap_or("127.0.0.1:8080".into());
    let mib: u64 = arguments.next().map_or(Ok(64), |mib| mib.parse())?;
    // Opening recovers, and nothing is served before.
    let options = Options::new().segment_size(1 << 20).max_disk_bytes(mib << 20);
    let wal = Arc::new(spawn_blocking(move || open(&options, &dir)).await??);
    println!("{}", wal.recovery());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);

    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(serve(Arc::clone(&wal), stream, stopping.clone())),
                // Of descriptors, for instance, there may be more in a moment.
                Err(e) => {
                    eprintln!("accept: {e}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    // In this order: nobody new, then what was read is answered, then the log. Closing syncs what is left.
    drop(listener);
    drop(stop);
    while connections.join_next().await.is_some() {}
    spawn_blocking(move || wal.close()).await??;
    println!("closed");
    Ok(())
}

/// Opens the log, and makes the first segment: `try_append` waits for none, and would refuse the first event.
fn open(options: &Options, dir: &str) -> seawall::Result<Wal> {
    let wal = options.open(dir)?;
    match wal.prepare() {
        // Full: it is served, for `/ready` says so, and a DELETE makes room.
        Err(e) if e.is_backpressure() => Ok(wal),
        prepared => prepared.map(|()| wal),
    }
}

/// Answers the requests of one connection, one by one, until it ends or the service stops.
async fn serve(wal: Arc<Wal>, stream: TcpStream, mut stopping: watch::Receiver<()>) {
    let mut stream = BufStream::new(stream);
    loop {
        let request = tokio::select! {
            request = http::read(&mut stream) => request,
            _ = stopping.changed() => return,
        };
        let sent = match request {
            Ok(Some(request)) => send(&mut stream, &answer(&wal, request).await, &mut stopping).await,
            Ok(None) => return,
            Err(e) => {
                _ = send(&mut stream, &Response::new(400, e), &mut stopping).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Sends an answer. Once the service stops, whoever does not read it is not waited for.
async fn send(
    stream: &mut BufStream<TcpStream>,
    response: &Response,
    stopping: &mut watch::Receiver<()>,
) -> io::Result<()> {
    const GRACE: Duration = Duration::from_secs(1);
    let mut sending = pin!(http::write(stream, response));
    tokio::select! {
        sent = &mut sending => return sent,
        _ = stopping.changed() => {}
    }
    timeout(GRACE, sending).await?
}

async fn answer(wal: &Arc<Wal>, request: Request) -> Response {
    let Request { method, path, body } = request;
    match (method.as_str(), path.as_str()) {
        ("POST", "/events") => ingest(wal, &body).await,
        ("DELETE", path) => match path.strip_prefix("/events/").and_then(|lsn| lsn.parse().ok()) {
            Some(lsn) => clean(Arc::clone(wal), Lsn(lsn)).await,
            None => Response::new(404, "no such event"),
        },
        // Asking waits for no disk. Full, slow or poisoned: the body says what it is.
        ("GET", "/ready") => {
            let health = wal.health();
            Response::new(if health.takes_appends() { 200 } else { 503 }, health)
        }
        ("GET", "/stats") => {
            let stats = wal.stats();
            Response::new(200, format!("{} records, {} syncs", stats.appended_records, stats.syncs))
        }
        _ => Response::new(404, "not found"),
    }
}

/// One event. What is awaited is the ticket and nothing else; dropped meanwhile, the event stays.
async fn ingest(wal: &Wal, event: &[u8]) -> Response {
    let appended = match wal.try_append(event) {
        Ok(ticket) => ticket.await,
        Err(e) => Err(e),
    };
    match appended {
        Ok(lsn) => Response::new(201, lsn),
        // Nothing was appended.
        Err(e) if e.is_backpressure() => Response { retry_after: Some(1), ..Response::new(429, e) },
        Err(e) if matches!(e.kind(), ErrorKind::TooLarge { .. }) => Response::new(413, e),
        // Poisoned: unknown. The log wants to be opened again; `/ready` says so to whoever restarts us.
        Err(e) => Response::new(500, e),
    }
}

/// Syncs and removes files: on a thread that may block.
async fn clean(wal: Arc<Wal>, below: Lsn) -> Response {
    match spawn_blocking(move || wal.clean_before_lsn(below)).await {
        Ok(Ok(cleaned)) => Response::new(200, format!("the log begins at {}", cleaned.first)),
        Ok(Err(e)) => Response::new(500, e),
        Err(e) => Response::new(500, e),
    }
}
