//! `aosk store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `aosk store`.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// What to do with it.
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Say where it is, of which schema, who owns it and what is in it
    Status(StoreFormat),

    /// Say what takes how much space
    Size(StoreFormat),

    /// Verify every chain, fold every journal and read every content
    Check(StoreCheck),

    /// Bring it to this version's schema; any command that owns it does the same
    Migrate,

    /// Copy it into one file as it is at one moment, and check the copy
    Backup(StoreBackup),

    /// Make a store of a backup, in a data folder that holds none
    Restore(StoreRestore),
}

/// How a command of the store prints.
#[derive(Debug, Args)]
pub(crate) struct StoreFormat {
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `aosk store check`.
#[derive(Debug, Args)]
pub(crate) struct StoreCheck {
    /// A backup to check in place of the store
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) format: StoreFormat,
}

/// `aosk store backup`.
#[derive(Debug, Args)]
pub(crate) struct StoreBackup {
    /// Where to; a file that is not there yet
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) format: StoreFormat,
}

/// `aosk store restore`.
#[derive(Debug, Args)]
pub(crate) struct StoreRestore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
