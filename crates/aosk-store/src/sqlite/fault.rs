//! What can go wrong, and the words that users read about it.

use std::path::Path;

use aosk_abi::Code;
use aosk_ports::StoreError;
use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use rustix::io::Errno;

/// Why a piece of work on the database ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// What was asked for cannot be had; the database is fine, and so is other work in the same
    /// transaction.
    Refused(StoreError),
    /// The database could not do it; the transaction is lost.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType, Utf8Error};
        match error {
            // A column of another type or size than it was written with is one row's damage.
            FromSqlConversionFailure(..) | InvalidColumnType(..) | Utf8Error(..) => {
                Self::damaged(error)
            }
            error => Self::Database(error),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl Fault {
    /// A refusal.
    pub(super) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(StoreError::new(code, message))
    }

    /// Damage, with where it was met.
    pub(super) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::refused(
            Code::StoreCorrupt,
            format!("{what}; the store's file is damaged: restore it from a copy"),
        )
    }

    /// The error for the users of the store in `path`.
    pub(super) fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Database(error) => database(path, &error),
        }
    }
}

/// The error for what SQLite said about the database in `path`.
pub(super) fn database(path: &Path, error: &rusqlite::Error) -> StoreError {
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    let (code, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (Code::StoreFull, FULL),
        // The shared index of the log cannot be extended: on any file system that is a full disk.
        Some(ErrorCode::SystemIoFailure) if extended == SQLITE_IOERR_SHMSIZE => {
            (Code::StoreFull, FULL)
        }
        Some(ErrorCode::ReadOnly) => (
            Code::StoreReadOnly,
            "the file or its folder cannot be written: check its permissions and its mount",
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            Code::StoreCorrupt,
            "the file is truncated, damaged or not a store: restore it from a copy",
        ),
        // The log's index stands in the folder, so whoever reads must be able to write there.
        Some(ErrorCode::CannotOpen) if !is_writable(path.parent()) => (
            Code::StoreReadOnly,
            "its folder cannot be written: check its permissions and its mount",
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            (Code::StoreOpen, "check that the folder exists and may be read and written")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Code::StoreIo, "another program keeps the database locked: end it, then try again")
        }
        _ => (Code::StoreIo, "check the disk and the system's log, then try again"),
    };
    StoreError::new(code, format!("the store {}: {error}; {advice}", path.display()))
}

fn is_writable(dir: Option<&Path>) -> bool {
    dir.is_none_or(|dir| rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok())
}

/// The error for what the file system said about `path`.
pub(super) fn file(path: &Path, error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    let (code, advice) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (Code::StoreFull, FULL),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => (
            Code::StoreReadOnly,
            "check its permissions and its mount, or choose another folder for the data",
        ),
        _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
            (Code::StoreIo, "check the disk and the system's log, then try again")
        }
        _ => (Code::StoreOpen, "check that the folder exists and is a folder"),
    };
    StoreError::new(code, format!("{}: {error}; {advice}", path.display()))
}

const FULL: &str = "the disk is full: free some space, then try again; \
                    everything that was acknowledged is still there";
