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

use aosk_abi::{Timestamp, Tokens};

/// How an endpoint caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheRules {
    /// How long after its last use an entry lives, in milliseconds.
    pub ttl_ms: u64,
    /// The shortest prefix that is kept.
    pub minimum: Tokens,
    /// How many marks a request may set; 0 where the endpoint caches every prefix by itself.
    pub marks: usize,
}

/// The entries that a process's prompts have left, and how well they were predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheModel {
    rules: CacheRules,
    /// The lengths of the prefixes that are kept, growing, each with the time it was last used.
    entries: Vec<(Tokens, Timestamp)>,
    predicted: u128,
    reported: u128,
    apart: u128,
}

impl CacheModel {
    /// An empty cache.
    #[must_use]
    pub const fn new(rules: CacheRules) -> Self {
        Self { rules, entries: Vec::new(), predicted: 0, reported: 0, apart: 0 }
    }

    /// Whether nothing of the prompts before is held any more: the moment to rebuild.
    #[must_use]
    pub fn is_cold(&self, now: Timestamp) -> bool {
        !self.entries.iter().any(|entry| self.lives(entry, now))
    }

    /// How much of a prompt is read from the cache that begins with the `shared` tokens of the one
    /// before.
    #[must_use]
    pub fn predict(&self, shared: Tokens, now: Timestamp) -> Tokens {
        let live = self.entries.iter().filter(|entry| self.lives(entry, now));
        let longest = |longest: Tokens, (length, _): &(Tokens, Timestamp)| {
            if self.rules.marks > 0 && *length > shared { longest } else { longest.max(*length) }
        };
        let held = live.fold(Tokens::ZERO, longest).min(shared);
        if held < self.rules.minimum { Tokens::ZERO } else { held }
    }

    /// Takes down that a prompt of `size` tokens was sent, with those `marks`, that shares its first
    /// `shared` tokens with the one before. What it reads lives on; what it does not begin with is
    /// forgotten, because this process will not come back to it.
    pub fn sent(&mut self, shared: Tokens, size: Tokens, marks: &[Tokens], now: Timestamp) {
        let read = self.predict(shared, now);
        self.entries.retain(|(length, _)| *length <= read);
        for (_, used) in &mut self.entries {
            *used = now;
        }
        let new = if self.rules.marks == 0 { std::slice::from_ref(&size) } else { marks };
        for &length in new.iter().filter(|length| **length >= self.rules.minimum) {
            if self.entries.last().is_none_or(|(last, _)| *last < length) {
                self.entries.push((length, now));
            }
        }
    }

    /// Takes down what the endpoint said it read from its cache, beside what was predicted.
    pub fn learn(&mut self, predicted: Tokens, reported: Tokens) {
        self.predicted += u128::from(predicted.0);
        self.reported += u128::from(reported.0);
        self.apart += u128::from(predicted.0.abs_diff(reported.0));
        if reported.0 < predicted.0 / 2 {
            self.entries.retain(|(length, _)| *length <= reported);
        }
    }

    /// By how much predictions and reports were apart, as a share of what was reported; `None`
    /// before anything was.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        (self.reported > 0).then(|| self.apart as f64 / self.reported as f64)
    }

    /// Where to set marks: at the end of the head, at the end of what the last epoch wrote, and at
    /// the end of the prompt, in tokens; never more than the endpoint takes, and none that it
    /// would ignore.
    #[must_use]
    pub fn marks(&self, head: Tokens, epoch: Tokens, end: Tokens) -> Vec<Tokens> {
        let mut marks = Vec::with_capacity(3);
        for mark in [head, epoch, end] {
            let useful = mark >= self.rules.minimum && mark <= end;
            if useful && marks.last().is_none_or(|last| *last < mark) {
                marks.push(mark);
            }
        }
        // The newest marks save most: the end is read by the next call.
        let spare = marks.len().saturating_sub(self.rules.marks);
        marks.split_off(spare)
    }

    fn lives(&self, (_, used): &(Tokens, Timestamp), now: Timestamp) -> bool {
        now.as_millis().saturating_sub(used.as_millis()) <= self.rules.ttl_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKED: CacheRules = CacheRules { ttl_ms: 300_000, minimum: Tokens(1_024), marks: 4 };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_prefix_is_read_up_to_its_last_mark_until_it_expires() {
        let mut cache = CacheModel::new(MARKED);
        assert!(cache.is_cold(at(0)));
        let marks = cache.marks(Tokens(2_000), Tokens(5_000), Tokens(9_000));
        cache.sent(Tokens::ZERO, Tokens(9_000), &marks, at(0));
        for (shared, read) in
            [(9_000, 9_000), (8_999, 5_000), (5_000, 5_000), (4_999, 2_000), (1_999, 0)]
        {
            assert_eq!(cache.predict(Tokens(shared), at(300_000)), Tokens(read), "{shared}");
        }
        assert_eq!(cache.predict(Tokens(9_000), at(300_001)), Tokens::ZERO);
        assert!(cache.is_cold(at(300_001)) && !cache.is_cold(at(300_000)));
    }

    #[test]
    fn a_read_keeps_an_entry_alive_and_a_rewrite_forgets_what_stood_behind() {
        let mut cache = CacheModel::new(MARKED);
        cache.sent(Tokens::ZERO, Tokens(9_000), &[Tokens(2_000), Tokens(9_000)], at(0));
        cache.sent(Tokens(9_000), Tokens(9_500), &[Tokens(9_500)], at(200_000));
        assert_eq!(cache.predict(Tokens(9_500), at(500_000)), Tokens(9_500));
        cache.sent(Tokens(3_000), Tokens(6_000), &[Tokens(6_000)], at(500_000));
        assert_eq!(cache.predict(Tokens(9_500), at(500_000)), Tokens(6_000));
        assert_eq!(cache.predict(Tokens(5_999), at(500_000)), Tokens(2_000));
    }

    #[test]
    fn marks_are_few_and_long_enough() {
        let cache = CacheModel::new(MARKED);
        let marks = |head, epoch, end| cache.marks(Tokens(head), Tokens(epoch), Tokens(end));
        assert_eq!(marks(1_023, 1_024, 1_025), [Tokens(1_024), Tokens(1_025)]);
        assert_eq!(marks(2_000, 2_000, 2_000), [Tokens(2_000)]);
        assert_eq!(marks(10, 20, 30), []);
        let few = CacheModel::new(CacheRules { marks: 1, ..MARKED });
        assert_eq!(few.marks(Tokens(2_000), Tokens(3_000), Tokens(4_000)), [Tokens(4_000)]);
    }

    #[test]
    fn what_the_endpoint_reports_decides() {
        let mut cache = CacheModel::new(CacheRules { marks: 0, ..MARKED });
        cache.sent(Tokens::ZERO, Tokens(9_000), &[], at(0));
        assert_eq!(cache.predict(Tokens(8_000), at(1)), Tokens(8_000));
        cache.learn(Tokens(8_000), Tokens(7_936));
        assert!(!cache.is_cold(at(1)));
        cache.learn(Tokens(8_000), Tokens(0));
        assert!(cache.is_cold(at(1)), "it was lost before its time");
        let error = cache.error().expect("something was reported");
        assert!((error - 8_064.0 / 7_936.0).abs() < 1e-9, "{error}");
    }
}
