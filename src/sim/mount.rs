//! The seam's two traits on a simulated disk.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::content::whole_sectors;
use super::crash::fits;
use super::fault::{Effect, Operation, Strike};
use super::inode::Inode;
use super::names::FileId;
use super::shared::Shared;
use super::state::{About, Refusal, State};
use super::tasks::TaskId;
use crate::storage::{Background, File, Map, Next, Storage, background};
use crate::sync::MutexGuard;

/// The disk as one boot of the simulated machine sees it.
pub(super) struct Mount {
    shared: Arc<Shared>,
    boot: u64,
}

impl Mount {
    pub(super) fn new(shared: &Arc<Shared>) -> Mount {
        let boot = shared.state.lock().boot;
        Mount { shared: Arc::clone(shared), boot }
    }

    fn admitted(&self, operation: Operation, names: &[&str]) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.shared.state.lock();
        state.admit(self.boot, operation, About::Names(names))?;
        if state.directory || operation == Operation::CreateDir {
            Ok(state)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn handle(&self, state: &mut State, file: FileId, write: bool) -> Box<dyn File> {
        state.add_handle(file);
        Box::new(Handle { shared: Arc::clone(&self.shared), boot: self.boot, file, write })
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("boot", &self.boot).finish_non_exhaustive()
    }
}

impl Storage for Mount {
    fn path(&self) -> &Path {
        Path::new("sim")
    }

    fn create_dir(&self) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        if state.directory && state.boot == self.boot && !state.crashed {
            return Ok(());
        }
        state.admit(self.boot, Operation::CreateDir, About::Nothing)?;
        state.directory = true;
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.admitted(Operation::Lock, &[])?;
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(Lock { shared: Arc::clone(&self.shared), boot: self.boot }))
    }

    fn list(&self) -> io::Result<Vec<(OsString, bool)>> {
        let state = self.admitted(Operation::List, &[])?;
        Ok(state.names.shown().map(|name| (name.into(), true)).collect())
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn File>> {
        let mut state = self.admitted(Operation::Open, &[name])?;
        let file = state.names.find(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&mut state, file, write))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.admitted(Operation::Create, &[name])?;
        if state.names.find(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.add_file(Inode::default());
        state.names.create(name, file);
        Ok(self.handle(&mut state, file, true))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.admitted(Operation::Rename, &[from, to])?;
        let file = state.names.find(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = state.names.find(to);
        state.names.rename(from, to, file);
        replaced.into_iter().for_each(|replaced| state.forget_if_unreachable(replaced));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.admitted(Operation::Remove, &[name])?;
        let file = state.names.find(name).ok_or(io::ErrorKind::NotFound)?;
        state.names.remove(name, file);
        state.forget_if_unreachable(file);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        match state.admit(self.boot, Operation::SyncDir, About::Nothing) {
            Ok(()) if !state.directory => Err(io::ErrorKind::NotFound.into()),
            Ok(()) => {
                state.names.sync();
                state.forget_unreachable();
                Ok(())
            }
            Err(refusal) => {
                if let Refusal::Fault(_) = refusal {
                    state.names.fail_sync(&mut state.chance);
                }
                Err(refusal.into())
            }
        }
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.admit(self.boot, Operation::Random, About::Nothing)?;
        state.entropy.fill(out);
        Ok(())
    }

    fn background(&self, name: &str, step: Box<dyn FnMut() -> Next + Send>) -> io::Result<Box<dyn Background>> {
        let mut state = self.shared.state.lock();
        if let Err(refusal) = state.admit(self.boot, Operation::Background, About::Names(&[name])) {
            drop(state);
            return Err(refusal.into());
        }
        if state.threads {
            drop(state);
            return background::spawn(name, step);
        }
        let id = state.tasks.add(step);
        Ok(Box::new(Stepped { shared: Arc::clone(&self.shared), id }))
    }

    fn now(&self) -> Duration {
        self.shared.state.lock().now
    }
}

/// The lock on the directory.
struct Lock {
    shared: Arc<Shared>,
    boot: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if state.boot == self.boot {
            state.locked = false;
        }
    }
}

/// Background work that is stepped.
struct Stepped {
    shared: Arc<Shared>,
    id: TaskId,
}

impl Background for Stepped {
    fn wake(&self) {
        self.shared.wake(self.id);
    }

    fn join(&self) {
        self.shared.join(self.id);
    }
}

/// An open file.
struct Handle {
    shared: Arc<Shared>,
    boot: u64,
    file: FileId,
    write: bool,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("file", &self.file).field("write", &self.write).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.state.lock().drop_handle(self.boot, self.file);
    }
}

impl Handle {
    fn admitted(&self, operation: Operation) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.shared.state.lock();
        state.admit(self.boot, operation, About::File(self.file))?;
        Ok(state)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.write { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }

    /// Writes what there is room for.
    fn write(&self, state: &mut State, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable()?;
        let end = offset.checked_add(buf.len() as u64);
        if !fits(end) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let taken = state.inode(self.file)?.taken();
        let wanted = whole_sectors(offset + buf.len() as u64).saturating_sub(taken);
        let room = whole_sectors_below(state.room());
        let n = if wanted <= room {
            buf.len()
        } else {
            buf.len().min(usize::try_from((taken + room).saturating_sub(offset)).unwrap_or(usize::MAX))
        };
        let buf = buf.get(..n).unwrap_or_default();
        if buf.is_empty() {
            return if wanted <= room { Ok(0) } else { Err(io::ErrorKind::StorageFull.into()) };
        }
        state.check_maps(self.file, offset, offset + n as u64, "were written");
        let (inode, chance) = state.inode_mut(self.file)?;
        inode.write(buf, offset, chance);
        Ok(n)
    }
}

/// `n`, down to the last whole sector.
fn whole_sectors_below(n: u64) -> u64 {
    n - n % whole_sectors(1)
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.admitted(Operation::Len)?.inode(self.file)?.cache().len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.shared.state.lock();
        let limit = match state.admit(self.boot, Operation::Read, About::File(self.file)) {
            Ok(()) => buf.len(),
            Err(Refusal::Fault(Strike { effect: Effect::Short(n), .. })) => n.min(buf.len()),
            Err(Refusal::Fault(Strike { effect: Effect::Forgetting, .. })) => {
                state.inode_mut(self.file)?.0.forget_stale();
                buf.len()
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let buf = buf.get_mut(..limit).unwrap_or_default();
        let inode = state.inode(self.file)?;
        let n = inode.cache().read(buf, offset);
        if state.is_unreadable(self.file, offset, n) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.shared.state.lock();
        match state.admit(self.boot, Operation::Write, About::File(self.file)) {
            Ok(()) => self.write(&mut state, buf, offset),
            Err(Refusal::Error(error)) => Err(error),
            Err(Refusal::Torn) => {
                let first = whole_sectors(1) - offset % whole_sectors(1);
                let sectors = (buf.len() as u64).saturating_sub(first).div_ceil(whole_sectors(1)) + 1;
                // Not all of them: then it would not be torn.
                let kept = state.chance.below(usize::try_from(sectors).unwrap_or(usize::MAX)) as u64;
                let n = if kept == 0 { 0 } else { first + (kept - 1) * whole_sectors(1) };
                let n = usize::try_from(n).unwrap_or(usize::MAX).min(buf.len());
                drop(self.write(&mut state, buf.get(..n).unwrap_or_default(), offset));
                Err(Refusal::Torn.into())
            }
            Err(Refusal::Fault(Strike { error, effect })) => match effect {
                Effect::None | Effect::Forgetting => Err(error),
                Effect::Short(n) => self.write(&mut state, buf.get(..n).unwrap_or(buf), offset),
                Effect::Partial(n) => {
                    self.write(&mut state, buf.get(..n).unwrap_or(buf), offset)?;
                    Err(error)
                }
            },
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let admission = state.admit(self.boot, Operation::Sync, About::File(self.file));
        match admission {
            Ok(()) => state.inode_mut(self.file)?.0.sync(),
            Err(Refusal::Fault(strike)) => {
                let (inode, chance) = state.inode_mut(self.file)?;
                inode.fail_sync(chance);
                if strike.effect == Effect::Forgetting {
                    inode.forget_stale();
                }
                return Err(strike.error);
            }
            Err(refusal) => return Err(refusal.into()),
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.admitted(Operation::Allocate)?;
        self.check_writable()?;
        if !fits(Some(len)) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let taken = state.inode(self.file)?.taken();
        if whole_sectors(len).saturating_sub(taken) > state.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.check_maps(self.file, len, u64::MAX, "were cut");
        let (inode, chance) = state.inode_mut(self.file)?;
        inode.allocate(len, chance);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.admitted(Operation::SetLen)?;
        self.check_writable()?;
        if !fits(Some(len)) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        state.check_maps(self.file, len, u64::MAX, "were cut");
        let (inode, chance) = state.inode_mut(self.file)?;
        inode.set_len(len, chance);
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Box<dyn Map>> {
        let mut state = self.admitted(Operation::Map)?;
        let content = state.inode(self.file)?.cache();
        if content.len() < len as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = content.bytes(len);
        if state.is_unreadable(self.file, 0, len) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let alive = state.add_map(self.file, len as u64);
        Ok(Box::new(View { bytes, _alive: alive }))
    }
}

/// A map: a copy, for whoever writes under it is told of by a violation.
struct View {
    bytes: Vec<u8>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
