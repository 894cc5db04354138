//! What is ranked, and the tables.

use std::fmt::Write;

/// What an engine did in one slice.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Records acknowledged.
    pub records: u64,
    /// In so many seconds.
    pub seconds: f64,
    /// Syncs of its process.
    pub syncs: u64,
}

/// What an engine did in all slices.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Its crate's version.
    pub version: String,
    /// Slice by slice, beside the floor's.
    pub slices: Vec<Slice>,
    /// How many records were read back, all as they were acknowledged; or what is wrong.
    pub read_back: Result<u64, String>,
}

impl Slice {
    fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

impl Row {
    /// Whether it can have been durable: each thread waits for its record, so that a sync covers no more records than
    /// there are threads. It may still sync the wrong thing; no count tells that.
    fn durable(&self, threads: usize) -> bool {
        self.slices.iter().all(|slice| slice.records > 0 && slice.syncs * threads as u64 >= slice.records)
    }

    /// Its rate over the floor's: the median over the slices that ran side by side.
    fn ratio(&self, floor: &Row) -> f64 {
        median(self.slices.iter().zip(&floor.slices).map(|(own, floor)| own.rate() / floor.rate()))
    }

    fn cells(&self, floor: &Row) -> [String; 7] {
        let (records, syncs) =
            self.slices.iter().fold((0, 0), |(records, syncs), slice| (records + slice.records, syncs + slice.syncs));
        [
            self.name.into(),
            self.version.clone(),
            format!("{:.0}", median(self.slices.iter().map(Slice::rate))),
            format!("{:.2}", self.ratio(floor)),
            syncs.to_string(),
            if syncs == 0 { "-".into() } else { format!("{:.2}", records as f64 / syncs as f64) },
            self.read_back.as_ref().map_or_else(|wrong| format!("WRONG: {wrong}"), |n| format!("all {n}")),
        ]
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The tables of one number of threads. The first row is the floor.
pub fn tables(rows: &[Row], threads: usize) -> String {
    let Some(floor) = rows.first() else { return String::new() };
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by(|a, b| b.ratio(floor).total_cmp(&a.ratio(floor)));
    let (whole, wrong): (Vec<&Row>, Vec<&Row>) = sorted.into_iter().partition(|row| row.read_back.is_ok());
    let (ranked, unsynced): (Vec<&Row>, Vec<&Row>) = whole.into_iter().partition(|row| row.durable(threads));
    let mut text = String::new();
    for (title, rows) in [
        ("durable on return", ranked),
        ("NOT DURABLE at this call: fewer syncs than its appends need; not ranked", unsynced),
        ("READ BACK WRONG: not what was acknowledged; not ranked", wrong),
    ] {
        if !rows.is_empty() {
            _ = writeln!(text, "{title}");
            let head = ["engine", "version", "records/s", "of floor", "syncs", "records/sync", "read back"];
            line(&mut text, &head.map(str::to_owned));
            rows.iter().for_each(|row| line(&mut text, &row.cells(floor)));
            text.push('\n');
        }
    }
    text
}

fn line(text: &mut String, cells: &[String; 7]) {
    let [engine, version, rate, ratio, syncs, per, read] = cells;
    _ = writeln!(text, "  {engine:<18} {version:<8} {rate:>10} {ratio:>9} {syncs:>9} {per:>13}  {read}");
}
