//! `aosk store`: the store as a whole. What only reads does so beside whoever owns it.

mod backup;
mod check;
mod server;
mod size;
mod status;

use std::path::Path;

use aosk_abi::Code;
use aosk_kernel::Redactor;
use aosk_store::{POSTGRES_SCHEMA, SCHEMA, SqliteReader};

use crate::args::StoreCommand;
use crate::config::{self, Settings, StoreAt};
use crate::error::Error;
use crate::exit::Exit;
use crate::print::Screen;
use crate::processes::{self, DATABASE};
use crate::wiring::own_store;

pub(crate) async fn store(
    command: &StoreCommand,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    match command {
        StoreCommand::Status(args) => status::status(args, settings, screen).await,
        StoreCommand::Size(args) => size::size(args, settings, screen).await,
        StoreCommand::Check(args) => check::check(args, settings, screen).await,
        StoreCommand::Migrate => migrate(settings, screen),
        StoreCommand::Backup(args) => {
            refuse_server(settings)?;
            backup::backup(args, &settings.data_dir, screen).await
        }
        StoreCommand::Restore(args) => {
            refuse_server(settings)?;
            backup::restore(args, settings, screen).await
        }
    }
}

/// The store in the folder, which must be there.
fn open(dir: &Path) -> Result<SqliteReader, Error> {
    processes::refuse_file(dir)?;
    if dir.join(DATABASE).exists() {
        return Ok(SqliteReader::open(dir)?);
    }
    Err(Error::new(Code::StoreOpen, "there is no store: nothing ran here yet")
        .at(dir, None)
        .help("give the folder that holds aosk.db: --data-dir DIR"))
}

/// Refuses what only a store in a file can do.
fn refuse_server(settings: &Settings) -> Result<(), Error> {
    match &settings.store {
        StoreAt::Folder => Ok(()),
        StoreAt::Server(options) => Err(Error::new(
            Code::CliUsage,
            format!("the store is on a server, {}: this is for one in a file", options.shown()?),
        )
        .help("back the whole schema up with pg_dump: docs/postgresql.md shows how")),
    }
}

/// To own a store is to migrate it.
fn migrate(settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    let dir = &settings.data_dir;
    let schema = match &settings.store {
        StoreAt::Folder => {
            processes::refuse_file(dir)?;
            if !dir.join(DATABASE).exists() {
                open(dir)?;
            }
            SCHEMA
        }
        StoreAt::Server(_) => POSTGRES_SCHEMA,
    };
    let secrets = Redactor::new(config::secret_variables());
    drop(own_store(settings, "aosk store migrate", &secrets)?);
    screen.err.wrapped(&format!("The store has schema {schema}, this version's."));
    Ok(Exit::Done)
}
