//! The connections of a store, and the thread that they live on.
//!
//! A store has a thread with a runtime of its own. Renewing a lease in time must not depend on how
//! busy the kernel's threads are, callers need no runtime of any kind, and dropping a store can wait
//! for what is enqueued. A call costs two hand-overs between threads, little beside a round trip;
//! only the writer, for which each step waits, [runs elsewhere](super::seat) where it can.
//!
//! Steps, upkeep and reads have connections of their own, so that a long read delays no step and a
//! full pool delays no renewal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aosk_abi::{Code, Tenant};
use aosk_ports::StoreError;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use futures::future::BoxFuture;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::connect::Dial;
use super::fault::Fault;
use super::host::Berth;
use super::link::Line;
use super::options::Address;
use super::tenant::TenantRow;
use crate::check::closed;

/// How many reads run at once.
const READS: usize = 4;

/// How often a transaction that clashed with another writer is run again at once. Two writers of
/// one process meet for the moment of a take-over; whoever clashes longer has another reason.
pub(super) const CLASHES: u32 = 20;

/// The pauses between two attempts to connect: a restart of the server takes a second or more, and
/// many nodes come back at once.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the next attempt waits.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) const fn new() -> Self {
        Self(PAUSE)
    }

    pub(super) async fn pause(&mut self) {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
    }
}

/// How long a question may wait for a server that does not answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// As long as the store is open: an agent waits, it does not fail.
    Unlimited,
    /// For a person who looks.
    For(Duration),
}

/// The connections of a store.
pub(super) struct Sessions {
    pub(super) address: Address,
    pub(super) dial: Dial,
    pub(super) upkeep: Pool,
    reads: Pool,
    pub(super) line: Line,
    patience: Patience,
    /// The tenants that were met. A tenant's number and key never change.
    tenants: Mutex<HashMap<Tenant, TenantRow>>,
}

impl Sessions {
    /// The connections to a store, none made yet.
    pub(super) fn new(address: Address, patience: Patience) -> Result<Arc<Self>, StoreError> {
        let dial = Dial::new(address.trust.connector()?, &address.schema, address.lease);
        Ok(Arc::new(Self {
            upkeep: pool(&address, dial.clone(), 1)?,
            reads: pool(&address, dial.clone(), READS)?,
            address,
            dial,
            line: Line::new(),
            patience,
            tenants: Mutex::default(),
        }))
    }

    /// The one connection of the writer, which hosts what is left in the berth.
    pub(super) fn steps(&self, berth: Berth) -> Result<Pool, StoreError> {
        pool(&self.address, self.dial.by_key(berth), 1)
    }

    /// Reads or writes outside of the group commit; `work` is begun again after a lost connection, so
    /// it must be one that may be repeated.
    pub(super) async fn ask<T, F>(&self, work: impl Fn(Object) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let (begun, mut backoff, mut clashes) = (Instant::now(), Backoff::new(), 0);
        loop {
            let fault = match self.reads.get().await {
                Ok(client) => match work(client).await {
                    Ok(answer) => {
                        self.line.up();
                        return Ok(answer);
                    }
                    Err(fault) => fault,
                },
                Err(error) => error.into(),
            };
            match fault {
                Fault::Lost(what) => {
                    self.line.down(&what);
                    if matches!(self.patience, Patience::For(limit) if begun.elapsed() >= limit) {
                        return Err(Fault::Lost(what).at(&self.address));
                    }
                    backoff.pause().await;
                }
                Fault::Clash(_) if clashes < CLASHES => clashes += 1,
                other => return Err(other.at(&self.address)),
            }
        }
    }

    /// A tenant that was met before.
    pub(super) fn known(&self, tenant: &Tenant) -> Option<TenantRow> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).copied()
    }

    /// Remembers a tenant.
    pub(super) fn know(&self, tenant: &Tenant, row: TenantRow) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.insert(tenant.clone(), row);
    }
}

fn pool(address: &Address, dial: Dial, size: usize) -> Result<Pool, StoreError> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(address.config.clone(), dial, config);
    Pool::builder(manager).max_size(size).build().map_err(|error| {
        StoreError::new(Code::StoreIo, format!("no connections can be kept: {error}"))
    })
}

/// A thread with a runtime. Dropping it ends both, and with them what still runs there.
#[derive(Debug)]
pub(super) struct Ground {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ground {
    /// Starts the thread.
    pub(super) fn start() -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::new(
                Code::StoreIo,
                format!("the system gives no thread to the store: {error}; raise its limits"),
            )
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("aosk-store-postgres".to_owned())
            .spawn(move || {
                // Dropping the sender is the signal.
                let _ = runtime.block_on(stopped);
            })
            .map_err(failed)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Where things run.
    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `work` there and blocks until it is done.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = std::sync::mpsc::channel();
        self.handle.spawn(async move {
            // Its receiver waits in this very call.
            let _ = sender.send(work.await);
        });
        answer.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Runs `work` there; the answer can be awaited anywhere.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (sender, answer) = oneshot::channel();
        self.handle.spawn(async move {
            // Nobody listens to a question that was given up.
            let _ = sender.send(work.await);
        });
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(closed())) })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its hook; its callers got `StoreClosed`.
            let _ = thread.join();
        }
    }
}
