//! Making, checking and migrating the database.
//!
//! A new database is made whole under another name and then renamed, so a store is either there or
//! not: an empty or cut file is damage, never a beginning. `application_id` says that the file is
//! a store, `user_version` which migrations it has seen. A program refuses a store newer than
//! itself; it never guesses.

use std::path::Path;
use std::time::Duration;

use aosk_abi::Code;
use aosk_ports::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fault::{Fault, database as database_error};
use super::files::Files;
use super::log;

/// `aosk` in ASCII; what tools such as `file` see at byte 68.
const APPLICATION_ID: i32 = 0x616f_736b;

/// Every migration, in order; the n-th leads to version n. Those of a released version never
/// change.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
];

/// The schema that this program writes. It reads every older one after migrating it, and no newer.
pub const SCHEMA: usize = MIGRATIONS.len();

/// The version of SQLite that is built in.
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// Bytes of a page. A row that does not fit into the rest of one begins the next, so small pages
/// waste: at 2.6 KB a row 4 KiB pages waste 1,500 bytes a row and larger ones 130; at 4.4 KB a row
/// 8 KiB pages waste 3,800, 16 KiB 1,060 and 32 KiB 280. Larger ones only make the log longer: a
/// lone agent writes 46 KB a step with 16 KiB pages, 82 KB with 32 KiB and 158 KB with 64 KiB.
pub(super) const PAGE_SIZE: u32 = 32 << 10;

/// How long a connection waits for another's transaction. Posts from outside take milliseconds;
/// whoever holds the lock longer is stuck, and the error says so.
const BUSY: Duration = Duration::from_secs(10);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// The owner's: everything.
    Own,
    /// Posting to the inbox: writes to the log only. It is closed before the reader's own
    /// connections, so it is never the last one, which would move the log into the file.
    Post,
    /// Reading.
    Read,
}

/// Opens the database of the owner; makes it if it is not there, and migrates it.
pub(super) fn open_owned(files: &Files) -> Result<Connection, StoreError> {
    // Left by a crash in the middle of making one; nobody ever saw it.
    for left in files.unfinished_and_its_journal() {
        Files::remove(&left)?;
    }
    if !files.exists()? {
        create(files)?;
    }
    let mut connection = open(files.database(), Access::Own)?;
    let failed = |fault: Fault| fault.at(files.database());
    log::keep(&connection).map_err(failed)?;
    log::make_certain(&mut connection, files)?;
    migrate(&mut connection, MIGRATIONS).map_err(failed)?;
    Ok(connection)
}

/// Opens the database for one who does not own the store.
pub(super) fn open_shared(files: &Files, access: Access) -> Result<Connection, StoreError> {
    if !files.exists()? {
        return Err(StoreError::new(
            Code::StoreOpen,
            format!("there is no store at {}: nothing ran there yet", files.database().display()),
        ));
    }
    let connection = open(files.database(), access)?;
    let found = version(&connection, files.database())?;
    if found < MIGRATIONS.len() {
        return Err(StoreError::new(
            Code::StoreOpen,
            format!(
                "the store {} has the older schema {found}: run this version of aosk on it once, \
                 which migrates it",
                files.database().display()
            ),
        ));
    }
    Ok(connection)
}

fn create(files: &Files) -> Result<(), StoreError> {
    let path = files.unfinished();
    Files::create_private(&path)?;
    let made = (|| {
        let connection = begin(&path)?;
        log::keep(&connection)?;
        connection.close().map_err(|(_, error)| Fault::Database(error))
    })();
    made.map_err(|fault: Fault| fault.at(&path))?;
    files.publish()
}

/// Makes the tables of a store in an empty file, which has no log yet.
pub(super) fn begin(path: &Path) -> Result<Connection, Fault> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    migrate(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

/// Makes the database of a store of a copy that has no log yet.
pub(super) fn adopt(path: &Path) -> Result<(), StoreError> {
    let mut connection = open(path, Access::Own)?;
    let adopted = (|| {
        migrate(&mut connection, MIGRATIONS)?;
        log::keep(&connection)?;
        connection.close().map_err(|(_, error)| Fault::Database(error))
    })();
    adopted.map_err(|fault: Fault| fault.at(path))
}

/// What SQLite finds wrong with the file itself; empty where nothing is. Reads all of it.
///
/// # Errors
/// As [`SqliteReader::open`](super::SqliteReader::open).
pub fn integrity(database: &Path) -> Result<Vec<String>, StoreError> {
    let connection = open(database, Access::Read)?;
    let found = (|| {
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<Result<Vec<_>, _>>()
    })();
    let mut found = found.map_err(|error| database_error(database, &error))?;
    found.retain(|line| line != "ok");
    Ok(found)
}

fn open(path: &Path, access: Access) -> Result<Connection, StoreError> {
    let mode = match access {
        Access::Own | Access::Post => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let opened = (|| {
        let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Where a sync alone stops at the drive's cache (macOS), go through it.
        connection.pragma_update(None, "fullfsync", true)?;
        // The writer moves the log into the file itself, after it has acknowledged.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        let cache_kib = if access == Access::Own { 32 << 10 } else { 4 << 10 };
        connection.pragma_update(None, "cache_size", -cache_kib)?;
        Ok(connection)
    })();
    let connection = opened.map_err(|error: rusqlite::Error| database_error(path, &error))?;
    if access == Access::Own && connection.is_readonly("main").is_ok_and(|readonly| readonly) {
        return Err(StoreError::new(
            Code::StoreReadOnly,
            format!("{} cannot be written: check its permissions and its mount", path.display()),
        ));
    }
    version(&connection, path)?;
    Ok(connection)
}

/// The schema's version, checked to be one that this program knows.
fn version(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let pragma = |name| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(|error| database_error(path, &error))
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(StoreError::new(
            Code::StoreCorrupt,
            format!(
                "{} is empty or another program's database, not a store of aosk: restore it from a \
                 copy, or choose another folder for the data",
                path.display()
            ),
        ));
    }
    let found = pragma("user_version")?;
    match usize::try_from(found) {
        Ok(known) if known <= MIGRATIONS.len() => Ok(known),
        _ => Err(StoreError::new(
            Code::StoreNewerSchema,
            format!(
                "the store {} has schema {found}; this version of aosk knows up to {}: upgrade \
                 aosk to open it",
                path.display(),
                MIGRATIONS.len()
            ),
        )),
    }
}

/// Runs the migrations that the database has not seen, each in a transaction of its own.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), Fault> {
    let seen =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    for (version, sql) in (1_u32..).zip(migrations).skip(seen) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [&str; 3] =
        ["CREATE TABLE one (x)", "CREATE TABLE two (x); INSERT INTO two VALUES (2)", "no SQL"];

    fn seen(connection: &Connection) -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number")
    }

    #[test]
    fn each_migration_runs_once_in_order_whatever_the_store_has_seen() {
        let mut connection = Connection::open_in_memory().expect("memory");
        for until in [1, 2, 2] {
            migrate(&mut connection, &STEPS[..until]).expect("migrates");
            assert_eq!(seen(&connection) as usize, until);
        }
        let count = "SELECT COUNT(*) FROM two";
        assert_eq!(connection.query_row(count, [], |row| row.get::<_, i64>(0)).expect("there"), 1);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before() {
        let mut connection = Connection::open_in_memory().expect("memory");
        migrate(&mut connection, &STEPS).expect_err("the third is no SQL");
        assert_eq!(seen(&connection), 2);
        connection.execute_batch("INSERT INTO two VALUES (3)").expect("the second holds");
    }
}
