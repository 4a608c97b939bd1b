//! Where a check runs.

use std::sync::Arc;

use aosk_abi::{Pid, Tenant};
use aosk_ports::{ContentStore, Store};

use crate::scribe::Scribe;

/// A place where one store lives: a folder, a schema of a database, a variable.
pub trait Site: Send {
    /// Opens the store that lives here, empty at the first time. Called again only after every
    /// handle of the time before was dropped; what was acknowledged then is there now.
    fn open(&mut self) -> Arc<dyn Store>;
}

/// A store that takes contents by themselves, too.
pub trait WholeStore: Store + ContentStore {}

impl<T: Store + ContentStore> WholeStore for T {}

/// A place where one such store lives.
pub trait ContentSite: Send {
    /// Opens the store that lives here, as [`Site::open`] does.
    fn open(&mut self) -> Arc<dyn WholeStore>;
}

/// A site with its store open.
pub struct World {
    site: Box<dyn Site>,
    store: Option<Arc<dyn Store>>,
}

impl World {
    pub(crate) fn new(mut site: Box<dyn Site>) -> Self {
        let store = Some(site.open());
        Self { site, store }
    }

    /// The store.
    ///
    /// # Panics
    /// Never: it is only away while [`reopen`](Self::reopen) runs.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("open")
    }

    /// Closes the store and opens it again.
    ///
    /// # Panics
    /// If somebody else still holds it.
    pub fn reopen(&mut self) {
        let store = self.store.take().expect("open");
        assert_eq!(Arc::strong_count(&store), 1, "the check itself still holds the store");
        drop(store);
        self.store = Some(self.site.open());
    }

    /// Writes for the `n`-th process of the tenant `local`.
    pub async fn scribe(&self, n: u64) -> Scribe {
        self.scribe_of(&Tenant::local(), n).await
    }

    /// Writes for the `n`-th process of a tenant.
    pub async fn scribe_of(&self, tenant: &Tenant, n: u64) -> Scribe {
        Scribe::new(self.store().as_ref(), tenant, pid(n)).await
    }
}

/// The `n`-th process id; they sort by `n`.
pub(crate) fn pid(n: u64) -> Pid {
    Pid::from_parts(1_700_000_000_000 + n, [7; 10])
}

/// Runs a check on a fresh site, on two threads.
///
/// # Panics
/// If the check fails.
pub fn run<C: AsyncFnOnce(World)>(check: C, site: impl Fn() -> Box<dyn Site>) {
    runtime().block_on(check(World::new(site())));
}

/// Runs a check of contents on a fresh site, on two threads.
///
/// # Panics
/// If the check fails.
pub fn run_contents<C: AsyncFnOnce(Box<dyn ContentSite>)>(check: C, site: Box<dyn ContentSite>) {
    runtime().block_on(check(site));
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}
