//! The search index of a store on a server: tables beside the store's own.
//!
//! Words are ranked from a `tsvector` that is filled with the index's own terms, so both backends find
//! the same; directions by pgvector. A server without pgvector is searched by words, and says once
//! what it lacks.

mod ask;
mod find;
mod put;
mod schema;
mod space;
mod words;

use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Code, Pid, Tenant};
use aosk_ports::{Batch, Cursor, Embedding, StoreError};
use deadpool_postgres::Object;
use futures::future::{BoxFuture, ready};
use tokio_postgres::error::SqlState;

use self::schema::Vectors;
use super::fault::{Fault, quoted};
use super::options::PostgresOptions;
use super::reader::first;
use super::session::{Ground, Patience, Sessions};
use crate::search::index::Model;
use crate::search::shelf::{Counts, Row, Scope, Shelf, Shown, Waiting};

/// The least memory that the server is given to make a graph in, in KiB. One that does not fit is made
/// in the tables, many times as slowly.
const GRAPH_KIB: u32 = 512 * 1_024;

/// How many links a vector has in the graph. Of 100,000 with 384 components a walk found 98 % of the ten
/// nearest in 8.5 ms with 24 and in 9.2 with 16, which take three quarters of the time to make.
const LINKS: u32 = 24;

/// How long a search waits for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An index on a server.
pub(crate) struct PostgresShelf {
    sessions: Arc<Sessions>,
    vectors: Arc<Vectors>,
    ground: Ground,
}

impl PostgresShelf {
    /// Opens the index of a store, or makes it. Blocks until the server has answered.
    pub(crate) fn open(
        options: &PostgresOptions,
        model: Option<Model>,
    ) -> Result<Self, StoreError> {
        let sessions = Sessions::new(options.read()?, Patience::For(PATIENCE))?;
        let ground = Ground::start()?;
        let vectors = ground.wait({
            let sessions = Arc::clone(&sessions);
            async move {
                let prepared = async {
                    let mut client = first(&sessions).await?;
                    schema::prepare(&mut client, &sessions.address.schema, model.as_ref()).await
                };
                prepared.await.map_err(|fault: Fault| fault.at(&sessions.address))
            }
        })?;
        if let Vectors::Missing(error) = &vectors {
            tracing::warn!(%error, "searches go by words alone");
        }
        Ok(Self { sessions, vectors: Arc::new(vectors), ground })
    }

    fn ask<T, W, F>(&self, work: W) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        W: Fn(Object) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let sessions = Arc::clone(&self.sessions);
        self.ground.call(async move { sessions.ask(work).await })
    }

    /// What the server can do for vectors, or why nothing.
    fn kept(&self) -> Result<(Model, String), StoreError> {
        match &*self.vectors {
            Vectors::Kept { model, home } => Ok((model.clone(), home.clone())),
            Vectors::Missing(error) => Err(error.clone()),
            Vectors::Unasked => {
                Err(StoreError::new(Code::StoreNoVectors, "no embedder is set".to_owned()))
            }
        }
    }
}

impl Shelf for PostgresShelf {
    fn put(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        let batch = Arc::new(batch);
        self.ask(move |mut client| {
            let batch = Arc::clone(&batch);
            async move { put::put(&mut client, &batch).await }
        })
    }

    fn cursor(&self, tenant: Tenant, pid: Pid) -> BoxFuture<'_, Result<Cursor, StoreError>> {
        self.ask(move |client| {
            let tenant = tenant.clone();
            async move { put::cursor(&client, &tenant, pid).await }
        })
    }

    fn followed(&self, tenant: Tenant) -> BoxFuture<'_, Result<Vec<Pid>, StoreError>> {
        self.ask(move |client| {
            let tenant = tenant.clone();
            async move { put::followed(&client, &tenant).await }
        })
    }

    fn forget(&self, tenant: Tenant, pid: Pid) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ask(move |mut client| {
            let tenant = tenant.clone();
            async move { put::forget(&mut client, &tenant, pid).await }
        })
    }

    fn words(
        &self,
        scope: Scope,
        terms: Vec<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        let asked = Arc::new((scope, terms));
        self.ask(move |client| {
            let asked = Arc::clone(&asked);
            async move { words::words(&client, &asked.0, &asked.1, limit).await }
        })
    }

    fn nearest(
        &self,
        scope: Scope,
        vector: Embedding,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        let (model, home) = match self.kept() {
            Ok(kept) => kept,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let asked = Arc::new((scope, vector, model, home));
        self.ask(move |mut client| {
            let asked = Arc::clone(&asked);
            async move {
                let (scope, vector, model, home) = &*asked;
                find::nearest(&mut client, model, home, scope, vector, limit).await
            }
        })
    }

    fn show(
        &self,
        tenant: Tenant,
        rows: Vec<Row>,
        neighbours: bool,
    ) -> BoxFuture<'_, Result<Vec<Shown>, StoreError>> {
        let asked = Arc::new((tenant, rows));
        self.ask(move |client| {
            let asked = Arc::clone(&asked);
            async move { find::show(&client, &asked.0, &asked.1, neighbours).await }
        })
    }

    fn waiting(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Waiting>, StoreError>> {
        // A vector that nobody can keep is not worth asking for.
        if self.kept().is_err() {
            return Box::pin(ready(Ok(Vec::new())));
        }
        self.ask(move |client| async move { put::waiting(&client, limit).await })
    }

    fn keep(
        &self,
        vectors: Vec<(Row, Option<Embedding>)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (model, home) = match self.kept() {
            Ok(kept) => kept,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let asked = Arc::new((model, home, vectors));
        self.ask(move |mut client| {
            let asked = Arc::clone(&asked);
            async move { put::keep(&mut client, &asked.0, &asked.1, &asked.2).await }
        })
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let Ok((model, home)) = self.kept() else {
            return Box::pin(ready(Ok(())));
        };
        if model.dims > find::GRAPH_DIMS_MAX {
            return Box::pin(ready(Ok(())));
        }
        // Made once all are there: one by one it takes several times as long.
        let home = quoted(&home);
        let make = format!(
            "SELECT set_config('maintenance_work_mem', greatest({GRAPH_KIB}, \
             pg_size_bytes(current_setting('maintenance_work_mem')) / 1024) || 'kB', true); \
             CREATE INDEX IF NOT EXISTS search_vectors_graph ON search_vectors USING hnsw \
             ((vector::{home}.halfvec({})) {home}.halfvec_cosine_ops) \
             WITH (m = {LINKS}, ef_construction = 100); \
             ANALYZE search_vectors",
            model.dims
        );
        let many = format!(
            "SELECT to_regclass('search_vectors_graph') IS NULL AND \
             (SELECT count(*) FROM (SELECT FROM search_vectors LIMIT {0} + 1) AS few) > {0}",
            find::EXACT
        );
        let asked = Arc::new((many, make));
        self.ask(move |mut client| {
            let asked = Arc::clone(&asked);
            async move {
                match client.query_one(&asked.0, &[]).await?.try_get(0)? {
                    true => make_graph(&mut client, &asked.1).await,
                    false => Ok(()),
                }
            }
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>> {
        self.ask(|client| async move { put::counts(&client).await })
    }
}

/// Makes the graph with as many workers as the server gives an index. They share the memory that it is
/// made in, of which a container may have 64 MB: where it is refused, the session makes it by itself.
async fn make_graph(client: &mut Object, make: &str) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    match transaction.batch_execute(make).await {
        Ok(()) => return Ok(transaction.commit().await?),
        Err(error) if is_short_of_memory(&error) => {
            tracing::info!(%error, "no shared memory for workers: one process makes the graph");
        }
        Err(error) => return Err(error.into()),
    }
    transaction.rollback().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL max_parallel_maintenance_workers = 0").await?;
    transaction.batch_execute(make).await?;
    Ok(transaction.commit().await?)
}

/// Whether the server had no room for shared memory. A full disk says the same.
fn is_short_of_memory(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| [SqlState::DISK_FULL, SqlState::OUT_OF_MEMORY].contains(state))
}
