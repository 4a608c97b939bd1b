//! What an endpoint is believed to hold of a process's prompts.
//!
//! An endpoint caches prefixes: up to a mark that the request sets, or up to its end where it does
//! so by itself; for a time after the last use; and only where the prefix is long enough. Of
//! 21,657 recorded calls of a coding agent one in twenty came more than five minutes after the one
//! before, and those alone raised the price by a third over a cache that never expires. Knowing
//! that the cache is cold is knowing when removing a page costs nothing.
//!
//! Some endpoints sell a second, longer life. What a call that asked for it marked is kept for that
//! long after its last use, and so is what stands in front of it; behind the newest long mark
//! everything is gone after the short life. For which calls the long one pays is a
//! [rule of its own](crate::pauses).
//!
//! The model predicts; what the endpoint reports decides. Where it reports less than half of what
//! was predicted, the model takes the cache for lost. Knowing that after the call comes too late for
//! it, as the call has written the prompt anew. But where the cache was lost twice in a row, it is
//! taken to be cold again after as long a pause as before the shorter of the two, until a call after
//! such a pause finds it. Once is not enough: one call may have come to another machine of the
//! endpoint. An endpoint that never told of a cached token tells nothing of its cache.

use aosk_abi::{CacheLife, CacheRules, Timestamp, Tokens};
use serde::{Deserialize, Serialize};

use crate::pauses::{CachePrices, Pauses, Writing};

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
    /// For how long what it marks was asked to be kept.
    pub life: CacheLife,
}

/// The entries that a process's prompts have left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheModel {
    rules: CacheRules,
    /// The lengths of the prefixes that are kept, growing: those that the last prompt marked, and the
    /// longest that is kept long. All were last used by the last prompt.
    entries: Vec<Tokens>,
    /// Those of them that are kept long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    long: Vec<Tokens>,
    /// The process's own rhythm, whichever endpoint it asks; counted where there are two lives.
    #[serde(default)]
    pauses: Pauses,
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
            return self.kept_long(shared, now);
        }
        self.reached(&self.entries, shared)
    }

    /// How much of such a prompt is kept long.
    fn kept_long(&self, shared: Tokens, now: Timestamp) -> Tokens {
        match self.rules.long_ttl_ms {
            Some(ttl) if now.millis_since(self.used) <= ttl => self.reached(&self.long, shared),
            _ => Tokens::ZERO,
        }
    }

    /// The longest of those prefixes, as far as it stands in the prompt.
    fn reached(&self, prefixes: &[Tokens], shared: Tokens) -> Tokens {
        let reached = |length: &&Tokens| !self.rules.marked || **length <= shared;
        let longest = prefixes.iter().rfind(reached).copied().unwrap_or_default();
        let held = longest.min(shared);
        if held < self.rules.minimum { Tokens::ZERO } else { held }
    }

    /// For how long the endpoint is to be asked to keep a prompt of that size that begins with the
    /// `shared` tokens of the one before: the short life where there is no other, and where the
    /// endpoint was seen to forget before the end of one.
    #[must_use]
    pub fn life(
        &self,
        shared: Tokens,
        size: Tokens,
        prices: &CachePrices,
        now: Timestamp,
    ) -> CacheLife {
        let (Some(ttl), Some(_)) = (self.rules.ttl_ms, self.rules.long_ttl_ms) else {
            return CacheLife::Short;
        };
        // What is too short is not kept.
        if size < self.rules.minimum || self.lost.is_some_and(|(times, _)| times >= LOSSES) {
            return CacheLife::Short;
        }
        let mut pauses = self.pauses;
        pauses.call(now, ttl);
        let long = self.kept_long(shared, now);
        let new = size.saturating_sub(self.predict(shared, now));
        pauses.life(prices, &Writing { size, long, new })
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
        let Sent { shared, head, settled, size, life } = *prompt;
        // Where the one before ended, as far as it stands, is marked again, and so is the newest long
        // mark.
        let (read, long) = (self.predict(shared, now), self.kept_long(shared, now));
        let marks =
            if self.rules.marked { &[head, settled, long, read, size][..] } else { &[size] };
        let kept = |length: &&Tokens| **length >= self.rules.minimum && **length > Tokens::ZERO;
        self.entries = marks.iter().filter(kept).copied().collect();
        self.entries.sort_unstable();
        self.entries.dedup();
        self.long = match life {
            CacheLife::Long => self.entries.clone(),
            CacheLife::Short if self.rules.marked => {
                let stands = |length: &&Tokens| **length <= long && self.long.contains(length);
                self.entries.iter().filter(stands).copied().collect()
            }
            CacheLife::Short => {
                Some(long).filter(|long| *long > Tokens::ZERO).into_iter().collect()
            }
        };
        if let (Some(ttl), Some(_)) = (self.rules.ttl_ms, self.rules.long_ttl_ms) {
            self.pauses.call(now, ttl);
        }
        self.used = now;
    }

    /// Takes down what the endpoint said it read of a prompt, beside what was predicted of it, before
    /// that prompt is taken down as sent.
    pub fn learn(&mut self, predicted: Tokens, reported: Tokens, now: Timestamp) {
        self.tells |= reported > Tokens::ZERO;
        let pause = now.millis_since(self.used);
        if self.tells && reported.0 < predicted.0 / 2 {
            self.entries.retain(|length| *length <= reported);
            self.long.retain(|length| *length <= reported);
            let (times, after) = self.lost.unwrap_or((0, u64::MAX));
            self.lost = Some((times.saturating_add(1), after.min(pause)));
        } else if reported > Tokens::ZERO && self.lost.is_some_and(|(_, after)| pause >= after) {
            self.lost = None;
        }
    }

    /// Takes everything for lost: another endpoint is asked.
    pub fn lose(&mut self) {
        *self = Self { pauses: self.pauses, ..Self::new(self.rules) };
    }
}

#[cfg(test)]
mod tests {
    use aosk_abi::MicroDollars;
    use proptest::prelude::*;

    use super::*;

    const MARKED: CacheRules = CacheRules {
        marked: true,
        minimum: Tokens(1_024),
        ttl_ms: Some(300_000),
        long_ttl_ms: None,
    };

    const LONG: CacheRules = CacheRules { long_ttl_ms: Some(3_600_000), ..MARKED };

    const PRICES: CachePrices = CachePrices {
        read: MicroDollars(100_000),
        write: MicroDollars(1_250_000),
        write_long: MicroDollars(2_000_000),
    };

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
    fn behind_the_short_life_only_what_stands_under_the_newest_long_mark_is_read() {
        let mut cache = CacheModel::new(LONG);
        let long = |prompt: Sent| Sent { life: CacheLife::Long, ..prompt };
        cache.sent(&prompt(0, 2_000, 5_000), at(0));
        cache.sent(&long(prompt(5_000, 2_000, 9_000)), at(0));
        cache.sent(&prompt(9_000, 2_000, 12_000), at(0));
        cache.sent(&prompt(12_000, 2_000, 14_000), at(0));
        for (millis, read) in
            [(300_000, 14_000), (300_001, 9_000), (3_600_000, 9_000), (3_600_001, 0)]
        {
            assert_eq!(cache.predict(Tokens(14_000), at(millis)), Tokens(read), "{millis}");
            assert_eq!(cache.is_cold(Tokens(14_000), at(millis)), read == 0);
        }
        // What was kept long in front of it is still, where pages leave behind the head.
        assert_eq!(cache.predict(Tokens(8_999), at(300_001)), Tokens(2_000));
        // A call after the pause keeps it for as long again, and what it writes for the short life.
        cache.sent(&prompt(14_000, 2_000, 15_000), at(3_600_000));
        assert_eq!(cache.predict(Tokens(15_000), at(3_900_000)), Tokens(15_000));
        assert_eq!(cache.predict(Tokens(15_000), at(3_900_001)), Tokens(9_000));
        // Pages leave in front of it: then only the head is kept long.
        cache.sent(&prompt(4_000, 2_000, 9_500), at(3_900_000));
        assert_eq!(cache.predict(Tokens(9_500), at(4_200_001)), Tokens(2_000));
        // Where there is no long life nothing is kept for longer, whatever was asked.
        cache.rule(MARKED);
        assert_eq!(cache.predict(Tokens(9_500), at(4_200_001)), Tokens::ZERO);
    }

    #[test]
    fn an_endpoint_that_forgot_twice_is_not_asked_to_keep_longer() {
        let mut cache = CacheModel::new(CacheRules { marked: false, ..LONG });
        let life = |cache: &CacheModel, shared, now| {
            cache.life(Tokens(shared), Tokens(9_010), &PRICES, at(now))
        };
        let mut now = 0;
        for (shared, reported, asks) in [
            (0, 0, CacheLife::Short),
            (9_000, 9_000, CacheLife::Long),
            (9_000, 0, CacheLife::Long),
            (9_000, 0, CacheLife::Long),
        ] {
            assert_eq!(life(&cache, shared, now), asks, "{now}");
            let predicted = cache.predict(Tokens(shared), at(now));
            cache.learn(predicted, Tokens(reported), at(now));
            cache.sent(&prompt(shared, 0, 9_010), at(now));
            now += 1_000;
        }
        assert_eq!(life(&cache, 9_000, now), CacheLife::Short);
        // Another endpoint has forgotten nothing, and the rhythm is the process's.
        let pauses = cache.pauses;
        cache.lose();
        assert_eq!(cache.pauses, pauses);
        cache.sent(&prompt(0, 0, 9_000), at(now));
        assert_eq!(life(&cache, 9_000, now), CacheLife::Long);
    }

    /// The rules, and calls: how long after the one before, how much of it stands, how much comes.
    type Calls = Vec<(u64, u64, u64)>;

    fn any_calls() -> impl Strategy<Value = Calls> {
        prop::collection::vec((0..5_000_000_u64, 0..20_000_u64, 0..5_000_u64), 1..30)
    }

    proptest! {
        /// Nobody asks for a life that there is not, and then nothing is remembered of pauses; where
        /// there is one, a checkpoint between any two calls changes no choice.
        #[test]
        fn the_choice_is_a_fold_of_calls_and_never_one_that_there_is_not(
            calls in any_calls(),
            marked in any::<bool>(),
            saved in any::<prop::sample::Index>(),
        ) {
            for rules in [LONG, MARKED, CacheRules { ttl_ms: None, ..LONG }] {
                let both = rules == LONG;
                let mut cache = CacheModel::new(CacheRules { marked, ..rules });
                let mut restored = None;
                let (mut now, mut size) = (0, 0);
                for (index, (pause, stands, comes)) in calls.iter().enumerate() {
                    if index == saved.index(calls.len()) {
                        let mut bytes = Vec::new();
                        ciborium::into_writer(&cache, &mut bytes).expect("encodes");
                        restored = ciborium::from_reader::<CacheModel, _>(&bytes[..]).ok();
                        prop_assert_eq!(restored.as_ref(), Some(&cache));
                    }
                    now += pause;
                    let shared = Tokens(size.min(*stands));
                    size = shared.0 + comes;
                    let of = |cache: &CacheModel| {
                        cache.life(shared, Tokens(size), &PRICES, at(now))
                    };
                    let life = of(&cache);
                    prop_assert!(both || life == CacheLife::Short);
                    let sent = Sent { shared, size: Tokens(size), life, ..Sent::default() };
                    let (short, long) = (cache.predict(shared, at(now)), cache.kept_long(shared, at(now)));
                    prop_assert!(long <= short && short <= shared);
                    cache.sent(&sent, at(now));
                    if let Some(restored) = &mut restored {
                        prop_assert_eq!(of(restored), life);
                        restored.sent(&sent, at(now));
                    }
                }
                prop_assert!(both || cache.pauses == Pauses::default());
                prop_assert!(restored.is_none_or(|restored| restored == cache));
            }
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
