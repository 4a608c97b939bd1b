//! Who is there: tenants, their groups, and processes, whatever pools they use.

use std::collections::BTreeMap;

use aosk_abi::{Priority, Tenant};

use crate::kin::Kindred;
use crate::pool::Class;
use crate::quota::Meter;
use crate::slab::{NONE, Slab};
use crate::weight::Weight;

/// Where a process belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Who owns it. Tenants share a pool by their weights.
    pub tenant: Tenant,
    /// The group inside the tenant. Groups share their tenant by their weights; all processes
    /// whose group is empty are one group.
    pub group: String,
    /// Whether it serves the machine itself.
    pub class: Class,
    /// How important it is inside its group.
    pub priority: Priority,
}

/// Whose quota or weight is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner<K> {
    /// All who use a pool.
    Pool(crate::PoolId),
    /// All processes of a tenant, in all pools.
    Tenant(Tenant),
    /// All processes of a group of a tenant, in all pools.
    Group(Tenant, String),
    /// A process and all that descend from it, in all pools.
    Process(K),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process<K> {
    pub(crate) key: K,
    pub(crate) tenant: u32,
    pub(crate) group: u32,
    pub(crate) class: Class,
    pub(crate) priority: Priority,
    /// Tells a process from an earlier one of the same number.
    pub(crate) admission: u64,
    /// The pool that it waits for.
    pub(crate) waits: Option<u32>,
    /// The pools that it has used, with its flow in each.
    pub(crate) flows: Vec<(u32, u32)>,
    /// The nearest quota: its own, or, where it never had one, that of its parent.
    pub(crate) kin: u32,
}

impl<K> Process<K> {
    pub(crate) fn flow(&self, pool: u32) -> Option<u32> {
        self.flows.iter().find(|flow| flow.0 == pool).map(|flow| flow.1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantRecord {
    pub(crate) name: Tenant,
    pub(crate) weight: Weight,
    pub(crate) meter: Option<Box<Meter>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub(crate) tenant: u32,
    pub(crate) name: String,
    pub(crate) weight: Weight,
    pub(crate) meter: Option<Box<Meter>>,
    /// Processes and calls in flight.
    pub(crate) members: usize,
    /// It was given a weight or a quota, and is kept without members.
    pub(crate) is_set_up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry<K> {
    pub(crate) processes: Slab<Process<K>>,
    process_of: BTreeMap<K, u32>,
    /// A tenant's account outlives its processes: ending and starting them all again would wipe
    /// its debt. Tenants are few and an account takes some 200 bytes.
    pub(crate) tenants: Slab<TenantRecord>,
    tenant_of: BTreeMap<Tenant, u32>,
    pub(crate) groups: Slab<GroupRecord>,
    group_of: BTreeMap<(u32, String), u32>,
    pub(crate) kin: Kindred<K>,
    admissions: u64,
}

impl<K> Default for Registry<K> {
    fn default() -> Self {
        Self {
            processes: Slab::default(),
            process_of: BTreeMap::new(),
            tenants: Slab::default(),
            tenant_of: BTreeMap::new(),
            groups: Slab::default(),
            group_of: BTreeMap::new(),
            kin: Kindred::default(),
            admissions: 0,
        }
    }
}

impl<K: Ord + Clone> Registry<K> {
    pub(crate) fn process(&self, key: &K) -> Option<u32> {
        self.process_of.get(key).copied()
    }

    pub(crate) fn tenant(&mut self, name: &Tenant) -> u32 {
        if let Some(&id) = self.tenant_of.get(name) {
            return id;
        }
        let record = TenantRecord { name: name.clone(), weight: Weight::GREATEST, meter: None };
        let id = self.tenants.insert(record);
        self.tenant_of.insert(name.clone(), id);
        id
    }

    pub(crate) fn known_tenant(&self, name: &Tenant) -> Option<u32> {
        self.tenant_of.get(name).copied()
    }

    pub(crate) fn group(&mut self, tenant: u32, name: &str) -> u32 {
        let key = (tenant, name.to_owned());
        if let Some(&id) = self.group_of.get(&key) {
            return id;
        }
        let id = self.groups.insert(GroupRecord {
            tenant,
            name: name.to_owned(),
            weight: Weight::GREATEST,
            meter: None,
            members: 0,
            is_set_up: false,
        });
        self.group_of.insert(key, id);
        id
    }

    pub(crate) fn known_group(&self, tenant: u32, name: &str) -> Option<u32> {
        self.group_of.get(&(tenant, name.to_owned())).copied()
    }

    /// Adds a process that is not there yet; `parent` is the node of its parent, if it has one.
    pub(crate) fn admit(&mut self, key: K, place: &Place, parent: u32) {
        let tenant = self.tenant(&place.tenant);
        let group = self.group(tenant, &place.group);
        self.groups[group].members += 1;
        let admission = self.admissions;
        self.admissions += 1;
        let kin = match self.kin.of(&key) {
            Some(own) => {
                self.kin.set_ended(own, false);
                own
            }
            None => parent,
        };
        self.kin.hold(kin);
        let id = self.processes.insert(Process {
            key: key.clone(),
            tenant,
            group,
            class: place.class,
            priority: place.priority,
            admission,
            waits: None,
            flows: Vec::new(),
            kin,
        });
        self.process_of.insert(key, id);
    }

    /// The node of a process's own quota, made where there is none.
    pub(crate) fn own_kin(&mut self, id: u32) -> u32 {
        let process = &mut self.processes[id];
        if let Some(own) = self.kin.of(&process.key) {
            return own;
        }
        let parent = process.kin;
        let own = self.kin.insert(process.key.clone(), parent);
        self.kin.hold(own);
        process.kin = own;
        // The node refers to the parent's now. That is never the last who does.
        self.kin.let_go(parent, 0);
        own
    }

    /// The node of somebody's own quota, made where it is a process without one; [`NONE`] for who is
    /// neither a process nor an ancestor of one.
    pub(crate) fn kin_of(&mut self, key: &K) -> u32 {
        let process = self.process(key);
        let known = self.kin.of(key);
        known.or_else(|| process.map(|id| self.own_kin(id))).unwrap_or(NONE)
    }

    /// Removes a process, which may come back unless it is `gone` for good. Its group keeps it as a
    /// member until [`leave`](Self::leave).
    pub(crate) fn remove(&mut self, key: &K, gone: bool, now: u64) {
        if let Some(id) = self.process_of.remove(key) {
            let kin = self.processes[id].kin;
            if let Some(own) = self.kin.of(key) {
                self.kin.set_ended(own, gone);
            }
            self.processes.remove(id);
            self.kin.let_go(kin, now);
        }
    }

    /// A member of a group is gone. Tells whether the group is gone with it.
    pub(crate) fn leave(&mut self, group: u32) -> bool {
        let record = &mut self.groups[group];
        record.members -= 1;
        let is_gone = record.members == 0 && !record.is_set_up;
        if is_gone {
            let key = (record.tenant, std::mem::take(&mut record.name));
            self.group_of.remove(&key);
            self.groups.remove(group);
        }
        is_gone
    }
}
