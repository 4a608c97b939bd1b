//! `aosk store backup` and `aosk store restore`.

use std::path::Path;
use std::sync::Arc;

use aosk_abi::Code;
use aosk_kernel::Redactor;
use aosk_ports::Store;
use aosk_store::{
    Backup, Options, PostgresStore, SqliteReader, SqliteStore, StorePlace, copy as copy_store,
    restore as restore_store,
};
use serde::Serialize;

use super::check::{self, Report};
use super::{copy, open, whole};
use crate::args::{StoreBackup, StoreRestore};
use crate::config::{self, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::figures::bytes;
use crate::print::{Screen, json};
use crate::processes;
use crate::wiring;

/// What `aosk store backup --json` prints.
#[derive(Serialize)]
struct Written {
    file: String,
    bytes: u64,
    #[serde(flatten)]
    checked: Report,
}

pub(super) async fn backup(
    args: &StoreBackup,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let backup = match whole(settings, "aosk store backup") {
        StorePlace::Sqlite(dir) | StorePlace::Backup(dir) => {
            drop(open(&dir)?);
            Backup::of(&dir, &args.file)?
        }
        server => {
            let file = args.file.clone();
            copy::aside(move || Backup::of_place(&server, &file)).await?
        }
    };
    // What is not sound is not called a backup.
    let checked = checked(backup.path()).await?;
    let written = backup.publish()?;
    let file = args.file.display().to_string();
    if args.format.json {
        screen.out.line(&json(&Written { file, bytes: written, checked })?)?;
    } else {
        screen.out.line(&format!("{file}: {}; {}", bytes(written), check::said(&checked)))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn restore(
    args: &StoreRestore,
    settings: &Settings,
    screen: &Screen,
) -> Result<Exit, Error> {
    let to = whole(settings, "aosk store restore");
    if let StorePlace::Sqlite(dir) = &to {
        processes::refuse_file(dir)?;
    }
    let report = checked(&args.file).await?;
    let secrets = Redactor::new(config::secret_variables());
    let store = restored(&args.file, &to).await?;
    let cut_off = wiring::settle_restored(store, secrets).await?;
    screen.out.line(&check::said(&report))?;
    if cut_off > 0 {
        screen.err.wrapped(&format!(
            "{cut_off} tool calls were in flight when the backup was made. Whether they took \
             effect is not known, so none is made again: their agents are told."
        ));
    }
    screen.err.wrapped(&format!(
        "The store is in {to}. Where the old one still runs agents, there are two of each now."
    ));
    Ok(Exit::Done)
}

/// Makes a store of a backup and opens it.
async fn restored(file: &Path, to: &StorePlace) -> Result<Arc<dyn Store>, Error> {
    let command = "aosk store restore".to_owned();
    match to.clone() {
        StorePlace::Sqlite(dir) | StorePlace::Backup(dir) => {
            let options = Options { dir, command };
            restore_store(file, &options)?;
            Ok(Arc::new(SqliteStore::open(&options)?))
        }
        StorePlace::Postgres(options) => {
            let from = StorePlace::Backup(file.to_owned());
            let to = to.clone();
            copy::aside(move || {
                copy_store(&from, &to)?;
                Ok(Arc::new(PostgresStore::open(&options)?) as Arc<dyn Store>)
            })
            .await
        }
    }
}

/// Checks a copy; an error where anything of it is damaged.
async fn checked(file: &Path) -> Result<Report, Error> {
    let reader = SqliteReader::open_backup(file)?;
    let report = check::look(&reader, file).await;
    if report.damage.is_empty() {
        return Ok(report);
    }
    Err(Error::new(Code::StoreCorrupt, check::said(&report))
        .at(file, None)
        .help("`aosk store check` lists what is damaged; what is sound can still be read"))
}
