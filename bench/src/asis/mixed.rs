//! A life of the cache chosen for each call.
//!
//! An entry holds its whole prefix, and a request pays for writing only what stands behind the
//! longest entry that it hits, at the rate of the mark that it sets there. A mark of an hour behind
//! a prefix that is held for five minutes therefore keeps all of it for an hour, at the price of the
//! few tokens between. So a call asks for an hour where what it writes is little beside what a pause
//! would lose, and for five minutes where it is much.
//!
//! That a longer mark keeps what it stands on is how the provider bills; it was not measured. Where
//! each token lives only as long as was paid for it alone, the best rule tried came to 0.989.

use super::{Call, Sum};

const READ: f64 = 0.1;
const FIVE_MINUTES: f64 = 1.25;
const HOUR: f64 = 2.0;
const OUTPUT: f64 = 5.0;

/// Pauses and calls that a chain is taken to have had before its first: one call in twenty comes
/// after a pause. From 1 in 30 to 2 in 20 the price varies by 0.2 %.
const PRIOR: (f64, f64) = (2.0, 40.0);

/// Plays every chain; each learns its own pauses, from the calls before only.
pub fn play(chains: &[Vec<Call>]) -> Sum {
    let mut sum = Sum::default();
    for chain in chains {
        // The tokens whose entry lives for an hour, and those of the prompt before.
        let (mut hour, mut whole) = (0, 0);
        let (mut pauses, mut calls) = PRIOR;
        let mut before = None;
        for call in chain {
            let away = before.map_or(u64::MAX, |before| call.at.millis_since(before));
            hour = if away <= 3_600_000 { call.shared.min(hour) } else { 0 };
            let cached = if away <= 300_000 { call.shared.min(whole) } else { hour };
            calls += 1.0;
            pauses += f64::from(u8::from(before.is_some() && away > 300_000));
            let new = (call.input - cached) as f64;
            let lost = (FIVE_MINUTES - READ) * (call.input - hour) as f64;
            let longer = pauses / calls * lost > (HOUR - FIVE_MINUTES) * new;
            if longer {
                hour = call.input;
            }
            let write = if longer { HOUR } else { FIVE_MINUTES };
            sum.price += READ * cached as f64 + write * new + OUTPUT * call.output as f64;
            sum.uncached += call.input as f64 + OUTPUT * call.output as f64;
            sum.cached += cached as f64;
            sum.input += call.input as f64;
            sum.calls += 1;
            (whole, before) = (call.input, Some(call.at));
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
