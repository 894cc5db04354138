//! What was measured: as lines, as one object, as a page with plots that needs nothing else.

use std::time::Duration;

use serde_json::{Value, json};

use super::floor::Probe;
use super::row::{Row, Side};
use super::{Arguments, Table, facts, warning};
use crate::inspect::page;
use crate::out::{count, counted};
use crate::units::{bytes, time, whole};

pub const COLUMNS: [&str; 11] =
    ["threads", "", "records/s", "payload", "of floor", "syncs", "per sync", "due/s", "p50", "p99", "p99.9 / max"];
const WIDTHS: [usize; 11] = [7, 5, 10, 10, 8, 7, 8, 10, 7, 7, 15];

/// The quantiles of latency that are told.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// A row as two lines of a table: the floor, and the log.
pub fn cells(row: &Row, record: u64) -> [[String; 11]; 2] {
    let [p50, p99, p999, max] = QUANTILES.map(|(_, part)| time(row.arrivals.took.quantile(part)));
    let side = |first: String, name: &str, side: &Side, of_floor: String, latency: [String; 4]| {
        let per_sync = side.records_per_sync().map_or_else(String::new, |records| format!("{records:.1}"));
        let (rate, payload) = (count(whole(side.rate())), bytes(whole(side.rate() * record as f64)) + "/s");
        let [due, p50, p99, rest] = latency;
        [first, name.to_owned(), rate, payload, of_floor, count(side.syncs), per_sync, due, p50, p99, rest]
    };
    let latency = [count(whole(row.due)), p50, p99, format!("{p999} / {max}")];
    [
        side(count(row.threads as u64), "floor", &row.floor, String::new(), Default::default()),
        side(String::new(), "log", &row.log, format!("{:.2}", row.ratio()), latency),
    ]
}

/// A line of a table.
pub fn line(cells: &[impl AsRef<str>; 11]) -> String {
    let cells = cells.iter().zip(WIDTHS).enumerate().map(|(place, (cell, width))| match place {
        0 | 1 => format!("{:<width$}", cell.as_ref()),
        _ => format!("{:>width$}", cell.as_ref()),
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// What stands below a table.
pub fn notes(rows: &[Row]) -> Vec<String> {
    let (read, reopened) = rows.iter().fold((0, 0), |(read, times), row| (read + row.read_back, times + row.reopened));
    let all =
        format!("{} read back as acknowledged, after reopening {}", counted(read, "record"), counted(reopened, "time"));
    let mut notes = vec![all];
    for row in rows {
        let (threads, arrivals) = (counted(row.threads as u64, "thread"), &row.arrivals);
        if !row.keeps_up() {
            let (due, behind) = (count(whole(row.due)), time(arrivals.behind));
            notes.push(format!("note: {threads} did not keep up with {due}/s and fell behind by up to {behind}"));
        }
        let overslept = arrivals.overslept.quantile(0.99);
        if overslept * 4 > arrivals.took.quantile(0.5) {
            let late = time(overslept);
            notes.push(format!(
                "note: {threads}: the load itself woke up to {late} late (p99), which is in the latencies"
            ));
        }
    }
    notes
}

pub fn object(arguments: &Arguments, probe: &Probe, tables: &[Table]) -> Value {
    let tables = tables.iter().map(|Table { durability, rows }| {
        let rows: Vec<_> = rows.iter().map(|row| of_row(row, arguments.record)).collect();
        json!({ "durability": durability.name(), "survives": durability.survives(), "rows": rows })
    });
    json!({
        "dir": arguments.dir.display().to_string(), "file_system": probe.file_system,
        "record_bytes": arguments.record, "seconds": arguments.seconds,
        "sync_us": micros(probe.sync), "sync_is_free": probe.is_free(), "tables": tables.collect::<Vec<_>>(),
    })
}

fn of_row(row: &Row, record: u64) -> Value {
    let side = |side: &Side| {
        json!({
            "records_per_second": whole(side.rate()), "bytes_per_second": whole(side.rate() * record as f64),
            "records": side.records, "syncs": side.syncs, "records_per_sync": side.records_per_sync(),
        })
    };
    let arrivals = &row.arrivals;
    let mut latency = json!({
        "rate": whole(row.due), "records": arrivals.took.count, "behind_us": micros(arrivals.behind),
        "keeps_up": row.keeps_up(), "overslept_p99_us": micros(arrivals.overslept.quantile(0.99)),
    });
    if let Value::Object(fields) = &mut latency {
        fields
            .extend(QUANTILES.map(|(name, part)| (format!("{name}_us"), json!(micros(arrivals.took.quantile(part))))));
    }
    json!({
        "threads": row.threads, "floor": side(&row.floor), "log": side(&row.log), "ratio": row.ratio(),
        "latency": latency, "read_back": row.read_back, "reopened": row.reopened,
    })
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

/// How the page looks, by day and by night.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ddd; --floor: #adb5bd; --log: #1971c2 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #181a1b; --line: #3a3d40; --floor: #6c757d; --log: #4dabf7 }
}
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em; color: var(--ink); background: var(--paper) }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid var(--line) }
td { font-variant-numeric: tabular-nums; white-space: nowrap } .warning { color: #e03131; font-weight: bold }
svg { display: block; max-width: 100%; margin: 1em 0 } svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
.floor { fill: var(--floor) } .log { fill: var(--log) } .range { stroke: var(--log); stroke-width: 2 }
.grid { stroke: var(--line) } .key i { display: inline-block; width: 1em; height: 1em; margin: 0 .4em 0 1.2em }
.key .floor { background: var(--floor) } .key .log { background: var(--log) }";

const KEY: &str = "<p class=\"key\"><i class=\"floor\"></i>floor, by hand<i class=\"log\"></i>log</p>\n";

/// Where a plot begins, right of its labels; how wide it is, and each of its rows high.
const LEFT: f64 = 90.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 46.0;

pub fn page(arguments: &Arguments, probe: &Probe, tables: &[Table]) -> String {
    let facts: String =
        facts(arguments, probe).iter().map(|(name, value)| page::cells("td", [name, &**value])).collect();
    let warning =
        warning(probe).map_or_else(String::new, |text| format!("<p class=\"warning\">{}</p>\n", page::escape(text)));
    let tables: String = tables.iter().map(|table| section(table, arguments.record)).collect();
    format!(
        "<!doctype html>\n<!-- seawall bench -->\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>seawall bench</title>\n<style>{STYLE}\n</style>\n<h1>seawall bench</h1>\n<table>\n{facts}</table>\n\
         {warning}<p>Figures of different durability promise different things: they are not to be compared.</p>\n\
         {tables}</html>\n"
    )
}

fn section(table: &Table, record: u64) -> String {
    let (name, survives) = (table.durability.name(), table.durability.survives());
    let rows: String =
        table.rows.iter().flat_map(|row| cells(row, record)).map(|cells| page::cells("td", cells)).collect();
    let notes: String = notes(&table.rows).iter().map(|note| format!("<p>{}</p>\n", page::escape(note))).collect();
    format!(
        "<h2>{name}</h2>\n<p>{survives}</p>\n<h3>Records a second</h3>\n{KEY}{}<h3>Latency of the log at a fixed rate</h3>\n\
         {}<table>\n{}{rows}</table>\n{notes}",
        throughput(&table.rows),
        latency(&table.rows),
        page::cells("th", COLUMNS),
    )
}

/// A plot of all rows, one below the other, and what is drawn of each at its height.
fn plot(rows: &[Row], what: &str, behind: &str, draw: impl Fn(&Row, f64) -> String) -> String {
    let (width, height) = (LEFT + WIDTH + 130.0, HEIGHT * rows.len() as f64 + 24.0);
    let rows: String = rows
        .iter()
        .enumerate()
        .map(|(place, row)| {
            let top = HEIGHT * place as f64;
            let label = counted(row.threads as u64, "thread");
            format!("<text x=\"0\" y=\"{}\">{label}</text>\n{}", top + 26.0, draw(row, top))
        })
        .collect();
    format!(
        "<svg role=\"img\" aria-label=\"{what}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         {behind}{rows}</svg>\n"
    )
}

/// Two bars for each row.
fn throughput(rows: &[Row]) -> String {
    let most = rows.iter().flat_map(|row| [row.floor.rate(), row.log.rate()]).fold(1.0, f64::max);
    let bar = |class: &str, rate: f64, top: f64, more: &str| {
        let long = WIDTH * rate / most;
        let (end, text, rate) = (LEFT + long + 6.0, top + 13.0, count(whole(rate)));
        format!(
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" width=\"{long:.1}\" height=\"17\"/>\
             <text x=\"{end:.1}\" y=\"{text}\">{rate}/s{more}</text>\n"
        )
    };
    plot(rows, "records a second, of floor and log", "", |row, top| {
        let ratio = format!(" ({:.2})", row.ratio());
        bar("floor", row.floor.rate(), top + 4.0, "") + &bar("log", row.log.rate(), top + 22.0, &ratio)
    })
}

/// A line from the median to the longest of each row, with its quantiles, where each further line of the grid is ten times
/// as long.
fn latency(rows: &[Row]) -> String {
    let quantile = |row: &Row, part| (row.arrivals.took.quantile(part).as_nanos() as f64).max(1.0).log10();
    let first = rows.iter().map(|row| quantile(row, 0.5)).fold(f64::MAX, f64::min).floor();
    let last = rows.iter().map(|row| quantile(row, 1.0)).fold(first + 1.0, f64::max).ceil();
    let x = |log: f64| LEFT + WIDTH * (log - first) / (last - first);
    let bottom = HEIGHT * rows.len() as f64;
    let grid: String = (0..=whole(last - first))
        .map(|power| {
            let log = first + power as f64;
            let (x, label) = (x(log), time(Duration::from_nanos(whole(10f64.powf(log).round()))));
            format!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{label}</text>\n",
                x - 14.0,
                bottom + 16.0
            )
        })
        .collect();
    plot(rows, "latency: p50, p99, p99.9 and the longest", &grid, |row, top| {
        let y = top + 22.0;
        let dots = QUANTILES.map(|(name, part)| {
            let (x, took) = (x(quantile(row, part)), time(row.arrivals.took.quantile(part)));
            let name = if name == "p999" { "p99.9" } else { name };
            format!("<circle class=\"log\" cx=\"{x:.1}\" cy=\"{y}\" r=\"5\"><title>{name}: {took}</title></circle>\n")
        });
        let [from, to] = [0.5, 1.0].map(|part| x(quantile(row, part)));
        let max = time(row.arrivals.took.longest);
        format!(
            "<line class=\"range\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y}\" y2=\"{y}\"/>\n{}\
             <text x=\"{:.1}\" y=\"{}\">max {max}</text>\n",
            dots.concat(),
            to + 9.0,
            y + 4.0
        )
    })
}
