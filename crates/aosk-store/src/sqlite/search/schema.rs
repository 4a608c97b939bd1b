//! The file of the index: making, opening and throwing away.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aosk_abi::Code;
use aosk_ports::StoreError;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::super::fault::{Fault, file as file_error};
use super::super::files::Files;
use crate::search::index::Model;

/// `aosf` in ASCII: a file of an index, as `aosk` is one of a store.
const APPLICATION_ID: i32 = 0x616f_7366;

/// The version of the tables and of the terms in them. A file of another one is made anew.
const VERSION: i32 = 1;

/// Bytes of a page: a vector of 384 components takes a fifth of one, one of 1,536 most of one. Reading
/// 500 vectors reads as many pages.
const PAGE_SIZE: u32 = 8 << 10;

/// Where an index is. Its lock is a file of its own: closing any handle of a database drops the locks
/// that SQLite has on it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) database: PathBuf,
    lock: PathBuf,
    /// Whether another program may have it, so that it is only read.
    is_beside: bool,
}

impl Place {
    pub(super) fn new(dir: &Path) -> Self {
        let (database, lock) = (dir.join("search.db"), dir.join("search.lock"));
        Self { database, lock, is_beside: false }
    }

    /// The index of another program, to be read.
    pub(super) fn beside(dir: &Path) -> Self {
        Self { is_beside: true, ..Self::new(dir) }
    }

    /// Opens the index to read it; whether its vectors are those of `model`.
    pub(super) fn look(&self, model: Option<&Model>) -> Result<(Connection, bool), Fault> {
        if !self.database.exists() {
            return Err(Fault::refused(Code::StoreOpen, "nothing was indexed here yet"));
        }
        let connection = self.connect()?;
        if version(&connection)? != (APPLICATION_ID, VERSION) {
            return Err(Fault::refused(
                Code::StoreOpen,
                "the search index is of another version: whoever owns the store makes it anew",
            ));
        }
        let there = kept(&connection)?;
        let is_same = model
            .zip(there)
            .is_some_and(|(model, (id, dims))| model.id == id && model.dims == dims);
        Ok((connection, is_same))
    }

    /// Takes the index for this program, until the file is dropped.
    pub(super) fn take(&self) -> Result<File, StoreError> {
        let failed = |error: std::io::Error| file_error(&self.lock, &error);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.lock)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::new(
                Code::StoreOwned,
                format!(
                    "another program has the search index {} open: end it, then try again",
                    self.database.display()
                ),
            )),
            Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Opens the index; makes it where there is none or another version of it.
    pub(super) fn open_or_make(&self, model: Option<&Model>) -> Result<Connection, Fault> {
        let mut connection = self.connect()?;
        if version(&connection)? != (APPLICATION_ID, VERSION) {
            drop(connection);
            self.throw_away()?;
            connection = self.connect()?;
            connection.pragma_update(None, "page_size", PAGE_SIZE)?;
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.commit()?;
        }
        connection.pragma_update(None, "journal_mode", "wal")?;
        if let Some(model) = model {
            adopt(&mut connection, model)?;
        }
        Ok(connection)
    }

    /// One more connection to it.
    pub(super) fn connect(&self) -> Result<Connection, Fault> {
        if self.is_beside {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.database, flags)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            return Ok(connection);
        }
        if !self.database.try_exists().unwrap_or(false) {
            Files::create_private(&self.database)?;
        }
        let connection = Connection::open(&self.database)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "cell_size_check", true)?;
        // What the power takes is followed again: the cursor goes with it.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", -(32 << 10))?;
        Ok(connection)
    }

    /// Removes the file and what SQLite keeps beside it.
    pub(super) fn throw_away(&self) -> Result<(), StoreError> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.database.as_os_str().to_owned();
            path.push(suffix);
            Files::remove(Path::new(&path))?;
        }
        Ok(())
    }
}

fn version(connection: &Connection) -> Result<(i32, i32), Fault> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    Ok((number("application_id")?, number("user_version")?))
}

/// What the vectors are of.
fn kept(connection: &Connection) -> Result<Option<(String, usize)>, Fault> {
    let there = connection.query_row("SELECT name, dims FROM model", [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)? as usize))
    });
    Ok(there.optional()?)
}

/// Makes the vectors those of `model`.
fn adopt(connection: &mut Connection, model: &Model) -> Result<(), Fault> {
    let there = kept(connection)?;
    if there.as_ref().is_some_and(|(id, dims)| *id == model.id && *dims == model.dims) {
        return Ok(());
    }
    if let Some((id, _)) = there {
        tracing::info!(
            from = id,
            to = model.id,
            "the embedder is another one: vectors are made anew"
        );
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "DELETE FROM model; DELETE FROM vectors; DELETE FROM sketches; DELETE FROM waiting; \
         INSERT INTO waiting SELECT id FROM items;",
    )?;
    transaction.execute(
        "INSERT INTO model VALUES (?1, ?2)",
        (&model.id, u32::try_from(model.dims).unwrap_or(u32::MAX)),
    )?;
    transaction.commit()?;
    Ok(())
}
