//! How long what a call writes is to be kept: the rule that chooses, and what it learns by.
//!
//! An entry holds its whole prefix, and a request pays for writing only what stands behind the
//! longest entry that it hits, at the rate of the mark that it sets there. A long mark behind a
//! prefix that is held for a short time therefore keeps all of it for a long time, at the price of the
//! few tokens between. So a call asks for the long life where what it writes is little beside what a
//! pause would lose, and for the short one where it is much:
//!
//! ```text
//! pauses / calls · (write − read) · (prompt − what is kept long) > (long − write) · what is written
//! ```
//!
//! On 21,657 recorded calls of a coding agent that comes to 0.869 of the price of the better of both
//! lives for all calls (`./x bench asis`). That a longer mark keeps what it stands on is how the
//! provider bills; it was not measured. Where each token lives only as long as was paid for it alone,
//! the best rule tried came to 0.989.
//!
//! The counts are a fold over calls and the rule is whole numbers alone, so that it comes out the
//! same after a restart and on any machine.

use aosk_abi::{CacheLife, MicroDollars, Timestamp, Tokens};
use serde::{Deserialize, Serialize};

/// Pauses and calls that a process is taken to have had before its first: one call in twenty comes
/// after a pause. From 1 in 30 to 2 in 20 the price varies by 0.2 %.
const PRIOR: (u32, u32) = (2, 40);

/// What an endpoint takes for input that it keeps, in millionths of a US dollar for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CachePrices {
    /// For what it reads from its cache.
    pub read: MicroDollars,
    /// For what it writes there for the short life.
    pub write: MicroDollars,
    /// For what it writes there for the long life.
    pub write_long: MicroDollars,
}

/// A prompt before it is sent, in tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writing {
    /// All of it.
    pub size: Tokens,
    /// What of it is kept long already.
    pub long: Tokens,
    /// What of it has to be written.
    pub new: Tokens,
}

/// How often a process paused for longer than the short life, by its calls so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pauses {
    pauses: u32,
    calls: u32,
    /// When the last call was made.
    last: Option<Timestamp>,
}

impl Pauses {
    /// Counts a call, where an entry lives for `ttl_ms` milliseconds after its last use.
    pub fn call(&mut self, now: Timestamp, ttl_ms: u64) {
        let paused = self.last.is_some_and(|last| now.millis_since(last) > ttl_ms);
        self.pauses = self.pauses.saturating_add(u32::from(paused));
        self.calls = self.calls.saturating_add(1);
        self.last = Some(now);
    }

    /// For how long a call is to ask that is counted already.
    pub fn life(&self, prices: &CachePrices, writing: &Writing) -> CacheLife {
        let times = |price: MicroDollars, less: MicroDollars, tokens: Tokens| {
            u128::from(price.0.saturating_sub(less.0)).saturating_mul(tokens.0.into())
        };
        let lost = times(prices.write, prices.read, writing.size.saturating_sub(writing.long));
        let extra = times(prices.write_long, prices.write, writing.new);
        let pauses = u128::from(self.pauses) + u128::from(PRIOR.0);
        let calls = u128::from(self.calls) + u128::from(PRIOR.1);
        if pauses.saturating_mul(lost) > calls.saturating_mul(extra) {
            CacheLife::Long
        } else {
            CacheLife::Short
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRICES: CachePrices = CachePrices {
        read: MicroDollars(100_000),
        write: MicroDollars(1_250_000),
        write_long: MicroDollars(2_000_000),
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn after(calls: impl IntoIterator<Item = u64>) -> Pauses {
        let mut pauses = Pauses::default();
        calls.into_iter().for_each(|seconds| pauses.call(at(seconds), 300_000));
        pauses
    }

    fn writing(size: u64, long: u64, new: u64) -> Writing {
        Writing { size: Tokens(size), long: Tokens(long), new: Tokens(new) }
    }

    #[test]
    fn before_its_first_pause_a_process_is_taken_to_pause_once_in_twenty_calls() {
        // 2 / 41 · 1.15 · 10,000 = 561.0 and 0.75 · 748 = 561: the last is the first that is too much.
        let first = after([0]);
        assert_eq!(first.life(&PRICES, &writing(10_000, 0, 747)), CacheLife::Long);
        assert_eq!(first.life(&PRICES, &writing(10_000, 0, 748)), CacheLife::Short);
        // All of it is written: nothing was sent before.
        assert_eq!(first.life(&PRICES, &writing(10_000, 0, 10_000)), CacheLife::Short);
        // What is kept long already is not lost.
        assert_eq!(first.life(&PRICES, &writing(10_000, 9_000, 75)), CacheLife::Short);
        assert_eq!(first.life(&PRICES, &writing(10_000, 9_000, 74)), CacheLife::Long);
    }

    #[test]
    fn a_pause_is_one_that_is_longer_than_the_short_life_and_the_first_call_ends_none() {
        assert_eq!(after([400]).pauses, 0);
        assert_eq!(after([400, 700, 1_001, 1_001]).pauses, 1);
        assert_eq!(after([400, 700, 1_001, 1_001]).calls, 4);
        // A clock that steps back makes no pause.
        assert_eq!(after([400, 0]).pauses, 0);
    }

    #[test]
    fn who_pauses_often_asks_for_the_long_life_where_others_do_not() {
        let (steady, slow) = (after((0..60).map(|n| n * 10)), after((0..60).map(|n| n * 600)));
        let much = writing(10_000, 0, 4_000);
        assert_eq!(steady.life(&PRICES, &much), CacheLife::Short);
        assert_eq!(slow.life(&PRICES, &much), CacheLife::Long);
    }

    proptest! {
        /// More to lose, or more pauses, never makes a call ask for less; more to write never for
        /// more; and no number makes the rule fail.
        #[test]
        fn the_rule_is_monotone_and_holds_for_any_numbers(
            (pauses, calls) in any::<(u32, u32)>(),
            (read, write, write_long) in any::<(u64, u64, u64)>(),
            (size, long, new) in any::<(u64, u64, u64)>(),
            more in any::<u64>(),
        ) {
            let prices = CachePrices {
                read: MicroDollars(read),
                write: MicroDollars(write),
                write_long: MicroDollars(write_long),
            };
            let counts = Pauses { pauses, calls, last: None };
            let asks = |counts: &Pauses, writing| counts.life(&prices, &writing) == CacheLife::Long;
            let asked = asks(&counts, writing(size, long, new));
            prop_assert_eq!(asked, asks(&counts, writing(size, long, new)));
            if asked {
                prop_assert!(size > long && write > read);
                let (larger, smaller) = (size.saturating_add(more), new.saturating_sub(more));
                prop_assert!(asks(&counts, writing(larger, long, new)));
                prop_assert!(asks(&counts, writing(size, long, smaller)));
                let oftener = Pauses { pauses: pauses.saturating_add(1), ..counts };
                prop_assert!(asks(&oftener, writing(size, long, new)));
            }
        }
    }
}
