//! What may be tuned while a pool runs, and how far.
//!
//! Every knob only tightens what the pool was set up with. The bounds of
//! [`Scheduler`](crate::Scheduler) are stated in the pool's own slots *D*, greatest estimate *U*,
//! window *d* and aging, and each of them grows with these: fewer calls in flight, a smaller window
//! and an earlier aging are particular runs of the pool as it was set up, and so is every sequence of
//! them. In detail:
//!
//! - **Depth.** The proofs use that at most *D* calls are in flight. Fewer are. At least one is let
//!   through, so nobody waits for ever.
//! - **Window.** The proofs use that who is dispatched is at most *d* units ahead of the least. With a
//!   smaller window it is less.
//! - **Aging.** A step that has waited the pool's aging has also waited a shorter one, and so have those
//!   who came before it: every other decision is the oldest's from then on.
//! - **Estimates.** The proofs hold for any estimates up to *U*; settlement takes an error back when the
//!   call ends. Each [`Guess`] is one of lengths that were seen, to which settlement's bound applies.
//!
//! Quotas, budgets, weights and the system's share have no knob at all: they are promises, not
//! settings.

use std::time::Duration;

use crate::error::Error;
use crate::lengths::Guess;
use crate::order::PoolOptions;
use crate::units::Units;

/// A setting of what may be tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Knobs {
    /// How many of its slots the pool is given, in percent: 1 to 100. It is given one at least.
    pub depth_percent: u8,
    /// How far a step may run ahead of its turn: up to the pool's window.
    pub window: Units,
    /// After which wait a step goes next at least every other time: up to the pool's aging.
    pub aging: Duration,
    /// By what estimates are made. Whoever makes them reads it here.
    pub guess: Guess,
}

impl Knobs {
    /// Everything as the pool was set up.
    #[must_use]
    pub const fn of(options: &PoolOptions) -> Self {
        Self {
            depth_percent: 100,
            window: options.window,
            aging: options.aging,
            guess: Guess::Mean,
        }
    }

    /// Whether the bounds of a pool with these options hold.
    ///
    /// # Errors
    /// [`Error::Knob`] for the first that is out of range.
    pub fn check(&self, options: &PoolOptions) -> Result<(), Error> {
        let Self { depth_percent, window, aging, guess: _ } = *self;
        if !(1..=100).contains(&depth_percent) {
            let value = depth_percent.to_string();
            return Err(Error::Knob { knob: "depth_percent", value, range: "1 to 100".to_owned() });
        }
        if window > options.window {
            let (value, range) = (window.0.to_string(), format!("0 to {}", options.window.0));
            return Err(Error::Knob { knob: "window", value, range });
        }
        if aging > options.aging {
            let (value, range) = (format!("{aging:?}"), format!("up to {:?}", options.aging));
            return Err(Error::Knob { knob: "aging", value, range });
        }
        Ok(())
    }

    /// How many of that many slots are given.
    pub(crate) fn depth(&self, slots: usize) -> usize {
        let given = slots as u128 * u128::from(self.depth_percent) / 100;
        usize::try_from(given).unwrap_or(slots).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_knob_below_at_and_above_its_range() {
        let options = PoolOptions { window: Units(100), ..PoolOptions::new(8) };
        let whole = Knobs::of(&options);
        let (at, above) = (options.aging, options.aging + Duration::from_nanos(1));
        for (knobs, is_in) in [
            (whole, true),
            (Knobs { depth_percent: 0, ..whole }, false),
            (Knobs { depth_percent: 1, ..whole }, true),
            (Knobs { depth_percent: 101, ..whole }, false),
            (Knobs { window: Units(0), ..whole }, true),
            (Knobs { window: Units(101), ..whole }, false),
            (Knobs { aging: Duration::ZERO, ..whole }, true),
            (Knobs { aging: at, ..whole }, true),
            (Knobs { aging: above, ..whole }, false),
            (Knobs { guess: Guess::Ninetieth, ..whole }, true),
        ] {
            assert_eq!(knobs.check(&options).is_ok(), is_in, "{knobs:?}");
        }
        let depth = |percent| Knobs { depth_percent: percent, ..whole }.depth(8);
        assert_eq!([depth(1), depth(12), depth(25), depth(87), depth(100)], [1, 1, 2, 6, 8]);
    }
}
