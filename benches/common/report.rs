//! What is printed: the head, the table, the same as Markdown.

use super::measure::{Bench, EACH, GROUPED, Measured, Side, Target, Totals, Workload, median, permille};

/// One row of the table.
pub struct Outcome {
    name: String,
    target: Target,
    measured: Measured,
}

impl Outcome {
    /// A workload with its figures.
    pub fn new(workload: &Workload, measured: Measured) -> Outcome {
        Outcome { name: workload.name.clone(), target: workload.target, measured }
    }

    /// Why the two did not sync alike, or by how much a bound was passed, if so.
    pub fn wrong(&self) -> Option<String> {
        let ratio = self.ratio_of_medians();
        let beyond = matches!(self.target, Target::Bounded) && ratio > 1.0;
        let beyond = beyond.then(|| format!("{ratio:.2} of what it may take"));
        self.measured.unlike().or(beyond).map(|why| format!("{}: {why}", self.name))
    }

    fn ratio_of_medians(&self) -> f64 {
        median(&self.measured.log.figures) / median(&self.measured.floor.figures)
    }

    /// The cells of the row.
    fn cells(&self) -> [String; COLUMNS.len()] {
        let Measured { floor, log, .. } = &self.measured;
        let pairs = self.measured.pairs();
        let ratio = median(&pairs);
        let spread = format!("{:.2} to {:.2}", permille(&pairs, 250), permille(&pairs, 750));
        let (target, verdict) = match self.target {
            Target::AtLeast(target) => (format!(">= {target}"), verdict(ratio / target)),
            Target::AtMost(target) => (format!("<= {target}"), verdict(target / ratio)),
            Target::Bounded => ("<= 1".into(), verdict(1.0 / ratio)),
        };
        let label = if log.label.is_empty() { floor.label.clone() } else { format!("{}; {}", floor.label, log.label) };
        [
            self.name.clone(),
            self.figure(floor),
            self.figure(log),
            format!("{:.2}", self.ratio_of_medians()),
            format!("{ratio:.2}"),
            spread,
            target,
            verdict.into(),
            format!("{} / {}", syncs(floor.totals), syncs(log.totals)),
            label,
        ]
    }

    fn figure(&self, side: &Side) -> String {
        let figure = median(&side.figures);
        match self.target {
            Target::AtLeast(_) if figure >= 1e6 => format!("{:.2} M/s", figure / 1e6),
            Target::AtLeast(_) => format!("{:.1} k/s", figure / 1e3),
            Target::AtMost(_) => format!("{figure:.0} us"),
            Target::Bounded => format!("{figure:.1} MiB"),
        }
    }
}

const COLUMNS: [(&str, usize); 10] = [
    ("workload", 28),
    ("floor", 10),
    ("seawall", 10),
    ("ratio", 6),
    ("pairs", 6),
    ("middle half", 13),
    ("target", 8),
    ("verdict", 10),
    ("records a sync", 15),
    ("floor is", 0),
];

fn verdict(of_target: f64) -> &'static str {
    match of_target {
        good if good >= 1.0 => "met",
        near if near >= 0.8 => "below",
        _ => "under 0.8",
    }
}

fn syncs(totals: Totals) -> String {
    if totals.syncs == 0 { "none".into() } else { format!("{:.1}", totals.records as f64 / totals.syncs as f64) }
}

/// `100 B`, `1 KiB`, `4 MiB`.
pub fn size_of(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// Says where and how it is measured, and heads the table.
pub fn head(bench: &Bench) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{} on {cores} cores; a sync of 4 KiB takes {:.0?}", bench.dir.path().display(), bench.dir.sync);
    println!("{} pairs of slices a row; ratio: of the medians; pairs: median over the pairs,", bench.rounds);
    println!("held against the target; the middle half of the pairs lies between the two that follow.");
    println!("Syncs may differ by {:.0} % with one thread and a sync for each segment begun,", (EACH - 1.0) * 100.0);
    println!("{GROUPED:.0}-fold where threads form groups by chance; and none may cover more records than were out.\n");
    line(&COLUMNS.map(|(name, _)| name.into()));
}

/// Prints one row.
pub fn row(outcome: &Outcome) {
    line(&outcome.cells());
    if let Some(why) = outcome.wrong() {
        println!("    WRONG: {why}");
    }
}

fn line(cells: &[String; COLUMNS.len()]) {
    let padded: Vec<String> = cells.iter().zip(COLUMNS).map(|(cell, (_, width))| format!("{cell:<width$}")).collect();
    println!("{}", padded.join(" ").trim_end());
}

/// Prints the table for `DESIGN.md`.
pub fn markdown(outcomes: &[Outcome]) {
    let row = |cells: &[String; COLUMNS.len()]| println!("| {} |", cells.join(" | "));
    println!();
    row(&COLUMNS.map(|(name, _)| name.into()));
    println!("|{}", "---|".repeat(COLUMNS.len()));
    outcomes.iter().for_each(|outcome| row(&outcome.cells()));
}

/// Prints every row that did not sync alike or passed a bound; tells whether there was none.
pub fn right(outcomes: &[Outcome]) -> bool {
    let wrong: Vec<String> = outcomes.iter().filter_map(Outcome::wrong).collect();
    wrong.iter().for_each(|why| eprintln!("wrong: {why}"));
    wrong.is_empty()
}
