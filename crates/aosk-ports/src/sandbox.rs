//! Sandboxes: what of the host a process may reach.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

/// What an entry of a folder is. Links are neither followed nor shown as what they point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its size in bytes.
        len: u64,
    },
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Special,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, as the host has it.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// The entries of a folder, as far as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The first entries by the bytes of their names, in that order.
    pub entries: Vec<DirEntry>,
    /// How many there are in all.
    pub total: usize,
}

/// Why the sandbox refused.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The path is no path at all.
    #[error("{path:?} is no usable path: it {reason}")]
    Invalid {
        /// The path as it was given.
        path: String,
        /// What is wrong, for example `is empty`.
        reason: &'static str,
    },
    /// The path leads out of the workspace.
    #[error("{path:?} leads out of the workspace; give a path inside it, relative to its root")]
    Outside {
        /// The path as it was given.
        path: String,
    },
    /// Nothing is there.
    #[error("{path:?} does not exist in the workspace")]
    NotFound {
        /// The path as it was given.
        path: String,
    },
    /// Something else is there.
    #[error("{path:?} is not a {expected}")]
    WrongKind {
        /// The path as it was given.
        path: String,
        /// What was expected: `regular file` or `folder`.
        expected: &'static str,
    },
    /// A file would be written through a link.
    #[error("{path:?} is a link; write to the file that it points to")]
    Link {
        /// The path as it was given.
        path: String,
    },
    /// This sandbox gives no files at all.
    #[error("this process has no workspace; set `workspace` in its manifest")]
    NoWorkspace,
    /// The host cannot enforce the policy, so nothing is done.
    #[error("this host cannot confine file access ({missing}); nothing was opened")]
    Unsupported {
        /// What the host lacks.
        missing: String,
    },
    /// The host refused.
    #[error("{path:?}: {source}")]
    Io {
        /// The path as it was given.
        path: String,
        /// What the host said.
        source: std::io::Error,
    },
}

/// The files of one process. Blocking calls: tools use them on blocking threads. Sizes are the
/// caller's to bound.
pub trait Sandbox: Send + Sync {
    /// How it confines, for the journal: `openat2`, or `no-files`.
    fn isolation(&self) -> &'static str;

    /// Opens a regular file for reading, never outside the workspace, whatever links or `..` the
    /// path holds and whoever changes them meanwhile. Never waits for a pipe or a device.
    ///
    /// # Errors
    /// [`SandboxError`].
    fn open(&self, path: &Path) -> Result<File, SandboxError>;

    /// Makes `bytes` the whole content of the file, with its missing folders. Whoever reads the
    /// file meanwhile, or after a crash, finds the old content or the new one, never a part. It
    /// returns when the new content is durable.
    ///
    /// # Errors
    /// [`SandboxError`]; the file is then as it was.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), SandboxError>;

    /// The first `limit` entries of a folder.
    ///
    /// # Errors
    /// [`SandboxError`].
    fn list(&self, path: &Path, limit: usize) -> Result<Listing, SandboxError>;
}
