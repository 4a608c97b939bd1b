//! The queue of a group: which of its processes goes next.
//!
//! Every order is a rank in one heap, given when a process begins to wait, so that a decision looks
//! at the heap's root. What may go before the root is looked for in this order: who has waited too
//! long, a deadline, a slice that is not over, a warm cache. Each is bounded: the first to every
//! other decision, the others by the pool's window or the slice.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::{KEPT_CALLS, VirtualTime, virtual_time};
use crate::flow::{Flow, Slice};
use crate::heap::Heap;
use crate::order::{Order, PoolOptions};
use crate::slab::{NONE, Slab};
use crate::time::nanos;
use crate::units::Units;

/// How often a predicted size counts in [`Order::Fsp`]. Once is fair sharing itself. On a trace of
/// conversations at 95 % load three times gives 0.84 of the mean delay of first come, first served
/// and 1.57 of its 99th percentile; once gives 0.87 and 1.45, four times 0.83 and 1.60.
const SIZE_COUNTS: u128 = 3;

/// How many calls' worth of an advantage outlives sleep in [`Order::Fsp`]: none. With two, whoever
/// comes back from its tools goes before those who come in, which is first come, first served by
/// age: 0.95 of its mean delay in place of 0.84.
const FSP_KEEPS: u128 = 0;

/// How many flows near the root a warm cache is looked for in.
const AFFINITY_LOOKS_AT: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queue {
    waiting: Heap,
    /// Where a flow stands that comes in or comes back. In [`Order::Fsp`] it is the time of the
    /// processor sharing that is simulated, and advances by each charge over the weights of all
    /// who wait or fly; else the greatest at which a flow was dispatched.
    now: VirtualTime,
    /// The weights of all who wait or fly.
    active: u64,
    /// Flows that ever began to wait: first come, first served goes by it.
    arrivals: u64,
    /// The round of [`Order::RoundRobin`].
    round: u64,
    oldest: u32,
    /// Since when the oldest waits, kept here because every decision asks.
    oldest_since: u64,
    youngest: u32,
    deadlines: BTreeSet<(u64, u32)>,
    /// Flows that wait within their slice, by when they came.
    continuing: BTreeSet<(u64, u32)>,
    /// How many wait of each priority, where slices have more than one step.
    priorities: BTreeMap<u8, u32>,
    /// The last decision was by age.
    aged: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            waiting: Heap::default(),
            now: 0,
            active: 0,
            arrivals: 0,
            round: 0,
            oldest: NONE,
            oldest_since: 0,
            youngest: NONE,
            deadlines: BTreeSet::new(),
            continuing: BTreeSet::new(),
            priorities: BTreeMap::new(),
            aged: false,
        }
    }
}

impl Queue {
    pub(crate) const fn now(&self) -> VirtualTime {
        self.now
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The estimate of who is first by rank.
    pub(crate) fn estimate(&self, flows: &Slab<Flow>) -> Units {
        self.waiting.first().map_or(Units(0), |(_, id)| flows[id].step.estimate)
    }

    fn rank(&self, flow: &Flow, options: &PoolOptions) -> u128 {
        let arrival = u128::from(self.arrivals);
        match options.order {
            Order::Fair => flow.account.time(),
            Order::Fsp => {
                let size = SIZE_COUNTS.saturating_mul(flow.step.estimate.charged());
                let size = virtual_time(size, flow.account.weight().into());
                flow.account.time().saturating_add(size)
            }
            Order::Fifo => arrival,
            Order::RoundRobin => u128::from(flow.round) << 64 | arrival,
            Order::Priority => u128::from(flow.priority) << 64 | arrival,
        }
    }

    /// The flow waits for its step.
    pub(crate) fn wake(
        &mut self,
        flows: &mut Slab<Flow>,
        id: u32,
        now: u64,
        options: &PoolOptions,
    ) {
        let flow = &mut flows[id];
        if !flow.is_active() {
            self.active += u64::from(flow.account.weight());
        }
        let kept = if options.order == Order::Fsp { FSP_KEEPS } else { KEPT_CALLS };
        flow.account.wake(self.now, flow.step.estimate, kept);
        flow.waits = true;
        flow.since = now;
        flow.round = flow.round.max(self.round);
        self.arrivals += 1;
        if let Some(deadline) = flow.step.deadline.filter(|_| options.order.is_virtual()) {
            self.deadlines.insert((nanos(deadline), id));
        }
        if options.slice.steps > 1 {
            *self.priorities.entry(flow.priority).or_default() += 1;
            if flow.continues(now) {
                self.continuing.insert((self.arrivals, id));
                flow.slice.until = flow.slice.until.max(1);
            }
        }
        (flow.older, flow.younger) = (self.youngest, NONE);
        let (rank, older) = (self.rank(flow, options), self.youngest);
        match flows.get_mut(older) {
            Some(older) => older.younger = id,
            None => (self.oldest, self.oldest_since) = (id, now),
        }
        self.youngest = id;
        self.waiting.put(flows, id, rank);
    }

    /// The flow, if it waits, waits no more.
    pub(crate) fn leave(&mut self, flows: &mut Slab<Flow>, id: u32) {
        if !flows[id].waits {
            return;
        }
        self.waiting.remove(flows, id);
        let flow = &mut flows[id];
        flow.waits = false;
        flow.account.sleep(self.now);
        let (older, younger, priority) = (flow.older, flow.younger, flow.priority);
        if let Some(deadline) = flow.step.deadline {
            self.deadlines.remove(&(nanos(deadline), id));
        }
        if !flow.is_active() {
            self.active -= u64::from(flow.account.weight());
        }
        match flows.get_mut(older) {
            Some(older) => older.younger = younger,
            None => self.oldest = younger,
        }
        match flows.get_mut(younger) {
            Some(flow) => {
                flow.older = older;
                if self.oldest == younger {
                    self.oldest_since = flow.since;
                }
            }
            None => self.youngest = older,
        }
        if let Some(count) = self.priorities.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&priority);
            }
        }
        self.continuing.retain(|entry| entry.1 != id);
    }

    /// Who goes next.
    pub(crate) fn choose(
        &mut self,
        flows: &Slab<Flow>,
        now: u64,
        options: &PoolOptions,
    ) -> Option<u32> {
        let (least, first) = self.waiting.first()?;
        let is_aged = options.order.ages()
            && !self.aged
            && now.saturating_sub(self.oldest_since) >= nanos(options.aging);
        self.aged = is_aged;
        if is_aged {
            return Some(self.oldest);
        }
        let near = |id: u32, rank: u128| {
            let ahead = virtual_time(options.window.0.into(), flows[id].account.weight().into());
            rank <= least.saturating_add(ahead)
        };
        let has_window = options.order.is_virtual() && options.window > Units(0);
        if has_window && let Some(id) = self.urgent(flows, now, &near) {
            return Some(id);
        }
        if let Some(id) = self.continuing(flows, now) {
            return Some(id);
        }
        if !has_window {
            return Some(first);
        }
        let mut best = (0, first);
        self.waiting.visit(AFFINITY_LOOKS_AT, |rank, id| {
            let is_near = near(id, rank);
            let warm = flows[id].step.warm.filter(|warm| is_near && nanos(warm.until) > now);
            if let Some(warm) = warm.filter(|warm| warm.tokens.0 > best.0) {
                best = (warm.tokens.0, id);
            }
            is_near
        });
        Some(best.1)
    }

    /// The earliest deadline that has not passed, if its flow stands near.
    fn urgent(
        &mut self,
        flows: &Slab<Flow>,
        now: u64,
        near: &impl Fn(u32, u128) -> bool,
    ) -> Option<u32> {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline >= now {
                let rank = self.waiting.rank(flows.seat(id))?;
                return near(id, rank).then_some(id);
            }
            self.deadlines.pop_first();
        }
        None
    }

    /// The first flow that waits within its slice. A more important one that waits ends the slice.
    fn continuing(&mut self, flows: &Slab<Flow>, now: u64) -> Option<u32> {
        let most_important = self.priorities.first_key_value().map(|(priority, _)| *priority);
        while let Some(&(_, id)) = self.continuing.first() {
            let flow = &flows[id];
            if flow.continues(now) && most_important == Some(flow.priority) {
                return Some(id);
            }
            self.continuing.pop_first();
        }
        None
    }

    /// The call that the flow waits for starts.
    pub(crate) fn dispatch(
        &mut self,
        flows: &mut Slab<Flow>,
        id: u32,
        now: u64,
        options: &PoolOptions,
    ) {
        let continues = self.continuing.iter().any(|entry| entry.1 == id);
        let flow = &mut flows[id];
        let estimate = flow.step.estimate;
        let (start, active) = (flow.account.time(), self.active);
        flow.flying += 1;
        self.round = self.round.max(flow.round);
        flow.round = self.round + 1;
        if options.slice.steps > 1 {
            if !(continues && flow.continues(now)) {
                let until = now.saturating_add(nanos(options.slice.time));
                flow.slice = Slice { steps: options.slice.steps, until };
            }
            flow.slice.steps -= 1;
        }
        self.now = match options.order {
            Order::Fsp => self.now.saturating_add(virtual_time(estimate.charged(), active)),
            _ => self.now.max(start),
        };
        self.leave(flows, id);
        flows[id].account.charge(estimate);
    }

    /// A call of the flow ended.
    pub(crate) fn settle(
        &mut self,
        flows: &mut Slab<Flow>,
        id: u32,
        (estimate, actual): (Units, Units),
        options: &PoolOptions,
    ) {
        let before = self.active;
        let flow = &mut flows[id];
        flow.account.settle(estimate, actual);
        flow.flying -= 1;
        if !flow.is_active() {
            self.active -= u64::from(flow.account.weight());
        }
        if options.order == Order::Fsp {
            // What it used beyond the estimate was served too; what it did not is not taken back,
            // for time never goes back.
            let more = actual.charged().saturating_sub(estimate.charged());
            self.now = self.now.saturating_add(virtual_time(more, before));
        }
        self.follow(flows, id, options);
    }

    /// Puts a flow that waits where its account says.
    fn follow(&mut self, flows: &mut Slab<Flow>, id: u32, options: &PoolOptions) {
        if flows[id].waits && options.order.is_virtual() {
            let rank = self.rank(&flows[id], options);
            self.waiting.put(flows, id, rank);
        }
    }

    /// The flow has another priority and weight from now on, also for what it waits for.
    pub(crate) fn reweigh(
        &mut self,
        flows: &mut Slab<Flow>,
        id: u32,
        (priority, weight): (u8, u32),
        options: &PoolOptions,
    ) {
        let flow = &mut flows[id];
        if flow.is_active() {
            self.active += u64::from(weight);
            self.active -= u64::from(flow.account.weight());
        }
        if flow.waits && !self.priorities.is_empty() {
            if let Some(count) = self.priorities.get_mut(&flow.priority) {
                *count -= 1;
            }
            self.priorities.retain(|_, count| *count > 0);
            *self.priorities.entry(priority).or_default() += 1;
        }
        flow.account.reweigh(weight);
        let is_other = std::mem::replace(&mut flow.priority, priority) != priority;
        if flow.waits && is_other && options.order == Order::Priority {
            // Behind those who were as important before it.
            self.arrivals += 1;
            let rank = self.rank(&flows[id], options);
            self.waiting.put(flows, id, rank);
        }
        self.follow(flows, id, options);
    }

    /// The flow is gone for good.
    pub(crate) fn forget(&mut self, flows: &mut Slab<Flow>, id: u32) {
        self.leave(flows, id);
        if flows[id].is_active() {
            self.active -= u64::from(flows[id].account.weight());
        }
        flows.remove(id);
    }
}
