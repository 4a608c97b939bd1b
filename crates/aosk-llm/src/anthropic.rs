//! The Messages dialect: what a request looks like, and what the events of a reply mean.
//!
//! `POST {base}/v1/messages` is what Anthropic speaks, and llama.cpp, DeepSeek and most gateways
//! beside their other dialects. Three things set it apart from chat completions: the caller says
//! with marks what shall be cached, the model's thinking comes in signed blocks that go back
//! unchanged, and neighbours of one role are one message.
//!
//! It has no seed, no temperature above 1, and no schema that holds a whole reply: what asks for
//! one of them is refused. llama.cpp reads no grammar or schema from a request of this dialect
//! either; for a small model that cannot call tools freely there is its other one.

mod assembly;
mod prompt;
mod render;
mod wire;

pub(crate) use assembly::Assembly;
pub(crate) use render::{headers, render};

/// The path of a call below the endpoint's base.
pub(crate) const PATH: &str = "v1/messages";

/// The prefix of opaque blocks that are blocks of this dialect's content.
const BLOCK_FORMAT: &str = "anthropic/";

/// The type of a block of thinking that can be read.
const THINKING: &str = "thinking";

/// Whether blocks of that type are thinking, which the API refuses as the last block of a message.
fn is_thought(kind: &str) -> bool {
    kind == THINKING || kind == "redacted_thinking"
}
