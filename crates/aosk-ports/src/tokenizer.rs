//! Counting tokens.

use aosk_abi::{Ppm, Tokens};

/// Counts tokens as a model does, or estimates them.
pub trait Tokenizer: Send + Sync {
    /// What counted, for the journal: a name and, for an estimator, its present factor.
    fn id(&self) -> String;

    /// The size of `text`; at least 1 where it is not empty.
    fn count(&self, text: &str) -> Tokens;

    /// What a message costs beyond its text: role and separators.
    fn per_message(&self) -> Tokens;

    /// How far a count may be below the truth, as a share of the count; 0 for an exact tokenizer.
    /// Plans keep that much room.
    fn error(&self) -> Ppm;

    /// Learns from a call: the endpoint reported `reported` input tokens for a prompt that was
    /// counted as `counted`. An exact tokenizer ignores it.
    fn observe(&self, counted: Tokens, reported: Tokens);
}
