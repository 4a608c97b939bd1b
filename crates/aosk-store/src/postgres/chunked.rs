//! Contents that come in and go out by themselves, in chunks where they are long.
//!
//! A chunk is a row like any large content, in a transaction of its own that shares the lock of those who
//! store contents: nobody deletes it between its own commit and what holds it.

use std::sync::Arc;

use aosk_abi::{ChunkList, Content, Hash, Tenant};
use aosk_ports::{ContentStore, HOLD, StoreError};
use deadpool_postgres::Object;
use futures::future::BoxFuture;
use tokio_postgres::Row;

use super::content::{self, SHARE};
use super::fault::Fault;
use super::process::hash;
use super::reader::{PostgresReader, Questions};
use super::store::PostgresStore;
use super::tenant::{self, TenantRow};
use crate::check;

/// Keeps a content for a while though nothing names it.
const KEEP: &str = "INSERT INTO held (tenant, hash, until) \
                    VALUES ($1, $2, now() + make_interval(secs => $3)) \
                    ON CONFLICT (tenant, hash) DO UPDATE SET until = excluded.until";

/// Stores a list unless the tenant has it already.
const LIST: &str = "INSERT INTO chunked (tenant, hash, len, chunks) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (tenant, hash) DO NOTHING";

/// Stores a content that nothing names yet. It may be repeated.
async fn put_content(client: &mut Object, tenant: &Tenant, content: &Content) -> Result<(), Fault> {
    let row = tenant::find_or_make(client, tenant).await?;
    check::by_itself(content, &row.key)?;
    let transaction = client.transaction().await?;
    transaction.execute(&transaction.prepare_cached(SHARE).await?, &[]).await?;
    let insert = transaction
        .prepare_cached(
            "INSERT INTO blobs (tenant, hash, bytes) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant, hash) DO NOTHING",
        )
        .await?;
    let (address, bytes) = (content.hash(), &content.bytes()[..]);
    let address = &address.as_bytes()[..];
    transaction.execute(&insert, &[&row.id, &address, &bytes]).await?;
    let keep = transaction.prepare_cached(KEEP).await?;
    transaction.execute(&keep, &[&row.id, &address, &HOLD.as_secs_f64()]).await?;
    transaction.commit().await?;
    Ok(())
}

/// Stores the list of a content whose chunks are there. It may be repeated.
async fn put_chunks(client: &mut Object, tenant: &Tenant, list: &ChunkList) -> Result<Hash, Fault> {
    let row = tenant::find_or_make(client, tenant).await?;
    let transaction = client.transaction().await?;
    transaction.execute(&transaction.prepare_cached(SHARE).await?, &[]).await?;
    let wanted: Vec<&[u8]> = list.chunks().iter().map(|it| &it.address.as_bytes()[..]).collect();
    let absent = transaction
        .query_opt(
            "SELECT w.hash FROM UNNEST($2::bytea[]) AS w (hash) WHERE NOT EXISTS \
             (SELECT FROM blobs AS b WHERE b.tenant = $1 AND b.hash = w.hash) LIMIT 1",
            &[&row.id, &wanted],
        )
        .await?;
    if let Some(absent) = absent {
        let absent = hash(absent.try_get(0)?).unwrap_or(Hash::ZERO);
        return Err(check::no_chunk(absent).into());
    }
    let address = list.address(&row.key);
    let (key, len, chunks) = (&address.as_bytes()[..], list.len().cast_signed(), list.to_bytes());
    transaction.execute(LIST, &[&row.id, &key, &len, &chunks]).await?;
    let keep = transaction.prepare_cached(KEEP).await?;
    transaction.execute(&keep, &[&row.id, &key, &HOLD.as_secs_f64()]).await?;
    transaction.commit().await?;
    Ok(address)
}

/// Stores a list of a copy.
pub(super) async fn write(
    client: &Object,
    tenant: &TenantRow,
    list: &ChunkList,
) -> Result<(), Fault> {
    let (address, len, chunks) =
        (list.address(&tenant.key), list.len().cast_signed(), list.to_bytes());
    client.execute(LIST, &[&tenant.id, &&address.as_bytes()[..], &len, &chunks]).await?;
    Ok(())
}

/// The addresses that are held.
pub(super) async fn held(client: &Object, tenant: &TenantRow) -> Result<Vec<Hash>, Fault> {
    let sql = "SELECT hash FROM held WHERE tenant = $1 AND until > now()";
    hashes(&client.query(sql, &[&tenant.id]).await?)
}

/// Forgets what is held no longer.
pub(super) async fn let_go(client: &Object, tenant: &TenantRow) -> Result<(), Fault> {
    let sql = "DELETE FROM held WHERE tenant = $1 AND until <= now()";
    client.execute(sql, &[&tenant.id]).await?;
    Ok(())
}

/// The addresses of all contents in chunks.
pub(super) async fn addresses(client: &Object, tenant: &TenantRow) -> Result<Vec<Hash>, Fault> {
    let sql = "SELECT hash FROM chunked WHERE tenant = $1 ORDER BY hash";
    hashes(&client.query(sql, &[&tenant.id]).await?)
}

fn hashes(rows: &[Row]) -> Result<Vec<Hash>, Fault> {
    let cut = || Fault::damaged("the address of a content is cut off");
    rows.iter().map(|row| hash(row.try_get(0)?).ok_or_else(cut)).collect()
}

/// The list of a content, checked against its address.
pub(super) async fn list(
    client: &Object,
    tenant: &TenantRow,
    address: Hash,
) -> Result<Option<ChunkList>, Fault> {
    let statement = client
        .prepare_cached("SELECT len, chunks FROM chunked WHERE tenant = $1 AND hash = $2")
        .await?;
    let found = client.query_opt(&statement, &[&tenant.id, &&address.as_bytes()[..]]).await?;
    let Some(row) = found else { return Ok(None) };
    let len = row.try_get::<_, i64>(0)?.cast_unsigned();
    let list = ChunkList::from_bytes(len, row.try_get(1)?);
    let list = list.filter(|list| list.address(&tenant.key) == address);
    list.map(Some).ok_or_else(|| Fault::damaged(check::wrong_list(address)))
}

/// A content in chunks in one buffer; `None` where it is not stored so.
pub(super) async fn joined(
    client: &Object,
    tenant: &TenantRow,
    address: Hash,
) -> Result<Option<Arc<[u8]>>, Fault> {
    let Some(list) = list(client, tenant, address).await? else { return Ok(None) };
    let mut all = Vec::with_capacity(check::one_buffer(address, list.len())?);
    for (chunk, place) in list.chunks().iter().zip(0..) {
        let bytes = whole(client, tenant, chunk.address).await?;
        let bytes = bytes.filter(|bytes| list.holds(&tenant.key, place, bytes));
        let bytes = bytes.ok_or_else(|| Fault::damaged(check::wrong_chunk(address, place)))?;
        all.extend_from_slice(&bytes);
    }
    Ok(Some(all.into()))
}

/// A content that is stored whole, checked against its address.
async fn whole(
    client: &Object,
    tenant: &TenantRow,
    address: Hash,
) -> Result<Option<Arc<[u8]>>, Fault> {
    Ok(content::blobs(client, tenant, &[address.as_bytes()]).await?.remove(&address))
}

impl Questions {
    async fn put_content(self, tenant: Tenant, content: Content) -> Result<(), StoreError> {
        let (tenant, content) = (&tenant, &content);
        let put =
            |mut client: Object| async move { put_content(&mut client, tenant, content).await };
        self.0.ask(put).await
    }

    async fn put_chunks(self, tenant: Tenant, list: ChunkList) -> Result<Hash, StoreError> {
        let (tenant, list) = (&tenant, &list);
        let put = |mut client: Object| async move { put_chunks(&mut client, tenant, list).await };
        self.0.ask(put).await
    }

    async fn chunks(self, tenant: Tenant, address: Hash) -> Result<Option<ChunkList>, StoreError> {
        let (this, tenant) = (&self, &tenant);
        let read = |client: Object| async move {
            match this.tenant(&client, tenant).await? {
                Some(row) => list(&client, &row, address).await,
                None => Ok(None),
            }
        };
        this.0.ask(read).await
    }

    async fn content(self, tenant: Tenant, address: Hash) -> Result<Option<Arc<[u8]>>, StoreError> {
        let (this, tenant) = (&self, &tenant);
        let read = |client: Object| async move {
            match this.tenant(&client, tenant).await? {
                Some(row) => whole(&client, &row, address).await,
                None => Ok(None),
            }
        };
        this.0.ask(read).await
    }
}

macro_rules! content_store {
    ($store:ty) => {
        impl ContentStore for $store {
            fn put_content(
                &self,
                tenant: &Tenant,
                content: Content,
            ) -> BoxFuture<'_, Result<(), StoreError>> {
                self.ask(|questions| questions.put_content(tenant.clone(), content))
            }

            fn put_chunks(
                &self,
                tenant: &Tenant,
                list: ChunkList,
            ) -> BoxFuture<'_, Result<Hash, StoreError>> {
                self.ask(|questions| questions.put_chunks(tenant.clone(), list))
            }

            fn chunks(
                &self,
                tenant: &Tenant,
                address: Hash,
            ) -> BoxFuture<'_, Result<Option<ChunkList>, StoreError>> {
                self.ask(|questions| questions.chunks(tenant.clone(), address))
            }

            fn content(
                &self,
                tenant: &Tenant,
                address: Hash,
            ) -> BoxFuture<'_, Result<Option<Arc<[u8]>>, StoreError>> {
                self.ask(|questions| questions.content(tenant.clone(), address))
            }
        }
    };
}

content_store!(PostgresStore);
content_store!(PostgresReader);
