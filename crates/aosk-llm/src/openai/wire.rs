//! The JSON of replies, as far as this program reads it. Fields that it does not know are
//! skipped: endpoints add some every month, and the raw reply is kept.

use aosk_abi::{Tokens, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::Count;

/// A chunk of a stream, or a whole reply: they differ in `delta` and `message`.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    pub model: Option<String>,
    pub choices: Option<Vec<Choice>>,
    pub usage: Option<WireUsage>,
    pub timings: Option<Timings>,
    pub error: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    pub index: u64,
    #[serde(alias = "message")]
    pub delta: Option<Delta>,
    pub finish_reason: Option<String>,
    /// Kimi's place for the usage of a stream.
    pub usage: Option<WireUsage>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Delta {
    pub content: Option<String>,
    pub refusal: Option<String>,
    pub reasoning_content: Option<String>,
    pub reasoning: Option<String>,
    pub tool_calls: Option<Vec<CallDelta>>,
    /// The form before `tool_calls`: one call, without an id.
    pub function_call: Option<FunctionDelta>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CallDelta {
    pub index: Option<u64>,
    pub id: Option<String>,
    pub function: Option<FunctionDelta>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct FunctionDelta {
    pub name: Option<String>,
    /// A string; some servers give the object itself.
    pub arguments: Option<Box<RawValue>>,
}

impl FunctionDelta {
    /// The piece of the arguments' text.
    pub fn arguments(&self) -> String {
        let Some(raw) = &self.arguments else {
            return String::new();
        };
        serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct WireUsage {
    pub prompt_tokens: Option<Count>,
    pub completion_tokens: Option<Count>,
    pub prompt_tokens_details: Option<PromptDetails>,
    /// Kimi's place for what stands in the details elsewhere.
    pub cached_tokens: Option<u64>,
    /// DeepSeek's name for it.
    pub prompt_cache_hit_tokens: Option<u64>,
    pub completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct PromptDetails {
    pub cached_tokens: Option<u64>,
    pub cache_write_tokens: Option<u64>,
    /// Qwen's name for it.
    pub cache_creation_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct CompletionDetails {
    pub reasoning_tokens: Option<u64>,
}

/// What llama.cpp measures: tokens found in its cache, processed and predicted.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Timings {
    pub cache_n: Option<u64>,
    pub prompt_n: Option<u64>,
    pub predicted_n: Option<u64>,
}

/// The usage that both reports give together; `None` where neither tells the prompt's size, or where
/// one tells what cannot be.
pub(super) fn usage(usage: Option<WireUsage>, timings: Option<Timings>) -> Option<Usage> {
    let timings = timings.unwrap_or_default();
    let usage = usage.unwrap_or_default();
    let input = match usage.prompt_tokens {
        Some(told) => told.0?,
        None => timings.prompt_n?.saturating_add(timings.cache_n.unwrap_or_default()),
    };
    let output = match usage.completion_tokens {
        Some(told) => told.0?,
        None => timings.predicted_n.unwrap_or_default(),
    };
    let prompt = usage.prompt_tokens_details.unwrap_or_default();
    let completion = usage.completion_tokens_details.unwrap_or_default();
    Some(Usage {
        input: Tokens(input),
        cached: Tokens(
            prompt
                .cached_tokens
                .or(usage.cached_tokens)
                .or(usage.prompt_cache_hit_tokens)
                .or(timings.cache_n)
                .unwrap_or_default(),
        ),
        cache_write: Tokens(
            prompt.cache_write_tokens.or(prompt.cache_creation_input_tokens).unwrap_or_default(),
        ),
        cache_write_long: Tokens::ZERO,
        output: Tokens(output),
        reasoning: Tokens(completion.reasoning_tokens.unwrap_or_default()),
    })
}
