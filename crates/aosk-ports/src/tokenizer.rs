//! Counting tokens.

use std::sync::Arc;

use aosk_abi::{Ppm, Tokens};
use futures::future::BoxFuture;

/// Counts tokens as a model does, or estimates them.
pub trait Tokenizer: Send + Sync {
    /// What counted, for the journal: a name and, for an estimator, its present factor.
    fn id(&self) -> String;

    /// Gets ready to [`count`](Self::count) these texts, so that a tokenizer which has to ask
    /// somebody need not do so while a plan is made. It waits for a bounded time, and what it could
    /// not learn is estimated later; most tokenizers have nothing to do.
    fn prepare<'a>(&'a self, texts: &'a [Arc<str>]) -> BoxFuture<'a, ()> {
        let _ = texts;
        Box::pin(std::future::ready(()))
    }

    /// The size of `text`; at least 1 where it is not empty.
    fn count(&self, text: &str) -> Tokens;

    /// What a message costs beyond its text: role and separators.
    fn per_message(&self) -> Tokens;

    /// How far the count of a whole prompt may be below the truth, as a share of the count. Plans
    /// keep that much room. Where texts are counted exactly it covers what the endpoint puts around
    /// them.
    fn error(&self) -> Ppm;

    /// Learns from a call: the endpoint reported `reported` input tokens for a prompt that was
    /// counted as `counted`.
    fn observe(&self, counted: Tokens, reported: Tokens);
}
