//! What can go wrong with a server, and the words that users read about it.
//!
//! Three kinds of trouble, because three things are done about them: a refusal is told and leaves
//! the rest of its group alone; a lost connection is made again, however long that takes; a clash
//! with another writer is run again at once. What is left is the server's own error: told, with the
//! next thing to do.

use aosk_abi::Code;
use aosk_ports::StoreError;
use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use super::options::Address;

/// Why a piece of work on the database ended.
#[derive(Debug)]
pub(super) enum Fault {
    /// What was asked for cannot be had, and asking again would not change that.
    Refused(StoreError),
    /// The connection or the server went away; what became of the transaction is not known.
    Lost(String),
    /// Another writer was in the way; the transaction is lost, nothing of it is there.
    Clash(String),
    /// The server could not do it; the transaction is lost.
    Database(Box<tokio_postgres::Error>),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            return if is_of_the_wire(&error) {
                Self::Lost(words(&error))
            } else {
                Self::Database(Box::new(error))
            };
        };
        let code = state.code();
        if code.starts_with("08")
            || matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25P03")
        {
            return Self::Lost(words(&error));
        }
        let clashes = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::UNIQUE_VIOLATION,
        ];
        if clashes.contains(state) {
            return Self::Clash(words(&error));
        }
        Self::Database(Box::new(error))
    }
}

/// Whether the driver met the error on the wire. The others are of values and of the log-in; it
/// names its kinds in words only.
fn is_of_the_wire(error: &tokio_postgres::Error) -> bool {
    const OTHERS: [&str; 8] = [
        "error serializing",
        "error deserializing",
        "error encoding",
        "invalid column",
        "query returned",
        "expected ",
        LOG_IN[0],
        LOG_IN[1],
    ];
    let words = error.to_string();
    !OTHERS.iter().any(|kind| words.starts_with(kind))
}

/// How errors begin that the driver meets while it logs in.
const LOG_IN: [&str; 2] = ["invalid configuration", "authentication error"];

/// What an error says, its causes included: the driver's own words are "db error".
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    if let Some(database) = error.as_db_error() {
        return match database.detail() {
            Some(detail) => format!("{} ({detail})", database.message()),
            None => database.message().to_owned(),
        };
    }
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    words
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
            format!("{what}; the database was altered or damaged: restore it from a backup"),
        )
    }

    /// The error for the users of the store at `address`.
    pub(super) fn at(self, address: &Address) -> StoreError {
        let Address { shown, schema, config, .. } = address;
        let user = config.get_user().unwrap_or("the role of the system's user");
        let error = match self {
            Self::Refused(error) => return error,
            Self::Lost(what) => {
                return StoreError::new(
                    Code::StoreUnreachable,
                    format!(
                        "the database {shown} cannot be reached: {what}; start the server, or \
                         check host, port and sslmode in its address"
                    ),
                );
            }
            Self::Clash(what) => {
                return StoreError::new(
                    Code::StoreIo,
                    format!(
                        "the database {shown}: {what}; another program keeps writing to the same \
                         rows: end it, then try again"
                    ),
                );
            }
            Self::Database(error) => error,
        };
        let state = error.code().map_or("", SqlState::code);
        let is_log_in = LOG_IN.iter().any(|kind| error.to_string().starts_with(kind));
        let (code, advice) = match state {
            _ if is_log_in || matches!(state, "28P01" | "28000") => (
                Code::StoreAccess,
                format!("check user and password in its address, and pg_hba.conf for {user}"),
            ),
            "3D000" => (Code::StoreOpen, format!("make it with: createdb {}", database(config))),
            "42501" => (
                Code::StoreAccess,
                format!(
                    "a store needs a schema of its own: CREATE SCHEMA {} AUTHORIZATION \"{user}\"",
                    quoted(schema)
                ),
            ),
            "42P01" | "42703" | "42883" | "3F000" => (
                Code::StoreCorrupt,
                format!(
                    "the tables in the schema {schema} were altered: restore them from a backup"
                ),
            ),
            "53100" => (
                Code::StoreFull,
                "the server's disk is full: free some space, then try again; everything that was \
                 acknowledged is still there"
                    .to_owned(),
            ),
            "25006" => (
                Code::StoreReadOnly,
                "the server is a standby or read-only: give the address of the primary".to_owned(),
            ),
            "XX001" | "XX002" => {
                (Code::StoreCorrupt, "the database is damaged: restore it from a backup".to_owned())
            }
            _ if error.code().is_none() => (
                Code::StoreCorrupt,
                "a column has another type than this program wrote: restore it from a backup"
                    .to_owned(),
            ),
            _ => (Code::StoreIo, "look at the server's log, then try again".to_owned()),
        };
        let state = if state.is_empty() { String::new() } else { format!(" [{state}]") };
        StoreError::new(code, format!("the database {shown}: {}{state}; {advice}", words(&error)))
    }
}

fn database(config: &tokio_postgres::Config) -> &str {
    config.get_dbname().or(config.get_user()).unwrap_or_default()
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
