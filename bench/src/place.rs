//! Which store is measured, and where it is.

use std::path::Path;
use std::sync::Arc;

use aosk_conformance::Server;
use aosk_ports::Store;
use aosk_store::{Options, PostgresOptions, PostgresStore, SqliteStore};
use clap::ValueEnum;

use crate::report::Failure;

/// The options that say so.
#[derive(Debug, clap::Args)]
pub struct Choice {
    /// The store.
    #[arg(long, value_enum, default_value_t = Backend::Sqlite)]
    store: Backend,
    /// A server to use, as postgres://…; one is started for the run where none is given.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
}

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The embedded store.
    Sqlite,
    /// A schema on a server.
    Postgres,
}

/// Where the stores of a run are made.
#[derive(Debug)]
pub enum Place {
    /// Each in a folder of its own.
    Folder,
    /// Each in a schema of its own.
    Server {
        /// Where it is.
        url: String,
        /// One of the run's own ends with it.
        started: Option<Server>,
    },
}

impl Place {
    /// The place that was chosen.
    pub fn of(args: &Choice) -> Result<Self, Failure> {
        match (args.store, &args.postgres) {
            (Backend::Sqlite, Some(_)) => Err("--postgres goes with --store postgres".into()),
            (store, url) => Self::on(store, url.as_deref()),
        }
    }

    /// A place of that kind; a server at that address, or one of the run's own.
    pub fn on(store: Backend, url: Option<&str>) -> Result<Self, Failure> {
        match (store, url) {
            (Backend::Sqlite, _) => Ok(Self::Folder),
            (Backend::Postgres, Some(url)) => {
                Ok(Self::Server { url: url.to_owned(), started: None })
            }
            (Backend::Postgres, None) if Server::is_here() => {
                let server = Server::start();
                Ok(Self::Server { url: server.url("postgres", ""), started: Some(server) })
            }
            (Backend::Postgres, None) => {
                Err("there is no PostgreSQL: run scripts/postgres.sh, or give --postgres URL"
                    .into())
            }
        }
    }

    /// A store of its own in that place, for the benchmark of that name; one in a file is in `dir`.
    pub fn open(&self, dir: &Path, benchmark: &str) -> Result<Arc<dyn Store>, Failure> {
        let command = "aosk-bench".to_owned();
        Ok(match self {
            Self::Folder => Arc::new(SqliteStore::open(&Options { dir: dir.to_owned(), command })?),
            Self::Server { url, .. } => {
                let mut options = PostgresOptions::new(url, command);
                options.schema = format!("bench_{benchmark}_{}", std::process::id());
                Arc::new(PostgresStore::open(&options)?)
            }
        })
    }

    /// What results call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Folder => "sqlite",
            Self::Server { .. } => "postgres",
        }
    }
}
