//! Demands: the room that a call leaves for the prompt.

use aosk_abi::{Ppm, Tokens};

use crate::error::Overflow;

/// What one call needs besides the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// The model's window: prompt and reply together.
    pub window: Tokens,
    /// What is kept free for the reply.
    pub max_output: Tokens,
    /// What the prompt holds besides pages: the tail and the dialect's framing.
    pub overhead: Tokens,
    /// What is kept free for the stubs of pages that have left.
    pub reserve: Tokens,
    /// How many gaps in contents of which parts have left the reserve has room for.
    pub gaps: usize,
    /// By how much the tokens of a prompt may exceed their count; 0 for an exact tokenizer.
    pub margin: Ppm,
}

impl Demand {
    /// The most tokens, as counted, that pages and overhead may have.
    pub(crate) fn capacity(&self) -> Tokens {
        let room = self.window.saturating_sub(self.max_output);
        let whole = u128::from(Ppm::ONE.0);
        share(room, whole, whole + u128::from(self.margin.0)).saturating_sub(self.reserve)
    }

    /// Whether a prompt of that many tokens fits beside the reply.
    pub(crate) fn admits(&self, prompt: Tokens) -> bool {
        self.max_output <= self.window && prompt <= self.capacity()
    }

    pub(crate) fn overflow(&self, pinned: Tokens, unanswered: Tokens) -> Overflow {
        Overflow {
            window: self.window,
            max_output: self.max_output,
            reserve: self.reserve,
            margin: self.margin,
            capacity: self.capacity(),
            overhead: self.overhead,
            pinned,
            unanswered,
        }
    }
}

/// `whole * numerator / denominator`, rounded down; `numerator` is at most `denominator`.
fn share(whole: Tokens, numerator: u128, denominator: u128) -> Tokens {
    let part = u128::from(whole.0) * numerator / denominator;
    Tokens(u64::try_from(part).unwrap_or(whole.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(window: u64, max_output: u64, margin: u32) -> u64 {
        let demand = Demand {
            window: Tokens(window),
            max_output: Tokens(max_output),
            overhead: Tokens::ZERO,
            reserve: Tokens::ZERO,
            gaps: 0,
            margin: Ppm(margin),
        };
        demand.capacity().0
    }

    #[test]
    fn the_counted_prompt_with_its_error_fits_beside_the_reply() {
        assert_eq!(capacity(1_000, 0, 0), 1_000);
        assert_eq!(capacity(1_000, 400, 0), 600);
        // 500 counted tokens that are 20 % more in truth are 600; 501 would be 601.2.
        assert_eq!(capacity(1_000, 400, 200_000), 500);
        assert_eq!(capacity(1_000, 999, 0), 1);
        assert_eq!(capacity(1_000, 1_000, 0), 0);
        assert_eq!(capacity(1_000, 1_001, 0), 0);
        assert_eq!(capacity(u64::MAX, 0, u32::MAX), 4_293_967_529_775_980);
    }
}
