//! A folder of the host as the whole world of a process's file tools.
//!
//! Checking a path and then using it is two looks at a tree that others change: between them a
//! folder can become a link to `/`. So there is no check. The workspace is held open, and each
//! path is resolved below it by one `openat2` call with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_MAGICLINKS`: the host follows `..` and links as long as they stay inside and
//! refuses the call as soon as they do not. A link that points to an absolute path is refused even
//! where that path lies inside, because the host resolves it from its own root.
//!
//! What this does not stop, because the host offers no means: a hard link inside the workspace to
//! a file that also has a name outside, and a file system that the operator mounted inside.

mod folder;
mod path;
mod replace;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use aosk_ports::{Listing, Sandbox, SandboxError};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

/// While anyone on the host renames anything, the resolution of a path with `..` can answer
/// `EAGAIN`. Against one to four loops of renames on two cores, at most 4 of 100 tries did, and at
/// most 3 in a row of a million.
const RACES: usize = 128;

/// A folder whose files a process may read and write, and none outside it.
#[derive(Debug)]
pub struct Workspace {
    root: OwnedFd,
    /// The absolute names under which the root was opened: as given, and without links.
    names: Vec<PathBuf>,
    /// Numbers the unfinished files of writes.
    writes: AtomicU64,
}

impl Workspace {
    /// Opens the workspace at `root`, an existing folder. It stays the same folder if `root` is
    /// renamed or replaced later.
    ///
    /// # Errors
    /// [`SandboxError::Unsupported`] where the host has no `openat2` (Linux before 5.6, or a
    /// container that forbids it); other [`SandboxError`]s where `root` is no usable folder.
    pub fn open(root: &Path) -> Result<Self, SandboxError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let refused = |errno| refused(root, errno, Expected::Folder);
        let folder = openat(CWD, root, flags, Mode::empty()).map_err(refused)?;
        let names = [std::path::absolute(root), root.canonicalize()]
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|source| SandboxError::Io { path: root.display().to_string(), source })?;
        let workspace = Self { root: folder, names, writes: AtomicU64::new(0) };
        match workspace.resolve(Path::new("."), flags) {
            Ok(_) => Ok(workspace),
            // A seccomp filter that does not know the call answers EPERM or ENOSYS.
            Err(Errno::NOSYS | Errno::PERM) => Err(SandboxError::Unsupported {
                missing: "openat2, which Linux has from 5.6 on and containers must allow"
                    .to_owned(),
            }),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// Opens what stands at `relative`, which is resolved below the root.
    fn resolve(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let confined = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut outcome = Err(Errno::AGAIN);
        for _ in 0..RACES {
            outcome =
                openat2(&self.root, relative, flags | OFlags::CLOEXEC, Mode::empty(), confined);
            if !matches!(outcome, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        outcome
    }

    fn resolve_folder(&self, relative: &Path) -> Result<OwnedFd, Errno> {
        // The parent of a bare name is the empty path.
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        self.resolve(relative, OFlags::RDONLY | OFlags::DIRECTORY)
    }
}

impl Sandbox for Workspace {
    fn isolation(&self) -> &'static str {
        "openat2"
    }

    fn open(&self, path: &Path) -> Result<File, SandboxError> {
        let relative = path::below(path, &self.names)?;
        // Without O_NONBLOCK the open itself would wait for the other end of a pipe; with it the
        // pipe is opened, seen to be one and closed. On regular files it has no effect.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let refused = |errno| refused(path, errno, Expected::File);
        let fd = self.resolve(&relative, flags).map_err(refused)?;
        let kind = FileType::from_raw_mode(fstat(&fd).map_err(refused)?.st_mode);
        if kind != FileType::RegularFile {
            return Err(wrong_kind(path, Expected::File));
        }
        Ok(File::from(fd))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
        replace::replace(self, path, bytes)
    }

    fn list(&self, path: &Path, limit: usize) -> Result<Listing, SandboxError> {
        let relative = path::below(path, &self.names)?;
        let refused = |errno| refused(path, errno, Expected::Folder);
        let folder = self.resolve_folder(&relative).map_err(refused)?;
        folder::list(folder, limit).map_err(refused)
    }
}

/// What a path was to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    File,
    Folder,
}

fn wrong_kind(path: &Path, expected: Expected) -> SandboxError {
    let expected = match expected {
        Expected::File => "regular file",
        Expected::Folder => "folder",
    };
    SandboxError::WrongKind { path: path.display().to_string(), expected }
}

fn refused(path: &Path, errno: Errno, expected: Expected) -> SandboxError {
    let shown = path.display().to_string();
    match (errno, expected) {
        (Errno::XDEV, _) => SandboxError::Outside { path: shown },
        // A component of a file's path that is no folder: then nothing stands behind it.
        (Errno::NOENT, _) | (Errno::NOTDIR, Expected::File) => {
            SandboxError::NotFound { path: shown }
        }
        // Sockets, and devices without a driver.
        (Errno::NXIO, Expected::File) | (Errno::NOTDIR, Expected::Folder) => {
            wrong_kind(path, expected)
        }
        (Errno::NAMETOOLONG, _) => SandboxError::Invalid {
            path: shown,
            reason: "has more than 4095 bytes, or a name in it has more than 255",
        },
        (errno, _) => SandboxError::Io { path: shown, source: errno.into() },
    }
}
