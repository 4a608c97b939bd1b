//! Slots: a place in a device, with what its call has reserved.

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{MicroDollars, Usage};
use aosk_ports::RateLimits;
use aosk_scheduler::{Amounts, Dispatch, DispatchId, Ended, Heard, PoolId, Resource, Units, Used};

use super::{Ask, Dispatcher, Purse};

/// A place in a device: one call may be in flight.
pub(crate) struct Slot {
    dispatcher: Arc<Dispatcher>,
    id: DispatchId,
    pool: PoolId,
    ask: Option<Ask>,
    /// How long it was waited for.
    waited: Duration,
    /// When it was given.
    since: Duration,
    end: End,
}

/// How the call of a slot ended.
enum End {
    /// Nobody knows what it used: all that it reserved.
    Unknown,
    /// It used that.
    Used(Usage, MicroDollars),
    /// It was never made.
    Withdrawn,
    /// It was never made: of that budget no more than that is left.
    Unpaid(Purse, MicroDollars),
    /// Its endpoint has too much to do, and nothing was used.
    Refused(Duration),
}

impl Slot {
    pub(super) fn new(
        dispatcher: Arc<Dispatcher>,
        dispatch: &Dispatch<aosk_abi::Pid>,
        ask: Ask,
        wished: Duration,
    ) -> Self {
        let mut slot = Self::unwanted(dispatcher, dispatch);
        slot.waited = slot.since.saturating_sub(wished);
        (slot.ask, slot.end) = (Some(ask), End::Unknown);
        slot
    }

    /// One that nobody waits for any more.
    pub(super) fn unwanted(
        dispatcher: Arc<Dispatcher>,
        dispatch: &Dispatch<aosk_abi::Pid>,
    ) -> Self {
        let (since, waited) = (dispatcher.clock.monotonic(), Duration::ZERO);
        let (id, pool) = (dispatch.id, dispatch.pool);
        Self { dispatcher, id, pool, ask: None, waited, since, end: End::Withdrawn }
    }

    /// Whether the call may be made that takes so much at most: a quota is never passed, and what
    /// nobody limits is not counted.
    pub(crate) fn covers(&self, most: &Amounts) -> bool {
        let reserved = self.ask.map(|ask| ask.most).unwrap_or_default();
        let fits = most.input <= reserved.input
            && most.output <= reserved.output
            && most.money <= reserved.money;
        fits || !self.dispatcher.lock().scheduler.is_limited(self.id)
    }

    /// What hears the endpoint's limits while the call is in flight.
    pub(crate) fn ear(&self) -> Ear {
        Ear { dispatcher: self.dispatcher.clone(), id: self.id, pool: self.pool }
    }

    /// The call ended and used that much; where that is not known, all that it reserved.
    pub(crate) fn settle(mut self, used: Option<(Usage, MicroDollars)>) {
        if let Some((usage, cost)) = used {
            self.end = End::Used(usage, cost);
        }
    }

    /// The call is not made.
    pub(crate) fn withdraw(mut self) {
        self.end = End::Withdrawn;
    }

    /// The call is not made: others have spent of a budget, of which so much is left. What the call
    /// had reserved comes back and what is left is known at once, before anybody is picked: who was
    /// picked in between would only find the same.
    pub(crate) fn unpaid(mut self, purse: Purse, left: MicroDollars) {
        self.end = End::Unpaid(purse, left);
    }

    /// The endpoint has too much to do and used nothing: nobody asks it for that long, and then
    /// fewer at once.
    pub(crate) fn refused(mut self, wait: Duration) {
        self.end = End::Refused(wait);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let now = self.dispatcher.clock.monotonic();
        {
            let mut queue = self.dispatcher.lock();
            let queue = &mut *queue;
            if matches!(self.end, End::Used(..) | End::Refused(_)) {
                queue.hears(self.pool);
            }
            // A slot is dropped once, so each is known and in flight.
            drop(match &self.end {
                End::Unknown => {
                    let most = self.ask.map(|ask| ask.most).unwrap_or_default();
                    let charge = Units(most.input.0.saturating_add(most.output.0));
                    queue.scheduler.charge(self.id, Used { charge, amounts: None })
                }
                End::Used(usage, cost) => {
                    let took = now.saturating_sub(self.since);
                    let name = &queue.names[self.pool.index()];
                    if let Some(device) = queue.devices.get_mut(name) {
                        device.outputs.see(usage.output.0);
                        device.given.add(usage, *cost, took, now);
                    }
                    let amounts =
                        Amounts { input: usage.input, output: usage.output, money: *cost };
                    let charge = Units(usage.input.0.saturating_add(usage.output.0));
                    queue.sees(self.pool, &Ended { waited: self.waited, took, charge });
                    queue.scheduler.charge(self.id, Used { charge, amounts: Some(amounts) })
                }
                End::Withdrawn => queue.scheduler.withdraw(self.id),
                End::Unpaid(purse, left) => {
                    let settled = queue.scheduler.withdraw(self.id);
                    queue.leave(purse, *left, now);
                    settled
                }
                End::Refused(wait) => {
                    let name = &queue.names[self.pool.index()];
                    if let Some(device) = queue.devices.get_mut(name) {
                        device.given.refused += 1;
                    }
                    queue.scheduler.refused(self.id, now.saturating_add(*wait))
                }
            });
        }
        self.dispatcher.pump();
    }
}

/// Hears what an endpoint says of its limits in the answer to a call.
pub(crate) struct Ear {
    dispatcher: Arc<Dispatcher>,
    id: DispatchId,
    pool: PoolId,
}

impl Ear {
    /// Takes it in for all who use the device. What makes no sense changes nothing.
    pub(crate) fn hear(&self, limits: &RateLimits) {
        let now = self.dispatcher.clock.monotonic();
        let said = [
            (Resource::Requests, limits.requests),
            (Resource::Input, limits.input),
            (Resource::Output, limits.output),
        ];
        let mut changed = false;
        for (resource, said) in said {
            let said = aosk_scheduler::RateLimit {
                limit: said.limit,
                remaining: said.remaining,
                resets_in: said.resets_in,
            };
            if said == aosk_scheduler::RateLimit::default() {
                continue;
            }
            let heard = self.dispatcher.lock().scheduler.hear(self.id, resource, said, now);
            match heard {
                Ok(Heard::Ignored(why)) => {
                    tracing::debug!(?resource, ?said, ?why, "a limit of an endpoint is ignored");
                }
                Ok(Heard::Taken | Heard::Whole) => changed = true,
                // The call has ended meanwhile: its answer is old.
                Err(_) => {}
            }
        }
        if changed {
            self.dispatcher.lock().hears(self.pool);
            self.dispatcher.pump();
        }
    }
}
