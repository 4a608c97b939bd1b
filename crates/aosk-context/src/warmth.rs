//! What a process's endpoint holds of its prompts, as its events tell it.
//!
//! The sizes are those of the pages as the plans counted them. The tail and the frame of a prompt are
//! left out: the one is never cached, the other is a few tokens a message. Only the sum of what was sent
//! has them.

use aosk_abi::{CacheLife, CacheRules, PageKind, Planned, Timestamp, Tokens};
use serde::{Deserialize, Serialize};

use crate::cache::{CacheModel, Sent};
use crate::pauses::CachePrices;

/// The cache of a process's endpoint, and what was expected of it so far. A fold over events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmth {
    cache: CacheModel,
    /// The system prompt and the tools: what is marked before the conversation.
    head: Tokens,
    /// What the prompt had when pages last left, as far as it stands; zero where pages left of that.
    settled: Tokens,
    /// Whether pages left of the newest prompt.
    rebuilt: bool,
    /// The newest prompt with all that it holds.
    prompt: Tokens,
    /// For how long it asks the endpoint to keep it.
    #[serde(default, skip_serializing_if = "CacheLife::is_short")]
    life: CacheLife,
    /// Its pages, and how much of them stood at the beginning of the one last answered.
    size: Tokens,
    kept: Tokens,
    /// When the call in flight was made, and how much of it was to be read from the cache.
    asked: Option<(Timestamp, Tokens)>,
    sent: Tokens,
    predicted: Tokens,
}

impl Warmth {
    /// A plan was made that leads to `size` tokens of pages. Of the pages before it, those of
    /// `standing` tokens stood before the first that leaves; `None` where none leaves.
    pub fn planned(&mut self, planned: &Planned, standing: Option<Tokens>, size: Tokens) {
        if let Some(rules) = planned.under.cache {
            self.cache.rule(rules);
        }
        if let Some(standing) = standing {
            self.kept = self.kept.min(standing);
            if self.settled > standing {
                self.settled = Tokens::ZERO;
            }
            self.rebuilt = true;
        }
        let head = |kind| matches!(kind, PageKind::System | PageKind::Tools);
        let head = planned.admitted.iter().filter(|page| head(page.kind));
        self.head = head.fold(self.head, |sum, page| sum + page.tokens);
        self.size = size;
        self.prompt = planned.prompt_tokens;
        self.life = planned.life;
    }

    /// For how long an endpoint of those rules is to be asked to keep a prompt of `size` tokens of
    /// pages, before it is planned; `standing` is as in [`planned`](Self::planned).
    #[must_use]
    pub fn life(
        &self,
        rules: CacheRules,
        prices: &CachePrices,
        standing: Option<Tokens>,
        size: Tokens,
        now: Timestamp,
    ) -> CacheLife {
        if rules.long_ttl_ms.is_none() {
            return CacheLife::Short;
        }
        let mut cache = self.cache.clone();
        cache.rule(rules);
        let shared = standing.map_or(self.kept, |standing| self.kept.min(standing));
        cache.life(shared, size, prices, now)
    }

    /// The planned prompt was sent.
    pub fn asked(&mut self, at: Timestamp) {
        self.asked = Some((at, self.cache.predict(self.kept, at)));
    }

    /// It was answered; what the endpoint said it had read from its cache, if it said so.
    pub fn answered(&mut self, reported: Option<Tokens>) {
        if let Some((at, predicted)) = self.asked.take() {
            self.predicted += predicted;
            if let Some(reported) = reported {
                self.cache.learn(predicted, reported, at);
            }
            let Self { head, settled, size, kept: shared, life, .. } = *self;
            self.cache.sent(&Sent { shared, head, settled, size, life }, at);
        }
        self.sent += self.prompt;
        self.kept = self.size;
        if std::mem::take(&mut self.rebuilt) {
            self.settled = self.size;
        }
    }

    /// Another endpoint is asked, which has read nothing yet.
    pub fn lose(&mut self) {
        self.cache.lose();
    }

    /// Whether the endpoint has forgotten the prompt that it answered last, so that the next one is
    /// written as a whole whatever leaves.
    #[must_use]
    pub fn is_cold(&self, now: Timestamp) -> bool {
        self.cache.is_cold(self.kept, now)
    }

    /// How much of the newest prompt stood at the beginning of the one last answered.
    #[must_use]
    pub const fn kept(&self) -> Tokens {
        self.kept
    }

    /// The prompts of all calls that were answered, together.
    #[must_use]
    pub const fn sent(&self) -> Tokens {
        self.sent
    }

    /// How much of them was to be read from the cache.
    #[must_use]
    pub const fn predicted(&self) -> Tokens {
        self.predicted
    }
}
