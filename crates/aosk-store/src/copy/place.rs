//! Where a store is.

use std::fmt;
use std::path::{Path, PathBuf};

use aosk_abi::Code;
use aosk_ports::StoreError;

use super::{Source, Sweep, Target};
use crate::postgres::{self, PostgresOptions};
use crate::sqlite;

/// Where a store is, of whichever kind.
#[derive(Debug, Clone)]
pub enum StorePlace {
    /// In a folder.
    Sqlite(PathBuf),
    /// In a file that a backup is.
    Backup(PathBuf),
    /// On a server.
    Postgres(PostgresOptions),
}

impl StorePlace {
    pub(crate) fn source(&self) -> Result<Box<dyn Source>, StoreError> {
        Ok(match self {
            Self::Sqlite(dir) => Box::new(sqlite::Snapshot::of_store(dir)?),
            Self::Backup(file) => Box::new(sqlite::Snapshot::of_backup(file)?),
            Self::Postgres(options) => Box::new(postgres::Snapshot::of(options)?),
        })
    }

    pub(crate) fn sweep(&self) -> Result<Box<dyn Sweep>, StoreError> {
        Ok(match self {
            Self::Sqlite(dir) => Box::new(sqlite::Broom::of(dir)?),
            Self::Backup(file) => return Err(sealed(file)),
            Self::Postgres(options) => Box::new(postgres::Broom::of(options)?),
        })
    }

    pub(super) fn target(&self) -> Result<Box<dyn Target>, StoreError> {
        Ok(match self {
            Self::Sqlite(dir) => Box::new(sqlite::Intake::of_store(dir)?),
            Self::Backup(file) => Box::new(sqlite::Intake::of_backup(file)?),
            Self::Postgres(options) => Box::new(postgres::Intake::of(options)?),
        })
    }
}

fn sealed(file: &Path) -> StoreError {
    StoreError::new(
        Code::StoreReadOnly,
        format!("{} is a backup, which is never changed: restore it first", file.display()),
    )
}

impl fmt::Display for StorePlace {
    /// The place as a person knows it; of an address without its secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) | Self::Backup(path) => write!(f, "{}", path.display()),
            Self::Postgres(options) => {
                f.write_str(&options.shown().unwrap_or_else(|_| "a malformed address".to_owned()))
            }
        }
    }
}
