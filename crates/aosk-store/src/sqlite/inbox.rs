//! The inbox: what others leave for a process's owner.

use aosk_abi::{Code, Pid, Signal, Tenant};
use aosk_ports::{InboxId, InboxItem};
use rusqlite::{Connection, OptionalExtension};

use super::fault::Fault;
use super::process::{self, Place};
use super::tenant;

const SIGNALS: [Signal; 3] = [Signal::Kill, Signal::Stop, Signal::Cont];

/// Leaves an item for a process.
pub(super) fn post(
    connection: &Connection,
    tenant: &Tenant,
    pid: Pid,
    item: &InboxItem,
) -> Result<InboxId, Fault> {
    let place = process::expect(connection, tenant, pid)?;
    let (signal, sender, text) = match item {
        InboxItem::Signal(signal) => (Some(signal.name()), None, None),
        InboxItem::Message { from, text } => (None, Some(from), Some(text)),
    };
    connection
        .prepare_cached(
            "INSERT INTO inbox (tenant, pid, signal, sender, text) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((place.tenant, pid.as_bytes(), signal, sender, text))?;
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
    let mut statement = connection.prepare_cached(
        "SELECT id, pid, signal, sender, text FROM inbox WHERE tenant = ?1 ORDER BY id",
    )?;
    let mut rows = statement.query([tenant.id])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let item = match row.get::<_, Option<String>>(2)? {
            None => InboxItem::Message { from: row.get(3)?, text: row.get(4)? },
            Some(name) => SIGNALS
                .into_iter()
                .find(|signal| signal.name() == name)
                .map(InboxItem::Signal)
                .ok_or_else(|| {
                    Fault::damaged(format_args!("inbox item {id}: no signal is called {name:?}"))
                })?,
        };
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
            return Err(Fault::refused(
                Code::StoreConflict,
                format!(
                    "process {pid}: inbox item {} does not wait for it (any more); it was taken \
                     over already, or is another's",
                    item.0
                ),
            ));
        }
    }
    Ok(())
}

/// Removes items that the journal has taken over.
pub(super) fn remove(
    connection: &Connection,
    place: &Place,
    consumed: &[InboxId],
) -> Result<(), Fault> {
    for item in consumed {
        connection
            .prepare_cached("DELETE FROM inbox WHERE id = ?1 AND tenant = ?2 AND pid = ?3")?
            .execute((item.0, place.tenant, place.pid.as_bytes()))?;
    }
    Ok(())
}
