//! Removal of processes, and what stays of them.

use aosk_abi::{Hash, Pid};
use rusqlite::{Connection, OptionalExtension};

use super::fault::Fault;
use super::process::{self, number};
use super::{journal, tenant};
use crate::prune::Kept;

/// The tables with rows of a process, but for the journal.
const TABLES: [&str; 4] = ["spans", "checkpoints", "stretches", "processes"];

/// Removes processes of a tenant.
pub(super) fn erase(connection: &Connection, tenant: i64, pids: &[Pid]) -> Result<(), Fault> {
    for pid in pids {
        if let Some(place) = process::find(connection, tenant, *pid)? {
            journal::erase(connection, &place)?;
        }
        for table in TABLES {
            let sql = format!("DELETE FROM {table} WHERE tenant = ?1 AND pid = ?2");
            connection.prepare_cached(&sql)?.execute((tenant, pid.as_bytes()))?;
        }
    }
    Ok(())
}

/// The number and link of the newest record.
pub(super) fn last(connection: &Connection) -> Result<Option<(u64, Hash)>, Fault> {
    let found = connection
        .prepare_cached("SELECT id, link FROM prunings ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| Ok((number(row, 0)?, Hash::from_bytes(row.get(1)?))))
        .optional()?;
    Ok(found)
}

/// Stores a record.
pub(super) fn record(connection: &Connection, kept: &Kept) -> Result<(), Fault> {
    let tenant = tenant::find_or_make(connection, &kept.tenant)?.id;
    connection
        .prepare_cached("INSERT INTO prunings (id, tenant, body, link) VALUES (?1, ?2, ?3, ?4)")?
        .execute((kept.number.cast_signed(), tenant, &kept.body, kept.link.as_bytes()))?;
    Ok(())
}

/// All records, by number.
pub(super) fn all(connection: &Connection) -> Result<Vec<Kept>, Fault> {
    let mut statement = connection.prepare(
        "SELECT t.name, p.id, p.body, p.link FROM prunings AS p JOIN tenants AS t ON t.id = p.tenant \
         ORDER BY p.id",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let tenant = name.parse().map_err(|error| {
            Fault::damaged(format_args!("the tenant {name:?} has no name: {error}"))
        })?;
        let (number, body) = (number(row, 1)?, row.get(2)?);
        found.push(Kept { tenant, number, body, link: Hash::from_bytes(row.get(3)?) });
    }
    Ok(found)
}
