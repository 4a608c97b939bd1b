//! The search index of the store, as this program opens it and keeps it up.
//!
//! Whoever runs a kernel on a store keeps its index up as well. An index that cannot be opened holds up
//! no agent; an embedder that cannot work is said before anything runs, because agents would search
//! by words alone for as long as nobody reads the log.

use std::sync::Arc;

use aosk_abi::{Code, Tenant};
use aosk_ports::{Embedder, StoreError};
use aosk_store::{Indexing, SearchIndex};

use crate::config::{Settings, StoreAt};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::wiring::Owned;

/// The embedder that the user's settings name, ready to be asked; an endpoint is not asked yet.
///
/// # Errors
/// [`Error`] for one that the table does not have, without an address or a key, or whose folder holds
/// no model that this program runs.
pub(crate) fn embedder(
    settings: &Settings,
    endpoints: &Endpoints,
) -> Result<Option<Arc<dyn Embedder>>, Error> {
    let Some(name) = &settings.embedder else {
        return Ok(None);
    };
    endpoints.embedder(name).map(Some).map_err(|error| {
        let message = format!("[memory] embedder = {name:?}: {}", error.said());
        let told = Error::new(Code::CliConfig, message);
        let told = error.helps().iter().fold(told, |told, help| told.help(help.clone()));
        told.help("`embedder = \"none\"` in [memory] of your config.toml searches by words alone")
    })
}

/// Opens the index of the store of the settings. Blocks.
pub(crate) fn open(
    settings: &Settings,
    embedder: Option<Arc<dyn Embedder>>,
) -> Result<SearchIndex, StoreError> {
    match &settings.store {
        StoreAt::Folder => SearchIndex::in_folder(&settings.data_dir, embedder),
        StoreAt::Server(options) => SearchIndex::on_server(options, embedder),
    }
}

/// Begins to keep the index of a store up.
pub(crate) fn begin(
    settings: &Settings,
    owned: &Owned,
    embedder: Option<Arc<dyn Embedder>>,
) -> Indexing {
    let settings = settings.clone();
    let open = move || open(&settings, embedder.clone());
    Indexing::begin(owned.store.clone(), Tenant::local(), Arc::new(open))
}
