//! Fail points: a store of which one call goes wrong, chosen by its number.
//!
//! [Power](crate::Power) with a fuse kills a machine at any await, which covers every crash; it
//! leaves no kernel behind that has to go on. A kernel also has to live with a store that refuses
//! once, or that did what it was asked and could not say so, or that never says anything: three more
//! things to happen before and after each call. So calls are counted, and the n-th meets a
//! [`Mishap`]; a test tries all of them, where faults by chance would need thousands of seeds to meet
//! each once.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aosk_abi::{Code, ContentKey, Epoch, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{
    Append, Budgets, Checkpoint, Draw, Drawn, Inbox, InboxId, InboxItem, Journal, JournalWriter,
    Leases, Posted, ProcessFilter, Receipt, Standing, StoreError, Ticket,
};
use futures::future::BoxFuture;

use crate::store::MemoryStore;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It fails with `AOSK-S011`, and nothing was done.
    FailsBefore,
    /// It fails with `AOSK-S011`, and all was done: the answer was lost.
    FailsAfter,
    /// It is never answered, and nothing was done.
    HangsBefore,
    /// It is never answered, and all was done.
    HangsAfter,
    /// The machine dies, and nothing was done.
    DiesBefore,
    /// The machine dies when all was done.
    DiesAfter,
}

impl Mishap {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::FailsBefore,
        Self::FailsAfter,
        Self::HangsBefore,
        Self::HangsAfter,
        Self::DiesBefore,
        Self::DiesAfter,
    ];

    const fn is_after(self) -> bool {
        matches!(self, Self::FailsAfter | Self::HangsAfter | Self::DiesAfter)
    }
}

/// A store of which one call goes wrong. What it tells by itself, without being waited for (where it
/// stands, that something was posted), is no call.
#[derive(Debug, Clone)]
pub struct FailPoints {
    store: MemoryStore,
    /// The number of the call, from 1, and what happens to it.
    point: Option<(usize, Mishap)>,
    calls: Arc<Mutex<Vec<&'static str>>>,
    happened: Arc<AtomicBool>,
}

impl FailPoints {
    /// The store with that call going wrong; the first is 1.
    #[must_use]
    pub fn new(store: MemoryStore, point: Option<(usize, Mishap)>) -> Self {
        Self { store, point, calls: Arc::default(), happened: Arc::default() }
    }

    /// The calls so far, by the names of the ports' methods.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the mishap has happened.
    #[must_use]
    pub fn has_happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }

    /// Counts a call; what happens to it.
    fn count(&self, name: &'static str) -> Option<Mishap> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(name);
        let mishap = self.point.filter(|(number, _)| *number == calls.len()).map(|(_, it)| it);
        self.happened.fetch_or(mishap.is_some(), Ordering::Relaxed);
        mishap
    }

    fn meet<'a, T: Send + 'a>(
        &'a self,
        name: &'static str,
        call: impl FnOnce() -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        match self.count(name) {
            None => call(),
            Some(mishap) => {
                let done = mishap.is_after().then(call);
                let store = self.store.clone();
                Box::pin(async move {
                    if let Some(done) = done {
                        drop(done.await);
                    }
                    answer(&store, mishap).await
                })
            }
        }
    }
}

/// What the caller hears.
async fn answer<T>(store: &MemoryStore, mishap: Mishap) -> Result<T, StoreError> {
    match mishap {
        Mishap::FailsBefore | Mishap::FailsAfter => {
            Err(StoreError::new(Code::StoreIo, "the call meets a fail point; nothing else does"))
        }
        Mishap::HangsBefore | Mishap::HangsAfter => pending().await,
        Mishap::DiesBefore | Mishap::DiesAfter => {
            store.crash();
            pending().await
        }
    }
}

impl JournalWriter for FailPoints {
    fn append(&self, append: Append) -> Ticket {
        let Some(mishap) = self.count("append") else {
            return self.store.append(append);
        };
        let done = mishap.is_after().then(|| self.store.append(append));
        let store = self.store.clone();
        if done.is_none() && mishap == Mishap::DiesBefore {
            // Not when it is first polled: what comes behind it must not be done either.
            store.crash();
        }
        Ticket::new(async move {
            if let Some(done) = done {
                drop(done.await);
            }
            answer(&store, mishap).await
        })
    }

    fn dismiss(&self, tenant: &Tenant, pid: Pid, next: Seq, items: &[InboxId]) -> Answer<'_, ()> {
        self.meet("dismiss", || self.store.dismiss(tenant, pid, next, items))
    }

    fn claim(&self, tenant: &Tenant, pid: Pid, expected: Epoch) -> Answer<'_, Epoch> {
        self.meet("claim", || self.store.claim(tenant, pid, expected))
    }
}

impl Leases for FailPoints {
    fn standing(&self) -> Standing {
        self.store.standing()
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        self.store.changed()
    }

    fn renew(&self) -> Answer<'_, Standing> {
        self.meet("renew", || self.store.renew())
    }

    fn take_over(&self, tenant: &Tenant, limit: usize) -> Answer<'_, Vec<Receipt>> {
        self.meet("take_over", || self.store.take_over(tenant, limit))
    }

    fn release(&self, tenant: &Tenant, pid: Pid, epoch: Epoch) -> Answer<'_, ()> {
        self.meet("release", || self.store.release(tenant, pid, epoch))
    }

    fn others(&self) -> Option<Duration> {
        self.store.others()
    }

    fn elsewhere(&self, tenant: &Tenant, pid: Pid) -> Answer<'_, Option<String>> {
        self.meet("elsewhere", || self.store.elsewhere(tenant, pid))
    }
}

impl Budgets for FailPoints {
    fn draw(&self, draw: Draw) -> Answer<'_, Drawn> {
        self.meet("draw", || self.store.draw(draw))
    }
}

impl Inbox for FailPoints {
    fn post(&self, tenant: &Tenant, pid: Pid, item: InboxItem) -> Answer<'_, InboxId> {
        self.meet("post", || self.store.post(tenant, pid, item))
    }

    fn pending(&self, tenant: &Tenant) -> Answer<'_, Vec<Posted>> {
        self.meet("pending", || self.store.pending(tenant))
    }

    fn posted(&self) -> Option<BoxFuture<'_, ()>> {
        self.store.posted()
    }
}

impl Journal for FailPoints {
    fn content_key(&self, tenant: &Tenant) -> Answer<'_, ContentKey> {
        self.meet("content_key", || self.store.content_key(tenant))
    }

    fn process(&self, tenant: &Tenant, pid: Pid) -> Answer<'_, Option<Receipt>> {
        self.meet("process", || self.store.process(tenant, pid))
    }

    fn processes(&self, tenant: &Tenant, filter: ProcessFilter) -> Answer<'_, Vec<Receipt>> {
        self.meet("processes", || self.store.processes(tenant, filter))
    }

    fn read(&self, tenant: &Tenant, pid: Pid, from: Seq, limit: usize) -> Answer<'_, Vec<Record>> {
        self.meet("read", || self.store.read(tenant, pid, from, limit))
    }

    fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> Answer<'_, Vec<Arc<[u8]>>> {
        self.meet("contents", || self.store.contents(tenant, pid, wanted))
    }

    fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> Answer<'_, Option<Checkpoint>> {
        self.meet("checkpoint", || self.store.checkpoint(tenant, pid, at))
    }
}
