//! Removal of processes, and what stays of them.
//!
//! A month's journals stand in a table of their own. Where all processes of one go, it is truncated: its
//! files are given back at once, and nothing is left for `VACUUM`. That is done under the table's lock, and
//! never while somebody reads a snapshot of the whole store, in which the month would be empty though its
//! processes are listed.

use std::collections::BTreeMap;

use aosk_abi::{Hash, Pid, Tenant};
use aosk_ports::Receipt;
use deadpool_postgres::Object;
use uuid::Uuid;

use super::fault::{Fault, quoted};
use super::process::{self, RECEIPT, hash, number, uuid};
use super::tenant::TenantRow;
use crate::prune::{Batch, Kept};

/// The lock that whoever reads a snapshot shares, and whoever empties a month has alone.
const MONTHS: &str = "hashtextextended('aosk months ' || current_schema(), 0)";

/// The months' tables with the pids that they are for: from `low` on, and below `high`.
const BOUNDS: &str = "SELECT c.relname::text AS name, \
    b.bounds[1]::uuid AS low, b.bounds[2]::uuid AS high \
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
    CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), \
        $re$FROM \\('([0-9a-f-]+)'\\) TO \\('([0-9a-f-]+)'\\)$re$) AS b (bounds) \
    WHERE i.inhparent = 'journal'::regclass AND b.bounds IS NOT NULL";

/// How long a table is waited for; its processes are removed row by row where that is not enough.
const WAIT: &str = "2s";

/// The tables with rows of a process, that of the journals at last: it may be locked for everyone.
const TABLES: [&str; 3] = ["checkpoints", "processes", "journal"];

/// Keeps months from being emptied while this connection is open.
pub(super) async fn keep_months(client: &Object) -> Result<(), Fault> {
    client.execute(&format!("SELECT pg_advisory_lock_shared({MONTHS})"), &[]).await?;
    Ok(())
}

/// In batches: each month of which nobody stays, and the rest by number.
pub(super) async fn batches(
    client: &Object,
    tenant: &TenantRow,
    go: Vec<Receipt>,
) -> Result<Vec<Batch>, Fault> {
    let pids: Vec<Uuid> = go.iter().map(|receipt| uuid(receipt.pid)).collect();
    let rows = client
        .query(
            &format!(
            "WITH gone AS (SELECT UNNEST($2::uuid[]) AS pid), months AS ({BOUNDS}) \
             SELECT m.name, g.pid FROM months AS m JOIN gone AS g ON g.pid >= m.low AND g.pid < m.high \
             WHERE NOT EXISTS (SELECT FROM processes AS p WHERE p.pid >= m.low AND p.pid < m.high \
                 AND NOT (p.tenant = $1 AND p.pid = ANY ($2)))"
            ),
            &[&tenant.id, &pids],
        )
        .await?;
    let mut month_of: BTreeMap<Pid, String> = BTreeMap::new();
    for row in &rows {
        month_of.insert(process::pid(row, 1)?, row.try_get(0)?);
    }
    let mut months: BTreeMap<String, Vec<Receipt>> = BTreeMap::new();
    let mut rest = Vec::new();
    for receipt in go {
        match month_of.get(&receipt.pid) {
            Some(month) => months.entry(month.clone()).or_default().push(receipt),
            None => rest.push(receipt),
        }
    }
    let months = months.into_iter().map(|(table, receipts)| Batch { receipts, table: Some(table) });
    Ok(months.chain(Batch::some(rest)).collect())
}

/// Locks processes in the order in which writers lock them, and answers those there are.
pub(super) async fn lock(
    client: &Object,
    tenant: &Tenant,
    row: &TenantRow,
    pids: &[Pid],
) -> Result<Vec<Receipt>, Fault> {
    let pids: Vec<Uuid> = pids.iter().map(|pid| uuid(*pid)).collect();
    let sql = format!(
        "SELECT {RECEIPT} FROM processes AS p WHERE p.tenant = $1 AND p.pid = ANY ($2) \
         ORDER BY p.pid FOR UPDATE"
    );
    let rows = client.query(&sql, &[&row.id, &pids]).await?;
    rows.iter().map(|row| process::receipt(tenant, row)).collect()
}

/// Removes locked processes; a table whose journals they are is emptied.
pub(super) async fn erase(
    client: &Object,
    tenant: &TenantRow,
    pids: &[Pid],
    table: Option<&str>,
) -> Result<(), Fault> {
    let pids: Vec<Uuid> = pids.iter().map(|pid| uuid(*pid)).collect();
    for of in TABLES {
        if let Some(month) = table.filter(|_| of == "journal")
            && empty(client, month).await?
        {
            continue;
        }
        let sql = format!("DELETE FROM {of} WHERE tenant = $1 AND pid = ANY ($2)");
        client.execute(&sql, &[&tenant.id, &pids]).await?;
    }
    Ok(())
}

/// Empties a table of journals if none of its processes is left, and nobody needs it now.
async fn empty(client: &Object, table: &str) -> Result<bool, Fault> {
    let alone = format!("SELECT pg_try_advisory_xact_lock({MONTHS})");
    if !client.query_one(&alone, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(false);
    }
    let name = quoted(table);
    let wait = format!(
        "SAVEPOINT month; SET LOCAL lock_timeout = '{WAIT}'; \
         LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"
    );
    if client.batch_execute(&wait).await.is_err() {
        // A lost connection is met again by the next statement.
        client.batch_execute("ROLLBACK TO month").await?;
        return Ok(false);
    }
    client.batch_execute("SET LOCAL lock_timeout = 0").await?;
    // Whoever began a process of this month meanwhile has committed it, or waits with it for the table.
    let others = format!(
        "SELECT EXISTS (SELECT FROM ({BOUNDS}) AS m \
         JOIN processes AS p ON p.pid >= m.low AND p.pid < m.high WHERE m.name = $1)"
    );
    if client.query_one(&others, &[&table]).await?.try_get(0)? {
        return Ok(false);
    }
    client.batch_execute(&format!("TRUNCATE {name}")).await?;
    Ok(true)
}

/// The number and link of the newest record.
pub(super) async fn last(client: &Object) -> Result<Option<(u64, Hash)>, Fault> {
    let sql = "SELECT id, link FROM prunings ORDER BY id DESC LIMIT 1";
    let Some(row) = client.query_opt(sql, &[]).await? else { return Ok(None) };
    let link = hash(row.try_get(1)?).ok_or_else(cut)?;
    Ok(Some((number(&row, 0)?, link)))
}

/// Stores a record.
pub(super) async fn record(client: &Object, tenant: &TenantRow, kept: &Kept) -> Result<(), Fault> {
    let body = std::str::from_utf8(&kept.body).map_err(Fault::damaged)?;
    let sql = "INSERT INTO prunings (id, tenant, body, link) VALUES ($1, $2, $3, $4)";
    let (id, link) = (kept.number.cast_signed(), &kept.link.as_bytes()[..]);
    client.execute(sql, &[&id, &tenant.id, &body, &link]).await?;
    Ok(())
}

/// All records, by number.
pub(super) async fn all(client: &Object) -> Result<Vec<Kept>, Fault> {
    let sql = "SELECT t.name, p.id, p.body, p.link FROM prunings AS p \
               JOIN tenants AS t ON t.id = p.tenant ORDER BY p.id";
    let mut found = Vec::new();
    for row in client.query(sql, &[]).await? {
        let name: &str = row.try_get(0)?;
        let tenant = name.parse().map_err(|error| {
            Fault::damaged(format_args!("the tenant {name:?} has no name: {error}"))
        })?;
        let body = row.try_get::<_, &str>(2)?.as_bytes().to_vec();
        let link = hash(row.try_get(3)?).ok_or_else(cut)?;
        found.push(Kept { tenant, number: number(&row, 1)?, body, link });
    }
    Ok(found)
}

fn cut() -> Fault {
    Fault::damaged("the link of a record of removed processes is cut off")
}
