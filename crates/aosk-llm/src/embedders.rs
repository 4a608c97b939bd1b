//! Embedders in the table of models: an endpoint with a price, or a folder on this machine.

use std::path::PathBuf;
use std::sync::Arc;

use aosk_abi::MicroDollars;
use aosk_ports::Embedder;

use crate::embeddings::RemoteEmbedder;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::http::Options;
use crate::models::{Models, Provider};
use crate::sentence::SentenceModel;
use crate::table::{Dialect, EmbedderEntry, nearest};

/// The components of an endpoint's vector where the table names no number: OpenAI's small model, and
/// the width that most others offer as well.
const DIMS: usize = 1_536;

/// The most components that are believed.
const DIMS_MAX: usize = 65_536;

/// An embedder of an endpoint, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderSpec {
    /// Its name in the table.
    pub name: String,
    /// What its endpoint calls it.
    pub id: String,
    /// Who serves it.
    pub provider: Provider,
    /// How many components a vector has.
    pub dims: usize,
    /// Whether the endpoint is told how many components it shall make.
    pub shorten: bool,
    /// US dollars for a million tokens.
    pub price: MicroDollars,
}

/// What an entry stands for.
pub(crate) enum Described {
    Endpoint(EmbedderSpec),
    Folder(PathBuf),
}

impl Models {
    /// The names of the embedders, sorted.
    pub fn embedders(&self) -> impl Iterator<Item = &str> {
        self.embedder_entries().keys().map(String::as_str)
    }

    /// The embedder of that name, where the environment says its endpoint is. An endpoint is not
    /// asked yet; a model on this machine is read.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] with the nearest name, [`Error::SentenceModel`], and what
    /// [`Endpoint::from_env`] returns.
    pub fn embedder(
        &self,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
        options: Options,
    ) -> Result<Arc<dyn Embedder>, Error> {
        let unknown = |hint| Error::UnknownModel { name: name.to_owned(), hint };
        let Some(entry) = self.embedder_entries().get(name) else {
            let known: Vec<&str> = self.embedders().collect();
            let table = format!("the table has the embedders {}", known.join(", "));
            return Err(unknown(match nearest(name, self.embedders()) {
                Some(near) => format!("did you mean {near:?}? {table}"),
                None => table,
            }));
        };
        match self.describe(name, entry).map_err(unknown)? {
            Described::Folder(folder) => Ok(Arc::new(SentenceModel::open(&folder)?)),
            Described::Endpoint(spec) => {
                let endpoint = Endpoint::of_provider(name, &spec.provider, env)?;
                Ok(Arc::new(RemoteEmbedder::new(spec, endpoint, options)?))
            }
        }
    }

    /// What the entry says, checked.
    pub(crate) fn describe(&self, name: &str, entry: &EmbedderEntry) -> Result<Described, String> {
        if let Some(folder) = &entry.folder {
            if entry.has_endpoint_keys() {
                return Err("`folder` stands alone: the model there says the rest".to_owned());
            }
            if !folder.is_absolute() {
                return Err(format!("`folder` is {folder:?}: give an absolute path"));
            }
            return Ok(Described::Folder(folder.clone()));
        }
        let provider = entry
            .provider
            .as_deref()
            .ok_or("`provider` is missing, or `folder` for a model on this machine")?;
        let provider = self.provider(provider)?;
        if provider.dialect != Dialect::Openai {
            return Err(format!(
                "the provider {:?} speaks no OpenAI dialect, which embeddings have",
                provider.name
            ));
        }
        let dims = entry.dims.unwrap_or(DIMS);
        if !(1..=DIMS_MAX).contains(&dims) {
            return Err(format!("`dims` is {dims}: give 1 to {DIMS_MAX}"));
        }
        let dollars = entry
            .price
            .or(provider.loopback.then_some(0.0))
            .ok_or("`price` is missing: give US dollars for a million tokens")?;
        let price = MicroDollars::from_dollars(dollars).ok_or_else(|| {
            format!("`price` is {dollars}: give US dollars for a million tokens, 0 or more")
        })?;
        Ok(Described::Endpoint(EmbedderSpec {
            name: name.to_owned(),
            id: entry.id.clone().unwrap_or_else(|| name.to_owned()),
            provider,
            dims,
            shorten: entry.shorten.unwrap_or(false),
            price,
        }))
    }
}
