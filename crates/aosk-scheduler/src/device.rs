//! Devices: slots, a pause, and the tree of those who wait.

use std::collections::BTreeMap;
use std::time::Duration;

use aosk_abi::Tenant;

use crate::fair_queue::FairQueue;
use crate::units::Units;
use crate::weight;

/// A device of a scheduler; [`add_device`](crate::Scheduler::add_device) makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub(crate) usize);

impl DeviceId {
    /// 0, 1, 2, … in the order in which devices were added.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// How busy a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How many calls it takes at once.
    pub slots: usize,
    /// How many are in flight.
    pub in_flight: usize,
    /// How many processes wait for it.
    pub waiting: usize,
    /// Before this time nothing is dispatched to it.
    pub opens_at: Duration,
}

/// A device and its queues: tenants share the device, processes share their tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device<K> {
    pub(crate) load: Load,
    tenants: FairQueue<Tenant>,
    /// A tenant's account outlives its processes: ending and starting them all again would wipe
    /// its debt. Tenants are few and an account takes some 200 bytes.
    processes: BTreeMap<Tenant, FairQueue<K>>,
}

impl<K: Ord + Clone> Device<K> {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            load: Load { slots, in_flight: 0, waiting: 0, opens_at: Duration::ZERO },
            tenants: FairQueue::default(),
            processes: BTreeMap::new(),
        }
    }

    pub(crate) fn wake(&mut self, tenant: &Tenant, key: &K, weight: u32, estimate: Units) {
        let processes = self.processes.entry(tenant.clone()).or_default();
        if processes.is_idle() {
            self.tenants.wake(tenant, weight::TENANT, estimate);
        }
        processes.wake(key, weight, estimate);
        self.load.waiting += 1;
    }

    /// A process has another weight from now on.
    pub(crate) fn reweigh(&mut self, tenant: &Tenant, key: &K, weight: u32) {
        if let Some(processes) = self.processes.get_mut(tenant) {
            processes.reweigh(key, weight);
        }
    }

    /// Takes back the wish of a process that waits.
    pub(crate) fn withdraw(&mut self, tenant: &Tenant, key: &K) {
        if let Some(processes) = self.processes.get_mut(tenant) {
            processes.withdraw(key);
            if processes.is_idle() {
                self.tenants.withdraw(tenant);
            }
        }
        self.load.waiting -= 1;
    }

    /// Whether a call could start at `now`.
    pub(crate) fn is_ready(&self, now: Duration) -> bool {
        self.is_wanted() && self.load.opens_at <= now
    }

    /// Whether nothing but a pause keeps a call from starting.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.load.waiting > 0 && self.load.in_flight < self.load.slots
    }

    /// Who goes next.
    pub(crate) fn first(&self) -> Option<(Tenant, K)> {
        let tenant = self.tenants.first()?;
        let key = self.processes.get(tenant)?.first()?;
        Some((tenant.clone(), key.clone()))
    }

    pub(crate) fn dispatch(&mut self, tenant: &Tenant, key: &K, estimate: Units) {
        if let Some(processes) = self.processes.get_mut(tenant) {
            processes.dispatch(key, estimate, false);
            self.tenants.dispatch(tenant, estimate, !processes.is_idle());
        }
        self.load.waiting -= 1;
        self.load.in_flight += 1;
    }

    /// A call of the tenant has ended; `key` is absent where its process was removed since.
    pub(crate) fn settle(
        &mut self,
        tenant: &Tenant,
        key: Option<&K>,
        estimate: Units,
        actual: Units,
    ) {
        self.tenants.settle(tenant, estimate, actual);
        if let (Some(key), Some(processes)) = (key, self.processes.get_mut(tenant)) {
            processes.settle(key, estimate, actual);
        }
        self.load.in_flight -= 1;
    }

    pub(crate) fn forget(&mut self, tenant: &Tenant, key: &K) {
        if let Some(processes) = self.processes.get_mut(tenant) {
            processes.forget(key);
        }
    }
}
