//! A call's way past the quotas of its process and of all whom that descends from.
//!
//! Ancestors are more entries in what is reserved, settled and opened again: a call takes from each
//! of them or from none, and gives back to those that it took from, whatever has become of its process
//! or theirs meanwhile.

use std::fmt::Debug;
use std::time::Duration;

use crate::account::virtual_time;
use crate::error::Error;
use crate::gate::{Place as Turn, Seat};
use crate::kin::GENERATIONS;
use crate::quota::{Quota, Short};
use crate::registry::{Owner, Place};
use crate::scheduler::Scheduler;
use crate::slab::NONE;
use crate::step::Amounts;
use crate::time::{duration, nanos};

/// After which time it is looked again whether others fit, where only the calls that were let in before
/// them keep them out: their pool may have been paused since.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl<K: Ord + Clone + Debug> Scheduler<K> {
    /// Makes a process known that others stand behind: its parent first, then the parent's, with what
    /// each may use. It does not wait yet. What is known of one of them already stays; of others their
    /// quota is kept while something below refers to it, whether they are processes here or not.
    ///
    /// # Errors
    /// [`Error::AlreadyAdmitted`], [`Error::EmptyQuota`], [`Error::TooDeep`] for more than 64
    /// ancestors.
    pub fn admit_under(
        &mut self,
        key: K,
        place: &Place,
        ancestors: &[(K, Quota)],
    ) -> Result<(), Error> {
        if self.registry.process(&key).is_some() {
            return Err(Error::AlreadyAdmitted(format!("{key:?}")));
        }
        ancestors.iter().try_for_each(|(_, quota)| quota.check())?;
        // Who is known as an ancestor already stands where it does.
        let stands = self.registry.kin.of(&key).is_some();
        let ancestors = if stands { &[] } else { ancestors };
        let known = ancestors.iter().enumerate().find_map(|(at, (key, _))| {
            let known = self.registry.kin_of(key);
            (known != NONE).then_some((at, known))
        });
        let (new, mut parent) = known.unwrap_or((ancestors.len(), NONE));
        if new + self.registry.kin.depth(parent) > GENERATIONS {
            return Err(Error::TooDeep(format!("{key:?}")));
        }
        for (key, quota) in ancestors[..new].iter().rev() {
            parent = self.registry.kin.insert(key.clone(), parent);
            if *quota != Quota::default() {
                let meter = &mut self.registry.kin.nodes[parent].meter;
                meter.get_or_insert_default().limit(*quota, self.now);
            }
        }
        self.registry.admit(key, place, parent);
        Ok(())
    }

    /// Whether somebody's own quota is known: as a process here, or as an ancestor of one.
    #[must_use]
    pub fn has_kin(&self, key: &K) -> bool {
        self.registry.process(key).is_some() || self.registry.kin.of(key).is_some()
    }

    /// The process and those from whom it descends, the nearest first, as far as something is known of
    /// their quotas.
    pub fn family<'a>(&'a self, key: &'a K) -> impl Iterator<Item = &'a K> {
        let kin = &self.registry.kin;
        let process = self.registry.process(key).map(|id| self.registry.processes[id].kin);
        let nearest = process.or_else(|| kin.of(key)).unwrap_or(NONE);
        kin.line(nearest).map(|(_, node)| &node.key)
    }

    /// Whose quota no call fits that takes so much in that pool, and of what, however long it waits;
    /// `None` where it fits all, and for a process or pool that is not known.
    #[must_use]
    pub fn never_fits(
        &self,
        key: &K,
        pool: crate::PoolId,
        most: &Amounts,
    ) -> Option<(Owner<K>, crate::Resource)> {
        let id = self.registry.process(key)?;
        match self.could_admit(id, self.pools.get(pool.0)?, pool, most) {
            Err((owner, Error::NeverFits { resource, .. })) => Some((owner, resource)),
            _ => None,
        }
    }

    /// Whether the call could fit in all quotas on its way.
    pub(crate) fn could_admit(
        &self,
        id: u32,
        pool: &crate::pool::Pool,
        number: crate::PoolId,
        most: &Amounts,
    ) -> Result<(), (Owner<K>, Error)> {
        let process = &self.registry.processes[id];
        let tenant = &self.registry.tenants[process.tenant];
        let group = &self.registry.groups[process.group];
        let check = |meter: &Option<Box<crate::quota::Meter>>, level| match meter {
            Some(meter) => meter.could_admit(level, most),
            None => Ok(()),
        };
        let of_group = || Owner::Group(tenant.name.clone(), group.name.clone());
        check(&pool.meter, "pool").map_err(|error| (Owner::Pool(number), error))?;
        check(&tenant.meter, "tenant")
            .map_err(|error| (Owner::Tenant(tenant.name.clone()), error))?;
        check(&group.meter, "group").map_err(|error| (of_group(), error))?;
        for (_, kin) in self.registry.kin.line(process.kin) {
            let level = if kin.key == process.key { "process" } else { "ancestor" };
            check(&kin.meter, level).map_err(|error| (Owner::Process(kin.key.clone()), error))?;
        }
        Ok(())
    }

    /// The call of the flow starts: it stands in no line any more.
    pub(crate) fn go_through_gates(&mut self, nearest: u32, seat: Seat) {
        self.gates_of(nearest, |gate| gate.goes(seat));
    }

    /// The flow wants no call any more, and leaves the lines that it stands in.
    pub(crate) fn leave_gates(&mut self, nearest: u32, seat: Seat) {
        self.gates_of(nearest, |gate| gate.leave(seat));
    }

    /// Changes the gates from the node on, and opens those that it says it of.
    fn gates_of(&mut self, nearest: u32, change: impl Fn(&mut crate::gate::Gate) -> bool) {
        let mut at = nearest;
        while let Some(kin) = self.registry.kin.nodes.get_mut(at) {
            let parent = kin.parent;
            if kin.gate.as_mut().is_some_and(|gate| change(gate)) {
                self.open_gate(at);
            }
            at = parent;
        }
    }

    /// The flow, which is first in its pool, finds no room behind the gate of that node.
    pub(crate) fn line_up(&mut self, at: u32, seat: Seat) {
        let pool = &mut self.pools[seat.0 as usize];
        pool.shut_out(seat.1);
        let flow = &pool.flows[seat.1];
        let worth = virtual_time(flow.step.estimate.charged(), flow.account.weight().into());
        let gate = self.registry.kin.nodes[at].gate.get_or_insert_default();
        if gate.enter(seat, worth) {
            self.open_gate(at);
        }
    }

    /// Lets those in that a node's quota has room for, one behind the other, and shuts the gate where
    /// somebody is left whom time or the end of a call lets in.
    pub(crate) fn open_gate(&mut self, at: u32) {
        let now = self.now;
        let kin = &mut self.registry.kin.nodes[at];
        let (Some(gate), Some(meter)) = (&mut kin.gate, &mut kin.meter) else { return };
        if let Some(until) = gate.shut.take().and_then(|short| short.until) {
            self.gates.remove(&(nanos(until), at));
        }
        let (mut calls, mut ahead) = (0, Amounts::default());
        let mut before: Option<Turn> = None;
        while let Some(place) = gate.behind(before) {
            let (number, flow) = place.1;
            let pool = &mut self.pools[number as usize];
            let most = pool.flows[flow].step.most;
            if meter.could_admit("process", &most).is_err() {
                // It waits for a higher limit, and keeps nobody else from going.
                before = Some(place);
                continue;
            }
            if let Err(mut short) = meter.admits_behind((calls, &ahead), &most, now) {
                if calls > 0 && short.until.is_none() {
                    short.until = Some(duration(now).saturating_add(LOOK_AGAIN));
                }
                gate.shut = Some(short);
                if let Some(until) = short.until {
                    self.gates.insert((nanos(until), at));
                }
                return;
            }
            gate.let_in(place);
            pool.let_in(flow, now);
            if pool.runs(now) {
                calls += 1;
                ahead = ahead.and(&most);
            }
        }
    }

    /// Opens the gates whose time has come, and forgets quotas that nobody refers to any more.
    pub(crate) fn turn_gates(&mut self) {
        while let Some(&(until, at)) = self.gates.first()
            && until <= self.now
        {
            self.open_gate(at);
        }
        self.registry.kin.sweep(self.now);
    }

    /// In whose line the flow stands, and what is short there.
    pub(crate) fn stands_at(
        &self,
        nearest: u32,
        seat: Seat,
        most: &Amounts,
    ) -> Option<(Owner<K>, Short)> {
        let holds = |gate: &crate::gate::Gate| gate.holds(seat);
        let mut kin = self.registry.kin.line(nearest).map(|(_, kin)| kin);
        let kin = kin.find(|kin| kin.gate.as_deref().is_some_and(holds))?;
        let never = kin.meter.as_ref()?.could_admit("process", most);
        let short = match never {
            Err(Error::NeverFits { resource, .. }) => Short { resource, until: None },
            _ => kin.gate.as_ref()?.shut?,
        };
        Some((Owner::Process(kin.key.clone()), short))
    }
}
