//! What an endpoint is believed to hold of a process's prompts.
//!
//! An endpoint caches prefixes: up to a mark that the request sets, or up to its end where it does
//! so by itself; for a time after the last use; and only where the prefix is long enough. Of
//! 21,657 recorded calls of a coding agent one in twenty came more than five minutes after the one
//! before, and those alone raised the price by a third over a cache that never expires. Knowing
//! that the cache is cold is knowing when removing a page costs nothing.
//!
//! The model predicts; what the endpoint reports decides. Where it reports less than half of what
//! was predicted, the model takes the cache for lost. Knowing that after the call comes too late for
//! it, as the call has written the prompt anew. But where the cache was lost twice in a row, it is
//! taken to be cold again after as long a pause as before the shorter of the two, until a call after
//! such a pause finds it. Once is not enough: one call may have come to another machine of the
//! endpoint. An endpoint that never told of a cached token tells nothing of its cache.

use aosk_abi::{CacheRules, Timestamp, Tokens};
use serde::{Deserialize, Serialize};

/// How many losses in a row are no accident.
const LOSSES: u32 = 2;

/// A prompt that was sent, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// How much of its beginning is that of the one before.
    pub shared: Tokens,
    /// The end of its head, which is marked where marks are set.
    pub head: Tokens,
    /// What it had when pages last left, which is marked as well; zero where that is not in it.
    pub settled: Tokens,
    /// All of it, up to its last mark.
    pub size: Tokens,
}

/// The entries that a process's prompts have left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheModel {
    rules: CacheRules,
    /// The lengths of the prefixes that are kept, growing: at most as many as a request sets marks.
    /// All were last used by the last prompt.
    entries: Vec<Tokens>,
    used: Timestamp,
    /// Whether the endpoint ever told of a cached token.
    tells: bool,
    /// How often in a row the cache was lost, and the shortest pause before that.
    lost: Option<(u32, u64)>,
}

impl CacheModel {
    /// An empty cache.
    #[must_use]
    pub fn new(rules: CacheRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Goes by those rules from now on.
    pub const fn rule(&mut self, rules: CacheRules) {
        self.rules = rules;
    }

    /// How much of a prompt is read from the cache that begins with the `shared` tokens of the one
    /// before.
    #[must_use]
    pub fn predict(&self, shared: Tokens, now: Timestamp) -> Tokens {
        if self.rules.ttl_ms.is_some_and(|ttl| now.millis_since(self.used) > ttl) {
            return Tokens::ZERO;
        }
        let reached = |length: &&Tokens| !self.rules.marked || **length <= shared;
        let longest = self.entries.iter().rfind(reached).copied().unwrap_or_default();
        let held = longest.min(shared);
        if held < self.rules.minimum { Tokens::ZERO } else { held }
    }

    /// Whether nothing of a prompt is read from the cache that begins with those tokens: by the rules,
    /// or because it was lost before after such a pause.
    #[must_use]
    pub fn is_cold(&self, shared: Tokens, now: Timestamp) -> bool {
        let pause = now.millis_since(self.used);
        let lost = self.lost.is_some_and(|(times, after)| times >= LOSSES && pause >= after);
        lost || self.predict(shared, now) == Tokens::ZERO
    }

    /// Takes down that a prompt was sent. What is marked in it lives on; what it does not begin with
    /// is forgotten, because this process will not come back to it.
    pub fn sent(&mut self, prompt: &Sent, now: Timestamp) {
        let Sent { shared, head, settled, size } = *prompt;
        // Where the one before ended, as far as it stands, is marked again.
        let read = self.predict(shared, now);
        let marks = if self.rules.marked { &[head, settled, read, size][..] } else { &[size] };
        let kept = |length: &&Tokens| **length >= self.rules.minimum && **length > Tokens::ZERO;
        self.entries = marks.iter().filter(kept).copied().collect();
        self.entries.sort_unstable();
        self.entries.dedup();
        self.used = now;
    }

    /// Takes down what the endpoint said it read of a prompt, beside what was predicted of it, before
    /// that prompt is taken down as sent.
    pub fn learn(&mut self, predicted: Tokens, reported: Tokens, now: Timestamp) {
        self.tells |= reported > Tokens::ZERO;
        let pause = now.millis_since(self.used);
        if self.tells && reported.0 < predicted.0 / 2 {
            self.entries.retain(|length| *length <= reported);
            let (times, after) = self.lost.unwrap_or((0, u64::MAX));
            self.lost = Some((times.saturating_add(1), after.min(pause)));
        } else if reported > Tokens::ZERO && self.lost.is_some_and(|(_, after)| pause >= after) {
            self.lost = None;
        }
    }

    /// Takes everything for lost: another endpoint is asked.
    pub fn lose(&mut self) {
        *self = Self::new(self.rules);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKED: CacheRules =
        CacheRules { marked: true, minimum: Tokens(1_024), ttl_ms: Some(300_000) };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn prompt(shared: u64, head: u64, size: u64) -> Sent {
        let (shared, head, size) = (Tokens(shared), Tokens(head), Tokens(size));
        Sent { shared, head, size, ..Sent::default() }
    }

    #[test]
    fn a_prefix_is_read_up_to_its_last_mark_until_it_expires() {
        let mut cache = CacheModel::new(MARKED);
        cache.sent(&prompt(0, 2_000, 5_000), at(0));
        cache.sent(&prompt(5_000, 2_000, 9_000), at(0));
        for (shared, read) in
            [(9_000, 9_000), (8_999, 5_000), (5_000, 5_000), (4_999, 2_000), (1_999, 0)]
        {
            assert_eq!(cache.predict(Tokens(shared), at(300_000)), Tokens(read), "{shared}");
        }
        assert_eq!(cache.predict(Tokens(9_000), at(300_001)), Tokens::ZERO);
        // Where nothing is known of its life, it lives.
        cache.rule(CacheRules { ttl_ms: None, ..MARKED });
        assert_eq!(cache.predict(Tokens(9_000), at(u64::MAX)), Tokens(9_000));
    }

    #[test]
    fn a_read_keeps_an_entry_alive_and_a_rewrite_forgets_what_stood_behind() {
        let mut cache = CacheModel::new(MARKED);
        cache.sent(&prompt(0, 2_000, 9_000), at(0));
        cache.sent(&prompt(9_000, 2_000, 9_500), at(200_000));
        assert_eq!(cache.predict(Tokens(9_500), at(500_000)), Tokens(9_500));
        cache.sent(&prompt(3_000, 2_000, 6_000), at(500_000));
        assert_eq!(cache.predict(Tokens(9_500), at(500_000)), Tokens(6_000));
        assert_eq!(cache.predict(Tokens(5_999), at(500_000)), Tokens(2_000));
    }

    #[test]
    fn a_prefix_below_the_shortest_is_not_kept() {
        for (marked, head) in [(true, 1_023), (true, 1_024), (false, 0)] {
            let mut cache = CacheModel::new(CacheRules { marked, ..MARKED });
            for size in [1_023, 1_024, 1_025] {
                cache.sent(&prompt(0, head, size), at(0));
                let kept = if size < 1_024 { 0 } else { size };
                assert_eq!(cache.predict(Tokens(size), at(0)), Tokens(kept), "{marked} {size}");
            }
            let shared = cache.predict(Tokens(1_024), at(0));
            assert_eq!(shared, Tokens(if marked && head < 1_024 { 0 } else { 1_024 }));
        }
    }

    #[test]
    fn what_the_endpoint_reports_decides() {
        let mut cache = CacheModel::new(CacheRules { marked: false, ..MARKED });
        cache.sent(&prompt(0, 0, 9_000), at(0));
        assert_eq!(cache.predict(Tokens(8_000), at(1)), Tokens(8_000));
        for (reported, left) in [(7_936, 8_000), (4_000, 8_000), (3_999, 0)] {
            cache.learn(Tokens(8_000), Tokens(reported), at(1));
            assert_eq!(cache.predict(Tokens(8_000), at(1)), Tokens(left), "{reported}");
        }
        // What is sent then is kept again.
        cache.sent(&prompt(8_000, 0, 9_000), at(1));
        assert_eq!(cache.predict(Tokens(9_000), at(1)), Tokens(9_000));
        cache.lose();
        assert_eq!(cache.predict(Tokens(9_000), at(1)), Tokens::ZERO);
    }

    #[test]
    fn what_had_settled_is_read_when_pages_leave_behind_it() {
        for (settled, read) in [(5_000, 5_000), (0, 2_000)] {
            let mut cache = CacheModel::new(MARKED);
            cache.sent(&prompt(0, 2_000, 5_000), at(0));
            for size in [6_000, 7_000, 8_000] {
                let settled = Tokens(settled);
                cache.sent(&Sent { settled, ..prompt(size - 1_000, 2_000, size) }, at(0));
            }
            assert_eq!(cache.predict(Tokens(8_000), at(0)), Tokens(8_000));
            // The first page to leave stood at 6,500.
            assert_eq!(cache.predict(Tokens(6_500), at(0)), Tokens(read));
        }
    }

    #[test]
    fn a_cache_that_was_lost_twice_is_cold_after_such_a_pause_until_it_is_found_again() {
        let mut cache = CacheModel::new(CacheRules { marked: false, ttl_ms: None, ..MARKED });
        let mut now = 0;
        // Each call comes after a pause and reads so much of the 9,000 tokens of the one before.
        let mut call = |pause: u64, reported: u64| {
            now += pause;
            let cold = cache.is_cold(Tokens(9_000), at(now));
            let predicted = cache.predict(Tokens(9_000), at(now));
            cache.learn(predicted, Tokens(reported), at(now));
            cache.sent(&prompt(9_000, 0, 9_000), at(now));
            cold
        };
        assert!(call(0, 0), "nothing was sent yet");
        assert!(!call(5, 0), "nobody told of a cached token");
        assert!(!call(5, 0), "still not");
        assert!(!call(5, 9_000));
        assert!(!call(60, 0), "it is lost now and not known to be");
        assert!(!call(60, 0), "once is an accident");
        assert!(!call(59, 9_000), "a shorter pause");
        assert!(call(60, 9_000), "twice is none, but this time it is there");
        assert!(!call(60, 9_000));
    }
}
