//! The two ends of a copy: a snapshot that is read, and a database that is made of what comes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aosk_abi::{ChunkList, Code, Content, ContentKey, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{Append, Checkpoint, InboxId, Posted, ProcessFilter, Receipt, StoreError};
use rusqlite::Connection;

use super::append::Prepared;
use super::fault::Fault;
use super::files::Files;
use super::lock::Lock;
use super::process::{self, Place};
use super::schema::{self, Access, open_shared};
use super::tenant::TenantRow;
use super::{backup, checkpoint, chunked, content, inbox, journal, log, prune, tenant};
use crate::copy::{Source, Sweep, Target, Whole};
use crate::prune::{Batch, Kept};

/// How many appends are read at once: a step's has 1 KB, so some hundred KB.
const APPENDS: usize = 256;

/// How many addresses are read at once.
const ADDRESSES: usize = 1024;

/// A store as it is at one moment.
pub(crate) struct Snapshot {
    connection: Connection,
    path: PathBuf,
}

impl Snapshot {
    pub(crate) fn of_store(dir: &Path) -> Result<Self, StoreError> {
        Self::of(&Files::new(dir))
    }

    pub(crate) fn of_backup(file: &Path) -> Result<Self, StoreError> {
        Self::of(&Files::of(file))
    }

    fn of(files: &Files) -> Result<Self, StoreError> {
        let path = files.database().to_owned();
        let connection = open_shared(files, Access::Read)?;
        // Ends with the connection. The snapshot is taken by the first question.
        let begun = connection.execute_batch("BEGIN");
        begun.map_err(|error| Fault::from(error).at(&path))?;
        Ok(Self { connection, path })
    }

    fn ask<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        work(&self.connection).map_err(|fault| fault.at(&self.path))
    }
}

fn expect_tenant(connection: &Connection, name: &Tenant) -> Result<TenantRow, Fault> {
    tenant::find(connection, name)?
        .ok_or_else(|| Fault::damaged(format_args!("tenant {name} is named and not there")))
}

impl Source for Snapshot {
    fn tenants(&mut self) -> Result<Vec<(Tenant, ContentKey)>, StoreError> {
        self.ask(tenant::all)
    }

    fn processes(&mut self, tenant: &Tenant) -> Result<Vec<Whole>, StoreError> {
        self.ask(|connection| {
            let listed = process::list(connection, tenant, ProcessFilter::All)?;
            let whole = |receipt: Receipt| {
                let origin = process::expect(connection, tenant, receipt.pid)?.origin;
                Ok(Whole { receipt, origin })
            };
            listed.into_iter().map(whole).collect()
        })
    }

    fn appends(&mut self, whole: &Whole, from: Seq, prev: Hash) -> Result<Vec<Append>, StoreError> {
        let Receipt { tenant, pid, .. } = &whole.receipt;
        self.ask(|connection| {
            let key = expect_tenant(connection, tenant)?.key;
            let place = process::expect(connection, tenant, *pid)?;
            let stored = journal::appends(connection, tenant, &place, (from, prev), APPENDS)?;
            Ok(stored.into_iter().map(|stored| whole.append(&key, stored)).collect())
        })
    }

    fn checkpoints(&mut self, whole: &Whole) -> Result<Vec<Checkpoint>, StoreError> {
        let Receipt { tenant, pid, .. } = &whole.receipt;
        self.ask(|connection| {
            let place = process::expect(connection, tenant, *pid)?;
            let at = |first| checkpoint::read(connection, &place, Some(Seq(first)));
            let found: Result<Vec<_>, _> =
                place.checkpoints.iter().map(|entry| at(entry.first)).collect();
            Ok(found?.into_iter().flatten().collect())
        })
    }

    fn blobs(&mut self, tenant: &Tenant, after: Option<Hash>) -> Result<Vec<Hash>, StoreError> {
        self.ask(|connection| {
            let id = expect_tenant(connection, tenant)?.id;
            content::addresses(connection, id, after, ADDRESSES)
        })
    }

    fn blob(&mut self, tenant: &Tenant, hash: Hash) -> Result<Content, StoreError> {
        self.ask(|connection| {
            let TenantRow { id, key } = expect_tenant(connection, tenant)?;
            let bytes = content::blob(connection, id, hash)?;
            let content = bytes.map(|bytes| key.seal(bytes)).filter(|it| it.hash() == hash);
            content.ok_or_else(|| {
                Fault::damaged(format_args!(
                    "the content {hash} has other bytes than its hash says"
                ))
            })
        })
    }

    fn lists(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError> {
        self.ask(|connection| chunked::addresses(connection, expect_tenant(connection, tenant)?.id))
    }

    fn list(&mut self, tenant: &Tenant, hash: Hash) -> Result<Option<ChunkList>, StoreError> {
        self.ask(|connection| chunked::list(connection, &expect_tenant(connection, tenant)?, hash))
    }

    fn held(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError> {
        self.ask(|connection| chunked::held(connection, expect_tenant(connection, tenant)?.id))
    }

    fn inbox(&mut self, tenant: &Tenant) -> Result<Vec<Posted>, StoreError> {
        self.ask(|connection| inbox::pending(connection, tenant))
    }

    fn first(&mut self, whole: &Whole) -> Result<Option<Record>, StoreError> {
        let Receipt { tenant, pid, .. } = &whole.receipt;
        self.ask(|connection| {
            let place = process::expect(connection, tenant, *pid)?;
            Ok(journal::read(connection, tenant, &place, Seq(0), 1)?.pop())
        })
    }

    fn prunings(&mut self) -> Result<Vec<Kept>, StoreError> {
        self.ask(prune::all)
    }

    fn suspects(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError> {
        self.ask(|connection| content::suspects(connection, expect_tenant(connection, tenant)?.id))
    }

    fn stored_bytes(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<u64, StoreError> {
        self.ask(|connection| {
            content::stored_bytes(connection, expect_tenant(connection, tenant)?.id, hashes)
        })
    }
}

/// A store from which contents are deleted, beside its owner: SQLite lets one of them write at a time.
pub(crate) struct Broom(Snapshot);

impl Broom {
    pub(crate) fn of(dir: &Path) -> Result<Self, StoreError> {
        let files = Files::new(dir);
        let path = files.database().to_owned();
        Ok(Self(Snapshot { connection: open_shared(&files, Access::Post)?, path }))
    }
}

impl Sweep for Broom {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.0.ask(|connection| Ok(connection.execute_batch("BEGIN IMMEDIATE")?))
    }

    fn source(&mut self) -> &mut dyn Source {
        &mut self.0
    }

    fn delete(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<u64, StoreError> {
        self.0.ask(|connection| {
            let id = expect_tenant(connection, tenant)?.id;
            let bytes = content::stored_bytes(connection, id, hashes)?;
            content::delete(connection, id, hashes).map(|()| bytes)
        })
    }

    fn suspect(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<(), StoreError> {
        self.0.ask(|connection| {
            content::suspect(connection, expect_tenant(connection, tenant)?.id, hashes)
        })
    }

    fn take_turn(&mut self, every: Duration) -> Result<bool, StoreError> {
        self.0.ask(|connection| {
            // One that is yet to come was written by a clock that was wrong.
            let sql = "UPDATE upkeep SET begun = unixepoch() \
                       WHERE begun <= unixepoch() - ?1 OR begun > unixepoch()";
            Ok(connection.execute(sql, [every.as_secs().cast_signed()])? == 1)
        })
    }

    fn batches(&mut self, _: &Tenant, go: Vec<Receipt>) -> Result<Vec<Batch>, StoreError> {
        Ok(Batch::some(go))
    }

    fn begin_removal(&mut self) -> Result<(), StoreError> {
        self.begin()
    }

    fn lock(&mut self, tenant: &Tenant, pids: &[Pid]) -> Result<Vec<Receipt>, StoreError> {
        self.0.ask(|connection| {
            let show = |pid: &Pid| process::show(connection, tenant, *pid).transpose();
            pids.iter().filter_map(show).collect()
        })
    }

    fn erase(&mut self, tenant: &Tenant, pids: &[Pid], _: Option<&str>) -> Result<(), StoreError> {
        self.0
            .ask(|connection| prune::erase(connection, expect_tenant(connection, tenant)?.id, pids))
    }

    fn last_pruning(&mut self) -> Result<Option<(u64, Hash)>, StoreError> {
        self.0.ask(prune::last)
    }

    fn record(&mut self, kept: &Kept) -> Result<(), StoreError> {
        self.0.ask(|connection| prune::record(connection, kept))
    }

    fn let_go(&mut self, tenant: &Tenant) -> Result<(), StoreError> {
        self.0.ask(|connection| chunked::let_go(connection, expect_tenant(connection, tenant)?.id))
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.0.ask(|connection| Ok(connection.execute_batch("COMMIT")?))
    }
}

/// A database that is being made of a copy.
pub(crate) struct Intake {
    connection: Option<Connection>,
    /// Where it is made.
    path: PathBuf,
    /// Where it will be a store; a backup is where it is made.
    store: Option<(Files, Lock)>,
    /// The process that comes in.
    place: Option<Place>,
}

impl Intake {
    /// In a folder that holds no store.
    pub(crate) fn of_store(dir: &Path) -> Result<Self, StoreError> {
        let files = Files::new(dir);
        files.make_dir()?;
        let lock = Lock::take(&files, "aosk store copy")?;
        backup::refuse_store(&files)?;
        let path = files.unfinished();
        Files::remove(&path)?;
        Files::create_private(&path)?;
        Self::on(path, Some((files, lock)))
    }

    /// In an empty file.
    pub(crate) fn of_backup(file: &Path) -> Result<Self, StoreError> {
        Self::on(file.to_owned(), None)
    }

    fn on(path: PathBuf, store: Option<(Files, Lock)>) -> Result<Self, StoreError> {
        let begun = schema::begin(&path).and_then(|connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            Ok(connection)
        });
        let connection = begun.map_err(|fault| fault.at(&path))?;
        Ok(Self { connection: Some(connection), path, store, place: None })
    }

    fn write<T>(
        &mut self,
        work: impl FnOnce(&Connection, &mut Option<Place>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let Some(connection) = &self.connection else { return Err(crate::check::closed()) };
        work(connection, &mut self.place).map_err(|fault| fault.at(&self.path))
    }
}

impl Target for Intake {
    fn tenant(&mut self, name: &Tenant, key: ContentKey) -> Result<(), StoreError> {
        self.write(|connection, _| tenant::make(connection, name, key).map(drop))
    }

    fn blob(&mut self, tenant: &Tenant, blob: &Content) -> Result<(), StoreError> {
        self.write(|connection, _| {
            content::write(connection, expect_tenant(connection, tenant)?.id, blob)
        })
    }

    fn list(&mut self, tenant: &Tenant, list: &ChunkList) -> Result<(), StoreError> {
        self.write(|connection, _| {
            let TenantRow { id, key } = expect_tenant(connection, tenant)?;
            chunked::write(connection, id, list.address(&key), list)
        })
    }

    fn begin(&mut self, whole: &Whole) -> Result<(), StoreError> {
        self.write(|connection, place| {
            let Whole { receipt, origin } = whole;
            *place = Some(Place {
                tenant: expect_tenant(connection, &receipt.tenant)?.id,
                pid: receipt.pid,
                epoch: receipt.epoch,
                next: Seq(0),
                head: *origin,
                origin: *origin,
                tail: Vec::new(),
                checkpoints: Vec::new(),
                finished: false,
            });
            Ok(())
        })
    }

    fn appends(&mut self, appends: Vec<Append>) -> Result<(), StoreError> {
        self.write(|connection, place| {
            for append in appends {
                if let Some(place) = place.as_mut() {
                    Prepared::new(append)?.store(connection, place)?;
                }
            }
            Ok(())
        })
    }

    fn end(&mut self, whole: &Whole) -> Result<(), StoreError> {
        self.write(|connection, place| {
            let Some(place) = place.take() else { return Ok(()) };
            let row = &whole.receipt.row;
            let state = serde_json::to_string(&row.state)
                .map_err(|error| Fault::refused(Code::EventEncode, error.to_string()))?;
            process::write(connection, &place, true, row, &state)
        })
    }

    fn post(&mut self, tenant: &Tenant, items: Vec<Posted>) -> Result<(), StoreError> {
        self.write(|connection, _| {
            for (pid, InboxId(id), item) in &items {
                inbox::put(connection, tenant, *pid, item, Some(*id))?;
            }
            Ok(())
        })
    }

    fn record(&mut self, kept: &Kept) -> Result<(), StoreError> {
        self.write(|connection, _| prune::record(connection, kept))
    }

    fn processes(&mut self, tenant: &Tenant) -> Result<Vec<Receipt>, StoreError> {
        self.write(|connection, _| process::list(connection, tenant, ProcessFilter::All))
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        let is_store = self.store.is_some();
        let Some(connection) = self.connection.take() else { return Err(crate::check::closed()) };
        let ended = (|| {
            connection.execute_batch("COMMIT")?;
            if is_store {
                log::keep(&connection)?;
            }
            connection.close().map_err(|(_, error)| Fault::Database(error))
        })();
        ended.map_err(|fault: Fault| fault.at(&self.path))?;
        match self.store.take() {
            Some((files, _lock)) => files.publish(),
            None => Ok(()),
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        drop(self.connection.take());
        if self.store.is_some() {
            // Nobody ever saw it, and whoever opens the folder next removes what is left of it.
            let _ = Files::remove(&self.path);
        }
    }
}
