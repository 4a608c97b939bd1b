//! The Messages dialect: what a request looks like, and what the events of a reply mean.
//!
//! `POST {base}/v1/messages` is what Anthropic speaks, and llama.cpp, DeepSeek and most gateways
//! beside their other dialects. Three things set it apart from chat completions: the caller says
//! with marks what shall be cached, the model's thinking comes in signed blocks that go back
//! unchanged, and neighbours of one role are one message.
//!
//! It has no seed, and no schema that holds a whole reply: what asks for either is refused when it
//! is rendered. llama.cpp reads no grammar or schema from a request of this dialect either; for a
//! small model that cannot call tools freely there is its other one.

mod assembly;
mod prompt;
mod render;
mod wire;

pub(crate) use assembly::Assembly;
pub(crate) use render::Renderer;

/// The path of a call below the endpoint's base.
pub(crate) const PATH: &str = "v1/messages";

/// The prefix of opaque blocks that are blocks of this dialect's content.
const BLOCK_FORMAT: &str = "anthropic/";
