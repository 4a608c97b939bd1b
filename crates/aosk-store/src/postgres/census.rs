//! What people ask about a store as a whole: who works on it, what server it is on, what it takes.

use std::collections::HashMap;

use aosk_abi::{Pid, Tenant, Timestamp};
use deadpool_postgres::Object;

use super::fault::Fault;
use super::process::{self, number, uuid};

/// A node that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it calls itself.
    pub label: String,
    /// When it entered, by the server's clock.
    pub since: Timestamp,
    /// How many unfinished processes it owns.
    pub processes: u64,
}

/// The server and the database of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The address, without its secret.
    pub address: String,
    /// The schema.
    pub schema: String,
    /// The server's version, as it names it.
    pub server: String,
    /// Whether `context_storage` has the column of vectors.
    pub vectors: bool,
}

/// What a table takes on the server's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// Its name; partitions count as their table.
    pub table: String,
    /// The bytes of its rows, unused space included.
    pub bytes: u64,
    /// The bytes of its indexes.
    pub index_bytes: u64,
}

/// The nodes whose lease has not ended, the oldest first.
pub(super) async fn nodes(client: &Object) -> Result<Vec<Node>, Fault> {
    let statement = client
        .prepare_cached(
            "SELECT n.label, (extract(epoch FROM n.registered) * 1000)::bigint, \
             (SELECT count(*) FROM processes AS p WHERE p.owner_node = n.id AND NOT p.finished) \
             FROM nodes AS n WHERE n.until >= now() ORDER BY n.registered, n.id",
        )
        .await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Node {
                label: row.try_get(0)?,
                since: Timestamp::from_millis(number(row, 1)?),
                processes: number(row, 2)?,
            })
        })
        .collect()
}

/// The labels of the living nodes that own processes of the tenant, by process.
pub(super) async fn owners(
    client: &Object,
    tenant: &Tenant,
) -> Result<HashMap<Pid, String>, Fault> {
    let statement = client
        .prepare_cached(
            "SELECT p.pid, n.label FROM processes AS p JOIN tenants AS t ON t.id = p.tenant \
             JOIN nodes AS n ON n.id = p.owner_node \
             WHERE t.name = $1 AND NOT p.finished AND n.until >= now()",
        )
        .await?;
    let rows = client.query(&statement, &[&tenant.as_str()]).await?;
    rows.iter().map(|row| Ok((process::pid(row, 0)?, row.try_get(1)?))).collect()
}

/// The label of the living node that owns a process, unless that is `node`.
pub(super) async fn elsewhere(
    client: &Object,
    tenant: &Tenant,
    pid: Pid,
    node: uuid::Uuid,
) -> Result<Option<String>, Fault> {
    let statement = client
        .prepare_cached(
            "SELECT n.label FROM processes AS p JOIN tenants AS t ON t.id = p.tenant \
             JOIN nodes AS n ON n.id = p.owner_node \
             WHERE t.name = $1 AND p.pid = $2 AND n.id <> $3 AND n.until >= now()",
        )
        .await?;
    let found = client.query_opt(&statement, &[&tenant.as_str(), &uuid(pid), &node]).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?)
}

/// The server's version, and whether there are vectors.
pub(super) async fn server(client: &Object) -> Result<(String, bool), Fault> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), to_regclass('embeddings') IS NOT NULL",
            &[],
        )
        .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// What each table of the schema takes, the largest first.
pub(super) async fn occupied(client: &Object, schema: &str) -> Result<Vec<Occupied>, Fault> {
    let statement = client
        .prepare_cached(
            "SELECT coalesce(parent.relname, c.relname)::text, \
             sum(pg_table_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid \
             LEFT JOIN pg_class AS parent ON parent.oid = i.inhparent \
             WHERE n.nspname = $1 AND c.relkind = 'r' GROUP BY 1 ORDER BY 2 DESC, 1",
        )
        .await?;
    let rows = client.query(&statement, &[&schema]).await?;
    rows.iter()
        .map(|row| {
            Ok(Occupied {
                table: row.try_get(0)?,
                bytes: number(row, 1)?,
                index_bytes: number(row, 2)?,
            })
        })
        .collect()
}
