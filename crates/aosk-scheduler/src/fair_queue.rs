//! A fair queue: one level of the tree.
//!
//! Each flow has a virtual time: what it was charged, divided by its weight. The waiting flow of
//! the smallest virtual time goes next, the smallest key among equals. The queue's own virtual
//! time is the greatest at which a flow was dispatched so far; it tells where a flow stands that
//! comes in or comes back.
//!
//! A flow keeps the plain sum of its charges, and its virtual time is computed from the sum. Adding
//! up quotients instead would round once a call (at weight 978,347 a call of one unit is 1.07 and
//! would count as 1), and the error would grow for ever.

use std::collections::{BTreeMap, BTreeSet};

use crate::units::Units;

/// Virtual time: one unit at weight 1 is 2^20, so that one unit moves even the greatest weight.
/// 2^44 calls of the greatest size that [`Units`] can express would fit.
type VirtualTime = u128;

/// How many calls' worth of an advantage outlives sleep. A call in flight counts as sleep, so that
/// this is also the room for chance: of twelve processes that share four slots, one that was due
/// two thirds of a slot lost 2.2 % of its share with one call, 0.5 % with two.
const KEPT_CALLS: u128 = 2;

fn virtual_time(charged: u128, weight: u32) -> VirtualTime {
    charged.saturating_mul(1 << 20) / u128::from(weight)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    weight: u32,
    /// Virtual time that it was given without a charge: where it came in, what it forfeited by
    /// sleeping, and what makes up for another weight. It wraps: only the sum with the charges has
    /// a meaning, and that is never below zero.
    base: VirtualTime,
    /// The queue's virtual time when it last stopped waiting.
    left: VirtualTime,
    /// The charges of its settled calls and the estimates of those in flight.
    charged: u128,
    waits: bool,
}

impl Flow {
    fn now(&self) -> VirtualTime {
        self.base.wrapping_add(virtual_time(self.charged, self.weight))
    }
}

/// Flows of keys `K` that share in proportion to their weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FairQueue<K> {
    now: VirtualTime,
    flows: BTreeMap<K, Flow>,
    waiting: BTreeSet<(VirtualTime, K)>,
}

impl<K> Default for FairQueue<K> {
    fn default() -> Self {
        Self { now: 0, flows: BTreeMap::new(), waiting: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> FairQueue<K> {
    /// The flow wants a call. A new flow starts where the queue is. One that comes back has its
    /// debt as before; of what the queue advanced while it slept it keeps two such calls' worth as
    /// an advantage and forfeits the rest. What it was refunded is owed to it and stays.
    pub(crate) fn wake(&mut self, key: &K, weight: u32, estimate: Units) {
        let now = self.now;
        let kept = virtual_time(KEPT_CALLS * estimate.charged(), weight);
        let flow = self.flows.entry(key.clone()).or_insert(Flow {
            weight,
            base: now,
            left: now,
            charged: 0,
            waits: false,
        });
        let behind = now.saturating_sub(kept).saturating_sub(flow.now());
        let slept = now.saturating_sub(flow.left);
        flow.base = flow.base.wrapping_add(behind.min(slept));
        flow.waits = true;
        self.waiting.insert((flow.now(), key.clone()));
    }

    /// The flow wants no call any more.
    pub(crate) fn withdraw(&mut self, key: &K) {
        if let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.waits) {
            flow.waits = false;
            flow.left = self.now;
            self.waiting.remove(&(flow.now(), key.clone()));
        }
    }

    /// Who goes next.
    pub(crate) fn first(&self) -> Option<&K> {
        self.waiting.first().map(|(_, key)| key)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The flow's call starts. It goes on waiting if it `wants_more`.
    pub(crate) fn dispatch(&mut self, key: &K, estimate: Units, wants_more: bool) {
        if let Some(flow) = self.flows.get_mut(key) {
            let start = flow.now();
            self.waiting.remove(&(start, key.clone()));
            self.now = self.now.max(start);
            flow.charged = flow.charged.saturating_add(estimate.charged());
            flow.waits = wants_more;
            flow.left = self.now;
            if wants_more {
                self.waiting.insert((flow.now(), key.clone()));
            }
        }
    }

    /// The flow's call, dispatched with `estimate`, has ended and used `actual`.
    pub(crate) fn settle(&mut self, key: &K, estimate: Units, actual: Units) {
        if let Some(flow) = self.flows.get_mut(key) {
            let before = flow.now();
            // The estimate is part of the sum since the dispatch.
            flow.charged = flow.charged.saturating_sub(estimate.charged());
            flow.charged = flow.charged.saturating_add(actual.charged());
            if flow.waits {
                self.waiting.remove(&(before, key.clone()));
                self.waiting.insert((flow.now(), key.clone()));
            }
        }
    }

    /// The flow has another weight from now on. It stays where it stands.
    pub(crate) fn reweigh(&mut self, key: &K, weight: u32) {
        if let Some(flow) = self.flows.get_mut(key) {
            let stands = flow.now();
            flow.weight = weight;
            flow.base = stands.wrapping_sub(virtual_time(flow.charged, weight));
        }
    }

    /// The flow is gone for good.
    pub(crate) fn forget(&mut self, key: &K) {
        self.withdraw(key);
        self.flows.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHT: u32 = 1 << 20;

    /// Serves calls of 10 units one at a time to the flows that always wait; gives the order.
    fn serve(queue: &mut FairQueue<u32>, calls: usize) -> Vec<u32> {
        (0..calls)
            .map(|_| {
                let key = *queue.first().expect("someone waits");
                queue.dispatch(&key, Units(10), true);
                queue.settle(&key, Units(10), Units(10));
                key
            })
            .collect()
    }

    #[test]
    fn a_flow_that_slept_is_ahead_by_two_calls_however_long_it_slept() {
        for calls in [1, 2, 3, 4, 1_000] {
            let mut queue = FairQueue::default();
            queue.wake(&1, WEIGHT, Units(10));
            queue.wake(&2, WEIGHT, Units(10));
            queue.withdraw(&2);
            serve(&mut queue, calls);
            queue.wake(&2, WEIGHT, Units(10));
            let next = serve(&mut queue, 6);
            let ahead = next.iter().take_while(|&&key| key == 2).count();
            // Its own turn, and two calls that it had left unused.
            assert_eq!(ahead, calls.min(3), "{next:?}");
        }
    }

    #[test]
    fn sleep_sheds_no_debt() {
        let mut queue = FairQueue::default();
        queue.wake(&1, WEIGHT, Units(10));
        queue.wake(&2, WEIGHT, Units(10));
        // Said to cost 10, it cost 100: the other flow has ten calls to catch up.
        queue.dispatch(&1, Units(10), false);
        queue.settle(&1, Units(10), Units(100));
        queue.wake(&1, WEIGHT, Units(10));
        queue.withdraw(&1);
        queue.wake(&1, WEIGHT, Units(10));
        let order = serve(&mut queue, 12);
        assert_eq!(order.iter().position(|&key| key == 1), Some(10), "{order:?}");
    }

    #[test]
    fn what_was_refunded_outlives_a_wish_that_was_taken_back() {
        let mut queue = FairQueue::default();
        queue.wake(&1, WEIGHT, Units(10));
        queue.dispatch(&1, Units(100), true);
        queue.wake(&2, WEIGHT, Units(10));
        serve(&mut queue, 10);
        queue.settle(&1, Units(100), Units(1));
        queue.withdraw(&1);
        queue.wake(&1, WEIGHT, Units(10));
        // Charged 1 unit where the other was charged 100: ten calls are owed to it.
        let ahead = serve(&mut queue, 12).iter().take_while(|&&key| key == 1).count();
        assert_eq!(ahead, 10);
    }

    #[test]
    fn the_queue_does_not_go_back_to_where_a_sleeper_stood() {
        let mut queue = FairQueue::default();
        queue.wake(&1, WEIGHT, Units(10));
        queue.wake(&3, WEIGHT, Units(10));
        queue.withdraw(&3);
        serve(&mut queue, 1_000);
        queue.wake(&3, WEIGHT, Units(10));
        assert_eq!(serve(&mut queue, 1), [3]);
        queue.wake(&2, WEIGHT, Units(10));
        assert_eq!(serve(&mut queue, 4), [3, 2, 3, 1], "the new flow starts behind the sleeper");
    }

    #[test]
    fn a_new_flow_gets_no_credit_for_the_time_before_it() {
        let mut queue = FairQueue::default();
        queue.wake(&1, WEIGHT, Units(10));
        serve(&mut queue, 1_000);
        queue.wake(&2, WEIGHT, Units(10));
        assert_eq!(serve(&mut queue, 4), [2, 1, 2, 1]);
    }

    #[test]
    fn rounding_does_not_add_up() {
        // Weights that divide nothing evenly; a million calls of the smallest charge.
        let (heavy, light) = (978_347, 326_116);
        let mut queue = FairQueue::default();
        queue.wake(&1, heavy, Units(1));
        queue.wake(&2, light, Units(1));
        let mut counts = [0_u64; 2];
        for _ in 0..1_000_000 {
            let key = *queue.first().expect("both wait");
            queue.dispatch(&key, Units(1), true);
            queue.settle(&key, Units(1), Units(1));
            counts[key as usize - 1] += 1;
        }
        let exact = 1e6 * f64::from(heavy) / f64::from(heavy + light);
        assert!((counts[0] as f64 - exact).abs() <= 2.0, "{counts:?}, not {exact}");
    }
}
