//! What a backend does for an index: it keeps entries, ranks them by terms and by direction, and
//! knows which wait for a vector. What to ask, and what to make of two rankings, is the same for all.

use aosk_abi::{Pid, Tenant};
use aosk_ports::{Batch, Cursor, Embedding, Entry, Filter, Space, StoreError};
use futures::future::BoxFuture;
use std::sync::Arc;

/// The number of an entry in its backend.
pub(crate) type Row = i64;

/// The name under which a memory is kept.
pub(crate) fn name(space: &Space) -> Vec<u8> {
    match space {
        Space::Process(pid) => [b"p", &pid.as_bytes()[..]].concat(),
        Space::Shared(name) => [b"s", name.as_str().as_bytes()].concat(),
    }
}

/// The memory that is kept under that name; `None` where none can be.
pub(crate) fn of_name(name: &[u8]) -> Option<Space> {
    let (first, rest) = name.split_first()?;
    match first {
        b'p' => Some(Space::Process(Pid::from_bytes(rest.try_into().ok()?))),
        b's' => std::str::from_utf8(rest).ok()?.parse().ok().map(Space::Shared),
        _ => None,
    }
}

/// Where a query looks.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) tenant: Tenant,
    pub(crate) spaces: Vec<Space>,
    pub(crate) filter: Filter,
}

/// An entry that was ranked, with the pages beside it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) row: Row,
    pub(crate) entry: Entry,
    /// The nearest page before and the nearest after, of the same process in the same space, within
    /// the filter or not.
    pub(crate) beside: Vec<Entry>,
}

/// A text that waits for its vector.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) row: Row,
    pub(crate) text: Arc<str>,
}

/// All entries, and those that wait for a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) items: u64,
    pub(crate) waiting: u64,
}

/// A backend, opened for the vectors of one embedder or for none. Where it is opened for another one than before, the
/// vectors that are there go, and all entries wait.
pub(crate) trait Shelf: Send + Sync {
    /// See [`Retriever::index`](aosk_ports::Retriever::index). The batch has been checked.
    fn put(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>>;

    /// See [`Retriever::cursor`](aosk_ports::Retriever::cursor).
    fn cursor(&self, tenant: Tenant, pid: Pid) -> BoxFuture<'_, Result<Cursor, StoreError>>;

    /// See [`Retriever::followed`](aosk_ports::Retriever::followed).
    fn followed(&self, tenant: Tenant) -> BoxFuture<'_, Result<Vec<Pid>, StoreError>>;

    /// See [`Retriever::forget`](aosk_ports::Retriever::forget).
    fn forget(&self, tenant: Tenant, pid: Pid) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Those with any of the terms, the best first.
    fn words(
        &self,
        scope: Scope,
        terms: Vec<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;

    /// Those with the nearest directions, the nearest first.
    fn nearest(
        &self,
        scope: Scope,
        vector: Embedding,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;

    /// What the rows hold, in any order; one that went meanwhile is left out.
    fn show(
        &self,
        tenant: Tenant,
        rows: Vec<Row>,
        neighbours: bool,
    ) -> BoxFuture<'_, Result<Vec<Shown>, StoreError>>;

    /// Up to `limit` entries that wait for a vector, the newest first: they are asked for most.
    fn waiting(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Waiting>, StoreError>>;

    /// Keeps vectors; an entry with `None` has none and does not wait any more.
    fn keep(&self, vectors: Vec<(Row, Option<Embedding>)>)
    -> BoxFuture<'_, Result<(), StoreError>>;

    /// Nothing waits any more: what is better made of all vectors at once is made now.
    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How many there are.
    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>>;
}
