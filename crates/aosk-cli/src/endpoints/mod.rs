//! Models: from names to connected devices.
//!
//! A run knows which models it asks and connects all of them before it begins. A daemon learns that
//! from whoever comes, so it connects each at its first use.

mod probe;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use aosk_abi::Code;
use aosk_kernel::{Connect, Model, Redactor};
use aosk_llm::{Endpoint, Estimator, ModelSpec, Models, Options, Recorder, Remote, Scripted};
use aosk_ports::{Device, Embedder};

use crate::args::Run;
use crate::config::{Folders, Settings, Vault, read_keys, read_text};
use crate::error::Error;

pub(crate) use probe::endpoints_ready;

/// The model of a server on this machine.
const LOCAL: &str = "local";

/// The variable that says where that server is.
const LOCAL_ADDRESS: &str = "OPENAI_BASE_URL";

/// How devices of cassettes begin their names.
const SCRIPTED: &str = "scripted:";

/// The table of models, and where and with which key they are asked.
pub(crate) struct Endpoints {
    models: Models,
    vault: Vault,
}

/// Connected devices by the names that processes use.
#[derive(Default)]
pub(crate) struct Connected {
    pub(crate) models: HashMap<String, Model>,
    /// Names that could not be connected.
    pub(crate) failed: HashMap<String, Error>,
}

impl Endpoints {
    /// Reads the built-in table, the user's own and the user's keys.
    pub(crate) fn load(folders: &Folders) -> Result<Self, Error> {
        let mut models = Models::embedded();
        let path = folders.models();
        if let Some(text) = read_text(&path)? {
            models.extend_toml(&text, &path.display().to_string()).map_err(
                |error| match error {
                    aosk_llm::Error::Table { path, line, message } => {
                        Error::new(Code::LlmModelTable, message).at(path, line)
                    }
                    other => llm_error(other),
                },
            )?;
        }
        let vault = read_keys(&folders.keys(), &models)?;
        Ok(Self { models, vault })
    }

    /// What must never be written down.
    pub(crate) fn redactor(&self) -> Redactor {
        self.vault.redactor()
    }

    /// The table of models.
    pub(crate) const fn models(&self) -> &Models {
        &self.models
    }

    /// The models that stand in for one that fails for good, by the alias that lists them.
    pub(crate) fn alternatives(&self) -> HashMap<String, Vec<String>> {
        let aliases = self.models.aliases();
        aliases
            .map(|(alias, _)| (alias.to_owned(), self.models.alternatives(alias).to_vec()))
            .collect()
    }

    /// The models that share the load of an alias, with their weights.
    pub(crate) fn spreads(&self) -> HashMap<String, Vec<(String, u32)>> {
        let aliases = self.models.aliases().map(|(alias, _)| alias);
        aliases
            .map(|alias| (alias.to_owned(), self.models.spread(alias).to_vec()))
            .filter(|(_, spread)| !spread.is_empty())
            .collect()
    }

    /// What a provider's variable says, or the user's file of keys in its place.
    pub(crate) fn get(&self, variable: &str) -> Option<String> {
        self.vault.get(variable)
    }

    /// The model of an agent that names none.
    pub(crate) fn default_model(&self, settings: &Settings) -> Result<String, Error> {
        if let Some(model) = &settings.model {
            return Ok(model.clone());
        }
        let address = self.vault.get(LOCAL_ADDRESS);
        let is_local = address.is_some_and(|address| {
            Endpoint::new(LOCAL_ADDRESS, &address, None).is_ok_and(|found| found.is_loopback())
        });
        if is_local {
            return Ok(LOCAL.to_owned());
        }
        let names: Vec<&str> = self.models.names().collect();
        Err(Error::new(Code::CliNoEndpoint, "no model is chosen")
            .help("give --model NAME, or `model` in the manifest or in your config.toml")
            .help(format!(
                "for a server on this machine: export {LOCAL_ADDRESS}=http://127.0.0.1:8080/v1"
            ))
            .help(format!("the table of models has: {}", names.join(", "))))
    }

    /// The device that plays a cassette, under the name that says so.
    pub(crate) fn play(&self, path: &Path) -> Result<(String, Model), Error> {
        let device = Scripted::open(path).map_err(llm_error)?;
        let name = device.info().name.clone();
        Ok((name, Model { device: Arc::new(device), tokenizer: Arc::new(Estimator::new()) }))
    }

    /// Checks that each of the models is known and has an endpoint, without asking any.
    pub(crate) fn check<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        for name in names {
            self.select(name)?;
        }
        Ok(())
    }

    /// Checks that each pool is a model that can be asked: a quota of another would hold nothing.
    ///
    /// # Errors
    /// [`Error`] with the name of one that is not, and the nearest there is.
    pub(crate) fn check_pools(&self, settings: &Settings) -> Result<(), Error> {
        for name in settings.sharing.pools.keys() {
            if let Some((_, models)) = self.models.aliases().find(|(alias, _)| alias == name) {
                let message =
                    format!("[pools.{name:?}]: this is an alias of {}", models.join(", "));
                let help = "give each of them the quota of its own endpoint";
                return Err(Error::new(Code::CliConfig, message).help(help));
            }
            // One whose key is not set today is there all the same.
            if self.models.resolve(name).is_ok() {
                continue;
            }
            self.select(name).map_err(|error| {
                let said = format!("[pools.{name:?}] in your config.toml: {}", error.said());
                error
                    .helps()
                    .iter()
                    .fold(Error::new(Code::CliConfig, said), |told, help| told.help(help.clone()))
            })?;
        }
        Ok(())
    }

    /// Connects the models. What cannot be connected is told with its name; the others are.
    pub(crate) async fn connect<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        args: &Run,
    ) -> Result<Connected, Error> {
        let names: BTreeSet<&str> = names.collect();
        let mut connected = Connected::default();
        if let Some(path) = &args.cassette {
            let (name, model) = self.play(path)?;
            connected.models.insert(name, model);
        }
        if args.record.is_some() && names.len() > 1 {
            return Err(Error::new(
                Code::CliUsage,
                format!("--record records one model; this run asks {}", names.len()),
            )
            .help("record them one after the other, or choose one with --model"));
        }
        for name in names {
            if connected.models.contains_key(name) {
                continue;
            }
            match self.model(name, args.record.as_deref()).await {
                Ok(model) => drop(connected.models.insert(name.to_owned(), model)),
                Err(error) => drop(connected.failed.insert(name.to_owned(), error)),
            }
        }
        Ok(connected)
    }

    async fn model(&self, name: &str, record: Option<&Path>) -> Result<Model, Error> {
        let (spec, endpoint) = self.select(name)?;
        let device = Remote::connect(spec, endpoint, Options::default())
            .await
            .map_err(|error| Error::new(error.code, error.message))?;
        let tokenizer = device.tokenizer().map_err(llm_error)?;
        let device: Arc<dyn Device> = match record {
            Some(path) => Arc::new(Recorder::create(device, path).map_err(llm_error)?),
            None => Arc::new(device),
        };
        Ok(Model { device, tokenizer })
    }

    /// The embedder of that name. A model on this machine is read, an endpoint is not asked yet.
    pub(crate) fn embedder(&self, name: &str) -> Result<Arc<dyn Embedder>, Error> {
        let get = |variable: &str| self.vault.get(variable);
        self.models.embedder(name, &get, Options::default()).map_err(llm_error)
    }

    /// The model of that name and where it is asked, without asking.
    pub(crate) fn select(&self, name: &str) -> Result<(ModelSpec, Endpoint), Error> {
        if name.starts_with(SCRIPTED) {
            return Err(Error::new(
                Code::LlmUnknownModel,
                format!("{name:?} is a recorded cassette"),
            )
            .help("give its file with --cassette FILE"));
        }
        self.models.select(name, &|variable| self.vault.get(variable)).map_err(llm_error)
    }
}

impl Connect for Endpoints {
    fn connect<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Model, aosk_kernel::Error>> + Send + 'a>> {
        Box::pin(async move {
            self.model(name, None).await.map_err(|error| {
                let message = error.with_helps();
                aosk_kernel::Error::Refused { code: error.code, message }
            })
        })
    }
}

fn llm_error(error: aosk_llm::Error) -> Error {
    Error::new(error.code(), error.to_string())
}
