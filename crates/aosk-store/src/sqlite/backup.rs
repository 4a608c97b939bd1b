//! Backups: a whole store in one file, and a store from one.
//!
//! A backup is a database of its own: SQLite copies one moment of the store (`VACUUM INTO`) while
//! the owner goes on writing, without what nothing uses. It is kept without a log, so that it can
//! be read from a medium that may not be written. It gets its name when all of it is on the disk.

use std::path::{Path, PathBuf};

use aosk_abi::Code;
use aosk_ports::StoreError;

use super::fault::{Fault, file as file_error};
use super::files::Files;
use super::lock::Lock;
use super::schema::{self, Access, open_shared};
use super::store::Options;

/// A backup that has no name yet; removed when dropped.
#[derive(Debug)]
pub struct Backup {
    part: PathBuf,
    file: PathBuf,
}

impl Backup {
    /// Copies the store in the folder `dir` as it is at one moment. Blocks for as long as the disk
    /// takes to read and write it.
    ///
    /// # Errors
    /// [`Code::StoreOpen`] where there is no store, or `file` is there already: a backup never
    /// replaces another; else as [`SqliteReader::open`](super::SqliteReader::open), and
    /// [`Code::StoreFull`].
    pub fn of(dir: &Path, file: &Path) -> Result<Self, StoreError> {
        refuse_taken(file)?;
        let connection = open_shared(&Files::new(dir), Access::Read)?;
        let backup = Self::begin(file)?;
        let copied = connection
            .execute("VACUUM INTO ?1", [backup.part.to_string_lossy()])
            .map_err(|error| Fault::from(error).at(&backup.part));
        copied?;
        Ok(backup)
    }

    /// An empty one.
    pub(crate) fn begin(file: &Path) -> Result<Self, StoreError> {
        refuse_taken(file)?;
        let name = file.file_name().unwrap_or_default();
        let mut part_name = name.to_owned();
        part_name.push(".part");
        let backup = Self { part: file.with_file_name(part_name), file: file.to_owned() };
        // One that was cut off; nobody ever saw it.
        Files::remove(&backup.part)?;
        Files::create_private(&backup.part)?;
        Ok(backup)
    }

    /// Where it is until it has its name, for those who want to check it first.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// Gives it its name, durably, and answers how many bytes it has.
    ///
    /// # Errors
    /// [`Code::StoreOpen`] where the name was taken meanwhile; those of the disk.
    pub fn publish(self) -> Result<u64, StoreError> {
        refuse_taken(&self.file)?;
        let folder = folder_of(&self.file);
        let publish = || {
            let part = std::fs::File::open(&self.part)?;
            part.sync_all()?;
            std::fs::rename(&self.part, &self.file)?;
            std::fs::File::open(folder)?.sync_all()?;
            part.metadata().map(|found| found.len())
        };
        publish().map_err(|error| file_error(&self.file, &error))
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        // It is gone where it was given its name.
        let _ = std::fs::remove_file(&self.part);
    }
}

/// Makes a store of a backup, in a folder that holds none. Blocks for as long as the disk takes.
///
/// # Errors
/// [`Code::StoreOpen`] where the folder holds a store already or the file is not there,
/// [`Code::StoreOwned`], [`Code::StoreCorrupt`] where the file is no store,
/// [`Code::StoreNewerSchema`], [`Code::StoreFull`]. Nothing is left behind then.
pub fn restore(file: &Path, options: &Options) -> Result<(), StoreError> {
    let files = Files::new(&options.dir);
    files.make_dir()?;
    let _lock = Lock::take(&files, &options.command)?;
    refuse_store(&files)?;
    let unfinished = files.unfinished();
    Files::remove(&unfinished)?;
    let made = Files::create_private(&unfinished)
        .and_then(|()| std::fs::copy(file, &unfinished).map_err(|error| file_error(file, &error)))
        .and_then(|_| schema::adopt(&unfinished))
        .and_then(|()| files.publish());
    if made.is_err() {
        // The error says more than a second one would.
        let _ = Files::remove(&unfinished);
    }
    made
}

/// Refuses a folder that holds a store.
pub(super) fn refuse_store(files: &Files) -> Result<(), StoreError> {
    if !files.exists()? {
        return Ok(());
    }
    Err(StoreError::new(
        Code::StoreOpen,
        format!(
            "{} holds a store already, which nothing replaces: move it away, or name another \
             folder",
            files.dir().display()
        ),
    ))
}

fn refuse_taken(file: &Path) -> Result<(), StoreError> {
    match std::fs::symlink_metadata(file) {
        Ok(_) => Err(StoreError::new(
            Code::StoreOpen,
            format!("{} is there already: name a file that is not", file.display()),
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error(file, &error)),
    }
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
