//! Tenants: their numbers and the keys of their contents.

use aosk_abi::{Code, ContentKey, Tenant};
use deadpool_postgres::Object;

use super::fault::Fault;

/// A tenant as the other tables name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TenantRow {
    pub(super) id: i32,
    pub(super) key: ContentKey,
}

/// The tenant, if it was ever used.
pub(super) async fn find(client: &Object, tenant: &Tenant) -> Result<Option<TenantRow>, Fault> {
    let statement =
        client.prepare_cached("SELECT id, content_key FROM tenants WHERE name = $1").await?;
    let Some(row) = client.query_opt(&statement, &[&tenant.as_str()]).await? else {
        return Ok(None);
    };
    let key: [u8; 32] = row
        .try_get::<_, &[u8]>(1)?
        .try_into()
        .map_err(|_| Fault::damaged(format_args!("tenant {tenant}: its key is cut off")))?;
    Ok(Some(TenantRow { id: row.try_get(0)?, key: ContentKey::from_bytes(key) }))
}

/// All tenants, by name.
pub(super) async fn all(client: &Object) -> Result<Vec<(Tenant, TenantRow)>, Fault> {
    let rows = client.query("SELECT name FROM tenants ORDER BY name COLLATE \"C\"", &[]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let name: &str = row.try_get(0)?;
        let tenant: Tenant = name.parse().map_err(|error| {
            Fault::damaged(format_args!("the tenant {name:?} has no name: {error}"))
        })?;
        let row = find(client, &tenant).await?;
        found.extend(row.map(|row| (tenant, row)));
    }
    Ok(found)
}

/// A tenant that is not there yet.
pub(super) async fn make(
    client: &Object,
    tenant: &Tenant,
    key: ContentKey,
) -> Result<TenantRow, Fault> {
    let sql = "INSERT INTO tenants (name, content_key) VALUES ($1, $2) RETURNING id";
    let row = client.query_one(sql, &[&tenant.as_str(), &&key.as_bytes()[..]]).await?;
    Ok(TenantRow { id: row.try_get(0)?, key })
}

/// The tenant; at its first use with a fresh key from the operating system.
pub(super) async fn find_or_make(client: &Object, tenant: &Tenant) -> Result<TenantRow, Fault> {
    if let Some(row) = find(client, tenant).await? {
        return Ok(row);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| {
        Fault::refused(
            Code::StoreIo,
            format!("the system gives no randomness for a key: {error}; try again"),
        )
    })?;
    let statement = client
        .prepare_cached(
            "INSERT INTO tenants (name, content_key) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        )
        .await?;
    client.execute(&statement, &[&tenant.as_str(), &&key[..]]).await?;
    find(client, tenant).await?.ok_or_else(|| {
        Fault::Clash(format!("tenant {tenant} was removed in the moment when it was made"))
    })
}
