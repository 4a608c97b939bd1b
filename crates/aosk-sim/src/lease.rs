//! Leases on a simulated disk: which open store owns which process, and how each store stands.
//!
//! A store that was opened alone is the only node, as the owner of a file is. Nodes that share a
//! disk stand as whoever tests says: a lapse and a loss come when they are wanted, because what is
//! to be seen is what a kernel does then, and not when a server would have said so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aosk_abi::{Pid, Tenant};
use aosk_ports::Standing;
use tokio::sync::Notify;

use crate::disk::StoreId;

/// How one node stands.
#[derive(Debug)]
pub(crate) struct Tenure {
    standing: Mutex<Standing>,
    changed: Arc<Notify>,
    /// How often it looks for what others left behind; `None` where it is the only one.
    pub(crate) others: Option<Duration>,
}

impl Tenure {
    pub(crate) fn new(others: Option<Duration>) -> Self {
        let standing = Mutex::new(Standing::Held { left: Duration::MAX });
        Self { standing, changed: Arc::default(), others }
    }

    pub(crate) fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        self.changed.notify_waiters();
    }

    /// Resolves at the next change after this call.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.changed.clone().notified_owned()
    }
}

/// Which store owns which process.
#[derive(Debug, Default)]
pub(crate) struct Owners(BTreeMap<(Tenant, Pid), StoreId>);

impl Owners {
    pub(crate) fn take(&mut self, tenant: &Tenant, pid: Pid, id: StoreId) {
        self.0.insert((tenant.clone(), pid), id);
    }

    pub(crate) fn give(&mut self, tenant: &Tenant, pid: Pid) {
        self.0.remove(&(tenant.clone(), pid));
    }

    pub(crate) fn of(&self, tenant: &Tenant, pid: Pid) -> Option<StoreId> {
        self.0.get(&(tenant.clone(), pid)).copied()
    }

    /// Forgets what a store owned that is gone.
    pub(crate) fn bury(&mut self, id: StoreId) {
        self.0.retain(|_, owner| *owner != id);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
