//! Quirks: where an endpoint leaves the common path of its dialect.
//!
//! Providers copy each other's interface and then differ in a field. What differs is a value of the
//! table of models, so that a user can say it of an endpoint that this program has never met.

use std::time::Duration;

use crate::table::{MaxOutputField, QuirksEntry};

/// Where an endpoint leaves the common path of its dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quirks {
    /// The request field that bounds the reply.
    pub max_output_field: MaxOutputField,
    /// Whether the model takes a `temperature`.
    pub temperature: bool,
    /// Whether the endpoint holds a reply to a JSON schema, without which no tool call can be
    /// constrained; none does in Anthropic's dialect.
    pub json_schema: bool,
    /// Whether the endpoint routes by `prompt_cache_key`.
    pub prompt_cache_key: bool,
    /// Whether the endpoint wants `cache_prompt: true` (llama.cpp).
    pub cache_prompt: bool,
    /// The opaque fields of assistant messages that the endpoint wants back, for example
    /// `reasoning_content`.
    pub echo: Vec<String>,
    /// Whether the model's thinking blocks are bound to the very messages before them, so that the
    /// endpoint must be told to leave out those behind a change.
    pub bound_thinking: bool,
    /// Whether the endpoint takes back thinking without a signature, as servers of open models send
    /// it. A provider that signs its thinking refuses a request with such a block.
    pub unsigned_thinking: bool,
    /// How long after its last use the endpoint keeps a prompt; `None`: not known, and taken as
    /// kept. When it is gone, pages leave at no price but what is forgotten.
    pub cache: Option<Duration>,
    /// How long what a call asked to be kept long is kept after its last use; `None`: no call asks.
    pub cache_long: Option<Duration>,
    /// The shortest beginning of a prompt that the endpoint keeps, in tokens.
    pub cache_minimum: u32,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            max_output_field: MaxOutputField::MaxTokens,
            temperature: true,
            json_schema: true,
            prompt_cache_key: false,
            cache_prompt: false,
            echo: Vec::new(),
            bound_thinking: false,
            unsigned_thinking: false,
            cache: None,
            cache_long: None,
            cache_minimum: 0,
        }
    }
}

impl From<QuirksEntry> for Quirks {
    /// What the entry says, and the common path where it is silent.
    fn from(entry: QuirksEntry) -> Self {
        let usual = Self::default();
        Self {
            max_output_field: entry.max_output_field.unwrap_or(usual.max_output_field),
            temperature: entry.temperature.unwrap_or(usual.temperature),
            json_schema: entry.json_schema.unwrap_or(usual.json_schema),
            prompt_cache_key: entry.prompt_cache_key.unwrap_or(usual.prompt_cache_key),
            cache_prompt: entry.cache_prompt.unwrap_or(usual.cache_prompt),
            echo: entry.echo.unwrap_or(usual.echo),
            bound_thinking: entry.bound_thinking.unwrap_or(usual.bound_thinking),
            unsigned_thinking: entry.unsigned_thinking.unwrap_or(usual.unsigned_thinking),
            cache: entry.cache_s.map(|seconds| Duration::from_secs(seconds.get().into())),
            cache_long: entry
                .cache_long_s
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds.into())),
            cache_minimum: entry.cache_minimum.unwrap_or(usual.cache_minimum),
        }
    }
}
