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
//! worth. A fall by one over the age in place of [`FALL`] costs 4 % more on dialogues and 8 % on
//! coding trajectories; a page's size counted half as much in [`SIZE`] 2 % and 5 %.

use aosk_abi::Admission;

use super::Unit;
use crate::terms::tokens;

/// The chance at an age of one step, for each need so far.
const RATE: f64 = 0.16;
/// What a page that was never needed counts as, in needs: needed once it is 4.7 times as likely to
/// be needed again, twice 9.8 times.
const PRIOR: f64 = 0.27;
/// The exponent of the needs so far.
const AGAIN: f64 = 1.25;
/// The exponent by which the chance falls with the age.
const FALL: f64 = 1.2;
/// Added to an age in steps: what came with the plan before is planned for as if it were a fifth of
/// a step old, not infinitely new.
const YOUTH: f64 = 0.2;
/// By how much likelier tools' results are needed than what was said.
const TOOL: f64 = 1.2;
/// By how much the size of a page counts beyond the room that it takes, as an exponent, and the
/// size at which it does not.
const SIZE: (f64, f64) = (-0.4, 500.0);

/// How often `unit` is expected to be needed within the next `steps` turns.
pub(super) fn needs(unit: &Unit, now: u32, steps: f64) -> f64 {
    let again = match unit.accesses {
        0 => 0.0,
        1 => 1.0,
        more => f64::from(more).powf(AGAIN),
    };
    let rated = f64::from(unit.importance.0) / f64::from(Admission::DEFAULT_IMPORTANCE.0);
    let tool = if unit.tool_result { TOOL } else { 1.0 };
    let (exponent, size) = SIZE;
    let long = (tokens(unit.tokens).max(1.0) / size).powf(exponent);
    let age = f64::from(now.saturating_sub(unit.born)) + YOUTH;
    // The integral of age^-FALL over the steps to come.
    let falls = (age.powf(1.0 - FALL) - (age + steps).powf(1.0 - FALL)) / (FALL - 1.0);
    RATE * (PRIOR + again) * rated * tool * long * falls
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::{PageId, Ppm, Seq, Tokens};

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
        let at = |age, accesses| needs(&unit(now - age, accesses), now, 1.0);
        // Ten times as old: 10^1.2 times as unlikely.
        let ratio = at(50, 0) / at(500, 0);
        assert!((15.0..16.5).contains(&ratio), "{ratio}");
        assert!((at(10, 1) / at(10, 0) - 1.27 / 0.27).abs() < 1e-9);
        let twice = (0.27 + 2_f64.powf(1.25)) / 0.27;
        assert!((at(10, 2) / at(10, 0) - twice).abs() < 1e-9);
        // A step is a step: ten of them are what they are one by one.
        let ten = needs(&unit(now - 10, 0), now, 10.0);
        let sum: f64 = (0..10).map(|later| needs(&unit(now - 10, 0), now + later, 1.0)).sum();
        assert!((ten / sum - 1.0).abs() < 1e-9, "{ten} and {sum}");
        let said = Unit { tool_result: false, ..unit(now - 10, 0) };
        assert!((at(10, 0) / needs(&said, now, 1.0) - 1.2).abs() < 1e-9);
        let short = Unit { tokens: Tokens(50), ..unit(now - 10, 0) };
        assert!((needs(&short, now, 1.0) / at(10, 0) - 10_f64.powf(0.4)).abs() < 1e-9);
        let rated = Unit { importance: Ppm::ONE, ..unit(now - 10, 0) };
        assert!((needs(&rated, now, 1.0) / at(10, 0) - 2.0).abs() < 1e-9);
        assert!(needs(&unit(now, 0), now, 1.0).is_finite());
    }
}
