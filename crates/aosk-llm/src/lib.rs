//! Model endpoints of the Agent OS Kernel, behind [`Device`](aosk_ports::Device),
//! [`Tokenizer`](aosk_ports::Tokenizer) and [`Embedder`](aosk_ports::Embedder).
//!
//! 1. **The same request gives the same bytes**, and while a conversation only grows, its prompt's
//!    bytes only grow: what a provider has cached stays cached.
//! 2. **One attempt per call.** No retry, no redirect, no fallback happens here; an error says
//!    which of them can help and when.
//! 3. **A key goes to one host.** It has no printed form and is masked in every message.
//! 4. **Models are data.** Prices, windows and quirks stand in a table that users extend; a model
//!    that is not free is never asked without a price.
//! 5. **Nothing is made up.** A reply that broke off is an error; usage that was not reported is
//!    absent; a played reply says that it is one; an estimate says how far it may be off.
//!
//! ```
//! use aosk_llm::{Endpoint, Models};
//!
//! let mut models = Models::embedded();
//! models.extend_toml("[models.gpt-5-mini]\nmax_output = 2000", "my-models.toml")?;
//! let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-test".to_owned());
//! let (spec, endpoint) = models.select("gpt-5-mini", &env)?;
//! assert_eq!(spec.max_output.0, 2000);
//! assert_eq!(endpoint.base(), "https://api.openai.com/v1");
//! let error = models.select("gpt-5-mimi", &env).expect_err("no such model");
//! assert!(error.to_string().contains("did you mean \"gpt-5-mini\"?"));
//! # Ok::<(), aosk_llm::Error>(())
//! ```

mod anthropic;
mod calibration;
mod call_id;
mod cassette;
mod complaint;
mod counting;
mod discover;
mod embedders;
mod embeddings;
mod endpoint;
mod error;
mod estimator;
mod exact;
mod exchange;
mod failure;
mod http;
mod json;
mod load;
mod models;
mod openai;
mod outage;
mod quirks;
mod rate_limits;
mod remote;
mod retry_after;
mod scripted;
mod secret;
mod sendable;
mod sentence;
mod speech;
mod table;
mod tokenize;

pub use counting::Counting;
pub use discover::{Discovery, Served, discover};
pub use embedders::EmbedderSpec;
pub use embeddings::RemoteEmbedder;
pub use endpoint::Endpoint;
pub use error::Error;
pub use estimator::Estimator;
pub use exact::Exact;
pub use http::Options;
pub use models::{ModelSpec, Models, Provider};
pub use quirks::Quirks;
pub use remote::Remote;
pub use scripted::{Recorder, Scripted};
pub use secret::Secret;
pub use sentence::SentenceModel;
pub use table::{Dialect, MaxOutputField};
pub use tokenize::RemoteTokenizer;
