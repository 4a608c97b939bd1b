//! The store as its owner has it.

use std::path::PathBuf;
use std::sync::Arc;

use aosk_abi::{ContentKey, Epoch, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{
    Append, Checkpoint, Inbox, InboxId, InboxItem, Journal, JournalWriter, ProcessFilter, Receipt,
    StoreError, Ticket,
};
use futures::future::BoxFuture;
use rusqlite::Connection;

use super::append::Prepared;
use super::fault::file as file_error;
use super::files::Files;
use super::lock::Lock;
use super::reader::{SqliteReader, heard};
use super::schema::{Access, open_owned, open_shared};
use super::writer::Writer;
use super::{inbox, process, tenant};

/// Where a store is and who opens it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder; it is made if it is not there, with mode 0700.
    pub dir: PathBuf,
    /// What the owner calls itself, for those who ask who owns the store. It is written to a file,
    /// so it must not hold a task or a secret.
    pub command: String,
}

/// A store of which this process is the owner, until it is dropped. Dropping it commits what is
/// enqueued and blocks until that is done.
#[derive(Debug)]
pub struct SqliteStore {
    // Dropped in this order: the reads, then the writer (the last connection to close moves the
    // log into the file), then the ownership.
    reader: SqliteReader,
    writer: Writer,
    _lock: Lock,
}

impl SqliteStore {
    /// Opens the store, or makes it; migrates an older one. Blocks for some milliseconds.
    ///
    /// # Errors
    /// `StoreOwned` with who owns it, `StoreNewerSchema`, `StoreCorrupt`, `StoreReadOnly`,
    /// `StoreFull`, `StoreOpen`, `StoreIo` (all of [`Code`](aosk_abi::Code)).
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let files = Files::new(&options.dir);
        files.make_dir()?;
        let lock = Lock::take(&files, &options.command)?;
        Self::on(open_owned(&files)?, files, lock)
    }

    fn on(connection: Connection, files: Files, lock: Lock) -> Result<Self, StoreError> {
        let path = files.database().to_owned();
        let reader = SqliteReader::on(open_shared(&files, Access::Read)?, files)?;
        let writer = Writer::start(connection, path.clone())
            .map_err(|error| file_error(&path, &error))?;
        Ok(Self { reader, writer, _lock: lock })
    }
}

impl JournalWriter for SqliteStore {
    fn append(&self, append: Append) -> Ticket {
        let key = (append.tenant.clone(), append.pid);
        // Encoded here, on the caller's thread, because there are many callers and one writer.
        let prepared = Prepared::new(append);
        let bytes = prepared.as_ref().map_or(0, Prepared::size);
        let answer = self.writer.enqueue(Some(key), bytes, move |connection| match &prepared {
            Ok(prepared) => prepared.apply(connection),
            // Told in its turn, so that it takes the later ones of its process with it.
            Err(refusal) => Err(refusal.clone().into()),
        });
        Ticket::new(heard(answer))
    }

    fn claim(&self, tenant: &Tenant, pid: Pid) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        let tenant = tenant.clone();
        heard(self.writer.enqueue(None, 0, move |connection| {
            process::claim(connection, &tenant, pid)
        }))
    }
}

impl Journal for SqliteStore {
    fn content_key(&self, tenant: &Tenant) -> BoxFuture<'_, Result<ContentKey, StoreError>> {
        let tenant = tenant.clone();
        heard(self.writer.enqueue(None, 0, move |connection| {
            tenant::find_or_make(connection, &tenant).map(|tenant| tenant.key)
        }))
    }

    fn process(
        &self,
        tenant: &Tenant,
        pid: Pid,
    ) -> BoxFuture<'_, Result<Option<Receipt>, StoreError>> {
        self.reader.process(tenant, pid)
    }

    fn processes(
        &self,
        tenant: &Tenant,
        filter: ProcessFilter,
    ) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        self.reader.processes(tenant, filter)
    }

    fn read(
        &self,
        tenant: &Tenant,
        pid: Pid,
        from: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.reader.read(tenant, pid, from, limit)
    }

    fn contents(
        &self,
        tenant: &Tenant,
        pid: Pid,
        wanted: &[(Seq, Hash)],
    ) -> BoxFuture<'_, Result<Vec<Arc<[u8]>>, StoreError>> {
        self.reader.contents(tenant, pid, wanted)
    }

    fn checkpoint(
        &self,
        tenant: &Tenant,
        pid: Pid,
        at: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<Checkpoint>, StoreError>> {
        self.reader.checkpoint(tenant, pid, at)
    }
}

impl Inbox for SqliteStore {
    fn post(
        &self,
        tenant: &Tenant,
        pid: Pid,
        item: InboxItem,
    ) -> BoxFuture<'_, Result<InboxId, StoreError>> {
        let tenant = tenant.clone();
        heard(self.writer.enqueue(None, 0, move |connection| {
            inbox::post(connection, &tenant, pid, &item)
        }))
    }

    fn pending(
        &self,
        tenant: &Tenant,
    ) -> BoxFuture<'_, Result<Vec<(Pid, InboxId, InboxItem)>, StoreError>> {
        self.reader.pending(tenant)
    }
}
