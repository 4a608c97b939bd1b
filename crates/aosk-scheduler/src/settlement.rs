//! What happens when a call ends, and what its endpoint said with it.

use std::fmt::Debug;
use std::time::Duration;

use crate::error::Error;
use crate::pool::{Ended, Node};
use crate::provider::{Answer, Heard, RateLimit};
use crate::quota::Resource;
use crate::scheduler::{DispatchId, Flight, Reserved, Scheduler};
use crate::step::{Amounts, Settled, Used};

impl<K: Ord + Clone + Debug> Scheduler<K> {
    /// A call has ended, however it did, and used that much: frees its slot, settles its charge
    /// and gives back what it reserved and did not use. A second time changes nothing.
    ///
    /// # Errors
    /// [`Error::UnknownDispatch`] for a call that was never dispatched.
    pub fn charge(&mut self, id: DispatchId, used: impl Into<Used>) -> Result<Settled, Error> {
        let Some(flight) = self.land(id)? else {
            return Ok(Settled::Again);
        };
        let pool = &mut self.pools[flight.pool as usize];
        pool.provider.succeeded(pool.options.slots);
        Ok(self.settle(&flight, used.into(), 1))
    }

    /// A call that was dispatched is not made: whatever it reserved is given back, the request
    /// included, and its endpoint is neither better nor worse for it.
    ///
    /// # Errors
    /// [`Error::UnknownDispatch`] for a call that was never dispatched.
    pub fn withdraw(&mut self, id: DispatchId) -> Result<Settled, Error> {
        let Some(flight) = self.land(id)? else {
            return Ok(Settled::Again);
        };
        let used = Used { charge: crate::Units(0), amounts: Some(Amounts::default()) };
        Ok(self.settle(&flight, used, 0))
    }

    /// Whether a call in flight has reserved something of a quota: then it may use no more than it
    /// said.
    #[must_use]
    pub fn is_limited(&self, id: DispatchId) -> bool {
        let reserved = self.flights.get(&id).and_then(|flight| flight.reserved.as_ref());
        reserved.is_some_and(|it| !it.kin.is_empty() || it.marks.iter().any(Option::is_some))
    }

    /// A call was refused because its endpoint has too much to do (429, 529), and nothing was
    /// used: it is settled as one that used nothing, its pool takes half as many calls at once,
    /// and none before `until`. The depth is halved once for calls that were begun together, and
    /// grows by one when as many calls went well as are made at once.
    ///
    /// # Errors
    /// [`Error::UnknownDispatch`] for a call that was never dispatched.
    pub fn refused(&mut self, id: DispatchId, until: Duration) -> Result<Settled, Error> {
        let Some(flight) = self.land(id)? else {
            return Ok(Settled::Again);
        };
        let pool = &mut self.pools[flight.pool as usize];
        pool.provider.refused(id.0, self.dispatches);
        pool.pause(until);
        let used = Used { charge: crate::Units(0), amounts: Some(Amounts::default()) };
        Ok(self.settle(&flight, used, 1))
    }

    /// What the endpoint said of one of its limits in the answer to a call that is in flight:
    /// heard for all who use the pool, until the next answer. It can only tighten the pool's own
    /// quota. What calls in flight have reserved of which the endpoint has said nothing yet is added
    /// to it: they may still be on their way. An answer to a call that is older than one that was
    /// heard of may have counted the newer ones or not. To add them always left a quarter of an
    /// endpoint's limit unused where forty calls began together; so what was known before holds
    /// where that answer allows it.
    ///
    /// # Errors
    /// [`Error::UnknownDispatch`] for a call that is not in flight: its answer is old.
    pub fn hear(
        &mut self,
        id: DispatchId,
        resource: Resource,
        said: RateLimit,
        now: Duration,
    ) -> Result<Heard, Error> {
        self.now = self.now.max(crate::time::nanos(now));
        let flight = self.flights.get_mut(&id).ok_or(Error::UnknownDispatch(id))?;
        flight.is_heard = true;
        let number = flight.pool;
        let (mut unheard, mut newer) = (0_u64, 0_u64);
        for (other, flight) in self.flights.iter().filter(|(_, flight)| flight.pool == number) {
            let reserved = match resource {
                Resource::Input => flight.step.most.input.0,
                Resource::Output => flight.step.most.output.0,
                Resource::Requests | Resource::Money | Resource::Concurrency => 1,
            };
            if !flight.is_heard {
                unheard = unheard.saturating_add(reserved);
            } else if *other > id {
                newer = newer.saturating_add(reserved);
            }
        }
        let answer = Answer { to: id.0, unheard, newer };
        let pool = &mut self.pools[number as usize];
        let heard = pool.provider.hear(resource, said, answer, self.now);
        // It may have made room.
        pool.release(Node::Pool);
        Ok(heard)
    }

    fn land(&mut self, id: DispatchId) -> Result<Option<Flight>, Error> {
        if id.0 >= self.dispatches {
            return Err(Error::UnknownDispatch(id));
        }
        Ok(self.flights.remove(&id))
    }

    fn settle(&mut self, flight: &Flight, used: Used, requests: u64) -> Settled {
        let now = self.now;
        let pool = &mut self.pools[flight.pool as usize];
        let same = self.registry.processes.get(flight.process);
        let is_same = same.is_some_and(|process| process.admission == flight.admission);
        let actual = used.charge.min(pool.options.greatest);
        let ended = Ended { estimate: flight.step.estimate, actual, was_ahead: flight.was_ahead };
        pool.settle(flight.path, is_same.then_some(flight.path.flow), &ended);
        if let Some(reserved) = &flight.reserved {
            let most = flight.step.most;
            let amounts = used.amounts.unwrap_or(most);
            pool.provider.settle(&most, (requests, &amounts), &reserved.seen, now);
            let tenant = &mut self.registry.tenants[flight.tenant];
            let group = &mut self.registry.groups[flight.group];
            let meters = [pool.meter.as_mut(), tenant.meter.as_mut(), group.meter.as_mut()];
            for (meter, marks) in meters.into_iter().zip(&reserved.marks) {
                if let (Some(meter), Some(marks)) = (meter, marks) {
                    meter.settle(&most, (requests, &amounts), marks, now);
                }
            }
            for (kin, marks) in &reserved.kin {
                if let Some(meter) = &mut self.registry.kin.nodes[*kin].meter {
                    meter.settle(&most, (requests, &amounts), marks, now);
                }
            }
            self.reopen_way(flight, reserved);
            self.warn(flight.pool as usize, flight.process);
        }
        self.registry.kin.let_go(flight.kin, now);
        self.leave_group(flight.group);
        if used.charge > actual {
            return Settled::Implausible { said: used.charge, charged: actual };
        }
        Settled::Exactly
    }

    /// Lets those try again whom a quota on the way of the flight held back.
    fn reopen_way(&mut self, flight: &Flight, reserved: &Reserved) {
        let [_, tenant, group] = reserved.marks.each_ref().map(Option::is_some);
        self.pools[flight.pool as usize].release(Node::Pool);
        if tenant {
            self.reopen_tenant(flight.tenant);
        }
        if group {
            self.reopen_group(flight.group);
        }
        for (kin, _) in &reserved.kin {
            self.open_gate(*kin);
        }
    }
}
