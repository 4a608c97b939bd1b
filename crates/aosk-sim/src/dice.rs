//! Dice: every choice of the simulated world, from one seed.
//!
//! A stream of random numbers that everybody draws from ties every choice to the order of all the
//! others: one more draw anywhere changes a whole run. So each part of the world has a stream of
//! its own, named by a label, and what concerns one call is drawn from a stream named by that
//! call. A fault added to the disk then leaves the model's answers as they were, and a failing
//! seed stays failing while one looks for its cause.

use std::ops::RangeInclusive;
use std::time::Duration;

use aosk_abi::Hash;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// How often something happens, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chance(u16);

impl Chance {
    /// It does not happen.
    pub const NEVER: Self = Self(0);
    /// It happens each time.
    pub const ALWAYS: Self = Self(1000);

    /// It happens `n` times in a thousand; from 1000 on each time.
    #[must_use]
    pub const fn per_mille(n: u16) -> Self {
        Self(n)
    }
}

/// A stream of choices.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream with that label; streams of different labels know nothing of one another.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        Self::keyed(seed, label, &[])
    }

    /// The stream of one thing, for example of one call: the same key gives the same stream.
    pub(crate) fn keyed(seed: u64, label: &str, key: &[u8]) -> Self {
        let mut bytes = seed.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(label.len() as u64).to_le_bytes());
        bytes.extend_from_slice(label.as_bytes());
        bytes.extend_from_slice(key);
        Self(ChaCha8Rng::from_seed(*Hash::of(&bytes).as_bytes()))
    }

    /// A number below `bound`; 0 where that is 0. The bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let scaled = (u128::from(self.0.next_u64()) * u128::from(bound)) >> 64;
        u64::try_from(scaled).unwrap_or(0)
    }

    /// An index below `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// Whether it happens this time.
    pub(crate) fn hits(&mut self, chance: Chance) -> bool {
        self.below(1000) < u64::from(chance.0)
    }

    /// A time of whole milliseconds in the range.
    pub(crate) fn time(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (least, most) = (millis(*range.start()), millis(*range.end()));
        let spread = most.saturating_sub(least).saturating_add(1);
        Duration::from_millis(least.saturating_add(self.below(spread)))
    }

    /// Fills `bytes`.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(mut dice: Dice) -> Vec<u64> {
        (0..4).map(|_| dice.below(u64::MAX)).collect()
    }

    #[test]
    fn one_seed_label_and_key_give_one_stream() {
        let stream = draws(Dice::keyed(7, "disk", b"k"));
        assert_eq!(draws(Dice::keyed(7, "disk", b"k")), stream);
        for other in [
            Dice::keyed(8, "disk", b"k"),
            Dice::keyed(7, "model", b"k"),
            Dice::keyed(7, "disk", b"l"),
            Dice::keyed(7, "diskk", b""),
        ] {
            assert_ne!(draws(other), stream);
        }
    }

    #[test]
    fn chances_and_ranges_keep_their_bounds() {
        let mut dice = Dice::new(1, "bounds");
        assert!((0..1000).all(|_| !dice.hits(Chance::NEVER)));
        assert!((0..1000).all(|_| dice.hits(Chance::ALWAYS)));
        let half = (0..10_000).filter(|_| dice.hits(Chance::per_mille(500))).count();
        assert!((4_700..5_300).contains(&half), "{half}");
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.below(1), 0);
        let range = Duration::from_millis(3)..=Duration::from_millis(5);
        let times: Vec<_> = (0..200).map(|_| dice.time(&range)).collect();
        assert_eq!(times.iter().min(), Some(range.start()));
        assert_eq!(times.iter().max(), Some(range.end()));
    }
}
