//! The scheduler: processes, pools and calls in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use aosk_abi::{Priority, Tenant};

use crate::account::Account;
use crate::error::Error;
use crate::flow::Flow;
use crate::knobs::Knobs;
use crate::order::PoolOptions;
use crate::pool::{Class, Load, Node, Path, Pool, PoolId};
use crate::provider::Seen;
use crate::quota::{Marks, Short};
use crate::registry::{Place, Registry};
use crate::slab::NONE;
use crate::step::Step;
use crate::time::{duration, nanos};
use crate::warning::Warning;
use crate::weight::Weight;

/// A call that was dispatched. Numbers are never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DispatchId(pub(crate) u64);

/// The decision that a process makes its call now. It holds a slot until it is
/// [charged](Scheduler::charge).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a dispatch holds a slot until it is charged"]
pub struct Dispatch<K> {
    /// The call.
    pub id: DispatchId,
    /// The process.
    pub key: K,
    /// Where it calls.
    pub pool: PoolId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) pool: u32,
    pub(crate) path: Path,
    pub(crate) process: u32,
    pub(crate) admission: u64,
    pub(crate) tenant: u32,
    pub(crate) group: u32,
    /// The nearest quota of its kin when it began, which it holds.
    pub(crate) kin: u32,
    pub(crate) step: Step,
    pub(crate) was_ahead: bool,
    /// Its endpoint has said something of its limits in answer to it, so it has arrived there.
    pub(crate) is_heard: bool,
    /// What was reserved on the way, where there is any quota.
    pub(crate) reserved: Option<Box<Reserved>>,
}

/// Marks of the pool, the tenant, the group, the process and its ancestors, and of the provider's
/// views.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reserved {
    pub(crate) marks: [Option<Marks>; 3],
    pub(crate) kin: Vec<(u32, Marks)>,
    pub(crate) seen: Seen,
}

/// Who on a call's way has no room for it.
enum Full {
    /// A node of the pool's tree.
    Node(Node, Short),
    /// A quota of its process's kin.
    Kin(u32),
}

/// Start-time fair queueing over tenants, their groups and their processes, for each pool.
///
/// # Bounds
///
/// Let *D* be the pool's slots, *U* the greatest estimate or charge of a call in units (a call
/// that used nothing counts as 1), and *w* the weights: as set for tenants and groups, that of the
/// priority for processes. Each bound holds between tenants, between the groups of one tenant and,
/// where the order is [`Order::Fair`](crate::Order::Fair), between the processes of one group, up
/// to one unit a flow for rounding. Errors of the levels add up, and a process's share is the
/// product of the shares on its way. A quota that holds somebody back is a break in its waiting.
///
/// **Service difference.** Let *f* and *g* wait without a break from an instant at which they
/// stood equal and had no call in flight; who wakes again before the next decision has made no
/// break. What they were charged since, *S*, differs at every later instant by at most
///
/// > *S_f/w_f − S_g/w_g ≤ D·U·(1/w_f + 1/w_g)*
///
/// Proof: when *f* was last dispatched, its virtual time was not above that of *g*. Adding what
/// its calls in flight may still be charged raises it by at most *D·U/w_f*, the new call
/// included, and nothing can raise it further until the next dispatch. The virtual time of *g*
/// is at most *D·U/w_g* above what *g* was charged, by the estimates of its calls in flight.
///
/// Where every estimate is the most that a call can use, *f* is charged no more than it was at its
/// last dispatch, and the first term is *U/w_f*. Between the processes of a group a window of *d*
/// units and slices of *s* steps add *(d + (s − 1)·U)/w_f*: so far ahead of *g* may *f* be when it
/// is dispatched.
///
/// **Shares.** Where all flows wait without a break, weights sum to *W* and the total charged is
/// *T*, the share of *f* is off by at most *D·U·(1/w_f + 1/w_min)·W/T* of itself: the average of
/// the differences above. It falls with time, however wrong the estimates are.
///
/// **No starvation.** Let a process *f* that makes one call at a time wait, and let *n* siblings
/// of weights summing to *W*, also with one call at a time, be dispatched meanwhile. What these
/// calls are charged is at most
///
/// > *X = U·(W/w_f + 3·n)*
///
/// Proof: *f* wakes at most *U/w_f* above the queue's virtual time *V*. A waiting sibling *g* is
/// at most *2·U/w_g* below *V*, because *V* passes nobody who waits, and who sleeps keeps at most
/// two calls' worth of what *V* advances. It is dispatched only while it is not above *f*: all its
/// calls but the last add up to at most *w_g·U/w_f + 2·U*, and the last one is at most *U*.
///
/// With *m* other tenants dispatched meanwhile, all these calls together are charged at most
///
/// > *(m + 1)·X + m·(5·D + 3)·U*
///
/// because a tenant makes up to *D* calls at once, and what is in flight may be mistaken by *U* a
/// call: when *f* wakes (its tenant is up to *D·U* above *V*, another up to *(D + 2)·U* below),
/// while it waits (its tenant rises by up to *2·D·U* more) and when it is dispatched (*D·U*).
///
/// In [`Order::Fsp`](crate::Order::Fsp) and [`Order::Priority`](crate::Order::Priority) a step that
/// has waited the pool's aging, while *q* who came before it still wait in its group, goes within
/// the next *2·(q + 1)* decisions of its group: every other one is the oldest's. First come, first
/// served lets those *q* go before it, and round robin each of the others once.
///
/// **The system's share.** While others wait, calls of the class
/// [`System`](crate::Class::System) are charged at most a fifth of all, and one call more for each
/// of the *D* that may be in flight and underestimated: each is paid in advance from a quarter of
/// what the others were charged, and of that no more than a quarter of a unit is saved up.
///
/// **Tuning.** Every bound holds for any sequence of [`Knobs`], with *D*, window and aging as the pool
/// was set up: each knob only tightens them.
///
/// **Quotas.** What calls begun in any interval of length *t* used or still hold is at most
/// *limit · (1 + t/window)* of a rate, and of money the limit in each window, on every level of
/// their way, each ancestor of a process included; but for what a call used beyond what it said it
/// could, which is a debt.
///
/// **Families.** Kin that wait for a quota of one from whom they descend go by self-clocked fair
/// queueing, whatever pools they wait for: of two with weights *w* and estimates *e* that wait again
/// at once, *f* is passed by *g* at most *1 + (e_f/w_f)/(e_g/w_g)* times while it stands in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduler<K> {
    pub(crate) pools: Vec<Pool>,
    pub(crate) registry: Registry<K>,
    pub(crate) flights: BTreeMap<DispatchId, Flight>,
    pub(crate) dispatches: u64,
    /// The latest time that was seen, in nanoseconds. Time that goes back stands still.
    pub(crate) now: u64,
    /// When which gate of a process's quota opens again.
    pub(crate) gates: BTreeSet<(u64, u32)>,
    pub(crate) warnings: Vec<Warning<K>>,
}

impl<K> Default for Scheduler<K>
where
    Registry<K>: Default,
{
    fn default() -> Self {
        Self {
            pools: Vec::new(),
            registry: Registry::default(),
            flights: BTreeMap::new(),
            dispatches: 0,
            now: 0,
            gates: BTreeSet::new(),
            warnings: Vec::new(),
        }
    }
}

impl<K: Ord + Clone + Debug> Scheduler<K> {
    /// A scheduler without pools and processes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pool.
    ///
    /// # Errors
    /// [`Error::NoSlots`], [`Error::EmptySlice`].
    pub fn add_pool(&mut self, options: PoolOptions) -> Result<PoolId, Error> {
        if options.slots == 0 {
            return Err(Error::NoSlots);
        }
        if options.slice.steps == 0 {
            return Err(Error::EmptySlice);
        }
        self.pools.push(Pool::new(options));
        Ok(PoolId(self.pools.len() - 1))
    }

    /// Changes how many calls a pool takes at once; it is given as many again, whatever its
    /// endpoint refused before. Calls in flight above the new number end in their own time.
    ///
    /// # Errors
    /// [`Error::NoSlots`] for 0, [`Error::UnknownPool`].
    pub fn set_slots(&mut self, pool: PoolId, slots: usize) -> Result<(), Error> {
        if slots == 0 {
            return Err(Error::NoSlots);
        }
        let pool = self.pool_mut(pool)?;
        pool.options.slots = slots;
        pool.provider.set_slots(slots);
        Ok(())
    }

    /// Changes what may be tuned of a pool, from its next decision on.
    ///
    /// # Errors
    /// [`Error::Knob`] where the pool's bounds would not hold; [`Error::UnknownPool`].
    pub fn tune(&mut self, pool: PoolId, knobs: Knobs) -> Result<(), Error> {
        let pool = self.pool_mut(pool)?;
        knobs.check(&pool.options)?;
        pool.tune(knobs);
        Ok(())
    }

    /// Holds a pool for all its processes until `until`, a time of the clock that
    /// [`pick`](Self::pick) is given: its endpoint has asked for it. A pause is never shortened.
    ///
    /// # Errors
    /// [`Error::UnknownPool`].
    pub fn pause(&mut self, pool: PoolId, until: Duration) -> Result<(), Error> {
        self.pool_mut(pool)?.pause(until);
        Ok(())
    }

    /// Makes a process known, in the unnamed group of its tenant. It does not wait yet.
    ///
    /// # Errors
    /// [`Error::AlreadyAdmitted`].
    pub fn admit(&mut self, key: K, tenant: Tenant, priority: Priority) -> Result<(), Error> {
        let (group, class) = (String::new(), Class::Normal);
        self.admit_to(key, &Place { tenant, group, class, priority })
    }

    /// Makes a process known. It does not wait yet.
    ///
    /// # Errors
    /// [`Error::AlreadyAdmitted`].
    pub fn admit_to(&mut self, key: K, place: &Place) -> Result<(), Error> {
        self.admit_under(key, place, &[])
    }

    /// Changes how important a process is, from its next call on; one that waits keeps its place.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`].
    pub fn renice(&mut self, key: &K, priority: Priority) -> Result<(), Error> {
        let id = self.process(key)?;
        let process = &mut self.registry.processes[id];
        process.priority = priority;
        for &(pool, flow) in &process.flows {
            let pool = &mut self.pools[pool as usize];
            let group = pool.flows[flow].group;
            let queue = &mut pool.groups[group].queue;
            let weight = Weight::of(priority).get();
            queue.reweigh(&mut pool.flows, flow, (priority.get(), weight), &pool.options);
        }
        Ok(())
    }

    /// Makes a process unknown that has ended. Its calls in flight hold their slots and reservations,
    /// and its tenant, its group and its kin owe for them, until they are charged. What its family may
    /// use lasts as long as one of that is there.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`].
    pub fn remove(&mut self, key: &K) -> Result<(), Error> {
        self.part_with(key, true)
    }

    /// The same of a process that may come back: what it used of its quota, and of its ancestors', is
    /// remembered until it has drained, or the window of its budget ends.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`].
    pub fn dismiss(&mut self, key: &K) -> Result<(), Error> {
        self.part_with(key, false)
    }

    fn part_with(&mut self, key: &K, is_gone: bool) -> Result<(), Error> {
        self.block(key)?;
        let id = self.process(key)?;
        let process = &self.registry.processes[id];
        let group = process.group;
        for &(pool, flow) in &process.flows {
            self.pools[pool as usize].forget(flow);
        }
        self.registry.remove(key, is_gone, self.now);
        self.leave_group(group);
        Ok(())
    }

    /// A process wants to make one call from `now` on. It may do so while others of its calls are
    /// in flight.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`], [`Error::UnknownPool`]; [`Error::AlreadyWaiting`] where it
    /// waits for a call already; [`Error::NeverFits`] where a window of a quota on its way holds
    /// less than the call may take.
    pub fn wake(
        &mut self,
        key: &K,
        pool: PoolId,
        step: impl Into<Step>,
        now: Duration,
    ) -> Result<(), Error> {
        let step = step.into();
        let id = self.process(key)?;
        let process = &self.registry.processes[id];
        if let Some(number) = process.waits {
            let pool = PoolId(number as usize);
            return Err(Error::AlreadyWaiting { key: format!("{key:?}"), pool });
        }
        let number = u32::try_from(pool.0).map_err(|_| Error::UnknownPool(pool))?;
        let queues = self.pools.get(pool.0).ok_or(Error::UnknownPool(pool))?;
        self.could_admit(id, queues, pool, &step.most).map_err(|(_, error)| error)?;
        self.now = self.now.max(nanos(now));
        let queues = &mut self.pools[pool.0];
        let (tenant, group) =
            (&self.registry.tenants[process.tenant], &self.registry.groups[process.group]);
        let flow = if let Some(flow) = process.flow(number) {
            flow
        } else {
            let tenant = (process.tenant, tenant.weight.get());
            let group = queues.group(process.class, tenant, (process.group, group.weight.get()));
            let weight = Weight::of(process.priority).get();
            let account = Account::new(weight, queues.groups[group].queue.now());
            queues.flows.insert(Flow::new(id, group, process.priority.get(), account))
        };
        queues.flows[flow].step = step;
        queues.wake(flow, self.now);
        queues.waiting += 1;
        let process = &mut self.registry.processes[id];
        if process.flow(number).is_none() {
            process.flows.push((number, flow));
        }
        process.waits = Some(number);
        Ok(())
    }

    /// A process does not want to make a call any more. Nothing happens where it did not.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`].
    pub fn block(&mut self, key: &K) -> Result<(), Error> {
        let id = self.process(key)?;
        let process = &mut self.registry.processes[id];
        if let Some(number) = process.waits.take()
            && let Some(flow) = process.flow(number)
        {
            let kin = process.kin;
            let pool = &mut self.pools[number as usize];
            pool.leave(flow);
            pool.waiting -= 1;
            // What holds its group or tenant back may have been this wish alone.
            let group = pool.flows[flow].group;
            let tenant = pool.groups[group].parent;
            for node in [Node::Group(group), Node::Tenant(tenant), Node::Pool] {
                pool.release(node);
            }
            self.leave_gates(kin, (number, flow));
        }
        Ok(())
    }

    /// Decides on one call that starts at `now`; `None` where no open pool has a free slot and
    /// someone who waits and has the quota. Takes O(log n) time in tenants, groups and processes,
    /// and as much again for each that it finds out of quota; those it does not look at again
    /// before there is room. It looks at each pool once, and of the one who goes at each ancestor.
    ///
    /// A `now` that lies before an earlier one counts as the earlier one: a clock that goes back
    /// makes waits longer and never lets more through.
    pub fn pick(&mut self, now: Duration) -> Option<Dispatch<K>> {
        self.now = self.now.max(nanos(now));
        self.turn_gates();
        (0..self.pools.len()).find_map(|number| self.pick_from(number))
    }

    fn pick_from(&mut self, number: usize) -> Option<Dispatch<K>> {
        let now = self.now;
        let index = u32::try_from(number).unwrap_or(u32::MAX);
        let (path, reserved) = loop {
            let pool = &mut self.pools[number];
            if !pool.is_open(now) {
                return None;
            }
            let path = pool.first(now)?;
            match self.reserve(index, path) {
                Ok(reserved) => break (path, reserved),
                Err(Full::Node(node, short)) => self.pools[number].keep_back(node, short),
                Err(Full::Kin(kin)) => self.line_up(kin, (index, path.flow)),
            }
        };
        let pool = &mut self.pools[number];
        let flow = &pool.flows[path.flow];
        let (id, step) = (flow.process, flow.step);
        let was_ahead = pool.dispatch(path, now);
        let process = &mut self.registry.processes[id];
        process.waits = None;
        let dispatch = DispatchId(self.dispatches);
        self.dispatches += 1;
        let (tenant, group, admission) = (process.tenant, process.group, process.admission);
        let kin = process.kin;
        self.registry.groups[group].members += 1;
        let key = process.key.clone();
        let flight = Flight {
            pool: index,
            path,
            process: id,
            admission,
            tenant,
            group,
            kin,
            step,
            was_ahead,
            is_heard: false,
            reserved,
        };
        self.flights.insert(dispatch, flight);
        if kin != NONE {
            self.registry.kin.hold(kin);
            self.go_through_gates(kin, (index, path.flow));
        }
        Some(Dispatch { id: dispatch, key, pool: PoolId(number) })
    }

    /// Reserves what the call may take in all quotas on its way, or in none: then it tells which
    /// nearest to the root has no room.
    fn reserve(&mut self, number: u32, path: Path) -> Result<Option<Box<Reserved>>, Full> {
        let now = self.now;
        let pool = &mut self.pools[number as usize];
        let (id, most) = (pool.flows[path.flow].process, pool.flows[path.flow].step.most);
        let process = &self.registry.processes[id];
        let kin = process.kin;
        let tenant = &mut self.registry.tenants[process.tenant];
        let group = &mut self.registry.groups[process.group];
        pool.provider.admits(&most, now).map_err(|short| Full::Node(Node::Pool, short))?;
        let nodes = [Node::Pool, Node::Tenant(path.tenant), Node::Group(path.group)];
        let mut meters = [&mut pool.meter, &mut tenant.meter, &mut group.meter];
        for (meter, node) in meters.iter_mut().zip(nodes) {
            if let Some(meter) = meter {
                meter.admits(&most, now).map_err(|short| Full::Node(node, short))?;
            }
        }
        if kin != NONE {
            let kindred = &mut self.registry.kin;
            kindred.admits(kin, (number, path.flow), &most, now).map_err(Full::Kin)?;
        }
        let seen = pool.provider.reserve(&most, now);
        let marks = meters.map(|meter| meter.as_mut().map(|meter| meter.reserve(&most, now)));
        let of_kin = self.registry.kin.reserve(kin, &most, now);
        let is_metered = marks.iter().any(Option::is_some) || !of_kin.is_empty();
        let is_free = !is_metered && seen.iter().all(Option::is_none);
        if is_metered {
            self.warn(number as usize, id);
        }
        Ok((!is_free).then(|| Box::new(Reserved { marks, kin: of_kin, seen })))
    }

    /// When to [`pick`](Self::pick) again even if nothing else happens: the first time after
    /// `now` at which a pool opens, or a quota has room again, for someone who waits there.
    #[must_use]
    pub fn next_wakeup(&self, now: Duration) -> Option<Duration> {
        let now = self.now.max(nanos(now));
        let pools = self.pools.iter().filter_map(|pool| pool.opens_after(now));
        let gates = self.gates.range((now + 1, 0)..).next().map(|gate| gate.0);
        pools.chain(gates).min().map(duration)
    }

    /// The pool that a process waits for.
    #[must_use]
    pub fn waiting(&self, key: &K) -> Option<PoolId> {
        let waits = self.registry.processes[self.registry.process(key)?].waits?;
        Some(PoolId(waits as usize))
    }

    /// How busy a pool is.
    ///
    /// # Errors
    /// [`Error::UnknownPool`].
    pub fn load(&self, pool: PoolId) -> Result<Load, Error> {
        self.pools.get(pool.0).map(Pool::load).ok_or(Error::UnknownPool(pool))
    }

    pub(crate) fn pool_mut(&mut self, pool: PoolId) -> Result<&mut Pool, Error> {
        self.pools.get_mut(pool.0).ok_or(Error::UnknownPool(pool))
    }

    pub(crate) fn process(&self, key: &K) -> Result<u32, Error> {
        self.registry.process(key).ok_or_else(|| Error::UnknownProcess(format!("{key:?}")))
    }

    /// A process of the group, or a call of one, is gone.
    pub(crate) fn leave_group(&mut self, group: u32) {
        if self.registry.leave(group) {
            for pool in &mut self.pools {
                pool.forget_group(group);
            }
        }
    }
}
