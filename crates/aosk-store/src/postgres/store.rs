//! The store as a kernel node has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aosk_abi::{ContentKey, Epoch, Hash, Pid, Record, Seq, Tenant, Timestamp};
use aosk_ports::{
    Append, Budgets, Checkpoint, Draw, Drawn, Inbox, InboxId, InboxItem, Journal, JournalWriter,
    Leases, Posted, ProcessFilter, Receipt, Standing, StoreError, Ticket,
};
use deadpool_postgres::Object;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use super::lease::{self, Call, Tenure};
use super::link::Link;
use super::options::PostgresOptions;
use super::queue::Depth;
use super::reader::{Questions, first};
use super::seat::Seat;
use super::session::{Ground, Patience, Sessions};
use super::wake::{Bell, POLL};
use super::writer::{Desk, GRACE, Writer};
use super::{budget, census, inbox, partition, process, schema, tenant, vectors, wake};
use crate::check::closed;

/// A store in PostgreSQL, with this program as one of its nodes. Dropping it commits what is
/// enqueued, gives the node's processes up and blocks until that is done; where the server does not
/// answer, for some seconds.
pub struct PostgresStore {
    desk: Desk,
    tenure: Arc<Tenure>,
    bell: Arc<Bell>,
    /// What of the bell was heard.
    heard: Mutex<watch::Receiver<u64>>,
    questions: Questions,
    no_vectors: Option<StoreError>,
    seat: Seat,
    /// Ends when everything is written.
    written: Option<oneshot::Receiver<()>>,
    ground: Ground,
}

impl PostgresStore {
    /// Opens the store, or makes it; migrates an older one; enters the node. Blocks until the server
    /// has answered.
    ///
    /// # Errors
    /// Of [`Code`](aosk_abi::Code): `StoreAddress`, `StoreUnreachable`, `StoreAccess`,
    /// `StoreOpen` for a database that is not there or a server that is too old,
    /// `StoreForeign`, `StoreNewerSchema`, `StoreReadOnly`,
    /// `StoreFull`, `StoreIo`.
    pub fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        Self::enter(options, None)
    }

    /// The same in the place of the node with that number, whose processes need not wait for the end
    /// of its lease. Whoever calls this knows that its program has ended, by a lock that only one of
    /// them can hold. A number that no node has changes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_after(options: &PostgresOptions, former: NodeId) -> Result<Self, StoreError> {
        Self::enter(options, Some(former))
    }

    /// The number of this node, for [`open_after`](Self::open_after).
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(self.tenure.node())
    }

    fn enter(options: &PostgresOptions, former: Option<NodeId>) -> Result<Self, StoreError> {
        let sessions = Sessions::new(options.read()?, Patience::Unlimited)?;
        let ground = Ground::start()?;
        let (tenure, no_vectors) = ground.wait({
            let (sessions, label, lease) =
                (Arc::clone(&sessions), options.label.clone(), options.lease);
            async move {
                let prepared = async {
                    let mut client = first(&sessions).await?;
                    schema::prepare(&mut client, &sessions.address.schema).await?;
                    let no_vectors =
                        vectors::prepare(&mut client, &sessions.address.schema).await?;
                    Ok((
                        lease::register(&client, &label, lease, former.map(|id| id.0)).await?,
                        no_vectors,
                    ))
                };
                prepared.await.map_err(|fault: super::fault::Fault| fault.at(&sessions.address))
            }
        })?;
        if let Some(error) = &no_vectors {
            tracing::warn!(%error, "the store has no vectors");
        }
        let (desk, tenure, bell) = (Desk::new(), Arc::new(tenure), Arc::new(Bell::new()));
        let (writer, written) =
            Writer::new(Arc::clone(&sessions), Arc::clone(&tenure), desk.clone())?;
        let seat = Seat::take(writer, ground.handle());
        ground.handle().spawn(lease::keep(Arc::clone(&sessions), Arc::clone(&tenure)));
        ground.handle().spawn(partition::keep(Arc::clone(&sessions)));
        ground.handle().spawn(wake::attend(Arc::clone(&sessions), Arc::clone(&bell)));
        let (questions, heard) = (Questions(sessions), Mutex::new(bell.watch()));
        Ok(Self {
            desk,
            tenure,
            bell,
            heard,
            questions,
            no_vectors,
            seat,
            written: Some(written),
            ground,
        })
    }

    /// What waits to be written. It stays deep where the server is slower than the agents.
    #[must_use]
    pub fn queue_depth(&self) -> Depth {
        self.desk.depth()
    }

    /// Whether the server answers.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.questions.0.line.watch()
    }

    /// A count that grows when something may wait for a process: an item was posted, a process was
    /// given up. It also grows once a second by itself, so whoever looks at each change needs no
    /// clock of its own.
    #[must_use]
    pub fn wakeups(&self) -> watch::Receiver<u64> {
        self.bell.watch()
    }

    /// Whether `context_storage` has the column of vectors.
    ///
    /// # Errors
    /// `StoreNoVectors` of [`Code`](aosk_abi::Code) with what to do about it.
    pub fn vectors(&self) -> Result<(), StoreError> {
        self.no_vectors.clone().map_or(Ok(()), Err)
    }

    /// Asks something on the store's own thread.
    pub(super) fn ask<T: Send + 'static, F>(
        &self,
        question: impl FnOnce(Questions) -> F,
    ) -> BoxFuture<'static, Result<T, StoreError>>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.ground.call(question(self.questions.clone()))
    }

    fn sessions(&self) -> Arc<Sessions> {
        Arc::clone(&self.questions.0)
    }
}

/// The number of a node; another one each time a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(Uuid);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for NodeId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().map(Self)
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("at", &self.questions.0.address.shown)
            .field("node", &self.tenure.node())
            .finish_non_exhaustive()
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.desk.close();
        // The thread that drops the store waits here, and may be one that the writer would need.
        self.seat.leave();
        let written = self.written.take();
        let (sessions, tenure) = (self.sessions(), Arc::clone(&self.tenure));
        // A node that cannot say so is taken for dead once its lease has ended.
        let _ = self.ground.wait(async move {
            // A panic of the writer was reported by its hook; its callers got `StoreClosed`.
            if let Some(written) = written {
                let _ = written.await;
            }
            let resigned = async {
                let client = sessions.upkeep.get().await?;
                lease::resign(&client, &tenure, &sessions.address.schema).await
            };
            match tokio::time::timeout(GRACE, resigned).await {
                Ok(resigned) => resigned.map_err(|fault| fault.at(&sessions.address)),
                Err(_) => Err(closed()),
            }
        });
    }
}

impl JournalWriter for PostgresStore {
    fn append(&self, append: Append) -> Ticket {
        let answer = self.desk.enqueue(append);
        Ticket::new(async move { answer.await.unwrap_or_else(|_| Err(closed())) })
    }

    fn dismiss(
        &self,
        tenant: &Tenant,
        pid: Pid,
        next: Seq,
        items: &[InboxId],
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (sessions, tenure) = (self.sessions(), Arc::clone(&self.tenure));
        let (tenant, items) = (tenant.clone(), items.to_vec());
        self.ground.call(async move {
            tenure.check()?;
            let (tenant, items) = (&tenant, &items);
            let remove = |client: Object| async move {
                inbox::remove(&client, tenant, pid, next, items).await
            };
            sessions.ask(remove).await
        })
    }

    fn claim(
        &self,
        tenant: &Tenant,
        pid: Pid,
        expected: Epoch,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        let (sessions, tenure) = (self.sessions(), Arc::clone(&self.tenure));
        let tenant = tenant.clone();
        self.ground.call(async move {
            tenure.check()?;
            let (numbers, tenant) = ([tenure.node(), lease::fresh()?], &tenant);
            let claim = |client: Object| async move {
                process::claim(&client, tenant, pid, expected, numbers).await
            };
            sessions.ask(claim).await
        })
    }
}

impl Leases for PostgresStore {
    fn standing(&self) -> Standing {
        self.tenure.standing()
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let mut news = self.tenure.watch();
        Box::pin(async move {
            // It ends with the store, which changes the standing of everyone who waits.
            let _ = news.changed().await;
        })
    }

    fn renew(&self) -> BoxFuture<'_, Result<Standing, StoreError>> {
        let (sessions, tenure) = (self.sessions(), Arc::clone(&self.tenure));
        self.ground.call(async move {
            let of = &*tenure;
            sessions.ask(|client: Object| async move { lease::renew(&client, of).await }).await?;
            Ok(tenure.standing())
        })
    }

    fn take_over(
        &self,
        tenant: &Tenant,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        let (sessions, tenure) = (self.sessions(), Arc::clone(&self.tenure));
        let tenant = tenant.clone();
        self.ground.call(async move {
            let (of, tenant) = (&*tenure, &tenant);
            let (number, begun) = (lease::fresh()?, AtomicBool::new(false));
            let take = |mut client: Object| {
                let call = Call { number, again: begun.swap(true, Ordering::Relaxed) };
                async move { lease::take_over(&mut client, of, tenant, limit, call).await }
            };
            sessions.ask(take).await
        })
    }

    fn release(
        &self,
        tenant: &Tenant,
        pid: Pid,
        epoch: Epoch,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (sessions, tenant, bell) = (self.sessions(), tenant.clone(), Arc::clone(&self.bell));
        self.ground.call(async move {
            let tenant = &tenant;
            let release =
                |client: Object| async move { process::release(&client, tenant, pid, epoch).await };
            sessions.ask(release).await?;
            bell.ring();
            Ok(())
        })
    }

    fn others(&self) -> Option<Duration> {
        Some(POLL)
    }

    fn elsewhere(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let (sessions, node, tenant) = (self.sessions(), self.tenure.node(), tenant.clone());
        self.ground.call(async move {
            let tenant = &tenant;
            let look =
                |client: Object| async move { census::elsewhere(&client, tenant, pid, node).await };
            sessions.ask(look).await
        })
    }
}

impl Journal for PostgresStore {
    fn content_key(&self, tenant: &Tenant) -> BoxFuture<'_, Result<ContentKey, StoreError>> {
        let (sessions, tenant) = (self.sessions(), tenant.clone());
        self.ground.call(async move {
            if let Some(row) = sessions.known(&tenant) {
                return Ok(row.key);
            }
            let name = &tenant;
            let make = |client: Object| async move { tenant::find_or_make(&client, name).await };
            let row = sessions.ask(make).await?;
            sessions.know(&tenant, row);
            Ok(row.key)
        })
    }

    fn process(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<Receipt>, StoreError>> {
        self.ground.call(self.questions.clone().process(tenant.clone(), pid))
    }

    fn processes(
        &self,
        tenant: &Tenant,
        filter: ProcessFilter,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        self.ground.call(self.questions.clone().processes(tenant.clone(), filter))
    }

    fn read(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.ground.call(self.questions.clone().read(tenant.clone(), pid, from, limit))
    }

    fn since(
        &self,
        tenant: &Tenant,
        pid: Pid,
        time: Timestamp,
    ) -> BoxFuture<'_, Result<Seq, StoreError>> {
        self.ground.call(self.questions.clone().since(tenant.clone(), pid, time))
    }

    fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, StoreError>> {
        self.ground.call(self.questions.clone().contents(tenant.clone(), pid, wanted.to_vec()))
    }

    fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<Checkpoint>, StoreError>> {
        self.ground.call(self.questions.clone().checkpoint(tenant.clone(), pid, at))
    }
}

impl Budgets for PostgresStore {
    fn draw(&self, draw: Draw) -> BoxFuture<'_, Result<Drawn, StoreError>> {
        let sessions = self.sessions();
        self.ground.call(async move {
            let draw = &draw;
            // Said again where the answer was lost, it is the same number.
            let ask = |mut client: Object| async move { budget::draw(&mut client, draw).await };
            sessions.ask(ask).await
        })
    }
}

impl Inbox for PostgresStore {
    fn post(
        &self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> BoxFuture<'_, Result<InboxId, StoreError>> {
        let (questions, bell) = (self.questions.clone(), Arc::clone(&self.bell));
        let tenant = tenant.clone();
        self.ground.call(async move {
            let ids = questions.post(tenant, vec![(pid, item)]).await?;
            bell.ring();
            ids.first().copied().ok_or_else(closed)
        })
    }

    fn pending(&self, tenant: &Tenant) -> BoxFuture<'_, Result<Vec<Posted>, StoreError>> {
        self.ground.call(self.questions.clone().pending(tenant.clone()))
    }

    fn posted(&self) -> Option<BoxFuture<'_, ()>> {
        Some(Box::pin(async {
            // The bell lives as long as the store, so there is always a next change.
            let _ = self.heard.lock().await.changed().await;
        }))
    }
}
