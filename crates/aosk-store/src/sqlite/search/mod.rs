//! The search index of a store in a folder: one more SQLite file.
//!
//! It stands beside the store's own, not in it. The store's writer commits groups of steps, and
//! writing a page's 400 terms would make each wait for some milliseconds; a file of its own has a
//! writer of its own. And the store's file is what backups, copies and repairs are about, while this
//! one can be made again at any time.

mod desk;
mod find;
mod nearest;
mod put;
mod schema;
mod space;

use std::path::Path;
use std::sync::Arc;

use aosk_abi::{Pid, Tenant};
use aosk_ports::{Batch, Cursor, Embedding, StoreError};
use futures::future::{BoxFuture, ready};

use self::desk::Desk;
use self::nearest::Sketches;
use crate::search::index::Model;
use crate::search::shelf::{Counts, Row, Scope, Shelf, Shown, Waiting};

/// An index in a file.
pub(crate) struct SqliteShelf {
    desk: Desk,
    sketches: Arc<Sketches>,
}

impl SqliteShelf {
    /// Opens the index in the folder `dir`, or makes it.
    pub(crate) fn open(dir: &Path, model: Option<Model>) -> Result<Self, StoreError> {
        let sketches = Arc::new(Sketches::default());
        let desk = Desk::open(dir, model, Arc::clone(&sketches))?;
        Ok(Self { desk, sketches })
    }

    /// Opens the index of another program to read it; whether its vectors are those of `model`.
    pub(crate) fn beside(dir: &Path, model: Option<Model>) -> Result<(Self, bool), StoreError> {
        let sketches = Arc::new(Sketches::default());
        let (desk, is_same) = Desk::beside(dir, model, Arc::clone(&sketches))?;
        Ok((Self { desk, sketches }, is_same))
    }
}

impl Shelf for SqliteShelf {
    fn put(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        let sketches = Arc::clone(&self.sketches);
        self.desk.write(move |transaction| {
            let removed = put::put(&transaction, &batch)?;
            transaction.commit()?;
            sketches.remove(&removed);
            Ok(())
        })
    }

    fn cursor(&self, tenant: Tenant, pid: Pid) -> BoxFuture<'_, Result<Cursor, StoreError>> {
        self.desk.read(move |connection| put::cursor(connection, &tenant, pid))
    }

    fn followed(&self, tenant: Tenant) -> BoxFuture<'_, Result<Vec<Pid>, StoreError>> {
        self.desk.read(move |connection| put::followed(connection, &tenant))
    }

    fn forget(&self, tenant: Tenant, pid: Pid) -> BoxFuture<'_, Result<(), StoreError>> {
        let sketches = Arc::clone(&self.sketches);
        self.desk.write(move |transaction| {
            let removed = put::forget(&transaction, &tenant, pid)?;
            transaction.commit()?;
            sketches.remove(&removed);
            Ok(())
        })
    }

    fn words(
        &self,
        scope: Scope,
        terms: Vec<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        self.desk.read(move |connection| find::words(connection, &scope, &terms, limit))
    }

    fn nearest(
        &self,
        scope: Scope,
        vector: Embedding,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        let sketches = Arc::clone(&self.sketches);
        self.desk.read(move |connection| sketches.nearest(connection, &scope, &vector, limit))
    }

    fn show(
        &self,
        _: Tenant,
        rows: Vec<Row>,
        neighbours: bool,
    ) -> BoxFuture<'_, Result<Vec<Shown>, StoreError>> {
        self.desk.read(move |connection| find::show(connection, &rows, neighbours))
    }

    fn waiting(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Waiting>, StoreError>> {
        self.desk.read(move |connection| put::waiting(connection, limit))
    }

    fn keep(
        &self,
        vectors: Vec<(Row, Option<Embedding>)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let sketches = Arc::clone(&self.sketches);
        self.desk.write(move |transaction| {
            let kept = put::keep(&transaction, &vectors)?;
            transaction.commit()?;
            sketches.add(kept);
            Ok(())
        })
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        // Sketches are made with each vector.
        Box::pin(ready(Ok(())))
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, StoreError>> {
        self.desk.read(put::counts)
    }
}
