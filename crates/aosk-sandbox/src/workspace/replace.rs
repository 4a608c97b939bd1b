//! Replacing a file whole.
//!
//! Writing into the file itself would leave a torn one after a crash, and a call that is run again
//! would not find what it left. So the bytes go into a new file beside it, are made durable, and
//! take the name in one `rename`. Everything happens in one folder that is held open. A crash
//! between the two can leave the new file behind, as `.aosk-PID-N.tmp`; nobody reads it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::Ordering;

use aosk_ports::SandboxError;
use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, accessat, fchmod, fsync, mkdirat, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::{Expected, Workspace, path, refused, wrong_kind};

/// How many leftovers of crashed processes with the same number may be in the way.
const LEFTOVERS: usize = 1024;

pub fn replace(workspace: &Workspace, given: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
    let relative = path::below(given, &workspace.names)?;
    let (parent, name) = path::parent_and_name(given, &relative)?;
    let folder = folder(workspace, parent).map_err(|errno| match errno {
        Errno::NOTDIR => refused(parent, errno, Expected::Folder),
        _ => refused(given, errno, Expected::Folder),
    })?;
    let mode = replaceable(&folder, given, name)?;
    let refused_io = |errno| refused(given, errno, Expected::File);
    let mut unfinished = Unfinished::create(workspace, &folder).map_err(refused_io)?;
    unfinished
        .fill(bytes, mode)
        .map_err(|source| SandboxError::Io { path: given.display().to_string(), source })?;
    unfinished.take_name(name).map_err(refused_io)
}

/// Opens the folder, making the missing ones of its path. Each is made in a folder that was
/// resolved below the root, and each step is resolved from the root again, so that a folder that
/// was swapped for a link meanwhile leads nowhere else.
fn folder(workspace: &Workspace, relative: &Path) -> Result<OwnedFd, Errno> {
    match workspace.resolve_folder(relative) {
        Err(Errno::NOENT) => {}
        outcome => return outcome,
    }
    let mut prefix = PathBuf::new();
    let mut at = workspace.resolve_folder(&prefix)?;
    for component in relative.components() {
        prefix.push(component);
        at = match (workspace.resolve_folder(&prefix), component) {
            (Err(Errno::NOENT), Component::Normal(name)) => {
                match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) => fsync(&at)?,
                    // Someone else made it, or it is a link to nowhere: the next line tells.
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                workspace.resolve_folder(&prefix)?
            }
            (outcome, _) => outcome?,
        };
    }
    Ok(at)
}

/// The permissions of the file that stands there, if one does; an error where it must stay.
fn replaceable(folder: &OwnedFd, given: &Path, name: &OsStr) -> Result<Option<Mode>, SandboxError> {
    let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(refused(given, errno, Expected::File)),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => {
            return Err(SandboxError::Link { path: given.display().to_string() });
        }
        _ => return Err(wrong_kind(given, Expected::File)),
    }
    // A rename asks only for rights on the folder; a read-only file is meant to stay. The mode is
    // looked at because the super user may write everything.
    let read_only = stat.st_mode & 0o222 == 0;
    let access = accessat(folder, name, Access::WRITE_OK, AtFlags::EACCESS);
    if read_only || access == Err(Errno::ACCESS) {
        return Err(refused(given, Errno::ACCESS, Expected::File));
    }
    Ok(Some(Mode::from_raw_mode(stat.st_mode & 0o777)))
}

/// A new file under a name of its own; removed when dropped before it took the final name.
struct Unfinished<'a> {
    folder: &'a OwnedFd,
    name: String,
    file: File,
    taken: bool,
}

impl<'a> Unfinished<'a> {
    fn create(workspace: &Workspace, folder: &'a OwnedFd) -> Result<Self, Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut outcome = Err(Errno::EXIST);
        for _ in 0..LEFTOVERS {
            let number = workspace.writes.fetch_add(1, Ordering::Relaxed);
            let name = format!(".aosk-{}-{number}.tmp", std::process::id());
            outcome = openat(folder, &name, flags, Mode::from_raw_mode(0o666)).map(|fd| Self {
                folder,
                name,
                file: File::from(fd),
                taken: false,
            });
            if !matches!(outcome, Err(Errno::EXIST)) {
                break;
            }
        }
        outcome
    }

    fn fill(&mut self, bytes: &[u8], mode: Option<Mode>) -> std::io::Result<()> {
        if let Some(mode) = mode {
            fchmod(&self.file, mode)?;
        }
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }

    fn take_name(mut self, name: &OsStr) -> Result<(), Errno> {
        renameat(self.folder, &self.name, self.folder, name)?;
        self.taken = true;
        fsync(self.folder)
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.taken {
            // Nothing is lost where this fails: a file that nobody reads stays.
            let _ = unlinkat(self.folder, &self.name, AtFlags::empty());
        }
    }
}
