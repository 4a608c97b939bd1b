//! An account: what a member of the tree was charged, as virtual time.
//!
//! Virtual time is the charge divided by the weight. An account keeps the plain sum of its charges
//! and computes its virtual time from the sum. Adding up quotients instead would round once a call
//! (at weight 978,356 a call of one unit is 1.07 and would count as 1), and the error would grow
//! for ever.

use crate::units::Units;

/// Virtual time: one unit at weight 1 is 2^20, so that one unit moves even the greatest weight.
/// 2^44 calls of the greatest size that [`Units`] can express would fit.
pub(crate) type VirtualTime = u128;

/// How many calls' worth of an advantage outlives sleep. A call in flight counts as sleep, so that
/// this is also the room for chance: of twelve processes that share four slots, one that was due
/// two thirds of a slot lost 2.2 % of its share with one call, 0.5 % with two.
pub(crate) const KEPT_CALLS: u128 = 2;

/// What so many units are worth at that weight.
pub(crate) fn virtual_time(charged: u128, weight: u64) -> VirtualTime {
    charged.saturating_mul(1 << 20) / u128::from(weight.max(1))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    weight: u32,
    /// Virtual time that it was given without a charge: where it came in, what it forfeited by
    /// sleeping, and what makes up for another weight. It wraps: only the sum with the charges has
    /// a meaning, and that is never below zero.
    base: VirtualTime,
    /// The queue's virtual time when it last stopped waiting.
    left: VirtualTime,
    /// The charges of its settled calls and the estimates of those in flight.
    charged: u128,
}

impl Account {
    /// Whoever is new starts where the queue is.
    pub(crate) const fn new(weight: u32, now: VirtualTime) -> Self {
        Self { weight, base: now, left: now, charged: 0 }
    }

    pub(crate) const fn weight(&self) -> u32 {
        self.weight
    }

    pub(crate) fn time(&self) -> VirtualTime {
        self.base.wrapping_add(virtual_time(self.charged, self.weight.into()))
    }

    /// By how many units it is behind the queue; below 0: ahead of it.
    pub(crate) fn lag(&self, now: VirtualTime) -> i64 {
        let time = self.time();
        let units = |ahead: VirtualTime| {
            let units = ahead.saturating_mul(self.weight.into()) >> 20;
            i64::try_from(units).unwrap_or(i64::MAX)
        };
        if now >= time { units(now - time) } else { -units(time - now) }
    }

    /// It waits again, for a call of that estimate. It has its debt as before; of what the queue
    /// advanced while it slept it keeps two such calls' worth as an advantage and forfeits the
    /// rest. What it was refunded is owed to it and stays.
    pub(crate) fn wake(&mut self, now: VirtualTime, estimate: Units, kept_calls: u128) {
        let kept = virtual_time(kept_calls * estimate.charged(), self.weight.into());
        let behind = now.saturating_sub(kept).saturating_sub(self.time());
        let slept = now.saturating_sub(self.left);
        self.base = self.base.wrapping_add(behind.min(slept));
    }

    /// It stops waiting.
    pub(crate) const fn sleep(&mut self, now: VirtualTime) {
        self.left = now;
    }

    pub(crate) fn charge(&mut self, estimate: Units) {
        self.charged = self.charged.saturating_add(estimate.charged());
    }

    /// A call that was charged `estimate` used `actual`.
    pub(crate) fn settle(&mut self, estimate: Units, actual: Units) {
        self.charged = self.charged.saturating_sub(estimate.charged());
        self.charge(actual);
    }

    /// Another weight from now on. It stays where it stands.
    pub(crate) fn reweigh(&mut self, weight: u32) {
        let stands = self.time();
        self.weight = weight;
        self.base = stands.wrapping_sub(virtual_time(self.charged, weight.into()));
    }
}
