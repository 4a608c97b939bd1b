//! How far counts are off, learnt from what endpoints report.
//!
//! A count never changes: the same text has the same size for ever, so sizes that were recorded
//! stay true. What is learnt goes into the room that plans keep instead. It rises at once to what
//! was observed, because the next prompt is likely to be as far off, and comes down by an eighth
//! of the distance with each call, because one short prompt proves little.
//!
//! Beside it there is slack for what the next prompt has that the last one had not. Where texts are
//! estimated that is other text, and stays. Where they are counted it is how an endpoint frames
//! messages, and that is known after a few calls: the slack then is by how much a prompt lately was above what
//! was known, and comes down like the ratio.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aosk_abi::{Ppm, Tokens};

/// A count that is the truth, in parts per million.
pub(crate) const EXACT: u64 = 1_000_000;

/// Ratios outside of these bounds come from something else than counting (an endpoint that cuts
/// the prompt, or puts one of its own in front) and count as the bound.
const RATIOS: RangeInclusive<u64> = 250_000..=4_000_000;

/// The share of the distance by which the ratio comes down: one part of so many.
const DESCENT: u64 = 8;

/// The ratio of truth to count, in parts per million, as far as it is known.
#[derive(Debug)]
pub(crate) struct Calibration {
    /// What is assumed of ordinary text before the first observation.
    first: u64,
    /// The least and the most that is added to the ratio: other text counts differently.
    slack: RangeInclusive<u64>,
    ratios: Mutex<Ratios>,
}

#[derive(Debug, Clone, Copy)]
struct Ratios {
    /// What is assumed of the text that was counted. It gives way to observations: by an eighth of
    /// the distance, and above `first` by half of it, or a single page in a rare script would keep a
    /// window half empty for a day.
    assumed: u64,
    /// What was observed; 0 before.
    learnt: u64,
    /// What is added, within [`Calibration::slack`].
    slack: u64,
}

impl Ratios {
    fn known(self) -> u64 {
        self.assumed.max(self.learnt)
    }
}

impl Calibration {
    /// Assumes the ratio `first` before an observation, with that slack at all times.
    pub const fn new(first: u64, slack: u64) -> Self {
        let ratios = Ratios { assumed: first, learnt: 0, slack };
        Self { first, slack: slack..=slack, ratios: Mutex::new(ratios) }
    }

    /// Assumes that counts are the truth but for what stands around texts: `frame` at first, then as
    /// much as is observed, and no less than `least`.
    pub const fn framed(frame: u64, least: u64) -> Self {
        let ratios = Ratios { assumed: EXACT, learnt: 0, slack: frame };
        Self { first: EXACT, slack: least..=frame, ratios: Mutex::new(ratios) }
    }

    fn lock(&self) -> MutexGuard<'_, Ratios> {
        // Numbers are whole at any time, so a panic elsewhere did not harm them.
        self.ratios.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ratio with three decimals.
    pub fn ratio(&self) -> String {
        let thousandths = self.lock().known() / 1_000;
        format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
    }

    /// The room that a count needs on top.
    pub fn room(&self) -> Ppm {
        let ratios = self.lock();
        let above = ratios.known().saturating_sub(EXACT) + ratios.slack;
        Ppm(u32::try_from(above).unwrap_or(u32::MAX))
    }

    /// Assumes at least that ratio until observations say otherwise.
    pub fn assume(&self, ratio: u64) {
        let mut ratios = self.lock();
        ratios.assumed = ratio.max(ratios.assumed);
    }

    /// Learns that a prompt counted as `counted` had `reported` tokens.
    pub fn observe(&self, counted: Tokens, reported: Tokens) {
        if counted == Tokens::ZERO {
            return;
        }
        let observed = u128::from(reported.0) * u128::from(EXACT) / u128::from(counted.0);
        let observed =
            u64::try_from(observed).unwrap_or(u64::MAX).clamp(*RATIOS.start(), *RATIOS.end());
        let mut ratios = self.lock();
        let rise = observed.saturating_sub(ratios.known().max(EXACT));
        let down = (ratios.slack - self.slack.start()).div_ceil(DESCENT);
        ratios.slack = (ratios.slack - down).max(rise.min(*self.slack.end()));
        let part = if ratios.assumed > self.first { 2 } else { DESCENT };
        ratios.assumed -= ratios.assumed.saturating_sub(observed) / part;
        ratios.learnt = match ratios.learnt.checked_sub(observed) {
            Some(above) => ratios.learnt - above / DESCENT,
            None => observed,
        };
    }
}
