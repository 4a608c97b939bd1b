//! The store as its owner has it.

use std::path::PathBuf;
use std::sync::Arc;

use aosk_abi::{ContentKey, Epoch, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{
    Append, Budgets, Checkpoint, Draw, Drawn, Inbox, InboxId, InboxItem, Journal, JournalWriter,
    ProcessFilter, Receipt, StoreError, Ticket,
};
use futures::future::{BoxFuture, TryFutureExt, ready};
use rusqlite::Connection;

use super::append::Prepared;
use super::bell::{Bell, Rope};
use super::fault::file as file_error;
use super::files::Files;
use super::holdings::Holdings;
use super::lock::Lock;
use super::reader::{SqliteReader, heard};
use super::schema::{Access, open_owned, open_shared};
use super::writer::Writer;
use super::{budget, inbox, process, tenant};
use crate::check;

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
    files: Arc<Files>,
    bell: Bell,
    holdings: Arc<Holdings>,
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
        let reader = SqliteReader::on(open_shared(&files, Access::Read)?, files.clone())?;
        let writer =
            Writer::start(connection, files.clone()).map_err(|error| file_error(&path, &error))?;
        let bell = Bell::new(files.clone());
        Ok(Self {
            reader,
            writer,
            files: Arc::new(files),
            bell,
            holdings: Arc::default(),
            _lock: lock,
        })
    }

    pub(super) const fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(super) const fn reader(&self) -> &SqliteReader {
        &self.reader
    }

    pub(super) const fn holdings(&self) -> &Arc<Holdings> {
        &self.holdings
    }
}

impl JournalWriter for SqliteStore {
    fn append(&self, append: Append) -> Ticket {
        let key = (append.tenant.clone(), append.pid);
        if append.records.first().is_some_and(|record| record.seq == Seq(0)) {
            self.holdings.take(&append.tenant, append.pid);
        }
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

    fn dismiss(
        &self,
        tenant: &Tenant,
        pid: Pid,
        next: Seq,
        items: &[InboxId],
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (tenant, items) = (tenant.clone(), items.to_vec());
        heard(self.writer.enqueue(None, 0, move |connection| {
            let place = process::expect(connection, &tenant, pid)?;
            check::still_ends(pid, place.next, next)?;
            inbox::remove(connection, place.tenant, pid, &items)
        }))
    }

    fn claim(
        &self,
        tenant: &Tenant,
        pid: Pid,
        expected: Epoch,
    ) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        let (tenant, holdings) = (tenant.clone(), Arc::clone(&self.holdings));
        let answer = self.writer.enqueue(None, 0, {
            let tenant = tenant.clone();
            move |connection| process::claim(connection, &tenant, pid, expected)
        });
        Box::pin(async move {
            let epoch = heard(answer).await?;
            holdings.take(&tenant, pid);
            Ok(epoch)
        })
    }
}

impl Budgets for SqliteStore {
    fn draw(&self, draw: Draw) -> BoxFuture<'_, Result<Drawn, StoreError>> {
        heard(self.writer.enqueue(None, 0, move |connection| budget::draw(connection, &draw)))
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
        let rope = match Rope::take(&self.files) {
            Ok(rope) => rope,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        // The answer holds on to the rope, because it comes after the commit.
        let posted = self.writer.enqueue(None, 0, move |connection| {
            inbox::post(connection, &tenant, pid, &item).map(|id| (id, rope.clone()))
        });
        Box::pin(heard(posted).map_ok(|(id, _)| id))
    }

    fn pending(
        &self,
        tenant: &Tenant,
    ) -> BoxFuture<'_, Result<Vec<(Pid, InboxId, InboxItem)>, StoreError>> {
        self.reader.pending(tenant)
    }

    fn posted(&self) -> Option<BoxFuture<'_, ()>> {
        self.bell.watch().map(|watch| Box::pin(watch.changed()) as BoxFuture<'_, ()>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aosk_abi::Code;
    use aosk_conformance::Scribe;

    /// A store whose file cannot grow past `pages`: a full disk that needs no file system.
    fn limited(dir: &std::path::Path, pages: u32) -> SqliteStore {
        let files = Files::new(dir);
        files.make_dir().expect("a folder");
        let lock = Lock::take(&files, "a test").expect("free");
        let connection = open_owned(&files).expect("a database");
        connection.pragma_update(None, "max_page_count", pages).expect("a limit");
        SqliteStore::on(connection, files, lock).expect("a store")
    }

    #[tokio::test]
    async fn a_group_that_cannot_be_committed_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = limited(dir.path(), 30);
        let (tenant, other) = (Tenant::local(), Pid::from_bytes([2; 16]));
        let mut scribe = Scribe::new(&store, &tenant, Pid::from_bytes([1; 16])).await;
        let mut bystander = Scribe::new(&store, &tenant, other).await;
        let mut full = None;
        for n in 0..30 {
            bystander.write(&store, &[b"small"]).await.expect("fits");
            if let Err(error) = scribe.write(&store, &[&noise(n)]).await {
                full = Some(error);
                break;
            }
        }
        assert_eq!(full.expect("30 pages are full").code, Code::StoreFull);

        // A process that fails to fit takes its queued later appends with it, under the same code.
        let first = scribe.append(&[&noise(100)]);
        let mut ahead = scribe.clone();
        ahead.follow(&first);
        let (first, second) = (store.append(first), store.append(ahead.append(&[b"small"])));
        assert_eq!(first.await.expect_err("full").code, Code::StoreFull);
        let error = second.await.expect_err("a gap, or of the same group");
        assert!(matches!(error.code, Code::StoreFull | Code::StoreConflict), "{error}");

        for scribe in [&scribe, &bystander] {
            let there = store.process(&tenant, scribe.pid).await.expect("answers").expect("there");
            let read = store.read(&tenant, scribe.pid, Seq(0), usize::MAX).await.expect("whole");
            assert_eq!((there.next, there.head), (scribe.next, scribe.head));
            assert_eq!(read.last().map(|it| it.hash), Some(scribe.head));
        }
        let connection = rusqlite::Connection::open(dir.path().join("aosk.db")).expect("opens");
        connection.execute_batch("DELETE FROM blobs").expect("room");
        scribe.write(&store, &[&noise(101)]).await.expect("there is room again");
    }

    fn noise(n: u8) -> Vec<u8> {
        (0..1000_u16)
            .flat_map(|k| *Hash::of(&[[n, 0], k.to_le_bytes()].concat()).as_bytes())
            .collect()
    }
}
