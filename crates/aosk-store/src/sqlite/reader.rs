//! The reader: everything that one may do without owning the store.

use std::path::Path;
use std::sync::Arc;

use aosk_abi::{Code, ContentKey, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{
    Checkpoint, Inbox, InboxId, InboxItem, Journal, ProcessFilter, Receipt, StoreError,
};
use futures::future::BoxFuture;
use rusqlite::{Connection, TransactionBehavior};

use super::bell::Rope;
use super::fault::{Fault, file as file_error};
use super::files::Files;
use super::lock::owner_of;
use super::log;
use super::pool::Pool;
use super::schema::{Access, open_shared};
use super::tenant::TenantRow;
use super::writer::Answer;
use super::{checkpoint, content, inbox, journal, process, tenant};
use crate::check::{self, closed};

/// A store that somebody else may own. It reads journals and posts to inboxes while the owner
/// writes; it never changes a journal, recovers nothing and leaves the upkeep of the file alone.
#[derive(Debug)]
pub struct SqliteReader {
    pool: Pool,
}

impl SqliteReader {
    /// Opens the store in the folder `dir`. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`Code::StoreOpen`] where there is none, [`Code::StoreCorrupt`],
    /// [`Code::StoreNewerSchema`], [`Code::StoreReadOnly`] for a folder in which the index of the
    /// log cannot be made, [`Code::StoreIo`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let files = Files::new(dir);
        let connection = open_shared(&files, Access::Read)?;
        Self::on(connection, files)
    }

    /// Opens a backup. Blocks for some milliseconds.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_backup(file: &Path) -> Result<Self, StoreError> {
        let files = Files::of(file);
        let connection = open_shared(&files, Access::Read)?;
        Self::on(connection, files)
    }

    pub(super) fn on(connection: Connection, files: Files) -> Result<Self, StoreError> {
        let path = files.database().to_owned();
        let pool = Pool::start(connection, files).map_err(|error| file_error(&path, &error))?;
        Ok(Self { pool })
    }
}

/// Awaits an answer; a thread that is gone means a closed store.
pub(super) fn heard<T: Send + 'static>(
    answer: Answer<T>,
) -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(async move { answer.await.unwrap_or_else(|_| Err(closed())) })
}

impl Journal for SqliteReader {
    fn content_key(&self, tenant: &Tenant) -> BoxFuture<'_, Result<ContentKey, StoreError>> {
        let tenant = tenant.clone();
        heard(self.pool.read(move |connection| match tenant::find(connection, &tenant)? {
            Some(row) => Ok(row.key),
            None => Err(Fault::refused(
                Code::StoreUnknownProcess,
                format!("tenant {tenant} has nothing here; a kernel that owns the store makes it"),
            )),
        }))
    }

    fn process(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<Receipt>, StoreError>> {
        let tenant = tenant.clone();
        heard(self.pool.read(move |connection| process::show(connection, &tenant, pid)))
    }

    fn processes(
        &self,
        tenant: &Tenant,
        filter: ProcessFilter,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        let tenant = tenant.clone();
        heard(self.pool.read(move |connection| process::list(connection, &tenant, filter)))
    }

    fn read(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let tenant = tenant.clone();
        heard(self.pool.read(move |connection| {
            let place = process::expect(connection, &tenant, pid)?;
            journal::read(connection, &tenant, &place, from, limit)
        }))
    }

    fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, StoreError>> {
        let (tenant, wanted) = (tenant.clone(), wanted.to_vec());
        heard(self.pool.read(move |connection| {
            let Some(row) = tenant::find(connection, &tenant)? else {
                return Err(check::unknown(&tenant, pid).into());
            };
            let place = process::expect(connection, &tenant, pid)?;
            content::read(connection, &row, &place, &wanted)
        }))
    }

    fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<Checkpoint>, StoreError>> {
        let tenant = tenant.clone();
        heard(self.pool.read(move |connection| {
            let place = process::expect(connection, &tenant, pid)?;
            checkpoint::read(connection, &place, at)
        }))
    }
}

impl SqliteReader {
    /// Leaves items for processes, each for its own: all of them, or none where that fails.
    ///
    /// # Errors
    /// As [`Inbox::post`].
    pub fn post_all(
        &self,
        tenant: &Tenant,
        items: Vec<(Pid, InboxItem)>,
    ) -> BoxFuture<'_, Result<Vec<InboxId>, StoreError>> {
        let (tenant, files) = (tenant.clone(), Arc::clone(self.pool.files()));
        heard(self.pool.run(move |_| {
            let _rope = Rope::take(&files)?;
            beside(&files, |connection| {
                let post = |(pid, item)| inbox::post(connection, &tenant, pid, item);
                items.iter().map(|(pid, item)| post((*pid, item))).collect()
            })
        }))
    }

    /// Writes in a transaction beside the owner, if there is one: what is not fenced.
    pub(super) fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let files = Arc::clone(self.pool.files());
        heard(self.pool.run(move |_| beside(&files, work)))
    }

    /// Reads of a tenant that was used; `None` of any other.
    pub(super) fn of_tenant<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        work: impl FnOnce(&Connection, &TenantRow) -> Result<Option<T>, Fault> + Send + 'static,
    ) -> BoxFuture<'static, Result<Option<T>, StoreError>> {
        let tenant = tenant.clone();
        heard(self.pool.read(move |connection| match tenant::find(connection, &tenant)? {
            Some(row) => work(connection, &row),
            None => Ok(None),
        }))
    }
}

/// Writes in a transaction on a connection of its own.
fn beside<T>(
    files: &Files,
    work: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, StoreError> {
    let mut connection = open_shared(files, Access::Post)?;
    // Asked once the connection is there: an owner that dies from now on leaves it the index of the
    // log, in which nothing stands that was not synced.
    if owner_of(files)?.is_none() {
        log::make_certain(&mut connection, files)?;
    }
    let written = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answer = work(&transaction)?;
        transaction.commit()?;
        Ok(answer)
    })();
    written.map_err(|fault: Fault| fault.at(files.database()))
}

impl Inbox for SqliteReader {
    fn post(
        &self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> BoxFuture<'_, Result<InboxId, StoreError>> {
        let posted = self.post_all(tenant, vec![(pid, item)]);
        Box::pin(async move { posted.await?.pop().ok_or_else(closed) })
    }

    fn pending(
        &self,
        tenant: &Tenant,
    ) -> BoxFuture<'_, Result<Vec<(Pid, InboxId, InboxItem)>, StoreError>> {
        let tenant = tenant.clone();
        heard(self.pool.read(move |connection| inbox::pending(connection, &tenant)))
    }
}
