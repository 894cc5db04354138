//! What is told to `tracing`, heard by a subscriber of our own.
#![cfg(all(feature = "sim", feature = "tracing"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fmt::{Debug, Write};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::sim::{Disk, Failing, Fault, Operation};
use seawall::{Lsn, Options, Wal};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Notes each event of the log as a line.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// What was heard since this was asked last.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "seawall"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// All on one thread: background work too is stepped on it.
fn hearing(test: impl FnOnce(&Heard)) {
    let heard = Heard::default();
    tracing::subscriber::with_default(heard.clone(), || test(&heard));
}

fn small() -> Options {
    Options::new().segment_size(16 << 10)
}

fn append(wal: &Wal, length: usize) -> bool {
    wal.append(&vec![1; length]).is_ok_and(|ticket| ticket.wait().is_ok())
}

#[test]
fn a_life_is_told_and_appends_are_not() {
    hearing(|heard| {
        let disk = Disk::new(1);
        let wal = small().open_on(disk.mount()).unwrap();
        assert_eq!(
            heard.take(),
            [r#"INFO opened log=sim records=0 torn=false recovery=clean; 0 segments, 0 records, LSN 0 to 0, 0ns"#]
        );
        append(&wal, 10);
        disk.settle();
        assert_eq!(heard.take(), [r#"DEBUG segment begun log=sim segment="00000000000000000000.wal""#]);
        for _ in 0..20 {
            append(&wal, 10);
            disk.settle();
        }
        wal.sync().unwrap();
        assert_eq!(heard.take(), [""; 0]);
        // Two are begun before the background looks, and each is told, once.
        for _ in 0..2 {
            append(&wal, 7000);
            wal.rotate().unwrap();
        }
        disk.settle();
        let begun = heard.take();
        assert_eq!(begun.len(), 2, "{begun:?}");
        assert!(begun.iter().all(|line| line.starts_with("DEBUG segment begun log=sim segment=")), "{begun:?}");
        assert!(begun.is_sorted() && begun[0] != begun[1], "{begun:?}");
        let first = wal.clean_before_lsn(Lsn::MAX).unwrap().first;
        assert_eq!(heard.take(), [format!("INFO cleaned log=sim first={first} removed=2 failed=0")]);
        wal.clean_before_lsn(Lsn::MAX).unwrap();
        assert_eq!(heard.take(), [""; 0], "nothing went");
        // One before the end is told there.
        append(&wal, 7000);
        wal.rotate().unwrap();
        wal.close().unwrap();
        let end = heard.take();
        assert!(end.len() == 2 && end[0].starts_with("DEBUG segment begun"), "{end:?}");
        assert_eq!(end[1], "INFO closed log=sim");
        drop(wal);
        assert_eq!(heard.take(), [""; 0]);
        // Segments that were found are not begun.
        let wal = small().open_on(disk.mount()).unwrap();
        disk.settle();
        assert_eq!(heard.take().len(), 1);
        append(&wal, 10);
        disk.settle();
        assert_eq!(heard.take().len(), 1);
    });
}

#[test]
fn a_full_disk_is_told_when_it_begins_and_when_it_ends() {
    hearing(|heard| {
        let disk = Disk::new(2);
        let wal = small().open_on(disk.mount()).unwrap();
        append(&wal, 10);
        disk.settle();
        heard.take();
        disk.capacity(disk.used());
        while append(&wal, 3000) {}
        for _ in 0..3 {
            assert!(!append(&wal, 3000));
            disk.advance(Duration::from_secs(1));
        }
        let told = heard.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("WARN appends refused log=sim error=allocate sim/"), "{told:?}");
        disk.capacity(None);
        append(&wal, 3000);
        assert_eq!(heard.take(), ["INFO appends resumed log=sim after=3s"]);
        disk.settle();
        heard.take();
        // Writes that meet it.
        disk.fail(Fault::new(Operation::Write).on(".wal").kind(io::ErrorKind::StorageFull).for_good());
        drop(wal.append(b"waits").unwrap());
        wal.clean_before_lsn(Lsn::ZERO).unwrap();
        disk.settle();
        let told = heard.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("WARN appends refused log=sim error=write sim/"), "{told:?}");
        disk.heal();
        disk.advance(Duration::from_secs(2));
        disk.settle();
        assert_eq!(heard.take(), ["INFO appends resumed log=sim after=2s"]);
    });
}

#[test]
fn a_slow_sync_and_a_failed_one_are_told() {
    hearing(|heard| {
        let disk = Arc::new(Disk::new(3));
        let slow = Failing::new(disk.mount());
        let wal = small().open_on(slow.clone()).unwrap();
        append(&wal, 10);
        disk.settle();
        heard.take();
        let clock = Arc::clone(&disk);
        slow.before(Operation::Sync, move || clock.advance(Duration::from_millis(1500)));
        append(&wal, 1000);
        assert_eq!(heard.take(), [r#"WARN sync slow log=sim segment="00000000000000000000.wal" bytes=1024 took=1.5s"#]);
        slow.heal();
        append(&wal, 1000);
        assert_eq!(heard.take(), [""; 0]);
        disk.fail(Fault::new(Operation::Sync).on(".wal"));
        for _ in 0..2 {
            assert!(!append(&wal, 10));
        }
        let told = heard.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("ERROR poisoned error=the log is poisoned: sync sim/"), "{told:?}");
        drop(wal);
        let told = heard.take();
        assert!(told.len() == 1 && told[0].starts_with("WARN closed log=sim error="), "{told:?}");
    });
}
