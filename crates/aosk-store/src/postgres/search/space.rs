//! Memories on the server: their numbers, and those that a query names.

use aosk_abi::Tenant;
use aosk_ports::Space;
use deadpool_postgres::GenericClient;

use super::super::fault::Fault;
use crate::search::shelf;

/// A memory into which something was put.
pub(super) struct Memory {
    pub(super) id: i64,
    /// How many entries it has.
    pub(super) items: i64,
}

/// Those of the memories into which something was put.
pub(super) async fn find_all(
    client: &impl GenericClient,
    tenant: &Tenant,
    spaces: &[Space],
) -> Result<Vec<Memory>, Fault> {
    let names: Vec<Vec<u8>> = spaces.iter().map(shelf::name).collect();
    let find = client
        .prepare_cached("SELECT id, items FROM search_spaces WHERE tenant = $1 AND name = ANY ($2)")
        .await?;
    let rows = client.query(&find, &[&tenant.as_str(), &names]).await?;
    rows.iter().map(|row| Ok(Memory { id: row.try_get(0)?, items: row.try_get(1)? })).collect()
}

/// The number of a memory; it gets one where it has none.
pub(super) async fn find_or_make(
    client: &impl GenericClient,
    tenant: &Tenant,
    space: &Space,
) -> Result<i64, Fault> {
    // The update changes nothing and answers the number of what is there, also to whoever lost a race.
    let row = client
        .query_one(
            "INSERT INTO search_spaces (tenant, name) VALUES ($1, $2) \
             ON CONFLICT (tenant, name) DO UPDATE SET name = $2 RETURNING id",
            &[&tenant.as_str(), &shelf::name(space)],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// The lexeme that every entry of a memory has. No term begins like it.
pub(super) fn lexeme(space: i64) -> String {
    format!("@{space}")
}
