//! Contents: small ones beside the events that name them, large ones in a table of their own.

use std::collections::HashMap;
use std::sync::Arc;

use aosk_abi::{Code, Hash, Seq};
use deadpool_postgres::Object;
use tokio_postgres::Row;

use super::batch;
use super::chunked;
use super::fault::Fault;
use super::process::{Place, hash, uuid};
use super::tenant::TenantRow;

/// The bytes of contents that events of the process name.
pub(super) async fn read(
    client: &Object,
    tenant: &TenantRow,
    place: &Place,
    wanted: &[(Seq, Hash)],
) -> Result<Vec<Arc<[u8]>>, Fault> {
    let seqs: Vec<i64> =
        wanted.iter().map(|(seq, _)| i64::try_from(seq.0).unwrap_or(i64::MAX)).collect();
    let rows = client.prepare_cached(
        "SELECT w.place, j.beside, j.contents \
         FROM UNNEST($3::bigint[]) WITH ORDINALITY AS w (seq, place) \
         CROSS JOIN LATERAL (SELECT i.beside, i.contents FROM journal AS i \
             WHERE i.tenant = $1 AND i.pid = $2 AND i.first_seq <= w.seq \
             ORDER BY i.first_seq DESC LIMIT 1) AS j",
    );
    let rows = client.query(&rows.await?, &[&tenant.id, &uuid(place.pid), &seqs]).await?;
    let mut beside: HashMap<i64, &Row> = HashMap::new();
    for row in &rows {
        beside.insert(row.try_get(0)?, row);
    }

    let mut found: Vec<Option<Arc<[u8]>>> = Vec::with_capacity(wanted.len());
    let mut large: Vec<&[u8]> = Vec::new();
    for ((seq, hash), number) in wanted.iter().zip(1_i64..) {
        let bytes = match beside.get(&number) {
            Some(row) if *seq < place.next => small(tenant, place, *seq, *hash, row)?,
            _ => return Err(missing(place, *seq, *hash)),
        };
        if bytes.is_none() {
            large.push(hash.as_bytes());
        }
        found.push(bytes);
    }
    let mut blobs =
        if large.is_empty() { HashMap::new() } else { blobs(client, tenant, &large).await? };
    for ((_, hash), bytes) in wanted.iter().zip(&found) {
        if bytes.is_none() && !blobs.contains_key(hash) {
            blobs.extend(chunked::joined(client, tenant, *hash).await?.map(|it| (*hash, it)));
        }
    }
    wanted
        .iter()
        .zip(found)
        .map(|((seq, hash), bytes)| {
            bytes
                .or_else(|| blobs.get(hash).map(Arc::clone))
                .ok_or_else(|| missing(place, *seq, *hash))
        })
        .collect()
}

fn missing(place: &Place, seq: Seq, hash: Hash) -> Fault {
    Fault::refused(
        Code::StoreContentMissing,
        format!("process {}: event {seq} names no content {hash} that is here", place.pid),
    )
}

fn small(
    tenant: &TenantRow,
    place: &Place,
    seq: Seq,
    hash: Hash,
    row: &Row,
) -> Result<Option<Arc<[u8]>>, Fault> {
    let damaged = |what: &str| {
        Fault::damaged(format_args!(
            "process {}: the content {hash} of event {seq} cannot be read: {what}",
            place.pid
        ))
    };
    let candidates =
        batch::candidates(row.try_get(1)?, row.try_get(2)?, hash).map_err(|what| damaged(&what))?;
    if candidates.is_empty() {
        return Ok(None);
    }
    let bytes = candidates.into_iter().find(|bytes| tenant.key.hash(bytes) == hash);
    bytes.map(|bytes| Some(bytes.into())).ok_or_else(|| damaged("its hash is of other bytes"))
}

/// The addresses of up to `limit` large contents behind `after`, ascending.
pub(super) async fn addresses(
    client: &Object,
    tenant: &TenantRow,
    after: Option<Hash>,
    limit: usize,
) -> Result<Vec<Hash>, Fault> {
    let statement = client
        .prepare_cached(
            "SELECT hash FROM blobs WHERE tenant = $1 AND hash > $2 ORDER BY hash LIMIT $3",
        )
        .await?;
    let after = after.as_ref().map_or(&[][..], |hash| hash.as_bytes());
    let rows = client.query(&statement, &[&tenant.id, &after, &(limit as i64)]).await?;
    let cut = || Fault::damaged("the address of a content is cut off");
    rows.iter().map(|row| hash(row.try_get(0)?).ok_or_else(cut)).collect()
}

/// The lock that whoever stores large contents shares, and whoever deletes some has alone: a writer
/// that finds a content does not store it, so nobody may delete it before that writer's commit.
pub(super) const SHARE: &str = "SELECT pg_advisory_xact_lock_shared(hashtextextended('aosk contents ' || current_schema(), 0))";

/// Waits for everyone who stores large contents now, and keeps others waiting until the end of the
/// transaction.
pub(super) async fn keep_writers_out(client: &Object) -> Result<(), Fault> {
    let sql = SHARE.replace("_shared", "");
    client.execute(&sql, &[]).await?;
    Ok(())
}

/// The large contents that the last collection found to be named by nothing.
pub(super) async fn suspects(client: &Object, tenant: &TenantRow) -> Result<Vec<Hash>, Fault> {
    let sql = "SELECT hash FROM suspects WHERE tenant = $1 ORDER BY hash";
    let rows = client.query(sql, &[&tenant.id]).await?;
    let cut = || Fault::damaged("the address of a content is cut off");
    rows.iter().map(|row| hash(row.try_get(0)?).ok_or_else(cut)).collect()
}

/// Puts these in their place.
pub(super) async fn suspect(
    client: &Object,
    tenant: &TenantRow,
    hashes: &[Hash],
) -> Result<(), Fault> {
    client.execute("DELETE FROM suspects WHERE tenant = $1", &[&tenant.id]).await?;
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| &hash.as_bytes()[..]).collect();
    let sql = "INSERT INTO suspects (tenant, hash) SELECT $1, UNNEST($2::bytea[])";
    client.execute(sql, &[&tenant.id, &hashes]).await?;
    Ok(())
}

/// How many bytes large contents and lists of chunks take.
pub(super) async fn stored_bytes(
    client: &Object,
    tenant: &TenantRow,
    hashes: &[Hash],
) -> Result<u64, Fault> {
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| &hash.as_bytes()[..]).collect();
    let sql = "SELECT ((SELECT coalesce(sum(pg_column_size(bytes)), 0) FROM blobs \
               WHERE tenant = $1 AND hash = ANY ($2)) \
               + (SELECT coalesce(sum(pg_column_size(chunks)), 0) FROM chunked \
               WHERE tenant = $1 AND hash = ANY ($2)))::bigint";
    let row = client.query_one(sql, &[&tenant.id, &hashes]).await?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

/// Deletes large contents and lists of chunks, in a transaction that [keeps writers out](keep_writers_out).
pub(super) async fn delete(
    client: &Object,
    tenant: &TenantRow,
    hashes: &[Hash],
) -> Result<(), Fault> {
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| &hash.as_bytes()[..]).collect();
    for table in ["blobs", "chunked"] {
        let sql = format!("DELETE FROM {table} WHERE tenant = $1 AND hash = ANY ($2)");
        client.execute(&sql, &[&tenant.id, &hashes]).await?;
    }
    Ok(())
}

/// Large contents by their addresses, each checked against its own.
pub(super) async fn blobs(
    client: &Object,
    tenant: &TenantRow,
    wanted: &[&[u8]],
) -> Result<HashMap<Hash, Arc<[u8]>>, Fault> {
    let statement = client
        .prepare_cached("SELECT hash, bytes FROM blobs WHERE tenant = $1 AND hash = ANY ($2)")
        .await?;
    let mut found = HashMap::new();
    for row in client.query(&statement, &[&tenant.id, &wanted]).await? {
        let bytes: &[u8] = row.try_get(1)?;
        let stored = hash(row.try_get(0)?);
        let named = tenant.key.hash(bytes);
        if stored != Some(named) {
            let stored = stored.map_or_else(|| "cut off".to_owned(), |hash| hash.to_string());
            return Err(Fault::damaged(format_args!(
                "the content {stored} has other bytes than its hash says"
            )));
        }
        found.insert(named, bytes.into());
    }
    Ok(found)
}
