//! The inbox: what others leave for a process's owner.

use aosk_abi::{Code, Pid, Tenant};
use aosk_ports::{InboxId, InboxItem};
use rusqlite::{Connection, OptionalExtension};

use super::fault::Fault;
use super::process;
use super::tenant;
use crate::check;

/// Leaves an item for a process.
pub(super) fn post(
    connection: &Connection,
    tenant: &Tenant,
    pid: Pid,
    item: &InboxItem,
) -> Result<InboxId, Fault> {
    put(connection, tenant, pid, item, None)
}

/// The same under a number of its own, where one is given.
pub(super) fn put(
    connection: &Connection,
    tenant: &Tenant,
    pid: Pid,
    item: &InboxItem,
    id: Option<i64>,
) -> Result<InboxId, Fault> {
    let place = process::expect(connection, tenant, pid)?;
    let item = serde_json::to_string(item).map_err(|error| {
        Fault::refused(Code::EventEncode, format!("the item for process {pid}: {error}"))
    })?;
    connection
        .prepare_cached("INSERT INTO inbox (id, tenant, pid, item) VALUES (?1, ?2, ?3, ?4)")?
        .execute((id, place.tenant, pid.as_bytes(), item))?;
    Ok(InboxId(connection.last_insert_rowid()))
}

/// What waits for a tenant's processes, oldest first.
pub(super) fn pending(
    connection: &Connection,
    tenant: &Tenant,
) -> Result<Vec<(Pid, InboxId, InboxItem)>, Fault> {
    let Some(tenant) = tenant::find(connection, tenant)? else {
        return Ok(Vec::new());
    };
    let mut statement = connection
        .prepare_cached("SELECT id, pid, item FROM inbox WHERE tenant = ?1 ORDER BY id")?;
    let mut rows = statement.query([tenant.id])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let item = serde_json::from_str(row.get_ref(2)?.as_str().unwrap_or_default()).map_err(
            |error| Fault::damaged(format_args!("inbox item {id} cannot be read: {error}")),
        )?;
        items.push((Pid::from_bytes(row.get(1)?), InboxId(id), item));
    }
    Ok(items)
}

/// Refuses an append that takes over items which do not wait for its process.
pub(super) fn check(
    connection: &Connection,
    tenant: i64,
    pid: Pid,
    consumed: &[InboxId],
) -> Result<(), Fault> {
    for (index, item) in consumed.iter().enumerate() {
        let there = connection
            .prepare_cached("SELECT 1 FROM inbox WHERE id = ?1 AND tenant = ?2 AND pid = ?3")?
            .query_row((item.0, tenant, pid.as_bytes()), |_| Ok(()))
            .optional()?;
        if there.is_none() || consumed[..index].contains(item) {
            return Err(check::no_item(pid, item.0).into());
        }
    }
    Ok(())
}

/// Removes items of a process.
pub(super) fn remove(
    connection: &Connection,
    tenant: i64,
    pid: Pid,
    items: &[InboxId],
) -> Result<(), Fault> {
    for item in items {
        connection
            .prepare_cached("DELETE FROM inbox WHERE id = ?1 AND tenant = ?2 AND pid = ?3")?
            .execute((item.0, tenant, pid.as_bytes()))?;
    }
    Ok(())
}
