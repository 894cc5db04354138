//! The page of `inspect --html`: a map of the segments, in one file that needs nothing else.

use std::path::Path;

use seawall::check::{Overview, SegmentInfo};

use super::{COLUMNS, facts, row, state};

/// How each page begins, which is how one is known.
pub const BEGINS: &str = "<!doctype html>\n<!-- seawall inspect -->\n";

/// Colours by state, and how the page looks.
const STYLE: &str = "
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
.map { display: flex; flex-wrap: wrap; gap: 3px; margin: 1em 0 }
.map i { height: 40px; min-width: 6px; border-radius: 2px }
.key i { display: inline-block; width: 1em; height: 1em; margin: 0 .4em 0 1.2em; vertical-align: -2px }
.active { background: #2b8a3e } .sealed { background: #4dabf7 } .prepared { background: #dee2e6 }
.spare { background: #adb5bd } .cut-off { background: #f59f00 } .damaged { background: #e03131 }
.missing { background: #fff; outline: 2px dashed #e03131; outline-offset: -2px } .lone { background: #845ef7 }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: left; border-bottom: 1px solid #eee }
td { font-variant-numeric: tabular-nums } .fault { color: #e03131 }";

const STATES: [&str; 8] = ["active", "sealed", "prepared", "spare", "cut-off", "damaged", "missing", "lone"];

pub fn page(path: &Path, overview: &Overview) -> String {
    let title = escape(&path.display().to_string());
    let key: String = STATES.iter().map(|state| format!("<i class=\"{state}\"></i>{state}")).collect();
    let map: String = overview.segments.iter().map(|segment| tile(segment, overview)).collect();
    let facts: String = facts(overview).iter().map(|(name, value)| cells("td", [name, value])).collect();
    let rows: String = overview.segments.iter().map(|segment| cells("td", row(segment))).collect();
    let files = |title: &str, files: &[seawall::check::FileInfo]| {
        let rows: String = files.iter().map(|file| cells("td", [&file.name, &file.length.to_string()])).collect();
        if rows.is_empty() { rows } else { format!("<h2>{title}</h2>\n<table>\n{rows}</table>\n") }
    };
    let list = |class: &str, lines: Vec<String>| {
        lines.iter().map(|line| format!("<p class=\"{class}\">{}</p>\n", escape(line))).collect::<String>()
    };
    format!(
        "{BEGINS}<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>{STYLE}\n</style>\n\
         <h1>{title}</h1>\n<table>\n{facts}</table>\n<div class=\"map\">\n{map}</div>\n<p class=\"key\">{key}</p>\n\
         {}{}<table>\n{}{rows}</table>\n{}{}</html>\n",
        list("fault", overview.faults.iter().map(|fault| format!("damage: {fault}")).collect()),
        list("note", overview.notes.clone()),
        cells("th", COLUMNS),
        files("Moved aside", &overview.aside),
        files("Not the log's", &overview.foreign),
    )
}

/// A segment on the map, as wide as its file is long beside the longest, and all about it under the pointer.
fn tile(segment: &SegmentInfo, overview: &Overview) -> String {
    let longest = overview.segments.iter().map(|segment| segment.length).max().unwrap_or(0).max(1);
    let width = 80 * segment.length / longest;
    let about: Vec<_> = COLUMNS.iter().zip(row(segment)).map(|(name, value)| format!("{name}: {value}")).collect();
    let (state, about) = (state(&segment.state), escape(&about.join("\n")));
    format!("<i class=\"{state}\" style=\"width: {width}px\" title=\"{about}\"></i>\n")
}

/// A row of a table.
pub fn cells<T: AsRef<str>>(tag: &str, cells: impl IntoIterator<Item = T>) -> String {
    let cells: String = cells.into_iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell.as_ref()))).collect();
    format!("<tr>{cells}</tr>\n")
}

/// As text of a page: names of files and cursors may hold anything.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}
