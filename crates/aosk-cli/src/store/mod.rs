//! `aosk store`: the store as a whole. What only reads does so beside whoever owns it.

mod backup;
mod check;
mod size;
mod status;

use std::path::Path;

use aosk_abi::Code;
use aosk_kernel::Redactor;
use aosk_store::{SCHEMA, SqliteReader};

use crate::args::StoreCommand;
use crate::config::{self, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::print::Screen;
use crate::processes;
use crate::wiring::own_store;

pub(crate) async fn store(
    command: &StoreCommand,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    match command {
        StoreCommand::Status(args) => status::status(args, &settings.data_dir, screen).await,
        StoreCommand::Size(args) => size::size(args, &settings.data_dir, screen),
        StoreCommand::Check(args) => check::check(args, &settings.data_dir, screen).await,
        StoreCommand::Migrate => migrate(settings, screen),
        StoreCommand::Backup(args) => backup::backup(args, &settings.data_dir, screen).await,
        StoreCommand::Restore(args) => backup::restore(args, settings, screen).await,
    }
}

/// The store, which must be there.
fn open(dir: &Path) -> Result<SqliteReader, Error> {
    processes::open(dir)?.ok_or_else(|| {
        Error::new(Code::StoreOpen, "there is no store: nothing ran here yet")
            .at(dir, None)
            .help("give the folder that holds aosk.db: --data-dir DIR")
    })
}

/// To own a store is to migrate it.
fn migrate(settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    let dir = &settings.data_dir;
    processes::refuse_file(dir)?;
    if !dir.join("aosk.db").exists() {
        open(dir)?;
    }
    let secrets = Redactor::new(config::secret_variables());
    drop(own_store(settings, "aosk store migrate", &secrets)?);
    screen.err.wrapped(&format!("The store has schema {SCHEMA}, this version's."));
    Ok(Exit::Done)
}
