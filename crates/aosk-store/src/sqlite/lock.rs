//! Ownership: one kernel at a time writes the journals of a store.
//!
//! The owner holds an exclusive `flock` on a file beside the database. The system drops it with the
//! process, however that ends, so there are no stale locks to clean. What the file says (who owns)
//! is for people only; nothing is decided by it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use aosk_abi::{Code, Timestamp};
use aosk_ports::StoreError;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::fault::file as file_error;
use super::files::Files;

/// How often a new owner tries, and how long it waits between two tries: whoever asks for the owner
/// takes the lock for some microseconds, which must not look like an owner.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Who owns a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The operating system's number of the process; 0 where it is about to say it.
    pub os_pid: u32,
    /// What it is, as it called itself in its [`Options`](super::Options).
    pub command: String,
    /// When it became the owner, by the clock of the file system.
    pub since: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Label {
    os_pid: u32,
    command: String,
}

/// The ownership; given up when dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Becomes the owner.
    pub(super) fn take(files: &Files, command: &str) -> Result<Self, StoreError> {
        let path = files.lock();
        let failed = |error: std::io::Error| file_error(&path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mut tries = 0;
        while !try_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(failed)? {
            tries += 1;
            if tries == TRIES {
                return Err(owned(&path, &mut file));
            }
            std::thread::sleep(PAUSE);
        }
        let label = Label { os_pid: std::process::id(), command: command.to_owned() };
        let text = serde_json::to_string(&label).map_err(|error| failed(error.into()))?;
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file unlocks it; a label that stays behind says nothing without the lock.
        let _ = self.0.set_len(0);
    }
}

/// The ownership of a folder that holds no store of its own, but what a program on this machine keeps
/// beside one on a server. Given up when dropped.
#[derive(Debug)]
pub struct Hold {
    _lock: Lock,
}

impl Hold {
    /// Becomes the owner of the folder `dir`, which is made if it is not there. `command` is what the
    /// owner calls itself.
    ///
    /// # Errors
    /// [`Code::StoreOwned`] with who owns it; those of a folder that cannot be made.
    pub fn take(dir: &Path, command: &str) -> Result<Self, StoreError> {
        let files = Files::new(dir);
        files.make_dir()?;
        Ok(Self { _lock: Lock::take(&files, command)? })
    }
}

/// Who owns the store in the folder `dir` now; `None` where nobody does or nothing is there.
///
/// # Errors
/// [`Code::StoreOpen`] and others for a lock file that cannot be read.
pub fn owner(dir: &Path) -> Result<Option<Owner>, StoreError> {
    owner_of(&Files::new(dir))
}

/// Who owns the store of these files.
pub(super) fn owner_of(files: &Files) -> Result<Option<Owner>, StoreError> {
    let path = files.lock();
    let failed = |error: std::io::Error| file_error(&path, &error);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    if try_lock(&file, FlockOperation::NonBlockingLockShared).map_err(failed)? {
        return Ok(None);
    }
    read_label(&mut file).map(Some).map_err(failed)
}

fn try_lock(file: &File, operation: FlockOperation) -> std::io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read_label(file: &mut File) -> std::io::Result<Owner> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    let modified = file.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH);
    let millis = modified.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let label = serde_json::from_str(&text)
        .unwrap_or_else(|_| Label { os_pid: 0, command: "starting".to_owned() });
    Ok(Owner {
        os_pid: label.os_pid,
        command: label.command,
        since: Timestamp::from_millis(millis),
    })
}

fn owned(path: &Path, file: &mut File) -> StoreError {
    match read_label(file) {
        Ok(owner) => StoreError::new(
            Code::StoreOwned,
            format!(
                "the store is owned by process {} ({}), which holds {}: wait for it to end or \
                 stop it",
                owner.os_pid,
                owner.command,
                path.display()
            ),
        ),
        Err(error) => file_error(path, &error),
    }
}
