//! What is printed, held against what lies in `tests/snapshots`.

use std::fs;
use std::path::Path;

/// Compares cases, each a name and a text, with the file of that name. With `SEAWALL_SNAPSHOTS=write` in the
/// environment the file is written instead: look at what changed in it.
pub fn compare(file: &str, cases: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(file);
    let told: String = cases.iter().map(|(name, text)| format!("## {name}\n{}\n\n", text.trim_end())).collect();
    if std::env::var("SEAWALL_SNAPSHOTS").is_ok_and(|what| what == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &told).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    let sections = |text: &str| text.split("## ").map(str::to_owned).collect::<Vec<_>>();
    for (told, expected) in sections(&told).iter().zip(&sections(&expected)) {
        assert!(told == expected, "{}: expected\n{expected}\nand not\n{told}", path.display());
    }
    assert_eq!(told, expected, "{}", path.display());
}
