//! The chance that a unit is needed.
//!
//! Over recorded runs of a coding agent the chance that a page is needed at a step falls as one over
//! its age (a tool's result: 3.4 % at an age of one or two steps, 0.6 % at 7 to 14, 0.14 % at 31 to
//! 62) and is three to nine times higher once it was needed before. That is a Poisson process in
//! the logarithm of the age: needs come evenly over each doubling of it. With a gamma prior on its
//! rate, `n` needs so far make the expected rate proportional to `n + 1/4`: needed once, a page is
//! five times as likely to be needed again, twice nine times. Over the next `t` steps
//! `rate x ln(1 + t / age)` needs are to be expected.

use aosk_abi::Admission;

use super::Unit;
use crate::terms::tokens;

/// The expected needs for each need so far, while the age grows e-fold: a quarter of it is the 4 %
/// that the table above has for a page that was never needed.
const RATE: f64 = 0.16;
/// What a page that was never needed counts as, in needs.
const PRIOR: f64 = 0.25;

/// By how much the size of a page counts beyond the room that it takes, as an exponent, and the
/// size at which it does not. Pages of long results are needed a little less often each.
const SIZE: (f64, f64) = (-0.2, 500.0);

/// How often `unit` is expected to be needed within the next `steps` turns.
pub(super) fn needs(unit: &Unit, now: u32, steps: f64) -> f64 {
    // What came with the plan before is one step old at the next; half a step keeps what is
    // planned for at once from being infinitely new.
    let age = f64::from(now.saturating_sub(unit.born)).max(0.5);
    let rate = RATE * (f64::from(unit.accesses) + PRIOR);
    let rated = f64::from(unit.importance.0) / f64::from(Admission::DEFAULT_IMPORTANCE.0);
    let (exponent, size) = SIZE;
    let long = (tokens(unit.tokens).max(1.0) / size).powf(exponent);
    rate * rated * long * (steps / age).ln_1p()
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
    fn needs_follow_age_accesses_and_importance() {
        let now = 100;
        let at = |age, accesses| needs(&unit(now - age, accesses), now, 1.0);
        // One over the age: ten times as old, about a tenth.
        let ratio = at(5, 0) / at(50, 0);
        assert!((8.0..=11.0).contains(&ratio), "{ratio}");
        assert!((at(10, 1) / at(10, 0) - 5.0).abs() < 1e-9);
        assert!((at(10, 2) / at(10, 0) - 9.0).abs() < 1e-9);
        // Of the table: 0.6 % a step at an age of 7 to 14, needed before or not.
        assert!((0.003..0.006).contains(&at(10, 0)), "{}", at(10, 0));
        let rated = Unit { importance: Ppm::ONE, ..unit(90, 0) };
        assert!((needs(&rated, now, 1.0) / at(10, 0) - 2.0).abs() < 1e-9);
        assert!(needs(&unit(now, 0), now, 1.0).is_finite());
    }
}
