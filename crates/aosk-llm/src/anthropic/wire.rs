//! The JSON of replies, as far as this program reads it. Event types, block types, delta types and
//! fields that it does not know are skipped, as the API's versioning policy demands of its callers;
//! the raw reply is kept.

use aosk_abi::{CacheLife, Tokens, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::Count;

/// What says how to read the rest of an event, or of a block.
#[derive(Debug, Deserialize)]
pub(super) struct Kind {
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// `message_start`.
#[derive(Debug, Deserialize)]
pub(super) struct Start {
    pub message: Message,
}

/// The head of a message, or a whole one.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub model: Option<String>,
    #[serde(default)]
    pub content: Vec<Box<RawValue>>,
    pub stop_reason: Option<String>,
    pub usage: Option<WireUsage>,
}

/// `content_block_start`.
#[derive(Debug, Deserialize)]
pub(super) struct BlockStart {
    #[serde(default)]
    pub index: u64,
    pub content_block: Box<RawValue>,
}

/// `content_block_delta`.
#[derive(Debug, Deserialize)]
pub(super) struct BlockDelta {
    #[serde(default)]
    pub index: u64,
    pub delta: Delta,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(other)]
    Unknown,
}

/// `message_delta`.
#[derive(Debug, Deserialize)]
pub(super) struct MessageDelta {
    #[serde(default)]
    pub delta: Stop,
    pub usage: Option<WireUsage>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Stop {
    pub stop_reason: Option<String>,
}

/// The fields of a block of type `text`. A block's type is read first and by itself: in a type that
/// this program does not know, fields of these names may be anything.
#[derive(Debug, Deserialize)]
pub(super) struct TextBlock {
    pub text: Option<String>,
}

/// The fields of a block of type `tool_use`.
#[derive(Debug, Deserialize)]
pub(super) struct CallBlock {
    pub id: Option<String>,
    pub name: Option<String>,
    pub input: Option<Box<RawValue>>,
}

/// The fields of a block of type `thinking`.
#[derive(Debug, Deserialize)]
pub(super) struct ThinkingBlock {
    pub thinking: Option<String>,
    pub signature: Option<String>,
}

/// Counts so far. A later report replaces what it names and leaves the rest: `message_start` tells
/// the input, `message_delta` the output and, in newer versions, all of it once more.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct WireUsage {
    input_tokens: Option<Count>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<Creation>,
    output_tokens: Option<Count>,
    output_tokens_details: Option<OutputDetails>,
}

/// What was written, by the life that it was written for.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Creation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

impl WireUsage {
    pub fn update(&mut self, later: Self) {
        let old = *self;
        *self = Self {
            input_tokens: later.input_tokens.or(old.input_tokens),
            cache_read_input_tokens: later.cache_read_input_tokens.or(old.cache_read_input_tokens),
            cache_creation_input_tokens: later
                .cache_creation_input_tokens
                .or(old.cache_creation_input_tokens),
            cache_creation: later.cache_creation.or(old.cache_creation),
            output_tokens: later.output_tokens.or(old.output_tokens),
            output_tokens_details: later.output_tokens_details.or(old.output_tokens_details),
        };
    }

    /// The usage in the kernel's terms; `None` where the input is not told, or what is told cannot be. Here `input_tokens` are
    /// those behind the last mark alone: what was read from the cache and written to it comes on
    /// top, while the kernel's `input` is the whole prompt. What is not told apart was written for the
    /// life that was asked for.
    pub fn usage(self, asked: CacheLife) -> Option<Usage> {
        let fresh = self.input_tokens?.0?;
        let output = self.output_tokens.map_or(Some(0), |told| told.0)?;
        let cached = self.cache_read_input_tokens.unwrap_or_default();
        let written = self.cache_creation_input_tokens.unwrap_or_default();
        let long = match (self.cache_creation.unwrap_or_default(), asked) {
            (Creation { ephemeral_1h_input_tokens: Some(long), .. }, _) => long,
            (Creation { ephemeral_5m_input_tokens: Some(short), .. }, CacheLife::Long) => {
                written.saturating_sub(short)
            }
            (_, CacheLife::Long) => written,
            (_, CacheLife::Short) => 0,
        };
        let details = self.output_tokens_details.unwrap_or_default();
        Some(Usage {
            input: Tokens(fresh.saturating_add(cached).saturating_add(written)),
            cached: Tokens(cached),
            cache_write: Tokens(written),
            cache_write_long: Tokens(long.min(written)),
            output: Tokens(output),
            reasoning: Tokens(details.thinking_tokens.unwrap_or_default()),
        })
    }
}
