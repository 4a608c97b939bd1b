//! The log beside the database, and how far it may be believed.
//!
//! SQLite believes its log up to the first frame that is not whole. After a crash the system's
//! memory answers for the disk, and where a sync had failed the two differ: the system marks what it
//! could not write as clean, keeps showing it, and no later sync writes it. A log that is read back
//! whole may then have a gap on the disk, and every append behind the gap, acknowledged after an
//! honest sync of its own, ends at the next power cut.
//!
//! So whoever opens a store that nobody has open first writes the log over itself, byte for byte, and
//! syncs it: what is seen then is what the disk has. To move the log into the database instead would
//! not do, for a power cut in the middle would leave half of a transaction there that no log can
//! complete. It costs one pass over at most some 20 MiB, after a crash only: a store that is closed
//! leaves no log.
//!
//! A failed sync of the database file itself is alike: pages that were moved there earlier are
//! forgotten by the disk, and SQLite believes that they have arrived. From then on the log is moved no
//! more in this life, and left where it is at the end of it. The next life moves all of it again
//! (unless some reader had the store open from the one to the other).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use aosk_abi::Code;
use aosk_ports::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
use rusqlite::{Connection, TransactionBehavior};

use super::fault::{Fault, database as database_error, file as file_error};
use super::files::Files;
use super::schema::PAGE_SIZE;

/// What is written over itself at once.
const CHUNK: usize = 1 << 20;

/// The log's length at which the writer moves it into the file: 16 MiB.
const LONG: i64 = (16 << 20) / PAGE_SIZE as i64;

/// Sees to it that the database has a log.
pub(super) fn keep(connection: &Connection) -> Result<(), Fault> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    // SQLite says which mode it is in and only then commits the change: to the last row and beyond.
    let mut mode = String::new();
    while let Some(row) = rows.next()? {
        mode = row.get(0)?;
    }
    if mode == "wal" {
        return Ok(());
    }
    Err(Fault::refused(
        Code::StoreIo,
        format!("the store has no log and none can be made (mode {mode}): try again"),
    ))
}

/// Makes what the log shows certain, and the names in the folder. For whoever opens a store that no
/// living owner has open.
pub(super) fn make_certain(connection: &mut Connection, files: &Files) -> Result<(), StoreError> {
    let path = files.log();
    // Nobody else appends to it meanwhile, or begins it anew.
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| database_error(files.database(), &error))?;
    let rewritten = match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        log => log.and_then(|log| rewrite(&log)),
    };
    rewritten.map_err(|error| file_error(&path, &error))?;
    File::open(files.dir())
        .and_then(|folder| folder.sync_all())
        .map_err(|error| file_error(files.dir(), &error))?;
    transaction.commit().map_err(|error| database_error(files.database(), &error))
}

fn rewrite(log: &File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let len = log.read_at(&mut chunk, at)?;
        if len == 0 {
            break;
        }
        log.write_all_at(&chunk[..len], at)?;
        at += len as u64;
    }
    if at == 0 { Ok(()) } else { log.sync_data() }
}

/// Moves the log into the file, now and then.
#[derive(Debug)]
pub(super) struct Mover {
    path: PathBuf,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Moving,
    /// The last attempt failed.
    Stuck,
    /// A sync of the file failed.
    Over,
}

impl Mover {
    /// For the log of the database in `path`.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, state: State::Moving }
    }

    /// Moves a long log into the file. What fails here loses nothing: the log keeps it.
    pub(super) fn run(&mut self, connection: &Connection) {
        if self.state == State::Over {
            return;
        }
        let pages = |mode: &str| {
            connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                row.get::<_, i64>(1)
            })
        };
        let moved = match pages("NOOP") {
            Ok(length) if length >= LONG => pages("PASSIVE").map(drop),
            other => other.map(drop),
        };
        let Err(error) = moved else {
            self.state = State::Moving;
            return;
        };
        let code = error.sqlite_error().map_or(0, |error| error.extended_code);
        let was_stuck = std::mem::replace(&mut self.state, State::Stuck) == State::Stuck;
        let error = database_error(&self.path, &error);
        if matches!(code, SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC) {
            self.state = State::Over;
            if let Err(error) =
                connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            {
                tracing::error!(%error, "the store's log will be moved at its end all the same");
            }
            tracing::error!(
                %error,
                "the disk failed a sync of the store: its log grows until the store is closed and \
                 opened again; nothing that was acknowledged is lost"
            );
        } else if !was_stuck {
            tracing::warn!(%error, "the store's log grows until it can be moved into its file");
        }
    }
}
