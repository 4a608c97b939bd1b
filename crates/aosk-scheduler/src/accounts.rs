//! Weights and quotas of tenants, groups, processes and pools, and what somebody waits for.

use std::fmt::Debug;
use std::time::Duration;

use aosk_abi::{MicroDollars, Tenant};

use crate::error::Error;
use crate::pool::{Class, Node, PoolId};
use crate::quota::{Gauge, Meter, Quota, Short};
use crate::registry::Owner;
use crate::scheduler::Scheduler;
use crate::slab::NONE;
use crate::time::duration;
use crate::warning::Warning;
use crate::weight::Weight;

/// What a process waits for that wants to make a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait<K> {
    /// Its turn, or a free slot.
    Turn {
        /// The pool.
        pool: PoolId,
    },
    /// The end of a pause that the endpoint has asked for.
    Pause {
        /// The pool.
        pool: PoolId,
        /// When it ends.
        until: Duration,
    },
    /// Room in a quota.
    Quota {
        /// Whose quota. A process may also wait for that of one from which it descends.
        owner: Owner<K>,
        /// Which, and when there is room.
        short: Short,
    },
}

/// Where a process stands in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand<'a, K> {
    /// The process.
    pub key: &'a K,
    /// The pool.
    pub pool: PoolId,
    /// Whether it waits to make a call there.
    pub waits: bool,
    /// How many of its calls are in flight there.
    pub in_flight: u32,
    /// How many units it was served less than its share in its group, by virtual time; below 0:
    /// more. Of who does not wait it means nothing until it wakes.
    pub lag: i64,
}

impl<K: Ord + Clone + Debug> Scheduler<K> {
    /// Gives a tenant another weight, in all pools, from its next call on. A tenant that has no
    /// process yet will have it.
    pub fn weigh_tenant(&mut self, tenant: &Tenant, weight: Weight) {
        let id = self.registry.tenant(tenant);
        self.registry.tenants[id].weight = weight;
        for pool in &mut self.pools {
            for class in [Class::System, Class::Normal] {
                if let Some(&node) = pool.tenant_of.get(&(id, class)) {
                    pool.tenants[node].account.reweigh(weight.get());
                }
            }
        }
    }

    /// Gives a group of a tenant another weight, in all pools, from its next call on. A group that
    /// has no process yet will have it.
    pub fn weigh_group(&mut self, tenant: &Tenant, group: &str, weight: Weight) {
        let tenant = self.registry.tenant(tenant);
        let id = self.registry.group(tenant, group);
        let record = &mut self.registry.groups[id];
        (record.weight, record.is_set_up) = (weight, true);
        for pool in &mut self.pools {
            for class in [Class::System, Class::Normal] {
                if let Some(&node) = pool.group_of.get(&(id, class)) {
                    pool.groups[node].account.reweigh(weight.get());
                }
            }
        }
    }

    /// Sets what somebody and all below may use, from `now` on. What was used and reserved before
    /// stays used and reserved, and whoever waits for the old limit tries again under the new one;
    /// a call that is larger than the new one waits until it is raised.
    ///
    /// # Errors
    /// [`Error::EmptyQuota`] for a limit of 0; [`Error::UnknownPool`], [`Error::UnknownProcess`].
    pub fn set_quota(
        &mut self,
        owner: &Owner<K>,
        quota: Quota,
        now: Duration,
    ) -> Result<(), Error> {
        quota.check()?;
        let now = self.now.max(crate::time::nanos(now));
        match owner {
            Owner::Pool(id) => {
                let pool = self.pool_mut(*id)?;
                pool.meter.get_or_insert_default().limit(quota, now);
                pool.release(Node::Pool);
            }
            Owner::Tenant(name) => {
                let id = self.registry.tenant(name);
                self.registry.tenants[id].meter.get_or_insert_default().limit(quota, now);
                self.reopen_tenant(id);
            }
            Owner::Group(tenant, name) => {
                let tenant = self.registry.tenant(tenant);
                let id = self.registry.group(tenant, name);
                let record = &mut self.registry.groups[id];
                record.is_set_up = true;
                record.meter.get_or_insert_default().limit(quota, now);
                self.reopen_group(id);
            }
            Owner::Process(key) => {
                let id = self.kin_of(key)?;
                self.registry.kin.nodes[id].meter.get_or_insert_default().limit(quota, now);
                self.now = now;
                self.open_gate(id);
            }
        }
        self.now = now;
        Ok(())
    }

    /// Begins another window of somebody's budget, of which `left` is neither spent nor reserved;
    /// what calls in flight have reserved was taken from the window before. Without a budget nothing
    /// happens.
    ///
    /// # Errors
    /// [`Error::UnknownPool`], [`Error::UnknownProcess`].
    pub fn begin_window(&mut self, owner: &Owner<K>, left: MicroDollars) -> Result<(), Error> {
        if let Some(meter) = self.meter(owner)? {
            meter.begin(left);
        }
        self.reopen(owner);
        Ok(())
    }

    /// No more than `left` of somebody's budget is neither spent nor reserved in the window of
    /// `now`: others have spent of it, whom this scheduler does not see. Without a budget nothing
    /// happens.
    ///
    /// # Errors
    /// [`Error::UnknownPool`], [`Error::UnknownProcess`].
    pub fn leave(
        &mut self,
        owner: &Owner<K>,
        left: MicroDollars,
        now: Duration,
    ) -> Result<(), Error> {
        let now = self.now.max(crate::time::nanos(now));
        if let Some(meter) = self.meter(owner)? {
            meter.leave(left, now);
        }
        self.now = now;
        Ok(())
    }

    fn meter(&mut self, owner: &Owner<K>) -> Result<Option<&mut Meter>, Error> {
        let meter = match owner {
            Owner::Pool(id) => &mut self.pool_mut(*id)?.meter,
            Owner::Tenant(name) => {
                let id = self.registry.tenant(name);
                &mut self.registry.tenants[id].meter
            }
            Owner::Group(tenant, name) => {
                let tenant = self.registry.tenant(tenant);
                let Some(id) = self.registry.known_group(tenant, name) else { return Ok(None) };
                &mut self.registry.groups[id].meter
            }
            Owner::Process(key) => {
                let id = self.kin_of(key)?;
                &mut self.registry.kin.nodes[id].meter
            }
        };
        Ok(meter.as_deref_mut())
    }

    /// Lets those try again whom somebody's quota held back.
    fn reopen(&mut self, owner: &Owner<K>) {
        match owner {
            Owner::Pool(id) => {
                if let Some(pool) = self.pools.get_mut(id.0) {
                    pool.release(Node::Pool);
                }
            }
            Owner::Tenant(name) => {
                if let Some(id) = self.registry.known_tenant(name) {
                    self.reopen_tenant(id);
                }
            }
            Owner::Group(tenant, name) => {
                let tenant = self.registry.known_tenant(tenant);
                let group = tenant.and_then(|tenant| self.registry.known_group(tenant, name));
                if let Some(id) = group {
                    self.reopen_group(id);
                }
            }
            Owner::Process(key) => {
                if let Some(id) = self.registry.kin.of(key) {
                    self.open_gate(id);
                }
            }
        }
    }

    /// How many calls somebody has in flight and what money is spent or reserved in this window,
    /// counted since a quota was first set; `None` where none ever was.
    #[must_use]
    pub fn usage(&self, owner: &Owner<K>) -> Option<(u32, MicroDollars)> {
        self.metered(owner).map(Meter::usage)
    }

    fn metered(&self, owner: &Owner<K>) -> Option<&Meter> {
        let registry = &self.registry;
        let meter = match owner {
            Owner::Pool(id) => self.pools.get(id.0)?.meter.as_ref(),
            Owner::Tenant(name) => registry.tenants[registry.known_tenant(name)?].meter.as_ref(),
            Owner::Group(tenant, name) => {
                let tenant = registry.known_tenant(tenant)?;
                registry.groups[registry.known_group(tenant, name)?].meter.as_ref()
            }
            Owner::Process(key) => registry.kin.nodes[registry.kin.of(key)?].meter.as_ref(),
        };
        meter.map(AsRef::as_ref)
    }

    /// How each limit of somebody's quota stands; nothing where it has none.
    #[must_use]
    pub fn gauges(&self, owner: &Owner<K>, now: Duration) -> Vec<Gauge> {
        let now = self.now.max(crate::time::nanos(now));
        self.metered(owner).map_or_else(Vec::new, |meter| meter.gauges(now))
    }

    /// How the limits of a pool stand that its endpoint has told of; what calls in flight hold back
    /// is used.
    ///
    /// # Errors
    /// [`Error::UnknownPool`].
    pub fn heard(&self, pool: PoolId, now: Duration) -> Result<Vec<Gauge>, Error> {
        let now = self.now.max(crate::time::nanos(now));
        let found = self.pools.get(pool.0).ok_or(Error::UnknownPool(pool))?;
        Ok(found.provider.gauges(now))
    }

    /// Where every process stands in each pool that it has used, in no order. O(processes).
    pub fn stands(&self) -> impl Iterator<Item = Stand<'_, K>> {
        self.registry.processes.iter().flat_map(|process| {
            process.flows.iter().map(|&(number, flow)| {
                let pool = &self.pools[number as usize];
                let flow = &pool.flows[flow];
                let queue = &pool.groups[flow.group].queue;
                Stand {
                    key: &process.key,
                    pool: PoolId(number as usize),
                    waits: process.waits == Some(number),
                    in_flight: flow.flying,
                    lag: flow.account.lag(queue.now()),
                }
            })
        })
    }

    /// The processes that have a quota of their own, in no order: those that are known, their
    /// ancestors, and those that were [dismissed](Self::dismiss) and have used of it. O(those).
    pub fn limited(&self) -> impl Iterator<Item = &K> {
        self.registry.kin.nodes.iter().filter(|kin| kin.meter.is_some()).map(|kin| &kin.key)
    }

    /// What a process waits for; `None` where it does not want to make a call.
    #[must_use]
    pub fn waits_for(&self, key: &K) -> Option<Wait<K>> {
        let process = &self.registry.processes[self.registry.process(key)?];
        let number = process.waits?;
        let id = PoolId(number as usize);
        let pool = &self.pools[number as usize];
        let flow = &pool.flows[process.flow(number)?];
        let group = &pool.groups[flow.group];
        let tenant = self.registry.tenants[process.tenant].name.clone();
        let name = || self.registry.groups[process.group].name.clone();
        let holds = [
            (pool.hold, Owner::Pool(id)),
            (pool.tenants[group.parent].hold, Owner::Tenant(tenant.clone())),
            (group.hold, Owner::Group(tenant, name())),
        ];
        let above = holds.into_iter().find_map(|(hold, owner)| Some((owner, hold?)));
        let seat = (number, process.flow(number)?);
        let held = above.or_else(|| self.stands_at(process.kin, seat, &flow.step.most));
        Some(match held {
            Some((owner, short)) => Wait::Quota { owner, short },
            None if pool.load().opens_at > duration(self.now) => {
                Wait::Pause { pool: id, until: pool.load().opens_at }
            }
            None => Wait::Turn { pool: id },
        })
    }

    /// The tenant of a process and its group there; `None` for one that is not known.
    #[must_use]
    pub fn place(&self, key: &K) -> Option<(&Tenant, &str)> {
        let process = &self.registry.processes[self.registry.process(key)?];
        let tenant = &self.registry.tenants[process.tenant].name;
        Some((tenant, &self.registry.groups[process.group].name))
    }

    /// The warnings that came up since they were last taken.
    pub fn take_warnings(&mut self) -> Vec<Warning<K>> {
        std::mem::take(&mut self.warnings)
    }

    /// Looks whether a budget on the way of a process has passed a share to warn of.
    pub(crate) fn warn(&mut self, pool: usize, process: u32) {
        let Some(process) = self.registry.processes.get(process) else { return };
        let tenant = &mut self.registry.tenants[process.tenant];
        let group = &mut self.registry.groups[process.group];
        let by = &process.key;
        let mut passed = |meter: &mut Option<Box<Meter>>, owner: &dyn Fn() -> Owner<K>| {
            if let Some((percent, limit, until)) = meter.as_mut().and_then(|meter| meter.warning())
            {
                let (owner, by) = (owner(), by.clone());
                self.warnings.push(Warning { owner, by, percent, limit, until });
            }
        };
        let name = &tenant.name;
        passed(&mut self.pools[pool].meter, &|| Owner::Pool(PoolId(pool)));
        passed(&mut tenant.meter, &|| Owner::Tenant(name.clone()));
        passed(&mut group.meter, &|| Owner::Group(name.clone(), group.name.clone()));
        let kin = &mut self.registry.kin;
        let mut at = process.kin;
        while let Some(node) = kin.nodes.get_mut(at) {
            let key = &node.key;
            passed(&mut node.meter, &|| Owner::Process(key.clone()));
            at = node.parent;
        }
    }

    pub(crate) fn reopen_tenant(&mut self, id: u32) {
        for pool in &mut self.pools {
            for class in [Class::System, Class::Normal] {
                if let Some(&node) = pool.tenant_of.get(&(id, class)) {
                    pool.release(Node::Tenant(node));
                }
            }
        }
    }

    pub(crate) fn reopen_group(&mut self, id: u32) {
        for pool in &mut self.pools {
            for class in [Class::System, Class::Normal] {
                if let Some(&node) = pool.group_of.get(&(id, class)) {
                    pool.release(Node::Group(node));
                }
            }
        }
    }

    /// The node of somebody's own quota.
    fn kin_of(&mut self, key: &K) -> Result<u32, Error> {
        match self.registry.kin_of(key) {
            NONE => Err(Error::UnknownProcess(format!("{key:?}"))),
            known => Ok(known),
        }
    }
}
