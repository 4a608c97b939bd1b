//! Contents that come in and go out by themselves, in chunks where they are long.
//!
//! A chunk is a row like any large content, and commits by itself: the writer serves appends between two
//! of them. The owner's go through its queue; those of anyone else through a connection of their own, as
//! posts do.

use std::sync::Arc;

use aosk_abi::{ChunkList, Content, Hash, Tenant};
use aosk_ports::{ContentStore, HOLD, StoreError};
use futures::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension};

use super::content;
use super::fault::Fault;
use super::reader::{SqliteReader, heard};
use super::store::SqliteStore;
use super::tenant::{self, TenantRow};
use crate::check;

/// Stores a content that nothing names yet.
fn put_content(connection: &Connection, tenant: &Tenant, content: &Content) -> Result<(), Fault> {
    let row = tenant::find_or_make(connection, tenant)?;
    check::by_itself(content, &row.key)?;
    content::write(connection, row.id, content)?;
    hold(connection, row.id, content.hash())
}

/// Stores the list of a content whose chunks are there.
fn put_chunks(connection: &Connection, tenant: &Tenant, list: &ChunkList) -> Result<Hash, Fault> {
    let row = tenant::find_or_make(connection, tenant)?;
    for chunk in list.chunks() {
        if !content::is_there(connection, row.id, chunk.address)? {
            return Err(check::no_chunk(chunk.address).into());
        }
    }
    let address = list.address(&row.key);
    write(connection, row.id, address, list)?;
    hold(connection, row.id, address)?;
    Ok(address)
}

/// Stores a list unless the tenant has it already.
pub(super) fn write(
    connection: &Connection,
    tenant: i64,
    address: Hash,
    list: &ChunkList,
) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO chunked (tenant, hash, len, chunks) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO NOTHING",
        )?
        .execute((tenant, address.as_bytes(), list.len().cast_signed(), list.to_bytes()))?;
    Ok(())
}

/// Keeps a content for a while though nothing names it.
fn hold(connection: &Connection, tenant: i64, address: Hash) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO held (tenant, hash, until) VALUES (?1, ?2, unixepoch() + ?3) \
             ON CONFLICT DO UPDATE SET until = excluded.until",
        )?
        .execute((tenant, address.as_bytes(), HOLD.as_secs().cast_signed()))?;
    Ok(())
}

/// The addresses that are held.
pub(super) fn held(connection: &Connection, tenant: i64) -> Result<Vec<Hash>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT hash FROM held WHERE tenant = ?1 AND until > unixepoch()")?;
    let rows = statement.query_map([tenant], |row| row.get(0))?;
    rows.map(|hash| Ok(Hash::from_bytes(hash?))).collect()
}

/// Forgets what is held no longer.
pub(super) fn let_go(connection: &Connection, tenant: i64) -> Result<(), Fault> {
    connection
        .prepare_cached("DELETE FROM held WHERE tenant = ?1 AND until <= unixepoch()")?
        .execute([tenant])?;
    Ok(())
}

/// The addresses of all contents in chunks.
pub(super) fn addresses(connection: &Connection, tenant: i64) -> Result<Vec<Hash>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT hash FROM chunked WHERE tenant = ?1 ORDER BY hash")?;
    let rows = statement.query_map([tenant], |row| row.get(0))?;
    rows.map(|hash| Ok(Hash::from_bytes(hash?))).collect()
}

/// The list of a content, checked against its address.
pub(super) fn list(
    connection: &Connection,
    tenant: &TenantRow,
    address: Hash,
) -> Result<Option<ChunkList>, Fault> {
    let found: Option<(i64, Vec<u8>)> = connection
        .prepare_cached("SELECT len, chunks FROM chunked WHERE tenant = ?1 AND hash = ?2")?
        .query_row((tenant.id, address.as_bytes()), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((len, bytes)) = found else { return Ok(None) };
    let list = ChunkList::from_bytes(len.cast_unsigned(), &bytes);
    let list = list.filter(|list| list.address(&tenant.key) == address);
    list.map(Some).ok_or_else(|| Fault::damaged(check::wrong_list(address)))
}

/// A content in chunks in one buffer; `None` where it is not stored so.
pub(super) fn joined(
    connection: &Connection,
    tenant: &TenantRow,
    address: Hash,
) -> Result<Option<Vec<u8>>, Fault> {
    let Some(list) = list(connection, tenant, address)? else { return Ok(None) };
    let mut all = Vec::with_capacity(check::one_buffer(address, list.len())?);
    for (chunk, place) in list.chunks().iter().zip(0..) {
        let bytes = content::blob(connection, tenant.id, chunk.address)?;
        let bytes = bytes.filter(|bytes| list.holds(&tenant.key, place, bytes));
        all.extend(bytes.ok_or_else(|| Fault::damaged(check::wrong_chunk(address, place)))?);
    }
    Ok(Some(all))
}

/// A content that is stored whole, checked against its address.
pub(super) fn whole(
    connection: &Connection,
    tenant: &TenantRow,
    address: Hash,
) -> Result<Option<Arc<[u8]>>, Fault> {
    match content::blob(connection, tenant.id, address)? {
        Some(bytes) if tenant.key.hash(&bytes) == address => Ok(Some(bytes.into())),
        Some(_) => Err(Fault::damaged(check::wrong_content(address))),
        None => Ok(None),
    }
}

impl ContentStore for SqliteStore {
    fn put_content(
        &self,
        tenant: &Tenant,
        content: Content,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (tenant, bytes) = (tenant.clone(), content.bytes().len());
        heard(
            self.writer()
                .enqueue_aside(bytes, move |connection| put_content(connection, &tenant, &content)),
        )
    }

    fn put_chunks(
        &self,
        tenant: &Tenant,
        list: ChunkList,
    ) -> BoxFuture<'_, Result<Hash, StoreError>> {
        let tenant = tenant.clone();
        heard(
            self.writer()
                .enqueue_aside(0, move |connection| put_chunks(connection, &tenant, &list)),
        )
    }

    fn chunks(
        &self,
        tenant: &Tenant,
        address: Hash,
    ) -> BoxFuture<'_, Result<Option<ChunkList>, StoreError>> {
        self.reader().chunks(tenant, address)
    }

    fn content(
        &self,
        tenant: &Tenant,
        address: Hash,
    ) -> BoxFuture<'_, Result<Option<Arc<[u8]>>, StoreError>> {
        self.reader().content(tenant, address)
    }
}

impl ContentStore for SqliteReader {
    fn put_content(
        &self,
        tenant: &Tenant,
        content: Content,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let tenant = tenant.clone();
        self.beside(move |connection| put_content(connection, &tenant, &content))
    }

    fn put_chunks(
        &self,
        tenant: &Tenant,
        list: ChunkList,
    ) -> BoxFuture<'_, Result<Hash, StoreError>> {
        let tenant = tenant.clone();
        self.beside(move |connection| put_chunks(connection, &tenant, &list))
    }

    fn chunks(
        &self,
        tenant: &Tenant,
        address: Hash,
    ) -> BoxFuture<'_, Result<Option<ChunkList>, StoreError>> {
        self.of_tenant(tenant, move |connection, row| list(connection, row, address))
    }

    fn content(
        &self,
        tenant: &Tenant,
        address: Hash,
    ) -> BoxFuture<'_, Result<Option<Arc<[u8]>>, StoreError>> {
        self.of_tenant(tenant, move |connection, row| whole(connection, row, address))
    }
}
