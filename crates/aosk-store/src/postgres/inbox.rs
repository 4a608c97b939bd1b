//! The inbox: what others leave for a process's owner.

use aosk_abi::{Code, Pid, Seq, Tenant};
use aosk_ports::{InboxId, InboxItem, Posted};
use deadpool_postgres::Object;
use uuid::Uuid;

use super::fault::Fault;
use super::process::{self, uuid};
use crate::check;

/// Leaves an item unless that was done before.
const LEAVE: &str = "WITH made AS ( \
         INSERT INTO posts (nonce, id) \
         VALUES ($1, nextval(pg_get_serial_sequence('inbox', 'id'))) \
         ON CONFLICT (nonce) DO NOTHING RETURNING id \
     ) \
     INSERT INTO inbox (id, pid, tenant, item) OVERRIDING SYSTEM VALUE \
     SELECT id, $2::uuid, $3::int, $4::text FROM made RETURNING id";

/// Whoever repeats a post does so with the next connection; nobody asks after a day.
const FORGET: &str = "DELETE FROM posts WHERE at < now() - interval '1 day'";

/// Leaves items for processes, all or none. Under the same nonces they are left once, however often
/// that is repeated within a day, also where they were taken meanwhile.
pub(super) async fn post(
    client: &mut Object,
    tenant: &Tenant,
    items: &[(Pid, InboxItem)],
    nonces: &[Uuid],
) -> Result<Vec<InboxId>, Fault> {
    let mut rows = Vec::with_capacity(items.len());
    for ((pid, item), nonce) in items.iter().zip(nonces) {
        let place = process::expect(client, tenant, *pid).await?;
        let item = serde_json::to_string(item).map_err(|error| {
            Fault::refused(Code::EventEncode, format!("the item for process {pid}: {error}"))
        })?;
        rows.push((nonce, uuid(*pid), place.tenant, item));
    }
    let transaction = client.transaction().await?;
    let forget = transaction.prepare_cached(FORGET).await?;
    transaction.execute(&forget, &[]).await?;
    let leave = transaction.prepare_cached(LEAVE).await?;
    // A statement of its own: what the first waited for is not in what it sees.
    let left = transaction.prepare_cached("SELECT id FROM posts WHERE nonce = $1").await?;
    // Whoever removes a process waits for this, or this finds none.
    let hold = "SELECT FROM processes WHERE tenant = $1 AND pid = $2 FOR KEY SHARE";
    let hold = transaction.prepare_cached(hold).await?;
    let mut ids = Vec::with_capacity(rows.len());
    for (nonce, pid, of, item) in &rows {
        if transaction.query_opt(&hold, &[of, pid]).await?.is_none() {
            return Err(check::unknown(tenant, Pid::from_bytes(pid.into_bytes())).into());
        }
        let row = match transaction.query_opt(&leave, &[nonce, pid, of, item]).await? {
            Some(row) => row,
            None => transaction.query_one(&left, &[nonce]).await?,
        };
        ids.push(InboxId(row.try_get(0)?));
    }
    transaction.commit().await?;
    Ok(ids)
}

/// Leaves an item under a number of its own, in a transaction that ends with [`count_on`].
pub(super) async fn put(
    client: &Object,
    tenant: i32,
    pid: Pid,
    item: &InboxItem,
    id: i64,
) -> Result<(), Fault> {
    let item = serde_json::to_string(item).map_err(|error| {
        Fault::refused(Code::EventEncode, format!("the item for process {pid}: {error}"))
    })?;
    let statement = client
        .prepare_cached(
            "INSERT INTO inbox (id, pid, tenant, item) OVERRIDING SYSTEM VALUE \
             VALUES ($1, $2, $3, $4)",
        )
        .await?;
    client.execute(&statement, &[&id, &uuid(pid), &tenant, &item]).await?;
    Ok(())
}

/// Numbers the next items behind those that are there.
pub(super) async fn count_on(client: &Object) -> Result<(), Fault> {
    let sql = "SELECT setval(pg_get_serial_sequence('inbox', 'id'), max(id)) FROM inbox \
               HAVING max(id) IS NOT NULL";
    client.query(sql, &[]).await?;
    Ok(())
}

/// What waits for a tenant's processes, oldest first.
pub(super) async fn pending(client: &Object, tenant: &Tenant) -> Result<Vec<Posted>, Fault> {
    let statement = client
        .prepare_cached(
            "SELECT i.id, i.pid, i.item FROM inbox AS i JOIN tenants AS t ON t.id = i.tenant \
             WHERE t.name = $1 ORDER BY i.id",
        )
        .await?;
    let mut items = Vec::new();
    for row in client.query(&statement, &[&tenant.as_str()]).await? {
        let id = row.try_get(0)?;
        let item = serde_json::from_str(row.try_get(2)?).map_err(|error| {
            Fault::damaged(format_args!("inbox item {id} cannot be read: {error}"))
        })?;
        items.push((process::pid(&row, 1)?, InboxId(id), item));
    }
    Ok(items)
}

/// Removes items of a process whose journal ends before `next`. Its row is locked meanwhile, as an
/// append locks it.
pub(super) async fn remove(
    client: &Object,
    tenant: &Tenant,
    pid: Pid,
    next: Seq,
    items: &[InboxId],
) -> Result<(), Fault> {
    let place = process::expect(client, tenant, pid).await?;
    check::still_ends(pid, place.next, next)?;
    let statement = client
        .prepare_cached(
            "WITH p AS ( \
                 SELECT tenant, pid FROM processes \
                 WHERE tenant = $1 AND pid = $2 AND next_seq = $4 FOR NO KEY UPDATE \
             ), gone AS ( \
                 DELETE FROM inbox AS i USING p \
                 WHERE i.tenant = p.tenant AND i.pid = p.pid AND i.id = ANY ($3) \
             ) \
             SELECT count(*) FROM p",
        )
        .await?;
    let ids: Vec<i64> = items.iter().map(|item| item.0).collect();
    let seen = next.0.cast_signed();
    let row = client.query_one(&statement, &[&place.tenant, &uuid(pid), &ids, &seen]).await?;
    if row.try_get::<_, i64>(0)? == 0 {
        // It went on between the two statements.
        let place = process::expect(client, tenant, pid).await?;
        check::still_ends(pid, place.next, next)?;
    }
    Ok(())
}
