//! A life of the cache chosen for each call, by the kernel's own rule.

use aosk_abi::{CacheLife, CacheRules, MicroDollars, Tokens};
use aosk_context::{CacheModel, CachePrices, Sent};

use super::{Call, Sum};

/// An endpoint that keeps every prefix for one of two lives.
const RULES: CacheRules = CacheRules {
    long_ttl_ms: Some(3_600_000),
    marked: false,
    minimum: Tokens::ZERO,
    ttl_ms: Some(300_000),
};

/// What it takes for a million tokens, where fresh input is a dollar.
const PRICES: CachePrices = CachePrices {
    read: MicroDollars(100_000),
    write: MicroDollars(1_250_000),
    write_long: MicroDollars(2_000_000),
};

/// The same for output.
const OUTPUT: MicroDollars = MicroDollars(5_000_000);

/// Plays every chain; each learns its own pauses, from the calls before only.
pub fn play(chains: &[Vec<Call>]) -> Sum {
    let mut sum = Sum::default();
    let times = |price: MicroDollars, tokens: u64| price.0 as f64 / 1e6 * tokens as f64;
    for chain in chains {
        let mut cache = CacheModel::new(RULES);
        for call in chain {
            let (shared, size) = (Tokens(call.shared), Tokens(call.input));
            let life = cache.life(shared, size, &PRICES, call.at);
            let cached = cache.predict(shared, call.at);
            cache.sent(&Sent { shared, size, life, ..Sent::default() }, call.at);
            let write = match life {
                CacheLife::Short => PRICES.write,
                CacheLife::Long => PRICES.write_long,
            };
            sum.price += times(PRICES.read, cached.0)
                + times(write, size.saturating_sub(cached).0)
                + times(OUTPUT, call.output);
            sum.uncached += call.input as f64 + times(OUTPUT, call.output);
            sum.cached += cached.0 as f64;
            sum.input += call.input as f64;
            sum.calls += 1;
            sum.long += u64::from(life == CacheLife::Long);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use aosk_abi::Timestamp;

    use super::*;

    fn call(seconds: u64, input: u64, shared: u64) -> Call {
        Call { at: Timestamp::from_millis(seconds * 1_000), input, output: 0, shared }
    }

    #[test]
    fn a_short_write_keeps_a_long_prompt_through_a_pause() {
        let start = [call(0, 1_000, 0), call(10, 1_010, 1_000)];
        let kept = 1_250.0 + (100.0 + 20.0);
        let price = |last| play(&[vec![start[0], start[1], last]]).price - kept;
        // To the second at the end of an hour it is read; after it, written.
        assert!((price(call(3_610, 1_010, 1_010)) - 101.0).abs() < 1e-6);
        assert!((price(call(3_611, 1_010, 1_010)) - 1_262.5).abs() < 1e-6);
        // A long write is for five minutes.
        let long = play(&[vec![call(0, 1_000, 0), call(300, 1_000, 1_000)]]);
        assert!((long.cached - 1_000.0).abs() < 1e-6);
        let late = play(&[vec![call(0, 1_000, 0), call(301, 1_000, 1_000)]]);
        assert!(late.cached.abs() < 1e-6 && (late.price - 2_500.0).abs() < 1e-6);
    }
}
