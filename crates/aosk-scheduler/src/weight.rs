//! Weights: what a priority is worth.
//!
//! Ten levels of priority halve the share: a process of priority 40 gets twice what one of 50
//! gets, and 0 gets 956 times what 99 gets, which is never nothing. The weights are a table because
//! a power computed in floating point may differ in its last digit between machines, and with it
//! the order of calls.

use aosk_abi::Priority;

use crate::error::Error;

/// 2^20 · 2^(−p/10), rounded, for p = 0 … 99.
#[rustfmt::skip]
const WEIGHTS: [u32; 100] = [
    1_048_576, 978_356, 912_838, 851_708, 794_672, 741_455, 691_802, 645_474, 602_249, 561_918,
    524_288, 489_178, 456_419, 425_854, 397_336, 370_728, 345_901, 322_737, 301_124, 280_959,
    262_144, 244_589, 228_210, 212_927, 198_668, 185_364, 172_951, 161_369, 150_562, 140_479,
    131_072, 122_295, 114_105, 106_464, 99_334, 92_682, 86_475, 80_684, 75_281, 70_240,
    65_536, 61_147, 57_052, 53_232, 49_667, 46_341, 43_238, 40_342, 37_641, 35_120,
    32_768, 30_574, 28_526, 26_616, 24_834, 23_170, 21_619, 20_171, 18_820, 17_560,
    16_384, 15_287, 14_263, 13_308, 12_417, 11_585, 10_809, 10_086, 9_410, 8_780,
    8_192, 7_643, 7_132, 6_654, 6_208, 5_793, 5_405, 5_043, 4_705, 4_390,
    4_096, 3_822, 3_566, 3_327, 3_104, 2_896, 2_702, 2_521, 2_353, 2_195,
    2_048, 1_911, 1_783, 1_663, 1_552, 1_448, 1_351, 1_261, 1_176, 1_097,
];

/// A share relative to its siblings: 1 to 1,048,576.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// The greatest weight, 2^20; tenants and groups have it until they are given another.
    pub const GREATEST: Self = Self(WEIGHTS[0]);

    /// The weight of that number.
    ///
    /// # Errors
    /// [`Error::Weight`] for 0 and above 2^20.
    pub const fn new(number: u32) -> Result<Self, Error> {
        if number == 0 || number > Self::GREATEST.0 {
            return Err(Error::Weight(number));
        }
        Ok(Self(number))
    }

    /// The weight of a process of that priority: 1,097 to 1,048,576.
    #[must_use]
    pub const fn of(priority: Priority) -> Self {
        Self(WEIGHTS[priority.get() as usize])
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_the_formula_rounded() {
        for number in 0..=99_u8 {
            let priority = Priority::new(number.into()).expect("0 to 99");
            let exact = (20.0 - f64::from(number) / 10.0).exp2();
            assert_eq!(f64::from(Weight::of(priority).get()), exact.round(), "priority {number}");
        }
    }

    #[test]
    fn weights_below_at_and_above_the_bounds() {
        for (number, is_good) in [(0, false), (1, true), (1 << 20, true), ((1 << 20) + 1, false)] {
            let expected = if is_good { Ok(number) } else { Err(Error::Weight(number)) };
            assert_eq!(Weight::new(number).map(Weight::get), expected);
        }
    }
}
