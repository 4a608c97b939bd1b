//! The reader: everything that one may do without owning processes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Code, ContentKey, Hash, Pid, Record, Seq, Tenant, Timestamp};
use aosk_ports::{
    Checkpoint, Inbox, InboxId, InboxItem, Journal, Posted, ProcessFilter, Receipt, StoreError,
};
use deadpool_postgres::Object;
use futures::future::BoxFuture;

use super::census::{self, Facts, Node, Occupied};
use super::fault::Fault;
use super::lease::fresh;
use super::options::PostgresOptions;
use super::session::{Ground, Patience, Sessions};
use super::tenant::TenantRow;
use super::{checkpoint, content, inbox, journal, process, schema, tenant, wake};
use crate::check;

/// How long a person who looks waits for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a server may take to start before it is said not to be there.
const STARTING: Duration = Duration::from_secs(15);

/// A store that others may own. It reads journals and posts to inboxes; it never changes a journal
/// and recovers nothing.
pub struct PostgresReader {
    questions: Questions,
    ground: Ground,
}

impl PostgresReader {
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

    /// Opens the store; blocks until the server has answered.
    ///
    /// # Errors
    /// [`Code::StoreOpen`] where there is none, and those of
    /// [`PostgresStore::open`](super::PostgresStore::open).
    pub fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        Self::find(options)?.ok_or_else(|| {
            let schema = &options.schema;
            StoreError::new(
                Code::StoreOpen,
                format!("there is no store in the schema {schema}: nothing ran there yet"),
            )
        })
    }

    /// Opens the store where there is one; blocks until the server has answered.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`](super::PostgresStore::open).
    pub fn find(options: &PostgresOptions) -> Result<Option<Self>, StoreError> {
        let sessions = Sessions::new(options.read()?, Patience::For(PATIENCE))?;
        let ground = Ground::start()?;
        let questions = Questions(Arc::clone(&sessions));
        let is_there = ground.wait(async move {
            let checked = async {
                let client = first(&sessions).await?;
                schema::check(&client, &sessions.address.schema).await
            };
            checked.await.map_err(|fault| fault.at(&sessions.address))
        })?;
        Ok(is_there.then_some(Self { questions, ground }))
    }

    /// The nodes that are alive, the oldest first.
    ///
    /// # Errors
    /// Those of [`PostgresStore::open`](super::PostgresStore::open).
    pub fn nodes(&self) -> BoxFuture<'static, Result<Vec<Node>, StoreError>> {
        let sessions = Arc::clone(&self.questions.0);
        self.ground.call(async move {
            sessions.ask(|client: Object| async move { census::nodes(&client).await }).await
        })
    }

    /// Which living node owns which of the tenant's unfinished processes, by its label.
    ///
    /// # Errors
    /// As [`nodes`](Self::nodes).
    pub fn owners(
        &self,
        tenant: &Tenant,
    ) -> BoxFuture<'static, Result<HashMap<Pid, String>, StoreError>> {
        let (sessions, tenant) = (Arc::clone(&self.questions.0), tenant.clone());
        self.ground.call(async move {
            let tenant = &tenant;
            sessions
                .ask(|client: Object| async move { census::owners(&client, tenant).await })
                .await
        })
    }

    /// The server and the database.
    ///
    /// # Errors
    /// As [`nodes`](Self::nodes).
    pub fn facts(&self) -> BoxFuture<'static, Result<Facts, StoreError>> {
        let sessions = Arc::clone(&self.questions.0);
        self.ground.call(async move {
            let ask = |client: Object| async move { census::server(&client).await };
            let (server, vectors) = sessions.ask(ask).await?;
            let address = &sessions.address;
            let (address, schema) = (address.shown.clone(), address.schema.clone());
            Ok(Facts { address, schema, server, vectors })
        })
    }

    /// What each table takes on the server's disk, the largest first.
    ///
    /// # Errors
    /// As [`nodes`](Self::nodes).
    pub fn occupied(&self) -> BoxFuture<'static, Result<Vec<Occupied>, StoreError>> {
        let sessions = Arc::clone(&self.questions.0);
        self.ground.call(async move {
            let schema = &sessions.address.schema;
            sessions
                .ask(|client: Object| async move { census::occupied(&client, schema).await })
                .await
        })
    }

    /// Posts items in one transaction, all or none; their numbers are in the order of the items.
    ///
    /// # Errors
    /// As [`Inbox::post`].
    pub fn post_all(
        &self,
        tenant: &Tenant,
        items: Vec<(Pid, InboxItem)>,
    ) -> BoxFuture<'static, Result<Vec<InboxId>, StoreError>> {
        let (questions, tenant) = (self.questions.clone(), tenant.clone());
        self.ground.call(async move {
            let sessions = Arc::clone(&questions.0);
            let ids = questions.post(tenant, items).await?;
            // They are posted; who does not hear of it finds them at the next look.
            if let Ok(client) = sessions.upkeep.get().await {
                let _ = client.batch_execute(&wake::notify(&sessions.address.schema)).await;
            }
            Ok(ids)
        })
    }
}

impl std::fmt::Debug for PostgresReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = &self.questions.0.address;
        f.debug_struct("PostgresReader").field("at", &address.shown).finish_non_exhaustive()
    }
}

/// The first connection. A server that is starting is waited for; one that is not there is not.
pub(super) async fn first(sessions: &Sessions) -> Result<Object, Fault> {
    let begun = tokio::time::Instant::now();
    loop {
        match sessions.upkeep.get().await {
            Ok(client) => return Ok(client),
            Err(error) => {
                let is_starting = matches!(
                    &error,
                    deadpool_postgres::PoolError::Backend(error)
                        if error.code().is_some_and(|state| state.code() == "57P03")
                );
                if !is_starting || begun.elapsed() > STARTING {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The questions that anyone may ask.
#[derive(Clone)]
pub(super) struct Questions(pub(super) Arc<Sessions>);

impl Questions {
    /// The tenant, if it was ever used.
    pub(super) async fn tenant(
        &self,
        client: &Object,
        name: &Tenant,
    ) -> Result<Option<TenantRow>, Fault> {
        if let Some(row) = self.0.known(name) {
            return Ok(Some(row));
        }
        let row = tenant::find(client, name).await?;
        if let Some(row) = row {
            self.0.know(name, row);
        }
        Ok(row)
    }

    pub(super) async fn content_key(self, tenant: Tenant) -> Result<ContentKey, StoreError> {
        let answer = self.0.ask(|client| {
            let (this, tenant) = (&self, &tenant);
            async move {
                let row = this.tenant(&client, tenant).await?.ok_or_else(|| {
                    Fault::refused(
                        Code::StoreUnknownProcess,
                        format!("tenant {tenant} has nothing here; a kernel makes it"),
                    )
                })?;
                Ok(row.key)
            }
        });
        answer.await
    }

    pub(super) async fn process(
        self,
        tenant: Tenant,
        pid: Pid,
    ) -> Result<Option<Receipt>, StoreError> {
        let tenant = &tenant;
        let show = |client: Object| async move { process::show(&client, tenant, pid).await };
        self.0.ask(show).await
    }

    pub(super) async fn processes(
        self,
        tenant: Tenant,
        filter: ProcessFilter,
    ) -> Result<Vec<Receipt>, StoreError> {
        let tenant = &tenant;
        let list = |client: Object| async move { process::list(&client, tenant, filter).await };
        self.0.ask(list).await
    }

    pub(super) async fn read(
        self,
        tenant: Tenant,
        pid: Pid,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let tenant = &tenant;
        let read = |client: Object| async move {
            let place = process::expect(&client, tenant, pid).await?;
            journal::read(&client, tenant, &place, from, limit).await
        };
        self.0.ask(read).await
    }

    pub(super) async fn since(
        self,
        tenant: Tenant,
        pid: Pid,
        time: Timestamp,
    ) -> Result<Seq, StoreError> {
        let tenant = &tenant;
        let search = |client: Object| async move {
            let place = process::expect(&client, tenant, pid).await?;
            journal::since(&client, &place, time).await
        };
        self.0.ask(search).await
    }

    pub(super) async fn contents(
        self,
        tenant: Tenant,
        pid: Pid,
        wanted: Vec<(Seq, Hash)>,
    ) -> Result<Vec<Arc<[u8]>>, StoreError> {
        let (this, tenant, wanted) = (&self, &tenant, &wanted);
        let read = |client: Object| async move {
            let Some(row) = this.tenant(&client, tenant).await? else {
                return Err(check::unknown(tenant, pid).into());
            };
            let place = process::expect(&client, tenant, pid).await?;
            content::read(&client, &row, &place, wanted).await
        };
        this.0.ask(read).await
    }

    pub(super) async fn checkpoint(
        self,
        tenant: Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let tenant = &tenant;
        let read = |client: Object| async move {
            let place = process::expect(&client, tenant, pid).await?;
            checkpoint::read(&client, &place, at).await
        };
        self.0.ask(read).await
    }

    pub(super) async fn post(
        self,
        tenant: Tenant,
        items: Vec<(Pid, InboxItem)>,
    ) -> Result<Vec<InboxId>, StoreError> {
        let nonces = items.iter().map(|_| fresh()).collect::<Result<Vec<_>, _>>()?;
        let (tenant, items, nonces) = (&tenant, &items, &nonces);
        let post = |mut client: Object| async move {
            inbox::post(&mut client, tenant, items, nonces).await
        };
        self.0.ask(post).await
    }

    pub(super) async fn pending(self, tenant: Tenant) -> Result<Vec<Posted>, StoreError> {
        let tenant = &tenant;
        self.0.ask(|client: Object| async move { inbox::pending(&client, tenant).await }).await
    }
}

impl Journal for PostgresReader {
    fn content_key(&self, tenant: &Tenant) -> BoxFuture<'_, Result<ContentKey, StoreError>> {
        self.ground.call(self.questions.clone().content_key(tenant.clone()))
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

impl Inbox for PostgresReader {
    fn post(
        &self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> BoxFuture<'_, Result<InboxId, StoreError>> {
        let posted = self.post_all(tenant, vec![(pid, item)]);
        Box::pin(async move { posted.await?.pop().ok_or_else(check::closed) })
    }

    fn pending(&self, tenant: &Tenant) -> BoxFuture<'_, Result<Vec<Posted>, StoreError>> {
        self.ground.call(self.questions.clone().pending(tenant.clone()))
    }
}
