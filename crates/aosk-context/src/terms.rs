//! Terms: what the endpoint charges, and whether it still holds the prompt before.
//!
//! Prices are shares of the price of a token of uncached input, so that one rule fits providers:
//! a read from the cache at 0.1, a write to it at 1.25, output at 5 is what the two large ones
//! charge for an entry that lives five or thirty minutes. Prices decide the ranking of policies:
//! where nothing is cached, masking old results halves the price of a run; with reads at 0.1 it
//! doubles it, because each removal has everything behind it written anew.

use aosk_abi::{Ppm, Tokens};

/// What one call is planned under, besides its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The price of input that is read from the endpoint's cache.
    pub read: Ppm,
    /// The price of input that the endpoint writes to its cache; where writing costs nothing
    /// extra, [`Ppm::ONE`].
    pub write: Ppm,
    /// The price of output.
    pub output: Ppm,
    /// Whether the endpoint is known to have dropped the prompt before: the whole prompt is then
    /// written anyway, and removing a page costs nothing.
    pub cold: bool,
    /// Whether what leaves is lost to the agent: it has no way to ask for it back.
    pub lost: bool,
}

impl Default for Terms {
    /// A cache that is warm, at the prices above, and an agent that asks for what it misses.
    fn default() -> Self {
        Self {
            read: Ppm(100_000),
            write: Ppm(1_250_000),
            output: Ppm(5_000_000),
            cold: false,
            lost: false,
        }
    }
}

impl Terms {
    /// The price of one call in tokens of uncached input: `cached` of `input` are read, the rest
    /// is written.
    #[must_use]
    pub fn price(&self, input: Tokens, cached: Tokens, output: Tokens) -> f64 {
        let cached = cached.min(input);
        self.read() * tokens(cached)
            + self.write() * tokens(input.saturating_sub(cached))
            + share(self.output) * tokens(output)
    }

    pub(crate) fn read(&self) -> f64 {
        share(self.read)
    }

    pub(crate) fn write(&self) -> f64 {
        share(self.write)
    }

    pub(crate) fn output(&self) -> f64 {
        share(self.output)
    }
}

fn share(ppm: Ppm) -> f64 {
    f64::from(ppm.0) / f64::from(Ppm::ONE.0)
}

/// A number of tokens to calculate with; exact below 2^53.
pub(crate) const fn tokens(tokens: Tokens) -> f64 {
    tokens.0 as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_costs_what_it_reads_writes_and_says() {
        let terms = Terms::default();
        let price = terms.price(Tokens(1_000), Tokens(600), Tokens(10));
        assert!((price - (60.0 + 500.0 + 50.0)).abs() < 1e-9, "{price}");
        // More than the whole cannot have been cached.
        let all = terms.price(Tokens(1_000), Tokens(2_000), Tokens::ZERO);
        assert!((all - 100.0).abs() < 1e-9, "{all}");
    }
}
