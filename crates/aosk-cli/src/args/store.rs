//! `aosk store`.

use std::path::PathBuf;

use aosk_abi::{Hash, Tenant, Timestamp};
use aosk_store::StorePlace;
use clap::{Args, Subcommand};

use super::moment::moment;
use crate::store::place;

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

    /// Make a store of a backup, in a data folder or on a server without one
    Restore(StoreRestore),

    /// Copy a whole store into a place that holds none: a folder or a server, from either
    Copy(StoreCopy),

    /// Delete large contents that nothing has named in two generations
    Gc(StoreGc),

    /// Remove agents that have ended, whole, and leave a record of them
    Prune(StorePrune),

    /// List the agents that were removed
    Pruned(StoreFormat),

    /// Keep a file, however long, as a content, and print its address
    Put(StorePut),

    /// Write a large content out, however long
    Get(StoreGet),
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

/// `aosk store gc`. Each run is a generation.
#[derive(Debug, Args)]
pub(crate) struct StoreGc {
    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) format: StoreFormat,
}

/// `aosk store prune`. With both conditions, an agent that matches both goes.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true)))]
pub(crate) struct StorePrune {
    /// Those whose last event is older: 30d, or a moment
    #[arg(long, value_name = "TIME", group = "which", value_parser = moment)]
    pub(crate) older_than: Option<Timestamp>,

    /// All but so many, those that ended last
    #[arg(long, value_name = "N", group = "which")]
    pub(crate) keep: Option<u64>,

    /// Whose; `local` unless given
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<Tenant>,

    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) format: StoreFormat,
}

/// `aosk store put`. What nothing names is kept for a day.
#[derive(Debug, Args)]
pub(crate) struct StorePut {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) format: StoreFormat,
}

/// `aosk store get`.
#[derive(Debug, Args)]
pub(crate) struct StoreGet {
    /// Its address, as `aosk store put` and `aosk logs --json` print it
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Hash,

    /// Where to, in place of standard output; a file that is not there yet
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `aosk store copy`.
#[derive(Debug, Args)]
pub(crate) struct StoreCopy {
    /// The store to copy: sqlite:FOLDER or postgres://USER@HOST:PORT/DATABASE
    #[arg(long, value_name = "STORE", value_parser = place)]
    pub(crate) from: StorePlace,

    /// Where to: a folder or a database without a store
    #[arg(long, value_name = "STORE", value_parser = place)]
    pub(crate) to: StorePlace,

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
