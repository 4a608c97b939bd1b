//! Memories in the file: their names and numbers.

use aosk_abi::{Pid, Tenant};
use aosk_ports::{MemoryName, Space};
use rusqlite::{Connection, OptionalExtension};

use super::super::fault::Fault;

/// The name under which a memory is kept.
fn name(space: &Space) -> Vec<u8> {
    match space {
        Space::Process(pid) => [b"p", &pid.as_bytes()[..]].concat(),
        Space::Shared(name) => [b"s", name.as_str().as_bytes()].concat(),
    }
}

/// The memory that is kept under that name.
pub(super) fn of_name(name: &[u8]) -> Result<Space, Fault> {
    let damaged = || Fault::damaged(format_args!("a memory has the name {name:?}"));
    match name.split_first() {
        Some((b'p', pid)) => {
            let pid: [u8; 16] = pid.try_into().map_err(|_| damaged())?;
            Ok(Space::Process(Pid::from_bytes(pid)))
        }
        Some((b's', text)) => {
            let text = std::str::from_utf8(text).map_err(|_| damaged())?;
            text.parse::<MemoryName>().map(Space::Shared).map_err(|_| damaged())
        }
        _ => Err(damaged()),
    }
}

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
