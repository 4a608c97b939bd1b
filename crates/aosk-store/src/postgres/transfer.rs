//! The two ends of a copy: a snapshot that is read, and a transaction that is made of what comes.
//!
//! A copy blocks its caller, so each end has a runtime of its own, which runs while the end is asked
//! something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{ChunkList, Code, Content, ContentKey, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{Append, Checkpoint, InboxId, Posted, ProcessFilter, Receipt, StoreError};
use deadpool_postgres::Object;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;

use super::append::Prepared;
use super::fault::Fault;
use super::options::PostgresOptions;
use super::process::{self, Place};
use super::reader::first;
use super::session::{Patience, Sessions};
use super::tenant::TenantRow;
use super::writes::{self, Write};
use super::{checkpoint, chunked, content, inbox, journal, prune, schema, tenant};
use crate::copy::{Source, Sweep, Target, Whole};
use crate::prune::{Batch, Kept};

/// How many appends are read at once: a step's has 1 KB, so some hundred KB.
const APPENDS: usize = 256;

/// How many addresses are read at once.
const ADDRESSES: usize = 1024;

/// A connection in a transaction.
struct Line {
    client: Object,
    sessions: Arc<Sessions>,
    runtime: Runtime,
    /// The tenants that were met.
    tenants: BTreeMap<Tenant, TenantRow>,
}

impl Line {
    fn open<T>(
        options: &PostgresOptions,
        ready: impl AsyncFnOnce(&mut Object, &str) -> Result<T, Fault>,
    ) -> Result<Self, StoreError> {
        let sessions = Sessions::new(options.read()?, Patience::Unlimited)?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            let what =
                format!("the system gives no runtime to the copy: {error}; raise its limits");
            StoreError::new(Code::StoreIo, what)
        })?;
        let opened = runtime.block_on(async {
            let mut client = first(&sessions).await?;
            ready(&mut client, &sessions.address.schema).await?;
            // The other end may take its time between two questions.
            client.batch_execute("SET idle_in_transaction_session_timeout = 0").await?;
            Ok(client)
        });
        let client = opened.map_err(|fault: Fault| fault.at(&sessions.address))?;
        Ok(Self { client, sessions, runtime, tenants: BTreeMap::new() })
    }

    fn ask<T>(&self, work: impl AsyncFnOnce(&Object) -> Result<T, Fault>) -> Result<T, StoreError> {
        let answer = self.runtime.block_on(work(&self.client));
        answer.map_err(|fault| fault.at(&self.sessions.address))
    }

    fn tenant(&self, name: &Tenant) -> Result<TenantRow, StoreError> {
        self.tenants.get(name).copied().ok_or_else(|| {
            let what = format!("tenant {name} is named and not there; copy the store again");
            StoreError::new(Code::StoreCorrupt, what)
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // What was not committed is rolled back now, and not when the server misses the client.
        let _ = self.runtime.block_on(self.client.batch_execute("ROLLBACK"));
    }
}

/// A store as it is at one moment.
pub(crate) struct Snapshot(Line);

impl Snapshot {
    pub(crate) fn of(options: &PostgresOptions) -> Result<Self, StoreError> {
        let line = Line::open(options, async |client, schema| {
            schema::check(client, schema).await?;
            prune::keep_months(client).await?;
            client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            Ok(())
        })?;
        Ok(Self(line))
    }
}

impl Source for Snapshot {
    fn tenants(&mut self) -> Result<Vec<(Tenant, ContentKey)>, StoreError> {
        let all = self.0.ask(async |client| tenant::all(client).await)?;
        self.0.tenants = all.iter().cloned().collect();
        Ok(all.into_iter().map(|(name, row)| (name, row.key)).collect())
    }

    fn processes(&mut self, tenant: &Tenant) -> Result<Vec<Whole>, StoreError> {
        self.0.ask(async |client| {
            let mut found = Vec::new();
            for receipt in process::list(client, tenant, ProcessFilter::All).await? {
                let origin = process::expect(client, tenant, receipt.pid).await?.origin;
                found.push(Whole { receipt, origin });
            }
            Ok(found)
        })
    }

    fn appends(&mut self, whole: &Whole, from: Seq, prev: Hash) -> Result<Vec<Append>, StoreError> {
        let Receipt { tenant, pid, .. } = &whole.receipt;
        let key = self.0.tenant(tenant)?.key;
        self.0.ask(async |client| {
            let place = process::expect(client, tenant, *pid).await?;
            let stored = journal::appends(client, tenant, &place, (from, prev), APPENDS).await?;
            Ok(stored.into_iter().map(|stored| whole.append(&key, stored)).collect())
        })
    }

    fn checkpoints(&mut self, whole: &Whole) -> Result<Vec<Checkpoint>, StoreError> {
        let Receipt { tenant, pid, .. } = &whole.receipt;
        self.0.ask(async |client| {
            let place = process::expect(client, tenant, *pid).await?;
            let mut found = Vec::new();
            for seq in place.checkpoints.iter().rev().flatten() {
                found.extend(checkpoint::read(client, &place, Some(*seq)).await?);
            }
            Ok(found)
        })
    }

    fn blobs(&mut self, tenant: &Tenant, after: Option<Hash>) -> Result<Vec<Hash>, StoreError> {
        let row = self.0.tenant(tenant)?;
        self.0.ask(async |client| content::addresses(client, &row, after, ADDRESSES).await)
    }

    fn blob(&mut self, tenant: &Tenant, hash: Hash) -> Result<Content, StoreError> {
        let row = self.0.tenant(tenant)?;
        self.0.ask(async |client| {
            let mut found = content::blobs(client, &row, &[hash.as_bytes()]).await?;
            let bytes = found.remove(&hash);
            let bytes = bytes.ok_or_else(|| {
                Fault::damaged(format_args!("the content {hash} is listed and not there"))
            })?;
            Ok(row.key.seal(bytes))
        })
    }

    fn lists(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError> {
        let row = self.0.tenant(tenant)?;
        self.0.ask(async |client| chunked::addresses(client, &row).await)
    }

    fn list(&mut self, tenant: &Tenant, hash: Hash) -> Result<Option<ChunkList>, StoreError> {
        let row = self.0.tenant(tenant)?;
        self.0.ask(async |client| chunked::list(client, &row, hash).await)
    }

    fn held(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError> {
        let row = self.0.tenant(tenant)?;
        self.0.ask(async |client| chunked::held(client, &row).await)
    }

    fn inbox(&mut self, tenant: &Tenant) -> Result<Vec<Posted>, StoreError> {
        self.0.ask(async |client| inbox::pending(client, tenant).await)
    }

    fn first(&mut self, whole: &Whole) -> Result<Option<Record>, StoreError> {
        let Receipt { tenant, pid, .. } = &whole.receipt;
        self.0.ask(async |client| {
            let place = process::expect(client, tenant, *pid).await?;
            Ok(journal::read(client, tenant, &place, Seq(0), 1).await?.pop())
        })
    }

    fn prunings(&mut self) -> Result<Vec<Kept>, StoreError> {
        self.0.ask(async |client| prune::all(client).await)
    }

    fn suspects(&mut self, tenant: &Tenant) -> Result<Vec<Hash>, StoreError> {
        let row = self.0.tenant(tenant)?;
        self.0.ask(async |client| content::suspects(client, &row).await)
    }

    fn stored_bytes(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<u64, StoreError> {
        let row = self.0.tenant(tenant)?;
        self.0.ask(async |client| content::stored_bytes(client, &row, hashes).await)
    }
}

/// A store from which contents are deleted, beside its nodes.
pub(crate) struct Broom(Snapshot);

impl Broom {
    pub(crate) fn of(options: &PostgresOptions) -> Result<Self, StoreError> {
        let line = Line::open(options, async |client, schema| schema::check(client, schema).await)?;
        let mut snapshot = Snapshot(line);
        snapshot.tenants()?;
        Ok(Self(snapshot))
    }
}

impl Sweep for Broom {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.0.0.ask(async |client| {
            client.batch_execute("BEGIN").await?;
            content::keep_writers_out(client).await
        })
    }

    fn source(&mut self) -> &mut dyn Source {
        &mut self.0
    }

    fn delete(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<u64, StoreError> {
        let row = self.0.0.tenant(tenant)?;
        self.0.0.ask(async |client| {
            let bytes = content::stored_bytes(client, &row, hashes).await?;
            content::delete(client, &row, hashes).await.map(|()| bytes)
        })
    }

    fn suspect(&mut self, tenant: &Tenant, hashes: &[Hash]) -> Result<(), StoreError> {
        let row = self.0.0.tenant(tenant)?;
        self.0.0.ask(async |client| content::suspect(client, &row, hashes).await)
    }

    fn take_turn(&mut self, every: Duration) -> Result<bool, StoreError> {
        self.0.0.ask(async |client| {
            // One that is yet to come was written by a clock that was wrong.
            let sql = "UPDATE upkeep SET begun = now() \
                       WHERE begun <= now() - make_interval(secs => $1) OR begun > now()";
            Ok(client.execute(sql, &[&every.as_secs_f64()]).await? == 1)
        })
    }

    fn batches(&mut self, tenant: &Tenant, go: Vec<Receipt>) -> Result<Vec<Batch>, StoreError> {
        let row = self.0.0.tenant(tenant)?;
        self.0.0.ask(async |client| prune::batches(client, &row, go).await)
    }

    fn begin_removal(&mut self) -> Result<(), StoreError> {
        let alone = "BEGIN; LOCK TABLE prunings IN SHARE ROW EXCLUSIVE MODE";
        self.0.0.ask(async |client| Ok(client.batch_execute(alone).await?))
    }

    fn lock(&mut self, tenant: &Tenant, pids: &[Pid]) -> Result<Vec<Receipt>, StoreError> {
        let row = self.0.0.tenant(tenant)?;
        self.0.0.ask(async |client| prune::lock(client, tenant, &row, pids).await)
    }

    fn erase(
        &mut self,
        tenant: &Tenant,
        pids: &[Pid],
        table: Option<&str>,
    ) -> Result<(), StoreError> {
        let row = self.0.0.tenant(tenant)?;
        self.0.0.ask(async |client| prune::erase(client, &row, pids, table).await)
    }

    fn last_pruning(&mut self) -> Result<Option<(u64, Hash)>, StoreError> {
        self.0.0.ask(async |client| prune::last(client).await)
    }

    fn record(&mut self, kept: &Kept) -> Result<(), StoreError> {
        let row = self.0.0.tenant(&kept.tenant)?;
        self.0.0.ask(async |client| prune::record(client, &row, kept).await)
    }

    fn let_go(&mut self, tenant: &Tenant) -> Result<(), StoreError> {
        let row = self.0.0.tenant(tenant)?;
        self.0.0.ask(async |client| chunked::let_go(client, &row).await)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.0.0.ask(async |client| Ok(client.batch_execute("COMMIT").await?))
    }
}

/// A store that is being made of a copy. Everything is one transaction.
pub(crate) struct Intake {
    line: Line,
    /// The process that comes in.
    place: Option<Place>,
}

impl Intake {
    /// In a schema that holds no store, or one in which nothing ever ran.
    pub(crate) fn of(options: &PostgresOptions) -> Result<Self, StoreError> {
        let line = Line::open(options, async |client, schema| {
            schema::prepare(client, schema).await?;
            // Whoever would begin something here meanwhile makes a tenant first, and waits.
            client.batch_execute("BEGIN; LOCK TABLE tenants IN EXCLUSIVE MODE").await?;
            let used = client.query_one("SELECT EXISTS (SELECT FROM tenants)", &[]).await?;
            if used.try_get::<_, bool>(0)? {
                return Err(Fault::refused(
                    Code::StoreOpen,
                    format!(
                        "the schema {schema} holds a store already, which nothing replaces: name \
                         another schema or database, or drop this one"
                    ),
                ));
            }
            Ok(())
        })?;
        Ok(Self { line, place: None })
    }

    fn write(&self, writes: &[Write<'_>]) -> Result<(), StoreError> {
        self.line.ask(async |client| {
            for write in writes {
                let params: Vec<&(dyn ToSql + Sync)> =
                    write.params.iter().map(|it| &**it as _).collect();
                let statement = client.prepare_cached(write.sql).await?;
                client.execute(&statement, &params).await?;
            }
            Ok(())
        })
    }
}

impl Target for Intake {
    fn tenant(&mut self, name: &Tenant, key: ContentKey) -> Result<(), StoreError> {
        let row = self.line.ask(async |client| tenant::make(client, name, key).await)?;
        self.line.tenants.insert(name.clone(), row);
        Ok(())
    }

    fn blob(&mut self, tenant: &Tenant, blob: &Content) -> Result<(), StoreError> {
        let id = self.line.tenant(tenant)?.id;
        self.write(&[writes::blob(id, blob)])
    }

    fn list(&mut self, tenant: &Tenant, list: &ChunkList) -> Result<(), StoreError> {
        let row = self.line.tenant(tenant)?;
        self.line.ask(async |client| chunked::write(client, &row, list).await)
    }

    fn begin(&mut self, whole: &Whole) -> Result<(), StoreError> {
        let Whole { receipt, origin } = whole;
        self.place = Some(Place {
            tenant: self.line.tenant(&receipt.tenant)?.id,
            pid: receipt.pid,
            epoch: receipt.epoch,
            next: Seq(0),
            head: *origin,
            origin: *origin,
            checkpoints: [None, None],
        });
        Ok(())
    }

    fn appends(&mut self, appends: Vec<Append>) -> Result<(), StoreError> {
        let Some(place) = &mut self.place else { return Ok(()) };
        let prepared: Result<Vec<_>, _> = appends.into_iter().map(Prepared::new).collect();
        let prepared = prepared?;
        for append in &prepared {
            (place.next, place.head) = (append.last.next(), append.head());
            if let Some(saved) = &append.checkpoint {
                place.checkpoints = [Some(saved.seq), place.checkpoints[0]];
            }
        }
        let tenant = place.tenant;
        let rows: Vec<(&Prepared, i32)> = prepared.iter().map(|it| (it, tenant)).collect();
        self.write(&writes::copied(&rows))
    }

    fn end(&mut self, whole: &Whole) -> Result<(), StoreError> {
        let Some(place) = self.place.take() else { return Ok(()) };
        let state = serde_json::to_string(&whole.receipt.row.state)
            .map_err(|error| StoreError::new(Code::EventEncode, error.to_string()))?;
        self.write(&[writes::process(&place, &whole.receipt.row, &state)])
    }

    fn post(&mut self, tenant: &Tenant, items: Vec<Posted>) -> Result<(), StoreError> {
        let id = self.line.tenant(tenant)?.id;
        self.line.ask(async |client| {
            for (pid, InboxId(number), item) in &items {
                inbox::put(client, id, *pid, item, *number).await?;
            }
            Ok(())
        })
    }

    fn record(&mut self, kept: &Kept) -> Result<(), StoreError> {
        let row = self.line.tenant(&kept.tenant)?;
        self.line.ask(async |client| prune::record(client, &row, kept).await)
    }

    fn processes(&mut self, tenant: &Tenant) -> Result<Vec<Receipt>, StoreError> {
        self.line.ask(async |client| process::list(client, tenant, ProcessFilter::All).await)
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        self.line.ask(async |client| {
            inbox::count_on(client).await?;
            Ok(client.batch_execute("COMMIT").await?)
        })
    }
}
