//! Memories in the file: their names and numbers.

use aosk_abi::Tenant;
use aosk_ports::Space;
use rusqlite::{Connection, OptionalExtension};

use super::super::fault::Fault;
use crate::search::shelf::name;

/// The number of a memory, `None` for one into which nothing was put.
pub(super) fn find(
    connection: &Connection,
    tenant: &Tenant,
    space: &Space,
) -> Result<Option<i64>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM spaces WHERE tenant = ?1 AND name = ?2")?;
    Ok(statement.query_row((tenant.as_str(), name(space)), |row| row.get(0)).optional()?)
}

/// The numbers of those of the memories into which something was put.
pub(super) fn find_all(
    connection: &Connection,
    tenant: &Tenant,
    spaces: &[Space],
) -> Result<Vec<i64>, Fault> {
    let mut found = Vec::with_capacity(spaces.len());
    for space in spaces {
        found.extend(find(connection, tenant, space)?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The number of a memory; it gets one where it has none.
pub(super) fn find_or_make(
    connection: &Connection,
    tenant: &Tenant,
    space: &Space,
) -> Result<i64, Fault> {
    if let Some(id) = find(connection, tenant, space)? {
        return Ok(id);
    }
    let mut statement =
        connection.prepare_cached("INSERT INTO spaces (tenant, name) VALUES (?1, ?2)")?;
    Ok(statement.insert((tenant.as_str(), name(space)))?)
}

/// The term that every entry of a memory has.
pub(super) fn term(space: i64) -> String {
    format!("m{space}")
}
