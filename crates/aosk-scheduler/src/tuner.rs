//! Which setting of a pool's [`Knobs`] serves it best: a bandit.
//!
//! It is UCB1 (Auer, Cesa-Bianchi, Fischer, *Finite-time analysis of the multiarmed bandit problem*,
//! Machine Learning 47, 2002) over a few settings that differ from the pool's own in one knob each: few,
//! because each has to be tried, and one knob each, because then a choice can be explained. A setting
//! stays for [`EPOCH`] calls. What it is worth is how little of their time these spent waiting: the
//! mean over its calls of *alone / (waited + took)*, where *alone* is what the call would have taken at
//! the best pace that the pool ever had. A call's wait counts against its own length, so that the short
//! ones are heard as loudly as the long ones; and to hold calls back pays only where the others become
//! as much faster.
//!
//! That last setting is dear to try: on a trace of conversations at 95 % load, where no call becomes
//! faster by it, trying it made the mean delay 5.4 s in place of 3.6 s, because what it leaves waiting
//! outlasts its epoch. So it is not tried before some epoch was slower than the best one by as much as
//! it would have to gain: an endpoint that never slows down gains nothing from fewer calls.
//!
//! All numbers are integers, and the order in which settings are tried first comes from a seed: the
//! same calls give the same choices on every machine.

use std::time::Duration;

use crate::knobs::Knobs;
use crate::lengths::Guess;
use crate::order::PoolOptions;
use crate::units::Units;

/// How many calls a setting stays for. The calls of one end behind the next one's beginning, and what
/// waits was left by the one before: with fewer than some times the calls in flight a setting would be
/// judged by its neighbours.
pub const EPOCH: u64 = 128;

/// How far a value that is less certain may be above its mean, in thousandths at one try. Rewards of
/// whole settings differ by hundredths, so UCB1's own, which is made for rewards of 0 and 1, would
/// try the worst of them for thousands of epochs.
const DOUBT_MILLI: u64 = 60;

/// After as many epochs all of them count half: loads change.
const REMEMBERED: u64 = 512;

/// The share of a pool's slots that the setting with fewer of them gives, in percent.
const FEWER_PERCENT: u8 = 87;

/// A call as it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// From the wish to its beginning.
    pub waited: Duration,
    /// From its beginning to its end.
    pub took: Duration,
    /// What it was charged.
    pub charge: Units,
}

/// A setting that was chosen, and what the one before was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The setting from now on.
    pub knobs: Knobs,
    /// What the setting was worth that ended with this choice, in thousandths: 1,000 where no call
    /// waited.
    pub worth_milli: u64,
    /// How many epochs have ended.
    pub epochs: u64,
}

/// Chooses among settings of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuner {
    arms: Vec<Arm>,
    now: usize,
    /// The best pace of an epoch and the worst: nanoseconds over units.
    paces: Option<(Pace, Pace)>,
    epoch: Epoch,
    epochs: u64,
}

type Pace = (u128, u128);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Arm {
    knobs: Knobs,
    tries: u64,
    /// Of all tries, in thousandths.
    worth: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Epoch {
    calls: u64,
    took: u128,
    charged: u128,
    /// Units over milliseconds of waiting and serving, in 2⁻³², summed over calls.
    speed: u128,
}

impl Tuner {
    /// A tuner for a pool with these options, which are the ends of its ranges; `base` is the setting
    /// that it begins with and departs from by one knob at a time.
    #[must_use]
    pub fn new(options: &PoolOptions, base: Knobs, seed: u64) -> Self {
        let mut others = vec![
            Knobs { depth_percent: FEWER_PERCENT, ..base },
            Knobs { window: Units(0), ..base },
            Knobs { window: Units(base.window.0 / 4), ..base },
            Knobs { aging: base.aging / 2, ..base },
            Knobs { aging: options.aging, ..base },
            Knobs { guess: Guess::Median, ..base },
            Knobs { guess: Guess::Ninetieth, ..base },
        ];
        // What makes no difference is not tried, such as a window where there is none.
        let mut knobs = vec![base];
        let rotated = seed % others.len() as u64;
        others.rotate_left(usize::try_from(rotated).unwrap_or(0));
        for other in others {
            if other.check(options).is_ok() && !knobs.contains(&other) {
                knobs.push(other);
            }
        }
        let arms = knobs.into_iter().map(|knobs| Arm { knobs, tries: 0, worth: 0 }).collect();
        Self { arms, now: 0, paces: None, epoch: Epoch::default(), epochs: 0 }
    }

    /// The setting that holds.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        self.arms[self.now].knobs
    }

    /// A call has ended. Where that ends an epoch it answers with the setting that holds from now on,
    /// the same one included. O(settings).
    pub fn see(&mut self, call: &Ended) -> Option<Choice> {
        let all = call.waited.saturating_add(call.took).as_nanos().max(1);
        let epoch = &mut self.epoch;
        epoch.calls += 1;
        epoch.took = epoch.took.saturating_add(call.took.as_nanos().max(1));
        epoch.charged = epoch.charged.saturating_add(call.charge.charged());
        epoch.speed = epoch.speed.saturating_add((call.charge.charged() << 32) * 1_000_000 / all);
        if epoch.calls < EPOCH {
            return None;
        }
        let epoch = std::mem::take(&mut self.epoch);
        let pace = (epoch.took, epoch.charged);
        let (best, worst) = self.paces.unwrap_or((pace, pace));
        let best = if is_faster(pace, best) { pace } else { best };
        let worst = if is_faster(worst, pace) { pace } else { worst };
        self.paces = Some((best, worst));
        let worth_milli = epoch.worth_milli(best);
        self.learn(worth_milli);
        self.now = self.choose();
        Some(Choice { knobs: self.knobs(), worth_milli, epochs: self.epochs })
    }

    fn learn(&mut self, worth_milli: u64) {
        self.epochs += 1;
        let arm = &mut self.arms[self.now];
        arm.tries += 1;
        arm.worth += worth_milli;
        if self.arms.iter().map(|arm| arm.tries).sum::<u64>() >= REMEMBERED {
            for arm in self.arms.iter_mut().filter(|arm| arm.tries > 1) {
                arm.tries /= 2;
                arm.worth /= 2;
            }
        }
    }

    /// Whether a setting can pay: one that holds calls back only where the endpoint was seen to slow
    /// down by as much.
    fn can_pay(&self, arm: &Arm) -> bool {
        let (whole, given) = (self.arms[0].knobs.depth_percent, arm.knobs.depth_percent);
        given >= whole
            || self.paces.is_some_and(|(best, worst)| {
                let slowed = (worst.0.saturating_mul(given.into()), worst.1);
                is_faster((best.0.saturating_mul(whole.into()), best.1), slowed)
            })
    }

    /// The first that was never tried; else the one that may be worth most.
    fn choose(&self) -> usize {
        let pays: Vec<bool> = self.arms.iter().map(|arm| self.can_pay(arm)).collect();
        if let Some(untried) = (0..pays.len()).find(|at| pays[*at] && self.arms[*at].tries == 0) {
            return untried;
        }
        let all: u64 = self.arms.iter().map(|arm| arm.tries).sum();
        // ln of all, in thousandths, to the next lower power of two.
        let ln_milli = u64::from(all.ilog2()) * 693;
        let most = |arm: &Arm| {
            // The square root of 2·ln(all)/tries, in thousandths.
            let doubt = (2_000 * ln_milli / arm.tries).isqrt();
            arm.worth * 1_000 / arm.tries + DOUBT_MILLI * doubt
        };
        let tried = self.arms.iter().enumerate().filter(|(at, arm)| pays[*at] && arm.tries > 0);
        let ranked = tried.map(|(at, arm)| (at, most(arm)));
        // Of equals the first, which is nearest to how the pool was set up.
        ranked.rev().max_by_key(|(_, most)| *most).map_or(0, |(index, _)| index)
    }
}

impl Epoch {
    /// The mean over its calls of the time at that pace over the time that it took with its wait.
    fn worth_milli(&self, (took, charged): Pace) -> u64 {
        // Nanoseconds a unit, times units a millisecond in 2⁻³².
        let pace = took.saturating_mul(1_000) / charged.max(1);
        let sum = (self.speed.saturating_mul(pace) / 1_000_000) >> 32;
        let mean = sum / u128::from(self.calls.max(1));
        u64::try_from(mean).unwrap_or(u64::MAX).min(1_000)
    }
}

/// Whether nanoseconds over units are fewer.
fn is_faster(one: Pace, other: Pace) -> bool {
    one.0.saturating_mul(other.1) < other.0.saturating_mul(one.1)
}
