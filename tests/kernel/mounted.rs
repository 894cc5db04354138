//! File systems in images, mounted where this machine allows it.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ends all writing to a file system at once, as a power cut does (`include/uapi/linux/fs.h`, and ext4's and xfs' own
/// headers under other names).
const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;

/// Where devices in memory are made.
const ZRAM: &str = "/sys/class/zram-control";

/// What a power cut leaves of the file system's own journal.
#[derive(Clone, Copy, Debug)]
pub enum Journal {
    /// What is in memory is written first.
    Flushed = 1,
    /// What is in memory is gone.
    Lost = 2,
}

/// What is mounted at a directory until this is dropped.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        // With the mount the loop device goes that `mount` made for it.
        if let Err(e) = run(Command::new("umount").arg(&self.0)) {
            println!("{} is still mounted: {e}", self.0.display());
            _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
        }
    }
}

/// A device in memory (`Documentation/admin-guide/blockdev/zram.rst`), of which each page that it has no room for is
/// refused by itself: an error of the kernel's, some time after `write` has returned. Removed when dropped.
struct Zram(u32);

impl Zram {
    /// One that says it has so many MiB, and takes so many.
    fn new(mebibytes: u64, takes: u64) -> Result<Zram, String> {
        let control = format!("{ZRAM}/hot_add");
        let number = fs::read_to_string(&control).map_err(|e| format!("{control}: {e}"))?;
        let zram = Zram(number.trim().parse().map_err(|e| format!("{control}: {number:?}: {e}"))?);
        zram.set("disksize", &format!("{mebibytes}M"))?;
        zram.set("mem_limit", &format!("{takes}M"))?;
        Ok(zram)
    }

    fn set(&self, what: &str, value: &str) -> Result<(), String> {
        let path = format!("/sys/block/zram{}/{what}", self.0);
        fs::write(&path, value).map_err(|e| format!("{path}: {value}: {e}"))
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        let remove = || fs::write(format!("{ZRAM}/hot_remove"), self.0.to_string()).map_err(|e| e.to_string());
        if let Err(e) = self.set("reset", "1").and_then(|()| remove()) {
            println!("zram{} is still there: {e}", self.0);
        }
    }
}

/// A file system of its own. Unmounted when dropped, and what it is on with it.
pub struct Mounted {
    kind: &'static str,
    mount: Option<Mount>,
    /// What it is on, if not an image in a file.
    device: Option<Zram>,
    home: tempfile::TempDir,
}

impl Mounted {
    /// One of so many MiB in an image; `None`, and a line that says why, where it cannot be had.
    pub fn new(kind: &'static str, mebibytes: u64) -> Option<Mounted> {
        told(kind, Mounted::make(kind, mebibytes, None))
    }

    /// One on a device that refuses to write once it holds `takes` MiB, whatever it said of its size. Not every kernel
    /// has zram.
    pub fn refusing(kind: &'static str, mebibytes: u64, takes: u64) -> Option<Mounted> {
        if !Path::new(ZRAM).exists() {
            cannot(&format!("{kind} was not tried: {ZRAM} is not there"));
            return None;
        }
        let made = Zram::new(mebibytes, takes).and_then(|device| Mounted::make(kind, mebibytes, Some(device)));
        told(kind, made)
    }

    fn make(kind: &'static str, mebibytes: u64, device: Option<Zram>) -> Result<Mounted, String> {
        let home = tempfile::tempdir().unwrap();
        let mut mounted = Mounted { kind, mount: None, device, home };
        fs::create_dir(mounted.dir()).unwrap();
        if mounted.device.is_none() {
            fs::File::create(mounted.source()).unwrap().set_len(mebibytes << 20).unwrap();
        }
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(mounted.source()))?;
        mounted.mount()?;
        Ok(mounted)
    }

    fn source(&self) -> PathBuf {
        let device = self.device.as_ref().map(|zram| PathBuf::from(format!("/dev/zram{}", zram.0)));
        device.unwrap_or_else(|| self.home.path().join("image"))
    }

    /// Where it is mounted.
    pub fn dir(&self) -> PathBuf {
        self.home.path().join("mount")
    }

    fn mount(&mut self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        if self.device.is_none() {
            mount.args(["-o", "loop"]);
        }
        run(mount.args(["-t", self.kind]).arg(self.source()).arg(self.dir()))?;
        self.mount = Some(Mount(self.dir()));
        Ok(())
    }

    /// What a start of the machine does: its journal is replayed.
    pub fn mount_again(&mut self) {
        self.mount = None;
        self.mount().unwrap();
    }

    /// Nothing is written to it from now on, and what waited for that is gone.
    pub fn cut_power(&self, journal: Journal) {
        let dir = fs::File::open(self.dir()).unwrap();
        let flags = journal as u32;
        // SAFETY: the descriptor is open, and the kernel reads one u32 from the address.
        let cut = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN, &raw const flags) };
        assert_eq!(cut, 0, "{}", std::io::Error::last_os_error());
    }

    /// The device refuses nothing from now on.
    pub fn give_room(&self) {
        self.device.as_ref().unwrap().set("mem_limit", "0").unwrap();
    }
}

/// Says aloud what cannot be tried here: not as the output of a test, which nobody sees of one that passes.
pub fn cannot(what: &str) {
    _ = writeln!(std::io::stderr(), "cannot: {what}");
}

/// Says what cannot be tried here; fails if it must.
fn told(kind: &str, made: Result<Mounted, String>) -> Option<Mounted> {
    if let Err(why) = &made {
        cannot(&format!("{kind} was not tried: {why}"));
        assert!(std::env::var_os("SEAWALL_MUST_MOUNT").is_none(), "{why}");
    }
    made.ok()
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(e) => Err(format!("{command:?}: {e}")),
    }
}
