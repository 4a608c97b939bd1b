//! The chance that a unit is needed.
//!
//! Over recorded runs of a coding agent the chance that a page is needed at a step falls as one over
//! its age (a tool's result: 3.4 % at an age of one or two steps, 0.6 % at 7 to 14, 0.14 % at 31 to
//! 62) and is three to nine times higher once it was needed before. That is a Poisson process in
//! the logarithm of the age. With a gamma prior on its rate, `n` needs so far make the expected
//! rate proportional to `n` and a prior.
//!
//! The family is measured; the exponents were searched on one half of the recorded runs by what the
//! plans that follow from them cost, and the other half agrees. `bench/runs/README.md` has what each is
//! worth. A fall by one over the age in place of its power of 1.15 costs up to 0.7 % more on coding
//! agents and 1.3 % on dialogues, and 3 % less on thirteen coding trajectories; a page's size counted
//! less than half as much costs 9 % there.

use aosk_abi::{Admission, Tokens};

use super::Unit;
use super::memo::Memo;
use crate::terms::tokens;

/// How the chance depends on what is known of a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hazard {
    /// What a page that was never needed counts as, in needs.
    pub prior: f64,
    /// The exponent of the needs so far.
    pub again: f64,
    /// The exponent by which the chance falls with the age.
    pub fall: f64,
    /// Added to an age, in steps, so that what came with the plan before is not infinitely new.
    pub youth: f64,
    /// By how much likelier tools' results are needed than what was said.
    pub tool: f64,
    /// By how much the size of a page counts beyond the room that it takes, as an exponent of its
    /// size over 500 tokens.
    pub size: f64,
}

/// The chance at an age of one step, for each need so far.
const RATE: f64 = 0.16;
/// The size that does not count, in tokens.
const SIZE: f64 = 500.0;

impl Hazard {
    /// What was found: needed once, a page is 5.8 times as likely to be needed again, twice 9.6
    /// times.
    pub const DEFAULT: Self =
        Self { prior: 0.21, again: 0.86, fall: 1.15, youth: 0.12, tool: 1.27, size: -0.48 };

    /// How often units are expected to be needed within the next `steps` turns.
    pub(super) const fn needs(&self, now: u32, steps: f64) -> Needs<'_> {
        Needs { hazard: self, now, steps, falls: Memo::new(), sizes: Memo::new() }
    }

    /// What the size of a unit makes of [`Hazard::rate`].
    fn sized(&self, size: Tokens) -> f64 {
        (tokens(size).max(1.0) / SIZE).powf(self.size)
    }

    /// How often `unit`, of which the size makes `sized`, would be needed in a turn at an age of one.
    fn rate(&self, unit: &Unit, sized: f64) -> f64 {
        let again = match unit.accesses {
            0 => 0.0,
            1 => 1.0,
            more => f64::from(more).powf(self.again),
        };
        let rated = f64::from(unit.importance.0) / f64::from(Admission::DEFAULT_IMPORTANCE.0);
        let tool = if unit.tool_result { self.tool } else { 1.0 };
        RATE * (self.prior + again) * rated * tool * sized
    }

    /// The sum, over the next `steps` turns, of what the age of a unit makes of [`Hazard::rate`]: one
    /// of all units that were born in a turn.
    fn falls(&self, born: u32, now: u32, steps: f64) -> f64 {
        let age = f64::from(now.saturating_sub(born)) + self.youth;
        // The integral of age^-fall over the steps to come.
        let left = 1.0 - self.fall;
        if left.abs() < 1e-6 {
            (steps / age).ln_1p()
        } else {
            ((age + steps).powf(left) - age.powf(left)) / left
        }
    }
}

/// [`Hazard::needs`].
pub(super) struct Needs<'a> {
    hazard: &'a Hazard,
    now: u32,
    steps: f64,
    /// Units of one turn stand side by side.
    falls: Memo<1>,
    sizes: Memo<256>,
}

impl Needs<'_> {
    /// How often `unit` is expected to be needed.
    pub(super) fn of(&mut self, unit: &Unit) -> f64 {
        let Self { hazard, now, steps, .. } = *self;
        let sized = self.sizes.of(unit.tokens.0, || hazard.sized(unit.tokens));
        let falls = self.falls.of(unit.born.into(), || hazard.falls(unit.born, now, steps));
        hazard.rate(unit, sized) * falls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::{PageId, Ppm, Seq};

    fn unit(born: u32, accesses: u32) -> Unit {
        Unit {
            id: Seq(1),
            first: PageId(1),
            last: PageId(1),
            part: false,
            tokens: Tokens(500),
            importance: Admission::DEFAULT_IMPORTANCE,
            tool_result: true,
            born,
            accesses,
            last_access: born,
            credit: 0,
        }
    }

    #[test]
    fn needs_follow_age_accesses_size_kind_and_importance() {
        let now = 1_000;
        let at = |age, accesses| Hazard::DEFAULT.needs(now, 1.0).of(&unit(now - age, accesses));
        // Ten times as old: 10^1.15 times as unlikely.
        let ratio = at(50, 0) / at(500, 0);
        assert!((13.4..14.8).contains(&ratio), "{ratio}");
        assert!((at(10, 1) / at(10, 0) - 1.21 / 0.21).abs() < 1e-9);
        let twice = (0.21 + 2_f64.powf(0.86)) / 0.21;
        assert!((at(10, 2) / at(10, 0) - twice).abs() < 1e-9);
        // A step is a step: ten of them are what they are one by one.
        let ten = Hazard::DEFAULT.needs(now, 10.0).of(&unit(now - 10, 0));
        let step = |later| Hazard::DEFAULT.needs(now + later, 1.0).of(&unit(now - 10, 0));
        let sum: f64 = (0..10).map(step).sum();
        assert!((ten / sum - 1.0).abs() < 1e-9, "{ten} and {sum}");
        let said = Unit { tool_result: false, ..unit(now - 10, 0) };
        assert!((at(10, 0) / Hazard::DEFAULT.needs(now, 1.0).of(&said) - 1.27).abs() < 1e-9);
        let short = Unit { tokens: Tokens(50), ..unit(now - 10, 0) };
        assert!(
            (Hazard::DEFAULT.needs(now, 1.0).of(&short) / at(10, 0) - 10_f64.powf(0.48)).abs()
                < 1e-9
        );
        let rated = Unit { importance: Ppm::ONE, ..unit(now - 10, 0) };
        assert!((Hazard::DEFAULT.needs(now, 1.0).of(&rated) / at(10, 0) - 2.0).abs() < 1e-9);
        assert!(Hazard::DEFAULT.needs(now, 1.0).of(&unit(now, 0)).is_finite());
    }
}
