//! Settings: flags > `AOSK_*` variables > `./aosk.toml` > the user's `config.toml` > defaults.
//!
//! `./aosk.toml` comes with the folder that one happens to stand in, perhaps from a stranger. So
//! it may choose a model and lower the spend limit, and a key of it that would move data, money or
//! keys is an error that says where the key belongs.

mod edit;
mod file;
mod keys;
mod layers;
mod paths;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use aosk_abi::{MicroDollars, Sharing};

pub(crate) use edit::Edit;
pub(crate) use file::read_text;
pub(crate) use keys::{Vault, read_keys, secret_variables};
pub(crate) use layers::{Flags, same_store};
pub(crate) use paths::Folders;
pub(crate) use store::StoreAt;

use crate::error::Error;
use crate::print::Color;

/// What the layers say together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// The model of manifests that name none.
    pub(crate) model: Option<String>,
    /// What one run may spend.
    pub(crate) max_spend: MicroDollars,
    /// Which layer says so, in words.
    pub(crate) max_spend_from: String,
    /// Which store holds the journals.
    pub(crate) store: StoreAt,
    /// The folder of the store on this machine. A store in a file is in it; of one on a server it
    /// holds the daemon's socket and the log.
    pub(crate) data_dir: PathBuf,
    /// The data folder as it was set; [`data_dir`](Self::data_dir) is it or below it.
    pub(crate) base_dir: PathBuf,
    /// What a command that is suggested must repeat to find the same store: ` --data-dir DIR`,
    /// ` --store …`, or nothing where it is found without them.
    pub(crate) same_store: String,
    /// For how long agents stay that have ended; for ever where that is `None`.
    pub(crate) retention: Option<Duration>,
    /// When to colour.
    pub(crate) color: Color,
    /// What makes vectors for searches, a name of the table; `None`: words alone are compared.
    pub(crate) embedder: Option<String>,
    /// Who shares which pool with whom, and what each may use.
    pub(crate) sharing: Sharing,
}

impl Settings {
    /// Reads all layers.
    ///
    /// # Errors
    /// [`Error`] with the file and line of a wrong key or value.
    pub(crate) fn load(folders: &Folders, flags: &Flags) -> Result<Self, Error> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        layers::refuse_misspelt(names)?;
        layers::load(folders, flags, &|name| std::env::var_os(name))
    }
}
