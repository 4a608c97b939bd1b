//! The chat-completions dialect: what a request looks like, and what the chunks of a reply mean.
//!
//! `POST {base}/chat/completions` is what OpenAI itself, llama.cpp, vLLM, Ollama and most gateways
//! speak, each a little differently. Where a difference is in the request it is a quirk of the
//! table of models; where it is in the reply, all forms are read, since a server in between may
//! bring any of them.

mod assembly;
mod constrained;
mod render;
mod wire;

pub(crate) use assembly::Assembly;
pub(crate) use render::render;

/// The path of a call below the endpoint's base.
pub(crate) const PATH: &str = "chat/completions";
