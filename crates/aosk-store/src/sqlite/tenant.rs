//! Tenants: their numbers and the keys of their contents.

use aosk_abi::{ContentKey, Tenant};
use rusqlite::{Connection, OptionalExtension};

use super::fault::Fault;

/// A tenant as the other tables name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TenantRow {
    pub(super) id: i64,
    pub(super) key: ContentKey,
}

/// The tenant, if it was ever used.
pub(super) fn find(connection: &Connection, tenant: &Tenant) -> Result<Option<TenantRow>, Fault> {
    let row = connection
        .prepare_cached("SELECT id, content_key FROM tenants WHERE name = ?1")?
        .query_row([tenant.as_str()], |row| {
            Ok(TenantRow { id: row.get(0)?, key: ContentKey::from_bytes(row.get(1)?) })
        })
        .optional()?;
    Ok(row)
}

/// The tenant; at its first use with a fresh key from the operating system.
pub(super) fn find_or_make(connection: &Connection, tenant: &Tenant) -> Result<TenantRow, Fault> {
    if let Some(row) = find(connection, tenant)? {
        return Ok(row);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| {
        Fault::refused(
            aosk_abi::Code::StoreIo,
            format!("the system gives no randomness for a key: {error}; try again"),
        )
    })?;
    make(connection, tenant, ContentKey::from_bytes(key))
}

/// A tenant that is not there yet.
pub(super) fn make(
    connection: &Connection,
    tenant: &Tenant,
    key: ContentKey,
) -> Result<TenantRow, Fault> {
    let id = connection
        .prepare_cached(
            "INSERT INTO tenants (name, id, content_key) \
             SELECT ?1, COALESCE(MAX(id), 0) + 1, ?2 FROM tenants RETURNING id",
        )?
        .query_row((tenant.as_str(), key.as_bytes()), |row| row.get(0))?;
    Ok(TenantRow { id, key })
}

/// All tenants with their keys, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<(Tenant, ContentKey)>, Fault> {
    let mut statement =
        connection.prepare("SELECT name, content_key FROM tenants ORDER BY name")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let tenant = name.parse().map_err(|error| {
            Fault::damaged(format_args!("the tenant {name:?} has no name: {error}"))
        })?;
        found.push((tenant, ContentKey::from_bytes(row.get(1)?)));
    }
    Ok(found)
}
