//! A pool: what one credential may ask of one model, and the tree of those who wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::account::Account;
use crate::flow::Flow;
use crate::knobs::Knobs;
use crate::level::{Level, Member};
use crate::order::PoolOptions;
use crate::provider::Provider;
use crate::queue::Queue;
use crate::quota::{Meter, Short};
use crate::slab::{NONE, Slab};
use crate::time::{duration, nanos};
use crate::units::Units;

/// A pool of a scheduler; [`add_pool`](crate::Scheduler::add_pool) makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub(crate) usize);

impl PoolId {
    /// 0, 1, 2, … in the order in which pools were added.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// How busy a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How many calls it takes at once.
    pub slots: usize,
    /// How many it is given at once: fewer than its slots after its endpoint refused some.
    pub depth: usize,
    /// How many are in flight.
    pub in_flight: usize,
    /// How many processes wait for it, those held back by a quota included.
    pub waiting: usize,
    /// Before this time nothing is dispatched to it.
    pub opens_at: Duration,
}

/// Whether a process serves the machine itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It goes before all others, until it has used a fifth of the pool.
    System,
    /// An agent.
    #[default]
    Normal,
}

/// An inner node: a tenant or a group in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inner<Q> {
    pub(crate) account: Account,
    /// A group's tenant, among those of the pool.
    pub(crate) parent: u32,
    pub(crate) class: Class,
    /// Why nobody below goes.
    pub(crate) hold: Option<Short>,
    pub(crate) queue: Q,
}

impl<Q> Member for Inner<Q> {
    fn account(&mut self) -> &mut Account {
        &mut self.account
    }
}

/// A node that a quota can hold back with all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Pool,
    Tenant(u32),
    Group(u32),
}

/// Who goes next: the flow and its way to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) tenant: u32,
    pub(crate) group: u32,
    pub(crate) flow: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    /// As it was set up: the bounds rest on it.
    pub(crate) options: PoolOptions,
    /// As it is tuned, by which its queues go.
    tuned: PoolOptions,
    knobs: Knobs,
    pub(crate) provider: Provider,
    pub(crate) meter: Option<Box<Meter>>,
    pub(crate) hold: Option<Short>,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    opens_at: u64,
    /// What the system class may use before the others, in quarters of a unit. At most one
    /// quarter is saved up, so that at most one call runs ahead of what was earned.
    credit: i128,
    classes: [Level; 2],
    pub(crate) tenants: Slab<Inner<Level>>,
    pub(crate) groups: Slab<Inner<Queue>>,
    pub(crate) flows: Slab<Flow>,
    /// By the scheduler's numbers of tenants and groups.
    pub(crate) tenant_of: BTreeMap<(u32, Class), u32>,
    pub(crate) group_of: BTreeMap<(u32, Class), u32>,
    timers: BTreeSet<(u64, Node)>,
}

impl Pool {
    pub(crate) fn new(options: PoolOptions) -> Self {
        Self {
            options,
            tuned: options,
            knobs: Knobs::of(&options),
            provider: Provider::new(options.slots),
            meter: None,
            hold: None,
            in_flight: 0,
            waiting: 0,
            opens_at: 0,
            credit: 1,
            classes: <[Level; 2]>::default(),
            tenants: Slab::default(),
            groups: Slab::default(),
            flows: Slab::default(),
            tenant_of: BTreeMap::new(),
            group_of: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            slots: self.options.slots,
            depth: self.depth(),
            in_flight: self.in_flight,
            waiting: self.waiting,
            opens_at: duration(self.opens_at),
        }
    }

    /// Goes by these from now on; they are in range.
    pub(crate) fn tune(&mut self, knobs: Knobs) {
        self.knobs = knobs;
        self.tuned = PoolOptions { window: knobs.window, aging: knobs.aging, ..self.options };
    }

    fn depth(&self) -> usize {
        self.provider.depth().min(self.knobs.depth(self.options.slots))
    }

    /// A pause is never shortened.
    pub(crate) fn pause(&mut self, until: Duration) {
        self.opens_at = self.opens_at.max(nanos(until));
    }

    /// The node of a tenant or group of the scheduler, made where there is none.
    pub(crate) fn group(
        &mut self,
        class: Class,
        (tenant, tenant_weight): (u32, u32),
        (group, group_weight): (u32, u32),
    ) -> u32 {
        let now = self.classes[class as usize].now();
        let tenants = &mut self.tenants;
        let tenant = *self.tenant_of.entry((tenant, class)).or_insert_with(|| {
            let account = Account::new(tenant_weight, now);
            let queue = Level::default();
            tenants.insert(Inner { account, parent: NONE, class, hold: None, queue })
        });
        let (now, groups) = (self.tenants[tenant].queue.now(), &mut self.groups);
        *self.group_of.entry((group, class)).or_insert_with(|| {
            let account = Account::new(group_weight, now);
            let queue = Queue::default();
            groups.insert(Inner { account, parent: tenant, class, hold: None, queue })
        })
    }

    /// Forgets a group that nobody is left of.
    pub(crate) fn forget_group(&mut self, group: u32) {
        for class in [Class::System, Class::Normal] {
            if let Some(node) = self.group_of.remove(&(group, class)) {
                self.release(Node::Group(node));
                self.groups.remove(node);
            }
        }
    }

    /// The flow waits for its step.
    pub(crate) fn wake(&mut self, flow: u32, now: u64) {
        let group = self.flows[flow].group;
        self.groups[group].queue.wake(&mut self.flows, flow, now, &self.tuned);
        self.raise(group);
    }

    /// Lets a group wait at its tenant, and the tenant at the pool, where somebody does below and
    /// no quota holds them.
    fn raise(&mut self, group: u32) {
        let node = &self.groups[group];
        if node.queue.is_empty() || node.hold.is_some() {
            return;
        }
        let (tenant, estimate) = (node.parent, node.queue.estimate(&self.flows));
        self.tenants[tenant].queue.wake(&mut self.groups, group, estimate);
        self.raise_tenant(tenant, estimate);
    }

    fn raise_tenant(&mut self, tenant: u32, estimate: Units) {
        let node = &self.tenants[tenant];
        if !node.queue.is_empty() && node.hold.is_none() {
            self.classes[node.class as usize].wake(&mut self.tenants, tenant, estimate);
        }
    }

    /// Takes a group whose queue is empty from its tenant, and the tenant from the pool.
    fn lower(&mut self, group: u32) {
        if self.groups[group].queue.is_empty() {
            let tenant = self.groups[group].parent;
            self.tenants[tenant].queue.leave(&mut self.groups, group);
            self.lower_tenant(tenant);
        }
    }

    fn lower_tenant(&mut self, tenant: u32) {
        if self.tenants[tenant].queue.is_empty() {
            let class = self.tenants[tenant].class;
            self.classes[class as usize].leave(&mut self.tenants, tenant);
        }
    }

    /// The flow waits no more.
    pub(crate) fn leave(&mut self, flow: u32) {
        if std::mem::take(&mut self.flows[flow].held) {
            return;
        }
        let group = self.flows[flow].group;
        self.groups[group].queue.leave(&mut self.flows, flow);
        self.lower(group);
    }

    /// The flow is gone for good.
    pub(crate) fn forget(&mut self, flow: u32) {
        self.leave(flow);
        let group = self.flows[flow].group;
        self.groups[group].queue.forget(&mut self.flows, flow);
    }

    /// Whether a call may start at `now` as far as the pool itself goes.
    pub(crate) fn is_open(&mut self, now: u64) -> bool {
        while let Some(&(at, node)) = self.timers.first()
            && at <= now
        {
            self.release(node);
        }
        self.has_room() && self.runs(now)
    }

    /// Whether it is neither paused nor out of quota itself.
    pub(crate) fn runs(&self, now: u64) -> bool {
        self.opens_at <= now && self.hold.is_none()
    }

    fn has_room(&self) -> bool {
        self.in_flight < self.depth()
    }

    /// When a pause or a quota ends that holds somebody back; `now` is over already.
    pub(crate) fn opens_after(&self, now: u64) -> Option<u64> {
        if self.waiting == 0 || !self.has_room() {
            return None;
        }
        let timer = self.timers.first().map(|timer| timer.0.max(self.opens_at));
        let anyone = self.hold.is_none() && self.classes.iter().any(|level| !level.is_empty());
        let pause = anyone.then_some(self.opens_at);
        timer.into_iter().chain(pause).filter(|at| *at > now).min()
    }

    /// Who goes next.
    pub(crate) fn first(&mut self, now: u64) -> Option<Path> {
        let [system, normal] = &self.classes;
        let tenant = match (system.first(), normal.first()) {
            (Some(tenant), Some(_)) if self.credit > 0 => tenant,
            (_, Some(tenant)) | (Some(tenant), None) => tenant,
            (None, None) => return None,
        };
        let group = self.tenants[tenant].queue.first()?;
        let flow = self.groups[group].queue.choose(&self.flows, now, &self.tuned)?;
        Some(Path { tenant, group, flow })
    }

    /// Keeps a node back until a time, or until something ends.
    pub(crate) fn keep_back(&mut self, node: Node, short: Short) {
        match node {
            Node::Pool => self.hold = Some(short),
            Node::Tenant(id) => {
                self.tenants[id].hold = Some(short);
                let class = self.tenants[id].class;
                self.classes[class as usize].leave(&mut self.tenants, id);
            }
            Node::Group(id) => {
                self.groups[id].hold = Some(short);
                let tenant = self.groups[id].parent;
                self.tenants[tenant].queue.leave(&mut self.groups, id);
                self.lower_tenant(tenant);
            }
        }
        if let Some(until) = short.until {
            self.timers.insert((nanos(until), node));
        }
    }

    /// Keeps a flow from the queue until it is [let in](Self::let_in) again.
    pub(crate) fn shut_out(&mut self, flow: u32) {
        self.leave(flow);
        self.flows[flow].held = true;
    }

    /// Lets a flow go on that was shut out.
    pub(crate) fn let_in(&mut self, flow: u32, now: u64) {
        self.flows[flow].held = false;
        self.wake(flow, now);
    }

    fn forget_timer(&mut self, node: Node, short: Short) {
        if let Some(until) = short.until {
            self.timers.remove(&(nanos(until), node));
        }
    }

    /// Lets a node go on that was kept back. Nothing happens where it was not.
    pub(crate) fn release(&mut self, node: Node) {
        let hold = match node {
            Node::Pool => self.hold.take(),
            Node::Tenant(id) => self.tenants[id].hold.take(),
            Node::Group(id) => self.groups[id].hold.take(),
        };
        let Some(hold) = hold else { return };
        self.forget_timer(node, hold);
        match node {
            Node::Pool => {}
            Node::Tenant(id) => {
                let group = self.tenants[id].queue.first();
                let queue = group.map(|group| &self.groups[group].queue);
                let estimate = queue.map_or(Units(0), |queue| queue.estimate(&self.flows));
                self.raise_tenant(id, estimate);
            }
            Node::Group(id) => self.raise(id),
        }
    }

    /// The call of the flow that [`first`](Self::first) gave starts. Tells whether it went before
    /// others as one of the system.
    pub(crate) fn dispatch(&mut self, path: Path, now: u64) -> bool {
        let Path { tenant, group, flow } = path;
        let estimate = self.flows[flow].step.estimate;
        let class = self.tenants[tenant].class;
        let is_ahead = class == Class::System && !self.classes[Class::Normal as usize].is_empty();
        if is_ahead {
            self.credit = self.credit.saturating_sub(4 * signed(estimate));
        }
        self.groups[group].queue.dispatch(&mut self.flows, flow, now, &self.tuned);
        self.tenants[tenant].queue.dispatch(&mut self.groups, group, estimate);
        self.classes[class as usize].dispatch(&mut self.tenants, tenant, estimate);
        self.lower(group);
        self.waiting -= 1;
        self.in_flight += 1;
        is_ahead
    }

    /// A call ended that was dispatched on that path; `flow` is absent where its process was
    /// removed since.
    pub(crate) fn settle(&mut self, path: Path, flow: Option<u32>, ended: &Ended) {
        let Ended { estimate, actual, was_ahead } = *ended;
        let Path { tenant, group, .. } = path;
        let class = self.tenants[tenant].class;
        self.tenants[tenant].account.settle(estimate, actual);
        self.classes[class as usize].follow(&mut self.tenants, tenant);
        self.groups[group].account.settle(estimate, actual);
        self.tenants[tenant].queue.follow(&mut self.groups, group);
        if let Some(flow) = flow {
            let queue = &mut self.groups[group].queue;
            queue.settle(&mut self.flows, flow, (estimate, actual), &self.tuned);
        }
        let earned = match class {
            Class::System if was_ahead => 4 * (signed(estimate) - signed(actual)),
            Class::System => 0,
            Class::Normal => signed(actual),
        };
        self.credit = self.credit.saturating_add(earned).min(1);
        self.in_flight -= 1;
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) estimate: Units,
    pub(crate) actual: Units,
    pub(crate) was_ahead: bool,
}

fn signed(units: Units) -> i128 {
    // 2^64 fits.
    i128::try_from(units.charged()).unwrap_or(i128::MAX)
}
