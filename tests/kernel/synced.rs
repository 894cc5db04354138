//! What a real directory has the kernel sync, seen from outside: ext4 and xfs commit a name with the sync of the file that
//! bears it, so that no power cut tells whether the directory was asked for.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use seawall::Options;

/// Where the child that is looked at has its log.
const CHILD: &str = "SEAWALL_SYNCED_LOG";

const TRACE: &str = "trace=fsync,fdatasync,?mkdir,?mkdirat,?rename,?renameat,?renameat2";

/// What is looked at: segments come to be and go, and the log is closed.
fn live(log: &Path) {
    let wal = Options::new().segment_size(16 << 10).open(log).unwrap();
    for n in 0..4 {
        wal.append(&[n; 7000]).unwrap().wait().unwrap();
        wal.rotate().unwrap();
    }
    wal.close().unwrap();
}

/// The calls of a life in a child, one a line; `None`, and a line that says why, where nobody can look.
fn calls(log: &Path, test: &str) -> Option<Vec<String>> {
    let strace = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    if !strace.as_ref().is_ok_and(|output| output.status.success()) {
        crate::mounted::cannot(&format!("what is synced was not looked at: strace: {strace:?}"));
        assert!(env::var_os("SEAWALL_MUST_TRACE").is_none(), "{strace:?}");
        return None;
    }
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new("strace");
    child.args(["-f", "-y", "-s", "4096", "-e", TRACE, "-o"]).arg(said.path());
    child.arg(env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(CHILD, log);
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(std::fs::read_to_string(said.path()).unwrap().lines().map(str::to_owned).collect())
}

/// Whether a line says that this was made, by its last name.
fn makes(line: &str, path: &Path) -> bool {
    line.contains("mkdir") && line.contains(&format!("\"{}\"", path.display()))
}

/// Whether a line says that this was to be synced.
fn syncs(line: &str, path: &Path) -> bool {
    line.contains(" fsync(") && line.contains(&format!("<{}>", path.display()))
}

#[test]
fn directories_are_synced_after_each_name_that_is_relied_on() {
    if let Some(log) = env::var_os(CHILD) {
        live(Path::new(&log));
        return;
    }
    let test = "synced::directories_are_synced_after_each_name_that_is_relied_on";
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let made: Vec<PathBuf> = ["a", "a/b", "a/b/log"].map(|name| home.join(name)).into();
    let log = &made[2];
    let Some(first) = calls(log, test) else { return };
    let all = first.join("\n");
    for path in &made {
        let holder = path.parent().unwrap();
        let mut after = first.iter().skip_while(|line| !makes(line, path)).skip(1);
        let next = after.find(|line| line.contains("mkdir") || syncs(line, holder) || syncs(line, log));
        assert!(next.is_some_and(|line| syncs(line, holder)), "{}: {next:?} in\n{all}", path.display());
    }
    let named = |line: &String| line.contains("rename") && line.contains(".wal\"");
    let renames = first.iter().filter(|line| named(line)).count();
    assert!(renames > 3, "{all}");
    let last = first.iter().rposition(named).unwrap();
    assert!(first[last..].iter().any(|line| syncs(line, log)), "{all}");
    let synced = first.iter().filter(|line| syncs(line, log)).count();
    // MARK's name, and each segment's.
    assert!(synced > renames, "{synced} syncs for {renames} segments in\n{all}");

    // Whoever made it may have been killed before it synced the name.
    let second = calls(log, test).unwrap();
    assert!(second.iter().any(|line| syncs(line, log.parent().unwrap())), "{}", second.join("\n"));
}
