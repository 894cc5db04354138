//! Rules of the source that no compiler checks: layers, first lines, lengths, nothing left over.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Imports that go down all the same, and why.
const DOWN: &[(&str, &str, &str)] = &[
    ("recovery", "options", "the recovery mode is an option of the caller"),
    ("writer", "options", "what the caller asked for"),
    ("options", "sim", "planting bugs, under the feature"),
];

/// Files of more than 500 lines, and why.
const LONG: &[(&str, &str)] = &[];

/// Other engines beside this one.
const COMPARE: &str = "bench-compare/src";

fn sources(dir: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap().to_owned()
}

/// The top-level module that a file of `src` belongs to.
fn module(path: &Path) -> String {
    let name = name(path);
    let below = name.strip_prefix("src/").unwrap();
    below.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// The layers as `DESIGN.md` draws them, lowest first. A module imports from its own line and from those above it only.
fn layers() -> Vec<Vec<String>> {
    let design = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("DESIGN.md")).unwrap();
    let drawn = design.split_once("## The layers").unwrap().1.split("```").nth(1).unwrap();
    let modules = |line: &str| {
        let names = line.split("  ").next().unwrap_or_default();
        names.split(' ').map(|name| name.trim_end_matches('/').to_owned()).collect()
    };
    drawn.trim().lines().filter(|line| !line.starts_with(' ')).map(modules).collect()
}

/// The modules that a line of code outside comments names as `crate::module` or `crate::{module, module}`. Braces that
/// end on another line are a module `{`, which is in no layer.
fn named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap();
    let paths = code.split("crate::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
        None => vec![rest],
        Some(list) => list.split_once('}').map_or(vec!["{"], |(list, _)| list.split(',').map(str::trim).collect()),
    });
    let name = |c: &char| c.is_ascii_lowercase() || "_{".contains(*c);
    paths.map(|path| path.chars().take_while(name).collect::<String>()).filter(|module| !module.is_empty()).collect()
}

#[test]
fn imports_are_seen_in_braces_too() {
    assert_eq!(named("use crate::format::{BLOCK, sum}; // crate::log"), ["format"]);
    assert_eq!(named("use crate::{Error, log::Log, wal::Wal};"), ["log", "wal"]);
    assert_eq!(named("use crate::{"), ["{"]);
}

/// What is wrong with some lines, told all at once.
fn none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

#[test]
fn imports_go_upward_only() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    let layers = layers();
    let layer = |module: &str| layers.iter().position(|layer| layer.iter().any(|name| name == module));
    for path in sources("src") {
        let own = module(&path);
        if matches!(own.as_str(), "lib" | "bin") {
            continue;
        }
        let Some(place) = layer(&own) else {
            faults.push(format!("{}: its module is in no layer", name(&path)));
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        // Tests of a module may go through the whole log.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (n, line) in code.lines().enumerate() {
            for other in named(line).into_iter().filter(|other| *other != own) {
                let excused = DOWN.iter().find(|(from, to, _)| *from == own && *to == other);
                match (layer(&other), excused) {
                    (Some(above), _) if above <= place => {}
                    (_, Some(excuse)) => _ = used.insert((excuse.0, excuse.1)),
                    (None, _) if other == "receiver" => {}
                    _ => faults.push(format!("{}:{}: {own} imports {other}", name(&path), n + 1)),
                }
            }
        }
    }
    none("imports that go down", &faults);
    let excused: BTreeSet<_> = DOWN.iter().map(|(from, to, _)| (*from, *to)).collect();
    assert_eq!(used, excused, "excuses that nothing needs");
}

#[test]
fn the_receiver_uses_the_public_api_alone() {
    let private = [
        "format", "scan", "recovery", "segment", "commit", "pieces", "framing", "maker", "mark", "writer", "append",
        "log", "bugs",
    ];
    let mut faults = Vec::new();
    for path in sources("src/receiver") {
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let uses = named(line).into_iter().filter(|module| private.contains(&module.as_str()));
            faults.extend(uses.map(|module| format!("{}:{}: {module}", name(&path), n + 1)));
        }
    }
    none("private modules in the receiver", &faults);
}

/// What would take part in a schedule without `shuttle` knowing.
#[test]
fn locks_and_threads_of_the_core_come_from_one_place() {
    let words = ["parking_lot", "std::sync::atomic", "std::thread", "Arc, OnceLock", "std::sync::OnceLock"];
    let covered = |path: &PathBuf| !matches!(module(path).as_str(), "sync" | "latch" | "check" | "receiver" | "bin");
    let mut faults = Vec::new();
    for path in sources("src").into_iter().filter(|path| covered(path) && !path.ends_with("tests.rs")) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let own = |line: &str| line.contains("crate::sync") || line.trim_start().starts_with("//");
        for (n, line) in code.lines().enumerate().filter(|(_, line)| !own(line)) {
            // A static outlives a schedule, and is of `std`.
            let found = words.iter().filter(|word| line.contains(**word) && !line.contains("static "));
            faults.extend(found.map(|word| format!("{}:{}: {word}", name(&path), n + 1)));
        }
    }
    none("not from src/sync.rs", &faults);
}

#[test]
fn each_file_says_first_what_it_owns() {
    let files = ["src", "tests", "benches", "examples", COMPARE].into_iter().flat_map(sources);
    let silent = files.filter(|path| !fs::read_to_string(path).unwrap().starts_with("//! "));
    none("files whose first line is no //!", &silent.map(|path| name(&path)).collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for path in ["src", COMPARE].into_iter().flat_map(sources) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let listed = LONG.iter().any(|(long, _)| *long == name(&path));
        if (lines > 500) != listed {
            faults.push(format!("{}: {lines} lines, listed as longer than 500: {listed}", name(&path)));
        }
    }
    none("files of more than 500 lines", &faults);
}

#[test]
fn nothing_is_left_over() {
    // In parts, so that this file does not find itself.
    let words: Vec<String> = [
        ("todo", "!("),
        ("unimpl", "emented!("),
        ("dbg", "!("),
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X"),
        ("\"/wo", "rk"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/tmp/", "wt"),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    let mut faults = Vec::new();
    for path in ["src", "tests", "benches", "examples", "fuzz", COMPARE].into_iter().flat_map(sources) {
        if name(&path).starts_with("fuzz/target") {
            continue;
        }
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let found = words.iter().filter(|word| line.contains(word.as_str()));
            faults.extend(found.map(|word| format!("{}:{}: {word}", name(&path), n + 1)));
        }
    }
    none("left over", &faults);
}

#[test]
fn tests_are_named_for_what_they_show() {
    let mut faults = Vec::new();
    for path in ["src", "tests"].into_iter().flat_map(sources) {
        if path.file_name().unwrap().to_str().unwrap().starts_with("test_") {
            faults.push(name(&path));
        }
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.trim_start().starts_with(&format!("fn {}_", "test")) {
                faults.push(format!("{}:{}: {}", name(&path), n + 1, line.trim()));
            }
        }
    }
    none("tests named for being tests", &faults);
}

/// Each row of the table of threats in `DESIGN.md` has tests named for it, in the file that it names first.
#[test]
fn threats_have_their_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let design = fs::read_to_string(root.join("DESIGN.md")).unwrap();
    let table = design.split_once("## Threats").unwrap().1.split("\n## ").next().unwrap();
    let rows: Vec<(u32, &str)> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter_map(|(number, rest)| Some((number.parse().ok()?, rest)))
        .collect();
    assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (1..=32).collect::<Vec<_>>());
    let without = rows.into_iter().filter(|(number, rest)| {
        let file = rest.split(" | ").nth(2).and_then(|shown| shown.split('`').nth(1)).unwrap();
        let tests = fs::read_to_string(root.join(format!("tests/threats/{file}.rs"))).unwrap_or_default();
        *number != 25 && !tests.contains(&format!("fn row_{number:02}_"))
    });
    none("threats without a test", &without.map(|(number, rest)| format!("{number}: {rest}")).collect::<Vec<_>>());
}

/// Each test that a table in `DESIGN.md` calls by its name is there.
#[test]
fn tests_that_are_spoken_of_are_there() {
    let design = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("DESIGN.md")).unwrap();
    let all: String = sources("tests").into_iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let rows = design.lines().filter(|line| line.starts_with("| "));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let tests: Vec<_> = names.filter(|name| name.matches('_').count() > 3 && !name.contains(' ')).collect();
    assert!(tests.len() > 10, "{tests:?}");
    let gone = tests.into_iter().filter(|name| !all.contains(&format!("fn {name}()")));
    none("tests that are not there", &gone.map(str::to_owned).collect::<Vec<_>>());
}
