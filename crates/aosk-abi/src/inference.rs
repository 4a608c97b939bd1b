//! Words for model calls: who speaks, why a reply ended, what it used.

use serde::{Deserialize, Serialize};

use crate::amount::Tokens;
use crate::content::ContentRef;

/// Who a message of the conversation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator: the system prompt.
    System,
    /// The user or the kernel on its behalf: task, messages, notes.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was done.
    Stop,
    /// It waits for the results of its tool calls.
    ToolCalls,
    /// It reached the output limit; the reply may be cut anywhere.
    Length,
    /// The model or a filter of the provider refused to answer.
    Refusal,
    /// The endpoint gave no reason or one that no dialect knows.
    Other,
}

/// One part of a reply, in the model's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ReplyPart {
    /// Text for the reader.
    Text {
        /// UTF-8 text.
        content: ContentRef,
    },
    /// A block that only the model's provider understands (reasoning, signatures); it is sent back
    /// byte for byte.
    Opaque {
        /// The dialect and block type, for example `openai/reasoning_content`.
        format: String,
        /// The block as it came.
        content: ContentRef,
    },
    /// A call of a tool.
    ToolCall {
        /// The model's id of the call.
        id: String,
        /// The tool's name as the model wrote it.
        name: String,
        /// The arguments as the model wrote them; they may not be JSON.
        arguments: ContentRef,
    },
}

/// Tokens that a call used, as the endpoint reports them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Input tokens written to the provider's cache; a part of `input`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write: Tokens,
    /// Those of them that are written to be kept long; a part of `cache_write`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_long: Tokens,
    /// Input tokens read from the provider's cache; a part of `input`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached: Tokens,
    /// All input tokens, cached ones included.
    pub input: Tokens,
    /// Output tokens, reasoning included.
    pub output: Tokens,
    /// Reasoning tokens; a part of `output`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning: Tokens,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(tokens: &Tokens) -> bool {
    *tokens == Tokens::ZERO
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.cached += other.cached;
        self.cache_write += other.cache_write;
        self.cache_write_long += other.cache_write_long;
        self.output += other.output;
        self.reasoning += other.reasoning;
    }
}

/// How a model call failed; decides what the kernel does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The endpoint limits the rate: asked again when it says so.
    Throttled,
    /// It may pass: asked again after a back-off.
    Transient,
    /// The prompt was longer than the window: planned anew, once.
    ContextLength,
    /// Asking again cannot help.
    Fatal,
}
