//! The table of models: what the kernel must know of a model before it asks it.
//!
//! Windows, prices and quirks are data, not code: a provider changes its prices more often than
//! this program is released, so a user's table overrides any single key of the built-in one. What
//! it cannot do is leave a price out: a spend limit over a model without a price would hold
//! nothing, so a model that is served from anywhere but this machine must have one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aosk_abi::{MicroDollars, Tokens};
use aosk_ports::Prices;

use crate::counting::Counting;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::quirks::Quirks;
use crate::table::{
    Dialect, EmbedderEntry, ModelEntry, ProviderEntry, Step, Table, line_of, nearest,
};

/// The model that stands for whatever a server on this machine serves.
const LOCAL: &str = "local";

/// Where a provider is found, and which variables say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name in the table.
    pub name: String,
    /// What it speaks.
    pub dialect: Dialect,
    /// Its own address.
    pub base_url: Option<String>,
    /// The variable that overrides the address.
    pub base_url_env: Option<String>,
    /// The variable that holds the key.
    pub key_env: Option<String>,
    /// The variable that holds a bearer token, which is used where there is no key.
    pub token_env: Option<String>,
    /// It is a server on this machine: free, and asked for its model, window and slots.
    pub loopback: bool,
    /// It is asked for its load, as llama.cpp and vLLM tell it: where the table says nothing, a server
    /// on this machine is.
    pub metrics: bool,
}

/// A model, ready to be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// Its name in the table.
    pub name: String,
    /// What its endpoint calls it; `None`: the one that the endpoint serves.
    pub id: Option<String>,
    /// Who serves it.
    pub provider: Provider,
    /// The window: prompt and reply together.
    pub window: Tokens,
    /// The most output tokens of a call whose manifest names none.
    pub max_output: Tokens,
    /// What it costs.
    pub prices: Prices,
    /// How many calls may be in flight at once.
    pub slots: usize,
    /// What counts its tokens; `None`: the server, where it turns out to be llama.cpp's, else an
    /// estimate.
    pub tokenizer: Option<Counting>,
    /// Where it leaves the common path.
    pub quirks: Quirks,
}

/// Models with their weights.
type Spread = Vec<(String, u32)>;

/// A table of models.
#[derive(Debug, Clone)]
pub struct Models {
    providers: BTreeMap<String, ProviderEntry>,
    models: BTreeMap<String, ModelEntry>,
    embedders: BTreeMap<String, EmbedderEntry>,
    aliases: BTreeMap<String, Vec<String>>,
    /// The weights of those aliases whose first step is several models.
    spreads: BTreeMap<String, Spread>,
}

impl Models {
    /// The built-in table.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the text is part of this program and a test reads it")]
    pub fn embedded() -> Self {
        let mut models = Self {
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            embedders: BTreeMap::new(),
            aliases: BTreeMap::new(),
            spreads: BTreeMap::new(),
        };
        models
            .extend_toml(include_str!("models.toml"), "models.toml")
            .expect("the built-in table of models is valid");
        models
    }

    /// Adds a table: new entries, and keys that override those of present ones. `path` names it in
    /// errors. After an error the table is as it was.
    ///
    /// # Errors
    /// [`Error::Table`] for malformed TOML, an unknown key, a missing key or a value out of range.
    pub fn extend_toml(&mut self, text: &str, path: &str) -> Result<(), Error> {
        let table = Table::read(text, path)?;
        let mut merged = self.clone();
        let mut touched = Vec::new();
        let mut embedders = Vec::new();
        for (name, entry) in table.providers {
            let line = line_of(text, entry.span().start);
            let entry = entry.into_inner();
            let entry = match merged.providers.get(&name) {
                Some(present) => entry.or(present),
                None => entry,
            };
            // A changed provider can break any of its models.
            touched.extend(
                merged
                    .models
                    .iter()
                    .filter(|(_, model)| model.provider.as_deref() == Some(&name))
                    .map(|(model, _)| (model.clone(), line)),
            );
            embedders.extend(
                merged
                    .embedders
                    .iter()
                    .filter(|(_, embedder)| embedder.provider.as_deref() == Some(&name))
                    .map(|(embedder, _)| (embedder.clone(), line)),
            );
            merged.providers.insert(name, entry);
        }
        for (name, entry) in table.models {
            touched.push((name.clone(), line_of(text, entry.span().start)));
            let entry = entry.into_inner();
            let entry = match merged.models.get(&name) {
                Some(present) => entry.or(present),
                None => entry,
            };
            merged.models.insert(name, entry);
        }
        for (name, line) in touched {
            merged.build(&name, &merged.models[&name]).map_err(|message| Error::Table {
                path: path.to_owned(),
                line: Some(line),
                message: format!("models.{name:?}: {message}"),
            })?;
        }
        for (name, entry) in table.embedders {
            embedders.push((name.clone(), line_of(text, entry.span().start)));
            let entry = entry.into_inner();
            let entry = match merged.embedders.get(&name) {
                Some(present) => entry.or(present),
                None => entry,
            };
            merged.embedders.insert(name, entry);
        }
        for (name, line) in embedders {
            merged.describe(&name, &merged.embedders[&name]).map_err(|message| Error::Table {
                path: path.to_owned(),
                line: Some(line),
                message: format!("embedders.{name:?}: {message}"),
            })?;
        }
        let aliases: BTreeSet<String> =
            table.aliases.keys().chain(merged.aliases.keys()).cloned().collect();
        for (name, list) in table.aliases {
            let line = line_of(text, list.span().start);
            let wrong = |message| Error::Table {
                path: path.to_owned(),
                line: Some(line),
                message: format!("aliases.{name:?}: {message}"),
            };
            let (spread, list) = steps(list.into_inner()).map_err(wrong)?;
            merged.check_alias(&name, &list, &aliases).map_err(wrong)?;
            merged.spreads.remove(&name);
            if !spread.is_empty() {
                merged.spreads.insert(name.clone(), spread);
            }
            merged.aliases.insert(name, list);
        }
        *self = merged;
        Ok(())
    }

    fn check_alias(
        &self,
        name: &str,
        list: &[String],
        aliases: &BTreeSet<String>,
    ) -> Result<(), String> {
        if self.models.contains_key(name) {
            return Err("a model has this name: give the alias another".to_owned());
        }
        if list.is_empty() {
            return Err("it names no model: give at least one".to_owned());
        }
        for (index, model) in list.iter().enumerate() {
            if list[..index].contains(model) {
                return Err(format!("it names {model:?} twice"));
            }
            if !self.models.contains_key(model) && aliases.contains(model) {
                return Err(format!(
                    "it names {model:?}, an alias: name models alone, so that no alias leads back \
                     to itself"
                ));
            }
            if !self.models.contains_key(model) {
                let near = nearest(model, self.models.keys().map(String::as_str));
                return Err(match near {
                    Some(near) => format!("no model {model:?}; did you mean {near:?}?"),
                    None => format!("no model {model:?}: add [models.{model:?}]"),
                });
            }
        }
        Ok(())
    }

    /// The models that may be asked, in order, where the one of that name fails for good: the rest
    /// of an alias's list, nothing for a model.
    #[must_use]
    pub fn alternatives(&self, name: &str) -> &[String] {
        let first = self.spread(name).len().max(1);
        self.aliases.get(name).and_then(|list| list.get(first..)).unwrap_or_default()
    }

    /// The models that share the load of an alias, each with its weight, at least 1; nothing where
    /// its first step is one model.
    #[must_use]
    pub fn spread(&self, name: &str) -> &[(String, u32)] {
        self.spreads.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The aliases, each with its models, sorted.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.aliases.iter().map(|(name, list)| (name.as_str(), list.as_slice()))
    }

    /// The names of the models, sorted, and then those of the aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.keys().chain(self.aliases.keys()).map(String::as_str)
    }

    /// The model of that name; of an alias, the first that it names.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] with the nearest name.
    pub fn resolve(&self, name: &str) -> Result<ModelSpec, Error> {
        let name = self.aliases.get(name).and_then(|list| list.first()).map_or(name, |it| it);
        let unknown = |hint| Error::UnknownModel { name: name.to_owned(), hint };
        let Some(entry) = self.models.get(name) else {
            let known = self.names().collect::<Vec<_>>().join(", ");
            return Err(unknown(match nearest(name, self.names()) {
                Some(near) => format!("did you mean {near:?}? The table has {known}"),
                None => format!("the table has {known}"),
            }));
        };
        self.build(name, entry).map_err(unknown)
    }

    /// The model of that name and where it is found, as the environment says. A name that no table
    /// has is taken for a model of the server on this machine if the environment points there:
    /// such a model is free, so nothing about it needs to be known.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], and what [`Endpoint::from_env`] returns.
    pub fn select(
        &self,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(ModelSpec, Endpoint), Error> {
        let error = match self.resolve(name) {
            Ok(spec) => {
                let endpoint = Endpoint::from_env(&spec, env)?;
                return Ok((spec, endpoint));
            }
            Err(error) => error,
        };
        let local = self.resolve(LOCAL)?;
        let variable = local.provider.base_url_env.as_deref().unwrap_or_default();
        let Some(address) = env(variable).filter(|value| !value.is_empty()) else {
            return Err(error);
        };
        if Endpoint::new(variable, &address, None)?.is_loopback() {
            let spec = ModelSpec { name: name.to_owned(), id: Some(name.to_owned()), ..local };
            let endpoint = Endpoint::from_env(&spec, env)?;
            return Ok((spec, endpoint));
        }
        let Error::UnknownModel { name, hint } = error else {
            return Err(error);
        };
        Err(Error::UnknownModel {
            hint: format!(
                "{hint}. Or add it to your table of models, since without a price no spend limit \
                 can hold: [models.{name:?}] provider = \"openai\", window = 128000, \
                 max_output = 8192, price = {{ input = 1.00, output = 4.00 }}"
            ),
            name,
        })
    }

    pub(crate) const fn embedder_entries(&self) -> &BTreeMap<String, EmbedderEntry> {
        &self.embedders
    }

    fn about(&self, provider: &str) -> Result<&ProviderEntry, String> {
        self.providers.get(provider).ok_or_else(|| {
            let known = self.providers.keys().map(String::as_str);
            match nearest(provider, known) {
                Some(near) => format!("no provider {provider:?}; did you mean {near:?}?"),
                None => format!("no provider {provider:?}: add [providers.{provider:?}]"),
            }
        })
    }

    /// The provider of that name.
    pub(crate) fn provider(&self, name: &str) -> Result<Provider, String> {
        let about = self.about(name)?;
        let dialect =
            about.dialect.ok_or_else(|| format!("[providers.{name:?}] has no `dialect`"))?;
        Ok(Provider {
            name: name.to_owned(),
            dialect,
            base_url: about.base_url.clone(),
            base_url_env: about.base_url_env.clone(),
            key_env: about.key_env.clone(),
            token_env: about.token_env.clone(),
            loopback: about.loopback.unwrap_or(false),
            metrics: about.metrics.or(about.loopback).unwrap_or(false),
        })
    }

    fn build(&self, name: &str, entry: &ModelEntry) -> Result<ModelSpec, String> {
        let provider = entry.provider.as_deref().ok_or("`provider` is missing")?;
        let about = self.about(provider)?;
        let count = |key: &str, value: Option<u64>| match value {
            None => Err(format!("`{key}` is missing: give a number of tokens")),
            Some(0) => Err(format!("`{key}` is 0: give at least 1")),
            Some(value) => Ok(Tokens(value)),
        };
        let window = count("window", entry.window)?;
        let max_output = count("max_output", entry.max_output)?;
        if max_output >= window {
            return Err(format!(
                "`max_output` is {max_output}, but `window` is {window} and must hold the prompt too"
            ));
        }
        let slots = entry.slots.or(about.slots).ok_or_else(|| {
            format!("`slots` is missing: give it here or in [providers.{provider:?}]")
        })?;
        if slots == 0 {
            return Err("`slots` is 0: give at least 1".to_owned());
        }
        let tokenizer = entry.tokenizer.as_ref().or(about.tokenizer.as_ref()).cloned();
        if let Some(problem) = tokenizer.as_ref().and_then(Counting::problem) {
            return Err(problem);
        }
        let provider = self.provider(provider)?;
        let (dialect, loopback) = (provider.dialect, provider.loopback);
        let quirks = entry.quirks.or(&about.quirks);
        if let Some(foreign) = quirks.foreign_to(dialect) {
            let name = &provider.name;
            return Err(format!("the dialect of {name:?} has no quirk `{foreign}`: remove it"));
        }
        let prices = prices(entry, dialect == Dialect::Anthropic && !loopback)?;
        let quirks = long_life(entry, Quirks::from(quirks), &prices, loopback)?;
        Ok(ModelSpec {
            name: name.to_owned(),
            id: match (&entry.id, loopback) {
                (Some(id), _) => Some(id.clone()),
                (None, true) => None,
                (None, false) => Some(name.to_owned()),
            },
            provider,
            window,
            max_output,
            prices,
            slots,
            tokenizer,
            quirks,
        })
    }
}

/// The prices of an entry. Where the price of cached or cache-writing input is not given it is that
/// of fresh input, which no known provider exceeds for reads, and only Anthropic for writes: there it
/// must be given, or a spend limit would not hold.
fn prices(entry: &ModelEntry, write_is_dearer: bool) -> Result<Prices, String> {
    let money = |key: &str, dollars: f64| {
        MicroDollars::from_dollars(dollars).ok_or_else(|| {
            format!("`price.{key}` is {dollars}: give US dollars for a million tokens, 0 or more")
        })
    };
    let needed = |key: &str, value: Option<f64>| {
        let dollars = value.ok_or_else(|| {
            format!("`price.{key}` is missing: give US dollars for a million tokens")
        })?;
        money(key, dollars)
    };
    let input = needed("input", entry.price.input)?;
    let or_input = |key: &str, value: Option<f64>| value.map_or(Ok(input), |it| money(key, it));
    if write_is_dearer && entry.price.cache_write.is_none() {
        return Err(
            "`price.cache_write` is missing: give US dollars for a million tokens; Anthropic \
                    takes 1.25 times `price.input`"
                .to_owned(),
        );
    }
    let cache_write = or_input("cache_write", entry.price.cache_write)?;
    let long = entry.price.cache_write_long;
    Ok(Prices {
        input,
        cached: or_input("cached", entry.price.cached)?,
        cache_write,
        cache_write_long: long.map_or(Ok(cache_write), |it| money("cache_write_long", it))?,
        output: needed("output", entry.price.output)?,
    })
}

/// The only life that Anthropic's dialect has a mark for besides the usual one, in seconds.
const LONG_LIFE: Duration = Duration::from_secs(3_600);

/// The quirks of a model with the long life that its calls may ask for, if there is one. What is said
/// of all models of a provider holds for those whose price is known; what is said of one model needs
/// its price.
fn long_life(
    entry: &ModelEntry,
    quirks: Quirks,
    prices: &Prices,
    loopback: bool,
) -> Result<Quirks, String> {
    let Some(long) = quirks.cache_long else {
        return Ok(quirks);
    };
    let wrong = |what: String| {
        Err(format!("{what}; `quirks.cache_long_s = 0` has no call ask for the long life"))
    };
    if loopback {
        return wrong(
            "`quirks.cache_long_s` is set, but a server on this machine keeps prompts by itself"
                .to_owned(),
        );
    }
    if long != LONG_LIFE {
        return wrong(format!(
            "`quirks.cache_long_s` is {}, but Anthropic's dialect can ask for {} alone",
            long.as_secs(),
            LONG_LIFE.as_secs()
        ));
    }
    match quirks.cache {
        None => return wrong("`quirks.cache_long_s` is set and `quirks.cache_s`, how long a prompt is kept that nobody asked to be kept longer, is not".to_owned()),
        Some(short) if short >= long => {
            return wrong(format!(
                "`quirks.cache_long_s` is {}, which is no longer than `quirks.cache_s`, {}",
                long.as_secs(),
                short.as_secs()
            ));
        }
        Some(_) => {}
    }
    match entry.price.cache_write_long {
        None if entry.quirks.cache_long_s.is_some() => wrong(
            "`price.cache_write_long` is missing, what writing for the long life costs: give US dollars \
             for a million tokens; Anthropic takes 2 times `price.input`"
                .to_owned(),
        ),
        None => Ok(Quirks { cache_long: None, ..quirks }),
        Some(dollars) if prices.cache_write_long <= prices.cache_write => wrong(format!(
            "`price.cache_write_long` is {dollars}, which is no more than `price.cache_write`: give what \
             writing for the long life costs"
        )),
        Some(_) => Ok(quirks),
    }
}

/// The models of an alias in the order in which they are asked, and those of its first step with
/// their weights where they share the load.
fn steps(list: Vec<Step>) -> Result<(Spread, Vec<String>), String> {
    let (mut spread, mut models) = (Vec::new(), Vec::new());
    for (index, step) in list.into_iter().enumerate() {
        match step {
            Step::Model(model) => models.push(model),
            Step::Spread(_) if index > 0 => {
                return Err(
                    "models that share the load stand first; behind them each stands alone"
                        .to_owned(),
                );
            }
            Step::Spread(weights) => {
                if let Some((model, _)) = weights.iter().find(|(_, weight)| **weight == 0) {
                    return Err(format!("the weight of {model:?} is 0: give at least 1"));
                }
                models.extend(weights.keys().cloned());
                spread = weights.into_iter().collect();
            }
        }
    }
    Ok((spread, models))
}
