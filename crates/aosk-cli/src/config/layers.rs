//! The layers, one over the other.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aosk_abi::{Code, MicroDollars, PoolSpec, Sharing, TenantSpec};
use aosk_store::PostgresOptions;
use figment::error::Kind;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};
use serde::Deserialize;

use super::file::{File, KEYS, Level};
use super::store::repeated;
use super::{Folders, Settings, StoreAt};
use crate::args::{Global, moment};
use crate::error::{Error, nearest};
use crate::print::Color;
use crate::text::shell_word;

/// What a run may spend where nobody says anything.
const MAX_SPEND_USD: f64 = 1.0;

/// The project's settings, in the folder one stands in.
const PROJECT: &str = "aosk.toml";

/// The embedder that is none.
const NO_EMBEDDER: &str = "none";

/// Settings that were given as flags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// `--max-spend-usd`.
    pub(crate) max_spend: Option<MicroDollars>,
    /// `--data-dir`.
    pub(crate) data_dir: Option<PathBuf>,
    /// `--store`.
    pub(crate) store: Option<String>,
    /// `--color`.
    pub(crate) color: Option<Color>,
}

impl Flags {
    /// Those of a command.
    pub(crate) fn of(global: &Global, max_spend: Option<MicroDollars>) -> Self {
        let Global { color, data_dir, store, .. } = global;
        Self { max_spend, data_dir: data_dir.clone(), store: store.clone(), color: *color }
    }
}

/// What the layers must give.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Merged {
    model: Option<String>,
    #[serde(deserialize_with = "dollars")]
    max_spend_usd: MicroDollars,
    data_dir: PathBuf,
    store: Option<String>,
    lease_seconds: f64,
    #[serde(default, deserialize_with = "span")]
    retention: Option<Duration>,
    color: Color,
    #[serde(default)]
    pools: BTreeMap<String, PoolSpec>,
    #[serde(default)]
    tenants: BTreeMap<String, TenantSpec>,
    #[serde(default)]
    memory: MemoryKeys,
}

/// How what left the context is found.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryKeys {
    #[serde(default)]
    embedder: Option<String>,
}

/// One layer.
struct Layer {
    name: String,
    file: Option<PathBuf>,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        match &self.file {
            Some(file) => Metadata::from(self.name.clone(), Source::File(file.clone())),
            None => Metadata::named(self.name.clone()),
        }
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Layer {
    fn of_file(name: &str, file: &File) -> Result<Self, Error> {
        let mut values = Dict::new();
        for (key, entry) in &file.entries {
            let value = Value::serialize(&entry.value)
                .map_err(|error| Error::new(Code::CliConfig, error.to_string()))
                .map_err(|error| error.at(&file.path, entry.line))?;
            values.insert(key.clone(), value);
        }
        Ok(Self { name: name.to_owned(), file: Some(file.path.clone()), values })
    }

    fn of_value(name: String, key: &str, value: impl Into<Value>) -> Self {
        Self { name, file: None, values: Dict::from([(key.to_owned(), value.into())]) }
    }
}

/// Reads all layers.
pub(super) fn load(
    folders: &Folders,
    flags: &Flags,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Settings, Error> {
    let user = File::read(&folders.settings(), Level::User)?;
    let project = File::read(Path::new(PROJECT), Level::Project)?;
    let files = [&user, &project];

    let data = path_value(folders.data())?;
    let mut figment = Figment::new()
        .merge(Layer::of_value("the default".into(), "max_spend_usd", MAX_SPEND_USD))
        .merge(Layer::of_value("the default".into(), "data_dir", data))
        .merge(Layer::of_value(
            "the default".into(),
            "lease_seconds",
            PostgresOptions::LEASE.as_secs_f64(),
        ))
        .merge(Layer::of_value("the default".into(), "color", "auto"))
        .merge(Layer::of_file("your config.toml", &user)?);
    let allowed = extract(&figment, &files)?.max_spend_usd;
    figment = figment.merge(Layer::of_file("the project's aosk.toml", &project)?);
    let wanted = extract(&figment, &files)?.max_spend_usd;
    if wanted > allowed {
        let line = project.entries.get("max_spend_usd").map(|entry| entry.line);
        return Err(Error::new(
            Code::CliConfig,
            format!("`max_spend_usd` is {wanted}, above your own limit of {allowed}"),
        )
        .at(PROJECT, line)
        .help(format!(
            "a project may only lower the limit: raise it with --max-spend-usd or in {}",
            folders.settings().display()
        )));
    }
    for layer in environment(env)? {
        figment = figment.merge(layer);
    }
    if let Some(limit) = flags.max_spend {
        let dollars = limit.0 as f64 / 1e6;
        figment =
            figment.merge(Layer::of_value("--max-spend-usd".into(), "max_spend_usd", dollars));
    }
    if let Some(dir) = &flags.data_dir {
        figment = figment.merge(Layer::of_value("--data-dir".into(), "data_dir", path_value(dir)?));
    }
    if let Some(store) = &flags.store {
        figment = figment.merge(Layer::of_value("--store".into(), "store", store.clone()));
    }
    let merged = extract(&figment, &files)?;
    let (store, chosen) = store(&merged)?;
    let base_dir = absolute(chosen.as_deref().unwrap_or(&merged.data_dir))?;
    let sharing = Sharing { pools: merged.pools, tenants: merged.tenants };
    sharing.check().map_err(|(way, error)| {
        let error = Error::new(Code::CliConfig, format!("`{}`: {error}", way.join(".")));
        error.at(&user.path, user.line(&way))
    })?;
    let from =
        figment.find_metadata("max_spend_usd").map_or_else(String::new, |m| m.name.to_string());
    Ok(Settings {
        model: merged.model,
        max_spend: merged.max_spend_usd,
        max_spend_from: from,
        data_dir: store.local(base_dir.clone()),
        base_dir,
        store,
        retention: merged.retention,
        same_store: same_store(flags),
        color: flags.color.unwrap_or(merged.color),
        embedder: merged.memory.embedder.filter(|name| name != NO_EMBEDDER),
        sharing,
    })
}

/// The store that is set; where nothing is, the file in the data folder.
fn store(merged: &Merged) -> Result<(StoreAt, Option<PathBuf>), Error> {
    let Some(setting) = &merged.store else {
        return Ok((StoreAt::Folder, None));
    };
    let lease = Duration::try_from_secs_f64(merged.lease_seconds).map_err(|error| {
        let seconds = merged.lease_seconds;
        Error::new(Code::CliConfig, format!("`lease_seconds` is {seconds}: {error}"))
            .help("give seconds, from 1 to 3600")
    })?;
    StoreAt::parse(setting, lease)
}

fn absolute(dir: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(dir).map_err(|error| {
        let shown = dir.display();
        Error::new(Code::CliConfig, format!("`data_dir` is {shown:?}, which is no path: {error}"))
    })
}

/// What a command that is suggested repeats of the flags that chose the store.
pub(crate) fn same_store(flags: &Flags) -> String {
    let dir = flags.data_dir.as_deref().map_or_else(String::new, |dir| {
        format!(" --data-dir {}", shell_word(&dir.display().to_string()))
    });
    let store = flags.store.as_deref().map_or_else(String::new, repeated);
    format!("{dir}{store}")
}

/// The layers of the environment, one a variable. An empty variable counts as unset. A variable
/// that is nearly a known one is a mistake; others are not ours.
fn environment(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    for key in KEYS {
        let name = format!("AOSK_{}", key.to_ascii_uppercase());
        let Some(value) = env(&name).filter(|value| !value.is_empty()) else {
            continue;
        };
        let value = value.into_string().map_err(|_| {
            Error::new(Code::CliConfig, format!("the variable {name} is not UTF-8"))
        })?;
        let value: Value = match value.parse::<f64>() {
            Ok(number) if ["max_spend_usd", "lease_seconds"].contains(key) => number.into(),
            _ => value.into(),
        };
        layers.push(Layer::of_value(format!("the variable {name}"), key, value));
    }
    Ok(layers)
}

/// Refuses variables that are nearly a setting's: they would silently do nothing.
pub(super) fn refuse_misspelt(names: impl Iterator<Item = String>) -> Result<(), Error> {
    const OTHERS: &[&str] = &["LOG"];
    for name in names {
        let Some(key) = name.strip_prefix("AOSK_").map(str::to_ascii_lowercase) else {
            continue;
        };
        let known = KEYS.contains(&key.as_str())
            || OTHERS.iter().any(|other| other.eq_ignore_ascii_case(&key));
        if let Some(near) = nearest(&key, KEYS.iter().copied())
            && !known
        {
            let near = near.to_ascii_uppercase();
            return Err(Error::new(
                Code::CliConfig,
                format!("no setting is read from the variable {name}"),
            )
            .help(format!("did you mean AOSK_{near}?")));
        }
    }
    Ok(())
}

fn extract(figment: &Figment, files: &[&File]) -> Result<Merged, Error> {
    figment.extract().map_err(|error| explain(error, files))
}

/// Figment's error in our words: which key, what is wrong with its value, where it stands.
fn explain(error: figment::Error, files: &[&File]) -> Error {
    let key = error.path.join(".");
    let metadata = error.metadata.as_ref();
    let file = metadata.and_then(|m| m.source.as_ref()).and_then(Source::file_path);
    let problem = match &error.kind {
        Kind::InvalidType(found, expected) => format!("is {found}: expected {expected}"),
        Kind::UnknownVariant(found, known) => format!("is {found:?}: give {}", known.join(", ")),
        other => other.to_string(),
    };
    let Some(path) = file else {
        let from = metadata.map_or("", |m| m.name.as_ref());
        return Error::new(Code::CliConfig, format!("`{key}` from {from} {problem}"));
    };
    let way: Vec<&str> = error.path.iter().map(String::as_str).collect();
    let line = files.iter().find(|file| file.path == path).and_then(|file| file.line(&way));
    let near = match &error.kind {
        Kind::UnknownVariant(found, known) => nearest(found, known.iter().copied()),
        _ => None,
    };
    let told = Error::new(Code::CliConfig, format!("`{key}` {problem}")).at(path, line);
    match near {
        Some(near) => told.help(format!("did you mean `{near}`?")),
        None => told,
    }
}

fn dollars<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<MicroDollars, D::Error> {
    let dollars = f64::deserialize(deserializer)?;
    MicroDollars::from_dollars(dollars).ok_or_else(|| {
        serde::de::Error::custom(format!("is {dollars}: give US dollars, 0 or more"))
    })
}

fn span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let none = || serde::de::Error::custom(format!("is {text:?}: give a time such as 30d or 12h"));
    moment::span(&text).map(Some).ok_or_else(none)
}

fn path_value(path: &Path) -> Result<String, Error> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(Code::CliConfig, format!("the path {} is not UTF-8", path.display()))
    })
}
