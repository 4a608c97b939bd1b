//! Tables of models as TOML: what stands in the file, before it means anything.
//!
//! Reading is strict. A misspelt `cahced` that is skipped would bill every cached token as a fresh
//! one and nobody would notice for a month, so an unknown key is an error with its line and the
//! nearest known key. Every key is optional here, because a user's table may override one key of
//! a built-in entry; what is missing after merging is an error of the entry.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::counting::Counting;
use crate::error::Error;

/// A whole table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    #[serde(default)]
    pub providers: BTreeMap<String, Spanned<ProviderEntry>>,
    #[serde(default)]
    pub models: BTreeMap<String, Spanned<ModelEntry>>,
    #[serde(default)]
    pub embedders: BTreeMap<String, Spanned<EmbedderEntry>>,
    #[serde(default)]
    pub aliases: BTreeMap<String, Spanned<Vec<Step>>>,
}

/// One step of an alias's list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "give the name of a model, or a table of models with weights")]
pub(crate) enum Step {
    /// A model.
    Model(String),
    /// Models that share the load by their weights.
    Spread(BTreeMap<String, u32>),
}

/// The wire format that a provider speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `POST {base}/chat/completions` as OpenAI defines it.
    #[default]
    Openai,
    /// `POST {base}/v1/messages` as Anthropic defines it.
    Anthropic,
}

/// The request field that bounds the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxOutputField {
    /// `max_tokens`, which most servers understand.
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's reasoning models demand.
    MaxCompletionTokens,
}

/// Where a provider is and how it differs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderEntry {
    pub dialect: Option<Dialect>,
    pub base_url: Option<String>,
    pub base_url_env: Option<String>,
    pub key_env: Option<String>,
    pub token_env: Option<String>,
    pub loopback: Option<bool>,
    pub metrics: Option<bool>,
    pub slots: Option<usize>,
    pub tokenizer: Option<Counting>,
    #[serde(default)]
    pub quirks: QuirksEntry,
}

/// A model and its prices.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelEntry {
    pub provider: Option<String>,
    pub id: Option<String>,
    pub window: Option<u64>,
    pub max_output: Option<u64>,
    pub slots: Option<usize>,
    pub tokenizer: Option<Counting>,
    #[serde(default)]
    pub price: PriceEntry,
    #[serde(default)]
    pub quirks: QuirksEntry,
}

/// What makes vectors: a model of an endpoint, or one in a folder of this machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbedderEntry {
    pub folder: Option<PathBuf>,
    pub provider: Option<String>,
    pub id: Option<String>,
    pub dims: Option<usize>,
    pub shorten: Option<bool>,
    pub price: Option<f64>,
}

/// Dollars for a million tokens.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceEntry {
    pub input: Option<f64>,
    pub cached: Option<f64>,
    pub cache_write: Option<f64>,
    pub cache_write_long: Option<f64>,
    pub output: Option<f64>,
}

/// Where an endpoint leaves the common path.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuirksEntry {
    pub max_output_field: Option<MaxOutputField>,
    pub temperature: Option<bool>,
    pub json_schema: Option<bool>,
    pub prompt_cache_key: Option<bool>,
    pub cache_prompt: Option<bool>,
    pub echo: Option<Vec<String>>,
    pub bound_thinking: Option<bool>,
    pub unsigned_thinking: Option<bool>,
    pub cache_s: Option<NonZeroU32>,
    /// 0: no call asks for a long life.
    pub cache_long_s: Option<u32>,
    pub cache_minimum: Option<u32>,
}

impl QuirksEntry {
    /// These keys, and those of `other` where there are none.
    pub fn or(&self, other: &Self) -> Self {
        Self {
            max_output_field: self.max_output_field.or(other.max_output_field),
            temperature: self.temperature.or(other.temperature),
            json_schema: self.json_schema.or(other.json_schema),
            prompt_cache_key: self.prompt_cache_key.or(other.prompt_cache_key),
            cache_prompt: self.cache_prompt.or(other.cache_prompt),
            echo: self.echo.clone().or_else(|| other.echo.clone()),
            bound_thinking: self.bound_thinking.or(other.bound_thinking),
            unsigned_thinking: self.unsigned_thinking.or(other.unsigned_thinking),
            cache_s: self.cache_s.or(other.cache_s),
            cache_long_s: self.cache_long_s.or(other.cache_long_s),
            cache_minimum: self.cache_minimum.or(other.cache_minimum),
        }
    }

    /// A quirk that nobody would read: `dialect` does not have it.
    pub fn foreign_to(&self, dialect: Dialect) -> Option<&'static str> {
        let openai = [
            (self.max_output_field.is_some(), "max_output_field"),
            (self.json_schema.is_some(), "json_schema"),
            (self.prompt_cache_key.is_some(), "prompt_cache_key"),
            (self.cache_prompt.is_some(), "cache_prompt"),
            (self.echo.is_some(), "echo"),
        ];
        let anthropic = [
            (self.bound_thinking.is_some(), "bound_thinking"),
            (self.unsigned_thinking.is_some(), "unsigned_thinking"),
            (self.cache_long_s.is_some(), "cache_long_s"),
        ];
        let foreign = match dialect {
            Dialect::Openai => &anthropic[..],
            Dialect::Anthropic => &openai[..],
        };
        foreign.iter().find(|(set, _)| *set).map(|(_, name)| *name)
    }
}

impl ProviderEntry {
    pub fn or(&self, other: &Self) -> Self {
        Self {
            dialect: self.dialect.or(other.dialect),
            base_url: self.base_url.clone().or_else(|| other.base_url.clone()),
            base_url_env: self.base_url_env.clone().or_else(|| other.base_url_env.clone()),
            key_env: self.key_env.clone().or_else(|| other.key_env.clone()),
            token_env: self.token_env.clone().or_else(|| other.token_env.clone()),
            loopback: self.loopback.or(other.loopback),
            metrics: self.metrics.or(other.metrics),
            slots: self.slots.or(other.slots),
            tokenizer: self.tokenizer.clone().or_else(|| other.tokenizer.clone()),
            quirks: self.quirks.or(&other.quirks),
        }
    }
}

impl ModelEntry {
    pub fn or(&self, other: &Self) -> Self {
        Self {
            provider: self.provider.clone().or_else(|| other.provider.clone()),
            id: self.id.clone().or_else(|| other.id.clone()),
            window: self.window.or(other.window),
            max_output: self.max_output.or(other.max_output),
            slots: self.slots.or(other.slots),
            tokenizer: self.tokenizer.clone().or_else(|| other.tokenizer.clone()),
            price: PriceEntry {
                input: self.price.input.or(other.price.input),
                cached: self.price.cached.or(other.price.cached),
                cache_write: self.price.cache_write.or(other.price.cache_write),
                cache_write_long: self.price.cache_write_long.or(other.price.cache_write_long),
                output: self.price.output.or(other.price.output),
            },
            quirks: self.quirks.or(&other.quirks),
        }
    }
}

impl EmbedderEntry {
    pub fn or(&self, other: &Self) -> Self {
        Self {
            folder: self.folder.clone().or_else(|| other.folder.clone()),
            provider: self.provider.clone().or_else(|| other.provider.clone()),
            id: self.id.clone().or_else(|| other.id.clone()),
            dims: self.dims.or(other.dims),
            shorten: self.shorten.or(other.shorten),
            price: self.price.or(other.price),
        }
    }

    /// Whether it holds a key that only an endpoint has.
    pub const fn has_endpoint_keys(&self) -> bool {
        self.provider.is_some()
            || self.id.is_some()
            || self.dims.is_some()
            || self.shorten.is_some()
            || self.price.is_some()
    }
}

impl Table {
    /// Reads a table.
    pub fn read(text: &str, path: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error::Table {
            path: path.to_owned(),
            line: error.span().map(|span| line_of(text, span.start)),
            message: with_suggestion(error.message()),
        })
    }
}

/// The line, from 1, of a byte of `text`.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count()
}

/// The known name that `wrong` most probably means.
pub(crate) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Serde names the unknown key first and then the known ones, each in backticks.
fn with_suggestion(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return message.to_owned();
    }
    match names.next().and_then(|wrong| nearest(wrong, names)) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message.to_owned(),
    }
}
