//! The files of a store: where they are and who may read them.

use std::ffi::{CStr, OsStr};
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aosk_abi::Code;
use aosk_ports::StoreError;

use super::fault::file as file_error;

/// The name of the file that is opened and closed to say that something was posted.
pub(super) const BELL: &CStr = c"aosk.bell";

/// The folder of a store. It is made with mode 0700 and its files with 0600: journals hold
/// whatever users and tools said. A folder that is already there keeps the mode its owner gave it.
#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
    database: PathBuf,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), database: dir.join("aosk.db") }
    }

    /// Those of a database of another name, such as a backup.
    pub(super) fn of(database: &Path) -> Self {
        let dir = database.parent().unwrap_or(Path::new("")).to_owned();
        Self { dir, database: database.to_owned() }
    }

    /// The database.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Its log.
    pub(super) fn log(&self) -> PathBuf {
        with_suffix(&self.database, "-wal")
    }

    /// The file whose lock is the ownership.
    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("aosk.lock")
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that is opened and closed to say that something was posted.
    pub(super) fn bell(&self) -> PathBuf {
        self.dir.join(OsStr::from_bytes(BELL.to_bytes()))
    }

    /// Where a new database is made before it gets its name.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.dir.join("aosk.db.new")
    }

    /// The same, and the file with which SQLite could undo what was begun there.
    pub(super) fn unfinished_and_its_journal(&self) -> [PathBuf; 2] {
        let unfinished = self.unfinished();
        let journal = with_suffix(&unfinished, "-journal");
        [unfinished, journal]
    }

    /// Makes the folder, with missing ones above it.
    pub(super) fn make_dir(&self) -> Result<(), StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|error| file_error(&self.dir, &error))
    }

    /// Whether there is a database.
    ///
    /// # Errors
    /// A log without its database: a fresh database would replay the other's pages into itself.
    pub(super) fn exists(&self) -> Result<bool, StoreError> {
        let there = |path: &Path| path.try_exists().map_err(|error| file_error(path, &error));
        if there(&self.database)? {
            return Ok(true);
        }
        let log = self.log();
        if there(&log)? {
            return Err(StoreError::new(
                Code::StoreCorrupt,
                format!(
                    "{} is missing while its log {} is there: restore the file, or move the log \
                     away to begin an empty store",
                    self.database.display(),
                    log.display()
                ),
            ));
        }
        Ok(false)
    }

    /// Gives the finished database its name, durably.
    pub(super) fn publish(&self) -> Result<(), StoreError> {
        let sync = |path: &Path| std::fs::File::open(path)?.sync_all();
        let (from, to) = (self.unfinished(), self.database());
        sync(&from)
            .and_then(|()| std::fs::rename(&from, to))
            .and_then(|()| sync(&self.dir))
            .map_err(|error| file_error(to, &error))
    }

    /// An empty file that only its owner may read.
    pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map(drop)
            .map_err(|error| file_error(path, &error))
    }

    /// Removes a file that may not be there.
    pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(file_error(path, &error))
            }
            _ => Ok(()),
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}
