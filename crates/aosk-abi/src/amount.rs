//! Quantities: tokens, money, shares, time. Integers only, so that event bytes never depend on
//! how a float prints.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// A number of model tokens.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tokens(pub u64);

/// Money in millionths of a US dollar.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroDollars(pub u64);

macro_rules! sums {
    ($name:ident) => {
        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// The difference, or nothing where `other` is larger.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self::ZERO, Add::add)
            }
        }
    };
}

sums!(Tokens);
sums!(MicroDollars);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MicroDollars {
    /// Dollars with as many decimals as are needed, at least two: `$0.10`, `$0.000123`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let digits = format!("{micros:06}");
        let kept = digits.trim_end_matches('0').len().max(2);
        write!(f, "${whole}.{}", &digits[..kept])
    }
}

impl MicroDollars {
    /// The amount that a decimal number of dollars stands for, rounded to a millionth; `None` for
    /// a negative, infinite or not-a-number value, or one above 18 trillion dollars.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked")]
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        let micros = (dollars * 1e6).round();
        (0.0..1.8e19).contains(&micros).then_some(Self(micros as u64))
    }
}

/// A share in parts per million: 1,000,000 is the whole.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ppm(pub u32);

impl Ppm {
    /// The whole.
    pub const ONE: Self = Self(1_000_000);
}

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time that many milliseconds after the start of 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start of 1970.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time `millis` later.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time; 0 where the clock went back.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_prints_as_many_decimals_as_it_needs() {
        assert_eq!(MicroDollars(0).to_string(), "$0.00");
        assert_eq!(MicroDollars(100_000).to_string(), "$0.10");
        assert_eq!(MicroDollars(123).to_string(), "$0.000123");
        assert_eq!(MicroDollars(12_345_678).to_string(), "$12.345678");
    }

    #[test]
    fn dollars_below_at_and_above_the_bounds() {
        assert_eq!(MicroDollars::from_dollars(0.1), Some(MicroDollars(100_000)));
        assert_eq!(MicroDollars::from_dollars(0.0), Some(MicroDollars(0)));
        for bad in [-0.01, f64::NAN, f64::INFINITY, 1.9e13] {
            assert_eq!(MicroDollars::from_dollars(bad), None);
        }
    }
}
