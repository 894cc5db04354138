//! Figures in the text format of Prometheus.

use seawall::check::{CursorInfo, Overview};

use super::segments;
use crate::out::Out;

pub fn write(overview: &Overview, out: &mut Out) -> anyhow::Result<()> {
    let rows = [
        ("segments", "Segments that hold the log.", segments(overview) as u64),
        ("disk_bytes", "Bytes of all files of the log.", overview.disk_bytes),
        ("records", "Records in the log.", overview.records),
        ("first_lsn", "All below was cleaned.", overview.first.0),
        ("durable_lsn", "All below is durable.", overview.durable.0),
        ("since_checkpoint_bytes", "Bytes of log since the last checkpoint.", overview.since_checkpoint),
        ("faults", "Damaged places that were met; seawall verify finds all.", overview.faults.len() as u64),
    ];
    // What only grows has a name of its own kind.
    head("appended_records_total", "counter", "Records since the log was made.", out)?;
    out.raw(format_args!("seawall_appended_records_total {}", overview.appended))?;
    for (name, help, value) in rows {
        head(name, "gauge", help, out)?;
        out.raw(format_args!("seawall_{name} {value}"))?;
    }
    type Figure = fn(&CursorInfo) -> u64;
    let of_cursors: [(_, _, Figure); 2] = [
        ("cursor_lag_bytes", "Bytes of log between a cursor and the durable point.", |cursor| cursor.lag),
        ("cursor_held_bytes", "Bytes of segments that cannot be cleaned because of a cursor.", |cursor| cursor.holds),
    ];
    for (name, help, figure) in of_cursors {
        head(name, "gauge", help, out)?;
        for cursor in &overview.cursors {
            let value = figure(cursor);
            out.raw(format_args!("seawall_{name}{{cursor=\"{}\"}} {value}", label(&cursor.name)))?;
        }
    }
    Ok(())
}

fn head(name: &str, kind: &str, help: &str, out: &mut Out) -> anyhow::Result<()> {
    out.raw(format_args!("# HELP seawall_{name} {help}\n# TYPE seawall_{name} {kind}"))
}

/// As the value of a label. What a terminal would obey is not told.
fn label(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    let text: String = text.chars().map(shown).collect();
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
