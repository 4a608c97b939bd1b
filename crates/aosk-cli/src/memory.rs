//! The search index of the store, as this program opens it and keeps it up.
//!
//! Whoever runs a kernel on a store keeps its index up as well. An index that cannot be opened holds up
//! no agent; an embedder that cannot work is said before anything runs, because agents would search
//! by words alone for as long as nobody reads the log.

use std::path::Path;
use std::sync::Arc;

use aosk_abi::{Code, Tenant};
use aosk_ports::{Embedder, Journal, StoreError};
use aosk_store::{Follower, Indexing, Lag, PostgresReader, SearchIndex, SqliteReader};

use crate::config::{Folders, Settings, StoreAt};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::print::Screen;
use crate::wiring::Owned;

/// The file of an index in its folder.
const INDEX: &str = "search.db";

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

/// The embedder that the user's settings name, for who needs nothing else of the table.
///
/// # Errors
/// As [`embedder`], and for a table that cannot be read.
pub(crate) fn embedder_of(
    settings: &Settings,
    folders: &Folders,
) -> Result<Option<Arc<dyn Embedder>>, Error> {
    if settings.embedder.is_none() {
        return Ok(None);
    }
    embedder(settings, &Endpoints::load(folders)?)
}

/// Opens the index to ask it; whether it is this program's own, else it is read beside whoever has
/// it.
pub(crate) fn open_to_ask(
    settings: &Settings,
    embedder: Option<Arc<dyn Embedder>>,
) -> Result<(SearchIndex, bool), StoreError> {
    match open(settings, embedder.clone()) {
        Err(error) if error.code == Code::StoreOwned => {
            Ok((SearchIndex::beside(&settings.data_dir, embedder)?, false))
        }
        opened => Ok((opened?, true)),
    }
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

/// How far the index of a store in a folder is behind `journal`; `None` where there is none yet. It is
/// read beside whoever has it and never made.
///
/// # Errors
/// Those of the store and of an index that cannot be read.
pub(crate) async fn lag(dir: &Path, journal: Arc<dyn Journal>) -> Result<Option<Lag>, StoreError> {
    if !dir.join(INDEX).exists() {
        return Ok(None);
    }
    let index = Arc::new(SearchIndex::beside(dir, None)?);
    Follower::new(journal, index).lag(&Tenant::local()).await.map(Some)
}

/// Takes out of the index what is in the store no more. Where somebody runs on a store in a folder,
/// that one does it; a removal that was done stays done whatever becomes of this.
pub(crate) async fn tidy(settings: &Settings, tenant: &Tenant, screen: &Screen) {
    match tidied(settings, tenant).await {
        Ok(()) => {}
        Err(error) if error.code == Code::StoreOwned => {
            tracing::info!(%error, "whoever runs on the store tidies its search index");
        }
        Err(error) => screen.err.wrapped(&format!(
            "The search index still holds what was removed, until somebody runs on the store: {error}"
        )),
    }
}

async fn tidied(settings: &Settings, tenant: &Tenant) -> Result<(), StoreError> {
    let journal: Arc<dyn Journal> = match &settings.store {
        // An index is not made for tidying it.
        StoreAt::Folder if !settings.data_dir.join(INDEX).exists() => return Ok(()),
        StoreAt::Folder => Arc::new(SqliteReader::open(&settings.data_dir)?),
        StoreAt::Server(options) => Arc::new(PostgresReader::open(options)?),
    };
    let index = Arc::new(open(settings, None)?);
    Follower::new(journal, index).tidy(tenant).await.map(drop)
}
