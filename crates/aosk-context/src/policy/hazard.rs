//! The chance that a unit is needed.
//!
//! Over recorded runs of a coding agent the chance that a page is needed at a step falls as one over
//! its age (a tool's result: 3.4 % at an age of one or two steps, 0.6 % at 7 to 14, 0.14 % at 31 to
//! 62) and is three to nine times higher once it was needed before. That is a Poisson process in
//! the logarithm of the age. With a gamma prior on its rate, `n` needs so far make the expected
//! rate proportional to `n` and a prior.
//!
//! What is small is worth more than its room, but of messages to the agent that is not so: in dialogues
//! those of 16 to 60 tokens were needed in 0.2 % of the turns after they came, a fifteenth of what their
//! size would make of a reply, and in the coding agent's runs those of up to 30 tokens a third of it. So
//! their size counts in the other direction: dialogues cost 1.7 % less for it, over five rooms, and the
//! others as much as without.
//!
//! The family is measured; the exponents were searched on one half of the recorded runs by what the
//! plans that follow from them cost, and then moved in looking at all of them. `bench/runs/README.md` has
//! what each is worth. A fall by one over the age in place of its power of 1.2 costs up to 1 % more on
//! coding agents and 1.6 % on dialogues, and 2.6 % less on thirteen coding trajectories; a page's size
//! counted less than half as much costs 5.5 % there.

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
    /// By how much the size of a unit counts beyond the room that it takes, as an exponent of its size
    /// over 500 tokens.
    pub size: f64,
    /// The same of a message to the agent.
    pub message_size: f64,
}

/// The chance at an age of one step, for each need so far.
const RATE: f64 = 0.16;
/// The size that does not count, in tokens.
const SIZE: f64 = 500.0;

impl Hazard {
    /// What was found: needed once, a page is 6.1 times as likely to be needed again, twice 10.6
    /// times.
    pub const DEFAULT: Self = Self {
        prior: 0.195,
        again: 0.9,
        fall: 1.2,
        youth: 0.12,
        tool: 1.38,
        size: -0.47,
        message_size: 0.25,
    };

    /// How often units are expected to be needed within the next `steps` turns.
    pub(super) const fn needs(&self, now: u32, steps: f64) -> Needs<'_> {
        Needs { hazard: self, now, steps, falls: Memo::new(), sizes: Memo::new() }
    }

    /// What the size of a unit makes of [`Hazard::rate`].
    fn sized(&self, size: Tokens, message: bool) -> f64 {
        let exponent = if message { self.message_size } else { self.size };
        (tokens(size).max(1.0) / SIZE).powf(exponent)
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
    /// By size, and whether it is that of a message.
    sizes: Memo<512>,
}

impl Needs<'_> {
    /// How often `unit` is expected to be needed.
    pub(super) fn of(&mut self, unit: &Unit) -> f64 {
        let Self { hazard, now, steps, .. } = *self;
        let at = (unit.tokens.0 << 1) | u64::from(unit.message);
        let sized = self.sizes.of(at, || hazard.sized(unit.tokens, unit.message));
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
            message: false,
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
        // Ten times as old: 10^1.2 times as unlikely.
        let ratio = at(50, 0) / at(500, 0);
        assert!((15.0..16.7).contains(&ratio), "{ratio}");
        assert!((at(10, 1) / at(10, 0) - 1.195 / 0.195).abs() < 1e-9);
        let twice = (0.195 + 2_f64.powf(0.9)) / 0.195;
        assert!((at(10, 2) / at(10, 0) - twice).abs() < 1e-9);
        // A step is a step: ten of them are what they are one by one.
        let ten = Hazard::DEFAULT.needs(now, 10.0).of(&unit(now - 10, 0));
        let step = |later| Hazard::DEFAULT.needs(now + later, 1.0).of(&unit(now - 10, 0));
        let sum: f64 = (0..10).map(step).sum();
        assert!((ten / sum - 1.0).abs() < 1e-9, "{ten} and {sum}");
        let said = Unit { tool_result: false, ..unit(now - 10, 0) };
        assert!((at(10, 0) / Hazard::DEFAULT.needs(now, 1.0).of(&said) - 1.38).abs() < 1e-9);
        let short = Unit { tokens: Tokens(50), ..unit(now - 10, 0) };
        assert!(
            (Hazard::DEFAULT.needs(now, 1.0).of(&short) / at(10, 0) - 10_f64.powf(0.47)).abs()
                < 1e-9
        );
        let rated = Unit { importance: Ppm::ONE, ..unit(now - 10, 0) };
        assert!((Hazard::DEFAULT.needs(now, 1.0).of(&rated) / at(10, 0) - 2.0).abs() < 1e-9);
        assert!(Hazard::DEFAULT.needs(now, 1.0).of(&unit(now, 0)).is_finite());
    }
}
