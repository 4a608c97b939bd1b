//! What an endpoint is believed to hold of a process's prompts.
//!
//! An endpoint caches prefixes: up to a mark that the request sets, or up to its end where it does
//! so by itself; for a time after the last use; and only where the prefix is long enough. Of
//! 21,657 recorded calls of a coding agent one in twenty came more than five minutes after the one
//! before, and those alone raised the price by a third over a cache that never expires. Knowing
//! that the cache is cold is knowing when removing a page costs nothing.
//!
//! The model predicts; what the endpoint reports decides. Where it reports less than half of what
//! was predicted, the model takes the cache for lost.

use aosk_abi::{CacheRules, Timestamp, Tokens};

/// The entries that a process's prompts have left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheModel {
    rules: CacheRules,
    /// The lengths of the prefixes that are kept, growing, each with the time it was last used.
    entries: Vec<(Tokens, Timestamp)>,
}

impl CacheModel {
    /// An empty cache.
    #[must_use]
    pub const fn new(rules: CacheRules) -> Self {
        Self { rules, entries: Vec::new() }
    }

    /// Goes by those rules from now on.
    pub const fn rule(&mut self, rules: CacheRules) {
        self.rules = rules;
    }

    /// How much of a prompt is read from the cache that begins with the `shared` tokens of the one
    /// before.
    #[must_use]
    pub fn predict(&self, shared: Tokens, now: Timestamp) -> Tokens {
        let live = self.entries.iter().filter(|entry| self.lives(entry, now));
        let longest = |longest: Tokens, (length, _): &(Tokens, Timestamp)| {
            if self.rules.marked && *length > shared { longest } else { longest.max(*length) }
        };
        let held = live.fold(Tokens::ZERO, longest).min(shared);
        if held < self.rules.minimum { Tokens::ZERO } else { held }
    }

    /// Takes down that a prompt of `size` tokens was sent, of which the first `shared` are those of
    /// the one before; where marks are set, they stand at the end of its `head` and of the prompt.
    /// What it reads lives on; what it does not begin with is forgotten, because this process will
    /// not come back to it.
    pub fn sent(&mut self, shared: Tokens, head: Tokens, size: Tokens, now: Timestamp) {
        let read = self.predict(shared, now);
        self.entries.retain(|(length, _)| *length <= read);
        for (_, used) in &mut self.entries {
            *used = now;
        }
        let new = if self.rules.marked { &[head, size][..] } else { &[size] };
        for &length in new.iter().filter(|length| **length >= self.rules.minimum) {
            if self.entries.last().is_none_or(|(last, _)| *last < length) {
                self.entries.push((length, now));
            }
        }
    }

    /// Takes down what the endpoint said it read of a prompt, beside what was predicted of it, before
    /// that prompt is taken down as sent.
    pub fn learn(&mut self, predicted: Tokens, reported: Tokens) {
        if reported.0 < predicted.0 / 2 {
            self.entries.retain(|(length, _)| *length <= reported);
        }
    }

    /// Takes everything for lost: another endpoint is asked.
    pub fn lose(&mut self) {
        self.entries.clear();
    }

    fn lives(&self, (_, used): &(Tokens, Timestamp), now: Timestamp) -> bool {
        self.rules.ttl_ms.is_none_or(|ttl| now.millis_since(*used) <= ttl)
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

    #[test]
    fn a_prefix_is_read_up_to_its_last_mark_until_it_expires() {
        let mut cache = CacheModel::new(MARKED);
        cache.sent(Tokens::ZERO, Tokens(2_000), Tokens(5_000), at(0));
        cache.sent(Tokens(5_000), Tokens(2_000), Tokens(9_000), at(0));
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
        cache.sent(Tokens::ZERO, Tokens(2_000), Tokens(9_000), at(0));
        cache.sent(Tokens(9_000), Tokens(2_000), Tokens(9_500), at(200_000));
        assert_eq!(cache.predict(Tokens(9_500), at(500_000)), Tokens(9_500));
        cache.sent(Tokens(3_000), Tokens(2_000), Tokens(6_000), at(500_000));
        assert_eq!(cache.predict(Tokens(9_500), at(500_000)), Tokens(6_000));
        assert_eq!(cache.predict(Tokens(5_999), at(500_000)), Tokens(2_000));
    }

    #[test]
    fn a_prefix_below_the_shortest_is_not_kept() {
        for (marked, head) in [(true, 1_023), (true, 1_024), (false, 0)] {
            let mut cache = CacheModel::new(CacheRules { marked, ..MARKED });
            for size in [1_023, 1_024, 1_025] {
                cache.sent(Tokens::ZERO, Tokens(head), Tokens(size), at(0));
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
        cache.sent(Tokens::ZERO, Tokens::ZERO, Tokens(9_000), at(0));
        assert_eq!(cache.predict(Tokens(8_000), at(1)), Tokens(8_000));
        for (reported, left) in [(7_936, 8_000), (4_000, 8_000), (3_999, 0)] {
            cache.learn(Tokens(8_000), Tokens(reported));
            assert_eq!(cache.predict(Tokens(8_000), at(1)), Tokens(left), "{reported}");
        }
        // What is sent then is kept again.
        cache.sent(Tokens(8_000), Tokens::ZERO, Tokens(9_000), at(1));
        assert_eq!(cache.predict(Tokens(9_000), at(1)), Tokens(9_000));
        cache.lose();
        assert_eq!(cache.predict(Tokens(9_000), at(1)), Tokens::ZERO);
    }
}
