//! `aosk store`: the store as a whole. What only reads does so beside whoever owns it.

mod backup;
mod check;
mod content;
mod copy;
mod gc;
mod prune;
mod server;
mod size;
mod status;

use std::path::Path;

use aosk_abi::Code;
use aosk_kernel::Redactor;
use aosk_store::{POSTGRES_SCHEMA, PostgresOptions, SCHEMA, SqliteReader, StorePlace};

use crate::args::StoreCommand;
use crate::config::{self, Settings, StoreAt};
use crate::error::Error;
use crate::exit::Exit;
use crate::print::Screen;
use crate::processes::{self, DATABASE};
use crate::wiring::{node_label, own_store};

pub(crate) use copy::place;

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
        StoreCommand::Backup(args) => backup::backup(args, settings, screen).await,
        StoreCommand::Restore(args) => backup::restore(args, settings, screen).await,
        StoreCommand::Copy(args) => copy::copy(args, screen).await,
        StoreCommand::Gc(args) => gc::gc(args, settings, screen).await,
        StoreCommand::Prune(args) => prune::prune(args, settings, screen).await,
        StoreCommand::Pruned(args) => prune::pruned(args, settings, screen).await,
        StoreCommand::Put(args) => content::put(args, settings, screen).await,
        StoreCommand::Get(args) => content::get(args, settings).await,
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

/// The store of the settings, whole.
pub(crate) fn whole(settings: &Settings, command: &str) -> StorePlace {
    match &settings.store {
        StoreAt::Folder => StorePlace::Sqlite(settings.data_dir.clone()),
        StoreAt::Server(options) => {
            let label = node_label(std::process::id(), command);
            StorePlace::Postgres(PostgresOptions { label, ..options.as_ref().clone() })
        }
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
